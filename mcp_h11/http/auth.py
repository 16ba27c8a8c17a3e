# SPDX-License-Identifier: MIT
"""Authorization as an OAuth resource server: principals, scopes, challenges and the metadata of a resource.

It issues no token and reads none: a `TokenVerifier` of the user's, on the user's JWT or introspection library, does.
Everything here is values; `guard` decides when a token is verified and which scopes a request needs.

Rule: a caller is known by issuer, subject and client, never by the bytes of a token, so that a refreshed token is still
the same caller.  Texts that go into a header are checked when the server is configured.

2026-07-28 basic/authorization; RFC 6750 (bearer tokens), RFC 9728 (resource metadata), RFC 6749 section 3.3 (scopes).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .addresses import on_loopback

WELL_KNOWN = "/.well-known/oauth-protected-resource"  # RFC 9728 section 3
MAX_TOKEN = 16 * 1024  # bytes; a longer one is refused before any verifier sees it
# RFC 6750 section 2.1, b64token
_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/")
# RFC 6749 section 3.3: visible ASCII but the quote and the backslash, so that any scope can stand in a challenge
_SCOPE = frozenset(map(chr, range(0x21, 0x7F))) - frozenset('"\\')
_DEFAULT_PORT = {"http": 80, "https": 443}

INVALID_REQUEST, INVALID_TOKEN, INSUFFICIENT_SCOPE = "invalid_request", "invalid_token", "insufficient_scope"

# Called with a scope that was granted and one that is needed: whether the first includes the second.
ScopeIncludes = Callable[[str, str], bool]


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.  Sessions, replay and sealed state are bound to (`issuer`, `subject`, `client_id`).

    Args:
        subject: The caller's name, as the issuer gives it.
        scopes: The permissions of the token, kept as a frozenset; a text is split at its blanks, as the `scope` claim
            is written.
        claims: All other facts of the token; handlers find them in `ctx.principal.claims`.
        client_id: The OAuth client that the token was issued to.
        issuer: The authorization server that issued it.
        expires_at: Seconds since the epoch; from then on requests are 401 and streams that listen are ended.
    """

    subject: str
    scopes: Collection[str] = frozenset()
    claims: Any = field(default=None, repr=False)
    client_id: str = ""
    issuer: str = ""
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if type(self.scopes) is not frozenset:
            object.__setattr__(self, "scopes", split_scopes(self.scopes))


TOKEN_HOLDER = Principal("token")  # each caller with the one secret of `Settings.token`, which allows every request


class AccessToken(Protocol):
    """A verifier may return this instead of a `Principal`: an object like the official SDK's `AccessToken`.

    `subject`, `expires_at`, `issuer` and `claims` are read where they are there; the issuer may be ``claims["iss"]``.
    """

    @property
    def client_id(self) -> str:
        """The OAuth client that the token was issued to."""
        ...

    @property
    def scopes(self) -> Iterable[str]:
        """The scopes that the token grants."""
        ...


class TokenVerifier(Protocol):
    """Finds the caller of a bearer token.  Give one as `Settings.verifier`; it is asked at every request."""

    async def verify_token(self, token: str) -> AccessToken | Principal | None:
        """The caller of the token, or None for a token that must not be trusted.

        Check the signature (or ask the issuer), the expiry, the issuer, and **the audience**: a token that was not
        issued for this server's own URI MUST be refused (2026-07-28 basic/authorization, Token Handling), and
        `canonical_uri` says when two spellings of it are the same.  Catch what your library raises for a bad token:
        an exception is answered with 500.
        """


def split_scopes(scopes: str | Iterable[str]) -> frozenset[str]:
    """Scopes as a set, from a list or from one text with blanks between."""
    return frozenset(scopes.split() if isinstance(scopes, str) else scopes)


def as_principal(value: Any) -> Principal | None:
    """The result of a verifier as a Principal; None if it has neither a subject nor a client.

    Without a name all such callers would share one identity, and with it their sessions.
    """
    if not value:
        return None
    if not isinstance(value, Principal):
        claims = getattr(value, "claims", None)
        issuer = getattr(value, "issuer", None)
        if issuer is None and isinstance(claims, Mapping):
            issuer = claims.get("iss")
        value = Principal(
            str(getattr(value, "subject", None) or ""),
            split_scopes(getattr(value, "scopes", None) or ()),
            claims,
            str(getattr(value, "client_id", None) or ""),
            str(issuer or ""),
            getattr(value, "expires_at", None),
        )
    return value if value.subject or value.client_id else None


def subject(principal: Any) -> str:
    """The name of a caller, to which sessions and sealed state are bound; empty on a server without authorization.

    It does not depend on the token: a refreshed token is still the same caller's.
    """
    if principal is None:
        return ""
    who, client = getattr(principal, "subject", None), getattr(principal, "client_id", None)
    issuer = getattr(principal, "issuer", None)
    name = str(principal if who is None and client is None else who or "")
    if not issuer and not client and name[:1] != "[":
        return name
    # One text for each triple.  No caller's bare name equals it, since a name that begins with "[" comes here as well.
    return json.dumps([issuer or "", name, client or ""], separators=(",", ":"))


