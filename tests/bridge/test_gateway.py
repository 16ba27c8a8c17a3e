# SPDX-License-Identifier: MIT
"""Several backends behind one listener, and `python -m mcp_h11 proxy` that starts them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern, RawClient
from serving import LEGACY, call, modern, served

from mcp_h11 import Context, MCPServer
from mcp_h11.bridge.config import MAX_CHANGES_NAMED, ServerEntry, changes
from mcp_h11.bridge.configtext import ConfigError
from mcp_h11.bridge.gateway import Gateway, GatewayServer
from mcp_h11.client.client import Client
from mcp_h11.client.targets import Command, Url
from mcp_h11.server.logs import JSONLines
from mcp_h11.stores.memory import MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.long]

TESTS = Path(__file__).resolve().parents[1]
SERVER = str(TESTS / "support" / "legacy_server.py")


def entry(name: str, **more: Any) -> ServerEntry:
    return ServerEntry(Command((sys.executable, SERVER, "--name", name)), **more)


@asynccontextmanager
async def gateway(entries: dict[str, ServerEntry], **options: Any) -> AsyncIterator[Any]:
    """A running gateway.  When it reloads, it reads the last element of `server.entries`."""
    lists: list[Any] = [entries]

    def read() -> dict[str, ServerEntry]:
        if isinstance(lists[-1], Exception):
            raise lists[-1]
        return lists[-1]  # type: ignore[no-any-return]

    handler = Gateway(entries, read, ready_when=options.pop("ready_when", "any"))
    options = {"kind": GatewayServer, "health": True, "metrics": True, **options}
    async with served(handler, **options) as server:  # type: ignore[arg-type]
        server.lists = lists
        yield server


def at(server: Any, name: str, kind: Any = Modern) -> Any:
    path = f"/servers/{name}/mcp"
    return Modern(server.port, path) if kind is Modern else Legacy(server.port, LEGACY, path)


async def text(c: Any, tool: str, **arguments: Any) -> str:
    return str((await c.call("tools/call", call(tool, **arguments))).result["content"][0]["text"])


async def said(c: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await text(c, "state"))
    return found


async def page(server: Any, path: str) -> Any:
    async with RawClient(server.port) as client:
        return await client.request("GET", path)


async def test_each_backend_is_at_its_name_with_sessions_of_its_own() -> None:
    async with gateway({"one": entry("one"), "two": entry("two")}) as server:
        assert (await said(at(server, "one")))["name"] == "one"
        async with at(server, "one", Legacy) as one, at(server, "two", Legacy) as two:
            assert one.initialized["serverInfo"]["name"] == "one"
            assert (await said(two))["name"] == "two"
            # A session is valid at the address of its own server only.
            stray = Legacy(server.port, LEGACY, "/servers/two/mcp")
            stray.session, stray.initialized = one.session, one.initialized
            assert (await stray.post(stray.request("ping"))).status == 404


async def test_the_sessions_of_two_gateways_with_one_store_are_one_and_those_of_two_servers_are_not(
    tmp_path: Path,
) -> None:
    entries = {"one": entry("one"), "two": entry("two")}
    store = f"sqlite:{tmp_path / 'fleet.db'}"
    async with gateway(entries, store=store) as first, gateway(entries, store=store) as second:
        async with at(first, "one", Legacy) as client:
            client.port = second.port
            assert (await said(client))["name"] == "one"
            client.path = "/servers/two/mcp"
            for client.port in (first.port, second.port):
                assert (await client.post(client.request("ping"))).status == 404
            client.path = "/servers/one/mcp"


async def test_the_store_of_a_gateway_is_a_url() -> None:
    with pytest.raises(ValueError, match="URL of a store"):
        async with gateway({"one": entry("one")}, store=MemoryStore()):
            pass


@pytest.mark.parametrize("path", ["/servers/nobody/mcp", "/mcp", "/", "/servers/one", "/servers/one/other", "/servers"])
async def test_what_is_at_no_name_is_404(path: str) -> None:
    async with gateway({"one": entry("one")}) as server:
        c = Modern(server.port, path)
        answer = await c.post(c.request("tools/list"))
        assert answer.status == 404 and answer.json()["error"]["message"].startswith("Nothing is served here")


BROKEN = ServerEntry(Command((sys.executable, SERVER, "--crash")))


def samples(answer: Any) -> dict[str, float]:
    """The samples of a metrics page, by name and labels."""
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_the_pages_are_those_of_all() -> None:
    async with gateway({"one": entry("one"), "broken": BROKEN}) as server:
        assert (await page(server, "/health")).status == 200
        ready = await page(server, "/ready")
        said_ready = {"ready": True, "reasons": [], "warnings": ["broken: backend away"]}
        assert (ready.status, ready.json()) == (200, said_ready)
        async with at(server, "one", Legacy):
            assert b"mcp_h11_sessions 1" in (await page(server, "/metrics")).body
        c = at(server, "broken")
        assert (await c.post(c.request("tools/list"))).status == 503
        assert (await said(at(server, "one")))["name"] == "one"


@pytest.mark.parametrize("apart", [False, True])
async def test_each_backend_has_a_readiness_of_its_own(apart: bool) -> None:
    async with gateway({"one": entry("one"), "broken": BROKEN}, ops_port=0 if apart else None) as server:
        port = server.ops_port or server.port
        async with RawClient(port) as client:
            one = await client.request("GET", "/ready/one")
            assert (one.status, one.json()) == (200, {"ready": True, "reasons": []})
            broken = await client.request("GET", "/ready/broken")
            assert (broken.status, broken.json()["reasons"]) == (503, ["backend away"])
            assert (await client.request("HEAD", "/ready/one")).status == 200
            assert (await client.request("POST", "/ready/one")).status == 405
        for path in ("/ready/", "/ready/none", "/ready/one/", "/ready/one/more", "/readyone"):
            async with RawClient(port) as client:
                assert (await client.request("GET", path)).status == 404
        server.leaving = True
        async with RawClient(port) as client:
            assert (await client.request("GET", "/ready/one")).json()["reasons"] == ["draining"]
        server.leaving = False


async def test_the_whole_is_not_ready_when_all_are_away_or_one_where_that_is_asked_for() -> None:
    async with gateway({"one": BROKEN, "two": BROKEN}) as server:
        ready = await page(server, "/ready")
        assert (ready.status, ready.json()["reasons"]) == (503, ["one: backend away", "two: backend away"])
    async with gateway({"one": entry("one"), "broken": BROKEN}, ready_when="all") as server:
        ready = await page(server, "/ready")
        assert (ready.status, ready.json()["reasons"]) == (503, ["broken: backend away"])
    with pytest.raises(ValueError, match="any or all"):
        Gateway({}, ready_when="some")  # type: ignore[arg-type]


async def test_metrics_name_the_backend_as_the_list_does() -> None:
    async with gateway({"one": entry("other-name"), "broken": BROKEN}) as server:
        async with at(server, "one", Legacy) as c:
            await text(c, "pid")
            found = samples(await page(server, "/metrics"))
            assert found['mcp_h11_backend_up{mcp_h11_backend="one"}'] == 1
            assert found['mcp_h11_backend_up{mcp_h11_backend="broken"}'] == 0
            assert found['mcp_h11_backend_sessions{mcp_h11_backend="one"}'] == 1
            assert found['mcp_h11_backend_calls_running{mcp_h11_backend="one"}'] == 0
            calls = 'mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_tool_name="pid",'
            assert found[calls + 'mcp_h11_backend="one"}'] == 1
            assert not any("other-name" in name for name in found)
        assert samples(await page(server, "/metrics"))[
            'mcp_server_session_duration_seconds_count{mcp_h11_backend="one"}'] == 1  # fmt: skip
        gone = server.runtime.handler.sites["one"]
        server.lists.append({"broken": BROKEN})
        await server.runtime.handler.reload()
        assert not any('"one"' in name for name in samples(await page(server, "/metrics")))
        with anyio.fail_after(LIMIT):
            await gone.ended.wait()


async def test_a_backend_that_was_away_is_said_to_be_back_and_its_restarts_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway({"one": entry("other-name")}) as server:
        c = at(server, "one")
        os.kill(int(await text(c, "pid")), signal.SIGKILL)

        async def counted() -> bool:
            found = samples(await page(server, "/metrics"))
            return found['mcp_h11_backend_restarts_total{mcp_h11_backend="one"}'] == 1

        await until(counted)
        await until(lambda: asyncio.sleep(0, "back again" in caplog.text))
        lines = [record for record in caplog.records if "away" in record.message or "back again" in record.message]
        assert [re.sub(r"[0-9.]+ s$", "N s", record.message) for record in lines][-1] == "one is back again after N s"
        assert lines[0].message.startswith("one is away: ") and len(lines) == 2
        assert {getattr(record, "backend", None) for record in lines} == {"one"}
        assert JSONLines().format(lines[-1]).count('"backend":"one"') == 1


async def test_the_access_log_names_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        async with gateway({"one": entry("other-name")}, access_log=True) as server:
            await text(at(server, "one"), "pid")
            c = at(server, "none")
            await c.post(c.request("tools/list"))
            long = (
                "POST /servers/one/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n"
            )
            async with RawClient(server.port) as client:
                await client.send(long.encode() + b"\r\n")
                assert (await client.receive("POST")).status >= 400
    lines = [record.access for record in caplog.records if hasattr(record, "access")]
    assert [line.get("backend") for line in lines] == ["one", None, "one"]


async def test_one_line_says_what_a_reading_changed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        async with gateway({"same": entry("same"), "other": entry("other"), "gone": entry("gone")}) as server:
            new = {"same": entry("same"), "other": entry("other", deny=("x",)), "a": entry("a"), "b": entry("b")}
            server.lists.append(new)
            gone = server.runtime.handler.sites["gone"]
            await server.runtime.handler.reload()
            await server.runtime.handler.reload()
            with anyio.fail_after(LIMIT):
                await gone.ended.wait()
    lines = [record.message for record in caplog.records if "configuration" in record.message]
    assert lines == [
        "configuration read: added a, b; removed gone; changed other", "configuration read: nothing changed",
    ]  # fmt: skip


def test_the_line_about_a_reading_has_an_end() -> None:
    names = [f"n{number}" for number in range(MAX_CHANGES_NAMED + 1)]
    exact = str(changes({}, {name: entry(name) for name in names[:MAX_CHANGES_NAMED]}))
    assert exact == "added " + ", ".join(names[:MAX_CHANGES_NAMED])
    assert str(changes({}, {name: entry(name) for name in names})) == exact + " and 1 more"


async def test_reading_again_changes_only_what_changed() -> None:
    async with gateway({"same": entry("same"), "other": entry("other"), "gone": entry("gone")}) as server:
        async with at(server, "same", Legacy) as same:
            pid = await text(same, "pid")
            server.lists.append({"same": entry("same"), "other": entry("another"), "new": entry("new")})
            await server.runtime.handler.reload()
            assert await text(same, "pid") == pid
            assert (await said(at(server, "other")))["name"] == "another"
            assert (await said(at(server, "new")))["name"] == "new"
            c = at(server, "gone")
            assert (await c.post(c.request("tools/list"))).status == 404


async def test_another_filter_keeps_the_process_and_tells_the_sessions() -> None:
    async with gateway({"one": entry("one")}) as server, at(server, "one", Legacy) as c:
        pid = await text(c, "pid")
        async with c.get_stream() as stream:
            server.lists.append({"one": entry("one", deny=("hidden",))})
            await server.runtime.handler.reload()
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
        names = [tool["name"] for tool in (await c.call("tools/list")).result["tools"]]
        assert "hidden" not in names and "echo" in names
        assert await text(c, "pid") == pid


async def test_log_messages_are_shared_from_when_the_list_says_so() -> None:
    async with gateway({"one": entry("one")}) as server, at(server, "one", Legacy) as c:
        pid = await text(c, "pid")
        await c.call("logging/setLevel", {"level": "info"})
        async with c.get_stream() as stream:
            await text(c, "log", text="for no client")
            server.lists.append({"one": entry("one", share_logs=True)})
            await server.runtime.handler.reload()
            await text(c, "log", text="for all")
            assert (await stream.next_message())["params"]["data"] == "for all"
        assert await text(c, "pid") == pid


async def test_one_backend_for_each_session_is_another_site() -> None:
    async with gateway({"one": entry("one")}) as server:
        server.lists.append({"one": entry("one", per_session=True)})
        await server.runtime.handler.reload()
        async with at(server, "one", Legacy) as a, at(server, "one", Legacy) as b:
            assert await text(a, "pid") != await text(b, "pid")


async def test_an_address_that_was_none_is_served_as_soon_as_the_list_has_it() -> None:
    """The gateway does not repeat its earlier answer to the same head, though it caches facts about heads."""
    request = modern("server/discover")
    late = request.replace(b"POST /mcp ", b"POST /servers/late/mcp ")
    head, _, body = late.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"
    async with (
        gateway({"one": entry("a")}) as server,
        RawClient(server.port) as client,
        RawClient(server.port) as other,
    ):

        async def statuses(expected: int) -> None:
            for _ in range(2):
                await client.send(late)
                assert (await client.receive("POST")).status == expected
            async with RawClient(server.port) as third:  # refused before the body arrives, or not refused
                await third.send(head)
                if expected == 404:
                    assert (await third.receive("POST")).status == 404
                    return
                await third.send(body)
                assert (await third.receive("POST")).status == expected

        await statuses(404)
        await other.send(head)
        assert (await other.receive("POST")).status == 404
        server.lists.append({"one": server.lists[-1]["one"], "late": entry("b")})
        await server.runtime.handler.reload()
        await statuses(200)
        server.lists.append({"one": server.lists[-1]["one"]})
        await server.runtime.handler.reload()
        await statuses(404)
        server.lists.append({"one": server.lists[-1]["one"], "late": entry("c", per_session=True)})
        await server.runtime.handler.reload()
        await statuses(200)


async def test_a_gateway_behind_a_proxy_that_strips_a_prefix_says_where_its_servers_are() -> None:
    prefixed = {"X-Forwarded-Prefix": "/tools"}
    for options, headers in (({"root_path": "/tools"}, {}), ({"trusted_proxies": ["127.0.0.1"]}, prefixed)):
        async with gateway({"one": entry("a")}, legacy_sse=True, **options) as server:
            async with RawClient(server.port) as client:
                for _ in range(2):
                    answer = await client.request("GET", "/servers/none/mcp", headers)
                    assert answer.json()["error"]["message"].endswith("servers are at /tools/servers/NAME/mcp")
            async with RawClient(server.port) as client:
                accept = {"Accept": "text/event-stream", **headers}
                stream = await client.open_stream("GET", "/servers/one/sse", accept)
                event = await stream.next_event()
                assert event is not None and event.data.startswith("/tools/servers/one/messages?session_id=")


async def test_what_is_known_of_heads_goes_when_the_list_changes_and_not_when_it_is_read_again() -> None:
    request = modern("server/discover").replace(b"POST /mcp ", b"POST /servers/one/mcp ")
    async with gateway({"one": entry("a")}) as server, RawClient(server.port) as client:
        await client.send(request)
        assert (await client.receive("POST")).status == 200
        await server.runtime.handler.reload()
        assert len(server.heads.heads) == 1
        server.lists.append({"one": entry("a"), "two": entry("b")})
        await server.runtime.handler.reload()
        assert not server.heads.heads
        await client.send(request)
        assert (await client.receive("POST")).status == 200


async def test_a_list_that_cannot_be_used_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway({"one": entry("one")}) as server:
        pid = await text(at(server, "one"), "pid")
        server.lists.append(ConfigError("it is not JSON"))
        await server.runtime.handler.reload()
        assert "it is not JSON" in caplog.text
        assert await text(at(server, "one"), "pid") == pid


async def test_a_fault_of_the_reader_ends_no_site(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway({"one": entry("one")}) as server:
        handler = server.runtime.handler
        pid = await text(at(server, "one"), "pid")
        server.lists.append(TypeError("unhashable type: 'dict'"))
        handler._hung_up()
        await until(lambda: asyncio.sleep(0, "cannot be read" in caplog.text))
        assert await text(at(server, "one"), "pid") == pid
        server.lists.append({"one": entry("one"), "two": entry("two")})
        await handler.reload()
        assert (await said(at(server, "two")))["name"] == "two"


async def test_a_site_that_cannot_be_made_or_ends_by_a_fault_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway({"one": entry("one")}) as server:
        handler = server.runtime.handler
        made = handler._make

        def make(name: str, entry: ServerEntry) -> Any:
            if name == "bad":
                raise TypeError("not to be made")
            site = made(name, entry)
            if name == "faulty":
                site.run = broken
            return site

        async def broken() -> None:
            raise ZeroDivisionError

        handler._make = make
        server.lists.append({name: entry(name) for name in ("one", "bad", "faulty", "two")})
        await handler.reload()
        assert "bad cannot be served" in caplog.text and "faulty has ended" in caplog.text
        assert (await said(at(server, "one")))["name"] == "one" and (await said(at(server, "two")))["name"] == "two"
        c = at(server, "faulty")
        assert (await c.post(c.request("tools/list"))).status == 404


async def test_a_fault_while_a_backend_changes_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway({"one": entry("one")}) as server:
        site = server.runtime.handler.sites["one"]
        pid = await text(at(server, "one"), "pid")
        swap = site.handler.swap

        async def broken(*given: Any) -> None:
            raise TypeError("unhashable")

        site.handler.swap = broken
        for name in ("another", "yet another"):
            server.lists.append({"one": entry(name)})
            await server.runtime.handler.reload()
        assert caplog.text.count("one stays as it was: unhashable") == 2
        assert await text(at(server, "one"), "pid") == pid and site.entry == entry("one")
        site.handler.swap = swap


async def test_a_changed_backend_that_cannot_be_had_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway({"one": entry("one")}) as server:
        pid = await text(at(server, "one"), "pid")
        server.lists.append({"one": ServerEntry(Url("http://127.0.0.1:1/mcp"))})
        server.runtime.handler.sites["one"].handler._generations.start_time = 1.0
        await server.runtime.handler.reload()
        assert "stays as it was" in caplog.text
        assert await text(at(server, "one"), "pid") == pid


async def test_one_that_does_not_start_holds_up_no_other() -> None:
    hangs = ServerEntry(Command((sys.executable, "-c", "import time; time.sleep(60)")))
    async with gateway({"one": entry("one"), "two": entry("two")}) as server:
        server.runtime.handler.sites["one"].handler._generations.start_time = 30.0
        server.lists.append({"one": hangs, "two": entry("another"), "new": entry("new")})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.runtime.handler.reload)

            async def there() -> bool:
                sites = server.runtime.handler.sites
                return "new" in sites and (await said(at(server, "two")))["name"] == "another"

            await until(there)
            assert (await said(at(server, "new")))["name"] == "new"
            assert (await said(at(server, "one")))["name"] == "one"
            tasks.cancel_scope.cancel()


async def test_hangups_that_come_at_once_are_one() -> None:
    async with gateway({"one": entry("one")}) as server:
        gate = server.runtime.handler
        reads = []
        read = gate._read
        gate._read = lambda: reads.append(1) or read()
        for _ in range(100):
            gate._hung_up()
        with anyio.fail_after(LIMIT):
            while gate._hangup:
                await anyio.sleep(0.01)
        assert reads == [1]


async def test_http_sse_is_at_each_name_too() -> None:
    async with gateway({"one": entry("one")}, legacy_sse=True) as server, RawClient(server.port) as client:
        stream = await client.open_stream("GET", "/servers/one/sse", {"Accept": "text/event-stream"})
        event = await stream.next_event()
        assert event is not None and event.data.startswith("/servers/one/messages?session_id=")


async def test_the_token_guards_every_name() -> None:
    async with gateway({"one": entry("one")}, token="outer", metrics=False) as server:
        c = at(server, "one")
        assert (await c.post(c.request("tools/list"))).status == 401
        c.extra_headers = {"Authorization": "Bearer outer"}
        assert (await said(c))["name"] == "one"


# --- the command ------------------------------------------------------------------------------------------------------

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
PROXY = [sys.executable, "-m", "mcp_h11", "proxy"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command with --port 0, and the port that it prints."""
    process = subprocess.Popen(
        [*PROXY, "--port", "0", *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + (process.stderr.read() if process.poll() is not None and process.stderr else "")
        yield process, int(found[1])
    finally:
        process.terminate()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "Traceback" not in err, err


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(LIMIT):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_the_command_serves_a_command() -> None:
    with running("--deny-tool", "hid*", "--", sys.executable, SERVER, "--name", "served") as (_, port):
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert client.server_info["name"] == "served"
            assert "hidden" not in [tool["name"] for tool in await client.list_tools()]
        async with Legacy(port, "2024-11-05") as c:
            assert (await said(c))["name"] == "served"


@pytest.mark.long
async def test_two_commands_with_one_store_serve_one_session_at_its_own_backend(tmp_path: Path) -> None:
    arguments = ("--store", f"sqlite:{tmp_path / 'fleet.db'}", "--per-session", "--", sys.executable, SERVER)
    with running(*arguments) as (_, port), running(*arguments) as (_, other):
        async with Legacy(port, LEGACY) as client:
            own = await text(client, "pid")
            client.port = other
            assert await text(client, "pid") == own


async def test_the_command_shares_log_messages_where_it_is_told_to() -> None:
    with running("--share-logs", "--", sys.executable, SERVER) as (_, port):
        async with Legacy(port, LEGACY) as a, Legacy(port, LEGACY) as b, a.get_stream() as stream:
            await a.call("logging/setLevel", {"level": "info"})
            await text(b, "log", text="for all")
            assert (await stream.next_message())["params"]["data"] == "for all"


async def test_the_command_serves_an_address_on_pipes() -> None:
    backend = MCPServer("far", version="1")

    @backend.tool
    async def shout(text: str, ctx: Context) -> str:
        return text.upper()

    async with served(backend) as server:
        command = [*PROXY, "--url", server.url, "--stdio"]
        for revision in (None, LEGACY):
            async with Client(command, env="inherit", revision=revision) as client:
                assert client.server_info["name"] == "far"
                assert (await client.call_tool("shout", {"text": "hi"}))["content"][0]["text"] == "HI"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
async def test_the_command_reads_its_file_again_on_sighup(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"

    def write(*names: str) -> None:
        servers = {name: {"command": sys.executable, "args": [SERVER, "--name", name]} for name in names}
        file.write_text(json.dumps({"mcpServers": servers}))

    write("one")
    with running("--config", str(file)) as (process, port):
        assert process.stdout is not None
        shown = process.stdout.readline()
        one, two = (Modern(port, f"/servers/{name}/mcp") for name in ("one", "two"))
        pid = await text(one, "pid")
        assert (await two.post(two.request("tools/list"))).status == 404
        write("one", "two")
        process.send_signal(signal.SIGHUP)

        async def there() -> bool:
            return (await two.post(two.request("tools/list"))).status == 200

        await until(there)
        assert "/servers/one/mcp" in shown
        for wrong, member in (("{", ""), ({"type": {"type": "http"}}, '"type"'), ({"transport": []}, '"transport"')):
            server = (
                wrong if isinstance(wrong, str) else json.dumps({"mcpServers": {"bad": {"url": "http://h", **wrong}}})
            )
            file.write_text(server)
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            line = await anyio.to_thread.run_sync(lambda: next(x for x in process.stderr if "not used" in x))
            assert str(file) in line and member in line
            assert await text(one, "pid") == pid and await there()


async def test_the_child_gets_the_environment_but_not_our_own_secrets() -> None:
    show = "import os,sys; print(sorted(n for n in os.environ if n in ('MINE', 'MCP_H11_BEARER', 'FROM_SHELL')), file=sys.stderr)"  # noqa: E501
    process = subprocess.Popen(
        [*PROXY, "--port", "0", "--env", "MINE=1", "--", sys.executable, "-c", show],
        env={**ENVIRONMENT, "MCP_H11_BEARER": "hush", "FROM_SHELL": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines = ""
        with anyio.fail_after(LIMIT):
            while "FROM_SHELL" not in lines:
                lines += await anyio.to_thread.run_sync(process.stderr.readline)
        assert "['FROM_SHELL', 'MINE']" in lines
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_the_help_says_what_a_call_may_take_here() -> None:
    done = subprocess.run([*PROXY, "--help-all"], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "seconds for a call without progress (60)" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to serve"),
        (["--url", "http://h/", "--", "cat"], "cannot be used together"),
        (["--", "/nowhere/such"], "there is no command"),
        (["--url", "ftp://h/"], "not an address"),
        (["--config", "/nowhere.json"], "No such file"),
        (["--stdio", "--port", "3", "--url", "http://h/"], "cannot be used together"),
        (["--forward-header", "cookie", "--url", "http://h/"], "not passed on"),
        (["--header", "X: hush\r\nY: z", "--url", "http://h/"], "has to be 'NAME: VALUE'"),
        (["--bearer", "x", "--", "cat"], "--bearer is for --url"),
        (["--env", "A=1", "--url", "http://h/"], "--env is for a command"),
        (["--deny-tool", "", "--", "cat"], "a pattern has"),
        (["--per-session", "--config", "x.json"], "--per-session and --config"),
        (["--share-logs", "--config", "x.json"], "--share-logs and --config"),
        (["--host", "0.0.0.0", "--port", "0", "--", sys.executable, SERVER], "--allowed-hosts"),
        (["--ping-every", "-1", "--", "cat"], "number of seconds"),
    ],
)
@pytest.mark.long
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    done = subprocess.run([*PROXY, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert says in last and "Traceback" not in done.stderr and "hush" not in done.stderr


BROWSER = {"Accept": "text/html,*/*;q=0.8"}


async def shown(server: Any, path: str, **headers: str) -> Any:
    async with RawClient(server.port) as client:
        return await client.request("GET", path, {**BROWSER, **headers})


async def test_a_browser_finds_the_list_of_servers_and_a_page_at_each() -> None:
    entries = {"two": entry("two"), "one-<b>": entry("one")}
    async with gateway(entries, page=True, trusted_proxies=["127.0.0.1"]) as server:
        answer = await shown(server, "/")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        links = re.findall(r'<a href="([^"]*)">([^<]*)</a>', answer.body.decode())
        assert links == [("./servers/one-&lt;b&gt;/mcp", "one-&lt;b&gt;"), ("./servers/two/mcp", "two")]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert b'href="/tools/servers/two/mcp"' in (await shown(server, "/", **{"X-Forwarded-Prefix": "/tools"})).body
        there = await shown(server, "/servers/two/mcp")
        assert there.status == 200 and b'name="mcp-endpoint" content=""' in there.body
        for path in ("/mcp", "/servers", "/servers/none/mcp"):
            away = await shown(server, path)
            assert (away.status, away.content_type) == (404, "text/plain") and b"/servers/NAME/mcp" in away.body
        assert (await shown(server, "/health")).content_type == "application/json"
        assert (await page(server, "/")).content_type == "application/json"
        tag = answer.headers["etag"]
        assert (await shown(server, "/", **{"If-None-Match": tag})).status == 304


async def test_a_gateway_with_a_token_or_without_pages_lists_nothing() -> None:
    for options in ({"page": True, "token": "secret", "metrics": False}, {}):
        async with gateway({"one": entry("one")}, **options) as server:
            answer = await shown(server, "/")
            assert (answer.status, answer.content_type) == (404, "text/plain") and b"one" not in answer.body
            at_one = await shown(server, "/servers/one/mcp")
            assert at_one.status == (200 if options else 406)
