# SPDX-License-Identifier: MIT
"""The exceptions, each carrying its own answer: JSON-RPC code, HTTP status, data.

Rule: an exception holds plain values only (no connection, no request), so that every floor may raise it, and the answer
is decided at the place that knows the reason.  The one place that catches exceptions turns them into bytes.

Rule: an exception is made when it is raised, and is raised once.  Each raise adds its frames to the traceback of the
object, so that an object that is kept and raised again grows for ever.  Keep a `Denial` instead, or raise
`again(error)`.

The code-to-status table follows 2026-07-28 basic/transports/streamable-http.  Before that revision an ordinary
JSON-RPC error rides on HTTP 200, because clients of those revisions take other statuses for a transport fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .fieldnames import is_field_name

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# JSON-RPC does not assign these; the official SDKs use them on the wire.
SESSION_NOT_FOUND = -32001
RESOURCE_NOT_FOUND = -32002  # 2025-11-25 server/resources, Error Handling; forbidden from 2026-07-28 on
REQUEST_CANCELLED = -32800
# 2026-07-28 basic/index, Error Codes
HEADER_MISMATCH = -32020
MISSING_CLIENT_CAPABILITY = -32021
UNSUPPORTED_PROTOCOL_VERSION = -32022
# 2025-11-25 client/elicitation
URL_ELICITATION_REQUIRED = -32042

# The errors that a server of 2026-07-28 answers with an HTTP status as well as a JSON-RPC code.  Servers of earlier
# revisions have -32600 or -32000 there, so a client tells the two apart by these.
MODERN_REFUSALS = frozenset(
    (
        METHOD_NOT_FOUND,
        INVALID_PARAMS,
        INTERNAL_ERROR,
        HEADER_MISMATCH,
        MISSING_CLIENT_CAPABILITY,
        UNSUPPORTED_PROTOCOL_VERSION,
    )
)


# How much of a client's own text an error repeats, in its message and in its `data`.  The client knows the rest.
ECHOED_TEXT = 200  # characters
ECHOED = 1_024
# RFC 9110 section 5.5.  The fields that frame an answer are written by the connection alone.
_VALUE = frozenset(map(chr, (9, *range(32, 127))))
_CONNECTION_HEADERS = frozenset(("connection", "content-length", "date", "transfer-encoding"))

# Everything absent from this table is 200: the exchange worked, the method failed.
MODERN_STATUS = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CLIENT_CAPABILITY: 400,
    UNSUPPORTED_PROTOCOL_VERSION: 400,
}


Failure = TypeVar("Failure", bound=BaseException)


class MCPError(Exception):
    """A JSON-RPC error: raise it in a handler and the client gets exactly this code, message and data.

    Codes of your own belong outside -32768 to -32000 (2026-07-28 basic/index, Error Codes).
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def is_sound(self) -> bool:
        """Whether JSON-RPC allows this code and message: an integer that a double holds exactly, and a text."""
        code = self.code
        return isinstance(code, int) and type(code) is not bool and abs(code) < 2**53 and isinstance(self.message, str)

    def to_json(self) -> dict[str, Any]:
        """The `error` member of a JSON-RPC error response."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class ParseError(MCPError):
    """The body is not JSON (or not UTF-8, or too deep): -32700."""

    def __init__(self, message: str = "Parse error") -> None:
        super().__init__(PARSE_ERROR, message)


class InvalidRequest(MCPError):
    """JSON, but no JSON-RPC message: -32600.  `request_id` is the id where one could be read, else None."""

    def __init__(self, message: str = "Invalid Request", request_id: str | int | None = None) -> None:
        super().__init__(INVALID_REQUEST, message)
        self.request_id = request_id


class MethodNotFound(MCPError):
    """-32601: no such method in this revision, or its capability is not offered."""

    def __init__(self, method: str) -> None:
        super().__init__(METHOD_NOT_FOUND, f"Method not found: {method:.{ECHOED_TEXT}}", {"method": method[:ECHOED]})


class InvalidParams(MCPError):
    """-32602: wrong or missing params; also an unknown tool, prompt or cursor.

    `message` says it to the client, and `data` is any JSON value beside it.
    """

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(INVALID_PARAMS, message, data)


class InternalError(MCPError):
    """-32603 with a `message` that gives nothing away; the reason is in the log."""

    def __init__(self, message: str = "Internal error") -> None:
        super().__init__(INTERNAL_ERROR, message)


class ResourceNotFound(MCPError):
    """No resource has this `uri`: -32602 in 2026-07-28, -32002 before; the era that answers picks the code.

    `message` replaces the text, which names the URI.
    """

    def __init__(self, uri: str, message: str | None = None) -> None:
        text = message or f"Resource not found: {uri:.{ECHOED}}"
        super().__init__(INVALID_PARAMS, text, {"uri": uri[:ECHOED]})


class HeaderMismatch(MCPError):
    """-32020: a mirrored header is missing, malformed, or disagrees with the body (2026-07-28).  `message` names it."""

    def __init__(self, message: str) -> None:
        super().__init__(HEADER_MISMATCH, message)


class MissingClientCapability(MCPError):
    """-32021: the call needs something that the client did not declare.

    `required` has the shape of ClientCapabilities, for example ``{"sampling": {}}``; `message` replaces the text.
    """

    def __init__(self, required: dict[str, Any], message: str | None = None) -> None:
        text = message or f"The client did not declare a capability that this request needs: {', '.join(required)}"
        super().__init__(MISSING_CLIENT_CAPABILITY, text, {"requiredCapabilities": required})


class UnsupportedProtocolVersion(MCPError):
    """-32022: the `requested` revision is not served; the `supported` ones are."""

    def __init__(self, requested: str, supported: Sequence[str]) -> None:
        data = {"supported": list(supported), "requested": requested[:ECHOED]}
        text = f"Unsupported protocol version: {requested:.{ECHOED_TEXT}}"
        super().__init__(UNSUPPORTED_PROTOCOL_VERSION, text, data)


class ToolError(Exception):
    """A tool failure you foresaw: the message reaches the model (`isError`), and no traceback is logged."""


class EventsExpired(Exception):
    """An `EventStore` no longer holds what followed the cursor: resuming would leave a gap."""


class Refusal(MCPError):
    """A refusal that HTTP itself can see: a status other than 200, maybe extra headers, maybe the end of it.

    A handler may raise one as well, with a `WWW-Authenticate` of its own for instance; it keeps its status and its
    headers while nothing of the answer has been sent (docs/handler.md).

    Args:
        status: The HTTP status, from 400 to 599.
        message, code, data: Those of the JSON-RPC error.
        headers: Pairs of name and value for the answer's head.
        close: Whether the connection must not be used again.

    Raises:
        ValueError: Another status, or headers that cannot be sent.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: int = INVALID_REQUEST,
        headers: Sequence[tuple[str, str]] = (),
        close: bool = False,
        data: Any = None,
    ) -> None:
        super().__init__(code, message, data)
        if type(status) is not int or not 400 <= status <= 599:
            raise ValueError(f"the status of a refusal is from 400 to 599, not {status!r}")
        self.status = status
        self.headers = tuple(headers)
        self.close = close
        for name, value in self.headers:
            _check_header(name, value)


