# SPDX-License-Identifier: MIT
"""A limit on the requests of each caller: a token bucket.

Rules:
- This module reads no clock: `now` is an argument.
- A request takes constant time.
- The number of buckets is bounded.  A new bucket replaces the one that was longest unused, which is the most likely to
  be full again.
"""

from __future__ import annotations

MAX_BUCKETS = 10_000  # callers that are remembered


class RateLimiter:
    """`requests` in `seconds` on average, and up to `burst` of them at once (default: `requests`)."""

    def __init__(self, requests: int, seconds: float, burst: int | None = None, max_buckets: int = MAX_BUCKETS) -> None:
        self._rate = requests / seconds
        self._burst = float(requests if burst is None else burst)
        self._max_buckets = max_buckets
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, and when; longest unused first

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """Take one token for a request.  0.0 if there was one, else the seconds until there will be one."""
        tokens = self._filled(key, now)
        wait = 0.0
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            wait = (1.0 - tokens) / self._rate
        self._put(key, tokens, now)
        return wait

    def charge(self, key: str, cost: int, now: float) -> None:
        """Take `cost` more tokens for a request that was allowed and is a batch; the bucket may be left in debt."""
        self._put(key, self._filled(key, now) - cost, now)

    def close(self) -> None:
        """The server ends.  A limiter that keeps a timer stops it."""

    def _filled(self, key: str, now: float) -> float:
        tokens, since = self._buckets.pop(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _put(self, key: str, tokens: float, now: float) -> None:
        if len(self._buckets) >= self._max_buckets:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (tokens, now)
