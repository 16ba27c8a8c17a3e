# SPDX-License-Identifier: MIT
"""A body that arrives in parts: the same bytes for all cuts, and no memory ahead of what has arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.http.bodies import BLOCK, FIRST_BLOCK, ArrivingBody
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import NEED_DATA, Head, HTTPError, HTTPRequest, Limits
from mcp_h11.http.server import ServerConnection

WHOLE = bytes(range(256)) * 4096  # 1 MiB
HEAD = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
NEXT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def held(body: ArrivingBody) -> int:
    """Bytes of memory that it has for bytes, with room or without."""
    return len(body._first) + sum(map(len, body._blocks))


steps = st.lists(st.tuples(st.booleans(), st.sampled_from([1, 7, 1_000, 65_536, 100_000, 300_000])), max_size=30)


@given(st.integers(0, len(WHOLE)), st.integers(0, 200_000), steps)
def test_the_body_is_the_same_for_all_cuts_and_ways_in(size: int, first: int, steps: list[tuple[bool, int]]) -> None:
    whole = WHOLE[-size:] if size else b""
    first = min(first, size)
    body = ArrivingBody(whole[:first], size - first)
    at = first
    for in_place, count in [*steps, *[(True, BLOCK)] * 30, (False, size)]:
        part = whole[at : at + min(count, body.missing)]
        room = body.room() if in_place else None
        if room is None:
            body.add(part)
        else:
            part = part[: len(room)]
            room[: len(part)] = part
            body.fill(len(part))
        at += len(part)
        assert (body.size, body.missing) == (at, size - at)
    assert body.take() == whole


def test_no_memory_is_taken_ahead_of_what_has_arrived() -> None:
    whole = b"x" * (4 * BLOCK)
    body = ArrivingBody(whole[:1], len(whole) - 1)
    while body.size < FIRST_BLOCK:
        assert body.room() is None  # and the bytes are added to what is there
        body.add(whole[body.size : body.size + 1_000])
        assert held(body) == body.size
    largest = 0
    while body.missing:
        before = body.size
        room = body.room()
        assert room is not None
        largest = max(largest, len(room))
        assert held(body) <= 2 * before
        assert len(room) <= body.missing
        body.fill(len(room))
    assert largest == BLOCK
    assert body.room() is None
    assert len(body.take()) == len(whole)


def test_many_small_reads_into_the_same_room() -> None:
    body = ArrivingBody(b"a" * FIRST_BLOCK, 1_000)
    for n in range(1_000):
        room = body.room()
        assert room is not None and len(room) == 1_000 - n
        room[0] = n % 256
        body.fill(1)
    assert body.take() == b"a" * FIRST_BLOCK + bytes(n % 256 for n in range(1_000))


def begun(size: int) -> ServerConnection:
    connection = ServerConnection(HeadCache(), Limits())
    connection.receive_data(HEAD % size + WHOLE[:FIRST_BLOCK])
    assert type(connection.next_event()) is Head
    return connection


def test_a_connection_offers_room_for_the_body_that_it_reads() -> None:
    connection = begun(300_000)
    while connection.awaiting_body:
        assert connection.next_event() is NEED_DATA
        room = connection.body_room()
        assert room is not None
        at = 300_000 - connection.awaiting_body
        count = min(len(room), 50_000)
        room[:count] = WHOLE[at : at + count]
        connection.fill_body(count)
        assert connection.body_received == at + count
        assert connection.buffered == at + count
    assert connection.body_room() is None
    request = connection.next_event()
    assert type(request) is HTTPRequest and request.body == WHOLE[:300_000]
    assert (connection.awaiting_body, connection.body_received) == (0, 0)


def test_bytes_that_are_handed_in_may_end_the_body_and_begin_the_next_request() -> None:
    connection = begun(100_000)
    assert connection.body_room() is not None
    connection.receive_data(WHOLE[FIRST_BLOCK:100_000] + NEXT)
    request = connection.next_event()
    assert type(request) is HTTPRequest and request.body == WHOLE[:100_000]
    connection.respond(200, (), b"")
    connection.response_done()
    request = connection.next_event()
    assert type(request) is HTTPRequest and request.head.path == "/"


def test_after_a_refusal_there_is_no_room_and_the_bytes_are_dropped() -> None:
    connection = begun(100_000)
    assert connection.body_room() is not None
    connection.close_after()
    connection.respond(408, (), b"")
    connection.fill_body(10)
    assert connection.body_room() is None
    assert (connection.buffered, connection.awaiting_body) == (0, 0)


def test_an_announced_size_past_the_limit_is_refused_before_there_is_room() -> None:
    connection = ServerConnection(HeadCache(), Limits(max_body=1_000))
    connection.receive_data(HEAD % 1_001 + b"x")
    with pytest.raises(HTTPError, match="too large"):
        connection.next_event()
    assert connection.body_room() is None


def test_the_head_of_an_answer_may_be_written_before_its_body() -> None:
    answers = []
    for apart in (False, True):
        connection = ServerConnection(HeadCache(), Limits())
        connection.receive_data(HEAD % 2 + b"{}")
        assert type(connection.next_event()) is HTTPRequest
        out = connection.respond(200, (("Content-Type", "a/b"),), b"body", date=b"x", apart=apart)
        assert connection.response_done()
        answers.append(out)
    assert answers[0] == answers[1] + b"body"
    assert b"content-length: 4\r\n" in answers[1].lower()
