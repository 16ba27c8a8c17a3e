# SPDX-License-Identifier: MIT
"""JSON or events: the format for each setting and each Accept, with a small and with a large result."""

from __future__ import annotations

from typing import Any

import pytest
from rawclient import Legacy, Modern

from mcp_h11 import MCPServer, listening
from mcp_h11.http.reply import MAX_ANSWER_EVENT

pytestmark = pytest.mark.anyio

server = MCPServer("modes")


@server.tool(structured_output=False)
async def letters(count: int) -> str:
    """As many as one likes."""
    return "x" * count


async def legacy(port: int, count: int) -> Any:
    async with Legacy(port, "2025-11-25") as client:
        return await client.call("tools/call", {"name": "letters", "arguments": {"count": count}})


async def modern(port: int, count: int) -> Any:
    return await Modern(port).call("tools/call", {"name": "letters", "arguments": {"count": count}})


@pytest.mark.parametrize("era", [legacy, modern])
async def test_a_small_answer_is_an_event_where_the_setting_says_so(era: Any) -> None:
    async with listening(server, port=0, response="sse") as running:
        answer = await era(running.port, 10)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.result["content"][0]["text"] == "x" * 10


@pytest.mark.parametrize("era", [legacy, modern])
async def test_an_answer_too_large_for_one_event_of_official_clients_is_json(era: Any) -> None:
    async with listening(server, port=0, response="sse") as running:
        answer = await era(running.port, 3_000_000)
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.result["content"][0]["text"]) == 3_000_000


async def test_the_largest_event_is_one_byte_short_of_too_large() -> None:
    async with listening(server, port=0, response="sse") as running:
        frame = len((await legacy(running.port, 0)).message["result"]["content"][0]["text"])
        assert frame == 0
        envelope = len('{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":""}]}}')
        largest = await legacy(running.port, MAX_ANSWER_EVENT - envelope)
        larger = await legacy(running.port, MAX_ANSWER_EVENT - envelope + 1)
    assert largest.headers["content-type"] == "text/event-stream"
    assert larger.headers["content-type"] == "application/json"
