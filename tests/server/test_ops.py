# SPDX-License-Identifier: MIT
"""What whoever runs the server sees: health, readiness, metrics, the access log, traces, and what blocks the loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from patience import cheap
from rawclient import LIMIT, Legacy, Modern, RawClient, Response
from serving import LEGACY, UVLOOP, Held, call, head, modern, served, turns

import mcp_h11
from mcp_h11 import Context, MCPServer, Settings
from mcp_h11.protocol.methods import MAX_TOOL_NAME
from mcp_h11.protocol.tracecontext import MAX_BAGGAGE, MAX_TRACESTATE, MAX_TRACESTATE_MEMBERS, read_trace
from mcp_h11.runtime import watchdog
from mcp_h11.runtime.metrics import BUCKETS, MAX_SERIES, MAX_TOOLS, Histogram, Metrics
from mcp_h11.runtime.storage import MemoryEventStore, MemorySessionManager
from mcp_h11.server.ops import MAX_OPS_BODY, MAX_OPS_CONNECTIONS
from mcp_h11.server.server import Server

pytestmark = pytest.mark.anyio

ON: dict[str, Any] = {"health": True, "metrics": True}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


async def get(port: int, path: str, method: str = "GET", **headers: str | None) -> Response:
    async with RawClient(port) as client:
        await client.send(head(path, method=method, **headers))
        return await client.receive(method)


async def sample(port: int, name: str) -> float:
    """The value of one sample of /metrics, 0 where it is not there."""
    text = (await get(port, "/metrics")).body.decode()
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[0]) if found else 0.0


# --- health ------------------------------------------------------------------------------------------------------


async def test_none_of_it_is_served_unless_asked_for() -> None:
    async with served() as server:
        for path in ("/health", "/ready", "/metrics"):
            assert (await get(server.port, path)).status == 404
        assert server.runtime.metrics is None and server.recorder is None


async def test_health_says_what_it_is_and_that_it_is_well() -> None:
    async with served(health=True) as server:
        answer = await get(server.port, "/health")
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["cache-control"] == "no-store"
        said = answer.json()
        assert said.pop("uptime") >= 0
        assert said == {
            "status": "ok",
            "version": mcp_h11.__version__,
            "draining": False,
            "can_open_session": True,
            "store": "ok",
        }
        assert (await get(server.port, "/ready")).json() == {"ready": True, "reasons": []}
        assert (await get(server.port, "/metrics")).status == 404  # was not asked for


async def test_the_handler_is_never_asked() -> None:
    class Broken(Held):
        def capabilities(self) -> dict[str, Any]:
            raise AssertionError("asked")

        async def request(self, *_: Any) -> Any:
            raise AssertionError("asked")

    async with served(Broken(), **ON) as server:
        for path in ("/health", "/ready", "/metrics"):
            assert (await get(server.port, path)).status == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_only_get_and_head_are_answered(path: str) -> None:
    async with served(**ON) as server:
        full = await get(server.port, path)
        only = await get(server.port, path, "HEAD")
        assert (only.status, only.body) == (200, b"") and only.content_type == full.content_type
        for method in ("POST", "DELETE", "OPTIONS", "PUT"):
            answer = await get(server.port, path, method, Content_Length="0")
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        async with RawClient(server.port) as client:
            # Refused before its body is read.
            await client.send(head(path, method="POST", Content_Length="1000000"))
            assert (await client.receive("POST")).status == 405


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_host_and_origin_are_checked(path: str) -> None:
    async with served(**ON) as server:
        assert (await get(server.port, path, Host="evil.example")).status == 403
        assert (await get(server.port, path, Origin="https://evil.example")).status == 403
        assert (await get(server.port, path, Origin="http://localhost:3000")).status == 200
        async with RawClient(server.port) as client:
            await client.send(head(path, method="GET", Host="evil.example", Content_Length="5"))
            assert (await client.receive("GET")).status == 403


async def test_the_paths_can_be_chosen() -> None:
    paths = {"health_path": "/healthz", "ready_path": "/-/ready", "metrics_path": "/internal/metrics"}
    async with served(**ON, **paths) as server:
        for path in paths.values():
            assert (await get(server.port, path)).status == 200
        assert (await get(server.port, "/health")).status == 404


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong in (
        {"health_path": "health"},
        {"health_path": "/x", "ready_path": "/x"},
        {"metrics_path": "/mcp"},
        {"ready_path": "/a b"},
        {"access_log": "xml"},
        {"ready_lag": 0},
        {"lag_warning": 0},
        {"ops_port": -1},
    ):
        with pytest.raises(ValueError):
            Settings(**wrong)  # type: ignore[arg-type]
    Settings(ops_port=0)


def test_metrics_are_not_open_to_anybody_where_requests_are_authorized() -> None:
    for guard in ({"token": "x"}, {"authorize": lambda head: "me"}):
        with pytest.raises(ValueError, match="ops_port"):
            Settings(metrics=True, **guard)  # type: ignore[arg-type]
        Settings(metrics=True, ops_port=9100, **guard)  # type: ignore[arg-type]
        Settings(health=True, **guard)  # type: ignore[arg-type]


async def test_a_probe_needs_no_token() -> None:
    async with served(health=True, token="s3cret") as server:
        assert (await get(server.port, "/health")).status == 200
        assert (await get(server.port, "/mcp", "POST", Content_Length="0")).status == 401


async def test_full_is_when_no_session_could_be_opened() -> None:
    handler = Held()
    async with served(handler, max_sessions=1, **ON) as server, Legacy(server.port, LEGACY) as client:
        # The one there is rests, so a new one would take its place.
        assert (await get(server.port, "/health")).status == 200
        async with client.get_stream():
            health = await get(server.port, "/health")
            said = health.json()
            assert (health.status, said["status"], said["can_open_session"]) == (503, "full", False)
            ready = await get(server.port, "/ready")
            assert (ready.status, ready.json()) == (503, {"ready": False, "reasons": ["full"]})
            # As it says.
            assert (await Legacy(server.port, LEGACY).post(
                {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
                    "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}}
            )).status == 503  # fmt: skip
        with anyio.fail_after(LIMIT):
            while (await get(server.port, "/ready")).status != 200:
                await turns()


async def test_ready_says_that_no_call_can_wait_any_more() -> None:
    handler = Held()
    async with served(handler, max_running=1, max_waiting=1, **ON) as server:
        async with RawClient(server.port) as one, RawClient(server.port) as two:
            await one.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
            assert (await get(server.port, "/ready")).status == 200
            await two.send(modern("tools/call", call("hold")))
            with anyio.fail_after(LIMIT):
                while server.runtime.waiting < 1:
                    await turns()
            assert (await get(server.port, "/ready")).json()["reasons"] == ["full"]
            handler.released.set()
            await one.receive("POST")
            await two.receive("POST")
        assert (await get(server.port, "/ready")).status == 200


class Away:
    """Two stores that fail while `away` is set."""

    def __init__(self) -> None:
        outer = self
        self.away = True

        def failing(name: str, base: type) -> Any:
            async def method(self: Any, *args: Any) -> Any:
                if outer.away:
                    raise OSError("no route to the store")
                return await getattr(base, name)(self, *args)

            return method

        names = ("create", "load", "save", "delete", "touch")
        self.manager = type("M", (MemorySessionManager,), {n: failing(n, MemorySessionManager) for n in names})()
        names = ("append", "replay", "discard", "finish")
        self.events = type("E", (MemoryEventStore,), {n: failing(n, MemoryEventStore) for n in names})()


async def test_a_store_that_is_away_is_told_and_its_return_noticed() -> None:
    store = Away()
    async with served(session_manager=store.manager, health=True) as server:
        assert (await get(server.port, "/ready")).status == 200
        refused = await Legacy(server.port, LEGACY).post(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
                "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}}
        )  # fmt: skip
        assert refused.status == 503
        ready = await get(server.port, "/ready")
        assert (ready.status, ready.json()["reasons"]) == (503, ["store away"])
        health = await get(server.port, "/health")
        assert (health.status, health.json()["status"], health.json()["store"]) == (200, "degraded", "away")
        store.away = False
        # Nobody sends a client here meanwhile: it has to look for itself.
        with anyio.fail_after(LIMIT):
            while (await get(server.port, "/ready")).status != 200:
                await asyncio.sleep(0.05)


async def test_an_event_store_that_is_away_fails_no_call() -> None:
    store = Away()
    async with served(event_store=store.events, health=True) as server:
        async with Legacy(server.port, LEGACY) as client:
            answer = await client.call("tools/call", call("echo", text="x"), headers={"Accept": "text/event-stream"})
            assert answer.result["content"][0]["text"] == "x"
            assert (await get(server.port, "/health")).json()["status"] == "degraded"
            store.away = False
            with anyio.fail_after(LIMIT):
                while (await get(server.port, "/health")).json()["status"] != "ok":
                    await asyncio.sleep(0.05)


async def test_a_loop_that_is_late_is_not_ready() -> None:
    async with served(health=True, ready_lag=0.2, idle_timeout=0.2) as server:
        assert (await get(server.port, "/ready")).status == 200
        await asyncio.sleep(0)
        time.sleep(0.5)
        answer = await get(server.port, "/ready")
        assert (answer.status, answer.json()["reasons"]) == (503, ["loop lag"])
        with anyio.fail_after(LIMIT):
            while (await get(server.port, "/ready")).status != 200:
                await asyncio.sleep(0.02)


# --- a port of its own -------------------------------------------------------------------------------------------


async def test_on_a_port_of_their_own_they_are_on_no_other(anyio_backend: Any) -> None:
    async with served(ops_port=0, **ON) as server:
        assert server.ops_port not in (0, server.port)
        for path in ("/health", "/ready", "/metrics"):
            assert (await get(server.port, path)).status == 404
            assert (await get(server.ops_port, path)).status == 200
        assert (await get(server.ops_port, "/mcp")).status == 404
        async with RawClient(server.ops_port) as client:
            await client.send(modern("server/discover"))
            assert (await client.receive("POST")).status == 404
            await client.send(head("/health", method="GET"))
            assert (await client.receive("GET")).status == 200  # the connection lives
        assert (await get(server.ops_port, "/health", Host="evil.example")).status == 403
        assert not server.connections


async def test_a_port_of_their_own_is_all_it_takes() -> None:
    async with served(ops_port=0, token="s3cret") as server:
        assert (await get(server.ops_port, "/metrics")).status == 200


async def test_they_may_have_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "ops.sock"
    async with served(ops_uds=str(path)) as server:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(head("/health", method="GET", Connection="close"))
        with anyio.fail_after(LIMIT):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert server.ops_port == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.1.2.3:9100", 200), ("192.0.2.7", 200), ("[2001:db8::7]:9100", 200), ("localhost", 200),
        ("ops.example", 200), ("ops.example:9100", 200), ("main.example", 200),
        ("evil.example", 403), ("10.1.2.3.evil.example", 403), ("10.1.2.256", 403), ("0x7f.1", 403), ("1.2.3", 403),
        ("10.1.2.3 ", 200), ("user@10.1.2.3", 400), ("[::1%25eth0]", 400), ("", 400),  # h11 refuses the last three
    ],
)  # fmt: skip
async def test_a_port_of_their_own_is_called_by_numbers_and_by_its_names(host: str, status: int) -> None:
    hosts = {"ops_hosts": ("ops.example",), "allowed_hosts": ("main.example", "localhost")}
    async with served(ops_host="0.0.0.0", ops_port=0, **hosts) as server:
        assert (await get(server.ops_port, "/health", Host=host)).status == status
        refused = await get(server.ops_port, "/health", Host=host, Origin="http://evil.example")
        assert refused.status == (400 if status == 400 else 403)


async def test_numbers_are_no_hosts_of_the_endpoint() -> None:
    async with served(**ON) as server:
        for path in ("/health", "/mcp"):
            assert (await get(server.port, path, Host="10.1.2.3")).status == 403


def test_a_name_of_ops_hosts_that_is_none_is_refused() -> None:
    from mcp_h11.server.ops import ops_hosts

    with pytest.raises(ValueError, match="not a host"):
        ops_hosts(Settings(ops_hosts=("http://ops.example",)), [])


async def test_who_watches_sees_the_server_drain() -> None:
    handler = Held()
    seen: list[Any] = []
    async with served(handler, ops_port=0) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        closing = asyncio.ensure_future(server.aclose())
        await turns()
        ops_port = server.ops_port
        ready, health = await get(server.ops_port, "/ready"), await get(server.ops_port, "/health")
        seen += [ready.status, ready.json()["reasons"], health.status, health.json()["status"]]
        assert await sample(server.ops_port, "mcp_h11_draining") == 1
        with pytest.raises(OSError):
            await RawClient(server.port).connect()
        handler.released.set()
        assert (await client.receive("POST")).status == 200
        await closing
        with pytest.raises(OSError):
            await RawClient(ops_port).connect()
    assert seen == [503, ["draining"], 503, "draining"]


async def test_a_load_balancer_hears_of_the_end_before_requests_are_refused() -> None:
    async with served(ops_port=0, drain_delay=10 * LIMIT) as server:
        server.stop()
        closing = asyncio.ensure_future(server.aclose())
        await turns()
        ready = await get(server.ops_port, "/ready")
        assert (ready.status, ready.json()["reasons"]) == (503, ["draining"])
        assert (await get(server.ops_port, "/health")).json()["status"] == "ok"
        async with RawClient(server.port) as client:
            await client.send(modern("tools/call", call("echo")))
            assert (await client.receive("POST")).status == 200
        server.stop()  # a second one ends that time
        with anyio.fail_after(LIMIT):
            await closing


async def test_that_time_ends() -> None:
    async with served(drain_delay=0.05) as server:
        with anyio.fail_after(LIMIT):
            await server.aclose()
        with pytest.raises(OSError):
            await RawClient(server.port).connect()


async def test_a_server_that_another_replaces_has_no_such_time() -> None:
    async with served(drain_delay=10 * LIMIT) as server:
        with anyio.fail_after(LIMIT):
            await server.retire(0.05)
            await server.aclose()


# --- metrics -----------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, str]:
    """The type of each metric; every line has to have the format."""
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r'([a-z0-9_]+)(\{(?:[a-z_]+="[^"\\\n]*",?)+\})? ([0-9.e+-]+)', line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in types or types[base] == "histogram", line
    assert text.endswith("\n")
    return types


async def test_metrics_have_the_format_and_the_names() -> None:
    async with served(**ON) as server:
        async with Legacy(server.port, LEGACY) as client:
            await client.call("tools/call", call("echo", text="x"))
        answer = await get(server.port, "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        types = parsed(answer.body.decode())
        assert types["mcp_server_operation_duration_seconds"] == "histogram"
        assert types["mcp_server_session_duration_seconds"] == "histogram"
        assert types["mcp_h11_responses_total"] == types["mcp_h11_sent_bytes_total"] == "counter"
        assert types["mcp_h11_connections"] == types["mcp_h11_calls_waiting"] == "gauge"


def labelled(method: str, tool: str, error: str) -> str:
    given = {"mcp_method_name": method, "gen_ai_tool_name": tool, "error_type": error}
    return ",".join(f'{label}="{value}"' for label, value in given.items() if value)


async def test_operations_are_counted_by_method_by_tool_and_by_kind_of_error() -> None:
    handler = Held()

    @handler.tool
    async def fail() -> str:
        raise RuntimeError("no")

    @handler.tool
    async def flaky(fails: bool = False) -> str:
        assert not fails
        return "yes"

    async with served(handler, **ON) as server:
        async with Legacy(server.port, LEGACY) as client:
            for _ in range(3):
                await client.call("tools/call", call("echo", text="x"))
            await client.call("tools/call", call("fail"))
            await client.call("tools/call", call("nothing"))
        one = Modern(server.port)
        await one.call("tools/call", call("echo", text="x"))
        await one.call("tools/call", call("fail"))
        await one.call("no/such")
        await one.call("no/such/either")
        await one.call("tools/call", call("flaky", fails=True))
        await one.call("tools/call", call("flaky"))
        await one.call("tools/call", call("flaky", fails=True))
        counts = {
            labels: await sample(server.port, f"mcp_server_operation_duration_seconds_count{{{labelled(*labels)}}}")
            for labels in [
                ("initialize", "", ""), ("notifications/initialized", "", ""), ("tools/call", "echo", ""),
                ("tools/call", "_OTHER", "tool_error"), ("tools/call", "_OTHER", "-32602"), ("_OTHER", "", "-32601"),
                ("tools/call", "flaky", ""), ("tools/call", "flaky", "tool_error"),
            ]
        }  # fmt: skip
        text = (await get(server.port, "/metrics")).body.decode()
        assert counts == {
            ("initialize", "", ""): 1,
            ("notifications/initialized", "", ""): 1,
            ("tools/call", "echo", ""): 4,
            # Of tools that have only failed nobody knows yet whether they are there.
            ("tools/call", "_OTHER", "tool_error"): 3,
            ("tools/call", "_OTHER", "-32602"): 1,
            ("tools/call", "flaky", ""): 1,
            ("tools/call", "flaky", "tool_error"): 1,
            ("_OTHER", "", "-32601"): 2,
        }, text
        assert "no/such" not in text and '"nothing"' not in text
        assert await sample(server.port, "mcp_server_session_duration_seconds_count") == 1


async def test_a_duration_is_that_of_the_call() -> None:
    handler = Held()
    async with served(handler, **ON) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        assert await sample(server.port, "mcp_h11_calls_running") == 1
        asyncio.get_running_loop().call_later(0.25, handler.released.set)
        await client.receive("POST")
        labels = labelled("tools/call", "hold", "")
        bucket = f'mcp_server_operation_duration_seconds_bucket{{{labels},le="%s"}}'
        assert await sample(server.port, bucket % "0.2") == 0
        assert await sample(server.port, bucket % "+Inf") == 1
        total = await sample(server.port, f"mcp_server_operation_duration_seconds_sum{{{labels}}}")
        assert 0.25 <= total < LIMIT
        assert await sample(server.port, "mcp_h11_calls_running") == 0


async def test_what_is_open_is_what_the_gauges_say() -> None:
    async with served(**ON) as server:
        async with Legacy(server.port, LEGACY) as client, client.get_stream():
            async with Modern(server.port).listen(toolsListChanged=True) as listening:
                await listening.next_message()
                text = (await get(server.port, "/metrics")).body.decode()
                for name, value in {"connections": 3, "sessions": 1, "streams": 2, "listeners": 1}.items():
                    assert f"\nmcp_h11_{name} {value}\n" in text


async def test_refusals_are_counted_by_status() -> None:
    async with served(**ON) as server:
        await get(server.port, "/mcp", Host="evil.example")
        await get(server.port, "/nowhere")
        async with RawClient(server.port) as client:
            await client.send(b"nonsense\r\n\r\n")
            await client.receive("GET")
        async with RawClient(server.port) as client:
            await client.send(head(Content_Length="99999999"))
            await client.receive("POST")
        for code in (400, 403, 404, 413):
            assert await sample(server.port, f'mcp_h11_responses_total{{http_response_status_code="{code}"}}') == 1


async def test_bytes_are_those_on_the_wire() -> None:
    async with served(ops_port=0) as server:
        data = modern("server/discover")
        async with RawClient(server.port) as client:
            await client.send(data)
            answer = await client.receive("POST")
            assert await sample(server.ops_port, "mcp_h11_received_bytes_total") == len(data)
            sent = await sample(server.ops_port, "mcp_h11_sent_bytes_total")
            assert sent > len(answer.body)
        with anyio.fail_after(LIMIT):
            while server.connections:
                await turns()
        # Of connections that are gone as well.
        assert await sample(server.ops_port, "mcp_h11_received_bytes_total") == len(data)
        assert await sample(server.ops_port, "mcp_h11_sent_bytes_total") == sent


def test_a_duration_at_a_limit_is_below_it() -> None:
    histogram = Histogram()
    histogram.observe(BUCKETS[0])
    histogram.observe(BUCKETS[0] * 1.01)
    histogram.observe(BUCKETS[-1] * 2)
    lines = list(histogram.lines("x", ""))
    assert lines[:2] == ['x_bucket{le="0.01"} 1', 'x_bucket{le="0.02"} 2']
    assert lines[-4:-2] == ['x_bucket{le="300"} 2', 'x_bucket{le="+Inf"} 3'] and lines[-1] == "x_count 3"


def test_a_client_cannot_make_labels() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.operation(f"made/up/{number}", "", 0.1)
    assert list(metrics.operations) == [("_OTHER", "", "")]
    for code in range(2 * MAX_SERIES):
        metrics.operation("tools/list", str(code), 0.1)  # a handler may use any code, and pass on a client's
    assert len(metrics.operations) == MAX_SERIES + 1
    assert metrics.operations[("tools/list", "", "_OTHER")].counts[3] == MAX_SERIES + 1
    metrics.operation("prompts/get", "", 0.1)  # what succeeds is never an error, however full it is
    assert metrics.operations[("prompts/get", "", "")].counts[3] == 1
    metrics = Metrics()
    metrics.operation("tools/call", 'a"b\\c\nd', 0.1)
    assert r'error_type="a\"b\\c\nd"' in metrics.render({}, 0, 0).decode()


def test_tools_have_labels_to_the_limit_and_names_of_a_length() -> None:
    metrics = Metrics()
    for number in range(MAX_TOOLS):
        metrics.operation("tools/call", "", 0.1, f"tool{number}")
    assert len(metrics.operations) == MAX_TOOLS
    metrics.operation("tools/call", "", 0.1, "one too many")
    metrics.operation("tools/call", "tool_error", 0.1, "tool0")
    assert len(metrics.operations) == MAX_TOOLS + 2
    assert metrics.operations[("tools/call", "_OTHER", "")].counts[3] == 1
    assert metrics.operations[("tools/call", "tool0", "tool_error")].counts[3] == 1
    metrics = Metrics()
    for name in ("x" * MAX_TOOL_NAME, "x" * (MAX_TOOL_NAME + 1), ""):
        metrics.operation("tools/call", "", 0.1, name)
    metrics.operation("prompts/get", "", 0.1, "tool")
    assert set(metrics.operations) == {
        ("tools/call", "x" * MAX_TOOL_NAME, ""),
        ("tools/call", "_OTHER", ""),
        ("prompts/get", "", ""),
    }


async def test_a_client_that_leaves_before_its_answer_makes_no_label() -> None:
    handler = Held()
    async with served(handler, **ON) as server:
        async with RawClient(server.port) as client:
            await client.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
        await handler.until(cancelled=1)
        labels = labelled("tools/call", "_OTHER", "disconnected")
        assert await sample(server.port, f"mcp_server_operation_duration_seconds_count{{{labels}}}") == 1


# --- the access log ------------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mcp_h11.connection.access"]


async def test_a_line_says_which_session_method_principal_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")

    def authorize(head: Any) -> str:
        return "alice liddell"

    async with served(access_log=True, authorize=authorize) as server, Legacy(server.port, LEGACY) as client:
        session = str(client.session)
        params = {**call("echo", text="s3cret"), "_meta": {"traceparent": PARENT}}
        await client.call("tools/call", params, headers={"Authorization": "Bearer t0ken"})
    line = next(line for line in lines(caplog) if "tools/call" in line)
    assert re.fullmatch(
        r'127\.0\.0\.1 "POST /mcp" 200 \d+\.\d{3}s rpc=tools/call session=(\S{8}) principal=alice\?liddell '
        rf"trace={TRACE_ID} span=00f067aa0ba902b7",
        line,
    )
    assert f"session={session[:8]} " in line
    assert not [line for line in lines(caplog) if session in line or "s3cret" in line or "t0ken" in line]


async def test_a_line_may_be_json(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    async with served(access_log="json") as server:
        async with RawClient(server.port) as client:
            await client.send(modern("tools/call", call("nothing"), traceparent=PARENT) + b"nonsense\r\n\r\n")
            await client.receive("POST")
            await client.receive("GET")
    first, second = (json.loads(line) for line in lines(caplog))
    assert first.pop("seconds") >= 0
    assert first == {
        "peer": "127.0.0.1",
        "method": "POST",
        "path": "/mcp",
        "status": 400,
        "rpc": "tools/call",
        "error": "-32602",
        "trace": TRACE_ID,
        "span": "00f067aa0ba902b7",
    }
    assert second == {"peer": "127.0.0.1", "method": "-", "path": "-", "status": 400}


@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_a_client_chooses_begins_a_new_line(form: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    async with served(access_log=form) as server:
        one = Modern(server.port)
        one.check = False
        evil = 'a\r\n127.0.0.1 "GET /" 200\x1b[31m\u2028' + "x" * 5000
        await one.post(one.request(evil), {"Mcp-Session-Id": "x" * 500, "Mcp-Method": "tools/list"})
    (line,) = lines(caplog)
    assert "\n" not in line and "\r" not in line and "\x1b" not in line and "\u2028" not in line
    assert len(line) < 700 and "x" * 101 not in line


async def test_a_line_of_little_is_short(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    async with served(access_log="text") as server:
        async with RawClient(server.port) as client:
            await client.send(modern("server/discover", Accept="text/event-stream") + b"nonsense\r\n\r\n")
            assert (await client.receive("POST")).content_type == "text/event-stream"
            await client.receive("GET")
    first, second = lines(caplog)
    assert re.fullmatch(r'127\.0\.0\.1 "POST /mcp" 200 \d\.\d{3}s rpc=server/discover', first)
    assert second == '127.0.0.1 "- -" 400'


async def test_nothing_is_made_for_a_log_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mcp_h11.connection.access")
    async with served(access_log=True) as server:
        await Modern(server.port).call("server/discover")
    assert lines(caplog) == []


# --- traces --------------------------------------------------------------------------------------------------------


class Traced(MCPServer):
    def __init__(self) -> None:
        super().__init__("traced")
        self.add_tool(self.seen, name="seen")

    async def seen(self, ctx: Context) -> dict[str, Any]:
        trace = ctx.trace
        if trace is None:
            return {}
        return {
            "parent": trace.traceparent, "state": trace.tracestate, "baggage": trace.baggage,
            "id": trace.trace_id, "span": trace.parent_id, "sampled": trace.sampled,
        }  # fmt: skip


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_trace_reaches_the_handler(era: str) -> None:
    async with served(Traced()) as server:
        one: Any = Legacy(server.port, LEGACY) if era == "legacy" else Modern(server.port)
        if era == "legacy":
            await one.initialize()
        meta = {"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE", "baggage": "userId=alice"}
        params = {**call("seen"), "_meta": meta}
        full = {
            "parent": PARENT, "state": "congo=t61rcWkgMzE", "baggage": "userId=alice",
            "id": TRACE_ID, "span": "00f067aa0ba902b7", "sampled": True,
        }  # fmt: skip
        other = PARENT.replace("4bf9", "aaaa")
        answer = await one.call("tools/call", params, headers={"traceparent": other})
        assert answer.result["structuredContent"] == full  # _meta goes first
        answer = await one.call("tools/call", call("seen"), headers={**meta})
        assert answer.result["structuredContent"] == full
        answer = await one.call("tools/call", call("seen"))
        assert answer.result["structuredContent"] == {}
        answer = await one.call("tools/call", {**call("seen"), "_meta": {"traceparent": 7, "baggage": ["x"]}})
        assert answer.result["structuredContent"] == {}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (PARENT, True),
        (f" {PARENT}\t", True),
        (PARENT[:-2] + "00", True),
        ("cc" + PARENT[2:] + "-what-the-future-holds", True),
        ("cc" + PARENT[2:], True),
        ("00" + PARENT[2:] + "-more", False),
        ("cc" + PARENT[2:] + "more", False),
        ("ff" + PARENT[2:], False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT + "0", False),
        (PARENT.replace(TRACE_ID, "0" * 32), False),
        (PARENT.replace("00f067aa0ba902b7", "0" * 16), False),
        (PARENT.replace("-", "_"), False),
        (PARENT + "\n", False),
        (PARENT.replace("4bf9", "٤bf9"), False),
        ("cc" + PARENT[2:] + "-" + "x" * MAX_TRACESTATE, False),
        ("", False),
    ],
)
def test_a_traceparent_has_its_format_or_is_none(value: str, good: bool) -> None:
    trace = read_trace({"traceparent": value, "tracestate": "a=1"})
    assert (trace is not None) == good
    if trace is not None:
        assert trace.traceparent == value.strip() and trace.tracestate == "a=1"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True),
        ("a=1", True),
        ("fw529a3039@dt=FfSkN", True),
        ("a=b c", True),
        ("a=1,a=2", False),
        ("A=1", False),
        ("a=", False),
        ("a=1=2", False),
        ("a", False),
        ("a=é", False),
        (",".join(f"k{i}=1" for i in range(MAX_TRACESTATE_MEMBERS)), True),
        (",".join(f"k{i}=1" for i in range(MAX_TRACESTATE_MEMBERS + 1)), False),
        ("a=" + "x" * 256, True),
        ("a=" + "x" * 257, False),
        (",".join(["a=" + "x" * 248, "b=" + "x" * 248, "c=" + "y" * 8]), True),
        (",".join(["a=" + "x" * 249, "b=" + "x" * 249, "c=" + "y" * 10]), False),
    ],
)
def test_a_tracestate_has_its_format_or_is_none(value: str, kept: bool) -> None:
    trace = read_trace({"traceparent": PARENT, "tracestate": value})
    assert trace is not None and trace.tracestate == (value if kept else "")
    assert read_trace({"tracestate": value}) is None  # nothing without a parent


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("userId=Am%C3%A9lie,serverNode=DF:28;secure;level=3", True),
        ("a=", True),
        ("a = 1", True),
        ("a", False),
        ("a=b c", False),
        ('a="b"', False),
        ("ключ=1", False),
        ("a=" + "x" * (MAX_BAGGAGE - 2), True),
        ("a=" + "x" * (MAX_BAGGAGE - 1), False),
        (",".join(f"k{i}=1" for i in range(64)), True),
        (",".join(f"k{i}=1" for i in range(65)), False),
    ],
)
def test_baggage_has_its_format_or_is_none(value: str, kept: bool) -> None:
    trace = read_trace({"baggage": value})
    assert (trace is not None and trace.baggage == value) if kept else trace is None


def test_several_headers_are_one_list_but_no_parent() -> None:
    fields = {"traceparent": [PARENT], "tracestate": ["a=1", "b=2"], "baggage": ["c=3", "d=4"]}
    trace = read_trace({}, lambda name: fields[name])
    assert trace is not None and (trace.tracestate, trace.baggage) == ("a=1,b=2", "c=3,d=4")
    fields["traceparent"] = [PARENT, PARENT]
    trace = read_trace({}, lambda name: fields[name])
    assert trace is not None and (trace.traceparent, trace.tracestate, trace.sampled) == ("", "", False)


def test_reading_hostile_baggage_takes_no_time() -> None:
    with cheap(1.0):
        for evil in ("a=;" * 2700 + "\x00", "a=1" + ";a" * 4000 + " ", "a=1" + " " * 8000 + "x", "a" * 8192):
            read_trace({"traceparent": PARENT, "tracestate": evil, "baggage": evil})


# --- what blocks the loop --------------------------------------------------------------------------------------------


class Noticed:
    """The stalls that watchdogs notice, whether they tell of them or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stalls = 0
        blocked = watchdog.Watchdog._blocked

        def count(dog: watchdog.Watchdog, frame: Any) -> None:
            blocked(dog, frame)
            self.stalls += 1

        monkeypatch.setattr(watchdog.Watchdog, "_blocked", count)


