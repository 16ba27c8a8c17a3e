# SPDX-License-Identifier: MIT
"""What many sessions leave behind: nothing.  Connections are made of callbacks (`fuzzing.FakeTransport`), so that ten
thousand sessions take seconds; the loop's clock is put forward, so that half an hour takes none."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fuzzing import FakeTransport
from rawclient import Legacy, encode
from serving import LEGACY, Held, call, head, modern, request, served, turns

from mcp_h11 import Context
from mcp_h11.endpoint.sessions import ENDS_PER_TURN
from mcp_h11.server.connection import Connection

pytestmark = [pytest.mark.anyio, pytest.mark.long]
WARM_UP = 300
MOST_LEFT = 1024 * 1024  # bytes of ten thousand sessions
MOST_EACH = 16 * 1024  # bytes of an idle one
# Ten thousand are counted in blocks of the allocator, of which each that is lost has at least one; tracing where every
# byte is takes ten times as long, so that is done for a tenth of them.
MANY = pytest.mark.parametrize(("sessions", "unit"), [(10_000, "blocks"), (1_000, "bytes")])
INITIALIZE = {
    "protocolVersion": LEGACY,
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "x", "version": "1"},
}


class Clock:
    """The loop, with a clock that a test can put forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ahead = 0.0

    def time(self) -> float:
        return self.loop.time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)


class Said(Held):
    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.say, name="say")

    async def say(self, ctx: Context) -> str:
        await ctx.info("on the way")
        return "said"


