# SPDX-License-Identifier: MIT
"""The thread of an SQLite store, which runs its operations: many in one transaction, none on the event loop.

All operations of one turn of the loop go over together, and all that came while a transaction ran go into the next one.
An operation that is refused (Full, Taken, EventsExpired) has written nothing that must not stay.  Where one fails, the
transaction is undone and each operation is run again alone, so that a failure undoes no neighbour's work; results are
delivered after the commit, so a second run shows nowhere.

Reads have a transaction of their own, and are served while writes wait for the lock of another process.

Rule: every wait has a limit.  A disk that hangs costs OPERATION_TIME once; from then on, operations are refused at once
until the thread answers again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..protocol.errors import EventsExpired
from ..protocol.shown import escaping
from .base import Full, StoreError, StoreRefused, Taken
from .sqlite_file import StoreClock, is_locked, open_file

logger = escaping(logging.getLogger(__name__))

BUSY_TIME = 1.5  # seconds that an operation waits for the lock of another process; less than `guarded` waits
OPERATION_TIME = 5.0  # seconds after which an operation that the thread has not done fails
THREAD_END_TIME = 3.0  # seconds that the end waits for the thread
MAX_WAITING_OPERATIONS = 20_000
MAX_TRANSACTION = 512  # operations in one transaction, so that other processes have their turn
LOCK_PAUSE = 0.0002, 0.01  # seconds between two tries to get the lock: the first, and the longest
LOOK_AT_FILE_EVERY = 1.0  # seconds between two looks whether the file is still the one that was opened
SWEEP_EVERY = 10.0  # seconds between two sweeps of one worker,
SWEEP_AGAIN = 0.2  # and where the last one has not seen the end

T = TypeVar("T")
READ, WRITE, PLAIN = "BEGIN", "BEGIN IMMEDIATE", ""

Step = Callable[..., Any]  # (connection, clock, *arguments); a PLAIN one has the arguments alone
Sweep = Callable[[sqlite3.Connection, StoreClock], bool]  # True where there is more to sweep


class _Operation:
    """One step, and the future that waits for its result."""

    __slots__ = ("arguments", "begun", "error", "future", "kind", "result", "step")

    def __init__(self, kind: str, step: Step, arguments: tuple[Any, ...], future: asyncio.Future[Any], begun: float):
        self.kind, self.step, self.arguments = kind, step, arguments
        self.future = future
        self.begun = begun
        self.result: Any = None
        self.error: Exception | None = None


class SQLiteThread:
    """Runs steps on a connection of its own.  Call `start` on the loop, then `run`, and `stop` at the end."""

    def __init__(self, path: str, sweep: Sweep, max_bytes: int | None = None, alone: bool = False) -> None:
        self.path = path
        self.counts = {"operations": 0.0, "transactions": 0.0, "failures": 0.0, "reopened": 0.0, "bytes": 0.0}
        self._sweep = sweep
        self._max_bytes = max_bytes
        self._alone = alone
        # On the loop:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: list[_Operation] = []  # of this turn of the loop
        self._pending: set[_Operation] = set()
        self._watching = False
        self._hangs = False
        # Between both: a list of operations, or None as the end
        self._queue: queue.SimpleQueue[list[_Operation] | None] = queue.SimpleQueue()
        # In the thread:
        self._connection: sqlite3.Connection | None = None
        self._clock = StoreClock(0.0)
        self._file: tuple[int, int] = (0, 0)
        self._look_at = self._sweep_at = 0.0
        self._late: list[_Operation] = []  # writes that came while writes wait for the lock

    # --- on the loop ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the file.  Raises StoreRefused and StoreError, and has no thread then."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._main, name="mcp_h11 sqlite", daemon=True).start()
        try:
            await self.run(READ, _nothing)
        except BaseException:
            self._end()
            raise

    async def stop(self) -> None:
        """End the thread after the operations that it was given.  Does nothing a second time."""
        if self._loop is None:
            return
        ended = self._submit(PLAIN, self._disconnect, ())
        self._hand_over()
        self._end()
        await asyncio.wait({ended}, timeout=THREAD_END_TIME)
        if not ended.cancel():
            ended.exception()

    def _end(self) -> None:
        self._loop = None
        self._queue.put(None)

    async def run(self, kind: str, step: Callable[..., T], *arguments: Any) -> T:
        """Run a step in the thread and return its result.  Raises StoreError, and the refusals of a step."""
        if self._loop is None:
            raise StoreError("the store is not open")
        if self._hangs:
            raise StoreError("the store does not answer")
        if len(self._pending) >= MAX_WAITING_OPERATIONS:
            raise StoreError("too many operations wait for the store")
        result: T = await self._submit(kind, step, arguments)
        return result

    def _submit(self, kind: str, step: Step, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        loop = self._loop
        assert loop is not None
        operation = _Operation(kind, step, arguments, loop.create_future(), loop.time())
        if not self._turn:
            loop.call_soon(self._hand_over)
        self._turn.append(operation)
        self._pending.add(operation)
        if not self._watching:
            self._watching = True
            loop.call_later(OPERATION_TIME, self._watch, loop)
        return operation.future

    def _hand_over(self) -> None:
        if self._turn:
            self._queue.put(self._turn)
            self._turn = []

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail operations that wait for too long.  One timer for all, and none while none waits."""
        before = loop.time() - OPERATION_TIME
        for operation in [operation for operation in self._pending if operation.begun <= before]:
            self._pending.discard(operation)
            self._hangs = True
            if not operation.future.done():
                operation.future.set_exception(StoreError("the store does not answer"))
        self._watching = bool(self._pending)
        if self._watching:
            loop.call_later(OPERATION_TIME / 4, self._watch, loop)

    def _deliver(self, operations: Sequence[_Operation]) -> None:
        self._hangs = False
        for operation in operations:
            self._pending.discard(operation)
            if operation.future.done():
                continue
            if operation.error is None:
                operation.future.set_result(operation.result)
            else:
                operation.future.set_exception(operation.error)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        going = True
        while going:
            batch = self._queue.get()
            operations: list[_Operation] = []
            while batch is not None:
                operations += batch
                if len(operations) >= MAX_TRANSACTION or self._queue.empty():
                    break
                batch = self._queue.get()
            going = batch is not None
            try:
                self._serve(operations)
            except Exception:  # a defect; the operations fail by `_watch`
                logger.exception("the thread of the store failed")
        self._disconnect()

    def _serve(self, operations: list[_Operation]) -> None:
        operations = [operation for operation in operations if not operation.future.done()]
        self.counts["operations"] += len(operations)
        self._check_file()
        self._transact(READ, operations)
        rest = [operation for operation in operations if operation.kind != READ]
        while rest:
            batch, rest = rest[:MAX_TRANSACTION], rest[MAX_TRANSACTION:]
            self._transact(WRITE, batch)
            plain = [operation for operation in batch if operation.kind == PLAIN]
            for operation in plain:
                self._run(operation)
            self._hand_back(plain)
            rest += self._late
            self._late = []
        self._clean()

    def _hand_back(self, operations: list[_Operation]) -> None:
        """Give results to the loop: one wake-up for all."""
        if operations:
            self.counts["failures"] += sum(isinstance(operation.error, StoreError) for operation in operations)
            try:
                operations[0].future.get_loop().call_soon_threadsafe(self._deliver, operations)
            except RuntimeError:  # the loop is closed
                pass

    def _transact(self, kind: str, operations: list[_Operation], give_up: float | None = None) -> None:
        """Run the operations of this kind in one transaction, or, where one of them fails, each in its own."""
        mine = [operation for operation in operations if operation.kind == kind]
        if not mine:
            return
        give_up = time.monotonic() + BUSY_TIME if give_up is None else give_up
        begun = False
        try:
            connection = self._begin(kind, give_up)
            begun = True
            for operation in mine:
                self._run(operation)
            connection.execute("COMMIT")
            self.counts["transactions"] += 1
        except Exception as error:
            self._undo(error)
            if begun and len(mine) > 1:
                for operation in mine:
                    self._transact(kind, [operation], give_up)
                return
            for operation in mine:
                operation.error = _shown(error)
        self._hand_back(mine)

    def _run(self, operation: _Operation) -> None:
        try:
            if operation.kind == PLAIN:
                operation.result = operation.step(*operation.arguments)
            else:
                operation.result = operation.step(self._connect(), self._clock, *operation.arguments)
            operation.error = None
        except (Full, Taken, EventsExpired) as refusal:
            operation.error = refusal.with_traceback(None)  # its frames hold the operation
        except Exception as error:
            if operation.kind != PLAIN:
                raise
            operation.error = _shown(error).with_traceback(None)

    def _begin(self, kind: str, give_up: float) -> sqlite3.Connection:
        """Begin a transaction; waits for the lock until `give_up`, and serves reads before a write meanwhile."""
        pause, longest = LOCK_PAUSE
        while True:
            connection = self._connect()
            try:
                connection.execute(kind)
                if kind == READ:
                    connection.execute("SELECT id FROM clock")  # without a read, there is no lock yet
                return connection
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() > give_up:
                    raise
                self._undo(error)
            if kind == WRITE:
                self._read_meanwhile()
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(longest, pause * 1.5)

    def _read_meanwhile(self) -> None:
        if self._queue.empty():
            return
        batch = self._queue.get()
        if batch is None:
            self._queue.put(None)  # the end waits as well
            return
        self._transact(READ, batch)
        self._late += [operation for operation in batch if operation.kind != READ]

    def _undo(self, error: Exception) -> None:
        """Leave the transaction; a connection that may be of no use any more goes, and the next batch opens anew."""
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()
            return
        harmless = is_locked(error) or "full" in str(error) or isinstance(error, sqlite3.IntegrityError)
        if isinstance(error, sqlite3.Error) and not harmless:
            self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection, self._clock = open_file(self.path, self._max_bytes, self._alone)
            self.counts["reopened"] += self._file != (0, 0)
            self._file = self._identity()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except OSError:
            return (0, 0)
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        """A file that was removed or replaced takes writes that no other worker will see: open the new one."""
        now = time.monotonic()
        if self._connection is not None and now >= self._look_at:
            self._look_at = now + LOOK_AT_FILE_EVERY
            if self._identity() != self._file:
                logger.warning("the file of the store was removed or replaced; it is opened anew")
                self._disconnect()

    def _clean(self) -> None:
        """Sweep now and then, after the results are on their way; not while another process has the lock."""
        now = time.monotonic()
        if self._connection is None or now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY
        try:
            self._connection.execute(WRITE)
            if self._sweep(self._connection, self._clock):
                self._sweep_at = now + SWEEP_AGAIN
            self._connection.execute("COMMIT")
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (size,) = self._connection.execute("PRAGMA page_size").fetchone()
            self.counts["bytes"] = float(pages * size)
        except sqlite3.Error as error:
            self._undo(error)


def _nothing(connection: sqlite3.Connection, clock: StoreClock) -> None:
    """The first step, which opens the file."""


def _shown(error: Exception) -> Exception:
    """The error of one operation.  Each has its own object: one that is raised twice would grow its traceback."""
    if isinstance(error, StoreRefused):
        return StoreRefused(str(error))
    if isinstance(error, (sqlite3.Error, StoreError, OSError)):
        return StoreError(f"the store cannot do this: {error}")
    return error
