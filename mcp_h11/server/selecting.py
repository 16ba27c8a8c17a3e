# SPDX-License-Identifier: MIT
"""Which connection a turn of asyncio's loop reads first: of many, the one that the last turn did not read.

The kernel reports those of the turn before first, since it keeps what it has reported at the head of its list.  A
connection that had its answer a moment ago is then read again before others that have waited for the whole turn.  At
100 connections that are always busy, one request in a hundred waited for 180 others, where 100 are fair.
"""

from __future__ import annotations

import asyncio
from selectors import DefaultSelector, SelectorKey

FEW_READY = 8  # descriptors that a turn reads in any order: the last of them waits for little


class FairSelector(DefaultSelector):
    """The system's selector; descriptors that the last turn read come last, in the order in which they were read."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[int, int] = {}  # of the last turn with many

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = DefaultSelector.select(self, timeout)
        if len(ready) > FEW_READY:
            places = self._places
            ready.sort(key=lambda one: places.get(one[0].fd, -1))
            self._places = {one[0].fd: place for place, one in enumerate(ready)}
        return ready


def fair_loop() -> asyncio.AbstractEventLoop:
    """A loop as asyncio makes it; where that is its own selector loop, it reads in a fair order."""
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop:  # that of a policy, or of Windows
        return loop
    loop.close()
    return asyncio.SelectorEventLoop(FairSelector())
