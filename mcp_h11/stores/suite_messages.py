# SPDX-License-Identifier: MIT
"""The checks of `Inbox` and `Bus`, and of a store as a whole."""

from __future__ import annotations

import asyncio

from .base import (
    ALIVE_TIME,
    MAX_BUS_BYTES,
    MAX_INBOX_BYTES,
    MAX_INBOX_MESSAGES,
    MAX_PARTY_BYTES,
    MAX_PARTY_MESSAGES,
    Full,
    Inbox,
)
from .suite import (
    APPEAR_TIME,
    BYTES,
    CHECK_TIME,
    LONG,
    TEXTS,
    Make,
    Worker,
    equal,
    eventually,
    fleet,
    fresh,
    given,
    in_time,
    raises,
)


async def _take(inbox: Inbox, count: int, *, acknowledge: bool = True) -> list[tuple[str, bytes]]:
    """Take again until as many messages have come."""
    found: list[tuple[str, bytes]] = []
    while len(found) < count:
        new = await inbox.take(APPEAR_TIME)
        if not new:
            raise AssertionError(f"messages arrive: got {len(found)}, wanted {count}")
        found += new
        if acknowledge:
            await inbox.acknowledge([receipt for receipt, _ in new])
    equal(len(found), count, "each message is taken once")
    return found


@in_time
async def check_a_message_reaches_a_live_worker_once(make: Make) -> None:
    """In order, as it was; a worker that is not alive gets none, and the sender is told."""
    async with fleet(make, 2) as (a, b):
        for name in (fresh(), a.name, *TEXTS):
            equal(await b.store.inbox.put(name, b"lost"), False, "no worker of this name has taken from its inbox")
        await a.live()
        messages = [*BYTES, *(b"%d" % n for n in range(50))]
        for message in messages:
            equal(await b.store.inbox.put(a.name, message), True, "the worker is alive")
        got = await _take(a.store.inbox, len(messages))
        equal([message for _, message in got], messages, "the messages in their order")
        equal(len({receipt for receipt, _ in got}), len(got), "each has a receipt of its own")
        equal(await a.store.inbox.take(0), [], "nothing comes twice")
        await a.store.inbox.acknowledge([])
        await a.store.inbox.acknowledge([got[0][0], "no receipt", ""])
        equal(await a.store.inbox.put(a.name, b"own"), True, "a worker may write to itself")
        equal((await _take(a.store.inbox, 1))[0][1], b"own", "a worker may write to itself")


@in_time
async def check_a_message_wakes_the_taker(make: Make) -> None:
    """A take that waits longer than the check may last returns with the message."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        for n in range(20):
            waiting = asyncio.ensure_future(a.store.inbox.take(10 * CHECK_TIME))
            for _ in range(n % 5):
                await asyncio.sleep(0)
            equal(await b.store.inbox.put(a.name, b"%d" % n), True, "the worker is alive")
            equal([message for _, message in await waiting], [b"%d" % n], "the message that was put")


@in_time
async def check_messages_of_many_senders_are_taken_once(make: Make) -> None:
    """While they are put; those of one sender in their order."""
    async with fleet(make, 3) as (a, *others):
        await a.live()

        async def send(worker: Worker) -> None:
            for n in range(50):
                equal(await worker.store.inbox.put(a.name, b"%s %d" % (worker.name.encode(), n)), True, "alive")

        sending = [asyncio.ensure_future(send(worker)) for worker in others]
        got = [message.split() for _, message in await _take(a.store.inbox, 100)]
        await asyncio.gather(*sending)
        for worker in others:
            numbers = [int(number) for name, number in got if name == worker.name.encode()]
            equal(numbers, [*range(50)], "the messages of one sender")


@in_time
async def check_a_take_that_is_cancelled_loses_nothing(make: Make) -> None:
    """Every message is in a take that returned, in order, each once."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        got: list[bytes] = []
        for n in range(30):
            waiting = asyncio.ensure_future(a.store.inbox.take(LONG))
            await b.store.inbox.put(a.name, b"%d" % n)
            for _ in range(n % 4):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                got += [message for _, message in await waiting]
            except asyncio.CancelledError:
                pass
        got += [message for _, message in await a.store.inbox.take(0)]
        await b.store.inbox.put(a.name, b"last")
        while got[-1:] != [b"last"]:
            got += [message for _, message in await a.store.inbox.take(APPEAR_TIME)]
        equal(got, [*(b"%d" % n for n in range(30)), b"last"], "each message once")


