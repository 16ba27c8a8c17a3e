# SPDX-License-Identifier: MIT
"""A server in a child process, as a client has it: real children that behave, and that do not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_h11.client.client import Client
from mcp_h11.client.conversation import pending
from mcp_h11.client.transports import process
from mcp_h11.client.transports.base import Outgoing
from mcp_h11.client.transports.errors import ConnectionLost, InvalidAnswer
from mcp_h11.client.transports.lenient import beginning, id_at_the_end
from mcp_h11.client.transports.stdio import StdioTransport
from mcp_h11.protocol.errors import MCPError
from mcp_h11.protocol.jsonrpc import ErrorResponse, Message, Notification, Request, Response
from mcp_h11.protocol.revisions import LATEST_LEGACY

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.name == "nt", reason="the children here are sent signals"),
    pytest.mark.long,
]

LIMIT = 20.0
ROOT = Path(__file__).resolve().parents[3]
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]

# A server that does what the id of a request says.
BEGIN = """
import json, os, signal, sys, time
def say(*lines):
    os.write(1, b"".join((line if isinstance(line, bytes) else line.encode()) + b"\\n" for line in lines))
def answer(id):
    say(json.dumps({"jsonrpc": "2.0", "id": id, "result": {}}))
def requests():
    for line in sys.stdin.buffer:
        yield json.loads(line)
"""
ECHO = "for r in requests():\n    answer(r['id'])\n"


class Recorder:
    """A receiver that keeps what it is told, and when it was told of the end."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.losses: list[tuple[int | str | None, Exception]] = []
        self.ends: list[Exception | None] = []
        self.ended_at = 0.0
        self._changed = asyncio.Event()

    def message(self, message: Message, via: int | str | None) -> None:
        assert via is None
        self.messages.append(message)
        self._changed.set()

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        self.losses.append((request_id, error))
        self._changed.set()

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.ended_at = time.monotonic()
        self._changed.set()

    async def renewed(self) -> None:
        raise AssertionError("there is no session to renew")

    async def until(self, what: Callable[[], Any]) -> None:
        with anyio.fail_after(LIMIT):
            while not what():
                self._changed.clear()
                await self._changed.wait()


