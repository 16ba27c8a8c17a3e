# SPDX-License-Identifier: MIT
"""HTTP/1.1 for both ends, sans-IO.  Server: bytes in, whole `HTTPRequest`s out; an answer in, bytes out.  Client: a
request in, bytes out; bytes in, an `AnswerHead` and the pieces of its body out, as they come.

The rule it keeps: **h11 is the authority on syntax, and it sees each distinct request head once.**  Clients repeat the
same head byte for byte, so what h11 said of a plain head (HTTP/1.1, keep-alive, a Content-Length or no body, no
Expect, no Upgrade, at most 4 KiB) is kept in a `HeadCache` under the exact bytes and used again.  Any other head is
read by h11 each time, and chunked bodies are decoded by it.  Answer heads are written by h11, once per status and
header set; only the length and the date are spliced in afterwards.

Some fields may vary: a head that equals a cached one but for the values of fields that the cache was told of, ids of
letters, digits, "-" and "_", is the same head with other ids (`HeadCache` says why that is so).

Where h11 is laxer than a server on the open internet may be, this module refuses, on both paths alike:
Content-Length beside Transfer-Encoding, repeated Content-Length, Transfer-Encoding on HTTP/1.0, versions other than
1.0 and 1.1, obs-fold, a Host that is no authority, a target of no known form, and everything past `Limits`, which
are counted here so that they do not depend on how the bytes were cut.

The client end asks h11 about each distinct head that it reads or writes (`AnswerCache`), and is as strict where the two
ends could disagree on where an answer ends.  Obsolete folds it reads as spaces, as RFC 9112 5.2 wants of a user agent.

It refuses to know anything of MCP, of sockets, of time.  It never reads a next request before `response_done()`, nor
sends a next one before the answer's end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from http import HTTPStatus
from sys import maxsize
from typing import Any, Final

import h11

from .addresses import is_ipv6
from .errors import Refusal, again

# Heads larger than this are rare and rarely repeat; an ordinary MCP head is 300 to 600 bytes.
MAX_CACHED_HEAD = 4 * 1024
MAX_CACHED_HEADS = 1024
MAX_MODELS = 256
MAX_TEMPLATES = 256
# RFC 9112 2.2: "a server ... SHOULD ignore at least one empty line (CRLF) received prior to the request-line".
MAX_LEADING_CRLF = 2
# What h11 is handed at once of a chunked body when more is buffered.  It grows with the body, so that giving back
# what was too much stays linear for many small requests and cheap for one large one.
FIRST_PIECE = 2 * 1024
LARGEST_PIECE = 64 * 1024
# So many pieces of a chunked body are decoded by one call, of 4 us each: with a hundred connections that send nothing
# but tiny chunks, a neighbour waits 26 ms for its turn.  A read of 64 KiB may have 10,000 chunks.
MAX_CHUNKS = 64
# The framing of a chunk with less data than this counts as overhead.  It is at least 5 bytes, so that `Limits` has room
# for 3,276 such chunks in a body; without this rule 4 MiB in chunks of one byte would be 12 s of CPU.
TINY_CHUNK = 64
# The framing of one chunk that has not ended yet: at most 20 hex digits (h11) and two line ends.
_OPEN_CHUNK = 24
# Answers of status 1xx before the answer: a server sends one or two (100, 103), if any.
MAX_INFORMATIONAL = 16
# What each chunk of an answer may carry beside its data without being held against the stream, which may have no end:
# a size padded with zeros, a signature of 64 hex digits.
CHUNK_ALLOWANCE = 256


class Signal(Enum):
    """What `next_event` returns when there is no request, or piece of an answer, to return."""

    NEED_DATA = "more bytes, please"
    PAUSED = "answer first, then call response_done()"
    CLOSED = "no further request will come from this connection"


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED
CLOSED: Final = Signal.CLOSED


class HTTPError(Refusal):
    """The peer broke HTTP or passed a limit: answer with `status` by `respond()`, then close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message, close=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes (and a count of fields), as the peer sent them; None switches one off.

    `max_request_line` includes the line end, `max_head` the request line and the blank line.  `max_chunk_overhead` is
    for all that a chunked body carries beside its data and the least framing: extensions, padding, trailers, and the
    framing of chunks with less than TINY_CHUNK bytes of data.
    """

    max_request_line: int | None = 8 * 1024
    max_head: int | None = 32 * 1024
    max_fields: int | None = 100
    max_body: int | None = 4 * 1024 * 1024
    max_chunk_overhead: int | None = 16 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ValueError(f"{field.name} must be positive, or None for no limit")


class Head:
    """What h11 said of one request head.  Shared by all requests that repeat it: treat it as read-only.

    `memo` is for the floors above, which keep verdicts there that depend on the head alone.
    """

    __slots__ = (
        "cached", "chunked", "content_length", "expect_continue", "headers", "keep_alive", "memo", "method",
        "path", "query", "size", "target", "version",
    )  # fmt: skip

    def __init__(
        self, method: str, target: str, path: str, version: str, headers: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = path.partition("?")
        self.version = version
        self.headers = headers
        self.content_length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.expect_continue = False
        self.memo: Any = None
        self.cached = False
        # Bytes of body to slice off after the head; -1: h11 knows (chunked).
        self.size = 0

    def with_values(self, places: list[int], values: list[bytes]) -> Head:
        """This head with other values in the fields at `places`.  For plain heads only."""
        fields = list(self.headers)
        for place, value in zip(places, values, strict=True):
            fields[place] = (fields[place][0], value)
        head: Head = Head.__new__(Head)
        head.method, head.target, head.version = self.method, self.target, self.version
        head.path, head.query = self.path, self.query
        head.headers = tuple(fields)
        head.content_length, head.size = self.content_length, self.size
        head.chunked = head.expect_continue = head.cached = False
        head.keep_alive = True
        head.memo = None
        return head

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        wanted = name.lower().encode("ascii")
        for found, value in self.headers:
            if found == wanted:
                return value.decode("latin-1")
        return None

    def get_all(self, name: str) -> list[str]:
        """All values of the header `name`, latin-1, in order."""
        wanted = name.lower().encode("ascii")
        return [value.decode("latin-1") for found, value in self.headers if found == wanted]


class HTTPRequest:
    """One whole request."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes) -> None:
        self.head = head
        self.body = body


