# SPDX-License-Identifier: MIT
"""Holds a task group of anyio, or another context manager, that is entered in one task and left in another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager


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
