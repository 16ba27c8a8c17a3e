# SPDX-License-Identifier: MIT
"""A client's call without a kernel, for micro.py: our `Client` on connections whose other end is a text that is known.
The backend of a bridge is such an end as well.

The connection answers each request in the next turn of the loop, as a socket would, with the bytes of one answer; only
the id in it is that of the request.  So a case is the client alone, and a dozen lines of Python in the place of a
server.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from mcp_h11 import Client
from mcp_h11.client.http import httpclient
from mcp_h11.client.http.line import SocketLine
from mcp_h11.client.http.urls import Origin

BATCH = 20
JSON, EVENTS = 1, 2  # ports
_ID = re.compile(rb'"id":(\d+)')
_HEAD = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: %b\r\n%b\r\n\r\n"
_RESULT = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"3"}]%b}}'
_BEGUN = (
    b'{"jsonrpc":"2.0","id":%b,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
    b'"serverInfo":{"name":"s","version":"1"}}}'
)
_FOUND = (
    b'{"jsonrpc":"2.0","id":%b,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],'
    b'"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}'
)


def answer_to(request: bytes, events: bool) -> bytes:
    found = _ID.search(request, request.find(b"\r\n\r\n"))
    if found is None:
        return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    modern = b"2026-07-28" in request
    if b'"initialize"' in request:
        body = _BEGUN % found[1]
    elif b'"server/discover"' in request:
        body = _FOUND % found[1]
    else:
        body = _RESULT % (found[1], b',"resultType":"complete"' if modern else b"")
    if events:
        event = b"id: c3RyZWFtLWlk.1\ndata: %b\n\n" % body
        return _HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (
            len(event),
            event,
        )
    return _HEAD % (b"application/json", b"Content-Length: %d" % len(body)) + body


class FarEnd(asyncio.Transport):
    """A transport whose peer answers at once."""

    def __init__(self, protocol: Any, events: bool) -> None:
        super().__init__()
        self._protocol = protocol
        self._events = events
        self._loop = asyncio.get_running_loop()
        self.pair = socket.socketpair()  # never readable: a client asks whether an idle connection has ended
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self._loop.call_soon(self._arrive, answer_to(bytes(data), self._events))

    def _arrive(self, data: bytes) -> None:
        protocol = self._protocol
        if hasattr(protocol, "get_buffer"):
            protocol.get_buffer(-1)[: len(data)] = data
            protocol.buffer_updated(len(data))
        else:
            protocol.data_received(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.pair[0] if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        for end in self.pair:
            end.close()


async def _open(origin: Origin, *given: Any) -> tuple[SocketLine, SocketLine]:
    """In the place of `open_stream`: the port says the form of the answers."""
    line = SocketLine(given[-1])
    FarEnd(line, origin.port == EVENTS)
    return line, line


def without_a_kernel() -> None:
    """From now on every client of this process has such connections."""
    httpclient.open_stream = _open  # type: ignore[assignment]


class ClientCase:
    """A client that is entered when the case runs first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, revision: str, at_once: int, port: int = JSON) -> None:
        self._loop = loop
        self._at_once = at_once
        self._client = Client(f"http://127.0.0.1:{port}/mcp", revision=revision, proxy=None)
        self._life: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def __call__(self, count: int) -> None:
        self._loop.run_until_complete(self._run(count))

    async def _live(self, ready: asyncio.Event) -> None:
        async with self._client:  # entered and left by one task
            ready.set()
            await self._over.wait()

    async def _run(self, count: int) -> None:
        if self._life is None:
            ready = asyncio.Event()
            self._life = asyncio.ensure_future(self._live(ready))
            await ready.wait()
        for _ in range(count // self._at_once):
            if self._at_once == 1:
                result: Any = await self._client.call_tool("add", {"a": 1, "b": 2})
            else:
                calls = [self._client.call_tool("add", {"a": 1, "b": 2}) for _ in range(self._at_once)]
                *_, result = await asyncio.gather(*calls)
            assert result["content"][0]["text"] == "3"

    def close(self) -> None:
        if self._life is not None:
            self._over.set()
            self._loop.run_until_complete(self._life)


def client_cases(loop: asyncio.AbstractEventLoop) -> dict[str, ClientCase]:
    return {
        "client call": ClientCase(loop, "2025-11-25", BATCH),
        "client call, one": ClientCase(loop, "2025-11-25", 1),
        "client call, modern": ClientCase(loop, "2026-07-28", BATCH),
        "client call, events": ClientCase(loop, "2025-11-25", BATCH, EVENTS),
    }
