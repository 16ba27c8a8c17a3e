# SPDX-License-Identifier: MIT
"""The parts of a server with workers that need no process: sums, restarts, limits and refusals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from serving import UVLOOP
from worker_processes import LIMIT, ROOT

from mcp_h11 import Settings
from mcp_h11.runtime.metrics import Metrics
from mcp_h11.server import acceptor as acceptor_module
from mcp_h11.server.acceptor import YIELD_TIME, Acceptor
from mcp_h11.server.child import WAIT_JITTER, Restarts, WorkerProcess, ending
from mcp_h11.server.server import MAX_WORKERS
from mcp_h11.server.spread import MOST_AHEAD, Spread, shared_memory
from mcp_h11.server.totals import Totals
from mcp_h11.server.workers import Workers

pytestmark = pytest.mark.anyio


def text_of(calls: int, sessions: int, lag: float, tool: str = "add") -> str:
    metrics = Metrics()
    for _ in range(calls):
        metrics.operation("tools/call", "", 0.25, tool)
    metrics.responses[200] = calls
    gauges: dict[str, tuple[str, float]] = {
        "mcp_h11_sessions": ("Open sessions.", sessions),
        "mcp_h11_loop_lag_seconds": ("How late.", lag),
    }
    return metrics.render(gauges, 10 * calls, 0).decode()


def test_one_text_is_its_own_sum() -> None:
    text = text_of(3, 2, 0.5)
    assert Totals().render([text]) == text


def test_counters_and_gauges_add_up_and_the_lag_is_the_largest() -> None:
    assert Totals().render([text_of(3, 2, 0.5), text_of(4, 1, 0.25)]) == text_of(7, 3, 0.5)


def test_series_that_only_one_worker_has_stand_in_their_family() -> None:
    lines = Totals().render([text_of(1, 0, 0), text_of(2, 0, 0, "other")]).splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("# TYPE")]
    ours = [number for number, line in enumerate(lines) if line.startswith("mcp_server_operation_duration_seconds")]
    assert ours == list(range(heads[0] + 1, heads[0] + 1 + 2 * 17))
    assert sum('gen_ai_tool_name="other",le="+Inf"} 2' in line for line in lines) == 1


def test_counters_of_workers_that_ended_stay_and_their_gauges_go() -> None:
    totals = Totals()
    totals.keep(text_of(3, 2, 9.0))
    totals.keep("")  # one that never told anything
    assert totals.render([text_of(4, 1, 0.25)]) == text_of(7, 1, 0.25)
    assert 'mcp_h11_responses_total{http_response_status_code="200"} 3\n' in totals.render([])
    assert totals.render([], "more 1\n").endswith("more 1\n")


def test_each_restart_waits_longer_up_to_a_limit_and_time_makes_good() -> None:
    restarts = Restarts(1.0, 30.0, 30.0)
    waits = [restarts.ended(29.9) for _ in range(8)]
    for wait, least in zip(waits, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert min(least, 30) <= wait <= min(least * (1 + WAIT_JITTER), 30)
    assert restarts.ends == 8
    assert restarts.ended(30.0) < 1 + WAIT_JITTER + 0.001 and restarts.ends == 1
    for _ in range(2000):  # no number grows too large
        assert restarts.ended(0.0) <= 30


def test_an_end_is_told_in_words() -> None:
    assert ending(0) == "ended with exit code 0"
    assert ending(-9) == "was ended by SIGKILL"
    assert ending(-250) == "was ended by signal 250"


@pytest.mark.parametrize("count", [0, -1, MAX_WORKERS + 1])
def test_the_number_of_workers_has_a_limit(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {MAX_WORKERS} workers, not {count}"):
        Workers(lambda channel: [], count, Settings())
    assert Workers(lambda channel: [], MAX_WORKERS, Settings()).count == MAX_WORKERS


def test_a_system_without_descriptors_to_hand_down_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        with pytest.raises(ValueError, match="hands no sockets down"):
            Workers(lambda channel: [], 2, Settings())


async def test_workers_are_started_in_the_main_thread_alone() -> None:
    workers = Workers(lambda channel: [], 2, Settings(), port=0)
    with pytest.raises(RuntimeError, match="main thread"):
        await anyio.to_thread.run_sync(workers.run)


def test_a_channel_to_nobody_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    code = "import sys; from mcp_h11.server.worker import Channel; Channel(int(sys.argv[1]))"
    with contextlib.closing(theirs):
        ran = subprocess.run(
            [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()], timeout=LIMIT,
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
    assert ran.returncode == 1 and ran.stderr.endswith("EOFError: the parent is gone\n")


NO_MESSAGE = "import os, sys; os.write(int(sys.argv[1]), b'no JSON\\n')"


@pytest.mark.parametrize(("code", "told"), [("pass", 0), (NO_MESSAGE, 1)])
async def test_a_worker_that_ends_before_it_has_read_its_channel_is_no_error(
    code: str, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its end is told elsewhere.  One that says what is no message is told here, and ends."""
    ours, theirs = socket.socketpair()
    ours.sendall(b"{}\n")  # lies there unread, so the system resets the channel at the end of the process
    process = subprocess.Popen([sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    worker = WorkerProcess(0, process, ours)
    with anyio.fail_after(LIMIT):
        await worker.listen(lambda _: None)
    await anyio.to_thread.run_sync(process.wait)
    errors = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [message.startswith(f"worker {process.pid} cannot be understood") for message in errors] == [True] * told


# --- the spread of connections ---------------------------------------------------------------------------------------


def test_a_worker_that_is_ahead_of_the_last_one_leaves_a_connection_to_others() -> None:
    descriptor = shared_memory(3)
    ours, theirs = Spread(descriptor, 3), Spread(descriptor, 3)  # as in two processes
    os.close(descriptor)
    for index in range(3):
        ours.leave(index)
    theirs.tell(1, 5)
    assert not theirs.is_ahead(5)  # no other worker accepts
    ours.tell(0, 3)
    assert not theirs.is_ahead(3 + MOST_AHEAD) and theirs.is_ahead(3 + MOST_AHEAD + 1)
    ours.leave(0)
    assert not theirs.is_ahead(5)


def test_the_memory_needs_no_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    test_a_worker_that_is_ahead_of_the_last_one_leaves_a_connection_to_others()


class Counting(asyncio.BufferedProtocol):
    """Notes each connection of one acceptor, and closes it."""

    def __init__(self, name: str, made: Callable[[Any], None] | None, seen: list[str]) -> None:
        self.name, self.made, self.seen = name, made, seen

    def connection_made(self, transport: Any) -> None:
        if self.made is not None:
            self.made(transport)
        self.seen.append(self.name)
        transport.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_a_connection_that_others_leave_is_accepted_after_a_moment(anyio_backend_name: str) -> None:
    seen: list[str] = []
    ahead = {"first": True, "second": False}
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        port = sock.getsockname()[1]
        acceptors = [
            Acceptor(
                sock.dup(), None, partial(Counting, name, seen=seen), lambda peer: False, set(),
                timeout=None, backlog=10, leaves=lambda name=name: ahead[name],
            )
            for name in ahead
        ]  # fmt: skip

        async def connect(count: int) -> None:
            for number in range(count):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                with anyio.fail_after(LIMIT):
                    while len(seen) <= number:
                        await anyio.sleep(0.001)
                writer.close()
                await writer.wait_closed()
                await anyio.sleep(10 * YIELD_TIME)  # until no acceptor is at the end of its moment

        await connect(10)
        assert seen == ["second"] * 10
        seen.clear()
        ahead["second"] = True
        await connect(10)  # both leave them, and none is lost
        assert len(seen) == 10
        for acceptor in acceptors:
            acceptor.close()


@pytest.mark.parametrize("plain", [True, False], ids=["made-at-once", "made-in-a-task"])
async def test_a_connection_counts_as_a_handshake_until_it_is_made_and_is_dropped_at_the_end(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not plain:  # as on loops whose transports are not asyncio's
        monkeypatch.setattr(acceptor_module, "fits", lambda loop: False)
    elif not acceptor_module.fits(asyncio.get_running_loop()):
        pytest.skip("this loop makes its own transports")
    seen: list[str] = []
    coming: set[Any] = set()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        acceptor = Acceptor(
            sock.dup(), None, partial(Counting, "made", seen=seen), lambda peer: len(coming) + len(seen) >= 2, coming,
            timeout=None, backlog=10,
        )  # fmt: skip
        clients = [socket.create_connection(sock.getsockname(), LIMIT) for _ in range(3)]
        for count in (1, 2, 2):  # all in one turn of the loop; the third one has no room
            assert acceptor._accept_one()
            assert (len(coming), len(seen)) == ((0, count) if plain else (count, 0))
        acceptor.close()
        with anyio.fail_after(LIMIT):
            while coming:
                await anyio.sleep(0)
        await anyio.sleep(0)  # the turn in which the transports of closed connections end
        assert len(seen) == (2 if plain else 0), "a task that was dropped makes no connection"
        for client in clients:
            with client:
                assert client.recv(1) == b""
