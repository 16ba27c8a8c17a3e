# SPDX-License-Identifier: MIT
"""Server-sent events to bytes and back.

It refuses to write a field that would end its line early, and to keep an event without end in memory.

Rule: reading is the algorithm of the WHATWG HTML standard, 9.2.6 "Interpreting an event stream", whatever the cuts
between reads; the one addition is that an id without data is reported, because 2025-11-25 primes streams so.  Lines
end at CR, LF or CRLF and nowhere else: U+2028 and U+0085 are data, which str.splitlines would not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# The limit of a line of stdio, so that the largest result is the same on every transport.
MAX_EVENT_SIZE = 16 * 1024 * 1024
# More milliseconds than a century has; longer numbers are nonsense, and the longest ones int() refuses.
MAX_RETRY_DIGITS = 12
# A payload from this size on is not copied into its event, but written between two parts (`event_parts`).
LARGE_PAYLOAD = 32 * 1024

Parts = tuple[bytes, bytes, bytes]  # one event: what stands before the payload, the payload, what stands behind it

_BOM = b"\xef\xbb\xbf"


class SSEError(ValueError):
    """An event past the limit.  Nothing more can be read from this stream."""


def encode_event(data: bytes, id: str = "", event: str = "", retry: int | None = None) -> bytes:
    """One event.  Empty data with an id is a priming event (2025-11-25 basic/transports, Sending Messages 6).

    Args:
        data: UTF-8.  CR, LF and CRLF in it start a new data line and are LF to the reader; JSON has none.
        id: a client sends it back as `Last-Event-ID`; "" writes none.
        event: the type; "" writes none, which readers take for "message".
        retry: milliseconds until a reader should reconnect.

    Raises:
        ValueError: CR, LF or NUL in id or event, or a negative retry.
    """
    head = b""
    if event:
        head = b"event: " + _field(event) + b"\n"
    if id:
        head += b"id: " + _field(id) + b"\n"
    if retry is not None:
        if retry < 0:
            raise ValueError("retry must not be negative")
        head += b"retry: %d\n" % retry
    if not data:
        return head + b"data:\n\n"
    # `find`, because `in` is slower on bytes.
    if data.find(b"\n") >= 0 or data.find(b"\r") >= 0:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"%bdata: %b\n\n" % (head, data)


def event_parts(data: bytes, id: str = "", event: str = "", before: bytes = b"") -> Parts:
    """`before + encode_event(data, id, event)` in parts, so that a payload of `LARGE_PAYLOAD` bytes is not copied.

    Give them to `Reply.send_parts`.

    Raises:
        ValueError: as `encode_event`.
    """
    if not data or data.find(b"\n") >= 0 or data.find(b"\r") >= 0:
        return before, encode_event(data, id, event), b""
    head = encode_event(b"", id, event).removesuffix(b"\n\n")
    return b"%b%b " % (before, head), data, b"\n\n"


def encode_numbered(data: bytes, stream: str, index: int) -> bytes:
    """One event of a stream of many: `encode_event(data, f"{stream}.{index}")` for half of its cost.

    Raises:
        ValueError: CR, LF or NUL in `stream`.
    """
    # No line end and no NUL is printable.
    if not data or data.find(b"\n") >= 0 or data.find(b"\r") >= 0 or not stream.isprintable():
        return encode_event(data, f"{stream}.{index}")
    return b"id: %b.%d\ndata: %b\n\n" % (stream.encode(), index, data)


def in_pieces(events: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    """Events with their indexes, in pieces with `size` bytes of payload or a little more; the last may be shorter.

    A large payload is a piece by itself, so that it need not be copied to its neighbours.
    """
    piece: list[tuple[int, bytes]] = []
    length = 0
    for event in events:
        large = len(event[1]) >= LARGE_PAYLOAD
        if piece and (large or length >= size):
            yield piece
            piece, length = [], 0
        piece.append(event)
        length = size if large else length + len(event[1])
    if piece:
        yield piece


def encode_comment(text: str = "") -> bytes:
    """A comment, which readers skip: without text the keep-alive of an idle stream.

    Raises:
        ValueError: CR, LF or NUL in it.
    """
    return b": " + _field(text) + b"\n\n" if text else b":\n\n"


def _field(text: str) -> bytes:
    # NUL would make a reader ignore an id.
    if "\n" in text or "\r" in text or "\x00" in text:
        raise ValueError("CR, LF and NUL cannot be written in a field of an event")
    return text.encode("utf-8")


@dataclass(slots=True)
class Event:
    """One event as it was read.

    Attributes:
        data: the data lines, joined by LF; "" for a priming event.
        event: the type, "message" where none was given.
        id: the value for `Last-Event-ID` after this event, given by it or by an earlier one; None without one.
        retry: milliseconds, where this event has them.
    """

    data: str
    event: str
    id: str | None
    retry: int | None


class EventDecoder:
    """Bytes to events, as they come.  Bytes of an unfinished event at the end of the stream are dropped.

    Attributes:
        last_event_id: for `Last-Event-ID` when reconnecting; "" is none.  It moves when an event is complete, so that
            an event cut off in the middle comes again.  A decoder for a resumed stream is given it by assignment.
        retry: the last `retry` that was read, in milliseconds.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_event",
        "_failed",
        "_has_id",
        "_id",
        "_max_size",
        "_pieces",
        "_retry",
        "_size",
        "_unfinished",
        "last_event_id",
        "retry",
    )

    def __init__(self, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._max_size = max_event_size
        self._at_start = True
        self._after_cr = False
        self._failed = False
        # Of the unfinished line: joined once, so that many small reads stay linear.
        self._pieces: list[bytes] = []
        self._unfinished = 0
        self._clear()

    def _clear(self) -> None:
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._id = b""
        self._has_id = False
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes.

        Raises:
            SSEError: an event is larger than `max_event_size`, counting its data and the unfinished line.  Events
                before it in the same chunk are returned first and the next call raises, so that `last_event_id`
                never names an event that the caller did not get.
        """
        if self._failed:
            raise self._too_large()
        if not chunk:
            return []
        found: list[Event] = []
        *ended, rest = self._normalised(chunk).split(b"\n")
        for line in ended:
            if self._unfinished:
                line = b"".join((*self._pieces, line))
                self._pieces.clear()
                self._unfinished = 0
            if self._size + len(line) > self._max_size:
                return self._fail(found)
            if self._at_start:
                line = line.removeprefix(_BOM)
                self._at_start = False
            if line:
                self._field(line)
            else:
                self._dispatch(found)
        if rest:
            self._pieces.append(rest)
            self._unfinished += len(rest)
            if self._size + self._unfinished > self._max_size:
                return self._fail(found)
        return found

    # LF alone at the ends of lines.  A CR at the end of a chunk ends its line at once, and an LF that comes next
    # belongs to it: waiting for it would hold back the last event of a quiet stream.
    def _normalised(self, chunk: bytes) -> bytes:
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.find(b"\r") >= 0:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _fail(self, found: list[Event]) -> list[Event]:
        self._failed = True
        self._pieces.clear()
        self._clear()
        if not found:
            raise self._too_large()
        return found

    def _too_large(self) -> SSEError:
        return SSEError(f"an event of more than {self._max_size} bytes")

    def _field(self, line: bytes) -> None:
        # A comment is a line that begins with a colon: its name is empty, and no branch below takes it.
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"id":
            if b"\x00" not in value:
                self._id = value
                self._has_id = True
        elif name == b"event":
            self._event = value
        elif name == b"retry" and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry = self._retry = int(value)

    def _dispatch(self, found: list[Event]) -> None:
        if self._has_id:
            self.last_event_id = self._id.decode("utf-8", "replace")
        # The standard fires nothing without a data line; the id of a priming event has to be seen nevertheless.
        if self._data or self._has_id:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            event = self._event.decode("utf-8", "replace") if self._event else "message"
            found.append(Event(data, event, self.last_event_id or None, self._retry))
        self._clear()
