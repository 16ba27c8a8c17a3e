# SPDX-License-Identifier: MIT
"""Names the function that blocks the event loop: a thread asks the loop for a sign of life while calls run.

The loop itself is not slowed: the thread asks a few times a second, and only while a call runs.  It looks at the stack
of the loop's thread only when no sign comes in time.  A second after the last call it rests until the next one, so that
an idle server has no thread that wakes.

Rule: one warning for one stall, and no more than one in `QUIET_TIME`; it names the function, and never its arguments.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType

from ..protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

PAUSE = 0.1  # seconds between two questions; a stall shorter than this and the limit together may go unseen
QUIET_TIME = 10.0  # between two warnings
JOIN_TIME = 1.0
IDLE_PAUSES = 10  # without a call, and then the thread rests
LOOK_TIME = 60.0  # seconds after which a thread that rests looks whether its loop was closed


class Watchdog:
    """Watches the loop that it is made on.

    `busy` says whether a call runs.  `entry` is the code of the function through which every call goes: its local
    names `method` and `params` tell which call it is.  `rest` takes a function to call when the next call begins.
    """

    def __init__(
        self,
        limit: float,
        busy: Callable[[], object],
        entry: CodeType,
        rest: Callable[[Callable[[], None]], None],
    ) -> None:
        self._limit = limit
        self._busy = busy
        self._entry = entry
        self._on_call = rest
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._alive = threading.Event()
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._said = -QUIET_TIME
        self._unsaid = 0
        self._thread = threading.Thread(target=self._watch, name="mcp_h11 watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no further questions, and wait for the thread to end."""
        self._ended.set()
        self._alive.set()
        self._wanted.set()
        self._thread.join(JOIN_TIME)  # the thread waits for one of these three events, or writes to the log

    def _watch(self) -> None:
        idle = 0
        while not self._ended.wait(PAUSE):
            idle = 0 if self._busy() else idle + 1
            if 0 < idle < IDLE_PAUSES:
                continue
            self._alive.clear()
            self._wanted.clear()
            try:
                self._loop.call_soon_threadsafe(self._rest if idle else self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._alive.wait(self._limit):
                if not idle or self._busy():
                    self._blocked(sys._current_frames().get(self._watched))
                # A stall gets one warning, however long it lasts.
                while not self._alive.wait(PAUSE) and not self._loop.is_closed():
                    pass
            elif idle:
                while not self._wanted.wait(LOOK_TIME):
                    if self._loop.is_closed():
                        return
                idle = 0

    def _rest(self) -> None:
        """Runs on the loop, where no call can begin meanwhile."""
        self._alive.set()
        if self._busy():
            self._wanted.set()
        else:
            self._on_call(self._wanted.set)

    def _blocked(self, frame: FrameType | None) -> None:
        now = time.monotonic()
        if frame is None or now - self._said < QUIET_TIME:
            self._unsaid += 1
            return
        self._said = now
        what, where = _what(frame, self._entry), f"{frame.f_code.co_filename}:{frame.f_lineno}"
        more = f"; {self._unsaid} more since the last warning" if self._unsaid else ""
        self._unsaid = 0
        logger.warning(
            "the event loop has been blocked for %g s by %s, in %s at %s%s",
            self._limit, what, frame.f_code.co_name, where, more,
        )  # fmt: skip


def _what(frame: FrameType | None, entry: CodeType) -> str:
    """The name of the call on the stack, or a text that says there is none."""
    while frame is not None:
        if frame.f_code is entry:
            names = frame.f_locals
            method, params = names.get("method"), names.get("params")
            name = params.get("name") if isinstance(params, dict) and method != "resources/read" else None
            return f"{method!s:.100} {name!r:.100}" if isinstance(name, str) else f"{method!s:.100}"
        frame = frame.f_back
    return "no call of a client"
