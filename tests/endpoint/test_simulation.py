# SPDX-License-Identifier: MIT
"""A fleet on a virtual clock, with faults from a seed, keeps its promises: `simulation` lists them.

A failure names its seed.  `play(seed, detailed=True)` runs it again, with every operation of the store in the trace.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from examples import whole
from faulty_store import KINDS, LOSES
from simulated_moves import play_moves
from simulation import digest, play

SUPPORT = Path(__file__).resolve().parents[1] / "support"
TRIED = 150 if whole() else 10  # seeds; those behind them are the long run's
BATCHES = 10
LONG_SCHEDULES = int(os.environ.get("MCP_H11_SCHEDULES", "20000"))
LONG_TIME = float(os.environ.get("MCP_H11_SCHEDULE_SECONDS", "900"))  # of the long run, at most


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_promises_of_a_fleet_are_kept(batch: int) -> None:
    for seed in range(batch, TRIED, BATCHES):
        play(seed)


FELL_OUT = (
    (259, frozenset({LOSES})),  # the reader of a call whose end was lost twice
    (264, frozenset[str]()),  # equal names of two clients' calls
    (13_674, None),  # a worker that made keys of its own
    (16_667, None),  # a reader that did not hear of the end of its session
    (18_600, None),  # a worker that could not look at the keys when it was told of others
    (30_003, frozenset(KINDS)),  # a worker that never saw the store with its data
    (42_654, frozenset(KINDS)),  # a worker that died with `notifications/initialized`, which it had answered
    (43_307, frozenset(KINDS)),  # an answer of the store that came after the next loss of its data
    (50_689, frozenset(KINDS)),  # a client that went on listening in a session which was 404 elsewhere
)


@pytest.mark.parametrize(("seed", "kinds"), FELL_OUT)
def test_a_schedule_that_fell_out_once_does_not_again(seed: int, kinds: frozenset[str] | None) -> None:
    play(seed, kinds)


MOVES = 400 if whole() else 4  # schedules of moves; those behind them are the long run's
# Where a notice waited, and another one with the same text was left out, after it had been read at another worker.
MOVES_FELL_OUT = (148,)


def test_each_notice_comes_once_while_streams_move() -> None:
    for seed in (*MOVES_FELL_OUT, *range(MOVES)):
        play_moves(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fault_is_made(kind: str) -> None:
    assert any(play(seed, frozenset((kind,))).chaos.made[kind] for seed in range(3))


SCRIPT = "import simulation; print(*(simulation.digest(simulation.play(seed)) for seed in (3, 4, 5)))"


@pytest.mark.long
def test_a_seed_is_one_schedule_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SUPPORT)},
            check=True, capture_output=True, text=True, timeout=60,
        ).stdout
        for hash_seed in ("1", "2")
    }  # fmt: skip
    assert digests == {" ".join(digest(play(seed)) for seed in (3, 4, 5)) + "\n"}


@pytest.mark.long
def test_the_promises_are_kept_in_thousands_of_schedules() -> None:
    end = time.monotonic() + LONG_TIME
    for seed in range(TRIED, TRIED + LONG_SCHEDULES):
        if time.monotonic() > end:
            break
        play(seed)
        play_moves(seed)
