# SPDX-License-Identifier: MIT
"""Draws the charts of bench/README.md into bench/results, with matplotlib: one for each question.

    python bench/chart.py       the cost of a call, payloads, memory, growth; from the JSON files in results

The same figures give the same bytes: no date, no ids by chance.  Each file has a title and the figures as text.
"""

import sys

import figures
import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "mcp_h11", "svg.fonttype": "none", "font.family": "sans-serif"})

import matplotlib.pyplot as pyplot

OURS, FLOOR, OTHERS, INK = "#1f6f8b", "#888888", "#c9a26b", "#444444"
LINES = {
    "ours-speed": "#0b4f6c", "ours": "#2a9bc1", "ours-orjson": "#e07a5f", "rmcp-stateless": "#b7410e",
    "go-json": "#6a994e", "zeromcp": "#8e7cc3", "ts-sdk-json": "#c9a227", "mcp-json": "#7f7f7f",
}  # fmt: skip


def colour(name):
    return FLOOR if name in figures.FLOORS else OURS if name.startswith(figures.OURS) else OTHERS


def save(figure, name, title, text):
    figure.tight_layout()
    about = {"Date": None, "Creator": None, "Title": title, "Description": text}
    figure.savefig(figures.RESULTS / f"{name}.svg", metadata=about)
    pyplot.close(figure)


def bare(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def cost(found, text):
    rows = [row for row in figures.costs(found) if row[0] in figures.ROWS]
    figure, axes = pyplot.subplots(figsize=(9, 0.34 * len(rows) + 1.4))
    values = [row[1] for row in rows]
    reach = [[max(0, row[1] - row[2]) for row in rows], [max(0, row[3] - row[1]) for row in rows]]
    names = [figures.title(found, row[0]) for row in rows]
    lines = {"lw": 1, "ecolor": INK}
    axes.barh(names, values, color=[colour(row[0]) for row in rows], xerr=reach, error_kw=lines)
    marked = [(row[4], position) for position, row in enumerate(rows) if row[4] is not None]
    if marked:
        axes.plot(*zip(*marked, strict=True), "d", color="#111111", markersize=4, label="behind a proxy: each head new")
        axes.legend(loc="lower right", frameon=False, fontsize=8)
    for position, row in enumerate(rows):
        end = max(row[3], row[4] or 0)
        said = f"   {row[1]:,.0f}" + ("" if row[4] is None else f", {row[4]:,.0f}")
        axes.annotate(said, (end, position), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(left=min(values) / 2, right=max(max(row[3], row[4] or 0) for row in rows) * 3)
    axes.set_xlabel(
        "microseconds of server CPU for one call, 20 connections (logarithmic)\n"
        "blue: this library; grey: a loop that checks nothing; thin lines: all rounds"
    )
    bare(axes)
    save(figure, "chart", "Server CPU of one call", text)


def payloads(found, text):
    figure, axes = pyplot.subplots(figsize=(9, 4.6))
    for name, points in figures.payloads(found):
        sizes, values = zip(*points, strict=True)
        width = 2.4 if name.startswith(figures.OURS) else 1.4
        axes.plot(sizes, values, "o-", color=LINES[name], lw=width, ms=4, label=figures.title(found, name))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = [size for _, size in figures.PAYLOADS]
    axes.set_xticks(sizes, ["a small call", "1 KiB", "64 KiB", "1 MiB"], minor=False)
    axes.set_ylabel("microseconds of server CPU\n(logarithmic)")
    axes.set_xlabel("there and back")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "payloads", "Server CPU of a call by the size of its payload", text)


def memory(found, text):
    rows = figures.memory(found)
    names = [figures.title(found, row[0]) for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 0.3 * len(rows) + 1.2), sharey=True)
    parts = ((left, [row[1] for row in rows], "MiB when it listens"),
             (right, [row[2] or 0 for row in rows], "KiB for an idle session with an open stream"))  # fmt: skip
    for axes, values, label in parts:
        axes.barh(names, values, color=[colour(row[0]) for row in rows])
        for position, value in enumerate(values):
            axes.annotate(f" {value:,.0f}" if value >= 10 else f" {value:.1f}" if value else " –", (value, position),
                          va="center", fontsize=8)  # fmt: skip
        axes.set_xlabel(label)
        axes.set_xlim(right=max([*values, 1]) * 1.15)
        bare(axes)
    save(figure, "memory", "Memory of a server and of a session", text)


def growth(found, text):
    figure, panels = pyplot.subplots(1, 3, figsize=(9, 3.6))
    parts = (("idle_share", 100, "% of a core when idle"), ("call_us", 1, "µs of CPU for a call beside them"),
             ("rss_mib", 1, "MiB of memory"))  # fmt: skip
    for axes, (key, factor, label) in zip(panels, parts, strict=True):
        for place, (name, title, rows) in enumerate(figures.grown(found)):
            colours = dict(LINES, rmcp=LINES["rmcp-stateless"])
            width = 2.4 if name.startswith(figures.OURS) else 1.4
            points = [max(row["sessions"], 1) for row in rows], [row[key] * factor for row in rows]
            axes.plot(*points, "o-", color=colours.get(name, f"C{place}"), lw=width, ms=4, label=title)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("idle sessions (logarithmic)", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    save(figure, "growth", "Cost of idle sessions", text)


def side_by_side(found, text):
    rows = list(figures.paired(found))
    keys = list(dict.fromkeys((row.name, row.peer) for row in rows))[::-1]
    labels = [name if peer.startswith("rmcp") else f"{name} (beside Go)" for name, peer in keys]
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(keys) + 1.4))
    shifts = {"ours-speed": 0.2, "ours-orjson": 0, "ours": -0.2}
    for name, shift in shifts.items():
        those = [(keys.index((row.name, row.peer)) + shift, row) for row in rows if row.ours == name]
        places = [place for place, _ in those]
        values = [row.ratio for _, row in those]
        reach = [[row.ratio - row.low for _, row in those], [row.high - row.ratio for _, row in those]]
        axes.errorbar(values, places, xerr=reach, fmt="o", ms=4, lw=1.4, color=LINES[name],
                      label=figures.title(found, name))  # fmt: skip
    axes.axvline(1, color=INK, lw=0.8)
    axes.set_yticks(range(len(keys)), labels)
    axes.set_xlim(left=0)
    axes.set_xlabel("our CPU over that of the peer: left of 1, ours is cheaper")
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    save(figure, "side_by_side", "Server CPU of ours over that of the cheapest peer", text)


DRAWN = {"chart": cost, "payloads": payloads, "memory": memory}


def main():
    found = figures.read("latest")
    texts = dict(figures.alternatives(found))
    for name, draw in DRAWN.items():
        if name in texts:
            draw(found, texts[name])
    grown = figures.read("growth")
    if figures.grown(grown):
        growth(grown, figures.growth_alternative(grown))
    beside = figures.read("side_by_side")
    if beside and beside["rows"]:
        side_by_side(beside, figures.side_by_side_alternative(beside))
    print("drawn", file=sys.stderr)


if __name__ == "__main__":
    main()
