# SPDX-License-Identifier: MIT
"""A limit on the requests of each caller: a token bucket.

Rule: no clock here (`now` is an argument), constant time for each request, and bounded memory whatever addresses
ask: the bucket that was longest unused makes room, since it is the one most likely to be full again.
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
        """0.0 where one more request is allowed, which it then was; else the seconds until one will be."""
        tokens = self._filled(key, now)
        wait = 0.0
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            wait = (1.0 - tokens) / self._rate
        self._put(key, tokens, now)
        return wait

    def charge(self, key: str, cost: int, now: float) -> None:
        """`cost` more for a request that was let in and turned out to be several (a batch); it may leave a debt."""
        self._put(key, self._filled(key, now) - cost, now)

    def _filled(self, key: str, now: float) -> float:
        tokens, since = self._buckets.pop(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._rate)

    def _put(self, key: str, tokens: float, now: float) -> None:
        if len(self._buckets) >= self._max_buckets:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (tokens, now)
