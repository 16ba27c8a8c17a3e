# SPDX-License-Identifier: MIT
"""Measures the cost of sessions in a store: no store, SQLite and Redis in turns; several workers; a peer on Redis.

    python bench/fleet.py --write      all of it, some 6 minutes; writes bench/fleet.md
    python bench/fleet.py --quick      a look; writes nothing there
    python bench/fleet.py --table call,stream --pairs 9

Needs `redis-server` and the package `redis` for the rows of Redis; a machine without them has the others.  Redis
serves this run alone, on a port of its own, and keeps nothing on disk.  Its CPU time is counted apart from ours.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import shutil
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import clone  # noqa: F401  the clone goes first on the path
import fleet_operations
from compare import Progress, brief
from ends import Figures, Found, arguments, begin, cells, chosen, finish, limited, median, noise, package, paired
from subjects import HERE, Missing, python_with

from mcp_h11.bench import process
from mcp_h11.bench.drive import READ_AT_ONCE, SILENCE_LIMIT
from mcp_h11.bench.lines import Line, shake_hands, stream_opened
from mcp_h11.bench.measuring import measure, percentile
from mcp_h11.bench.process import Failed, Group, StartedServer
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan, Scenario, Script, adding, opened, repeated
from mcp_h11.bench.talk import AnswerReader, Dialect, WholeAnswer, Wrong, result_of

PROGRAM = str(HERE / "fleet.py")
DURATION, WARMUP = 0.8, 0.3  # seconds of each run
USUAL = 20  # connections of a worker
WORKERS = {"workers-2": 2, "workers-4": 4, "three-sqlite": 3, "three-redis": 3}
PUBLISHED = 462  # calls a second: ContextForge, which forwards them over Redis, on 3 replicas with 16 cores
STAMPS, PAUSE = 150, 0.01  # events of one look at the latency, and the seconds between two of them
SESSIONS = 1000  # in the count of bytes
EVENTS = 100  # of a stream in the count of bytes
NONE, SQLITE, REDIS = "none", "sqlite", "redis"
TITLES = {NONE: "no store", SQLITE: "SQLite", REDIS: "Redis"}
SPOT = re.compile(rb"stamp (\d+) (\d+)")
EVENT_ID = re.compile(rb"id: ?([^\r\n]+)")


@dataclass(frozen=True)
class Table:
    """Variants that take turns on one scenario; the others are measured against the first one."""

    title: str
    scenario: str
    names: tuple[str, ...]
    per: int = 1  # figures are divided by this: events of one operation
    connections: int = USUAL  # of each worker


STORES = (NONE, SQLITE, REDIS)
TABLES = {
    "call": Table("A JSON call of a session that the worker knows", "call", STORES),
    "stream": Table("An event of a burst: calls of 100 progress events", "stream", STORES, 101),
    "paced": Table("An event that comes alone: calls of 20 log messages, 5 ms apart", "paced", STORES, 21),
    "session": Table("A session: initialize, initialized, a call, DELETE", "session", STORES),
    "workers": Table("A JSON call at `--workers N`", "call", ("workers-1", "workers-2", "workers-4")),
    "three": Table("Three workers, each call of a session at another one in turn", "round", (NONE, "three-sqlite",
                   "three-redis")),
    "peer": Table("A peer on Redis, an event of a burst: calls of 100 progress events", "stream", (REDIS, "fastmcp",
                  "fastmcp-redis"), 101, connections=2),
}  # fmt: skip
MORE = ("latency", "sizes", "operations")  # parts of the page that are no table of pairs
NAMES = {
    **TITLES,
    **{f"workers-{count}": f"`--workers {count}`" for count in (1, 2, 4)},
    "three-sqlite": "three workers on SQLite",
    "three-redis": "three workers on Redis",
    "fastmcp": "fastmcp",
    "fastmcp-redis": "fastmcp, its event store in Redis",
}


class Several(Group):
    """The processes of several servers."""

    def __init__(self, servers: Sequence[StartedServer]) -> None:
        Group.__init__(self, servers[0].group.leader)
        self._groups = [server.group for server in servers]

    def pids(self) -> list[int]:
        return [pid for group in self._groups for pid in group.pids()]


class Up:
    """The servers that are up, by their names, and Redis."""

    def __init__(self, env: dict[str, str], python_of_peer: str | None) -> None:
        self._env = env
        self._peer = python_of_peer
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self._servers: dict[str, list[StartedServer]] = {}
        self.redis: StartedServer | None = None

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_redis(self) -> None:
        command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.redis = self._stack.enter_context(process.running(command))

    def url(self, store: str, name: str) -> str | None:
        """The store of one variant: none shares its data with another."""
        if store == SQLITE:
            return f"sqlite://{self.folder}/{name}.db"
        if store == REDIS:
            assert self.redis is not None
            return f"redis://127.0.0.1:{self.redis.port}/0?prefix={name}"
        return None

    def start(self, command: Sequence[str]) -> StartedServer:
        server = process.start(command, self._env)
        self._stack.callback(process.stop, server)
        return server

    def worker(self, store: str, name: str) -> StartedServer:
        url = self.url(store, name)
        return self.start([sys.executable, PROGRAM, "{port}", *([url] if url else [])])

    def of(self, name: str) -> list[StartedServer]:
        """The workers of a variant."""
        if name not in self._servers:
            self._servers[name] = self._made(name)
        return self._servers[name]

    def _made(self, name: str) -> list[StartedServer]:
        kind, _, rest = name.partition("-")
        if kind == "workers":
            words = ["--port", "{port}", "--workers", rest, "--log-level", "warning"]
            return [self.start([sys.executable, "-m", "mcp_h11", PROGRAM, *words])]
        if kind == "fastmcp":
            assert self._peer is not None and self.redis is not None
            words = [f"redis://127.0.0.1:{self.redis.port}/1"] if rest else []
            return [self.start([self._peer, str(HERE / "fast_mcp.py"), "{port}", *words])]
        count = 3 if kind in ("three", "two") else 1
        return [self.worker(rest or kind, name) for _ in range(count)]

    def run(self, table: Table, plan: dict[str, Any], name: str, concurrency: int) -> Figures:
        servers = self.of(name)
        ports = tuple(server.port for server in servers)
        concurrency *= WORKERS.get(name, 1)
        makers = {"round": functools.partial(going_round, ports, concurrency), "paced": pacing}
        scenario = makers[table.scenario]() if table.scenario in makers else SCENARIOS[table.scenario]
        load = LoadPlan(
            scenario, ports[0], ports=ports, concurrency=concurrency, duration=plan["duration"], warmup=plan["warmup"]
        )
        beside = self.redis.group if self.redis is not None and name.endswith(REDIS) else None
        figures = asdict(measure(load, Several(servers), beside))
        figures["concurrency"] = table.connections
        for key in ("cpu_us", "beside_us"):
            figures[key] = figures[key] / table.per if figures[key] is not None else None
        figures["throughput"] *= table.per
        return figures


def pacing() -> Scenario:
    """Events that come one by one, each of them written alone."""
    count = 20

    def judge(answer: WholeAnswer) -> None:
        _, before = result_of(answer, 100)
        numbers = [int(one["params"]["data"].split()[1]) for one in before if "data" in one["params"]]
        if numbers != [*range(1, count + 1)]:
            raise Wrong(f"the events {numbers} where 1 to {count} are due")

    def script(load: LoadPlan, number: int) -> Script:
        dialect = load.dialect()
        yield from opened(load, dialect)
        params = {"name": "stamps", "arguments": {"n": count, "pause": 0.005}}
        yield from repeated(load, [(dialect.request(100, "tools/call", params), judge)])

    return Scenario("paced", script, TABLES["paced"].title, streams=True)


def going_round(ports: Sequence[int], count: int) -> Scenario:
    """Each connection stays at its worker, as those of a balancer do, and carries the calls of all sessions in turn."""
    dialects: list[Dialect] = []

    def script(load: LoadPlan, number: int) -> Script:
        if not dialects:
            for index in range(count):
                line = Line(LoadPlan(SCENARIOS["call"], ports[index % len(ports)]), AnswerReader())
                dialects.append(load.dialect())
                shake_hands(opened(load, dialects[-1]), line)
                line.close()
        turned = dialects[number % count :] + dialects[: number % count]
        yield from repeated(load, [adding(load, dialect, number)[0] for dialect in turned])

    return Scenario("round", script, TABLES["three"].title, sessions=True)


# ------------------------------------------------------------------ latency


LOOKS = {
    "none": "no store, the worker that runs the call",
    "sqlite": "SQLite, the worker that runs the call",
    "two-sqlite": "SQLite, resumed at another worker",
    "redis": "Redis, the worker that runs the call",
    "two-redis": "Redis, resumed at another worker",
}


def latencies(up: Up, names: Sequence[str], rounds: int, count: int, found: Found, progress: Progress) -> None:
    """Microseconds from the tool's look at the clock to ours, with the events in our hands, in turns."""
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            progress.show(f"latency, round {number + 1} of {rounds}: {name}")
            servers = up.of(name)
            try:
                seen = watched(servers[0].port, servers[-1].port, count)
            except (Wrong, Failed, OSError) as error:
                found.errors.append(f"latency, {LOOKS[name]}: {brief(error)}")
                return
            values[name] += seen
    for name, seen in values.items():
        seen.sort()
        figures = {"count": len(seen), "p50_us": percentile(seen, 0.5), "p99_us": percentile(seen, 0.99)}
        found.start[f"latency {name}"] = [figures]


