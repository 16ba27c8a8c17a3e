# SPDX-License-Identifier: MIT
"""Ctrl+C ends a command that waits: its task is cancelled, so that the server is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from ..parser import INTERRUPTED


async def until_interrupted(command: Coroutine[Any, Any, int]) -> int:
    """The exit code of a command; Ctrl+C cancels it.

    `asyncio.run` does the same from Python 3.11 on.  Before, KeyboardInterrupt ends the loop in the middle of a
    callback, and the server is told nothing.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    if sys.version_info < (3, 11):
        # Windows has no such handlers, and only the main thread may set one.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await command
    except asyncio.CancelledError:
        if sys.version_info < (3, 11):
            return INTERRUPTED
        raise
