# SPDX-License-Identifier: MIT
"""anyio makes scopes, events and locks only where a task runs: in a callback of the loop its older releases raise.

Here every release does.  What a client or a server does when something came must not need more than it has there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio
import asking_server
import pytest
from anyio._core import _eventloop
from asking_server import asking

from mcp_h11 import ProxyHandler, listening
from mcp_h11.bridge.gateway import Gateway
from mcp_h11.client.client import Client
from mcp_h11.client.targets import Url
from mcp_h11.client.transports.jobs import begin_soon

pytestmark = pytest.mark.anyio

LIMIT = 30.0
REVISIONS = ["2025-06-18", "2025-11-25", "2026-07-28"]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every use of anyio outside of a task, which raises as well."""
    used: list[str] = []
    real = _eventloop.get_async_backend

    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # pytest's, between two tests
            return real(*args, **kwargs)
        if asyncio.current_task() is None:
            used.append("outside of a task")
            raise RuntimeError("anyio was used in a callback of the event loop")
        return real(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("anyio.") and getattr(module, "get_async_backend", None) is real:
            monkeypatch.setattr(module, "get_async_backend", checked)
    return used


async def use(target: Any, revision: str, *, touches: bool = True) -> None:
    updated = asyncio.Event()

    async def answer(params: dict[str, Any]) -> dict[str, Any]:
        with anyio.fail_after(LIMIT):
            await anyio.sleep(0)
        return {"action": "accept", "content": {"it": "this one"}}

    def heard(uri: str) -> None:
        anyio.current_time()  # a callback may use anyio
        updated.set()

    def logged(params: dict[str, Any]) -> None:
        logs.append(anyio.current_time())

    def reported(done: float, *_: Any) -> None:
        anyio.current_time()
        progress.append(done)

    logs: list[float] = []
    progress: list[float] = []

    with anyio.fail_after(LIMIT):
        async with Client(
            target,
            revision=revision,
            on_elicitation=answer,
            on_updated=heard,
            on_log=logged,
            timeout=LIMIT,
            close_timeout=1.0,
        ) as client:
            for _ in range(2):
                said = await client.call_tool("ask", progress=reported)
                assert "this one" in said["content"][0]["text"]
            assert progress
            if touches:
                await client.subscribe("a://b")
                # A bridge subscribes at its backend when its client has been told already.
                while not updated.is_set():
                    await client.call_tool("touch")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_handler_in_this_process_asks(revision: str, strict: list[str]) -> None:
    await use(asking(), revision)
    assert not strict


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_bridge_in_this_process_asks(revision: str, strict: list[str]) -> None:
    async with listening(asking(), port=0) as server:
        await use(ProxyHandler(Url(f"http://127.0.0.1:{server.port}/mcp")), revision)
    assert not strict


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_child_asks(revision: str, strict: list[str]) -> None:
    await use([sys.executable, "-m", "mcp_h11", asking_server.__file__, "--stdio"], revision)
    assert not strict


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_bridge_to_a_child_asks(revision: str, strict: list[str]) -> None:
    child = [sys.executable, "-m", "mcp_h11", asking_server.__file__, "--stdio"]
    async with listening(ProxyHandler(child, per_session=True), port=0) as server:
        await use(f"http://127.0.0.1:{server.port}/mcp", revision)
    assert not strict


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_server_over_http_asks(revision: str, strict: list[str]) -> None:
    async with listening(asking(), port=0) as server:
        await use(f"http://127.0.0.1:{server.port}/mcp", revision)
    assert not strict


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_bridge_over_http_asks(revision: str, strict: list[str]) -> None:
    async with listening(ProxyHandler(asking()), port=0) as server:
        await use(f"http://127.0.0.1:{server.port}/mcp", revision)
    assert not strict


# --- what begins a job where something came -------------------------------------------------------------------------


async def in_a_callback(function: Callable[..., Any], *args: Any) -> None:
    """Runs it as a read, a signal or a timer would."""
    done = asyncio.Event()

    def run() -> None:
        function(*args)
        done.set()

    asyncio.get_running_loop().call_soon(run)
    await done.wait()


async def test_a_job_begins_in_a_group_from_a_callback(strict: list[str]) -> None:
    ran = asyncio.Event()

    async def job(say: str) -> None:
        assert say == "it"
        ran.set()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await in_a_callback(begin_soon, tasks, job, "it")
            await ran.wait()
            ran.clear()
            begin_soon(tasks, job, "it")
            await ran.wait()
        # The group is over: nothing runs, and nothing is logged.
        await in_a_callback(begin_soon, tasks, job, "it")
        await asyncio.sleep(0)
    assert not strict


async def test_a_gateway_hears_a_signal_in_a_callback(strict: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read = asyncio.Event()
    gateway = Gateway({})

    async def reload() -> None:
        read.set()

    monkeypatch.setattr(gateway, "reload", reload)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as gateway._tasks:
            await in_a_callback(gateway._hung_up)
            await read.wait()
    assert not strict
