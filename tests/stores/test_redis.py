# SPDX-License-Identifier: MIT
"""The store in Redis, against a real `redis-server` that does well: the suite of all stores, its keys, round trips."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis_servers import RedisServer, fresh_prefix

from mcp_h11.stores.base import Full, Store, StoreError, StoreRefused, Taken
from mcp_h11.stores.redis import TOUCH_AT_ONCE, RedisStore
from mcp_h11.stores.redis_keys import LONGEST_TTL, REDIS_FORMAT
from mcp_h11.stores.testing import CHECKS, StoreCheck

pytestmark = pytest.mark.long

LONG = 600.0


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_store_in_redis_passes(check: StoreCheck, shared_redis: RedisServer) -> None:
    async def make() -> Store:
        return RedisStore.from_url(shared_redis.url("suite"))

    asyncio.run(check(make))


@asynccontextmanager
async def opened(server: RedisServer, prefix: str) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_url(server.url(prefix))
    await store.open(os.urandom(8).hex())
    try:
        yield store
    finally:
        await store.close()


def trips(store: RedisStore) -> tuple[float, float]:
    numbers = store.statistics()
    return numbers["round_trips"], numbers["commands"]


def test_what_one_turn_asks_goes_in_one_round_trip_and_fails_alone(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis, fresh_prefix()) as store:
            await store.logs.open("s", "a", LONG)
            await store.logs.append("s", "a", 1, b"1")
            await store.records.create("space", "only", b"", LONG)
            await store.records.load("space", "only")
            await store.logs.touch([("s", "a")], LONG)  # its tasks begin in the next turn: a trip of their own
            before = trips(store)
            results = await asyncio.gather(
                store.logs.append("s", "a", 2, b"2"),
                store.logs.append("s", "a", 2, b"again"),
                store.records.load("space", "only"),
                store.records.create("space", "more", b"", LONG, limit=1),
                store.bus.publish(b"x"),
                store.logs.touch([("s", "a"), ("t", "b"), ("u", "c")], LONG),
                return_exceptions=True,
            )
            after = trips(store)
            assert after[0] - before[0] <= 2
            before = trips(store)
            await asyncio.gather(*(store.logs.append("s", "a", n, b"") for n in range(3, 23)))
            assert [a - b for a, b in zip(trips(store), before, strict=True)] == [1, 20]
        kinds = [type(result).__name__ for result in results]
        assert kinds == ["str", "Taken", "Record", "Full", "NoneType", "NoneType"]

    asyncio.run(main())


def test_each_key_carries_the_prefix_and_ends_with_what_it_belongs_to(shared_redis: RedisServer) -> None:
    """Nothing is left after the times to live, though no operation comes any more."""
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(shared_redis, prefix) as store:
            await store.inbox.take(0)
            for n in range(3):
                await store.records.create("space", f"k{n}", b"v", 3.0, group="g", limit=9, group_limit=9)
                await store.logs.open(f"session{n}", "stream", 3.0)
                await store.logs.append(f"session{n}", "stream", 1, b"x")
            found = shared_redis.keys(prefix)
            for key in (f"{prefix}:r:{{space}}:k0", f"{prefix}:u:{{space}}", f"{prefix}:e:{{session0}}:stream"):
                assert key in found
            with shared_redis.control() as client:
                assert all(client.pttl(key) > 0 for key in found)

    asyncio.run(main())
    beats = {f"{prefix}:t:{{inbox}}"}  # the clock of heartbeats: ten minutes
    shared_redis.wait_until(lambda: {*shared_redis.keys(prefix)} == beats)


def test_a_record_without_an_end_keeps_the_indexes(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(shared_redis, prefix) as store:
            await store.records.create("space", "a", b"", 0.1, group="g")
            version = await store.records.create("space", "b", b"", None, group="g")
            assert version is not None
            with shared_redis.control() as client:
                assert {client.pttl(f"{prefix}:{kind}:{{space}}") for kind in "uxgk"} == {-1}
            assert await store.records.save("space", "b", b"", version, LONG)
            with shared_redis.control() as client:
                assert all(client.pttl(f"{prefix}:{kind}:{{space}}") > 0 for kind in "uxgk")

    asyncio.run(main())


def test_the_group_without_a_name_has_a_limit_of_its_own(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis, fresh_prefix()) as store:
            records = store.records
            for n in range(150):
                await records.create("space", f"g{n}", b"", LONG, group="named")
            await records.create("space", "a", b"", LONG, group_limit=2)
            await records.create("space", "b", b"", LONG, group_limit=2)
            with pytest.raises(Full) as refused:
                await records.create("space", "c", b"", LONG, group_limit=2)
            assert refused.value.group
            assert await records.oldest("space", "", 0.0) == "a"
            assert await records.oldest("space", None, 0.0) == "g0"

    asyncio.run(main())


def test_more_records_are_touched_than_one_script_takes(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(shared_redis, prefix) as store:
            names = [f"k{n}" for n in range(TOUCH_AT_ONCE + 1)]
            for name in names:
                await store.records.create("space", name, b"", 60.0)
            await store.records.touch("space", names, LONG)
            with shared_redis.control() as client:
                assert all(client.pttl(f"{prefix}:r:{{space}}:{name}") > 60_000 for name in names)

    asyncio.run(main())


def test_a_record_that_redis_evicted_counts_no_more_when_it_is_deleted(shared_redis: RedisServer) -> None:
    """With another policy than noeviction; who makes room by the oldest must not meet the same one for ever."""
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(shared_redis, prefix) as store:
            await store.records.create("space", "a", b"", LONG, group="g")
            shared_redis.ask("DEL", f"{prefix}:r:{{space}}:a")
            assert await store.records.oldest("space", "g", 0.0) == "a"
            assert not await store.records.delete("space", "a")
            assert await store.records.oldest("space", "g", 0.0) is None
            assert await store.records.count("space") == 0
            # A name that is hashed is kept in its record.
            await store.records.create("space", "{odd}", b"", LONG)
            (record,) = [key for key in shared_redis.keys(prefix) if ":r:" in key]
            shared_redis.ask("DEL", record)
            assert await store.records.oldest("space", None, 0.0) is None

    asyncio.run(main())


def test_a_time_beyond_what_redis_counts_is_cut(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis, fresh_prefix()) as store:
            for n, ttl in enumerate((LONGEST_TTL * 1e9, float("inf"), LONG)):
                assert await store.records.create("space", f"{n}", b"", ttl)
            await store.records.touch("space", ["0"], -1.0)
            assert await store.records.load("space", "1")

    asyncio.run(main())


def test_the_index_of_a_session_follows_a_log_that_goes_on(shared_redis: RedisServer) -> None:
    """A stream that outlives its first time to live is discarded with its session."""

    async def main() -> None:
        async with opened(shared_redis, fresh_prefix()) as store:
            await store.logs.open("s", "long", 2.0)
            index, started = 0, time.monotonic()
            while time.monotonic() - started < 4.5:
                index += 1
                await store.logs.append("s", "long", index, b"")
                await asyncio.sleep(0.01)
            await store.logs.open("s", "other", LONG)
            await store.logs.discard("s")
            with pytest.raises(Taken):
                await store.logs.append("s", "long", index + 1, b"")

    asyncio.run(main())


def test_another_format_is_refused_and_left_alone(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()
    shared_redis.ask("SET", f"{prefix}:v", f"{int(REDIS_FORMAT) + 1}")

    async def main() -> None:
        with pytest.raises(StoreRefused, match="another prefix"):
            async with opened(shared_redis, prefix):
                raise AssertionError("it is open")
        shared_redis.ask("DEL", f"{prefix}:v")
        shared_redis.ask("LPUSH", f"{prefix}:v", "somebody's list")
        with pytest.raises(StoreRefused, match="another program"):
            async with opened(shared_redis, prefix):
                raise AssertionError("it is open")

    asyncio.run(main())
    assert shared_redis.keys(prefix) == [] and shared_redis.ask("LRANGE", f"{prefix}:v", 0, -1) == ["somebody's list"]


def test_a_worker_that_is_alive_is_not_opened_again(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()

    async def main() -> None:
        first, second = (RedisStore.from_url(shared_redis.url(prefix)) for _ in range(2))
        await first.open("same")
        await first.inbox.take(0)
        with pytest.raises(StoreError, match="there already"):
            await second.open("same")
        await second.close()
        await first.close()
        with pytest.raises(StoreError, match="closed"):
            await first.records.load("space", "k")
        with pytest.raises(StoreError, match="closed"):
            await first.inbox.take(0)

    asyncio.run(main())


def test_the_clock_of_the_worker_decides_nothing(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is off by a minute, or a year, expires nothing early."""

    async def main() -> None:
        async with opened(shared_redis, fresh_prefix()) as store:
            await store.records.create("space", "k", b"", 30.0)
            await store.logs.open("s", "a", 30.0)
            real = time.time
            for shift in (60.0, -60.0, 3e7):
                monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
                assert await store.records.load("space", "k")
                assert await store.records.oldest("space", None, 29.0) is None
                assert (await store.logs.read("s", "a", 0)).last == 0
                await store.records.create("space", "another", b"", 30.0, limit=9)
                assert await store.records.count("space") == 2

    asyncio.run(main())
