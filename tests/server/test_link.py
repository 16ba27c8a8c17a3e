# SPDX-License-Identifier: MIT
"""A connection as the link of a reply: how many writes each form of an answer takes, and the bytes of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fuzzing import FakeTransport
from serving import ASYNCIO, head, served, turns

from mcp_h11.http.messages import HTTPRequest
from mcp_h11.http.reply import Reply
from mcp_h11.server.connection import Connection

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
