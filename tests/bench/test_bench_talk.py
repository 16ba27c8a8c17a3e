# SPDX-License-Identifier: MIT
"""Answers as the load generator reads and judges them, from bytes, and its single questions to a server that is odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from answering import Answering, Reply, answer, last, legacy, result, text
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.bench import talk
from mcp_h11.bench.anyserver import ANYWHERE, Judging
from mcp_h11.bench.lines import Line, forget, shake_hands, stream_opened
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan, Script, opened
from mcp_h11.bench.talk import (
    AnswerReader,
    Dialect,
    EventWatch,
    Framing,
    SameAgain,
    WholeAnswer,
    Wrong,
    check_ticks,
    dechunk,
    events,
    result_in,
    result_of,
    text_of,
    wants_text,
    wants_tools,
)

OK = b"HTTP/1.1 200 OK\r\n"


def whole(data: bytes, eof: bool = False) -> WholeAnswer | None:
    return AnswerReader().take(data, eof)


# --- framing --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=50), st.lists(st.integers(1, 20), max_size=6), st.data())
def test_an_answer_is_there_when_its_last_byte_is(body: bytes, sizes: list[int], data: st.DataObject) -> None:
    chunks, left = [], body
    for size in [*sizes, len(body)]:
        if piece := left[:size]:
            chunks.append(b"%x;ext\r\n%b\r\n" % (len(piece), piece))
            left = left[size:]
    forms = (
        OK + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n",
    )
    for form in forms:
        cut = data.draw(st.integers(0, len(form) - 1))
        assert whole(form[:cut]) is None
        found = whole(form)
        assert found is not None and found.body == body and not found.framing.close


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    data = OK + b"\r\nabc"
    assert whole(data) is None
    found = whole(data, eof=True)
    assert found is not None and found.body == b"abc"
    found = whole(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert found is not None and found.body == b"" and found.framing.close and found.messages() == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello\r\n\r\n", "not an HTTP answer"),
        (OK + b"Content-Length: x\r\n\r\n", "Content-Length is not a number"),
        (OK + b"Content-Length: 1\r\n\r\nab", "bytes after the end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n", "not the size of a chunk"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n0\r\n\r\n", "not the size of a chunk"),
    ],
)
def test_bytes_that_are_no_answer(data: bytes, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        whole(data)


def test_the_size_of_an_answer_and_the_number_of_known_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "MAX_WHOLE_ANSWER", 50)
    data = OK + b"Content-Length: 12\r\n\r\n"
    assert len(data) == 39 and whole(data + b"x" * 11) is None
    with pytest.raises(Wrong, match="more than 50 bytes"):
        whole(data + b"x" * 12)
    monkeypatch.setattr(talk, "MAX_FRAMINGS", 2)
    reader = AnswerReader()
    kept = [reader.framing(OK + b"A: %d" % number) for number in (1, 2)]
    assert reader.framing(OK + b"A: 1") is kept[0]
    reader.framing(OK + b"A: 3")
    assert reader.framing(OK + b"A: 1") is not kept[0]


def test_chunks_of_which_one_is_cut() -> None:
    assert dechunk(b"3\r\nabc\r\n3\r\nde", 0) is None
    assert dechunk(b"3", 0) is None


# --- events ---------------------------------------------------------------------------------------------------------


def test_the_data_and_the_ids_of_events() -> None:
    body = b": comment\r\n\r\nid: 1\r\ndata: a\r\ndata: b\r\n\r\nid: 2\n\ndata: c\n\n"
    assert list(events(body)) == [("a\nb", "1"), ("", "2"), ("c", None)]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_watch_of_events_is_over_with_the_last_one_that_is_due(chunked: bool) -> None:
    body = b"".join(b"data: %d\n\n" % number for number in range(3))
    head = (
        OK + b"Content-Type: text/event-stream\r\n" + (b"Transfer-Encoding: chunked\r\n" if chunked else b"") + b"\r\n"
    )
    data = head + (b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
    watch = EventWatch(3)
    assert [watch.feed(data[at : at + 1]) for at in range(len(data))].index(True) >= len(head) + len(body) - 1
    assert watch.seen == [0, 1, 2]
    with pytest.raises(Wrong, match="3 events where 2"):
        EventWatch(2).feed(data)
    with pytest.raises(Wrong, match="no event stream"):
        EventWatch(2).feed(b"HTTP/1.1 404 Not Found\r\n\r\n")


# --- judging --------------------------------------------------------------------------------------------------------


def good(message: Any, events: bool = False) -> WholeAnswer:
    data = json.dumps(message).encode()
    if events:
        return WholeAnswer(Framing(OK + b"Content-Type: text/event-stream"), b"data: " + data + b"\n\n")
    return WholeAnswer(Framing(OK), data)


def test_a_result_is_the_last_message_of_an_answer() -> None:
    assert result_of(good({"id": 1, "result": {"a": 1}}), 1) == ({"a": 1}, [])
    assert result_of(good({"id": 1, "result": {"a": 1}}, events=True), 1) == ({"a": 1}, [])
    with pytest.raises(Wrong, match="without a message"):
        result_of(WholeAnswer(Framing(OK), b""), 1)
    with pytest.raises(Wrong, match="not JSON"):
        result_of(WholeAnswer(Framing(OK), b"{"), 1)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ([], "wrong answer"),
        ({"id": 2, "result": {}}, "wrong answer"),
        ({"id": 1, "result": 5}, "wrong answer"),
        ({"id": 1, "error": {"code": "x"}}, "wrong answer"),
        ({"id": 1, "error": {"code": -5}}, "JSON-RPC -5"),
        ({"id": 1, "result": {"isError": True}}, "tool error"),
    ],
)
def test_a_bad_message_has_a_kind(message: Any, kind: str) -> None:
    with pytest.raises(Wrong) as caught:
        result_in(message, 1)
    assert caught.value.kind == kind


@pytest.mark.parametrize("content", [None, "x", [], ["x"], [{"type": "image"}]])
def test_a_result_without_text(content: Any) -> None:
    with pytest.raises(Wrong, match="no (text|content)"):
        text_of({"content": content})


def test_judges_of_texts_lists_and_progress() -> None:
    wants_text(1, "a")(good({"id": 1, "result": {"content": [{"type": "text", "text": "a"}]}}))
    with pytest.raises(Wrong, match="not the answer"):
        wants_text(1, "b")(good({"id": 1, "result": {"content": [{"type": "text", "text": "a"}]}}))
    wants_tools(1, 1)(good({"id": 1, "result": {"tools": [{}]}}))
    for bad in ({"tools": []}, {"tools": [{}], "nextCursor": "x"}):
        with pytest.raises(Wrong, match="tools on the first page"):
            wants_tools(1, 1)(good({"id": 1, "result": bad}))
    ticks = [{"method": "notifications/progress", "params": {"progress": number}} for number in (1, 2)]
    check_ticks(ticks, 2)
    with pytest.raises(Wrong, match="2 progress"):
        check_ticks(ticks, 3)


def test_the_same_answer_again() -> None:
    judge = SameAgain(1)
    judge(good({"id": 1, "result": {"a": 1, "_meta": 1}}))
    judge(good({"id": 1, "result": {"a": 1, "_meta": 2}}))
    with pytest.raises(Wrong, match="changed"):
        judge(good({"id": 1, "result": {"a": 2}}))
    judging = Judging(LoadPlan(ANYWHERE["call"], 1))
    judging.check({"a": 1, "_meta": 1})
    judging.check({"a": 1})
    with pytest.raises(Wrong, match="changed"):
        judging.check({"a": 2})


def test_a_request_of_the_modern_revision_says_it_in_its_body_too() -> None:
    head, _, body = (
        Dialect("h", era="modern").request(1, "tools/call", {"name": "a"}, progress=True).partition(b"\r\n\r\n")
    )
    meta = json.loads(body)["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28" and "progressToken" in meta
    assert b"\r\nMcp-Name: a" in head
    assert b"Last-Event-ID: 7" in Dialect("h").listen("7")


# --- single questions -----------------------------------------------------------------------------------------------


def plan(port: int, session: str | None = None) -> tuple[LoadPlan, Dialect]:
    load = LoadPlan(SCENARIOS["call"], port)
    dialect = load.dialect()
    dialect.session = session
    return load, dialect


def test_a_question_is_asked_once_more_on_a_new_connection() -> None:
    numbers = iter(range(10))
    with Answering(lambda message, head: None if next(numbers) == 1 else text(message)) as server:
        load, dialect = plan(server.port)
        line = Line(load, AnswerReader())
        for _ in range(2):
            assert line.ask(dialect.request(5, "ping", {})).framing.status == 200
        line.close()
    assert len(server.requests) == 3 and server.connections == 2


def test_sessions_that_are_left_are_deleted_until_the_server_refuses() -> None:
    status = ["200 OK", "405 Method Not Allowed"]
    with Answering(lambda message, head: answer(b"", status.pop(0))) as server:
        load, _ = plan(server.port)
        load.sessions = {name: plan(server.port, name)[1] for name in "abc"}
        forget(load)
    assert load.sessions == {} and [head[:6] for head, _ in server.requests] == [b"DELETE"] * 2
    load.sessions = {"a": plan(server.port, "a")[1]}
    forget(load)  # the server is gone, and that has been said by then
    assert load.sessions == {}


STREAMS: dict[str, bytes] = {
    "refused": last(b""),
    "answered with 405": last(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"),
    "answered with 200": last(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("said", STREAMS)
def test_a_stream_that_is_refused(said: str) -> None:
    with Answering(lambda message, head: STREAMS[said]) as server:
        load, dialect = plan(server.port, "s")
        with pytest.raises(Wrong, match=said):
            stream_opened(load, dialect, AnswerReader())


def test_a_handshake_that_is_answered_with_an_error() -> None:
    def refusing(message: dict[str, Any], head: bytes) -> bytes | None:
        return result(message, {}) if message.get("method") == "initialize" else answer(b"", "500 Oh")

    with Answering(refusing) as server:
        load, dialect = plan(server.port)
        line = Line(load, AnswerReader())
        with pytest.raises(Wrong, match="initialized was answered with 500"):
            shake_hands(opened(load, dialect), line)
        line.close()
    with Answering(legacy(lambda message, head: None, session=None)) as server:
        load, dialect = plan(server.port)
        line = Line(load, AnswerReader())
        shake_hands(opened(load, dialect), line)
        assert dialect.session is None and load.sessions == {} and dialect.version == "2025-06-18"
        line.close()
    load.era = "modern"
    shake_hands(opened(load, dialect), line)  # asks nothing


# --- scripts of bench/ on a server that is wrong --------------------------------------------------------------------


def played(script: Script, reply: Reply) -> None:
    """The script against `reply`, without sockets, for 20 exchanges."""
    request = next(script)
    for _ in range(20):
        if request is None:
            request = next(script)
            continue
        data = request[0] if isinstance(request, tuple) else request
        head, _, body = data.partition(b"\r\n\r\n")
        said = reply(json.loads(body) if body else {}, head)
        assert said is not None
        request = script.send(AnswerReader().take(said))


WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], bytes], str | None]] = {
    "call": ("not the answer", lambda message: text(message, "x"), "s"),
    "session": ("no session id", lambda message: text(message, "x"), None),
    "list": ("tools on the first page", lambda message: result(message, {"tools": []}), "s"),
    "stream": ("0 progress notifications", lambda message: text(message), "s"),
    "echo-1k": ("not the answer", lambda message: text(message, "x"), "s"),
    "sleep": ("not the answer", lambda message: text(message, "x"), "s"),
    "resume": ("0 progress notifications", lambda message: text(message), "s"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_script_of_the_benchmark_notices_a_wrong_answer(name: str) -> None:
    said, calls, session = WRONG[name]
    script = SCENARIOS[name].make(LoadPlan(SCENARIOS[name], 1), 0)
    with pytest.raises(Wrong, match=said):
        played(script, legacy(lambda message, head: calls(message), session))


@pytest.mark.parametrize("make", [SCENARIOS["session"].make, ANYWHERE["session"].make])
def test_a_session_that_cannot_be_deleted_is_an_error(make: Callable[[LoadPlan, int], Script]) -> None:
    def summing(message: dict[str, Any], head: bytes) -> bytes | None:
        if head.startswith(b"DELETE"):
            return answer(b"", "500 Oh")
        return legacy(lambda message, head: text(message, str(sum(message["params"]["arguments"].values()))))(
            message, head
        )

    with pytest.raises(Wrong, match="DELETE was answered with 500"):
        played(make(LoadPlan(SCENARIOS["session"], 1, any_answer=True), 0), summing)


def test_a_session_without_an_id_of_any_server() -> None:
    with pytest.raises(Wrong, match="no session id"):
        played(ANYWHERE["session"].make(LoadPlan(ANYWHERE["session"], 1), 0), legacy(lambda m, h: text(m), None))


def test_events_without_ids_are_not_resumable() -> None:
    def calls(message: dict[str, Any], head: bytes) -> bytes | None:
        said = [
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": number}}
            for number in range(1, 256)
        ]
        said.append({"jsonrpc": "2.0", "id": message["id"], "result": {}})
        body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in said)
        return answer(body, kind="text/event-stream")

    with pytest.raises(Wrong, match="not resumable"):
        played(SCENARIOS["resume"].make(LoadPlan(SCENARIOS["resume"], 1), 0), legacy(calls))
