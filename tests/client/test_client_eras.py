# SPDX-License-Identifier: MIT
"""A server that becomes one of another era while a client uses it: it is asked anew, once, and everything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from scripted import CAPABILITIES, LIMIT, Peer, Script, Seen, event, failure, result, scripted

from mcp_h11.client import era_watch
from mcp_h11.client.client import Client
from mcp_h11.client.probe import EraMemory
from mcp_h11.client.transports.errors import ConnectionLost, HTTPStatusError, RequestTimeout
from mcp_h11.client.transports.http import HTTPTransport
from mcp_h11.client.transports.sse import SSETransport
from mcp_h11.protocol.errors import MCPError

pytestmark = pytest.mark.anyio

TEXT = {"content": [{"type": "text", "text": "done"}]}
OLD_TOO = {"supported": ["2025-11-25"], "requested": "2026-07-28"}
REFUSED = {"supported": ["2026-07-28"], "requested": "2025-11-25"}


class Turncoat:
    """Serves one era alone, and then another one.

    `dead` is what a session's request gets where there are no sessions; `foreign` what a modern request gets where
    nobody knows of it: a status, and an error or a text.
    """

    def __init__(self, era: str, *, dead: Any = (400, -32022), foreign: Any = (400, -32600)) -> None:
        self.era = era
        self.dead = dead
        self.foreign = foreign
        self.held = asyncio.Event()
        self.held.set()
        self.sessions = 0
        self.stream: Peer | None = None

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        await getattr(self, self.era)(seen, peer)

    async def modern(self, seen: Seen, peer: Peer) -> None:
        if seen.headers.get("mcp-protocol-version") != "2026-07-28":
            if seen.verb != "POST":
                await peer.answer(status=405)
            elif "mcp-session-id" in seen.headers:
                await self.refuse(seen, peer, *self.dead)
            else:
                await self.refuse(seen, peer, 400, -32022)
        elif seen.method == "server/discover":
            await self.held.wait()
            said = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, "resultType": "complete"}
            await peer.answer(result(seen, said))
        elif seen.method == "subscriptions/listen":
            await peer.events()
            wanted = seen.message["params"]["notifications"]
            await peer.event(acknowledged(wanted, seen.id))
            self.stream = peer
            await peer.gone()
        else:
            await peer.answer(result(seen, {**TEXT, "tools": [], "resultType": "complete"}))

    async def legacy(self, seen: Seen, peer: Peer) -> None:
        if seen.headers.get("mcp-protocol-version") == "2026-07-28":
            await self.held.wait()
            await self.refuse(seen, peer, *self.foreign)
        elif seen.verb == "GET":
            await peer.answer(status=405)
        elif seen.verb == "DELETE":
            await peer.answer(status=204)
        elif seen.method == "initialize":
            self.sessions += 1
            said = {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "serverInfo": {"name": "old"}}
            await peer.answer(result(seen, said), Mcp_Session_Id=f"session-{self.sessions}")
        elif seen.id is None:
            await peer.answer(status=202)
        else:
            await peer.answer(result(seen, {**TEXT, "tools": []}))

    async def sse(self, seen: Seen, peer: Peer) -> None:
        if seen.verb == "GET":
            self.stream = peer
            await peer.events()
            await peer.write(b"event: endpoint\ndata: /messages\n\n")
            await peer.gone()
        elif seen.target != "/messages":
            await peer.answer(b"Not Found", 404, Content_Type="text/plain")
        else:
            await peer.answer(status=202)
            if seen.id is not None:
                said = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "older"}}
                assert self.stream is not None
                message = result(seen, said if seen.method == "initialize" else {**TEXT, "tools": []})
                await self.stream.write(b"event: message\n" + event(message))

    async def nothing(self, seen: Seen, peer: Peer) -> None:
        await peer.answer(b"no such page", 404, Content_Type="text/html")

    async def refuse(self, seen: Seen, peer: Peer, status: int, error: int | bytes) -> None:
        if isinstance(error, bytes):
            await peer.answer(error, status, Content_Type="text/plain")
        else:
            data = {-32022: REFUSED if self.era == "modern" else OLD_TOO}.get(error)
            await peer.answer(failure(seen, error, "no", data), status)


def acknowledged(wanted: Any, id: Any) -> Any:
    meta = {"io.modelcontextprotocol/subscriptionId": id}
    params = {"notifications": wanted, "_meta": meta}
    return {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}


@asynccontextmanager
async def using(server: Turncoat, **options: Any) -> AsyncIterator[tuple[Client, Script, EraMemory]]:
    memory = EraMemory()
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script:
            async with Client(script.url, memory=memory, **{"timeout": LIMIT, **options}) as client:
                yield client, script, memory


# What a request of the old session gets, and whether it is known then that it did not run.
DEAD = [((400, -32022), True), ((400, -32020), True), ((404, b"no session"), False), ((404, -32600), False)]


@pytest.mark.parametrize(("dead", "refused"), DEAD)
async def test_a_server_of_sessions_becomes_one_without(dead: Any, refused: bool) -> None:
    server = Turncoat("legacy", dead=dead)
    async with using(server) as (client, script, memory):
        assert not client.modern and memory.get(script.url) == "legacy"
        await client.set_log_level("error")
        before = len(script.of("server/discover"))
        server.era = "modern"
        calls: list[Any] = []

        async def call() -> None:
            calls.append(await client.list_tools())

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
        assert calls == [[]] * 20 and client.modern and client.session_id is None
        assert len(script.of("server/discover")) == before + 1, "one question for everybody"
        assert memory.get(script.url) == "modern"
        assert (await client.call_tool("a"))["content"] == TEXT["content"]
        (call_seen,) = script.of("tools/call")
        assert call_seen.message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] == "error"
    assert not script.of("DELETE")


@pytest.mark.parametrize(("dead", "refused"), DEAD)
async def test_only_what_was_refused_or_is_safe_goes_again(dead: Any, refused: bool) -> None:
    server = Turncoat("legacy", dead=dead)
    async with using(server) as (client, script, _):
        server.era = "modern"
        if refused:
            assert (await client.call_tool("a"))["content"] == TEXT["content"]
        else:
            with pytest.raises(ConnectionLost, match="another era") as caught:
                await client.call_tool("a")
            assert caught.value.sent
        assert client.modern
        assert len(script.of("tools/call")) == (2 if refused else 1)


FOREIGN = [
    (400, -32600), (400, -32000), (404, -32001), (400, b"Bad Request: Unsupported protocol version"),
    (404, b"no such page"), (405, b""), (406, b""), (422, b"expected initialize request"), (400, -32022),
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_server_without_sessions_becomes_one_with(foreign: Any) -> None:
    server = Turncoat("modern", foreign=foreign)
    lists: list[str] = []
    updated: list[str] = []
    async with using(server, on_list_changed=lists.append, on_updated=updated.append) as (client, script, memory):
        assert client.modern and memory.get(script.url) == "modern"
        await client.set_log_level("error")
        await client.subscribe("a://b")
        server.era = "legacy"
        async with anyio.create_task_group() as tasks:
            for name in "abcd":
                tasks.start_soon(client.call_tool, name)
        assert not client.modern and client.session_id == "session-1" and client.server_info == {"name": "old"}
        assert memory.get(script.url) == "legacy" and len(script.of("initialize")) == 1
        # Refused, so that it did not run: each went twice and no more.
        assert len(script.of("tools/call")) == 8
        # What was said before is said in the words of sessions, and who listens is told what may have been missed.
        (level,), (subscribed,) = await script.until("logging/setLevel"), await script.until("resources/subscribe")
        assert level.message["params"] == {"level": "error"} and subscribed.message["params"] == {"uri": "a://b"}
        with anyio.fail_after(LIMIT):
            while not updated:
                await anyio.sleep(0.01)
        assert lists == ["tools", "prompts", "resources"] and updated == ["a://b"]
        assert script.of("GET") and len(script.of("notifications/initialized")) == 1
    assert script.of("DELETE")


async def test_there_and_back_again() -> None:
    server = Turncoat("modern")
    lists: list[str] = []
    async with using(server, on_list_changed=lists.append) as (client, script, _):
        for era in ("legacy", "modern", "legacy", "modern"):
            server.era = era
            await client.call_tool("a")
            assert client.modern == (era == "modern")
        await script.until("subscriptions/listen", 3)
        with anyio.fail_after(LIMIT):
            while len(lists) < 4 * 3:
                await anyio.sleep(0.01)
        lists.clear()
        assert server.stream is not None
        await server.stream.event({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})
        with anyio.fail_after(LIMIT):
            while lists != ["prompts"]:
                await anyio.sleep(0.01)


@pytest.mark.parametrize("begin", ["modern", "legacy"])
async def test_a_server_becomes_one_of_http_and_sse(begin: str) -> None:
    server = Turncoat(begin)
    async with using(server) as (client, script, memory):
        old = client.transport
        server.era = "sse"
        assert await client.list_tools() == []
        assert isinstance(old, HTTPTransport) and isinstance(client.transport, SSETransport)
        assert memory.get(script.url) == "sse" and client.server_info == {"name": "older"}
        await client.call_tool("a")


async def test_a_page_that_is_missing_for_a_moment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(era_watch, "ASK_AGAIN_AFTER", LIMIT * 10)
    server = Turncoat("modern")
    async with using(server) as (client, script, memory):
        server.era = "nothing"
        for _ in range(3):
            with pytest.raises(HTTPStatusError, match="tools/call was refused with status 404"):
                await client.call_tool("a")
        # It was asked by every way that there is, once.
        assert len(script.of("server/discover")) == 2 and len(script.of("initialize")) == len(script.of("GET")) == 1
        assert memory.get(script.url) is None, "what contradicts it drops it"
        server.era = "modern"
        assert (await client.call_tool("a"))["content"] == TEXT["content"]
        assert client.modern and isinstance(client.transport, HTTPTransport)


async def test_where_nothing_came_of_it_it_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(era_watch, "ASK_AGAIN_AFTER", 0.05)
    server = Turncoat("modern")
    async with using(server) as (client, script, _):
        server.era = "nothing"
        with pytest.raises(HTTPStatusError):
            await client.call_tool("a")
        server.era = "legacy"
        with anyio.fail_after(LIMIT):
            while True:
                try:
                    await client.call_tool("a")
                    break
                except MCPError:
                    await anyio.sleep(0.02)
        assert not client.modern


@pytest.mark.parametrize("status", [401, 403, 408, 413, 429, 431, 500, 503])
async def test_who_may_not_and_a_server_in_trouble_are_no_reason_to_ask(status: int) -> None:
    server = Turncoat("modern", foreign=(status, b""))
    async with using(server) as (client, script, memory):
        server.era = "legacy"
        with pytest.raises(HTTPStatusError):
            await client.call_tool("a")
        assert len(script.of("server/discover")) == 1 and memory.get(script.url) == "modern"


@pytest.mark.parametrize("code", [-32601, -32602, -32603, -32020, -32021])
async def test_what_a_server_of_2026_07_28_refuses_with_is_no_reason_to_ask(code: int) -> None:
    server = Turncoat("modern", foreign=(404 if code == -32601 else 400, code))
    async with using(server) as (client, script, _):
        server.era = "legacy"
        with pytest.raises(MCPError) as caught:
            await client.request("prompts/get", {"name": "a"})
        assert caught.value.code == code and not isinstance(caught.value, HTTPStatusError)
        assert len(script.of("server/discover")) == 1


@pytest.mark.parametrize("begin", ["modern", "legacy"])
async def test_a_stream_whose_handshake_fails_is_left_and_the_client_goes_on(begin: str) -> None:
    """What looks like HTTP+SSE, and is nothing: the one stream's end is not that of the client."""
    server = Turncoat(begin)
    async with using(server) as (client, script, _):

        async def serve(seen: Seen, peer: Peer) -> None:
            if seen.target == "/messages":
                await peer.answer(status=500)
            else:
                await server.sse(seen, peer)

        script.answers = serve
        with pytest.raises(MCPError):
            await client.list_tools()
        script.answers = server
        assert isinstance(client.transport, HTTPTransport) and client.modern == (begin == "modern")
        await client.ping()
        await client.call_tool("a")


