# SPDX-License-Identifier: MIT
"""`detect(url)` finds out which transport and which revisions a server speaks.

It connects as a client does, and ends the connection and the session again.  It refuses to take longer than its
timeout: if the server has not answered by then, an error is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio

from ..protocol.revisions import MODERN
from .client import Client
from .http.urls import shown
from .transports.errors import RequestTimeout
from .transports.sse import SSETransport

# Seconds for all of it, including the end of a session.
DETECT_LIMIT = 5.0
# The part of the time that is kept for ending the connection, so that a slow server cannot use up all of it.
_FOR_THE_END = 0.2


@dataclass(frozen=True)
class Detected:
    """A server that `detect` found.

    Attributes:
        transport: "streamable-http" or "sse".
        revisions: the revisions in the order in which `server/discover` named them; after a handshake the agreed one.
        server_info: the Implementation object of the server; empty if it sent none.
        capabilities: the capabilities that the server declared.
        session: whether the server keeps sessions.  The session of this test has been ended.
    """

    transport: str
    revisions: tuple[str, ...]
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    session: bool = False

    @property
    def modern(self) -> bool:
        """Whether the server speaks a revision without a handshake: 2026-07-28 or later."""
        return any(name in MODERN for name in self.revisions)


async def detect(url: str, *, timeout: float = DETECT_LIMIT, **options: Any) -> Detected:
    """Tries `server/discover`, `initialize` and HTTP+SSE in this order until the server answers one of them.

    Args:
        url: http, https or http+unix.
        timeout: seconds for all tries together, and for the end.
        options: keywords of `Client`: headers, token, ssl, middleware.

    Raises:
        RequestTimeout: the server did not answer in time.
        MCPError: no server listens there, or it refuses this user, or it is no MCP server.
    """
    found: Detected | None = None
    end = timeout * _FOR_THE_END
    # Leaving the client comes after this limit, within the part that is kept for it.
    with anyio.move_on_after(timeout - end):
        async with Client(url, timeout=timeout, close_timeout=end, **options) as client:
            found = _read(client)
    if found is None:
        raise RequestTimeout(f"{shown(url)} did not say what it is within {timeout:g} s")
    return found


def _read(client: Client) -> Detected:
    transport = "sse" if isinstance(client.transport, SSETransport) else "streamable-http"
    return Detected(
        transport,
        client.supported_versions,
        client.server_info,
        client.server_capabilities,
        client.session_id is not None,
    )
