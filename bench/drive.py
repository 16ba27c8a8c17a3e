# SPDX-License-Identifier: MIT
"""Runs scripts on connections and measures: a closed loop over `epoll`, one request under way on each connection.

The clock runs between two marks while all connections are busy; what the server used is read at both.  One wrong
answer ends the run with `Wrong`.
"""

from __future__ import annotations

import math
import multiprocessing
import select
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any

import process
from process import Failed, Group
from scenarios import Load, Script, opened
from talk import Answer, Dialect, EventWatch, Reader, Wrong

READ = 256 * 1024
ANSWER_LIMIT = 30.0  # seconds without any byte from the server
MAX_CONNECTS = 4000  # a run: each leaves a port in TIME_WAIT
WARM_STEP = 0.1  # seconds between two looks whether all have had an answer
BUSY = 0.9  # of a core: from here on the generator is what is measured


# ------------------------------------------------------------------ connections


class Peer:
    """One connection, and the script that speaks on it."""

    __slots__ = ("began", "buffer", "done", "last", "number", "script", "sock", "unsent", "used", "watch")

    def __init__(self, number: int, script: Script) -> None:
        self.number = number
        self.script = script
        self.sock: socket.socket | None = None
        self.buffer = bytearray()
        self.unsent: memoryview | None = None
        self.last = b""
        self.used = 0  # answers on this connection
        self.done = False  # an operation, at some time
        self.watch: EventWatch | None = None
        self.began = 0.0


