# SPDX-License-Identifier: MIT
"""A listening server: sockets, the clock of its connections, signals, and an orderly end.

`serve` and `run` are for programs that are the server; `listening` is for programs that have one.

Rule: the end has an order, and every step of it a limit.  Stop accepting; end the streams on which nothing runs;
let running calls finish for `grace` seconds; cancel; close; clean up.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Any

from .acceptor import Acceptor
from .access import Recorder, as_json, as_text
from .connection import READ_SIZE, TOLD_WHY, Connection
from .door import VARYING
from .endpoint import Endpoint
from .fairness import Crowd, address_party
from .handler import ServerHandler
from .headers import LOOPBACK_ADDRESSES, LOOPBACK_HOSTS, HostPolicy
from .http11 import HeadCache
from .metrics import Metrics
from .ops import OpsEndpoint, OpsListener
from .reply import Reply
from .runtime import Runtime
from .settings import Settings
from .shown import escaping

logger = escaping(logging.getLogger(__name__))

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
MAX_TICK = 1.0  # seconds between two looks at the deadlines; less where a deadline is short,
MIN_TICK = 0.005  # but a deadline of nothing must not take all of the time
CANCEL_TIME = 1.0  # for what was cancelled to end; and where somebody insists,
FORCED_TIME = 0.1
FLUSH_TIME = 0.5  # for the last bytes to leave, and for what else is left
RESERVED_DESCRIPTORS = 64
SPARED_OF = 1_024  # connections of one client, for one that can be spared
ACCEPT_TURNS = 3  # of the loop, for what was accepted before the sockets were closed
PORT_TRIES = 8  # to find one port that is free on both families
OPS_ADDRESS = "ops"  # the file name of an OSError that is about that address, and not about the endpoint's
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
PROBE_TIME = 1.0  # for a Unix socket to say whether somebody listens


class Server:
    """One endpoint on its sockets.  `async with listening(...)` makes, starts and ends one."""

    def __init__(
        self,
        handler: ServerHandler,
        settings: Settings | None = None,
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        uds: str | None = None,
        fd: int | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.settings = _with_descriptor_limit(settings or Settings())
        self.runtime = Runtime(handler, self.settings, self.settings.max_values)
        self.buffer = memoryview(bytearray(READ_SIZE))
        self.shares_buffer = True
        self.heads = HeadCache(varying=VARYING)
        self.connections: set[Connection] = set()
        self._peers = Crowd[Connection]()  # the same by client, but those of proxies
        self.handshakes: set[asyncio.Task[None]] = set()  # what may become connections
        self.replies: set[Reply] = set()
        self.draining = False
        self.recorder: Recorder | None = None
        self.ops: OpsListener | None = None
        self.lag = 0.0  # seconds by which the clock was late lately
        self._began = self._due = 0.0
        self.now = 0.0
        self.date = b""
        self.sockets: list[socket.socket] = []
        self._addresses: list[Any] = []
        self.loop: asyncio.AbstractEventLoop
        self.endpoint: Endpoint
        self._bind = (host, port, uds, fd, sock)
        self._uds = uds
        self._servers: list[asyncio.Server | Acceptor] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tick_time = _tick_time(self.settings)
        self._patience = self._beats(self.settings.patience)
        self._keep_alive = self._beats(self.settings.keep_alive)
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._closed: asyncio.Task[None] | None = None
        self._deserted = asyncio.Event()  # the last connection is lost

    # --- where it is -----------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[Any]:
        """The bound addresses: (host, port, ...) tuples, or the path of a Unix socket."""
        # A socket that is closed, as each is while the server drains, does not know it any more.
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
    def uptime(self) -> float:
        """Seconds since it began to listen."""
        return self.loop.time() - self._began

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

        Raises OSError where an address cannot be had, ValueError where it may not be served as it is set.
        """
        self.loop = asyncio.get_running_loop()
        proactor = getattr(asyncio, "ProactorEventLoop", None)
        self.shares_buffer = proactor is None or not isinstance(self.loop, proactor)
        host, port, uds, fd, sock = self._bind
        if sock is not None:
            self.sockets = [sock]
        elif fd is not None:
            self.sockets = [socket.socket(fileno=fd)]
        elif uds is not None:
            self.sockets = [_bind_unix(uds, self.settings.uds_mode)]
        else:
            self.sockets = await _bind_tcp(self.loop, host, port)
        try:
            self._addresses = self.addresses
            hosts = host_policy(self.settings, self._addresses)
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.runtime)
                await self._set_up_ops(hosts, stack)
                self._began = self._due = self.loop.time()
                self._tick()
                stack.callback(self._unlisten)
                self._warn()
                for one in self.sockets:
                    one.setblocking(False)
                    self._servers.append(await self._listen(one))
                stack.pop_all()
        except BaseException:
            for one in self.sockets:
                one.close()
            self._unlink()
            raise

    async def _set_up_ops(self, hosts: HostPolicy, stack: AsyncExitStack) -> None:
        settings = self.settings
        if settings.metrics or settings.apart:
            self.runtime.metrics = Metrics()
        if settings.access_log or self.runtime.metrics is not None:
            form = as_json if settings.access_log == "json" else as_text if settings.access_log else None
            self.recorder = Recorder(form, self.runtime.metrics)
        self.endpoint = self._make_endpoint(hosts)
        if not settings.apart:
            return
        try:
            if settings.ops_uds is not None:
                sockets = [_bind_unix(settings.ops_uds, settings.uds_mode)]
            else:
                sockets = await _bind_tcp(self.loop, settings.ops_host, settings.ops_port or 0)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, OPS_ADDRESS) from exc
        stack.callback(_close_all, sockets)
        self.ops = OpsListener(self, sockets)
        stack.callback(self.ops.close)
        await self.ops.start()

    def _make_endpoint(self, hosts: HostPolicy) -> Endpoint:
        settings = self.settings
        own = (settings.health or settings.metrics) and not settings.apart
        return OpsEndpoint(self.runtime, hosts, self) if own else Endpoint(self.runtime, hosts)

    def _warn(self) -> None:
        # Whoever set allowed_hosts has said by which names it is called, and nothing of who may call.
        for host in _reachable(self.addresses) if self.settings.is_open else ():
            logger.warning("whoever can reach %s may use this server: set token, verifier or authorize", host)

    async def _listen(self, sock: socket.socket) -> asyncio.Server | Acceptor:
        settings = self.settings
        # uvloop's own server is the faster one, and loses nothing; Windows' own loop has no other way.
        if settings.ssl is None and not isinstance(self.loop, asyncio.SelectorEventLoop):
            # asyncio takes any bound stream socket here, a Unix one as well.
            return await self.loop.create_server(self._connected, sock=sock, backlog=settings.backlog)
        return Acceptor(
            sock, settings.ssl, self._accepted, self._is_full, self.handshakes,
            timeout=settings.handshake_timeout, backlog=settings.backlog,
        )  # fmt: skip

    def _connected(self) -> Connection:
        return Connection(self)

    def _accepted(self, made: Callable[[], None]) -> Connection:
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
        if self._timer is not None:
            self._timer.cancel()

    def _unlink(self) -> None:
        _unlink(self._uds)

    def stop(self) -> None:
        """Ask it to end; a second time, at once.  On the loop's thread; returns immediately."""
        if self._stopping.is_set():
            self._forced.set()
        self._stopping.set()

    async def wait_stopped(self) -> None:
        """Until `stop` is called."""
        await self._stopping.wait()

    async def aclose(self, grace: float | None = None) -> None:
        """End it in order; running calls have `grace` seconds (default: the settings').  Idempotent.

        Cancelling it does not leave a server half closed: what is left is ended at once, then the cancellation goes on.
        """
        if self._closed is None:
            self._closed = self.loop.create_task(self._close(self.settings.grace if grace is None else grace))
        import anyio  # a megabyte and its time, which nothing needs before the end

        # anyio's scopes cancel again at each wait, which would be "at once" even for the first time.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.shield(self._closed)
            except asyncio.CancelledError:
                self._forced.set()
                await asyncio.wait([self._closed])
                raise

    async def _close(self, grace: float) -> None:
        self._stopping.set()
        self.draining = self.runtime.draining = True
        for server in self._servers:
            server.close()
        self._unlink()
        self.endpoint.quiet()
        for connection in list(self.connections):
            connection.drain()
        # uvloop tells of what it has accepted a turn or two later, when nobody would look after it any more.
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        await self._wait_for(self.runtime.tasks, grace)
        self.endpoint.close()
        for task in list(self.runtime.tasks):
            task.cancel()
        if self.runtime.tasks:
            await asyncio.wait(self.runtime.tasks, timeout=FORCED_TIME if self._forced.is_set() else CANCEL_TIME)
        if self.runtime.tasks:
            logger.warning("%d calls ignored their cancellation", len(self.runtime.tasks))
        for connection in list(self.connections):
            connection.close()
        await self._wait_deserted(FORCED_TIME if self._forced.is_set() else FLUSH_TIME)
        for connection in list(self.connections):
            connection.abort()
        await self._wait_deserted(FLUSH_TIME)  # a turn or two of the loop
        if self._timer is not None:
            self._timer.cancel()
        if self.ops is not None:
            self.ops.close()
            _unlink(self.settings.ops_uds)
        await self.runtime.__aexit__(None, None, None)

    async def _wait_for(self, tasks: set[asyncio.Task[None]], limit: float) -> None:
        """Until all have ended, the limit has passed, or somebody insists."""
        deadline = self.loop.time() + limit
        forced = self.loop.create_task(self._forced.wait())
        try:
            while tasks and not self._forced.is_set():
                left = deadline - self.loop.time()
                if left <= 0:
                    return
                await asyncio.wait({*tasks, forced}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forced.cancel()

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
        """End a connection of the client that has most, where that is more than `party` would have.

        One that waits for a request goes first, then one whose request has not arrived, then a stream that only
        listens; none on which a call runs.
        """
        found = max(islice(self._peers.before(party), SPARED_OF), key=attrgetter("spare"), default=None)
        if found is None or not found.spare:
            return False
        self._forget(found)  # at once: it is not to be found again before it has gone
        found.abort()
        return True

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if connection.party is not None:
            self._peers.remove(connection.party, connection)

    def lost(self, connection: Connection) -> None:
        """A connection is no more."""
        self._forget(connection)
        metrics = self.runtime.metrics
        if metrics is not None:
            metrics.received += connection.received
            metrics.sent += connection.written
        if not self.connections:
            self._deserted.set()

    # --- the clock -------------------------------------------------------------------------------------------

    def _beats(self, seconds: float | None) -> int:
        return 0 if seconds is None else max(1, round(seconds / self._tick_time))

    def _tick(self) -> None:
        self.now = now = self.loop.time()
        self.date = _http_date(time.time())
        # Half of what it was before, so that whoever asks from time to time hears of it.
        self.lag = max(now - self._due, self.lag / 2)
        self._due = now + self._tick_time
        self._timer = self.loop.call_at(self._due, self._tick)
        for connection in list(self.connections):
            connection.tick(now)
        patience, keep_alive = self._patience, self._keep_alive
        for reply in list(self.replies):
            reply.tick(patience, keep_alive)
        if self.ops is not None:
            self.ops.tick(now)
        self.endpoint.sweep()


# --- serving -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    handler: ServerHandler,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    uds: str | None = None,
    fd: int | None = None,
    sock: socket.socket | None = None,
    settings: Settings | None = None,
    kind: type[Server] = Server,
    **fields: Any,
) -> AsyncIterator[Server]:
    """A server inside a program that has its own loop: bound when the block begins, ended in order at its end.

    ``async with listening(handler, port=0) as server: print(server.url)``.  Further keywords are fields of `Settings`.
    """
    server = kind(handler, _settings(settings, fields), host=host, port=port, uds=uds, fd=fd, sock=sock)
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()


