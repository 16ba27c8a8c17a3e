# SPDX-License-Identifier: MIT
"""A request of a session that came by a POST of its own, and is answered there (2025-03-26 to 2025-11-25).

Rules:
- A lost connection is not a cancellation: the call goes on, and its answer waits in the stream.
- The answer is JSON until the call has something to say before it; then it is an event stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from ..eras.downgrade import notification_params
from ..eras.session import Call
from ..http.auth import subject
from ..http.headers import JSON_HEADERS
from ..http.reply import UNDECIDED, Reply
from ..protocol.errors import REQUEST_CANCELLED, MCPError, Refusal
from ..protocol.jsonrpc import Request
from .streams import Stream, StreamSession


class PostedCall(Call):
    """A request of a session, answered on its own HTTP exchange."""

    __slots__ = ("_lost", "reply", "stream")

    _session: StreamSession

    def __init__(self, session: StreamSession, message: Request, reply: Reply, principal: Any) -> None:
        Call.__init__(self, session, message, principal, reply.load)
        self._lost = False
        self.reply = reply
        self.stream: Stream | None = None  # the call's own stream, which ends with the answer

    @property
    def party(self) -> str:
        session = self._session
        # A session without an id lives for one request and does not know its client.
        if session.id:
            return session.party
        return self.runtime.party_of(subject(self.principal), self.reply.peer)

    @property
    def headers(self) -> Any:
        return self.reply.request.head

    @property
    def connected(self) -> bool:
        return not self._lost

    @property
    def peer(self) -> str:
        return self.reply.peer

    def count_failure(self, kind: int | str) -> None:
        self.reply.failed(kind)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        if self.done:
            return
        payload = self.runtime.json.notification(method, notification_params(self.revision, method, params))
        # Most streams take a notification at once: then there are no coroutines below this one.
        if self.stream is None or not self.stream.send_now(payload):
            await self.emit(payload, passing=True)

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        stream = self._begin() if self.stream is None or self.done else self.stream
        if stream is None:
            return
        if stream is self.stream:
            await stream.send(payload)
        elif not passing or stream.reply is not None or not stream.buffers_unread:
            # Other calls use this stream as well: a call that is cancelled here must not leave a hole in it.
            await asyncio.shield(self.runtime.spawn(stream.send(payload)))

    def _begin(self) -> Stream | None:
        """The stream of this call; the session's own where the client takes no events here, or has its answer."""
        reply = self.reply
        if not reply.allow_events or not reply.alive:
            return self._session.standalone if self._session.id else None
        stream = self.stream = self._session.new_stream(requests=(self.request_id,))
        stream.start(reply, self.lost)
        return stream

    def silent(self) -> None:
        """Begin the stream, because a proxy may give up on an exchange that has been silent for long."""
        if self.stream is None and self.reply.allow_events:
            self._begin()
        if self.stream is not None:
            self.stream.open()

    def lost(self) -> None:
        """The connection is lost before the answer.  The call goes on, because a lost connection is no cancellation."""
        self._lost = True
        if self.disconnected is not None:
            self.disconnected.set()

    def finish(self, payload: bytes, error: MCPError | None) -> Awaitable[None] | None:
        # Errors are JSON where that is still possible: on a stream with ids, official clients take an error for an
        # unfinished answer and come back for the rest.
        self.done = True
        reply, stream = self.reply, self.stream
        if stream is not None:
            return stream.send(payload, last=True)
        if error is not None and isinstance(error, Refusal) and error.status in (401, 403):
            # A refusal of authorization keeps its status and its challenge.  Other refusals are sent with status 200:
            # clients of these revisions take another status for a fault of the transport, and 404 for the end of the
            # session.
            reply.answer(error.status, payload, JSON_HEADERS + error.headers)
            return None
        if reply.allow_json and (error is not None or not reply.prefers_events) or not reply.as_event(payload):
            reply.answer(200, payload)
            return None
        stream = self._session.new_stream(requests=(self.request_id,))
        stream.start(reply)
        return stream.send(payload, last=True)

    def cancelled(self) -> None:
        """End the HTTP exchange of a cancelled call, which would stay open otherwise.

        2025-11-25 basic/utilities/cancellation: "not send a response".
        """
        self.done = True
        stream, reply = self.stream, self.reply
        if stream is not None:
            stream.close()
        elif reply.state == UNDECIDED:
            if reply.allow_events:
                reply.stream_once(b"")
            else:
                error = MCPError(REQUEST_CANCELLED, "Request cancelled")
                reply.answer(200, self.runtime.json.error(self.request_id, error))

    async def close_stream(self) -> None:
        """2025-11-25 basic/transports, Sending Messages 6: close after an id was sent; the client polls."""
        if not self._session.resumable or not self.reply.allow_events:
            return
        stream = self.stream or self._begin()
        if stream is not None and stream is self.stream:
            await stream.begin()
            stream.open()
            stream.take_over()
