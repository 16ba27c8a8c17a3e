# SPDX-License-Identifier: MIT
"""`--verbose`: requests and answers on stderr, as curl and httpie show them.

Over HTTP a middleware sees each exchange: `>` marks a request and `<` an answer, whose events are shown as they
come.  On pipes, and to a server in this process, a transport around the real one sees each message: `-->` and `<--`.

Rules:
- No secret is shown: credentials, cookies, session ids and the query of an address are `***`.
- The bytes go on as they came.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...client.connect import transport_of
from ...client.http.httpclient import HTTPCall, Next
from ...client.http.wire import HTTPAnswer
from ...client.transports.base import Outgoing, Receiver, Transport
from ...http.sse import MAX_EVENT_SIZE, EventDecoder, SSEError
from ...protocol.jsonrpc import ErrorResponse, Message, Notification, Request, Response
from ...protocol.revisions import Revision
from .printing import Screen, json_text, line

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

MAX_BODY = 1024 * 1024  # bytes of one body that are shown
MAX_TEXT = 1_000  # characters of one text in it, such as an image in base64
HIDDEN = "***"
_SECRET = re.compile("authorization|cookie|session|token|secret|key|password|credential", re.IGNORECASE)
# A member of JSON or of a query that is a secret where it stands in an event of HTTP+SSE: `/messages?session_id=...`.
_IN_TEXT = re.compile(r"(?i)((?:session_?id|token|key|secret)=)[^&\s\"]+")


class HTTPTrace:
    """The middleware.  It runs last, so that it sees the request as it is sent; only the token is set after it.

    Args:
        authorized: whether the client has a token.
        clock: seconds, monotonic.
    """

    priority = float("inf")

    def __init__(self, screen: Screen, *, authorized: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._screen = screen
        self._authorized = authorized
        self._clock = clock
        self._numbers = count(1)

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        number, began = next(self._numbers), self._clock()
        self._screen.say("\n".join(self._request(call, number)))
        try:
            answer = await following(call)
        except Exception as error:
            self._screen.say(f"< no answer to #{number}: {line(error)} ({self._took(began)})\n<")
            raise
        return _Overheard(answer, _Body(self._screen, answer, number, lambda: self._took(began)))

    def _took(self, began: float) -> str:
        return f"{(self._clock() - began) * 1e3:.1f} ms"

    def _request(self, call: HTTPCall, number: int) -> list[str]:
        parts = urlsplit(call.url)
        query = f"?{HIDDEN}" if parts.query else ""
        headers = [("Host", parts.netloc.rpartition("@")[2]), *call.headers]
        if self._authorized:
            headers = [pair for pair in headers if pair[0].lower() != "authorization"]
            headers.append(("Authorization", f"Bearer {HIDDEN}"))
        head = [f"{call.method} {line(parts.path or '/')}{query} HTTP/1.1  (#{number})", *_headers(headers)]
        return _marked(">", [*head, "", *(_shown(call.body) if call.body else [])])


class _Body:
    """The body of one answer, which is shown as it is read."""

    def __init__(self, screen: Screen, answer: HTTPAnswer, number: int, took: Callable[[], str]) -> None:
        self._screen = screen
        self._number = number
        self._took = took
        self._whole = bytearray()
        self._ended = False
        kind = (answer.get("content-type") or "").partition(";")[0].strip().lower()
        self._events = EventDecoder(MAX_EVENT_SIZE) if kind == "text/event-stream" else None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        head = f"HTTP/1.1 {answer.status} {_phrase(answer.status)}  (#{number}, {took()})"
        screen.say("\n".join(_marked("<", [head, *_headers(headers), ""])))

    def take(self, piece: bytes) -> None:
        if self._events is None:
            # One byte more shows that there is more.
            self._whole += piece[: MAX_BODY + 1 - len(self._whole)]
            return
        try:
            for event in self._events.feed(piece):
                said = [f"event: {line(event.event)}  (#{self._number}, {self._took()})"]
                said += [f"id: {line(event.id)}"] if event.id is not None else []
                self._say([*said, *_shown(event.data.encode("utf-8", "replace")), ""])
        except SSEError:
            self._events = EventDecoder(MAX_EVENT_SIZE)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._events is not None:
            self._say([f"end of the stream  (#{self._number}, {self._took()})"])
        elif self._whole:
            self._say([*_shown(bytes(self._whole)), ""])

    def _say(self, lines: Iterable[str]) -> None:
        self._screen.say("\n".join(_marked("<", lines)))


class _Overheard(HTTPAnswer):
    """An answer with a body that shows each piece when it is read."""

    def __init__(self, answer: HTTPAnswer, body: _Body) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._answer = answer
        self._body = body

    def get(self, name: str) -> str | None:
        return self._answer.get(name)

    @property
    def ended(self) -> bool:
        return self._answer.ended

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._answer.__anext__()
        except BaseException:
            self._body.end()
            raise
        self._body.take(piece)
        return piece

    async def aclose(self) -> None:
        self._body.end()
        await self._answer.aclose()


# --- messages without HTTP --------------------------------------------------------------------------------------------


class TracedTransport:
    """The way to a server on pipes or in this process, with each message shown."""

    def __init__(self, transport: Transport, screen: Screen, clock: Callable[[], float] = time.perf_counter) -> None:
        self.duplex = transport.duplex
        self._transport = transport
        self._screen = screen
        self._clock = clock
        self._sent: dict[int | str, float] = {}

    @property
    def why(self) -> str:
        return self._transport.why

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        await self._transport.start(_Ear(receiver, self._heard), tasks)

    async def send(self, out: Outgoing) -> None:
        if out.request_id is not None:
            self._sent[out.request_id] = self._clock()
        named = out.method or "answer"
        number = f" (#{out.request_id})" if out.request_id is not None else ""
        self._screen.say("\n".join([f"--> {line(named)}{number}", *_shown(out.payload)]))
        await self._transport.send(out)

    def _heard(self, message: Message) -> None:
        took = ""
        if isinstance(message, (Response, ErrorResponse)):
            began = self._sent.pop(message.id, None) if message.id is not None else None
            took = "" if began is None else f", {(self._clock() - began) * 1e3:.1f} ms"
            head, shown = f"answer (#{line(message.id)}{took})", _value(message)
        else:
            head, shown = line(message.method), _value(message)
        self._screen.say("\n".join([f"<-- {head}", *json_text(_cut(shown), 2).split("\n")]))

    async def cancel(self, request_id: int | str) -> None:
        await self._transport.cancel(request_id)

    def settle(self, revision: Revision) -> None:
        self._transport.settle(revision)

    async def listen(self) -> None:
        await self._transport.listen()

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Ear:
    """A receiver before the client's own."""

    def __init__(self, receiver: Receiver, heard: Callable[[Message], None]) -> None:
        self._receiver = receiver
        self._heard = heard

    def message(self, message: Message, via: int | str | None) -> None:
        self._heard(message)
        self._receiver.message(message, via)

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        self._receiver.lost(request_id, error)

    def closed(self, error: Exception | None) -> None:
        self._receiver.closed(error)

    def renewed(self) -> Awaitable[None]:
        return self._receiver.renewed()


