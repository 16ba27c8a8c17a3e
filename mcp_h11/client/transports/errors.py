# SPDX-License-Identifier: MIT
"""What goes wrong at the client's end, as exceptions: the error of an answer, or why there is none.

Rule: everything that a `Client` raises about the other end is an `MCPError`, so that one `except` sees all of it, and
what HTTP knew of it (status, WWW-Authenticate) stays with it.
"""

from __future__ import annotations

from typing import Any

from ...protocol.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_PROTOCOL_VERSION,
    HeaderMismatch,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MCPError,
    MethodNotFound,
    MissingClientCapability,
    ParseError,
    ResourceNotFound,
    UnsupportedProtocolVersion,
)
from ...protocol.shown import escaped

# Never on the wire: the official SDKs give these two to their own errors as well.
CONNECTION_LOST = -32000
REQUEST_TIMEOUT = -32001

# Of a body that is no answer: bytes that stay on the exception, and characters in its text.
KEPT_OF_BODY = 1024
SHOWN_OF_BODY = 200

_CLASSES: dict[int, type[MCPError]] = {
    PARSE_ERROR: ParseError,
    INVALID_REQUEST: InvalidRequest,
    METHOD_NOT_FOUND: MethodNotFound,
    INVALID_PARAMS: InvalidParams,
    INTERNAL_ERROR: InternalError,
    RESOURCE_NOT_FOUND: ResourceNotFound,
    HEADER_MISMATCH: HeaderMismatch,
    MISSING_CLIENT_CAPABILITY: MissingClientCapability,
    UNSUPPORTED_PROTOCOL_VERSION: UnsupportedProtocolVersion,
}


def answered_error(error: dict[str, Any], method: str | None = None) -> MCPError:
    """The exception for the `error` of a JSON-RPC answer, of the class that its code has here.

    2026-07-28 gave the missing resource the code of invalid params (server/resources, Error Handling): `method` and
    `data.uri` tell them apart, so that ResourceNotFound is raised in either era.
    """
    code, data = error["code"], error.get("data")
    kind = _CLASSES.get(code, MCPError)
    if code == INVALID_PARAMS and method == "resources/read" and isinstance(data, dict) and "uri" in data:
        kind = ResourceNotFound
    # Their constructors take what a server has, and write the message themselves: here it is there already.
    made = kind.__new__(kind)
    MCPError.__init__(made, code, error["message"], data)
    if isinstance(made, InvalidRequest):
        made.request_id = None
    return made


def excerpt(body: bytes, length: int = SHOWN_OF_BODY) -> str:
    """The beginning of a text that came from a server, on one line, as it may be shown."""
    # A character of UTF-8 has four bytes at most.
    return escaped(" ".join(body[: 4 * length].decode("utf-8", "replace").split())[:length])


# Refusals by HTTP that say nothing of an era: of who asks, how much, how often, how slowly.
NO_VERDICT = (401, 403, 408, 413, 429, 431)


class ConnectionLost(MCPError):
    """No answer will come.  `sent` is False where the request certainly never left: it is safe to repeat then."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(CONNECTION_LOST, message)
        self.sent = sent


class SessionLost(ConnectionLost):
    """The server has forgotten the session; there is a new one, but this request may have been executed before."""


class RequestTimeout(MCPError):
    """No answer came in time; the server was told, as its revision wants it."""

    def __init__(self, message: str) -> None:
        super().__init__(REQUEST_TIMEOUT, message)


class InvalidAnswer(MCPError):
    """The server answered with something that the protocol does not have there.

    Attributes:
        body: the beginning of the bytes that came, at most `KEPT_OF_BODY`; the text has the first characters as well.
    """

    def __init__(self, message: str, body: bytes = b"") -> None:
        self.body = body[:KEPT_OF_BODY]
        super().__init__(INTERNAL_ERROR, f"{message}; it begins with: {excerpt(body)}" if body else message)


class HTTPStatusError(MCPError):
    """The server, or a proxy before it, refused by HTTP itself.  The text has status, reason and `retry_after`.

    Attributes:
        status: as it came.
        headers: names in lower case; of a repeated one the last.
        rpc: whether the body was a JSON-RPC error, whose code, message and data these are then.
        reason: the words of the body, in one line: of JSON its `title`, `detail`, `error` or `message` (RFC 9457), of
            HTML its title, else the beginning; "" where it is empty.  Of a JSON-RPC error its message.
        retry_after: seconds, as `Retry-After` said when it came (RFC 9110 10.2.3); None without one.
        body: the beginning of the body, `KEPT_OF_BODY` bytes at most.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: dict[str, str],
        error: dict[str, Any] | None,
        reason: str = "",
        retry_after: float | None = None,
        body: bytes = b"",
    ) -> None:
        self.rpc = error is not None
        error = error or {}
        if reason:
            message = f"{message}: {reason}"
        again = "" if retry_after is None else f"it may be tried again after {retry_after:.0f} s"
        if again and not self.rpc:
            message = f"{message}; {again}"
        super().__init__(error.get("code", CONNECTION_LOST), error.get("message", message), error.get("data"))
        if self.rpc:  # `message` stays the server's own
            self.args = (f"{self.message} (status {status}{'; ' if again else ''}{again})",)
        self.status = status
        self.headers = headers
        self.reason = error.get("message", reason)
        self.retry_after = retry_after
        self.body = body[:KEPT_OF_BODY]


class AuthorizationRequired(HTTPStatusError):
    """401 or 403.  `www_authenticate` is the challenge as it came, or None (2025-11-25 basic/authorization)."""

    @property
    def www_authenticate(self) -> str | None:
        """The challenge, which says where to get a token, and with which scopes."""
        return self.headers.get("www-authenticate")
