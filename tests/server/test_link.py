# SPDX-License-Identifier: MIT
"""A connection as the link of a reply: how many writes each form of an answer takes, and the bytes of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fuzzing import FakeTransport
from serving import ASYNCIO, head, served, turns

from mcp_h11.http.messages import HTTPRequest
from mcp_h11.http.reply import Reply
from mcp_h11.http.sse import encode_event, event_parts
from mcp_h11.server.connection import Connection
from mcp_h11.server.writing import APART

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])]

EVENT = b"data: {}\n\n"
CHUNK = b"a\r\n" + EVENT + b"\r\n"
END = b"0\r\n\r\n"


class Writes(FakeTransport):
    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.each: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        self.each.append(data)


async def answered(*acts: Callable[[Reply], None], method: str = "POST") -> tuple[list[bytes], bool]:
    """The bodies of the writes of one answer, and whether a next request on its connection was answered."""
    replies: list[Reply] = []
    async with served() as server:
        respond = server.endpoint.respond

        def taken(request: HTTPRequest, reply: Reply) -> None:
            replies.append(reply)

        server.endpoint.respond = taken
        connection = Connection(server)
        transport = Writes(connection)
        connection.connection_made(transport)
        connection.data_received(head(method=method, Content_Length="2" if method == "POST" else None))
        if method == "POST":
            connection.data_received(b"{}")
        server.endpoint.respond = respond
        (reply,) = replies
        for act in acts:
            act(reply)
        writes = [*transport.each]
        if not transport.closed:
            connection.data_received(head("/nowhere", "GET"))
            await turns()
        goes_on = transport.each[len(writes) :] != []
        connection.close()
        await turns()
    assert writes[0].startswith(b"HTTP/1.1 200 ")
    return [writes[0].partition(b"\r\n\r\n")[2], *writes[1:]], goes_on


async def test_a_whole_answer_is_one_write() -> None:
    assert await answered(lambda reply: reply.answer(200, b"{}")) == ([b"{}"], True)


async def test_the_last_answer_of_a_connection_is_followed_by_no_other() -> None:
    assert await answered(lambda reply: reply.answer(200, b"{}", close=True)) == ([b"{}"], False)


async def test_a_whole_stream_is_one_write() -> None:
    assert await answered(lambda reply: reply.stream_once(EVENT)) == ([CHUNK + END], True)


async def test_a_stream_begins_with_its_first_event_and_ends_with_its_last() -> None:
    bodies, goes_on = await answered(
        lambda reply: reply.open(EVENT), lambda reply: reply.send(EVENT), lambda reply: reply.end(EVENT)
    )
    assert (bodies, goes_on) == ([CHUNK, CHUNK, CHUNK + END], True)


async def test_a_stream_goes_on_after_its_request_is_forgotten() -> None:
    bodies, goes_on = await answered(
        lambda reply: reply.open(EVENT), lambda reply: reply.forget(), lambda reply: reply.end(EVENT)
    )
    assert (bodies, goes_on) == ([CHUNK, CHUNK + END], True)


async def test_no_next_request_is_read_before_a_stream_has_ended() -> None:
    assert await answered(lambda reply: reply.open(EVENT)) == ([CHUNK], False)


async def test_an_answer_to_head_has_no_body_in_either_form() -> None:
    assert await answered(lambda reply: reply.answer(200, b"{}"), method="HEAD") == ([b""], True)
    assert await answered(
        lambda reply: reply.open(EVENT), lambda reply: reply.send(EVENT), lambda reply: reply.end(), method="HEAD"
    ) == ([b""], True)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("last", [False, True])
async def test_an_event_in_parts_is_one_write_up_to_a_size_and_its_payload_one_of_its_own_past_it(
    more: int, last: bool
) -> None:
    payload = b"x" * (APART + more)
    event = encode_event(payload)
    expected = b"%x\r\n%b\r\n" % (len(event), event) + (END if last else b"")
    for before in ((), (lambda reply: reply.open(EVENT),)):
        writes, _ = await answered(*before, lambda reply: reply.send_parts(event_parts(payload), last))
        del writes[: len(before)]
        assert b"".join(writes) == expected
        assert len(writes) == (3 if more else 1)
        if more:
            assert isinstance(writes[1], memoryview) and writes[1].obj is payload


async def test_an_event_in_parts_comes_behind_the_events_of_a_burst() -> None:
    events = [b"data: %d\n\n" % number for number in range(20)]

    def act(reply: Reply) -> None:
        reply.open(EVENT)
        for event in events:
            reply.send(event)
        reply.send_parts(event_parts(b"x" * APART), False)
        reply.end(b"data: end\n\n")

    writes, goes_on = await answered(act)
    body, _ = dechunked(b"".join(writes))
    assert body == b"".join([EVENT, *events, encode_event(b"x" * APART), b"data: end\n\n"])
    assert goes_on


async def test_an_event_in_parts_is_no_body_for_head() -> None:
    for size in (2, APART + 1):
        parts = event_parts(b"x" * size)
        assert await answered(lambda reply, parts=parts: reply.send_parts(parts, True), method="HEAD") == ([b""], True)


def dechunked(data: bytes) -> tuple[bytes, int]:
    """The bytes of whole chunks up to the end of the stream, and how many chunks."""
    found, at = [], 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        at = end + 2 + size + 2
        assert data[at - 2 : at] == b"\r\n"
        if not size:
            assert at == len(data)
            return b"".join(found), len(found)
        found.append(data[end + 2 : at - 2])
