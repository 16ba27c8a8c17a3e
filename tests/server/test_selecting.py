# SPDX-License-Identifier: MIT
"""The order in which a turn of the loop reads its connections, on real sockets, and which loops have it."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mcp_h11 import MCPServer, run
from mcp_h11.server import selecting
from mcp_h11.server.selecting import FEW_READY, FairSelector, fair_loop
from mcp_h11.server.server import Server

LIMIT = 60.0  # seconds
KINDS: list[type[selectors.BaseSelector]] = [FairSelector]
if hasattr(selecting, "EpollSelector"):
    KINDS.append(selecting.EpollSelector)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture(params=KINDS)
def selector(request: pytest.FixtureRequest) -> Iterator[selectors.BaseSelector]:
    with request.param() as selector:
        yield selector


@pytest.fixture
def pairs(selector: selectors.BaseSelector) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Both ends of connections whose first end is registered."""
    pairs = [socket.socketpair() for _ in range(4 * FEW_READY)]
    for ours, _ in pairs:
        selector.register(ours, selectors.EVENT_READ)
    yield pairs
    for pair in pairs:
        for one in pair:
            one.close()


def order(selector: selectors.BaseSelector) -> list[object]:
    found = selector.select(LIMIT)
    assert {events for _, events in found} == {selectors.EVENT_READ}
    return [key.fileobj for key, _ in found]


