# SPDX-License-Identifier: MIT
"""Spans as the real SDK of OpenTelemetry records them, in memory.

Without the package (it is in the extra `test`) the tests that use it are skipped, or fail where MCP_H11_REQUIRE_ALL=1
says that nothing may be missing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from provision import everything_required
from rawclient import LIMIT

try:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.trace import SpanKind
except ImportError:
    if everything_required():
        raise
    pytest.skip("no opentelemetry-sdk: pip install 'mcp_h11[test]'", allow_module_level=True)

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = ["SpanKind"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
OTHER_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorded(SpanProcessor):
    """The spans that have ended, in that order.  `provider` is for `tracing=`."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self)
        self._changed = asyncio.Event()

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)
        self._changed.set()

    async def until(self, name: str) -> ReadableSpan:
        """The first span with this name, when it has ended."""
        with anyio.fail_after(LIMIT):
            while True:
                for span in self.ended:
                    if span.name == name:
                        return span
                self._changed.clear()
                await self._changed.wait()

    def one(self, name: str, kind: str = "") -> ReadableSpan:
        """The one span with this name that has ended, of this kind: "SERVER" or "CLIENT"."""
        found = [span for span in self.ended if span.name == name and kind in ("", span.kind.name)]
        assert len(found) == 1, [(span.name, span.kind.name) for span in self.ended]
        return found[0]


def trace_of(span: ReadableSpan) -> str:
    return f"{_context(span).trace_id:032x}"


def id_of(span: ReadableSpan) -> str:
    return f"{_context(span).span_id:016x}"


def parent_of(span: ReadableSpan) -> str:
    """The id of its parent, or empty."""
    return "" if span.parent is None else f"{span.parent.span_id:016x}"


def links_of(span: ReadableSpan) -> list[str]:
    return [f"{link.context.span_id:016x}" for link in span.links]


def status_of(span: ReadableSpan) -> tuple[str, str | None]:
    return span.status.status_code.name, span.status.description


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def error_of(span: ReadableSpan) -> tuple[str, Any, Any]:
    """Its status, `error.type` and `rpc.response.status_code`."""
    said = attributes_of(span)
    return span.status.status_code.name, said.get("error.type"), said.get("rpc.response.status_code")


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context
