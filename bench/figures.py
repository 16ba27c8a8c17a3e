# SPDX-License-Identifier: MIT
"""The figures of a run that charts and pages show, without a library for drawing: rows of values, and texts of them.

`compare.py` makes a run and keeps it in results/latest.json.  Microseconds are the ratio to the plain h11 loop times
the loop's median of the whole run, so that the order of subjects is that of the ratios.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
USUAL = 20  # connections
FLOORS = ("h11", "asyncio")
OURS = "ours"  # how the names of our own subjects begin
CALM = 0.10  # of a core that others may use, and
STEADY = 0.15  # spread that the floor may have, before a run is called noisy
ENOUGH = 4  # turns of the loop, before their spread says anything
VERDICTS = ("cheaper", "not decided", "dearer")  # of ours beside a peer
PAYLOADS = (("call", 100), ("echo-1k", 1024), ("echo-64k", 64 * 1024), ("echo-1m", 1024 * 1024))  # bytes of a body
# The rows of the first table: the three ways to run ours, and each peer as it is cheapest; scenarios.md has all.
ROWS = (
    "ours-speed", "ours-orjson", "ours", "rmcp-stateless", "rmcp", "go-json", "zeromcp", "ts-sdk-json", "ts-server",
    "mcp-json", "mcp", "fastmcp-json", "h11",
)  # fmt: skip
SIZED = ("ours-speed", "ours", "rmcp-stateless", "go-json", "zeromcp", "ts-sdk-json", "mcp-json")

Run = Mapping[str, Any]


class Cell:
    """One subject in one scenario at one concurrency: the rounds, and their medians."""

    def __init__(self, runs: Sequence[Run]) -> None:
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


Cells = dict[tuple[str, int], dict[str, Cell]]


def cells(found: Run) -> Cells:
    """By scenario and concurrency, then by subject; in the order they were measured."""
    grouped: dict[tuple[str, int], dict[str, list[Run]]] = {}
    for run in found["runs"]:
        grouped.setdefault((run["scenario"], run["concurrency"]), {}).setdefault(run["subject"], []).append(run)
    return {key: {name: Cell(runs) for name, runs in row.items()} for key, row in grouped.items()}


def columns(table: Cells) -> list[tuple[str, int]]:
    """The cells that stand for a scenario: `call` has several."""
    return [key for key in table if key[1] == USUAL or key[0] != "call"]


def peers(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if not name.startswith(OURS) and name not in FLOORS]


def own(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if name.startswith(OURS)]


def read(name: str) -> Any:
    """A file of results/, or None where nothing has been measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


# ------------------------------------------------------------------ the loop


def turns(found: Run) -> list[Run]:
    """Each turn of the loop: its connections, and microseconds of CPU for a call."""
    kept = found.get("floors") or []
    if kept:
        return list(kept)
    seen = {(run["concurrency"], run["floor_us"]) for run in found["runs"]}
    return [{"concurrency": concurrency, "cpu_us": value} for concurrency, value in sorted(seen)]


def loop_us(found: Run, concurrency: int) -> float:
    """The loop's median at so many connections; at the usual ones, where it had no turn there."""
    all_of = turns(found)
    values = [turn["cpu_us"] for turn in all_of if turn["concurrency"] == concurrency]
    return statistics.median(values or [turn["cpu_us"] for turn in all_of])


def middle(values: Sequence[float]) -> float:
    """How far the middle four fifths of them reach, as a share of their median."""
    ordered = sorted(values)
    tenth = len(ordered) // 10
    return (ordered[-1 - tenth] - ordered[tenth]) / statistics.median(ordered)


def spreads(found: Run) -> dict[tuple[str, int], float]:
    """By scenario and concurrency: how far the loop's turns in those minutes reach.

    A figure is a ratio to the turns around it.  A machine that becomes slower in half an hour changes both, so the
    spread within one scenario is the noise of its figures, and that of the whole run is more than it.
    """
    cells_of: dict[tuple[str, int], list[float]] = {}
    for turn in found.get("floors") or []:
        cells_of.setdefault((turn["scenario"], turn["concurrency"]), []).append(turn["cpu_us"])
    return {key: middle(values) for key, values in cells_of.items() if len(values) >= ENOUGH}


def whole_spread(found: Run) -> float:
    """Of all turns of the loop; the worst number of connections."""
    by_count: dict[int, list[float]] = {}
    for turn in turns(found):
        by_count.setdefault(turn["concurrency"], []).append(turn["cpu_us"])
    return max((middle(values) for values in by_count.values() if len(values) >= ENOUGH), default=0.0)


