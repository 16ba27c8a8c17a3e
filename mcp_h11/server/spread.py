# SPDX-License-Identifier: MIT
"""How many connections each worker has, in memory that all of them map: they share one socket, and spread its clients.

The kernel wakes every worker for a connection, and gives it to the one that is quickest.  That is fair for short
connections, but connections that stay pile up: of 64, one worker of four took 27 and another one 2.  So a worker that
has more than the one with fewest waits a moment before it accepts.

Rule: nothing depends on these numbers.  A connection that the other workers leave is accepted after that moment.
"""

from __future__ import annotations

import mmap
import os
import tempfile

SIZE = 4  # bytes of one number
ABSENT = 2**32 - 1  # of a worker that does not accept
MOST_AHEAD = 2  # connections that a worker may have more than the one with fewest


def shared_memory(count: int) -> int:
    """A descriptor of memory for the numbers of so many workers, for `Spread` in each process."""
    descriptor = os.memfd_create("mcp_h11") if hasattr(os, "memfd_create") else _file()
    os.truncate(descriptor, count * SIZE)
    return descriptor


def _file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Spread:
    """The numbers of all workers."""

    def __init__(self, descriptor: int, count: int) -> None:
        self._numbers = memoryview(mmap.mmap(descriptor, count * SIZE)).cast("I")

    def tell(self, index: int, number: int) -> None:
        """Worker `index` has so many connections."""
        self._numbers[index] = number

    def leave(self, index: int) -> None:
        """Worker `index` accepts no more."""
        self._numbers[index] = ABSENT

    def is_ahead(self, number: int) -> bool:
        """Whether a worker with so many connections leaves the next one to others."""
        return number > min(self._numbers) + MOST_AHEAD