def watched(port: int, other: int, count: int) -> list[float]:
    """The latencies of one call's events; read at `other`, where that is another worker, after the first of them."""
    load = LoadPlan(SCENARIOS["call"], port)
    dialect, line = load.dialect(), Line(load, AnswerReader())
    shake_hands(opened(load, dialect), line)
    line.close()
    dialect.headers = {"Connection": "close"}
    arguments_ = {"n": count + 1, "pause": PAUSE}
    request = dialect.request(7, "tools/call", {"name": "stamps", "arguments": arguments_}, progress=True)
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=SILENCE_LIMIT)) as sock:
        sock.sendall(request)
        data = b""
        if port == other:
            return timed(sock, data, 1, count + 1)
        while not SPOT.search(data):
            data += received(sock)
    last = EVENT_ID.findall(data.partition(b"stamp 1 ")[0])[-1].decode()
    with contextlib.closing(socket.create_connection(("127.0.0.1", other), timeout=SILENCE_LIMIT)) as sock:
        sock.sendall(dialect.listen(last))
        return timed(sock, b"", 2, count + 1)


def timed(sock: socket.socket, data: bytes, first: int, last: int) -> list[float]:
    """The latencies of the events from `first` on, without those that were replayed at once."""
    due, found = first, []
    while due <= last:
        data += received(sock)
        now = time.monotonic_ns()
        data, whole = data[data.rfind(b"\n\n") + 1 :], data[: data.rfind(b"\n\n") + 1]
        for index, stamp in SPOT.findall(whole.replace(b"\r\n", b"\n")):
            if int(index) != due:
                raise Wrong(f"event {int(index)} where {due} is due")
            due += 1
            if due - first > 3:  # the first ones waited for us to connect
                found.append((now - int(stamp)) / 1e3)
    return found


