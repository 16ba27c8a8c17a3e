# SPDX-License-Identifier: MIT
"""Streamable HTTP for sessions: POST, GET and DELETE of 2025-03-26 to 2025-11-25 (basic/transports).

`Legacy` is the table of sessions of one server.  Only a successful `initialize` opens a session.  The table finds a
session by its header, records since when it is at rest, and ends it.

Rules:
- 404 means only "this session is gone", because clients start a new session on 404.  Its body has no id, since a client
  would take an error with an id for an ordinary failure of that call.
- A request for another principal's session gets the same answer as a request for an unknown session.
- Only a session at rest expires.  At rest means that no call of it runs and no connection reads from it.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..eras.session import encode_notice
from ..handler.handler import ServerHandler
from ..handler.notices import Notice
from ..http.auth import subject
from ..http.headers import JSON_HEADERS, SESSION_HEADER
from ..http.reply import Reply
from ..http.sse import encode_event
from ..protocol.errors import (
    EventsExpired,
    InvalidRequest,
    MCPError,
    Refusal,
    overloaded,
    session_not_found,
    session_required,
)
from ..protocol.jsonrpc import Batch, ErrorResponse, Message, Notification, Request, Response
from ..protocol.methods import INITIALIZED
from ..protocol.revisions import ASSUMED, LEGACY, Revision
from ..protocol.shown import escaping
from ..runtime.fairness import Crowd
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import EventStore, MemoryEventStore, MemorySessionManager, SessionManager, SessionState
from .batches import BatchedCall, Gathering
from .calls import PostedCall
from .streams import StreamSession
from .verdicts import Verdict

logger = escaping(logging.getLogger(__name__))

SESSION_ID_BYTES = 32  # 256 bits from the operating system
TOUCH_EVERY = 30.0  # seconds; sooner where sessions expire sooner
PROBE_EVERY = 1.0  # seconds between two looks at whether a store that failed is back
NOBODY = "probe"  # no session has so short an id
ALLOW = ("Allow", "GET, POST, DELETE, OPTIONS")


class Legacy:
    """The sessions of one server."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self.runtime = runtime
        self.settings = settings
        # Not `or`: an empty store is falsy if it has a length.
        given = settings.session_manager
        self.manager: SessionManager = MemorySessionManager() if given is None else given
        self.shared = given is not None
        self.store: EventStore | None = None
        if settings.replay and not settings.stateless:
            self.store = MemoryEventStore() if settings.event_store is None else settings.event_store
        self.sessions: dict[str, StreamSession] = {}
        self.resting: OrderedDict[str, float] = OrderedDict()  # sessions at rest: since when; longest first
        self.fresh: OrderedDict[str, float] = OrderedDict()  # not yet initialized: since when
        self.peers = Crowd[StreamSession]()
        # A shared manager expires sessions by itself.  It is told which sessions were used, but not at every request.
        self._used: set[str] = set()
        self._touch_every = min(TOUCH_EVERY, (settings.session_idle or math.inf) / 4)
        self._touch_at = 0.0
        self._probe_at = 0.0
        # Asked at each request, but only where the handler has an answer of its own.
        overridden = type(runtime.handler).serves is not ServerHandler.serves
        self._serves = runtime.handler.serves if overridden else None
        runtime.on_notice.append(self.noticed)

    # --- POST ----------------------------------------------------------------------------------------------

    def serve(self, verdict: Verdict, message: Message | Batch, reply: Reply, principal: Any) -> None:
        """Answer one POST.  Raises a Refusal where it is refused."""
        revision: Revision = verdict.legacy_revision or _claimed(verdict)
        if type(message) is Request and message.method == "initialize":
            self._initialize(verdict, message, reply, principal)
            return
        if self.settings.stateless:
            self._take(self._fleeting(revision), message, reply, principal)
            return
        if verdict.session_id is None:
            raise self._without_session(message)
        session = self.sessions.get(verdict.session_id)
        if session is None and self.shared:
            take = partial(self._take_later, message=message, reply=reply, principal=principal, load=reply.load)
            self.runtime.spawn(self._restored(verdict.session_id, reply, principal, take))
            return
        self._take(self._check(session, principal), message, reply, principal)

    def _without_session(self, message: Message | Batch) -> MCPError:
        if type(message) is Request and message.method in ("server/discover", "subscriptions/listen"):
            # Only 2026-07-28 has these: name the missing member of `_meta`, and not a missing session.
            return Refusal(400, "Missing _meta: io.modelcontextprotocol/protocolVersion", code=-32602)
        if isinstance(message, list):
            return Refusal(400, "A batch needs a session")
        return session_required()

    def _check(self, session: StreamSession | None, principal: Any) -> StreamSession:
        who = "" if principal is None else subject(principal)
        if session is None or session.closed or session.state.principal != who:
            raise session_not_found()
        if self._serves is not None and not self._serves(session.state.generation):
            self._outdate(session)
            raise session_not_found()
        return session

    def _outdate(self, session: StreamSession) -> None:
        """End a session that was opened with backends which are gone.  Calls that run may finish first."""
        if session.has_standalone:
            session.standalone.take_over()
        if session.busy:
            session.on_rest = self.end
        else:
            self.end(session)

    def _take_later(
        self, session: StreamSession, message: Message | Batch, reply: Reply, principal: Any, load: object
    ) -> None:
        reply.load = load
        try:
            self._take(session, message, reply, principal)
        finally:
            reply.load = None

    def _take(self, session: StreamSession, message: Message | Batch, reply: Reply, principal: Any) -> None:
        if type(message) is Request:
            call = PostedCall(session, message, reply, principal)
            reply.on_gone = call.lost
            reply.on_silence = call.silent
            session.call(call)
        elif isinstance(message, list):
            self._take_batch(session, message, reply, principal)
        else:
            self._deliver(session, message, reply, principal)
            reply.answer(202, b"", ())

    def _deliver(self, session: StreamSession, message: Message, reply: Reply, principal: Any) -> None:
        """A notification, or an answer to a question of ours."""
        if isinstance(message, Notification):
            if message.method == INITIALIZED:
                self.fresh.pop(session.id, None)
            whose = None if session.id else PostClient(self.runtime, reply, principal)
            session.notified(message, whose, reply.load)
        else:
            assert isinstance(message, (Response, ErrorResponse))
            session.answered(message, reply.load)
        if self.resting.pop(session.id, None) is not None:
            self._rest(session)

    # --- batches (2025-03-26) --------------------------------------------------------------------------------

    def _take_batch(self, session: StreamSession, batch: Batch, reply: Reply, principal: Any) -> None:
        """2025-03-26 basic/index, Batching.  Later revisions removed it."""
        if not session.revision.batches:
            raise InvalidRequest(f"JSON-RPC batches are not part of {session.revision.name}")
        requests = [m for m in batch if isinstance(m, Request)]
        if any(m.method == "initialize" for m in requests):
            # 2025-03-26 basic/lifecycle: "The initialize request MUST NOT be part of a JSON-RPC batch".
            raise InvalidRequest("initialize cannot be part of a batch")
        wrong = [self.runtime.json.error(m.request_id, m) for m in batch if isinstance(m, InvalidRequest)]
        for message in batch:
            if isinstance(message, (Notification, Response, ErrorResponse)):
                self._deliver(session, message, reply, principal)
        if not requests and not wrong:
            reply.answer(202, b"", ())
            return
        gathering = Gathering(session, reply, len(requests), wrong)
        if not requests:
            self.runtime.spawn(gathering.finish())
        for message in requests:
            gathering.run(BatchedCall(session, message, reply, principal, gathering))

    # --- initialize ------------------------------------------------------------------------------------------

    def _initialize(self, verdict: Verdict, message: Request, reply: Reply, principal: Any) -> None:
        known = self.sessions.get(verdict.session_id or "")
        # A session of another principal counts as unknown: the handshake succeeds as it does beside any unknown id.
        if known is not None and known.state.principal == subject(principal):
            raise InvalidRequest("This session is already initialized", message.id)
        state = SessionState(
            id="" if self.settings.stateless else new_id(SESSION_ID_BYTES),
            principal=subject(principal),
            peer=reply.peer,
            created=self.runtime.now(),
        )
        session = StreamSession(self.runtime, state, ASSUMED, self.store)
        try:
            result = session.initialize(message.params)
        except Refusal:
            raise
        except MCPError as exc:
            reply.answer(200, self.runtime.json.error(message.id, exc))
            return
        payload = self.runtime.json.result(message.id, result)
        if self.settings.stateless:
            _answer(reply, payload)
            return
        # Only now: a handshake that fails must not evict a session.
        self._make_room(session.party)
        if self.shared:
            self.runtime.spawn(self._create(session, payload, reply))
        else:
            self._admit(session)
            _answer(reply, payload, session.id)

    async def _create(self, session: StreamSession, payload: bytes, reply: Reply) -> None:
        try:
            await self.manager.create(session.state)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed")
            self._refuse(reply, overloaded("The session store is away"))
            return
        self._admit(session)
        _answer(reply, payload, session.id)

    def _admit(self, session: StreamSession) -> None:
        self.sessions[session.id] = session
        party = session.party
        self.peers.add(party, session)
        if isinstance(self.store, MemoryEventStore):
            self.store.belongs(session.id, party)
        session.on_rest, session.on_work = self._rest, self._work
        if self.shared:
            session.on_change = self._save
        self.fresh[session.id] = self.runtime.loop.time()
        self._rest(session)

    def _fleeting(self, revision: Revision) -> StreamSession:
        """Stateless: a session for one POST, which no later request can name."""
        return StreamSession(self.runtime, SessionState(id="", revision=revision.name), revision, None)

    async def _restored(
        self, session_id: str, reply: Reply, principal: Any, then: Callable[[StreamSession], None]
    ) -> None:
        """Go on with a session that is not at hand, if the manager knows it."""
        try:
            session = await self.restore(session_id)
        except Exception:
            self.runtime.store_away = True
            # Not 404: the session may well be there, and the client would throw it away.
            logger.exception("the session store failed")
            self._refuse(reply, overloaded("The session store is away"))
            return
        try:
            then(self._check(session, principal))
        except MCPError as exc:
            self._refuse(reply, exc)

    def _refuse(self, reply: Reply, error: MCPError) -> None:
        """Answer with an error that occurred after `serve` had returned, when no caller was left to catch it."""
        status, headers = (error.status, error.headers) if isinstance(error, Refusal) else (400, ())
        request_id = error.request_id if isinstance(error, InvalidRequest) else None
        reply.answer(status, self.runtime.json.error(request_id, error), JSON_HEADERS + headers)

    async def _save(self, session: StreamSession) -> None:
        try:
            await self.manager.save(session.state)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed; session %s is not saved", session.id[:8])

    async def restore(self, session_id: str) -> StreamSession | None:
        """A session that another process, or an earlier one, opened."""
        state = await self.manager.load(session_id)
        if session_id in self.sessions:
            return self.sessions[session_id]
        if state is None:
            return None
        session = StreamSession(self.runtime, state, LEGACY.get(state.revision, ASSUMED), self.store)
        self._admit(session)
        self.fresh.pop(session_id, None)
        return session

    # --- GET and DELETE ----------------------------------------------------------------------------------------

    def listen(self, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """GET: the session's own stream, or the rest of one that was cut (2025-11-25 basic/transports, Listening)."""
        if self.runtime.draining:
            raise overloaded("The server is shutting down")
        self._named(verdict, reply, principal, partial(self._listen, last_event_id=verdict.last_event_id, reply=reply))

    def _listen(self, session: StreamSession, last_event_id: str | None, reply: Reply) -> None:
        self.runtime.spawn(self._attach(session, last_event_id, reply))

    async def _attach(self, session: StreamSession, last_event_id: str | None, reply: Reply) -> None:
        session.attached(+1)
        try:
            if last_event_id is None:
                await session.standalone.listen(reply)
            else:
                stream_id, _, index = last_event_id.rpartition(".")
                # Looked up in this session only: "MUST NOT replay messages that would have been delivered on a
                # different stream" (2025-11-25 basic/transports, Resumability), let alone of another session.
                stream = session.streams.get(stream_id)
                if stream is None or not index.isascii() or not index.isdigit() or len(index) > 15:
                    raise EventsExpired(stream_id)
                await stream.resume(reply, int(index))
        except EventsExpired:
            refusal = Refusal(400, "Nothing to resume: this event id is unknown, or what followed it has expired")
            reply.answer(400, self.runtime.json.error(None, refusal))
        except Exception:
            self.runtime.store_away = True
            logger.exception("the event store failed")
            self._refuse(reply, overloaded("The event store is away"))
        finally:
            session.attached(-1)

    def delete(self, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """DELETE: end the session (2025-11-25 basic/transports, Session Management 5)."""
        self._named(verdict, reply, principal, partial(self._delete, reply=reply))

    def _delete(self, session: StreamSession, reply: Reply) -> None:
        self.end(session)
        reply.answer(204, b"", ())

    def _named(self, verdict: Verdict, reply: Reply, principal: Any, then: Callable[[StreamSession], None]) -> None:
        """Go on with the session that a GET or DELETE names; stateless servers do not come here."""
        _claimed(verdict)
        session_id = verdict.session_id
        if session_id is None:
            if verdict.method == "GET":
                # Not 400: a client that tries HTTP+SSE first gives up at 400, and goes on at 405.
                raise Refusal(405, "Method Not Allowed: a GET needs a session", headers=(ALLOW,))
            raise session_required()
        session = self.sessions.get(session_id)
        if session is None and self.shared:
            self.runtime.spawn(self._restored(session_id, reply, principal, then))
        else:
            then(self._check(session, principal))

    # --- rest, expiry, end -----------------------------------------------------------------------------------

    def _rest(self, session: StreamSession) -> None:
        """Record that the session is at rest from now on, also after work of less than one turn of the loop."""
        session_id = session.state.id
        self.resting[session_id] = self.runtime.loop.time()
        self.resting.move_to_end(session_id)
        if self.shared:
            self._used.add(session_id)

    def _work(self, session: StreamSession) -> None:
        self.resting.pop(session.state.id, None)

    @property
    def has_room(self) -> bool:
        """Whether one more session could be opened, if need be by the end of a session at rest."""
        limit = self.settings.max_sessions
        return limit is None or len(self.sessions) < limit or bool(self.resting)

    def _make_room(self, party: str) -> None:
        limit, peer_limit, peers = self.settings.max_sessions, self.settings.max_sessions_peer, self.peers
        if peer_limit is not None and peers.count(party) >= peer_limit and not self._evict(self._at_rest(party)):
            raise overloaded("Too many sessions from this address")
        if limit is None or len(self.sessions) < limit:
            return
        # A session of the client with the most sessions ends: one at rest, if it has one.  Where no client has more
        # sessions than the new client would have, the session that is longest at rest ends.
        others = list(peers.before(party))
        if self._evict(one for one in others if one.id in self.resting):
            return
        if self._evict(map(self.sessions.__getitem__, self.resting)):
            return
        if not self._evict(one for one in others if not one.calls):  # one that only listens
            raise overloaded("Too many sessions")

    def _at_rest(self, party: str) -> Iterator[StreamSession]:
        mine = set(self.peers.of(party))
        return (one for one in map(self.sessions.__getitem__, self.resting) if one in mine)

    def _evict(self, sessions: Iterator[StreamSession]) -> bool:
        """End the first, if there is one."""
        for session in sessions:
            self.end(session)
            return True
        return False

    def sweep(self) -> None:
        """End sessions that have been idle too long, and those that never finished their handshake."""
        now = self.runtime.loop.time()
        self._expire(self.resting, self.settings.session_idle, now)
        self._expire(self.fresh, self.settings.session_initialize, now)
        if self._serves is not None:
            # A client that only listens sends no request that could be refused.  The end of its stream tells it.
            for session in list(self.sessions.values()):
                if not self._serves(session.state.generation):
                    self._outdate(session)
        if self.shared and now >= self._touch_at:
            self._touch_at = now + self._touch_every
            self.runtime.spawn(self._touch([*self.sessions.keys() - self.resting.keys(), *self._used]))
            self._used.clear()
        if self.runtime.store_away and now >= self._probe_at:
            self._probe_at = now + PROBE_EVERY
            self.runtime.spawn(self._probe())

    async def _probe(self) -> None:
        # A load balancer may send no requests here while the store is away.  Then only this probe notices its return.
        try:
            if self.shared:
                await self.manager.load(NOBODY)
            if self.store is not None:
                await self.store.discard(NOBODY)
        except Exception as exc:
            logger.debug("the store is still away: %s", exc)
        else:
            self.runtime.store_away = False

    async def _touch(self, session_ids: list[str]) -> None:
        try:
            for session_id in session_ids:
                await self.manager.touch(session_id)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the session store failed")

    def _expire(self, table: OrderedDict[str, float], limit: float | None, now: float) -> None:
        while limit is not None and table:
            session_id, since = next(iter(table.items()))
            if now - since < limit:
                return
            del table[session_id]
            session = self.sessions.get(session_id)
            # A busy session without `initialized` stays: some clients do not send that notification.
            if session is not None and not session.busy:
                self.end(session)

    def end(self, session: StreamSession, *, forget: bool = True) -> None:
        """End one session: remove its entry first, then end its calls, then its streams, then empty the stores."""
        del self.sessions[session.id]
        self.resting.pop(session.id, None)
        self.fresh.pop(session.id, None)
        if self.runtime.metrics is not None:
            self.runtime.metrics.sessions.observe(max(0.0, self.runtime.now() - session.state.created))
        self.peers.remove(session.party, session)
        if not self.sessions:  # a dict keeps the memory of its largest size until it is cleared
            for table in (self.sessions, self.resting, self.fresh):
                table.clear()
        session.close()
        if forget:
            self.runtime.spawn(self._forget(session.id))

    async def _forget(self, session_id: str) -> None:
        try:
            if self.shared:
                await self.manager.delete(session_id)
            if self.store is not None:
                await self.store.discard(session_id)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the store failed; session %s is gone all the same", session_id[:8])

    def quiet(self) -> None:
        """Shutting down: end the streams that only listen; calls still run."""
        for session in list(self.sessions.values()):
            if session.has_standalone:
                session.standalone.take_over()

    def close(self) -> None:
        """End every session here; a manager of the user's own keeps its sessions for the next process."""
        for session in list(self.sessions.values()):
            self.end(session, forget=not self.shared)

    # --- notices ---------------------------------------------------------------------------------------------

    def noticed(self, notice: Notice) -> None:
        """Send a notice to each session that is to get it, on the session's own stream."""
        payload = encode_notice(self.runtime.json, notice)
        for session in list(self.sessions.values()):
            # "SHOULD NOT send [...] notifications" before `initialized` (2025-11-25 basic/lifecycle).
            state = session.state
            if session.id not in self.fresh:
                told = session.told(notice, payload)
                if told is not None and notice.is_for(state.principal, state.generation):
                    session.announce(told)


class PostClient:
    """The client of one stateless POST; its session does not know the client."""

    def __init__(self, runtime: Runtime, reply: Reply, principal: Any) -> None:
        self.party = runtime.party_of(subject(principal), reply.peer)


def _claimed(verdict: Verdict) -> Revision:
    """The legacy revision that the header names.

    Raises a Refusal with 400 for an unknown revision (2025-11-25 basic/transports, Protocol Version Header).  A session
    keeps the revision of its handshake, so a header with another legacy revision is no error.
    """
    if verdict.version is None:
        return ASSUMED
    if len(verdict.versions) > 1 and len(set(verdict.versions)) > 1:
        raise Refusal(400, "Bad Request: MCP-Protocol-Version comes with two values", code=-32000)
    revision = LEGACY.get(verdict.version)
    if revision is None:
        raise Refusal(400, f"Bad Request: unsupported MCP-Protocol-Version {verdict.version!r:.64}", code=-32000)
    verdict.legacy_revision = revision
    return revision


def _answer(reply: Reply, payload: bytes, session_id: str = "") -> None:
    headers = ((SESSION_HEADER, session_id),) if session_id else ()
    if reply.allow_json and not (reply.prefers_events and reply.allow_events):
        reply.answer(200, payload, JSON_HEADERS + headers)
    else:
        reply.extra += headers
        reply.stream_once(encode_event(payload))
