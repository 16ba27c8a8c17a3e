# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05 from the client's end, and how a client comes to it by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from scripted import LIMIT, Peer, Script, Seen, result, scripted

from mcp_h11 import MCPServer, listening
from mcp_h11.client.client import Client
from mcp_h11.client.http.httpclient import HTTPClient
from mcp_h11.client.http.urls import resolve
from mcp_h11.client.probe import EraMemory
from mcp_h11.client.transports import sse as client_sse
from mcp_h11.client.transports.errors import AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer
from mcp_h11.client.transports.sse import SSETransport

pytestmark = pytest.mark.anyio

SAID = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
Post = Callable[[Seen, "Old"], Awaitable[Any]]


class Old:
    """A server of HTTP+SSE that knows nothing newer; `post` gives what goes on the stream, or does it itself."""

    def __init__(self, post: Post | None = None, *, endpoint: str = "/messages?session=1", refuse: int = 405) -> None:
        self.post = post
        self.endpoint = endpoint
        self.refuse = refuse
        self.stream: Peer
        self.ended = asyncio.Event()

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if seen.verb == "GET":
            self.stream = peer
            await peer.events()
            await peer.write(f"event: endpoint\ndata: {self.endpoint}\n\n".encode())
            await peer.gone()
            self.ended.set()
        elif not seen.target.startswith("/messages"):
            await peer.answer(status=self.refuse)
        else:
            await peer.answer(b"Accepted", 202, Content_Type="text/plain")
            if seen.method == "initialize":
                await self.say(result(seen, SAID))
            elif seen.id is not None and seen.method is not None:
                message = result(seen, {"content": []}) if self.post is None else await self.post(seen, self)
                if message is not None:
                    await self.say(message)

    async def say(self, message: Any) -> None:
        await self.stream.write(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")


@asynccontextmanager
async def connected(old: Old, **options: Any) -> AsyncIterator[tuple[Client, Script]]:
    with anyio.fail_after(3 * LIMIT):
        async with scripted(old) as script:
            async with Client(script.url, **{"timeout": LIMIT, **options}) as client:
                yield client, script


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_server_that_knows_nothing_newer_is_found(status: int) -> None:
    memory, old = EraMemory(), Old(refuse=status)
    async with connected(old, memory=memory, headers={"X-Mine": "1"}) as (client, script):
        assert isinstance(client.transport, SSETransport) and client.revision.name == "2024-11-05"
        assert client.session_id is None and script.url in client.transport.why
        await client.call_tool("a")
        asked = [(seen.verb, seen.target, seen.method) for seen in script.seen]
        assert asked[:4] == [
            ("POST", "/mcp", "server/discover"), ("POST", "/mcp", "initialize"), ("GET", "/mcp", None),
            ("POST", "/messages?session=1", "initialize"),
        ]  # fmt: skip
        assert {seen.headers.get("x-mine") for seen in script.seen} == {"1"}
        with anyio.fail_after(LIMIT):
            async with Client(script.url, memory=memory, timeout=LIMIT) as second:
                await second.ping()
        assert [seen.verb for seen in script.seen[len(asked) :]][0] == "GET"
    with anyio.fail_after(LIMIT):
        await old.ended.wait()


async def test_what_was_remembered_and_is_no_longer_true_is_asked_anew() -> None:
    server = MCPServer("new", version="1")
    memory = EraMemory()
    async with listening(server, port=0) as running:
        url = f"http://127.0.0.1:{running.port}/mcp"
        for wrong in ("sse", "legacy"):
            memory.put(url, wrong)
            async with Client(url, memory=memory, timeout=LIMIT) as client:
                assert client.modern == (wrong == "sse")


@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not_is_told_so_and_nothing_else_is_tried(status: int) -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=status, WWW_Authenticate="Bearer")

    async with scripted(refuse) as script:
        with pytest.raises(AuthorizationRequired):
            async with Client(script.url, timeout=LIMIT):
                raise AssertionError
        assert len(script.seen) == 1


async def test_neither_the_one_nor_the_other_is_the_first_refusal() -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=404)

    async with scripted(refuse) as script:
        with pytest.raises(HTTPStatusError, match="initialize.*404"):
            async with Client(script.url, timeout=LIMIT):
                raise AssertionError
    assert [seen.verb for seen in script.seen] == ["POST", "POST", "GET"]


async def test_a_server_that_refuses_in_json_rpc_is_no_older_one() -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer({"jsonrpc": "2.0", "id": seen.id, "error": {"code": -1, "message": "no"}}, 400)

    async with scripted(refuse) as script:
        with pytest.raises(Exception, match="no"):
            async with Client(script.url, timeout=LIMIT):
                raise AssertionError
    assert [seen.verb for seen in script.seen] == ["POST", "POST"]


@pytest.mark.parametrize(
    "endpoint",
    ["http://evil.example/messages", "//evil.example/messages", "https://127.0.0.1/messages", "http://127.0.0.1:1/m",
     "http://u:p@127.0.0.1/m", "http://[::1", "x" * 9000],
)  # fmt: skip
async def test_an_endpoint_of_another_origin_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidAnswer, match="another origin"):
        async with connected(Old(endpoint=endpoint), transport="sse"):
            raise AssertionError


