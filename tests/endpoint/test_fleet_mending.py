# SPDX-License-Identifier: MIT
"""Workers that keep sessions and streams anew after a loss, and meet another change, another loss or a slow answer."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Roaming, fleet, lose_memory, roaming, session_at, until, until_told, vanish
from late_answers import late_read
from moody import Mood, MoodyStore, failing
from rawclient import SSE_TYPE
from serving import Held, call, turns

from mcp_h11.endpoint import fleet_links, fleet_streams
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import ALIVE_TIME, StoreError
from mcp_h11.stores.memory import Hub, MemoryRecords

pytestmark = pytest.mark.anyio

TOOLS, PROMPTS, RESOURCES = (f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


class Moods:
    """A fleet of two workers, whose ends of the store have a mood each."""

    def __init__(self, **options: Any) -> None:
        self.hub = Hub()
        self.moods = [Mood(), Mood()]
        self.options = options

    def fleet(self) -> Any:
        stores = iter([MoodyStore(self.hub, mood) for mood in self.moods])
        return fleet(Held, lambda: next(stores), count=2, **self.options)


async def asked_for(client: Roaming, raw: Any, event: str | None) -> None:
    """Send a GET, and do not wait for the answer."""
    heads = {**client.headers_for(None), "Accept": SSE_TYPE, "Content-Type": None}
    await raw.send_request("GET", client.path, {**heads, "Last-Event-ID": event})


# --- sessions ---------


async def test_the_log_level_that_a_client_set_while_the_store_was_away_outlives_a_loss() -> None:
    """The worker that has it finds the record of another one, which knows only the level of before."""
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        at.moods[1].of = failing("save", "create")
        assert (await client.call("logging/setLevel", {"level": "debug"})).result == {}
        lose_memory(at.hub)
        assert await workers[0].runtime.fleet.lost_data()
        await until(lambda: session_at(workers[0], client).version > 0)
        at.moods[1].of = None
        one, other = (session_at(server, client) for server in workers.servers)
        await until(lambda: one.state.log_level == other.state.log_level == "debug")
        await until(lambda: one.version == other.version)
        assert one.state.stream == other.state.stream


async def test_a_session_whose_room_newer_ones_took_while_it_was_kept_anew_is_gone() -> None:
    at = Moods(max_sessions=1)
    async with at.fleet() as workers, roaming(workers[0]) as old:
        at.moods[0].of = failing("create", "load")
        lose_memory(at.hub)
        async with roaming(workers[1]) as new:
            at.moods[0].of = None
            assert await workers[0].runtime.fleet.lost_data()
            await until(lambda: old.session not in workers[0].endpoint.legacy.sessions)
            assert (await new.at(workers[0]).call("ping")).result == {}
            assert await workers[1].runtime.fleet.records.count("session") == 1


async def test_a_session_that_ends_while_its_change_waits_for_the_store_is_not_saved_again() -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        at.moods[0].of = failing("save")
        assert (await client.call("logging/setLevel", {"level": "debug"})).result == {}
        stores = workers[0].endpoint.legacy.stores
        assert [one.id for one in stores._unsaved] == [client.session]
        assert (await client.delete()).status == 204
        at.moods[0].of = None
        await until(lambda: workers[0].runtime.fleet.works and not stores._unsaved)
        assert await workers[1].runtime.fleet.records.count("session") == 0


async def test_a_session_that_a_client_deletes_while_a_worker_keeps_it_anew_does_not_come_back() -> None:
    at, reached, go_on = Moods(), asyncio.Event(), asyncio.Event()

    async def is_slow(name: str) -> None:
        if name == "create" and not reached.is_set():
            reached.set()
            await go_on.wait()

    async with at.fleet() as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        lose_memory(at.hub)
        workers[0].runtime.fleet.on_lost.append(lambda: setattr(at.moods[0], "of", is_slow))
        assert await workers[0].runtime.fleet.lost_data()
        with anyio.fail_after(LIMIT):
            await reached.wait()
        assert (await client.delete()).status == 204
        go_on.set()
        deletes = workers[0].runtime.fleet.guard.counters
        await until(lambda: "delete" in deletes)
        await turns()
        assert await workers[1].runtime.fleet.records.count("session") == 0
        assert [server.endpoint.legacy.sessions for server in workers.servers] == [{}, {}]


async def test_a_request_that_finds_the_record_of_a_deleted_session_in_that_moment_does_not_bring_it_back() -> None:
    at, gates = Moods(), {name: (asyncio.Event(), asyncio.Event()) for name in ("create", "delete")}

    async def is_slow(name: str) -> None:
        if name in gates and not gates[name][0].is_set():
            gates[name][0].set()
            await gates[name][1].wait()

    async with at.fleet() as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        session = client.session
        lose_memory(at.hub)
        workers[0].runtime.fleet.on_lost.append(lambda: setattr(at.moods[0], "of", is_slow))
        assert await workers[0].runtime.fleet.lost_data()
        with anyio.fail_after(LIMIT):
            await gates["create"][0].wait()
            gates["delete"][0].set()  # that of the end itself is not slow
            assert (await client.delete()).status == 204
            gates["delete"][0].clear()
            gates["create"][1].set()
            await gates["delete"][0].wait()
            client.session = session
            assert (await client.at(workers[0]).post(client.request("ping"))).status == 200
            gates["delete"][1].set()
            await until(lambda: not workers[0].endpoint.legacy.sessions)
        assert await workers[1].runtime.fleet.records.count("session") == 0


async def test_a_record_that_is_lost_once_more_before_the_second_worker_has_read_it_is_kept_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, create, losses = Moods(), MemoryRecords.create, []

    async def create_and_lose(records: Any, space: str, key: str, *rest: Any, **options: Any) -> int | None:
        made = await create(records, space, key, *rest, **options)
        if made is None and space.endswith(" session") and not losses:
            losses.append(at.hub.spaces[space].pop(key))
        return made

    async with at.fleet() as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("resources/subscribe", {"uri": "test://it"})
        monkeypatch.setattr(MemoryRecords, "create", create_and_lose)
        lose_memory(at.hub)
        assert await workers[0].runtime.fleet.lost_data()
        one, other = (session_at(server, client) for server in workers.servers)
        await until(lambda: len(losses) == 1 and other.version > 0)
        workers[0].runtime.fleet.on_missed()  # as after each new connection
        await until(lambda: one.version == other.version > 0)
        assert one.state.stream == other.state.stream
        assert {*one.state.subscriptions} == {*other.state.subscriptions} == {"test://it"}


# --- streams ---------


async def test_a_client_that_comes_back_while_the_sessions_own_stream_moves_to_another_id_is_asked_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        async with client.get_stream() as stream:
            workers.handlers[0].notify_tools_changed()
            event = (await until_told(stream, TOOLS)).id
        session, one = session_at(workers[0], client), workers[0].runtime.fleet
        name = session.state.stream
        late = late_read(monkeypatch, lambda stream, reader: stream == name and reader is not None)
        async with client.client() as raw:
            await asked_for(client, raw, event)
            await late.come()
            lose_memory(at.hub)
            assert await one.lost_data()
            await until(lambda: session.own_stream.id != name)
            late.go_on.set()
            answer = await raw.receive_stream()
            assert answer.status == 503 and answer.headers["retry-after"]
        async with client.get_stream(event) as again:
            assert again.status == 200
            workers.handlers[0].notify_prompts_changed()
            await until_told(again, PROMPTS)


async def test_a_reader_at_hand_goes_on_where_an_answer_of_the_store_comes_after_the_stream_has_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client, client.get_stream() as stream:
        workers.handlers[0].notify_tools_changed()
        await until_told(stream, TOOLS)
        session, one = session_at(workers[0], client), workers[0].runtime.fleet
        name = session.state.stream
        late = late_read(monkeypatch, lambda stream, reader: stream == name and reader is None)
        one.on_missed()  # so that it looks at the log
        await late.come()
        lose_memory(at.hub)
        assert await one.lost_data()
        await until(lambda: session.own_stream.id != name)
        late.go_on.set()
        workers.handlers[1].notify_prompts_changed()
        event = await until_told(stream, PROMPTS)
        assert event.id.partition(".")[0] == session.state.stream


async def test_a_reader_of_a_stream_whose_session_ends_meanwhile_gets_404(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        async with client.posting(client.request("tools/call", call("stream"), id="s")) as stream:
            event = (await until_told(stream, "notifications/message")).id
        await client.at(workers[1]).call("ping")
        other = workers[1].runtime.fleet.worker
        late = late_read(monkeypatch, lambda _, reader: reader == other)
        async with client.client() as raw:
            await asked_for(client, raw, event)
            await late.come()
            assert (await client.at(workers[0]).delete()).status == 204
            await until(lambda: not workers[1].endpoint.legacy.sessions)
            late.go_on.set()
            assert (await raw.receive_stream()).status == 404
        workers.handlers[0].released.set()


async def test_a_worker_remembers_so_many_late_claims_of_one_session_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_streams, "MAX_LATE_CLAIMS", 2)
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        at.moods[0].of = failing("read")
        for number in range(3):
            async with client.get_stream(f"stream{number}.0") as refused:
                assert refused.status == 503
        assert [*session_at(workers[0], client).late_claims] == ["stream0", "stream1"]


@pytest.mark.parametrize("value", [b"soon", b"9" * 16, b""])
async def test_a_place_of_the_last_reader_that_cannot_be_read_counts_as_none(value: bytes) -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        async with client.get_stream() as stream:
            workers.handlers[0].notify_tools_changed()
            await until_told(stream, TOOLS)
        await until(lambda: any(kept for space, kept in at.hub.spaces.items() if space.endswith(" left")))
        (left,) = (kept for space, kept in at.hub.spaces.items() if space.endswith(" left"))
        left[key_of(client.session)].value = value  # type: ignore[arg-type]
        async with client.at(workers[1]).get_stream() as again:
            assert again.status == 200
            workers.handlers[0].notify_prompts_changed()
            event = await again.next_event(LIMIT)
            while not event.data:  # type: ignore[union-attr]
                event = await again.next_event(LIMIT)
            assert event.json()["method"] == PROMPTS  # type: ignore[union-attr]


async def test_a_store_that_loses_its_data_once_more_while_streams_are_begun_anew_ends_none() -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        losses = 0

        async def loses_more(name: str) -> None:
            nonlocal losses
            if name == "read" and losses < 2:
                losses += 1
                lose_memory(at.hub)

        request = client.request("tools/call", call("stream"), id="s")
        async with client.get_stream() as own, client.posting(request) as stream:
            event = (await until_told(stream, "notifications/message")).id
            lose_memory(at.hub)
            at.moods[0].of = loses_more
            assert await workers[0].runtime.fleet.lost_data()
            session = session_at(workers[0], client)
            await until(lambda: losses == 2 and session.version > 0 and not session.unsaved_streams)
            workers.handlers[0].notify_prompts_changed()
            assert (await until_told(own, PROMPTS)).id
            workers.handlers[0].released.set()
            answer = await stream.next_message(LIMIT)
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as rest:
            assert await rest.next_message(LIMIT) == answer
            assert answer["id"] == "s"


async def test_a_stream_of_a_dead_worker_that_the_store_cannot_end_yet_is_ended_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at = Moods()
    async with at.fleet() as workers, roaming(workers[0]) as client:
        async with client.posting(client.request("tools/call", call("stream"), id="s")) as stream:
            event = (await until_told(stream, "notifications/message")).id
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as rest:
            at.moods[1].of = failing("append")
            vanish(workers[0])
            now = at.hub.clock() + ALIVE_TIME
            at.hub.clock = lambda: now
            await until(lambda: "the stream of a dead worker is not ended yet" in caplog.text)
            at.moods[1].of = None
            answer = await rest.next_message(LIMIT)
            assert answer["id"] == "s" and "is gone" in answer["error"]["message"]
        workers.handlers[0].released.set()


async def test_a_stream_of_a_dead_worker_is_left_alone_when_its_reader_goes_before_it_is_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at, reached, go_on = Moods(), asyncio.Event(), asyncio.Event()

    async def fails_late(name: str) -> None:
        if name == "append":
            reached.set()
            await go_on.wait()
            raise StoreError("away")

    async with at.fleet() as workers, roaming(workers[0]) as client:
        async with client.posting(client.request("tools/call", call("stream"), id="s")) as stream:
            event = (await until_told(stream, "notifications/message")).id
        async with client.at(workers[1]).get_stream(event):
            at.moods[1].of = fails_late
            vanish(workers[0])
            now = at.hub.clock() + ALIVE_TIME
            at.hub.clock = lambda: now
            with anyio.fail_after(LIMIT):
                await reached.wait()
        await until(lambda: not session_at(workers[1], client).streams)
        go_on.set()
        await until(lambda: "the stream of a dead worker is not ended yet" in caplog.text)
        assert not workers[1].runtime.fleet._watched
        # The next reader finds the worker dead, and ends the stream.
        at.moods[1].of = None
        async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as rest:
            answer = await rest.next_message(LIMIT)
            assert answer["id"] == "s" and "is gone" in answer["error"]["message"]
        workers.handlers[0].released.set()


async def test_a_session_that_ends_while_a_worker_looks_again_at_the_others_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_links, "LOOKS_AT_ONCE", 1)
    at, reached, go_on = Moods(), asyncio.Event(), asyncio.Event()

    async def waits(name: str) -> None:
        if name == "load" and not reached.is_set():
            reached.set()
            await go_on.wait()

    async with at.fleet() as workers, roaming(workers[0]) as first, roaming(workers[0]) as second:
        one = workers[0].runtime.fleet
        at.moods[0].of = waits
        loads = one.guard.counters["load"]
        before = loads.operations
        one.on_missed()
        with anyio.fail_after(LIMIT):
            await reached.wait()
        assert [*workers[0].endpoint.legacy.sessions] == [first.session, second.session]
        workers[0].endpoint.legacy.table.end(session_at(workers[0], second), forget=False)
        go_on.set()
        assert (await first.call("ping")).result == {}
        await turns()
        assert loads.operations == before + 1


async def test_a_reader_that_did_not_hear_of_the_end_of_its_session_ends_with_the_call() -> None:
    """The worker that ends the session cannot discard its logs, and the word of the end is lost."""
    moods = Moods()
    async with moods.fleet() as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
        async with client.at(workers[1]).get_stream(first.id, in_reply_to="tools/call") as rest:
            del workers[1].runtime.fleet.on_signal["ended"]
            moods.moods[0].of = failing("discard")
            assert (await client.at(workers[0]).delete()).status == 204
            while await rest.next_event(LIMIT) is not None:
                pass
