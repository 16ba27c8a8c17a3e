# SPDX-License-Identifier: MIT
"""Stores in Redis for tests: opened, failing with a reason, working again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.redis import RedisStore

LONG = 600.0
LIMIT = 60.0  # seconds for what has to end by itself; a store that hangs fails here


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_url(url)
    await store.open(os.urandom(8).hex())
    try:
        yield store
    finally:
        await asyncio.wait_for(store.close(), LIMIT)


async def fails(operation: Awaitable[object], reason: str) -> None:
    """It ends with a StoreError that says so."""
    with pytest.raises(StoreError, match=reason):
        await asyncio.wait_for(operation, LIMIT)


async def works_again(store: RedisStore) -> None:
    """Within a while, all parts of the store work."""

    async def all_parts() -> None:
        name = os.urandom(6).hex()
        await store.records.create("space", name, b"", LONG)
        await store.logs.open(name, "a", LONG)
        await store.logs.append(name, "a", 1, b"1")
        await store.inbox.take(0)
        await store.inbox.workers()

    await eventually(all_parts)


async def eventually(look: Callable[[], Awaitable[object]]) -> None:
    end = asyncio.get_running_loop().time() + LIMIT
    while not await succeeds(look):
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.05)


async def succeeds(look: Callable[[], Awaitable[object]]) -> bool:
    try:
        await asyncio.wait_for(look(), LIMIT)
    except (StoreError, AssertionError):
        return False
    return True