@pytest.fixture
def noticed(monkeypatch: pytest.MonkeyPatch) -> Noticed:
    return Noticed(monkeypatch)


class Blocking(Held):
    """Tools that block the loop for so long, and with `noticed` until the watchdog, a thread, had its turn as well."""

    def __init__(self, noticed: Noticed | None = None) -> None:
        super().__init__()
        self.noticed = noticed
        for tool in (self.stall, self.inline):
            self.add_tool(tool, name=tool.__name__, thread=False)

    async def stall(self, seconds: float) -> str:
        noticed, end = self.noticed, time.monotonic() + LIMIT
        before = noticed.stalls if noticed else 0
        time.sleep(seconds)
        while noticed and noticed.stalls == before and time.monotonic() < end:  # no helper: it would be named
            time.sleep(0.05)
        return "stalled"

    def inline(self, seconds: float) -> str:
        noticed, end = self.noticed, time.monotonic() + LIMIT
        before = noticed.stalls if noticed else 0
        time.sleep(seconds)
        while noticed and noticed.stalls == before and time.monotonic() < end:
            time.sleep(0.05)
        return "stalled"


def warnings(caplog: pytest.LogCaptureFixture, about: str = "") -> list[str]:
    """The warnings with this text: a machine that is busy stops the loop as well, and is told of."""
    told = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.runtime.watchdog"]
    return [line for line in told if about in line]