Template = tuple[bytes, bytes, bytes]
Blanked = tuple[bytes, list[int], list[bytes]]  # a head without its ids; where they were; what they were


# An id of such letters means nothing to the grammar of HTTP, whatever its length.
_ID = "[0-9A-Za-z_-]+"
_is_id = re.compile(_ID).fullmatch
# Fields that h11 or this module look at: their values decide more than themselves.
_SPEAKING = frozenset(("connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"))


class HeadCache:
    """What h11 said of request heads and how it wrote answer heads.  One per server, shared by its connections.

    All its dicts are cleared when full: bounded, O(1), and nothing to keep in order on the hot path.

    Args:
        varying: names of fields whose values may differ where everything else repeats: ids of sessions, of requests.

    A head that h11 has accepted is kept a second time, as a model, with the values of those fields blanked by NULs,
    where they are ids.  Another head of the same key is the same but for those values, because

    - no head with a NUL of its own gets here, so that all NULs in a key are blanks, each as long as the value that was
      there, since it stands between "name: " and a line end: equal keys have their values in the same places;
    - a value is all that its line holds, of characters that end no line and fold none.  h11 judges a head line by
      line, and compares no fields but those in `_SPEAKING` with others;
    - every limit was tested on a head's own bytes before it is looked up here, and a model has as many fields.

    Raises:
        ValueError: h11 or this module look at such a field.
    """

    __slots__ = ("_ids", "_varying", "heads", "limits", "max_head_bytes", "max_heads", "models", "templates")

    def __init__(
        self,
        max_heads: int = MAX_CACHED_HEADS,
        max_head_bytes: int = MAX_CACHED_HEAD,
        varying: tuple[str, ...] = (),
    ) -> None:
        for name in varying:
            if name.lower() in _SPEAKING:
                raise ValueError(f"what {name} says decides more than its own value")
        self.max_heads = max_heads
        self.max_head_bytes = max_head_bytes
        self.heads: dict[bytes, Head] = {}
        self.models: dict[bytes, tuple[Head, list[int]]] = {}  # a head, and which of its fields vary
        self.templates: dict[tuple[Any, ...], Template] = {}
        self.limits: Limits | None = None
        self._varying = varying
        line = rf"(?i:\r\n(?:{'|'.join(map(re.escape, varying))})): ({_ID})(?=\r\n)"
        self._ids = re.compile(line.encode("ascii")).finditer if varying else None

    def alike(self, raw: bytes) -> tuple[Head | None, Blanked | None]:
        """What h11 would say of a head, where one is known that differs in ids alone; and the head without them."""
        if self._ids is None or len(raw) > self.max_head_bytes or raw.find(b"\0") >= 0:
            return None, None
        pieces: list[bytes] = []
        values: list[bytes] = []
        places: list[int] = []
        at = 0
        for found in self._ids(raw):
            start, end = found.span(1)
            pieces += raw[at:start], bytes(end - start)
            values.append(found[1])
            places.append(start)
            at = end
        if not places:
            return None, None
        pieces.append(raw[at:])
        key = b"".join(pieces)
        model = self.models.get(key)
        if model is None:
            return None, (key, places, values)
        head = model[0].with_values(model[1], values)
        self.add_head(raw, head, None)
        return head, None

    def add_head(self, raw: bytes, head: Head, blanked: Blanked | None) -> None:
        """Remember what h11 said of a plain head, and as a model where it has ids."""
        if len(raw) > self.max_head_bytes:
            return
        if len(self.heads) >= self.max_heads:
            self.heads.clear()
        head.cached = True
        self.heads[raw] = head
        if blanked is None:
            return
        key, places, values = blanked
        # Each field is one line, and the request line is none: obsolete folds and repeated lengths were refused.
        fields = [raw.count(b"\n", 0, place) - 1 for place in places]
        if [head.headers[field][1] for field in fields] == values:
            if len(self.models) >= MAX_MODELS:
                self.models.clear()
            self.models[key] = (head, fields)

    def forget(self) -> None:
        """Let go of all request heads, and of the verdicts on them: what those depend on has changed."""
        self.heads.clear()
        self.models.clear()

    def template(
        self, status: int, headers: tuple[tuple[str, str], ...], close: bool, sized: bool, chunked: bool, dated: bool
    ) -> Template:
        """How h11 writes an answer head (see `_write_head`), once for all values of a varying field that comes last."""
        name, value = headers[-1] if headers else ("", "")
        if name not in self._varying or not _is_id(value):
            template = _write_head(status, headers, close, sized, chunked, dated)
            self._add_template((status, headers, close, sized, chunked, dated), template)
            return template
        key = (status, headers[:-1], name, close, sized, chunked, dated)
        known = self.templates.get(key)
        if known is None:
            known = _write_head(status, headers, close, sized, chunked, dated)
            self._add_template(key, known)
        # What h11 wrote for the first value, with this one in its place.
        before_date, before_length, rest = known
        mark = f"\r\n{name}: ".encode("ascii")
        start = rest.rindex(mark) + len(mark)
        return before_date, before_length, rest[:start] + value.encode("ascii") + rest[rest.index(b"\r\n", start) :]

    def _add_template(self, key: tuple[Any, ...], template: Template) -> None:
        if len(self.templates) >= MAX_TEMPLATES:
            self.templates.clear()
        self.templates[key] = template


# --- Reading heads -------------------------------------------------------------------------------------------------

# The same definition of "end of head" as h11's: line ends may lack their CR (RFC 9112 2.2 allows it).
_BLANK_LINE = re.compile(rb"\n\r?\n")
_OBS_FOLD = re.compile(rb"\n[ \t]")
_CONTENT_LENGTH = re.compile(rb"(?i:\ncontent-length:)[ \t]*([^\r\n]*)")
# RFC 3986 3.2 without userinfo, which RFC 9110 4.2.4 forbids here: IP-literal, or reg-name (IPv4 is one), then a port.
_AUTHORITY = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})(?::[0-9]{0,5})?"
)
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)


def _translate(error: h11.RemoteProtocolError) -> HTTPError:
    # h11 quotes the offending bytes; an answer does not echo them.
    return HTTPError(error.error_status_hint, str(error).partition(": bytearray")[0][:200])


