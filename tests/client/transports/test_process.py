# SPDX-License-Identifier: MIT
"""A child process as its parent has it: real children, written by the test, that behave as badly as children do.

Whether somebody has ended is seen by a FIFO that it holds open: it is at its end when nobody holds it any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

from mcp_h11.client.transports import process, spawning
from mcp_h11.client.transports.process import STDERR_TAIL, Child, Gone, SpawnFailed
from mcp_h11.protocol.lines import LineTooLong

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the children of these tests hold a FIFO"),
]

LIMIT = 20.0  # of every wait that has to end
ROOT = Path(__file__).resolve().parents[3]

# What every child here begins with: it holds the FIFO, and says so.
BEGIN = """
import os, signal, subprocess, sys, time
held = os.open(sys.argv[1], os.O_WRONLY) if len(sys.argv) > 1 else -1
def say(text):
    os.write(1, text.encode() + b"\\n")
def wait():
    while True:
        signal.pause()
"""
ECHO = """
for line in sys.stdin.buffer:
    os.write(1, line)
"""
# One that is left behind: in the group, holding stdout, stderr and the FIFO.
GRANDCHILD = """
code = "import signal, os; {}os.write(1, b'here\\\\n'); signal.pause()"
subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[held])
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"loop_factory": uvloop.new_event_loop} if request.param == "uvloop" else {})


class Held:
    """The reading end of the FIFO."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def by_somebody(self) -> bool:
        """Only after somebody has opened it."""
        try:
            return os.read(self._fd, 1) != b""
        except BlockingIOError:
            return True

    def let_go(self, limit: float = LIMIT) -> None:
        """Wait until nobody holds it."""
        deadline = time.monotonic() + limit
        while self.by_somebody:
            assert time.monotonic() < deadline, "somebody is left"
            time.sleep(0.01)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    fifo = Held(tmp_path / "held")
    yield fifo
    fifo.close()


Command = Callable[[str], list[str]]


@pytest.fixture
def script(tmp_path: Path, held: Held) -> Command:
    def write(code: str) -> list[str]:
        path = tmp_path / "child.py"
        path.write_text(BEGIN + code)
        return [sys.executable, str(path), held.path]

    return write


@asynccontextmanager
async def running(command: list[str], **options: Any) -> AsyncIterator[Child]:
    """A child that is stopped in any case."""
    child = await Child.start(command, **options)
    try:
        with anyio.fail_after(LIMIT):
            yield child
    finally:
        await child.stop(eof=0.0, term=0.0)


async def first(child: Child) -> bytes | LineTooLong:
    async for line in child.lines():
        return line
    raise AssertionError("no line")


async def rest(child: Child) -> list[bytes | LineTooLong]:
    return [line async for line in child.lines()]


async def warm() -> None:
    """An event loop keeps a descriptor or two from its first child on."""
    async with running([sys.executable, "-c", ""]):
        pass


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# --- lines ----------------------------------------------------------------------------------------------------------


async def test_lines_go_in_and_come_out(script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script(ECHO)) as child:
        for line in (b'{"a":1}', "ü\u2028".encode(), b"x" * 1_000_000):
            await child.write(line)
            assert await first(child) == line
        with pytest.raises(ValueError, match="line feed"):
            await child.write(b"a\nb")
        await child.write(b"last")
        assert await child.stop(eof=LIMIT) == 0
        assert await rest(child) == [b"last"]
        assert child.returncode == 0 and "exited with code 0" in child.why


async def test_the_last_line_needs_no_line_end(script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script("os.write(1, b'one\\ntwo')")) as child:
        assert await rest(child) == [b"one", b"two"]
        assert child.returncode == 0


async def test_a_line_at_the_limit_is_taken_and_one_past_it_is_not(script: Command) -> None:
    size = 16 * 1024 * 1024
    code = f"for more in (0, 1, 2): sys.stdout.write('x' * ({size} + more) + '\\n')\nsay('after')"
    async with running(script(code)) as child:
        exact, over, again, after = await rest(child)
    assert isinstance(exact, bytes) and len(exact) == size
    assert isinstance(over, LineTooLong) and isinstance(again, LineTooLong)
    assert after == b"after"


async def test_a_reader_that_takes_nothing_makes_the_child_wait(script: Command, monkeypatch: Any) -> None:
    monkeypatch.setattr(process, "MAX_UNTAKEN", 100_000)
    code = """
line, count = b"x" * 999 + b"\\n", 0
os.set_blocking(1, False)
while True:
    try:
        os.write(1, line)
        count += 1
    except BlockingIOError:
        if select.select([], [1], [], 0.3)[1]:
            continue
        sys.stderr.write(f"full after {count}\\n"); sys.stderr.flush()
        break
