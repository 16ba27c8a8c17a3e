# SPDX-License-Identifier: MIT
"""How long a call may take, and what happens to one that takes longer: it is cancelled, and then it is left.

A call with a deadline runs in a task of its own, because a function can ignore its cancellation and whoever asked must
have an answer all the same.  Calls without one never come here.

Rule: progress gives a call its whole time again, and nothing gives it more than its ceiling (2025-11-25
basic/lifecycle, Timeouts: "SHOULD always enforce a maximum timeout, regardless of progress notifications").
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CLEANUP_TIME = 1.0  # seconds for a call that was cancelled to clean up; then it is left to itself


class TimedOut(Exception):
    """A call took longer than it may; the message says which limit that was."""


class Deadline:
    """The time one call has.  `expired` says when it is over; `close` it in the end."""

    __slots__ = ("_at", "_ceiling", "_ends", "_held", "_loop", "_timer", "_waiter", "expired", "timeout")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, ceiling: float | None) -> None:
        now = loop.time()
        self.timeout = timeout
        self.expired = False
        self._waiter: asyncio.Future[None] | None = None
        # Whoever gives one tool more than the ceiling means it.
        self._ceiling = math.inf if ceiling is None else max(ceiling, timeout)
        self._ends = now + self._ceiling
        self._loop = loop
        self._held = 0
        self._at = now + timeout
        self._timer = loop.call_at(self._at, self._look)

    def extend(self) -> None:
        """There was progress: the whole time again.  No timer is made for it, however often it comes."""
        if not self._held:
            self._at = min(self._loop.time() + self.timeout, self._ends)

    def hold(self) -> None:
        """The call waits for a person, who has a limit of their own (`ask_timeout`)."""
        self._held += 1
        self._at = self._ends

    def release(self) -> None:
        """The person has answered."""
        self._held -= 1
        self.extend()
        self._timer.cancel()
        self._arm()

    def close(self) -> None:
        """The call is over."""
        self._timer.cancel()

    def wait(self) -> asyncio.Future[None]:
        """Until `wake` is called, which the end of the time does.  Half the cost of `asyncio.wait`."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def wake(self, _: object = None) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def reason(self) -> str:
        """Which limit it was, for whoever asked."""
        if self._at >= self._ends and self._ceiling > self.timeout:
            return f"Timed out: it took longer than {self._ceiling:g} s"
        return f"Timed out after {self.timeout:g} s"

    def _arm(self) -> None:
        if self._at < math.inf:
            self._timer = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        if self._loop.time() < self._at:
            self._arm()
        else:
            self.expired = True
            self.wake()


async def run_within(job: Coroutine[Any, Any, T], deadline: Deadline, leave: Callable[[asyncio.Task[T]], None]) -> T:
    """The result of `job`.  Raises TimedOut when its time is over, and then calls `leave` if it ignores that.

    A cancellation is passed on; what the job makes of it is what is returned or raised.
    """
    task = asyncio.ensure_future(job)
    task.add_done_callback(deadline.wake)
    cancelled = False
    try:
        while not task.done() and not deadline.expired:
            try:
                await deadline.wait()
            except asyncio.CancelledError:  # noqa: PERF203 - it may come again
                cancelled = True
                task.cancel()
        if task.done():
            return task.result()
        if not cancelled:  # else it cleans up already, which a second cancellation would break off
            task.cancel()
        try:
            await asyncio.wait({task}, timeout=CLEANUP_TIME)
        except asyncio.CancelledError:
            cancelled = True
        if not task.done():
            leave(task)
        elif not task.cancelled():
            task.exception()  # too late to matter to anybody
        if cancelled:
            raise asyncio.CancelledError
        raise TimedOut(deadline.reason())
    finally:
        deadline.close()
