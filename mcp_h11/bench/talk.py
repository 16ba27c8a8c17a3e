# SPDX-License-Identifier: MIT
"""The requests of the load generator as bytes, and a reader and judges of the answers.  It has no sockets.

Requests are bytes made before the clock runs.  An answer is read by its framing (Content-Length, chunked, or the end
of the connection) and judged by its content, JSON or server-sent events alike: a wrong answer is an error, and an
error ends the run.  What was judged once is compared byte by byte from then on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

LEGACY_VERSION = "2025-11-25"
MODERN_VERSION = "2026-07-28"
MAX_FRAMINGS = 4096  # heads of answers that are remembered; a session id makes each differ
MAX_WHOLE_ANSWER = 64 * 1024 * 1024  # bytes of one answer with its head
MAX_KNOWN = 128 * 1024  # bytes of an answer that are worth remembering: a longer one is judged in full each time
CLIENT = {"name": "bench", "version": "1"}
PROGRESS_TOKEN = "bench-progress"
VARIANTS = 16  # different calls in turn, so that an answer to the call before is noticed


class Wrong(Exception):
    """An answer that is not the one that was asked for.  `kind` is the name under which it is counted."""

    def __init__(self, text: str, kind: str = "wrong answer") -> None:
        super().__init__(text)
        self.kind = kind


# ------------------------------------------------------------------ requests


@dataclass
class Dialect:
    """The beginning of requests to one server: its address, and its answer to initialize."""

    host: str
    path: str = "/mcp"
    era: str = "legacy"
    headers: dict[str, str] = field(default_factory=dict)
    version: str = LEGACY_VERSION
    session: str | None = None

    def head(self, method: str, more: dict[str, str], length: int | None) -> bytes:
        # The fields and their order are those of the official Python client.
        lines = [f"{method} {self.path} HTTP/1.1", f"Host: {self.host}"]
        accept = "text/event-stream" if method == "GET" else "application/json, text/event-stream"
        fields = {"Accept": accept, "Connection": "keep-alive", "User-Agent": "mcp-bench/1", **self.headers, **more}
        lines += [f"{name}: {value}" for name, value in fields.items()]
        if length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def identity(self) -> dict[str, str]:
        """The header fields of a request in an open session."""
        fields = {"MCP-Protocol-Version": self.version}
        if self.session is not None:
            fields["Mcp-Session-Id"] = self.session
        return fields

    def post(self, message: dict[str, Any], more: dict[str, str] | None = None) -> bytes:
        body = json.dumps(message, separators=(",", ":")).encode()
        return self.head("POST", more or {}, len(body)) + body

    def request(self, id: int, method: str, params: dict[str, Any], progress: bool = False) -> bytes:
        """A request of either era, its head with the fields of the era."""
        return self.post(*self.message(id, method, params, progress))

    def message(
        self, id: int, method: str, params: dict[str, Any], progress: bool = False
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The same as its message and the fields of its head that belong to MCP."""
        meta: dict[str, Any] = {"progressToken": PROGRESS_TOKEN} if progress else {}
        more = self.identity()
        if self.era == "modern":
            meta |= {
                "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
                "io.modelcontextprotocol/clientInfo": CLIENT,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            more = {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": method}
            if method == "tools/call":
                more["Mcp-Name"] = params["name"]
        if meta:
            params = {**params, "_meta": meta}
        return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}, more

    def initialize(self, id: int = 0) -> bytes:
        params = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": CLIENT}
        return self.post({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params})

    def initialized(self) -> bytes:
        return self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, self.identity())

    def delete(self) -> bytes:
        return self.head("DELETE", self.identity(), None)

    def listen(self, last_event_id: str | None = None) -> bytes:
        more = self.identity()
        if last_event_id is not None:
            more["Last-Event-ID"] = last_event_id
        return self.head("GET", more, None)


# ------------------------------------------------------------------ answers


