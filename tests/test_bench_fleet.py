# SPDX-License-Identifier: MIT
"""`bench/fleet.py` and `bench/fleet_soak.py` run for a short time on SQLite, and the soak notices faults."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
LIMIT = 240  # seconds; a run takes twenty

linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def bench(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, str(BENCH / script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)


def page() -> bytes | None:
    path = BENCH / "fleet.md"
    return path.read_bytes() if path.exists() else None


@pytest.mark.long
@linux
def test_a_short_look_at_a_fleet_on_sqlite_has_all_its_figures(tmp_path: Path) -> None:
    before = page()
    found = tmp_path / "found"
    only = "none,sqlite,workers-1,workers-2,three-sqlite"
    tables = "call,stream,session,workers,three,latency,sizes,operations"
    options = ("--only", only, "--table", tables, "--sessions", "20", "--stamps", "10")
    done = bench("fleet.py", "--quick", "--duration", "0.1", "--json", str(found), *options)
    assert done.returncode == 0, done.stderr[-2000:]
    figures: dict[str, Any] = json.loads(found.read_text())
    assert {(run["table"], run["subject"]) for run in figures["runs"]} == {
        *((table, name) for table in ("call", "stream", "session") for name in ("none", "sqlite")),
        ("workers", "workers-1"), ("workers", "workers-2"), ("three", "none"), ("three", "three-sqlite"),
    }  # fmt: skip
    assert all(run["cpu_us"] > 0 and run["ratio"] > 0 for run in figures["runs"])
    assert figures["start"]["latency two-sqlite"][0]["count"] == 7  # the first three of ten are not counted
    assert figures["start"]["size sqlite"][0]["record"] > 100
    for line in ("| a JSON call at the same worker | 0 | – |", "| SQLite, resumed at another worker |"):
        assert line in done.stdout
    assert page() == before


@pytest.mark.long
@linux
def test_a_short_soak_of_three_workers_on_sqlite_ends_with_a_verdict() -> None:
    done = bench("fleet_soak.py", "--store", "sqlite", "--minutes", "0.2", "--rate", "3", "--rest", "0")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.endswith("nothing wrong\n")
    assert "'streams': " in done.stdout and "workers killed" in done.stdout


# --- what the soak counts as wrong -----------------------------------------------------------------------------------


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """bench/fleet_soak.py."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("fleet_soak")
    sys.modules.pop("fleet_soak", None)


def event(id: str | None, message: Any) -> Any:
    return SimpleNamespace(id=id, data="{}" if message else "", json=lambda: message)


def step(number: int, label: str = "mine") -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"data": [label, number]}}


ANSWER = {"id": "mine", "result": {}}


def test_events_in_order_and_a_repeat_of_one_without_an_id_are_right(soak: ModuleType) -> None:
    taken = soak.Taken("mine", 3)
    given = [("s.0", None), ("s.1", step(0)), (None, step(1)), ("s.1", None), ("s.2", step(1)), ("s.3", step(2))]
    for id, message in [*given, ("s.4", ANSWER)]:
        taken.event(event(id, message))
    assert (taken.last, len(taken.numbers), taken.repeated, taken.end) == ("s.4", 3, 1, ANSWER)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([("s.1", step(0)), ("s.1", step(0))], "event s.1 came twice"),
        ([("s.1", step(0)), ("s.2", step(0))], "number 0 came twice"),
        ([("s.1", step(0)), ("s.3", step(2))], "number 2 where 1 is due"),
        ([("s.1", step(0, "other"))], "an event of another call"),
        ([("s.1", ANSWER), ("s.2", ANSWER)], "two answers to one call"),
    ],
)
def test_lost_double_and_foreign_events_are_wrong(soak: ModuleType, given: list[Any], reason: str) -> None:
    taken = soak.Taken("mine", 3)
    with pytest.raises(soak.Wrong, match=reason):
        for id, message in given:
            taken.event(event(id, message))


def test_memory_that_grows_after_the_warm_up_is_wrong(soak: ModuleType) -> None:
    mib = 2**20
    flat = [{"rss": (30 + (n < 10) * -5 + n % 2) * mib} for n in range(60)]
    assert soak.growth(flat) == []
    assert soak.growth([{"rss": (30 + n / 4) * mib} for n in range(60)]) == ["memory grew by 5.2 MiB"]
    assert soak.growth(flat[:20]) == []  # too short to judge
