# SPDX-License-Identifier: MIT
"""One table of requests for both skins of the endpoint: our own listener, and the application of ASGI.

A browser and a hostile proxy header get the same from both.  The date and the framing of the body may differ, since
the server around the application writes them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

import anyio
import pytest
from asgi_support import Asked, scope_of, whole
from rawclient import LIMIT, RawClient

from mcp_h11 import MCPServer, listening

pytestmark = pytest.mark.anyio

HOST = "tools.example"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
OF_THE_SERVER = {"date", "content-length", "connection", "transfer-encoding"}
Fields = dict[str, str]


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def nobody(head: Any) -> None: ...


@asynccontextmanager
async def both(**settings: Any) -> AsyncIterator[Any]:
    """A function that sends one request to each of the two, and gives both answers; of a stream, the first event."""
    given = {"path": "/mcp", "legacy_sse": True, "trusted_proxies": ["127.0.0.1"], "allowed_hosts": [HOST], **settings}
    app = MCPServer("tools").asgi(**given)

    async def own(port: int, method: str, path: str, fields: Fields, body: bytes) -> Got:
        async with RawClient(port) as client:
            stream = await client.open_stream(method, path, {"Host": HOST, **fields}, body)
            data = b""
            while b"event: endpoint" not in data and (piece := await stream.next_bytes()) is not None:
                data += piece
            return Got(stream.status, dict(stream.headers), data)

    async def hosted(method: str, path: str, fields: Fields, body: bytes) -> Got:
        headers = {"host": HOST, **{name.lower(): value for name, value in fields.items()}}
        if body:
            headers["content-length"] = str(len(body))
        scope = scope_of(method, unquote(path), client=("127.0.0.1", 5))
        scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        asked = Asked(app, scope, whole(body))
        with anyio.fail_after(LIMIT):
            while not (asked.task.done() or "event: endpoint" in asked.body):
                asked.changed.clear()
                await anyio.sleep(0)
        if asked.task.done():
            await asked.end()
        asked.leave()
        return Got(asked.status, asked.headers, asked.body.encode())

    async with listening(MCPServer("tools"), port=0, **given) as server:

        async def send(method: str, path: str, fields: Fields | None = None, body: bytes = b"") -> tuple[Got, Got]:
            return await own(server.port, method, path, fields or {}, body), await hosted(
                method, path, fields or {}, body
            )

        try:
            yield send
        finally:
            await app.aclose()


def same(one: Got, other: Got) -> None:
    assert one.status == other.status

    def kept(got: Got) -> dict[str, str]:
        return {name: value for name, value in got.headers.items() if name not in OF_THE_SERVER}

    assert kept(one) == kept(other)
    ids = [re.sub(rb"session_id=[\w-]+", b"session_id=", got.body) for got in (one, other)]
    assert ids[0] == ids[1]


# --- browsers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "BREW"])
@pytest.mark.parametrize(
    "path", ["/", "/mcp", "/mcp/", "/sse", "/messages", "/other", "/favicon.ico", "/%2e%2e/x", "//x"]
)
async def test_a_browser_gets_the_same(page: bool, method: str, path: str) -> None:
    async with both(page=page) as send:
        for fields in (
            {"Accept": HTML},
            {"Accept": HTML, "Origin": f"https://{HOST}"},
            {"Accept": HTML, "Origin": "https://evil.example"},
            {"Accept": "*/*"},
        ):
            same(*await send(method, path, fields))


async def test_a_preflight_and_a_wrong_host_get_the_same() -> None:
    async with both(cors=["https://app.example"]) as send:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        for path in ("/mcp", "/sse", "/other"):
            for fields in (asked, {"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "[::2]"}):
                same(*await send("OPTIONS", path, fields))


# --- proxies --------------------------------------------------------------------------------------------------------
EVIL = "evil.example"
PREFIXES = [
    "//evil.example", "https://evil.example", "/a/../b", "/..", "/.", "/a/./b", "/a//b", "/a?x", "/a#x", "a", "/a b",
    "/%2e%2e", "/%2E./x", "/a%2fb", "/a%5cb", "/a%0ab", "/a%00", "/a%7f", "/a\\b", '/a"b', "/a<b>", "/a;b\x7f",
    "/a\x80", "/" + "a" * 600, "/a,//evil.example", "/%", "/%zz", "*", "javascript:alert(1)", "/a'b\"",
]  # fmt: skip
HOSTS = [
    "evil.example", "tools.example@evil.example", "tools.example:99999", "tools.example/x",
    "tools.example, evil.example", "tools.example evil", "[::1", "evil.example#tools.example", "tools.example\\evil",
    "", "%74ools.example",
]  # fmt: skip
SCHEMES = ["javascript", "https://evil.example", "ftp", "http, gopher", "\x80", "wss"]
STANDARD = [
    "host=evil.example", 'host="tools.example@evil.example"', "host=evil.example;proto=javascript", 'for="unclosed',
    "host", "for=1.2.3.4;host=evil.example, for=127.0.0.1", "proto=javascript",
]  # fmt: skip
HOSTILE = [
    *({"X-Forwarded-Prefix": one} for one in PREFIXES),
    *({"X-Forwarded-Host": one} for one in HOSTS),
    *({"X-Forwarded-Proto": one} for one in SCHEMES),
    *({"Forwarded": one} for one in STANDARD),
]
GIVEN_OUT = [
    ("GET", "/sse", {"Accept": "text/event-stream"}),
    ("POST", "/mcp", {"Accept": "*/*", "Content-Type": "application/json"}),
    ("GET", "/.well-known/oauth-protected-resource/mcp", {"Accept": "application/json"}),
    ("GET", "/other", {"Accept": "application/json"}),
    ("GET", "/", {"Accept": HTML}),
    ("GET", "/mcp", {"Accept": HTML}),
]


def addresses(got: Got) -> str:
    """The parts of an answer that a client may take for an address; the body of a refusal only repeats the request."""
    return f"{got.headers} {got.body!r}" if got.status not in (400, 403) else str(got.headers)


@pytest.mark.parametrize("secured", [True, False])
async def test_a_hostile_header_of_a_proxy_is_refused_or_left_out(secured: bool) -> None:
    login = {"authorize": nobody, "authorization_servers": ["https://login.example"]} if secured else {}
    async with both(page=True, **login) as send:
        plain = {(path, method): await send(method, path, fields) for method, path, fields in GIVEN_OUT}
        for header in HOSTILE:
            for method, path, fields in GIVEN_OUT:
                for got, usual in zip(await send(method, path, {**fields, **header}), plain[path, method], strict=True):
                    what = (header, method, path, got)
                    if got.status in (400, 403):
                        assert EVIL not in str(got.headers), what
                        continue
                    assert got.status == usual.status, what
                    said = addresses(got)
                    assert EVIL not in said and "javascript:" not in said.replace("javascript:alert", ""), what
                    for value in header.values():
                        assert len(value) < 4 or value in ("http, gopher",) or value not in said, what


@pytest.mark.parametrize("secured", [True, False])
async def test_a_stranger_is_not_believed_as_a_proxy(secured: bool) -> None:
    login = {"authorize": nobody, "authorization_servers": ["https://login.example"]} if secured else {}
    async with both(page=True, trusted_proxies=["192.0.2.1"], **login) as send:
        for method, path, fields in GIVEN_OUT:
            plain = await send(method, path, fields)
            for header in (
                {"X-Forwarded-Prefix": "/evil"}, {"X-Forwarded-Host": EVIL}, {"X-Forwarded-Proto": "https"},
                {"Forwarded": f"host={EVIL};proto=https"}, {"X-Forwarded-Prefix": "//"}, {"Forwarded": 'for="'},
            ):  # fmt: skip
                for got, usual in zip(await send(method, path, {**fields, **header}), plain, strict=True):
                    if path != "/sse" or secured:  # the id of a session differs
                        assert (got.status, got.body) == (usual.status, usual.body)
                    assert (got.status, "evil" in f"{got.headers} {got.body!r}") == (usual.status, False)
