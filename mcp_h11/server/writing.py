# SPDX-License-Identifier: MIT
"""The sending half of a connection: bytes to the transport, in the order in which they were made.

Answers of a turn of the loop wait in the runtime's `outbox`, and events of a burst in its `bursts`; both write them by
the methods here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..http.server import ServerConnection
from .deadlines import Deadlines
from .owner import ConnectionOwner

# A larger body of an answer, or payload of an event, is written behind its head and not copied to it.
APART = 128 * 1024


class WritingProtocol(Deadlines, asyncio.BufferedProtocol):
    """A connection derives from it, and sets `_transport` once it has one.

    It derives from the deadlines, because an object of their own would be 64 bytes more for each connection.
    """

    __slots__ = ("_http", "_transport", "_waiters", "held", "server", "writable", "written")

    def __init__(self, server: ConnectionOwner, http: ServerConnection) -> None:
        Deadlines.__init__(self, server.now)
        self.server = server
        self.held = b""  # bytes of an answer that the outbox will write
        self.writable = True
        self.written = 0  # bytes handed to the transport
        self._http = http
        self._transport: asyncio.Transport | None = None
        self._waiters: Sequence[asyncio.Future[None]] = ()

    def write(self, data: bytes | memoryview) -> None:
        """Write at once, after the bytes that the outbox holds."""
        if self.held:
            self._flush()
        transport = self._transport
        # After a failed write the transport closes at once, and `connection_lost` comes some turns later.  asyncio logs
        # each write in between, so none is made.
        if transport is not None and data and not transport.is_closing():
            self.written += len(data)
            transport.write(data)

    def write_parts(self, before: bytes, payload: bytes, behind: bytes) -> bytes:
        """Write the first parts of what is large at once; returns the rest, which has to be written next."""
        if len(payload) <= APART:
            return b"".join((before, payload, behind))
        self.write(before)
        self.write(memoryview(payload))  # asyncio copies what is left of `bytes` after a first send
        return behind

    def write_events(self, events: bytes) -> None:
        """Write encoded events at once, as one chunk."""
        self.write(self._http.send_chunk(events))

    def _flush(self) -> None:
        runtime = self.server.runtime
        if runtime.bursts.holds is self:
            runtime.bursts.flush()
        if self.held and runtime.outbox is not None:
            runtime.outbox.flush()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def drained(self) -> None:
        if not self.writable:
            waiter = self.server.loop.create_future()
            self._waiters = [*self._waiters, waiter]
            await waiter

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
