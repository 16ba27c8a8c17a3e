# SPDX-License-Identifier: MIT
"""Measures MCP servers against each other, and all of them against a plain h11 loop of the same minutes.

    python bench/compare.py            everything this machine can run; writes bench/results and bench/README.md
    python bench/compare.py --quick    the usual subjects and scenarios, under two minutes; writes nothing there
    python bench/compare.py --only ours,mcp --scenario call,stream

Subjects take turns, A B A B, on servers that stay up; the first round warms up and is thrown away.  The plain h11 loop
has its turn before the others and again after every few of them, and each figure is a ratio to its latest one.  What
is reported is the median of the rounds, with the lowest and the highest.  Every answer is checked; a wrong one counts
as an error, and one error makes the whole run fail.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import process
import report
import subjects
from drive import Result, hold_idle, measure
from process import Failed, Server
from scenarios import SCENARIOS, Load
from subjects import FLOOR, Missing, Subject
from talk import Wrong

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FLOOR_EVERY = 4  # subjects between two turns of the floor
PAIRS = 5
DURATION, WARMUP = 0.6, 0.2  # seconds of each run: 1,800 of them make half an hour
QUICK = ("call", "call-new-head", "modern", "session", "stream")
USUAL = 20  # connections, where a scenario has several
IDLE_SESSIONS = 1000
STARTS = 5  # of which the median counts
EXTRA = ("idle", "start")


@dataclass
class Plan:
    """How long and how often."""

    pairs: int
    duration: float
    warmup: float
    concurrency: tuple[int, ...] | None = None

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
    idle: dict[str, list[float]] = field(default_factory=dict)  # KiB a session
    start: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Progress:
    """A line for each step, with how far we are."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._line = ""

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
    """The servers that are up, one for each distinct command."""

    def __init__(self, pythons: dict[str, str]) -> None:
        self._pythons = pythons
        self._up: dict[tuple[str, ...], Server] = {}

    def of(self, subject: Subject, scenario: str) -> Server:
        command = tuple(self.command(subject, scenario))
        server = self._up.get(command)
        if server is None or server.process.poll() is not None:
            server = self._up[command] = process.start(command, subjects.environment(subject))
        return server

    def command(self, subject: Subject, scenario: str = "") -> list[str]:
        return subject.command(self._pythons[subject.name], scenario)

    def python(self, subject: Subject) -> str:
        return self._pythons[subject.name]

    def close(self) -> None:
        for server in self._up.values():
            process.stop(server)
        self._up.clear()


# ------------------------------------------------------------------ measuring


def turns(found: Found, servers: Servers, plan: Plan, chosen: Sequence[Subject], name: str, progress: Progress) -> None:
    """One scenario at each of its concurrencies: round after round, each subject in its turn."""
    taking_part = []
    for subject in chosen:
        reason = subject.why_not(name)
        if reason is None:
            taking_part.append(subject)
        else:
            found.left_out.setdefault(name, {})[subject.name] = reason
    for concurrency in plan.runs(name):
        # How a server behaves under more or less concurrency is shown by one or two variants of each.
        these = [one for one in taking_part if one.quick or concurrency == USUAL or len(plan.runs(name)) == 1]
        progress.say(f"{name}, concurrency {concurrency}: {len(these)} subjects, {plan.pairs} rounds")
        out: set[str] = set()
        for number in range(-1, plan.pairs):
            for position, subject in enumerate(these):
                if position % FLOOR_EVERY == 0:
                    floor = one(found, servers, plan, subjects.SUBJECTS[FLOOR], "call", concurrency)
                if subject.name in out:
                    continue
                progress.show(f"{name} x{concurrency}, round {number + 1} of {plan.pairs}: {subject.name}")
                result = one(found, servers, plan, subject, name, concurrency)
                if result is None:
                    out.add(subject.name)
                    progress.say(found.errors[-1])
                elif number >= 0 and floor is not None and floor.cpu_us and result.cpu_us is not None:
                    keep(found, subject, name, number, result, floor)


