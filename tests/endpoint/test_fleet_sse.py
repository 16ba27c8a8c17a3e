# SPDX-License-Identifier: MIT
"""HTTP+SSE in a fleet: what a client sees where the store fails, the stream has ended, or a message is refused late."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import pytest
from fleets import LIMIT, fleet, in_memory, until
from moody import Mood, MoodyStore, fails
from rawclient import SSE_TYPE, RawClient, Response
from serving import Held, call
from sse_support import Peer, connected

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub

pytestmark = pytest.mark.anyio

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def moody_fleet(mood: Mood, hub: Hub, **options: Any) -> Any:
    """Two workers that serve HTTP+SSE, on a store in a mood."""
    return fleet(Held, lambda: MoodyStore(hub, mood), count=2, legacy_sse=True, health=True, **options)


def channels(hub: Hub) -> int:
    """How many records of streams the store has."""
    return sum(len(kept) for space, kept in hub.spaces.items() if space.endswith(" channel"))


def only(name: str) -> Any:
    """A mood in which one operation fails."""

    async def fails_at(operation: str) -> None:
        if operation == name:
            raise StoreError("away")

    return fails_at


def waits_at(name: str, reached: asyncio.Event, go_on: asyncio.Event) -> Any:
    """A mood in which one operation waits."""

    async def waits(operation: str) -> None:
        if operation == name:
            reached.set()
            await go_on.wait()

    return waits


async def come(event: asyncio.Event) -> None:
    with anyio.fail_after(LIMIT):
        await event.wait()


async def get_sse(server: Any) -> Response:
    """The head of the answer to a GET of the stream."""
    async with RawClient(server.port) as client:
        return (await client.open_stream("GET", "/sse", {"Accept": SSE_TYPE})).head


async def until_ready(server: Any) -> None:
    with anyio.fail_after(3 * LIMIT):
        while True:
            async with RawClient(server.port) as client:
                if (await client.request("GET", "/ready")).status == 200:
                    return
            await asyncio.sleep(0.02)


def warned(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    """Whether the module of HTTP+SSE has warned with this text."""
    return any(
        record.name == "mcp_h11.endpoint.fleet_sse"
        and record.levelno == logging.WARNING
        and text in record.getMessage()
        for record in caplog.records
    )


def posted(peer: Peer, server: Any) -> Peer:
    """The same client, whose POSTs go to this worker."""
    peer.port = server.port
    return peer


async def raw_next(peer: Peer) -> dict[str, Any]:
    """The next message as it is: an error that answers no request is none of the schema's messages."""
    with anyio.fail_after(LIMIT):
        event = await peer.stream.next_event()
    assert event is not None
    message: dict[str, Any] = event.json()
    return message


# --- the store fails ---------


async def test_no_stream_opens_while_the_store_is_away_and_one_does_afterwards() -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers:
        mood.of = fails
        refused = await get_sse(workers[0])
        assert refused.status == 503 and refused.headers["retry-after"]
        mood.of = None
        await until_ready(workers[0])
        async with connected(workers[0].port) as peer:
            await peer.initialize("2024-11-05")


async def test_a_client_that_left_before_its_record_was_made_leaves_no_record() -> None:
    mood, hub, reached, go_on = Mood(), Hub(), asyncio.Event(), asyncio.Event()
    async with moody_fleet(mood, hub) as workers:
        mood.of = waits_at("create", reached, go_on)
        counters = workers[0].runtime.fleet.guard.counters
        async with RawClient(workers[0].port) as client:
            await client.send_request("GET", "/sse", {"Accept": SSE_TYPE})
            await come(reached)
            client.abort()
        await until(lambda: not workers[0].connections)
        go_on.set()
        await until(lambda: "delete" in counters and not channels(hub))
        assert not workers[0].endpoint.legacy_sse.sessions
        async with connected(workers[0].port) as peer:
            await peer.initialize("2024-11-05")
            assert channels(hub) == 1


