# SPDX-License-Identifier: MIT
"""The answer to one HTTP request: undecided, then one JSON body, or server-sent events until their end.

Rule: this object knows how far the answer has come, and hands its parts to the link in order.  It never reads a
message, never waits, and hands over nothing once the answer is complete or the peer is gone.  An era may therefore call
it at any time: a late call is dropped and is no error, because a peer can leave at any moment.  The link alone makes
bytes of an answer, and writes them.

JSON or events is decided late (2026-07-28 basic/transports/streamable-http, Receiving): only an answer that has not
begun can still choose its status.

    state      answer()   stream_once()  open()     send()     end()  gone()
    UNDECIDED  DONE       DONE           STREAMING  -          -      GONE
    STREAMING  -          -              -          STREAMING  DONE   GONE
    DONE       -          -              -          -          -      DONE
    GONE       -          -              -          -          -      GONE

`send_parts` of a large event is `stream_once` or `open` in the first state, `end` or `send` in the second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Protocol

from .headers import JSON_HEADERS, SSE_HEADERS, Headers
from .messages import Head, HTTPRequest
from .sse import Parts, encode_comment

UNDECIDED, STREAMING, DONE, GONE = range(4)

COMMENT = encode_comment()
# The part of its time by which a comment may come too soon, so that the comments of many streams can be spread.
EARLY = 1 / 8
# Stands in for the request of a stream that has let its own go (see `forget`).
FORGOTTEN = HTTPRequest(Head("GET", "", "", "1.1", ()), b"")
# Official clients refuse a larger event (Python `mcp` 2: 1 MiB), so a larger answer is sent as JSON while it can be.
MAX_ANSWER_EVENT = 1024 * 1024 - 1024


class Link(Protocol):
    """The connection as a reply sees it; the server's protocol object is one.

    An answer is one `respond`, or a `begin` and any number of `send`, of which the last says so.  After that the link
    may read the next request.
    """

    def respond(self, status: int, headers: Headers, body: bytes, close: bool) -> None:
        """Send a whole answer by the end of this turn of the loop; `close`: it is the last one of the connection."""
        ...

    def begin(self, headers: Headers, events: bytes, last: bool) -> None:
        """Send the head of an event stream, and its first events in the same write."""
        ...

    def send(self, events: bytes, last: bool) -> None:
        """Send events; with `last` also the end of the stream, in the same write."""
        ...

    def send_parts(self, headers: Headers | None, event: Parts, last: bool) -> None:
        """`send` for an event whose payload is large, and is not copied; with headers `begin`."""
        ...

    def comment(self) -> None:
        """Send COMMENT, between two events of a stream."""
        ...

    def forget_head(self) -> None:
        """Let go of the request's head: the stream that has begun goes on without it."""
        ...

    @property
    def writable(self) -> bool:
        """False while the peer reads slower than we write."""
        ...

    def drained(self) -> Awaitable[None]:
        """Waits until the connection is writable or gone."""
        ...

    def abort(self) -> None:
        """Drop the connection without ceremony."""
        ...

    @property
    def peer(self) -> str:
        """The address of the other end, without its port; empty where there is none."""
        ...

    @property
    def proxied(self) -> bool:
        """Whether the other end is a trusted proxy: its forwarding headers name the client."""
        ...