def noise(found: Run) -> tuple[bool, str]:
    """Whether the machine was too busy to trust the figures, and a sentence that says how it was."""
    runs = found["runs"]
    if not runs:
        return False, "Nothing was measured."
    others = statistics.median(run["others_share"] or 0.0 for run in runs)
    each, whole = spreads(found), whole_spread(found)
    spread = statistics.median(each.values()) if each else whole
    noisy = others > CALM or spread > STEADY
    verdict = "NOISY: do not quote these figures" if noisy else "quiet"
    said = f"by {whole:.0%} of its median in the whole run (the middle four fifths of its turns)"
    if each:
        worst = max(each, key=each.__getitem__)
        said = (
            f"by {spread:.0%} of its median within one scenario (the middle four fifths of its turns; the median of "
            f"{len(each)} scenarios, of which `{worst[0]}` at {worst[1]} connections had the most, {each[worst]:.0%}), "
            f"and by {whole:.0%} in the whole run"
        )
    return noisy, (
        f"The machine was {verdict}. Everything else on it used {others:.0%} of a core (median of all runs). The plain "
        f"h11 loop itself varied {said}."
    )


# ------------------------------------------------------------------ two servers side by side


@dataclass(frozen=True)
class Paired:
    """One of ours and the peer that needs least, in one scenario: our CPU over that of the peer."""

    scenario: str
    concurrency: int
    ours: str
    peer: str
    ratio: float  # the median of the rounds
    low: float  # the true median is between them, with a confidence of 95 %
    high: float

    @property
    def verdict(self) -> str:
        return VERDICTS[(self.high >= 1) + (self.low > 1)]

    @property
    def name(self) -> str:
        return f"{self.scenario}, {self.concurrency}" if self.scenario == "call" else self.scenario


def interval(values: Sequence[float], outside: float = 0.05) -> tuple[float, float]:
    """The interval of the median by order statistics: the true one is outside with this probability at most.

    Each value is above the true median or below it like a coin, whatever the distribution is.  The widest of fewer than
    six values is outside more often.
    """
    ordered, count = sorted(values), len(values)
    cut, tail = 0, 2 / 2**count
    while tail <= outside:
        cut += 1
        tail += 2 * math.comb(count, cut) / 2**count
    cut = max(cut - 1, 0)
    return ordered[cut], ordered[-1 - cut]


def paired(found: Run) -> Iterator[Paired]:
    """A row for each of ours in each scenario, of a run of side_by_side.py."""
    for row in found["rows"]:
        costs = row["cpu_us"]
        others = [name for name in peers(costs) if costs[name]]
        peer = min(others, key=lambda name: sum(costs[name]), default=None)
        for ours in own(costs) if peer else ():
            ratios = [one / other for one, other in zip(costs[ours], costs[peer], strict=True)]
            yield Paired(row["scenario"], row["concurrency"], ours, peer, statistics.median(ratios), *interval(ratios))


def side_by_side_text(found: Run) -> Iterator[str]:
    """A table for the terminal."""
    yield f"{'':18} {'ours':12} {'the cheapest peer':18} {'ratio':>6} {'95 % of':>11}"
    for one in paired(found):
        reach = f"{one.low:.2f}-{one.high:.2f}"
        yield f"{one.name:18} {one.ours:12} {one.peer:18} {one.ratio:6.2f} {reach:>11} {one.verdict}"


def side_by_side_alternative(found: Run) -> str:
    said = [
        f"{title(found, name)} "
        + ", ".join(
            f"{one.name} {one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})" for one in paired(found) if one.ours == name
        )
        for name in own(found["subjects"])
    ]
    return f"Points with intervals: our CPU over that of the cheapest peer. {'; '.join(said)}."


# ------------------------------------------------------------------ rows of charts


def us(found: Run, cell: Cell) -> float:
    return cell.ratio * loop_us(found, cell.runs[0]["concurrency"])


def title(found: Run, name: str) -> str:
    return str(found["subjects"][name]["title"])


