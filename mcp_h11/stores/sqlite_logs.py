# SPDX-License-Identifier: MIT
"""The logs of an SQLite store: its coroutines, and the steps that they run in the thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..protocol.errors import EventsExpired
from .base import LOG_EVENT_OVERHEAD, MAX_LOG_BYTES, MAX_LOG_EVENTS, Repeated, Tail, Taken
from .sqlite_file import StoreClock, from_key, to_key
from .sqlite_records import MAX_TOUCHED
from .sqlite_thread import READ, WRITE, SQLiteThread

MAX_LOGS_REMOVED = 50  # logs that have ended, in one step

_Base = sqlite3.Connection


class SQLiteLogs:
    """Logs of an SQLite store."""

    def __init__(self, thread: SQLiteThread) -> None:
        self._run = thread.run

    async def open(
        self, session: str, stream: str, ttl: float, *, writer: str = "", about: bytes = b"", after: int = 0
    ) -> None:
        await self._run(WRITE, _open_log, to_key(session), to_key(stream), ttl, to_key(writer), about, after)

    async def append(
        self,
        session: str,
        stream: str,
        index: int,
        data: bytes,
        *,
        last: bool = False,
        reader: str | None = None,
        name: str = "",
    ) -> str:
        only, named = to_key(reader or ""), to_key(name) if name else None
        return await self._run(WRITE, _append, to_key(session), to_key(stream), index, [data], last, only, named)

    async def extend(
        self, session: str, stream: str, index: int, events: Sequence[bytes], *, last: bool = False
    ) -> str:
        return await self._run(WRITE, _append, to_key(session), to_key(stream), index, [*events], last)

    async def read(self, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Tail:
        new = None if reader is None else to_key(reader)
        return await self._run(READ if new is None else WRITE, _read, to_key(session), to_key(stream), after, new)

    async def finish(self, session: str, stream: str, ttl: float) -> None:
        await self._run(WRITE, _finish, to_key(session), to_key(stream), ttl)

    async def touch(self, names: Sequence[tuple[str, str]], ttl: float) -> None:
        for begin in range(0, len(names), MAX_TOUCHED):
            some = [(to_key(session), to_key(stream)) for session, stream in names[begin : begin + MAX_TOUCHED]]
            await self._run(WRITE, _touch_logs, some, ttl)

    async def discard(self, session: str, stream: str | None = None) -> None:
        await self._run(WRITE, _discard, to_key(session), None if stream is None else to_key(stream))


def _open_log(
    base: _Base, clock: StoreClock, session: bytes, stream: bytes, ttl: float, writer: bytes, about: bytes, after: int
) -> None:
    now = clock.now()
    found = base.execute("SELECT id, ends FROM logs WHERE session = ? AND stream = ?", (session, stream)).fetchone()
    if found is not None:
        if found[1] > now:
            return
        remove_logs(base, [found[0]])
    base.execute(
        "INSERT INTO logs (ends, ttl, last, kept, size, finished, session, stream, writer, reader, about)"
        " VALUES (?, ?, ?, 0, 0, 0, ?, ?, ?, x'', ?)",
        (now + ttl, ttl, after, session, stream, writer, about),
    )


def _append(
    base: _Base,
    clock: StoreClock,
    session: bytes,
    stream: bytes,
    index: int,
    events: list[bytes],
    last: bool,
    only: bytes = b"",
    name: bytes | None = None,
) -> str:
    now = clock.now()
    found = base.execute(
        "SELECT id, ends, ttl, last, kept, size, finished, reader FROM logs WHERE session = ? AND stream = ?",
        (session, stream),
    ).fetchone()
    refused = found is None or found[1] <= now or found[6] or index != found[3] + 1
    if refused or (only and found[7] not in (b"", only)):
        raise Taken(f"event {index} cannot be appended")
    log, _, ttl, _, kept, size, _, reader = found
    if name is not None and base.execute("SELECT 1 FROM events WHERE log = ? AND name = ?", (log, name)).fetchone():
        raise Repeated(f"event {from_key(name)} is there already")
    rows = [(log, n, data, name) for n, data in enumerate(events, index)]
    base.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    index += len(events) - 1
    kept, size = kept + len(events), size + sum(map(len, events)) + LOG_EVENT_OVERHEAD * len(events)
    if kept > MAX_LOG_EVENTS or size > MAX_LOG_BYTES:
        kept, size = _trim(base, log, index, kept, size)
    base.execute(
        "UPDATE logs SET ends = ?, last = ?, kept = ?, size = ?, finished = ? WHERE id = ?",
        (now + ttl, index, kept, size, last, log),
    )
    return from_key(reader)


def _trim(base: _Base, log: int, last: int, kept: int, size: int) -> tuple[int, int]:
    """Remove the oldest events past the limits, but not the newest one; returns how many are left, and their size."""
    sizes = base.execute("SELECT length(data) FROM events WHERE log = ? ORDER BY n", (log,))
    for (length,) in sizes:
        if kept == 1 or (kept <= MAX_LOG_EVENTS and size <= MAX_LOG_BYTES):
            break
        kept, size = kept - 1, size - length - LOG_EVENT_OVERHEAD
    sizes.close()
    base.execute("DELETE FROM events WHERE log = ? AND n <= ?", (log, last - kept))
    return kept, size


def _read(
    base: _Base, clock: StoreClock, session: bytes, stream: bytes, after: int | None, reader: bytes | None
) -> Tail:
    found = base.execute(
        "SELECT id, ends, last, kept, finished, writer, about, reader FROM logs WHERE session = ? AND stream = ?",
        (session, stream),
    ).fetchone()
    if found is None or found[1] <= clock.now():
        raise EventsExpired(from_key(stream))
    log, _, last, kept, finished, writer, about, before = found
    if after is not None and not last - kept <= after <= last:
        raise EventsExpired(from_key(stream))
    events = base.execute(
        "SELECT n, data FROM events WHERE log = ? AND n > ? ORDER BY n", (log, last - kept if after is None else after)
    ).fetchall()
    if reader is not None:
        base.execute("UPDATE logs SET reader = ? WHERE id = ?", (reader, log))
    return Tail(events, last, bool(finished), from_key(writer), about, from_key(before))


def _finish(base: _Base, clock: StoreClock, session: bytes, stream: bytes, ttl: float) -> None:
    now = clock.now()
    base.execute(
        "UPDATE logs SET finished = 1, ends = ? WHERE session = ? AND stream = ? AND ends > ?",
        (now + ttl, session, stream, now),
    )


def _touch_logs(base: _Base, clock: StoreClock, names: list[tuple[bytes, bytes]], ttl: float) -> None:
    now = clock.now()
    base.executemany(
        "UPDATE logs SET ends = ? WHERE session = ? AND stream = ? AND ends > ? AND NOT finished",
        [(now + ttl, session, stream, now) for session, stream in names],
    )


def _discard(base: _Base, clock: StoreClock, session: bytes, stream: bytes | None) -> None:
    chosen, names = ("", (session,)) if stream is None else ("AND stream = ?", (session, stream))
    remove_logs(base, [log for (log,) in base.execute(f"SELECT id FROM logs WHERE session = ? {chosen}", names)])


def remove_logs(base: _Base, logs: Sequence[int]) -> None:
    base.executemany("DELETE FROM events WHERE log = ?", [(log,) for log in logs])
    base.executemany("DELETE FROM logs WHERE id = ?", [(log,) for log in logs])


def remove_ended_logs(base: _Base, now: float) -> bool:
    """Remove some logs that have ended; True where there may be more."""
    ended = [log for (log,) in base.execute("SELECT id FROM logs WHERE ends <= ? LIMIT ?", (now, MAX_LOGS_REMOVED))]
    remove_logs(base, ended)
    return len(ended) == MAX_LOGS_REMOVED
