# SPDX-License-Identifier: MIT
"""Servers as processes: what they use by /proc and by `ps`, and how they start and end."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from mcp_h11.bench import process
from mcp_h11.bench.process import Failed, Group, PsRow, read_ps

linux = pytest.mark.skipif(not process.HAS_PROC, reason="it reads /proc")
unix = pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
LISTENS = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def test_rows_of_ps_have_days_hours_and_hundredths() -> None:
    said = "   12    10     0:01.25   2048\n 13 10 01:02:03 10\n 14 9 2-00:00:01 1\n garbage\n x y z 1\n"
    assert read_ps(said) == {
        12: PsRow(10, 1.25, 2048 * 1024),
        13: PsRow(10, 3723.0, 10 * 1024),
        14: PsRow(9, 2 * 86400 + 1.0, 1024),
    }


@unix
def test_a_group_is_known_by_ps_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    with process.running([sys.executable, "-c", LISTENS, "{port}"]) as server:
        by_proc = server.group.usage() if process.HAS_PROC else None
        monkeypatch.setattr(process, "HAS_PROC", False)
        usage = server.group.usage()
        assert server.group.pids() == [server.process.pid] and usage.rss > 0
        assert server.group.cpu(server.group.pids()) >= 0 and process.machine_busy() == 0.0
        assert by_proc is None or abs(usage.cpu - by_proc.cpu) <= 1.5  # of whole seconds, as `ps` of Linux counts
    with pytest.raises(Failed, match="no more"):
        server.group.usage()


def test_without_ps_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HAS_PROC", False)
    monkeypatch.setenv("PATH", "")
    assert process.ps_table() == {}
    with pytest.raises(Failed):
        Group(os.getpid(), whole=False).usage()


@linux
def test_a_port_for_a_server_is_none_that_the_system_gives_to_others_meanwhile() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in (process.free_port() for _ in range(50)) if first <= port <= last]


@linux
def test_the_processes_that_listen_on_a_port_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert process.listeners_of(port) == [os.getpid()]
        group = Group(os.getpid(), whole=False, others=[os.getppid()])
        assert group.pids() == [os.getpid(), os.getppid()] and group.usage().cpu > 0
    assert process.listeners_of(port) == []


@linux
def test_a_group_has_the_processes_that_a_server_starts() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENS!r}, sys.argv[1]])"
    with process.running([sys.executable, "-c", code, "{port}"]) as server:
        assert len(server.group.pids()) == 2 and server.started > 0
        assert process.descendants(server.process.pid) == [p for p in server.group.pids() if p != server.process.pid]
        assert process.command_of(server.process.pid)[0] == sys.executable
    with pytest.raises(Failed):
        server.group.usage()
    assert process.command_of(server.process.pid) == [] and process.resident(server.process.pid) == 0
    assert process.own_seconds(server.process.pid) == process.reaped_seconds(server.process.pid) == 0.0


def test_a_command_that_does_not_start_or_ends_at_once_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Failed, match="did not start"):
        process.start(["/no/such/program", "{port}"])
    with pytest.raises(Failed, match="ended at once with status 3: because"):
        process.start([sys.executable, "-c", "import sys; print('because'); sys.exit(3)"])


def test_a_command_that_never_listens_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_LIMIT", 0.1)
    with pytest.raises(Failed, match="nothing listens"):
        process.start([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_server_that_hears_no_polite_word_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_LIMIT", 0.2)
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LISTENS}"
    with pytest.raises(RuntimeError), process.running([sys.executable, "-c", deaf, "{port}"]) as server:
        raise RuntimeError
    assert server.process.poll() is not None and server.said() == ""