Script = Callable[[str], list[str]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(code: str) -> list[str]:
        path = tmp_path / "server.py"
        path.write_text(BEGIN + code)
        return [sys.executable, str(path)]

    return write


@asynccontextmanager
async def connected(command: list[str], **options: Any) -> AsyncIterator[tuple[StdioTransport, Recorder]]:
    transport, recorder = StdioTransport(command, **{"eof": 0.2, "term": 0.2, **options}), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await transport.start(recorder, tasks)
            yield transport, recorder
            await transport.aclose()
    assert len(recorder.ends) == 1, "the end is told once"
    assert transport.child is not None and transport.child.returncode is not None


def request(id: int | str, method: str = "ping") -> Outgoing:
    return Outgoing(json.dumps({"jsonrpc": "2.0", "id": id, "method": method}).encode(), method, id)


# --- what goes well -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [None, *REVISIONS])
@pytest.mark.long
async def test_a_real_server_is_spoken_to(revision: str | None) -> None:
    command = [sys.executable, str(ROOT / "tests" / "everything_server.py"), "--stdio"]
    with anyio.fail_after(LIMIT):
        transport = StdioTransport(command, env={"PYTHONPATH": str(ROOT)}, eof=LIMIT)  # a busy machine ends it later
        async with Client(transport, revision=revision) as client:
            assert client.revision.name == (revision or REVISIONS[-1])
            result = await client.call_tool("test_simple_text", {})
            assert result["content"][0]["type"] == "text"
            assert "test_simple_text" in {tool["name"] for tool in await client.list_tools()}
    assert transport.child is not None and transport.child.returncode == 0
    assert transport.skipped == 0


async def test_every_kind_of_message_comes_in_and_out(script: Script) -> None:
    code = """
say('{"jsonrpc":"2.0","id":"q","method":"roots/list"}', '{"jsonrpc":"2.0","method":"notifications/message"}')
for r in requests():
    if r.get("id") == 1: say('{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
    if "result" in r: say('[{"jsonrpc":"2.0","id":2,"result":{}},{"jsonrpc":"2.0","id":"2","result":{}},{"what":1}]')
"""
    async with connected(script(code)) as (transport, recorder):
        assert transport.duplex
        transport.settle(LATEST_LEGACY)
        await transport.listen()
        await transport.send(request(1))
        await recorder.until(lambda: len(recorder.messages) == 3)
        await transport.send(Outgoing(b'{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}', None, "q"))
        await recorder.until(lambda: len(recorder.messages) == 5)
        assert [type(m) for m in recorder.messages] == [Request, Notification, ErrorResponse, Response, Response]
        assert [getattr(m, "id", None) for m in recorder.messages] == ["q", None, 1, 2, "2"]
        assert transport.skipped == 1  # the third of the batch
    assert recorder.ends == [None]


# --- garbage --------------------------------------------------------------------------------------------------------


async def test_what_is_no_message_is_skipped_counted_and_logged_once(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    code = r"""
say("Server listening\x1b[0m \u263a", "", "{", b"\xff\xfe", '{"level":30,"msg":"up"}', "[]", "17", "null", b"\0" * 10)
for r in requests():
    answer(r["id"])
    say("DEBUG answered")
"""
    async with connected(script(code)) as (transport, recorder):
        for id in (1, 2):
            await transport.send(request(id))
        await recorder.until(lambda: len(recorder.messages) == 2)
        while transport.skipped < 10:  # the last line comes after the last message, which alone wakes the recorder
            await anyio.sleep(0.005)
        assert recorder.losses == []
    assert transport.skipped == 10  # the blank one is no line
    found = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.client.transports.stdio"]
    assert len(found) == 1
    assert "no message" in found[0] and "Server listening\\x1b[0m" in found[0]


async def test_an_answer_that_is_no_message_ends_its_request(script: Script) -> None:
    code = """
for r in requests():
    say(json.dumps({"jsonrpc": "2.0", "id": r["id"], "error": "both"}), '{"jsonrpc":"2.0","id":7}')
    answer(r["id"] + 1)
"""
    async with connected(script(code)) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.messages)
        # No request has the id 7 at first.
        await transport.send(request(7))
        await recorder.until(lambda: len(recorder.losses) == 2)
    assert [id for id, _ in recorder.losses] == [1, 7]
    for _, error in recorder.losses:
        assert isinstance(error, InvalidAnswer) and "no message" in str(error) and '{"jsonrpc"' in str(error)


async def test_a_line_past_the_limit_ends_its_request_and_the_next_goes_on(script: Script) -> None:
    code = """
for r in requests():
    if r["id"] == 1:
        say(b'{"jsonrpc":"2.0","id":1,"result":{"x":"' + b"y" * 1000 + b'"}}')
    answer(r["id"])
"""
    async with connected(script(code), max_line=1000) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.losses)
        ((id, error),) = recorder.losses
        assert id == 1 and isinstance(error, InvalidAnswer) and "longer than 1000 bytes" in str(error)
        await transport.send(request(2))
        await recorder.until(lambda: len(recorder.messages) == 2)


LONG = "y" * 5000
TOO_LONG = {
    "front": f'{{"jsonrpc":"2.0","id":2,"result":{{"x":"{LONG}"}}}}',
    "front, an error": f'{{"id": 2, "jsonrpc": "2.0", "error": {{"code": -1, "message": "{LONG}"}}}}',
    "back": f'{{"result":{{"x":"{LONG}","id":1}},"jsonrpc":"2.0","id":2}}',
    "back, before the version": f'{{"result":{{"x":"{LONG}"}},"id": 2, "jsonrpc": "2.0" }} ',
}


@pytest.mark.parametrize("line", TOO_LONG.values(), ids=TOO_LONG)
@pytest.mark.parametrize("slowly", [False, True])
async def test_an_answer_past_the_limit_ends_its_own_request_of_several(
    script: Script, line: str, slowly: bool
) -> None:
    code = f"""
line = {line!r}
for r in requests():
    if r["id"] == 3 and {slowly}:
        for begin in range(0, len(line), 700): os.write(1, line[begin : begin + 700].encode()); time.sleep(0.01)
        say("")
    elif r["id"] == 3:
        say(line)
    if r["id"] == 3:
        answer(1); answer(3)
"""
    async with connected(script(code), max_line=2000) as (transport, recorder):
        for id in (1, 2, 3):
            await transport.send(request(id))
        await recorder.until(lambda: recorder.losses and len(recorder.messages) == 2)
        ((id, error),) = recorder.losses
        assert id == 2 and isinstance(error, InvalidAnswer) and "too long" in str(error)
        assert transport._waiting == set()


