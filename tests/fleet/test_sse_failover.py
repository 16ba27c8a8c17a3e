# SPDX-License-Identifier: MIT
"""HTTP+SSE on two processes whose store is a Redis cluster, a node of which dies: the one that has the inboxes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import anyio
import pytest
import wire
from redis_groups import SLOTS, cluster_url, redis_cluster, replicated
from redis_servers import RedisServer
from replicas import LIMIT, STEP, Replicas, SharedStore, replicas
from serving import call
from sse_support import Peer, connected

from mcp_h11.stores.redis_cluster import slot_of

pytestmark = [pytest.mark.anyio, pytest.mark.long]

MASTERS = 3
FIRST = 10  # the id of the first call


@pytest.fixture
def failing() -> Iterator[tuple[Replicas, RedisServer, RedisServer]]:
    """Two workers, the node with their inboxes, and its replica."""
    number = slot_of("{inbox}") // (SLOTS // MASTERS)
    with redis_cluster(MASTERS, replica_of=number) as nodes:
        with replicas(SharedStore(cluster_url(nodes)), count=2, legacy_sse=True, health=True) as fleet:
            yield fleet, nodes[number], nodes[-1]


async def echoed(peer: Peer, number: int) -> int:
    """The status of the answer to the POST of a call."""
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call("echo", text=f"{number}")}
    return (await peer.post(message)).status


async def test_a_post_is_taken_or_refused_and_what_was_taken_is_answered_once(
    failing: tuple[Replicas, RedisServer, RedisServer],
) -> None:
    fleet, master, replica = failing
    async with connected(fleet[0].port) as peer:
        await peer.initialize(wire.A)
        taken: list[int] = []

        async def post(number: int, worker: int) -> int:
            peer.port = fleet[worker].port
            status = await echoed(peer, number)
            assert status in (202, 503), status  # not 404: the client would throw its session away
            if status == 202:
                taken.append(number)
            return status

        assert [await post(FIRST, 0), await post(FIRST + 1, 1)] == [202, 202]
        replicated(master)
        killed, number = time.monotonic(), FIRST + 3
        with replica.stopped():  # it has no master's place before the first of them is posted
            master.kill()
            statuses = [await post(number - 1, 0)]
        with anyio.fail_after(LIMIT):
            while statuses[-4:] != [202] * 4:
                statuses.append(await post(number, number % 2))
                number += 1
                await asyncio.sleep(STEP)
        print(f"no POST was taken for {time.monotonic() - killed:.1f} s; {statuses.count(503)} were refused")
        assert statuses[0] == 503
        answered: list[int] = []
        with anyio.fail_after(LIMIT):
            while number - 1 not in answered:
                message = await peer.next()
                if "id" in message:  # else it says that a list may have changed
                    assert message["result"]["content"][0]["text"] == f"{message['id']}"
                    answered.append(message["id"])
        assert len({*answered}) == len(answered) and answered == sorted(answered)
        # A POST that got 503 may have been taken all the same, where the word of that was lost.
        assert [one for one in answered if one in taken] == taken
        await notified(fleet, peer)
        async with connected(fleet[1].port) as other:  # a new session begins
            await other.initialize(wire.A)


async def notified(fleet: Replicas, peer: Peer) -> None:
    """A notice of the other worker reaches the stream."""
    fleet[1].tell("notify prompts")
    with anyio.fail_after(LIMIT):
        while (await peer.next())["method"] != "notifications/prompts/list_changed":
            pass
