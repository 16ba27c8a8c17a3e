# SPDX-License-Identifier: MIT
"""The backends of one target, from their start until the last call on them has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from ..protocol.errors import overloaded
from ..runtime.fairness import Shares
from .backends import IDLE_TIME, MAX_BACKENDS, STOP_TIME, Backend, BackendHooks, BackendSpec
from .calls import BridgedCall, ParkedCall, asker
from .interests import Interests

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..eras.session import Session


class Generation:
    """The backends of one spec, from when it is in use until what runs on it has ended.

    It serves the sessions that began under the numbers from `low` to `number`.
    """

    def __init__(
        self,
        spec: BackendSpec,
        hooks: BackendHooks,
        interests: Interests,
        tasks: TaskGroup,
        *,
        per_session: bool,
        capabilities: Mapping[str, Any],
        identity: tuple[str, str],
    ) -> None:
        self.spec = spec
        self.low = self.number = 0
        self.opened = False  # a session began under it
        self.forsaken = asyncio.Event()  # it was replaced, and no session of it is served any more
        self.per_session = per_session
        self.own: dict[Hashable, Backend] = {}
        self.running = 0
        self._places = Shares(MAX_BACKENDS)
        self.forwarded: ContextVar[Mapping[str, str]] = ContextVar("forwarded")
        self._hooks = hooks
        self._interests = interests
        self._tasks = tasks
        self._capabilities = capabilities
        self._identity = identity
        self._idle = asyncio.Event()
        self._runs: set[BridgedCall] = set()
        self.shared = self._backend(interests, capabilities, identity)

    def _backend(self, interests: Interests, capabilities: Mapping[str, Any], identity: tuple[str, str]) -> Backend:
        name, version = identity
        backend = Backend(self.spec, self._hooks, interests, name=name, version=version, capabilities=capabilities,
                          forwarded=self.forwarded)  # fmt: skip
        backend.generation = self
        return backend

    def start(self) -> None:
        """Begins to connect.  With a backend for each session this one only shows what they are like."""
        self._tasks.start_soon(self.shared.run)

    @property
    def backends(self) -> list[Backend]:
        """All of them."""
        return [self.shared, *self.own.values()]

    def covers(self, number: int) -> bool:
        """Whether sessions that began under this number are served here."""
        return self.low <= number <= self.number

    def backend(
        self,
        owner: Hashable,
        session: Session | None,
        info: Mapping[str, Any],
        capabilities: Mapping[str, Any],
        *,
        alone: bool,
        party: str,
    ) -> Backend:
        """The backend for this owner, who is one client where it is `alone`; a new one counts for the party.

        Raises a Refusal, 503, where there would be too many.
        """
        if not self.per_session:
            return self.shared
        backend = self.own.get(owner)
        if backend is None:
            identity = (str(info.get("name") or self._identity[0])[:200], str(info.get("version") or "0")[:200])
            if not self._places.may(party):
                raise overloaded("Too many backends")
            backend = self._backend(Interests(), capabilities, identity)
            backend.alone, backend.party = alone, party
            self._begin(owner, backend)
        if session is not None:
            backend.session = session
        backend.used = time.monotonic()
        return backend

    def _begin(self, owner: Hashable, backend: Backend) -> Backend:
        self._places.add(backend.party)
        backend.owner = owner
        self.own[owner] = backend
        self._tasks.start_soon(backend.run)
        return backend

    def adopt(self, old: Generation, sessions: bool) -> None:
        """What was wanted of a backend is wanted of the one in its place: of those without sessions in any case."""
        for owner, backend in old.own.items():
            if (backend.interests.levels or backend.interests.uris) and (sessions or backend.session is None):
                mine = self._backend(backend.interests, *backend.identity)
                mine.session, mine.alone, mine.party = backend.session, backend.alone, backend.party
                mine.connects = 1  # what it offers may be something else
                self._begin(owner, mine)

    @contextmanager
    def run(self, backend: Backend, call: BridgedCall) -> Iterator[None]:
        """Around everything that a call does here."""
        self.running += 1
        self._runs.add(call)
        backend.runs[call] = None
        try:
            yield
        finally:
            del backend.runs[call]
            call.end(asker(run for run in backend.runs if run.owner == call.owner) if backend.runs else None)
            backend.used = time.monotonic()
            self._runs.discard(call)
            self.running -= 1
            if not self.running:
                self._idle.set()

    def sweep(self) -> None:
        """Ends the backends of sessions that are no more, and of those that nobody used for long."""
        now = time.monotonic()
        for backend in self.backends:
            backend.look()
        for owner, backend in list(self.own.items()):
            gone = backend.session is not None and backend.session.closed
            idle = backend.session is None and not backend.interests.uris and now - backend.used > IDLE_TIME
            if not backend.runs and (gone or idle):
                del self.own[owner]
                self._places.give_back(backend.party)
                self._tasks.start_soon(backend.stop)

    async def finish(self, limit: float) -> None:
        """Until nothing runs; what still does then is ended, and its client told so."""
        with anyio.move_on_after(limit):
            while self.running:
                self._idle.clear()
                await self._idle.wait()
        for call in list(self._runs):
            call.scope.cancel()
            if isinstance(call, ParkedCall):
                call.cancel()

    async def stop(self) -> None:
        """Ends every backend, all at once."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_TIME):
            async with anyio.create_task_group() as tasks:
                for backend in self.backends:
                    tasks.start_soon(backend.stop)
        self.own.clear()
