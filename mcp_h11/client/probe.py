# SPDX-License-Identifier: MIT
"""Finds the era and the revision of a server by `server/discover` or `initialize`, and remembers the era of an origin.

The rules are those of 2026-07-28 basic/versioning, Backward Compatibility.  The era of a server is one of two groups of
revisions: "modern" are 2026-07-28 and later, which need no handshake; "legacy" are those before, with `initialize`.

It refuses to read trouble as an answer: 401, 403, 5xx and a broken network say nothing about an era, and are raised.

Rule: after an error that only a modern server sends (-32020, -32021, -32022 with a modern list) the client never falls
back to a handshake.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from ..protocol.errors import (
    MODERN_REFUSALS,
    HeaderMismatch,
    MCPError,
    MissingClientCapability,
    UnsupportedProtocolVersion,
)
from ..protocol.methods import META_SERVER
from ..protocol.revisions import LATEST_LEGACY, LATEST_MODERN, LEGACY, MODERN, Revision
from .conversation.request import Negotiated
from .http.urls import Origin, origin_of
from .transports.errors import (
    NO_VERDICT,
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    InvalidAnswer,
    LoginFailed,
    RequestTimeout,
)

# Seconds for `server/discover`; the official clients have the same limit.
PROBE_TIMEOUT = 10.0
# Origins that one `EraMemory` remembers.
MAX_ORIGINS = 1_000
# Entries of a server's list of versions that are read.
MAX_VERSIONS = 100

# Sends one request: method, params, the revision to write it in (None before a handshake), seconds.
Send = Callable[[str, dict[str, Any], "Revision | None", "float | None"], Awaitable[dict[str, Any]]]


class EraMemory:
    """Remembers for each origin "modern", "legacy" or "sse".  Clients that share one ask a server only once.

    2026-07-28 basic/versioning lets clients remember this.  An answer that contradicts it drops the entry.
    """

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Origin, str] = OrderedDict()

    def get(self, url: str) -> str | None:
        """The entry of the origin of `url`; None where there is none."""
        return self._verdicts.get(origin_of(url))

    def put(self, url: str, verdict: str) -> None:
        """Remembers `verdict` for the origin of `url`.  When the memory is full, the oldest entry is dropped."""
        origin = origin_of(url)
        self._verdicts[origin] = verdict
        # An origin that is in use must not be the first to be dropped.
        self._verdicts.move_to_end(origin)
        while len(self._verdicts) > MAX_ORIGINS:
            self._verdicts.popitem(last=False)

    def drop(self, url: str) -> None:
        """Drops the entry of the origin of `url`, because the server contradicted it."""
        self._verdicts.pop(origin_of(url), None)


async def discover(
    send: Send, *, timeout: float = PROBE_TIMEOUT, silence_is_legacy: bool, revision: Revision = LATEST_MODERN
) -> Negotiated | None:
    """Sends `server/discover`.  Gives None for a legacy server, which does not know this method.

    Args:
        silence_is_legacy: whether a timeout means a legacy server.  On pipes it does: some old servers ignore requests
            before `initialize`.

    Raises:
        MCPError: the server is modern and has no revision in common with this client, or its era remains unknown.
    """
    try:
        return await _discover(send, timeout, revision, again=True)
    except (HeaderMismatch, MissingClientCapability, UnsupportedProtocolVersion, AuthorizationRequired):
        raise
    except HTTPStatusError as error:
        # Trouble says nothing of an era: the same server may answer a moment later.
        if error.status == 429 or error.status >= 500:
            raise
    except RequestTimeout:
        if not silence_is_legacy:
            raise
    except (ConnectionLost, LoginFailed):
        raise
    except MCPError:  # any other error: the server does not know the method, or wants a handshake first
        pass
    return None


async def _discover(send: Send, timeout: float, revision: Revision, *, again: bool) -> Negotiated | None:
    try:
        result = await send("server/discover", {}, revision, timeout)
    except UnsupportedProtocolVersion as error:
        # The list in the error shows the era: a list of legacy versions alone means that a handshake is wanted.
        supported = _versions(error.data.get("supported") if isinstance(error.data, dict) else None)
        mutual = [MODERN[name] for name in supported if name in MODERN]
        # Once only: a server that refuses what it listed would be asked for ever.
        if mutual and again:
            return await _discover(send, timeout, mutual[0], again=False)
        if mutual or (supported and not any(name in LEGACY for name in supported)):
            raise
        return None
    supported = _versions(result.get("supportedVersions"))
    mutual = [MODERN[name] for name in supported if name in MODERN]
    # It answers the method and lists no modern version: a handshake finds out the rest.
    if not mutual:
        return None
    return Negotiated(
        # The wanted revision, and else the first that the server names.
        revision if revision in mutual else mutual[0],
        _object((_object(result.get("_meta"))).get(META_SERVER)),
        _object(result.get("capabilities")),
        _text(result.get("instructions")),
        supported,
    )


async def initialize(
    send: Send,
    info: dict[str, Any],
    capabilities: dict[str, Any],
    *,
    timeout: float | None,
    revision: Revision = LATEST_LEGACY,
) -> Negotiated:
    """Sends `initialize`, with which a session of 2024-11-05 to 2025-11-25 begins, and reads the answer.

    Raises:
        MCPError: the server refuses, or names a revision that this client does not speak.  Then a client "SHOULD
            disconnect" (2025-11-25 basic/lifecycle, Version Negotiation).
    """
    params = {"protocolVersion": revision.name, "capabilities": capabilities, "clientInfo": info}
    result = await send("initialize", params, None, timeout)
    version = result.get("protocolVersion")
    # A legacy server may name an older revision, but a modern one has no `initialize`.
    agreed = LEGACY.get(version) if isinstance(version, str) else None
    if agreed is None:
        raise InvalidAnswer(f"the server wants to speak {str(version)[:50]!r}, which is not spoken here")
    return Negotiated(
        agreed,
        _object(result.get("serverInfo")),
        _object(result.get("capabilities")),
        _text(result.get("instructions")),
        (agreed.name,),
    )


def means_http_sse(error: MCPError) -> bool:
    """Whether a refused `initialize` is a reason to try HTTP+SSE.

    2025-11-25 basic/transports, Backwards Compatibility: 400, 404 and 405; any 4xx in the revisions before.  A server
    that answers 400 with a JSON-RPC error speaks Streamable HTTP.  With 404 and 405 a JSON-RPC error proves nothing:
    some servers send one for each path that they do not serve.
    """
    return (
        isinstance(error, HTTPStatusError)
        and (not error.rpc or error.status in (404, 405))
        and 400 <= error.status < 500
        and error.status not in (401, 403, 429)
    )


def contradicts(error: MCPError, modern: bool) -> bool:
    """Whether no server of this era sends such an error, so that the era of the server may have changed.

    A legacy server does not send the error codes that are new in 2026-07-28.  A modern server does not list legacy
    versions only, and does not refuse with a body that is none of the errors of 2026-07-28.  In a probe such answers
    mean a legacy server as well (basic/versioning, Backward Compatibility).
    """
    if not modern:
        return isinstance(error, (HeaderMismatch, MissingClientCapability, UnsupportedProtocolVersion))
    if isinstance(error, UnsupportedProtocolVersion):
        supported = _versions(error.data.get("supported") if isinstance(error.data, dict) else None)
        return bool(supported) and not any(name in MODERN for name in supported)
    return (
        isinstance(error, HTTPStatusError)
        and 400 <= error.status < 500
        and error.status not in NO_VERDICT
        and not (error.rpc and error.code in MODERN_REFUSALS)
    )


def refuses_handshake(error: MCPError) -> bool:
    """Whether a server that does not accept `initialize` answered so.  A server in trouble contradicts nothing."""
    if isinstance(error, HTTPStatusError):
        return error.status < 500 and error.status not in NO_VERDICT
    return not isinstance(error, (ConnectionLost, LoginFailed, RequestTimeout))


def _versions(value: Any) -> tuple[str, ...]:
    # The list is a stranger's: what is no text in it is passed over, and its length is bounded.
    return tuple(name for name in value[:MAX_VERSIONS] if isinstance(name, str)) if isinstance(value, list) else ()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
