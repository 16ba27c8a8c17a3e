# SPDX-License-Identifier: MIT
"""When something that ended is started again: later each time, and not at all for a while when it does nothing but end.

Policy alone: whoever starts and waits says what happened and when (seconds of any clock that does not go back).  It
refuses windows, counts and waits that are not positive.

Rule: only what has run for a while is well; to have started is no success yet.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from ..client.transports.backoff import Backoff

RESTART_MIN = 1.0
RESTART_MAX = 30.0
CRASH_LIMIT = 5
CRASH_WINDOW = 60.0
# How long the circuit stays open; then one start is a try.
OPEN_TIME = 60.0
# What has run for so long starts with a clean slate.
STABLE_TIME = 30.0
JITTER = 0.25


class CrashLoop(Exception):
    """It ended so often that it is left alone.

    Attributes:
        until: on the clock of the caller, when it may be started again.
        crashes: how often it has ended in a row.
    """

    def __init__(self, until: float, crashes: int, open_for: float) -> None:
        super().__init__(f"it ended {crashes} times in a row; it is started again in {open_for:g} s")
        self.until = until
        self.crashes = crashes


class Supervisor:
    """Ask it after each end, tell it of each start.

    Args:
        restart_min: seconds before the first restart; twice as long each time.
        restart_max: seconds that no wait is longer than, its jitter included.
        crash_limit: so many ends
        crash_window: within so many seconds open the circuit
        open_for: for so many seconds. The start after that is a try: if it fails the circuit opens again.
        stable: seconds after which one that runs is well.

    Attributes:
        open_until: when the circuit lets a start through; None while it is closed, and from the next start on.
        circuit: False for what somebody else starts: it is asked again and again, and never left alone.
    """

    def __init__(
        self,
        restart_min: float = RESTART_MIN,
        restart_max: float = RESTART_MAX,
        crash_limit: int = CRASH_LIMIT,
        crash_window: float = CRASH_WINDOW,
        *,
        open_for: float = OPEN_TIME,
        stable: float = STABLE_TIME,
        random: Callable[[], float] = random.random,
    ) -> None:
        if crash_limit < 1 or min(crash_window, open_for, stable) <= 0:
            raise ValueError("a supervisor needs a crash limit of at least 1, and positive times")
        self.open_until: float | None = None
        self.circuit = True
        self._longest = restart_max
        # The longest wait has its jitter, too: what ended together must not start together for ever.
        most = max(restart_min, restart_max / (1 + JITTER))
        self._backoff = Backoff(restart_min, most, jitter=JITTER, random=random)
        self._crash_limit = crash_limit
        self._crash_window = crash_window
        self._open_for = open_for
        self._stable = stable
        self._started: float | None = None  # it runs since
        self._trying = False  # the circuit was open, and nothing has shown yet that it need not be
        self._crashes = 0  # in a row
        self._recent: deque[float] = deque()

    def succeeded(self, now: float) -> None:
        """It has started."""
        self._started = now
        self.open_until = None

    def failed(self, now: float) -> float:
        """It ended, or did not start.  How many seconds to wait before it is started again.

        Raises:
            CrashLoop: not before `until`, which is `open_until` from then on.
        """
        if self._started is not None and now - self._started >= self._stable:
            self._trying = False
            self._crashes = 0
            self._recent.clear()
        self._started = None
        self._crashes += 1
        self._recent.append(now)
        while now - self._recent[0] > self._crash_window:
            self._recent.popleft()
        if self.circuit and (self._trying or len(self._recent) >= self._crash_limit):
            self._trying = True
            self.open_until = now + self._open_for
            self._recent.clear()
            raise CrashLoop(self.open_until, self._crashes, self._open_for)
        return min(self._backoff.delay(self._crashes - 1), self._longest)
