# SPDX-License-Identifier: MIT
"""What a server costs while many clients are idle: sessions with an open stream each, up to the descriptor limit.

    python bench/growth.py             ours, rmcp and the Go SDK, some four minutes; prints a table
    python bench/growth.py --write     and writes bench/results/growth.json, of which chart.py draws
    python bench/growth.py --only ours,ours-speed --sizes 1,1000

For each number of sessions: CPU of the idle server (a share of one core, over one interval of its keep-alive comments),
then calls one after the other on one connection: their CPU, the longest of them by the client's clock, and the longest
pause: what a thread of the server worked while one call waited (`pauses`).  The longest call has the machine's noise in
it, and the pause has not.  Memory is the slope of what is resident, between a size and the one before.
Only our own server is asked for as many sessions as descriptors.  Linux: CPU and memory come from /proc.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import clone  # noqa: F401  the clone goes first on the path
import subjects
from compare import machine
from pauses import Watch
from subjects import SUBJECTS, Missing, Subject

from mcp_h11.bench import process
from mcp_h11.bench.lines import Line, shake_hands, stream_opened
from mcp_h11.bench.process import Failed, Group
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan, adding, opened
from mcp_h11.bench.talk import AnswerReader, Wrong

RESULTS = Path(__file__).resolve().parent / "results" / "growth.json"
DEFAULT = ("ours", "rmcp", "go-json")
SIZES = "1,1000,10000,max"
RESERVED = 150  # descriptors of either process that are no session
IDLE = 15.0  # seconds: our comments come in this time
CALLS = 4.0  # seconds
SETTLE = 1.0  # seconds from the last session to the first look


@dataclass
class Row:
    """One server with so many sessions."""

    sessions: int
    idle_share: float  # CPU of the idle server, as a share of one core
    others_share: float  # CPU of everything else on the machine meanwhile
    call_us: float  # CPU of the server for a call beside them, the idle part included
    calls: int
    p50_us: float
    p99_us: float
    longest_ms: float  # the slowest of the calls, by the client's clock
    pause_ms: float | None  # the most that one thread of the server worked within a call; None: the kernel does not say
    rss_mib: float
    kib_each: float | None  # between the size before and this one; None for the first


def descriptors() -> int:
    """As many as this process, and a server that it starts, may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000


class Crowd:
    """The sessions that listen to one server."""

    def __init__(self, load: LoadPlan) -> None:
        self._load = load
        self._reader = AnswerReader()
        self._line = Line(load, self._reader)
        self._streams: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._streams)

    def grow(self, size: int) -> None:
        while len(self._streams) < size:
            dialect = self._load.dialect()
            shake_hands(opened(self._load, dialect), self._line)
            if dialect.session is None:
                raise Wrong("no session id at initialize")
            stream = stream_opened(self._load, dialect, self._reader)
            stream.setblocking(False)
            self._streams.append(stream)

    def drain(self) -> int:
        """Read what the server has sent meanwhile; how many streams have ended."""
        ended = 0
        for sock in self._streams:
            with suppress(BlockingIOError):
                ended += not sock.recv(4096)
        return ended

    def close(self) -> None:
        self._line.close()
        for sock in self._streams:
            sock.close()


class Asked(NamedTuple):
    """Calls one after the other, in seconds."""

    cpu: float  # of the server, for one of them
    times: list[float]  # sorted
    pause: float | None


def calls(load: LoadPlan, group: Group, seconds: float) -> Asked:
    """Ask for so long."""
    dialect = load.dialect()
    line = Line(load, AnswerReader())
    watch: Watch | None = None
    try:
        shake_hands(opened(load, dialect), line)
        turns = adding(load, dialect, 1)
        for request, judge in turns:
            judge(line.ask(request))
        pids = group.pids()
        watch = watching(pids)
        times: list[float] = []
        cpu, now = group.cpu(pids), time.perf_counter()
        end = now + seconds
        while now < end:
            began = time.perf_counter()
            answer = line.ask(turns[len(times) % len(turns)][0])
            now = time.perf_counter()
            if answer.framing.status != 200:
                raise Wrong(f"a call was answered with {answer.framing.status}")
            times.append(now - began)
            if watch is not None:
                watch.lap()
        cpu = (group.cpu(pids) - cpu) / len(times)
        return Asked(cpu, sorted(times), None if watch is None else watch.longest())
    finally:
        line.close()
        if watch is not None:
            watch.close()


