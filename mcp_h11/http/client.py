# SPDX-License-Identifier: MIT
"""The client's end of HTTP/1.1: a request out, an answer in.

h11 writes each distinct request head and reads each distinct answer head (`AnswerCache`).  The client refuses an answer
if the two ends could disagree on where it ends.  It reads obsolete folds as spaces, as RFC 9112 5.2 wants of a user
agent. It follows no redirect, repeats no request, and keeps no body.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from sys import maxsize
from typing import Final

import h11

from ..protocol.errors import again
from .answers import AT_CLOSE, CHUNKED
from .answers import MAX_INFORMATIONAL as MAX_INFORMATIONAL
from .answers import AnswerCache as AnswerCache
from .answers import AnswerHead as AnswerHead
from .answers import ClientLimits as ClientLimits
from .answers import PostHead as PostHead
from .chunked import ChunkedBody, plain_chunks
from .heads import BLANK_LINE
from .messages import BODILESS, NEED_DATA, OWN_FIELDS, HTTPError, Signal, tokens_of, translated

# The bytes beside its data that each chunk of an answer may carry uncounted, since a stream may have no end: a size
# padded with zeros, a signature of 64 hex digits.
CHUNK_ALLOWANCE = 256


class AnswerError(Exception):
    """The server broke HTTP or passed a limit: close the connection.

    Attributes:
        begun: whether any byte had come since the request.
    """

    def __init__(self, message: str, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class AnswerCutShort(AnswerError):
    """The server's bytes ended before the answer did."""


class AnswerEnd(Enum):
    """The result of `ClientConnection.next_event` when no answer is outstanding."""

    END = "the answer has been read to its end"


END: Final = AnswerEnd.END


# RFC 9110 8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed
# content and it is not sending Transfer-Encoding."
_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH"))
_STATUS_LINE = b"HTTP/"
_QUOTED = re.compile(r":? b['\"]")

# The body of a request up to this size is kept until its answer has begun: h11 reads an answer only after it was given
# the request.  For a longer body h11 is given the request at once, so that the body need not be kept.
MAX_KEPT_BODY = 64 * 1024

# Where a client's connection is.
_IDLE = 0  # nothing is outstanding
_HEAD = 1
_IN_BODY = 2


def _write_request(
    method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
) -> tuple[h11.Connection, bytes]:
    lines = list(headers)
    for name, _ in lines:
        if name.lower() in OWN_FIELDS:
            raise ValueError(f"{name} is written by the connection")
    if body or method in _WITH_CONTENT:
        lines.append(("Content-Length", str(len(body))))
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=maxsize)
    try:
        head = connection.send(h11.Request(method=method, target=target, headers=lines))
    except h11.LocalProtocolError as error:
        # Without the value that h11 quotes: it may be a secret.
        raise ValueError(_QUOTED.split(str(error))[0]) from None
    except UnicodeEncodeError:
        raise ValueError("a request head is ASCII") from None
    connection.send(h11.Data(data=body))
    connection.send(h11.EndOfMessage())
    return connection, head + body


def _body_size(answer: h11.Response, method: str, names: dict[bytes, bytes]) -> int:
    """How long the body is: bytes, `AT_CLOSE` or `CHUNKED` (RFC 9112 6.3).  Raises ValueError."""
    if b"transfer-encoding" in names:
        # As `_set_framing`.
        if b"content-length" in names:
            raise ValueError("Content-Length and Transfer-Encoding in one answer")
        if answer.http_version != b"1.1":
            raise ValueError("Transfer-Encoding in an HTTP/1.0 answer")
    if method == "HEAD" or answer.status_code in BODILESS:
        return 0
    if b"transfer-encoding" in names:
        return CHUNKED  # h11 refuses all other codings
    if b"content-length" in names:
        return int(names[b"content-length"])  # h11 has compared repeated ones
    return AT_CLOSE


class _AnswerBody(ChunkedBody):
    """A chunked body without end, such as an event stream: the overhead of chunks is counted, with an allowance for
    each.

    The count never falls below zero, so a long quiet stream does not save up allowances for one huge chunk line.
    """

    __slots__ = ()

    def _add(self, event: h11.Data) -> None:
        super()._add(event)
        if event.chunk_end:
            # Exactly the bytes of this chunk and the chunks before it, so that the cuts between reads do not matter.
            # The line end behind the data is certain to come, and is counted as framing already.
            read = self._fed - len(self._connection.trailing_data[0]) + len(b"\r\n")
            counted = read - self.size - self._exempt
            self._refuse_past_limit(counted)
            self._exempt += min(counted, CHUNK_ALLOWANCE)


