# SPDX-License-Identifier: MIT
"""The checks of `Records`."""

from __future__ import annotations

import asyncio

from .base import Full, Record, Records
from .suite import BYTES, LONG, SHORT, STALL, TEXTS, Make, equal, eventually, fleet, fresh, given, in_time, raises


async def _gone(records: Records, space: str, key: str) -> bool:
    return await records.load(space, key) is None


@in_time
async def check_a_record_is_kept_until_it_is_deleted(make: Make) -> None:
    """On every worker: created once, loaded, saved, deleted once."""
    async with fleet(make, 2) as (a, b):
        one, two, space = a.store.records, b.store.records, fresh()
        equal(await one.load(space, "k"), None, "no record yet")
        version = given(await one.create(space, "k", b"1", LONG), "a new record")
        equal(await two.create(space, "k", b"2", LONG), None, "a key that is there is not created")
        equal(await two.load(space, "k"), Record(version, b"1"), "the other worker loads it")
        newer = given(await two.save(space, "k", b"3", version, LONG), "the version is the one that was read")
        equal(await one.load(space, "k"), Record(newer, b"3"), "the saved value")
        equal(await one.delete(space, "k"), True, "it was there")
        equal(await two.delete(space, "k"), False, "it is gone")
        equal(await two.load(space, "k"), None, "it is gone")
        equal(await two.save(space, "k", b"4", newer, LONG), None, "a record that is gone is not saved")
        equal(await two.load(space, "k"), None, "nor is it made by a save")


@in_time
async def check_a_save_needs_the_version_that_was_read(make: Make) -> None:
    """Versions rise, and no version comes back with a new record of the same key."""
    async with fleet(make) as (a,):
        records, space = a.store.records, fresh()
        first = given(await records.create(space, "k", b"1", LONG), "a new record")
        second = given(await records.save(space, "k", b"2", first, LONG), "the version that was read")
        equal(second > first, True, "versions rise")
        equal(await records.save(space, "k", b"x", first, LONG), None, "an old version")
        equal(await records.save(space, "k", b"x", second + 1, LONG), None, "a version that never was")
        equal(await records.load(space, "k"), Record(second, b"2"), "a refused save changes nothing")
        await records.delete(space, "k")
        third = given(await records.create(space, "k", b"3", LONG), "a new record with the key of an old one")
        equal(third in (first, second), False, "a version of the deleted record does not come back")
        equal(await records.save(space, "k", b"x", first, LONG), None, "a version of the deleted record")


@in_time
async def check_writers_that_race_lose_no_change(make: Make) -> None:
    """Two workers with ten writers each add one, as compare-and-set lets them."""
    async with fleet(make, 2) as workers:
        space = fresh()
        await workers[0].store.records.create(space, "k", b"0", LONG)

        async def add(records: Records) -> None:
            while True:
                found = given(await records.load(space, "k"), "the record is there")
                if await records.save(space, "k", b"%d" % (int(found.value) + 1), found.version, LONG) is not None:
                    return

        await asyncio.gather(*(add(worker.store.records) for worker in workers for _ in range(10)))
        found = given(await workers[0].store.records.load(space, "k"), "the record is there")
        equal(found.value, b"20", "each of twenty writers added one")


@in_time
async def check_of_creators_that_race_one_wins(make: Make) -> None:
    """The others get None, and the record is the winner's."""
    async with fleet(make, 2) as workers:
        space = fresh()
        names = [(worker.store.records, b"%d" % n) for worker in workers for n in range(10)]
        made = await asyncio.gather(*(records.create(space, "k", name, LONG) for records, name in names))
        won = [(version, name) for version, (_, name) in zip(made, names, strict=True) if version is not None]
        equal(len(won), 1, "one creator wins")
        equal(await workers[0].store.records.load(space, "k"), Record(*won[0]), "the record is the winner's")


@in_time
async def check_a_record_ends_after_its_time(make: Make) -> None:
    """Gone for each operation; others stay."""
    async with fleet(make) as (a,):
        records, space = a.store.records, fresh()
        for key, ttl in (("short", SHORT), ("long", LONG), ("endless", None)):
            given(await records.create(space, key, b"", ttl), "a new record")
        version = given(await records.create(space, "other", b"", SHORT), "a new record")
        await eventually(lambda: _gone(records, space, "short"), "a record ends")
        await eventually(lambda: _gone(records, space, "other"), "a record ends")
        equal(await records.count(space), 2, "one that has ended is not counted")
        equal(await records.save(space, "other", b"", version, LONG), None, "one that has ended is not saved")
        await records.touch(space, ["other"], LONG)
        equal(await records.load(space, "other"), None, "one that has ended is not touched")
        equal(await records.delete(space, "other"), False, "one that has ended is not there to delete")
        equal(await records.oldest(space, None, 0.0) in ("long", "endless"), True, "the oldest is alive")
        given(await records.create(space, "short", b"", LONG), "the key is free again")


