# SPDX-License-Identifier: MIT
"""Names of header fields: the token of RFC 9110 5.6.2.

MCP itself has such names (2026-07-28 server/tools, `x-mcp-header`), and a refusal carries headers, so the rule lies
below `http`.  It is one rule for both ends, for the names of an author and for those of a peer.
"""

from __future__ import annotations

import string

_TCHAR = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


def is_field_name(text: str) -> bool:
    """Whether this text can be the name of a header field; empty text cannot."""
    return bool(text) and _TCHAR.issuperset(text)