async def test_a_record_that_cannot_be_deleted_is_left_to_its_time(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers:
        async with connected(workers[0].port) as peer:
            await peer.initialize("2024-11-05")
            mood.of = only("delete")
        await until(lambda: warned(caplog, "is left to its time: away"))
        mood.of = None
        await until_ready(workers[0])
        # The record still names a worker, but the stream is gone.
        assert channels(hub) == 1
        async with connected(workers[0].port) as peer:
            await peer.initialize("2024-11-05")


async def test_a_use_that_the_store_is_not_told_of_ends_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        mood.of = only("touch")
        workers[0].endpoint.legacy_sse._touch_at = 0.0
        workers[0].endpoint.sweep()
        await until(lambda: warned(caplog, "the store was not told which sessions are in use"))
        mood.of = None
        await until_ready(workers[0])
        assert (await peer.ask(PING))["result"] == {}


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_post_is_503_while_the_store_is_away_and_never_404(worker: int) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        posted(peer, workers[worker])
        mood.of = fails
        refused = await peer.post(PING)
        assert refused.status == 503 and refused.headers["retry-after"]
        mood.of = None
        for server in workers.servers:
            await until_ready(server)
        assert (await peer.ask({**PING, "id": 2}))["id"] == 2


# --- a message that comes late, or is refused late ---------


async def test_a_message_for_a_stream_that_ended_on_its_way_is_dropped() -> None:
    mood, hub, reached, go_on = Mood(), Hub(), asyncio.Event(), asyncio.Event()
    async with moody_fleet(mood, hub) as workers, connected(workers[0].port) as other:
        await other.initialize("2024-11-05")
        answers: list[Response] = []
        async with anyio.create_task_group() as group:

            async def post_late(peer: Peer) -> None:
                answers.append(await peer.post({**PING, "method": "tools/call", "params": call("hold")}))

            async with connected(workers[0].port) as peer:
                await peer.initialize("2024-11-05")
                mood.of = waits_at("put", reached, go_on)
                group.start_soon(post_late, posted(peer, workers[1]))
                await come(reached)
            await until(lambda: len(workers[0].endpoint.legacy_sse.sessions) == 1)
            letters = workers[0].runtime.fleet.letters
            go_on.set()
            await until(lambda: workers[0].runtime.fleet.letters > letters)
        assert [answer.status for answer in answers] == [202]  # the message lay in the inbox
        mood.of = None
        assert (await other.ask(PING))["result"] == {}
        assert workers.handlers[0].started == []


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_batch_that_the_revision_forbids_is_refused_on_the_stream(worker: int) -> None:
    async with fleet(Held, in_memory(), count=2, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2025-11-25")
        assert (await posted(peer, workers[worker]).post([PING])).status == 202
        refusal = await raw_next(peer)
        assert refusal["error"]["code"] == -32600 and "batches are not part of" in refusal["error"]["message"]
        assert refusal.get("id") is None
        assert (await peer.ask({**PING, "id": 2}))["id"] == 2


@pytest.mark.parametrize("worker", [0, 1])
async def test_the_parts_of_a_batch_that_are_no_messages_are_answered_on_the_stream(worker: int) -> None:
    async with fleet(Held, in_memory(), count=2, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        batch = [{"jsonrpc": "2.0", "id": 7, "method": 5}, PING, 5]
        assert (await posted(peer, workers[worker]).post(batch)).status == 202
        answers = [await raw_next(peer) for _ in batch]
        assert [one["result"] for one in answers if "result" in one] == [{}]
        assert [one["error"]["code"] for one in answers if "error" in one] == [-32600, -32600]


@pytest.mark.parametrize("worker", [0, 1])
async def test_a_message_that_is_refused_after_its_202_is_told_on_the_stream_or_in_the_log(
    worker: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        fleet(Held, in_memory(), count=2, legacy_sse=True, max_running=1, max_waiting=1) as workers,
        connected(workers[0].port) as peer,
    ):
        await peer.initialize("2024-11-05")
        posted(peer, workers[worker])
        for number in range(3):
            params = call("hold", label=str(number))
            assert (await peer.post({**PING, "id": number, "method": "tools/call", "params": params})).status == 202
        refusal = await peer.next("tools/call")
        assert refusal["id"] == 2 and refusal["error"]["code"] == -32603
        assert (await peer.post({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})).status == 202
        await until(lambda: warned(caplog, "was dropped"))
        workers.handlers[0].released.set()
        assert [(await peer.next("tools/call"))["id"] for _ in range(2)] == [0, 1]


# --- a store that has lost its data ---------


def lose(hub: Hub) -> None:
    hub.spaces.clear()
    hub.logs.clear()


async def test_a_stream_whose_record_cannot_be_kept_anew_takes_posts_again_when_the_store_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        one = workers[0].runtime.fleet
        one.on_lost.append(lambda: setattr(mood, "of", only("create")))  # away again, as soon as the loss is seen
        async with connected(workers[0].port) as other:
            await other.initialize("2024-11-05")
            lose(hub)
            assert await one.lost_data()
            await until(lambda: caplog.text.count("takes no messages until the store is back") == 2)
        await until(lambda: len(workers[0].endpoint.legacy_sse.sessions) == 1)
        assert channels(hub) == 0
        mood.of = None
        await until(lambda: channels(hub) == 1)  # and none for the stream that ended meanwhile
        peer.port = workers[1].port
        assert (await peer.ask(PING))["result"] == {}
        await until(lambda: one.works)
        assert channels(hub) == 1


async def test_a_stream_that_ends_while_its_record_is_kept_anew_leaves_none() -> None:
    mood, hub, reached, go_on = Mood(), Hub(), asyncio.Event(), asyncio.Event()
    async with moody_fleet(mood, hub) as workers:
        async with connected(workers[0].port) as peer:
            await peer.initialize("2024-11-05")
            one = workers[0].runtime.fleet
            one.on_lost.append(lambda: setattr(mood, "of", waits_at("create", reached, go_on)))
            lose(hub)
            assert await one.lost_data()
            await come(reached)
        counters = one.guard.counters
        await until(lambda: "delete" in counters)  # at the end of the stream
        mood.of = None
        go_on.set()
        await until(lambda: counters["delete"].operations == 2)
        assert channels(hub) == 0
