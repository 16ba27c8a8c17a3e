# SPDX-License-Identifier: MIT
"""`Client`: one connection to one MCP server, of any revision, over any transport.

The target chooses the transport: an address is Streamable HTTP (or HTTP+SSE, if the server has nothing newer), a
command is a child process on pipes, a `ServerHandler` runs in this process.  It refuses lists without end.

Rule: results and params are plain dicts in the wire's own words; errors are exceptions, and all of them `MCPError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio

from ..protocol.errors import again
from ..protocol.methods import META_SERVER, ROOTS_CHANGED
from ..protocol.revisions import Revision
from ..telemetry.providers import tracer_of
from ..version import __version__
from .connect import Connecting
from .conversation.cache import ResultCache
from .conversation.callbacks import (
    MAX_QUESTIONS_AT_ONCE,
    Listeners,
    QuestionHandler,
    Roots,
    ServerRequestHandlers,
    check_callbacks,
)
from .conversation.conversation import Conversation
from .conversation.pending import OnNotification, OnRequest, Progress
from .conversation.request import ClientRequest, Negotiated
from .era_watch import EraWatch
from .http.httpclient import Middleware
from .http.middleware import TokenProvider
from .http.outbound import FROM_ENVIRONMENT
from .named_requests import AS_CONFIGURED
from .options import CLOSE_LIMIT, Auth, ClientTarget, Options, revision_named, with_extensions
from .pings import keep_pinging
from .probe import EraMemory
from .subscriptions import ChangeStream, Filter, Subscriptions
from .tasks import TaskCalls
from .transports.base import Transport
from .transports.errors import ConnectionLost

if TYPE_CHECKING:
    import ssl as tls

    from ..protocol import types as wire


class Client(TaskCalls):
    """Use it as ``async with Client(target) as client``; it may be used by many tasks at once.

    Args:
        target: an address (http, https, http+unix), a command as a list or as a shell would split it (no shell is
            used), a `ServerHandler`, or a `Transport` of your own or a function that makes one.
        name, version: of this client, as the server sees them.
        revision: None lets the client find out; a name pins it.
        transport: "http" or "sse" pins the transport to an address; None lets the client find it.
        headers: sent with every request over HTTP.
        token: a bearer token, or a function or coroutine function that gives one; it outranks middleware, which
            outranks headers.
        auth: logs in where the server asks for it, and sends and refreshes the token; an `OAuth`.  Not with `token`.
        middleware: ``async (call, next) -> answer``, as in `middleware`.
        ssl: the TLS context for https.
        proxy: "environment" takes the forward proxy that `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say;
            an address is that of the proxy to take; None connects directly.  No proxy is taken to loopback.
        env, cwd: of a child process; "inherit" gives it the whole environment.
        timeout: seconds that a request may take, and all pages of a list together; None for no limit.  It stands
            still while a callback of this client answers a question of the server's.
        ping_every: seconds between pings, none by default; a server without an answer in `ping_timeout` is lost.
        close_timeout: seconds that leaving may take: a DELETE, or the end of a child process.
        on_sampling, on_elicitation, on_roots: answer the server's questions, ``(params) -> result``, in either era;
            roots may be a list.  A coroutine function runs on the loop, a plain function in a worker thread.  A
            missing callback is not declared as a capability.
        on_log, on_list_changed, on_updated, on_notification: hear the server's notifications: the params, the
            kind ("tools", "prompts", "resources"), the URI, method and params.  A coroutine function, or a plain
            function, which runs on the loop and must not wait.
        capabilities: merged over what follows from the callbacks.
        extensions: the extensions that this client announces: their settings, by identifier.  Results of types that
            only an extension has need `result_types` as well.
        max_questions: of the server that are answered at once; more are refused.
        result_types: the result types of declared extensions.
        memory: the eras of origins; share one among clients.
        cache: results that the server allows to be kept; share one among clients.  Public results are for all of
            them.  A private result is for the client that stored it, and is dropped when that client is left.
        cache_partition: a name of the user, such as an account: clients of one cache that give the same name show each
            other their private results.  One client that serves several users needs a `cache` that keeps nothing.
        tracing: spans of OpenTelemetry: as the setting of a server with this name (docs/observability.md).
    """

    def __init__(
        self,
        target: ClientTarget,
        *,
        name: str = "mcp_h11",
        version: str | None = None,
        revision: str | None = None,
        transport: str | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | TokenProvider | None = None,
        auth: Auth | None = None,
        middleware: Sequence[Middleware] = (),
        ssl: tls.SSLContext | None = None,
        proxy: str | None = FROM_ENVIRONMENT,
        env: Mapping[str, str] | str | None = None,
        cwd: str | None = None,
        timeout: float | None = 60.0,
        ping_every: float | None = None,
        ping_timeout: float = 10.0,
        close_timeout: float = CLOSE_LIMIT,
        on_sampling: QuestionHandler | None = None,
        on_elicitation: QuestionHandler | None = None,
        on_roots: Roots | None = None,
        on_log: Callable[[dict[str, Any]], Any] | None = None,
        on_list_changed: Callable[[str], Any] | None = None,
        on_updated: Callable[[str], Any] | None = None,
        on_notification: Callable[[str, dict[str, Any]], Any] | None = None,
        capabilities: Mapping[str, Any] | None = None,
        extensions: Mapping[str, Mapping[str, Any]] | None = None,
        max_questions: int = MAX_QUESTIONS_AT_ONCE,
        result_types: Collection[str] = (),
        memory: EraMemory | None = None,
        cache: ResultCache | None = None,
        cache_partition: str | None = None,
        tracing: Any = None,
    ) -> None:
        # Mistakes of the program are found here, before anything is connected.
        if not isinstance(cache_partition, str | None):
            raise TypeError(f"cache_partition is a text or None, not {type(cache_partition).__name__}")
        check_callbacks(
            on_log=on_log, on_list_changed=on_list_changed, on_updated=on_updated, on_notification=on_notification,
        )  # fmt: skip
        self._options = Options(
            target=target,
            # Sent to the server: the version is that of the user's program, or else of this package.
            info={"name": name, "version": __version__ if version is None else version},
            revision=revision_named(revision),
            transport=transport,
            headers=dict(headers or {}),
            token=token,
            middleware=tuple(middleware),
            ssl=ssl,
            env=env,
            cwd=cwd,
            timeout=timeout,
            memory=memory or EraMemory(),
            proxy=proxy,
            ping_every=ping_every,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            result_types=result_types,
            auth=auth,
            tracing=tracing,
        )
        declared = with_extensions(capabilities, extensions)
        handlers = ServerRequestHandlers(on_sampling, on_elicitation, on_roots, declared, max_questions)
        self._question_handlers = handlers
        self._listeners = Listeners(on_log, on_list_changed, on_updated, on_notification)
        self._cache = cache or ResultCache()
        self._partition = cache_partition
        # Without a partition: an object that no other client has, and that lives as long as a key that holds it.
        self._owner: Hashable = object() if cache_partition is None else cache_partition
        self._entered = False
        self._end: Exception | None = None
        self._ended: anyio.Event
        self._conversation: Conversation
        self._connecting: Connecting
        self._subscriptions: Subscriptions
        self._watch: EraWatch

    # --- its life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        if self._entered:
            raise RuntimeError("a client is entered once: make another")
        # Task groups and events belong to one event loop, so they are made when that loop runs.
        self._entered = True
        self._ended = anyio.Event()
        self._tasks = anyio.create_task_group()
        # By hand and not by `async with`: the group lives from `__aenter__` to `__aexit__`.
        await self._tasks.__aenter__()
        try:
            self._conversation = Conversation(
                self._tasks, self._options.info, self._question_handlers, self._listeners, self._cache,
                owner=self._owner, result_types=self._options.result_types, tracer=tracer_of(self._options.tracing),
            )  # fmt: skip
            self._connecting = Connecting(self._options, self._conversation, self._tasks)
            follows_lists = bool(self._listeners.on_list_changed or self._listeners.on_notification)
            self._subscriptions = Subscriptions(
                self._conversation, self._tasks, self.request, follows_lists=follows_lists
            )
            self._watch = EraWatch(self._conversation, self._connecting, self._subscriptions, self._tasks)
            # They know each other: a transport that loses its session asks for another by way of the conversation.
            self._conversation.watch = self._watch
            await self._connecting.connect()
            # Set only now: a child process may have ended at a probe and been started again.
            self._conversation.on_end = self._on_end
            if self._conversation.calls.ended is not None:
                raise again(self._conversation.calls.ended)
            await self._begin()
        # Also for a cancellation: a child process or a session must not be left behind.
        except BaseException as error:
            await self._leave(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _begin(self) -> None:
        await self._subscriptions.follow_changes()
        if self._options.ping_every is not None:
            ping = partial(self.ping, timeout=self._options.ping_timeout)
            self._tasks.start_soon(keep_pinging, self._conversation, ping, self._options.ping_every)

    async def _leave(self, error: BaseException | None) -> None:
        """Ends all tasks, connections, child processes and sessions, also after an error."""
        try:
            # Shielded, because a cancelled client still has a session to end; bounded, because a server may not answer.
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._options.close_timeout):
                # It is missing where the constructor of a part failed.
                if hasattr(self, "_conversation"):
                    await self._conversation.calls.until_told()
                    self._conversation.end(ConnectionLost("the client is closed", sent=False))
                    # Named partitions are shared, so their results stay for other clients.
                    if self._partition is None:
                        self._cache.leave(self._owner)
                    await self._connecting.aclose()
        finally:
            self._ended.set()
            self._tasks.cancel_scope.cancel()
            # A cancellation must go through the task group.  Any other error would leave it wrapped in a group.
            if isinstance(error, anyio.get_cancelled_exc_class()):
                await self._tasks.__aexit__(type(error), error, error.__traceback__)
            else:
                await self._tasks.__aexit__(None, None, None)

    def _on_end(self, error: Exception | None) -> None:
        self._end = error
        self._ended.set()

    async def wait_closed(self) -> Exception | None:
        """Waits until the connection is over, by itself or by leaving the client; why, if it was by itself."""
        await self._ended.wait()
        return self._end

    # --- what is known of the server ------------------------------------------------------------------------

    @property
    def _negotiated(self) -> Negotiated:
        if not hasattr(self, "_conversation"):
            raise RuntimeError("the client is not connected")
        return self._conversation.known

    @property
    def revision(self) -> Revision:
        """The negotiated revision."""
        # During a new handshake the revision is not settled: the last one is told.
        return self._conversation.revision or self._negotiated.revision

    @property
    def modern(self) -> bool:
        """Whether that is 2026-07-28 or later: no session, no handshake."""
        return self.revision.modern

    @property
    def server_info(self) -> dict[str, Any]:
        """The name and version of the server, as it sent them; empty if it sent none."""
        return self._negotiated.server_info

    @property
    def server_capabilities(self) -> dict[str, Any]:
        """The capabilities that the server declared."""
        return self._negotiated.capabilities

    @property
    def server_extensions(self) -> dict[str, Any]:
        """The settings of the extensions that the server announced, by identifier."""
        extensions = self.server_capabilities.get("extensions")
        return extensions if isinstance(extensions, dict) else {}

    @property
    def instructions(self) -> str | None:
        """The instructions of the server for models."""
        return self._negotiated.instructions

    @property
    def supported_versions(self) -> tuple[str, ...]:
        """The versions that the server named."""
        return self._negotiated.supported

    @property
    def session_id(self) -> str | None:
        """The id of a session over HTTP; None elsewhere."""
        return getattr(self._conversation.transport, "session_id", None)

    @property
    def transport(self) -> Transport:
        """The way to the server that was found."""
        return self._conversation.transport

    # --- requests -------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = AS_CONFIGURED,
        safe: bool | None = None,
        on_notification: OnNotification | None = None,
        on_request: OnRequest | None = None,
        rounds: bool = True,
        meta: Mapping[str, Any] | None = None,
        owner: Hashable = None,
        mirrored: str | None = None,
    ) -> dict[str, Any]:
        """Any request, by its `method` and `params`; gives its result.

        Args:
            progress: called with (progress, total, message), the last two None where not given; may be a coroutine
                function, and is awaited in order, by the task that made the request.
            timeout: seconds, instead of the client's.
            safe: whether it may be sent again though it may have been executed; None: by what it is.
            on_notification: called with each notification on this request's exchange, or with its progress token; may
                be a coroutine function, which runs beside the request, in order with the client's callbacks.
            on_request: answers the server's questions during this request, instead of the client's callbacks.
            rounds: False returns an `input_required` result as it is.
            meta: more members for `_meta`.
            owner: where one client carries the requests of several others (a bridge), the one that this is for.  On
                one channel for all an answer may name no request; then its text is logged, and no call sees it.
            mirrored: the member of `params` that the header `Mcp-Name` repeats, for a method of an extension that
                demands it; the methods of the protocol and of tasks are known.

        Raises:
            MCPError: the server's error, by the class that its code has; or `ConnectionLost`, `RequestTimeout`,
                `AuthorizationRequired`, `InvalidAnswer`, if no valid answer came.
        """
        # Nearly all requests have no callback of their own, and skip the checks.
        if progress is not None or on_notification is not None or on_request is not None:
            check_callbacks(progress=progress, on_notification=on_notification, on_request=on_request)
        request = ClientRequest(
            method,
            dict(params or {}),
            timeout=self._options.timeout if timeout == AS_CONFIGURED else timeout,
            progress=progress,
            safe=safe,
            on_notification=on_notification,
            on_request=on_request,
            rounds=rounds,
            meta=meta,
            owner=owner,
            mirrored=mirrored,
        )
        return await self._watch.request(request)

    def _request(self, request: ClientRequest) -> Coroutine[Any, Any, dict[str, Any]]:
        """As `request`, for a bridge, which makes the `ClientRequest` itself, with callbacks of its own."""
        return self._watch.request(request)

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Sends the notification `method` with `params`.  Raises MCPError where it is not there within `timeout`."""
        await self._conversation.notify(method, params, timeout=self._options.timeout)

    async def ping(self, *, timeout: float | None = AS_CONFIGURED) -> None:
        """Asks for an answer within `timeout`, and raises where none comes.  In 2026-07-28 it is `server/discover`."""
        seconds = self._options.timeout if timeout == AS_CONFIGURED else timeout

        async def send() -> None:
            await self._conversation.send(ClientRequest("server/discover" if self.modern else "ping", timeout=seconds))

        await self._watch.run(ClientRequest("ping", timeout=seconds), send)

    async def discover(self) -> wire.DiscoverResult:
        """The `server/discover` result; in a session, the answer to the handshake in the same form."""
        if self.modern:
            return cast("wire.DiscoverResult", await self.request("server/discover"))
        negotiated = self._negotiated
        supported, capabilities = list(negotiated.supported), negotiated.capabilities
        said: wire.DiscoverResult = {"supportedVersions": supported, "capabilities": capabilities}
        if negotiated.instructions is not None:
            said["instructions"] = negotiated.instructions
        return {**said, "_meta": {META_SERVER: negotiated.server_info}}

    async def set_log_level(self, level: str) -> None:
        """From which level on the server's log messages are wanted; in 2026-07-28 each request says so from now on."""
        if not self.modern:
            await self.request("logging/setLevel", {"level": level})
        self._conversation.log_level = level

    async def notify_roots_changed(self) -> None:
        """Tells a session that the roots are others; 2026-07-28 asks each time."""
        if not self.modern:
            await self.notify(ROOTS_CHANGED)

    # --- changes --------------------------------------------------------------------------------------------

    async def subscribe(self, uri: str) -> None:
        """From now on `on_updated` hears of the resource `uri`."""
        await self._subscriptions.add(uri)

    async def unsubscribe(self, uri: str) -> None:
        """Ends the subscription to the resource `uri`."""
        await self._subscriptions.remove(uri)

    @asynccontextmanager
    async def listen(self, kinds: Iterable[str] = (), uris: Iterable[str] = ()) -> AsyncIterator[ChangeStream]:
        """Hears of changes: `async for method, params in changes`.

        A stream that is lost is opened again, and a notification for each list and resource then says that it
        may have changed meanwhile.  In a session the stream is a part of the notifications of the session.

        Args:
            kinds: of "tools", "prompts", "resources": changes of these lists.
            uris: resources.
        """
        async with self._subscriptions.listen(Filter(kinds, uris)) as changes:
            yield changes
