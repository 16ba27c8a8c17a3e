# SPDX-License-Identifier: MIT
"""The messages between a client and one server, over any transport.

Requests are written in the form of the negotiated revision.  Incoming messages go to the call, the callback or the
question handler that they belong to.  Requests of 2026-07-28 are sent once more where the specification says so: after
a refusal of their headers or their version, after a lost connection, and with the answers to questions.

It refuses to send a request while the era of the server is being asked for.

Rule: the methods of `Receiver` never wait; work that takes time runs in a task of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from ...http.headers import request_headers
from ...protocol.errors import HeaderMismatch, InvalidParams, MCPError, UnsupportedProtocolVersion, again
from ...protocol.jsonrpc import JSON, ErrorResponse, Message, Notification, Response
from ...protocol.methods import (
    CACHEABLE,
    CANCELLED,
    CHANGED_LIST,
    LISTS,
    LOG_MESSAGE,
    META_CAPABILITIES,
    META_CLIENT,
    META_LOG_LEVEL,
    META_SUBSCRIPTION,
    META_VERSION,
    PROGRESS,
    RESOURCE_UPDATED,
)
from ...protocol.revisions import MODERN, Revision
from ...protocol.shown import escaping
from ..transports.base import Outgoing, Transport
from ..transports.errors import ConnectionLost, RequestTimeout
from .arrivals import Arrivals
from .cache import ResultCache
from .callbacks import Listeners, NotificationQueue, ServerRequestHandlers
from .input_required import check_result_type, play
from .pending import Calls, OnNotification, PendingCall
from .questions import Questions
from .request import ClientRequest, Negotiated
from .seldom import Seldom
from .tools import KnownTools

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

MAX_PAGES = 1_000  # of one list
# Seconds for a request or a notification that has no other limit.
SEND_LIMIT = 60.0

# Mirror headers that are kept, and characters of the name of a tool whose headers are.
MAX_KEPT_HEADERS = 64
MAX_KEPT_NAME = 256

# Methods without further effect when they are executed twice.
_SAFE = CACHEABLE | {"prompts/get", "completion/complete", "ping", "logging/setLevel"}
_SAFE |= {"resources/subscribe", "resources/unsubscribe"}


class Watch(Protocol):
    """The part of `EraWatch` that a conversation uses.  `EraWatch` itself holds the conversation."""

    async def ask_anew(self, refused: MCPError | None = None) -> None:
        """Asks the server which era it is of, after an answer that contradicts the negotiated one."""

    async def renew_session(self) -> None:
        """Begins a new session in the place of one that the server has forgotten."""


class Conversation:
    """The messages of one client; transports know it as their `Receiver`.

    Attributes:
        revision: the form of requests; None during a handshake, and before the first one.
        negotiated: the last answer of the server to a probe or a handshake; None before it.
        is_known: the era of the server is known, and not being asked for: requests may leave.
        log_level: the lowest level of log messages that is wanted; requests of 2026-07-28 name it themselves.
        watch: renews sessions, and asks the server for its era again; set before a transport starts.
        on_end: called once when the transport is over.
    """

    watch: Watch

    def __init__(
        self,
        tasks: TaskGroup,
        info: dict[str, Any],
        question_handlers: ServerRequestHandlers,
        listeners: Listeners,
        cache: ResultCache,
        *,
        owner: Hashable = None,
        result_types: Collection[str] = (),
        tracer: Any = None,
    ) -> None:
        self.json = JSON()
        self.revision: Revision | None = None
        self.negotiated: Negotiated | None = None
        self.log_level: str | None = None
        self.on_end: Callable[[Exception | None], None] | None = None
        self.extra_listeners: list[OnNotification] = []
        self.known_tools = KnownTools()
        self.calls = Calls(self.json, tasks)
        self._arrivals = Arrivals(tasks, self._on_message)
        self.questions = Questions(question_handlers, self.calls, self.json, tasks)
        self._call = self.calls.call
        if tracer is not None:
            from .spans import in_spans  # only a program that wants spans loads it

            self._call = in_spans(tracer, self)
        self.notification_queue = NotificationQueue(tasks)
        self._seldom = Seldom(logger)
        self._info = info
        self._listeners = listeners
        self._cache = cache
        self._server: Hashable = None
        self._owner = owner
        self._result_types = frozenset(result_types)
        self._headers: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        # The era of the server is known: requests may leave.  While it is not, they wait for the event.
        self.is_known = True
        self._known = anyio.Event()

    @property
    def transport(self) -> Transport:
        """The way to the server."""
        assert self.calls.transport is not None
        return self.calls.transport

    def use(self, transport: Transport, server: Hashable) -> None:
        """Sends all messages by this transport from now on.  `server` is the key of the server in the cache."""
        self.calls.use(transport)
        self._server = server

    @property
    def known(self) -> Negotiated:
        """The answer to the last probe or handshake.  Raises RuntimeError before there is one."""
        if self.negotiated is None:
            raise RuntimeError("the client is not connected")
        return self.negotiated

    @property
    def modern(self) -> bool:
        """Whether requests have the form of 2026-07-28 or later."""
        return self.revision is not None and self.revision.modern

    # --- going out ------------------------------------------------------------------------------------------

    @contextmanager
    def requests_held(self) -> Iterator[None]:
        """Holds back all requests while the block runs: the form of a request depends on the era that it asks for."""
        self._known = anyio.Event()
        self.is_known = False
        try:
            yield
        finally:
            self.is_known = True
            self._known.set()

    async def until_known(self, request: ClientRequest) -> None:
        """Waits while requests are held back.  Raises RequestTimeout past the time of this request."""
        if self.is_known:
            return
        with anyio.move_on_after(request.timeout):
            await self._known.wait()
            return
        raise RequestTimeout(f"no answer to {request.method} within {request.timeout:g} s")

    async def request(self, request: ClientRequest) -> dict[str, Any]:
        """Sends a request and gives its result; from the cache, and after the server's questions, in 2026-07-28.

        Raises:
            MCPError: the request failed, or contradicts the era of the server: see `EraWatch.run`.
        """
        # The cache and the rounds are of 2026-07-28; a session has neither.
        if not self.modern:
            return self._learn(request, await self.send(request))
        # `rounds=False` is for a bridge, which passes results on as they are and keeps none.
        kept = self._cache.get(self._server, self._owner, request.method, request.params) if request.rounds else None
        if kept is not None:
            return self._learn(request, kept)
        result = first = await self._reliably(request, {})
        result_types = self._result_types
        if request.announces:
            result_types = result_types.union(*request.announces.values())
        if not check_result_type(request.method, first, result_types):
            pass  # no questions
        elif request.rounds:
            again = partial(self._reliably, request)
            answer = partial(self.questions.answer, request.on_request)
            result = await play(request.method, first, answer, again, extra=result_types)
        result = self._learn(request, result)
        # "Clients MUST NOT cache" the result of a retry with answers (2026-07-28 server/utilities/caching).
        if result is first and result.get("resultType") != "input_required" and "inputResponses" not in request.params:
            self._cache.put(self._server, self._owner, request.method, request.params, result)
        return result

    def _learn(self, request: ClientRequest, result: dict[str, Any]) -> dict[str, Any]:
        # Also for results from the cache: another client may have stored them, and this one learns of the tools.
        if request.method == "tools/list" and isinstance(result.get("tools"), list):
            result["tools"] = self.known_tools.learn(
                result["tools"], mirrored=self.modern and not self.transport.duplex
            )
        return result

    async def _reliably(self, request: ClientRequest, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request, and once more for each reason that the specification gives."""
        tried: set[str] = set()

        def again(reason: str, possible: bool) -> bool:
            if not possible or reason in tried:
                return False
            tried.add(reason)
            return True

        while True:
            try:
                return await self.send(request, extra)
            except HeaderMismatch:  # noqa: PERF203
                # "the client SHOULD refresh its tool list and retry" (streamable-http, Client Behavior).
                if not again("headers", request.method == "tools/call" and not self.transport.duplex):
                    raise
                # Reading the list may take the time of one request.  After that the call goes with the known headers.
                with anyio.move_on_after(SEND_LIMIT if request.timeout is None else request.timeout):
                    await self._refresh(request.params.get("name"))
            except UnsupportedProtocolVersion as error:
                if not again("version", self._adopt(error)):
                    raise
            except ConnectionLost as error:
                # A lost request "MAY" be made anew, under a new id (2026-07-28 changelog 9).
                if not again("lost", error.sent and self.is_safe(request) and self.calls.ended is None):
                    raise

    def _adopt(self, error: UnsupportedProtocolVersion) -> bool:
        supported = error.data.get("supported") if isinstance(error.data, dict) else None
        mutual = [MODERN[name] for name in supported if name in MODERN] if isinstance(supported, list) else []
        if mutual:
            # The server's order is its preference.
            self.revision = mutual[0]
            self.transport.settle(mutual[0])
        return bool(mutual)

    async def _refresh(self, name: Any) -> None:
        """Reads the list of tools again, up to the page with this tool."""
        # The kept list is the one that the server has just contradicted.
        self._cache.drop(self._server, ("tools/list",))
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            request = ClientRequest("tools/list", params, timeout=SEND_LIMIT)
            result = self._learn(request, await self.send(request))
            cursor = result.get("nextCursor")
            if cursor is None or any(tool["name"] == name for tool in result.get("tools", ())):
                return
            params = {"cursor": cursor}

    def is_safe(self, request: ClientRequest) -> bool:
        """Whether the request may be sent again though the server may have executed it."""
        if request.safe is not None:
            return request.safe
        return request.method in _SAFE or (
            request.method == "tools/call" and self.known_tools.repeatable(request.params.get("name"))
        )

    async def send(self, request: ClientRequest, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Sends one request in the form of the negotiated revision, and waits for its result.  Raises MCPError."""
        if not self.is_known:
            await self.until_known(request)
        return await self.send_as(self.revision, request, extra)

    async def send_as(
        self, revision: Revision | None, request: ClientRequest, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As `send`, in the form of that revision; None before a revision is negotiated.  Raises MCPError."""
        call = PendingCall(
            self.calls.next_id(), request.method, request.progress, request.on_notification, request.on_request
        )
        # Plain attributes, since only subscriptions and bridges set them.
        call.private = request.private
        call.owner = request.owner
        params = dict(request.params)
        if extra:
            params.update(extra)
        meta = {**(params.pop("_meta", None) or {}), **(request.meta or {})}
        if request.progress is not None or (
            request.on_notification is not None and request.method != "subscriptions/listen"
        ):
            # Servers send progress only to a token.  Other notifications of the call name it as well.
            meta.setdefault("progressToken", call.id)
        headers: Sequence[tuple[str, str]] = ()
        if revision is not None and revision.modern:
            meta = self._signed(meta, revision, request.announces)
            if not self.calls.duplex:
                # Closing the exchange is the cancellation, so that no notification is sent.
                call.silent = True
                headers = self._mirrored(request.method, params, revision, request.mirrored)
        if meta:
            params["_meta"] = meta
        result: dict[str, Any] = await self._call(
            call, params, headers=headers, safe=self.is_safe(request), timeout=request.timeout
        )
        return result

    def _mirrored(
        self, method: str, params: Mapping[str, Any], revision: Revision, member: str | None = None
    ) -> Sequence[tuple[str, str]]:
        name = params.get("name") if method == "tools/call" else None
        tool = self.known_tools.headers(name) if name is not None else None
        # The headers of a tool that repeats no argument depend on its name alone.
        key = (name, revision.name) if type(name) is str and not tool and len(name) <= MAX_KEPT_NAME else None
        found = None if key is None else self._headers.get(key)
        if found is None:
            try:
                found = tuple(request_headers(method, params, revision.name, tool, member))
            except ValueError as error:
                raise InvalidParams(str(error)) from None
            if key is not None:
                if len(self._headers) >= MAX_KEPT_HEADERS:
                    self._headers.clear()
                self._headers[key] = found
        return found

    def _signed(self, meta: dict[str, Any], revision: Revision, announces: Collection[str] = ()) -> dict[str, Any]:
        """The `_meta` with client, version and capabilities (2026-07-28 basic/index, _meta).  Do not change it."""
        capabilities = self.questions.handlers.capabilities
        if "roots" in capabilities:
            capabilities = {**capabilities, "roots": {}}  # 2026-07-28 removed `listChanged`
        if announces:
            named: dict[str, Any] = {name: {} for name in announces}
            capabilities = {**capabilities, "extensions": {**(capabilities.get("extensions") or {}), **named}}
        signed = {**meta, META_VERSION: revision.name}
        # A bridge names its own client in the request, so that is kept.
        signed.setdefault(META_CLIENT, self._info)
        signed.setdefault(META_CAPABILITIES, capabilities)
        if self.log_level is not None:
            signed.setdefault(META_LOG_LEVEL, self.log_level)
        return signed

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = SEND_LIMIT,
    ) -> None:
        """Sends a notification.

        Raises:
            MCPError: it could not be delivered.
            RequestTimeout: the server did not accept it in time.
        """
        if self.calls.ended is not None:
            raise again(self.calls.ended)
        headers: Sequence[tuple[str, str]] = ()
        if self.revision is not None and self.modern:
            meta = self._signed((params or {}).get("_meta") or {}, self.revision)
            params = {**(params or {}), "_meta": meta}
            headers = () if self.transport.duplex else self._mirrored(method, params, self.revision)
        payload = self.json.notification(method, None if params is None else dict(params))
        with anyio.move_on_after(timeout):
            await self.transport.send(Outgoing(payload, method, None, headers))
            return
        raise RequestTimeout(f"{method} was not taken within {timeout:g} s")

    # --- Receiver -------------------------------------------------------------------------------------------

    def message(self, message: Message, via: int | str | None) -> None:
        """Takes an incoming message."""
        self._arrivals.came(message, via)

    def _on_message(self, message: Message, via: int | str | None) -> None:
        """Hands a message to its call, its callbacks or the questions."""
        try:
            if isinstance(message, (Response, ErrorResponse)):
                self.calls.answered(message, via)
            elif isinstance(message, Notification):
                self._on_notification(message.method, message.params, via)
            else:
                self.questions.receive(message, via, modern=self.modern)
        except Exception:
            # The task that reads must live on: one message that cannot be handled is not the end of the others.
            self._seldom.exception("handling a message from %s failed, so it was dropped", self.transport.why)

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        """No answer will come to this request; None if it is unknown which of the waiting requests lost its answer."""
        self.calls.lost(request_id, error)

    def closed(self, error: Exception | None) -> None:
        """The transport has ended, and every call ends with it."""
        self._arrivals.flush()
        if error is None:  # ended by this client: it is closing, or tries another transport
            return
        if not isinstance(error, MCPError):
            error = ConnectionLost(f"the connection to {self.transport.why} is over: {error}")
        if self.calls.ended is None and self.on_end is not None:
            self.on_end(error)
        self.calls.end(error)

    async def renewed(self) -> None:
        """The server has forgotten the session: the handshake begins another."""
        await self.watch.renew_session()

    # --- notifications --------------------------------------------------------------------------------------

    def _on_notification(self, method: str, params: dict[str, Any], via: int | str | None) -> None:
        call = self.calls.find(via)
        if method == CANCELLED:
            self._cancelled(params)
        elif method == PROGRESS:
            call = self.calls.progressed(params) or call
        elif call is None:
            subscription = (params.get("_meta") or {}).get(META_SUBSCRIPTION)
            call = self.calls.find(subscription)
        if method in CHANGED_LIST:
            self._cache.drop(self._server, LISTS[CHANGED_LIST[method]])
        elif method == RESOURCE_UPDATED and isinstance(params.get("uri"), str):
            self._cache.drop(self._server, ("resources/read",), params["uri"])
        if call is not None and call.on_notification is not None:
            self.notification_queue.deliver(call.on_notification, method, params)
        # The client's callbacks have a stream of their own, and would hear it twice.
        if call is None or not call.private:
            self.deliver(method, params)

    def deliver(self, method: str, params: dict[str, Any], *, said: bool = True) -> None:
        """Hands a notification to the callbacks of the client.

        Args:
            said: whether the server sent it.  `on_notification` hears no notifications that the client made up to say
                that something may have changed.
        """
        listeners, deliver = self._listeners, self.notification_queue.deliver
        if method == LOG_MESSAGE:
            deliver(listeners.on_log, params)
        elif method in CHANGED_LIST:
            deliver(listeners.on_list_changed, CHANGED_LIST[method])
        elif method == RESOURCE_UPDATED and isinstance(params.get("uri"), str):
            deliver(listeners.on_updated, params["uri"])
        if said:
            deliver(listeners.on_notification, method, params)
        # A copy, because a listener may leave while it is called.
        for listener in list(self.extra_listeners):
            listener(method, params)

    def forget(self) -> None:
        """Drops the cached results of this server, because a notification of a change may have been missed."""
        self._cache.drop(self._server, tuple(CACHEABLE))

    def _cancelled(self, params: dict[str, Any]) -> None:
        request_id = params.get("requestId")
        self.questions.cancel(request_id)
        call = self.calls.find(request_id)
        if call is not None and call.method == "subscriptions/listen":
            # On pipes this is how a server ends a subscription (2026-07-28 basic/utilities/cancellation).
            call.finish({"resultType": "complete"})

    def end(self, error: MCPError) -> None:
        """Ends all calls with this error, and closes all queues, because the client is closing."""
        self.calls.end(error)
        self.notification_queue.close()
        self.questions.close()
        self.known_tools.close()
        self._seldom.close()
