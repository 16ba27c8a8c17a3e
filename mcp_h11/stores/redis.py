# SPDX-License-Identifier: MIT
"""A store in Redis 7 or Valkey, for workers on many machines: `RedisStore.from_url`, then `open`.

It needs the package `redis`: `pip install 'mcp_h11[redis]'`.  `redis_url` has the URLs, `redis_keys` the keys.

- One worker has three connections: for commands, for its inbox, for the bus.  The operations of one turn of the loop
  go in one round trip, and one that fails does not fail its neighbours.
- Two things that must happen together are one script (`redis_scripts`).  Times are those of Redis's clock.
- An operation raises StoreError within seconds where Redis is away, full, loading, or a replica.  None is sent a second
  time, since Redis may have run the first.  RedisConnections are made anew when they are needed.
- Where Redis lost its data, there are no records, a log that was open raises Taken at its next event, and a read
  EventsExpired.  A worker is alive again with its next heartbeat.

Redis must not evict keys: `maxmemory-policy noeviction`.  When it dies, it loses the changes that were neither on its
disk nor on the replica that takes over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import anyio

from ..protocol.errors import EventsExpired
from . import redis_scripts as scripts
from .base import Full, Record, Repeated, StoreError, StoreRefused, Tail, Taken
from .redis_cluster import RedisCluster
from .redis_keys import HASHED_NAME, REDIS_FORMAT, redis_bytes, redis_name, redis_text, redis_ttl
from .redis_link import ANSWER_TIME, OneRedis, RedisCaller, RedisLine
from .redis_messages import RedisBus, RedisInbox
from .redis_url import RedisPlace, parse_redis_url

ENTER_TIME = 5.0  # seconds until `open` has succeeded or failed
TOUCH_AT_ONCE = 100  # records of one script


class RedisRecords:
    """Records as hashes, with indexes for the limits and the last use."""

    def __init__(self, caller: RedisCaller, prefix: str) -> None:
        self._caller = caller
        self._prefix = prefix

    def _indexes(self, space: str) -> tuple[str, ...]:
        name = redis_name(space)
        return tuple(f"{self._prefix}:{kind}:{{{name}}}" for kind in "uxgk")

    def _record(self, space: str, key: str) -> str:
        return f"{self._prefix}:r:{{{redis_name(space)}}}:{redis_name(key)}"

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
        name = redis_name(key)
        version = await self._caller.run(
            scripts.CREATE,
            (*self._indexes(space), self._record(space, key)),
            name,
            value,
            _time(ttl),
            "" if limit is None else limit,
            "" if group_limit is None else group_limit,
            redis_name(group) if group else "",
            redis_bytes(key) if name.startswith(HASHED_NAME) else b"",
            int(name.startswith(HASHED_NAME)),
        )
        if version < 0:
            raise Full(group=version == -2)
        return version or None

    async def load(self, space: str, key: str) -> Record | None:
        record = self._record(space, key)
        version, value = await self._caller.call(record, b"HMGET", record, b"version", b"value")
        if version is None:
            return None
        # Another program may have written there.  No value of ours is empty where it is read as a record of a session.
        return Record(int(version), value) if version.isdigit() and value is not None else Record(0, b"")

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        keys = (*self._indexes(space), self._record(space, key))
        new = await self._caller.run(scripts.SAVE, keys, redis_name(key), value, version, _time(ttl))
        return new or None

    async def touch(self, space: str, keys: Sequence[str], ttl: float) -> None:
        for start in range(0, len(keys), TOUCH_AT_ONCE):
            some = keys[start : start + TOUCH_AT_ONCE]
            touched = (*self._indexes(space), *(self._record(space, key) for key in some))
            await self._caller.run(scripts.TOUCH, touched, redis_ttl(ttl), *map(redis_name, some))

    async def delete(self, space: str, key: str) -> bool:
        keys = (*self._indexes(space), self._record(space, key))
        return bool(await self._caller.run(scripts.DELETE, keys, redis_name(key)))

    async def oldest(self, space: str, group: str | None, idle: float) -> str | None:
        found = await self._caller.run(
            scripts.OLDEST,
            self._indexes(space),
            int(group is not None),
            redis_name(group) if group else "",
            int(max(idle, 0.0) * 1_000_000),
        )
        if found is None or not found.startswith(HASHED_NAME.encode()):
            return None if found is None else found.decode()
        record = f"{self._prefix}:r:{{{redis_name(space)}}}:{found.decode()}"
        key = await self._caller.call(record, b"HGET", record, b"key")
        return None if key is None else redis_text(key)  # None where it ended in between

    async def count(self, space: str) -> int:
        return int(await self._caller.run(scripts.COUNT, (self._indexes(space)[1],)))


class RedisLogs:
    """Logs as hashes, with an index for each session."""

    def __init__(self, caller: RedisCaller, prefix: str) -> None:
        self._caller = caller
        self._prefix = prefix

    def _keys(self, session: str, stream: str) -> tuple[str, str, str]:
        """The log, the index, and the name of the log in it."""
        owner, name = redis_name(session), redis_name(stream)
        return f"{self._prefix}:e:{{{owner}}}:{name}", f"{self._prefix}:n:{{{owner}}}", name

    async def open(
        self, session: str, stream: str, ttl: float, *, writer: str = "", about: bytes = b"", after: int = 0
    ) -> None:
        log, index, name = self._keys(session, stream)
        await self._caller.run(scripts.OPEN, (log, index), name, redis_ttl(ttl), redis_bytes(writer), about, after)

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
        alone = redis_bytes(reader) if reader else b""
        return await self._append(session, stream, index, last, alone, redis_bytes(name), data)

    async def extend(
        self, session: str, stream: str, index: int, events: Sequence[bytes], *, last: bool = False
    ) -> str:
        return await self._append(session, stream, index, last, b"", b"", *events)

    async def _append(
        self, session: str, stream: str, index: int, last: bool, alone: bytes, name: bytes, *events: bytes
    ) -> str:
        log, streams, place = self._keys(session, stream)
        found = await self._caller.run(scripts.APPEND, (log, streams), place, index, int(last), alone, name, *events)
        if found is None:
            raise Taken(f"event {index} cannot be appended")
        if found == 1:
            raise Repeated(f"event {redis_text(name)} is there already")
        return redis_text(found)

    async def read(self, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Tail:
        log, _, _ = self._keys(session, stream)
        sets = (0, b"") if reader is None else (1, redis_bytes(reader))
        found = await self._caller.run(scripts.READ, (log,), "" if after is None else after, *sets)
        if found is None or None in found:  # an event is missing, which another program took away
            raise EventsExpired(stream)
        start, last, ended, writer, about, before, *events = found
        numbered = list(enumerate(events, start + 1))
        return Tail(numbered, last, bool(ended), redis_text(writer), about, redis_text(before))

    async def finish(self, session: str, stream: str, ttl: float) -> None:
        log, index, name = self._keys(session, stream)
        await self._caller.run(scripts.KEEP, (log, index), name, redis_ttl(ttl), 1)

    async def touch(self, names: Sequence[tuple[str, str]], ttl: float) -> None:
        failed: list[StoreError] = []

        async def one(session: str, stream: str) -> None:
            log, index, name = self._keys(session, stream)
            try:
                await self._caller.run(scripts.KEEP, (log, index), name, redis_ttl(ttl), 0)
            except StoreError as error:
                failed.append(error)

        async with anyio.create_task_group() as all_of_them:  # a session each, and so a node each: one turn, one trip
            for session, stream in names:
                all_of_them.start_soon(one, session, stream)
        if failed:
            raise StoreError(str(failed[0]))

    async def discard(self, session: str, stream: str | None = None) -> None:
        log, index, name = self._keys(session, stream or "")
        if stream is not None:
            await self._caller.run(scripts.DISCARD_ONE, (log, index), name)
            return
        names = await self._caller.run(scripts.DISCARD, (index,))
        if names:
            base = log[: -len(name)]
            await self._caller.call(index, b"UNLINK", *(base + found.decode() for found in names))


class RedisStore:
    """One worker's end of a store in Redis.

    Raises ImportError where the package `redis` is not installed.
    """

    def __init__(self, place: RedisPlace) -> None:
        try:
            self._way: Any = RedisCluster(place) if place.kind == "cluster" else OneRedis(place)
        except ImportError as error:
            raise ImportError("a store in Redis needs the package redis: pip install 'mcp_h11[redis]'") from error
        self._place = place
        caller = self._caller = RedisCaller(self._way)
        self.records = RedisRecords(caller, place.prefix)
        self.logs = RedisLogs(caller, place.prefix)
        self.inbox = RedisInbox(self._way, caller, place.prefix)
        self.bus = RedisBus(self._way, caller, place.prefix, sharded=place.kind == "cluster")
        self._open = False

    @classmethod
    def from_url(cls, url: str) -> RedisStore:
        """The store that a URL names; `open` connects.  Raises ValueError, without the password."""
        return cls(parse_redis_url(url))

    def __repr__(self) -> str:
        return f"RedisStore({self._place!r})"

    async def open(self, worker: str) -> None:
        try:
            with anyio.fail_after(ENTER_TIME):
                await self._greet()
                await self.inbox.enter(worker)
                await self.bus.start(worker)
        except TimeoutError:
            await self._drop()
            raise StoreError(f"Redis gave no answer within {ENTER_TIME:g} s") from None
        except BaseException:
            await self._drop()
            raise
        self._open = True

    async def _greet(self) -> None:
        """Raises StoreRefused where the prefix is that of another program, or of another version of this one."""
        key = f"{self._place.prefix}:v"
        try:
            found = await self._caller.run(scripts.GREET, (key,), REDIS_FORMAT)
        except StoreError as error:
            if "another program" in str(error):
                raise StoreRefused(str(error)) from None
            raise
        if found != REDIS_FORMAT.encode():
            raise StoreRefused(
                f"Redis has format {found!r:.40} under the prefix {self._place.prefix!r}, and this version needs "
                f"{REDIS_FORMAT!r}: give it another prefix"
            )

    async def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(StoreError), anyio.move_on_after(ANSWER_TIME):
                await self.inbox.leave()
        await self._end()

    async def _drop(self) -> None:
        """Close all connections; a Redis that is away now is asked again by the next `open`."""
        with anyio.CancelScope(shield=True):
            await self.bus.stop()
            await self.inbox.link.drop()
            for line in self._way.lines():
                await line.drop()

    async def _end(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.bus.stop()
            await self.inbox.link.close()
            await self._way.close()

    def statistics(self) -> dict[str, float]:
        """RedisConnections that were made, those of the bus that were made anew, commands and round trips."""
        lines: list[RedisLine] = self._way.lines()
        return {
            "connections": self._way.connections.count,
            "reconnections": self.bus.reconnections,
            "commands": sum(line.commands for line in lines),
            "round_trips": sum(line.round_trips for line in lines),
        }


def _time(ttl: float | None) -> int | str:
    return "" if ttl is None else redis_ttl(ttl)
