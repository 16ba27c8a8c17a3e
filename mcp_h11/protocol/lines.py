# SPDX-License-Identifier: MIT
"""Newline framing of JSON-RPC messages on pipes."""

from __future__ import annotations

from collections.abc import Callable

from .errors import ParseError

# A line of stdio: four times the body that HTTP takes, because results go this way too.
MAX_LINE = 16 * 1024 * 1024


# --- newline framing --------------------------------------------------------------------------------------------


# Of a line past the limit: enough for the members of a message that say which one it is, at either end.
KEPT_OF_LONG = 1024


class LineTooLong(ParseError):
    """In the place of a line that was longer than the limit and has been skipped.

    Attributes:
        head: its first bytes, KEPT_OF_LONG of them.
        tail: its last bytes; None while the line has not ended.
        when_ended: called when `tail` is there, where that is later than this exception.
    """

    head = b""
    tail: bytes | None = None
    when_ended: Callable[[], None] | None = None


class LineDecoder:
    """Bytes to lines, as 2026-07-28 basic/transports/stdio frames messages.  Feed it; then `end` at end of file.

    Splits at LF only: U+2028 and a lone CR are data.
    """

    __slots__ = ("_max_line", "_pieces", "_size", "_skipped", "_tail")

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        # Pieces of the unfinished line: joined once, so that many small reads stay linear.
        self._pieces: list[bytes] = []
        self._size = 0
        self._skipped: LineTooLong | None = None
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | LineTooLong]:
        """The lines that this chunk completes, without their line end; blank ones are left out.

        A line past the limit gives one `LineTooLong`, as soon as that is certain, and the rest of it is thrown away.
        """
        found: list[bytes | LineTooLong] = []
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._push(piece, found)
            self._finish(found)
        self._push(rest, found)
        return found

    def end(self) -> list[bytes | LineTooLong]:
        """The last line where the other side closed without a line end: `printf '{...}' | server` does."""
        found: list[bytes | LineTooLong] = []
        self._finish(found)
        return found

    def _push(self, piece: bytes, found: list[bytes | LineTooLong]) -> None:
        if not piece:
            return
        if self._skipped is not None:
            self._tail = (self._tail + piece[-KEPT_OF_LONG:])[-KEPT_OF_LONG:]
            return
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size > self._max_line:
            self._skip(found)

    def _skip(self, found: list[bytes | LineTooLong]) -> None:
        self._skipped = LineTooLong(f"Parse error: a line longer than {self._max_line} bytes")
        for piece in self._pieces:
            self._skipped.head += piece[: KEPT_OF_LONG - len(self._skipped.head)]
            if len(self._skipped.head) == KEPT_OF_LONG:
                break
        for piece in reversed(self._pieces):
            self._tail = (piece[-KEPT_OF_LONG:] + self._tail)[-KEPT_OF_LONG:]
            if len(self._tail) == KEPT_OF_LONG:
                break
        self._pieces.clear()
        found.append(self._skipped)

    def _finish(self, found: list[bytes | LineTooLong]) -> None:
        line = b"".join(self._pieces).strip(b" \t\r")
        if line:
            found.append(line)
        self._pieces.clear()
        self._size = 0
        skipped, self._skipped = self._skipped, None
        if skipped is not None:
            skipped.tail, self._tail = self._tail, b""
            if skipped.when_ended is not None:
                skipped.when_ended()


def encode_line(payload: bytes) -> bytes:
    """One message as a line of stdio.

    Raises:
        ValueError: a line feed in it, which would make it two.  Nothing that `JSON` writes has one.
    """
    if b"\n" in payload:
        raise ValueError("a message on stdio must not contain a line feed")
    return payload + b"\n"
