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
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern, RawClient
from serving import LEGACY, call, served

from mcp_h11 import MCPServer, Settings
from mcp_h11.bridge.config import ServerEntry
from mcp_h11.bridge.gateway import Gateway, GatewayServer
from mcp_h11.bridge.operated import Exchanged, OperatedProxy, exchanged
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.cli.options import read_options
from mcp_h11.cli.proxy import parser_of
from mcp_h11.cli.serving import make_settings
from mcp_h11.client.client import Client
from mcp_h11.client.targets import Command, Url
from mcp_h11.client.transports import process
from mcp_h11.http.messages import Head
from mcp_h11.http.origins import HostPolicy
from mcp_h11.server.swapping import SwapPage

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


@pytest.mark.long
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


# --- the admin verb ---------------------------------------------------------------------------------------------------

TOKEN = {"Authorization": "Bearer hush"}


async def post(port: int, path: str = "/swap", headers: dict[str, str] | None = None, method: str = "POST") -> Any:
    async with RawClient(port) as client:
        return await client.request(method, path, TOKEN if headers is None else headers)


@asynccontextmanager
async def operated(**options: Any) -> AsyncIterator[Any]:
    handler = OperatedProxy(Command((sys.executable, str(SERVER))))
    async with served(handler, **{"ops_port": 0, "ops_token": "hush", **options}) as server:
        yield server


async def test_the_verb_answers_when_the_drain_is_over() -> None:
    async with operated() as server:
        async with Legacy(server.port, LEGACY) as c:
            first = await text(c, "pid")
            answer = await post(server.ops_port)
            told = answer.json()
            assert (answer.status, told.pop("seconds") >= 0) == (200, True)
            assert told == {"swapped": True, "calls": 0, "cut": 0}
            assert not server.runtime.handler._generations.draining
            assert await text(c, "pid") != first
        assert (await post(server.port)).status == 404  # never on the port of clients


async def test_one_swap_of_a_backend_at_a_time() -> None:
    async with operated() as server, anyio.create_task_group() as tasks:
        handler = server.runtime.handler
        held, statuses = anyio.CancelScope(), list[int]()

        async def hold() -> None:
            with held:
                await text(Modern(server.port), "hold")

        async def swap() -> None:
            statuses.append((await post(server.ops_port)).status)

        tasks.start_soon(hold)
        await until(lambda: asyncio.sleep(0, handler.counts().calls == 1))
        tasks.start_soon(swap)
        await until(lambda: asyncio.sleep(0, handler.counts().tally.swaps == 1))
        assert (await post(server.ops_port)).status == 409 and not statuses
        held.cancel()
        await until(lambda: asyncio.sleep(0, statuses))
        assert statuses == [200] and (await post(server.ops_port)).status == 200


async def test_only_who_may_reaches_the_verb() -> None:
    async with operated(token="outer") as server:
        port = server.ops_port
        for headers in ({}, {"Authorization": "Bearer outer"}, {"Authorization": "Bearer hus"},
                        {"Authorization": "Basic hush"}, {"Authorization": "hush"}):  # fmt: skip
            answer = await post(port, headers=headers)
            assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Bearer")
        for origin in (f"http://127.0.0.1:{port}", "http://localhost", "null", "https://evil.example"):
            assert (await post(port, headers={**TOKEN, "Origin": origin})).status == 403
        assert (await post(port, headers={**TOKEN, "Host": "evil.example"})).status == 403
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            answer = await post(port, method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "POST")
        for path in ("/swap/", "/swap/one", "/swap/../swap", "/swapped"):
            assert (await post(port, path)).status in (404, 405)
        assert server.runtime.handler.counts().tally.swaps == 0
    async with operated(ops_token=None) as server:
        assert (await post(server.ops_port)).status == 404
        assert (await post(server.ops_port, method="GET")).status == 404


