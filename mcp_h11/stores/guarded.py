# SPDX-License-Identifier: MIT
"""A store behind a time limit, a circuit breaker and counters, with the same four parts.

Rules:
- Every wait for the store has an end: `limit` seconds, in which the loop of this worker ran.
- A store that hangs costs one wait and not one for each call: after a wait that ran out, operations are refused at once
  for `rest` seconds.  A store that fails at once needs no such rest.
- The heartbeat is let through all the time, so the store is seen to work again as soon as it does.
- A store of the user's own may raise anything: it becomes a StoreError, and the log has each kind of it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..protocol.errors import EventsExpired
from ..protocol.shown import escaping
from .base import MAX_BUS_BYTES, Bus, Full, Inbox, Logs, Record, Records, Store, StoreError, StoreRefused, Tail, Taken
from .limits import StoreLate, limited

logger = escaping(logging.getLogger(__name__))

T = TypeVar("T")

OPERATION_LIMIT = 2.0  # seconds
BREAKER_REST = 1.0  # seconds
# Answers of a store that works.
ANSWERS = (EventsExpired, Full, Taken)


class Counter:
    """How often an operation was asked for, how often it failed, the seconds that it took and the bytes that it wrote.

    The seconds and the bytes are of those that did not fail.
    """

    __slots__ = ("failures", "operations", "seconds", "written")

    def __init__(self) -> None:
        self.operations = self.failures = self.written = 0
        self.seconds = 0.0


class StoreGuard:
    """Runs the operations of one store.  `on_state` is called with False when the store fails, True when it works."""

    def __init__(
        self, on_state: Callable[[bool], None], limit: float = OPERATION_LIMIT, rest: float = BREAKER_REST
    ) -> None:
        self.counters: dict[str, Counter] = {}
        self.works = True
        self._on_state = on_state
        self._limit = limit
        self._rest = rest
        self._rests_until = 0.0
        self._told: set[tuple[str, type[Exception]]] = set()  # operations and errors that the log has

    async def run(
        self, name: str, operation: Awaitable[T], *, extra: float = 0.0, probe: bool = False, size: int = 0
    ) -> T:
        """Await an operation, which writes `size` bytes, for at most `extra` seconds beyond the limit.

        `probe` runs it also while the breaker is open.  Raises StoreError.
        """
        counter = self.counters.get(name)
        if counter is None:
            counter = self.counters[name] = Counter()
        counter.operations += 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began < self._rests_until and not probe:
            counter.failures += 1
            _drop(operation)
            raise StoreError("the store did not answer, and is left alone for a moment")
        try:
            result = await limited(operation, self._limit + extra)
        except ANSWERS:
            self._succeeded(counter, loop.time() - began)
            raise
        except StoreLate:
            self._rests_until = loop.time() + self._rest
            self._failed(counter)
            raise StoreError(f"the store did not answer within {self._limit + extra:g} s") from None
        except StoreRefused:
            counter.failures += 1  # it answered, and is no store of ours
            raise
        except StoreError:
            self._failed(counter)
            raise
        except Exception as exc:
            self._failed(counter)
            if (name, type(exc)) not in self._told:
                self._told.add((name, type(exc)))
                logger.exception("the store raised an error that is no StoreError, by the operation %s", name)
            raise StoreError(f"the store failed: {type(exc).__name__}") from None
        counter.written += size
        self._succeeded(counter, loop.time() - began)
        return result

    def _succeeded(self, counter: Counter, seconds: float) -> None:
        counter.seconds += seconds
        self._rests_until = 0.0

    def _failed(self, counter: Counter) -> None:
        counter.failures += 1
        self._set(works=False)

    def doubt(self) -> None:
        """The store answers, but not as a store that works: it counts as away until it was seen to keep a value."""
        self._set(works=False)

    def recovered(self) -> None:
        """The store was seen to keep a value: it works."""
        self._set(works=True)

    def _set(self, *, works: bool) -> None:
        if works is not self.works:
            self.works = works
            self._on_state(works)


def _drop(operation: Awaitable[object]) -> None:
    close = getattr(operation, "close", None)
    if close is not None:  # a coroutine that is never awaited makes Python warn
        close()


class GuardedRecords:
    """`Records` behind a guard; all spaces are those of one endpoint, which `scope` names."""

    def __init__(self, records: Records, guard: StoreGuard, scope: str) -> None:
        self._records = records
        self._scope = f"{scope} "
        self._run = guard.run

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
        made = self._records.create(
            self._scope + space, key, value, ttl, group=group, limit=limit, group_limit=group_limit
        )
        return await self._run("create", made, size=len(value))

    async def load(self, space: str, key: str) -> Record | None:
        return await self._run("load", self._records.load(self._scope + space, key))

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        made = self._records.save(self._scope + space, key, value, version, ttl)
        return await self._run("save", made, size=len(value))

    async def touch(self, space: str, keys: Sequence[str], ttl: float) -> None:
        await self._run("touch", self._records.touch(self._scope + space, keys, ttl))

    async def delete(self, space: str, key: str) -> bool:
        return await self._run("delete", self._records.delete(self._scope + space, key))

    async def oldest(self, space: str, group: str | None, idle: float) -> str | None:
        return await self._run("oldest", self._records.oldest(self._scope + space, group, idle))

    async def count(self, space: str) -> int:
        return await self._run("count", self._records.count(self._scope + space))


class GuardedLogs:
    """`Logs` behind a guard."""

    def __init__(self, logs: Logs, guard: StoreGuard) -> None:
        self._logs = logs
        self._run = guard.run

    async def open(
        self, session: str, stream: str, ttl: float, *, writer: str = "", about: bytes = b"", after: int = 0
    ) -> None:
        made = self._logs.open(session, stream, ttl, writer=writer, about=about, after=after)
        await self._run("open", made)

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
        made = self._logs.append(session, stream, index, data, last=last, reader=reader, name=name)
        return await self._run("append", made, size=len(data))

    async def extend(
        self, session: str, stream: str, index: int, events: Sequence[bytes], *, last: bool = False
    ) -> str:
        made = self._logs.extend(session, stream, index, events, last=last)
        return await self._run("extend", made, size=sum(map(len, events)))

    async def read(self, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Tail:
        return await self._run("read", self._logs.read(session, stream, after, reader=reader))

    async def finish(self, session: str, stream: str, ttl: float) -> None:
        await self._run("finish", self._logs.finish(session, stream, ttl))

    async def touch(self, names: Sequence[tuple[str, str]], ttl: float) -> None:
        await self._run("touch", self._logs.touch(names, ttl))

    async def discard(self, session: str, stream: str | None = None) -> None:
        await self._run("discard", self._logs.discard(session, stream))


class GuardedInbox:
    """`Inbox` behind a guard; the wait for messages comes on top of the limit."""

    def __init__(self, inbox: Inbox, guard: StoreGuard) -> None:
        self._inbox = inbox
        self._run = guard.run

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        return await self._run("put", self._inbox.put(worker, message, party=party), size=len(message))

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        return await self._run("take", self._inbox.take(wait), extra=wait, probe=True)

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        await self._run("acknowledge", self._inbox.acknowledge(receipts))

    async def workers(self) -> list[str]:
        return await self._run("workers", self._inbox.workers())


class GuardedBus:
    """`Bus` behind a guard."""

    def __init__(self, bus: Bus, guard: StoreGuard) -> None:
        self._bus = bus
        self._run = guard.run
        self.subscribe = bus.subscribe

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        if len(message) > MAX_BUS_BYTES:  # the caller's fault, and not the store's
            raise ValueError(f"a message on the bus has at most {MAX_BUS_BYTES} bytes")
        await self._run("publish", self._bus.publish(message, worker), size=len(message))


class GuardedStore:
    """A `Store` behind one guard for all four parts; `scope` names the endpoint whose records it keeps."""

    records: Records
    logs: Logs
    inbox: Inbox
    bus: Bus

    def __init__(self, store: Store, guard: StoreGuard, scope: str) -> None:
        self.guard = guard
        self.records = GuardedRecords(store.records, guard, scope)
        self.logs = GuardedLogs(store.logs, guard)
        self.inbox = GuardedInbox(store.inbox, guard)
        self.bus = GuardedBus(store.bus, guard)
        self.statistics = store.statistics
        self._store = store

    async def open(self, worker: str) -> None:
        """Begin as this worker."""
        await self.guard.run("open_store", self._store.open(worker), probe=True)

    async def close(self) -> None:
        """End; waits no longer than the limit."""
        await self.guard.run("close", self._store.close(), probe=True)
