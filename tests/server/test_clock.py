# SPDX-License-Identifier: MIT
"""The clock of a server on a virtual clock: when each deadline ends a connection, and how much a tick looks at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fuzzing import FakeTransport
from serving import encode, head
from virtual import VirtualLoop

from mcp_h11 import MCPServer
from mcp_h11.endpoint.sessions import ENDS_PER_TURN
from mcp_h11.http.reply import COMMENT
from mcp_h11.runtime.settings import Settings
from mcp_h11.server.clock import LOOKS_PER_TURN
from mcp_h11.server.connection import Connection
from mcp_h11.server.server import Server
from mcp_h11.server.sockets import host_policy

MANY = 10_000
KEPT = b"%x\r\n%b\r\n" % (len(COMMENT), COMMENT)
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


class Bare(Server):
    """A server without sockets: a test makes its connections."""

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.runtime.__aenter__()
        self.endpoint = self._make_endpoint(host_policy(self.settings, []))
        self._begin_ticking()


class Peer(FakeTransport):
    """A client in memory; `each` has the writes and their times.

    Once it is `stuck` it reads nothing more, and `unread` bytes stay in the transport.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(Connection(server))
        self.unread = 0
        self.stuck = False
        self.each: list[tuple[float, bytes]] = []
        self.closed_at = 0.0
        self.connection.connection_made(self)
        self.send = self.connection.data_received

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes) -> None:
        super().write(data)
        self.unread += len(data) if self.stuck else 0
        self.each.append((self.loop.time(), bytes(data)))

    def close(self) -> None:
        if not self.closed:
            self.closed_at = self.loop.time()
        super().close()

    abort = close


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    assert loop.failures == []
    loop.close()


@asynccontextmanager
async def bare(handler: MCPServer | None = None, **options: Any) -> Any:
    limits: dict[str, Any] = {"max_connections": None, "max_sessions": None, "max_sessions_peer": None, "grace": 0.1}
    server = Bare(handler or MCPServer("bare", version="1"), Settings(**{"lag_warning": None, **limits, **options}))
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()
        assert len(server.wheel) == 0  # nothing of a lost connection is kept until its time


async def until(loop: VirtualLoop, seconds: float) -> None:
    await asyncio.sleep(max(0.0, seconds - loop.time()))


async def listening(server: Server) -> Peer:
    """A session with an open stream."""
    peer = Peer(server)
    peer.send(head(Content_Length=str(len(encode(INITIALIZE)))) + encode(INITIALIZE))
    session = next(session for session in reversed(server.endpoint.legacy.sessions))
    ready = encode({"jsonrpc": "2.0", "method": "notifications/initialized"})
    peer.send(head(Content_Length=str(len(ready)), Mcp_Session_Id=session) + ready)
    peer.send(head(method="GET", Mcp_Session_Id=session))
    while b"text/event-stream" not in peer.written:
        await asyncio.sleep(0)
    return peer


def counted(server: Server, monkeypatch: pytest.MonkeyPatch) -> Counter[float]:
    """How many connections were looked at in each turn of the loop, by its number."""
    looks: Counter[float] = Counter()
    look = server._look
    tick = Connection.tick
    turns = 0

    def one(self: Connection, now: float) -> None:
        looks[turns] += 1
        tick(self, now)

    def some() -> None:
        nonlocal turns
        turns += 1
        look()

    monkeypatch.setattr(Connection, "tick", one)
    monkeypatch.setattr(server, "_look", some)
    return looks


# --- when ----------------------------------------------------------------------------------------------------------


async def silent(peer: Peer) -> None:
    """It sends nothing."""


async def slow_head(peer: Peer) -> None:
    peer.send(b"POST /mcp HTTP/1.1\r\n")


async def slow_body(peer: Peer) -> None:
    peer.send(head(Content_Length="100") + b"{")


async def idle(peer: Peer) -> None:
    peer.send(head("/nowhere", "GET"))


async def head_after_idle(peer: Peer) -> None:
    peer.send(head("/nowhere", "GET"))
    await asyncio.sleep(33.3)
    peer.written.clear()
    peer.send(b"POST /mcp HTTP/1.1\r\n")


