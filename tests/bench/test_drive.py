# SPDX-License-Identifier: MIT
"""Connections of the load generator against servers on loopback: errors, the ends of a run, TLS, other systems."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from answering import Answering, Reply, answer, failure, last, legacy, reset, result, text
from certificates import certified, trusting

from mcp_h11 import MCPServer, start_in_thread
from mcp_h11.bench import drive as driving
from mcp_h11.bench.anyserver import ANYWHERE
from mcp_h11.bench.drive import Driver
from mcp_h11.bench.measuring import measure
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan
from mcp_h11.bench.talk import Wrong

LIMIT = 20.0  # seconds of a run that ends by its number of operations, or by its errors


def plan(port: int, scenario: str = "call", **more: Any) -> LoadPlan:
    fields: dict[str, Any] = {
        "tool": "work", "arguments": {}, "any_answer": True, "concurrency": 3, "duration": LIMIT, "warmup": 0.0,
        "most": 30, "errors_allowed": 10, "timeout": LIMIT,
    }  # fmt: skip
    return LoadPlan(ANYWHERE[scenario], port, **{**fields, **more})


def counting(calls: Callable[[int, dict[str, Any]], bytes | None]) -> Reply:
    """Calls with their number, from 1 on."""
    numbers = iter(range(1, 1_000_000))
    return legacy(lambda message, head: calls(next(numbers), message))


@pytest.fixture(scope="module")
def ours() -> Iterator[int]:
    server = MCPServer("ours")

    @server.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    with start_in_thread(server) as running:
        yield running.port


# --- what is counted ------------------------------------------------------------------------------------------------

BAD: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "HTTP 503": lambda message: answer(b"later", "503 Service Unavailable"),
    "HTTP 307": lambda message: answer(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/mcp"),
    "JSON-RPC -32602": lambda message: failure(message, -32602),
    "tool error": lambda message: text(message, "no", isError=True),
    "wrong answer": lambda message: text({"id": 1}),
    "connection reset": lambda message: reset(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "connection closed": lambda message: last(b"HTTP/1.1 200 OK\r\nContent-Le"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_error_is_counted_by_its_kind_and_the_run_goes_on(kind: str) -> None:
    reply = counting(lambda number, message: BAD[kind](message) if number == 5 else text(message))
    with Answering(reply) as server:
        found = measure(plan(server.port), None)
    assert (found.errors, found.ended) == ({kind: 1}, "operations")
    assert found.operations >= 30 and list(found.examples) == [kind]


@pytest.mark.parametrize("kind", BAD)
def test_without_a_number_of_errors_the_first_one_ends_the_run(kind: str) -> None:
    reply = counting(lambda number, message: BAD[kind](message) if number == 5 else text(message))
    with Answering(reply) as server, pytest.raises(Wrong) as caught:
        measure(plan(server.port, errors_allowed=0), None)
    assert caught.value.kind == kind


def test_a_stream_that_ends_before_its_last_event_is_an_error() -> None:
    """The script of `resume` watches the events of a stream that the server may leave open."""

    def calls(message: dict[str, Any], head: bytes) -> bytes | None:
        if head.startswith(b"GET"):
            return last(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n")
        said = [
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": number}}
            for number in range(1, 256)
        ]
        said.append({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        body = b"".join(b"id: %d\ndata: %b\n\n" % (n, json.dumps(one).encode()) for n, one in enumerate(said))
        return answer(body, kind="text/event-stream")

    def reply(message: dict[str, Any], head: bytes) -> bytes | None:
        return calls(message, head) if head.startswith(b"GET") else legacy(calls)(message, head)

    with Answering(reply) as server:
        found = measure(plan(server.port, errors_allowed=2, concurrency=1, scenario="call"), None)
        assert found.errors == {}
        load = LoadPlan(SCENARIOS["resume"], server.port, duration=LIMIT, warmup=0.0, errors_allowed=2)
        found = measure(load, None)
    assert found.errors == {"connection closed": 2} and "after 1 events" in found.examples["connection closed"]


def test_the_limit_of_errors_ends_the_run_and_one_less_does_not() -> None:
    reply = counting(lambda number, message: failure(message, -1) if number <= 4 else text(message))
    with Answering(reply) as server:
        found = measure(plan(server.port, errors_allowed=4, concurrency=1), None)
        assert (found.errors, found.ended, found.operations) == ({"JSON-RPC -1": 4}, "errors", 0)
    reply = counting(lambda number, message: failure(message, -1) if number <= 3 else text(message))
    with Answering(reply) as server:
        found = measure(plan(server.port, errors_allowed=4, concurrency=1), None)
        assert (found.errors, found.ended) == ({"JSON-RPC -1": 3}, "operations")


def test_a_server_that_is_not_there_refuses_until_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    found = measure(plan(port, errors_allowed=3), None)
    assert (found.errors, found.ended, found.operations) == ({"connection refused": 3}, "errors", 0)
    assert found.p50_us == found.max_us == 0.0 and found.histogram == []


def test_a_server_that_is_silent_is_late_by_the_limit_of_time() -> None:
    released = threading.Event()

    def calls(number: int, message: dict[str, Any]) -> bytes | None:
        if number == 1:
            assert released.wait(LIMIT)
        return text(message)

    with Answering(counting(calls)) as server:
        found = measure(plan(server.port, concurrency=1, timeout=0.1), None)
        released.set()
    assert found.errors == {"timeout": 1} and found.operations >= 30


def test_a_session_that_is_gone_is_opened_anew() -> None:
    opened: list[str] = []

    def reply(message: dict[str, Any], head: bytes) -> bytes | None:
        if message.get("method") == "initialize":
            opened.append("s")
            return result(message, {"protocolVersion": "2025-11-25"}, f"Mcp-Session-Id: s-{len(opened)}")
        if message.get("method") == "tools/call" and b"Mcp-Session-Id: s-1\r\n" in head and len(server.requests) > 8:
            return answer(b"", "404 Not Found")
        return legacy(lambda message, head: text(message))(message, head)

    with Answering(reply) as server:
        found = measure(plan(server.port, concurrency=1), None)
    assert found.errors == {"HTTP 404": 1} and len(opened) == 2 and found.operations >= 30


def test_a_connection_that_was_closed_between_two_requests_is_no_error() -> None:
    reply = counting(lambda number, message: None if number == 5 else text(message))
    with Answering(reply) as server:
        found = measure(plan(server.port, concurrency=1), None)
    assert found.errors == {} and found.reconnects == 1 and server.connections == 3  # one more ends the session


def test_each_request_has_an_id_of_its_own() -> None:
    with Answering(legacy(lambda message, head: text(message))) as server:
        measure(plan(server.port, concurrency=1), None)
        heads = [(head, message["id"]) for head, message in server.requests if message.get("method") == "tools/call"]
    ids = [id for _, id in heads]
    assert len(set(ids)) == len(ids) >= 30 and len({head for head, _ in heads}) == 1


# --- what ends a run ------------------------------------------------------------------------------------------------


def test_a_run_of_new_connections_ends_before_it_has_used_too_many_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "MAX_CONNECTS", 12)
    with Answering(legacy(lambda message, head: text(message))) as server:
        found = measure(plan(server.port, "connect", most=1_000), None)
        assert found.ended == "connections" and found.operations <= 12
        assert server.connections <= 12 + 3  # of the connections that were under way, and the one that ends sessions


@pytest.mark.parametrize("errors_allowed", [0, 100])
def test_a_warm_up_leaves_most_of_the_new_connections_to_the_run(
    monkeypatch: pytest.MonkeyPatch, errors_allowed: int
) -> None:
    monkeypatch.setattr(driving, "MAX_CONNECTS", 40)
    with Answering(legacy(lambda message, head: text(message))) as server:
        # Both last longer than a server that answers at once takes for so many connections.
        load = plan(server.port, "connect", warmup=30.0, duration=30.0, most=1_000, errors_allowed=errors_allowed)
        found = measure(load, None)
        assert found.ended == "connections" and 30 <= found.operations <= 40
        assert server.connections <= 10 + 40 + 2 * load.concurrency + 1  # of each end, and of the end of sessions


def test_a_tick_that_is_true_ends_the_run_with_the_figures_that_there_are() -> None:
    seen: list[int] = []

    def tick(driver: Driver) -> bool:
        seen.append(len(driver.latencies))
        return len(seen) > 1 and seen[-1] > 0

    with Answering(legacy(lambda message, head: text(message))) as server:
        found = measure(plan(server.port, most=1_000_000), None, tick=tick)
    assert found.ended == "interrupted" and found.operations >= seen[-1] > 0


def test_a_run_ends_by_its_time() -> None:
    with Answering(legacy(lambda message, head: text(message))) as server:
        found = measure(plan(server.port, duration=0.1, warmup=0.05, most=1_000_000), None)
    assert found.ended == "" and found.seconds >= 0.1 and found.errors == {}


# --- sockets --------------------------------------------------------------------------------------------------------


def test_it_goes_without_epoll(ours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    for scenario in ("call", "connect", "stream", "session", "behind-proxy", "call-new-head"):
        found = measure(plan(ours, scenario, tool="add", arguments={"a": 1, "b": 2}, expect="3"), None)
        assert (found.errors, found.ended) == ({}, "operations"), scenario
    found = measure(LoadPlan(SCENARIOS["echo-1k"], ours, errors_allowed=1), None)
    assert found.errors == {"JSON-RPC -32602": 1}  # no such tool


def test_an_answer_larger_than_the_buffers_arrives_whole() -> None:
    big = "x" * 3_000_000
    with Answering(legacy(lambda message, head: text(message, message["params"]["arguments"]["big"]))) as server:
        found = measure(plan(server.port, arguments={"big": big}, expect=big, most=4, concurrency=2), None)
    assert found.errors == {} and found.operations >= 4


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(authority: trustme.CA) -> ssl.SSLContext:
    return certified(authority, "127.0.0.1")


@pytest.mark.parametrize("polls", ["epoll", "selectors"])
@pytest.mark.parametrize("scenario", ["call", "connect"])
def test_it_speaks_tls(
    scenario: str, polls: str, authority: trustme.CA, secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    if polls == "selectors":
        monkeypatch.delattr(select, "epoll", raising=False)
    big = "x" * 300_000  # more than one record, and more than one buffer
    with Answering(legacy(lambda message, head: text(message, big)), secured) as server:
        load = plan(server.port, scenario, tls=trusting(authority), arguments={"big": big}, expect=big, most=8)
        found = measure(load, None)
    assert (found.errors, found.ended) == ({}, "operations")


def test_a_certificate_of_another_authority_is_an_error(secured: ssl.SSLContext) -> None:
    with Answering(legacy(lambda message, head: text(message)), secured) as server:
        found = measure(plan(server.port, tls=ssl.create_default_context(), concurrency=1, errors_allowed=2), None)
        assert found.errors == {"TLS": 2} and "certificate" in found.examples["TLS"] and server.requests == []


def test_a_name_with_several_addresses_is_asked_at_the_one_that_listens() -> None:
    with Answering(legacy(lambda message, head: text(message))) as server:
        found = measure(plan(server.port, host="localhost"), None)
        assert found.errors == {} and b"Host: localhost:" in server.requests[0][0]


def test_too_many_open_files_are_an_error_and_not_the_end(ours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1_000))

    def sometimes(*arguments: Any) -> socket.socket:
        if next(calls) == 1:
            raise OSError(24, "Too many open files")
        return socket.socket(*arguments)

    # Of the driver alone: the server is in this process too.
    monkeypatch.setattr(driving, "socket", SimpleNamespace(**{**vars(socket), "socket": sometimes}))
    found = measure(plan(ours, tool="add", arguments={"a": 1, "b": 2}), None)
    assert found.errors == {"connection: Too many open files": 1} and found.operations >= 30
