# SPDX-License-Identifier: MIT
"""One span as both ends write it: its name, its attributes, its errors; and the trace context in `_meta`.

Names follow the OpenTelemetry semantic conventions for MCP (open-telemetry/semantic-conventions-genai,
docs/gen-ai/mcp.md, state of autumn 2026, in development), and SEP-414 for the keys in `_meta`.

Rules:
- A fault of a span is no fault of the request: it is logged, and the request goes on without its span.
- Nothing of arguments and results goes into a span.  Texts of the peer are cut to `MAX_ATTRIBUTE` characters.
- A name that a client made up does not stay in the name of a span, or clients could fill the trace store with names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..protocol.errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RESOURCE_NOT_FOUND
from ..protocol.methods import METHOD_LABELS, QUESTIONS
from ..protocol.shown import escaping
from ..protocol.tracecontext import MAX_BAGGAGE, read_trace

logger = escaping(logging.getLogger(__name__))

MAX_ATTRIBUTE = 1_024  # characters of a text that the peer chose
UNKNOWN_METHOD = "_OTHER"
TOOL_ERROR = "tool_error"
WAS_CANCELLED = "cancelled"
# mcp.md, server: "the caller sent a request the receiver could not serve", which is no error of the server.
OF_THE_CALLER = frozenset((PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, RESOURCE_NOT_FOUND))
NO_CODES: frozenset[int] = frozenset()  # at the client's end every code is an error
_WITH_URI = frozenset(("resources/read", "resources/subscribe", "resources/unsubscribe"))
_TARGETS = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}
_KNOWN = METHOD_LABELS | {*QUESTIONS}
_W3C = ("traceparent", "tracestate", "baggage")


def as_attribute(text: object) -> str:
    """A text of the peer, or the text form of its value, as an attribute has it."""
    # An exporter writes many spans as one message in UTF-8, which a lone surrogate would make impossible for all.
    return str(text)[:MAX_ATTRIBUTE].encode("utf-8", "replace").decode("utf-8")


def described(method: str, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the span of a request, and the attributes that follow from the request alone."""
    attributes: dict[str, Any] = {"mcp.method.name": as_attribute(method)}
    if method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    # Resources are not in the name of a span: there may be any number of them (mcp.md, Span name).
    if method in _WITH_URI and isinstance(uri := params.get("uri"), str):
        attributes["mcp.resource.uri"] = as_attribute(uri)
    if method in _TARGETS and isinstance(target := params.get("name"), str):
        attributes[_TARGETS[method]] = as_attribute(target)
        return f"{method} {as_attribute(target)}", attributes
    return as_attribute(method), attributes


class OpenSpan:
    """A span that has begun.  Tell it of failures by `failed`, and call `end` once."""

    __slots__ = ("_method", "_of_caller", "_span", "_told")

    def __init__(self, span: Any, method: str, of_caller: frozenset[int]) -> None:
        self._span = span
        self._method = method
        self._of_caller = of_caller  # the codes that are no errors at this end
        self._told = False

    def set(self, name: str, value: str) -> None:
        """Add an attribute that the request alone did not tell."""
        self._span.set_attribute(name, value)

    def failed(self, kind: int | str, message: str = "") -> None:
        """The request fails: by the code of a JSON-RPC error, or by the name of another failure.

        The first failure counts: a call that timed out is answered with an error that says so.
        """
        if type(kind) is int:
            self._span.set_attribute("rpc.response.status_code", str(kind))
            if kind == METHOD_NOT_FOUND:
                self._span.update_name(self._method if self._method in _KNOWN else UNKNOWN_METHOD)
            elif kind == INVALID_PARAMS:  # the tool or the prompt may not exist
                self._span.update_name(as_attribute(self._method))
            if kind in self._of_caller:
                return
        if self._told:
            return
        self._told = True
        self._span.set_attribute("error.type", str(kind))
        from opentelemetry.trace import Status, StatusCode

        self._span.set_status(Status(StatusCode.ERROR, as_attribute(message) or None))

    def end(self) -> None:
        """The request is over."""
        try:
            self._span.end()
        except Exception:  # a processor or an exporter of the user's
            logger.exception("the span of %s could not be ended", self._method)


class Spans:
    """Begins the spans of one server or client; `tracer` makes them.

    Its methods load `opentelemetry-api`, which is there: the tracer is made by it.
    """

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import context, propagate, trace

        self._tracer = tracer
        self._trace = trace
        self._context = context
        # Those that are configured by now, as the provider is.
        self._propagator = propagate.get_global_textmap()
        self._fields = tuple(self._propagator.fields)

    def extracted(self, get: Callable[[str], Any], base: Any, get_all: Callable[[str], list[str]] | None = None) -> Any:
        """The context that a peer sent, over `base`; `base` itself where it sent none that can be used.

        Args:
            get: gives the value of a key of `_meta`, or of a header.
            get_all: gives all values of a header; None for `_meta`.
        """
        if not any(map(get, self._fields)):
            return base
        # Read strictly first: the propagators of the API log a warning for each malformed value.
        said = read_trace({}, get_all) if get_all is not None else read_trace({name: get(name) for name in _W3C})
        carrier = {}
        for name in self._fields:
            value = getattr(said, name, "") if name in _W3C else get(name)
            if type(value) is str and 0 < len(value) <= MAX_BAGGAGE:
                carrier[name] = value
        return self._propagator.extract(carrier, base) if carrier else base

    def inject(self, params: dict[str, Any], context: Any) -> None:
        """Put a context into the `_meta` of params, in place of one that is there."""
        meta = params.get("_meta")
        meta = dict(meta) if isinstance(meta, Mapping) else {}
        for name in self._fields:
            meta.pop(name, None)
        self._propagator.inject(meta, context)
        if meta:
            params["_meta"] = meta

    def span_context(self, context: Any) -> Any | None:
        """The ids of the current span of a context; None where it has none."""
        found = self._trace.get_current_span(context).get_span_context()
        return found if found.is_valid else None
