# SPDX-License-Identifier: MIT
"""A listening server: sockets, the clock of its connections, signals, and an orderly end.

`serve` and `run` are for programs that do no more than serve; `listening` is for programs that do other work too.

Rule: the end has an order, and every step has a time limit.  Tell load balancers, if asked to; stop accepting; end the
streams without a running call; let running calls finish for `grace` seconds; cancel; close; clean up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from contextvars import copy_context
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Any

from ..endpoint.endpoint import Endpoint
from ..endpoint.verdicts import ID_FIELDS, JUDGED
from ..handler.handler import ServerHandler
from ..http.bodies import keep_heap
from ..http.heads import HeadCache
from ..http.origins import HostPolicy
from ..protocol.shown import escaping
from ..runtime.fairness import Crowd, address_party
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from .acceptor import Acceptor, last_of, second_descriptor
from .access import Recorder, recorder_of
from .clock import Ticking
from .connection import Connection
from .ending import FORCED_TIME, end_calls
from .intake import READ_SIZE
from .ops import OpsListener, endpoint_of
from .owner import TOLD_WHY
from .sockets import (
    close_all,
    hold_handshakes,
    host_policy,
    open_ops_sockets,
    open_sockets,
    reachable,
    remove_socket_file,
    send_at_once,
    with_descriptor_limit,
)

logger = escaping(logging.getLogger(__name__))

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
MAX_WORKERS = 256  # processes that serve one address (`workers`)
FLUSH_TIME = 0.5  # seconds for the last bytes to leave, and then for aborted connections to end
NOTICE_TIME = 1.0  # seconds for the last notices of a server that is replaced by other code
SPARED_OF = 1_024  # connections of one client that are compared to find one that can be spared
ACCEPT_TURNS = 3  # turns of the loop for connections that were accepted before the sockets were closed
HANDSHAKE_TIME = 0.01  # seconds for the last handshakes; a connection that begins then waits a second
LAST_REQUESTS = 1.0  # seconds for a request on a connection that is there when the port is closed
LAST_LOOK = 0.01  # seconds between two looks whether all of them have come
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Server(Ticking):
    """One endpoint on its sockets.  `async with listening(...)` makes, starts and ends one.

    The arguments are those of `listening`: `handler`, `settings`, and where to listen (`host` and `port`, `uds`, `fd`
    or `sock`).  Of a running server, `url`, `port` and `addresses` say where it listens, `stop()` begins its end, and
    `notify_*` of its handler reach its clients.
    """

    def __init__(
        self,
        handler: ServerHandler,
        settings: Settings | None = None,
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        uds: str | None = None,
        fd: int | None = None,
        sock: socket.socket | Sequence[socket.socket] | None = None,
    ) -> None:
        super().__init__(with_descriptor_limit(settings or Settings()))
        self.runtime = Runtime(handler, self.settings, self.settings.max_values)
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.shares_buffer = True
        self.heads = HeadCache(id_fields=ID_FIELDS, judged=JUDGED)
        self.connections: set[Connection] = set()
        self._peers = Crowd[Connection]()  # the same connections by client, without those of proxies
        self.handshakes: set[Any] = set()  # of TLS, under way
        self.draining = False
        self.leaving = False  # the end has begun, and requests are still served
        self.recorder: Recorder | None = None
        self.ops: OpsListener | None = None
        self.date = b""
        self.sockets: list[socket.socket] = []
        self._addresses: list[Any] = []
        self._bind = (host, port, uds, fd, sock)
        self._has_port_alone = fd is None and sock is None  # no other process accepts, now or after this one
        self._uds = uds
        self._servers: list[asyncio.Server | Acceptor] = []
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._closed: asyncio.Task[None] | None = None
        self._deserted = asyncio.Event()  # the last connection is lost

    # --- where it is -----------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[Any]:
        """The bound addresses: (host, port, ...) tuples, or the path of a Unix socket."""
        # The addresses are kept, because the sockets are closed while the server drains, and a closed socket has none.
        return self._addresses or [s.getsockname() for s in self.sockets]

    @property
    def port(self) -> int:
        """The bound TCP port; 0 where there is none."""
        for address in self.addresses:
            if isinstance(address, tuple):
                return int(address[1])
        return 0

    @property
    def ops_port(self) -> int:
        """The port of `/health`, `/ready` and `/metrics`; 0 where they have none of their own."""
        addresses = self.ops.addresses if self.ops is not None else []
        return next((int(address[1]) for address in addresses if isinstance(address, tuple)), 0)

    @property
    def url(self) -> str:
        """Where a client connects."""
        scheme = "https" if self.settings.ssl is not None else "http"
        for address in self.addresses:
            if isinstance(address, tuple):
                host = str(address[0])
                host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
                return f"{scheme}://{host}:{address[1]}{self.settings.path}"
        return f"{scheme}+unix://{self._uds or ''}:{self.settings.path}"

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, enter the handler's lifespan, and accept.

        Raises OSError, with the address in its text, where one cannot be bound, and ValueError where the settings do
        not allow that address.
        """
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()  # of connections, between their calls
        proactor = getattr(asyncio, "ProactorEventLoop", None)
        self.shares_buffer = proactor is None or not isinstance(self.loop, proactor)
        keep_heap()
        host, port, uds, fd, sock = self._bind
        if sock is not None:
            self.sockets = [sock] if isinstance(sock, socket.socket) else [*sock]
        else:
            self.sockets = await open_sockets(self.loop, self.settings, host, port, uds, fd)
        try:
            self._addresses = self.addresses
            hosts = host_policy(self.settings, self._addresses)
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.runtime)
                await self._set_up_ops(hosts, stack)
                self._begin_ticking()
                stack.callback(self._unlisten)
                self._warn()
                for one in self.sockets:
                    one.setblocking(False)
                    send_at_once(one)
                    self._servers.append(await self._listen(one))
                stack.pop_all()
        except BaseException:
            for one in self.sockets:
                one.close()
            self._unlink()
            raise

    async def _set_up_ops(self, hosts: HostPolicy, stack: AsyncExitStack) -> None:
        self.recorder = recorder_of(self.runtime)
        self.endpoint = self._make_endpoint(hosts)
        if self.settings.apart:
            await self._open_ops(stack)

    async def _open_ops(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        sockets = await open_ops_sockets(self.loop, settings)
        stack.callback(close_all, sockets)
        self.ops = OpsListener(self, sockets)
        stack.callback(self.ops.close)
        await self.ops.start()

    def _make_endpoint(self, hosts: HostPolicy) -> Endpoint:
        return endpoint_of(self.runtime, hosts, self)

    def _warn(self) -> None:
        # `allowed_hosts` does not silence this warning: it names the server, and does not restrict the clients.
        for host in reachable(self.addresses) if self.settings.is_open else ():
            logger.warning("whoever can reach %s may use this server: set token, verifier or authorize", host)

    async def _listen(self, sock: socket.socket) -> asyncio.Server | Acceptor:
        settings = self.settings
        # Without TLS, only asyncio's selector loop needs an `Acceptor`.  uvloop's own server is faster and loses no
        # accepted connection.  The Windows loop has no `add_reader`.
        if settings.ssl is None and not isinstance(self.loop, asyncio.SelectorEventLoop):
            # asyncio takes any bound stream socket here, a Unix one as well.
            return await self.loop.create_server(self._connected, sock=sock, backlog=settings.backlog)
        return self._acceptor(sock)

    def _acceptor(self, sock: socket.socket, leaves: Callable[[], bool] | None = None) -> Acceptor:
        settings = self.settings
        return Acceptor(
            sock, settings.ssl, self._accepted, self._is_full, self.handshakes,
            timeout=settings.handshake_timeout, backlog=settings.backlog, leaves=leaves,
        )  # fmt: skip

    def _connected(self) -> Connection:
        return Connection(self)

    def _accepted(self, made: Callable[[Any], None] | None) -> Connection:
        connection = Connection(self)
        connection.on_made = made
        return connection

    def _is_full(self, peer: str) -> bool:
        limit = self.settings.max_connections
        if limit is None or len(self.connections) + len(self.handshakes) < limit + TOLD_WHY:
            return False
        return self.endpoint.trusts(peer) or not self.make_room(address_party(peer))

    def _unlisten(self) -> None:
        for server in self._servers:
            server.close()
        self._end_ticking()

    def _unlink(self) -> None:
        remove_socket_file(self._uds)

    def stop(self) -> None:
        """Ask the server to end in order; a second call makes it end at once.

        It must be called on the loop's thread, and returns immediately.
        """
        if self._stopping.is_set():
            self._forced.set()
        self._stopping.set()

    async def wait_stopped(self) -> None:
        """Wait until `stop` is called."""
        await self._stopping.wait()

    async def retire(self, limit: float, *, other_code: bool = False) -> None:
        """Accept no more, and serve on the open connections: for a server that another process replaces.

        Streams that only listen end now, and each further answer closes its connection, so clients come back to the
        other process.  An idle connection stays open for the `grace` of the settings, because a request may be on its
        way; a running call has `limit` seconds.  Returns when nothing is left, or when `stop` is called; then call
        `aclose`.

        With `other_code` the other process may answer differently.  So idle connections close now, or the next request
        on one would still be answered here; and clients are told that each list may have changed.
        """
        for server in self._servers:
            if isinstance(server, Acceptor):
                server.stop()
            else:
                server.close()
        self._close_after_answers()
        if other_code:
            for connection in list(self.connections):
                connection.drain()
            await self._tell_of_changes()  # while the streams that carry it are open
        self.endpoint.end_idle_streams()
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        began, grace = self.loop.time(), min(limit, 0.0 if other_code else self.settings.grace)
        waits = [self.loop.create_task(self._wait_deserted(grace)), self.loop.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await self.runtime.wait_idle(limit - (self.loop.time() - began), self._stopping)

    def _close_after_answers(self) -> None:
        """From now on each answer is the last one of its connection, so that clients and proxies let go of it.

        This holds for connections that are yet to come too: from a TLS handshake, or accepted a moment ago.
        """
        self.leaving = True
        self.settings = replace(self.settings, max_requests=1)
        for connection in list(self.connections):
            connection.retire()

    async def _tell_of_changes(self) -> None:
        others = set(self.runtime.tasks)
        self.runtime.handler.notify_lists_changed()
        if telling := self.runtime.tasks - others:  # in a fleet a notice is written into a log first
            await asyncio.wait(telling, timeout=NOTICE_TIME)

    async def aclose(self, grace: float | None = None) -> None:
        """End the server in order; running calls have `grace` seconds (default: the settings').  Idempotent.

        A cancellation does not leave the server half closed: the remaining steps are done at once, and then
        CancelledError is raised.
        """
        if self._closed is None:
            self._closed = self.loop.create_task(self._close(self.settings.grace if grace is None else grace))
        with _shield():
            try:
                await asyncio.shield(self._closed)
            except asyncio.CancelledError:
                self._forced.set()
                await asyncio.wait([self._closed])
                raise

    async def _close(self, grace: float) -> None:
        self._stopping.set()
        if self.settings.drain_delay is not None and not self.leaving:
            self._close_after_answers()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._forced.wait(), self.settings.drain_delay)
            await self._serve_last_requests()
        self.draining = self.runtime.draining = True
        for server in self._servers:
            server.close()
        self._unlink()
        self.endpoint.end_idle_streams()
        for connection in list(self.connections):
            connection.drain()
        # uvloop reports an accepted connection a turn or two later.  Without this wait, a connection could come when
        # no code would close it any more.
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        await end_calls(self.runtime, self.endpoint, grace, self._forced)
        for connection in list(self.connections):
            connection.close()
        await self._wait_deserted(FORCED_TIME if self._forced.is_set() else FLUSH_TIME)
        for connection in list(self.connections):
            connection.abort()
        await self._wait_deserted(FLUSH_TIME)  # usually takes a turn or two of the loop
        self._end_ticking()
        if self.ops is not None:
            self.ops.close()
            remove_socket_file(self.settings.ops_uds)
        await self.runtime.__aexit__(None, None, None)

    async def _serve_last_requests(self) -> None:
        """Close the port, and serve the requests that are on their way: a load balancer cannot know of that moment."""
        held = [hold_handshakes(sock) for sock in self.sockets if self._has_port_alone]
        if any(held):
            await asyncio.sleep(HANDSHAKE_TIME)
        making = []
        for server, sock in zip(self._servers, self.sockets, strict=True):
            if isinstance(server, Acceptor):
                server.stop_after(self.settings.backlog)
            else:
                last = second_descriptor(sock)
                server.close()
                for peer, _ in last_of(last, self.settings.backlog):
                    making.append(self.loop.connect_accepted_socket(self._connected, peer))
        await asyncio.gather(*making, return_exceptions=True)  # an error means that the peer has left
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        ends = self.loop.time() + LAST_REQUESTS
        while self._awaits_requests() and self.loop.time() < ends and not self._forced.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._forced.wait(), LAST_LOOK)

    def _awaits_requests(self) -> bool:
        return bool(self.handshakes) or any(one.awaits_request for one in self.connections)

    async def _wait_deserted(self, limit: float) -> None:
        if self.connections:
            self._deserted.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._deserted.wait(), limit)

    def joined(self, connection: Connection) -> None:
        """Count a connection for its client."""
        assert connection.party is not None, "it was looked up"
        self._peers.add(connection.party, connection)

    def make_room(self, party: str) -> bool:
        """End a connection of the client that has most connections, if it has more than `party` would have.

        A connection that waits for a request goes first, then a connection with a request that has not wholly arrived,
        then a stream that only listens.  A connection with a running call is never ended.
        """
        found = max(islice(self._peers.before(party), SPARED_OF), key=attrgetter("spare"), default=None)
        if found is None or not found.spare:
            return False
        self._forget(found)  # at once, so that it is not found again before it has gone
        found.abort()
        return True

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if connection.party is not None:
            self._peers.remove(connection.party, connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended, and keep its counts of bytes."""
        self._forget(connection)
        metrics = self.runtime.metrics
        if metrics is not None:
            metrics.received += connection.received
            metrics.sent += connection.written
        if not self.connections:
            self._deserted.set()

    # --- the clock -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.date = http_date(time.time())
        super()._tick()

    @property
    def links(self) -> Iterable[Connection]:
        return self.connections


def http_date(seconds: float) -> bytes:
    """RFC 9110 5.6.7, IMF-fixdate.  The names of days and months are English in every locale."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    return date.encode("ascii")


def _shield() -> ExitStack:
    """A block whose waits no anyio scope around it cancels.

    A cancelled anyio scope of the caller cancels each wait in it again.  Without the shield, the server would take that
    for a second demand to end, and would end at once instead of in order.  A scope can only be there if its anyio is
    loaded: the host's, or the one that a vendored copy carries.  So a server does not load the megabyte itself.
    """
    shields = ExitStack()
    for name in ("anyio", f"{__name__.rsplit('.', 2)[0]}._deps.anyio"):
        scope = getattr(sys.modules.get(name), "CancelScope", None)  # None where another thread just loads it
        if scope is not None:
            shields.enter_context(scope(shield=True))
    return shields
