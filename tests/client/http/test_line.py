# SPDX-License-Identifier: MIT
"""The line: bytes between a socket and the client, its end in all forms, and bounds on both ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from serving import UVLOOP

from mcp_h11.client.http.line import MAX_NOT_ASKED_FOR, PIECE, SocketLine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"]),
]
LIMIT = 30.0


@asynccontextmanager
async def line_and_peer() -> AsyncIterator[tuple[SocketLine, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(lambda: SocketLine(bytearray(PIECE)), sock=ours)
    with anyio.fail_after(LIMIT):
        try:
            yield line, theirs
        finally:
            await line.aclose()
            theirs.close()
            await asyncio.sleep(0)


async def take(peer: socket.socket, size: int) -> int:
    loop, found = asyncio.get_running_loop(), 0
    while found < size:
        found += len(await loop.sock_recv(peer, PIECE))
    return found


async def test_bytes_and_the_end() -> None:
    async with line_and_peer() as (line, peer):
        peer.send(b"abc")
        assert await line.receive(2) == b"ab"
        assert line.stale()
        assert await line.receive() == b"c"
        assert not line.stale()
        await line.send(b"xyz")
        assert await asyncio.get_running_loop().sock_recv(peer, 9) == b"xyz"
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(anyio.EndOfStream):
            await line.receive()
        assert line.stale()
        await line.send(b"after")  # the other half is open
        await line.send_eof()
        await take(peer, 5)


async def test_a_socket_is_not_read_past_the_limit_and_then_again() -> None:
    async with line_and_peer() as (line, peer):
        size = 16 * MAX_NOT_ASKED_FOR
        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(peer, bytes(size)))
        while line._transport.is_reading():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        # The limit, and what one read may bring beyond it.
        assert MAX_NOT_ASKED_FOR <= line._size < MAX_NOT_ASKED_FOR + PIECE
        got = 0
        while got < size:
            got += len(await line.receive())
        await sending
        assert got == size


async def test_a_line_is_writable_again_when_its_peer_reads() -> None:
    async with line_and_peer() as (line, peer):
        written = 0
        while line.writable:
            line.write(bytes(PIECE))
            written += PIECE
        draining = asyncio.ensure_future(line.drained())
        second = asyncio.ensure_future(line.send(b"x"))
        await asyncio.sleep(0)
        assert not draining.done()
        await take(peer, written + 1)
        await draining
        await second
        assert line.writable


@pytest.mark.parametrize("how", ["closed", "lost"])
async def test_what_waits_hears_of_the_end(how: str) -> None:
    async with line_and_peer() as (line, peer):
        while line.writable:
            line.write(bytes(PIECE))
        waiting = [asyncio.ensure_future(line.drained()), asyncio.ensure_future(line.receive())]
        await asyncio.sleep(0)
        if how == "closed":
            line.close()
            line.close()
        else:
            peer.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        kinds = (anyio.ClosedResourceError,) if how == "closed" else (anyio.BrokenResourceError, anyio.EndOfStream)
        assert all(isinstance(end, kinds) for end in ends), ends
        with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)):
            line.write(b"x")
        assert line.stale()


async def test_news_go_to_one_function_and_the_end_is_no_bytes() -> None:
    async with line_and_peer() as (line, peer):
        news: list[bytes] = []
        line.on_news = news.append
        peer.send(b"abc")
        while not news:
            await asyncio.sleep(0)
        peer.shutdown(socket.SHUT_WR)
        while len(news) < 2:
            await asyncio.sleep(0)
        assert news == [b"abc", b""]


async def test_a_cancelled_wait_leaves_the_line_as_it_was() -> None:
    async with line_and_peer() as (line, peer):
        waiting = asyncio.ensure_future(line.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        peer.send(b"x")
        assert await line.receive() == b"x"
