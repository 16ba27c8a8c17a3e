# SPDX-License-Identifier: MIT
"""The times at which the supervisor restarts a child, on a clock that the test moves."""

from __future__ import annotations

import pytest

from mcp_h11.bridge.supervisor import CrashLoop, Supervisor


def delays(supervisor: Supervisor, count: int, apart: float) -> list[float]:
    """The waits after `count` crashes that are `apart` seconds apart."""
    return [supervisor.failed(number * apart) for number in range(count)]


def test_each_wait_is_longer_up_to_the_longest() -> None:
    assert delays(Supervisor(random=lambda: 0.0), 8, 100.0) == [1, 2, 4, 8, 16, 24, 24, 24]
    # The jitter is added, and the longest wait includes it.
    assert delays(Supervisor(random=lambda: 1.0), 8, 100.0) == [1.25, 2.5, 5, 10, 20, 30, 30, 30]


def test_what_ended_together_does_not_start_together() -> None:
    waits = {delays(Supervisor(), 9, 100.0)[-1] for _ in range(20)}
    assert len(waits) > 1 and all(24 <= wait <= 30 for wait in waits)


def test_the_two_ends_of_the_range_may_be_one() -> None:
    assert delays(Supervisor(2.0, 2.0, random=lambda: 1.0), 3, 100.0) == [2, 2, 2]


def test_four_ends_in_a_minute_are_borne_and_the_fifth_opens_the_circuit() -> None:
    supervisor = Supervisor(random=lambda: 0.0)
    assert delays(supervisor, 4, 15.0) == [1, 2, 4, 8]
    assert supervisor.open_until is None
    with pytest.raises(CrashLoop) as caught:
        supervisor.failed(60.0)  # the first crash was at 0, exactly sixty seconds ago
    assert (caught.value.until, caught.value.crashes, supervisor.open_until) == (120.0, 5, 120.0)
    assert "5 times" in str(caught.value) and "60 s" in str(caught.value)


def test_five_ends_in_a_little_more_than_a_minute_do_not() -> None:
    supervisor = Supervisor(random=lambda: 0.0)
    delays(supervisor, 4, 15.0)
    assert supervisor.failed(60.001) == 16


def test_the_start_after_an_open_circuit_is_a_try() -> None:
    supervisor = Supervisor(crash_limit=2, open_for=10.0, random=lambda: 0.0)
    supervisor.failed(0.0)
    with pytest.raises(CrashLoop):
        supervisor.failed(1.0)
    supervisor.succeeded(11.0)
    assert supervisor.open_until is None
    with pytest.raises(CrashLoop) as caught:  # one more crash opens the circuit again
        supervisor.failed(40.9)
    assert (caught.value.until, caught.value.crashes) == (50.9, 3)
    with pytest.raises(CrashLoop):  # a child that never started gets no more tries either
        supervisor.failed(500.0)


def test_what_ran_long_enough_begins_anew() -> None:
    supervisor = Supervisor(crash_limit=2, open_for=10.0, stable=30.0, random=lambda: 0.0)
    supervisor.failed(0.0)
    with pytest.raises(CrashLoop):
        supervisor.failed(1.0)
    supervisor.succeeded(11.0)
    assert supervisor.failed(41.0) == 1
    with pytest.raises(CrashLoop) as caught:
        supervisor.failed(42.0)
    assert caught.value.crashes == 2


def test_what_ran_for_less_goes_on_where_it_was() -> None:
    supervisor = Supervisor(stable=30.0, random=lambda: 0.0)
    assert supervisor.failed(0.0) == 1
    supervisor.succeeded(1.0)
    assert supervisor.failed(30.9) == 2


@pytest.mark.parametrize("wrong", [{"crash_limit": 0}, {"crash_window": 0.0}, {"open_for": 0.0}, {"stable": -1.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Supervisor(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backoff"):
        Supervisor(restart_min=0.0)


def test_what_somebody_else_starts_is_never_left_alone() -> None:
    supervisor = Supervisor(random=lambda: 1.0)
    supervisor.circuit = False
    waits = [supervisor.failed(float(number)) for number in range(20)]
    assert waits == sorted(waits) and waits[-1] == 30.0
    assert supervisor.open_until is None
