# SPDX-License-Identifier: MIT
"""`OAuth`: logs a client in at the authorization server of its MCP server when it is asked to, and sends the token.

``Client(url, auth=OAuth(redirect=..., store=...))``.  It is a middleware for the requests of the client; the requests
to authorization servers go by an HTTP client of their own.

2026-07-28 basic/authorization and its pages, with the fallbacks of 2025-03-26.

Rules:
- At most one login and one repetition for a request.
- The token goes to the origin of the MCP server alone, over https, or over http on loopback.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from ...http.addresses import on_loopback
from ..http.httpclient import HTTPCall, HTTPClient, Next
from ..http.middleware import set_header
from ..http.outbound import ForwardProxies
from ..http.urls import origin_of
from ..http.wire import HTTPAnswer, HTTPFailure
from .challenges import TokenWanted, sound_scopes, wanted_in
from .errors import LoginFailed
from .grants import Grant
from .keeper import HTTPMaker, LoginKeeper, LoginOptions, login_key
from .proofs import USE_NONCE, ProofKey
from .redirect import Redirect
from .registration import ClientOptions, checked_document
from .signing import SigningKey
from .store import Login, MemoryTokenStore, Registration, Tokens, TokenStore

# The steps that fail where nothing at the server's address knows of logins.
BEFORE_A_PERSON = ("resource metadata", "server metadata", "registration")

# Stops the clocks of the requests that wait for a person.
Patience = Callable[[], AbstractContextManager[None]]


class OAuth:
    """Logs in by OAuth 2.1 where an MCP server asks for it.  One object may serve several clients and servers.

    Without `redirect` and `grant` no login begins: stored tokens are sent and refreshed, and where they do not suffice
    the client raises `AuthorizationRequired`, as it does without `auth`.

    Args:
        client_id, client_secret: of a client that was registered at the authorization server by hand; else the client
            is a metadata document or registers itself.
        client_metadata_url: the https address of a client ID metadata document, used where the authorization server
            knows such documents.
        scopes: those to ask for; None takes what the server names.
        redirect: shows a person the address of the login and receives the answer.
        grant: gets a token without a person: `ClientCredentials`, `JWTBearer`, `EnterpriseIdentity`.
        store: keeps the logins; by default they are forgotten when the process ends.
        client_name: for people who look at the registration.
        issuer: the authorization server that `client_id` belongs to; another one never sees it.
        private_key: as PEM; the client signs assertions with it in place of a secret (`mcp_h11[oauth]`).
        signing_algorithm, key_id: of `private_key`.
        proofs: binds tokens to a key of this client's where the authorization server can (DPoP, RFC 9449), so that a
            stolen token is of no use; needs `mcp_h11[oauth]`.
        private: metadata of a public MCP server may name private addresses.
        clock: seconds since 1970.

    Raises:
        ValueError: options that contradict each other, or a scope or an address that cannot be sent.
    """

    def __init__(
        self,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        client_metadata_url: str | None = None,
        scopes: Sequence[str] | None = None,
        redirect: Redirect | None = None,
        grant: Grant | None = None,
        store: TokenStore | None = None,
        client_name: str = "mcp_h11",
        issuer: str | None = None,
        private_key: str | None = None,
        signing_algorithm: str = "ES256",
        key_id: str | None = None,
        proofs: bool = False,
        private: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if client_id is None and (client_secret is not None or private_key is not None):
            raise ValueError("a secret or a private key belongs to a client: give client_id too")
        if redirect is not None and grant is not None:
            raise ValueError("a login by a person (redirect) and one without (grant) exclude each other")
        if grant is not None and client_id is None and client_metadata_url is None:
            raise ValueError("a grant without a person needs a registered client: give client_id")
        key = None if private_key is None else SigningKey(private_key, signing_algorithm, key_id)
        method = "private_key_jwt" if key is not None else None
        given = None if client_id is None else Registration(client_id, client_secret, "given", method)
        document = None if client_metadata_url is None else checked_document(client_metadata_url)
        self._options = LoginOptions(
            ClientOptions(given, issuer, document, client_name),
            _checked_scopes(scopes),
            redirect,
            grant,
            MemoryTokenStore() if store is None else store,
            key,
            private,
            proofs,
            clock,
        )
        self._keepers: dict[str, LoginKeeper] = {}

    def middleware(self, url: str, http: HTTPMaker | None = None, patience: Patience = nullcontext) -> Authorizing:
        """The middleware of one client, which calls this itself.

        Args:
            url: the address of the MCP server.
            http: makes the HTTP client for requests to authorization servers.
            patience: a context within which the client's requests have no time limit, for a person takes time.

        Raises:
            ValueError: tokens cannot go to this address: it is neither https nor http on loopback.
        """
        return Authorizing(self._keeper(url), http or _default_http, patience)

    async def login(self, url: str, http: HTTPMaker | None = None) -> Login:
        """Logs in at the server `url`, even if there are tokens for it, and gives the login that was stored.

        Args:
            http: makes the HTTP client for all requests; None takes the proxies of the environment.

        Raises:
            LoginFailed: a step has failed, or the server asks for no login.
            TokenStoreError: the store could not be read or written.
            ValueError: tokens cannot go to this address.
        """
        keeper, maker = self._keeper(url), http or _default_http
        status, wanted = await _asked_by(url, maker)
        try:
            return await keeper.log_in(wanted, maker)
        except LoginFailed as error:
            if status in (401, 403) or error.step not in BEFORE_A_PERSON:
                raise
            place = f"{error.step} at {error.address}"
            raise LoginFailed(
                f"the server asks for none (a request without a token is answered {status}), and has no {place}"
            ) from None

    async def logout(self, url: str, http: HTTPMaker | None = None) -> bool:
        """Forgets the login at `url`, and has its tokens revoked where the authorization server can (RFC 7009).

        Returns whether there was one.  `http` is as for `login`.

        Raises:
            TokenStoreError: the store could not be read or written.
            ValueError: tokens cannot go to this address.
        """
        return await self._keeper(url).log_out(http or _default_http)

    def _keeper(self, url: str) -> LoginKeeper:
        key, origin = login_key(url), origin_of(url)
        if not origin.secure and not on_loopback(origin.host):
            raise ValueError("a token is sent by https alone, or by http on loopback")
        if key not in self._keepers:
            self._keepers[key] = LoginKeeper(self._options, url)
        return self._keepers[key]


class Authorizing:
    """Sends the token of one server with each request, and renews it when the server refuses it."""

    # Innermost, so that no other middleware replaces the token or sees it.
    priority = math.inf

    def __init__(self, keeper: LoginKeeper, http: HTTPMaker, patience: Patience) -> None:
        self._keeper = keeper
        self._http = http
        self._patience = patience
        self._origin = origin_of(keeper.url)

    @property
    def goes_straight(self) -> bool:
        """Whether requests are sent without a token, until one is refused; see `HTTPClient.begin`."""
        return self._keeper.has_no_tokens

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        # HTTP+SSE names an address for its POSTs: a token never follows to another origin.
        keeper = self._keeper
        if call.url != keeper.url and origin_of(call.url) != self._origin:
            return await following(call)
        used = await keeper.tokens(self._http)
        answer, wanted = await self._sent(call, following, used)
        if wanted is None:
            if answer.status < 400 and used is not None:
                keeper.accepted()
            return answer
        if not keeper.may_help(answer.status, wanted):
            return answer
        try:
            with self._patience():
                # A DELETE ends a session: for it no person is asked.
                renewed = await keeper.renewed(used, wanted, self._http, person=call.method != "DELETE")
        except BaseException:
            await answer.aclose()
            raise
        if renewed is None:
            return answer
        # A server that refuses a token has not executed the request, so that any request may be repeated.
        await answer.aclose()
        answer, wanted = await self._sent(call, following, renewed)
        if answer.status < 400:
            keeper.accepted()
        return answer

    async def _sent(
        self, call: HTTPCall, following: Next, tokens: Tokens | None
    ) -> tuple[HTTPAnswer, TokenWanted | None]:
        """The answer to the call with these tokens, and its challenge if it is a refusal."""
        key = self._authorize(call, tokens)
        answer = await following(call)
        wanted = _challenge_of(answer)
        if key is None:
            return answer, wanted
        # RFC 9449, 8.2: each answer may bring the next nonce; 9: a refusal may be for the want of it alone.
        another = key.heard(call.url, answer.get("dpop-nonce"))
        if another and wanted is not None and wanted.error == USE_NONCE:
            await answer.aclose()
            self._authorize(call, tokens)
            answer = await following(call)
            key.heard(call.url, answer.get("dpop-nonce"))
            wanted = _challenge_of(answer)
        return answer, wanted

    def _authorize(self, call: HTTPCall, tokens: Tokens | None) -> ProofKey | None:
        """Puts the token into the call; gives the key of its proof, None for a bearer token and for no token."""
        if tokens is None:
            return None
        key = self._keeper.proof_key if tokens.token_type == "DPoP" else None
        if key is None:
            set_header(call, "Authorization", f"Bearer {tokens.access_token}")
            return None
        set_header(call, "Authorization", f"DPoP {tokens.access_token}")
        set_header(call, "DPoP", key.proof(call.method, call.url, tokens.access_token))
        return key


def _challenge_of(answer: HTTPAnswer) -> TokenWanted | None:
    """The challenge of a refusal; None for an answer that is none."""
    if answer.status not in (401, 403):
        return None
    return wanted_in(value.decode("latin-1") for name, value in answer.headers if name == b"www-authenticate")


def _checked_scopes(scopes: Sequence[str] | None) -> tuple[str, ...] | None:
    if scopes is None:
        return None
    if isinstance(scopes, str):
        raise ValueError("scopes is a list of texts, not one text")
    good = sound_scopes(scopes)
    if len(good) != len(dict.fromkeys(scopes)):
        raise ValueError("a scope is visible ASCII without blanks, quotes and backslashes")
    return good


def _default_http() -> HTTPClient:
    return HTTPClient(proxies=ForwardProxies(os.environ))


async def _asked_by(url: str, http: HTTPMaker) -> tuple[int, TokenWanted]:
    """The status of the MCP server's answer to a request without a token, and the challenge in it."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode("ascii")
    headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    try:
        async with http() as client:
            answer = await client.send(HTTPCall("POST", url, headers, body, repeatable=True))
            await answer.aclose()
    except HTTPFailure as error:
        raise LoginFailed(f"the MCP server does not answer: {error}") from None
    return answer.status, _challenge_of(answer) or TokenWanted()
