# SPDX-License-Identifier: MIT
"""A read that is handed in as a view of a place which is used again: the same requests as from bytes, for all cuts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.http.bodies import BLOCK, FIRST_BLOCK
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import CLOSED, NEED_DATA, PAUSED, HTTPError, HTTPRequest, Limits
from mcp_h11.http.server import ServerConnection

BYTES = bytes(range(256)) * 1024  # 256 KiB, with CRLF nowhere
POST = b"POST /mcp HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"
LIMITS = Limits(max_body=BLOCK)


def post(size: int, more: bytes = b"") -> bytes:
    return POST % (more, size) + BYTES[:size]


def chunked(size: int) -> bytes:
    head = b"POST /mcp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, BYTES[:size])


requests = st.one_of(
    st.builds(post, st.sampled_from([0, 1, 5_000, FIRST_BLOCK - 1, FIRST_BLOCK, 100_000, BLOCK])),
    st.builds(post, st.sampled_from([3, 6_000]), st.sampled_from([b"X-A: 1\r\n", b"X-A: %b\r\n" % (b"a" * 5_000)])),
    st.builds(chunked, st.sampled_from([1, 5_000, 90_000])),
    st.sampled_from([
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n",
        POST % (b"", BLOCK + 1),
        b"not a request\r\n\r\n" + BYTES[:9_000],
        POST % (b"Connection: close\r\n", 8_000) + BYTES[:8_000],
        POST % (b"", 8_000) + b"\r\n\r\n" * 2_000,
    ]),
)  # fmt: skip


def driven(connection: ServerConnection, stream: bytes, cuts: list[int], place: bytearray | None) -> list[Any]:
    """All that comes out: the requests, and the status of a refusal."""
    found: list[Any] = []
    for start, stop in pairwise(cuts):
        if place is None:
            connection.receive_data(stream[start:stop])
        else:
            place[: stop - start] = stream[start:stop]
            connection.receive_view(memoryview(place)[: stop - start])
            place[: stop - start] = b"?" * (stop - start)
        while True:
            try:
                event = connection.next_event()
            except HTTPError as error:
                return [*found, error.status]
            if type(event) is HTTPRequest:
                found.append((event.head.method, event.head.headers, event.body))
                connection.respond(200, (), b"")
                connection.response_done()
            elif event in (NEED_DATA, PAUSED, CLOSED) and not connection.more:
                break
        if connection.closing:
            return [*found, "closed"]
    return [*found, connection.buffered]


@given(st.lists(requests, min_size=1, max_size=4), st.lists(st.integers(0, 300_000), max_size=6), st.booleans())
def test_a_view_gives_what_bytes_give(pieces: list[bytes], places: list[int], known: bool) -> None:
    stream = b"".join(pieces)
    cuts = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    cache = HeadCache()
    if known:
        driven(ServerConnection(cache, LIMITS), stream, [0, len(stream)], None)
    place = bytearray(len(stream))
    by_views = driven(ServerConnection(cache, LIMITS), stream, cuts, place)
    assert by_views == driven(ServerConnection(HeadCache(), LIMITS), stream, cuts, None)


@pytest.mark.parametrize("size", [5_000, FIRST_BLOCK, 100_000])
def test_requests_behind_one_another_in_one_view(size: int) -> None:
    stream = post(size) * 3
    for _ in range(2):
        cache = HeadCache()
        found = driven(ServerConnection(cache, LIMITS), stream, [0, len(stream)], bytearray(len(stream)))
        assert [body for _, _, body in found[:-1]] == [BYTES[:size]] * 3 and found[-1] == 0


def test_the_head_and_a_body_in_parts() -> None:
    cache = HeadCache()
    driven(ServerConnection(cache, LIMITS), post(100_000), [0, 100_100], None)
    stream = post(100_000)
    cuts = [0, 70_000, 80_000, len(stream)]
    found = driven(ServerConnection(cache, LIMITS), stream, cuts, bytearray(100_000))
    assert [body for _, _, body in found[:-1]] == [BYTES[:100_000]] and found[-1] == 0
