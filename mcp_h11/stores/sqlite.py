# SPDX-License-Identifier: MIT
"""A store in one SQLite file, for the workers of one machine: nothing but the standard library is needed.

A commit is in the file before an operation returns, so `kill -9` of any worker loses nothing that was acknowledged.  (A
power cut may lose the last commits; it damages nothing.)  Records, logs and inboxes are tables (`sqlite_file`), one
thread of each worker runs the operations (`sqlite_thread`), and Unix sockets in a directory beside the file are the bus
(`local_bus`), which also wakes the worker that has got a message.  On a system without Unix sockets, one worker has the
file for itself (`lone_bus`).

The file must lie on a disk of this machine: SQLite's locks do not hold on network file systems.  Operations that are
not awaited one after the other have no order, except that writes of one worker keep theirs.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from .base import (
    ALIVE_TIME,
    MAX_INBOX_BYTES,
    MAX_INBOX_MESSAGES,
    MAX_PARTY_BYTES,
    MAX_PARTY_MESSAGES,
    Full,
    StoreError,
)
from .local_bus import LocalBus, has_unix_sockets, make_directory
from .lone_bus import LoneBus
from .sqlite_file import StoreClock, from_key, to_key
from .sqlite_logs import SQLiteLogs, remove_ended_logs
from .sqlite_records import SQLiteRecords, remove_ended_records
from .sqlite_thread import PLAIN, READ, WRITE, SQLiteThread

DIRECTORY_SUFFIX = "-bus"  # of the directory beside the file
MAX_TAKEN = 256  # messages that one `take` returns
KEEP_DEAD = 60.0  # seconds after its last heartbeat, a worker's inbox is removed

_Base = sqlite3.Connection


class SQLiteInbox:
    """The inbox of one worker, and the way to those of the others."""

    def __init__(self, thread: SQLiteThread) -> None:
        self._run = thread.run
        self._worker = b""
        self._taken = 0  # the number of the newest message that a `take` has returned
        self._arrived = asyncio.Event()
        self._wake: Callable[[str], None] = _wake_none

    def begin(self, worker: str, wake: Callable[[str], None]) -> None:
        """Be the inbox of this worker; `wake` tells another one of a message."""
        self._worker = to_key(worker)
        self._wake = wake

    def arrived(self) -> None:
        """Messages may lie there."""
        self._arrived.set()

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        alive = await self._run(WRITE, _put, to_key(worker), message, to_key(party))
        if alive:
            self._wake(worker)
        return alive

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        end = asyncio.get_running_loop().time() + wait
        self._arrived.clear()
        found = await self._run(WRITE, _beat, self._worker, self._taken)
        while not found and await self._wait(end):
            self._arrived.clear()  # it may be late word of a message that was taken already
            found = await self._run(READ, _waiting, self._worker, self._taken)
        if len(found) == MAX_TAKEN:
            self._arrived.set()  # there may be more
        if found:
            self._taken = found[-1][0]  # not before: a `take` that is cancelled has returned nothing
        return [(str(number), message) for number, message in found]

    async def _wait(self, end: float) -> bool:
        """Wait until messages may have arrived; False at the end of the time."""
        # Not `wait_for`, which before Python 3.12 can lose a cancellation.
        waiting = asyncio.ensure_future(self._arrived.wait())
        try:
            await asyncio.wait({waiting}, timeout=max(0.0, end - asyncio.get_running_loop().time()))
        finally:
            waiting.cancel()
        return self._arrived.is_set()

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        numbers = [int(receipt) for receipt in receipts if receipt.isascii() and receipt.isdigit()]
        numbers = [number for number in numbers if number <= self._taken]
        if numbers:
            await self._run(WRITE, _acknowledge, self._worker, numbers)

    async def workers(self) -> list[str]:
        return await self._run(READ, _living)


def _put(base: _Base, clock: StoreClock, worker: bytes, message: bytes, party: bytes) -> bool:
    found = base.execute("SELECT beat, waiting, size FROM workers WHERE worker = ?", (worker,)).fetchone()
    if found is None or clock.now() - found[0] >= ALIVE_TIME:
        return False
    if found[1] >= MAX_INBOX_MESSAGES or found[2] + len(message) > MAX_INBOX_BYTES:
        raise Full
    if party:
        share = base.execute("SELECT waiting, size FROM shares WHERE worker = ? AND party = ?", (worker, party))
        count, size = share.fetchone() or (0, 0)
        if count >= MAX_PARTY_MESSAGES or size + len(message) > MAX_PARTY_BYTES:
            raise Full(group=True)
    base.execute("INSERT INTO inbox (worker, party, message) VALUES (?, ?, ?)", (worker, party, message))
    _charge(base, worker, party, 1, len(message))
    return True


def _charge(base: _Base, worker: bytes, party: bytes, count: int, size: int) -> None:
    base.execute("UPDATE workers SET waiting = waiting + ?, size = size + ? WHERE worker = ?", (count, size, worker))
    if party:
        base.execute(
            "INSERT INTO shares VALUES (?, ?, ?, ?) ON CONFLICT (worker, party)"
            " DO UPDATE SET waiting = waiting + excluded.waiting, size = size + excluded.size",
            (worker, party, count, size),
        )


def _beat(base: _Base, clock: StoreClock, worker: bytes, after: int) -> list[tuple[int, bytes]]:
    now = clock.now()
    if not base.execute("UPDATE workers SET beat = ? WHERE worker = ?", (now, worker)).rowcount:
        base.execute("INSERT INTO workers VALUES (?, ?, 0, 0)", (worker, now))
    return _waiting(base, clock, worker, after)


def _waiting(base: _Base, clock: StoreClock, worker: bytes, after: int) -> list[tuple[int, bytes]]:
    return base.execute(
        "SELECT id, message FROM inbox WHERE worker = ? AND id > ? ORDER BY id LIMIT ?", (worker, after, MAX_TAKEN)
    ).fetchall()


def _acknowledge(base: _Base, clock: StoreClock, worker: bytes, numbers: list[int]) -> None:
    freed: dict[bytes, tuple[int, int]] = {}  # by party: messages and bytes
    for number in numbers:
        found = base.execute(
            "SELECT party, length(message) FROM inbox WHERE id = ? AND worker = ?", (number, worker)
        ).fetchone()
        if found is not None:
            base.execute("DELETE FROM inbox WHERE id = ?", (number,))
            count, size = freed.get(found[0], (0, 0))
            freed[found[0]] = count + 1, size + found[1]
    for party, (count, size) in freed.items():
        _charge(base, worker, party, -count, -size)
    base.execute("DELETE FROM shares WHERE worker = ? AND waiting <= 0", (worker,))


def _living(base: _Base, clock: StoreClock) -> list[str]:
    return [from_key(name) for (name,) in base.execute(
        "SELECT worker FROM workers WHERE beat > ? ORDER BY worker", (clock.now() - ALIVE_TIME,)
    )]  # fmt: skip


def _bury(base: _Base, clock: StoreClock, worker: bytes) -> None:
    for table in ("inbox", "shares", "workers"):
        base.execute(f"DELETE FROM {table} WHERE worker = ?", (worker,))


def _bury_all(base: _Base, clock: StoreClock) -> None:
    """The file is this worker's own, so no other one lives."""
    for table in ("inbox", "shares", "workers"):
        base.execute(f"DELETE FROM {table}")


