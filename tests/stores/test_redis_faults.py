# SPDX-License-Identifier: MIT
"""A real Redis that stands still, dies, is full, is a replica, or does not let the store in.

Each operation ends by itself, with a StoreError that says why; afterwards the store works again without a word.
"""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
import redis
from ports import free_port
from redis_servers import RedisServer, fresh_prefix, redis_server
from redis_stores import LIMIT, LONG, eventually, fails, opened, works_again

from mcp_h11.protocol.errors import EventsExpired
from mcp_h11.stores import redis as redis_store
from mcp_h11.stores import redis_messages
from mcp_h11.stores.base import ALIVE_TIME, Full, StoreError, Taken
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.redis_link import MAX_COMMANDS, RedisAway

pytestmark = pytest.mark.long


def test_each_operation_ends_while_redis_stands_still() -> None:
    with redis_server() as server:

        async def main() -> None:
            async with opened(server.url()) as store:
                await works_again(store)
                with server.stopped():
                    many = [store.records.load("space", f"{n}") for n in range(MAX_COMMANDS + 50)]
                    await asyncio.gather(
                        *(fails(one, "no answer within 2 s") for one in many),
                        fails(store.inbox.take(0.1), "no answer"),
                        fails(store.inbox.put("w", b""), "no answer"),
                        fails(store.logs.touch([("s", "a"), ("t", "b")], LONG), "no answer"),
                        fails(store.bus.publish(b""), "no answer"),
                    )
                    await fails(RedisStore.from_url(server.url()).open("another"), "no answer")
                await works_again(store)

        asyncio.run(main())


def test_a_heartbeat_outlives_redis_standing_still() -> None:
    """Longer than a worker is alive: those that were alive are so when it goes on, until they are silent themselves."""
    with redis_server() as server:

        async def main() -> None:
            async with opened(server.url()) as one, opened(server.url()) as other:
                await one.inbox.take(0)
                await other.inbox.workers()
                with server.stopped():
                    await asyncio.sleep(ALIVE_TIME + 0.5)
                (name,) = await other.inbox.workers()
                assert await other.inbox.put(name, b"still there")
                assert [message for _, message in await one.inbox.take(5.0)] == [b"still there"]

        asyncio.run(main())


def test_a_server_that_accepts_and_never_answers_is_away_at_start_too() -> None:
    accepted: list[asyncio.StreamWriter] = []

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)

        silent = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        try:
            for url in (f"redis://127.0.0.1:{port}", f"redis+cluster://127.0.0.1:{port}"):
                await fails(RedisStore.from_url(url).open("w"), "answer")
            await fails(RedisStore.from_url(f"redis+sentinel://127.0.0.1:{port}/m").open("w"), "no sentinel knows")
        finally:
            silent.close()
            for writer in accepted:
                writer.close()
        await fails(RedisStore.from_url(f"redis://127.0.0.1:{port}").open("w"), "away")
        await fails(RedisStore.from_url(f"redis+sentinel://127.0.0.1:{port}/m").open("w"), "no sentinel knows")
        await fails(RedisStore.from_url(f"redis+cluster://127.0.0.1:{port}").open("w"), "no node")

    asyncio.run(main())


def test_a_peer_that_is_no_redis_is_an_error_and_no_more() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            await fails(RedisStore.from_url(f"redis://127.0.0.1:{port}").open("w"), "broke")
        finally:
            server.close()

    asyncio.run(main())


