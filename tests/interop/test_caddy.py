# SPDX-License-Identifier: MIT
"""Servers behind a real Caddy with TLS, at a sub-path, with the configuration that docs/deploy.md shows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from caddy import caddy
from provision import Running
from rawclient import LIMIT

from mcp_h11 import AuthorizationRequired, Client, Context, MCPServer, listening

pytestmark = [pytest.mark.interop, pytest.mark.anyio]
REVISIONS = ("2026-07-28", "2025-11-25", "2024-11-05")


class Tools(MCPServer):
    """`steps` tells its progress and waits until it is released."""

    def __init__(self) -> None:
        super().__init__("tools")
        self.released, self.cancelled = asyncio.Event(), asyncio.Event()
        self.add_tool(self.steps, name="steps")
        self.add_tool(self.add, name="add")

    def add(self, a: int, b: int) -> int:
        return a + b

    async def steps(self, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "one")
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"


SETTINGS: dict[str, Any] = {
    "port": 0, "trusted_proxies": ["127.0.0.1"], "allowed_hosts": ["localhost"], "legacy_sse": True, "health": True,
}  # fmt: skip


@asynccontextmanager
async def behind_caddy(*ports: int) -> AsyncIterator[tuple[Running, ssl.SSLContext]]:
    made = caddy(ports)
    site = await anyio.to_thread.run_sync(made.__enter__)
    try:
        yield site
    finally:
        await anyio.to_thread.run_sync(made.__exit__, None, None, None)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[Tools, Running, ssl.SSLContext]]:
    """Tools behind Caddy."""
    tools = Tools()
    async with listening(tools, **SETTINGS, **settings) as server:
        async with behind_caddy(server.port) as (front, context):
            yield tools, front, context
            tools.released.set()


def client(front: Running, context: ssl.SSLContext, revision: str) -> Client:
    if revision == "2024-11-05":
        return Client(front.sse_url, revision=revision, transport="sse", ssl=context)
    return Client(front.url, revision=revision, ssl=context)


async def test_each_era_works_and_events_leave_as_they_come() -> None:
    async with served() as (tools, front, context):
        for revision in REVISIONS:
            tools.released.clear()
            with anyio.fail_after(LIMIT):
                async with client(front, context, revision) as ours:
                    # The call ends only after its first event has come through.
                    result = await ours.call_tool("steps", {}, progress=lambda *said: tools.released.set())
                    assert result["content"][0]["text"] == "done"


async def test_a_client_that_leaves_ends_its_call() -> None:
    async with served() as (tools, front, context):
        with anyio.fail_after(LIMIT):
            async with client(front, context, "2026-07-28") as ours, anyio.create_task_group() as group:
                began = anyio.Event()

                async def call() -> None:
                    await ours.call_tool("steps", {}, progress=lambda *said: began.set())

                group.start_soon(call)
                await began.wait()
                group.cancel_scope.cancel()
            await tools.cancelled.wait()


async def test_a_server_that_ends_is_left_before_its_port_is_closed() -> None:
    staying, leaving = Tools(), Tools()
    async with (
        listening(staying, **SETTINGS) as one,
        listening(leaving, **SETTINGS, drain_delay=LIMIT, metrics=True) as other,
        behind_caddy(one.port, other.port) as (front, context),
    ):
        with anyio.fail_after(LIMIT):
            async with client(front, context, "2026-07-28") as ours:
                ending = asyncio.create_task(other.aclose())
                assert other.runtime.metrics is not None
                refused = other.runtime.metrics.responses
                while refused[503] < 2:  # /ready says `draining`; at the second answer Caddy has understood the first
                    await ours.call_tool("add", {"a": 1, "b": 1})
                    await anyio.sleep(0.01)
                other.stop()  # `drain_delay` is over, and its port is closed
                await ending
                for number in range(20):
                    result = await ours.call_tool("add", {"a": number, "b": 1})
                    assert result["structuredContent"] == {"result": number + 1}


async def test_a_401_names_the_address_behind_it() -> None:
    async def nobody(head: Any) -> None: ...

    async with served(authorize=nobody, authorization_servers=["https://login.example"]) as (_, front, context):
        with anyio.fail_after(LIMIT), pytest.raises(AuthorizationRequired) as refused:
            async with Client(front.url, ssl=context) as ours:
                await ours.list_tools()
    where = f"https://localhost:{front.port}/tools/.well-known/oauth-protected-resource/mcp"
    assert where in str(vars(refused.value))
