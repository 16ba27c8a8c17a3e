# SPDX-License-Identifier: MIT
"""Percentiles and histograms, runs of several processes, and the memory of sessions that only listen."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11 import MCPServer, start_in_thread
from mcp_h11.bench import measuring, process
from mcp_h11.bench.anyserver import ANYWHERE
from mcp_h11.bench.drive import SILENCE_LIMIT
from mcp_h11.bench.lines import hold_idle
from mcp_h11.bench.measuring import Share, UsageWatch, drive_processes, histogram_of, measure, percentile, summary
from mcp_h11.bench.process import Failed, Group
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan
from mcp_h11.bench.talk import Wrong

linux = pytest.mark.skipif(not process.HAS_PROC, reason="it reads /proc")


@given(st.lists(st.floats(1e-7, 500.0), max_size=30).map(sorted))
def test_a_histogram_has_each_value_once_in_rows_that_join(values: list[float]) -> None:
    rows = histogram_of(values)
    assert sum(count for _, count in rows) == len(values)
    if values:
        assert rows[0][1] > 0 and rows[-1][1] > 0  # no empty row at either end
        assert values[-1] * 1e6 <= rows[-1][0] * 1.001
        ends = [end for end, _ in rows]
        assert all(1.3 < after / before < 1.7 for before, after in zip(ends, ends[1:], strict=False))


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50.0, 99.0, 100.0, 100.0]
    assert percentile([7.0], 0.01) == 7.0 and percentile([], 0.5) == 0.0


def test_a_run_without_an_operation_is_an_error_unless_errors_are_counted() -> None:
    from array import array

    share = Share(array("d"), 0.0, 0.0, 0, set())
    with pytest.raises(Wrong, match="not one operation"):
        summary(LoadPlan(SCENARIOS["call"], 1), [share], UsageWatch(None))
    found = summary(LoadPlan(SCENARIOS["call"], 1, errors_allowed=1), [share], UsageWatch(None))
    assert (found.operations, found.throughput, found.cpu_us, found.histogram) == (0, 0.0, None, [])


@pytest.fixture(scope="module")
def ours() -> Iterator[int]:
    server = MCPServer("ours")

    @server.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    with start_in_thread(server) as running:
        yield running.port


@linux
def test_what_the_server_used_is_charged_to_its_operations(ours: int) -> None:
    load = LoadPlan(ANYWHERE["call"], ours, tool="add", any_answer=True, duration=5.0, most=50, errors_allowed=1)
    found = measure(load, Group(os.getpid(), whole=False))
    assert found.cpu_us is not None and found.cpu_us > 0 and found.rss is not None and found.rss > 1_000_000
    assert found.server_share is not None and found.others_share is not None and found.answers == "json"


def test_a_server_that_ended_has_no_figures_of_its_processes_where_errors_are_counted() -> None:
    gone = Group(2**22 + 1)
    watch = UsageWatch(gone, bears_end=True)
    watch.start()
    watch.stop()
    assert watch.cpu is None and watch.rss is None
    with pytest.raises(Failed):
        UsageWatch(gone).start()


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_several_processes_share_the_connections(tmp_path: Path) -> None:
    program = tmp_path / "tools.py"
    program.write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    # In a process of its own: this one has threads, and a fork of it would have none of them.
    code = f"""
from mcp_h11.bench import process
from mcp_h11.bench.anyserver import ANYWHERE
from mcp_h11.bench.measuring import measure
from mcp_h11.bench.scenarios import LoadPlan
from mcp_h11.bench.talk import Wrong
import sys
with process.running([sys.executable, "-m", "mcp_h11", {str(program)!r}, "--port", "{{port}}"]) as server:
    load = LoadPlan(ANYWHERE["call"], server.port, tool="add", any_answer=True, concurrency=5, processes=2,
                    duration=0.3, warmup=0.1, errors_allowed=5)
    found = measure(load, server.group, tick=lambda driver: False)
    print(found.operations > 10, found.errors, found.ended)
    load.tool, load.errors_allowed = "none", 0
    try:
        measure(load, server.group)
    except Wrong as exc:
        print("Wrong" in str(exc))
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True {} \nTrue\n", done.stderr


