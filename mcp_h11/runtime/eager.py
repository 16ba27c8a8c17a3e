# SPDX-License-Identifier: MIT
"""Begins a call in the turn of the loop that read it; a call that has to wait goes on as a task.

Most calls never wait.  For such a call, the making of a task, its registration, its two turns of the loop and its end
are a quarter of the whole cost.  So a job takes its first step here at once, and a task that was made before stands in
as its `asyncio.current_task()`.  If that step ends the job, the task serves the next job.  If the job waits, it keeps
the task to its end, so that the timeouts, cancel scopes and task groups that it opened before still work.

A job that waits for a future takes its next step in that future's callback, where its task would take it.  The task
itself is parked all the time, and a cancellation of it goes to the future that the job waits for.  Where a job waits
for something else, or was cancelled while nothing could be, the task runs the rest of it.

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

MAX_FREE = 64  # tasks that are kept for calls that wait, beside the one for calls that do not: 1 KiB each

_NOTHING: Any = object()


class Parked(asyncio.Future[None]):
    """What a task waits for that does not run a job."""

    def __init__(self, carrier: Carrier, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._carrier = carrier

    def cancel(self, msg: Any = None) -> bool:
        """Cancel what the job waits for, as `Task.cancel` does; the task itself while no job waits."""
        first = self._carrier.waits_for
        if first is None:
            return super().cancel(msg)
        self._carrier.was_cancelled = True
        return first.cancel(msg)

    def done(self) -> bool:
        """Whether what the job waits for is done: anyio leaves a task alone that has something and was not yet told."""
        first = self._carrier.waits_for
        return super().done() if first is None else first.done()


_is_done = asyncio.Future.done  # of a `Parked`, whatever its job waits for


class Carrier(Coroutine[Any, Any, Any]):
    """The coroutine of a lent task: it waits while a job has its first step, and runs the rest of the job."""

    __slots__ = (
        "_eager", "_first", "_job", "_loop", "_over", "_run", "_value", "ended", "parked", "task", "waits_for",
        "was_cancelled",
    )  # fmt: skip

    def __init__(self, eager: Eager) -> None:
        self.parked: Parked | None = None
        self.ended: Callable[[BaseException], None] | None = None  # is given what the job's last step raised
        self.task: asyncio.Task[Any] | None = None  # while callbacks step the job
        self.waits_for: asyncio.Future[Any] | None = None  # that the job waits for while callbacks step it
        self.was_cancelled = False
        self._eager = eager
        self._loop = eager.loop
        self._job: Coroutine[Any, Any, Any] | None = None
        self._run: Callable[..., Any]
        self._first: Any = _NOTHING  # that the job waits for, and its task is about to
        self._over = False
        self._value: Any = None  # that a job returned which callbacks stepped

    def take(self, task: asyncio.Task[Any], job: Coroutine[Any, Any, Any], run: Callable[..., Any], first: Any) -> None:
        """Go on with a job that waits for `first`; `run` steps it in its context."""
        self.task, self._job, self._run = task, job, run
        self._wait(first)

    def end(self, value: Any = None) -> None:
        """Let the task end, with this result."""
        self.task, self._value, self._over = None, value, True
        self._wake()

    def _wake(self) -> None:
        if self.parked is not None and not _is_done(self.parked):
            self.parked.set_result(None)

    # --- a job that callbacks step -----------------------------------------------------------------------------

    def _wait(self, first: Any) -> None:
        if (
            isinstance(first, asyncio.Future)
            and first._asyncio_future_blocking
            and first.get_loop() is self._loop
            and first is not self.task
        ):
            first._asyncio_future_blocking = False
            self.waits_for = first
            first.add_done_callback(self._go_on, context=self._eager.context)
        else:
            self._hand_over(first)  # the task knows how to wait for this, and how to refuse it

    def _hand_over(self, first: Any) -> None:
        """Let the task run the job, which waits for `first`."""
        self._first, self.task = first, None
        if getattr(first, "_asyncio_future_blocking", None) is not None:
            first._asyncio_future_blocking = False  # other tasks may begin to wait for it before this task does
        self._wake()

    def _go_on(self, first: asyncio.Future[Any]) -> None:
        """Take the next step of the job, in the name of its task."""
        task: Any = self.task
        if task is None or first is not self.waits_for:
            return  # the task runs the job
        if task._must_cancel or (self.parked is not None and _is_done(self.parked)):
            self.waits_for = None
            self._hand_over(_NOTHING)  # the task's next step cancels the job
            return
        job: Any = self._job
        self.waits_for = None
        del first  # what is raised knows this frame, and the future may know what is raised
        waits = value = _NOTHING
        _enter_task(self._loop, task)
        try:
            waits = self._run(job.send, None)
        except BaseException as exc:
            self._job, self._run = None, _NOTHING
            if isinstance(exc, StopIteration):
                value = exc.value
            else:
                self._fail(exc)
            ended, self.ended = self.ended, None
            if ended is not None:
                ended(exc)
            del ended  # it knows the task
            if isinstance(exc, (SystemExit, KeyboardInterrupt)):
                raise
        finally:
            _leave_task(self._loop, task)
            del task  # `keeps` counts its references
        if waits is not _NOTHING:
            self._wait(waits)
        elif value is not _NOTHING and not self._eager.keeps(self):
            self.end(value)

    def _fail(self, exc: BaseException) -> None:
        """Let the task end with what its job raised: the future that it waits for raises it there.

        What ends the process is raised by the callback, and the task just ends.
        """
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            self.end()
            return
        self.task = None
        if self.parked is not None and not _is_done(self.parked):
            self.parked.set_exception(exc)
        elif not isinstance(exc, asyncio.CancelledError):
            logger.error("a task failed", exc_info=exc)  # the job had cancelled its task, which ends so

    # --- the methods that a task calls on its coroutine --------------------------------------------------------

    def send(self, value: Any) -> Any:
        first, job = self._first, self._job
        if job is None or self.task is not None:
            if self._over:
                raise StopIteration(self._value)
            self.parked = Parked(self, self._loop)
            return next(self.parked.__await__())
        if first is _NOTHING:
            return self._step(job.send, value)
        self._first = _NOTHING
        # The task refuses to wait for itself, and would leave the mark for others that do.
        if getattr(first, "_asyncio_future_blocking", None) is not None and first is not _current_task(self._loop):
            first._asyncio_future_blocking = True
        return first

    def throw(self, exc: Any, *more: Any) -> Any:
        first, job = self._first, self._job
        if self.waits_for is not None:
            first, self.waits_for = self.waits_for, None
            first.remove_done_callback(self._go_on)
        self.task, self._first = None, _NOTHING
        try:
            if job is None:
                self.parked = None  # it may know what is raised
                raise exc
            if first is not _NOTHING:  # cancelled before its task could wait for it
                cancel = getattr(first, "cancel", None)
                if cancel is not None and cancel(*exc.args) and not first.done():
                    # It cleans up, or will not be cancelled: as any task this one waits for its end.
                    first._asyncio_future_blocking = True
                    return first
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
        self.loop = loop
        self.context = copy_context()  # of the callbacks that step jobs; each step has the context of its job
        self.spare: asyncio.Task[Any] | None = None  # for the next job
        self._carrier: Carrier  # of `spare`
        self._free: list[tuple[asyncio.Task[Any], Carrier]] = []  # that went through a job that waited
        self._references = 0.0

    def lend(self) -> asyncio.Task[Any] | None:
        """The task for one job; None while another task runs, since a loop has one current task at a time."""
        if _current_task(self.loop) is not None:
            return None
        task: Any = self.spare
        while task is not None or self._free:
            if task is None:
                self.spare, self._carrier = self._free.pop()
                task = self.spare
            parked = self._carrier.parked
            if (
                # The count is the same before and after the task has begun: first the loop holds one reference to
                # it, and then the future that the task waits for holds it.
                getrefcount(task) == self._references
                and getweakrefcount(task) == 1  # `asyncio.all_tasks` holds this one
                and not task._callbacks
                # A task that waits is cancelled through the future that it waits for.  A task that has not begun to
                # wait only notes that it was cancelled.
                and not (task._must_cancel or task.done() if parked is None else _is_done(parked))
            ):
                return task  # type: ignore[no-any-return]
            self._carrier.end()
            task = self.spare = None
        if self.loop.get_task_factory() is not None:
            return None  # the factory expects one coroutine for each task, and may keep the task
        self._carrier = Carrier(self)
        task = self.spare = self.loop.create_task(self._carrier)
        self._references = getrefcount(task)
        return task  # type: ignore[no-any-return]

    def keeps(self, carrier: Carrier) -> bool:
        """Take a carrier back with its task; False where other code knows the task, and may wait for its end."""
        # `lend` asks the same in place: a function for both would be 12 bytecodes more in each call that never waits.
        task: Any = carrier.task
        parked = carrier.parked
        if (
            len(self._free) >= MAX_FREE
            or getrefcount(task) != self._references  # the carrier has the reference that `spare` has in `lend`
            or getweakrefcount(task) != 1
            or task._callbacks
            or carrier.was_cancelled
            or (parked is not None and _is_done(parked))
        ):
            return False
        self._free.append((task, carrier))
        carrier.task = None
        return True

    def begin(self, job: Coroutine[Any, Any, Any]) -> Carrier | None:
        """Take the first step of a job, with the task that was just lent; None where the job ended in that step.

        Else give the carrier what it calls at the job's end (`ended`), before the loop has its next turn.

        An exception of the job is logged, as the exception of a task is.  SystemExit and KeyboardInterrupt are raised,
        because they end the process.
        """
        loop, run = self.loop, copy_context().run
        task: Any = self.spare
        first, value = _NOTHING, None
        _enter_task(loop, task)
        try:
            first = run(job.send, None)
        except StopIteration as end:
            value = end.value
        except asyncio.CancelledError:
            pass
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            logger.error("a task failed", exc_info=exc)
        finally:
            _leave_task(loop, task)
        carrier = self._carrier
        if first is not _NOTHING:
            self.spare = None
            carrier.take(task, job, run, first)
            return carrier
        if task._callbacks:  # other code waits for its end, and `lend` may not look at it for long
            self.spare = None
            carrier.end(value)
        return None

    async def close(self) -> None:
        """Let the tasks end that wait for a job."""
        free, self._free = self._free, []
        if self.spare is not None:
            free.append((self.spare, self._carrier))
            self.spare = None
        for _, carrier in free:
            carrier.end()
        if free:
            await asyncio.wait({task for task, _ in free})
