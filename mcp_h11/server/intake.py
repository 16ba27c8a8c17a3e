# SPDX-License-Identifier: MIT
"""Where the bytes of a read go: a buffer that connections share, or the body that they belong to."""

from __future__ import annotations

from ..http.server import ServerConnection
from .deadlines import ANSWERING, BODY, IDLE, LINGERING
from .owner import ConnectionOwner
from .writing import WritingProtocol

# Bytes taken from a socket at once; of a large body up to `http.bodies.BLOCK`.  A text of 64 KiB, as programs often cut
# theirs, comes in one read with the head and the message around it.
READ_SIZE = 72 * 1024
# A body that comes in one read of so many bytes, with its head, is not copied with the head first.  For less the copy
# costs less than what saves it, which is the longer way through the parser.
LARGE_READ = 32 * 1024


class Intake(WritingProtocol):
    """The part of a connection that gives the event loop its buffers.  `_phase` is that of `deadlines`."""

    __slots__ = ("_own_buffer", "_phase", "_room", "received")

    _phase: int

    def __init__(self, server: ConnectionOwner) -> None:
        WritingProtocol.__init__(self, server, ServerConnection(server.heads, server.settings.limits))
        # A loop that reads ahead in the background (Windows) needs a buffer for each connection.
        self._own_buffer = None if server.shares_buffer else memoryview(bytearray(READ_SIZE))
        self._room: memoryview | None = None  # of a body: the loop was told to read into it
        self.received = 0  # bytes

    @property
    def awaits_request(self) -> bool:
        """Whether a request may be on its way, or a part of it: no answer said that the connection ends."""
        return self._phase <= IDLE and self._phase != ANSWERING

    def _forget_verdict(self) -> None:
        """The connection is lost, maybe before the whole answer, at which the parser does this."""
        head = self._http.head
        if head is not None:
            head.forget_verdict()

    def data_received(self, data: bytes) -> None:
        """Take the bytes of one read."""
        raise NotImplementedError

    def _pump_or_pause(self) -> None:
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        # All connections share one buffer: `buffer_updated` copies the bytes out before the loop reads again.  Without
        # a buffer of ours asyncio allocates 256 KiB for each read; where malloc maps such blocks, that is three system
        # calls.
        buffer = self.server.buffer if self._own_buffer is None else self._own_buffer
        if self._phase != BODY:
            return buffer
        room = self._http.body_room()
        self._room = buffer if room is None else room
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        buffer = self.server.buffer if self._own_buffer is None else self._own_buffer
        room = self._room
        if room is None:
            if nbytes < LARGE_READ:
                self.data_received(bytes(buffer[:nbytes]))
                return
            room = buffer
        self._room = None
        if self._phase >= LINGERING:  # the request was refused in the meantime
            self.data_received(bytes(room[:nbytes]))
            return
        self.received += nbytes
        if room is buffer:
            self._http.receive_view(room[:nbytes])
        else:
            self._http.fill_body(nbytes)
        self._pump_or_pause()
