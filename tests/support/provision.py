# SPDX-License-Identifier: MIT
"""What tests against other people's software need: their packages, made on demand, and our server as a process.

Packages come from the registries that pip and npm are configured for, into `.cache/` of the clone, once; a folder
without its marker is half made and is made again.  What cannot be had raises `Unavailable` with the reason: the
tests skip then, or fail where MCP_H11_REQUIRE_ALL=1 says that nothing may be missing.

Standard library only: `tests/conformance/run.py` uses it without pytest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from balancers import Proxy, balancing
from made_once import made_once
from ports import free_port as free_port

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
EVERYTHING = ROOT / "tests" / "everything_server.py"
HOSTED = ROOT / "tests" / "support" / "hosted_server.py"
INSTALL_LIMIT = 600  # seconds for one pip or npm install
START_LIMIT = 120.0  # seconds until a server accepts connections: interpreters start slowly on a busy machine
WORKERS = 3  # of a fleet
STOP_LIMIT = 20.0  # seconds until it has ended after SIGTERM; it drains for 10 at most
TROUBLE = ("Traceback", "Warning: ", "never awaited", "never retrieved", "was destroyed but it is pending")


class Unavailable(Exception):
    """Something that a test needs is not on this machine, and could not be fetched."""


def everything_required() -> bool:
    return os.environ.get("MCP_H11_REQUIRE_ALL") == "1"


# ------------------------------------------------------------------ packages


def made(name: str, packages: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The folder `.cache/<name>` that holds `packages`, made by `make` if it is not there."""
    folder = CACHE / name
    made_once(folder, json.dumps(list(packages)), make)
    return folder


def install(*command: str, cwd: Path) -> None:
    """Run an installer; its last words are the reason where it fails."""
    print(f"installing: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command, cwd=cwd, timeout=INSTALL_LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} did not run: {error}") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)} failed: {done.stdout.strip()[-600:]}")


def npm_folder(name: str, *packages: str) -> Path:
    """A folder whose node_modules holds these packages."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable("node and npm are not installed")

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}\n')  # else npm looks for one further up
        install(npm, "install", "--no-audit", "--no-fund", "--no-package-lock", *packages, cwd=folder)

    return made(name, packages, make)


def python_with(name: str, *packages: str) -> str:
    """An interpreter of its own that has these packages."""

    def make(folder: Path) -> None:
        install(sys.executable, "-m", "venv", str(folder), cwd=folder)
        install(interpreter(folder), "-m", "pip", "install", "--quiet", *packages, cwd=folder)

    return interpreter(made(name, packages, make))


def interpreter(folder: Path) -> str:
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


# ------------------------------------------------------------------ our server


def server_environment() -> dict[str, str]:
    """Enough for the fixture to find the package, installed or not."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def trouble_in(log: str) -> str:
    """The part of a server's log that no healthy server writes, or nothing."""
    at = [log.index(word) for word in TROUBLE if word in log]
    return log[max(0, min(at) - 500) :][:4000] if at else ""


class Running:
    """A server process: where it is, and what it said."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.sse_url = f"http://127.0.0.1:{port}/sse"
        self.log = ""


def everything_server(*options: str) -> contextlib.AbstractContextManager[Running]:
    """The fixture as a process of its own."""
    return process_on_a_port(str(EVERYTHING), "--port", "{port}", *options)


@contextlib.contextmanager
def everything_fleet(store: str, *options: str, count: int = WORKERS) -> Iterator[Running]:
    """The fixture as several processes with one store, behind a proxy that gives each request to the next of them."""
    with contextlib.ExitStack() as stack:
        counts = stack.enter_context(tempfile.TemporaryDirectory())
        arguments = (str(EVERYTHING), "--port", "{port}", "--store", store, "--counts", counts, *options)
        with ThreadPoolExecutor(count) as pool:
            started = [pool.submit(stack.enter_context, process_on_a_port(*arguments)) for _ in range(count)]
        ports = [one.result().port for one in started]
        yield Running(stack.enter_context(balancing(Proxy, ports)).port)


def everything_hosted(by: str, *options: str) -> contextlib.AbstractContextManager[Running]:
    """The fixture as an ASGI application in the server of another project: uvicorn, hypercorn or granian."""
    return process_on_a_port(str(HOSTED), "--by", by, "--port", "{port}", *options)


def everything_bridge(*options: str) -> contextlib.AbstractContextManager[Running]:
    """The fixture on pipes, behind a bridge."""
    behind = ("--", sys.executable, "-X", "dev", str(EVERYTHING), "--stdio")
    return process_on_a_port("-m", "mcp_h11", "proxy", "--port", "{port}", *options, *behind)


@contextlib.contextmanager
def process_on_a_port(*arguments: str) -> Iterator[Running]:
    """A Python process in development mode, told a free port; on the way out it has to end by itself, and quietly.

    Raises:
        AssertionError: it did not start, did not stop, ended with an error, or logged a traceback or a warning.
    """
    running = Running(free_port())
    command = [sys.executable, "-X", "dev", *(one.replace("{port}", str(running.port)) for one in arguments)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=server_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_until_it_listens(process, running.port)
            yield running
        finally:
            code = stop(process)
            output.seek(0)
            running.log = output.read().decode("utf-8", "replace")
            if code != 0 or sys.exc_info()[0] is not None:
                sys.stderr.write(running.log)
    assert code == 0, f"the server ended with status {code}"
    assert not trouble_in(running.log), trouble_in(running.log)


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nothing listens on port {port} after {START_LIMIT} s"
        time.sleep(0.05)
    raise AssertionError(f"the server ended at once with status {process.returncode}")


def stop(process: subprocess.Popen[bytes]) -> int | str:
    """Ask it to end; the status it ended with, or what had to be done to it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"killed: still there {STOP_LIMIT:g} s after SIGTERM"
