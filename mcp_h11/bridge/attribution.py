# SPDX-License-Identifier: MIT
"""Decides which clients get a message that a backend sends on its own.

Such a message came on no call's own exchange, so nothing in it says which client it is for.  A backend that works for
one client alone needs no decision.  From a shared backend a change of a list or of a resource goes to all its clients;
a log message and an unknown notification go to none, and a question is refused.  docs/proxy.md has the table.

Rule: the calls that run at the moment never decide, since a message may belong to a call that has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ..handler.notices import Notice
from ..protocol.errors import INTERNAL_ERROR, MCPError
from ..protocol.jsonrpc import JSON
from ..protocol.methods import CHANGED_LIST, LIST_CHANGED, LOG_MESSAGE, RESOURCE_UPDATED
from ..protocol.shown import escaping
from .backends import Backend
from .calls import ParkedCall, asker, is_of_a_call, rank_of
from .generations import Generations

if TYPE_CHECKING:
    from ..eras.session import Session

logger = escaping(logging.getLogger(__name__))


class Attribution:
    """Passes the messages that backends send on their own to the clients they concern.

    Args:
        generations: the backends.
        log_sessions: the sessions that asked for a log level.
        publish: gives a notice to the clients of the handler.

    Attributes:
        share_logs: log messages of a shared backend go to all clients that asked for log messages.
    """

    def __init__(
        self,
        generations: Generations,
        log_sessions: Collection[Session],
        publish: Callable[[Notice], None],
        *,
        share_logs: bool = False,
    ) -> None:
        self.share_logs = share_logs
        self._generations = generations
        self._log_sessions = log_sessions
        self._publish = publish
        self._json = JSON()
        self._warned = False  # the log says already that log messages reach no client

    def on_notification(self, backend: Backend, method: str, params: dict[str, Any]) -> None:
        """A notification that came on no call's own exchange."""
        if method in CHANGED_LIST:
            self._tell_of_change(backend, CHANGED_LIST[method])
        elif method == RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str):
                self._tell_of_change(backend, "updated", uri)
        elif method == LOG_MESSAGE:
            self._on_log(backend, params)
        elif is_of_a_call(method) and self._generations.is_alone(backend):
            self._tell_one_client(backend, method, params)

    async def on_request(self, backend: Backend, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A question of a backend that does not say which call it is for.  Raises MCPError where no client is asked."""
        # Of several clients the wrong one could answer, or see a question of another.
        if not self._generations.is_alone(backend):
            hint = "start the proxy with --per-session"
            if self._generations.per_session:
                hint = "clients without sessions have to be told apart by their principals"
            raise MCPError(INTERNAL_ERROR, f"Nothing says which client of this backend {method} is for; {hint}")
        # One client: any of its calls can carry the question.
        call = asker(backend.runs)
        if call is None:
            raise MCPError(INTERNAL_ERROR, f"No call runs on this backend, so there is no client to ask for {method}")
        return await call.on_request(method, params, is_exact=False)

    # --- changes of lists and resources ------------------------------------------------------------------------

    def tell_of_all_changes(self, backend: Backend) -> None:
        """Tell the clients of this backend that each list, and each resource that they subscribed to, may differ."""
        offered = backend.client.server_capabilities if backend.client is not None else {}
        for kind in LIST_CHANGED:
            # Without such a list there is no change to tell of.
            if kind in offered:
                self._tell_of_change(backend, kind)
        for uri in list(backend.interests.uris):
            self._tell_of_change(backend, "updated", uri)

    def _tell_of_change(self, backend: Backend, kind: str, uri: str | None = None) -> None:
        """To the clients of this backend: one session, the clients of one principal, or those of a generation."""
        session = backend.tenant.session
        # Listeners and sessions of all clients of the handler hear it, as far as the audience says.
        if session is None:
            self._publish(Notice(kind, uri, self._audience(backend)))
            return
        notice = Notice(kind, uri)
        told = None if session.closed else session.told(notice)
        if told is not None:
            session.announce(told)

    def _audience(self, backend: Backend) -> Callable[[str, int | None], bool] | None:
        """Tells of a principal and a session's number whether this backend serves it; None where it serves all."""
        generations, key = self._generations, backend.tenant.key
        # A backend for one principal: its clients have no session, so no number.
        if key is not None:
            return lambda principal, number: number is None and ("principal", principal) == key
        # The usual case, in which no client has to be asked for its generation.
        if not generations.draining and generations.now is backend.generation:
            return None
        return lambda _, number: generations.answering(number) is backend.generation

    # --- log messages and unknown notifications ----------------------------------------------------------------

    def _tell_one_client(self, backend: Backend, method: str, params: dict[str, Any]) -> None:
        """To the one client of a backend: on its latest call, or else on the stream of its session."""
        session = backend.tenant.session or self._generations.pipe
        if backend.runs:
            # The latest call is the likeliest, and a wrong guess reaches the same client.
            next(reversed(backend.runs)).on_notification(method, params)
        elif session is not None and not session.closed:
            session.announce(self._json.notification(method, params))

    def _on_log(self, backend: Backend, params: dict[str, Any]) -> None:
        alone = self._generations.is_alone(backend)
        if alone and backend.runs:
            next(reversed(backend.runs)).on_notification(LOG_MESSAGE, params)
        elif alone or self.share_logs:
            self._log_to_all(backend, params)
        elif not self._warned:
            self._warned = True
            logger.warning("log messages of %s that name no request reach no client, since they may be about any; "
                           "--per-session gives each session a backend of its own, and --share-logs sends them to "
                           "all clients that asked for log messages", backend.name)  # fmt: skip

    def _log_to_all(self, backend: Backend, params: dict[str, Any]) -> None:
        """To the clients of this backend that asked for a level: sessions, and calls that name a level themselves."""
        # A level that no revision has cannot be compared, so the message is dropped.
        rank = rank_of(params.get("level"))
        if rank is None:
            return
        payload = self._json.notification(LOG_MESSAGE, params)
        for session in self._log_sessions:
            if session.closed or rank < session.log_rank or session not in backend.interests.levels:
                continue
            answering = self._generations.answering(session.state.generation)
            if backend.tenant.key is not None or answering is backend.generation:
                session.announce(payload)
        for call in backend.runs:
            if isinstance(call, ParkedCall):  # of 2026-07-28, where each request names its level
                call.on_notification(LOG_MESSAGE, params)
