# SPDX-License-Identifier: MIT
"""The objects that the eras and transports of one running server share: handler, codec, tasks, threads, admission.

Rule: everything here belongs to one server and one event loop and ends with them.  Two servers in one process share
nothing, unless `share` is called.  Nothing here knows a protocol revision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..handler.deadlines import CallTimer
from ..handler.dispatch import answer
from ..handler.handler import ServerHandler
from ..handler.notices import EXTENDED, Notice
from ..protocol.errors import overloaded
from ..protocol.jsonrpc import JSON
from ..protocol.shown import escaping
from ..telemetry.providers import tracer_of
from .admission import FairGate, Gate, HasParty
from .bursts import Bursts
from .eager import Eager
from .extended import ServedExtensions, extensions_served
from .fairness import Load, Shares, party_of
from .metrics import Metrics
from .outbox import Outbox, outbox_of
from .request_state import Sealer
from .settings import Settings
from .storage import MemoryOnceStore, OnceStore
from .threads import T, ThreadJob, Threads, ignore_end
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..telemetry.serving import ServerSpans
    from .fleet import Fleet

logger = escaping(logging.getLogger(__name__))
Job = Coroutine[Any, Any, None]
Ended = Callable[[Any], None]


def fleet_of(settings: Settings) -> Fleet | None:
    """The fleet of a server with a store."""
    if settings.store is None:
        return None
    from .fleet import Fleet  # only a server with a store needs it

    if not isinstance(settings.store, str):
        return Fleet(settings.store, settings.path)
    from ..stores.urls import open_store

    return Fleet(open_store(settings.store), settings.path)


def spans_of(settings: Settings) -> ServerSpans | None:
    """The spans of a server; None where its program wants none.  Raises RuntimeError as `tracer_of` does."""
    tracer = tracer_of(settings.tracing)
    if tracer is None:
        return None
    from ..telemetry.serving import ServerSpans  # only a program with a provider of spans needs it

    return ServerSpans(tracer)


def _ignore(call: Any) -> None:
    """Do nothing: the default for a call that has no listener for its end."""


# A client needs these methods before it can choose a tool.  They never wait behind tools: when the places for calls are
# taken, these methods have places of their own.
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


class Runtime:
    """Enter it in the loop that serves; leave it when nothing runs any more."""

    def __init__(self, handler: ServerHandler, settings: Settings, max_values: int | None = None) -> None:
        self.handler = handler
        self.extended = handler._extended  # checked here, so that a wrong extension is an error of the start
        self.settings = settings
        self.json = JSON(settings.json, max_values)
        self.sealer = Sealer(settings.state_keys, settings.state_ttl)
        self.once: OnceStore = MemoryOnceStore()
        self.tasks: set[asyncio.Task[None]] = set()
        self.gate = FairGate(settings.max_running)
        self.side_gate = FairGate(settings.max_running)  # for protocol methods, when `gate` is full
        self.line = Shares(settings.max_waiting)  # calls that wait for their turn
        self.asking = Shares(settings.max_waiting)  # calls that gave their place away while they ask their client
        self.memory = Shares(settings.max_client_memory)  # bytes
        self.lifespan: Any = None
        self.notice_listeners: list[Callable[[Notice], None]] = []
        self.extended_listeners: list[Callable[[Notice], None]] = []  # of notices of extensions
        self.draining = False
        self.store_away = False  # a store failed, and has not been seen to work since
        self.fleet: Fleet | None = fleet_of(settings)
        self.metrics: Metrics | None = None
        self.spans: ServerSpans | None = None  # of each request, where the program wants them
        self._watchdog: Watchdog | None = None
        self.loop: asyncio.AbstractEventLoop
        self.timer: CallTimer
        self._threads: Threads
        self.eager: Eager | None = None
        self.outbox: Outbox | None = None
        self.bursts: Bursts
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Runtime:
        self.loop = asyncio.get_running_loop()
        self.timer = CallTimer(self.loop)
        self._threads = Threads(self.loop, self.settings.max_threads)
        self.eager = Eager(self.loop) if self.settings.eager else None
        self.outbox = outbox_of(self.loop) if self.settings.eager else None
        self.bursts = Bursts(self.loop)
        if self.fleet is not None:
            await self._join(self.fleet)
        self.lifespan = await self._stack.enter_async_context(self.handler.lifespan())
        if self.extended.all:
            services = ServedExtensions(self, self.fleet, self.spawn)
            await self._stack.enter_async_context(extensions_served(self.extended.all, services))
        # After the lifespan, which may set the provider.
        try:
            self.spans = spans_of(self.settings)
        except BaseException:
            await self._stack.aclose()
            raise
        self.handler.notices.subscribe(self._on_notice)
        if self.settings.lag_warning is not None:
            self._watchdog = Watchdog(
                self.settings.lag_warning,
                lambda: self.gate.inside or self.tasks,
                answer.__code__,
                lambda wake: self.gate.rest(wake),
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.handler.notices.unsubscribe(self._on_notice)
        if self._watchdog is not None:
            self._watchdog.close()
        self._threads.close()
        self.timer.close()
        if self.eager is not None:
            await self.eager.close()
        await self._stack.aclose()

    async def _join(self, fleet: Fleet) -> None:
        """Share notices, the keys of `requestState` and its rounds with the other workers."""
        fleet.on_away, fleet.keys.on_state = self._on_store_away, self.sealer.share
        fleet.on_back.append(self._on_store_back)
        fleet.on_signal["notice"] = self._on_remote_notice
        self.once = fleet.once
        self.sealer.clocks_differ = fleet.once.clocks_differ
        self._stack.push_async_callback(fleet.close)
        await fleet.open(self.spawn)
        self.store_away = not fleet.works

    def _on_store_away(self) -> None:
        self.store_away = True

    def _on_store_back(self) -> None:
        self.store_away = False

    def _on_remote_notice(self, body: dict[str, Any]) -> None:
        method, params, name = body.get("method", ""), body.get("params", {}), body.get("name", "")
        self._announce(Notice(body["change"], body.get("uri"), None, method, params, name))

    def share(self, other: Runtime) -> None:
        """Count calls together with another server in this process; before the first call."""
        self.tasks = other.tasks
        self.gate, self.side_gate, self.line, self.asking = other.gate, other.side_gate, other.line, other.asking
        self.memory = other.memory

    def now(self) -> float:
        """Seconds since the epoch, for times that other processes read."""
        return time.time()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return int(self.line.total)

    def party_of(self, subject: str, peer: str) -> str:
        """The client that a request counts for.

        With one token for all clients the subject does not tell them apart, so the address is used there.
        """
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

    def start(self, job: Job, own: Gate, whose: HasParty, ended: Ended = _ignore, call: Any = None) -> None:
        """Run a call in its turn.  It begins at once if there is a place, and becomes a task where it has to wait.

        `own` is the gate of the call's session; the third argument knows its party.  `call.task` is its task from
        before its begin until its end.  Then `ended(call)` is called, possibly before this method returns.  Raises
        `overloaded` where even the line is full.
        """
        gate = self.gate
        if own.inside >= own.limit or gate.total >= gate.easy:
            self._start_in_turn(job, own, whose, ended, call)
            return
        own.inside += 1
        gate.total += 1
        eager = self.eager
        task = None if eager is None else eager.lend()
        carrier = None
        if task is None or eager is None:
            task = self.loop.create_task(job)
            if call is not None:
                call.task = task
        else:
            if call is not None:
                call.task = task
            try:
                carrier = eager.begin(job)
            finally:
                if carrier is None:
                    self._release(own, ended, call)
            if carrier is None:
                return
        # The party is looked up and charged only now: most calls end in their first step, and need neither.
        party = whose.party
        gate.charge(party)
        self.tasks.add(task)
        if carrier is not None:
            carrier.ended = partial(self._carried, own, gate, party, ended, call, task)
            return
        # A `finally` in the job would not do: a task that is cancelled before its first step never runs it.  One
        # callback does everything, because the loop handles each callback by itself.
        task.add_done_callback(partial(self._task_done, own, gate, party, ended, call))

    def _release(self, own: Gate, ended: Ended, call: Any) -> None:
        """Give the places of a call back that ended in its first step, and was never charged to its party."""
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

    def _task_done(
        self, own: Gate, gate: FairGate, party: str, ended: Ended, call: Any, task: asyncio.Task[None]
    ) -> None:
        """The task of a call that had both places has ended."""
        self._reap(task)
        self._leave_gates(own, gate, party, ended, call)

    def _carried(
        self, own: Gate, gate: FairGate, party: str, ended: Ended, call: Any, task: asyncio.Task[None], exc: Any
    ) -> None:
        """A call that waited has ended by `exc`, in the last step of its task."""
        self.tasks.discard(task)
        if not isinstance(exc, StopIteration):
            task.add_done_callback(self._reap)  # logs it, when the task has it
        self._leave_gates(own, gate, party, ended, call)

    def _leave_gates(self, own: Gate, gate: FairGate, party: str, ended: Ended, call: Any) -> None:
        own.leave()
        gate.leave(party)
        if call is not None:
            call.task = None
        ended(call)

    def _start_in_turn(self, job: Job, own: Gate, whose: HasParty, ended: Ended, call: Any) -> None:
        """Start a call while the session or the server is busy: the party's share decides whether it begins now."""
        if self.gate.wake():
            self.start(job, own, whose, ended, call)
            return
        party, gate = whose.party, self.gate
        if call is not None and call.method in PROTOCOL_METHODS:
            own, gate = Gate(None), self.side_gate
            call.keeps_place = True
        if own.inside < own.limit and gate.enter(party):
            own.inside += 1
            task = self.loop.create_task(job)
            self.tasks.add(task)
            task.add_done_callback(partial(self._task_done, own, gate, party, ended, call))
        else:
            if not self.line.take(party):
                job.close()
                raise overloaded()
            taken: list[Callable[[], None]] = []
            task = self.spawn(self._in_turn(job, own, gate, party, taken))
            task.add_done_callback(partial(self._queue_done, job, party, taken, ended, call))
        if call is not None:
            call.task = task

    def leave(self, task: asyncio.Task[Any], party: str) -> None:
        """Let an answered call run on.  It keeps its place, because there would be no limit to such calls otherwise."""
        self.gate.add(party)
        self.tasks.add(task)
        task.add_done_callback(partial(self._overstayer_done, party))

    def _overstayer_done(self, party: str, task: asyncio.Task[Any]) -> None:
        """A call that ran on after its answer has ended (`leave`)."""
        self.gate.leave(party)
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: asyncio would log it as lost

    def spawn(self, job: Job) -> asyncio.Task[None]:
        """Run a job as a task.  The task is kept until it ends, and its failure is logged."""
        self.gate.wake()
        task = self.loop.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    async def _in_turn(self, job: Job, own: Gate, gate: FairGate, party: str, taken: list[Callable[[], None]]) -> None:
        await own.wait()
        taken.append(own.leave)
        await gate.wait(party)
        taken.append(partial(gate.leave, party))
        self.line.give_back(party)
        await job

    def _queue_done(
        self,
        job: Job,
        party: str,
        taken: list[Callable[[], None]],
        ended: Ended,
        call: Any,
        task: asyncio.Task[None],
    ) -> None:
        """The task of a call that began in the line has ended, perhaps while it still waited there."""
        if len(taken) < 2:  # it never got its turn
            self.line.give_back(party)
            job.close()
        for leave in taken:
            leave()
        if call is not None:
            call.task = None
        ended(call)

    def _reap(self, task: asyncio.Task[None]) -> None:
        """Forget a task that has ended, and log its failure."""
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a task failed", exc_info=exc)

    async def wait_idle(self, limit: float, forced: asyncio.Event) -> None:
        """Wait until no task runs, `limit` seconds have passed, or `forced` is set: a second signal, for example."""
        deadline = self.loop.time() + limit
        waiting = self.loop.create_task(forced.wait())
        try:
            # A task may begin another task before it ends, so the loop reads the set again.
            while self.tasks and not forced.is_set() and (left := deadline - self.loop.time()) > 0:
                await asyncio.wait({*self.tasks, waiting}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    # --- threads -----------------------------------------------------------------------------------------

    async def run_sync(self, fn: Callable[[], T], party: str) -> T:
        """Run a blocking function of a party where it cannot stall the loop: in a thread, or where the host wants it.

        The function cannot be stopped: after its call is cancelled it runs to its end, and counts until then.
        """
        call_in = self.settings.call_in
        if call_in is None:
            return await self._threads.run(fn, party)
        job = ThreadJob(self.loop, copy_context(), fn, ignore_end)
        call_in(job)
        return await job.future  # type: ignore[no-any-return]

    # --- notices -----------------------------------------------------------------------------------------

    def _on_notice(self, notice: Notice) -> None:
        # A notice may be published in any thread, and listeners run on the loop.  If the publisher runs on the loop
        # too, they are called at once, so that the notice keeps its place among the messages of the same handler.
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            self._publish(notice)
            return
        with suppress(RuntimeError):  # the loop is closed, and the listeners are gone with it
            self.loop.call_soon_threadsafe(self._publish, notice)

    def _publish(self, notice: Notice) -> None:
        """Announce a notice here, and tell the other workers of it.

        A notice for some clients alone is about this worker's backends; the others hear from backends of their own.
        """
        if self.fleet is None or notice.audience is not None:
            self._announce(notice)
            return
        more: dict[str, Any] = {"name": self.fleet.name_notice()}
        if notice.kind == EXTENDED:
            more |= {"method": notice.method, "params": notice.params}
        self._announce(replace(notice, name=more["name"]))
        self.fleet.signal("notice", change=notice.kind, uri=notice.uri, **more)

    def _announce(self, notice: Notice) -> None:
        for listener in self.extended_listeners if notice.kind == EXTENDED else self.notice_listeners:
            listener(notice)