@dataclass(frozen=True)
class Denial:
    """A `Refusal` as a value, which can be kept for as long as the reason holds.  `refusal()` makes the exception."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def refusal(self) -> Refusal:
        """A new exception each time."""
        return Refusal(self.status, self.message, headers=self.headers)


def again(error: Failure) -> Failure:
    """The same error as a new object, for an error that several callers are told, or that is told more than once.

    It has the class, the arguments, the attributes and the cause of the first one, and no traceback.
    """
    # An OSError leaves the name of its file out of `args`.
    arguments = error.__reduce__()[1] if isinstance(error, OSError) else error.args
    made = type(error).__new__(type(error), *arguments)
    made.__dict__.update(error.__dict__)
    made.__cause__, made.__suppress_context__ = error.__cause__, error.__suppress_context__
    return made


def _check_header(name: str, value: str) -> None:
    """A header is checked when the refusal is made: when it is written, it is too late for another answer."""
    fits = isinstance(name, str) and isinstance(value, str) and is_field_name(name) and _VALUE.issuperset(value)
    if not fits or value != value.strip() or name.lower() in _CONNECTION_HEADERS:
        raise ValueError(f"not a header that a refusal can have: {name!r:.100}: {value!r:.100}")


def session_required() -> Refusal:
    """2025-11-25 basic/transports, Session Management 2: a request without the session header is 400."""
    return Refusal(400, "Bad Request: Mcp-Session-Id header is required", code=-32000)


def session_not_found() -> Refusal:
    """2025-11-25 basic/transports, Session Management 3: 404, and clients start anew on it."""
    return Refusal(404, "Session not found", code=SESSION_NOT_FOUND)


def overloaded(message: str = "Server is busy", retry_after: int = 1) -> Refusal:
    """503 with `Retry-After` in seconds: a cap is reached and waiting would be unbounded."""
    # -32603 and not -32000: new implementations avoid -32000 to -32019 (2026-07-28 basic/index, Error Codes).
    return Refusal(503, message, code=INTERNAL_ERROR, headers=(("Retry-After", str(retry_after)),))