def traced(target: Any, screen: Screen) -> Callable[[], Transport]:
    """Makes the transport to a command or a handler, as `Client` would, with each message shown."""

    def make() -> Transport:
        return TracedTransport(transport_of(target), screen)

    return make


# --- text -------------------------------------------------------------------------------------------------------------


def _value(message: Message) -> dict[str, Any]:
    if isinstance(message, Response):
        return {"id": message.id, "result": message.result}
    if isinstance(message, ErrorResponse):
        return {"id": message.id, "error": message.error}
    found: dict[str, Any] = {"id": message.id} if isinstance(message, Request) else {}
    assert isinstance(message, (Request, Notification))
    return {**found, "method": message.method, "params": message.params}


def _headers(headers: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{line(name)}: {_masked(name, value)}" for name, value in headers]


def _masked(name: str, value: str) -> str:
    if not _SECRET.search(name):
        return line(value)
    scheme, blank, _ = value.partition(" ")
    # "Bearer" and "Basic" are no secrets, and name the kind of credentials.
    return f"{line(scheme)} {HIDDEN}" if blank and name.lower().endswith("authorization") else HIDDEN


def _shown(body: bytes) -> list[str]:
    """The lines of a body: JSON in its layout, any other text as it is."""
    if len(body) > MAX_BODY:
        return [f"(more than {MAX_BODY} bytes)"]
    try:
        return json_text(_cut(json.loads(body)), 2).split("\n")
    except (ValueError, RecursionError):
        text = _IN_TEXT.sub(rf"\1{HIDDEN}", body.decode("utf-8", "replace"))
        return [line(_cut(one)) for one in text.splitlines()]


def _cut(value: Any) -> Any:
    """The value with its long texts cut."""
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}... ({len(value) - MAX_TEXT} characters more)"
    if isinstance(value, dict):
        return {_cut(name): _cut(member) for name, member in value.items()}
    return [_cut(member) for member in value] if isinstance(value, list) else value


def _marked(mark: str, lines: Iterable[str]) -> list[str]:
    return [f"{mark} {text}".rstrip() for text in lines]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
