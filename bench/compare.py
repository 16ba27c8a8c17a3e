# SPDX-License-Identifier: MIT
"""Measures MCP servers against each other, and all of them against a plain h11 loop of the same minutes.

    python bench/compare.py            everything this machine can run; writes bench/results and bench/README.md
    python bench/compare.py --quick    the usual subjects and scenarios, under two minutes; writes nothing there
    python bench/compare.py --only ours,mcp --scenario call,stream

Subjects take turns, A B A B, on servers that stay up; the first round warms up and is thrown away.  The plain h11 loop
has its turn before the others and again after every few of them, and each figure is a ratio to the mean of its turns
before and after.  The median of the rounds is reported, with the lowest and the highest.  Every answer is checked; a
wrong one is an error.  A subject that fails twice in a scenario has no further turn there; the page names it, and the
status of the run is 1.  An error of our own server or of the loop leaves the page as it was.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import clone  # noqa: F401  the clone goes first on the path
import report
import subjects
from subjects import FLOOR, FLOORS, Missing, Subject

from mcp_h11.bench import process
from mcp_h11.bench.heads import Traffic
from mcp_h11.bench.lines import hold_idle
from mcp_h11.bench.measuring import Measured, measure
from mcp_h11.bench.process import StartedServer
from mcp_h11.bench.scenarios import PREPARED, SCENARIOS, LoadPlan

HERE = Path(__file__).resolve().parent
OWN = (HERE.parent / "mcp_h11" / "version.py").read_text().split('"')[-2]
RESULTS = HERE / "results"
FLOOR_EVERY = 4  # subjects between two turns of the floor
PAIRS = 5
FEW = 3  # rounds of a peer that is FAR from ours, or of each peer where the time is short
FAR = 10  # times the cheapest of ours, of their first rounds
CLOSE = ("ours", "rmcp", "go", *FLOORS)  # how the names of those begin that have all rounds in any case
DURATION, WARMUP = 0.5, 0.15  # seconds of each run: some 2,500 of them make half an hour
MINUTES = (
    31  # of the scenarios of a whole run, before two of memory and start: peers get fewer rounds before it takes longer
)
ESSENTIAL = (*FLOORS, *(name for name, one in subjects.SUBJECTS.items() if name.startswith("ours") and not one.only))
STRIKES = 2  # failures in one scenario, before a subject has no further turn there
TRAFFIC = Traffic()  # goes on through all runs: no head comes twice
QUICK = ("call", "call-new-head", "behind-proxy", "modern", "session", "stream")
USUAL = 20  # connections, where a scenario has several
IDLE_SESSIONS = 1000  # and half as many of peers that are not among CLOSE
STARTS, IDLES = 5, 3  # of which the median counts; 3 and 1 of peers that are not among CLOSE
REDIS = ("redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir")
EXTRA = ("idle", "start")


@dataclass
class Plan:
    """How long and how often."""

    pairs: int
    duration: float
    warmup: float
    concurrency: tuple[int, ...] | None = None
    minutes: float = MINUTES

    def runs(self, scenario: str) -> tuple[int, ...]:
        return self.concurrency or SCENARIOS[scenario].concurrency


@dataclass
class Found:
    """Everything that was measured; what results/latest.json has."""

    machine: dict[str, Any]
    plan: dict[str, Any]
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # who could not run, and why
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)  # scenario to subject to reason
    runs: list[dict[str, Any]] = field(default_factory=list)
    floors: list[dict[str, Any]] = field(default_factory=list)  # each turn of the loop that counts
    idle: dict[str, list[float]] = field(default_factory=dict)  # KiB a session
    start: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Progress:
    """A line for each step, with how far we are."""

    def __init__(self) -> None:
        self._began = self._measuring = time.monotonic()
        self._line = ""

    def seconds(self) -> float:
        """Since the first of the measurements."""
        return time.monotonic() - self._measuring

    def measure(self) -> None:
        """Everything is installed."""
        self._measuring = time.monotonic()

    def say(self, text: str) -> None:
        self.clear()
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            self.clear()
            self._line = f"{time.monotonic() - self._began:6.0f} s  {text}"[:110]
            print(self._line, end="\r", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._line:
            print(" " * len(self._line), end="\r", file=sys.stderr)
            self._line = ""


class Servers:
    """The servers that are up, one for each distinct command, and the Redis of those that want one."""

    def __init__(self, pythons: dict[str, str]) -> None:
        self._pythons = pythons
        self._up: dict[tuple[str, ...], StartedServer] = {}
        self._redis: StartedServer | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")

    def of(self, subject: Subject, scenario: str) -> StartedServer:
        command = tuple(self.command(subject, scenario))
        server = self._up.get(command)
        if server is None or server.process.poll() is not None:
            server = self._up[command] = process.start(command, subjects.environment(subject))
        return server

    def drop(self, subject: Subject, scenario: str) -> None:
        """End a server that gave a wrong answer: the next turn has a new one."""
        server = self._up.pop(tuple(self.command(subject, scenario)), None)
        if server is not None:
            process.stop(server)

    def command(self, subject: Subject, scenario: str = "") -> list[str]:
        command = subject.command(self._pythons[subject.name], scenario)
        return [*command, f"store=redis://127.0.0.1:{self.redis().port}/0"] if subject.redis else command

    def redis(self) -> StartedServer:
        """It keeps nothing on disk, and serves this run alone."""
        if self._redis is None:
            self._redis = process.start([*REDIS, self._folder.name])
        return self._redis

    def python(self, subject: Subject) -> str:
        return self._pythons[subject.name]

    def close(self) -> None:
        for server in (*self._up.values(), *([self._redis] if self._redis else [])):
            process.stop(server)
        self._up.clear()
        self._folder.cleanup()


# ------------------------------------------------------------------ measuring


def turns(found: Found, servers: Servers, plan: Plan, chosen: Sequence[Subject], name: str, progress: Progress) -> None:
    """One scenario at each of its concurrencies: round after round, each subject in its turn."""
    for subject in chosen:
        reason = subject.why_not(name)
        if reason is not None:
            found.left_out.setdefault(name, {})[subject.name] = reason
    for concurrency in plan.runs(name):
        these = taking_part(plan, chosen, name, concurrency)
        short = late(plan, chosen, name, concurrency, found, progress)
        few = min(FEW, plan.pairs)
        rounds = {one.name: few if short and not close(one) else plan.pairs for one in these}
        progress.say(
            f"{name}, concurrency {concurrency}: {len(these)} subjects, {plan.pairs} rounds" + (", peers 3" * short)
        )
        strikes: Counter[str] = Counter()
        for number in range(-1, plan.pairs):
            turn = functools.partial(one, found, servers, plan, concurrency=concurrency, number=number)
            floor = floor_of(found, turn, name)
            present = [subject for subject in these if number < rounds[subject.name]]
            for start in range(0, len(present), FLOOR_EVERY):
                results = []
                for subject in present[start : start + FLOOR_EVERY]:
                    if strikes[subject.name] < STRIKES:
                        progress.show(f"{name} x{concurrency}, round {number + 1} of {plan.pairs}: {subject.name}")
                        result = turn(subject, name)
                        results.append((subject, result))
                        if result is None:
                            strikes[subject.name] += 1
                            progress.say(found.errors[-1])
                before, floor = floor, floor_of(found, turn, name)
                around = [one.cpu_us for one in (before, floor) if one is not None and one.cpu_us]
                for subject, result in results if number >= 0 and around else ():
                    if result is not None and result.cpu_us is not None:
                        keep(found, subject, name, number, result, statistics.mean(around))
            if number == 0:
                rounds.update(dict.fromkeys(far(found, these, name, concurrency), few))


def floor_of(found: Found, turn: functools.partial[Measured | None], name: str) -> Measured | None:
    """A turn of the loop, which answers calls whatever the scenario is."""
    floor = turn(subjects.SUBJECTS[FLOOR], "call")
    if floor is not None and turn.keywords["number"] >= 0:
        about = {"scenario": name, "concurrency": floor.concurrency, "cpu_us": floor.cpu_us}
        found.floors.append({**about, "others": floor.others_share})
    return floor


def taking_part(plan: Plan, chosen: Sequence[Subject], name: str, concurrency: int) -> list[Subject]:
    """One or two variants of each subject show its behaviour under more or less concurrency."""
    able = [subject for subject in chosen if subject.why_not(name) is None]
    return [one for one in able if one.quick or concurrency == USUAL or len(plan.runs(name)) == 1]


def close(subject: Subject) -> bool:
    return subject.name.startswith(CLOSE)


def far(found: Found, these: Sequence[Subject], name: str, concurrency: int) -> list[str]:
    """The peers whose first round says already that they cost many times what ours do."""
    first = {
        run["subject"]: run["ratio"]
        for run in found.runs
        if (run["scenario"], run["concurrency"], run["round"]) == (name, concurrency, 0)
    }
    ours = min((ratio for subject, ratio in first.items() if subject.startswith("ours")), default=float("inf"))
    return [one.name for one in these if not close(one) and first.get(one.name, 0) > FAR * ours]


def late(plan: Plan, chosen: Sequence[Subject], name: str, concurrency: int, found: Found, progress: Progress) -> bool:
    """Whether the rest of the run would take longer than it may, at the pace so far."""
    names = [one for one in found.plan["scenarios"] if one in SCENARIOS]
    cells = [(one, count) for one in names for count in plan.runs(one)]
    costs = [len(taking_part(plan, chosen, *cell)) for cell in cells]
    at = cells.index((name, concurrency))
    each = (plan.pairs + 1) * (plan.duration + plan.warmup) * (1 + 1 / FLOOR_EVERY) * 1.2
    pace = progress.seconds() / sum(costs[:at]) if at else each
    return progress.seconds() + pace * sum(costs[at:]) > plan.minutes * 60


def keep(found: Found, subject: Subject, name: str, number: int, result: Measured, floor_us: float) -> None:
    assert result.cpu_us is not None
    ratio = result.cpu_us / floor_us
    about = {"subject": subject.name, "round": number, "ratio": ratio, "floor_us": floor_us}
    found.runs.append({**about, **asdict(result), "scenario": name})


def one(
    found: Found, servers: Servers, plan: Plan, subject: Subject, name: str, concurrency: int, number: int = 0
) -> Measured | None:
    """One run; None, and an error on record, where it failed in any way: the others go on."""
    scenario = SCENARIOS[name]
    warming = number < 0
    try:
        server = servers.of(subject, name)
        era = "modern" if name == "modern" else "legacy"
        duration = plan.duration / 2 if warming else plan.duration
        load = LoadPlan(scenario, server.port, era=era, concurrency=concurrency, duration=duration, warmup=plan.warmup)
        load.traffic, load.prepared = TRAFFIC, needed(found, subject, plan)
        return measure(load, server.group, servers.redis().group if subject.redis else None)
    except Exception as error:
        found.errors.append(f"{subject.name}, {name} x{concurrency}: {brief(error)}")
        servers.drop(subject, name)
        return None


def needed(found: Found, subject: Subject, plan: Plan) -> int:
    """How many requests with heads of their own to make before a run, by what the subject answered before."""
    known = [run["throughput"] for run in found.runs if run["subject"] == subject.name and run["concurrency"] == USUAL]
    return int(1.5 * max(known) * (plan.duration + plan.warmup)) if known else PREPARED


def brief(error: Exception) -> str:
    """The last line of what a server said says the most, and no folder of this machine."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300] if len(lines) == 1 else f"{lines[0][:60]} ... {lines[-1].strip()[:200]}"


