# SPDX-License-Identifier: MIT
"""The normal spelling of a URI: RFC 3986, 6.2.2, with letters outside ASCII encoded by RFC 3987, 3.1.

The scheme is in lower case, percent-encodings are in capitals, and characters that need no percent-encoding have none.
The host is in lower case for the schemes with hosts of DNS (http, https, ws, wss, ftp).  Other schemes may have a name
in the place of the host, as in `users://Alice` of a server's own scheme or in `file://README.md`.  Two such names may
differ in their capitals only.

Rule: segments "." and ".." stay.  A gateway may have allowed a URI for its first folders, and without these segments
the URI could name another folder.  A function that reads files refuses such URIs (`uritemplate.climbs`).
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
    """The normal spelling of a URI.  A malformed one ("%" without two digits, a lone surrogate) is not changed."""
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
    """The normal spelling of the percent-encodings in a part of a URI."""
    triplets = text.count("%")
    if not triplets:
        return text
    found, times = _TRIPLET.subn(_one, text)
    # A text with a lone "%" is not changed: the result could have a percent-encoding that the text did not have.
    return found if times == triplets else text


def normal_template(template: str) -> str:
    """A URI template with its literals in the normal spelling; its expressions are not changed."""
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
