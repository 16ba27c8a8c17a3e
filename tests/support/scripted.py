# SPDX-License-Identifier: MIT
"""A server whose every byte a test writes: it records what came, and a function of the test says what goes back.

What it cannot do by itself a hostile server can: cut anywhere, answer nothing, answer another request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

LIMIT = 30.0
SESSION = "session-1"
CAPABILITIES = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "prompts": {}, "logging": {}}


@dataclass
class Seen:
    """One request.  `headers` have lower-case names; `message` is the JSON body, or None."""

    verb: str
    target: str
    headers: dict[str, str]
    message: Any
    at: float
    connection: int
    raw_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def method(self) -> str | None:
        return self.message.get("method") if isinstance(self.message, dict) else None

    @property
    def id(self) -> Any:
        return self.message.get("id") if isinstance(self.message, dict) else None


class Peer:
    """The connection that a request came on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    def cut(self) -> None:
        """No end, no answer: the connection is gone."""
        self.writer.close()

    async def gone(self) -> None:
        """Until the client has closed."""
        with anyio.fail_after(LIMIT), suppress(ConnectionError):
            while await self.reader.read(1024):
                pass

    async def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
        """JSON, or a text, or nothing."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if data:
            headers.setdefault("Content_Type", "application/json")
        await self.head(status, Content_Length=str(len(data)), **headers)
        await self.write(data)

    async def events(self, **headers: str) -> None:
        """Begins an event stream that ends with the connection."""
        await self.head(200, Content_Type="text/event-stream", Connection="close", **headers)

    async def event(self, message: Any = None, *, id: str | None = None, retry: int | None = None) -> None:
        await self.write(event(message, id=id, retry=retry))


def event(message: Any = None, *, id: str | None = None, retry: int | None = None) -> bytes:
    lines = [] if id is None else [f"id: {id}"]
    lines += [] if retry is None else [f"retry: {retry}"]
    lines.append("data: " + ("" if message is None else json.dumps(message)))
    return ("\n".join(lines) + "\n\n").encode()


Answers = Callable[[Seen, Peer], Awaitable[None]]


class Script:
    """What was asked so far, and by whom it is answered."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.seen: list[Seen] = []
        self.url = ""
        self.port = 0
        self.connections = 0
        self.failed: list[BaseException] = []
        self._changed = asyncio.Event()

    def of(self, method: str) -> list[Seen]:
        """The requests with this JSON-RPC method, or this verb."""
        return [seen for seen in self.seen if method in (seen.method, seen.verb)]

    async def until(self, method: str, count: int = 1) -> list[Seen]:
        """Waits until so many have come."""
        with anyio.fail_after(LIMIT):
            while len(self.of(method)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(method)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number, peer = self.connections, Peer(reader, writer)
        try:
            while not writer.is_closing():
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                verb, target, _ = head[0].split(" ")
                pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                message = json.loads(body) if body else None
                at = asyncio.get_running_loop().time()
                seen = Seen(verb, target, headers, message, at, number, pairs)
                self.seen.append(seen)
                self._changed.set()
                await self.answers(seen, peer)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # a fault of the test's: shown by it
            self.failed.append(error)
        finally:
            writer.close()


@asynccontextmanager
async def scripted(answers: Answers) -> AsyncIterator[Script]:
    """Serves by that function on loopback; a test that raised in it fails here."""
    script = Script(answers)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        await script.serve(reader, writer)
        running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    script.url = f"http://127.0.0.1:{script.port}/mcp"
    try:
        yield script
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        with anyio.fail_after(LIMIT):
            await asyncio.gather(*running, return_exceptions=True)
    assert not script.failed, script.failed


def result(seen: Seen, value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": seen.id, "result": value}


def failure(seen: Seen, code: int, message: str = "no", data: Any = None) -> dict[str, Any]:
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": seen.id, "error": error}


def session_server(
    answers: Answers,
    *,
    revision: str = "2025-11-25",
    session: str | None = SESSION,
    get: Answers | None = None,
    delete: Answers | None = None,
) -> Answers:
    """A server of sessions: the handshake is done, the rest is the test's."""

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.verb == "GET":
            await (get(seen, peer) if get else peer.answer(status=405))
        elif seen.verb == "DELETE":
            await (delete(seen, peer) if delete else peer.answer(status=204))
        elif seen.method == "initialize":
            said = {
                "protocolVersion": revision,
                "capabilities": CAPABILITIES,
                "serverInfo": {"name": "s", "version": "1"},
            }
            await peer.answer(result(seen, said), **({} if session is None else {"Mcp_Session_Id": session}))
        elif seen.method == "server/discover":
            await peer.answer(failure(seen, -32601), 200)
        elif seen.id is None or seen.method is None:
            await peer.answer(status=202)
        else:
            await answers(seen, peer)

    return serve


def modern_server(answers: Answers) -> Answers:
    """A server of 2026-07-28: what it is is said, the rest is the test's."""

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "server/discover":
            said = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, "resultType": "complete"}
            await peer.answer(result(seen, {**said, "ttlMs": 0, "cacheScope": "private"}))
        else:
            await answers(seen, peer)

    return serve