class Driver:
    """Runs the scripts of one process; `latencies` has the seconds of each operation while `measuring`."""

    def __init__(self, load: Load, numbers: range) -> None:
        self.load = load
        self.reader = Reader()
        self.poll = select.epoll()
        self.peers: dict[int, Peer] = {}
        self.latencies = array("d")
        self.reconnects = 0
        self.kinds: set[str] = set()
        self._all = [Peer(number, load.scenario.make(load, number)) for number in numbers]
        self._stopping = False
        self._left = len(self._all)
        self._connects = 0

    def begin(self) -> None:
        for peer in self._all:
            self._connect(peer)
            self._send(peer, next(peer.script))

    def run(self, seconds: float, least: int = 0, most: int | None = None, finish: bool = False) -> int:
        """Go on for so long, and for `least` operations; how many there were.

        `finish` lets what is under way end, and stops.
        """
        self._stopping = finish
        before = len(self.latencies)
        clock = time.perf_counter
        end = clock() + seconds
        wait = ANSWER_LIMIT if finish else min(ANSWER_LIMIT, seconds)
        heard = clock()
        while self._left:
            ready = self.poll.poll(wait)
            now = clock()
            if ready:
                heard = now
            elif now - heard > ANSWER_LIMIT:
                raise Wrong(f"no answer for {ANSWER_LIMIT:g} s")
            for fd, what in ready:
                self._handle(self.peers[fd], what)
            done = len(self.latencies) - before
            if not finish and done >= least and (now >= end or (most is not None and done >= most)):
                break
        return len(self.latencies) - before

    def cold(self) -> bool:
        """Whether somebody has not yet completed an operation."""
        return not all(peer.done for peer in self._all)

    def close(self) -> None:
        for peer in self._all:
            if peer.sock is not None:
                peer.sock.close()
            peer.script.close()
        self.poll.close()

    def _connect(self, peer: Peer) -> None:
        ports = self.load.ports or (self.load.port,)
        port = ports[peer.number % len(ports)]
        sock = socket.create_connection((self.load.host, port), timeout=ANSWER_LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        peer.sock, peer.used, peer.unsent = sock, 0, None
        peer.buffer.clear()
        self.peers[sock.fileno()] = peer
        self.poll.register(sock, select.EPOLLIN)
        self._connects += 1

    def _disconnect(self, peer: Peer) -> None:
        sock = peer.sock
        if sock is not None:
            self.poll.unregister(sock)
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
            self._connect(peer)
        self._write(peer, memoryview(request))

    def _write(self, peer: Peer, data: memoryview) -> None:
        assert peer.sock is not None
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost(peer)
            return
        if sent < len(data):
            if peer.unsent is None:
                self.poll.modify(peer.sock, select.EPOLLIN | select.EPOLLOUT)
            peer.unsent = data[sent:]
        elif peer.unsent is not None:
            peer.unsent = None
            self.poll.modify(peer.sock, select.EPOLLIN)

    def _lost(self, peer: Peer) -> None:
        """A connection that was kept may be closed by the server between two requests; then we ask again."""
        if not peer.used or peer.buffer:
            raise Wrong("the server dropped a connection instead of answering")
        self._disconnect(peer)
        self.reconnects += 1
        self._connect(peer)
        self._write(peer, memoryview(peer.last))

    def _handle(self, peer: Peer, what: int) -> None:
        if what & select.EPOLLOUT and peer.unsent is not None:
            self._write(peer, peer.unsent)
        if not what & ~select.EPOLLOUT:
            return
        assert peer.sock is not None
        try:
            data = peer.sock.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if peer.watch is not None:
            if not data:
                raise Wrong(f"the stream ended after {len(peer.watch.seen)} events")
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
            self._lost(peer)

    def _go_on(self, peer: Peer, answer: Answer | None, close: bool) -> None:
        if close:
            self._disconnect(peer)
            self.reconnects += 1
        request = peer.script.send(answer)
        if request is None:
            now = time.perf_counter()
            self.latencies.append(now - peer.began)
            peer.done = True
            if answer is not None:
                self.kinds.add("sse" if answer.framing.events else "json")
            if self.load.scenario.reconnect:
                self._disconnect(peer)
                if self._connects >= MAX_CONNECTS:
                    self._stopping = True
            if self._stopping:
                self._left -= 1
                self._disconnect(peer)
                return
            peer.began = now
            request = next(peer.script)
        self._send(peer, request)


# ------------------------------------------------------------------ measuring


@dataclass
class Result:
    """What one run measured.  Times are seconds unless their name says otherwise."""

    scenario: str
    era: str
    concurrency: int
    operations: int
    seconds: float
    cpu_us: float | None  # server CPU per operation
    throughput: float  # operations a second
    p50_us: float
    p95_us: float
    p99_us: float
    generator_share: float  # of a core, while measuring
    server_share: float | None
    others_share: float | None  # of a core, used by everything else on this machine
    rss: int | None  # bytes at the end of the run
    answers: str  # json, sse
    reconnects: int
    beside_us: float | None = None  # CPU of another process that works for the server, per operation

    @property
    def limited(self) -> bool:
        """Whether throughput and latency are the generator's rather than the server's."""
        return self.generator_share > BUSY


@dataclass
class Part:
    """What one process of the generator found."""

    latencies: array[float]
    seconds: float
    cpu: float
    reconnects: int
    kinds: set[str]


def drive(load: Load, numbers: range, ready: Callable[[], Any], done: Callable[[], Any]) -> Part:
    """Warm up, say so, measure, say so, let what is under way end."""
    driver = Driver(load, numbers)
    try:
        driver.begin()
        driver.run(load.warmup)
        while load.all_warm and driver.cold():
            driver.run(WARM_STEP)
        del driver.latencies[:]
        driver.reconnects = 0
        ready()
        began, cpu = time.perf_counter(), time.process_time()
        # Two turns of everybody at the least: what is half done at either end must not weigh much.
        driver.run(load.duration, least=2 * len(numbers), most=load.most)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        done()
        latencies = driver.latencies[:]
        reconnects = driver.reconnects
        driver.run(ANSWER_LIMIT, finish=True)
        return Part(latencies, seconds, cpu, reconnects, driver.kinds)
    finally:
        driver.close()
        forget(load)


class Line:
    """A connection for one question after the other."""

    def __init__(self, load: Load, reader: Reader) -> None:
        self._load = load
        self._reader = reader
        self._sock: socket.socket | None = None

    def ask(self, request: bytes) -> Answer:
        for _ in range(2):
            if self._sock is None:
                self._sock = socket.create_connection((self._load.host, self._load.port), timeout=ANSWER_LIMIT)
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = self._ask(self._sock, request)
            if answer is None or answer.framing.close:
                self.close()
            if answer is not None:
                return answer
        raise Wrong("the server drops connections")

    def _ask(self, sock: socket.socket, request: bytes) -> Answer | None:
        data = b""
        try:
            sock.sendall(request)
            while True:
                piece = sock.recv(READ)
                data += piece
                answer = self._reader.take(data, eof=not piece)
                if answer is not None or not piece:
                    return answer
        except ConnectionError:
            return None

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def forget(load: Load) -> None:
    """Delete the sessions that were opened, where the server lets us."""
    line = Line(load, Reader())
    try:
        while load.sessions:
            _, dialect = load.sessions.popitem()
            if line.ask(dialect.delete()).framing.status not in (200, 202, 204):
                load.sessions.clear()
    except (Wrong, OSError):
        load.sessions.clear()  # what went wrong has been said already
    finally:
        line.close()


def measure(load: Load, group: Group | None, beside: Group | None = None) -> Result:
    """One run.  Raises Wrong at the first answer that is not right, Failed where the server ends.

    `beside` is the server's own server, such as its store, which is counted apart.
    """
    watch = Watch(group, beside)
    if load.processes == 1:
        parts = [drive(load, range(load.concurrency), watch.start, watch.stop)]
    else:
        parts = drive_processes(load, watch)
    return summary(load, parts, watch)


class Watch:
    """What the server and the machine used between `start` and `stop`."""

    def __init__(self, group: Group | None, beside: Group | None = None) -> None:
        self._group = group
        self._beside = beside
        self._pids: list[int] = []
        self._before = (0.0, 0.0)
        self._beside_before = 0.0
        self.cpu: float | None = None
        self.beside: float | None = None
        self.busy = 0.0
        self.rss: int | None = None

    def start(self) -> None:
        if self._group is not None:
            self._pids = self._group.pids()
            if not self._pids:
                raise Failed("the server is no more")
            self._before = (self._group.cpu(self._pids), process.machine_busy())
        if self._beside is not None:
            self._beside_before = self._beside.cpu(self._beside.pids())

    def stop(self) -> None:
        if self._beside is not None:
            self.beside = self._beside.cpu(self._beside.pids()) - self._beside_before
        if self._group is not None:
            self.cpu = self._group.cpu(self._pids) - self._before[0]
            self.busy = process.machine_busy() - self._before[1]
            self.rss = self._group.usage().rss


def drive_processes(load: Load, watch: Watch) -> list[Part]:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(load.processes + 1)
    pipes, workers = [], []
    for index in range(load.processes):
        ours, theirs = context.Pipe(duplex=False)
        numbers = range(index, load.concurrency, load.processes)
        worker = context.Process(target=work, args=(load, numbers, barrier, theirs), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    try:
        barrier.wait(load.warmup + ANSWER_LIMIT)
        watch.start()
        barrier.wait(load.duration + ANSWER_LIMIT)
        watch.stop()
    except BrokenBarrierError:  # a worker failed; it says how
        barrier.abort()
    parts = []
    for pipe, worker in zip(pipes, workers, strict=True):
        if not pipe.poll(2 * ANSWER_LIMIT):
            raise Wrong("a process of the generator does not end")
        found = pipe.recv()
        worker.join(ANSWER_LIMIT)
        if isinstance(found, str):
            raise Wrong(found)
        parts.append(found)
    return parts


def work(load: Load, numbers: range, barrier: Any, pipe: Any) -> None:
    try:
        pipe.send(drive(load, numbers, barrier.wait, barrier.wait))
    except Exception as error:
        barrier.abort()
        pipe.send(f"{type(error).__name__}: {error}")


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(load: Load, parts: Sequence[Part], watch: Watch) -> Result:
    latencies = sorted(value for part in parts for value in part.latencies)
    if not latencies:
        raise Wrong("not one operation was completed")
    count, seconds = len(latencies), max(part.seconds for part in parts)
    own = sum(part.cpu for part in parts) / seconds
    server = None if watch.cpu is None else watch.cpu / seconds
    others = None if server is None else max(0.0, (watch.busy - (watch.beside or 0.0)) / seconds - server - own)
    return Result(
        scenario=load.scenario.name,
        era=load.era,
        concurrency=load.concurrency,
        operations=count,
        seconds=seconds,
        cpu_us=None if watch.cpu is None else watch.cpu / count * 1e6,
        throughput=count / seconds,
        p50_us=percentile(latencies, 0.50) * 1e6,
        p95_us=percentile(latencies, 0.95) * 1e6,
        p99_us=percentile(latencies, 0.99) * 1e6,
        generator_share=own,
        server_share=server,
        others_share=others,
        rss=watch.rss,
        answers="/".join(sorted(set().union(*(part.kinds for part in parts)))) or "sse",
        reconnects=sum(part.reconnects for part in parts),
        beside_us=None if watch.beside is None else watch.beside / count * 1e6,
    )


@dataclass
class Idle:
    """What sessions cost that only listen."""

    sessions: int
    kib_each: float
    seconds: float


def hold_idle(load: Load, group: Group, sessions: int, settle: float = 0.5) -> Idle:
    """Open `sessions` sessions, each with a GET stream on its own connection, and look at the memory.

    The slope between a fifth of them and all of them: what the first ones load once is not charged to each.
    """
    reader = Reader()
    line = Line(load, reader)
    streams: list[socket.socket] = []
    marks = []
    began = time.perf_counter()
    try:
        for number in range(sessions):
            dialect = load.dialect()
            shake_hands(opened(load, dialect), line)
            if dialect.session is None:
                raise Wrong("no session id at initialize")
            streams.append(listening(load, dialect, reader))
            if number + 1 in (sessions // 5, sessions):
                time.sleep(settle)
                marks.append((number + 1, group.usage().rss))
        (few, before), (many, after) = marks
        return Idle(sessions, (after - before) / (many - few) / 1024, time.perf_counter() - began)
    finally:
        line.close()
        for sock in streams:
            sock.close()


def shake_hands(script: Script, line: Line) -> None:
    request = next(script)
    with suppress(StopIteration):
        while True:
            request = script.send(line.ask(request))


def listening(load: Load, dialect: Dialect, reader: Reader) -> socket.socket:
    """An open GET stream."""
    sock = socket.create_connection((load.host, load.port), timeout=ANSWER_LIMIT)
    sock.sendall(dialect.listen())
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(READ)
        if not piece:
            raise Wrong("the GET stream was refused")
        data += piece
    framing = reader.framing(data.partition(b"\r\n\r\n")[0])
    if framing.status != 200 or not framing.events:
        raise Wrong(f"the GET was answered with {framing.status}")
    return sock
