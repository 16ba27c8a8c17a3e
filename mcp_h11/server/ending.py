# SPDX-License-Identifier: MIT
"""The end of the calls of a server: they may finish for a time, then they are cancelled.

Rule: it returns within the time that it is given and CANCEL_TIME.  A call that ignores its cancellation is named in the
log and left behind.
"""

from __future__ import annotations

import asyncio
import logging

from ..endpoint.endpoint import Endpoint
from ..protocol.shown import escaping
from ..runtime.runtime import Runtime

logger = escaping(logging.getLogger(__name__))

CANCEL_TIME = 1.0  # seconds for cancelled calls to end
FORCED_TIME = 0.1  # seconds for the same, and for the last bytes, after a second `stop`


async def end_calls(runtime: Runtime, endpoint: Endpoint, grace: float, forced: asyncio.Event) -> None:
    """Let running calls finish for `grace` seconds, or until `forced` is set; then end sessions, streams and calls."""
    await runtime.wait_idle(grace, forced)
    endpoint.close()
    for task in list(runtime.tasks):
        task.cancel()
    if runtime.tasks:
        await asyncio.wait(runtime.tasks, timeout=FORCED_TIME if forced.is_set() else CANCEL_TIME)
    if runtime.tasks:
        logger.warning("%d calls ignored their cancellation", len(runtime.tasks))
