# SPDX-License-Identifier: MIT
"""A new head, read by its lines: behind a proxy each head is new by an id or two, and most of its lines are known.

h11 judges a head line by line, and then as a whole by a few fields.  `HeadLines` reads a head the same way, where

- h11 has accepted a head with the same request line, of HTTP/1.1 and with a path;
- each line end is CRLF, and no line has another CR or LF, a NUL, a form feed or a vertical tab, or begins with a blank.
  What is left is the grammar of h11 for a field: a token, a colon, any value;
- of the fields that frame the message or route it there are only ordinary values (`_is_ordinary`): one Host, at most
  one Content-Length, no Transfer-Encoding, Expect or Upgrade, no "close" in Connection.

`read` gives None for every other head, and for one that passes a limit: h11 reads it and `ask_h11` decides.  So nothing
is refused here, and a property test holds that no head is read otherwise than h11 would.

A line that was read is kept, and of a name with many values the name alone: of the next head only the new lines are
looked at, and of those only the names.  Lines of weight are those of the fields that frame a message and of those that
a verdict depends on.  Heads with the same lines of weight have one `HeadShape`, and then one verdict holds for all.

A client that sends new lines for ever takes little from its neighbours: the lines of one name are kept up to
`LINES_OF_A_NAME`, some of each head only, and none of a name with secret values.  For lines of weight there is always
room, since a head pays most where one of them is not known.  All is dropped from time to time, so that no line of a
client stays (`HeadCache`).
"""

from __future__ import annotations

import re
from itertools import filterfalse
from sys import maxsize

from .addresses import is_host_field
from .messages import CLIENT_FIELDS, SESSION, Head, HeadShape, Limits

MAX_STARTS = 64  # request lines
MAX_START = 256  # bytes of one, with its CR
KNOWN_LINES = 1024  # lines that are kept, beside those of weight
KNOWN_LINE_SIZE = 256  # bytes of one
KNOWN_NAMES = 128  # names with lines that are kept, and as many of which none is
LINES_OF_A_NAME = 32  # lines of one name; of a name with weight the next puts them all out
LEARNT_AT_ONCE = 8  # lines of one head
MAX_SHAPES = 512  # each takes some 300 bytes
MAX_SIZES = 256  # values of Content-Length
MAX_SIZE = 32  # bytes of one, with the blanks around it
LENGTH_DIGITS = 18  # of a Content-Length
NO_FIELDS = 3  # parts of a head between its line ends that are no field: the first, and two at the blank line

_is_name = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch  # token of RFC 9110 5.6.2
LENGTH = b"content-length"
# h11 or `ask_h11` read the values of these fields.
_FRAMING = frozenset((b"connection", LENGTH, b"expect", b"host", b"transfer-encoding", b"upgrade"))
# Their values differ from head to head: they are looked at and not kept.
PRIVATE = CLIENT_FIELDS | {LENGTH}

Shapes = dict[tuple[bytes, ...], HeadShape]  # by the lines of weight, and the names of the secrets


