# SPDX-License-Identifier: MIT
"""The scripts of connections under load: a generator for each connection yields requests and is sent their answers.

None marks the end of one operation, which is what is counted and timed.  A request may come with an `EventWatch`,
which then decides when its answer is complete.
"""

from __future__ import annotations

import itertools
import json
import os
import ssl
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .heads import HOST, Traffic
from .talk import (
    LEGACY_VERSION,
    MAX_KNOWN,
    VARIANTS,
    Dialect,
    EventWatch,
    Judge,
    SameAgain,
    WholeAnswer,
    Wrong,
    check_ticks,
    events,
    result_of,
    wants_text,
    wants_ticks,
    wants_tools,
)

PREPARED = 20_000  # requests behind a proxy that are made before the clock runs, of all connections
RESUMED = 255  # notifications, and the result after them: 256 events

Script = Generator[Any, Any, None]


@dataclass
class Scenario:
    """The operation that one connection repeats."""

    name: str
    make: Callable[[LoadPlan, int], Script]
    title: str = ""
    concurrency: tuple[int, ...] = (20,)
    eras: tuple[str, ...] = ("legacy",)
    reconnect: bool = False  # a new connection for each operation
    sessions: bool = False  # needs a server with sessions
    streams: bool = False  # needs a server that can send events before its answer
    exchanges: int = 1  # requests of one operation
    events: int = 0  # events of one operation


@dataclass
class LoadPlan:
    """One run: its operation, its server, its number of connections, its time."""

    scenario: Scenario
    port: int
    host: str = "127.0.0.1"
    path: str = "/mcp"
    ports: tuple[int, ...] = ()  # several servers of one fleet: connections go to them in turn
    era: str = "legacy"
    concurrency: int = 1
    duration: float = 1.0
    warmup: float = 0.3
    all_warm: bool = False  # and it goes on until every connection has completed an operation
    most: int = 1_000_000  # operations, then it ends before its time
    processes: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    tool: str = "add"
    arguments: dict[str, Any] = field(default_factory=lambda: {"a": 1, "b": 2})
    expect: str | None = None
    any_answer: bool = False
    new_head: bool = False
    serial: int = 0  # of the last head that was made different
    listed: int = 100
    traffic: Traffic | None = None  # of requests behind a proxy; None: one for this run
    prepared: int = PREPARED
    method: str = "tools/call"  # of a server of others; else such as "tools/list"
    revision: str = LEGACY_VERSION  # that `initialize` asks for
    authority: str = ""  # the value of Host; "" is the host and the port
    tls: ssl.SSLContext | None = None
    errors_allowed: int = 0  # so many errors end the run, and each is counted; 0 raises the first one
    timeout: float = 30.0  # seconds for one operation, where errors are counted
    sessions: dict[str, Dialect] = field(default_factory=dict)  # those that are open

    def dialect(self) -> Dialect:
        host = self.authority or f"{self.host}:{self.port}"
        return Dialect(host, self.path, self.era, self.headers, self.revision)


def opened(load: LoadPlan, dialect: Dialect) -> Script:
    """Initialize and initialized; the modern era has neither."""
    if load.era == "modern":
        return
    answer = yield dialect.initialize()
    result, _ = result_of(answer, 0)
    dialect.version = str(result.get("protocolVersion", dialect.version))
    dialect.session = answer.framing.session
    if dialect.session is not None:
        load.sessions[dialect.session] = dialect
    answer = yield dialect.initialized()
    if answer.framing.status not in (200, 202, 204):
        raise Wrong(f"initialized was answered with {answer.framing.status}: {answer.body[:200]!r}")


def repeated(load: LoadPlan, calls: Sequence[tuple[bytes, Judge]]) -> Script:
    """The calls in turn, for ever."""
    known: list[bytes | None] = [None] * len(calls)
    while True:
        for index, (request, judge) in enumerate(calls):
            if load.new_head:
                # A field that no server knows, and a value that no other connection has.
                load.serial += 1
                field = b"\r\nX-Serial: %d.%d\r\n\r\n" % (os.getpid(), load.serial)
                request = request.replace(b"\r\n\r\n", field, 1)
            answer = yield request
            body = answer.body
            if body != known[index] or answer.framing.status != 200:
                judge(answer)
                if len(body) <= MAX_KNOWN:
                    known[index] = body
            yield None


