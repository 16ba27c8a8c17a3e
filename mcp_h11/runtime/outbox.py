# SPDX-License-Identifier: MIT
"""Writes the answers of one turn of the event loop together, at its end.

A write wakes the process that reads it.  Where many connections are answered in one turn and the reader is quick, each
single write finds the reader asleep again, and to wake it costs the kernel half of the time of a call.  Writes that
follow each other at once find it awake.

It refuses to hold the only answer, or the last one, of a turn; more than `HELD_BYTES` at once; or anything for longer
than `HOLD_TIME`, so that no answer waits for a neighbour that takes its time.

Rule: bytes of one connection leave in the order in which they were made: a connection with held bytes is flushed before
anything else is done with its transport (`held`).

How many callbacks the turn still has is known of asyncio's own loops alone.  uvloop, for one, does this by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sized
from typing import Protocol

from ..protocol.shown import escaping

HOLD_TIME = 0.001  # seconds
HELD_BYTES = 256 * 1024

logger = escaping(logging.getLogger(__name__))


class Sender(Protocol):
    """A connection."""

    held: bytes  # bytes that the outbox will write

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox | None:
    """One for a server on this loop; None where it has no use."""
    ready = getattr(loop, "_ready", None)
    return None if ready is None else Outbox(loop, ready)


class Outbox:
    """`send` whole answers by it.  `ready`: the callbacks that are due in this turn, or the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Sized) -> None:
        self._loop = loop
        self._ready = ready
        self._due = 0  # 1 while our own `_end` is among the ready callbacks: it is not counted as work
        self._senders: list[Sender] = []
        self._size = 0
        self._since = 0.0

    def send(self, sender: Sender, data: bytes) -> None:
        """Write it, by the end of this turn."""
        if len(self._ready) <= self._due:
            if self._senders:
                self.flush()
            sender.write(data)
            return
        if not self._senders:
            self._since = self._loop.time()
            if not self._due:
                self._due = 1
                self._loop.call_soon(self._end)
        if not sender.held:
            self._senders.append(sender)
        sender.held += data
        self._size += len(data)
        if self._size > HELD_BYTES or self._loop.time() - self._since > HOLD_TIME:
            self.flush()

    def _end(self) -> None:
        self._due = 0
        self.flush()

    def flush(self) -> None:
        """Write all that is held now."""
        senders, self._senders = self._senders, []
        self._size = 0
        for sender in senders:
            data, sender.held = sender.held, b""
            try:
                sender.write(data)
            except Exception:
                logger.exception("an answer could not be written")
                sender.abort()
