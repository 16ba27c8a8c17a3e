# SPDX-License-Identifier: MIT
"""The storage protocols, and stores that implement them in memory.

A `SessionManager` keeps small `SessionState` records that must outlive a process.  An `EventStore` keeps bytes under
(session, stream, index) so that a cut stream can be resumed.  A `OnceStore` remembers the rounds of calls that were
played.

Rule: a store never sees a message, and never makes an id.  It returns all events after the cursor, or raises
`EventsExpired` where one is missing: a replay with a gap is worse than none.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..protocol.errors import EventsExpired
from .fairness import Holdings, Shares

MAX_NONCES = 100_000  # rounds that are remembered in one process; about 250 bytes each
MAX_CLIENT_NONCES = MAX_NONCES * 4 // 5  # of one client, in a fleet; in one process the free places decide
MAX_STREAM_EVENTS = 256
MAX_SESSION_BYTES = 1024 * 1024
MAX_TOTAL_BYTES = 64 * 1024 * 1024
# A client's description of itself is kept as long as its session, and there may be 10,000 of those.  Some send icons.
MAX_CLIENT_SIZE = 64 * 1024  # bytes of its clientInfo and capabilities as JSON,
MAX_CLIENT_MEMORY = 128 * 1024  # and in memory, where ten bytes of JSON can be 240
MAX_SUBSCRIBED_SIZE = 256 * 1024  # characters of all the URIs of one subscriber
KEEP_FINISHED = 300.0  # seconds after a stream's end
# The cost of one kept event beside its own bytes, so that a million empty events are not free.
EVENT_OVERHEAD = 120
STREAM_OVERHEAD = 600


@dataclass
class SessionState:
    """The record of a session, without its running calls; times are seconds since the epoch.

    A store keeps it under its `id`, and gives back an equal one.  It need not know the members.
    """

    id: str
    revision: str = ""
    client_info: dict[str, Any] = field(default_factory=dict)
    client_capabilities: dict[str, Any] = field(default_factory=dict)
    log_level: str = "info"
    subscriptions: Set[str] = frozenset()  # replaced when it changes: most sessions share the empty one
    principal: str = ""
    peer: str = ""
    created: float = 0.0
    generation: int = 0  # of the handler, when it began; 0 where it has none
    home: str = ""  # the worker that opened it; empty where there is no fleet
    pinned: bool = False  # that worker alone runs its calls
    stream: str = ""  # the id of its own stream, where workers share it
    former: str = ""  # the id that it had before the store lost its data


class SessionManager(Protocol):
    """Where session records live.  Every method may suspend; none raises for an id it does not know."""

    async def create(self, state: SessionState) -> None:
        """Keep a new record, `state`, under its id."""

    async def load(self, session_id: str) -> SessionState | None:
        """The record of `session_id`, or None where there is none or it has expired."""

    async def save(self, state: SessionState) -> None:
        """Keep a changed record: `state` replaces the one of its id."""

    async def delete(self, session_id: str) -> None:
        """Forget the record of `session_id`."""

    async def touch(self, session_id: str) -> None:
        """The session `session_id` is in use: begin its idle time anew."""


class EventStore(Protocol):
    """Where the events of streams live until no client can ask for them any more."""

    async def append(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        """Keep one event, `data`, of the stream `stream_id` of `session_id`.  Its `index` rises by one from 1."""

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        """The kept events of the stream `stream_id` of `session_id` with an index greater than `after`, in order.

        Raises EventsExpired where the first of them is no longer there, or the stream is not known.
        """

    async def finish(self, session_id: str, stream_id: str) -> None:
        """The stream `stream_id` of `session_id` has its last event: it may be dropped after a while."""

    async def discard(self, session_id: str, stream_id: str | None = None) -> None:
        """Forget the stream `stream_id` of `session_id`, or all of the session where it is None."""


class MemorySessionManager:
    """A `SessionManager` with its records in a dict: they end with the process, and expire when the server says so."""

    def __init__(self) -> None:
        self._states: dict[str, SessionState] = {}

    def __len__(self) -> int:
        return len(self._states)

    async def create(self, state: SessionState) -> None:
        self._states[state.id] = state

    async def load(self, session_id: str) -> SessionState | None:
        return self._states.get(session_id)

    async def save(self, state: SessionState) -> None:
        self._states[state.id] = state

    async def delete(self, session_id: str) -> None:
        self._states.pop(session_id, None)

    async def touch(self, session_id: str) -> None:
        pass


class _Log:
    """The kept tail of one stream: `events` hold the indexes first, first + 1, ..."""

    __slots__ = ("events", "first", "size")

    def __init__(self) -> None:
        self.events: deque[bytes] = deque()
        self.first = 1
        self.size = STREAM_OVERHEAD


class MemoryEventStore:
    """An `EventStore` in memory, bounded per stream, per session and in all.

    When a session has too many bytes, its oldest events go first.  When all sessions together have too many, the oldest
    stream of the client that holds most goes first.

    Args:
        max_stream_events: Events that are kept of one stream.
        max_session_bytes: Bytes that are kept of one session.
        max_total_bytes: Bytes that are kept of all sessions.
        keep_finished: Seconds that a stream is kept after its last event.
        clock: Returns seconds, and must never go back.
    """

    def __init__(
        self,
        *,
        max_stream_events: int = MAX_STREAM_EVENTS,
        max_session_bytes: int = MAX_SESSION_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        keep_finished: float = KEEP_FINISHED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_events = max_stream_events
        self._max_session = max_session_bytes
        self._max_total = max_total_bytes
        self._keep = keep_finished
        self._clock = clock
        self._sessions: dict[str, OrderedDict[str, _Log]] = {}
        self._sizes: dict[str, int] = {}
        self._age: dict[str, OrderedDict[tuple[str, str], None]] = {}  # by party: streams, oldest first
        self._parties: dict[str, str] = {}  # by session; a session that is not here is a party of its own
        self._held = Holdings()
        self._ended: OrderedDict[tuple[str, str], float] = OrderedDict()  # when finished streams go, soonest first
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """Bytes kept now, overhead included."""
        return self._total

    def belongs(self, session_id: str, party: str) -> None:
        """A session of the client `party` begins: until `session_id` is discarded, its events count for that client."""
        self._parties[session_id] = party

    async def append(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        self.keep(session_id, stream_id, index, data)

    def keep(self, session_id: str, stream_id: str, index: int, data: bytes) -> None:
        """`append` at once: keep `data` as the event `index` of the stream `stream_id` of `session_id`."""
        logs = self._sessions.get(session_id)
        if logs is None:
            logs = self._sessions[session_id] = OrderedDict()
            self._sizes[session_id] = 0
        log = logs.get(stream_id)
        if log is None:
            log = logs[stream_id] = _Log()
            log.first = index
            self._age.setdefault(self._party(session_id), OrderedDict())[(session_id, stream_id)] = None
            self._grow(session_id, STREAM_OVERHEAD)
        cost = len(data) + EVENT_OVERHEAD
        events = log.events
        events.append(data)
        log.size += cost
        size = self._sizes[session_id] = self._sizes[session_id] + cost  # as `_grow`
        self._total += cost
        self._held.add(self._parties.get(session_id, session_id), cost)
        if len(events) > self._max_events:
            self._shrink(session_id, log)
        if size > self._max_session:
            self._evict_from_session(session_id, logs)
        if self._total > self._max_total:
            self._evict()

    async def replay(self, session_id: str, stream_id: str, after: int) -> list[tuple[int, bytes]]:
        self._expire()
        logs = self._sessions.get(session_id)
        log = logs.get(stream_id) if logs is not None else None
        if log is None or after + 1 < log.first:
            raise EventsExpired(stream_id)
        skip = after + 1 - log.first
        return [(log.first + n, data) for n, data in enumerate(log.events) if n >= skip]

    async def finish(self, session_id: str, stream_id: str) -> None:
        logs = self._sessions.get(session_id)
        log = logs.get(stream_id) if logs is not None else None
        if log is not None:
            self._ended.setdefault((session_id, stream_id), self._clock() + self._keep)
        self._expire()

    async def discard(self, session_id: str, stream_id: str | None = None) -> None:
        logs = self._sessions.get(session_id)
        if logs is not None:
            for name in [stream_id] if stream_id is not None else list(logs):
                self._drop(session_id, name)
        if stream_id is None:
            self._parties.pop(session_id, None)

    def _party(self, session_id: str) -> str:
        return self._parties.get(session_id, session_id)

    def _grow(self, session_id: str, size: int) -> None:
        self._sizes[session_id] += size
        self._total += size
        self._held.add(self._party(session_id), size)

    def _shrink(self, session_id: str, log: _Log) -> None:
        # The oldest event of one stream goes; its successor is the first that can still be replayed.
        cost = len(log.events.popleft()) + EVENT_OVERHEAD
        log.first += 1
        log.size -= cost
        self._grow(session_id, -cost)

    def _evict_from_session(self, session_id: str, logs: OrderedDict[str, _Log]) -> None:
        # Whole old streams first (most are finished), then the head of the newest one.
        while self._sizes[session_id] > self._max_session and len(logs) > 1:
            self._drop(session_id, next(iter(logs)))
        log = next(iter(logs.values()))
        while self._sizes[session_id] > self._max_session and len(log.events) > 1:
            self._shrink(session_id, log)

    def _evict(self) -> None:
        while self._total > self._max_total:
            party = self._held.heaviest()
            assert party is not None, "it holds something"
            if len(self._age) == 1 and len(self._age[party]) == 1:
                return
            self._drop(*next(iter(self._age[party])))

    def _expire(self) -> None:
        now = self._clock()
        while self._ended:
            key, deadline = next(iter(self._ended.items()))
            if deadline > now:
                return
            self._drop(*key)

    def _drop(self, session_id: str, stream_id: str) -> None:
        logs = self._sessions.get(session_id)
        log = logs.pop(stream_id, None) if logs is not None else None
        if logs is None or log is None:
            return
        party = self._party(session_id)
        age = self._age[party]
        del age[(session_id, stream_id)]
        if not age:
            del self._age[party]
        self._ended.pop((session_id, stream_id), None)
        self._grow(session_id, -log.size)
        if not logs:
            del self._sessions[session_id]
            del self._sizes[session_id]
        if not self._sessions:  # a table keeps the room of its busiest hour until it is cleared
            for table in (self._sessions, self._sizes, self._age, self._ended):
                table.clear()


class OnceStore(Protocol):
    """Remembers the rounds of calls that were played, so that none is played twice.

    A fleet that shares `state_keys` needs a shared store.
    """

    async def claim(self, nonce: str, until: float, now: float, party: str) -> bool:
        """Claim a nonce; False where it was claimed before.  `until` and `now` are seconds since the epoch.

        The nonce is remembered until `until`, and counts for the client `party`.  Raises StoreFull where the store has
        no room for another nonce of this client: to forget one would let its round be played again.
        """
        ...


class StoreFull(Exception):
    """The store remembers as many nonces as its limit, or the share of this client, allows."""


class MemoryOnceStore:
    """Nonces of one process, at most `limit`, each until its state has expired."""

    def __init__(self, limit: int = MAX_NONCES) -> None:
        self._places = Shares(limit)
        self._claimed: dict[str, tuple[float, str]] = {}  # until when, and for whom; nearly in order of the time

    def __len__(self) -> int:
        return len(self._claimed)

    async def claim(self, nonce: str, until: float, now: float, party: str) -> bool:
        while self._claimed:
            oldest, (end, owner) = next(iter(self._claimed.items()))
            if end >= now:
                break
            del self._claimed[oldest]
            self._places.give_back(owner)
        if nonce in self._claimed:
            return False
        if not self._places.take(party):
            raise StoreFull
        self._claimed[nonce] = until, party
        return True
