# SPDX-License-Identifier: MIT
"""Log lines that the peer can cause as often as it likes: the first is written at once, later ones are counted.

A line for each of a thousand dropped notifications would hide all other lines of the log.

Rule: the number of lines that were left out is written, with the next line of that kind or at the end.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

# Seconds between two lines of one kind.
EVERY = 60.0


class Seldom:
    """Writes to a logger, at most one line of each kind in a time.

    The kind of a line is its text before the arguments are put in.  So the number of kinds is bounded by the code, and
    the peer cannot enlarge it.

    Args:
        clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_logger", "_said")

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        # For each kind: the time of its last line, and the number of lines that were left out since.
        self._said: dict[str, tuple[float, int]] = {}

    def warning(self, text: str, *arguments: object) -> None:
        """Writes a warning, unless a line of this kind was written less than `EVERY` seconds ago."""
        self._say(text, arguments, logging.WARNING)

    def error(self, text: str, *arguments: object) -> None:
        """As `warning`, with the level of an error."""
        self._say(text, arguments, logging.ERROR)

    def exception(self, text: str, *arguments: object) -> None:
        """As `error`, with the traceback of the exception that is being handled."""
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
        """Writes the numbers of lines that were left out and not reported yet."""
        for text, (since, left_out) in self._said.items():
            if left_out:
                self._logger.warning("%d more of: %s", left_out, text)
            self._said[text] = since, 0
