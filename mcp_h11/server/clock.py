# SPDX-License-Identifier: MIT
"""The one clock of a server: it finds the links and sessions that are due, and measures how late the event loop is.

A link is a connection, or a request of a hosted server.  Each sits in a wheel (`runtime.wheel`) until its time.

Rule: no request and no connection has a timer of its own.  A tick is once a second, or four times in the shortest wait
of the settings.  It looks at what is due and at nothing else, and hands the loop over after LOOKS_PER_TURN of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from math import inf
from typing import Protocol

from ..endpoint.endpoint import Endpoint
from ..http.reply import EARLY, Reply
from ..protocol.shown import escaping
from ..runtime.settings import Settings
from ..runtime.wheel import Wheel

logger = escaping(logging.getLogger(__name__))

MAX_TICK = 1.0  # seconds between two checks of the deadlines; a short deadline makes them more frequent
MIN_TICK = 0.005  # seconds; a deadline near 0 must not make the checks take all of the time
# Links that are looked at in one turn of the loop.  The dearest look writes a comment: 10 to 20 us, with TLS 30.  So a
# call that comes meanwhile waits for half a millisecond, and the turns are 2 % of what the comments cost.
LOOKS_PER_TURN = 32


class TickedLink(Protocol):
    """A connection, or a request of a hosted server."""

    beat: int  # of the wheel

    @property
    def reply(self) -> Reply | None:
        """The answer that is under way."""
        ...

    def tick(self, now: float) -> None:
        """Enforce the deadlines, and `put` itself into the wheel again."""

    def abort(self) -> None: ...


class Ticking:
    """A server with a clock.  Set `endpoint` and `loop` before `_begin_ticking`."""

    endpoint: Endpoint
    loop: asyncio.AbstractEventLoop

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = 0.0  # the loop's time at the last tick
        self.lag = 0.0  # seconds by which the last ticks of the clock were late
        self._began = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tick_time = _tick_time(settings)
        self.wheel = Wheel[TickedLink](self._tick_time, (settings.keep_alive or 0.0) * EARLY)
        self.rest = rest_of(settings)
        self._looking: asyncio.Handle | None = None  # the rest of a pass

    @property
    def uptime(self) -> float:
        """Seconds since it was started."""
        return self.loop.time() - self._began

    def _begin_ticking(self) -> None:
        self._began = self._due = self.loop.time()
        self._tick()

    def _end_ticking(self) -> None:
        for handle in (self._timer, self._looking):
            if handle is not None:
                handle.cancel()

    def _tick(self) -> None:
        now = self.loop.time()
        # An old lag is halved at each tick instead of forgotten, so that a probe that asks now and then sees it.
        self.lag = max(now - self._due, self.lag / 2)
        self._due = now + self._tick_time
        self._timer = self.loop.call_at(self._due, self._tick)
        self.now = now
        self.wheel.turn(now)
        if self._looking is None:  # else the pass of an earlier tick goes on, and takes what is due now too
            self._look()
        self.endpoint.sweep()

    def _look(self) -> None:
        outbox = self.endpoint.runtime.outbox
        if outbox is not None:
            outbox.flush()  # a pass counts as work of the turn, and answers would wait for each part of it
        links, now = self.wheel.take(LOOKS_PER_TURN), self.now
        for link in links:
            look_at(link, now)
        self._looking = self.loop.call_soon(self._look) if len(links) == LOOKS_PER_TURN else None

    @property
    def links(self) -> Iterable[TickedLink]:
        """All links, for the pages of operators."""
        raise NotImplementedError

    @property
    def replies(self) -> list[Reply]:
        """The answers that are under way, for the pages of operators."""
        return [link.reply for link in self.links if link.reply is not None]


def look_at(link: TickedLink, now: float) -> None:
    """Enforce the deadlines of a link that is due; a failure ends this link and no other."""
    try:
        link.tick(now)
    except Exception:
        logger.exception("the deadlines of a connection could not be checked")
        link.abort()


def rest_of(settings: Settings) -> float:
    """Seconds for which a link may be left alone, infinite where no wait has a limit.

    It is the shortest wait that can begin without a word to the wheel.  A wait that began after one look and ends
    before the next one can therefore not be missed.
    """
    return min((wait for wait in _waits(settings) if wait is not None), default=inf)


def _waits(settings: Settings) -> tuple[float | None, ...]:
    return (
        settings.first_byte_timeout,
        settings.head_timeout,
        settings.body_timeout,
        settings.idle_timeout,
        settings.write_timeout,
        settings.patience,
        settings.keep_alive,
    )


def _tick_time(settings: Settings) -> float:
    waits = (*_waits(settings), settings.session_idle, settings.session_initialize)
    return max(MIN_TICK, min([MAX_TICK, *(wait / 4 for wait in waits if wait is not None)]))
