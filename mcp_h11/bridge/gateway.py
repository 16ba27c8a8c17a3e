# SPDX-License-Identifier: MIT
"""Several backends behind one listener: each at /servers/NAME/mcp, with sessions of its own.

A *site* is one such backend at its address.  The sites share only the listening socket, the limits of connections and
calls, and the pages for operators.  When the list of sites is read again, only the sites that differ are changed: the
others keep their sessions and their processes.

Rules:
- A list that cannot be used changes nothing at all.
- A fault of one site does not end another.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import anyio

from ..client.transports.jobs import begin_soon
from ..endpoint.browsers import listing
from ..endpoint.endpoint import Counts, Endpoint
from ..endpoint.verdicts import PAGE, Verdict
from ..handler.handler import ServerHandler
from ..http.headers import Headers
from ..http.messages import Head, HTTPRequest
from ..http.origins import HostPolicy
from ..http.reply import Link, Reply
from ..protocol.errors import MCPError, Refusal
from ..protocol.shown import escaping
from ..runtime.metrics import Metrics
from ..runtime.runtime import Runtime
from ..server.ops import OpsEndpoint
from ..server.server import Server
from ..server.signals import handle_signals
from .backends import DRAIN_TIME
from .config import ServerEntry, changes
from .configtext import ConfigError
from .counts import backend_metrics
from .groups import in_one_task
from .operated import swap_told
from .proxy import ProxyHandler

logger = escaping(logging.getLogger(__name__))

PREFIX = "/servers/"
READY_WHEN = ("any", "all")
READY_TIME = 15.0  # seconds for a backend to be there, or to have failed once
CLOSING_TIME = 30.0  # seconds for everything of a site to end


def site_name(path: str) -> str:
    """The name of a site in a path; empty where the path is not below a site."""
    return path[len(PREFIX) :].partition("/")[0] if path.startswith(PREFIX) else ""


class Site:
    """One backend at its address."""

    def __init__(
        self, name: str, entry: ServerEntry, root: Server, hosts: HostPolicy, ping_every: float | None
    ) -> None:
        self.name = name
        self.entry = entry
        self.handler = ProxyHandler(
            entry.spec,
            per_session=entry.per_session,
            allow=entry.allow,
            deny=entry.deny,
            precedence=entry.precedence,
            share_logs=entry.share_logs,
            ping_every=ping_every,
            label=name,
        )
        # Each site has the paths of a whole server below its own name.
        here = PREFIX + name
        settings = replace(root.settings, path=f"{here}/mcp", sse_path=f"{here}/sse", messages_path=f"{here}/messages")
        self.runtime = Runtime(self.handler, settings, settings.max_values)
        # The end of the server waits for the calls of all, and its limits hold for all.
        self.runtime.share(root.runtime)
        if root.runtime.metrics is not None:
            # A site that is made anew under the same name counts on.
            self.runtime.metrics = root.runtime.metrics.backends.setdefault(name, Metrics())
        self._hosts = hosts
        self.endpoint: Endpoint
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`, in one task: the task that enters a lifespan has to leave it."""
        try:
            async with self.runtime:
                self.endpoint = Endpoint(self.runtime, self._hosts)
                self.ready.set()
                await self._stopping.wait()
                self.endpoint.end_idle_streams()
                await self.handler.finish(DRAIN_TIME)
                self.endpoint.close()
        finally:
            self.ready.set()
            self.ended.set()

    async def stop(self, now: bool = False) -> None:
        """End it.  Calls that run may finish, unless it is to end `now`."""
        # First: the end of `run` drains the calls.
        self._stopping.set()
        if now:
            await self.handler.finish(0.0)
        with anyio.move_on_after(CLOSING_TIME + DRAIN_TIME):
            await self.ended.wait()

    async def change(self, entry: ServerEntry) -> bool:
        """Take over the entry of the new list.  Returns False if that takes another site."""
        # A handler has one mode for its whole life.
        if entry.per_session != self.entry.per_session:
            return False
        old, self.entry = self.entry, entry
        if entry.spec != old.spec:
            try:
                await self.handler.swap(entry.spec)
            except Exception as exc:  # the other sites go on, and the next reading of the list tries again
                fault = None if isinstance(exc, MCPError) else exc
                logger.error("%s stays as it was: %s", self.name, exc, exc_info=fault, extra={"backend": self.name})
                # The next reading compares with this, and so tries again.
                self.entry = old
                return True
        # These two need no new backend.
        self.handler.share_logs = entry.share_logs
        self.handler.refilter(entry.allow, entry.deny, entry.precedence)
        return True


