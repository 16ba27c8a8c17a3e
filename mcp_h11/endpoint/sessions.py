# SPDX-License-Identifier: MIT
"""Streamable HTTP for sessions: POST, GET and DELETE of 2025-03-26 to 2025-11-25 (basic/transports).

`Legacy` finds the session that a request names and hands it the message.  Only a successful `initialize` opens a
session.  `session_table` keeps the sessions and ends those that were idle for long; `session_stores` keeps them for
other processes.

Rules:
- 404 means only "this session is gone", because clients start a new session on 404.  Its body has no id, since a client
  would take an error with an id for an ordinary failure of that call.
- A request for another principal's session gets the same answer as a request for an unknown session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
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
    INTERNAL_ERROR,
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
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import MemoryEventStore, SessionState
from .calls import PostedCall
from .error_answers import answer_error
from .session_stores import SessionStores
from .session_table import SessionTable
from .streams import StreamSession
from .verdicts import Verdict

logger = escaping(logging.getLogger(__name__))

SESSION_ID_BYTES = 32  # 256 bits from the operating system
ENDS_PER_TURN = 100  # overdue sessions that end in one turn of the loop
ALLOW = ("Allow", "GET, POST, DELETE, OPTIONS")


class Legacy:
    """The sessions of one server."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self.runtime = runtime
        self.settings = settings
        self.stores = stores_of(runtime)
        self.table = SessionTable(runtime, self.stores.forget, self.stores.used, self.stores.local_only)
        self.stores.attach(self.table)
        self.sessions = self.table.sessions  # at hand, because every request looks its session up
        # Asked at each request, but only where the handler has an answer of its own.
        overridden = type(runtime.handler).serves is not ServerHandler.serves
        self._serves = runtime.handler.serves if overridden else None
        self._ending = False  # `_end_more` will be called
        runtime.notice_listeners.append(self.on_notice)

    # --- POST ----------------------------------------------------------------------------------------------

    def serve(self, verdict: Verdict, message: Message | Batch, reply: Reply, principal: Any) -> None:
        """Answer one POST.  Raises a Refusal where it is refused."""
        revision: Revision = verdict.facts.legacy_revision or _claimed(verdict)
        if type(message) is Request and message.method == "initialize":
            self._initialize(verdict, message, reply, principal)
            return
        if self.settings.stateless:
            self._take(self._fleeting(revision), message, reply, principal)
            return
        if verdict.session_id is None:
            raise self._without_session(message)
        session = self.sessions.get(verdict.session_id)
        if session is None and self.stores.shared:
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
        # One refusal for all reasons: it must not tell whether another principal has a session of this id.
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
            # In the place of the table's own callback: the session must not count as idle once more before it ends.
            session.on_idle = self.table.end
        else:
            self.table.end(session)

    def _take_later(
        self, session: StreamSession, message: Message | Batch, reply: Reply, principal: Any, load: object
    ) -> None:
        # `serve` returned long ago, and its caller took the load off the reply.
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
            forwarding = session.forward(message)
            if forwarding is not None:
                self.runtime.spawn(self._forward(forwarding, reply))
                return
            self._deliver(session, message, reply, principal)
            reply.answer(202, b"", ())

    async def _forward(self, forwarding: Coroutine[Any, Any, None], reply: Reply) -> None:
        """Answer 202 only when the message has reached the worker that it is for."""
        try:
            await forwarding
        except MCPError as exc:
            answer_error(reply, self.runtime.json, exc)
        except Exception:
            logger.exception("a message did not reach its worker")
            answer_error(reply, self.runtime.json, Refusal(500, "Internal error", code=INTERNAL_ERROR))
        else:
            reply.answer(202, b"", ())

    def _deliver(self, session: StreamSession, message: Message, reply: Reply, principal: Any) -> None:
        """A notification, or an answer to a question of ours."""
        if isinstance(message, Notification):
            if message.method == INITIALIZED:
                self.table.uninitialized.pop(session.id, None)
            whose = None if session.id else PostClient(self.runtime, reply, principal)
            session.notified(message, whose, reply.load)
        else:
            assert isinstance(message, (Response, ErrorResponse))
            session.answered(message, reply.load)
        self.table.touch(session)

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
        elsewhere = []
        for message in batch:
            if isinstance(message, (Notification, Response, ErrorResponse)):
                forwarding = session.forward(message)
                if forwarding is not None:
                    elsewhere.append(forwarding)
                else:
                    self._deliver(session, message, reply, principal)
        if not requests and not wrong:
            if elsewhere:
                self.runtime.spawn(self._forward(_one_by_one(elsewhere), reply))
            else:
                reply.answer(202, b"", ())
            return
        for forwarding in elsewhere:
            self.runtime.spawn(forwarding)
        from .batches import BatchedCall, Gathering  # only clients of one revision send them

        gathering = Gathering(session, reply, [one.id for one in requests], wrong)
        if not requests:
            self.runtime.spawn(gathering.finish())
        for message in requests:
            gathering.run(BatchedCall(session, message, reply, principal, gathering))

    # --- initialize ------------------------------------------------------------------------------------------

    def _initialize(self, verdict: Verdict, message: Request, reply: Reply, principal: Any) -> None:
        known = self.sessions.get(verdict.session_id or "")
        # A session of another principal counts as unknown: the handshake succeeds as it does beside any unknown id.
        if known is not None and known.state.principal == subject(principal):
            raise _initialized(message)
        if known is None and verdict.session_id and self.stores.local_only and not self.settings.stateless:
            self.runtime.spawn(self._initialize_elsewhere(verdict.session_id, message, reply, principal))
            return
        self._handshake(message, reply, principal)

    async def _initialize_elsewhere(self, session_id: str, message: Request, reply: Reply, principal: Any) -> None:
        """A handshake beside the id of a session that is not at hand: another worker may have opened it."""
        try:
            known = await self.stores.restore(session_id, subject(principal), reply.peer)
            if known is not None and known.state.principal == subject(principal):
                raise _initialized(message)
            self._handshake(message, reply, principal)
        except MCPError as exc:
            answer_error(reply, self.runtime.json, exc)

    def _handshake(self, message: Request, reply: Reply, principal: Any) -> None:
        """Answer a handshake that begins a session."""
        state = SessionState(
            id="" if self.settings.stateless else new_id(SESSION_ID_BYTES),
            principal=subject(principal),
            peer=reply.peer,
            created=self.runtime.now(),
        )
        session = self.stores.new_session(state)
        try:
            result = session.shake_hands(message, reply.request.head)
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
        self.table.make_room(session.party)
        if self.stores.shared:
            self.runtime.spawn(self._create(session, payload, reply))
        else:
            self._open(session, payload, reply)

    async def _create(self, session: StreamSession, payload: bytes, reply: Reply) -> None:
        try:
            await self.stores.create(session)
        except Refusal as exc:
            answer_error(reply, self.runtime.json, exc)
            return
        self._open(session, payload, reply)

    def _open(self, session: StreamSession, payload: bytes, reply: Reply) -> None:
        self._admit(session)
        self.table.uninitialized[session.id] = self.runtime.loop.time()
        _answer(reply, payload, session.id)

    def _admit(self, session: StreamSession) -> None:
        self.table.add(session)
        events = self.stores.events
        # The store of the package divides its room among clients; a store of the user's own has its own limits.
        if isinstance(events, MemoryEventStore):
            events.belongs(session.id, session.party)
        if self.stores.shared:
            session.on_change = self.stores.save

    def _fleeting(self, revision: Revision) -> StreamSession:
        """Stateless: a session for one POST, which no later request can name."""
        return StreamSession(self.runtime, SessionState(id="", revision=revision.name), revision, None)

    async def _restored(
        self, session_id: str, reply: Reply, principal: Any, then: Callable[[StreamSession], object]
    ) -> None:
        """Go on with a session that is not at hand, if the manager knows it."""
        try:
            session = await self.stores.restore(session_id, subject(principal), reply.peer)
            if session_id in self.sessions:  # another request restored it meanwhile
                session = self.sessions[session_id]
            elif session is not None:
                self._admit(session)
            then(self._check(session, principal))
        except MCPError as exc:
            answer_error(reply, self.runtime.json, exc)

    # --- GET and DELETE ----------------------------------------------------------------------------------------

    def listen(self, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """GET: the session's own stream, or the rest of one that was cut (2025-11-25 basic/transports, Listening)."""
        if self.runtime.draining:
            raise overloaded("The server is shutting down")
        last = verdict.last_event_id
        self._named(verdict, reply, principal, lambda found: self.runtime.spawn(self._attach(found, last, reply)))

    async def _attach(self, session: StreamSession, last_event_id: str | None, reply: Reply) -> None:
        session.count_readers(+1)
        try:
            if session.closed:  # by a DELETE in the turn of this GET
                raise session_not_found()
            if last_event_id is None:
                await session.standalone.listen(reply)
            else:
                stream_id, _, index = last_event_id.rpartition(".")
                # Looked up in this session only: "MUST NOT replay messages that would have been delivered on a
                # different stream" (2025-11-25 basic/transports, Resumability), let alone of another session.
                stream = session.found_stream(stream_id)
                if stream is None or not index.isascii() or not index.isdigit() or len(index) > 15:
                    raise EventsExpired(stream_id)
                await stream.resume(reply, int(index))
        except EventsExpired:
            refusal = Refusal(400, "Nothing to resume: this event id is unknown, or what followed it has expired")
            reply.answer(400, self.runtime.json.error(None, refusal))
        except MCPError as exc:
            answer_error(reply, self.runtime.json, exc)
        except Exception:
            self.runtime.store_away = True
            logger.exception("the event store failed")
            answer_error(reply, self.runtime.json, overloaded("The event store is away"))
        finally:
            session.count_readers(-1)

    def delete(self, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """DELETE: end the session (2025-11-25 basic/transports, Session Management 5)."""
        self._named(verdict, reply, principal, partial(self._delete, reply=reply))
        if verdict.session_id and self.stores.local_only and verdict.session_id not in self.sessions:
            # It may be that a worker died when it had dropped the session, and before it told the others.
            self.runtime.spawn(self.stores.tell_if_ended(verdict.session_id))

    def _delete(self, session: StreamSession, reply: Reply) -> None:
        if self.stores.local_only:
            self.runtime.spawn(self._delete_everywhere(session, reply))
            return
        self.table.end(session)
        reply.answer(204, b"", ())

    async def _delete_everywhere(self, session: StreamSession, reply: Reply) -> None:
        """Answer 204 only when no worker knows the session any more, or will soon hear that it has ended."""
        try:
            await self.stores.end(session.id)
        except MCPError as exc:
            answer_error(reply, self.runtime.json, exc)
            return
        if not session.closed:
            self.table.end(session, forget=False)
        reply.answer(204, b"", ())

    def _named(self, verdict: Verdict, reply: Reply, principal: Any, then: Callable[[StreamSession], object]) -> None:
        """Go on with the session that a GET or DELETE names; stateless servers do not come here."""
        _claimed(verdict)
        session_id = verdict.session_id
        if session_id is None:
            if verdict.method == "GET":
                # Not 400: a client that tries HTTP+SSE first gives up at 400, and goes on at 405.
                raise Refusal(405, "Method Not Allowed: a GET needs a session", headers=(ALLOW,))
            raise session_required()
        session = self.sessions.get(session_id)
        if session is None and self.stores.shared:
            self.runtime.spawn(self._restored(session_id, reply, principal, then))
        else:
            then(self._check(session, principal))

    # --- the server's clock and its end ------------------------------------------------------------------------

    def sweep(self) -> None:
        """End the sessions that are idle, outdated, or never finished their handshake."""
        now = self.runtime.loop.time()
        self._end_overdue()
        if self._serves is not None:
            # A client that only listens sends no request that could be refused.  The end of its stream tells it.
            generations = {session.state.generation for session in self.sessions.values()}
            gone = {generation for generation in generations if not self._serves(generation)}
            for session in list(self.sessions.values()) if gone else ():
                if session.state.generation in gone:
                    self._outdate(session)
        self.stores.sweep(now, self.table.busy)

    def _end_overdue(self) -> None:
        """End overdue sessions in turns of the loop, since thousands may have begun in one moment."""
        if self.table.expire(self.runtime.loop.time(), ENDS_PER_TURN) and not self._ending:
            self._ending = True
            self.runtime.loop.call_soon(self._end_more)

    def _end_more(self) -> None:
        self._ending = False
        self._end_overdue()

    def end_idle_streams(self) -> None:
        """Shutting down: end the streams that only listen; calls still run."""
        for session in list(self.sessions.values()):
            if session.has_standalone:
                session.standalone.take_over()

    def close(self) -> None:
        """End every session here; a manager of the user's own keeps its sessions for the next process."""
        for session in list(self.sessions.values()):
            session.leave()
            self.table.end(session, forget=session.is_owned or not self.stores.shared)

    # --- notices ---------------------------------------------------------------------------------------------

    def on_notice(self, notice: Notice) -> None:
        """Send a notice to each session that is to get it, on the session's own stream."""
        payload = encode_notice(self.runtime.json, notice)
        for session in list(self.sessions.values()):
            # "SHOULD NOT send [...] notifications" before `initialized` (2025-11-25 basic/lifecycle).
            state = session.state
            if session.id not in self.table.uninitialized:
                told = session.told(notice, payload)
                if told is not None and notice.is_for(state.principal, state.generation):
                    session.announce(told, notice.name)


def stores_of(runtime: Runtime) -> SessionStores:
    """The stores of a server: those of its fleet, if it has one."""
    if runtime.fleet is None:
        return SessionStores(runtime)
    from .fleet_stores import FleetStores  # only a server with a store needs it

    return FleetStores(runtime, runtime.fleet)


class PostClient:
    """The client of one stateless POST; its session does not know the client."""

    def __init__(self, runtime: Runtime, reply: Reply, principal: Any) -> None:
        self.party = runtime.party_of(subject(principal), reply.peer)


async def _one_by_one(forwardings: list[Coroutine[Any, Any, None]]) -> None:
    """Await all; raises `overloaded` where one of the messages did not reach its worker."""
    reached = 0
    for forwarding in forwardings:
        with suppress(MCPError):  # it is in the log
            await forwarding
            reached += 1
    if reached < len(forwardings):
        raise overloaded(f"Only {reached} of {len(forwardings)} messages of the batch reached their worker")


def _initialized(message: Request) -> InvalidRequest:
    return InvalidRequest("This session is already initialized", message.id)


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
    verdict.facts.legacy_revision = revision
    return revision


def _answer(reply: Reply, payload: bytes, session_id: str = "") -> None:
    headers = ((SESSION_HEADER, session_id),) if session_id else ()
    if reply.allow_json and not (reply.prefers_events and reply.allow_events):
        reply.answer(200, payload, JSON_HEADERS + headers)
    else:
        reply.extra += headers
        reply.stream_once(encode_event(payload))