NOT_OURS = {
    "a request": f'{{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{{"x":"{LONG}"}}}}',
    "a request of TypeScript": f'{{"method":"roots/list","params":{{"x":"{LONG}"}},"jsonrpc":"2.0","id":1}}',
    "a notification": f'{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{LONG}"}}}}',
    "a late answer": f'{{"jsonrpc":"2.0","id":77,"result":{{"x":"{LONG}"}}}}',
    "a late answer of TypeScript": f'{{"result":{{"x":"{LONG}"}},"jsonrpc":"2.0","id":77}}',
    "no message": LONG,
}


@pytest.mark.parametrize("line", NOT_OURS.values(), ids=NOT_OURS)
async def test_what_is_too_long_and_is_no_answer_of_ours_ends_nothing(script: Script, line: str) -> None:
    async with connected(script(f"for r in requests():\n    say({line!r}); answer(1)\n"), max_line=2000) as (
        transport,
        recorder,
    ):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.messages)
        assert recorder.losses == []


async def test_an_answer_that_says_at_no_end_whose_it_is_is_that_of_the_only_request(script: Script) -> None:
    code = f"""
for r in requests():
    if r["id"] != 2: say('{{"result":{{}},"id":1,"more":"{LONG}"}}')
    if r["id"] == 3: answer(2); answer(3)
"""
    async with connected(script(code), max_line=2000) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.losses)
        assert recorder.losses[0][0] == 1
        for id in (2, 3):
            await transport.send(request(id))
        await recorder.until(lambda: len(recorder.messages) == 2)
        # It is told that one of the two was answered so; what becomes of them is not the transport's to say.
        assert [id for id, _ in recorder.losses] == [1, None]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":', (True, 7)),
        (b' { "id" : "x\\"" , "jsonrpc":"2.0" , "error" : {', (True, 'x"')),
        (b'{"result":{"id":7,', (True, None)),
        (b'{"jsonrpc":"2.0","id":7,"method":"a","params":', (False, None)),
        (b'{"params":{"id":', (False, None)),
        (b'{"id":true,"result":{', (True, None)),
        (b'{"id":null,"result":{', (True, None)),
        (b'{"id":1.0,"result":{', (True, None)),
        (b'{"id":7', (True, None)),  # there may be more of it
        (b'{"id":7,', (True, None)),  # and more behind it
        (b'{"id":7;"result":{', (True, None)),
        (b'[{"id":7,"result":{', (True, None)),
        (b'{"a":' + b"[" * 1000, (True, None)),
        (b'{"id":"\xff\xfe', (True, None)),
        (b"{", (True, None)),
        (b"", (False, None)),
        (b"Server listening {", (False, None)),
    ],
)
def test_the_beginning_of_a_message_says_whose_answer_it_is(head: bytes, said: tuple[bool, Any]) -> None:
    found = beginning(head)
    assert found == said and type(found[1]) is type(said[1])


@pytest.mark.parametrize(
    ("tail", "id"),
    [
        (b'"}]},"jsonrpc":"2.0","id":12}', 12),
        (b'}, "id" : "a b" }\r', "a b"),
        (b'},"id":-1,"jsonrpc":"2.0"}', -1),
        (b'{"id":3}', 3),
        (b'},"id":"x,\\"id\\":4"}', 'x,"id":4'),
        (b'"text ,\\"id\\":4}', None),
        (b'"id":4}}', None),
        (b'},"id":4.5}', None),
        (b'},"id":04}', None),
        (b'},"id":"\xff"}', None),
        (b'},"id":null}', None),
        (b"", None),
    ],
)
def test_the_end_of_a_message_says_whose_answer_it_is(tail: bytes, id: Any) -> None:
    assert id_at_the_end(tail) == id