@pytest.mark.parametrize("verdict", ["legacy", "sse"])
@pytest.mark.parametrize(
    ("status", "kept"), [(None, True), (401, True), (429, True), (500, True), (503, True), (404, False), (200, False)]
)
async def test_only_what_contradicts_it_drops_what_is_remembered(verdict: str, status: int | None, kept: bool) -> None:
    memory = EraMemory()

    async def serve(seen: Seen, peer: Peer) -> None:
        if status is None:
            peer.cut()
        else:
            await peer.answer(b"no", status, Content_Type="text/plain")

    async with scripted(serve) as script:
        memory.put(script.url, verdict)
        with anyio.fail_after(LIMIT), pytest.raises(MCPError):
            async with Client(script.url, memory=memory, timeout=LIMIT):
                raise AssertionError
        assert memory.get(script.url) == (verdict if kept else None)
        assert (len(script.seen) == 1) is kept


async def test_a_remembered_stream_whose_handshake_fails_is_forgotten() -> None:
    server, memory = Turncoat("modern"), EraMemory()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.verb == "GET" or seen.target == "/messages":
            await (peer.answer(status=404) if seen.verb == "POST" else server.sse(seen, peer))
        else:
            await server(seen, peer)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(serve) as script:
            memory.put(script.url, "sse")
            async with Client(script.url, memory=memory, timeout=LIMIT) as client:
                assert client.modern and memory.get(script.url) == "modern"
                await anyio.sleep(0.05)  # the stream's end comes a little later
                await client.call_tool("a")


