# SPDX-License-Identifier: MIT
"""The store of docs/stores.md passes the suite of all stores, and serves sessions in several threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pages import ROOT, blocks, run_program
from rawclient import Legacy
from serving import LEGACY, call

from mcp_h11 import MCPServer, start_in_thread
from mcp_h11.stores.base import Store
from mcp_h11.stores.testing import CHECKS, StoreCheck

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    (source,) = [block for block in blocks(ROOT / "docs" / "stores.md", "python") if "class DictStore" in block]
    return run_program(source, "store_of_the_page")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.long
def test_the_store_of_the_page_passes(check: StoreCheck, page: dict[str, Any]) -> None:
    async def make() -> Store:
        store: Store = page["DictStore"](page["SHARED"])
        return store

    asyncio.run(check(make))


async def test_a_session_goes_on_in_another_thread(page: dict[str, Any]) -> None:
    server, shared = MCPServer("threads"), page["Shared"]()

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    threads = [start_in_thread(server, port=0, store=page["DictStore"](shared)) for _ in range(2)]
    try:
        client = Legacy(threads[0].port, LEGACY)
        await client.initialize()
        for thread in threads:
            client.port = thread.port
            assert (await client.call("tools/call", call("add", a=1, b=2))).result["structuredContent"] == {"result": 3}
    finally:
        for thread in threads:
            await asyncio.to_thread(thread.stop)
