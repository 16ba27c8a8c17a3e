# SPDX-License-Identifier: MIT
"""Requests, heads, limits and signals as values: the nouns of HTTP/1.1 for both ends.

Nothing here reads or writes bytes, but for the values of a head, which are latin-1 (RFC 9110 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final

import h11

from ..protocol.errors import Refusal

# Heads larger than this are rare and rarely repeat; an ordinary MCP head is 300 to 600 bytes.
MAX_CACHED_HEAD = 4 * 1024

Pair = tuple[bytes, bytes]  # a field: the name in lower case, the value
# Their values belong to one client and are secrets.
SESSION = b"mcp-session-id"
CLIENT_FIELDS = frozenset((b"authorization", b"cookie", SESSION, b"proxy-authorization"))

# The framing of a chunk with less data than this counts as overhead.  It is at least 5 bytes, so that `Limits` has room
# for 3,276 such chunks in a body; without this rule 4 MiB in chunks of one byte would be 12 s of CPU.
TINY_CHUNK = 64


class Signal(Enum):
    """The results of `next_event` when there is no request and no piece of an answer to return."""

    NEED_DATA = "more bytes, please"
    PAUSED = "answer first, then call response_done()"
    CLOSED = "no further request will come from this connection"


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED
CLOSED: Final = Signal.CLOSED


class HTTPError(Refusal):
    """The peer broke HTTP or passed a limit: answer with `status` by `respond()`, then close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message, close=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes (and a count of fields), as the peer sent them; None switches one off.

    `max_request_line` includes the line end, `max_head` the request line and the blank line.  `max_fields` counts the
    fields of a head, and `max_body` the bytes of a body without its framing.  `max_chunk_overhead` is for all that a
    chunked body carries beside its data and the least framing: extensions, padding, trailers, and the framing of
    chunks with less than TINY_CHUNK bytes of data.
    """

    max_request_line: int | None = 8 * 1024
    max_head: int | None = 32 * 1024
    max_fields: int | None = 100
    max_body: int | None = 4 * 1024 * 1024
    max_chunk_overhead: int | None = 16 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ValueError(f"{field.name} must be positive, or None for no limit")


class HeadShape:
    """The heads that differ in nothing that a verdict depends on.  They share the object of this class.

    `verdict` belongs to the floors above, as that of a `Head` does.
    """

    __slots__ = ("verdict",)

    def __init__(self) -> None:
        self.verdict: Any = None


class Head:
    """One request head as h11 read it.  All requests that repeat the head share the object: treat it as read-only.

    `headers` are its fields in order, `fields` the first value of each name; names are in lower case.  A head that was
    read by its lines makes both when one is asked for.  `session` is the value of Mcp-Session-Id, which most requests
    ask for; there may be blanks around it.

    `verdict` belongs to the floors above.  They keep there the result of checks that depend on the head alone, so that
    the checks are made once for all requests that repeat it.  The `shape`, if there is one, keeps it for more heads.
    """

    __slots__ = (
        "_fields", "_headers", "_raw", "cached", "chunked", "content_length", "expect_continue", "keep_alive", "method",
        "path", "query", "session", "shape", "size", "target", "verdict", "version",
    )  # fmt: skip

    # The scheme of the request, and the prefix of its path that was stripped on the way here, where a server around
    # this one knows them (`hosted`).
    scheme: str = ""
    prefix: str = ""

    def __init__(self, method: str, target: str, path: str, version: str, headers: tuple[Pair, ...]) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = path.partition("?")
        self.version = version
        self._raw = b""
        self._headers: tuple[Pair, ...] | None = headers
        self._fields: dict[bytes, bytes] | None = dict(reversed(headers))
        self.session = self._fields.get(SESSION)
        self.shape: HeadShape | None = None
        self.content_length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.expect_continue = False
        self.verdict: Any = None
        self.cached = False
        # The length of the body behind the head in bytes; -1 for a chunked body, which h11 decodes.
        self.size = 0

    def with_fields(self, raw: bytes, session: bytes | None, shape: HeadShape | None) -> Head:
        """A plain head without a body that has this one's request line, and the fields of `raw`, a whole head."""
        head = Head.__new__(Head)
        head.method, head.target, head.path, head.query = self.method, self.target, self.path, self.query
        head._raw, head.session, head.shape, head.version = raw, session, shape, self.version
        head._headers = head._fields = head.content_length = head.verdict = None
        head.chunked = head.expect_continue = head.cached = False
        head.keep_alive = True
        head.size = 0
        return head

    @property
    def headers(self) -> tuple[Pair, ...]:
        if self._headers is None:
            parts = [line.partition(b":") for line in self._raw.split(b"\r\n")[1:-2]]
            self._headers = tuple([(name.lower(), value.strip()) for name, _, value in parts])
            self._raw = b""
        return self._headers

    @property
    def fields(self) -> dict[bytes, bytes]:
        if self._fields is None:
            self._fields = dict(reversed(self.headers))
        return self._fields

    def forget_verdict(self) -> None:
        """Let go of the verdict where the head is not kept: it knows its head, and no cycle is to be left."""
        if not self.cached:
            self.verdict = None

    @property
    def repeats(self) -> bool:
        """Whether a name stands in several fields."""
        return len(self.fields) != len(self.headers)

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        if self._headers is None:
            return next(self._find(name), None)
        value = self.fields.get(name.lower().encode("ascii"))
        return None if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """All values of the header `name`, latin-1, in order."""
        if self._headers is None:
            return [*self._find(name)]
        wanted = name.lower().encode("ascii")
        if wanted not in self.fields:
            return []
        return [value.decode("latin-1") for found, value in self.headers if found == wanted]

    def _find(self, name: str) -> Iterator[str]:
        """Look for a name in the bytes: to make all fields costs three times as much."""
        mark = b"\r\n%b:" % name.lower().encode("ascii")
        lowered = self._raw.lower()
        at = lowered.find(mark)
        while at >= 0:
            begin, at = at + len(mark), lowered.find(b"\r\n", at + len(mark))
            yield self._raw[begin:at].strip().decode("latin-1")
            at = lowered.find(mark, at)


class HTTPRequest:
    """One whole request."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes) -> None:
        self.head = head
        self.body = body


def translated(error: h11.RemoteProtocolError) -> HTTPError:
    # h11 quotes the bytes that it refuses.  They are cut off: an answer must not echo the bytes of a peer.
    return HTTPError(error.error_status_hint, str(error).partition(": bytearray")[0][:200])


def tokens_of(headers: list[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    return {token.strip() for found, value in headers if found == name for token in value.lower().split(b",")}


# --- Writing heads -------------------------------------------------------------------------------------------------
BODILESS = frozenset((204, 304))
OWN_FIELDS = frozenset(("content-length", "transfer-encoding", "connection"))