class HeadLines:
    """Reads heads by their lines, for one server.  `learn` a head that h11 has accepted; then `read` others.

    Args:
        judged: names in lower case of the fields whose values a verdict depends on.  It may depend on the presence of
            the `CLIENT_FIELDS` as well, but not on their values.
    """

    __slots__ = (
        "_is_known", "_max_head", "_max_lines", "_rooms", "_shapes", "_sizes", "_starts", "_weights", "_weighty",
        "lines", "names",
    )  # fmt: skip

    def __init__(self, judged: tuple[bytes, ...] = ()) -> None:
        self._max_head = self._max_lines = maxsize
        self._weighty = _FRAMING.union(judged) - PRIVATE  # the names of the lines of weight
        self._starts: dict[bytes, tuple[Head, Shapes]] = {}  # by the request line: a head without fields, its shapes
        self._shapes = 0  # of all request lines
        self.lines: dict[bytes, bytes] = {}  # a line of weight: the same; another line: b""
        self._is_known = self.lines.__contains__
        # Names, as they were written, of which no line is kept.  Values that are private: the name in lower case; names
        # that have no room for more lines: b"".
        self.names: dict[bytes, bytes] = {}
        self._rooms: dict[bytes, int] = {}  # lines without weight that may still be kept, by the name in lower case
        self._weights: dict[bytes, set[bytes]] = {}  # lines of weight, by the name in lower case
        self._sizes: dict[bytes, int] = {}  # values of Content-Length

    def limit(self, limits: Limits) -> None:
        """Take the limits of the connections; a longer request line was never learnt."""
        self._max_head = limits.max_head or maxsize
        self._max_lines = maxsize if limits.max_fields is None else limits.max_fields + NO_FIELDS

    def learn(self, raw: bytes, head: Head) -> None:
        """Take the request line of a plain head that h11 has accepted."""
        start = raw[: raw.index(b"\n")]
        if len(start) > MAX_START or not start.endswith(b"\r") or not head.target.startswith("/"):
            return
        if start[:-1] in self._starts:
            return  # its shapes stay
        if len(self._starts) >= MAX_STARTS:
            self._starts.clear()
            self._shapes = 0
        self._starts[start[:-1]] = Head(head.method, head.target, head.target, head.version, ()), {}

    def start_of(self, line: bytes) -> Head | None:
        """The head without fields that has this request line, if it was learnt."""
        known = self._starts.get(line)
        return None if known is None else known[0]

    def is_weighty(self, name: bytes) -> bool:
        """Whether lines of this name, in lower case, are lines of weight."""
        return name in self._weighty

    def forget(self) -> None:
        """Drop the lines that are kept."""
        self.lines.clear()
        self.names.clear()
        self._rooms.clear()
        self._weights.clear()
        self._sizes.clear()
        self.forget_shapes()

    def forget_shapes(self) -> None:
        """Drop the shapes, and the verdicts that they keep."""
        for _, shapes in self._starts.values():
            shapes.clear()
        self._shapes = 0

    def read(self, raw: bytes) -> Head | None:
        """The head, as h11 reads it; None where h11 has to be asked.  It is plain (see `ask_h11`)."""
        lines = raw.split(b"\r\n")
        known = self._starts.get(lines[0])
        if known is None or lines[-2] or lines[-1] or len(raw) > self._max_head or len(lines) > self._max_lines:
            return None
        start, shapes = known
        del lines[0], lines[-2:]
        new = [*filterfalse(self._is_known, lines)]
        text = b"".join(new)
        if 13 in text or 10 in text or 0 in text or 11 in text or 12 in text:  # CR, LF, NUL, VT, FF
            return None
        private: dict[bytes, bytes] = {}
        repeats, learnt = False, 0
        private_name = self.names.get
        for line in new:
            name, colon, value = line.partition(b":")
            use = private_name(name)
            if use is None or not colon:
                learnt += 1
                use = self._judge(line, name, value, learnt <= LEARNT_AT_ONCE)
                if use is None:
                    return None
            if use:
                repeats = repeats or use in private
                private[use] = value
        key = (*filter(None, map(self.lines.get, lines)), *private)
        shape = None if repeats else shapes.get(key)
        head = start.with_fields(raw, private.get(SESSION), shape)
        if shape is None and not self._is_whole(head, private, shapes, key):
            return None
        length = private.get(LENGTH)
        if length is not None:
            size = self.size(length)
            if size < 0:
                return None
            head.size = head.content_length = size
        return head

    def _judge(self, line: bytes, name: bytes, value: bytes, learn: bool) -> bytes | None:
        """Look at a line that is not known, and keep it or its name if there is room.

        Gives the name in lower case where the value is private or has a weight, b"" for other fields, and None where
        h11 has to be asked.
        """
        known = name.lower()
        if len(name) == len(line) or not _is_name(name) or not _is_ordinary(known, value.strip()):
            return None
        if known in self._weighty:
            self._keep_weighty(line, known)
            return known
        use = known if known in PRIVATE else b""
        if learn and len(name) <= KNOWN_LINE_SIZE:
            room = 0 if use else self._rooms.get(known, LINES_OF_A_NAME if len(self._rooms) < KNOWN_NAMES else -1)
            if room > 0:
                self._rooms[known] = room - 1
                if len(line) <= KNOWN_LINE_SIZE and len(self.lines) < KNOWN_LINES:
                    self.lines[line] = b""
            elif room == 0 and len(self.names) < KNOWN_NAMES:
                self.names[name] = use
        return use

    def _keep_weighty(self, line: bytes, name: bytes) -> None:
        """Keep a line of weight, for which there is always room: heads without one that is known have no shape."""
        if len(line) > KNOWN_LINE_SIZE:
            return
        kept = self._weights.setdefault(name, set())
        if len(kept) >= LINES_OF_A_NAME:
            for old in kept:
                del self.lines[old]
            kept.clear()
        kept.add(line)  # once, however often the head has it
        self.lines[line] = line

    def _is_whole(self, head: Head, private: dict[bytes, bytes], shapes: Shapes, key: tuple[bytes, ...]) -> bool:
        """Look at a head as a whole, each line of which is right.  The next one like it has its shape, if it can."""
        names = [name for name, _ in head.headers]
        if names.count(b"host") != 1 or names.count(LENGTH) > 1:
            return False
        weights = [name for name in names if name in self._weighty or name in PRIVATE]
        # A name of `_weighty` in `private` is that of a line that was not known, so the key says nothing of its value.
        if len(set(weights)) == len(weights) and self._weighty.isdisjoint(private):
            if self._shapes >= MAX_SHAPES:
                self.forget_shapes()
            self._shapes += 1
            head.shape = shapes[key] = HeadShape()
        head.session = head.fields.get(SESSION)
        return True

    def size(self, value: bytes) -> int:
        """The Content-Length with this value; -1 where h11 has to be asked."""
        known = self._sizes.get(value)
        if known is not None:
            return known
        digits = value.strip()
        if not digits.isdigit() or len(digits) > LENGTH_DIGITS:
            return -1
        size = int(digits)
        if len(value) <= MAX_SIZE:
            if len(self._sizes) >= MAX_SIZES:
                self._sizes.clear()
            self._sizes[value] = size
        return size


def _is_ordinary(name: bytes, value: bytes) -> bool:
    """Whether a field that frames or routes a message says nothing beyond the usual; True for other fields."""
    if name == b"host":
        return is_host_field(value)
    if name == b"connection":
        return b"close" not in value.lower()
    return name == LENGTH or name not in _FRAMING
