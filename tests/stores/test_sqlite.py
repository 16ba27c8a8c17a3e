# SPDX-License-Identifier: MIT
"""The SQLite store: the suite of all stores, several processes, and what goes wrong with files and disks."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from stores_support import ALL_CHECKS, LIMIT, opened, rows, run, until

from mcp_h11.protocol.errors import EventsExpired
from mcp_h11.stores import sqlite, sqlite_thread
from mcp_h11.stores.base import Full, Record, Store, StoreError, Taken
from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.sqlite_thread import PLAIN, READ, WRITE
from mcp_h11.stores.suite_messages import MESSAGE_CHECKS
from mcp_h11.stores.testing import StoreCheck


@pytest.mark.parametrize("check", ALL_CHECKS)
def test_the_sqlite_store_passes(check: StoreCheck, tmp_path: Path) -> None:
    async def make() -> Store:
        return SQLiteStore(tmp_path / "store.db")

    asyncio.run(check(make))


@pytest.mark.parametrize("check", MESSAGE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.long
def test_the_bus_and_the_inbox_work_on_uvloop(check: StoreCheck, tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def make() -> Store:
        return SQLiteStore(tmp_path / "store.db")

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(check(make))
    finally:
        loop.close()


# --- processes ------------------------------------------------------------------------------------------------------

# Takes from its inbox, then appends events and prints the number of each that was acknowledged.
WRITER = """
import asyncio, sys
from mcp_h11.stores.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open("writer")
    await store.inbox.take(0)
    await store.logs.open("session", "stream", 600.0, writer="writer")
    n = 0
    while True:
        n += 1
        await store.logs.append("session", "stream", n, b"%d" % n)
        print(n, flush=True)

asyncio.run(main())
"""
# Is in the middle of a transaction when it says so.
HOLDER = """
import asyncio, sys, threading
from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.sqlite_thread import WRITE

def hold(base, clock):
    base.execute("UPDATE records SET value = x'00'")
    print("in", flush=True)
    threading.Event().wait()

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open("holder")
    await store._thread.run(WRITE, hold)

