# SPDX-License-Identifier: MIT
"""One child process: lines to its stdin, lines of its stdout, the tail of its stderr, and an end that leaves nobody.

It refuses a shell, and lines that are longer than the limit; whatever else a child writes it takes.  Knows nothing of
MCP but that messages are lines.

Rules: stderr is always read, or a child that writes to it blocks and everything times out in silence.  The child is
the head of a process group, and its end is the end of the group.  The end of the child, or of its stdout, is seen at
once, whoever else still holds the other end of a pipe.

The process is the standard library's `Popen`, its pipes are the event loop's, and a thread waits for its end.  Neither
asyncio's processes nor anyio's, which are asyncio's: their `wait` also waits for every pipe in some releases (3.11 to
3.12.3, gh-119710), and uvloop's (0.23) cut arguments at a null, lose three descriptors with each program that is not
there, and leave the child second copies of its pipes, so that nobody sees it close one.

XX FIXME Windows has no groups that can be signalled: there the child ends, and what it has started may stay.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio

from ...protocol.lines import MAX_LINE, LineDecoder, LineTooLong, encode_line
from ...protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

STDERR_TAIL = 8 * 1024  # bytes
STDERR_FOLLOWS = "; its stderr ends with:"  # what is written before that tail
# Lines of stderr that are logged in a period; the rest is counted.
MAX_LOGGED = 20
LOG_PERIOD = 1.0
# Bytes of lines that nobody has taken; then stdout is read no further.
MAX_UNTAKEN = 1024 * 1024
# How long a child may read nothing while something waits to be written.
WRITE_TIME = 30.0
# 2025-11-25 basic/lifecycle, Shutdown: close its input, wait, SIGTERM, wait, SIGKILL.
EOF_TIME = 2.0
TERM_TIME = 5.0
KILL_TIME = 2.0
# For what was written before an end to arrive: the last answers, the last words on stderr, the exit code.
LAST_WORDS_TIME = 0.25
GROUP_POLL = 0.02

# What is harmless, and what programs need to find their files: a token that is in our environment was not given to
# every server.  The official clients pass the same.
INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER") if os.name != "nt" else (
    "APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE",
    "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE",
)  # fmt: skip

_KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows; elsewhere it is a session


class ProcessError(Exception):
    """What went wrong with a child process."""


class SpawnFailed(ProcessError):
    """There is no child; the message names the command, and the system's reason."""


class Gone(ProcessError):
    """The line was not written and never will be: the child has ended, reads no more, or is being stopped."""


def child_environment(env: Mapping[str, str] | str | None) -> dict[str, str]:
    """The environment of a child: `INHERITED` of ours and then what is given, or all of ours for "inherit"."""
    if env == "inherit":
        return dict(os.environ)
    if isinstance(env, str):
        raise ValueError(f'env is a mapping, "inherit" or None, not {env!r}')
    # A value that begins so is a function that bash exports.
    ours = {name: os.environ[name] for name in INHERITED if not os.environ.get(name, "()").startswith("()")}
    return ours | dict(env or {})


