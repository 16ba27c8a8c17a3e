# SPDX-License-Identifier: MIT
"""Begins a job in an anyio task group from wherever something came: also from a callback of the event loop.

anyio (before 4.16) makes nothing where no task runs, and a signal, a read or a timer of asyncio arrives there.

Rule: a job that is begun so is one of the group, or of nothing where the group is over by then.
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
    # It ends in its first step, up to which the loop keeps it alive.
    asyncio.get_running_loop().create_task(_begin(tasks, job, *args))


async def _begin(tasks: TaskGroup, job: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
    try:
        tasks.start_soon(job, *args)
    except RuntimeError:
        pass  # the group has ended meanwhile
