# SPDX-License-Identifier: MIT
"""Writes the answers of one turn of the event loop together, at its end.

A write wakes the process that reads it.  Where many connections are answered in one turn and the reader is quick, each
single write finds the reader asleep again, and to wake it costs the kernel half of the time of a call.  Writes that
follow each other at once find it awake.

It refuses to hold the only answer, or the last one, of a turn; more than `HELD_BYTES` at once; or anything for longer
than `HOLD_TIME`, so that no answer waits for a neighbour that takes its time.

Rule: bytes of one connection leave in the order in which they were made: a connection with held bytes is flushed before
anything else is done with its transport (`held`).

How many callbacks the turn still has is known of asyncio's own loops alone.  On other loops, as uvloop, a turn is taken
for one like those before it (`GuessingOutbox`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sized
from typing import Protocol

from ..protocol.shown import escaping

HOLD_TIME = 0.001  # seconds
HELD_BYTES = 256 * 1024
FEW = 3  # answers in a turn that are not worth to be held
UNHELD = 64  # answers that are written at once after a turn with so few

logger = escaping(logging.getLogger(__name__))


class Sender(Protocol):
    """A connection."""

    held: bytes  # bytes that the outbox will write

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox:
    """One for a server on this loop."""
    ready = getattr(loop, "_ready", None)
    return GuessingOutbox(loop, ()) if ready is None else Outbox(loop, ready)


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


class GuessingOutbox(Outbox):
    """For a loop that does not show its callbacks: answers are held where the turns before had many."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ready: Sized) -> None:
        super().__init__(loop, ready)
        self._count = 0  # answers in this turn
        self._unheld = 0  # answers that are still written at once

    def send(self, sender: Sender, data: bytes) -> None:
        """Write it, by the end of this turn."""
        if self._unheld:
            self._unheld -= 1
            sender.write(data)
            return
        now = time.monotonic()  # the time of uvloop stands still during a turn
        if not self._senders:
            self._since = now
            if not self._due:
                self._due = 1
                self._loop.call_soon(self._end)
        if sender.held:
            sender.held += data
        else:
            sender.held = data
            self._senders.append(sender)
        self._count += 1
        self._size += len(data)
        if self._size > HELD_BYTES or now - self._since > HOLD_TIME:
            self.flush()

    def _end(self) -> None:
        if self._count <= FEW:
            self._unheld = UNHELD
        self._count = 0
        super()._end()