@pytest.fixture
def all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning keeps no other one back."""
    monkeypatch.setattr(watchdog, "QUIET_TIME", 0.0)


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tool", ["stall", "inline"])
async def test_a_tool_that_blocks_the_loop_is_named(
    tool: str, caplog: pytest.LogCaptureFixture, noticed: Noticed, all_told: None
) -> None:
    async with served(Blocking(noticed)) as server:
        await Modern(server.port).call("tools/call", call(tool, seconds=0.8))
    (warning,) = warnings(caplog, "by tools/call")
    assert warning.startswith(f"the event loop has been blocked for 0.25 s by tools/call '{tool}', in {tool} at ")
    assert "test_ops.py:" in warning and "0.8" not in warning


async def test_one_stall_is_one_warning_and_warnings_are_rare(
    caplog: pytest.LogCaptureFixture, noticed: Noticed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "QUIET_TIME", 10 * LIMIT)
    async with served(Blocking(noticed), lag_warning=0.05) as server:
        one = Modern(server.port)
        await one.call("tools/call", call("stall", seconds=0.6))
        await one.call("tools/call", call("stall", seconds=0.3))
        assert len(warnings(caplog)) == 1
        monkeypatch.setattr(watchdog, "QUIET_TIME", 0.0)
        more = noticed.stalls - 1
        await one.call("tools/call", call("stall", seconds=0.3))
    assert more >= 1 and len(warnings(caplog)) == noticed.stalls - more
    assert warnings(caplog)[1].endswith(f"; {more} more since the last warning")


async def test_a_call_that_waits_blocks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    handler = Blocking()
    handler.unblocked.set()
    async with served(handler, lag_warning=0.25) as server, RawClient(server.port) as client:
        # A call that starts a thread waits for its first step, which a busy machine may hold up.
        await Modern(server.port).call("tools/call", call("block"))
        handler.unblocked.clear()
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=2)
        await asyncio.sleep(0.4)
        handler.released.set()
        await client.receive("POST")
        blocked = asyncio.ensure_future(Modern(server.port).call("tools/call", call("block")))
        await handler.until(started=3)
        await asyncio.sleep(0.3)
        handler.unblocked.set()
        await blocked
    # A machine that is busy stops the loop in no call.
    assert [line for line in warnings(caplog) if "by no call of a client" not in line] == []


async def test_a_server_at_rest_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Blocking()) as server:
        asked: list[Any] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args, **kwargs: asked.append(args))
        await asyncio.sleep(5 * watchdog.PAUSE)
        monkeypatch.undo()
        assert not asked and not server.runtime.tasks


@pytest.fixture
def soon_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog rests some milliseconds after the last call."""
    monkeypatch.setattr(watchdog, "PAUSE", 0.002)
    monkeypatch.setattr(watchdog, "IDLE_PAUSES", 2)


