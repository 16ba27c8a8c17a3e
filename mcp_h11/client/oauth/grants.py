# SPDX-License-Identifier: MIT
"""Ways to a token that need no person: the client's own credentials, an assertion, an identity of an enterprise.

Give one as ``OAuth(grant=...)``.  Each makes the form fields of one token request; `OAuth` adds the client's proof and
`resource`, sends it, and keeps the token.

RFC 6749, 4.4 and the extension oauth-client-credentials (SEP-1046); RFC 7523, 2.1 (an assertion as a grant), which
workload identity uses (SEP-1933); RFC 8693 and the extension enterprise-managed-authorization (SEP-990).

Rule: a refused request is not sent again, and no other grant is tried in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Protocol

from .errors import LoginFailed
from .fetching import Fetcher
from .metadata import checked_address
from .tokens import refusal_in, secrets_in

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
MAX_ASSERTION = 64 * 1024  # characters


@dataclass(frozen=True)
class TokenNeed:
    """The token that a grant is asked for.

    Attributes:
        issuer: the authorization server, which is the audience of an assertion.
        resource: the MCP server (RFC 8707).
        scope: the scopes that are wanted, with blanks between; None for those that the server chooses.
    """

    issuer: str
    resource: str
    scope: str | None


class Grant(Protocol):
    """Makes the form fields of a token request, `grant_type` among them."""

    async def fields(self, need: TokenNeed, fetcher: Fetcher) -> dict[str, str]:
        """The fields for one request.  Raises LoginFailed where there are none."""
        ...


class ClientCredentials:
    """The client acts for itself: its id, with a secret or a private key, is enough (RFC 6749, 4.4)."""

    async def fields(self, need: TokenNeed, fetcher: Fetcher) -> dict[str, str]:
        """The fields of a request with the client's own credentials; `need` and `fetcher` are not looked at."""
        return {"grant_type": "client_credentials"}


# Called with the issuer of the authorization server, which the assertion has as its audience.
AssertionProvider = Callable[[str], "Awaitable[str] | str"]


class JWTBearer:
    """An assertion that another party signed, such as the token of a workload, stands for the client (RFC 7523, 2.1).

    Args:
        assertion: a function or a coroutine function ``(audience) -> JWT``, called for each new token.
    """

    def __init__(self, assertion: AssertionProvider) -> None:
        if not callable(assertion):
            raise TypeError("assertion is a function or a coroutine function: (audience) -> JWT")
        self._assertion = assertion

    async def fields(self, need: TokenNeed, fetcher: Fetcher) -> dict[str, str]:
        """The fields of a request with a new assertion for the issuer of `need`; `fetcher` is not asked."""
        given = self._assertion(need.issuer)
        return {"grant_type": JWT_BEARER, "assertion": _checked(await given if isawaitable(given) else given)}


class EnterpriseIdentity:
    """The identity that an enterprise's provider has confirmed, exchanged for a grant of its own (SEP-990).

    Two requests: the ID token becomes an ID-JAG at the identity provider (RFC 8693), and the ID-JAG becomes a token at
    the authorization server of the MCP server (RFC 7523).

    Args:
        id_token: a function or coroutine function that gives the ID token of the person.
        token_endpoint: that of the identity provider; https, or http on loopback.
        client_id, client_secret: the client as the identity provider knows it.

    Raises:
        ValueError: the token endpoint is no address of https.
    """

    def __init__(
        self,
        id_token: Callable[[], Awaitable[str] | str],
        *,
        token_endpoint: str,
        client_id: str,
        client_secret: str | None = None,
    ) -> None:
        if not callable(id_token):
            raise TypeError("id_token is a function or a coroutine function: () -> ID token")
        self._id_token = id_token
        # Against itself: the user has named it, so it may be on loopback.
        self._endpoint = checked_address(token_endpoint, token_endpoint)
        self._client_id = client_id
        self._client_secret = client_secret

    def __repr__(self) -> str:
        return f"EnterpriseIdentity(token_endpoint={self._endpoint!r}, client_id={self._client_id!r})"

    async def fields(self, need: TokenNeed, fetcher: Fetcher) -> dict[str, str]:
        """Exchanges the ID token by `fetcher`, for the audience and resource of `need`; the fields with the ID-JAG."""
        given = self._id_token()
        form = {
            "grant_type": TOKEN_EXCHANGE,
            "requested_token_type": ID_JAG,
            "subject_token": _checked(await given if isawaitable(given) else given),
            "subject_token_type": ID_TOKEN,
            "audience": need.issuer,
            "resource": need.resource,
            "client_id": self._client_id,
        }
        if self._client_secret is not None:
            form["client_secret"] = self._client_secret
        if need.scope:
            form["scope"] = need.scope
        answer = await fetcher.post_form(self._endpoint, form, "identity")
        refused = refusal_in(answer.status, answer.document, secrets_in(form))
        if refused is not None:
            raise LoginFailed(str(refused), step="identity", address=self._endpoint)
        document = answer.document or {}
        if document.get("issued_token_type") != ID_JAG:
            raise LoginFailed("the identity provider gave no ID-JAG", step="identity", address=self._endpoint)
        return {"grant_type": JWT_BEARER, "assertion": _checked(document.get("access_token"))}


def _checked(assertion: object) -> str:
    """The assertion.  Raises LoginFailed for any other value; the error quotes nothing of it."""
    if not isinstance(assertion, str) or not 0 < len(assertion) <= MAX_ASSERTION or not assertion.isascii():
        raise LoginFailed(f"an assertion is a text of at most {MAX_ASSERTION} ASCII characters", step="token")
    return assertion
