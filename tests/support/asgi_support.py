# SPDX-License-Identifier: MIT
"""The server's side of ASGI, by hand: a scope, the messages that a client causes, and the messages that come back."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import anyio
from rawclient import LIMIT

Message = dict[str, Any]

ACCEPT = "application/json, text/event-stream"
VERSION = "2026-07-28"


def scope_of(method: str = "POST", path: str = "/", *, root: str = "", fields: Any = (), **more: Any) -> Message:
    """The scope of one request; `fields` are (name, value) texts beside those that every MCP request has."""
    given = {name.lower() for name, _ in fields}
    usual = [("host", "localhost"), ("accept", ACCEPT), ("content-type", "application/json")]
    headers = [pair for pair in usual if pair[0] not in given] + [(name.lower(), value) for name, value in fields]
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": root,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("192.0.2.7", 5000), "server": ("127.0.0.1", 80), **more,
    }  # fmt: skip


def modern(method: str, identity: int = 1, **params: Any) -> tuple[bytes, list[tuple[str, str]]]:
    """The body and the fields of a request of 2026-07-28."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
        **params.pop("_meta", {}),
    }
    message = {"jsonrpc": "2.0", "id": identity, "method": method, "params": {**params, "_meta": meta}}
    fields = [("mcp-protocol-version", VERSION), ("mcp-method", method)]
    name = params.get("name") or params.get("uri")
    if name:
        fields.append(("mcp-name", str(name)))
    return json.dumps(message).encode(), fields


class Asked:
    """One request to an application.  Put messages into `incoming`; `sent` are those that came back."""

    def __init__(self, app: Any, scope: Message, *incoming: Message) -> None:
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in incoming:
            self.incoming.put_nowait(message)
        self.changed = asyncio.Event()
        self.open = asyncio.Event()  # cleared, the client takes no further message
        self.open.set()
        self.task = asyncio.create_task(app(scope, self.incoming.get, self._send))

    async def _send(self, message: Message) -> None:
        await self.open.wait()
        self.sent.append(message)
        self.changed.set()

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def end(self) -> None:
        """Wait for the application to return."""
        with anyio.fail_after(LIMIT):
            await self.task

    async def until(self, text: str) -> None:
        """Wait until the client has got this text."""
        with anyio.fail_after(LIMIT):
            while text not in self.body:
                self.changed.clear()
                await self.changed.wait()

    async def close(self) -> None:
        if not self.task.done():
            self.task.cancel()
        with suppress(BaseException):
            await self.task

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def whole(body: bytes) -> Message:
    """The message of a body that comes in one part."""
    return {"type": "http.request", "body": body, "more_body": False}


async def ask(app: Any, method: str, *, path: str = "/", root: str = "", fields: Any = (), **params: Any) -> Asked:
    """One request of 2026-07-28 and its whole answer."""
    body, own = modern(method, **params)
    asked = Asked(app, scope_of(path=path, root=root, fields=[*own, *fields]), whole(body))
    await asked.end()
    return asked
