# SPDX-License-Identifier: MIT
"""anyio's task groups, for code that is called from outside of them.

`in_one_task` holds a task group, or another context manager, for callers that enter it in one task and leave it in
another.  `begin_soon` begins a job in a group from any place of the loop's thread, a callback of the event loop
included: anyio before 4.16 starts a task only from a task, and a signal, a read or a timer of asyncio arrives outside
of any task.

Rule: a job belongs to its group.  Where the group has ended by then, the job does not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


@asynccontextmanager
async def in_one_task(life: AbstractAsyncContextManager[object]) -> AsyncIterator[None]:
    """Enter and leave `life` in a task of its own.

    A server may leave a lifespan in another task than the one that entered it, and a task group of anyio has to be left
    in its own.  The body runs outside of `life`, which does not learn of the body's exceptions.

    Raises:
        Exception: the one that `life` raised at its beginning, or at its end.
    """
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[None] = loop.create_future()
    over = asyncio.Event()

    async def live() -> None:
        async with life:
            begun.set_result(None)
            await over.wait()

    task = loop.create_task(live())
    try:
        await asyncio.wait({begun, task}, return_when=asyncio.FIRST_COMPLETED)
        if begun.done():  # else it failed, which is raised below
            yield
    finally:
        over.set()
        await asyncio.wait({task})
        task.result()


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