def test_a_peer_on_another_machine_is_refused() -> None:
    fields = ((b"host", b"localhost"), (b"authorization", b"Bearer hush"))
    head = Head("POST", "/swap", "/swap", "1.1", fields)
    handler = OperatedProxy(None)
    runtime = SimpleNamespace(handler=handler)
    for peer, status in (("192.0.2.1", 403), ("::ffff:192.0.2.1", 403), ("", 403), ("2001:db8::1", 403),
                         ("127.0.0.1", 0), ("::1", 0), ("::ffff:127.0.0.1", 0)):  # fmt: skip
        refusal = SwapPage(runtime, HostPolicy(["localhost"], None), "hush", local=False).refusal(  # type: ignore
            head, SimpleNamespace(peer=peer))  # type: ignore  # fmt: skip
        assert (refusal.status if refusal is not None else 0) == status, peer


async def test_a_backend_that_does_not_start_is_told_and_the_old_one_goes_on(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    entries = {name: ServerEntry(Command((sys.executable, str(path)))) for name, path in
               (("good", SERVER), ("bad", program))}  # fmt: skip
    options: dict[str, Any] = {"kind": GatewayServer, "ops_uds": None, "ops_port": 0, "ops_token": "hush"}
    async with served(Gateway(entries), **options) as server:
        bad = Modern(server.port, "/servers/bad/mcp")
        pid = await text(bad, "pid")
        (program.parent / "broken").touch()
        answer = await post(server.ops_port)
        told = answer.json()["backends"]
        assert answer.status == 502 and told["good"]["swapped"] is True
        assert told["bad"]["swapped"] is False and "exited with code 1" in told["bad"]["reason"]
        assert await text(bad, "pid") == pid
        one = await post(server.ops_port, "/swap/good")
        assert one.status == 200 and [*one.json()["backends"]] == ["good"]
        assert (await post(server.ops_port, "/swap/none")).status == 404


def test_settings_of_the_token_that_cannot_be_meant_are_refused() -> None:
    for wrong, says in (({"ops_token": "a b", "ops_port": 1}, "visible"),
                        ({"ops_token": "", "ops_port": 1}, "visible"),
                        ({"ops_token": "x", "token": "x", "ops_port": 1}, "differs")):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            Settings(**wrong)  # type: ignore[arg-type]
    assert "hush" not in repr(Settings(ops_token="hush", ops_port=1))


def test_the_proxy_reads_the_token_from_its_variable() -> None:
    given = parser_of().parse_args(["--url", "http://127.0.0.1:1/mcp", "--ops-port", "0"])
    settings = make_settings(read_options(given, {"MCP_H11_OPS_TOKEN": "hush"}))
    assert (settings.ops_token, settings.ops_port) == ("hush", 0)


async def test_a_fault_of_a_swap_is_502_and_the_next_one_may_come(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(MCPServer):
        def _swaps(self) -> Any:
            return {"": self.swapped}

        async def swapped(self) -> Any:
            raise ZeroDivisionError("secret")

    async with served(Faulty("here", version="1"), ops_port=0, ops_token="hush") as server:
        for _ in range(2):
            answer = await post(server.ops_port)
            assert (answer.status, answer.json()) == (502, {"swapped": False, "reason": "Internal error"})
    assert "a backend cannot be swapped" in caplog.text


async def test_a_swap_that_runs_ends_with_the_server() -> None:
    begun = asyncio.Event()

    class Slow(MCPServer):
        def _swaps(self) -> Any:
            return {"": self.swapped}

        async def swapped(self) -> Any:
            begun.set()
            await asyncio.Event().wait()

    async with served(Slow("here", version="1"), ops_port=0, ops_token="hush") as server:
        client = RawClient(server.ops_port)
        async with client:
            await client.send(b"POST /swap HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hush\r\n"
                              b"Content-Length: 0\r\n\r\n")  # fmt: skip
            with anyio.fail_after(LIMIT):
                await begun.wait()
            # `served` looks afterwards that no task is left.
