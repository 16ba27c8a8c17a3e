# SPDX-License-Identifier: MIT
"""Events of a burst leave together, in order, and not later than they should; the first ones leave at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from rawclient import LIMIT
from serving import ASYNCIO, UVLOOP, head, modern, served, turns
from turn_of_the_loop import Loop, Sender

from mcp_h11 import Context, MCPServer
from mcp_h11.runtime.bursts import AT_ONCE, BURST_BYTES, BURST_TIME, HELD_TIME, Bursts
from mcp_h11.server.connection import Connection


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def log() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def bursts(loop: Loop) -> Bursts:
    return Bursts(loop)  # type: ignore[arg-type]


def begun(bursts: Bursts, sender: Sender) -> None:
    """A burst whose next event is the first that may be held."""
    for _ in range(AT_ONCE):
        bursts.send(sender, b".")
    assert sender.log[-AT_ONCE:] == [(sender.name, b".")] * AT_ONCE
    sender.log.clear()


def test_the_first_events_leave_at_once_and_later_ones_at_the_end_of_the_turn(
    loop: Loop, log: list[Any], bursts: Bursts
) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    for number in range(3):
        bursts.send(a, b"%d" % number)
    assert log == [] and len(loop.ready) == 1
    loop.ready.pop()()
    assert log == [("a", b"012")]
    bursts.send(a, b"3")  # the burst goes on in the next turn
    assert log == [("a", b"012")]
    loop.ready.pop()()
    assert log == [("a", b"012"), ("a", b"3")] and loop.ready == []


@pytest.mark.parametrize("past", [False, True])
def test_an_event_that_comes_later_begins_a_new_burst(loop: Loop, log: list[Any], bursts: Bursts, past: bool) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    loop.now += BURST_TIME * (1.5 if past else 0.5)
    bursts.send(a, b"x")
    assert log == ([("a", b"x")] if past else [])


def test_events_that_are_held_leave_before_a_new_burst_begins(loop: Loop, log: list[Any], bursts: Bursts) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    bursts.send(a, b"x")
    loop.now += BURST_TIME * 2
    bursts.send(a, b"y")
    assert log == [("a", b"x"), ("a", b"y")]
    loop.ready.pop()()  # finds nothing more
    assert len(log) == 2


@pytest.mark.parametrize("past", [0, 1])
def test_so_many_bytes_are_held_and_no_more(log: list[Any], bursts: Bursts, past: int) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    for _ in range(2):  # the count begins anew
        bursts.send(a, b"x")
        bursts.send(a, b"y" * (BURST_BYTES - 2 + past))
        assert len(log) == past
        bursts.flush()
        log.clear()


@pytest.mark.parametrize("late", [False, True])
def test_a_burst_that_goes_on_does_not_hold_its_events_for_long(
    loop: Loop, log: list[Any], bursts: Bursts, late: bool
) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    bursts.send(a, b"1")
    loop.now += HELD_TIME * 0.6
    bursts.send(a, b"2")
    assert log == []
    loop.now += HELD_TIME * (0.6 if late else 0.3)
    bursts.send(a, b"3")
    assert log == ([("a", b"123")] if late else [])


def test_two_connections_in_turn_hold_nothing_and_keep_their_order(log: list[Any], bursts: Bursts) -> None:
    a, b = Sender(log, "a"), Sender(log, "b")
    begun(bursts, a)
    bursts.send(a, b"1")
    bursts.send(b, b"2")
    bursts.send(a, b"3")
    assert log == [("a", b"1"), ("b", b"2"), ("a", b"3")]


def test_events_that_were_taken_are_not_written_again(loop: Loop, log: list[Any], bursts: Bursts) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    assert bursts.holds is a
    bursts.send(a, b"1")
    bursts.send(a, b"2")
    assert bursts.taken(Sender(log, "b")) == b""
    assert bursts.taken(a) == b"12" and bursts.holds is None
    loop.ready.pop()()
    assert log == []
    bursts.send(a, b"3")  # a new stream on the same connection
    assert log == [("a", b"3")]


def test_a_connection_that_cannot_be_written_to_is_dropped(loop: Loop, log: list[Any], bursts: Bursts) -> None:
    a = Sender(log, "a")
    begun(bursts, a)
    bursts.send(a, b"1")
    a.broken = True
    loop.ready.pop()()
    assert log == [("a", b"aborted")]


# --- connections --------------------------------------------------------------------------------------------------

EVENTS = 50


class Wire(FakeTransport):
    """Keeps each write by itself."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        self.pieces.append(data)


def ticking() -> Any:
    made: Any = MCPServer("bursts")
    made.go_on = asyncio.Event()

    @made.tool(structured_output=False)
    async def ticks(n: int, ctx: Context, waits: bool = False) -> str:
        for step in range(1, n + 1):
            await ctx.report_progress(step, n)
        if waits:
            await made.go_on.wait()
        return "done"

    return made


@asynccontextmanager
async def asked(**arguments: Any) -> Any:
    """A server, the wire of a call of `ticks` that has begun, and the `Connection`."""
    handler = ticking()
    async with served(handler) as server:
        connection = Connection(server)
        wire = Wire(connection)
        connection.connection_made(wire)
        params = {"name": "ticks", "arguments": {"n": EVENTS, **arguments}, "_meta": {"progressToken": "t"}}
        server.loop.call_soon(connection.data_received, modern("tools/call", params))
        try:
            yield server, handler, connection, wire
        finally:
            handler.go_on.set()
            connection.close()
            await turns()


def in_order(written: bytes) -> bool:
    places = [written.find(b'"progress":%d,' % step) for step in range(1, EVENTS + 1)]
    return -1 not in places and places == sorted(places)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
async def test_the_events_of_one_step_leave_in_few_writes_and_the_answer_with_the_last(anyio_backend: Any) -> None:
    async with asked() as (server, _, _, wire):
        with anyio.fail_after(LIMIT):
            while b"0\r\n\r\n" not in wire.written:
                await turns(1)
        assert in_order(bytes(wire.written)) and server.runtime.bursts.holds is None
        # The first event leaves with the head.  On a slow machine the time of a burst may pass now and then.
        assert AT_ONCE + 1 < len(wire.pieces) < EVENTS
        assert b"notifications/progress" in wire.pieces[0] and b'"done"' in wire.pieces[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])
async def test_all_events_of_a_call_that_waits_are_there_before_it_goes_on(anyio_backend: Any) -> None:
    async with asked(waits=True) as (_, handler, connection, wire):
        with anyio.fail_after(LIMIT):
            while not wire.pieces:
                await turns(1)
            await turns(2)
        assert in_order(bytes(wire.written)) and b'"done"' not in wire.written
        handler.go_on.set()
        with anyio.fail_after(LIMIT):
            while b"0\r\n\r\n" not in wire.written:
                await turns(1)
        wire.pieces.clear()  # the connection is as good as before
        connection.data_received(head("/health", "GET") + b"\r\n")
        await turns(2)
        assert wire.pieces and wire.pieces[0].startswith(b"HTTP/1.1 ")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_of_a_connection_finds_no_event_held(end: str, anyio_backend: Any) -> None:
    async with asked(waits=True) as (server, _, connection, wire):
        with anyio.fail_after(LIMIT):
            while not wire.pieces:
                await turns(1)
        bursts = server.runtime.bursts
        for number in range(AT_ONCE + 2):
            connection.send(b": %d\n\n" % number, False)
        getattr(connection, end)()
        written = bytes(wire.written)
        assert (b": %d\n\n" % (AT_ONCE + 1) in written) is (end == "close")
        await turns()
        assert bursts.holds is None and bytes(wire.written) == written
