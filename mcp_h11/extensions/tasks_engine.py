# SPDX-License-Identifier: MIT
"""The tasks of one running server: it runs those of this worker, and answers the requests for all tasks of the fleet.

`tasks` has the extension, of which each server has one engine.  `tasks_run` is one running task, and `tasks_records`
where all are kept.

Rules:
- A task that runs on another worker is changed in its record, and that worker is told by a letter, which is not lost.
- A task whose worker is dead has failed: each request for it finds that out, and so does each listen stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ..handler.context import Context, exchange_of
from ..handler.exchange import Exchange
from ..handler.extension import CallTool, missing
from ..handler.handler import Params, Result
from ..handler.notices import Notice
from ..handler.questions import InputRequired
from ..http.auth import subject
from ..protocol.errors import InternalError, InvalidParams, MCPError, ToolError, overloaded
from ..protocol.methods import TASK_NOTIFICATIONS
from ..protocol.shown import escaping
from ..runtime.fairness import Turns, held_memory
from ..runtime.runtime import Runtime
from ..stores.base import StoreError
from . import tasks_state as state
from .tasks_records import TaskGone, TaskRecords, TaskStep, TaskTooLarge, away, key_of_task, unknown
from .tasks_run import TaskRun
from .tasks_state import Task

logger = escaping(logging.getLogger(__name__))

# Random: "sufficient entropy that a third party cannot enumerate or guess" (the spec, Security Considerations).  As hex
# digits, since a person gives an id to a command line, where "-" begins an option.
ID_BYTES = 20
MAX_HEARD = 10_000  # keys of tasks that listen streams of this worker asked for; the oldest are forgotten
WORKER_LOST = "The server process that ran this task has ended"


@dataclass(frozen=True)
class TaskMode:
    """How one tool runs: `required` refuses clients without tasks, and `late` lets the function begin the task."""

    required: bool
    late: bool


class TaskOptions(Protocol):
    """The limits of `Tasks`, which explains them."""

    identifier: str
    keep: float
    run_limit: float
    poll: float
    max_tasks: int | None
    max_client_tasks: int | None
    max_running: int | None
    max_bytes: int


class TaskEngine:
    """Entered when a server begins, and left when it ends."""

    def __init__(self, options: TaskOptions, runtime: Runtime) -> None:
        self.options = options
        self.keep = options.keep
        self.runtime = runtime
        self.records = TaskRecords(runtime, options.max_tasks, options.max_client_tasks, options.max_bytes)
        self.runs: dict[str, TaskRun] = {}  # by key: those that run here
        self.places: Turns[asyncio.Future[None]] = Turns(options.max_running)
        # By key: the id, and the principal that may hear of the task.
        self._heard: OrderedDict[str, tuple[str, dict[str, None]]] = OrderedDict()
        self._telling: dict[str, bool] = {}  # by key: whether it has to be told once more
        # By key: the worker of the task, and the function to call when that worker is dead.
        self._watched: dict[str, tuple[str, Callable[[], None]]] = {}

    def start(self) -> None:
        """Hear of the other workers."""
        fleet = self.runtime.fleet
        if fleet is not None:
            fleet.on_letter["task"] = self._on_letter
            fleet.on_signal["task"] = self._on_signal
            fleet.on_gap.append(self._look_again)

    def close(self) -> None:
        """Forget everything; the tasks that ran here have ended."""
        for run in list(self.runs.values()):
            run.cancel()
        self.records.close()
        for key in list(self._watched):
            self._unwatch(key)

    def adopt(self, run: TaskRun, task: asyncio.Task[Any]) -> None:
        """Count the asyncio task of a run among those that the end of the server waits for, and then cancels."""
        self.runtime.tasks.add(task)
        task.add_done_callback(partial(self._done, run))

    def _done(self, run: TaskRun, task: asyncio.Task[Any]) -> None:
        # A callback and no `finally` in the run: a task that is cancelled before its first step never runs that.
        self.runtime.tasks.discard(task)
        self.ended(run)
        if not task.cancelled():
            task.exception()  # of a call that never became a task: it was raised there, or its client has left

    # --- tools/call ------------------------------------------------------------------------------------------

    async def call(self, params: Params, ctx: Context, call: CallTool, mode: TaskMode) -> Result | InputRequired:
        """Answer a call of a tool that may run as a task.  Raises as the tool does, or MCPError."""
        exchange = exchange_of(ctx)
        if not exchange.revision.modern or ctx.client_extension(self.options.identifier) is None:
            # "a server MUST NOT return CreateTaskResult to a client that did not include the extension capability"
            if not mode.required:
                return await call(params, ctx)
            if exchange.revision.modern:
                raise missing(self.options.identifier)
            raise ToolError(
                f"This tool runs as a task only: call it from a client of 2026-07-28 with {self.options.identifier}"
            )
        if self.runtime.draining:
            raise overloaded("The server is shutting down")
        if not self.places.enter(exchange.party):
            raise overloaded("Too many tasks are running")
        run = TaskRun(self, os.urandom(ID_BYTES).hex(), exchange, call, begun=not mode.late)
        try:
            if not mode.late:
                await run.begin()
        except BaseException:
            self.ended(run)
            raise
        run.start()
        if mode.late:
            result = await self._until_begun(run)
            if result is not None:
                return result
        return state.created_result(run.begun.result(), run.id, self.options.poll)

    async def _until_begun(self, run: TaskRun) -> Result | InputRequired | None:
        """The result of a function that ends before it begins a task; None where it has begun one."""
        assert run.runner is not None, "it was started"
        try:
            await asyncio.wait({run.runner, run.begun}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The client has left, and does not know the id.
            run.runner.cancel()
            await asyncio.wait({run.runner})
            self.runtime.spawn(self.records.delete(run.key))  # of one that was begun in the last moment
            raise
        if run.begun.done():
            return None
        result: Result | InputRequired = run.runner.result()
        return result

    async def create(self, run: TaskRun, message: str | None) -> Task:
        """Keep the record of a task.  Raises MCPError."""
        now, exchange = self.runtime.now(), run.exchange
        limit = self.time_of(exchange.params.get("name"))
        ttl = self.keep + (self.options.run_limit if limit == math.inf else limit)
        owner = self.records.hashed(subject(exchange.principal))
        task = Task(state.WORKING, now, now, ttl, self.records.worker, owner, message)
        # The arguments live as long as the function, and the request that brought them is over soon.
        run.load = self.runtime.load(run.party, held_memory([exchange.params]))
        self.runs[run.key] = run
        try:
            await self.records.create(run.key, task, run.party)
        except TaskTooLarge as exc:
            raise InternalError(str(exc)) from None
        except asyncio.CancelledError:
            self.runtime.spawn(self.records.delete(run.key))
            raise
        return task

    def time_of(self, tool: Any) -> float:
        """Seconds that a task of this tool may run."""
        return self.runtime.handler.timeouts.get(tool, self.options.run_limit)

    def ended(self, run: TaskRun) -> None:
        """The function of a run has ended, and so has its task."""
        self.runs.pop(run.key, None)
        run.ended = True
        run.load = None
        self.leave_place(run)

    def leave_place(self, run: TaskRun) -> None:
        """The run waits for its client, or has ended: another may run."""
        if not run.placed:
            return
        run.placed = False
        self.places.give_back(run.party)
        for party, waiter in self.places.admitted():
            if waiter.cancelled():  # and its task did not have its turn yet
                self.places.give_back(party)
            else:
                waiter.set_result(None)

    async def enter_place(self, run: TaskRun) -> None:
        """The run goes on: it waits for its turn.  Tasks that are answered all at once may not run all at once."""
        async with run.entering:  # a function may ask several times at once
            if run.placed or run.ended:
                return
            waiter: asyncio.Future[None] = self.runtime.loop.create_future()
            try:
                if not self.places.enter(run.party):
                    self.places.join(run.party, waiter)
                    await waiter
            finally:
                if waiter.cancelled():
                    self.places.quit(run.party, waiter)
                else:
                    run.placed = True
                    if run.ended:
                        self.leave_place(run)

    # --- tasks/get, tasks/update, tasks/cancel ---------------------------------------------------------------

    async def get(self, params: Params, ctx: Context) -> Result:
        """The DetailedTask.  Raises MCPError."""
        task_id, _, task = await self._find(params, ctx)
        return state.detailed(task, task_id, self.options.poll)

    async def update(self, params: Params, ctx: Context) -> Result:
        """Give answers to open questions; an answer to no open question is ignored.  Raises MCPError."""
        responses = params.get("inputResponses")
        if not isinstance(responses, dict):
            raise InvalidParams("inputResponses must be an object")
        _, key, _ = await self._find(params, ctx)
        now = self.runtime.now()
        try:
            await self._ask_for(key, lambda task: state.answered(task, now, responses), exchange_of(ctx))
        except TaskTooLarge as exc:
            raise InvalidParams(f"inputResponses: {exc}") from None
        return {}

    async def cancel(self, params: Params, ctx: Context) -> Result:
        """End the task; one that has ended stays as it is.  Raises MCPError."""
        _, key, _ = await self._find(params, ctx)
        now, keep = self.runtime.now(), self.keep
        await self._ask_for(key, lambda task: state.cancelled(task, now, keep), exchange_of(ctx))
        return {}

    async def _find(self, params: Params, ctx: Context) -> tuple[str, str, Task]:
        """The id of a task, its key, and the task as the caller may see it.  Raises MCPError."""
        task_id = params.get("taskId")
        if not isinstance(task_id, str):
            raise InvalidParams("taskId must be a string")
        key = key_of_task(task_id)
        # Asked for each id alike, so that the answer for a task of another principal differs in nothing.
        owner = self.records.hashed(subject(ctx.principal))
        try:
            task = await self._load(key)
        except TaskGone:
            raise unknown() from None
        except StoreError:
            raise away() from None
        if task.owner != owner:
            raise unknown()
        return task_id, key, task

    async def _load(self, key: str) -> Task:
        """The task; where its worker is dead, it has failed now.  Raises TaskGone and StoreError."""
        task = await self.records.load(key)
        if task.over:
            return task
        try:
            here = task.worker == self.records.worker
            lost = key not in self.runs if here else await self.records.is_dead(task.worker)
        except StoreError:  # nothing is known of the worker
            return task
        return await self._fail(key) if lost else task

    async def _fail(self, key: str) -> Task:
        now, keep = self.runtime.now(), self.keep

        def step(task: Task) -> Task:
            return task if task.over else state.failed(task, now, InternalError(WORKER_LOST).to_json(), keep)

        return await self.change(key, step)

    async def _ask_for(self, key: str, step: TaskStep, exchange: Exchange) -> None:
        """Make the step that a client asks for, and tell the worker of the task.  Raises MCPError, TaskTooLarge."""
        try:
            task = await self.change(key, step)
            run = self.runs.get(key)
            if run is not None:
                run.take(task)
            elif self._runs_elsewhere(task):
                fleet = self.runtime.fleet
                assert fleet is not None, "another worker has it"
                if not await fleet.send(task.worker, "task", party=exchange.party, key=key) and not task.over:
                    await self._fail(key)
        except TaskGone:
            raise unknown() from None
        except StoreError:  # the client may ask again, and then the worker is told
            raise away() from None

    def _runs_elsewhere(self, task: Task) -> bool:
        # Also one that has ended: its function may still run, if this request has just cancelled it.
        return task.worker != self.records.worker and (task.status == state.CANCELLED or not task.over)

    async def change(self, key: str, step: TaskStep) -> Task:
        """Make a step, and tell all that listen.  Raises TaskGone, StoreError, TaskTooLarge, and as the step does."""
        seen: list[Task] = []

        def noted(task: Task) -> Task:
            seen[:] = [task]
            return step(task)

        after = await self.records.change(key, noted)
        run = self.runs.get(key)
        if run is not None:
            run.task = after
        if after is not seen[0]:
            self._told(key)
            fleet = self.runtime.fleet
            if fleet is not None:
                fleet.signal("task", key=key)
        return after

    async def revive(self, run: TaskRun) -> bool:
        """Keep the record of a running task anew, where the store has lost its data; False where the task has expired.

        Raises StoreError where that is not known.
        """
        fleet = self.runtime.fleet
        if fleet is None or run.task is None or run.task.over or not await fleet.lost_data():
            return False
        try:
            await self.records.create(run.key, run.task, run.party)
        except MCPError as exc:
            raise StoreError(exc.message) from None
        self._told(run.key)
        return True

    # --- the other workers -----------------------------------------------------------------------------------

    async def _on_letter(self, body: Mapping[str, Any]) -> None:
        """Another worker has changed a task that runs here."""
        run = self.runs.get(body["key"])
        if run is not None:
            await run.look()

    def _on_signal(self, body: Mapping[str, Any]) -> None:
        self._told(body["key"])

    def _look_again(self) -> None:
        """Messages of other workers may have been lost."""
        for run in list(self.runs.values()):
            self.runtime.spawn(run.look())
        for key in list(self._heard):
            self._told(key)

    # --- listen streams --------------------------------------------------------------------------------------

    def heard(self, task_id: str, principal: str) -> None:
        """A listen stream asks for a task: tell it of the state now, and of each change."""
        key = key_of_task(task_id)
        if key not in self._heard and len(self._heard) >= MAX_HEARD:
            self._forget(next(iter(self._heard)))
        self._heard.setdefault(key, (task_id, {}))[1][principal] = None
        self._told(key)

    def _forget(self, key: str) -> None:
        self._heard.pop(key, None)
        self._unwatch(key)

    def _told(self, key: str) -> None:
        """A task has perhaps changed: tell the listen streams of this worker, one state after the other."""
        if key not in self._heard:
            return
        if key in self._telling:
            self._telling[key] = True
        else:
            self._telling[key] = False
            self.runtime.spawn(self._tell(key))

    async def _tell(self, key: str) -> None:
        try:
            while True:
                self._telling[key] = False
                await self._tell_once(key)
                if not self._telling[key]:
                    return
        finally:
            del self._telling[key]

    async def _tell_once(self, key: str) -> None:
        task_id, principals = self._heard.get(key, ("", {}))
        try:
            task = await self._load(key)
            for principal in list(principals):
                # A stream of another principal hears of nothing, as if there were no such task.
                if self.records.hashed(principal) == task.owner:
                    params = state.detailed(task, task_id, self.options.poll)
                    self.runtime._announce(Notice.extended(heard_key(task_id, principal), TASK_NOTIFICATIONS, params))
        except TaskGone:
            self._forget(key)
            return
        except Exception as exc:
            logger.debug("a task is told of when the store is back: %s", exc)
            return
        self._unwatch(key)
        if task.over:
            self._forget(key)
        elif self._runs_elsewhere(task) and self.runtime.fleet is not None:
            died = partial(self._told, key)
            self._watched[key] = task.worker, died
            self.runtime.fleet.watch(task.worker, died)

    def _unwatch(self, key: str) -> None:
        watched, fleet = self._watched.pop(key, None), self.runtime.fleet
        if watched is not None and fleet is not None:
            fleet.unwatch(*watched)


def heard_key(task_id: str, principal: str) -> str:
    """The key of a listen stream's interest in a task: one of another principal has another."""
    return hashlib.blake2b(
        f"{len(task_id)} {task_id}{principal}".encode("utf-8", "replace"), digest_size=24
    ).hexdigest()
