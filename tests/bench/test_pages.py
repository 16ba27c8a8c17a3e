# SPDX-License-Identifier: MIT
"""The pages of `bench/compare.py`: their figures, how noise is judged, and a run that goes on after errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
SUBJECTS = BENCH / "subjects"
linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


def run_of(subject: str, scenario: str, ratio: float, concurrency: int = 20, number: int = 0) -> dict[str, Any]:
    return {
        "subject": subject, "scenario": scenario, "concurrency": concurrency, "round": number, "ratio": ratio,
        "floor_us": 100.0, "cpu_us": 100 * ratio, "throughput": 1e4, "p50_us": 10.0, "p95_us": 20.0, "p99_us": 30.0,
        "generator_share": 0.5, "others_share": 0.0, "answers": "json",
    }  # fmt: skip


def found_with(*runs: dict[str, Any], floors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    names = {run["subject"] for run in runs}
    machine = {"date": "2026-01-01", "commit": "abc", "minutes": 1.0, "cores": 2, "cpu": "a CPU", "system": "Linux 6",
               "python": "3.11", "node": "", "go": "", "rust": ""}  # fmt: skip
    return {
        "machine": machine, "plan": {"pairs": 1, "duration": 0.5}, "runs": list(runs), "floors": floors or [],
        "subjects": {name: {"title": f"T {name}", "version": "1"} for name in names}, "missing": {}, "left_out": {},
        "idle": {"ours": [5.0]}, "start": {"ours": {"start_ms": 90.0, "rss_mib": 24.0}}, "errors": [],
    }  # fmt: skip


def floors_of(scenario: str, values: list[float]) -> list[dict[str, Any]]:
    return [{"scenario": scenario, "concurrency": 20, "cpu_us": value, "others": 0.0} for value in values]


def test_the_page_names_each_scenario_where_a_peer_needs_less_than_the_cheapest_of_ours(bench: Any) -> None:
    found = found_with(
        run_of("ours", "call", 0.3), run_of("ours-speed", "call", 0.2), run_of("rmcp-stateless", "call", 0.25),
        run_of("ours", "echo-1m", 9.0, 4), run_of("ours-speed", "echo-1m", 8.0, 4),
        run_of("rmcp-stateless", "echo-1m", 4.0, 4), run_of("asyncio", "call", 0.1),
    )  # fmt: skip
    text = bench("report").first(found)
    named = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(named) == 1 and named[0].startswith("- `echo-1m`, 1 MiB there and back: rmcp (Rust SDK)")
    assert "400 µs" in named[0] and "mcp_h11, speed extra 800 µs, 2.00 times" in named[0]
    cheapest = [line for line in text.splitlines() if line.startswith("| mcp_h11, speed extra |")]
    assert cheapest == ["| mcp_h11, speed extra | **20** | 800 | – | – |"]
    assert (
        text.startswith("![Bars of") and "rmcp (Rust SDK)" not in text.split("](results/chart.svg)")[0].split(": ")[0]
    )


def test_a_run_in_which_ours_is_cheapest_everywhere_says_so(bench: Any) -> None:
    found = found_with(run_of("ours", "call", 0.3), run_of("rmcp-stateless", "call", 0.4))
    assert "in none of the scenarios" in bench("report").first(found)


def test_every_error_is_on_both_pages(bench: Any) -> None:
    found = {**found_with(run_of("ours", "call", 0.3)), "errors": ["go, call x20: it is gone"]}
    report = bench("report")
    assert "- go, call x20: it is gone" in report.first(found)
    assert "- go, call x20: it is gone" in report.scenarios(found)


def test_the_cpu_of_a_store_stands_apart_from_that_of_its_server(bench: Any) -> None:
    found = found_with({**run_of("ours-redis", "call", 0.3), "beside_us": 12.34}, run_of("ours", "call", 0.2))
    rows = [line for line in bench("report").scenarios(found).splitlines() if line.startswith("| mcp_h11")]
    assert any(line.startswith("| mcp_h11, sessions in Redis (and 12.3 µs of its store's) | 30.0 |") for line in rows)
    assert any(line.startswith("| mcp_h11 | 20.0 | **0.20** | 0.20–0.20 | 1 |") for line in rows)


@pytest.mark.long
def test_charts_of_the_same_figures_are_the_same_bytes_and_have_a_title(tmp_path: Path) -> None:
    made = sorted((BENCH.parent / ".cache" / "bench").glob("py*-chart/complete"))
    if not made:
        pytest.skip("no interpreter with matplotlib: bench/report.py makes one")
    shutil.copytree(BENCH, tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    drawn = []
    for seed in ("1", "2"):
        program = [str(made[-1].parent / "bin" / "python"), str(tmp_path / "bench" / "chart.py")]
        subprocess.run(program, check=True, timeout=200, env={**os.environ, "PYTHONHASHSEED": seed})
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / "bench" / "results").glob("*.svg")})
    assert drawn[0] == drawn[1] and {"chart.svg", "payloads.svg", "memory.svg"} <= drawn[0].keys()
    assert all(b"<title>" in data and b"<dc:description>" in data for data in drawn[0].values())


def test_pages_are_written_between_their_markers(bench: Any, tmp_path: Path) -> None:
    report = bench("report")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put(page, "new\n")
    report.put(page, "newer\n")
    assert page.read_text() == f"before\n{report.BEGIN}\nnewer\n{report.END}\nafter\n"


def test_growth_is_shown_where_it_was_measured(bench: Any) -> None:
    row = {"sessions": 1, "idle_share": 0.001, "call_us": 30.4, "longest_ms": 1.26, "rss_mib": 24.0}
    rows = [row, {**row, "sessions": 10_000, "idle_share": 0.0071, "rss_mib": 64.0, "pause_ms": 0.62}]
    subjects = {"ours": {"title": "mcp_h11", "rows": rows}, "go-json": {"title": "Go SDK", "rows": [], "error": "no"}}
    grown = {"machine": {"date": "2026-01-01", "commit": "abc"}, "subjects": subjects}
    report, found = bench("report"), found_with(run_of("ours", "call", 0.3))
    text = report.first(found, grown)
    assert "| 10,000 | mcp_h11 | 0.71% | 30 | 1.3 | 0.6 | 64 |" in text and "Go SDK" not in text
    assert "| 1 | mcp_h11 | 0.10% | 30 | 1.3 | – | 24 |" in text  # of a run before pauses were measured
    assert "mcp_h11 at 10,000 0.7% of a core when idle, 30 µs a call and 64 MiB" in text
    assert "Growth" not in report.first(found, None)


# --- noise ----------------------------------------------------------------------------------------------------------


def test_a_slow_scenario_and_a_drift_leave_a_run_quiet_and_are_named(bench: Any) -> None:
    floors = [
        *floors_of("call", [100, 102, 101, 99, 100, 101]),
        *floors_of("list", [120, 121, 119, 120, 122, 120]),
        *floors_of("stream", [140, 141, 139, 140, 142, 140]),
        *floors_of("sleep", [140, 240, 130, 180, 250, 140]),
    ]
    noisy, text = bench("figures").noise(found_with(run_of("ours", "call", 0.3), floors=floors))
    assert not noisy and "quiet" in text and "`sleep` at 20 connections" in text


def test_a_loop_that_varies_within_most_scenarios_makes_a_run_noisy(bench: Any) -> None:
    floors = [line for name in ("call", "list", "stream") for line in floors_of(name, [100, 130, 90, 125, 100, 140])]
    noisy, text = bench("figures").noise(found_with(run_of("ours", "call", 0.3), floors=floors))
    assert noisy and "NOISY" in text


def test_others_on_the_machine_make_a_run_noisy(bench: Any) -> None:
    busy = {**run_of("ours", "call", 0.3), "others_share": 0.2}
    assert bench("figures").noise(found_with(busy, floors=floors_of("call", [100] * 6)))[0]


# --- a run ----------------------------------------------------------------------------------------------------------


class Answering:
    """Stands for `measure`, and for the servers: a subject has the CPU that is written here, or fails."""

    def __init__(self, compare: ModuleType, costs: dict[str, Any]) -> None:
        self.compare = compare
        self.costs = costs
        self.turns: dict[str, int] = {}
        self.dropped: list[str] = []

    def of(self, subject: Any, scenario: str) -> Any:
        return type("Up", (), {"port": 1, "group": subject.name})()

    def drop(self, subject: Any, scenario: str) -> None:
        self.dropped.append(subject.name)

    def measure(self, load: Any, name: str, beside: Any = None) -> Any:
        self.turns[name] = self.turns.get(name, 0) + 1
        cost = self.costs[name]
        if callable(cost):
            cost = cost(self.turns[name])
        if isinstance(cost, Exception):
            raise cost
        return self.compare.Measured(
            load.scenario.name,
            "legacy",
            load.concurrency,
            100,
            1.0,
            cost,
            1e4,
            1.0,
            2.0,
            3.0,
            0.1,
            0.5,
            0.0,
            1,
            "json",
            0,
        )


def turns_of(bench: Any, monkeypatch: pytest.MonkeyPatch, costs: dict[str, Any], minutes: float = 99) -> Any:
    """A scenario with these subjects at one concurrency: what was found, and the servers."""
    compare = bench("compare")
    servers = Answering(compare, {"h11": 100.0, **costs})
    monkeypatch.setattr(compare, "measure", servers.measure)
    plan = compare.Plan(5, 0.5, 0.1, (20,), minutes)
    found = compare.Found({}, {"scenarios": ["list"]})
    chosen = [compare.subjects.SUBJECTS[name] for name in costs if name != "h11"]
    compare.turns(found, servers, plan, chosen, "list", compare.Progress())
    return found, servers


def counts(found: Any) -> dict[str, int]:
    return {name: sum(run["subject"] == name for run in found.runs) for name in {run["subject"] for run in found.runs}}


@linux
def test_a_peer_far_from_ours_has_three_rounds_and_rmcp_all(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"ours": 30.0, "mcp-json": 310.0, "zeromcp": 290.0, "rmcp": 900.0}
    found, servers = turns_of(bench, monkeypatch, costs)
    assert counts(found) == {"ours": 5, "mcp-json": 3, "zeromcp": 5, "rmcp": 5}
    assert servers.turns["ours"] == 6  # and one to warm up
    assert found.errors == [] and {floor["scenario"] for floor in found.floors} == {"list"}


@linux
def test_a_run_that_is_late_gives_peers_three_rounds(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = turns_of(bench, monkeypatch, {"ours": 30.0, "zeromcp": 40.0, "go-json": 40.0}, minutes=0.01)
    assert counts(found) == {"ours": 5, "zeromcp": 3, "go-json": 5}


@linux
def test_a_figure_is_a_ratio_to_the_turns_of_the_loop_before_and_after(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = turns_of(bench, monkeypatch, {"ours": 30.0, "h11": lambda turn: 100.0 if turn % 2 else 200.0})
    assert {run["ratio"] for run in found.runs if run["subject"] == "ours"} == {30 / 150}


@linux
@pytest.mark.parametrize("error", [KeyError("result"), ValueError("no number"), OSError("gone")])
def test_a_subject_that_fails_twice_ends_and_the_others_go_on(
    error: Exception, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, servers = turns_of(bench, monkeypatch, {"ours": 30.0, "go-json": error, "zeromcp": 40.0})
    assert counts(found) == {"ours": 5, "zeromcp": 5}
    assert servers.turns["go-json"] == 2 and servers.dropped == ["go-json", "go-json"]
    assert len(found.errors) == 2 and all(line.startswith("go-json, list x20: ") for line in found.errors)


@linux
def test_a_subject_that_fails_once_gets_a_new_server(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(turn: int) -> Any:
        return ValueError("once") if turn == 3 else 40.0

    found, servers = turns_of(bench, monkeypatch, {"ours": 30.0, "zeromcp": once})
    assert counts(found) == {"ours": 5, "zeromcp": 4} and servers.dropped == ["zeromcp"]


@linux
@pytest.mark.parametrize(("error", "kept"), [("ours-sse, call x20: no", False), ("h11, call x20: no", False),
                                             ("rmcp, call x20: no", True), ("ours-granian, call x20: no", True),
                                             (None, True)])  # fmt: skip
def test_an_error_of_ours_leaves_the_pages_as_they_were(
    error: str | None, kept: bool, bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compare = bench("compare")
    written: list[Any] = []
    monkeypatch.setattr(compare, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(compare.subjects, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(compare.report, "write", lambda found, folder: written.append(found))
    found = {**found_with(run_of("ours", "call", 0.3)), "errors": [error] if error else []}
    options = type("Options", (), {"write": False, "strict": False})()
    assert compare.finish(found, options, whole=True) == (1 if error else 0)
    assert (tmp_path / "results" / "latest.json").exists() is kept and bool(written) is kept


# --- what is pinned -------------------------------------------------------------------------------------------------


def test_no_lock_file_names_a_registry() -> None:
    for path in SUBJECTS.rglob("package-lock.json"):
        assert '"resolved"' not in path.read_text("utf-8"), path
    for path in (*SUBJECTS.rglob("*.txt"), *SUBJECTS.rglob("go.sum")):
        assert "://" not in path.read_text("utf-8"), path
    assert not [*SUBJECTS.rglob("Cargo.lock")]


def test_the_versions_that_pages_name_are_those_that_are_installed(bench: Any) -> None:
    subjects, tmdevlab = bench("subjects"), bench("tmdevlab")
    pinned = "\n".join(path.read_text("utf-8") for path in sorted((SUBJECTS / "pins").glob("*.txt"))).lower()
    node = json.loads((SUBJECTS / "node" / "package.json").read_text())["dependencies"]
    manifests = "\n".join(path.read_text() for path in (*SUBJECTS.glob("*/Cargo.toml"), *SUBJECTS.glob("*/go.mod")))
    said = [*subjects.VERSIONS.values(), *tmdevlab.VERSIONS.values()]
    named = {pair for text in said for pair in re.findall(r"([\w@/.-]+) (\d+(?:\.\d+)+)", text)}
    elsewhere = {"supergateway", "redis-rs"}
    for name, version in named - {pair for pair in named if pair[0] in elsewhere}:
        held = (
            f"{name.lower()}=={version}" in pinned
            or node.get(name) == version
            or re.search(rf'{name} = {{ version = "={version}"|/{name}(/v\d+)? v{version}\b', manifests)
        )
        assert held, (name, version)


def test_a_row_with_redis_is_missing_where_there_is_no_redis(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = bench("subjects")
    monkeypatch.setattr(subjects.shutil, "which", lambda name: None)
    with pytest.raises(subjects.Missing, match="redis-server is not installed"):
        subjects.prepare(subjects.SUBJECTS["ours-redis"])


def test_the_interpreter_of_a_row_is_missing_where_it_is_not_installed(bench: Any) -> None:
    subjects = bench("subjects")
    with pytest.raises(subjects.Missing, match=r"no Python 2\.1 is installed"):
        subjects.interpreter_of("2.1")


def test_a_file_of_pins_counts_with_those_that_it_names(bench: Any) -> None:
    names = [path.name for path in bench("subjects").files_of(SUBJECTS / "pins" / "fastmcp-redis.txt")]
    assert names == ["fastmcp-redis.txt", "fastmcp.txt"]


# --- the workload of TM Dev Lab -------------------------------------------------------------------------------------


def test_the_service_of_the_shop_answers_a_search_a_product_and_a_cart(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = bench("subjects.shop_service")
    monkeypatch.setattr(service, "PRODUCTS", 5000)
    status, body = service.answer("GET", "/products/search?category=Books&min_price=50&max_price=60&limit=3", b"")
    found = json.loads(body)
    assert status == 200 and len(found["products"]) == 3 < found["total_found"]
    assert all(50 <= product["price"] <= 60 for product in found["products"])
    id = found["products"][0]["id"]
    assert json.loads(service.answer("GET", f"/products/{id}", b"")[1])["category"] == "Books"
    order = {"user_id": "user-00001", "items": [{"product_id": id, "quantity": 2}]}
    priced = json.loads(service.answer("POST", "/cart/calculate", json.dumps(order).encode())[1])
    assert priced["total"] == round(2 * found["products"][0]["price"], 2)
    assert service.answer("GET", "/nothing", b"")[0] == 404


def test_a_wrong_answer_of_a_tool_of_the_shop_ends_the_run(bench: Any) -> None:
    tmdevlab = bench("tmdevlab")
    from mcp_h11.bench.talk import Framing, WholeAnswer, Wrong

    def answer(said: Any) -> WholeAnswer:
        result = {"content": [{"type": "text", "text": json.dumps(said)}]}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
        return WholeAnswer(Framing(b"HTTP/1.1 200 OK\r\nContent-Type: application/json"), body)

    right = {"status": "confirmed", "items_count": 2, "total": 7.5}
    tmdevlab.judged("checkout", "user-00001", 0, answer(right))
    for wrong in ({"status": "refused"}, {"items_count": 1}, {"total": 0}):
        with pytest.raises(Wrong):
            tmdevlab.judged("checkout", "user-00001", 0, answer({**right, **wrong}))
    search = {"total_found": 9, "products": [{}] * 10, "top10_popular_ids": [1] * 10}
    tmdevlab.judged("search_products", "user-00001", 9, answer(search))
    with pytest.raises(Wrong):
        tmdevlab.judged("search_products", "user-00001", 8, answer(search))


def test_commands_of_redis_are_written_with_their_lengths(bench: Any) -> None:
    assert bench("tmdevlab").encoded(("SET", "käse", 12)) == b"*3\r\n$3\r\nSET\r\n$5\r\nk\xc3\xa4se\r\n$2\r\n12\r\n"
