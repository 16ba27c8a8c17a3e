# SPDX-License-Identifier: MIT
"""The backends of a bridge over time: each hot swap begins a new generation, and the one before it drains.

A `Generation` is all backends of one target: one for all clients, or one for each session.  `Generations` holds the
generation in use and the replaced ones that still serve the sessions which began with them.

Sessions are numbered so that each one finds its generation again.  A session keeps the number that was current when it
began; the number rises with each swap and each reconnect; a generation serves a range of numbers.

Rules:
- A swap is one assignment.  The new backend is connected before it; where that fails nothing has changed.
- A call is counted before its first wait, and a backend ends only when nothing runs on it or its time is over.
- Each client has a share of the places for backends, so that no client takes all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from ..protocol.errors import MCPError, overloaded
from ..runtime.fairness import Shares
from ..version import __version__
from .backends import DRAIN_TIME, START_TIME, Backend, BackendHooks, BackendSpec, Identity, Tenant
from .callers import CARRIED, Caller
from .calls import BridgedCall, asker
from .interests import Interests

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..eras.session import Session

STOP_TIME = 20.0  # seconds for all backends to end; each child has its own steps of 2 s, 5 s and then SIGKILL
MAX_BACKENDS = 100  # of one bridge with a backend for each session; each client has a share of them
IDLE_TIME = 300.0  # seconds after which a backend that belongs to no session ends
MAX_DRAINING = 8  # replaced generations that still serve sessions; the oldest one beyond that stops serving them
SESSIONS = ("drain", "invalidate", "migrate")
# A backend for all clients is told all capabilities that a bridge can carry: those of its clients differ.
_SHARED = Identity(CARRIED, "mcp_h11 proxy", __version__)
_NAMELESS = Identity(CARRIED, "mcp_h11 proxy", "0")  # for a client that does not say its name


@dataclass
class Drain:
    """The end of a backend that a swap replaced; `over` is set when it is gone.

    Attributes:
        calls: how many calls it had still to answer, with those of sessions that kept it.
        cut: how many of them were ended, because their time was over.
        seconds: how long it took.
    """

    calls: int = 0
    cut: int = 0
    seconds: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Generation:
    """The backends of one target, from their start until the last call on them has ended.

    It serves the sessions that began under the numbers from `low` to `number`.

    Attributes:
        shared: the backend for all clients.  With a backend for each session it only shows the offer of the target.
        own: with a backend for each session, the backends by session or principal.
        opened: a session began under this generation.
        forsaken: set when the generation was replaced and serves no session any more.
        running: how many calls run on its backends.
        begun: how many calls have begun on them.
        forwarded: the headers that the call of the current task passes on.
    """

    def __init__(
        self, spec: BackendSpec, hooks: BackendHooks, interests: Interests, tasks: TaskGroup, *, per_session: bool
    ) -> None:
        self.spec = spec
        self.low = self.number = 0
        self.opened = False
        self.forsaken = asyncio.Event()
        self.per_session = per_session
        self.own: dict[Hashable, Backend] = {}
        self.running = self.begun = 0
        self.forwarded: ContextVar[Mapping[str, str]] = ContextVar("forwarded")
        self._places = Shares(MAX_BACKENDS)
        self._hooks = hooks
        self._tasks = tasks
        self._idle = asyncio.Event()
        self._calls: set[BridgedCall] = set()
        self.shared = self._made(interests, _SHARED, Tenant())

    def _made(self, interests: Interests, identity: Identity, tenant: Tenant, connects: int = 0) -> Backend:
        return Backend(self.spec, self._hooks, interests, identity=identity, tenant=tenant, generation=self,
                       forwarded=self.forwarded, connects=connects)  # fmt: skip

    def start(self) -> None:
        """Begin to connect the shared backend."""
        self._tasks.start_soon(self.shared.run)

    @property
    def backends(self) -> list[Backend]:
        return [self.shared, *self.own.values()]

    def covers(self, number: int) -> bool:
        """Whether sessions that began under this number are served here."""
        return self.low <= number <= self.number

    def serve(self, low: int, number: int) -> None:
        """From now on serve the sessions that began under these numbers."""
        self.low, self.number = low, number

    def serve_no_session(self) -> None:
        """Sessions of this generation are outdated from now on."""
        # An empty range.
        self.low, self.number = 1, 0

    def backend_of(self, caller: Caller) -> Backend:
        """The backend for this caller, begun where there is none yet.

        Raises a Refusal, 503, where there would be too many backends.
        """
        if not self.per_session:
            return self.shared
        info = caller.info
        identity = Identity(caller.capabilities, str(info.get("name") or _NAMELESS.name)[:200],
                            str(info.get("version") or _NAMELESS.version)[:200])  # fmt: skip
        tenant = Tenant(caller.backend_key, caller.session, caller.party, caller.alone)
        return self.backend_for(tenant, identity)

    def backend_for(self, tenant: Tenant, identity: Identity = _NAMELESS) -> Backend:
        """The backend for this tenant, begun under this identity where there is none yet.

        Raises a Refusal, 503, where there would be too many backends.
        """
        if not self.per_session:
            return self.shared
        backend = self.own.get(tenant.key)
        if backend is None:
            # Before anything is made: a refused client leaves nothing behind.
            if not self._places.may(tenant.party):
                raise overloaded("Too many backends")
            backend = self._begin(self._made(Interests(), identity, tenant))
        backend.used_by(tenant.session)
        return backend

    def _begin(self, backend: Backend) -> Backend:
        self._places.add(backend.tenant.party)
        self.own[backend.tenant.key] = backend
        self._tasks.start_soon(backend.run)
        return backend

    def adopt(self, old: Generation, sessions: bool) -> None:
        """Begin a backend for each client of `old` that wants log messages or resources.

        Clients without a session go over to the new generation at once; those with one only if `sessions` says so.
        """
        for backend in old.own.values():
            wanted = backend.interests.levels or backend.interests.uris
            if wanted and (sessions or backend.tenant.session is None):
                # It counts as connected once: its first connection tells clients that the lists may have changed.
                self._begin(self._made(backend.interests, backend.identity, replace(backend.tenant), connects=1))

    def began(self, backend: Backend, call: BridgedCall) -> None:
        """A call begins at a backend of this generation; `over` follows."""
        self.running += 1
        self.begun += 1
        call.begin()
        self._calls.add(call)
        backend.runs[call] = None

    def over(self, backend: Backend, call: BridgedCall) -> None:
        """All that the call does there is done."""
        # First, so that the successor, below, is another call.
        del backend.runs[call]
        # Looked for only where there is a question for it: all calls of the backend are looked at.
        call.end(asker(run for run in backend.runs if run.owner == call.owner) if call.has_questions else None)
        backend.used = time.monotonic()
        self._calls.discard(call)
        self.running -= 1
        if not self.running:
            self._idle.set()

    def sweep(self) -> None:
        """End the backends of sessions that are closed, and those without a session that were idle for long."""
        now = time.monotonic()
        for backend in self.backends:
            backend.notice_new_session()
        # A copy, since backends are taken out.
        for key, backend in list(self.own.items()):
            session = backend.tenant.session
            gone = session is not None and session.closed
            left = max(backend.used + IDLE_TIME, backend.busy_until)
            idle = session is None and not backend.interests.uris and now > left
            if not backend.runs and (gone or idle):
                del self.own[key]
                self._places.give_back(backend.tenant.party)
                self._tasks.start_soon(backend.stop)

    async def finish(self, limit: float) -> int:
        """Wait until no call runs, at most `limit` seconds; then end the calls that are left, and return how many."""
        with anyio.move_on_after(limit):
            while self.running:
                self._idle.clear()
                await self._idle.wait()
        left = list(self._calls)
        for call in left:
            call.cut()
        return len(left)

    async def stop(self) -> None:
        """End every backend, all at the same time."""
        # Shielded: children must be stopped, however serving ends.
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_TIME):
            async with anyio.create_task_group() as tasks:
                for backend in self.backends:
                    tasks.start_soon(backend.stop)
        self.own.clear()


class Generations:
    """The generation in use, and the replaced ones that still serve sessions.

    Args:
        interests: the log levels and resources that clients of the shared backend want.
        per_session: begin a backend for each session.
        drain_time: seconds for the calls on a generation that was replaced.
        start_time: seconds for a new backend to connect during a swap.
        on_offer: called with a backend when clients are to see its offer.
        on_change: called with a backend when its lists and resources may have changed.

    Attributes:
        now: the generation for new sessions and for clients without one; None where there is no backend.
        draining: the replaced generations, oldest first.
        number: the number under which a new session begins.
        piped: the handler is served on pipes, which have one client.
        pipe: the session of that client, where it began one.
    """

    def __init__(
        self,
        interests: Interests,
        *,
        per_session: bool = False,
        drain_time: float = DRAIN_TIME,
        start_time: float = START_TIME,
        on_offer: Callable[[Backend], None],
        on_change: Callable[[Backend], None],
    ) -> None:
        self.per_session = per_session
        self.now: Generation | None = None
        self.draining: list[Generation] = []
        self.number = 0
        self.piped = False
        self.pipe: Session | None = None
        self.start_time = start_time
        self._low = 1  # the lowest number of a session that is still good
        self._interests = interests
        self._drain_time = drain_time
        self._on_offer = on_offer
        self._on_change = on_change
        self._hooks: BackendHooks
        self._tasks: TaskGroup | None = None
        self._swapping: asyncio.Lock

    # --- from the start of serving to its end ------------------------------------------------------------------

    def open(self, tasks: TaskGroup, hooks: BackendHooks) -> None:
        """Serving begins: backends run in this task group, and report to these hooks."""
        self._tasks, self._hooks = tasks, hooks
        self._swapping = asyncio.Lock()
        self.piped, self.pipe = False, None

    async def start(self, spec: BackendSpec, limit: float) -> None:
        """Begin the first generation, and wait at most `limit` seconds until it is connected or has failed once."""
        self.now = self._begin(spec)
        self.number = 1
        self.now.serve(1, 1)
        await self.now.shared.first_outcome(limit)

    def _begin(self, spec: BackendSpec, on_trial: bool = False) -> Generation:
        assert self._tasks is not None
        generation = Generation(spec, self._hooks, self._interests, self._tasks, per_session=self.per_session)
        generation.shared.on_trial = on_trial
        generation.start()
        return generation

    async def close(self) -> None:
        """Serving ends: end every backend, and the calls on them."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as ending:
                for generation in self.all:
                    ending.start_soon(generation.finish, 0.0)
                    ending.start_soon(generation.stop)
        self.draining.clear()
        self.now = self._tasks = None

    async def finish(self, limit: float) -> None:
        """Wait until no call runs, at most `limit` seconds; then end the calls that are left."""
        async with anyio.create_task_group() as tasks:
            for generation in self.all:
                tasks.start_soon(generation.finish, limit)

    # --- which generation answers ------------------------------------------------------------------------------

    @property
    def all(self) -> list[Generation]:
        """The generation in use, if there is one, and then the draining ones."""
        return [*([self.now] if self.now is not None else []), *self.draining]

    def open_session(self) -> int:
        """The number of a session that begins now."""
        if self.now is not None:
            # A generation without sessions has none to wait for when it is replaced.
            self.now.opened = True
        return self.number

    def find(self, number: int) -> Generation | None:
        """The generation that serves sessions of this number; None where they are outdated."""
        if self.now is not None and self.now.low <= number <= self.now.number:  # nearly always
            return self.now
        return next((generation for generation in self.draining if generation.covers(number)), None)

    def answering(self, number: int | None) -> Generation | None:
        """The generation that answers a session of this number, or a client without a session (None)."""
        # Over HTTP the server in front refuses an outdated session before this.  A session on a pipe cannot be told to
        # begin anew, so it goes over to the generation in use.
        return (self.find(number) if number else None) or self.now

    def serving(self, caller: Caller) -> Generation:
        """The generation that answers this caller.  Raises a Refusal, 503, where there is none."""
        generation = self.answering(caller.session.state.generation if caller.session is not None else None)
        if generation is None:
            raise overloaded("No backend is connected now")
        return generation

    def backend_of(self, caller: Caller, generation: Generation | None = None) -> Backend:
        """The backend that answers this caller.  Raises a Refusal, 503, where there is none or would be too many."""
        if generation is None:
            generation = self.serving(caller)
        if caller.piped:
            self.piped, self.pipe = True, caller.pipe or self.pipe
        return generation.backend_of(caller)

    def is_alone(self, backend: Backend) -> bool:
        """Whether every message of this backend concerns one and the same client."""
        return backend.tenant.alone or self.piped

    # --- the hot swap ------------------------------------------------------------------------------------------

    async def swap(self, spec: BackendSpec | None, sessions: str) -> Drain:
        """Put another backend, or none, in the place of the one in use.  Raises as `ProxyHandler.swap` does."""
        if sessions not in SESSIONS:
            raise ValueError(f"sessions is {', '.join(SESSIONS)}, not {sessions!r}")
        if self._tasks is None:
            raise RuntimeError("swap is for a ProxyHandler that is being served")
        async with self._swapping:
            new = None
            if spec is not None:
                new = self._begin(spec, on_trial=True)
                try:
                    # One attempt: the caller of `swap` decides whether there is another one.
                    await new.shared.first_outcome(self.start_time)
                    # Raises why it is not connected.
                    await new.shared.connected(0.0)
                except BaseException as exc:
                    if isinstance(exc, MCPError):
                        self._hooks.tally.failed_swaps += 1
                        text = "goes on as it was, since the new backend does not start: %s"
                        new.shared.log(logging.ERROR, text, new.shared.trouble)
                    await new.stop()
                    raise
                new.shared.on_trial = False
            self._hooks.tally.swaps += 1
            return self._replace(new, sessions)

    def _replace(self, new: Generation | None, sessions: str) -> Drain:
        """From here on `new` answers.  Nothing in here waits, so no call sees half of a swap."""
        assert self._tasks is not None
        old, self.now = self.now, new
        self.number += 1
        if sessions != "migrate":
            self._low = self.number
        if new is not None:
            new.serve(self._low, self.number)
            self._on_offer(new.shared)
            if self.per_session:
                # It was connected to learn the offer of the target; each session gets a backend of its own.
                self._tasks.start_soon(new.shared.stop)
        drain = Drain()
        if old is None:
            drain.over.set()
        else:
            if sessions != "drain":
                old.serve_no_session()
            self.draining.append(old)
            for replaced in self.draining[:-MAX_DRAINING]:
                replaced.serve_no_session()
                replaced.forsaken.set()
            self._tasks.start_soon(self._retire, old, sessions == "drain" and old.opened, drain)
        if new is not None:
            if old is not None:
                new.adopt(old, sessions == "migrate")
            self._on_change(new.shared)  # clients without a session are answered by the new backend already
        return drain

    async def _retire(self, old: Generation, wait: bool, drain: Drain) -> None:
        began = anyio.current_time()
        end = began + self._drain_time
        before = old.begun - old.running
        try:
            if wait:
                with anyio.move_on_after(self._drain_time):
                    await old.forsaken.wait()
                old.serve_no_session()
            drain.cut = await old.finish(max(0.0, end - anyio.current_time()))
            await old.stop()
            if old in self.draining:
                self.draining.remove(old)
        finally:
            drain.calls = old.begun - before
            drain.seconds = anyio.current_time() - began
            drain.over.set()

    def backend_changed(self, backend: Backend) -> None:
        """A backend has connected, or has lost its connection."""
        now = self.now
        if backend.client is None or now is None:
            return
        again = backend.connects > 1
        if backend is now.shared:
            self._on_offer(backend)
            if again:
                # A reconnect is a swap that keeps the sessions.
                self.number += 1
                now.number = self.number
            if self.per_session and self._tasks is not None:
                self._tasks.start_soon(backend.stop)  # as after a swap: the offer of the target is known now
        if again:
            self._on_change(backend)
