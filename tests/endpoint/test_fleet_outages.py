# SPDX-License-Identifier: MIT
"""A fleet on a real store that is away, stands still, is full or locked: clients are served, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Roaming, fleet, ready, roaming, said, until_ready
from rawclient import INFO, Response, encode
from redis_servers import RedisServer, fresh_prefix, redis_server
from serving import LEGACY, Held, call

from mcp_h11 import listening
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.guarded import OPERATION_LIMIT
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.sqlite import SQLiteStore

pytestmark = [pytest.mark.anyio, pytest.mark.long]

FILE_BYTES = 512 * 1024


async def begin(server: Any) -> Response:
    """The answer to an `initialize`."""
    client = Roaming(server.port, LEGACY, limit=LIMIT)
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
    return await client.post(client.request("initialize", params))


async def outlives(
    workers: Any, client: Roaming, go_away: Callable[[], object], come_back: Callable[[], object], resumes: bool
) -> None:
    """Streams, known sessions and new ones, before, in and after an outage."""
    held = workers.handlers[0]
    async with client.at(workers[0]).client() as connection:
        stream = await connection.open_stream(
            "POST", "/mcp", client.headers_for(None), encode(client.request("tools/call", call("stream"), id="s"))
        )
        while not (first := await stream.next_event(LIMIT)).data:
            pass
        assert first.id
        go_away()
        refused = await begin(workers[0])
        assert refused.status == 503 and refused.headers["retry-after"]
        # The wait is over: the next ones are refused at once.
        clock = asyncio.get_running_loop().time
        waits = []
        for _ in range(10):
            began = clock()
            assert (await begin(workers[0])).status == 503
            waits.append(clock() - began)
        assert sum(wait >= OPERATION_LIMIT for wait in waits) <= len(waits) / 2, waits
        assert (await client.at(workers[0]).call("ping")).result == {}
        assert (await client.at(workers[0]).call("tools/call", call("echo", text="on"))).result
        status, why = await ready(workers[0])
        assert status == 503 and "store away" in why
        held.released.set()
        last = await stream.next_event(LIMIT)
        assert last.json()["result"]["content"][0]["text"] == "stream released"
        assert last.id is None  # it is in no log
    come_back()
    await until_ready(*workers.servers)
    assert (await begin(workers[0])).status == 200
    assert (await client.at(workers[1]).call("ping")).result == {}
    if resumes:
        fleet_of = workers[0].runtime.fleet
        name, _, _ = first.id.partition(".")
        with anyio.fail_after(LIMIT):
            while not (await fleet_of.logs.read(key_of(client.session), name, 0)).finished:
                await asyncio.sleep(0.02)
        async with client.at(workers[1]).get_stream(first.id, in_reply_to="tools/call") as rest:
            message = await rest.next_message(LIMIT)
            assert message["id"] == "s" and message["result"]
            assert await rest.next_message(LIMIT) is None


def on_redis(server: RedisServer) -> Callable[[], RedisStore]:
    url = server.url(fresh_prefix())
    return lambda: RedisStore.from_url(url)


async def test_redis_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server:
        async with fleet(Held, on_redis(server), count=2, health=True) as workers, roaming(workers[0]) as client:
            stop = server.stopped()
            await outlives(workers, client, stop.__enter__, lambda: stop.__exit__(None, None, None), True)
            assert said(caplog, "is dead") == 0


async def test_redis_dies_and_comes_back_with_its_data(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with fleet(Held, on_redis(server), count=2, health=True) as workers, roaming(workers[0]) as client:
            await outlives(workers, client, server.kill, server.start, True)
            assert said(caplog, "is dead") == 0


async def test_redis_is_full_and_every_worker_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--maxmemory-policy", "noeviction") as server:
        async with fleet(Held, on_redis(server), count=2, health=True) as workers, roaming(workers[0]) as client:

            def fill() -> None:
                server.ask("CONFIG", "SET", "maxmemory", "1")

            def free() -> None:
                server.ask("CONFIG", "SET", "maxmemory", "0")

            async with client.at(workers[1]).get_stream() as listening_stream:
                await outlives(workers, client, fill, free, True)
                # Longer than a worker lives without a heartbeat.
                fill()
                assert (await begin(workers[1])).status == 503
                with anyio.fail_after(3 * LIMIT):
                    for _ in range(12):
                        await asyncio.sleep(0.5)
                        assert len(await workers[0].runtime.fleet.store.inbox.workers()) == 2
                free()
                await until_ready(*workers.servers)
                workers.handlers[0].notify_tools_changed()
                message = await listening_stream.next_message(LIMIT)
                assert message["method"] == "notifications/tools/list_changed"
            assert said(caplog, "is dead") == 0


async def test_redis_is_away_at_the_start() -> None:
    with redis_server(started=False) as server:
        store = RedisStore.from_url(server.url(fresh_prefix()))
        async with listening(Held(), port=0, store=store, health=True) as worker:
            assert (await begin(worker)).status == 503
            assert "store away" in (await ready(worker))[1]
            server.start()
            await until_ready(worker)
            assert (await begin(worker)).status == 200


async def test_redis_stands_still_at_the_start() -> None:
    with redis_server() as server:
        store = RedisStore.from_url(server.url(fresh_prefix()))
        server.signal(signal.SIGSTOP)
        try:
            async with listening(Held(), port=0, store=store, health=True) as worker:
                assert (await begin(worker)).status == 503
                server.signal(signal.SIGCONT)
                await until_ready(worker)
                assert (await begin(worker)).status == 200
        finally:
            server.signal(signal.SIGCONT)


async def test_a_worker_that_begins_while_redis_is_full_serves_the_sessions_that_there_are() -> None:
    with redis_server("--maxmemory-policy", "noeviction") as server:
        stores = on_redis(server)
        async with fleet(Held, stores, count=1, health=True) as workers, roaming(workers[0]) as client:
            server.ask("CONFIG", "SET", "maxmemory", "1")
            async with listening(Held(), port=0, store=stores(), health=True) as late:
                assert (await client.at(late).call("ping")).result == {}
                assert (await begin(late)).status == 503
                server.ask("CONFIG", "SET", "maxmemory", "0")
                await until_ready(late)
                assert (await begin(late)).status == 200


async def test_the_file_of_sqlite_is_full(tmp_path: Path) -> None:
    def stores() -> SQLiteStore:
        return SQLiteStore(tmp_path / "fleet.db", max_bytes=FILE_BYTES)

    async with fleet(Held, stores, count=2, health=True) as workers, roaming(workers[0]) as client:
        records = workers[0].runtime.fleet.store._store.records

        async def fill() -> None:
            size, number = 64 * 1024, 0
            while size >= 16:
                try:
                    await records.create("filling", f"{number}", os.urandom(size), 600.0)
                except Exception:
                    size //= 2
                number += 1

        await fill()
        refused = await begin(workers[0])
        assert refused.status == 503 and refused.headers["retry-after"]
        assert (await client.call("ping")).result == {}
        assert (await client.at(workers[1]).call("ping")).result == {}
        assert len(await workers[0].runtime.fleet.store.inbox.workers()) == 2
        for number in range(200):
            await records.delete("filling", f"{number}")
        await until_ready(*workers.servers)
        assert (await begin(workers[0])).status == 200


async def test_the_file_of_sqlite_is_locked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "fleet.db"
    async with (
        fleet(Held, lambda: SQLiteStore(path), count=2, health=True) as workers,
        roaming(workers[0]) as client,
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            await outlives(
                workers, client, lambda: other.execute("BEGIN EXCLUSIVE"), lambda: other.execute("ROLLBACK"), True
            )
        assert said(caplog, "is dead") == 0
