# SPDX-License-Identifier: MIT
"""The process's own stdin and stdout in the turns of the event loop, where the kernel reads and writes without waiting.

A thread at either end costs a hand-over of the interpreter for each piece, which is most of the cost of a small call.

Rules:
- The descriptors stay as they are.  Other processes may share them, and would find them changed if we made them
  non-blocking.  So each single read and write says that it must not wait (RWF_NOWAIT, which pipes and sockets of Linux
  know).
- Threads do the rest, as for streams that are given: terminals, files, other systems, and bytes for which a pipe has no
  room.  Bytes leave in their order.
- Answers of one turn leave together, at its end, but no answer is held for longer than `runtime.outbox.HOLD_TIME` when
  the next one comes.  All other messages leave at once, and with them the answers before them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sized
from typing import BinaryIO

from ..runtime.outbox import HELD_BYTES, HOLD_TIME
from .pipes import PIECE_SIZE, Descriptor, Outlet, ThreadOutlet

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_HERE = -1  # the offset of a stream: none


def outlet_to(loop: asyncio.AbstractEventLoop, out: BinaryIO | Descriptor, high: int) -> Outlet:
    """The outlet to a stream that was given, or to the process's own stdout."""
    return DirectOutlet(loop, out, high) if isinstance(out, Descriptor) else ThreadOutlet(loop, out, high)


class DirectOutlet(ThreadOutlet):
    """Writes lines in the turn of the loop; its thread gets what the descriptor does not take without waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stdout: Descriptor, high: int) -> None:
        super().__init__(loop, stdout, high)
        self._number: int = stdout.number
        self._held: list[bytes] = []
        self._size = 0
        self._since = 0.0
        self._behind = 0  # bytes that the thread has; all later ones must follow them
        # The callbacks that are due in this turn or the next, where the loop shows them; `_due` of them are our own.
        self._ready: Sized | None = getattr(loop, "_ready", None)
        self._due = 0

    def put(self, line: bytes | None) -> None:
        if line is not None:
            self._hold(line)
        self.flush()
        if line is None:
            super().put(None)

    def answer(self, payload: bytes) -> None:
        line = self.counted(payload)
        if line is None:
            return
        self._hold(line)
        if self.reading:
            if self._size > HELD_BYTES or self._loop.time() - self._since > HOLD_TIME:
                self.flush()
        elif self._is_last or self._size > HELD_BYTES or self._loop.time() - self._since > HOLD_TIME:
            self.flush()
        elif not self._due:
            self._due = 1
            self._loop.call_soon(self._end)

    @property
    def _is_last(self) -> bool:
        return self._ready is not None and len(self._ready) <= self._due

    def _hold(self, line: bytes) -> None:
        if not self._held:
            self._since = self._loop.time()
        self._held.append(line)
        self._size += len(line)

    def _end(self) -> None:
        self._due = 0
        self.flush()

    def flush(self) -> None:
        """Write all that is held now."""
        if not self._held:
            return
        piece = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._size = 0
        count = 0 if self._behind else self._written(piece)
        if count:
            super().wrote(count)
        if count < len(piece):
            self._behind += len(piece) - count
            super().put(piece[count:])

    def _written(self, piece: bytes) -> int:
        if _NOWAIT is None:
            return 0
        try:
            return os.pwritev(self._number, (piece,), _HERE, _NOWAIT)
        except OSError:  # no room now, a descriptor that cannot do this, or no client: the thread finds out
            return 0

    def wrote(self, count: int) -> None:
        self._behind -= count
        super().wrote(count)


class DirectInlet:
    """Reads a descriptor in the turns of the loop: one piece in a turn, so that a quick client does not keep others
    waiting.

    Args:
        take: called with each piece, outside of every task.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: Descriptor, outlet: Outlet, take: Callable[[bytes], None]
    ) -> None:
        self._loop = loop
        self._number: int = source.number
        self._outlet = outlet
        self._take = take
        self._room = memoryview(bytearray(PIECE_SIZE))
        self._stop: asyncio.Future[bool | None]

    async def run(self, limit: int) -> bool:
        """Read up to the end; while more than `limit` bytes are not written, read nothing.

        Returns whether that was the end.  Where it is False, a thread must read on: the descriptor cannot be read so.
        Raises what `take` raised.
        """
        while _NOWAIT is not None:
            self._stop = self._loop.create_future()
            try:
                self._loop.add_reader(self._number, self._readable, limit)
            except (NotImplementedError, OSError):  # a loop of Windows; a file
                return False
            try:
                ended = await self._stop
            finally:
                self._loop.remove_reader(self._number)
            if ended is not None:
                return ended
            await self._outlet.drained(limit)
        return False

    def _readable(self, limit: int) -> None:
        try:
            assert _NOWAIT is not None
            count = os.preadv(self._number, (self._room,), _HERE, _NOWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._end(False)
            return
        if not count:
            self._end(True)
            return
        outlet = self._outlet
        outlet.reading = True
        try:
            self._take(bytes(self._room[:count]))
        except Exception as exc:
            if not self._stop.done():
                self._stop.set_exception(exc)
            return
        finally:
            outlet.reading = False
            outlet.flush()
        if outlet.holds_more_than(limit):
            self._end(None)

    def _end(self, ended: bool | None) -> None:
        self._loop.remove_reader(self._number)
        if not self._stop.done():
            self._stop.set_result(ended)
