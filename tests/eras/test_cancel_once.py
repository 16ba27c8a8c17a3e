# SPDX-License-Identifier: MIT
"""A call is cancelled once: no later event breaks off the code in its `finally`."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, Legacy, Modern, encode
from serving import ASYNCIO, LEGACY, call, served, turns

from mcp_h11 import MCPServer
from mcp_h11.handler.deadlines import Deadline, run_within

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Careful(MCPServer):
    """A tool that waits, and takes a while to clean up when it is cancelled."""

    def __init__(self) -> None:
        super().__init__("careful")
        self.begun, self.cleaning, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cleaned = asyncio.Event()
        self.broken_off = 0
        self.add_tool(self.work, "work")

    async def work(self) -> str:
        self.begun.set()
        try:
            await asyncio.Event().wait()
            return "never"
        finally:
            self.cleaning.set()
            try:
                await self.go_on.wait()
                self.cleaned.set()
            except asyncio.CancelledError:
                self.broken_off += 1
                raise

    async def cleans_up(self) -> None:
        """Let the clean-up of the tool go on, and wait until it has ended."""
        await turns()
        self.go_on.set()
        with anyio.fail_after(LIMIT):
            await self.cleaned.wait()
        assert not self.broken_off


async def soon(event: asyncio.Event) -> None:
    with anyio.fail_after(LIMIT):
        await event.wait()


@pytest.mark.parametrize("options", [{}, {"call_timeout": 60.0}])
async def test_further_cancellations_of_a_session_do_nothing(options: dict[str, Any]) -> None:
    handler = Careful()
    async with served(handler, **options) as server:
        async with Legacy(server.port, LEGACY) as session, anyio.create_task_group() as tasks:
            request = session.request("tools/call", call("work"), id=7)
            tasks.start_soon(session.post, request)
            await soon(handler.begun)
            for _ in range(3):
                await session.notify("notifications/cancelled", {"requestId": 7})
                await soon(handler.cleaning)
            await handler.cleans_up()
            assert (await session.call("ping")).result == {}


async def test_the_end_of_a_session_does_not_break_off_what_its_client_has_cancelled() -> None:
    handler = Careful()
    async with served(handler) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.post, session.request("tools/call", call("work"), id=7))
            await soon(handler.begun)
            await session.notify("notifications/cancelled", {"requestId": 7})
            await soon(handler.cleaning)
            await session.delete()
            await handler.cleans_up()


async def test_a_closed_stream_cancels_once_and_so_does_its_deadline() -> None:
    handler = Careful()
    async with served(handler, call_timeout=60.0) as server:
        client = Modern(server.port)
        async with client.client() as raw:
            message = client.request("tools/call", call("work"))
            await raw.send_request("POST", "/mcp", client.headers_for(message), encode(message))
            await soon(handler.begun)
            raw.abort()
        await soon(handler.cleaning)
        await handler.cleans_up()


@pytest.mark.parametrize("revision", [LEGACY, "2026-07-28"])
async def test_further_cancellations_on_a_pipe_do_nothing(revision: str) -> None:
    handler = Careful()
    async with piped(handler) as client:
        if revision == LEGACY:
            await client.initialize(revision)
        client.call(7, "work", revision=revision)
        await soon(handler.begun)
        for _ in range(3):
            client.notify("notifications/cancelled", requestId=7)
            await soon(handler.cleaning)
        client.request(8, "tools/list", revision=revision)
        assert (await client.result(8))["tools"]
        await handler.cleans_up()


async def test_a_time_that_ends_while_a_cancelled_call_cleans_up_cancels_it_no_second_time() -> None:
    handler = Careful()
    loop = asyncio.get_running_loop()
    deadline = Deadline(loop, 60.0, 60.0)
    task = asyncio.ensure_future(run_within(handler.work(), deadline, lambda _: None))
    await soon(handler.begun)
    task.cancel()
    await soon(handler.cleaning)
    deadline.expired = True
    deadline.wake()
    await handler.cleans_up()
    with pytest.raises(asyncio.CancelledError):
        await task
