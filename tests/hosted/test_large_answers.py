# SPDX-License-Identifier: MIT
"""A large event through ASGI: the messages are those of a small one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from asgi_support import Asked, ask, modern, scope_of, whole
from rawclient import LIMIT

from mcp_h11 import Context, MCPServer
from mcp_h11.endpoint import modern as writer
from mcp_h11.http.sse import LARGE_PAYLOAD

pytestmark = pytest.mark.anyio

EVENTS = ("accept", "text/event-stream")


def texts(made: list[int]) -> MCPServer:
    """The tool notes the size of each event that has left its hands."""
    handler = MCPServer("texts")

    @handler.tool(structured_output=False)
    async def thrice(size: int, ctx: Context) -> str:
        for _ in range(2):
            made.append(0)
            await ctx.info("x" * size)
            made[-1] = size
        return "x" * size

    return handler


async def test_a_large_event_is_one_message_with_the_bytes_of_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, Any] = {"name": "thrice", "arguments": {"size": LARGE_PAYLOAD}}
    level = {"io.modelcontextprotocol/logLevel": "info"}
    app = texts([]).asgi()
    try:
        in_parts = await ask(app, "tools/call", fields=[EVENTS], _meta=level, **params)
        monkeypatch.setattr(writer, "LARGE_PAYLOAD", 1 << 40)
        assert in_parts.sent == (await ask(app, "tools/call", fields=[EVENTS], _meta=level, **params)).sent
    finally:
        await app.aclose()
    assert [message.get("more_body") for message in in_parts.sent] == [None, True, True, False]
    assert all(len(message["body"]) > LARGE_PAYLOAD for message in in_parts.sent[1:])


async def test_large_events_wait_for_a_reader_that_takes_none() -> None:
    made: list[int] = []
    app = texts(made).asgi(write_high=LARGE_PAYLOAD)
    level = {"io.modelcontextprotocol/logLevel": "info"}
    try:
        body, fields = modern("tools/call", name="thrice", arguments={"size": LARGE_PAYLOAD}, _meta=level)
        asked = Asked(app, scope_of(fields=[*fields, EVENTS]), whole(body))
        asked.open.clear()
        with anyio.fail_after(LIMIT):
            while not made:
                await anyio.sleep(0)
        for _ in range(50):
            await anyio.sleep(0)
        assert made == [0]  # the first event fills the buffer, and the tool waits in it
        asked.open.set()
        await asked.end()
        assert made == [LARGE_PAYLOAD, LARGE_PAYLOAD]
        assert asked.body.count("x" * LARGE_PAYLOAD) == 3
    finally:
        await app.aclose()
