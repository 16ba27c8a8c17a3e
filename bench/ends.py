# SPDX-License-Identifier: MIT
"""What bridges.py and clients.py share: subjects in turns, A B A B, against ours of the same moment; a page of it.

Every figure of another one is a ratio to the run of ours right before it.  The first round warms up and is thrown
away; medians of the others, with the lowest and the highest.  One wrong answer is an error, and one error makes the
whole run fail: then no page is written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import budget
import clone  # noqa: F401  the clone goes first on the path
import subjects
from compare import PAIRS, Progress, brief, machine
from figures import CALM, STEADY
from report import rounded
from subjects import Missing

from mcp_h11.bench import process
from mcp_h11.bench.measuring import BUSY
from mcp_h11.bench.process import Failed
from mcp_h11.bench.talk import Wrong

HERE = Path(__file__).resolve().parent
CONCURRENCY = (1, 20)
ENOUGH = 3  # runs of ours, before their spread says anything

Figures = dict[str, Any]  # of one run: cpu_us, others_share, generator_share and whatever the columns name
Columns = Sequence[tuple[str, str, str]]  # title, key, format


@dataclass
class Found:
    """Everything that was measured; what results/<name>.json has."""

    name: str
    machine: dict[str, Any]
    plan: dict[str, Any]
    base: str
    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # who could not run, and why
    cannot: dict[str, str] = field(default_factory=dict)  # what somebody cannot do
    runs: list[Figures] = field(default_factory=list)
    start: dict[str, list[Figures]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def title(self, name: str) -> str:
        return self.subjects[name]["title"]


def cpu_apart(leader: int) -> tuple[float, float]:
    """CPU seconds of a process, and of all below it: the servers that it has started, those that ended included."""
    below = process.descendants(leader)
    behind = sum(map(process.own_seconds, below)) + sum(map(process.reaped_seconds, (leader, *below)))
    return process.own_seconds(leader), behind


# ------------------------------------------------------------------ measuring


def prepared(found: Found, name: str, title: str, version: str, make: Callable[[], Any], progress: Progress) -> Any:
    """What `make` gives, or None, with the reason on record."""
    try:
        ready = make()
    except Missing as error:
        found.missing[title] = str(error)
        progress.say(f"{title} cannot run here: {error}")
        return None
    found.subjects[name] = {"title": title, "version": version}
    return ready


def paired(
    found: Found,
    table: str,
    concurrency: int,
    names: Iterable[str],
    run: Callable[[str, int], Figures],
    progress: Progress,
) -> None:
    """Round after round, ours and one of the others in turns."""
    others = [name for name in names if name != found.base]
    progress.say(f"{table}, concurrency {concurrency}: {found.base}, {', '.join(others) or 'alone'}")
    for number in range(-1, found.plan["pairs"]):
        for other in others or [None]:
            progress.show(f"{table} x{concurrency}, round {number + 1} of {found.plan['pairs']}: {other}")
            name = found.base
            try:
                base = run(name, concurrency)
                kept = [(name, base)]
                if other is not None:
                    name = other
                    kept.append((name, run(name, concurrency)))
            except (Wrong, Failed, OSError) as error:
                found.errors.append(f"{found.title(name)}, {table} x{concurrency}: {brief(error)}")
                progress.say(found.errors[-1])
                if other is None or name == found.base:
                    return
                others = [one for one in others if one != other]
                continue
            for subject, figures in kept if number >= 0 else ():
                about = {"table": table, "subject": subject, "round": number, "concurrency": concurrency}
                about["base"] = subject == found.base
                found.runs.append({**figures, **about, "ratio": figures["cpu_us"] / base["cpu_us"]})


# ------------------------------------------------------------------ saying


def cells(found: Found) -> dict[tuple[str, int], dict[str, list[Figures]]]:
    """By table and concurrency, then by subject: the runs."""
    grouped: dict[tuple[str, int], dict[str, list[Figures]]] = {}
    for run in found.runs:
        grouped.setdefault((run["table"], run["concurrency"]), {}).setdefault(run["subject"], []).append(run)
    return grouped


def median(runs: Iterable[Figures], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def noise(found: Found) -> str:
    """How it was on the machine, by the measure of report.py: others on it, and ours against itself."""
    if not found.runs:
        return "Nothing was measured."
    others = median(found.runs, "others_share")
    swings: list[float] = []
    for row in cells(found).values():
        ours = [run for runs in row.values() for run in runs if run["base"]]
        if len(ours) >= ENOUGH:
            middle = median(ours, "cpu_us")
            swings += [run["cpu_us"] / middle for run in ours]
    swings.sort()
    tenth = len(swings) // 10
    spread = swings[-1 - tenth] - swings[tenth] if swings else 0.0
    verdict = "NOISY: do not quote these figures" if others > CALM or spread > STEADY else "quiet"
    return (
        f"The machine was {verdict}. Everything else on it used {others:.0%} of a core (median of all runs; load "
        f"{found.machine['load_before']:.1f} before the first); ours itself varied by {spread:.0%} "
        f"of its median (the middle four fifths of its runs)."
    )


def limited(runs: Sequence[Figures]) -> bool:
    return "generator_share" in runs[0] and median(runs, "generator_share") > BUSY


def rows(found: Found, row: dict[str, list[Figures]], columns: Columns) -> Iterator[str]:
    yield "| " + " | ".join(["", "CPU µs", "x ours", "lowest–highest", *(title for title, _, _ in columns)]) + " |"
    yield "|---|" + "--:|" * (3 + len(columns))
    for name, runs in sorted(row.items(), key=lambda item: median(item[1], "ratio")):
        ratios = [run["ratio"] for run in runs]
        spread = "–" if runs[0]["base"] else f"{min(ratios):.2f}–{max(ratios):.2f}"
        figures = [f"{median(runs, 'cpu_us'):,.1f}", f"**{statistics.median(ratios):.2f}**", spread]
        for _, key, form in columns:
            one = [run for run in runs if run.get(key) is not None]
            figures.append("–" if not one else one[0][key] if form == "s" else format(median(one, key), form))
        if limited(runs):
            figures[-1] += " \\*"
        yield "| " + " | ".join([found.title(name), *figures]) + " |"
    yield ""


def page(found: Found, title: str, words: str, columns: Columns, tables: dict[str, str], behind: str) -> str:
    """The whole page; `words` says what is measured and how to read it."""
    told, plan = found.machine, found.plan
    tools = [f"{name} {told[key]}" for key, name in (("python", "CPython"), ("node", "Node.js")) if told[key]]
    lines = [
        f"# {title}",
        "",
        words.strip(),
        "",
        f"Run on {told['date']} of commit {told['commit']}, {told['minutes']:.0f} minutes, on {told['cores']} cores of "
        f"{told['cpu']}, {told['system']}; {', '.join(tools)}. Medians of {plan['pairs']} pairs of runs of "
        f"{plan['duration']:g} s.",
        "",
        noise(found),
        "",
    ]
    for (table, concurrency), row in cells(found).items():
        how = f"{concurrency} at a time" if concurrency > 1 else "one after the other"
        lines += [f"### {tables[table]}, {how}", ""]
        lines += rows(found, row, columns)
    if any(limited(runs) for row in cells(found).values() for runs in row.values()):
        lines += ["\\* The load generator took more than 90 % of a core: throughput and latency are its own.", ""]
    if found.start:
        lines += [f"| | start to the first right answer, ms | lowest–highest | {behind} |", "|---|--:|--:|--:|"]
        for name, starts in found.start.items():
            times = [one["start_ms"] for one in starts]
            size = median(starts, "rss") / 2**20
            span = f"{min(times):.0f}–{max(times):.0f}"
            lines.append(f"| {found.title(name)} | {statistics.median(times):.0f} | {span} | {size:.0f} |")
        lines.append("")
    versions = dict.fromkeys(one["version"] for one in found.subjects.values())
    lines += [f"Versions: mcp_h11: {'; '.join(versions)}.", ""]
    for name, reason in {**found.missing, **found.cannot}.items():
        lines += [f"Not measured: {name}: {reason}.", ""]
    lines += [f"**Error:** {error}\n" for error in found.errors]
    return "\n".join(lines)


# ------------------------------------------------------------------ the whole


def arguments(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", default="", help="subjects, comma-separated; ours is always there")
    parser.add_argument("--table", default="", help="tables, comma-separated")
    parser.add_argument("--concurrency", default="", help="numbers, comma-separated")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement; writes no page")
    parser.add_argument("--pairs", type=int, help=f"rounds that count (default {PAIRS}, with --quick 1)")
    parser.add_argument("--duration", type=float, help="seconds of each run")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="a subject that cannot run here is a failure, and so is a budget that is not met",
    )
    parser.add_argument("--json", metavar="FILE", help="the figures, besides where they are kept")
    return parser


def chosen(asked: str, known: Iterable[str], what: str) -> list[str]:
    """The names that were asked for, all where none was; SystemExit for one that is not there."""
    known = list(known)
    names = [word for word in asked.split(",") if word]
    for name in names:
        if name not in known:
            raise SystemExit(f"no {what} {name!r}; there are {', '.join(known)}")
    return [name for name in known if not names or name in names]


def plan_of(options: argparse.Namespace, duration: float, warmup: float) -> dict[str, Any]:
    numbers = [int(word) for word in options.concurrency.split(",") if word]
    return {
        "pairs": options.pairs or (1 if options.quick else PAIRS),
        "duration": options.duration or (0.2 if options.quick else duration),
        "warmup": 0.2 if options.quick else warmup,
        "concurrency": numbers or list(CONCURRENCY),
        "quick": options.quick,
    }


def package(quick: bool) -> dict[str, str]:
    """What our own processes need to find the package: a copy, so that a long run measures one state of it."""
    return {"PYTHONPATH": str(subjects.ROOT if quick else subjects.frozen())}


def begin(name: str, base: str, plan: dict[str, Any]) -> Found:
    if not plan["quick"]:
        subjects.frozen()  # the state that the page names, whatever changes while peers are installed
    return Found(name, {**machine(), "began": time.monotonic()}, plan, base)


def judged(rows: Iterable[budget.Row]) -> str:
    """The budgets of a run, as a table."""
    lines = ["| budget | measured | limit | |", "|---|--:|--:|---|"]
    lines += [
        f"| {what} | {figure} | {limit} | {'met' if met else '**not met**'} |" for what, figure, limit, met in rows
    ]
    return "\n".join([*lines, ""]) if len(lines) > 2 else ""


def finish(
    found: Found,
    options: argparse.Namespace,
    say: Callable[[Found], str],
    whole: bool = True,
    rows: Iterable[budget.Row] = (),
) -> int:
    """Keep, print, and say what went wrong; a page is written of a whole run without errors.

    With --strict a budget among `rows` that is not met is a failure.
    """
    rows = list(rows)
    whole = whole and not (options.quick or options.only or options.table or options.concurrency)
    found.machine["minutes"] = (time.monotonic() - found.machine.pop("began")) / 60
    text = "\n".join(part for part in (say(found), judged(rows)) if part)
    kept = whole and not found.errors
    folder = HERE / "results" if kept else subjects.CACHE
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(rounded(asdict(found)), indent=1) + "\n"
    for path in (folder / f"{found.name}.json", *([Path(options.json)] if options.json else ())):
        path.write_text(figures)
    print(text)
    if kept:
        (HERE / f"{found.name}.md").write_text(text)
    else:
        print(f"(kept in {os.path.relpath(folder / f'{found.name}.json')}; bench/{found.name}.md is as it was)")
    failures = list(found.errors)
    if options.strict:
        failures += [f"{name} cannot run: {reason}" for name, reason in found.missing.items()]
        failures += [f"{what} is {figure}, the limit {limit}" for what, figure, limit, met in rows if not met]
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0
