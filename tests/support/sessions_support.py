# SPDX-License-Identifier: MIT
"""Sessions over real sockets for tests: servers, stores that wait, readers that are slow."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import wire
from rawclient import LIMIT, Legacy, RawClient, Stream, within

from mcp_h11 import Context, ServerHandler, listening
from mcp_h11.protocol.content import text
from mcp_h11.protocol.errors import ResourceNotFound
from mcp_h11.runtime.storage import MemoryEventStore

SOON = 0.05  # a limit that is meant to be reached

LEGACY_HTTP = (wire.B, wire.C, wire.D)

PORT_FILLER = "x" * 60_000

NARROW = 16 * 1024  # what a kernel that is asked to takes, and the server's own buffer

Tool = Callable[..., Awaitable[Any]]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The log is right to be loud; the test makes it so."""
    caplog.set_level(logging.CRITICAL + 1, "mcp_h11")


class Tools(ServerHandler):
    """Async functions of the tests as tools: ``fn(ctx, **arguments)``."""

    def __init__(self, **tools: Tool) -> None:
        self.tools = tools
        self.told: list[tuple[str, Any]] = []

    async def list_tools(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]}

    async def call_tool(self, params: dict[str, Any], ctx: Context) -> Any:
        result = await self.tools[params["name"]](ctx, **params.get("arguments", {}))
        return {"content": [text(result)]} if isinstance(result, str) else result

    async def list_resources(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"resources": []}

    async def read_resource(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        raise ResourceNotFound(params["uri"])

    async def notification(self, method: str, params: dict[str, Any], ctx: Context | None) -> None:
        self.told.append((method, params))


class Client(Legacy):
    """A client that knows its server from inside."""

    server: Any


@asynccontextmanager
async def served(handler: ServerHandler, revision: str = wire.D, **options: Any) -> AsyncIterator[Client]:
    """A server, and a client in a session of it."""
    async with listening(handler, port=0, **options) as server:
        client = Client(server.port, revision)
        client.server = server
        async with client:
            yield client


def narrow() -> dict[str, Any]:
    """Options of a server whose kernel, and which itself, keeps little of what a client has not read."""
    listening_socket = socket.socket()
    listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
    listening_socket.bind(("127.0.0.1", 0))
    return {"sock": listening_socket, "write_high": NARROW}


class Narrow(RawClient):
    """A client that takes a few KB ahead of what the test reads, so that not to read stalls the server at once."""

    async def connect(self) -> Narrow:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((self.host, self.port))
        opening = asyncio.open_connection(sock=sock, limit=4096)
        self._reader, self._writer = await within(self.limit, "connection", opening)
        return self


async def gone(server: Any, connections: int) -> None:
    """Until the server has no more than so many connections."""
    with anyio.fail_after(LIMIT):
        while len(server.connections) > connections:
            await anyio.lowlevel.checkpoint()


def call(name: str, id: str | int = 1, token: str | int | None = None, **arguments: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if token is not None:
        params["_meta"] = {"progressToken": token}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def updated(uri: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}


# --- the same, where the moment matters -----------------------------------------------------------------------------


class GatedStore(MemoryEventStore):
    """Keeps an event at once, and returns (or replays) when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.replaying = asyncio.Event()
        self.replays = asyncio.Event()
        self.replays.set()
        self.away = False

    async def append(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        await super().append(session_id, stream_id, index, data)
        self.kept.set()
        await self.gate.wait()

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        if self.away:
            raise OSError("the store is away")
        self.replaying.set()
        await self.replays.wait()
        return await super().replay(session_id, stream_id, after)

    def hold(self) -> None:
        self.kept.clear()
        self.gate.clear()


class Steps:
    """A tool that says what the test tells it to say."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[Any] = asyncio.Queue()
        self.started: asyncio.Queue[Context] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.ctx: Context | None = None

    async def __call__(self, ctx: Context) -> str:
        self.ctx = ctx
        self.started.put_nowait(ctx)
        try:
            while (order := await self.orders.get()) is not None:
                await ctx.info(order)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"

    def say(self, *orders: Any) -> None:
        for order in orders:
            self.orders.put_nowait(order)


def said(message: dict[str, Any]) -> Any:
    """What a log message says, or the text of the answer."""
    if "method" in message:
        return message["params"]["data"]
    return message["result"]["content"][0]["text"]


async def rest(stream: Stream) -> list[Any]:
    """All that is still to come, up to the clean end."""
    found = []
    while (message := await stream.next_message()) is not None:
        found.append(said(message))
    return found


async def echo(ctx: Context) -> str:
    return "echo"
