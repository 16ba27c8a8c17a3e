# SPDX-License-Identifier: MIT
"""The server's end of HTTP/1.1, sans-IO: bytes in, whole `HTTPRequest`s out; an answer in, bytes out.

Rule: **h11 is the authority on syntax, and it sees each request line once.**  Clients repeat the same head byte for
byte, so a plain head (HTTP/1.1, keep-alive, a Content-Length or no body, no Expect, no Upgrade) of at most 4 KiB is
kept in a `HeadCache` under its exact bytes and used again.  A plain head that is new, with a request line that h11 has
accepted, is read by its form or its lines (`HeadForms` and `HeadLines` say why that gives what h11 would).  h11 reads
every other head each time, and decodes chunked bodies.  h11 writes answer heads, once for each status and set of
headers; only the length and the date are put in afterwards.

Where h11 is laxer than a server on the open internet may be, this module refuses, on both paths alike:
Content-Length beside Transfer-Encoding, repeated Content-Length, Transfer-Encoding on HTTP/1.0, versions other than
1.0 and 1.1, obs-fold, a Host that is no authority, a target of no known form, and everything past `Limits`, which
are counted here so that they do not depend on how the bytes were cut.

It knows nothing of MCP, of sockets and of time.  It never reads a next request before `response_done()`.
"""

from __future__ import annotations

from sys import maxsize

import h11

from .bodies import ArrivingBody
from .chunked import ChunkedBody
from .headers import Headers
from .heads import NEW_IN_A_ROW, UNLOOKED, HeadCache, ask_h11, end_of_head
from .messages import BODILESS, CLOSED, NEED_DATA, PAUSED, TINY_CHUNK, Head, HTTPError, HTTPRequest, Limits, Signal
from .sse import Parts

# RFC 9112 2.2: "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
MAX_LEADING_CRLF = 2

# Where the connection is.  The order matters to receive_data: bytes are kept up to _RESPONDING, dropped from
# _DRAINING on.
_READY = 0  # between requests, or in a head
_CHUNKS = 1  # h11 decodes a chunked body
_RESPONDING = 2  # a whole request was handed out and the connection may be used again after the answer
_BODY = 3  # a length-delimited body is arriving
_DRAINING = 4  # an answer is due or under way, and it is the last one
_CLOSED = 5

# How much of the answer has been sent.
_NOTHING = 0
_STREAM = 1
_WHOLE = 2

# How the pieces of a stream are written.
_CHUNKED = 0
_PLAIN = 1  # to HTTP/1.0: the end of the connection ends the stream
_UNWRITTEN = 2  # after HEAD


