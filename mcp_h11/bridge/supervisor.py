# SPDX-License-Identifier: MIT
"""When a process that ended is started again: later each time, and not at all for a while if it keeps ending.

This is the policy alone: it starts nothing and waits for nothing.  Its caller reports each start and each end with the
time, in seconds of any clock that does not go back.  It refuses windows, counts and waits that are not positive.

Rule: a start is no success yet.  Only a process that has run for a while counts as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ..client.http.circuit import Circuit
from ..client.transports.backoff import Backoff

RESTART_MIN = 1.0
RESTART_MAX = 30.0
CRASH_LIMIT = 5
CRASH_WINDOW = 60.0
# Seconds that the circuit stays open; the start after that is an attempt.
OPEN_TIME = 60.0
# Seconds after which the earlier ends of a process are forgotten.
STABLE_TIME = 30.0
JITTER = 0.25


class CrashLoop(Exception):
    """The process ended so often that it is not started again for a while: the circuit is open.

    Attributes:
        until: when it may be started again, on the clock of the caller.
        crashes: the number of ends in a row.
    """

    def __init__(self, until: float, crashes: int, open_for: float) -> None:
        super().__init__(f"it ended {crashes} times in a row; it is started again in {open_for:g} s")
        self.until = until
        self.crashes = crashes


class Supervisor:
    """Decides when a process is started again.  Tell it of each start, and ask it after each end.

    Args:
        restart_min: seconds before the first restart; twice as long each time.
        restart_max: the longest wait in seconds, its jitter included.
        crash_limit: the number of ends within the window that opens the circuit.
        crash_window: the length of that window in seconds.
        open_for: seconds that the circuit stays open.  If the start after that fails, the circuit opens again.
        stable: seconds after which a running process counts as well.

    Attributes:
        open_until: when the circuit lets a start through; None while it is closed, and from the next start on.
        circuit: False for a server that its own operator starts: connecting to it is tried again without end.
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
        if stable <= 0:
            raise ValueError("a supervisor needs positive times")
        self.circuit = True
        self._circuit = Circuit(crash_limit, open_for, crash_window)
        self._longest = restart_max
        # The longest wait has jitter too: processes that ended together must not start together each time.
        most = max(restart_min, restart_max / (1 + JITTER))
        self._backoff = Backoff(restart_min, most, jitter=JITTER, random=random)
        self._open_for = open_for
        self._stable = stable
        self._started: float | None = None  # when it was started; None while it does not run
        self._crashes = 0  # ends in a row

    @property
    def open_until(self) -> float | None:
        return self._circuit.open_until

    def succeeded(self, now: float) -> None:
        """The process has started."""
        self._started = now
        self._circuit.open_until = None  # it stays tripped until the process has run for a while

    def failed(self, now: float) -> float:
        """The process ended, or did not start.  Returns the seconds to wait before it is started again.

        Raises:
            CrashLoop: it is not to be started before `until`, which `open_until` holds from now on.
        """
        # It was well: this end is the first of a new row.
        if self._started is not None and now - self._started >= self._stable:
            self._circuit.close()
            self._crashes = 0
        self._started = None
        self._crashes += 1
        if self.circuit and self._circuit.failed(now):
            assert self.open_until is not None
            raise CrashLoop(self.open_until, self._crashes, self._open_for)
        return min(self._backoff.delay(self._crashes - 1), self._longest)