class Child:
    """A running child.  Get it from `start`, take its `lines`, and `stop` it, whatever happens.

    Attributes:
        name: the command, without its arguments, which may be secret.
        pid: also the id of its process group.
        returncode: as the system gives it, negative for a signal; None while it runs.
        write_time: seconds that `write` waits for a child that does not read.
    """

    def __init__(self, name: str, max_line: int = MAX_LINE) -> None:
        self.name = name
        self.pid = 0
        self.returncode: int | None = None
        self.write_time = WRITE_TIME
        self._decoder = LineDecoder(max_line)
        self._lines: deque[bytes | LineTooLong] = deque()
        self._untaken = 0
        self._paused = False  # stdout is not read
        self._came = asyncio.Event()  # a line, or the end of them
        self._ended = False  # no line will come any more
        self._stderr = _Stderr()
        self._told = asyncio.Event()  # it has ended, and all of its stderr is here
        self._exited = asyncio.Event()
        self._no_stdin = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()
        self._pipes: list[Any] = []  # transports: stdin, stdout, stderr
        self._open = 3
        self._group_empty = False
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes]

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | str | None = None,
        cwd: str | None = None,
        max_line: int = MAX_LINE,
    ) -> Child:
        """A child that runs this program with these arguments, at the head of a group of its own.

        Args:
            env: what it gets beside `INHERITED`; "inherit" gives it all that we have.
            max_line: bytes of one line of its stdout.

        Raises:
            SpawnFailed: no such program or folder, not allowed, or no room for another process.
        """
        if isinstance(command, str) or not command:
            raise SpawnFailed(f"a command is a list of a program and its arguments, not {command!r:.200}")
        child = cls(os.path.basename(command[0]) or command[0], max_line)
        try:
            child._process = _spawned(command, child_environment(env), cwd)
            try:
                # No more than a turn of the loop for each pipe.
                await _to_its_end(child._loop.create_task(child._connect()))
            except BaseException:  # no thread, or cancelled: nobody would ever stop it
                child._signal(_KILL)
                child._close()
                with suppress(subprocess.TimeoutExpired):
                    child._process.wait(KILL_TIME)
                raise
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            where = "" if cwd is None else f" in {cwd!r}"
            raise SpawnFailed(f"cannot start {command[0]!r}{where}: {error}") from error
        return child

    async def _connect(self) -> None:
        process, loop = self._process, self._loop
        self.pid = process.pid
        threading.Thread(target=self._wait, name="mcp_h11 child", daemon=True).start()
        into = _Pipe(self._stdin_lost, full=self._writable.clear, room=self._writable.set)
        self._pipes.append((await loop.connect_write_pipe(lambda: into, process.stdin))[0])
        out = _Pipe(self._stdout_lost, self._heard)
        self._pipes.append((await loop.connect_read_pipe(lambda: out, process.stdout))[0])
        errors = _Pipe(self._stderr_lost, self._stderr.feed)
        self._pipes.append((await loop.connect_read_pipe(lambda: errors, process.stderr))[0])

    def _wait(self) -> None:
        returncode = self._process.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know
            self._loop.call_soon_threadsafe(self._over, returncode)

    # --- what is known of it --------------------------------------------------------------------------------

    @property
    def stderr_tail(self) -> str:
        """The last `STDERR_TAIL` bytes of its stderr."""
        return self._stderr.tail.decode("utf-8", "replace")

    @property
    def why(self) -> str:
        """What it is, how it ended, and what it said last, for a person."""
        text = f"{self.name} (pid {self.pid})"
        if self.returncode is not None:
            text += f", {_described(self.returncode)}"
        elif self._ended:
            text += ", which closed its stdout"
        tail = self.stderr_tail.strip()
        return f"{text}{STDERR_FOLLOWS}\n{tail}" if tail else text

    # --- lines out and in -----------------------------------------------------------------------------------

    async def write(self, payload: bytes) -> None:
        """One line, without its line end; waits while the child does not read.  It is written whole or not at all.

        Raises:
            Gone: it was not written.
            ValueError: a line feed in it.
        """
        line = encode_line(payload)
        if self._writable.is_set() and not self._turn.locked():
            self._put(line)
            return
        try:
            with anyio.fail_after(self.write_time):
                async with self._turn:
                    await self._writable.wait()
                    self._put(line)
        except TimeoutError:
            raise Gone(f"{self.name} (pid {self.pid}) has read nothing for {self.write_time:g} s") from None

    def _put(self, line: bytes) -> None:
        if self._no_stdin:
            raise Gone(f"nothing can be written to {self.why}")
        self._pipes[0].write(line)

    async def lines(self) -> AsyncIterator[bytes | LineTooLong]:
        """Each line of its stdout; a `LineTooLong` in the place of one past the limit.  For one reader.

        Ends when stdout ends, or the child.  `returncode` and `stderr_tail` are known by then, unless the child lives.
        """
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._untaken -= _size(line)
                if self._paused and self._untaken <= MAX_UNTAKEN // 2:
                    self._read_on()
                yield line
            if self._ended:
                break
            self._came.clear()
            await self._came.wait()
        with anyio.move_on_after(LAST_WORDS_TIME):
            await self._told.wait()

    # --- the end --------------------------------------------------------------------------------------------

    async def stop(self, *, eof: float = EOF_TIME, term: float = TERM_TIME) -> int:
        """Ends the child and all of its group; gives the return code.  May be called again, and by several.

        The end of its stdin first, `eof` seconds to go by itself; SIGTERM to the group, `term` seconds to clean up;
        SIGKILL.  A cancellation waits until that is done, so no longer than eof + term + `KILL_TIME` and a little.
        """
        if self._stopping is None:
            self._refuse_lines()
            self._stopping = self._loop.create_task(self._stop(eof, term))
        await _to_its_end(self._stopping)
        return self.returncode if self.returncode is not None else -_KILL

    async def _stop(self, eof: float, term: float) -> None:
        try:
            self._pipes[0].close()
            self._read_on()
            with anyio.move_on_after(eof):
                await self._exited.wait()
            if self._signal(signal.SIGTERM):
                with anyio.move_on_after(term):
                    await self._group_ended()
            self._signal(_KILL)
            with anyio.move_on_after(KILL_TIME):
                await self._exited.wait()
        finally:  # this task is cancelled only where the event loop ends
            self._signal(_KILL)
            self._close()
        with anyio.move_on_after(KILL_TIME):
            await self._closed.wait()

    async def _group_ended(self) -> None:
        await self._exited.wait()
        while self._signal(0):  # noqa: ASYNC110  nobody tells when a group has ended
            await anyio.sleep(GROUP_POLL)

    def _signal(self, number: int) -> bool:
        """To the whole group; whether anybody was there to get it."""
        if not hasattr(os, "killpg"):
            return self._signal_alone(number)
        # The number of an empty group may become another's; that of a group with a member cannot.
        if not self._group_empty:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                self._group_empty = True
            except PermissionError:  # one that changed its user; on macOS also one that has ended
                pass
        return not self._group_empty

    def _signal_alone(self, number: int) -> bool:
        if self.returncode is None and number:
            # Windows has one way to end a process, and it is not gentle.
            self._process.kill()
        return self.returncode is None

    def _close(self) -> None:
        """Gives the descriptors back, whoever holds the other ends."""
        self._end_lines()
        if self._pipes and self._pipes[0].get_write_buffer_size():  # `close` waits until that is written
            self._pipes[0].abort()
        for pipe in self._pipes:
            pipe.close()
        streams = self._process.stdin, self._process.stdout, self._process.stderr
        for stream in streams[len(self._pipes) :]:  # of one that came to nothing
            if stream is not None:
                stream.close()

    # --- from the event loop --------------------------------------------------------------------------------

    def _heard(self, data: bytes) -> None:
        if not self._ended:
            self._take(self._decoder.feed(data))

    def _take(self, lines: list[bytes | LineTooLong]) -> None:
        # Who stops it does not read any more, and a child that cannot write cannot end either.
        if not lines or (self._stopping is not None and self._untaken > MAX_UNTAKEN):
            return
        self._lines += lines
        self._untaken += sum(map(_size, lines))
        self._came.set()
        if self._untaken > MAX_UNTAKEN and self._stopping is None:
            self._paused = True
            self._pipes[1].pause_reading()

    def _read_on(self) -> None:
        if self._paused and not self._ended:
            self._paused = False
            self._pipes[1].resume_reading()

    def _end_lines(self) -> None:
        if not self._ended:
            self._take(self._decoder.end())
            self._ended = True
            self._came.set()

    def _stdout_lost(self) -> None:
        self._end_lines()
        self._lost()

    def _stderr_lost(self) -> None:
        self._stderr.ended = True
        self._tell()
        self._lost()

    def _stdin_lost(self) -> None:
        self._refuse_lines()
        self._lost()

    def _lost(self) -> None:
        self._open -= 1
        if not self._open:
            self._closed.set()

    def _refuse_lines(self) -> None:
        self._no_stdin = True
        self._writable.set()

    def _over(self, returncode: int) -> None:
        """The child has ended; what it has started may hold its pipes yet."""
        self.returncode = returncode
        self._refuse_lines()
        self._exited.set()
        self._signal(0)  # from now on its number is only kept by others of its group
        self._tell()
        self._loop.call_later(LAST_WORDS_TIME, self._hear_out)

    def _hear_out(self) -> None:
        """What the child has written is here, unless it was too much to be taken at once."""
        if self._untaken and not self._ended and self._stopping is None:
            self._loop.call_later(LAST_WORDS_TIME, self._hear_out)
        else:
            self._end_lines()

    def _tell(self) -> None:
        if self._stderr.ended and self.returncode is not None:
            self._told.set()


