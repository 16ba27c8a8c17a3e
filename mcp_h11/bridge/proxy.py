# SPDX-License-Identifier: MIT
"""`ProxyHandler`: a handler whose answers come from another server, whatever carries it and whatever it speaks.

    serve(ProxyHandler(Command(["npx", "-y", "some-server"])))     stdio to HTTP
    serve_stdio(ProxyHandler(Url("https://example.com/mcp")))      HTTP to stdio

Clients and backend may be of different eras: a question of the backend becomes a request to a client with a session, an
input round for one without, and the other way round.

A message that a backend sends on its own reaches a client by something of that client's own request: its progress
token, its HTTP exchange, its subscription.  A backend that works for one client alone needs nothing of that.  From a
shared backend every other log message and unknown notification reaches no client, and every other question is refused.
Which calls run at the moment never decides, since a message may belong to a call that has ended.  docs/proxy.md has the
table.

Rules:
- The backend is where the operator says, and nothing that comes from the network changes that.
- The credentials of a client are not passed on.
- `swap` is one assignment: a call sees one backend from its beginning to its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..client.client import Client
from ..client.targets import Command, Url
from ..handler.context import Context, exchange_of
from ..handler.handler import Params, ServerHandler
from ..handler.notices import Notice
from ..handler.questions import InputRequired
from ..http.auth import TOKEN_HOLDER, subject
from ..protocol.errors import INTERNAL_ERROR, InvalidParams, MCPError, MethodNotFound, overloaded
from ..protocol.jsonrpc import JSON
from ..protocol.methods import (
    CHANGED_LIST,
    LEVELS,
    LIST_CHANGED,
    LOG_MESSAGE,
    META_CAPABILITIES,
    META_CLIENT,
    META_LOG_LEVEL,
    META_SERVER,
    META_VERSION,
    METHODS,
    RESOURCE_UPDATED,
    log_rank,
)
from ..protocol.shown import escaping
from ..version import __version__
from .backends import (
    DRAIN_TIME,
    START_TIME,
    WAIT_TIME,
    WISH_TIME,
    Backend,
    BackendHooks,
    BackendSpec,
    ServerInfo,
    Target,
    as_answer,
    backend_name,
    spec_of,
)
from .calls import BridgedCall, ParkedCall, Parking, asker, is_of_a_call, read_state
from .filter import ToolFilter
from .generations import Generation
from .groups import begin_soon
from .interests import Interests
from .mirrored import MirroredArguments
from .supervisor import Supervisor

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..eras.session import Session

logger = escaping(logging.getLogger(__name__))

FIRST_TIME = 10.0  # seconds that serving waits for the backend before it begins without one
SWEEP_TIME = 1.0
MAX_DRAINING = 8  # backends that were replaced and still serve sessions; then the oldest serves none any more
SESSIONS = ("drain", "invalidate", "migrate")

# What the bridge can carry to a client and back; a shared backend is told so, and each question is judged by what its
# own client declared.
CARRIED: dict[str, Any] = {"sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}, "roots": {}}
_OFFERED = ("completions", "experimental", "logging", "prompts", "resources", "tools")
_DECLARED = ("elicitation", "experimental", "extensions", "roots", "sampling")
# Answered by the server in front, or not to be had through a bridge: a task belongs to nobody there.
_OWN = ("initialize", "ping", "server/", "subscriptions/", "logging/", "resources/subscribe", "resources/unsubscribe",
        "tasks/", "notifications/")  # fmt: skip
_ENVELOPE = frozenset((META_VERSION, META_CLIENT, META_CAPABILITIES, META_LOG_LEVEL, "progressToken"))
# RFC 9110 and the protocol's own: what belongs to one connection, one endpoint, or one server's trust in a client.
_NOT_FORWARDED = frozenset(
    (
        "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length",
        "content-type", "cookie", "expect", "host", "keep-alive", "last-event-id", "mcp-method", "mcp-name",
        "mcp-protocol-version", "mcp-session-id", "origin", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip


class ProxyHandler(ServerHandler):
    """Serves a backend.  One server at a time may serve it.

    Args:
        backend: all that a `Client` takes: an address, a command as a list of words or as one text, a `ServerHandler`
            in this process, a `Transport`; a `Command` or a `Url`, which say more; or None for none yet (503 until
            `swap`).
        per_session: a backend of its own for each session, which then declares what that session's client declared.
            Clients without sessions share one for each principal.
        allow, deny, precedence: which tools there are, by globs; see `ToolFilter`.
        share_logs: log messages of a shared backend that name no request go to all clients that asked for log messages.
            They may speak of any client's calls, so by default no client gets them.
        forward_headers: names of request headers that are passed on to a backend over HTTP.  Credentials never are.
        ping_every: seconds between pings of the backend, whose answers `/ready` shows; None for no pings.
        supervisor: makes the policy by which a backend that ends is started again.
        drain_time: seconds for what runs on a backend that is replaced.
        start_time: seconds for a backend to connect.
        wait_time: seconds that a call waits for a backend that is being started again.

    Raises:
        TypeError: a backend that is none of these.
        ValueError: what cannot be a filter, an address or a command, a header that must not be passed on, or a
            `Transport` with `per_session`: it is one connection.
    """

    def __init__(
        self,
        backend: Target | None,
        *,
        per_session: bool = False,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        precedence: str = "deny",
        share_logs: bool = False,
        forward_headers: Iterable[str] = (),
        ping_every: float | None = None,
        supervisor: type[Supervisor] | Any = Supervisor,
        drain_time: float = DRAIN_TIME,
        start_time: float = START_TIME,
        wait_time: float = WAIT_TIME,
    ) -> None:
        self.filter = ToolFilter(allow, deny, precedence)
        self.per_session = per_session
        self.share_logs = share_logs
        self._number = 0  # rises with each swap and each reconnect
        self._low = 1  # of the sessions that are still good, the lowest
        self._forward = tuple(sorted({name.lower() for name in forward_headers}))
        refused = [name for name in self._forward if name in _NOT_FORWARDED or name.startswith("mcp-")]
        if refused:
            raise ValueError(f"these headers are not passed on: {', '.join(refused)}")
        self._spec = self._spec_of(backend)
        self._drain_time = drain_time
        self._start_time = start_time
        self._hooks = BackendHooks(ping_every, self._heard, self._asked, self._prepare, self._backend_changed,
                                   supervisor, start_time, wait_time)  # fmt: skip
        self._annotations = MirroredArguments()
        self._interests = Interests()
        self._parking = Parking()
        self._walks: set[ListenHandle] = set()  # a backend is being told of their resources
        self._taking_back: set[Interests] = set()  # those of which a backend is being told that they are over
        self._listeners: dict[Session, None] = {}  # sessions that asked for a log level
        self._server_info: ServerInfo | None = None
        self._now: Generation | None = None
        self._draining: list[Generation] = []
        self._tasks: TaskGroup | None = None
        self._swapping: asyncio.Lock
        self._json = JSON()
        self._dropped = 0  # log messages that name no request, and reached no client
        self._piped = False  # this handler is served on pipes, which have one client
        self._pipe: Session | None = None  # the session of that client, where it has one
        if self._spec is not None:
            self.name = backend_name(self._spec)

    def _spec_of(self, target: Target | None) -> BackendSpec | None:
        """Raises as the constructor does."""
        spec = None if target is None else spec_of(target)
        if self.per_session and spec is not None and not isinstance(spec, (Command, Url, ServerHandler)):
            raise ValueError("a Transport is one connection, and per_session needs one for each session")
        return spec

    # --- what is offered -------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """The backend's own, once it is known."""
        return (
            dict(self._server_info.info) if self._server_info is not None and self._server_info.info else super().info()
        )

    def capabilities(self) -> dict[str, Any]:
        """The backend's, as far as a bridge carries them."""
        if self._server_info is None:
            raise overloaded(self.unavailable() or "The backend was not connected yet")
        return self._server_info.capabilities

    def cache_hint(self, method: str) -> tuple[int, str | None]:
        """What a backend of an earlier revision answers is kept by nobody."""
        return 0, "private" if self.per_session or self._forward else None

    @property
    def generation(self) -> int:  # type: ignore[override]
        """What a session begins under that asks for it now: read once for each."""
        if self._now is not None:
            self._now.opened = True
        return self._number

    def param_headers(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        """As the backend annotates its tools."""
        return self._annotations.get(tool)

    def serves(self, generation: int) -> bool:
        """Whether what a session began with is still there."""
        return generation == 0 or self._now is None or self._generation_of(generation) is not None

    def unavailable(self) -> str | None:
        """Why there is nothing to ask."""
        if self._now is None:
            return "No backend is connected now"
        if self._now.shared.open_until is not None and self._now.shared.client is None:
            return "The backend keeps failing, and is left alone for a while"
        if self._server_info is None:
            return "The backend was not connected yet"
        return None

    def readiness_problems(self) -> Sequence[str]:
        """What is the matter with the backend."""
        if self._now is None:
            return ["no backend"]
        shared = self._now.shared
        if shared.open_until is not None:
            return ["backend crash loop"]
        if shared.client is None and not (self.per_session and self._server_info is not None):
            return ["backend away"]
        return [] if shared.answering else ["backend does not answer pings"]

    # --- its life --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[ProxyHandler]:
        """Connects; at the end every backend is ended."""
        if self._tasks is not None:
            raise RuntimeError("a ProxyHandler is served by one server at a time")
        self._swapping = asyncio.Lock()
        self._piped, self._pipe = False, None
        begun, over = asyncio.Event(), asyncio.Event()
        # In a task of its own: a server may leave a lifespan in another task than it entered it in.
        life = asyncio.ensure_future(self._live(begun, over))
        try:
            await begun.wait()
            yield self
        finally:
            over.set()
            await asyncio.wait([life])
            life.result()

    async def _live(self, begun: asyncio.Event, over: asyncio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                tasks.start_soon(self._sweep)
                if self._spec is not None:
                    self._now = self._begin(self._spec)
                    self._now.low = self._now.number = self._number = 1
                    await self._now.shared.first_outcome(FIRST_TIME)
                begun.set()
                await over.wait()
            finally:
                begun.set()
                await self._end()
                self._tasks = None
                tasks.cancel_scope.cancel()

    async def _end(self) -> None:
        """Ends every backend, and what still runs on them."""
        left = [*self._draining, *([self._now] if self._now is not None else [])]
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as ending:
                for generation in left:
                    ending.start_soon(generation.finish, 0.0)
                    ending.start_soon(generation.stop)
        self._parking.close()
        self._draining.clear()
        self._now = None

    def _begin(self, spec: BackendSpec) -> Generation:
        assert self._tasks is not None
        generation = Generation(spec, self._hooks, self._interests, self._tasks, per_session=self.per_session,
                                capabilities=CARRIED, identity=("mcp_h11 proxy", __version__))  # fmt: skip
        generation.start()
        return generation

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_TIME)
            for generation in (self._now, *self._draining):
                if generation is not None:
                    generation.sweep()
            self._forget_closed()

    def _forget_closed(self) -> None:
        """What clients wanted that are no more is wanted no more, and what is done for them is dropped."""
        for session in [session for session in self._listeners if session.closed]:
            del self._listeners[session]
            self._interests.levels.pop(session, None)
        for listens in self._walks:
            if listens.closed:
                listens.scope.cancel()
        own = list(self._now.own.values()) if self._now is not None else []
        for interests in (self._interests, *(backend.interests for backend in own)):
            if interests.leave_closed() and interests not in self._taking_back and self._tasks is not None:
                self._tasks.start_soon(self._take_back, interests)

    async def _take_back(self, interests: Interests) -> None:
        self._taking_back.add(interests)
        try:
            await interests.take_back(self._unsubscribed)
        finally:
            self._taking_back.discard(interests)

    # --- the hot swap ----------------------------------------------------------------------------------------

    async def swap(self, backend: Target | None, sessions: str = "drain") -> None:
        """Puts another backend in the place of this one, or none; returns when it answers for all that comes.

        What runs ends on the old one, within `drain_time` seconds.  The new one is connected before; where that fails
        nothing has changed.

        Args:
            sessions: what becomes of those that are open.  "drain": they keep the old backend for `drain_time` seconds,
                then they are 404, and their clients begin anew.  "invalidate": 404 at once.  "migrate": they go on with
                the new backend, and are told that what it offers has changed.

        Raises:
            TypeError, ValueError: a backend that the constructor would refuse, or no such word for `sessions`.
            RuntimeError: nobody serves this handler.
            MCPError: the new backend cannot be connected.
        """
        if sessions not in SESSIONS:
            raise ValueError(f"sessions is {', '.join(SESSIONS)}, not {sessions!r}")
        if self._tasks is None:
            raise RuntimeError("swap is for a ProxyHandler that is being served")
        spec = self._spec_of(backend)
        async with self._swapping:
            new = None
            if spec is not None:
                new = self._begin(spec)
                try:
                    # One try: whoever swaps knows best whether there is to be another.
                    await new.shared.first_outcome(self._start_time)
                    await new.shared.connected(0.0)
                except BaseException:
                    await new.stop()
                    raise
            self._take(new, sessions)

    def _take(self, new: Generation | None, sessions: str) -> None:
        """From here on `new` answers; nothing in between."""
        assert self._tasks is not None
        old, self._now = self._now, new
        self._number += 1
        if sessions != "migrate":
            self._low = self._number
        if new is not None:
            new.low, new.number = self._low, self._number
            self._show(new.shared)
            if self.per_session:
                self._tasks.start_soon(new.shared.stop)  # it has shown what it is like; sessions have their own
        if old is not None:
            if sessions != "drain":
                old.low, old.number = 1, 0  # it serves no session any more
            self._draining.append(old)
            for replaced in self._draining[:-MAX_DRAINING]:
                replaced.low, replaced.number = 1, 0
                replaced.forsaken.set()
            self._tasks.start_soon(self._retire, old, sessions == "drain" and old.opened)
        if new is not None:
            if old is not None:
                new.adopt(old, sessions == "migrate")
            self._tell_changes(new.shared)  # who has no session is answered by the new one, too

    async def _retire(self, old: Generation, wait: bool) -> None:
        end = anyio.current_time() + self._drain_time
        if wait:
            with anyio.move_on_after(self._drain_time):
                await old.forsaken.wait()
            old.low, old.number = 1, 0
        await old.finish(max(0.0, end - anyio.current_time()))
        await old.stop()
        if old in self._draining:
            self._draining.remove(old)

    def refilter(self, allow: Iterable[str], deny: Iterable[str], precedence: str = "deny") -> None:
        """Other tools are shown from now on; clients are told where there are others."""
        new = ToolFilter(allow, deny, precedence)
        old, self.filter = self.filter, new
        if (new.allow, new.deny, new.precedence) != (old.allow, old.deny, old.precedence):
            self.notify_tools_changed()

    async def finish(self, limit: float) -> None:
        """Until no call runs, at most so many seconds; then what runs is ended."""
        left = [*self._draining, *([self._now] if self._now is not None else [])]
        async with anyio.create_task_group() as tasks:
            for generation in left:
                tasks.start_soon(generation.finish, limit)

    def _generation_of(self, number: int) -> Generation | None:
        for generation in (self._now, *self._draining):
            if generation is not None and generation.covers(number):
                return generation
        return None

    def _backend_changed(self, backend: Backend) -> None:
        """A connection is there, or is lost."""
        now = self._now
        if backend.client is None or now is None:
            return
        again = backend.connects > 1
        if backend is now.shared:
            self._show(backend)
            if again:
                # A reconnect is a swap that keeps the sessions.
                self._number += 1
                now.number = self._number
            if self.per_session and self._tasks is not None:
                # It has shown what backends are like here; sessions have their own.
                self._tasks.start_soon(backend.stop)
        if again:
            self._tell_changes(backend)

    def _show(self, backend: Backend) -> None:
        client = backend.client
        if client is None:
            return
        offered = {key: value for key, value in client.server_capabilities.items() if key in _OFFERED}
        self._server_info = ServerInfo(offered, client.server_info, client.instructions)
        self.instructions = client.instructions
        self.name = str(client.server_info.get("name") or self.name)
        self.version = str(client.server_info.get("version") or self.version)

    def _tell_changes(self, backend: Backend) -> None:
        """Every list may be another one now, and so may be what was subscribed to."""
        offered = backend.client.server_capabilities if backend.client is not None else {}
        for kind in LIST_CHANGED:
            if kind in offered:
                self._tell(backend, kind)
        for uri in list(backend.interests.uris):
            self._tell(backend, "updated", uri)

    async def _prepare(self, client: Client) -> None:
        await self._annotations.read(client)

    # --- requests --------------------------------------------------------------------------------------------

    async def request(self, method: str, params: Params, ctx: Context) -> Any:
        """Whatever the backend answers."""
        if method.startswith(_OWN):
            raise MethodNotFound(method)
        if method == "tools/call" and not self.filter.allows(params.get("name")):
            # As of one that is not there: what is filtered is not to be told from what never was.
            raise InvalidParams(f"Unknown tool: {params.get('name')!r:.200}")
        parked = self._parking.find(ctx.request_state) if ctx.request_state is not None else None
        if parked is not None:
            result = await parked.turn(ctx, ctx.input_responses)
        else:
            result = await self._forwarded(method, params, ctx)
        if method == "tools/list" and isinstance(result, dict):
            self._annotations.learn(result.get("tools"))
            if not self.filter.is_open:
                result = {**result, "tools": self.filter.shown(result.get("tools"))}
        return result

    async def _forwarded(self, method: str, params: Params, ctx: Context) -> Any:
        caller = Caller(ctx)
        generation = self._serving(caller)
        backend = self._backend_at(generation, caller, ctx)
        parks = exchange_of(ctx).revision.modern
        call = (
            ParkedCall(ctx, method, caller.owner, self._parking)
            if parks
            else BridgedCall(ctx, method, caller.owner, self._parking)
        )
        job = self._on_backend(generation, backend, call, method, params, ctx)
        if isinstance(call, ParkedCall):
            entry = METHODS.get(method)
            if backend.client is not None and (backend.client.modern or entry is None or not entry.input_required):
                return await job  # it never asks by requests: no need for a task of its own
            call.start(job)
            return await call.turn(ctx)
        return await job

    def _serving(self, caller: Caller) -> Generation:
        generation = self._meant(caller.session.state.generation if caller.session is not None else None)
        if generation is None:
            raise overloaded("No backend is connected now")
        return generation

    async def _on_backend(
        self, generation: Generation, backend: Backend, call: BridgedCall, method: str, params: Params, ctx: Context
    ) -> Any:
        """The backend's part of a call.  Raises MCPError and nothing else (but what cancels a task)."""
        token = generation.forwarded.set(self._passed_on(ctx))
        try:
            with generation.run(backend, call), call.scope:
                return await self._ask_backend(generation, backend, call, method, params, ctx)
        except MCPError as exc:
            raise as_answer(exc, backend.name) from None
        finally:
            generation.forwarded.reset(token)
        raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} was replaced while this call ran")

    async def _ask_backend(
        self, generation: Generation, backend: Backend, call: BridgedCall, method: str, params: Params, ctx: Context
    ) -> Any:
        client = await backend.connected()
        exchange = exchange_of(ctx)
        meta = {key: value for key, value in ctx.meta.items() if key not in _ENVELOPE}
        sent = {key: value for key, value in params.items() if key not in ("_meta", "inputResponses", "requestState")}
        answers = self._answers(generation, ctx)
        if client.modern:
            meta[META_CAPABILITIES] = _declared(ctx)
            if ctx.client_info:
                meta[META_CLIENT] = ctx.client_info
            level = _log_level(ctx)
            if level is not None:
                meta[META_LOG_LEVEL] = level
            sent.update(answers)
        elif exchange.revision.modern and META_LOG_LEVEL in ctx.meta:
            backend.interests.levels[call] = log_rank(ctx.meta[META_LOG_LEVEL])
            await backend.apply_level()
        wants_progress = ctx.progress_token is not None or exchange.deadline is not None
        try:
            result = await client.request(
                method,
                sent,
                progress=call.progressed if wants_progress else None,
                timeout=None,
                # On one channel for all calls, nothing says which of them a message is for: see `_heard` and `_asked`.
                on_notification=None if client.transport.duplex else backend.hearing(call),
                on_request=None if client.modern or client.transport.duplex else call.asked,
                rounds=False,
                meta=meta or None,
                owner=None if self._is_alone(backend) else call.owner,
            )
        finally:
            backend.interests.levels.pop(call, None)
        await call.told()
        return self._as_result(generation, result)

    def _passed_on(self, ctx: Context) -> Mapping[str, str]:
        if not self._forward:
            return {}
        headers = ctx.headers
        return {name: headers[name] for name in self._forward if name in headers}

    # --- input rounds of a 2026-07-28 backend ----------------------------------------------------------------

    def _as_result(self, generation: Generation, result: dict[str, Any]) -> Any:
        """A result as it is; questions as the server in front asks them, in either era."""
        if result.get("resultType") != "input_required":
            meta = result.get("_meta")
            if isinstance(meta, dict) and META_SERVER in meta:
                # The server in front says it, where its client's revision has it.
                result["_meta"] = {key: value for key, value in meta.items() if key != META_SERVER}
                if not result["_meta"]:
                    del result["_meta"]
            return result
        # Sealed by the server in front: bound to the principal, the method and the arguments; and here to what is
        # behind it, since no other backend could make anything of it.
        state = json.dumps({"g": generation.number, "s": result.get("requestState")})
        try:
            return InputRequired(result.get("inputRequests"), state=state)
        except (ValueError, AttributeError):
            raise MCPError(INTERNAL_ERROR, "The backend asks for something that no client answers") from None

    def _answers(self, generation: Generation, ctx: Context) -> dict[str, Any]:
        """What a client brings back, for the backend that asked for it."""
        answers: dict[str, Any] = {}
        if ctx.input_responses is not None:
            answers["inputResponses"] = ctx.input_responses
        if ctx.request_state is not None:
            said = read_state(ctx.request_state)
            if said.get("g") != generation.number:
                raise InvalidParams("Invalid or expired requestState")
            if said.get("s") is not None:
                answers["requestState"] = said["s"]
        return answers

    # --- what the backend says by itself ---------------------------------------------------------------------

    def _heard(self, backend: Backend, method: str, params: dict[str, Any]) -> None:
        """A notification that came on no call's own exchange."""
        if method in CHANGED_LIST:
            self._tell(backend, CHANGED_LIST[method])
            if method == LIST_CHANGED["tools"] and backend.client is not None and self._tasks is not None:
                self._tasks.start_soon(self._annotations.read, backend.client)
        elif method == RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str):
                self._tell(backend, "updated", uri)
        elif method == LOG_MESSAGE:
            self._heard_log(backend, params)
        elif is_of_a_call(method) and self._is_alone(backend):
            self._say(backend, method, params)

    def _is_alone(self, backend: Backend) -> bool:
        """Whether everything that this backend says concerns one and the same client."""
        return backend.alone or self._piped

    def _say(self, backend: Backend, method: str, params: dict[str, Any]) -> None:
        """To the one client of a backend: on its latest call, or else on the stream of its session."""
        session = backend.session or self._pipe
        if backend.runs:
            next(reversed(backend.runs)).heard(method, params)
        elif session is not None and not session.closed:
            session.announce(self._json.notification(method, params))

    def _tell(self, backend: Backend, kind: str, uri: str | None = None) -> None:
        """A change, to those whose backend this is: one session, those of one principal, or those of a generation."""
        session = backend.session
        if session is None:
            self.notices.publish(Notice(kind, uri, self._audience(backend)))
            return
        notice = Notice(kind, uri)
        told = None if session.closed else session.told(notice)
        if told is not None:
            session.announce(told)

    def _audience(self, backend: Backend) -> Callable[[str, int | None], bool] | None:
        if backend.owner is not None:
            return lambda principal, generation: generation is None and ("principal", principal) == backend.owner
        if not self._draining and self._now is backend.generation:
            return None
        return lambda _, generation: self._meant(generation) is backend.generation

    def _meant(self, generation: int | None) -> Generation | None:
        """What answers a session that began under this number, or somebody without one."""
        # Over HTTP an outdated session does not get here; on a pipe it cannot be told to begin anew.
        return (self._generation_of(generation) if generation else None) or self._now

    def _heard_log(self, backend: Backend, params: dict[str, Any]) -> None:
        alone = self._is_alone(backend)
        if alone and backend.runs:
            next(reversed(backend.runs)).heard(LOG_MESSAGE, params)
        elif alone or self.share_logs:
            self._log_to_all(backend, params)
        else:
            self._dropped += 1
            if self._dropped == 1:
                logger.warning("log messages of %s that name no request reach no client, since they may be about any; "
                               "--per-session gives each session a backend of its own, and --share-logs sends them to "
                               "all clients that asked for log messages", backend.name)  # fmt: skip

    def _log_to_all(self, backend: Backend, params: dict[str, Any]) -> None:
        """To the clients of this backend that asked for a level: sessions, and calls that name a level themselves."""
        rank = LEVELS.get(params.get("level", ""))
        if rank is None:
            return
        payload = self._json.notification(LOG_MESSAGE, params)
        for session in self._listeners:
            if session.closed or rank < session.log_rank or session not in backend.interests.levels:
                continue
            if backend.owner is not None or self._meant(session.state.generation) is backend.generation:
                session.announce(payload)
        for call in backend.runs:
            if isinstance(call, ParkedCall):  # of 2026-07-28, where each request says its level
                call.heard(LOG_MESSAGE, params)

    async def _asked(self, backend: Backend, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A question of a backend that does not say which call it is for."""
        if not self._is_alone(backend):
            hint = "start the proxy with --per-session"
            if self.per_session:
                hint = "clients without sessions have to be told apart by their principals"
            raise MCPError(INTERNAL_ERROR, f"Nothing says which client of this backend {method} is for; {hint}")
        call = asker(backend.runs)
        if call is None:
            raise MCPError(INTERNAL_ERROR, f"No call runs on this backend, so there is no client to ask for {method}")
        return await call.asked(method, params, is_exact=False)

    # --- what sessions want ----------------------------------------------------------------------------------

    async def set_level(self, level: str, ctx: Context) -> None:
        """The most talkative of all sessions decides; each session still gets no more than it asked for."""
        session = _lasting_session(ctx)
        if session is None:
            return
        backend = self._backend_of(Caller(ctx), ctx)
        self._listeners[session] = None
        backend.interests.levels[session] = log_rank(level)
        await backend.apply_level()

    async def subscribe(self, uri: str, ctx: Context) -> None:
        """The first that wants to hear of a resource subscribes at the backend."""
        session = _lasting_session(ctx)
        if session is not None:
            await self._count(self._backend_of(Caller(ctx), ctx), uri, session, exchange_of(ctx).party)

    async def _count(self, backend: Backend, uri: str, who: Any, party: str) -> None:
        """One more for this resource.  `who` has `closed`.  Raises MCPError where the backend does not want it."""
        try:
            with anyio.fail_after(WISH_TIME):
                await backend.interests.subscribe(uri, who, party, backend, partial(self._subscribed, backend, uri))
        except TimeoutError:
            raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} did not take the subscription") from None

    def _listened_by(self, uris: Collection[str], alive: Callable[[], bool], principal: Any, party: str) -> None:
        """A client that listens without a session is counted among those that subscribed."""
        if self._tasks is not None:
            begin_soon(self._tasks, self._listen_for, principal, list(uris), ListenHandle(alive), party)

    async def _listen_for(self, principal: Any, uris: list[str], who: ListenHandle, party: str) -> None:
        generation = None
        who.scope = anyio.CancelScope()
        self._walks.add(who)
        try:
            with who.scope:
                # Again where another one has come meanwhile: it may have come too early to be told.
                while self._now is not None and self._now is not generation and not who.closed:
                    generation = self._now
                    await self._count_all(generation, principal, uris, who, party)
        finally:
            self._walks.discard(who)

    async def _count_all(
        self, generation: Generation, principal: Any, uris: list[str], who: ListenHandle, party: str
    ) -> None:
        key, alone = ("principal", subject(principal)), _is_one_client(principal)
        refused: list[str] = []
        for uri in uris:
            if who.closed:
                return
            try:
                backend = generation.backend(key, None, {}, CARRIED, alone=alone, party=party)
                await self._count(backend, uri, who, party)
            except MCPError as exc:
                refused.append(f"{uri:.200}: {exc}")
        if refused:
            logger.info("%d of %d resources are not listened to at the backend; the first one is %s", len(refused),
                        len(uris), refused[0])  # fmt: skip

    async def _subscribed(self, backend: Backend, uri: str) -> None:
        client = await backend.connected()
        if backend.interests.has_told(backend, uri):
            return  # with everything else, when it was connected
        try:
            await client.subscribe(uri)
        except MCPError as exc:
            raise as_answer(exc, backend.name) from None

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        """The last one unsubscribes."""
        session = _lasting_session(ctx)
        if session is not None:
            interests = self._backend_of(Caller(ctx), ctx).interests
            if interests.leave(session, uri):
                await interests.take_back(self._unsubscribed, uri)

    async def _unsubscribed(self, backend: Backend, uri: str) -> None:
        """Raises TimeoutError where the backend does not answer."""
        if backend.client is None:
            return
        try:
            with anyio.fail_after(WISH_TIME):
                await backend.client.unsubscribe(uri)
        except MCPError as exc:
            logger.info("%s keeps the subscription to %.200s: %s", backend.name, uri, exc)

    def _backend_of(self, caller: Caller, ctx: Context) -> Backend:
        return self._backend_at(self._serving(caller), caller, ctx)

    def _backend_at(self, generation: Generation, caller: Caller, ctx: Context) -> Backend:
        if caller.piped:
            self._piped, self._pipe = True, caller.pipe or self._pipe
        # Without a session each request declares something else: then it is as with one that is shared.
        declared = CARRIED if exchange_of(ctx).revision.modern else _declared(ctx)
        key, session, party = caller.backend_key, caller.session, exchange_of(ctx).party
        return generation.backend(key, session, ctx.client_info, declared, alone=caller.alone, party=party)


class ListenHandle:
    """A client that listens without a session.

    Attributes:
        scope: cancels the task that subscribes for this client at backends.  That task makes it: this object is made
            in a callback of the event loop, where older releases of anyio make no scopes.
    """

    scope: anyio.CancelScope

    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive = alive

    @property
    def closed(self) -> bool:
        """Whether that is over."""
        return not self._alive()


class Caller:
    """The client of a call, as far as it can be told from others.

    Attributes:
        session: with a session, over HTTP; None elsewhere.
        owner: the same for two calls exactly if they are certainly one client's.
        backend_key: the same for two calls if they may share a backend that is not for all.
        alone: the backend by that key works for this client alone.
        piped: it came on pipes, which have one client.
        pipe: the session of pipes, where the client began one.
    """

    def __init__(self, ctx: Context) -> None:
        exchange = exchange_of(ctx)
        self.session: Session | None = ctx.session
        self.owner: Hashable
        self.backend_key: Hashable
        self.alone = True
        self.piped = self.session is None and exchange.headers is None
        self.pipe: Session | None = None
        if self.session is not None:
            self.owner = self.backend_key = ("session", self.session.id)
        elif self.piped:
            self.owner = self.backend_key = ("principal", "")
            self.pipe = exchange.carrying_session
        else:
            self.backend_key = ("principal", subject(ctx.principal))
            self.alone = _is_one_client(ctx.principal)
            # How many clients come without a name is not known.
            self.owner = self.backend_key if self.alone else object()


def _is_one_client(principal: Any) -> bool:
    """Whether two requests of this principal are one client's: it has a name, and is no token that many may hold."""
    return bool(subject(principal)) and principal is not TOKEN_HOLDER


def _lasting_session(ctx: Context) -> Session | None:
    """The session, if more than this one request belongs to it: a stateless server hears nothing of what it wants."""
    exchange = exchange_of(ctx)
    session: Session = exchange.carrying_session
    return session if session.id or exchange.headers is None else None


def _declared(ctx: Context) -> dict[str, Any]:
    """What the client of this call declared, as far as a bridge carries it."""
    declared = {key: value for key, value in ctx.client_capabilities.items() if key in _DECLARED}
    extensions = declared.get("extensions")
    if isinstance(extensions, dict):
        declared["extensions"] = {name: value for name, value in extensions.items() if "tasks" not in name}
    return declared


def _log_level(ctx: Context) -> str | None:
    """The level at which this call's client wants messages."""
    exchange = exchange_of(ctx)
    if exchange.revision.modern:
        level = ctx.meta.get(META_LOG_LEVEL)
        return level if isinstance(level, str) else None
    return str(exchange.carrying_session.state.log_level)
