# SPDX-License-Identifier: MIT
"""Finds out whether the program wants spans, once for each server or client, at its start.

Rule: a program that has not set a provider does not pay for spans, not even for loading `opentelemetry-api`.  A program
that has set one has loaded it, so the look is into the table of loaded modules.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from ..version import __version__

SCOPE = "mcp_h11"  # the instrumentation scope of all spans
# With this variable the API loads a provider by itself, at its first use (OpenTelemetry, Python API).
_LOADS_ONE = "OTEL_PYTHON_TRACER_PROVIDER"
_INSTALL = "pip install 'mcp_h11[otel]'"


def checked_tracing(tracing: Any) -> None:
    """Raise ValueError for a value of `tracing` that can make no spans: without the package, or of a wrong type."""
    if tracing is None or tracing is False:
        return
    if tracing is not True and not callable(getattr(tracing, "get_tracer", None)):
        raise ValueError(f"tracing is True, False, None or a TracerProvider, not {type(tracing).__name__}")
    if not _installed():
        raise ValueError(f"tracing needs opentelemetry-api: {_INSTALL}")


def tracer_of(tracing: Any) -> Any | None:
    """The tracer that makes the spans of one server or client; None where it makes none.

    Args:
        tracing: False for no spans, a TracerProvider for its spans.  None takes the provider that the program has set,
            if it has set one; True does the same.

    Raises:
        RuntimeError: `tracing` is True, and the program has set no provider.
    """
    if tracing is False:
        return None
    provider = _provider_of_program() if tracing is None or tracing is True else tracing
    if provider is not None:
        return provider.get_tracer(SCOPE, __version__)
    if tracing is True:
        raise RuntimeError(
            "tracing=True, and no provider of spans is set: call opentelemetry.trace.set_tracer_provider before the "
            "server starts or the client is entered"
        )
    return None


def _provider_of_program() -> Any | None:
    """The global TracerProvider of OpenTelemetry; None while there is only the stand-in that makes no spans."""
    if "opentelemetry.trace" not in sys.modules and not (os.environ.get(_LOADS_ONE) and _installed()):
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    return None if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)) else provider


def _installed() -> bool:
    # `find_spec` of a submodule imports its parent, and raises where that is missing.
    return "opentelemetry.trace" in sys.modules or (
        importlib.util.find_spec("opentelemetry") is not None
        and importlib.util.find_spec("opentelemetry.trace") is not None
    )
