# SPDX-License-Identifier: MIT
"""The end of applications: several in one process, signals after it, requests while it lasts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from asgi_support import Asked, ask, modern, scope_of, whole
from rawclient import LIMIT

from mcp_h11 import MCPServer


class Slow(MCPServer):
    """Its lifespan ends when it is let go."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.life: list[str] = []
        self.ending, self.go = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.life.append("begin")
        yield
        self.ending.set()
        await self.go.wait()
        self.life.append("end")


@pytest.mark.anyio
async def test_a_request_while_the_lifespan_ends_does_not_begin_it_anew() -> None:
    slow = Slow()
    app = slow.asgi(lag_warning=None)
    assert (await ask(app, "tools/list")).status == 200
    ending = [asyncio.create_task(app.aclose()) for _ in range(2)]
    with anyio.fail_after(LIMIT):
        await slow.ending.wait()
        assert (await ask(app, "tools/list")).status == 503
        slow.go.set()
        for one in ending:
            await one
    assert slow.life == ["begin", "end"]
    assert (await ask(app, "tools/list")).status == 200, "after the end it begins anew"
    await app.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("forced", [False, True])
async def test_from_the_signal_on_it_is_not_ready_and_serves_until_the_server_has_closed_its_port(forced: bool) -> None:
    app = MCPServer("tools").asgi(lag_warning=None, health=True, drain_delay=LIMIT)
    assert (await ask(app, "tools/list")).status == 200
    server = app._server
    assert server is not None
    server.stop()
    ready = Asked(app, scope_of("GET", "/ready"), whole(b""))
    await ready.end()
    assert (ready.status, ready.json["reasons"]) == (503, ["draining"])
    assert (await ask(app, "tools/list")).status == 200
    if forced:
        server.stop()
    with anyio.fail_after(LIMIT):
        await app.aclose()  # as the lifespan of ASGI does it, when there are no more requests


@pytest.mark.anyio
async def test_without_a_delay_it_serves_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.hosted.server.LEAVE_TIME", 0.0)
    app = MCPServer("tools").asgi(lag_warning=None)
    assert (await ask(app, "tools/list")).status == 200
    server = app._server
    assert server is not None
    server.stop()
    with anyio.fail_after(LIMIT):
        while not server.draining:
            await asyncio.sleep(0)
    assert (await ask(app, "tools/list")).status == 503
    await app.aclose()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_signal_after_the_end_of_two_applications_reaches_the_servers_own_handler(order: tuple[int, int]) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))

    async def both() -> None:
        apps = [MCPServer(name).asgi(lag_warning=None) for name in ("one", "two")]
        for app in apps:
            assert (await ask(app, "tools/list")).status == 200
        for index in order:
            await apps[index].aclose()

    try:
        asyncio.run(both())
        signal.raise_signal(signal.SIGTERM)  # by now the loop of the applications is closed
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.anyio
async def test_a_body_in_very_many_parts_is_one_body() -> None:
    app = MCPServer("tools").asgi(lag_warning=None)
    body, fields = modern("tools/list")
    parts: list[Any] = [{"type": "http.request", "body": bytes([one]), "more_body": True} for one in body]
    asked = Asked(app, scope_of(fields=fields), *parts, whole(b""))
    await asked.end()
    assert asked.status == 200
    await app.aclose()


@pytest.mark.anyio
async def test_a_body_that_is_whole_only_after_the_end_runs_no_call() -> None:
    ran: list[str] = []

    async def tool() -> str:
        ran.append("tool")
        return "done"

    server = MCPServer("tools")
    server.add_tool(tool, name="tool")
    app = server.asgi(lag_warning=None, access_log=True)
    body, fields = modern("tools/call", name="tool", arguments={})
    asked = Asked(app, scope_of(fields=fields), {"type": "http.request", "body": body[:5], "more_body": True})
    with anyio.fail_after(LIMIT):
        while not asked.incoming.empty():
            await asyncio.sleep(0)
        await app.aclose()
    asked.incoming.put_nowait(whole(body[5:]))
    await asked.end()
    assert (asked.status, ran) == (503, [])


@pytest.mark.anyio
async def test_a_request_that_is_given_up_before_its_answer_is_sent_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = MCPServer("tools").asgi(lag_warning=None)
    assert (await ask(app, "tools/list")).status == 200
    assert app._server is not None
    monkeypatch.setattr(app._server.endpoint, "respond", lambda request, reply: reply._link.abort())
    assert (await ask(app, "tools/list")).sent == []
    await app.aclose()
