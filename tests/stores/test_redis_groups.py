# SPDX-License-Identifier: MIT
"""The store in a real cluster of three nodes, and in a Redis that sentinels watch: moves, deaths, successors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from ports import free_port
from redis_groups import cluster_url, identity, redis_cluster, redis_sentinel, replicated, table
from redis_servers import RedisServer, fresh_prefix
from redis_stores import LIMIT, LONG, eventually, fails, opened, works_again

from mcp_h11.stores.base import Store
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.redis_cluster import SLOTS, RedisCluster, slot_of
from mcp_h11.stores.redis_link import RedisCommand
from mcp_h11.stores.redis_url import RedisAddress, parse_redis_url
from mcp_h11.stores.testing import CHECKS, StoreCheck

pytestmark = pytest.mark.long

# These wait for times to end, or fill an inbox to the brim: seconds each.
SLOW = ("ends_after", "begin_the_time_anew", "is_full_at", "lives_as_long")


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    with redis_cluster() as nodes:
        yield nodes


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=[pytest.mark.long] if any(word in check.__name__ for word in SLOW) else [])
        for check in CHECKS
    ],
    ids=lambda check: check.__name__,
)
def test_the_store_in_a_cluster_passes(check: StoreCheck, nodes: list[RedisServer]) -> None:
    async def make() -> Store:
        return RedisStore.from_url(cluster_url(nodes, "suite"))

    asyncio.run(check(make))


def test_sessions_are_spread_over_the_nodes(nodes: list[RedisServer]) -> None:
    prefix = fresh_prefix()

    async def main() -> None:
        async with opened(cluster_url(nodes[:1], prefix)) as store:
            for n in range(30):
                await store.logs.open(f"session{n}", "a", LONG)
                await store.logs.open(f"session{n}", "b", LONG)
        for node in nodes:
            logs = {key.split(":")[2] for key in node.keys(prefix) if ":e:" in key}
            assert logs == {key.split(":")[2] for key in node.keys(prefix) if ":n:" in key} and logs

    asyncio.run(main())


def test_one_node_of_the_url_is_enough(nodes: list[RedisServer]) -> None:
    async def main() -> None:
        alone = cluster_url(nodes[1:2], fresh_prefix()).replace("cluster://", f"cluster://127.0.0.1:{free_port()},")
        async with opened(alone) as store:
            await works_again(store)

    asyncio.run(main())


def test_a_cluster_without_its_name_in_the_url_says_so(nodes: list[RedisServer]) -> None:
    async def main() -> None:
        for node in nodes:  # one of them has the key of the format, and refuses at the next step
            with pytest.raises(Exception, match=r"is a cluster: say redis\+cluster://"):
                async with opened(node.url(fresh_prefix())) as store:
                    for n in range(20):
                        await store.logs.open(f"s{n}", "a", LONG)

    asyncio.run(main())


def owner_of(slot: int, asked: RedisServer) -> str:
    """The identity of the node that has a slot, as the asked node knows it; "" where none has it."""
    for line in table(asked).splitlines():
        name, *_, ranges = line.split(" ", 8)
        for part in ranges.split():
            first, _, last = part.partition("-")
            if first.isdecimal() and int(first) <= slot <= int(last or first):
                return name
    return ""


def owns(node: RedisServer, slot: int) -> bool:
    """Whether the node answers for the slot."""
    return owner_of(slot, node) == identity(node)


def move(slot: int, source: RedisServer, target: RedisServer) -> None:
    """Give an empty slot to another node, which all nodes hear of.

    A node that imports a slot gets a higher epoch with it.  Without one, a node that hears late goes on to name the old
    owner, and the new owner may believe it.
    """
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(target))


def test_a_slot_that_moves_loses_no_operation(nodes: list[RedisServer]) -> None:
    """While it moves, the old node sends each key that has gone on to the new one (ASK), and then all (MOVED)."""
    prefix, session = fresh_prefix(), os.urandom(6).hex()
    log, index = f"{prefix}:e:{{{session}}}:a", f"{prefix}:n:{{{session}}}"
    slot = slot_of(log)

    async def main() -> None:
        async with opened(cluster_url(nodes, prefix)) as store:
            await store.logs.open(session, "a", LONG)
            assert await store.logs.append(session, "a", 1, b"1") == ""
            source = next(node for node in nodes if owns(node, slot))
            target = next(node for node in nodes if node is not source)
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))
            assert await store.logs.append(session, "a", 2, b"2") == ""
            source.ask("MIGRATE", "127.0.0.1", target.port, log, 0, 5000)
            await fails(store.logs.append(session, "a", 3, b"3"), "moves this key")  # one of two keys is gone
            source.ask("MIGRATE", "127.0.0.1", target.port, index, 0, 5000)
            results = await asyncio.gather(
                store.logs.append(session, "a", 3, b"3"), *(store.records.load("space", f"{n}") for n in range(5))
            )
            assert results == ["", None, None, None, None, None]
            for node in (target, source):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(target))
            for n in range(4, 8):
                assert await store.logs.append(session, "a", n, b"%d" % n) == ""
            assert (await store.logs.read(session, "a", 0)).last == 7

    asyncio.run(main())


def test_a_bus_that_moves_to_another_node_is_followed(nodes: list[RedisServer]) -> None:
    """The old node ends the subscription by itself."""
    slot = slot_of("{bus}")

    async def main() -> None:
        gaps: list[int] = []
        heard: list[bytes] = []
        prefix = fresh_prefix()
        store = RedisStore.from_url(cluster_url(nodes, prefix))
        store.bus.subscribe(heard.append, lambda: gaps.append(1))
        await store.open("w")
        async with opened(cluster_url(nodes, prefix)) as other:
            source = next(node for node in nodes if owns(node, slot))
            target = next(node for node in nodes if node is not source)
            move(slot, source, target)

            async def again() -> None:
                await other.bus.publish(b"after")
                await asyncio.sleep(0.02)
                assert gaps and b"after" in heard

            await eventually(again)
        await store.close()

    asyncio.run(main())


def epochs(asked: RedisServer) -> dict[str, int]:
    """The epoch of each node, as the asked node knows it."""
    return {line.split()[0]: int(line.split()[6]) for line in table(asked).splitlines()}


def agree(nodes: list[RedisServer]) -> bool:
    """Whether all know the epochs of all, which differ: two nodes that find theirs alike change one of them."""
    known = [epochs(node) for node in nodes]
    return all(one == known[0] for one in known) and len({*known[0].values()}) == len(nodes)


def test_a_bus_is_found_by_a_node_that_has_not_heard_of_its_move() -> None:
    slot = slot_of("{bus}")
    with redis_cluster() as nodes:
        source = next(node for node in nodes if owns(node, slot))
        late = next(node for node in nodes if owns(node, slot_of("{inbox}")))
        (target,) = (node for node in nodes if node not in (source, late))
        # The late node believes no claim of a slot whose epoch is lower than that of its old owner.  All have to know
        # that epoch before the slot moves: the new owner would give the slot back when it hears of it.
        source.wait_until(lambda: agree(nodes))
        source.ask("CLUSTER", "BUMPEPOCH")
        source.wait_until(lambda: agree(nodes))
        assert max(epochs(late).values()) == epochs(late)[identity(source)]
        for node in (source, target):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(target))
        # The store asks the late node alone: it has all keys that a store reads before it looks for the bus.
        prefix = next(name for name in iter(fresh_prefix, "") if owns(late, slot_of(f"{name}:v")))

        async def main() -> None:
            heard: list[bytes] = []
            store = RedisStore.from_url(cluster_url([late], prefix))
            store.bus.subscribe(heard.append, lambda: None)
            await store.open("w")
            async with opened(cluster_url([late], prefix)) as other:

                async def told() -> None:
                    await other.bus.publish(b"there")
                    await asyncio.sleep(0.02)
                    assert b"there" in heard

                await eventually(told)
            await store.close()

        asyncio.run(main())
        assert owner_of(slot, late) == identity(source), "the late node has heard of the move"


def test_a_bus_is_made_at_the_node_that_answered_whatever_table_another_command_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the same turn of the loop, another command has read a table that does not have the slot."""
    served, reached = ("127.0.0.1", 2), list[RedisAddress]()
    cluster = RedisCluster(parse_redis_url("redis+cluster://127.0.0.1:1"))

    class Line:
        async def ask(self, command: RedisCommand) -> Any:
            cluster._slots = {}
            return 0

    async def connect(address: RedisAddress) -> None:
        reached.append(address)

    async def table(address: RedisAddress) -> dict[int, RedisAddress]:
        return dict.fromkeys(range(SLOTS), served)

    monkeypatch.setattr(cluster, "_table", table)
    monkeypatch.setattr(cluster, "_line", lambda address: Line())
    monkeypatch.setattr(cluster.connections, "connect", connect)
    asyncio.run(cluster.connect("{bus}"))
    assert reached == [served]