class Framing:
    """The head of an answer, as far as it matters to its reader."""

    __slots__ = ("chunked", "close", "events", "length", "session", "status")

    def __init__(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        try:
            protocol, status = lines[0].split(b" ", 2)[:2]
            self.status = int(status)
        except ValueError:
            raise Wrong(f"not an HTTP answer: {head[:80]!r}") from None
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        self.chunked = b"chunked" in fields.get(b"transfer-encoding", b"").lower()
        length = fields.get(b"content-length")
        if length is not None and not length.isdigit():
            raise Wrong(f"Content-Length is not a number: {length[:80]!r}")
        self.length = 0 if self.status in (204, 304) else int(length) if length is not None else None
        self.events = fields.get(b"content-type", b"").startswith(b"text/event-stream")
        connection = fields.get(b"connection", b"").lower()
        self.close = b"close" in connection or (protocol != b"HTTP/1.1" and b"keep-alive" not in connection)
        session = fields.get(b"mcp-session-id")
        self.session = session.decode("ascii") if session is not None else None


class WholeAnswer:
    """One whole answer."""

    __slots__ = ("body", "framing")

    def __init__(self, framing: Framing, body: bytes) -> None:
        self.framing = framing
        self.body = body

    def messages(self) -> list[Any]:
        """The JSON-RPC messages in it."""
        try:
            if self.framing.events:
                return [json.loads(data) for data, _ in events(self.body) if data]
            return [json.loads(self.body)] if self.body else []
        except ValueError:
            raise Wrong(f"not JSON: {self.body[:200]!r}") from None


class AnswerReader:
    """Cuts answers out of bytes.  One answer at a time: nothing is pipelined."""

    def __init__(self) -> None:
        self._framings: dict[bytes, Framing] = {}

    def framing(self, head: bytes) -> Framing:
        known = self._framings.get(head)
        if known is None:
            if len(self._framings) >= MAX_FRAMINGS:
                self._framings.clear()
            known = self._framings[head] = Framing(head)
        return known

    def take(self, data: bytes | bytearray, eof: bool = False) -> WholeAnswer | None:
        """The answer that `data` is, or None where it is not all there yet."""
        if len(data) > MAX_WHOLE_ANSWER:
            raise Wrong(f"an answer of more than {MAX_WHOLE_ANSWER} bytes")
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        framing = self.framing(bytes(data[:end]))
        start = end + 4
        if framing.length is not None:
            missing = start + framing.length - len(data)
            if missing > 0:
                return None
            if missing < 0:
                raise Wrong("bytes after the end of an answer")
            return WholeAnswer(framing, bytes(data[start:]))
        if framing.chunked:
            if not data.endswith(b"0\r\n\r\n"):
                return None
            body = dechunk(data, start)
            return None if body is None else WholeAnswer(framing, body)
        return WholeAnswer(framing, bytes(data[start:])) if eof else None


def chunk_size(line: bytes) -> int:
    """The number at the beginning of a chunk.  Raises Wrong."""
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if size < 0:
        raise Wrong(f"not the size of a chunk: {line[:80]!r}")
    return size


def dechunk(data: bytes | bytearray, start: int) -> bytes | None:
    """The body in chunks that begins at `start`, or None where its end is missing."""
    parts: list[bytes] = []
    while True:
        line = data.find(b"\r\n", start)
        if line < 0:
            return None
        size = chunk_size(bytes(data[start:line]))
        start = line + 2
        if size == 0:
            return b"".join(parts)
        if len(data) < start + size + 2:
            return None
        parts.append(bytes(data[start : start + size]))
        start += size + 2


def events(body: bytes) -> Iterator[tuple[str, str | None]]:
    """The data and the id of each event in a whole body of server-sent events."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data, id = [], None
        for line in block.split(b"\n"):
            if line.startswith(b"data:"):
                data.append(line[5:].strip().decode())
            elif line.startswith(b"id:"):
                id = line[3:].strip().decode()
        if data or id is not None:
            yield "\n".join(data), id


class EventWatch:
    """Reads an event stream as it comes, until `count` messages are there: the server may leave it open."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._head = False
        self._chunked = False
        self._raw = bytearray()
        self._text = bytearray()
        self.seen: list[Any] = []

    def feed(self, data: bytes) -> bool:
        """True once all are there."""
        self._raw += data
        if not self._head and not self._read_head():
            return False
        self._unpack()
        return self._read_events()

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        framing = Framing(bytes(self._raw[:end]))
        if framing.status != 200 or not framing.events:
            raise Wrong(f"no event stream: {bytes(self._raw[: end + 300])!r}")
        self._head, self._chunked = True, framing.chunked
        del self._raw[: end + 4]
        return True

    def _unpack(self) -> None:
        raw = self._raw
        if not self._chunked:
            self._text += raw
            raw.clear()
            return
        start = 0
        while (line := raw.find(b"\r\n", start)) >= 0:
            size = chunk_size(bytes(raw[start:line]))
            if len(raw) < line + 2 + size + 2:
                break
            self._text += raw[line + 2 : line + 2 + size]
            start = line + 2 + size + 2
        del raw[:start]

    def _read_events(self) -> bool:
        text = self._text
        for end in (b"\n\n", b"\r\n\r\n"):
            whole = text.rfind(end)
            if whole >= 0:
                whole += len(end)
                self.seen += [json.loads(data) for data, _ in events(bytes(text[:whole])) if data]
                del text[:whole]
                break
        if len(self.seen) > self._count:
            raise Wrong(f"{len(self.seen)} events where {self._count} were stored")
        return len(self.seen) == self._count


# ------------------------------------------------------------------ judging

Judge = Callable[[WholeAnswer], None]


def result_of(answer: WholeAnswer, id: int) -> tuple[dict[str, Any], list[Any]]:
    """The result, and the notifications before it.  Raises Wrong for everything that is not a good answer to `id`."""
    if answer.framing.status != 200:
        raise Wrong(f"status {answer.framing.status}: {answer.body[:300]!r}", f"HTTP {answer.framing.status}")
    messages = answer.messages()
    if not messages:
        raise Wrong("an answer without a message")
    return result_in(messages[-1], id), messages[:-1]


def result_in(message: Any, id: int) -> dict[str, Any]:
    """The result that a message has.  Raises Wrong where it is no good answer to request `id`."""
    result = message.get("result") if isinstance(message, dict) and message.get("id") == id else None
    if not isinstance(result, dict):
        error = message.get("error") if isinstance(message, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        kind = f"JSON-RPC {code}" if isinstance(code, int) else "wrong answer"
        raise Wrong(f"no result for request {id}: {str(message)[:300]}", kind)
    if result.get("isError"):
        raise Wrong(f"the tool failed: {str(result)[:300]}", "tool error")
    return result


def text_of(result: dict[str, Any]) -> str:
    content = result.get("content")
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise Wrong(f"no content: {str(result)[:300]}")
    if content[0].get("type") != "text":
        raise Wrong(f"no text: {str(result)[:300]}")
    return str(content[0]["text"])


def wants_text(id: int, text: str) -> Judge:
    """The answer to request `id` is this text."""

    def judge(answer: WholeAnswer) -> None:
        result, _ = result_of(answer, id)
        if text_of(result) != text:
            raise Wrong(f"not the answer to the question: {text_of(result)[:100]!r} for {text[:100]!r}")

    return judge


def wants_ticks(id: int, count: int) -> Judge:
    """`count` progress notifications in order, then the result."""

    def judge(answer: WholeAnswer) -> None:
        _, before = result_of(answer, id)
        check_ticks(before, count)

    return judge


def check_ticks(messages: list[Any], count: int, first: int = 1) -> None:
    progress = [m["params"]["progress"] for m in messages if m.get("method") == "notifications/progress"]
    if progress != list(range(first, first + count)):
        raise Wrong(f"{len(progress)} progress notifications ({progress[:3]}...) where {count} are due")


def wants_tools(id: int, least: int) -> Judge:
    """A list of `least` tools or more, on one page."""

    def judge(answer: WholeAnswer) -> None:
        result, _ = result_of(answer, id)
        if len(result.get("tools", ())) < least or result.get("nextCursor"):
            raise Wrong(f"{len(result.get('tools', ()))} tools on the first page where {least} are due")

    return judge


class SameAgain:
    """For servers of others: any good result, and then the same one each time."""

    def __init__(self, id: int) -> None:
        self._id = id
        self._first: Any = None

    def __call__(self, answer: WholeAnswer) -> None:
        result, _ = result_of(answer, self._id)
        result = {name: value for name, value in result.items() if name != "_meta"}
        if self._first is None:
            self._first = result
        elif result != self._first:
            raise Wrong(f"the answer changed: {str(result)[:200]}; --expect and --any say what may")