def _sweep(base: _Base, clock: StoreClock) -> bool:
    """Remove what has ended, a bounded part of it; True where there may be more."""
    now = clock.now()
    more = remove_ended_records(base, now)
    more = remove_ended_logs(base, now) or more
    for (worker,) in base.execute("SELECT worker FROM workers WHERE beat < ?", (now - KEEP_DEAD,)).fetchall():
        _bury(base, clock, worker)
    base.execute("UPDATE clock SET seen = max(seen, ?)", (now,))
    return more


class SQLiteStore:
    """A store in the SQLite file `path`, which is made where there is none, readable by its owner alone.

    `max_bytes` bounds the file; past it, operations raise StoreError until others have deleted something.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int | None = None) -> None:
        self.path = os.path.realpath(path)
        alone = not has_unix_sockets()
        self._thread = SQLiteThread(self.path, _sweep, max_bytes, alone)
        self.records = SQLiteRecords(self._thread)
        self.logs = SQLiteLogs(self._thread)
        self.inbox = SQLiteInbox(self._thread)
        self.bus: LocalBus | LoneBus
        if alone:
            self.bus = LoneBus(self.inbox.arrived)
        else:
            self.bus = LocalBus(self.path + DIRECTORY_SUFFIX, self._blocking, self.inbox.arrived, self._died)
        self._burying: set[asyncio.Future[None]] = set()
        self._worker = ""

    async def open(self, worker: str) -> None:
        """Open the file and the bus.  Raises StoreRefused and StoreError."""
        await self._thread.start()
        try:
            self.inbox.begin(worker, self.bus.wake)
            if isinstance(self.bus, LocalBus):
                await self._thread.run(PLAIN, make_directory, self.bus.directory)
            else:
                await self._thread.run(WRITE, _bury_all)
            await self.bus.open(worker)
        except BaseException:
            await self._thread.stop()
            raise
        self._worker = worker

    async def close(self) -> None:
        """End: the own inbox and heartbeat go at once.  Does nothing a second time."""
        worker, self._worker = self._worker, ""
        if not worker:
            return
        await self.bus.close()
        try:
            await self._thread.run(WRITE, _bury, to_key(worker))
        except StoreError:
            pass  # the others see the heartbeat end
        await self._thread.stop()

    def statistics(self) -> dict[str, float]:
        """Operations, transactions, failures, how often the file was opened again, its bytes, messages not sent."""
        return {**self._thread.counts, "bus_dropped": float(self.bus.lost)}

    async def _blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self._thread.run(PLAIN, function, *arguments)

    def _died(self, worker: str) -> None:
        """The socket of another worker refuses: it has died, and its heartbeat and inbox go at once."""
        burying = asyncio.ensure_future(self._bury(worker))
        self._burying.add(burying)
        burying.add_done_callback(self._burying.discard)

    async def _bury(self, worker: str) -> None:
        try:
            await self._thread.run(WRITE, _bury, to_key(worker))
        except StoreError:
            pass  # its heartbeat ends in any case


def _wake_none(worker: str) -> None:
    """Wake no worker: the inbox before `begin`."""
