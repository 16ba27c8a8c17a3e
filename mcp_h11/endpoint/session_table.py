# SPDX-License-Identifier: MIT
"""The table of the sessions of one server over Streamable HTTP: since when each is idle, and which one makes room.

`sessions` finds the session of a request here and opens new ones.  The table does not read a request, and knows of the
stores only that `forget` drops a session from them.

Rule: only an idle session expires.  Idle means that no call of it runs and no connection reads from it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from ..protocol.errors import overloaded
from ..runtime.fairness import Crowd
from ..runtime.runtime import Runtime
from .streams import StreamSession


class SessionTable:
    """The sessions by their ids, with the clocks that end them.

    Args:
        runtime: the server's clock, limits and metrics.
        forget: called with the id of a session that has ended; the stores drop the session then.
        used: collects the ids of the sessions that were used, where a shared manager is told of them; None elsewhere.
        local_only: a session that expires or makes room goes from this table alone, because it may be in use on
            another worker; the store ends it when none uses it.
    """

    def __init__(
        self, runtime: Runtime, forget: Callable[[str], None], used: set[str] | None, local_only: bool = False
    ) -> None:
        self.runtime = runtime
        self.settings = runtime.settings
        self.sessions: dict[str, StreamSession] = {}
        self.by_key: dict[str, StreamSession] = {}  # by the names that the workers of a fleet use
        self.idle: OrderedDict[str, float] = OrderedDict()  # idle sessions: since when; longest first
        self.uninitialized: OrderedDict[str, float] = OrderedDict()  # not yet initialized: since when
        self.peers = Crowd[StreamSession]()
        self._forget = forget
        self._used = used
        self._local_only = local_only
        # Methods that are bound once, or each session would have two of its own, 64 bytes each.
        self._on_idle, self._on_busy = self._became_idle, self._became_busy

    def add(self, session: StreamSession) -> None:
        """Take a new session in; it is idle."""
        self.sessions[session.id] = session
        if self._local_only:
            self.by_key[session.key] = session
        self.peers.add(session.party, session)
        session.on_idle, session.on_busy = self._on_idle, self._on_busy
        self._became_idle(session)

    # --- rest, expiry, end -----------------------------------------------------------------------------------

    def _became_idle(self, session: StreamSession) -> None:
        """Record that the session is idle from now on, also after work of less than one turn of the loop."""
        session_id = session.state.id
        self.idle[session_id] = self.runtime.loop.time()
        self.idle.move_to_end(session_id)
        if self._used is not None:
            self._used.add(session_id)

    def _became_busy(self, session: StreamSession) -> None:
        self.idle.pop(session.state.id, None)

    def touch(self, session: StreamSession) -> None:
        """A message that is no call came for the session: an idle session is idle since now."""
        if self.idle.pop(session.id, None) is not None:
            self._became_idle(session)

    def busy(self) -> Iterable[str]:
        """The ids of the sessions that are not idle."""
        return self.sessions.keys() - self.idle.keys()

    @property
    def has_room(self) -> bool:
        """Whether one more session could be opened, if need be by the end of an idle session."""
        limit = self.settings.max_sessions
        return limit is None or len(self.sessions) < limit or bool(self.idle)

    def make_room(self, party: str) -> None:
        """End a session if one more of this party needs its place.  Raises `overloaded` where none can end."""
        limit, peer_limit, peers = self.settings.max_sessions, self.settings.max_sessions_peer, self.peers
        if peer_limit is not None and peers.count(party) >= peer_limit and not self._evict(self._idle_of(party)):
            raise overloaded("Too many sessions from this address")
        if limit is None or len(self.sessions) < limit:
            return
        # A session of the client with the most sessions ends: an idle one, if it has one.  Where no client has more
        # sessions than the new client would have, the session that has been idle longest ends.
        others = list(peers.before(party))
        if self._evict(one for one in others if one.id in self.idle):
            return
        if self._evict(map(self.sessions.__getitem__, self.idle)):
            return
        if not self._evict(one for one in others if not one.calls):  # one that only listens
            raise overloaded("Too many sessions")

    def _idle_of(self, party: str) -> Iterator[StreamSession]:
        mine = set(self.peers.of(party))
        return (one for one in map(self.sessions.__getitem__, self.idle) if one in mine)

    def _evict(self, sessions: Iterator[StreamSession]) -> bool:
        """End the first, if there is one."""
        for session in sessions:
            self.end(session, forget=session.is_owned or not self._local_only)
            return True
        return False

    def expire(self, now: float, most: int) -> bool:
        """End the sessions that have been idle too long, and those that never finished their handshake.

        At most `most` of either; True where there are more.
        """
        more = self._expire(self.idle, self.settings.session_idle, now, most)
        return self._expire(self.uninitialized, self.settings.session_initialize, now, most) or more

    def _expire(self, table: OrderedDict[str, float], limit: float | None, now: float, most: int) -> bool:
        while limit is not None and table:
            session_id, since = next(iter(table.items()))
            if now - since < limit:
                return False
            if not most:
                return True
            most -= 1
            del table[session_id]
            session = self.sessions.get(session_id)
            # A busy session without `initialized` stays: some clients do not send that notification.
            if session is not None and not session.busy:
                self.end(session, forget=session.is_owned or not self._local_only)
        return False

    def end(self, session: StreamSession, *, forget: bool = True) -> None:
        """End one session: remove its entry first, then end its calls, then its streams, then empty the stores."""
        if self.sessions.pop(session.id, None) is None:
            return  # what it ends may end it too
        self.by_key.pop(session.key, None)
        self.idle.pop(session.id, None)
        self.uninitialized.pop(session.id, None)
        if self.runtime.metrics is not None:
            self.runtime.metrics.sessions.observe(max(0.0, self.runtime.now() - session.state.created))
        self.peers.remove(session.party, session)
        if not self.sessions:  # a dict keeps the memory of its largest size until it is cleared
            for table in (self.sessions, self.idle, self.uninitialized):
                table.clear()
        session.close()
        if forget:
            self._forget(session.id)
