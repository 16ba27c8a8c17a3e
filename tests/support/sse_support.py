# SPDX-License-Identifier: MIT
"""An HTTP+SSE connection for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import wire
from rawclient import INFO, JSON_TYPE, SSE_TYPE, RawClient, Response, Stream, encode


class Peer:
    """A client of HTTP+SSE: its stream, and the address to POST to."""

    def __init__(self, port: int, stream: Stream) -> None:
        self.port, self.stream = port, stream
        self.endpoint = ""
        self.revision = ""

    async def post(self, message: Any, endpoint: str | None = None) -> Response:
        body = message if isinstance(message, bytes) else encode(message)
        async with RawClient(self.port) as client:
            return await client.request("POST", endpoint or self.endpoint, {"Content-Type": JSON_TYPE}, body)

    async def next(self, in_reply_to: str | None = None) -> dict[str, Any]:
        event = await self.stream.next_event()
        assert event is not None
        assert (event.event, event.id) == ("message", None)
        message: dict[str, Any] = event.json()
        wire.checked(self.revision, message, in_reply_to=in_reply_to)
        return message

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        response = await self.post(message)
        assert (response.status, response.body) == (202, b"")
        return await self.next(message["method"])

    async def initialize(self, revision: str, **capabilities: Any) -> dict[str, Any]:
        self.revision = revision
        params = {"protocolVersion": revision, "capabilities": capabilities, "clientInfo": INFO}
        answer = await self.ask({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        assert (await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})).status == 202
        return answer


@asynccontextmanager
async def connected(port: int, path: str = "/sse", kind: type[RawClient] = RawClient) -> AsyncIterator[Peer]:
    async with kind(port) as client:
        stream = await client.open_stream("GET", path, {"Accept": SSE_TYPE})
        assert (stream.status, stream.head.content_type) == (200, SSE_TYPE)
        assert "mcp-session-id" not in stream.headers
        peer = Peer(port, stream)
        event = await stream.next_event()
        assert event is not None and (event.event, event.id) == ("endpoint", None)
        assert event.data.startswith("/messages?session_id=")  # a path: clients refuse another origin
        peer.endpoint = event.data
        yield peer