os.set_blocking(1, True)
os.write(1, b"all\\n" * 5)
"""
    async with running(script("import select" + code)) as child:
        lines = rest(child)
        while "full after" not in child.stderr_tail:
            await anyio.sleep(0.01)
        count = int(child.stderr_tail.split()[-1])
        assert count < 2_000  # a pipe, a piece or two, and the bound
        assert len(await lines) >= count
    assert child.returncode == 0


async def test_nothing_is_lost_of_what_a_child_wrote_before_its_end(script: Command, monkeypatch: Any) -> None:
    # Slower to take than the child is to go: more than a pipe holds, while nobody reads.
    monkeypatch.setattr(process, "MAX_UNTAKEN", 1_000)
    monkeypatch.setattr(process, "LAST_WORDS_TIME", 0.01)
    async with running(script("for n in range(300): say(str(n) + 'x' * 100)\n")) as child:
        while child.returncode is None:
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        lines = await rest(child)
        assert [int(bytes(line).rstrip(b"x")) for line in lines if isinstance(line, bytes)] == list(range(300))


# --- writing --------------------------------------------------------------------------------------------------------


async def test_a_child_that_does_not_read_is_waited_for_and_not_for_ever(script: Command) -> None:
    async with running(script("say('up')\nwait()")) as child:
        await first(child)
        child.write_time = 0.1
        await child.write(b"x" * 1_000_000)  # on its way, as far as anybody knows
        for _ in range(2):
            with pytest.raises(Gone, match=r"has read nothing for 0\.1 s"):
                await child.write(b"y")


async def test_who_waits_writes_when_the_child_reads_in_the_order_in_which_they_came(script: Command) -> None:
    code = """
say('up')
signal.sigwait({signal.SIGUSR1})
for line in sys.stdin.buffer:
    say(line[:1].decode() + str(len(line)))
"""
    mask = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})"
    async with running(script(mask + code)) as child:
        assert await first(child) == b"up"

        async def write(letter: bytes) -> None:
            await child.write(letter * 300_000)
            assert child._pipes[0].get_write_buffer_size() <= 400_000  # one, and what was before it

        async with anyio.create_task_group() as tasks:
            for letter in (b"a", b"b", b"c"):
                tasks.start_soon(write, letter)
                await anyio.sleep(0)
            await anyio.sleep(0.05)
            os.kill(child.pid, signal.SIGUSR1)
        assert [await first(child) for _ in range(3)] == [b"a300001", b"b300001", b"c300001"]


async def test_who_waits_hears_of_the_end(script: Command) -> None:
    async with running(script("say('up')\nwait()")) as child:
        await first(child)
        await child.write(b"x" * 1_000_000)
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                with pytest.raises(Gone, match="nothing can be written to"):
                    await child.write(b"y")

            tasks.start_soon(write)
            await anyio.sleep(0.01)
            os.kill(child.pid, signal.SIGKILL)


async def test_a_child_that_closed_its_stdin_takes_no_line(script: Command) -> None:
    async with running(script("os.close(0)\nsay('closed')\nwait()")) as child:
        await first(child)
        with pytest.raises(Gone):
            while True:
                await child.write(b"x")
                await anyio.sleep(0.01)
        assert child.returncode is None


# --- its end --------------------------------------------------------------------------------------------------------


async def test_one_that_is_killed_ends_its_lines_at_once(script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script("sys.stderr.write('about to\\n'); sys.stderr.flush()\nsay('up')\nwait()")) as child:
        await first(child)
        os.kill(child.pid, signal.SIGKILL)
        begin = time.monotonic()
        assert await rest(child) == []
        assert time.monotonic() - begin < LIMIT / 2
        assert child.returncode == -signal.SIGKILL
        assert "killed by SIGKILL" in child.why and child.why.endswith("about to")
        with pytest.raises(Gone, match="killed by SIGKILL"):
            await child.write(b"x")


async def test_the_end_is_seen_though_a_grandchild_holds_the_pipes(script: Command, held: Held) -> None:
    code = GRANDCHILD.format("") + "signal.sigwait({signal.SIGUSR1})\nos._exit(3)\n"
    mask = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
    async with running(script(mask + code)) as child:
        assert await first(child) == b"here"
        os.kill(child.pid, signal.SIGUSR1)
        begin = time.monotonic()
        assert await rest(child) == []
        assert time.monotonic() - begin < LIMIT / 2
        assert child.returncode == 3
        assert held.by_somebody
        assert await child.stop() == 3
        held.let_go()


async def test_one_that_closes_its_stdout_and_lives_ends_its_lines(script: Command, held: Held) -> None:
    async with running(script("say('x')\nos.close(1)\nwait()")) as child:
        assert await rest(child) == [b"x"]
        assert child.returncode is None and "closed its stdout" in child.why
        assert await child.stop(eof=0.05) == -signal.SIGTERM
        held.let_go()


async def test_one_that_ends_at_once_says_why(script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script("sys.exit('no such database')")) as child:
        assert await rest(child) == []
        assert (child.returncode, child.stderr_tail) == (1, "no such database\n")
        assert "exited with code 1" in child.why and "no such database" in child.why


async def test_a_signal_without_a_name_has_its_number(script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script("os.kill(os.getpid(), 40)")) as child:
        assert await rest(child) == []
        assert "killed by signal 40" in child.why


# --- stderr ---------------------------------------------------------------------------------------------------------


async def test_a_flood_on_stderr_blocks_nothing_and_its_tail_is_kept(script: Command) -> None:
    flood = "for n in range(10_240): os.write(2, b'e' * 1023 + b'\\n')\nos.write(2, b'the end')\nsay('done')\n"
    async with running(script(flood + ECHO)) as child:
        assert await first(child) == b"done"
        while not child.stderr_tail.endswith("the end"):
            await anyio.sleep(0.01)
        assert len(child.stderr_tail) == STDERR_TAIL
        await child.write(b"still there")
        assert await first(child) == b"still there"


async def test_stderr_is_logged_but_no_flood_of_it(script: Command, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mcp_h11.client.transports.process")
    code = """