async def serve(
    handler: ServerHandler,
    *,
    on_start: Callable[[Server], None] | None = None,
    signals: bool = True,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM (a second one ends at once), or until the task is cancelled.

    `options` are those of `listening`; `on_start` is called with the server once it accepts.

    `signals` is for programs that are the server, and in the main thread.  Handlers of `signal.signal` are afterwards
    what they were.  One that the program gave to its loop by `add_signal_handler` is not, since a loop does not tell
    what it had: such a program says `signals=False` and ends this by `server.stop()` (from `on_start`) or by cancelling
    it.
    """
    with ExitStack() as stack:
        # The signals are ours until the end, since a second one counts.
        async with listening(handler, **options) as server:
            if signals:
                _install_signals(server, stack)
            if on_start is not None:
                on_start(server)
            await server.wait_stopped()


def run(handler: ServerHandler, *, loop: str = "auto", **options: Any) -> None:
    """Serve and block, on a loop of its own: "uvloop", "asyncio", or "auto" (uvloop where it is installed).

    Signal handlers and the thread's event loop are afterwards what they were.  Raises RuntimeError inside a running
    loop: there, await `serve`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("a loop runs in this thread already: await serve(...) in it, or use start_in_thread")
    with closing(_new_loop(loop)) as event_loop:
        try:
            event_loop.run_until_complete(serve(handler, **options))
        finally:
            event_loop.run_until_complete(_clean_up(event_loop))


async def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    # What handlers left behind, which asyncio.run would end as well.
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=FLUSH_TIME)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _settings(settings: Settings | None, fields: dict[str, Any]) -> Settings:
    return replace(settings or Settings(), **fields) if fields else settings or Settings()


