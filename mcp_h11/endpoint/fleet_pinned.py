# SPDX-License-Identifier: MIT
"""Sessions whose state lives in one process: those of a bridge that has a backend for each session.

Such a session is *pinned* to the worker that opened it, its owner: the child process of its backend is there, and
cannot move.  A request that comes to another worker is handed to the owner by letter, and its messages come back
through a log.  The other worker passes them on as if they were those of a call of its own.

Rule: when the owner is dead, the backend is gone, and so is the session: 404, and the client begins a new one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..eras.session import Call
from ..handler.handler import encode_error
from ..http.headers import JSON_HEADERS
from ..protocol.errors import INTERNAL_ERROR, MCPError, overloaded, session_not_found
from ..protocol.jsonrpc import JSON, Message, Notification, Request
from ..protocol.methods import CANCELLED, INITIALIZED
from ..protocol.revisions import Revision
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet
from ..runtime.runtime import Runtime
from ..runtime.storage import SessionState
from ..stores.base import Full, StoreError
from .calls import PostedCall
from .fleet_messages import TOO_MANY, letter_of, messages_of
from .fleet_session import FleetSession
from .fleet_streams import SharedStream

logger = escaping(logging.getLogger(__name__))


class OwnerGone(Exception):
    """The owner of a session is dead."""


class FollowedStream(SharedStream):
    """The messages of a call that runs at the owner, as they come to this worker."""

    __slots__ = ("more",)

    def __init__(self, session: FleetSession, owner: str, request_id: str | int) -> None:
        SharedStream.__init__(self, session, writer=owner, requests=(request_id,))
        self.more = asyncio.Event()

    def wake(self) -> None:
        self.more.set()


class PinnedSession(FleetSession):
    """A session that another worker owns, at hand here."""

    __slots__ = ("_end",)

    def __init__(
        self, runtime: Runtime, fleet: Fleet, state: SessionState, revision: Revision, end: Callable[[str], None]
    ) -> None:
        FleetSession.__init__(self, runtime, fleet, state, revision)
        self._end = end  # ends the session everywhere

    def forward(self, message: Message) -> Coroutine[Any, Any, None] | None:
        elsewhere = FleetSession.forward(self, message)
        # A cancellation of a call that waits here cancels that, which tells the owner.
        if elsewhere is not None or (isinstance(message, Notification) and message.method in (CANCELLED, INITIALIZED)):
            return elsewhere
        return self._hand_over(message)

    async def _hand_over(self, message: Message) -> None:
        """Give a message to the owner.  Raises `overloaded`, where the store is away, or a 404."""
        try:
            await self._give(letter_of(self.runtime.json, message))
        except OwnerGone:
            self._end(self.id)
            raise session_not_found() from None
        except Full:
            raise overloaded(TOO_MANY) from None
        except StoreError as exc:
            logger.warning("a message did not reach the owner of session %s: %s", self.id[:8], exc)
            raise overloaded("The session store is away") from None

    async def _give(self, letter: dict[str, Any], stream: str = "") -> None:
        letter = {"session": self.key, "stream": stream, **letter}
        if not await self.fleet.send(self.home, "handed", party=self.party, **letter):
            raise OwnerGone

    async def _run(self, call: Call) -> None:
        error: MCPError | None = None
        try:
            payload = await self._run_at_owner(call)
            if payload is None:  # the owner cancelled it
                return
            error = _error_in(payload)
        except OwnerGone:
            self._answer_404(call)
            return
        except Exception as exc:
            error = overloaded("The session store is away") if isinstance(exc, StoreError) else None
            if isinstance(exc, Full):
                error = overloaded(TOO_MANY)
            error = error or self.as_error(exc, call.method)
            payload = encode_error(self.runtime.json, call.request_id, error, call.method)
        if error is not None:
            call.failed(error.code, error.message)
        if not call.done and not call.cancelled_by_client:
            later = call.finish(payload, error)
            if later is not None:
                await later

    def _answer_404(self, call: Call) -> None:
        refusal = session_not_found()
        if isinstance(call, PostedCall) and call.stream is None and not call.done:
            call.done = True
            call.reply.answer(refusal.status, self.runtime.json.error(None, refusal), JSON_HEADERS)
        # Soon, because it cancels the calls of the session, and this one is not over.
        self.runtime.loop.call_soon(self._end, self.id)

    async def _run_at_owner(self, call: Call) -> bytes | None:
        """The answer to a call; what comes before it is sent on its way.  None: the call has no answer."""
        fleet, logs = self.fleet, self.fleet.logs
        stream = FollowedStream(self, self.home, call.request_id)
        await stream.begin()
        await logs.read(self.key, stream.id, 0, reader=fleet.worker)
        self.remember(stream)
        fleet.watch(self.home, stream.orphaned)
        try:
            request = Request(call.request_id, call.method, call.params)
            await self._give(letter_of(self.runtime.json, request), stream.id)
            cursor = 0
            while True:
                stream.more.clear()
                tail = await logs.read(self.key, stream.id, cursor)
                for index, payload in tail.events:
                    if tail.finished and index == tail.last:
                        return payload
                    await call.emit(payload)
                cursor = tail.last
                if tail.finished:
                    return None
                await stream.more.wait()
        except asyncio.CancelledError:
            self.runtime.spawn(self._cancel_at_owner(call.request_id))
            raise
        finally:
            fleet.unwatch(self.home, stream.orphaned)
            self.streams.pop(stream.id, None)
            self.runtime.spawn(self._discard(stream.id))

    async def _cancel_at_owner(self, request_id: str | int) -> None:
        try:
            await self.fleet.send(self.home, "cancelled", party=self.party, session=self.key, request=request_id)
        except StoreError as exc:
            logger.warning("a cancellation did not reach the owner of session %s: %s", self.id[:8], exc)

    async def _discard(self, stream_id: str) -> None:
        try:
            await self.fleet.logs.discard(self.key, stream_id)
        except StoreError as exc:
            logger.debug("a log is left to its time: %s", exc)


class HandedCall(Call):
    """The owner's part: a request that came to another worker.  Its messages go into the log which that one reads."""

    __slots__ = ("stream",)

    def __init__(self, session: FleetSession, message: Request, stream: SharedStream) -> None:
        Call.__init__(self, session, message, None)
        self.stream = stream

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        await self.stream.send(payload)

    def finish(self, payload: bytes, error: MCPError | None) -> Awaitable[None] | None:
        self.done = True
        return self.stream.send(payload, last=True)

    def cancelled(self) -> None:
        self.done = True
        self.stream.close()