os.write(2, b"\\x1b[31mred\\xff\\n" + b"z" * 10_000 + b"\\n")
os.write(2, b"".join(b"line %d\\n" % n for n in range(1_000)))
say('up')
sys.stdin.read(1)
os.write(2, b"later\\n")
"""
    async with running(script(code)) as child:
        await first(child)
        while "line 999\n" not in child.stderr_tail:
            await anyio.sleep(0.01)
        found = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.client.transports.process"]
        assert found[:3] == ["stderr: '\\x1b[31mred\\ufffd'", "stderr: '...'", "stderr: 'line 0'"]
        assert len(found) == process.MAX_LOGGED
        child._stderr._clock = lambda: asyncio.get_running_loop().time() + process.LOG_PERIOD
        await child.write(b"x")
        assert await rest(child) == []
        found = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.client.transports.process"]
        assert found[process.MAX_LOGGED :] == [f"stderr: {1_002 - process.MAX_LOGGED} more lines", "stderr: 'later'"]


# --- stopping -------------------------------------------------------------------------------------------------------


async def test_one_that_ends_at_the_end_of_its_input_gets_no_signal(script: Command, held: Held) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))\nsay('up')\nsys.stdin.read()\nsys.exit(4)\n"
    async with running(script(code)) as child:
        await first(child)
        assert await child.stop() == 4
        assert await child.stop() == 4  # again is nothing new
        held.let_go()
        with pytest.raises(Gone):
            await child.write(b"x")


async def test_one_that_ignores_the_end_of_its_input_gets_sigterm(script: Command, held: Held) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))\nsay('up')\nwait()\n"
    async with running(script(code)) as child:
        await first(child)
        assert await child.stop(eof=0.05) == 9
        held.let_go()


async def test_one_that_ignores_sigterm_is_killed(script: Command, held: Held) -> None:
    async with running(script(DEAF + "say('up')\nwait()\n")) as child:
        await first(child)
        begin = time.monotonic()
        assert await child.stop(eof=0.05, term=0.1) == -signal.SIGKILL
        assert time.monotonic() - begin < LIMIT / 2
        held.let_go()


@pytest.mark.parametrize("deaf", ["", DEAF])
async def test_what_it_started_ends_with_it(script: Command, held: Held, deaf: str) -> None:
    async with running(script(GRANDCHILD.format(deaf) + "sys.stdin.read()\n")) as child:
        assert await first(child) == b"here"
        assert await child.stop(eof=LIMIT, term=0.1 if deaf else 5.0) == 0
        held.let_go()


async def test_a_group_has_its_time_to_clean_up_though_its_head_is_gone(script: Command, held: Held) -> None:
    # A wrapper that dies of SIGTERM at once, around a server that writes a file first: npx, sh -c, uv run.
    code = """
