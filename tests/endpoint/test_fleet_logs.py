# SPDX-License-Identifier: MIT
"""The logs of a fleet's streams: a slow reader, a lost log, a store that is away, and readers that overtake another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fleets import begun, fleet, messages_of, roaming, session_at, stream_at, until, vanish
from moody import Mood, MoodyStore, failing
from rawclient import encode
from serving import Held, call

from mcp_h11 import Context
from mcp_h11.endpoint import fleet_logs
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores import memory
from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub

pytestmark = pytest.mark.anyio

BIG = 12_000_000  # bytes: more than a socket takes while its reader does not read


class Talking(Held):
    """Calls that say several things, or go away, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.talk, name="talk")
        self.add_tool(self.leave, name="leave")

    async def talk(self, ctx: Context, sizes: list[int]) -> str:
        await ctx.info("begins")
        self._began("talk")
        await self.released.wait()
        for size in sizes:
            await ctx.info("x" * size)
        return "talked"

    async def leave(self, ctx: Context) -> str:
        await ctx.close_sse_stream()
        return await self._wait("leave")


def talking(mood: Mood | None = None, hub: Hub | None = None, count: int = 2) -> Any:
    hub, mood = hub or Hub(), mood or Mood()
    return fleet(Talking, lambda: MoodyStore(hub, mood), count=count)


async def test_a_call_waits_for_its_slow_reader_and_loses_nothing() -> None:
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[BIG, 1])
        known = stream_at(workers[0], client, event)
        workers.handlers[0].released.set()
        await until(lambda: len(known.slow_writers or ()) == 1)
        assert known.last == 2  # the next one is not written yet
        big, small, answer = await messages_of(stream)
        assert (len(big["params"]["data"]), small["params"]["data"], answer["id"]) == (BIG, "x", "c")


async def test_a_reader_that_comes_back_and_is_slow_makes_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_LOG_BYTES", 2 * BIG)
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[BIG])
        stream.abort()
        workers.handlers[0].released.set()
        name = event.partition(".")[0]
        logs = workers[0].runtime.fleet.logs
        while not (await logs.read(key_of(client.session), name, None)).finished:  # type: ignore[arg-type]
            await asyncio.sleep(0.001)
        client.at(workers[1])
        slow = await stack.enter_async_context(client.get_stream(event, in_reply_to="tools/call"))
        known = stream_at(workers[1], client, event)
        await until(lambda: len(known.slow_writers or ()) == 1)
        newer = await stack.enter_async_context(client.get_stream(event, in_reply_to="tools/call"))
        big, answer = await messages_of(newer)
        assert (len(big["params"]["data"]), answer["id"]) == (BIG, "c")
        assert len(await messages_of(slow)) == 1  # it was replaced before its second event


async def test_a_call_whose_log_is_lost_goes_on_for_its_reader_without_ids() -> None:
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[1, 2])
        await workers[0].runtime.fleet.logs.discard(key_of(client.session), event.partition(".")[0])
        workers.handlers[0].released.set()
        events = [one async for one in stream]
        assert [one.id for one in events] == [None] * 3
        assert [one.json().get("id") for one in events] == [None, None, "c"]
        async with client.get_stream(event) as late:
            assert late.status == 400


async def test_a_log_that_is_lost_while_its_events_wait_for_the_store_is_not_made_again() -> None:
    mood = Mood()
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[1])
        mood.of = failing("append", "take")
        workers.handlers[0].released.set()
        events = [one async for one in stream]
        assert [one.id for one in events] == [None] * 2 and events[-1].json()["id"] == "c"
        logs, key, name = workers[1].runtime.fleet.logs, key_of(client.session), event.partition(".")[0]  # type: ignore[arg-type]
        await logs.discard(key, name)
        mood.of = None
        await until(lambda: not session_at(workers[0], client).unsaved_streams)
        for worker in workers.servers:
            async with client.at(worker).get_stream(event) as late:
                assert late.status == 400
        assert (await client.call("ping")).result == {}