async def test_who_leaves_while_it_is_asked_leaves_nothing_open() -> None:
    server = Turncoat("modern")
    async with scripted(server) as script:
        opened = 0

        async def serve(seen: Seen, peer: Peer) -> None:
            nonlocal opened
            if seen.target == "/messages":
                opened += 1
                await peer.gone()
                opened -= 1
            else:
                await server.sse(seen, peer)

        with anyio.fail_after(2 * LIMIT):
            async with anyio.create_task_group() as tasks:

                async def use() -> None:
                    async with Client(script.url, timeout=LIMIT) as client:
                        olds.append(client.transport)
                        script.answers = serve
                        await client.list_tools()

                olds: list[Any] = []
                tasks.start_soon(use)
                while not opened:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            while opened:
                await anyio.sleep(0.01)
            assert olds[0]._http._closed, "the way that was gone before, too"


async def test_who_waits_for_the_answer_hears_of_it_when_the_client_is_left() -> None:
    server = Turncoat("legacy")
    outcomes: list[str] = []
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script, anyio.create_task_group() as tasks:
            async with Client(script.url, timeout=None) as client:
                server.era = "modern"
                server.held.clear()

                async def call() -> None:
                    with pytest.raises(MCPError) as caught:
                        await client.call_tool("a")
                    outcomes.append(type(caught.value).__name__)

                tasks.start_soon(call)
                await script.until("server/discover", 2)
                tasks.start_soon(call)
                await anyio.sleep(0)
            server.held.set()
    assert sorted(outcomes) == ["ConnectionLost", "UnsupportedProtocolVersion"]