class Client:
    """One connection that never fills up, and sessions on it."""

    def __init__(self, server: Any) -> None:
        self.connection = Connection(server)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> bytes:
        """What is answered at once."""
        self.transport.written.clear()
        self.connection.data_received(data)
        outbox = self.connection.server.runtime.outbox
        if outbox is not None:
            outbox.flush()
        return bytes(self.transport.written)

    def open(self) -> str:
        client = Legacy(0, LEGACY)
        answer = self.send(request(encode(client.request("initialize", INITIALIZE))))
        assert answer.startswith(b"HTTP/1.1 200 ")
        found = re.search(rb"(?i)\r\nmcp-session-id: (\S+)\r\n", answer)
        assert found is not None, answer
        return found[1].decode()

    async def use(self, session_id: str) -> None:
        """The handshake's end, and a call that leaves events to replay."""
        client = Legacy(0, LEGACY)
        session = {"Mcp_Session_Id": session_id, "MCP_Protocol_Version": LEGACY}
        assert b" 202 " in self.send(request(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', **session))
        self.send(request(encode(client.request("tools/call", call("say"))), **session))
        await turns(6)
        assert b"said" in self.transport.written and self.transport.written.endswith(b"0\r\n\r\n")

    def delete(self, session_id: str) -> None:
        answer = self.send(head(method="DELETE", Mcp_Session_Id=session_id, MCP_Protocol_Version=LEGACY))
        assert answer.startswith(b"HTTP/1.1 204 ")


@asynccontextmanager
async def measured(unit: str = "bytes", **options: Any) -> AsyncIterator[tuple[Any, Clock, Callable[[], int]]]:
    """A server, its clock, and how many bytes or blocks there are now."""
    limits = {"max_requests": None, "max_sessions": None, "max_sessions_peer": None}
    async with served(Said(), **limits, **options) as server:
        clock = server.runtime.loop = Clock(server.loop)

        def used() -> int:
            server.heads.heads.clear()  # bounded by itself: the last thousand heads, whoever sent them
            gc.collect()
            return tracemalloc.get_traced_memory()[0] if unit == "bytes" else sys.getallocatedblocks()

        if unit == "bytes":
            tracemalloc.start()
        try:
            yield server, clock, used
        finally:
            tracemalloc.stop()


def allowed(sessions: int, unit: str) -> int:
    """What may be left: of each session a hundred bytes, or of one in four a block."""
    return sessions // 4 if unit == "blocks" else MOST_LEFT * sessions // 10_000


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@MANY
async def test_ten_thousand_sessions_that_are_deleted_leave_nothing(sessions: int, unit: str) -> None:
    async with measured(unit) as (server, _, used):
        client = Client(server)
        before = tasks = files = 0
        for n in range(WARM_UP + sessions):
            if n == WARM_UP:
                await turns()
                before, tasks, files = used(), len(asyncio.all_tasks()), descriptors()
            session_id = client.open()
            if n % 10 == 0:
                await client.use(session_id)
            client.delete(session_id)
            if n % 100 == 0:
                await turns(1)
        await turns()
        assert used() - before < allowed(sessions, unit)
        assert (len(asyncio.all_tasks()), descriptors()) == (tasks, files)
        legacy = server.endpoint.legacy
        assert (
            not legacy.sessions and not legacy.table.idle and not legacy.table.uninitialized and not legacy.table.peers
        )
        assert legacy.stores.events.total_bytes == 0
        client.transport.close()
        await turns()


@MANY
async def test_ten_thousand_sessions_that_are_forgotten_are_small_and_expire_to_nothing(
    sessions: int, unit: str
) -> None:
    async with measured(unit) as (server, clock, used):
        client = Client(server)
        before = tasks = files = 0
        for n in range(WARM_UP + sessions):
            if n == WARM_UP:
                clock.ahead += 3600
                server.endpoint.sweep()
                await turns()
                assert not server.endpoint.legacy.sessions
                before, tasks, files = used(), len(asyncio.all_tasks()), descriptors()
            session_id = client.open()
            if n % 10 == 0:
                await client.use(session_id)
        legacy = server.endpoint.legacy
        assert len(legacy.sessions) == sessions
        assert unit == "blocks" or (used() - before) / sessions < MOST_EACH
        # Nine in ten never said that they were initialized; they go sooner.
        clock.ahead += server.settings.session_initialize + 1
        server.endpoint.sweep()
        await turns(50 + sessions // ENDS_PER_TURN)
        assert len(legacy.sessions) == sessions // 10
        clock.ahead += server.settings.session_idle
        server.endpoint.sweep()
        await turns(50 + sessions // ENDS_PER_TURN)
        assert (
            not legacy.sessions and not legacy.table.idle and not legacy.table.uninitialized and not legacy.table.peers
        )
        assert legacy.stores.events.total_bytes == 0
        assert used() - before < allowed(sessions, unit)
        assert (len(asyncio.all_tasks()), descriptors()) == (tasks, files)
        client.transport.close()
        await turns()


async def test_a_thousand_connections_that_break_off_anywhere_leave_nothing() -> None:
    data = request(encode(Legacy(0, LEGACY).request("initialize", INITIALIZE)))
    async with measured() as (server, clock, used):
        before = 0
        for n in range(WARM_UP + 1_000):
            if n == WARM_UP:
                await turns()
                before = used()
            client = Client(server)
            client.send(data[: n % len(data)])
            if n % 3:
                client.transport.close()
            else:
                client.connection.eof_received()
                client.transport.close()
            if n % 50 == 0:
                await turns(2)
        await turns()
        assert not server.connections and not server.endpoint.legacy.sessions
        assert used() - before < MOST_LEFT // 4


@pytest.mark.parametrize("stateless", [False, True])
async def test_ten_thousand_requests_without_a_session_leave_nothing(stateless: bool) -> None:
    requests = 10_000
    bodies = [modern("tools/call", call("say")), modern("tools/call", call("echo", text="x")), modern("no/such")]
    if stateless:
        message = Legacy(0, LEGACY).request("tools/call", call("say"))
        bodies.append(request(encode(message), MCP_Protocol_Version=LEGACY))
    async with measured("blocks", stateless=stateless) as (server, _, used):
        client = Client(server)
        before = tasks = 0
        for n in range(WARM_UP + requests):
            if n == WARM_UP:
                before, tasks = used(), len(asyncio.all_tasks())
            client.send(bodies[n % len(bodies)])
            await turns(3)
            assert client.transport.written.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 "))
        await turns()
        assert used() - before < requests // 20
        assert len(asyncio.all_tasks()) == tasks and not server.replies
        client.transport.close()
        await turns()


async def test_a_thousand_sessions_of_http_sse_leave_nothing() -> None:
    sessions = 1_000
    async with measured("bytes", legacy_sse=True) as (server, _, used):
        before = 0
        for n in range(WARM_UP + sessions):
            if n == WARM_UP:
                await turns()
                before = used()
            client, poster = Client(server), Client(server)
            written = client.send(head("/sse", "GET", Accept="text/event-stream"))
            endpoint = written.partition(b"data: ")[2].partition(b"\n")[0].decode()
            assert b" 202 " in poster.send(
                request(encode(Legacy(0, LEGACY).request("initialize", INITIALIZE)), endpoint)
            )
            if n % 2:
                poster.send(request(encode(Legacy(0, LEGACY).request("tools/call", call("hold"))), endpoint))
            await turns(3)
            assert b'"serverInfo"' in client.transport.written
            client.transport.close()
            poster.transport.close()
            await turns(3)
        await turns()
        assert not server.endpoint.legacy_sse.sessions and not server.endpoint.legacy_sse.peers
        assert not server.connections and not [task for task in server.runtime.tasks if not task.done()]
        assert used() - before < allowed(sessions, "bytes")
