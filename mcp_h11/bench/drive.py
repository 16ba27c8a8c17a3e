# SPDX-License-Identifier: MIT
"""Runs scripts on connections: a closed loop, one request under way on each connection.

One wrong answer ends the run with `Wrong`; where `LoadPlan.errors_allowed` is set, it is counted by its kind, and the
connection begins again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from .polling import READABLE, WRITABLE, open_poll
from .scenarios import LoadPlan, Script
from .talk import AnswerReader, EventWatch, WholeAnswer, Wrong

READ_AT_ONCE = 256 * 1024
SILENCE_LIMIT = 30.0  # seconds without any byte from the server
FINISH_LIMIT = 5.0  # seconds for the answers that are under way at the end, where errors are counted
MAX_CONNECTS = 4000  # a run: each leaves a port in TIME_WAIT
WARM_SHARE = 4  # of a run's connections, one in so many may be made in its warm-up
TICK_SECONDS = 0.25  # between two looks at the deadlines, and two lines of progress
RETRY_PAUSE = 0.1  # seconds until a connection that failed begins again
MAX_EXAMPLE = 300  # characters of an error that are kept
# How the start of a connection that does not wait is answered while it is under way (Windows has numbers of its own).
UNDER_WAY = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, 10035}
NOT_YET = {errno.ENOTCONN, 10057}


class Peer:
    """One connection, and the script that speaks on it."""

    __slots__ = ("began", "buffer", "done", "last", "number", "script", "sock", "unsent", "used", "waits", "watch")

    def __init__(self, number: int, script: Script) -> None:
        self.number = number
        self.script = script
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.unsent: memoryview | None = None
        self.last = b""
        self.used = 0  # answers on this connection
        self.done = False  # an operation, at some time
        self.waits = 0  # READABLE and WRITABLE, as it is registered
        self.watch: EventWatch | None = None
        self.began = 0.0


Tick = Callable[["Driver"], bool]  # called each TICK_SECONDS; true ends the run


class Driver:
    """Runs the scripts of one process; `latencies` has the seconds of each operation while `measuring`.

    Attributes:
        errors: the number of errors of each kind; `examples` has the first text of each.
        ended: why the run ended before its time: "errors", "connections", "operations", "interrupted", or "".
    """

    def __init__(self, load: LoadPlan, numbers: range, tick: Tick | None = None) -> None:
        self.load = load
        self.reader = AnswerReader()
        self.poll = open_poll()
        self.peers: dict[int, Peer] = {}
        self.latencies = array("d")
        self.reconnects = 0
        self.kinds: set[str] = set()
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.ended = ""
        self._failed = 0  # since the beginning, the warm-up too
        self._tick = tick
        self._counts = load.errors_allowed > 0
        self._family, self._address = address_taken(load)
        self._all = [Peer(number, load.scenario.make(load, number)) for number in numbers]
        self._resting: deque[tuple[float, Peer]] = deque()
        self._stopping = False
        self._left = len(self._all)
        self._connects = 0
        self._warming = True
        self._looked = time.perf_counter()

    def begin(self) -> None:
        for peer in self._all:
            self._start(peer)

    def warmed(self) -> None:
        """The warm-up is over: latencies and connections are counted from here."""
        del self.latencies[:]
        self.reconnects = 0
        self._connects = len(self.peers)  # those that are open are of the run
        self._warming = False
        if self.ended == "connections":
            self.ended = ""

    def run(self, seconds: float, least: int = 0, most: int | None = None, finish: bool = False) -> int:
        """Go on for so long, and for `least` operations; how many there were.

        `finish` lets the open operations end, and stops.
        """
        if finish:
            self._stopping = True
            self._left -= len(self._resting)
            self._resting.clear()
        elif self.ended and self._counts:  # in the warm-up
            return 0
        before = len(self.latencies)
        clock = time.perf_counter
        heard = clock()
        end = heard + seconds
        wait = SILENCE_LIMIT if finish else min(SILENCE_LIMIT, seconds)
        if self._counts or self._tick is not None:
            wait = min(wait, TICK_SECONDS)
        while self._left:
            ready = self.poll.poll(wait)
            now = clock()
            if ready:
                heard = now
            elif now - heard > SILENCE_LIMIT and not self._counts:
                raise Wrong(f"no answer for {SILENCE_LIMIT:g} s", "timeout")
            for fd, what in ready:
                # One that failed may have closed another socket of the same list, and begun anew on its number.
                peer = self.peers.get(fd)
                if peer is not None:
                    self._handle(peer, what)
            self._look(now)
            done = len(self.latencies) - before
            if finish:
                if self._counts and now >= end:
                    break
            elif self._over(now >= end, done, least, most):
                break
        return len(self.latencies) - before

    def _over(self, late: bool, done: int, least: int, most: int | None) -> bool:
        full = most is not None and done >= most
        if full:
            self.ended = self.ended or "operations"
        over = late or full or self.ended in ("errors", "interrupted", "connections")
        return over and (done >= least or self._counts)

    def cold(self) -> bool:
        """Whether a connection has not yet completed an operation."""
        return not all(peer.done for peer in self._all)

    def close(self) -> None:
        for peer in self._all:
            if peer.sock is not None:
                peer.sock.close()
            peer.script.close()
        self.poll.close()

    def _start(self, peer: Peer) -> None:
        peer.began = 0.0
        try:
            self._send(peer, next(peer.script))
        except Wrong as exc:
            self._fail(peer, exc)

    def _look(self, now: float) -> None:
        """At the connections that rest, at the deadlines, and let the caller show how far it is."""
        while self._resting and self._resting[0][0] <= now:
            peer = self._resting.popleft()[1]
            peer.script = self.load.scenario.make(self.load, peer.number)
            self._start(peer)
        if now - self._looked < TICK_SECONDS:
            return
        self._looked = now
        if self._counts:
            late = now - self.load.timeout
            for peer in self._all:
                if peer.sock is not None and peer.began < late:
                    self._fail(peer, Wrong(f"no answer within {self.load.timeout:g} s", "timeout"))
        if self._tick is not None and self._tick(self):
            self.ended = "interrupted"

    def _fail(self, peer: Peer, error: Wrong) -> None:
        """Count an error, and let the connection rest; or raise it, where the first one ends the run."""
        if not self._counts:
            raise error
        self._count(error)
        self._disconnect(peer)
        peer.watch = None
        peer.buffer.clear()
        peer.script.close()
        if self._stopping:
            self._left -= 1
        else:
            self._resting.append((time.perf_counter() + RETRY_PAUSE, peer))

    def _count(self, error: Wrong) -> None:
        self.errors[error.kind] += 1
        self.examples.setdefault(error.kind, str(error)[:MAX_EXAMPLE])
        self._failed += 1
        if self._failed >= self.load.errors_allowed:
            self.ended = self.ended or "errors"

    # --- sockets ---

    def _connect(self, peer: Peer) -> None:
        """Begin to connect, without waiting: a request can be sent at once over loopback, elsewhere a little later."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            ports = self.load.ports
            address = (
                (self._address[0], ports[peer.number % len(ports)], *self._address[2:]) if ports else self._address
            )
            code = sock.connect_ex(address)
            if code not in UNDER_WAY:
                raise OSError(code, os.strerror(code))
        except OSError:
            sock.close()
            raise
        peer.sock, peer.used, peer.unsent, peer.waits = sock, 0, None, READABLE
        peer.buffer.clear()
        self.peers[sock.fileno()] = peer
        self.poll.register(sock.fileno(), READABLE)
        self._connects += 1

    def _secured(self, peer: Peer) -> None:
        """TLS on a connection that is there by now.  Raises OSError where it failed, or is not there yet (ENOTCONN)."""
        sock, tls = peer.sock, self.load.tls
        assert sock is not None and tls is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.getpeername()
        # The first byte that is sent or received shakes hands; the number of the descriptor stays.
        peer.sock = tls.wrap_socket(sock, server_hostname=self.load.host, do_handshake_on_connect=False)

    def _disconnect(self, peer: Peer) -> None:
        sock = peer.sock
        if sock is not None:
            self.poll.unregister(sock.fileno())
            del self.peers[sock.fileno()]
            sock.close()
            peer.sock = None

    def _send(self, peer: Peer, request: Any) -> None:
        if type(request) is tuple:
            request, peer.watch = request
        peer.last = request
        if not peer.began:
            peer.began = time.perf_counter()
        if peer.sock is None:
            try:
                self._connect(peer)
            except OSError as exc:
                self._fail(peer, Wrong(f"no connection: {exc.strerror or exc}", kind_of_loss(exc)))
                return
        self._write(peer, memoryview(request))

    def _write(self, peer: Peer, data: memoryview) -> None:
        waits = READABLE | WRITABLE
        try:
            if self.load.tls is not None and not isinstance(peer.sock, ssl.SSLSocket):
                self._secured(peer)
            assert peer.sock is not None
            sent = peer.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except ssl.SSLWantReadError:  # the handshake waits for the other end
            sent, waits = 0, READABLE
        except OSError as exc:
            if exc.errno not in NOT_YET:
                self._lost(peer, exc)
                return
            sent = 0
        if sent < len(data):
            peer.unsent = data[sent:]
        else:
            peer.unsent, waits = None, READABLE
        if waits != peer.waits:
            assert peer.sock is not None
            self.poll.modify(peer.sock.fileno(), waits)
            peer.waits = waits

    def _lost(self, peer: Peer, error: OSError | None = None) -> None:
        """A connection that was kept may be closed by the server between two requests; then we ask again."""
        if not peer.used or peer.buffer:
            why = "" if error is None else f" ({error.strerror or error})"
            kind = "connection closed" if error is None else kind_of_loss(error)
            self._fail(peer, Wrong(f"the server dropped a connection instead of answering{why}", kind))
            return
        self._disconnect(peer)
        self.reconnects += 1
        self._send(peer, peer.last)

    def _received(self, peer: Peer) -> bytes:
        """The bytes that are there; b"" at the end.  Raises BlockingIOError where there are none yet, and OSError."""
        sock = peer.sock
        assert sock is not None
        if self.load.tls is None:
            return sock.recv(READ_AT_ONCE)
        if not isinstance(sock, ssl.SSLSocket):
            raise BlockingIOError
        try:
            data = sock.recv(READ_AT_ONCE)
            while sock.pending():  # poll does not see the bytes that are decrypted already
                data += sock.recv(READ_AT_ONCE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return data

    def _handle(self, peer: Peer, what: int) -> None:
        if peer.unsent is not None and (what & WRITABLE or peer.waits == READABLE):
            self._write(peer, peer.unsent)
            if peer.sock is None or (self.load.tls is not None and peer.unsent is not None):
                return
        if not what & ~WRITABLE:
            return
        lost = None
        try:
            data = self._received(peer)
        except BlockingIOError:
            return
        except OSError as exc:
            data, lost = b"", exc
        try:
            self._take(peer, data, lost)
        except Wrong as exc:
            if not self._counts:
                raise
            self._fail(peer, exc)

    def _take(self, peer: Peer, data: bytes, lost: OSError | None) -> None:
        if peer.watch is not None:
            if not data:
                raise Wrong(f"the stream ended after {len(peer.watch.seen)} events", "connection closed")
            if peer.watch.feed(data):
                peer.watch = None
                self._go_on(peer, None, True)
            return
        if peer.buffer:
            peer.buffer += data
            answer = self.reader.take(peer.buffer, eof=not data)
        else:
            answer = self.reader.take(data, eof=not data)
            if answer is None:
                peer.buffer += data
        if answer is not None:
            peer.buffer.clear()
            peer.used += 1
            self._go_on(peer, answer, answer.framing.close or not data)
        elif not data:
            self._lost(peer, lost)

    def _go_on(self, peer: Peer, answer: WholeAnswer | None, close: bool) -> None:
        if close:
            self._disconnect(peer)
            self.reconnects += 1
        request = peer.script.send(answer)
        if request is None or type(request) is Wrong:
            now = time.perf_counter()
            if request is None:
                self.latencies.append(now - peer.began)
                peer.done = True
                if answer is not None:
                    self.kinds.add("sse" if answer.framing.events else "json")
            else:
                self._count(request)
            if self.load.scenario.reconnect:
                self._disconnect(peer)
                if self._connects >= (MAX_CONNECTS // WARM_SHARE if self._warming else MAX_CONNECTS):
                    self._stopping = not self._warming
                    self.ended = self.ended or "connections"
            if self._stopping:
                self._left -= 1
                self._disconnect(peer)
                return
            peer.began = now
            request = next(peer.script)
        self._send(peer, request)


def address_taken(load: LoadPlan) -> tuple[socket.AddressFamily, Any]:
    """The family and the address that connections go to: of several, the first that takes a connection."""
    port = load.ports[0] if load.ports else load.port
    found = socket.getaddrinfo(load.host, port, type=socket.SOCK_STREAM)
    if len(found) > 1:
        with contextlib.suppress(OSError), socket.create_connection((load.host, port), SILENCE_LIMIT) as probe:
            return probe.family, probe.getpeername()
    return found[0][0], found[0][4]


def kind_of_loss(error: OSError) -> str:
    """The kind under which an error of a connection is counted."""
    if isinstance(error, ssl.SSLError):
        return "TLS"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "connection reset"
    if isinstance(error, TimeoutError):
        return "timeout"
    return f"connection: {error.strerror or error}"
