# SPDX-License-Identifier: MIT
"""Loops on which nothing is waited for, for tests of long or exact times.

`HurryingLoop` adds what it would have waited to the time that passes anyhow.  The time of a `StillLoop` is the sum of
what it would have waited and nothing else: a machine that is busy does not change it.  Everything that a test waits for
has to be on that loop, since other threads and processes are not waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest

SETTLE = 0.002  # seconds, for the kernel to carry what was written to a socket on loopback


class Hurrying(selectors.DefaultSelector):
    """Nothing is waited for: the clock of the loop goes on by what it would have waited."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(None if timeout is None else min(timeout, SETTLE))
        if not found and timeout is not None:
            self.skipped += max(0.0, timeout)
        return found


class HurryingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurrying = Hurrying()
        super().__init__(self._hurrying)

    def time(self) -> float:
        return super().time() + self._hurrying.skipped


class StillLoop(HurryingLoop):
    def time(self) -> float:
        return self._hurrying.skipped


STILL = ("asyncio", {"loop_factory": StillLoop})  # for `anyio_backend`
# Of a test in which something has to be done before a time is over: a machine that stands still takes none of it.
on_a_still_clock = pytest.mark.parametrize("anyio_backend", [STILL], ids=["still"])
