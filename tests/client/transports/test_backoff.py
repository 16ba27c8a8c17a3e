# SPDX-License-Identifier: MIT
"""How long to wait before trying again."""

from __future__ import annotations

import pytest

from mcp_h11.client.transports.backoff import LONGEST, Backoff


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_it_is_from_one_to_sixty_seconds_and_twice_as_long_each_time(chance: float) -> None:
    backoff = Backoff(random=lambda: chance)
    waits = [backoff.delay(failures) for failures in (0, 1, 2, 3, 4, 5, 6, 7, 100, 10_000)]
    stretched = 1 + 0.1 * chance
    assert waits[:6] == pytest.approx([n * stretched for n in (1, 2, 4, 8, 16, 32)])
    # The longest has its jitter, too, and is no longer for it.
    assert waits[6:] == pytest.approx([LONGEST / 1.1 * stretched] * 4) and max(waits) <= LONGEST


def test_those_who_failed_together_come_back_one_after_the_other() -> None:
    for failures in (0, 3, 50):
        assert len({Backoff().delay(failures) for _ in range(20)}) > 10


def test_it_is_never_earlier_than_was_asked_for() -> None:
    early, late = Backoff(random=lambda: 0.0), Backoff(random=lambda: 1.0)
    assert (early.delay(0, at_least=90.0), early.delay(3, at_least=2.0)) == (90.0, 8.0)
    assert (late.delay(0, at_least=90.0), late.delay(3, at_least=2.0)) == pytest.approx((99.0, 8.8))


@pytest.mark.parametrize("wrong", [{"first": 0}, {"first": 2.0, "most": 1.0}, {"factor": 0.5}, {"jitter": -0.1}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="backoff"):
        Backoff(**wrong)
