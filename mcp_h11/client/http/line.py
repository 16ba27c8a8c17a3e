# SPDX-License-Identifier: MIT
"""The socket of one connection: bytes out, bytes in, and its end.

It is a protocol of asyncio, as on the server's end: a read is one callback, and a small write is one system call.  TLS
runs above it, since it is a stream of anyio as well.

It keeps at most `MAX_NOT_ASKED_FOR` bytes, and those of one read, that the client has not asked for; above that the
socket is not read.

Rule: one task reads at a time, or one function hears what comes (`on_news`).
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import ByteStream

# Bytes of one read, and of one write, which has a timeout of its own.  A request up to this size is written whole
# before its answer is read.
PIECE = 64 * 1024
MAX_NOT_ASKED_FOR = PIECE


class SocketLine(asyncio.BufferedProtocol, ByteStream):
    """One connected socket.  asyncio gives it its transport; `open_line` makes one.

    Args:
        buffer: for the bytes of one read.  All lines of one client share it: the bytes are copied out at once.

    Attributes:
        on_news: called with the bytes of each read, and with b"" at the end; None keeps them for `receive`.
        writable: all bytes that were written have been handed to the system.
    """

    def __init__(self, buffer: bytearray) -> None:
        self.on_news: Callable[[bytes], None] | None = None
        self.writable = True
        self._buffer = memoryview(buffer)
        self._unread: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._error: Exception | None = None
        self._ended = self._closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._transport: Any = None
        self._poll: Any = None
        self.socket: Any = None

    # --- from the event loop --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.socket = transport.get_extra_info("socket")
        # `writable` tells of each byte that the system has not taken yet.
        self._transport.set_write_buffer_limits(0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if self.on_news is not None:
            self.on_news(data)
            return
        self._unread.append(data)
        self._size += nbytes
        if self._size >= MAX_NOT_ASKED_FOR and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end()
        return True  # the request may still be on its way: a server may close its half first

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self.writable = True
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)
        self._end()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)

    def _end(self) -> None:
        self._ended = True
        self._wake()
        if self.on_news is not None:
            self.on_news(b"")

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- bytes ----------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = PIECE) -> bytes:
        """The next bytes.  Raises EndOfStream, BrokenResourceError, ClosedResourceError."""
        while not self._unread:
            self.check()
            if self._ended:
                raise anyio.EndOfStream
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._unread.popleft()
        if len(data) > max_bytes:
            data, rest = data[:max_bytes], data[max_bytes:]
            self._unread.appendleft(rest)
        self._size -= len(data)
        if self._paused and self._size < MAX_NOT_ASKED_FOR and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return data

    def check(self) -> None:
        """Raises ClosedResourceError, BrokenResourceError where the line is no more."""
        if self._closed:
            raise anyio.ClosedResourceError
        if self._error is not None:
            raise anyio.BrokenResourceError from self._error

    def write(self, data: bytes) -> None:
        """Writes as much as the system takes now; the rest leaves later, and until then the line is not `writable`.

        Raises ClosedResourceError, BrokenResourceError.
        """
        self.check()
        if self._transport.is_closing():
            raise anyio.BrokenResourceError
        self._transport.write(data)

    async def send(self, item: bytes) -> None:
        """Writes, and returns when the system has taken all bytes.  Raises as `write`."""
        await self.drained()
        self.write(item)
        await self.drained()

    async def drained(self) -> None:
        """Waits until the system has taken all bytes.  Raises ClosedResourceError, BrokenResourceError."""
        while not self.writable:
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            try:
                await writer
            finally:
                self._writers.remove(writer)
            self.check()

    async def send_eof(self) -> None:
        """Says that no more bytes follow."""
        self._transport.write_eof()

    def stale(self) -> bool:
        """Whether something has come on an idle connection, which is nearly always its end."""
        if self._ended or self._closed or self._unread:
            return True
        # The system may know of an end that the loop has not told yet.
        descriptor = self.socket.fileno()
        if descriptor < 0:
            return True
        if not hasattr(select, "poll"):  # pragma: no cover - Windows, whose select has no largest descriptor
            return bool(select.select([descriptor], [], [], 0)[0])
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Closes the socket in the next turn of the loop.  Bytes that were not written are dropped."""
        if not self._closed:
            self._closed = True
            self._transport.abort()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()
