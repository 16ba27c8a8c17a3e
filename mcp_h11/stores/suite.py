# SPDX-License-Identifier: MIT
"""The tools of the checks of `stores.testing`: workers of one fleet, comparisons with their rule, waits with an end.

Rule: no check asks the wall clock for less than a stalled machine may take.  Where time has to pass in the store, a
check waits for another record or log of the store to end.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from .base import Store

Make = Callable[[], Awaitable[Store]]  # a new `Store` of the fleet under test, not yet opened
StoreCheck = Callable[[Make], Awaitable[None]]
T = TypeVar("T")
_E = TypeVar("_E", bound=BaseException)

CHECK_TIME = 120.0  # seconds that one check may take
APPEAR_TIME = 30.0  # seconds until a thing that must happen soon has happened
LOOK_EVERY = 0.02
SHORT = 0.2  # a time to live; a check waits for its end
STALL = 3.0  # a time to live that does not end between two operations, unless the machine stands still for so long
LONG = 600.0

# Texts that a client can send as a key.  Each is another key than all others.
TEXTS = (
    "plain", "", " ", "plain ", "Plain", "a\0", "a\0b", "a", "a\nb", "a\r\nb", "{a}", "}{", "{", "a:b", "a/../b", "*",
    "?", "[a]", "%s", "a'; --", '"', "\\", "\\0", "\u00e9", "e\u0301", "\U0001f600", "\ud800", "\ufffd", "\uffff",
    "x" * 4096, "x" * 4097, "\U0001f600" * 1024,
)  # fmt: skip
BYTES = (b"", b"\0", b"\xff\xfe", bytes(range(256)), b"\r\n", b"*1\r\n$1\r\n", b"text", b"0", b"x" * 65_536)


@dataclass
class Worker:
    """One worker of the fleet under test: its store, its id, and the messages that it heard on the bus."""

    store: Store
    name: str
    heard: list[bytes] = field(default_factory=list)
    gaps: int = 0

    def gap(self) -> None:
        """Count a gap."""
        self.gaps += 1

    async def live(self) -> None:
        """Write the heartbeat: from now on the others can put messages."""
        equal(await self.store.inbox.take(0), [], "a new inbox is empty")


@asynccontextmanager
async def fleet(make: Make, count: int = 1) -> AsyncIterator[list[Worker]]:
    """Open workers of one fleet; close them at the end."""
    workers: list[Worker] = []
    try:
        for _ in range(count):
            worker = Worker(await make(), fresh())
            workers.append(worker)
            worker.store.bus.subscribe(worker.heard.append, worker.gap)
            await worker.store.open(worker.name)
        yield workers
    finally:
        for worker in workers:
            await worker.store.close()


def in_time(check: StoreCheck) -> StoreCheck:
    """End a check that hangs: it fails after CHECK_TIME."""

    @functools.wraps(check)
    async def limited(make: Make) -> None:
        await asyncio.wait_for(check(make), CHECK_TIME)

    return limited


def fresh() -> str:
    """A name that no other check has used, in this run or an earlier one."""
    return os.urandom(12).hex()


def equal(got: object, wanted: object, rule: str) -> None:
    """Raise AssertionError with the rule where two values differ."""
    if got != wanted:
        raise AssertionError(f"{rule}: got {got!r:.500}, wanted {wanted!r:.500}")


def given(value: T | None, rule: str) -> T:
    """The value; AssertionError with the rule where it is None."""
    if value is None:
        raise AssertionError(f"{rule}: got None")
    return value


async def raises(kind: type[_E], operation: Awaitable[object], rule: str) -> _E:
    """Await an operation that must raise exactly this, and return the exception."""
    try:
        got = await operation
    except BaseException as error:
        if type(error) is not kind:
            raise
        return error
    raise AssertionError(f"{rule}: got {got!r:.500}, wanted {kind.__name__}")


async def eventually(look: Callable[[], Awaitable[bool]], rule: str, limit: float = APPEAR_TIME) -> None:
    """Look again and again until it is so; AssertionError with the rule after `limit` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    while not await look():
        if loop.time() > end:
            raise AssertionError(f"{rule}: not so after {limit:g} s")
        await asyncio.sleep(LOOK_EVERY)
