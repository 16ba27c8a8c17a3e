# SPDX-License-Identifier: MIT
"""Clients that come and go, and are cancelled anywhere, leave nothing: no descriptor, no task, no session, no child."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from provision import EVERYTHING, server_environment

from mcp_h11 import Client, MCPServer, Settings, listening
from mcp_h11.client.transports.memory import MemoryTransport
from mcp_h11.client.transports.stdio import StdioTransport

pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted as Linux lists them"),
]

LIMIT = 60.0
CLIENTS = 100
CANCELLED = 120


def shop() -> MCPServer:
    server = MCPServer("shop", version="1")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def slow() -> str:
        await asyncio.sleep(LIMIT)
        return ""

    return server


def now() -> tuple[int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def settled(before: tuple[int, int]) -> None:
    """Closed sockets and tasks that end take a turn or two of the event loop."""
    with anyio.move_on_after(5):
        while any(one > other for one, other in zip(now(), before, strict=True)):
            await anyio.sleep(0.02)
    assert all(one <= other for one, other in zip(now(), before, strict=True)), (before, now())


@asynccontextmanager
async def measured(use: Callable[[], Any]) -> AsyncIterator[None]:
    for _ in range(3):  # what is made once and kept
        await use()
    before = now()
    yield
    await settled(before)


@pytest.mark.parametrize("options", [{}, {"revision": "2025-11-25"}, {"transport": "sse"}], ids=str)
async def test_clients_over_http(options: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        async with listening(shop(), port=0, legacy_sse=True) as running:
            url = f"http://127.0.0.1:{running.port}/{'sse' if 'transport' in options else 'mcp'}"

            async def use() -> None:
                async with Client(url, on_list_changed=lambda kind: None, **options) as client:
                    await client.call_tool("add", {"a": 1, "b": 2})

            async def wait() -> None:
                async with Client(url, on_list_changed=lambda kind: None, **options) as client:
                    async with anyio.create_task_group() as tasks:
                        for _ in range(3):
                            tasks.start_soon(client.call_tool, "slow")

            async with measured(use):
                for _ in range(CLIENTS):
                    await use()
                for number in range(CANCELLED):
                    with anyio.move_on_after(number % 24 / 1000):
                        await wait()
                with anyio.move_on_after(5):
                    while running.endpoint.legacy.sessions:
                        await anyio.sleep(0.02)
                assert not running.endpoint.legacy.sessions


@pytest.mark.parametrize("revision", [None, "2025-11-25"])
async def test_clients_of_a_handler(revision: str | None) -> None:
    server = shop()

    async def use() -> None:
        async with Client(server, revision=revision) as client:
            await client.call_tool("add", {"a": 1, "b": 2})

    async def wait() -> None:
        # Else each call that runs at the end has two seconds to come to it.
        async with Client(MemoryTransport(server, Settings(grace=0.01)), revision=revision) as client:
            await client.call_tool("slow")

    with anyio.fail_after(LIMIT):
        async with measured(use):
            for _ in range(CLIENTS):
                await use()
            for number in range(CANCELLED):
                with anyio.move_on_after(number % 12 / 2000):
                    await wait()


async def test_clients_of_a_command() -> None:
    children: list[StdioTransport] = []

    async def use(name: str = "test_simple_text") -> None:
        transport = StdioTransport(
            [sys.executable, str(EVERYTHING), "--stdio"], env=server_environment(), eof=0.2, term=0.2
        )
        children.append(transport)
        async with Client(transport) as client:
            await client.call_tool(name, {"seconds": LIMIT} if name == "battery_slow" else {})

    with anyio.fail_after(LIMIT):
        async with measured(use):
            for number in range(8):
                with anyio.move_on_after(number * 0.06):
                    await use("battery_slow")
    assert all(one.child is None or one.child.returncode is not None for one in children)