def test_a_slot_that_no_node_has_is_away_and_the_others_are_there() -> None:
    with redis_cluster(masters=1) as nodes:

        async def main() -> None:
            async with opened(cluster_url(nodes)) as store:
                nodes[0].ask("CLUSTER", "DELSLOTS", slot_of("{lost}"))
                for _ in range(2):
                    await fails(store.logs.open("lost", "a", LONG), "no node|is down")
                await store.logs.open("other", "a", LONG)
                nodes[0].ask("CLUSTER", "ADDSLOTS", slot_of("{lost}"))
                await eventually(lambda: store.logs.open("lost", "a", LONG))

        asyncio.run(main())


def test_a_slot_of_which_two_nodes_name_each_other_is_an_error_after_so_many_moves() -> None:
    with redis_cluster(masters=2) as nodes:
        first, second = nodes
        slot = slot_of("{lost}")

        async def main() -> None:
            async with opened(cluster_url(nodes)) as store:
                for node, other in ((first, second), (second, first)):
                    node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(other))
                assert owner_of(slot, first) == identity(second) and owner_of(slot, second) == identity(first)
                await fails(store.logs.open("lost", "a", LONG), "moves this key")
                await store.logs.open("other", "a", LONG)
                for node in nodes:
                    node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(first))
                await eventually(lambda: store.logs.open("lost", "a", LONG))

        asyncio.run(main())


