# SPDX-License-Identifier: MIT
"""Servers as processes: started in a group of their own, watched from outside, ended by that group.

CPU time is the time that the operating system charged to every process of the group, threads that have ended and
children that were reaped included.  On Linux the figures come from /proc and from the kernel's per-process clocks, on
other systems of Unix from `ps`, which counts in hundredths of a second.  On Windows there are none.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

START_LIMIT = 30.0  # seconds until a server listens
OWN_PORTS = range(15_000, 32_000)  # Linux gives others the ports from 32,768 on, other systems from 49,152
STOP_LIMIT = 5.0  # seconds until it has ended after SIGTERM
PS_LIMIT = 5.0  # seconds for `ps`
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096
HAS_PROC = os.path.exists("/proc/self/stat")
IS_KNOWN = HAS_PROC or os.name == "posix"  # the CPU and memory of a process


class Failed(Exception):
    """A server that did not start, or is no more."""


@dataclass(frozen=True)
class Usage:
    """Of a group of processes: CPU seconds so far, and resident bytes now."""

    cpu: float
    rss: int


class Group:
    """The processes of one server: those of the group that `leader` leads, or the named ones alone.

    Args:
        whole: the whole group.  A server that was not started here is in a group with other programs.
        others: more processes, such as workers that listen on the same port.
    """

    def __init__(self, leader: int, whole: bool = True, others: Sequence[int] = ()) -> None:
        self.leader = leader
        self._whole = whole
        self._others = others

    def pids(self) -> list[int]:
        if not self._whole:
            return [self.leader, *self._others]
        if not HAS_PROC:
            return [pid for pid, row in ps_table().items() if row.group == self.leader]
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                fields = stat_fields(int(name))
                if fields is not None and int(fields[2]) == self.leader:
                    found.append(int(name))
        return found

    def cpu(self, pids: Sequence[int]) -> float:
        if not HAS_PROC:
            table = ps_table()
            return sum(table[pid].cpu for pid in pids if pid in table)
        return sum(cpu_seconds(pid) for pid in pids)

    def usage(self) -> Usage:
        pids = self.pids()
        if not HAS_PROC:
            table = ps_table()
            rows = [table[pid] for pid in pids if pid in table]
            usage = Usage(sum(row.cpu for row in rows), sum(row.rss for row in rows))
        else:
            usage = Usage(self.cpu(pids), sum(resident(pid) for pid in pids))
        if not pids or not usage.rss:
            raise Failed("the server is no more")
        return usage


@dataclass(frozen=True)
class PsRow:
    """A process as `ps` shows it: its group, CPU seconds and resident bytes."""

    group: int
    cpu: float
    rss: int


def ps_table() -> dict[int, PsRow]:
    """All processes by their ids; none where there is no `ps`."""
    try:
        said = subprocess.run(
            ["ps", "-axo", "pid=,pgid=,time=,rss="], capture_output=True, text=True, timeout=PS_LIMIT, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return read_ps(said)


def read_ps(said: str) -> dict[int, PsRow]:
    """The rows of `ps -axo pid=,pgid=,time=,rss=`.  A time is [days-][hours:]minutes:seconds, and KiB follow."""
    found = {}
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            pid, group, spent, kib = line.split()
            days, _, clock = spent.rpartition("-")
            seconds = 0.0
            for part in clock.split(":"):
                seconds = seconds * 60 + float(part)
            found[int(pid)] = PsRow(int(group), int(days or 0) * 86400 + seconds, int(kib) * 1024)
    return found


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (state) on."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_seconds(pid: int) -> float:
    """CPU time of one process and of its reaped children."""
    return own_seconds(pid) + reaped_seconds(pid)


def own_seconds(pid: int) -> float:
    """CPU time of one process, threads that have ended included, its children not."""
    try:
        # The clock behind clock_getcpuclockid(3): nanoseconds where stat has ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        fields = stat_fields(pid)
        return 0.0 if fields is None else (int(fields[11]) + int(fields[12])) / TICK


def reaped_seconds(pid: int) -> float:
    """CPU time of its children that have ended and were waited for."""
    fields = stat_fields(pid)
    return 0.0 if fields is None else (int(fields[13]) + int(fields[14])) / TICK


def descendants(pid: int) -> list[int]:
    """Its children and theirs, in groups and sessions of their own too."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(int(name)) if name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    found, left = [], [pid]
    while left:
        more = children.get(left.pop(), [])
        found += more
        left += more
    return found