def keep(found: Found, subject: Subject, name: str, number: int, result: Result, floor: Result) -> None:
    assert result.cpu_us is not None and floor.cpu_us is not None
    found.runs.append(
        {
            "subject": subject.name,
            "round": number,
            "ratio": result.cpu_us / floor.cpu_us,
            "floor_us": floor.cpu_us,
            "floor_others": floor.others_share,
            **asdict(result),
            "scenario": name,
        }
    )


def one(found: Found, servers: Servers, plan: Plan, subject: Subject, name: str, concurrency: int) -> Result | None:
    """One run; None, and an error on record, where it failed."""
    scenario = SCENARIOS[name]
    try:
        server = servers.of(subject, name)
        era = "modern" if name == "modern" else "legacy"
        load = Load(scenario, server.port, era=era, concurrency=concurrency, duration=plan.duration, warmup=plan.warmup)
        return measure(load, server.group)
    except (Wrong, Failed, OSError) as error:
        found.errors.append(f"{subject.name}, {name} x{concurrency}: {brief(error)}")
        return None


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
            for _ in range(3):
                with process.running(servers.command(subject), subjects.environment(subject)) as server:
                    load = Load(SCENARIOS["session"], server.port)
                    held = hold_idle(load, server.group, sessions)
                    found.idle.setdefault(subject.name, []).append(held.kib_each)
        except (Wrong, Failed, OSError) as error:
            found.errors.append(f"{subject.name}, idle: {brief(error)}")
            progress.say(found.errors[-1])


def start_up(found: Found, servers: Servers, chosen: Sequence[Subject], progress: Progress) -> None:
    """From the start of the process to listening; memory then; what an import costs above asyncio's."""
    for subject in chosen:
        progress.show(f"start: {subject.name}")
        try:
            times, sizes = [], []
            for _ in range(STARTS):
                with process.running(servers.command(subject), subjects.environment(subject)) as server:
                    times.append(server.started)
                    sizes.append(server.group.usage().rss)
            figures = {"start_ms": statistics.median(times) * 1e3, "rss_mib": statistics.median(sizes) / 2**20}
            if subject.imports:
                figures["import_ms"] = import_time(servers.python(subject), subject)
            found.start[subject.name] = figures
        except (Failed, OSError, subprocess.SubprocessError) as error:
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
        "python": platform.python_version(),
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


def prepared(chosen: Sequence[Subject], found: Found, progress: Progress) -> dict[str, str]:
    """The subjects that can run, with their interpreters; the others go on record."""
    pythons = {}
    for subject in chosen:
        python = installed(subject, found, progress)
        if python is not None:
            pythons[subject.name] = python
            found.subjects[subject.name] = {"title": subject.title, "version": subject.version()}
    return pythons


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
    )
    found = Found(machine(), {**asdict(plan), "quick": options.quick, "scenarios": names})
    pythons = prepared(chosen, found, progress)
    if FLOOR not in pythons:
        raise SystemExit("the plain h11 loop cannot run, so there is nothing to measure against")
    if options.install:
        return 0
    able = [subject for subject in chosen if subject.name in pythons]
    subjects.freeze()
    servers = Servers(pythons)
    began = time.monotonic()
    try:
        for name in names:
            if name == "idle":
                idle(found, servers, able, IDLE_SESSIONS, progress)
            elif name == "start":
                start_up(found, servers, able, progress)
            else:
                turns(found, servers, plan, able, name, progress)
    finally:
        servers.close()
        progress.clear()
    found.machine["minutes"] = (time.monotonic() - began) / 60
    return finish(asdict(found), options, whole=not (options.quick or options.only or options.scenario))


def finish(found: dict[str, Any], options: argparse.Namespace, whole: bool) -> int:
    """Keep, print, and say what went wrong."""
    folder = RESULTS if (whole or options.write) and not found["errors"] else subjects.CACHE
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