class Gateway(ServerHandler):
    """The list of sites, for a `GatewayServer`.

    `read` reads the list anew; it raises ConfigError for a list that cannot be used.  With `ready_when` "any" the whole
    is ready while one backend is, and with "all" only while all are; each is asked for at `/ready/NAME`.
    """

    name = "gateway"

    def __init__(
        self,
        entries: Mapping[str, ServerEntry],
        read: Callable[[], Mapping[str, ServerEntry]] | None = None,
        *,
        ping_every: float | None = None,
        ready_when: Literal["any", "all"] = "any",
    ) -> None:
        if ready_when not in READY_WHEN:
            raise ValueError(f"ready_when is any or all, not {ready_when!r}")
        self._ready_when = ready_when
        self.sites: dict[str, Site] = {}
        self._entries = dict(entries)
        self._read = read
        self._ping_every = ping_every
        self._make: Callable[[str, ServerEntry], Site]
        self._uncount: Callable[[str], object]  # drops the numbers of a site that the list has no more
        self._forget: Callable[[], None]  # drops the verdicts kept with request heads: they name the sites of before
        self._tasks: Any = None
        self._reloading: asyncio.Lock
        self._hangup = False  # a SIGHUP came, and the list was not read since

    def readiness_problems(self) -> Sequence[str]:
        """The problems of all sites, each with the name of its site; none where the sites that are well are enough."""
        parts = self._parts()
        if self._ready_when == "any" and not all(parts.values()):
            return []
        return [f"{name}: {problem}" for name, problems in parts.items() for problem in problems]

    def _parts(self) -> Mapping[str, Sequence[str]]:
        return {name: site.handler.readiness_problems() for name, site in self.sites.items()}

    def _metric_lines(self) -> Iterable[str]:
        each = self.sites.items()
        return backend_metrics({name: site.handler.counts(site.endpoint.counts().sessions) for name, site in each})

    def _swaps(self) -> Mapping[str, Callable[[], Awaitable[Mapping[str, Any]]]]:
        return {name: partial(swap_told, site.handler) for name, site in self.sites.items()}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Gateway]:
        """Runs the sites; SIGHUP reads their list again."""
        self._reloading = asyncio.Lock()
        with ExitStack() as stack:
            async with in_one_task(self._live()):
                self._hear_hangups(stack)
                yield self

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            yield
            async with anyio.create_task_group() as ending:
                for site in self.sites.values():
                    ending.start_soon(site.stop, True)
            self.sites.clear()
            tasks.cancel_scope.cancel()

    def _hear_hangups(self, stack: ExitStack) -> None:
        hangup = getattr(signal, "SIGHUP", None)  # Windows has none
        if hangup is not None:
            handle_signals(asyncio.get_running_loop(), (hangup,), self._hung_up, stack)

    def _hung_up(self) -> None:
        # A reading that waits already will see the newest list: no second one is needed.
        if not self._hangup:
            self._hangup = True
            begin_soon(self._tasks, self.reload)

    async def open(self, server: Server, hosts: HostPolicy) -> None:
        """Begin all sites at once.  If a backend cannot be connected, its site begins without it."""
        if server.recorder is not None:
            server.recorder.backend_of = self._backend_of
        metrics = server.runtime.metrics
        self._uncount = lambda name: metrics is not None and metrics.backends.pop(name, None)
        self._make = lambda name, entry: Site(name, entry, server, hosts, self._ping_every)
        self._forget = server.heads.forget
        await self._add(self._entries)

    def _backend_of(self, path: str) -> str:
        name = site_name(path)
        return name if name in self.sites else ""

    async def reload(self) -> None:
        """Read the list again, and change the sites that differ.  Never raises."""
        if self._read is None:
            return
        async with self._reloading:
            self._hangup = False
            try:
                entries = dict(self._read())
            except ConfigError as exc:
                logger.error("the configuration is not used, and all stays as it was: %s", exc)
                return
            except Exception:  # a fault of the reader: raised here, it would end the task group of all sites
                logger.exception("the configuration cannot be read, and all stays as it was")
                return
            found = changes({name: site.entry for name, site in self.sites.items()}, entries)
            logger.info("configuration read: %s", found)
            self._remove(found.removed)
            for name in found.removed:
                self._uncount(name)
            # All at once: a site that starts slowly does not delay the others.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._add, {name: entries[name] for name in found.added})
                for name in found.changed:
                    tasks.start_soon(self._change, name, entries[name])

    async def _change(self, name: str, entry: ServerEntry) -> None:
        if not await self.sites[name].change(entry):
            self._remove([name])
            await self._add({name: entry})

    async def _add(self, entries: Mapping[str, ServerEntry]) -> None:
        sites = [site for name, entry in entries.items() if (site := self._made(name, entry)) is not None]
        for site in sites:
            self._tasks.start_soon(self._run, site)
        with anyio.move_on_after(READY_TIME):
            for site in sites:
                await site.ready.wait()
        for site in sites:
            if not site.ended.is_set():
                self.sites[site.name] = site
                self._forget()

    def _made(self, name: str, entry: ServerEntry) -> Site | None:
        try:
            return self._make(name, entry)
        except Exception:  # the other sites go on without it
            logger.exception("%s cannot be served", name, extra={"backend": name})
            return None

    async def _run(self, site: Site) -> None:
        try:
            await site.run()
        except Exception:
            logger.exception("%s has ended", site.name, extra={"backend": site.name})
        finally:
            site.ready.set()
            site.ended.set()

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            # New requests no longer find the site, while calls that run may finish.
            self._tasks.start_soon(self.sites.pop(name).stop)
            self._forget()


