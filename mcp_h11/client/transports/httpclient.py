# SPDX-License-Identifier: MIT
"""A client of HTTP/1.1 on pooled keep-alive connections: TCP, TLS, Unix sockets; answers are read as they come.

It refuses to know anything of MCP, to keep cookies, to read the environment (proxies are given), to decompress, and to
follow any redirect but 307 and 308 within one origin (the method and the body stay, and nobody else gets the
credentials).

The rules it keeps:
- A connection goes back to the pool only when an answer was read to its end and nothing else has come on it.  An error,
  a timeout or a cancellation closes it.
- A request is sent a second time only if a connection from the pool gave no byte of an answer, and the request may be
  repeated or cannot have arrived whole.
- It runs nothing in the background: what is too old is thrown away when the pool is looked at.
"""

from __future__ import annotations

import re
import select
import ssl as tls
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urljoin

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from ...http.client import AnswerCache, AnswerCutShort, AnswerEnd, AnswerError, AnswerHead, ClientConnection
from ...http.client import ClientLimits as ClientLimits
from ...http.messages import NEED_DATA
from .outbound import ForwardProxies, ForwardProxy
from .urls import Origin, authority_of, parse_url

MAX_REDIRECTS = 3
# One read, and one write with a timeout of its own.  A request up to this size is written before its answer is read.
PIECE = 64 * 1024
# Of the body of a redirect: this much is read, so that the connection can be used again.
MAX_REDIRECT_BODY = 64 * 1024
# Seconds for an answer that the server may have sent before it stopped reading (413, 503).
LAST_WORDS = 1.0
# What a proxy may say before it connects.
MAX_TUNNEL_HEAD = 16 * 1024
# As `tls.CIPHERS`: forward secrecy and authenticated encryption; TLS 1.3 has nothing else.
CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"


# --- errors -----------------------------------------------------------------------------------------------------------


class HTTPFailure(Exception):
    """No answer, or not all of it.

    Attributes:
        sent: False where the request cannot have been executed: it is safe to send it again.
    """

    sent = True


class ConnectError(HTTPFailure):
    """There is no connection: the request never left."""

    sent = False


class BrokenAnswer(HTTPFailure):
    """The connection ended before the answer did."""

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswer(HTTPFailure):
    """The server broke HTTP or passed a limit."""


class AnswerTimeout(HTTPFailure):
    """The server did not read the request, or begin its answer, in time."""


class TooLarge(HTTPFailure):
    """A body larger than what was asked for."""


# --- calls ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class HTTPCall:
    """One request, as middleware sees it and may change it.

    `Content-Length` and `Connection` are set for it; `Host` and `Accept-Encoding` where it has none.  `repeatable`: it
    may be sent again though it may have been executed.
    """

    method: str
    url: str
    headers: list[tuple[str, str]] = field(default_factory=list, repr=False)
    body: bytes = field(default=b"", repr=False)
    repeatable: bool = False


def tls_defaults() -> tls.SSLContext:
    """The context where none is given: the system's authorities, the host's name checked, TLS 1.2 or 1.3."""
    context = tls.create_default_context()
    context.minimum_version = tls.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    context.set_alpn_protocols(["http/1.1"])
    # RFC 9112 9.8: an answer that ends with the connection is whole only if the end was said.
    context.options &= ~getattr(tls, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?:[ \r]|\Z)")

# --- connections ------------------------------------------------------------------------------------------------------

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class _Pollable(Protocol):
    def fileno(self) -> int: ...