@in_time
async def check_an_inbox_is_full_at_its_count(make: Make) -> None:
    """A message counts until it is acknowledged."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        put = b.store.inbox.put
        got: list[tuple[str, bytes]] = []
        for _ in range(0, MAX_INBOX_MESSAGES, 500):
            equal({*await asyncio.gather(*(put(a.name, b"") for _ in range(500)))}, {True}, "up to the limit")
            got += await a.store.inbox.take(0)
        error = await raises(Full, put(a.name, b""), "one past the limit")
        equal(error.group, False, "it is no limit of a group")
        got += await _take(a.store.inbox, MAX_INBOX_MESSAGES - len(got), acknowledge=False)
        await raises(Full, put(a.name, b""), "what is taken counts until it is acknowledged")
        await a.store.inbox.acknowledge([receipt for receipt, _ in got[:2]])
        equal([await put(a.name, b"new"), await put(a.name, b"new")], [True, True], "two are done with")
        await raises(Full, put(a.name, b""), "one past the limit")
        await a.store.inbox.acknowledge([receipt for receipt, _ in got[1:]])
        equal([message for _, message in await _take(a.store.inbox, 2)], [b"new", b"new"], "the new ones alone")


@in_time
async def check_an_inbox_is_full_at_its_bytes(make: Make) -> None:
    """At the limit and one byte past it."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        size = 1024 * 1024
        got: list[tuple[str, bytes]] = []
        for _ in range(MAX_INBOX_BYTES // size):
            equal(await b.store.inbox.put(a.name, b"x" * size), True, "up to the limit")
            got += await a.store.inbox.take(0)
        await raises(Full, b.store.inbox.put(a.name, b"x"), "one byte past the limit")
        got += await _take(a.store.inbox, MAX_INBOX_BYTES // size - len(got), acknowledge=False)
        await raises(Full, b.store.inbox.put(a.name, b"x"), "what is taken counts until it is acknowledged")
        await a.store.inbox.acknowledge([got[0][0]])
        await raises(Full, b.store.inbox.put(a.name, b"x" * (size + 1)), "one byte past the limit")
        equal(await b.store.inbox.put(a.name, b"y" * size), True, "one is done with")
        equal((await _take(a.store.inbox, 1))[0][1], b"y" * size, "it arrives")


@in_time
async def check_a_party_has_a_share_of_an_inbox(make: Make) -> None:
    """By count and by bytes: at the limit, one past it, beside others, and again after messages are done with."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        put, inbox = b.store.inbox.put, a.store.inbox
        for party in ("greedy", TEXTS[5]):  # another one with a name that is no plain text
            got: list[tuple[str, bytes]] = []
            for _ in range(0, MAX_PARTY_MESSAGES, 500):
                puts = (put(a.name, b"x", party=party) for _ in range(500))
                equal({*await asyncio.gather(*puts)}, {True}, "up to the share")
                got += await inbox.take(0)
            error = await raises(Full, put(a.name, b"", party=party), "one past the share")
            equal(error.group, True, "it is the limit of the party")
            for other in ("", "modest"):
                equal(await put(a.name, b"", party=other), True, "the others have room")
            got += await _take(inbox, MAX_PARTY_MESSAGES + 2 - len(got), acknowledge=False)
            await raises(Full, put(a.name, b"", party=party), "what is taken counts until it is acknowledged")
            await inbox.acknowledge([receipt for receipt, _ in got[:1]])
            equal(await put(a.name, b"new", party=party), True, "one is done with")
            await raises(Full, put(a.name, b"", party=party), "one past the share")
            await inbox.acknowledge([receipt for receipt, _ in got[1:]])
            equal([message for _, message in await _take(inbox, 1)], [b"new"], "the new one alone")


@in_time
async def check_a_party_has_a_share_of_the_bytes_of_an_inbox(make: Make) -> None:
    """At the limit and one byte past it."""
    async with fleet(make, 2) as (a, b):
        await a.live()
        size = 1024 * 1024
        got: list[tuple[str, bytes]] = []
        for _ in range(MAX_PARTY_BYTES // size):
            equal(await b.store.inbox.put(a.name, b"x" * size, party="p"), True, "up to the share")
            got += await a.store.inbox.take(0)
        error = await raises(Full, b.store.inbox.put(a.name, b"x", party="p"), "one byte past the share")
        equal(error.group, True, "it is the limit of the party")
        equal(await b.store.inbox.put(a.name, b"", party="p"), True, "an empty message needs no bytes")
        equal(await b.store.inbox.put(a.name, b"x", party="q"), True, "another party has room")
        got += await _take(a.store.inbox, MAX_PARTY_BYTES // size + 2 - len(got), acknowledge=False)
        await a.store.inbox.acknowledge([got[0][0]])
        await raises(Full, b.store.inbox.put(a.name, b"x" * (size + 1), party="p"), "one byte past the share")
        equal(await b.store.inbox.put(a.name, b"y" * size, party="p"), True, "one is done with")


@in_time
async def check_a_worker_lives_as_long_as_it_takes(make: Make) -> None:
    """No other operation writes its heartbeat; a worker that takes again is alive again."""
    async with fleet(make, 2) as (a, b):
        equal({a.name, b.name} & {*await b.store.inbox.workers()}, set(), "a worker is alive once it has taken")
        await a.live()
        await b.live()
        equal({a.name, b.name} <= {*await b.store.inbox.workers()}, True, "both are alive")

        async def dead() -> bool:
            await a.store.records.create(fresh(), "k", b"", 1.0)
            await a.store.inbox.workers()
            await a.store.inbox.acknowledge([])
            await a.store.bus.publish(b"busy")
            await b.store.inbox.take(0)
            return not await b.store.inbox.put(a.name, b"")

        await eventually(dead, "a worker that takes no more is dead", ALIVE_TIME + APPEAR_TIME)
        living = await b.store.inbox.workers()
        equal((a.name in living, b.name in living), (False, True), "one of them is alive")
        await a.store.inbox.take(0)
        equal(await b.store.inbox.put(a.name, b"again"), True, "it has taken again")
        equal(a.name in await b.store.inbox.workers(), True, "it has taken again")
        equal((await _take(a.store.inbox, 1))[0][1], b"again", "the message arrives")


@in_time
async def check_a_closed_worker_is_dead_at_once(make: Make) -> None:
    """Its heartbeat and its inbox go with it; the others go on."""
    async with fleet(make, 3) as (a, b, c):
        await a.live()
        await c.live()
        await b.store.inbox.put(a.name, b"")
        await a.store.close()
        await a.store.close()
        equal(await b.store.inbox.put(a.name, b""), False, "it was closed")
        living = await b.store.inbox.workers()
        equal((a.name in living, c.name in living), (False, True), "the other one is alive")
        await b.store.bus.publish(b"after")
        await b.store.bus.publish(b"after", a.name)

        async def heard() -> bool:
            return b"after" in c.heard

        await eventually(heard, "the others hear")
        equal(a.heard, [], "a closed worker hears nothing")


@in_time
async def check_the_bus_tells_all_others_or_one(make: Make) -> None:
    """Not the worker itself; in the order of a publisher; any bytes up to the limit."""
    async with fleet(make, 3) as (a, b, c):
        messages = [*BYTES, b"z" * MAX_BUS_BYTES, *(b"%d" % n for n in range(50))]
        for message in messages:
            await a.store.bus.publish(message)
        await a.store.bus.publish(b"to b", b.name)
        await a.store.bus.publish(b"to itself", a.name)
        for name in TEXTS:
            await a.store.bus.publish(b"to none", name)
        await raises(ValueError, a.store.bus.publish(b"z" * (MAX_BUS_BYTES + 1)), "one byte past the limit")
        await a.store.bus.publish(b"end")
        for worker in (b, c):
            await eventually(lambda: _heard(worker, b"end"), "the others hear")  # noqa: B023
        equal(b.heard, [*messages, b"to b", b"end"], "all, and its own")
        equal(c.heard, [*messages, b"end"], "all")
        await b.store.bus.publish(b"back")
        await eventually(lambda: _heard(a, b"back"), "each can publish")
        equal(a.heard, [b"back"], "nothing of its own")


async def _heard(worker: Worker, message: bytes) -> bool:
    return message in worker.heard


@in_time
async def check_a_worker_that_comes_later_hears_and_is_heard(make: Make) -> None:
    """From its `open` on, whichever workers were there before, and also with several that begin at once."""
    async with fleet(make) as (a,):
        late = [Worker(await make(), fresh()) for _ in range(4)]
        try:
            for worker in late:
                worker.store.bus.subscribe(worker.heard.append, worker.gap)
            await asyncio.gather(*(worker.store.open(worker.name) for worker in late))
            everyone = [a, *late]
            for worker in everyone:
                await worker.store.bus.publish(worker.name.encode())
            for worker in everyone:
                wanted = {other.name.encode() for other in everyone if other is not worker}

                async def all_heard(worker: Worker = worker, wanted: set[bytes] = wanted) -> bool:
                    return wanted <= {*worker.heard}

                await eventually(all_heard, "each hears all others")
                equal(len(worker.heard), len(wanted), "each message once")
        finally:
            for worker in late:
                await worker.store.close()


@in_time
async def check_many_operations_at_once_do_not_disturb_each_other(make: Make) -> None:
    """Eight hundred of all kinds on two workers: each has its own result, also where its neighbours fail."""
    async with fleet(make, 2) as workers:
        space, session = fresh(), fresh()
        full = [worker.store.records for worker in workers]
        await full[0].create(space, "only", b"", LONG)

        async def one(worker: Worker, n: int) -> None:
            store, name = worker.store, f"{worker.name}-{n}"
            await store.logs.open(session, name, LONG)
            await raises(Full, store.records.create(space, name, b"", LONG, limit=1), "the space is full")
            version = given(await store.records.create(name, "k", b"1", LONG), "a new record")
            given(await store.records.save(name, "k", name.encode(), version, LONG), "the version is right")
            equal(await store.logs.append(session, name, 1, name.encode()), "", "the first event")
            equal(given(await store.records.load(name, "k"), "it is there").value, name.encode(), "its own record")
            equal((await store.logs.read(session, name, 0)).events, [(1, name.encode())], "its own log")
            equal(await store.records.delete(name, "k"), True, "it is there")

        await asyncio.gather(*(one(worker, n) for worker in workers for n in range(50)))
        await full[1].delete(space, "only")
        await workers[1].store.logs.discard(session)


@in_time
async def check_a_store_tells_numbers_and_closes_twice(make: Make) -> None:
    """Its records and logs outlive the worker that wrote them."""
    async with fleet(make, 2) as (a, b):
        space = fresh()
        version = given(await a.store.records.create(space, "k", b"kept", LONG), "a new record")
        await a.store.logs.open(space, "s", LONG, writer=a.name)
        await a.store.logs.append(space, "s", 1, b"kept")
        for name, number in a.store.statistics().items():
            equal((type(name), type(number) in (int, float)), (str, True), "numbers by name")
        await a.store.close()
        await a.store.close()
        equal(await b.store.records.load(space, "k"), (version, b"kept"), "the record is there")
        equal((await b.store.logs.read(space, "s", 0)).events, [(1, b"kept")], "the log is there")


MESSAGE_CHECKS = (
    check_a_message_reaches_a_live_worker_once,
    check_a_message_wakes_the_taker,
    check_messages_of_many_senders_are_taken_once,
    check_a_take_that_is_cancelled_loses_nothing,
    check_an_inbox_is_full_at_its_count,
    check_an_inbox_is_full_at_its_bytes,
    check_a_party_has_a_share_of_an_inbox,
    check_a_party_has_a_share_of_the_bytes_of_an_inbox,
    check_a_worker_lives_as_long_as_it_takes,
    check_a_closed_worker_is_dead_at_once,
    check_the_bus_tells_all_others_or_one,
    check_a_worker_that_comes_later_hears_and_is_heard,
    check_many_operations_at_once_do_not_disturb_each_other,
    check_a_store_tells_numbers_and_closes_twice,
)
