# SPDX-License-Identifier: MIT
"""The load generator on the stdin and stdout of programs that behave well, or do not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_h11.bench import piped
from mcp_h11.bench.measuring import UsageWatch
from mcp_h11.bench.piped import PipedCall, PipedServer
from mcp_h11.bench.process import Failed
from mcp_h11.bench.talk import Wrong, text_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it waits for pipes")

# Answers `add` right, but for the calls whose numbers are in the moods.
PROGRAM = """
import json, os, sys
moods = json.loads(sys.argv[1])
calls = 0
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    id, method = message["id"], message["method"]
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "serverInfo": {"name": "piped"}}
        print(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "ping"}))
        print(json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}))
    else:
        calls += 1
        arguments = message["params"].get("arguments", {"a": 0, "b": 0})
        result = {"content": [{"type": "text", "text": str(arguments["a"] + arguments["b"])}]}
    mood = moods.get(str(calls)) if method != "initialize" else moods.get("initialize")
    if mood == "end":
        sys.exit("the last word")
    if mood == "error":
        print(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "no"}}))
    elif mood == "wrong":
        print(json.dumps({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "?"}]}}))
    elif mood == "stranger":
        print(json.dumps({"jsonrpc": "2.0", "id": 987654, "result": {}}))
        print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}))
    elif mood == "text":
        print("hello")
    elif mood == "list":
        print("[]")
    elif mood == "endless":
        sys.stdout.write("x" * 5000)
    elif mood != "silent":
        print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}))
    sys.stdout.flush()
"""


def started(moods: dict[str, str] | None = None, **more: Any) -> PipedServer:
    import json

    return PipedServer([sys.executable, "-c", PROGRAM, json.dumps(moods or {})], **more)


@pytest.fixture
def watch() -> Iterator[UsageWatch]:
    yield UsageWatch(None)


def test_a_number_of_calls_is_under_way_and_each_answer_is_judged(watch: UsageWatch) -> None:
    server = started()
    try:
        share = server.measure(5, 0.05, 0.0, watch)
        assert len(share.latencies) >= 10 and min(share.latencies) > 0 and share.kinds == {"lines"}
        assert server.info["serverInfo"] == {"name": "piped"} and share.ended == ""
        assert server.group.usage().rss > 0 or sys.platform != "linux"
    finally:
        server.close()
    assert server.process.returncode == 0


@pytest.mark.parametrize(
    ("mood", "kind"), [("error", "JSON-RPC -32000"), ("wrong", "wrong answer"), ("stranger", "wrong answer")]
)
def test_a_bad_answer_is_counted_or_ends_the_run(mood: str, kind: str, watch: UsageWatch) -> None:
    server = started({"4": mood}, errors_allowed=3)
    try:
        share = server.measure(2, 0.05, 0.0, watch)
        assert share.errors == {kind: 1} and share.ended == "" and kind in share.examples
    finally:
        server.close()
    server = started({"4": mood})
    try:
        with pytest.raises(Wrong) as caught:
            server.run(2, 0.05, 10)
        assert caught.value.kind == kind
    finally:
        server.close()


def test_the_limit_of_errors_the_number_of_calls_and_a_tick_end_a_run(
    watch: UsageWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piped, "TICK_SECONDS", 0.0)
    server = started({str(number): "error" for number in range(3, 9)}, errors_allowed=3)
    try:
        share = server.measure(1, 20.0, 0.0, watch)
        assert (share.ended, share.errors) == ("errors", {"JSON-RPC -32000": 3})
    finally:
        server.close()
    server = started()
    try:
        assert len(server.run(3, 20.0, most=7)) == 7 and server.ended == "operations"
        server.ended = ""
        found = server.run(3, 20.0, tick=lambda server, count: count >= 4)
        assert len(found) >= 4 and server.ended == "interrupted"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("moods", "error", "text"),
    [
        ({"2": "end"}, Failed, "the server (ended its output|is no more).*the last word"),
        ({"2": "text"}, Wrong, "not JSON: b'hello'"),
        ({"2": "list"}, Wrong, "not a message"),
        ({"2": "endless"}, Wrong, "a line without end"),
        ({"2": "silent"}, Failed, "no answer for 0.2 s"),
    ],
)
def test_a_server_that_ends_or_says_something_else_ends_the_run(
    moods: dict[str, str], error: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = started(moods)
    try:
        monkeypatch.setattr(piped, "MAX_PIPED_LINE", 4_000)
        monkeypatch.setattr(piped, "SILENCE_LIMIT", 0.2)
        with pytest.raises(error, match=f"(?s){text}"):
            server.run(1, 20.0, tick=lambda server, count: False)
    finally:
        server.close()


def test_a_server_that_refuses_to_begin_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Wrong, match="no result for request 1"):
        started({"initialize": "error"})
    with pytest.raises(Failed, match="did not start"):
        PipedServer([str(tmp_path / "none")])


def test_large_requests_do_not_wait_for_a_server_that_waits_for_its_reader() -> None:
    """Both pipes are full at some time: the answers are as large as the requests."""
    big = "x" * 300_000

    def check(result: dict[str, Any]) -> None:
        assert text_of(result) == big + big

    def call(number: int) -> PipedCall:
        return PipedCall("tools/call", {"name": "add", "arguments": {"a": big, "b": big}}, check)

    server = started(call=call)
    try:
        assert len(server.run(4, 20.0, most=8)) == 8
        assert server.ask("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})["content"][0]["text"] == "3"
    finally:
        server.close()
