# SPDX-License-Identifier: MIT
"""Draws bench/results/chart.svg from bench/results/latest.json, with matplotlib: server CPU of one call."""

import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "mcp_h11", "svg.fonttype": "none", "font.family": "sans-serif"})

import matplotlib.pyplot as pyplot

HERE = Path(__file__).resolve().parent
OURS, FLOOR, OTHERS = "#1f6f8b", "#888888", "#c9a26b"


def bars(found):
    """(title, name, median, lowest, highest) of a call at concurrency 20, cheapest last."""
    rows = {}
    for run in found["runs"]:
        if run["scenario"] == "call" and run["concurrency"] == 20:
            rows.setdefault(run["subject"], []).append(run["cpu_us"])
    made = [
        (found["subjects"][name]["title"], name, statistics.median(values), min(values), max(values))
        for name, values in rows.items()
    ]
    return sorted(made, key=lambda row: -row[2])


def main():
    found = json.loads((HERE / "results" / "latest.json").read_text())
    rows = bars(found)
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(rows) + 1.2))
    colours = [FLOOR if row[1] in ("h11", "asyncio") else OURS if row[1].startswith("ours") else OTHERS for row in rows]
    medians = [row[2] for row in rows]
    errors = [[row[2] - row[3] for row in rows], [row[4] - row[2] for row in rows]]
    axes.barh([row[0] for row in rows], medians, color=colours, xerr=errors, error_kw={"lw": 1, "ecolor": "#444444"})
    for position, row in enumerate(rows):
        axes.annotate(f" {row[2]:,.0f}", (row[4], position), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=max(row[4] for row in rows) * 2)
    axes.set_xlabel(
        "microseconds of server CPU for one tools/call, 20 connections\n(logarithmic; thin lines: all rounds)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / "results" / "chart.svg", metadata={"Date": None, "Creator": None})


main()
