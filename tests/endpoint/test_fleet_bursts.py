# SPDX-License-Identifier: MIT
"""Events of one call that go to its log together: their order, what the call waits for, and a store that fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from fleets import LIMIT, begun, fleet, roaming, session_at, stream_at, until
from moody import Mood, MoodyStore
from rawclient import Stream, encode
from serving import Held, call, turns

from mcp_h11 import Context
from mcp_h11.endpoint import fleet_bursts
from mcp_h11.endpoint.fleet_bursts import MAX_QUEUED_BYTES, MAX_QUEUED_EVENTS
from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub

pytestmark = pytest.mark.anyio


class Talking(Held):
    """Calls that say several things at once, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0
        self.add_tool(self.talk, name="talk")
        self.add_tool(self.shout, name="shout")

    async def talk(self, ctx: Context, sizes: list[int], then: str = "answer") -> str:
        await ctx.info("begins")
        self._began("talk")
        await self.released.wait()
        for number, size in enumerate(sizes):
            await ctx.info(f"{number}" + "x" * size)
            self.said += 1
        if then == "wait":
            await asyncio.Event().wait()
        return "talked"

    async def shout(self, ctx: Context) -> str:
        for word in ("one", "two"):
            await ctx.info(word)
        return "shouted"


def talking(mood: Mood | None = None, count: int = 2) -> Any:
    hub, mood = Hub(), mood or Mood()
    return fleet(Talking, lambda: MoodyStore(hub, mood), count=count)


async def rest(stream: Stream) -> list[tuple[str, str]]:
    """The event ids and texts up to the end."""
    found = []
    async for event in stream:
        if event.data:
            message = event.json()
            text = message["params"]["data"] if "params" in message else message["result"]["content"][0]["text"]
            found.append((event.id or "", text))
    return found


def asked(server: Any) -> dict[str, int]:
    counters = server.runtime.fleet.guard.counters
    return {name: counters[name].operations for name in ("append", "extend") if name in counters}


def numbered(event: str, texts: list[str]) -> list[tuple[str, str]]:
    name, _, index = event.partition(".")
    return [(f"{name}.{number}", text) for number, text in enumerate(texts, int(index) + 1)]


async def test_what_a_call_says_at_once_is_one_operation() -> None:
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[0] * 40)
        before = asked(workers[0])
        workers.handlers[0].released.set()
        wanted = numbered(event, [*map(str, range(40)), "talked"])
        assert await rest(stream) == wanted
        assert (before, asked(workers[0])) == ({"append": 1}, {"append": 1, "extend": 1})
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as again:
            assert await rest(again) == wanted


