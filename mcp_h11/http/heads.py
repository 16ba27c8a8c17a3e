# SPDX-License-Identifier: MIT
"""A cache of h11's work on heads: of request heads that come again, and of answer heads, each of which it writes once.

Clients and servers repeat their heads byte for byte, and h11 is most of the cost of a small request.  Heads that do not
repeat are read by their forms or lines (`headforms`, `headlines`).  `ask_h11` refuses more than h11 does, for every
head that it reads.
"""

from __future__ import annotations

import re
from sys import maxsize
from typing import Any

import h11

from .addresses import is_host_field
from .headforms import HeadForms
from .headlines import HeadLines
from .messages import MAX_CACHED_HEAD, OWN_FIELDS, Head, HTTPError, Limits, tokens_of, translated

MAX_CACHED_HEADS = 1024
MAX_TEMPLATES = 256
MARKS = 1024  # heads read by lines of which it is known that they came, so that they are kept when they come again
FORGOTTEN_AFTER = 16  # times that the marks were dropped: then the lines are dropped too

# A connection that had more new heads than this in a row is taken for that of a proxy.
NEW_IN_A_ROW = 3
UNLOOKED = 6  # of its heads are read by lines at once, before one is looked for again

Template = tuple[bytes, bytes, bytes]


# An id of these characters means nothing to the grammar of HTTP, at any length.
_ID = "[0-9A-Za-z_-]+"
_is_id = re.compile(_ID).fullmatch
# h11 or this module read the values of these fields, so a head with another value is another head.
_FRAMING_FIELDS = frozenset(("connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"))


class HeadCache:
    """Request heads as h11 read them, and answer heads as h11 wrote them.  One per server, shared by its connections.

    Each dict is cleared when it is full.  That bounds the memory in O(1), without an order to keep on the hot path.

    Args:
        id_fields: names of fields whose ids differ from answer to answer: an answer head is written once for all ids.
        judged: names in lower case of the request fields whose values a verdict depends on (see `HeadLines`).

    A head that is not known is read by its form or its lines where that is certain to give what h11 would (see
    `HeadForms`), else by h11.  The latter is kept at once, the former when it comes again: behind a proxy no head does,
    and then none is kept that puts another one out.

    Raises:
        ValueError: a field of `id_fields` is one of `_FRAMING_FIELDS`.
    """

    __slots__ = (
        "_cleared", "_id_fields", "_marks", "forms", "heads", "limits", "lines", "max_head_bytes", "max_heads",
        "templates",
    )  # fmt: skip

    def __init__(
        self,
        max_heads: int = MAX_CACHED_HEADS,
        max_head_bytes: int = MAX_CACHED_HEAD,
        id_fields: tuple[str, ...] = (),
        judged: tuple[bytes, ...] = (),
    ) -> None:
        for name in id_fields:
            if name.lower() in _FRAMING_FIELDS:
                raise ValueError(f"{name} frames the message or routes it, so its values cannot be taken for ids")
        self.max_heads = max_heads
        self.max_head_bytes = max_head_bytes
        self.heads: dict[bytes, Head] = {}
        self.templates: dict[tuple[Any, ...], Template] = {}
        self.limits: Limits | None = None
        self._id_fields = id_fields
        self.lines = HeadLines(judged)
        self.forms = HeadForms(self.lines)
        self._marks: set[int] = set()
        self._cleared = 0

    def limit(self, limits: Limits) -> None:
        """Take the limits of a connection.  Raises ValueError where another connection has others."""
        if self.limits is None:
            self.limits = limits
            self.lines.limit(limits)
            self.forms.limit(limits)
        elif self.limits != limits:
            raise ValueError("connections that share a HeadCache need equal limits")

    def read_new(self, raw: bytes) -> Head | None:
        """The head for bytes that are not in `heads`, if it can be read without h11 (see `HeadForms`)."""
        head, end = self.forms.read(raw, len(raw))
        if end != len(raw):
            return None  # it ends at a blank line before
        if head is not None:
            mark, marks = hash(raw), self._marks
            if mark in marks:
                self._keep(raw, head)
            else:
                marks.add(mark)
                if len(marks) > MARKS:
                    self._forget_marks()
        return head

    def add_head(self, raw: bytes, head: Head) -> None:
        """Keep a plain head that h11 has accepted, and its request line for heads that are read by lines."""
        self.lines.learn(raw, head)
        self._keep(raw, head)

    def _keep(self, raw: bytes, head: Head) -> None:
        if len(raw) > self.max_head_bytes:
            return
        if len(self.heads) >= self.max_heads:
            self.heads.clear()
        head.cached = True
        self.heads[raw] = head

    def _forget_marks(self) -> None:
        self._marks.clear()
        self._cleared += 1
        if self._cleared == FORGOTTEN_AFTER:
            self._cleared = 0
            self.lines.forget()
            self.forms.forget_shapes()

    def forget(self) -> None:
        """Drop all request heads and their verdicts: a setting that the verdicts depend on has changed."""
        self.heads.clear()
        self.lines.forget_shapes()
        self.forms.forget_shapes()

    def template(
        self, status: int, headers: tuple[tuple[str, str], ...], close: bool, sized: bool, chunked: bool, dated: bool
    ) -> Template:
        """An answer head as h11 writes it (see `_write_head`).

        If the last header is one of `id_fields`, h11 writes the head once, and each further id is put in its place.
        """
        name, value = headers[-1] if headers else ("", "")
        if name not in self._id_fields or not _is_id(value):
            template = _write_head(status, headers, close, sized, chunked, dated)
            self._add_template((status, headers, close, sized, chunked, dated), template)
            return template
        key = (status, headers[:-1], name, close, sized, chunked, dated)
        known = self.templates.get(key)
        if known is None:
            known = _write_head(status, headers, close, sized, chunked, dated)
            self._add_template(key, known)
        # The kept head has the id of the first answer: replace it by the id of this one.
        before_date, before_length, rest = known
        mark = f"\r\n{name}: ".encode("ascii")
        start = rest.rindex(mark) + len(mark)
        return before_date, before_length, rest[:start] + value.encode("ascii") + rest[rest.index(b"\r\n", start) :]

    def _add_template(self, key: tuple[Any, ...], template: Template) -> None:
        if len(self.templates) >= MAX_TEMPLATES:
            self.templates.clear()
        self.templates[key] = template


