# SPDX-License-Identifier: MIT
"""The address of a server, taken apart: its origin, its Host header, its request target, the text shown to people.

An address is a URL of http, https or http+unix.  In http+unix the path of a Unix socket, percent-encoded, stands in the
place of the host.  This module refuses every other scheme and every URL with credentials in it.

Rules:
- Two addresses have the same origin only if a connection to one is a connection to the other.  Credentials, sessions
  and the memory of a server's era all go by this comparison.
- No error and no shown text contains credentials or a query: both may be secret, and both would get into logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

SCHEMES = ("http", "https", "http+unix")
_BEGINNINGS = tuple(f"{scheme}://" for scheme in SCHEMES)
# Characters of a path or query that stay as they are.  The percent sign is one of them: it begins an escape that the
# URL has already.  All other characters (spaces, letters beyond ASCII) are percent-encoded.
_KEPT_IN_TARGET = "!#$%&'()*+,/:;=?@[]~\"<>\\^`{|}"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that connections go to (RFC 6454, 4).

    Attributes:
        secure: True for TLS.
        host: a name in lower case and ASCII, or the number of an address without brackets.
        uds: the path of a Unix socket; None for TCP.
    """

    secure: bool
    host: str
    port: int
    uds: str | None = None


def is_url(text: str) -> bool:
    """Whether a text is the address of a server, and not a command or a file."""
    # RFC 3986 3.1: "schemes are case-insensitive".
    return text.lower().startswith(_BEGINNINGS)


def parse_url(url: str, uds: str | None = None) -> tuple[Origin, str, str]:
    """The origin, the value of Host, and the request target of an http, https or http+unix URL.

    Args:
        uds: the path of a Unix socket that connections go to, for any host.

    Raises:
        ValueError: another scheme, no host, credentials in the URL (they would get into logs), a bad port.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"not a URL of http, https or http+unix: {parts.scheme!r}")
    if "@" in parts.netloc:
        raise ValueError("credentials belong into a header, not into the URL")
    secure = parts.scheme == "https"
    if parts.scheme == "http+unix":
        # A socket has no name for the Host header.  Servers on Unix sockets accept "localhost".
        uds, host, port = unquote(parts.netloc), "localhost", 80
    else:
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    if not host or uds == "":
        raise ValueError("a URL without a host")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    # RFC 9110 4.2.3: the default port of a scheme is the same as no port, so Host omits it.
    authority = f"[{host}]" if ":" in host else host
    if port != (443 if secure else 80):
        authority = f"{authority}:{port}"
    # RFC 9112 3.2.1: an empty path is sent as "/".  The fragment is never sent.
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(secure, host, port, uds), authority, quote(target, safe=_KEPT_IN_TARGET)


def origin_of(url: str) -> Origin:
    """The origin of an address.  Raises ValueError, as `parse_url` does."""
    return parse_url(url)[0]


def resolve(base: str, reference: str) -> str:
    """The address that a server means by a reference in its answer (RFC 3986, 5), without its fragment.

    Raises:
        ValueError: the address has another origin, or is none.  Requests to it would carry the credentials for `base`.
    """
    scheme, _, rest = base.partition("://")
    if scheme.lower() == "http+unix":
        # `urljoin` does not know this scheme.  Its paths are those of http.
        url = urljoin(f"http://{rest}", reference.strip())
        if url.startswith("http://"):
            url = f"{scheme}{url[4:]}"
    else:
        url = urljoin(base, reference.strip())
    if origin_of(url) != origin_of(base):
        raise ValueError("an address of another origin")
    return url.partition("#")[0]


def authority_of(host: str, port: int) -> str:
    """``host:port``, always with the port, as CONNECT needs it (RFC 9110, 9.3.6)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown(url: str) -> str:
    """An address for messages and logs: without credentials, and without a query, which may be a key or a session."""
    scheme, colon, rest = url.partition("#")[0].partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{colon}{authority.rpartition('@')[2]}{slash}{path}"
