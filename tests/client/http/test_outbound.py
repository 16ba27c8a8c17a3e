# SPDX-License-Identifier: MIT
"""Forward proxies: which one is taken for an address, what it is asked, and what becomes of its refusals.

Nothing here leaves loopback: the proxy is a server of the test, and it decides itself where `tools.example` is.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
import trustme
from certificates import certified, trusting
from scripted import Peer, Seen, result, scripted, session_server

from mcp_h11.client.client import Client
from mcp_h11.client.http.dialing import MAX_TUNNEL_HEAD
from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient
from mcp_h11.client.http.outbound import (
    MAX_NO_PROXY,
    PROXY_PORT,
    ForwardProxies,
    ForwardProxy,
    is_loopback,
    parse_proxy,
)
from mcp_h11.client.http.wire import ConnectError
from mcp_h11.client.transports.errors import ConnectionLost, HTTPStatusError

pytestmark = pytest.mark.anyio

LIMIT = 30.0
P, Q = "http://p.example:3128", "q.example:8080"
LEGACY: Any = {"revision": "2025-11-25", "timeout": LIMIT}


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "http://h/", None),
        ({"http_proxy": P}, "http://h/", "p.example:3128"), ({"HTTP_PROXY": P}, "http://h/", "p.example:3128"),
        ({"https_proxy": Q}, "https://h/", "q.example:8080"), ({"HTTPS_PROXY": Q}, "https://h/", "q.example:8080"),
        ({"HTTPS_PROXY": P}, "http://h/", None), ({"HTTP_PROXY": P}, "https://h/", None),
        ({"all_proxy": P}, "http://h/", "p.example:3128"), ({"ALL_PROXY": P}, "https://h/", "p.example:3128"),
        ({"ALL_PROXY": P, "http_proxy": Q}, "http://h/", "q.example:8080"),
        ({"http_proxy": P, "HTTP_PROXY": Q}, "http://h/", "p.example:3128"),
        ({"http_proxy": "", "HTTP_PROXY": Q, "ALL_PROXY": P}, "http://h/", None),  # empty: none
        ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, "http://h/", None),  # the header Proxy of a client of a CGI script
        ({"http_proxy": P, "REQUEST_METHOD": "GET"}, "http://h/", "p.example:3128"),
        ({"ALL_PROXY": "socks5://s:1", "HTTP_PROXY": P}, "http://h/", "p.example:3128"),
    ],
)  # fmt: skip
def test_the_variable_of_the_scheme_is_looked_at_first(environ: dict[str, str], url: str, proxy: str | None) -> None:
    secure = url.startswith("https")
    found = ForwardProxies(environ).find(secure, "h", 443 if secure else 80)
    assert (None if found is None else found.name) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("*", "h.example", 80, True), ("h.example", "h.example", 80, True), ("h.example", "a.h.example", 80, True),
        ("h.example", "ah.example", 80, False), (".h.example", "a.h.example", 80, True),
        (".h.example", "h.example", 80, True),
        ("*.h.example", "a.h.example", 80, True), ("H.Example.", "h.example", 80, True),
        ("h.example", "H.EXAMPLE.", 80, True),
        ("a, b  c", "c", 80, True), ("a,,b", "d", 80, False), ("h:8080", "h", 8080, True), ("h:8080", "h", 80, False),
        ("*:443", "h", 443, True), ("*:443", "h", 80, False), ("10.0.0.1", "10.0.0.1", 80, True),
        ("0.0.1", "10.0.0.1", 80, False),
        ("10.0.0.0/8", "10.9.9.9", 80, True), ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("fd00::/8", "fd00::1", 80, True), ("fd00::1", "fd00:0::1", 80, True), ("[fd00::1]:81", "fd00::1", 81, True),
        ("[fd00::1]:81", "fd00::1", 80, False), ("[fd00::1]", "fd00::1", 80, True),
        ("10.0.0.1", "::ffff:10.0.0.1", 80, True),
        (".", "h", 80, False), ("", "h", 80, False), ("h:99999999", "h", 80, False),
        ("10.0.0.1:8", "10.0.0.1", 8, True),
    ],
)  # fmt: skip
def test_what_no_proxy_names_is_reached_directly(no_proxy: str, host: str, port: int, direct: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert (ForwardProxies({"ALL_PROXY": P, name: no_proxy}).find(False, host, port) is None) == direct


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("alocalhost", False),
        ("localhost.example", False), ("128.0.0.1", False), ("fe80::1%eth0", False), ("", False), ("cafe", False),
    ],
)  # fmt: skip
def test_loopback_is_never_asked_for_through_a_proxy(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    for proxies in (ForwardProxies({"ALL_PROXY": P}), ForwardProxies({}, P)):
        assert (proxies.find(False, host, 80) is None) == loopback


def test_an_address_of_a_proxy_may_have_credentials_and_none_of_them_is_shown() -> None:
    found = parse_proxy("http://ann%40x:hu%3Ash@p.example")
    assert (found.host, found.port) == ("p.example", PROXY_PORT)
    assert found.authorization == "Basic " + base64.b64encode(b"ann@x:hu:sh").decode()
    assert "hu" not in repr(found) + found.name and "Basic" not in repr(found)
    assert parse_proxy("p:1") == ForwardProxy("p", 1) and parse_proxy("HTTP://[fd00::1]:1").name == "[fd00::1]:1"
    assert parse_proxy("http://:hush@p").authorization == "Basic " + base64.b64encode(b":hush").decode()


@pytest.mark.parametrize(
    "url",
    [
        "socks5://hush:1", "https://hush:1", "http://", "http://hush:x", "http://hush:0", "http://[hush", "http://\u00e4:1",
        "http://a\x01b:1",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_an_error_that_names_the_variable_and_no_value(url: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY: ") as caught:
        ForwardProxies({"HTTPS_PROXY": url}).find(True, "h", 443)
    assert "hush" not in str(caught.value)
    with pytest.raises(ValueError, match="proxy"):
        Client("http://tools.example/mcp", proxy=url)
    assert ForwardProxies({"HTTPS_PROXY": url}).find(True, "localhost", 443) is None


def test_a_list_of_hosts_is_read_to_its_limit() -> None:
    last = "b.example"
    fits = "," * (MAX_NO_PROXY - len(last)) + last
    assert ForwardProxies({"all_proxy": P, "no_proxy": fits}).find(False, last, 80) is None
    assert ForwardProxies({"all_proxy": P, "no_proxy": "," + fits}).find(False, last, 80) is not None


# --- a request that is passed on --------------------------------------------------------------------------------------


async def said(seen: Seen, peer: Peer) -> None:
    await peer.answer(result(seen, {"content": []}))


async def test_a_client_asks_the_proxy_of_its_environment_for_the_whole_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scripted(session_server(said)) as script:
        monkeypatch.setenv("http_proxy", f"http://ann:hush@127.0.0.1:{script.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        for host, shown in (
            ("tools.example:81", "tools.example:81"),
            ("tools.example:80", "tools.example"),
            ("[fd00::1]", "[fd00::1]"),
        ):
            script.seen.clear()
            async with Client(f"http://{host}/mcp?a=1", **LEGACY) as client:
                await client.call_tool("a")
            assert {seen.target for seen in script.seen} == {f"http://{shown}/mcp?a=1"}
            assert {seen.headers["host"] for seen in script.seen} == {shown}
            basic = "Basic " + base64.b64encode(b"ann:hush").decode()
            assert {seen.headers["proxy-authorization"] for seen in script.seen} == {basic}
        assert script.connections < len(script.seen) * 3  # they are kept for the next request


async def test_a_server_on_loopback_sees_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://ann:hush@127.0.0.1:1")
    async with scripted(session_server(said)) as script, Client(script.url, **LEGACY) as client:
        await client.call_tool("a")
    assert {seen.target for seen in script.seen} == {"/mcp"}
    assert not any("proxy-authorization" in seen.headers for seen in script.seen)


async def test_a_proxy_may_be_given_and_the_environment_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with scripted(session_server(said)) as script:
        async with Client("http://tools.example/mcp", proxy=f"127.0.0.1:{script.port}", **LEGACY) as client:
            await client.call_tool("a")
        assert {seen.target for seen in script.seen} == {"http://tools.example/mcp"}
    client = Client("http://tools.example/mcp", proxy=None)
    assert client._options.proxies() is None


async def test_what_a_proxy_refuses_is_its_status() -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer({"detail": "who are you"}, status=407)

    async with scripted(refuse) as script:
        with pytest.raises(HTTPStatusError) as caught:
            async with Client("http://tools.example/mcp", proxy=script.url, **LEGACY):
                raise AssertionError
    assert caught.value.status == 407


async def test_a_proxy_that_cannot_be_used_is_no_direct_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://hush:1")
    with pytest.raises(ConnectionLost, match="https_proxy: a proxy is spoken to by http") as caught:
        async with Client("https://tools.example/mcp", **LEGACY):
            raise AssertionError
    assert "hush" not in str(caught.value) and caught.value.sent is False


# --- a tunnel ---------------------------------------------------------------------------------------------------------


class Tunnels:
    """A proxy that connects to one port, whatever it is asked for; or says what the test wants."""

    def __init__(self, port: int, answer: bytes | None = None, piece: int = 1 << 16) -> None:
        self.asked: list[bytes] = []
        self.address = ""
        self._port = port
        self._answer = answer
        self._piece = piece

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        answer = b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n" if self._answer is None else self._answer
        for start in range(0, len(answer), self._piece):
            writer.write(answer[start : start + self._piece])
            await writer.drain()
        if self._answer is not None:
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        finally:
            back.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(connected: Callable[..., Any], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serves each connection by that coroutine function, and leaves none behind; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await connected(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(Exception):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        with anyio.fail_after(LIMIT):
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def tunnels(port: int = 0, answer: bytes | None = None, **how: Any) -> AsyncIterator[Tunnels]:
    proxy = Tunnels(port, answer, **how)
    async with serving(proxy.connected) as here:
        proxy.address = f"127.0.0.1:{here}"
        yield proxy


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def secure(authority: trustme.CA, name: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TLS server that answers each request with `ok`: its port, and the heads that it saw."""
    heads: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with serving(connected, certified(authority, name)) as port:
        yield port, heads