async def test_a_question_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(era_watch, "ASKING_LIMIT", 0.1)
    server = Turncoat("modern")
    async with using(server) as (client, script, _):
        server.era = "legacy"
        server.held.clear()

        async def serve(seen: Seen, peer: Peer) -> None:
            if seen.method == "tools/call":
                await peer.answer(status=404)
            else:
                await server(seen, peer)

        script.answers = serve
        with pytest.raises(HTTPStatusError):
            await client.call_tool("a")
        server.held.set()
        server.era, script.answers = "modern", server
        assert client.modern
        await client.call_tool("a")


async def test_what_is_pinned_stays() -> None:
    server = Turncoat("modern")
    async with using(server, revision="2026-07-28") as (client, script, _):
        server.era = "legacy"
        with pytest.raises(HTTPStatusError):
            await client.call_tool("a")
        assert len(script.of("server/discover")) == 1 and not script.of("initialize")


async def test_who_asks_meanwhile_waits_as_long_as_it_wants_to() -> None:
    server = Turncoat("legacy")
    async with using(server) as (client, script, _):
        server.era = "modern"
        server.held.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "first")
            await script.until("server/discover", 2)
            with pytest.raises(RequestTimeout):
                await client.call_tool("impatient", timeout=0.05)
            with anyio.move_on_after(0.05):
                await client.call_tool("cancelled")
            tasks.start_soon(client.call_tool, "patient")
            await anyio.sleep(0)
            server.held.set()
        names = [seen.message["params"]["name"] for seen in script.of("tools/call")]
        assert sorted(names) == ["first", "first", "patient"]


