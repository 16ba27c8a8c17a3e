# SPDX-License-Identifier: MIT
"""One dialogue, the same outcomes: asyncio and uvloop, plain and TLS, IPv4, IPv6 and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import both_ends
from rawclient import BOTH, LIMIT, MAX_HEAD, Legacy, Modern, RawClient, within
from serving import LEGACY, UVLOOP, Held, call, head, modern, request, served

pytestmark = pytest.mark.anyio

LARGE = 1_000_000  # bytes: many reads and writes on every transport


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


WHERE = [
    "127.0.0.1",
    pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")),
    pytest.param("unix", marks=pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets here")),
]


class Client(RawClient):
    """A connection by whatever means."""

    path: str | None = None

    async def connect(self) -> RawClient:
        if self.path is None:
            return await super().connect()
        name = "localhost" if self._ssl is not None else None
        opening = asyncio.open_unix_connection(self.path, ssl=self._ssl, server_hostname=name, limit=MAX_HEAD)
        self._reader, self._writer = await within(self.limit, "connection", opening)
        return self


class Place:
    """Where a server is, and how to speak to it."""

    def __init__(self, port: int, host: str, context: Any, path: str | None) -> None:
        self.port, self.host, self.context, self.path = port, host, context, path

    def client(self) -> RawClient:
        made = Client(self.port, self.host, ssl=self.context)
        made.path = self.path
        return made

    def legacy(self) -> Legacy:
        return self._prepared(Legacy(self.port, LEGACY))  # type: ignore[no-any-return]

    def modern(self) -> Modern:
        return self._prepared(Modern(self.port))  # type: ignore[no-any-return]

    def _prepared(self, one: Any) -> Any:
        one.client = self.client
        one.extra_headers = {"Host": f"[{self.host}]:{self.port}" if self.host == "::1" else "localhost"}
        return one

    async def status(self, data: bytes, method: str = "POST") -> tuple[int, bool]:
        """The status of the answer to these bytes, and whether the connection lives."""
        async with self.client() as client:
            await client.send(data)
            answer = await client.receive(method)
            if answer.headers.get("connection") == "close":
                assert await client.receive_eof() == b""
                return answer.status, False
            await client.send(modern("server/discover", id="alive"))
            assert (await client.receive("POST")).status == 200
            return answer.status, True


@pytest.fixture(scope="module")
def tls() -> tuple[Any, Any]:
    return both_ends("localhost", "127.0.0.1", "::1")


@pytest.fixture(params=["plain", "TLS"])
def contexts(request: pytest.FixtureRequest, tls: tuple[Any, Any]) -> tuple[Any, Any]:
    """Of the server, and of the client."""
    return (None, None) if request.param == "plain" else tls


@contextlib.asynccontextmanager
async def serving(where: str, contexts: tuple[Any, Any], folder: Path, handler: Held) -> AsyncIterator[Any]:
    ours, theirs = contexts
    path = str(folder / "s.sock") if where == "unix" else None
    bind: dict[str, Any] = {"uds": path} if path else {"host": where}
    async with served(handler, ssl=ours, **bind) as server:
        yield server, Place(server.port, "localhost" if path else where, theirs, path)


def said(answer: Any) -> str:
    return str(answer.result["content"][0]["text"])


async def sessions(place: Place, handler: Held) -> list[Any]:
    """The legacy half of the dialogue."""
    found: list[Any] = []
    client = place.legacy()
    opened = await client.initialize()
    found += [("initialize", opened.status, opened.result["protocolVersion"], bool(client.session))]
    found += [("list", sorted(tool["name"] for tool in (await client.call("tools/list")).result["tools"]))]
    answer = await client.call("tools/call", call("echo", text="é"))
    found += [("call", answer.status, answer.headers["content-type"], said(answer))]
    answer = await client.call("tools/call", call("big", size=LARGE))
    found += [("large", len(said(answer)))]
    asyncio.get_running_loop().call_later(0.01, handler.released.set)
    answer = await client.call("tools/call", call("stream"))
    found += [("events", answer.headers["content-type"], len(answer.notifications), said(answer))]
    async with client.get_stream() as stream:
        handler.add_tool(handler.echo, name="another")
        message = await stream.next_message()
        found += [("get", stream.status, message["method"])]
    handler.remove_tool("another")
    wrong = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"Mcp-Session-Id": "unknown"})
    found += [("unknown session", wrong.status, wrong.json().get("id"))]
    session = client.session
    found += [("delete", (await client.delete()).status)]
    gone = await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"Mcp-Session-Id": session})
    return [*found, ("deleted", gone.status)]


async def requests(place: Place, handler: Held) -> list[Any]:
    """The modern half."""
    found: list[Any] = []
    client = place.modern()
    answer = await client.call("server/discover")
    found += [("discover", answer.status, len(answer.result["supportedVersions"]))]
    answer = await client.call("tools/call", call("echo", text="é"))
    found += [("modern call", answer.status, answer.headers["content-type"], said(answer))]
    answer = await client.call("tools/call", call("stream"), meta={"io.modelcontextprotocol/logLevel": "info"})
    found += [("modern events", answer.headers["content-type"], len(answer.notifications), said(answer))]
    answer = await client.call("no/such")
    found += [("modern unknown", answer.status, answer.error["code"])]
    async with client.listen(toolsListChanged=True) as stream:
        first = await stream.next_message()
        handler.add_tool(handler.echo, name="another")
        second = await stream.next_message()
        found += [("listen", first["method"], second["method"])]
    handler.remove_tool("another")
    # A client that leaves cancels.
    handler.released.clear()
    async with place.client() as raw:
        await raw.send(modern("tools/call", call("hold")))
        await handler.until(started=len(handler.started) + 1)
    await handler.until(cancelled=1)
    return [*found, ("cancelled", handler.cancelled)]


BAD = {
    "nonsense": b"nonsense\r\n\r\n",
    "version": head(version="9.9"),
    "two framings": head(Content_Length="3", Transfer_Encoding="chunked") + b"0\r\n\r\n",
    "host": head(method="GET", Host="evil.example"),
    "origin": head(method="GET", Origin="https://evil.example"),
    "path": head("/nowhere", method="GET"),
    "method": head(method="PUT", Content_Length="0"),
    "type": request(b"{}", Content_Type="text/plain"),
    "accept": request(b"{}", Accept="text/html"),
    "announced": head(Content_Length=str(5 * 1024**3)),
    "no JSON": request(b"{"),
    "deep": request(b"[" * 1000),
    "no session": request(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()),
    "field": head(method="GET", X="x" * 40_000),
}

OUTCOMES = [
    ("initialize", 200, LEGACY, True),
    ("list", ["ask", "big", "block", "echo", "hold", "stream"]),
    ("call", 200, "application/json", "é"),
    ("large", LARGE),
    ("events", "text/event-stream", 1, "stream released"),
    ("get", 200, "notifications/tools/list_changed"),
    ("unknown session", 404, None),
    ("delete", 204),
    ("deleted", 404),
    ("discover", 200, 5),
    ("modern call", 200, "application/json", "é"),
    ("modern events", "text/event-stream", 1, "stream released"),
    ("modern unknown", 404, -32601),
    ("listen", "notifications/subscriptions/acknowledged", "notifications/tools/list_changed"),
    ("cancelled", ["hold"]),
]
REFUSALS = {
    "nonsense": (400, False),
    "version": (505, False),
    "two framings": (400, False),
    "host": (403, True),
    "origin": (403, True),
    "path": (404, True),
    "method": (405, True),
    "type": (415, True),
    "accept": (406, True),
    "announced": (413, False),
    "no JSON": (400, True),
    "deep": (400, True),
    "no session": (400, True),
    "field": (431, False),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_the_same_dialogue_has_the_same_outcomes(where: str, contexts: tuple[Any, Any], tmp_path: Path) -> None:
    handler = Held()
    async with serving(where, contexts, tmp_path, handler) as (_, place):
        found = await sessions(place, handler)
        found += await requests(place, handler)
        assert found == OUTCOMES


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_the_same_bad_input_has_the_same_outcomes(where: str, contexts: tuple[Any, Any], tmp_path: Path) -> None:
    async with serving(where, contexts, tmp_path, Held()) as (_, place):
        # All at once: over TLS, which has no half-close, the server waits a second for the client to close.
        found = await asyncio.gather(*(place.status(data) for data in BAD.values()))
        assert dict(zip(BAD, found, strict=True)) == REFUSALS
        assert (await place.modern().call("server/discover")).status == 200


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_the_same_end_has_the_same_outcomes(where: str, contexts: tuple[Any, Any], tmp_path: Path) -> None:
    handler = Held()
    async with serving(where, contexts, tmp_path, handler) as (server, place):
        client = place.legacy()
        await client.initialize()
        async with (
            client.get_stream() as get,
            place.modern().listen(toolsListChanged=True) as listening,
            place.client() as busy,
        ):
            await listening.next_message()
            await busy.send(modern("tools/call", call("hold"), Accept=BOTH))
            await handler.until(started=1)
            with anyio.fail_after(LIMIT):
                closing = asyncio.ensure_future(server.aclose())
                await get.read()
                assert (await listening.next_message())["result"]["resultType"] == "complete"
                with pytest.raises(OSError):
                    await place.client().connect()
                handler.released.set()
                answer = await busy.receive("POST")
                assert answer.messages()[-1]["result"]["content"][0]["text"] == "hold released"
                await closing
