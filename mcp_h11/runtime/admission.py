# SPDX-License-Identifier: MIT
"""Gates: the calls that run, and the lines in front of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from .fairness import Turns


class HasParty(Protocol):
    """A call or a session: the client that it belongs to is looked up when a limit asks for it."""

    @property
    def party(self) -> str:
        """As `fairness.party_of` has it."""
        ...


class Gate:
    """At most `limit` inside, of one client; later ones wait in line.  `limit` None lets everything in."""

    __slots__ = ("inside", "limit", "line")

    def __init__(self, limit: int | None) -> None:
        self.limit = math.inf if limit is None else limit
        self.inside = 0
        # An ordered set, made when the first waiter comes: each session has a gate.
        self.line: dict[asyncio.Future[None], None] | None = None

    def leave(self) -> None:
        """Free the place, for the first in line where there is one."""
        self.inside -= 1
        if self.line:
            self.admit()

    def admit(self) -> None:
        """Admit waiters, the first in line first, while there is room."""
        # A call that comes back after it gave its place away can make one too many: then no waiter is admitted.
        while self.line and self.inside < self.limit:
            waiter = next(iter(self.line))
            del self.line[waiter]
            if not waiter.done():
                self.inside += 1
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for a place; the caller leaves it when done."""
        if self.inside < self.limit:
            self.inside += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        line = self.line
        if line is None:
            line = self.line = {}
        line[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()  # the place came together with the cancellation
            elif waiter in line:
                del line[waiter]  # `admit` removes it only when a place is freed
            raise


class FairGate(Turns["asyncio.Future[None]"]):
    """At most `limit` inside, of all clients: each has its share, and those that wait have turns.

    While something rests until the next call (`rest`), `easy` is 0: then that call takes the path that looks closer;
    a call on the usual path pays nothing for it.
    """

    __slots__ = ("_easy", "_sleepers")

    def __init__(self, limit: float | None) -> None:
        super().__init__(limit)
        self._easy = self.easy
        self._sleepers: list[Callable[[], None]] = []

    def rest(self, wake: Callable[[], None]) -> None:
        """Call `wake` before the next call begins.  No call runs now."""
        self._sleepers.append(wake)
        self.easy = 0.0

    def wake(self) -> bool:
        """End the rest, and tell those that asked for it; whether there was one."""
        if not self._sleepers:
            return False
        sleepers, self._sleepers = self._sleepers, []
        self.easy = self._easy
        for wake in sleepers:
            wake()
        return True

    @property
    def inside(self) -> int:
        """How many are in."""
        return int(self.total)

    @property
    def line(self) -> list[asyncio.Future[None]]:
        """All that wait, party by party."""
        return [waiter for line in self.lines.values() for waiter in line]

    def leave(self, party: str) -> None:
        """Free a place of the party; the next turn decides which party gets it."""
        self.give_back(party)
        if self.lines:
            self.admit()

    def admit(self) -> None:
        """Admit waiters, party after party, while there is room."""
        for party, waiter in self.admitted():
            if waiter.done():  # cancelled, and not yet out of the line
                self.give_back(party)
            else:
                waiter.set_result(None)

    async def wait(self, party: str) -> None:
        """Wait for a place of the party; the caller leaves it when done."""
        if self.enter(party):
            return
        waiter = asyncio.get_running_loop().create_future()
        self.join(party, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave(party)  # the place came together with the cancellation
            else:
                self.quit(party, waiter)
            raise
