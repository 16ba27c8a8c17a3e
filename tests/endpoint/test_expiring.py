# SPDX-License-Identifier: MIT
"""Streams whose tokens expire, by times that the test makes up."""

from __future__ import annotations

from typing import Any

from mcp_h11.endpoint.expiring import FEW_STREAMS, ExpiringStreams
from mcp_h11.http.reply import DONE, STREAMING, UNDECIDED


class Stream:
    def __init__(self, state: int = STREAMING) -> None:
        self.state = state

    @property
    def alive(self) -> bool:
        return self.state <= STREAMING


def streams(count: int, state: int = STREAMING) -> list[Any]:
    return [Stream(state) for _ in range(count)]


def test_a_stream_is_due_when_its_token_has_expired_and_once() -> None:
    kept, (first, second, third) = ExpiringStreams(), streams(3)
    kept.add(first, 300.0)
    kept.add(second, 100.0)
    kept.add(third, 100.0)
    assert kept.due(99.9) == []
    assert kept.due(100.0) == [second, third]
    assert kept.due(1e9) == [first] and kept.due(1e9) == [] and len(kept) == 0


def test_one_that_has_not_begun_waits_and_one_that_has_ended_is_dropped() -> None:
    kept, (begun, undecided, ended) = ExpiringStreams(), streams(3)
    for one in (begun, undecided, ended):
        kept.add(one, 100.0)
    undecided.state, ended.state = UNDECIDED, DONE
    assert kept.due(101.0) == [begun] and len(kept) == 1
    undecided.state = STREAMING
    assert kept.due(102.0) == [undecided] and len(kept) == 0


def test_streams_that_have_ended_are_not_kept_until_their_tokens_expire() -> None:
    kept, open_ones = ExpiringStreams(), streams(10)
    for one in open_ones:
        kept.add(one, 1e6)
    for _ in range(10_000):
        (one,) = streams(1)
        kept.add(one, 1e6)
        one.state = DONE
        assert len(kept) <= FEW_STREAMS
    assert kept.due(1e6) == open_ones


def test_open_streams_are_all_kept() -> None:
    kept, many = ExpiringStreams(), streams(5 * FEW_STREAMS)
    for number, one in enumerate(many):
        kept.add(one, 100.0 + number)
    assert kept.due(1e6) == many
