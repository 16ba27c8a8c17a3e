# SPDX-License-Identifier: MIT
"""The suite of all stores finds the stores that break a rule, each by the check that is named for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcp_h11.stores import suite, suite_logs, suite_messages, suite_records
from mcp_h11.stores.base import Full, Record, Repeated, Store, Taken
from mcp_h11.stores.memory import Hub, MemoryBus, MemoryInbox, MemoryLogs, MemoryRecords, MemoryStore
from mcp_h11.stores.testing import CHECKS, StoreCheck


def breaks(check: StoreCheck, part: type, name: str, make: Callable[[Any], Any]) -> Any:
    """A store in memory, a method of which is made from the right one, and the check that finds it."""
    return pytest.param(check, part, name, make, id=f"{part.__name__}.{name} {check.__name__}")


def without(*names: str) -> Callable[[Any], Any]:
    """The operation ignores arguments."""

    def make(right: Any) -> Any:
        async def broken(self: Any, *arguments: Any, **named: Any) -> Any:
            return await right(self, *arguments, **{name: value for name, value in named.items() if name not in names})

        return broken

    return make


def does_nothing(result: Any = None) -> Callable[[Any], Any]:
    def make(right: Any) -> Any:
        async def broken(self: Any, *arguments: Any, **named: Any) -> Any:
            return result

        return broken

    return make


def save_any_version(right: Any) -> Any:
    async def broken(self: Any, space: str, key: str, value: bytes, version: int, ttl: float | None) -> Any:
        found = await self.load(space, key)
        return await right(self, space, key, value, found.version if found else version, ttl)

    return broken


def text_without_nul(right: Any) -> Any:
    async def broken(self: Any, space: str, key: str, *arguments: Any, **named: Any) -> Any:
        return await right(self, space, key.partition("\0")[0], *arguments, **named)

    return broken


def append_again(right: Any) -> Any:
    async def broken(self: Any, session: str, stream: str, index: int, data: bytes, **named: Any) -> Any:
        try:
            return await right(self, session, stream, index, data, **named)
        except Taken:
            return ""

    return broken


def names_of_all_logs(right: Any) -> Any:
    """A name is taken in all logs of the session."""
    known: set[tuple[str, str]] = set()

    async def broken(self: Any, session: str, stream: str, *arguments: Any, name: str = "", **named: Any) -> Any:
        if name and (session, name) in known and not any(name in log.names for log in self._hub.logs[session].values()):
            known.discard((session, name))
        elif name and (session, name) in known:
            raise Repeated(name)
        done = await right(self, session, stream, *arguments, name=name, **named)
        known.add((session, name))
        return done

    return broken


def names_for_ever(right: Any) -> Any:
    """A name stays when its event goes."""
    known: set[tuple[str, str]] = set()

    async def broken(self: Any, session: str, stream: str, *arguments: Any, name: str = "", **named: Any) -> Any:
        if name and (session, name) in known:
            raise Repeated(name)
        done = await right(self, session, stream, *arguments, name=name, **named)
        known.add((session, name))
        return done

    return broken


def read_then_reader(right: Any) -> Any:
    """The reader is set some turns after the events were read."""

    async def broken(self: Any, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Any:
        tail = await right(self, session, stream, after)
        for _ in range(5):
            await asyncio.sleep(0)
        if reader is not None:
            await right(self, session, stream, None, reader=reader)
        return tail

    return broken


def append_slowly(right: Any) -> Any:
    async def broken(self: Any, *arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        return await right(self, *arguments, **named)

    return broken


def take_without_a_wait(right: Any) -> Any:
    async def broken(self: Any, wait: float) -> Any:
        return await right(self, 0)

    return broken


def take_twice(right: Any) -> Any:
    async def broken(self: Any, wait: float) -> Any:
        found = await right(self, wait)
        return found + found[:1]

    return broken


def acknowledge_as_a_heartbeat(right: Any) -> Any:
    async def broken(self: Any, receipts: Any) -> Any:
        self.beat_at = self._hub.clock()
        return await right(self, receipts)

    return broken


def put_without_limit(right: Any) -> Any:
    async def broken(self: Any, worker: str, message: bytes, *, party: str = "") -> Any:
        try:
            return await right(self, worker, message, party=party)
        except Full:
            return True

    return broken


def one_party(right: Any) -> Any:
    async def broken(self: Any, worker: str, message: bytes, *, party: str = "") -> Any:
        return await right(self, worker, message, party="all")

    return broken


def keeps_the_share(right: Any) -> Any:
    return lambda self, party, done: None


def publish_to_all(right: Any) -> Any:
    async def broken(self: Any, message: bytes, worker: str | None = None) -> Any:
        return await right(self, message)

    return broken


def publish_any_size(right: Any) -> Any:
    async def broken(self: Any, message: bytes, worker: str | None = None) -> Any:
        return await right(self, message[:1000], worker)

    return broken


def oldest_key(right: Any) -> Any:
    async def broken(self: Any, space: str, group: str | None, idle: float) -> Any:
        return min(self._alive(space), default=None)

    return broken


BROKEN = [
    breaks(suite_records.check_a_save_needs_the_version_that_was_read, MemoryRecords, "save", save_any_version),
    breaks(suite_records.check_a_record_is_kept_until_it_is_deleted, MemoryRecords, "delete", does_nothing(True)),
    breaks(suite_records.check_the_limit_of_a_space_holds, MemoryRecords, "create", without("limit")),
    breaks(suite_records.check_the_limit_of_a_group_holds, MemoryRecords, "create", without("group_limit")),
    breaks(suite_records.check_the_limit_of_a_group_holds, MemoryRecords, "create", without("group")),
    breaks(suite_records.check_creators_that_race_keep_to_the_limit, MemoryRecords, "create", without("group_limit")),
    breaks(suite_records.check_the_oldest_is_the_one_that_was_used_longest_ago, MemoryRecords, "oldest", oldest_key),
    breaks(suite_records.check_any_text_is_a_key_and_any_bytes_are_a_value, MemoryRecords, "load", text_without_nul),
    breaks(suite_logs.check_an_index_is_taken_once, MemoryLogs, "append", append_again),
    breaks(suite_logs.check_of_writers_that_race_for_an_index_one_wins, MemoryLogs, "append", append_again),
    breaks(suite_logs.check_no_event_follows_the_end, MemoryLogs, "finish", does_nothing()),
    breaks(suite_logs.check_no_event_follows_the_end, MemoryLogs, "append", without("last")),
    breaks(suite_logs.check_the_reader_is_told_to_the_writer, MemoryLogs, "read", without("reader")),
    breaks(suite_logs.check_an_append_can_leave_a_log_to_its_reader, MemoryLogs, "append", without("reader")),
    breaks(suite_logs.check_a_name_is_taken_once, MemoryLogs, "append", without("name")),
    breaks(suite_logs.check_a_name_is_taken_once, MemoryLogs, "append", names_of_all_logs),
    breaks(suite_logs.check_a_name_goes_with_its_event, MemoryLogs, "append", names_for_ever),
    breaks(suite_logs.check_a_log_is_discarded_alone_or_with_its_session, MemoryLogs, "discard", does_nothing()),
    breaks(suite_messages.check_a_message_reaches_a_live_worker_once, MemoryInbox, "take", take_twice),
    breaks(suite_messages.check_a_message_reaches_a_live_worker_once, MemoryInbox, "put", does_nothing(True)),
    breaks(suite_messages.check_a_message_wakes_the_taker, MemoryInbox, "take", take_without_a_wait),
    breaks(suite_messages.check_an_inbox_is_full_at_its_count, MemoryInbox, "put", put_without_limit),
    breaks(suite_messages.check_an_inbox_is_full_at_its_bytes, MemoryInbox, "put", put_without_limit),
    breaks(suite_messages.check_an_inbox_is_full_at_its_count, MemoryInbox, "acknowledge", does_nothing()),
    breaks(suite_messages.check_a_party_has_a_share_of_an_inbox, MemoryInbox, "put", without("party")),
    breaks(suite_messages.check_a_party_has_a_share_of_an_inbox, MemoryInbox, "put", one_party),
    breaks(suite_messages.check_a_party_has_a_share_of_an_inbox, MemoryInbox, "_give_back", keeps_the_share),
    breaks(suite_messages.check_a_party_has_a_share_of_the_bytes_of_an_inbox, MemoryInbox, "put", without("party")),
    breaks(suite_messages.check_the_bus_tells_all_others_or_one, MemoryBus, "publish", publish_to_all),
    breaks(suite_messages.check_the_bus_tells_all_others_or_one, MemoryBus, "publish", publish_any_size),
    breaks(suite_messages.check_a_closed_worker_is_dead_at_once, MemoryStore, "close", does_nothing()),
]


def failure(check: StoreCheck) -> BaseException | None:
    """Run a check on stores in memory; returns what it raised."""
    hub = Hub()

    async def make() -> Store:
        return MemoryStore(hub)

    async def checking() -> BaseException | None:
        try:
            await check(make)
        except (AssertionError, Full, Taken) as error:
            return error
        return None

    return asyncio.run(checking())


@pytest.mark.parametrize("check, part, name, make", BROKEN)
def test_a_broken_rule_is_found(
    check: StoreCheck, part: type, name: str, make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failure(check) is None
    monkeypatch.setattr(part, name, make(getattr(part, name)))
    monkeypatch.setattr(suite.eventually, "__defaults__", (1.0,))
    found = failure(check)
    assert found is not None and str(found)


def test_a_gap_between_a_read_and_its_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check = suite_logs.check_no_event_falls_between_a_read_and_its_reader
    monkeypatch.setattr(MemoryLogs, "append", append_slowly(MemoryLogs.append))
    assert failure(check) is None
    monkeypatch.setattr(MemoryLogs, "read", read_then_reader(MemoryLogs.read))
    assert isinstance(failure(check), AssertionError)


@pytest.mark.long
def test_a_heartbeat_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_messages, "ALIVE_TIME", 0.0)
    monkeypatch.setattr(suite_messages, "APPEAR_TIME", 6.0)
    monkeypatch.setattr(MemoryInbox, "acknowledge", acknowledge_as_a_heartbeat(MemoryInbox.acknowledge))
    found = failure(suite_messages.check_a_worker_lives_as_long_as_it_takes)
    assert isinstance(found, AssertionError) and "dead" in str(found)


def test_a_time_to_live_that_does_not_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite.eventually, "__defaults__", (1.0,))
    hub = Hub(lambda: 0.0)

    async def make() -> Store:
        return MemoryStore(hub)

    for check in (
        suite_records.check_a_record_ends_after_its_time,
        suite_logs.check_a_log_ends_after_its_time,
    ):
        with pytest.raises(AssertionError, match="not so after 1 s"):
            asyncio.run(check(make))  # type: ignore[arg-type]


def test_a_check_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "CHECK_TIME", 0.1)

    async def hang(self: object, space: str, key: str) -> Record | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(MemoryRecords, "load", hang)
    with pytest.raises(asyncio.TimeoutError):
        failure(CHECKS[0])


def test_what_a_store_must_not_raise_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(self: object, *arguments: object, **named: object) -> str:
        raise LookupError("not an error of a store")

    monkeypatch.setattr(MemoryLogs, "append", other)
    with pytest.raises(LookupError):
        failure(suite_logs.check_an_index_is_taken_once)
