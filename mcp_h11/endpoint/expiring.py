# SPDX-License-Identifier: MIT
"""Streams whose token expires: which of them have to end now.

A stream may stand for hours and its token for an hour, so the clock looks at those that are due and not at all of them.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count

from ..http.reply import STREAMING, Reply

FEW_STREAMS = 64  # streams that are kept without a look at those that have ended


class ExpiringStreams:
    """Streams by the time at which their tokens expire, in seconds since the epoch."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Reply]] = []
        self._numbers = count()  # of two that expire at once, the older one goes first
        self._full = FEW_STREAMS

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, reply: Reply, expires: float) -> None:
        """Keep a stream until it ends or its token expires."""
        heappush(self._heap, (expires, next(self._numbers), reply))
        if len(self._heap) > self._full:
            # Those that have ended are dropped when the number has doubled: that costs each stream a constant time.
            self._heap = [entry for entry in self._heap if entry[2].alive]
            heapify(self._heap)
            self._full = max(FEW_STREAMS, 2 * len(self._heap))

    def due(self, now: float) -> list[Reply]:
        """The open streams whose tokens have expired; they are no longer kept.  One that has not begun stays."""
        found: list[Reply] = []
        waiting: list[tuple[float, int, Reply]] = []
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if entry[2].state == STREAMING:
                found.append(entry[2])
            elif entry[2].alive:
                waiting.append(entry)
        for entry in waiting:
            heappush(self._heap, entry)
        return found
