# SPDX-License-Identifier: MIT
"""Tasks as a client sees them: the server answers a call at once with an id, and the result comes later.

The extension `io.modelcontextprotocol/tasks`, SEP-2663: stage Final, as of 2026-11-28.  `Client.call_tool` with
``task=True`` gives a `TaskHandle`, and so does `Client.task`, by an id that was kept.

It refuses a task that never ends: a task that the server calls open after its time to live is given up, and so is one
whose server fails too often in a row.

Rule: a question of a task is answered by the callbacks that answer all others, and each question once.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import anyio

from ..protocol.errors import REQUEST_CANCELLED, InvalidParams, MCPError
from ..protocol.methods import ACKNOWLEDGED, META_TASK_PROGRESS, TASK_ENDS, TASK_NOTIFICATIONS, TASKS
from ..protocol.shown import escaping
from .conversation.callbacks import check_callbacks
from .conversation.input_required import MAX_QUESTIONS, question_of
from .conversation.pending import Progress
from .conversation.request import ClientRequest
from .named_requests import AS_CONFIGURED, NamedRequests
from .transports.backoff import Backoff
from .transports.errors import (
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    InvalidAnswer,
    RequestTimeout,
    answered_error,
)

if TYPE_CHECKING:
    from ..protocol import types as wire
    from .era_watch import EraWatch

logger = escaping(logging.getLogger(__name__))

STATUSES = ("working", "input_required", *TASK_ENDS)
DEFAULT_POLL = 1.0  # seconds between two questions for the state, where the server suggests none
MIN_POLL, MAX_POLL = 0.05, 60.0  # seconds: bounds of its suggestion; the lower one holds for notices too
HEARD_POLL = 10  # times as long where the server tells of changes by itself
MAX_FAILURES = 10  # requests for the state that fail in a row
MAX_ANSWERED = 1_000  # questions of one task
MAX_MILLISECONDS = 2**53  # of a time of the wire; an integer may be too large even to be divided
_TASKS = {TASKS: ("task",)}  # the extension, and the result type that it adds


class TaskCancelled(MCPError):
    """The task was cancelled, by this client or another one with its id, or by the server."""

    def __init__(self, message: str = "The task was cancelled") -> None:
        super().__init__(REQUEST_CANCELLED, message)


class TaskHandle:
    """One task of a server.  `await handle.result()` follows it to its end.

    `Client.call_tool` and `Client.task` make it: of the client itself (`calls`), the `task_id`, the first `state`, and
    the callback that hears of `progress`.

    Attributes:
        id: keep it to come back later by `Client.task`; None where the server answered the call at once.
        state: the task as the server sent it last: ``{"taskId", "status", "statusMessage", "ttlMs", ...}``.
    """

    def __init__(
        self,
        calls: TaskCalls,
        task_id: str | None,
        state: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.id = task_id
        self.state: dict[str, Any] = dict(state or {})
        self._calls = calls
        self._progress = progress
        self._answered: set[str] = set()
        self._changed = anyio.Event()
        self._hears = False  # the server tells of changes
        self._ends = math.inf  # of the clock: the time to live is over

    async def status(self) -> dict[str, Any]:
        """Asks for the task (tasks/get), and gives its `state`.

        Raises:
            InvalidParams: the server does not know the task, or no longer.
            MCPError: there is no answer.
        """
        if self.id is not None:
            self._take(await self._send("tasks/get", {"taskId": self.id}))
        return self.state

    async def update(self, responses: Mapping[str, Any]) -> None:
        """Answers questions of `state["inputRequests"]` by their keys (tasks/update).  `result` does this by itself.

        Each of `responses` is the result of its question, such as ``{"action": "accept", "content": {...}}``.

        Raises MCPError.
        """
        self._answered |= responses.keys()
        if self.id is not None:
            await self._send("tasks/update", {"taskId": self.id, "inputResponses": dict(responses)})

    async def cancel(self) -> None:
        """Asks the server to end the task (tasks/cancel); `status` says how it ended.  Raises MCPError."""
        if self.id is not None:
            await self._send("tasks/cancel", {"taskId": self.id})

    async def result(
        self,
        *,
        timeout: float | None = None,
        on_status: Callable[[dict[str, Any]], Any] | None = None,
        listen: bool = True,
    ) -> wire.CallToolResult:
        """Follows the task to its end, and gives the result of the tool.

        It asks for the state as often as the server suggests, and listens for changes.  Questions are answered by the
        callbacks of the client.  A lost connection is no end: it asks again, `MAX_FAILURES` times in a row at most.

        Args:
            timeout: seconds until the result has to be there; None: as long as the server keeps the task.
            on_status: called with each new `state`; may be a coroutine function.
            listen: False only asks.

        Raises:
            RequestTimeout: `timeout` is over, or the time to live of the task.  The task goes on: `cancel` ends it.
            TaskCancelled: the task was cancelled.
            InvalidParams: the server does not know the task, or no longer.
            MCPError: the call failed, by the class of its code; or there is no answer.
        """
        check_callbacks(on_status=on_status)
        if self.id is None:
            return cast("wire.CallToolResult", self.state["result"])
        with anyio.move_on_after(timeout):
            async with self._listening(listen):
                return await self._follow(on_status)
        raise RequestTimeout(f"the task has no result within {timeout:g} s")

    # --- following -------------------------------------------------------------------------------------------

    async def _follow(self, on_status: Callable[[dict[str, Any]], Any] | None) -> wire.CallToolResult:
        told: tuple[Any, ...] = ()
        while True:
            self._changed = anyio.Event()  # before the question: a change after the answer sets it
            soonest = anyio.current_time() + MIN_POLL
            await self._patiently(self.status)
            new = tuple(self.state.get(name) for name in ("status", "statusMessage", "lastUpdatedAt", "_meta"))
            if new != told:
                told = new
                await self._tell(on_status)
            if self.state["status"] in TASK_ENDS:
                return self._end()
            if self.state["status"] == "input_required":
                await self._answer()
            if anyio.current_time() >= self._ends:
                raise RequestTimeout("the time to live of the task is over, and it has not ended")
            with anyio.move_on_after(self._pause()):
                await self._changed.wait()
                # A server may tell of changes without an end: each notice asks for the state once more.
                await anyio.sleep_until(soonest)

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> None:
        """Awaits `ask()`, and once more where the server cannot be reached."""
        backoff = Backoff()
        for failure in range(MAX_FAILURES):
            try:
                await ask()
                return
            except MCPError as error:  # noqa: PERF203
                if not _passing(error) or failure + 1 == MAX_FAILURES:
                    raise
                await anyio.sleep(backoff.delay(failure))

    async def _answer(self) -> None:
        """Answers the open questions that were not answered yet."""
        asked = self.state.get("inputRequests")
        if not isinstance(asked, dict) or len(asked) > MAX_QUESTIONS:
            raise InvalidAnswer("a task that needs input has no questions that can be read")
        fresh = {key: question_of(value) for key, value in asked.items() if key not in self._answered}
        if len(self._answered) + len(fresh) > MAX_ANSWERED:
            raise InvalidAnswer(f"the task asks more than {MAX_ANSWERED} questions")
        for key, (method, params) in fresh.items():
            answer = await self._calls._conversation.questions.answer(None, method, params)
            # Again where the server is busy: a person should not be asked twice.
            await self._patiently(partial(self.update, {key: answer}))

    def _pause(self) -> float:
        suggested = _milliseconds(self.state.get("pollIntervalMs"))
        seconds = DEFAULT_POLL if suggested is None else min(max(suggested, MIN_POLL), MAX_POLL)
        if self._hears:
            seconds = min(seconds * HEARD_POLL, MAX_POLL)
        return min(seconds, max(0.0, self._ends - anyio.current_time()))

    async def _tell(self, on_status: Callable[[dict[str, Any]], Any] | None) -> None:
        meta, message = self.state.get("_meta"), self.state.get("statusMessage")
        said = meta.get(META_TASK_PROGRESS) if isinstance(meta, dict) else None
        if self._progress is not None and isinstance(said, dict) and type(said.get("progress")) in (int, float):
            total = said.get("total")
            try:  # as in any call: a failure of this callback does not end it
                heard = self._progress(
                    said["progress"],
                    total if type(total) in (int, float) else None,
                    message if isinstance(message, str) else None,
                )
                if inspect.isawaitable(heard):
                    await heard
            except Exception:
                logger.exception("the progress callback of a task failed")
        if on_status is not None:
            heard = on_status(self.state)
            if inspect.isawaitable(heard):
                await heard

    def _end(self) -> wire.CallToolResult:
        state = self.state
        if state["status"] == "cancelled":
            raise TaskCancelled(str(state.get("statusMessage") or "The task was cancelled"))
        if state["status"] == "completed":
            if not isinstance(state.get("result"), dict):
                raise InvalidAnswer("a completed task has no result")
            return cast("wire.CallToolResult", state["result"])
        error = state.get("error")
        if (
            not isinstance(error, dict)
            or type(error.get("code")) is not int
            or not isinstance(error.get("message"), str)
        ):
            raise InvalidAnswer("a failed task has no error")
        raise answered_error(error)

    def _take(self, state: Mapping[str, Any]) -> None:
        """A newer state.  Raises InvalidAnswer for one that is malformed."""
        if state.get("taskId") != self.id or state.get("status") not in STATUSES:
            raise InvalidAnswer("the server sent a task that is another one, or has no status")
        self.state = {name: value for name, value in state.items() if name != "resultType"}
        ttl = _milliseconds(state.get("ttlMs"))
        if ttl is not None and self._ends == math.inf:
            # By the own clock, from the first look: the clock of the server may differ.
            self._ends = anyio.current_time() + ttl

    # --- listening -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self, wanted: bool) -> AsyncIterator[None]:
        """The server tells of changes while the block runs, if it does so at all; else nothing is lost but time."""
        if not wanted:
            yield
            return
        stopping = anyio.CancelScope()

        async def listen() -> None:
            with stopping:
                try:
                    await self._calls._listen_to_task(cast(str, self.id), self._heard)
                except MCPError:
                    pass  # asking is enough
                finally:
                    self._hears = False
                    self._changed.set()

        self._calls._tasks.start_soon(listen)
        try:
            yield
        finally:
            stopping.cancel()

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if method == ACKNOWLEDGED:
            honoured = params.get("notifications")
            agreed = honoured.get("taskIds") if isinstance(honoured, dict) else None
            self._hears = isinstance(agreed, list) and self.id in agreed
        elif method == TASK_NOTIFICATIONS and params.get("taskId") == self.id:
            self._changed.set()

    async def _send(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return await self._calls._task_request(method, params)


class TaskCalls(NamedRequests):
    """The part of a `Client` that calls tools, as tasks or not."""

    _watch: EraWatch
    _tasks: Any

    @overload
    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = AS_CONFIGURED,
        task: Literal[False] = False,
    ) -> wire.CallToolResult: ...

    @overload
    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = AS_CONFIGURED,
        task: Literal[True],
    ) -> TaskHandle: ...

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = AS_CONFIGURED,
        task: bool = False,
    ) -> wire.CallToolResult | TaskHandle:
        """``{"content": [...], "structuredContent": ..., "isError": ...}``: a tool's own error is a result.

        `name` and `arguments` are the tool's; `progress` and `timeout` are as for `request`.  With `task` the server
        may answer with a task, and this gives a `TaskHandle`: keep its `id`, and await its `result()`.  The server
        decides; where it answers at once, the handle has no id, and its result is there.
        """
        request = ClientRequest(
            "tools/call",
            {"name": name, "arguments": dict(arguments or {})},
            timeout=self._options.timeout if timeout == AS_CONFIGURED else timeout,
            progress=progress,
        )
        if progress is not None:
            check_callbacks(progress=progress)
        if not task:
            return cast("wire.CallToolResult", await self._watch.request(request))
        request.announces = _TASKS
        result = await self._watch.request(request)
        if result.get("resultType") != "task":
            return TaskHandle(self, None, {"status": "completed", "result": result})
        if not isinstance(result.get("taskId"), str):
            raise InvalidAnswer("a task was created without an id")
        handle = TaskHandle(self, result["taskId"], progress=progress)
        handle._take(result)
        return handle

    def task(self, task_id: str, *, progress: Progress | None = None) -> TaskHandle:
        """The handle of the task `task_id`, which was kept by this client or an earlier one.

        `progress` is as for `request`.  Nothing is sent: await its `status()`, or its `result()`.
        """
        if not isinstance(task_id, str) or not task_id:
            raise InvalidParams("the id of a task is a text")
        return TaskHandle(self, task_id, progress=progress)

    async def _task_request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        # All three are safe to repeat: an answer that was given has no effect a second time, nor has a cancellation.
        request = ClientRequest(method, params, timeout=self._options.timeout, safe=True, announces=_TASKS)
        return await self._watch.request(request)

    async def _listen_to_task(self, task_id: str, heard: Callable[[str, dict[str, Any]], None]) -> None:
        if self._conversation.modern:
            request = ClientRequest(
                "subscriptions/listen", {"notifications": {"taskIds": [task_id]}}, on_notification=heard, safe=False,
                private=True, announces=_TASKS,
            )  # fmt: skip
            await self._conversation.send(request)


def _milliseconds(value: Any) -> float | None:
    """A time of the wire in seconds; None for another value."""
    return value / 1000 if type(value) in (int, float) and 0 <= value <= MAX_MILLISECONDS else None


def _passing(error: MCPError) -> bool:
    """Whether the same question may be answered later: no connection, no time, or a server that is busy."""
    if isinstance(error, AuthorizationRequired):
        return False
    return isinstance(error, (ConnectionLost, RequestTimeout)) or (
        isinstance(error, HTTPStatusError) and error.status in (429, 502, 503, 504)
    )