def watching(pids: Sequence[int]) -> Watch | None:
    """A watch of these processes; None where the kernel does not count what it needs."""
    try:
        return Watch(pids)
    except OSError:
        return None


def measured(load: LoadPlan, group: Group, sizes: Sequence[int], seconds: float) -> Iterator[Row]:
    """A row for each size, one after the other on one server."""
    crowd = Crowd(load)
    before: Row | None = None
    try:
        for size in sizes:
            crowd.grow(size)
            time.sleep(SETTLE)
            pids, rss = group.pids(), group.usage().rss
            cpu, busy, began = group.cpu(pids), process.machine_busy(), time.perf_counter()
            time.sleep(seconds if size > 1 else min(seconds, CALLS))
            took = time.perf_counter() - began
            idle = group.cpu(pids) - cpu
            others = process.machine_busy() - busy - idle
            asked = calls(load, group, min(seconds, CALLS))
            times = asked.times
            if ended := crowd.drain():
                raise Wrong(f"{ended} of {size} streams have ended")
            row = Row(
                sessions=size,
                idle_share=idle / took,
                others_share=max(0.0, others / took),
                call_us=asked.cpu * 1e6,
                calls=len(times),
                p50_us=times[len(times) // 2] * 1e6,
                p99_us=times[len(times) * 99 // 100] * 1e6,
                longest_ms=times[-1] * 1e3,
                pause_ms=None if asked.pause is None else asked.pause * 1e3,
                rss_mib=rss / 2**20,
                kib_each=None if before is None else (rss / 1024 - before.rss_mib * 1024) / (size - before.sessions),
            )
            yield row
            before = row
    finally:
        crowd.close()


def sizes_of(text: str, most: int, subject: Subject) -> list[int]:
    sizes = [most if word == "max" else int(word) for word in text.split(",") if word != "max" or is_ours(subject)]
    return sorted({size for size in sizes if size <= most})


def is_ours(subject: Subject) -> bool:
    return subject.name.startswith("ours")


def command_of(subject: Subject, python: str) -> list[str]:
    return [*subject.command(python), *(["many"] if is_ours(subject) else [])]


TITLE = f" sessions     idle {'call us':>8} {'p50 us':>8} {'p99 us':>8} {'longest':>9} {'pause':>9}  RSS MiB KiB each"


def line_of(row: Row) -> str:
    each = "" if row.kib_each is None else f"{row.kib_each:8.2f}"
    pause = "" if row.pause_ms is None else f"{row.pause_ms:6.1f} ms"
    return (
        f"{row.sessions:9,d} {row.idle_share:8.2%} {row.call_us:8.1f} {row.p50_us:8.0f} {row.p99_us:8.0f} "
        f"{row.longest_ms:6.1f} ms {pause:>9} {row.rss_mib:8.1f} {each:>8}  others {row.others_share:.0%}"
    )


def one(subject: Subject, options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Measure one subject, or say why it cannot be."""
    entry = found["subjects"][subject.name] = {"title": subject.title, "version": subject.version(), "rows": []}
    print(f"\n{subject.title}, {subject.version()}\n{TITLE}", flush=True)
    most = descriptors() - RESERVED
    try:
        python = subjects.prepare(subject, lambda text: print(text, file=sys.stderr, flush=True))
        with process.running(command_of(subject, python), subjects.environment(subject)) as server:
            load = LoadPlan(SCENARIOS["session"], server.port)
            for row in measured(load, server.group, sizes_of(options.sizes, most, subject), options.seconds):
                entry["rows"].append(asdict(row))
                print(line_of(row), flush=True)
    except (Missing, Failed, Wrong, OSError) as error:
        entry["error"] = str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
        print(f"stopped: {entry['error']}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"subjects; default {','.join(DEFAULT)}")
    parser.add_argument("--sizes", default=SIZES, help=f"numbers of sessions; default {SIZES}")
    parser.add_argument("--seconds", type=float, default=IDLE, help=f"of each look at the idle server ({IDLE:g})")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--strict", action="store_true", help="fail where a subject could not be measured")
    options = parser.parse_args(argv)
    unknown = [name for name in options.only.split(",") if name not in SUBJECTS]
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    about = {**machine(), "descriptors": descriptors()}
    found: dict[str, Any] = {"name": "growth", "machine": about, "seconds": options.seconds, "subjects": {}}
    for name in options.only.split(","):
        one(SUBJECTS[name], options, found)
    if options.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return int(options.strict and any("error" in entry for entry in found["subjects"].values()))


if __name__ == "__main__":
    sys.exit(main())
