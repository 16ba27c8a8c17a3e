# SPDX-License-Identifier: MIT
"""Several processes of uvicorn with one application: with a store they are one server, and without one they say so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from provision import everything_hosted, free_port, server_environment, stop, wait_until_it_listens
from rawclient import LIMIT, Closed, Legacy, Modern, RawClient

pytestmark = [pytest.mark.interop, pytest.mark.anyio]
REVISION = "2025-11-25"
TOOLS = """\
import os, sys, time
from mcp_h11 import Context, MCPServer

server = MCPServer("tools")

@server.tool
async def who(ctx: Context) -> list[int]:
    "The numbers of the processes that served this session."
    time.sleep(0.2)  # blocks the loop: a second request, at the same time, is for the other process
    seen = {*(await ctx.session.get("seen") or []), os.getpid()}
    await ctx.session.set("seen", sorted(seen))
    return sorted(seen)

app = server.asgi(store=os.environ.get("STORE") or None)
"""


@contextmanager
def two_workers(folder: Path, store: str) -> Iterator[tuple[int, Any]]:
    """`uvicorn tools:app --workers 2`: its port, and the file of its output."""
    (folder / "tools.py").write_text(TOOLS)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tools:app", "--workers", "2", "--port", str(port)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**server_environment(), "STORE": store}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output,
        )  # fmt: skip
        try:
            wait_until_it_listens(process, port)
            yield port, output
        finally:
            stop(process)
            output.seek(0)
            print(output.read().decode())


async def test_a_session_lives_in_both_workers_that_have_a_store(tmp_path: Path) -> None:
    with two_workers(tmp_path, f"sqlite://{tmp_path}/sessions.db") as (port, output):
        async with Legacy(port, REVISION) as client:
            seen: list[int] = []
            with anyio.fail_after(LIMIT):
                while len(seen) < 2:
                    answers = await asyncio.gather(*(client.call("tools/call", {"name": "who"}) for _ in range(2)))
                    seen = max((answer.result["structuredContent"]["result"] for answer in answers), key=len)
        output.seek(0)
        assert b"no store" not in output.read()


async def test_workers_without_a_store_say_that_a_session_lives_in_one(tmp_path: Path) -> None:
    with two_workers(tmp_path, "") as (port, output):
        client = Legacy(port, REVISION)
        await client.initialize(complete=False)
        with anyio.fail_after(LIMIT):
            status = 200
            while status == 200:
                answers = await asyncio.gather(*(client.post(client.request("ping")) for _ in range(10)))
                status = max(answer.status for answer in answers)
        assert status == 404
        output.seek(0)
        said = output.read()
    assert said.count(b"2 worker processes and no store: a session lives in one of them") == 2


async def test_a_stream_moves_to_the_other_process(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/sessions.db"
    with ExitStack() as stack:
        one, other = (stack.enter_context(everything_hosted("uvicorn", "--store", store)).port for _ in range(2))
        async with Legacy(one, REVISION) as client:
            request = client.request("tools/call", {"name": "test_tool_with_progress", "_meta": {"progressToken": 1}})
            async with client.posting(request) as stream:
                first = await stream.next_event()
                assert first is not None and first.id
                stream.abort()
            client.port = other
            async with client.get_stream(first.id, in_reply_to="tools/call") as stream:
                messages = [message async for message in rest_of(stream)]
            assert [one["params"]["progress"] for one in messages[:-1]] in ([0, 50, 100], [50, 100])
            assert messages[-1]["id"] == request["id"] and "result" in messages[-1]


async def rest_of(stream: Any) -> AsyncIterator[Any]:
    with anyio.fail_after(LIMIT):
        while (message := await stream.next_message()) is not None:
            yield message


async def test_a_server_that_is_told_to_end_refuses_no_request(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(TOOLS)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tools:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=tmp_path, env=server_environment(), stdin=subprocess.DEVNULL)
    statuses: list[int] = []
    try:
        await anyio.to_thread.run_sync(wait_until_it_listens, process, port)
        modern = Modern(port)
        message = modern.request("server/discover")
        async with RawClient(port) as raw:
            with anyio.fail_after(LIMIT), suppress(OSError, Closed):
                while True:
                    answer = await raw.request(
                        "POST", "/mcp", modern.headers_for(message), json.dumps(message).encode()
                    )
                    statuses.append(answer.status)
                    if len(statuses) == 20:
                        process.terminate()
        assert len(statuses) >= 20 and set(statuses) == {200}
        assert await anyio.to_thread.run_sync(process.wait, LIMIT) in (0, -15)
    finally:
        process.kill()
        process.wait()
    print(f"{len(statuses) - 20} requests after the signal")