def adding(load: LoadPlan, dialect: Dialect, number: int) -> list[tuple[bytes, Judge]]:
    # Numbers of one width, so that repeated heads are repeated heads; others on each connection.
    calls = []
    for turn in range(VARIANTS):
        a, b = 100 + (number * 7 + turn) % 400, 100 + (number * 3 + turn * 11) % 400
        id = 100 + turn
        params = {"name": "add", "arguments": {"a": a, "b": b}}
        calls.append((dialect.request(id, "tools/call", params), wants_text(id, str(a + b))))
    return calls


def call(load: LoadPlan, number: int) -> Script:
    dialect = load.dialect()
    yield from opened(load, dialect)
    yield from repeated(load, adding(load, dialect, number))


def call_any(load: LoadPlan, number: int) -> Script:
    """A tool that we know nothing of."""
    dialect = load.dialect()
    yield from opened(load, dialect)
    judge: Judge = SameAgain(100)
    if load.any_answer:

        def judge(answer: WholeAnswer) -> None:
            result_of(answer, 100)
    elif load.expect is not None:
        judge = wants_text(100, load.expect)
    params = {"name": load.tool, "arguments": load.arguments}
    yield from repeated(load, [(dialect.request(100, "tools/call", params), judge)])


def call_new_head(load: LoadPlan, number: int) -> Script:
    load.new_head = True
    return call(load, number)


