# SPDX-License-Identifier: MIT
"""Which revision the other end speaks: `server/discover`, then `initialize`; and what is remembered of it.

2026-07-28 basic/versioning, Backward Compatibility.  It refuses to take trouble for an answer: 401 and 403, 5xx, a
broken network say nothing of an era, and are raised.

Rule: what only a modern server says (-32020, -32021, -32022 with a modern list) is never answered by falling back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
from .transports.errors import (
    NO_VERDICT,
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    InvalidAnswer,
    RequestTimeout,
)
from .transports.urls import Origin, origin_of

PROBE_TIMEOUT = 10.0  # seconds for `server/discover`, as the official clients have it
MAX_ORIGINS = 1_000
MAX_VERSIONS = 100  # of a list of versions, what is looked at


Send = Callable[[str, dict[str, Any], "Revision | None", "float | None"], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Negotiated:
    """What both ends know of each other.  `supported` are the versions that the server named, as it named them."""

    revision: Revision
    server_info: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    instructions: str | None = None
    supported: tuple[str, ...] = ()


class EraMemory:
    """What was found out of each origin: "modern", "legacy" or "sse".  Share one among clients to ask only once.

    2026-07-28 basic/versioning lets clients remember it for an origin; what contradicts it later is asked for again.
    """

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Origin, str] = OrderedDict()

    def get(self, url: str) -> str | None:
        """The verdict on the origin of this address."""
        return self._verdicts.get(origin_of(url))

    def put(self, url: str, verdict: str) -> None:
        """Remembers it; where there are too many, the one of longest ago is forgotten."""
        origin = origin_of(url)
        self._verdicts[origin] = verdict
        self._verdicts.move_to_end(origin)
        while len(self._verdicts) > MAX_ORIGINS:
            self._verdicts.popitem(last=False)

    def drop(self, url: str) -> None:
        """It was wrong, or is no longer right."""
        self._verdicts.pop(origin_of(url), None)


async def discover(
    send: Send, *, timeout: float = PROBE_TIMEOUT, silence_is_legacy: bool, revision: Revision = LATEST_MODERN
) -> Negotiated | None:
    """Asks a server of 2026-07-28 or later what it is; None says that it is an older one.

    Args:
        silence_is_legacy: on pipes no answer is an answer: some old servers ignore what comes before `initialize`.

    Raises:
        MCPError: a modern server that there is no common revision with, or no verdict.
    """
    try:
        return await _discover(send, timeout, revision, again=True)
    except (HeaderMismatch, MissingClientCapability, UnsupportedProtocolVersion, AuthorizationRequired):
        raise
    except HTTPStatusError as error:
        if error.status == 429 or error.status >= 500:
            raise
    except RequestTimeout:
        if not silence_is_legacy:
            raise
    except ConnectionLost:
        raise
    except MCPError:  # any other error is that of a server which does not know the method, or wants a handshake first
        pass
    return None


async def _discover(send: Send, timeout: float, revision: Revision, *, again: bool) -> Negotiated | None:
    try:
        result = await send("server/discover", {}, revision, timeout)
    except UnsupportedProtocolVersion as error:
        supported = _versions(error.data.get("supported") if isinstance(error.data, dict) else None)
        mutual = [MODERN[name] for name in supported if name in MODERN]
        if mutual and again:
            return await _discover(send, timeout, mutual[0], again=False)
        if mutual or (supported and not any(name in LEGACY for name in supported)):
            raise
        return None
    supported = _versions(result.get("supportedVersions"))
    mutual = [MODERN[name] for name in supported if name in MODERN]
    if not mutual:
        return None
    return Negotiated(
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
    """The handshake of 2024-11-05 to 2025-11-25, up to the server's answer.

    Raises:
        MCPError: refused, or answered with a revision that this client does not speak: "it SHOULD disconnect"
            (2025-11-25 basic/lifecycle, Version Negotiation).
    """
    params = {"protocolVersion": revision.name, "capabilities": capabilities, "clientInfo": info}
    result = await send("initialize", params, None, timeout)
    version = result.get("protocolVersion")
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
    that answers 400 in JSON-RPC is one of Streamable HTTP; at 404 and 405 some speak JSON-RPC where nothing is served.
    """
    return (
        isinstance(error, HTTPStatusError)
        and (not error.rpc or error.status in (404, 405))
        and 400 <= error.status < 500
        and error.status not in (401, 403, 429)
    )


def contradicts(error: MCPError, modern: bool) -> bool:
    """Whether a server of this era does not answer so: then it is asked again what it is.

    In a session: the codes that only 2026-07-28 has.  In 2026-07-28: no version of it is spoken any more, or a refusal
    whose body is none of its errors, which means an older server to a probe, too (basic/versioning, Backward
    Compatibility).
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
    """Whether this is the answer of a server that takes no `initialize`, and not of one in trouble."""
    if isinstance(error, HTTPStatusError):
        return error.status < 500 and error.status not in NO_VERDICT
    return not isinstance(error, (ConnectionLost, RequestTimeout))


def _versions(value: Any) -> tuple[str, ...]:
    return tuple(name for name in value[:MAX_VERSIONS] if isinstance(name, str)) if isinstance(value, list) else ()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