def test_a_restart_without_its_data_is_seen_by_each_part() -> None:
    """An event of a log that is gone is Taken; its workers are back with their next heartbeat."""
    with redis_server() as server:

        async def main() -> None:
            heard: list[bytes] = []
            gaps: list[int] = []
            one, other = (RedisStore.from_url(server.url()) for _ in range(2))
            one.bus.subscribe(heard.append, lambda: gaps.append(1))
            await one.open("one")
            await other.open("other")
            await one.records.create("space", "k", b"", LONG)
            await one.logs.open("s", "a", LONG)
            await one.logs.append("s", "a", 1, b"")
            waiting = asyncio.ensure_future(one.inbox.take(LIMIT))
            await eventually(lambda: is_alive(other, "one"))
            server.kill()
            await fails(waiting, "away|broke")
            await fails(one.logs.append("s", "a", 2, b""), "away|broke")
            await fails(one.inbox.take(0), "away|broke")
            await fails(RedisStore.from_url(server.url()).open("third"), "away")
            server.start()
            await works_again(one)
            with pytest.raises(Taken):
                await one.logs.append("s", "a", 2, b"")
            with pytest.raises(EventsExpired):
                await one.logs.read("s", "a", 0)
            assert await one.records.load("space", "k") is None
            assert await one.inbox.put("one", b"back")
            assert [message for _, message in await one.inbox.take(LIMIT)] == [b"back"]

            async def heard_again() -> None:
                await other.bus.publish(b"again")
                await asyncio.sleep(0.02)
                assert gaps and heard

            await eventually(heard_again)
            assert len(gaps) == one.statistics()["reconnections"] >= 1
            await one.close()
            await other.close()

        asyncio.run(main())


async def is_alive(store: RedisStore, worker: str) -> None:
    assert worker in await store.inbox.workers()


def test_a_restart_with_its_data_loses_nothing() -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:

        async def main() -> None:
            async with opened(server.url()) as store:
                await store.inbox.take(0)
                version = await store.records.create("space", "k", b"kept", LONG)
                await store.logs.open("s", "a", LONG)
                await store.logs.append("s", "a", 1, b"kept")
                (name,) = await store.inbox.workers()
                assert await store.inbox.put(name, b"waiting")
                server.kill()
                await fails(store.records.load("space", "k"), "away|broke")
                server.start()
                await eventually(lambda: store.records.load("space", "k"))
                assert await store.records.load("space", "k") == (version, b"kept")
                assert await store.logs.append("s", "a", 2, b"2") == ""
                assert len((await store.logs.read("s", "a", 0)).events) == 2
                assert await store.inbox.workers() == [name]
                assert [message for _, message in await store.inbox.take(LIMIT)] == [b"waiting"]

        asyncio.run(main())


