# SPDX-License-Identifier: MIT
"""The spans of a server: one of kind SERVER around each request, one of kind CLIENT around each question to the client.

A request's span begins when the request is handed to the runtime, so that its wait for a place counts.  The function
of the user runs inside of it: its task, its threads and the tasks that it starts have the span as the current one.

Rules:
- The parent of a span is the one that `_meta` names.  A span of the transport, which an instrumentation of HTTP began
  or the `traceparent` header names, is linked; it is the parent where `_meta` names none (mcp.md, Context propagation).
- A span ends when its request does, however that ends: by an answer, an error, a cancellation, or a client that left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ..handler.exchange import Exchange
from ..protocol.errors import MCPError
from ..protocol.jsonrpc import Request
from ..protocol.revisions import Revision
from .spans import NO_CODES, OF_THE_CALLER, WAS_CANCELLED, OpenSpan, Spans, as_attribute, described, logger

TIMED_OUT = "timed out"  # the reason of `SessionQuestions` for answers that came too late
RunCall = Callable[[Any], Coroutine[Any, Any, None]]


class Carried(NamedTuple):
    """The way that a request came.

    Attributes:
        head: the head of its HTTP request; None on pipes, and for messages of HTTP+SSE.
        session: the id of its session, or empty.
        peer: the address of its client, or empty.
    """

    head: Any
    session: str
    peer: str


class Asking(Protocol):
    """The members of a session's call that the spans of its questions need."""

    @property
    def revision(self) -> Revision:
        """The revision that the session has negotiated."""

    @property
    def carrying_session(self) -> Any:
        """The session."""

    @property
    def headers(self) -> Any:
        """The head of the request that asks, or None."""


class ServerSpans(Spans):
    """Begins the spans of one server.  Make it where the server starts: the span that is current there is no parent."""

    def __init__(self, tracer: Any) -> None:
        super().__init__(tracer)
        # Connections run in the context of the server's start.  A span of that time lasts as long as the server does;
        # but one of kind SERVER is that of a request: under ASGI without a lifespan, the first one starts the server.
        outer = self._trace.get_current_span()
        started_by_request = getattr(outer, "kind", None) is self._trace.SpanKind.SERVER
        self._outer = None if started_by_request else self.span_context(self._context.get_current())

    # --- requests ------------------------------------------------------------------------------------------------

    def around(self, run: RunCall, call: Exchange) -> Coroutine[Any, Any, None]:
        """`run(call)` inside of a span, as a coroutine that has not begun.  The time of the span counts from now on."""
        return self._run(run, call, time.time_ns())

    async def _run(self, run: RunCall, call: Exchange, since: int) -> None:
        session = call.carrying_session
        carried = Carried(call.headers, session.id if session is not None else "", call.peer)
        span = self._begin(Request(call.request_id, call.method, call.params), carried, since, attach=True)
        if span is None:
            await run(call)
            return
        span.set("mcp.protocol.version", call.revision.name)
        call.span = span
        try:
            await run(call)
        except asyncio.CancelledError:
            span.failed(WAS_CANCELLED)
            raise
        except BaseException as exc:
            span.failed(type(exc).__name__)
            raise
        finally:
            call.span = None
            span.end()

    def handshake(
        self, message: Request, answer: Callable[[dict[str, Any]], dict[str, Any]], session: Any, head: Any
    ) -> dict[str, Any]:
        """`answer(params)` of the `initialize` of a session, inside of a span.  Raises as that does."""
        span = self._begin(message, Carried(head, session.id, session.state.peer), time.time_ns())
        try:
            result = answer(message.params)
        except MCPError as exc:
            if span is not None:
                span.failed(exc.code, exc.message)
                span.end()
            raise
        if span is not None:
            span.set("mcp.protocol.version", result["protocolVersion"])
            span.end()
        return result

    def _begin(self, message: Request, carried: Carried, since: int, *, attach: bool = False) -> OpenSpan | None:
        """A span for a request; None where it could not be begun.  `attach` makes it the current one."""
        try:
            name, attributes = described(message.method, message.params)
            attributes["jsonrpc.request.id"] = as_attribute(message.id)
            attributes.update(_of_transport(carried))
            parent, link = self._parent(message.params, carried.head)
            span = self._tracer.start_span(
                name,
                parent,
                self._trace.SpanKind.SERVER,
                attributes,
                [self._trace.Link(link)] if link is not None else None,
                since,
            )
            if attach:
                # Never detached: the job of a call has a context of its own, which ends with it (`Runtime.start`).
                self._context.attach(self._trace.set_span_in_context(span, parent))
            return OpenSpan(span, message.method, OF_THE_CALLER)
        except Exception:
            logger.exception("no span could be begun for %s", message.method)
            return None

    def _parent(self, params: dict[str, Any], head: Any) -> tuple[Any, Any | None]:
        """The context of the parent, and the span of the transport where that is to be linked."""
        base = self._context.get_current()
        transport = self.span_context(base)
        if transport is not None and transport == self._outer:
            transport, base = None, self._trace.set_span_in_context(self._trace.INVALID_SPAN, base)
        if transport is None and head is not None:
            base = self.extracted(head.get, base, head.get_all)
            transport = self.span_context(base)
        meta = params.get("_meta")
        context = self.extracted(meta.get, base) if isinstance(meta, dict) else base
        return context, transport if self.span_context(context) != transport else None

    # --- questions to the client ---------------------------------------------------------------------------------

    def asked(self, questions: Iterable[Request], call: Asking) -> dict[str | int, OpenSpan]:
        """The spans of questions that are requests of a session, by their ids; the params get their contexts."""
        begun = {question.id: self._asked(question, call) for question in questions}
        return {request_id: span for request_id, span in begun.items() if span is not None}

    def answered(
        self, spans: Mapping[str | int, OpenSpan], answers: Mapping[str, asyncio.Future[Any]], reason: str
    ) -> None:
        """The wait for the answers is over; `reason` says why an answer is not there."""
        for request_id, span in spans.items():
            answer = answers[str(request_id)]
            if not answer.done():
                span.failed("timeout" if reason == TIMED_OUT else WAS_CANCELLED)
            elif answer.cancelled():
                span.failed(WAS_CANCELLED)
            elif (error := answer.exception()) is not None:
                if isinstance(error, MCPError):
                    span.failed(error.code, error.message)
                else:
                    span.failed(type(error).__name__)
            span.end()

    def _asked(self, question: Request, call: Asking) -> OpenSpan | None:
        try:
            name, attributes = described(question.method, question.params)
            attributes["jsonrpc.request.id"] = as_attribute(question.id)
            attributes["mcp.protocol.version"] = call.revision.name
            attributes.update(_of_transport(Carried(call.headers, call.carrying_session.id, "")))
            span = self._tracer.start_span(name, None, self._trace.SpanKind.CLIENT, attributes)
            self.inject(question.params, self._trace.set_span_in_context(span))
            return OpenSpan(span, question.method, NO_CODES)
        except Exception:
            logger.exception("no span could be begun for %s", question.method)
            return None


def _of_transport(carried: Carried) -> dict[str, str]:
    """The attributes of the way that a request came."""
    attributes: dict[str, str] = {}
    if carried.session:
        attributes["mcp.session.id"] = carried.session
    if carried.head is None and not carried.session:  # a pipe has one session, which has no id
        attributes["network.transport"] = "pipe"
        return attributes
    attributes["network.transport"] = "tcp"
    attributes["network.protocol.name"] = "http"
    if carried.head is not None:
        attributes["network.protocol.version"] = carried.head.version
    if carried.peer:
        attributes["client.address"] = as_attribute(carried.peer)
    return attributes
