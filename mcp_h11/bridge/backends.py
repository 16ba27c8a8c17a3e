# SPDX-License-Identifier: MIT
"""A `Backend`: one connection of a bridge to a server, which is made again whenever it is lost.

The log level and the subscriptions that clients want are kept outside of the connection, in `Interests`, so that the
next connection gets them too.  A backend does not choose its clients: `generations` does.

Rules:
- No wait is without an end: for a connection, for a subscription, for an answer to a ping.
- The stderr of a backend goes to the operator's log alone: it may speak of any client.  A client that loses a call
  learns only how the process ended.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..client.client import Client
from ..client.conversation.cache import ResultCache
from ..client.http.httpclient import HTTPCall, Next
from ..client.http.urls import is_url
from ..client.http.wire import HTTPAnswer
from ..client.targets import Command, Url
from ..client.transports.base import Transport
from ..client.transports.errors import ConnectionLost
from ..handler.handler import ServerHandler
from ..protocol.errors import MCPError, overloaded
from ..protocol.shown import escaping
from .calls import MAX_ASKED, BridgedCall, is_of_a_call
from .interests import Interests
from .supervisor import CrashLoop, Supervisor
from .troubles import NO_ANSWER, for_clients, one_line

if TYPE_CHECKING:
    from ..eras.session import Session

logger = escaping(logging.getLogger(__name__))

DRAIN_TIME = 30.0  # seconds for the calls on a backend that was replaced
START_TIME = 30.0  # for a backend to connect; a command may have to be fetched first
WAIT_TIME = 10.0  # for a call to wait for a backend which is being started again
PING_TIMEOUT = 10.0
MISSED_PINGS = 2  # in a row, then a child is started again
SUBSCRIBE_TIME = 10.0  # for a backend to take a log level or a subscription

_NOT_STARTED = "it was not started yet"

BackendSpec = Command | Url | ServerHandler | Transport
Target = BackendSpec | str | Sequence[str]
_OnNotification = Callable[["Backend", str, dict[str, Any]], None]
_OnRequest = Callable[["Backend", str, dict[str, Any]], Awaitable[dict[str, Any]]]


def spec_of(target: Target) -> BackendSpec:
    """The backend that a target of a `Client` names: an address, or a command as a list or as a shell would split it.

    Raises:
        TypeError: the target is of none of these types; the message lists them.
        ValueError: an address or a command that is malformed.
    """
    if isinstance(target, (Command, Url, ServerHandler)) or _is_transport(target):
        return target  # type: ignore[return-value]
    if isinstance(target, str):
        return Url(target) if is_url(target) else Command(shlex.split(target))
    if isinstance(target, Sequence) and not isinstance(target, (bytes, bytearray)):
        words: list[Any] = list(target)
        if all(isinstance(word, str) for word in words):
            return Command(words)
    raise TypeError(
        "a backend is a Command, a Url, an address (http, https, http+unix), a command as a list of words or as one "
        f"text, a ServerHandler, or a Transport, not {type(target).__name__}"
    )


def _is_transport(target: Any) -> bool:
    # A class has these methods too, but only an object of it is a connection.
    methods = ("start", "send", "cancel", "settle", "listen", "aclose")
    return not isinstance(target, type) and all(callable(getattr(target, name, None)) for name in methods)


def backend_name(spec: BackendSpec) -> str:
    """The name of a backend in a message, without secrets."""
    return spec.name if isinstance(spec, (Command, Url, ServerHandler)) else type(spec).__name__


class NoCache(ResultCache):
    """Keeps nothing: calls of different clients go through one bridge, and one may not see the result of another."""

    def put(self, *args: Any) -> None:
        """Drop it."""


@dataclass
class ServerInfo:
    """The offer of a backend, as clients are told of it: its capabilities, its name, and how to use it."""

    capabilities: dict[str, Any]
    info: dict[str, Any]
    instructions: str | None


@dataclass
class Tally:
    """The numbers of one bridge, for the metrics.

    Attributes:
        restarts: how often a backend was started or connected again after it had ended, with tries that failed.
        swaps: how often an operator or a new configuration replaced the backend.
        failed_swaps: how often the new backend did not start, so that the old one went on.
    """

    restarts: int = 0
    swaps: int = 0
    failed_swaps: int = 0


@dataclass(frozen=True)
class BackendHooks:
    """How backends are connected, and where they report to; the same for all backends of one bridge."""

    ping_every: float | None
    on_notification: _OnNotification  # a notification that came on no call's own exchange
    on_request: _OnRequest  # a question that does not say which call it is for
    prepare: Callable[[Client], Awaitable[None]]  # reads the annotations of tools before clients come
    changed: Callable[[Backend], None]  # the backend has connected, or has lost its connection
    supervisor: Callable[[], Supervisor] = Supervisor
    start_time: float = START_TIME
    wait_time: float = WAIT_TIME
    name: str | None = None  # of the backend, in logs and metrics; None: the name of its command or address
    forwards: bool = False  # headers of the clients' requests are passed on
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class Identity:
    """The client that a backend is told of."""

    capabilities: Mapping[str, Any]
    name: str
    version: str


@dataclass
class Tenant:
    """The clients that a backend works for.

    Attributes:
        key: the session or the principal that the backend belongs to; None where all clients share it.
        session: the session, with a backend for each session.
        party: the client that the limit of backends counts it for.
        alone: every message of the backend concerns one and the same client.
    """

    key: Hashable = None
    session: Session | None = None
    party: str = ""
    alone: bool = False


class Backend:
    """One connection to a server, and its supervision.

    Args:
        spec: the server.
        hooks: the bridge that it belongs to.
        interests: the log level and the resources that clients want of it, which outlive a connection.
        identity: the client that the server is told of.
        tenant: the clients that it works for.
        generation: the `Generation` that it is one of.  It is compared, never used.
        forwarded: the headers that the call of the current task passes on.
        connects: how often it counts as connected before it begins.

    Attributes:
        client: while it is connected, else None.
        runs: the calls on it, oldest first.
        connects: how often it was connected.
        answering: it answered the last ping.
        trouble: why it is not connected, for the log.
        open_until: when it is tried again, while the circuit is open because it kept failing.
        on_trial: it is the new backend of a swap, which is tried once.
        used: when the last call on it began or ended.
        ended: set when it was stopped.
    """

    def __init__(
        self,
        spec: BackendSpec,
        hooks: BackendHooks,
        interests: Interests,
        *,
        identity: Identity,
        tenant: Tenant,
        generation: object,
        forwarded: ContextVar[Mapping[str, str]],
        connects: int = 0,
    ) -> None:
        self.spec = spec
        self.interests = interests
        self.identity = identity
        self.tenant = tenant
        self.generation = generation
        self.connects = connects
        self.client: Client | None = None
        self.runs: dict[BridgedCall, None] = {}
        self.used = time.monotonic()
        self.busy_until = 0.0  # a task may run in it, also while no call does
        self.answering = True
        self.trouble = _NOT_STARTED
        self.open_until: float | None = None
        self.on_trial = False
        self.ended = asyncio.Event()
        self._lost: float | None = None  # when it was lost, if it is away
        self._claimed: Any = None  # params of the notification that a call has just got, see `hearing`
        self._level: str | None = None  # the log level that the server was told last
        self._session_id: str | None = None  # at a server over HTTP
        self._hooks = hooks
        self._forwarded = forwarded
        self._supervisor = hooks.supervisor()
        # A server at an address is started by its own operator: it may be away for a while without having crashed, and
        # asking it again does it no harm.
        self._supervisor.circuit = not isinstance(spec, Url)
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._scope = anyio.CancelScope()

    def used_by(self, session: Session | None) -> None:
        """A call of this session, or of a client without one, comes to this backend."""
        # The object may be another one than before: a session that was read from the store again has the same key.
        if session is not None:
            self.tenant.session = session
        self.used = time.monotonic()

    @property
    def name(self) -> str:
        """The name of the server in a message, without secrets."""
        return self._hooks.name or backend_name(self.spec)

    def log(self, level: int, text: str, *args: object) -> None:
        """A line of the log about this backend; its name stands before the text."""
        # A log of JSON has the name as a field of its own.
        logger.log(level, f"%s {text}", self.name, *args, extra={"backend": self.name})

    # --- from the first connection to the end ----------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is lost, until `stop`."""
        try:
            while not self._stopping.is_set():
                try:
                    await self._live()
                except Exception as exc:
                    self.trouble = one_line(exc)
                if not self._stopping.is_set():
                    await self._pause()
                    self._hooks.tally.restarts += not self._stopping.is_set()
        finally:
            self.client = None
            self.ended.set()
            self._note()

    async def stop(self) -> None:
        """End it, and wait.  A child has 2 s after the end of its input and 5 s after SIGTERM, then SIGKILL."""
        self._stopping.set()
        if self.client is None:
            self._scope.cancel()
        await self.ended.wait()

    async def _live(self) -> None:
        """One connection, from its beginning to its end.  Raises the exception that ended it."""
        with anyio.CancelScope() as self._scope:
            if self._stopping.is_set():
                return
            self._scope.deadline = anyio.current_time() + self._hooks.start_time
            try:
                async with self._made() as client:
                    await self._hooks.prepare(client)
                    await self._restore(client)
                    self._scope.deadline = float("inf")
                    self._up(client)
                    await self._watch(client)
            finally:
                self.client = None
                self._hooks.changed(self)
        if not self._stopping.is_set():
            raise ConnectionLost(f"no connection within {self._hooks.start_time:g} s", sent=False)

    def notice_new_session(self) -> None:
        """Look whether the HTTP client has renewed its session by itself, which counts as another connection.

        The server has forgotten everything about the old session, so its lists may differ as after a reconnect.
        """
        client = self.client
        if client is not None and client.session_id != self._session_id:
            self._session_id = client.session_id
            self.connects += 1
            self._hooks.changed(self)

    async def _watch(self, client: Client) -> None:
        """Wait until the connection is lost or `stop` is called."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_stopped, tasks.cancel_scope)
            if self._hooks.ping_every is not None:
                tasks.start_soon(self._keep_pinging, client, self._hooks.ping_every, tasks.cancel_scope)
            error = await client.wait_closed()
            self.trouble = one_line(error) if error is not None else "it ended"
            self.client = None  # new calls wait for the next connection from here on
            tasks.cancel_scope.cancel()
        if not self._stopping.is_set():
            raise ConnectionLost(self.trouble)

    async def _until_stopped(self, scope: anyio.CancelScope) -> None:
        await self._stopping.wait()
        scope.cancel()

    async def _keep_pinging(self, client: Client, every: float, scope: anyio.CancelScope) -> None:
        missed = 0
        while True:
            await anyio.sleep(every)
            try:
                await client.ping(timeout=PING_TIMEOUT)
                answered = True
            except MCPError as exc:
                answered = not isinstance(exc, NO_ANSWER)  # an error is an answer
            # One missed ping may be a busy server; a child that misses several in a row is started again.
            missed = 0 if answered else missed + 1
            if self.answering != answered:
                self.answering = answered
                self.log(logging.WARNING, "answers pings" if answered else "does not answer pings")
            if missed >= MISSED_PINGS and client.transport.duplex:
                self.trouble = "it does not answer pings"
                scope.cancel()

    async def _pause(self) -> None:
        if self.on_trial:  # the swap says why it failed, and tries no second time
            self._note()
            await self._stopping.wait()
            return
        now = time.monotonic()
        self._lost = now if self._lost is None else self._lost
        try:
            delay = self._supervisor.failed(now)
            self.log(logging.WARNING, "is away: %s; next try in %.1f s", self.trouble, delay)
        except CrashLoop as exc:
            delay = max(0.0, exc.until - now)
            self.open_until = exc.until
            self.log(logging.ERROR, "keeps failing: %s; it is left alone for %.0f s", self.trouble, delay)
        self._note()
        with anyio.move_on_after(delay):
            await self._stopping.wait()
        self.open_until = None

    # --- connecting ------------------------------------------------------------------------------------------

    def _made(self) -> Client:
        identity, spec = self.identity, self.spec
        options: dict[str, Any] = {
            "name": identity.name,
            "version": identity.version,
            "capabilities": identity.capabilities,
            "result_types": ("task",),  # for a client that announced tasks
            "timeout": None,  # the server in front limits the time of a call
            "cache": NoCache(),
            # The client counts the questions of all clients together; the bridge counts them for each.
            "max_questions": MAX_ASKED,
            "on_notification": self._hear,
            "on_sampling": partial(self._hooks.on_request, self, "sampling/createMessage"),
            "on_elicitation": partial(self._hooks.on_request, self, "elicitation/create"),
            "on_roots": partial(self._hooks.on_request, self, "roots/list"),
        }
        # A `Client` declares a capability for each callback; this one may declare only those of its own clients.
        for capability in ("sampling", "elicitation", "roots"):
            if capability not in identity.capabilities:
                del options[f"on_{capability}"]
        if isinstance(spec, (Command, Url)):
            options["revision"] = spec.revision
        if isinstance(spec, Command):
            return Client(list(spec.argv), env=spec.env, cwd=spec.cwd, **options)
        if isinstance(spec, Url):
            return Client(spec.url, headers=spec.headers, token=spec.token, auth=spec.auth, transport=spec.transport,
                          middleware=(self._forward_headers,) if self._hooks.forwards else (), **options)  # fmt: skip
        return Client(spec, **options)

    async def _forward_headers(self, call: HTTPCall, follow: Next) -> HTTPAnswer:
        call.headers.extend(self._forwarded.get({}).items())
        return await follow(call)

    async def _restore(self, client: Client) -> None:
        """Give a new connection the log level and the subscriptions of the one before."""
        self._level = None
        await self._apply_level(client)
        for uri, known in list(self.interests.uris.items()):
            known.told.discard(self)
            if known.sessions and await self._subscribe_again(client, uri):
                known.told.add(self)

    async def _subscribe_again(self, client: Client, uri: str) -> bool:
        try:
            await client.subscribe(uri)
            return True
        except MCPError as exc:
            self.log(logging.WARNING, "does not take the subscription to %.200s any more: %s", uri, exc)
        return False

    def _up(self, client: Client) -> None:
        self.client = client
        self._session_id = client.session_id
        self.connects += 1
        self.answering = True
        self.trouble = ""
        now = time.monotonic()
        self._supervisor.succeeded(now)
        if self._lost is not None:
            # As loud as the line about its end, so that a log which has that one also has this one.
            self.log(logging.WARNING, "is back again after %.1f s", now - self._lost)
            self._lost = None
        self._hooks.changed(self)
        self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def first_outcome(self, limit: float) -> None:
        """Wait until it is connected or has failed once, at most `limit` seconds."""
        with anyio.move_on_after(limit):
            while self.client is None and self.trouble == _NOT_STARTED and not self.ended.is_set():
                await self._changed.wait()

    async def connected(self, limit: float | None = None) -> Client:
        """Wait for a connection, and give its client.  Raises a Refusal, 503, if none is made in time."""
        client = self.client
        if client is not None:
            return client
        with anyio.move_on_after(self._hooks.wait_time if limit is None else limit):
            while self.client is None and self.open_until is None and not self.ended.is_set():
                await self._changed.wait()
        if self.client is None:
            raise overloaded(f"The backend is away: {for_clients(self.trouble)}")
        return self.client

    # --- log level and notifications -------------------------------------------------------------------------

    async def apply_level(self) -> None:
        """Tell a backend with sessions the level that its clients want; one of 2026-07-28 gets it with each request."""
        if self.client is not None:
            await self._apply_level(self.client)

    async def _apply_level(self, client: Client) -> None:
        level = self.interests.level
        if level is None or level == self._level or client.modern or "logging" not in client.server_capabilities:
            return
        self._level = level
        try:
            with anyio.move_on_after(SUBSCRIBE_TIME):
                await client.set_log_level(level)
        except MCPError as exc:
            self.log(logging.WARNING, "does not take the log level %s: %s", level, exc)

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if params is not self._claimed:
            self._hooks.on_notification(self, method, params)

    def hearing(self, call: BridgedCall) -> Callable[[str, dict[str, Any]], None]:
        """The callback for notifications on the exchange of a call: they are for this call alone."""

        def hear(method: str, params: dict[str, Any]) -> None:
            if is_of_a_call(method):
                self._claimed = params  # the client calls `_hear` with this object next
            call.on_notification(method, params)

        return hear