async def rests(server: Server) -> None:
    """Until the watchdog of the server waits for the next call."""
    with anyio.fail_after(LIMIT):
        while server.runtime.gate.easy:
            await asyncio.sleep(0)


@pytest.mark.parametrize("tool", ["stall", "inline"])
async def test_a_watchdog_at_rest_wakes_for_a_call(
    tool: str, caplog: pytest.LogCaptureFixture, soon_at_rest: None, noticed: Noticed, all_told: None
) -> None:
    async with served(Blocking(noticed)) as server:
        for number in range(2):
            await rests(server)
            await Modern(server.port).call("tools/call", call(tool, seconds=0.5))
            assert len(warnings(caplog, f"by tools/call '{tool}', in {tool} at ")) == number + 1


async def test_a_watchdog_at_rest_wakes_for_a_notification(
    caplog: pytest.LogCaptureFixture, soon_at_rest: None, noticed: Noticed, all_told: None
) -> None:
    class Told(Held):
        async def notification(self, method: str, params: Any, ctx: Any) -> None:
            await asyncio.sleep(0)
            before, end = noticed.stalls, time.monotonic() + LIMIT
            while noticed.stalls == before and time.monotonic() < end:
                time.sleep(0.05)

    async with served(Told()) as server, Legacy(server.port, LEGACY) as client:
        await rests(server)
        await client.notify("notifications/custom")
        await client.call("ping")
        assert warnings(caplog, ", in notification at ")