def test_an_endpoint_is_found_from_where_the_stream_is() -> None:
    assert resolve("http://h/a/sse", "messages?x=1") == "http://h/a/messages?x=1"
    assert resolve("http://h:80/sse", "http://H/messages#f") == "http://H/messages"
    assert resolve("http+unix://%2Ftmp%2FS/sse", "/m?x=1") == "http+unix://%2Ftmp%2FS/m?x=1"
    with pytest.raises(ValueError):
        resolve("http+unix://%2Ftmp%2FS/sse", "//%2Ftmp%2Fs/m")


@pytest.mark.parametrize("first", [b"data: {}\n\n", b": nothing\n\n", b"event: message\ndata: /m\n\n"])
async def test_a_stream_that_does_not_say_where_is_refused(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_sse, "ENDPOINT_LIMIT", 0.1)

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        await peer.write(first)
        await peer.gone()

    async with scripted(serve) as script:
        with pytest.raises(InvalidAnswer):
            async with Client(script.url, transport="sse", timeout=LIMIT):
                raise AssertionError


async def test_what_is_no_event_stream_is_refused() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer({"a": 1})

    async with scripted(serve) as script:
        with pytest.raises(HTTPStatusError, match="no event stream"):
            async with Client(script.url, transport="sse", timeout=LIMIT):
                raise AssertionError
    with pytest.raises(ConnectionLost):
        async with Client(script.url, transport="sse", timeout=LIMIT):
            raise AssertionError


async def test_when_the_stream_ends_so_does_everything() -> None:
    async def cut(seen: Seen, old: Old) -> None:
        old.stream.cut()

    async with connected(Old(cut)) as (client, _):
        with pytest.raises(ConnectionLost, match="ended|cut|gone|left|closed"):
            await client.call_tool("a", timeout=None)
        with pytest.raises(ConnectionLost):
            await client.ping()
        assert await client.wait_closed() is not None


async def test_what_is_secret_in_an_address_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def cut(seen: Seen, old: Old) -> None:
        old.stream.cut()

    caplog.set_level("DEBUG", "mcp_h11")
    said: list[str] = []
    old = Old(cut, endpoint="/messages?session=hush")
    with anyio.fail_after(2 * LIMIT):
        async with scripted(old) as script, Client(f"{script.url}?key=hush", timeout=LIMIT) as client:
            said.append(client.transport.why)
            with pytest.raises(ConnectionLost) as caught:
                await client.call_tool("a")
            said.append(str(caught.value))
        # Nobody listens there any more.
        for target in (SSETransport(f"{script.url}?key=hush", HTTPClient()), f"{script.url}?key=hush"):
            with pytest.raises(ConnectionLost) as caught:
                async with Client(target, timeout=LIMIT):
                    raise AssertionError
            said.append(str(caught.value))
    assert "hush" not in " ".join([*said, caplog.text]) and all(script.url in one for one in said)


async def test_a_post_that_is_refused_is_the_error_of_the_call() -> None:
    old = Old()

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "tools/call":
            await peer.answer(b"gone", 404, Content_Type="text/plain")
        else:
            await old(seen, peer)

    with anyio.fail_after(2 * LIMIT):
        async with scripted(serve) as script, Client(script.url, transport="sse", timeout=LIMIT) as client:
            with pytest.raises(HTTPStatusError, match="404: gone"):
                await client.call_tool("a")
            await client.ping()


async def test_hostile_events_are_skipped_and_endless_ones_end_it() -> None:
    async def post(seen: Seen, old: Old) -> Any:
        if seen.method == "tools/call":
            with anyio.move_on_after(LIMIT):
                await old.stream.write(b"data: ")
                while not old.ended.is_set() and not old.stream.writer.is_closing():
                    await old.stream.write(b"x" * 1000)
                    await asyncio.sleep(0)
            return None
        await old.stream.write(b'data: {"method":broken\n\nevent: other\ndata: {}\n\nid: 1\ndata:\n\n')
        await old.say([{"jsonrpc": "2.0", "id": 999, "result": {}}, {"method": 1}])
        return result(seen, {})

    old = Old(post)
    with anyio.fail_after(3 * LIMIT):
        async with scripted(old) as script:
            transport = SSETransport(script.url, HTTPClient(head_timeout=None), max_event_size=5000)
            async with Client(transport, timeout=LIMIT, revision="2024-11-05") as client:
                await client.ping()
                assert transport.skipped == 2
                with pytest.raises(InvalidAnswer, match="5000"):
                    await client.call_tool("a", timeout=None)


@pytest.mark.parametrize("revision", [None, "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_our_own_server_over_the_old_transport(revision: str | None) -> None:
    server = MCPServer("own", version="3")
    heard: list[str] = []

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    with anyio.fail_after(3 * LIMIT):
        async with listening(server, port=0, legacy_sse=True) as running:
            url = f"http://127.0.0.1:{running.port}/sse"
            async with Client(url, transport="sse" if revision else None, revision=revision, timeout=LIMIT,
                              on_list_changed=heard.append) as client:  # fmt: skip
                assert client.revision.name == (revision or "2025-11-25")
                assert (await client.call_tool("add", {"a": 1, "b": 2}))["content"][0]["text"] == "3"
                server.notify_tools_changed()
                while not heard:
                    await anyio.sleep(0.01)
    assert heard == ["tools"]
