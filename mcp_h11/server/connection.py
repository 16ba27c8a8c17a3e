# SPDX-License-Identifier: MIT
"""One connection on the event loop: bytes to `http11`, requests to the endpoint, answers to the transport.

A read costs one callback, and an answer costs one `transport.write`; a connection has no task, queue or stream object.
Deadlines are checked when the server's wheel says so, so an idle connection costs no timer.

Rule: nothing here knows a header or a message.  A failure here ends this connection and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from sys import intern
from typing import Any

from ..http.bodies import BLOCK, FIRST_BLOCK
from ..http.chunked import MAX_CHUNKS
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import CLOSED, NEED_DATA, PAUSED, Head, HTTPError, HTTPRequest
from ..http.reply import COMMENT, FORGOTTEN, STREAMING, UNDECIDED, Reply
from ..http.sse import Parts
from ..protocol.errors import Refusal, overloaded
from ..protocol.shown import escaping
from ..runtime.fairness import Load, address_party
from .access import RecordedReply
from .deadlines import ANSWERING, BODY, CLOSING, HEAD, IDLE, LINGER_BYTES, LINGERING, LOST, NEW
from .intake import Intake
from .owner import TOLD_WHY, ConnectionOwner
from .sockets import OPTIONS_PASS_ON, send_at_once
from .writing import APART, WritingProtocol

logger = escaping(logging.getLogger(__name__))

# In one turn of the loop, a client that pipelines gets at most this number of answers, and at most MAX_CHUNKS chunks of
# its bodies are decoded.  Then its neighbours have their turn.
REQUESTS_PER_TURN = 16


class Connection(Intake):
    """An accepted connection, and the `Link` of the reply that is under way."""

    __slots__ = (
        "_again", "_dropped", "_due", "_load", "_pumping", "_reading", "beat", "on_made", "party", "peer", "proxied",
        "reply",
    )  # fmt: skip

    def __init__(self, server: ConnectionOwner) -> None:
        Intake.__init__(self, server)
        self.peer = ""
        self.party: str | None = None  # the client that it counts for; None for a proxy, which serves many clients
        self.proxied = False
        self.on_made: Callable[[Any], None] | None = None  # is given the transport
        self.reply: Reply | None = None  # the one that is under way
        self._load: Load | None = None  # of a body that arrives in parts
        self._phase = NEW
        self.beat = 0  # of the server's wheel
        self._pumping = False
        self._again = False
        self._reading = True
        self._dropped = 0
        self._due = False  # `_read_on` will be called

    # --- called by asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        # The type is Any because uvloop's transports have asyncio's methods, but not its class.
        server = self.server
        settings, limit, others = server.settings, server.settings.max_connections, len(server.connections)
        self._transport = transport
        if self.on_made is not None:
            self.on_made(transport)
            self.on_made = None
            self.since = server.now  # again: this object was made before the TLS handshake
        transport.set_write_buffer_limits(high=settings.write_high)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = intern(str(address[0]))  # the same text for all connections of one client or proxy
            if not OPTIONS_PASS_ON:
                send_at_once(transport.get_extra_info("socket"))
        self.proxied = server.endpoint.trusts(self.peer)
        server.wheel.put(self, self.since + server.rest)
        server.connections.add(self)
        over = -1 if limit is None else others - limit
        if not self.proxied:
            self.party = address_party(self.peer)
            if over >= 0 and server.make_room(self.party):
                over = -1
            server.joined(self)
        if over >= TOLD_WHY:
            transport.abort()
        elif over >= 0:
            self._refuse(overloaded("Too many connections"))
        elif server.draining:
            self._refuse(overloaded("The server is shutting down"))

    def data_received(self, data: bytes) -> None:
        """Take the bytes of one read.  They are at most `intake.READ_SIZE`, so that neighbours have turns."""
        phase = self._phase
        if phase >= LINGERING:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.close()
            return
        http = self._http
        self.received += len(data)
        if (phase == IDLE or phase == NEW) and self.writable:
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
        self._pump_or_pause()

    def _pump_or_pause(self) -> None:
        http = self._http
        if self._phase == NEW or self._phase == IDLE:
            self._phase, self.since = HEAD, self.server.now
        if self._phase == ANSWERING or not self.writable:
            if self._reading and http.buffered > self.server.settings.read_ahead and self._transport is not None:
                self._reading = False
                self._transport.pause_reading()
            return
        self._pump()

    def eof_received(self) -> bool:
        http, reply, transport = self._http, self.reply, self._transport
        http.receive_data(b"")
        # The peer may have stopped sending only (`nc` does), and then it still gets its answers.  It counts as gone on
        # a stream, and where a client cancels a call by leaving, since most peers that stop sending are gone.  TLS has
        # no half-close.  An idle connection has neither a request nor bytes of one.
        if transport is not None and self._phase < LINGERING and self._phase != IDLE and transport.can_write_eof():
            if reply is None and http.buffered:
                self._pump()  # answers all requests that have arrived, and then closes
                return True
            if reply is not None and reply.state == UNDECIDED and not reply.cancel_on_eof:
                return True
        self._flush()
        if self._phase < CLOSING:
            self._phase, self.since = CLOSING, self.server.now
        return False  # then the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = LOST
        self._transport = self._load = None
        self.server.wheel.remove(self)
        self.server.runtime.bursts.taken(self)  # dropped
        self.server.lost(self)
        if not self.writable:
            WritingProtocol.resume_writing(self)
        reply, self.reply = self.reply, None
        if reply is not None:
            if reply.records:
                self.server.recorder.finished(reply, self.server.loop.time())
            reply.gone()
        self._forget_verdict()

    def pause_writing(self) -> None:
        WritingProtocol.pause_writing(self)
        self.server.wheel.put(self, self.server.now)

    def resume_writing(self) -> None:
        WritingProtocol.resume_writing(self)
        if self.reply is None and self._phase < LINGERING and not self._http.idle:
            # What came meanwhile, requests or the end, is met in a later turn, because a write may call this method.
            self.server.loop.call_soon(self._go_on, context=self.server.context.copy())

    def _go_on(self) -> None:
        if self.writable and self.reply is None and self._phase < LINGERING:
            self.since = self.server.now
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
        head, size = self._http.head, self._http.body_received
        size += max(FIRST_BLOCK, min(size, BLOCK))  # as `ArrivingBody` makes room
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
            self.server.loop.call_soon(self._read_on, context=self.server.context.copy())

    def _read_on(self) -> None:
        self._due = False
        if self.reply is None and self._phase < LINGERING:
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
        self.reply = reply
        self.since = server.now
        server.endpoint.respond(request, reply)

    def _begin_body(self, head: Head) -> None:
        """Check a head before its body arrives, so that a client need not send a body that would be refused."""
        if (refusal := self.server.endpoint.check(head, self)) is not None:
            self._refuse(refusal, self.server.endpoint.refusal_headers(head, self))
            return
        runtime = self.server.runtime
        # The principal is not known yet, so the address is the party.
        address = str(self.server.endpoint.client(head, self)) if self.proxied else self.peer
        load = self._load = runtime.load(runtime.party_of("", address))
        if not self._weigh(load):
            return
        self._phase = BODY
        self.begin_body(self.server.now)
        self.server.wheel.put(self, self.server.now)
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
        if (recorder := self.server.recorder) is not None:
            head = self._http.head
            recorder.refused(self.server.endpoint.client(head, self), head, refusal.status)
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
        self._phase, self.since = LINGERING, self.server.now
        self.server.wheel.put(self, self.server.now)
        if transport.can_write_eof():  # false over TLS; there the peer sees the end by "Connection: close"
            transport.write_eof()
        self._resume_reading()

    # --- a Link for the reply ----------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes, close: bool) -> None:
        server, http = self.server, self._http
        if close:
            http.close_after()
        apart = len(body) > APART and http.head is not None and http.head.method == "POST"
        data = http.respond(status, headers, body, date=server.date, apart=apart)
        idle = http.response_done()
        outbox = server.runtime.outbox
        if apart:
            self.write(data)
            self.write(memoryview(body))  # as `write_parts`
        elif outbox is None:
            self.write(data)
        else:
            outbox.send(self, data)
        self._answered(idle)

    def begin(self, headers: Headers, events: bytes, last: bool) -> None:
        data = self._http.start_stream(200, headers, date=self.server.date) + self._http.send_chunk(events)
        self.since = self.server.now
        (self._end_stream if last else self.write)(data)

    def send(self, events: bytes, last: bool) -> None:
        self.since = self.server.now
        bursts = self.server.runtime.bursts
        if last:
            self._end_stream(self._http.send_chunk(bursts.taken(self) + events))
        else:
            bursts.send(self, events)

    def send_parts(self, headers: Headers | None, event: Parts, last: bool) -> None:
        http, server = self._http, self.server
        self.since = server.now
        head = b"" if headers is None else http.start_stream(200, headers, date=server.date)
        before, payload, behind = http.chunk_parts((server.runtime.bursts.taken(self) + event[0], *event[1:]))
        (self._end_stream if last else self.write)(self.write_parts(head + before, payload, behind))

    def comment(self) -> None:
        self.since = self.server.now
        self.write(self._http.send_chunk(COMMENT))

    def _end_stream(self, data: bytes) -> None:
        # One write: a client that closes on the last event must not make the terminator fail.
        data += self._http.end_stream()
        idle = self._http.response_done()
        self.write(data)
        self._answered(idle)
        if self._phase < LINGERING:  # a stream is looked at when it may be silent, and now other waits begin
            self.server.wheel.put(self, self.server.now + self.server.rest)

    def forget_head(self) -> None:
        self._http.forget_head()
        if (wait := self.server.settings.keep_alive) is not None:  # no look at the stream before its first comment
            self.server.wheel.put(self, self.since + wait)

    def _answered(self, idle: bool) -> None:
        """Go on after a whole answer.  `idle`: no next request has begun to arrive, and no end."""
        server, http, reply = self.server, self._http, self.reply
        assert reply is not None, "it was answered"
        self.reply = None
        if reply.records:
            self.server.recorder.finished(reply, self.server.loop.time())
        if self._phase >= LINGERING:
            return
        if http.closing:
            self._end()
            return
        self.since = server.now
        if not self._reading and self.writable:
            self._resume_reading()
        if idle:
            self._phase = IDLE
            return  # no request has arrived: most clients wait for one answer before they ask again
        self._phase = HEAD
        # In a turn of its own: the caller may be in the middle of its work, which the next request could undo.
        (self._pump if self._pumping else self._read_later)()

    def _end(self) -> None:
        # The last answer was written.  A plain connection can end its sending side and still receive the bytes that
        # are on their way; a TLS connection cannot.
        transport = self._transport
        if transport is not None and transport.can_write_eof() and not self._http.eof:
            self._linger()
        else:
            self.close()

    def _resume_reading(self) -> None:
        transport = self._transport
        if not self._reading and transport is not None and not transport.is_closing():
            self._reading = True
            self.server.context.copy().run(transport.resume_reading)  # in which asyncio makes all later reads

    @property
    def spare(self) -> int:
        """How well the connection can be spared: 0 while a call runs on it, 3 while it waits for a next request."""
        if self._phase == ANSWERING:
            reply = self.reply
            return 1 if reply is not None and reply.request is FORGOTTEN else 0  # a stream that only listens
        return 3 if self._phase >= IDLE else 2

    # --- the server's clock and its end ------------------------------------------------------------------------

    def close(self) -> None:
        """Close as soon as all written bytes are sent."""
        self._flush()
        if self._transport is not None and self._phase < CLOSING:
            self._phase, self.since = CLOSING, self.server.now
            self._transport.close()

    def drain(self) -> None:
        """Prepare for the shutdown: close if no answer is due, else close after the answer that is due."""
        if self._due:
            self.server.loop.call_soon(self.drain)  # once a request that has arrived is begun
        elif self._phase in (NEW, IDLE, HEAD):
            self.close()
        else:
            self._http.close_after()

    def retire(self) -> None:
        """Close after the answer that is due; without one, go on."""
        if self._phase == ANSWERING:
            self._http.close_after()

    def tick(self, now: float) -> None:
        """Enforce the deadlines; the wheel calls it when one may be over."""
        server, transport, phase, reply = self.server, self._transport, self._phase, self.reply
        if transport is None:
            return
        settings = server.settings
        when: float | None = now  # while bytes wait to leave, each tick looks at them
        unsent = transport.get_write_buffer_size()
        if unsent and self.is_stalled(now, self.written - unsent, settings.write_timeout):
            self.abort()  # this ends the connection alone: the client can resume its stream on another one
        if phase == ANSWERING and reply is not None:
            left = reply.tick(now - self.since, settings.patience, settings.keep_alive)
            when = now if unsent else now + left
            if reply.state == STREAMING and when < inf:
                server.wheel.put(self, when)
                return
        elif unsent and (phase >= IDLE or not self.writable):
            self.since = now  # its answer is still leaving; `is_stalled` limits the time for that
        else:
            when = self.next_look(now, phase, settings, self._http.body_received)
        if when is None:
            self._expire(phase)
            when = now
        server.wheel.put(self, min(when, now + server.rest))

    def _expire(self, phase: int) -> None:
        if phase == HEAD or phase == BODY:
            self._refuse(Refusal(408, "Request Timeout: the request did not arrive in time"))
        elif phase == CLOSING:
            self.abort()  # a TLS peer that has not confirmed the close
        else:
            self.close()