@in_time
async def check_save_and_touch_begin_the_time_anew(make: Make) -> None:
    """A record that was saved or touched outlives one of the same time that was not."""
    async with fleet(make) as (a,):
        records, space = a.store.records, fresh()
        version = given(await records.create(space, "saved", b"", STALL), "a new record")
        await records.save(space, "saved", b"", version, LONG)
        version = given(await records.create(space, "endless", b"", STALL), "a new record")
        await records.save(space, "endless", b"", version, None)
        version = given(await records.create(space, "touched", b"kept", STALL), "a new record")
        await records.touch(space, ["unknown", "touched"], LONG)
        given(await records.create(space, "shortened", b"", LONG), "a new record")
        await records.touch(space, ["shortened"], SHORT)
        await records.touch(space, [], LONG)
        given(await records.create(space, "untouched", b"", STALL), "a new record")
        await eventually(lambda: _gone(records, space, "untouched"), "a record ends")
        await eventually(lambda: _gone(records, space, "shortened"), "touch sets the time, also to less")
        equal(await records.load(space, "touched"), Record(version, b"kept"), "touch changes the time alone")
        equal(await records.load(space, "unknown"), None, "touch makes no record")
        for key in ("saved", "endless"):
            given(await records.load(space, key), "a save begins the time anew")


@in_time
async def check_the_limit_of_a_space_holds(make: Make) -> None:
    """At the limit and one past it; a record that went makes room; a limit is of one space."""
    async with fleet(make, 2) as (a, b):
        one, two, space, other = a.store.records, b.store.records, fresh(), fresh()
        for n in range(3):
            given(await one.create(space, f"k{n}", b"", LONG, limit=3, group=f"g{n}"), "up to the limit")
        error = await raises(Full, two.create(space, "k3", b"", LONG, limit=3), "one past the limit")
        equal(error.group, False, "it is the limit of the space")
        equal(await two.load(space, "k3"), None, "what was refused is not there")
        equal(await two.create(space, "k2", b"", LONG, limit=3), None, "a key that is there is no matter of limits")
        given(await two.create(other, "k3", b"", LONG, limit=3), "another space")
        await two.delete(space, "k0")
        given(await two.create(space, "k3", b"", SHORT, limit=3), "one went")

        async def room() -> bool:
            try:
                return await two.create(space, "k4", b"", LONG, limit=3) is not None
            except Full:
                return False

        await eventually(room, "one ended, which makes room")
        equal(await one.count(space), 3, "the space is full again")


@in_time
async def check_the_limit_of_a_group_holds(make: Make) -> None:
    """At the limit and one past it; another group is not concerned."""
    async with fleet(make, 2) as (a, b):
        one, two, space, names = a.store.records, b.store.records, fresh(), iter(range(100))

        async def create(records: Records, group: str, ttl: float = LONG) -> int | None:
            return await records.create(space, f"k{next(names)}", b"", ttl, group=group, limit=100, group_limit=2)

        given(await create(one, "g", SHORT), "up to the limit")
        await eventually(lambda: _gone(one, space, "k0"), "a record ends")
        for _ in range(2):
            given(await create(one, "g"), "up to the limit: one that has ended is not counted")
        error = await raises(Full, create(two, "g"), "one past the limit of the group")
        equal(error.group, True, "it is the limit of the group")
        given(await create(two, "h"), "another group")
        given(await create(two, ""), "the group without a name")
        equal(await one.delete(space, "k1"), True, "it was there")
        given(await create(two, "g"), "one of the group went")


@in_time
async def check_creators_that_race_keep_to_the_limit(make: Make) -> None:
    """Of twelve creators on two workers, as many win as the limit has places."""
    async with fleet(make, 2) as workers:
        space = fresh()
        made = await asyncio.gather(
            *(
                worker.store.records.create(space, f"{worker.name}-{n}", b"", LONG, group="g", limit=9, group_limit=5)
                for worker in workers
                for n in range(6)
            ),
            return_exceptions=True,
        )
        equal(sum(isinstance(one, int) for one in made), 5, "five places")
        equal(sum(isinstance(one, Full) and one.group for one in made), 7, "seven are refused")
        equal(await workers[0].store.records.count(space), 5, "five records")