async def test_of_several_requests_nobody_is_blamed_for_a_line_past_the_limit(script: Script) -> None:
    code = """
for r in requests():
    if r["id"] == 3:
        say(b"z" * 1001)
        answer(2); answer(3)
"""
    async with connected(script(code), max_line=1000) as (transport, recorder):
        for id in (1, 2, 3):
            await transport.send(request(id))
        await recorder.until(lambda: len(recorder.messages) == 2)
        assert recorder.losses == []
        # 1 is given up; then there is one again that it can be.
        await transport.cancel(1)
        await transport.cancel(1)


async def test_who_was_given_up_is_not_counted(script: Script) -> None:
    code = "for r in requests():\n    if r['id'] == 2: say(b'{\"result\":\"' + b'z' * 2001 + b'\"}')\n"
    async with connected(script(code), max_line=1000) as (transport, recorder):
        await transport.send(request(1))
        await transport.cancel(1)
        await transport.send(request(2))
        await recorder.until(lambda: recorder.losses)
        assert recorder.losses[0][0] == 2


async def test_a_message_of_16_mib_comes_and_one_byte_more_does_not(script: Script) -> None:
    size = 16 * 1024 * 1024
    code = f"""
for r in requests():
    head = b'{{"jsonrpc":"2.0","id":%d,"result":{{"x":"' % r["id"]
    say(head + b"y" * ({size} - len(head) - 3 + (r["id"] == 2)) + b'"}}}}')
"""
    async with connected(script(code)) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.messages)
        (message,) = recorder.messages
        assert isinstance(message, Response) and len(message.result["x"]) > size - 100
        await transport.send(request(2))
        await recorder.until(lambda: recorder.losses)
        assert recorder.losses[0][0] == 2


# --- the end of the child -------------------------------------------------------------------------------------------


async def test_a_child_that_is_killed_in_mid_call_is_an_error_at_once(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    code = "os.write(2, b'working on it\\n')\n" + "for r in requests():\n    if r['id'] == 1: answer(1)\n"
    async with connected(script(code)) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.messages)
        await transport.send(request(2))
        assert transport.child is not None
        begin = time.monotonic()
        os.kill(transport.child.pid, signal.SIGKILL)
        await recorder.until(lambda: recorder.ends)
        assert recorder.ended_at - begin < LIMIT / 2
        (error,) = recorder.ends
        assert isinstance(error, ConnectionLost)
        assert "killed by SIGKILL" in str(error) and "working on it" in str(error)
        assert str(error) in f"the server has gone: {transport.why}"
        with pytest.raises(ConnectionLost) as caught:
            await transport.send(request(3))
        assert not caught.value.sent
        assert transport._waiting == {2}  # what was not sent is not waited for


async def test_every_call_of_a_client_hears_of_it(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    code = """
for r in requests():
    if r["method"] == "initialize":
        say(json.dumps({"jsonrpc": "2.0", "id": r["id"], "result": {"protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}}))
    if r["method"] == "tools/call" and r["params"]["name"] == "last":
        sys.exit("out of memory")
"""
    errors = []
    with anyio.fail_after(LIMIT):
        async with Client(StdioTransport(script(code)), revision="2025-11-25") as client:
            begin = time.monotonic()

            async def call(name: str) -> None:
                with pytest.raises(MCPError) as caught:
                    await client.call_tool(name)
                errors.append(caught.value)

            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(call, f"tool {number}")
                    await anyio.sleep(0)
                tasks.start_soon(call, "last")
            assert time.monotonic() - begin < LIMIT / 2
    assert len(errors) == 6
    assert all(isinstance(error, ConnectionLost) and "exited with code 1" in str(error) for error in errors)
    assert all("out of memory" in str(error) for error in errors)


async def test_a_child_that_closes_its_stdout_and_lives_is_the_end_and_is_stopped(script: Script) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nfor r in requests():\n    os.close(1)\n    time.sleep(60)\n"
    async with connected(script(code)) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.ends)
        assert "closed its stdout" in str(recorder.ends[0])
        assert transport.child is not None
        with anyio.fail_after(LIMIT):
            assert await transport.child.stop() == -signal.SIGKILL  # nobody has called aclose


