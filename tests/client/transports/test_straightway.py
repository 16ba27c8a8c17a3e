# SPDX-License-Identifier: MIT
"""Requests over HTTP without a task: which way they go, and that each end of an exchange is the one that a task has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock
from scripted import LIMIT, Answers, Peer, Script, Seen, event, result, scripted, session_server

from mcp_h11.client.client import Client
from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient, Next
from mcp_h11.client.http.wire import HTTPAnswer
from mcp_h11.client.oauth.keeper import login_key
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.store import Login, MemoryTokenStore, Registration, Tokens
from mcp_h11.client.transports import eventsource, exchange, straightway
from mcp_h11.client.transports.base import Outgoing
from mcp_h11.client.transports.errors import ConnectionLost, HTTPStatusError, InvalidAnswer, RequestTimeout
from mcp_h11.client.transports.http import HTTPTransport
from mcp_h11.client.transports.straightway import MAX_POSTS

pytestmark = pytest.mark.anyio
TEXT = {"content": [{"type": "text", "text": "done"}]}


@asynccontextmanager
async def connected(answers: Answers, **options: Any) -> AsyncIterator[tuple[Client, Script, list[str]]]:
    """A client with an idle connection, and the way of each request after that."""
    ways: list[str] = []
    with anyio.fail_after(LIMIT):
        async with scripted(session_server(answers)) as script:
            async with Client(script.url, revision="2025-11-25", **options) as client:
                transport: Any = client.transport
                begin = transport.begin

                def noted(out: Outgoing) -> bool:
                    went: bool = begin(out)
                    ways.append("straight" if went else "task")
                    return went

                client._conversation.calls.begin = noted
                yield client, script, ways


async def done(seen: Seen, peer: Peer) -> None:
    await peer.answer(result(seen, TEXT))


async def streamed(seen: Seen, peer: Peer, *events: bytes, end: bytes = b"0\r\n\r\n") -> None:
    """An event stream in one write."""
    body = b"".join(events)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    await peer.write(b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end))


async def test_a_call_on_an_idle_connection_takes_no_task() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "stream":
            await streamed(seen, peer, event(result(seen, TEXT)))
        else:
            await done(seen, peer)

    async with connected(serve) as (client, script, ways):
        await client.call_tool("a")  # h11 writes the head
        del ways[:]
        tasks = len(asyncio.all_tasks())
        for name in ("a", "stream", "stream", "a"):
            calling = asyncio.ensure_future(client.call_tool(name))
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == tasks + 1
            assert await calling == TEXT
        assert ways == ["straight"] * 4 and script.connections == 1
        async with anyio.create_task_group() as group:  # the second needs a connection of its own
            group.start_soon(client.call_tool, "a")
            group.start_soon(client.call_tool, "a")
        assert sorted(ways[4:]) == ["straight", "task"] and script.connections == 2


async def test_a_question_is_answered_in_the_context_of_the_call() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    heard: list[str] = []

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "ask":
            asked = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "m"}}
            # Question and answer in one read: the exchange ends before the question is answered.
            await streamed(seen, peer, event(asked), event(result(seen, TEXT)))
        else:
            await done(seen, peer)

    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        heard.append(who.get())
        return {"action": "decline"}

    async with connected(serve, on_elicitation=elicit) as (client, script, ways):
        await client.call_tool("a")
        who.set("ada")
        await client.call_tool("ask")
        while not heard:
            await asyncio.sleep(0)
        assert heard == ["ada"] and ways[-1] == "straight"


async def test_a_safe_request_on_a_connection_that_died_is_sent_once_more_and_another_is_not() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/call" and seen.message["params"]["name"] != "a":
            peer.cut()
        elif seen.method == "resources/read" and len(script.of("resources/read")) == 1:
            peer.cut()
        else:
            await peer.answer(result(seen, {"contents": []} if seen.method == "resources/read" else TEXT))

    async with connected(serve) as (client, script, ways):
        await client.call_tool("a")
        assert await client.read_resource("x:y") == {"contents": []}
        assert ways[-1] == "straight" and len(script.of("resources/read")) == 2
        with pytest.raises(ConnectionLost):
            await client.call_tool("die")
        assert ways[-1] == "straight" and len(script.of("tools/call")) == 2


async def test_a_stream_that_ended_without_the_answer_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventsource, "MIN_RETRY", 0.0)
    asked: list[Seen] = []

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "a":
            await done(seen, peer)
        else:
            asked.append(seen)
            await streamed(seen, peer, event(id="one", retry=0))

    async def get(seen: Seen, peer: Peer) -> None:
        if "last-event-id" not in seen.headers:
            await peer.answer(status=405)
            return
        assert seen.headers["last-event-id"] == "one"
        await streamed(seen, peer, event(result(asked[0], TEXT), id="two"))

    usual = session_server(serve, get=get)
    async with scripted(usual) as script, Client(script.url, revision="2025-11-25") as client:
        with anyio.fail_after(LIMIT):
            await client.call_tool("a")
            assert await client.call_tool("resume") == TEXT


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b'{"jsonrpc":"2.0","id":%d,"result":{"a":"' + b"x" * 2000 + b'"}}', InvalidAnswer, "more than 1000 bytes"),
        (b"{}", InvalidAnswer, "answered with 200 and"),
        (b"", InvalidAnswer, "answered with 200 and nothing"),
        (b"events", InvalidAnswer, "an event of more than 1000 bytes"),
        (b"503", HTTPStatusError, "503"),
        (b"text", InvalidAnswer, "text/plain"),
        (b"SSH", ConnectionLost, "not HTTP/1"),
    ],
)
async def test_answers_that_are_none(body: bytes, kind: type[Exception], words: str) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "a":
            await done(seen, peer)
        elif body == b"events":
            await streamed(seen, peer, event(result(seen, {"a": "x" * 2000})))
        elif body == b"503":
            await peer.answer("busy", status=503)
        elif body == b"text":
            await peer.answer(b"hello", Content_Type="text/plain")
        elif body == b"SSH":
            await peer.write(b"SSH-2.0\r\n")
        else:
            await peer.answer(body % seen.id if b"%d" in body else body, Content_Type="application/json")

    async with connected(serve) as (client, script, ways):
        transport: Any = client.transport
        transport._max_answer = transport._max_event_size = 1000
        await client.call_tool("a")
        with pytest.raises(kind, match=words):
            await client.call_tool("b")
        assert ways[-1] == "straight"
        assert await client.call_tool("a") == TEXT
        assert not transport._exchanges


async def test_a_fault_of_this_package_ends_one_call_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(done) as (client, script, ways):
        await client.call_tool("a")
        with monkeypatch.context() as patched:
            patched.setattr(exchange.HTTPExchange, "take_body", lambda *_: {}["no"])
            with pytest.raises(ConnectionLost):
                await client.call_tool("a")
        assert "an exchange with" in caplog.text
        assert await client.call_tool("a") == TEXT


@on_a_still_clock
async def test_a_cancelled_request_may_still_be_answered_and_its_connection_is_kept() -> None:
    cancelled = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "slow":
            await cancelled.wait()
        await done(seen, peer)

    async with connected(serve) as (client, script, ways):
        transport: Any = client.transport
        await client.call_tool("a")
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", timeout=0.05)
        (told,) = await script.until("notifications/cancelled")
        assert told.message["params"]["requestId"] == script.of("tools/call")[-1].id
        (left,) = transport._exchanges.values()
        assert left.straight is not None and left.timer is not None
        cancelled.set()
        while transport._exchanges:
            await asyncio.sleep(0)
        assert left.timer.cancelled() and script.connections == 2
        assert len(transport._http._idle) == 2


@on_a_still_clock
async def test_a_cancelled_request_whose_answer_begins_has_no_longer_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straightway, "AFTER_CANCEL", 0.2)
    closed = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] != "slow":
            await done(seen, peer)
            return
        await script.until("notifications/cancelled")
        await peer.events()
        await peer.gone()
        closed.set()

    async with connected(serve) as (client, script, ways):
        await client.call_tool("a")
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", timeout=0.05)
        await closed.wait()


async def test_a_request_that_is_cancelled_before_its_task_has_begun_is_not_sent() -> None:
    async with connected(done) as (client, script, _):
        transport: Any = client.transport
        payload = b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"late"}}'
        await transport.send(Outgoing(payload, "tools/call", 99, (), False))
        await transport.cancel(99)
        while transport._exchanges:
            await asyncio.sleep(0)
        await client.call_tool("a")
        assert [seen.message["params"]["name"] for seen in script.of("tools/call")] == ["a"]


async def test_leaving_ends_a_request_under_way() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.message["params"]["name"] == "slow":
            await peer.gone()
        else:
            await done(seen, peer)

    async with connected(serve) as (client, script, ways):
        await client.call_tool("a")
        calling = asyncio.ensure_future(client.call_tool("slow"))
        await script.until("tools/call", 2)
        await client.__aexit__(None, None, None)
        with pytest.raises(ConnectionLost, match="the client is closed"):
            await calling
        transport: Any = client.transport
        assert not transport._exchanges and not transport._http._open
        client._tasks = anyio.create_task_group()  # it is left a second time, by the block
        await client._tasks.__aenter__()


async def test_heads_that_are_kept_have_a_limit() -> None:
    http = HTTPClient(head_timeout=None)
    transport: Any = HTTPTransport("http://127.0.0.1:1/mcp", http)
    transport._receiver = None  # nothing is sent, so nothing is received
    for number in range(2 * MAX_POSTS + 1):
        assert not transport.begin(Outgoing(b"{}", "ping", number, (("Mcp-Method", f"m{number}"),)))
        assert len(transport._posts) <= MAX_POSTS
    assert len(transport._posts) == 1
    nowhere = HTTPTransport("nonsense", http)
    assert not nowhere.begin(Outgoing(b"{}", "ping", 1)) and not nowhere._posts
    assert not transport.begin(Outgoing(b"{}", "notifications/x", None))
    await http.aclose()


class Looking:
    """Middleware that has nothing to do until a server refuses."""

    def __init__(self) -> None:
        self.goes_straight: Any = True
        self.saw: list[int] = []
        self.token: str | None = None
        self.fails = False

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        if self.fails:
            raise ValueError("no token")
        if self.token is not None:
            call.headers.append(("Authorization", self.token))
        answer = await following(call)
        self.saw.append(answer.status)
        if answer.status == 401 and self.token is None:
            await answer.aclose()
            call.headers.append(("Authorization", "again"))
            return await following(call)
        return answer


async def guarded(seen: Seen, peer: Peer) -> None:
    name, token = seen.message["params"]["name"], seen.headers.get("authorization")
    if name == "secret" and token is None:
        await peer.answer({"error": "who?"}, status=401)
    elif name == "broken":
        await peer.answer({"error": "broken"}, status=503)
    else:
        await peer.answer(result(seen, {"content": [{"type": "text", "text": str(token)}]}))


async def said(client: Client, tool: str) -> str:
    text: str = (await client.call_tool(tool))["content"][0]["text"]
    return text


async def test_middleware_without_work_sees_refusals_alone() -> None:
    looking = Looking()
    async with connected(guarded, middleware=[looking]) as (client, script, ways):
        await client.call_tool("a")
        del looking.saw[:], ways[:]
        assert await said(client, "a") == "None"
        assert (ways, looking.saw) == (["straight"], [])
        assert await said(client, "secret") == "again"  # the refusal came straight, and the middleware renewed it
        assert (ways, looking.saw) == (["straight"] * 2, [401])
        with pytest.raises(HTTPStatusError):
            await client.call_tool("broken")
        assert (ways, looking.saw) == (["straight"] * 3, [401, 503])
        assert [seen.headers.get("authorization") for seen in script.of("tools/call")] == [None] * 3 + ["again", None]
        for work in (False, "yes"):
            looking.goes_straight = work
            assert await said(client, "a") == "None"
            assert ways[-1] == "task" and looking.saw[-1] == 200


async def test_a_token_that_came_meanwhile_is_sent_after_the_refusal_without_it() -> None:
    looking = Looking()
    async with connected(guarded, middleware=[looking]) as (client, script, ways):
        await client.call_tool("a")
        looking.token = "new"  # the login of another request, behind the moment at which this one was sent
        del looking.saw[:]
        assert await said(client, "secret") == "new"
        assert (ways[-1], looking.saw) == ("straight", [200])
        assert [seen.headers.get("authorization") for seen in script.of("tools/call")] == [None, None, "new"]
        # Another refusal has nothing to do with the token, and the call may have begun: it is sent once.
        with pytest.raises(HTTPStatusError):
            await client.call_tool("broken")
        assert looking.saw == [200, 503] and len(script.of("tools/call")) == 4


async def test_a_refusal_is_closed_where_middleware_fails_before_it() -> None:
    looking = Looking()
    async with connected(guarded, middleware=[looking]) as (client, script, ways):
        await client.call_tool("a")
        looking.fails = True
        with pytest.raises(ConnectionLost, match="no token"):
            await client.call_tool("secret")
        looking.fails = False
        assert await said(client, "a") == "None"


async def test_a_login_that_is_not_there_costs_no_task_until_it_is_wanted() -> None:
    store = MemoryTokenStore()
    async with connected(guarded, auth=OAuth(store=store)) as (client, script, ways):
        await client.call_tool("a")
        assert await said(client, "a") == "None"
        assert ways[-1] == "straight"
        key = login_key(script.url)
        await store.save(key, Login(key, "https://login.example", Registration("c"), Tokens("kept")))
        assert await said(client, "secret") == "Bearer kept"  # the store is asked again after a refusal
        assert ways[-1] == "straight"
        assert await said(client, "a") == "Bearer kept"
        assert ways[-1] == "task"