async def test_a_watchdog_that_asks_to_rest_is_silent_about_the_programs_own_stalls(
    caplog: pytest.LogCaptureFixture, soon_at_rest: None
) -> None:
    async with served(Blocking(), lag_warning=0.1) as server:
        for _ in range(3):
            await Modern(server.port).call("tools/call", call("stall", seconds=0))
            said = warnings(caplog)
            time.sleep(0.3)  # the thread asks meanwhile whether it may rest
            await rests(server)
            assert warnings(caplog) == said


async def test_a_call_wakes_all_that_rest_at_its_gate(soon_at_rest: None) -> None:
    async with served(Blocking()) as server:
        await rests(server)
        woken: list[tuple[int, bool]] = []
        gate = server.runtime.gate

        def wake(number: int) -> None:
            woken.append((number, bool(gate.easy)))  # seen here, since the watchdog may rest again before the answer

        for number in (1, 2):
            gate.rest(partial(wake, number))
        assert (await Modern(server.port).call("tools/call", call("stall", seconds=0))).status == 200
        assert woken == [(1, True), (2, True)]


async def test_nobody_watches_where_it_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())  # other tests of this process may have left some

    def watching() -> int:
        return sum(thread.name == "mcp_h11 watchdog" for thread in set(threading.enumerate()) - before)

    async with served(Blocking(), lag_warning=None) as server:
        assert watching() == 0
        await Modern(server.port).call("tools/call", call("stall", seconds=0.4))
    assert warnings(caplog) == []
    async with served(Blocking()):
        assert watching() == 1
    assert watching() == 0


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_turns_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.cli import main as cli_main
    from mcp_h11.cli import serving

    seen: list[Settings] = []
    monkeypatch.setattr(serving, "run", lambda handler, *, settings, **options: seen.append(settings))
    assert cli_main.main([]) == 0
    arguments = (
        "--health --metrics --ops-port 0 --ops-host ::1 --call-timeout 2.5 --access-log --access-log-format json"
    )
    assert cli_main.main(arguments.split()) == 0
    assert cli_main.main(["--access-log"]) == 0
    off, on, text = seen
    assert not (off.health or off.metrics or off.access_log or off.apart or off.call_timeout)
    assert (on.health, on.metrics, on.ops_port, on.ops_host) == (True, True, 0, "::1")
    assert (on.call_timeout, on.access_log, text.access_log) == (2.5, "json", "text")