# --- scopes ------------------------------------------------------------------------------------------------------


def checked_scopes(scopes: Iterable[str], what: str) -> tuple[str, ...]:
    """Scopes that a server asks for, in order, each once.  Raises ValueError for a scope that no token could carry."""
    if isinstance(scopes, str):
        raise ValueError(f"{what} is a list of scopes, not a string")
    for scope in scopes:
        if not isinstance(scope, str) or not scope or not _SCOPE.issuperset(scope):
            raise ValueError(f"{what}: a scope is visible ASCII without blanks, quotes and backslashes, not {scope!r}")
        if scope == "offline_access":
            # 2026-07-28 basic/authorization, Refresh Tokens: it is between the client and its authorization server.
            raise ValueError(f"{what}: offline_access is not for a resource server to ask")
    return tuple(dict.fromkeys(scopes))


def missing_scopes(granted: Collection[str], needed: Iterable[str], includes: ScopeIncludes | None) -> list[str]:
    """The scopes of `needed` that are neither granted nor included in a granted one.

    2026-07-28 basic/authorization, Step-Up: a broad scope satisfies the narrow ones that it includes.
    """
    left = [scope for scope in needed if scope not in granted]
    if left and includes is not None:
        left = [scope for scope in left if not any(includes(one, scope) for one in granted)]
    return left


# --- refusing ----------------------------------------------------------------------------------------------------


def challenge(
    *, error: str = "", description: str = "", scopes: Sequence[str] = (), metadata: str = ""
) -> tuple[str, str]:
    """The `WWW-Authenticate` header (RFC 6750 section 3, RFC 9728 section 5.1); arguments are safe to quote."""
    parameters = {
        "error": error,
        "error_description": description,
        "scope": " ".join(scopes),
        "resource_metadata": metadata,
    }
    given = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
    return "WWW-Authenticate", f"Bearer {given}" if given else "Bearer"


def bearer(value: str | None) -> str | None:
    """The token of an Authorization header; None where there is none, or another scheme.

    Raises ValueError for a malformed credential: 400 (2026-07-28 basic/authorization, Error Handling).
    """
    scheme, _, token = (value or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not is_bearer_token(token) or len(token) > MAX_TOKEN:
        raise ValueError("The Authorization header has no bearer token")
    return token


def is_bearer_token(text: str) -> bool:
    """Whether it can be a bearer token: b64token of RFC 6750 section 2.1."""
    return bool(text) and text[0] != "=" and _TOKEN.issuperset(text.rstrip("="))


# --- this server's own name ----------------------------------------------------------------------------------------


def canonical_uri(uri: str) -> str:
    """A server's URI in its one spelling: lower-case scheme and host, no default port, no slash at its end.

    2026-07-28 basic/authorization, Canonical Server URI.  Compare a token's audience by it.  Raises ValueError
    where `uri` is not the URI of a server.
    """
    from urllib.parse import urlsplit  # here and below: most servers have no authorization and need no urllib

    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"not the URI of a server: {uri!r}") from None
    visible = all("!" <= character <= "~" and character not in '"\\' for character in uri)
    if not visible or parts.scheme not in _DEFAULT_PORT or not host or "@" in parts.netloc or "?" in uri or "#" in uri:
        raise ValueError(f"the URI of a server is http(s)://host/path, without user, query and fragment, not {uri!r}")
    host = f"[{host}]" if ":" in host else host
    netloc = host if port in (None, _DEFAULT_PORT[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def checked_issuer(uri: str) -> str:
    """The address of an authorization server, as given: clients compare it byte for byte.

    Raises ValueError where it is not https (2026-07-28 basic/authorization, Communication Security), or http on
    loopback, for a trial on one machine.
    """
    from urllib.parse import urlsplit

    canonical = canonical_uri(uri)
    host = urlsplit(canonical).hostname or ""
    if canonical.startswith("http:") and not on_loopback(host):
        raise ValueError(f"an authorization server is reached by https, not {uri!r}")
    return uri


def metadata_path(resource: str) -> str:
    """The path of a resource's metadata: the well-known path, then the resource's own (RFC 9728 section 3.1)."""
    from urllib.parse import urlsplit

    return WELL_KNOWN + urlsplit(resource).path.rstrip("/")


def metadata_url(resource: str) -> str:
    """The same as an absolute URL."""
    from urllib.parse import urlsplit

    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{metadata_path(resource)}"


def metadata(resource: str, servers: Sequence[str], scopes: Sequence[str], name: str) -> dict[str, Any]:
    """The protected resource metadata (RFC 9728 section 2)."""
    document: dict[str, Any] = {
        "resource": resource,
        "authorization_servers": list(servers),
        # 2026-07-28 basic/authorization, Token Requirements: the header only, never the query.
        "bearer_methods_supported": ["header"],
    }
    if scopes:
        document["scopes_supported"] = list(scopes)
    if name:
        document["resource_name"] = name
    return document
