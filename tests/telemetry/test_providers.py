# SPDX-License-Identifier: MIT
"""Whether a server or a client makes spans is decided once, at its start, and costs nothing where it makes none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from serving import Held, served
from spans_support import Recorded

from mcp_h11 import Client, Settings, listening
from mcp_h11.telemetry import providers
from mcp_h11.telemetry.providers import tracer_of

pytestmark = pytest.mark.anyio


def ran(code: str, **environment: str) -> Any:
    """The JSON that a program prints, in a process of its own: a provider is set once for a whole process."""
    before = """
        import asyncio, json, sys
        from mcp_h11 import Client, MCPServer, listening

        server = MCPServer("small")

        @server.tool
        async def add(a: int, b: int) -> int:
            return a + b

        async def talk(tracing=None):
            async with listening(server, port=0, tracing=tracing) as running:
                async with Client(running.url, tracing=tracing) as client:
                    await client.call_tool("add", {"a": 1, "b": 2})
    """
    program = textwrap.dedent(before) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SET = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
"""
TELL = """
    print(json.dumps(sorted({(s.name, s.kind.name) for s in exporter.get_finished_spans()})))
"""


@pytest.mark.parametrize("loads_the_api", [False, True])
def test_a_program_that_set_no_provider_loads_nothing(loads_the_api: bool) -> None:
    first = "    import opentelemetry.trace\n" if loads_the_api else ""
    loaded = ran(first + """
    before = set(sys.modules)
    asyncio.run(talk())
    ours = "mcp_h11.telemetry.", "mcp_h11.client.conversation.spans"
    print(json.dumps([n for n in set(sys.modules) - before if n.startswith(("opentelemetry", *ours))]))
    """)  # fmt: skip
    assert set(loaded) <= {"mcp_h11.telemetry.providers"}


def test_the_provider_of_the_program_is_found() -> None:
    found = ran(SET + "    asyncio.run(talk())" + TELL)
    assert ["tools/call add", "CLIENT"] in found and ["tools/call add", "SERVER"] in found


def test_a_lifespan_may_set_the_provider() -> None:
    found = ran(
        """
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(server):
        global exporter
"""
        + textwrap.indent(textwrap.dedent(SET), " " * 8)
        + """
        yield

    server = MCPServer("late", lifespan=lifespan)
    server.add_tool(add)
    asyncio.run(talk())
"""
        + TELL
    )
    assert ["server/discover", "SERVER"] in found


def test_false_makes_none() -> None:
    assert ran(SET + "    asyncio.run(talk(False))" + TELL) == []


def test_a_provider_by_environment_is_loaded_as_the_api_loads_it() -> None:
    found = ran(
        """
    from mcp_h11.telemetry.providers import tracer_of
    print(json.dumps(type(tracer_of(None)).__module__))
    """,
        OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider",
    )
    assert found == "opentelemetry.sdk.trace"


async def test_true_without_a_provider_is_an_error_at_the_start() -> None:
    if tracer_of(None) is not None:
        pytest.skip("another test has set a provider for this process")
    with pytest.raises(RuntimeError, match="set_tracer_provider"):
        async with listening(Held(), port=0, tracing=True):
            raise AssertionError("it started")
    with pytest.raises(RuntimeError, match="set_tracer_provider"):
        async with Client(Held(), tracing=True):
            raise AssertionError("it connected")


@pytest.mark.parametrize("wrong", ["on", 1, object()])
def test_a_value_of_another_type_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="tracing is True, False, None or a TracerProvider"):
        Settings(tracing=wrong)
    with pytest.raises(ValueError, match="tracing is True, False, None or a TracerProvider"):
        Client(Held(), tracing=wrong)


def test_without_the_package_true_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mcp_h11\[otel\]"):
        Settings(tracing=True)
    assert tracer_of(None) is None and tracer_of(False) is None
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider")
    assert tracer_of(None) is None


async def test_a_provider_is_for_one_server_alone() -> None:
    recorded = Recorded()
    async with served(Held(), tracing=recorded.provider) as one, served(Held(), tracing=False) as other:
        async with Client(one.url, tracing=False) as client:
            await client.call_tool("echo", {"text": "hi"})
        seen = len(recorded.ended)
        async with Client(other.url, tracing=False) as client:
            await client.call_tool("echo", {"text": "hi"})
    assert seen and len(recorded.ended) == seen
