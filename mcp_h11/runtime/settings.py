# SPDX-License-Identifier: MIT
"""Everything an operator can set, with its default.

Rule: None switches a limit off.  A limit of 0 is refused, because one person reads it as "none" and the next as
"unlimited".  Settings are frozen: a running server does not change under its connections.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..http.addresses import checked_prefix
from ..http.auth import Principal as Principal
from ..http.auth import ScopeIncludes, TokenVerifier, canonical_uri, checked_issuer, checked_scopes
from ..http.auth import subject as subject
from ..http.forwarded import Proxies
from ..http.messages import Limits
from ..protocol.jsonrpc import MAX_MESSAGE_VALUES
from ..telemetry.providers import checked_tracing
from .storage import EventStore, SessionManager

DEFAULT_PATH = "/mcp"

# Called with the head of each request (`.get(name)`, `.method`, `.path`).  Returns the principal, as an object with a
# `subject` or as a str; None refuses the request with 401.  May be a coroutine function.
Authorize = Callable[[Any], Any | Awaitable[Any]]


if TYPE_CHECKING:
    from dataclasses import dataclass as _settings

    from ..stores.base import Store  # a server without a store loads nothing of them
else:
    # A dataclass generates methods for its eighty fields at start.  That costs 384 KiB, which are never freed
    # (24,616 KiB with them, 24,232 without: docs/performance.md).  So `_Keywords` has the same methods, hand-written.
    _settings = partial(dataclass, init=False, repr=False, eq=False)


class _Keywords:
    """The methods of a frozen dataclass with keywords only, written by hand."""

    if not TYPE_CHECKING:

        def __init__(self, **values):
            """Raises TypeError for a name that is no setting, and ValueError for a value that is refused."""
            for f in fields(self):
                object.__setattr__(self, f.name, values.pop(f.name, f.default))
            for name in values:
                raise TypeError(f"{type(self).__name__} has no {name!r}")
            self.__post_init__()

        def __repr__(self):
            shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
            return f"{type(self).__qualname__}({', '.join(shown)})"

        def __eq__(self, other):
            if type(other) is not type(self):
                return NotImplemented
            return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))

        def __hash__(self):
            return hash(tuple(getattr(self, f.name) for f in fields(self)))


_CARD_NAME = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")


@_settings(frozen=True, kw_only=True)
class Settings(_Keywords):
    """All settings of a server.  Times are seconds, sizes are bytes.  docs/settings.md has them as a table."""

    path: str = DEFAULT_PATH
    # "auto": JSON, or an event stream if a call emits a message before its result or takes longer than `patience`.
    # "json" and "sse" force one form.
    response: Literal["auto", "json", "sse"] = "auto"
    stateless: bool = False  # no sessions: GET and DELETE are 405
    legacy_sse: bool = False  # HTTP+SSE of 2024-11-05 at `sse_path` and by a bare GET of `path`
    sse_path: str = "/sse"
    messages_path: str = "/messages"
    # The prefix that a reverse proxy strips from the paths that clients ask for.  X-Forwarded-Prefix goes first.
    root_path: str = ""
    page: bool = False  # browsers get a page that tries the server, at `path` and at /
    # The name of the server, "com.example/weather", under which it publishes a card at `path`/server-card (SEP-2127).
    card: str | None = None
    strict_accept: bool = False  # refuse a POST whose Accept does not name both types

    # None allows the loopback names and the bound address, and is refused where other machines can reach that address.
    # "*" allows any name.
    allowed_hosts: Sequence[str] | None = None
    allowed_origins: Sequence[str] | None = None  # None: loopback origins; ("*",) is any
    cors: Sequence[str] = ()  # pages of these origins may read answers; the origins count as allowed
    token: str | None = field(default=None, repr=False)  # a bearer token that every request must carry
    authorize: Authorize | None = None
    verifier: TokenVerifier | None = None  # finds the principal of a bearer token, with a library of your choice
    required_scopes: Sequence[str] = ()  # every request needs all of these
    scope_includes: ScopeIncludes | None = None  # says whether a granted scope includes a needed one
    authorization_servers: Sequence[str] = ()  # where tokens come from: served as RFC 9728 metadata
    resource: str | None = None  # this server's own URI, which tokens are issued for; None: as clients call it
    scopes_supported: Sequence[str] = ()  # for that metadata; empty: `required_scopes`
    trusted_proxies: Sequence[str] = ()  # X-Forwarded-* and Forwarded of these peers are believed
    rate_limit: tuple[int, float] | None = None  # (requests, seconds) for each principal, or else peer address
    rate_burst: int | None = None  # requests of `rate_limit` that may come at once; None: all of them
    uds_mode: int | None = None  # permission bits of a Unix socket; None: as the umask leaves them
    ssl: Any = None  # an ssl.SSLContext

    json: Any = None  # a module with loads and dumps; None is the standard library's
    access_log: bool | Literal["text", "json"] = False  # True is text
    health: bool = False  # serve `health_path` and `ready_path`
    metrics: bool = False  # serve `metrics_path`
    # Spans of OpenTelemetry.  None: if the program has set a provider when the server starts.  True: the same, and no
    # provider is an error.  False: none.  Or a TracerProvider.
    tracing: Any = None
    health_path: str = "/health"
    ready_path: str = "/ready"
    metrics_path: str = "/metrics"
    ops_port: int | None = None  # serve all three on this port, and none beside `path`; 0 takes a free port
    ops_host: str = "127.0.0.1"
    ops_hosts: Sequence[str] = ()  # names of that port, beside `allowed_hosts`, loopback and numbers of addresses
    ops_uds: str | None = None  # or on a Unix socket
    # Who carries this bearer token may have a bridge start its backends anew there: POST /swap, on this machine alone.
    ops_token: str | None = field(default=None, repr=False)
    ready_lag: float | None = 1.0  # `ready_path` says "not ready" when the event loop was later than this
    call_in: Callable[[Callable[[], None]], Any] | None = None  # runs sync tools where the host wants them
    max_threads: int = 40  # worker threads for sync tools
    # For experts: begin a call in the turn of the event loop that read it, and write the answers of a turn together.
    # Both use private parts of asyncio.  If a new Python breaks them, False switches them off until a release repairs
    # them.
    eager: bool = True
    max_values: int | None = MAX_MESSAGE_VALUES  # JSON values in one body over HTTP

    limits: Limits = Limits()
    max_connections: int | None = 10_000
    backlog: int = 1024
    read_ahead: int = 64 * 1024  # bytes of further requests that are buffered during an answer; then reading pauses
    write_high: int = 256 * 1024  # bytes that the peer has not taken yet; beyond them the writer waits
    handshake_timeout: float | None = 10.0  # of TLS
    first_byte_timeout: float | None = 10.0
    head_timeout: float | None = 10.0
    body_timeout: float | None = 30.0  # seconds by which a body may fall behind `min_body_rate`
    min_body_rate: int | None = 1024  # each such number of bytes gives a body a second back.  None: no time comes back
    idle_timeout: float | None = 75.0
    max_requests: int | None = 1_000  # per connection
    write_timeout: float | None = 30.0  # without progress
    # Running calls have this time to finish at shutdown.  The rest of the shutdown takes 2.5 s at most, and the child
    # of a bridge 2 s more.  The sum stays below 10 s, because supervisors (docker stop) kill a process after that time.
    grace: float = 5.0
    # Before that, seconds in which `ready_path` says "draining" and new requests are still served, so that a load
    # balancer can notice.  None: no such time.
    drain_delay: float | None = None

    max_running: int | None = 100
    max_running_session: int | None = 64
    max_waiting: int | None = 1_000
    max_client_memory: int | None = 256 * 1024 * 1024  # bytes of memory for the data of clients that the server holds
    call_timeout: float | None = None  # for a call, from its start; each progress message starts the time anew
    call_ceiling: float | None = 3_600.0  # for a call with all its progress.  A tool may have a time of its own
    lag_warning: float | None = 0.25  # after this time, a log line names the function that blocks the event loop
    patience: float | None = 15.0  # after this time, an undecided answer becomes an event stream
    keep_alive: float | None = 15.0  # between comments on a silent event stream
    retry: int = 3_000  # milliseconds; how soon a client comes back to a cut stream
    ask_timeout: float | None = 600.0  # for the client's answer to a question that a legacy call asks

    session_idle: float | None = 1_800.0  # with nothing running and no stream open
    session_initialize: float | None = 60.0  # from initialize to initialized
    max_sessions: int | None = 10_000
    max_sessions_peer: int | None = 1_000
    max_listeners: int | None = 1_024  # open subscriptions/listen streams
    max_subscriptions: int | None = 1_000  # resource URIs of one session or listener
    # Workers share sessions, streams and notices in it: a URL that `stores.urls` knows, or an object.
    store: Store | str | None = field(default=None, repr=False)
    session_manager: SessionManager | None = None
    event_store: EventStore | None = None  # None: MemoryEventStore()
    replay: bool = True  # False: streams are not resumable, and carry no ids

    # for requestState; one key for all replicas of an endpoint
    state_keys: Sequence[bytes] = field(default=(), repr=False)
    state_ttl: float = 600.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) in (int, float) and not (value > 0 or (f.name in ("grace", "ops_port") and value == 0)):
                raise ValueError(f"{f.name} must be greater than 0 (None switches a limit off), not {value!r}")
        if self.response not in ("auto", "json", "sse"):
            raise ValueError(f"response is auto, json or sse, not {self.response!r}")
        if self.token is not None and not _is_visible(self.token):
            raise ValueError("a token is visible ASCII without blanks")
        if sum(way is not None for way in (self.token, self.authorize, self.verifier)) > 1:
            raise ValueError("give either token or authorize or verifier")
        if self.store is not None and (self.session_manager is not None or self.event_store is not None):
            raise ValueError("give either store or session_manager and event_store")
        self._check_authorization()
        self._check_peers()
        paths = [self.path, self.sse_path, self.messages_path]
        for path in paths:
            if not path.startswith("/") or not _is_visible(path) or set(path) & set("?#"):
                raise ValueError(f"a path begins with a slash and has no blank, ? or #, not {path!r}")
        checked_prefix(self.root_path)
        checked_tracing(self.tracing)
        # The schema of a card: one slash, and at most 200 characters.
        if self.card is not None and not (len(self.card) <= 200 and _CARD_NAME.fullmatch(self.card)):
            raise ValueError(f"card is a name with a domain turned round, com.example/weather, not {self.card!r:.100}")
        self._check_ops()
        if self.legacy_sse and len({path.rstrip("/") for path in paths}) < len(paths):
            raise ValueError("path, sse_path and messages_path must differ")

    @property
    def is_open(self) -> bool:
        """Whether the server serves every client without asking for a principal."""
        return self.token is None and self.authorize is None and self.verifier is None

    def _check_authorization(self) -> None:
        checked_scopes(self.required_scopes, "required_scopes")
        checked_scopes(self.scopes_supported, "scopes_supported")
        if self.required_scopes and self.authorize is None and self.verifier is None:
            raise ValueError("required_scopes needs authorize or verifier, which find out who has them")
        if isinstance(self.authorization_servers, str):
            raise ValueError("authorization_servers is a list of addresses, not a string")
        if self.authorization_servers and self.authorize is None and self.verifier is None:
            raise ValueError("authorization_servers needs verifier or authorize, which read their tokens")
        for issuer in self.authorization_servers:
            checked_issuer(issuer)
        if self.resource is not None:
            canonical_uri(self.resource)

    def _check_peers(self) -> None:
        Proxies(self.trusted_proxies)
        if self.rate_limit is not None and not (len(self.rate_limit) == 2 and all(one > 0 for one in self.rate_limit)):
            raise ValueError(f"rate_limit is (requests, seconds), both greater than 0, not {self.rate_limit!r}")
        if self.uds_mode is not None and self.uds_mode > 0o777:
            raise ValueError(f"uds_mode is permission bits, at most 0o777, not {self.uds_mode:#o}")

    @property
    def apart(self) -> bool:
        """Whether health and metrics have an address of their own."""
        return self.ops_port is not None or self.ops_uds is not None

    def _check_ops(self) -> None:
        if self.access_log not in (True, False, "text", "json"):
            raise ValueError(f"access_log is True, False, text or json, not {self.access_log!r}")
        paths = [self.path.rstrip("/"), self.health_path, self.ready_path, self.metrics_path]
        if not all(path.startswith("/") and _is_visible(path) for path in paths[1:]) or len(set(paths)) < len(paths):
            raise ValueError("health_path, ready_path and metrics_path begin with a slash, and differ, also from path")
        if self.ops_token is not None and (not _is_visible(self.ops_token) or self.ops_token == self.token):
            raise ValueError("ops_token is visible ASCII without blanks, and differs from token")
        guarded = not self.is_open
        if self.metrics and guarded and not self.apart:
            raise ValueError("metrics would be open to anybody here: give them an ops_port or ops_uds of their own")


def _is_visible(text: str) -> bool:
    return bool(text) and all("!" <= character <= "~" for character in text)
