# SPDX-License-Identifier: MIT
"""Runs work that may never return in a thread that holds up no end of the program.

The threads of a pool are waited for when Python ends: a browser in the terminal, or a keyring that asks for a password,
would keep the program alive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_daemon(work: Callable[..., _Result], *arguments: str) -> _Result:
    """The result of `work`, or its exception.  A cancellation leaves it alone, and its result is dropped."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not done.done():
            settled()

    def run() -> None:
        try:
            result = work(*arguments)
        except Exception as error:
            failed = error
            _call(loop, lambda: settle(lambda: done.set_exception(failed)))
        else:
            _call(loop, lambda: settle(lambda: done.set_result(result)))

    threading.Thread(target=run, name="mcp_h11 login", daemon=True).start()
    return await done


def _call(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has ended meanwhile
        return