async def unread(peer: Peer) -> None:
    peer.send(head("/nowhere", "GET"))
    peer.unread = 10
    peer.connection.pause_writing()


@pytest.mark.parametrize("begins", [0.0, 0.4, 3.9])
@pytest.mark.parametrize(
    ("act", "at", "answer"),
    [
        (silent, 10.0, b""),
        (slow_head, 10.0, b"HTTP/1.1 408 "),
        (slow_body, 30.0, b"HTTP/1.1 408 "),
        (idle, 75.0, b"HTTP/1.1 404 "),
        (head_after_idle, 33.3 + 10.0, b"HTTP/1.1 408 "),
        (unread, 31.0, b"HTTP/1.1 404 "),  # from the tick that finds it
    ],
)
def test_a_deadline_ends_a_connection_at_the_tick_that_it_falls_to(
    loop: VirtualLoop, act: Callable[[Peer], Awaitable[None]], at: float, answer: bytes, begins: float
) -> None:
    async def run() -> None:
        async with bare() as server:
            await asyncio.sleep(begins)
            peer, began = Peer(server), loop.time()
            await act(peer)
            while not peer.closed and not peer.written.startswith(b"HTTP/1.1 408 "):
                await asyncio.sleep(0.01)
            assert at - 1.0 <= loop.time() - began <= at + 1.0
            assert peer.written.startswith(answer)
            refused = loop.time()
            while not peer.closed:  # a refusal lingers for a second
                await asyncio.sleep(0.01)
            assert peer.closed_at - refused <= 2.0

    loop.run_until_complete(run())


def test_a_comment_comes_when_a_stream_has_been_silent_and_not_when_it_has_not(loop: VirtualLoop) -> None:
    async def run() -> None:
        handler = MCPServer("bare", version="1")
        async with bare(handler) as server:
            peer, began = await listening(server), loop.time()
            await until(loop, began + 50)
            comments = [round(at - began) for at, data in peer.each if data == KEPT]
            assert comments == [15, 30, 45]
            await until(loop, began + 52)
            handler.notify_tools_changed()
            await until(loop, began + 66)
            assert len([data for _, data in peer.each if data == KEPT]) == 3
            await until(loop, began + 68)
            assert len([data for _, data in peer.each if data == KEPT]) == 4
            peer.stuck = True  # the next comment, at 82, is not read, and is found when the next one is due
            await until(loop, began + 150)
            assert peer.closed and 82 + 30 <= peer.closed_at - began <= 82 + 30 + 16

    loop.run_until_complete(run())


def test_a_call_that_is_undecided_for_long_becomes_a_stream(loop: VirtualLoop) -> None:
    async def run() -> None:
        handler = MCPServer("bare", version="1")
        released = asyncio.Event()

        @handler.tool
        async def wait() -> str:
            await released.wait()
            return "x"

        async with bare(handler, stateless=True) as server:
            peer = Peer(server)
            peer.send(head("/nowhere", "GET"))
            await asyncio.sleep(7.7)
            body = encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "wait"}})
            peer.written.clear()
            peer.send(head(Content_Length=str(len(body))) + body)
            began = loop.time()
            await until(loop, began + 13.9)
            assert not peer.written
            await until(loop, began + 15.1)
            assert b"text/event-stream" in peer.written
            released.set()
            await asyncio.sleep(1)

    loop.run_until_complete(run())


# --- how much ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_ten_thousand_idle_connections_are_looked_at_once_in_their_shortest_wait(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with bare() as server:
            for _ in range(MANY):
                Peer(server).send(head("/nowhere", "GET"))
            looks = counted(server, monkeypatch)
            await asyncio.sleep(60)
            assert max(looks.values()) <= LOOKS_PER_TURN
            # Once in ten seconds, and once more where a bucket was crowded.  A look at each tick would be 60 times.
            assert 5 * MANY <= sum(looks.values()) <= 14 * MANY
            await asyncio.sleep(20)
            assert not server.connections  # and the idle time ended all of them

    loop.run_until_complete(run())


