# SPDX-License-Identifier: MIT
"""Streamable HTTP from the client's end, against servers that are scripts of exact bytes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock
from patience import heard
from scripted import (
    LIMIT,
    SESSION,
    Answers,
    Peer,
    Script,
    Seen,
    event,
    failure,
    modern_server,
    result,
    scripted,
    session_server,
)  # fmt: skip

from mcp_h11.client.client import Client
from mcp_h11.client.conversation.cache import ResultCache
from mcp_h11.client.http.httpclient import HTTPClient
from mcp_h11.client.http.middleware import BearerToken, CircuitBreaker, Token, extra_headers
from mcp_h11.client.transports import exchange, straightway
from mcp_h11.client.transports import http as client_http
from mcp_h11.client.transports.backoff import Backoff
from mcp_h11.client.transports.errors import (
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    InvalidAnswer,
    RequestTimeout,
    SessionLost,
)
from mcp_h11.client.transports.http import HTTPTransport
from mcp_h11.protocol.errors import HeaderMismatch, InvalidParams, MCPError, MethodNotFound, UnsupportedProtocolVersion

pytestmark = pytest.mark.anyio

QUICK = Backoff(first=0.01, most=0.02, jitter=0.0)
TEXT = {"content": [{"type": "text", "text": "done"}]}
MODERN = {"revision": "2026-07-28"}
LEGACY = {"revision": "2025-11-25"}


@asynccontextmanager
async def connected(answers: Answers, *, quick: bool = False, **options: Any) -> AsyncIterator[tuple[Client, Script]]:
    """A client and its script; `quick` lets it come back at once."""
    with anyio.fail_after(4 * LIMIT):
        async with scripted(answers) as script:
            target: Any = script.url
            if quick:
                target = HTTPTransport(script.url, HTTPClient(head_timeout=None), backoff=QUICK)
            async with Client(target, timeout=LIMIT, **options) as client:
                yield client, script


async def done(seen: Seen, peer: Peer) -> None:
    await peer.answer(result(seen, TEXT))


async def modern_done(seen: Seen, peer: Peer) -> None:
    await peer.answer(result(seen, {**TEXT, "resultType": "complete"}))


# --- what every message carries -------------------------------------------------------------------------------------


async def test_the_session_id_goes_with_everything_after_initialize_and_the_end_is_a_delete() -> None:
    async with connected(session_server(done), **LEGACY) as (client, script):
        assert client.session_id == SESSION
        await client.call_tool("a")
    first, *later = script.seen
    assert first.method == "initialize"
    assert "mcp-session-id" not in first.headers and "mcp-protocol-version" not in first.headers
    assert [seen.verb for seen in later] == ["POST", "GET", "POST", "DELETE"]
    for seen in later:
        assert seen.headers["mcp-session-id"] == SESSION
        assert seen.headers["mcp-protocol-version"] == "2025-11-25"
    for seen in script.of("POST"):
        assert seen.headers["accept"] == "application/json, text/event-stream"
        assert seen.headers["content-type"] == "application/json"
        assert not {"mcp-method", "mcp-name"} & set(seen.headers)


@pytest.mark.parametrize("form", ["json", "events"])
@pytest.mark.parametrize("era", ["session", "modern"])
async def test_what_follows_goes_by_the_same_connection(form: str, era: str) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        said = result(seen, {**TEXT, "resultType": "complete"})
        if form == "json":
            await peer.answer(said)
        else:
            whole = event(NOTE) + event(said)
            await peer.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
            await peer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole))

    made, options = (session_server, LEGACY) if era == "session" else (modern_server, MODERN)
    async with connected(made(serve), **options) as (client, script):
        for _ in range(20):
            await client.call_tool("a")
        together = script.connections
        assert together == 1
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.call_tool, "b")
        assert script.connections <= together + 4
        await client.call_tool("c")
        assert script.connections <= together + 4


async def test_before_2025_06_18_there_is_no_version_header() -> None:
    async with connected(session_server(done, revision="2025-03-26"), revision="2025-03-26") as (client, script):
        await client.ping()
    assert not [seen for seen in script.seen if "mcp-protocol-version" in seen.headers]


async def test_a_session_id_on_another_answer_than_that_to_initialize_is_none() -> None:
    async def other(seen: Seen, peer: Peer) -> None:
        await peer.answer(result(seen, TEXT), Mcp_Session_Id="other")

    async with connected(session_server(other), **LEGACY) as (client, script):
        await client.call_tool("a")
        await client.call_tool("a")
    assert {seen.headers["mcp-session-id"] for seen in script.of("tools/call")} == {SESSION}


@pytest.mark.parametrize("session", ["with blank", "\x80", "t\tab"])
async def test_a_session_id_that_is_none_is_not_used(session: str) -> None:
    async with connected(session_server(done, session=session), **LEGACY) as (client, script):
        assert client.session_id is None
        await client.call_tool("a")
    assert not script.of("DELETE") and "mcp-session-id" not in script.of("tools/call")[0].headers


async def test_a_modern_request_says_all_of_it_itself() -> None:
    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        return {"action": "cancel"}

    async with connected(
        modern_server(modern_done), name="me", version="7", on_elicitation=elicit, on_roots=[], **MODERN
    ) as (client, script):
        await client.call_tool("ä", {"x": 1})
        await client.request("resources/read", {"uri": "a://b"})
    discovered, call, read = script.seen
    for seen in script.seen:
        meta = seen.message["params"]["_meta"]
        assert meta["io.modelcontextprotocol/protocolVersion"] == seen.headers["mcp-protocol-version"] == "2026-07-28"
        assert meta["io.modelcontextprotocol/clientInfo"] == {"name": "me", "version": "7"}
        assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {"form": {}}, "roots": {}}
        assert seen.headers["mcp-method"] == seen.method
        assert "mcp-session-id" not in seen.headers
    assert call.headers["mcp-name"] == "=?base64?w6Q=?=" and read.headers["mcp-name"] == "a://b"
    assert "mcp-name" not in discovered.headers
    assert {seen.verb for seen in script.seen} == {"POST"}


async def test_headers_of_the_user_go_with_everything() -> None:
    async with connected(session_server(done), headers={"X-Mine": "1"}, **LEGACY) as (client, script):
        await client.call_tool("a")
    assert {seen.headers.get("x-mine") for seen in script.seen} == {"1"}


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["2025-03-26", "2025-11-25"])
async def test_an_array_is_an_answer_where_the_revision_has_batches(revision: str) -> None:
    async def batch(seen: Seen, peer: Peer) -> None:
        await peer.answer([{"jsonrpc": "2.0", "method": "notifications/x"}, {"bad": 1}, result(seen, TEXT)])

    async with connected(session_server(batch, revision=revision), revision=revision) as (client, _):
        if revision == "2025-03-26":
            assert await client.call_tool("a") == TEXT
        else:
            with pytest.raises(InvalidAnswer, match="200 and a batch, which 2025-11-25 .*begins with: "):
                await client.call_tool("a")


@pytest.mark.parametrize("id", [None, 999, "1"])
@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refusal_with_an_error_is_the_error_of_that_request_whatever_its_id(status: int, id: Any) -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer({**failure(seen, -32602, "bad", {"why": 1}), "id": id}, status)

    async with connected(session_server(refuse, session=None), **LEGACY) as (client, _):
        with pytest.raises(InvalidParams) as caught:
            await client.call_tool("a")
    assert (caught.value.message, caught.value.data) == ("bad", {"why": 1})


async def test_an_unknown_method_of_2026_07_28_is_404_and_an_error() -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(failure(seen, -32601), 404)

    async with connected(modern_server(refuse), **MODERN) as (client, _):
        with pytest.raises(MethodNotFound):
            await client.request("x/y")


@pytest.mark.parametrize(
    "body", [None, b"<html>no</html>", {"jsonrpc": "2.0", "error": {"code": -1, "message": "who"}}]
)
@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_is_told_what_the_challenge_says(status: int, body: Any) -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(body, status, WWW_Authenticate='Bearer scope="a"')

    async with connected(session_server(refuse), **LEGACY) as (client, _):
        with pytest.raises(AuthorizationRequired) as caught:
            await client.call_tool("a")
    assert (caught.value.status, caught.value.www_authenticate) == (status, 'Bearer scope="a"')
    assert caught.value.rpc == isinstance(body, dict)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_a_status(status: int) -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(failure(seen, -32603, "busy"), status, Retry_After="7")

    async with connected(session_server(refuse), **LEGACY) as (client, script):
        with pytest.raises(HTTPStatusError, match="busy") as caught:
            await client.call_tool("a")
        assert len(script.of("tools/call")) == 1
    assert (caught.value.status, caught.value.code, caught.value.headers["retry-after"]) == (status, -32603, "7")


@pytest.mark.parametrize(
    ("status", "body", "type"),
    [
        (202, None, None),
        (204, None, None),
        (200, b"<html>", "text/html"),
        (200, None, None),
        (200, b"{}", "text/plain"),
    ],
)
async def test_what_is_no_answer_is_said_to_be_none(status: int, body: Any, type: str | None) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(body, status, **({} if type is None else {"Content_Type": type}))

    async with connected(session_server(serve), **LEGACY) as (client, _):
        with pytest.raises(InvalidAnswer, match=str(status)):
            await client.call_tool("a")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","id":999,"result":{}}'])
async def test_a_body_that_answers_nobody_ends_the_call(body: bytes) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(body)

    async with connected(session_server(serve), **LEGACY) as (client, _):
        with pytest.raises(InvalidAnswer, match="200 and .*; it begins with: ") as caught:
            await client.call_tool("a")
        assert caught.value.body == body


async def test_an_answer_on_the_exchange_of_another_request_is_dropped() -> None:
    waiting: dict[str, Any] = {}

    async def serve(seen: Seen, peer: Peer) -> None:
        name = seen.message["params"]["name"]
        waiting[name] = seen.id
        if name == "first":
            await peer.gone()
        else:
            stolen = {"jsonrpc": "2.0", "id": waiting["first"], "result": {"content": ["stolen"]}}
            await peer.events()
            await peer.event(stolen)
            await peer.event(result(seen, TEXT))
            peer.cut()

    async with connected(session_server(serve), **LEGACY) as (client, script):
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                with pytest.raises(RequestTimeout):
                    await client.call_tool("first", timeout=0.5)

            tasks.start_soon(first)
            await script.until("tools/call")
            assert await client.call_tool("second") == TEXT


async def test_an_answer_may_be_as_large_as_its_limit_and_not_larger() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        empty = len(json.dumps(result(seen, {"x": ""})))
        size = seen.message["params"]["arguments"]["size"]
        await peer.answer(json.dumps(result(seen, {"x": "a" * (size - empty)})).encode())

    async with scripted(session_server(serve)) as script:
        transport = HTTPTransport(script.url, HTTPClient(head_timeout=None), max_answer=2000)
        async with Client(transport, timeout=LIMIT, **LEGACY) as client:
            assert len((await client.call_tool("a", {"size": 2000}))["x"]) > 1900
            with pytest.raises(InvalidAnswer, match="2000"):
                await client.call_tool("a", {"size": 2001})


async def test_an_event_may_be_as_large_as_its_limit_and_a_stream_without_end_is_left() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        if seen.message["params"]["name"] == "endless":
            await peer.write(b"id: 1\ndata: ")
            with anyio.move_on_after(LIMIT):
                while not peer.writer.is_closing() and not peer.reader.at_eof():
                    await peer.write(b"x" * 500)
                    await asyncio.sleep(0)
            return
        text = json.dumps(result(seen, {"x": ""}))
        size = seen.message["params"]["arguments"]["size"]
        await peer.write(b"data: " + text.replace('""', '"' + "a" * (size - len(text) - 1) + '"').encode() + b"\n\n")
        peer.cut()

    async with scripted(session_server(serve)) as script:
        transport = HTTPTransport(script.url, HTTPClient(head_timeout=None), max_event_size=2000)
        async with Client(transport, timeout=LIMIT, **LEGACY) as client:
            assert "x" in await client.call_tool("a", {"size": 1990})
            with pytest.raises(InvalidAnswer, match="2000"):
                await client.call_tool("a", {"size": 2010})
            with pytest.raises(InvalidAnswer, match="2000"):
                await client.call_tool("endless")
        assert not [seen for seen in script.of("GET") if "last-event-id" in seen.headers]


async def test_a_head_that_never_comes_is_a_timeout_and_the_client_goes_on() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "never":
            await peer.write(b"HTTP/1.1 200 OK\r\n")
            with anyio.move_on_after(LIMIT):
                while not peer.reader.at_eof():
                    await peer.write(b"X-A: b\r\n")
                    await asyncio.sleep(0.05)
            return
        await done(seen, peer)

    async with connected(session_server(serve), **LEGACY) as (client, _):
        with pytest.raises(MCPError):
            await client.call_tool("never", timeout=0.3)
        assert await client.call_tool("ok") == TEXT


# --- streams that are cut -------------------------------------------------------------------------------------------

NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}


class Resumable:
    """A stream of three events: what was cut off comes again behind `Last-Event-ID`."""

    def __init__(self, cut: int | None = None, retry: int | None = None) -> None:
        self.cut = cut
        self.retry = retry
        self.call: Seen | None = None
        self.ended_at = 0.0

    def stream(self, after: int) -> bytes:
        assert self.call is not None
        wanted = [
            event(id="1", retry=self.retry), event({**NOTE, "params": {"data": 2}}, id="2"),
            event(result(self.call, TEXT), id="3"),
        ]  # fmt: skip
        return b"".join(wanted[after:])

    async def post(self, seen: Seen, peer: Peer) -> None:
        self.call = seen
        await peer.events()
        await peer.write(self.stream(0)[: self.cut])
        self.ended_at = asyncio.get_running_loop().time()
        peer.cut()

    async def get(self, seen: Seen, peer: Peer) -> None:
        if "last-event-id" not in seen.headers:
            await peer.answer(status=405)
            return
        await peer.events()
        await peer.write(self.stream(int(seen.headers["last-event-id"])))
        peer.cut()


async def test_a_stream_that_is_cut_at_any_byte_is_resumed_and_nothing_comes_twice() -> None:
    heard: list[Any] = []
    resumable = Resumable()
    answers = session_server(resumable.post, get=resumable.get)
    async with connected(answers, quick=True, on_log=lambda p: heard.append(p["data"]), **LEGACY) as (client, _):
        await client.call_tool("a")
        whole = len(resumable.stream(0))
        heard.clear()
        for cut in range(whole):
            resumable.cut = cut
            if cut < len(event(id="1")):  # no id was seen
                with pytest.raises(ConnectionLost, match="cut off"):
                    await client.call_tool("a")
                assert not heard
            else:
                assert await client.call_tool("a") == TEXT
                assert heard == [2], cut
            heard.clear()


@pytest.mark.parametrize("retry", [0, 120, 400])
async def test_retry_is_obeyed_and_never_early(retry: int) -> None:
    resumable = Resumable(cut=None, retry=retry)
    resumable.cut = 0

    async def post(seen: Seen, peer: Peer) -> None:
        resumable.call = seen
        resumable.cut = len(event(id="1", retry=retry))
        await resumable.post(seen, peer)

    async with connected(session_server(post, get=resumable.get), quick=True, **LEGACY) as (client, script):
        assert await client.call_tool("a") == TEXT
        back = next(seen for seen in script.of("GET") if seen.headers.get("last-event-id") == "1")
    assert retry / 1000 <= back.at - resumable.ended_at < retry / 1000 + 1
    assert back.headers["mcp-session-id"] == SESSION


async def test_without_retry_it_waits_a_second() -> None:
    resumable = Resumable(cut=len(event(id="1")))
    async with connected(session_server(resumable.post, get=resumable.get), **LEGACY) as (client, script):
        assert await client.call_tool("a") == TEXT
        (back,) = [seen for seen in script.of("GET") if "last-event-id" in seen.headers]
    assert 0.99 <= back.at - resumable.ended_at < 1.6


async def test_a_retry_that_nobody_would_live_to_see_is_the_end() -> None:
    resumable = Resumable(cut=len(event(id="1", retry=10**11)), retry=10**11)
    async with connected(session_server(resumable.post, get=resumable.get), **LEGACY) as (client, script):
        with pytest.raises(ConnectionLost, match="could not be resumed"):
            await client.call_tool("a")
        assert not [seen for seen in script.of("GET") if "last-event-id" in seen.headers]


async def test_attempts_without_progress_are_counted_and_progress_begins_anew() -> None:
    resumable = Resumable(cut=len(event(id="1")))
    answered = 0

    async def get(seen: Seen, peer: Peer) -> None:
        nonlocal answered
        if "last-event-id" not in seen.headers:
            await peer.answer(status=405)
            return
        answered += 1
        if answered == 2:
            await peer.answer(status=503)
        elif answered == 3:
            peer.cut()
        elif answered == 4:
            await peer.events()
            await peer.event(id="2")
            peer.cut()
        else:
            await peer.events()
            peer.cut()

    async with connected(session_server(resumable.post, get=get), quick=True, **LEGACY) as (client, script):
        with pytest.raises(ConnectionLost, match="could not be resumed"):
            await client.call_tool("a")
        ids = [seen.headers["last-event-id"] for seen in script.of("GET") if "last-event-id" in seen.headers]
    assert ids == ["1"] * 4 + ["2"] * client_http.RESUME_ATTEMPTS


@pytest.mark.parametrize("status", [204, 400, 404, 405])
async def test_a_server_that_does_not_resume_says_so_once(status: int) -> None:
    resumable = Resumable(cut=len(event(id="1")))

    async def get(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=status if "last-event-id" in seen.headers else 405)

    answers = session_server(resumable.post, get=get, session=None)
    async with connected(answers, quick=True, **LEGACY) as (client, script):
        with pytest.raises(ConnectionLost, match=f"does not resume.*{status}"):
            await client.call_tool("a")
        assert len([seen for seen in script.of("GET") if "last-event-id" in seen.headers]) == 1


async def test_a_modern_stream_is_not_resumed_and_only_what_is_safe_is_asked_again() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        first = len(script.of(str(seen.method))) == 1
        if not first and seen.method == "tools/list":
            await peer.answer(result(seen, {"tools": [], "resultType": "complete"}))
            return
        await peer.events()
        await peer.event(NOTE, id="1")
        peer.cut()

    async with connected(modern_server(serve), **MODERN) as (client, script):
        assert await client.list_tools() == []
        first, second = script.of("tools/list")
        assert first.id != second.id
        with pytest.raises(ConnectionLost, match="cut off"):
            await client.call_tool("a")
        assert len(script.of("tools/call")) == 1 and not script.of("GET")
        with pytest.raises(ConnectionLost):
            await client.request("prompts/list")
        assert len(script.of("prompts/list")) == 2


@pytest.mark.parametrize("tool", ["look", "once"])
async def test_a_session_that_is_gone_when_a_stream_is_resumed_is_begun_anew(tool: str) -> None:
    server = Forgetful()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/call" and server.sessions == 1:
            await peer.events()
            await peer.event(id="1")
            server.forget()
            peer.cut()
        elif "last-event-id" in seen.headers:
            await peer.answer(status=404)
        else:
            await server(seen, peer)

    async with connected(serve, quick=True, **LEGACY) as (client, script):
        await client.list_tools()
        if tool == "look":  # only reads, as it says
            assert await client.call_tool(tool) == TEXT
        else:
            with pytest.raises(SessionLost):
                await client.call_tool(tool)
        await client.ping()
        assert client.session_id == "session-2" and len(script.of("initialize")) == 2
        assert len(script.of("tools/call")) == (2 if tool == "look" else 1)


# --- a session that is gone -----------------------------------------------------------------------------------------


class Forgetful:
    """Knows only its newest session; `forget` makes that one unknown."""

    def __init__(self, *, always: bool = False) -> None:
        self.sessions = 0
        self.always = always
        self.known = ""
        self.capabilities: dict[str, Any] = {"tools": {}, "prompts": {"listChanged": True}}
        self.held = asyncio.Event()
        self.held.set()

    def forget(self) -> None:
        self.known = ""

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if seen.method == "initialize":
            await self.held.wait()
            self.sessions += 1
            self.known = f"session-{self.sessions}"
            info = {"name": "f", "version": "1"}
            said = {"protocolVersion": "2025-11-25", "capabilities": self.capabilities, "serverInfo": info}
            await peer.answer(result(seen, said), Mcp_Session_Id=self.known)
        elif seen.verb == "GET":
            await peer.answer(status=405)
        elif seen.id is not None and (self.always or seen.headers.get("mcp-session-id") != self.known):
            await peer.answer({"jsonrpc": "2.0", "error": {"code": -32001, "message": "Session not found"}}, 404)
        elif seen.id is None:
            await peer.answer(status=202)
        elif seen.method == "tools/list":
            hints = {"again": {"idempotentHint": True}, "look": {"readOnlyHint": True}, "once": {}}
            tools = [{"name": n, "inputSchema": {"type": "object"}, "annotations": a} for n, a in hints.items()]
            await peer.answer(result(seen, {"tools": tools}))
        else:
            await peer.answer(result(seen, TEXT))


async def test_one_new_handshake_for_all_and_only_what_is_safe_goes_again() -> None:
    server = Forgetful()
    outcomes: dict[str, list[Any]] = {"again": [], "look": [], "once": [], "list": []}
    async with connected(server, **LEGACY) as (client, script):
        await client.list_tools()
        server.forget()

        async def call(name: str) -> None:
            try:
                outcome: Any = await (client.list_tools() if name == "list" else client.call_tool(name))
            except MCPError as error:
                outcome = error
            outcomes[name].append(outcome)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, list(outcomes)[number % 4])
        assert len(script.of("initialize")) == 2 and len(script.of("notifications/initialized")) == 2
        assert client.session_id == "session-2"
        assert "mcp-session-id" not in script.of("initialize")[1].headers
        sent = [
            s.message["params"]["name"] for s in script.of("tools/call") if s.headers["mcp-session-id"] == "session-1"
        ]
        refused = sent.count("once")
    assert outcomes["again"] == outcomes["look"] == [TEXT] * 5 and len(outcomes["list"]) == 5
    assert all(isinstance(one, list) for one in outcomes["list"])
    lost = [one for one in outcomes["once"] if isinstance(one, SessionLost)]
    # Those that waited for the handshake never left: they are not lost.
    assert len(lost) == refused >= 1 and len([one for one in outcomes["once"] if one == TEXT]) == 5 - refused


async def test_what_is_asked_during_the_handshake_waits_for_it() -> None:
    server = Forgetful()
    async with connected(server, **LEGACY) as (client, script):
        server.forget()
        server.held.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.list_tools)
            await script.until("initialize", 2)
            tasks.start_soon(client.call_tool, "once")
            await anyio.sleep(0.05)
            assert not script.of("tools/call")
            server.held.set()
        assert [seen.headers["mcp-session-id"] for seen in script.of("tools/call")] == ["session-2"]


async def test_a_notification_that_finds_the_session_gone_says_so_and_begins_another() -> None:
    server = Forgetful()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "notifications/mine" and seen.headers["mcp-session-id"] != server.known:
            await peer.answer(status=404)
        else:
            await server(seen, peer)

    async with connected(serve, **LEGACY) as (client, script):
        server.forget()
        with pytest.raises(SessionLost):
            await client.notify("notifications/mine")
        await client.notify("notifications/mine")
        assert [seen.headers["mcp-session-id"] for seen in script.of("notifications/mine")] == [
            "session-1",
            "session-2",
        ]


async def test_a_storm_of_404_is_bounded() -> None:
    async with connected(Forgetful(always=True), **LEGACY) as (client, script):
        errors: list[MCPError] = []

        async def call() -> None:
            with pytest.raises(SessionLost) as caught:
                await client.ping()
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
        assert len(errors) == 20
        # Twice each: once in the first session, once in a later one.
        assert len(script.of("ping")) <= 40 and len(script.of("initialize")) <= 4


async def test_a_handshake_that_fails_is_everybodys_error_and_the_next_call_tries_again() -> None:
    server = Forgetful()
    broken = False

    async def serve(seen: Seen, peer: Peer) -> None:
        if broken and seen.method == "initialize":
            await peer.answer(status=500)
        else:
            await server(seen, peer)

    async with connected(serve, **LEGACY) as (client, script):
        server.forget()
        broken = True
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="there is no new one"):
                await client.ping()
        broken = False
        await client.ping()
        assert len(script.of("initialize")) == 4 and client.session_id == "session-2"


async def test_the_caller_who_leaves_does_not_take_the_handshake_along() -> None:
    server = Forgetful()
    async with connected(server, **LEGACY) as (client, script):
        server.forget()
        server.held.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.list_tools)
            await script.until("initialize", 2)
            with anyio.move_on_after(0.05):
                await client.ping()
            tasks.start_soon(client.call_tool, "once")
            await anyio.sleep(0)
            server.held.set()
        # The handshake went on without its first caller, and what was cancelled before it was sent never is.
        assert len(script.of("initialize")) == 2 and script.of("tools/call") and not script.of("ping")


async def test_level_and_subscriptions_are_said_again_in_the_new_session() -> None:
    server = Forgetful()
    async with connected(server, **LEGACY) as (client, script):
        await client.set_log_level("error")
        await client.subscribe("a://b")
        server.forget()
        await client.ping()
        again = await script.until("resources/subscribe", 2)
        assert again[1].headers["mcp-session-id"] == "session-2"
        assert script.of("logging/setLevel")[1].message["params"] == {"level": "error"}


async def test_with_a_new_session_who_listens_is_told_of_everything_that_may_have_been_missed() -> None:
    server = Forgetful()
    lists: list[str] = []
    updated: list[str] = []
    said: list[str] = []

    def note(method: str, params: dict[str, Any]) -> None:
        said.append(method)

    options: dict[str, Any] = {"on_list_changed": lists.append, "on_updated": updated.append, "on_notification": note}
    async with connected(server, **options, **LEGACY) as (client, _):
        await client.subscribe("a://b")
        async with client.listen(["tools", "resources"], ["c://d"]) as changes:
            server.forget()
            await client.ping()
            with anyio.fail_after(LIMIT):
                assert await changes.__anext__() == ("notifications/tools/list_changed", {})
                assert await changes.__anext__() == ("notifications/resources/updated", {"uri": "c://d"})
    # Of the lists that the server has; and nothing that it has not said itself.
    assert lists == ["tools", "prompts"] and updated == ["a://b", "c://d"] and said == []


# --- the GET stream -------------------------------------------------------------------------------------------------


async def test_the_server_asks_and_tells_on_the_get_stream_which_is_kept() -> None:
    kinds: list[str] = []
    posted: list[Any] = []
    streams: list[Peer] = []

    async def get(seen: Seen, peer: Peer) -> None:
        streams.append(peer)
        await peer.events()
        if len(streams) == 1:
            await peer.event({"jsonrpc": "2.0", "id": 1, "method": "ping"}, id="e1")
            await peer.event({"jsonrpc": "2.0", "id": 77, "result": {}})  # an answer to nobody
            await peer.write(b"data: {broken\n\nevent: other\ndata: {}\n\n")
            peer.cut()
        else:
            await peer.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            await peer.gone()

    async def serve(seen: Seen, peer: Peer) -> None:
        await done(seen, peer)

    answers = session_server(serve, get=get)
    async with connected(answers, quick=True, on_list_changed=kinds.append, **LEGACY) as (client, script):
        await script.until("GET", 2)
        with anyio.fail_after(LIMIT):
            while not kinds or not (posted := [s for s in script.seen if s.message and "result" in s.message]):
                await anyio.sleep(0.01)
        assert await client.call_tool("a") == TEXT
    assert kinds == ["tools"] and posted[0].message == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert [seen.headers.get("last-event-id") for seen in script.of("GET")] == [None, "e1"]


@pytest.mark.parametrize("status", [404, 405, 406, 501])
async def test_no_get_stream_is_no_trouble(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def get(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=status)

    with caplog.at_level(logging.INFO, "mcp_h11"):
        async with connected(session_server(done, get=get, session=None), **LEGACY) as (client, script):
            assert await client.call_tool("a") == TEXT
            assert len(script.of("GET")) == 1
    assert not heard(caplog)


async def test_a_get_that_says_nothing_delays_the_client_a_little_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_http, "GET_HEAD_WAIT", 0.1)

    async def get(seen: Seen, peer: Peer) -> None:
        await peer.gone()

    async with connected(session_server(done, get=get), **LEGACY) as (client, _):
        with anyio.fail_after(LIMIT):
            assert await client.call_tool("a") == TEXT


async def test_a_cursor_that_the_server_forgot_is_given_up() -> None:
    times = 0

    async def get(seen: Seen, peer: Peer) -> None:
        nonlocal times
        times += 1
        if "last-event-id" in seen.headers:
            await peer.answer(status=400)
            return
        await peer.events()
        await peer.event(id="e")
        if times > 2:
            await peer.gone()
        peer.cut()

    async with connected(session_server(done, get=get), quick=True, **LEGACY) as (_, script):
        await script.until("GET", 3)
    assert [seen.headers.get("last-event-id") for seen in script.of("GET")][:3] == [None, "e", None]


async def test_a_404_to_the_get_means_a_new_session() -> None:
    times = 0

    async def get(seen: Seen, peer: Peer) -> None:
        nonlocal times
        times += 1
        if times == 2:
            await peer.answer(status=404)
        else:
            await peer.events()
            if times == 1:
                peer.cut()
            else:
                await peer.gone()

    async with connected(session_server(done, get=get), quick=True, **LEGACY) as (_, script):
        await script.until("initialize", 2)
        await script.until("notifications/initialized", 2)


# --- cancellation ---------------------------------------------------------------------------------------------------


@on_a_still_clock
async def test_a_session_is_told_of_a_cancellation_and_the_late_answer_finds_nobody() -> None:
    cancelled = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "slow":
            await cancelled.wait()
        await done(seen, peer)

    async with connected(session_server(serve), **LEGACY) as (client, script):
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", timeout=0.1)
        (told,) = await script.until("notifications/cancelled")
        (call,) = script.of("tools/call")
        assert told.message["params"]["requestId"] == call.id and "id" not in told.message
        cancelled.set()
        assert await client.call_tool("quick") == TEXT
        with anyio.move_on_after(0.05):
            await client.call_tool("slow", timeout=None)


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
@on_a_still_clock
async def test_a_session_is_not_told_of_a_cancellation_by_a_connection_that_closes(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(straightway, "AFTER_CANCEL", 0.3)
    closed_at, begun = 0.0, asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        nonlocal closed_at
        await peer.events()
        begun.set()
        await peer.gone()
        closed_at = asyncio.get_running_loop().time()

    async with connected(session_server(serve), **LEGACY) as (client, script):
        if how == "timeout":
            with pytest.raises(RequestTimeout):
                await client.call_tool("slow", timeout=0.1)
        else:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "slow")
                    await begun.wait()
                    scope.cancel()
        (told,) = await script.until("notifications/cancelled")
        assert not closed_at
        with anyio.fail_after(LIMIT):
            while not closed_at:
                await anyio.sleep(0.01)
        # Nobody says when such an exchange ends: it is left after a while.
        assert 0.2 < closed_at - told.at < 1.5


@on_a_still_clock
async def test_closing_the_exchange_is_the_cancellation_of_2026_07_28() -> None:
    closed = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        await peer.gone()
        closed.set()

    async with connected(modern_server(serve), **MODERN) as (client, script):
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", timeout=0.1)
        with anyio.fail_after(LIMIT):
            await closed.wait()
        closed.clear()
        with anyio.move_on_after(0.1):
            await client.call_tool("slow")
        with anyio.fail_after(LIMIT):
            await closed.wait()
        assert not script.of("notifications/cancelled")


@on_a_still_clock
async def test_initialize_is_never_cancelled() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "initialize":
            await peer.gone()
        else:
            await peer.answer(status=202)

    async with scripted(serve) as script:
        with pytest.raises(RequestTimeout):
            async with Client(script.url, timeout=0.2, **LEGACY):
                raise AssertionError
    assert [seen.method for seen in script.seen] == ["initialize"]


@pytest.mark.parametrize("leave", ["cancelled", "timed out"])
@on_a_still_clock
async def test_who_leaves_during_the_handshake_leaves_no_session_behind(leave: str) -> None:
    left = asyncio.Event()
    usual = session_server(done)

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "initialize":
            await left.wait()
        await usual(seen, peer)

    async with scripted(serve) as script:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def use() -> None:
                    limit = 0.05 if leave == "timed out" else LIMIT
                    with pytest.raises(RequestTimeout) if leave == "timed out" else nullcontext():
                        async with Client(script.url, timeout=limit, **LEGACY):
                            raise AssertionError
                    left.set()

                tasks.start_soon(use)
                await script.until("initialize")
                if leave != "timed out":
                    asyncio.get_running_loop().call_later(0.05, left.set)
                    scope.cancel()
                else:
                    await anyio.sleep(0.2)
                    left.set()
        (ended,) = await script.until("DELETE")
        assert ended.headers["mcp-session-id"] == SESSION


@on_a_still_clock
async def test_a_handshake_that_is_never_answered_does_not_hold_up_the_end() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.gone()

    async with scripted(serve) as script:
        begin = anyio.current_time()
        with anyio.move_on_after(0.1) as scope:
            async with Client(script.url, timeout=None, **LEGACY):
                raise AssertionError
        assert scope.cancelled_caught and anyio.current_time() - begin < 0.1 + client_http.LATE_SESSION_WAIT + 1
        assert not script.of("DELETE")


async def test_the_end_does_not_wait_for_a_delete_that_nobody_answers() -> None:
    async def delete(seen: Seen, peer: Peer) -> None:
        await peer.gone()

    with anyio.fail_after(LIMIT):
        async with connected(session_server(done, delete=delete), close_timeout=0.2, **LEGACY) as (client, script):
            assert await client.call_tool("a") == TEXT
        assert script.of("DELETE")


# --- 2026-07-28: what is made good ----------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


async def test_headers_that_do_not_match_are_made_from_a_fresh_list_once() -> None:
    listed = [{"name": "t", "inputSchema": {"type": "object"}}]

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/list":
            await peer.answer(result(seen, {"tools": listed, "resultType": "complete", "ttlMs": 60_000}))
        elif seen.headers.get("mcp-param-region") != "eu":
            await peer.answer(failure(seen, -32020), 400)
        else:
            await modern_done(seen, peer)

    async with connected(modern_server(serve), **MODERN) as (client, script):
        await client.list_tools()
        listed[0] = {"name": "t", "inputSchema": SCHEMA}
        assert (await client.call_tool("t", {"region": "eu"}))["content"] == TEXT["content"]
        assert len(script.of("tools/list")) == 2 and len(script.of("tools/call")) == 2
        with pytest.raises(HeaderMismatch):
            await client.call_tool("t", {"region": "us"})
        assert len(script.of("tools/call")) == 4


@pytest.mark.parametrize("cursor", [None, "next"])
async def test_a_fresh_list_is_read_up_to_the_tool_and_no_further(cursor: str | None) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/list":
            last = "cursor" in seen.message["params"]
            tools = [{"name": "t" if last else "u", "inputSchema": SCHEMA}]
            listed = {"tools": tools, "resultType": "complete", "nextCursor": "more" if last else cursor}
            await peer.answer(result(seen, listed))
        elif seen.headers.get("mcp-param-region") != "eu":
            await peer.answer(failure(seen, -32020), 400)
        else:
            await modern_done(seen, peer)

    async with connected(modern_server(serve), **MODERN) as (client, script):
        if cursor is None:  # as some serialisers write the end
            with pytest.raises(HeaderMismatch):
                await client.call_tool("t", {"region": "eu"})
        else:
            assert (await client.call_tool("t", {"region": "eu"}))["content"] == TEXT["content"]
        assert len(script.of("tools/list")) == (1 if cursor is None else 2)


async def test_tools_with_bad_annotations_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    bad = {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}

    async def serve(seen: Seen, peer: Peer) -> None:
        tools = [{"name": "good", "inputSchema": SCHEMA}, {"name": "bad", "inputSchema": bad}, {"no": "name"}]
        await peer.answer(result(seen, {"tools": tools, "resultType": "complete"}))

    async with connected(modern_server(serve), **MODERN) as (client, _):
        assert [tool["name"] for tool in await client.list_tools()] == ["good"]
    assert "'bad' was left out" in caplog.text


async def test_another_version_is_tried_once() -> None:
    refusals = 1

    async def serve(seen: Seen, peer: Peer) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            data = {"supported": ["2026-07-28"], "requested": "2026-07-28"}
            await peer.answer(failure(seen, -32022, "no", data), 400)
        else:
            await modern_done(seen, peer)

    async with connected(modern_server(serve), **MODERN) as (client, script):
        await client.call_tool("a")
        assert len(script.of("tools/call")) == 2
        refusals = 5
        with pytest.raises(UnsupportedProtocolVersion):
            await client.call_tool("a")
        assert refusals == 3


async def test_a_server_that_is_not_there_is_a_lost_connection_that_never_left() -> None:
    async with scripted(done) as script:
        url = script.url
    with pytest.raises(ConnectionLost) as caught:
        async with Client(url, timeout=LIMIT):
            raise AssertionError
    assert caught.value.sent is False


# --- who asks -------------------------------------------------------------------------------------------------------


async def test_a_token_outranks_middleware_which_outranks_a_header() -> None:
    async def provider() -> Token:
        return Token("provided")

    headers = {"Authorization": "Basic header"}
    bearer = BearerToken(provider)
    for options, expected in (
        ({"headers": headers}, "Basic header"),
        ({"headers": headers, "middleware": [bearer]}, "Bearer provided"),
        ({"headers": headers, "middleware": [bearer], "token": "mine"}, "Bearer mine"),
        ({"middleware": [extra_headers({"Authorization": "x"}, priority=99)], "token": provider}, "Bearer provided"),
    ):
        given: dict[str, Any] = options  # type: ignore[assignment]
        async with connected(session_server(done), **given, **LEGACY) as (client, script):
            await client.call_tool("a")
        assert {seen.headers["authorization"] for seen in script.seen} == {expected}
        assert all([name.lower() for name, _ in seen.raw_headers].count("authorization") == 1 for seen in script.seen)


async def test_what_is_private_to_one_token_is_not_shown_to_another() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        who = seen.headers["authorization"]
        await peer.answer(result(seen, {"prompts": [{"name": who}], "resultType": "complete", "ttlMs": 60_000}))

    cache = ResultCache()
    async with scripted(modern_server(serve)) as script:
        # Each client asks for itself: a token is no name of a user, and a middleware may ask for another.
        for token in ("a", "b", "a"):
            async with Client(script.url, token=token, cache=cache, timeout=LIMIT, **MODERN) as client:
                for _ in range(2):
                    assert (await client.list_prompts())[0]["name"] == f"Bearer {token}"
        assert len(script.of("prompts/list")) == 3
        for token in ("a", "b", "a"):
            named = {"token": token, "cache": cache, "cache_partition": token, "timeout": LIMIT, **MODERN}
            async with Client(script.url, **named) as client:
                assert (await client.list_prompts())[0]["name"] == f"Bearer {token}"
        assert len(script.of("prompts/list")) == 5


async def test_a_circuit_that_is_open_is_a_connection_that_never_left() -> None:
    breaker = CircuitBreaker(failures=1, open_for=60)

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=500)

    async with connected(session_server(serve), middleware=[breaker], **LEGACY) as (client, script):
        with pytest.raises(HTTPStatusError):
            await client.call_tool("a")
        with pytest.raises(ConnectionLost) as caught:
            await client.call_tool("a")
        assert caught.value.sent is False and len(script.of("tools/call")) == 1


async def test_what_a_bridge_says_of_its_own_client_stays() -> None:
    prefix = "io.modelcontextprotocol/"
    said = {f"{prefix}clientInfo": {"name": "front", "version": "9"}, f"{prefix}clientCapabilities": {"sampling": {}}}
    async with connected(modern_server(modern_done), **MODERN) as (client, script):
        await client.request("tools/call", {"name": "a", "_meta": {"x": 1}}, meta=said)
    meta = script.of("tools/call")[0].message["params"]["_meta"]
    assert {key: meta[key] for key in said} == said and meta["x"] == 1


# --- bodies that are cut --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_json_answer_that_is_cut_at_any_byte_is_a_lost_connection(chunked: bool) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        body = json.dumps(result(seen, TEXT)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        if chunked:
            whole = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            whole = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        await peer.write(whole[: seen.message["params"]["arguments"]["cut"]])
        peer.cut()

    async with connected(session_server(serve), **LEGACY) as (client, script):
        for cut in range(0, 200, 7):
            before = len(script.of("tools/call"))
            try:
                assert await client.call_tool("a", {"cut": cut}) == TEXT
            except ConnectionLost:
                pass
            assert len(script.of("tools/call")) == before + 1, "it may have run: it must not go again"
        assert await client.call_tool("a", {"cut": 10_000}) == TEXT


async def test_an_answer_that_comes_twice_counts_once() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        await peer.event(result(seen, TEXT))
        await peer.event(result(seen, {"content": ["again"]}))
        peer.cut()

    async with connected(session_server(serve), **LEGACY) as (client, _):
        assert await client.call_tool("a") == TEXT
        assert await client.call_tool("a") == TEXT


async def test_events_without_end_behind_the_answer_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "AFTER_ANSWER", 0.1)
    left = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        await peer.event(result(seen, TEXT))
        with anyio.move_on_after(LIMIT):
            # Bytes that nobody reads make the end of a connection a reset, which is no end of the bytes.
            while not (peer.reader.at_eof() or peer.writer.is_closing()):
                await peer.event(NOTE)
                await asyncio.sleep(0.01)
        left.set()

    async with connected(session_server(serve), **LEGACY) as (client, _):
        assert await client.call_tool("a") == TEXT
        with anyio.fail_after(LIMIT):
            await left.wait()


async def test_questions_come_on_the_exchange_and_are_answered_by_post() -> None:
    answered = asyncio.Event()

    async def roots(params: dict[str, Any]) -> dict[str, Any]:
        return {"roots": [{"uri": "file:///x"}]}

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        await peer.event({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}, id="1")
        with anyio.fail_after(LIMIT):
            while not [one for one in script_of[0].seen if one.message and one.message.get("id") == "q"]:
                await asyncio.sleep(0.01)
        answered.set()
        await peer.event(result(seen, TEXT))
        peer.cut()

    script_of: list[Script] = []
    async with connected(session_server(serve), on_roots=roots, **LEGACY) as (client, script):
        script_of.append(script)
        assert await client.call_tool("a") == TEXT
        (answer,) = [seen for seen in script.seen if seen.message and seen.message.get("id") == "q"]
    assert answer.message["result"] == {"roots": [{"uri": "file:///x"}]}
    assert answer.headers["mcp-session-id"] == SESSION and answered.is_set()


async def test_a_notification_that_is_refused_or_not_understood_is_an_error_of_its_sender() -> None:
    usual = session_server(done)

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "notifications/mine":
            await peer.answer(status=400)
        else:
            await usual(seen, peer)

    async with connected(serve, **LEGACY) as (client, _):
        with pytest.raises(HTTPStatusError, match="400"):
            await client.notify("notifications/mine", {"a": 1})
        await client.notify("notifications/other")


@on_a_still_clock
async def test_a_notification_that_nobody_takes_is_a_timeout_also_at_the_handshake() -> None:
    silent: set[str] = set()
    usual = session_server(done)

    async def serve(seen: Seen, peer: Peer) -> None:
        await (peer.gone() if seen.method in silent else usual(seen, peer))

    async with connected(serve, **LEGACY) as (_, script):
        silent.add("notifications/initialized")
        with anyio.fail_after(LIMIT), pytest.raises(RequestTimeout, match="initialized was not taken within 0.1 s"):
            async with Client(script.url, **{**LEGACY, "timeout": 0.1}):
                raise AssertionError
        silent.clear()
        async with Client(script.url, **{**LEGACY, "timeout": 0.2}) as client:
            silent.add("notifications/mine")
            with anyio.fail_after(LIMIT), pytest.raises(RequestTimeout, match="mine was not taken within 0.2 s"):
                await client.notify("notifications/mine")


@on_a_still_clock
async def test_who_is_cancelled_while_listening_takes_back_what_was_subscribed_to() -> None:
    async with connected(session_server(done), **LEGACY) as (client, script):
        with anyio.move_on_after(0.1):
            async with client.listen(uris=["a://b"]) as changes:
                await changes.__anext__()
        (taken_back,) = script.of("resources/unsubscribe")
        assert taken_back.message["params"] == {"uri": "a://b"}


async def test_a_modern_notification_says_its_version() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=202)

    async with connected(modern_server(serve), **MODERN) as (client, script):
        await client.notify("notifications/own", {"a": 1})
    seen = script.of("notifications/own")[0]
    assert seen.headers["mcp-protocol-version"] == "2026-07-28" and seen.message["params"]["a"] == 1