def received(sock: socket.socket) -> bytes:
    data = sock.recv(READ_AT_ONCE)
    if not data or data.startswith(b"HTTP/1.1 4"):
        raise Wrong(f"the stream ended: {data[-200:]!r}")
    return data.replace(b"\r\n", b"\n")


# ------------------------------------------------------------------ sizes


def sizes(up: Up, stores: Sequence[str], sessions: int, found: Found, progress: Progress) -> None:
    """Bytes of a session in the store and in its worker: a record alone, then with an open GET stream."""
    for store in stores:
        progress.show(f"sizes: {TITLES[store]}")
        name = f"sizes-{store}"
        server = up.worker(store, name)
        held = functools.partial(stored, up, store, name)
        try:
            found.start[f"size {store}"] = [sized(server, held, sessions)]
        except (Wrong, Failed, OSError) as error:
            found.errors.append(f"sizes, {TITLES[store]}: {brief(error)}")
        finally:
            process.stop(server)


def sized(server: StartedServer, held: Callable[[], int], sessions: int) -> Figures:
    load, reader = LoadPlan(SCENARIOS["session"], server.port), AnswerReader()
    line = Line(load, reader)
    dialects, streams, marks = [], [], []

    def mark() -> None:
        time.sleep(0.5)  # some things are written behind the answer
        marks.append((held(), server.group.usage().rss))

    def slope(earlier: int, later: int, count: int, which: int = 0) -> float:
        return (marks[later][which] - marks[earlier][which]) / count

    few = sessions // 5
    for number in range(sessions):
        dialects.append(load.dialect())
        shake_hands(opened(load, dialects[-1]), line)
        if number + 1 in (few, sessions):
            mark()
    for number, dialect in enumerate(dialects):
        streams.append(stream_opened(load, dialect, reader))
        if number + 1 in (few, sessions):
            mark()
    for dialect in dialects[:few]:
        params = {"name": "ticks", "arguments": {"n": EVENTS}}
        if line.ask(dialect.request(7, "tools/call", params, progress=True)).framing.status != 200:
            raise Wrong("a call was refused")
    mark()
    for sock in streams:
        sock.close()
    line.close()
    return {
        "record": slope(0, 1, sessions - few),
        "stream": slope(2, 3, sessions - few),
        "event": slope(3, 4, few) / (EVENTS + 1),
        "worker_record": slope(0, 1, sessions - few, 1),
        "worker_stream": slope(2, 3, sessions - few, 1),
    }