def idle(found: Found, servers: Servers, chosen: Sequence[Subject], sessions: int, progress: Progress) -> None:
    """Memory of sessions that wait, each time in a server that was just started."""
    for subject in chosen:
        reason = subject.why_not("idle")
        if reason is not None:
            found.left_out.setdefault("idle", {})[subject.name] = reason
            continue
        progress.show(f"idle: {subject.name}")
        try:
            for _ in range(IDLES if close(subject) else 1):
                with process.running(servers.command(subject), subjects.environment(subject)) as server:
                    load = LoadPlan(SCENARIOS["session"], server.port)
                    held = hold_idle(load, server.group, sessions if close(subject) else sessions // 2)
                    found.idle.setdefault(subject.name, []).append(held.kib_each)
        except Exception as error:
            found.errors.append(f"{subject.name}, idle: {brief(error)}")
            progress.say(found.errors[-1])


def start_up(found: Found, servers: Servers, chosen: Sequence[Subject], progress: Progress) -> None:
    """From the start of the process to listening; memory then; what an import costs above asyncio's."""
    for subject in chosen:
        if subject.only:
            continue
        progress.show(f"start: {subject.name}")
        try:
            times, sizes = [], []
            for _ in range(STARTS if close(subject) else FEW):
                with process.running(servers.command(subject), subjects.environment(subject)) as server:
                    times.append(server.started)
                    sizes.append(server.group.usage().rss)
            figures = {"start_ms": statistics.median(times) * 1e3, "rss_mib": statistics.median(sizes) / 2**20}
            if subject.imports:
                figures["import_ms"] = import_time(servers.python(subject), subject)
            found.start[subject.name] = figures
        except Exception as error:
            found.errors.append(f"{subject.name}, start: {brief(error)}")
            progress.say(found.errors[-1])


def import_time(python: str, subject: Subject) -> float:
    code = f"import asyncio, time; t = time.perf_counter(); import {subject.imports}; print(time.perf_counter() - t)"
    env = {**os.environ, **subjects.environment(subject)}
    times = []
    for _ in range(STARTS):
        done = subprocess.run([python, "-c", code], env=env, timeout=60, capture_output=True, text=True, check=True)
        times.append(float(done.stdout) * 1e3)
    return statistics.median(times)


# ------------------------------------------------------------------ the whole


def machine() -> dict[str, Any]:
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "../mcp_h11"], cwd=HERE, capture_output=True, text=True
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": python_of(sys.executable),
        "node": version_of("node", "--version"),
        "go": version_of("go", "version"),
        "rust": version_of("rustc", "--version"),
        "commit": (commit.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else ""),
        "date": datetime.date.today().isoformat(),
        "load_before": os.getloadavg()[0],
    }


