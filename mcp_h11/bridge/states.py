# SPDX-License-Identifier: MIT
"""The `requestState` of a bridge, which is JSON: `p` and `r` are a parked call and its turn, `g` and `s` the
generation of a backend of 2026-07-28 and its own state.

The server in front seals it, so it comes back as it was written, or not at all.
"""

from __future__ import annotations

from typing import Any

from ..protocol.errors import InvalidParams, MCPError
from ..protocol.jsonrpc import JSON


def read_state(state: str) -> dict[str, Any]:
    """The object that a bridge wrote into a state.  Raises InvalidParams for any other state."""
    try:
        said = JSON().loads(state.encode("utf-8"))
    except (MCPError, ValueError):
        said = None
    if not isinstance(said, dict):
        raise InvalidParams("Invalid or expired requestState")
    return said
