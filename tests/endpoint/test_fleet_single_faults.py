# SPDX-License-Identifier: MIT
"""One operation of the store fails, and the rest goes on: clients are told the truth, and the fleet makes up for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from fleets import begun, fleet, messages_of, roaming, said, session_at, until, until_ready, until_told
from moody import Mood, MoodyStore, failing
from serving import Held, turns

from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub, MemoryRecords

pytestmark = pytest.mark.anyio


def moody(mood: Mood, hub: Hub, count: int = 2, **options: Any) -> Any:
    return fleet(Held, lambda: MoodyStore(hub, mood), count=count, **options)


async def test_a_session_that_the_store_cannot_delete_goes_on_and_is_deleted_later() -> None:
    mood = Mood()
    async with moody(mood, Hub(), health=True) as workers, roaming(workers[0]) as client:
        session = client.session
        mood.of = failing("delete")
        refused = await client.delete()
        assert refused.status == 503 and refused.headers["retry-after"]
        mood.of = None
        await until_ready(*workers.servers)
        client.session = session
        for worker in workers.servers:
            assert (await client.at(worker).call("ping")).result == {}
        assert (await client.at(workers[1]).delete()).status == 204
        client.session = session
        for worker in workers.servers:
            assert (await client.at(worker).post(client.request("ping"))).status == 404


async def test_a_stream_that_has_ended_is_204_for_a_client_that_has_all_of_it() -> None:
    """A 204 ends the attempts of a client to come back (HTML Standard, 9.2 Server-sent events); so at each worker."""
    async with moody(Mood(), Hub()) as workers, roaming(workers[0]) as client:
        workers.handlers[0].released.set()
        async with AsyncExitStack() as stack:
            stream, _ = await begun(stack, client, "stream")
            assert len(await messages_of(stream)) == 1
            last = stream.seen[-1].id
        for worker in reversed(workers.servers):
            async with client.at(worker).get_stream(last) as rest:
                assert rest.status == 204 and await messages_of(rest) == []


async def test_a_use_of_a_session_that_the_store_could_not_be_told_is_told_in_the_next_round(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch, told = MemoryRecords.touch, []

    async def fails_once(records: Any, space: str, names: list[str], ttl: float) -> None:
        if "session" in space:
            told.append(list(names))
            if len(told) == 1:
                raise StoreError("away")
        await touch(records, space, names, ttl)

    monkeypatch.setattr(MemoryRecords, "touch", fails_once)
    async with moody(Mood(), Hub(), count=1, session_idle=2.0) as workers, roaming(workers[0]) as client:
        await client.call("ping")
        await until(lambda: len(told) > 1)
        assert told[0] == told[1] == [key_of(client.session)]
        assert said(caplog, "the store was not told which sessions are in use: away") == 1


async def test_a_reader_at_another_worker_gets_the_rest_when_the_store_can_be_read_again() -> None:
    mood = Mood()
    async with moody(mood, Hub(), health=True) as workers, roaming(workers[0]) as client:
        async with AsyncExitStack() as stack:
            _, event = await begun(stack, client, "stream")
            async with client.at(workers[1]).get_stream(event, in_reply_to="tools/call") as rest:
                await until(lambda: event.partition(".")[0] in session_at(workers[1], client).streams)
                mood.of = failing("read")
                workers.handlers[0].released.set()
                await until(lambda: not workers[1].runtime.fleet.works)
                mood.of = None
                answer = (await messages_of(rest))[-1]
                assert answer["id"] == "c" and answer["result"]["content"][0]["text"] == "stream released"


async def test_a_reader_of_notices_that_leaves_while_the_store_fails_is_followed_by_the_next() -> None:
    mood = Mood()
    async with moody(mood, Hub()) as workers, roaming(workers[0]) as client:
        async with client.get_stream() as stream:
            workers.handlers[0].notify_tools_changed()
            first = await until_told(stream, "notifications/tools/list_changed")
            own = session_at(workers[0], client).own_stream
            mood.of = failing("delete")
        await until(lambda: own.reply is None)
        await turns()
        mood.of = None
        async with client.at(workers[1]).get_stream() as stream:
            workers.handlers[1].notify_prompts_changed()
            second = await until_told(stream, "notifications/prompts/list_changed")
        assert int(second.id.rpartition(".")[2]) > int(first.id.rpartition(".")[2])
