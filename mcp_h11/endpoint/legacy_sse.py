# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05: one stream for all messages of the server, one address for the POSTs of the client.

The transport is deprecated, but older clients have no other.  Its sessions are of the class `ChannelSession`, which
stdio uses too.

Rule: a session ends with its stream.  Then the calls of the session are cancelled (2024-11-05 basic/transports, HTTP
with SSE).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..eras.channel import ChannelCall, ChannelSession
from ..eras.session import encode_notice
from ..handler.handler import ServerHandler
from ..handler.notices import Notice
from ..http.auth import subject
from ..http.reply import Reply
from ..http.sse import LARGE_PAYLOAD, encode_event, event_parts
from ..protocol.errors import InvalidRequest, MCPError, Refusal, overloaded, session_not_found
from ..protocol.jsonrpc import Batch, ErrorResponse, Message, Notification, Request, Response
from ..protocol.revisions import ASSUMED
from ..runtime.fairness import Crowd
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import SessionState
from .verdicts import Verdict

SESSION_ID_BYTES = 32


class LegacySSE:
    """The HTTP+SSE sessions of one server."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sessions: dict[str, tuple[ChannelSession, Reply]] = {}
        self.initialized: set[str] = set()
        self.peers = Crowd[ChannelSession]()
        # Only a handler with an answer of its own says that its backends are gone.
        self._may_end = type(runtime.handler).serves is not ServerHandler.serves
        runtime.notice_listeners.append(self.on_notice)

    def open(self, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """GET: open the stream; its first event names the address for POSTs."""
        if self.runtime.draining:
            raise overloaded("The server is shutting down")
        self.check_room(self.runtime.party_of(subject(principal), reply.peer))
        state = SessionState(id=new_id(SESSION_ID_BYTES), principal=subject(principal), peer=reply.peer)
        self._begin(
            ChannelSession(self.runtime, state, ASSUMED, partial(self._write, reply)), verdict, reply, principal
        )

    def _begin(self, session: ChannelSession, verdict: Verdict, reply: Reply, principal: Any) -> None:
        """Open the stream of a new session."""
        self.sessions[session.id] = (session, reply)
        self.peers.add(session.party, session)
        reply.on_gone = partial(self.end, session)
        # The event has a path and no full address: official clients refuse an endpoint of another origin, and this
        # server does not know the origin that a proxy shows to them.  The path includes the prefix that a proxy strips.
        endpoint = f"{verdict.facts.prefix}{self.runtime.settings.messages_path}?session_id={session.id}"
        reply.open(encode_event(endpoint.encode("ascii"), event="endpoint"))

    def check_room(self, party: str) -> None:
        """Have room for one more session of this party, if need be by the end of another.  Raises `overloaded`."""
        settings = self.runtime.settings
        limit = settings.max_sessions_peer
        if limit is not None and self.peers.count(party) >= limit:
            raise overloaded("Too many sessions from this address")
        if settings.max_sessions is None or len(self.sessions) < settings.max_sessions:
            return
        # The client with the most sessions loses one in which no call runs.
        for session in self.peers.before(party):
            if not session.calls:
                self._finish(self.sessions[session.id][1], session)
                return
        raise overloaded("Too many sessions")

    async def _write(self, reply: Reply, payload: bytes) -> None:
        # Wait before each message, since all calls of the session write here: one message of each would be too much.
        while reply.alive and not reply.writable:
            await reply.drained()
        if len(payload) < LARGE_PAYLOAD:
            reply.send(encode_event(payload, event="message"))
        else:
            reply.send_parts(event_parts(payload, event="message"), False)

    def named(self, verdict: Verdict) -> str:
        """The id of the session that a POST names.  Raises a Refusal with 400 where it names none."""
        from urllib.parse import parse_qs  # only HTTP+SSE needs it

        names = parse_qs(verdict.head.query).get("session_id")
        if not names:
            raise Refusal(400, "session_id is required", code=-32000)
        return names[0]

    def find(self, verdict: Verdict, principal: Any) -> ChannelSession:
        """The session that a POST names.  Raises a Refusal: 400 where it names none, 404 where it is gone."""
        found = self.sessions.get(self.named(verdict))
        if found is None or found[0].state.principal != subject(principal):
            raise session_not_found()
        if self._outdated(*found):
            raise session_not_found()
        return found[0]

    def _outdated(self, session: ChannelSession, reply: Reply) -> bool:
        """Whether the backends that it was opened with are gone; then it ends as soon as its calls are answered."""
        if self.runtime.handler.serves(session.state.generation):
            return False
        # The end of the stream makes the client open a new session.
        session.on_idle = partial(self._finish, reply)
        if not session.busy:
            self._finish(reply, session)
        return True

    def sweep(self) -> None:
        """End the outdated sessions; clients that only listen send no request that would end theirs."""
        for session, reply in list(self.sessions.values()) if self._may_end else ():
            self._outdated(session, reply)

    def serve(self, verdict: Verdict, message: Message | Batch, reply: Reply, principal: Any) -> None:
        """POST: answer 202; responses go on the stream."""
        session = self.find(verdict, principal)
        for one in self._messages(session, message):
            self.take(session, one, principal, reply.load)
        # Only now: a message that is refused for want of room gets the status of its refusal.
        reply.answer(202, b"", ())

    def _messages(self, session: ChannelSession, message: Message | Batch) -> Batch:
        """The messages of a POST.  Raises InvalidRequest for a batch that the session's revision forbids."""
        if isinstance(message, list):
            if session.revision.version_header:  # the revisions that removed batches are those with this header
                raise InvalidRequest(f"JSON-RPC batches are not part of {session.revision.name}")
            if any(isinstance(one, Request) and one.method == "initialize" for one in message):
                # 2025-03-26 basic/lifecycle: "The initialize request MUST NOT be part of a JSON-RPC batch".
                raise InvalidRequest("initialize cannot be part of a batch")
            return message
        return [message]

    def take(self, session: ChannelSession, message: Message | InvalidRequest, principal: Any, load: object) -> None:
        """One message of a session with one channel; `load` counts its memory."""
        if isinstance(message, Request):
            if message.method == "initialize" and session.id not in self.initialized:
                self._check_read(session)
                self.initialize(session, message)
            else:
                session.call(ChannelCall(session, message, principal, load))
        elif isinstance(message, Notification):
            session.notified(message, None, load)
        elif isinstance(message, (Response, ErrorResponse)):
            session.answered(message, load)
        else:
            self._check_read(session)
            self.runtime.spawn(session.send(self.runtime.json.error(message.request_id, message)))

    def _check_read(self, session: ChannelSession) -> None:
        # The number of calls is limited, but not that of other answers, which must not pile up before a slow reader.
        if not self.sessions[session.id][1].writable:
            raise overloaded("The event stream of this session is not read")

    def initialize(self, session: ChannelSession, message: Request) -> None:
        """The handshake."""
        json = self.runtime.json
        try:
            payload = json.result(message.id, session.shake_hands(message))
            self.initialized.add(session.id)
        except MCPError as exc:
            payload = json.error(message.id, exc)
        self.runtime.spawn(session.send(payload))

    def end(self, session: ChannelSession) -> None:
        """End a session: its stream is gone."""
        if self.sessions.pop(session.id, None) is None:
            return
        self.initialized.discard(session.id)
        self.peers.remove(session.party, session)
        session.close()

    def end_idle_streams(self) -> None:
        """Shutting down: end every stream in good order, as soon as the calls of its session are answered."""
        for session, reply in list(self.sessions.values()):
            session.on_idle = partial(self._finish, reply)
            if not session.busy:
                self._finish(reply, session)

    def _finish(self, reply: Reply, session: ChannelSession) -> None:
        reply.on_gone = None
        self.end(session)
        reply.end()

    def on_notice(self, notice: Notice) -> None:
        """Send a notice to each session that is to get it."""
        payload = encode_notice(self.runtime.json, notice)
        for session, _ in list(self.sessions.values()):
            state = session.state
            if session.id in self.initialized:
                told = session.told(notice, payload)
                if told is not None and notice.is_for(state.principal, state.generation):
                    session.announce(told)
