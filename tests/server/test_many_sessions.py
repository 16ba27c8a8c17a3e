# SPDX-License-Identifier: MIT
"""Ten thousand sessions, each with an open stream, in one process: what each holds, and that all hear a notice."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from many_sessions import INITIALIZE, INITIALIZED, LIST_CHANGED, get, post, raise_descriptor_limit, session_of

SESSIONS = 10_000
WARM_UP = 500  # sessions before the first look at the memory
RESERVED = 200  # descriptors for everything else
LIMIT = 30.0  # seconds for one answer
BUDGETS = json.loads((Path(__file__).resolve().parents[2] / "bench" / "budget.json").read_text())
KIB_EACH = BUDGETS["sizes"]["idle_kib"] * (1 + BUDGETS["slack"])
HEAR_WITHIN = 10.0  # seconds from the notice until the last one has heard it


class Child:
    """The server's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = self.answer()

    def answer(self) -> int:
        assert self._process.stdout is not None
        return int(json.loads(self._process.stdout.readline()))

    def ask(self, command: str) -> int:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        return self.answer()


@contextmanager
def child() -> Iterator[Child]:
    program = Path(__file__).resolve().parents[1] / "support" / "many_sessions.py"
    process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Child(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def room() -> Iterator[int]:
    """How many sockets this process and the server may have each."""
    resource: Any = pytest.importorskip("resource", reason="descriptor limits are POSIX's")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield raise_descriptor_limit() - RESERVED
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    return data


def opened(port: int) -> socket.socket:
    """A session with an open stream."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    sock.sendall(post(INITIALIZE))
    session = session_of(read_until(sock, b"}}"))
    sock.sendall(post(INITIALIZED, session))
    assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 202 ")
    sock.sendall(get(session))
    assert b"200 OK" in read_until(sock, b"\n\n\r\n")
    return sock


@pytest.mark.long
def test_ten_thousand_sessions_with_streams_are_held_and_all_of_them_hear(room: int, capsys: Any) -> None:
    on_sockets = min(SESSIONS, room)
    with child() as server:
        sockets = [opened(server.port) for _ in range(WARM_UP)]
        before = server.ask("memory")
        sockets += [opened(server.port) for _ in range(on_sockets - WARM_UP)]
        each = (server.ask("memory") - before) / (on_sockets - WARM_UP) / 1024
        in_memory = SESSIONS - on_sockets
        if in_memory:
            with capsys.disabled():  # said whatever the options, since less was tried than the name says
                print(f"\ndescriptors for {on_sockets} sessions only: {in_memory} more are on links in memory")
            server.ask(f"open {in_memory}")
        began = time.monotonic()
        server.ask("notify")
        for sock in sockets:
            heard = read_until(sock, LIST_CHANGED)
            assert heard.count(LIST_CHANGED) == 1
        assert server.ask("heard") == in_memory
        took = time.monotonic() - began
        # Nobody hears it twice: a second notice is the next thing that comes.
        server.ask("notify")
        for sock in sockets[:: len(sockets) // 100]:
            assert read_until(sock, LIST_CHANGED).count(LIST_CHANGED) == 1
        for sock in sockets:
            sock.close()
    print(f"{each:.2f} KiB each, all heard within {took:.2f} s")
    assert took < HEAR_WITHIN
    assert each <= KIB_EACH
