# SPDX-License-Identifier: MIT
"""Calls through a bridge that has a time limit for them: at their end, when their client leaves, and when their backend
is replaced.  Such a call has no task of its own between it and its deadline."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock
from rawclient import LIMIT, Legacy, Modern
from serving import LEGACY, Held, call, served, turns
from test_proxy import ERAS, client

from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.targets import Url
from mcp_h11.client.transports.memory import MemoryTransport
from mcp_h11.handler.deadlines import CLEANUP_TIME, Deadline, TimedOut, run_in_time

pytestmark = pytest.mark.anyio

SHORT = 0.2
LONG = 20 * LIMIT


@asynccontextmanager
async def bridged(held: Held, over: str, timeout: float, **options: Any) -> AsyncIterator[Any]:
    """A bridge to `held`, in this process or over HTTP."""
    if over == "memory":
        async with served(ProxyHandler(held, **options), call_timeout=timeout) as front:  # type: ignore[arg-type]
            yield front
        return
    async with served(held) as server:
        handler: Any = ProxyHandler(Url(f"http://127.0.0.1:{server.port}/mcp"), **options)
        async with served(handler, call_timeout=timeout) as front:
            yield front


@pytest.mark.parametrize("over", ["memory", "http"])
@pytest.mark.parametrize("era", ERAS)
@on_a_still_clock
async def test_a_call_that_its_backend_holds_ends_at_its_time(era: str, over: str) -> None:
    held = Held()
    async with bridged(held, over, SHORT) as front, client(front, era) as c:
        result = (await c.call("tools/call", call("hold"))).result
        assert (result["isError"], result["content"][0]["text"]) == (True, f"Timed out after {SHORT:g} s")
        await held.until(cancelled=1)
        assert not front.runtime.handler._generations.now.running
        held.released.set()
        assert "isError" not in (await c.call("tools/call", call("hold"))).result


@pytest.mark.parametrize("over", ["memory", "http"])
async def test_a_client_that_cancels_ends_its_call_at_the_backend(over: str) -> None:
    held = Held()
    async with bridged(held, over, LONG) as front, Legacy(front.port, LEGACY) as c:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(c.post, c.request("tools/call", call("hold"), id=7))
            await held.until(started=1)
            await c.notify("notifications/cancelled", {"requestId": 7})
            await held.until(cancelled=1)
        assert not front.runtime.handler._generations.now.running
        assert (await c.call("tools/call", call("echo", text="on"))).result["content"][0]["text"] == "on"


async def test_a_client_that_leaves_ends_its_call_at_the_backend() -> None:
    held = Held()
    async with bridged(held, "memory", LONG) as front:
        c = Modern(front.port)
        with anyio.move_on_after(LIMIT) as gone:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(c.call, "tools/call", call("hold"))
                await held.until(started=1)
                tasks.cancel_scope.cancel()
            await held.until(cancelled=1)
        assert not gone.cancelled_caught


@pytest.mark.parametrize("era", ERAS)
async def test_the_calls_of_a_replaced_backend_are_told_so(era: str) -> None:
    old, new = Held(), Held()
    new.released.set()
    async with bridged(old, "memory", LONG, drain_time=0.0) as front, client(front, era) as c:
        async with anyio.create_task_group() as tasks:

            async def swap() -> None:
                await old.until(started=1)
                await front.runtime.handler.swap(new, "migrate")

            tasks.start_soon(swap)
            error = (await c.call("tools/call", call("hold"))).error
        assert error["code"] == -32603 and "replaced" in error["message"]
        await old.until(cancelled=1)
        assert (await c.call("tools/call", call("hold"))).result["content"][0]["text"] == "hold released"


class Deaf(MemoryTransport):
    """A transport of a user, whose `send` of one call goes on when it is cancelled."""

    def __init__(self, held: Held) -> None:
        super().__init__(held)
        self.ignored = 0
        self.released = asyncio.Event()

    async def send(self, out: Any) -> None:
        while b'"hold"' in out.payload and not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:  # noqa: PERF203 - it is the point
                self.ignored += 1
        await super().send(out)


@pytest.mark.parametrize("era", ERAS)
async def test_a_transport_that_ignores_its_cancellation_keeps_no_client_waiting(era: str) -> None:
    held = Held()
    held.released.set()
    transport = Deaf(held)
    async with served(ProxyHandler(transport), call_timeout=SHORT) as front:  # type: ignore[arg-type]
        async with client(front, era) as c:
            with anyio.fail_after(LIMIT + CLEANUP_TIME):
                result = (await c.call("tools/call", call("hold"))).result
            assert result["content"][0]["text"] == f"Timed out after {SHORT:g} s"
            assert transport.ignored
            transport.released.set()
            await turns()


async def test_a_handler_with_a_request_of_its_own_is_not_trusted_to_end() -> None:
    class Mine(ProxyHandler):
        async def request(self, method: str, params: Any, ctx: Any) -> Any:
            return await super().request(method, params, ctx)

    assert ProxyHandler(Held()).heeds_cancellation
    assert not Mine(Held()).heeds_cancellation


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not count cancellations")
async def test_a_cancellation_is_not_lost_in_the_turn_of_a_deadline() -> None:
    loop = asyncio.get_running_loop()
    deadline = Deadline(loop, 0.0, None)
    task = asyncio.ensure_future(run_in_time(asyncio.Event().wait(), deadline))
    with anyio.fail_after(LIMIT):
        while not deadline.expired:
            await asyncio.sleep(0)
    # The task has not run since its time was over.
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_goes_on_after_its_time() -> None:
    async def run() -> str:
        with pytest.raises(TimedOut):
            await run_in_time(asyncio.Event().wait(), Deadline(asyncio.get_running_loop(), 0.0, None))
        task: Any = asyncio.current_task()
        assert sys.version_info < (3, 11) or not task.cancelling()
        await asyncio.sleep(0)
        return "on"

    with anyio.fail_after(LIMIT):
        assert await asyncio.ensure_future(run()) == "on"
