# SPDX-License-Identifier: MIT
"""A handler in this process, as a client has it: both eras, real messages, and an end in any case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from mcp_h11 import Context, MCPServer, Settings
from mcp_h11.client.client import Client
from mcp_h11.client.transports import memory as client_memory
from mcp_h11.client.transports.base import Outgoing
from mcp_h11.client.transports.errors import ConnectionLost
from mcp_h11.client.transports.memory import MemoryTransport
from mcp_h11.protocol.jsonrpc import Message

pytestmark = pytest.mark.anyio

LIMIT = 30.0
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
WHO: ContextVar[str] = ContextVar("who", default="nobody")
QUESTION = {"type": "object", "properties": {"it": {"type": "string"}}, "required": ["it"]}


class Life:
    """A server that says what becomes of it."""

    def __init__(self, *, fails: str = "", stays: bool = False) -> None:
        self.log: list[str] = []
        self.entered_in: Any = None
        self.running = asyncio.Event()
        self.fails = fails
        self.stays = stays
        self.server = MCPServer("life", version="1", lifespan=self.lifespan)
        for tool in (self.add, self.who, self.ask, self.many, self.hold):
            self.server.add_tool(tool, tool.__name__)

    @asynccontextmanager
    async def lifespan(self, server: Any) -> AsyncIterator[None]:
        if self.fails == "begin":
            raise OSError("no database")
        # A scope that must be left where it was entered.
        async with anyio.create_task_group():
            self.log.append("entered")
            self.entered_in = asyncio.current_task()
            try:
                yield
            finally:
                if self.stays:
                    await anyio.sleep_forever()
                assert asyncio.current_task() is self.entered_in
                self.log.append("left")
        if self.fails == "end":
            raise OSError("no database any more")

    async def add(self, a: int, b: int) -> int:
        return a + b

    async def who(self) -> str:
        return WHO.get()

    async def ask(self, ctx: Context) -> str:
        return str((await ctx.elicit("Which?", QUESTION)).data)

    async def many(self, count: int, ctx: Context) -> str:
        WHO.set("handler")
        for number in range(count):
            await ctx.report_progress(number, count, "x" * 1_000)
        return "done"

    async def hold(self) -> str:
        self.running.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("ended")
        return ""


class Recorder:
    """A receiver that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.ends: list[Exception | None] = []
        self.changed = asyncio.Event()

    def message(self, message: Message, via: int | str | None) -> None:
        assert via is None
        self.messages.append(message)
        self.changed.set()

    def lost(self, request_id: int | str, error: Exception) -> None:
        raise AssertionError("nothing is lost in memory")

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.changed.set()

    async def renewed(self) -> None:
        raise AssertionError("there is no session to renew")

    async def until(self, count: int) -> None:
        with anyio.fail_after(LIMIT):
            while len(self.messages) < count:
                self.changed.clear()
                await self.changed.wait()


def request(id: int, method: str, **params: Any) -> Outgoing:
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return Outgoing(json.dumps(message).encode(), method, id)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_every_revision_is_spoken(revision: str) -> None:
    life = Life()

    async def answer(params: dict[str, Any]) -> dict[str, Any]:
        return {"action": "accept", "content": {"it": "this one"}}

    with anyio.fail_after(LIMIT):
        options: Any = {"on_elicitation": answer} if revision >= "2025-06-18" else {}
        async with Client(MemoryTransport(life.server), revision=revision, **options) as client:
            assert client.revision.name == revision
            result = await client.call_tool("add", {"a": 2, "b": 3})
            assert result["content"][0]["text"] == "5"
            assert {tool["name"] for tool in await client.list_tools()} == {"add", "who", "ask", "many", "hold"}
            if options:
                assert "this one" in (await client.call_tool("ask"))["content"][0]["text"]
            assert life.log == ["entered"]
    assert life.log == ["entered", "left"]


async def test_a_handler_that_says_more_than_its_bound_is_made_to_wait_and_all_of_it_comes() -> None:
    life, heard = Life(), []
    transport = MemoryTransport(life.server, Settings(write_high=2_000))
    with anyio.fail_after(LIMIT):
        async with Client(transport) as client:
            result = await client.call_tool("many", {"count": 100}, progress=lambda done, *_: heard.append(done))
    assert result["content"][0]["text"] == "done"
    assert heard == list(range(100))


async def test_neither_end_sees_the_others_context() -> None:
    life = Life()
    seen = []
    WHO.set("client")
    with anyio.fail_after(LIMIT):
        async with Client(MemoryTransport(life.server)) as client:
            WHO.set("somebody in the middle of a call")
            result = await client.call_tool("who")
            await client.call_tool("many", {"count": 1}, progress=lambda *_: seen.append(WHO.get()))
    # What was there when it was connected is a handler's as it is any task's; what came later is not.
    assert result["content"][0]["text"] == "client"
    assert seen == ["client"]


