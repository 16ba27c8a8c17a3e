# SPDX-License-Identifier: MIT
"""One worker's place in a fleet: its id, its heartbeat, the messages to and from the other workers, the shared keys.

A *letter* goes to one worker through its inbox and is not lost while that worker lives.  A *signal* goes over the bus
and may be lost; then `on_gap` is called, and each listener looks again at everything that it holds.  Both are JSON
objects with a `kind`.  `tell` is a signal that is over when all have heard it: a client whose request was answered by
one worker finds the effect on each of them.  `Runtime.fleet` is the fleet of a server, or None for a server without a
store.

Rule: nobody owns a session.  Nothing here knows sessions or streams: `endpoint` registers for the kinds that it uses.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from ..protocol.errors import overloaded
from ..protocol.shown import escaping
from ..stores.base import ALIVE_TIME, BEAT_EVERY, Full, Records, Store, StoreError, StoreRefused
from ..stores.guarded import GuardedStore, StoreGuard
from .fleet_keys import MEND_TIME, FleetKeys
from .request_state import new_id
from .storage import MAX_CLIENT_NONCES, MAX_NONCES, StoreFull

logger = escaping(logging.getLogger(__name__))

WORKER_ID_BYTES = 12  # random, because a client sees it in the ids of questions
KEY_BYTES = 24  # without padding in base64
MAX_LOGGED_ONCE = 1_000  # lines that are remembered, so that the log has each once
PROBE_TTL = 5.0
PROBE_BYTES = 4096  # more than the record of a session, so that a disk with a few bytes left counts as full
CLOCKS_DIFFER = 60.0  # seconds between the clocks of two machines, for which nothing ends early
HEAR_LIMIT = 1.0  # seconds that `tell` waits for workers that do not say that they have heard
COUNT_EVERY = 5.0  # seconds between two counts of the workers that are alive, and of the sessions, for operators
PROBES, ROUNDS = "probe", "round"  # spaces of records

# Takes a letter or a signal; what it returns is awaited, and only then was a signal heard.
Heard = Callable[[dict[str, Any]], Coroutine[Any, Any, None] | None]


class Fleet:
    """Open it in the loop that serves.

    `scope` names the endpoint: workers that share a store may serve several, and each has sessions of its own.
    """

    def __init__(self, store: Store, scope: str = "") -> None:
        self.scope = scope
        self.worker = new_id(WORKER_ID_BYTES)
        self.guard = StoreGuard(self._on_state)
        self.store = GuardedStore(store, self.guard, scope)
        self.records, self.logs = self.store.records, self.store.logs
        self.once = FleetOnceStore(self.records)
        self.on_letter: dict[str, Heard] = {}
        self.on_signal: dict[str, Heard] = {"gap": self._on_told_gap, "lost": self._on_told_loss}
        self._hearing: dict[str, _Hearing] = {}  # by ticket: what is being told
        self.on_gap: list[Callable[[], None]] = []
        self.on_back: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []  # called before `on_gap`, with which the mending begins
        self.on_away: Callable[[], None] = _ignore
        self.keys = FleetKeys(self.records)
        self.hashed = self.keys.hashed
        self._watched: dict[str, dict[Callable[[], None], None]] = {}  # by worker: called when it is dead
        self._logged: set[str] = set()
        self._unsure = False  # see `be_unsure`
        self._judges_after = self._mends_until = 0.0
        self._looked_at = -COUNT_EVERY
        self.counts = False  # count workers and sessions now and then: an operator may look
        self.alive = 0  # workers, when they were last counted
        self.sessions = 0  # of all workers, when they were last counted
        self.letters = 0  # that were taken from the inbox
        self._began_without = False  # the store was away when this worker began
        self._entered = False  # the store is open
        self._opened = False  # and the shared keys are here
        self.reading: asyncio.Task[None] | None = None
        self._notices = 0  # that were named
        self._loop: asyncio.AbstractEventLoop
        self._spawn: Callable[[Coroutine[Any, Any, None]], object]

    async def open(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Begin.  A store that is away now is tried again each second.  Raises StoreRefused where it is no store of us.

        `spawn` runs a coroutine as a task.
        """
        self._loop = asyncio.get_running_loop()
        self._spawn = spawn
        self.store.bus.subscribe(self._on_bus, self._on_gap)
        try:
            await self._begin()
        except StoreRefused:
            raise
        except StoreError as exc:
            self._began_without = True
            logger.error("the store is away: %s.  New sessions are refused until it answers", exc)
        self.reading = self._loop.create_task(self._read_inbox())

    async def close(self) -> None:
        """Leave the fleet: the other workers see it at once."""
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.wait({self.reading})
        try:
            await self.store.close()
        except StoreError as exc:
            logger.warning("the store was not left in order: %s", exc)

    @property
    def works(self) -> bool:
        """Whether the store answered when it was last asked."""
        return self.guard.works and self._opened

    async def _begin(self) -> None:
        if not self._entered:
            await self.store.open(self.worker)
            self._entered = True
        if not await self.keys.are_kept():
            await self.tell("lost")  # those that live keep theirs again, before this one makes others
        lost = await self.keys.look()
        # One that was away and comes without keys is no new one: it has lost its data, as other workers will notice.
        if lost or (self.keys.made and self._began_without):
            self._lose()
        if self.keys.made:  # perhaps in the place of what the store has lost
            self.signal("lost")
        self._opened = True

    def _on_state(self, works: bool) -> None:
        if works:
            logger.warning("the store is back")
            if self._unsure:
                self._unsure = False
                self.signal("gap")
                self.on_missed()
            for back in self.on_back:
                back()
        else:
            logger.warning("the store is away")
            self.on_away()

    # --- a store without its data ----------------------------------------------------------------------------

    async def lost_data(self, set_back: str = "") -> bool:
        """Whether the store has lost its data lately: a record that is not there now may come back.

        Ask this before a thing counts as gone.  A loss that is seen calls `on_lost`, here and at all other workers.
        `set_back` as in `FleetKeys.look`.  Raises StoreError.
        """
        if not self._opened:
            raise StoreError("this worker has not seen yet what the store has")
        if await self.keys.look(set_back):
            logger.warning("the store has lost its data; what the workers know of their sessions is kept anew")
            self._lose()
            self.signal("lost")
        return self.mending

    async def be_sure_of_keys(self) -> None:
        """Call this before a record is made for a client.  Raises StoreError.

        A store that was away may have come back without its data, and with keys of another worker.
        """
        if not self.works:
            await self.lost_data()

    def _lose(self) -> None:
        now = self._loop.time()
        self._mends_until = now + MEND_TIME
        # The heartbeats are lost as well, and each worker writes its own again.
        self._judge_after(now + BEAT_EVERY + ALIVE_TIME)
        for lost in self.on_lost:
            lost()
        self.on_missed()

    @property
    def mending(self) -> bool:
        """Whether the store has lost its data lately, as this worker knows."""
        return self._loop.time() < self._mends_until

    def mended(self, look: Callable[[], None]) -> None:
        """Call `look` when nothing comes back any more."""
        self._loop.call_at(self._mends_until, look)

    async def _on_told_loss(self, body: dict[str, Any]) -> None:
        try:
            await self.lost_data()
        except StoreError as exc:
            logger.debug("the store is away again: %s", exc)
            self.be_unsure()

    def log_once(self, text: str) -> None:
        """Log an error that every request for the same thing would bring again."""
        if text not in self._logged:
            if len(self._logged) >= MAX_LOGGED_ONCE:
                self._logged.clear()
            self._logged.add(text)
            logger.error("%s", text)

    # --- letters ---------------------------------------------------------------------------------------------

    async def send(self, worker: str, kind: str, *, party: str = "", **body: Any) -> bool:
        """Put a letter into a worker's inbox; False where that worker is dead.

        `party` is the client that sent the message, which has a share of the inbox.  Raises StoreError, also where the
        store was away until now: then no worker has a heartbeat, dead or alive.
        """
        sender = self.hashed(party) if party else ""
        if await self.store.inbox.put(worker, self._encoded(kind, body), party=sender):
            return True
        await self.lost_data()  # with the heartbeats
        self._check_judging()
        return False

    def _judge_after(self, time: float) -> None:
        self._judges_after = max(self._judges_after, time)

    def _check_judging(self) -> None:
        if self._loop.time() < self._judges_after:
            raise StoreError("the store was away, and it is not known yet which workers live")

    async def send_others(self, kind: str, *, party: str = "", **body: Any) -> None:
        """Put a letter into the inbox of every other worker that is alive.  Raises StoreError as `send` does."""
        letter, failure, full = self._encoded(kind, body), "", False
        sender = self.hashed(party) if party else ""
        for worker in await self.store.inbox.workers():
            if worker != self.worker:
                try:
                    await self.store.inbox.put(worker, letter, party=sender)
                except Full:  # the next one may have room
                    full = True
                except StoreError as exc:
                    failure = str(exc)
        if failure:
            raise StoreError(f"not every worker was told: {failure}")
        await self.lost_data()
        if full:
            raise Full(group=True)
        self._check_judging()  # after that, because most are found

    async def _read_inbox(self) -> None:
        """The loop that takes the letters, and that alone shows the others that this worker is alive."""
        inbox = self.store.inbox
        taken: list[str] = []  # receipts of letters that the inbox still counts
        told = ""
        while True:
            before = self._loop.time()
            try:
                if not self._opened:
                    await self._begin()
                letters = await inbox.take(BEAT_EVERY)
                self.letters += len(letters)
                taken += [receipt for receipt, _ in letters]
                for _, letter in letters:
                    self._dispatch(self.on_letter, letter)
                if taken:
                    await inbox.acknowledge(taken)
                    taken = []
                if not self.guard.works:
                    await self._probe()
            except Exception as exc:
                if not isinstance(exc, StoreError):
                    logger.exception("the loop that takes the letters failed, and goes on")
                elif isinstance(exc, StoreRefused) and str(exc) != told:  # it was away when this worker began
                    told = str(exc)
                    logger.error("the store is refused: %s.  New sessions are refused until it is another", exc)
                else:
                    logger.debug("the store is still away: %s", exc)
                # The heartbeats of all workers stopped, so none of them is judged dead before it could beat again.
                self._judge_after(self._loop.time() + BEAT_EVERY + ALIVE_TIME)
                await asyncio.sleep(BEAT_EVERY)
                continue
            now = self._loop.time()
            if now - before > 2 * BEAT_EVERY:  # the store hung, or this loop did: the same holds
                self._judge_after(now + ALIVE_TIME)
            look_every = BEAT_EVERY / 2 if self._watched else COUNT_EVERY if self.counts else math.inf
            if now - self._looked_at >= look_every:
                self._looked_at = now
                self._spawn(self._look_for_dead())

    async def _probe(self) -> None:
        """See whether the store keeps a value, because a full one still reads."""
        await self.records.create(PROBES, new_id(WORKER_ID_BYTES), bytes(PROBE_BYTES), PROBE_TTL)
        self.guard.recovered()

    def _encoded(self, kind: str, body: dict[str, Any]) -> bytes:
        return json.dumps({"kind": kind, "scope": self.scope, **body}, separators=(",", ":")).encode()

    # --- signals ---------------------------------------------------------------------------------------------

    def signal(self, kind: str, worker: str | None = None, **body: Any) -> None:
        """Tell one worker, or all others, without waiting."""
        self._spawn(self._publish(self._encoded(kind, body), worker))

    def name_notice(self) -> str:
        """A name that no other notice has, of this or another worker."""
        self._notices += 1
        return f"{self.worker}.{self._notices}"

    def be_unsure(self) -> None:
        """A change was perhaps made, and not told: when the store is back, all workers look again at everything."""
        self._unsure = True

    async def tell(self, kind: str, **body: Any) -> None:
        """Tell all others, and wait until each that lives has heard it, at most HEAR_LIMIT.  Raises StoreError."""
        await self._tell({*await self._workers()} - {self.worker}, None, kind, body)

    async def _workers(self) -> list[str]:
        try:
            return await self.store.inbox.workers()
        except StoreError:
            self.be_unsure()
            raise

    async def tell_one(self, worker: str, kind: str, **body: Any) -> bool:
        """Tell one worker; False where it did not say within HEAR_LIMIT that it has heard.  Raises StoreError."""
        return await self._tell({worker}, worker, kind, body)

    async def _tell(self, missing: set[str], worker: str | None, kind: str, body: dict[str, Any]) -> bool:
        ticket, hearing = new_id(WORKER_ID_BYTES), _Hearing(missing)
        self._hearing[ticket] = hearing
        try:
            message = self._encoded(kind, {**body, "teller": self.worker, "ticket": ticket})
            await self.store.bus.publish(message, worker)
            if missing:
                await asyncio.wait({hearing.done}, timeout=HEAR_LIMIT)
        except StoreError:
            self.be_unsure()
            raise
        finally:
            del self._hearing[ticket]
        return not missing

    async def _hear(self, work: Coroutine[Any, Any, None] | None, teller: str, ticket: str) -> None:
        """Do what a signal asks for, and say to its sender that it was heard, where that one waits for it."""
        if work is not None:
            await work
        if ticket:
            await self._publish(json.dumps({"heard": ticket, "by": self.worker}).encode(), teller)

    def _on_heard(self, ticket: str, worker: str) -> None:
        hearing = self._hearing.get(ticket)
        if hearing is not None:
            hearing.heard(worker)

    async def _publish(self, message: bytes, worker: str | None) -> None:
        try:
            await self.store.bus.publish(message, worker)
        except StoreError as exc:
            self.be_unsure()
            logger.debug("the other workers were not told: %s", exc)

    def _on_gap(self) -> None:
        self.on_missed()
        self._spawn(self._on_told_loss({}))  # that may have been among them

    def _on_told_gap(self, body: dict[str, Any]) -> None:
        self._on_gap()

    def _on_bus(self, message: bytes) -> None:
        self._dispatch(self.on_signal, message)

    def on_missed(self) -> None:
        """Signals may have been lost."""
        for look_again in self.on_gap:
            look_again()

    def _dispatch(self, listeners: dict[str, Heard], message: bytes) -> None:
        # The other end is a worker of ours, perhaps of another version: what cannot be read is dropped.
        try:
            body = json.loads(message)
            if "heard" in body:
                self._on_heard(body["heard"], body["by"])
                return
            kind, scope = body.pop("kind"), body.pop("scope")
            teller, ticket = body.pop("teller", ""), body.pop("ticket", "")
            listener = listeners.get(kind) if scope == self.scope else None
            work = None if listener is None else listener(body)
            if work is not None or ticket:
                self._spawn(self._hear(work, teller, ticket))
        except Exception:
            logger.exception("a message of another worker cannot be used")

    # --- the dead --------------------------------------------------------------------------------------------

    def watch(self, worker: str, died: Callable[[], None]) -> None:
        """Call `died` once when the worker is dead; `unwatch` takes it back."""
        self._watched.setdefault(worker, {})[died] = None

    def unwatch(self, worker: str, died: Callable[[], None]) -> None:
        """No longer call `died`; harmless where it does not wait."""
        waiting = self._watched.get(worker)
        if waiting is not None:
            waiting.pop(died, None)
            if not waiting:
                del self._watched[worker]

    async def is_dead(self, worker: str) -> bool:
        """Whether a worker is dead.  Raises StoreError, also while that is not known since the store was away."""
        if worker == self.worker or worker in await self.store.inbox.workers():
            return False
        await self.lost_data()  # with the heartbeats
        self._check_judging()
        return True

    async def _look_for_dead(self) -> None:
        try:
            alive = {*await self.store.inbox.workers(), self.worker}
            if any(worker not in alive for worker in self._watched):
                await self.lost_data()
        except StoreError:
            return
        self.alive = len(alive)
        if self._loop.time() < self._judges_after:
            return
        for worker in [worker for worker in self._watched if worker not in alive]:
            logger.warning("worker %s is dead", worker)
            for died in self._watched.pop(worker):
                died()


