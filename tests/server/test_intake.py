# SPDX-License-Identifier: MIT
"""Large bodies: read into the place where they stay, answered without another copy, whole in both directions."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from certificates import both_ends
from fuzzing import FakeTransport
from rawclient import LIMIT, RawClient
from serving import ASYNCIO, UVLOOP, call, modern, request, served, turns

from mcp_h11.http.bodies import BLOCK
from mcp_h11.server.connection import Connection
from mcp_h11.server.intake import READ_SIZE
from mcp_h11.server.writing import APART

pytestmark = pytest.mark.anyio
TEXT = "0123456789abcde\n" * 40_000  # 640 KB


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def echo(text: str) -> bytes:
    return modern("tools/call", call("echo", text=text), Mcp_Name="echo")


class Writes(FakeTransport):
    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.each: list[bytes | memoryview] = []

    def write(self, data: bytes | memoryview) -> None:
        super().write(bytes(data))
        self.each.append(data)


def connected(server: Any) -> tuple[Connection, Writes]:
    connection = Connection(server)
    transport = Writes(connection)
    connection.connection_made(transport)
    return connection, transport


def read(connection: Connection, data: bytes, most: int = 1 << 30) -> Iterable[int]:
    """Hand in bytes as an event loop does, at most so many in a read; the room of each read."""
    at = 0
    while at < len(data):
        room = connection.get_buffer(-1)
        count = min(len(room), most, len(data) - at)
        room[:count] = data[at : at + count]
        connection.buffer_updated(count)
        at += count
        yield len(room)


async def answer(transport: Writes) -> tuple[bytes, bytes]:
    with anyio.fail_after(LIMIT):
        while not transport.each:
            await asyncio.sleep(0)
    await turns()
    top, _, body = bytes(transport.written).partition(b"\r\n\r\n")
    return top, body


@pytest.mark.parametrize("most", [1 << 30, 50_000, 3_000])
async def test_a_large_body_is_read_into_rooms_that_grow_with_it(most: int) -> None:
    async with served() as server:
        connection, transport = connected(server)
        data = echo(TEXT)
        rooms = [*read(connection, data, most)]
        top, body = await answer(transport)
        assert json.loads(body)["result"]["content"][0]["text"] == TEXT
        assert connection.received == len(data)
        assert rooms[0] == READ_SIZE and 2 * READ_SIZE - 4096 < max(rooms) <= BLOCK
        arrived = 0
        for room in rooms:
            assert room <= max(READ_SIZE, arrived)
            arrived += min(room, most)
        connection.close()
        await turns()


async def test_a_large_answer_is_written_behind_its_head() -> None:
    async with served() as server:
        for size, writes in ((APART // 2, 1), (APART + 1, 2)):
            connection, transport = connected(server)
            for _ in read(connection, echo("x" * size)):
                pass
            top, body = await answer(transport)
            assert len(transport.each) == writes
            assert json.loads(body)["result"]["content"][0]["text"] == "x" * size
            assert b"content-length: %d" % len(body) in top.lower()
            transport.each.clear()
            transport.written.clear()
            for _ in read(connection, echo("next")):
                pass
            assert b"next" in (await answer(transport))[1]
            connection.close()
            await turns()


async def test_bytes_that_were_on_their_way_when_the_body_was_refused_are_dropped() -> None:
    async with served() as server:
        connection, transport = connected(server)
        data = echo(TEXT)
        for _ in read(connection, data[: 2 * READ_SIZE]):
            pass
        room = connection.get_buffer(-1)
        connection.tick(server.now + 3600)
        assert transport.written.startswith(b"HTTP/1.1 408 ")
        connection.buffer_updated(min(100, len(room)))
        for _ in read(connection, data[2 * READ_SIZE :]):
            pass
        await turns()
        assert transport.written.count(b"HTTP/1.1") == 1
        connection.close()
        await turns()


ROUNDS = 3  # the least counts: another thread, such as that of pytest-xdist, may take memory meanwhile


@pytest.mark.parametrize("apart", [False, True], ids=["with its head", "behind its head"])
async def test_a_body_that_comes_in_one_read_is_copied_once(monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    text = "x" * (READ_SIZE - 8 * 1024)
    most: list[int] = []

    def taken(connection: Connection, request: Any) -> None:
        most.append(tracemalloc.get_traced_memory()[1])
        assert text in request.body.decode()

    async with served() as server:
        data = echo(text)
        end = data.index(b"\r\n\r\n") + 4
        connection, transport = connected(server)
        for _ in read(connection, data):  # once before, for what is made once
            pass
        await answer(transport)
        monkeypatch.setattr(Connection, "_hand_over", taken)
        # The slices of the test and its `decode` are no part of it.
        own = len(data) if apart else 0
        took: list[int] = []
        for _ in range(ROUNDS):
            connection, _ = connected(server)
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for part in (data[:end], data[end:]) if apart else (data,):
                    for _ in read(connection, part):
                        pass
            finally:
                tracemalloc.stop()
            took.append(most.pop() - before - own)
            connection.close()
            await turns()
        assert not most and min(took) < 1.25 * len(text), took


@pytest.mark.parametrize(("piece", "encrypted"), [(10_000, False), (1 << 30, False), (1 << 30, True)])
async def test_a_large_text_is_whole_in_both_directions(piece: int, encrypted: bool) -> None:
    ours, theirs = both_ends("127.0.0.1") if encrypted else (None, None)
    async with served(ssl=ours) as server, RawClient(server.port, ssl=theirs) as client:
        data = echo(TEXT)
        for _ in range(2):
            sending = asyncio.ensure_future(_send(client, data, piece))
            response = await client.receive("POST")
            await sending
            assert response.status == 200
            assert response.json()["result"]["content"][0]["text"] == TEXT


async def _send(client: RawClient, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        await client.send(data[at : at + piece])


async def test_the_request_behind_a_large_body_in_the_same_read_is_answered() -> None:
    async with served() as server:
        connection, transport = connected(server)
        data = echo(TEXT) + request(b"{}", target="/nowhere")
        for _ in read(connection, data):
            pass
        await answer(transport)
        assert transport.written.count(b"HTTP/1.1 200 ") == 1
        assert transport.written.count(b"HTTP/1.1 404 ") == 1
        connection.close()
        await turns()
