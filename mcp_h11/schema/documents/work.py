# SPDX-License-Identifier: MIT
"""Counted work: a bound on the time that reading or checking one value takes.

A reader or a check that goes through a container, or tries an alternative in vain, pays for it with `spend`.  Under
`within` the payments are bounded, and past the bound the work stops with `TooMuchWork`.  The same work may then be done
again in a thread, under a larger bound.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection
from typing import Any

from .mismatch import Mismatch

# Units of work; one is about a microsecond at most.  On the event loop that is less than the 100 ms which no message
# may hold it; in a thread, which the loop interrupts every 5 ms, it is some seconds of a call.
ON_LOOP = 50_000
IN_THREAD = 5_000_000
# A client knows how Python hashes numbers, and can send numbers that all collide: a set of n of them costs n * n.
# 1,000 such items cost 6 ms and 10,000 cost 0.7 s, which only a thread may take.  Python hashes strings with a secret.
MAX_HASHED_ON_LOOP = 1_000
MAX_HASHED = 10_000
# Values in a text that is read as JSON: the parser cannot be interrupted, and needs up to 0.5 us for each.
MAX_PARSED = 150_000


class TooMuchWork(Exception):
    """The value needs more work than `within` allows.  It may fit; a larger bound would tell."""

    def __init__(self) -> None:
        super().__init__("the value is too large to be checked")


# Each thread has a bound of its own: a check in a worker thread must not use up that of the loop.
class _Work(threading.local):
    """The units that this thread may still spend."""

    left = math.inf


_work = _Work()


def spend(units: float) -> None:
    """Pay for work that is about to be done.  Raises TooMuchWork where the bound does not allow it."""
    left = _work.left - units
    if left < 0:
        raise TooMuchWork
    _work.left = left


def within(units: int, fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)` with at most this many units of work.  Inside of another `within` the outer bound holds alone."""
    # Else a check inside of a reader would begin with new units for each value.
    if is_bounded():
        return fn(*args)
    _work.left = units
    try:
        return fn(*args)
    finally:
        _work.left = math.inf


def is_bounded() -> bool:
    """Whether the work of this thread is being counted against a bound."""
    return _work.left != math.inf


def may_parse(text: str) -> None:
    """Pay for reading a text as JSON.  Raises ValueError where it has more values than any message may have.

    Counts the characters that separate values, also those inside of strings: at worst too many, never too few.
    """
    if len(text) > MAX_PARSED // 100:
        count = sum(map(text.count, ",:[{"))
        if count > MAX_PARSED:
            raise ValueError(f"more than {MAX_PARSED} values in a text")
        spend(count / 4)


def size(value: Any) -> int:
    """How many values there are in this one, itself included.  Counts them at the price of a quarter each."""
    count, todo = 1, [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (list, dict)):
            spend(len(one) / 4)
            count += len(one)
            todo += one.values() if isinstance(one, dict) else one
    return count


def may_hash(items: Collection[Any]) -> None:
    """Raise Mismatch or TooMuchWork where a set of these would cost too much if a client has chosen their hashes."""
    if len(items) <= MAX_HASHED_ON_LOOP or set(map(type, items)) <= {str}:
        return
    if len(items) > MAX_HASHED:
        raise Mismatch([((), f"expected at most {MAX_HASHED} items that are not strings, got {len(items)}")])
    spend(len(items) ** 2 // 100)
