# SPDX-License-Identifier: MIT
"""`bench/pauses.py`: the longest pause of a server by its own work, of figures with and without the machine's noise."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
SECOND = 1_000_000_000


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("pauses")


def longest(pauses: ModuleType, *laps: tuple[int, int, int, int]) -> int:
    return int(pauses.longest_pause([pauses.Lap(*lap) for lap in laps]))


def test_the_pause_is_the_most_work_within_one_call(pauses: ModuleType) -> None:
    assert longest(pauses, (100, 0, 60, 0), (9_000, 0, 8_500, 0), (100, 0, 60, 0)) == 8_500
    assert longest(pauses) == 0


def test_a_wait_for_a_cpu_is_no_pause(pauses: ModuleType) -> None:
    # The server waited in the first, and the caller in the second, while the server worked on.
    assert longest(pauses, (9_000, 0, 60, 8_900), (9_000, 8_900, 8_960, 0)) == 60


def test_work_that_is_counted_late_goes_to_the_calls_before(pauses: ModuleType) -> None:
    # A thread worked for 3,000, and for 50 of the next call; the kernel added all of it within that one.
    assert longest(pauses, (3_000, 0, 0, 0), (50, 0, 3_050, 0)) == 3_000
    assert longest(pauses, (100, 0, 0, 0), (100, 0, 0, 0), (100, 0, 300, 0)) == 100


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="the kernel counts no waits of threads")
def test_a_watch_reads_the_work_of_a_process(pauses: ModuleType) -> None:
    watch = pauses.Watch([os.getpid()])
    try:
        watch.lap()
        began = time.thread_time_ns()
        while time.thread_time_ns() - began < SECOND // 20:
            pass
        watch.lap()
        # The kernel's ticks are 10 ms apart at most, and it may lack the time since the last one.
        assert max(laps[1].worked for laps in watch.laps) >= SECOND // 50
        assert watch.longest() >= 0
    finally:
        watch.close()


@pytest.mark.skipif(sys.platform != "linux", reason="growth.py reads /proc")
def test_a_run_without_such_counts_has_no_pause(pauses: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = importlib.import_module("growth")

    def refused(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(growth, "Watch", refused)
    assert growth.watching([os.getpid()]) is None
