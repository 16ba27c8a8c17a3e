# SPDX-License-Identifier: MIT
"""The figures of runs, as lines for a person and as values for a program.

A text of the server (its name, an error) is escaped before it is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ...bench.measuring import Measured
from ..asking.printing import line, shortened

BAR = 32  # letters of the longest bar of a histogram
MAX_ROWS = 14  # of a histogram; the rest is one more
BUSY_MACHINE = 0.2  # of a core, used by other programs
MAX_KINDS = 12  # of errors that are shown
ENDED = {
    "errors": "ended at its limit of errors (--errors)",
    "connections": "ended at 4,000 connections: each leaves its port in use for a while",
    "operations": "ended at its number of requests (--requests)",
    "interrupted": "interrupted",
}
# The names of the ratios of a comparison, and the figure of each.
COMPARED = {"throughput": "throughput", "p50": "p50_us", "p99": "p99_us", "server CPU": "cpu_us"}


def time_in_words(microseconds: float) -> str:
    """With three digits: 850 us, 1.52 ms, 2.10 s."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            value = microseconds / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{microseconds:.0f} us"


def mebibytes(count: float) -> str:
    return f"{count / 2**20:.1f} MiB"


def lines_of(run: Measured) -> list[str]:
    """One run."""
    total = sum(run.errors.values())
    found = [
        f"  requests    {run.operations:,} in {run.seconds:.2f} s: {run.throughput:,.0f} a second",
        f"  errors      {total:,}" if total else "  errors      none",
        *_errors(run),
        f"  server      {_server(run)}",
        f"  generator   {run.generator_share:.0%} of a core{_others(run)}{_limited(run)}",
    ]
    if run.operations:
        found += [
            "  latency     " + ", ".join(f"{name} {time_in_words(us)}" for name, us in latencies(run).items()),
            "",
        ]
        found += histogram_lines(run.histogram)
    if run.ended:
        found += ["", f"  {ENDED[run.ended]}"]
    return found


def latencies(run: Measured) -> dict[str, float]:
    """Microseconds by the names of the percentiles."""
    return {
        "p50": run.p50_us, "p90": run.p90_us, "p95": run.p95_us, "p99": run.p99_us, "p99.9": run.p999_us,
        "max": run.max_us,
    }  # fmt: skip


def _errors(run: Measured) -> list[str]:
    shown = sorted(run.errors.items(), key=lambda item: -item[1])
    found = [f"    {count:>8,}  {line(kind)}: {shortened(run.examples.get(kind, ''), 160)}" for kind, count in shown]
    return found[:MAX_KINDS] + ([f"    and {len(found) - MAX_KINDS} kinds more"] if len(found) > MAX_KINDS else [])


def _server(run: Measured) -> str:
    if run.server_share is None:
        return "its CPU and memory are not known from here (--pid names its process)"
    each = "" if run.cpu_us is None else f"{run.cpu_us:,.1f} us of CPU a request, "
    memory = "" if run.rss is None else f", {mebibytes(run.rss)} of memory"
    return f"{each}{run.server_share:.0%} of a core{memory}"


def _others(run: Measured) -> str:
    """Of a busy machine, on which other figures are no good."""
    return f", other programs {run.others_share:.0%}" if (run.others_share or 0.0) > BUSY_MACHINE else ""


def _limited(run: Measured) -> str:
    return ": it was the limit, and not the server (--processes)" if run.limited else ""


def histogram_lines(rows: Sequence[tuple[float, int]]) -> list[str]:
    """A bar for each row; those far out are one."""
    shown, rest = list(rows[:MAX_ROWS]), rows[MAX_ROWS:]
    total = sum(count for _, count in rows)
    most = max((count for _, count in rows), default=1)
    named = [(f"to {time_in_words(end)}", count) for end, count in shown]
    if rest:
        named.append(("more", sum(count for _, count in rest)))
    found = []
    for name, count in named:
        bar = "#" * (round(count / most * BAR) or bool(count))
        found.append(f"  {name:>10} |{bar:<{BAR}}| {count / total:6.1%} {count:,}")
    return found


def table_of(runs: Sequence[Measured]) -> list[str]:
    """A row for each number of connections."""
    found = [f"  {'conc.':>6} {'a second':>10} {'p50':>9} {'p99':>9} {'p99.9':>9} {'CPU us':>9} {'errors':>7}"]
    for run in runs:
        cpu = "" if run.cpu_us is None else f"{run.cpu_us:.1f}"
        times = " ".join(f"{time_in_words(us):>9}" for us in (run.p50_us, run.p99_us, run.p999_us))
        found.append(f"  {run.concurrency:>6} {run.throughput:>10,.0f} {times} {cpu:>9} {sum(run.errors.values()):>7,}")
    return found


def value_of(run: Measured) -> dict[str, Any]:
    """One run for a program.  Times of requests are microseconds, memory is bytes, shares are of one core."""
    server = None
    if run.server_share is not None:
        server = {"cpu_us": run.cpu_us, "cores": run.server_share, "rss": run.rss}
    return {
        "concurrency": run.concurrency,
        "operations": run.operations,
        "seconds": run.seconds,
        "throughput": run.throughput,
        "latency_us": latencies(run),
        "histogram": [[end, count] for end, count in run.histogram],
        "errors": run.errors,
        "examples": run.examples,
        "ended": run.ended,
        "reconnects": run.reconnects,
        "answers": run.answers,
        "server": server,
        "generator": {"cores": run.generator_share, "limited": run.limited},
        "others_cores": run.others_share,
    }


def ratios_of(pairs: Sequence[tuple[Measured, Measured]]) -> dict[str, Any]:
    """B by A in each round: the median, the lowest, the highest and all of them."""
    found = {}
    for name, figure in COMPARED.items():
        values = [(getattr(one, figure), getattr(other, figure)) for one, other in pairs]
        if values and all(one and other for one, other in values):
            each = [other / one for one, other in values]
            found[name] = {
                "median": statistics.median(each), "lowest": min(each), "highest": max(each), "rounds": each,
            }  # fmt: skip
    return found


def ratio_lines(ratios: dict[str, Any]) -> list[str]:
    """One line for each ratio."""
    found = []
    for name, ratio in ratios.items():
        spread = f"{ratio['lowest']:.2f} to {ratio['highest']:.2f}"
        same = "  no difference that these rounds show" if ratio["lowest"] <= 1 <= ratio["highest"] else ""
        found.append(f"  {name:<12} {ratio['median']:>6.2f} x   ({spread}){same}")
    return found
