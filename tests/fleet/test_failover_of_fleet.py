# SPDX-License-Identifier: MIT
"""A master of Redis dies behind two processes: what clients see until the successor of a sentinel answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from rawclient import INFO, Legacy, encode
from redis_groups import redis_sentinel, replicated
from redis_servers import RedisServer
from replicas import LIMIT, REPLY_LIMIT, STEP, Replicas, SharedStore, replicas
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture
def failing() -> Iterator[tuple[Replicas, RedisServer, RedisServer]]:
    """Two workers, the master of their store, and its replica."""
    with redis_sentinel() as (master, replica, sentinel):
        store = SharedStore(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        with replicas(store, count=2, health=True) as fleet:
            yield fleet, master, replica


async def begun(port: int) -> int:
    """The status of the answer to a new session, which has to come."""
    client = Legacy(port, "2025-11-25", limit=REPLY_LIMIT)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
    answer = await client.post(client.request("initialize", params))
    assert answer.status == 200 or int(answer.headers["retry-after"]) > 0
    return answer.status


async def said(client: Any, number: int, tool: str, **arguments: Any) -> str:
    answer = await client.at(number).call("tools/call", call(tool, **arguments))
    text: str = answer.result["content"][0]["text"]
    return text


async def test_a_failover_costs_new_sessions_some_seconds_and_the_others_nothing(
    failing: tuple[Replicas, RedisServer, RedisServer],
) -> None:
    fleet, master, replica = failing
    async with fleet.roaming() as client, client.client() as raw:
        assert await said(client, 1, "echo", text="at 1") == "at 1"  # both have the session at hand
        assert await said(client, 1, "keep", key="k", value="kept") == "kept"
        client.at(0)
        body = encode(client.request("tools/call", call("stream", label="x"), id="c"))
        stream = await raw.open_stream("POST", client.path, client.headers_for(None), body)
        first = await stream.next_message()
        assert first["params"]["data"] == 0
        replicated(master)
        killed = time.monotonic()
        with replica.stopped():  # it has no master's place before the first of them asks
            master.kill()
            found = [await begun(fleet[0].port)]
        with anyio.fail_after(2 * LIMIT):
            while found[-2:] != [200, 200]:
                for number in range(2):
                    found.append(await begun(fleet[number].port))
                    assert await said(client, number, "echo", text="during") == "during"
                await asyncio.sleep(STEP)
        print(f"no new session for {time.monotonic() - killed:.1f} s, by {found.count(503)} answers")
        assert {*found} == {200, 503} and found[0] == 503
        # The call that ran all the while ends on its stream, and its events are in the log of the successor.
        fleet[0].tell("release x")
        assert (await stream.next_message())["result"]["content"][0]["text"] == "x released"
        for number in range(2):
            await ready(fleet[number].port)
            assert await said(client, number, "kept", key="k") == "kept"
            assert (await client.at(number).call("logging/setLevel", {"level": "info"})).result == {}
        answer = await client.at(1).call("tools/call", call("count", events=3))
        assert [one["params"]["data"] for one in answer.notifications] == [0, 1, 2]
        session = client.session
        assert (await client.at(0).delete()).status == 204
        client.session = session
        assert (await client.at(1).post(client.request("ping"))).status == 404
        client.session = None


async def ready(port: int) -> None:
    """Wait until a worker says that its store is back."""
    with anyio.fail_after(LIMIT):
        while True:
            async with Legacy(port, "2025-11-25", limit=REPLY_LIMIT).client() as raw:
                if (await raw.request("GET", "/ready", {"Host": "localhost"})).status == 200:
                    return
            await asyncio.sleep(STEP)
