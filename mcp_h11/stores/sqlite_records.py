# SPDX-License-Identifier: MIT
"""The records of an SQLite store: its coroutines, and the steps that they run in the thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .base import Full, Record
from .sqlite_file import StoreClock, from_key, to_key
from .sqlite_thread import READ, WRITE, SQLiteThread

MAX_TOUCHED = 500  # records or logs in one transaction
MAX_REMOVED = 500  # records that have ended, in one step
_ID_SHIFT = 32  # a version is the number of the row, which never comes back, and the number of saves

_Base = sqlite3.Connection


class SQLiteRecords:
    """Records of an SQLite store."""

    def __init__(self, thread: SQLiteThread) -> None:
        self._run = thread.run

    async def create(
        self,
        space: str,
        key: str,
        value: bytes,
        ttl: float | None,
        *,
        group: str = "",
        limit: int | None = None,
        group_limit: int | None = None,
    ) -> int | None:
        names = to_key(space), to_key(group), to_key(key)
        return await self._run(WRITE, _create, *names, value, ttl, limit, group_limit)

    async def load(self, space: str, key: str) -> Record | None:
        return await self._run(READ, _load, to_key(space), to_key(key))

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        return await self._run(WRITE, _save, to_key(space), to_key(key), value, version, ttl)

    async def touch(self, space: str, keys: Sequence[str], ttl: float) -> None:
        for begin in range(0, len(keys), MAX_TOUCHED):
            names = [to_key(key) for key in keys[begin : begin + MAX_TOUCHED]]
            await self._run(WRITE, _touch, to_key(space), names, ttl)

    async def delete(self, space: str, key: str) -> bool:
        return await self._run(WRITE, _delete, to_key(space), to_key(key))

    async def oldest(self, space: str, group: str | None, idle: float) -> str | None:
        return await self._run(READ, _oldest, to_key(space), None if group is None else to_key(group), idle)

    async def count(self, space: str) -> int:
        return await self._run(READ, _count, to_key(space))


def _create(
    base: _Base,
    clock: StoreClock,
    space: bytes,
    group: bytes,
    key: bytes,
    value: bytes,
    ttl: float | None,
    limit: int | None,
    group_limit: int | None,
) -> int | None:
    now = clock.now()
    found = base.execute("SELECT id, ends FROM records WHERE space = ? AND key = ?", (space, key)).fetchone()
    if found is not None:
        if found[1] is None or found[1] > now:
            return None
        base.execute("DELETE FROM records WHERE id = ?", found[:1])
    if group_limit is not None:
        _need_room(base, now, group_limit, "parties WHERE space = ? AND party = ?", (space, group))
    if limit is not None:
        _need_room(base, now, limit, "totals WHERE space = ?", (space,))
    cursor = base.execute(
        "INSERT INTO records (ends, used, saves, space, party, key, value) VALUES (?, ?, 0, ?, ?, ?, ?)",
        (_end(now, ttl), now, space, group, key, value),
    )
    return (cursor.lastrowid or 0) << _ID_SHIFT


def _need_room(base: _Base, now: float, limit: int, where: str, names: tuple[bytes, ...]) -> None:
    """Raise Full at the limit, unless records have ended, which make room."""
    found = base.execute(f"SELECT n FROM {where}", names).fetchone()
    if found is not None and found[0] >= limit:
        remove_ended_records(base, now)
        found = base.execute(f"SELECT n FROM {where}", names).fetchone()
        if found is not None and found[0] >= limit:
            raise Full(group=len(names) > 1)


def remove_ended_records(base: _Base, now: float) -> bool:
    """Remove some records that have ended; True where there may be more."""
    chosen = "SELECT id FROM records WHERE ends IS NOT NULL AND ends <= ? ORDER BY ends LIMIT ?"
    return base.execute(f"DELETE FROM records WHERE id IN ({chosen})", (now, MAX_REMOVED)).rowcount >= MAX_REMOVED


def _load(base: _Base, clock: StoreClock, space: bytes, key: bytes) -> Record | None:
    found = base.execute(
        "SELECT id, saves, ends, value FROM records WHERE space = ? AND key = ?", (space, key)
    ).fetchone()
    if found is None or (found[2] is not None and found[2] <= clock.now()):
        return None
    return Record(found[0] << _ID_SHIFT | found[1], found[3])


def _save(
    base: _Base, clock: StoreClock, space: bytes, key: bytes, value: bytes, version: int, ttl: float | None
) -> int | None:
    now = clock.now()
    found = base.execute("SELECT id, saves, ends FROM records WHERE space = ? AND key = ?", (space, key)).fetchone()
    if found is None or found[0] << _ID_SHIFT | found[1] != version or (found[2] is not None and found[2] <= now):
        return None
    base.execute(
        "UPDATE records SET saves = saves + 1, value = ?, used = ?, ends = ? WHERE id = ?",
        (value, now, _end(now, ttl), found[0]),
    )
    return version + 1


def _touch(base: _Base, clock: StoreClock, space: bytes, keys: list[bytes], ttl: float) -> None:
    now = clock.now()
    base.executemany(
        "UPDATE records SET used = ?, ends = ? WHERE space = ? AND key = ? AND (ends IS NULL OR ends > ?)",
        [(now, now + ttl, space, key, now) for key in keys],
    )


def _delete(base: _Base, clock: StoreClock, space: bytes, key: bytes) -> bool:
    found = base.execute("SELECT id, ends FROM records WHERE space = ? AND key = ?", (space, key)).fetchone()
    if found is None:
        return False
    base.execute("DELETE FROM records WHERE id = ?", found[:1])
    return found[1] is None or bool(found[1] > clock.now())


def _oldest(base: _Base, clock: StoreClock, space: bytes, group: bytes | None, idle: float) -> str | None:
    now = clock.now()
    chosen, names = ("", (space,)) if group is None else ("AND party = ?", (space, group))
    found = base.execute(
        f"SELECT key, used FROM records WHERE space = ? {chosen} AND (ends IS NULL OR ends > ?) ORDER BY used LIMIT 1",
        (*names, now),
    ).fetchone()
    return None if found is None or now - found[1] < idle else from_key(found[0])


def _count(base: _Base, clock: StoreClock, space: bytes) -> int:
    found = base.execute("SELECT n FROM totals WHERE space = ?", (space,)).fetchone()
    if found is None:
        return 0
    ended = base.execute(
        "SELECT count(*) FROM records WHERE ends IS NOT NULL AND ends <= ? AND space = ?", (clock.now(), space)
    ).fetchone()
    return int(found[0] - ended[0])


def _end(now: float, ttl: float | None) -> float | None:
    return None if ttl is None else now + ttl
