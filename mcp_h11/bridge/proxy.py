# SPDX-License-Identifier: MIT
"""`ProxyHandler`: a handler that lets another server, its backend, answer.

    serve(ProxyHandler(Command(["npx", "-y", "some-server"])))     stdio to HTTP
    serve_stdio(ProxyHandler(Url("https://example.com/mcp")))      HTTP to stdio

Clients and backend may speak different revisions and use different transports.  This module says which tools and
capabilities are offered, and composes the parts of a bridge:

- `generations`: the backends, their hot swap, and which of them answers a client;
- `forwarding`: a request to the backend and its answer back;
- `attribution`: which clients get a message that a backend sends on its own;
- `listening`: log levels and subscriptions.

Rules:
- The backend is where the operator says, and nothing that comes from the network changes that.
- The credentials of a client are not passed on.
- A tool that the filter hides cannot be called either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from ..client.targets import Command, Url
from ..handler.context import Context, exchange_of
from ..handler.extension import Extension
from ..handler.handler import Params, Ready, ServerHandler
from ..protocol.errors import InvalidParams, MethodNotFound, overloaded
from ..protocol.methods import LIST_CHANGED, TASK_METHODS, TASKS
from .attribution import Attribution
from .backends import (
    DRAIN_TIME,
    START_TIME,
    WAIT_TIME,
    Backend,
    BackendHooks,
    BackendSpec,
    ServerInfo,
    Target,
    backend_name,
    spec_of,
)
from .callers import carried_extensions
from .calls import Parking
from .counts import BackendCounts, backend_metrics
from .filter import ToolFilter
from .forwarding import Forwarding, forwardable
from .generations import Drain, Generations
from .groups import in_one_task
from .interests import Interests
from .listening import InterestRelay
from .mirrored import MirroredArguments
from .supervisor import Supervisor
from .tasks import BridgedTasks, at_backend

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

FIRST_TIME = 10.0  # seconds that serving waits for the backend before it begins without one
SWEEP_TIME = 1.0

# The capabilities of a backend that a bridge can carry to clients.
_OFFERED = ("completions", "experimental", "extensions", "logging", "prompts", "resources", "tools")
# Methods that the server in front answers itself, and the experimental tasks of 2025-11-25, which no bridge carries.
_OWN = ("initialize", "ping", "server/", "subscriptions/", "logging/", "resources/subscribe", "resources/unsubscribe",
        "tasks/", "notifications/")  # fmt: skip


class ProxyHandler(ServerHandler):
    """Serves a backend.  One server at a time may serve it.

    Args:
        backend: all that a `Client` takes: an address, a command as a list of words or as one text, a `ServerHandler`
            in this process, a `Transport`; a `Command` or a `Url`, which say more; or None for none yet (503 until
            `swap`).
        per_session: a backend of its own for each session, which then declares the capabilities of that session's
            client.  Clients without sessions share one for each principal.
        allow, deny, precedence: which tools there are, by globs; see `ToolFilter`.
        share_logs: log messages of a shared backend that name no request go to all clients that asked for log messages.
            They may speak of any client's calls, so by default no client gets them.
        forward_headers: names of request headers that are passed on to a backend over HTTP.  Credentials never are.
        ping_every: seconds between pings of the backend; `/ready` shows if they are answered.  None for no pings.
        label: the name of the backend in logs and metrics; by default the name of its command or address.
        supervisor: makes the policy by which a backend that ends is started again.
        drain_time: seconds for the calls on a backend that is replaced.
        start_time: seconds for a backend to connect.
        wait_time: seconds that a call waits for a backend that is being started again.

    Raises:
        TypeError: a backend that is none of these.
        ValueError: a text that cannot be a filter, an address or a command, a header that must not be passed on, or a
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
        label: str | None = None,
        supervisor: type[Supervisor] | Any = Supervisor,
        drain_time: float = DRAIN_TIME,
        start_time: float = START_TIME,
        wait_time: float = WAIT_TIME,
    ) -> None:
        self.filter = ToolFilter(allow, deny, precedence)
        self.per_session = per_session
        headers = forwardable(forward_headers)
        self.heeds_cancellation = type(self).request is ProxyHandler.request
        # Mistakes of the operator are errors here, and not when serving begins.
        self._spec = self._spec_of(backend)
        self._server_info: ServerInfo | None = None
        self._bridged_tasks = BridgedTasks()
        self._annotations = MirroredArguments()
        self._parking = Parking()
        self._interests = Interests()
        self._generations = Generations(
            self._interests,
            per_session=per_session,
            drain_time=drain_time,
            start_time=start_time,
            on_offer=self._show,
            on_change=self._tell_of_changes,
        )
        self._listening = InterestRelay(self._generations, self._interests)
        self._attribution = Attribution(self._generations, self._listening.log_sessions, share_logs=share_logs,
                                        publish=lambda notice: self.notices.publish(notice))  # fmt: skip
        self._forwarding = Forwarding(self._generations, self._parking, headers)
        self._hooks = BackendHooks(
            ping_every,
            self._on_notification,
            self._attribution.on_request,
            self._annotations.read,
            self._generations.backend_changed,
            supervisor,
            start_time,
            wait_time,
            label,
            forwards=bool(headers),
        )
        self._tasks: TaskGroup | None = None
        if self._spec is not None:
            self.name = backend_name(self._spec)
        self._first_name = self.name  # a connected backend says another one

    def _spec_of(self, target: Target | None) -> BackendSpec | None:
        """Raises as the constructor does."""
        spec = None if target is None else spec_of(target)
        if self.per_session and spec is not None and not isinstance(spec, (Command, Url, ServerHandler)):
            raise ValueError("a Transport is one connection, and per_session needs one for each session")
        if spec is not None and not isinstance(spec, (Command, Url, ServerHandler)):
            self.heeds_cancellation = False  # calls wait in the `send` of that transport, which others wrote
        return spec

    # --- the offer -------------------------------------------------------------------------------------------

    @property
    def share_logs(self) -> bool:
        """Whether log messages of a shared backend that name no request go to all clients that asked for some."""
        return self._attribution.share_logs

    @share_logs.setter
    def share_logs(self, share: bool) -> None:
        self._attribution.share_logs = share

    def info(self) -> dict[str, Any]:
        """The backend's own name and version, once the backend was connected."""
        known = self._server_info
        return dict(known.info) if known is not None and known.info else super().info()

    def capabilities(self) -> dict[str, Any]:
        """The backend's capabilities, without those that a bridge cannot carry."""
        if self._server_info is None:
            raise overloaded(self.unavailable() or "The backend was not connected yet")
        return self._server_info.capabilities

    def extensions(self) -> Sequence[Extension]:
        """Tasks; other extensions are those of the backend, in `capabilities`."""
        return (self._bridged_tasks,)

    def cache_hint(self, method: str) -> tuple[int, str | None]:
        """No cache may keep an answer of a backend of an earlier revision: it cannot say for how long it holds."""
        # Either makes the answer depend on the client.
        return 0, "private" if self.per_session or self._forwarding.headers else None

    @property
    def generation(self) -> int:  # type: ignore[override]
        """The number for a session that begins now.  The server reads it once for each session."""
        return self._generations.open_session()

    def param_headers(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        """The arguments that a client repeats in headers, as the backend annotates its tools."""
        return self._annotations.get(tool)

    @property
    def keeps_sessions(self) -> bool:
        """With a backend for each session, the session is where its backend is."""
        return self.per_session

    def serves(self, generation: int) -> bool:
        """Whether sessions that began under this number are still answered."""
        current = self._generations
        # Sessions of number 0 began before the first backend; without a backend the answer is 503, and no session ends.
        return generation == 0 or current.now is None or current.find(generation) is not None

    def unavailable(self) -> str | None:
        """Why no backend can be asked now; None where one can."""
        now = self._generations.now
        if now is None:
            return "No backend is connected now"
        if now.shared.open_until is not None and now.shared.client is None:
            return "The backend keeps failing, and is left alone for a while"
        if self._server_info is None:
            return "The backend was not connected yet"
        return None

    def readiness_problems(self) -> Sequence[str]:
        """The faults of the backend, for `/ready`."""
        now = self._generations.now
        if now is None:
            return ["no backend"]
        shared = now.shared
        if shared.open_until is not None:
            return ["backend crash loop"]
        if shared.client is None and not (self.per_session and self._server_info is not None):
            return ["backend away"]
        return [] if shared.answering else ["backend does not answer pings"]

    def _metric_lines(self) -> Iterable[str]:
        return backend_metrics({self.label: self.counts()})

    def counts(self, sessions: int | None = None) -> BackendCounts:
        """The numbers of the backend at this moment; `sessions` is the number that the server in front knows."""
        calls = sum(generation.running for generation in self._generations.all)
        return BackendCounts(not self.readiness_problems(), calls, self._hooks.tally, sessions)

    def _show(self, backend: Backend) -> None:
        """From now on clients see the offer of this backend."""
        client = backend.client
        if client is None:
            return
        offered = {key: value for key, value in client.server_capabilities.items() if key in _OFFERED}
        # Methods that this bridge does not know are passed on, and so is the announcement that the backend has them.
        if "extensions" in offered:
            announced = offered["extensions"]
            self._bridged_tasks.offered = client.modern and isinstance(announced, dict) and TASKS in announced
            # Those of tasks are announced by their own extension, to clients of 2026-07-28 alone.
            offered["extensions"] = carried_extensions(announced, tasks=False)
        else:
            self._bridged_tasks.offered = False
        self._server_info = ServerInfo(offered, client.server_info, client.instructions)
        self.instructions = client.instructions
        self.name = str(client.server_info.get("name") or self.name)
        self.version = str(client.server_info.get("version") or self.version)

    def _tell_of_changes(self, backend: Backend) -> None:
        self._attribution.tell_of_all_changes(backend)

    def refilter(self, allow: Iterable[str], deny: Iterable[str], precedence: str = "deny") -> None:
        """Show other tools from now on, and tell the clients if that changes the list.

        `allow`, `deny` and `precedence` are those of `ToolFilter`, as for the constructor.
        """
        new = ToolFilter(allow, deny, precedence)
        old, self.filter = self.filter, new
        if (new.allow, new.deny, new.precedence) != (old.allow, old.deny, old.precedence):
            self.notify_tools_changed()

    # --- from the start of serving to its end ----------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[ProxyHandler]:
        """Connects the backend; ends every backend at the end."""
        if self._tasks is not None:
            raise RuntimeError("a ProxyHandler is served by one server at a time")
        async with in_one_task(self._live()):
            yield self

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._generations.open(tasks, self._hooks)
            self._listening.open(tasks)
            try:
                tasks.start_soon(self._sweep)
                if self._spec is not None:
                    await self._generations.start(self._spec, FIRST_TIME)
                yield
            finally:
                await self._generations.close()
                self._parking.close()
                self._listening.close()
                self._tasks = None
                tasks.cancel_scope.cancel()

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_TIME)
            for generation in self._generations.all:
                generation.sweep()
            self._listening.forget_closed()

    async def swap(self, backend: Target | None, sessions: str = "drain") -> Drain:
        """Puts another backend in the place of this one, or none; returns when the new one answers all new calls.

        Calls that run end on the old backend, within `drain_time` seconds; then `over` of the result is set.  The new
        one is connected before; where that fails nothing has changed.

        Args:
            sessions: the fate of open sessions.  "drain": they keep the old backend for `drain_time` seconds, then
                they are 404, and their clients begin anew.  "invalidate": 404 at once.  "migrate": they go on with the
                new backend, and are told that its offer has changed.

        Raises:
            TypeError, ValueError: a backend that the constructor would refuse, or no such word for `sessions`.
            RuntimeError: this handler is not being served.
            MCPError: the new backend cannot be connected.
        """
        return await self._generations.swap(self._spec_of(backend), sessions)

    async def restart(self, sessions: str = "migrate") -> Drain:
        """As `swap`, with the same command or address again: a new process, or a new connection.

        Raises:
            ValueError: no such word for `sessions`, or a backend that cannot be begun a second time.
            RuntimeError: this handler is not being served, or has no backend.
            MCPError: the new backend cannot be connected; the old one goes on.
        """
        now = self._generations.now
        if now is None:
            raise RuntimeError("there is no backend to start anew")
        if not isinstance(now.spec, (Command, Url)):
            raise ValueError(f"a {type(now.spec).__name__} cannot be begun a second time")
        return await self._generations.swap(now.spec, sessions)

    @property
    def label(self) -> str:
        """The name of the backend in logs and metrics."""
        return self._hooks.name or self._first_name

    async def finish(self, limit: float) -> None:
        """Wait until no call runs, at most `limit` seconds; then end the calls that are left."""
        await self._generations.finish(limit)

    # --- requests and notifications --------------------------------------------------------------------------

    async def request(self, method: str, params: Params, ctx: Context) -> Any:
        """The backend's answer."""
        if method in TASK_METHODS and self._bridged_tasks.offered and exchange_of(ctx).revision.modern:
            return await self._forwarding.request(method, at_backend(params, ctx), ctx)
        if method.startswith(_OWN):
            raise MethodNotFound(method)
        if method == "tools/call" and not self.filter.allows(params.get("name")):
            # The same answer as for a tool that does not exist, so that a client cannot learn of hidden tools.
            raise InvalidParams(f"Unknown tool: {params.get('name')!r:.200}")
        result = await self._forwarding.request(method, params, ctx)
        if method == "tools/list" and isinstance(result, dict):
            # From the whole list: a hidden tool that is shown later is known then.
            self._annotations.learn(result.get("tools"))
            if not self.filter.is_open:
                result = {**result, "tools": self.filter.shown(result.get("tools"))}
        return result

    def _on_notification(self, backend: Backend, method: str, params: dict[str, Any]) -> None:
        self._attribution.on_notification(backend, method, params)
        # New tools may have new annotations, and a client may call them before it lists them.
        if method == LIST_CHANGED["tools"] and backend.client is not None and self._tasks is not None:
            self._tasks.start_soon(self._annotations.read, backend.client)

    async def set_level(self, level: str, ctx: Context) -> None:
        """The lowest level of all sessions goes to the backend; each session still gets no more than it asked for."""
        await self._listening.set_level(level, ctx)

    async def subscribe(self, uri: str, ctx: Context) -> None:
        """The first session that subscribes to a resource makes the bridge subscribe at the backend."""
        await self._listening.subscribe(uri, ctx)

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        """The last session that leaves a resource makes the bridge unsubscribe at the backend."""
        await self._listening.unsubscribe(uri, ctx)

    def _listened_by(
        self, uris: Collection[str], alive: Callable[[], bool], principal: Any, party: str, ready: Ready
    ) -> None:
        self._listening.listened_by(uris, alive, principal, party, ready)
