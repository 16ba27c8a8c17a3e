# SPDX-License-Identifier: MIT
"""The rules for Prometheus and the dashboard for Grafana in docs/deploy/: the metrics are there, and rules fire.

`promtool`, of Prometheus, parses the expressions and runs each rule on numbers that are written here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT, blocks
from provision import everything_required
from rawclient import Legacy, RawClient
from serving import served
from worker_processes import LIMIT, Fleet

from mcp_h11.bridge.config import ServerEntry
from mcp_h11.bridge.gateway import Gateway, GatewayServer
from mcp_h11.client.targets import Command

pytestmark = pytest.mark.long  # real processes, several seconds each

FOLDER = ROOT / "docs" / "deploy"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "dashboard.json"
OF_PROMETHEUS = {"job", "instance"}  # labels that each sample has once Prometheus has read it
TOOLS = """\
from mcp_h11 import MCPServer, ToolError
server = MCPServer("watched")

@server.tool
def add(a: int, b: int) -> int:
    if b < 0:
        raise ToolError("b has to be 0 or more")
    return a + b
"""
SELECTOR = re.compile(r"\b((?:mcp_|up\b)[a-z0-9_]*)\s*(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load(ALERTS.read_text("utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """The expressions of both files, by the name of the alert or of the panel."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "5m").replace("$job", "mcp")
            found[f"{panel['title']}, {target['refId']}"] = text
    return found


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    for name, inside in SELECTOR.findall(GROUPING.sub("", expression)):
        yield name, MATCHER.findall(inside)


def grouped(expression: str) -> set[str]:
    """The labels in `by (...)`."""
    return {label.strip() for inside in GROUPING.findall(expression) for label in inside.split(",")}


async def of_a_bridge() -> list[str]:
    """The samples of a bridge with one backend, which cannot be started."""
    handler = Gateway({"files": ServerEntry(Command((sys.executable, "-c", "")))})
    async with served(handler, kind=GatewayServer, metrics=True) as server, RawClient(server.port) as client:
        lines = (await client.request("GET", "/metrics")).body.decode().splitlines()
    return [line.rpartition(" ")[0] for line in lines if "mcp_h11_backend" in line and not line.startswith("#")]


@pytest.mark.anyio
async def test_the_metrics_and_labels_are_those_of_a_server(tmp_path: Path) -> None:
    options = ("--port", "0", "--ops-port", "0", "--workers", "2", "--store", f"sqlite://{tmp_path}/sessions.db")
    with Fleet.of_command_line(tmp_path, *options, tools=TOOLS) as fleet:
        await fleet.started(2)
        async with Legacy(fleet.port, "2025-11-25", limit=LIMIT) as client:
            for b in (2, -1):
                await client.call("tools/call", {"name": "add", "arguments": {"a": 1, "b": b}})
        samples = [*await fleet.samples(), *await of_a_bridge()]
    exposed: dict[str, dict[str, set[str]]] = {"up": {}}
    for sample in samples:
        name, _, inside = sample.rstrip("}").partition("{")
        labels = exposed.setdefault(name, {})
        for label, _, value in MATCHER.findall(inside):
            labels.setdefault(label, set()).add(value)
    for where, expression in expressions().items():
        labels_here = set(OF_PROMETHEUS)
        for name, matchers in selectors(expression):
            assert name in exposed, (where, name)
            assert ("job", "=", "mcp") in matchers, (where, name)
            for label, sign, value in matchers:
                assert label in exposed[name].keys() | OF_PROMETHEUS, (where, name, label)
                assert label in OF_PROMETHEUS or sign != "=" or value in exposed[name][label], (where, label, value)
            labels_here |= exposed[name].keys()
        assert grouped(expression) <= labels_here, where
    assert exposed["mcp_server_operation_duration_seconds_count"]["error_type"] >= {"tool_error"}


def test_a_name_that_is_wrong_is_found() -> None:
    found = list(selectors('sum by (le, mcp_label) (rate(mcp_a_bucket{job="mcp", x!~"a|b"}[5m])) > up and mcp_b == 1'))
    assert found == [("mcp_a_bucket", [("job", "=", "mcp"), ("x", "!~", "a|b")]), ("up", []), ("mcp_b", [])]
    assert grouped("sum by (le, tool) (x) / max by(instance)(y)") == {"le", "tool", "instance"}


