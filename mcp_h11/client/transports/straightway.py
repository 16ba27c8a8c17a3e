# SPDX-License-Identifier: MIT
"""Requests over HTTP that need no task: written at once on an idle connection, answered where the answer is read.

That is the way of most requests of a client that is connected.  A task takes over where something has to be waited
for: the rest of an answer, a stream that is resumed, a refusal that puts the session in doubt, a second try.

Rule: what an answer causes (callbacks, questions) runs in the context of the caller, as it does in a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ...http.headers import JSON_TYPE, SSE_TYPE
from ...http.sse import SSEError
from ...protocol.errors import MCPError
from ...protocol.jsonrpc import JSON
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from ..http.httpclient import HTTPCall, HTTPClient
from ..http.straight import Post, Straight
from .backoff import Backoff
from .base import Outgoing, Receiver
from .errors import ConnectionLost, InvalidAnswer
from .eventsource import EventReader
from .exchange import AFTER_CANCEL, HTTPExchange
from .jobs import begin_soon
from .lenient import Unreadable
from .responses import lost
from .session import HTTPSession

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Heads of requests that are kept; one is for all calls of one tool.
MAX_POSTS = 64


class Straightway:
    """The part of `HTTPTransport` that sends requests without a task."""

    url: str
    _http: HTTPClient
    _json: JSON
    _max_event_size: int
    _max_answer: int
    _backoff: Backoff
    _revision: Revision | None
    _exchanges: dict[int | str, HTTPExchange]
    _session: HTTPSession
    _receiver: Receiver
    _tasks: TaskGroup

    def __init__(self) -> None:
        self._posts: dict[tuple[object, ...], Post] = {}

    @property
    def why(self) -> str:
        """The address, without credentials and query."""
        raise NotImplementedError

    def _skip(self, unread: Unreadable) -> None:
        raise NotImplementedError

    def _call(self, out: Outgoing, session: str | None) -> HTTPCall:
        raise NotImplementedError

    async def _run(self, exchange: HTTPExchange, straight: Straight | None = None) -> None:
        raise NotImplementedError

    def begin(self, out: Outgoing) -> bool:
        """Sends a request, if that can be done at once; else returns False, and `send` is to be awaited."""
        session = self._session
        if out.request_id is None or out.method == "initialize" or not (out.headers or session.is_ready):
            return False
        session_id = None if out.headers else session.id
        try:
            post = self._post(out, session_id)
        except ValueError:
            return False  # `send` tells it
        exchange = HTTPExchange(out, self._json, self._receiver, self._skip)
        straight = self._http.begin(post, out.payload, out.safe, self._heard, exchange)
        if straight is None:
            return False
        exchange.goes_straight(session.generation, session_id)
        exchange.straight = straight
        self._exchanges[out.request_id] = exchange
        return True

    def _post(self, out: Outgoing, session: str | None) -> Post:
        key = (session, self._revision and self._revision.name, *out.headers)
        post = self._posts.get(key)
        if post is None:
            if len(self._posts) >= MAX_POSTS:
                self._posts.clear()
            call = self._call(out, session)
            post = self._posts[key] = self._http.post_of(call.url, call.headers)
        return post

    def _drop(self, exchange: HTTPExchange) -> None:
        """Ends an exchange, whether a task runs it or not."""
        if exchange.scope is not None:
            exchange.scope.cancel()
        elif exchange.straight is not None:
            if self._exchanges.get(exchange.id) is exchange:
                exchange.straight.close()
                self._over(exchange, None)
        else:
            exchange.end_within(0.0)  # its task is about to begin

    def _drop_later(self, exchange: HTTPExchange) -> None:
        """Ends an exchange that was cancelled, `AFTER_CANCEL` seconds from now."""
        exchange.end_within(AFTER_CANCEL)
        if exchange.straight is not None and exchange.timer is None:
            exchange.timer = asyncio.get_running_loop().call_later(AFTER_CANCEL, self._drop, exchange)

    def _over(self, exchange: HTTPExchange, error: Exception | None) -> None:
        """Nothing more comes of an exchange."""
        # They refer to each other, and would wait for the garbage collector with the body and the caller's context.
        exchange.straight = None
        if self._exchanges.get(exchange.id) is exchange:
            del self._exchanges[exchange.id]
        if exchange.timer is not None:
            exchange.timer.cancel()
        if exchange.ended is not None:
            exchange.ended.set()
        if not exchange.answered:
            self._receiver.lost(exchange.id, error or ConnectionLost("the exchange ended without an answer"))

    def _heard(self, straight: Straight) -> None:
        straight.owner.context.run(self._on_heard, straight.owner, straight)

    def _on_heard(self, exchange: HTTPExchange, straight: Straight) -> None:
        answer, body = straight.answer, straight.whole
        if answer is None:
            if straight.again:
                self._to_a_task(exchange, straight)
            else:
                assert straight.error is not None
                self._over(exchange, lost(straight.error, self.url))
            return
        error: Exception | None = None
        kind = answer.media_type
        if body is None or not 200 <= answer.status < 300 or kind not in (JSON_TYPE, SSE_TYPE):
            self._to_a_task(exchange, straight)
            return
        if exchange.session is not None and exchange.session == self._session.id:
            self._session.accepted()
        try:
            if kind == JSON_TYPE:
                if len(body) > self._max_answer:
                    raise InvalidAnswer(f"an answer of more than {self._max_answer} bytes")
                exchange.take_body(answer.status, body, self._revision)
            else:
                reader = EventReader(self._backoff, self._max_event_size)
                reader.read_whole(body, lambda data: exchange.take_event(data, self._revision))
                if not exchange.answered:
                    self._to_a_task(exchange, straight, reader)
                    return
        except SSEError as exc:
            error = InvalidAnswer(str(exc))
        except Exception as exc:  # as in `HTTPTransport._run`
            if not isinstance(exc, MCPError):
                logger.exception("an exchange with %s failed", self.why)
            error = exc
        self._over(exchange, error)

    def _to_a_task(self, exchange: HTTPExchange, straight: Straight, reader: EventReader | None = None) -> None:
        exchange.straight = None
        if reader is not None:
            exchange.reader, straight.whole = reader, None  # it has read the body
        begin_soon(self._tasks, self._run, exchange, straight)
