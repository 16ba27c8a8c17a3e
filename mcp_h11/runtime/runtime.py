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
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from .eager import Eager
from .errors import overloaded
from .fairness import Load, Shares, Turns, party_of
from .handler import Notice, ServerHandler, answer
from .jsonrpc import JSON
from .metrics import Metrics
from .outbox import Outbox, outbox_of
from .sealing import Sealer
from .settings import Settings
from .shown import escaping
from .storage import MemoryOnceStore, OnceStore
from .watchdog import Watchdog

logger = escaping(logging.getLogger(__name__))

T = TypeVar("T")
Job = Coroutine[Any, Any, None]
Ended = Callable[[Any], None]


def _over(what: Any) -> None:
    """Nobody else wants to know."""


# What a client needs to find its way about.  These never wait behind tools: where the places for calls are taken, they
# have places of their own.
PROTOCOL_METHODS = frozenset(
    (
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "server/discover",
        "tools/list",
    )
)


class HasParty(Protocol):
    """A call or a session: the client that it belongs to is looked up when a limit asks for it."""

    @property
    def party(self) -> str:
        """As `fairness.party_of` has it."""
        ...


class Gate:
    """At most `limit` inside, of one client; later ones wait in line.  `limit` None lets everything in."""

    __slots__ = ("inside", "limit", "line")

    def __init__(self, limit: int | None) -> None:
        self.limit = math.inf if limit is None else limit
        self.inside = 0
        self.line: dict[asyncio.Future[None], None] = {}  # in order; a tenth of an empty deque, for each session

    def leave(self) -> None:
        """Free the place, for the first in line where there is one."""
        self.inside -= 1
        if self.line:
            self.admit()

    def admit(self) -> None:
        """Let in who waits, as far as there is room."""
        # Who comes back from where it gave its place away may make one too many: then nobody follows.
        while self.line and self.inside < self.limit:
            waiter = next(iter(self.line))
            del self.line[waiter]
            if not waiter.done():
                self.inside += 1
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for a place; the caller leaves it when done."""
        if self.inside < self.limit:
            self.inside += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self.line[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # the place came together with the cancellation
            elif waiter in self.line:
                del self.line[waiter]  # while nobody leaves, nobody else would
            raise


class FairGate(Turns["asyncio.Future[None]"]):
    """At most `limit` inside, of all clients: each has its share, and those that wait have turns."""

    __slots__ = ()

    @property
    def inside(self) -> int:
        """How many are in."""
        return int(self.total)

    @property
    def line(self) -> list[asyncio.Future[None]]:
        """All that wait, party by party."""
        return [waiter for line in self.lines.values() for waiter in line]

    def leave(self, party: str) -> None:
        """Free a place of the party, for the party whose turn it is."""
        self.give_back(party)
        if self.lines:
            self.admit()

    def admit(self) -> None:
        """Let in what waits, as far as there is room."""
        for party, waiter in self.admitted():
            if waiter.done():  # cancelled, and not yet out of the line
                self.give_back(party)
            else:
                waiter.set_result(None)

    async def wait(self, party: str) -> None:
        """Wait for a place of the party; the caller leaves it when done."""
        if self.enter(party):
            return
        waiter = asyncio.get_running_loop().create_future()
        self.join(party, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave(party)  # the place came together with the cancellation
            else:
                self.quit(party, waiter)
            raise


class Threads:
    """Worker threads for blocking functions: at most `limit`, made when wanted and kept for the next function.

    Not anyio's nor the standard library's: those are joined when the interpreter ends, so that one tool that blocks
    would keep the whole process from ending.  These are daemons.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._gate = FairGate(limit)
        self._count = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def run(self, fn: Callable[[], T], party: str) -> T:
        """Run it in its turn.  A thread cannot be stopped: a cancelled call counts until its function ends."""
        await self._gate.wait(party)
        job = ThreadJob(self._loop, copy_context(), fn, partial(self._gate.leave, party))
        try:
            if self._gate.inside > self._count:
                Thread(target=self._work, name="mcp_h11 tool", daemon=True).start()
                self._count += 1
        except BaseException:  # the system has no more threads
            self._gate.leave(party)
            raise
        self._jobs.put(job)
        return await job.future  # type: ignore[no-any-return]

    def close(self) -> None:
        """Each thread ends when it has nothing to do any more."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or it would keep what it returned until the next one comes


class ThreadJob:
    """A blocking function, and the future of what it returns.  Call it in a thread; it never raises there."""

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
        if not self.future.cancelled():  # else nobody waits, and it has not begun
            try:
                result = self._context.run(self._fn)
            except (StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as exc:
                # In a future each of these would stop more than the call: the event loop, or whoever awaits it.
                error = RuntimeError(f"{type(exc).__name__}: {exc}")
                error.__cause__ = exc
            except BaseException as exc:  # it belongs to the call, not to this thread
                error = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        self._ended()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def _nothing() -> None:
    """Nobody counts the jobs that a host runs."""


class Runtime:
    """Enter it in the loop that serves; leave it when nothing runs any more."""

    def __init__(self, handler: ServerHandler, settings: Settings, max_values: int | None = None) -> None:
        self.handler = handler
        self.settings = settings
        self.json = JSON(settings.json, max_values)
        self.sealer = Sealer(settings.state_keys, settings.state_ttl)
        self.once: OnceStore = MemoryOnceStore()
        self.tasks: set[asyncio.Task[None]] = set()
        self.gate = FairGate(settings.max_running)
        self.side_gate = FairGate(settings.max_running)  # for protocol methods, where the other one is taken
        self.line = Shares(settings.max_waiting)  # calls that wait for their turn,
        self.asking = Shares(settings.max_waiting)  # and calls that have given their place away to ask their client
        self.memory = Shares(settings.max_client_memory)  # bytes
        self.lifespan: Any = None
        self.on_notice: list[Callable[[Notice], None]] = []
        self.draining = False
        self.store_away = False  # a store failed, and has not been seen to work since
        self.metrics: Metrics | None = None
        self._watchdog: Watchdog | None = None
        self.loop: asyncio.AbstractEventLoop
        self._threads: Threads
        self.eager: Eager
        self.outbox: Outbox | None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Runtime:
        self.loop = asyncio.get_running_loop()
        self._threads = Threads(self.loop, self.settings.max_threads)
        self.eager = Eager(self.loop)
        self.outbox = outbox_of(self.loop)
        self.lifespan = await self._stack.enter_async_context(self.handler.lifespan())
        self.handler.notices.subscribe(self._noticed)
        if self.settings.lag_warning is not None:
            self._watchdog = Watchdog(
                self.settings.lag_warning, lambda: self.gate.inside or self.tasks, answer.__code__
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.handler.notices.unsubscribe(self._noticed)
        if self._watchdog is not None:
            self._watchdog.close()
        self._threads.close()
        await self.eager.close()
        await self._stack.aclose()

    def share(self, other: Runtime) -> None:
        """Count calls together with another server in this process; before the first call."""
        self.tasks = other.tasks
        self.gate, self.side_gate, self.line, self.asking = other.gate, other.side_gate, other.line, other.asking
        self.memory = other.memory

    def now(self) -> float:
        """Seconds since the epoch, for what leaves the process."""
        return time.time()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return int(self.line.total)

    def party_of(self, subject: str, peer: str) -> str:
        """The client that a request counts for.  One token for all says nothing of the client, so its address does."""
        return party_of(subject if self.settings.token is None else "", peer)

    def load(self, party: str, size: int = 0) -> Load:
        """Memory that a client's request takes; it goes back with the last reference to the load.

        Raises `overloaded` where the client's share is used up.
        """
        load = Load(self.memory, party)
        if not load.resize(size):
            raise overloaded("Too much of this client's is under way")
        return load

    # --- tasks -------------------------------------------------------------------------------------------

    def start(self, job: Job, own: Gate, whose: HasParty, ended: Ended = _over, call: Any = None) -> None:
        """Run a call, in its turn: at once as far as it gets, and from where it waits as a task.

        `own` is the gate of its session, `whose` knows its party.  `call.task` is its task from before it begins until
        it has ended; then `ended(call)` follows, which may be before this returns.  Raises `overloaded` where even the
        line is full.
        """
        gate = self.gate
        if own.inside >= own.limit or gate.total >= gate.easy:
            self._start_in_turn(job, own, whose, ended, call)
            return
        own.inside += 1
        gate.total += 1
        task = self.eager.lend()
        if task is None:
            task = self.loop.create_task(job)
            if call is not None:
                call.task = task
        else:
            if call is not None:
                call.task = task
            goes_on = False
            try:
                goes_on = self.eager.begin(job)
            finally:
                if not goes_on:
                    self._over(own, ended, call)
            if not goes_on:
                return
        # Not before: a call that ends in its first step is no party's burden, and most do.
        party = whose.party
        gate.charge(party)
        self.tasks.add(task)
        # Not a `finally` in the job: a task that is cancelled before its first step never runs one.  One callback
        # for everything, because each is a turn of the loop's machinery.
        task.add_done_callback(partial(self._called, own, gate, party, ended, call))

    def _over(self, own: Gate, ended: Ended, call: Any) -> None:
        own.inside -= 1
        if own.line:
            own.admit()
        gate = self.gate
        gate.total -= 1
        if gate.lines:
            gate.admit()
        if call is not None:
            call.task = None
        ended(call)

    def _called(self, own: Gate, gate: FairGate, party: str, ended: Ended, call: Any, task: asyncio.Task[None]) -> None:
        self._ended(task)
        own.leave()
        gate.leave(party)
        if call is not None:
            call.task = None
        ended(call)

    def _start_in_turn(self, job: Job, own: Gate, whose: HasParty, ended: Ended, call: Any) -> None:
        """The session or the server is busy: the party's share decides whether the call begins now."""
        party, gate = whose.party, self.gate
        if call is not None and call.method in PROTOCOL_METHODS:
            own, gate = Gate(None), self.side_gate
            call.keeps_place = True
        if own.inside < own.limit and gate.enter(party):
            own.inside += 1
            task = self.loop.create_task(job)
            self.tasks.add(task)
            task.add_done_callback(partial(self._called, own, gate, party, ended, call))
        else:
            if not self.line.take(party):
                job.close()
                raise overloaded()
            taken: list[Callable[[], None]] = []
            task = self.spawn(self._in_turn(job, own, gate, party, taken))
            task.add_done_callback(partial(self._end_waiting, job, party, taken, ended, call))
        if call is not None:
            call.task = task

    def leave(self, task: asyncio.Task[Any], party: str) -> None:
        """A call that is answered and still runs: it keeps its place, or such calls would be without number."""
        self.gate.add(party)
        self.tasks.add(task)
        task.add_done_callback(partial(self._left, party))

    def _left(self, party: str, task: asyncio.Task[Any]) -> None:
        self.gate.leave(party)
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it any more

    def spawn(self, job: Job) -> asyncio.Task[None]:
        """A task that is kept until it ends, and whose failure is logged."""
        task = self.loop.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _in_turn(self, job: Job, own: Gate, gate: FairGate, party: str, taken: list[Callable[[], None]]) -> None:
        await own.wait()
        taken.append(own.leave)
        await gate.wait(party)
        taken.append(partial(gate.leave, party))
        self.line.give_back(party)
        await job

    def _end_waiting(
        self,
        job: Job,
        party: str,
        taken: list[Callable[[], None]],
        ended: Ended,
        call: Any,
        task: asyncio.Task[None],
    ) -> None:
        if len(taken) < 2:  # it never got its turn
            self.line.give_back(party)
            job.close()
        for leave in taken:
            leave()
        if call is not None:
            call.task = None
        ended(call)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a task failed", exc_info=exc)

    # --- threads -----------------------------------------------------------------------------------------

    async def run_sync(self, fn: Callable[[], T], party: str) -> T:
        """Run a blocking function of a party where it cannot stall the loop: in a thread, or where the host wants it.

        Neither can be stopped: what a cancelled call has begun runs to its end, and counts until then.
        """
        call_in = self.settings.call_in
        if call_in is None:
            return await self._threads.run(fn, party)
        job = ThreadJob(self.loop, copy_context(), fn, _nothing)
        call_in(job)
        return await job.future  # type: ignore[no-any-return]

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
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self.loop.call_soon_threadsafe(self._announce, notice)

    def _announce(self, notice: Notice) -> None:
        for listener in self.on_notice:
            listener(notice)
