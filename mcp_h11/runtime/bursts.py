# SPDX-License-Identifier: MIT
"""Joins events that one connection sends in quick succession: each write of a small event costs as much as the event.

A tool that reports a hundred steps without waiting would have a hundred writes otherwise, and the kernel's part of them
is more than all the rest.

It refuses to hold the first events of a burst (`AT_ONCE`), more than `BURST_BYTES`, and anything past the end of the
turn or past `HELD_TIME` after it was sent, as soon as the burst goes on.  So a tool that works for long between two
events, without giving the loop a turn, has each of them sent at once.

Rule: bytes of one connection leave in the order in which they were made.  A connection that `holds` names takes the
events, or has them flushed, before it writes anything else.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from ..protocol.shown import escaping

AT_ONCE = 4  # events that leave at once; a tool may well report a step and log it, and then work for long
BURST_TIME = 0.001  # seconds; an event that comes later than that after the event before it begins a new burst
HELD_TIME = 0.001  # seconds
BURST_BYTES = 32 * 1024

logger = escaping(logging.getLogger(__name__))


class EventSender(Protocol):
    """A connection with an open event stream."""

    def write_events(self, events: bytes) -> None:
        """Write encoded events at once."""

    def abort(self) -> None: ...


class Bursts:
    """The one burst of a server that is under way.  `send` events by it."""

    __slots__ = ("_count", "_due", "_events", "_last", "_loop", "_since", "_size", "holds")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.holds: EventSender | None = None  # the connection that has the burst
        self._events: list[bytes] = []
        self._size = self._count = 0
        self._last = self._since = 0.0
        self._due = False  # our own `_end` will be called

    def send(self, sender: EventSender, events: bytes) -> None:
        """Write encoded events now, or by the end of this turn."""
        now = self._loop.time()
        if self.holds is not sender or now - self._last > BURST_TIME:
            if self._events:
                self.flush()
            self.holds, self._count = sender, 0
        self._last = now
        self._count += 1
        if self._count <= AT_ONCE:
            sender.write_events(events)
            return
        if not self._events:
            self._since = now
            if not self._due:
                self._due = True
                self._loop.call_soon(self._end)
        self._events.append(events)
        self._size += len(events)
        if self._size >= BURST_BYTES or now - self._since > HELD_TIME:
            self.flush()

    def taken(self, sender: EventSender) -> bytes:
        """The events of a connection that are held; its burst is over.  It writes them, or is lost."""
        if self.holds is not sender:
            return b""
        self.holds = None
        return self._joined()

    def flush(self) -> None:
        """Write the events that are held now."""
        sender = self.holds
        if sender is None or not self._events:
            return
        try:
            sender.write_events(self._joined())
        except Exception:
            logger.exception("events could not be written")
            sender.abort()

    def _joined(self) -> bytes:
        events = b"".join(self._events)
        self._events.clear()
        self._size = 0
        return events

    def _end(self) -> None:
        self._due = False
        self.flush()