def _spawned(command: Sequence[str], env: dict[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    popen: Any = subprocess.Popen
    if os.name == "nt":
        # Its event loop wants pipes of another kind.
        from asyncio.windows_utils import Popen as popen  # type: ignore[attr-defined,no-redef]
    made: subprocess.Popen[bytes] = popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=env,
        cwd=cwd,
        start_new_session=True,
        creationflags=_NEW_GROUP,
    )
    return made


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Await it whoever cancels this; the cancellation comes after it."""
    cancelled: BaseException | None = None
    while not task.done():
        try:
            # The shield keeps a scope from cancelling; a task's own `cancel` goes through it.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
        except asyncio.CancelledError as error:  # noqa: PERF203
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


def _nothing(*_: object) -> None:
    """Nobody wants to know."""


class _Pipe(asyncio.Protocol):
    """What the event loop tells of one pipe, to whom it concerns."""

    def __init__(
        self,
        lost: Callable[[], None],
        data: Callable[[bytes], None] = _nothing,
        full: Callable[[], None] = _nothing,
        room: Callable[[], None] = _nothing,
    ) -> None:
        self._lost = lost
        self.data_received = data  # type: ignore[method-assign, assignment]
        self.pause_writing = full  # type: ignore[method-assign]
        self.resume_writing = room  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


class _Stderr:
    """What a child says to people: the tail is kept, the first lines of each period are logged at DEBUG."""

    def __init__(self) -> None:
        self.tail = b""
        self.ended = False
        self._decoder = LineDecoder(STDERR_TAIL)
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._logged = 0
        self._since = 0.0
        self._clock = asyncio.get_running_loop().time

    def feed(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-STDERR_TAIL:]
        if self._debug:
            for line in self._decoder.feed(data):
                self._log(line)

    def _log(self, line: bytes | LineTooLong) -> None:
        now = self._clock()
        if now - self._since >= LOG_PERIOD:
            if self._logged > MAX_LOGGED:
                logger.debug("stderr: %d more lines", self._logged - MAX_LOGGED)
            self._logged, self._since = 0, now
        self._logged += 1
        if self._logged <= MAX_LOGGED:
            # Escaped: a terminal would obey what stands in it.
            logger.debug("stderr: %s", ascii(line.decode("utf-8", "replace") if isinstance(line, bytes) else "..."))


def _size(line: bytes | LineTooLong) -> int:
    return len(line) if isinstance(line, bytes) else 1


def _described(returncode: int) -> str:
    if returncode >= 0:
        return f"which exited with code {returncode}"
    try:
        return f"which was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"which was killed by signal {-returncode}"
