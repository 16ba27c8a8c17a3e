# SPDX-License-Identifier: MIT
"""Answers of one turn leave together, in order, and not later than they should."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from rawclient import LIMIT
from serving import ASYNCIO, UVLOOP, Held, call, head, modern, served, turns
from turn_of_the_loop import Loop, Sender

from mcp_h11.runtime.outbox import FEW, HELD_BYTES, HOLD_TIME, UNHELD, GuessingOutbox, Outbox, outbox_of
from mcp_h11.server.connection import Connection


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def log() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def outbox(loop: Loop) -> Outbox:
    return Outbox(loop, loop.ready)  # type: ignore[arg-type]


def test_the_only_answer_of_a_turn_is_written_at_once(loop: Loop, log: list[Any], outbox: Outbox) -> None:
    outbox.send(Sender(log, "a"), b"1")
    assert log == [("a", b"1")] and loop.ready == []


def test_answers_wait_for_the_last_of_their_turn_and_leave_in_order(loop: Loop, log: list[Any], outbox: Outbox) -> None:
    a, b, c = (Sender(log, name) for name in "abc")
    loop.ready += ["b", "c"]
    outbox.send(a, b"1")
    loop.ready.remove("b")
    outbox.send(b, b"2")
    outbox.send(a, b"3")
    assert log == [] and (a.held, b.held) == (b"13", b"2")
    loop.ready.remove("c")
    outbox.send(c, b"4")
    assert log == [("a", b"13"), ("b", b"2"), ("c", b"4")] and a.held == b.held == b""
    (end,) = loop.ready
    loop.ready.clear()
    end()
    outbox.send(a, b"5")
    assert log[3:] == [("a", b"5")]


def test_what_the_last_of_a_turn_does_not_write_is_written_at_its_end(
    loop: Loop, log: list[Any], outbox: Outbox
) -> None:
    for turn in range(2):
        loop.ready += ["another"]
        outbox.send(Sender(log, "a"), b"%d" % turn)
        assert len(log) == turn
        loop.ready.remove("another")
        loop.ready.pop()()
        assert log[turn:] == [("a", b"%d" % turn)] and loop.ready == []


@pytest.mark.parametrize("past", [0, 1])
def test_so_many_bytes_are_held_and_no_more(loop: Loop, log: list[Any], outbox: Outbox, past: int) -> None:
    loop.ready += ["another"]
    outbox.send(Sender(log, "a"), b"x")
    outbox.send(Sender(log, "b"), b"y" * (HELD_BYTES - 1 + past))
    assert [name for name, _ in log] == ["a", "b"][: 2 * past]
    outbox.flush()
    assert [name for name, _ in log] == ["a", "b"]
    outbox.send(Sender(log, "b"), b"more")
    outbox.flush()
    assert log.pop() == ("b", b"more") and len(loop.ready) == 2  # one end for all of a turn
    outbox.send(Sender(log, "c"), b"z" * (HELD_BYTES + past))
    assert [name for name, _ in log] == ["a", "b", "c"][: 2 + past]


def test_a_large_answer_leaves_after_what_was_held_before_it(loop: Loop, log: list[Any], outbox: Outbox) -> None:
    loop.ready += ["another"]
    outbox.send(Sender(log, "a"), b"x")
    outbox.send(Sender(log, "b"), b"y" * (HELD_BYTES + 1))
    assert [name for name, _ in log] == ["a", "b"]


@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_held_for_longer_than_its_time(loop: Loop, log: list[Any], outbox: Outbox, late: bool) -> None:
    loop.ready += ["another"]
    for name in "ab":  # the clock begins anew after each time
        log.clear()
        loop.now += 1
        outbox.send(Sender(log, name), b"x")
        loop.now += HOLD_TIME * (1.5 if late else 0.5)
        outbox.send(Sender(log, name), b"y")
        assert len(log) == 2 * late
        outbox.flush()


def test_one_that_cannot_be_written_to_harms_no_other(loop: Loop, log: list[Any], outbox: Outbox) -> None:
    loop.ready += ["another"]
    for name in "abc":
        outbox.send(Sender(log, name, broken=name == "b"), b"x")
    outbox.flush()
    assert log == [("a", b"x"), ("b", b"aborted"), ("c", b"x")]


# --- a loop that does not show its callbacks ------------------------------------------------------------------------


@pytest.fixture
def guessing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> GuessingOutbox:
    """Its clock stands still: a test that waits for its turn on the machine holds nothing for too long."""
    monkeypatch.setattr("mcp_h11.runtime.outbox.time.monotonic", lambda: 3.0)
    return GuessingOutbox(loop, ())  # type: ignore[arg-type]


def a_turn(outbox: Outbox, log: list[Any], count: int) -> list[tuple[str, bytes]]:
    """The writes that so many answers cause before the end of their turn."""
    log.clear()
    for number in range(count):
        outbox.send(Sender(log, str(number)), b"x")
    return list(log)


def test_answers_of_a_turn_are_held_to_its_end(loop: Loop, log: list[Any], guessing: GuessingOutbox) -> None:
    for _ in range(3):
        assert a_turn(guessing, log, FEW + 1) == [] and len(loop.ready) == 1
        loop.ready.pop()()
        assert log == [(str(number), b"x") for number in range(FEW + 1)]


def test_after_a_turn_with_few_answers_the_next_ones_leave_at_once(
    loop: Loop, log: list[Any], guessing: GuessingOutbox
) -> None:
    assert a_turn(guessing, log, FEW) == []
    loop.ready.pop()()
    assert len(log) == FEW
    assert len(a_turn(guessing, log, UNHELD)) == UNHELD and loop.ready == []
    assert a_turn(guessing, log, FEW + 1) == []  # it looks again
    loop.ready.pop()()
    assert a_turn(guessing, log, 1) == []
    loop.ready.pop()()
    assert a_turn(guessing, log, 1) == [("0", b"x")]


def test_answers_of_one_connection_that_are_held_keep_their_order(
    loop: Loop, log: list[Any], guessing: GuessingOutbox
) -> None:
    a, b = Sender(log, "a"), Sender(log, "b")
    for sender, data in ((a, b"1"), (b, b"2"), (a, b"3")):
        guessing.send(sender, data)
    assert (a.held, b.held) == (b"13", b"2")
    loop.ready.pop()()
    assert log == [("a", b"13"), ("b", b"2")] and a.held == b.held == b""


@pytest.mark.parametrize("past", [0, 1])
def test_so_many_bytes_are_held_there_too(log: list[Any], guessing: GuessingOutbox, past: int) -> None:
    for _ in range(2):
        log.clear()
        guessing.send(Sender(log, "a"), b"x")
        guessing.send(Sender(log, "b"), b"y" * (HELD_BYTES - 1 + past))
        assert [name for name, _ in log] == ["a", "b"][: 2 * past]
        guessing.flush()


@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_held_for_longer_there_although_the_time_of_the_loop_stands_still(
    log: list[Any], guessing: GuessingOutbox, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    now = [3.0]
    monkeypatch.setattr("mcp_h11.runtime.outbox.time.monotonic", lambda: now[0])
    for _ in range(2):
        log.clear()
        now[0] += 1
        guessing.send(Sender(log, "a"), b"x")
        now[0] += HOLD_TIME * (1.5 if late else 0.5)
        guessing.send(Sender(log, "b"), b"y")
        assert len(log) == 2 * late
        guessing.flush()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
async def test_a_loop_that_does_not_show_its_callbacks_has_one_that_guesses(anyio_backend: Any) -> None:
    there = outbox_of(asyncio.get_running_loop())
    assert (type(there) is GuessingOutbox) is (type(asyncio.get_running_loop()).__module__.startswith("uvloop"))


# --- connections --------------------------------------------------------------------------------------------------


class Wire(FakeTransport):
    """Says in which order bytes and the end were written, over all connections."""

    def __init__(self, connection: Connection, log: list[tuple[str, str]], name: str) -> None:
        super().__init__(connection)
        self.log = log
        self.name = name

    def write(self, data: bytes) -> None:
        super().write(data)
        self.log.append((self.name, data[9:12].decode() if data.startswith(b"HTTP/1.1 ") else "more"))

    def write_eof(self) -> None:
        self.log.append((self.name, "end"))

    def close(self) -> None:
        self.log.append((self.name, "closed"))
        super().close()


DISCOVER = modern("server/discover")
LISTEN = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=2)
ASKED = {
    "nothing after it": (DISCOVER, [("a", "200")]),
    "a stream behind it": (DISCOVER + LISTEN, [("a", "200"), ("a", "200")]),
    "the last answer": (head("/health", "GET", Connection="close") + b"\r\n", [("a", "200"), ("a", "end")]),
    "a refusal behind it": (DISCOVER + b"nonsense\r\n\r\n", [("a", "200"), ("a", "400"), ("a", "end")]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("asked", ASKED)
async def test_what_a_connection_does_next_comes_after_the_answer_that_is_held(asked: str, anyio_backend: Any) -> None:
    data, expected = ASKED[asked]
    log: list[tuple[str, str]] = []
    async with served(Held(), health=True) as server:
        connections = {}
        for name in "ab":
            connection = connections[name] = Connection(server)
            connection.connection_made(Wire(connection, log, name))
        for name, bytes_ in (("a", data), ("b", DISCOVER)):  # both in the next turn
            server.loop.call_soon(connections[name].data_received, bytes_)
        with anyio.fail_after(LIMIT):
            while ("b", "200") not in log or len(log) <= len(expected):
                await turns(1)
        assert [one for one in log if one[0] == "a"] == expected
        for connection in connections.values():
            connection.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
async def test_a_connection_that_closes_or_is_lost_with_an_answer_held(
    anyio_backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process that has to wait for its turn on the machine would write it for that reason.
    monkeypatch.setattr("mcp_h11.runtime.outbox.HOLD_TIME", 3600.0)
    log: list[tuple[str, str]] = []
    for ending, expected in (("close", [("a", "200"), ("a", "closed")]), ("abort", [("a", "closed")])):
        log.clear()
        # A server each: under uvloop an outbox goes by the turns that it has seen.
        async with served(Held()) as server:
            connection = Connection(server)
            transport = Wire(connection, log, "a")
            transport.abort = transport.close  # type: ignore[method-assign]
            connection.connection_made(transport)

            def turn(connection: Connection = connection, ending: str = ending) -> None:
                connection.data_received(modern("tools/call", call("echo", text="held")))
                assert log == []
                getattr(connection, ending)()

            server.loop.call_soon(turn)
            server.loop.call_soon(lambda: None)  # so that the turn is not over
            await turns(4)
            assert log == expected
