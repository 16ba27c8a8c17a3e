# SPDX-License-Identifier: MIT
"""Worker threads for blocking functions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from .admission import FairGate

if TYPE_CHECKING:
    from queue import SimpleQueue

T = TypeVar("T")


class Threads:
    """Worker threads for blocking functions: at most `limit`, made when wanted and kept for the next function.

    Not anyio's nor the standard library's: those are joined when the interpreter ends, so that one tool that blocks
    would keep the whole process from ending.  These are daemons.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._gate = FairGate(limit)
        self._count = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] | None = None

    async def run(self, fn: Callable[[], T], party: str) -> T:
        """Run it in its turn.  A thread cannot be stopped: a cancelled call counts until its function ends."""
        await self._gate.wait(party)
        job = ThreadJob(self._loop, copy_context(), fn, partial(self._gate.leave, party))
        if self._jobs is None:
            from queue import SimpleQueue  # a server whose functions never block does not load it

            self._jobs = SimpleQueue()
        try:
            if self._gate.inside > self._count:
                Thread(target=_work, args=(self._jobs,), name="mcp_h11 tool", daemon=True).start()
                self._count += 1
        except BaseException:  # the system has no more threads
            self._gate.leave(party)
            raise
        self._jobs.put(job)
        return await job.future  # type: ignore[no-any-return]

    def close(self) -> None:
        """Each thread ends when it has nothing to do any more."""
        if self._jobs is not None:
            for _ in range(self._count):
                self._jobs.put(None)


def _work(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
        del job  # or this thread keeps the result alive until the next job comes


class ThreadJob:
    """A blocking function, and the future of its result.  Call it in a thread; it never raises there."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: Context, fn: Callable[[], Any], ended: Callable[[], None]
    ) -> None:
        self.future: asyncio.Future[Any] = loop.create_future()
        self._loop = loop
        self._context = context
        self._fn = fn
        self._ended = ended

    def __call__(self) -> None:
        result: Any = None
        error: BaseException | None = None
        if not self.future.cancelled():  # a call that was cancelled in the queue never begins
            try:
                result = self._context.run(self._fn)
            except (StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as exc:
                # Raised from a future, each of these would stop more than the call: the loop or the awaiting task.
                error = RuntimeError(f"{type(exc).__name__}: {exc}")
                error.__cause__ = exc
            except BaseException as exc:  # it belongs to the call, not to this thread
                error = exc
        with suppress(RuntimeError):  # the loop is closed, and the call is gone with it
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        self._ended()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def ignore_end() -> None:
    """Do nothing: jobs that a host runs take no place of ours."""
