# SPDX-License-Identifier: MIT
"""Tasks: a tool that takes long answers at once with an id, and the client asks for its result later.

The extension `io.modelcontextprotocol/tasks`, SEP-2663: stage Final, as of 2026-11-28 (modelcontextprotocol/ext-tasks,
specification/draft/tasks.md).  `MCPServer` adds it by itself with the first ``@server.tool(task=...)``; give
``MCPServer(extensions=[Tasks(...)])`` to set its limits.

It refuses nothing of an earlier revision: in sessions there are no tasks, and the experimental ones of 2025-11-25 are
not offered.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ..handler.context import Context, exchange_of
from ..handler.extension import Answering, CallTool, Extension, ExtensionMethod, ExtensionServices
from ..handler.functions import TaskSupport
from ..handler.handler import Params, Result
from ..handler.questions import InputRequired
from ..protocol.errors import InternalError, InvalidParams
from ..protocol.methods import TASK_METHODS, TASKS
from ..protocol.shown import escaping
from .tasks_engine import TaskEngine, TaskMode, heard_key

logger = escaping(logging.getLogger(__name__))

KEEP_TASK = 3_600.0  # seconds for which the end of a task can be asked for
RUN_LIMIT = 3_600.0  # seconds that a task may run
POLL_EVERY = 1.0  # seconds after which a client should ask again
MAX_TASKS = 10_000  # that are kept in all
MAX_CLIENT_TASKS = 1_000  # that are kept for one client
MAX_RUNNING = 100  # that run in one process at a time
MAX_BYTES = 1024 * 1024  # of one task, with its result
MAX_LISTENED = 100  # tasks of one listen stream


class Tasks(Extension):
    """Lets tools run as tasks; give it to ``MCPServer(extensions=[...])`` to set its limits (docs/tasks.md).

    Args:
        tools: The tools that may, by name: "optional" runs plainly for a client without tasks, "required" is an error
            for one, and "later" runs plainly until the function calls `ctx.start_task()`.  `@server.tool(task=...)`
            adds to them.
        keep: Seconds for which the end of a task can be asked for.
        run_limit: Seconds that a task may run; a tool with a timeout of its own has that.
        poll: Seconds after which a client should ask again.
        max_tasks, max_client_tasks: The most tasks that are kept, in all and of one client; one more is 503.
        max_running: The most tasks that run in one process.  A task that waits for its client is not counted, and waits
            for its turn when it was answered.
        max_bytes: The most bytes of one task: its result, or its open questions.

    Raises:
        ValueError: a limit is not above 0, or is a time without an end, or a mode of a tool is none of the three.
    """

    identifier = TASKS
    legacy = False
    filter = "taskIds"
    outermost = True  # another wrapper changes the result of a tool, and has to find it

    def __init__(
        self,
        tools: Mapping[str, TaskSupport] | None = None,
        *,
        keep: float = KEEP_TASK,
        run_limit: float = RUN_LIMIT,
        poll: float = POLL_EVERY,
        max_tasks: int | None = MAX_TASKS,
        max_client_tasks: int | None = MAX_CLIENT_TASKS,
        max_running: int | None = MAX_RUNNING,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        # A task ends, and clients are told when: these four are finite.
        for name, value in (("keep", keep), ("run_limit", run_limit), ("poll", poll), ("max_bytes", max_bytes)):
            # Not `<= 0`: a number that is no number (NaN) is refused as well.
            if value is None or not 0 < value < math.inf:
                raise ValueError(f"{name} is a number greater than 0, not {value!r}")
        for count in (max_tasks, max_client_tasks, max_running):
            if count is not None and not count > 0:
                raise ValueError(f"a limit of tasks is greater than 0, not {count!r}")
        self.keep, self.run_limit, self.poll = keep, run_limit, poll
        self.max_tasks, self.max_client_tasks = max_tasks, max_client_tasks
        self.max_running, self.max_bytes = max_running, max_bytes
        self.modes: dict[str, TaskMode] = {}
        self._engines: dict[Any, TaskEngine] = {}  # by runtime: one object may be served by two servers
        for name, support in (tools or {}).items():
            self.support(name, support)

    def support(self, tool: str, support: TaskSupport | None) -> None:
        """Say by `support` how the tool of that name runs; None takes that back.  Raises ValueError."""
        if support is not None and support not in ("optional", "required", "later"):
            raise ValueError(f'{tool}: task is "optional", "required" or "later", not {support!r}')
        modes = {name: mode for name, mode in self.modes.items() if name != tool}
        if support is not None:
            modes[tool] = TaskMode(support == "required", support == "later")
        self.modes = modes  # a new dict, because the loop may be reading the old one

    def methods(self) -> Mapping[str, ExtensionMethod | Answering]:
        """tasks/get, tasks/update and tasks/cancel; `Mcp-Name` has the id of the task."""

        def answered_by(name: str) -> ExtensionMethod:
            async def answer(params: Params, ctx: Context) -> Result:
                found: Result = await getattr(self._engine(ctx), name)(params, ctx)
                return found

            return ExtensionMethod(answer, mirrored="taskId")

        return {method: answered_by(method.removeprefix("tasks/")) for method in TASK_METHODS}

    async def call_tool(self, params: Params, ctx: Context, call: CallTool) -> Result | InputRequired:
        """Answer with a task where the tool has a mode, and the client announced the extension."""
        mode = self.modes.get(name) if isinstance(name := params.get("name"), str) else None
        if mode is None:
            return await call(params, ctx)
        return await self._engine(ctx).call(params, ctx, call, mode)

    def heard(self, wanted: Any, principal: str) -> tuple[Any, Collection[str]]:
        """All ids are agreed to, also those of no task: another answer would say which tasks there are."""
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise InvalidParams("notifications.taskIds must be a list of strings")
        if len(wanted) > MAX_LISTENED:
            raise InvalidParams(f"A listener hears of at most {MAX_LISTENED} tasks")
        # This does not say which server is asked, and another one may run in another thread.
        loop = asyncio.get_running_loop()
        engines = [engine for engine in list(self._engines.values()) if engine.runtime.loop is loop]
        for task_id in wanted:
            for engine in engines:
                engine.heard(task_id, principal)
        return wanted, [heard_key(task_id, principal) for task_id in wanted]

    @asynccontextmanager
    async def lifespan(self, services: ExtensionServices) -> AsyncIterator[None]:
        runtime: Any = services.runtime
        engine = self._engines[runtime] = TaskEngine(self, runtime)
        engine.start()
        try:
            yield
        finally:
            del self._engines[runtime]
            engine.close()

    def _engine(self, ctx: Context) -> TaskEngine:
        engine = self._engines.get(exchange_of(ctx).runtime)
        if engine is None:
            logger.error("the first tool with task=... was added after the server had begun: it has no tasks")
            raise InternalError()
        return engine