def _tokens(headers: list[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    return {token.strip() for found, value in headers if found == name for token in value.lower().split(b",")}


def _is_authority(text: bytes) -> bool:
    if not _AUTHORITY.fullmatch(text):
        return False
    return not text.startswith(b"[") or is_ipv6(text[1:].partition(b"]")[0].decode("ascii"))


def _path(method: bytes, target: bytes, host: bytes | None) -> bytes:
    # RFC 9112 3.2: origin-form, absolute-form, authority-form (CONNECT), asterisk-form.
    if target.startswith(b"/") or target == b"*" or method == b"CONNECT":
        return target
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if not absolute or not _is_authority(absolute[1]):
        raise HTTPError(400, "Illegal request target")
    # RFC 9112 3.2.2 lets the target win over Host.  The two agree in every honest request, and a policy on Host must
    # not be passed by with a target that says something else.
    if host is not None and host.lower() != absolute[1].lower():
        raise HTTPError(400, "Host header and request target disagree")
    rest = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _set_framing(head: Head, raw: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        if name == b"content-length":
            head.size = head.content_length = int(value)
        elif name == b"transfer-encoding":
            head.chunked = True
    if head.chunked:
        # RFC 9112 6.1: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header
        # field MUST treat the message as if the framing is faulty", and a message with both fields "ought to be
        # handled as an error".
        if head.version != "1.1":
            raise HTTPError(400, "Transfer-Encoding in an HTTP/1.0 request")
        if head.content_length is not None:
            raise HTTPError(400, "Content-Length and Transfer-Encoding in one request")
        head.size = -1
    elif head.content_length is not None:
        # h11 folds equal values into one; RFC 9112 6.3 lets a server refuse them instead.
        sent = _CONTENT_LENGTH.findall(raw)
        if len(sent) != 1 or b"," in sent[0]:
            raise HTTPError(400, "Repeated Content-Length")


def _ask_h11(raw: bytes, max_fields: int) -> tuple[Head, h11.Connection, bool]:
    """Has h11 read a head; then says where we are stricter.  The `Head`, the h11 connection, and whether it is plain.

    Raises HTTPError.
    """
    # Counted before h11 reads them: 100,000 fields take it 0.16 s.
    if raw.count(b"\n") - 2 > max_fields:
        raise HTTPError(431, "Too many header fields")
    # No limit of h11's applies: it is tested on some cuts only.
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=maxsize)
    connection.receive_data(raw)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise _translate(error) from None
    assert type(request) is h11.Request
    if request.http_version not in (b"1.0", b"1.1"):
        raise HTTPError(505, "HTTP version not supported")
    if _OBS_FOLD.search(raw):
        raise HTTPError(400, "Obsolete line folding")
    # A third of the time that its own iterator takes.
    headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
    names = dict(headers)
    host = names.get(b"host")
    if host is not None and not _is_authority(host):
        raise HTTPError(400, "Illegal Host header")
    method = request.method
    head = Head(
        method.decode("ascii"),
        request.target.decode("ascii"),
        _path(method, request.target, host).decode("ascii"),
        request.http_version.decode("ascii"),
        tuple(headers),
    )
    _set_framing(head, raw, headers)
    # After CONNECT the two ends may disagree on who speaks what; it is never granted, so it ends the connection.
    if (
        head.version != "1.1"
        or method == b"CONNECT"
        or (b"connection" in names and b"close" in _tokens(headers, b"connection"))
    ):
        head.keep_alive = False
    if b"expect" in names and head.version == "1.1":
        head.expect_continue = b"100-continue" in _tokens(headers, b"expect")
    plain = head.keep_alive and not head.chunked and b"expect" not in names and b"upgrade" not in names
    return head, connection, plain


# --- Writing heads -------------------------------------------------------------------------------------------------

_BODILESS = frozenset((204, 304))
_OURS = frozenset(("content-length", "transfer-encoding", "connection"))
_ANY_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"
_ANY_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def _write_head(
    status: int, headers: tuple[tuple[str, str], ...], close: bool, sized: bool, chunked: bool, dated: bool
) -> Template:
    """Has h11 write an answer head; (up to the date, up to the length, the rest), the parts that do not apply empty."""
    lines = [("Date", _ANY_DATE)] if dated else []
    if sized:
        lines.append(("Content-Length", "0"))
    for name, _ in headers:
        if name.lower() in _OURS:
            raise ValueError(f"{name} is written by the connection")
    lines += headers
    if close:
        lines.append(("Connection", "close"))
    connection = h11.Connection(h11.SERVER)
    if chunked:
        # Without a request h11 assumes that the peer cannot read chunks.
        connection.receive_data(_ANY_REQUEST)
        connection.next_event()
    try:
        response = h11.Response(status_code=status, headers=lines, reason=_PHRASES.get(status, ""))
        out = connection.send(response)
    except h11.LocalProtocolError as error:
        raise ValueError(str(error)) from None
    assert out is not None
    # No header value can hold a line end (h11 has checked), so the first match is the line that was put first.
    before_date = before_length = b""
    if dated:
        before_date, _, out = out.partition(_ANY_DATE.encode("ascii"))
    if sized:
        before_length, mark, out = out.partition(b"\r\nContent-Length: ")
        before_length += mark
        out = out[1:]
    return before_date, before_length, out


# --- Chunked bodies ------------------------------------------------------------------------------------------------


_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_MAX_DIGITS = 20  # of a size that h11 reads


class _ChunkSizes:
    """Reads the sizes of chunks beside h11, which tells of a chunk only when the first byte of its data is there.

    It judges no syntax: where a line is no size it stops, since h11 refuses that line.
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


class _ChunkedBody:
    """A body that h11 decodes, and the count of what it carries beside its data, which h11 does not keep."""

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
        self.size = 0  # of the body so far, of which some may have been taken
        self.more = False  # it stopped for now, with bytes left to decode
        self.behind = b""  # what stood behind the body in that which h11 was given

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
                    # Here h11 has read all that it was given, so that what it refuses comes first.
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
            raise _translate(error) from None
        self.behind = self._connection.trailing_data[0]
        self._fed -= len(self.behind)
        self._exempt += len(b"0\r\n\r\n")
        self._check_overhead(0)
        return True, start - len(self.behind)

    def take(self) -> bytes:
        """What has been decoded and was not taken yet."""
        data, self.data = bytes(self.data), bytearray()
        return data

    def _add(self, event: h11.Data) -> None:
        self.data += event.data
        self.size += len(event.data)
        if self.size > self._max_size:
            raise HTTPError(413, "Request body too large")
        self._open_chunk += len(event.data)
        if event.chunk_end:
            # What no sender can leave out: the size in hex and two line ends.  It could send fewer and larger chunks.
            if self._open_chunk >= self._tiny:
                self._exempt += len(b"%x" % self._open_chunk) + 4
            self._open_chunk = 0

    def _check_overhead(self, slack: int) -> None:
        self._refuse_past_limit(self._fed - self.size - self._exempt - slack)

    def _refuse_past_limit(self, overhead: int) -> None:
        if overhead > self._max_overhead:
            raise HTTPError(413, "Too much overhead in a chunked body")


# --- The connection ------------------------------------------------------------------------------------------------

# Where the connection is.  The order matters to receive_data: bytes are kept up to _RESPONDING, dropped from
# _DRAINING on.
_READY = 0  # between requests, or in a head
_CHUNKS = 1  # h11 decodes a chunked body
_RESPONDING = 2  # a whole request was handed out and the connection may be used again after the answer
_BODY = 3  # a length-delimited body is arriving
_DRAINING = 4  # an answer is due or under way, and it is the last one
_CLOSED = 5

# What has been sent of the answer.
_NOTHING = 0
_STREAM = 1
_WHOLE = 2


class ServerConnection:
    """One connection.  Feed `receive_data`, ask `next_event` until it returns a `Signal`, answer, `response_done()`.

    Hand in what one read gave, at most some 64 KiB, so that other connections get their turn.

    Attributes:
        head: the request that is being received or answered, else None.
        requests: how many requests were handed out.
        decoded: pieces of chunked bodies that were decoded, in all; each costs some microseconds.
        eof: the peer will send nothing more (a half-closed peer still gets its answers).
        closing: close the transport now; `next_event` returns CLOSED.
        awaiting_body: bytes of a length-delimited body that have not arrived.
    """

    __slots__ = (
        "_answer", "_blank_lines", "_body", "_buffer", "_cache", "_chunks", "_close", "_framed", "_heads", "_limits",
        "_max_body", "_max_cached", "_scanned", "_start", "_state", "_templates", "_waiting", "awaiting_body",
        "closing", "decoded", "eof", "head", "requests",
    )  # fmt: skip

    def __init__(self, cache: HeadCache, limits: Limits) -> None:
        if cache.limits is None:
            cache.limits = limits
        elif cache.limits is not limits and cache.limits != limits:
            raise ValueError("connections that share a HeadCache need equal limits")
        self._cache = cache
        self._heads = cache.heads
        self._templates = cache.templates
        self._max_cached = cache.max_head_bytes
        self._limits = limits
        self._max_body = limits.max_body or maxsize
        # What has arrived and was not consumed starts at _start.  bytes as it was read; a bytearray as soon as
        # something has to be appended, which keeps many small reads linear.
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._scanned = 0
        self._blank_lines = 0
        self._body: bytes | bytearray = b""
        self._chunks: _ChunkedBody | None = None
        # The h11 connection of a request that expects 100 (Continue).
        self._waiting: h11.Connection | None = None
        self._state = _READY
        self._answer = _NOTHING
        self._close = False
        self._framed = False
        self.head: Head | None = None
        self.awaiting_body = 0
        self.requests = self.decoded = 0
        self.eof = False
        self.closing = False

    # -- in

    def receive_data(self, data: bytes) -> None:
        """Takes what one read gave; b"" is the end of the peer's bytes.  Call `next_event` next."""
        if not data:
            self.eof = True
        elif self._state <= _RESPONDING:
            if self._buffer:
                self._append(data)
            else:
                self._buffer = data
        elif self._state == _BODY:
            self._receive_body(data)

    def receive_whole(self, data: bytes) -> HTTPRequest | None:
        """The request, where `data` is all of one, its head is known and nothing is left of what came before.

        That is what most reads give, and this is `receive_data` and `next_event` at half their price.  Else None: the
        data is received, ask `next_event`.
        """
        if self._state == _READY and not self._buffer:
            # A cached head has no blank line but its last, so whatever starts with its bytes starts with that head;
            # it keeps the connection alive, and its body, if any, has a length.
            end = data.find(b"\r\n\r\n", 0, self._max_cached) + 4
            head = self._heads.get(data[:end])
            if head is not None and end + head.size == len(data) and head.size <= self._max_body:
                self.head = head  # as `_deliver`
                self._blank_lines = 0
                self.requests += 1
                self._state = _RESPONDING
                return HTTPRequest(head, data[end:])
        self.receive_data(data)
        return None

    def _append(self, data: bytes) -> None:
        buffer = self._buffer
        if type(buffer) is bytearray:
            # Deleting from the front of a bytearray moves a pointer.
            del buffer[: self._start]
        else:
            self._buffer = buffer = bytearray(buffer[self._start :])
        buffer += data
        self._start = 0

    def _receive_body(self, data: bytes) -> None:
        missing = self.awaiting_body
        if len(data) > missing:
            # The rest belongs to the next request.
            self._append(data[missing:])
            data = data[:missing]
        self.awaiting_body = missing - len(data)
        if not self._body:
            self._body = data
            return
        if type(self._body) is bytes:
            self._body = bytearray(self._body)
        self._body += data

    def next_event(self) -> HTTPRequest | Head | Signal:
        """The next whole request, once per request preceded by its `Head` if its body has not all arrived.

        After a `Head`: refuse it with `respond`, or send `continue_100()`, or just go on.  After an `HTTPRequest`:
        answer it, then `response_done()`; until then PAUSED.  NEED_DATA: call again after `receive_data`, or at the
        next turn where there is `more`.

        Raises:
            HTTPError: answer with its status by `respond`, which says `Connection: close`; then drain and close.
        """
        if self._state != _READY:
            return self._continue()
        buffer = self._buffer
        start = self._start
        head: Head | None = None
        # A cached head has no blank line but its last, so whatever starts with its bytes starts with that head.
        end = buffer.find(b"\r\n\r\n", start, start + self._max_cached) + 4
        if end != 3:
            head = self._heads.get(bytes(buffer[start:end]))
        if head is None:
            found = self._read_head()
            if type(found) is not Head:
                return found
            head = found
            end = self._start
        self.head = head
        size = head.size
        if size > self._max_body:
            raise self._refused(HTTPError(413, "Request body too large"))
        if size < 0:
            self._state = _CHUNKS
            return self._read_chunks() or (CLOSED if self.eof and not self.more else head)
        stop = end + size
        length = len(buffer)
        if stop > length:
            self._state = _BODY
            self._body = bytes(buffer[end:])
            self.awaiting_body = stop - length
            self._forget_buffer()
            return CLOSED if self.eof else head
        if stop == length:
            self._buffer = b""
            self._start = 0
        else:
            self._start = stop
        return self._deliver(head, bytes(buffer[end:stop]))

    def _deliver(self, head: Head, body: bytes) -> HTTPRequest:
        self._scanned = self._blank_lines = 0
        self._waiting = None
        self.requests += 1
        if head.keep_alive:
            self._state = _RESPONDING
        else:
            self._drain()
        return HTTPRequest(head, body)

    def _continue(self) -> HTTPRequest | Signal:
        """`next_event` anywhere but between requests."""
        state = self._state
        if state == _BODY:
            if self.awaiting_body:
                return CLOSED if self.eof else NEED_DATA
            assert self.head is not None
            body, self._body = bytes(self._body), b""
            return self._deliver(self.head, body)
        if state == _CHUNKS:
            return self._read_chunks() or (CLOSED if self.eof and not self.more else NEED_DATA)
        return CLOSED if state == _CLOSED else PAUSED

    def _read_head(self) -> Head | Signal:
        """A head that the cache does not know, or not at this place; leaves `_start` behind it."""
        buffer = self._buffer
        start = self._start
        while self._blank_lines < MAX_LEADING_CRLF and buffer.startswith(b"\r\n", start):
            self._blank_lines += 1
            start += 2
        self._start = start
        available = len(buffer) - start
        if not available:
            self._forget_buffer()
            return CLOSED if self.eof else NEED_DATA
        if buffer[start] < 0x21:
            if available == 1 and buffer[start] == 0x0D and self._blank_lines < MAX_LEADING_CRLF:
                return CLOSED if self.eof else NEED_DATA
            # h11 gives up here too: most often it is TLS, spoken to a plain port.
            raise self._refused(HTTPError(400, "Illegal request line"))
        # Both limits are tested against what has arrived, so that a head cannot grow past them; a byte more or less in
        # one read makes no difference.
        max_head = self._limits.max_head or maxsize
        max_line = min(self._limits.max_request_line or maxsize, max_head)
        if available >= max_line and buffer.find(b"\n", start, start + max_line) < 0:
            raise self._refused(HTTPError(414, "Request line too long"))
        blank = _BLANK_LINE.search(buffer, start + max(0, self._scanned - 2), start + min(max_head, available))
        if blank is not None:
            self._start = blank.end()
            return self._judge(bytes(buffer[start : self._start]))
        if available >= max_head:
            raise self._refused(HTTPError(431, "Request head too large"))
        self._scanned = available
        return CLOSED if self.eof else NEED_DATA

    def _judge(self, raw: bytes) -> Head:
        head = self._heads.get(raw)
        if head is not None:
            return head
        head, blanked = self._cache.alike(raw)
        if head is not None:
            return head
        try:
            head, connection, plain = _ask_h11(raw, self._limits.max_fields or maxsize)
        except HTTPError as error:
            raise self._refused(error) from None
        if plain:
            self._cache.add_head(raw, head, blanked)
        elif head.chunked:
            overhead = self._limits.max_chunk_overhead or maxsize
            self._chunks = _ChunkedBody(connection, self._max_body, overhead, TINY_CHUNK)
        if head.expect_continue:
            self._waiting = connection
        return head

    def _read_chunks(self) -> HTTPRequest | None:
        """The request when its body has ended in what is buffered, else None."""
        chunks = self._chunks
        head = self.head
        assert chunks is not None and head is not None
        try:
            ended, self._start = chunks.read(self._buffer, self._start)
        except HTTPError as error:
            raise self._refused(error) from None
        self.decoded += chunks.decoded
        if self._start < 0:
            self._buffer = chunks.behind[: -self._start] + self._buffer
            self._start = 0
        if self._start == len(self._buffer):
            self._forget_buffer()
        if not ended:
            return None
        self._chunks = None
        return self._deliver(head, bytes(chunks.data))

    def _forget_buffer(self) -> None:
        self._buffer = b""
        self._start = 0

    def _refused(self, error: HTTPError) -> HTTPError:
        self._drain()
        return error

    def _drain(self) -> None:
        """From here on whatever arrives is dropped, and the answer is the last one."""
        self._state = _DRAINING
        self._forget_buffer()
        self._body = b""
        self._chunks = self._waiting = None
        self.awaiting_body = 0

    # -- out

    def continue_100(self) -> bytes:
        """`100 Continue`, if the client waits for it before it sends its body; else b""."""
        waiting = self._waiting
        if waiting is None or self.body_received or not waiting.they_are_waiting_for_100_continue:
            return b""
        return waiting.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def respond(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, *, date: bytes = b"") -> bytes:
        """A whole answer.  Call `response_done()` when it was written.

        `Content-Length` and `Connection` are set here.  HEAD, 204 and 304 get no body; 204 and 304 no length either.
        Before a request is complete (a refusal, a timeout) the answer closes the connection.

        Raises:
            ValueError: a header that cannot be sent, or that is written here.
            RuntimeError: the request has been answered.
        """
        close = self._close or self._state != _RESPONDING
        if status in _BODILESS:
            out = self._write_head(status, headers, close, False, date)
        else:
            dated = bool(date)
            template = self._templates.get((status, headers, close, True, False, dated)) or self._cache.template(
                status, headers, close, True, False, dated
            )
            before_date, before_length, rest = template
            head = self.head
            sent = b"" if head is not None and head.method == "HEAD" else body
            out = b"%b%b%b%d%b%b" % (before_date, date, before_length, len(body), rest, sent)
        # As `_begin_answer`, for the answer that most requests get.
        if self._answer != _NOTHING or self._state == _CLOSED:
            raise RuntimeError("the request has been answered")
        self._answer = _WHOLE
        if close:
            self._drain()
        return out

    def start_stream(self, status: int, headers: tuple[tuple[str, str], ...], *, date: bytes = b"") -> bytes:
        """The head of an answer of unknown length: chunked on 1.1, up to the close on 1.0.  Then `send_chunk`.

        Raises: as `respond`; ValueError also for 204 and 304, which have no body.
        """
        if status in _BODILESS:
            raise ValueError(f"{status} has no body to stream")
        chunked = self.head is not None and self.head.version == "1.1"
        close = self._close or self._state != _RESPONDING
        out = self._write_head(status, headers, close, chunked, date)
        self._begin_answer(_STREAM, close)
        self._framed = chunked
        return out

    def send_chunk(self, data: bytes) -> bytes:
        """The bytes for a piece of the stream; b"" for an empty piece, or after HEAD."""
        if self._answer != _STREAM:
            raise RuntimeError("no stream is open")
        if not data or self._is_head():
            return b""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._framed else data

    def forget_head(self) -> None:
        """Let go of what was asked: a stream that has begun is written without it, and may stand for days."""
        if self._answer == _STREAM and not self._is_head():
            self.head = None

    def end_stream(self) -> bytes:
        """The bytes that end the stream.  Call `response_done()` when they were written."""
        if self._answer != _STREAM:
            raise RuntimeError("no stream is open")
        self._answer = _WHOLE
        return b"0\r\n\r\n" if self._framed and not self._is_head() else b""

    def response_done(self) -> bool:
        """The answer was written: the next request may be read, or `closing` is set.  Returns `idle`.

        Without a whole answer (a call that was given up, a stream that broke off) the connection cannot go on.
        """
        self.head = None
        if self._state == _RESPONDING and self._answer == _WHOLE and not self._close:
            self._state = _READY
            self._answer = _NOTHING
            return not self._buffer
        self._drain()
        self._state = _CLOSED
        self._answer = _NOTHING
        self.closing = True
        return False

    def close_after(self) -> None:
        """The answer to come says `Connection: close`, and nothing is read after it."""
        self._close = True

    def _is_head(self) -> bool:
        head = self.head
        return head is not None and head.method == "HEAD"

    def _begin_answer(self, answer: int, close: bool) -> None:
        if self._answer != _NOTHING or self._state == _CLOSED:
            raise RuntimeError("the request has been answered")
        self._answer = answer
        if close:
            # Of a request that has not all arrived nothing more is wanted, and no next one.
            self._drain()

    def _write_head(
        self, status: int, headers: tuple[tuple[str, str], ...], close: bool, chunked: bool, date: bytes
    ) -> bytes:
        """A head without Content-Length."""
        dated = bool(date)
        template = self._templates.get((status, headers, close, False, chunked, dated)) or self._cache.template(
            status, headers, close, False, chunked, dated
        )
        return template[0] + date + template[2]

    # -- where it is

    @property
    def must_close(self) -> bool:
        """The connection ends with the answer that is due, under way or last given."""
        return self._close or self._state >= _BODY or self._state == _CHUNKS

    @property
    def receiving_body(self) -> bool:
        """A head has been seen and its body is outstanding."""
        return self._state == _BODY or self._state == _CHUNKS

    @property
    def more(self) -> bool:
        """Of a chunked body more has arrived than was decoded: call `next_event` again without new bytes, but let
        others have their turn first."""
        return self._chunks is not None and self._chunks.more

    @property
    def body_received(self) -> int:
        """Bytes of the body that have arrived of the request that is being received."""
        return len(self._chunks.data) if self._chunks is not None else len(self._body)

    @property
    def idle(self) -> bool:
        """No request is being received or answered, and no byte of a next one is here."""
        return self._state == _READY and not self._buffer

    @property
    def buffered(self) -> int:
        """Bytes held: not consumed yet, or of a body that is not complete."""
        return len(self._buffer) - self._start + self.body_received


# --- The client's end ----------------------------------------------------------------------------------------------


class AnswerError(Exception):
    """The server broke HTTP or passed a limit: close the connection.

    Attributes:
        begun: whether any byte had come since the request.
    """

    def __init__(self, message: str, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class AnswerCutShort(AnswerError):
    """The server's bytes ended before the answer did."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Sizes in bytes and counts, of what a server sends.

    `max_head` includes the status line and the blank line, and holds for each informational answer, too.
    `max_chunk_overhead` is for what a chunked body carries beside its data and the least framing; each chunk that has
    ended takes CHUNK_ALLOWANCE off what was counted, so that an event stream may go on for ever.  Bodies have no limit
    here: they are given out in the pieces in which they come, and nothing of them is kept.
    """

    max_head: int = 32 * 1024
    max_fields: int = 100
    max_chunk_overhead: int = 16 * 1024
    max_informational: int = MAX_INFORMATIONAL

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be positive")


class AnswerEnd(Enum):
    """What `ClientConnection.next_event` returns when nothing is outstanding."""

    END = "the answer has been read to its end"


END: Final = AnswerEnd.END


class AnswerHead:
    """Status and headers (names in lower case) of one answer.

    Attributes:
        keep_alive: the connection can carry another request after this answer.
    """

    __slots__ = ("_values", "headers", "keep_alive", "status")

    def __init__(self, status: int, headers: tuple[tuple[bytes, bytes], ...], keep_alive: bool) -> None:
        self.status = status
        self.headers = headers
        self.keep_alive = keep_alive
        self._values = dict(reversed(headers))  # the first of a name is the last that is put in

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        value = self._values.get(name.lower().encode("ascii"))
        return None if value is None else value.decode("latin-1")


class AnswerCache:
    """What h11 said of heads, for the connections of one client; all of them need equal limits.

    Of requests: how a head is written whose body has another length.  Of answers: those that are one with the bytes of
    an earlier one, say how long their body is, and leave the connection open.  Servers date their answers, so that it
    is the calls of one second that have such answers; at a lower rate h11 is asked, as it is of everything else.
    """

    def __init__(self, max_heads: int = 64) -> None:
        self.limits: ClientLimits | None = None
        self.requests: dict[tuple[object, ...], bytes] = {}
        self.answers: dict[bytes, tuple[AnswerHead, int]] = {}
        self._max_heads = max_heads

    def add_request(self, key: tuple[object, ...], head: bytes, length: int) -> None:
        """Remember what is before the length, which h11 writes last because it is given last."""
        before, end = head[: -len(b"%d\r\n\r\n" % length)], b"\r\nContent-Length: %d\r\n\r\n" % length
        if head.endswith(end) and len(head) <= MAX_CACHED_HEAD:
            if len(self.requests) >= self._max_heads:
                self.requests.clear()
            self.requests[key] = before

    def add_answer(self, raw: bytes, head: AnswerHead, size: int) -> None:
        """Remember it if it is such a one."""
        if size >= 0 and head.keep_alive and len(raw) <= MAX_CACHED_HEAD:
            if len(self.answers) >= self._max_heads:
                self.answers.clear()
            self.answers[raw] = head, size


# RFC 9110 8.6: "A user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed
# content and it is not sending Transfer-Encoding."
_WITH_CONTENT = frozenset(("POST", "PUT", "PATCH"))
_STATUS_LINE = b"HTTP/"
_QUOTED = re.compile(r":? b['\"]")

# The body of a request is kept until its answer has begun, in case h11 has to be told of it; a longer one at once.
MAX_KEPT_BODY = 64 * 1024

# Where the body of an answer ends: after so many bytes, or
_AT_CLOSE = -1
_CHUNKED = -2

# Where a client's connection is.
_IDLE = 0  # nothing is outstanding
_HEAD = 1
_IN_BODY = 2


def _write_request(
    method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
) -> tuple[h11.Connection, bytes]:
    lines = list(headers)
    for name, _ in lines:
        if name.lower() in _OURS:
            raise ValueError(f"{name} is written by the connection")
    if body or method in _WITH_CONTENT:
        lines.append(("Content-Length", str(len(body))))
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=maxsize)
    try:
        head = connection.send(h11.Request(method=method, target=target, headers=lines))
    except h11.LocalProtocolError as error:
        # Without the value that h11 quotes: it may be a secret.
        raise ValueError(_QUOTED.split(str(error))[0]) from None
    except UnicodeEncodeError:
        raise ValueError("a request head is ASCII") from None
    connection.send(h11.Data(data=body))
    connection.send(h11.EndOfMessage())
    return connection, head + body


def _body_size(answer: h11.Response, method: str, names: dict[bytes, bytes]) -> int:
    """How long the body is: bytes, `_AT_CLOSE` or `_CHUNKED` (RFC 9112 6.3).  Raises ValueError."""
    if b"transfer-encoding" in names:
        # As `_set_framing`.
        if b"content-length" in names:
            raise ValueError("Content-Length and Transfer-Encoding in one answer")
        if answer.http_version != b"1.1":
            raise ValueError("Transfer-Encoding in an HTTP/1.0 answer")
    if method == "HEAD" or answer.status_code in _BODILESS:
        return 0
    if b"transfer-encoding" in names:
        return _CHUNKED  # h11 refuses all other codings
    if b"content-length" in names:
        return int(names[b"content-length"])  # h11 has compared repeated ones
    return _AT_CLOSE


class _AnswerBody(_ChunkedBody):
    """As a server sends it, perhaps for days: what each chunk carries beside its data is counted, and forgotten again.

    What is counted never falls below nothing: a long quiet stream saves up no leave for one huge chunk line.
    """

    __slots__ = ()

    def _add(self, event: h11.Data) -> None:
        super()._add(event)
        if event.chunk_end:
            # Exactly what this chunk and those before it took: where the bytes were cut must not matter.  The line end
            # behind the data is certain to come, and counted as framing already.
            read = self._fed - len(self._connection.trailing_data[0]) + len(b"\r\n")
            counted = read - self.size - self._exempt
            self._refuse_past_limit(counted)
            self._exempt += min(counted, CHUNK_ALLOWANCE)


class ClientConnection:
    """One connection to a server.  `request`, then feed `receive_data` and ask `next_event`, until END.

    Ask until NEED_DATA before more is handed in: what was handed in and not asked for is kept.
    """

    __slots__ = (
        "_asked", "_begun", "_buffer", "_cache", "_chunks", "_connection", "_eof", "_error", "_informational", "_left",
        "_limits", "_method", "_scanned", "_state", "keep_alive",
    )  # fmt: skip

    def __init__(self, limits: ClientLimits | None = None, cache: AnswerCache | None = None) -> None:
        self._limits = limits or ClientLimits()
        self._cache = cache or AnswerCache()
        if self._cache.limits is None:
            self._cache.limits = self._limits
        elif self._cache.limits is not self._limits and self._cache.limits != self._limits:
            raise ValueError("connections that share an AnswerCache need equal limits")
        # What h11 is told of the request if it has to be asked about the answer, in the place of
        self._asked: tuple[str, str, Sequence[tuple[str, str]], bytes] | None = None
        self._connection: h11.Connection | None = None  # which knows the request
        self._chunks: _ChunkedBody | None = None
        self._error: AnswerError | None = None
        self._buffer: bytes | bytearray = b""
        self._method = ""
        self._begun = self._eof = False
        self._informational = self._left = self._scanned = 0
        self._state = _IDLE
        self.keep_alive = True

    @property
    def reusable(self) -> bool:
        """Another request may be sent: nothing is outstanding, and the server said nothing that nobody asked for."""
        return self._state == _IDLE and self.keep_alive and not self._eof and not self._buffer

    # -- out

    def request(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
        """The bytes of a whole request.  `Content-Length` is set here; `headers` need a Host.

        Raises:
            ValueError: what HTTP cannot say, or a header that is written here.
            RuntimeError: the connection is not `reusable`.
        """
        if not self.reusable:
            raise RuntimeError("the connection cannot take a request")
        if method == "CONNECT":
            raise ValueError("CONNECT makes a tunnel, and there is nobody here to use it")
        out = self._write(method, target, headers, body)
        self._method = method
        self._begun = False
        self._informational = self._scanned = 0
        self._state = _HEAD
        return out

    def _write(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
        if method != "POST" or len(body) > MAX_KEPT_BODY:
            self._connection, out = _write_request(method, target, headers, body)
            return out
        key = (target, *map(tuple, headers))
        before = self._cache.requests.get(key)
        if before is None:
            self._connection, out = _write_request(method, target, headers, body)
            self._cache.add_request(key, out[: len(out) - len(body)], len(body))
            return out
        self._asked = (method, target, headers, body)
        return b"%b%d\r\n\r\n%b" % (before, len(body), body)

    # -- in

    def receive_data(self, data: bytes) -> None:
        """Takes what one read gave; b"" is the end of the server's bytes.  Call `next_event` next."""
        if not data:
            self._eof = True
            return
        self._begun = True
        if not self._buffer:
            self._buffer = data
            return
        if type(self._buffer) is not bytearray:
            self._buffer = bytearray(self._buffer)
        self._buffer += data

    def next_event(self) -> AnswerHead | bytes | Signal | AnswerEnd:
        """The answer's head, then pieces of its body, then END; or NEED_DATA: call again after `receive_data`.

        Raises:
            AnswerCutShort: the server's bytes ended before the answer.
            AnswerError: the server broke HTTP or passed a limit.  Then every call raises it again.
        """
        if self._state == _IDLE:
            return END
        try:
            if self._error is not None:
                raise again(self._error)
            event = self._read_head() if self._state == _HEAD else self._read_body()
            if event is NEED_DATA and self._eof:
                raise AnswerCutShort("the server closed the connection before the end of its answer", self._begun)
        except AnswerError as error:
            self._error = error
            self.keep_alive = False
            raise
        return event

    def _refusal(self, message: str) -> AnswerError:
        return AnswerError(message, True)

    def _read_head(self) -> AnswerHead | Signal:
        while True:
            raw = self._take_head()
            if raw is None:
                return NEED_DATA
            known = self._cache.answers.get(raw) if self._method != "HEAD" else None
            if known is not None:
                head, self._left = known
                self._connection = self._asked = None
                self._state = _IN_BODY
                return head
            answer = self._ask_h11(raw)
            if type(answer) is h11.Response:
                head = self._begin_body(answer)
                if self._method != "HEAD":
                    self._cache.add_answer(raw, head, self._left)
                return head
            self._informational += 1
            if self._informational > self._limits.max_informational:
                raise self._refusal("Too many informational answers")

    def _take_head(self) -> bytes | None:
        """The bytes up to a blank line, counted here so that the limit does not depend on how they were cut."""
        buffer = self._buffer
        # Whoever speaks something else (TLS, SSH) may wait for us now.
        if bytes(buffer[: len(_STATUS_LINE)]) != _STATUS_LINE[: len(buffer)]:
            raise self._refusal("The answer is not HTTP/1")
        limit = self._limits.max_head
        blank = _BLANK_LINE.search(buffer, self._scanned, limit)
        if blank is None:
            if len(buffer) >= limit:
                raise self._refusal("Answer head too large")
            self._scanned = max(0, len(buffer) - 2)
            return None
        end = blank.end()
        raw, self._buffer = bytes(buffer[:end]), buffer[end:]
        self._scanned = 0
        return raw

    def _ask_h11(self, raw: bytes) -> h11.Response | h11.InformationalResponse:
        # Counted before h11 reads them, as the server does.
        if raw.count(b"\n") - 2 > self._limits.max_fields:
            raise self._refusal("Too many header fields")
        if self._connection is None:
            assert self._asked is not None
            self._connection, _ = _write_request(*self._asked)
        self._connection.receive_data(raw)
        try:
            answer = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise self._refusal(_translate(error).message) from None
        assert type(answer) is h11.Response or type(answer) is h11.InformationalResponse
        return answer

    def _begin_body(self, answer: h11.Response) -> AnswerHead:
        if answer.http_version not in (b"1.0", b"1.1"):
            raise self._refusal("HTTP version not supported")
        headers = [(name.lower(), value) for name, value in answer.headers.raw_items()]
        try:
            size = _body_size(answer, self._method, dict(headers))
        except ValueError as error:
            raise self._refusal(str(error)) from None
        # HTTP/1.0 with keep-alive is left alone: so does h11.
        self.keep_alive = (
            answer.http_version == b"1.1" and size != _AT_CLOSE and b"close" not in _tokens(headers, b"connection")
        )
        if size == _CHUNKED:
            assert self._connection is not None
            self._chunks = _AnswerBody(self._connection, maxsize, self._limits.max_chunk_overhead)
        self._connection = self._asked = None
        self._left = size
        self._state = _IN_BODY
        return AnswerHead(answer.status_code, tuple(headers), self.keep_alive)

    def _read_body(self) -> bytes | Signal | AnswerEnd:
        if self._left == _CHUNKED:
            return self._read_chunks()
        if self._left == 0:
            return self._end()
        if not self._buffer:
            return self._end() if self._eof and self._left == _AT_CLOSE else NEED_DATA
        if self._left == _AT_CLOSE or len(self._buffer) <= self._left:
            data, self._buffer = bytes(self._buffer), b""
        else:
            data, self._buffer = bytes(self._buffer[: self._left]), self._buffer[self._left :]
        if self._left != _AT_CLOSE:
            self._left -= len(data)
        return data

    def _read_chunks(self) -> bytes | Signal | AnswerEnd:
        chunks = self._chunks
        assert chunks is not None
        ended = False
        start = 0
        try:
            ended, start = chunks.read(self._buffer, 0)
        except HTTPError as error:
            # What was good before it is given out first, as it would have been had it come alone.
            self._error = self._refusal(error.message)
        data = chunks.take()
        if ended:
            self._chunks = None
            self._left = 0
        # Bytes behind the end that h11 was given early only have to be there: they are the end of the connection.
        self._buffer = self._buffer[start:] if start >= 0 else chunks.behind
        if data:
            return data
        if self._error is not None:
            raise again(self._error)
        return self._end() if ended else NEED_DATA

    def _end(self) -> AnswerEnd:
        self._state = _IDLE
        if self._buffer:
            # What comes after the end answers nothing that was asked.
            self.keep_alive = False
        return END