def _new_loop(loop: str) -> asyncio.AbstractEventLoop:
    if loop not in ("auto", "asyncio", "uvloop"):
        raise ValueError(f"loop is auto, asyncio or uvloop, not {loop!r}")
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                raise
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _install_signals(server: Server, stack: ExitStack) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    loop = server.loop
    for number in (signal.SIGINT, signal.SIGTERM):
        # None: not installed by Python, and not to be had back.
        stack.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
        try:
            loop.add_signal_handler(number, server.stop)
            stack.callback(loop.remove_signal_handler, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(server.stop))


# --- sockets -----------------------------------------------------------------------------------------------------


def host_policy(settings: Settings, addresses: list[Any]) -> HostPolicy:
    """Who may be addressed.  Raises ValueError where a server that others can reach does not say."""
    if settings.allowed_hosts is not None:
        return HostPolicy(settings.allowed_hosts, settings.allowed_origins)
    own = [str(address[0]) for address in addresses if isinstance(address, tuple)]
    for host in _reachable(addresses):
        raise ValueError(
            f"{host} can be reached from elsewhere: name the hosts that clients use in allowed_hosts "
            '(--allowed-hosts), or "*" for any'
        )
    names = [f"[{host}]" if ":" in host else host for host in own]
    return HostPolicy([*LOOPBACK_HOSTS, *names], settings.allowed_origins)