class Reply:
    """One answer.  `allow_json` and `allow_events` are the forms that the client accepts, narrowed by the settings."""

    __slots__ = (
        "_link",
        "allow_events",
        "allow_json",
        "cancel_on_eof",
        "client",
        "extra",
        "load",
        "on_gone",
        "on_silence",
        "prefers_events",
        "request",
        "state",
    )

    def __init__(self, link: Link, request: HTTPRequest) -> None:
        self._link = link
        self.request = request
        self.state = UNDECIDED
        self.allow_json = True
        self.allow_events = True
        self.prefers_events = False
        self.cancel_on_eof = False  # a peer that stops sending has left
        self.client = ""  # the address that a trusted proxy speaks for
        self.extra: Headers = ()  # goes with every answer on this exchange: CORS
        self.load: Any = None  # counts the memory of the request, as long as there is a reference to it
        self.on_gone: Callable[[], None] | None = None
        self.on_silence: Callable[[], None] | None = None  # undecided for too long

    records = False  # a reply of the access log sets this, and overrides the two methods that follow

    def note(self, message: object, principal: object) -> None:
        """Take down the message and its principal, for the access log."""

    def failed(self, kind: int | str) -> None:
        """Take down that the answer is an error: its JSON-RPC code, or a word for an error without a code."""

    @property
    def open_ended(self) -> bool:
        """True while this is an event stream that has not ended."""
        return self.state == STREAMING

    @property
    def alive(self) -> bool:
        """True while something can still be written."""
        return self.state <= STREAMING

    @property
    def writable(self) -> bool:
        """True when a write now would not pile up behind a slow reader."""
        return self._link.writable

    @property
    def peer(self) -> str:
        """The address of the client, without its port."""
        return self.client or self._link.peer

    @property
    def proxied(self) -> bool:
        """Whether the request came from a trusted proxy."""
        return self._link.proxied

    def drained(self) -> Awaitable[None]:
        """Waits until the connection is writable again, or gone."""
        return self._link.drained()

    def as_event(self, payload: bytes) -> bool:
        """Whether an answer that can still be either is better one event than JSON."""
        if not self.allow_json:
            return True
        return self.prefers_events and self.allow_events and len(payload) <= MAX_ANSWER_EVENT

    def answer(self, status: int, body: bytes = b"", headers: Headers = JSON_HEADERS, *, close: bool = False) -> None:
        """The whole answer at once."""
        if self.state != UNDECIDED:
            return
        self.state = DONE
        # A call and its reply refer to each other.  Without this line, here and below, each pair would live until the
        # garbage collector runs.
        self.on_gone = self.on_silence = None
        self._link.respond(status, headers + self.extra if self.extra else headers, body, close)

    def open(self, first: bytes = COMMENT) -> None:
        """Begin an event stream; `first` is encoded events that leave in the same write as the head."""
        if self.state != UNDECIDED:
            return
        self.state = STREAMING
        self._link.begin(SSE_HEADERS + self.extra, first, False)

    def forget(self) -> None:
        """Let go of the request, on a stream that listens: it may stand for days, with thousands beside it."""
        if self.state == STREAMING and not self.records:
            self.request = FORGOTTEN
            self._link.forget_head()

    def stream_once(self, events: bytes) -> None:
        """A whole event stream in one write, its end included."""
        if self.state != UNDECIDED:
            return
        self.state = DONE
        self.on_gone = self.on_silence = None
        self._link.begin(SSE_HEADERS + self.extra, events, True)

    def send(self, events: bytes) -> None:
        """Encoded events, onto the stream that `open` began."""
        if self.state != STREAMING:
            return
        self._link.send(events, False)

    def end(self, events: bytes = b"") -> None:
        """The last events, and the clean end of the stream."""
        if self.state != STREAMING:
            return
        self.state = DONE
        self.on_gone = self.on_silence = None
        self._link.send(events, True)

    def send_parts(self, event: Parts, last: bool) -> None:
        """An event of `event_parts`: it begins the stream where nothing has begun, and ends it with `last`."""
        if self.state > STREAMING:
            return
        headers = SSE_HEADERS + self.extra if self.state == UNDECIDED else None
        self.state = DONE if last else STREAMING
        if last:
            self.on_gone = self.on_silence = None
        self._link.send_parts(headers, event, last)

    def expire(self) -> None:
        """End the stream cleanly, after `on_gone` has told its writer that it has no reader any more."""
        if self.state != STREAMING:
            return
        self._tell_gone()
        self.end()

    def abort(self) -> None:
        """Drop the connection: its reader made no progress for too long."""
        if self.alive:
            self._link.abort()

    def gone(self) -> None:
        """The connection is lost: call `on_gone`, once."""
        if self.state >= DONE:
            return
        self.state = GONE
        self._tell_gone()

    def heed(self) -> None:
        """Call an `on_gone` that was set after the connection was lost."""
        if self.state == GONE:
            self._tell_gone()

    def _tell_gone(self) -> None:
        callback, self.on_gone, self.on_silence = self.on_gone, None, None
        if callback is not None:
            callback()

    def tick(self, quiet: float, patience: float | None, keep_alive: float | None) -> float:
        """Look at the time since the last write, or since the request; `quiet` is in seconds.

        After `patience` an undecided answer is handed to `on_silence`; after `keep_alive` an open stream gets a
        comment, so that no proxy takes it for dead.  None switches either off.

        Returns the seconds until the next look.
        """
        if self.state == STREAMING:
            if keep_alive is None:
                return inf
            if quiet < keep_alive * (1 - EARLY):
                return keep_alive - quiet
            # A stalled reader gets no comments: they would only add to the unread bytes in memory.
            if not self._link.writable:
                return 0.0
            self._link.comment()
            return keep_alive
        if self.state == UNDECIDED and self.on_silence is not None:
            if patience is None:
                return inf
            if quiet < patience:
                return patience - quiet
            callback, self.on_silence = self.on_silence, None
            callback()
        return inf
