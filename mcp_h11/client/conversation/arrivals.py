# SPDX-License-Identifier: MIT
"""Messages that come in a callback of the event loop, and the task that hands them on in their order.

A transport may read in a callback, which spares a task's turn for each answer.  The callbacks of a client's user and of
a bridge run in a task all the same, since they may use anyio, which raises outside of tasks where trio is installed and
in older releases.  An answer only wakes its caller, so it needs no task unless other messages wait before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from ...protocol.jsonrpc import ErrorResponse, Message, Response
from ..transports.jobs import begin_soon

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

Take = Callable[[Message, "int | str | None"], None]


class Arrivals:
    """Give each message to `came`; `take` gets it now or in a task, in the context in which it came."""

    def __init__(self, tasks: TaskGroup, take: Take) -> None:
        self._tasks = tasks
        self._take = take
        # A task empties it in its first step, so it holds no more than some turns of the loop have read.
        self._waiting: deque[tuple[Context, Message, int | str | None]] = deque()

    def came(self, message: Message, via: int | str | None) -> None:
        """Hands a message on, behind those that wait."""
        if not self._waiting and (isinstance(message, (Response, ErrorResponse)) or asyncio.current_task() is not None):
            self._take(message, via)
            return
        self._waiting.append((copy_context(), message, via))
        if len(self._waiting) == 1:
            begin_soon(self._tasks, self._hand_on)

    def flush(self) -> None:
        """Hands on all that wait: nothing more comes."""
        while self._waiting:
            context, message, via = self._waiting.popleft()
            context.run(self._take, message, via)

    async def _hand_on(self) -> None:
        self.flush()