def test_while_redis_loads_its_data_it_says_so() -> None:
    with redis_server("--save", "1000 1") as server:
        with server.control() as client:
            for n in range(500):
                client.set(f"k{n}", os.urandom(2000))
            client.save()
        server.kill()
        # Microseconds for each key, and after how many bytes it looks for commands.
        server.launch("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
        server.wait_until(lambda: answers_that_it_loads(server))

        async def main() -> None:
            await fails(RedisStore.from_url(server.url()).open("w"), "loading its data")

        asyncio.run(main())


def answers_that_it_loads(server: RedisServer) -> bool:
    try:
        server.ask("GET", "k")
    except redis.BusyLoadingError:
        return True
    return False


def test_a_full_redis_takes_nothing_new_and_goes_on_with_the_rest() -> None:
    with redis_server("--maxmemory-policy", "noeviction") as server:

        async def main() -> None:
            async with opened(server.url()) as store:
                (name,) = [store.inbox._worker]
                await store.inbox.take(0)
                version = await store.records.create("space", "k", b"kept", LONG)
                assert version is not None
                await store.logs.open("s", "a", LONG)
                await store.logs.append("s", "a", 1, b"1")
                assert await store.inbox.put(name, b"1")
                server.ask("CONFIG", "SET", "maxmemory", "1")
                await fails(store.records.create("space", "new", b"", LONG), "full: it reached `maxmemory`")
                await fails(store.records.save("space", "k", b"", version, LONG), "full")
                await fails(store.logs.open("t", "a", LONG), "full")
                await fails(store.logs.append("s", "a", 2, b"2"), "full")
                await fails(store.inbox.put(name, b"2"), "full")
                # Reading, waiting and making room go on, and each worker stays alive.
                ((receipt, _),) = await store.inbox.take(LIMIT)
                await store.inbox.acknowledge([receipt])
                assert await store.inbox.workers() == [name]
                await store.records.touch("space", ["k"], LONG)
                assert await store.records.load("space", "k") == (version, b"kept")
                assert await store.records.oldest("space", None, 0.0) == "k"
                assert await store.records.count("space") == 1
                assert (await store.logs.read("s", "a", 0, reader="r")).last == 1
                await store.logs.touch([("s", "a")], LONG)
                await store.logs.finish("s", "a", LONG)
                await store.bus.publish(b"heard")
                async with opened(server.url()):  # a new worker gets in
                    pass
                assert await store.records.delete("space", "k")
                await store.logs.discard("s")
                server.ask("CONFIG", "SET", "maxmemory", "0")
                await works_again(store)

        asyncio.run(main())


def test_a_replica_takes_no_writes_until_it_is_a_master() -> None:
    with redis_server() as server:

        async def main() -> None:
            async with opened(server.url()) as store:
                await store.records.create("space", "k", b"", LONG)
                server.ask("REPLICAOF", "127.0.0.1", free_port())
                await fails(store.records.create("space", "l", b"", LONG), "is a replica")
                await fails(store.inbox.take(0), "is a replica")
                server.ask("REPLICAOF", "NO", "ONE")
                await works_again(store)

        asyncio.run(main())


def test_a_key_of_another_program_is_named_as_that(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(shared_redis.url(prefix)) as store:
            shared_redis.ask("SET", f"{prefix}:r:{{space}}:k", "not a hash")
            await fails(store.records.load("space", "k"), "another program under this prefix")
            # Its neighbours of the same turn are not concerned.
            results = await asyncio.gather(
                store.records.load("space", "k"), store.records.load("space", "other"), return_exceptions=True
            )
            assert isinstance(results[0], StoreError) and results[1] is None
            with pytest.raises(StoreError, match="error 'ERR'"):
                await store._caller.call("k", b"NOSUCH")

    asyncio.run(main())


def test_an_operation_that_is_cancelled_leaves_the_others_alone(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis.url(fresh_prefix())) as store:
            await store.logs.open("s", "a", LONG)
            for turns in range(4):
                gone = asyncio.ensure_future(store.records.load("space", "k"))
                stays = asyncio.ensure_future(store.logs.append("s", "a", turns + 1, b""))
                for _ in range(turns):
                    await asyncio.sleep(0)
                gone.cancel()
                assert await stays == ""
            alone = asyncio.ensure_future(store.records.load("space", "k"))
            await asyncio.sleep(0)
            alone.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await store.records.load("space", "k") is None

    asyncio.run(main())


def test_a_store_that_closes_ends_what_waits() -> None:
    with redis_server() as server:

        async def main() -> None:
            store = RedisStore.from_url(server.url())
            await store.open("w")
            taking = asyncio.ensure_future(store.inbox.take(LIMIT))
            with server.stopped():
                loading = asyncio.ensure_future(store.records.load("space", "k"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                later = asyncio.ensure_future(store.records.load("space", "k"))
                await asyncio.wait_for(store.close(), LIMIT)
                for one in (taking, loading, later):
                    await fails(one, "closed|broke|away|no answer")

        asyncio.run(main())


def test_a_connection_that_comes_after_the_end_is_not_kept() -> None:
    with redis_server() as server:

        async def main() -> None:
            store = RedisStore.from_url(server.url())
            await store.open("w")
            with server.stopped():
                first = asyncio.ensure_future(store.inbox.take(0))
                await asyncio.sleep(0.2)  # it connects, and waits for the answer to its login
                await store.inbox.link.close()
            await fails(first, "closed")
            await store.close()

            async def alone() -> None:
                assert clients(server) == 1

            await eventually(alone)

        asyncio.run(main())


def clients(server: RedisServer) -> int:
    with server.control() as client:
        return len(client.client_list())


def test_a_start_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "ENTER_TIME", 0.2)
    with redis_server() as server:

        async def main() -> None:
            with server.stopped():
                await fails(RedisStore.from_url(server.url()).open("w"), "within 0.2 s")

        asyncio.run(main())


def test_a_take_waits_for_one_that_was_cancelled(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis.url(fresh_prefix())) as store:
            for n in range(5):
                old = asyncio.ensure_future(store.inbox.take(LIMIT))
                await asyncio.sleep(0.01)
                old.cancel()
                assert await asyncio.wait_for(store.inbox.take(0), LIMIT) == []
                (name,) = await store.inbox.workers()
                assert await store.inbox.put(name, b"%d" % n)
                assert [message for _, message in await store.inbox.take(LIMIT)] == [b"%d" % n]

    asyncio.run(main())


def test_a_receipt_that_is_none_is_no_error(shared_redis: RedisServer) -> None:
    async def main() -> None:
        async with opened(shared_redis.url(fresh_prefix())) as store:
            await store.inbox.acknowledge(["none", ""])
            await store.inbox.acknowledge(["0-1:5"])

    asyncio.run(main())


def test_a_bus_that_breaks_tells_of_the_gap_and_hears_again(shared_redis: RedisServer) -> None:
    async def main() -> None:
        gaps: list[int] = []
        heard: list[bytes] = []
        prefix = fresh_prefix()
        async with opened(shared_redis.url(prefix)) as other:
            store = RedisStore.from_url(shared_redis.url(prefix))
            store.bus.subscribe(heard.append, lambda: gaps.append(1))
            await store.open("w")
            for n in range(1, 4):
                shared_redis.ask("CLIENT", "KILL", "TYPE", "pubsub")

                async def back(n: int = n) -> None:
                    assert len(gaps) == n

                await eventually(back)
                await other.bus.publish(b"%d" % n)

                async def told(n: int = n) -> None:
                    assert heard[-1:] == [b"%d" % n]

                await eventually(told)
            assert store.statistics()["reconnections"] == 3
            await store.close()

    asyncio.run(main())


def test_a_bus_without_a_word_is_asked_and_then_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is dead without an end is noticed; one that is only quiet is kept."""
    caplog.set_level(logging.DEBUG, "mcp_h11")
    monkeypatch.setattr(redis_messages, "BUS_QUIET_TIME", 0.05)
    with redis_server() as server:

        async def main() -> None:
            gaps: list[int] = []
            store = RedisStore.from_url(server.url())
            store.bus.subscribe(lambda message: None, lambda: gaps.append(1))
            await store.open("w")
            await asyncio.sleep(0.5)
            assert gaps == []

            async def left() -> None:
                assert "The bus of the store is not connected: Redis gave no answer" in caplog.text

            async def back() -> None:
                assert gaps

            with server.stopped():
                await eventually(left)
                assert gaps == []
            await eventually(back)
            await store.close()

        asyncio.run(main())


def test_a_connection_that_redis_closed_is_seen_before_it_is_used(shared_redis: RedisServer) -> None:
    """Redis closes idle connections, and what was sent on one of them would be lost."""

    async def main() -> None:
        async with opened(shared_redis.url(fresh_prefix())) as store:
            await store.logs.open("s", "a", LONG)
            for n in range(1, 4):
                shared_redis.ask("CLIENT", "KILL", "TYPE", "normal")
                await asyncio.sleep(0.05)
                assert await store.logs.append("s", "a", n, b"") == ""

    asyncio.run(main())


def test_errors_are_kinds_of_their_own() -> None:
    assert issubclass(RedisAway, StoreError) and issubclass(Full, StoreError)
