# SPDX-License-Identifier: MIT
"""The interface of a server to its connections: `Server` has it, and so has the port for operators.

Rule: a connection reads the members below and calls the methods, and knows nothing else of its server.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Protocol

from ..http.heads import HeadCache
from ..runtime.settings import Settings
from ..runtime.wheel import Wheel

# This number of connections past `max_connections` get an answer that says why they are refused.  Any further
# connection is dropped without an answer, since each one holds a descriptor.
TOLD_WHY = 32


class ConnectionOwner(Protocol):
    """A server as its connections use it: `Server`, or the port for operators.

    Attributes:
        buffer: bytes are read into it where `shares_buffer` says that one buffer serves all connections.
        context: what a connection does between its calls is done in a copy of it, in which no call has set anything.
        connections: the open connections, as `Connection`s; a type here would close a circle of imports.
        endpoint: answers requests: `trusts`, `check`, `approve`, `refusal_headers`, `respond`.
        heads: the request heads that h11 has seen.
        now: the event loop's time at the last tick of the clock.
        date: the value of the Date header.
        wheel: has each connection until the clock is to look at it.
        rest: seconds for which the clock may leave a connection alone.
        runtime: a `Runtime`.
    """

    buffer: memoryview
    shares_buffer: bool
    context: Context
    connections: set[Any]
    draining: bool
    endpoint: Any
    heads: HeadCache
    loop: asyncio.AbstractEventLoop
    recorder: Any
    runtime: Any
    settings: Settings
    wheel: Wheel[Any]
    rest: float

    @property
    def now(self) -> float: ...

    @property
    def date(self) -> bytes: ...

    def joined(self, connection: Any) -> None:
        """Count a connection for its client."""

    def lost(self, connection: Any) -> None:
        """Forget a connection that has ended."""

    def make_room(self, party: str) -> bool:
        """End a connection of the client that has most connections, if it has more than `party` would have."""
