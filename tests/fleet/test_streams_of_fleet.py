# SPDX-License-Identifier: MIT
"""A stream that is cut anywhere, any number of times, and resumed at any worker: each event once, in order."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from rawclient import SSE_TYPE, Closed, EventParser, Stream
from replicas import LIMIT, STEP, Replicas, Roaming
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]

MAX_EVENTS = 40
PAUSE = 0.001  # seconds between two events of a call that runs while it is cut


class Reader:
    """A client that reads a stream, and comes back with the last id that it has seen whole."""

    def __init__(self, client: Roaming) -> None:
        self.client = client
        self.data: list[Any] = []  # of the messages, in the order in which they came
        self.last_id = ""
        self.ended = False
        self.connections = 0

    async def read(self, stream: Stream, bytes_until_cut: int | None) -> None:
        """Read this many bytes at most, then cut the connection; events that are whole by then count."""
        parser, left = EventParser(), bytes_until_cut
        self.connections += 1
        while left is None or left > 0:
            try:
                piece = await stream.next_bytes()
            except Closed:
                break
            if piece is None:
                self.ended = True
                break
            piece = piece if left is None else piece[:left]
            left = None if left is None else left - len(piece)
            for event in parser.feed(piece):
                if event.id is not None:
                    self.last_id = event.id
                if event.data:
                    message = event.json()
                    self.client.judge(message, "tools/call")
                    self.data.append(message["params"]["data"] if "params" in message else message["id"])
        stream.abort()


async def run(client: Roaming, request: Any, cuts: list[tuple[int, int]], events: int) -> None:
    """Call at A, cut after some bytes, resume at the worker that each cut names, and read to the end."""
    reader = Reader(client)
    async with client.at(0).posting(request) as stream:
        await reader.read(stream, cuts[0][1] if cuts else None)
    for number, size in [*cuts[1:], (cuts[-1][0] if cuts else 0, None)]:
        await resume(reader, number, size)
    assert reader.data == [*range(events), request["id"]]
    for number in range(3):  # a stream that was read to its end is over
        async with client.at(number).get_stream(reader.last_id) as stream:
            assert stream.status == 204


async def resume(reader: Reader, number: int, size: int | None) -> None:
    if reader.ended or not reader.last_id:
        if not reader.ended:
            raise AssertionError("a client without an id cannot come back: the first event has one")
        return
    async with reader.client.at(number).get_stream(reader.last_id) as stream:
        if stream.status == 204:
            reader.ended = True
            return
        assert (stream.status, stream.head.content_type) == (200, SSE_TYPE)
        await reader.read(stream, size)


# The first bytes are those of an event that has an id and no data, with which a client can come back.
PRIMING = 80
CUTS = st.lists(st.tuples(st.integers(0, 2), st.integers(PRIMING, 1200)), max_size=8)


@pytest.mark.parametrize("pause", [0.0, PAUSE])
async def test_each_event_comes_once_and_in_order(fleet: Replicas, pause: float) -> None:
    client = fleet.roaming()
    await client.initialize()
    portal = asyncio.get_running_loop()

    @examples(150)
    @given(cuts=CUTS, events=st.integers(1, MAX_EVENTS))
    def property_holds(cuts: list[tuple[int, int]], events: int) -> None:
        request = client.request("tools/call", call("count", events=events, pause=pause))
        asyncio.run_coroutine_threadsafe(limited(run(client, request, cuts, events)), portal).result()

    await anyio.to_thread.run_sync(property_holds)
    await client.delete()


async def limited(step: Any) -> None:
    await asyncio.wait_for(step, LIMIT)


async def test_a_slow_reader_elsewhere_gets_all_of_a_quick_writer(fleet: Replicas) -> None:
    """The writer is done before the reader elsewhere has read the first event."""
    client = fleet.roaming()
    await client.initialize()
    request = client.request("tools/call", call("stream", label="slow", events=200))
    async with client.at(0).posting(request) as stream:
        first = await stream.next_event()
        assert first is not None and first.id is not None
        stream.abort()
    fleet[0].tell("release slow")
    async with client.at(1).get_stream(first.id, in_reply_to="tools/call") as stream:
        messages = [await stream.next_message() for _ in range(201)]
        assert await stream.next_message() is None
    assert [one["params"]["data"] for one in messages[:-1]] == [*range(200)]
    assert messages[-1]["id"] == request["id"]
    await client.delete()


async def test_the_newest_of_many_readers_wins(fleet: Replicas) -> None:
    client = fleet.roaming()
    await client.initialize()
    request = client.request("tools/call", call("stream", label="many"))
    async with client.at(0).posting(request) as stream:
        event = await stream.next_event()
        assert event is not None and event.id is not None
        older = stream
        for number in (1, 2, 0, 2, 1):
            newer = await anyio_enter(client.at(number), event.id)
            assert newer.status == 200
            while await older.next_event() is not None:  # the older one ends, without the answer
                assert not any(one.data and "id" in one.json() for one in older.seen)
            await older.close()
            older = newer
        fleet[0].tell("release many")
        messages = []
        while (message := await older.next_message()) is not None:
            messages.append(message)
        assert messages[-1]["id"] == request["id"]
        await older.close()
    await client.delete()


async def anyio_enter(client: Roaming, last_id: str) -> Stream:
    """An open stream that the test closes itself."""
    connection = await client.client().connect()
    headers = {**client.headers_for(None), "Accept": SSE_TYPE, "Content-Type": None, "Last-Event-ID": last_id}
    return await connection.open_stream("GET", client.path, headers)


async def test_a_replayed_stream_that_nobody_reads_leaves_nothing_after_delete(fleet: Replicas) -> None:
    client = fleet.roaming()
    await client.initialize()
    session = client.session
    assert session is not None
    for number in range(3):
        async with client.at(number).posting(client.request("tools/call", call("count", events=5))) as stream:
            await stream.next_event()
            stream.abort()
    assert (await client.at(1).delete()).status == 204
    with anyio.fail_after(LIMIT):
        while fleet.store.left_of(session):
            await asyncio.sleep(STEP)
