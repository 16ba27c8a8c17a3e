# SPDX-License-Identifier: MIT
"""Servers behind a real nginx, at a sub-path, with the configuration that docs/deploy.md shows."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from nginx import nginx
from provision import (
    EVERYTHING,
    Running,
    everything_server,
    free_port,
    process_on_a_port,
    server_environment,
    stop,
    wait_until_it_listens,
)
from rawclient import LIMIT, RawClient
from redis_servers import redis_server
from replicas import stored_in
from test_conformance import passes
from test_interop import CASES, Case, check

from mcp_h11 import AuthorizationRequired, Client, Context, MCPServer, Settings, listening

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

OVER_HTTP = (
    "python-2.3-http-auto",
    "python-1.30-http",
    "python-1.30-sse",
    "typescript-1-sse",
    "typescript-2-http-legacy",
)
REPLICAS = 3
CALLERS = 6
DRAIN_DELAY = 4  # seconds, as in the command of the page


@dataclass(frozen=True)
class Site:
    """The fixture twice behind nginx, on plain HTTP and with TLS."""

    plain: Running
    secure: Running
    ca: trustme.CA

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        store = stored_in("sqlite", folder, None).url
        options = ("--response", "auto", "--proxied", "--store", store, "--counts", str(folder))
        ports = [stack.enter_context(everything_server(*options)).port for _ in range(2)]
        plain, _ = stack.enter_context(nginx(ports, tls=False))
        secure, ca = stack.enter_context(nginx(ports))
        yield Site(plain, secure, ca)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.name in OVER_HTTP])
def test_an_official_client_sees_one_server_at_a_sub_path(site: Site, case: Case) -> None:
    check(case, lambda: site.plain, may_repeat=("changes",))  # as in test_fleet_interop


def test_the_official_suite_passes_through_it() -> None:
    with everything_server("--proxied") as server, nginx([server.port], tls=False) as (front, _):
        said = passes("run.py", "--url", front.url)
    assert re.search(r"^191 passed, 0 failed of 191 scored checks$", said, re.M), said[-2000:]


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25", "2024-11-05"])
async def test_each_era_works_over_tls_and_events_leave_as_they_come(site: Site, revision: str) -> None:
    sse = revision == "2024-11-05"
    options: dict[str, Any] = {"transport": "sse"} if sse else {}
    url = site.secure.sse_url if sse else site.secure.url
    with anyio.fail_after(LIMIT):
        async with Client(url, revision=revision, ssl=site.context, **options) as client:
            seen: list[float] = []
            result = await client.call_tool("test_tool_with_progress", {}, progress=lambda *said: seen.append(said[0]))
            assert not result.get("isError") and seen == [0, 50, 100]


async def test_a_401_names_the_address_behind_it(tmp_path: Path) -> None:
    program = tmp_path / "secured.py"
    program.write_text(
        "import sys\n"
        "from mcp_h11 import MCPServer\n"
        "async def nobody(head): return None\n"
        "MCPServer('secured').run(port=int(sys.argv[1]), trusted_proxies=['127.0.0.1'], authorize=nobody,\n"
        "    authorization_servers=['https://login.example'], quiet=True)\n"
    )
    with process_on_a_port(str(program), "{port}") as server, nginx([server.port]) as (front, ca):
        context = ssl.create_default_context()
        ca.configure_trust(context)
        with anyio.fail_after(LIMIT), pytest.raises(AuthorizationRequired) as refused:
            async with Client(front.url, ssl=context) as client:
                await client.list_tools()
    where = f"https://localhost:{front.port}/tools/.well-known/oauth-protected-resource/mcp"
    assert where in str(vars(refused.value))


class Replica:
    """One of the servers of the page, on a port that it keeps."""

    def __init__(self, store: str) -> None:
        self.port = free_port()
        self._store = store
        self._process: Any = None

    async def start(self) -> None:
        options = ["--port", str(self.port), "--trusted-proxies", "127.0.0.1", "--allowed-hosts", "localhost"]
        options += ["--store", self._store, "--set", f"drain_delay={DRAIN_DELAY}"]
        command = [sys.executable, "-m", "mcp_h11", f"{EVERYTHING}:server", *options]
        self._process = subprocess.Popen(
            command, env=server_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        await anyio.to_thread.run_sync(wait_until_it_listens, self._process, self.port)

    async def stop(self) -> None:
        if self._process is not None:
            assert await anyio.to_thread.run_sync(stop, self._process) == 0

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


async def test_a_rolling_restart_under_load_fails_no_call(tmp_path: Path) -> None:
    with redis_server() as redis:
        store = stored_in("redis", tmp_path, redis).url
        replicas = [Replica(store) for _ in range(REPLICAS)]
        try:
            async with anyio.create_task_group() as group:
                for replica in replicas:
                    group.start_soon(replica.start)
            with nginx([replica.port for replica in replicas], tls=False) as (front, _):
                await restart_under_load(replicas, front.url)
        finally:
            for replica in replicas:
                replica.kill()


async def restart_under_load(replicas: list[Replica], url: str) -> None:
    over, calls = anyio.Event(), [0] * CALLERS

    async def call(number: int) -> None:
        revision = "2025-11-25" if number % 2 else "2026-07-28"
        async with Client(url, revision=revision) as client:
            while not over.is_set():
                result = await client.call_tool("test_simple_text", {})
                assert not result.get("isError"), result
                calls[number] += 1

    with anyio.fail_after(4 * LIMIT):
        async with anyio.create_task_group() as group:
            for number in range(CALLERS):
                group.start_soon(call, number)
            for replica in replicas:
                before = list(calls)
                await replica.stop()
                await replica.start()
                while any(now <= then for now, then in zip(calls, before, strict=True)):
                    await anyio.sleep(0.01)
            over.set()
    print(f"{sum(calls)} calls, each answered, through the restart of {len(replicas)} servers")


# nginx without the directives of the page: it has a connection to the server for each request, by HTTP/1.0, and
# asks for it to be closed; answers and bodies are buffered.
DEFAULTS = {
    "proxy_http_version": "1.0",
    "proxy_set_header Connection": "",
    "proxy_buffering": "",
    "proxy_request_buffering": "",
}


class Held(MCPServer):
    """`held` sends its progress, and waits until it is released."""

    def __init__(self) -> None:
        super().__init__("held")
        self.released = asyncio.Event()
        self.add_tool(self.held, name="held")

    async def held(self, ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await self.released.wait()
        return "done"


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25", "2024-11-05"])
async def test_with_the_defaults_of_nginx_each_era_works_and_events_leave_as_they_come(revision: str) -> None:
    held = Held()
    async with listening(held, port=0, trusted_proxies=["127.0.0.1"], legacy_sse=True) as server:
        with nginx([server.port], tls=False, changed=DEFAULTS) as (front, _):
            sse: dict[str, Any] = {"transport": "sse"} if revision == "2024-11-05" else {}
            with anyio.fail_after(LIMIT):
                async with Client(front.sse_url if sse else front.url, revision=revision, **sse) as client:
                    # The call ends only when its first event has come through.
                    result = await client.call_tool("held", {}, progress=lambda *said: held.released.set())
                    assert result["content"][0]["text"] == "done"


async def test_comments_carry_a_silent_stream_over_the_idle_time_of_a_load_balancer() -> None:
    idle, keep_alive = 3.0, 0.25  # seconds
    async with listening(
        Held(), port=0, trusted_proxies=["127.0.0.1"], keep_alive=keep_alive, legacy_sse=True
    ) as server:
        with nginx([server.port], tls=False, changed={"proxy_read_timeout": f"{idle:.0f}s"}) as (front, _):
            async with RawClient(front.port) as client:
                headers = {"Accept": "text/event-stream", "Host": f"localhost:{front.port}"}
                stream = await client.open_stream("GET", "/tools/sse", headers)
                said = b""
                began = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() - began < 1.3 * idle:
                    piece = await stream.next_bytes()
                    assert piece is not None, "nginx has cut the stream"
                    said += piece
    assert said.startswith(b"event: endpoint") and said.count(b"\n:") > 1


def test_the_limits_of_the_page_fit_those_of_load_balancers() -> None:
    found = Settings()
    assert found.keep_alive is not None and found.idle_timeout is not None
    assert found.keep_alive * 2 <= 30 < 60 < found.idle_timeout  # Google's, and AWS's
