# SPDX-License-Identifier: MIT
"""The SQLite store on a system without Unix sockets, as Windows is for asyncio: one process has the file for itself.

Simulated: what such a system lacks is taken away.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rawclient import Legacy
from serving import LEGACY, Held
from stores_support import LIMIT, opened, run

from mcp_h11 import listening
from mcp_h11.stores import local_bus, urls
from mcp_h11.stores.base import MAX_BUS_BYTES, Record, StoreError
from mcp_h11.stores.lone_bus import LoneBus
from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.urls import open_store

LACKING = ((socket, "AF_UNIX"), (os, "geteuid"), (asyncio, "open_unix_connection"), (asyncio, "start_unix_server"))


@contextmanager
def windows() -> Iterator[None]:
    """Use it inside of a loop that runs, since the loop of this system needs some of these things to begin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local_bus, "sys", SimpleNamespace(platform="win32"))
        for module, name in LACKING:
            patched.delattr(module, name)
        yield


@contextmanager
def sandbox() -> Iterator[None]:
    """The system has the sockets, and forbids to use them."""
    made = socket.socket

    def forbidden(family: Any = -1, *more: Any, **options: Any) -> Any:
        if family == socket.AF_UNIX:
            raise OSError(97, "Address family not supported by protocol")
        return made(family, *more, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local_bus, "socket", SimpleNamespace(AF_UNIX=socket.AF_UNIX, socket=forbidden))
        yield


@pytest.mark.parametrize("place", [windows, sandbox])
def test_what_one_process_keeps_is_there_after_a_restart(place: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        with place():
            async with opened(path, "first") as store:
                assert await store.records.create("s", "k", b"kept", 600.0)
                await store.logs.open("session", "stream", 600.0)
                await store.logs.append("session", "stream", 1, b"event")
                await store.inbox.take(0)
                assert await store.inbox.put("first", b"to itself")
                assert [message for _, message in await store.inbox.take(LIMIT)] == [b"to itself"]
                await store.bus.publish(b"no worker hears it")
                assert await store.inbox.workers() == ["first"] and not await store.inbox.put("other", b"x")
            async with opened(path, "second") as store:
                record = await store.records.load("s", "k")
                assert isinstance(record, Record) and record.value == b"kept"
                assert (await store.logs.read("session", "stream", 0)).events == [(1, b"event")]
                assert store.statistics()["bus_dropped"] == 0

    run(test)
    assert [one.name for one in tmp_path.iterdir()] == ["store.db"]


# Has the file for itself until it is killed.
HOLDER = """
import asyncio, sys
from types import SimpleNamespace
from mcp_h11.stores import local_bus
from mcp_h11.stores.sqlite import SQLiteStore

async def main():
    local_bus.sys = SimpleNamespace(platform="win32")
    store = SQLiteStore(sys.argv[1])
    await store.open("holder")
    await store.inbox.take(0)
    await store.inbox.put("holder", b"lost with it")
    print("open", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_second_process_is_told_and_has_the_file_as_soon_as_the_first_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "open\n"

            async def refused() -> None:
                for place in (windows, sandbox):
                    with place(), pytest.raises(StoreError, match="another process uses .*store.db, and two cannot"):
                        await SQLiteStore(path).open("late")
                with pytest.raises(StoreError, match="locked"):  # a process that has Unix sockets
                    await SQLiteStore(path).open("late")

            run(refused)
        finally:
            holder.kill()

    async def alone() -> None:
        with windows():
            async with opened(path, "late") as store:
                assert await store.inbox.workers() == [] and not await store.inbox.put("holder", b"x")

    run(alone)


def test_a_process_that_has_the_file_keeps_one_with_unix_sockets_out_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path, "shares"):
            with windows(), pytest.raises(StoreError, match="another process uses"):
                await SQLiteStore(path).open("alone")
        with windows():
            async with opened(path, "alone"):
                pass

    run(test)


def test_a_session_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    async def test() -> None:
        with windows():
            async with listening(Held(), port=0, store=f"sqlite:{tmp_path}/store.db") as server:
                client = Legacy(server.port, LEGACY)
                await client.initialize()
            async with listening(Held(), port=0, store=f"sqlite:{tmp_path}/store.db") as server:
                client.port = server.port
                assert (await client.call("ping")).result == {}

    run(test)


def test_the_bus_of_one_worker_wakes_that_one_and_tells_no_other() -> None:
    woken: list[int] = []
    bus = LoneBus(lambda: woken.append(1))

    async def test() -> None:
        bus.subscribe(lambda message: None, lambda: None)
        with pytest.raises(StoreError, match="not open"):
            await bus.publish(b"early")
        await bus.open("w")
        await bus.publish(b"x" * MAX_BUS_BYTES)
        with pytest.raises(ValueError, match="at most"):
            await bus.publish(b"x" * (MAX_BUS_BYTES + 1))
        bus.wake("other")
        assert woken == []
        bus.wake("w")
        assert woken == [1]
        await bus.close()
        await bus.close()
        bus.wake("w")
        assert woken == [1]

    run(test)


@pytest.mark.parametrize(
    ("system", "url", "path"),
    [
        ("nt", "sqlite:///C:/data/mcp.db", "C:/data/mcp.db"),
        ("nt", "sqlite:c:/mcp.db", "c:/mcp.db"),
        ("nt", "sqlite:///data/mcp.db", "/data/mcp.db"),
        ("posix", "sqlite:///C:/data/mcp.db", "/C:/data/mcp.db"),
    ],
)
def test_a_path_may_begin_with_a_drive_on_windows(
    system: str, url: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "os", SimpleNamespace(name=system))
    store = open_store(url)
    assert isinstance(store, SQLiteStore) and store.path == os.path.realpath(path)