def stored(up: Up, store: str, name: str) -> int:
    """Bytes that a store holds now."""
    if store == REDIS:
        import redis

        assert up.redis is not None
        with contextlib.closing(redis.Redis(port=up.redis.port)) as client:
            return int(client.info("memory")["used_memory"])
    if store == SQLITE:
        with contextlib.closing(sqlite3.connect(f"file:{up.folder}/{name}.db?mode=ro", uri=True)) as file:
            size, pages, free = (
                file.execute(f"PRAGMA {word}").fetchone()[0] for word in ("page_size", "page_count", "freelist_count")
            )
        return int(size * (pages - free))
    return 0


# ------------------------------------------------------------------ a peer


def roams(up: Up, name: str) -> str:
    """The answer to a call at another process of the same server."""
    servers = [up.of(name)[0], up._made(name)[0]]
    load = LoadPlan(SCENARIOS["call"], servers[0].port)
    dialect, line = load.dialect(), Line(load, AnswerReader())
    shake_hands(opened(load, dialect), line)
    request, judge = adding(load, dialect, 1)[0]
    answer = Line(LoadPlan(SCENARIOS["call"], servers[1].port), AnswerReader()).ask(request)
    if answer.framing.status == 200:
        judge(answer)
        return "answered"
    return str(answer.framing.status)


# ------------------------------------------------------------------ the page


AIMS = (
    ("a JSON call on SQLite, x no store", "call", SQLITE, 1.05),
    ("a JSON call on Redis, x no store", "call", REDIS, 1.05),
    ("an event of a burst on SQLite, x no store", "stream", SQLITE, 3.0),
    ("an event of a burst on Redis, x no store", "stream", REDIS, 3.0),
    ("an event that comes alone on SQLite, x no store", "paced", SQLITE, 3.0),
    ("an event that comes alone on Redis, x no store", "paced", REDIS, 3.0),
    ("a call at 2 workers, x 1 worker", "workers", "workers-2", 1.1),
    ("a call at 4 workers, x 1 worker", "workers", "workers-4", 1.1),
)
WORDS = """
Written by `python bench/fleet.py --write`; `--quick` is a look. Servers take turns, A B A B, each run beside one of the
first row of its table; medians, with the lowest and the highest ratio. CPU is that of our processes, counted by the
operating system; the CPU of Redis stands beside it. Tools and clients are those of [README.md](README.md).
"""
OF_LATENCY = """
From the tool's look at the clock to the client's, with the event in its hands; one stream, an event each 10 ms, both
processes on this machine. Wall time: on a busy machine the wait for a core is in it, and the first row shows how much.
"""
OF_THREE = f"""
Clients and workers share the cores of this machine. The published mark of the Python project that forwards requests
over Redis is {PUBLISHED} calls a second on 3 replicas with 16 cores (ContextForge); other calls on another machine, so
it is a mark and no ratio.
"""
OF_PEER = """
fastmcp can put the events of streams into Redis (`EventStore`). Sessions stay in the process: {roams}.
Its keys have a random prefix for each session and process, so no other process can replay them either.
"""


