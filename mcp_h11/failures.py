# SPDX-License-Identifier: MIT
"""What goes wrong at the client's end, as exceptions: the error of an answer, or why there is none.

Rule: everything that a `Client` raises about the other end is an `MCPError`, so that one `except` sees all of it, and
what HTTP knew of it (status, WWW-Authenticate) stays with it.
"""

from __future__ import annotations

from typing import Any

from .errors import (
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

# Never on the wire: the official SDKs give these two to their own errors as well.
CONNECTION_LOST = -32000
REQUEST_TIMEOUT = -32001

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
    """The server answered with something that the protocol does not have there."""

    def __init__(self, message: str) -> None:
        super().__init__(INTERNAL_ERROR, message)


class HTTPStatusError(MCPError):
    """The server refused by HTTP itself.

    Attributes:
        status: as it came.
        headers: names in lower case; of a repeated one the last.
        rpc: whether the body was a JSON-RPC error, whose code, message and data these are then.
    """

    def __init__(self, status: int, message: str, *, headers: dict[str, str], error: dict[str, Any] | None) -> None:
        self.rpc = error is not None
        error = error or {}
        super().__init__(error.get("code", CONNECTION_LOST), error.get("message", message), error.get("data"))
        self.status = status
        self.headers = headers


class AuthorizationRequired(HTTPStatusError):
    """401 or 403.  `www_authenticate` is the challenge as it came, or None (2025-11-25 basic/authorization)."""

    @property
    def www_authenticate(self) -> str | None:
        """The challenge, which says where to get a token, and with which scopes."""
        return self.headers.get("www-authenticate")
