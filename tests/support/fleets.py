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
from rawclient import Legacy, RawClient, Stream, encode
from redis_servers import fresh_prefix
from serving import call

from mcp_h11 import MCPServer, listening
from mcp_h11.stores.base import Store, StoreError
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


async def vanish_first(workers: Workers) -> None:
    """The first worker dies, and the second knows it."""
    vanish(workers[0])
    first, second = (workers[n].runtime.fleet for n in (0, 1))
    with anyio.fail_after(LIMIT):
        while first.worker in await second.store.inbox.workers():
            await anyio.sleep(0.05)


def lose_memory(hub: Hub) -> None:
    """The store in memory loses all its data."""
    hub.spaces.clear()
    hub.logs.clear()
    for store in hub.workers.values():
        store.inbox.forget()


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


async def handshake_lost(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Roaming:
    """The client of a session of the first worker; the second one took `initialized`, and died before it was saved."""

    async def fails(*arguments: Any, **options: Any) -> None:
        raise StoreError("it is away")

    client = Roaming(workers[0].port, wire.D)
    await client.initialize(complete=False)
    monkeypatch.setattr(workers[1].runtime.fleet.records, "save", fails)
    assert (await client.at(workers[1]).notify("notifications/initialized")).status == 202
    vanish(workers[1])
    return client


async def until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    with anyio.fail_after(LIMIT):
        while not holds():
            await asyncio.sleep(0.001)


async def ready(server: Any) -> tuple[int, str]:
    """The status of `/ready`, and its text."""
    async with RawClient(server.port) as client:
        answer = await client.request("GET", "/ready")
    return answer.status, answer.body.decode()


async def until_ready(*servers: Any) -> None:
    """Wait until each of them says so."""
    with anyio.fail_after(3 * LIMIT):
        for server in servers:
            while (await ready(server))[0] != 200:
                await asyncio.sleep(0.02)


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """How many lines of the log have this text."""
    return sum(text in record.getMessage() for record in caplog.records)


async def begun(stack: AsyncExitStack, client: Roaming, tool: str, **arguments: Any) -> tuple[Stream, str]:
    """The stream of a call, whose id is "c", and the id of its first event that has one."""
    connection = await stack.enter_async_context(client.client())
    body = encode(client.request("tools/call", call(tool, **arguments), id="c"))
    stream = await connection.open_stream("POST", client.path, client.headers_for(None), body)
    while not (event := await stream.next_event()).data:  # type: ignore[union-attr]
        pass
    assert event is not None and event.id
    return stream, event.id


def session_at(server: Any, client: Legacy) -> Any:
    """What a worker knows of the session of this client."""
    return server.endpoint.legacy.sessions[client.session]


def stream_at(server: Any, client: Roaming, event_id: str) -> Any:
    """What a worker knows of the stream that this event came from."""
    return session_at(server, client).streams[event_id.partition(".")[0]]


async def until_told(stream: Stream, method: str) -> Any:
    """The next event with this message: the changes that are told after a loss may come before it."""
    while True:
        event = await stream.next_event(LIMIT)
        assert event is not None, f"the stream ended before {method}"
        if event.data and event.json().get("method") == method:
            return event


async def messages_of(stream: Stream) -> list[Any]:
    """The rest of the messages of a stream, which ends."""
    messages = []
    while (message := await stream.next_message()) is not None:
        messages.append(message)
    return messages
