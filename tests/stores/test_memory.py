# SPDX-License-Identifier: MIT
"""The store in memory passes the suite of all stores."""

from __future__ import annotations

import asyncio

import pytest
from stores_support import ALL_CHECKS

from mcp_h11.stores.base import Store
from mcp_h11.stores.memory import Hub, MemoryStore
from mcp_h11.stores.testing import StoreCheck


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_the_store_in_memory_passes(check: StoreCheck) -> None:
    hub = Hub()

    async def make() -> Store:
        return MemoryStore(hub)

    asyncio.run(check(make))
