# SPDX-License-Identifier: MIT
"""`detect(url)`: what is served at an address, and nothing else; whatever was begun to find out is ended.

It refuses to take longer than it was given: what is not known by then is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio

from ..protocol.revisions import MODERN
from .client import Client
from .transports.errors import RequestTimeout
from .transports.sse import SSETransport
from .transports.urls import shown

DETECT_LIMIT = 5.0  # seconds for everything, the end of a session included
# Of that, what is kept for the end.
_FOR_THE_END = 0.2


@dataclass(frozen=True)
class Detected:
    """What `detect` found.

    Attributes:
        transport: "streamable-http" or "sse".
        revisions: those that the server named, newest first where it named several; of a handshake the agreed one.
        server_info: the Implementation object, empty where the server does not say.
        capabilities: what it offers.
        session: whether the server keeps sessions; the one that was made is gone.
    """

    transport: str
    revisions: tuple[str, ...]
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    session: bool = False

    @property
    def modern(self) -> bool:
        """Whether a revision is spoken that needs no handshake."""
        return any(name in MODERN for name in self.revisions)


async def detect(url: str, *, timeout: float = DETECT_LIMIT, **options: Any) -> Detected:  # noqa: ASYNC109
    """Asks a server what it speaks, by `server/discover`, `initialize` and HTTP+SSE in this order.

    Args:
        url: http, https or http+unix.
        timeout: seconds for everything.
        options: as `Client` takes them: headers, token, ssl, middleware.

    Raises:
        RequestTimeout: it did not say in time.
        MCPError: there is nothing there, or it lets nobody in, or it is no MCP server.
    """
    found: Detected | None = None
    end = timeout * _FOR_THE_END
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
