# SPDX-License-Identifier: MIT
"""The waiting time before another attempt: longer each time, and random, so that clients do not return all at once.

It refuses numbers that give no sensible delay.  It holds no clock and never waits: the caller does.

Rule: the delay is never shorter than the server asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 60.0  # seconds, with the jitter
STRETCH = 0.1  # the jitter, as a share of the delay


@dataclass(frozen=True)
class Backoff:
    """Seconds: `first`, then `factor` times as long each time, at most `most`; each longer by up to `jitter` of it.

    The default goes from 1 to 60 s, the jitter included.

    Raises ValueError if the numbers are not positive, or `most` is below `first`.
    """

    first: float = 1.0
    most: float = LONGEST / (1 + STRETCH)
    factor: float = 2.0
    jitter: float = STRETCH
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.first <= 0 or self.most < self.first or self.factor < 1 or self.jitter < 0:
            raise ValueError("a backoff needs 0 < first <= most, a factor of at least 1 and no negative jitter")

    def delay(self, failures: int, at_least: float = 0.0) -> float:
        """Seconds to wait after `failures` in a row.  The jitter is added, so that the delay is never too short."""
        # The exponent is bounded, since 2.0 ** 10,000 raises OverflowError.
        wait = min(self.first * self.factor ** min(failures, 64), self.most)
        return max(wait, at_least) * (1 + self.jitter * self.random())
