# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 bench`: its figures, its errors and their exit codes, and where its requests go."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answering import Answering, answer, failure, legacy, result, text
from terminals import CTRL_C, AtTerminal

from mcp_h11 import MCPServer, ServerThread, start_in_thread
from mcp_h11.bench import process
from mcp_h11.bench.measuring import Measured
from mcp_h11.cli.benching import bench
from mcp_h11.cli.benching import course as courses
from mcp_h11.cli.benching.figures import histogram_lines, lines_of, ratio_lines, ratios_of, time_in_words
from mcp_h11.cli.main import main

linux = pytest.mark.skipif(not process.HAS_PROC, reason="it reads /proc")
QUICK = ("--duration", "10", "--warmup", "0", "--requests", "40", "--concurrency", "3")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("MCP_H11_CLIENT_TOKEN", raising=False)


def tools() -> MCPServer:
    server = MCPServer("tools", version="2")

    @server.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        return text

    @server.tool(structured_output=False)
    async def fails() -> str:
        raise ValueError("it cannot")

    return server


@pytest.fixture(scope="module")
def served() -> Iterator[ServerThread]:
    with start_in_thread(tools()) as running:
        yield running


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["bench", *words])
    out, err = capsys.readouterr()
    return code, out, err


def figures(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = asked(capsys, "--json", *words)
    assert (code, err) == (0, ""), out
    return json.loads(out)


# --- figures --------------------------------------------------------------------------------------------------------


def test_a_run_is_told_with_throughput_latency_and_bars(
    served: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = asked(capsys, served.url, "add", "a=1", "b=2", *QUICK)
    assert (code, err) == (0, "")
    assert f"{served.url}: tools 2, 2025-11-25 with sessions" in out
    assert "add a=1 b=2: a request on a kept connection" in out and "3 connections\n" in out
    for word in ("a second", "errors      none", "p50 ", "p99.9 ", "max ", " of a core", "|#", "(--requests)"):
        assert word in out


def test_the_figures_for_a_program(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, served.url, "add", "a=1", "b=2", *QUICK[:-1], "1,2")
    assert found["target"] == served.url and found["server"] == {"name": "tools", "version": "2"}
    assert (found["scenario"], found["operation"], found["sessions"]) == ("call", "add a=1 b=2", True)
    assert [run["concurrency"] for run in found["runs"]] == [1, 2]
    for run in found["runs"]:
        assert run["operations"] >= 40 and run["errors"] == {} and run["ended"] == "operations"
        times = [run["latency_us"][name] for name in ("p50", "p90", "p95", "p99", "p99.9", "max")]
        assert times == sorted(times) and times[0] > 0
        assert sum(count for _, count in run["histogram"]) == run["operations"]
        assert run["throughput"] > 0 and run["generator"]["cores"] > 0


@linux
def test_the_cpu_and_the_memory_of_a_server_on_this_machine(
    served: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(capsys, served.url, "add", "a=1", "b=2", *QUICK)
    used = found["runs"][0]["server"]
    assert used["cpu_us"] > 0 and used["rss"] > 1_000_000


@pytest.mark.parametrize("scenario", ["call-new-head", "behind-proxy", "connect", "session", "stream"])
def test_each_scenario_works_with_any_tool(
    scenario: str, served: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(capsys, served.url, "add", "a=1", "b=2", "--scenario", scenario, "--expect", "3", *QUICK)
    assert found["scenario"] == scenario and found["runs"][0]["errors"] == {}
    assert found["runs"][0]["operations"] >= 40


def test_a_scenario_of_the_benchmark_needs_its_tool(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, served.url, "--scenario", "echo-1k", *QUICK)
    assert found["operation"] == "echo-1k" and found["runs"][0]["operations"] >= 40
    code, _, err = asked(capsys, served.url, "--scenario", "sleep", *QUICK)
    assert code == 2 and "a tool sleep" in err
    code, _, err = asked(capsys, served.url, "add", "--scenario", "echo-1k", *QUICK)
    assert code == 2 and "leave TOOL out" in err


@linux
@pytest.mark.long
def test_the_memory_of_idle_sessions(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, served.url, "--scenario", "idle", "--sessions", "10")
    assert found["idle_sessions"] == 10 and isinstance(found["kib_each"], float)
    code, out, _ = asked(capsys, served.url, "--scenario", "idle", "--sessions", "10")
    assert code == 0 and "10 sessions with an open stream" in out
    code, _, err = asked(capsys, served.url, "--scenario", "idle", "--compare", served.url)
    assert code == 2 and "--compare" in err


def test_without_a_tool_no_tool_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with Answering(legacy(lambda message, head: text(message))) as server:
        found = figures(capsys, server.url, *QUICK)
    assert found["operation"] == "tools/list"
    assert {message.get("method") for _, message in server.requests} == {
        "initialize", "notifications/initialized", "tools/list", None,
    }  # fmt: skip

    def no_tools(message: dict[str, Any], head: bytes) -> bytes | None:
        if message.get("method") == "tools/list":
            return failure(message, -32601)
        return legacy(lambda message, head: result(message, {}))(message, head)

    with Answering(no_tools) as server:
        assert figures(capsys, server.url, *QUICK)["operation"] == "ping"


def test_a_server_of_the_modern_revision_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def modern(message: dict[str, Any], head: bytes) -> bytes | None:
        if b"2026-07-28" not in head:
            return answer(b"{}", "400 Bad Request")
        if message["method"] == "server/discover":
            return result(message, {"serverInfo": {"name": "new"}, "supportedVersions": ["2026-07-28"]})
        return result(message, {"tools": []})

    with Answering(modern) as server:
        found = figures(capsys, server.url, *QUICK)
        assert (found["revision"], found["server"]["name"], found["sessions"]) == ("2026-07-28", "new", False)
        assert figures(capsys, server.url, *QUICK, "--revision", "2026-07-28")["revision"] == "2026-07-28"
        code, _, err = asked(capsys, server.url, *QUICK, "--revision", "2025-06-18")
        assert code == 3 and "status 400" in err
        code, _, err = asked(capsys, server.url, *QUICK, "--scenario", "session")
        assert code == 2 and "opened none" in err


def test_headers_and_the_token_are_sent_with_each_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Answering(legacy(lambda message, head: text(message))) as server:
        figures(capsys, server.url, "work", *QUICK, "--header", "X-Tenant: a", "--token", "secret")
        assert all(
            b"\r\nX-Tenant: a\r\n" in h and b"\r\nAuthorization: Bearer secret\r\n" in h for h, _ in server.requests
        )
    monkeypatch.setenv("MCP_H11_CLIENT_TOKEN", "from-env")
    with Answering(legacy(lambda message, head: text(message))) as server:
        figures(capsys, f"{server.url}?key=1", "work", *QUICK)
        assert all(b"\r\nAuthorization: Bearer from-env\r\n" in head for head, _ in server.requests)
        assert all(b" /mcp?key=1 HTTP/1.1\r\n" in head for head, _ in server.requests)


# --- comparing ------------------------------------------------------------------------------------------------------


def test_two_servers_are_measured_in_turn(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def calls(message: dict[str, Any], head: bytes) -> bytes | None:
        order.append(head.partition(b"Host: ")[2].partition(b"\r\n")[0].decode())
        return text(message)

    with Answering(legacy(calls)) as one, Answering(legacy(calls)) as other:
        words = (one.url, "work", "--compare", other.url, "--rounds", "3", *QUICK)
        found = figures(capsys, *words)
        turns = [host for host, before in zip(order, [None, *order], strict=False) if host != before]
        # A look at each, and then A B A B A B.
        assert turns == [f"127.0.0.1:{server.port}" for server in (one, other)] * 4
        code, out, _ = asked(capsys, *words)
    assert code == 0 and "round 3: A, then B" in out and "B by A, 3 connections, median of 3 rounds" in out
    (compared,) = found["compared"]
    assert found["a"]["target"] == one.url and found["b"]["target"] == other.url
    each = compared["ratios"]["throughput"]
    assert len(compared["rounds"]) == len(each["rounds"]) == 3
    assert each["lowest"] <= each["median"] <= each["highest"]
    assert each["rounds"][0] == compared["rounds"][0]["b"]["throughput"] / compared["rounds"][0]["a"]["throughput"]


def run_of(**more: Any) -> Measured:
    fields: dict[str, Any] = {
        "scenario": "call", "era": "legacy", "concurrency": 1, "operations": 10, "seconds": 1.0, "cpu_us": 10.0,
        "throughput": 10.0, "p50_us": 5.0, "p95_us": 5.0, "p99_us": 5.0, "generator_share": 0.5, "server_share": 0.4,
        "others_share": 0.0, "rss": 2**20, "answers": "json", "reconnects": 0,
    }  # fmt: skip
    return Measured(**{**fields, **more})


def test_a_ratio_has_its_spread_and_says_where_there_is_no_difference() -> None:
    pairs = [(run_of(), run_of(throughput=20.0, p50_us=4.0)), (run_of(), run_of(throughput=40.0, p50_us=6.0))]
    ratios = ratios_of(pairs)
    assert ratios["throughput"] == {"median": 3.0, "lowest": 2.0, "highest": 4.0, "rounds": [2.0, 4.0]}
    lines = ratio_lines(ratios)
    assert lines[0].split() == ["throughput", "3.00", "x", "(2.00", "to", "4.00)"]
    assert "no difference" in lines[1] and "server CPU" in lines[-1]
    assert "server CPU" not in ratios_of([(run_of(cpu_us=None), run_of())])  # a server elsewhere


def test_times_and_bars() -> None:
    assert [time_in_words(us) for us in (0.0, 850.4, 1_520.0, 34_560.0, 345_600.0, 2_100_000.0)] == [
        "0 us", "850 us", "1.52 ms", "34.6 ms", "346 ms", "2.10 s",
    ]  # fmt: skip
    rows = histogram_lines([(10.0 * number, 100 - number) for number in range(1, 21)])
    assert len(rows) == 15 and rows[0].count("#") == 32 and rows[-1].startswith("        more |")
    assert rows[-1].endswith(" 495") and histogram_lines([(1.0, 1), (2.0, 10_000)])[0].count("#") == 1


def test_a_limit_that_is_the_generators_is_said() -> None:
    lines = "\n".join(lines_of(run_of(generator_share=0.97, others_share=1.2, server_share=None, ended="connections")))
    assert "it was the limit" in lines and "other programs 120%" in lines
    assert "not known from here" in lines and "4,000 connections" in lines
    kinds = {f"HTTP {number}": number for number in range(400, 420)}
    lines = "\n".join(lines_of(run_of(errors=kinds, examples={"HTTP 419": "\x1b[31mred"}, operations=0)))
    assert "and 8 kinds more" in lines and "\x1b" not in lines and "latency" not in lines


# --- errors and exit codes ------------------------------------------------------------------------------------------


def test_errors_under_load_are_counted_told_and_end_the_command_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = iter(range(1_000))

    def calls(message: dict[str, Any], head: bytes) -> bytes | None:
        number = next(numbers)
        if number in (10, 11):
            return answer(b"", "503 Service Unavailable")
        return failure(message, -32603) if number == 12 else text(message)

    with Answering(legacy(calls)) as server:
        code, out, err = asked(capsys, server.url, "work", *QUICK)
    assert (code, err) == (1, "")
    assert "errors      3" in out and "2  HTTP 503: status 503" in out and "1  JSON-RPC -32603" in out


def test_the_first_request_that_fails_is_said_before_any_load(
    served: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = asked(capsys, served.url, "fails", *QUICK)
    assert code == 3 and out == "" and "it cannot" in err
    code, _, err = asked(capsys, served.url.replace("/mcp", "/none"), *QUICK)
    assert code == 3 and "status 404" in err
    code, _, err = asked(capsys, served.url, "add", "a=1", "b=2", "--expect", "4", *QUICK)
    assert code == 3 and "'3' where '4' was expected" in err


def test_a_server_that_wants_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    with Answering(lambda message, head: answer(b"", "401 Unauthorized")) as server:
        code, out, err = asked(capsys, server.url, *QUICK)
    assert code == 3 and out == "" and "status 401" in err and "MCP_H11_CLIENT_TOKEN" in err
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    code, out, err = asked(capsys, f"http://127.0.0.1:{port}/mcp", *QUICK)
    assert code == 4 and out == "" and err == "python -m mcp_h11: no connection: Connection refused\n"
    with Answering(lambda message, head: None) as server:
        code, _, err = asked(capsys, server.url, *QUICK)
    assert code == 4 and "the server drops connections" in err
    code, _, err = asked(capsys, *QUICK, "--", sys.executable, "-c", "print('no server')", "{port}")
    assert code == 4 and "ended at once" in err


MISTAKES = {
    "the following arguments are required: TARGET": [],
    "'2001'": ["http://x/mcp", "--concurrency", "2001"],
    "'0'": ["http://x/mcp", "--concurrency", "1,0"],
    "'601'": ["http://x/mcp", "--duration", "601"],
    "'nan'": ["http://x/mcp", "--duration", "nan"],
    "'2000001'": ["http://x/mcp", "--requests", "2000001"],
    "'10001'": ["http://x/mcp", "--errors", "10001"],
    "'17'": ["http://x/mcp", "--processes", "17"],
    "'1'": ["http://x/mcp", "--rounds", "1"],
    "'20001'": ["http://x/mcp", "--sessions", "20001"],
    "'mcp'": ["http://x/mcp", "--path", "mcp"],
    "has to be 'Name: value'": ["http://x/mcp", "--header", "name"],
    "cannot be sent": ["http://x/mcp", "--header", "na me: x"],
    "not allowed with": ["http://x/mcp", "--expect", "1", "--same"],
    "invalid choice": ["http://x/mcp", "--scenario", "wild"],
    "credentials belong into a header": ["http://me:secret@127.0.0.1/mcp"],
    "over TCP": ["http+unix://%2Fs/mcp"],
    "TARGET is empty": [""],
    "cannot be split": ["python 'x"],
    "cannot read none.py": ["none.py"],
    "after -- comes the command": ["add", "--"],
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_is_said_in_one_line(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = asked(capsys, *MISTAKES[said])
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_names_of_tools_and_arguments_are_checked_by_the_list(
    served: ServerThread, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = asked(capsys, served.url, "ad", *QUICK)
    assert code == 2 and "did you mean add?" in err
    code, _, err = asked(capsys, served.url, "add", "a=1", *QUICK)
    assert code == 2 and "missing: b" in err
    code, _, err = asked(capsys, served.url, "add", "a=x", "b=2", *QUICK)
    assert code == 2 and "a has to be integer" in err


def test_more_connections_than_descriptors_are_refused(
    served: ServerThread, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    limits = {"now": (100, 100)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["now"])

    def setting(kind: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > limits["now"][1]:
            raise ValueError("not allowed to raise maximum limit")
        limits["now"] = wanted

    monkeypatch.setattr(resource, "setrlimit", setting)
    code, _, err = asked(capsys, served.url, "add", "a=1", "b=2", *QUICK[:-1], "37")
    assert code == 2 and "want 101 descriptors, and ulimit -n gives 100" in err
    limits["now"] = (100, 101)
    code, _, err = asked(capsys, served.url, "add", "a=1", "b=2", *QUICK[:-1], "37")
    assert code == 0 and limits["now"] == (101, 101)


# --- where the requests go ------------------------------------------------------------------------------------------


def test_it_follows_no_redirect_and_asks_no_proxy_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Answering(lambda message, head: text(message)) as elsewhere:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        numbers = iter(range(1_000))

        def calls(message: dict[str, Any], head: bytes) -> bytes | None:
            moved = answer(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}")
            return text(message) if next(numbers) == 0 else moved

        with Answering(legacy(calls)) as server:
            code, out, _ = asked(capsys, server.url, "work", *QUICK, "--errors", "5")
        assert code == 1 and "HTTP 307" in out and "(--errors)" in out
        assert elsewhere.connections == 0


# --- commands and files ---------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tools.py"
    path.write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    return str(path)


@pytest.mark.long
def test_a_file_is_served_for_the_benchmark_and_ended_after_it(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, file, "add", "a=1", "b=2", *QUICK)
    assert found["target"] == file and found["started_seconds"] > 0 and found["runs"][0]["operations"] >= 40
    command = [sys.executable, "-m", "mcp_h11", file, "--port", "{port}", "--path", "/here"]
    found = figures(capsys, "add", "a=1", "b=2", *QUICK, "--path", "/here", "--", *command)
    assert found["runs"][0]["operations"] >= 40 and "{port}" in found["target"]


@pytest.mark.long
def test_a_command_without_a_port_is_measured_on_its_pipes(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = (sys.executable, "-m", "mcp_h11", file, "--stdio")
    found = figures(capsys, "add", "a=1", "b=2", *QUICK, "--", *command)
    assert found["runs"][0]["operations"] >= 40 and found["sessions"] is False
    assert found["revision"] == "2025-11-25" and found["runs"][0]["answers"] == "lines"
    for words, said in (
        (["--scenario", "connect"], "the scenario call"),
        (["--revision", "2026-07-28"], "up to 2025-11-25"),
        (["none"], "is not in the list"),
    ):
        code, _, err = asked(capsys, *words, *QUICK, "--", *command)
        assert code == 2 and said in err
    code, _, err = asked(capsys, *QUICK, "--", sys.executable, "-c", "")
    assert code == 4 and "no more" in err or "ended its output" in err


# --- a person at a terminal -----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="it needs a terminal")
def test_a_terminal_sees_the_course_and_ctrl_c_shows_the_figures(served: ServerThread) -> None:
    with AtTerminal("bench", served.url, "add", "a=1", "b=2", "--duration", "500", "--warmup", "0") as person:
        person.until("/500 s 20 connections: ")
        person.until(" a second")
        person.type(CTRL_C)
        person.until("interrupted")
        assert person.process.wait(60) == 130
        assert "latency     p50" in person.shown


def test_ctrl_c_ends_the_run_with_what_was_measured_until_then(
    served: ServerThread, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = courses.Course.tick

    def tick(self: courses.Course, count: int, errors: int) -> bool:
        if count:
            signal.raise_signal(signal.SIGINT)
        return shown(self, count, errors)

    monkeypatch.setattr(courses.Course, "tick", tick)
    before = signal.getsignal(signal.SIGINT)
    code, out, err = asked(capsys, served.url, "add", "a=1", "b=2", "--duration", "500", "--warmup", "0")
    assert code == 130 and "interrupted" in out and "p99.9" in out and err == ""
    assert signal.getsignal(signal.SIGINT) is before
    code, out, _ = asked(
        capsys, served.url, "add", "a=1", "b=2", "--duration", "500", "--warmup", "0", "--compare", served.url, "--json"
    )
    assert code == 130 and json.loads(out)["compared"][0]["rounds"] == []  # half a round compares nothing


def test_outside_of_the_main_thread_signals_are_left_as_they_are(served: ServerThread) -> None:
    codes: list[int] = []
    words = [served.url, "add", "a=1", "b=2", *QUICK, "--json"]
    thread = threading.Thread(target=lambda: codes.append(bench.main_of("bench", words)))
    thread.start()
    thread.join(60)
    assert codes == [0]
    interrupt = courses.Interrupt()
    interrupt._came()
    with pytest.raises(KeyboardInterrupt):
        interrupt._came()
