# SPDX-License-Identifier: MIT
"""The one clock of a server: it ticks over requests, replies and sessions, and measures how late the event loop is.

Rule: no request and no connection has a timer of its own.  A tick is once a second, or four times in the shortest wait
of the settings.
"""

from __future__ import annotations

import asyncio

from ..endpoint.endpoint import Endpoint
from ..http.reply import Reply
from ..runtime.settings import Settings

MAX_TICK = 1.0  # seconds between two checks of the deadlines; a short deadline makes them more frequent
MIN_TICK = 0.005  # seconds; a deadline near 0 must not make the checks take all of the time


class Ticking:
    """A server with a clock.  Set `endpoint` and `loop` before `_begin_ticking`."""

    endpoint: Endpoint
    loop: asyncio.AbstractEventLoop

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.replies: set[Reply] = set()
        self.lag = 0.0  # seconds by which the last ticks of the clock were late
        self._began = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tick_time = _tick_time(settings)
        self._patience = _beats(settings.patience, self._tick_time)
        self._keep_alive = _beats(settings.keep_alive, self._tick_time)

    @property
    def uptime(self) -> float:
        """Seconds since it was started."""
        return self.loop.time() - self._began

    def _begin_ticking(self) -> None:
        self._began = self._due = self.loop.time()
        self._tick()

    def _end_ticking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self.loop.time()
        # An old lag is halved at each tick instead of forgotten, so that a probe that asks now and then sees it.
        self.lag = max(now - self._due, self.lag / 2)
        self._due = now + self._tick_time
        self._timer = self.loop.call_at(self._due, self._tick)
        self._tick_links(now)
        patience, keep_alive = self._patience, self._keep_alive
        for reply in list(self.replies):
            reply.tick(patience, keep_alive)
        self.endpoint.sweep()

    def _tick_links(self, now: float) -> None:
        """Check the deadlines of the connections, or of the requests."""
        raise NotImplementedError


def _beats(seconds: float | None, tick: float) -> int:
    """A time in ticks of the clock, at least one; 0 for no time."""
    return 0 if seconds is None else max(1, round(seconds / tick))


def _tick_time(settings: Settings) -> float:
    waits = (
        settings.first_byte_timeout,
        settings.head_timeout,
        settings.body_timeout,
        settings.idle_timeout,
        settings.write_timeout,
        settings.patience,
        settings.keep_alive,
        settings.session_idle,
        settings.session_initialize,
    )
    return max(MIN_TICK, min([MAX_TICK, *(wait / 4 for wait in waits if wait is not None)]))
