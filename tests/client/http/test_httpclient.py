# SPDX-License-Identifier: MIT
"""httpclient against servers that write given bytes: what goes out, what comes back, what is used again.

`Script` is the server: each connection is handled by a coroutine of the test; no wait is without a limit.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from certificates import certified, trusting
from serving import UVLOOP, Held, served

from mcp_h11.client.http import httpclient
from mcp_h11.client.http.httpclient import (
    MAX_REDIRECT_BODY,
    HTTPCall,
    HTTPClient,
)
from mcp_h11.client.http.urls import parse_url
from mcp_h11.client.http.wire import PIECE, AnswerTimeout, BadAnswer, BrokenAnswer, ConnectError, TooLarge
from mcp_h11.http.client import ClientLimits

pytestmark = pytest.mark.anyio
LIMIT = 30.0
posix = pytest.mark.skipif(os.name != "posix", reason="Unix sockets")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        head = await self.head()
        length = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        return head, await self.reader.readexactly(length[0] if length else 0)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        try:
            while await self.reader.read(PIECE):
                pass
        except OSError:
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


Handler = Callable[[Peer], Awaitable[None]]


class Script:
    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.errors: list[BaseException] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.handler(Peer(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        except Exception as error:
            self.errors.append(error)
        finally:
            self.tasks.discard(task)
            writer.transport.abort()


@asynccontextmanager
async def scripted(
    handler: Handler, *, uds: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Script]:
    script = Script(handler)
    if uds is not None:
        server = await asyncio.start_unix_server(script.connected, uds)
    else:
        server = await asyncio.start_server(script.connected, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        script.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"
    with anyio.fail_after(LIMIT):
        try:
            yield script
        finally:
            server.close()
            for task in list(script.tasks):
                task.cancel()
            await asyncio.gather(*script.tasks, return_exceptions=True)
    assert script.errors == []


def answering(*answers: bytes, then: Callable[[Peer], Any] | None = None) -> Handler:
    """Each request of a connection gets the next of these; behind the last: `then`, or the end."""

    async def handler(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.say(answer)
        if then is None:
            await peer.gone()
        elif (result := then(peer)) is not None:
            await result

    return handler


def hanging_up(peer: Peer) -> None:
    peer.writer.close()


async def get(
    client: HTTPClient, url: str, *, method: str = "GET", body: bytes = b"", repeatable: bool = False
) -> bytes:
    async with await client.send(HTTPCall(method, url, [], body, repeatable)) as answer:
        return await answer.read(1000)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(LIMIT):
        while not condition():
            await anyio.sleep(0.001)


# --- what goes out ----------------------------------------------------------------------------------------------------


async def test_the_bytes_of_a_request() -> None:
    async def handler(peer: Peer) -> None:
        script.requests.append(await peer.request())
        await peer.say(OK)

    async with scripted(handler) as script, HTTPClient() as client:
        call = HTTPCall("POST", f"{script.url}?a=%20 b", [("X-One", "1")], b"{}")
        async with await client.send(call) as answer:
            assert (answer.status, answer.headers) == (200, ((b"content-length", b"2"),))
            assert answer.get("Content-Length") == "2" and answer.get("none") is None
            assert await answer.read(2) == b"ok"
        authority = script.url.split("/")[2].encode()
        assert script.requests == [
            (
                b"POST /mcp?a=%20%20b HTTP/1.1\r\nHost: " + authority + b"\r\nX-One: 1\r\n"
                b"Accept-Encoding: identity\r\nContent-Length: 2\r\n\r\n",
                b"{}",
            )
        ]


async def test_headers_of_the_caller_win() -> None:
    async def handler(peer: Peer) -> None:
        script.requests.append(await peer.request())
        await peer.say(OK)

    async with scripted(handler) as script, HTTPClient() as client:
        headers = [("host", "example.com"), ("ACCEPT-encoding", "x")]
        async with await client.send(HTTPCall("GET", script.url, headers)) as answer:
            await answer.read(2)
        assert script.requests[0][0] == b"GET /mcp HTTP/1.1\r\nhost: example.com\r\nACCEPT-encoding: x\r\n\r\n"


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://a", (False, "a", 80, None), "a", "/"),
        ("http://A:80/x#y", (False, "a", 80, None), "a", "/x"),
        ("https://a:444?q", (True, "a", 444, None), "a:444", "/?q"),
        ("https://[::1]/", (True, "::1", 443, None), "[::1]", "/"),
        ("http://[::1]:81/", (False, "::1", 81, None), "[::1]:81", "/"),
        (
            "http://b\u00fccher.example/\u00fc",
            (False, "xn--bcher-kva.example", 80, None),
            "xn--bcher-kva.example",
            "/%C3%BC",
        ),
        ("http+unix://%2Frun%2FS/mcp", (False, "localhost", 80, "/run/S"), "localhost", "/mcp"),
    ],
)
def test_urls(url: str, origin: tuple[Any, ...], authority: str, target: str) -> None:
    found, *rest = parse_url(url)
    assert (found.secure, found.host, found.port, found.uds) == origin and rest == [authority, target]


@pytest.mark.parametrize(
    "url", ["", "ftp://a/", "a:80", "/mcp", "http:///x", "http://u:secret@a/", "http://a:x/", "http+unix:///x"]
)
async def test_urls_that_are_refused(url: str) -> None:
    async with HTTPClient() as client:
        with pytest.raises(ValueError) as caught:
            await client.send(HTTPCall("GET", url))
    assert "secret" not in str(caught.value)


async def test_a_header_that_cannot_be_sent_is_refused() -> None:
    async with scripted(answering(OK)) as script, HTTPClient() as client:
        with pytest.raises(ValueError):
            await client.send(HTTPCall("GET", script.url, [("X", "a\r\nEvil: 1")]))
        assert await get(client, script.url) == b"ok"


def test_a_call_does_not_show_its_secrets() -> None:
    call = HTTPCall("GET", "http://a/", [("Authorization", "Bearer secret")], b"secret")
    assert "secret" not in repr(call)


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_pieces_are_given_out_before_the_end() -> None:
    more = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + b"3\r\none\r\n")
        await more.wait()
        await peer.say(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.gone()

    async with scripted(handler) as script, HTTPClient() as client:
        answer = await client.send(HTTPCall("GET", script.url))
        pieces = aiter_of(answer)
        assert await pieces.__anext__() == b"one"
        more.set()
        assert [piece async for piece in answer] == [b"two"]
        assert [piece async for piece in answer] == []
        await answer.aclose()


def aiter_of(answer: Any) -> AsyncIterator[bytes]:
    return answer.__aiter__()  # type: ignore[no-any-return]


async def test_a_body_at_its_limit_and_one_past() -> None:
    async with scripted(answering(OK, OK)) as script, HTTPClient() as client:
        answer = await client.send(HTTPCall("GET", script.url))
        assert await answer.read(2) == b"ok"
        answer = await client.send(HTTPCall("GET", script.url))
        with pytest.raises(TooLarge):
            await answer.read(1)


async def test_an_answer_up_to_the_close() -> None:
    async with scripted(answering(b"HTTP/1.1 200 OK\r\n\r\nall", then=hanging_up)) as script, HTTPClient() as client:
        assert await get(client, script.url) == b"all"
        assert await get(client, script.url) == b"all"
        assert script.connections == 2


@pytest.mark.parametrize(
    "cut", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", CHUNKED + b"2\r\nab\r\n"], ids=["length", "chunks"]
)
@pytest.mark.parametrize("how", [hanging_up, Peer.reset])
async def test_a_server_that_leaves_in_the_middle(cut: bytes, how: Callable[[Peer], None]) -> None:
    read = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(cut)
        await read.wait()
        how(peer)

    async with scripted(handler) as script, HTTPClient() as client:
        answer = await client.send(HTTPCall("GET", script.url, repeatable=True))
        assert await aiter_of(answer).__anext__() == b"ab"
        read.set()
        with pytest.raises(BrokenAnswer) as caught:
            await answer.read(1000)
        assert caught.value.sent
        with pytest.raises(BrokenAnswer):
            await answer.read(1000)
        await answer.aclose()
        assert script.connections == 1


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 32768, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"],
    ids=["protocol", "head", "coding"],
)
async def test_a_server_that_breaks_http(data: bytes) -> None:
    async with scripted(answering(data)) as script, HTTPClient() as client:
        for connections in (1, 2):
            with pytest.raises(BadAnswer):
                await client.send(HTTPCall("GET", script.url, repeatable=True))
            assert script.connections == connections


async def test_a_body_that_breaks_http() -> None:
    async with scripted(answering(CHUNKED + b"2\r\nok\r\nx\r\n")) as script, HTTPClient() as client:
        with pytest.raises(BadAnswer):
            await get(client, script.url)


async def test_the_limits_are_the_callers() -> None:
    async with scripted(answering(OK)) as script, HTTPClient(limits=ClientLimits(max_head=20)) as client:
        with pytest.raises(BadAnswer, match="head too large"):
            await get(client, script.url)


# --- the pool ---------------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:
    async with scripted(answering(OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", OK)) as script, HTTPClient() as client:
        for _ in range(3):
            assert await get(client, script.url) == b"ok"
        assert script.connections == 1


async def test_an_answer_that_has_all_arrived_gives_its_connection_back_unread() -> None:
    async with scripted(answering(OK, OK)) as script, HTTPClient() as client:
        for _ in range(2):
            await (await client.send(HTTPCall("GET", script.url))).aclose()
        assert script.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        CHUNKED + b"2\r\nok\r\n",
        CHUNKED + b"2\r\nok\r\nx\r\n",
        OK + b"more",
        OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
    ],
    ids=["length", "chunks", "bad", "more", "close"],
)
async def test_an_answer_that_is_left_before_its_end_closes_the_connection(data: bytes) -> None:
    left = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(data)
        await peer.gone()
        left.set()

    async with scripted(handler) as script, HTTPClient() as client:
        for connections in (1, 2):
            answer = await client.send(HTTPCall("GET", script.url))
            await answer.aclose()
            await answer.aclose()
            await left.wait()
            assert script.connections == connections
        if b"Connection" not in data and b"more" not in data:
            with pytest.raises(BrokenAnswer):
                await answer.read(1000)


async def test_calls_at_once_have_connections_of_their_own_and_the_pool_is_bounded() -> None:
    everybody = asyncio.Event()

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            if script.connections == 5:
                everybody.set()
            await everybody.wait()
            await peer.say(OK)

    async with scripted(handler) as script, HTTPClient(max_idle=2) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(get, client, script.url)
        await until(lambda: len(script.tasks) == 2)
        assert await get(client, script.url) == b"ok"
        assert script.connections == 5


async def test_idle_connections_end_with_their_time() -> None:
    now = 0.0
    async with scripted(answering(OK, OK)) as script, HTTPClient(idle_time=60.0, clock=lambda: now) as client:
        await get(client, script.url)
        now = 59.9
        await get(client, script.url)
        assert script.connections == 1
        now += 60.0
        await get(client, script.url)
        assert script.connections == 2
        await until(lambda: len(script.tasks) == 1)


async def test_each_origin_has_its_connections() -> None:
    async with scripted(answering(OK, OK)) as one, scripted(answering(OK, OK)) as two, HTTPClient() as client:
        for script in (one, two, one, two):
            await get(client, script.url)
        assert (one.connections, two.connections) == (1, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("how", ["closed", "reset", "said something"])
async def test_an_idle_connection_that_ended_is_noticed_before_it_is_used(how: str) -> None:
    ended = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        if script.connections == 1:
            await ended.wait()
            if how == "reset":
                peer.reset()
                return
            await peer.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n" if how == "said something" else b"")
            peer.writer.write_eof()
        await peer.gone()

    async with scripted(handler) as script, HTTPClient() as client:
        await get(client, script.url)
        ended.set()
        descriptor = idle_socket(client)
        await anyio.wait_readable(descriptor)
        os.close(descriptor)
        # Not repeatable, so that it would fail if it went to the old connection.
        assert await get(client, script.url, method="POST", body=b"x") == b"ok"
        assert script.connections == 2


def idle_socket(client: HTTPClient) -> Any:
    (wire,) = client._idle
    return os.dup(wire._socket.fileno())


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_an_idle_connection_that_is_no_more_is_not_used() -> None:
    async with scripted(answering(OK)) as script, HTTPClient() as client:
        await get(client, script.url)
        await client._idle[0]._stream.aclose()
        await anyio.wait_all_tasks_blocked()
        assert await get(client, script.url) == b"ok"
        assert script.connections == 2


@pytest.mark.parametrize(("repeatable", "connections"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("how", [hanging_up, Peer.reset])
async def test_a_pooled_connection_that_dies_under_a_request(
    repeatable: bool, connections: int, how: Callable[[Peer], None]
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.head()
        if script.connections == 1:
            how(peer)

    async with scripted(handler) as script, HTTPClient() as client:
        await get(client, script.url)
        if repeatable:
            assert await get(client, script.url, method="POST", body=b"x", repeatable=True) == b"ok"
        else:
            with pytest.raises(BrokenAnswer) as caught:
                await get(client, script.url, method="POST", body=b"x")
            assert caught.value.sent
        assert script.connections == connections


async def test_a_request_is_not_repeated_once_an_answer_has_begun_nor_on_a_new_connection() -> None:
    async def handler(peer: Peer) -> None:
        if script.connections == 1:
            await peer.request()
            await peer.say(OK)
            await peer.request()
            await peer.say(b"HTTP/1.1 2")
        else:
            await peer.request()

    async with scripted(handler) as script, HTTPClient() as client:
        await get(client, script.url)
        for connections in (1, 2):
            with pytest.raises(BrokenAnswer):
                await get(client, script.url, repeatable=True)
            assert script.connections == connections


async def test_a_large_request_that_was_not_written_whole_is_sent_again() -> None:
    large = bytes(64 * PIECE)

    async def handler(peer: Peer) -> None:
        if script.connections == 1:
            await peer.request()
            await peer.say(OK)
            await peer.head()
            peer.reset()
        else:
            script.requests.append(await peer.request())
            await peer.say(OK)

    async with scripted(handler) as script, HTTPClient() as client:
        await get(client, script.url)
        assert await get(client, script.url, method="POST", body=large) == b"ok"
        assert script.connections == 2 and script.requests[0][1] == large


# --- large requests ---------------------------------------------------------------------------------------------------


async def test_a_refusal_is_read_while_the_body_is_written() -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.say(refusal)
        await release.wait()

    release = anyio.Event()
    body = bytes(1024 * PIECE)  # more than the buffers of two sockets: Linux may be set to let one grow to 32 MiB
    async with scripted(handler) as script, HTTPClient() as client:
        for connections in (1, 2):
            async with await client.send(HTTPCall("POST", script.url, [], body)) as answer:
                assert (answer.status, await answer.read(2)) == (413, b"no")
            assert script.connections == connections


async def test_a_body_goes_on_after_a_good_head() -> None:
    async def handler(peer: Peer) -> None:
        await peer.head()
        await peer.say(CHUNKED)
        body = await peer.reader.readexactly(64 * PIECE)
        await peer.say(b"2\r\nok\r\n0\r\n\r\n")
        script.requests.append((b"", body))
        await peer.request()
        await peer.say(OK)

    async with scripted(handler) as script, HTTPClient() as client:
        body = os.urandom(64 * PIECE)
        assert await get(client, script.url, method="POST", body=body) == b"ok"
        assert script.requests[0][1] == body
        assert await get(client, script.url) == b"ok"
        assert script.connections == 1


async def test_a_large_body_that_is_cut_off() -> None:
    async def handler(peer: Peer) -> None:
        await peer.head()
        if b"early" in script.url.encode():
            await peer.say(CHUNKED)
        peer.reset()

    async with scripted(handler) as script, HTTPClient() as client:
        for url in (script.url, script.url + "/early"):
            script.url = url
            with pytest.raises(BrokenAnswer):
                await get(client, url, method="POST", body=bytes(64 * PIECE))


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2 * PIECE])
async def test_an_answer_that_does_not_begin(size: int) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.gone()

    async with scripted(handler) as script, HTTPClient(head_timeout=0.05) as client:
        with pytest.raises(AnswerTimeout, match="no answer within"):
            await get(client, script.url, method="POST", body=bytes(size), repeatable=True)
        await until(lambda: not script.tasks)
        assert script.connections == 1


async def test_without_a_limit_the_answer_may_take_its_time() -> None:
    asked = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.say(OK)

    async with scripted(handler) as script, HTTPClient(head_timeout=None, connect_timeout=None) as client:
        assert await get(client, script.url, method="POST", body=bytes(2 * PIECE)) == b"ok"


async def test_a_server_that_does_not_read() -> None:
    release = anyio.Event()

    async def handler(peer: Peer) -> None:
        await release.wait()

    async with scripted(handler) as script, HTTPClient(write_timeout=0.05, head_timeout=None) as client:
        with pytest.raises(AnswerTimeout, match="has read nothing"):
            await get(client, script.url, method="POST", body=bytes(1024 * PIECE))


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with HTTPClient() as client:
            with pytest.raises(ConnectError) as caught:
                await get(client, f"http://127.0.0.1:{taken.getsockname()[1]}/", repeatable=True)
    assert not caught.value.sent and "refused" in str(caught.value).lower()


async def test_a_handshake_that_does_not_end() -> None:
    async with scripted(Peer.gone) as script, HTTPClient(connect_timeout=0.05) as client:
        with pytest.raises(ConnectError, match="within 0.05 s"):
            await get(client, script.url.replace("http:", "https:"))
        await until(lambda: not script.tasks)


# --- cancellation, the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2 * PIECE])
async def test_a_send_that_is_cancelled_closes_its_connection(size: int) -> None:
    asked, gone = anyio.Event(), anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()
        gone.set()

    async with scripted(handler) as script, HTTPClient() as client, anyio.create_task_group() as tasks:

        async def send() -> None:
            await get(client, script.url, method="POST", body=bytes(size))

        tasks.start_soon(send)
        await asked.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await gone.wait()
    assert not client._open and not client._idle


async def test_a_read_that_is_cancelled_closes_its_connection() -> None:
    gone = anyio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + b"1\r\na\r\n")
        await peer.gone()
        gone.set()

    async with scripted(handler) as script, HTTPClient() as client:
        answer = await client.send(HTTPCall("GET", script.url))
        assert await aiter_of(answer).__anext__() == b"a"
        with anyio.move_on_after(0.01):
            await aiter_of(answer).__anext__()
        await gone.wait()
        with pytest.raises(BrokenAnswer):
            await aiter_of(answer).__anext__()
        assert not client._open and not client._idle


async def test_closing_while_answers_are_open() -> None:
    async with scripted(answering(CHUNKED)) as script:
        client = HTTPClient()
        reading = await client.send(HTTPCall("GET", script.url))
        unread = await client.send(HTTPCall("GET", script.url))
        raised: list[BaseException] = []

        async def read() -> None:
            try:
                await reading.read(1000)
            except BrokenAnswer as error:
                raised.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await client.aclose()
        assert len(raised) == 1
        await unread.aclose()
        await until(lambda: not script.tasks)
        with pytest.raises(ConnectError, match="closed"):
            await client.send(HTTPCall("GET", script.url))
        await client.aclose()


async def test_an_answer_that_ends_after_the_client_does_not_come_back() -> None:
    async with scripted(answering(OK)) as script:
        client = HTTPClient()
        answer = await client.send(HTTPCall("GET", script.url))
        await client.aclose()
        await answer.aclose()
        assert not client._idle
        await until(lambda: not script.tasks)


async def test_closing_while_a_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(answering(OK)) as script:
        client = HTTPClient()
        opened = httpclient.open_stream

        async def slow(*given: Any) -> Any:
            stream = await opened(*given)
            await client.aclose()
            return stream

        monkeypatch.setattr(httpclient, "open_stream", slow)
        with pytest.raises(ConnectError, match="closed"):
            await get(client, script.url)
        await until(lambda: not script.tasks)


async def test_nothing_is_left_behind() -> None:
    # What the loop opens with its first connection stays.
    async with scripted(answering(OK)) as script, HTTPClient() as client:
        await get(client, script.url)
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    async with scripted(answering(*[OK] * 20)) as script, HTTPClient() as client:
        tasks = len(asyncio.all_tasks()) - len(script.tasks)
        for _ in range(20):
            await get(client, script.url)
        # No task of the client's, idle or not.
        assert len(asyncio.all_tasks()) - len(script.tasks) == tasks
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    if before:
        await until(lambda: len(os.listdir("/dev/fd")) <= before)


# --- redirects --------------------------------------------------------------------------------------------------------


def redirect(status: int, location: str, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nLocation: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        location.encode(),
        len(body),
        body,
    )


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/there?x=1", "there?x=1", "{origin}/there?x=1"])
async def test_redirects_within_the_origin_are_followed(status: int, location: str) -> None:
    async def handler(peer: Peer) -> None:
        script.requests.append(await peer.request())
        origin = script.url[: -len("/mcp")]
        await peer.say(redirect(status, location.format(origin=origin), b"moved"))
        script.requests.append(await peer.request())
        await peer.say(OK)

    async with scripted(handler) as script, HTTPClient() as client:
        assert await get(client, script.url, method="POST", body=b"{}") == b"ok"
        assert [head.split(b"\r\n")[0] for head, _ in script.requests] == [
            b"POST /mcp HTTP/1.1",
            b"POST /there?x=1 HTTP/1.1",
        ]
        assert [body for _, body in script.requests] == [b"{}", b"{}"]
        assert script.connections == 1


async def test_three_redirects_are_followed_and_no_fourth() -> None:
    hops = [redirect(307, "/a")] * 3
    async with scripted(answering(*hops, OK)) as script, HTTPClient() as client:
        assert await get(client, script.url) == b"ok"
    async with scripted(answering(*hops, redirect(307, "/a"), OK)) as script, HTTPClient() as client:
        with pytest.raises(BadAnswer, match="more than 3 redirects"):
            await get(client, script.url)


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (307, "http://127.0.0.1:1/"),
        (307, "https://127.0.0.1/"),
        (308, "//elsewhere/"),
        (307, "ftp://127.0.0.1/"),
        (307, "http://[bad/"),
        (302, "/there"),
        (303, "/there"),
    ],
)
async def test_other_redirects_are_answers(status: int, location: str) -> None:
    async with scripted(answering(redirect(status, location))) as script, HTTPClient() as client:
        async with await client.send(HTTPCall("GET", script.url)) as answer:
            assert (answer.status, answer.get("location")) == (status, location)


async def test_a_redirect_without_a_place_is_an_answer_and_one_with_a_large_body_is_not_read() -> None:
    nowhere = b"HTTP/1.1 307 X\r\nContent-Length: 0\r\n\r\n"
    async with scripted(answering(nowhere)) as script, HTTPClient() as client:
        async with await client.send(HTTPCall("GET", script.url)) as answer:
            assert answer.status == 307

    async def handler(peer: Peer) -> None:
        await peer.request()
        large = redirect(307, "/a", bytes(MAX_REDIRECT_BODY * 64))
        await peer.say(large if script.connections == 1 else OK)
        await peer.gone()

    async with scripted(handler) as script, HTTPClient() as client:
        assert await get(client, script.url) == b"ok"
        assert script.connections == 2


# --- TLS, Unix sockets ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_tls(authority: trustme.CA) -> None:
    tls = certified(authority, "127.0.0.1")
    async with (
        scripted(answering(OK, OK, CHUNKED + b"1\r\na\r\n"), tls=tls) as script,
        HTTPClient(ssl=trusting(authority)) as client,
    ):
        for _ in range(2):
            assert await get(client, script.url) == b"ok"
        assert script.connections == 1
        # Left with its body unread: TLS complains of that, and nobody hears it.
        answer = await client.send(HTTPCall("GET", script.url))
        await answer.aclose()


async def test_tls_of_somebody_else_is_refused(authority: trustme.CA) -> None:
    async with scripted(answering(OK), tls=certified(authority, "other.example")) as script:
        async with HTTPClient(ssl=trusting(authority)) as client:
            with pytest.raises(ConnectError, match=r"certificate|CERTIFICATE"):
                await get(client, script.url)
    async with scripted(answering(OK), tls=certified(authority, "127.0.0.1")) as script, HTTPClient() as client:
        with pytest.raises(ConnectError, match=r"certificate|CERTIFICATE"):
            await get(client, script.url)
        assert client._ssl is not None and client._ssl.minimum_version == ssl.TLSVersion.TLSv1_2
        assert client._ssl.check_hostname


async def test_an_answer_that_ends_without_tls_saying_so_is_cut_short(authority: trustme.CA) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await read.wait()
        # Past the TLS layer: the connection ends and TLS does not.
        sock = peer.writer.get_extra_info("socket")
        os.close(shut(sock.fileno()))
        await peer.gone()

    def shut(descriptor: int) -> int:
        copy = os.dup(descriptor)
        with socket.socket(fileno=os.dup(descriptor)) as raw:
            raw.shutdown(socket.SHUT_WR)
        return copy

    read = anyio.Event()
    async with scripted(handler, tls=certified(authority, "127.0.0.1")) as script:
        async with HTTPClient(ssl=trusting(authority)) as client:
            answer = await client.send(HTTPCall("GET", script.url))
            assert await aiter_of(answer).__anext__() == b"half"
            read.set()
            with pytest.raises(BrokenAnswer):
                await answer.read(1000)


async def test_tls_where_there_is_none() -> None:
    async def handler(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with scripted(handler) as script, HTTPClient() as client:
        with pytest.raises(ConnectError):
            await get(client, script.url.replace("http:", "https:"))


@posix
async def test_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "s ocket")
    async with scripted(answering(OK, OK), uds=path) as script:
        async with HTTPClient() as client:
            url = f"http+unix://{path.replace('/', '%2F').replace(' ', '%20')}/mcp"
            assert [await get(client, url) for _ in range(2)] == [b"ok"] * 2
            assert script.connections == 1
        async with HTTPClient(uds=path) as client:
            assert await get(client, "http://any.example/mcp") == b"ok"
    os.unlink(path) if os.path.exists(path) else None
    async with HTTPClient(uds=path) as client:
        with pytest.raises(ConnectError):
            await get(client, "http://any.example/mcp")


# --- middleware -------------------------------------------------------------------------------------------------------


async def test_middleware_runs_by_priority_then_as_given() -> None:
    ran: list[str] = []

    class Named:
        def __init__(self, name: str, priority: int | None = None) -> None:
            self.name = name
            if priority is not None:
                self.priority = priority

        async def __call__(self, call: HTTPCall, following: Any) -> Any:
            ran.append(self.name)
            answer = await following(call)
            ran.append(f"-{self.name}")
            return answer

    chain = [Named("a"), Named("b", 50), Named("late", 51), Named("c"), Named("early", 1)]
    async with scripted(answering(OK)) as script, HTTPClient(middleware=chain) as client:
        await get(client, script.url)
    order = ["early", "a", "b", "c", "late"]
    assert ran == order + [f"-{name}" for name in reversed(order)]


async def test_middleware_may_answer_by_itself_and_ask_twice() -> None:
    async def twice(call: HTTPCall, following: Any) -> Any:
        await (await following(call)).aclose()
        call.headers.append(("X-Again", "1"))
        return await following(call)

    async def handler(peer: Peer) -> None:
        for _ in range(2):
            script.requests.append(await peer.request())
            await peer.say(OK)

    async with scripted(handler) as script, HTTPClient(middleware=[twice]) as client:
        assert await get(client, script.url) == b"ok"
        assert [b"X-Again: 1" in head for head, _ in script.requests] == [False, True]


# --- our own server ---------------------------------------------------------------------------------------------------


async def test_against_our_own_server() -> None:
    async with served(Held()) as server, HTTPClient() as client:
        headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        call = HTTPCall("POST", server.url, headers, json.dumps(body).encode())
        async with await client.send(call) as answer:
            assert answer.status == 200
            assert json.loads(await answer.read(100_000))["id"] == 1
            session = answer.get("Mcp-Session-Id")
        assert session
        call = HTTPCall("DELETE", server.url, [("Mcp-Session-Id", session)], repeatable=True)
        async with await client.send(call) as answer:
            assert answer.status == 204
        assert len(client._idle) == 1
        call = HTTPCall("POST", server.url, headers, bytes(5 * 1024 * 1024))
        async with await client.send(call) as answer:
            assert answer.status == 413