@pytest.mark.parametrize("wrong", ["0", "0.0", "-1", "nan", "inf", "1e3", "", "soon"])
def test_a_call_timeout_is_a_number_of_seconds(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    from mcp_h11.cli import main as cli_main

    assert cli_main.main(["--call-timeout", wrong]) == 2
    assert "seconds" in capsys.readouterr().err


async def test_an_ops_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    from mcp_h11.cli import main as cli_main

    async with served() as server:
        arguments = ["--port", "0", "--ops-port", str(server.port)]
        assert await anyio.to_thread.run_sync(cli_main.main, arguments) == 2
        said = f"the ops port {server.port} of 127.0.0.1: it is already in use; --ops-port takes another\n"
    assert capsys.readouterr().err.endswith(said)


# --- what is rare ------------------------------------------------------------------------------------------------


async def test_streams_and_batches_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    async with served(access_log="json") as server:
        async with Legacy(server.port, "2025-03-26") as client:
            async with client.get_stream():
                pass
            await client.post([{"jsonrpc": "2.0", "id": 1, "method": "ping"}])
        with anyio.fail_after(LIMIT):
            while len(lines(caplog)) < 5:
                await turns()
    said = [json.loads(line) for line in lines(caplog)]
    assert {(one["method"], one["status"], one.get("rpc")) for one in said} == {
        ("POST", 200, "initialize"),
        ("POST", 202, "notifications/initialized"),
        ("GET", 200, None),
        ("POST", 200, "batch"),
        ("DELETE", 204, None),
    }


async def test_a_probe_with_a_body_is_answered_when_it_is_here() -> None:
    async with served(health=True, authorize=lambda head: None) as server, RawClient(server.port) as client:
        first = head("/health", method="GET", Content_Length="5", Expect="100-continue")
        await client.send(first)
        assert (await client.receive_head()).status == 100
        await client.send(b"hello")
        assert (await client.receive("GET")).status == 200
        # What is not a probe is asked who it is, as ever.
        await client.send(head(Content_Length="5", Expect="100-continue"))
        assert (await client.receive("POST")).status == 401


async def test_a_body_on_the_ops_port_is_refused_or_dropped() -> None:
    async with served(ops_port=0) as server:
        for path, status in (("/nowhere", 404), ("/health", 405)):
            async with RawClient(server.ops_port) as client:
                await client.send(head(path, Content_Length="5"))
                answer = await client.receive("POST")
                assert (answer.status, answer.headers["connection"]) == (status, "close")
        async with RawClient(server.ops_port) as client:
            await client.send(head("/health", method="GET", Content_Length="5") + b"he")
            await client.send(b"llo" + head("/ready", method="GET"))
            assert [(await client.receive("GET")).status for _ in range(2)] == [200, 200]
            await client.send(head("/health", method="GET", Content_Length=str(MAX_OPS_BODY)) + b"x" * MAX_OPS_BODY)
            assert (await client.receive("GET")).status == 200
            await client.send(head("/health", method="GET", Content_Length=str(MAX_OPS_BODY + 1)))
            assert (await client.receive("GET")).status == 413


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\n", None])
async def test_connections_that_wait_do_not_keep_a_probe_out(begun: bytes | None) -> None:
    async with served(ops_port=0) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(server.ops_port)) for _ in range(MAX_OPS_CONNECTIONS)]
        for client in clients:
            if begun is None:
                await client.send(head("/health", method="GET"))
                assert (await client.receive("GET")).status == 200
            else:
                await client.send(begun)
        assert server.ops is not None
        for _ in range(3):
            probe = await stack.enter_async_context(RawClient(server.ops_port))
            await probe.send(head("/health", method="GET"))
            assert (await probe.receive("GET")).status == 200
        assert len(server.ops.connections) <= MAX_OPS_CONNECTIONS
        # The endpoint has a limit of its own.
        assert (await Modern(server.port).call("server/discover")).status == 200


