# SPDX-License-Identifier: MIT
"""Which client this program is to an authorization server: chosen in the order of the specification, as values.

A client that the user registered comes first, then the address of a metadata document where the server knows such
documents, then a registration that was stored, then a new one (2026-07-28 basic/authorization/client-registration;
RFC 7591).

Rule: a client belongs to the issuer that gave it.  It is never shown to another one; a metadata document alone is the
same client everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ...http.addresses import on_loopback
from .metadata import ServerMetadata
from .store import Login, Registration

MAX_CLIENT_ID = 2048  # characters, and as many for a secret
MAX_SECRET_END = 1e12  # seconds since 1970; a secret with a later end has none
AUTH_METHODS = ("none", "client_secret_basic", "client_secret_post", "private_key_jwt")


@dataclass(frozen=True)
class ClientOptions:
    """The options of the user about the client.

    Attributes:
        given: a client that the user registered; None without one.
        issuer: the authorization server that `given` belongs to; None takes the first that is met.
        document: the address of a metadata document of the client.
        name: for people, in a new registration.
    """

    given: Registration | None = None
    issuer: str | None = None
    document: str | None = None
    name: str = "mcp_h11"


def checked_document(url: str) -> str:
    """The address of a client's metadata document.  Raises ValueError: it needs https and a path."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path in ("", "/") or "#" in url or "@" in parts.netloc:
        raise ValueError("the address of a client's metadata document has https and a path, and no fragment")
    return url


def known_client(
    options: ClientOptions, server: ServerMetadata, stored: Login | None, redirect_uri: str | None, now: float
) -> Registration | None:
    """The client to use at this server; None where a new one has to be registered.

    Args:
        stored: the last login at the MCP server, perhaps at another issuer.
        redirect_uri: of this login; None for a grant without a person.
        now: seconds since 1970.

    Raises:
        ValueError: the user's client belongs to another issuer, or there is no way to get one.
    """
    if options.given is not None:
        _check_issuer(options, server, stored)
        return options.given
    if options.document is not None and server.knows_documents:
        return Registration(options.document, None, "metadata", "none")
    if stored is not None and _still_good(stored, server, redirect_uri, now):
        return stored.client
    if server.registration_endpoint is None:
        raise ValueError(
            "it registers no clients by itself; register one there by hand and give its id (client_id=...)"
        )
    return None


def _check_issuer(options: ClientOptions, server: ServerMetadata, stored: Login | None) -> None:
    """2026-07-28: "clients SHOULD surface an error rather than silently attempting to use mismatched credentials"."""
    assert options.given is not None
    bound = options.issuer
    if bound is None and stored is not None and stored.client.client_id == options.given.client_id:
        bound = stored.issuer
    if bound is not None and bound != server.issuer:
        raise ValueError(
            f"the client id belongs to {bound:.200}, and the MCP server names {server.issuer:.200} now; "
            "register a client there and give its id"
        )


def _still_good(stored: Login, server: ServerMetadata, redirect_uri: str | None, now: float) -> bool:
    client = stored.client
    if stored.issuer != server.issuer or client.origin != "registered":
        return False
    # RFC 7591, 3.2.1: the secret may end.
    if client.secret_expires_at is not None and client.secret_expires_at <= now:
        return False
    # Servers compare the address as a text, and many compare the port of loopback too.
    return redirect_uri is None or redirect_uri in client.redirect_uris


def registration_request(
    options: ClientOptions, server: ServerMetadata, redirect_uri: str, scopes: Sequence[str]
) -> dict[str, Any]:
    """The body of a new registration (RFC 7591, 2).

    Args:
        scopes: all that this client may come to ask for: some servers grant no others.
    """
    body: dict[str, Any] = {
        "client_name": options.name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": _wished_method(server),
        # "MCP clients MUST specify an appropriate `application_type`".
        "application_type": "native" if _is_native(redirect_uri) else "web",
    }
    if scopes:
        body["scope"] = " ".join(scopes)
    return body


def read_registration(document: Mapping[str, Any], asked: Mapping[str, Any]) -> Registration:
    """The client that a server has registered (RFC 7591, 3.2.1).  Raises ValueError for an answer without a client."""
    client_id, secret = document.get("client_id"), document.get("client_secret")
    if not _is_visible(client_id):
        raise ValueError("its answer has no client_id")
    assert isinstance(client_id, str)
    if secret is not None and not _is_visible(secret):
        raise ValueError("its answer has a client_secret that is no text")
    method = document.get("token_endpoint_auth_method", asked["token_endpoint_auth_method"])
    if method not in AUTH_METHODS:
        raise ValueError("its answer has a token_endpoint_auth_method that is not known here")
    listed = document.get("redirect_uris")
    uris = [one for one in listed if isinstance(one, str)][:10] if isinstance(listed, list) else []
    return Registration(
        client_id,
        secret,
        "registered",
        method,
        tuple(uris or asked["redirect_uris"]),
        _end_of_secret(document.get("client_secret_expires_at")),
    )


def _end_of_secret(said: object) -> float | None:
    # 0 stands for "does not end", and no clock comes to a time past the limit.
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not 0 < said < MAX_SECRET_END:
        return None
    return float(said)


def _wished_method(server: ServerMetadata) -> str:
    """A program on a person's machine keeps no secret, so it asks for one only where the server insists."""
    listed = server.auth_methods
    if listed is None or "none" in listed:
        return "none"
    return next((one for one in ("client_secret_basic", "client_secret_post") if one in listed), "none")


def _is_native(redirect_uri: str) -> bool:
    parts = urlsplit(redirect_uri)
    return parts.scheme not in ("http", "https") or on_loopback(parts.hostname or "")


def _is_visible(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_CLIENT_ID and all(" " <= char <= "~" for char in value)
