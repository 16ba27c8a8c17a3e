# SPDX-License-Identifier: MIT
"""The single door: every HTTP request passes here once, and one of the eras answers it.

    head verdicts (door.py) -> authorization -> format -> decode -> which era -> modern | legacy | legacy_sse

A request is modern if its body claims a version in `_meta`, or its header names one that is not legacy; otherwise it
is legacy (2026-07-28 basic/versioning, Backward Compatibility).  A session of one era and requests of the other share
URL and connection.

Rule: a refusal is an exception that carries its answer; `refuse` is the one place that writes it.
"""

from __future__ import annotations

import hmac
import inspect
import logging
from collections.abc import Awaitable
from typing import Any

from .door import MESSAGES, SSE, Door, Doorkeeper
from .errors import (
    INTERNAL_ERROR,
    MODERN_STATUS,
    InternalError,
    InvalidRequest,
    MCPError,
    Refusal,
    UnsupportedProtocolVersion,
)
from .headers import JSON_HEADERS, Headers, HostPolicy
from .http11 import Head, HTTPRequest
from .jsonrpc import Batch, Message, Request
from .legacy import Legacy
from .legacy_sse import LegacySSE
from .modern import Modern, claimed_version
from .reply import Reply
from .revisions import LEGACY, MODERN, SUPPORTED
from .runtime import Runtime
from .settings import Principal

logger = logging.getLogger(__name__)


