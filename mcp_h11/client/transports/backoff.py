# SPDX-License-Identifier: MIT
"""How long to wait before trying again: longer each time, never all at once, and never earlier than was asked for.

Pure arithmetic; whoever waits has the clock.  It refuses delays that make no sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 60.0  # seconds
STRETCH = 0.1  # of a wait


@dataclass(frozen=True)
class Backoff:
    """Seconds: `first`, then `factor` times as long each time, at most `most`; each longer by up to `jitter` of it.

    As it is: from 1 to 60 s, the jitter included.

    Raises ValueError where the numbers are not positive, or `most` is below `first`.
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
        """How long to wait after so many failures in a row; the jitter comes on top, so that it is never too early."""
        # The exponent is bounded: 2.0 ** 10,000 is an error.
        wait = min(self.first * self.factor ** min(failures, 64), self.most)
        return max(wait, at_least) * (1 + self.jitter * self.random())
