# SPDX-License-Identifier: MIT
"""Several servers in one process that share a store in memory: the workers of a fleet, each with a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import wire
from rawclient import Legacy

from mcp_h11 import MCPServer, listening
from mcp_h11.stores.memory import Hub, MemoryStore

LIMIT = 10.0  # seconds for each wait of a test


class Workers:
    """The servers of a fleet; `hub` is what they share."""

    def __init__(self, servers: list[Any], handlers: list[Any], hub: Hub) -> None:
        self.servers = servers
        self.handlers = handlers
        self.hub = hub

    def __getitem__(self, number: int) -> Any:
        return self.servers[number]


@asynccontextmanager
async def fleet(make: Callable[[], MCPServer], count: int = 3, **options: Any) -> AsyncIterator[Workers]:
    """`count` servers, each with a handler of its own and one store for all."""
    hub = Hub()
    handlers = [make() for _ in range(count)]
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(listening(handler, port=0, store=MemoryStore(hub), **options))
            for handler in handlers
        ]
        await until(lambda: all(store.inbox.is_alive() for store in hub.workers.values()))
        yield Workers(servers, handlers, hub)


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
