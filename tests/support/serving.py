# SPDX-License-Identifier: MIT
"""A server on loopback whose handler a test can watch, and the requests that a test writes byte by byte.

`served` is `listening` that looks afterwards whether anything was left behind; `Held` is a handler whose calls start,
wait and end when the test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from examples import whole
from rawclient import BOTH, LIMIT, Legacy, Modern, RawClient, encode

from mcp_h11 import Context, MCPServer, listening

LEGACY = "2025-11-25"
# Debug mode looks for calls from a wrong thread, and takes a quarter of the time of such a test: for the whole run.
ASYNCIO = ("asyncio", {"debug": whole()})
UVLOOP = ("asyncio", {"use_uvloop": True})
TURNS = 10  # of the loop, for what was ended to end


class Held(MCPServer):
    """Tools that wait: `echo` does not, `hold` waits on the loop, `stream` after a first message, `block` in a thread,
    `ask` for an answer of the client."""

    def __init__(self) -> None:
        super().__init__("held", version="1")
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.released = asyncio.Event()
        self.unblocked = threading.Event()
        self.changed = asyncio.Event()
        for tool in (self.echo, self.hold, self.stream, self.block, self.big, self.ask):
            self.add_tool(tool, name=tool.__name__)

    def _began(self, label: str) -> None:
        self.started.append(label)
        self.changed.set()

    async def until(self, *, started: int = 0, cancelled: int = 0) -> None:
        """Waits until so many calls have started, and so many were cancelled."""
        with anyio.fail_after(LIMIT):
            while len(self.started) < started or len(self.cancelled) < cancelled:
                self.changed.clear()
                await self.changed.wait()

    async def _wait(self, label: str) -> str:
        self._began(label)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(label)
            self.changed.set()
            raise
        return f"{label} released"

    async def echo(self, text: str) -> str:
        return text

    async def hold(self, label: str = "hold") -> str:
        return await self._wait(label)

    async def stream(self, ctx: Context, label: str = "stream") -> str:
        await ctx.info(f"{label} began")
        return await self._wait(label)

    def block(self, ctx: Context, label: str = "block") -> str:
        ctx.wait(self._mark(label))
        assert self.unblocked.wait(LIMIT)
        return f"{label} released"

    async def _mark(self, label: str) -> None:
        self._began(label)

    async def big(self, size: int) -> str:
        return "x" * size

    async def ask(self, ctx: Context, label: str = "ask") -> str:
        self._began(label)
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return str(answer.data)


class _Open:
    """How many servers a loop has now, and the tasks that it had before the first of them."""

    def __init__(self) -> None:
        self.servers = 0
        self.before = asyncio.all_tasks()


_open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Open] = WeakKeyDictionary()


@asynccontextmanager
async def served(handler: MCPServer | None = None, **options: Any) -> AsyncIterator[Any]:
    """A running server; afterwards nothing of it is left: no task, no connection.

    Tasks do not say to which server they belong, so those of several servers are looked for when the last one ends.
    """
    loop = asyncio.get_running_loop()
    opened = _open.setdefault(loop, _Open())
    opened.servers += 1
    try:
        async with listening(handler or Held(), **{"port": 0, **options}) as server:
            yield server
    finally:
        opened.servers -= 1
        if not opened.servers:
            del _open[loop]
    assert not server.connections and not server.replies and not server.runtime.tasks
    assert server.runtime.eager is None or not server.runtime.eager.spare
    if not opened.servers:
        await _ended(opened.before)


async def _ended(before: set[asyncio.Task[Any]]) -> None:
    for _ in range(TURNS):
        left = asyncio.all_tasks() - before
        if not left:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"left behind: {left}")


async def turns(count: int = TURNS) -> None:
    """Lets everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """The params of a tools/call."""
    return {"name": tool, "arguments": arguments}


def head(target: str = "/mcp", method: str = "POST", version: str = "1.1", **headers: str | None) -> bytes:
    """A request head as bytes; names take "_" for "-".  Host, Content-Type and Accept are there unless given."""
    given: dict[str, str | None] = {"Host": "localhost", "Accept": BOTH}
    if method == "POST":
        given["Content-Type"] = "application/json"
    names = {name.lower(): name for name in given}
    for name, value in headers.items():
        name = name.replace("_", "-")
        given[names.get(name.lower(), name)] = value
    lines = [f"{method} {target} HTTP/{version}", *(f"{n}: {v}" for n, v in given.items() if v is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request(body: bytes, target: str = "/mcp", **headers: str | None) -> bytes:
    """A whole POST."""
    return head(target, **{"Content_Length": str(len(body)), **headers}) + body


def modern(method: str, params: dict[str, Any] | None = None, *, id: str | int = 1, **headers: str | None) -> bytes:
    """A whole POST of the newest revision."""
    client = Modern(0)
    message = client.request(method, params, id=id)
    usual = {name.replace("-", "_"): value for name, value in client.headers_for(message).items()}
    return request(encode(message), **{**usual, **headers})


async def still_serves(port: int, path: str = "/mcp", **options: Any) -> None:
    """A new client of either era is served."""
    discovered = await Modern(port, path, **options).call("server/discover")
    assert discovered.status == 200 and discovered.result["supportedVersions"]
    async with Legacy(port, LEGACY, path, **options) as client:
        assert (await client.call("ping")).result == {}


async def lives(client: RawClient) -> None:
    """The connection is good for another request."""
    await client.send(modern("server/discover", id="alive"))
    answer = await client.receive("POST")
    assert (answer.status, answer.messages()[-1]["id"]) == (200, "alive")


async def is_closed(client: RawClient) -> None:
    """The server closes, and sends nothing more."""
    assert await client.receive_eof() == b""
