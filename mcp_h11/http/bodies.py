# SPDX-License-Identifier: MIT
"""A body of known length while it arrives: each byte is written where it stays, and copied once, into the whole body.

A body that comes at once is that copy.  Of a longer one, what comes before the first block is copied once more.

Rule: memory follows what has arrived, not what was announced.  A block for bytes to come is at most as large as the
bytes that are here, and at most `BLOCK`.
"""

from __future__ import annotations

# The first block of a body, and the largest one.  A read fills one block at most: neighbours wait for the copy of 256
# KiB (some 50 us) as long as for one or two calls.
FIRST_BLOCK = 64 * 1024
BLOCK = 256 * 1024
# As large as the largest body of the defaults.
_HEAP_BLOCK = 4 * 1024 * 1024


def keep_heap() -> None:
    """Have the C library keep the memory of large bodies and answers, as it does after one body of 4 MiB.

    glibc gives freed memory back to the system in excess of twice the largest block that it has freed.  So a server
    with bodies of 1 MiB gives memory back after each of them and gets it again for the next one, at 250 page faults for
    1 MiB, which can take longer than all else that is done with the body.  A block that is freed untouched moves the
    limit.  Other C libraries have nothing to learn from it.
    """
    bytes(_HEAP_BLOCK)


class ArrivingBody:
    """Bytes in by `add`, or written into `room()` and then counted by `fill`; the whole body out by `take`.

    Attributes:
        size: bytes that have arrived.
        missing: bytes that have not.
    """

    __slots__ = ("_block", "_blocks", "_filled", "_first", "missing", "size")

    def __init__(self, first: bytes, missing: int) -> None:
        self.size = len(first)
        self.missing = missing
        self._first = first
        self._blocks: list[bytearray] = []
        # The last of them.  Up to FIRST_BLOCK it grows: many slow clients hold little more than their bytes.
        self._block = bytearray()
        self._filled = 0  # bytes of it

    def room(self) -> memoryview | None:
        """Where the next bytes may be written; None while there is little, or no more to come: then they are added."""
        if self._filled == len(self._block):
            if self.size < FIRST_BLOCK or not self.missing:
                return None
            # A new block each time, since one that is read into cannot grow.
            self._block = bytearray(min(self.missing, self.size, BLOCK))
            self._blocks.append(self._block)
            self._filled = 0
        return memoryview(self._block)[self._filled :]

    def fill(self, count: int) -> None:
        """So many bytes were written into the `room()` that was asked for last."""
        self._filled += count
        self.size += count
        self.missing -= count

    def add(self, data: bytes | memoryview) -> None:
        """At most `missing` bytes; they are copied, unless they are `bytes` and the first."""
        while data:
            room = self.room()
            if room is None:
                count = len(data)
                if not self.size:
                    self._first = bytes(data)  # most bodies come in one read, and this is the whole body then
                else:
                    if not self._blocks:
                        self._blocks.append(self._block)
                    self._block += data
                    self._filled += count
                self.size += count
                self.missing -= count
                return
            data = memoryview(data)
            count = min(len(data), len(room))
            room[:count] = data[:count]
            self.fill(count)
            data = data[count:]

    def take(self) -> bytes:
        """The whole body."""
        if not self._blocks:
            return self._first
        whole = memoryview(self._block)[: self._filled]
        return b"".join((self._first, *self._blocks[:-1], whole))
