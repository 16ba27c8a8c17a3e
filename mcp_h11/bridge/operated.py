# SPDX-License-Identifier: MIT
"""The hot swap for operators, who write no code: the same command or address again, with its drain.

`exchanged` does one and tells its outcome; `OperatedProxy` does one at each SIGHUP.

Rule: a new backend that does not start changes nothing, and the log says why it did not.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio.lowlevel

from ..client.transports.jobs import begin_soon
from ..protocol.errors import MCPError
from ..protocol.shown import escaping
from ..server.signals import handle_signals
from .proxy import ProxyHandler

logger = escaping(logging.getLogger(__name__))

SESSIONS_KEPT = "migrate"  # as after a restart by the supervisor: the sessions go on, and are told


@dataclass(frozen=True)
class Exchanged:
    """The outcome of a hot swap.

    Attributes:
        reason: why the old backend goes on; None where it was replaced.
        calls: how many calls the old backend had still to answer.
        cut: how many of them were ended, because their time was over.
        seconds: how long the drain took.
    """

    reason: str | None = None
    calls: int = 0
    cut: int = 0
    seconds: float = 0.0


async def exchanged(handler: ProxyHandler, sessions: str = SESSIONS_KEPT) -> Exchanged:
    """Start the backend anew, wait until the old one is gone, and log both.  `sessions` is that of `swap`."""
    name, more = handler.label, {"backend": handler.label}
    try:
        drain = await handler.restart(sessions)
    except (MCPError, RuntimeError, ValueError) as exc:
        logger.error("%s is not swapped: %s", name, exc, extra=more)
        return Exchanged(str(exc))
    logger.info("%s is swapped: a new one answers, and the old one drains", name, extra=more)
    await drain.over.wait()
    done = Exchanged(None, drain.calls, drain.cut, round(drain.seconds, 3))
    logger.info("%s has drained after %.1f s: %d calls, %d of them cut", name, done.seconds, done.calls, done.cut,
                extra=more)  # fmt: skip
    return done


async def swap_told(handler: ProxyHandler) -> dict[str, Any]:
    """As `exchanged`, with the outcome as JSON."""
    done = await exchanged(handler)
    if done.reason is not None:
        return {"swapped": False, "reason": done.reason}
    return {"swapped": True, "seconds": done.seconds, "calls": done.calls, "cut": done.cut}


class OperatedProxy(ProxyHandler):
    """A `ProxyHandler` that starts its backend anew at each SIGHUP."""

    _hangup = False  # a SIGHUP came, and the backend was not started since

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[ProxyHandler]:
        """As that of every `ProxyHandler`; SIGHUP is heard as long as it lasts."""
        async with super().lifespan() as state:
            with ExitStack() as stack:
                hangup = getattr(signal, "SIGHUP", None)  # Windows has none
                if hangup is not None:
                    handle_signals(asyncio.get_running_loop(), (hangup,), self._hung_up, stack)
                yield state

    def _swaps(self) -> Mapping[str, Callable[[], Awaitable[Mapping[str, Any]]]]:
        return {"": partial(swap_told, self)}

    def _hung_up(self) -> None:
        # A swap that has not begun will start the newest program: no second one is needed.
        if not self._hangup and self._tasks is not None:
            self._hangup = True
            begin_soon(self._tasks, self._exchange)

    async def _exchange(self) -> None:
        await anyio.lowlevel.checkpoint()  # signals that come together are one
        self._hangup = False
        await exchanged(self)
