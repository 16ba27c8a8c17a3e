# SPDX-License-Identifier: MIT
"""Pings a server regularly, and ends the waiting for a server that does not answer.

Rule: an error is an answer.  Only silence, or a lost connection, means that the server is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from ..protocol.errors import MCPError
from ..protocol.shown import escaping
from .conversation.conversation import Conversation
from .transports.errors import ConnectionLost

logger = escaping(logging.getLogger(__name__))

# The codes by which other SDKs report a closed connection and a timeout.
_NO_ANSWER = (-32000, -32001)


async def keep_pinging(conversation: Conversation, ping: Callable[[], Awaitable[None]], every: float) -> None:
    """Runs until the conversation is over.

    Args:
        ping: pings once.  Raises MCPError.
        every: seconds between two pings.
    """
    while conversation.calls.ended is None:
        await anyio.sleep(every)
        try:
            await ping()
        except MCPError as error:
            if not isinstance(error, ConnectionLost) and error.code not in _NO_ANSWER:
                continue
            why = conversation.transport.why
            logger.warning("no answer to a ping from %s: %s", why, error)
            gone = ConnectionLost(f"{why} does not answer pings")
            if conversation.transport.duplex:
                conversation.closed(gone)
            else:
                # Each HTTP request has an exchange of its own, so later requests may succeed.
                conversation.calls.fail(gone)
