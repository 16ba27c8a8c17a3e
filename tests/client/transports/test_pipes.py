# SPDX-License-Identifier: MIT
"""Our ends of pipes, on loops that can watch descriptors and on one that cannot: the same bytes, ends and limits."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import anyio
import pytest
from pipes_support import Unwatched

from mcp_h11.client.transports import pipes
from mcp_h11.client.transports.pipes import WRITE_HIGH, reader_of, writer_of

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")]

LIMIT = 20.0


# A loop that cannot watch descriptors is asyncio's of Windows, where there is no uvloop.
@pytest.fixture(params=["asyncio", "not-watched", "uvloop"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def anyio_backend(kind: str) -> Any:
    if kind != "uvloop":
        return "asyncio", {}
    return "asyncio", {"loop_factory": pytest.importorskip("uvloop").new_event_loop}


@pytest.fixture
def loop(kind: str) -> Any:
    """A function that gives the loop of the test."""
    if kind == "not-watched":
        return lambda: Unwatched(asyncio.get_running_loop())
    return asyncio.get_running_loop


class Reading:
    """The reading end of a pipe; `into` is the other one, a descriptor."""

    def __init__(self) -> None:
        out, self.into = os.pipe()
        self.pipe = open(out, "rb", buffering=0)
        self.data = b""
        self.losses = 0
        self.changed = asyncio.Condition()

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def came(self, data: bytes) -> None:
        self.data += data
        asyncio.ensure_future(self.tell())

    def lost(self) -> None:
        self.losses += 1
        asyncio.ensure_future(self.tell())

    async def until(self, true: Any) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(true), LIMIT)


async def test_bytes_come_as_they_are_written_and_then_the_end(loop: Any) -> None:
    seen = Reading()
    reader = await reader_of(loop(), seen.pipe, seen.lost, seen.came)
    os.write(seen.into, b"one")
    await seen.until(lambda: seen.data == b"one")
    os.write(seen.into, b"two")
    os.close(seen.into)
    await seen.until(lambda: seen.losses)
    assert seen.data == b"onetwo"
    assert seen.pipe.closed
    reader.close()
    await asyncio.sleep(0)
    assert seen.losses == 1


async def test_a_reader_that_pauses_leaves_the_bytes_in_the_pipe(loop: Any) -> None:
    seen = Reading()
    reader = await reader_of(loop(), seen.pipe, seen.lost, seen.came)
    reader.pause_reading()
    os.write(seen.into, b"one")
    for _ in range(5):
        await asyncio.sleep(0)
    assert seen.data == b""
    reader.resume_reading()
    await seen.until(lambda: seen.data == b"one")
    reader.close()
    await seen.until(lambda: seen.losses == 1)
    with pytest.raises(BrokenPipeError):
        os.write(seen.into, b"more")
    os.close(seen.into)


async def test_a_reader_that_is_closed_stays_so() -> None:
    seen = Reading()
    reader = await reader_of(asyncio.get_running_loop(), seen.pipe, seen.lost, seen.came)
    reader.close()
    reader.resume_reading()
    reader.pause_reading()
    os.write(seen.into, b"one")
    await seen.until(lambda: seen.losses == 1)
    assert (seen.data, seen.pipe.closed) == (b"", True)
    os.close(seen.into)


async def test_one_read_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "PIPE_READ", 4)
    seen, sizes = Reading(), []
    os.write(seen.into, b"0123456789")
    os.close(seen.into)

    def came(data: bytes) -> None:
        sizes.append(len(data))
        seen.came(data)

    await reader_of(asyncio.get_running_loop(), seen.pipe, seen.lost, came)
    await seen.until(lambda: seen.losses)
    assert (seen.data, sizes) == (b"0123456789", [4, 4, 2])


class Writing:
    """The writing end of a pipe; `out` is the other one, a descriptor.  `news` has what the writer told."""

    def __init__(self) -> None:
        self.out, into = os.pipe()
        self.pipe = open(into, "wb", buffering=0)
        self.news: asyncio.Queue[str] = asyncio.Queue()

    def told(self, what: str) -> Any:
        return lambda: self.news.put_nowait(what)

    async def writer(self, loop: Any) -> Any:
        return await writer_of(loop, self.pipe, self.told("lost"), self.told("full"), self.told("room"))

    async def next(self) -> str:
        return await asyncio.wait_for(self.news.get(), LIMIT)

    async def read_all(self) -> bytes:
        os.set_blocking(self.out, False)
        read, piece = b"", b"more"
        while piece:
            try:
                piece = os.read(self.out, 65536)
                read += piece
            except BlockingIOError:  # noqa: PERF203
                await asyncio.sleep(0.001)
        return read


async def test_what_the_pipe_does_not_take_is_written_later_and_before_the_end(loop: Any) -> None:
    seen = Writing()
    writer = await seen.writer(loop())
    pieces = [bytes([number]) * 1000 for number in range(250)]
    for piece in pieces:
        writer.write(piece)
    assert await seen.next() == "full"
    assert writer.get_write_buffer_size() > WRITE_HIGH
    writer.close()
    writer.write(b"after the end")
    assert await asyncio.wait_for(seen.read_all(), LIMIT) == b"".join(pieces)
    assert [await seen.next(), await seen.next()] == ["room", "lost"]
    assert seen.news.empty()
    assert seen.pipe.closed
    os.close(seen.out)


async def test_up_to_its_limit_it_is_not_full() -> None:
    seen = Writing()
    writer = await seen.writer(asyncio.get_running_loop())
    writer.write(bytes(1024 * 1024))
    assert await seen.next() == "full"
    again = Writing()
    writer = await again.writer(asyncio.get_running_loop())
    while not writer.get_write_buffer_size():
        writer.write(b"x" * 4096)
    kept = writer.get_write_buffer_size()
    writer.write(bytes(WRITE_HIGH - kept))
    assert again.news.empty()
    writer.write(b"x")
    assert again.news.get_nowait() == "full"
    writer.write(b"x")
    assert again.news.empty()
    for one in (seen, again):
        os.close(one.out)
        assert await one.next() == "lost"


async def test_an_end_that_no_process_reads_is_told_at_once(loop: Any) -> None:
    seen = Writing()
    writer = await seen.writer(loop())
    os.close(seen.out)
    assert await seen.next() == "lost"
    writer.write(b"dropped")
    assert seen.news.empty()


async def test_a_write_that_finds_no_reader_ends_it() -> None:
    seen = Writing()
    writer = await seen.writer(asyncio.get_running_loop())
    os.close(seen.out)
    writer.write(b"dropped")  # before the loop has told of the end
    assert seen.news.empty()  # in a turn of its own
    assert await seen.next() == "lost"
    await asyncio.sleep(0)
    assert seen.news.empty()


async def test_an_abort_drops_what_is_not_written(loop: Any) -> None:
    seen = Writing()
    writer = await seen.writer(loop())
    writer.write(b"x" * 1024 * 1024)
    assert await seen.next() == "full"
    writer.abort()
    assert await seen.next() == "lost"
    assert len(await asyncio.wait_for(seen.read_all(), LIMIT)) < 1024 * 1024
    os.close(seen.out)


async def test_a_read_error_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Reading()
    read = iter([BlockingIOError, InterruptedError, OSError])

    def fail(number: int, size: int) -> bytes:
        raise next(read)

    monkeypatch.setattr(pipes.os, "read", fail)
    await reader_of(asyncio.get_running_loop(), seen.pipe, seen.lost, seen.came)
    os.write(seen.into, b"one")
    await seen.until(lambda: seen.losses)
    monkeypatch.undo()
    assert (seen.data, next(read, None)) == (b"", None)
    os.close(seen.into)


async def test_a_reader_that_leaves_ends_a_write_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Writing()
    writer = await seen.writer(asyncio.get_running_loop())
    writer.write(bytes(1024 * 1024))
    assert await seen.next() == "full"
    writer.write(b"behind it")
    errors = iter([InterruptedError, BlockingIOError, BrokenPipeError])

    def fail(number: int, data: bytes) -> int:
        raise next(errors)

    monkeypatch.setattr(pipes.os, "write", fail)
    os.set_blocking(seen.out, False)
    os.read(seen.out, 65536)  # so that the loop tells of room
    assert await seen.next() == "lost"
    monkeypatch.undo()
    assert next(errors, None) is None
    assert writer.get_write_buffer_size() == 0
    writer.close()
    writer.abort()
    await asyncio.sleep(0)
    assert seen.news.empty()
    os.close(seen.out)


async def test_what_is_left_goes_on_in_pieces_without_a_second_word() -> None:
    seen = Writing()
    writer = await seen.writer(asyncio.get_running_loop())
    writer.write(bytes(300_000))
    assert await seen.next() == "full"
    os.set_blocking(seen.out, False)
    read = 0
    with anyio.fail_after(LIMIT):
        while read < 300_000:
            try:
                read += len(os.read(seen.out, 4096))
            except BlockingIOError:  # noqa: PERF203
                await asyncio.sleep(0)
    assert await seen.next() == "room"
    writer.write(b"more")
    assert os.read(seen.out, 10) == b"more"
    assert seen.news.empty()
    writer.close()
    assert await seen.next() == "lost"
    os.close(seen.out)