class _Hearing:
    """The workers that have not yet heard what is told; `done` once all have."""

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(self, worker: str) -> None:
        self.missing.discard(worker)
        if not self.missing and not self.done.done():
            self.done.set_result(None)


def _ignore() -> None:
    """Do nothing."""


def key_of(session_id: str) -> str:
    """The name of a session in the store and among the workers.

    The id itself stays with the client and in memory: a reader of the store cannot take over a session.  The name has
    one length, whatever a client sends as an id.
    """
    import hashlib

    digest = hashlib.blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii")


class FleetOnceStore:
    """`storage.OnceStore` for a fleet: a round is claimed by the worker that makes its record."""

    clocks_differ = CLOCKS_DIFFER

    def __init__(self, records: Records) -> None:
        self._records = records

    async def claim(self, nonce: str, until: float, now: float, party: str) -> bool:
        """Claim a nonce for the whole fleet; False where a worker claimed it before.

        Raises `overloaded` where the store is away: without it, nothing says whether the round was played.
        """
        # A worker opens the state for as long as clocks differ after its end, by a clock that may be as much behind.
        ttl = max(1.0, until - now) + 2 * CLOCKS_DIFFER
        try:
            share = MAX_CLIENT_NONCES if party else None
            made = await self._records.create(ROUNDS, nonce, b"", ttl, group=party, limit=MAX_NONCES, group_limit=share)
        except Full:
            raise StoreFull from None
        except StoreError:
            raise overloaded("The store of the rounds is away") from None
        return made is not None