@pytest.mark.parametrize("piece", [1, 1 << 16])
async def test_https_goes_through_a_tunnel_that_is_used_again(authority: trustme.CA, piece: int) -> None:
    async with secure(authority, "tools.example") as (port, heads), tunnels(port, piece=piece) as proxy:
        proxies = ForwardProxies({}, f"http://ann:hush@{proxy.address}")
        async with HTTPClient(ssl=trusting(authority), proxies=proxies) as client:
            for _ in range(2):
                with anyio.fail_after(LIMIT):
                    async with await client.send(HTTPCall("GET", "https://tools.example/a")) as answer:
                        assert await answer.read(10) == b"ok"
    basic = base64.b64encode(b"ann:hush")
    asked = (
        b"CONNECT tools.example:443 HTTP/1.1\r\nHost: tools.example:443\r\nProxy-Authorization: Basic %s\r\n\r\n"
        % basic
    )
    assert proxy.asked == [asked]
    assert len(heads) == 2 and all(head.startswith(b"GET /a HTTP/1.1\r\nHost: tools.example\r\n") for head in heads)
    assert not any(b"Proxy-Authorization" in head for head in heads)  # it is the proxy's, and not the server's


async def test_the_name_in_the_certificate_is_that_of_the_server_and_not_of_the_proxy(authority: trustme.CA) -> None:
    async with secure(authority, "127.0.0.1") as (port, heads), tunnels(port) as proxy:
        async with HTTPClient(ssl=trusting(authority), proxies=ForwardProxies({}, proxy.address)) as client:
            with pytest.raises(ConnectError, match=r"certificate|CERTIFICATE"):
                await client.send(HTTPCall("GET", "https://tools.example/"))
    assert heads == []


