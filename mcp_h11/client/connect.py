# SPDX-License-Identifier: MIT
"""Connects a client: chooses the transport for its target, finds the era of the server, and makes the handshake.

The order is that of 2026-07-28 basic/versioning, Backward Compatibility: `server/discover`, then `initialize`, then
HTTP+SSE.  It refuses to try others where the user has pinned the revision or the transport.

Rule: the memory of an origin only saves questions.  When the server contradicts it, it is dropped and the server is
asked again.
"""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..handler.handler import ServerHandler
from ..protocol.errors import MCPError
from ..protocol.methods import INITIALIZED
from ..protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Revision
from ..protocol.shown import escaping
from . import probe
from .conversation.conversation import Conversation
from .conversation.request import ClientRequest, Negotiated
from .http.httpclient import HTTPClient, Middleware
from .http.middleware import BearerToken, Token, TokenProvider
from .http.urls import shown
from .options import Options
from .transports.base import Transport
from .transports.errors import ConnectionLost
from .transports.http import HTTPTransport
from .transports.sse import SSETransport

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))


class Connecting:
    """Opens and closes the transports of one client."""

    def __init__(self, options: Options, conversation: Conversation, tasks: TaskGroup) -> None:
        self._options = options
        self._conversation = conversation
        self._tasks = tasks
        self._transport: Transport | None = None
        self._open: list[Transport] = []

    async def connect(self) -> None:
        """Connects.  Raises MCPError if no transport reaches the server, or there is no common revision."""
        options = self._options
        # Without an address there is nothing to try in turn.
        if options.url is None or self._is_pinned:
            await self._pinned()
            return
        remembered = options.memory.get(options.url)
        # "modern" saves no question: its `server/discover` is asked in any case, for the capabilities.
        if remembered in ("legacy", "sse"):
            try:
                await self._as_remembered(remembered)
                return
            except MCPError as error:
                if not probe.refuses_handshake(error):  # a server in trouble does not contradict the memory
                    raise
                logger.info("%s was remembered as %s and refuses that now, so it is asked again: %s",
                            shown(options.url), remembered, error)  # fmt: skip
                options.memory.drop(options.url)
                await self.aclose()
        await self._find(options.url)

    @property
    def _is_pinned(self) -> bool:
        return self._options.transport is not None or self._options.revision is not None

    async def aclose(self) -> None:
        """Ends all transports.  Each bounds the time of its own end."""
        self._transport = None
        while self._open:
            await self._open.pop().aclose()

    async def close(self, transport: Transport) -> None:
        self._open.remove(transport)
        await transport.aclose()

    # --- the order of tries -------------------------------------------------------------------------------------------

    async def _pinned(self) -> None:
        """Connects where there is no choice of transports: to a command, to a handler, or as the user has pinned it."""
        wanted = self._options.revision
        await self._start(self._options.transport == "sse")
        # A pinned legacy revision needs no probe, which such a server would refuse.
        if wanted is not None and not wanted.modern:
            await self.handshake(wanted)
        elif wanted is not None:
            negotiated = await self.discover(silence_is_legacy=False, revision=wanted)
            if negotiated is None or negotiated.revision is not wanted:
                raise ConnectionLost(f"the server does not speak {wanted.name}", sent=False)
            self.settle(negotiated)
        elif self._options.transport == "sse":  # HTTP+SSE carries no modern revision
            await self.handshake()
        else:
            await self._probe_or_shake_hands()

    async def _as_remembered(self, verdict: str) -> None:
        await self._start(verdict == "sse")
        await self.handshake()

    async def _find(self, url: str) -> None:
        """Tries all transports of an address in the order of the specification, and remembers the one that worked."""
        await self._start(False)
        try:
            await self._probe_or_shake_hands()
        except MCPError as refused:
            if not probe.means_http_sse(refused):
                raise
            await self.aclose()
            await self.go_by_sse(refused)
        self.remember()

    async def go_by_sse(self, refused: MCPError) -> None:
        """Tries HTTP+SSE.  Raises `refused`, the error of the newer transport, if that is not served either."""
        try:
            await self._start(True)
        except MCPError as error:
            logger.debug("HTTP+SSE is not spoken either: %s", error)
            # The first refusal says what is wrong; that HTTP+SSE is not served either is no news.
            raise refused from None
        await self.handshake()

    def remember(self) -> None:
        """Remembers for this origin the transport and the era that worked."""
        url, sse = self._options.url, isinstance(self._transport, SSETransport)
        if url is not None:
            self._options.memory.put(url, "sse" if sse else "modern" if self._conversation.modern else "legacy")

    async def _probe_or_shake_hands(self) -> None:
        # On pipes some old servers ignore or die of a request before `initialize`; over HTTP they answer with an error.
        duplex = self._conversation.transport.duplex
        try:
            negotiated = await self.discover(silence_is_legacy=duplex)
        except ConnectionLost as error:
            # Some old servers exit at a first request that is not `initialize`.  A command can be started again.
            if not duplex or not self._can_start_again():
                raise
            logger.debug("the server ended at `server/discover`, so it is started again for a handshake: %s", error)
            await self.aclose()
            # The end of the first child ended all calls.  The second child begins with a clean state.
            self._conversation.calls.ended = None
            await self._start(False)
            negotiated = None
        if negotiated is None:
            negotiated = await self._shake_hands_unless_late(duplex)
        if negotiated is not None:
            self.settle(negotiated)

    async def _shake_hands_unless_late(self, duplex: bool) -> Negotiated | None:
        """Makes the handshake; or gives the answer of a modern server that began after the time for the first one.

        On pipes that server has read `server/discover` before `initialize`, and has refused the latter.
        """
        try:
            await self.handshake()
        except MCPError as error:
            if not duplex or not probe.refuses_handshake(error):
                raise
            late = await self.discover(silence_is_legacy=True)
            if late is None:
                raise
            return late
        return None

    async def discover(self, *, silence_is_legacy: bool, revision: Revision = LATEST_MODERN) -> Negotiated | None:
        """Sends `server/discover`; see `probe.discover`."""
        # No longer than a request of the user may take.
        limit = min(self._options.timeout or math.inf, probe.PROBE_TIMEOUT)
        return await probe.discover(self._send, timeout=limit, silence_is_legacy=silence_is_legacy, revision=revision)

    def _can_start_again(self) -> bool:
        target = self._options.target
        return isinstance(target, (str, Sequence)) or (callable(target) and not isinstance(target, ServerHandler))

    async def _start(self, sse: bool) -> None:
        transport = self._transport = self._new_transport(sse)
        self._open.append(transport)
        # Before `start`, which may send and receive already.
        self._conversation.use(transport, self._options.server)
        await transport.start(self._conversation, self._tasks)

    def _new_transport(self, sse: bool) -> Transport:
        options = self._options
        target = options.target
        if options.url is not None:
            kind = SSETransport if sse else HTTPTransport
            return kind(options.url, self._http(), headers=tuple(options.headers.items()))
        if callable(target) and not isinstance(target, ServerHandler):
            return target()
        if isinstance(target, (ServerHandler, str, Sequence)):
            return transport_of(target, env=options.env, cwd=options.cwd)
        return target

    def _http(self) -> HTTPClient:
        options = self._options
        middleware = list(options.middleware)
        if options.token is not None:
            middleware.append(_innermost(options.token))
        if options.auth is not None and options.url is not None:
            middleware.append(options.auth.middleware(options.url, self._plain_http, self._conversation.calls.patience))
        # No time limit for the head of an answer: a call that is answered in JSON sends its head with its result.
        return HTTPClient(ssl=options.ssl, middleware=middleware, head_timeout=None, proxies=options.proxies())

    def _plain_http(self) -> HTTPClient:
        """For requests to other servers than this client's: no middleware, whose headers may hold secrets."""
        return HTTPClient(ssl=self._options.ssl, proxies=self._options.proxies())

    # --- for `EraWatch` -------------------------------------------------------------------------------------

    @property
    def can_ask_anew(self) -> bool:
        """Whether the server may turn out to be of another era: it has an address, and the user pinned nothing."""
        return self._options.url is not None and not self._is_pinned

    def forget(self) -> None:
        """Drops what is remembered of the origin of the server, since an answer contradicts it."""
        if self._options.url is not None:
            self._options.memory.drop(self._options.url)

    async def go_back(self, transport: Transport, negotiated: Negotiated) -> None:
        """Takes a transport and a negotiated revision again, because the search for others found none."""
        if self._transport is not transport:
            if self._transport is not None:
                await self.close(self._transport)
            self._transport = transport
            self._conversation.use(transport, self._options.server)
        self.settle(negotiated)

    # --- the handshake --------------------------------------------------------------------------------------

    async def handshake(self, revision: Revision | None = None) -> None:
        """`initialize`, `notifications/initialized`, and the GET stream.  Raises MCPError."""
        conversation = self._conversation
        # `initialize` has the same form for all legacy revisions, and no header names one yet.
        conversation.revision = None
        wanted = revision or self._options.revision or LATEST_LEGACY
        negotiated = await probe.initialize(
            self._send,
            self._options.info,
            conversation.questions.handlers.capabilities,
            timeout=self._options.timeout,
            revision=wanted,
        )
        # A server answers with a revision of its own if it does not know the wanted one.
        if self._options.revision is not None and negotiated.revision is not self._options.revision:
            raise ConnectionLost(f"the server speaks {negotiated.revision.name}, not {self._options.revision.name}")
        self.settle(negotiated)
        await conversation.notify(INITIALIZED, timeout=self._options.timeout)
        # After `initialized`, which ends the handshake: the stream belongs to the session.
        await conversation.transport.listen()

    def settle(self, negotiated: Negotiated) -> None:
        """Uses this revision from now on."""
        self._conversation.negotiated = negotiated
        self._conversation.revision = negotiated.revision
        self._conversation.transport.settle(negotiated.revision)

    async def _send(
        self, method: str, params: dict[str, Any], revision: Revision | None, limit: float | None
    ) -> dict[str, Any]:
        return await self._conversation.send_as(revision, ClientRequest(method, params, timeout=limit))


def transport_of(
    target: ServerHandler | str | Sequence[str], *, env: Mapping[str, str] | str | None = None, cwd: str | None = None
) -> Transport:
    """The way to a handler in this process, or to a command; `env` and `cwd` are for the command."""
    if isinstance(target, ServerHandler):
        # Loaded here: it brings the server's parts along, which a client over HTTP does not need.
        from .transports.memory import MemoryTransport

        return MemoryTransport(target)
    from .transports.stdio import StdioTransport

    # Split as a shell would, and run without one: no variable, no pattern, no pipe.
    command = shlex.split(target) if isinstance(target, str) else list(target)
    return StdioTransport(command, env=env, cwd=cwd)


def _innermost(token: str | TokenProvider) -> Middleware:
    """The client's token as the middleware that runs last, so that no other middleware replaces it."""
    if isinstance(token, str):
        text = token

        async def provider() -> str | Token:
            return text

        return BearerToken(provider, priority=math.inf)
    return BearerToken(token, priority=math.inf)
