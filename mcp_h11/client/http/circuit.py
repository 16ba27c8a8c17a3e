# SPDX-License-Identifier: MIT
"""When a thing that keeps failing is left alone for a while: a server over HTTP, or a process that ends each time.

This is the policy alone: it calls nothing and waits for nothing.  Its user reports each failure and each success with
the time, in seconds of any clock that does not go back.

Rule: the attempt after a pause is a trial.  If it fails, the next pause begins at once, without a new count.
"""

from __future__ import annotations

import math
from collections import deque


class Circuit:
    """Opens after `limit` failures, and lets nothing through for `open_for` seconds.

    Args:
        limit: the number of failures that opens it.
        open_for: seconds that it stays open.
        window: seconds within which the failures have to come; without it all count since the last `close`.

    Attributes:
        open_until: when a trial may begin; None where nothing has to wait.
        tripped: it was opened, and was not closed since.

    Raises:
        ValueError: a limit below 1, or times that are not positive.
    """

    __slots__ = ("_failures", "_limit", "_open_for", "_window", "open_until", "tripped")

    def __init__(self, limit: int, open_for: float, window: float = math.inf) -> None:
        if limit < 1 or min(open_for, window) <= 0:
            raise ValueError("a circuit needs a limit of at least 1, and positive times")
        self.open_until: float | None = None
        self.tripped = False
        self._limit = limit
        self._open_for = open_for
        self._window = window
        self._failures: deque[float] = deque(maxlen=limit)

    def failed(self, now: float) -> bool:
        """Count a failure.  Returns whether it opens the circuit."""
        failures = self._failures
        failures.append(now)
        # The newest is always within, so the deque is never empty here.
        while now - failures[0] > self._window:
            failures.popleft()
        if not self.tripped and len(failures) < self._limit:
            return False
        self.tripped = True
        self.open_until = now + self._open_for
        failures.clear()
        return True

    def close(self) -> None:
        """Forget all failures: it works."""
        self.tripped = False
        self.open_until = None
        self._failures.clear()