class Threads:
    """What `multiprocessing` has, with threads, whose lines coverage counts."""

    Barrier = threading.Barrier

    def Pipe(self, duplex: bool) -> Any:
        return multiprocessing.Pipe(duplex)

    def Process(self, target: Any, args: Any, daemon: bool) -> threading.Thread:
        load, numbers, barrier, pipe, tick = args
        pipe = Connection(os.dup(pipe.fileno()))  # the other end is closed by the parent

        def run() -> None:
            if load.tool != "ends":
                target(load, numbers, barrier, pipe, tick)
            else:
                barrier.abort()
            pipe.close()

        return threading.Thread(target=run)


def test_shares_are_added_and_the_error_of_one_is_that_of_the_run(ours: int) -> None:
    load = LoadPlan(
        ANYWHERE["call"], ours, tool="add", any_answer=True, concurrency=5, processes=2, duration=5.0, most=20,
        warmup=0.0, all_warm=True, errors_allowed=1,
    )  # fmt: skip
    shares = drive_processes(load, UsageWatch(None), context=Threads())
    assert len(shares) == 2 and min(len(share.latencies) for share in shares) >= 20
    found = summary(load, shares, UsageWatch(None))
    assert found.operations == sum(len(share.latencies) for share in shares) and found.ended == "operations"
    load.tool, load.errors_allowed, load.all_warm = "none", 0, False
    with pytest.raises(Wrong, match="Wrong: "):
        drive_processes(load, UsageWatch(None), context=Threads())
    load.tool = "ends"
    with pytest.raises(Wrong, match="no more"):
        drive_processes(load, UsageWatch(None), context=Threads())


@pytest.mark.parametrize(("last", "told"), [("Wrong: x", "Wrong: x"), ("", "did not come together in time")])
def test_a_process_that_waited_for_one_that_failed_has_no_error_of_its_own(
    ours: int, last: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = LoadPlan(ANYWHERE["call"], ours, tool="add", any_answer=True, concurrency=2, processes=2)
    sent: list[Any] = []
    pipe: Any = SimpleNamespace(send=sent.append)
    broken = threading.Barrier(2)
    broken.abort()
    measuring.work(load, range(1), broken, pipe)
    assert sent == [""]

    def work(load: LoadPlan, numbers: range, barrier: Any, pipe: Any, tick: Any) -> None:
        barrier.abort()
        pipe.send(sent[0] if 0 in numbers else last)

    monkeypatch.setattr(measuring, "work", work)
    with pytest.raises(Wrong, match=told):
        drive_processes(load, UsageWatch(None), context=Threads())


class Silent(Threads):
    """A process that says nothing."""

    def Pipe(self, duplex: bool) -> Any:
        return self, self

    def close(self) -> None: ...

    def poll(self, limit: float) -> bool:
        return False

    def Process(self, target: Any, args: Any, daemon: bool) -> threading.Thread:
        def wait() -> None:
            with suppress(threading.BrokenBarrierError):
                args[2].wait()

        return threading.Thread(target=wait)


def test_a_process_that_does_not_end_is_given_up(ours: int) -> None:
    load = LoadPlan(ANYWHERE["call"], ours, processes=1)
    watch = UsageWatch(Group(2**22 + 1), bears_end=True)
    with pytest.raises(Wrong, match="does not end"):
        # The second wait for it is over after 0.1 s, for it never comes.
        drive_processes(replace(load, duration=0.1 - SILENCE_LIMIT), watch, context=Silent())


@linux
def test_the_memory_of_sessions_that_only_listen(ours: int) -> None:
    load = LoadPlan(SCENARIOS["session"], ours)
    idle = hold_idle(load, Group(os.getpid(), whole=False), 10, settle=0.0)
    assert idle.sessions == 10 and idle.seconds > 0
