# SPDX-License-Identifier: MIT
"""The exceptions of a client: the error of an answer, or the reason why there is no answer.

Rule: every exception that a `Client` raises about the other end is an `MCPError`, so that one `except` catches them
all.  The facts of HTTP (status, WWW-Authenticate) stay with it.
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

# These two codes are never on the wire.  The official SDKs give them to their own errors as well.
CONNECTION_LOST = -32000
REQUEST_TIMEOUT = -32001

# Bytes of a body that is no answer which stay on the exception, and characters of it in the exception's text.
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
    # The constructors of these classes are for servers, and write the message.  Here the server has written it.
    made = kind.__new__(kind)
    MCPError.__init__(made, code, error["message"], data)
    if isinstance(made, InvalidRequest):
        made.request_id = None
    return made


def excerpt(body: bytes, length: int = SHOWN_OF_BODY) -> str:
    """The beginning of a server's text, on one line and escaped for messages and logs."""
    # A character of UTF-8 has four bytes at most.
    return escaped(" ".join(body[: 4 * length].decode("utf-8", "replace").split())[:length])


# Refusals by HTTP that do not depend on the server's era: they are about credentials, size, rate and time.
NO_VERDICT = (401, 403, 408, 413, 429, 431)


class ConnectionLost(MCPError):
    """No answer will come.  `sent` is False if the request certainly never left: then it is safe to repeat."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(CONNECTION_LOST, message)
        self.sent = sent


class SessionLost(ConnectionLost):
    """The server has forgotten the session; there is a new one, but this request may have been executed before."""


class RequestTimeout(MCPError):
    """No answer came in time.  The request was cancelled at the server, in the way of its revision."""

    def __init__(self, message: str) -> None:
        super().__init__(REQUEST_TIMEOUT, message)


class InvalidAnswer(MCPError):
    """The server broke the protocol with its answer.

    Attributes:
        body: the beginning of the answer, `KEPT_OF_BODY` bytes at most.  The text quotes the first characters.
    """

    def __init__(self, message: str, body: bytes = b"") -> None:
        self.body = body[:KEPT_OF_BODY]
        super().__init__(INTERNAL_ERROR, f"{message}; it begins with: {excerpt(body)}" if body else message)


class HTTPStatusError(MCPError):
    """The server, or a proxy before it, refused with an HTTP status.  The text has status, reason and `retry_after`.

    Attributes:
        status: the HTTP status.
        headers: names in lower case; the last value of a repeated header.
        rpc: whether the body was a JSON-RPC error.  Then `code`, `message` and `data` are those of the error.
        reason: the words of the body, in one line: the message of a JSON-RPC error, the `title`, `detail`, `error` or
            `message` of other JSON (RFC 9457), the title of HTML, else the beginning; "" for an empty body.
        retry_after: seconds from the answer on, by `Retry-After` (RFC 9110 10.2.3); None without that header.
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
        # A JSON-RPC error has a message of the server's own, which stays as it is.
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
    """401 or 403.  `www_authenticate` is the server's challenge, or None (2025-11-25 basic/authorization)."""

    @property
    def www_authenticate(self) -> str | None:
        """The challenge, which names the place to get a token, and the scopes."""
        return self.headers.get("www-authenticate")


class LoginFailed(MCPError):
    """There is no token for the server, because a login or a refresh came to no end.  It says what to do.

    It is no refusal by the MCP server, and says nothing about its era: the same request may succeed after a login.

    Attributes:
        step: the part that failed: "resource metadata", "server metadata", "registration", "authorization", "token",
            "refresh", or "" where it is none of these.
        address: the address that was asked, without its query; "" where none was.
    """

    def __init__(self, message: str, *, step: str = "", address: str = "") -> None:
        where = f" ({step}{f' at {address}' if address else ''})" if step else ""
        super().__init__(CONNECTION_LOST, escaped(f"the login failed{where}: {message}"))
        self.step = step
        self.address = address
