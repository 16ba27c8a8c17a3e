# SPDX-License-Identifier: MIT
"""One request and its answer by the messages of ASGI: the `Link` of a reply.

The endpoint answers at any time and never waits; `send` of ASGI waits for a slow reader.  So an answer is a list of
messages here, and the task of the request sends them one after the other.

Rule: nothing is sent before the whole request has arrived, but for a refusal, and nothing after the client is gone.  A
message that ASGI does not know is a RuntimeError, because it is a fault of the server around us.

ASGI specification, HTTP & WebSocket ASGI Message Format, HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import anyio

from ..endpoint.endpoint import SMALL_BODY
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import BODILESS, HTTPRequest
from ..http.reply import COMMENT, Reply
from ..http.sse import Parts
from ..protocol.errors import Refusal, overloaded
from ..runtime.fairness import Load
from ..runtime.wheel import Wheel
from ..server.access import RecordedReply
from ..server.deadlines import BODY, Deadlines
from .heads import HostedHead, HostedHeads

ASGIMessage = MutableMapping[str, Any]  # as the frameworks have it, so that a checker lets them mount us
ASGIReceive = Callable[[], Awaitable[ASGIMessage]]
ASGISend = Callable[[ASGIMessage], Awaitable[None]]

MAX_LATE = 16  # messages about a body that is whole already; servers differ in whether they send one


class RequestOwner(Protocol):
    """A hosted server as its requests use it.  `requests` are those whose answer is being sent."""

    draining: bool
    endpoint: Any
    requests: set[Any]
    heads: HostedHeads
    loop: asyncio.AbstractEventLoop
    recorder: Any
    runtime: Any
    settings: Any
    wheel: Wheel[Any]
    now: float  # the loop's time at the last tick
    rest: float  # seconds for which a request may be left alone

    def count(self, received: int, sent: int) -> None: ...


class HostedRequest:
    """One request on its way through; `run` is the whole of it."""

    __slots__ = (
        "_aborted", "_fault", "_head", "_load", "_messages", "_over", "_receive", "_scope", "_send", "_server",
        "_since", "_size", "_stalled", "_task", "_waiters", "_wake", "beat", "peer", "proxied", "reply",
    )  # fmt: skip

    def __init__(
        self, server: RequestOwner, scope: Mapping[str, Any], peer: str, receive: ASGIReceive, send: ASGISend
    ) -> None:
        self._server = server
        self._scope = scope
        self._head: HostedHead | None = None  # None while it may be unreadable
        self.peer = peer
        self.proxied = server.endpoint.trusts(peer)
        self._receive, self._send = receive, send
        self._load: Load | None = None  # of a body that arrives
        self.reply: Reply | None = None  # the one that is under way
        self.beat = 0  # of the server's wheel
        self._since = 0.0  # the loop's time of the request, or of the last message
        self._messages: list[ASGIMessage] = []  # not yet sent
        self._size = 0  # bytes of their bodies
        self._over = False  # no further message will be added
        self._aborted = False
        self._fault: str | None = None  # of the server around us
        self._stalled: float | None = None  # the loop's time since which the reader has taken nothing
        self._task: asyncio.Task[Any] | None = None  # while it waits for the reader or for the answer
        self._wake: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Read the request, have it answered, and send the answer."""
        server, endpoint = self._server, self._server.endpoint
        try:
            self._head = server.heads.of(self._scope)
        except Refusal as exc:
            exc.__traceback__ = None
            self._refuse(exc)
        else:
            request = await self._request(self._head)
            if request is not None:
                recorder = server.recorder
                reply = Reply(self, request) if recorder is None else RecordedReply(self, request, server.loop.time())
                self.reply = reply
                reply.load, self._load = self._load, None
                self._since = server.now
                endpoint.respond(request, reply)
            elif not self._messages:
                return  # the client left before its request was whole
        await self._send_as_it_comes()

    # --- the request -------------------------------------------------------------------------------------------

    async def _request(self, head: HostedHead) -> HTTPRequest | None:
        """The whole request; None if it was refused, or its client left."""
        endpoint = self._server.endpoint
        if self._server.draining:
            self._refuse(overloaded("The server is shutting down"))
            return None
        # A request without a body is whole: the endpoint refuses it in the form that a browser reads.
        refusal: Refusal | None = None if _has_no_body(head) else endpoint.check(head, self)
        if refusal is None and head.expect_continue and endpoint.asks_who:
            refusal = await endpoint.approve(head, self)  # before `receive`, which invites the body
        if refusal is None:
            try:
                body = await self._body(head)
            except Refusal as exc:
                exc.__traceback__ = None
                refusal = exc
            else:
                if body is None:
                    return None
                if not self._server.draining:  # its body may have come when the handler's lifespan was over
                    return HTTPRequest(head, body)
                refusal = overloaded("The server is shutting down")
        self._refuse(refusal, endpoint.refusal_headers(head, self))
        return None

    async def _body(self, head: HostedHead) -> bytes | None:
        """The body, or None where the client left.  Raises a Refusal: 408, 413, or 503 for a client's memory."""
        settings, loop = self._server.settings, self._server.loop
        limit = settings.limits.max_body
        if limit is not None and (head.content_length or 0) > limit:
            raise _too_large(limit)
        deadlines = Deadlines(loop.time())
        body = bytearray()  # all parts but the last; a list of small parts would take many times their bytes
        size = 0
        while True:
            message = await self._next(deadlines, settings.body_timeout)
            kind = kind_of(message)
            if kind == "http.disconnect":
                return None
            if kind != "http.request":
                raise RuntimeError(f"the ASGI server sent {kind!r:.80} where a request's body was due")
            piece = message.get("body", b"")
            if not isinstance(piece, bytes):
                raise RuntimeError(f"the ASGI server sent 'http.request' with a body that is {piece!r:.80}")
            size += len(piece)
            if limit is not None and size > limit:
                raise _too_large(limit)
            more = message.get("more_body", False)
            if more or size > SMALL_BODY:
                self._weigh(head, size)
            if not more:
                self._server.count(size, 0)
                return bytes(body + piece) if body else piece
            body += piece
            deadlines.credit(loop.time(), size, settings.min_body_rate)

    def _weigh(self, head: HostedHead, size: int) -> None:
        """Count the arrived bytes as memory of the client.  Raises `overloaded` where that is too much."""
        if self._load is None:
            # The principal is not known yet, so the address is the party.
            runtime, endpoint = self._server.runtime, self._server.endpoint
            self._load = runtime.load(runtime.party_of("", endpoint.client(head, self)))
        if not self._load.resize(size):
            raise overloaded("Too much of this client's is under way")

    async def _next(self, deadlines: Deadlines, limit: float | None) -> ASGIMessage:
        if limit is None:
            return await self._receive()
        now = self._server.loop.time()
        if not deadlines.is_over(now, BODY, self._server.settings):
            with anyio.move_on_after(deadlines.since + limit - now):
                return await self._receive()
        raise Refusal(408, "Request Timeout: the request did not arrive in time")

    def _refuse(self, refusal: Refusal, extra: Headers = ()) -> None:
        """Answer a request that is not whole."""
        self._load = None
        server, head = self._server, self._head
        if server.recorder is not None:
            server.recorder.refused(server.endpoint.client(head, self), head, refusal.status)
        body = server.runtime.json.error(None, refusal)
        # The server around us would have to read a body that nothing takes.
        unread = head is None or bool(head.content_length) or head.get("transfer-encoding") is not None
        self.respond(refusal.status, JSON_HEADERS + refusal.headers + extra, body, unread)

    # --- sending -----------------------------------------------------------------------------------------------

    async def _send_as_it_comes(self) -> None:
        server = self._server
        self._task = asyncio.current_task()
        server.requests.add(self)
        server.wheel.put(self, server.now + server.rest)
        # Nearly every answer is whole here, and then nothing has to watch for a client that leaves.
        watch = None if self._over else server.loop.create_task(self._watch())
        try:
            while True:
                await self._send_pending()
                if self._fault is not None:
                    raise RuntimeError(self._fault)
                if self._aborted:  # before this task was there to be cancelled
                    return
                if self._over and not self._messages:
                    return
                self._wake = server.loop.create_future()
                await self._wake
        except OSError:
            pass  # since ASGI 2.4 `send` says so when the client has left
        except asyncio.CancelledError:
            if not self._aborted:
                raise
            uncancel = getattr(self._task, "uncancel", None)  # from Python 3.11 on
            if uncancel is not None:
                uncancel()
        finally:
            self._task = None
            server.requests.discard(self)
            server.wheel.remove(self)
            if watch is not None:
                watch.cancel()
            self._lost()

    async def _send_pending(self) -> None:
        loop = self._server.loop
        while self._messages and not self._aborted:
            messages, self._messages = self._messages, []
            for message in messages:
                self._stalled = loop.time()
                await self._send(message)
                self._size -= len(message.get("body", b""))
            self._stalled = None
            if self._waiters and self.writable:
                self._resume()

    async def _watch(self) -> None:
        """Wait until the client leaves."""
        kind: object = None
        try:
            for _ in range(MAX_LATE):
                kind = kind_of(await self._receive())
                if kind != "http.request":
                    break
            if kind != "http.disconnect":
                self._fault = f"the ASGI server sent {kind!r:.80} after a whole request"
        except Exception as exc:
            self._fault = f"the ASGI server's `receive` failed after a whole request: {type(exc).__name__}: {exc}"
        self._lost()

    def _lost(self) -> None:
        """The client is gone, or has its whole answer."""
        self._over = True
        reply, self.reply = self.reply, None
        if reply is not None:
            self._finished(reply)
            reply.gone()
            self._messages.clear()
        self._resume()
        self._stir()

    def _finished(self, reply: Reply) -> None:
        server = self._server
        if reply.records:
            server.recorder.finished(reply, server.loop.time())

    def _stir(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _resume(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def tick(self, now: float) -> None:
        """End an answer whose reader has taken nothing for `write_timeout` seconds; look at one that is silent."""
        server, settings, since, reply = self._server, self._server.settings, self._stalled, self.reply
        left = server.rest
        if since is not None and settings.write_timeout is not None:
            left = min(left, since + settings.write_timeout - now)
            if left <= 0:
                self.abort()
        if reply is not None:
            left = min(left, reply.tick(now - self._since, settings.patience, settings.keep_alive))
        if self._task is not None:
            server.wheel.put(self, now + left)

    # --- a Link for the reply ----------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes, close: bool) -> None:
        if status not in BODILESS:
            headers += (("Content-Length", str(len(body))),)
        if close and str(self._scope.get("http_version", "1.1")).startswith("1"):
            headers += (("Connection", "close"),)
        self._messages.append({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
        bodiless = status in BODILESS or self._scope["method"] == "HEAD"
        self._put(b"" if bodiless else body, True)

    def begin(self, headers: Headers, events: bytes, last: bool) -> None:
        self._messages.append({"type": "http.response.start", "status": 200, "headers": _encoded(headers)})
        self._put(events, last)

    def send(self, events: bytes, last: bool) -> None:
        self._put(events, last)

    def send_parts(self, headers: Headers | None, event: Parts, last: bool) -> None:
        events = b"".join(event)  # ASGI knows bytes alone
        if headers is None:
            self.send(events, last)
        else:
            self.begin(headers, events, last)

    def _put(self, body: bytes, last: bool) -> None:
        self._messages.append({"type": "http.response.body", "body": body, "more_body": not last})
        self._since = self._server.now
        self._size += len(body)
        self._server.count(0, len(body))
        if last:
            self._over = True
            reply, self.reply = self.reply, None
            if reply is not None:
                self._finished(reply)
        self._stir()

    def comment(self) -> None:
        self._put(COMMENT, False)

    def forget_head(self) -> None:
        """Keep the head: the ASGI server keeps its scope as well."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task that sends the answer; None when it has sent it."""
        return self._task

    @property
    def writable(self) -> bool:
        return bool(self._size < self._server.settings.write_high)

    async def drained(self) -> None:
        if not self.writable and not self._over:
            waiter = self._server.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def abort(self) -> None:
        """End the request without the rest of its answer; the ASGI server then closes the connection."""
        self._aborted = True
        if self._task is not None:
            self._task.cancel()


def _has_no_body(head: HostedHead) -> bool:
    # From HTTP/2 on a body needs no field of the head, so only methods that usually have none are taken for whole.
    no_field = not head.content_length and head.get("transfer-encoding") is None
    return no_field and head.method in ("GET", "HEAD", "OPTIONS", "DELETE")


def kind_of(message: Any) -> object:
    """The type of a message; the message itself where it has none."""
    return message["type"] if isinstance(message, Mapping) and "type" in message else message


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers]


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"Content Too Large: a body has at most {limit} bytes here")