class ClientConnection:
    """One connection to a server.  `request`, then feed `receive_data` and ask `next_event`, until END.

    Ask until NEED_DATA before more is handed in: bytes that were not asked for are kept in memory.
    """

    __slots__ = (
        "_asked", "_begun", "_buffer", "_cache", "_chunks", "_connection", "_eof", "_error", "_informational", "_left",
        "_limits", "_method", "_scanned", "_state", "keep_alive",
    )  # fmt: skip

    def __init__(self, limits: ClientLimits | None = None, cache: AnswerCache | None = None) -> None:
        self._limits = limits or ClientLimits()
        self._cache = cache or AnswerCache()
        if self._cache.limits is None:
            self._cache.limits = self._limits
        elif self._cache.limits is not self._limits and self._cache.limits != self._limits:
            raise ValueError("connections that share an AnswerCache need equal limits")
        # (method, target, headers, body), kept until the answer head is known: h11 needs them if that head is not in
        # the cache.  Else `_connection` has them already.
        self._asked: tuple[str, str, Sequence[tuple[str, str]], bytes] | None = None
        self._connection: h11.Connection | None = None  # h11, after it was given the request
        self._chunks: ChunkedBody | None = None
        self._error: AnswerError | None = None
        self._buffer: bytes | bytearray = b""
        self._method = ""
        self._begun = self._eof = False
        self._informational = self._left = self._scanned = 0
        self._state = _IDLE
        self.keep_alive = True

    @property
    def reusable(self) -> bool:
        """Another request may be sent: no answer is outstanding, and the server sent no bytes beyond its answers."""
        return self._state == _IDLE and self.keep_alive and not self._eof and not self._buffer

    # -- out

    def request(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
        """The bytes of a whole request.  `Content-Length` is set here; `headers` need a Host.

        Raises:
            ValueError: a text that no request head can have, or a header that is written here.
            RuntimeError: the connection is not `reusable`.
        """
        if not self.reusable:
            raise RuntimeError("the connection cannot take a request")
        if method == "CONNECT":
            raise ValueError("CONNECT makes a tunnel, and this connection carries none")
        out = self._write(method, target, headers, body)
        self._asks(method)
        return out

    def post(self, head: PostHead, body: bytes) -> bytes | None:
        """The bytes of a whole POST request, where h11 wrote its head before; else None, and `request` writes it.

        Raises:
            RuntimeError: as `request`.
        """
        before = head.before
        if before is None:
            before = head.before = self._cache.requests.get(head.key)
        if before is None or len(body) > MAX_KEPT_BODY:
            return None
        if not self.reusable:
            raise RuntimeError("the connection cannot take a request")
        self._asked = ("POST", head.target, head.headers, body)
        self._asks("POST")
        return b"%b%d\r\n\r\n%b" % (before, len(body), body)

    def _asks(self, method: str) -> None:
        self._method = method
        self._begun = False
        self._informational = self._scanned = 0
        self._state = _HEAD

    def _write(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
        if method != "POST" or len(body) > MAX_KEPT_BODY:
            self._connection, out = _write_request(method, target, headers, body)
            return out
        key = (target, *map(tuple, headers))
        before = self._cache.requests.get(key)
        if before is None:
            self._connection, out = _write_request(method, target, headers, body)
            self._cache.add_request(key, out[: len(out) - len(body)], len(body))
            return out
        self._asked = (method, target, headers, body)
        return b"%b%d\r\n\r\n%b" % (before, len(body), body)

    # -- in

    def receive_data(self, data: bytes) -> None:
        """Takes the bytes of one read; b"" is the end of the server's bytes.  Call `next_event` next."""
        if not data:
            self._eof = True
            return
        self._begun = True
        if not self._buffer:
            self._buffer = data
            return
        if type(self._buffer) is not bytearray:
            self._buffer = bytearray(self._buffer)
        self._buffer += data

    def receive_whole(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """The head and the body, if the bytes of one read are one whole answer with a head that was read before.

        None for all other bytes, of which nothing is taken: `receive_data` comes next, as if this had not been called.
        """
        if self._state != _HEAD or self._buffer or self._eof or self._informational:
            return None
        end = data.find(b"\r\n\r\n") + 4
        raw = data[:end]
        known = self._cache.answers.get(raw) if self._method != "HEAD" else None
        if known is not None:
            head, size = known
            body = data[end:] if size == len(data) - end else None
        else:
            streamed = self._cache.chunked.get(raw)
            body = plain_chunks(data, end) if streamed is not None and self._method != "HEAD" else None
            head = streamed  # type: ignore[assignment]  # not None where there is a body
        if body is None:
            return None
        self._begun = True
        self._connection = self._asked = None
        self._left = self._scanned = 0
        self._state = _IDLE
        return head, body

    def next_event(self) -> AnswerHead | bytes | Signal | AnswerEnd:
        """The answer's head, then pieces of its body, then END; or NEED_DATA: call again after `receive_data`.

        Raises:
            AnswerCutShort: the server's bytes ended before the answer.
            AnswerError: the server broke HTTP or passed a limit.  Then every call raises it again.
        """
        if self._state == _IDLE:
            return END
        try:
            if self._error is not None:
                raise again(self._error)
            event = self._read_head() if self._state == _HEAD else self._read_body()
            if event is NEED_DATA and self._eof:
                raise AnswerCutShort("the server closed the connection before the end of its answer", self._begun)
        except AnswerError as error:
            self._error = error
            self.keep_alive = False
            raise
        return event

    def _refusal(self, message: str) -> AnswerError:
        return AnswerError(message, True)

    def _read_head(self) -> AnswerHead | Signal:
        while True:
            raw = self._take_head()
            if raw is None:
                return NEED_DATA
            known = self._cache.answers.get(raw) if self._method != "HEAD" else None
            if known is not None:
                head, self._left = known
                self._connection = self._asked = None
                self._state = _IN_BODY
                return head
            answer = self._ask_h11(raw)
            if type(answer) is h11.Response:
                head = self._begin_body(answer)
                if self._method != "HEAD":
                    self._cache.add_answer(raw, head, self._left)
                return head
            self._informational += 1
            if self._informational > self._limits.max_informational:
                raise self._refusal("Too many informational answers")

    def _take_head(self) -> bytes | None:
        """The bytes up to a blank line, counted here so that the limit does not depend on how they were cut."""
        buffer = self._buffer
        # A server of another protocol (TLS, SSH) may wait for our bytes now: refuse at the first wrong byte.
        if bytes(buffer[: len(_STATUS_LINE)]) != _STATUS_LINE[: len(buffer)]:
            raise self._refusal("The answer is not HTTP/1")
        limit = self._limits.max_head
        blank = BLANK_LINE.search(buffer, self._scanned, limit)
        if blank is None:
            if len(buffer) >= limit:
                raise self._refusal("Answer head too large")
            self._scanned = max(0, len(buffer) - 2)
            return None
        end = blank.end()
        raw, self._buffer = bytes(buffer[:end]), buffer[end:]
        self._scanned = 0
        return raw

    def _ask_h11(self, raw: bytes) -> h11.Response | h11.InformationalResponse:
        # Counted before h11 reads them, as the server does.
        if raw.count(b"\n") - 2 > self._limits.max_fields:
            raise self._refusal("Too many header fields")
        if self._connection is None:
            assert self._asked is not None
            self._connection, _ = _write_request(*self._asked)
        self._connection.receive_data(raw)
        try:
            answer = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise self._refusal(translated(error).message) from None
        assert type(answer) is h11.Response or type(answer) is h11.InformationalResponse
        return answer

    def _begin_body(self, answer: h11.Response) -> AnswerHead:
        if answer.http_version not in (b"1.0", b"1.1"):
            raise self._refusal("HTTP version not supported")
        headers = [(name.lower(), value) for name, value in answer.headers.raw_items()]
        try:
            size = _body_size(answer, self._method, dict(headers))
        except ValueError as error:
            raise self._refusal(str(error)) from None
        # HTTP/1.0 with keep-alive is left alone: so does h11.
        self.keep_alive = (
            answer.http_version == b"1.1" and size != AT_CLOSE and b"close" not in tokens_of(headers, b"connection")
        )
        if size == CHUNKED:
            assert self._connection is not None
            self._chunks = _AnswerBody(self._connection, maxsize, self._limits.max_chunk_overhead)
        self._connection = self._asked = None
        self._left = size
        self._state = _IN_BODY
        return AnswerHead(answer.status_code, tuple(headers), self.keep_alive)

    def _read_body(self) -> bytes | Signal | AnswerEnd:
        if self._left == CHUNKED:
            return self._read_chunks()
        if self._left == 0:
            return self._end()
        if not self._buffer:
            return self._end() if self._eof and self._left == AT_CLOSE else NEED_DATA
        if self._left == AT_CLOSE or len(self._buffer) <= self._left:
            data, self._buffer = bytes(self._buffer), b""
        else:
            data, self._buffer = bytes(self._buffer[: self._left]), self._buffer[self._left :]
        if self._left != AT_CLOSE:
            self._left -= len(data)
        return data

    def _read_chunks(self) -> bytes | Signal | AnswerEnd:
        chunks = self._chunks
        assert chunks is not None
        ended = False
        start = 0
        try:
            ended, start = chunks.read(self._buffer, 0)
        except HTTPError as error:
            # The data before the fault is given out first, as if it had come in a read of its own.
            self._error = self._refusal(error.message)
        data = chunks.take()
        if ended:
            self._chunks = None
            self._left = 0
        # Bytes behind the end that h11 was given early only have to be there: they are the end of the connection.
        self._buffer = self._buffer[start:] if start >= 0 else chunks.behind
        if data:
            return data
        if self._error is not None:
            raise again(self._error)
        return self._end() if ended else NEED_DATA

    def _end(self) -> AnswerEnd:
        self._state = _IDLE
        if self._buffer:
            # Bytes after the end belong to no request of this client.
            self.keep_alive = False
        return END
