# SPDX-License-Identifier: MIT
"""The scenario `behind-proxy`: each head is new, belongs to the open session, and was made before the first request."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest

from mcp_h11.bench import scenarios
from mcp_h11.bench.heads import HOST, Traffic
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan
from mcp_h11.bench.talk import Framing, WholeAnswer, Wrong


def read(data: bytes) -> tuple[dict[str, str], Any]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request, body = connection.next_event(), b""
    assert type(request) is h11.Request
    while type(event := connection.next_event()) is h11.Data:
        body += event.data
    assert type(event) is h11.EndOfMessage
    return {name.decode(): value.decode() for name, value in request.headers}, json.loads(body)


def answered(message: Any, wrong: int = 0, session: str | None = "s-1") -> WholeAnswer:
    """What a server says to it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json"
    if "id" not in message:
        return WholeAnswer(Framing(b"HTTP/1.1 202 Accepted"), b"")
    if message["method"] == "initialize":
        head += f"\r\nMcp-Session-Id: {session}".encode() if session else b""
        result: dict[str, Any] = {"protocolVersion": "2025-06-18"}
    else:
        arguments = message["params"]["arguments"]
        result = {"content": [{"type": "text", "text": str(arguments["a"] + arguments["b"] + wrong)}]}
    return WholeAnswer(Framing(head), json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode())


def conversation(load: LoadPlan, count: int, session: str | None = "s-1") -> list[bytes]:
    """The calls of one connection."""
    script = SCENARIOS["behind-proxy"].make(load, 3)
    request, calls = next(script), []
    while len(calls) < count:
        _, message = read(request)
        if message["method"] == "tools/call":
            calls.append(request)
            assert script.send(answered(message)) is None
            request = next(script)
        else:
            request = script.send(answered(message, session=session))
    return calls


def test_each_head_is_new_and_has_the_fields_of_the_open_session() -> None:
    load = LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=40)
    calls = conversation(load, 60)  # a third of them is made when those before the clock are used up
    heads = {data.partition(b"\r\n\r\n")[0] for data in calls}
    assert len(heads) == 60
    for fields, _ in map(read, calls):
        assert (fields["host"], fields["mcp-session-id"]) == ("127.0.0.1:8123", "s-1")
        assert fields["mcp-protocol-version"] == "2025-06-18" and fields["x-forwarded-for"]
    assert len({fields["content-length"] for fields, _ in map(read, calls)}) > 3
    assert HOST.encode() not in b"".join(calls)


def test_a_server_without_sessions_gets_no_field_of_one() -> None:
    calls = conversation(LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=10), 12, session=None)
    assert all("mcp-session-id" not in read(data)[0] for data in calls)


def test_requests_of_the_modern_era_begin_at_once_and_name_their_method() -> None:
    load = LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=8, era="modern")
    fields, message = read(conversation(load, 1)[0])
    assert (fields["mcp-method"], fields["mcp-name"], fields["mcp-protocol-version"]) == (
        "tools/call", "add", "2026-07-28",
    )  # fmt: skip
    assert "mcp-session-id" not in fields and message["params"]["_meta"]


def test_heads_are_made_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    class Counting(Traffic):
        def request(self, *args: Any, **options: Any) -> bytes:
            nonlocal made
            made += 1
            return super().request(*args, **options)

    monkeypatch.setattr(scenarios, "Traffic", Counting)
    load = LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=40, concurrency=2)
    SCENARIOS["behind-proxy"].make(load, 0).close()
    assert made == 20


def test_connections_of_one_run_share_the_clients_and_no_head() -> None:
    load = LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=40, concurrency=2)
    both = [*conversation(load, 20), *conversation(load, 20)]
    assert len(set(both)) == 40


def test_the_token_of_the_user_is_sent_in_place_of_others() -> None:
    load = LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=8, headers={"Authorization": "Bearer mine"})
    assert all(read(data)[0]["authorization"] == "Bearer mine" for data in conversation(load, 10))


def test_a_wrong_answer_ends_the_run() -> None:
    script = SCENARIOS["behind-proxy"].make(LoadPlan(SCENARIOS["behind-proxy"], 8123, prepared=8, era="modern"), 0)
    _, message = read(next(script))
    with pytest.raises(Wrong, match="not the answer"):
        script.send(answered(message, wrong=1))
