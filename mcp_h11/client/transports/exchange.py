# SPDX-License-Identifier: MIT
"""One request over HTTP, and the messages of its answer: a JSON body, or the events of a stream.

It refuses a body that does not answer the request, and a batch in a revision without batches.  Messages of other
kinds that come with the answer (progress, questions of the server) go to the receiver.

Rule: an answer without an id, or with the id spelled otherwise, belongs to the request on whose exchange it came.
The HTTP exchange shows which request is meant, and servers write ids carelessly.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol.jsonrpc import JSON, ErrorResponse, Message, Response
from ...protocol.revisions import Revision
from . import lenient
from .base import Outgoing, Receiver, deliver
from .errors import InvalidAnswer
from .lenient import Unreadable

if TYPE_CHECKING:
    from ..http.straight import Straight
    from .eventsource import EventReader

# Seconds that an exchange of a session stays open after its cancellation.  A server need not answer a cancelled request
# (2025-11-25 basic/utilities/cancellation), so without this limit the exchange could stay open for ever.
AFTER_CANCEL = 5.0
# Seconds that an event stream has to end after its answer.  If it ends in time, its connection can be used again.
AFTER_ANSWER = 1.0


class HTTPExchange:
    """One request on its way.

    Args:
        skip: counts an event that is no message.

    Attributes:
        modern: the request is one of 2026-07-28, which alone has mirror headers.
        sent: the request may have reached the server.
        answered: the receiver has the answer.
        ended: set when nothing more comes; of `initialize` alone, which `HTTPTransport.aclose` waits for.
        straight: the request while it needs no task.
        scope: ends the task of the exchange, once it has begun.
        generation, session: of the session in which a straight request was sent.
        timer: ends a straight request that was cancelled.
        reader: has read the first connection of the event stream to its end, and found no answer.
    """

    generation = 0
    session: str | None = None
    straight: Straight | None = None
    timer: asyncio.TimerHandle | None = None
    scope: anyio.CancelScope | None = None
    reader: EventReader | None = None
    context: Context

    def __init__(self, out: Outgoing, json: JSON, receiver: Receiver, skip: Callable[[Unreadable], None]) -> None:
        assert out.request_id is not None
        self.id = out.request_id
        self.out = out
        self.modern = bool(out.headers)
        self.sent = False
        self.answered = False
        self.ended = anyio.Event() if out.method == "initialize" else None
        self._deadline = math.inf
        self._json = json
        self._receiver = receiver
        self._skip = skip
        self._unread: Unreadable | None = None

    def takes_a_task(self) -> anyio.CancelScope:
        """The task that runs the exchange calls it, and runs inside of the scope."""
        # A client that leaves during a handshake may leave a session behind.  Only the answer names that session, so
        # `HTTPTransport.aclose` waits for it, and no cancellation ends the exchange before.
        self.scope = anyio.CancelScope(deadline=self._deadline, shield=self.out.method == "initialize")
        return self.scope

    def goes_straight(self, generation: int, session: str | None) -> None:
        """The request is sent without a task.  What its answer causes runs in the caller's context all the same."""
        self.sent = True
        self.generation = generation
        self.session = session
        self.context = copy_context()

    def end_within(self, seconds: float) -> None:
        """Ends the task after so many seconds at most, also one that begins later."""
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + seconds)
        if self.scope is not None:
            self.scope.deadline = self._deadline

    def take_body(self, status: int, body: bytes, revision: Revision | None) -> None:
        """Delivers a JSON body.  Raises InvalidAnswer if it does not answer the request."""
        said = f"{self.out.method} was answered with {status} and "
        if not body:
            raise InvalidAnswer(f"{said}nothing")
        try:
            self._deliver(body, revision)
        except Unreadable as error:
            raise InvalidAnswer(f"{said}{error.what}", body) from None
        if not self.answered:
            raise InvalidAnswer(f"{said}no answer to it", body)

    def take_event(self, payload: bytes, revision: Revision | None) -> None:
        """Delivers one event.  Raises InvalidAnswer if the event seems to be the answer and cannot be read."""
        try:
            self._deliver(payload, revision)
        except Unreadable as error:
            raise InvalidAnswer(f"{self.out.method} was answered with {error.what}", payload) from None

    def refuse(self, described: dict[str, Any]) -> None:
        """Delivers the JSON-RPC error of a refusal by status, as the answer."""
        # The error belongs to this request, even if the server put another id into it.
        self.answered = True
        self._receiver.message(ErrorResponse(self.id, described), self.id)

    def _deliver(self, payload: bytes, revision: Revision | None) -> None:
        """Raises Unreadable for a part that may be the answer, unless the exchange has its answer."""
        self._unread = None
        deliver(self._json, payload, self._on_message, self._on_unreadable, revision)
        if self._unread is not None and not self.answered:
            raise self._unread

    def _on_unreadable(self, unread: Unreadable) -> None:
        if unread.calls:  # a broken notification or question is no answer: the answer may still come
            self._skip(unread)
        else:
            self._unread = unread

    def _on_message(self, message: Message) -> None:
        if not isinstance(message, (Response, ErrorResponse)):
            self._receiver.message(message, self.id)
            return
        if message.id is None or lenient.is_answer_to(self.id, message.id):
            message.id = self.id
        self._receiver.message(message, self.id)
        if message.id == self.id:
            self.answered = True
            if self.scope is not None:
                self.end_within(AFTER_ANSWER)
