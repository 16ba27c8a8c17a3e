# SPDX-License-Identifier: MIT
"""A fleet in one process, on a virtual clock: three workers, their clients and a store that fails, as a seed says.

`play(seed)` runs one schedule and raises `Broken` where a promise is not kept; the message has the seed and the end of
the trace.  The same seed gives the same trace.  The promises (`docs/design.md`, "Beyond one process"):

Calls
- The events of a call reach its client in order, each once, none left out.  An event without an id came while the store
  was away; a client that resumes after such events gets them again, since it can name no event but the last with an id.
- Each call ends: with its result, with an error, or with a refusal to resume it (400, 404).  A refusal, and an error
  that the call did not make, come only where a worker died or left, or the store failed, since the call began.  A
  connection that breaks before the first event with an id leaves nothing to resume.  Where a loss of data took the end
  of a call, its reader hears of that `MEND_TIME` after the loss was noticed: until then its worker may bring it back.
- A stream that is finished and read (204) has given its client the answer, unless the call was cancelled.
- The answer to a question, once it was taken (202), reaches its call, unless a worker died or the store lost its data.
- A cancelled call stops, on whatever worker it runs, unless the store lost its data.

Sessions
- A session is known to every worker until it is deleted or expires.  Where the store lost its data, this holds for a
  session that a worker had at hand then and has for `MENDED` seconds more; a worker that begins in that time may not
  know it yet.
- What has the label of one session reaches no other.  An answer that another session sends reaches no call.
- All workers have the same keys in the end, whatever was lost: else a session of one is none at another.
- After DELETE was answered with 204, every worker says 404.
- After the time for idle sessions, no worker keeps anything of a session, and the store has nothing that stays, but
  its keys.

Notices
- A client that listened at the end has heard of a resource after its last change, whatever died or was lost on the way.
- When all is calm, a change is told at most once.

Waits
- Every answer begins within `PATIENCE` seconds.  A call of a session that its worker knows is answered at once, with or
  without a store.

Rounds (2026-07-28)
- A step of `ctx.once` runs at most once for each first POST, wherever the rounds are played and however often each is
  sent, unless the store lost its data.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from faulty_store import AWAY, KILLS, KINDS, LEAVES, LOSES, Chaos
from simulated_clients import LegacyClient, ModernClient, Patience
from simulated_worker import Worker
from virtual import Broken, Exchange, VirtualLoop

from mcp_h11.runtime import request_state

CHAOS_TIME = 6.0  # seconds in which things go wrong
CALM_TIME = 9.0  # after that, everything is noticed and mended
CLIENTS, MODERN_CLIENTS = 3, 1
KEEP = 86_400.0
MENDED = 8.0  # seconds after a loss, in which a worker keeps what it has at hand anew
# What a worker may log as an error: the store is away when it begins.
EXPECTED = ("the store is away", "is dead")


class World:
    """One schedule."""

    def __init__(self, seed: int, kinds: frozenset[str]) -> None:
        self.seed = seed
        self.kinds = kinds
        self.random = Random(f"{seed} world")
        self.loop = VirtualLoop()
        self.lines: list[str] = []
        self.chaos = Chaos(self.loop, Random(f"{seed} store"), kinds, self.trace)
        self.workers: list[Worker] = []  # all that ever were
        self.deaths = 0  # workers that died or left
        self.faults = 0  # times at which the store failed, or may have
        self.losses = 0  # times at which the store lost its data
        self.holders: list[tuple[float, dict[str, list[Worker]]]] = []  # at each loss: who had which session at hand
        self.over = False  # nothing is done any more but looking
        self.patience = Patience(bool(kinds))
        self.running: dict[str, Worker] = {}  # calls by label and key: where each runs now
        self.steps: dict[str, int] = {}  # steps of `ctx.once`
        self.touched: dict[str, float] = {}  # resources: when they last changed
        self.touches: list[float] = []  # when any changed
        self.questions: list[tuple[str, str]] = []  # (label, id) of every question that was asked
        self.stream_ids: list[tuple[str, str]] = []  # (label, id) of every event of a call
        self._names = 0

    def trace(self, *what: Any) -> None:
        """Write down what happens."""
        self.lines.append(f"{self.loop.now:10.4f} " + " ".join(map(str, what)))

    @property
    def open_workers(self) -> list[Worker]:
        """Those that take requests."""
        return [worker for worker in self.workers if worker.is_open]

    def send(self, worker: Worker, request: bytes) -> Exchange:
        """Send a request to a worker."""
        exchange = Exchange(self.loop)
        exchange.worker = worker
        worker.connect(request, exchange)
        return exchange

    # --- the schedule ----------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Everything, from the first worker to the empty store."""
        for _ in range(3):
            await self.start()
        clients: list[Any] = [LegacyClient(self, n) for n in range(CLIENTS)]
        clients += [ModernClient(self, n) for n in range(MODERN_CLIENTS)]
        self.chaos.calm = False
        trouble = self.loop.create_task(self._trouble())
        await together([client.work() for client in clients])
        await trouble
        await asyncio.sleep(CALM_TIME)
        self.over = True
        await together([client.look() for client in clients])
        await together([client.leave() for client in clients])
        await asyncio.sleep(self.workers[0].empties_after)
        self._look_at_workers()
        for worker in self.open_workers:
            self.kill(worker)
        self._look_at_store()

    async def start(self) -> None:
        """One more worker."""
        self._names += 1
        worker = Worker(self, f"w{self._names}")
        self.workers.append(worker)
        await worker.start()
        self.trace(worker.name, "begins")

    async def _trouble(self) -> None:
        until = self.loop.now + CHAOS_TIME
        while (now := self.loop.now) < until:
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            kind = self.random.choice(sorted(self.kinds)) if self.kinds else ""
            if kind in (KILLS, LEAVES) and len(self.open_workers) > 1:
                self.chaos.made[kind] += 1
                worker = self.random.choice(self.open_workers)
                if kind == KILLS:
                    self.kill(worker)
                else:
                    worker.leave()
                if self.random.random() < 0.7:
                    await asyncio.sleep(self.random.uniform(0.0, 1.0))
                    await self.start()
            elif kind == AWAY or kind == LOSES:
                self.faults += 1
                self.chaos.leave(self.random.choice(("refuses", "hangs")))
                await asyncio.sleep(self.random.choice((0.1, 1.0, 5.0)) * self.random.random())
                if kind == LOSES:
                    self.losses += 1
                    self.holders.append((self.loop.now, self._at_hand()))
                self.chaos.come_back(kind == LOSES)
            del now
        self.trace("calm")
        self.chaos.calm = True

    def _at_hand(self) -> dict[str, list[Worker]]:
        """The workers that have a session at hand, by its id."""
        found: dict[str, list[Worker]] = {}
        for worker in self.open_workers:
            for session in worker.server.endpoint.legacy.sessions.values():
                found.setdefault(session.id, []).append(worker)
        return found

    def is_lost(self, session_id: str, losses: int, asked: Worker) -> bool:
        """Whether a session, which began after so many losses, may be gone with the data of the store."""
        return any(
            (at < asked.began_at and self.loop.now < at + MENDED)
            or not any(one.gone_at is None or one.gone_at > at + MENDED for one in holders.get(session_id, []))
            for at, holders in self.holders[losses:]
        )

    @property
    def lost_at(self) -> float:
        """When the store last lost its data."""
        return self.holders[-1][0] if self.holders else -math.inf

    def lost_since(self, time: float) -> bool:
        """Whether workers may keep anew what they know, at that time or later."""
        return any(at + MENDED > time for at, _ in self.holders)

    def kill(self, worker: Worker) -> None:
        """It is gone with its memory."""
        self.deaths += 1
        if worker.gone_at is None:
            worker.gone_at = self.loop.now
        self.trace(worker.name, "is killed")
        worker.kill()

    # --- what is left ----------------------------------------------------------------------------------------

    def _look_at_workers(self) -> None:
        keys: dict[tuple[str, bytes], list[str]] = {}
        for worker in self.open_workers:
            left = worker.left()
            if left:
                raise Broken(f"{worker.name} keeps {left}")
            for key in worker.keys.items():
                keys.setdefault(key, []).append(worker.name)
        if len(keys) > 2:
            raise Broken(f"the workers have different keys: {sorted(keys.values())}")

    def _look_at_store(self) -> None:
        hub = self.chaos.hub
        self.loop.now += KEEP
        for space, kept in hub.spaces.items():
            left = [key for key, one in kept.items() if one.ends is None or one.ends > self.loop.now]
            if left and not space.endswith("key"):
                raise Broken(f"the store keeps {space}: {left}")
        for session, logs in hub.logs.items():
            left = [name for name, log in logs.items() if log.ends > self.loop.now]
            if left:
                raise Broken(f"the store keeps logs of {session}: {left}")


