# SPDX-License-Identifier: MIT
"""A session that sends all messages on one channel: the event stream of HTTP+SSE, or the output of stdio.

Rule: the channel belongs to the session and not to a call.  A call does not close the channel, and its answer has no
HTTP status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..handler.sessions import ServerSession
from ..protocol.errors import MCPError
from ..protocol.jsonrpc import Request
from ..protocol.revisions import Revision
from ..runtime.runtime import Runtime
from ..runtime.storage import SessionState
from .session import Call, Session


class ChannelSession(Session):
    """A session with one channel: `sink` sends a message on it, and waits while the client reads slowly."""

    __slots__ = ("_sink", "_unsent")

    def __init__(
        self, runtime: Runtime, state: SessionState, revision: Revision, sink: Callable[[bytes], Awaitable[None]]
    ) -> None:
        Session.__init__(self, runtime, state, revision)
        self._sink = sink
        self._unsent: dict[bytes, None] = {}  # notices that wait for a slow channel

    async def send(self, payload: bytes) -> None:
        """Send one message, unless the session has ended."""
        if not self.closed:
            await self._sink(payload)

    # The answer to a request; a channel may let it wait for others of the same turn of the loop.
    answer = send

    def announce(self, payload: bytes, name: str = "") -> None:
        # A notice that already waits for a slow client is not sent twice: one is enough to make it fetch the list anew.
        if payload not in self._unsent:
            self._unsent[payload] = None
            self.runtime.spawn(self._send_notice(payload))

    async def _send_notice(self, payload: bytes) -> None:
        try:
            await self.send(payload)
        finally:
            self._unsent.pop(payload, None)


class ChannelCall(Call):
    """A request of a session with one channel."""

    __slots__ = ()

    _session: ChannelSession

    def __init__(self, session: ChannelSession, message: Request, principal: Any = None, load: object = None) -> None:
        Call.__init__(self, session, message, principal, load)

    @property
    def session(self) -> ServerSession:
        return self._session  # also on a pipe, whose one session has no id

    @property
    def connected(self) -> bool:
        return not self._session.closed

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        await self._session.send(payload)

    def finish(self, payload: bytes, error: MCPError | None) -> Awaitable[None] | None:
        self.done = True
        return self._session.answer(payload)

    def cancelled(self) -> None:
        # 2025-11-25 basic/utilities/cancellation: "not send a response".
        self.done = True
