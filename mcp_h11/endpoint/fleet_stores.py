# SPDX-License-Identifier: MIT
"""The sessions of a fleet in its store: their records, how they are counted, and when they end.

`fleet_records` makes and reads a record.  Each has a version, and a worker saves it only where it has the version that
the worker read; otherwise it reads again and makes its own change anew.

Rules:
- A call of a session that is at hand asks the store nothing.
- A record names no principal: it has a keyed hash.  A restored session takes the identity of the request that names it.
- A record that cannot be read is a session that is gone: 404, and one line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..protocol.errors import MCPError, overloaded
from ..protocol.methods import log_rank
from ..protocol.revisions import ASSUMED, LEGACY
from ..protocol.shown import escaping
from ..runtime.fleet import COUNT_EVERY, Fleet, key_of
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import SessionState
from ..stores.base import Full, Record, StoreError
from .fleet_links import FleetLinks, Loading
from .fleet_logs import LoggedStream
from .fleet_notices import RecentNotices
from .fleet_pinned import PinnedSession
from .fleet_records import encoded_record, state_in_record
from .fleet_session import FleetSession, YoungFleetSession
from .fleet_streams import LEFT
from .fleet_times import session_times
from .fleet_values import RECORDS, VALUES
from .session_stores import SessionStores
from .session_table import SessionTable
from .streams import STREAM_ID_BYTES, StreamSession

logger = escaping(logging.getLogger(__name__))

MAX_EVICTIONS = 3  # sessions that one newcomer may end, where others take the room first
MAX_SAVES = 20  # tries of one change, each of them lost to another worker's change


class FleetStores(SessionStores):
    """As `SessionStores`, in the store of a fleet."""

    def __init__(self, runtime: Runtime, fleet: Fleet) -> None:
        SessionStores.__init__(self, runtime)
        self.fleet = fleet
        self.records = fleet.records
        self.shared = True
        self.local_only = True
        self.events = None  # a `FleetSession` keeps its events in the logs
        self.used = set()
        self._times = session_times(runtime.settings)
        self._touch_every = self._times.touch_every
        self._unsaved: dict[FleetSession, None] = {}
        self._recent = RecentNotices(runtime)
        self._fleet_has_room = True  # when the sessions were last counted, or one was opened or refused
        self._count_at = 0.0
        fleet.on_back.append(self._on_back)
        fleet.on_lost.append(self._on_lost)

    # --- records ---------------------------------------------------------------------------------------------

    def _encode(self, session: FleetSession, stream: str = "") -> bytes:
        return encoded_record(session, self.fleet.hashed(session.state.principal), stream)

    def _decode(self, session_id: str, record: Record) -> tuple[SessionState, bool] | None:
        """The state in a record, and whether the client is initialized; None where it cannot be read.

        The log tells of such a record once.
        """
        try:
            return state_in_record(session_id, record.value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MCPError) as exc:
            # Left as it is: a worker of a newer version may know what to do with it.
            self.fleet.log_once(f"the record of session {session_id[:8]} cannot be read: {exc}")
            return None

    def attach(self, table: SessionTable) -> None:
        SessionStores.attach(self, table)
        self.links = FleetLinks(self.runtime, self.fleet, table, self.reload)

    def new_session(self, state: SessionState) -> StreamSession:
        state.home, state.pinned = self.fleet.worker, self.runtime.handler.keeps_sessions
        state.stream = new_id(STREAM_ID_BYTES)
        session = YoungFleetSession(self.runtime, self.fleet, state, ASSUMED)
        session.recent = self._recent
        return session

    async def create(self, session: StreamSession) -> None:
        assert isinstance(session, FleetSession)
        try:
            await self._create(session)
        except StoreError as exc:
            logger.warning("no new session: %s", exc)
            raise overloaded("The session store is away") from None

    async def _create(self, session: FleetSession) -> None:
        settings, state = self.runtime.settings, session.state
        await self.fleet.be_sure_of_keys()
        value, party, mark = self._encode(session), self.fleet.hashed(session.party), self.fleet.keys.mark
        for _ in range(MAX_EVICTIONS + 1):
            try:
                version = await self.records.create(
                    RECORDS, session.key, value, self._times.first,
                    group=party, limit=settings.max_sessions, group_limit=settings.max_sessions_peer,
                )  # fmt: skip
            except Full as exc:
                self._fleet_has_room = exc.group
                await self._make_room(party if exc.group else None)
                continue
            assert version is not None, "the id is new"
            if mark != self.fleet.keys.mark:
                raise StoreError("the store has lost its data meanwhile, perhaps with this record")
            self._fleet_has_room = True
            session.version = version
            session.saved = (frozenset(), state.log_level)
            return
        raise overloaded("Too many sessions")

    async def _idle_longest(self, party: str | None = None) -> str | None:
        """The session that no worker has used for longest; None where every one is in use."""
        # A worker may have used it since it told the store of a use.
        return await self.records.oldest(RECORDS, party, 2 * self._touch_every)

    async def _make_room(self, party: str | None) -> None:
        """End the session that no worker has used for longest.  Raises `overloaded` where every one is in use."""
        oldest = await self._idle_longest(party)
        if oldest is None:
            raise overloaded("Too many sessions" if party is None else "Too many sessions from this address")
        await self._end_everywhere(oldest)

    async def restore(self, session_id: str, principal: str, peer: str) -> StreamSession | None:
        try:
            record = await self._load(session_id)
            found = None if record is None else self._decode(session_id, record)
            if record is None or found is None or found[0].principal != self.fleet.hashed(principal):
                if await self.fleet.lost_data():
                    raise StoreError("the store has lost its data, and another worker may keep this session anew")
                return None
        except StoreError as exc:
            # Not 404: the session may well be there, and the client would throw it away.
            logger.warning("a session is not at hand: %s", exc)
            raise overloaded("The session store is away") from None
        state, initialized = found
        state.principal, state.peer = principal, peer
        session = self._session(state, initialized)
        session.version, session.initialized = record.version, initialized
        session.saved = (frozenset(state.subscriptions), state.log_level)
        if not session.weigh(state.subscriptions):
            raise overloaded("Too much is kept of this client")
        return session

    def _session(self, state: SessionState, initialized: bool) -> FleetSession:
        revision = LEGACY.get(state.revision, ASSUMED)
        if state.pinned and state.home != self.fleet.worker:
            return PinnedSession(self.runtime, self.fleet, state, revision, self._end_here)
        # Generations are numbered by each worker.
        state.generation = self.runtime.handler.generation
        kind = FleetSession if initialized else YoungFleetSession
        session = kind(self.runtime, self.fleet, state, revision)
        session.recent = self._recent
        return session

    def _end_here(self, session_id: str) -> None:
        """End a session everywhere: the worker that owned it is dead."""
        session = self._table.sessions.get(session_id)
        if session is not None:
            self._table.end(session)

    async def _load(self, session_id: str) -> Record | None:
        """The record as it is now.

        A change or the end of a session that is not at hand yet is told in vain: then the record is loaded again.
        """
        key = key_of(session_id)
        for _ in range(MAX_SAVES):
            load = Loading(key)
            self.links.loading.add(load)
            try:
                record = await self.records.load(RECORDS, key)
            finally:
                self.links.loading.discard(load)
            if not load.stale:
                return record
        raise StoreError("other workers changed the record each time")

    async def save(self, session: StreamSession) -> None:
        assert isinstance(session, FleetSession)
        if session.initialized:
            self._table.uninitialized.pop(session.id, None)
        try:
            await self._save(session)
        except StoreError as exc:
            logger.warning("a change of session %s is not saved yet: %s", session.id[:8], exc)
            self._unsaved[session] = None

    async def _save(self, session: FleetSession) -> None:
        for _ in range(MAX_SAVES):
            if not session.version:
                await self._keep_anew(session)
            own, mark = (frozenset(session.state.subscriptions), session.state.log_level), self.fleet.keys.mark
            version = await self.records.save(
                RECORDS, session.key, self._encode(session), session.version, self._times.session
            )
            if mark != self.fleet.keys.mark:
                continue  # a late answer, of before the loss
            if version is not None:
                known, session.version, session.saved = session.saved, version, own
                if own == known:
                    self.fleet.signal("record", session=session.key)
                else:
                    # The client may go on at any worker as soon as it has its answer.
                    await self.fleet.tell("record", session=session.key)
                return
            if not await self.reload(session):
                return
        raise StoreError("other workers changed the record each time")

    async def reload(self, session: FleetSession) -> bool:
        """Take over the changes of other workers, and keep those of this one that are not saved; False: it has ended.

        Raises StoreError.
        """
        version = -1
        while version != session.version:  # else this worker has kept it anew meanwhile
            version, mark = session.version, self.fleet.keys.mark
            record = await self.records.load(RECORDS, session.key)
            found = None if record is None else self._decode(session.id, record)
            if record is None or (found is not None and found[0].stream != session.state.stream):
                await self.fleet.lost_data()
            elif record.version < version == session.version:
                await self.fleet.lost_data(mark)  # the store was set back to an earlier time
        if found is not None and found[0].stream != session.state.stream:
            session.version = 0  # it came here while the loss was noticed
        if not session.version:
            await self._keep_anew(session)
            return not session.closed
        if record is None or found is None:
            return False
        state, initialized = found
        if initialized:
            session.initialized = True
            self._table.uninitialized.pop(session.id, None)
        if record.version <= session.version:
            return True  # loaded before another load or save that is done already
        mine, (base, level) = session.state, session.saved
        added, removed = frozenset(mine.subscriptions) - base, base - frozenset(mine.subscriptions)
        session.version = record.version
        session.saved = (frozenset(state.subscriptions), state.log_level)
        mine.subscriptions = (frozenset(state.subscriptions) | added) - removed
        mine.log_level = state.log_level if mine.log_level == level else mine.log_level
        session.log_rank = log_rank(mine.log_level)
        session.weigh(mine.subscriptions)
        return True

    # --- the store has lost its data -------------------------------------------------------------------------

    def _on_lost(self) -> None:
        for session in self._table.sessions.values():
            if isinstance(session, FleetSession):
                session.lost_version, session.version = max(session.version, session.lost_version), 0
                for stream in session.streams.values():
                    if isinstance(stream, LoggedStream):
                        stream.lose_data()

    async def _keep_anew(self, session: FleetSession) -> None:
        """Make the record of a session at hand again, or join this worker's state with the record of another worker.

        Raises StoreError.
        """
        mark = None
        while not session.version and not session.closed and mark != self.fleet.keys.mark:
            # An answer that comes after the next loss says nothing of what the store has: then once more.
            mark = self.fleet.keys.mark
            await self._keep_once(session, mark)
        if session.ending:
            await self._end_everywhere(session.key)  # a request may have found the record, and taken it for alive

    async def _keep_once(self, session: FleetSession, mark: str) -> None:
        settings, state = self.runtime.settings, session.state
        own, stream = (frozenset(state.subscriptions), state.log_level), new_id(STREAM_ID_BYTES)
        ttl = self._times.session if session.initialized else self._times.first
        try:
            version = await self.records.create(
                RECORDS, session.key, self._encode(session, stream), ttl,
                group=self.fleet.hashed(session.party), limit=settings.max_sessions,
                group_limit=settings.max_sessions_peer,
            )  # fmt: skip
        except Full:
            logger.warning("session %s ends: newer ones took its room in the store", session.id[:8])
            if not session.closed:
                self._table.end(session, forget=False)
            return
        if version is None:
            await self._join(session, mark)
        elif mark == self.fleet.keys.mark:
            session.version, session.saved = version, own
            self._move(session, stream, state.stream)
            self.fleet.signal("record", session=session.key)

    async def _join(self, session: FleetSession, mark: str) -> None:
        """Add this worker's state of a session to the record that another worker has kept anew."""
        record = await self.records.load(RECORDS, session.key)
        if mark != self.fleet.keys.mark:
            return
        found = None if record is None else self._decode(session.id, record)
        if record is None or found is None:
            self.fleet.guard.doubt()  # so that it is tried again
            raise StoreError("the record of the session is gone as soon as it was made")
        mine, (state, initialized) = session.state, found
        if record.version > session.lost_version:  # else it is of an earlier time, to which the store was set back
            if mine.log_level == session.saved[1]:
                mine.log_level = state.log_level
                session.log_rank = log_rank(mine.log_level)
            # Either worker may have missed the last change.  One notice too many is better than none.
            mine.subscriptions = frozenset(mine.subscriptions) | frozenset(state.subscriptions)
        session.weigh(mine.subscriptions)
        session.version, session.saved = record.version, (frozenset(state.subscriptions), state.log_level)
        self._move(session, state.stream, state.former)
        kept = (state.principal, *session.saved, initialized)
        session.initialized = session.initialized or initialized
        own = (self.fleet.hashed(mine.principal), mine.subscriptions, mine.log_level, session.initialized)
        if own != kept:
            await self._save(session)

    def _move(self, session: FleetSession, stream_id: str, former: str) -> None:
        """The session's own stream has this id from now on."""
        session.state.stream, session.state.former = stream_id, former
        own = session.own_stream
        if own is not None and own.id != stream_id:
            own.lose_data()  # once more, because a request may have begun it meanwhile
            self.runtime.spawn(own.save())

    # --- the end ---------------------------------------------------------------------------------------------

    async def _forget(self, session_id: str) -> None:
        try:
            await self._end(key_of(session_id))
        except StoreError as exc:
            logger.warning("session %s is left to its time: %s", session_id[:8], exc)
            self.fleet.be_unsure()

    async def end(self, session_id: str) -> None:
        session = self._table.sessions.get(session_id)
        try:
            if isinstance(session, FleetSession):
                session.ending = True
            await self._end(key_of(session_id))
        except StoreError as exc:
            if isinstance(session, FleetSession):
                session.ending = False
            logger.warning("session %s is not deleted: %s", session_id[:8], exc)
            self.fleet.be_unsure()
            raise overloaded("The session store is away") from None

    async def tell_if_ended(self, session_id: str) -> None:
        try:
            key = key_of(session_id)
            if await self.records.load(RECORDS, key) is None and not await self.fleet.lost_data():
                self.fleet.signal("ended", session=key)
        except StoreError as exc:
            logger.debug("the client is not answered either, and will ask again: %s", exc)

    async def _end_everywhere(self, key: str) -> None:
        await self._end(key)
        here = self._table.by_key.get(key)
        if here is not None:
            self._table.end(here, forget=False)

    async def _end(self, key: str) -> None:
        """Drop everything of a session, and tell the other workers."""
        found = await self.records.delete(RECORDS, key)
        self.links.spoil(key)
        await self.fleet.tell("ended", session=key)
        if not found and await self.fleet.lost_data():
            await self.records.delete(RECORDS, key)  # another worker may have kept it anew meanwhile
        try:
            await self.fleet.logs.discard(key)
            for space in (LEFT, VALUES):
                await self.records.delete(space, key)
        except StoreError as exc:
            logger.warning("events of a session are left to their time: %s", exc)

    # --- the clock -------------------------------------------------------------------------------------------

    def sweep(self, now: float, busy: Callable[[], Iterable[str]]) -> None:
        assert self.used is not None, "it is made above"
        self.runtime.store_away = not self.fleet.works  # also after an error that the store is not to blame for
        # A server that is full may be sent no client, so nothing else would notice that it has room again.
        if (self.fleet.counts or not self._fleet_has_room) and now >= self._count_at:
            self._count_at = now + COUNT_EVERY
            self.runtime.spawn(self._count())
        if now >= self._touch_at:
            self._touch_at = now + self._touch_every
            names = [*{*busy(), *self.used}]
            self.used.clear()
            if names:
                self.runtime.spawn(self._touch(names))

    @property
    def has_room(self) -> bool:
        return self._fleet_has_room and self._table.has_room

    async def _count(self) -> None:
        """Count the sessions of the fleet, for the pages of operators, which do not wait for the store."""
        limit = self.runtime.settings.max_sessions
        try:
            self.fleet.sessions = count = await self.records.count(RECORDS)
            self._fleet_has_room = limit is None or count < limit or await self._idle_longest() is not None
        except StoreError as exc:
            logger.debug("the sessions of the fleet are not counted: %s", exc)

    async def _touch(self, session_ids: list[str]) -> None:
        logs = [name for session_id in session_ids for name in self._open_logs(session_id)]
        try:
            keys = [key_of(session_id) for session_id in session_ids]
            await self.records.touch(RECORDS, keys, self._times.session)
            await self.records.touch(VALUES, keys, self._times.session)
            if logs:
                await self.fleet.logs.touch(logs, self._times.log)
        except StoreError as exc:
            logger.warning("the store was not told which sessions are in use: %s", exc)
            if self.used is not None:
                self.used.update(session_ids)

    def _open_logs(self, session_id: str) -> list[tuple[str, str]]:
        session = self._table.sessions.get(session_id)
        if session is None:
            return []
        return [(session.key, one.id) for one in session.streams.values() if not one.finished]

    def _on_back(self) -> None:
        """The store is back: save what it missed."""
        unsaved = list(self._unsaved)
        self._unsaved.clear()
        for session in unsaved:
            if not session.closed:
                self.runtime.spawn(self.save(session))
        for one in self._table.sessions.values():
            if isinstance(one, FleetSession):
                for stream in list(one.unsaved_streams):
                    self.runtime.spawn(stream.save())
