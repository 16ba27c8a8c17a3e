# SPDX-License-Identifier: MIT
"""A store in memory that fails, waits or works as a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub, MemoryStore


class Mood:
    """What a store does: `of` is called with the name of an operation, before it is done.

    `extend` appends as well, and has that name.
    """

    def __init__(self) -> None:
        self.of: Callable[[str], Awaitable[None]] | None = None


class Part:
    """One of the four parts of a store, in a mood."""

    def __init__(self, part: Any, mood: Mood) -> None:
        self._part = part
        self._mood = mood

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._part, name)
        if name in ("subscribe", "heard", "hear", "accept", "is_alive", "beat_at"):
            return operation

        async def moody(*arguments: Any, **options: Any) -> Any:
            if self._mood.of is not None:
                await self._mood.of("append" if name == "extend" else name)
            return await operation(*arguments, **options)

        return moody


class MoodyStore:
    """A store in memory that fails as its mood says."""

    def __init__(self, hub: Hub, mood: Mood) -> None:
        store = self._store = MemoryStore(hub)
        self._mood = mood
        self.records: Any = Part(store.records, mood)
        self.logs: Any = Part(store.logs, mood)
        self.inbox: Any = Part(store.inbox, mood)
        self.bus: Any = Part(store.bus, mood)
        self.close, self.statistics = store.close, store.statistics

    async def open(self, worker: str) -> None:
        if self._mood.of is not None:
            await self._mood.of("open_store")
        await self._store.open(worker)


async def fails(name: str) -> None:
    raise StoreError("away")


def failing(*names: str) -> Callable[[str], Awaitable[None]]:
    """For `Mood.of`: these operations fail."""

    async def mood(name: str) -> None:
        if name in names:
            raise StoreError("away")

    return mood
