# SPDX-License-Identifier: MIT
"""`/health`, `/ready` and `/metrics` for the operators of the server, on the server's port or on a port of their own.

    /health   200, or 503 where no client could begin: version, uptime and the state of the server
    /ready    200, or 503 with the reasons not to send new clients here; /ready/NAME of one backend of a gateway
    /metrics  Prometheus' text format

Rule: the pages ask the handler only for its state.  They never wait, they change nothing, and no client needs them.
Host and Origin are checked as on every other path; on a port of their own, a Host that is the number of an address
passes as well, since probes call a pod by its number.  The only methods are GET and HEAD.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from ..endpoint.endpoint import Endpoint
from ..endpoint.error_answers import answer_error
from ..http.headers import JSON_HEADERS, Headers
from ..http.heads import HeadCache
from ..http.messages import Head, HTTPRequest
from ..http.origins import LOOPBACK_HOSTS, HostPolicy, is_literal
from ..http.reply import STREAMING, Link, Reply
from ..protocol.errors import Refusal
from ..runtime.metrics import CONTENT_TYPE
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..version import __version__
from .connection import Connection
from .owner import ConnectionOwner
from .sockets import send_at_once

if TYPE_CHECKING:
    from .swapping import SwapPage

MAX_OPS_CONNECTIONS = 64  # on a port that serves these pages alone
MAX_OPS_BODY = 1024  # bytes; a GET has none
OPS_BACKLOG = 64
FRESH: Headers = (("Cache-Control", "no-store"),)
_ALLOW: Headers = (("Allow", "GET, HEAD"),)

Answer = tuple[int, Headers, bytes]


class Watched(Protocol):
    """A server as these pages read it: its load, and the seconds that it has served (`uptime`)."""

    connections: set[Any]
    draining: bool
    endpoint: Any
    lag: float  # seconds by which the event loop was late at the last ticks
    leaving: bool  # the end has begun, and requests are still served
    runtime: Any
    settings: Settings

    @property
    def replies(self) -> Collection[Reply]: ...

    @property
    def uptime(self) -> float: ...


class WatchedOwner(Watched, ConnectionOwner, Protocol):
    """A server that has connections of its own, as a port for these pages needs it."""


class Pages:
    """The three documents of one server, by their paths."""

    def __init__(
        self, server: Watched, hosts: HostPolicy, *, health: bool, metrics: bool, literals: bool = False
    ) -> None:
        self._server = server
        self._hosts = hosts
        self._literals = literals  # whether a Host may be the number of any address
        settings = server.settings
        self._pages: dict[str, Callable[[], Answer]] = {}
        if health:
            self._pages.update({settings.health_path: self.health, settings.ready_path: self.ready})
        self._parts = f"{settings.ready_path.rstrip('/')}/" if health else None
        if metrics:
            self._pages[settings.metrics_path] = self.metrics
        if server.runtime.fleet is not None and self._pages:
            server.runtime.fleet.counts = True

    def has(self, path: str) -> bool:
        """Whether one of the documents has this path."""
        return path in self._pages or self._part(path) is not None

    def _part(self, path: str) -> Sequence[str] | None:
        """The problems of the part whose readiness is at this path; None where there is no such part."""
        if self._parts is None or not path.startswith(self._parts):
            return None
        return self._server.runtime.handler._parts().get(path[len(self._parts) :])  # type: ignore[no-any-return]

    def refusal(self, head: Head) -> Refusal | None:
        """The reason why a request for a document is not answered; None where it is."""
        host, origins = head.get("host"), head.get_all("origin")
        if not (self._hosts.check_host(host) or (self._literals and is_literal(host))):
            return Refusal(403, f"Host {host!r:.100} is not allowed here; --allowed-hosts adds it")
        if len(origins) > 1 or (origins and not self._hosts.check_origin(origins[0])):
            return Refusal(403, f"Origin {origins[0]!r:.100} is not allowed here; --allowed-origins adds it")
        if not self.has(head.path):
            return Refusal(404, "Nothing is served here")
        if head.method not in ("GET", "HEAD"):
            return Refusal(405, f"Method Not Allowed: {head.method:.20}", headers=_ALLOW)
        return None

    def respond(self, head: Head, reply: Reply) -> None:
        """Answer with the document of the path, or with the refusal."""
        refusal = self.refusal(head)
        if refusal is None:
            page = self._pages.get(head.path)
            status, headers, body = page() if page is not None else self.ready_part(head.path)
            reply.answer(status, body, headers + FRESH)
        else:
            answer_error(reply, self._server.runtime.json, refusal)

    # --- the documents -----------------------------------------------------------------------------------------

    def health(self) -> Answer:
        """Tell whether a client that comes now could begin."""
        server = self._server
        can_open = not server.draining and server.endpoint.has_room
        # Without its store the server still answers calls, but streams cannot be resumed.  So it is "degraded", with
        # status 200: a restart would not help.
        away = server.runtime.store_away
        unavailable = server.runtime.handler.unavailable() is not None
        found = {"draining": server.draining, "full": not can_open, "unavailable": unavailable, "degraded": away}
        status = next((name for name, holds in found.items() if holds), "ok")
        return document(
            200 if can_open and not unavailable else 503,
            status=status,
            version=__version__,
            uptime=round(server.uptime, 3),
            draining=server.draining,
            can_open_session=can_open,
            store="away" if away else "ok",
        )

    def ready(self) -> Answer:
        """Tell whether new clients should be sent here."""
        reasons = self.reasons()
        if not reasons:
            # Parts that are away, while others still serve clients.
            parts = self._server.runtime.handler._parts().items()
            warnings = [f"{name}: {problem}" for name, problems in parts for problem in problems]
            if warnings:
                return document(200, ready=True, reasons=[], warnings=warnings)
        return document(503 if reasons else 200, ready=not reasons, reasons=reasons)

    def ready_part(self, path: str) -> Answer:
        """Tell whether new clients of one part should be sent here."""
        reasons = [*self._own_reasons(), *(self._part(path) or ())]
        return document(503 if reasons else 200, ready=not reasons, reasons=reasons)

    def reasons(self) -> list[str]:
        """The reasons not to send new clients here; empty where there is none."""
        return [*self._own_reasons(), *self._server.runtime.handler.readiness_problems()]

    def _own_reasons(self) -> list[str]:
        server = self._server
        settings, runtime = server.settings, server.runtime
        full = (
            not server.endpoint.has_room
            or _reached(len(server.connections), settings.max_connections)
            or _reached(runtime.waiting, settings.max_waiting)
        )
        late = settings.ready_lag is not None and server.lag > settings.ready_lag
        found = {
            "draining": server.draining or server.leaving,
            "full": full,
            "store away": runtime.store_away,
            "loop lag": late,
        }
        return [reason for reason, holds in found.items() if holds]

    def metrics(self) -> Answer:
        """The counters, and the gauges of this moment."""
        server = self._server
        runtime, endpoint, metrics = server.runtime, server.endpoint, server.runtime.metrics
        assert metrics is not None, "counted wherever this page is"
        counts = endpoint.counts()
        gauges: dict[str, tuple[str, float]] = {
            "mcp_h11_connections": ("Open connections.", len(server.connections)),
            "mcp_h11_sessions": ("Open sessions.", counts.sessions),
            "mcp_h11_streams": ("Open event streams.", sum(r.state == STREAMING for r in server.replies)),
            "mcp_h11_listeners": ("Open subscriptions/listen streams.", counts.listeners),
            "mcp_h11_calls_running": ("Calls that run.", runtime.gate.inside),
            "mcp_h11_calls_waiting": ("Calls that wait for their turn.", runtime.waiting),
            "mcp_h11_loop_lag_seconds": ("How late the event loop was, lately.", round(server.lag, 6)),
            "mcp_h11_draining": ("1 while it shuts down.", int(server.draining)),
            "mcp_h11_uptime_seconds": ("Since it began to listen.", round(server.uptime, 3)),
        }
        received = sum(connection.received for connection in server.connections)
        sent = sum(connection.written for connection in server.connections)
        more = [*runtime.handler._metric_lines()]
        if runtime.fleet is not None:
            from ..runtime.store_metrics import store_metrics  # only a server with a store needs it

            more += store_metrics(runtime.fleet)
        return 200, (("Content-Type", CONTENT_TYPE),), metrics.render(gauges, received, sent, more)


def document(code: int, **members: Any) -> Answer:
    """A JSON answer of these members."""
    return code, JSON_HEADERS, json.dumps(members, separators=(",", ":")).encode("ascii")


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


class OpsEndpoint(Endpoint):
    """The endpoint of a server that serves these pages on its own port; made only if the settings ask for that."""

    def __init__(self, runtime: Runtime, hosts: HostPolicy, server: Watched) -> None:
        super().__init__(runtime, hosts)
        settings = runtime.settings
        self._pages = Pages(server, hosts, health=settings.health, metrics=settings.metrics)

    def check(self, head: Head, *more: Any) -> Refusal | None:
        if self._pages.has(head.path):
            return self._pages.refusal(head)
        return super().check(head, *more)

    async def approve(self, head: Head, *more: Any) -> Refusal | None:
        if self._pages.has(head.path):
            return None
        return await super().approve(head, *more)

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        if self._pages.has(request.head.path):
            reply.client = self.client(request.head, reply)
            self._pages.respond(request.head, reply)
        else:
            super().respond(request, reply)


def endpoint_of(runtime: Runtime, hosts: HostPolicy, server: Watched) -> Endpoint:
    """The endpoint of a server, with the pages beside it where the settings want them there."""
    settings = runtime.settings
    own = (settings.health or settings.metrics) and not settings.apart
    return OpsEndpoint(runtime, hosts, server) if own else Endpoint(runtime, hosts)


class OpsListener:
    """A port, or a Unix socket, that serves the documents alone.  Its connections use it as their server.

    It ends last, so that operators can watch the server drain.
    """

    asks_who = False
    draining = False
    recorder = None

    def __init__(self, server: WatchedOwner, sockets: list[socket.socket], pages: type[Pages] = Pages) -> None:
        self._server = server
        self.endpoint = self
        limits = replace(server.settings.limits, max_body=MAX_OPS_BODY)
        self.settings = replace(server.settings, max_connections=MAX_OPS_CONNECTIONS, limits=limits)
        self.runtime = server.runtime
        self.loop, self.context = server.loop, server.context
        self.buffer, self.shares_buffer = server.buffer, server.shares_buffer
        self.heads = HeadCache()
        self.connections: set[Connection] = set()
        self._joined: set[Connection] = set()  # those of them that were let in
        self.wheel, self.rest = server.wheel, server.rest
        self.sockets = sockets
        self._servers: list[asyncio.Server] = []
        self.addresses = [sock.getsockname() for sock in sockets]
        hosts = ops_hosts(server.settings, self.addresses)
        self._pages = pages(server, hosts, health=True, metrics=True, literals=True)
        self._swap: SwapPage | None = None
        if server.settings.ops_token is not None:
            from .swapping import SwapPage  # for bridges alone

            local = not any(isinstance(address, tuple) for address in self.addresses)
            self._swap = SwapPage(server.runtime, hosts, server.settings.ops_token, local=local)

    @property
    def now(self) -> float:
        return self._server.now

    @property
    def date(self) -> bytes:
        return self._server.date

    async def start(self) -> None:
        for sock in self.sockets:
            sock.setblocking(False)
            send_at_once(sock)
            self._servers.append(await self.loop.create_server(self._connected, sock=sock, backlog=OPS_BACKLOG))

    def _connected(self) -> Connection:
        return Connection(self)

    def joined(self, connection: Connection) -> None:
        """Let a connection in.  They are not counted by client: the proxy of a cluster may carry all of them."""
        self._joined.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(connection)
        self._joined.discard(connection)

    def make_room(self, party: str) -> bool:
        """End a connection that waits for a request, or that has not sent one wholly: a probe must not be kept out.

        A connection whose answer is due, as a swap that runs, is never ended.
        """
        found = max(self._joined, key=attrgetter("spare"), default=None)
        if found is None or not found.spare:
            return False
        self.lost(found)
        found.abort()
        return True

    def close(self) -> None:
        """Close the sockets, and abort all connections."""
        if self._swap is not None:
            self._swap.close()
        for server in self._servers:
            server.close()
        for sock in self.sockets:
            sock.close()
        for connection in list(self.connections):
            connection.abort()

    # --- called by a connection, as on its endpoint --------------------------------------------------------------

    def trusts(self, peer: str) -> bool:
        return False

    def check(self, head: Head, link: Link) -> Refusal | None:
        if self._swap is not None and self._swap.has(head.path):
            return self._swap.refusal(head, link)
        return self._pages.refusal(head)

    def refusal_headers(self, head: Head, *more: Any) -> Headers:
        return ()

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        if self._swap is not None and self._swap.has(request.head.path):
            self._swap.respond(request.head, reply)
        else:
            self._pages.respond(request.head, reply)


def ops_hosts(settings: Settings, addresses: list[Any]) -> HostPolicy:
    """The host names that requests to the port may carry, beside numbers of addresses."""
    own = [str(address[0]) for address in addresses if isinstance(address, tuple)]
    names = [f"[{host}]" if ":" in host else host for host in own]
    allowed = (*settings.ops_hosts, *(settings.allowed_hosts or ()))
    return HostPolicy([*LOOPBACK_HOSTS, *names, *allowed], settings.allowed_origins)