async def test_the_caller_who_leaves_does_not_take_the_question_along() -> None:
    server = Turncoat("legacy")
    async with using(server) as (client, script, _):
        server.era = "modern"
        server.held.clear()
        with anyio.move_on_after(0.05):
            await client.call_tool("a")
        server.held.set()
        await client.ping()
        assert client.modern and len(script.of("server/discover")) == 3  # the first, the one anew, the ping


async def test_a_late_404_of_an_old_session_does_not_bring_it_back() -> None:
    server = Turncoat("legacy")
    late = asyncio.Event()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/call" and seen.message["params"]["name"] == "slow":
            await late.wait()
            await peer.answer(status=404)
        else:
            await server(seen, peer)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(serve) as script, Client(script.url, timeout=LIMIT) as client:
            async with anyio.create_task_group() as tasks:

                async def slow() -> None:
                    with pytest.raises(ConnectionLost):
                        await client.call_tool("slow")

                tasks.start_soon(slow)
                await script.until("tools/call")
                server.era = "modern"
                await client.ping()
                assert client.modern
                late.set()
            assert client.modern and len(script.of("initialize")) == 1
            await client.call_tool("a")


@pytest.mark.parametrize("begin", ["modern", "legacy"])
async def test_a_listen_of_ones_own_ends_with_the_era_and_says_so(begin: str) -> None:
    server = Turncoat(begin)
    async with using(server) as (client, _, _memory):
        async with client.listen(["tools"], ["a://b"]) as changes:
            server.era = "legacy" if begin == "modern" else "modern"
            await client.call_tool("a")
            if begin == "modern":
                assert server.stream is not None
                server.stream.cut()
            with anyio.fail_after(LIMIT), pytest.raises(ConnectionLost, match="another era"):
                while True:
                    await changes.__anext__()
        async with client.listen(["tools"]) as changes:
            pass


async def test_callbacks_hear_of_it_though_nobody_asks_for_anything() -> None:
    """A client that only listens finds out when its stream is cut."""
    server = Turncoat("modern")
    lists: list[str] = []
    async with using(server, on_list_changed=lists.append) as (client, script, _):
        server.era = "legacy"
        assert server.stream is not None
        server.stream.cut()
        await script.until("notifications/initialized")
        with anyio.fail_after(LIMIT):
            while not lists:
                await anyio.sleep(0.01)
        assert lists == ["tools", "prompts", "resources"] and not client.modern
