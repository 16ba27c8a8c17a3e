# SPDX-License-Identifier: MIT
"""Every HTTP request passes here once, and one of the eras answers it.

    verdicts on the head (verdicts.py) -> authorization (guard.py) -> rate -> format -> decode -> scopes -> which era
    -> modern | legacy | legacy_sse

A request is modern if its body claims a version in `_meta`, or its header names one that is not legacy; otherwise it
is legacy (2026-07-28 basic/versioning, Backward Compatibility).  A session of one era and requests of the other share
URL and connection.

Rule: a refusal is an exception that carries its answer; `refuse` is the one place that writes it.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from ..eras.modern import claimed_version
from ..handler.handler import ServerHandler
from ..http.auth import metadata, subject
from ..http.headers import JSON_HEADERS, Headers, parse_accept
from ..http.messages import Head, HTTPRequest
from ..http.origins import HostPolicy
from ..http.reply import Link, Reply
from ..protocol.errors import (
    INTERNAL_ERROR,
    MODERN_STATUS,
    InternalError,
    InvalidRequest,
    MCPError,
    Refusal,
    UnsupportedProtocolVersion,
    overloaded,
)
from ..protocol.jsonrpc import Batch, Message, Request
from ..protocol.revisions import LEGACY, MODERN, SUPPORTED
from ..protocol.shown import escaping
from ..runtime.fairness import address_party, json_memory
from ..runtime.runtime import Runtime
from .expiring import ExpiringStreams
from .guard import Guard, expiry
from .modern import ModernPosts
from .ratelimit import RateLimiter
from .sessions import Legacy
from .verdicts import CARD_PATH, CATALOG, MESSAGES, METADATA, PAGE, PUBLIC, SSE, Examiner, Verdict

if TYPE_CHECKING:
    from .legacy_sse import LegacySSE

logger = escaping(logging.getLogger(__name__))

# Bodies up to this many bytes are not counted: the limits of calls bound their number, and most calls are smaller.
SMALL_BODY = 1024


class Counts(NamedTuple):
    """How much an endpoint holds open now."""

    sessions: int
    listeners: int


class Endpoint:
    """Answers the requests of one server; `hosts` is the policy for the addresses that the server is bound to."""

    def __init__(self, runtime: Runtime, hosts: HostPolicy) -> None:
        settings = runtime.settings
        self.runtime = runtime
        self.modern = ModernPosts(runtime)
        self.legacy = Legacy(runtime)
        self._has_sse = settings.legacy_sse and not settings.stateless
        self._sse: LegacySSE | None = None
        if self._has_sse:
            _ = self.legacy_sse  # made at once: in a fleet letters come for it
        self._examiner = Examiner(settings, hosts)
        self._verdict_on = self._examiner.verdict
        self._proxies = self._examiner.proxies
        self._guard = Guard(settings, runtime.now)
        self._open = self._guard.open
        self._limiter = _limiter(runtime)
        self._may_fail = type(runtime.handler).unavailable is not ServerHandler.unavailable
        # Scopes are checked before a call begins: once a stream has begun there is no status to refuse it with.
        self._scopes = runtime.handler._scope_switch()
        self._required = runtime.handler.required_scopes
        self._expiring = ExpiringStreams()  # listen streams with a token
        self._settings = settings

    @property
    def legacy_sse(self) -> LegacySSE:
        """HTTP+SSE, that of a fleet if there is one.  A server that has it switched off neither makes nor loads it."""
        if self._sse is not None:
            return self._sse
        if self.runtime.fleet is None:
            from .legacy_sse import LegacySSE

            self._sse = LegacySSE(self.runtime)
        else:
            from .fleet_sse import FleetSSE

            self._sse = FleetSSE(self.runtime, self.runtime.fleet)
        return self._sse

    @property
    def asks_who(self) -> bool:
        """Whether `approve` may refuse a request that `check` lets pass."""
        return self._guard.asks

    def trusts(self, peer: str) -> bool:
        """Whether a peer is a trusted proxy, which names the client in its headers."""
        return self._proxies is not None and self._proxies.trusts(peer)

    def client(self, head: Head | None, link: Link | Reply) -> str:
        """The address of the client: the peer, or the client that the peer names if it is a trusted proxy."""
        spoken_for = self._verdict(head, True).peer if head is not None and link.proxied else ""
        return spoken_for or link.peer

    @property
    def has_room(self) -> bool:
        """Whether one more session could be opened."""
        return self.legacy.stores.has_room

    def counts(self) -> Counts:
        """The numbers that the metrics page shows."""
        return Counts(len(self.legacy.sessions), len(self.modern.listeners))

    # --- one request -----------------------------------------------------------------------------------------

    def check(self, head: Head, link: Link) -> Refusal | None:
        """The refusal that the head alone makes certain, if any; called before the body is read."""
        verdict = self._verdict(head, link.proxied)
        facts = verdict.facts
        if facts.refusal is not None:
            return facts.refusal.refusal()
        if not self._open and not _is_public(verdict):
            refusal = self._guard.early(verdict)
            if refusal is not None:
                return self._counted(refusal, verdict.peer or link.peer)
        return None if facts.late_refusal is None else facts.late_refusal.refusal()

    async def approve(self, head: Head, link: Link) -> Refusal | None:
        """Identify the caller before it is invited to send its body; gives the refusal, as `check` does."""
        verdict = self._verdict(head, link.proxied)
        if not self._guard.asks or _is_public(verdict):
            return None
        try:
            principal = self._guard.identify(verdict)
            self._guard.known(verdict, await principal if inspect.isawaitable(principal) else principal)
        except Refusal as exc:
            return self._counted(exc if exc.is_sound else _internal(), verdict.peer or link.peer)
        except MCPError as exc:
            if not exc.is_sound:
                logger.error("authorize raised an error that cannot be sent", exc_info=exc)
                return _internal()
            return Refusal(MODERN_STATUS.get(exc.code, 400), exc.message, code=exc.code, data=exc.data)
        except Exception:
            logger.exception("authorize failed")
            return _internal()
        return None

    def refusal_headers(self, head: Head, link: Link) -> Headers:
        """The CORS headers, so that a page can read the reason of a refusal."""
        return self._verdict(head, link.proxied).facts.cors_headers

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        """Answer a whole request, now or later; never raises."""
        verdict: Verdict = request.head.verdict or self._verdict_on(request.head)
        if self._proxies is not None and reply.proxied:
            verdict = self._verdict(request.head, True)
            reply.client = verdict.peer
        facts = verdict.facts
        reply.allow_json, reply.allow_events = facts.allow_json, facts.allow_events
        reply.prefers_events, reply.extra = facts.prefers_events, facts.cors_headers
        try:
            if facts.is_post and self._open and self._limiter is None:
                self._post(verdict, request, reply, None)
            elif facts.refusal is not None:
                raise facts.refusal.refusal()
            elif self._open or _is_public(verdict):
                self._admit(verdict, request, reply, None)
            elif self._guard.asks:
                # A context variable that the program's `authorize` sets is for this request alone (PEP 567).
                copy_context().run(self._identify, verdict, request, reply)
            else:
                self._identify(verdict, request, reply)
        except MCPError as exc:
            self.refuse(reply, exc, None)
        except Exception:
            logger.exception("a request could not be answered")
            self._fail(reply)

    def _identify(self, verdict: Verdict, request: HTTPRequest, reply: Reply) -> None:
        """Find out who asks, and admit the request, now or later."""
        try:
            principal = self._guard.identify(verdict)
            later = inspect.isawaitable(principal)
            if not later:
                principal = self._guard.known(verdict, principal)
        except MCPError:
            self._limit(None, reply.peer)  # failed guesses of a token count against the limit of the address
            raise
        if later:
            if len(request.body) > SMALL_BODY and reply.load is None:
                reply.load = self.runtime.load(self.runtime.party_of("", reply.peer), len(request.body))
            self.runtime.spawn(self._admit_later(verdict, request, reply, principal))
        else:
            self._admit(verdict, request, reply, principal)

    def _verdict(self, head: Head, proxied: bool) -> Verdict:
        verdict: Verdict = head.verdict or self._verdict_on(head)
        if not proxied:
            return verdict
        # From a trusted proxy the same head also names the client, so it has a verdict of its own.
        if verdict.proxied is None:
            verdict.proxied = self._examiner.examine(head, proxied=True)
        return verdict.proxied

    def _admit(self, verdict: Verdict, request: HTTPRequest, reply: Reply, principal: Any) -> None:
        facts = verdict.facts
        if facts.preflight is not None:
            reply.extra = ()
            reply.answer(204, b"", facts.preflight)
            return
        if self._limiter is not None:
            self._limit(principal, reply.peer)
        if facts.route in PUBLIC:
            self._describe(verdict, reply)
        elif facts.route == PAGE:
            self._show_page(verdict, reply)
        elif facts.late_refusal is not None:
            raise facts.late_refusal.refusal()
        elif verdict.method == "POST":
            self._post(verdict, request, reply, principal)
        elif facts.route == SSE:
            self.legacy_sse.open(verdict, reply, principal)
        elif verdict.method == "DELETE":
            self.legacy.delete(verdict, reply, principal)
        elif self._has_sse and verdict.is_bare:
            self.legacy_sse.open(verdict, reply, principal)
        else:
            self.legacy.listen(verdict, reply, principal)
        if principal is not None and (verdict.method == "GET" or reply in self.modern.listeners):
            # A listen stream may stay open for days after its token expires.
            if (expires := expiry(principal)) is not None:
                self._expiring.add(reply, expires)

    def _resource(self, verdict: Verdict) -> str:
        """The address of this server.  Raises a Refusal where neither the settings nor the client name a host."""
        resource = self._guard.resource(verdict)
        if not resource:  # HTTP/1.0 without a Host, on a server that accepts any host
            raise Refusal(400, "Bad Request: say by the Host header which server is meant")
        return resource

    def _describe(self, verdict: Verdict, reply: Reply) -> None:
        """Where tokens for this server come from (RFC 9728), or its card."""
        if verdict.facts.route != METADATA:
            return self._show_card(verdict, reply)
        settings, handler = self._settings, self.runtime.handler
        scopes = settings.scopes_supported or settings.required_scopes
        resource = self._resource(verdict)
        document = metadata(resource, settings.authorization_servers, scopes, handler.title or handler.name)
        reply.answer(200, self.runtime.json.dumps(document))

    def _show_card(self, verdict: Verdict, reply: Reply) -> None:
        """The name and the address of this server, or the catalog that names them (SEP-2127)."""
        from ..extensions.card import CARD_TYPE, CATALOG_TYPE, card_headers, catalog, server_card  # few servers do

        settings, handler = self._settings, self.runtime.handler
        url = self._resource(verdict)
        name = settings.card or ""
        if verdict.facts.route == CATALOG:
            document, media_type = catalog(handler, name, url.rstrip("/") + CARD_PATH), CATALOG_TYPE
        else:
            document, media_type = server_card(handler, name, url, token=settings.token is not None), CARD_TYPE
        reply.answer(200, self.runtime.json.dumps(document), card_headers(media_type))

    def _show_page(self, verdict: Verdict, reply: Reply) -> None:
        from .browsers import page  # most servers have no page

        # At its own address the page finds the endpoint where it is; at "/" it has to be told.
        own = verdict.head.path.rstrip("/") == self._settings.path.rstrip("/")
        address = "" if own else (verdict.facts.prefix or ".") + self._settings.path
        reply.answer(*page(address, verdict.head.get_all("if-none-match")))

    def _counted(self, refusal: Refusal, peer: str) -> Refusal:
        """Count a failed authorization: gives its refusal, or 429 if there were too many from this address."""
        try:
            self._limit(None, peer)
        except Refusal as exc:
            return exc
        return refusal

    def _limit(self, principal: Any, peer: str) -> None:
        """Count one request of a caller.  Raises a Refusal, 429, if it is one too many."""
        if self._limiter is None:
            return
        if wait := self._limiter.take(_bucket(principal, peer), self.runtime.loop.time()):
            retry = ("Retry-After", str(math.ceil(wait)))
            raise Refusal(429, "Too Many Requests", code=INTERNAL_ERROR, headers=(retry,))

    def _post(self, verdict: Verdict, request: HTTPRequest, reply: Reply, principal: Any) -> None:
        message: Message | Batch | None = None
        try:
            if len(request.body) > SMALL_BODY:
                self._weigh(request, reply, principal)
            message = self.runtime.json.decode(request.body)
            if reply.records:
                reply.note(message, principal)
            if self._may_fail:
                self._check_available(message)
            if self._scopes.scoped:
                if type(message) is Request:
                    if needed := self._required(message.method, message.params):
                        self._guard.hold(verdict, principal, needed)
                elif isinstance(message, list):
                    self._hold_batch(verdict, message, principal)
            if self._limiter is not None and isinstance(message, list):
                self._limiter.charge(_bucket(principal, reply.peer), len(message) - 1, self.runtime.loop.time())
            if verdict.facts.route == MESSAGES:
                self.legacy_sse.serve(verdict, message, reply, principal)
            elif self.is_modern(verdict, message):
                self.modern.serve(verdict, message, reply, principal)
            else:
                self.legacy.serve(verdict, message, reply, principal)
        except MCPError as exc:
            self.refuse(reply, exc, message)
        finally:
            reply.load = None  # calls and listeners that need the load longer have a reference of their own

    def _weigh(self, request: HTTPRequest, reply: Reply, principal: Any) -> None:
        """Count the memory that the request will take.  Raises `overloaded` where that is too much."""
        reply.load = None  # the load of its bytes, which were counted as they arrived
        party = self.runtime.party_of(subject(principal), reply.peer)
        reply.load = self.runtime.load(party, json_memory(request.body))

    def _check_available(self, message: Message | Batch) -> None:
        """Raises 503 if the handler is unavailable.  Responses and notifications pass: they are for calls that run."""
        if type(message) is Request or isinstance(message, list):
            why = self.runtime.handler.unavailable()
            if why is not None:
                raise overloaded(why)

    def _hold_batch(self, verdict: Verdict, batch: Batch, principal: Any) -> None:
        needed = [s for one in batch if isinstance(one, Request) for s in self._required(one.method, one.params)]
        if needed:
            self._guard.hold(verdict, principal, needed)

    def is_modern(self, verdict: Verdict, message: Message | Batch) -> bool:
        """Which era a POST belongs to.  Raises UnsupportedProtocolVersion for a header that names neither."""
        version = verdict.facts.version
        if isinstance(message, list):
            # A batch with a modern element is refused as a whole, before any of it runs.
            return version in MODERN or any(claimed_version(one) is not None for one in message)
        claim: str | None = None
        if type(message) is not Request or "_meta" in message.params:
            claim = claimed_version(message)
        if claim is not None:
            # A claim of a legacy version that agrees with the header, in a live session: the request is a legacy one.
            in_session = claim in LEGACY and claim == version and verdict.session_id in self.legacy.sessions
            return not in_session
        if version is None or version in LEGACY:
            return False
        if version not in MODERN:
            raise UnsupportedProtocolVersion(version, SUPPORTED)
        return True

    # --- refusing --------------------------------------------------------------------------------------------

    def refuse(self, reply: Reply, error: MCPError, message: Message | Batch | None) -> None:
        """Write the answer that an exception carries."""
        if not error.is_sound:
            logger.error("a request was refused with an error that cannot be sent", exc_info=error)
            error = _internal()
        if isinstance(error, Refusal):
            status, headers, close = error.status, error.headers, error.close
        else:
            # Only refusals of heads and of modern requests come here; errors of legacy calls are answers with 200.
            status, headers, close = MODERN_STATUS.get(error.code, 400), (), False
        error.__traceback__ = None  # a function of the operator's may keep an exception and raise it for each request
        head = reply.request.head
        if head.method in ("GET", "HEAD") and parse_accept(head.get("accept")).browser:
            from .browsers import plain_text  # a person reads it

            reply.answer(*plain_text(status, error.message, headers), close=close)
            return
        reply.answer(status, self._error_body(error, message), JSON_HEADERS + headers, close=close)

    def _fail(self, reply: Reply) -> None:
        # The log has the reason.  The answer does not, because it could tell a stranger about the server.
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

    async def _admit_later(
        self, verdict: Verdict, request: HTTPRequest, reply: Reply, identify: Awaitable[Any]
    ) -> None:
        try:
            try:
                principal = self._guard.known(verdict, await identify)
            except MCPError:
                self._limit(None, reply.peer)
                raise
            self._admit(verdict, request, reply, principal)
            reply.heed()  # the client may have left while it was identified
        except MCPError as exc:
            self.refuse(reply, exc, None)
        except Exception:
            logger.exception("a request could not be answered")
            self._fail(reply)
        finally:
            reply.load = None

    # --- the server's clock and its end ------------------------------------------------------------------------

    def sweep(self) -> None:
        """End the sessions that are idle or outdated, and the streams of expired tokens."""
        self.legacy.sweep()
        if self._sse is not None:
            self._sse.sweep()
        for reply in self._expiring.due(self.runtime.now()) if self._expiring else ():
            # The client reconnects, gets 401, and may then get a new token.
            if not self.modern.expire(reply):
                reply.expire()

    def end_idle_streams(self) -> None:
        """Shutting down: end the streams on which nothing runs, each as its revision wants."""
        self.modern.end_idle_streams()
        self.legacy.end_idle_streams()
        if self._sse is not None:
            self._sse.end_idle_streams()

    def close(self) -> None:
        """End everything that is left."""
        self.legacy.close()
        if self._limiter is not None:
            self._limiter.close()


def _internal() -> Refusal:
    return Refusal(500, "Internal error", code=INTERNAL_ERROR)


def _is_public(verdict: Verdict) -> bool:
    """Whether the request needs no principal: a preflight, or a document without any data of the server's users."""
    facts = verdict.facts
    return facts.preflight is not None or facts.route in PUBLIC or facts.route == PAGE


def _limiter(runtime: Runtime) -> RateLimiter | None:
    settings = runtime.settings
    if settings.rate_limit is None:
        return None
    requests, seconds = settings.rate_limit
    if runtime.fleet is None:
        return RateLimiter(requests, seconds, settings.rate_burst)
    from .fleet_rates import FleetRateLimiter  # only a server with a store needs it

    return FleetRateLimiter(runtime.fleet, runtime.loop, requests, seconds, settings.rate_burst)


def _bucket(principal: Any, peer: str) -> str:
    # The prefixes keep the two apart, since a principal may have the name of an address.
    return f"peer {address_party(peer)}" if principal is None else f"principal {subject(principal)}"
