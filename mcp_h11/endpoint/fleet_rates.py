# SPDX-License-Identifier: MIT
"""`rate_limit` for a whole fleet: each worker counts by itself at once, and tells the others what it counted.

No request waits for the store.  While requests come, a worker sends one signal each TELL_EVERY seconds, which says how
many tokens each caller took; the others take the same number from their own buckets, also below zero.  So the average
of a caller holds for the fleet, whichever workers its requests meet.  A burst can be larger: until the others are told,
each worker grants what is in its own bucket.  What was granted too much is a debt in every bucket, and is paid first.

A bucket that is full when it learns of tokens that were taken earlier has not counted what would have come since then.
So a `rate_burst` of less than the tokens of TELL_EVERY seconds makes the limit stricter for a caller that goes round.

Rules:
- A signal names no principal and no address: it has hashes with a key of the fleet, and buckets are kept under them.
- A signal that is lost, or a worker that has just begun, errs on the side of the caller.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..runtime.fleet import Fleet
from ..stores.base import StoreError
from .ratelimit import RateLimiter

TELL_EVERY = 0.2  # seconds
MAX_TOLD = 1_000  # callers in one signal, of 40 bytes each; where more come, the signal leaves early
NAME_LENGTH = 32  # hexadecimal digits of a hash that a signal has


class FleetRateLimiter(RateLimiter):
    """As `RateLimiter`, for one worker of a fleet.  It uses the clock of `loop`, as its callers do."""

    def __init__(
        self, fleet: Fleet, loop: asyncio.AbstractEventLoop, requests: int, seconds: float, burst: int | None
    ) -> None:
        RateLimiter.__init__(self, requests, seconds, burst)
        self._fleet = fleet
        self._loop = loop
        self._taken: dict[str, int] = {}  # tokens that the others do not know of yet, by the hash of the caller
        self._timer: asyncio.TimerHandle | None = None
        fleet.on_signal["tokens"] = self._on_told

    def take(self, key: str, now: float) -> float:
        name, told = self._named(key)
        wait = RateLimiter.take(self, name, now)
        if told and not wait:
            self._note(name, 1)
        return wait

    def charge(self, key: str, cost: int, now: float) -> None:
        name, told = self._named(key)
        RateLimiter.charge(self, name, cost, now)
        if told and cost > 0:
            self._note(name, cost)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _named(self, key: str) -> tuple[str, bool]:
        """The name of a caller's bucket, and whether the other workers know the caller by it."""
        try:
            return self._fleet.hashed(key)[:NAME_LENGTH], True
        except StoreError:  # away since this worker began, so that there is no key to hash with
            return key, False

    def _note(self, name: str, cost: int) -> None:
        self._taken[name] = self._taken.get(name, 0) + cost
        if len(self._taken) >= MAX_TOLD:
            self._tell()
        elif self._timer is None:
            self._timer = self._loop.call_later(TELL_EVERY, self._tell)

    def _tell(self) -> None:
        self.close()
        taken, self._taken = self._taken, {}
        self._fleet.signal("tokens", taken=taken)

    def _on_told(self, body: dict[str, Any]) -> None:
        now = self._loop.time()
        for name, cost in body["taken"].items():
            RateLimiter.charge(self, name, int(cost), now)
