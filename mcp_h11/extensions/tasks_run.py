# SPDX-License-Identifier: MIT
"""One task on its worker: the function of the tool, its questions, its progress, and its end.

A task runs in an asyncio task of its own, which outlives the request.  The function gets a `Context` as in any call;
behind it is a `TaskExchange`.  With `starts="tool"` the function begins as an ordinary call, whose rounds of questions
go the ordinary way, and becomes a task when it calls `ctx.start_task()`.

Rules:
- A task that a client was told of ends in a state that says how, whatever its function does.
- No reference to the request or its connection is left once the task has begun.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..eras.downgrade import client_request
from ..handler.context import Context
from ..handler.deadlines import Deadline, TimedOut, run_within
from ..handler.dispatch import answer, tool_error
from ..handler.exchange import Exchange
from ..handler.extension import CallTool
from ..handler.handler import ServerHandler
from ..handler.questions import InputRequired, Question
from ..protocol.errors import InternalError, MCPError, MissingClientCapability, ToolError
from ..protocol.finite import NotJSON
from ..protocol.jsonrpc import Request
from ..protocol.methods import PROGRESS
from ..protocol.shown import escaping
from ..runtime.fairness import Load
from ..runtime.runtime import Runtime
from ..stores.base import StoreError
from . import tasks_state as state
from .tasks_records import TaskGone, TaskRecords, TaskStep, TaskTooLarge, away, key_of_task
from .tasks_state import Over, Task

logger = escaping(logging.getLogger(__name__))

MAX_RETURNED_ROUNDS = 10  # of a tool that returns questions
MAX_ASKED_AGAIN = 3  # times one question is asked, where its answers cannot be read
MIN_TOLD = 0.5  # seconds between two status messages that are kept
RETRY_STORE = 1.0  # seconds between two tries to keep the end of a task, while the store is away
STOPPED = "The server stopped before the task was done"
NO_TOKEN = "task"  # stands for the progress token where the client gave none: a task tells its progress all the same


class TaskKeeper(Protocol):
    """The `TaskEngine` of the server, as a run sees it."""

    runtime: Runtime
    records: TaskRecords
    keep: float  # seconds for which the end of a task can be asked for

    async def create(self, run: TaskRun, message: str | None) -> Task:
        """Keep the record of a task."""

    async def change(self, key: str, step: TaskStep) -> Task:
        """Make a step, and tell all that listen."""

    async def revive(self, run: TaskRun) -> bool:
        """Keep the record of a running task anew, where the store has lost it."""

    def adopt(self, run: TaskRun, task: asyncio.Task[Any]) -> None:
        """Count the asyncio task of a run."""

    def leave_place(self, run: TaskRun) -> None:
        """The run waits for its client: another may run."""

    async def enter_place(self, run: TaskRun) -> None:
        """Wait for the turn of the run."""

    def time_of(self, tool: Any) -> float:
        """Seconds that a task of this tool may run."""


class TaskExchange(Exchange):
    """The exchange of a call that is, or will become, a task."""

    __slots__ = ("_call", "_capabilities", "_head", "_info", "_party", "_run")

    def __init__(self, call: Exchange, run: TaskRun, *, begun: bool) -> None:
        params = call.params
        meta = params.get("_meta")
        meta = dict(meta) if isinstance(meta, dict) else {}
        meta.setdefault("progressToken", NO_TOKEN)
        message = Request(call.request_id, call.method, {**params, "_meta": meta})
        Exchange.__init__(self, call.runtime, call.revision, message, call.principal)
        self._run = run
        self._party, self._head = call.party, call.headers
        self._info, self._capabilities = call.client_info, call.client_capabilities
        self._call: Exchange | None = None
        if not begun:
            # Until it begins the function plays the rounds of its call: the same answers, and one memo of `once`.
            self._call = call
            if call.memo is None:
                call.memo = {}
            self.memo, self.input_responses, self.request_state = call.memo, call.input_responses, call.request_state

    def let_go(self) -> None:
        """The task begins: the request that brought it is answered, and nothing of it is needed any more."""
        self._call = None

    @property
    def party(self) -> str:
        return self._party

    @property
    def client_info(self) -> dict[str, Any]:
        return self._info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        return self._capabilities

    @property
    def headers(self) -> Any:
        return self._head

    @property
    def connected(self) -> bool:
        return self._call is None or self._call.connected

    def wants_log(self, rank: int) -> bool:
        # "not supported on tasks in general" (the spec, Task Status Notifications)
        return self._call is not None and self._call.wants_log(rank)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        call = self._call
        if call is None:
            if method == PROGRESS:
                self._run.tell(params.get("message"), (params["progress"], params.get("total")))
        elif method != PROGRESS or params.get("progressToken") != NO_TOKEN:
            await call.notify(method, params)

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        if self._call is not None:
            return await self._call.ask(questions)
        return await self._run.ask(questions)

    async def claim(self) -> None:
        if self._call is not None:
            await self._call.claim()

    def failed(self, kind: int | str, message: str = "") -> None:
        if self._call is not None:
            self._call.failed(kind, message)

    async def start_task(self, message: str | None) -> bool:
        if self._call is not None:
            await self._run.begin(message)
        elif message is not None:
            self._run.tell(message, None)
        return True


class TaskRun:
    """One task while its function runs.  `begun` is set once the task is kept and its client may be told of it."""

    def __init__(self, engine: TaskKeeper, task_id: str, exchange: Exchange, call: CallTool, *, begun: bool) -> None:
        self.engine = engine
        self.id = task_id
        self.key = key_of_task(task_id)
        self.exchange = TaskExchange(exchange, self, begun=begun)
        # A handler with the one method, so that errors of the tool become results as in any call.
        self._handler = ServerHandler()
        self._handler.__dict__["call_tool"] = call
        self.task: Task | None = None  # as this worker knows it
        self.begun: asyncio.Future[Task] = engine.runtime.loop.create_future()
        self.runner: asyncio.Task[Any] | None = None
        self.placed = True  # it has one of the places for running tasks
        self.entering = asyncio.Lock()
        self.ended = False
        self.load: Load | None = None  # counts the memory of its arguments
        self._waiting: dict[str, asyncio.Future[Any]] = {}  # by key: open questions
        self._delivered: set[str] = set()  # keys of answers that are taken and still in the record
        self._keys: set[str] = set()  # that were ever used: each is unique over the life of the task
        self._news: tuple[str | None, tuple[float, float | None] | None] | None = None
        self._teller: asyncio.TimerHandle | None = None
        self._told_at = -math.inf

    @property
    def party(self) -> str:
        """The client that the limits count it for."""
        return self.exchange.party

    # --- its life --------------------------------------------------------------------------------------------

    async def begin(self, message: str | None = None) -> Task:
        """Keep the task.  When it returns, tasks/get finds the task on every worker.  Raises MCPError."""
        task = await self.engine.create(self, message)
        if self.begun.done():  # the function has called `start_task` twice at once
            return self.begun.result()
        self.task = task
        self.exchange.let_go()
        self.begun.set_result(task)
        return task

    def start(self) -> None:
        """Run the function, as a task that the end of the server waits for."""
        self.runner = self.engine.runtime.loop.create_task(self._run())
        self.engine.adopt(self, self.runner)

    def cancel(self) -> None:
        """Cancel the function."""
        if self.runner is not None:
            self.runner.cancel()

    async def _run(self) -> Any:
        """The result of the function where it never became a task; else the end of the task is kept, and None."""
        try:
            result = await self._result()
            if not self.begun.done():
                return result
            end = self._end_of(result)
        except MCPError as exc:
            if not self.begun.done():
                raise
            end = self._failure(exc)
        except asyncio.CancelledError:
            if not self.begun.done():
                raise
            # A client that cancels has changed the record already, and then this step finds the task over.
            end = self._failure(InternalError(STOPPED))
        except BaseException:
            if not self.begun.done():
                raise
            logger.exception("a task failed")
            end = self._failure(InternalError())
        if self._teller is not None:
            self._teller.cancel()
        await self._keep(end)
        return None

    async def _result(self) -> Mapping[str, Any] | InputRequired:
        exchange, runtime = self.exchange, self.engine.runtime
        limit = self.engine.time_of(exchange.params.get("name"))
        if limit == math.inf:
            return await self._play()

        def leave(task: asyncio.Task[Any]) -> None:
            logger.warning("a task ignores its cancellation; its result will be dropped")
            runtime.leave(task, self.party)

        deadline = exchange.deadline = Deadline(runtime.loop, limit, limit, runtime.timer)
        try:
            return await run_within(self._play(), deadline, leave)
        except TimedOut as exc:
            return tool_error(str(exc))
        finally:
            exchange.deadline = None

    async def _play(self) -> Mapping[str, Any] | InputRequired:
        """Run the function, and once more for each time that it returns questions, as in a session."""
        exchange = self.exchange
        for _ in range(MAX_RETURNED_ROUNDS):
            result = await answer(self._handler, exchange.method, exchange.params, Context(exchange))
            if not isinstance(result, InputRequired) or not self.begun.done():
                return result
            questions = result.questions()  # none where there is only a state: the function simply runs again
            exchange.input_responses = await self.ask(questions, raw=True) if questions else {}
            exchange.request_state = result.state
        raise InternalError(f"The tool still asks for input after {MAX_RETURNED_ROUNDS} rounds")

    # --- its end ---------------------------------------------------------------------------------------------

    def _end_of(self, result: Any) -> Callable[[Task], Task]:
        engine = self.engine
        try:
            whole = engine.runtime.json.loads(engine.runtime.json.dumps({"resultType": "complete", **result}))
        except (NotJSON, ValueError, TypeError, MCPError) as exc:
            logger.error("the result of a task cannot be sent: %s", exc)
            whole = {"resultType": "complete", **tool_error(f"The result cannot be sent: {exc}")}
        return lambda task: state.completed(task, engine.runtime.now(), whole, engine.keep)

    def _failure(self, error: MCPError) -> Callable[[Task], Task]:
        engine = self.engine
        found = error.to_json() if error.is_sound else InternalError().to_json()
        return lambda task: state.failed(task, engine.runtime.now(), found, engine.keep)

    async def _keep(self, end: Callable[[Task], Task]) -> None:
        """Keep the end of the task, as soon as the store takes it."""
        while True:
            try:
                await self.engine.change(self.key, end)
                return
            except Over:  # noqa: PERF203  # cancelled
                return
            except TaskGone:
                if not await self._revived():
                    return
            except (TaskTooLarge, ValueError, TypeError) as exc:
                # Shorter than `ROOM_TO_END`, which this end has in any case.
                end = self._failure(InternalError(f"The result cannot be kept: {exc!s:.200}"))
            except StoreError as exc:
                if self.engine.runtime.draining:
                    logger.warning("the end of a task is lost, since the store is away: %s", exc)
                    return
                await asyncio.sleep(RETRY_STORE)

    # --- what clients asked for ------------------------------------------------------------------------------

    async def look(self) -> None:
        """Read the record: another worker has changed it, or may have."""
        try:
            self.take(await self.engine.records.load(self.key))
        except TaskGone:
            if not await self._revived():
                self.cancel()
        except StoreError as exc:
            logger.debug("a task is looked at again when the store is back: %s", exc)

    async def _revived(self) -> bool:
        """Whether the record, which is gone, was kept anew or will be; False where the task has expired."""
        try:
            return await self.engine.revive(self)
        except StoreError as exc:
            logger.debug("the record of a task is kept anew when the store is back: %s", exc)
            await asyncio.sleep(RETRY_STORE)
            return not self.engine.runtime.draining

    def take(self, task: Task) -> None:
        """Act on a newer form of the record: cancel the function, or give it the answers that came."""
        self.task = task
        if task.over:
            self.cancel()
            return
        for key, raw in task.answers.items():
            waiting = self._waiting.get(key)
            if waiting is not None and not waiting.done():
                waiting.set_result(raw)
            self._delivered.add(key)

    # --- asking ----------------------------------------------------------------------------------------------

    async def ask(self, questions: dict[str, Question], *, raw: bool = False) -> dict[str, Any]:
        """Ask all at once, and give the answers under the same keys.

        Raises MissingClientCapability, ToolError where an answer does not come in time or cannot be read, or MCPError
        where the question cannot be kept.
        """
        found: dict[str, Any] = {}
        for _ in range(MAX_ASKED_AGAIN):
            left = {key: question for key, question in questions.items() if key not in found}
            answers = await self._ask(left)
            if raw:
                return answers
            wrong = ""
            for key, question in left.items():
                try:
                    found[key] = question.read(answers[key])
                except ValueError as exc:  # noqa: PERF203  # not an answer: ask again, as the rounds of a call do
                    wrong = str(exc)
            if not wrong:
                return found
        raise ToolError(f"The client's answer cannot be used: {wrong}")

    async def _ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        engine = self.engine
        requests: dict[str, Any] = {}
        names: dict[str, str] = {}
        for name, question in questions.items():
            missing = question.missing(self.exchange.client_capabilities)
            if missing is not None:
                raise MissingClientCapability(missing)
            params = client_request(self.exchange.revision, question.method, question.params())
            names[name] = key = self._new_key(name)
            requests[key] = {"method": question.method, "params": params}
        engine.leave_place(self)  # a task that waits for a person should not keep others from running
        try:
            answers = await self._answers(requests)
        except asyncio.CancelledError:  # it ends, and should not wait for that
            raise
        except BaseException:
            await engine.enter_place(self)
            raise
        await engine.enter_place(self)
        return {name: answers[key] for name, key in names.items()}

    async def _answers(self, requests: Mapping[str, Any]) -> dict[str, Any]:
        """The raw answers to questions, by their keys.  Raises MCPError, ToolError."""
        engine = self.engine
        futures = {key: engine.runtime.loop.create_future() for key in requests}
        self._waiting.update(futures)
        try:
            await self._keep_questions(requests)
            _, left = await asyncio.wait(futures.values(), timeout=engine.runtime.settings.ask_timeout)
            if left:
                raise ToolError("The client did not answer in time")
            return {key: future.result() for key, future in futures.items()}
        finally:
            for key in requests:
                del self._waiting[key]
            self._delivered.update(requests)
            engine.runtime.spawn(self._withdraw())

    async def _keep_questions(self, requests: Mapping[str, Any]) -> None:
        """Put questions into the record, where the client finds them.  Raises MCPError, ToolError."""
        now = self.engine.runtime.now
        try:
            await self.engine.change(self.key, lambda task: state.asked(task, now(), requests))
        except (Over, TaskGone):
            raise ToolError("The task is over") from None
        except TaskTooLarge as exc:
            raise ToolError(f"The questions cannot be kept: {exc}") from None
        except StoreError:
            raise away() from None

    async def _withdraw(self) -> None:
        """Take answers out of the record, and questions that are no longer open."""
        keys = frozenset(self._delivered)
        try:
            await self.engine.change(self.key, lambda task: state.collected(task, self.engine.runtime.now(), keys))
        except (Over, TaskGone, TaskTooLarge, StoreError) as exc:
            logger.debug("what a task has taken stays in its record: %s", exc)
        else:
            self._delivered -= keys

    def _new_key(self, name: str) -> str:
        key, number = name, 1
        while key in self._keys:
            number += 1
            key = f"{name}-{number}"
        self._keys.add(key)
        return key

    # --- telling ---------------------------------------------------------------------------------------------

    def tell(self, message: str | None, progress: tuple[float, float | None] | None) -> None:
        """Keep a status message, soon: a function may report a thousand times a second."""
        self._news = message, progress
        if self._teller is None:
            loop = self.engine.runtime.loop
            self._teller = loop.call_at(max(loop.time(), self._told_at + MIN_TOLD), self._tell_now)

    def _tell_now(self) -> None:
        self._teller, news, self._news = None, self._news, None
        self._told_at = self.engine.runtime.loop.time()
        if news is not None:
            self.engine.runtime.spawn(self._keep_news(*news))

    async def _keep_news(self, message: str | None, progress: tuple[float, float | None] | None) -> None:
        now = self.engine.runtime.now
        try:
            await self.engine.change(self.key, lambda task: state.told(task, now(), message, progress))
        except (Over, TaskGone, TaskTooLarge, StoreError, ValueError, TypeError) as exc:
            logger.debug("the progress of a task is not kept: %s", exc)
