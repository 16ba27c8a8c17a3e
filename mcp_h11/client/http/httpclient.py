# SPDX-License-Identifier: MIT
"""A client of HTTP/1.1: calls go through middleware to a connection of a pool, and answers are read as they arrive.

It knows nothing of MCP.  It keeps no cookies, reads no environment (proxies are given), decompresses nothing, and
follows only redirects 307 and 308 within one origin: these keep method and body, and another origin must not get the
credentials.

Rules:
- A connection returns to the pool only after an answer was read to its end and nothing else has come.  An error, a
  timeout or a cancellation closes the connection.
- A request is sent a second time only if a connection from the pool gave no byte of an answer, and the request may be
  repeated or cannot have arrived whole.
- Nothing runs in the background: connections that were idle too long are closed when the pool is used next.
"""

from __future__ import annotations

import socket
import ssl as tls
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import anyio
import anyio.lowlevel

from ...http.client import AnswerCache, ClientLimits, PostHead
from .dialing import open_stream, tls_defaults
from .line import PIECE
from .outbound import ForwardProxies, ForwardProxy
from .straight import Post, Straight
from .urls import Origin, authority_of, parse_url
from .wire import GONE, BadAnswer, BrokenAnswer, ConnectError, HTTPAnswer, TooLarge, Wire

MAX_REDIRECTS = 3
# Bytes of a redirect's body that are read, so that the connection can be used again.
MAX_REDIRECT_BODY = 64 * 1024


@dataclass(slots=True)
class HTTPCall:
    """One request, as middleware sees it and may change it.

    The client adds `Content-Length` and `Connection`, and adds `Host` and `Accept-Encoding` if the call has none.

    Attributes:
        method, url: of the request.
        headers: pairs of name and value, in order.
        body: its bytes, which are whole.
        repeatable: the request may be sent again, even if the server has executed it.
    """

    method: str
    url: str
    headers: list[tuple[str, str]] = field(default_factory=list, repr=False)
    body: bytes = field(default=b"", repr=False)
    repeatable: bool = False


Next = Callable[[HTTPCall], Awaitable[HTTPAnswer]]
Middleware = Callable[[HTTPCall, Next], Awaitable[HTTPAnswer]]
DEFAULT_PRIORITY = 50


def _priority(middleware: Middleware) -> float:
    return float(getattr(middleware, "priority", DEFAULT_PRIORITY))


def _wrapped(middleware: Middleware, following: Next) -> Next:
    async def run(call: HTTPCall) -> HTTPAnswer:
        return await middleware(call, following)

    return run


