# SPDX-License-Identifier: MIT
"""Streams of a session over real sockets: replay as a property, take-over, slow readers, notices that wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest
import wire
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from patience import heard
from rawclient import LIMIT, SSE_TYPE, Closed, Event, Legacy, RawClient, Stream, encode
from serving import turns
from sessions_support import (
    LEGACY_HTTP,
    PORT_FILLER,
    SOON,
    Client,
    GatedStore,
    Narrow,
    Steps,
    Tools,
    call,
    echo,
    gone,
    narrow,
    quiet,  # noqa: F401
    rest,
    said,
    served,
    updated,
)

from mcp_h11 import Context, listening
from mcp_h11.runtime.storage import MAX_STREAM_EVENTS, MemoryEventStore

# --- stores that behave badly --------------------------------------------------------------------------------------


class SlowStore(MemoryEventStore):
    """A store that suspends before and after its work, as a store on a network does."""

    def __init__(self, before: int = 1, after: int = 2) -> None:
        super().__init__()
        self.turns = (before, after)

    async def _rest(self, which: int) -> None:
        for _ in range(self.turns[which]):
            await asyncio.sleep(0)

    async def append(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        await self._rest(0)
        await super().append(session_id, stream_id, index, data)
        await self._rest(1)

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        await self._rest(0)
        events = await super().replay(session_id, stream_id, after)
        await self._rest(1)
        return events

    async def finish(self, session_id: str, stream_id: str) -> None:
        await self._rest(1)
        await super().finish(session_id, stream_id)


class FailingStore(SlowStore):
    """A store that fails after `good` appends."""

    def __init__(self, good: int) -> None:
        super().__init__(0, 0)
        self.good = good

    async def append(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        if self.good <= 0:
            raise OSError("the store is away")
        self.good -= 1
        await super().append(session_id, stream_id, index, data)


# --- replay as a property -------------------------------------------------------------------------------------------


class Work:
    """One call under test: the orders to its tool, and the events that its client has read."""

    def __init__(self, key: int) -> None:
        self.key = key
        self.orders: asyncio.Queue[int | None] = asyncio.Queue()
        self.emitted = 1  # the tool begins with 1
        self.ended = False
        self.seen = 0  # the last sequence number that was read; `last_id` is the id of its event
        self.last_id = ""
        self.answered = False
        self.refused = False
        self.reader: Stream | None = None
        self.stack = AsyncExitStack()

    def read(self, event: Event) -> None:
        """Check one event of the connection that reads now."""
        if event.id is not None:
            self.last_id = event.id
        if not event.data:
            assert event.id is not None, "neither data nor id"
            return
        assert not self.answered, f"after the answer came {event}"
        message = event.json()
        if "method" in message:
            assert message["params"]["progressToken"] == f"t{self.key}", f"of another call: {message}"
            assert message["params"]["progress"] == self.seen + 1, f"after {self.seen} came {message}"
            self.seen += 1
        else:
            assert message["result"]["content"][0]["text"] == f"done {self.key}"
            assert self.seen == self.emitted, f"answered after {self.seen} of {self.emitted}"
            self.answered = True


class Replay:
    """Runs the calls of one session by a list of actions."""

    def __init__(self, client: Legacy, work: list[Work]) -> None:
        self.client, self.work = client, work

    async def start(self, work: Work) -> None:
        message = call("work", work.key + 100, f"t{work.key}", key=work.key)
        work.reader = await work.stack.enter_async_context(self.client.posting(message))
        assert work.reader.status == 200
        await self.read(work, 1)

    async def read(self, work: Work, count: int) -> None:
        """Read up to `count` of the messages that the tool has emitted."""
        target = min(work.seen + count, work.emitted)
        while work.reader is not None and not work.answered and (work.seen < target or count > 500):
            event = await work.reader.next_event()
            if event is None:  # the connection was replaced, or the store failed: the client has to resume
                work.reader = None
                return
            work.read(event)

    async def resume(self, work: Work) -> None:
        if work.refused:
            return
        stream = await work.stack.enter_async_context(self.client.get_stream(work.last_id))
        if stream.status == 400:
            work.refused, work.reader = True, None
        elif stream.status == 204:
            work.reader = None
            assert work.answered, "204 before all was read"
        else:
            assert stream.status == 200
            work.reader = stream

    async def do(self, action: str, work: Work, amount: int) -> None:
        if action == "emit" and not work.ended:
            for _ in range(amount):
                work.emitted += 1
                work.orders.put_nowait(work.emitted)
        elif action == "end" and not work.ended:
            work.ended = True
            work.orders.put_nowait(None)
        elif action == "read":
            await self.read(work, amount)
        elif action in ("rst", "fin") and work.reader is not None:
            if action == "rst":
                work.reader.abort()
            else:
                await work.reader.close()
            work.reader = None
        elif action == "resume" and work.last_id:
            await self.resume(work)  # the connection that reads now is not closed
        elif action == "race" and work.last_id and not work.refused:
            first = asyncio.ensure_future(self.follow(work.last_id, work.seen, work.key))
            await asyncio.sleep(0)
            await self.resume(work)
            await first

    async def follow(self, last_id: str, seen: int, key: int) -> None:
        """Resume as the other client of a race: it gets the next events in order until the server ends its stream."""
        async with self.client.get_stream(last_id) as stream:
            if stream.status != 200:
                return
            with anyio.move_on_after(SOON):
                while (event := await stream.next_event()) is not None:
                    if event.data and "method" in (message := event.json()):
                        assert message["params"] == {"progressToken": f"t{key}", "progress": seen + 1}
                        seen += 1

    async def settle(self, work: Work) -> None:
        """Read to the end, and resume the stream as often as necessary."""
        if not work.ended:
            await self.do("end", work, 0)
        for _ in range(40):
            if work.answered or work.refused:
                break
            if work.reader is None:
                await self.resume(work)
            await self.read(work, 1000)
        assert work.answered or work.refused
        await work.stack.aclose()


async def replay(store: MemoryEventStore, revision: str, script: list[tuple[str, int, int]], calls: int) -> list[Work]:
    work = [Work(key) for key in range(calls)]

    async def tool(ctx: Context, key: int) -> str:
        await ctx.report_progress(1)
        while (number := await work[key].orders.get()) is not None:
            await ctx.report_progress(number)
        return f"done {key}"

    with anyio.fail_after(20):
        async with listening(Tools(work=tool), port=0, event_store=store) as server:
            async with Legacy(server.port, revision) as client:
                client.check = False
                run = Replay(client, work)
                for one in work:
                    await run.start(one)
                for action, key, amount in script:
                    await run.do(action, work[key % calls], amount)
                for one in work:
                    await run.settle(one)
                for one in work:  # all is read: 204 keeps the client from reconnecting
                    if not isinstance(store, FailingStore):
                        async with client.get_stream(one.last_id) as stream:
                            assert stream.status == 204
    return work


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["emit", "emit", "emit", "read", "read", "rst", "fin", "resume", "resume", "race", "end"]),
        st.integers(0, 2),
        st.integers(1, 5),
    ),
    max_size=30,
)
PROPERTY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@PROPERTY
@given(script=ACTIONS, revision=st.sampled_from(LEGACY_HTTP), calls=st.integers(1, 3))
def test_each_event_comes_once_and_in_order_wherever_the_connection_is_cut(
    script: list[tuple[str, int, int]], revision: str, calls: int
) -> None:
    work = asyncio.run(replay(MemoryEventStore(), revision, script, calls))
    assert not any(one.refused for one in work)


@pytest.mark.long
@PROPERTY
@given(
    script=ACTIONS,
    revision=st.sampled_from(LEGACY_HTTP),
    calls=st.integers(1, 3),
    before=st.sampled_from([0, 2, 50, 200]),
    after=st.sampled_from([0, 2, 50, 200, 400]),
)
def test_a_store_that_takes_its_time_loses_nothing_and_repeats_nothing(
    script: list[tuple[str, int, int]], revision: str, calls: int, before: int, after: int
) -> None:
    work = asyncio.run(replay(SlowStore(before, after), revision, script, calls))
    assert not any(one.refused for one in work)


@pytest.mark.long
@PROPERTY
@given(script=ACTIONS, calls=st.integers(1, 3), good=st.integers(0, 20))
def test_a_store_that_fails_midway_leaves_no_gap_and_no_call_unanswered(
    script: list[tuple[str, int, int]], calls: int, good: int
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(replay(FailingStore(good), wire.D, script, calls))
    finally:
        logging.disable(logging.NOTSET)


async def left_after_two(client: Legacy, steps: Steps) -> str:
    """Read "1" and "2" of a call, close the connection, and give the id of "1"."""
    steps.say("1", "2")
    async with client.posting(call("steps")) as stream:
        assert said(await stream.next_message()) == "1"
        last_id = stream.seen[-1].id
        assert said(await stream.next_message()) == "2"
    return last_id


@pytest.mark.anyio
async def test_an_event_that_is_kept_before_its_writer_knows_comes_once() -> None:
    steps, store = Steps(), GatedStore()
    async with served(Tools(steps=steps), event_store=store) as client:
        steps.say("1", "2")
        async with client.posting(call("steps")) as stream:
            assert said(await stream.next_message()) == "1"
            last_id = stream.seen[-1].id
            assert said(await stream.next_message()) == "2"
            stream.abort()
        store.hold()
        steps.say("3")
        with anyio.fail_after(LIMIT):
            await store.kept.wait()
        async with client.get_stream(last_id, in_reply_to="tools/call") as stream:
            assert said(await stream.next_message()) == "2"
            store.gate.set()
            steps.say(None)
            assert await rest(stream) == ["3", "done"]


@pytest.mark.anyio
async def test_of_two_resumes_that_race_the_newest_reads_and_the_other_ends_cleanly() -> None:
    steps, store = Steps(), GatedStore()
    async with (
        listening(Tools(steps=steps), port=0, event_store=store) as server,
        Legacy(server.port, wire.D) as client,
    ):
        last_id = await left_after_two(client, steps)
        store.replays.clear()
        headers = {**client.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": last_id}
        async with client.client() as first, client.client() as second:
            await first.send_request("GET", "/mcp", headers)
            with anyio.fail_after(LIMIT):
                await store.replaying.wait()
            store.replaying.clear()
            await second.send_request("GET", "/mcp", headers)
            with anyio.fail_after(LIMIT):
                await store.replaying.wait()
            store.replays.set()
            steps.say(None)
            assert await rest(await second.receive_stream()) == ["2", "done"]
            overtaken = await first.receive()
            # the id of the event lets the client resume the stream where it was, and not open a new one
            assert (overtaken.status, [(e.id, e.data) for e in overtaken.events()]) == (200, [(last_id, "")])


@pytest.mark.anyio
async def test_a_resume_beside_a_dead_connection_that_is_full_gets_everything() -> None:
    count, emitted = 500, 0

    async def pour(ctx: Context) -> str:
        nonlocal emitted
        for number in range(count):
            await ctx.info(f"{number} {PORT_FILLER}")
            emitted += 1
        return "done"

    store = MemoryEventStore(max_session_bytes=64 * 1024 * 1024, max_stream_events=1_000)
    async with served(Tools(pour=pour, echo=echo), event_store=store) as client:
        async with client.posting(call("pour")) as dead:
            prime = await dead.next_event()
            assert prime is not None and prime.data == ""
            # the client reads no more and does not close, so the writes of the server pile up
            assert await stalled(client, lambda: emitted) < count
            async with client.get_stream(prime.id, in_reply_to="tools/call") as stream:
                heard = [str(one).partition(" ")[0] for one in await rest(stream)]
            dead.abort()
    assert heard == [*map(str, range(count)), "done"]


async def stalled(client: Legacy, count: Callable[[], int]) -> int:
    """Call `echo` until `count` stands still; each call is answered at once."""
    before, same = -1, 0
    with anyio.fail_after(LIMIT):
        while same < 15:
            message, _ = await client.call("tools/call", {"name": "echo"})
            assert message["result"]["content"][0]["text"] == "echo"
            same = same + 1 if count() == before else 0
            before = count()
    return before


@pytest.mark.long
@pytest.mark.anyio
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_a_reader_that_does_not_read_stops_its_own_call_and_no_other(revision: str) -> None:
    emitted = 0

    async def pour(ctx: Context) -> str:
        nonlocal emitted
        for _ in range(2_000):
            await ctx.info(PORT_FILLER)
            emitted += 1
        return "done"

    async with served(Tools(pour=pour, echo=echo), revision=revision) as client:
        async with client.posting(call("pour")) as stream:
            assert stream.status == 200
            # the call has 120 MB to send, but only `write_high` and the buffers of the kernel wait for the client
            assert await stalled(client, lambda: emitted) * len(PORT_FILLER) < 24_000_000
            stream.abort()


@pytest.mark.long
@pytest.mark.anyio
async def test_notices_for_a_reader_that_does_not_read_do_not_pile_up() -> None:
    uri = "test://" + PORT_FILLER
    handler = Tools(echo=echo)
    async with served(handler, **narrow()) as client, Narrow(client.port) as connection:
        assert (await client.call("resources/subscribe", {"uri": uri})).result == {}
        stream = await connection.open_stream("GET", "/mcp", {**client.headers_for(None), "Accept": SSE_TYPE})
        for _ in range(40):
            for _ in range(50):
                handler.notify_resource_updated(uri)
            await stalled_echo(client)
        heard = 0
        handler.notify_tools_changed()
        while (message := await stream.next_message())["method"] != "notifications/tools/list_changed":
            assert message == updated(uri)
            heard += 1
        assert 1 <= heard <= 4, "what was on its way when it stalled, and once more: 2,000 were announced, in 40 turns"


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["overtaken", "gone"])
async def test_a_reader_that_stalls_in_its_history_keeps_nobody_from_it(why: str) -> None:
    steps, count = Steps(), 30
    store = MemoryEventStore(max_session_bytes=64 * 1024 * 1024)
    async with served(Tools(steps=steps, echo=echo), event_store=store, **narrow()) as client:
        steps.say(*(f"{number} {PORT_FILLER}" for number in range(count)))
        async with client.posting(call("steps")) as stream:
            prime = await stream.next_event()
            assert prime is not None and prime.data == ""
            for _ in range(count):
                await stream.next_message()
        await gone(client.server, 0)
        async with Narrow(client.port) as connection:
            headers = {**client.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": prime.id}
            slow = await connection.open_stream("GET", "/mcp", headers)
            await stalled_echo(client)  # the buffers of the slow client are full now, and hold a part of the events
            if why == "gone":
                slow.abort()
                await gone(client.server, 0)
            async with client.get_stream(prime.id, in_reply_to="tools/call") as stream:
                heard = [said(await stream.next_message()).partition(" ")[0] for _ in range(count)]
                assert heard == [*map(str, range(count))]
                if why == "overtaken":
                    early = [one.partition(" ")[0] for one in await rest(slow)]
                    assert early == heard[: len(early)] and len(early) < 5, "cut, cleanly, and with no gap before"
                steps.say(None)
                assert await rest(stream) == ["done"]


async def stalled_echo(client: Legacy) -> None:
    message, _ = await client.call("tools/call", {"name": "echo"})
    assert message["result"]["content"][0]["text"] == "echo"


RESUMES = 20  # at most; where the machine stands still for the time limit, a reader that does read is cut as well


@pytest.mark.anyio
async def test_after_the_write_timeout_only_the_connection_goes_and_the_rest_can_be_resumed() -> None:
    count = 250

    async def pour(ctx: Context) -> str:
        for number in range(count):
            await ctx.info(f"{number} {PORT_FILLER}")
        return "done"

    store = MemoryEventStore(max_session_bytes=64 * 1024 * 1024)
    options = {"event_store": store, "write_timeout": 0.2}
    async with served(Tools(pour=pour), **options) as client:
        heard: list[str] = []

        async def hear(stream: Stream) -> None:
            while (message := await stream.next_message()) is not None:
                heard.append(said(message).partition(" ")[0])

        async with client.posting(call("pour")) as stream:
            writer = stream._client.writer
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            with anyio.fail_after(LIMIT):
                while client.server.connections:
                    await anyio.lowlevel.checkpoint()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with pytest.raises((AssertionError, OSError)):  # the connection is cut in the middle of an event
                await hear(stream)
            assert len(heard) < count
            last_id = stream.seen[-1].id
        for _ in range(RESUMES):
            async with client.get_stream(last_id, in_reply_to="tools/call") as stream:
                with suppress(Closed):
                    await hear(stream)
            if "done" in heard:
                break
            last_id = stream.seen[-1].id if stream.seen else last_id
    assert heard == [*map(str, range(count)), "done"]


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet")
async def test_a_store_that_is_away_makes_a_resume_wait_and_not_fail_for_ever() -> None:
    steps, store = Steps(), GatedStore()
    async with (
        listening(Tools(steps=steps), port=0, event_store=store) as server,
        Legacy(server.port, wire.D) as client,
    ):
        last_id = await left_after_two(client, steps)
        store.away = True
        async with client.get_stream(last_id) as stream:
            assert (stream.status, stream.headers["retry-after"]) == (503, "1")
        store.away = False
        steps.say(None)
        async with client.get_stream(last_id, in_reply_to="tools/call") as stream:
            assert await rest(stream) == ["2", "done"]


@pytest.mark.anyio
async def test_a_stream_closed_while_its_store_is_slow_stays_closed() -> None:
    steps, store = Steps(), GatedStore()
    async with (
        listening(Tools(steps=steps), port=0, event_store=store) as server,
        Legacy(server.port, wire.D) as client,
    ):
        steps.say("1")
        async with client.posting(call("steps", id=7)) as stream:
            assert said(await stream.next_message()) == "1"
            last_id = stream.seen[-1].id
            assert steps.ctx is not None
            store.hold()
            late = asyncio.ensure_future(steps.ctx.info("late"))  # other tasks of the same call
            later = asyncio.ensure_future(steps.ctx.info("later"))  # waits until the store has kept "late"
            with anyio.fail_after(LIMIT):
                await store.kept.wait()
            assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
            assert await rest(stream) == []
            store.gate.set()
            await late
            await later
        async with client.get_stream(last_id) as stream:
            assert await rest(stream) == ["late"], "and it ends there"
            newest = stream.seen[-1].id
        async with client.get_stream(newest) as stream:
            assert stream.status == 204


# --- the session's own stream ---------------------------------------------------------------------------------------


async def methods(stream: Stream, count: int) -> list[str]:
    return [(await stream.next_message())["method"] for _ in range(count)]


CHANGED = ["notifications/tools/list_changed", "notifications/prompts/list_changed"]


@pytest.mark.anyio
@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_what_nobody_read_waits_once_for_the_next_reader(revision: str, replay: bool) -> None:
    handler = Tools()
    async with served(handler, revision=revision, replay=replay) as client:
        for _ in range(5):
            handler.notify_tools_changed()
            handler.notify_prompts_changed()
        async with client.get_stream() as stream:
            assert await methods(stream, 2) == CHANGED
            assert all((event.id is not None) == replay for event in stream.seen)
            handler.notify_tools_changed()  # the first notice is read by now, so this one is sent again
            assert await methods(stream, 1) == CHANGED[:1]
            handler.notify_resources_changed()
            assert await methods(stream, 1) == ["notifications/resources/list_changed"]


@pytest.mark.anyio
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_the_newest_get_takes_over_and_inherits_what_waits(revision: str) -> None:
    handler = Tools(echo=echo)
    async with served(handler, revision=revision) as client:
        async with client.get_stream() as old:
            handler.notify_tools_changed()
            assert await methods(old, 1) == CHANGED[:1]
            async with client.get_stream() as new:
                assert new.status == 200
                assert await old.next_message() is None, "the old one ends cleanly, and is told nothing more"
                handler.notify_prompts_changed()
                assert await methods(new, 1) == CHANGED[1:]
        await stalled_echo(client)  # after this, the server knows that no client reads
        handler.notify_tools_changed()
        async with client.get_stream() as third:
            assert await methods(third, 1) == CHANGED[:1]


@pytest.mark.anyio
async def test_a_reader_that_makes_no_claim_gets_what_is_left() -> None:
    handler = Tools()
    uris = [f"test://{n}" for n in range(10)]
    store = MemoryEventStore(max_stream_events=4)
    async with served(handler, event_store=store) as client:
        for uri in uris:
            assert (await client.call("resources/subscribe", {"uri": uri})).result == {}
        for uri in uris:
            handler.notify_resource_updated(uri)
        async with client.get_stream() as stream:
            assert [await stream.next_message() for _ in range(4)] == [updated(uri) for uri in uris[6:]]
            handler.notify_resource_updated(uris[0])
            assert await stream.next_message() == updated(uris[0])


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet")
async def test_notices_that_come_when_the_store_has_failed_wait_all_the_same() -> None:
    handler = Tools()
    async with served(handler, event_store=FailingStore(1)) as client:
        handler.notify_tools_changed()
        handler.notify_prompts_changed()
        handler.notify_resources_changed()
        async with client.get_stream() as stream:
            assert await methods(stream, 2) == [CHANGED[1], "notifications/resources/list_changed"]
            assert [event.id for event in stream.seen] == [None, None], "and nobody is promised a replay"


@pytest.mark.anyio
async def test_a_stream_whose_connection_is_lost_tells_the_call_and_goes_on() -> None:
    steps = Steps()
    async with served(Tools(steps=steps)) as client:
        steps.say("1")
        async with client.posting(call("steps")) as stream:
            assert said(await stream.next_message()) == "1"
            assert steps.ctx is not None and not steps.ctx.disconnected.is_set()
            stream.abort()
        with anyio.fail_after(LIMIT):
            await steps.ctx.disconnected.wait()
        assert not steps.cancelled.is_set()
        steps.say(None)
        async with client.get_stream(stream.seen[-1].id, in_reply_to="tools/call") as stream:
            assert await rest(stream) == ["done"]


# --- a reader that is slower than its history -------------------------------------------------------------------------


class LateStore(GatedStore):
    """A store that replays the events which it had at the time of the request."""

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        if self.away:
            raise OSError("the store is away")
        events = await MemoryEventStore.replay(self, session_id, stream_id, after)
        self.replaying.set()
        await self.replays.wait()
        return events


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("why", ["evicted", "away", "nothing"])
async def test_a_reader_is_caught_up_or_ended_but_never_given_a_gap(why: str) -> None:
    steps, store = Steps(), LateStore()
    store._max_events = 3
    async with served(Tools(steps=steps, echo=echo), event_store=store) as client, client.client() as connection:
        last_id = await left_after_two(client, steps)
        await stalled_echo(client)
        store.replays.clear()
        headers = {**client.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": last_id}
        await connection.send_request("GET", "/mcp", headers)
        with anyio.fail_after(LIMIT):
            await store.replaying.wait()
        more = [str(n) for n in range(3, 9 if why == "evicted" else 4)]
        steps.say(*more)
        with anyio.fail_after(LIMIT):
            while not steps.orders.empty():
                await stalled_echo(client)
        await stalled_echo(client)
        store.away = why == "away"
        store.replays.set()
        stream = await connection.receive_stream()
        assert said(await stream.next_message()) == "2"
        if why == "nothing":
            steps.say(None)
            assert await rest(stream) == ["3", "done"]
            return
        assert await rest(stream) == []
        store.away = False
        steps.say(None)
        async with client.get_stream(stream.seen[-1].id, in_reply_to="tools/call") as stream:
            if why == "evicted":
                assert stream.status == 400
            else:
                assert await rest(stream) == ["3", "done"]


class Careless(MemoryEventStore):
    """A store in which `finish` and `discard` fail."""

    async def finish(self, session_id: str, stream_id: str) -> None:
        raise OSError("no")

    async def discard(self, session_id: str, stream_id: str | None = None) -> None:
        raise OSError("no")


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet")
async def test_a_store_that_cannot_let_go_fails_no_request() -> None:
    steps = Steps()
    async with served(Tools(steps=steps), event_store=Careless()) as client:
        steps.say("1")
        async with client.posting(call("steps", id="c")) as stream:
            assert said(await stream.next_message()) == "1"
            assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
            assert await rest(stream) == []
        steps.say("2", None)
        async with client.posting(call("steps")) as stream:
            assert await rest(stream) == ["2", "done"]
        assert (await client.delete()).status == 204


# --- readers that leave, or are overtaken, while the store is asked --------------------------------------------------


class HeldStore(MemoryEventStore):
    """A store that replays the events of the time of the request, as soon as the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        events = await super().replay(session_id, stream_id, after)
        go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(go)
        await go
        return events

    async def next(self) -> asyncio.Future[None]:
        with anyio.fail_after(LIMIT):
            return await self.asked.get()


