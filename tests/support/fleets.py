# SPDX-License-Identifier: MIT
"""Several servers in one process that share a store: the workers of a fleet, each with a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import wire
from rawclient import Legacy
from redis_servers import fresh_prefix

from mcp_h11 import MCPServer, listening
from mcp_h11.stores.base import Store
from mcp_h11.stores.memory import Hub, MemoryStore
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.sqlite import SQLiteStore

LIMIT = 30.0  # seconds for each wait of a test


Stores = Callable[[], Store]  # makes another worker's end of one store


class Workers:
    """The servers of a fleet."""

    def __init__(self, servers: list[Any], handlers: list[Any]) -> None:
        self.servers = servers
        self.handlers = handlers

    def __getitem__(self, number: int) -> Any:
        return self.servers[number]


@asynccontextmanager
async def fleet(
    make: Callable[[], MCPServer], stores: Stores, count: int = 3, **options: Any
) -> AsyncIterator[Workers]:
    """`count` servers, each with a handler of its own and one store for all."""
    handlers = [make() for _ in range(count)]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(listening(handler, port=0, store=stores(), **options))
            for handler in handlers
        ]
        fleets = [server.runtime.fleet for server in servers]
        with anyio.fail_after(LIMIT):
            while len(await fleets[0].store.inbox.workers()) < count:  # each has to beat once
                await asyncio.sleep(0.001)
        yield Workers(servers, handlers)


def vanish(server: Any) -> None:
    """The worker is dead to the others: it takes no letters, and its heart does not beat."""
    server.runtime.fleet.reading.cancel()


def in_memory() -> Stores:
    """Stores that share one hub."""
    hub = Hub()
    return lambda: MemoryStore(hub)


def in_sqlite(folder: Path) -> Stores:
    """Stores that share one file."""
    return lambda: SQLiteStore(folder / "fleet.db")


KINDS = ("memory", "sqlite", "redis")


def stores_of(request: pytest.FixtureRequest, folder: Path) -> Stores:
    """For a fixture with `params=KINDS`: stores of that kind."""
    if request.param == "redis":
        url = request.getfixturevalue("shared_redis").url(fresh_prefix())
        return lambda: RedisStore.from_url(url)
    return in_memory() if request.param == "memory" else in_sqlite(folder)


class Roaming(Legacy):
    """A client whose every request may go to another worker: `at(worker)` says to which."""

    def at(self, server: Any) -> Roaming:
        self.port = server.port
        return self


@asynccontextmanager
async def roaming(server: Any, revision: str = wire.D, capabilities: Any = None) -> AsyncIterator[Roaming]:
    """A session that was opened at this worker."""
    client = Roaming(server.port, revision)
    await client.initialize(capabilities)
    yield client


async def until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    with anyio.fail_after(LIMIT):
        while not holds():
            await asyncio.sleep(0.001)
