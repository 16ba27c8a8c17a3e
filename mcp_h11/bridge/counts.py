# SPDX-License-Identifier: MIT
"""The metrics of backends: whether each is there, its sessions and calls, and how often it was started again.

Rule: the label `mcp_h11_backend` is the name that the configuration gives, and never a name that the backend says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..runtime.metrics import heading, labels
from .backends import Tally


@dataclass(frozen=True)
class BackendCounts:
    """The numbers of one backend at this moment.

    Attributes:
        up: it can be asked now.
        calls: the calls that run on it, with those on backends that it replaced.
        tally: the counters of its whole life.
        sessions: the open sessions of clients; None where only the server as a whole counts them.
    """

    up: bool
    calls: int
    tally: Tally
    sessions: int | None = None


def backend_metrics(backends: Mapping[str, BackendCounts]) -> list[str]:
    """The lines of these backends, by their names, in the text format."""
    each = sorted(backends.items())
    known = [(name, one.sessions) for name, one in each if one.sessions is not None]
    lines: list[str] = []
    for what, kind, text, values in (
        ("up", "gauge", "1 while the backend can be asked.", [(name, int(one.up)) for name, one in each]),
        ("sessions", "gauge", "Open sessions at the backend's address.", known),
        ("calls_running", "gauge", "Calls that run on the backend.", [(name, one.calls) for name, one in each]),
        ("restarts_total", "counter", "Starts and connections after the backend had ended, with those that failed.",
         [(name, one.tally.restarts) for name, one in each]),
        ("swaps_total", "counter", "Times that another backend took its place.",
         [(name, one.tally.swaps) for name, one in each]),
        ("failed_swaps_total", "counter", "Times that the new backend did not start, and the old one went on.",
         [(name, one.tally.failed_swaps) for name, one in each]),
    ):  # fmt: skip
        name = f"mcp_h11_backend_{what}"
        samples = [f"{name}{{{labels(mcp_h11_backend=backend)}}} {value}" for backend, value in values]
        lines += [*heading(name, kind, text), *samples] if samples else []
    return lines