class HTTPClient:
    """Sends `HTTPCall`s.  `aclose()` it, or use it as an async context manager.

    Args:
        ssl: None for `tls_defaults()`.
        uds: the path of a Unix socket that all connections go to; the host of a URL is then only the Host header.
        middleware: the lowest `priority` (50 if it has none) is outermost, and among equals the first.
        limits: on the heads that servers send.
        connect_timeout: seconds for the name lookup, the connection and the TLS handshake together.
        write_timeout: seconds without progress in writing.
        head_timeout: seconds from the request's last byte to the end of the answer's head.  None: no limit.
        max_idle: how many idle connections are kept; 0 keeps none.
        idle_time: seconds that an idle connection is kept.
        proxies: finds the forward proxy for an address; None makes all connections direct.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        *,
        ssl: tls.SSLContext | None = None,
        uds: str | None = None,
        middleware: Sequence[Middleware] = (),
        limits: ClientLimits | None = None,
        connect_timeout: float | None = 10.0,
        write_timeout: float | None = 30.0,
        head_timeout: float | None = 60.0,
        max_idle: int = 20,
        idle_time: float = 60.0,
        proxies: ForwardProxies | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ssl = ssl
        self._uds = uds
        self._limits = limits or ClientLimits()
        self._heads = AnswerCache()
        # The last URL and its parts: a client calls the same URL again and again, and parsing takes time.
        self._url: str | None = None
        self._parsed: tuple[Origin, str, str]
        self._connect_timeout = connect_timeout
        self._write_timeout = write_timeout
        self._head_timeout = head_timeout
        self._max_idle = max_idle
        self._idle_time = idle_time
        self._proxies = proxies
        self._clock = clock
        self._buffer = bytearray()  # for reads, when there is a connection
        self._open: set[Wire] = set()
        self._idle: list[Wire] = []  # the longest idle first
        self._closed = False
        self._ordered = sorted(middleware, key=_priority)
        self._chain = self._around(self._send)

    def _around(self, chain: Next) -> Next:
        """The middleware with this inside of it."""
        for one in self._ordered[::-1]:  # not `reverse=True`, which leaves equals in their order
            # From the inside out, so that the first one is called first.
            chain = _wrapped(one, chain)
        return chain

    async def __aenter__(self) -> HTTPClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def send(self, call: HTTPCall) -> HTTPAnswer:
        """Sends the call through the middleware and reads the head of the answer.  Close the answer.

        Raises:
            ConnectError: no connection, or the client is closed; nothing was sent.
            BrokenAnswer: the connection ended first.
            AnswerTimeout: `write_timeout` or `head_timeout` has passed.
            BadAnswer: the answer is not HTTP/1, is past a limit, or is one redirect too many.
            ValueError: a URL or a header that cannot be sent.
        """
        return await self._chain(call)

    async def aclose(self) -> None:
        """Closes all connections.  Reading an answer that is not complete raises BrokenAnswer."""
        self._closed = True
        self._idle.clear()
        while self._open:
            self._open.pop().close()
        # The sockets are closed in the next turn of the loop.
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()

    # -- one call

    def _place(self, url: str) -> tuple[Origin, str, str]:
        if url != self._url:
            self._parsed = parse_url(url, self._uds)
            self._url = url
        return self._parsed

    async def _send(self, call: HTTPCall) -> HTTPAnswer:
        origin, authority, target = self._place(call.url)
        return await self._follow(call, await self._attempt(origin, authority, target, call))

    async def _follow(self, call: HTTPCall, answer: HTTPAnswer) -> HTTPAnswer:
        """The answer, or that of the place to which it redirects."""
        origin, authority, target = self._place(call.url)
        for _ in range(MAX_REDIRECTS):
            elsewhere = None
            if answer.status in (307, 308):
                elsewhere = _redirected(answer.get("location"), origin, authority, target)
            if elsewhere is None:
                return answer
            target = elsewhere
            # The body of a redirect is read to its end, so that the next request can use the connection.
            try:
                await answer.read(MAX_REDIRECT_BODY)
            except TooLarge:
                pass
            answer = await self._attempt(origin, authority, target, call)
        if answer.status in (307, 308) and _redirected(answer.get("location"), origin, authority, target) is not None:
            answer.close()
            raise BadAnswer(f"more than {MAX_REDIRECTS} redirects")
        return answer

    async def _attempt(self, origin: Origin, authority: str, target: str, call: HTTPCall) -> HTTPAnswer:
        headers = _with_defaults(call.headers, authority)
        wire = self._take_idle(origin)
        if wire is not None:
            try:
                return await self._exchange(wire, target, headers, call)
            except BrokenAnswer as error:
                # The server may have closed the idle connection while the request was on its way (RFC 9112, 9.3.1).
                if wire.heard or not (call.repeatable or not error.sent) or self._closed:
                    raise
        return await self._exchange(await self._connect(origin), target, headers, call)

    # -- one call without a task

    def post_of(self, url: str, headers: Sequence[tuple[str, str]]) -> Post:
        """The POST requests to `url` with these headers, for `begin`.  Raises ValueError."""
        origin, authority, target = self._place(url)
        return Post(url, list(headers), origin, PostHead(target, _with_defaults(headers, authority)))

    def begin(
        self, post: Post, body: bytes, repeatable: bool, heard: Callable[[Straight], None], owner: Any
    ) -> Straight | None:
        """Writes a POST now, and calls `heard` in the turn of the loop that reads its answer; with `owner` on it.

        None where it cannot be so, and `send` has to wait: for a connection, for middleware, or for h11 to write a head
        that was not sent before.  Middleware with an attribute `goes_straight` that is true has nothing to add to a
        request now, and needs no answer but refusals, which `go_on` shows it.
        """
        if self._ordered and not all(getattr(one, "goes_straight", False) is True for one in self._ordered):
            return None
        if self._head_timeout is not None or not self._idle or self._closed:
            return None
        wire = self._take_idle(post.origin)
        if wire is None:
            return None
        data = wire.http.post(post.head, body) if wire.plain else None
        if data is None:
            self._idle.append(wire)
            return None
        straight = Straight(post, body, repeatable, wire, self._give_back, heard, owner)
        try:
            straight.write(data, self._write_timeout)
        except GONE:
            self._discard(wire)
            return None
        return straight

    async def go_on(self, straight: Straight) -> HTTPAnswer:
        """The answer of a request that was begun, where it needs a task: it has an `answer`, or is sent `again`.

        Raises as `send`.
        """
        call = HTTPCall("POST", straight.post.url, list(straight.post.headers), straight.body, straight.repeatable)
        begun: Straight | None = straight

        async def rest(call: HTTPCall) -> HTTPAnswer:
            nonlocal begun
            straight, begun = begun, None
            if straight is not None and call.headers == straight.post.headers:
                return await self._rest_of(straight, call)
            # The middleware has a token by now, which the request was sent without.
            if straight is not None and straight.answer is not None:
                if straight.answer.status != 401:
                    return await self._rest_of(straight, call)
                await straight.answer.aclose()
            return await self._send(call)

        try:
            return await self._around(rest)(call)
        finally:
            if begun is not None and begun.answer is not None:  # a middleware has failed before
                begun.answer.close()

    async def _rest_of(self, straight: Straight, call: HTTPCall) -> HTTPAnswer:
        if straight.answer is not None:
            if straight.whole:
                straight.answer.has_come(straight.whole)
            return await self._follow(call, straight.answer)
        origin, authority, target = self._place(call.url)
        headers = _with_defaults(call.headers, authority)
        return await self._follow(call, await self._exchange(await self._connect(origin), target, headers, call))

    async def _exchange(self, wire: Wire, target: str, headers: list[tuple[str, str]], call: HTTPCall) -> HTTPAnswer:
        if wire.proxy is not None:
            target, headers = _for_proxy(wire.proxy, wire.origin, target, headers)
        try:
            data = wire.http.request(call.method, target, headers, call.body)
            head = await wire.exchange(data, self._write_timeout, self._head_timeout)
            # The request accepts only "identity".  A compressed body could grow past every limit when it is unpacked.
            if head.encoded:
                raise BadAnswer(f"status {head.status} with a Content-Encoding that was not asked for")
        except BaseException:
            self._discard(wire)
            raise
        return HTTPAnswer(head, wire, self._give_back)

    # -- the pool

    def _take_idle(self, origin: Origin) -> Wire | None:
        """The idle connection to `origin` that was used last: the server is least likely to have closed it."""
        self._expire()
        for place in range(len(self._idle) - 1, -1, -1):
            wire = self._idle[place]
            if wire.origin is origin or wire.origin == origin:
                del self._idle[place]
                if not wire.line.stale():
                    return wire
                self._discard(wire)
        return None

    def _expire(self) -> None:
        oldest = self._clock() - self._idle_time
        while self._idle and (self._idle[0].idle_since <= oldest or len(self._idle) > self._max_idle):
            self._discard(self._idle.pop(0))

    def _give_back(self, wire: Wire) -> None:
        if not wire.reusable or self._closed:
            self._discard(wire)
            return
        # The end of the list is the newest, and `_expire` looks at its beginning alone.
        wire.idle_since = self._clock()
        self._idle.append(wire)
        if len(self._idle) > self._max_idle:
            self._expire()

    def _discard(self, wire: Wire) -> None:
        self._open.discard(wire)
        wire.close()

    async def _connect(self, origin: Origin) -> Wire:
        """Raises ConnectError."""
        if self._closed:
            raise ConnectError("the client is closed")
        where = origin.uds or f"{origin.host}:{origin.port}"
        proxy = self._proxy_for(origin)
        if proxy is not None:
            where = f"{where} through the proxy {proxy.name}"
        if not self._buffer:
            self._buffer = bytearray(PIECE)
        try:
            with anyio.fail_after(self._connect_timeout):
                stream, line = await open_stream(origin, proxy, self._tls, self._buffer)
        except TimeoutError as error:
            raise ConnectError(f"no connection to {where} within {self._connect_timeout} s") from error
        except (*GONE, anyio.EndOfStream, UnicodeError) as error:
            raise ConnectError(f"no connection to {where}: {_reason(error)}") from error
        wire = Wire(stream, line, origin, self._limits, self._heads, proxy)
        # `aclose` may have been called while the connection was opened, and does not know this wire.
        if self._closed:
            wire.close()
            raise ConnectError("the client is closed")
        # Noted as open until it is discarded: `aclose` closes these, and not the idle ones alone.
        self._open.add(wire)
        return wire

    def _proxy_for(self, origin: Origin) -> ForwardProxy | None:
        # A Unix socket is on this machine, where no proxy could reach it.
        if self._proxies is None or origin.uds is not None:
            return None
        try:
            return self._proxies.find(origin.secure, origin.host, origin.port)
        except ValueError as error:
            raise ConnectError(f"no connection to {origin.host}:{origin.port}: {error}") from None

    def _tls(self) -> tls.SSLContext:
        # At the first connection with TLS: loading the authorities takes long, and clients on loopback never need them.
        if self._ssl is None:
            self._ssl = tls_defaults()
        return self._ssl


def _reason(error: BaseException) -> str:
    """Why there is no connection, in words where the reason is one that people meet each day."""
    cause = error.__cause__ or error
    # anyio has a group of exceptions where a name has several addresses.
    first = getattr(cause, "exceptions", (cause,))[0]
    if isinstance(first, ConnectionRefusedError):
        return "connection refused, no server listens there"
    if isinstance(first, socket.gaierror) and first.strerror:
        return first.strerror
    return repr(cause)


def _for_proxy(
    proxy: ForwardProxy, origin: Origin, target: str, headers: list[tuple[str, str]]
) -> tuple[str, list[tuple[str, str]]]:
    """The request in the absolute form that a proxy needs to pass it on (RFC 9112, 3.2.2)."""
    authority = authority_of(origin.host, origin.port).removesuffix(":80")
    if proxy.authorization is not None:
        headers = [*headers, ("Proxy-Authorization", proxy.authorization)]
    return f"http://{authority}{target}", headers


def _with_defaults(headers: Sequence[tuple[str, str]], authority: str) -> list[tuple[str, str]]:
    names = {name.lower() for name, _ in headers}
    out = [] if "host" in names else [("Host", authority)]
    out += headers
    if "accept-encoding" not in names:
        out.append(("Accept-Encoding", "identity"))
    return out


def _redirected(location: str | None, origin: Origin, authority: str, target: str) -> str | None:
    """The target of a redirect within the origin, else None."""
    # A redirect without a place to go to is an answer like any other.
    if location is None:
        return None
    scheme = "https" if origin.secure else "http"
    try:
        there, _, elsewhere = parse_url(urljoin(f"{scheme}://{authority}{target}", location), origin.uds)
    except ValueError:
        return None
    # Another origin must not get the credentials, so the caller sees the redirect itself.
    return elsewhere if there == origin else None
