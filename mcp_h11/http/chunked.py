# SPDX-License-Identifier: MIT
"""A chunked body, decoded by h11 piece by piece (RFC 9112 7.1).

h11 has no limit on the bytes that a chunked body carries beside its data: extensions, padded sizes, trailers, and the
framing of tiny chunks.  This module counts them and refuses a body with more than the limit.
"""

from __future__ import annotations

import re

import h11

from .messages import HTTPError, translated

# The size of the first piece of a buffered body that is handed to h11, and of the largest one.  Pieces grow with the
# body: h11 gives back the bytes behind a body's end, and small first pieces keep that linear for many small requests.
FIRST_PIECE = 2 * 1024
LARGEST_PIECE = 64 * 1024
# The most pieces of a chunked body that one call decodes, at 4 us each: beside a hundred connections that send only
# tiny chunks, a neighbour waits 26 ms for its turn.  A read of 64 KiB may have 10,000 chunks.
MAX_CHUNKS = 64
# The framing of one chunk that has not ended yet: at most 20 hex digits (h11) and two line ends.
_OPEN_CHUNK = 24


# --- Chunked bodies ------------------------------------------------------------------------------------------------
_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_MAX_DIGITS = 20  # of a size that h11 reads


class _ChunkSizes:
    """Reads the sizes of chunks beside h11, which reports a chunk only when the first byte of its data is there.

    It judges no syntax.  At a line that is not a size it stops, since h11 refuses that line.
    """

    __slots__ = ("_left", "_line", "_max_size", "_total", "past_limit", "stopped")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._left = self._total = 0  # bytes up to the next size; data of all chunks so far
        self._line = b""
        self.past_limit = self.stopped = False

    def look(self, piece: bytes) -> None:
        """The bytes that h11 is given next."""
        at = 0
        while at < len(piece) and not self.stopped:
            if self._left:
                step = min(self._left, len(piece) - at)
                self._left -= step
                at += step
                continue
            end = piece.find(b"\n", at)
            stop = len(piece) if end < 0 else end
            self._line += piece[at : min(stop, at + _MAX_DIGITS - len(self._line))]
            if end < 0:
                return
            at = end + 1
            self._end_line()

    def _end_line(self) -> None:
        digits = _SIZE.match(self._line)
        size = int(digits[0], 16) if digits is not None else 0
        self._line = b""
        self._total += size
        self._left = size + len(b"\r\n")
        self.past_limit = self._total > self._max_size
        self.stopped = self.past_limit or not size


_HEX = b"0123456789abcdefABCDEF"
_LONGEST_SIZE = 8  # digits; a longer one is left to h11


def plain_chunks(data: bytes, at: int) -> bytes | None:
    """The body, if the bytes from `at` on are all of its chunks, written without anything that could be left out.

    None for all other bytes: h11 judges chunks with padded sizes, extensions or trailers, and those that are cut.
    """
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\r\n", at, at + _LONGEST_SIZE + 2)
        digits = data[at:end]
        if end <= at or digits.translate(None, _HEX):
            return None
        if digits == b"0":
            return b"".join(pieces) if data[end:] == b"\r\n\r\n" else None
        stop = end + 2 + int(digits, 16)
        if digits.startswith(b"0") or data[stop : stop + 2] != b"\r\n":
            return None
        pieces.append(data[end + 2 : stop])
        at = stop + 2


class ChunkedBody:
    """A body that h11 decodes, and the count of its overhead (the bytes beside its data), which h11 does not keep."""

    __slots__ = (
        "_connection",
        "_exempt",
        "_fed",
        "_max_overhead",
        "_max_size",
        "_open_chunk",
        "_sizes",
        "_tiny",
        "behind",
        "data",
        "decoded",
        "more",
        "size",
    )

    def __init__(self, connection: h11.Connection, max_size: int, max_overhead: int, tiny: int = 0) -> None:
        self._connection = connection
        self._sizes = _ChunkSizes(max_size) if tiny else None
        self._tiny = tiny  # a chunk of less data has its framing counted
        self._max_size = max_size
        self._max_overhead = max_overhead
        self._fed = self._exempt = self._open_chunk = 0
        # One growing buffer and no list of pieces: a piece of one byte would cost sixty.
        self.data = bytearray()
        self.decoded = 0  # pieces, by the last call
        self.size = 0  # bytes of the body so far, the taken ones included
        self.more = False  # it stopped for now, with bytes left to decode
        self.behind = b""  # the bytes behind the body's end that h11 was given

    def read(self, buffer: bytes | bytearray, start: int) -> tuple[bool, int]:
        """Decodes `buffer` from `start` on; whether the body has ended, and where in the buffer it stopped.

        That is below 0 where bytes that stand behind the body were taken by an earlier call.
        """
        self.decoded = 0
        self.more = False
        try:
            while True:
                event = self._connection.next_event()
                if type(event) is h11.Data:
                    self._add(event)
                    self.decoded += 1
                    if self.decoded >= MAX_CHUNKS:
                        self.more = True
                        return False, start
                elif type(event) is h11.EndOfMessage:
                    break
                else:
                    # All that h11 has not given out as data is overhead.  With the slack for a chunk that has begun it
                    # is less than the message will come to: where the bytes were cut changes when an excess is
                    # noticed, never whether.
                    self._check_overhead(_OPEN_CHUNK)
                    # Here h11 has read all bytes that it was given, so a syntax error is reported before the limit is.
                    if self._sizes is not None and self._sizes.past_limit:
                        raise HTTPError(413, "Request body too large")
                    piece = bytes(buffer[start : start + max(FIRST_PIECE, min(self._fed, LARGEST_PIECE))])
                    if not piece:
                        return False, start
                    start += len(piece)
                    self._fed += len(piece)
                    if self._sizes is not None:
                        self._sizes.look(piece)
                    self._connection.receive_data(piece)
        except h11.RemoteProtocolError as error:
            raise translated(error) from None
        self.behind = self._connection.trailing_data[0]
        self._fed -= len(self.behind)
        self._exempt += len(b"0\r\n\r\n")
        self._check_overhead(0)
        return True, start - len(self.behind)

    def take(self) -> bytes:
        """The data that was decoded since the last call."""
        data, self.data = bytes(self.data), bytearray()
        return data

    def _add(self, event: h11.Data) -> None:
        self.data += event.data
        self.size += len(event.data)
        if self.size > self._max_size:
            raise HTTPError(413, "Request body too large")
        self._open_chunk += len(event.data)
        if event.chunk_end:
            # No sender can leave out the size in hex and two line ends, so they are no overhead.  For tiny chunks they
            # are counted, because their sender could send fewer and larger chunks.
            if self._open_chunk >= self._tiny:
                self._exempt += len(b"%x" % self._open_chunk) + 4
            self._open_chunk = 0

    def _check_overhead(self, slack: int) -> None:
        self._refuse_past_limit(self._fed - self.size - self._exempt - slack)

    def _refuse_past_limit(self, overhead: int) -> None:
        if overhead > self._max_overhead:
            raise HTTPError(413, "Too much overhead in a chunked body")
