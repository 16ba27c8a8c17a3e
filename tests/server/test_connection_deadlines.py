# SPDX-License-Identifier: MIT
"""How long a connection may take, by times and counts of bytes alone: no test here waits for a clock."""

from __future__ import annotations

import pytest

from mcp_h11.runtime.settings import Settings
from mcp_h11.server.deadlines import BODY, CLOSING, HEAD, IDLE, LINGER_TIME, LINGERING, NEW, Deadlines

SETTINGS = Settings(first_byte_timeout=3, head_timeout=5, body_timeout=7, idle_timeout=11, write_timeout=13)


@pytest.mark.parametrize(
    ("phase", "limit"),
    [(NEW, 3), (HEAD, 5), (BODY, 7), (IDLE, 11), (LINGERING, LINGER_TIME), (CLOSING, 13)],
)
def test_each_phase_is_over_at_its_own_limit_and_not_before(phase: int, limit: float) -> None:
    deadlines = Deadlines(100.0)
    assert not deadlines.is_over(100 + limit - 0.25, phase, SETTINGS)
    assert deadlines.is_over(100 + limit, phase, SETTINGS)


def test_a_phase_without_a_limit_is_never_over() -> None:
    assert not Deadlines(0.0).is_over(1e9, IDLE, Settings(idle_timeout=None))


def test_a_body_gets_time_for_each_of_its_bytes_once() -> None:
    deadlines = Deadlines(0.0)
    deadlines.begin_body(100.0)
    deadlines.credit(106.0, 400, 100)  # four seconds' worth
    assert not deadlines.is_over(110.75, BODY, SETTINGS)
    deadlines.credit(110.75, 400, 100)  # nothing new
    assert deadlines.is_over(111.0, BODY, SETTINGS)


def test_a_quick_body_gets_no_time_in_store() -> None:
    deadlines = Deadlines(0.0)
    deadlines.begin_body(100.0)
    deadlines.credit(101.0, 1_000_000, 100)
    assert not deadlines.is_over(107.75, BODY, SETTINGS) and deadlines.is_over(108.0, BODY, SETTINGS)


def test_without_a_rate_a_body_has_its_time_alone() -> None:
    deadlines = Deadlines(0.0)
    deadlines.begin_body(100.0)
    deadlines.credit(106.0, 400, None)
    assert deadlines.is_over(107.0, BODY, SETTINGS)


def test_a_next_body_is_credited_from_its_first_byte() -> None:
    deadlines = Deadlines(0.0)
    deadlines.begin_body(100.0)
    deadlines.credit(101.0, 5_000, 100)
    deadlines.begin_body(200.0)
    deadlines.credit(206.0, 200, 100)
    assert not deadlines.is_over(208.75, BODY, SETTINGS) and deadlines.is_over(209.0, BODY, SETTINGS)


def test_a_reader_is_stalled_once_it_took_nothing_for_the_whole_limit() -> None:
    deadlines = Deadlines(0.0)
    assert not deadlines.is_stalled(100.0, 0, 13)  # seen for the first time
    assert not deadlines.is_stalled(112.75, 0, 13)
    assert deadlines.is_stalled(113.0, 0, 13)


def test_each_byte_that_leaves_begins_the_time_of_a_reader_again() -> None:
    deadlines = Deadlines(0.0)
    deadlines.is_stalled(100.0, 0, 13)
    assert not deadlines.is_stalled(113.0, 1, 13) and not deadlines.is_stalled(125.75, 1, 13)
    assert deadlines.is_stalled(126.0, 1, 13)


def test_without_a_limit_no_reader_is_stalled() -> None:
    deadlines = Deadlines(0.0)
    deadlines.is_stalled(0.0, 0, None)
    assert not deadlines.is_stalled(1e9, 0, None)
