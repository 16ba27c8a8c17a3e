# SPDX-License-Identifier: MIT
"""The options of a `Client` as one value, checked when the client is made.

It refuses a value that could only fail later, at a request: a token with a line end, a proxy that is no address, a
timeout of zero.  Its errors never show a secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..handler.extension import check_identifier
from ..handler.handler import ServerHandler
from ..protocol.revisions import REVISIONS, Revision
from ..telemetry.providers import checked_tracing
from .conversation.cache import Same
from .http.httpclient import HTTPClient, Middleware
from .http.middleware import TokenProvider
from .http.outbound import FROM_ENVIRONMENT, ForwardProxies
from .http.urls import is_url, parse_url
from .probe import EraMemory
from .targets import Url
from .transports.base import Transport

if TYPE_CHECKING:
    import ssl as tls


class Auth(Protocol):
    """What `Client(auth=...)` takes, such as an `OAuth`: makes the middleware that sends the tokens for one address."""

    def middleware(
        self,
        url: str,
        http: Callable[[], HTTPClient] | None = None,
        patience: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Middleware:
        """A middleware for the requests to `url`.

        Args:
            http: makes HTTP clients with the same TLS and proxies, without middleware.
            patience: a context within which the client's requests have no time limit.

        Raises:
            ValueError: no token can go to this address.
        """
        ...


ClientTarget = str | Sequence[str] | ServerHandler | Transport | Callable[[], Transport]
# Seconds for everything that the end of a client may take: a DELETE, or a child process that ignores signals.
CLOSE_LIMIT = 15.0


def with_extensions(
    capabilities: Mapping[str, Any] | None, extensions: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Any]:
    """The capabilities that a client declares, with its extensions.

    Raises ValueError for a malformed identifier, and TypeError for settings that are no object.
    """
    declared = dict(capabilities or {})
    for identifier, settings in (extensions or {}).items():
        check_identifier(identifier, "extensions")
        if not isinstance(settings, Mapping):
            raise TypeError(f"the settings of {identifier} are an object, not a {type(settings).__name__}")
    if extensions:
        known = declared.get("extensions") or {}
        declared["extensions"] = {**known, **{name: dict(settings) for name, settings in extensions.items()}}
    return declared


@dataclass(frozen=True)
class Options:
    """How a client reaches its server, and how long it waits for it; `Client` explains each option."""

    target: ClientTarget
    info: dict[str, Any]
    revision: Revision | None
    transport: str | None
    headers: dict[str, str]
    token: str | TokenProvider | None
    middleware: tuple[Middleware, ...]
    ssl: tls.SSLContext | None
    env: Mapping[str, str] | str | None
    cwd: str | None
    timeout: float | None
    memory: EraMemory
    proxy: str | None = FROM_ENVIRONMENT
    ping_every: float | None = None
    ping_timeout: float = 10.0
    close_timeout: float = CLOSE_LIMIT
    result_types: Collection[str] = ()
    auth: Auth | None = None
    tracing: Any = None

    def __post_init__(self) -> None:
        for seconds in (self.timeout, self.ping_every, self.ping_timeout, self.close_timeout):
            # Not `<= 0`: a number that is no number (NaN) is refused as well.
            if seconds is not None and not seconds > 0:
                raise ValueError(f"a number of seconds must be positive, or None for no limit: {seconds!r}")
        if not all(map(callable, self.middleware)):
            raise TypeError("middleware is a list of coroutine functions: async (call, next) -> answer")
        checked_tracing(self.tracing)
        if self.transport not in (None, "http", "sse"):
            raise ValueError(f'transport is "http", "sse" or None, not {self.transport!r}')
        # A token of bytes would be sent as "b'...'".
        if self.token is not None and not isinstance(self.token, str) and not callable(self.token):
            raise TypeError(f"token is a text, a function or a coroutine function, not {type(self.token).__name__}")
        if self.auth is not None and self.token is not None:
            raise ValueError("auth and token both set the header Authorization: give one of them")
        if self.url is not None:
            if self.auth is not None:
                self.auth.middleware(self.url)
            # A secret with a line end would fail at each request, in an error that shows it.  These checks do not.
            parse_url(self.url)
            self.proxies()
            Url(self.url, self.headers, self.token)
        # Found here: the transport would connect and then refuse each request.
        if self.transport == "sse" and self.revision is not None and self.revision.modern:
            raise ValueError(f"HTTP+SSE does not carry {self.revision.name}")

    @property
    def url(self) -> str | None:
        """The target, if it is an address."""
        return self.target if isinstance(self.target, str) and is_url(self.target) else None

    def proxies(self) -> ForwardProxies | None:
        """Chooses the forward proxy for an address; None connects directly.  Raises ValueError for a wrong address."""
        if self.proxy is None:
            return None
        return ForwardProxies(os.environ, None if self.proxy == FROM_ENVIRONMENT else self.proxy)

    @property
    def server(self) -> Hashable:
        """The key of this server in a cache: equal for two clients that get the same public results.

        An address under another TLS context, or with other headers, may be another server; so is a command in another
        folder or environment.  `Authorization` and `Cookie` name the user, and a public result is for all users.
        """
        if self.url is not None:
            headers = {(name.lower(), value) for name, value in self.headers.items()}
            named = frozenset(pair for pair in headers if pair[0] not in ("authorization", "cookie"))
            return self.url, named, Same(self.ssl), self.proxy
        if isinstance(self.target, (str, Sequence)):
            env = frozenset(self.env.items()) if isinstance(self.env, Mapping) else self.env
            return self.target if isinstance(self.target, str) else tuple(self.target), env, self.cwd
        return Same(self.target)


def revision_named(name: str | None) -> Revision | None:
    """The revision with this name; None for None.  Raises ValueError for a name that no revision has."""
    if name is not None and name not in REVISIONS:
        raise ValueError(f"no such revision: {name!r}; there are {', '.join(REVISIONS)}")
    return None if name is None else REVISIONS[name]
