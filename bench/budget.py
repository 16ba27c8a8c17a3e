# SPDX-License-Identifier: MIT
"""The budgets of budget.json, and which of them a run meets."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FLOOR = "plain h11 loop"

Row = tuple[str, str, str, bool]  # what, measured, budget, met


def read() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((Path(__file__).resolve().parent / "budget.json").read_text())
    return whole


def ratios(microseconds: Mapping[str, float]) -> dict[str, float]:
    """Of the figures of micro.py, each to the plain h11 loop among them."""
    return {name: value / microseconds[FLOOR] for name, value in microseconds.items()}


def over(measured: Mapping[str, float], budgets: Mapping[str, Any], slack: float) -> dict[str, tuple[float, float]]:
    """The ratios that are past their budget and its slack, with that limit.  A missing ratio is past every budget."""
    limits = {name: one["budget"] * (1 + slack) for name, one in budgets.items()}
    infinite = float("inf")
    return {n: (measured.get(n, infinite), limit) for n, limit in limits.items() if measured.get(n, infinite) > limit}


def lowest(attempts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Case by case the lowest ratio of several attempts: noise only ever adds."""
    return {name: min(one[name] for one in attempts) for name in attempts[0]}


# ------------------------------------------------------------------ of a run of compare.py


def rows(found: Mapping[str, Any]) -> Iterator[Row]:
    """Every budget that the run has a figure for."""
    budgets = read()
    yield from _load(found, budgets["load"])
    yield from _peers(found, budgets["peers"])
    yield from _sizes(found, budgets["sizes"])


def _runs(found: Mapping[str, Any], subject: str, scenario: str, concurrency: int) -> list[dict[str, Any]]:
    wanted = (subject, scenario, concurrency)
    return [run for run in found["runs"] if (run["subject"], run["scenario"], run["concurrency"]) == wanted]


def _load(found: Mapping[str, Any], budgets: Mapping[str, Any]) -> Iterator[Row]:
    for what, one in budgets.items():
        runs = _runs(found, one["subject"], one["scenario"], one["concurrency"])
        if runs:
            ratio = statistics.median(run["ratio"] for run in runs) / one.get("per", 1)
            limit = f"≤ {one['budget']:.2f} (aim {one['aim']:.2f})"
            yield f"{what}, x plain h11", f"{ratio:.3f}", limit, ratio <= one["budget"]


def _peers(found: Mapping[str, Any], peers: Mapping[str, Any]) -> Iterator[Row]:
    """How many times our CPU others need for a call, round by round, in the mode that they are judged in."""
    for name, one in peers.items():
        ours = {run["round"]: run["ratio"] for run in _runs(found, one["ours"], "call", 20)}
        theirs = [run for run in _runs(found, name, "call", 20) if run["round"] in ours]
        if theirs:
            times = statistics.median(run["ratio"] / ours[run["round"]] for run in theirs)
            yield (
                f"CPU of a call of {name}, x {one['ours']}",
                f"{times:.2f}",
                f"≥ {one['least']:g}",
                times >= one["least"],
            )


def _sizes(found: Mapping[str, Any], sizes: Mapping[str, float]) -> Iterator[Row]:
    start, idle = found["start"].get("ours", {}), found["idle"].get("ours")
    if idle:
        each = statistics.median(idle)
        yield "idle session with a stream, KiB", f"{each:.1f}", f"≤ {sizes['idle_kib']:g}", each <= sizes["idle_kib"]
    for key, what in (("start_ms", "start to listening, ms"), ("rss_mib", "RSS at start, MiB")):
        if key in start:
            yield what, f"{start[key]:.0f}", f"≤ {sizes[key]:g}", start[key] <= sizes[key]
    runs = _runs(found, "ours", "call", 100)
    if runs:
        limit = sizes["p99_over_p50_at_100"]
        tail = statistics.median(run["p99_us"] / run["p50_us"] for run in runs)
        yield "p99 / p50 at concurrency 100", f"{tail:.1f}", f"≤ {limit:g}", tail <= limit


# ------------------------------------------------------------------ of a run of clients.py or bridges.py


def ends(found: Mapping[str, Any], subject: str = "ours") -> Iterator[Row]:
    """CPU of a call of our client over that of its server, table by table: the median of the rounds."""
    limit = read()["ends"]["client over server"]
    for (table, concurrency), runs in _tables(found, subject).items():
        ratio = statistics.median(run["cpu_us"] / run["behind_us"] for run in runs)
        yield f"client over server, {table}, {concurrency} at a time", f"{ratio:.2f}", f"≤ {limit:g}", ratio <= limit


def both(found: Mapping[str, Any], parts: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
    """CPU of a call of our bridge over that of one client and one server alone: of the rounds that have all three.

    `parts` names these two, by the table that they stand in; their ratios are to the bridge of the moment before.
    """
    limit = read()["ends"]["bridge over both"]
    for table, (client, server) in parts.items():
        alone = [_tables(found, name) for name in (client, server)]
        for key in alone[0].keys() & alone[1].keys():
            rounds = [{run["round"]: run["ratio"] for run in one[key]} for one in alone]
            sums = [rounds[0][number] + rounds[1][number] for number in rounds[0].keys() & rounds[1].keys()]
            if key[0] == table and sums:
                ratio = statistics.median(1 / one for one in sums)
                yield f"bridge over both, {table}, {key[1]} at a time", f"{ratio:.2f}", f"≤ {limit:g}", ratio <= limit


def _tables(found: Mapping[str, Any], subject: str) -> dict[tuple[str, int], list[dict[str, Any]]]:
    grouped: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in found["runs"]:
        if run["subject"] == subject:
            grouped.setdefault((run["table"], run["concurrency"]), []).append(run)
    return grouped
