# SPDX-License-Identifier: MIT
"""A store in memory, for several servers on one event loop: `Hub` is the shared part, `MemoryStore` one worker's end.

It is the reference that the other stores are held against, and the store of the simulation.  One server alone needs
none: without a store it keeps everything in itself, at no cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..protocol.errors import EventsExpired
from .base import (
    ALIVE_TIME,
    LOG_EVENT_OVERHEAD,
    MAX_BUS_BYTES,
    MAX_INBOX_BYTES,
    MAX_INBOX_MESSAGES,
    MAX_LOG_BYTES,
    MAX_LOG_EVENTS,
    MAX_PARTY_BYTES,
    MAX_PARTY_MESSAGES,
    Full,
    Record,
    Repeated,
    StoreError,
    Tail,
    Taken,
)


class _Kept:
    """One record."""

    __slots__ = ("ends", "group", "used", "value", "version")

    def __init__(self, value: bytes, group: str, version: int) -> None:
        self.value = value
        self.group = group
        self.version = version
        self.used = 0.0
        self.ends: float | None = None


class _Log:
    """One log: `events` and their `names` have the indexes up to `last`, without gaps."""

    __slots__ = ("about", "ends", "events", "finished", "last", "names", "reader", "size", "ttl", "writer")

    def __init__(self, writer: str, about: bytes, ttl: float) -> None:
        self.events: deque[bytes] = deque()
        self.names: deque[str] = deque()  # "" for an event without a name
        self.last = self.size = 0
        self.finished = False
        self.writer, self.about, self.reader = writer, about, ""
        self.ttl = ttl
        self.ends = 0.0


class Hub:
    """What the workers of one process share.  `clock` returns seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.spaces: dict[str, dict[str, _Kept]] = {}
        self.logs: dict[str, dict[str, _Log]] = {}
        self.workers: dict[str, MemoryStore] = {}
        self._versions = 0

    def next_version(self) -> int:
        """A version that no record had: one of a record that is gone does not come back."""
        self._versions += 1
        return self._versions


