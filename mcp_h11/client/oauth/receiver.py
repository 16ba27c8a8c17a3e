# SPDX-License-Identifier: MIT
"""Listens on a loopback port for the browser that an authorization server sends back (RFC 8252, 7.3).

One request has one meaning: an answer to the login in progress.  All others get a page that says why they are none.
It takes one answer for each login, keeps no connection open, and logs nothing, because the address holds the code.

Rules:
- It listens on 127.0.0.1 alone, and takes no other Host: a page of the open web that has its name point here is
  refused.
- No text of a request is written into a page, but the words of an `error` with the right state, and these escaped.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import NamedTuple, cast

from ...http.heads import HeadCache
from ...http.messages import Head, HTTPError, HTTPRequest, Limits
from ...http.server import ServerConnection
from ...protocol.shown import escaped
from .answers import WrongAnswer, read_answer
from .redirect import AuthorizationResponse

LOOPBACK = "127.0.0.1"
MAX_CONNECTIONS = 8  # at once: a browser opens some in advance; the oldest makes room
REQUEST_LIMIT = 10.0  # seconds from the connection to the end of the request
LINGER_LIMIT = 2.0  # seconds from the answer to the close, where the browser does not close
MAX_ERROR_TEXT = 500  # characters of an error in a page
# A code is some 2,000 characters at the most servers; the head beside it has the cookies of all of 127.0.0.1.
REDIRECT_LIMITS = Limits(max_request_line=16 * 1024, max_head=64 * 1024, max_fields=100, max_body=64 * 1024)

_STYLE = "body{font:1.1em/1.5 system-ui,sans-serif;max-width:38em;margin:4em auto;padding:0 1em}"
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    # The address has the code: it stays in no cache, and in no Referer.
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy",
     f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
     "frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)  # fmt: skip


class _Page(NamedTuple):
    status: int
    title: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    def html(self) -> bytes:
        title, text = escape(self.title), escape(self.text)
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1><p>{text}</p></body></html>\n"
        ).encode()


_NOT_TAKEN = "This is no answer to the login"


class RedirectReceiver:
    """Call `listen`, then `expect`, and await its future; the browser comes to `url`.  `aclose` ends it.

    Args:
        path: of the address; it begins with a slash.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._port = 0
        self._state: str | None = None
        self._answer: asyncio.Future[AuthorizationResponse] | None = None
        self.cache = HeadCache(max_heads=1)
        self.connections: dict[_Connection, None] = {}

    @property
    def url(self) -> str:
        """The redirect_uri."""
        return f"http://{LOOPBACK}:{self._port}{self._path}"

    async def listen(self, port: int = 0) -> None:
        """Begins to listen; 0 is any free port.  Raises OSError where the port is not free."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), LOOPBACK, port, backlog=MAX_CONNECTIONS)
        self._port = self._server.sockets[0].getsockname()[1]

    def expect(self, state: str) -> asyncio.Future[AuthorizationResponse]:
        """The answer of the login with this `state`, once it has come.  A login before it gets none any more."""
        if self._answer is not None:
            self._answer.cancel()
        self._state = state
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    async def aclose(self) -> None:
        """Stops listening, and ends all connections when the answers that are under way have left."""
        if self._answer is not None:
            self._answer.cancel()
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.end()
            self._server = None

    # --- one request ------------------------------------------------------------------------------------------------

    def page_for(self, head: Head) -> _Page:
        """Takes the request of this head as an answer, or not, and says which in a page."""
        # DNS rebinding: a page of the open web has its own name in Host, even if that name points to this machine.
        if head.get("host") != f"{LOOPBACK}:{self._port}":
            return _Page(403, _NOT_TAKEN, "The Host of this request is not the address that this program listens on.")
        if head.path != self._path:
            return _Page(404, "There is no page here", "This program waits for the answer of a login at another path.")
        if head.method != "GET":
            text = "The answer of a login comes by GET."
            return _Page(405, _NOT_TAKEN, text, (("Allow", "GET"),))
        if self._state is None or self._answer is None:
            return _Page(409, _NOT_TAKEN, "This program has begun no login.")
        try:
            answer = read_answer(f"?{head.query}", self._state)
        except WrongAnswer as error:
            return _Page(400, _NOT_TAKEN, f"{error} The program goes on waiting for the right one.")
        if self._answer.done():
            text = "An answer has come before, and one login takes one answer. Begin the login anew where you began it."
            return _Page(410, "This login has had its answer", text)
        self._answer.set_result(answer)
        if answer.error is not None:
            words = ": ".join(escaped(text) for text in (answer.error, answer.error_description) if text)
            return _Page(400, "The login was refused", f"The authorization server says: {words[:MAX_ERROR_TEXT]}")
        text = "The program goes on with the login and says how it ends. You may close this page."
        return _Page(200, "The answer has arrived", text)


class _Connection(asyncio.Protocol):
    """One connection of a browser: it reads one request, answers it, and closes."""

    def __init__(self, receiver: RedirectReceiver) -> None:
        self._receiver = receiver
        self._http = ServerConnection(receiver.cache, REDIRECT_LIMITS)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        open_ones = self._receiver.connections
        while len(open_ones) >= MAX_CONNECTIONS:
            next(iter(open_ones)).end()
        open_ones[self] = None
        self._wait(REQUEST_LIMIT)

    def data_received(self, data: bytes) -> None:
        if not self._answered:  # bytes behind the answered request are dropped
            self._http.receive_data(data)
            self._read()

    def eof_received(self) -> None:
        self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()

    def _read(self) -> None:
        # If the body is still on its way, the head comes first, and then the request.
        try:
            event = self._http.next_event()
            while isinstance(event, Head):
                event = self._http.next_event()
        except HTTPError as error:
            self._answer(_Page(error.status, _NOT_TAKEN, "This request breaks HTTP, or is too large."))
            return
        if isinstance(event, HTTPRequest):
            self._answer(self._receiver.page_for(event.head))

    def _late(self) -> None:
        # A browser opens connections in advance.  It would take an answer on one of them as that to its next request.
        if self._answered or (not self._http.buffered and self._http.head is None):
            self.end()
        else:
            self._answer(_Page(408, _NOT_TAKEN, "The request did not arrive in time."))

    def _answer(self, page: _Page) -> None:
        assert self._transport is not None
        self._answered = True
        self._http.close_after()
        self._transport.write(self._http.respond(page.status, (*_HEADERS, *page.headers), page.html()))
        # Closed at once, a connection with unread bytes is reset, and the browser would lose the page.
        self._transport.write_eof()
        self._wait(LINGER_LIMIT)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def end(self) -> None:
        """Closes the connection when the answer has left."""
        self._forget()
        if self._transport is not None:
            self._transport.close()

    def _forget(self) -> None:
        self._receiver.connections.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
