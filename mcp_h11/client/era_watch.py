# SPDX-License-Identifier: MIT
"""Notices that a server has become one of another era while a client uses it, and goes on in that era.

The era of a server is the group of revisions that it speaks: revisions up to 2025-11-25 begin with a handshake
(`initialize`) and keep a session, later ones have neither.  A server changes its era when it is upgraded, rolled back,
or replaced behind one address.  Its answers then contradict the negotiated revision (`probe.contradicts`), and
2026-07-28 basic/versioning, Backward Compatibility, lets the client ask again.

It refuses to ask where the user has pinned the revision or the transport, and to ask again soon after a try that
changed nothing: a server that answers nonsense must not cost a probe for each request.

Rule: a request that may have been executed is sent again only if that is safe.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

from ..protocol.errors import MCPError
from ..protocol.shown import escaping
from .connect import Connecting
from .conversation.conversation import Conversation
from .conversation.request import ClientRequest, Negotiated
from .probe import contradicts, means_http_sse, refuses_handshake
from .subscriptions import Subscriptions
from .transports.errors import ConnectionLost

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .transports.base import Transport

logger = escaping(logging.getLogger(__name__))

# Seconds for asking a server again which era it is of.
ASKING_LIMIT = 60.0
# Seconds before the server is asked once more, after a try that changed nothing.
ASK_AGAIN_AFTER = 10.0


class EraWatch:
    """Sends requests in the era of the server, and switches the era of a client when the server has switched its own.

    The conversation holds it as its `Watch`: a transport that lost its session, and a subscription that was refused,
    come here as well.
    """

    def __init__(
        self, conversation: Conversation, connecting: Connecting, subscriptions: Subscriptions, tasks: TaskGroup
    ) -> None:
        self._conversation = conversation
        self._connecting = connecting
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._switches = 0  # how often the era has changed: a request compares it before and after
        self._asking: anyio.Event | None = None  # set when the probe that is under way has ended
        self._not_before = -math.inf  # the time of the loop from which on the server may be asked again

    async def request(self, request: ClientRequest) -> dict[str, Any]:
        """Sends a request and gives its result, after another try if the server turns out to be of another era.

        Raises MCPError.
        """
        conversation = self._conversation
        if not conversation.is_known:
            await conversation.until_known(request)
        switches, modern = self._switches, conversation.modern
        try:
            return await conversation.request(request)
        except MCPError as error:
            if not await self._may_repeat(request, error, switches, modern):
                raise
        return await conversation.request(request)

    async def run(self, request: ClientRequest, send: Callable[[], Awaitable[Any]]) -> Any:
        """As `request`, for a request that `send` sends in a way of its own.

        Args:
            request: its timeout and its safety are used here.

        Raises:
            MCPError: the last try failed.
        """
        await self._conversation.until_known(request)
        switches, modern = self._switches, self._conversation.modern
        try:
            return await send()
        except MCPError as error:
            if not await self._may_repeat(request, error, switches, modern):
                raise
        return await send()

    async def _may_repeat(self, request: ClientRequest, error: MCPError, switches: int, modern: bool) -> bool:
        """Whether a request that failed is to be sent once more: the server is of another era now.

        `switches` and `modern` are of the time when the request left.
        """
        contradiction = contradicts(error, modern)
        if not contradiction and not isinstance(error, ConnectionLost):
            return False
        # Another request may have noticed the switch first, while this one was under way.
        if contradiction and self._switches == switches:
            await self.ask_anew()
        # The server did not execute a request that it refused, nor one that never left.
        not_executed = contradiction or (isinstance(error, ConnectionLost) and not error.sent)
        return self._switches != switches and (not_executed or self._conversation.is_safe(request))

    # --- the session is lost --------------------------------------------------------------------------------

    async def renew_session(self) -> None:
        """Begins a new session, since the server has forgotten the old one.  Raises MCPError."""
        why = self._conversation.transport.why
        if self._conversation.modern:  # the request left before the server switched its era
            raise ConnectionLost(f"there are no sessions any more at {why}")
        switches = self._switches
        try:
            await self._connecting.handshake()
        except MCPError as refused:
            if not refuses_handshake(refused):
                raise
            await self.ask_anew(refused)
            if self._switches == switches:
                raise
            raise ConnectionLost(f"{self._conversation.transport.why} is of another era now") from None
        # The new session knows neither the log level nor the subscriptions of the old one.
        self._tasks.start_soon(self._subscriptions.restore)

    # --- the era may be another -----------------------------------------------------------------------------

    async def ask_anew(self, refused: MCPError | None = None) -> None:
        """Asks the server which era it is of, and switches if it is another.  Never raises an error of the server.

        All requests that call this meanwhile wait for one probe.  It runs in a task of its own, so that it goes on when
        the request that began it is cancelled.

        Args:
            refused: the error that answered an `initialize` just now, which spares another handshake.
        """
        if not self._connecting.can_ask_anew:
            return
        if self._asking is None:
            self._connecting.forget()
            if anyio.current_time() < self._not_before:
                return
            self._asking = anyio.Event()
            self._tasks.start_soon(self._ask_anew, self._asking, refused)
        await self._asking.wait()

    async def _ask_anew(self, asking: anyio.Event, refused: MCPError | None) -> None:
        before, transport = self._conversation.known, self._conversation.transport
        try:
            # No request may leave before the era is known: its form depends on the era.
            with self._conversation.requests_held():
                try:
                    with anyio.fail_after(ASKING_LIMIT):
                        await self._find_other(before, transport, refused)
                except (MCPError, TimeoutError) as error:
                    logger.info("%s contradicts its revision, and no other was found: %s", transport.why, error)
                    await self._connecting.go_back(transport, before)
                except Exception:  # no caller awaits this task: an error that left it would end the client
                    logger.exception("asking %s for its revision again failed", transport.why)
                    await self._connecting.go_back(transport, before)
                if self._conversation.negotiated is before:
                    self._not_before = anyio.current_time() + ASK_AGAIN_AFTER
                else:
                    self._switch()
        finally:
            self._asking = None
            asking.set()

    async def _find_other(self, before: Negotiated, transport: Transport, refused: MCPError | None) -> None:
        connecting = self._connecting
        # Silence is no answer here: a server that was modern may only be slow.
        found = await connecting.discover(silence_is_legacy=False)
        if found is not None:
            # A modern server that still answers `server/discover` keeps its negotiated revision.
            if not before.revision.modern:
                connecting.settle(found)
        elif refused is not None or before.revision.modern:
            try:
                if refused is not None:
                    raise refused
                await connecting.handshake()
            except MCPError as error:
                if not means_http_sse(error):
                    raise
                await connecting.go_by_sse(error)
                await connecting.close(transport)
        connecting.remember()

    def _switch(self) -> None:
        self._not_before = -math.inf
        self._switches += 1
        self._conversation.forget()
        self._subscriptions.end_streams()
        self._tasks.start_soon(self._subscriptions.restore)
