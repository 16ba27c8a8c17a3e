# SPDX-License-Identifier: MIT
"""POSTs without a task: written at once on an idle connection, heard where the answer is read; and their ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock

from mcp_h11.client.http import httpclient
from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient
from mcp_h11.client.http.line import PIECE, SocketLine
from mcp_h11.client.http.middleware import extra_headers
from mcp_h11.client.http.straight import Straight
from mcp_h11.client.http.wire import AnswerTimeout, BadAnswer, BrokenAnswer
from mcp_h11.http.client import MAX_KEPT_BODY

pytestmark = pytest.mark.anyio
LIMIT = 30.0
URL = "http://127.0.0.1:1/mcp"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


class Ends:
    """A client, and the other ends of its connections, which are pairs of sockets in this process."""

    def __init__(self, client: HTTPClient) -> None:
        self.client = client
        self.far: list[socket.socket] = []
        self.heard: list[Straight] = []
        self.small = False

    async def open(self, *given: Any) -> tuple[SocketLine, SocketLine]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        if self.small:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.far.append(theirs)
        _, line = await asyncio.get_running_loop().create_connection(lambda: SocketLine(given[-1]), sock=ours)
        return line, line

    async def request(self, number: int = -1) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.far[number], 2 * PIECE)

    async def idle(self) -> None:
        """A first POST by the long way, after which the connection is idle and the head is known."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.send)
            while not self.far:
                await anyio.sleep(0)
            await self.request()
            self.far[-1].send(OK)

    async def send(self, repeatable: bool = False) -> bytes:
        async with await self.client.send(HTTPCall("POST", URL, [("A", "b")], b"{}", repeatable)) as answer:
            return await answer.read(100)

    def begin(self, body: bytes = b"{}", repeatable: bool = False) -> Straight | None:
        post = self.client.post_of(URL, [("A", "b")])
        return self.client.begin(post, body, repeatable, self.heard.append, "owner")

    async def news(self) -> Straight:
        while not self.heard:
            await anyio.sleep(0)
        return self.heard.pop()


@asynccontextmanager
async def ends(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Ends]:
    made = Ends(HTTPClient(**{"head_timeout": None, **options}))
    monkeypatch.setattr(httpclient, "open_stream", made.open)
    try:
        async with made.client:
            with anyio.fail_after(LIMIT):
                yield made
    finally:
        for sock in made.far:
            sock.close()


async def test_an_answer_of_one_read_is_heard_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        for _ in range(2):
            straight = far.begin(b"[1]")
            assert straight is not None and straight.owner == "owner"
            assert far.begin() is None  # the one connection is taken
            assert (await far.request()).endswith(b"A: b\r\nAccept-Encoding: identity\r\nContent-Length: 3\r\n\r\n[1]")
            far.far[0].send(OK)
            assert await far.news() is straight
            assert straight.answer is not None and straight.answer.media_type == "application/json"
            assert (straight.answer.status, straight.whole, straight.error) == (200, b"ok", None)
        assert len(far.far) == 1


