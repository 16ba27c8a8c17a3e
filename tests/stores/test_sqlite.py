# SPDX-License-Identifier: MIT
"""The SQLite store passes the suite of all stores."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_h11.stores.base import Store
from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.testing import CHECKS, StoreCheck


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_sqlite_store_passes(check: StoreCheck, tmp_path: Path) -> None:
    async def make() -> Store:
        return SQLiteStore(tmp_path / "store.db")

    asyncio.run(check(make))
