# SPDX-License-Identifier: MIT
"""Begins a call in the turn of the loop that read it; a call that has to wait goes on as a task.

Most calls never wait.  For such a call, the making of a task, its registration, its two turns of the loop and its end
are a quarter of the whole cost.  So a job takes its first step here at once, and a task that was made before stands in
as its `asyncio.current_task()`.  If that step ends the job, the task serves the next job.  If the job waits, it keeps
the task to its end, so that the timeouts, cancel scopes and task groups that it opened before still work.

A task is not lent again once it was cancelled, was given a callback, or has a reference that other code kept: that task
ends, as the task of an ended call does.

Rule: a job cannot see that it does not run in a task of its own.  Its context is a copy of the caller's, made for each
job, and its task is used by no other job as far as it can see.

The two functions that asyncio has for custom tasks (asyncio, Extending, Task lifetime support) set `current_task`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import tasks
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from math import nan
from typing import Any
from weakref import getweakrefcount

from ..protocol.shown import escaping

# An interpreter that counts no references never finds a count that it knows: no task is lent twice there.
getrefcount: Callable[[object], float] = getattr(sys, "getrefcount", lambda _: nan)
# Returns the running task of a loop.  Before Python 3.12 `current_task` is a Python function that only looks into this
# table.  There the table is read directly, which saves the call.
_current_task: Callable[[Any], Any] = (
    tasks.current_task if sys.version_info >= (3, 12) else getattr(tasks, "_current_tasks").get  # noqa: B009
)
logger = escaping(logging.getLogger(__name__))

_NOTHING: Any = object()


class Carrier(Coroutine[Any, Any, Any]):
    """The coroutine of a lent task: it waits for a job that has taken its first step, and then runs the rest of it."""

    __slots__ = ("_first", "_job", "_loop", "_over", "_run", "ended", "parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parked: asyncio.Future[None] | None = None  # the task waits for it while it has no job
        self.ended: Callable[[BaseException], None] | None = None  # is given what the job's last step raised
        self._loop = loop
        self._job: Coroutine[Any, Any, Any] | None = None
        self._run: Callable[..., Any]
        self._first: Any = _NOTHING  # the future that the job waits for since its first step
        self._over = False

    def take(self, job: Coroutine[Any, Any, Any], run: Callable[..., Any], first: Any) -> None:
        """Go on with a job that waits for `first`; `run` steps it in its context."""
        self._job, self._run, self._first = job, run, first
        if getattr(first, "_asyncio_future_blocking", None) is not None:
            first._asyncio_future_blocking = False  # other tasks may begin to wait for it before this task does
        self._wake()

    def end(self) -> None:
        """Let the task end without a job."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        if self.parked is not None and not self.parked.done():
            self.parked.set_result(None)

    # --- the methods that a task calls on its coroutine --------------------------------------------------------

    def send(self, value: Any) -> Any:
        first, job = self._first, self._job
        if job is None:
            if self._over:
                raise StopIteration
            self.parked = self._loop.create_future()
            return next(self.parked.__await__())
        if first is _NOTHING:
            return self._step(job.send, value)
        self._first = _NOTHING
        if getattr(first, "_asyncio_future_blocking", None) is not None:
            first._asyncio_future_blocking = True
        return first

    def throw(self, exc: Any, *more: Any) -> Any:
        first, job = self._first, self._job
        if job is None:
            raise exc
        if first is not _NOTHING:  # cancelled before its task could wait for it
            self._first = _NOTHING
            cancel = getattr(first, "cancel", None)
            if cancel is not None:
                cancel()
        try:
            return self._step(job.throw, exc, *more)
        finally:
            del exc, more  # what is raised knows this frame, and would be in a cycle with it

    def _step(self, *step: Any) -> Any:
        try:
            return self._run(*step)
        except BaseException as exc:
            # In this turn: a callback of the task would be called in the next one.
            ended, self.ended = self.ended, None
            if ended is not None:
                ended(exc)
            del step, ended  # as in `throw`: the task keeps what is raised if it is a cancellation
            raise

    def close(self) -> None:
        if self._job is not None:
            self._job.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise RuntimeError("it belongs to a task")

    def __getattr__(self, name: str) -> Any:
        # `cr_frame` and the like: anyio and debuggers look at the coroutine of a task.
        return getattr(self._job, name)


class Eager:
    """Begins jobs on one loop; call `close` when none will come any more.

    `lend` gives the task of the next job, `begin` takes the job's first step.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.spare: asyncio.Task[Any] | None = None  # for the next job
        self._carrier: Carrier
        self._references = 0.0

    def lend(self) -> asyncio.Task[Any] | None:
        """The task for one job; None while another task runs, since a loop has one current task at a time."""
        if _current_task(self._loop) is not None:
            return None
        task: Any = self.spare
        if task is not None:
            parked = self._carrier.parked
            if (
                # The count is the same before and after the task has begun: first the loop holds one reference to
                # it, and then the future that the task waits for holds it.
                getrefcount(task) == self._references
                and getweakrefcount(task) == 1  # `asyncio.all_tasks` holds this one
                and not task._callbacks
                # A task that waits is cancelled through the future that it waits for.  A task that has not begun to
                # wait only notes that it was cancelled.
                and not (task._must_cancel or task.done() if parked is None else parked.done())
            ):
                return task  # type: ignore[no-any-return]
            self._carrier.end()
            self.spare = None
        if self._loop.get_task_factory() is not None:
            return None  # the factory expects one coroutine for each task, and may keep the task
        self._carrier = Carrier(self._loop)
        task = self.spare = self._loop.create_task(self._carrier)
        self._references = getrefcount(task)
        return task  # type: ignore[no-any-return]

    def begin(self, job: Coroutine[Any, Any, Any]) -> Carrier | None:
        """Take the first step of a job, with the task that was just lent; None where the job ended in that step.

        Else give the carrier what it calls at the job's end (`ended`), before the loop has its next turn.

        An exception of the job is logged, as the exception of a task is.  SystemExit and KeyboardInterrupt are raised,
        because they end the process.
        """
        loop, task, run = self._loop, self.spare, copy_context().run
        assert task is not None
        _enter_task(loop, task)
        try:
            first = run(job.send, None)
        except (StopIteration, asyncio.CancelledError):
            return None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            logger.error("a task failed", exc_info=exc)
            return None
        finally:
            _leave_task(loop, task)
        self.spare = None
        self._carrier.take(job, run, first)
        return self._carrier

    async def close(self) -> None:
        """Let the task that waits for a job end."""
        task, self.spare = self.spare, None
        if task is not None:
            self._carrier.end()
            await asyncio.wait({task})
