# SPDX-License-Identifier: MIT
"""The metrics of several workers as one text, in Prometheus' format.

It reads the text that `runtime.metrics` writes, and not the format in general.

Rule: a counter never goes down.  Prometheus takes a lower value for a restart and counts it anew, so a sum over the
workers that live would show a burst of calls each time one of them dies.  So the last counts of a worker stay.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..runtime.metrics import sample_value

COUNTED = ("counter", "histogram")
# Of these gauges the largest tells more than the sum.
LARGEST = frozenset(
    (
        "mcp_h11_draining",
        "mcp_h11_fleet_sessions",
        "mcp_h11_fleet_workers",  # each worker sees all of them,
        "mcp_h11_loop_lag_seconds",
        "mcp_h11_store_away",
        "mcp_h11_store_bytes",  # and the same store
        "mcp_h11_uptime_seconds",
    )
)


class Family:
    """One metric: its two lines of heading, and its samples by their names and labels."""

    __slots__ = ("heading", "kind", "samples")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.heading: list[str] = []
        self.samples: dict[str, float] = {}

    def add(self, name: str, other: Family) -> None:
        """Add the samples of another worker to these."""
        self.heading = other.heading
        for key, value in other.samples.items():
            if name in LARGEST:
                self.samples[key] = max(value, self.samples.get(key, value))
            else:
                self.samples[key] = self.samples.get(key, 0) + value


def read_metrics(text: str) -> dict[str, Family]:
    """The families of a text by name, in their order."""
    families: dict[str, Family] = {}
    heading: list[str] = []
    family: Family | None = None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            heading = [line]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            family = families[name] = Family(kind)
            family.heading = [*heading, line]
        elif line and family is not None:
            key, _, value = line.rpartition(" ")
            family.samples[key] = float(value)
    return families


class Totals:
    """Adds up the workers; `keep` the last text of each that ends, and `render` with the texts of those that run."""

    def __init__(self) -> None:
        self._ended: dict[str, Family] = {}

    def keep(self, text: str) -> None:
        """Keep the counts of a worker that has ended."""
        for name, family in read_metrics(text).items():
            if family.kind in COUNTED:
                self._ended.setdefault(name, Family(family.kind)).add(name, family)

    def render(self, texts: Iterable[str], more: str = "") -> str:
        """The sum of these texts and of all that was kept, and behind it the lines of `more`."""
        families: dict[str, Family] = {}
        for found in (self._ended, *map(read_metrics, texts)):
            for name, family in found.items():
                families.setdefault(name, Family(family.kind)).add(name, family)
        lines: list[str] = []
        for family in families.values():
            lines += family.heading
            lines += [f"{key} {sample_value(value)}" for key, value in family.samples.items()]
        return "\n".join([*lines, more])