class Endpoint:
    """What one server does with requests; `hosts` is the policy for the addresses it is bound to."""

    def __init__(self, runtime: Runtime, hosts: HostPolicy) -> None:
        settings = runtime.settings
        self.runtime = runtime
        self.modern = Modern(runtime)
        self.legacy = Legacy(runtime)
        self.legacy_sse = LegacySSE(runtime)
        self._doorkeeper = Doorkeeper(settings, hosts)
        self._token = settings.token.encode("ascii") if settings.token is not None else None
        self._authorize = settings.authorize
        self._open = self._token is None and self._authorize is None
        self._settings = settings

    @property
    def asks_who(self) -> bool:
        """Whether `approve` has something to find out that `check` does not know."""
        return self._authorize is not None

    # --- one request -----------------------------------------------------------------------------------------

    def check(self, head: Head) -> Refusal | None:
        """Before the body is read: the refusal that is certain already, if any."""
        door = self._door(head)
        if door.refusal is not None:
            return door.refusal
        if self._token is not None and door.preflight is None:
            try:
                self._check_token(head)
            except Refusal as exc:
                return exc
        return door.unfit

    async def approve(self, head: Head) -> Refusal | None:
        """As `check`, of what only `authorize` knows: before a client is invited to send its body."""
        if self._authorize is None or self._door(head).preflight is not None:
            return None
        try:
            principal = self._authorize(head)
            self._known(await principal if inspect.isawaitable(principal) else principal)
        except Refusal as exc:
            return exc
        except MCPError as exc:
            return Refusal(MODERN_STATUS.get(exc.code, 400), exc.message, code=exc.code, data=exc.data)
        except Exception:
            logger.exception("authorize failed")
            return Refusal(500, "Internal error", code=INTERNAL_ERROR)
        return None

    def refusal_headers(self, head: Head) -> Headers:
        """CORS, so that a page can read why it was refused."""
        return self._door(head).extra

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        """Answer a whole request, now or later; never raises."""
        door: Door = request.head.memo or self._door(request.head)
        reply.allow_json, reply.allow_events = door.allow_json, door.allow_events
        reply.prefers_events, reply.extra = door.prefers_events, door.extra
        try:
            if door.refusal is not None:
                raise door.refusal
            if self._open or door.preflight is not None:
                self._admit(door, request, reply, None)
                return
            principal = self._identify(door.head)
            if inspect.isawaitable(principal):
                self.runtime.spawn(self._admit_later(door, request, reply, principal))
            else:
                self._admit(door, request, reply, self._known(principal))
        except MCPError as exc:
            self.refuse(reply, exc, None)
        except Exception:
            logger.exception("a request could not be answered")
            self._fail(reply)

    def _door(self, head: Head) -> Door:
        door = head.memo
        if door is None:
            door = head.memo = self._doorkeeper.examine(head)
        return door  # type: ignore[no-any-return]

    def _admit(self, door: Door, request: HTTPRequest, reply: Reply, principal: Any) -> None:
        if door.preflight is not None:
            reply.extra = ()
            reply.answer(204, b"", door.preflight)
        elif door.unfit is not None:
            raise door.unfit
        elif door.method == "POST":
            self._post(door, request, reply, principal)
        elif door.route == SSE:
            self.legacy_sse.open(door, reply, principal)
        elif door.method == "DELETE":
            self.legacy.delete(door, reply, principal)
        elif self._is_bare(door):
            self.legacy_sse.open(door, reply, principal)
        else:
            self.legacy.listen(door, reply, principal)

    def _is_bare(self, door: Door) -> bool:
        # A client of 2024-11-05 whose URL is the endpoint itself.  Later ones never GET without their session.
        settings = self._settings
        bare = door.session_id is None and door.version is None and door.last_event_id is None
        return bare and settings.legacy_sse and not settings.stateless

    def _post(self, door: Door, request: HTTPRequest, reply: Reply, principal: Any) -> None:
        message: Message | Batch | None = None
        try:
            message = self.runtime.json.decode(request.body)
            if door.route == MESSAGES:
                self.legacy_sse.serve(door, message, reply, principal)
            elif self.is_modern(door, message):
                self.modern.serve(door, message, reply, principal)
            else:
                self.legacy.serve(door, message, reply, principal)
        except MCPError as exc:
            self.refuse(reply, exc, message)

    def is_modern(self, door: Door, message: Message | Batch) -> bool:
        """Which era a POST belongs to.  Raises UnsupportedProtocolVersion for a header that names neither."""
        version = door.version
        if isinstance(message, list):
            # A batch with a modern element is refused as a whole, before any of it runs.
            return version in MODERN or any(claimed_version(one) is not None for one in message)
        claim = claimed_version(message)
        if claim is not None:
            # A legacy name, agreeing with its header, in a live session: the claim adds nothing.
            in_session = claim in LEGACY and claim == version and door.session_id in self.legacy.sessions
            return not in_session
        if version is None or version in LEGACY:
            return False
        if version not in MODERN:
            raise UnsupportedProtocolVersion(version, SUPPORTED)
        return True

    # --- refusing --------------------------------------------------------------------------------------------

    def refuse(self, reply: Reply, error: MCPError, message: Message | Batch | None) -> None:
        """Write the answer that an exception carries."""
        if isinstance(error, Refusal):
            status, headers, close = error.status, error.headers, error.close
        else:
            # What comes here is of the door or of the modern ladder; errors of legacy calls are answers with 200.
            status, headers, close = MODERN_STATUS.get(error.code, 400), (), False
        reply.answer(status, self._error_body(error, message), JSON_HEADERS + headers, close=close)

    def _fail(self, reply: Reply) -> None:
        # The reason is in the log, and gives nothing away here.
        reply.answer(500, self.runtime.json.error(None, InternalError()))
        reply.end()

    def _error_body(self, error: MCPError, message: Message | Batch | None) -> bytes:
        request_id = None
        if isinstance(message, Request):
            request_id = message.id
        elif isinstance(error, InvalidRequest):
            request_id = error.request_id
        if isinstance(error, Refusal) and error.status == 404:
            # "Session not found" without an id: with one, clients take it for an ordinary error of that call and
            # never notice that the session is gone.
            request_id = None
        return self.runtime.json.error(request_id, error)

    # --- who asks --------------------------------------------------------------------------------------------

    def _identify(self, head: Head) -> Any:
        if self._token is not None:
            return self._check_token(head)
        assert self._authorize is not None
        return self._authorize(head)

    def _check_token(self, head: Head) -> Principal:
        scheme, _, credentials = (head.get("authorization") or "").partition(" ")
        given = credentials.strip().encode("latin-1")
        # Compared in constant time, and whatever the scheme: nothing is to be learned from how long it takes.
        fits = hmac.compare_digest(given, self._token or b"")
        if scheme.lower() != "bearer" or not fits:
            raise unauthorized(bool(credentials))
        return Principal("token")

    def _known(self, principal: Any) -> Any:
        # Not only None: a predicate that says False has not found out who it is.
        if not principal:
            raise unauthorized(False)
        return principal

    async def _admit_later(self, door: Door, request: HTTPRequest, reply: Reply, identify: Awaitable[Any]) -> None:
        try:
            self._admit(door, request, reply, self._known(await identify))
        except MCPError as exc:
            self.refuse(reply, exc, None)
        except Exception:
            logger.exception("a request could not be answered")
            self._fail(reply)

    # --- the server's clock and its end ------------------------------------------------------------------------

    def sweep(self) -> None:
        """Expire what has rested too long."""
        self.legacy.sweep()

    def quiet(self) -> None:
        """Shutting down: end the streams on which nothing runs, each as its revision wants."""
        self.modern.quiet()
        self.legacy.quiet()
        self.legacy_sse.quiet()

    def close(self) -> None:
        """End everything that is left."""
        self.legacy.close()


def unauthorized(invalid: bool) -> Refusal:
    """401 with the challenge that RFC 6750 section 3 asks for."""
    challenge = 'Bearer error="invalid_token"' if invalid else "Bearer"
    return Refusal(401, "Unauthorized", headers=(("WWW-Authenticate", challenge),))