def test_descriptors_that_the_last_turn_read_come_last(
    selector: selectors.BaseSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    half = len(pairs) // 2
    early, late = [ours for ours, _ in pairs[:half]], [ours for ours, _ in pairs[half:]]
    for _, theirs in pairs[:half]:
        theirs.send(b"x")
    first = order(selector)
    assert {*first} == {*early}
    for _, theirs in pairs[half:]:
        theirs.send(b"x")
    second = order(selector)  # those of the first turn have sent again: their bytes are still there
    assert {*second[:half]} == {*late} and second[half:] == first
    assert order(selector) == second  # all were read in the last turn, and stay in the order of it


def test_a_turn_with_few_is_left_as_the_system_gives_it(
    selector: selectors.BaseSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    for _, theirs in pairs[:FEW_READY]:
        theirs.send(b"x")
    assert {*order(selector)} == {ours for ours, _ in pairs[:FEW_READY]}
    assert selector._turns._last == {}  # type: ignore[attr-defined]
    for ours, _ in pairs[:FEW_READY]:
        ours.recv(1)
    assert selector.select(0) == []


def test_a_descriptor_that_is_gone_is_not_reported(
    selector: selectors.BaseSelector, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    for _, theirs in pairs:
        theirs.send(b"x")
    gone = order(selector)[:FEW_READY]
    for one in gone:
        selector.unregister(one)  # type: ignore[arg-type]
    left = order(selector)
    assert len(left) == len(pairs) - FEW_READY and not {*left} & {*gone}


def test_reading_and_writing_that_are_told_apart_are_both_reported(
    pairs: list[tuple[socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kqueue tells them."""
    keys = [selectors.SelectorKey(ours, ours.fileno(), READ | WRITE, None) for ours, _ in pairs]
    apart = [(key, event) for key in keys for event in (READ, WRITE)]
    monkeypatch.setattr(selectors.DefaultSelector, "select", lambda self, timeout=None: [*apart])
    with FairSelector() as fair:
        for _ in range(2):
            assert fair.select(0) == apart


# --- the methods, as the standard library's selectors have them -----------------------------------------------------


@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_events_are_reported_to_those_who_asked_for_them(kind: type[selectors.BaseSelector]) -> None:
    ours, theirs = socket.socketpair()
    with kind() as selector, ours, theirs:
        assert selector.select(0) == [] and selector.select(-1) == []
        key = selector.register(ours, READ | WRITE, "a")
        assert key == (ours, ours.fileno(), READ | WRITE, "a") == selector.get_key(ours)
        known = selector.get_map()
        assert key == known[ours] == known.get(ours) == known[ours.fileno()] == known.get(ours.fileno())
        assert [*known] == [ours.fileno()] and known.get(theirs) is None and theirs not in known
        assert [events for _, events in selector.select()] == [WRITE]
        theirs.send(b"x")
        assert [events for _, events in selector.select()] == [READ | WRITE]
        assert selector.modify(ours, READ, "b").data == "b"
        assert selector.select(LIMIT) == [(selector.get_key(ours), READ)]
        selector.modify(ours, WRITE)
        assert [events for _, events in selector.select()] == [WRITE]
        theirs.close()
        selector.modify(ours, READ)
        assert [events for _, events in selector.select()] == [READ]
        assert selector.unregister(ours).fileobj is ours
        assert selector.select(0) == [] and len(selector.get_map()) == 0


@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_what_cannot_be_done_is_said(kind: type[selectors.BaseSelector]) -> None:
    ours, theirs = socket.socketpair()
    with kind() as selector, theirs:
        selector.register(ours.fileno(), READ)
        for wrong in (ours.fileno(), ours):
            with pytest.raises(KeyError):
                selector.register(wrong, READ)
        for unknown in (theirs, theirs.fileno()):
            for act in (selector.unregister, selector.get_key, lambda one: selector.modify(one, READ)):
                with pytest.raises(KeyError):
                    act(unknown)
        with pytest.raises(ValueError, match="events"):
            selector.register(theirs, 0)
        with pytest.raises(ValueError, match="file descriptor"):
            selector.register(-1, READ)
        selector.unregister(ours)
        selector.register(ours, READ)
        ours.close()
        assert selector.get_map()[ours].fileobj is ours
        assert selector.unregister(ours).fileobj is ours  # closed before
        with pytest.raises(ValueError, match="file descriptor"):
            selector.register(ours, READ)


@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_a_socket_that_lives_on_under_another_descriptor_is_not_reported(kind: type[selectors.BaseSelector]) -> None:
    ours, theirs = socket.socketpair()
    with kind() as selector, theirs, ours.dup():
        selector.register(ours, READ)
        fd = ours.fileno()
        ours.close()  # epoll still has the socket, by this number
        selector.unregister(fd)
        theirs.send(b"x")
        assert selector.select(0) == []


@pytest.mark.skipif(not hasattr(selecting, "EpollSelector"), reason="the system forgets what is closed")
@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_a_closed_socket_that_cannot_be_modified_is_forgotten(kind: type[selectors.BaseSelector]) -> None:
    ours, theirs = socket.socketpair()
    with kind() as selector, theirs:
        selector.register(ours, READ | WRITE)
        fd = ours.fileno()
        ours.close()
        with pytest.raises(OSError, match="descriptor"):
            selector.modify(fd, READ)
        assert fd not in selector.get_map()


@pytest.mark.skipif(not hasattr(selecting, "EpollSelector"), reason="epoll alone keeps what lives on elsewhere")
@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_what_is_told_twice_of_a_number_hides_nothing(kind: type[selectors.BaseSelector]) -> None:
    """A socket is closed and lives on in another process, here as a second descriptor; its number is in use again."""
    others = [socket.socketpair() for _ in range(2 * FEW_READY)]
    old, peer = socket.socketpair()
    with kind() as selector, old.dup(), peer:
        for number, (ours, theirs) in enumerate(others):
            selector.register(ours, READ)
            if number <= FEW_READY:
                theirs.send(b"x")
        fd = old.fileno()
        selector.register(old, WRITE)
        old.close()
        selector.unregister(fd)
        pair = socket.socketpair()
        new, far = pair if pair[0].fileno() == fd else pair[::-1]
        assert new.fileno() == fd
        selector.register(new, READ)
        far.send(b"x")
        for _ in range(4):
            assert READ in [events for key, events in selector.select(LIMIT) if key.fd == fd]
        for one in (*pair, *(one for both in others for one in both)):
            one.close()


@pytest.mark.parametrize("kind", [selectors.DefaultSelector, *KINDS])
def test_it_never_wakes_too_early(kind: type[selectors.BaseSelector]) -> None:
    with kind() as selector:
        began = time.monotonic()
        assert selector.select(0.0101) == []
        assert time.monotonic() - began >= 0.0101


@pytest.mark.skipif(not hasattr(selecting, "EpollSelector"), reason="no epoll")
def test_its_descriptor_is_that_of_epoll() -> None:
    selector = selecting.EpollSelector()
    os.fstat(selector.fileno())
    selector.close()
    with pytest.raises(ValueError):
        selector.fileno()


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio has another loop there")
def test_run_reads_in_that_order() -> None:
    seen: list[type] = []

    def on_start(server: Server) -> None:
        seen.append(type(server.loop._selector))  # type: ignore[attr-defined]
        server.stop()

    def serve() -> None:
        run(MCPServer("x", version="1"), port=0, loop="asyncio", on_start=on_start, signals=False, quiet=True)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert seen == [KINDS[-1]] and not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio has another loop there")
def test_what_a_policy_gave_its_loop_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    made = asyncio.SelectorEventLoop()
    made.set_exception_handler(lambda loop, context: None)
    given = made.get_exception_handler()
    monkeypatch.setattr(selecting.asyncio, "new_event_loop", lambda: made)  # type: ignore[attr-defined]
    loop = fair_loop()
    try:
        assert loop is made and loop.get_exception_handler() is given
        assert type(loop._selector) is KINDS[-1]  # type: ignore[attr-defined]
        thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))  # it is still woken by other threads
        thread.start()
        loop.run_forever()
        thread.join(LIMIT)
    finally:
        loop.close()


def test_a_loop_of_another_kind_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(asyncio.SelectorEventLoop):
        """Of a policy."""

    own = Own()
    monkeypatch.setattr(selecting.asyncio, "new_event_loop", lambda: own)  # type: ignore[attr-defined]
    try:
        assert fair_loop() is own and not own.is_closed()
    finally:
        own.close()
