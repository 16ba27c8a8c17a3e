# SPDX-License-Identifier: MIT
"""Parts of a server's address: its host as a name or a number, and the path prefix that a reverse proxy strips.

Rule: a text that passes here is read by `ipaddress` and by `urllib.parse`, so that no later step fails on it, and can
stand in a header, in quotes and in an event.  RFC 3986 3.2.2 and 3.3.
"""

from __future__ import annotations

import re

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, without brackets and without a zone."""
    if text == "::1":
        return True
    from ipaddress import IPv6Address  # most servers are called by a name

    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False


# RFC 3986 3.2 without userinfo, which RFC 9110 4.2.4 forbids here: IP-literal, or reg-name (IPv4 is one), then a port.
_HOST_FIELD = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})(?::[0-9]{0,5})?"
)


def is_host_field(text: bytes) -> bool:
    """Whether it is a host, and a port if it likes, as they stand in Host and in an absolute request target."""
    if not _HOST_FIELD.fullmatch(text):
        return False
    return not text.startswith(b"[") or is_ipv6(text[1:].partition(b"]")[0].decode("ascii"))


def on_loopback(host: str) -> bool:
    """Whether other machines cannot reach this host: ``localhost``, or a number of loopback, without brackets."""
    host = host.partition("%")[0].lower()
    if host == "localhost" or host in LOOPBACK_ADDRESSES:
        return True
    from ipaddress import ip_address  # most servers are on one of those

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


MAX_PREFIX = 256  # characters
# Characters of RFC 3986 3.3 without those that separate or quote elsewhere: comma, apostrophe, parentheses.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&*+;=:@-]|%[0-9A-Fa-f]{2})+")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_NEVER_ENCODED = frozenset((*range(0x20), *b"./\\%", 0x7F))  # a reader that decodes them would see another path


def checked_prefix(text: str) -> str:
    """The path that a reverse proxy strips, as it stands before each path that is given out: ``/tools``, or empty.

    A slash at its end is left out.  Raises ValueError for any other text: a scheme or a host, an empty segment,
    ``.`` or ``..``, a control character, a query, more than MAX_PREFIX characters.
    """
    prefix = text[:-1] if text.endswith("/") else text
    if not prefix:
        return ""
    slash, *segments = prefix.split("/")
    encoded = {int(found, 16) for found in _ENCODED.findall(prefix)}
    good = all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments)
    if slash or not segments or not good or encoded & _NEVER_ENCODED or len(text) > MAX_PREFIX:
        raise ValueError(
            f"a prefix is a path such as /tools, without dots, controls and empty segments, not {text!r:.80}"
        )
    return prefix
