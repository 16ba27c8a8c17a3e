# SPDX-License-Identifier: MIT
"""The stores of the sessions of one server: the manager that shares sessions between processes, and the event store.

Every call of a store that a user may have written goes through here, so that its failure is logged, shown by the
readiness page, and never ends the server.

Rule: a store that fails is no reason to say that a session is gone.  The client would throw the session away.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

from ..protocol.errors import overloaded
from ..protocol.revisions import ASSUMED, LEGACY
from ..protocol.shown import escaping
from ..runtime.runtime import Runtime
from ..runtime.storage import EventStore, MemoryEventStore, MemorySessionManager, SessionManager, SessionState
from .session_table import SessionTable
from .streams import StreamSession

logger = escaping(logging.getLogger(__name__))

TOUCH_EVERY = 30.0  # seconds; sooner where sessions expire sooner
PROBE_EVERY = 1.0  # seconds between two looks at whether a store that failed is back
NOBODY = "probe"  # no session has so short an id


class SessionStores:
    """The session manager and the event store of one server.

    Attributes:
        shared: the manager is the user's own: it may know sessions that other processes opened.
        events: the event store; None where streams cannot be resumed.
        used: the ids of the sessions that were used since the manager was last told; None where it is not told.
        local_only: a session that ends here for want of room or of use may be in use on another worker.
    """

    local_only = False

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self.runtime = runtime
        # Not `or`: an empty store is falsy if it has a length.
        given = settings.session_manager
        self.manager: SessionManager = MemorySessionManager() if given is None else given
        self.shared = given is not None
        self.events: EventStore | None = None
        if settings.replay and not settings.stateless:
            self.events = MemoryEventStore() if settings.event_store is None else settings.event_store
        # A shared manager expires sessions by itself.  It is told which sessions were used, but not at every request.
        self.used: set[str] | None = set() if self.shared else None
        self._touch_every = min(TOUCH_EVERY, (settings.session_idle or math.inf) / 4)
        self._touch_at = 0.0
        self._probe_at = 0.0

    def attach(self, table: SessionTable) -> None:
        """The table of the sessions that are at hand."""
        self._table = table

    @property
    def has_room(self) -> bool:
        """Whether one more session could be opened, as far as this worker knows without a look at its stores."""
        return self._table.has_room

    def new_session(self, state: SessionState) -> StreamSession:
        """A session that is about to be initialized."""
        return StreamSession(self.runtime, state, ASSUMED, self.events)

    async def create(self, session: StreamSession) -> None:
        """Keep a new session.  Raises `overloaded` where the manager fails."""
        try:
            await self.manager.create(session.state)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed")
            raise overloaded("The session store is away") from None

    async def restore(self, session_id: str, principal: str, peer: str) -> StreamSession | None:
        """A session that another process, or an earlier one, opened.  Raises `overloaded` where the manager fails.

        A fleet finds it only for its own principal, and gives it the identity of the request.
        """
        try:
            state = await self.manager.load(session_id)
            if state is None:
                return None
            return StreamSession(self.runtime, state, LEGACY.get(state.revision, ASSUMED), self.events)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed")
            raise overloaded("The session store is away") from None

    async def save(self, session: StreamSession) -> None:
        """Keep the changed state of a session."""
        try:
            await self.manager.save(session.state)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed; session %s is not saved", session.id[:8])

    async def end(self, session_id: str) -> None:
        """Drop a session on every worker of a fleet.  Raises `overloaded` where the store is away."""

    async def tell_if_ended(self, session_id: str) -> None:
        """Tell the other workers of a fleet that a session has ended, if its record is gone."""

    def forget(self, session_id: str) -> None:
        """Drop a session that has ended, in a task of its own."""
        self.runtime.spawn(self._forget(session_id))

    async def _forget(self, session_id: str) -> None:
        try:
            if self.shared:
                await self.manager.delete(session_id)
            if self.events is not None:
                await self.events.discard(session_id)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the store failed; session %s is gone all the same", session_id[:8])

    def sweep(self, now: float, busy: Callable[[], Iterable[str]]) -> None:
        """Tell a shared manager which sessions were used or are busy, and look whether a store that failed is back."""
        if self.used is not None and now >= self._touch_at:
            self._touch_at = now + self._touch_every
            self.runtime.spawn(self._touch([*busy(), *self.used]))
            self.used.clear()
        if self.runtime.store_away and now >= self._probe_at:
            self._probe_at = now + PROBE_EVERY
            self.runtime.spawn(self._probe())

    async def _touch(self, session_ids: list[str]) -> None:
        try:
            for session_id in session_ids:
                await self.manager.touch(session_id)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed")

    async def _probe(self) -> None:
        # A load balancer may send no requests here while the store is away.  Then only this probe notices its return.
        try:
            if self.shared:
                await self.manager.load(NOBODY)
            if self.events is not None:
                await self.events.discard(NOBODY)
        except Exception as exc:
            logger.debug("the store is still away: %s", exc)
        else:
            self.runtime.store_away = False
