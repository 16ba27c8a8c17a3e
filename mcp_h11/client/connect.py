# SPDX-License-Identifier: MIT
"""How a client gets to its server: the transport that a target means, the era that the server is of, the handshake.

The order is that of 2026-07-28 basic/versioning: `server/discover`, then `initialize`, then HTTP+SSE.  It refuses to
guess where the revision or the transport is pinned.

Rule: what was remembered of an origin only saves questions; where it turns out wrong it is forgotten, and all is asked:
when a client begins, and also when a server becomes one of another era while a client uses it.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from ..handler.handler import ServerHandler
from ..protocol.errors import MCPError
from ..protocol.methods import INITIALIZED
from ..protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Revision
from ..protocol.shown import escaping
from . import probe
from .cache import Same
from .conversation import ClientRequest, Conversation
from .probe import EraMemory, Negotiated
from .targets import Url
from .transports.base import Transport
from .transports.errors import ConnectionLost
from .transports.http import HTTPTransport
from .transports.httpclient import HTTPClient, Middleware
from .transports.middleware import BearerToken, Token, TokenProvider
from .transports.outbound import FROM_ENVIRONMENT, ForwardProxies
from .transports.sse import SSETransport
from .transports.urls import is_url, parse_url, shown

if TYPE_CHECKING:
    import ssl as tls

    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Seconds for asking a server anew what it is; and before it is asked so again, where nothing came of it.
ASKING_LIMIT = 60.0
ASK_AGAIN_AFTER = 10.0


@dataclass(frozen=True)
class Options:
    """What a `Client` was told of the way to its server; see there."""

    target: str | Sequence[str] | ServerHandler | Transport
    info: dict[str, Any]
    revision: Revision | None
    transport: str | None
    headers: dict[str, str]
    token: str | TokenProvider | None
    middleware: tuple[Middleware, ...]
    ssl: tls.SSLContext | None
    env: Mapping[str, str] | str | None
    cwd: str | None
    timeout: float | None
    memory: EraMemory
    proxy: str | None = FROM_ENVIRONMENT

    def __post_init__(self) -> None:
        if self.transport not in (None, "http", "sse"):
            raise ValueError(f'transport is "http", "sse" or None, not {self.transport!r}')
        if self.token is not None and not isinstance(self.token, str) and not callable(self.token):
            raise TypeError(f"token is a text, a function or a coroutine function, not {type(self.token).__name__}")
        if self.url is not None:
            # Now, and in words that show nothing of it: a secret with a line end would fail at each request.
            parse_url(self.url)
            self.proxies()
            Url(self.url, self.headers, self.token)
        if self.transport == "sse" and self.revision is not None and self.revision.modern:
            raise ValueError(f"HTTP+SSE does not carry {self.revision.name}")

    @property
    def url(self) -> str | None:
        """The target, if it is an address."""
        return self.target if isinstance(self.target, str) and is_url(self.target) else None

    def proxies(self) -> ForwardProxies | None:
        """What finds the way to the address.  Raises ValueError for a proxy that is none."""
        if self.proxy is None:
            return None
        return ForwardProxies(os.environ, None if self.proxy == FROM_ENVIRONMENT else self.proxy)

    @property
    def server(self) -> Hashable:
        """What tells this server from others, for public results.

        An address under another TLS context, or with other headers, may be another server; so is a command in another
        folder or environment.  `Authorization` and `Cookie` say which user asks: a public result is for all users.
        """
        if self.url is not None:
            headers = {(name.lower(), value) for name, value in self.headers.items()}
            named = frozenset(pair for pair in headers if pair[0] not in ("authorization", "cookie"))
            return self.url, named, Same(self.ssl), self.proxy
        if isinstance(self.target, (str, Sequence)):
            env = frozenset(self.env.items()) if isinstance(self.env, Mapping) else self.env
            return self.target if isinstance(self.target, str) else tuple(self.target), env, self.cwd
        return Same(self.target)


class Connecting:
    """Finds the way and goes it.

    Attributes:
        agreed: None until then.
        on_other_era: called when the server has turned out to be of another era, and everything goes on in that.
    """

    def __init__(self, options: Options, conversation: Conversation, tasks: TaskGroup) -> None:
        self.negotiated: Negotiated | None = None
        self.on_other_era: Callable[[], None] | None = None
        self._options = options
        self._conversation = conversation
        self._tasks = tasks
        self._transport: Transport | None = None
        self._open: list[Transport] = []
        self._asking: anyio.Event | None = None
        self._not_before = -math.inf

    async def connect(self) -> None:
        """Raises MCPError where there is no way, or no common revision."""
        options = self._options
        if options.url is None or self._is_pinned:
            await self._pinned()
            return
        remembered = options.memory.get(options.url)
        if remembered in ("legacy", "sse"):
            try:
                await self._as_remembered(remembered)
                return
            except MCPError as error:
                if not probe.refuses_handshake(error):  # away, or in trouble: that contradicts nothing
                    raise
                logger.info("%s is no longer what it was, %s: %s", shown(options.url), remembered, error)
                options.memory.drop(options.url)
                await self.aclose()
        await self._find(options.url)

    @property
    def _is_pinned(self) -> bool:
        return self._options.transport is not None or self._options.revision is not None

    async def aclose(self) -> None:
        """Ends what is there; bounded by what the transports allow themselves."""
        self._transport = None
        while self._open:
            await self._open.pop().aclose()

    async def _close(self, transport: Transport) -> None:
        self._open.remove(transport)
        await transport.aclose()

    # --- the ways -------------------------------------------------------------------------------------------

    async def _pinned(self) -> None:
        """One way only: a pipe, a handler, or what the user says."""
        wanted = self._options.revision
        await self._start(self._options.transport == "sse")
        if wanted is not None and not wanted.modern:
            await self.handshake(wanted)
        elif wanted is not None:
            negotiated = await self._discover(silence_is_legacy=False, revision=wanted)
            if negotiated is None or negotiated.revision is not wanted:
                raise ConnectionLost(f"the server does not speak {wanted.name}", sent=False)
            self._settle(negotiated)
        elif self._options.transport == "sse":  # HTTP+SSE carries no modern revision
            await self.handshake()
        else:
            await self._probe_or_shake_hands()

    async def _as_remembered(self, verdict: str) -> None:
        await self._start(verdict == "sse")
        await self.handshake()

    async def _find(self, url: str) -> None:
        """By the requirements' order; the verdict is remembered."""
        await self._start(False)
        try:
            await self._probe_or_shake_hands()
        except MCPError as refused:
            if not probe.means_http_sse(refused):
                raise
            await self.aclose()
            await self._go_by_sse(refused)
        self._remember()

    async def _go_by_sse(self, refused: MCPError) -> None:
        try:
            await self._start(True)
        except MCPError as error:
            logger.debug("HTTP+SSE is not spoken either: %s", error)
            raise refused from None
        await self.handshake()

    def _remember(self) -> None:
        url, sse = self._options.url, isinstance(self._transport, SSETransport)
        if url is not None:
            self._options.memory.put(url, "sse" if sse else "modern" if self._conversation.modern else "legacy")

    async def _probe_or_shake_hands(self) -> None:
        duplex = self._conversation.transport.duplex
        try:
            negotiated = await self._discover(silence_is_legacy=duplex)
        except ConnectionLost as error:
            # Some old servers end at a request that is not `initialize`; a child can be had again.
            if not duplex or not self._can_start_again():
                raise
            logger.debug("the server ended when it was asked what it is: %s", error)
            await self.aclose()
            self._conversation.calls.ended = None
            await self._start(False)
            negotiated = None
        if negotiated is None:
            await self.handshake()
        else:
            self._settle(negotiated)

    async def _discover(self, *, silence_is_legacy: bool, revision: Revision = LATEST_MODERN) -> Negotiated | None:
        limit = min(self._options.timeout or math.inf, probe.PROBE_TIMEOUT)
        return await probe.discover(self._send, timeout=limit, silence_is_legacy=silence_is_legacy, revision=revision)

    def _can_start_again(self) -> bool:
        return isinstance(self._options.target, (str, Sequence))

    async def _start(self, sse: bool) -> None:
        transport = self._transport = self._new_transport(sse)
        self._open.append(transport)
        self._conversation.use(transport, self._options.server)
        await transport.start(self._conversation, self._tasks)

    def _new_transport(self, sse: bool) -> Transport:
        options = self._options
        target = options.target
        if options.url is not None:
            kind = SSETransport if sse else HTTPTransport
            return kind(options.url, self._http(), headers=tuple(options.headers.items()))
        if isinstance(target, ServerHandler):
            from .transports.memory import MemoryTransport

            return MemoryTransport(target)
        if isinstance(target, (str, Sequence)):
            from .transports.stdio import StdioTransport

            command = shlex.split(target) if isinstance(target, str) else list(target)
            return StdioTransport(command, env=options.env, cwd=options.cwd)
        return target

    def _http(self) -> HTTPClient:
        options = self._options
        middleware = list(options.middleware)
        if options.token is not None:
            middleware.append(_innermost(options.token))
        # No limit for the head: a call that is answered in JSON has its head with its result.
        return HTTPClient(ssl=options.ssl, middleware=middleware, head_timeout=None, proxies=options.proxies())

    # --- a server that is not what it was -------------------------------------------------------------------

    async def ask_anew(self, refused: MCPError | None = None) -> None:
        """The server answers as none of its era does: what was remembered is dropped, and it is asked what it is.

        2026-07-28 basic/versioning, Backward Compatibility.  Once for all who come meanwhile, in a task of its own, so
        that nobody's cancellation is everybody's.  `Conversation.eras` tells what came of it.

        Args:
            refused: how it took an `initialize` just now: then there is no need to try another.
        """
        if self._options.url is None or self._is_pinned:
            return
        if self._asking is None:
            self._options.memory.drop(self._options.url)
            if anyio.current_time() < self._not_before:
                return
            self._asking = anyio.Event()
            self._tasks.start_soon(self._ask_anew, self._asking, refused)
        await self._asking.wait()

    async def _ask_anew(self, asking: anyio.Event, refused: MCPError | None) -> None:
        negotiated, transport = self.negotiated, self._transport
        assert negotiated is not None and transport is not None
        try:
            with self._conversation.asking_anew():
                try:
                    with anyio.fail_after(ASKING_LIMIT):
                        await self._find_other(negotiated, refused)
                except (MCPError, TimeoutError) as error:
                    logger.info("%s is no longer what it was, and nothing else: %s", transport.why, error)
                    await self._as_before(negotiated, transport)
                except Exception:  # nobody awaits this task: a fault in it must not take the client with it
                    logger.exception("asking %s anew what it is failed", transport.why)
                    await self._as_before(negotiated, transport)
                self._settled_anew(negotiated)
        finally:
            self._asking = None
            asking.set()

    def _settled_anew(self, before: Negotiated) -> None:
        if self.negotiated is before:
            self._not_before = anyio.current_time() + ASK_AGAIN_AFTER
            return
        self._not_before = -math.inf
        self._conversation.eras += 1
        if self.on_other_era is not None:
            self.on_other_era()

    async def _find_other(self, known: Negotiated, refused: MCPError | None) -> None:
        transport = self._transport
        found = await self._discover(silence_is_legacy=False)
        if found is not None:
            if not known.revision.modern:
                self._settle(found)
        elif refused is not None or known.revision.modern:
            try:
                if refused is not None:
                    raise refused
                await self.handshake()
            except MCPError as error:
                if not probe.means_http_sse(error):
                    raise
                await self._go_by_sse(error)
                assert transport is not None
                await self._close(transport)
        self._remember()

    async def _as_before(self, negotiated: Negotiated, transport: Transport) -> None:
        """Nothing better is known."""
        if self._transport is not transport:
            if self._transport is not None:
                await self._close(self._transport)
            self._transport = transport
            self._conversation.use(transport, self._options.server)
        self._settle(negotiated)

    # --- the handshake --------------------------------------------------------------------------------------

    async def handshake(self, revision: Revision | None = None) -> None:
        """`initialize`, `notifications/initialized`, and the GET stream.  Raises MCPError."""
        conversation = self._conversation
        conversation.revision = None
        wanted = revision or self._options.revision or LATEST_LEGACY
        negotiated = await probe.initialize(
            self._send,
            self._options.info,
            conversation.question_handlers.capabilities,
            timeout=self._options.timeout,
            revision=wanted,
        )
        if self._options.revision is not None and negotiated.revision is not self._options.revision:
            raise ConnectionLost(f"the server speaks {negotiated.revision.name}, not {self._options.revision.name}")
        self._settle(negotiated)
        await conversation.notify(INITIALIZED, timeout=self._options.timeout)
        await conversation.transport.listen()

    def _settle(self, negotiated: Negotiated) -> None:
        self.negotiated = negotiated
        self._conversation.revision = negotiated.revision
        self._conversation.transport.settle(negotiated.revision)

    async def _send(
        self, method: str, params: dict[str, Any], revision: Revision | None, limit: float | None
    ) -> dict[str, Any]:
        return await self._conversation.send_as(revision, ClientRequest(method, params, timeout=limit))


def _innermost(token: str | TokenProvider) -> Middleware:
    """The client's own token has the last word: it is put on where no middleware can change it any more."""
    if isinstance(token, str):
        text = token

        async def provider() -> str | Token:
            return text

        return BearerToken(provider, priority=math.inf)
    return BearerToken(token, priority=math.inf)
