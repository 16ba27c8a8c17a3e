# SPDX-License-Identifier: MIT
"""The fields of `Settings` as keywords, for type checkers and editors.

`run(handler, max_runing=5)` is a mistake that a type checker finds by this class.  Only checkers need the class, so a
running server never loads this module.

Rule: docs/generate.py writes the class from `Settings`; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from ..http.auth import ScopeIncludes, TokenVerifier
from ..http.messages import Limits
from ..stores.base import Store
from .settings import Authorize
from .storage import EventStore, SessionManager


class SettingFields(TypedDict, total=False):
    """Each field of `Settings`, with its type; all may be left out."""

    # fields: generated
    path: str
    response: Literal["auto", "json", "sse"]
    stateless: bool
    legacy_sse: bool
    sse_path: str
    messages_path: str
    root_path: str
    page: bool
    card: str | None
    strict_accept: bool
    allowed_hosts: Sequence[str] | None
    allowed_origins: Sequence[str] | None
    cors: Sequence[str]
    token: str | None
    authorize: Authorize | None
    verifier: TokenVerifier | None
    required_scopes: Sequence[str]
    scope_includes: ScopeIncludes | None
    authorization_servers: Sequence[str]
    resource: str | None
    scopes_supported: Sequence[str]
    trusted_proxies: Sequence[str]
    rate_limit: tuple[int, float] | None
    rate_burst: int | None
    uds_mode: int | None
    ssl: Any
    json: Any
    access_log: bool | Literal["text", "json"]
    health: bool
    metrics: bool
    tracing: Any
    health_path: str
    ready_path: str
    metrics_path: str
    ops_port: int | None
    ops_host: str
    ops_hosts: Sequence[str]
    ops_uds: str | None
    ops_token: str | None
    ready_lag: float | None
    call_in: Callable[[Callable[[], None]], Any] | None
    max_threads: int
    eager: bool
    max_values: int | None
    limits: Limits
    max_connections: int | None
    backlog: int
    read_ahead: int
    write_high: int
    handshake_timeout: float | None
    first_byte_timeout: float | None
    head_timeout: float | None
    body_timeout: float | None
    min_body_rate: int | None
    idle_timeout: float | None
    max_requests: int | None
    write_timeout: float | None
    grace: float
    drain_delay: float | None
    max_running: int | None
    max_running_session: int | None
    max_waiting: int | None
    max_client_memory: int | None
    call_timeout: float | None
    call_ceiling: float | None
    lag_warning: float | None
    patience: float | None
    keep_alive: float | None
    retry: int
    ask_timeout: float | None
    session_idle: float | None
    session_initialize: float | None
    max_sessions: int | None
    max_sessions_peer: int | None
    max_listeners: int | None
    max_subscriptions: int | None
    store: Store | str | None
    session_manager: SessionManager | None
    event_store: EventStore | None
    replay: bool
    state_keys: Sequence[bytes]
    state_ttl: float
    # /fields
