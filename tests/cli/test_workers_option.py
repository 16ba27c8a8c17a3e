# SPDX-License-Identifier: MIT
"""`--workers`: what it goes with, what it is refused beside, and how such a command ends."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rawclient import Legacy
from redis_servers import fresh_prefix
from serving import LEGACY, call
from worker_processes import LIMIT, ROOT, Fleet

from mcp_h11 import MCPServer
from mcp_h11.cli import workers as cli_workers
from mcp_h11.cli.main import main
from mcp_h11.server.server import MAX_WORKERS
from mcp_h11.stores.sqlite_file import APPLICATION_ID

pytestmark = [pytest.mark.anyio, pytest.mark.long]
posix = pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MCP_H11_")]:
        monkeypatch.delenv(name)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("python -m mcp_h11: error: ") and err.count("\n") == 1
    return err.removeprefix("python -m mcp_h11: error: ").rstrip("\n")


def test_pipes_have_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "tools.py", "--stdio", "--workers", "2")
    assert said == "--stdio and --workers cannot be used together"


@pytest.mark.parametrize("number", ["-1", "two", "1.5", str(MAX_WORKERS + 1)])
def test_the_number_is_a_number(capsys: pytest.CaptureFixture[str], number: str) -> None:
    assert f"has to be a number from 0 to {MAX_WORKERS}" in refusal(capsys, f"--workers={number}")


def test_the_proxy_has_one_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(capsys, "proxy", "--workers", "2", "--", sys.executable)
    assert said == "--workers is for tools, and not for the proxy"
    monkeypatch.setenv("MCP_H11_WORKERS", "2")
    said = refusal(capsys, "proxy", "--", sys.executable)
    assert said == "MCP_H11_WORKERS is for tools, and not for the proxy"


def test_a_system_that_hands_no_sockets_down_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(cli_workers.os, "name", "nt")  # type: ignore[attr-defined]
        said = refusal(capsys, "--workers", "2", "--port", "0")
    assert said == "this system hands no sockets down to other processes, so there is one process alone"


@pytest.mark.parametrize("channel", ["", "x", "-1", "99999"])
def test_nobody_else_starts_a_worker(capsys: pytest.CaptureFixture[str], channel: str) -> None:
    said = refusal(capsys, f"--worker-channel={channel}", "tools.py")
    assert said == "--worker-channel is for the workers that --workers starts"


@posix
def test_a_port_that_is_taken_is_told_by_the_parent(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(capsys, "--workers", "2", "--port", str(port))
        assert said.startswith(f"cannot listen on 127.0.0.1 port {port}: it is already in use")
        said = refusal(capsys, "--workers", "2", "--port", "0", "--ops-port", str(port))
        assert said.startswith(f"cannot listen on the ops port {port} of 127.0.0.1: it is already in use")


@posix
async def test_an_address_that_others_reach_needs_hosts_as_without_workers(tmp_path: Path) -> None:
    with Fleet.of_command_line(tmp_path, "--workers", "2", "--port", "0", "--host", "0.0.0.0") as fleet:
        assert await fleet.ended() == 2
        assert fleet.said.count("can be reached from elsewhere: name the hosts") == 1


@posix
async def test_the_environment_can_say_it_and_0_is_one_for_each_core(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with Fleet.of_command_line(tmp_path, "--port", "0", "--ops-port", "0", MCP_H11_WORKERS="0") as fleet:
        await fleet.started(cores or 1)
        assert len(await fleet.workers()) == cores
        assert (await fleet.get("/health")).json()["wanted"] == cores
        fleet.process.send_signal(signal.SIGTERM)
        assert await fleet.ended() == 0


@posix
async def test_an_object_of_a_module_and_the_demo_are_served(tmp_path: Path) -> None:
    with Fleet.of_command_line(tmp_path, "--workers", "1", "--port", "0") as fleet:  # writes tools.py
        await fleet.started(1)
    for target in (["tools:server"], []):
        with Fleet("-m", "mcp_h11", *target, "--workers", "1", "--port", "0", folder=tmp_path) as fleet:
            await fleet.started(1)
            name = "fleet" if target else "demo"
            assert f"serves '{name}' at http://127.0.0.1:{fleet.port}/mcp" in fleet.said


def test_a_worker_leaves_what_was_loaded_out_of_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def run(handler: Any, *, on_start: Any, **options: Any) -> None:
        counts.append(gc.get_freeze_count())
        on_start(None)
        counts.append(gc.get_freeze_count())

    monkeypatch.setattr(cli_workers, "run", run)
    channel: Any = SimpleNamespace(charge=SimpleNamespace(sockets=[]))
    cli_workers._serve(channel, cli_workers.worker_options(["--port", "0"], {}), lambda: MCPServer("x"))
    before, during = counts
    assert during > before + 1_000
    assert gc.get_freeze_count() == 0


def test_workers_are_loaded_only_where_they_are_asked_for() -> None:
    code = "import sys, mcp_h11.cli.main; print([name for name in sys.modules if 'worker' in name or 'desk' in name])"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=LIMIT, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout == "[]\n"


# --- --store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "reason"), [("ftp://x", "begins with one of"), ("sqlite:", "needs the path of a file")]
)
def test_a_store_that_no_url_names_is_refused(capsys: pytest.CaptureFixture[str], url: str, reason: str) -> None:
    said = refusal(capsys, "tools.py", "--port", "0", "--store", url)
    assert reason in said


def test_a_password_in_a_wrong_url_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_H11_STORE", "reddis://:s3cret@127.0.0.1")
    said = refusal(capsys, "tools.py", "--port", "0")
    assert "begins with one of" in said and "s3cret" not in said


@posix
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
@pytest.mark.parametrize("kind", ["foreign", "newer", "text", "redis"])
def test_a_store_that_is_not_ours_ends_the_command_and_is_not_changed(
    tmp_path: Path, kind: str, workers: list[str], request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "some.db"
    url, reason = f"sqlite:{path}", "is the file of another program"
    if kind == "redis":
        prefix, server = fresh_prefix(), request.getfixturevalue("shared_redis")
        server.ask("SET", f"{prefix}:v", "99")
        url, reason = server.url(prefix), "give it another prefix"
    elif kind == "text":
        path.write_text("no database\n" * 100)
        reason = "is no SQLite database"
    else:
        with closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE theirs (x)")
            if kind == "newer":
                base.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                base.execute("PRAGMA user_version = 99")
                reason = "is a store of version 99"
    before = path.read_bytes() if kind != "redis" else b""
    (tmp_path / "tools.py").write_text("from mcp_h11 import MCPServer\nserver = MCPServer('x')\n")
    ran = subprocess.run(
        [sys.executable, "-m", "mcp_h11", "tools.py", "--port", "0", "--store", url, *workers],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=LIMIT, capture_output=True, text=True,
    )  # fmt: skip
    first, *rest = ran.stderr.splitlines()
    assert ran.returncode == 2 and ran.stdout == ""
    assert first.startswith("python -m mcp_h11: error: ") and reason in first
    assert len(rest) == len(workers) // 2 and all("the first worker ended" in line for line in rest)
    if kind == "redis":
        assert server.ask("GET", f"{prefix}:v") == "99" and server.keys(prefix) == []
    else:
        assert path.read_bytes() == before
        assert sorted(one.name for one in tmp_path.iterdir() if "some" in one.name) == ["some.db"]


def test_pipes_have_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "tools.py", "--stdio", "--store", "memory:")
    assert said == "--stdio and --store cannot be used together"


@posix
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
async def test_a_session_in_a_file_outlives_a_restart_of_everything(tmp_path: Path, workers: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tempfile.gettempdir()))  # short, for the Unix sockets beside the file
    session = ""
    try:
        for _ in range(2):
            with Fleet.of_command_line(
                tmp_path, *workers, "--port", "0", "--log-level", "info", MCP_H11_STORE=f"sqlite://{folder}/store.db"
            ) as fleet:
                await fleet.started(2 if workers else 0)
                client = Legacy(fleet.port, LEGACY, limit=LIMIT)
                if not session:
                    await client.initialize()
                    session = client.session or ""
                client.session, client.initialized = session, {"protocolVersion": LEGACY}
                assert (await client.call("tools/call", call("pid"))).result
                fleet.process.send_signal(signal.SIGTERM)
                assert await fleet.ended() == 0
    finally:
        shutil.rmtree(folder)
