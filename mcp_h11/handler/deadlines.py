# SPDX-License-Identifier: MIT
"""The time that a call may take.  A call that takes longer is cancelled, and if it ignores that it is left running.

A call with a deadline runs in a task of its own, because a function can ignore its cancellation, and the client must
have an answer all the same.  A handler that is known to end when it is cancelled needs no such task (`run_in_time`).
Calls without a deadline never come here.

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
BETWEEN_LOOKS = 0.01  # seconds, at the least, between two looks at the deadlines of all calls


class TimedOut(Exception):
    """A call took longer than it may; the message says which limit that was."""


class CallTimer:
    """One timer for the deadlines of a server: it runs to the earliest time that it has seen, and looks at all of them.

    A timer for each call would be set and cancelled with nearly every one of them, since few calls time out.
    """

    __slots__ = ("_loop", "_running", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: dict[Deadline, None] = {}
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline) -> None:
        """End this deadline at its time."""
        self._running[deadline] = None
        if deadline.at < self._until:
            self.watch(deadline.at)

    def remove(self, deadline: Deadline) -> None:
        """The call of this deadline has ended."""
        self._running.pop(deadline, None)

    def watch(self, at: float) -> None:
        """Look at this time of the loop, or before.  A deadline that moves to an earlier time needs it."""
        if at < self._until:
            self.close()
            self._until = at
            self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        # The clock of the loop may be a little behind the time of the timer.
        now = max(self._until, self._loop.time())
        self.close()
        for deadline in [one for one in self._running if one.at <= now]:
            self.remove(deadline)
            deadline.end()
        # Many calls that hang, each with a time of its own, are not looked at for each one of them.
        self.watch(max(now + BETWEEN_LOOKS, min((one.at for one in self._running), default=math.inf)))

    def close(self) -> None:
        """Cancel the timer."""
        self._until = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Deadline:
    """The time of one call.  `expired` is True when it is over; `close` is called when the call has ended.

    Attributes:
        at: the time of the loop when it is over.
    """

    __slots__ = ("_ceiling", "_ends", "_held", "_loop", "_task", "_timer", "_waiter", "at", "expired", "timeout")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, ceiling: float | None, timer: CallTimer | None = None
    ) -> None:
        now = loop.time()
        self.timeout = timeout
        self.expired = False
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        # A tool's own timeout may be longer than the ceiling: it was written for that tool, so it holds.
        self._ceiling = math.inf if ceiling is None else ceiling if ceiling > timeout else timeout
        # Fixed here: neither progress nor questions move the ceiling.
        self._ends = now + self._ceiling
        self._loop = loop
        self._held = 0
        self.at = now + timeout
        self._timer = timer or CallTimer(loop)
        self._timer.add(self)

    def extend(self) -> None:
        """The call made progress and has its whole time again.

        This sets no timer, however often progress comes: the running timer looks at the new time when it fires.
        """
        if not self._held:
            self.at = min(self._loop.time() + self.timeout, self._ends)

    def hold(self) -> None:
        """The call waits for the answer of a person, which has a limit of its own (`ask_timeout`)."""
        self._held += 1
        self.at = self._ends

    def release(self) -> None:
        """The person has answered."""
        self._held -= 1
        self.extend()
        self._timer.watch(self.at)

    def close(self) -> None:
        self._timer.remove(self)
        self._task = None

    def cancels_this_task(self) -> asyncio.Task[Any]:
        """Cancel the running task, which is returned, when the time is over."""
        # With the loop: without it Python 3.11 and before ask the system whether the process is another one.
        task = self._task = asyncio.current_task(self._loop)
        assert task is not None
        return task

    def wait(self) -> asyncio.Future[None]:
        """A future that `wake` completes, as the end of the time does.  Half the cost of `asyncio.wait`."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def wake(self, _: object = None) -> None:
        """End `wait`: the task is done, or the time is over."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def reason(self) -> str:
        """The limit that was passed, as a message for the client."""
        if self.at >= self._ends and self._ceiling > self.timeout:
            return f"Timed out: it took longer than {self._ceiling:g} s"
        return f"Timed out after {self.timeout:g} s"

    def end(self) -> None:
        """The time is over."""
        self.expired = True
        self.wake()
        if self._task is not None:
            self._task.cancel()


async def run_within(job: Coroutine[Any, Any, T], deadline: Deadline, leave: Callable[[asyncio.Task[T]], None]) -> T:
    """The result of `job`.  Raises TimedOut when its time is over; a job that ignores that is given to `leave`.

    A cancellation is passed on to the job, and its result or error is returned or raised.
    """
    task = asyncio.ensure_future(job)
    # The task and the timer wake one future, which is cheaper than a task that waits for both.
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
            task.exception()  # retrieved, so that asyncio logs no error that came after the answer
        if cancelled:
            raise asyncio.CancelledError
        raise TimedOut(deadline.reason())
    finally:
        deadline.close()


async def run_in_time(job: Coroutine[Any, Any, T], deadline: Deadline) -> T:
    """As `run_within`, in the task of the caller: for a job that ends as soon as it is cancelled."""
    task = deadline.cancels_this_task()
    try:
        return await job
    except asyncio.CancelledError:
        if deadline.expired and take_back_cancellation(task):
            raise TimedOut(deadline.reason()) from None
        raise
    finally:
        deadline.close()


def take_back_cancellation(task: asyncio.Task[Any]) -> bool:
    """Undo one cancellation of the running task, which has raised its CancelledError.

    Returns False where other code cancelled the task as well.  Python 3.10 cannot tell, and it is True there.
    """
    uncancel: Callable[[], int] | None = getattr(task, "uncancel", None)
    return uncancel is None or uncancel() == 0
