# SPDX-License-Identifier: MIT
"""A server on descriptors of its own: which writes leave and when, and what threads do instead."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from pipes_support import Unwatched
from rawclient import LIMIT, Modern, encode, within

from mcp_h11 import Context, MCPServer, Settings, serve_stdio
from mcp_h11.server import direct, stdio
from mcp_h11.server.pipes import Descriptor

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="reads and writes that do not wait are Linux's"),
]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "asyncio":
        return "asyncio", {}
    return "asyncio", {"loop_factory": pytest.importorskip("uvloop").new_event_loop}


def server_of() -> MCPServer:
    server = MCPServer("direct", version="1")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def big(size: int) -> str:
        return "x" * size

    @server.tool()
    async def later(text: str) -> str:
        await asyncio.sleep(0)
        return text

    return server


def call(number: int, tool: str, meta: Any = None, **arguments: Any) -> bytes:
    message = Modern(0).request("tools/call", {"name": tool, "arguments": arguments}, id=number)
    message["params"]["_meta"].update(meta or {})
    return encode(message) + b"\n"


def ids(data: bytes) -> list[Any]:
    return [json.loads(line).get("id") for line in data.splitlines()]


@asynccontextmanager
async def serving(stdin: int, stdout: int, server: MCPServer | None = None, **settings: Any) -> AsyncIterator[Any]:
    ends: Any = Descriptor(stdin), Descriptor(stdout)
    task = asyncio.ensure_future(
        serve_stdio(server or server_of(), settings=Settings(**settings), stdin=ends[0], stdout=ends[1], signals=False)
    )
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            await task


@pytest.fixture
def records() -> Any:
    """Two ends of sockets on which each write is one record: the server's, and the client's."""
    server, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.setblocking(False)
    with server, client:
        yield server, client


async def record(client: socket.socket) -> bytes:
    return await within(LIMIT, "record", asyncio.get_running_loop().sock_recv(client, 1 << 20))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are held for as long as a busy machine takes."""
    monkeypatch.setattr(direct, "HOLD_TIME", LIMIT)


@pytest.mark.usefixtures("patient")
async def test_the_answers_to_one_read_leave_in_one_write(records: Any) -> None:
    server, client = records
    async with serving(server.fileno(), server.fileno()):
        client.send(b"".join(call(number, "echo", text="t") for number in range(20)))
        assert ids(await record(client)) == list(range(20))
        client.send(call(20, "echo", text="t"))
        assert ids(await record(client)) == [20]
        client.send(b"no json\n" + call(21, "echo", text="t"))
        assert ids(await record(client)) == [None]  # an error does not wait for anything
        assert ids(await record(client)) == [21]


@pytest.mark.usefixtures("patient")
async def test_answers_of_calls_that_waited_leave_together(records: Any) -> None:
    server, client = records
    async with serving(server.fileno(), server.fileno()):
        client.send(b"".join(call(number, "later", text="t") for number in range(20)))
        writes = []
        while sum(map(len, writes)) < 20:
            writes.append(ids(await record(client)))
        assert sorted(sum(writes, [])) == list(range(20))
        assert len(writes) <= 10


