# SPDX-License-Identifier: MIT
"""What the answers of an HTTP client mean to a client of MCP: their form, their refusals, their end.

It refuses bodies past a limit, and turns every failure of HTTP into an exception of `failures`.
"""

from __future__ import annotations

from typing import Any

import anyio

from .errors import MCPError
from .failures import AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer
from .httpclient import ConnectError, HTTPAnswer, HTTPFailure, TooLarge
from .jsonrpc import JSON, ErrorResponse

# Of the body of a refusal: enough for any JSON-RPC error, and for what a proxy says of itself.
MAX_REFUSAL = 1024 * 1024
SHOWN = 300
# Seconds for what is nobody's business any more: the rest of a body, a DELETE.
END_LIMIT = 5.0


def media_type(answer: HTTPAnswer) -> str:
    """Without parameters, in lower case; "" where there is none."""
    return (answer.get("content-type") or "").partition(";")[0].strip().lower()


async def whole(answer: HTTPAnswer, limit: int) -> bytes:
    """The body.  Raises ConnectionLost where it is cut off, InvalidAnswer where it is too large."""
    try:
        return await answer.read(limit)
    except TooLarge:
        raise InvalidAnswer(f"an answer of more than {limit} bytes") from None
    except HTTPFailure as error:
        raise ConnectionLost(f"the answer was cut off: {error}") from error


async def leave(answer: HTTPAnswer) -> None:
    """Gives the connection back, or closes it where the body was not read to its end; even when cancelled."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(END_LIMIT):
        await answer.aclose()


async def refusal(answer: HTTPAnswer, json: JSON, method: str | None) -> HTTPStatusError:
    """The exception for an answer that is no success."""
    error: dict[str, Any] | None = None
    text = b""
    try:
        text = await answer.read(MAX_REFUSAL)
        found = json.decode(text)
        error = found.error if isinstance(found, ErrorResponse) else None
    except (MCPError, HTTPFailure):
        pass  # not every refusal is the server's own: proxies speak HTML
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    said = text[:SHOWN].decode("utf-8", "replace").strip() if media_type(answer) == "text/plain" else ""
    message = f"{method or 'an answer'} was refused with status {answer.status}" + (f": {said}" if said else "")
    kind = AuthorizationRequired if answer.status in (401, 403) else HTTPStatusError
    return kind(answer.status, message, headers=headers, error=error)


def shown(url: str) -> str:
    """An address for messages and logs: without credentials, and without a query, which may be a key or a session."""
    scheme, colon, rest = url.partition("#")[0].partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{colon}{authority.rpartition('@')[2]}{slash}{path}"


def lost(error: Exception, url: str) -> ConnectionLost:
    """What a failure of the HTTP client means to whoever waits for an answer."""
    sent = getattr(error, "sent", not isinstance(error, ConnectError))
    return ConnectionLost(f"no answer from {shown(url)}: {error or type(error).__name__}", sent=bool(sent))
