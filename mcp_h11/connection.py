# SPDX-License-Identifier: MIT
"""One connection on the event loop: bytes to `http11`, requests to the endpoint, answers to the transport.

One callback for each read and one `transport.write` for each answer; no task, queue or stream object of its own.
Deadlines are looked at when the server's clock ticks, so an idle connection costs no timer.

Rule: nothing here knows a header or a message.  A failure here ends this connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .errors import Refusal, overloaded
from .headers import JSON_HEADERS
from .http11 import CLOSED, NEED_DATA, PAUSED, HTTPError, HTTPRequest, ServerConnection
from .reply import UNDECIDED, Reply

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger(__name__)
access = logging.getLogger(__name__ + ".access")

# A client that pipelines gets so many answers a turn of the loop; then its neighbours have theirs.
REQUESTS_PER_TURN = 16
# reliability: a refusal must be readable, so what is still on its way is read and dropped for a moment.
LINGER_BYTES = 64 * 1024
LINGER_TIME = 1.0
# A body may be slow, but not slower than this after its first seconds.
BODY_FLOOR = 256 * 1024  # bytes a second
BODY_FLOOR_AFTER = 5.0  # seconds

NEW, HEAD, BODY, ANSWERING, IDLE, LINGERING, GONE = range(7)


class Connection(asyncio.Protocol):
    """An accepted connection; a `Link` for the reply that is under way."""

    __slots__ = (
        "_again", "_dropped", "_http", "_phase", "_pumping", "_reading", "_reply", "_since", "_stalled", "_transport",
        "_unsent", "_waiters", "peer", "server", "writable",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peer = ""
        self.writable = True
        self._http = ServerConnection(server.heads, server.settings.limits)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._phase = NEW
        self._since = server.now
        self._pumping = False
        self._again = False
        self._reading = True
        self._waiters: list[asyncio.Future[None]] = []
        self._stalled = 0.0  # when the peer stopped taking what we write
        self._unsent = 0
        self._dropped = 0

    # --- what asyncio tells --------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        # Any: uvloop's transports are asyncio's in all but their class.
        self._transport = transport
        settings = self.server.settings
        transport.set_write_buffer_limits(high=settings.write_high)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = str(address[0])
        full = settings.max_connections is not None and len(self.server.connections) >= settings.max_connections
        self.server.connections.add(self)
        if full or self.server.draining:
            self._refuse(overloaded("Too many connections" if full else "The server is shutting down"))

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == LINGERING:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.abort()
            return
        http = self._http
        http.receive_data(data)
        if phase == ANSWERING:
            if self._reading and http.buffered > self.server.settings.read_ahead and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
            return
        if phase == NEW or phase == IDLE:
            self._phase, self._since = HEAD, self.server.now
        self._pump()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        reply = self._reply
        if reply is not None and reply.state == UNDECIDED and not reply.cancel_on_eof:
            # It may only have stopped sending (`nc` does): it still gets its answer.  Where leaving means to cancel,
            # and on a stream, it counts as gone, since most peers that stop sending are.
            return True
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = GONE
        self._transport = None
        self.server.connections.discard(self)
        self.resume_writing()
        reply, self._reply = self._reply, None
        if reply is not None:
            self.server.replies.discard(reply)
            reply.gone()

    def pause_writing(self) -> None:
        self.writable = False
        self._stalled = self.server.now
        self._unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0

    def resume_writing(self) -> None:
        self.writable = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- requests --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Hand out what has arrived, one request at a time."""
        if self._pumping:
            self._again = True
            return
        self._pumping = True
        try:
            for _ in range(REQUESTS_PER_TURN):
                self._again = False
                if not self._next() or not self._again:
                    return
            self.server.loop.call_soon(self._pump)
        except Exception:
            logger.exception("a connection failed")
            self.abort()
        finally:
            self._pumping = False

    def _next(self) -> bool:
        """One step; False where there is nothing to go on with."""
        if self._phase >= LINGERING:
            return False
        http = self._http
        try:
            event = http.next_event()
        except HTTPError as exc:
            self._refuse(exc)
            return False
        if type(event) is HTTPRequest:
            self._respond(event)
            return True
        if event is NEED_DATA or event is PAUSED:
            return False
        if event is CLOSED:
            self.close()
            return False
        self._begin_body(event)
        return False

    def _respond(self, request: HTTPRequest) -> None:
        server = self.server
        self._phase = ANSWERING
        limit = server.settings.max_requests
        if server.draining or (limit is not None and self._http.requests >= limit):
            self._http.close_after()
        reply = self._reply = Reply(self, self._http, request)
        server.replies.add(reply)
        server.endpoint.respond(request, reply)

    def _begin_body(self, head: Any) -> None:
        """The head is here and its body is not: refuse now what would be refused later, or let it come."""
        refusal = self.server.endpoint.check(head)
        if refusal is not None:
            self._refuse(refusal, self.server.endpoint.refusal_headers(head))
            return
        self._phase, self._since = BODY, self.server.now
        if head.expect_continue:
            self.write(self._http.continue_100())

    def _refuse(self, refusal: Refusal, extra: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer before, or instead of, a whole request; then let the peer read it."""
        body = self.server.runtime.json.error(None, refusal)
        headers = JSON_HEADERS + refusal.headers + extra
        self._http.close_after()
        self.write(self._http.respond(refusal.status, headers, body, date=self.server.date))
        self._linger()

    def _linger(self) -> None:
        # Closing while the peer still sends makes its kernel drop our answer unread.
        transport = self._transport
        self._phase, self._since = LINGERING, self.server.now
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
            self._resume_reading()
        else:  # TLS has no half-close
            transport.close()

    # --- a Link for the reply ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def date(self) -> bytes:
        return self.server.date

    async def drained(self) -> None:
        if self.writable:
            return
        waiter = self.server.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def replied(self, reply: Reply) -> None:
        server, http = self.server, self._http
        server.replies.discard(reply)
        self._reply = None
        if server.log_access:
            access.info('%s "%s %s" done', self.peer or "-", reply.request.head.method, reply.request.head.path)
        http.response_done()
        if http.closing:
            self._linger() if not http.eof else self.close()
            return
        self._phase = IDLE if http.idle else HEAD
        self._since = server.now
        self._resume_reading()
        if server.draining and http.idle:
            self.close()
        else:
            self._pump()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- the server's clock and its end ------------------------------------------------------------------------

    def close(self) -> None:
        """Close when everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def close_if_idle(self) -> None:
        """Shutting down: who waits for a next request waits in vain."""
        if self._phase in (NEW, IDLE, HEAD):
            self.close()

    def tick(self, now: float) -> None:
        """Enforce the deadlines."""
        settings = self.server.settings
        phase, waited = self._phase, now - self._since
        if not self.writable:
            self._check_writing(now)
        if phase == ANSWERING or phase == GONE:
            return
        if phase == IDLE:
            limit = settings.idle_timeout
        elif phase == NEW:
            limit = settings.first_byte_timeout
        elif phase == HEAD:
            limit = settings.head_timeout
        elif phase == BODY:
            limit = self._body_limit(waited)
        else:
            limit = LINGER_TIME
        if limit is None or waited < limit:
            return
        if phase == HEAD or phase == BODY:
            self._refuse(Refusal(408, "Request Timeout: the request did not arrive in time", code=-32000))
        elif phase == LINGERING:
            self.abort()
        else:
            self.close()

    def _body_limit(self, waited: float) -> float | None:
        limit = self.server.settings.body_timeout
        if limit is None:
            return None
        floor = BODY_FLOOR * (waited - BODY_FLOOR_AFTER)
        return 0.0 if waited > BODY_FLOOR_AFTER and self._http.body_received < floor else limit

    def _check_writing(self, now: float) -> None:
        transport, limit = self._transport, self.server.settings.write_timeout
        if transport is None or limit is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self._stalled = unsent, now
        elif now - self._stalled >= limit:
            # Only the connection: what it was reading can be resumed.
            self.abort()
        else:
            self._unsent = max(unsent, self._unsent)
