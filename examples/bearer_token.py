# SPDX-License-Identifier: MIT
"""A key for each user, without OAuth: `authorize` looks at the head of each request.

    KEYS='ann:k-1 bob:k-2' python examples/bearer_token.py
    python -m mcp_h11 call http://127.0.0.1:8000/mcp whoami --token k-1

One secret for all clients needs no code: `MCP_H11_TOKEN=... python -m mcp_h11 tools.py`.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from mcp_h11 import Context, MCPServer, Principal

server = MCPServer("whoami")
KEYS = dict(pair.split(":", 1) for pair in os.environ.get("KEYS", "").split())


def authorize(head: Any) -> Principal | None:
    """The user of a request; None is answered with 401."""
    scheme, _, key = (head.get("authorization") or "").partition(" ")
    found = None
    for user, known in KEYS.items():
        # Compared in constant time, and all of them, so that the time of an answer says nothing about a key.
        if hmac.compare_digest(key.encode(), known.encode()):
            found = user
    return Principal(found) if found and scheme.lower() == "bearer" else None


@server.tool
def whoami(ctx: Context) -> str:
    "Say which user the key belongs to."
    return ctx.principal.subject if ctx.principal is not None else "nobody"


if __name__ == "__main__":
    server.run(port=int(os.environ.get("PORT", "8000")), authorize=authorize)