def ratios(found: Found, table: str, name: str) -> list[float]:
    return [run["ratio"] for run in found.runs if run["table"] == table and run["subject"] == name]


def aims(found: Found) -> list[str]:
    lines = ["| aim | measured | wanted | |", "|---|--:|--:|---|"]

    def line(what: str, value: float, wanted: str, met: bool) -> None:
        lines.append(f"| {what} | {value:,.2f} | {wanted} | {'met' if met else 'missed'} |")

    for what, table, name, most in AIMS:
        if values := ratios(found, table, name):
            middle = statistics.median(values)
            line(what, middle, f"≤ {most:g}", middle <= most)
    for name in ("two-sqlite", "two-redis"):
        if seen := found.start.get(f"latency {name}"):
            middle = seen[0]["p50_us"] / 1e3
            line(f"an event at another worker, p50, ms: {LOOKS[name]}", middle, "≤ 2", middle <= 2)
    for name in ("three-sqlite", "three-redis"):
        if runs := [run for run in found.runs if run["table"] == "three" and run["subject"] == name]:
            rate = median(runs, "throughput")
            line(f"calls a second, {NAMES[name]}", rate, f"≥ {PUBLISHED}", rate >= PUBLISHED)
    return [*lines, ""]


def table_of(table: Table, row: dict[str, list[Figures]]) -> list[str]:
    what = "event" if table.per > 1 else "session" if table.scenario == "session" else "call"
    heads = [f"CPU µs, one {what}", "x the first row", "lowest–highest", "CPU of Redis, µs", f"{what}s a second"]
    lines = ["| | " + " | ".join([*heads, "p50 µs", "p99 µs"]) + " |", "|---|" + "--:|" * 7]
    for name in table.names:
        if runs := row.get(name):
            each = [run["ratio"] for run in runs]
            spread = "–" if runs[0]["base"] else f"{min(each):.2f}–{max(each):.2f}"
            beside = "–" if runs[0]["beside_us"] is None else f"{median(runs, 'beside_us'):,.1f}"
            mark = " \\*" if limited(runs) else ""
            p50, p99 = ("–", "–") if table.per > 1 else (f"{median(runs, key):,.0f}" for key in ("p50_us", "p99_us"))
            lines.append(
                f"| {NAMES[name]} | {median(runs, 'cpu_us'):,.1f} | **{statistics.median(each):.2f}** | {spread} "
                f"| {beside} | {median(runs, 'throughput'):,.0f}{mark} | {p50} | {p99} |"
            )
    return [*lines, ""]


def say(found: Found) -> str:
    told, plan = found.machine, found.plan
    lines = [
        "# What sessions in a store cost", *WORDS.splitlines(), "",
        f"Run on {told['date']} of commit {told['commit']}, {told['minutes']:.0f} minutes, on {told['cores']} cores of "
        f"{told['cpu']}, {told['system']}; CPython {told['python']}. Medians of {plan['pairs']} rounds of "
        f"{plan['duration']:g} s.", "",
        noise(found), "", *aims(found),
    ]  # fmt: skip
    for (key, concurrency), row in cells(found).items():
        table = TABLES[key]
        lines += [f"## {table.title}, {concurrency} connections a worker", ""]
        if key == "three":
            lines += [*OF_THREE.strip().splitlines(), ""]
        if key == "peer":
            lines += [*OF_PEER.strip().format(roams=found.machine.get("roams", "not looked at")).splitlines(), ""]
        lines += table_of(table, row)
    if any(limited(runs) for row in cells(found).values() for runs in row.values()):
        lines += ["\\* The load generator took more than 90 % of a core: throughput is its own.", ""]
    lines += [*of_latency(found), *of_sizes(found), *found.machine.get("operations", ())]
    lines += [f"Not measured: {name}: {reason}.\n" for name, reason in found.missing.items()]
    lines += [f"**Error:** {error}\n" for error in found.errors]
    return "\n".join(lines).rstrip() + "\n"