def take_handed(session: FleetSession, body: dict[str, Any]) -> None:
    """The owner's part: take a message that came to another worker."""
    (message,) = messages_of(session.runtime.json, body)
    try:
        if isinstance(message, Request):
            _run_handed(session, message, body["stream"])
        elif isinstance(message, Notification):
            session.notified(message)
        else:
            session.answered(message)
    except MCPError as exc:
        logger.warning("a message of session %s was dropped: %s", session.id[:8], exc)


async def refuse_handed(fleet: Fleet, json_: JSON, body: dict[str, Any]) -> None:
    """The session has ended here: say so to the worker that waits for the answer.  Raises StoreError."""
    (message,) = messages_of(json_, body)
    if isinstance(message, Request):
        payload = json_.error(message.id, session_not_found())
        reader = await fleet.logs.append(body["session"], body["stream"], 1, payload, last=True)
        fleet.signal("events", reader, session=body["session"], stream=body["stream"])


def _run_handed(session: FleetSession, message: Request, stream_id: str) -> None:
    stream = SharedStream(session, stream_id, session.fleet.worker, (message.id,))
    stream.opened = True  # by the other worker
    session.remember(stream)
    try:
        session.call(HandedCall(session, message, stream))
    except MCPError as exc:  # no place to wait
        session.runtime.spawn(stream.send(session.runtime.json.error(message.id, exc), last=True))


def _error_in(payload: bytes) -> MCPError | None:
    """The error that an answer reports."""
    error = json.loads(payload).get("error")
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    return MCPError(code if type(code) is int else INTERNAL_ERROR, str(error.get("message")), error.get("data"))