@pytest.mark.parametrize(("limit", "value"), [("HELD_BYTES", 100), ("HOLD_TIME", -1.0)])
async def test_no_answer_is_held_for_long_or_beyond_its_size(
    records: Any, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(direct, "HOLD_TIME", LIMIT)
    monkeypatch.setattr(direct, limit, value)
    server, client = records
    async with serving(server.fileno(), server.fileno()):
        client.send(b"".join(call(number, "echo", text="t") for number in range(3)))
        assert [ids(await record(client)) for _ in range(3)] == [[0], [1], [2]]
        client.send(b"".join(call(number, "later", text="t") for number in range(3)))
        assert sorted(sum([ids(await record(client)) for _ in range(3)], [])) == [0, 1, 2]


async def test_progress_leaves_at_once_though_its_tool_holds_the_loop(
    records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that has to wait for its turn on the machine would write the answer for that reason, in a record alone.
    monkeypatch.setattr("mcp_h11.server.direct.HOLD_TIME", 3600.0)
    server, client = records
    tools = server_of()
    seen: list[Any] = []

    @tools.tool()
    async def works(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        seen.append(client.recv(1 << 20))  # without a turn of the loop since the report
        return "done"

    async with serving(server.fileno(), server.fileno(), tools):
        client.send(call(1, "echo", text="t") + call(2, "works", {"progressToken": "p"}))
        assert ids(await record(client)) == [2]
    answer, progress = (json.loads(line) for line in seen[0].splitlines())
    assert answer["id"] == 1  # it was made before, and leaves before
    assert (progress["method"], progress["params"]["progressToken"]) == ("notifications/progress", "p")


async def test_a_client_that_does_not_read_gets_everything_in_order_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MAX_UNWRITTEN", 200_000)
    into, out = os.pipe(), os.pipe()
    os.set_blocking(into[1], False)
    sent = 0
    async with serving(into[0], out[1]) as task:
        with anyio.fail_after(LIMIT):
            refused = 0
            while refused < 50:  # until the server has read nothing for many turns
                try:
                    os.write(into[1], call(sent, "echo", text="x" * 3000))
                    sent, refused = sent + 1, 0
                except BlockingIOError:  # noqa: PERF203
                    refused += 1
                    await asyncio.sleep(0.001)
        assert 60 < sent < 400
        reader = asyncio.StreamReader(limit=1 << 20)
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(out[0], "rb"))
        os.close(into[1])
        found = [json.loads(await within(LIMIT, "line", reader.readline()))["id"] for _ in range(sent)]
        assert found == list(range(sent))
        await within(LIMIT, "end", task)
        pipe.close()
    os.close(into[0])
    os.close(out[1])


async def test_a_client_that_is_gone_ends_the_server() -> None:
    into, out = os.pipe(), os.pipe()
    async with serving(into[0], out[1]) as task:
        os.close(out[0])
        os.write(into[1], call(1, "echo", text="t"))
        await within(LIMIT, "end", task)
    for number in (*into, out[1]):
        os.close(number)


async def test_files_are_read_and_written_too(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"".join(call(number, "echo", text="t") for number in range(50)))
    with open(tmp_path / "in", "rb") as stdin, open(tmp_path / "out", "wb") as stdout:
        async with serving(stdin.fileno(), stdout.fileno()) as task:
            await within(LIMIT, "end", task)
    assert sorted(ids((tmp_path / "out").read_bytes())) == list(range(50))


@pytest.mark.parametrize("way", ["no such call", "refused", "nothing watched"])
async def test_threads_serve_where_the_system_cannot(records: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(95, "Operation not supported")

    if way == "no such call":
        monkeypatch.setattr(direct, "_NOWAIT", None)
    elif way == "refused":
        monkeypatch.setattr(direct.os, "preadv", refuse)
        monkeypatch.setattr(direct.os, "pwritev", refuse)
    else:
        monkeypatch.setattr(direct.DirectInlet, "_readable", None)
        made = direct.DirectInlet.__init__
        monkeypatch.setattr(
            direct.DirectInlet, "__init__", lambda self, loop, *rest: made(self, Unwatched(loop), *rest)
        )
    server, client = records
    async with serving(server.fileno(), server.fileno()):
        read = b""
        client.send(call(1, "echo", text="t") + call(2, "echo", text="t"))
        with anyio.fail_after(LIMIT):
            while read.count(b"\n") < 2:
                with suppress(BlockingIOError):
                    read += client.recv(1 << 20)
                await asyncio.sleep(0.001)
        assert sorted(ids(read)) == [1, 2]
        client.shutdown(socket.SHUT_WR)


async def test_nothing_there_yet_is_no_end(records: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, errors = os.preadv, iter([BlockingIOError(11, "not yet")])

    def once(*args: Any) -> int:
        for error in errors:
            raise error
        return real(*args)

    monkeypatch.setattr(direct.os, "preadv", once)
    server, client = records
    async with serving(server.fileno(), server.fileno()):
        client.send(call(1, "echo", text="t"))
        assert ids(await record(client)) == [1]


async def test_a_fault_of_ours_ends_the_server_with_its_error(records: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(stdio.Pipe, "take_line", fail)
    server, client = records
    async with serving(server.fileno(), server.fileno()) as task:
        client.send(b"{}\n")
        with pytest.raises(RuntimeError, match="a fault"):
            await within(LIMIT, "end", task)