class MemoryRecords:
    """Records of a `Hub`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def _alive(self, space: str) -> dict[str, _Kept]:
        """The space without records whose time is over."""
        kept = self._hub.spaces.setdefault(space, {})
        now = self._hub.clock()
        for key in [key for key, one in kept.items() if one.ends is not None and one.ends <= now]:
            del kept[key]
        return kept

    def _use(self, kept: _Kept, ttl: float | None) -> None:
        kept.used = self._hub.clock()
        kept.ends = None if ttl is None else kept.used + ttl

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
        alive = self._alive(space)
        if key in alive:
            return None
        if group_limit is not None and sum(one.group == group for one in alive.values()) >= group_limit:
            raise Full(group=True)
        if limit is not None and len(alive) >= limit:
            raise Full
        kept = alive[key] = _Kept(value, group, self._hub.next_version())
        self._use(kept, ttl)
        return kept.version

    async def load(self, space: str, key: str) -> Record | None:
        kept = self._alive(space).get(key)
        return None if kept is None else Record(kept.version, kept.value)

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        kept = self._alive(space).get(key)
        if kept is None or kept.version != version:
            return None
        kept.value = value
        kept.version = self._hub.next_version()
        self._use(kept, ttl)
        return kept.version

    async def touch(self, space: str, keys: Sequence[str], ttl: float) -> None:
        alive = self._alive(space)
        for key in keys:
            if key in alive:
                self._use(alive[key], ttl)

    async def delete(self, space: str, key: str) -> bool:
        return self._alive(space).pop(key, None) is not None

    async def oldest(self, space: str, group: str | None, idle: float) -> str | None:
        found = [(one.used, key) for key, one in self._alive(space).items() if group is None or one.group == group]
        used, key = min(found, default=(0.0, None))
        return key if key is not None and self._hub.clock() - used >= idle else None

    async def count(self, space: str) -> int:
        return len(self._alive(space))


class MemoryLogs:
    """Logs of a `Hub`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def _find(self, session: str, stream: str) -> _Log | None:
        logs = self._hub.logs.get(session, {})
        log = logs.get(stream)
        if log is not None and log.ends <= self._hub.clock():
            del logs[stream]
            if not logs:
                del self._hub.logs[session]
            return None
        return log

    async def open(
        self, session: str, stream: str, ttl: float, *, writer: str = "", about: bytes = b"", after: int = 0
    ) -> None:
        if self._find(session, stream) is None:
            log = self._hub.logs.setdefault(session, {})[stream] = _Log(writer, about, ttl)
            log.last = after
            log.ends = self._hub.clock() + ttl

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
        log = self._find(session, stream)
        if log is None or log.finished or index != log.last + 1 or (reader and log.reader not in ("", reader)):
            raise Taken(f"event {index} cannot be appended")
        if name and name in log.names:
            raise Repeated(f"event {name} is there already")
        return self._keep(log, (data,), last, (name,))

    async def extend(
        self, session: str, stream: str, index: int, events: Sequence[bytes], *, last: bool = False
    ) -> str:
        log = self._find(session, stream)
        if log is None or log.finished or index != log.last + 1:
            raise Taken(f"event {index} cannot be appended")
        return self._keep(log, events, last, [""] * len(events))

    def _keep(self, log: _Log, events: Sequence[bytes], last: bool, names: Sequence[str]) -> str:
        log.events.extend(events)
        log.names.extend(names)
        log.last += len(events)
        log.size += sum(map(len, events)) + LOG_EVENT_OVERHEAD * len(events)
        while len(log.events) > MAX_LOG_EVENTS or (log.size > MAX_LOG_BYTES and len(log.events) > 1):
            log.size -= len(log.events.popleft()) + LOG_EVENT_OVERHEAD
            log.names.popleft()
        log.finished = last
        log.ends = self._hub.clock() + log.ttl
        return log.reader

    async def read(self, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Tail:
        log = self._find(session, stream)
        first = 0 if log is None else log.last - len(log.events) + 1
        if log is None or after is not None and not first - 1 <= after <= log.last:
            raise EventsExpired(stream)
        after = first - 1 if after is None else after
        events = [(first + n, data) for n, data in enumerate(log.events) if first + n > after]
        before = log.reader
        if reader is not None:
            log.reader = reader
        return Tail(events, log.last, log.finished, log.writer, log.about, before)

    async def finish(self, session: str, stream: str, ttl: float) -> None:
        log = self._find(session, stream)
        if log is not None:
            log.finished = True
            log.ends = self._hub.clock() + ttl

    async def touch(self, names: Sequence[tuple[str, str]], ttl: float) -> None:
        for session, stream in names:
            log = self._find(session, stream)
            if log is not None and not log.finished:
                log.ends = self._hub.clock() + ttl

    async def discard(self, session: str, stream: str | None = None) -> None:
        logs = self._hub.logs.get(session, {})
        if stream is not None:
            logs.pop(stream, None)
        if stream is None or not logs:
            self._hub.logs.pop(session, None)


class MemoryInbox:
    """The inbox of one worker, and the way to those of the others."""

    def __init__(self, hub: Hub, owner: MemoryStore) -> None:
        self._hub = hub
        self._owner = owner
        self._new: dict[str, bytes] = {}  # by receipt, in order
        self._taken: dict[str, int] = {}  # sizes, until the receipts are acknowledged
        self._senders: dict[str, str] = {}  # the party of each of these that has one
        self._shares: dict[str, tuple[int, int]] = {}  # by party: messages and bytes
        self._size = self._count = 0
        self._arrived = asyncio.Event()
        self.beat_at: float | None = None

    def is_alive(self) -> bool:
        """Whether the last heartbeat is less than ALIVE_TIME old."""
        return self.beat_at is not None and self._hub.clock() - self.beat_at < ALIVE_TIME

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        found = self._hub.workers.get(worker)
        if found is None or not found.inbox.is_alive():
            return False
        found.inbox.accept(message, party)
        return True

    def accept(self, message: bytes, party: str) -> None:
        """Keep a message of a party for the own worker.  Raises Full."""
        waiting = len(self._new) + len(self._taken)
        if waiting >= MAX_INBOX_MESSAGES or self._size + len(message) > MAX_INBOX_BYTES:
            raise Full
        if party:
            count, size = self._shares.get(party, (0, 0))
            if count >= MAX_PARTY_MESSAGES or size + len(message) > MAX_PARTY_BYTES:
                raise Full(group=True)
            self._shares[party] = count + 1, size + len(message)
            self._senders[str(self._count + 1)] = party
        self._count += 1
        self._size += len(message)
        self._new[str(self._count)] = message
        self._arrived.set()

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        self.beat_at = self._hub.clock()
        if not self._new:
            self._arrived.clear()
            waiting = asyncio.ensure_future(self._arrived.wait())
            try:
                await asyncio.wait({waiting}, timeout=wait)
            finally:
                waiting.cancel()
        messages = list(self._new.items())
        self._new.clear()
        self._taken.update((receipt, len(message)) for receipt, message in messages)
        return messages

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        for receipt in receipts:
            done = self._taken.pop(receipt, None)
            if done is not None:
                self._size -= done
                self._give_back(self._senders.pop(receipt, ""), done)

    def _give_back(self, party: str, done: int) -> None:
        count, size = self._shares.pop(party, (0, 0))
        if count > 1:
            self._shares[party] = count - 1, size - done

    def forget(self) -> None:
        """Lose everything that has not been taken, and the heartbeat: the store has lost its data."""
        self._new.clear()
        self._senders.clear()
        self._shares.clear()
        self._size, self.beat_at = sum(self._taken.values()), None

    async def workers(self) -> list[str]:
        return [name for name, store in self._hub.workers.items() if store.inbox.is_alive()]


class MemoryBus:
    """Calls the subscribers of the other workers in the next turn of the loop."""

    def __init__(self, hub: Hub, owner: MemoryStore) -> None:
        self._hub = hub
        self._owner = owner
        self.heard: Callable[[bytes], None] = _ignore

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        self.heard = heard  # `gap` is never called: no message is lost here

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        if len(message) > MAX_BUS_BYTES:
            raise ValueError(f"a message on the bus has at most {MAX_BUS_BYTES} bytes")
        loop = asyncio.get_running_loop()
        for name, store in self._hub.workers.items():
            if store is not self._owner and worker in (None, name):
                loop.call_soon(store.bus.hear, message)

    def hear(self, message: bytes) -> None:
        """Give a message to the subscriber."""
        self.heard(message)


class MemoryStore:
    """One worker's end of a hub; without one, of a hub of its own."""

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = Hub() if hub is None else hub
        self.records = MemoryRecords(self.hub)
        self.logs = MemoryLogs(self.hub)
        self.inbox = MemoryInbox(self.hub, self)
        self.bus = MemoryBus(self.hub, self)
        self._worker = ""

    async def open(self, worker: str) -> None:
        if worker in self.hub.workers:
            raise StoreError("a worker with this id is there already")
        self._worker = worker
        self.hub.workers[worker] = self

    async def close(self) -> None:
        self.hub.workers.pop(self._worker, None)

    def statistics(self) -> dict[str, float]:
        return {}


def _ignore(message: bytes) -> None:
    """Do nothing: the bus before `subscribe`."""
