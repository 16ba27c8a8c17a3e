# SPDX-License-Identifier: MIT
"""How long a server's own work kept a call waiting, as the kernel counted it, apart from the machine's noise.

The clock of a client cannot tell: a call is also slow where either end waits for a CPU that other programs use.  Linux
counts for each thread the time on a CPU and the time in which it waited for one (/proc/<pid>/task/<tid>/schedstat).
`Watch` reads both after each call, for the threads of the server and for the caller.

A server of one thread pauses while it works on something else.  Of several threads the longest one is taken, so the
figure is an upper bound where others went on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

Counted = tuple[int, int]  # of one thread: nanoseconds on a CPU, and in wait for one


class Lap(NamedTuple):
    """From the end of one call to the end of the next, in nanoseconds."""

    took: int
    caller_waited: int  # for a CPU: the answer may have been there
    worked: int  # the server's thread
    waited: int


class Watch:
    """The threads that processes have now, and the thread of the caller.

    Raises OSError where the kernel has no such counts.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._own = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._threads: list[int] = []
        for pid in pids:
            with suppress(OSError):  # a process or a thread has ended
                for task in os.listdir(f"/proc/{pid}/task"):
                    self._threads.append(os.open(f"/proc/{pid}/task/{task}/schedstat", os.O_RDONLY))
        self.laps: list[list[Lap]] = [[] for _ in self._threads]  # for each thread
        self._last = self._look()

    def _look(self) -> tuple[int, int, list[Counted]]:
        threads = [_counted(one) for one in self._threads]
        # The caller is last: what it waits for a CPU between these lines counts as its own.
        now = time.perf_counter_ns()
        return now, _counted(self._own)[1], threads

    def lap(self) -> None:
        """A call has had its answer."""
        began, own, threads = self._last
        self._last = now, own_now, threads_now = self._look()
        for laps, before, after in zip(self.laps, threads, threads_now, strict=True):
            laps.append(Lap(now - began, own_now - own, after[0] - before[0], after[1] - before[1]))

    def longest(self) -> float:
        """Seconds of the longest pause, in any thread."""
        return max((longest_pause(laps) for laps in self.laps), default=0) / 1e9

    def close(self) -> None:
        for one in (self._own, *self._threads):
            os.close(one)


def _counted(file: int) -> Counted:
    try:
        worked, waited, _ = os.pread(file, 100, 0).split()
    except (OSError, ValueError):  # the thread has ended
        return 0, 0
    return int(worked), int(waited)


def longest_pause(laps: Sequence[Lap]) -> int:
    """The most nanoseconds for which one thread worked while one call waited.

    The kernel adds the time of a thread that runs on another CPU at its ticks alone, which are milliseconds apart.  So
    a lap may be charged with work of the laps before it.  No more fits into a lap than it took without the thread's
    wait; the rest goes to the lap before.
    """
    longest = late = 0
    for took, caller_waited, worked, waited in reversed(laps):
        worked += late
        here = min(worked, max(0, took - waited))
        late = worked - here
        longest = max(longest, here - caller_waited)
    return longest