async def test_a_port_whose_answers_are_all_due_refuses_a_probe() -> None:
    async with served(ops_port=0) as server, contextlib.AsyncExitStack() as stack:
        assert server.ops is not None
        server.ops.respond = lambda request, reply: None  # type: ignore[method-assign]
        for _ in range(MAX_OPS_CONNECTIONS):
            client = await stack.enter_async_context(RawClient(server.ops_port))
            await client.send(head("/health", method="GET"))
        while sum(connection.spare == 0 for connection in server.ops.connections) < MAX_OPS_CONNECTIONS:
            await asyncio.sleep(0)
        client = await stack.enter_async_context(RawClient(server.ops_port))
        assert (await client.receive("GET")).status == 503


async def test_a_stall_that_is_no_call_is_told_as_well(
    caplog: pytest.LogCaptureFixture, noticed: Noticed, all_told: None
) -> None:
    class Told(Held):
        async def notification(self, method: str, params: Any, ctx: Any) -> None:
            await asyncio.sleep(0)
            before, end = noticed.stalls, time.monotonic() + LIMIT
            while noticed.stalls == before and time.monotonic() < end:
                time.sleep(0.05)

    async with served(Told()) as server, Legacy(server.port, LEGACY) as client:
        await client.notify("notifications/custom")
        await client.call("ping")
    (warning,) = warnings(caplog, "in notification")
    assert warning.startswith("the event loop has been blocked for 0.25 s by no call of a client, in notification at ")