def command_of(pid: int) -> list[str]:
    """Its words; none where it is no more."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).split("\0")[:-1]
    except OSError:
        return []


def resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0


def machine_busy() -> float:
    """CPU seconds that all processes of this machine used, and that others took from it; 0 outside of Linux."""
    if not HAS_PROC:
        return 0.0
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, soft, steal = (int(x) for x in file.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


def listeners_of(port: int) -> list[int]:
    """The processes that listen on a port of this machine, as far as we may see them; Linux only."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _has_open(name, inodes)] if inodes else []


def _has_open(pid: str, inodes: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    return True
    return False


def free_port() -> int:
    """A port that no system gives to clients, or to servers that ask for any: one might take it before our server."""
    while True:
        port = secrets.choice(OWN_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class StartedServer:
    """A server that was started here."""

    port: int
    group: Group
    process: subprocess.Popen[bytes]
    started: float  # seconds from its start until it accepted a connection
    log: str  # path of the file with its output

    def said(self) -> str:
        """The end of its output, for error messages."""
        with contextlib.suppress(OSError), open(self.log, "rb") as file:
            return file.read()[-2000:].decode("utf-8", "replace")
        return ""


def start(command: Sequence[str], env: dict[str, str] | None = None, cwd: str | None = None) -> StartedServer:
    """Start it, with {port} in its command filled in, and wait until it listens.  Raises Failed."""
    port = free_port()
    words = [word.replace("{port}", str(port)) for word in command]
    handle, log = tempfile.mkstemp(prefix="bench-server-")
    began = time.perf_counter()
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"{words[0]} did not start: {error}") from None
    finally:
        os.close(handle)
    server = StartedServer(port, Group(process.pid), process, 0.0, log)
    try:
        server.started = wait_until_it_listens(server, began)
    except BaseException:
        stop(server)
        raise
    return server


def wait_until_it_listens(server: StartedServer, began: float) -> float:
    while server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return time.perf_counter() - began
        if time.perf_counter() - began > START_LIMIT:
            raise Failed(f"nothing listens after {START_LIMIT:g} s: {server.said()}")
        time.sleep(0.001)
    raise Failed(f"the server ended at once with status {server.process.returncode}: {server.said()}")


def stop(server: StartedServer) -> None:
    """End its group: politely, then for sure."""
    for end in (_ask_to_end, _kill):
        end(server)
        try:
            server.process.wait(STOP_LIMIT)
            break
        except subprocess.TimeoutExpired:
            continue
    _kill(server)  # children that outlived their parent
    _wait_until_gone(server.group)
    with contextlib.suppress(OSError):
        os.unlink(server.log)


def _wait_until_gone(group: Group) -> None:
    """Wait, at most STOP_LIMIT, until the children have ended too: the system ends them some time after the signal."""
    if sys.platform == "win32":
        return
    until = time.monotonic() + STOP_LIMIT
    with contextlib.suppress(Failed):
        while group.usage() and time.monotonic() < until:
            time.sleep(0.005)


def _ask_to_end(server: StartedServer) -> None:
    if sys.platform == "win32":
        server.process.terminate()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.group.leader, signal.SIGTERM)


def _kill(server: StartedServer) -> None:
    if sys.platform == "win32":
        server.process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.group.leader, signal.SIGKILL)


@contextlib.contextmanager
def running(
    command: Sequence[str], env: dict[str, str] | None = None, cwd: str | None = None
) -> Iterator[StartedServer]:
    server = start(command, env, cwd)
    try:
        yield server
    except BaseException:
        sys.stderr.write(server.said())
        raise
    finally:
        stop(server)
