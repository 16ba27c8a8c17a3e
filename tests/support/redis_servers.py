# SPDX-License-Identifier: MIT
"""Real Redis servers for tests, each a process of its own in a folder of its own.

A machine without `redis-server` skips these tests; where MCP_H11_REQUIRE_ALL=1 says that nothing may be missing, they
fail.  `control` is a plain client of redis-py, for what a test does to a server or looks up in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from provision import everything_required, free_port

START_LIMIT = 60.0  # seconds until a server answers


def needs_redis(program: str = "redis-server") -> str:
    """The path of `redis-server`, or of a program that takes the same options.

    Skips the test where there is none; fails it where nothing may be missing, unless it is Valkey, which not every
    system has as a package.
    """
    path = shutil.which(program)
    if path is None and program != "redis-server":
        pytest.skip(f"needs {program}, which is not installed here")
    if path is None:
        reason = "needs redis-server, version 7 or later (apt-get install redis-server, brew install redis)"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    return path


class RedisServer:
    """One server: on a Unix socket, or on a port of the loopback address."""

    def __init__(self, folder: Path, *options: str, port: int = 0, program: str = "redis-server") -> None:
        self.folder = folder
        self.program = program
        self.port = port
        self.socket = str(folder / "redis.sock")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, prefix: str = "mcp") -> str:
        """For `RedisStore.from_url`."""
        where = f"redis://127.0.0.1:{self.port}" if self.port else f"redis+unix://{self.socket}"
        return f"{where}?prefix={prefix}"

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers."""
        self.launch(*more)
        self.wait_until(lambda: self.ask("PING") is not None)

    def launch(self, *more: str) -> None:
        """Start it, and do not wait."""
        listen = ("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", self.socket)
        kept = () if "--save" in (*self._options, *more) else ("--save", "")
        self.launch_with(*listen, *kept, *self._options, *more)

    def launch_with(self, *arguments: str) -> None:
        """Start it with these arguments alone, and do not wait."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                (needs_redis(self.program), *arguments),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until(self, looks: Callable[[], bool]) -> None:
        """Wait until something is so, while the server lives."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                if looks():
                    return
            assert self._process is not None and self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"not so after {START_LIMIT:g} s: {self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        """The end of what it wrote."""
        return (self.folder / "log").read_text("utf-8", "replace")[-2000:]

    @contextlib.contextmanager
    def control(self, **options: object) -> Iterator[redis.Redis]:
        """A client for the test itself."""
        client = redis.Redis(unix_socket_path=self.socket, decode_responses=True, socket_timeout=30, **options)
        with contextlib.closing(client):
            yield client

    def ask(self, *command: object) -> object:
        """Run one command, outside of the store."""
        with self.control() as client:
            return client.execute_command(*command)

    def keys(self, prefix: str) -> list[str]:
        """All keys under a prefix but that of the format."""
        with self.control() as client:
            return sorted(key for key in client.scan_iter(f"{prefix}:*", count=1000) if key != f"{prefix}:v")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The process stands still: it accepts connections, since the kernel does, and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def redis_server(
    *options: str, port: bool = False, started: bool = True, program: str = "redis-server"
) -> Iterator[RedisServer]:
    """A server in a folder of its own, which ends with the block."""
    needs_redis(program)
    with tempfile.TemporaryDirectory(prefix="mcp-") as name:  # short: the path of a socket has 108 bytes at most
        server = RedisServer(Path(name), *options, port=free_port() if port else 0, program=program)
        try:
            if started:
                server.start()
            yield server
        finally:
            server.kill()


def fresh_prefix() -> str:
    """A prefix that no other test uses."""
    return f"t{os.urandom(6).hex()}"
