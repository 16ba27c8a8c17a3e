# SPDX-License-Identifier: MIT
"""The heads of the client's end of HTTP/1.1: the objects that they are, their limits, and those that come again.

It refuses nothing: `client` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from .messages import MAX_CACHED_HEAD

# Answers of status 1xx before the answer: a server sends one or two (100, 103), if any.
MAX_INFORMATIONAL = 16

# The end of an answer's body where it is no number of bytes.
AT_CLOSE = -1
CHUNKED = -2


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Limits of a server's answers: sizes in bytes, and counts.

    `max_head` includes the status line and the blank line, and holds for each informational answer, too.
    `max_chunk_overhead` is for the bytes of a chunked body beside its data and the least framing; each chunk that has
    ended takes CHUNK_ALLOWANCE off what was counted, so that an event stream may go on for ever.  Bodies have no limit
    here: they are given out in the pieces in which they come, and nothing of them is kept.
    """

    max_head: int = 32 * 1024
    max_fields: int = 100
    max_chunk_overhead: int = 16 * 1024
    max_informational: int = MAX_INFORMATIONAL

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be positive")


class AnswerHead:
    """Status and headers (names in lower case) of one answer.

    Attributes:
        keep_alive: the connection can carry another request after this answer.
        media_type: of `Content-Type`, without parameters and in lower case; "" if there is none.
        encoded: the body has a content coding other than "identity".
    """

    __slots__ = ("_values", "encoded", "headers", "keep_alive", "media_type", "status")

    def __init__(self, status: int, headers: tuple[tuple[bytes, bytes], ...], keep_alive: bool) -> None:
        self.status = status
        self.headers = headers
        self.keep_alive = keep_alive
        self._values = dict(reversed(headers))  # the first of a name is the last that is put in
        # Here and not where they are asked for: the head of most answers is one that was read before.
        self.media_type = (self.get("content-type") or "").partition(";")[0].strip().lower()
        self.encoded = (self.get("content-encoding") or "").strip().lower() not in ("", "identity")

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        value = self._values.get(name.lower().encode("ascii"))
        return None if value is None else value.decode("latin-1")


class PostHead:
    """The head of POST requests that differ in their body alone.  Give it to `ClientConnection.post`.

    Args:
        target: of the request line.
        headers: as for `ClientConnection.request`.
    """

    __slots__ = ("before", "headers", "key", "target")

    def __init__(self, target: str, headers: Sequence[tuple[str, str]]) -> None:
        self.target = target
        self.headers = tuple(headers)
        self.key = (target, *self.headers)
        self.before: bytes | None = None  # the bytes up to the length, once h11 has written them


class AnswerCache:
    """Heads as h11 wrote and read them, for the connections of one client; all of them need equal limits.

    `requests` has request heads without their length, so that a body of another length can follow.  `answers` has
    answer heads under their exact bytes, if they give the length of the body and leave the connection open; `chunked`
    has those whose body is chunked.  Servers date their answers, so an answer head repeats within one second only; at a
    lower rate h11 reads each of them.
    """

    def __init__(self, max_heads: int = 64) -> None:
        self.limits: ClientLimits | None = None
        self.requests: dict[tuple[object, ...], bytes] = {}
        self.answers: dict[bytes, tuple[AnswerHead, int]] = {}
        self.chunked: dict[bytes, AnswerHead] = {}
        self._max_heads = max_heads

    def add_request(self, key: tuple[object, ...], head: bytes, length: int) -> None:
        """Keep the bytes of a request head before its length.  h11 writes the length last because it is given last."""
        before, end = head[: -len(b"%d\r\n\r\n" % length)], b"\r\nContent-Length: %d\r\n\r\n" % length
        if head.endswith(end) and len(head) <= MAX_CACHED_HEAD:
            if len(self.requests) >= self._max_heads:
                self.requests.clear()
            self.requests[key] = before

    def add_answer(self, raw: bytes, head: AnswerHead, size: int) -> None:
        """Keep an answer head, unless the end of the connection is to end its body."""
        if not head.keep_alive or len(raw) > MAX_CACHED_HEAD:
            return
        if size >= 0:
            if len(self.answers) >= self._max_heads:
                self.answers.clear()
            self.answers[raw] = head, size
        else:  # CHUNKED, since a body up to the end of the connection leaves none open
            if len(self.chunked) >= self._max_heads:
                self.chunked.clear()
            self.chunked[raw] = head