@pytest.mark.parametrize("tag", ["bus", "inbox"])
def test_the_replica_of_a_node_that_died_goes_on(tag: str) -> None:
    """The bus tells of the gap; workers are alive with their next heartbeat; the other nodes are not concerned."""
    with redis_cluster(replica_of=slot_of(tag) // (16_384 // 3)) as nodes:
        master = nodes[slot_of(tag) // (16_384 // 3)]
        sessions = {owns(master, slot_of(f"{{s{n}}}")): f"s{n}" for n in range(100)}

        async def main() -> None:
            gaps: list[int] = []
            heard: list[bytes] = []
            store = RedisStore.from_url(cluster_url(nodes))
            store.bus.subscribe(heard.append, lambda: gaps.append(1))
            await store.open("w")
            await store.inbox.take(0)
            for session in sessions.values():
                await store.logs.open(session, "a", LONG)
                await store.logs.append(session, "a", 1, b"1")
            replicated(master)
            async with opened(cluster_url(nodes[1:])) as other:
                with nodes[-1].stopped():  # it is not there before the store has asked
                    master.kill()
                    await fails(store.logs.append(sessions[True], "a", 2, b"2"), "away|broke|no node")

                async def others() -> None:
                    assert (await store.logs.read(sessions[False], "a", 0)).last == 1

                async def all_again() -> None:
                    assert (await store.logs.read(sessions[True], "a", 0)).last >= 1
                    assert await store.inbox.take(0) == []
                    await other.bus.publish(b"after")
                    await asyncio.sleep(0.02)
                    assert b"after" in heard and (gaps or tag == "inbox")

                await eventually(others)
                await eventually(all_again)
                await works_again(other)
            await asyncio.wait_for(store.close(), LIMIT)

        asyncio.run(main())


def test_the_successor_that_a_sentinel_names_goes_on() -> None:
    with redis_sentinel() as (master, replica, sentinel):

        async def main() -> None:
            gaps: list[int] = []
            # One that is away, one that is no sentinel, and the sentinel.
            others = f"127.0.0.1:{free_port()},127.0.0.1:{replica.port}"
            url = f"redis+sentinel://{others},127.0.0.1:{sentinel.port}/main"
            store = RedisStore.from_url(url)
            store.bus.subscribe(lambda message: None, lambda: gaps.append(1))
            await store.open("w")
            await store.inbox.take(0)
            await store.logs.open("s", "a", LONG)
            await store.logs.append("s", "a", 1, b"1")
            replicated(master)
            with replica.stopped():  # it has no master's place before the store has asked
                master.kill()
                await fails(store.logs.append("s", "a", 2, b"2"), "away|broke")

            async def again() -> None:
                await store.logs.append("s", "a", 2, b"2")

            await eventually(again)
            assert [data for _, data in (await store.logs.read("s", "a", 0)).events] == [b"1", b"2"]
            await works_again(store)

            async def told() -> None:
                assert gaps

            await eventually(told)
            assert await store.inbox.workers() == ["w"]
            await store.close()
            await fails(RedisStore.from_url(url.replace("/main", "/other")).open("w"), "service 'other'")

        asyncio.run(main())
