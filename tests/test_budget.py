# SPDX-License-Identifier: MIT
"""What a call costs, piece by piece, stays within bench/budget.json: ratios to plain h11, without sockets.

Measured in a process of its own, because coverage and development mode slow our code and not h11's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"
ATTEMPTS = 3  # a busy machine only ever adds, so the lowest of a few counts
LIMIT = 60  # seconds for one attempt; it takes two
DISTORTING = ("PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC", "COVERAGE_PROCESS_START")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


budget = load("budget")


def measured(path: Path) -> dict[str, float]:
    """One attempt: the ratio of each case."""
    command = [sys.executable, str(BENCH / "micro.py"), "--rounds", "15", "--requests", "100", "--json", str(path)]
    env = {name: value for name, value in os.environ.items() if name not in DISTORTING}
    done = subprocess.run(command, env=env, timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = budget.ratios(json.loads(path.read_text()))
    return found


@pytest.mark.long
def test_every_piece_of_a_call_keeps_its_budget(tmp_path: Path) -> None:
    budgets = budget.read()
    attempts: list[dict[str, float]] = []
    over: dict[str, tuple[float, float]] = {}
    for number in range(ATTEMPTS):
        attempts.append(measured(tmp_path / f"{number}.json"))
        over = budget.over(budget.lowest(attempts), budgets["micro"], budgets["slack"])
        if not over:
            return
    told = [f"{name}: {ratio:.3f} x plain h11, the limit is {limit:.3f}" for name, (ratio, limit) in over.items()]
    raise AssertionError("; ".join(told))


def test_a_ratio_at_the_limit_passes_and_one_past_it_does_not() -> None:
    budgets = {"call": {"budget": 0.4}, "event": {"budget": 0.1}}
    assert budget.over({"call": 0.5, "event": 0.125}, budgets, 0.25) == {}
    assert budget.over({"call": 0.501, "event": 0.125}, budgets, 0.25) == {"call": (0.501, 0.5)}


def test_a_budget_without_a_figure_is_not_kept() -> None:
    assert set(budget.over({}, {"call": {"budget": 0.4}}, 0.25)) == {"call"}


def test_noise_in_one_attempt_does_not_count() -> None:
    assert budget.lowest([{"call": 0.3, "event": 0.9}, {"call": 0.8, "event": 0.1}]) == {"call": 0.3, "event": 0.1}


def test_ratios_are_to_the_plain_h11_loop_of_the_same_run() -> None:
    assert budget.ratios({"plain h11 loop": 50.0, "call": 20.0})["call"] == 0.4


def test_no_budget_is_easier_than_its_aim() -> None:
    budgets = budget.read()
    for one in [*budgets["micro"].values(), *budgets["load"].values()]:
        assert 0 < one["aim"] <= one["budget"]


def test_a_peer_is_judged_against_ours_in_the_same_mode() -> None:
    def run(subject: str, ratio: float, number: int = 0) -> dict[str, object]:
        return {"subject": subject, "scenario": "call", "concurrency": 20, "round": number, "ratio": ratio}

    runs = [run("ours", 0.4), run("ours-stateless", 0.5), run("ours-sse", 0.8), run("rmcp", 0.6), run("go-json", 4.0)]
    runs += [run("rmcp-stateless", 0.6), run("rmcp-stateless", 9.0, number=1)]  # a round that we have no figure of
    met = {what: (figure, ok) for what, figure, _, ok in budget.rows({"runs": runs, "start": {}, "idle": {}})}
    assert met["CPU of a call of go-json, x ours"] == ("10.00", True)
    assert met["CPU of a call of rmcp, x ours-sse"] == ("0.75", False)
    assert met["CPU of a call of rmcp-stateless, x ours-stateless"] == ("1.20", True)
    assert not any("mcp-json" in what for what in met)


def of(subject: str, table: str, number: int, **figures: float) -> dict[str, object]:
    return {"subject": subject, "table": table, "concurrency": 20, "round": number, **figures}


def test_our_client_is_judged_by_the_server_that_it_called_in_the_same_run() -> None:
    runs = [of("ours", "json", n, cpu_us=cpu, behind_us=30.0) for n, cpu in enumerate((60.0, 90.0, 900.0))]
    runs += [of("ours", "pipes", 0, cpu_us=91.0, behind_us=30.0), of("sdk", "json", 0, cpu_us=900.0, behind_us=30.0)]
    assert [(what, figure, met) for what, figure, _, met in budget.ends({"runs": runs})] == [
        ("client over server, json, 20 at a time", "3.00", True),
        ("client over server, pipes, 20 at a time", "3.03", False),
    ]


def test_our_bridge_is_judged_by_one_client_and_one_server_of_its_round() -> None:
    parts = {"http": ("client", "plain"), "stdio": ("client-stdio", "plain-stdio")}
    runs = [of("client", "http", 0, ratio=0.3), of("client", "http", 1, ratio=0.1), of("client", "http", 2, ratio=9.0)]
    runs += [of("plain", "http", 0, ratio=0.2), of("plain", "http", 1, ratio=0.4)]  # and no third round
    assert [row[1::2] for row in budget.both({"runs": runs}, parts)] == [("2.00", True)]
    runs += [of("client-stdio", "stdio", 0, ratio=0.2), of("plain-stdio", "stdio", 0, ratio=0.2)]
    assert [row[1::2] for row in budget.both({"runs": runs}, parts)] == [("2.00", True), ("2.50", False)]