class GatewayEndpoint(OpsEndpoint):
    """Finds the site by the path.  Other paths are the pages for operators, or 404."""

    def __init__(self, runtime: Runtime, hosts: HostPolicy, server: Server) -> None:
        super().__init__(runtime, hosts, server)
        self.gateway = cast(Gateway, runtime.handler)

    @property
    def has_room(self) -> bool:
        # The pages for operators say that one site is full, since no client can be sent to another.
        return all(site.endpoint.has_room for site in self.gateway.sites.values())

    def counts(self) -> Counts:
        """The sums over all sites."""
        each = [site.endpoint.counts() for site in self.gateway.sites.values()]
        return Counts(sum(one.sessions for one in each), sum(one.listeners for one in each))

    def _at(self, head: Head) -> Endpoint | None:
        site = self.gateway.sites.get(site_name(head.path))
        return site.endpoint if site is not None else None

    def client(self, head: Head | None, link: Link | Reply) -> str:
        site = self._at(head) if head is not None else None
        return super().client(head, link) if site is None else site.client(head, link)

    def check(self, head: Head, link: Link) -> Refusal | None:
        site = self._at(head)
        if site is not None:
            return site.check(head, link)
        refusal = super().check(head, link)
        if refusal is not None or self._pages.has(head.path) or self._lists(head, link.proxied):
            return refusal
        return _nowhere(self._verdict(head, link.proxied).facts.prefix)

    async def approve(self, head: Head, *more: Any) -> Refusal | None:
        site = self._at(head)
        return await (super().approve(head, *more) if site is None else site.approve(head, *more))

    def refusal_headers(self, head: Head, link: Link) -> Headers:
        site = self._at(head)
        return super().refusal_headers(head, link) if site is None else site.refusal_headers(head, link)

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        site = self._at(request.head)
        if site is not None:
            site.respond(request, reply)
        elif self._pages.has(request.head.path) or self._lists(request.head, reply.proxied):
            super().respond(request, reply)
        else:
            self.refuse(reply, _nowhere(self._verdict(request.head, reply.proxied).facts.prefix), None)

    def _lists(self, head: Head, proxied: bool) -> bool:
        # The names of the sites are for those who may use them, so a gateway with a token has no list.
        return head.path == "/" and self.runtime.settings.is_open and self._verdict(head, proxied).facts.route == PAGE

    def _show_page(self, verdict: Verdict, reply: Reply) -> None:
        """List the sites, each of which has a page of its own."""
        prefix = (verdict.facts.prefix or ".") + PREFIX
        reply.answer(*listing(self.gateway.sites, prefix, verdict.head.get_all("if-none-match")))

    def sweep(self) -> None:
        """Let each site end its idle sessions."""
        for site in list(self.gateway.sites.values()):
            site.endpoint.sweep()

    def end_idle_streams(self) -> None:
        """The shutdown begins: new calls are refused, and idle streams end."""
        for site in self.gateway.sites.values():
            # The endpoint of a site looks at the runtime of that site.
            site.runtime.draining = True
            site.endpoint.end_idle_streams()

    def close(self) -> None:
        """End everything that still runs at any site."""
        for site in self.gateway.sites.values():
            site.endpoint.close()


def _nowhere(prefix: str) -> Refusal:
    return Refusal(404, f"Nothing is served here; servers are at {prefix}{PREFIX}NAME/mcp")


class GatewayServer(Server):
    """Listens for a `Gateway`.  Its `store` is a URL, because each site opens a store of its own."""

    async def start(self) -> None:
        if self.settings.store is not None and not isinstance(self.settings.store, str):
            raise ValueError("a gateway needs the URL of a store: each of its servers opens it for itself")
        await super().start()

    def _make_endpoint(self, hosts: HostPolicy) -> Endpoint:
        return GatewayEndpoint(self.runtime, hosts, self)

    async def _set_up_ops(self, hosts: HostPolicy, stack: AsyncExitStack) -> None:
        await super()._set_up_ops(hosts, stack)
        await cast(Gateway, self.runtime.handler).open(self, hosts)
