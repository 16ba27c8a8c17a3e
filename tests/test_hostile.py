# SPDX-License-Identifier: MIT
"""What a hostile or broken client does beyond bad input: each case by the bytes it sends, the exact outcome, whether
its connection lives, and a new client that is served within a second afterwards.

The cases are those of the catalogue of real failures that no other module has: `test_http11` and `test_connection`
have framing, `test_bad_input` messages, `test_streams` cuts and stopped readers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from rawclient import META, SSE_TYPE, Legacy, Modern, RawClient, Response, encode
from serving import LEGACY, Held, call, head, lives, request, served, turns
from test_legacy_sse import connected

from mcp_h11 import Context, MCPServer
from mcp_h11.storage import MAX_CLIENT_SIZE, MAX_SUBSCRIBED_SIZE

pytestmark = pytest.mark.anyio
SOON = 1.0  # seconds within which a new client is served, whatever happened before
NEW = "2026-07-28"
LEGACY_REVISIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]
CODECS = ["json", "orjson"]


def codec(name: str) -> Any:
    return None if name == "json" else pytest.importorskip(name)


async def newcomer_is_served(port: int) -> None:
    """G1: a new client initializes and lists within a second."""
    with anyio.fail_after(SOON):
        async with Legacy(port, LEGACY) as client:
            assert (await client.call("tools/list")).result["tools"]


@asynccontextmanager
async def guarded(handler: MCPServer | None = None, **options: Any) -> AsyncIterator[Any]:
    """A server that is as good as before at the end."""
    async with served(handler, **options) as server:
        yield server
        await newcomer_is_served(server.port)


def fields_of(session: Legacy) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}


# --- what is kept of a client ---------------------------------------------------------------------------------------


def handshake(size: int) -> dict[str, Any]:
    """An initialize whose clientInfo and capabilities have `size` bytes as JSON, with their brackets."""
    info = {"name": "x", "version": "1"}
    padding = size - len(encode([info, {}]))
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {**info, "name": "x" * (padding + 1)}}


async def test_what_a_client_says_of_itself_is_bounded() -> None:
    async with guarded() as server:
        for size, opened in ((MAX_CLIENT_SIZE, True), (MAX_CLIENT_SIZE + 1, False)):
            client = Legacy(server.port, LEGACY)
            answer = await client.call("initialize", handshake(size))
            assert ("mcp-session-id" in answer.headers) == opened
            assert opened or answer.error["code"] == -32602


class Resources(Held):
    def __init__(self) -> None:
        super().__init__()
        self.resource("test://{name}")(lambda name: name)


async def test_the_uris_of_a_subscriber_are_bounded_together() -> None:
    uri = "test://" + "x" * (MAX_SUBSCRIBED_SIZE - 16)
    rest = MAX_SUBSCRIBED_SIZE - len(uri)
    async with guarded(Resources()) as server, Legacy(server.port, LEGACY) as session:
        for more in (uri, "y" * rest):
            assert (await session.call("resources/subscribe", {"uri": more})).result == {}
        assert (await session.call("resources/subscribe", {"uri": "z"})).error["code"] == -32602
        assert (await session.call("resources/unsubscribe", {"uri": "y" * rest})).result == {}
        assert (await session.call("resources/subscribe", {"uri": "z"})).result == {}
        client = Modern(server.port)
        async with client.listen(resourceSubscriptions=[uri, "y" * rest]) as stream:
            assert len((await stream.next_message())["params"]["notifications"]["resourceSubscriptions"]) == 2
        too_much = {"notifications": {"resourceSubscriptions": [uri, "y" * rest, "z"]}}
        answer = await client.call("subscriptions/listen", too_much)
        assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_http_sse_sessions_of_one_address_are_bounded_and_a_place_is_free_again() -> None:
    async with guarded(legacy_sse=True, max_sessions_peer=1) as server:
        get = head("/sse", "GET", Accept=SSE_TYPE)
        for _ in range(2):
            async with RawClient(server.port) as first, RawClient(server.port) as second:
                await first.send(get)
                assert (await first.receive_stream("GET")).status == 200
                await second.send(get)
                answer = await second.receive("GET")
                assert (answer.status, answer.json()["error"]["code"]) == (503, -32603)
                assert answer.headers["retry-after"] == "1"
                await lives(second)
                first.abort()
                with anyio.fail_after(SOON):
                    while server.endpoint.legacy_sse.sessions:
                        await asyncio.sleep(0)


# --- headers of which something in front of us may have read the other one --------------------------------------------

TWICE = ["Mcp-Session-Id", "Last-Event-ID", "Authorization"]


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("equal", [True, False])
async def test_a_header_that_names_one_thing_and_comes_twice_is_400(name: str, equal: bool) -> None:
    async with guarded() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        usual = {**fields_of(session), "Mcp_Session_Id": None if name == "Mcp-Session-Id" else session.session}
        value = str(session.session)
        lines = f"{name}: {value}\r\n{name.lower()}: {value if equal else 'x'}\r\n"
        data = request(encode(session.request("ping")), **usual).replace(b"\r\n\r\n", f"\r\n{lines}\r\n".encode(), 1)
        await client.send(data)
        answer = await client.receive("POST")
        assert (answer.status, answer.json()["error"]["code"], "id" in answer.json()) == (400, -32600, False)
        await lives(client)


async def test_two_values_of_the_version_header_are_400_in_a_session() -> None:
    async with guarded() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        for second, status in ((LEGACY, 200), ("2025-03-26", 400), (NEW, 400)):
            data = request(encode(session.request("ping")), **fields_of(session))
            data = data.replace(b"\r\n\r\n", f"\r\nMCP-Protocol-Version: {second}\r\n\r\n".encode(), 1)
            await client.send(data)
            assert (await client.receive("POST")).status == status
            await lives(client)


# --- what cannot be sent ----------------------------------------------------------------------------------------------


class Odd(Held):
    """Returns what JSON has no form for, and what it hardly has one for."""

    def __init__(self) -> None:
        super().__init__()
        for tool in (self.nan, self.said, self.fails):
            self.add_tool(tool, name=tool.__name__)

    async def nan(self) -> dict[str, Any]:
        return {"content": [], "structuredContent": {"it": float("nan")}}

    async def said(self, ctx: Context, text: str) -> str:
        await ctx.info(text)
        return text

    async def fails(self, text: str) -> str:
        raise ValueError(text)


@pytest.mark.parametrize("json_name", CODECS)
@pytest.mark.parametrize("revision", [*LEGACY_REVISIONS, NEW])
async def test_a_number_that_json_does_not_have_is_an_error_in_every_revision(revision: str, json_name: str) -> None:
    async with guarded(Odd(), json=codec(json_name)) as server:
        client: Any = Modern(server.port) if revision == NEW else Legacy(server.port, revision)
        if revision != NEW:
            await client.initialize()
        answer = await client.call("tools/call", call("nan"))
        assert answer.error["code"] == -32603 and "NaN" not in json.dumps(answer.message)


# Texts that have broken writers, readers and framings.
TEXTS = {
    "a lone surrogate": "a\ud800b",
    "a low surrogate first": "\udc00\ud800",
    "a pair": "\U0001f600",
    "U+2028": "a\u2028b\u2029c\u0085d",
    "line ends": "a\r\nb\rc\nd\n\ndata: x\n\n",
    "NUL and controls": "\x00\x01\x1f\x7f",
    "a BOM": "\ufeffx",
    "no character": "\uffff\ufffe",
}


async def escaped(client: Any, method: str, params: dict[str, Any], **more: Any) -> Response:
    """The answer to a request in ASCII, which JSON has for texts that UTF-8 does not."""
    message = client.request(method, params, **more)
    async with RawClient(client.port) as connection:
        return await connection.request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())


@pytest.mark.parametrize("json_name", CODECS)
@pytest.mark.parametrize("era", [LEGACY, NEW])
async def test_every_text_comes_back_as_it_went_in_a_result_an_error_and_an_event(era: str, json_name: str) -> None:
    async with guarded(Odd(), json=codec(json_name)) as server, Legacy(server.port, LEGACY) as session:
        client: Any = Modern(server.port) if era == NEW else session
        level = {"meta": {f"{META}logLevel": "info"}} if era == NEW else {}
        for what, text in TEXTS.items():
            echoed = (await escaped(client, "tools/call", call("echo", text=text))).json()
            assert echoed["result"]["content"][0]["text"] == text, what
            failed = (await escaped(client, "tools/call", call("fails", text=text))).json()
            assert failed["result"]["isError"] and text in failed["result"]["content"][0]["text"], what
            said = await escaped(client, "tools/call", call("said", text=text), **level)
            assert said.content_type == SSE_TYPE, what
            notice, answer = said.messages()
            assert (notice["params"]["data"], answer["result"]["content"][0]["text"]) == (text, text), what
            none = (await escaped(client, "no/" + text, {})).json() if era == LEGACY else None
            assert none is None or none["error"]["code"] == -32601, what


class Talkative(Held):
    """Says much at once when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.talk, name="talk")

    async def talk(self, ctx: Context) -> str:
        await ctx.info("first")
        await self._wait("talk")
        for n in range(20):
            await ctx.info(str(n))
        return "said"


@pytest.mark.parametrize("legacy_sse", [False, True], ids=["stream", "HTTP+SSE"])
async def test_much_that_is_said_to_a_peer_that_has_just_left_is_nothing_to_log(
    legacy_sse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Talkative()
    async with guarded(handler, legacy_sse=True) as server, Legacy(server.port, LEGACY) as session:
        if legacy_sse:
            async with connected(server.port) as peer:
                await peer.initialize("2024-11-05")
                await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("talk")})
                await handler.until(started=1)
                peer.stream.abort()
                handler.released.set()
                await turns()
        else:
            async with session.posting(session.request("tools/call", call("talk"))) as stream:
                await stream.next_event()
                await handler.until(started=1)
                stream.abort()
                handler.released.set()
                await turns()
    assert [record.getMessage() for record in caplog.records] == []
