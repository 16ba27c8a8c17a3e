# SPDX-License-Identifier: MIT
"""Where the tasks of a server are kept: in the store that its workers share, or in this process where there is none.

Every change is a compare and set on the record: the step is made again where another worker was faster.  So the worker
that runs a task and the worker that a client asks never undo one another's change, and neither owns the record.

Rule: a store gets neither the id of a task nor the name of its owner.  The key is a hash of the id, and the owner is a
hash with a key of the fleet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from ..protocol.errors import InvalidParams, MCPError, overloaded
from ..protocol.shown import escaping
from ..runtime.fairness import Load
from ..runtime.fleet import CLOCKS_DIFFER, Fleet, key_of
from ..runtime.runtime import Runtime
from ..stores.base import Full, Record, StoreError
from .tasks_state import Task, decode, encode

logger = escaping(logging.getLogger(__name__))

TASK_SPACE = "task"
MAX_CHANGE_TRIES = 50  # of one change, while other workers change the same task
# Bytes for the reason why a task has ended, beyond its own limit and set aside from its client's memory.  A task always
# has room to end: else nothing could be said of a result that is too large, and nothing could cancel the task.
ROOM_TO_END = 2_048
TaskStep = Callable[[Task], Task]


class TaskGone(Exception):
    """There is no such task, or no longer."""


class TaskTooLarge(Exception):
    """The record of a task would be larger than a task may be."""


def unknown() -> MCPError:
    """The one answer for a task that never was, that has expired, or that belongs to another principal."""
    return InvalidParams("Unknown task: it never was, or it has expired")


def away() -> MCPError:
    """503: the store of the tasks does not answer."""
    return overloaded("The store of the tasks is away")


class LocalRecords:
    """As much of `stores.base.Records` as tasks need, in this process; a record that is over is dropped by a timer.

    Args:
        load_of: makes the `Load` that counts the memory of the records of a group.
        room: the bytes by which each record may grow in any case; they are counted from its creation on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, load_of: Callable[[str], Load], room: int = 0) -> None:
        self._loop = loop
        self._load_of = load_of
        self._room = room
        # Version, value, end, group, memory, and the least bytes that are counted.
        self._kept: dict[str, tuple[int, bytes, float, str, Load, int]] = {}
        self._groups: dict[str, int] = {}
        self._ends: list[tuple[float, str]] = []  # a heap; an entry may be old
        self._timer: asyncio.TimerHandle | None = None
        self._versions = 0

    def __len__(self) -> int:
        return len(self._kept)

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
        if key in self._kept:
            return None
        if group_limit is not None and self._groups.get(group, 0) >= group_limit:
            raise Full(group=True)
        load, least = self._load_of(group), len(value) + self._room if self._room else 0
        if (limit is not None and len(self._kept) >= limit) or not load.resize(max(len(value), least)):
            raise Full
        self._groups[group] = self._groups.get(group, 0) + 1
        return self._keep(key, value, ttl, group, load, least)

    async def load(self, space: str, key: str) -> Record | None:
        found = self._kept.get(key)
        return None if found is None else Record(found[0], found[1])

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        found = self._kept.get(key)
        if found is None or found[0] != version:
            return None
        if not found[4].resize(max(len(value), found[5])):
            raise Full(group=True)
        return self._keep(key, value, ttl, *found[3:])

    async def delete(self, space: str, key: str) -> bool:
        return self._drop(key)

    def close(self) -> None:
        """Drop everything: the server has ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._kept.clear()
        self._groups.clear()
        self._ends.clear()

    def _keep(self, key: str, value: bytes, ttl: float | None, group: str, load: Load, least: int) -> int:
        assert ttl is not None, "a task has an end"
        self._versions += 1
        ends = self._loop.time() + ttl
        self._kept[key] = self._versions, value, ends, group, load, least
        heappush(self._ends, (ends, key))
        if len(self._ends) > 2 * len(self._kept) + 16:  # progress moves an end each time
            self._ends = sorted((kept[2], key) for key, kept in self._kept.items())
        self._arm()
        return self._versions

    def _arm(self) -> None:
        """Set the timer for the record that ends first; entries of records that end later by now are dropped."""
        while self._ends and ((kept := self._kept.get(self._ends[0][1])) is None or kept[2] != self._ends[0][0]):
            heappop(self._ends)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._ends[0][0], self._expire) if self._ends else None

    def _expire(self) -> None:
        now = self._loop.time()
        while self._ends and self._ends[0][0] <= now:
            _, key = heappop(self._ends)
            kept = self._kept.get(key)
            if kept is not None and kept[2] <= now:
                self._drop(key)
        self._arm()

    def _drop(self, key: str) -> bool:
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        left = self._groups[kept[3]] - 1
        if left:
            self._groups[kept[3]] = left
        else:
            del self._groups[kept[3]]
        return True


class TaskRecords:
    """The records of the tasks of one server.

    Args:
        limit, group_limit: the most tasks in all, and of one client.
        max_bytes: the most bytes of one record.
    """

    def __init__(self, runtime: Runtime, limit: int | None, group_limit: int | None, max_bytes: int) -> None:
        self.runtime = runtime
        self.fleet: Fleet | None = runtime.fleet
        self.worker = "" if self.fleet is None else self.fleet.worker
        self._local = LocalRecords(runtime.loop, self._load_of, ROOM_TO_END) if self.fleet is None else None
        self._records: Any = self._local if self.fleet is None else self.fleet.records
        self._limit, self._group_limit, self._max_bytes = limit, group_limit, max_bytes
        # In a fleet the clock of the worker that asks may be ahead, and a task may not end early for that.
        self._slack = 0.0 if self.fleet is None else CLOCKS_DIFFER

    def close(self) -> None:
        """Forget the tasks that are kept in this process."""
        if self._local is not None:
            self._local.close()

    def hashed(self, name: str) -> str:
        """A principal or a party, as a record may name it; "" stays "".  Raises MCPError where the store is away."""
        if self.fleet is None or not name:
            return name
        try:
            return self.fleet.hashed(name)
        except StoreError:
            raise away() from None

    async def create(self, key: str, task: Task, party: str) -> None:
        """Keep a new task.  When it returns, every worker finds the task.

        Raises MCPError where there are too many, or where the store is away, and TaskTooLarge.
        """
        limits = {"limit": self._limit, "group_limit": self._group_limit if party else None}
        # The local records count memory, for which they need the party itself.
        group = self.hashed(party)
        try:
            await self._records.create(TASK_SPACE, key, self._packed(task), self._ttl(task), group=group, **limits)
        except Full as exc:
            raise overloaded("This client has too many tasks" if exc.group else "There are too many tasks") from None
        except StoreError:
            raise away() from None

    async def load(self, key: str) -> Task:
        """The task under a key.  Raises TaskGone and StoreError."""
        return (await self._load(key))[1]

    async def change(self, key: str, step: TaskStep) -> Task:
        """Make a step, and give the task after it.  Raises TaskGone, TaskTooLarge, StoreError, and as the step does."""
        for _ in range(MAX_CHANGE_TRIES):
            version, before = await self._load(key)
            after = step(before)
            if after is before:
                return before
            try:
                saved = await self._records.save(TASK_SPACE, key, self._packed(after), version, self._ttl(after))
            except Full:
                raise TaskTooLarge("The share of this client is used up") from None
            if saved is not None:
                return after
        raise StoreError("other workers change this task all the time")

    async def delete(self, key: str) -> None:
        """Forget a task: its client has left, and does not know the id."""
        try:
            await self._records.delete(TASK_SPACE, key)
        except StoreError as exc:
            logger.debug("a task that was not begun stays until it expires: %s", exc)

    async def is_dead(self, worker: str) -> bool:
        """Whether the worker that runs a task is gone.  Raises StoreError where that is not known."""
        return self.fleet is not None and worker != self.worker and await self.fleet.is_dead(worker)

    async def count(self) -> int:
        """The tasks that are kept now, for tests and operators."""
        return len(self._local) if self._local is not None else int(await self._records.count(TASK_SPACE))

    async def _load(self, key: str) -> tuple[int, Task]:
        record: Record | None = await self._records.load(TASK_SPACE, key)
        if record is None:
            raise TaskGone
        try:
            return record.version, decode(record.value)
        except ValueError as exc:
            logger.error("the record of a task cannot be read: %s", exc)
            raise TaskGone from None

    def _packed(self, task: Task) -> bytes:
        data = encode(task)
        # The end of a task without a result is its reason.
        room = ROOM_TO_END if task.over and task.result is None else 0
        if len(data) > self._max_bytes + room:
            raise TaskTooLarge(f"A task has at most {self._max_bytes} bytes, and this one would have {len(data)}")
        return data

    def _ttl(self, task: Task) -> float:
        return task.left(self.runtime.now()) + self._slack

    def _load_of(self, party: str) -> Load:
        return Load(self.runtime.memory, party)


def key_of_task(task_id: str) -> str:
    """The name of a task in the store and among the workers."""
    return key_of(task_id)
