# SPDX-License-Identifier: MIT
"""The Host, Origin and CORS rules of an endpoint.

It refuses a Host that is not exactly an authority and an Origin that is not exactly an origin: attacks by DNS rebinding
use near misses of both.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

from ..protocol.fieldnames import is_field_name
from .addresses import is_ipv6
from .headers import Headers

# --- Host and Origin --------------------------------------------------------------------------------------------
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_NAME = frozenset(string.ascii_lowercase + string.digits + "-_.")
_SCHEME = frozenset(string.ascii_lowercase + string.digits + "+-.")
_DEFAULT_PORT = {"http": 80, "https": 443}
# In a set of ports: any.  None in it is "no port given".
_ANY_PORT = -1


def _port(text: str) -> int | None:
    if not (text.isdigit() and len(text) <= 5):
        return None
    port = int(text)
    return port if port <= 65_535 else None


def _authority(text: str) -> tuple[str, int | None] | None:
    # Host in lower case, without one trailing dot, and the port; None for anything that is not exactly that.  No
    # userinfo, no percent-encoding, no IPv6 zone: no honest Host has them, and with each one host can look like
    # another.
    if not text.isascii():  # before lower(): U+212A, the Kelvin sign, becomes a "k"
        return None
    text = text.lower()
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or not is_ipv6(address):
            return None
        host, colon, port_text = f"[{address}]", rest[:1], rest[1:]
        if rest and colon != ":":
            return None
    else:
        host, colon, port_text = text.partition(":")
        host = host[:-1] if host.endswith(".") else host
        if not _NAME.issuperset(host) or not all(host.split(".")):
            return None
    if not colon:
        return host, None
    port = _port(port_text)
    return None if port is None else (host, port)


def is_authority(text: str) -> bool:
    """Whether it is a host with or without a port, as a Host header has it."""
    return _authority(text) is not None


def is_literal(text: str | None) -> bool:
    """Whether it is the number of an address, with or without a port, as a Host header has it.

    A browser sends one only to that very address, so no page can reach another machine by it: rebinding needs a name.
    """
    authority = _authority(text or "")
    if authority is None:
        return False
    host = authority[0]
    return host.startswith("[") or _is_ipv4(host)


def _is_ipv4(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdigit() and len(part) <= 3 and int(part) <= 255 for part in parts)


def _origin(text: str) -> tuple[str, str, int | None] | None:
    # Scheme, host, port as RFC 6454 7.1 serialises them; the port of the scheme counts as given.  None for "null".
    scheme, separator, rest = text.partition("://")
    authority = _authority(rest)
    scheme = scheme.lower()
    if authority is None or not separator or not scheme or not _SCHEME.issuperset(scheme):
        return None
    host, port = authority
    return scheme, host, _DEFAULT_PORT.get(scheme) if port is None else port


def _split_any_port(pattern: str) -> tuple[str, bool]:
    return (pattern[:-2], True) if pattern.endswith(":*") else (pattern, False)


class HostPolicy:
    """The names under which this server may be addressed (Host), and the pages that may use it (Origin).

    Args:
        allowed_hosts: `"example.com"` or `"[::1]"` with any port, `"example.com:8443"` with that one only,
            `"example.com:*"`, or `"*"` for any host.  None is `LOOPBACK_HOSTS`.
        allowed_origins: `"https://a.example"`, `"https://a.example:8443"`, `"https://a.example:*"`, or `"*"`.  Pages
            from http and https on loopback pass, from any port, where a loopback host is allowed; nothing else does.

    Raises:
        ValueError: a pattern that could never match.
    """

    __slots__ = ("_any_host", "_any_origin", "_hosts", "_loopback", "_origins")

    def __init__(
        self, allowed_hosts: Iterable[str] | None = None, allowed_origins: Iterable[str] | None = None
    ) -> None:
        self._hosts: dict[str, set[int | None]] = {}
        self._origins: dict[tuple[str, str], set[int | None]] = {}
        self._any_host = self._any_origin = False
        for pattern in LOOPBACK_HOSTS if allowed_hosts is None else _patterns(allowed_hosts):
            self._allow_host(pattern)
        for pattern in () if allowed_origins is None else _patterns(allowed_origins):
            self._allow_origin(pattern)
        self._loopback = self._any_host or any(host in self._hosts for host in LOOPBACK_HOSTS)

    def _allow_host(self, pattern: str) -> None:
        if pattern == "*":
            self._any_host = True
            return
        name, any_port = _split_any_port(pattern)
        authority = _authority(name)
        if authority is None or (any_port and authority[1] is not None):
            raise ValueError(f"not a host, host:port, [ipv6] or *: {pattern!r}")
        host, port = authority
        ports = self._hosts.setdefault(host, set())
        ports.add(_ANY_PORT if port is None else port)
        if port in _DEFAULT_PORT.values():
            # A client leaves out the port of its scheme, and which scheme it was a proxy may have hidden.
            ports.add(None)

    def _allow_origin(self, pattern: str) -> None:
        if pattern == "*":
            self._any_origin = True
            return
        name, any_port = _split_any_port(pattern)
        origin = _origin(name)
        if origin is None or (any_port and _origin(name + ":1") is None):
            raise ValueError(f"not scheme://host, scheme://host:port or *: {pattern!r}")
        scheme, host, port = origin
        self._origins.setdefault((scheme, host), set()).add(_ANY_PORT if any_port else port)

    def check_host(self, value: str | None) -> bool:
        """Whether this Host is one of ours.  A browser always sends it, so that absent (HTTP/1.0) is refused."""
        if value is None:
            return self._any_host
        authority = _authority(value)
        if authority is None:
            return False
        if self._any_host:
            return True
        ports = self._hosts.get(authority[0])
        return ports is not None and (_ANY_PORT in ports or authority[1] in ports)

    def check_origin(self, value: str | None) -> bool:
        """Whether a page of this origin may ask; absent is no browser and passes, "null" and several never do.

        2026-07-28 streamable-http, Security & Endpoint 1: False is answered with 403.
        """
        if value is None:
            return True
        origin = _origin(value)
        if origin is None:
            return False
        if self._any_origin:
            return True
        scheme, host, port = origin
        if self._loopback and host in LOOPBACK_HOSTS and scheme in _DEFAULT_PORT:
            return True
        ports = self._origins.get((scheme, host))
        return ports is not None and (_ANY_PORT in ports or port in ports)


def _patterns(patterns: Iterable[str]) -> Iterable[str]:
    if isinstance(patterns, str):
        raise ValueError("a list of patterns is wanted, not a string")
    return patterns


# --- CORS -------------------------------------------------------------------------------------------------------
CORS_METHODS = "GET, POST, DELETE, OPTIONS"
CORS_REQUEST_HEADERS = (
    "content-type, accept, authorization, mcp-protocol-version, mcp-session-id, last-event-id, mcp-method, mcp-name"
)
CORS_EXPOSED = "Mcp-Session-Id, WWW-Authenticate, MCP-Protocol-Version"
# Two hours, the most that Chromium allows.
CORS_MAX_AGE = "7200"


def cors_exposed(origin: str) -> Headers:
    """The headers that let a page of this origin read an answer.  Check first that it may: `()` is for the others."""
    if _origin(origin) is None:  # it is copied into the answer
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Vary", "Origin"),
        ("Access-Control-Expose-Headers", CORS_EXPOSED),
    )


def cors_headers(origin: str, requested_headers: str | None = None) -> Headers:
    """The headers of the answer to a preflight; `requested_headers` is Access-Control-Request-Headers.

    The names that are asked for come back: `Mcp-Param-*` has no other way in, as CORS knows no prefixes.
    """
    if _origin(origin) is None:
        return ()
    names = [name.strip() for name in (requested_headers or "").split(",")]
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Methods", CORS_METHODS),
        ("Access-Control-Allow-Headers", ", ".join(filter(is_field_name, names)) or CORS_REQUEST_HEADERS),
        ("Access-Control-Max-Age", CORS_MAX_AGE),
    )
