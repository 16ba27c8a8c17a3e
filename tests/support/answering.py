# SPDX-License-Identifier: MIT
"""A server in threads that answers as a test tells it, for clients that block: the load generator.

`Answering(reply)` listens on loopback.  `reply(message, head)` gives the bytes of an answer, or None to close the
connection without one.  `legacy(calls)` makes a `reply` that opens sessions, lists one tool, and leaves the calls to
the test.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

LIMIT = 30.0  # seconds

Reply = Callable[[dict[str, Any], bytes], bytes | None]


def answer(body: bytes, status: str = "200 OK", *fields: str, kind: str = "application/json") -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def result(message: dict[str, Any], value: dict[str, Any], *fields: str) -> bytes:
    """The result of a request."""
    return answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": value}).encode(), "200 OK", *fields)


def failure(message: dict[str, Any], code: int) -> bytes:
    """An error of JSON-RPC."""
    error = {"code": code, "message": "no"}
    return answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode())


def text(message: dict[str, Any], said: str = "ok", **more: Any) -> bytes:
    """The result of a tool."""
    return result(message, {"content": [{"type": "text", "text": said}], **more})


def last(data: bytes) -> bytes:
    """These bytes, and then the end of the connection."""
    return _LAST + data


def reset(data: bytes) -> bytes:
    """These bytes, and then a connection that is reset."""
    return _RESET + data


_LAST, _RESET = b"last:", b"reset:"


def legacy(calls: Reply, session: str | None = "s-1") -> Reply:
    """Sessions and a list of one tool, `work`; all other requests are `calls`."""

    def reply(message: dict[str, Any], head: bytes) -> bytes | None:
        if head.startswith(b"DELETE") or "id" not in message:
            return answer(b"", "202 Accepted")
        if message["method"] == "initialize":
            fields = [f"Mcp-Session-Id: {session}"] if session else []
            info = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "scripted", "version": "1"}}
            return result(message, info, *fields)
        if message["method"] == "tools/list":
            return result(message, {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
        return calls(message, head)

    return reply


class Answering:
    """The server.  Use it as ``with Answering(reply) as server``; `requests` has (head, message) of each request."""

    def __init__(self, reply: Reply, tls: ssl.SSLContext | None = None) -> None:
        self._reply = reply
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/mcp"
        self.requests: list[tuple[bytes, dict[str, Any]]] = []
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Answering:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # A descriptor that is only closed would leave `accept` waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(LIMIT)
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            stack.enter_context(sock)
            self._open.add(sock)
            file = stack.enter_context(sock.makefile("rb"))
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    if not line:
                        return
                    head += line
                length = 0
                for field in head.lower().split(b"\r\n"):
                    if field.startswith(b"content-length:"):
                        length = int(field.partition(b":")[2])
                message = json.loads(file.read(length)) if length else {}
                self.requests.append((head, message))
                said = self._reply(message, head)
                if said is None:
                    return
                sock.sendall(said.removeprefix(_LAST).removeprefix(_RESET))
                if said.startswith(_RESET):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if said.startswith((_LAST, _RESET)):
                    return
        self._open.discard(sock)
