# SPDX-License-Identifier: MIT
"""Schedules without faults in which clients move their own streams from worker to worker all the time.

`play_moves(seed)` runs one.  The store and the bus are slow now and then, and each worker hears of a change at another
time, so that a notice meets a move in every order.

The promise: a client hears of each change of a resource that it subscribed to, and of no change twice.  Where a
resource changes again before the client has heard of it, one notice is enough.  Schedules of even seeds change one
resource after the other, so seldom that this happens once at most, where the store is slow several times in turn (seed
1404): there a client hears once of each change, or of each but one.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any

from faulty_store import Chaos
from rawclient import Event
from simulated_clients import LegacyClient, Patience, Session
from simulation import World, played, together
from virtual import Exchange

RESOURCES = [f"sim://{n}" for n in range(16)]
MOVERS = 2
MOVING_TIME = 8.0  # seconds
CHANGES_EVERY = 0.3  # seconds, at most
SETTLING_TIME = 5.0  # the slowest notice has arrived


class SlowChaos(Chaos):
    """Nothing fails, and one way in ten is slow."""

    def delay(self) -> float:
        if not self.calm and self.random.random() < 0.1:
            return self.random.choice((0.02, 0.1, 0.4)) * self.random.random()
        return Chaos.delay(self)


class Mover(LegacyClient):
    """Reads its own stream at one worker for a moment, then at another one."""

    stays = (0.1, 0.5, 2.0)

    def __init__(self, world: MovingWorld, number: int) -> None:
        LegacyClient.__init__(self, world, number)
        self.told: Counter[str] = Counter()  # by resource: how often it heard of a change
        self.told_at: dict[str, float] = {}  # the last time

    async def subscribe(self) -> None:
        """Begin a session that hears of each resource."""
        self.session = await self._open()
        for uri in RESOURCES:
            await self.post(self.session, self.request("resources/subscribe", uri=uri))
        self._listener = asyncio.ensure_future(self._listen())
        self.must(await self.until(lambda: self.listening, 5.0), "its stream does not open")

    async def get(self, session: Session, last: str | None) -> Exchange:
        """Open its own stream; a change is on its way meanwhile, now and then."""
        if self.random.random() < 0.5:
            self.world.change_next()
        return await LegacyClient.get(self, session, last)

    def _take(self, session: Session, event: Event, loose: bool) -> bool:
        if event.data:
            uri = json.loads(event.data)["params"]["uri"]
            self.told[uri] += 1
            self.told_at[uri] = self.world.loop.now
            changes = self.world.changes[uri]
            self.must(self.told[uri] <= changes, f"{uri} changed {changes} times, and it hears of it once more")
        return LegacyClient._take(self, session, event, loose)

    async def stop(self) -> None:
        assert self._listener is not None
        self.ends = True
        await self._listener


class MovingWorld(World):
    """One schedule."""

    def __init__(self, seed: int) -> None:
        World.__init__(self, seed, frozenset())
        self.chaos = SlowChaos(self.loop, Random(f"{seed} store"), frozenset(), self.trace)
        self.patience = Patience(True)  # a slow store is waited for
        self.changes: Counter[str] = Counter()
        self.changed_at: dict[str, float] = {}

    async def play(self) -> None:
        for _ in range(3):
            await self.start()
        movers = [Mover(self, number) for number in range(MOVERS)]
        await together([mover.subscribe() for mover in movers])
        self.chaos.calm = False
        until = self.loop.now + MOVING_TIME
        while self.loop.now < until:
            await asyncio.sleep(self.random.uniform(0.0, CHANGES_EVERY))
            self.change_next()
        self.chaos.calm = True
        await asyncio.sleep(SETTLING_TIME)
        await together([mover.stop() for mover in movers])
        for mover in movers:
            in_turn = self.seed % 2 == 0
            for uri, count in self.changes.items():
                mover.must(mover.told[uri] and mover.told_at[uri] >= self.changed_at[uri], f"missed a change of {uri}")
                mover.must(
                    mover.told[uri] >= count - 1 or not in_turn, f"heard {mover.told[uri]} of {count} times of {uri}"
                )

    def change_next(self) -> None:
        """A resource changes at some worker."""
        if self.chaos.calm:
            return
        at = sum(self.changes.values()) if self.seed % 2 == 0 else self.random.randrange(4)
        uri = RESOURCES[at % len(RESOURCES)]
        worker: Any = self.random.choice(self.open_workers)
        self.changes[uri] += 1
        self.changed_at[uri] = self.loop.now
        self.trace(worker.name, "changes", uri)
        self.loop.call_soon(worker.handler.notify_resource_updated, uri, context=worker.owner.context)


def play_moves(seed: int) -> World:
    """Run the schedule of a seed.  Raises Broken."""
    return played(MovingWorld(seed))
