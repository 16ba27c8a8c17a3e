# SPDX-License-Identifier: MIT
"""A server on pipes for tests, line by line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import wire
from rawclient import INFO, LIMIT, Modern, encode, within
from wire import D, E

from mcp_h11 import Context, Elicit, InputRequired, MCPServer, Settings, serve_stdio
from mcp_h11.server.pipes import Descriptor

# Whether `piped` gives the server streams, which threads read and write, or descriptors as a program's own.
STREAMS = False
QUESTION = {"type": "object", "properties": {"it": {"type": "string"}}, "required": ["it"]}


class Held(MCPServer):
    """Tools that say when they run and end when they are let."""

    def __init__(self, **options: Any) -> None:
        super().__init__("held", version="1", **options)
        self.running: list[Any] = []
        self.cancelled: list[Any] = []
        self.changed = asyncio.Event()
        self.release = asyncio.Event()
        for tool in (self.echo, self.hold, self.stubborn, self.asks, self.raw, self.logs, self.touch, self.big):
            self.add_tool(tool, tool.__name__)
        self.add_resource("note://one", lambda: "one", name="one")

    async def until(self, *, running: int = 0, cancelled: int = 0) -> None:
        with anyio.fail_after(LIMIT):
            while len(self.running) < running or len(self.cancelled) < cancelled:
                self.changed.clear()
                await self.changed.wait()

    async def echo(self, text: str) -> str:
        return text

    async def hold(self, label: int = 0) -> str:
        self.running.append(label)
        self.changed.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.append(label)
            self.changed.set()
            raise
        return f"released {label}"

    async def stubborn(self, ctx: Context) -> str:
        with suppress(asyncio.CancelledError):
            await self.hold()
        await ctx.info("still here")
        return "went on"

    async def asks(self, ctx: Context) -> str:
        self.running.append("asks")
        self.changed.set()
        return str((await ctx.elicit("Which?", QUESTION)).data)

    async def raw(self, ctx: Context) -> Any:
        if ctx.input_responses is None:
            return InputRequired({"q": Elicit("Which?", QUESTION)}, state="kept")
        return f"{ctx.input_responses['q']['content']['it']} {ctx.request_state}"

    async def logs(self, ctx: Context, count: int) -> str:
        for number in range(count):
            await ctx.report_progress(number, count)
            await ctx.info(f"step {number}")
        return "logged"

    async def touch(self, times: int = 1) -> None:
        for _ in range(times):
            self.notify_resource_updated("note://one")

    async def big(self, size: int) -> str:
        return "x" * size


class Wire:
    """The client's end: lines, and a judge for what comes in."""

    def __init__(self, reader: asyncio.StreamReader, descriptor: int) -> None:
        self._reader = reader
        self._descriptor = descriptor
        self._modern = Modern(0)
        self.revision: str | None = None  # of the legacy session
        self.methods: dict[Any, str] = {}

    def write(self, data: bytes) -> None:
        os.write(self._descriptor, data)

    def send(self, message: Any) -> None:
        self.write(encode(message) + b"\n")

    def request(self, id: str | int, method: str, params: Any = None, *, revision: str | None = None) -> None:
        """One request: of the newest revision unless there is a session."""
        revision = revision or self.revision or E
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        if revision == E:
            message = self._modern.request(method, params, id=id)
        elif params is not None:
            message["params"] = params
        self.methods[id] = method
        self.send(message)

    def call(
        self, id: str | int, tool: str, *, revision: str | None = None, meta: Any = None, **arguments: Any
    ) -> None:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if meta is not None:
            params["_meta"] = meta
        self.request(id, "tools/call", params, revision=revision)

    def notify(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def line(self) -> bytes:
        return await within(LIMIT, "line", self._reader.readline())

    async def receive(self, revision: str | None = None) -> Any:
        """The next message, or None at the end."""
        line = await self.line()
        if not line:
            return None
        assert line.endswith(b"\n")
        message = json.loads(line)
        for one in message if isinstance(message, list) else [message]:
            if "id" not in one and "error" in one:
                continue  # to what was no message
            wire.checked(revision or self.revision or E, one, in_reply_to=self.methods.get(one.get("id")))
        return message

    async def answer(self, id: str | int, revision: str | None = None) -> Any:
        """The next message, which has to answer that request."""
        message = await self.receive(revision)
        assert message is not None and message.get("id") == id and type(message["id"]) is type(id), message
        return message

    async def result(self, id: str | int, revision: str | None = None) -> Any:
        message = await self.answer(id, revision)
        assert "result" in message, message
        return message["result"]

    async def error(self, id: str | int | None, revision: str | None = None) -> Any:
        message = await self.receive(revision)
        assert message.get("id") == id and "error" in message, message
        return message["error"]

    async def initialize(self, revision: str = D, capabilities: Any = None) -> Any:
        self.revision = revision
        params = {"protocolVersion": revision, "capabilities": capabilities or {}, "clientInfo": INFO}
        self.request("init", "initialize", params)
        result = await self.result("init")
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return result


@asynccontextmanager
async def piped(handler: MCPServer | None = None, **settings: Any) -> AsyncIterator[Wire]:
    """A server on two pipes; the end of the block closes its stdin, and it has to end then."""
    into, out = os.pipe(), os.pipe()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(out[0], "rb"))
    client = Wire(reader, into[1])
    with open(into[0], "rb") as stdin, open(out[1], "wb") as stdout:
        ends: Any = (stdin, stdout) if STREAMS else (Descriptor(stdin.fileno()), Descriptor(stdout.fileno()))
        serving = loop.create_task(
            serve_stdio(handler or Held(), settings=Settings(**settings), stdin=ends[0], stdout=ends[1], signals=False)
        )
        try:
            yield client
            client.close()
            await within(LIMIT, "end of the server", serving)
        finally:
            client.close()
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
            transport.close()


class Unwatched:
    """A loop that cannot watch descriptors, as asyncio's of Windows; in all else the loop that it is given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