async def test_messages_are_bytes_and_answers_come_after_send() -> None:
    transport, recorder = MemoryTransport(Life().server), Recorder()
    async with anyio.create_task_group() as tasks:
        await transport.start(recorder, tasks)
        await transport.send(Outgoing(b'{"jsonrpc":"2.0","id":1,"method":', "x", 1))
        await transport.send(request(2, "ping"))
        assert recorder.messages == []
        await recorder.until(2)
        assert [(type(m).__name__, getattr(m, "id", 0)) for m in recorder.messages] == [
            ("ErrorResponse", None),
            ("Response", 2),
        ]
        await transport.cancel(2)
        await transport.listen()
        assert transport.duplex and "MCPServer in this process" in transport.why
        await transport.aclose()
        assert recorder.ends == [None]
        with pytest.raises(ConnectionLost, match="not connected") as caught:
            await transport.send(request(3, "ping"))
        assert not caught.value.sent
        await transport.aclose()
    assert recorder.ends == [None]


async def test_a_batch_of_2025_03_26_is_answered_as_one() -> None:
    transport, recorder = MemoryTransport(Life().server), Recorder()
    async with anyio.create_task_group() as tasks:
        await transport.start(recorder, tasks)
        info = {"name": "x", "version": "1"}
        await transport.send(request(1, "initialize", protocolVersion="2025-03-26", capabilities={}, clientInfo=info))
        await transport.send(Outgoing(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', "", None))
        both = b'[{"jsonrpc":"2.0","id":2,"method":"ping"},{"jsonrpc":"2.0","id":3,"method":"ping"}]'
        await transport.send(Outgoing(both, None, None))
        await recorder.until(3)
        assert sorted(message.id for message in recorder.messages) == [1, 2, 3]  # type: ignore[union-attr, type-var]
        await transport.aclose()


async def test_a_lifespan_that_does_not_begin_is_why_there_is_no_connection() -> None:
    transport, recorder = MemoryTransport(Life(fails="begin").server), Recorder()
    async with anyio.create_task_group() as tasks:
        with pytest.raises(ConnectionLost, match="did not start: no database") as caught:
            await transport.start(recorder, tasks)
        assert isinstance(caught.value.__cause__, OSError) and not caught.value.sent
        await transport.aclose()
    assert recorder.ends == []


async def test_a_lifespan_that_fails_at_its_end_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    transport, recorder = MemoryTransport(Life(fails="end").server), Recorder()
    async with anyio.create_task_group() as tasks:
        await transport.start(recorder, tasks)
        await transport.aclose()
        assert not tasks.cancel_scope.cancel_called
    (error,) = recorder.ends
    assert isinstance(error, ConnectionLost) and "no database any more" in str(error)
    assert "failed at its end" in caplog.text


async def test_a_lifespan_that_does_not_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_memory, "LIFESPAN_TIME", 0.05)
    transport, recorder = MemoryTransport(Life(stays=True).server, Settings(grace=0.01)), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await transport.start(recorder, tasks)
            await transport.aclose()
    assert "takes too long" in caplog.text
    assert isinstance(recorder.ends[0], ConnectionLost)


async def test_what_runs_at_the_end_is_cancelled_after_the_grace() -> None:
    life = Life()
    transport, recorder = MemoryTransport(life.server, Settings(grace=0.01)), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await transport.start(recorder, tasks)
            info = {"name": "x", "version": "1"}
            await transport.send(
                request(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
            )
            await transport.send(request(2, "tools/call", name="hold", arguments={}))
            await life.running.wait()
            await transport.aclose()
    assert life.log == ["entered", "ended", "left"]


async def test_whoever_cancels_the_clients_tasks_ends_the_handler() -> None:
    life = Life()
    transport, recorder = MemoryTransport(life.server, Settings(grace=0.01)), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await transport.start(recorder, tasks)
            tasks.cancel_scope.cancel()
    assert life.log == ["entered", "left"] and recorder.ends == [None]


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    left = asyncio.Event()

    @asynccontextmanager
    async def slow(server: Any) -> AsyncIterator[None]:
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            left.set()

    transport, recorder = MemoryTransport(MCPServer("slow", lifespan=slow)), Recorder()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.01) as scope:
                await transport.start(recorder, tasks)
            assert scope.cancelled_caught
        assert left.is_set()


async def test_a_lifespan_that_is_cancelled_while_it_begins_is_no_cancellation_of_the_client() -> None:
    @asynccontextmanager
    async def odd(server: Any) -> AsyncIterator[None]:
        raise asyncio.CancelledError
        yield

    async with anyio.create_task_group() as tasks:
        with pytest.raises(ConnectionLost, match="did not start"):
            await MemoryTransport(MCPServer("odd", lifespan=odd)).start(Recorder(), tasks)


async def test_a_second_end_of_a_handler_never_started_is_nothing() -> None:
    transport = MemoryTransport(Life().server)
    await transport.aclose()
    with pytest.raises(ConnectionLost):
        await transport.send(request(1, "ping"))
