# SPDX-License-Identifier: MIT
"""`Client`: one connection to one MCP server, of whatever revision, over whatever carries it.

The target says how: an address is Streamable HTTP (or HTTP+SSE, where the server has nothing newer), a command is a
child process on pipes, a `ServerHandler` is asked in this process.  It refuses lists without end.

Rule: results and params are plain dicts in the wire's own words; errors are exceptions, and all of them `MCPError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from ..handler.handler import ServerHandler
from ..protocol.errors import MCPError, again
from ..protocol.methods import META_SERVER, ROOTS_CHANGED
from ..protocol.revisions import REVISIONS, Revision
from ..protocol.shown import escaping
from ..version import __version__
from .cache import ResultCache
from .callbacks import QuestionHandler, Roots, ServerRequestHandlers, check_callbacks
from .connect import Connecting, Options
from .conversation import MAX_PAGES, ClientRequest, Conversation, Listeners, pages_exceeded
from .pending import OnNotification, OnRequest, Progress
from .probe import EraMemory, Negotiated, refuses_handshake
from .subscriptions import ChangeStream, Filter, Listening, Subscriptions
from .transports.base import Transport
from .transports.errors import ConnectionLost, InvalidAnswer, RequestTimeout
from .transports.httpclient import Middleware
from .transports.middleware import TokenProvider
from .transports.outbound import FROM_ENVIRONMENT

if TYPE_CHECKING:
    import ssl as tls

logger = escaping(logging.getLogger(__name__))

# Entries of one list, over all of its pages.
MAX_ITEMS = 100_000
# Bytes of memory that the pages of one list may take together, and of one JSON value in it beside its text.
MAX_LIST_SIZE = 64 * 1024 * 1024
VALUE_SIZE = 64
# Seconds for everything that the end of a client may take: DELETE, or a child that does not want to go.
CLOSE_LIMIT = 15.0
# Seconds for taking back what was subscribed to for one `listen`.
UNSUBSCRIBE_LIMIT = 5.0
# What `timeout` is where a method does not say.
_AS_CONFIGURED = -1.0


class Client:
    """Use it as ``async with Client(target) as client``; it may be used by many tasks at once.

    Args:
        target: an address (http, https, http+unix), a command as a list or as a shell would split it (no shell is
            used), a `ServerHandler`, or a `Transport` of your own.
        name, version: who this client says it is.
        revision: None lets the client find out; a name pins it.
        transport: "http" or "sse" pins what an address is spoken to by; None finds out.
        headers: sent with every request over HTTP.
        token: a bearer token, or a function or coroutine function that gives one; it outranks middleware, which
            outranks headers.
        middleware: ``async (call, next) -> answer``, as in `middleware`.
        ssl: the TLS context for https.
        proxy: "environment" takes the forward proxy that `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say;
            an address is that of the proxy to take; None connects directly.  No proxy is taken to loopback.
        env, cwd: of a child process; "inherit" gives it the whole environment.
        timeout: seconds that a request may take, and all pages of a list together; None for no limit.  It stands
            still while a callback of this client answers a question of the server's.
        ping_every: seconds between pings, none by default; who does not answer within `ping_timeout` is lost.
        close_timeout: seconds that leaving may take: DELETE, or a child that does not want to go.
        on_sampling, on_elicitation, on_roots: answer the server's questions, ``(params) -> result``, in either era;
            roots may be a list.  A coroutine function runs on the loop, a plain function in a worker thread.  What is
            not given is not declared.
        on_log, on_list_changed, on_updated, on_notification: told what the server says by itself: the params, the
            kind ("tools", "prompts", "resources"), the URI, method and params.  A coroutine function, or a plain
            function, which runs on the loop and must not wait.
        capabilities: merged over what follows from the callbacks.
        result_types: those of extensions that you declare.
        memory: what is known of origins; share one among clients.
        cache: results that the server allows to be kept; share one among clients.  Public results are for all of
            them.  A private result is for the client that stored it, and is dropped when that client is left.
        cache_partition: a name of the user, such as an account: clients of one cache that give the same name show each
            other their private results.  One client that serves several users needs a `cache` that keeps nothing.
    """

    def __init__(
        self,
        target: str | Sequence[str] | ServerHandler | Transport,
        *,
        name: str = "mcp_h11",
        version: str | None = None,
        revision: str | None = None,
        transport: str | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | TokenProvider | None = None,
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
        result_types: Collection[str] = (),
        memory: EraMemory | None = None,
        cache: ResultCache | None = None,
        cache_partition: str | None = None,
    ) -> None:
        if revision is not None and revision not in REVISIONS:
            raise ValueError(f"no such revision: {revision!r}; there are {', '.join(REVISIONS)}")
        for seconds in (timeout, ping_every, ping_timeout, close_timeout):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"a number of seconds must be positive, or None for no limit: {seconds!r}")
        if not isinstance(cache_partition, str | None):
            raise TypeError(f"cache_partition is a text or None, not {type(cache_partition).__name__}")
        check_callbacks(
            on_log=on_log, on_list_changed=on_list_changed, on_updated=on_updated, on_notification=on_notification,
        )  # fmt: skip
        if not all(map(callable, middleware)):
            raise TypeError("middleware is a list of coroutine functions: async (call, next) -> answer")
        self._options = Options(
            target,
            {"name": name, "version": __version__ if version is None else version},
            REVISIONS[revision] if revision is not None else None,
            transport,
            dict(headers or {}),
            token,
            tuple(middleware),
            ssl,
            env,
            cwd,
            timeout,
            memory or EraMemory(),
            proxy,
        )
        self._question_handlers = ServerRequestHandlers(on_sampling, on_elicitation, on_roots, capabilities)
        self._listeners = Listeners(on_log, on_list_changed, on_updated, on_notification)
        self._cache = cache or ResultCache()
        self._partition = cache_partition
        # Without a partition: an object that no other client has, and that lives as long as a key that holds it.
        self._owner: Hashable = object() if cache_partition is None else cache_partition
        self._result_types = result_types
        self._ping_every = ping_every
        self._ping_timeout = ping_timeout
        self._close_timeout = close_timeout
        self._timeout = timeout
        self._entered = False
        self._log_level: str | None = None
        self._session_streams: set[ChangeStream] = set()
        self._end: Exception | None = None
        self._ended: anyio.Event
        self._conversation: Conversation
        self._connecting: Connecting
        self._subscriptions: Subscriptions

    # --- its life -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Client:
        if self._entered:
            raise RuntimeError("a client is entered once: make another")
        self._entered = True
        self._ended = anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            self._conversation = Conversation(
                self._tasks,
                self._options.info,
                self._question_handlers,
                self._listeners,
                self._cache,
                owner=self._owner,
                result_types=self._result_types,
            )
            self._connecting = Connecting(self._options, self._conversation, self._tasks)
            self._conversation.on_renew = self._renew
            self._conversation.on_contradiction = self._connecting.ask_anew
            self._connecting.on_other_era = self._go_on_in_another_era
            self._subscriptions = Subscriptions(self._conversation, self._tasks)
            await self._connecting.connect()
            # Only now: a child that ended when it was asked what it is was started again.
            self._conversation.on_end = self._on_end
            if self._conversation.calls.ended is not None:
                raise again(self._conversation.calls.ended)
            await self._begin()
        except BaseException as error:
            await self._leave(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _begin(self) -> None:
        await self._follow_changes()
        if self._ping_every is not None:
            self._tasks.start_soon(self._keep_pinging, self._ping_every)

    async def _follow_changes(self) -> None:
        """2026-07-28: the callbacks hear of what was subscribed to, and of nothing else."""
        if not self.modern:
            return
        told = self._listeners.on_list_changed or self._listeners.on_notification
        try:
            await self._subscriptions.follow_lists([kind for kind in self._lists(changing=True) if told])
        except MCPError as refused:
            logger.warning("changes at %s will not be heard of: %s", self._conversation.transport.why, refused)

    def _lists(self, *, changing: bool = False) -> list[str]:
        """The lists that the server has; or those of them whose changes it tells of."""
        offered = {kind: self.server_capabilities.get(kind) for kind in ("tools", "prompts", "resources")}
        return [
            kind for kind, has in offered.items()
            if isinstance(has, dict) and (not changing or has.get("listChanged") is True)
        ]  # fmt: skip

    async def _leave(self, error: BaseException | None) -> None:
        """Whatever happens, nothing of it is left: no task, no connection, no child, no session."""
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._close_timeout):
                if hasattr(self, "_conversation"):
                    self._conversation.end(ConnectionLost("the client is closed", sent=False))
                    if self._partition is None:
                        self._cache.leave(self._owner)
                    await self._connecting.aclose()
        finally:
            self._ended.set()
            self._tasks.cancel_scope.cancel()
            # A cancellation has to go through the task group; anything else would come out of it as a group.
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

    async def _renew(self) -> None:
        if self.modern:  # a request that was still under way when the server became of another era
            raise ConnectionLost(f"there are no sessions any more at {self._conversation.transport.why}")
        eras = self._conversation.eras
        try:
            await self._connecting.handshake()
        except MCPError as refused:
            if not refuses_handshake(refused):
                raise
            await self._connecting.ask_anew(refused)
            if self._conversation.eras == eras:
                raise
            raise ConnectionLost(f"{self._conversation.transport.why} is of another era now") from None
        # The new session knows nothing of what was said in the old one.
        self._tasks.start_soon(self._say_again)

    def _go_on_in_another_era(self) -> None:
        self._conversation.log_level = self._log_level if self.modern else None
        self._conversation.forget()
        self._subscriptions.forget_stream()
        # As those of 2026-07-28 do: in this era they would hear nothing.
        for changes in self._session_streams:
            changes.end(ConnectionLost(f"{self._conversation.transport.why} is of another era now: listen again"))
        self._tasks.start_soon(self._say_again)

    async def _say_again(self) -> None:
        """What was said before, and to the callbacks that they may have missed something."""
        try:
            if self.modern:
                await self._follow_changes()
            elif self._log_level is not None:
                await self.request("logging/setLevel", {"level": self._log_level})
            for uri in [] if self.modern else list(self._subscriptions.uris):
                await self.request("resources/subscribe", {"uri": uri})
        except MCPError as error:
            logger.warning("what was said to %s before could not be said again: %s", self._conversation.transport.why,
                           error)  # fmt: skip
        # Another session may be that of another server.
        for missed in Filter(self._lists(), self._subscriptions.uris).everything():
            self._conversation.deliver(*missed, said=False)

    async def _keep_pinging(self, every: float) -> None:
        while self._conversation.calls.ended is None:
            await anyio.sleep(every)
            try:
                await self.ping(timeout=self._ping_timeout)
            except MCPError as error:
                if not isinstance(error, ConnectionLost) and error.code not in (-32000, -32001):
                    continue  # an error is an answer
                why = self._conversation.transport.why
                logger.warning("no answer to a ping from %s: %s", why, error)
                gone = ConnectionLost(f"{why} does not answer pings")
                if self._conversation.transport.duplex:
                    self._conversation.closed(gone)
                else:
                    # Over HTTP the next request is a new try.
                    self._conversation.calls.fail(gone)

    # --- what is known of the server ------------------------------------------------------------------------

    @property
    def _negotiated(self) -> Negotiated:
        negotiated = self._connecting.negotiated if hasattr(self, "_connecting") else None
        if negotiated is None:
            raise RuntimeError("the client is not connected")
        return negotiated

    @property
    def revision(self) -> Revision:
        """What was agreed on."""
        return self._conversation.revision or self._negotiated.revision

    @property
    def modern(self) -> bool:
        """Whether that is 2026-07-28 or later: no session, no handshake."""
        return self.revision.modern

    @property
    def server_info(self) -> dict[str, Any]:
        """Who the server says it is; empty where it does not say."""
        return self._negotiated.server_info

    @property
    def server_capabilities(self) -> dict[str, Any]:
        """What it offers."""
        return self._negotiated.capabilities

    @property
    def instructions(self) -> str | None:
        """What it wants models to know."""
        return self._negotiated.instructions

    @property
    def supported_versions(self) -> tuple[str, ...]:
        """The versions that it named."""
        return self._negotiated.supported

    @property
    def session_id(self) -> str | None:
        """Of a session over HTTP; None elsewhere."""
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
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
        safe: bool | None = None,
        on_notification: OnNotification | None = None,
        on_request: OnRequest | None = None,
        rounds: bool = True,
        meta: Mapping[str, Any] | None = None,
        owner: Hashable = None,
    ) -> dict[str, Any]:
        """Any request; gives its result.

        Args:
            progress: called with (progress, total, message), the last two None where not given; may be a coroutine
                function, and is awaited in order, by the task that made the request.
            timeout: seconds, instead of the client's.
            safe: whether it may be sent again though it may have been executed; None: by what it is.
            on_notification: called with what came on this request's own exchange, or names its progress token; may be a
                coroutine function, which runs beside the request, in order with the client's callbacks.
            on_request: answers the server's questions during this request, instead of the client's callbacks.
            rounds: False returns an `input_required` result as it is.
            meta: more members for `_meta`.
            owner: where one client carries the requests of several others (a bridge), the one that this is for.  On
                one channel for all an answer may name no request; then its text is logged, and no call sees it.

        Raises:
            MCPError: the server's error, by the class that its code has; or `ConnectionLost`, `RequestTimeout`,
                `AuthorizationRequired`, `InvalidAnswer`, for what came of it instead of an answer.
        """
        if progress is not None or on_notification is not None or on_request is not None:
            check_callbacks(progress=progress, on_notification=on_notification, on_request=on_request)
        request = ClientRequest(
            method,
            dict(params or {}),
            self._timeout if timeout == _AS_CONFIGURED else timeout,
            progress,
            safe,
            on_notification,
            on_request,
            rounds,
            meta,
            owner=owner,
        )
        return await self._conversation.request(request)

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Sends a notification.  Raises MCPError where it did not get there within the client's `timeout`."""
        await self._conversation.notify(method, params, timeout=self._timeout)

    async def list_tools(
        self,
        *,
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
    ) -> list[dict[str, Any]]:
        """All pages, within `timeout` together.

        Tools whose `x-mcp-header` annotations are wrong are left out where they would be used.
        """
        return await self._pages("tools/list", "tools", timeout)

    async def list_resources(
        self,
        *,
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
    ) -> list[dict[str, Any]]:
        """All pages, within `timeout` together."""
        return await self._pages("resources/list", "resources", timeout)

    async def list_resource_templates(
        self,
        *,
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
    ) -> list[dict[str, Any]]:
        """All pages, within `timeout` together."""
        return await self._pages("resources/templates/list", "resourceTemplates", timeout)

    async def list_prompts(
        self,
        *,
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
    ) -> list[dict[str, Any]]:
        """All pages, within `timeout` together."""
        return await self._pages("prompts/list", "prompts", timeout)

    async def _pages(self, method: str, member: str, timeout: float | None) -> list[dict[str, Any]]:  # noqa: ASYNC109
        """The entries of all pages.

        One budget of entries, of memory and of time is for the whole walk: a server that gives a page each time, and
        each time another cursor, ends in an error and not in a client without memory.
        """
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        size = 0
        seconds = self._timeout if timeout == _AS_CONFIGURED else timeout
        end = math.inf if seconds is None else anyio.current_time() + seconds
        for _ in range(MAX_PAGES):
            result = await self._page(method, params, seconds, end)
            items = result.get(member)
            if not isinstance(items, list):
                raise InvalidAnswer(f"{method} was answered without {member}")
            # "an empty string is a valid cursor": only its absence is the end.  Null is what some serialisers write.
            cursor = result.get("nextCursor")
            found += items
            if len(found) > MAX_ITEMS:
                raise InvalidAnswer(f"{method} has more than {MAX_ITEMS} entries")
            # A list of one page is as large as one answer may be, and is not measured.
            if cursor is not None or size:
                size += self._memory(result)
            if size > MAX_LIST_SIZE:
                raise InvalidAnswer(f"the pages of {method} take more than {MAX_LIST_SIZE} bytes together")
            if cursor is None:
                return found
            params = {"cursor": cursor}
        raise pages_exceeded(method, MAX_PAGES)

    async def _page(self, method: str, params: dict[str, Any], seconds: float | None, end: float) -> dict[str, Any]:
        if seconds is None:
            return await self.request(method, params, timeout=None)
        late = f"no answer to {method} within {seconds:g} s"
        left = end - anyio.current_time()
        if left <= 0:
            raise RequestTimeout(f"{late}, all pages together")
        try:
            return await self.request(method, params, timeout=left)
        except RequestTimeout:
            if not params:
                raise
            raise RequestTimeout(f"{late}, all pages together") from None

    def _memory(self, result: dict[str, Any]) -> int:
        """About what it takes, in bytes: each value is an object beside the text of it.  Commas in texts count too."""
        text = self._conversation.json.dumps(result)
        return len(text) + VALUE_SIZE * sum(map(text.count, (b",", b":", b"[", b"{")))

    async def read_resource(self, uri: str) -> dict[str, Any]:
        """``{"contents": [...]}``.  Raises ResourceNotFound in either era."""
        return await self.request("resources/read", {"uri": uri})

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> dict[str, Any]:
        """``{"messages": [...]}``"""
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = dict(arguments)
        return await self.request("prompts/get", params)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = _AS_CONFIGURED,  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """``{"content": [...], "structuredContent": ..., "isError": ...}``: a tool's own error is a result."""
        params = {"name": name, "arguments": dict(arguments or {})}
        return await self.request("tools/call", params, progress=progress, timeout=timeout)

    async def complete(
        self, ref: Mapping[str, Any], argument: Mapping[str, str], context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """``{"values": [...], "total": ..., "hasMore": ...}``, the `completion` of the result.

        Args:
            ref: ``{"type": "ref/prompt", "name": ...}`` or ``{"type": "ref/resource", "uri": ...}``.
            argument: ``{"name": ..., "value": ...}``.
            context: ``{"arguments": {...}}`` that are known already.
        """
        params: dict[str, Any] = {"ref": dict(ref), "argument": dict(argument)}
        if context is not None:
            params["context"] = dict(context)
        result = await self.request("completion/complete", params)
        completion = result.get("completion")
        if not isinstance(completion, dict):
            raise InvalidAnswer("completion/complete was answered without a completion")
        return completion

    async def ping(self, *, timeout: float | None = _AS_CONFIGURED) -> None:  # noqa: ASYNC109
        """Whether the server answers.  2026-07-28 has no ping: there it is `server/discover`, never from the cache."""
        seconds = self._timeout if timeout == _AS_CONFIGURED else timeout

        async def send() -> None:
            await self._conversation.send(ClientRequest("server/discover" if self.modern else "ping", timeout=seconds))

        await self._conversation.in_its_era(ClientRequest("ping", timeout=seconds), send)

    async def discover(self) -> dict[str, Any]:
        """The `server/discover` result; of a session what its handshake said, in the same words."""
        if self.modern:
            return await self.request("server/discover")
        negotiated = self._negotiated
        said: dict[str, Any] = {
            "supportedVersions": list(negotiated.supported),
            "capabilities": negotiated.capabilities,
        }
        if negotiated.instructions is not None:
            said["instructions"] = negotiated.instructions
        return {**said, "_meta": {META_SERVER: negotiated.server_info}}

    async def set_log_level(self, level: str) -> None:
        """From which level on the server's log messages are wanted; in 2026-07-28 each request says so from now on."""
        if self.modern:
            self._conversation.log_level = level
        else:
            await self.request("logging/setLevel", {"level": level})
        self._log_level = level

    async def notify_roots_changed(self) -> None:
        """Tells a session that the roots are others; 2026-07-28 asks each time."""
        if not self.modern:
            await self.notify(ROOTS_CHANGED)

    # --- changes --------------------------------------------------------------------------------------------

    async def subscribe(self, uri: str) -> None:
        """From now on `on_updated` hears of this resource."""
        if self.modern:
            await self._subscriptions.add(uri)
        else:
            await self.request("resources/subscribe", {"uri": uri})
            self._subscriptions.uris[uri] = None

    async def unsubscribe(self, uri: str) -> None:
        """No longer."""
        if self.modern:
            await self._subscriptions.remove(uri)
        else:
            self._subscriptions.uris.pop(uri, None)
            await self.request("resources/unsubscribe", {"uri": uri})

    @asynccontextmanager
    async def listen(self, kinds: Iterable[str] = (), uris: Iterable[str] = ()) -> AsyncIterator[ChangeStream]:
        """Hears of changes: `async for method, params in changes`.

        A stream that is lost is opened again, and a notification for each thing that was asked for says then that it
        may have changed meanwhile.  In a session it is what the session sends anyway.

        Args:
            kinds: of "tools", "prompts", "resources": changes of these lists.
            uris: resources.
        """
        wanted = Filter(kinds, uris)
        if self.modern:
            listening = Listening(self._conversation, wanted, private=True)
            await listening.open(self._tasks)
            try:
                yield listening.changes
            finally:
                listening.close()
            return
        async with self._listen_in_session(wanted) as changes:
            yield changes

    @asynccontextmanager
    async def _listen_in_session(self, wanted: Filter) -> AsyncIterator[ChangeStream]:
        changes = ChangeStream()
        self._session_streams.add(changes)

        def on_notification(method: str, params: dict[str, Any]) -> None:
            if wanted.wants(method, params):
                changes.put(method, params)

        fresh = [uri for uri in wanted.uris if uri not in self._subscriptions.uris]
        listeners = self._conversation.extra_listeners
        listeners.append(on_notification)
        try:
            for uri in fresh:
                await self.subscribe(uri)
            changes.honoured = wanted.to_json()
            yield changes
        finally:
            listeners.remove(on_notification)
            self._session_streams.discard(changes)
            changes.end()
            # Also for who is cancelled: the session goes on.
            with anyio.CancelScope(shield=True), anyio.move_on_after(UNSUBSCRIBE_LIMIT):
                for uri in fresh:
                    try:
                        await self.unsubscribe(uri)
                    except MCPError as error:  # noqa: PERF203
                        logger.debug("not unsubscribed from %s: %s", uri, error)