async def test_a_call_that_goes_away_while_the_store_is_away_is_found_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mood = Mood()
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        mood.of = failing("open", "append", "take")
        connection = await stack.enter_async_context(client.client())
        body = encode(client.request("tools/call", call("leave"), id="c"))
        stream = await connection.open_stream("POST", client.path, client.headers_for(None), body)
        assert await messages_of(stream) == []
        assert "goes on without its store" in caplog.text
        await workers.handlers[0].until(started=1)
        (name,) = session_at(workers[0], client).streams
        workers.handlers[0].released.set()
        mood.of = None
        logs = workers[0].runtime.fleet.logs
        await until(lambda: workers[0].runtime.fleet.works and not stream_at(workers[0], client, name).unsaved)
        assert (await logs.read(key_of(client.session), name, 0)).finished  # type: ignore[arg-type]
        async with client.at(workers[1]).get_stream(f"{name}.0", in_reply_to="tools/call") as found:
            (answer,) = await messages_of(found)
            assert answer["result"]["content"][0]["text"] == "leave released"


@pytest.mark.parametrize("more", [0, 1])
async def test_a_log_has_a_limit_of_events_that_wait_for_the_store(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_logs, "MAX_STREAM_EVENTS", 3)
    mood, discards = Mood(), 0

    async def cannot_discard(name: str) -> None:
        nonlocal discards
        if name == "discard":
            discards += 1
            raise StoreError("away")

    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[1] * (2 + more))
        mood.of = failing("append", "take")
        workers.handlers[0].released.set()
        events = [one async for one in stream]
        # Its reader has them all; a client that comes back gets them up to the limit, and one past it has a gap.
        assert len(events) == 3 + more and events[-1].json()["id"] == "c"
        mood.of = cannot_discard
        await until(lambda: not session_at(workers[0], client).unsaved_streams)
        name = event.partition(".")[0]
        tail = await workers[0].runtime.fleet.logs.read(key_of(client.session), name, 0)  # type: ignore[arg-type]
        if more:
            await until(lambda: discards == 1)
            assert (tail.last, tail.finished) == (1, False)
            assert (await client.call("ping")).result == {}
        else:
            assert (tail.last, tail.finished, discards) == (4, True, 0)


async def test_a_reader_elsewhere_hears_that_its_log_has_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_logs, "MAX_STREAM_EVENTS", 3)
    mood = Mood()
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        _, event = await begun(stack, client, "talk", sizes=[1] * 3)
        elsewhere = client.at(workers[1])
        async with elsewhere.get_stream(event) as reader:
            mood.of = failing("append", "take")
            workers.handlers[0].released.set()
            await until(lambda: session_at(workers[0], client).unsaved_streams)
            mood.of = None
            # Its end, and no answer: the events behind the first did not find room.
            assert [one for one in await messages_of(reader) if "id" in one] == []
        async with elsewhere.get_stream(event) as late:
            assert late.status == 400


