# SPDX-License-Identifier: MIT
"""`bench/bridges.py` and `bench/clients.py`: a quick run of ours alone, and a wrong answer, which ends the run.

The runs are marked `long`: they measure, and they install two packages the first time.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from provision import everything_required

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
LIMIT = 300  # seconds; an installation, or the wait for that of another test, comes before the first run
QUICK = ("--quick", "--duration", "1", "--only", "ours", "--strict")

linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

# Right at first, so that everybody connects; then 1 too much.
LYING = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from mcp_h11 import MCPServer, run, run_stdio
server = MCPServer("lying")
@server.tool(structured_output=False)
async def add(a: int, b: int) -> int:
    return a + b + (a > 105)
run_stdio(server) if "stdio" in sys.argv else run(server, port=int(sys.argv[1]))
"""


def bench(script: str, path: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Its status, what it said to stderr, and what it found."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, str(BENCH / script), *QUICK, "--json", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    if "cannot run here" in done.stderr and not everything_required():
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert path.exists(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(path.read_text())
    return done.returncode, done.stderr, found


def pages() -> list[bytes | None]:
    paths = [BENCH / name for name in ("bridges.md", "clients.md", "results/bridges.json", "results/clients.json")]
    return [path.read_bytes() if path.exists() else None for path in paths]


@pytest.mark.long
@linux
def test_our_bridge_alone_is_measured_apart_from_the_server_behind_it(tmp_path: Path) -> None:
    before = pages()
    status, told, found = bench("bridges.py", tmp_path / "found", "--only", "ours,ours-stdio", "--concurrency", "3")
    assert status == 0, told
    assert not found["errors"] and not found["missing"]
    runs = {run["table"]: run for run in found["runs"]}
    assert set(runs) == {"http", "stdio"}
    for run in runs.values():
        assert (run["concurrency"], run["ratio"], run["base"]) == (3, 1.0, True)
        assert run["operations"] >= 6 and run["cpu_us"] > 0 and run["p50_us"] <= run["p95_us"] <= run["p99_us"]
    # The least that answers costs less than what carries it; over HTTP it is not this bridge's child.
    assert 0 < runs["http"]["behind_us"] < runs["http"]["cpu_us"] and runs["stdio"]["behind_us"] is None
    assert all(one[0]["start_ms"] > 0 and one[0]["rss"] > 0 for one in found["start"].values())
    assert pages() == before


@pytest.mark.long
@linux
def test_our_client_alone_is_measured_over_http_and_on_pipes(tmp_path: Path) -> None:
    before = pages()
    status, told, found = bench("clients.py", tmp_path / "found", "--concurrency", "3")
    assert status == 0, told
    assert not found["errors"] and {run["table"] for run in found["runs"]} == {"json", "pipes"}
    for run in found["runs"]:
        assert run["operations"] >= 3 and run["cpu_us"] > 0 and run["behind_us"] > 0
    assert pages() == before


@pytest.mark.long
@linux
@pytest.mark.parametrize("table", ["http", "stdio"])
def test_a_wrong_answer_through_a_bridge_fails_the_run(tmp_path: Path, table: str) -> None:
    lying = tmp_path / "lying.py"
    lying.write_text(LYING)
    child = f"{sys.executable} {lying} 0 stdio"
    options = ("--table", table, "--concurrency", "1", "--child", child, "--server", str(lying))
    status, told, found = bench("bridges.py", tmp_path / "found", *options)
    assert status == 1 and not found["runs"]
    assert f"{table} x1: not the answer to" in told.split("FAILED: ")[1]


@pytest.mark.long
@linux
def test_a_wrong_answer_to_a_client_fails_the_run(tmp_path: Path) -> None:
    lying = tmp_path / "lying.py"
    lying.write_text(LYING)
    options = ("--table", "json", "--concurrency", "1", "--server", str(lying))
    status, told, found = bench("clients.py", tmp_path / "found", *options)
    assert status == 1 and not found["runs"]
    assert "json x1: not the answer to" in told.split("FAILED: ")[1]


# --- pairs and the page, with made-up figures ------------------------------------------------------------------------


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """bench/ends.py; its neighbours have names that nobody else may find afterwards."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module("ends")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(BENCH)):
            del sys.modules[name]


class Silent:
    def say(self, text: str) -> None: ...

    def show(self, text: str) -> None: ...


def found_in(ends: ModuleType, pairs: int = 5) -> Any:
    machine = {"load_before": 0.1, "date": "today", "commit": "abc", "minutes": 1.0, "cores": 2, "cpu": "a CPU",
               "system": "Linux", "python": "3", "node": ""}  # fmt: skip
    found = ends.Found("bridges", machine, {"pairs": pairs, "duration": 1.0}, "ours")
    found.subjects = {name: {"title": name.upper(), "version": f"{name} 1"} for name in ("ours", "one", "two")}
    return found


def figures(cpu: float, others: float = 0.0) -> dict[str, Any]:
    return {"cpu_us": cpu, "others_share": others, "throughput": 1000.0}


def test_each_is_a_ratio_to_the_run_of_ours_right_before_it_and_the_first_round_does_not_count(
    ends: ModuleType,
) -> None:
    found = found_in(ends, pairs=2)
    asked: list[str] = []
    costs = iter([900, 900, 900, 900, 10, 20, 20, 60, 30, 120, 40, 200])

    def run(name: str, concurrency: int) -> dict[str, Any]:
        asked.append(name)
        return figures(next(costs))

    ends.paired(found, "http", 20, ["ours", "one", "two"], run, Silent())
    assert asked == ["ours", "one", "ours", "two"] * 3
    ratios = {name: [one["ratio"] for one in found.runs if one["subject"] == name] for name in ("ours", "one", "two")}
    assert ratios == {"ours": [1, 1, 1, 1], "one": [2, 4], "two": [3, 5]}
    page = ends.page(found, "Title", "Words.", [("a second", "throughput", ",.0f")], {"http": "Over HTTP"}, "RSS")
    assert "### Over HTTP, 20 at a time" in page
    assert "| OURS | 25.0 | **1.00** | – | 1,000 |\n| ONE | 70.0 | **3.00** | 2.00–4.00 | 1,000 |\n" in page


def test_who_answers_wrongly_has_no_figure_from_then_on_and_is_an_error(ends: ModuleType) -> None:
    found = found_in(ends)
    asked: list[str] = []
    wrong = sys.modules["mcp_h11.bench.talk"].Wrong

    def run(name: str, concurrency: int) -> dict[str, Any]:
        asked.append(name)
        if name == "one":
            raise wrong("5 is not 4")
        return figures(10)

    ends.paired(found, "http", 1, ["ours", "one", "two"], run, Silent())
    assert asked.count("one") == 1 and asked.count("two") == 6
    assert found.errors == ["ONE, http x1: 5 is not 4"]
    assert "**Error:** ONE, http x1: 5 is not 4" in ends.page(found, "", "", [], {"http": ""}, "")


@pytest.mark.parametrize(
    ("costs", "others", "verdict"),
    [
        ([10.0] * 5, 0.10, "quiet"),
        ([10.0] * 5, 0.11, "NOISY"),
        ([10.0, 10.0, 10.0, 11.4], 0.0, "quiet"),
        ([10.0, 10.0, 10.0, 11.6], 0.0, "NOISY"),
    ],
)
def test_a_page_says_when_the_machine_was_noisy(
    ends: ModuleType, costs: list[float], others: float, verdict: str
) -> None:
    found = found_in(ends)
    for cost in costs:
        found.runs.append({**figures(cost, others), "table": "http", "concurrency": 1, "subject": "ours", "base": True})
    assert f"The machine was {verdict}" in ends.noise(found)
