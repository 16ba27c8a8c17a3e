# SPDX-License-Identifier: MIT
"""Which of two servers is cheaper, on a machine that does not keep its speed: many short turns, next to each other.

    python bench/side_by_side.py             ours and the Rust SDK in every scenario, 17 minutes
    python bench/side_by_side.py --write     the same, kept for bench/README.md; then `python bench/report.py`
    python bench/side_by_side.py --scenario call,connect --rounds 20

`compare.py` measures many servers in turns of half a second, and a machine that others share may halve its speed from
one turn to the next.  Here few servers take turns of a tenth of a second, A B C, C B A, and each round gives one ratio
of two turns that are a moment apart.  The median of the rounds is reported with the interval that has the true median
in it with a confidence of 95 %, by order statistics.  Where that interval has 1 in it, the row is not decided.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import clone  # noqa: F401  the clone goes first on the path
import compare
import figures
import report
from compare import Found, Plan, Progress, Servers
from subjects import SUBJECTS, Subject

from mcp_h11.bench.scenarios import SCENARIOS

ROUNDS = 60  # of each scenario; the interval of the median becomes narrower with their square root
DURATION, WARMUP = 0.1, 0.05  # seconds of a turn
NAMES = (
    "ours-speed",
    "ours-orjson",
    "ours",
    "rmcp-stateless",
    "rmcp",
    "go-store",
)  # go-store where a stream is resumed
RESULTS = figures.RESULTS / "side_by_side.json"


@dataclass
class SideBySide:
    """Everything that was measured; what results/side_by_side.json has."""

    machine: dict[str, Any]
    plan: dict[str, Any]
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)  # of figures.Paired
    errors: list[str] = field(default_factory=list)


def rounds(
    found: Found, servers: Servers, plan: Plan, able: Sequence[Subject], name: str, count: int
) -> dict[str, Any]:
    """One scenario at one concurrency: microseconds of each subject, round by round.

    A round in which a subject failed is left out of all, so that the lists stay side by side.  A subject that fails
    twice has no further turn and no figure.
    """
    these = [subject for subject in able if subject.why_not(name) is None]
    kept: list[dict[str, float]] = []
    strikes: Counter[str] = Counter()
    for number in range(-1, plan.pairs):
        turn = {}
        for subject in these if number % 2 else these[::-1]:
            result = compare.one(found, servers, plan, subject, name, count, number)
            strikes[subject.name] += result is None
            if result is not None and result.cpu_us:
                turn[subject.name] = result.cpu_us
        if number >= 0:
            kept.append(turn)
        these = [subject for subject in these if strikes[subject.name] < compare.STRIKES]
    names = [subject.name for subject in these]
    whole = [turn for turn in kept if all(one in turn for one in names)]
    return {"scenario": name, "concurrency": count, "cpu_us": {one: [turn[one] for turn in whole] for one in names}}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NAMES), help=f"subjects; default {','.join(NAMES)}")
    parser.add_argument("--scenario", default="", help="scenarios, comma-separated; default all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"that count, of each scenario ({ROUNDS})")
    parser.add_argument("--duration", type=float, default=DURATION, help=f"seconds of a turn ({DURATION:g})")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args(argv)
    for asked, known in ((options.only, SUBJECTS), (options.scenario, SCENARIOS)):
        unknown = [word for word in asked.split(",") if word and word not in known]
        if unknown:
            parser.error(f"no such name: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def cells(plan: Plan, able: Sequence[Subject], asked: str) -> list[tuple[str, int]]:
    """The scenarios that ours and a peer both have, at each of their concurrencies."""
    names = [word for word in asked.split(",") if word] or list(SCENARIOS)
    both = [name for name in names if len({one.name.startswith("ours") for one in able if not one.why_not(name)}) == 2]
    return [(name, count) for name in both for count in plan.runs(name)]


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    progress = Progress()
    plan = Plan(pairs=options.rounds, duration=options.duration, warmup=WARMUP)
    found = Found(compare.machine(), {})
    pythons = compare.prepared([SUBJECTS[name] for name in options.only.split(",")], found, progress)
    able = [SUBJECTS[name] for name in pythons]
    servers = Servers(pythons)
    kept = SideBySide(found.machine, {"rounds": plan.pairs, "duration": plan.duration}, found.subjects)
    progress.measure()
    try:
        for name, count in cells(plan, able, options.scenario):
            progress.say(f"{name}, concurrency {count}: {plan.pairs} rounds")
            kept.rows.append(rounds(found, servers, plan, able, name, count))
    finally:
        servers.close()
    kept.machine["minutes"] = progress.seconds() / 60
    kept.errors = found.errors + [f"{name} cannot run: {reason}" for name, reason in found.missing.items()]
    print("\n".join(figures.side_by_side_text(asdict(kept))))
    if options.write and kept.rows:
        RESULTS.write_text(json.dumps(report.rounded(asdict(kept)), indent=1) + "\n")
    for error in kept.errors:
        print(f"FAILED: {error}", file=sys.stderr)
    return 1 if kept.errors else 0


if __name__ == "__main__":
    sys.exit(main())
