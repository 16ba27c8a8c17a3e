# SPDX-License-Identifier: MIT
"""The metrics of a worker that shares a store: what it asked of the store, and what it sees of its fleet.

The names are those of OpenTelemetry's semantic conventions for databases where they have one (`db.operation.name`).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable

from ..protocol.shown import escaping
from .fleet import Fleet
from .metrics import heading, sample_value

logger = escaping(logging.getLogger(__name__))

MAX_STATISTICS = 30  # of a store; further ones are left out
_NAME = re.compile(r"[a-z][a-z_]{0,39}")
# Its seconds are those of waiting for letters, which say nothing of the store.
_WAITS = "take"


def store_metrics(fleet: Fleet) -> list[str]:
    """The lines of all metrics of a fleet, in the text format."""
    counters = sorted(fleet.guard.counters.items())
    asked = [(name, one.operations) for name, one in counters]
    failed = [(name, one.failures) for name, one in counters]
    took = [(name, one.seconds) for name, one in counters if name != _WAITS]
    wrote = [(name, one.written) for name, one in counters if one.written]
    kept = _statistics(fleet)
    events = [(name, value) for name, value in kept.items() if name != "bytes"]
    gauges: dict[str, tuple[str, float]] = {
        "mcp_h11_store_away": ("1 while the store fails.", int(not fleet.works)),
        "mcp_h11_fleet_sessions": ("Sessions of all workers, as this one counted them.", fleet.sessions),
        "mcp_h11_fleet_workers": ("Workers that are alive, as this one sees them.", fleet.alive),
    }
    if "bytes" in kept:
        gauges["mcp_h11_store_bytes"] = ("Bytes that the store takes.", kept["bytes"])
    lines: list[str] = []
    for what, text, values in (
        ("operations", "Operations that were asked of the store.", asked),
        ("failures", "Operations of the store that failed or took too long.", failed),
        ("seconds", "Seconds that operations took which did not fail.", took),
        ("written_bytes", "Bytes that the store was given to keep or to carry.", wrote),
    ):
        lines += _labelled(f"mcp_h11_store_{what}_total", text, "db_operation_name", values)
    lines += _labelled("mcp_h11_store_events_total", "What the store counts itself.", "event", events)
    name = "mcp_h11_fleet_letters_total"
    lines += [*heading(name, "counter", "Letters of other workers that were taken."), f"{name} {fleet.letters}"]
    for name, (text, value) in gauges.items():
        lines += [*heading(name, "gauge", text), f"{name} {sample_value(value)}"]
    return lines


def _statistics(fleet: Fleet) -> dict[str, float]:
    """The numbers of the store, as far as they can be shown: a user may have written it."""
    try:
        told = fleet.store.statistics()
        good = {name: float(told[name]) for name in sorted(told) if _NAME.fullmatch(name)}
    except Exception:
        logger.exception("the store does not tell its numbers")
        return {}
    return {name: value for name, value in [*good.items()][:MAX_STATISTICS] if math.isfinite(value)}


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> list[str]:
    lines = [f'{name}{{{label}="{key}"}} {sample_value(value)}' for key, value in values]
    return [*heading(name, "counter", text), *lines] if lines else []