def test_the_dashboard_has_what_grafana_reads() -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    variables = {one["name"] for one in board["templating"]["list"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 0
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${source}" and panel["targets"] and panel["title"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped(target["expr"])


# --- rules on numbers ------------------------------------------------------------------------------------------------

CALLS = 'mcp_server_operation_duration_seconds_count{job="mcp",mcp_method_name="tools/call",gen_ai_tool_name="add"'
BUCKET = 'mcp_server_operation_duration_seconds_bucket{job="mcp",mcp_method_name="tools/call",gen_ai_tool_name="add"'
BACKEND = '{job="mcp",instance="a",mcp_h11_backend="files"}'
STATUS = 'mcp_h11_responses_total{job="mcp",http_response_status_code='
# A minute each, for an hour: `a+bxn` is a, a+b and so on.
HEALTHY = {
    'up{job="mcp",instance="a"}': "1x60",
    f'{STATUS}"200"}}': "0+600x60",
    f'{STATUS}"401"}}': "0+100x60",
    f'{STATUS}"503"}}': "0+10x60",
    f"{CALLS}}}": "0+600x60",
    f'{CALLS},error_type="tool_error"}}': "0+30x60",
    f'{CALLS},error_type="disconnected"}}': "0+300x60",
    f'{BUCKET},le="10.0"}}': "0+599x60",
    f'{BUCKET},le="30.0"}}': "0+600x60",
    f'{BUCKET},le="+Inf"}}': "0+600x60",
    'mcp_h11_calls_waiting{job="mcp",instance="a"}': "0 50 0 0 50 0 0 50 0 0x51",
    'mcp_h11_loop_lag_seconds{job="mcp",instance="a"}': "0 2 0 0 2 0 0x54",
    'mcp_h11_store_away{job="mcp",instance="a"}': "0x60",
    'mcp_h11_store_operations_total{job="mcp",db_operation_name="load"}': "0+600x60",
    'mcp_h11_store_seconds_total{job="mcp",db_operation_name="load"}': "0+3x60",
    'mcp_h11_workers{job="mcp",instance="a"}': "4x30 3x2 4x28",
    'mcp_h11_workers_wanted{job="mcp",instance="a"}': "4x60",
    'mcp_h11_worker_restarts_total{job="mcp",instance="a"}': "0x30 1x30",
    f"mcp_h11_backend_up{BACKEND}": "1x20 0 1x39",
    f"mcp_h11_backend_restarts_total{BACKEND}": "0x20 1x40",
    f"mcp_h11_backend_swaps_total{BACKEND}": "0x20 1x40",
    f"mcp_h11_backend_failed_swaps_total{BACKEND}": "0x60",
}
# What differs from a healthy server for each alert to fire.
ILL = {
    "McpDown": {'up{job="mcp",instance="a"}': "0x60", 'up{job="mcp",instance="b"}': "1x60"},
    "McpAllDown": {'up{job="mcp",instance="a"}': "0x60"},
    "McpServerErrors": {f'{STATUS}"503"}}': "0+60x60"},
    "McpOverloaded": {'mcp_h11_calls_waiting{job="mcp",instance="a"}': "3x60"},
    "McpStoreAway": {'mcp_h11_store_away{job="mcp",instance="b"}': "1x60"},
    "McpStoreSlow": {'mcp_h11_store_seconds_total{job="mcp",db_operation_name="load"}': "0+90x60"},
    "McpEventLoopLate": {'mcp_h11_loop_lag_seconds{job="mcp",instance="a"}': "0.6x60"},
    "McpToolFails": {f'{CALLS},error_type="tool_error"}}': "0+150x60"},
    "McpToolSlow": {f'{BUCKET},le="10.0"}}': "0+500x60"},
    "McpRefusesClients": {f'{STATUS}"401"}}': "0+600x60"},
    "McpWorkersMissing": {'mcp_h11_workers{job="mcp",instance="a"}': "3x60"},
    "McpWorkersRestart": {'mcp_h11_worker_restarts_total{job="mcp",instance="a"}': "0+1x60"},
    "McpBackendAway": {f"mcp_h11_backend_up{BACKEND}": "0x60"},
    "McpBackendRestarts": {f"mcp_h11_backend_restarts_total{BACKEND}": "0+1x60"},
    "McpBackendSwapFailed": {f"mcp_h11_backend_failed_swaps_total{BACKEND}": "0x45 1x15"},
}


def needs_promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        reason = "needs promtool (apt-get install prometheus, brew install prometheus)"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    return path


def promtool(*arguments: str) -> None:
    ran = subprocess.run([needs_promtool(), *arguments], capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_prometheus_reads_each_expression(tmp_path: Path) -> None:
    promtool("check", "rules", str(ALERTS))
    recorded = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions().values())]
    (tmp_path / "all.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    promtool("check", "rules", str(tmp_path / "all.yml"))


def test_prometheus_reads_the_configuration_of_the_page(tmp_path: Path) -> None:
    (text,) = [block for block in blocks(ROOT / "docs" / "deploy.md", "yaml") if "scrape_configs" in block]
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(ALERTS, tmp_path)
    promtool("check", "config", str(tmp_path / "prometheus.yml"))
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "mcp"  # the job that the rules name


def test_each_rule_fires_and_none_of_them_for_a_healthy_server(tmp_path: Path) -> None:
    assert ILL.keys() == {rule["alert"] for rule in rules()}

    def case(differing: dict[str, str], expression: str, values: list[dict[str, Any]]) -> dict[str, Any]:
        series = [{"series": name, "values": numbers} for name, numbers in {**HEALTHY, **differing}.items()]
        asked = {"expr": expression, "eval_time": "50m", "exp_samples": values}
        return {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}

    firing = 'count by (alertname) (ALERTS{alertstate="firing"%s})'
    cases = [case({}, firing % "", [])]
    for name, differing in ILL.items():
        expected = [{"labels": f'{{alertname="{name}"}}', "value": 1}]
        cases.append(case(differing, firing % f',alertname="{name}"', expected))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": cases}))
    promtool("test", "rules", str(tmp_path / "tests.yml"))


def test_the_page_says_what_to_do_for_each_alert() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8").split("## Alerts and a dashboard")[1].split("\n## ")[0]
    severities = {}
    for names, kinds in re.findall(r"^\| ((?:`Mcp\w+`,? ?)+) \| ([\w, ]+) \|", page, re.M):
        alerts = re.findall(r"\w+", names)
        given = kinds.split(", ")
        severities.update(zip(alerts, given if len(given) > 1 else given * len(alerts), strict=True))
    assert severities == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
