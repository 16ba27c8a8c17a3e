# SPDX-License-Identifier: MIT
"""The hot swap without code: what a signal and a request of the operator do, and what they tell."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern
from serving import LEGACY, call, served

from mcp_h11 import MCPServer
from mcp_h11.bridge.operated import Exchanged, OperatedProxy, exchanged
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.client import Client
from mcp_h11.client.targets import Command, Url

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).resolve().parents[1]
SERVER = TESTS / "support" / "legacy_server.py"
PROXY = [sys.executable, "-m", "mcp_h11", "proxy"]
needs_sighup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A server that does not start while the file `broken` lies beside it."""
    path = tmp_path / "program.py"
    path.write_text(
        f"import os, runpy, sys\n"
        f"if os.path.exists({str(tmp_path / 'broken')!r}): sys.exit('I am broken')\n"
        f"runpy.run_path({str(SERVER)!r}, run_name='__main__')\n"
    )
    return path


async def text(c: Any, tool: str, **arguments: Any) -> str:
    return str((await c.call("tools/call", call(tool, **arguments))).result["content"][0]["text"])


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(LIMIT):
        while not await condition():
            await asyncio.sleep(0.02)


class Running:
    """The command as a process, and the lines of its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    async def says(self, words: str) -> str:
        found: list[str] = []

        async def there() -> bool:
            found[:] = [line for line in self.lines if words in line]
            return bool(found)

        await until(there)
        return found[0]


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[Running, int]]:
    process = subprocess.Popen([*PROXY, "--port", "0", *arguments], cwd=TESTS.parent, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    run = Running(process)
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", await anyio.to_thread.run_sync(process.stdout.readline))
        assert found, run.lines
        yield run, int(found[1])
    finally:
        process.terminate()
        await anyio.to_thread.run_sync(process.wait, 30)
        await anyio.to_thread.run_sync(run.reader.join, 30)
        process.stdout.close()
        process.stderr.close()
        assert process.returncode == 0, run.lines


@needs_sighup
async def test_sighup_starts_the_command_anew_and_sessions_go_on(program: Path) -> None:
    async with running("--", sys.executable, str(program)) as (run, port):
        async with Legacy(port, LEGACY) as c:
            first = await text(c, "pid")
            run.process.send_signal(signal.SIGHUP)
            line = await run.says("has drained")
            assert re.search(r"has drained after [0-9.]+ s: 0 calls, 0 of them cut", line)
            second = await text(c, "pid")
            assert second != first
            (program.parent / "broken").touch()
            run.process.send_signal(signal.SIGHUP)
            assert "I am broken" in await run.says("goes on as it was, since the new backend does not start")
            await run.says("is not swapped")
            assert await text(c, "pid") == second
            assert not [line for line in run.lines if "next try" in line]


@needs_sighup
async def test_sighup_connects_to_an_address_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with served(MCPServer("far", version="1"), metrics=True) as backend:
        async with running("--url", backend.url) as (run, port):
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                run.process.send_signal(signal.SIGHUP)
                await run.says("has drained")
                assert await client.list_tools() == []


@needs_sighup
async def test_signals_that_come_together_are_one_swap() -> None:
    handler = OperatedProxy(Command((sys.executable, str(SERVER))))
    async with served(handler):
        for _ in range(50):
            handler._hung_up()

        async def swapped() -> bool:
            return handler.counts().tally.swaps == 1 and not handler._generations.draining

        await until(swapped)
        assert handler.counts().tally.swaps == 1
    handler._hung_up()  # after the end it does nothing


async def test_the_outcome_has_the_calls_that_were_waited_for() -> None:
    handler = ProxyHandler(Command((sys.executable, str(SERVER))), label="one", drain_time=LIMIT)
    async with served(handler) as server, anyio.create_task_group() as tasks:
        held = anyio.CancelScope()
        outcomes: list[Exchanged] = []

        async def hold() -> None:
            with held:
                await text(Modern(server.port), "hold")

        async def exchange() -> None:
            outcomes.append(await exchanged(handler))

        tasks.start_soon(hold)
        await until(lambda: asyncio.sleep(0, handler.counts().calls == 1))
        tasks.start_soon(exchange)
        await until(lambda: asyncio.sleep(0, handler.counts().tally.swaps == 1))
        await text(Modern(server.port), "pid")  # the new one answers, while the old one still has a call
        assert handler.counts().calls == 1 and not outcomes
        held.cancel()
        await until(lambda: asyncio.sleep(0, outcomes))
        (done,) = outcomes
        assert (done.reason, done.calls, done.cut) == (None, 1, 0) and done.seconds > 0


async def test_calls_that_do_not_end_in_time_are_cut_and_counted() -> None:
    handler = ProxyHandler(Command((sys.executable, str(SERVER))), drain_time=0.1)
    async with served(handler) as server, anyio.create_task_group() as tasks:

        async def hold() -> None:
            c = Modern(server.port)
            assert "error" in (await c.call("tools/call", call("hold"))).message

        tasks.start_soon(hold)

        async def held_there() -> bool:
            return handler.counts().calls == 1

        await until(held_there)
        with anyio.fail_after(LIMIT):
            done = await exchanged(handler)
        assert (done.reason, done.calls, done.cut) == (None, 1, 1)


async def test_what_cannot_be_started_anew_is_said() -> None:
    handler = ProxyHandler(MCPServer("here", version="1"))
    async with served(handler):
        assert "cannot be begun a second time" in str((await exchanged(handler)).reason)
        await handler.swap(None)
        assert "no backend" in str((await exchanged(handler)).reason)
    handler = ProxyHandler(Url("http://127.0.0.1:1/mcp"), start_time=1.0)
    async with served(handler):
        assert "sessions is drain" in str((await exchanged(handler, "none")).reason)
        assert "away" in str((await exchanged(handler)).reason)
        assert handler.counts().tally.failed_swaps == 1