async def test_a_notice_that_never_finds_a_free_place_waits_for_the_store(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet_logs, "MAX_APPENDS", 2)
    mood = Mood()
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        own = await stack.enter_async_context(client.get_stream())
        session = session_at(workers[0], client)
        logs, key, name = workers[0].runtime.fleet.logs, session.key, session.state.stream
        taken = 0

        async def others_are_faster(operation: str) -> None:
            nonlocal taken
            if operation == "append" and taken < 2:
                taken += 1
                notice = encode({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})
                mood.of = None
                await logs.append(key, name, taken, notice)
                mood.of = others_are_faster

        mood.of = others_are_faster
        session.announce(encode({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        heard = [(await own.next_message())["method"] for _ in range(3)]
        assert sorted(heard) == ["notifications/prompts/list_changed"] * 2 + ["notifications/tools/list_changed"]
        assert "other workers took every index" in caplog.text


async def test_a_reader_elsewhere_gets_an_event_whose_append_was_done_and_failed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = memory.MemoryLogs.append
    failed: list[int] = []

    async def done_and_failed(self: Any, session: str, stream: str, index: int, *rest: Any, **options: Any) -> str:
        reader = await append(self, session, stream, index, *rest, **options)
        if index == 2 and not failed:
            failed.append(index)
            raise StoreError("the answer was lost")
        return reader

    monkeypatch.setattr(memory.MemoryLogs, "append", done_and_failed)
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, first = await begun(stack, client, "talk", sizes=[])
        stream.abort()
        async with client.at(workers[1]).get_stream(first, in_reply_to="tools/call") as other:
            await other.next_event()
            workers.handlers[0].released.set()
            assert [one["id"] for one in await messages_of(other)] == ["c"]
    assert failed == [2]


async def test_of_two_that_come_back_at_once_the_newer_one_reads() -> None:
    mood, come, asked = Mood(), asyncio.Event(), 0

    async def is_slow(name: str) -> None:
        nonlocal asked
        if name == "read":
            asked += 1
            if asked <= 3:
                await come.wait()

    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        _, event = await begun(stack, client, "talk", sizes=[1])
        client.at(workers[1])
        assert (await client.call("ping")).result == {}
        mood.of = is_slow
        connections = [await stack.enter_async_context(client.client()) for _ in range(3)]
        heads = {**client.headers_for(None), "Accept": "text/event-stream", "Content-Type": None}
        for number, connection in enumerate(connections):
            await connection.send_request("GET", client.path, {**heads, "Last-Event-ID": event})
            await until(lambda: asked == number + 1)  # noqa: B023
        connections[0].abort()
        await until(lambda: len(workers[1].connections) == 2)
        come.set()
        older, newer = [await connection.receive_stream() for connection in connections[1:]]
        for one in (older, newer):
            one.judge = lambda message: None  # type: ignore[assignment]
        assert await messages_of(older) == []
        workers.handlers[0].released.set()
        notice, answer = await messages_of(newer)
        assert (notice["params"]["data"], answer["id"]) == ("x", "c")


async def test_a_client_that_names_no_event_begins_at_the_oldest_that_is_left() -> None:
    async with talking() as workers, roaming(workers[0]) as client:
        session = session_at(workers[0], client)
        async with client.get_stream():
            pass
        logs = workers[0].runtime.fleet.logs
        for number in range(1, 301):  # of which the log keeps the newest 256
            message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": number}}
            await logs.append(session.key, session.state.stream, number, encode(message))
        async with client.get_stream() as stream:
            heard = [(await stream.next_message())["params"]["data"] for _ in range(256)]
            assert heard == list(range(45, 301))


@pytest.mark.long  # it waits until a worker counts as dead
async def test_a_stream_of_a_dead_worker_that_was_to_answer_nothing_just_ends() -> None:
    async with talking() as workers, roaming(workers[0]) as client:
        key = key_of(client.session)  # type: ignore[arg-type]
        logs, dead = workers[0].runtime.fleet.logs, workers[0].runtime.fleet.worker
        await client.at(workers[1]).call("ping")
        await logs.open(key, "abc", 600.0, writer=dead)
        async with client.at(workers[1]).get_stream("abc.0") as stream:
            vanish(workers[0])
            assert await messages_of(stream) == []
        assert (await logs.read(key, "abc", 0)).finished


async def test_a_worker_that_hears_of_itself_as_the_reader_goes_on_reading() -> None:
    async with talking() as workers, roaming(workers[0]) as client, client.get_stream() as stream:
        session = session_at(workers[0], client)
        one, other = (server.runtime.fleet for server in workers.servers)
        await other.tell("reader", session=session.key, stream=session.state.stream, by=one.worker)
        workers.handlers[0].notify_tools_changed()
        assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
