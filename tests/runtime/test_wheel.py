# SPDX-License-Identifier: MIT
"""A wheel of deadlines, by times that the test makes up: when an item is due, and how much each tick looks at."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.runtime.wheel import CROWD, Wheel


class Item:
    def __init__(self, name: int = 0) -> None:
        self.name = name
        self.beat = 0


def due(wheel: Wheel[Item], now: float) -> list[Item]:
    """All that one tick takes."""
    wheel.turn(now)
    found: list[Item] = []
    while some := wheel.take(7):
        found += some
    return found


def test_an_item_is_due_in_the_beat_of_its_time_and_once() -> None:
    wheel, item = Wheel[Item](1.0), Item()
    wheel.turn(100.0)
    wheel.put(item, 103.0)
    assert [due(wheel, now) for now in (101.0, 102.0, 103.0, 104.0)] == [[], [], [item], []]
    assert item.beat == 0 and len(wheel) == 0


def test_a_time_that_has_passed_is_due_at_the_next_tick_and_not_at_this_one() -> None:
    wheel, item = Wheel[Item](1.0), Item()
    wheel.turn(100.0)
    wheel.put(item, 5.0)
    assert wheel.take(1) == []
    assert due(wheel, 101.0) == [item]


def test_a_tick_that_is_late_finds_all_that_became_due_meanwhile() -> None:
    wheel, items = Wheel[Item](1.0), [Item(n) for n in range(5)]
    for number, item in enumerate(items):
        wheel.put(item, 10.0 + number)
    assert due(wheel, 60.0) == items


def test_two_ticks_in_one_beat_count_for_two() -> None:
    wheel, item = Wheel[Item](1.0), Item()
    wheel.turn(100.0)
    wheel.put(item, 100.0)
    assert due(wheel, 100.999) == [item]  # by rounding, or by a clock that is early


def test_an_item_moves_leaves_and_is_never_due_where_its_time_is_infinite() -> None:
    wheel, item = Wheel[Item](1.0), Item()
    wheel.put(item, 50.0)
    wheel.put(item, 20.0)
    assert len(wheel) == 1 and due(wheel, 20.0) == [item] and due(wheel, 50.0) == []
    wheel.put(item, 70.0)
    wheel.remove(item)
    wheel.remove(item)
    assert len(wheel) == 0 and due(wheel, 70.0) == []
    wheel.put(item, 80.0)
    wheel.put(item, inf)
    assert item.beat == 0 and due(wheel, 1e6) == []


def test_take_gives_no_more_than_asked_and_the_rest_stays_due() -> None:
    wheel, items = Wheel[Item](1.0), [Item(n) for n in range(10)]
    for item in items:
        wheel.put(item, 10.0)
    wheel.turn(10.0)
    assert [len(wheel.take(4)) for _ in range(4)] == [4, 4, 2, 0]
    for item in items:
        wheel.put(item, 11.0)
    wheel.turn(11.0)
    wheel.take(4)
    wheel.remove(items[0])  # of those that are left: its connection was lost while the pass went on
    assert len(wheel.take(100)) == 5


def test_the_items_of_one_moment_spread_over_the_time_by_which_they_may_be_early() -> None:
    wheel = Wheel[Item](1.0, early=4.0)
    items = [Item(n) for n in range(20 * CROWD)]
    for item in items:
        wheel.put(item, 100.0)
    counts = [len(due(wheel, 90.0 + tick)) for tick in range(20)]
    assert sum(counts) == len(items)
    assert counts[:6] == [0] * 6 and counts[11:] == [0] * 9  # never too late, and never earlier than that
    assert counts[6] == counts[10] == 10 * CROWD  # one more round halves each of the two again


@pytest.mark.parametrize("early", [0.5, 1.0, 1.9, 4.7])
@pytest.mark.parametrize("begun", [0.0, 0.3, 0.95])
def test_an_item_of_a_crowd_is_early_by_no_more_than_that(early: float, begun: float) -> None:
    """Wherever in a beat the ticks come: an item that is looked at too soon is looked at twice."""
    wheel = Wheel[Item](1.0, early)
    wheel.turn(100.0 + begun)
    for number in range(3 * CROWD):
        wheel.put(Item(number), 115.0 + begun)
    counts = {tick: len(due(wheel, 100.0 + tick + begun)) for tick in range(1, 17)}
    sooner = 15 - int(early)
    assert {tick: count for tick, count in counts.items() if count} == (
        {15: 3 * CROWD} if sooner == 15 else {sooner: 3 * CROWD // 2, 15: 3 * CROWD // 2}
    )


def test_few_items_are_not_early() -> None:
    wheel = Wheel[Item](1.0, early=4.0)
    for number in range(CROWD):
        wheel.put(Item(number), 100.0)
    assert due(wheel, 99.0) == [] and len(due(wheel, 100.0)) == CROWD


@pytest.mark.parametrize("step", [1.0, 0.25, 0.005, 1 / 3])
@given(data=st.data())
def test_each_deadline_is_seen_at_the_first_tick_that_has_passed_it(step: float, data: st.DataObject) -> None:
    """As a clock would see it that looks at everything at each tick."""
    wheel = Wheel[Item](step)
    now = start = data.draw(st.floats(0.0, 1e6))
    ends: dict[Item, float] = {}
    wheel.turn(now)
    for number, wait in enumerate(data.draw(st.lists(st.floats(0.0, 20 * step), max_size=8))):
        item = Item(number)
        ends[item] = start + wait
        wheel.put(item, ends[item])
    while ends:
        now += step * (1 + data.draw(st.floats(0.0, 2.0)))  # a timer is never early
        seen = due(wheel, now)
        for item in seen:
            if ends[item] <= now:
                del ends[item]
            else:
                wheel.put(item, ends[item])
        assert all(end > now for end in ends.values())
