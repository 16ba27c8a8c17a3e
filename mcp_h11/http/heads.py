# SPDX-License-Identifier: MIT
"""A cache of h11's work on heads: it reads each distinct request head once, and writes each distinct answer head once.

Clients and servers repeat their heads byte for byte, and h11 is most of the cost of a small request.  The cache keeps
only heads that h11 has accepted; it never judges syntax by itself.  `ask_h11` refuses more than h11 does, for every
head that it reads.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from sys import maxsize
from typing import Any

import h11

from .addresses import is_ipv6
from .messages import MAX_CACHED_HEAD, OWN_FIELDS, Head, HTTPError, Limits, tokens_of, translated

MAX_CACHED_HEADS = 1024
MAX_VARIANTS = 256
MAX_TEMPLATES = 256

Template = tuple[bytes, bytes, bytes]
WithoutIds = tuple[bytes, list[int], list[bytes]]  # a head without its ids; where they were; what they were


# An id of these characters means nothing to the grammar of HTTP, at any length.
_ID = "[0-9A-Za-z_-]+"
_is_id = re.compile(_ID).fullmatch
# h11 or this module read the values of these fields, so a head with another value is another head.
_FRAMING_FIELDS = frozenset(("connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"))


class HeadCache:
    """Request heads as h11 read them, and answer heads as h11 wrote them.  One per server, shared by its connections.

    Each dict is cleared when it is full.  That bounds the memory in O(1), without an order to keep on the hot path.

    Args:
        id_fields: names of fields whose values may differ where everything else repeats: ids of sessions, of requests.

    A head that h11 has accepted is kept a second time, in `variants`: its key is the head with NULs in the place of
    each id in those fields.  Another head with the same key differs in the ids alone, because

    - no head with a NUL of its own is looked up here, so all NULs of a key stand for ids.  An id stands between "name:
      " and a line end and has the length of its NULs, so heads with equal keys have their ids in the same places;
    - an id is the whole value of its line, and its characters neither end a line nor fold one.  h11 judges a head line
      by line, and compares the values of the fields in `_FRAMING_FIELDS` only;
    - every limit was tested on a head's own bytes before the lookup, and a variant has as many fields.

    Raises:
        ValueError: a field of `id_fields` is one of `_FRAMING_FIELDS`.
    """

    __slots__ = ("_ids", "_id_fields", "heads", "limits", "max_head_bytes", "max_heads", "variants", "templates")

    def __init__(
        self,
        max_heads: int = MAX_CACHED_HEADS,
        max_head_bytes: int = MAX_CACHED_HEAD,
        id_fields: tuple[str, ...] = (),
    ) -> None:
        for name in id_fields:
            if name.lower() in _FRAMING_FIELDS:
                raise ValueError(f"{name} frames the message or routes it, so its values cannot be taken for ids")
        self.max_heads = max_heads
        self.max_head_bytes = max_head_bytes
        self.heads: dict[bytes, Head] = {}
        self.variants: dict[bytes, tuple[Head, list[int]]] = {}  # a head, and the numbers of its fields with ids
        self.templates: dict[tuple[Any, ...], Template] = {}
        self.limits: Limits | None = None
        self._id_fields = id_fields
        line = rf"(?i:\r\n(?:{'|'.join(map(re.escape, id_fields))})): ({_ID})(?=\r\n)"
        self._ids = re.compile(line.encode("ascii")).finditer if id_fields else None

    def find_variant(self, raw: bytes) -> tuple[Head | None, WithoutIds | None]:
        """The head for these bytes if h11 has accepted one that differs in ids alone; else the bytes without ids.

        Both are None for a head without ids.  Give the second one to `add_head` when h11 has accepted the bytes.
        """
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
        variant = self.variants.get(key)
        if variant is None:
            return None, (key, places, values)
        head = variant[0].with_values(variant[1], values)
        self.add_head(raw, head, None)
        return head, None

    def add_head(self, raw: bytes, head: Head, without_ids: WithoutIds | None) -> None:
        """Keep a plain head that h11 has accepted, and keep it as a variant as well if it has ids."""
        if len(raw) > self.max_head_bytes:
            return
        if len(self.heads) >= self.max_heads:
            self.heads.clear()
        head.cached = True
        self.heads[raw] = head
        if without_ids is None:
            return
        key, places, values = without_ids
        # The number of a field is the number of lines before it, without the request line.  That holds because
        # `ask_h11` has refused obsolete folds (two lines for one field) and repeated lengths (h11 merges the fields).
        fields = [raw.count(b"\n", 0, place) - 1 for place in places]
        if head.with_values(fields, values).is_like(head):
            if len(self.variants) >= MAX_VARIANTS:
                self.variants.clear()
            self.variants[key] = (head, fields)

    def forget(self) -> None:
        """Drop all request heads and their verdicts: a setting that the verdicts depend on has changed."""
        self.heads.clear()
        self.variants.clear()

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
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


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
        response = h11.Response(status_code=status, headers=lines, reason=_PHRASES.get(status, ""))
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