@in_time
async def check_the_oldest_is_the_one_that_was_used_longest_ago(make: Make) -> None:
    """Of the space or of a group, if it is idle for long enough."""
    async with fleet(make) as (a,):
        records, space = a.store.records, fresh()

        async def step(key: str) -> None:
            async def earlier() -> bool:
                return await records.oldest(space, f"only {key}", 0.05) == key

            await eventually(earlier, "a record is the oldest of its group after a while")

        equal(await records.oldest(space, None, 0.0), None, "an empty space")
        versions = {}
        for key in ("c", "a", "b"):
            versions[key] = given(await records.create(space, key, b"", LONG, group=f"only {key}"), "a new record")
            await step(key)
        equal(await records.oldest(space, None, 0.0), "c", "the first that was created")
        equal(await records.oldest(space, None, LONG), None, "it is not idle for so long")
        equal(await records.oldest(space, "only b", LONG), None, "nor is that of a group")
        equal(await records.oldest(space, "none", 0.0), None, "a group without records")
        await records.touch(space, ["c"], LONG)
        await step("c")
        equal(await records.oldest(space, None, 0.0), "a", "c was touched")
        await records.load(space, "a")
        equal(await records.oldest(space, None, 0.0), "a", "to load is not to use")
        await records.save(space, "a", b"", versions["a"], None)
        await step("a")
        equal(await records.oldest(space, None, 0.0), "b", "a was saved")
        await records.delete(space, "b")
        equal(await records.oldest(space, None, 0.0), "c", "b was deleted")
        equal(await records.oldest(space, "only b", 0.0), None, "b was deleted")


@in_time
async def check_any_text_is_a_key_and_any_bytes_are_a_value(make: Make) -> None:
    """A client chooses keys: no two of them meet, and each comes back as it was."""
    async with fleet(make, 2) as (a, b):
        one, two, space = a.store.records, b.store.records, fresh()
        for n, text in enumerate(TEXTS):
            given(await one.create(space, text, b"%d" % n, LONG, group=text, group_limit=1), f"{text!r:.20} is new")
        for n, text in enumerate(TEXTS):
            equal(given(await two.load(space, text), "it is there").value, b"%d" % n, f"{text!r:.20} is itself")
            equal(await two.oldest(space, text, 0.0), text, f"{text!r:.20} is a group, and comes back as it was")
        await two.touch(space, TEXTS, LONG)
        equal(await two.count(space), len(TEXTS), "each is a record")
        equal([await two.delete(space, text) for text in TEXTS], [True] * len(TEXTS), "each is deleted")
        equal(await one.count(space), 0, "nothing is left")
        for value in BYTES:
            version = given(await one.create(space, "v", b"", LONG), "a new record")
            given(await one.save(space, "v", value, version, LONG), "the version is right")
            equal(given(await two.load(space, "v"), "it is there").value, value, "a value comes back as it was")
            await one.delete(space, "v")
            given(await two.create(space, "v", value, LONG), "a new record")
            equal(given(await one.load(space, "v"), "it is there").value, value, "a value comes back as it was")
            await one.delete(space, "v")


@in_time
async def check_a_space_is_apart_from_other_spaces(make: Make) -> None:
    """The same key in two spaces is two records, also where names and keys read the same in a row."""
    async with fleet(make) as (a,):
        records, name = a.store.records, fresh()
        pairs = [(name, "xy"), (name + "x", "y"), (name + ":", "xy"), (name, ":xy"), (name + "xy", "")]
        for n, (space, key) in enumerate(pairs):
            given(await records.create(space, key, b"%d" % n, LONG, limit=2), "a new record")
        for n, (space, key) in enumerate(pairs):
            equal(given(await records.load(space, key), "it is there").value, b"%d" % n, "a record of its own")
        equal([await records.count(space) for space, _ in pairs], [2, 1, 1, 2, 1], "each space is counted alone")


RECORD_CHECKS = (
    check_a_record_is_kept_until_it_is_deleted,
    check_a_save_needs_the_version_that_was_read,
    check_writers_that_race_lose_no_change,
    check_of_creators_that_race_one_wins,
    check_a_record_ends_after_its_time,
    check_save_and_touch_begin_the_time_anew,
    check_the_limit_of_a_space_holds,
    check_the_limit_of_a_group_holds,
    check_creators_that_race_keep_to_the_limit,
    check_the_oldest_is_the_one_that_was_used_longest_ago,
    check_any_text_is_a_key_and_any_bytes_are_a_value,
    check_a_space_is_apart_from_other_spaces,
)
