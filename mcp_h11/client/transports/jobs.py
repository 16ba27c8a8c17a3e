# SPDX-License-Identifier: MIT
"""Begins a job in a task group of anyio from any place of the loop's thread, a callback of the event loop included.

anyio before 4.16 starts a task only from a task, and a signal, a read or a timer of asyncio arrives outside of any
task.

Rule: a job belongs to its group.  Where the group has ended by then, the job does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


def begin_soon(tasks: TaskGroup, job: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
    """As `tasks.start_soon`, in any place of this loop's thread."""
    if asyncio.current_task() is not None:
        tasks.start_soon(job, *args)
        return
    # No reference is needed: the task ends in its first step, and the loop keeps it alive until then.
    asyncio.get_running_loop().create_task(_begin(tasks, job, *args))


async def _begin(tasks: TaskGroup, job: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
    try:
        tasks.start_soon(job, *args)
    except RuntimeError:
        pass  # the group has ended meanwhile
