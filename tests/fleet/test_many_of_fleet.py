# SPDX-License-Identifier: MIT
"""Many sessions on three processes: bytes for each, and nothing is left of them when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import wire
from many_sessions import INITIALIZE, INITIALIZED, post
from rawclient import Legacy, RawClient
from redis_servers import RedisServer
from replicas import KINDS, LIMIT, Replicas, SharedStore, replicas, stored_in

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # real processes, several seconds each

FEW, MANY = 60, 4_000
AT_ONCE = 8  # connections
IDLE = 3.0  # seconds until the few expire: longer than a process or its disk stands still
LONG_IDLE = 40.0  # and the many: longer than opening them takes
KIB_IN_STORE = 4.0  # of one session, at most
KIB_IN_WORKER = 16.0
WARM_UP = 500  # sessions before the first look at the memory


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    """A store of its own."""
    server: RedisServer | None = request.getfixturevalue("redis_of_fleets") if request.param == "redis" else None
    return stored_in(request.param, tmp_path, server)


async def opened(fleet: Replicas, count: int) -> list[str]:
    """Sessions that begin at one worker, go on at the next, and have no stream."""
    sessions: list[str] = []
    left = iter(range(count))

    async def open_some(left: Iterator[int]) -> None:
        clients = [await RawClient(port, limit=LIMIT).connect() for port in fleet.ports]
        made = 0
        for number in left:
            begins, goes_on = (clients[(number + step) % len(clients)] for step in (0, 1))
            if made and made % 300 == 0:  # a connection serves a limited number of requests
                for place, client in enumerate(clients):
                    await client.aclose()
                    clients[place] = await RawClient(client.port, limit=LIMIT).connect()
                begins, goes_on = (clients[(number + step) % len(clients)] for step in (0, 1))
            made += 1
            await begins.send(post(INITIALIZE))
            session = (await begins.receive("POST")).headers["mcp-session-id"]
            await goes_on.send(post(INITIALIZED, session))
            assert (await goes_on.receive("POST")).status == 202
            sessions.append(session)
        for client in clients:
            await client.aclose()

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(open_some, left)
    return sessions


async def memory(fleet: Replicas) -> list[tuple[int, int]]:
    """The bytes and the sessions of each worker."""
    found = []
    for worker in fleet.workers:
        count = worker.said.count("\nmemory ") + 1
        worker.tell("memory")
        line = await worker.line(r"memory (\d+) (\d+)", count)
        found.append((int(line[1]), int(line[2])))
    return found


async def all_over(fleet: Replicas, limit: float) -> None:
    """Wait until neither a worker nor the store has anything of a session.

    Sessions whose time is over leave their finished streams to the time of these, which is five minutes, and how far
    their own stream was read for one minute more; so these have no streams.
    """
    with anyio.fail_after(limit):
        while any(sessions for _, sessions in await memory(fleet)) or fleet.store.left():
            await asyncio.sleep(0.2)


async def statuses(fleet: Replicas, session: str) -> list[int]:
    found = []
    for port in fleet.ports:
        client = Legacy(port, wire.D, limit=LIMIT)
        client.session = session
        found.append((await client.post(client.request("ping"))).status)
    return found


async def test_sessions_expire_on_all_workers_and_leave_nothing(empty: SharedStore) -> None:
    with replicas(empty, session_idle=IDLE, session_initialize=IDLE) as fleet:
        sessions = await opened(fleet, FEW)
        await all_over(fleet, LIMIT)
        for session in sessions[:: FEW // 5]:
            assert await statuses(fleet, session) == [404] * 3
        kept = fleet.roaming()
        await kept.initialize()
        async with kept.at(1).get_stream() as stream:  # in use: it stays, on every worker
            sessions = await opened(fleet, FEW)
            with anyio.fail_after(LIMIT):
                while any([await statuses(fleet, one) != [404] * 3 for one in sessions[:: FEW // 5]]):
                    await asyncio.sleep(2 * IDLE)  # each look is a use
            assert await statuses(fleet, str(kept.session)) == [200] * 3
            fleet[0].tell("notify tools")
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


async def test_the_session_that_was_idle_longest_makes_room(empty: SharedStore) -> None:
    with replicas(empty, session_idle=IDLE, session_initialize=IDLE, max_sessions=6) as fleet:
        first = await opened(fleet, 6)
        busy = fleet.roaming()
        busy.session, busy.initialized = first[0], {"protocolVersion": wire.D}
        async with busy.at(2).get_stream() as stream:
            assert stream.status == 200
            client = fleet.roaming()
            with anyio.fail_after(LIMIT):
                while (await begin(client)) != 200:  # at first, each may have been used at another worker
                    await asyncio.sleep(0.1)
            assert await statuses(fleet, first[0]) == [200] * 3
            gone = [session for session in first[1:] if await statuses(fleet, session) == [404] * 3]
            assert gone  # at least one; others may have expired


async def begin(client: Any) -> int:
    response = await client.post(INITIALIZE)
    return int(response.status)


@pytest.mark.long
async def test_thousands_of_sessions_cost_little_and_leave_nothing(empty: SharedStore, capsys: Any) -> None:
    options = {"session_idle": LONG_IDLE, "session_initialize": LONG_IDLE}
    with replicas(empty, max_sessions=None, max_sessions_peer=None, **options) as fleet:
        await opened(fleet, WARM_UP)
        size, before = empty.size(), await memory(fleet)
        began = asyncio.get_running_loop().time()
        await opened(fleet, MANY - WARM_UP)
        took = asyncio.get_running_loop().time() - began
        in_store = (empty.size() - size) / (MANY - WARM_UP)
        after = await memory(fleet)
        in_workers = [(new - old) / max(1, held - had) for (old, had), (new, held) in zip(before, after, strict=True)]
        with capsys.disabled():
            print(
                f"\n{type(empty).__name__}: {in_store:.0f} bytes a session in the store; in the workers, which have"
                f" {[held for _, held in after]} at hand, {[round(each) for each in in_workers]} bytes each;"
                f" opened in {took:.0f} s"
            )
        assert sum(held for _, held in after) >= MANY  # each is at hand where it began or went on
        assert in_store <= KIB_IN_STORE * 1024
        assert max(in_workers) <= KIB_IN_WORKER * 1024
        await all_over(fleet, 4 * LONG_IDLE)
