# SPDX-License-Identifier: MIT
"""Several processes that serve the same sockets, and the parent that starts them, replaces them and ends them.

The parent binds; each worker is a fresh interpreter that inherits the listening sockets and a channel (`worker`).  The
parent serves nothing but the pages for operators, and loads no code of the user: nothing that a tool does can harm it.

    SIGHUP            replaces the workers one after the other: a new one is ready before an old one goes
    SIGTERM, SIGINT   end all workers in order; a second one ends them at once

Rules:
- All workers accept from one socket, which the parent keeps open.  So a connection that no worker has accepted is
  never lost: the next worker takes it (docs/design.md has the figures).
- A worker that ends is started again, later each time.  If it cannot live, and no other can, all of it ends.
- Keys go through the channel: others can read a command line, and programs that tools start inherit the environment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

from ..protocol.shown import escaping
from ..runtime.settings import Settings
from .child import Restarts, WorkerProcess, ending
from .desk import Desk
from .server import DEFAULT_HOST, DEFAULT_PORT, MAX_WORKERS
from .signals import END_SIGNALS, handle_signals
from .sockets import close_all, open_ops_sockets, open_sockets, remove_socket_file
from .spread import Spread, shared_memory
from .totals import Totals
from .worker import QUIET_SIGNALS

logger = escaping(logging.getLogger(__name__))

FIRST_RESTART = 1.0  # seconds before a worker that ended is started again; twice as long each time
LONGEST_RESTART = 30.0
LIVES_AFTER = 30.0  # seconds after which the earlier ends of a worker are forgotten
MOST_ENDS = 5  # ends of one worker in a row, while no other worker is stable
LONGEST_START = 120.0  # seconds for a worker to be ready: it may load a large model
DRAIN_SLACK = 4.0  # seconds above the grace until a worker that has not ended is killed: docker stop waits for 10
DEATH_TIME = 2.0  # the same after a second signal
REST_TIME = 1.0  # seconds to read the rest of the channel of a worker that has ended
KEY_SIZE = 32
LONGEST_FOLDER = 50  # bytes of the path of the folder for temporary files


class WorkersFailed(Exception):
    """The workers cannot serve; `code` is the exit code of the worker that ended last, negative for a signal."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class Workers:
    """The parent.  `run` it, or await `serve` in the main thread.

        Workers(lambda channel: [sys.executable, "serve.py", str(channel)], 4, Settings(), port=8000).run()

    The command of a worker ends in ``run(handler, sock=channel.charge.sockets, signals=False,
    kind=partial(WorkerServer, channel=channel), ...)`` with ``channel = Channel(number)`` (`worker`).

    Args:
        command: The command line of a worker, for the number of the descriptor of its channel.
        count: The number of workers.
        settings: The settings of the workers, as far as the parent needs them: the hosts, the grace, the keys and the
            pages for operators.
        on_start: Called once with this object when the first worker is ready.
        private_store: Make a store for the workers, in a directory of its own that is removed at the end, and the keys
            for `Settings.state_keys`.  False where the workers have a store in their own settings, which may be one of
            many machines, and has keys.
        hidden: Options with their values for the workers, which others must not read on a command line
            (`Charge.hidden`).
        restart_min, restart_max, stable, crash_limit, start_time: See the constants of this module.

    Raises ValueError where the system cannot hand sockets down to other processes.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        settings: Settings,
        *,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        uds: str | None = None,
        fd: int | None = None,
        on_start: Callable[[Workers], object] | None = None,
        private_store: bool = True,
        hidden: Mapping[str, str] | None = None,
        restart_min: float = FIRST_RESTART,
        restart_max: float = LONGEST_RESTART,
        stable: float = LIVES_AFTER,
        crash_limit: int = MOST_ENDS,
        start_time: float = LONGEST_START,
    ) -> None:
        if os.name != "posix":
            raise ValueError("this system hands no sockets down to other processes, so there is one process alone")
        if not 0 < count <= MAX_WORKERS:
            raise ValueError(f"a server has 1 to {MAX_WORKERS} workers, not {count}")
        self.settings = settings
        self.count = count
        self.stable = stable
        self.restarted = 0
        self.sockets: list[socket.socket] = []
        self.addresses: list[Any] = []
        self.ops: Desk | None = None
        self.stopping = asyncio.Event()
        self.totals = Totals()
        self.began = time.monotonic()
        self.name = ""  # of the server, once a worker is ready
        self._command = command
        self._at = (host, port, uds, fd)
        self._on_start = on_start
        self._keys = [bytes(key) for key in settings.state_keys] or [secrets.token_bytes(KEY_SIZE)] * private_store
        self._memory = -1
        self._spread: Spread
        self._private_store = private_store
        self._store: str | None = None
        self._hidden = dict(hidden or {})
        self._restarts = [Restarts(restart_min, restart_max, stable) for _ in range(count)]
        self._crash_limit = crash_limit
        self.start_time = start_time
        self.workers: list[WorkerProcess | None] = [None] * count  # by their numbers
        self._all: set[WorkerProcess] = set()  # also those that are replaced, until they end
        self._forced = asyncio.Event()
        self._roll_again = False
        self._keepers: list[asyncio.Task[None]] = []
        self._rolling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self) -> None:
        """Serve and block, on a loop of its own."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            OSError: An address cannot be bound.
            WorkersFailed: The first worker did not become ready, or workers ended again and again.
            RuntimeError: This is not the main thread, which alone gets signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("workers are started in the main thread, which gets the signals")
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            await self._bind(stack)
            self._memory = shared_memory(self.count)
            stack.callback(os.close, self._memory)
            self._spread = Spread(self._memory, self.count)
            for index in range(self.count):
                self._spread.leave(index)
            if self._private_store:
                self._store = _make_store(stack)
            handlers = stack.enter_context(ExitStack())
            handle_signals(loop, [signal.SIGCHLD], self._reap, handlers)
            handle_signals(loop, [signal.SIGHUP], self.roll, handlers)
            handle_signals(loop, END_SIGNALS, self.stop, handlers)
            stack.push_async_callback(self._end)
            running, stopped = loop.create_task(self._run()), loop.create_task(self.stopping.wait())
            try:
                done, _ = await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
            finally:
                running.cancel()
                stopped.cancel()
            if running in done:
                running.result()  # raises

    def stop(self) -> None:
        """End in order; a second call ends at once.  Call it on the loop's thread."""
        if self.stopping.is_set():
            self._forced.set()
            for worker in list(self._all):
                worker.tell(do="force")
        self._begin_end()

    def _begin_end(self) -> None:
        self.stopping.set()
        if self.ops is not None:
            self.ops.draining = True

    def roll(self) -> None:
        """Replace the workers, one after the other.  A call while that goes on makes it begin once more afterwards."""
        if not self._keepers or (self._rolling is not None and not self._rolling.done()):
            self._roll_again = True  # without keepers the first worker begins, and may have read the code of before
        elif not self.stopping.is_set():
            self._rolling = self._spawn(self._roll())

    # --- the sockets ---------------------------------------------------------------------------------------------

    async def _bind(self, stack: AsyncExitStack) -> None:
        host, port, uds, fd = self._at
        loop, settings = asyncio.get_running_loop(), self.settings
        self.sockets = await open_sockets(loop, settings, host, port, uds, fd)
        if fd is None:
            stack.callback(remove_socket_file, uds)
        stack.callback(close_all, self.sockets)
        self.addresses = [sock.getsockname() for sock in self.sockets]
        if settings.apart:
            sockets = await open_ops_sockets(loop, settings)
            stack.callback(remove_socket_file, settings.ops_uds)
            stack.callback(close_all, sockets)
            self.ops = Desk(self, sockets)
            stack.callback(self.ops.close)
            await self.ops.start()
            logger.info("the pages for operators are at %s", self.ops.listener.addresses[0])

    # --- one worker ----------------------------------------------------------------------------------------------

    def _start(self, index: int) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        try:
            # A signal that reaches the process before it has its handlers waits until it has them.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, QUIET_SIGNALS)
            try:
                process = subprocess.Popen(
                    self._command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), self._memory, *(sock.fileno() for sock in self.sockets)],
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        charge = {
            "index": index, "count": self.count,
            "spread": self._memory,
            "sockets": [sock.fileno() for sock in self.sockets],
            "state_keys": [key.hex() for key in self._keys],
            "store": self._store, "bound": self._at[3] is None, "hidden": self._hidden,
        }  # fmt: skip
        ours.sendall(json.dumps(charge).encode("ascii") + b"\n")
        worker = WorkerProcess(index, process, ours)
        self._all.add(worker)
        worker.reading = self._spawn(worker.listen(self._asks))
        return worker

    async def _ready(self, worker: WorkerProcess) -> bool:
        """Wait until it is ready; False where it ended before, or took too long and was killed."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(worker.changed.wait(), self.start_time)
        if worker.ready:
            return True
        if not worker.ended.is_set():
            logger.error("worker %d was not ready within %g s", worker.pid, self.start_time)
            worker.kill()
            await worker.ended.wait()
        return False

    def _reap(self) -> None:
        for worker in self._all:
            if not worker.reaped and worker.process.poll() is not None:
                worker.reaped = True
                self._spawn(self._bury(worker))

    async def _bury(self, worker: WorkerProcess) -> None:
        # Its last words may still be in the channel.  The wait has a limit, because a process that it forked may hold
        # the other end.
        await asyncio.wait([worker.reading], timeout=REST_TIME)
        worker.reading.cancel()
        self.totals.keep(worker.metrics)
        self._all.discard(worker)
        if self.workers[worker.index] is worker:
            self._spread.leave(worker.index)
        for event in (worker.ended, worker.over, worker.changed):
            event.set()

    # --- all workers ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        worker = await self._first()
        self.name = worker.name
        logger.info("worker %d is ready", worker.pid)
        if self._on_start is not None:
            self._on_start(self)
        self._keepers = [self._spawn(self._keep(index)) for index in range(self.count)]
        if self._roll_again:
            self.roll()
        await asyncio.gather(*self._keepers)

    async def _first(self) -> WorkerProcess:
        """Start one worker alone: a mistake in the user's file is told once, and ends it all."""
        worker = self.workers[0] = self._start(0)
        if not await self._ready(worker):
            raise WorkersFailed(f"the first worker {ending(worker.code)} before it was ready", worker.code)
        return worker

    async def _keep(self, index: int) -> None:
        """Keep one worker alive."""
        while True:
            worker = self.workers[index]
            if worker is None:
                try:
                    worker = self.workers[index] = self._start(index)
                except OSError as exc:  # no process or descriptor is left, perhaps for a moment
                    await self._mourn(index, f"worker {index} cannot be started: {exc}")
                    continue
                if await self._ready(worker):
                    logger.info("worker %d is ready", worker.pid)
            await worker.over.wait()
            if self.workers[index] is worker:  # else it was replaced
                self.workers[index] = None
                lived = 0.0 if worker.since is None else time.monotonic() - worker.since
                await self._mourn(index, f"worker {worker.pid} {ending(worker.code)}", lived, worker.code)

    async def _mourn(self, index: int, what: str, lived: float = 0.0, code: int = 1) -> None:
        """Wait for the time to start a worker again.  Raises WorkersFailed where that has no prospect."""
        restarts = self._restarts[index]
        wait = restarts.ended(lived)
        if restarts.ends >= self._crash_limit and not any(map(self._is_stable, self.workers)):
            times = "" if restarts.ends == 1 else f", {restarts.ends} times in a row"
            raise WorkersFailed(f"{what}{times}; no worker lives for {self.stable:g} s", code)
        logger.error("%s; another one starts in %.1f s", what, wait)
        await asyncio.sleep(wait)
        self.restarted += 1

    def _is_stable(self, worker: WorkerProcess | None) -> bool:
        if worker is None or worker.since is None or not worker.ready:
            return False
        return time.monotonic() - worker.since >= self.stable

    async def _roll(self) -> None:
        self._roll_again = True
        while self._roll_again:
            self._roll_again = False
            for index in range(self.count):
                if not await self._replace(index):
                    break

    async def _replace(self, index: int) -> bool:
        """Replace one worker; False where the new one cannot serve, so that the others had better stay."""
        old = self.workers[index]
        if old is None:  # it ended, and a new one starts anyway
            return True
        try:
            new = self._start(index)
        except OSError as exc:
            logger.error("no worker can be started: %s; worker %d and all others stay", exc, old.pid)
            return False
        if not await self._ready(new):
            self._tell_stays(old, new)
            return False
        if self.workers[index] is not old:  # it ended meanwhile, and another one starts
            new.stop()
            return True
        self.workers[index] = new
        self._tell_replaced(old, new)
        old.over.set()
        await self._retire(old)
        return True

    def _tell_stays(self, old: WorkerProcess, new: WorkerProcess) -> None:
        logger.error(
            "worker %d, which was to replace worker %d, %s: worker %d and all others stay", new.pid, old.pid,
            ending(new.code), old.pid,
        )  # fmt: skip

    def _tell_replaced(self, old: WorkerProcess, new: WorkerProcess) -> None:
        logger.info("worker %d is ready and replaces worker %d", new.pid, old.pid)

    async def _retire(self, old: WorkerProcess) -> None:
        """Let a worker end that another one has replaced, before the next one is replaced."""
        if old.ready:
            old.tell(do="retire")
        else:
            old.kill()
        if not await self._wait_ended([old], self.settings.grace + DRAIN_SLACK):
            logger.info("worker %d still has calls", old.pid)

    async def _end(self) -> None:
        """End all workers: in order, and at once after the time for that or a second signal."""
        self._begin_end()
        for task in (*self._keepers, self._rolling):
            if task is not None:
                task.cancel()
        close_all(self.sockets)  # a client is refused, and does not wait for a server that will not come
        everyone = [*self._all]
        for worker in everyone:
            worker.stop()
        limit = (self.settings.drain_delay or 0) + self.settings.grace + DRAIN_SLACK
        ended = await self._wait_ended(everyone, limit)
        if self._forced.is_set():
            ended = await self._wait_ended(everyone, DEATH_TIME, force=True)
        if not ended:
            for worker in self._all:
                logger.error("worker %d has not ended and is killed", worker.pid)
                worker.kill()
            await self._wait_ended(everyone, DEATH_TIME, force=True)

    async def _wait_ended(self, workers: Sequence[WorkerProcess], limit: float, force: bool = False) -> bool:
        """Wait until these have ended; False after `limit` seconds, or after a second signal unless `force`."""

        async def all_ended() -> None:
            for worker in workers:
                await worker.ended.wait()

        # A task, because a `gather` that is cancelled and not awaited is reported as an error.
        everyone: asyncio.Future[Any] = asyncio.ensure_future(all_ended())
        forced: asyncio.Future[Any] = asyncio.ensure_future(asyncio.Event().wait() if force else self._forced.wait())
        try:
            done, _ = await asyncio.wait({everyone, forced}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            return everyone in done
        finally:
            forced.cancel()
            everyone.cancel()

    # --- for operators -------------------------------------------------------------------------------------------

    async def reports(self, *, metrics: bool = False) -> list[tuple[WorkerProcess, dict[str, Any] | None]]:
        """Each worker that is ready, with its report of this moment; None for a report that does not come in time."""
        asked = sorted((worker for worker in self._all if worker.ready), key=lambda worker: worker.index)
        found = await asyncio.gather(*(worker.report(metrics) for worker in asked))
        return list(zip(asked, found, strict=True))

    async def all_metrics(self) -> str:
        """The sum over all workers, in Prometheus' text format."""
        asked = await self.reports(metrics=True)
        # The last text of a worker stands for a worker that does not answer.  `totals` has those that ended meanwhile.
        texts = [worker.metrics for worker, _ in asked if not worker.ended.is_set()]
        ready = sum(worker is not None and worker.ready for worker in self.workers)
        lines = []
        for name, kind, text, value in (
            ("mcp_h11_workers", "gauge", "WorkerProcess processes that serve.", ready),
            ("mcp_h11_workers_wanted", "gauge", "WorkerProcess processes that there should be.", self.count),
            ("mcp_h11_worker_restarts_total", "counter", "Workers that were started for one that ended.",
             self.restarted),
        ):  # fmt: skip
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value}"]
        return self.totals.render(texts, "\n".join([*lines, ""]))

    def _asks(self, worker: WorkerProcess) -> None:
        self._spawn(self._tell_metrics(worker))

    async def _tell_metrics(self, worker: WorkerProcess) -> None:
        worker.tell(told=await self.all_metrics())

    def _spawn(self, job: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None and not isinstance(exc, WorkersFailed):
            logger.error("the care of the workers failed", exc_info=exc)


def _make_store(stack: AsyncExitStack) -> str | None:
    """The URL of a store in a directory that lasts as long as the stack; None without SQLite."""
    if find_spec("_sqlite3") is None:
        logger.warning("this Python has no sqlite3, so each session lives in one worker alone")
        return None
    folder = tempfile.gettempdir()
    # The store has Unix sockets in that directory, and their paths have at most 104 bytes.
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        folder = "/tmp"
    directory = tempfile.mkdtemp(prefix="mcp_h11-", dir=folder)  # for the owner alone
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return "sqlite://" + quote(os.path.join(directory, "store.db"))