@pytest.mark.parametrize("kind", ["events", "bytes"])
async def test_a_call_waits_where_too_much_waits_for_the_store(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit it goes on while the store takes its time; with the event that reaches the limit it waits."""
    room, size, mood, free = 3, 100, Mood(), asyncio.Event()
    monkeypatch.setattr(fleet_bursts, "MAX_QUEUED_EVENTS", room if kind == "events" else 1_000)
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[size] * 7)
        if kind == "bytes":
            message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": ""}}
            monkeypatch.setattr(fleet_bursts, "MAX_QUEUED_BYTES", room * (len(encode(message)) + size + 1))

        async def slow(name: str) -> None:
            if name == "append":
                await free.wait()

        mood.of = slow
        handler = workers.handlers[0]
        handler.released.set()
        await until(lambda: handler.said == room - 1)
        await turns()
        assert handler.said == room - 1
        free.set()
        texts = [f"{number}" + "x" * size for number in range(7)]
        assert await rest(stream) == numbered(event, [*texts, "talked"])


def test_the_limits_are_below_those_of_a_log() -> None:
    assert (MAX_QUEUED_EVENTS, MAX_QUEUED_BYTES) == (64, 65_536)


@pytest.mark.parametrize("sizes", [[], [0, 0]])
async def test_events_that_were_kept_without_an_answer_are_told_to_their_reader_elsewhere(sizes: list[int]) -> None:
    """The store has done the operation and fails all the same; when it is back, they are not kept again."""
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=sizes)
        stream.abort()
        client.at(workers[1])
        reader = await stack.enter_async_context(client.get_stream(event, in_reply_to="tools/call"))
        at_reader = stream_at(workers[1], client, event)
        await until(lambda: at_reader.caught_up)
        part = workers[0].runtime.fleet.logs._logs

        def done_and_fails(real: Any) -> Any:
            async def operation(*arguments: Any, **options: Any) -> None:
                await real(*arguments, **options)
                del part.append, part.extend
                raise StoreError("no answer came")

            return operation

        part.append, part.extend = done_and_fails(part.append), done_and_fails(part.extend)
        workers.handlers[0].released.set()
        assert await rest(reader) == numbered(event, [*map(str, range(len(sizes))), "talked"])


@pytest.mark.parametrize("sizes", [[0], [0, 0]])
async def test_events_that_a_reader_beside_the_call_found_in_the_log_are_kept_although_the_store_failed(
    sizes: list[int],
) -> None:
    """The store has done the operation, the reader has its events, and only then the operation fails."""
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=sizes, then="wait")
        at_writer, writer, failed = stream_at(workers[0], client, event), workers[0].runtime.fleet, asyncio.Event()
        part, newest = writer.logs._logs, at_writer.last + len(sizes)

        def done_and_fails(real: Any) -> Any:
            async def operation(*arguments: Any, **options: Any) -> None:
                await real(*arguments, **options)
                del part.append, part.extend
                names = {"session": at_writer.session.key, "stream": at_writer.id}
                workers[1].runtime.fleet.signal("events", writer.worker, **names)
                await until(lambda: at_writer.last == newest)
                failed.set()
                raise StoreError("no answer came")

            return operation

        part.append, part.extend = done_and_fails(part.append), done_and_fails(part.extend)
        workers.handlers[0].released.set()
        with anyio.fail_after(LIMIT):
            await failed.wait()
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        wanted = numbered(event, [*map(str, range(len(sizes)))])
        assert await rest(stream) == wanted
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as again:
            assert await rest(again) == wanted


async def test_events_that_the_store_did_not_take_come_without_ids_and_are_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the moment in which it fails, and those that come while it is known to be away."""
    monkeypatch.setattr(fleet_bursts, "MAX_QUEUED_EVENTS", 2)
    mood, texts = Mood(), ["0", "1", "2", "3", "talked"]
    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[0] * 4)

        async def away(name: str) -> None:
            if name in ("append", "take"):
                raise StoreError("away")

        mood.of = away
        workers.handlers[0].released.set()
        assert await rest(stream) == [("", text) for text in texts]
        mood.of = None
        await until(lambda: not session_at(workers[0], client).unsaved_streams)
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as again:
            assert await rest(again) == numbered(event, texts)


async def test_a_call_that_begins_with_several_events_has_all_of_them_in_its_log() -> None:
    async with talking() as workers, roaming(workers[0]) as client:
        answer = await client.call("tools/call", call("shout"))
        assert [one["params"]["data"] for one in answer.notifications] == ["one", "two"]
        assert (answer.result["content"][0]["text"], asked(workers[0])) == ("shouted", {"extend": 1})


async def test_events_after_the_end_of_the_log_or_of_the_stream_are_dropped() -> None:
    """A worker that was taken for dead may find its log ended by another one."""
    async with talking() as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        _, event = await begun(stack, client, "talk", sizes=[0, 0])
        at_writer, logs = stream_at(workers[0], client, event), workers[1].runtime.fleet.logs
        await logs.finish(at_writer.session.key, at_writer.id, 60.0)
        workers.handlers[0].released.set()
        await until(lambda: at_writer.finished)
        await at_writer.send(b"late")
        tail = await logs.read(at_writer.session.key, at_writer.id, 0)
        assert (tail.last, tail.finished) == (1, True)
        assert (await client.call("ping")).result == {}


async def test_what_a_call_said_before_it_was_cancelled_is_sent_and_kept() -> None:
    mood, free, reached = Mood(), asyncio.Event(), asyncio.Event()

    async def slow(name: str) -> None:
        if name == "append":
            reached.set()
            await free.wait()

    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, event = await begun(stack, client, "talk", sizes=[0, 0], then="wait")
        mood.of = slow
        workers.handlers[0].released.set()
        with anyio.fail_after(LIMIT):
            await reached.wait()
        at_writer = stream_at(workers[0], client, event)
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        at_writer.close()  # once more
        free.set()
        assert await rest(stream) == numbered(event, ["0", "1"])
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as again:
            assert await rest(again) == numbered(event, ["0", "1"])


async def test_a_session_that_ends_does_not_wait_for_the_store() -> None:
    mood, free, reached = Mood(), asyncio.Event(), asyncio.Event()

    async def slow(name: str) -> None:
        if name == "append":
            reached.set()
            await free.wait()

    async with talking(mood) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        stream, _ = await begun(stack, client, "talk", sizes=[0, 0], then="wait")
        mood.of = slow
        workers.handlers[0].released.set()
        with anyio.fail_after(LIMIT):
            await reached.wait()
        assert (await client.delete()).status == 204
        assert await rest(stream) == []
        free.set()
