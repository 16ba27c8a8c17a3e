# SPDX-License-Identifier: MIT
"""Counters and histograms, and Prometheus' text format, written by hand.

Names follow the OpenTelemetry semantic conventions for MCP, as Prometheus spells them.  A metric that the conventions
do not define has a name that begins with `mcp_h11_`.

Rule: a text that a client chooses never makes a new label, or clients could fill the memory with labels.  The label
of an unknown method is `_OTHER`, as the conventions say.  The label of a tool is `_OTHER` until a call of the tool has
succeeded, since the client may have made the name up, and for every tool past `MAX_TOOLS`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from ..protocol.methods import MAX_TOOL_NAME, METHOD_LABELS

# OpenTelemetry semantic conventions for MCP, `mcp.server.operation.duration` and `mcp.server.session.duration`
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OTHER = "_OTHER"
MAX_SERIES = 400  # of method, tool and error; further errors are `_OTHER`, one for each method and tool
MAX_TOOLS = 100  # that have a label of their own
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts durations, in seconds, by the buckets that they fall into."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """The lines of its samples; `labels` is rendered already."""
        before = f"{labels}," if labels else ""
        count = 0
        for limit, here in zip((*map(sample_value, BUCKETS), "+Inf"), self.counts, strict=True):
            count += here
            yield f'{name}_bucket{{{before}le="{limit}"}} {count}'
        behind = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{behind} {sample_value(self.total)}"
        yield f"{name}_count{behind} {count}"


class Metrics:
    """The numbers that one server counts as it runs.  `render` is given the gauges, which need no counting."""

    def __init__(self) -> None:
        self.operations: dict[tuple[str, str, str], Histogram] = {}  # by method, tool, error
        self._tools: set[str] = set()
        self.sessions = Histogram()
        self.responses: Counter[int] = Counter()
        self.backends: dict[str, Metrics] = {}  # of a gateway: the calls and sessions of each, by the configured name
        # Bytes of the connections that have ended; each open connection counts its own.
        self.received = self.sent = 0

    def operation(self, method: str, error: str, seconds: float, tool: str = "") -> None:
        """Count a request or notification that was answered.

        `error` is the kind of error of the answer, or empty.  `tool` is the name of the tool that was called, or empty.
        """
        if method not in METHOD_LABELS:
            method = OTHER
        if method != "tools/call":
            tool = ""
        elif tool not in self._tools:
            tool = OTHER if error or not self._learned(tool) else tool
        histogram = self.operations.get((method, tool, error))
        if histogram is None:
            if error and len(self.operations) >= MAX_SERIES:
                error = OTHER
            histogram = self.operations.setdefault((method, tool, error), Histogram())
        histogram.observe(seconds)

    def _learned(self, tool: str) -> bool:
        if not 0 < len(tool) <= MAX_TOOL_NAME or len(self._tools) >= MAX_TOOLS:
            return False
        self._tools.add(tool)
        return True

    def render(
        self, gauges: Mapping[str, tuple[str, float]], received: int, sent: int, more: Iterable[str] = ()
    ) -> bytes:
        """All metrics in the text format.

        `gauges` has the help text and the value of each gauge by its name.  `received` and `sent` are the bytes of the
        connections that are open.  `more` is the lines of further metrics, such as `store_metrics`.
        """
        counted = [("", self), *self.backends.items()]
        lines: list[str] = []
        name = "mcp_server_operation_duration_seconds"
        lines += heading(name, "histogram", "From a request or notification to the end of its answer.")
        for backend, metrics in counted:
            for (method, tool, error), histogram in sorted(metrics.operations.items()):
                lines += histogram.lines(name, labels(mcp_method_name=method, gen_ai_tool_name=tool, error_type=error,
                                                      mcp_h11_backend=backend))  # fmt: skip
        name = "mcp_server_session_duration_seconds"
        lines += heading(name, "histogram", "From the opening of a session to its end.")
        for backend, metrics in counted:
            lines += metrics.sessions.lines(name, labels(mcp_h11_backend=backend))
        name = "mcp_h11_responses_total"
        lines += heading(name, "counter", "HTTP answers by their status; refusals are those from 400 on.")
        lines += [f'{name}{{http_response_status_code="{code}"}} {n}' for code, n in sorted(self.responses.items())]
        for name, count, text in (
            ("mcp_h11_received_bytes_total", self.received + received, "Bytes of HTTP that clients sent."),
            ("mcp_h11_sent_bytes_total", self.sent + sent, "Bytes of HTTP that were written to clients."),
        ):
            lines += [*heading(name, "counter", text), f"{name} {count}"]
        for name, (text, value) in gauges.items():
            lines += [*heading(name, "gauge", text), f"{name} {sample_value(value)}"]
        return "\n".join([*lines, *more, ""]).encode("utf-8")


def heading(name: str, kind: str, text: str) -> list[str]:
    """The two lines before the samples of a metric."""
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def sample_value(value: float) -> str:
    """A value as the text format has it."""
    return repr(int(value)) if value == int(value) else repr(value)


def labels(**values: str) -> str:
    """The labels of a sample, without those whose value is empty."""
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in values.items() if value)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
