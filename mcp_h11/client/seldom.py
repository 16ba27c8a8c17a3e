# SPDX-License-Identifier: MIT
"""Lines of a log that a peer can cause as often as it likes: the first is written at once, the rest is counted.

Thousands of notifications that nobody has time for are one fact, and a line for each hides all other lines.

Rule: what was left out is said: with the next such line, or at the end.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

EVERY = 60.0  # seconds between two lines of one kind


class Seldom:
    """For one object that lives as long as what it speaks of: a connection, a client.

    A kind of line is its text before the arguments are put in, so that their number is bounded by the code.

    Args:
        clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_logger", "_said")

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}  # when a kind was written last, and what was left out since

    def warning(self, text: str, *arguments: object) -> None:
        """Writes it, unless such a line was written less than `EVERY` seconds ago."""
        self._say(text, arguments, logging.WARNING)

    def error(self, text: str, *arguments: object) -> None:
        """The same, as an error."""
        self._say(text, arguments, logging.ERROR)

    def exception(self, text: str, *arguments: object) -> None:
        """The same, as an error with the traceback of the exception that is being handled."""
        self._say(text, arguments, logging.ERROR, trace=True)

    def _say(self, text: str, arguments: tuple[object, ...], level: int, *, trace: bool = False) -> None:
        now = self._clock()
        since, left_out = self._said.get(text, (-math.inf, 0))
        if now - since < EVERY:
            self._said[text] = since, left_out + 1
            return
        self._said[text] = now, 0
        if left_out:
            self._logger.log(level, f"{text} (and %d more like it since the last such line)", *arguments, left_out,
                             exc_info=trace)  # fmt: skip
        else:
            self._logger.log(level, text, *arguments, exc_info=trace)

    def close(self) -> None:
        """Says what was left out and not said so far."""
        for text, (since, left_out) in self._said.items():
            if left_out:
                self._logger.warning("%d more of: %s", left_out, text)
            self._said[text] = since, 0
