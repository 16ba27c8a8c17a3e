# SPDX-License-Identifier: MIT
"""Answers of the store about a record that come after the worker has noticed a loss of data: they are of before it."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Roaming, Workers, fleet, lose_memory, roaming, session_at, until, until_told
from late_answers import late_answer, late_read
from rawclient import Stream
from serving import Held, turns

from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub, MemoryRecords, MemoryStore

pytestmark = pytest.mark.anyio

TOOLS, PROMPTS, RESOURCES = (f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


def sharing(hub: Hub, count: int = 2) -> Any:
    return fleet(Held, lambda: MemoryStore(hub), count=count)


async def until_one_id(workers: Workers, client: Roaming, before: str) -> None:
    """All workers know the session's own stream by one new id, and their records are kept."""
    sessions = [session_at(worker, client) for worker in workers.servers]
    await until(lambda: all(one.version for one in sessions))
    await until(lambda: len({one.state.stream for one in sessions} - {before}) == 1)


async def next_of(stream: Stream, method: str) -> tuple[str, int]:
    name, _, index = (await until_told(stream, method)).id.rpartition(".")
    return name, int(index)


async def test_a_record_that_was_kept_before_the_next_loss_gives_the_stream_no_other_id_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client would be given ids that it has had: those of the stream to which the worker comes back later."""
    hub = Hub()
    async with sharing(hub) as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        first, second = (worker.runtime.fleet for worker in workers.servers)
        before = session_at(workers[0], client).state.stream
        async with client.at(workers[0]).get_stream() as stream:
            late = late_answer(monkeypatch, workers[0], "create")
            lose_memory(hub)
            assert await first.lost_data()
            await late.come()
            lose_memory(hub)
            assert await second.lost_data()
            await until_one_id(workers, client, before)
            await until(lambda: not session_at(workers[0], client).unsaved_streams)
            workers.handlers[0].notify_tools_changed()
            name, index = await next_of(stream, TOOLS)
            late.go_on.set()
            await turns()
            workers.handlers[0].notify_prompts_changed()
            assert await next_of(stream, PROMPTS) > (name, index)
            assert session_at(workers[0], client).own_stream.id == name


async def test_a_record_of_another_worker_that_was_read_before_the_next_loss_counts_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    async with sharing(hub) as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("resources/subscribe", {"uri": "test://it"})
        one, other = (session_at(worker, client) for worker in workers.servers)
        before = one.state.stream
        create, refused = MemoryRecords.create, asyncio.Event()

        async def after_the_other(records: Any, space: str, *rest: Any, **options: Any) -> int | None:
            own = records is workers[0].runtime.fleet.store._store.records and space.endswith(" session")
            if own and not refused.is_set():
                await until(lambda: other.state.stream != before)
            version = await create(records, space, *rest, **options)
            if own and version is None:
                refused.set()
            return version

        monkeypatch.setattr(MemoryRecords, "create", after_the_other)
        late = late_answer(monkeypatch, workers[0], "load", refused.is_set)
        lose_memory(hub)
        assert await workers[0].runtime.fleet.lost_data()
        await late.come()
        between = other.state.stream
        lose_memory(hub)
        assert await workers[1].runtime.fleet.lost_data()
        await until_one_id(workers, client, before)
        name = one.state.stream
        assert name != between
        late.go_on.set()
        await turns()
        assert one.state.stream == other.state.stream == name
        record = await workers[0].runtime.fleet.records.load("session", key_of(client.session))
        assert record is not None and name.encode() in record.value and record.version == one.version


@pytest.mark.parametrize("first", ["the client has its stream", "the worker knows the id"])
async def test_a_stream_that_is_resumed_before_its_worker_knows_its_new_id_is_to_be_resumed_again(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The worker takes it for the stream of a call at another worker, and writes no notice of its own into it."""
    hub = Hub()
    async with sharing(hub) as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        one, other = (session_at(worker, client) for worker in workers.servers)
        before = one.state.stream
        own = one.standalone
        records = [late_answer(monkeypatch, workers[0], name) for name in ("create", "load")]
        lose_memory(hub)
        assert await workers[1].runtime.fleet.lost_data()
        await until(lambda: other.state.stream != before and other.version)
        async with client.at(workers[1]).get_stream() as stream:
            workers.handlers[1].notify_tools_changed()
            last = (await until_told(stream, TOOLS)).id
        reader = workers[0].runtime.fleet.worker
        log = late_read(monkeypatch, lambda _, by: by == reader)
        ended = asyncio.Event()

        async def resume() -> None:
            async with client.at(workers[0]).get_stream(last) as resumed:
                assert resumed.status == (200 if first == "the client has its stream" else 503)
                while await resumed.next_event(LIMIT) is not None:
                    pass
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(resume)
            await log.come()
            async with own.lock:
                assert own.id == one.state.stream == before, "the worker is to hear of it later"
                for late in records:
                    late.go_on.set()
                await until(lambda: one.state.stream == other.state.stream)
                if first == "the client has its stream":
                    log.go_on.set()
                    await until(lambda: any(known.reply is not None for known in one.streams.values()))
            await until(lambda: own.id == other.state.stream)
            log.go_on.set()
            with anyio.fail_after(LIMIT):
                await ended.wait()
        workers.handlers[0].notify_prompts_changed()
        async with client.at(workers[0]).get_stream(last) as resumed:
            await until_told(resumed, PROMPTS)


async def test_a_change_that_was_saved_before_a_loss_is_saved_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of before the loss would stand for a record that is gone: the session would end at the next look."""
    hub, create, tries = Hub(), MemoryRecords.create, []

    async def fail_once(records: Any, space: str, *rest: Any, **options: Any) -> int | None:
        if space.endswith(" session"):
            tries.append(space)
            if len(tries) == 1:
                raise StoreError("it is away once more")
        return await create(records, space, *rest, **options)

    async with sharing(hub, count=1) as workers, roaming(workers[0]) as client:
        own = workers[0].runtime.fleet
        late = late_answer(monkeypatch, workers[0], "save")
        setting = asyncio.ensure_future(client.call("logging/setLevel", {"level": "debug"}))
        await late.come()
        monkeypatch.setattr(MemoryRecords, "create", fail_once)
        lose_memory(hub)
        assert await own.lost_data()
        await until(lambda: len(tries) == 1)
        late.go_on.set()
        assert (await setting).result == {}
        record = await own.records.load("session", key_of(client.session))
        assert record is not None and b"debug" in record.value
        own.on_missed()  # as after each new connection
        await turns()
        assert (await client.call("ping")).result == {}


async def test_a_session_that_begins_as_the_store_loses_its_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record may be gone, and no worker has the session at hand that could keep it anew."""
    hub = Hub()
    async with sharing(hub) as workers:
        client = Roaming(workers[0].port, "2025-11-25")
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "n", "version": "1"}}
        late = late_answer(monkeypatch, workers[0], "create")
        asked = asyncio.ensure_future(client.post(client.request("initialize", params)))
        await late.come()
        lose_memory(hub)
        assert await workers[0].runtime.fleet.lost_data()
        late.go_on.set()
        refused = await asked
        assert refused.status == 503 and refused.headers["retry-after"]
        await client.initialize()
        assert (await client.at(workers[1]).call("ping")).result == {}
