# SPDX-License-Identifier: MIT
"""A wheel of deadlines: the clock of a server looks only at what is due, and never at everything.

Time is cut into beats.  Each item sits in the bucket of one beat, and the clock empties the buckets of the beats that
have passed.  To move an item costs a few dict operations, so the busy paths of a server never do: they note a time, and
the next visit to the item reads it and puts the item into a bucket further on.  This finds every deadline in time as
long as the next visit is never later than the shortest wait that can begin before it (Varghese and Lauck, 1987: timing
wheels; here the wheel is a dict, so it has no largest wait).

Rule: no clock and no event loop here.  An item is looked at once for each `put`.
"""

from __future__ import annotations

from math import inf
from typing import Generic, Protocol, TypeVar

CROWD = 256  # items of a bucket: the next ones go to an emptier bucket before it


class Spoke(Protocol):
    """What a wheel can hold."""

    beat: int  # the bucket that it is in, 0 for none; only the wheel writes it


T = TypeVar("T", bound=Spoke)


class Wheel(Generic[T]):
    """Items by the beat at which they are due.

    At each tick of a clock call `turn`, then `take` until it gives nothing.

    Args:
        step: seconds of a beat; ticks come that far apart, or later.
        early: seconds by which an item may be due too soon, where its bucket is crowded.  So the items of one moment
            spread, and each of them tells at its visit whether it is soon enough.
    """

    __slots__ = ("_buckets", "_early", "_step", "beat")

    def __init__(self, step: float, early: float = 0.0) -> None:
        self._step = step
        self._early = int(early / step)  # whole beats: a look at the beat that is begun would be too early
        self.beat = 0  # the beats up to this one have passed
        # Dicts serve as sets that keep their order, so that a run can be repeated.
        self._buckets: dict[int, dict[T, None]] = {}

    def __len__(self) -> int:
        """The number of items."""
        return sum(map(len, self._buckets.values()))

    def put(self, item: T, when: float) -> None:
        """Have an item due in the beat of `when`, and not before the next tick; never where that is infinite.

        An item that is in the wheel already moves.
        """
        if item.beat:
            self.remove(item)
        if when == inf:
            return
        next_beat = self.beat + 1
        beat = int(when / self._step)
        if beat < next_beat:
            beat = next_beat
        bucket = self._buckets.get(beat)
        if bucket is not None and len(bucket) >= CROWD:
            # Two buckets are compared and not all between them: that is enough for the crowd to spread in a few rounds.
            sooner = max(next_beat, beat - self._early)
            other = self._buckets.get(sooner)
            if other is None or len(other) < len(bucket):
                beat, bucket = sooner, other
        if bucket is None:
            bucket = self._buckets[beat] = {}
        bucket[item] = None
        item.beat = beat

    def remove(self, item: T) -> None:
        """Forget an item; nothing happens where it is not in the wheel."""
        bucket = self._buckets.get(item.beat)
        if bucket is not None:
            bucket.pop(item, None)
        item.beat = 0

    def turn(self, now: float) -> None:
        """The next beat has come, and all beats up to `now`: `take` gives their items."""
        # Rounding may put two ticks into one beat; the second one counts for the next.
        self.beat = max(self.beat + 1, int(now / self._step))

    def take(self, most: int) -> list[T]:
        """Up to `most` of the items that are due; they are no longer in the wheel."""
        taken: list[T] = []
        # There are few buckets: no item is put further ahead than the shortest wait of a server.
        while self._buckets and (first := min(self._buckets)) <= self.beat:
            bucket = self._buckets[first]
            for _ in range(min(len(bucket), most - len(taken))):
                item = bucket.popitem()[0]
                item.beat = 0
                taken.append(item)
            if bucket:
                break
            del self._buckets[first]
        return taken
