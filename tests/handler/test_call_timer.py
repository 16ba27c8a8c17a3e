# SPDX-License-Identifier: MIT
"""The one timer of all calls with a deadline, on a loop whose time stands until the test moves it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from mcp_h11.handler.deadlines import BETWEEN_LOOKS, CallTimer, Deadline


class Handle:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of a loop as a timer needs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Handle] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Handle:
        self.made += 1
        self.timers.append(Handle(at, call))
        return self.timers[-1]

    def set(self) -> list[float]:
        """The times of the timers that are set."""
        self.timers = [one for one in self.timers if not one.cancelled]
        return [one.at for one in self.timers]

    def until(self, now: float) -> None:
        """Time goes on, and the timers of that time fire, each at its own."""
        while due := [one for one in self.timers if not one.cancelled and one.at <= now]:
            first = min(due, key=lambda one: one.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = now


@pytest.fixture
def loop() -> Any:
    return Loop()


def test_calls_that_end_in_time_set_one_timer(loop: Any) -> None:
    timer = CallTimer(loop)
    for _ in range(1_000):
        loop.until(loop.now + 0.001)
        Deadline(loop, 60.0, None, timer).close()
    assert loop.made == 1
    loop.until(loop.now + 60.0)
    assert not loop.set()  # no call runs, so nothing is looked at any more


def test_each_call_ends_at_its_time(loop: Any) -> None:
    timer, chance, ended = CallTimer(loop), random.Random(7), {}
    deadlines = []
    for number in range(200):
        deadline = Deadline(loop, chance.uniform(0.0, 5.0), None, timer)
        deadlines.append((number, deadline))
    step = 0.001
    while len(ended) < len(deadlines):
        loop.until(loop.now + step)
        for number, deadline in deadlines:
            if deadline.expired:
                ended.setdefault(number, loop.now)
        assert len(loop.set()) <= 1
    for number, deadline in deadlines:
        assert 0 <= ended[number] - deadline.at <= BETWEEN_LOOKS + 2 * step
    assert not loop.set()


def test_a_call_that_is_held_has_its_time_afterwards(loop: Any) -> None:
    timer = CallTimer(loop)
    one = Deadline(loop, 1.0, None, timer)
    one.hold()
    loop.until(loop.now + 50.0)
    assert not one.expired and not loop.set()  # without a ceiling it waits for its client alone
    one.release()
    loop.until(loop.now + 0.9)
    assert not one.expired
    loop.until(loop.now + 0.2)
    assert one.expired


def test_progress_moves_the_time_and_sets_no_timer(loop: Any) -> None:
    timer = CallTimer(loop)
    one = Deadline(loop, 1.0, 3.0, timer)
    for _ in range(25):
        loop.until(loop.now + 0.1)
        one.extend()
        assert not one.expired
    assert loop.made <= 5
    loop.until(102.9)
    assert not one.expired
    loop.until(103.1)
    assert one.expired and one.reason() == "Timed out: it took longer than 3 s"


def test_an_end_with_no_call_left_behind_sets_nothing(loop: Any) -> None:
    timer = CallTimer(loop)
    Deadline(loop, 1.0, None, timer)
    timer.close()
    assert not loop.set()
