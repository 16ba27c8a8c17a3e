# SPDX-License-Identifier: MIT
"""Requests to an authorization server and its answers, as values: authorization, tokens, the client's own proof.

RFC 6749 (4.1, 5, 6), RFC 7636 (PKCE with S256 alone), RFC 8707 (`resource`), RFC 9207 (`iss`).  It sends nothing.

Rules:
- An authorization response counts only if its `state` and `iss` are those of the request that it answers.
- No error quotes a token, a code or a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit, urlunsplit

from ...http.auth import MAX_TOKEN
from ...protocol.shown import escaped
from .metadata import ServerMetadata
from .redirect import AuthorizationResponse
from .store import Registration, Tokens

MAX_LIFETIME = 10 * 365 * 86400.0  # seconds; a longer `expires_in` is taken for this
MAX_SUBJECT = 200  # characters of a person's name
SHOWN_OF_ERROR = 300  # characters of an authorization server's words in an error
# The fields of a request to a token endpoint that are secrets.
SECRET_FIELDS = (
    "assertion", "client_assertion", "client_secret", "code", "code_verifier", "refresh_token", "subject_token",
)  # fmt: skip
# RFC 6749, 5.2: the refresh token or the code has ended.
INVALID_GRANT = "invalid_grant"


class TokenRefused(Exception):
    """The authorization server refused.  `code` is its error code, "" where it gave none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# --- the authorization request ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AuthorizationRequest:
    """One authorization request: the address for the browser, and the values that its answer is checked by."""

    url: str = field(repr=False)
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)


def authorization_request(
    server: ServerMetadata, client_id: str, redirect_uri: str, resource: str, scopes: Iterable[str]
) -> AuthorizationRequest:
    """A new request, with a `state` and a PKCE verifier of its own.

    Raises:
        ValueError: the server has no authorization endpoint that can be used, or no PKCE with S256.  "If
            `code_challenge_methods_supported` is absent, [...] MCP clients MUST refuse to proceed."
    """
    if server.authorization_endpoint is None:
        raise ValueError("its metadata has no authorization_endpoint")
    if "S256" not in server.challenge_methods:
        raise ValueError("its metadata does not name PKCE with S256 (code_challenge_methods_supported)")
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": s256(verifier),
        "code_challenge_method": "S256",
        "resource": resource,
    }
    scope = " ".join(scopes)
    if scope:
        query["scope"] = scope
    # OpenID Connect Core 11: without consent the server ignores the wish for a refresh token.
    if "offline_access" in scope.split():
        query["prompt"] = "consent"
    # RFC 6749, 3.1: an endpoint may have a query, which stays; no parameter may be there twice.
    parts = urlsplit(server.authorization_endpoint)
    if not query.keys().isdisjoint(parse_qs(parts.query, keep_blank_values=True)):
        raise ValueError("its authorization_endpoint has a parameter of the request")
    joined = "&".join(filter(None, (parts.query, urlencode(query))))
    return AuthorizationRequest(urlunsplit(parts._replace(query=joined)), redirect_uri, state, verifier)


def s256(verifier: str) -> str:
    """The challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def code_in(answer: AuthorizationResponse, asked: AuthorizationRequest, server: ServerMetadata) -> str:
    """The authorization code of an answer.

    Raises:
        ValueError: the answer is not that of the request: another `state`, or another `iss`.
        TokenRefused: the person or the authorization server refused.
    """
    if answer.state is None or not hmac.compare_digest(answer.state.encode(), asked.state.encode()):
        raise ValueError("the answer has another `state` than the request: it belongs to another login")
    # 2026-07-28 basic/authorization, Authorization Response Validation: the same texts, without a normal form; and
    # before `error` is read, because "the client MUST NOT act on or display" the error of another issuer.
    if answer.iss is None and server.sends_iss:
        raise ValueError("the answer has no `iss`, which this authorization server promises")
    if answer.iss is not None and answer.iss != server.issuer:
        raise ValueError("the answer has the `iss` of another authorization server")
    if answer.error is not None:
        raise TokenRefused(_words(answer.error, answer.error_description), answer.error)
    if not answer.code:
        raise ValueError("the answer has no code")
    return answer.code


# --- the client's proof -----------------------------------------------------------------------------------------------


def auth_method(client: Registration, server_methods: tuple[str, ...] | None, *, has_key: bool = False) -> str:
    """How a client shows at the token endpoint that it is itself.

    Args:
        server_methods: those of the authorization server's metadata.
        has_key: the client can sign assertions.

    Raises:
        ValueError: the server takes none of the proofs that the client has.
    """
    if client.auth_method is not None:
        return client.auth_method
    if has_key:
        able: tuple[str, ...] = ("private_key_jwt",)
    elif client.client_secret is None:
        able = ("none",)
    else:
        able = ("client_secret_basic", "client_secret_post")
    # RFC 8414, 2: without a list the default is "client_secret_basic"; a public client can only try.
    if server_methods is None:
        return able[0]
    found = next((one for one in able if one in server_methods), None)
    if found is not None:
        return found
    # A server of public clients alone knows a client by its id, even if it once gave it a secret.
    if "none" in server_methods and not has_key:
        return "none"
    raise ValueError(f"it takes {', '.join(server_methods) or 'nothing'} as proof of a client, which the client lacks")


def client_proof(
    client: Registration, method: str, assertion: str | None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Headers and form fields that name the client and prove it (RFC 6749, 2.3.1; RFC 7523, 2.2)."""
    if method == "private_key_jwt":
        assert assertion is not None
        return [], {
            "client_id": client.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
    secret = client.client_secret
    if method == "client_secret_basic" and secret is not None:
        # Both parts are form-encoded first, so that a colon in the id does not end it.
        pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}".encode("ascii")
        # The id is in the form too: the official SDK's authorization server looks for it there alone.
        proof = f"Basic {base64.b64encode(pair).decode('ascii')}"
        return [("Authorization", proof)], {"client_id": client.client_id}
    if method == "client_secret_post" and secret is not None:
        return [], {"client_id": client.client_id, "client_secret": secret}
    return [], {"client_id": client.client_id}