async def test_an_event_stream_that_comes_at_once_is_whole_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        for end in (b"0\r\n\r\n", b"0\r\nT: t\r\n\r\n", b"0\r\n\r\n"):
            straight = far.begin()
            assert straight is not None
            await far.request()
            far.far[0].send(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n" + end)
            await far.news()
            assert straight.whole == b"abcde" and straight.answer is not None
            assert straight.answer.media_type == "text/event-stream"


@pytest.mark.parametrize("cut", [1, 20, len(OK) - 1, len(OK) - 2])
async def test_an_answer_of_two_reads_is_read_to_its_end_by_a_task(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin()
        assert straight is not None
        await far.request()
        far.far[0].send(OK[:cut])
        with anyio.move_on_after(0.02):
            await far.news()
        far.far[0].send(OK[cut:])
        if cut < 50:
            await far.news()  # the head was not there: nothing has to be waited for
            assert straight.whole == b"ok"
        assert straight.answer is not None
        answer = await far.client.go_on(straight)
        assert await answer.read(100) == b"ok"
        await answer.aclose()
        assert far.begin() is not None and len(far.far) == 1  # the connection is used again


async def test_a_redirect_is_followed_by_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin()
        assert straight is not None
        await far.request()
        far.far[0].send(b"HTTP/1.1 307 T\r\nLocation: /there\r\nContent-Length: 2\r\n\r\nno")
        await far.news()

        async def there() -> None:
            assert (await far.request()).startswith(b"POST /there ")
            far.far[0].send(OK)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(there)
            answer = await far.client.go_on(straight)
            assert await answer.read(100) == b"ok"


@pytest.mark.parametrize(("repeatable", "again"), [(True, True), (False, False)])
async def test_a_connection_that_dies_before_a_byte_of_the_answer(
    repeatable: bool, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin(repeatable=repeatable)
        assert straight is not None
        await far.request()
        far.far[0].close()
        await far.news()
        assert isinstance(straight.error, BrokenAnswer) and straight.answer is None and straight.again == again
        if again:
            async with anyio.create_task_group() as tasks:

                async def serve() -> None:
                    while len(far.far) < 2:
                        await anyio.sleep(0)
                    await far.request()
                    far.far[1].send(OK)

                tasks.start_soon(serve)
                assert await (await far.client.go_on(straight)).read(100) == b"ok"


async def test_a_connection_that_is_reset_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin(repeatable=True)
        assert straight is not None
        far.far[0].close()  # with the request unread
        await far.news()
        assert isinstance(straight.error, BrokenAnswer) and straight.again


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"SSH-2.0\r\n", BadAnswer),
        (OK[:15] + b"\r\nContent-Encoding: gzip" + OK[15:], BadAnswer),
        (OK[:20], None),
    ],
)
async def test_what_is_no_answer_is_an_error_and_never_sent_again(
    said: bytes, kind: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin(repeatable=True)
        assert straight is not None
        await far.request()
        far.far[0].send(said)
        if kind is None:
            far.far[0].close()
        await far.news()
        assert isinstance(straight.error, kind or BrokenAnswer) and not straight.again
        assert not far.client._open


async def test_a_broken_body_is_told_to_its_reader_after_the_good_part(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin()
        assert straight is not None
        await far.request()
        far.far[0].send(CHUNKED + b"3\r\nabc\r\nzz\r\n")
        await far.news()
        answer = await far.client.go_on(straight)
        assert [await answer.__anext__()] == [b"abc"]
        with pytest.raises(BadAnswer):
            await answer.__anext__()
        assert not far.client._open


async def test_a_request_that_is_given_up_closes_its_connection_and_is_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin()
        assert straight is not None
        await far.request()
        straight.close()
        straight.close()
        assert await far.request() == b""
        assert not far.heard and not far.client._open


async def test_the_end_of_the_client_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        straight = far.begin(repeatable=True)
        await far.client.aclose()
        assert await far.news() is straight
        assert isinstance(straight.error, BrokenAnswer)
        with pytest.raises(httpclient.ConnectError, match="the client is closed"):
            await far.client.go_on(straight)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_server_that_reads_nothing_is_left_after_a_while(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch, write_timeout=LIMIT if reads else 0.05) as far:
        far.small = True
        await far.idle()
        straight = far.begin(bytes(MAX_KEPT_BODY - 100))
        assert straight is not None and not far.heard
        if reads:
            got = b""
            while len(got.partition(b"\r\n\r\n")[2]) < MAX_KEPT_BODY - 100:
                got += await far.request()
            far.far[0].send(OK)
            assert (await far.news()).whole == b"ok"
        else:
            assert isinstance((await far.news()).error, AnswerTimeout)


@on_a_still_clock
async def test_an_answer_before_the_request_has_left_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch, write_timeout=0.02) as far:
        far.small = True
        await far.idle()
        straight = far.begin(bytes(MAX_KEPT_BODY - 100))
        assert straight is not None
        far.far[0].send(OK[:20])  # it has begun: the time of the writing does not count any more
        await anyio.sleep(0.05)
        far.far[0].send(OK[20:])
        assert (await far.news()).whole == b"ok"
        assert not far.client._open


@pytest.mark.parametrize(
    ("options", "begin"),
    [
        ({"middleware": [extra_headers({"C": "d"})]}, Ends.begin),
        ({"head_timeout": 5.0}, Ends.begin),
        ({}, lambda far: far.begin(bytes(MAX_KEPT_BODY + 1))),
        ({}, lambda far: far.client.begin(far.client.post_of(URL, []), b"{}", False, far.heard.append, None)),
        ({}, lambda far: far.client.begin(far.client.post_of(URL + "s", []), b"{}", False, far.heard.append, None)),
    ],
    ids=["middleware", "a limit for the head", "a large body", "another head", "another path"],
)
async def test_what_has_to_wait_is_not_begun(
    options: dict[str, Any], begin: Callable[[Ends], Straight | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ends(monkeypatch, **options) as far:
        assert begin(far) is None
        await far.idle()
        assert begin(far) is None
        assert len(far.client._idle) == 1  # and the connection is where it was


async def test_a_connection_that_ended_meanwhile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ends(monkeypatch) as far:
        await far.idle()
        far.far[0].close()
        assert far.begin() is None and not far.client._open
        far.far.clear()
        await far.idle()
        monkeypatch.setattr(SocketLine, "stale", lambda self: False)
        far.client._idle[0].line.close()
        assert far.begin() is None and not far.client._open
        assert not far.heard
