# SPDX-License-Identifier: MIT
"""Begins a call in the turn of the loop that read it; what has to wait goes on as a task.

Most calls never wait for anything, and for those the making of a task, its registration, its two turns of the loop and
its end are a quarter of all that they cost.  Here a job takes its first step at once, with a task that was made
before as its `asyncio.current_task()`.  If that step ends the job, the task serves the next one; if the job waits, the
task is its own from there on, so that timeouts, cancel scopes and task groups which it opened before go on to work.

It refuses to lend a task twice that somebody has kept hold of, given a callback or cancelled: that one ends, as the
task of a call that has ended does.

Rule: nothing that a job can see tells it from one that runs in a task of its own: not its context, which is a copy
of the caller's for each job, and not its task.

`current_task` is told by the two functions that asyncio has for tasks of others (asyncio, Extending, Task lifetime
support).
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
# Of a loop; until Python 3.12 `current_task` is no C function, and this is all that it does.
_current_task: Callable[[Any], Any] = (
    tasks.current_task if sys.version_info >= (3, 12) else getattr(tasks, "_current_tasks").get  # noqa: B009
)
logger = escaping(logging.getLogger(__name__))

_NOTHING: Any = object()


class Carrier(Coroutine[Any, Any, Any]):
    """What a lent task runs: nothing, and then the rest of a job whose first step was taken elsewhere."""

    __slots__ = ("_first", "_job", "_loop", "_over", "_run", "parked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.parked: asyncio.Future[None] | None = None  # what the task waits for while it has no job
        self._loop = loop
        self._job: Coroutine[Any, Any, Any] | None = None
        self._run: Callable[..., Any]
        self._first: Any = _NOTHING  # what the job waits for since its first step
        self._over = False

    def take(self, job: Coroutine[Any, Any, Any], run: Callable[..., Any], first: Any) -> None:
        """Go on with a job that waits for `first`; `run` steps it in its context."""
        self._job, self._run, self._first = job, run, first
        if getattr(first, "_asyncio_future_blocking", None) is not None:
            first._asyncio_future_blocking = False  # until the task waits for it, others may begin to
        self._wake()

    def end(self) -> None:
        """No job will come."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        if self.parked is not None and not self.parked.done():
            self.parked.set_result(None)

    # --- what a task asks of its coroutine -------------------------------------------------------------------

    def send(self, value: Any) -> Any:
        first, job = self._first, self._job
        if job is None:
            if self._over:
                raise StopIteration
            self.parked = self._loop.create_future()
            return next(self.parked.__await__())
        if first is _NOTHING:
            return self._run(job.send, value)
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
        return self._run(job.throw, exc, *more)

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
        """The task for one job; None where another task is running, whose turn this is."""
        if _current_task(self._loop) is not None:
            return None
        task: Any = self.spare
        if task is not None:
            parked = self._carrier.parked
            if (
                # The loop has a reference until the task has begun; then what the task waits for has it.
                getrefcount(task) == self._references
                and getweakrefcount(task) == 1  # that of `asyncio.all_tasks`
                and not task._callbacks
                # To cancel a task that waits is to cancel what it waits for; before it waits, that is noted.
                and not (task._must_cancel or task.done() if parked is None else parked.done())
            ):
                return task  # type: ignore[no-any-return]
            self._carrier.end()
            self.spare = None
        if self._loop.get_task_factory() is not None:
            return None  # whatever its tasks are, each is made for one coroutine
        self._carrier = Carrier(self._loop)
        task = self.spare = self._loop.create_task(self._carrier)
        self._references = getrefcount(task)
        return task  # type: ignore[no-any-return]

    def begin(self, job: Coroutine[Any, Any, Any]) -> bool:
        """Take the first step of a job, with the task that was just lent; False where that was all of it.

        What the job raises is logged, as of a task, but for what ends the process.
        """
        loop, task, run = self._loop, self.spare, copy_context().run
        assert task is not None
        _enter_task(loop, task)
        try:
            first = run(job.send, None)
        except (StopIteration, asyncio.CancelledError):
            return False
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            logger.error("a task failed", exc_info=exc)
            return False
        finally:
            _leave_task(loop, task)
        self.spare = None
        self._carrier.take(job, run, first)
        return True

    async def close(self) -> None:
        """Let the task that waits for a job end."""
        task, self.spare = self.spare, None
        if task is not None:
            self._carrier.end()
            await asyncio.wait({task})