def _is_readable(sock: _Pollable) -> bool:
    """Something has come on an idle connection; nearly always its end."""
    descriptor = sock.fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # pragma: no cover - Windows, whose select has no largest descriptor
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class _Wire:
    """One connection and what HTTP makes of it."""

    def __init__(
        self,
        stream: ByteStream,
        sock: _Pollable,
        origin: Origin,
        limits: ClientLimits,
        cache: AnswerCache,
        proxy: ForwardProxy | None = None,
    ) -> None:
        self.origin = origin
        # To a proxy that passes requests on: RFC 9112 3.2.2, absolute-form.  Through a tunnel nothing is different.
        self.proxy = None if origin.secure else proxy
        self.http = ClientConnection(limits, cache)
        self.idle_since = 0.0
        self.heard = False  # a byte of the answer to the last request
        self.written = False  # all of it
        self._stream = stream
        self._socket = sock

    @property
    def reusable(self) -> bool:
        return self.written and self.http.reusable

    def stale(self) -> bool:
        """An idle connection that the server has closed, or has said something on."""
        return _is_readable(self._socket)

    async def aclose(self) -> None:
        # At once, below TLS, whose closing handshake might never end; and also for a caller that is cancelled.
        stream = self._stream.transport_stream if isinstance(self._stream, TLSStream) else self._stream
        with anyio.CancelScope(shield=True):
            await stream.aclose()

    async def next_event(self) -> AnswerHead | bytes | AnswerEnd:
        """Raises BrokenAnswer, BadAnswer."""
        while True:
            event = self.buffered_event()
            if event is not None:
                return event
            try:
                data = await self._stream.receive(PIECE)
            except anyio.EndOfStream:
                data = b""
            except _GONE as error:
                raise BrokenAnswer(f"the connection was lost: {error.__cause__ or error!r}") from error
            self.heard = self.heard or bool(data)
            self.http.receive_data(data)

    def buffered_event(self) -> AnswerHead | bytes | AnswerEnd | None:
        """Of what has been read already.  Raises as `next_event`."""
        try:
            event = self.http.next_event()
        except AnswerCutShort as error:
            raise BrokenAnswer(str(error)) from None
        except AnswerError as error:
            raise BadAnswer(str(error)) from None
        return None if event is NEED_DATA else event  # type: ignore[return-value]  # no other Signal

    async def exchange(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Writes a request, reads the head of its answer.

        Raises: BrokenAnswer, BadAnswer, AnswerTimeout.
        """
        self.heard = self.written = False
        if len(data) > PIECE:
            return await self._exchange_large(data, write_timeout, head_timeout)
        await self._write(data, write_timeout)
        with anyio.move_on_after(head_timeout):
            return await self._read_head()
        raise AnswerTimeout(f"no answer within {head_timeout} s")

    async def _exchange_large(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Reads while it writes: a server may refuse a body (413) without reading it."""
        head: AnswerHead | None = None
        failure: HTTPFailure | None = None

        async def write() -> None:
            nonlocal failure
            patience = head_timeout
            try:
                await self._write(data, write_timeout)
            except HTTPFailure as error:
                failure = error
                patience = LAST_WORDS
            if patience is not None:
                waiting.deadline = anyio.current_time() + patience

        async with anyio.create_task_group() as tasks:
            waiting = anyio.CancelScope()
            tasks.start_soon(write)
            with waiting:
                try:
                    head = await self._read_head()
                except HTTPFailure as error:
                    failure = failure or error
            if head is None or head.status >= 300:
                # Nobody wants the rest.  A server that has begun to answer well still reads.
                tasks.cancel_scope.cancel()
        if head is not None and (failure is None or head.status >= 300):
            return head
        raise failure or AnswerTimeout(f"no answer within {head_timeout} s")

    async def _write(self, data: bytes, limit: float | None) -> None:
        """Raises AnswerTimeout, BrokenAnswer."""
        start = 0
        try:
            for start in range(0, len(data), PIECE):
                with anyio.fail_after(limit):
                    await self._stream.send(data[start : start + PIECE])
        except TimeoutError:
            raise AnswerTimeout(f"the server has read nothing for {limit} s") from None
        except _GONE as error:
            # Only a request whose last piece was never handed over cannot have arrived whole.
            sent = start + PIECE >= len(data)
            raise BrokenAnswer(f"the connection was lost: {error.__cause__ or error!r}", sent) from error
        self.written = True

    async def _read_head(self) -> AnswerHead:
        event = await self.next_event()
        assert type(event) is AnswerHead
        return event


class HTTPAnswer:
    """Status, headers, and a body that is read as it comes: iterate over it, or `read()` it.  Then `aclose()`.

    Attributes:
        status: from 200 on.
        headers: names in lower case, values as they came.
    """

    def __init__(self, head: AnswerHead, wire: _Wire, give_back: Callable[[_Wire], Awaitable[None]]) -> None:
        self.status = head.status
        self.headers = head.headers
        self._head = head
        self._wire: _Wire | None = wire
        self._give_back = give_back
        self._closed = False

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        return self._head.get(name)

    @property
    def ended(self) -> bool:
        """Whether the body was read to an end that the server said, not only to that of the connection."""
        framed = self.get("transfer-encoding") is not None or self.get("content-length") is not None
        return framed and self._wire is None and not self._closed

    async def __aenter__(self) -> HTTPAnswer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces of the body.

        Raises:
            BrokenAnswer: the server left in the middle, or the client was closed.
            BadAnswer: the server broke HTTP.
        """
        return self

    async def __anext__(self) -> bytes:
        wire = self._wire
        if wire is None:
            if self._closed:
                raise BrokenAnswer("the answer was closed before its end")
            raise StopAsyncIteration
        try:
            event = await wire.next_event()
        except BaseException:
            # Cancelled, too: nobody knows how much was read.
            self._closed = True
            await self._leave(wire)
            raise
        if type(event) is bytes:
            return event
        await self._leave(wire)
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        """The whole body, or what is left of it.

        Raises:
            TooLarge: it is of more than `limit` bytes.  The answer is closed.
            BrokenAnswer, BadAnswer: as by iterating.
        """
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > limit:
                await self.aclose()
                raise TooLarge(f"a body of more than {limit} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Gives the connection back if the body has been read to its end, or all of it has arrived; else closes it."""
        wire = self._wire
        if wire is None:
            return
        self._closed = True
        try:
            while type(wire.buffered_event()) is bytes:
                pass
        except HTTPFailure:
            pass  # it is closed
        await self._leave(wire)

    async def _leave(self, wire: _Wire) -> None:
        self._wire = None
        await self._give_back(wire)


# --- the client -------------------------------------------------------------------------------------------------------

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
        ssl: instead of `tls_defaults()`.
        uds: the path of a Unix socket to which all connections go, whatever host the URL names.
        middleware: outermost is what has the lowest `priority` (50 where there is none), and of equals the first.
        limits: of what servers send before a body.
        connect_timeout: seconds for name, connection and TLS handshake.
        write_timeout: seconds without progress in writing.
        head_timeout: seconds from the request's last byte to the end of the answer's head.  None: no limit.
        max_idle: connections kept for later; 0 keeps none.
        idle_time: seconds that they are kept.
        proxies: finds the forward proxy for an address; without it all connections are direct.
        clock: seconds, monotonic.
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
        self._url: str | None = None  # the last one, which is nearly always the next one, and
        self._parsed: tuple[Origin, str, str]  # what it says
        self._connect_timeout = connect_timeout
        self._write_timeout = write_timeout
        self._head_timeout = head_timeout
        self._max_idle = max_idle
        self._idle_time = idle_time
        self._proxies = proxies
        self._clock = clock
        self._open: set[_Wire] = set()
        self._idle: list[_Wire] = []  # the longest idle first
        self._closed = False
        chain: Next = self._send
        ordered = sorted(middleware, key=_priority)
        for one in ordered[::-1]:  # not `reverse=True`, which leaves equals in their order
            chain = _wrapped(one, chain)
        self._chain = chain

    async def __aenter__(self) -> HTTPClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def send(self, call: HTTPCall) -> HTTPAnswer:
        """The head of the answer, by way of the middleware.  Close the answer.

        Raises:
            ConnectError: no connection, or the client is closed; nothing was sent.
            BrokenAnswer: the connection ended first.
            AnswerTimeout: `write_timeout` or `head_timeout` has passed.
            BadAnswer: what came is not HTTP/1, is past a limit, or redirects for ever.
            ValueError: a URL or a header that cannot be sent.
        """
        return await self._chain(call)

    async def aclose(self) -> None:
        """Closes all connections.  Who is reading an answer gets BrokenAnswer."""
        self._closed = True
        self._idle.clear()
        while self._open:
            await self._open.pop().aclose()

    # -- one call

    async def _send(self, call: HTTPCall) -> HTTPAnswer:
        if call.url != self._url:
            self._parsed = parse_url(call.url, self._uds)
            self._url = call.url
        origin, authority, target = self._parsed
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._attempt(origin, authority, target, call)
            if answer.status not in (307, 308):
                return answer
            elsewhere = _redirected(answer.get("location"), origin, authority, target)
            if elsewhere is None:
                return answer
            target = elsewhere
            try:
                await answer.read(MAX_REDIRECT_BODY)
            except TooLarge:
                pass
        raise BadAnswer(f"more than {MAX_REDIRECTS} redirects")

    async def _attempt(self, origin: Origin, authority: str, target: str, call: HTTPCall) -> HTTPAnswer:
        headers = _with_defaults(call.headers, authority)
        wire = await self._take(origin)
        if wire is not None:
            try:
                return await self._exchange(wire, target, headers, call)
            except BrokenAnswer as error:
                # The server may have closed it just when the request was on its way.
                if wire.heard or not (call.repeatable or not error.sent) or self._closed:
                    raise
        return await self._exchange(await self._connect(origin), target, headers, call)

    async def _exchange(self, wire: _Wire, target: str, headers: list[tuple[str, str]], call: HTTPCall) -> HTTPAnswer:
        if wire.proxy is not None:
            target, headers = _for_proxy(wire.proxy, wire.origin, target, headers)
        try:
            data = wire.http.request(call.method, target, headers, call.body)
            head = await wire.exchange(data, self._write_timeout, self._head_timeout)
            coding = head.get("content-encoding")
            if coding is not None and coding.strip().lower() not in ("", "identity"):
                raise BadAnswer(f"status {head.status} with a Content-Encoding that was not asked for")
        except BaseException:
            await self._discard(wire)
            raise
        return HTTPAnswer(head, wire, self._give_back)

    # -- the pool

    async def _take(self, origin: Origin) -> _Wire | None:
        """The connection to `origin` that was used last; it is the likeliest to live."""
        await self._expire()
        for wire in reversed(self._idle):
            if wire.origin == origin:
                self._idle.remove(wire)
                if not wire.stale():
                    return wire
                await self._discard(wire)
                return await self._take(origin)
        return None

    async def _expire(self) -> None:
        oldest = self._clock() - self._idle_time
        while self._idle and (self._idle[0].idle_since <= oldest or len(self._idle) > self._max_idle):
            await self._discard(self._idle.pop(0))

    async def _give_back(self, wire: _Wire) -> None:
        if not wire.reusable or self._closed:
            await self._discard(wire)
            return
        wire.idle_since = self._clock()
        self._idle.append(wire)
        await self._expire()

    async def _discard(self, wire: _Wire) -> None:
        self._open.discard(wire)
        await wire.aclose()

    async def _connect(self, origin: Origin) -> _Wire:
        """Raises ConnectError."""
        if self._closed:
            raise ConnectError("the client is closed")
        where = origin.uds or f"{origin.host}:{origin.port}"
        proxy = self._proxy_for(origin)
        if proxy is not None:
            where = f"{where} through the proxy {proxy.name}"
        try:
            with anyio.fail_after(self._connect_timeout):
                stream, sock = await self._open_stream(origin, proxy)
        except TimeoutError as error:
            raise ConnectError(f"no connection to {where} within {self._connect_timeout} s") from error
        except (*_GONE, anyio.EndOfStream, UnicodeError) as error:
            raise ConnectError(f"no connection to {where}: {error.__cause__ or error!r}") from error
        wire = _Wire(stream, sock, origin, self._limits, self._heads, proxy)
        if self._closed:
            await wire.aclose()
            raise ConnectError("the client is closed")
        self._open.add(wire)
        return wire

    def _proxy_for(self, origin: Origin) -> ForwardProxy | None:
        if self._proxies is None or origin.uds is not None:
            return None
        try:
            return self._proxies.find(origin.secure, origin.host, origin.port)
        except ValueError as error:
            raise ConnectError(f"no connection to {origin.host}:{origin.port}: {error}") from None

    async def _open_stream(self, origin: Origin, proxy: ForwardProxy | None) -> tuple[ByteStream, _Pollable]:
        stream: ByteStream
        if origin.uds is not None:
            stream = await anyio.connect_unix(origin.uds)
        elif proxy is not None:
            stream = await anyio.connect_tcp(proxy.host, proxy.port)
        else:
            stream = await anyio.connect_tcp(origin.host, origin.port)
        try:
            # Now: of a connection that was reset nobody can ask it any more.
            sock = stream.extra(SocketAttribute.raw_socket)
            if not origin.secure:
                return stream, sock
            if proxy is not None:
                await _tunnel(stream, origin, proxy)
            if self._ssl is None:
                self._ssl = tls_defaults()
            wrapped = await TLSStream.wrap(stream, server_side=False, hostname=origin.host, ssl_context=self._ssl)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
        return wrapped, sock


def _for_proxy(
    proxy: ForwardProxy, origin: Origin, target: str, headers: list[tuple[str, str]]
) -> tuple[str, list[tuple[str, str]]]:
    """The same request for a proxy that passes it on."""
    authority = authority_of(origin.host, origin.port).removesuffix(":80")
    if proxy.authorization is not None:
        headers = [*headers, ("Proxy-Authorization", proxy.authorization)]
    return f"http://{authority}{target}", headers


async def _tunnel(stream: ByteStream, origin: Origin, proxy: ForwardProxy) -> None:
    """Has the proxy connect to the origin; what follows is between the two ends (RFC 9110, 9.3.6).

    Raises ConnectError where it does not, and what a stream raises.
    """
    authority = authority_of(origin.host, origin.port)
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    await stream.send("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= MAX_TUNNEL_HEAD:
        head += await stream.receive(MAX_TUNNEL_HEAD)
    said, end, more = head.partition(b"\r\n\r\n")
    status = _STATUS.match(said)
    if len(said) > MAX_TUNNEL_HEAD or not end or status is None:
        raise ConnectError(f"the proxy {proxy.name} answers CONNECT with something that is no HTTP")
    if not status[1].startswith(b"2"):
        why = ", that is without credentials that it takes" if status[1] == b"407" else ""
        raise ConnectError(f"the proxy {proxy.name} refuses {authority} with status {status[1].decode()}{why}")
    if more:
        # TLS begins with what we say: this would be of somebody in the middle.
        raise ConnectError(f"the proxy {proxy.name} says more than it was asked")


def _with_defaults(headers: Sequence[tuple[str, str]], authority: str) -> list[tuple[str, str]]:
    names = {name.lower() for name, _ in headers}
    out = [] if "host" in names else [("Host", authority)]
    out += headers
    if "accept-encoding" not in names:
        out.append(("Accept-Encoding", "identity"))
    return out


def _redirected(location: str | None, origin: Origin, authority: str, target: str) -> str | None:
    """The target of a redirect within the origin, else None."""
    if location is None:
        return None
    scheme = "https" if origin.secure else "http"
    try:
        there, _, elsewhere = parse_url(urljoin(f"{scheme}://{authority}{target}", location), origin.uds)
    except ValueError:
        return None
    return elsewhere if there == origin else None
