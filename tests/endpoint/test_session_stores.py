# SPDX-License-Identifier: MIT
"""A store of the user's own that fails: the server looks again, and is ready when the store is back."""

from __future__ import annotations

from typing import Any

import pytest
import wire
from fleets import until
from rawclient import Legacy, RawClient
from serving import Held

from mcp_h11 import listening
from mcp_h11.runtime.storage import MemoryEventStore, MemorySessionManager

pytestmark = pytest.mark.anyio


class Manager(MemorySessionManager):
    away = False
    looks = 0

    async def create(self, state: Any) -> None:
        self._check()
        await super().create(state)

    async def load(self, session_id: str) -> Any:
        self.looks += 1
        self._check()
        return await super().load(session_id)

    def _check(self) -> None:
        if self.away:
            raise OSError("away")


class Events(MemoryEventStore):
    away = False
    looks = 0

    async def discard(self, session_id: str, stream_id: str | None = None) -> None:
        self.looks += 1
        if self.away:
            raise OSError("away")
        await super().discard(session_id, stream_id)


async def ready(server: Any) -> int:
    async with RawClient(server.port) as client:
        return (await client.request("GET", "/ready")).status


async def look(server: Any) -> None:
    """One round of the server's clock, at which it looks at its store."""
    server.endpoint.legacy.stores._probe_at = 0.0
    server.endpoint.sweep()


@pytest.mark.parametrize("replay", [True, False])
async def test_a_session_manager_that_failed_is_looked_at_until_it_is_back(replay: bool) -> None:
    manager = Manager()
    async with listening(Held(), port=0, session_manager=manager, replay=replay, health=True) as server:
        manager.away = True
        with pytest.raises(AssertionError):
            await Legacy(server.port, wire.D).initialize()
        assert await ready(server) == 503
        looks = manager.looks
        await look(server)
        await until(lambda: manager.looks > looks)
        assert await ready(server) == 503
        manager.away = False
        await look(server)
        await until(lambda: not server.runtime.store_away)
        assert await ready(server) == 200
        await Legacy(server.port, wire.D).initialize()


async def test_an_event_store_that_failed_is_looked_at_until_it_is_back() -> None:
    events = Events()
    async with listening(Held(), port=0, event_store=events, health=True) as server:
        client = Legacy(server.port, wire.D)
        await client.initialize()
        events.away = True
        assert (await client.delete()).status == 204
        await until(lambda: server.runtime.store_away)
        assert await ready(server) == 503
        looks = events.looks
        await look(server)
        await until(lambda: events.looks > looks)
        assert await ready(server) == 503
        events.away = False
        await look(server)
        await until(lambda: not server.runtime.store_away)
        assert await ready(server) == 200
