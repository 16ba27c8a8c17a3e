# SPDX-License-Identifier: MIT
"""The course of a run on the terminal, and Ctrl+C, which ends it early."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from ..asking.printing import Screen


class Interrupt:
    """Ctrl+C: the first one ends the run, the second one the command."""

    def __init__(self) -> None:
        self.wanted = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs.  Outside of the main thread signals are left as they are."""
        try:
            before = signal.signal(signal.SIGINT, self._came)
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _came(self, *_: Any) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True


class Course:
    """The course of one run on the terminal: one line that is updated in place."""

    def __init__(self, screen: Screen, interrupt: Interrupt, label: str, warmup: float, duration: float) -> None:
        self._screen = screen
        self._interrupt = interrupt
        self._label = label
        self._duration = duration
        self._began = time.perf_counter() + warmup
        self._last = (time.perf_counter(), 0)
        self._owner = os.getpid()

    def tick(self, count: int, errors: int) -> bool:
        """Show the number of requests and of errors; true ends the run."""
        if os.getpid() == self._owner:  # else a process of the generator, which shares the terminal
            now = time.perf_counter()
            since, before = self._last
            rate = max(0, count - before) / max(now - since, 1e-6)
            self._last = (now, count)
            done = now - self._began
            rest = f"{rate:,.0f} a second" + (f", {errors:,} errors" if errors else "")
            text = f"s {self._label}: {'warming up' if done < 0 else rest}"
            self._screen.progress(round(max(0.0, done), 1), self._duration, text)
        return self._interrupt.wanted