def _reachable(addresses: list[Any]) -> list[str]:
    """Those that other machines can reach."""
    own = [str(address[0]) for address in addresses if isinstance(address, tuple)]
    return [host for host in own if not _is_loopback(host.partition("%")[0])]


def _is_loopback(host: str) -> bool:
    if host in LOOPBACK_ADDRESSES:
        return True
    from ipaddress import ip_address

    return ip_address(host).is_loopback


async def _bind_tcp(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all on one port; "" and "*" are every address of both families."""
    if host.lower() == "localhost":
        # Both, whatever the machine's hosts file says: on the family that we leave out, somebody else could listen.
        targets: list[Any] = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    elif (literal := _literal(host, port)) is not None:
        targets = [literal]
    else:
        name = None if host in ("", "*") else host
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    return _bind_somewhere(targets, port, PORT_TRIES)


def _literal(host: str, port: int) -> tuple[int, Any] | None:
    """What is an address already needs no resolver, which is a thread and a codec for names of other scripts."""
    if host == LOOPBACK_ADDRESSES[0]:
        return socket.AF_INET, (host, port)
    from ipaddress import IPv4Address, ip_address

    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return socket.AF_INET, (host, port)
    return None if "%" in host else (socket.AF_INET6, (host, port, 0, 0))


def _http_date(seconds: float) -> bytes:
    """RFC 9110 5.6.7, IMF-fixdate; the names of days and months are English whatever the locale."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    date = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    return date.encode("ascii")


def _bind_somewhere(targets: list[Any], port: int, tries: int) -> list[socket.socket]:
    try:
        return _bind_all(targets, port)
    except OSError as exc:
        # A free port of one family may be taken on the other: then try another.
        if port or exc.errno != errno.EADDRINUSE or tries == 1:
            raise
    return _bind_somewhere(targets, port, tries - 1)


def _bind_all(targets: list[Any], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, address in targets:
            try:
                # The protocol named: asyncio switches Nagle's algorithm off only where it is.
                sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            except OSError:
                if len(targets) > 1:
                    continue  # the machine has no such family
                raise
            sockets.append(sock)
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError as exc:
                if exc.errno == errno.EADDRNOTAVAIL and len(targets) > 1:
                    sockets.pop().close()  # the family is there, the address is not
                    continue
                raise
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, "no address of this host can be bound")
    return sockets


def _bind_unix(path: str, mode: int | None) -> socket.socket:
    """A Unix socket; one that a dead server left behind is replaced, a living one is not."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(PROBE_TIME)
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
                except (BlockingIOError, TimeoutError):  # it listens, and is busy
                    raise _in_use(path) from None
                else:
                    raise _in_use(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if mode is not None:
            # Nobody can connect before it listens, so there is no moment with other bits.
            os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _unlink(path: str | None) -> None:
    if path is not None:
        with suppress(OSError):
            os.unlink(path)


def _in_use(path: str) -> OSError:
    return OSError(errno.EADDRINUSE, "a server listens there already", path)


def _with_descriptor_limit(settings: Settings) -> Settings:
    """Keep some descriptors for everything that is not a connection."""
    try:
        import resource
    except ImportError:  # Windows
        return settings
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or settings.max_connections is None:
        return settings
    room = max(1, soft - RESERVED_DESCRIPTORS)
    return replace(settings, max_connections=room) if room < settings.max_connections else settings


def _tick_time(settings: Settings) -> float:
    waits = (
        settings.first_byte_timeout,
        settings.head_timeout,
        settings.body_timeout,
        settings.idle_timeout,
        settings.write_timeout,
        settings.patience,
        settings.keep_alive,
        settings.session_idle,
        settings.session_initialize,
    )
    return max(MIN_TICK, min([MAX_TICK, *(wait / 4 for wait in waits if wait is not None)]))
