# SPDX-License-Identifier: MIT
"""Each distinct head is shown to h11 once: a cache of its verdicts, for requests read and answers written."""

from __future__ import annotations

import re
from http import HTTPStatus
from sys import maxsize
from typing import Any

import h11

from .addresses import is_ipv6
from .messages import MAX_CACHED_HEAD, OWN_FIELDS, Head, HTTPError, Limits, tokens_of, translated

MAX_CACHED_HEADS = 1024
MAX_MODELS = 256
MAX_TEMPLATES = 256

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
BLANK_LINE = re.compile(rb"\n\r?\n")
_OBS_FOLD = re.compile(rb"\n[ \t]")
_CONTENT_LENGTH = re.compile(rb"(?i:\ncontent-length:)[ \t]*([^\r\n]*)")
# RFC 3986 3.2 without userinfo, which RFC 9110 4.2.4 forbids here: IP-literal, or reg-name (IPv4 is one), then a port.
_AUTHORITY = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})(?::[0-9]{0,5})?"
)
_ABSOLUTE_FORM = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)


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


def ask_h11(raw: bytes, max_fields: int) -> tuple[Head, h11.Connection, bool]:
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
        raise translated(error) from None
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
        or (b"connection" in names and b"close" in tokens_of(headers, b"connection"))
    ):
        head.keep_alive = False
    if b"expect" in names and head.version == "1.1":
        head.expect_continue = b"100-continue" in tokens_of(headers, b"expect")
    plain = head.keep_alive and not head.chunked and b"expect" not in names and b"upgrade" not in names
    return head, connection, plain


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
