# SPDX-License-Identifier: MIT
"""One connection on the event loop: bytes to `http11`, requests to the endpoint, answers to the transport.

A read costs one callback, and an answer costs one `transport.write`; a connection has no task, queue or stream object.
Deadlines are checked when the server's clock ticks, so an idle connection costs no timer.

Rule: nothing here knows a header or a message.  A failure here ends this connection and no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..http.chunked import MAX_CHUNKS
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import CLOSED, NEED_DATA, PAUSED, Head, HTTPError, HTTPRequest
from ..http.reply import FORGOTTEN, UNDECIDED, Reply
from ..http.server import ServerConnection
from ..protocol.errors import Refusal, overloaded
from ..protocol.shown import escaping
from ..runtime.fairness import Load, address_party
from .access import RecordedReply
from .deadlines import ANSWERING, BODY, CLOSING, HEAD, IDLE, LINGER_BYTES, LINGERING, LOST, NEW, Deadlines
from .owner import TOLD_WHY, ConnectionOwner
from .sockets import send_at_once

logger = escaping(logging.getLogger(__name__))

READ_SIZE = 64 * 1024  # bytes taken from a socket at once
# In one turn of the loop, a client that pipelines gets at most this number of answers, and at most MAX_CHUNKS chunks of
# its bodies are decoded.  Then its neighbours have their turn.
REQUESTS_PER_TURN = 16


class Connection(asyncio.BufferedProtocol):
    """An accepted connection, and the `Link` of the reply that is under way."""

    __slots__ = (
        "_again", "_deadlines", "_dropped", "_due", "_http", "_load", "_own_buffer", "_phase", "_pumping", "_reading",
        "_reply", "_transport", "_waiters", "held", "on_made", "party", "peer", "proxied", "received", "server",
        "writable", "written",
    )  # fmt: skip

    def __init__(self, server: ConnectionOwner) -> None:
        self.server = server
        self.peer = ""
        self.party: str | None = None  # the client that it counts for; None for a proxy, which serves many clients
        self.proxied = False
        self.held = b""  # bytes of an answer that the outbox will write
        self.on_made: Callable[[], None] | None = None
        self.writable = True
        self._http = ServerConnection(server.heads, server.settings.limits)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._load: Load | None = None  # of a body that arrives in parts
        self._phase = NEW
        self._deadlines = Deadlines(server.now)
        self._pumping = False
        self._again = False
        self._reading = True
        self._waiters: list[asyncio.Future[None]] = []
        # A loop that reads ahead in the background (Windows) needs a buffer for each connection.
        self._own_buffer = None if server.shares_buffer else memoryview(bytearray(READ_SIZE))
        self.received = 0  # bytes
        self.written = 0  # bytes handed to the transport
        self._dropped = 0
        self._due = False  # `_read_on` will be called

    # --- called by asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        # The type is Any because uvloop's transports have asyncio's methods, but not its class.
        self._transport = transport
        if self.on_made is not None:
            self.on_made()
            self.on_made = None
        self._deadlines.since = self.server.now  # again: this object was made before the TLS handshake
        settings = self.server.settings
        transport.set_write_buffer_limits(high=settings.write_high)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = str(address[0])
            send_at_once(transport)
        self.proxied = self.server.endpoint.trusts(self.peer)
        server, limit = self.server, settings.max_connections
        others = len(server.connections)
        server.connections.add(self)
        full = limit is not None and others >= limit
        if not self.proxied:
            self.party = address_party(self.peer)
            full = full and not server.make_room(self.party)
            server.joined(self)
        if full and limit is not None and others >= limit + TOLD_WHY:
            transport.abort()
        elif full:
            self._refuse(overloaded("Too many connections"))
        elif self.server.draining:
            self._refuse(overloaded("The server is shutting down"))

    def get_buffer(self, sizehint: int) -> memoryview:
        # All connections share one buffer: `buffer_updated` copies the bytes out before the loop reads again.  Without
        # a buffer of ours asyncio allocates 256 KiB for each read; where malloc maps such blocks, that is three system
        # calls.
        return self.server.buffer if self._own_buffer is None else self._own_buffer

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self.server.buffer if self._own_buffer is None else self._own_buffer
        self.data_received(bytes(buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take the bytes of one read.  They are at most READ_SIZE, so that neighbours get their turn."""
        phase = self._phase
        if phase >= LINGERING:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.close()
            return
        http = self._http
        self.received += len(data)
        if phase == IDLE and self.writable:
            request = http.receive_whole(data)
            if request is not None:
                try:  # as `_pump` does; the bytes were one whole request, so `_pump` would find nothing more
                    self._hand_over(request)
                except Exception:
                    logger.exception("a connection failed")
                    self.abort()
                return
        else:
            http.receive_data(data)
        if phase == NEW or phase == IDLE:
            self._phase, self._deadlines.since = HEAD, self.server.now
        if phase == ANSWERING or not self.writable:
            if self._reading and http.buffered > self.server.settings.read_ahead and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
            return
        self._pump()

    def eof_received(self) -> bool:
        http, reply, transport = self._http, self._reply, self._transport
        http.receive_data(b"")
        # The peer may have stopped sending only (`nc` does), and then it still gets its answers.  It counts as gone on
        # a stream, and where a client cancels a call by leaving, since most peers that stop sending are gone.  TLS has
        # no half-close.
        if transport is not None and transport.can_write_eof() and self._phase < LINGERING:
            if reply is None and http.buffered:
                self._pump()  # answers all requests that have arrived, and then closes
                return True
            if reply is not None and reply.state == UNDECIDED and not reply.cancel_on_eof:
                return True
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = LOST
        self._transport = self._load = None
        self.server.lost(self)
        self.resume_writing()
        reply, self._reply = self._reply, None
        if reply is not None:
            self.server.replies.discard(reply)
            if reply.records:
                self.server.recorder.finished(reply, self.server.loop.time())
            reply.gone()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._reply is None and self._phase < LINGERING and not self._http.idle:
            # Requests that came meanwhile are answered in a later turn, because a write may be calling this method.
            self.server.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.writable and self._reply is None and self._phase < LINGERING:
            self._deadlines.since = self.server.now
            self._resume_reading()
            self._pump()

    # --- requests --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Hand the requests that have arrived to the endpoint, one at a time."""
        if self._pumping:
            self._again = True
            return
        self._pumping = True
        decoded = self._http.decoded
        try:
            for _ in range(REQUESTS_PER_TURN):
                self._again = False
                if not self._next() or not self._again:
                    return
                if self._http.decoded - decoded >= MAX_CHUNKS:
                    break  # many requests of a few chunks each cost as much as one request of many chunks
            self._read_later()
        except Exception:
            logger.exception("a connection failed")
            self.abort()
        finally:
            self._pumping = False

    def _next(self) -> bool:
        """Handle the next event of the parser; False where the caller should stop."""
        # A peer that reads no answers gets no more of them: each may be large, and the peer may ask for a thousand.
        if self._phase >= LINGERING or not self.writable:
            return False
        http = self._http
        try:
            event = http.next_event()
        except HTTPError as exc:
            self._refuse(exc)
            return False
        if isinstance(event, HTTPRequest):
            self._hand_over(event)
            return True
        if event is CLOSED:
            self.close()
            return False
        if event is NEED_DATA or event is PAUSED:
            if self._load is not None and not self._weigh(self._load):
                return False
        else:
            self._begin_body(event)
        if http.more:
            self._read_later()
        return False

    def _weigh(self, load: Load) -> bool:
        """Count the arrived bytes of a body and the bytes of a next read; False where the body was refused for them."""
        head, size = self._http.head, self._http.body_received + READ_SIZE
        if head is not None and head.size >= 0:
            size = min(size, head.size)
        if size <= load.size or load.resize(size):
            return True
        self._refuse(overloaded("Too much of this client's is under way"))
        return False

    def _read_later(self) -> None:
        """Handle the rest of the arrived bytes in the next turn of the loop, and read no further bytes before that."""
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()
        if not self._due:
            self._due = True
            self.server.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._due = False
        if self._reply is None and self._phase < LINGERING:
            self._pump()
        if not self._due:
            self._resume_reading()

    def _hand_over(self, request: HTTPRequest) -> None:
        server = self.server
        self._phase = ANSWERING
        limit = server.settings.max_requests
        if limit is not None and self._http.requests >= limit:
            self._http.close_after()
        recorder = server.recorder
        reply = Reply(self, request) if recorder is None else RecordedReply(self, request, server.loop.time())
        if self._load is not None:
            reply.load, self._load = self._load, None
        self._reply = reply
        server.replies.add(reply)
        server.endpoint.respond(request, reply)

    def _begin_body(self, head: Head) -> None:
        """Check a head before its body arrives, so that a client need not send a body that would be refused."""
        refusal = self.server.endpoint.check(head, self)
        if refusal is not None:
            self._refuse(refusal, self.server.endpoint.refusal_headers(head, self))
            return
        runtime = self.server.runtime
        # The principal is not known yet, so the address is the party.
        address = str(self.server.endpoint.client(head, self)) if self.proxied else self.peer
        load = self._load = runtime.load(runtime.party_of("", address))
        if not self._weigh(load):
            return
        self._phase = BODY
        self._deadlines.begin_body(self.server.now)
        if head.expect_continue:
            if self.server.endpoint.asks_who:
                self.server.runtime.spawn(self._invite(head))
            else:
                self.write(self._http.continue_100())

    async def _invite(self, head: Head) -> None:
        """Send `100 Continue` to a client that waits for it, once its request is approved."""
        refusal = await self.server.endpoint.approve(head, self)
        if self._phase != BODY or self._http.head is not head:
            return  # the client sent its body without waiting, or left
        if refusal is None:
            self.write(self._http.continue_100())
        else:
            self._refuse(refusal, self.server.endpoint.refusal_headers(head, self))

    def _refuse(self, refusal: Refusal, extra: Headers = ()) -> None:
        """Answer a request that is not whole with a refusal; then give the peer time to read it."""
        self._load = None
        recorder = self.server.recorder
        if recorder is not None:
            head = self._http.head
            method, path = ("-", "-") if head is None else (head.method, head.path)
            recorder.refused(self.server.endpoint.client(head, self), method, path, refusal.status)
        body = self.server.runtime.json.error(None, refusal)
        headers = JSON_HEADERS + refusal.headers + extra
        self._http.close_after()
        self.write(self._http.respond(refusal.status, headers, body, date=self.server.date))
        self._linger()

    def _linger(self) -> None:
        # If we close while the peer still sends, its kernel drops our answer unread.
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._flush()
        self._phase, self._deadlines.since = LINGERING, self.server.now
        if transport.can_write_eof():  # false over TLS; there the peer sees the end by "Connection: close"
            transport.write_eof()
        self._resume_reading()

    # --- a Link for the reply ----------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes, close: bool) -> None:
        server, http = self.server, self._http
        if close:
            http.close_after()
        data = http.respond(status, headers, body, date=server.date)
        idle = http.response_done()
        outbox = server.runtime.outbox
        if outbox is None:
            self.write(data)
        else:
            outbox.send(self, data)
        self._answered(idle)

    def begin(self, headers: Headers, events: bytes, last: bool) -> None:
        data = self._http.start_stream(200, headers, date=self.server.date) + self._http.send_chunk(events)
        (self._end_stream if last else self.write)(data)

    def send(self, events: bytes, last: bool) -> None:
        (self._end_stream if last else self.write)(self._http.send_chunk(events))

    def _end_stream(self, data: bytes) -> None:
        # One write: a client that closes on the last event must not make the terminator fail.
        data += self._http.end_stream()
        idle = self._http.response_done()
        self.write(data)
        self._answered(idle)

    def forget_head(self) -> None:
        self._http.forget_head()

    async def drained(self) -> None:
        if not self.writable:
            waiter = self.server.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _answered(self, idle: bool) -> None:
        """Go on after a whole answer.  `idle`: no byte of a next request has arrived."""
        server, http, reply = self.server, self._http, self._reply
        assert reply is not None, "it was answered"
        server.replies.discard(reply)
        self._reply = None
        if reply.records:
            self.server.recorder.finished(reply, self.server.loop.time())
        if self._phase >= LINGERING:
            return
        if http.closing:
            self._end()
            return
        self._deadlines.since = server.now
        if not self._reading and self.writable:
            self._resume_reading()
        if idle and not http.eof:
            self._phase = IDLE
            return  # no request has arrived: most clients wait for one answer before they ask again
        self._phase = IDLE if idle else HEAD
        self._pump()

    def _end(self) -> None:
        # The last answer was written.  A plain connection can end its sending side and still receive the bytes that
        # are on their way; a TLS connection cannot.
        transport = self._transport
        if transport is not None and transport.can_write_eof() and not self._http.eof:
            self._linger()
        else:
            self.close()

    def write(self, data: bytes) -> None:
        """Write at once, after the bytes that the outbox holds."""
        if self.held:
            self._flush()
        transport = self._transport
        # After a failed write the transport closes at once, and `connection_lost` comes some turns later.  asyncio logs
        # each write in between, so none is made.
        if transport is not None and data and not transport.is_closing():
            self.written += len(data)
            transport.write(data)

    def _resume_reading(self) -> None:
        transport = self._transport
        if not self._reading and transport is not None and not transport.is_closing():
            self._reading = True
            transport.resume_reading()

    def _flush(self) -> None:
        if self.held and self.server.runtime.outbox is not None:
            self.server.runtime.outbox.flush()

    @property
    def spare(self) -> int:
        """How well the connection can be spared: 0 while a call runs on it, 3 while it waits for a next request."""
        if self._phase == ANSWERING:
            reply = self._reply
            return 1 if reply is not None and reply.request is FORGOTTEN else 0  # a stream that only listens
        return 3 if self._phase >= IDLE else 2

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- the server's clock and its end ------------------------------------------------------------------------

    def close(self) -> None:
        """Close as soon as all written bytes are sent."""
        self._flush()
        if self._transport is not None and self._phase < CLOSING:
            self._phase, self._deadlines.since = CLOSING, self.server.now
            self._transport.close()

    def drain(self) -> None:
        """Prepare for the shutdown: close if no answer is due, else close after the answer that is due."""
        if self._phase in (NEW, IDLE, HEAD):
            self.close()
        else:
            self._http.close_after()

    def retire(self) -> None:
        """Close after the answer that is due; without one, go on."""
        if self._phase == ANSWERING:
            self._http.close_after()

    def tick(self, now: float) -> None:
        """Enforce the deadlines."""
        transport, phase = self._transport, self._phase
        if transport is None:
            return
        settings, deadlines = self.server.settings, self._deadlines
        unsent = transport.get_write_buffer_size()
        if unsent and deadlines.is_stalled(now, self.written - unsent, settings.write_timeout):
            self.abort()  # this ends the connection alone: the client can resume its stream on another one
        if phase == ANSWERING:
            return
        if unsent and (phase >= IDLE or not self.writable):
            deadlines.since = now  # its answer is still leaving; `is_stalled` limits the time for that
            return
        if phase == BODY:
            deadlines.credit(now, self._http.body_received, settings.min_body_rate)
        if not deadlines.is_over(now, phase, settings):
            return
        if phase == HEAD or phase == BODY:
            self._refuse(Refusal(408, "Request Timeout: the request did not arrive in time"))
        elif phase == CLOSING:
            transport.abort()  # a TLS peer that has not confirmed the close
        else:
            self.close()
