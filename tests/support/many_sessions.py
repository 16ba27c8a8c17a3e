# SPDX-License-Identifier: MIT
"""A server of many sessions, for `test_many_sessions`: a process of its own, so that its memory is nobody else's.

Says its port as a line of JSON; then takes commands on stdin, a line each, and answers each with a line of JSON:
`memory`, `open N` (sessions on links in memory, where there are no descriptors left), `notify`, `heard`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mcp_h11 import MCPServer, listening
from mcp_h11.server.connection import Connection

PAGE = os.sysconf("SC_PAGE_SIZE")
LIST_CHANGED = b'"method":"notifications/tools/list_changed"'
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def raise_descriptor_limit() -> int:
    """As many as this process may have; returns that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def post(message: dict[str, Any], session: str = "") -> bytes:
    body = json.dumps(message).encode()
    return head("POST", session, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n") + body


def get(session: str) -> bytes:
    return head("GET", session)


def head(method: str, session: str, more: str = "") -> bytes:
    line = f"{method} /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n"
    named = f"MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n" if session else ""
    return f"{line}{named}{more}\r\n".encode()


def session_of(answer: bytes) -> str:
    """The id that an answer to `initialize` gives."""
    found = re.search(rb"mcp-session-id: (\S+)\r\n", answer, re.IGNORECASE)
    assert found is not None, answer
    return found[1].decode()


class Link(asyncio.Transport):
    """A transport in memory that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""

    def write(self, data: Any) -> None:
        self.out += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """The end of the process closes it."""


async def opened(server: Any) -> Link:
    """A session with an open stream, on a link in memory."""
    link = Link()
    connection = Connection(server)
    connection.connection_made(link)
    connection.data_received(post(INITIALIZE))
    session = session_of(link.out)
    connection.data_received(post(INITIALIZED, session))
    link.out = b""
    connection.data_received(get(session))
    while b"text/event-stream" not in link.out:
        await asyncio.sleep(0)
    link.out = b""
    return link


async def main() -> None:
    raise_descriptor_limit()
    handler = MCPServer("many", version="1")
    options: dict[str, Any] = {"max_connections": None, "max_sessions": None, "max_sessions_peer": None}
    links: list[Link] = []
    loop = asyncio.get_running_loop()
    async with listening(handler, port=0, idle_timeout=None, keep_alive=None, **options) as server:
        print(json.dumps(server.port), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, _, number = line.strip().partition(" ")
            answer = 0
            if word == "memory":
                answer = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
            elif word == "open":
                links += [await opened(server) for _ in range(int(number))]
            elif word == "notify":
                handler.notify_tools_changed()
            elif word == "heard":
                answer = sum(link.out.count(LIST_CHANGED) == 1 for link in links)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
