# SPDX-License-Identifier: MIT
"""What stands between the brackets of a host: an IPv6 address, or nothing that a server can be called by.

Rule: what passes here is read by `ipaddress` and by `urllib.parse`, so that no later step fails on it.  RFC 3986 3.2.2.
"""

from __future__ import annotations

_LOOPBACK = "::1"


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, without brackets and without a zone."""
    if text == _LOOPBACK:
        return True
    from ipaddress import IPv6Address  # most servers are called by a name

    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False
