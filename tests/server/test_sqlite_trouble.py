# SPDX-License-Identifier: MIT
"""A server whose store is an SQLite file that is full, locked or read-only: what clients and operators see."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import INFO, Legacy, RawClient, Response
from serving import LEGACY, Held, call, head, served
from stores_support import opened, without_rights

from mcp_h11.stores.base import StoreError

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.long,
    pytest.mark.skipif(os.name != "posix", reason="the bus has Unix sockets"),
]

LIMIT = 30.0
MAX_BYTES = 512 * 1024
FILLING = (16_384, 1_024, 64, 0)  # bytes of the values that fill the file


@asynccontextmanager
async def full(path: Path) -> AsyncIterator[None]:
    """Other records take all the room that the file may have."""
    async with opened(path, max_bytes=MAX_BYTES) as store:
        keys: list[str] = []
        for size in FILLING:
            with pytest.raises(StoreError, match="full"):
                while True:
                    keys.append(f"{len(keys)}")
                    await store.records.create("filling", keys[-1], bytes(size), None)
        yield
        for key in keys:
            await store.records.delete("filling", key)


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another program has begun a transaction, and does not end it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def read_only(path: Path) -> AsyncIterator[None]:
    """A copy of the file is put in its place, as from a backup, without the right to write."""
    copy = path.with_suffix(".copy")
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, copy)
    copy.chmod(stat.S_IRUSR)
    os.replace(copy, path)
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield
    path.parent.chmod(stat.S_IRWXU)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


async def page(port: int, path: str) -> Response:
    async with RawClient(port) as client:
        await client.send(head(path, method="GET"))
        return await client.receive("GET")


async def begin(port: int) -> Response:
    client = Legacy(port, LEGACY)
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
    return await client.post(client.request("initialize", params))


async def is_ready(port: int) -> bool:
    return (await page(port, "/ready")).status == 200


async def until(look: Callable[[], Any]) -> Any:
    """Wait until a look gives something that is true."""
    with anyio.fail_after(LIMIT):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


Trouble = Callable[[Path], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def without_rights_but_modules(folder: Path) -> AsyncIterator[Path]:
    """A directory of a user without special rights, who may not even be allowed to read the standard library."""
    await exercise(full, "full", folder / "warm.db", None)  # loads every module
    with without_rights() as theirs:
        inner = theirs / "inner"
        inner.mkdir()
        yield inner


# SQLite waits 1.5 s for the lock and the guard of the store 2 s for SQLite: on a busy machine the guard may be first.
LOCKED = "locked|did not answer within 2 s"


@pytest.mark.parametrize(("trouble", "reason"), [(full, "full"), (locked, LOCKED)], ids=["full", "locked"])
async def test_new_clients_wait_and_the_others_go_on(
    trouble: Trouble, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await exercise(trouble, reason, tmp_path / "store.db", caplog)


async def test_the_same_with_a_file_that_becomes_read_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with without_rights_but_modules(tmp_path) as folder:
        await exercise(read_only, "may not be read and written by this process", folder / "store.db", caplog)


async def exercise(trouble: Trouble, reason: str, path: Path, caplog: pytest.LogCaptureFixture | None) -> None:
    handler = Held()
    async with served(handler, store=f"sqlite://{path}?max_bytes={MAX_BYTES}", health=True, metrics=True) as server:
        port = server.port

        async with Legacy(port, LEGACY) as known:
            async with trouble(path):

                async def refused() -> Response | None:
                    answer = await begin(port)
                    return answer if answer.status != 200 else None

                answer = await until(refused)
                assert (answer.status, answer.json()["error"]["message"]) == (503, "The session store is away")
                assert int(answer.headers["retry-after"]) > 0
                if caplog is not None:
                    assert [one for one in caplog.messages if "no new session" in one and re.search(reason, one)]
                ready, health = await page(port, "/ready"), await page(port, "/health")
                assert (ready.status, ready.json()["reasons"]) == (503, ["store away"])
                assert (health.status, health.json()["status"], health.json()["store"]) == (200, "degraded", "away")
                assert "\nmcp_h11_store_away 1\n" in (await page(port, "/metrics")).body.decode()
                assert (await known.call("tools/call", call("echo", text="x"))).result["content"][0]["text"] == "x"
                handler.released.set()
                streamed = await known.call("tools/call", call("stream", label="a"))
                assert streamed.result["content"][0]["text"] == "a released"
                assert [one["params"]["data"] for one in streamed.notifications] == ["a began"]
            await until(lambda: is_ready(port))
            assert "\nmcp_h11_store_away 0\n" in (await page(port, "/metrics")).body.decode()
            assert (await begin(port)).status == 200
            again = await known.call("tools/call", call("stream", label="b"))
            assert [one["params"]["data"] for one in again.notifications] == ["b began"]


async def test_a_server_begins_with_a_file_that_it_may_not_write_and_goes_on_when_it_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with without_rights_but_modules(tmp_path) as folder:
        path = folder / "store.db"
        async with opened(path):
            pass  # makes the file
        async with read_only(path), served(Held(), store=f"sqlite://{path}", health=True) as server:
            assert any("is away" in one and "may not be read and written" in one for one in caplog.messages)
            assert (await begin(server.port)).status == 503
            assert (await page(server.port, "/ready")).json()["reasons"] == ["store away"]
            path.parent.chmod(stat.S_IRWXU)
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)

            async def begun() -> bool:
                return (await begin(server.port)).status == 200

            await until(begun)
            await until(lambda: is_ready(server.port))