@pytest.mark.long
@pytest.mark.parametrize("begins", [0.25, 0.95])
def test_the_comments_of_streams_that_opened_together_spread(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch, begins: float
) -> None:
    async def run() -> None:
        count = 2_000
        await until(loop, int(loop.time()) + 1 + begins)
        async with bare() as server:
            peers = [await listening(server) for _ in range(count)]
            looks = counted(server, monkeypatch)
            await asyncio.sleep(300)
            assert max(looks.values()) <= LOOKS_PER_TURN
            comments = sum(data == KEPT for peer in peers for _, data in peer.each)
            assert sum(looks.values()) <= comments
            late: Counter[int] = Counter()
            for peer in peers:
                times = [at for at, data in peer.each if data == KEPT]
                gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
                assert all(13.0 <= gap <= 15.1 for gap in gaps)
                late.update(int(at) for at in times if at > loop.time() - 60)
            # All of them in one second would be `count`; evenly over fifteen seconds, a fifteenth of it.
            assert max(late.values()) < count / 4

    loop.run_until_complete(run())


def test_between_two_parts_of_a_pass_other_callbacks_have_their_turn(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with bare(first_byte_timeout=2.0) as server:
            peers = [Peer(server) for _ in range(5 * LOOKS_PER_TURN)]
            seen: list[int] = []
            tick = Connection.tick

            def ticked(self: Connection, now: float) -> None:
                loop.call_soon(lambda: seen.append(sum(peer.closed for peer in peers)))
                tick(self, now)

            monkeypatch.setattr(Connection, "tick", ticked)
            await asyncio.sleep(4)
            assert all(peer.closed for peer in peers)
            assert next(count for count in seen if count) <= LOOKS_PER_TURN

    loop.run_until_complete(run())


def test_an_answer_leaves_before_the_next_part_of_a_pass(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with bare(keep_alive=2.0) as server:
            peers = [await listening(server) for _ in range(5 * LOOKS_PER_TURN)]
            caller = Peer(server)
            body = encode({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"_meta": {}}})
            looks = 0
            answered: list[int] = []
            tick, write = Connection.tick, caller.write

            def ticked(self: Connection, now: float) -> None:
                nonlocal looks
                looks += 1
                if looks == 1:  # its request is read in the turn after this one
                    loop.call_soon(caller.send, head(Content_Length=str(len(body)), Mcp_Session_Id=session) + body)
                tick(self, now)

            def written(data: bytes) -> None:
                answered.append(looks)
                write(data)

            session = next(iter(server.endpoint.legacy.sessions))
            monkeypatch.setattr(caller, "write", written)
            monkeypatch.setattr(Connection, "tick", ticked)
            while looks < len(peers):
                await asyncio.sleep(0.1)
            assert b'"id":7' in caller.written
            assert answered == [LOOKS_PER_TURN]

    loop.run_until_complete(run())


def test_sessions_that_are_overdue_at_one_moment_end_in_turns_of_the_loop(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with bare(max_requests=None, idle_timeout=None, keep_alive=None) as server:
            peer, table = Peer(server), server.endpoint.legacy.table
            for _ in range(3 * ENDS_PER_TURN + 7):
                peer.send(head(Content_Length=str(len(encode(INITIALIZE)))) + encode(INITIALIZE))
            ended: list[int] = []
            expire = table.expire

            def counted_expire(now: float, most: int) -> bool:
                before = len(table.sessions)
                more = expire(now, most)
                ended.append(before - len(table.sessions))
                return more

            monkeypatch.setattr(table, "expire", counted_expire)
            assert len(table.sessions) == 3 * ENDS_PER_TURN + 7
            await asyncio.sleep(65)  # none of them was initialized
            assert [count for count in ended if count] == [ENDS_PER_TURN] * 3 + [7]

    loop.run_until_complete(run())


def test_a_connection_that_fails_at_a_look_ends_alone(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with bare() as server:
            peers = [Peer(server) for _ in range(3)]
            for peer in peers:
                peer.send(head("/nowhere", "GET"))
            broken = peers[1]
            monkeypatch.setattr(broken, "get_write_buffer_size", lambda: 1 // 0)
            await asyncio.sleep(15)
            assert [peer.closed for peer in peers] == [False, True, False]
            assert "ZeroDivisionError" in caplog.text
            await asyncio.sleep(80)
            assert all(peer.closed for peer in peers)

    loop.run_until_complete(run())
