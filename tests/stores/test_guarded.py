# SPDX-License-Identifier: MIT
"""The guard of a store: its time limit, its breaker, its counters, and a loop that stood still."""

from __future__ import annotations

import asyncio
import time

import pytest
from stores_support import LIMIT, run

from mcp_h11.stores.base import MAX_BUS_BYTES, Full, StoreError
from mcp_h11.stores.guarded import GuardedStore, StoreGuard
from mcp_h11.stores.limits import LOOP_LATE
from mcp_h11.stores.memory import Hub, MemoryStore

SOON = 0.05  # seconds: the limit of an operation, and the rest after it
TURNS = 20  # of the loop


def guard(states: list[bool] | None = None, limit: float = SOON, rest: float = SOON) -> StoreGuard:
    return StoreGuard((states if states is not None else []).append, limit, rest)


async def answers(turns: int = 0) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return "answer"


async def hangs() -> str:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing resolves it")


async def fails(error: Exception) -> str:
    raise error


def test_a_store_that_hangs_costs_one_wait_and_is_then_left_alone() -> None:
    async def test() -> None:
        states: list[bool] = []
        one = guard(states, rest=LIMIT)
        with pytest.raises(StoreError, match=r"did not answer within 0\.05 s"):
            await one.run("load", hangs())
        assert states == [False] and not one.works
        with pytest.raises(StoreError, match="left alone"):
            await one.run("load", answers())
        assert await one.run("take", answers(), probe=True) == "answer"
        assert await one.run("load", answers()) == "answer"  # the probe was answered, so the rest is over
        assert not one.works  # a full store reads, too: a worker says itself when it keeps values again
        one.recovered()
        assert states == [False, True]
        load = one.counters["load"]
        assert (load.operations, load.failures) == (3, 2)

    run(test)


def test_a_store_that_fails_at_once_needs_no_rest() -> None:
    async def test() -> None:
        one = guard(rest=LIMIT)
        with pytest.raises(StoreError, match="refused"):
            await one.run("load", fails(StoreError("refused")))
        assert await one.run("load", answers()) == "answer"

    run(test)


def test_a_store_that_is_full_answers() -> None:
    async def test() -> None:
        states: list[bool] = []
        one = guard(states)
        with pytest.raises(Full):
            await one.run("create", fails(Full()))
        assert one.works and not states and one.counters["create"].failures == 0

    run(test)


def test_a_loop_that_stood_still_is_no_fault_of_the_store() -> None:
    async def test() -> None:
        one = guard(limit=LOOP_LATE)
        asyncio.get_running_loop().call_soon(time.sleep, 3 * LOOP_LATE)
        assert await one.run("load", answers(TURNS)) == "answer"
        # A store that hangs as well is still noticed.
        asyncio.get_running_loop().call_soon(time.sleep, 3 * LOOP_LATE)
        with pytest.raises(StoreError, match="did not answer"):
            await one.run("load", hangs())

    run(test)


def test_a_cancelled_operation_is_cancelled_and_not_late() -> None:
    async def test() -> None:
        one = guard(limit=LIMIT)
        waiting = asyncio.ensure_future(one.run("load", hangs()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert one.works

    run(test)


def test_a_signal_has_a_limit_that_is_no_fault_of_the_store() -> None:
    async def test() -> None:
        store, states = MemoryStore(Hub()), list[bool]()
        guarded = GuardedStore(store, guard(states), "test")
        await guarded.open("worker")
        await guarded.bus.publish(b"x" * MAX_BUS_BYTES)
        with pytest.raises(ValueError, match=f"at most {MAX_BUS_BYTES} bytes"):
            await guarded.bus.publish(b"x" * (MAX_BUS_BYTES + 1))
        assert not states and guarded.guard.counters["publish"].operations == 1
        await guarded.close()

    run(test)
