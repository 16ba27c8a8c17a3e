# SPDX-License-Identifier: MIT
"""Descriptors of a pair of pipes, and the queues in front of them."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from ..protocol.lines import encode_line

PIECE_SIZE = 64 * 1024
READ_AHEAD = 2  # pieces that were read and not yet decoded
MAX_LINES = 256  # in one write


class Outlet:
    """Sends lines to the client in the order in which they were given, and counts the bytes that were not sent yet.

    A subclass sends the lines: it overrides `put`, and calls `wrote` when bytes have left.

    Attributes:
        reading: whether the lines of one read are being handled; `flush` follows, so their answers can leave together.
    """

    reading = False

    def __init__(self, high: int) -> None:
        self.closed = asyncio.Event()  # the client is gone
        self._high = high
        self._unwritten = 0
        self._room = asyncio.Event()  # set each time that a piece was written

    @property
    def full(self) -> bool:
        """Whether a caller that can wait should call `drained`."""
        return self.holds_more_than(self._high)

    def post(self, payload: bytes) -> None:
        """Send one message as a line."""
        line = self.counted(payload)
        if line is not None:
            self.put(line)

    def answer(self, payload: bytes) -> None:
        """As `post`, for the answer to a request: it may wait for others of the same turn of the loop."""
        self.post(payload)

    def counted(self, payload: bytes) -> bytes | None:
        """The line, which counts as not sent yet; None where the client is gone."""
        line = encode_line(payload)
        if self.closed.is_set():
            return None
        self._unwritten += len(line)
        return line

    def flush(self) -> None:
        """Send all answers that wait for others."""

    def holds_more_than(self, limit: int) -> bool:
        """Whether so many bytes wait to be written, and a client is there to read them."""
        return self._unwritten > limit and not self.closed.is_set()

    async def drained(self, limit: int | None = None) -> None:
        """Wait until no more than `limit` bytes wait to be written."""
        limit = self._high if limit is None else limit
        while self.holds_more_than(limit):
            self._room.clear()
            await self._room.wait()

    async def close(self, limit: float) -> None:
        """Wait at most `limit` seconds until all lines have left, then end."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.drained(0), limit)
        self.closed.set()
        self.put(None)

    def put(self, line: bytes | None) -> None:
        """Send one line; None means that no line follows."""
        raise NotImplementedError

    def wrote(self, count: int) -> None:
        """Count `count` bytes as sent; 0 says that the client went away."""
        self._unwritten -= count
        if not count:
            self.closed.set()
        self._room.set()


class ThreadOutlet(Outlet):
    """Writes the lines in a thread of its own, since a write to a pipe may block.

    The thread is a daemon: a client that does not read must not keep the process from ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stdout: BinaryIO | Descriptor, high: int) -> None:
        super().__init__(high)
        self._loop = loop
        self._stdout = stdout
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, line: bytes | None) -> None:
        if self._thread is None:
            if line is None:
                return
            self._thread = threading.Thread(target=self._work, name="mcp_h11 stdout", daemon=True)
            self._thread.start()
        self._lines.put(line)

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            lines, ending = [line], False
            with suppress(Empty):  # lines that came meanwhile go in the same write
                while not ending and len(lines) < MAX_LINES:
                    more = self._lines.get_nowait()
                    ending = more is None
                    lines.append(more or b"")
            piece = b"".join(lines)
            try:
                self._write(piece)
            except (OSError, ValueError):  # the client went away, or the stream was closed
                piece = b""
            with suppress(RuntimeError):  # the loop is closed, so no task waits for room any more
                self._loop.call_soon_threadsafe(self.wrote, len(piece))
            if ending or not piece:
                return

    def _write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            count = self._stdout.write(rest)
            rest = rest[len(rest) if count is None else count :]  # an unbuffered stream may take a part
        self._stdout.flush()


async def pieces_of(source: Any, loop: asyncio.AbstractEventLoop) -> AsyncIterator[bytes]:
    """The bytes of a stream, piece by piece as they come, up to its end."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(READ_AHEAD)
    # `read` of a buffered stream would wait until it has PIECE_SIZE bytes; `read1` returns the bytes that are there.
    read = source.read1 if hasattr(source, "read1") else source.read

    def work() -> None:
        piece = b"more"
        while piece:
            room.acquire()
            try:
                piece = read(PIECE_SIZE) or b""
            except (OSError, ValueError):  # the stream was closed during the read
                piece = b""
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:  # the loop is closed, so no task takes the piece any more
                return

    # A daemon: a read that blocks cannot be ended, and must not keep the process from ending.
    threading.Thread(target=work, name="mcp_h11 stdin", daemon=True).start()
    while piece := await pieces.get():
        yield piece
        room.release()


class Descriptor:
    """A descriptor without a buffer.

    A buffered stream has a lock, and the interpreter takes that lock when it ends.  A thread that is left behind in a
    read or write would hold the lock forever.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._busy = False

    def read(self, size: int) -> bytes:
        self._busy = True
        piece = os.read(self.number, size)
        self._busy = False
        return piece

    def write(self, piece: memoryview) -> int:
        self._busy = True
        count = os.write(self.number, piece)
        self._busy = False
        return count

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def close(self) -> None:
        # While a thread is still in a call with this number, the number must not become that of another file.
        if not self._busy:
            os.close(self.number)


@contextmanager
def own_stdin() -> Iterator[Any]:
    """Give the real stdin to the protocol.  For all other code and for child processes, stdin is empty meanwhile."""
    source = Descriptor(os.dup(0))
    before = sys.stdin
    with open(os.devnull, encoding="utf-8") as sys.stdin:
        os.dup2(sys.stdin.fileno(), 0)
        try:
            yield source
        finally:
            sys.stdin = before
            os.dup2(source.number, 0)
            source.close()


@contextmanager
def own_stdout() -> Iterator[Any]:
    """Give the real stdout to the protocol.  For all other code, `print` included, stdout is stderr meanwhile.

    The descriptor itself is moved, so that child processes and C libraries cannot break the protocol either.
    """
    before = sys.stdout
    if before is not None:
        before.flush()
    out = Descriptor(os.dup(1))
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield out
    finally:
        sys.stdout = before
        if before is not None:
            before.flush()  # code that kept the old `sys.stdout` may have written to it; that text goes to stderr too
        os.dup2(out.number, 1)
        out.close()


def need_stderr() -> None:
    # Some processes are started without stderr.  Then the next opened file would get its number, perhaps the event
    # loop's own, and error texts would be written into that file.
    try:
        os.fstat(2)
    except OSError:
        number = os.open(os.devnull, os.O_WRONLY)
        if number != 2:
            os.dup2(number, 2)
            os.close(number)
