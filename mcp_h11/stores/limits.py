# SPDX-License-Identifier: MIT
"""A limit for the wait for a store, which counts only while the loop of this worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

LOOP_LATE = 0.25  # seconds by which a timer is late where the loop stood still, and not the store


class StoreLate(Exception):
    """The limit of an operation ran out."""


async def limited(operation: Awaitable[T], limit: float) -> T:
    """Await an operation; raises StoreLate after `limit` seconds.

    Not `asyncio.wait_for`, which makes a task of each operation before Python 3.12.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None, "an operation is awaited in a task"
    expired: list[bool] = []
    timer: asyncio.TimerHandle

    def expire() -> None:
        nonlocal timer
        if loop.time() - timer.when() > LOOP_LATE:
            # This process was stopped, or a tool blocked its loop.  The store may have answered long ago.
            timer = loop.call_later(limit, expire)
            return
        expired.append(True)
        task.cancel()

    timer = loop.call_later(limit, expire)
    try:
        return await operation
    except asyncio.CancelledError:
        if not expired:
            raise
        # Python 3.11 counts the demands to cancel.  One of them was ours; another one stays.
        if hasattr(task, "uncancel") and task.uncancel() > 0:
            raise
        raise StoreLate from None
    finally:
        timer.cancel()
