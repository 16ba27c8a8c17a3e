# SPDX-License-Identifier: MIT
"""The words for the trouble between a bridge and its backend: those for the log, and those for clients.

Rule: a client learns how a process ended, and never what the process wrote to stderr: it may be about other clients.
"""

from __future__ import annotations

from ..client.transports.errors import ConnectionLost, HTTPStatusError, InvalidAnswer, RequestTimeout
from ..client.transports.process import STDERR_FOLLOWS
from ..protocol.errors import INTERNAL_ERROR, HeaderMismatch, MCPError, Refusal, UnsupportedProtocolVersion
from ..protocol.shown import escaped

MAX_SHOWN = 1_000  # characters of the reason, in an error for a client
NO_ANSWER = (ConnectionLost, RequestTimeout, HTTPStatusError)


def as_answer(exc: MCPError, name: str) -> MCPError:
    """An error between the bridge and its backend, in words for the bridge's clients.

    An error of the backend is passed on as it is, except for those that are about the bridge's own request.
    """
    if isinstance(exc, Refusal):
        return exc
    if isinstance(exc, (*NO_ANSWER, InvalidAnswer, HeaderMismatch, UnsupportedProtocolVersion)):
        # The last two are faults of the bridge's request.  An HTTP status such as 401 concerns the bridge's own
        # credentials: a client that got it would ask its user for a login.
        return MCPError(INTERNAL_ERROR, f"The backend {name} did not answer: {for_clients(one_line(exc))}")
    return exc


def one_line(exc: BaseException) -> str:
    """The reason and the end of a child's stderr, for the log: on one line, and escaped."""
    inner = getattr(exc, "exceptions", None)
    if inner:
        return one_line(inner[0])
    return escaped(" ".join(str(exc).split()) or type(exc).__name__)


def for_clients(trouble: str) -> str:
    """The reason without the stderr of the process, which may be about any other client."""
    return trouble.partition(STDERR_FOLLOWS)[0][:MAX_SHOWN]
