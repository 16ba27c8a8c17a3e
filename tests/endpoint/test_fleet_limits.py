# SPDX-License-Identifier: MIT
"""`max_sessions` and `max_sessions_peer` in a fleet: counted in the store, whichever worker a client meets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Roaming, Stores, Workers, fleet, in_memory, until
from rawclient import INFO, Response
from serving import LEGACY, Held, turns

from mcp_h11 import Principal
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio

# A session makes room when no worker has used it for this long: twice the time between two reports of use.
UNUSED = 0.2
QUICK: dict[str, Any] = {"session_initialize": 2 * UNUSED}


def by_header(head: Any) -> Any:
    return Principal(head.get("x-user"))


async def begin(server: Any, user: str | None = None) -> Response:
    """The answer to an `initialize`."""
    client = Roaming(server.port, LEGACY)
    client.extra_headers = {"X-User": user} if user else {}
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
    return await client.post(client.request("initialize", params))


async def opened(server: Any, user: str | None = None) -> Roaming:
    """A client with a session of its own."""
    client = Roaming(server.port, LEGACY)
    client.extra_headers = {"X-User": user} if user else {}
    await client.initialize()
    return client


def refused(response: Response, text: str) -> bool:
    return response.status == 503 and "retry-after" in response.headers and response.json()["error"]["message"] == text


async def statuses(client: Roaming, servers: Any) -> list[int]:
    """What each worker says to a ping of the session."""
    return [(await client.at(server).post(client.request("ping"))).status for server in servers]


async def ended(client: Roaming, server: Any) -> None:
    """DELETE a session, and wait until the store has forgotten it: the answer comes before that."""
    session, records = client.session, server.runtime.fleet.records
    assert (await client.at(server).delete()).status == 204
    with anyio.fail_after(LIMIT):
        while await records.load("session", session) is not None:
            await asyncio.sleep(0.001)


async def test_the_number_of_sessions_is_that_of_all_workers_together(local_stores: Stores) -> None:
    async with fleet(Held, local_stores, max_sessions=5) as workers:
        clients = [await opened(workers[number % 3]) for number in range(5)]
        for server in workers.servers:  # all of them were used a moment ago
            assert refused(await begin(server), "Too many sessions")
        for client in clients:
            assert await statuses(client, workers.servers) == [200] * 3
        # One that a client ends makes room at every worker.
        await ended(clients[0], workers[2])
        assert (await begin(workers[1])).status == 200
        assert refused(await begin(workers[0]), "Too many sessions")


async def test_many_newcomers_at_once_get_exactly_the_places_there_are(local_stores: Stores) -> None:
    async with fleet(Held, local_stores, max_sessions=7) as workers:
        answers = await asyncio.gather(*(begin(workers[number % 3]) for number in range(30)))
        assert sorted(answer.status for answer in answers) == [200] * 7 + [503] * 23
        assert await workers[0].runtime.fleet.records.count("session") == 7


async def test_one_client_has_its_share_of_the_fleet_and_others_have_theirs(local_stores: Stores) -> None:
    async with fleet(Held, local_stores, authorize=by_header, max_sessions_peer=3, max_sessions=4) as workers:
        anns = [await opened(server, "ann") for server in workers.servers]
        for server in workers.servers:
            assert refused(await begin(server, "ann"), "Too many sessions from this address")
        assert (await begin(workers[0], "bob")).status == 200
        assert refused(await begin(workers[1], "bob"), "Too many sessions")
        await ended(anns[0], workers[1])
        assert (await begin(workers[2], "ann")).status == 200


async def test_an_address_is_one_client_at_all_workers() -> None:
    async with fleet(Held, in_memory(), max_sessions_peer=2) as workers:
        assert [(await begin(workers[number])).status for number in range(2)] == [200, 200]
        assert refused(await begin(workers[2]), "Too many sessions from this address")


class Watched:
    """A store whose clock moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hub = Hub(lambda: self.now)

    def __call__(self) -> MemoryStore:
        return MemoryStore(self.hub)

    async def until_used(self, workers: Workers, *clients: Roaming) -> None:
        """Wait until the store has been told that these sessions were used now, and nothing is left to tell."""
        await until(lambda: not any(one.endpoint.legacy.stores.used for one in workers.servers))
        await turns()  # of the loop, for the task that tells
        (records,) = (kept for space, kept in self.hub.spaces.items() if space.endswith(" session"))
        sessions = [key_of(client.session) for client in clients if client.session is not None]
        await until(lambda: all(records[one].used == self.now and records[one].ends > 1_000 for one in sessions))


