# SPDX-License-Identifier: MIT
"""Reads the answers of the HTTP client for MCP: their media type, their body, their refusals.

It refuses bodies past a limit, and turns every failure of HTTP into an exception of `errors`.

Rule: an error shows the server's own words, cut to one line, since they are often the only hint at the cause.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from html import unescape
from json import loads as parse_json
from time import time
from typing import Any

import anyio

from ...http.headers import JSON_TYPE
from ...protocol.errors import MCPError
from ...protocol.jsonrpc import JSON, ErrorResponse
from ..http.urls import shown
from ..http.wire import ConnectError, HTTPAnswer, HTTPFailure, TooLarge
from . import lenient
from .errors import KEPT_OF_BODY, AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer, excerpt

# Bytes of a refusal's body: enough for any JSON-RPC error, and for the error page of a proxy.
MAX_REFUSAL = 1024 * 1024
SHOWN = 300  # characters of a refusal's reason
MAX_TITLE = 4096  # bytes of HTML in which its title is looked for
MAX_NESTED = 3
MAX_DELAY_DIGITS = 9
_TITLE = re.compile(rb"<title[^>]*>\s*([^<]+?)\s*</title", re.IGNORECASE)
# In this order: RFC 9457, FastAPI and JSON-RPC, OAuth, gateways.
_WORDS = ("title", "error", "message", "msg", "detail", "details", "error_description", "reason", "errors")
# Seconds for work that no caller waits for: the rest of a body, a DELETE.
END_LIMIT = 5.0


def media_type(answer: HTTPAnswer) -> str:
    """The media type without parameters, in lower case; "" if there is none."""
    if type(answer) is HTTPAnswer:
        return answer.media_type
    return (answer.get("content-type") or "").partition(";")[0].strip().lower()


async def whole(answer: HTTPAnswer, limit: int) -> bytes:
    """The body.  Raises ConnectionLost if it is cut off, InvalidAnswer if it is too large."""
    try:
        return await answer.read(limit)
    except TooLarge:
        raise InvalidAnswer(f"an answer of more than {limit} bytes") from None
    except HTTPFailure as error:
        raise ConnectionLost(f"the answer was cut off: {error}") from error


async def leave(answer: HTTPAnswer) -> None:
    """Gives the connection back, or closes it if the body was not read to its end; even in a cancelled task."""
    if type(answer) is HTTPAnswer:
        answer.close()
        return
    # A middleware may give an answer of its own.
    with anyio.CancelScope(shield=True), anyio.move_on_after(END_LIMIT):
        await answer.aclose()


async def start_of(answer: HTTPAnswer) -> bytes:
    """The beginning of a body that is no answer, for an error.  The body itself may never end."""
    body = bytearray()
    with anyio.move_on_after(END_LIMIT):
        try:
            async for piece in answer:
                body += piece
                if len(body) >= KEPT_OF_BODY:
                    break
        except HTTPFailure:
            pass  # the bytes before the cut are enough
    return bytes(body[:KEPT_OF_BODY])


async def refusal(answer: HTTPAnswer, json: JSON, method: str | None) -> HTTPStatusError:
    """The exception for an answer that is no success."""
    error: dict[str, Any] | None = None
    body = b""
    try:
        body = await answer.read(MAX_REFUSAL)
        found = lenient.read(json, body)
        error = found.error if isinstance(found, ErrorResponse) else None
    except (MCPError, HTTPFailure):
        pass  # the body is no JSON-RPC: a proxy may have refused, in HTML
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    message = f"{method or 'an answer'} was refused with status {answer.status}"
    kind = AuthorizationRequired if answer.status in (401, 403) else HTTPStatusError
    reason = "" if error is not None else reason_in(media_type(answer), body)
    after = seconds_in(headers.get("retry-after"))
    return kind(answer.status, message, headers=headers, error=error, reason=reason, retry_after=after, body=body)


def reason_in(kind: str, body: bytes) -> str:
    """The words of a refusal's body, in one line of at most `SHOWN` characters; "" if there are none.

    JSON gives the members that are meant for people (RFC 9457 `title` and `detail`, and those of frameworks and
    proxies), HTML gives its title, and any other body its beginning.
    """
    if kind == JSON_TYPE or kind.endswith("+json"):
        try:
            said = _words(parse_json(body.removeprefix(b"\xef\xbb\xbf")))
        except (ValueError, RecursionError):
            said = ""
        return excerpt((said or body.decode("utf-8", "replace")).encode("utf-8", "replace"), SHOWN)
    if kind == "text/html":
        title = _TITLE.search(body[:MAX_TITLE])
        if title is not None:
            return excerpt(unescape(title[1].decode("utf-8", "replace")).encode("utf-8", "replace"), SHOWN)
    return excerpt(body, SHOWN)


def _words(value: Any, depth: int = 0) -> str:
    """The words in a JSON value that describes an error; several are joined by colons."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        value = value[0] if value else None
        return _words(value, depth)
    if not isinstance(value, dict) or depth > MAX_NESTED:
        return ""
    found = [_words(value[name], depth + 1) for name in _WORDS if name in value]
    return ": ".join(dict.fromkeys(word for word in found if word))


def seconds_in(retry_after: str | None) -> float | None:
    """The header `Retry-After`, a number or a date (RFC 9110 10.2.3), as seconds from now; None if it is neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= MAX_DELAY_DIGITS:
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def lost(error: Exception, url: str) -> ConnectionLost:
    """The exception of a client for a failure of its HTTP client."""
    sent = getattr(error, "sent", not isinstance(error, ConnectError))
    return ConnectionLost(f"no answer from {shown(url)}: {error or type(error).__name__}", sent=bool(sent))
