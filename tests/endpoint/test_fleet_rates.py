# SPDX-License-Identifier: MIT
"""`rate_limit` in a fleet: what a caller gets from all workers together."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from examples import examples
from fleets import LIMIT, Stores, Workers, fleet, in_memory
from hypothesis import given
from hypothesis import strategies as st
from rawclient import RawClient
from serving import Held, modern

from mcp_h11 import Principal
from mcp_h11.endpoint.fleet_rates import MAX_TOLD, TELL_EVERY, FleetRateLimiter
from mcp_h11.endpoint.ratelimit import MAX_BUCKETS, RateLimiter
from mcp_h11.stores.base import MAX_BUS_BYTES, StoreError

HOUR = 3600.0  # so that no bucket fills up within a test
WORKERS = 3
BUS = 0.05  # virtual seconds that a signal takes
on_sockets = pytest.mark.anyio


# --- with a virtual clock --------------------------------------------------------------------------------------------


class Clock:
    """A loop as far as the limiter uses one: `call_later`, on a clock that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ahead: list[tuple[float, int, Callable[[], Any], list[bool]]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Any:
        off: list[bool] = []
        heapq.heappush(self._ahead, (self.now + delay, next(self._count), lambda: callback(*arguments), off))

        class Handle:
            def cancel(self) -> None:
                off.append(True)

        return Handle()

    def until(self, when: float) -> None:
        while self._ahead and self._ahead[0][0] <= when:
            self.now, _, callback, off = heapq.heappop(self._ahead)
            if not off:
                callback()
        self.now = when


class Ends:
    """The fleets of some workers: each hears the signals of all others, a little later."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ends: list[End] = []


class End:
    """The parts of a `Fleet` that the limiter uses."""

    def __init__(self, ends: Ends) -> None:
        self.on_signal: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.sent: list[bytes] = []
        self.key = True
        self._ends = ends
        ends.ends.append(self)

    def hashed(self, name: str) -> str:
        if not self.key:
            raise StoreError("the store is away")
        return f"{abs(hash(name)):064x}"[::-1]

    def signal(self, kind: str, **body: Any) -> None:
        message = json.dumps({"kind": kind, **body}).encode()
        self.sent.append(message)
        for other in self._ends.ends:
            if other is not self:
                self._ends.clock.call_later(BUS, other.hear, message)

    def hear(self, message: bytes) -> None:
        body = json.loads(message)
        self.on_signal[body.pop("kind")](body)


def limiters(
    requests: int, seconds: float, burst: int | None = None, count: int = WORKERS
) -> tuple[Clock, list[FleetRateLimiter], list[End]]:
    clock = Clock()
    ends = Ends(clock)
    made = [FleetRateLimiter(End(ends), clock, requests, seconds, burst) for _ in range(count)]  # type: ignore[arg-type]
    return clock, made, ends.ends


@pytest.mark.long
@examples(100)
@given(
    rate=st.integers(1, 50),
    more=st.integers(-50, 50),  # burst, beside the requests of a second
    asked=st.integers(2, 20),  # times the rate
    where=st.lists(st.integers(0, WORKERS - 1), min_size=1, max_size=10),
)
def test_the_average_of_a_caller_holds_for_all_workers_together(
    rate: int, more: int, asked: int, where: list[int]
) -> None:
    burst = max(1, rate + more)
    clock, workers, _ = limiters(rate, 1.0, burst)
    # Long enough for the debt of the first moment, in which every worker grants its whole bucket.
    long = 2.0 + (WORKERS - 1) * (burst + 1) / rate + 10.0
    one, alone = RateLimiter(rate, 1.0, burst), 0
    passed, tries = 0, int(long * rate * asked)
    for number, worker in zip(range(tries), itertools.cycle(where), strict=False):
        clock.until(long * number / tries)
        passed += not workers[worker].take("ann", clock.now)
        alone += not one.take("ann", clock.now)
    # What the other workers grant before they are told is paid back; at the end at most this much is not yet.
    untold = (WORKERS - 1) * (1 + rate * (TELL_EVERY + BUS))
    assert passed <= burst + rate * long + untold + 1
    if more >= 0:  # and no less than one worker would grant, but for bursts that are small beside an interval's tokens
        # Each worker may keep a part of a token that is too small for a request.
        assert passed >= alone - untold - WORKERS


def test_a_burst_is_at_most_one_bucket_of_each_worker() -> None:
    clock, workers, _ = limiters(5, HOUR)
    assert [sum(not one.take("ann", 0.0) for _ in range(20)) for one in workers] == [5, 5, 5]
    clock.until(TELL_EVERY + BUS)
    # What was granted too much is a debt: ten tokens, each of a fifth of an hour.
    for hours, found in ((1.9, 0), (2.0, 0), (2.3, 1)):
        clock.until(hours * HOUR)
        assert sum(not one.take("ann", clock.now) for one in workers[:1]) == found


def test_a_worker_that_never_saw_a_caller_knows_what_it_took() -> None:
    clock, workers, _ = limiters(4, HOUR)
    assert [bool(workers[0].take("ann", clock.now)) for _ in range(5)] == [False] * 4 + [True]
    clock.until(TELL_EVERY + BUS)
    assert [bool(one.take("ann", clock.now)) for one in workers] == [True] * 3
    assert [bool(one.take("bob", clock.now)) for one in workers] == [False] * 3


def test_a_batch_counts_everywhere_too() -> None:
    clock, workers, _ = limiters(10, HOUR)
    assert not workers[0].take("ann", clock.now)
    workers[0].charge("ann", 0, clock.now)
    workers[0].charge("ann", 8, clock.now)
    clock.until(TELL_EVERY + BUS)
    assert [bool(workers[1].take("ann", clock.now)) for _ in range(2)] == [False, True]


def test_requests_of_an_interval_are_one_signal_and_silence_is_none() -> None:
    clock, workers, ends = limiters(100, HOUR)
    for _ in range(50):
        workers[0].take("ann", clock.now)
        workers[0].take("bob", clock.now)
    assert [len(one.sent) for one in ends] == [0, 0, 0]
    clock.until(TELL_EVERY)
    clock.until(10 * TELL_EVERY)
    # The others tell nothing of what they were told.
    assert [len(one.sent) for one in ends] == [1, 0, 0]
    assert sorted(json.loads(ends[0].sent[0])["taken"].values()) == [50, 50]
    assert b"ann" not in ends[0].sent[0]
    # A request that was refused took nothing.
    for _ in range(100):
        workers[0].take("ann", clock.now)
    clock.until(clock.now + TELL_EVERY)
    assert list(json.loads(ends[0].sent[1])["taken"].values()) == [50]


def test_a_signal_is_bounded_and_leaves_early_at_its_bound() -> None:
    clock, workers, ends = limiters(5, HOUR)
    for number in range(MAX_TOLD - 1):
        workers[0].take(f"caller {number}", clock.now)
    assert ends[0].sent == []
    workers[0].take("one more", clock.now)
    assert len(ends[0].sent) == 1 and len(json.loads(ends[0].sent[0])["taken"]) == MAX_TOLD
    assert len(ends[0].sent[0]) < MAX_BUS_BYTES / 10
    clock.until(1.0)
    assert len(ends[0].sent) == 1  # the timer of the first one has nothing left to tell
    for number in range(MAX_BUCKETS + MAX_TOLD):
        workers[0].take(f"another {number}", clock.now)
    clock.until(2.0)
    assert [len(one) for one in workers] == [MAX_BUCKETS] * 3


def test_a_worker_without_the_key_of_the_fleet_counts_by_itself() -> None:
    clock, workers, ends = limiters(2, HOUR)
    ends[0].key = False
    workers[0].charge("ann", 1, clock.now)
    assert [bool(workers[0].take("ann", clock.now)) for _ in range(2)] == [False, True]
    clock.until(1.0)
    assert ends[0].sent == []
    ends[0].key = True
    workers[1].take("ann", clock.now)
    clock.until(2.0)
    assert [bool(workers[0].take("ann", clock.now)) for _ in range(2)] == [False, True]


def test_a_limiter_that_was_closed_tells_nothing_more() -> None:
    clock, workers, ends = limiters(2, HOUR)
    workers[0].take("ann", clock.now)
    workers[0].close()
    workers[0].close()
    clock.until(1.0)
    assert ends[0].sent == []


# --- over sockets ----------------------------------------------------------------------------------------------------


async def status(server: Any, user: str | None = None) -> int:
    async with RawClient(server.port) as client:
        await client.send(modern("server/discover", X_User=user) if user else modern("server/discover"))
        return (await client.receive("POST")).status


def listen(workers: Workers) -> tuple[list[bytes], asyncio.Event]:
    """The messages on the bus that say who took what, and an event that is set by each."""
    said: list[bytes] = []
    news = asyncio.Event()
    for server in workers.servers:
        heard = server.runtime.fleet.on_signal["tokens"]

        def hear(body: dict[str, Any], heard: Callable[[dict[str, Any]], None] = heard) -> None:
            said.append(json.dumps(body).encode())
            heard(body)
            news.set()

        server.runtime.fleet.on_signal["tokens"] = hear
    return said, news


def heard(said: list[bytes]) -> int:
    """The tokens that these messages tell of: one message may tell of several."""
    return sum(sum(json.loads(one)["taken"].values()) for one in said)


async def until_heard(said: list[bytes], news: asyncio.Event, tokens: int) -> None:
    with anyio.fail_after(LIMIT):
        while heard(said) < tokens:
            news.clear()
            await news.wait()


@on_sockets
async def test_a_principal_that_goes_round_gets_what_one_worker_would_give(stores: Stores) -> None:
    def authorize(head: Any) -> Any:
        return Principal(head.get("x-user"))

    async with fleet(Held, stores, authorize=authorize, rate_limit=(3, HOUR)) as workers:
        said, news = listen(workers)
        passed = []
        for number, server in enumerate([*workers.servers] * 3):
            before = heard(said)
            passed.append(await status(server, "ann"))
            if passed[-1] == 200:
                await until_heard(said, news, before + WORKERS - 1)
            assert passed.count(200) == min(number + 1, 3)
        assert passed == [200] * 3 + [429] * 6
        assert [await status(server, "bob") for server in workers.servers] == [200] * 3
        assert not any(b"ann" in one for one in said)


@on_sockets
async def test_an_address_without_a_good_token_is_counted_everywhere(stores: Stores) -> None:
    async with fleet(Held, stores, token="secret", rate_limit=(2, HOUR)) as workers:
        said, news = listen(workers)
        assert [await status(workers[0]) for _ in range(3)] == [401, 401, 429]
        await until_heard(said, news, 2 * (WORKERS - 1))
        assert [await status(workers[number]) for number in (1, 2)] == [429, 429]
        assert not any(b"127.0.0.1" in one for one in said)


@on_sockets
async def test_a_store_that_is_away_does_not_hold_up_a_request() -> None:
    async with fleet(Held, in_memory(), rate_limit=(2, HOUR)) as workers:
        published = asyncio.Event()

        async def away(message: bytes, worker: str | None = None) -> None:
            published.set()
            raise StoreError("the store is away")

        workers[0].runtime.fleet.store.bus.publish = away
        assert [await status(workers[0]) for _ in range(3)] == [200, 200, 429]
        with anyio.fail_after(LIMIT):
            await published.wait()
        assert await status(workers[0]) == 429  # and it still counts by itself
        assert await status(workers[1]) == 200
