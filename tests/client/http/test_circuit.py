# SPDX-License-Identifier: MIT
"""When a circuit opens and closes, on a clock that the test moves."""

from __future__ import annotations

import pytest

from mcp_h11.client.http.circuit import Circuit


def test_the_last_of_so_many_failures_opens_it() -> None:
    circuit = Circuit(3, 60.0)
    assert [circuit.failed(now) for now in (0.0, 1_000.0)] == [False, False]
    assert (circuit.open_until, circuit.tripped) == (None, False)
    assert circuit.failed(2_000.0)
    assert (circuit.open_until, circuit.tripped) == (2_060.0, True)


def test_a_success_between_them_begins_the_count_anew() -> None:
    circuit = Circuit(2, 60.0)
    circuit.failed(0.0)
    circuit.close()
    assert not circuit.failed(1.0)
    assert circuit.failed(2.0)


def test_failures_at_the_edge_of_the_window_count_and_those_past_it_do_not() -> None:
    circuit = Circuit(2, 60.0, window=10.0)
    assert [circuit.failed(now) for now in (0.0, 10.5, 20.5)] == [False, False, True]


def test_a_trial_that_fails_opens_it_again_and_one_that_succeeds_closes_it() -> None:
    circuit = Circuit(2, 60.0)
    circuit.failed(0.0)
    assert circuit.failed(1.0)
    assert circuit.failed(61.0) and circuit.open_until == 121.0
    circuit.close()
    assert (circuit.open_until, circuit.tripped) == (None, False)
    assert not circuit.failed(121.0)


@pytest.mark.parametrize("wrong", [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, 1.0, 0.0), (1, -1.0, 1.0)])
def test_a_circuit_that_could_not_work_is_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Circuit(*wrong)
