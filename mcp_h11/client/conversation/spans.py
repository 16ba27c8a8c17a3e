# SPDX-License-Identifier: MIT
"""The spans of a client: one of kind CLIENT around each request, one of kind SERVER around each question of the server.

A request that is sent again, after a refusal or with the answers to questions, is another request with another span.
A listen stream has no span: it lasts for hours, and a span reaches its store when it ends.

Rule: the parent is the span that is current where the request is made; else the one that its own `_meta` names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

import anyio

from ...protocol.errors import MCPError
from ...protocol.jsonrpc import Request
from ...protocol.methods import META_VERSION
from ...protocol.revisions import Revision
from ...telemetry.spans import (
    NO_CODES,
    OF_THE_CALLER,
    TOOL_ERROR,
    WAS_CANCELLED,
    OpenSpan,
    Spans,
    as_attribute,
    described,
    logger,
)
from ..http.urls import is_url, origin_of
from ..transports.base import Transport
from ..transports.errors import ConnectionLost, HTTPStatusError, InvalidAnswer, LoginFailed, RequestTimeout
from .pending import Calls, PendingCall
from .questions import Questions

SendCall = Callable[..., Awaitable[Any]]


class View(Protocol):
    """The members of a `Conversation` that the spans name."""

    revision: Revision | None
    calls: Calls
    questions: Questions

    @property
    def transport(self) -> Transport:
        """The way to the server."""


def in_spans(tracer: Any, view: View) -> Callable[..., Coroutine[Any, Any, Any]]:
    """`Calls.call` of a conversation, inside of spans; its questions are answered inside of spans from now on."""
    spans = ClientSpans(tracer, view)
    view.questions.around = spans.answering
    return partial(spans.call, view.calls.call)


class ClientSpans(Spans):
    """Begins the spans of one client."""

    def __init__(self, tracer: Any, view: View) -> None:
        super().__init__(tracer)
        self._view = view

    async def call(self, send: SendCall, call: PendingCall, params: dict[str, Any], **options: Any) -> Any:
        """`send(call, params, **options)` inside of a span, with its context in the params.  Raises as it does."""
        if call.method == "subscriptions/listen":
            return await send(call, params, **options)
        begun = self._begin(call, params)
        if begun is None:
            return await send(call, params, **options)
        run = partial(send, call, params, **options)
        return await self._inside(begun, run if call.method != "initialize" else partial(_settled, begun[0], run))

    def _begin(self, call: PendingCall, params: dict[str, Any]) -> tuple[OpenSpan, Any] | None:
        """A span for a request, and the context with it; None where it could not be begun."""
        try:
            name, attributes = described(call.method, params)
            attributes["jsonrpc.request.id"] = str(call.id)
            attributes.update(self._of_server())
            context, meta = self._context.get_current(), params.get("_meta")
            if isinstance(meta, Mapping) and META_VERSION in meta:  # `server/discover`, before a revision is settled
                attributes["mcp.protocol.version"] = as_attribute(meta[META_VERSION])
            if self.span_context(context) is None and isinstance(meta, Mapping):
                context = self.extracted(meta.get, context)
            span = self._tracer.start_span(name, context, self._trace.SpanKind.CLIENT, attributes)
            context = self._trace.set_span_in_context(span, context)
            self.inject(params, context)
            return OpenSpan(span, call.method, NO_CODES), context
        except Exception:
            logger.exception("no span could be begun for %s", call.method)
            return None

    async def _inside(self, begun: tuple[OpenSpan, Any], run: Callable[[], Awaitable[Any]]) -> Any:
        """`run()` inside of a span that has begun, with its context as the current one."""
        span, context = begun
        token = self._context.attach(context)
        try:
            result = await run()
            if result.get("isError") is True:  # only the result of a tool has it
                span.failed(TOOL_ERROR)
            return result
        except MCPError as error:
            _failed(span, error)
            raise
        except BaseException as error:
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            span.failed(WAS_CANCELLED if cancelled else type(error).__name__)
            raise
        finally:
            self._context.detach(token)
            # Only now: the answer to `initialize` brings the session.
            session = getattr(self._view.transport, "session_id", None)
            if session:
                span.set("mcp.session.id", as_attribute(session))
            span.end()

    def _of_server(self) -> dict[str, Any]:
        attributes = _of_transport(self._view.transport)
        if self._view.revision is not None:
            attributes["mcp.protocol.version"] = self._view.revision.name
        return attributes

    async def answering(
        self, question: Request, answer: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """`answer(method, params)` of a question that came as a request, inside of a span.  Raises as it does."""
        begun = self._begin_answer(question)
        if begun is None:
            return await answer(question.method, question.params)
        return await self._inside(begun, partial(answer, question.method, question.params))  # type: ignore[no-any-return]

    def _begin_answer(self, question: Request) -> tuple[OpenSpan, Any] | None:
        try:
            name, attributes = described(question.method, question.params)
            attributes["jsonrpc.request.id"] = as_attribute(question.id)
            attributes.update(self._of_server())
            meta, context = question.params.get("_meta"), self._context.get_current()
            if isinstance(meta, dict):
                context = self.extracted(meta.get, context)
            span = self._tracer.start_span(name, context, self._trace.SpanKind.SERVER, attributes)
            return OpenSpan(span, question.method, OF_THE_CALLER), self._trace.set_span_in_context(span, context)
        except Exception:
            logger.exception("no span could be begun for %s", question.method)
            return None


async def _settled(span: OpenSpan, run: Callable[[], Awaitable[Any]]) -> Any:
    """The result of an `initialize`, which says the revision of the session."""
    result = await run()
    if isinstance(version := result.get("protocolVersion"), str):
        span.set("mcp.protocol.version", as_attribute(version))
    return result


def _failed(span: OpenSpan, error: MCPError) -> None:
    """A request ended with this error: one of the server, or one that says why there is no answer.

    The text of the latter stays out: it may quote a body, or what a child process wrote.
    """
    if isinstance(error, RequestTimeout):
        span.failed("timeout")
    elif isinstance(error, HTTPStatusError) and not error.rpc:
        span.failed(str(error.status))
    elif isinstance(error, (ConnectionLost, InvalidAnswer, LoginFailed)):
        span.failed(type(error).__name__)
    else:
        span.failed(error.code, error.message)


def _of_transport(transport: Transport) -> dict[str, Any]:
    """The attributes of the way to a server."""
    url = getattr(transport, "url", None)
    if not isinstance(url, str) or not is_url(url):
        # A transport of the user's own, or one in this process, may be anything.
        return {"network.transport": "pipe"} if hasattr(transport, "child") else {}
    origin = origin_of(url)
    attributes: dict[str, Any] = {"network.protocol.name": "http", "network.protocol.version": "1.1"}
    if origin.uds is not None:
        return {**attributes, "network.transport": "unix", "server.address": origin.uds}
    return {**attributes, "network.transport": "tcp", "server.address": origin.host, "server.port": origin.port}
