# SPDX-License-Identifier: MIT
"""What one running server shares among its eras and transports: handler, codec, tasks, threads, and admission.

Rule: everything here belongs to one server and one event loop and ends with them; two servers in one process share
nothing.  Nothing here knows a protocol revision.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from .errors import overloaded
from .handler import Notice, ServerHandler
from .jsonrpc import JSON
from .sealing import Sealer
from .settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Job = Coroutine[Any, Any, None]


class Gate:
    """At most `limit` inside; who comes later waits in line.  `limit` None lets everybody in."""

    __slots__ = ("inside", "limit", "line")

    def __init__(self, limit: int | None) -> None:
        self.limit = math.inf if limit is None else limit
        self.inside = 0
        self.line: deque[asyncio.Future[None]] = deque()

    def leave(self) -> None:
        """Give the place to the first in line, or free it."""
        while self.line:
            waiter = self.line.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.inside -= 1

    async def wait(self) -> None:
        """Wait for a place; the caller leaves it when done."""
        if self.inside < self.limit:
            self.inside += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self.line.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # the place came together with the cancellation
            raise


class Runtime:
    """Enter it in the loop that serves; leave it when nothing runs any more."""

    def __init__(self, handler: ServerHandler, settings: Settings) -> None:
        self.handler = handler
        self.settings = settings
        self.json = JSON(settings.json)
        self.sealer = Sealer(settings.state_keys, settings.state_ttl)
        self.tasks: set[asyncio.Task[None]] = set()
        self.gate = Gate(settings.max_running)
        self.waiting = 0
        self.lifespan: Any = None
        self.on_notice: list[Callable[[Notice], None]] = []
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self._threads: anyio.CapacityLimiter
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Runtime:
        self.loop = asyncio.get_running_loop()
        self._threads = anyio.CapacityLimiter(self.settings.max_threads)
        self.lifespan = await self._stack.enter_async_context(self.handler.lifespan())
        self.handler.notices.subscribe(self._noticed)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.handler.notices.unsubscribe(self._noticed)
        await self._stack.aclose()

    def now(self) -> float:
        """Seconds since the epoch, for what leaves the process."""
        return time.time()

    # --- tasks -------------------------------------------------------------------------------------------

    def start(self, job: Job, own: Gate) -> asyncio.Task[None]:
        """Run a call as a task, in its turn: `own` is the gate of its session.

        Raises `overloaded` where even the line is full.
        """
        gate = self.gate
        if own.inside < own.limit and gate.inside < gate.limit:
            own.inside += 1
            gate.inside += 1
            task = self.spawn(job)
            # Not a `finally` in the job: a task that is cancelled before its first step never runs one.
            task.add_done_callback(partial(self._leave, [own, gate]))
            return task
        limit = self.settings.max_waiting
        if limit is not None and self.waiting >= limit:
            job.close()
            raise overloaded()
        self.waiting += 1
        taken: list[Gate] = []
        task = self.spawn(self._in_turn(job, own, taken))
        task.add_done_callback(partial(self._end_waiting, job, taken))
        return task

    def spawn(self, job: Job) -> asyncio.Task[None]:
        """A task that is kept until it ends, and whose failure is logged."""
        task = self.loop.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _in_turn(self, job: Job, own: Gate, taken: list[Gate]) -> None:
        for gate in (own, self.gate):
            await gate.wait()
            taken.append(gate)
        self.waiting -= 1
        await job

    def _end_waiting(self, job: Job, taken: list[Gate], task: asyncio.Task[None]) -> None:
        if len(taken) < 2:  # it never got its turn
            self.waiting -= 1
            job.close()
        self._leave(taken, task)

    def _leave(self, gates: list[Gate], _: asyncio.Task[None]) -> None:
        for gate in gates:
            gate.leave()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a task failed", exc_info=exc)

    # --- threads -----------------------------------------------------------------------------------------

    async def run_sync(self, fn: Callable[[], T]) -> T:
        """Run a blocking function where it cannot stall the loop: in a worker thread, or where the host wants it.

        A thread cannot be stopped: a cancelled call leaves it running, and it counts until it ends.
        """
        if self.settings.call_in is not None:
            return await self._run_in_host(self.settings.call_in, fn)
        limiter, token = self._threads, object()
        await limiter.acquire_on_behalf_of(token)

        def work() -> T:
            try:
                return fn()
            finally:
                self._release(token)

        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf))

    def _release(self, token: object) -> None:
        try:
            self.loop.call_soon_threadsafe(self._threads.release_on_behalf_of, token)
        except RuntimeError:  # the loop is closed: nobody counts any more
            pass

    async def _run_in_host(self, call_in: Callable[[Callable[[], None]], Any], fn: Callable[[], T]) -> T:
        future: asyncio.Future[T] = self.loop.create_future()

        def settle(setter: Callable[..., None], value: Any) -> None:
            if not future.done():
                setter(value)

        def work() -> None:
            try:
                result = fn()
            except BaseException as exc:  # it belongs to the call, not to the host's thread
                self.loop.call_soon_threadsafe(settle, future.set_exception, exc)
            else:
                self.loop.call_soon_threadsafe(settle, future.set_result, result)

        call_in(work)
        return await future

    # --- notices -----------------------------------------------------------------------------------------

    def _noticed(self, notice: Notice) -> None:
        # Published in any thread; listeners run on the loop.  On the loop itself at once, so that a notice keeps
        # its place among what the same handler sends.
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            self._announce(notice)
            return
        try:
            self.loop.call_soon_threadsafe(self._announce, notice)
        except RuntimeError:  # the loop is closed: nobody listens any more
            pass

    def _announce(self, notice: Notice) -> None:
        for listener in self.on_notice:
            listener(notice)