asyncio.run(main())
"""


class Process:
    """A worker in a process of its own, which is killed at the end."""

    def __init__(self, code: str, path: Path) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)

    async def line(self) -> str:
        assert self._process.stdout
        return await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), LIMIT)

    def kill(self) -> list[str]:
        """Kill it; returns the lines that it had printed."""
        self._process.kill()
        return self._process.communicate(timeout=LIMIT)[0].split()


def test_a_worker_that_is_killed_loses_nothing_and_is_dead_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only its socket can tell that it is dead.
    monkeypatch.setattr(sqlite, "ALIVE_TIME", 3600.0)
    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", LIMIT)  # it writes all the time, and may stand still with the lock

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            process = Process(WRITER, tmp_path / "store.db")
            try:
                for _ in range(20):
                    assert await process.line()
                assert await store.inbox.workers() == ["writer"]
                assert await store.inbox.put("writer", b"message")
            finally:
                acknowledged = process.kill()
            tail = await store.logs.read("session", "stream", None)
            assert tail.last >= int(acknowledged[-1]) if acknowledged else 20
            assert [data for _, data in tail.events] == [b"%d" % n for n, _ in tail.events]
            assert await store.logs.append("session", "stream", tail.last + 1, b"next") == ""

            async def dead() -> bool:
                return await store.inbox.workers() == []

            await until(dead)
            assert not await store.inbox.put("writer", b"message")
        assert [*(tmp_path / "store.db-bus").iterdir()] == []  # nor is its socket left

    run(test)
    assert rows(tmp_path / "store.db", "SELECT count(*) FROM inbox") == [(0,)]


def test_a_worker_that_is_killed_in_a_transaction_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", LIMIT)  # until it is killed

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            version = await store.records.create("s", "k", b"v", None)
            assert version
            process = Process(HOLDER, tmp_path / "store.db")
            try:
                assert await process.line() == "in\n"
                saving = asyncio.ensure_future(store.records.save("s", "k", b"new", version, None))
                assert await store.records.load("s", "k") == Record(version, b"v")  # a read waits for no write
            finally:
                process.kill()
            assert await saving == version + 1
            assert await store.records.load("s", "k") == Record(version + 1, b"new")

    run(test)


# --- a lock, a disk, a file -----------------------------------------------------------------------------------------


def test_a_locked_file_refuses_writes_and_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as store:
            assert await store.records.create("s", "k", b"v", None)
            other = sqlite3.connect(path, isolation_level=None)
            try:
                other.execute("BEGIN EXCLUSIVE")
                saved = [store.records.create("s", f"k{n}", b"", None) for n in range(3)]
                results = asyncio.gather(*saved, return_exceptions=True)
                while not results.done():
                    assert await store.records.load("s", "k")
                errors = [*await results]
                assert [type(error) for error in errors] == [StoreError] * 3
                assert "database is locked" in str(errors[0]) and len({id(error) for error in errors}) == 3
                assert await store.records.count("s") == 1
                # And one that waits is done when the lock goes.
                monkeypatch.setattr(sqlite_thread, "BUSY_TIME", LIMIT)
                waiting = asyncio.ensure_future(store.records.create("s", "waits", b"", None))
                also = asyncio.ensure_future(store.records.load("s", "k"))
                assert await also and not waiting.done()
                other.execute("ROLLBACK")
            finally:
                other.close()
            assert await waiting
            assert store.statistics()["failures"] == 3 and store.statistics()["reopened"] == 0

    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", 0.3)
    run(test)


def test_the_store_can_be_closed_while_a_write_waits_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        store = SQLiteStore(path)
        await store.open("w")
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute("BEGIN EXCLUSIVE")
            waiting = asyncio.ensure_future(store.records.create("s", "k", b"", None))
            await store.records.load("s", "k")
            await store.close()
            with pytest.raises(StoreError):
                await waiting
        finally:
            other.close()

    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", 0.3)
    run(test)


def test_a_full_disk_refuses_what_needs_room_and_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", max_bytes=512 * 1024) as store:
            version = await store.records.create("s", "k", b"v", None)
            assert version
            await store.logs.open("session", "stream", 600.0)
            count = 0
            while True:
                try:
                    await store.records.create("s", f"k{count}", b"x" * 32_768, None)
                except StoreError as error:
                    assert "full" in str(error)
                    break
                count += 1
            assert count > 5
            # In one turn of the loop, so in one transaction: the neighbours are not undone.
            results = await asyncio.gather(
                store.records.save("s", "k", b"w", version, None),
                store.records.create("s", "large", b"x" * 32_768, None),
                store.records.create("s", "k", b"", None),
                store.logs.append("session", "stream", 2, b""),
                store.records.load("s", "k0"),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [int, StoreError, type(None), Taken, Record]
            assert await store.records.load("s", "k") == Record(version + 1, b"w")
            assert await store.records.count("s") == count + 1
            assert await store.records.delete("s", "k0")
            assert await store.records.create("s", "large", b"x" * 32_768, None)  # by itself

    run(test)


def test_a_file_that_is_removed_or_replaced_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "LOOK_AT_FILE_EVERY", 0.0)
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as store:
            assert await store.records.create("s", "old", b"", None)
            for name in ("store.db", "store.db-wal", "store.db-shm"):
                (tmp_path / name).unlink()
            assert await store.records.load("s", "old") is None
            assert await store.records.create("s", "new", b"", None)
            async with opened(path, "w2") as other:
                assert await other.records.load("s", "new")
            path.unlink()
            path.mkdir()
            for _ in range(2):
                with pytest.raises(StoreError, match="is not a file"):
                    await store.records.load("s", "new")
            path.rmdir()
            assert await store.records.create("s", "new", b"", None)
            assert store.statistics()["reopened"] >= 2

    run(test)


def test_a_damaged_page_is_an_error_of_the_operations_that_need_it(tmp_path: Path) -> None:
    path, good = tmp_path / "store.db", tmp_path / "good.db"

    async def test() -> None:
        async with opened(path) as store:
            await store.records.create("s", "k", b"v", None)
            await store.logs.open("session", "stream", 600.0)
            await store.logs.append("session", "stream", 1, b"event")
        shutil.copy(path, good)
        ((page,),) = rows(path, "SELECT rootpage FROM sqlite_master WHERE name = 'events'")
        ((size,),) = rows(path, "PRAGMA page_size")
        assert isinstance(page, int) and isinstance(size, int)
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)
        async with opened(path) as store:
            results = await asyncio.gather(
                store.logs.read("session", "stream", 0), store.records.load("s", "k"), return_exceptions=True
            )
            assert isinstance(results[0], StoreError) and "malformed" in str(results[0])
            assert isinstance(results[1], Record)
            with pytest.raises(StoreError):
                await store.logs.append("session", "stream", 2, b"event")
            assert await store.records.create("s", "other", b"", None)
            with path.open("r+b") as file, good.open("rb") as whole:
                file.seek((page - 1) * size)
                whole.seek((page - 1) * size)
                file.write(whole.read(size))
            assert (await store.logs.read("session", "stream", 0)).events == [(1, b"event")]
            assert await store.logs.append("session", "stream", 2, b"event") == ""

    run(test)


# --- the thread -----------------------------------------------------------------------------------------------------


def test_a_disk_that_hangs_costs_one_wait_and_not_one_for_each_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_thread, "OPERATION_TIME", 0.2)
    monkeypatch.setattr(sqlite_thread, "THREAD_END_TIME", 0.2)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(LIMIT)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            hanging = asyncio.ensure_future(store._thread.run(PLAIN, hang))
            await asyncio.to_thread(hangs.wait, LIMIT)
            cancelled = asyncio.ensure_future(store.records.create("s", "cancelled", b"", None))
            waiting = asyncio.ensure_future(store.records.create("s", "late", b"", None))
            await asyncio.sleep(0)
            cancelled.cancel()
            for operation in (hanging, waiting):
                with pytest.raises(StoreError, match="does not answer"):
                    await operation
            with pytest.raises(StoreError, match="does not answer"):
                store.records.load("s", "k").send(None)  # it does not wait at all
            goes_on.set()

            async def answers() -> bool:
                try:
                    return await store.records.load("s", "k") is None
                except StoreError:
                    return False

            await until(answers)
            assert await store.records.load("s", "cancelled") is None
            goes_on.clear()
            hangs.clear()
            hanging = asyncio.ensure_future(store._thread.run(PLAIN, hang))
            await asyncio.to_thread(hangs.wait, LIMIT)
        with pytest.raises(StoreError):  # `close` did not wait for the disk either
            await hanging
        goes_on.set()

    run(test)


def test_more_operations_than_may_wait_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            monkeypatch.setattr(sqlite_thread, "MAX_WAITING_OPERATIONS", 3)
            results = await asyncio.gather(
                *(store.records.create("s", f"k{n}", b"", None) for n in range(4)), return_exceptions=True
            )
            assert [type(result) for result in results] == [int, int, int, StoreError]
            assert await store.records.count("s") == 3

    run(test)


def test_more_writes_than_one_transaction_takes_are_all_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "MAX_TRANSACTION", 7)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            before = store.statistics()["transactions"]
            await asyncio.gather(*(store.records.create("s", f"k{n}", b"", None) for n in range(30)))
            assert await store.records.count("s") == 30
            assert store.statistics()["transactions"] - before == 6  # five of writes, and the read

    run(test)


def test_what_one_turn_of_the_loop_writes_is_one_transaction(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.logs.open("session", "stream", 600.0)
            before = store.statistics()
            await asyncio.gather(*(store.logs.append("session", "stream", n, b"") for n in range(1, 101)))
            after = store.statistics()
            assert after["operations"] - before["operations"] == 100
            assert after["transactions"] - before["transactions"] == 1

    run(test)


def test_a_defect_in_one_step_is_its_own(tmp_path: Path) -> None:
    def defect(base: object, clock: object) -> None:
        raise LookupError("a defect")

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            results = await asyncio.gather(
                store.records.create("s", "k", b"", None),
                store._thread.run(WRITE, defect),
                store._thread.run(READ, defect),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [int, LookupError, LookupError]
            assert await store.records.load("s", "k")
            with pytest.raises(StoreError, match="Not a directory"):
                await store._thread.run(PLAIN, os.listdir, str(tmp_path / "store.db"))

    run(test)


def test_a_refusal_keeps_nothing_alive(tmp_path: Path) -> None:
    """What is raised in the thread has no frames of it, in which the operation would hold its error."""

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.records.create("s", "k", b"", None, limit=1)
            for kind, operation in (
                (Full, store.records.create("s", "k2", b"", None, limit=1)),
                (Taken, store.logs.append("session", "stream", 1, b"")),
                (EventsExpired, store.logs.read("session", "stream", 0)),
            ):
                with pytest.raises(kind) as refusal:
                    await operation  # type: ignore[misc]
                names = {entry.name for entry in refusal.traceback}
                assert "_run" not in names and "_transact" not in names, names

    run(test)


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        store = SQLiteStore(tmp_path / "store.db")
        await store.close()
        for _ in range(2):
            with pytest.raises(StoreError, match="not open"):
                await store.records.load("s", "k")
            with pytest.raises(StoreError, match="not open"):
                await store.bus.publish(b"")
            await store.open("w")
            await store.close()

    run(test)


def test_a_worker_closes_where_the_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", 0.1)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            store._died("another")  # nor can another one be buried; no error is lost in a task
            await store.close()
            other.close()

    run(test)


# --- what has ended goes --------------------------------------------------------------------------------------------


def test_what_has_ended_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_EVERY", "SWEEP_AGAIN"):
        monkeypatch.setattr(sqlite_thread, name, 0.0)
    monkeypatch.setattr(sqlite, "KEEP_DEAD", 0.0)
    path = tmp_path / "store.db"
    count = "SELECT (SELECT count(*) FROM {})".format(") + (SELECT count(*) FROM ".join(
        ("records", "totals", "parties", "logs", "events", "workers", "inbox")
    ))  # fmt: skip

    async def test() -> None:
        async with opened(path, "keeps") as store, opened(path, "dies") as other:
            await other.inbox.take(0)
            await store.inbox.put("dies", b"message")
            for n in range(60):
                await store.logs.open("session", f"s{n}", 0.01)
            await store.logs.open("session", "last", 0.05)
            await store.logs.append("session", "last", 1, b"event")
            for n in range(20):
                await store.records.create(f"space {n % 3}", f"k{n}", b"", 0.01, group=f"g{n % 4}")

            async def swept() -> bool:
                await store.records.count("s")  # a sweep follows an operation
                return rows(path, count) == [(0,)]

            await until(swept)
            assert store.statistics()["bytes"] > 0

    run(test)


def test_a_sweep_does_not_wait_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEP_EVERY", "SWEEP_AGAIN"):
        monkeypatch.setattr(sqlite_thread, name, 0.0)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(5):
                assert await store.records.count("s") == 0
            other.close()
            assert await store.records.create("s", "k", b"", None)

    run(test)


def test_a_receipt_of_a_message_that_is_not_there_is_ignored(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "a") as a, opened(tmp_path / "store.db", "b") as b:
            await a.inbox.take(0)
            await b.inbox.take(0)
            await b.inbox.put("a", b"for a")
            await a.inbox.put("b", b"for b")
            ((_, message),) = await a.inbox.take(0)
            ((receipt, _),) = await b.inbox.take(0)
            assert message == b"for a"
            await b.inbox.acknowledge(["1", receipt, receipt, "99999999999999999999", "-1", "\u0661", "x"])
            assert rows(tmp_path / "store.db", "SELECT worker, waiting, size FROM workers ORDER BY worker") == [
                (b"a", 1, 5),
                (b"b", 0, 0),
            ]

    run(test)


def test_more_messages_than_one_take_returns_come_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MAX_TAKEN", 4)

    async def test() -> None:
        async with opened(tmp_path / "store.db", "a") as a, opened(tmp_path / "store.db", "b") as b:
            await a.inbox.take(0)
            for n in range(10):
                await b.inbox.put("a", b"%d" % n)
            got = [[message for _, message in await a.inbox.take(LIMIT)] for _ in range(3)]
            assert got == [[b"0", b"1", b"2", b"3"], [b"4", b"5", b"6", b"7"], [b"8", b"9"]]

    run(test)


# --- what seldom happens in the thread ------------------------------------------------------------------------------


def test_the_thread_outlives_its_loop_and_a_defect_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    store, threads = SQLiteStore(tmp_path / "store.db"), list[threading.Thread]()

    def hang() -> None:
        threads.append(threading.current_thread())
        hangs.set()
        goes_on.wait(LIMIT)

    def defect() -> None:
        raise LookupError("a defect")

    async def test() -> None:
        await store.open("w")
        with monkeypatch.context() as patched:
            patched.setattr(store._thread, "_clean", defect)
            assert await store.records.create("s", "k", b"", None)
            assert await store.records.load("s", "k")
        assert "the thread of the store failed" in caplog.text
        await store.bus.close()
        hanging = asyncio.ensure_future(store._thread.run(PLAIN, hang))
        await asyncio.to_thread(hangs.wait, LIMIT)
        hanging.cancel()

    run(test)
    goes_on.set()
    store._thread._queue.put(None)
    threads[0].join(LIMIT)
    assert not threads[0].is_alive()


def test_the_end_comes_while_a_write_waits_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "BUSY_TIME", 0.3)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            waiting = asyncio.ensure_future(store.records.create("s", "k", b"", None))
            await store.records.load("s", "k")
            for _ in range(2):
                await store._thread.stop()
            with pytest.raises(StoreError, match="locked"):
                await waiting
            other.close()

    run(test)


def test_a_read_waits_for_a_lock_that_forbids_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while another process plays back the journal of one that was killed."""

    class Locked:
        """A connection that is locked for two tries."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection, self.tries = connection, 0

        def execute(self, statement: str, *values: object) -> object:
            if statement == "SELECT id FROM clock" and self.tries < 2:
                self.tries += 1
                raise sqlite3.OperationalError("database is locked")
            return self.connection.execute(statement, *values)

        def __getattr__(self, name: str) -> object:
            return getattr(self.connection, name)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            assert store._thread._connection
            locked = Locked(store._thread._connection)
            monkeypatch.setattr(store._thread, "_connect", lambda: locked)
            results = await asyncio.gather(*(store._thread.run(READ, lambda base, clock: 1) for _ in range(3)))
            assert results == [1, 1, 1] and locked.tries == 2

    run(test)


def test_a_connection_that_is_of_no_use_is_replaced(tmp_path: Path) -> None:
    def spoil(base: sqlite3.Connection, clock: object) -> None:
        base.close()
        raise LookupError("a defect")

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            with pytest.raises(LookupError):
                await store._thread.run(WRITE, spoil)
            assert await store.records.create("s", "k", b"", None)
            assert store.statistics()["reopened"] == 1

    run(test)


def test_the_file_is_looked_at_again_after_it_was_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_thread, "LOOK_AT_FILE_EVERY", 0.0)

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            (tmp_path / "store.db").rename(tmp_path / "away.db")
            (tmp_path / "store.db-wal").unlink()
            (tmp_path / "store.db-shm").unlink()
            assert await store.records.count("s") == 0
            assert (tmp_path / "store.db").exists()

    run(test)


def test_late_word_of_a_message_that_was_taken_ends_no_take(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "a") as a, opened(tmp_path / "store.db", "b") as b:
            assert await a.inbox.take(0) == []
            taking = asyncio.ensure_future(a.inbox.take(LIMIT * 2))
            for n in range(3):
                a.inbox.arrived()
                await a.records.touch("s", ["k"], float(n))
                assert not taking.done()
            await b.inbox.put("a", b"message")
            assert [message for _, message in await asyncio.wait_for(taking, LIMIT)] == [b"message"]

    run(test)