async def test_the_session_that_no_worker_used_for_longest_makes_room() -> None:
    stores = Watched()
    async with fleet(Held, stores, max_sessions=3, **QUICK) as workers:
        clients = []
        for number in range(3):
            clients.append(await opened(workers[number]))
            await stores.until_used(workers, clients[-1])
            stores.now += 1.0
        # The oldest is used, at another worker than that which opened it.
        assert await statuses(clients[0], [workers[2]]) == [200]
        await stores.until_used(workers, clients[0])
        stores.now += 1.0
        newcomer = await opened(workers[0])
        assert await statuses(clients[1], workers.servers) == [404] * 3
        for client in (clients[0], clients[2], newcomer):
            assert await statuses(client, workers.servers) == [200] * 3


async def test_a_session_makes_room_only_when_every_worker_could_have_told_of_a_use() -> None:
    stores = Watched()
    async with fleet(Held, stores, max_sessions=1, **QUICK) as workers:
        client = await opened(workers[0])
        await stores.until_used(workers, client)
        stores.now += UNUSED - 0.01
        assert refused(await begin(workers[1]), "Too many sessions")
        stores.now += 0.01
        assert (await begin(workers[1])).status == 200
        assert await statuses(client, workers.servers) == [404] * 3


async def test_a_session_of_the_same_client_makes_room_for_one_past_its_share() -> None:
    stores = Watched()
    async with fleet(Held, stores, authorize=by_header, max_sessions_peer=2, **QUICK) as workers:
        bob = await opened(workers[0], "bob")  # the oldest of all
        await stores.until_used(workers, bob)
        stores.now += 1.0
        anns = [await opened(workers[number], "ann") for number in range(2)]
        await stores.until_used(workers, *anns)
        stores.now += 1.0
        assert await statuses(anns[1], [workers[0]]) == [200]
        await stores.until_used(workers, anns[1])
        stores.now += 1.0
        newcomer = await opened(workers[2], "ann")
        assert await statuses(anns[0], workers.servers) == [404] * 3
        for client in (bob, anns[1], newcomer):
            assert await statuses(client, workers.servers) == [200] * 3


async def test_a_session_that_is_read_from_makes_no_room_however_long_it_is_silent() -> None:
    stores = Watched()
    async with fleet(Held, stores, max_sessions=3, **QUICK) as workers, AsyncExitStack() as stack:
        clients = [await opened(server) for server in workers.servers]
        streams = []
        for client, server in zip(clients, [workers[1], workers[2], workers[0]], strict=True):
            streams.append(await stack.enter_async_context(client.at(server).get_stream()))
        await stores.until_used(workers, *clients)
        stores.now += 100.0
        await stores.until_used(workers, *clients)
        for server in workers.servers:
            assert refused(await begin(server), "Too many sessions")
        streams[1].abort()
        # A use that was told before the stream ended counts from then on.
        await until(lambda: clients[1].session in workers[2].endpoint.legacy.table.idle)
        await stores.until_used(workers, clients[1])
        await until(lambda: clients[1].session not in workers[2].endpoint.legacy.stores.used)
        stores.now += 100.0
        await stores.until_used(workers, clients[0], clients[2])
        assert (await begin(workers[0])).status == 200
        assert await statuses(clients[1], workers.servers) == [404] * 3
        assert await statuses(clients[0], workers.servers) == [200] * 3
