# SPDX-License-Identifier: MIT
"""`bench/side_by_side.py`: the interval of a median, verdicts, and rounds in which a server failed."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def found_with(**costs: list[float]) -> dict[str, Any]:
    names = {name.replace("_", "-"): values for name, values in costs.items()}
    return {
        "machine": {"date": "2026-01-01", "commit": "abc", "minutes": 1.0},
        "plan": {"rounds": 60, "duration": 0.1},
        "subjects": {name: {"title": f"T {name}", "version": "1"} for name in names},
        "rows": [{"scenario": "call", "concurrency": 20, "cpu_us": names}],
        "errors": [],
    }


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (10, 2, 9), (15, 4, 12), (20, 6, 15), (60, 22, 39), (100, 40, 61)],
)
def test_the_interval_is_that_of_the_tables_of_the_sign_test(bench: Any, count: int, low: int, high: int) -> None:
    values = [float(value) for value in range(1, count + 1)]
    random.Random(count).shuffle(values)
    assert bench("figures").interval(values) == (low, high)


def test_the_interval_misses_the_true_median_in_five_of_a_hundred_runs_at_most(bench: Any) -> None:
    interval, chance = bench("figures").interval, random.Random(7)
    misses = 0
    for _ in range(2_000):
        low, high = interval([chance.lognormvariate(0, 0.4) for _ in range(30)])
        misses += not low <= 1 <= high
    assert misses / 2_000 < 0.06


@pytest.mark.parametrize(("ours", "verdict"), [(60.0, "cheaper"), (140.0, "dearer"), (100.0, "not decided")])
def test_a_row_is_decided_where_its_interval_does_not_have_1_in_it(bench: Any, ours: float, verdict: str) -> None:
    shake = [0.9 + 0.01 * number for number in range(20)]
    figures = bench("figures")
    found = found_with(ours=[ours * one for one in shake], rmcp=[100.0] * 20, rmcp_stateless=[150.0] * 20)
    (row,) = figures.paired(found)
    assert (row.peer, row.verdict) == ("rmcp", verdict)
    assert row.low <= row.ratio <= row.high
    assert any(verdict in line for line in figures.side_by_side_text(found))


def test_a_machine_that_halves_its_speed_between_rounds_changes_no_ratio(bench: Any) -> None:
    speed = [1.0 if number % 3 else 2.0 for number in range(30)]
    found = found_with(ours=[80 * one for one in speed], rmcp=[100 * one for one in speed])
    (row,) = bench("figures").paired(found)
    assert (row.ratio, row.low, row.high) == (0.8, 0.8, 0.8)


def test_the_page_has_a_table_a_chart_and_the_number_of_each_verdict(bench: Any) -> None:
    beside = found_with(ours=[80.0] * 9, ours_speed=[50.0] * 9, rmcp=[100.0] * 9)
    lines = "\n".join(bench("report").side_by_side(beside)).splitlines()
    assert "| `call, 20` | rmcp (Rust SDK), SSE | 0.80 (0.80–0.80) | 0.50 (0.50–0.50) |" in lines
    assert "- mcp_h11, speed extra: cheaper in 1, not decided in 0, dearer in 0." in lines
    assert "T ours-speed call, 20 0.50 (0.50 to 0.50)" in bench("figures").side_by_side_alternative(beside)
    assert list(bench("report").side_by_side(None)) == []
    failed = list(bench("report").side_by_side({**beside, "errors": ["go, resume: 409"]}))
    assert failed[: len(lines)] == lines and failed[-2:] == ["- go, resume: 409", ""]


# --- a run ----------------------------------------------------------------------------------------------------------


def run_with(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: Sequence[tuple[str, int]], tmp_path: Path, *words: str
) -> Any:
    """Run the script with turns that are made up; the status, what it wrote, and the turns in their order."""
    turns: list[tuple[str, int]] = []

    def one(found: Any, servers: Any, plan: Any, subject: Any, name: str, count: int, number: int) -> Any:
        turns.append((subject.name, number))
        if (subject.name, number) in failing:
            found.errors.append(f"{subject.name}, {name} x{count}: it is gone")
            return None
        return SimpleNamespace(cpu_us=100.0 + number)

    def prepared(chosen: Any, found: Any, progress: Any) -> dict[str, str]:
        found.subjects = {one.name: {"title": one.title, "version": "1"} for one in chosen}
        return {one.name: sys.executable for one in chosen}

    monkeypatch.setattr(module.compare, "one", one)
    monkeypatch.setattr(module.compare, "prepared", prepared)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "side_by_side.json")
    status = module.main(["--only", "ours,rmcp", "--scenario", "sleep,resume", "--rounds", "4", "--write", *words])
    return status, json.loads((tmp_path / "side_by_side.json").read_text()), turns


def test_servers_take_turns_to_and_fro_and_a_scenario_without_a_peer_is_left_out(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, kept, turns = run_with(bench("side_by_side"), monkeypatch, [], tmp_path)
    assert status == 0
    assert [name for name, _ in turns] == ["ours", "rmcp", "rmcp", "ours"] * 2 + ["ours", "rmcp"]
    assert [number for _, number in turns] == [-1, -1, 0, 0, 1, 1, 2, 2, 3, 3]
    (row,) = kept["rows"]  # rmcp cannot resume
    assert row == {
        "scenario": "sleep",
        "concurrency": 20,
        "cpu_us": dict.fromkeys(("ours", "rmcp"), [100, 101, 102, 103]),
    }


def test_a_round_in_which_a_server_failed_counts_for_none_and_is_told(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, kept, _ = run_with(bench("side_by_side"), monkeypatch, [("rmcp", 1)], tmp_path)
    assert status == 1
    assert kept["rows"][0]["cpu_us"] == dict.fromkeys(("ours", "rmcp"), [100, 102, 103])
    assert kept["errors"] == ["rmcp, sleep x20: it is gone"]
    assert "FAILED: rmcp, sleep x20: it is gone" in capsys.readouterr().err


def test_a_server_that_fails_twice_has_no_figure_and_the_others_go_on(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, kept, turns = run_with(bench("side_by_side"), monkeypatch, [("rmcp", -1), ("rmcp", 1)], tmp_path)
    assert status == 1
    assert kept["rows"][0]["cpu_us"] == {"ours": [100, 101, 102, 103]}
    assert [number for name, number in turns if name == "rmcp"] == [-1, 0, 1]
    assert list(bench("figures").paired(kept)) == []
