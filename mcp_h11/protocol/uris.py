# SPDX-License-Identifier: MIT
"""One spelling for all spellings of a URI: RFC 3986, 6.2.2, with letters outside ASCII as RFC 3987, 3.1 writes them.

Scheme in lower case, percent-encodings in capitals, no percent-encoding of characters that need none.  The host is in
lower case where the scheme has hosts as DNS knows them (http, https, ws, wss, ftp): in `users://Alice` of a server's
own scheme, and in the `file://README.md` of many a template, that place holds a name, whose capitals count.

Rule: segments "." and ".." stay as they are.  Resolving them would move a URI to another folder after a gateway has
judged its beginning; a function that reads files refuses them (`uritemplate.climbs`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_TRIPLET = re.compile(r"%[0-9A-Fa-f]{2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_WITH_HOSTS = frozenset(("http", "https", "ws", "wss", "ftp"))
_EXPRESSION = re.compile(r"(\{[^{}]*\})")  # of an author's template
_END_OF_AUTHORITY = re.compile(r"[/?#]")


def normal(uri: str) -> str:
    """The one spelling of a URI.  A malformed one ("%" without two digits, a lone surrogate) stays as it is."""
    if not uri.isascii():
        try:
            uri = _encoded(uri)
        except UnicodeEncodeError:
            return uri
    scheme, colon, rest = uri.partition(":")
    if colon and _SCHEME.fullmatch(scheme):
        scheme = scheme.lower()
        if scheme in _WITH_HOSTS and rest.startswith("//"):
            rest = _with_lower_host(rest)
        uri = f"{scheme}:{rest}"
    return normal_part(uri)


def normal_part(text: str) -> str:
    """As `normal`, for a piece of a URI: its percent-encodings only."""
    triplets = text.count("%")
    if not triplets:
        return text
    found, times = _TRIPLET.subn(_one, text)
    # With a lone "%" the result could have a percent-encoding that the text had not.
    return found if times == triplets else text


def normal_template(template: str) -> str:
    """As `normal`, for the literals of a URI template; its expressions stay as they are."""
    try:
        template.encode("utf-8")
    except UnicodeEncodeError:
        return template
    pieces = _EXPRESSION.split(template)  # literals and expressions by turns
    first = pieces[0] = normal(pieces[0])
    scheme, slashes, rest = first.partition("://")
    in_host = bool(slashes) and scheme in _WITH_HOSTS and _END_OF_AUTHORITY.search(rest) is None
    for index in range(2, len(pieces), 2):
        piece = pieces[index]
        if in_host:
            end = _END_OF_AUTHORITY.search(piece)
            stop = len(piece) if end is None else end.start()
            piece = piece[:stop].lower() + piece[stop:]
            in_host = end is None
        pieces[index] = normal_part(_encoded(piece))
    return "".join(pieces)


def spellings(uris: Iterable[str]) -> dict[str, str]:
    """The URIs of `uris` that `normal` changes, by their normal spelling."""
    return {one: uri for uri in uris if (one := normal(uri)) != uri}


def _encoded(text: str) -> str:
    return "".join(c if c < "\x80" else "".join(f"%{byte:02X}" for byte in c.encode("utf-8")) for c in text)


def _with_lower_host(rest: str) -> str:
    end = _END_OF_AUTHORITY.search(rest, 2)
    stop = len(rest) if end is None else end.start()
    # A user's name and password, before the host, keep their case.
    start = max(rest.rfind("@", 2, stop) + 1, 2)
    return rest[:start] + rest[start:stop].lower() + rest[stop:]


def _one(triplet: re.Match[str]) -> str:
    character = chr(int(triplet[0][1:], 16))
    return character if character in _UNRESERVED else triplet[0].upper()