# --- Reading heads -------------------------------------------------------------------------------------------------

# h11's own definition of the end of a head: a line end may lack its CR (RFC 9112 2.2 allows a reader to take that).
BLANK_LINE = re.compile(rb"\n\r?\n")


def end_of_head(buffer: bytes | bytearray, start: int, scanned: int, limits: Limits) -> int:
    """Where the head ends that begins at `start`; 0 if its end has not arrived.  `scanned` of its bytes are known.

    Both limits are tested against the bytes that have arrived, so that a head cannot grow past them, and the result
    does not depend on the cuts between reads.  Raises HTTPError for a head past one.
    """
    available = len(buffer) - start
    max_head = limits.max_head or maxsize
    max_line = min(limits.max_request_line or maxsize, max_head)
    if available >= max_line and buffer.find(b"\n", start, start + max_line) < 0:
        raise HTTPError(414, "Request line too long")
    blank = BLANK_LINE.search(buffer, start + max(0, scanned - 2), start + min(max_head, available))
    if blank is None and available >= max_head:
        raise HTTPError(431, "Request head too large")
    return 0 if blank is None else blank.end()


_OBS_FOLD = re.compile(rb"\n[ \t]")
_CONTENT_LENGTH = re.compile(rb"(?i:\ncontent-length:)[ \t]*([^\r\n]*)")
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)


def _path(method: bytes, target: bytes, host: bytes | None) -> bytes:
    # RFC 9112 3.2: origin-form, absolute-form, authority-form (CONNECT), asterisk-form.
    if target.startswith(b"/") or target == b"*" or method == b"CONNECT":
        return target
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if not absolute or not is_host_field(absolute[1]):
        raise HTTPError(400, "Illegal request target")
    # RFC 9112 3.2.2 lets the target win over Host.  The two agree in every honest request, and a target with another
    # host would get round the server's policy on Host.
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


def ask_h11(raw: bytes, max_fields: int) -> tuple[Head, h11.Connection, bool]:
    """Let h11 read a head, then refuse the heads that h11 takes and this server does not.

    Returns the `Head`, the h11 connection that has read it, and whether the head is plain: it may be kept and used
    again, because the connection goes on after it and its body, if any, has a length.  Raises HTTPError.
    """
    # The fields are counted before h11 reads them: it takes 0.16 s for 100,000 of them.
    if raw.count(b"\n") - 2 > max_fields:
        raise HTTPError(431, "Too many header fields")
    # h11's own limit is switched off: it depends on how the bytes were cut.  `Limits` was tested before.
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=maxsize)
    connection.receive_data(raw)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise translated(error) from None
    assert type(request) is h11.Request
    if request.http_version not in (b"1.0", b"1.1"):
        raise HTTPError(505, "HTTP version not supported")
    if _OBS_FOLD.search(raw):
        raise HTTPError(400, "Obsolete line folding")
    # `raw_items` takes a third of the time of iterating over `headers`.
    headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
    names = dict(headers)
    host = names.get(b"host")
    if host is not None and not is_host_field(host):
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
    # After CONNECT one end may speak HTTP and the other end the protocol of a tunnel (RFC 9110 9.3.6).  No tunnel is
    # ever granted here, so the connection ends after the refusal.
    if (
        head.version != "1.1"
        or method == b"CONNECT"
        or (b"connection" in names and b"close" in tokens_of(headers, b"connection"))
    ):
        head.keep_alive = False
    if b"expect" in names and head.version == "1.1":
        head.expect_continue = b"100-continue" in tokens_of(headers, b"expect")
    plain = head.keep_alive and not head.chunked and b"expect" not in names and b"upgrade" not in names
    return head, connection, plain


_ANY_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"
_ANY_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# The statuses that this package answers with by itself.
_PHRASES = {
    200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict",
    413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip


def _phrase(status: int) -> str:
    """The words of a status line; "" for a status without a name."""
    if status in _PHRASES:
        return _PHRASES[status]
    from http import HTTPStatus  # its members take 76 KiB, and few servers send another status

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _write_head(
    status: int, headers: tuple[tuple[str, str], ...], close: bool, sized: bool, chunked: bool, dated: bool
) -> Template:
    """Let h11 write an answer head, and cut it at its date and its length, which differ from answer to answer.

    Returns (the bytes before the date, the bytes between date and length, the rest); a part that the head does not have
    is empty.
    """
    lines = [("Date", _ANY_DATE)] if dated else []
    if sized:
        lines.append(("Content-Length", "0"))
    for name, _ in headers:
        if name.lower() in OWN_FIELDS:
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
        response = h11.Response(status_code=status, headers=lines, reason=_phrase(status))
        out = connection.send(response)
    except h11.LocalProtocolError as error:
        raise ValueError(str(error)) from None
    assert out is not None
    # h11 has refused line ends in values, so the first match is the line that was put first.
    before_date = before_length = b""
    if dated:
        before_date, _, out = out.partition(_ANY_DATE.encode("ascii"))
    if sized:
        before_length, mark, out = out.partition(b"\r\nContent-Length: ")
        before_length += mark
        out = out[1:]
    return before_date, before_length, out
