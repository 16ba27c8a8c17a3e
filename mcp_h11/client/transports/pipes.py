# SPDX-License-Identifier: MIT
"""Our ends of a child's pipes: bytes in the turn of the event loop that sees them, bytes out at once.

asyncio's transports for pipes ask for 256 KiB of fresh memory for each read, which the kernel maps and unmaps: three
system calls and a page fault for an answer of a hundred bytes.  Loops that cannot watch descriptors (Windows) use them
all the same.

Rules:
- A read takes `PIPE_READ` bytes at most, and there is one read in a turn, so that one child does not keep the others
  waiting.
- `full` is called above `WRITE_HIGH` bytes that the child has not read, and `room` below `WRITE_LOW`.
- `lost` is called once, in a turn of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

PIPE_READ = 64 * 1024  # bytes: a pipe of Linux has as many
# Bytes, those of asyncio's transports.
WRITE_HIGH = 64 * 1024
WRITE_LOW = 16 * 1024


def _ignore(*_: object) -> None:
    """The callback for an event without consequence."""


async def reader_of(
    loop: asyncio.AbstractEventLoop, pipe: Any, lost: Callable[[], None], data: Callable[[bytes], None]
) -> Any:
    """Calls `data` with the bytes that come, and `lost` at their end.  `pipe` belongs to the reader from now on.

    Call `pause_reading`, `resume_reading` and `close` of what it gives.
    """
    reader = _Reader(loop, pipe, lost, data)
    try:
        reader.resume_reading()
    except NotImplementedError:
        return (await loop.connect_read_pipe(lambda: _Protocol(lost, data), pipe))[0]
    return reader


async def writer_of(
    loop: asyncio.AbstractEventLoop,
    pipe: Any,
    lost: Callable[[], None],
    full: Callable[[], None],
    room: Callable[[], None],
) -> Any:
    """Calls `lost` when no process can read `pipe` any more, which belongs to the writer from now on.

    Call `write`, `close`, `abort` and `get_write_buffer_size` of what it gives.
    """
    writer = _Writer(loop, pipe, lost, full, room)
    try:
        # A pipe that is written to is never readable; the loop tells so that its other end was closed.
        loop.add_reader(writer.number, writer.abort)
    except NotImplementedError:
        return (await loop.connect_write_pipe(lambda: _Protocol(lost, full=full, room=room), pipe))[0]
    return writer


class _End:
    """One end of a pipe, until it is closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: Any, lost: Callable[[], None]) -> None:
        self.number: int = pipe.fileno()
        self._loop = loop
        self._pipe = pipe
        self._lost = lost
        self._closed = False
        if os.name != "nt":
            os.set_blocking(self.number, False)

    def abort(self) -> None:
        """Closes it now."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self.number)
            self._loop.remove_writer(self.number)
            # In a later turn: the caller may be in the midst of something that `lost` ends.
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        self._pipe.close()
        self._lost()


class _Reader(_End):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipe: Any, lost: Callable[[], None], data: Callable[[bytes], None]
    ) -> None:
        super().__init__(loop, pipe, lost)
        self._data = data

    def _ready(self) -> None:
        try:
            data = os.read(self.number, PIPE_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._data(data)
        else:
            self.abort()

    def pause_reading(self) -> None:
        if not self._closed:
            self._loop.remove_reader(self.number)

    def resume_reading(self) -> None:
        if not self._closed:
            self._loop.add_reader(self.number, self._ready)

    close = _End.abort


class _Writer(_End):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: Any,
        lost: Callable[[], None],
        full: Callable[[], None],
        room: Callable[[], None],
    ) -> None:
        super().__init__(loop, pipe, lost)
        self._full = full
        self._room = room
        self._is_full = False
        self._ending = False  # closes when all is written
        self._unwritten = bytearray()

    def get_write_buffer_size(self) -> int:
        return len(self._unwritten)

    def write(self, data: bytes) -> None:
        """Writes it, or keeps what the pipe does not take; drops it after the end."""
        if self._closed or self._ending:
            return
        if not self._unwritten:
            count = self._put(data)
            if count == len(data) or self._closed:
                return
            self._unwritten += memoryview(data)[count:]
            self._loop.add_writer(self.number, self._ready)
        else:
            self._unwritten += data
        if not self._is_full and len(self._unwritten) > WRITE_HIGH:
            self._is_full = True
            self._full()

    def _put(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self.number, data)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.abort()
        return 0

    def _ready(self) -> None:
        del self._unwritten[: self._put(self._unwritten)]
        if self._closed:
            return
        if self._is_full and len(self._unwritten) <= WRITE_LOW:
            self._is_full = False
            self._room()
        if not self._unwritten:
            self._loop.remove_writer(self.number)
            if self._ending:
                self.abort()

    def close(self) -> None:
        """Closes it when all that was given to `write` is written."""
        self._ending = True
        if not self._unwritten:
            self.abort()

    def abort(self) -> None:
        self._unwritten.clear()
        super().abort()


class _Protocol(asyncio.Protocol):
    """Passes the event loop's news of one pipe on to callbacks."""

    def __init__(
        self,
        lost: Callable[[], None],
        data: Callable[[bytes], None] = _ignore,
        full: Callable[[], None] = _ignore,
        room: Callable[[], None] = _ignore,
    ) -> None:
        self._lost = lost
        self.data_received = data  # type: ignore[method-assign, assignment]
        self.pause_writing = full  # type: ignore[method-assign]
        self.resume_writing = room  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
