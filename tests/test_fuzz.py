# SPDX-License-Identifier: MIT
"""A moment of fuzzing: each changed input is accepted, or refused with a documented error; no other outcome is allowed.

The targets are in `fuzzing`; `bench/soak.py --fuzz` runs them for as long as one likes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random

import fuzzing
import pytest
from examples import whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
ROUNDS = 4 if whole() else 1  # dialogues of one draw
RANDOMS = st.randoms(use_true_random=False)


@pytest.mark.parametrize("target", fuzzing.CODEC_TARGETS)
def test_a_codec_reads_what_was_changed_or_refuses_it(target: str) -> None:
    outcomes: Counter[str] = Counter()

    @QUICK
    @given(RANDOMS)
    def fuzz(random: Random) -> None:
        outcomes[fuzzing.CODEC_TARGETS[target](random)] += 1

    fuzz()
    assert len(outcomes) > 1  # a fuzzer that sees one outcome sees nothing


@pytest.mark.parametrize("codec", [None, pytest.param("orjson", marks=pytest.mark.long)])
@pytest.mark.parametrize("response", ["auto", "json", "sse"])
def test_a_connection_answers_what_was_changed_or_refuses_it(response: str, codec: str | None) -> None:
    options = {"response": response, "json": pytest.importorskip(codec) if codec else None}
    outcomes: Counter[str] = Counter()
    loop = asyncio.new_event_loop()
    try:
        dialogues = fuzzing.Dialogues(loop, **options)
        try:

            @QUICK
            @given(st.integers(0, 2**32))
            def fuzz(seed: int) -> None:
                for n in range(ROUNDS):
                    outcomes[dialogues.run(Random(seed + n))] += 1

            fuzz()
            assert not dialogues.failures
        finally:
            dialogues.close()
    finally:
        loop.close()
    assert len(outcomes) > 20


# The oracle is only worth something if it notices.


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_the_oracle_notices_a_failure_in_the_log(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, *args: object) -> None:
        raise ZeroDivisionError

    dialogues = fuzzing.Dialogues(loop)
    try:
        dialogues.run(Random(0))
        monkeypatch.setattr(type(dialogues.server.endpoint), "is_modern", broken)
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            for seed in range(50):
                dialogues.run(Random(seed))
        dialogues.failures.clear()
        monkeypatch.undo()
        dialogues.run(Random(1))
    finally:
        dialogues.close()


@pytest.mark.parametrize(
    "written",
    [
        b"hello",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"jsonrpc":"1.0"}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{"jsonrpc":"2.0","error":{"code":-31999}}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1",
    ],
)
def test_the_oracle_notices_what_is_no_answer(written: bytes) -> None:
    with pytest.raises((AssertionError, ValueError, KeyError)):
        fuzzing.answers(written)


def test_a_long_run_says_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzing.run_for(0.2, seed=3) == 0
    said = capsys.readouterr().out
    assert "connection" in said and "failed 0" in said