def test_a_watchdog_ends_with_its_loop_also_where_nobody_ends_it() -> None:
    async def watch() -> watchdog.Watchdog:
        return watchdog.Watchdog(0.05, lambda: True, watch.__code__, lambda wake: None)

    before = set(threading.enumerate())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(watch())
    (thread,) = set(threading.enumerate()) - before
    loop.close()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_watchdog_at_rest_ends_with_its_loop_as_well(soon_at_rest: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_TIME", 0.02)
    rested: list[Callable[[], None]] = []

    async def watch() -> None:
        watchdog.Watchdog(0.05, lambda: False, watch.__code__, rested.append)
        while not rested:
            await asyncio.sleep(0)

    before = set(threading.enumerate())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(watch(), LIMIT))
    (thread,) = set(threading.enumerate()) - before
    loop.close()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_call_that_begins_before_the_watchdog_rests_keeps_it_awake() -> None:
    busy: list[bool] = []

    async def watch() -> None:
        rested: list[Callable[[], None]] = []
        dog = watchdog.Watchdog(LIMIT, lambda: busy, watch.__code__, rested.append)
        busy.append(True)
        dog._rest()  # as the loop runs it after the call began
        assert dog._wanted.is_set() and not rested
        dog.close()

    asyncio.run(watch())
