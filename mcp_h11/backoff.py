# SPDX-License-Identifier: MIT
"""How long to wait before trying again: longer each time, never all at once, and never earlier than was asked for.

Pure arithmetic; whoever waits has the clock.  It refuses delays that make no sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds: `first`, then `factor` times as long each time, at most `most`; each longer by up to `jitter` of it.

    Raises ValueError where the numbers are not positive, or `most` is below `first`.
    """

    first: float = 1.0
    most: float = 60.0
    factor: float = 2.0
    jitter: float = 0.1
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.first <= 0 or self.most < self.first or self.factor < 1 or self.jitter < 0:
            raise ValueError("a backoff needs 0 < first <= most, a factor of at least 1 and no negative jitter")

    def delay(self, failures: int, at_least: float = 0.0) -> float:
        """How long to wait after so many failures in a row; the jitter comes on top, so that it is never too early."""
        # The exponent is bounded: 2.0 ** 10,000 is an error.
        wait = min(self.first * self.factor ** min(failures, 64), self.most)
        return max(wait, at_least) * (1 + self.jitter * self.random())