async def together(jobs: list[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first exception ends the run."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        if task in done:
            task.result()


class _Errors(logging.Handler):
    """What is logged as an error fails the run."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.DEBUG)
        self.world = world
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.world.trace("log:", text, "" if record.exc_info is None else repr(record.exc_info[1]))
        if record.levelno >= logging.ERROR and not any(one in text for one in EXPECTED):
            self.found.append(f"{text} {'' if record.exc_info is None else repr(record.exc_info[1])}")


@contextmanager
def _seeded(world: World) -> Iterator[_Errors]:
    """Ids come from the seed, and the log from the package goes to the trace."""
    ids = Random(f"{world.seed} ids")
    errors = _Errors(world)
    logger = logging.getLogger("mcp_h11")
    before = logger.level, logger.propagate
    logger.addHandler(errors)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        with mock.patch.object(request_state, "os", SimpleNamespace(urandom=ids.randbytes)):
            yield errors
    finally:
        logger.removeHandler(errors)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def kinds_of(seed: int) -> frozenset[str]:
    """The kinds of faults of a schedule: none, one, some or all."""
    random = Random(f"{seed} kinds")
    return frozenset(random.sample(KINDS, random.choice((0, 1, 1, 2, 3, len(KINDS)))))


def play(seed: int, kinds: frozenset[str] | None = None, *, detailed: bool = False) -> World:
    """Run the schedule of a seed; `detailed` puts every operation of the store into the trace.  Raises Broken."""
    return played(World(seed, kinds_of(seed) if kinds is None else kinds), detailed)


def played(world: World, detailed: bool = False) -> World:
    """Run a schedule to its end.  Raises Broken."""
    world.chaos.detailed = detailed
    loop = world.loop
    with _seeded(world) as errors:
        try:
            loop.run_until_complete(world.play())
            problem = "; ".join(loop.failures + errors.found)
        except Exception as exc:
            problem = f"{type(exc).__name__}: {exc}"
            error: Exception | None = exc
        else:
            error = None
        finally:
            traced = len(world.lines)
            loop.bury([worker.owner for worker in world.workers])
            loop.close()
            del world.lines[traced:]
    if problem:
        tail = "\n".join(world.lines if detailed else world.lines[-150:])
        kinds_text = ", ".join(sorted(world.kinds)) or "none"
        raise Broken(f"seed {world.seed} (faults: {kinds_text}): {problem}\n{tail}") from error
    return world


def digest(world: World) -> str:
    """One text for all that happened."""
    return hashlib.sha256("\n".join(world.lines).encode()).hexdigest()