LONG = b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_TUNNEL_HEAD - 20)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 Who\r\nContent-Length: 4\r\n\r\nnono", "status 407: it wants credentials"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refuses tools.example:443 with status 403$"),
        (b"HTTP/1.0 502\r\n\r\n", "status 502$"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "says more than it was asked"), (b"SSH-2.0-x\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 20\r\n\r\n", "is no HTTP"), (b"HTTP/2 200\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 200", "through the proxy"), (b"", "through the proxy"),
        (LONG + b"\r\n\r\nmore", "says more"), (LONG + b"x\r\n\r\n", "is no HTTP"), (LONG * 3, "is no HTTP"),
    ],
)  # fmt: skip
async def test_a_tunnel_that_does_not_come_about_is_no_connection(answer: bytes, says: str) -> None:
    async with tunnels(answer=answer) as proxy:
        client = HTTPClient(proxies=ForwardProxies({}, f"http://ann:hush@{proxy.address}"), connect_timeout=LIMIT)
        async with client:
            with pytest.raises(ConnectError, match=says) as caught:
                await client.send(HTTPCall("POST", "https://tools.example/", body=b"secret"))
            assert not client._open
    assert "hush" not in str(caught.value) and proxy.address in str(caught.value)
    assert len(LONG) == MAX_TUNNEL_HEAD


async def test_a_proxy_that_says_nothing_is_given_up() -> None:
    async def silent(seen: Seen, peer: Peer) -> None:
        await peer.gone()

    async with scripted(silent) as script:
        async with HTTPClient(proxies=ForwardProxies({}, script.url), connect_timeout=0.2) as client:
            with pytest.raises(
                ConnectError, match=re.escape(f"tools.example:443 through the proxy 127.0.0.1:{script.port} within")
            ):
                await client.send(HTTPCall("GET", "https://tools.example/"))


async def test_a_unix_socket_and_a_client_of_http_alone_take_no_proxy() -> None:
    async with scripted(session_server(said)) as script, HTTPClient() as client:
        async with await client.send(HTTPCall("DELETE", script.url)) as answer:
            assert answer.status == 204
    assert [seen.target for seen in script.seen] == ["/mcp"]
    sealed = HTTPClient(uds="/no/such/socket", proxies=ForwardProxies({}, P))
    with pytest.raises(ConnectError, match="no connection to /no/such/socket: "):
        await sealed.send(HTTPCall("GET", "http://tools.example/"))


async def test_the_reason_of_a_missing_connection_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HTTPClient() as client:
        for host in ("127.0.0.1", "localhost"):  # a name may have several addresses, which all refuse
            with pytest.raises(
                ConnectError, match=f"^no connection to {host}:1: connection refused, no server listens"
            ):
                await client.send(HTTPCall("GET", f"http://{host}:1/"))

        async def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(anyio, "connect_tcp", unknown)
        with pytest.raises(ConnectError, match="^no connection to tools.example:80: Name or service not known$"):
            await client.send(HTTPCall("GET", "http://tools.example/"))
