# SPDX-License-Identifier: MIT
"""The stores in memory: what they keep, what they let go first, and that they never hand out a part."""

from __future__ import annotations

import pytest

from mcp_h11.protocol.errors import EventsExpired
from mcp_h11.runtime.storage import (
    EVENT_OVERHEAD,
    STREAM_OVERHEAD,
    MemoryEventStore,
    MemorySessionManager,
    SessionState,
)

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def fill(store: MemoryEventStore, session: str, stream: str, *events: bytes) -> None:
    for index, data in enumerate(events, 1):
        await store.append(session, stream, index, data)


async def expired(store: MemoryEventStore, session: str, stream: str, after: int) -> bool:
    try:
        await store.replay(session, stream, after)
    except EventsExpired:
        return True
    return False


async def test_what_was_kept_comes_back_in_order_and_only_after_the_cursor() -> None:
    store = MemoryEventStore()
    await fill(store, "s", "a", b"1", b"2", b"3")
    await fill(store, "s", "b", b"other")
    await fill(store, "t", "a", b"another session")
    assert await store.replay("s", "a", 0) == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert await store.replay("s", "a", 2) == [(3, b"3")]
    assert await store.replay("s", "a", 3) == []
    assert await store.replay("t", "a", 0) == [(1, b"another session")]


async def test_a_stream_that_is_not_there_is_expired_and_not_empty() -> None:
    store = MemoryEventStore()
    assert await expired(store, "s", "a", 0)
    await fill(store, "s", "a", b"1")
    assert await expired(store, "s", "b", 0)
    assert await expired(store, "t", "a", 0)


async def test_events_of_one_stream_are_capped_and_a_gap_is_refused() -> None:
    store = MemoryEventStore(max_stream_events=3)
    await fill(store, "s", "a", b"1", b"2", b"3")
    assert len(await store.replay("s", "a", 0)) == 3  # at the limit
    await store.append("s", "a", 4, b"4")
    assert await expired(store, "s", "a", 0)
    assert await store.replay("s", "a", 1) == [(2, b"2"), (3, b"3"), (4, b"4")]


async def test_bytes_of_a_session_are_capped_and_its_older_streams_go_first() -> None:
    each = STREAM_OVERHEAD + EVENT_OVERHEAD + 100
    store = MemoryEventStore(max_session_bytes=2 * each)
    await fill(store, "s", "a", b"a" * 100)
    await fill(store, "s", "b", b"b" * 100)
    await fill(store, "t", "a", b"t" * 100)
    assert len(await store.replay("s", "a", 0)) == 1  # at the limit
    await store.append("s", "b", 2, b"")
    assert await expired(store, "s", "a", 0)
    assert len(await store.replay("s", "b", 0)) == 2
    assert len(await store.replay("t", "a", 0)) == 1


async def test_the_newest_event_is_kept_even_if_it_alone_is_too_large() -> None:
    store = MemoryEventStore(max_session_bytes=1_000)
    await fill(store, "s", "a", b"1", b"2" * 5_000)
    assert await store.replay("s", "a", 1) == [(2, b"2" * 5_000)]
    assert await expired(store, "s", "a", 0)


async def test_bytes_of_all_sessions_are_capped_and_the_oldest_stream_goes_first() -> None:
    each = STREAM_OVERHEAD + EVENT_OVERHEAD + 100
    store = MemoryEventStore(max_total_bytes=3 * each)
    for session in "stu":
        await fill(store, session, "a", b"x" * 100)
    assert store.total_bytes == 3 * each
    await fill(store, "v", "a", b"x" * 100)
    assert store.total_bytes == 3 * each
    assert await expired(store, "s", "a", 0)
    assert [await expired(store, session, "a", 0) for session in "tuv"] == [False] * 3


async def test_a_stream_that_was_evicted_begins_anew_and_says_what_it_lost() -> None:
    store = MemoryEventStore(max_total_bytes=STREAM_OVERHEAD + EVENT_OVERHEAD + 10)
    await fill(store, "s", "a", b"1")
    await fill(store, "t", "a", b"1")  # evicts the first
    await store.append("s", "a", 2, b"2")
    assert await expired(store, "s", "a", 0)
    assert await store.replay("s", "a", 1) == [(2, b"2")]


async def test_a_finished_stream_goes_after_a_while_and_an_unfinished_one_does_not() -> None:
    clock = Clock()
    store = MemoryEventStore(keep_finished=300.0, clock=clock)
    await fill(store, "s", "done", b"1")
    await fill(store, "s", "open", b"1")
    await store.finish("s", "done")
    clock.now = 299.9
    await store.finish("s", "done")  # a second time changes nothing
    await store.finish("s", "unknown")
    assert not await expired(store, "s", "done", 0)
    clock.now = 300.0
    assert await expired(store, "s", "done", 0)
    assert not await expired(store, "s", "open", 0)


async def test_discarding_frees_everything() -> None:
    store = MemoryEventStore()
    await fill(store, "s", "a", b"1", b"2")
    await fill(store, "s", "b", b"1")
    await store.finish("s", "b")
    await store.discard("s", "a")
    size = store.total_bytes
    await store.discard("s", "a")
    await store.discard("s", "unknown")  # a session that is known, and a stream that is not: nothing else goes
    assert store.total_bytes == size > 0
    assert await expired(store, "s", "a", 0)
    assert not await expired(store, "s", "b", 0)
    await store.discard("s")
    await store.discard("s")
    await store.discard("unknown", "a")
    assert store.total_bytes == 0


async def test_a_thousand_sessions_leave_nothing_behind() -> None:
    store = MemoryEventStore()
    for number in range(1_000):
        await fill(store, str(number), "a", b"1")
        await store.finish(str(number), "a")
        await store.discard(str(number))
    assert store.total_bytes == 0
    assert (len(store._sessions), len(store._age), len(store._ended), len(store._sizes)) == (0, 0, 0, 0)


async def test_session_records_are_kept_changed_and_forgotten() -> None:
    manager = MemorySessionManager()
    assert await manager.load("a") is None
    state = SessionState(id="a")
    await manager.create(state)
    assert (await manager.load("a"), len(manager)) == (state, 1)
    changed = SessionState(id="a", log_level="debug")
    await manager.save(changed)
    await manager.touch("a")
    assert await manager.load("a") == changed
    await manager.delete("a")
    await manager.delete("a")
    assert (await manager.load("a"), len(manager)) == (None, 0)