class ServerConnection:
    """One connection.  Feed `receive_data`, ask `next_event` until it returns a `Signal`, answer, `response_done()`.

    Hand in the bytes of one read, at most some 72 KiB, so that other connections get their turn.

    Attributes:
        head: the request that is being received or answered, else None.
        requests: how many requests were handed out.
        decoded: pieces of chunked bodies that were decoded, in all; each costs some microseconds.
        eof: the peer will send nothing more (a half-closed peer still gets its answers).
        closing: close the transport now; `next_event` returns CLOSED.
    """

    __slots__ = (
        "_answer", "_blank_lines", "_body", "_buffer", "_cache", "_chunks", "_close", "_foreseen", "_framing", "_heads",
        "_limits", "_max_body", "_max_cached", "_read_new", "_scanned", "_start", "_start_of_body", "_state",
        "_templates", "_unknown", "_waiting", "closing", "decoded", "eof", "head", "requests",
    )  # fmt: skip

    def __init__(self, cache: HeadCache, limits: Limits) -> None:
        if cache.limits is not limits:  # those of the connection before, most often
            cache.limit(limits)
        self._cache = cache
        self._heads = cache.heads
        self._read_new = cache.forms.read
        self._unknown = -NEW_IN_A_ROW  # rises with each new head; above 0: heads that are not looked for
        self._templates = cache.templates
        self._max_cached = cache.max_head_bytes
        self._limits = limits
        self._max_body = limits.max_body or maxsize
        # The bytes from _start on have arrived and are not consumed.  The buffer is the `bytes` of a read, and becomes
        # a bytearray when more is appended: appending to `bytes` would make many small reads quadratic.
        self._buffer: bytes | bytearray = b""
        self._start = self._scanned = 0
        # The head that `receive_whole` or `receive_view` found, and where its body begins in the buffer.
        self._foreseen: Head | None = None
        self._start_of_body = 0
        self._blank_lines = 0
        self._body: ArrivingBody | None = None
        self._chunks: ChunkedBody | None = None
        self._waiting: h11.Connection | None = None  # of a request that expects 100 (Continue)
        self._state = _READY
        self._answer = _NOTHING
        self._close = False
        self._framing = _CHUNKED
        self.head: Head | None = None
        self.requests = self.decoded = 0
        self.eof = self.closing = False

    # -- in

    def receive_data(self, data: bytes) -> None:
        """Takes the bytes of one read; b"" is the end of the peer's bytes.  Call `next_event` next."""
        if not data:
            self.eof = True
        elif self._state <= _RESPONDING:
            if self._buffer:
                self._append(data)
            else:
                self._buffer = data
        elif self._state == _BODY:
            self._receive_body(data)

    def receive_whole(self, data: bytes) -> HTTPRequest | None:
        """The request, if `data` is exactly one request, h11 need not be asked and no byte came before it.

        Most reads are like that.  Else the result is None: the data is received, and `next_event` comes next.
        """
        if self._state == _READY and not self._buffer:
            # A head that is found here keeps the connection alive, and its body, if any, has a length.
            unknown = self._unknown
            if unknown > 0:
                self._unknown = unknown - 1
                head, end = self._read_new(data)
            else:
                # From behind, since most bodies are short; no head that is found so has a second blank line.
                end = data.rfind(b"\r\n\r\n", 0, self._max_cached) + 4
                raw = data[:end]
                head = self._heads.get(raw)
                if head is not None:
                    self._unknown = -NEW_IN_A_ROW
                elif (head := self._cache.read_new(raw)) is not None:
                    self._unknown = unknown + 1 if unknown else UNLOOKED
            if head is not None:
                if end + head.size == len(data) and head.size <= self._max_body:
                    self.head = head  # as `_deliver`
                    self._blank_lines = 0
                    self.requests += 1
                    self._state = _RESPONDING
                    return HTTPRequest(head, data[end:])
                self._foreseen, self._start_of_body = head, end
        self.receive_data(data)
        return None

    def receive_view(self, view: memoryview) -> None:
        """`receive_data` of a place that the caller uses again after this.  A body in it is copied once."""
        if self._state == _BODY:
            return self._receive_body(view)
        if self._state == _READY and not self._buffer and len(view) > self._max_cached:
            begin = bytes(view[: self._max_cached])  # as `receive_whole`; a head that is known is not kept
            begin = begin[: begin.rfind(b"\r\n\r\n") + 4]
            self._foreseen, self._start_of_body = self._heads.get(begin) or self._cache.read_new(begin), 0
            if self._foreseen is not None:
                view = view[len(begin) :]
        self.receive_data(bytes(view))

    def _append(self, data: bytes) -> None:
        buffer = self._buffer
        if type(buffer) is bytearray:
            # Deleting from the front of a bytearray moves a pointer.
            del buffer[: self._start]
        else:
            self._buffer = buffer = bytearray(buffer[self._start :])
        buffer += data
        self._start = 0

    def _receive_body(self, data: bytes | memoryview) -> None:
        body = self._body
        assert body is not None
        if len(data) > body.missing:
            self._append(bytes(data[body.missing :]))  # of the next request
            data = data[: body.missing]
        body.add(data)

    def body_room(self) -> memoryview | None:
        """Where the next bytes of a body may be read into, and then counted by `fill_body`; None: `receive_data`."""
        return self._body.room() if self._body is not None else None

    def fill_body(self, count: int) -> None:
        """So many bytes were read into the `body_room()` that was asked for last.  Call `next_event` next."""
        if self._body is not None:  # else the answer is due already
            self._body.fill(count)

    def next_event(self) -> HTTPRequest | Head | Signal:
        """The next whole request, once per request preceded by its `Head` if its body has not all arrived.

        After a `Head`: refuse it with `respond`, or send `continue_100()`, or just go on.  After an `HTTPRequest`:
        answer it, then `response_done()`; until then PAUSED.  NEED_DATA: call again after `receive_data`, or at the
        next turn where there is `more`.

        Raises:
            HTTPError: answer with its status by `respond`, which says `Connection: close`; then drain and close.
        """
        if self._state != _READY:
            return self._continue()
        buffer = self._buffer
        start = self._start
        head, self._foreseen = self._foreseen, None
        end = self._start_of_body
        if head is None:
            # The only blank line of a cached head is its last, so bytes up to the first blank line can be looked up.
            end = buffer.find(b"\r\n\r\n", start, start + self._max_cached) + 4
            if end != 3:
                head = self._heads.get(bytes(buffer[start:end]))
        if head is None:
            try:
                found = self._read_head()
            except HTTPError:
                self._drain()
                raise
            if type(found) is not Head:
                return found
            head = found
            end = self._start
        self.head = head
        size = head.size
        if size > self._max_body:
            self._drain()
            raise HTTPError(413, "Request body too large")
        if size < 0:
            self._state = _CHUNKS
            return self._read_chunks() or (CLOSED if self.eof and not self.more else head)
        stop = end + size
        length = len(buffer)
        if stop > length:
            self._state = _BODY
            self._body = ArrivingBody(bytes(buffer[end:]), stop - length)
            self._forget_buffer()
            return CLOSED if self.eof else head
        if stop == length:
            self._buffer = b""
            self._start = 0
        else:
            self._start = stop
        return self._deliver(head, bytes(buffer[end:stop]))

    def _deliver(self, head: Head, body: bytes) -> HTTPRequest:
        self._scanned = self._blank_lines = 0
        self._waiting = None
        self.requests += 1
        if head.keep_alive:
            self._state = _RESPONDING
        else:
            self._drain()
        return HTTPRequest(head, body)

    def _continue(self) -> HTTPRequest | Signal:
        """`next_event` anywhere but between requests."""
        state = self._state
        if state == _BODY:
            body = self._body
            assert body is not None and self.head is not None
            if body.missing:
                return CLOSED if self.eof else NEED_DATA
            self._body = None
            return self._deliver(self.head, body.take())
        if state == _CHUNKS:
            return self._read_chunks() or (CLOSED if self.eof and not self.more else NEED_DATA)
        return CLOSED if state == _CLOSED else PAUSED

    def _read_head(self) -> Head | Signal:
        """A head that the cache does not know, or not at this place; leaves `_start` behind it."""
        buffer = self._buffer
        start = self._start
        while self._blank_lines < MAX_LEADING_CRLF and buffer.startswith(b"\r\n", start):
            self._blank_lines += 1
            start += 2
        self._start = start
        available = len(buffer) - start
        if not available:
            self._forget_buffer()
            return CLOSED if self.eof else NEED_DATA
        if buffer[start] < 0x21:
            if available == 1 and buffer[start] == 0x0D and self._blank_lines < MAX_LEADING_CRLF:
                return CLOSED if self.eof else NEED_DATA
            # As h11; most often it is TLS, spoken to a plain port.
            raise HTTPError(400, "Illegal request line")
        end = end_of_head(buffer, start, self._scanned, self._limits)
        if end:
            self._start = end
            return self._judge(bytes(buffer[start:end]))
        self._scanned = available
        return CLOSED if self.eof else NEED_DATA

    def _judge(self, raw: bytes) -> Head:
        head = self._heads.get(raw) or self._cache.read_new(raw)
        if head is not None:
            return head
        head, connection, plain = ask_h11(raw, self._limits.max_fields or maxsize)
        if plain:
            self._cache.add_head(raw, head)
        elif head.chunked:
            overhead = self._limits.max_chunk_overhead or maxsize
            self._chunks = ChunkedBody(connection, self._max_body, overhead, TINY_CHUNK)
        if head.expect_continue:
            self._waiting = connection
        return head

    def _read_chunks(self) -> HTTPRequest | None:
        """The request if its body ends in the buffer, else None."""
        chunks = self._chunks
        head = self.head
        assert chunks is not None and head is not None
        try:
            ended, self._start = chunks.read(self._buffer, self._start)
        except HTTPError:
            self._drain()
            raise
        self.decoded += chunks.decoded
        if self._start < 0:
            self._buffer = chunks.behind[: -self._start] + self._buffer
            self._start = 0
        if self._start == len(self._buffer):
            self._forget_buffer()
        if not ended:
            return None
        self._chunks = None
        return self._deliver(head, bytes(chunks.data))

    def _forget_buffer(self) -> None:
        self._buffer = b""
        self._start = 0

    def _drain(self) -> None:
        """Drop all bytes that arrive from now on; the answer is the last one of this connection."""
        self._state = _DRAINING
        self._forget_buffer()
        self._body = self._chunks = self._waiting = None

    # -- out

    def continue_100(self) -> bytes:
        """`100 Continue`, if the client waits for it before it sends its body; else b""."""
        waiting = self._waiting
        if waiting is None or self.body_received or not waiting.they_are_waiting_for_100_continue:
            return b""
        return waiting.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def respond(self, status: int, headers: Headers, body: bytes, *, date: bytes = b"", apart: bool = False) -> bytes:
        """A whole answer, or with `apart` its head: then write the body behind it.  `response_done()` comes next.

        `Content-Length` and `Connection` are set here.  HEAD, 204 and 304 get no body; 204 and 304 no length either.
        Before a request is complete (a refusal, a timeout) the answer closes the connection.

        Raises:
            ValueError: a header that cannot be sent, or that is written here.
            RuntimeError: the request has been answered.
        """
        close = self._close or self._state != _RESPONDING
        if status in BODILESS:
            out = self._write_head(status, headers, close, False, date)
        else:
            key = status, headers, close, True, False, bool(date)
            before_date, before_length, rest = self._templates.get(key) or self._cache.template(*key)
            head = self.head
            sent = b"" if apart or (head is not None and head.method == "HEAD") else body
            out = b"%b%b%b%d%b%b" % (before_date, date, before_length, len(body), rest, sent)
        # As `_begin_answer`, for the answer that most requests get.
        if self._answer != _NOTHING or self._state == _CLOSED:
            raise RuntimeError("the request has been answered")
        self._answer = _WHOLE
        if close:
            self._drain()
        return out

    def start_stream(self, status: int, headers: Headers, *, date: bytes = b"") -> bytes:
        """The head of an answer of unknown length: chunked on 1.1, up to the close on 1.0.  Then `send_chunk`.

        Raises: as `respond`; ValueError also for 204 and 304, which have no body.
        """
        if status in BODILESS:
            raise ValueError(f"{status} has no body to stream")
        head = self.head
        chunked = head is not None and head.version == "1.1"
        close = self._close or self._state != _RESPONDING
        out = self._write_head(status, headers, close, chunked, date)
        self._begin_answer(_STREAM, close)
        self._framing = _CHUNKED if chunked else _PLAIN
        if head is not None and head.method == "HEAD":
            self._framing = _UNWRITTEN
        return out

    def send_chunk(self, data: bytes) -> bytes:
        """The bytes for a piece of the stream; b"" for an empty piece, or after HEAD."""
        if self._answer != _STREAM:
            raise RuntimeError("no stream is open")
        if data and self._framing == _CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data if self._framing == _PLAIN else b""

    def chunk_parts(self, parts: Parts) -> Parts:
        """`send_chunk(b"".join(parts))` in parts, to be written one after the other."""
        if self._answer != _STREAM:
            raise RuntimeError("no stream is open")
        before, payload, behind = parts
        if self._framing == _CHUNKED:
            return b"%x\r\n%b" % (sum(map(len, parts)), before), payload, behind + b"\r\n"
        return parts if self._framing == _PLAIN else (b"", b"", b"")

    def forget_head(self) -> None:
        """Let go of the request's head: a stream that has begun is written without it, and may last for days."""
        if self.head is not None and self._answer == _STREAM and self._framing != _UNWRITTEN:
            self.head.forget_verdict()
            self.head = None

    def end_stream(self) -> bytes:
        """The bytes that end the stream.  Call `response_done()` when they were written."""
        if self._answer != _STREAM:
            raise RuntimeError("no stream is open")
        self._answer = _WHOLE
        return b"0\r\n\r\n" if self._framing == _CHUNKED else b""

    def response_done(self) -> bool:
        """The answer was written: the next request may be read, or `closing` is set.  Returns `idle`.

        Without a whole answer (a call that was given up, a stream that broke off) the connection cannot go on.
        """
        if self.head is not None and not self.head.cached:
            self.head.verdict = None  # as `forget_verdict`
        self.head = None
        if self._state == _RESPONDING and self._answer == _WHOLE and not self._close:
            self._state = _READY
            self._answer = _NOTHING
            return not (self._buffer or self.eof)
        self._drain()
        self._state = _CLOSED
        self._answer = _NOTHING
        self.closing = True
        return False

    def close_after(self) -> None:
        """The answer to come says `Connection: close`, and nothing is read after it."""
        self._close = True

    def _begin_answer(self, answer: int, close: bool) -> None:
        if self._answer != _NOTHING or self._state == _CLOSED:
            raise RuntimeError("the request has been answered")
        self._answer = answer
        if close:
            self._drain()  # the rest of this request's body; the connection closes after the answer

    def _write_head(self, status: int, headers: Headers, close: bool, chunked: bool, date: bytes) -> bytes:
        """A head without Content-Length."""
        key = status, headers, close, False, chunked, bool(date)
        template = self._templates.get(key) or self._cache.template(*key)
        return template[0] + date + template[2]

    # -- where it is

    @property
    def more(self) -> bool:
        """Of a chunked body more has arrived than was decoded: call `next_event` again without new bytes, but let
        others have their turn first."""
        return self._chunks is not None and self._chunks.more

    @property
    def body_received(self) -> int:
        """Bytes of the body that have arrived of the request that is being received."""
        if self._chunks is not None:
            return len(self._chunks.data)
        return self._body.size if self._body is not None else 0

    @property
    def awaiting_body(self) -> int:
        """Bytes of a length-delimited body that have not arrived."""
        return self._body.missing if self._body is not None else 0

    @property
    def idle(self) -> bool:
        """No request is being received or answered, and neither a byte of a next one nor the peer's end is here."""
        return self._state == _READY and not (self._buffer or self.eof)

    @property
    def buffered(self) -> int:
        """Bytes held: not consumed yet, or of a body that is not complete."""
        return len(self._buffer) - self._start + self.body_received
