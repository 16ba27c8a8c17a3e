# SPDX-License-Identifier: MIT
"""The server as an application of ASGI in real servers of other projects, alone and mounted in real frameworks."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from provision import everything_hosted
from rawclient import LIMIT

from mcp_h11 import Client

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

CASES = [
    ("uvicorn", None), ("hypercorn", None), ("granian", None),
    ("uvicorn", "starlette"), ("uvicorn", "fastapi"), ("uvicorn", "django"), ("hypercorn", "starlette"),
]  # fmt: skip
CALLS = 20


async def use(client: Client) -> None:
    """A little of everything that crosses HTTP."""
    tools = {tool["name"] for tool in await client.list_tools()}
    assert {"test_simple_text", "test_tool_with_progress"} <= tools
    seen: list[float] = []
    result = await client.call_tool("test_tool_with_progress", {}, progress=lambda *said: seen.append(said[0]))
    assert not result.get("isError") and seen == [0, 50, 100]
    (content,) = (await client.read_resource("test://static-text"))["contents"]
    assert "text" in content
    async with anyio.create_task_group() as group:
        for _ in range(CALLS):
            group.start_soon(client.call_tool, "test_simple_text", {})


@pytest.mark.parametrize(("by", "mounted"), CASES, ids=lambda value: value or "alone")
async def test_clients_of_each_era_use_it_and_it_ends_in_order(by: str, mounted: str | None) -> None:
    options = ("--mounted", mounted) if mounted else ()
    prefix = "/tools" if mounted else ""
    with ExitStack() as stack, everything_hosted(by, *options) as server:
        root = f"http://127.0.0.1:{server.port}"
        if mounted:
            own = await anyio.to_thread.run_sync(lambda: urllib.request.urlopen(f"{root}/own", timeout=LIMIT).read())
            assert own == b"a page of its own"
        places: list[tuple[str, dict[str, Any]]] = [
            (f"{root}{prefix or '/'}", {"revision": "2026-07-28"}),
            (f"{root}{prefix}/mcp", {"revision": "2025-11-25"}),
            (f"{root}{prefix}/sse", {"revision": "2024-11-05", "transport": "sse"}),
        ]
        for url, options_of_client in places:
            with anyio.fail_after(LIMIT):
                async with Client(url, **options_of_client) as client:
                    await use(client)
        if by != "hypercorn":  # it cancels the reader of each connection at its end, which asyncio logs as a traceback
            # The server is told to end while this stream is open, and has to end it: it would wait for it for ever.
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), LIMIT))
            stream.sendall(
                f"GET {prefix}/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
            )
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
