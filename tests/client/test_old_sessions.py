# SPDX-License-Identifier: MIT
"""A server that was started anew and does not know its sessions: whatever it says of that, one `initialize` follows.

And what looks like it and is not: a refusal of one request, of a client, or of everything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from scripted import LIMIT, Peer, Script, Seen, failure, result, scripted

from mcp_h11 import ProxyHandler
from mcp_h11.client.client import Client
from mcp_h11.client.targets import Url
from mcp_h11.client.transports import session as transport_session
from mcp_h11.client.transports.errors import AuthorizationRequired, ConnectionLost, HTTPStatusError, SessionLost
from mcp_h11.protocol.errors import InvalidParams, MCPError

pytestmark = pytest.mark.anyio

TEXT = {"content": [{"type": "text", "text": "done"}]}
JSON_TYPE = "application/json"
RPC = {"jsonrpc": "2.0", "id": None}
# As servers say it: the official SDKs of three languages, an older one, frameworks in front of them.
REFUSALS: dict[str, tuple[int, bytes, str]] = {
    "404": (404, b"", JSON_TYPE),
    "400 of nothing": (400, b"", JSON_TYPE),
    "400 in text": (400, b"Bad Request", "text/plain"),
    "400 in JSON": (400, b'{"detail":"unknown"}', JSON_TYPE),
    "400 in JSON-RPC": (
        400,
        json.dumps({**RPC, "error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}}).encode(),
        JSON_TYPE,
    ),
    "400 not initialized": (
        400,
        json.dumps({**RPC, "error": {"code": -32600, "message": "Server not initialized"}}).encode(),
        JSON_TYPE,
    ),
    "400 with a code of params": (
        400,
        json.dumps({**RPC, "error": {"code": -32602, "message": "Invalid session"}}).encode(),
        JSON_TYPE,
    ),
    "401 without a challenge": (401, b"Unauthorized: Session not found", "text/plain"),
    "410": (410, b"", JSON_TYPE),
    "422": (422, b"Unexpected message, expect initialize request", "text/plain"),
}


class Server:
    """Keeps one session; `restart` forgets it."""

    def __init__(self, refusal: str = "400 of nothing") -> None:
        self.refusal = refusal
        self.sessions = 0
        self.known = ""
        self.listens = False
        self.stream: Peer | None = None
        self.hostile = False  # knows no session at all
        self.refuses: dict[str, tuple[int, bytes, str]] = {}  # by tool

    def restart(self) -> None:
        self.known = ""

    async def refuse(self, peer: Peer, how: tuple[int, bytes, str], **headers: str) -> None:
        status, body, kind = how
        await peer.answer(body, status, Content_Type=kind, **headers)

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        good = seen.headers.get("mcp-session-id") == self.known and not self.hostile
        if seen.method == "initialize":
            self.sessions += 1
            self.known = f"session-{self.sessions}"
            info = {"name": "r", "version": "1"}
            said = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}}, "serverInfo": info}
            await peer.answer(result(seen, said), Mcp_Session_Id=self.known)
        elif seen.method == "server/discover":
            await peer.answer(failure(seen, -32601))
        elif seen.verb == "GET" and not self.listens:
            await peer.answer(status=405)
        elif not good and seen.method != "notifications/initialized":
            await self.refuse(peer, REFUSALS[self.refusal])
        elif seen.verb == "GET":
            self.stream = peer
            await peer.events()
            await peer.event(id="")
        elif seen.verb == "DELETE":
            await peer.answer(status=204)
        elif seen.id is None:
            await peer.answer(status=202)
        elif seen.method == "tools/list":
            hints = {"look": {"readOnlyHint": True}, "once": {}}
            tools = [{"name": n, "inputSchema": {"type": "object"}, "annotations": a} for n, a in hints.items()]
            await peer.answer(result(seen, {"tools": tools}))
        elif seen.method == "tools/call" and seen.message["params"]["name"] in self.refuses:
            await self.refuse(peer, self.refuses[seen.message["params"]["name"]])
        else:
            await peer.answer(result(seen, TEXT))


@asynccontextmanager
async def connected(server: Server, **options: Any) -> AsyncIterator[tuple[Client, Script]]:
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script:
            async with Client(script.url, revision="2025-11-25", timeout=LIMIT, **options) as client:
                yield client, script


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_one_initialize_follows_and_what_is_safe_goes_again(refusal: str) -> None:
    server = Server(refusal)
    async with connected(server) as (client, script):
        await client.list_tools()
        server.restart()
        assert await client.call_tool("look") == TEXT
        assert client.session_id == "session-2"
        server.restart()
        with pytest.raises(SessionLost):
            await client.call_tool("once")
        assert await client.call_tool("once") == TEXT
        assert client.session_id == "session-3" and len(script.of("initialize")) == 3


async def test_everybody_who_is_refused_waits_for_the_same_handshake() -> None:
    server = Server("400 in text")
    async with connected(server) as (client, script):
        await client.list_tools()
        server.restart()
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(client.list_tools)
        assert len(script.of("initialize")) == 2
        assert len(script.of("ping")) <= 20


@pytest.mark.parametrize("refusal", ["400 in JSON-RPC", "401 without a challenge"])
async def test_through_a_bridge(refusal: str) -> None:
    server = Server(refusal)
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script:
            async with Client(ProxyHandler(Url(script.url)), timeout=LIMIT) as client:
                await client.list_tools()
                server.restart()
                for _ in range(3):
                    assert [tool["name"] for tool in await client.list_tools()] == ["look", "once"]
                assert (await client.call_tool("once"))["content"] == TEXT["content"]
                assert len(script.of("initialize")) == 2


async def test_a_notification_that_is_refused_so_begins_another_session() -> None:
    server = Server()
    async with connected(server) as (client, script):
        await client.list_tools()
        server.restart()
        with pytest.raises(SessionLost):
            await client.notify("notifications/mine")
        await client.notify("notifications/mine")
        assert client.session_id == "session-2" and len(script.of("initialize")) == 2


async def test_who_only_listens_begins_another_session() -> None:
    server = Server()
    server.listens = True
    async with connected(server) as (client, script):
        await script.until("GET")
        server.restart()
        assert server.stream is not None
        server.stream.cut()
        await script.until("initialize", 2)
        await script.until("notifications/initialized", 2)
        await client.list_tools()
        assert client.session_id == "session-2" and len(script.of("initialize")) == 2


async def test_a_stream_that_cannot_be_resumed_since_the_session_is_gone() -> None:
    class Cut(Server):
        async def __call__(self, seen: Seen, peer: Peer) -> None:
            if seen.method == "tools/call" and self.sessions == 1:
                self.restart()
                await peer.events()
                await peer.event(id="1", retry=1)
                peer.cut()
            else:
                await super().__call__(seen, peer)

    async with connected(Cut()) as (client, script):
        await client.list_tools()
        assert await client.call_tool("look") == TEXT
        assert client.session_id == "session-2" and len(script.of("initialize")) == 2


# --- what is no lost session ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(400, b"bad argument", "text/plain"), (400, b"", JSON_TYPE), (422, b"{}", JSON_TYPE)])
async def test_a_refusal_of_one_request_in_a_session_that_lives_is_its_error(how: tuple[int, bytes, str]) -> None:
    server = Server()
    server.refuses["look"] = how
    async with connected(server) as (client, script):
        await client.list_tools()
        for _ in range(2):
            with pytest.raises(HTTPStatusError) as caught:
                await client.call_tool("look")
            assert caught.value.status == how[0]
        assert len(script.of("initialize")) == 1 and len(script.of("tools/call")) == len(script.of("ping")) == 2


async def test_an_error_of_the_request_is_not_asked_about() -> None:
    server = Server()
    error = {**RPC, "error": {"code": -32602, "message": "no such tool"}}
    server.refuses["look"] = (400, json.dumps(error).encode(), JSON_TYPE)
    async with connected(server) as (client, script):
        await client.list_tools()
        with pytest.raises(InvalidParams, match="no such tool"):
            await client.call_tool("look")
        assert not script.of("ping") and len(script.of("initialize")) == 1


@pytest.mark.parametrize("status", [403, 408, 413, 429, 500, 503])
async def test_a_refusal_for_another_reason_is_not_asked_about(status: int) -> None:
    server = Server()
    server.refuses["look"] = (status, b"session", "text/plain")
    async with connected(server) as (client, script):
        await client.list_tools()
        with pytest.raises(HTTPStatusError):
            await client.call_tool("look")
        assert not script.of("ping") and len(script.of("initialize")) == 1


async def test_a_challenge_is_one_whatever_its_body_says() -> None:
    class Challenging(Server):
        async def refuse(self, peer: Peer, how: tuple[int, bytes, str], **headers: str) -> None:
            await super().refuse(peer, how, WWW_Authenticate="Bearer", **headers)

    server = Challenging()
    server.refuses["look"] = (401, b"your session has ended", "text/plain")
    async with connected(server) as (client, script):
        await client.list_tools()
        with pytest.raises(AuthorizationRequired):
            await client.call_tool("look")
        assert not script.of("ping") and len(script.of("initialize")) == 1


async def test_a_session_that_was_never_good_is_not_begun_again() -> None:
    server = Server()
    server.hostile = True
    async with connected(server) as (client, script):
        for _ in range(3):
            with pytest.raises(HTTPStatusError, match="400"):
                await client.list_tools()
        assert len(script.of("initialize")) == 1 and not script.of("ping")


async def test_a_server_that_refuses_each_new_session_makes_no_loop() -> None:
    server = Server()
    async with connected(server) as (client, script):
        await client.list_tools()
        server.hostile = True
        for _ in range(3):
            with pytest.raises(HTTPStatusError, match="400"):
                await client.list_tools()
        assert len(script.of("initialize")) == 2 and len(script.of("ping")) == 1


@pytest.mark.parametrize("answers", ["unknown method", "trouble", "too often", "events", "silence", "nothing"])
async def test_where_a_ping_does_not_tell_the_session_is_taken_to_be_good(
    monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    monkeypatch.setattr(transport_session, "CHECK_LIMIT", 0.1)

    class Odd(Server):
        async def __call__(self, seen: Seen, peer: Peer) -> None:
            if seen.method != "ping":
                await super().__call__(seen, peer)
            elif answers == "unknown method":
                await peer.answer(failure(seen, -32601), 404)
            elif answers == "trouble":
                await peer.answer(status=503)
            elif answers == "too often":
                await peer.answer(status=429)
            elif answers == "events":
                await peer.events()
                await peer.gone()
            elif answers == "silence":
                await peer.gone()
            else:
                peer.cut()

    server = Odd()
    server.refuses["look"] = (400, b"", JSON_TYPE)
    async with connected(server) as (client, script):
        await client.list_tools()
        with pytest.raises(HTTPStatusError, match="400"):
            await client.call_tool("look")
        assert await client.call_tool("once") == TEXT
        assert len(script.of("initialize")) == 1


async def test_a_handshake_that_is_refused_as_well_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    down = False

    async def serve(seen: Seen, peer: Peer) -> None:
        if down:
            await peer.answer(status=400)
        else:
            await server(seen, peer)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(serve) as script, Client(script.url, revision="2025-11-25", timeout=LIMIT) as client:
            await client.list_tools()
            down = True
            for _ in range(2):
                with pytest.raises(ConnectionLost, match="there is no new one"):
                    await client.list_tools()
            down = False
            assert len(await client.list_tools()) == 2


async def test_the_caller_who_leaves_does_not_take_the_ping_along() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Server):
        async def __call__(self, seen: Seen, peer: Peer) -> None:
            if seen.method == "ping":
                asked.set()
                await go_on.wait()
            await super().__call__(seen, peer)

    server = Slow()
    async with connected(server) as (client, script):
        await client.list_tools()
        server.restart()
        outcomes: list[Any] = []

        async def stays() -> None:
            try:
                outcomes.append(await client.list_tools())
            except MCPError as error:
                outcomes.append(error)

        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as leaving:
                leaving.start_soon(client.list_tools)
                await asked.wait()
                tasks.start_soon(stays)
                await script.until("tools/list", 3)
                leaving.cancel_scope.cancel()
            go_on.set()
        assert len(outcomes[0]) == 2 and len(script.of("ping")) == 1 and len(script.of("initialize")) == 2