def version_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = [word.lstrip("vgo") for word in done.stdout.split() if any(c.isdigit() for c in word)]
    return words[0] if done.returncode == 0 and words else ""


# A build that was optimized by a profile answers a call in some 0.9 of the time of one that was not.
PYTHON = """
import platform, sys, sysconfig
build = "not optimized by a profile"
if sys.base_prefix == "/usr":
    build = "of the distribution"
elif "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
    build = "optimized by a profile"
print(f"{platform.python_version()} ({build})")
"""


@functools.cache
def python_of(program: str) -> str:
    """Version and build: distributions and images optimize it by a profile, pyenv does not unless told to."""
    done = subprocess.run([program, "-c", PYTHON], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def prepared(chosen: Sequence[Subject], found: Found, progress: Progress) -> dict[str, str]:
    """The subjects that can run, with their interpreters; the others go on record."""
    pythons = {}
    for subject in chosen:
        python = installed(subject, found, progress)
        if python is not None:
            pythons[subject.name] = python
            found.subjects[subject.name] = {"title": subject.title, "version": named(subject, python, found.machine)}
    return pythons


def named(subject: Subject, python: str, machine: dict[str, Any]) -> str:
    """The versions of its packages, of this clone and of the language under it."""
    version = subject.version().replace("this clone", f"mcp_h11 {OWN} ({machine['commit']})")
    names = {"python": "CPython", "node": "Node.js", "go": "Go", "rust": "Rust"}
    under = python_of(python) if subject.kind == "python" else machine[subject.kind]
    return f"{version}, {names[subject.kind]} {under}"


def installed(subject: Subject, found: Found, progress: Progress) -> str | None:
    try:
        return subjects.prepare(subject, progress.say)
    except Missing as error:
        found.missing[subject.name] = str(error)
        progress.say(f"{subject.name} cannot run here: {error}")
        return None


def choose(only: str, quick: bool) -> list[Subject]:
    """By name, or by kind (python, node, go, rust); the floor is always there."""
    wanted = [word for word in only.split(",") if word]
    known = subjects.SUBJECTS
    for word in wanted:
        if word not in known and not any(subject.kind == word for subject in known.values()):
            raise SystemExit(f"no subject {word!r}; there are {', '.join(known)}")
    chosen = []
    for subject in known.values():
        asked = subject.name in wanted or (subject.kind in wanted and (subject.quick or not quick))
        if subject.name == FLOOR or asked or (not wanted and (subject.quick or not quick)):
            chosen.append(subject)
    return chosen


def scenarios(asked: str, quick: bool) -> list[str]:
    names = [word for word in asked.split(",") if word]
    for name in names:
        if name not in SCENARIOS and name not in EXTRA:
            raise SystemExit(f"no scenario {name!r}; there are {', '.join([*SCENARIOS, *EXTRA])}")
    return names or (list(QUICK) if quick else [*SCENARIOS, *EXTRA])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure MCP servers against each other.")
    parser.add_argument("--only", default="", help="subjects or kinds (python, node, go, rust), comma-separated")
    parser.add_argument("--scenario", default="", help="scenarios, comma-separated")
    parser.add_argument("--concurrency", default="", help="numbers, comma-separated, instead of each scenario's own")
    parser.add_argument("--quick", action="store_true", help="under two minutes; a look, not a measurement")
    parser.add_argument("--pairs", type=int, help=f"rounds that count (default {PAIRS}, with --quick 2)")
    parser.add_argument("--duration", type=float, help=f"seconds of each run (default {DURATION}, with --quick 0.25)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that all may take (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="into bench/results and bench/README.md, though not whole")
    parser.add_argument("--strict", action="store_true", help="a subject that cannot run here is a failure")
    parser.add_argument("--list", action="store_true", help="name subjects and scenarios, and end")
    parser.add_argument("--install", action="store_true", help="only install the subjects")
    return parser.parse_args(argv)


def listing() -> Iterator[str]:
    for subject in subjects.SUBJECTS.values():
        yield f"{subject.name:16} {subject.title} ({subject.version() or 'this folder'})"
    yield ""
    for scenario in SCENARIOS.values():
        yield f"{scenario.name:16} {scenario.title}; concurrency {', '.join(map(str, scenario.concurrency))}"
    yield f"{'idle':16} sessions with an open stream, KiB each"
    yield f"{'start':16} start to listening, memory then, import"


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.list:
        print("\n".join(listing()))
        return 0
    progress = Progress()
    chosen = choose(options.only, options.quick)
    names = scenarios(options.scenario, options.quick)
    plan = Plan(
        pairs=options.pairs or (2 if options.quick else PAIRS),
        duration=options.duration or (0.25 if options.quick else DURATION),
        warmup=0.1 if options.quick else WARMUP,
        concurrency=tuple(int(x) for x in options.concurrency.split(",") if x) or ((USUAL,) if options.quick else None),
        minutes=options.minutes,
    )
    found = Found(machine(), {**asdict(plan), "quick": options.quick, "scenarios": names})
    pythons = prepared(chosen, found, progress)
    if FLOOR not in pythons:
        raise SystemExit(f"the plain h11 loop cannot run, so there is nothing to measure against: {found.missing}")
    if options.install:
        return 0
    able = [subject for subject in chosen if subject.name in pythons]
    servers = Servers(pythons)
    progress.measure()
    spent: dict[str, float] = {}
    try:
        for name in names:
            began = time.monotonic()
            if name == "idle":
                idle(found, servers, able, IDLE_SESSIONS, progress)
            elif name == "start":
                start_up(found, servers, able, progress)
            else:
                turns(found, servers, plan, able, name, progress)
            spent[name] = time.monotonic() - began
    finally:
        servers.close()
        progress.clear()
    found.machine |= {"minutes": progress.seconds() / 60, "seconds": spent}
    part = (options.quick, options.only, options.scenario, options.concurrency, options.pairs, options.duration)
    return finish(asdict(found), options, whole=not any(part))


def finish(found: dict[str, Any], options: argparse.Namespace, whole: bool) -> int:
    """Keep, print, and say what went wrong."""
    own = [error for error in found["errors"] if error.partition(",")[0] in ESSENTIAL]
    folder = RESULTS if (whole or options.write) and not own else subjects.CACHE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(report.rounded(found), indent=1) + "\n")
    print(report.text(found))
    if folder is RESULTS:
        report.write(found, HERE)
    else:
        print(f"(kept in {os.path.relpath(folder / 'latest.json')}; bench/README.md is as it was)")
    failures = list(found["errors"])
    if options.strict:
        failures += [f"{name} cannot run: {reason}" for name, reason in found["missing"].items()]
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