inner = '''
import os, signal, sys, time
def end(*_):
    time.sleep(0.2)
    os.write(1, b"cleaned\\\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"here\\\\n")
while True: signal.pause()
'''
subprocess.Popen([sys.executable, "-c", inner], pass_fds=[held])
wait()
"""
    async with running(script(code)) as child:
        assert await first(child) == b"here"
        child._hear_out = lambda: None  # type: ignore[method-assign]  # its words would come too late
        assert await child.stop(eof=0.05) == -signal.SIGTERM
        assert await rest(child) == [b"cleaned"]
        held.let_go()


async def test_one_that_left_the_group_keeps_no_descriptor_of_ours(script: Command, held: Held) -> None:
    code = """
code = "import os, signal; os.write(1, b'%d\\\\n' % os.getpid()); signal.pause()"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
sys.stdin.read()
"""
    await warm()
    before = descriptors()
    async with running(script(code)) as child:
        daemon = int(bytes(await first(child)))  # type: ignore[arg-type]
        try:
            assert await child.stop(eof=LIMIT) == 0
            assert descriptors() == before
        finally:
            os.kill(daemon, signal.SIGKILL)


async def test_one_that_left_the_group_and_reads_nothing_keeps_none_either(script: Command) -> None:
    code = """
code = "import os, signal; os.write(1, b'%d\\\\n' % os.getpid()); signal.pause()"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
wait()
"""
    await warm()
    before = descriptors()
    async with running(script(code)) as child:
        daemon = int(bytes(await first(child)))  # type: ignore[arg-type]
        try:
            await child.write(b"x" * 1_000_000)
            assert await child.stop(eof=0.05) == -signal.SIGTERM
            assert descriptors() == before
        finally:
            os.kill(daemon, signal.SIGKILL)


async def test_the_number_of_a_group_that_is_gone_is_not_signalled(script: Command, monkeypatch: Any) -> None:
    # It may be somebody else's by then.
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with running(script("say('x')")) as child:
        assert await rest(child) == [b"x"]
        signalled: list[int] = []
        monkeypatch.setattr(os, "killpg", lambda pid, number: signalled.append(pid))
        assert await child.stop() == 0
        assert signalled == []


async def test_stop_takes_what_a_child_wants_to_write(script: Command, monkeypatch: Any) -> None:
    monkeypatch.setattr(process, "MAX_UNTAKEN", 1_000)
    code = "say('up')\nfor _ in range(2_000): os.write(1, b'x' * 999 + b'\\n')\nsys.stdin.read()\nsys.exit(5)\n"
    async with running(script(code)) as child:
        await first(child)
        while not child._paused:
            await anyio.sleep(0.01)
        assert await child.stop(eof=LIMIT) == 5


@pytest.mark.parametrize("how", ["scope", "task", "twice"])
async def test_a_stop_that_is_cancelled_is_finished_first(script: Command, held: Held, how: str) -> None:
    async with running(script(DEAF + "say('up')\nwait()\n")) as child:
        await first(child)
        if how == "scope":
            with anyio.move_on_after(0.05) as scope:
                await child.stop(eof=0.1, term=0.1)
            assert scope.cancel_called
        else:
            stopping = asyncio.ensure_future(child.stop(eof=0.1, term=0.1))
            for _ in range(2 if how == "twice" else 1):
                await anyio.sleep(0.03)
                stopping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stopping
        assert child.returncode == -signal.SIGKILL
        held.let_go()


async def test_several_may_stop_it(script: Command) -> None:
    async with running(script("wait()")) as child:
        codes = await asyncio.gather(*(child.stop(eof=0.01) for _ in range(3)))
        assert set(codes) == {-signal.SIGTERM}


def test_the_end_of_the_event_loop_kills_what_is_being_stopped(script: Command, held: Held) -> None:
    command = script(DEAF + "say('up')\nwait()\n")

    async def main() -> None:
        child = await Child.start(command)
        await first(child)
        stopping = asyncio.ensure_future(child.stop(eof=LIMIT))
        await asyncio.sleep(0.01)
        assert not stopping.done()

    asyncio.run(main())
    held.let_go()


async def test_one_that_cannot_be_killed_is_not_waited_for(script: Command, monkeypatch: Any) -> None:
    async with running(script("wait()")) as child:
        monkeypatch.setattr(process, "KILL_TIME", 0.05)
        with monkeypatch.context() as patch:
            patch.setattr(os, "killpg", lambda *_: None)
            patch.setattr(Child, "_close", lambda self: None)
            assert await child.stop(eof=0.01, term=0.01) == -signal.SIGKILL
        os.killpg(child.pid, signal.SIGKILL)
        while child.returncode is None:
            await anyio.sleep(0.01)
        child._close()


async def test_a_group_that_may_not_be_signalled_is_left_after_its_time(script: Command, monkeypatch: Any) -> None:
    async with running(script("say('up')\nsys.stdin.read()")) as child:
        await first(child)

        def refused(*_: int) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "killpg", refused)
        assert await child.stop(eof=LIMIT, term=0.05) == 0


async def test_without_groups_the_child_ends_alone(script: Command, held: Held, monkeypatch: Any) -> None:
    async with running(script("say('up')\nwait()")) as child:
        await first(child)
        monkeypatch.delattr(os, "killpg")  # as on Windows
        assert await child.stop(eof=0.05) == -signal.SIGKILL
        held.let_go()


def test_kill_9_of_the_parent_leaves_no_orphan(script: Command, held: Held) -> None:
    command = script(ECHO)
    code = f"""
