# SPDX-License-Identifier: MIT
"""A store in memory that is late, fails, hangs, is away and loses its data, as a seeded schedule says.

`Chaos` is the schedule; `FaultyStore` is one worker's end.  The effect of an operation and the news of it are two
events: an operation may take effect and fail all the same, or take effect long after its caller gave it up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any

from virtual import EPSILON, Owner, VirtualLoop

from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub, MemoryStore

LATE, FAILS, HANGS, BUS, KILLS, LEAVES, AWAY, LOSES = KINDS = (
    "late", "fails", "hangs", "bus", "kills", "leaves", "away", "loses",
)  # fmt: skip
OK, FAIL_BEFORE, FAIL_AFTER, NEVER_BEFORE, NEVER_AFTER = range(5)


class Chaos:
    """What goes wrong with the store; `kinds` are the kinds of faults that this run has."""

    def __init__(self, loop: VirtualLoop, random: Random, kinds: frozenset[str], trace: Callable[..., None]) -> None:
        self.loop = loop
        self.random = random
        self.kinds = kinds
        self.trace = trace
        self.hub = Hub(loop.time)
        self.detailed = False  # every operation is in the trace
        self.calm = True  # nothing goes wrong now
        self.away = ""  # "refuses" or "hangs" while the whole store is away
        self.made: Counter[str] = Counter()  # faults by kind
        self.stores: list[FaultyStore] = []
        self._parked: list[Callable[[], None]] = []  # operations that a hanging store has in its buffers

    def has(self, kind: str) -> bool:
        """Whether that kind may happen now."""
        return not self.calm and kind in self.kinds

    def fate(self) -> int:
        """What comes of one operation."""
        if self.calm:
            return OK
        dice = self.random.random()
        if FAILS in self.kinds and dice < 0.06:
            self.made[FAILS] += 1
            return FAIL_BEFORE if dice < 0.03 else FAIL_AFTER
        if HANGS in self.kinds and 0.06 <= dice < 0.08:
            self.made[HANGS] += 1
            return NEVER_BEFORE if dice < 0.07 else NEVER_AFTER
        return OK

    def delay(self) -> float:
        """Seconds of one way."""
        if self.has(LATE) and self.random.random() < 0.05:
            self.made[LATE] += 1
            return self.random.choice((0.05, 0.3, 1.0, 2.5)) * self.random.random()
        return self.random.uniform(0.0002, 0.003)

    def leave(self, mode: str) -> None:
        """The whole store goes away."""
        self.made[AWAY] += 1
        self.trace("store", mode)
        self.away = mode

    def come_back(self, lose: bool = False) -> None:
        """It is there again, perhaps without its data; every subscriber missed something."""
        self.trace("store is back", "without its data" if lose else "")
        self.away = ""
        if lose:
            self.made[LOSES] += 1
            self.hub.spaces.clear()
            self.hub.logs.clear()
            for store in self.stores:
                store.inner.inbox.forget()
        parked, self._parked = self._parked, []
        for perform in parked:
            if not lose:
                perform()
        for store in self.stores:
            store.bus.miss()

    def park(self, perform: Callable[[], None]) -> None:
        """An operation waits in a hanging store."""
        self._parked.append(perform)


class Operations:
    """Runs operations as the schedule says."""

    def __init__(self, chaos: Chaos, worker: str) -> None:
        self.chaos = chaos
        self.worker = worker  # its name in the trace

    async def run(self, name: str, make: Callable[[], Coroutine[Any, Any, Any]], *about: Any) -> Any:
        """`make` gives the coroutine of the real operation, which must not wait."""
        chaos = self.chaos
        if chaos.detailed:
            name = " ".join(map(str, (name, *about)))
        future = chaos.loop.create_future()
        perform = partial(self._perform, name, make, future, chaos.fate())
        chaos.loop.call_later(chaos.delay(), perform, context=contextvars.Context())
        return await future

    def _perform(
        self, name: str, make: Callable[[], Coroutine[Any, Any, Any]], future: asyncio.Future[Any], fate: int
    ) -> None:
        chaos = self.chaos
        if chaos.away == "hangs":
            chaos.park(partial(self._perform, name, make, future, NEVER_AFTER))
            return
        if fate == NEVER_BEFORE:
            return
        result: Any = None
        error: Exception | None = None
        if chaos.away or fate == FAIL_BEFORE:
            error = StoreError(f"{name} fails")
        else:
            try:
                make().send(None)
            except StopIteration as end:
                result = end.value
            except Exception as exc:
                error = exc
            else:
                raise AssertionError(f"{name} waits")
            if fate == NEVER_AFTER:
                chaos.trace("    ", self.worker, name, "is done, and never answered")
                return
            if fate == FAIL_AFTER:
                error = StoreError(f"{name} is done, and fails")
        if chaos.detailed:
            chaos.trace("    ", self.worker, name, "->", repr(error or result)[:150])
        chaos.loop.call_later(chaos.delay(), _tell, future, result, error, context=contextvars.Context())


def _tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
        future.exception()
    else:
        future.set_result(result)


class Part:
    """Records or logs: every method is an operation."""

    def __init__(self, inner: Any, operations: Operations) -> None:
        self._inner = inner
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def operation(*args: Any, **options: Any) -> Any:
            return self._operations.run(name, lambda: method(*args, **options), *args, options)

        self.__dict__[name] = operation
        return operation


class FaultyInbox:
    """The inbox: a message that was put while its worker lives arrives, whatever fails."""

    def __init__(self, inner: Any, operations: Operations) -> None:
        self._inner = inner
        self._operations = operations

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        return bool(await self._operations.run("put", lambda: self._inner.put(worker, message, party=party)))

    async def workers(self) -> list[str]:
        found: list[str] = await self._operations.run("workers", self._inner.workers)
        return found

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        await self._operations.run("acknowledge", lambda: self._inner.acknowledge(receipts))

    async def _beat(self) -> None:
        self._inner.beat_at = self._inner._hub.clock()

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        await self._operations.run("take", self._beat)
        beat = self._inner.beat_at
        messages: list[tuple[str, bytes]] = await self._inner.take(wait)
        self._inner.beat_at = beat  # the wait itself is no heartbeat
        try:
            if messages:
                await self._operations.run("taken", _nothing)
        except BaseException:
            # The worker never got them, so they wait again.
            for receipt, _ in messages:
                self._inner._taken.pop(receipt, None)
            self._inner._new = {**dict(messages), **self._inner._new}
            raise
        return messages


async def _nothing() -> None:
    """Only the way back is left."""


class FaultyBus:
    """The bus: messages of one sender keep their order; one that is lost is followed by a gap."""

    def __init__(self, store: FaultyStore, operations: Operations) -> None:
        self._store = store
        self._operations = operations
        self._chaos = operations.chaos
        self._arrives: dict[FaultyStore, float] = {}
        self._heard: Callable[[bytes], None] = lambda _: None
        self._gap: Callable[[], None] = lambda: None
        self._gap_comes = False

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        self._heard, self._gap = heard, gap

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        async def tell() -> None:
            for store in self._chaos.stores:
                if store is not self._store and store.owner.alive and worker in (None, store.worker):
                    self._send(store, message)

        await self._operations.run("publish", tell)

    def _send(self, store: FaultyStore, message: bytes) -> None:
        chaos = self._chaos
        if chaos.has(BUS) and chaos.random.random() < 0.1:
            chaos.made[BUS] += 1
            chaos.trace("lost for", store.name, message.decode())
            store.bus.miss()
            return
        delay = chaos.delay()
        if chaos.has(BUS):
            delay += chaos.random.choice((0.0, 0.0, 0.02, 0.5)) * chaos.random.random()
        at = max(self._arrives.get(store, 0.0) + EPSILON, chaos.loop.now + delay)
        self._arrives[store] = at
        chaos.loop.call_at(at, store.bus.hear, message, context=store.owner.context)

    def hear(self, message: bytes) -> None:
        """A message has come."""
        self._heard(message)

    def miss(self) -> None:
        """A message was lost: after a while, when the subscription is renewed, the subscriber is told."""
        if not self._gap_comes and self._store.owner.alive:
            self._gap_comes = True
            self._chaos.loop.call_later(
                self._chaos.random.uniform(0.05, 1.5), self._tell_gap, context=self._store.owner.context
            )

    def _tell_gap(self) -> None:
        self._gap_comes = False
        self._chaos.trace("gap", self._store.name)
        self._gap()


class FaultyStore:
    """One worker's end of the store."""

    def __init__(self, chaos: Chaos, owner: Owner, name: str) -> None:
        operations = Operations(chaos, name)
        self.name = name  # in the trace
        self.owner = owner
        self.worker = ""
        self.inner = MemoryStore(chaos.hub)
        self.records: Any = Part(self.inner.records, operations)
        self.logs: Any = Part(self.inner.logs, operations)
        self.inbox = FaultyInbox(self.inner.inbox, operations)
        self.bus = FaultyBus(self, operations)
        self._operations = operations

    async def open(self, worker: str) -> None:
        self.worker = worker
        await self._operations.run("open", self._open)

    async def _open(self) -> None:
        stores = self._operations.chaos.stores
        if self not in stores:  # else an earlier `open` took effect, and failed all the same
            stores.append(self)
            await self.inner.open(self.worker)

    async def close(self) -> None:
        await self._operations.run("close", self.inner.close)
        chaos = self._operations.chaos
        if self in chaos.stores:
            chaos.stores.remove(self)

    def statistics(self) -> dict[str, float]:
        return {}
