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

A line that was read is kept, which saves half of the work on it and no more; so a client that sends new lines for ever
takes little from its neighbours.  The lines of one name are kept up to `LINES_OF_A_NAME`, some of each head only, and
none of a name with secret values.  All is dropped after `HEADS_REMEMBERED` heads, so that no line of a client stays.
"""

from __future__ import annotations

import re
from sys import maxsize
from typing import Any

from .addresses import is_host_field
from .messages import Head, Limits

MAX_STARTS = 64  # request lines
MAX_START = 256  # bytes of one
KNOWN_LINES = 1024  # lines that are kept
KNOWN_LINE_SIZE = 256  # bytes of one
KNOWN_NAMES = 128  # names with lines that are kept, and as many that have no room for more
LINES_OF_A_NAME = 32  # lines of one name
LEARNT_AT_ONCE = 8  # lines of one head
HEADS_REMEMBERED = 1 << 16
LENGTH_DIGITS = 18  # of a Content-Length
NO_FIELDS = 3  # parts of a head between its line ends that are no field: the first, and two at the blank line

Pair = tuple[bytes, bytes]

_is_name = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch  # token of RFC 9110 5.6.2
# h11 or `ask_h11` read the values of these fields.
_FRAMING = frozenset((b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"))
# Their values differ from client to client and are secrets: they are looked at and not kept.
_SECRET = frozenset((b"authorization", b"cookie", b"mcp-session-id", b"proxy-authorization"))
_BLANKS = b" \t\r"


class HeadLines:
    """Reads heads by their lines, for one server.  `learn` a head that h11 has accepted; then `read` others."""

    __slots__ = ("_free", "_left", "_max_head", "_max_lines", "_rooms", "_starts", "lines")

    def __init__(self) -> None:
        self._max_head = self._max_lines = maxsize
        self.lines: dict[bytes, Pair] = {}  # a line with its CR: the name in lower case, the value
        self._free: dict[bytes, bytes] = {}  # names without room for lines, and the same in lower case
        self._rooms: dict[bytes, int] = {}  # lines that may still be kept, by the name in lower case
        self._starts: dict[bytes, Head] = {}  # a request line with its CR: a head without fields
        self._left = HEADS_REMEMBERED

    def limit(self, limits: Limits) -> None:
        """Take the limits of the connections; a longer request line was never learnt."""
        self._max_head = limits.max_head or maxsize
        self._max_lines = maxsize if limits.max_fields is None else limits.max_fields + NO_FIELDS

    def learn(self, raw: bytes, head: Head) -> None:
        """Take the request line of a plain head that h11 has accepted."""
        start = raw[: raw.index(b"\n")]
        if len(start) > MAX_START or not start.endswith(b"\r") or not head.target.startswith("/"):
            return
        if len(self._starts) >= MAX_STARTS:
            self._starts.clear()
        self._starts[start] = Head(head.method, head.target, head.target, head.version, ())

    def forget(self) -> None:
        """Drop the lines that are kept."""
        self.lines.clear()
        self._free.clear()
        self._rooms.clear()
        self._left = HEADS_REMEMBERED

    def read(self, raw: bytes) -> Head | None:
        """The head, as h11 reads it; None where h11 has to be asked.  It is plain (see `ask_h11`)."""
        lines = raw.split(b"\n")
        start = self._starts.get(lines[0])
        if (
            start is None
            or lines[-2] != b"\r"
            or len(raw) > self._max_head
            or len(lines) > self._max_lines
            or raw.find(b"\0") >= 0
            or raw.find(b"\v") >= 0
            or raw.find(b"\f") >= 0
        ):
            return None
        del lines[0], lines[-2:]
        found: list[Any] = [*map(self.lines.get, lines)]
        free = self._free.get
        learnt = 0
        for place, pair in enumerate(found):
            if pair is None:
                line = lines[place]
                name, _, value = line.partition(b":")
                known = free(name)
                if known is None:
                    learnt += 1
                    judged = self._judge(line, name, value, learnt <= LEARNT_AT_ONCE)
                    if judged is None:
                        return None
                    found[place] = judged
                else:
                    value, end, rest = value.partition(b"\r")
                    if rest or not end:
                        return None
                    # The whole head has no other white space than blanks and line ends.
                    found[place] = known, value.strip()
        return self._whole(start, tuple(found))

    def _whole(self, start: Head, pairs: tuple[Pair, ...]) -> Head | None:
        fields = dict(pairs)
        if len(fields) != len(pairs):  # a name repeats
            names = [name for name, _ in pairs]
            if names.count(b"host") > 1 or names.count(b"content-length") > 1:
                return None
            fields = dict(reversed(pairs))
        if b"host" not in fields:
            return None
        self._left -= 1
        if not self._left:
            self.forget()
        head = start.with_headers(pairs, fields)
        length = fields.get(b"content-length")
        if length is not None:
            head.size = head.content_length = int(length)
        return head

    def _judge(self, line: bytes, name: bytes, value: bytes, learn: bool) -> Pair | None:
        """The field in a line that is not known, as h11 reads it; None where h11 has to be asked."""
        if line.find(b"\r") + 1 != len(line):
            return None
        known, value = name.lower(), value.strip(_BLANKS)
        framing = known in _FRAMING
        if not (_is_ordinary(known, value) if framing else _is_name(name)):
            return None
        if learn:
            room = (
                0
                if known in _SECRET
                else self._rooms.get(known, LINES_OF_A_NAME if len(self._rooms) < KNOWN_NAMES else -1)
            )
            if room > 0:
                self._rooms[known] = room - 1
                if len(line) <= KNOWN_LINE_SIZE and len(self.lines) < KNOWN_LINES:
                    self.lines[line] = known, value
            elif room == 0 and not framing and len(self._free) < KNOWN_NAMES:
                self._free[name] = known
        return known, value


def _is_ordinary(name: bytes, value: bytes) -> bool:
    """Whether a field of `_FRAMING` says nothing beyond the usual."""
    if name == b"host":
        return is_host_field(value)
    if name == b"content-length":
        return value.isdigit() and len(value) <= LENGTH_DIGITS
    return name == b"connection" and b"close" not in value.lower()