import asyncio
from mcp_h11.client.transports.process import Child
async def main():
    child = await Child.start({command!r})
    await child.write(b"up")
    async for line in child.lines():
        print(line.decode(), flush=True)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert held.by_somebody
    finally:
        parent.kill()
        parent.communicate(timeout=LIMIT)
    held.let_go()


# --- starting -------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_started_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    await warm()
    before = descriptors()
    with pytest.raises(SpawnFailed, match=r"'no-such-program'.*No such file"):
        await Child.start(["no-such-program", "--secret"])
    with pytest.raises(SpawnFailed, match=r"plain.txt'.*Permission denied"):
        await Child.start([str(plain)])
    with pytest.raises(SpawnFailed, match=r"cannot start .*nowhere"):
        await Child.start([sys.executable, "-c", ""], cwd=str(tmp_path / "nowhere"))
    with pytest.raises(SpawnFailed, match="null"):
        await Child.start([sys.executable, "-c", "\0"])
    for wrong in ("python -c 1", []):
        with pytest.raises(SpawnFailed, match="a list of a program"):
            await Child.start(wrong)
    with pytest.raises(SpawnFailed, match="inherit"):
        await Child.start([sys.executable], env="all")

    assert descriptors() == before


async def test_no_room_for_another_process_is_an_error_of_its_own(monkeypatch: Any) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(SpawnFailed, match="temporarily unavailable"):
        await Child.start([sys.executable])


@pytest.mark.parametrize("how", ["thread", "cancelled"])
async def test_a_start_that_does_not_come_to_its_end_leaves_nothing(
    script: Command, held: Held, monkeypatch: Any, how: str
) -> None:
    command = script("say('up')\nwait()")
    await warm()
    before = descriptors()
    if how == "thread":

        def refuse(self: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch, pytest.raises(SpawnFailed, match="new thread"):
            patch.setattr(process.threading.Thread, "start", refuse)
            await Child.start(command)
    else:
        starting = asyncio.ensure_future(Child.start(command))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await anyio.sleep(0.01)
    held.let_go()
    assert descriptors() == before


async def test_a_shell_is_not_asked(tmp_path: Path, script: Command) -> None:
    async with running([*script("say(repr(sys.argv[2:]))"), "$HOME; ls", "*"]) as child:
        assert await first(child) == b"['$HOME; ls', '*']"


async def test_it_gets_what_is_harmless_and_what_is_given(script: Command, monkeypatch: Any) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    monkeypatch.setenv("SHELL", "() { :; }")
    monkeypatch.delenv("LOGNAME", raising=False)
    shown = script("say(repr(sorted(name for name in os.environ if name != 'LC_CTYPE')))")
    expected = {name for name in spawning.INHERITED if name in os.environ} - {"SHELL"}
    for env, more in ((None, set()), ({"MINE": "1"}, {"MINE"})):
        async with running(shown, env=env) as child:
            assert set(eval(bytes(await first(child)))) == expected | more  # type: ignore[arg-type]
    async with running(shown, env="inherit") as child:
        assert "A_TOKEN" in eval(bytes(await first(child)))  # type: ignore[arg-type]


async def test_it_runs_where_it_is_told_to_in_a_group_of_its_own(script: Command, tmp_path: Path) -> None:
    async with running(script("say(os.getcwd())\nsay(str(os.getpgrp()))"), cwd=str(tmp_path)) as child:
        assert await rest(child) == [str(tmp_path.resolve()).encode(), str(child.pid).encode()]


@pytest.mark.long
async def test_descriptors_and_tasks_are_given_back(script: Command) -> None:
    command = script(ECHO)
    await warm()
    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(5):
        async with running(command) as child:
            await child.write(b"x")
            assert await first(child) == b"x"
            await child.stop()
    assert descriptors() == before
    assert len(asyncio.all_tasks()) == tasks
