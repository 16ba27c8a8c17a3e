# SPDX-License-Identifier: MIT
"""The calls of one JSON-RPC batch by POST, and the answer that they have in common (2025-03-26 basic/index, Batching).

Rule: the answer is an array, or a stream of events if one of the calls has something to say before it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..eras.batches import BatchAnswers, Batched, Sending
from ..http.reply import Reply
from ..protocol.jsonrpc import Request
from .calls import PostedCall
from .streams import Stream, StreamSession


class Gathering(BatchAnswers):
    """The answers of one batch: an array, or events on one stream if something is emitted first."""

    session: StreamSession

    def __init__(
        self, session: StreamSession, reply: Reply, requests: Sequence[str | int], answers: list[bytes]
    ) -> None:
        super().__init__(session, len(requests), answers)
        self.requests = requests  # their ids
        self.reply = reply
        self.calls: list[BatchedCall] = []
        self.stream: Stream | None = None
        reply.on_gone, reply.on_silence = self.lost, self.silent
        # An array can be sent only when the last call is over, so a client that prefers events need not wait for that.
        if not reply.allow_json or (reply.prefers_events and reply.allow_events):
            self.begin()

    def begin(self) -> Stream:
        """The one stream of the batch."""
        stream = self.stream = self.session.new_stream(requests=self.requests)
        stream.start(self.reply, self.lost)
        return stream

    def lost(self) -> None:
        """The connection is lost.  The calls go on, because a lost connection is no cancellation."""
        for call in self.calls:
            call.lost()

    def silent(self) -> None:
        """Begin the stream, because a proxy may give up on an exchange that has been silent for long."""
        if self.reply.allow_events:
            (self.stream or self.begin()).open()

    def put(self, payload: bytes) -> Sending | None:
        return super().put(payload) if self.stream is None else self.stream.send(payload)

    async def finish(self) -> None:
        """Send the answer: every call of the batch is over."""
        if self.stream is None:
            self.settle()
            return
        # The answers of calls that ended before a call had something to say, and began the stream.
        for payload in self.answers:
            await self.stream.send(payload)
        self.stream.close()

    def settle(self) -> None:
        """As JSON: "an array" even of one (JSON-RPC 2.0 section 6); nothing left to say is 202."""
        if self.answers:
            self.reply.answer(200, self.session.runtime.json.batch(self.answers))
        else:
            self.reply.answer(202, b"", ())


class BatchedCall(Batched, PostedCall):
    """A request of a batch: its answer goes to the gathering."""

    __slots__ = ("gathering",)

    gathering: Gathering

    def __init__(
        self, session: StreamSession, message: Request, reply: Reply, principal: Any, gathering: Gathering
    ) -> None:
        super().__init__(session, message, reply, principal)
        self.gathering = gathering
        gathering.calls.append(self)

    def _begin(self) -> Stream | None:
        gathering = self.gathering
        # A call whose task outlives the batch speaks on the session's own stream.
        if gathering.stream is not None and not gathering.stream.finished:
            return gathering.stream
        if gathering.reply.allow_events and gathering.reply.alive:
            return gathering.begin()
        return self._session.standalone if self._session.id else None

    async def close_stream(self) -> None:
        """Do nothing: a single call of a batch must not close the stream of all of them."""
