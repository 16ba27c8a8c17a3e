# SPDX-License-Identifier: MIT
"""The client behind a call, as the bridge sees it: how to tell it from other clients, and the wishes that it declared.

A bridge shares backends among clients, so it has to know which calls certainly come from one client.  This module
reads that off the `Context` of a call.  It sends nothing and keeps nothing.

Rule: two calls have one owner only where they certainly come from one client.  A doubt counts as two clients.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..handler.context import Context, exchange_of
from ..http.auth import TOKEN_HOLDER, subject
from ..protocol.methods import META_LOG_LEVEL, TASKS

if TYPE_CHECKING:
    from ..eras.session import Session

# The capabilities that a bridge can carry to a client and back.  A shared backend is told all of them, and each
# question is then judged by the capabilities that its own client declared.
CARRIED: dict[str, Any] = {"sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}, "roots": {}}
_DECLARED = ("elicitation", "experimental", "extensions", "roots", "sampling")


class Caller:
    """The client of a call, as far as it can be told from others.

    Attributes:
        session: its session, over HTTP; None elsewhere.
        owner: equal for two calls exactly if they certainly come from one client.
        backend_key: equal for two calls if they may share a backend that is not for all clients.
        alone: the backend under that key works for this client alone.
        piped: the call came on pipes, which have one client.
        pipe: the session of the pipes, where the client began one.
    """

    def __init__(self, ctx: Context) -> None:
        exchange = exchange_of(ctx)
        self._ctx = ctx
        session: Session | None = exchange.carrying_session
        self.session = session if session is not None and session.id else None
        self.owner: Hashable
        self.backend_key: Hashable
        self.alone = True
        self.piped = self.session is None and exchange.headers is None
        self.pipe: Session | None = None
        if self.session is not None:
            self.owner = self.backend_key = ("session", self.session.id)
        elif self.piped:
            self.owner = self.backend_key = ("principal", "")
            self.pipe = session
        else:
            self.backend_key = ("principal", subject(ctx.principal))
            self.alone = is_one_client(ctx.principal)
            # Any number of clients may come without a name: each such call is a client of its own.
            self.owner = self.backend_key if self.alone else object()

    @property
    def party(self) -> str:
        """The client that the limits count the call for."""
        return exchange_of(self._ctx).party

    @property
    def info(self) -> dict[str, Any]:
        """The name and version that the client gives itself."""
        return self._ctx.client_info

    @property
    def capabilities(self) -> dict[str, Any]:
        """The capabilities for a backend that works for this caller.

        In 2026-07-28 each request may declare other ones, so that backend is told all that a bridge can carry.
        """
        return CARRIED if exchange_of(self._ctx).revision.modern else declared_capabilities(self._ctx)


def is_one_client(principal: Any) -> bool:
    """Whether two requests of this principal are one client's: it has a name, and is no token that many may hold."""
    return bool(subject(principal)) and principal is not TOKEN_HOLDER


def lasting_session(ctx: Context) -> Session | None:
    """The session of a call, if it outlives this request.

    A stateless server makes a session for one request.  A wish of such a session could never be answered.
    """
    exchange = exchange_of(ctx)
    session: Session = exchange.carrying_session
    return session if session.id or exchange.headers is None else None


def declared_capabilities(ctx: Context) -> dict[str, Any]:
    """The capabilities that the client of this call declared, without those that a bridge cannot carry."""
    declared = {key: value for key, value in ctx.client_capabilities.items() if key in _DECLARED}
    if "extensions" in declared:
        modern = exchange_of(ctx).revision.modern
        declared["extensions"] = carried_extensions(declared["extensions"], tasks=modern)
    return declared


def carried_extensions(announced: Any, *, tasks: bool) -> dict[str, Any]:
    """The extensions, as one end announced them, that a bridge can carry to the other end.

    `tasks` says whether those of tasks are among them: both ends have to be of 2026-07-28.
    """
    extensions = announced if isinstance(announced, dict) else {}
    # Settings are an object (2026-07-28 schema, ServerCapabilities): the other end may refuse a handshake with others.
    return {
        name: settings
        for name, settings in extensions.items()
        if isinstance(settings, dict) and (tasks or name != TASKS)
    }


def wanted_log_level(ctx: Context) -> str | None:
    """The log level that the client of this call asked for; None where it wants no log messages."""
    exchange = exchange_of(ctx)
    if exchange.revision.modern:
        # 2026-07-28 server/utilities/logging: each request names its own level.
        level = ctx.meta.get(META_LOG_LEVEL)
        return level if isinstance(level, str) else None
    return str(exchange.carrying_session.state.log_level)