def costs(found: Run) -> list[tuple[str, float, float, float, float | None]]:
    """(name, microseconds of a call, lowest, highest, the same behind a proxy), the dearest first."""
    table = cells(found)
    behind = table.get(("behind-proxy", USUAL), {})
    loop = loop_us(found, USUAL)
    rows = []
    for name, cell in table.get(("call", USUAL), {}).items():
        low, high = cell.spread
        other = us(found, behind[name]) if name in behind else None
        rows.append((name, us(found, cell), low * loop, high * loop, other))
    return sorted(rows, key=lambda row: -row[1])


def payloads(found: Run) -> list[tuple[str, list[tuple[int, float]]]]:
    """(name, [(bytes there and back, microseconds)]) of those that stand for their kind."""
    table = cells(found)
    rows = []
    for name in SIZED:
        points = []
        for scenario, size in PAYLOADS:
            row = next((row for key, row in table.items() if key[0] == scenario and key in columns(table)), {})
            if name in row:
                points.append((size, us(found, row[name])))
        if len(points) > 1:
            rows.append((name, points))
    return rows


def memory(found: Run) -> list[tuple[str, float, float | None]]:
    """(name, MiB when it listens, KiB of an idle session with a stream), the largest first."""
    rows = []
    for name, start in found["start"].items():
        held = found["idle"].get(name)
        rows.append((name, start["rss_mib"], statistics.median(held) if held else None))
    return sorted(rows, key=lambda row: -row[1])


# ------------------------------------------------------------------ the same as text


def alternatives(found: Run) -> Iterator[tuple[str, str]]:
    """(chart, its text for a reader who does not see it)."""
    rows = [row for row in reversed(costs(found)) if row[0] in ROWS]
    said = "; ".join(f"{title(found, name)} {value:,.0f}" for name, value, *_ in rows)
    yield "chart", f"Bars of microseconds of server CPU for one call at 20 connections: {said}."
    lines = [
        f"{title(found, name)} " + ", ".join(f"{value:,.0f}" for _, value in points) for name, points in payloads(found)
    ]
    yield (
        "payloads",
        "Lines of microseconds of server CPU for a small call, 1 KiB, 64 KiB and 1 MiB there and back: "
        f"{'; '.join(lines)}.",
    )
    sizes = [
        f"{title(found, name)} {rss:.0f} MiB" + (f" and {each:.0f} KiB" if each is not None else "")
        for name, rss, each in reversed(memory(found))
        if name in ROWS
    ]
    yield "memory", f"Bars of memory when a server listens, and for an idle session with a stream: {'; '.join(sizes)}."


def grown(growth: Run | None) -> list[tuple[str, str, list[Run]]]:
    """(name, title, rows) of a run of growth.py: what a server costs with more and more idle sessions."""
    subjects = growth["subjects"] if growth else {}
    return [(name, one["title"], one["rows"]) for name, one in subjects.items() if len(one["rows"]) > 1]


def growth_alternative(growth: Run) -> str:
    said = [
        f"{title} at {row['sessions']:,} {row['idle_share']:.1%} of a core when idle, {row['call_us']:,.0f} µs a call "
        f"and {row['rss_mib']:,.0f} MiB"
        for _, title, rows in grown(growth)
        for row in rows[-1:]
    ]
    return f"Lines by the number of idle sessions with an open stream; the last points: {'; '.join(said)}."


# ------------------------------------------------------------------ where ours is not the first


def behind(found: Run) -> Iterator[tuple[str, str, float, str, float, str]]:
    """(scenario, peer, its figure, ours, our figure, unit) wherever a peer needs less than the best of ours."""
    table = cells(found)
    for key in columns(table):
        row = table[key]
        them, us_ = peers(row), own(row)
        if not them or not us_:
            continue
        first, best = min(them, key=lambda n: row[n].ratio), min(us_, key=lambda n: row[n].ratio)
        if row[first].ratio < row[best].ratio:
            yield key[0], first, us(found, row[first]), best, us(found, row[best]), "µs"
    for key, what, unit in (("start_ms", "start", "ms"), ("rss_mib", "memory at start", "MiB")):
        known = {name: start[key] for name, start in found["start"].items() if key in start}
        yield from lower(known, what, unit)
    yield from lower({n: statistics.median(values) for n, values in found["idle"].items()}, "idle session", "KiB")


def lower(known: Mapping[str, float], what: str, unit: str) -> Iterator[tuple[str, str, float, str, float, str]]:
    them, us_ = peers(known), own(known)
    if them and us_:
        first, best = min(them, key=known.__getitem__), min(us_, key=known.__getitem__)
        if known[first] < known[best]:
            yield what, first, known[first], best, known[best], unit
