# SPDX-License-Identifier: MIT
"""A client, a bridge and a server in three processes are one trace; and the program of the page runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest
from pages import programs
from rawclient import LIMIT
from spans_support import Recorded, id_of, parent_of, trace_of

from mcp_h11 import Client

pytestmark = [pytest.mark.anyio, pytest.mark.long]

DOCS = Path(__file__).resolve().parents[2] / "docs"
# Each process writes a line for each of its spans.
WRITES = """
    import json, sys
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Writer(SpanProcessor):
        def on_end(self, span):
            said = span.get_span_context()
            parent = "" if span.parent is None else f"{span.parent.span_id:016x}"
            line = [span.name, span.kind.name, f"{said.trace_id:032x}", f"{said.span_id:016x}", parent]
            with open(FILE, "a") as file:
                print(json.dumps(line), file=file)

    provider = TracerProvider()
    provider.add_span_processor(Writer())
    trace.set_tracer_provider(provider)
"""
SERVER = """
    from mcp_h11 import MCPServer

    server = MCPServer("behind")

    @server.tool
    def add(a: int, b: int) -> int:
        with trace.get_tracer("tool").start_as_current_span("work"):
            return a + b

    server.run(transport="stdio")
"""
BRIDGE = """
    import asyncio
    from mcp_h11 import Command, listening
    from mcp_h11.bridge.proxy import ProxyHandler

    async def main():
        handler = ProxyHandler(Command([sys.executable, SERVER_FILE]))
        async with listening(handler, port=0) as running:
            print(running.url, flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""


def written(folder: Path, name: str, code: str, **names: str) -> Path:
    path = folder / f"{name}.py"
    known = "".join(f"{key} = {value!r}\n" for key, value in names.items())
    path.write_text(known + textwrap.dedent(WRITES) + textwrap.dedent(code))
    return path


def lines(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_client_a_bridge_and_a_server_are_one_trace(tmp_path: Path, revision: str) -> None:
    told = {name: tmp_path / f"{name}.jsonl" for name in ("server", "bridge")}
    server = written(tmp_path, "server", SERVER, FILE=str(told["server"]))
    bridge = written(tmp_path, "bridge", BRIDGE, FILE=str(told["bridge"]), SERVER_FILE=str(server))
    recorded = Recorded()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(bridge), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with anyio.fail_after(2 * LIMIT):
            url = (await process.stdout.readline()).decode().strip()
            async with Client(url, revision=revision, tracing=recorded.provider) as client:
                found = await client.call_tool("add", {"a": 1, "b": 2})
            process.stdin.close()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert found["content"] == [{"type": "text", "text": "3"}]
    first = recorded.one("tools/call add", "CLIENT")

    def one(where: str, name: str, kind: str) -> list[str]:
        (line,) = [line for line in lines(told[where]) if line[:2] == [name, kind]]
        return line

    chain = [
        one("bridge", "tools/call add", "SERVER"),
        one("bridge", "tools/call add", "CLIENT"),
        one("server", "tools/call add", "SERVER"),
        one("server", "work", "INTERNAL"),
    ]
    assert {line[2] for line in chain} == {trace_of(first)}
    assert [line[4] for line in chain] == [id_of(first), *(line[3] for line in chain[:-1])]
    assert parent_of(first) == ""


async def test_the_program_of_the_page_prints_both_spans(tmp_path: Path) -> None:
    (source,) = programs(DOCS / "observability.md")
    path = tmp_path / "traced.py"
    path.write_text(source)
    done = await anyio.run_process([sys.executable, str(path)], env={**os.environ}, stderr=subprocess.PIPE)
    printed: list[dict[str, Any]] = []
    decoder, text = json.JSONDecoder(), done.stdout.decode().strip()
    while text:
        span, end = decoder.raw_decode(text)
        printed.append(span)
        text = text[end:].strip()
    server, client = [span for span in printed if span["name"] == "tools/call forecast"]
    assert (server["kind"], client["kind"]) == ("SpanKind.SERVER", "SpanKind.CLIENT")
    assert server["context"]["trace_id"] == client["context"]["trace_id"]
    assert server["parent_id"] == client["context"]["span_id"]