def behind_proxy(load: LoadPlan, number: int) -> Script:
    """Each request has a head that no other has, as proxies send it; they are made here, before anything is sent."""
    dialect = load.dialect()
    version, session = "(version)", "(session)"  # are known when the session is open
    unopened = Dialect(dialect.host, load.path, load.era, version=version, session=session)
    calls, judges = [], []
    for turn in range(VARIANTS):
        # Numbers of many widths: so the length varies, as it does among calls of different clients.
        a, b = 10 ** (turn % 9) + number, 10 ** (turn % 5)
        params = {"name": "add", "arguments": {"a": a, "b": b}}
        message, fields = unopened.message(turn + 1, "tools/call", params)
        calls.append((json.dumps(message, separators=(",", ":")).encode(), {**fields, **load.headers}))
        judges.append(wants_text(turn + 1, str(a + b)))
    if load.traffic is None:
        tokens = "authorization" not in {name.lower() for name in load.headers}
        load.traffic = Traffic(os.getpid(), path=load.path, tokens=tokens)
    traffic = load.traffic

    def request(count: int) -> bytes:
        return traffic.request(*calls[count % VARIANTS]).replace(HOST.encode(), dialect.host.encode(), 1)

    made = [request(count) for count in range(load.prepared // load.concurrency)]

    def script() -> Script:
        yield from opened(load, dialect)
        said = f"Mcp-Session-Id: {dialect.session}\r\n" if dialect.session else ""
        swaps = [(f"Mcp-Session-Id: {session}\r\n", said), (version, dialect.version)]
        for count in itertools.count():
            # One that was not made before costs the generator time, and the server nothing.
            data = made[count] if count < len(made) else request(count)
            for old, new in swaps:
                data = data.replace(old.encode(), new.encode(), 1)
            judges[count % VARIANTS]((yield data))
            yield None

    return script()


def session(load: LoadPlan, number: int) -> Script:
    while True:
        dialect = load.dialect()
        yield from opened(load, dialect)
        if dialect.session is None:
            raise Wrong("no session id at initialize")
        request, judge = adding(load, dialect, number)[0]
        judge((yield request))
        answer = yield dialect.delete()
        if answer.framing.status not in (200, 202, 204):
            raise Wrong(f"DELETE was answered with {answer.framing.status}")
        del load.sessions[dialect.session]
        yield None


def list_tools(load: LoadPlan, number: int) -> Script:
    dialect = load.dialect()
    yield from opened(load, dialect)
    yield from repeated(load, [(dialect.request(100, "tools/list", {}), wants_tools(100, load.listed))])


def ticking(count: int) -> Callable[[LoadPlan, int], Script]:
    def stream(load: LoadPlan, number: int) -> Script:
        dialect = load.dialect()
        yield from opened(load, dialect)
        params = {"name": "ticks", "arguments": {"n": count}}
        request = dialect.request(100, "tools/call", params, progress=True)
        yield from repeated(load, [(request, wants_ticks(100, count))])

    return stream


def echoing(size: int) -> Callable[[LoadPlan, int], Script]:
    def echo(load: LoadPlan, number: int) -> Script:
        dialect = load.dialect()
        yield from opened(load, dialect)
        calls = []
        for turn in range(2):
            text = (chr(ord("a") + (number + turn) % 26) * 63 + " ") * (size // 64)
            params = {"name": "echo", "arguments": {"text": text}}
            calls.append((dialect.request(100 + turn, "tools/call", params), wants_text(100 + turn, text)))
        yield from repeated(load, calls)

    return echo


def sleeping(load: LoadPlan, number: int) -> Script:
    dialect = load.dialect()
    yield from opened(load, dialect)
    params = {"name": "sleep", "arguments": {"seconds": 0.01}}
    yield from repeated(load, [(dialect.request(100, "tools/call", params), wants_text(100, "slept"))])


def resume(load: LoadPlan, number: int) -> Script:
    """The events of a call that is over, again and again, each time on a connection of its own.

    Servers may leave the replayed stream open, so we close it when the last event is there, for all alike.
    """
    dialect = load.dialect()
    yield from opened(load, dialect)
    params = {"name": "ticks", "arguments": {"n": RESUMED}}
    answer = yield dialect.request(100, "tools/call", params, progress=True)
    wants_ticks(100, RESUMED)(answer)
    ids = [(data, id) for data, id in events(answer.body) if id]
    if not ids:
        raise Wrong("the events have no ids: not resumable")
    primed = not ids[0][0]
    due = RESUMED + 1 - (0 if primed else 1)
    request = dialect.listen(ids[0][1])
    while True:
        watch = EventWatch(due)
        yield request, watch
        check_ticks(watch.seen, due - 1, first=1 if primed else 2)
        yield None


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("call", call, "a call on a repeated head", (1, 20, 100, 300), ("legacy", "modern")),
        Scenario("call-new-head", call_new_head, "a call, each head different", (20,), ("legacy", "modern")),
        Scenario("behind-proxy", behind_proxy, "a call, its head from a proxy", (20,), ("legacy", "modern")),
        Scenario("modern", call, "a call of 2026-07-28", (20,), ("modern",)),
        Scenario("session", session, "initialize, initialized, call, DELETE", (20,), sessions=True, exchanges=4),
        Scenario("list", list_tools, "tools/list of 100 tools", (20,), ("legacy", "modern")),
        Scenario("stream", ticking(100), "100 progress events and the result", (20,), ("legacy", "modern"),
                 streams=True, events=101),
        Scenario("echo-1k", echoing(1024), "1 KiB there and back", (20,), ("legacy", "modern")),
        Scenario("echo-64k", echoing(64 * 1024), "64 KiB there and back", (20,), ("legacy", "modern")),
        Scenario("echo-1m", echoing(1024 * 1024), "1 MiB there and back", (4,), ("legacy", "modern")),
        Scenario("sleep", sleeping, "a tool that waits 10 ms", (20,), ("legacy", "modern")),
        Scenario("connect", call, "a call on a new connection", (20,), ("legacy", "modern"), reconnect=True),
        Scenario("resume", resume, "256 events replayed, on a new connection", (4,), sessions=True, streams=True,
                 reconnect=True, events=RESUMED + 1),
    )
}  # fmt: skip
ANY_TOOL = Scenario("tool", call_any, "a call of the named tool", (1, 20, 100), ("legacy", "modern"))
