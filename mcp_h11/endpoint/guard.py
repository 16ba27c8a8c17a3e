# SPDX-License-Identifier: MIT
"""Authorization: the settings' token, `authorize` function or `TokenVerifier`, asked once for each request.

`http.auth` writes the challenge of a refusal; `endpoint` calls this module before it does anything else.

Rule: a principal is not kept for the next request, since it can expire or be withdrawn.  No token and no part of one is
written anywhere, not even into the log of a verifier that failed.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ..http.auth import (
    INSUFFICIENT_SCOPE,
    INVALID_REQUEST,
    INVALID_TOKEN,
    TOKEN_HOLDER,
    WELL_KNOWN,
    Principal,
    as_principal,
    bearer,
    canonical_uri,
    challenge,
    metadata_url,
    missing_scopes,
)
from ..http.messages import Head
from ..protocol.errors import INTERNAL_ERROR, MCPError, Refusal
from ..protocol.shown import escaping, trace_text
from ..runtime.settings import Settings
from .verdicts import Verdict

logger = escaping(logging.getLogger(__name__))

BAD_TOKEN = "The access token is invalid or expired"


class Guard:
    """Identifies callers.  `now` gives seconds since the epoch."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._token = settings.token.encode("ascii") if settings.token is not None else None
        self._authorize = settings.authorize
        self._verify = settings.verifier.verify_token if settings.verifier is not None else None
        self.open = settings.is_open
        # Whether a function of the user identifies callers, which `early` does not call.
        self.asks = self._authorize is not None or self._verify is not None

    def early(self, verdict: Verdict) -> Refusal | None:
        """The refusal that is certain before the user's function or verifier is called, if any."""
        try:
            if self._token is not None:
                self._check_token(verdict.head)
            elif self._verify is not None:
                self._bearer(verdict)
        except Refusal as exc:
            return exc
        return None

    def identify(self, verdict: Verdict) -> Any:
        """The principal, or an awaitable of it; `known` checks either.  Raises a Refusal."""
        if self._token is not None:
            return self._check_token(verdict.head)
        if self._verify is None:
            assert self._authorize is not None
            return self._authorize(verdict.head)
        token = self._bearer(verdict)
        try:
            found = self._verify(token)
        except MCPError:
            raise
        except Exception as exc:
            raise _failed(exc, token) from None
        return self._found(found, token) if inspect.isawaitable(found) else found

    async def _found(self, found: Awaitable[Any], token: str) -> Any:
        try:
            return await found
        except MCPError:
            raise
        except Exception as exc:
            raise _failed(exc, token) from None

    def known(self, verdict: Verdict, found: Any) -> Any:
        """The principal, if it may enter.  Raises a Refusal: 401 for an unknown caller, 403 for too few scopes."""
        if self._verify is not None:
            found = as_principal(found)
        # Not only None: a predicate that returns False has not identified the caller.
        if not found:
            raise self.unauthorized(verdict, INVALID_TOKEN if self._verify is not None else "")
        expires = expiry(found)
        if expires is not None and expires <= self._now():
            raise self.unauthorized(verdict, INVALID_TOKEN)
        required = self._settings.required_scopes
        if required:
            self.hold(verdict, found, ())
        return found

    def hold(self, verdict: Verdict, principal: Any, needed: Iterable[str]) -> None:
        """Check that the principal has the scopes in `needed`, and the scopes that every request needs.

        Raises a Refusal: 403 with the challenge that lets a client ask its user for more (2026-07-28
        basic/authorization, Runtime Insufficient Scope).
        """
        if self._token is not None:  # the one token of the settings allows every request
            return
        if principal is None:
            # Fail closed: scopes that cannot be checked must not be ignored.
            raise Refusal(403, "Forbidden: this needs scopes, and the server is not set to ask who it serves")
        # The challenge also names the scopes already granted, because a client may drop any scope that it leaves out.
        wanted = tuple(dict.fromkeys((*self._settings.required_scopes, *needed)))
        granted = getattr(principal, "scopes", ()) or ()
        if missing_scopes(granted, wanted, self._settings.scope_includes):
            header = challenge(
                error=INSUFFICIENT_SCOPE,
                description="The access token has not the scopes for this",
                scopes=wanted,
                metadata=self._metadata_url(verdict),
            )
            raise Refusal(403, f"Forbidden: this needs the scopes {' '.join(wanted)}", headers=(header,))

    def unauthorized(self, verdict: Verdict, error: str = "") -> Refusal:
        """401, with a challenge that names the metadata of the authorization servers."""
        header = challenge(
            error=error,
            description=BAD_TOKEN if error and self._verify is not None else "",
            scopes=self._settings.required_scopes,
            metadata=self._metadata_url(verdict),
        )
        return Refusal(401, "Unauthorized", headers=(header,))

    def resource(self, verdict: Verdict) -> str:
        """This server's own URI: from the settings, else from the client's request; empty where neither has one."""
        if self._settings.resource is not None:
            return canonical_uri(self._settings.resource)
        root = self._root(verdict)
        return canonical_uri(f"{root}{self._settings.path}") if root else ""

    def _root(self, verdict: Verdict) -> str:
        # The address that a client sees of the path "/" here; empty where no host is known.
        facts = verdict.facts
        scheme = "https" if self._settings.ssl is not None else facts.scheme or "http"
        return f"{scheme}://{facts.host}{facts.prefix}" if facts.host else ""

    def _metadata_url(self, verdict: Verdict) -> str:
        if not self._settings.authorization_servers:
            return ""
        if self._settings.resource is None and verdict.facts.prefix and verdict.facts.host:
            # Behind a proxy that strips a prefix, a client may reach this server below the prefix only.  So the address
            # is not at the root of the host, where RFC 9728 section 3.1 puts it for clients that are not told one.
            return canonical_uri(f"{self._root(verdict)}{WELL_KNOWN}{self._settings.path}")
        resource = self.resource(verdict)
        return metadata_url(resource) if resource else ""

    def _bearer(self, verdict: Verdict) -> str:
        try:
            token = bearer(verdict.head.get("authorization"))
        except ValueError as exc:
            header = challenge(error=INVALID_REQUEST, description=str(exc), metadata=self._metadata_url(verdict))
            raise Refusal(400, str(exc), headers=(header,)) from None
        if token is None:
            # RFC 6750 section 3.1: a request without credentials gets a challenge without an error code.
            raise self.unauthorized(verdict)
        return token

    def _check_token(self, head: Head) -> Principal:
        import hmac  # with all of hashlib, which most servers do without

        scheme, _, credentials = (head.get("authorization") or "").partition(" ")
        given = credentials.strip().encode("latin-1")
        # Compared in constant time, with any scheme, so that the time taken tells nothing about the token.
        fits = hmac.compare_digest(given, self._token or b"")
        if scheme.lower() != "bearer" or not fits:
            raise Refusal(401, "Unauthorized", headers=(challenge(error=INVALID_TOKEN if credentials else ""),))
        return TOKEN_HOLDER


def expiry(principal: Any) -> float | None:
    """The time at which a principal expires, in seconds since the epoch."""
    expires = getattr(principal, "expires_at", None)
    return expires if isinstance(expires, (int, float)) else None


def _failed(exc: Exception, token: str) -> Refusal:
    # The message of a library may quote the token that it could not read.
    text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    logger.error("the token verifier failed\n%s", trace_text(text.replace(token, "[token]")))
    return Refusal(500, "Internal error", code=INTERNAL_ERROR)
