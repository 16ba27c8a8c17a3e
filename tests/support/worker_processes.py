# SPDX-License-Identifier: MIT
"""A parent with its workers as real processes, for tests: started, watched, asked, and gone at the end.

Each wait ends after `LIMIT` seconds by an error that has the awaited thing and the output of the processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from rawclient import Closed, Modern, RawClient
from serving import call, head

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
STEP = 0.02  # seconds between two looks

TOOLS = """\
import asyncio, os, subprocess, sys, time
from mcp_h11 import Context, MCPServer

server = MCPServer("fleet")

@server.tool
async def pid() -> int:
    return os.getpid()

@server.tool
async def nap(seconds: float) -> str:
    print("napping in", os.getpid(), flush=True)
    await asyncio.sleep(seconds)
    return "rested"

@server.tool
async def stuck(seconds: float) -> str:
    print("stuck in", os.getpid(), flush=True)
    time.sleep(seconds)
    return "free"

@server.tool
async def handed_on() -> list[int]:
    "The descriptors that a program would get which this process starts."
    found = [int(name) for name in os.listdir("/dev/fd")]
    return [fd for fd in found if fd > 2 and _inheritable(fd)]

def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False

@server.tool
async def colour(ctx: Context) -> str:
    print("asked by", os.getpid(), flush=True)
    answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
    return f"{answer.data['it']} from {os.getpid()}"
"""

# Starts workers as the command line does, with other times.  Its arguments: the number of workers, and JSON of the
# keywords of `Workers` and of settings.  A worker runs `prelude.py` first, if that file is there.  After SIGUSR1 a
# worker has half a second to start, and after SIGUSR2 its usual time again.
PROGRAM = """\
import json, logging, pathlib, signal, sys
from functools import partial
from mcp_h11 import Settings
logging.basicConfig(level="INFO", format="[%(process)d] %(message)s")
count, options = int(sys.argv[1]), json.loads(sys.argv[2])
settings = Settings(**options.pop("settings"))
if len(sys.argv) > 3:
    from mcp_h11.server import worker
    from mcp_h11.server.running import run
    channel = worker.Channel(int(sys.argv[3]))
    worker.ORPHAN_TIME = 0.1
    if pathlib.Path("prelude.py").exists():
        exec(pathlib.Path("prelude.py").read_text())
    from tools import server
    run(server, settings=settings, sock=channel.charge.sockets, signals=False,
        kind=partial(worker.WorkerServer, channel=channel))
else:
    from mcp_h11.server.workers import Workers, WorkersFailed
    def on_start(workers):
        print("at", workers.addresses[0][1], flush=True)
    workers = Workers(lambda channel: [sys.executable, *sys.argv[:3], str(channel)], count, settings, port=0,
                      on_start=on_start, **options)
    usual = workers.start_time
    signal.signal(signal.SIGUSR1, lambda *_: setattr(workers, "start_time", 0.5))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(workers, "start_time", usual))
    try:
        workers.run()
    except WorkersFailed as exc:
        sys.exit(f"failed: {exc} ({exc.code})")
"""


class Fleet:
    """The parent, and the output of it and its workers."""

    def __init__(self, *command: str, folder: Path, pass_fds: tuple[int, ...] = (), **environment: str) -> None:
        self.folder = folder
        self.said = ""  # to stdout and stderr
        self._changed = threading.Condition()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MCP_H11_")}
        path = os.pathsep.join([str(ROOT), str(folder)])
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, pass_fds=pass_fds, start_new_session=True,
            env={**environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        self.port = self.ops = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def of_command_line(cls, folder: Path, *arguments: str, tools: str = TOOLS, **options: Any) -> Fleet:
        """`python -m mcp_h11 tools.py ...`"""
        (folder / "tools.py").write_text(tools)
        return cls("-m", "mcp_h11", "tools.py", *arguments, folder=folder, **options)

    @classmethod
    def of_class(cls, folder: Path, count: int, settings: dict[str, Any] | None = None, **options: Any) -> Fleet:
        """`Workers` with these options, on any port."""
        (folder / "tools.py").write_text(TOOLS)
        (folder / "program.py").write_text(PROGRAM)
        settings = {"ops_port": 0, "grace": 2.0, **(settings or {})}
        environment = {name: options.pop(name) for name in [*options] if name.isupper()}
        given = json.dumps({"settings": settings, **options})
        return cls("program.py", str(count), given, folder=folder, **environment)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.said += line
                self._changed.notify_all()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        # The workers are in the process group of the parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._thread.join(LIMIT)
        if self.process.stdout is not None:
            self.process.stdout.close()
        if kind is not None:
            print(self.said)

    # --- waiting -----------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until a look gives something that is true."""
        limit = time.monotonic() + LIMIT
        while not (found := holds()):
            if time.monotonic() > limit:
                raise TimeoutError(f"no {what} within {LIMIT} s; said:\n{self.said}")
            await anyio.sleep(STEP)
        return found

    async def line(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until a line was written that has this, `count` times; the last match."""

        def found() -> re.Match[str] | None:
            matches = [*re.finditer(pattern, self.said)]
            return matches[-1] if len(matches) >= count else None

        match: re.Match[str] = await self.until(found, f"line {pattern!r}")
        return match

    def forget(self) -> None:
        """Lines from now on alone are looked at."""
        with self._changed:
            self.said = ""

    async def started(self, count: int) -> Fleet:
        """Wait until so many workers are ready; then `port` and `ops` are known."""
        self.port = int((await self.line(r"(?:\nat |http://127\.0\.0\.1:|^at )(\d+)"))[1])
        if count:
            await self.line(r"worker \d+ is ready\n", count)
        if match := re.search(r"operators are at \('127.0.0.1', (\d+)\)", self.said):
            self.ops = int(match[1])
        return self

    async def ended(self) -> int:
        """Wait until the parent has ended and its output is read; the exit code."""
        await self.until(lambda: self.process.poll() is not None, "end of the parent")
        await self.until(lambda: not self._thread.is_alive(), "end of the output")
        return self.process.returncode

    # --- asking ------------------------------------------------------------------------------------------------

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool on a connection of its own; the text that it returns."""
        answer = await Modern(self.port, limit=LIMIT).call("tools/call", call(tool, **arguments))
        text: str = answer.result["content"][0]["text"]
        return text

    async def get(self, path: str, port: int | None = None, method: str = "GET", **headers: str | None) -> Any:
        async with RawClient(self.ops if port is None else port, limit=LIMIT) as client:
            await client.send(head(path, method=method, **headers))
            return await client.receive(method)

    async def workers(self) -> list[int]:
        """The pids of the workers that are ready, by their numbers."""
        found = (await self.get("/health")).json()["workers"]
        return [worker["pid"] for worker in found if not worker.get("draining")]

    async def samples(self, port: int | None = None) -> dict[str, float]:
        """The metrics."""
        lines = (await self.get("/metrics", port)).body.decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def is_refused(port: int) -> bool:
    """Whether a connection to the port is refused."""
    try:
        async with RawClient(port, limit=LIMIT):
            return False
    except (OSError, Closed):
        return True


def is_alive(pid: int) -> bool:
    """Whether a process that is not our child runs, and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


async def met(fleet: Fleet, count: int) -> set[str]:
    """Call, several times at once, until so many processes have answered; a quick one would take all single calls."""
    found: set[str] = set()

    async def ask() -> None:
        found.add(await fleet.call("pid"))

    limit = time.monotonic() + LIMIT  # one that stands still for a moment leaves some hundred calls to the others
    while len(found) < count and time.monotonic() < limit:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
    return found
