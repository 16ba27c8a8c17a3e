# SPDX-License-Identifier: MIT
"""What a run of compare.py says: a table for the terminal, and tables and a chart for bench/README.md.

    python bench/report.py          write bench/README.md anew from bench/results/latest.json

Everything between the markers of the README comes from here; nothing there is typed by hand.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import budget
import subjects
from scenarios import SCENARIOS

BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"
CALM = 0.10  # of a core that others may use, and
STEADY = 0.15  # spread that the floor may have, before a run is called noisy


class Cell:
    """One subject in one scenario at one concurrency: the rounds, and their medians."""

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        self.runs = runs

    def median(self, key: str) -> float:
        return statistics.median(run[key] for run in self.runs)

    @property
    def ratio(self) -> float:
        return self.median("ratio")

    @property
    def spread(self) -> tuple[float, float]:
        ratios = [run["ratio"] for run in self.runs]
        return min(ratios), max(ratios)

    @property
    def limited(self) -> bool:
        return self.median("generator_share") > 0.9


def cells(found: dict[str, Any]) -> dict[tuple[str, int], dict[str, Cell]]:
    """By scenario and concurrency, then by subject; in the order they were measured."""
    grouped: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for run in found["runs"]:
        grouped.setdefault((run["scenario"], run["concurrency"]), {}).setdefault(run["subject"], []).append(run)
    return {key: {name: Cell(runs) for name, runs in row.items()} for key, row in grouped.items()}


# ------------------------------------------------------------------ noise


def noise(found: dict[str, Any]) -> tuple[bool, str]:
    """Whether the machine was too busy to trust the figures, and a sentence that says how it was."""
    runs = found["runs"]
    if not runs:
        return False, "Nothing was measured."
    others = statistics.median(run["others_share"] or 0.0 for run in runs)
    spreads = []
    for concurrency in {run["concurrency"] for run in runs}:
        floors = sorted({run["floor_us"] for run in runs if run["concurrency"] == concurrency})
        if len(floors) >= 3:
            low, high = floors[len(floors) // 10], floors[-1 - len(floors) // 10]
            spreads.append((high - low) / statistics.median(floors))
    spread = max(spreads, default=0.0)
    noisy = others > CALM or spread > STEADY
    verdict = "NOISY: do not quote these figures" if noisy else "quiet"
    return noisy, (
        f"The machine was {verdict}. Everything else on it used {others:.0%} of a core (median of all runs); the plain "
        f"h11 loop itself varied by {spread:.0%} of its median (the middle four fifths of its runs)."
    )


# ------------------------------------------------------------------ terminal


def text(found: dict[str, Any]) -> str:
    lines = []
    for (name, concurrency), row in cells(found).items():
        lines += ["", f"{name}, concurrency {concurrency}: {SCENARIOS[name].title}"]
        lines.append(
            f"  {'':16} {'CPU us/op':>10} {'x h11':>7} {'low':>6} {'high':>6} {'ops/s':>8} {'p50 us':>8} {'p99 us':>8}"
        )
        for subject, cell in sorted(row.items(), key=lambda item: item[1].ratio):
            low, high = cell.spread
            mark = " *" if cell.limited else ""
            lines.append(
                f"  {subject:16} {cell.median('cpu_us'):10.1f} {cell.ratio:7.2f} {low:6.2f} {high:6.2f} "
                f"{cell.median('throughput'):8.0f} {cell.median('p50_us'):8.0f} {cell.median('p99_us'):8.0f}{mark}"
            )
    if found["idle"]:
        lines += ["", "idle sessions with an open stream, KiB each"]
        lines += [f"  {name:16} {statistics.median(values):8.2f}" for name, values in found["idle"].items()]
    if found["start"]:
        lines += ["", f"  {'':16} {'start ms':>9} {'RSS MiB':>8} {'import ms':>10}"]
        for name, figures in found["start"].items():
            imports = f"{figures['import_ms']:10.0f}" if "import_ms" in figures else ""
            lines.append(f"  {name:16} {figures['start_ms']:9.0f} {figures['rss_mib']:8.1f} {imports}")
    for name, reason in found["missing"].items():
        lines.append(f"  {name}: cannot run here: {reason}")
    lines.append("")
    for what, value, limit, met in budget.rows(found):
        lines.append(f"  {'met ' if met else 'MISS'} {what:45} {value:>8}  {limit}")
    lines += [
        "",
        "* the load generator took more than 90 % of a core: throughput and latency are its own",
        noise(found)[1],
    ]
    return "\n".join(lines)


# ------------------------------------------------------------------ README


def title_of(name: str) -> str:
    return subjects.SUBJECTS[name].title


def overview(found: dict[str, Any]) -> Iterator[str]:
    """Ratios to the plain h11 loop, subjects by scenarios."""
    table = cells(found)
    columns = [key for key in table if key[1] == 20 or key[0] != "call"]
    names = [name for name in found["subjects"] if any(name in table[key] for key in columns)]
    yield "| " + " | ".join(["server CPU, x plain h11", *(key[0] for key in columns)]) + " |"
    yield "|---|" + "--:|" * len(columns)
    for name in sorted(names, key=lambda name: rank(table, name)):
        row = [f"{table[key][name].ratio:.2f}" if name in table[key] else "–" for key in columns]
        yield "| " + " | ".join([title_of(name), *row]) + " |"


def rank(table: dict[tuple[str, int], dict[str, Cell]], name: str) -> float:
    row = table.get(("call", 20), {})
    return row[name].ratio if name in row else 1e9


def detail(key: tuple[str, int], row: dict[str, Cell]) -> Iterator[str]:
    scenario = SCENARIOS[key[0]]
    per = f", {scenario.events} events each" if scenario.events else ""
    yield f"#### `{key[0]}`, concurrency {key[1]}: {scenario.title}{per}"
    yield ""
    yield "| | CPU µs | x plain h11 | lowest–highest | a second | p50 µs | p95 µs | p99 µs | answers | generator |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|"
    for name, cell in sorted(row.items(), key=lambda item: item[1].ratio):
        low, high = cell.spread
        figures = [cell.median(k) for k in ("cpu_us", "throughput", "p50_us", "p95_us", "p99_us")]
        bound = "\\*" if cell.limited else ""
        form = cell.runs[0]["answers"]
        yield (
            f"| {title_of(name)} | {figures[0]:.1f} | **{cell.ratio:.2f}** | {low:.2f}–{high:.2f} "
            f"| {figures[1]:,.0f}{bound} | {figures[2]:,.0f} | {figures[3]:,.0f} | {figures[4]:,.0f} "
            f"| {form} | {cell.median('generator_share'):.0%} |"
        )
    yield ""


def sizes(found: dict[str, Any]) -> Iterator[str]:
    """Start-up and memory."""
    if not found["start"] and not found["idle"]:
        return
    yield "| | start to listening, ms | RSS then, MiB | import above asyncio's, ms | idle session with a stream, KiB |"
    yield "|---|--:|--:|--:|--:|"
    for name in found["subjects"]:
        start, held = found["start"].get(name, {}), found["idle"].get(name)
        if start or held:
            figures = [f"{start[key]:.0f}" if key in start else "–" for key in ("start_ms", "rss_mib", "import_ms")]
            idle = f"{statistics.median(held):.1f}" if held else "–"
            yield "| " + " | ".join([title_of(name), *figures, idle]) + " |"
    yield ""


def budgets(found: dict[str, Any]) -> Iterator[str]:
    """Which of ours are met by this run."""
    yield "| budget (budget.json) | measured | wanted | |"
    yield "|---|--:|--:|---|"
    for what, value, limit, met in budget.rows(found):
        yield f"| {what} | {value} | {limit} | {'met' if met else '**missed**'} |"
    yield ""


def markdown(found: dict[str, Any]) -> str:
    machine, plan = found["machine"], found["plan"]
    tools = ", ".join(
        f"{name} {machine[key]}"
        for key, name in (("python", "CPython"), ("node", "Node.js"), ("go", "Go"), ("rust", "Rust"))
        if machine[key]
    )
    lines = [
        f"Run on {machine['date']} of commit {machine['commit']}, {machine['minutes']:.0f} minutes, on "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['system']}; {tools}. "
        f"Medians of {plan['pairs']} rounds of {plan['duration']:g} s.",
        "",
        noise(found)[1],
        "",
        "Bridges are compared in [bridges.md](bridges.md), clients in [clients.md](clients.md), stores and workers in",
        "[fleet.md](fleet.md).",
        "",
        "![CPU of one call](results/chart.svg)",
        "",
        *overview(found),
        "",
    ]
    versions = {s["title"]: s["version"] for s in found["subjects"].values() if s["version"]}
    lines += ["Versions: " + "; ".join(f"{title}: {version}" for title, version in versions.items()) + ".", ""]
    if found["missing"]:
        lines += ["Could not run on this machine:", ""]
        lines += [f"- {title_of(name)}: {reason}" for name, reason in found["missing"].items()]
        lines.append("")
    if found["errors"]:
        lines += ["**Errors:**", "", *(f"- {error}" for error in found["errors"]), ""]
    lines += sizes(found)
    lines += budgets(found)
    lines += ["<details><summary>Every scenario in full</summary>", ""]
    for key, row in cells(found).items():
        lines += detail(key, row)
    lines += ["\\* The load generator took more than 90 % of a core: throughput and latency are its own.", ""]
    lines += [*left_out(found), "</details>"]
    return "\n".join(lines)


def left_out(found: dict[str, Any]) -> Iterator[str]:
    """Who has no figure where, and why."""
    reasons: dict[str, list[str]] = {}
    for scenario, row in found["left_out"].items():
        for name, reason in row.items():
            reasons.setdefault(f"{title_of(name)} {reason}", []).append(f"`{scenario}`")
    if reasons:
        yield "Not measured: " + "; ".join(f"{why} ({', '.join(where)})" for why, where in reasons.items()) + "."
        yield ""


def rounded(value: Any) -> Any:
    """Six significant digits: the rest is noise in a file that is kept."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


def write(found: dict[str, Any], folder: Path) -> None:
    """The README's tables and the chart."""
    readme = folder / "README.md"
    old = readme.read_text()
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}")
    try:
        python = subjects.python_with("chart.txt", lambda text: print(text, file=sys.stderr))
    except subjects.Missing as error:
        print(f"no chart: {error}", file=sys.stderr)
        return
    subprocess.run([python, str(folder / "chart.py")], check=True, timeout=300)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    write(json.loads((here / "results" / "latest.json").read_text()), here)