# --- the answer of a token endpoint -----------------------------------------------------------------------------------


def read_tokens(
    document: Mapping[str, Any], now: float, asked_scope: str | None, kept: str | None = None, *, proven: bool = False
) -> Tokens:
    """The tokens of a success (RFC 6749, 5.1).

    Args:
        now: seconds since 1970, when the request was sent.
        asked_scope: the scope of the request: a server that grants it all need not repeat it.
        kept: the refresh token that was used; a server that does not rotate it does not repeat it.
        proven: the request had a proof of possession, and its token has to be bound to the key.

    Raises:
        ValueError: the answer has no token that a header can carry, or one of another type than "Bearer" ("DPoP" where
            the request had a proof).
    """
    access, kind = document.get("access_token"), document.get("token_type")
    if not _is_token(access):
        raise ValueError("its answer has no access_token that a header can carry")
    assert isinstance(access, str)
    # RFC 9449, 5: a server that does not know proofs gives a bearer token, which a thief could use.
    wanted = "DPoP" if proven else "Bearer"
    if not isinstance(kind, str) or kind.lower() != wanted.lower():
        said = f"{kind:.50}" if isinstance(kind, str) else "missing"
        raise ValueError(f'the token_type of its answer is {escaped(said)}, and not "{wanted}"')
    refresh, scope = document.get("refresh_token"), document.get("scope")
    lifetime = _lifetime(document.get("expires_in"))
    return Tokens(
        access,
        wanted,
        refresh if isinstance(refresh, str) and _is_token(refresh) else kept,
        None if lifetime is None else now + lifetime,
        scope if isinstance(scope, str) and len(scope) <= MAX_TOKEN else asked_scope,
    )


def refusal_in(status: int, document: Mapping[str, Any] | None, hidden: Collection[str] = ()) -> TokenRefused | None:
    """The refusal that an answer of a token or registration endpoint is; None for a success (RFC 6749, 5.2).

    Args:
        hidden: secrets of the request.  Some servers quote a wrong one, and the text of the error gets into logs.
    """
    code = None if document is None else document.get("error")
    # Some servers refuse with 200.
    if 200 <= status < 300 and not isinstance(code, str):
        return None
    if document is None or not isinstance(code, str):
        return TokenRefused(f"status {status}")
    return TokenRefused(f"{_words(code, document.get('error_description'), hidden)} (status {status})", code)


def secrets_in(form: Mapping[str, str], *more: str | None) -> set[str]:
    """The secrets of a request, which no error quotes."""
    return {value for value in (*map(form.get, SECRET_FIELDS), *more) if value}


def subject_in(document: Mapping[str, Any]) -> str | None:
    """A name of the person, from an ID token that came with the tokens; None without one.

    Its signature is not checked: it came from the token endpoint itself by TLS (OpenID Connect Core, 3.1.3.7, 6), and
    the name is for people to read.
    """
    token = document.get("id_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN or token.count(".") != 2:
        return None
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    names = (claims.get(name) for name in ("email", "preferred_username", "sub"))
    found = next((name for name in names if isinstance(name, str) and name), None)
    return None if found is None else escaped(found[:MAX_SUBJECT])


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN and all("!" <= char <= "~" for char in value)


def _lifetime(value: object) -> float | None:
    # Some servers write the number as a text.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    return float(min(value, MAX_LIFETIME))


def _words(code: str, description: object, hidden: Collection[str] = ()) -> str:
    said = f"{code}: {description}" if isinstance(description, str) and description else code
    for secret in sorted(hidden, key=len, reverse=True):  # the longest first: one may hold another
        said = said.replace(secret, "[hidden]")
    return escaped(" ".join(said.split())[:SHOWN_OF_ERROR])