async def test_a_child_that_ends_at_once_says_why(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with connected(script("sys.exit('usage: server FILE')")) as (_, recorder):
        await recorder.until(lambda: recorder.ends)
        assert "exited with code 1" in str(recorder.ends[0]) and "usage: server FILE" in str(recorder.ends[0])


async def test_a_flood_on_stderr_stops_nobody(script: Script) -> None:
    code = "for n in range(10_240): os.write(2, b'e' * 1024)\n" + ECHO
    async with connected(script(code)) as (transport, recorder):
        await transport.send(request(1))
        await recorder.until(lambda: recorder.messages)


async def test_a_child_that_does_not_read_is_an_error_after_its_time(script: Script) -> None:
    async with connected(script("say('{}')\ntime.sleep(60)"), write=0.1) as (transport, recorder):
        await transport.send(Outgoing(b"x" * 1_000_000, None, None))
        with pytest.raises(ConnectionLost, match="has read nothing") as caught:
            await transport.send(request(1))
        assert not caught.value.sent and transport._waiting == set()


async def test_cancelling_the_clients_tasks_stops_the_child(script: Script) -> None:
    transport, recorder = StdioTransport(script(ECHO), eof=5.0), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await transport.start(recorder, tasks)
            await transport.send(request(1))
            await recorder.until(lambda: recorder.messages)
            tasks.cancel_scope.cancel()
    assert transport.child is not None and transport.child.returncode == 0


WRITES_METHODS_DOWN = """
log = open(sys.argv[1], "a", buffering=1)
for r in requests():
    log.write(r["method"] + "\\n")
    if r["method"] == "initialize":
        say(json.dumps({"jsonrpc": "2.0", "id": r["id"], "result": {"protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}}))
log.write("end of input\\n")
"""


class Written:
    """The methods that a child of `WRITES_METHODS_DOWN` has written down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def methods(self) -> list[str]:
        return self.path.read_text().split("\n")[:-1] if self.path.exists() else []

    async def until(self, method: str) -> None:
        while method not in self.methods:
            await anyio.sleep(0.01)


async def test_a_call_that_is_cancelled_with_its_client_is_cancelled_at_the_server_first(
    script: Script, tmp_path: Path
) -> None:
    written = Written(tmp_path / "log")

    async def call() -> None:
        async with Client([*script(WRITES_METHODS_DOWN), str(written.path)], revision="2025-11-25") as client:
            await client.call_tool("never")

    with anyio.fail_after(LIMIT):
        task = asyncio.ensure_future(call())
        await written.until("tools/call")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert written.methods[-3:] == ["tools/call", "notifications/cancelled", "end of input"]


async def test_the_end_of_a_client_waits_a_limited_time_for_a_cancellation(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While the client lives, a cancellation may take CANCEL_LIMIT.  This one would take longer than the test.
    monkeypatch.setattr(pending, "CANCEL_LIMIT", 100 * LIMIT)
    monkeypatch.setattr(pending, "LAST_CANCELLATIONS", 0.05)
    written, asked = Written(tmp_path / "log"), anyio.Event()
    transport = StdioTransport([*script(WRITES_METHODS_DOWN), str(written.path)])

    async def cancel(request_id: int | str) -> None:
        asked.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(transport, "cancel", cancel)
    with anyio.fail_after(LIMIT):
        async with Client(transport, revision="2025-11-25") as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "never")
            await written.until("tools/call")
            tasks.cancel_scope.cancel()
    assert asked.is_set() and written.methods[-2:] == ["tools/call", "end of input"]


# --- the start ------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_started_is_an_error_that_names_it() -> None:
    transport, recorder = StdioTransport(["no-such-server", "--key=secret"]), Recorder()
    async with anyio.create_task_group() as tasks:
        with pytest.raises(ConnectionLost, match="no-such-server") as caught:
            await transport.start(recorder, tasks)
        assert not caught.value.sent and "secret" not in str(caught.value)
        with pytest.raises(ConnectionLost, match="was not started"):
            await transport.send(request(1))
        await transport.aclose()
    assert (transport.why, transport.child, recorder.ends) == ("no-such-server", None, [])


async def test_the_child_has_the_folder_and_the_environment_that_it_was_given(
    script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    command = script("say(os.getcwd() + ' ' + os.environ['MINE'])")
    async with connected(command, cwd=str(tmp_path), env={"MINE": "given"}) as (_, recorder):
        await recorder.until(lambda: recorder.ends)
    assert f"{tmp_path.resolve()} given" in caplog.text