@asynccontextmanager
async def reading(steps: Steps, store: MemoryEventStore) -> AsyncIterator[tuple[Client, Stream, RawClient]]:
    """A client that has read "1" and "2" and still reads, and a connection that asks for the events after "1"."""
    async with served(Tools(steps=steps, echo=echo), event_store=store) as client:
        steps.say("1", "2")
        async with client.posting(call("steps")) as stream, client.client() as second:
            assert [said(await stream.next_message()) for _ in range(2)] == ["1", "2"]
            await second.send_request("GET", "/mcp", resuming(client, stream.seen[-2].id))
            yield client, stream, second


def resuming(client: Client, last_id: str | None) -> dict[str, str | None]:
    return {**client.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": last_id}


@pytest.mark.anyio
async def test_who_leaves_before_its_history_is_there_takes_nothing_over() -> None:
    steps, store = Steps(), HeldStore()
    async with reading(steps, store) as (client, stream, second):
        go = await store.next()
        connections = len(client.server.connections)
        second.abort()
        await gone(client.server, connections - 1)
        go.set_result(None)
        await stalled_echo(client)
        steps.say("3", None)
        assert await rest(stream) == ["3", "done"], "the one that reads goes on"


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("why", ["overtaken", "overtaken, and the store fails", "gone"])
async def test_who_is_overtaken_in_its_history_ends_and_the_newest_goes_on(why: str) -> None:
    steps, store = Steps(), HeldStore()
    async with reading(steps, store) as (client, stream, second):
        go = await store.next()
        steps.say("3")
        assert said(await stream.next_message()) == "3"
        last_id = stream.seen[-3].id
        go.set_result(None)
        go = await store.next()  # for "3", which was not in the store at the first request
        old = await second.receive_stream()
        assert said(await old.next_message()) == "2"
        assert await rest(stream) == []
        if why == "gone":
            connections = len(client.server.connections)
            second.abort()
            await gone(client.server, connections - 1)
        async with client.client() as third:
            await third.send_request("GET", "/mcp", resuming(client, last_id))
            (await store.next()).set_result(None)
            new = await third.receive_stream()
            assert [said(await new.next_message()) for _ in range(2)] == ["2", "3"]
            if why == "overtaken, and the store fails":
                go.set_exception(OSError("the store is away"))
            else:
                go.set_result(None)
            if why != "gone":
                assert await rest(old) == []
            await stalled_echo(client)
            steps.say("4", None)
            assert await rest(new) == ["4", "done"]


@pytest.mark.anyio
async def test_what_a_reader_that_left_was_not_given_waits_for_the_next() -> None:
    handler, store = Tools(), HeldStore()
    async with served(handler, event_store=store) as client, client.client() as connection:
        handler.notify_tools_changed()
        assert (await client.call("ping")).result == {}
        await connection.send_request("GET", "/mcp", resuming(client, None))
        go = await store.next()
        handler.notify_prompts_changed()
        assert (await client.call("ping")).result == {}
        go.set_result(None)
        go = await store.next()  # for the second notice, which was not in the store at the first request
        assert await methods(await connection.receive_stream(), 1) == CHANGED[:1]
        connection.abort()
        await gone(client.server, 0)
        go.set_result(None)
        async with client.client() as second:
            await second.send_request("GET", "/mcp", resuming(client, None))
            (await store.next()).set_result(None)
            assert await methods(await second.receive_stream(), 1) == CHANGED[1:]


@pytest.mark.anyio
async def test_what_a_reader_that_stalled_was_not_given_waits_for_the_next() -> None:
    handler = Tools(echo=echo)
    uris = [f"test://{number}/{'x' * 80_000}" for number in range(3)]  # each is more than a stalled reader takes
    async with served(handler, **{**narrow(), "write_high": 1024}) as client:
        for uri in uris:
            assert (await client.call("resources/subscribe", {"uri": uri})).result == {}
            handler.notify_resource_updated(uri)
        await stalled_echo(client)
        async with Narrow(client.port) as connection:
            slow = await connection.open_stream("GET", "/mcp", resuming(client, None))
            await stalled_echo(client)
            slow.abort()
            await gone(client.server, 0)
        async with client.get_stream() as stream:
            assert [await stream.next_message() for _ in uris[1:]] == [updated(uri) for uri in uris[1:]]


@pytest.mark.anyio
async def test_a_stream_that_ends_before_its_first_event_was_kept_is_primed_and_over() -> None:
    steps, store = Steps(), GatedStore()
    async with served(Tools(steps=steps), event_store=store) as client, client.client() as connection:
        store.hold()
        steps.say("1")
        await connection.send_request("POST", "/mcp", client.headers_for(None), encode(call("steps", id=7)))
        with anyio.fail_after(LIMIT):
            await store.kept.wait()
        assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
        response = await connection.receive("POST")
        assert (response.status, response.content_type, response.messages()) == (200, SSE_TYPE, [])
        (prime,) = response.events()
        assert prime.id and prime.retry
        async with client.get_stream(prime.id) as stream:
            assert stream.status == 204


@pytest.mark.anyio
async def test_a_stream_that_is_not_kept_ends_when_its_call_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps()
    async with served(Tools(steps=steps), replay=False) as client:
        steps.say("1")
        async with client.posting(call("steps", id=7)) as stream:
            assert said(await stream.next_message()) == "1"
            assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
            assert await rest(stream) == []
        assert [event.id for event in stream.seen] == [None]
    assert not heard(caplog)


@pytest.mark.anyio
async def test_who_leaves_while_the_answer_is_being_kept_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store = GatedStore()
    async with served(Tools(echo=echo), event_store=store) as client, client.client() as connection:
        store.hold()
        headers = {**client.headers_for(None), "Accept": SSE_TYPE}
        await connection.send_request("POST", "/mcp", headers, encode(call("echo")))
        with anyio.fail_after(LIMIT):
            await store.kept.wait()
        connection.abort()
        await gone(client.server, 0)
        store.gate.set()
        await stalled_echo(client)
        assert (await client.delete()).status == 204
    assert not heard(caplog)


@pytest.mark.anyio
async def test_notices_that_no_client_reads_are_remembered_up_to_a_limit() -> None:
    def notice(number: int) -> bytes:
        return encode(updated(f"test://{number}"))

    async with served(Tools(), replay=False) as client:
        (session,) = client.server.endpoint.legacy.sessions.values()
        for number in range(MAX_STREAM_EVENTS):
            session.announce(notice(number))
            session.announce(notice(number))  # known already
        pending = session.standalone.pending_notices
        await turns()
        assert (len(pending), session.standalone.last) == (MAX_STREAM_EVENTS, MAX_STREAM_EVENTS)
        session.announce(notice(MAX_STREAM_EVENTS))
        assert len(pending) == MAX_STREAM_EVENTS and notice(0) not in pending
        await turns()
        async with client.get_stream() as stream:
            for number in range(1, MAX_STREAM_EVENTS + 1):
                assert await stream.next_message() == updated(f"test://{number}")
            assert not session.standalone.pending_notices
