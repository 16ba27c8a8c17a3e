# SPDX-License-Identifier: MIT
"""What a run of compare.py says: a table for the terminal; the first part of bench/README.md, scenarios.md, charts.

    python bench/report.py          write them anew from bench/results/latest.json

Everything between the markers of the two pages comes from here; nothing there is typed by hand.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import budget
import clone  # noqa: F401  the clone goes first on the path
import figures
import subjects
from figures import ROWS, Cell, cells, noise

from mcp_h11.bench.scenarios import SCENARIOS

BEGIN, END = "<!-- compare:begin -->", "<!-- compare:end -->"
# The columns of the first table: the scenario, its name there.  README.md says under the table what each one is.
COLUMNS = (
    ("call", "a call"),
    ("behind-proxy", "behind a proxy"),
    ("modern", "2026-07-28"),
    ("session", "a session"),
    ("list", "100 tools"),
    ("stream", "100 events"),
    ("echo-64k", "64 KiB"),
    ("echo-1m", "1 MiB"),
    ("connect", "new connection"),
)
CHARTS = {"chart": "", "payloads": "How the size of a payload counts", "memory": "Memory"}


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


def where(found: dict[str, Any]) -> Iterator[str]:
    """When, on which machine, and how noisy it was."""
    machine, plan = found["machine"], found["plan"]
    tools = ", ".join(
        f"{name} {machine[key]}"
        for key, name in (("python", "CPython"), ("node", "Node.js"), ("go", "Go"), ("rust", "Rust"))
        if machine[key]
    )
    yield (
        f"Run on {machine['date']} of commit {machine['commit']}, {machine['minutes']:.0f} minutes, on "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['system']}; {tools}. "
        f"Medians of {plan['pairs']} rounds of {plan['duration']:g} s. {noise(found)[1]}"
    )
    yield ""


def headline(found: dict[str, Any]) -> Iterator[str]:
    """Microseconds of the subjects and scenarios that most readers ask for."""
    table = cells(found)
    keys = {key[0]: key for key in figures.columns(table)}
    shown = [(keys[scenario], name) for scenario, name in COLUMNS if scenario in keys]
    present = [name for name in ROWS if any(name in table[key] for key, _ in shown)]
    cheapest = {key: min(table[key][n].ratio for n in present if n in table[key] and n != "h11") for key, _ in shown}
    yield "| µs of server CPU | " + " | ".join([*(name for _, name in shown), "start, ms", "memory, MiB"]) + " |"
    yield "|---|" + "--:|" * (len(shown) + 2)
    for name in sorted(present, key=lambda name: rank(table, name)):
        row = []
        for key, _ in shown:
            cell = table[key].get(name)
            text = "–" if cell is None else f"{figures.us(found, cell):,.0f}"
            row.append(f"**{text}**" if cell is not None and cell.ratio == cheapest[key] else text)
        start = found["start"].get(name, {})
        row += [f"{start[key]:.0f}" if key in start else "–" for key in ("start_ms", "rss_mib")]
        yield "| " + " | ".join([title_of(name), *row]) + " |"
    yield ""


def not_first(found: dict[str, Any]) -> Iterator[str]:
    """Wherever a peer needs less than the cheapest of ours."""
    rows = list(figures.behind(found))
    if not rows:
        if found["runs"]:
            yield "**Where ours is not the cheapest:** in none of the scenarios of this run."
            yield ""
        return
    yield "**Where ours is not the cheapest** (all scenarios, each of ours and each peer in its cheapest form):"
    yield ""
    for what, peer, theirs, own, value, unit in rows:
        scenario = SCENARIOS.get(what)
        name = f"`{what}`, {scenario.title}" if scenario else what
        yield (
            f"- {name}: {title_of(peer)} {number(theirs)} {unit}, {title_of(own)} {number(value)} {unit}, "
            f"{value / theirs:.2f} times as much."
        )
    yield ""


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def side_by_side(found: dict[str, Any] | None) -> Iterator[str]:
    """Ours over the cheapest peer, of a run of side_by_side.py."""
    rows = list(figures.paired(found)) if found else []
    if found is None or not rows:
        return
    machine, plan = found["machine"], found["plan"]
    verdicts = {
        name: Counter(one.verdict for one in rows if one.ours == name) for name in figures.own(found["subjects"])
    }
    yield "### Beside the Rust SDK, in short turns"
    yield ""
    yield "![Points with intervals: the figures of the table below.](results/side_by_side.svg)"
    yield ""
    yield (
        "A machine that others share changes its speed within seconds, and a ratio of two figures that were measured a "
        f"minute apart has that in it. Here both servers take turns of {plan['duration']:g} s, side by side, "
        f"{plan['rounds']} times. Each cell is the median of our CPU over that of the peer, with the interval of that "
        "median in brackets (95 %, by order statistics). The peer is the Rust SDK in the mode that costs less, and for "
        f"`resume`, which it cannot do, the Go SDK. Run on {machine['date']} of commit {machine['commit']}, "
        f"{machine['minutes']:.0f} minutes, by "
        "`python bench/side_by_side.py --write`."
    )
    yield ""
    for name, said in verdicts.items():
        yield f"- {title_of(name)}: " + ", ".join(f"{verdict} in {said[verdict]}" for verdict in figures.VERDICTS) + "."
    yield ""
    names = list(verdicts)
    yield "| CPU of ours over that of | | " + " | ".join(title_of(name) for name in names) + " |"
    yield "|---|---|" + "--:|" * len(names)
    for key in dict.fromkeys((one.name, one.peer) for one in rows):
        those = {one.ours: one for one in rows if (one.name, one.peer) == key}
        said_of = [
            f"{one.ratio:.2f} ({one.low:.2f}–{one.high:.2f})" if (one := those.get(name)) else "–" for name in names
        ]
        yield f"| `{key[0]}` | {title_of(key[1])} | " + " | ".join(said_of) + " |"
    yield ""
    if found["errors"]:
        yield "Failed; a server that fails twice in a scenario has no figure there:"
        yield ""
        yield from (f"- {error}" for error in found["errors"])
        yield ""


def growth(found: dict[str, Any] | None) -> Iterator[str]:
    """What more and more idle sessions cost, of a run of growth.py."""
    rows = figures.grown(found)
    if found is None or not rows:
        return
    yield "### Growth"
    yield ""
    yield f"![{figures.growth_alternative(found)}](results/growth.svg)"
    yield ""
    yield (
        f"Each session has an open stream and says nothing. Run on {found['machine']['date']} of commit "
        f"{found['machine']['commit']}; `python bench/growth.py --write` makes these figures."
    )
    yield ""
    yield (
        "The longest call is by the clock of the client, so it has the machine's noise in it. The longest pause is CPU "
        "of the server's busiest thread within one call, and has not."
    )
    yield ""
    yield (
        "| idle sessions | | % of a core when idle | a call beside them, µs | longest call, ms | longest pause, ms "
        "| memory, MiB |"
    )
    yield "|--:|---|--:|--:|--:|--:|--:|"
    for _, title, sizes in rows:
        for row in sizes:
            pause = row.get("pause_ms")  # runs of before have none
            yield (
                f"| {row['sessions']:,} | {title} | {row['idle_share']:.2%} | {row['call_us']:,.0f} "
                f"| {row['longest_ms']:.1f} | {'–' if pause is None else f'{pause:.1f}'} | {row['rss_mib']:,.0f} |"
            )
    yield ""


def first(found: dict[str, Any], grown: dict[str, Any] | None = None, beside: dict[str, Any] | None = None) -> str:
    """The generated part of README.md: a chart, a table, where ours is behind, and the other charts."""
    said = dict(figures.alternatives(found))
    lines = [f"![{said['chart']}](results/chart.svg)", "", *where(found), *headline(found)]
    if found["errors"]:
        lines += ["**Errors of this run** (the figures of these are missing or of fewer rounds):", ""]
        lines += [*(f"- {error}" for error in found["errors"]), ""]
    lines += not_first(found)
    lines += side_by_side(beside)
    for name, title in CHARTS.items():
        if title:
            lines += [f"### {title}", "", f"![{said[name]}](results/{name}.svg)", ""]
    lines += growth(grown)
    return "\n".join(lines)


# ------------------------------------------------------------------ scenarios.md


def overview(found: dict[str, Any]) -> Iterator[str]:
    """Ratios to the plain h11 loop, subjects by scenarios."""
    table = cells(found)
    columns = figures.columns(table)
    names = [name for name in found["subjects"] if any(name in table[key] for key in columns)]
    yield "| " + " | ".join(["server CPU, x plain h11", *(key[0] for key in columns)]) + " |"
    yield "|---|" + "--:|" * len(columns)
    for name in sorted(names, key=lambda name: rank(table, name)):
        row = [f"{table[key][name].ratio:.2f}" if name in table[key] else "–" for key in columns]
        yield "| " + " | ".join([title_of(name), *row]) + " |"


def rank(table: dict[tuple[str, int], dict[str, Cell]], name: str) -> float:
    row = table.get(("call", 20), {})
    return row[name].ratio if name in row else 1e9


def detail(key: tuple[str, int], row: dict[str, Cell], spread: float | None) -> Iterator[str]:
    scenario = SCENARIOS[key[0]]
    per = f", {scenario.events} events each" if scenario.events else ""
    yield f"### `{key[0]}`, concurrency {key[1]}: {scenario.title}{per}"
    yield ""
    if spread is not None:
        yield f"In these minutes the loop varied by {spread:.0%} (the middle four fifths of its turns)."
        yield ""
    yield "<details><summary>The table</summary>"
    yield ""
    heads = ("CPU µs", "x plain h11", "lowest–highest", "rounds", "a second", "p50 µs", "p95 µs", "p99 µs", "answers",
             "generator")  # fmt: skip
    yield "| | " + " | ".join(heads) + " |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|"
    for subject, cell in sorted(row.items(), key=lambda item: item[1].ratio):
        low, high = cell.spread
        values = [cell.median(k) for k in ("cpu_us", "throughput", "p50_us", "p95_us", "p99_us")]
        bound = "\\*" if cell.limited else ""
        form = cell.runs[0]["answers"]
        apart = cell.runs[0].get("beside_us")
        name = title_of(subject) + ("" if apart is None else f" (and {cell.median('beside_us'):.1f} µs of its store's)")
        yield (
            f"| {name} | {values[0]:.1f} | **{cell.ratio:.2f}** | {low:.2f}–{high:.2f} | {len(cell.runs)} "
            f"| {values[1]:,.0f}{bound} | {values[2]:,.0f} | {values[3]:,.0f} | {values[4]:,.0f} "
            f"| {form} | {cell.median('generator_share'):.0%} |"
        )
    yield ""
    yield "</details>"
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
            values = [f"{start[key]:.0f}" if key in start else "–" for key in ("start_ms", "rss_mib", "import_ms")]
            idle = f"{statistics.median(held):.1f}" if held else "–"
            yield "| " + " | ".join([title_of(name), *values, idle]) + " |"
    yield ""


def budgets(found: dict[str, Any]) -> Iterator[str]:
    """Which of ours are met by this run."""
    yield "| budget (budget.json) | measured | wanted | |"
    yield "|---|--:|--:|---|"
    for what, value, limit, met in budget.rows(found):
        yield f"| {what} | {value} | {limit} | {'met' if met else '**missed**'} |"
    yield ""


def scenarios(found: dict[str, Any]) -> str:
    """The generated part of scenarios.md: every figure of the run."""
    lines = [*where(found), "## Every subject, as ratios", ""]
    lines += [*overview(found), ""]
    lines += ["## Start and memory", "", *sizes(found)]
    lines += ["## Budgets", "", *budgets(found)]
    versions = {s["title"]: s["version"] for s in found["subjects"].values() if s["version"]}
    lines += ["## Versions", "", *(f"- {title}: {version}" for title, version in versions.items()), ""]
    if found["missing"]:
        lines += ["Could not run on this machine:", ""]
        lines += [f"- {title_of(name)}: {reason}" for name, reason in found["missing"].items()]
        lines.append("")
    if found["errors"]:
        lines += ["**Errors:**", "", *(f"- {error}" for error in found["errors"]), ""]
    lines += ["## Every scenario in full", ""]
    spreads = figures.spreads(found)
    for key, row in cells(found).items():
        lines += detail(key, row, spreads.get(key))
    lines += ["\\* The load generator took more than 90 % of a core: throughput and latency are its own.", ""]
    lines += left_out(found)
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


def put(page: Path, text: str) -> None:
    """Between the markers of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")


def write(found: dict[str, Any], folder: Path) -> None:
    """Both pages and the charts."""
    put(folder / "README.md", first(found, figures.read("growth"), figures.read("side_by_side")))
    put(folder / "scenarios.md", scenarios(found))
    try:
        python = subjects.python_with("chart.txt", lambda text: print(text, file=sys.stderr))
        subprocess.run([python, str(folder / "chart.py")], check=True, timeout=300)
    except (subjects.Missing, OSError, subprocess.SubprocessError) as error:
        print(f"no charts: {error}", file=sys.stderr)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    write(json.loads((here / "results" / "latest.json").read_text()), here)