def of_latency(found: Found) -> list[str]:
    looks = [(name, found.start[f"latency {name}"]) for name in LOOKS if f"latency {name}" in found.start]
    if not looks:
        return []
    lines = ["## Latency of an event", *OF_LATENCY.splitlines(), "", "| | p50 ms | p99 ms |", "|---|--:|--:|"]
    for name, (seen,) in looks:
        lines.append(f"| {LOOKS[name]} | {seen['p50_us'] / 1e3:.2f} | {seen['p99_us'] / 1e3:.2f} |")
    return [*lines, ""]


def of_sizes(found: Found) -> list[str]:
    rows = [(store, found.start[f"size {store}"][0]) for store in STORES if f"size {store}" in found.start]
    if not rows:
        return []
    lines = [
        "## Bytes", "",
        "Of a session in the store (record; and with its GET stream open), of a progress event that is kept, and of a",
        "session in its worker. Redis by `used_memory`, SQLite by its pages, workers by their resident memory.", "",
        "| | record | with a GET stream | an event | in the worker | there, with a GET stream |",
        "|---|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for store, size in rows:
        in_store = [size["record"], size["record"] + size["stream"], size["event"]]
        shown = ["–" if store == NONE else f"{value:,.0f}" for value in in_store]
        in_worker = [size["worker_record"], size["worker_record"] + size["worker_stream"]]
        lines.append(f"| {TITLES[store]} | " + " | ".join([*shown, *(f"{value:,.0f}" for value in in_worker)]) + " |")
    return [*lines, ""]


# ------------------------------------------------------------------ the whole


def can_redis(found: Found) -> bool:
    """Whether Redis runs here; the reason is on record where it does not."""
    if shutil.which("redis-server") is None:
        found.missing["Redis"] = "redis-server is not installed"
    elif importlib.util.find_spec("redis") is None:
        found.missing["Redis"] = "the package redis is not installed"
    return "Redis" not in found.missing


def peer(found: Found, tables: Sequence[str], progress: Progress) -> str | None:
    if "peer" not in tables or "Redis" in found.missing:
        return None
    try:
        return python_with("fastmcp-redis.txt", progress.say)
    except Missing as error:
        found.missing["fastmcp"] = str(error)
        return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments("Measure what sessions in a store cost.")
    parser.add_argument("--write", action="store_true", help="bench/fleet.md, where the run is whole")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="in the count of bytes")
    parser.add_argument("--stamps", type=int, default=STAMPS, help="events of each look at the latency")
    options = parser.parse_args(argv)
    progress = Progress()
    plan = {
        "pairs": options.pairs or (1 if options.quick else 5),
        "duration": options.duration or (0.2 if options.quick else DURATION),
        "warmup": 0.1 if options.quick else WARMUP,
        "quick": options.quick,
    }
    only = chosen(options.only, NAMES, "variant")
    tables = chosen(options.table, (*TABLES, *MORE), "table")
    if options.quick and not options.table:
        tables.remove("peer")
    found = begin("fleet", NONE, plan)
    found.subjects = {name: {"title": title, "version": "this clone"} for name, title in NAMES.items()}
    redis = can_redis(found)
    python_of_peer = peer(found, tables, progress)
    with Up(package(options.quick), python_of_peer) as up:
        if redis:
            up.start_redis()
        able = [
            name for name in NAMES
            if name in only and (redis or REDIS not in name) and (python_of_peer or "fastmcp" not in name)
        ]  # fmt: skip
        for key in (key for key in tables if key in TABLES):
            table = TABLES[key]
            names = [name for name in table.names if name in able]
            if table.names[0] in names and len(names) > 1:
                found.base = table.names[0]
                paired(found, key, table.connections, names, functools.partial(up.run, table, plan), progress)
        if "peer" in tables and python_of_peer:
            found.machine["roams"] = (
                f"a call of a session at another process was answered with {roams(up, 'fastmcp-redis')}"
            )
        if "latency" in tables:
            names = [name for name in LOOKS if redis or REDIS not in name]
            latencies(up, names, plan["pairs"], options.stamps, found, progress)
        if "sizes" in tables:
            sizes(up, [store for store in STORES if redis or store != REDIS], options.sessions, found, progress)
    if "operations" in tables:
        found.machine["operations"] = fleet_operations.page()
    progress.clear()
    return finish(found, options, say, whole=options.write)


if __name__ == "__main__":
    sys.exit(main())
