# SPDX-License-Identifier: MIT
"""The steps of one login, in their order: metadata, client, authorization, token; and the refresh of a token.

Each step decides by the pure modules beside it (`metadata`, `registration`, `tokens`) and asks by `fetching`.  It keeps
nothing and tries nothing twice: `keeper` says when to log in, and stores the result.

2026-07-28 basic/authorization.  A server without metadata of its own is its own authorization server, as in 2025-03-26.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio

from ...http.auth import canonical_uri
from ...protocol.errors import again
from ..http.urls import shown
from .challenges import TokenWanted
from .errors import LoginFailed
from .fetching import Fetched, Fetcher
from .grants import Grant, TokenNeed
from .metadata import (
    MAX_NAMES,
    ResourceMetadata,
    ServerMetadata,
    checked_address,
    default_server,
    origin_issuer,
    read_resource,
    read_server,
    resource_addresses,
    server_addresses,
)
from .proofs import PROOF_ALGORITHM, USE_NONCE, ProofKey
from .redirect import Redirect
from .registration import ClientOptions, known_client, read_registration, registration_request
from .signing import SigningKey
from .store import Login, Registration, Tokens
from .tokens import (
    TokenRefused,
    auth_method,
    authorization_request,
    client_proof,
    code_in,
    read_tokens,
    refusal_in,
    secrets_in,
    subject_in,
)

OFFLINE = "offline_access"
CLOSE_REDIRECT = 5.0  # seconds that the end of a redirect may take


@dataclass(frozen=True)
class Discovered:
    """The metadata of the MCP server, and that of the authorization server that was chosen."""

    resource: ResourceMetadata
    server: ServerMetadata


@dataclass(frozen=True)
class Flow:
    """The steps of a login at one MCP server.

    Attributes:
        url: the address of the MCP server.
        client: which client this is.
        scopes: those that the user wants; None takes what the server names.
        key: signs the client's assertions, if it has one.
        proofs: new tokens are bound to a key of the client's where the authorization server can (DPoP).
        clock: seconds since 1970.
    """

    url: str
    fetcher: Fetcher
    client: ClientOptions
    scopes: tuple[str, ...] | None = None
    key: SigningKey | None = None
    proofs: bool = False
    clock: Callable[[], float] = time.time

    # --- metadata -------------------------------------------------------------------------------------------

    async def discover(self, wanted: TokenWanted, issuer: str | None) -> Discovered:
        """Finds the authorization server of the MCP server.

        Args:
            wanted: the challenge of the server, read.
            issuer: the authorization server of the last login, which is taken again where it is still named.

        Raises:
            LoginFailed: there is none, or its metadata is not sound.
        """
        resource = await self._resource(wanted.resource_metadata)
        named = ResourceMetadata(canonical_uri(self.url), (origin_issuer(self.url),)) if resource is None else resource
        chosen = next((one for one in (self.client.issuer, issuer) if one in named.issuers), named.issuers[0])
        server = await self._server(chosen)
        if server is None:
            if resource is not None:
                said = "the authorization server has no metadata at any of its well-known addresses"
                raise LoginFailed(said, step="server metadata", address=shown(chosen))
            # 2025-03-26 basic/authorization, 2.3.3: "Clients MUST fall back to using the default endpoint paths".
            server = default_server(self.url)
        return Discovered(named, server)

    async def _resource(self, named: str | None) -> ResourceMetadata | None:
        """The metadata of the MCP server; None where it has none."""
        step = "resource metadata"
        for address in ([named] if named is not None else []) + resource_addresses(self.url):
            answer = await self.fetcher.get(address, step)
            if answer.status == 200 and answer.document is not None:
                with _failing(step, address):
                    return read_resource(answer.document, self.url)
            _check_trouble(answer, step, address)
        return None

    async def _server(self, issuer: str) -> ServerMetadata | None:
        """The metadata of an authorization server; None where it has none at all."""
        first: LoginFailed | None = None
        with _failing("server metadata", issuer):
            checked_address(issuer, self.url)
        for address in server_addresses(issuer):
            found = await self._server_at(address, issuer)
            if isinstance(found, ServerMetadata):
                return found
            # Another of the addresses may be the right one: each document is checked by itself.
            first = first or found
        if first is not None:
            raise again(first)
        return None

    async def _server_at(self, address: str, issuer: str) -> ServerMetadata | LoginFailed | None:
        """The metadata at one address, why there is none that can be used, or None for an address without any."""
        step = "server metadata"
        try:
            answer = await self.fetcher.get(address, step)
            if answer.status == 200 and answer.document is not None:
                with _failing(step, address):
                    return read_server(answer.document, issuer, self.url)
            _check_trouble(answer, step, address)
        except LoginFailed as error:
            return again(error)
        return None

    def chosen_scopes(
        self, wanted: TokenWanted, found: Discovered, earlier: tuple[str, ...], *, refreshable: bool
    ) -> tuple[str, ...]:
        """The scopes to ask for; none leaves them to the server (basic/authorization, Scope Selection Strategy).

        Args:
            earlier: those that were asked for or granted before.
            refreshable: the token may be refreshed.
        """
        if self.scopes is not None:
            base = self.scopes + ((wanted.scopes or ()) if wanted.error == "insufficient_scope" else ())
        else:
            base = wanted.scopes or found.resource.scopes or ()
        # "SHOULD include these scopes alongside any previously granted scopes".
        scopes = tuple(dict.fromkeys((*earlier, *base)))
        # Alone it would narrow a request that names no scope, and leaves them to the server, to nothing.
        if refreshable and scopes and OFFLINE in found.server.scopes and OFFLINE not in scopes:
            scopes += (OFFLINE,)
        return scopes

    # --- a login --------------------------------------------------------------------------------------------

    async def by_person(
        self, found: Discovered, scopes: tuple[str, ...], stored: Login | None, redirect: Redirect
    ) -> Login:
        """Has a person log in, and gives the tokens.

        Raises:
            LoginFailed: the person or the authorization server refused, or an answer is not sound.
        """
        server, step = found.server, "authorization"
        mine = stored is not None and stored.issuer == server.issuer
        try:
            uri = await redirect.start(stored.client.redirect_uris if mine and stored is not None else ())
            client = await self._client(found, scopes, stored, uri)
            with _failing(step, server.authorization_endpoint or server.issuer):
                asked = authorization_request(server, client.client_id, uri, found.resource.resource, scopes)
                answer = await redirect.authorize(asked.url)
                code = code_in(answer, asked, server)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_REDIRECT):
                await redirect.aclose()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": uri,
            "code_verifier": asked.verifier,
        }
        return await self._obtained(found, client, form, scopes)

    async def by_grant(self, found: Discovered, scopes: tuple[str, ...], stored: Login | None, grant: Grant) -> Login:
        """Gets a token without a person.  Raises LoginFailed."""
        with _failing("registration", found.server.issuer):
            client = known_client(self.client, found.server, stored, None, self.clock())
            if client is None:
                raise ValueError("a grant without a person needs a client that is registered there (client_id=...)")
        need = TokenNeed(found.server.issuer, found.resource.resource, " ".join(scopes) or None)
        form = dict(await grant.fields(need, self.fetcher))
        if scopes:
            form.setdefault("scope", " ".join(scopes))
        return await self._obtained(found, client, form, scopes)

    async def _client(self, found: Discovered, scopes: tuple[str, ...], stored: Login | None, uri: str) -> Registration:
        server, step = found.server, "registration"
        with _failing(step, server.issuer):
            client = known_client(self.client, server, stored, uri, self.clock())
        if client is not None:
            return client
        assert server.registration_endpoint is not None
        # All that may be asked for later: some servers grant no scope that was not registered.
        able = tuple(dict.fromkeys((*scopes, *(found.resource.scopes or ()), *server.scopes)))[:MAX_NAMES]
        # npm's oidc-provider refuses a registration with scopes that its metadata does not have, such as those of a
        # resource.  Without any a server decides by itself (RFC 7591, 2).
        if server.scopes and not set(able) <= set(server.scopes):
            able = ()
        asked = registration_request(self.client, server, uri, able)
        answer = await self.fetcher.post_json(server.registration_endpoint, asked, step)
        with _failing(step, server.registration_endpoint):
            return read_registration(_success(answer), asked)

    async def _obtained(
        self, found: Discovered, client: Registration, form: dict[str, str], scopes: tuple[str, ...]
    ) -> Login:
        server = found.server
        with _failing("token", server.issuer):
            if server.token_endpoint is None:
                raise ValueError("its metadata has no token_endpoint")
            method = auth_method(client, server.auth_methods, has_key=self.key is not None)
            bound = self.proofs and PROOF_ALGORITHM in server.proof_algorithms
            proof_key = ProofKey(clock=self.clock).text if bound else None
        client = replace(client, auth_method=method)
        login = Login(found.resource.resource, server.issuer, client, None, server.token_endpoint, proof_key=proof_key)
        with _failing("token", server.token_endpoint):
            tokens, subject = await self._tokens(login, form, " ".join(scopes) or None, "token", None)
        return replace(login, tokens=tokens, subject=subject)

    # --- tokens ---------------------------------------------------------------------------------------------

    async def refreshed(self, login: Login) -> Login:
        """The login with new tokens (RFC 6749, 6), and with the old refresh token where no new one came.

        Raises:
            TokenRefused: the authorization server refuses the refresh token; its `code` says why.
            LoginFailed: there was no answer, or none that is sound.
        """
        old = login.tokens
        assert old is not None and old.refresh_token is not None
        form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token}
        assert login.token_endpoint is not None
        try:
            tokens, _ = await self._tokens(login, form, old.scope, "refresh", old.refresh_token)
        except (ValueError, ImportError) as error:
            raise LoginFailed(str(error), step="refresh", address=shown(login.token_endpoint)) from None
        return replace(login, tokens=tokens)

    async def _tokens(
        self, login: Login, form: dict[str, str], scope: str | None, step: str, kept: str | None
    ) -> tuple[Tokens, str | None]:
        assert login.token_endpoint is not None
        now = self.clock()
        headers, fields = self._proof(login)
        sent = {**form, "resource": login.resource, **fields}
        key = None if login.proof_key is None else ProofKey(login.proof_key, self.clock)
        answer = await self._asked_for_tokens(login.token_endpoint, sent, step, headers, key)
        # RFC 9449, 8: the server wants its nonce in the proof.  The code or token was not used up.
        nonce_wanted = answer.status == 400 and (answer.document or {}).get("error") == USE_NONCE
        if nonce_wanted and key is not None and key.heard(login.token_endpoint, answer.nonce):
            answer = await self._asked_for_tokens(login.token_endpoint, sent, step, headers, key)
        document = _success(answer, secrets_in(sent, login.client.client_secret))
        return read_tokens(document, now, scope, kept, proven=key is not None), subject_in(document)

    async def _asked_for_tokens(
        self, url: str, form: dict[str, str], step: str, headers: list[tuple[str, str]], key: ProofKey | None
    ) -> Fetched:
        proof = [] if key is None else [("DPoP", key.proof("POST", url))]
        return await self.fetcher.post_form(url, form, step, [*headers, *proof])

    async def end(self, login: Login) -> None:
        """Tells the authorization server that the tokens are not used any more (RFC 7009).  Raises LoginFailed."""
        server = await self._server(login.issuer)
        if server is None or server.revocation_endpoint is None or login.tokens is None:
            return
        with _failing("revocation", server.revocation_endpoint):
            headers, fields = self._proof(login)
        refused: TokenRefused | None = None
        # With the refresh token the server ends the access tokens that came of it (RFC 7009, 2.1).
        for kind in ("refresh_token", "access_token"):
            token = getattr(login.tokens, kind)
            if token is not None:
                form = {"token": token, "token_type_hint": kind, **fields}
                answer = await self.fetcher.post_form(server.revocation_endpoint, form, "revocation", headers)
                hidden = secrets_in(form, token, login.client.client_secret)
                refused = refused or refusal_in(answer.status, answer.document, hidden)
        if refused is not None:
            raise LoginFailed(str(refused), step="revocation", address=shown(server.revocation_endpoint))

    def _proof(self, login: Login) -> tuple[list[tuple[str, str]], dict[str, str]]:
        client = login.client
        method = client.auth_method or auth_method(client, None, has_key=self.key is not None)
        assertion = None
        if method == "private_key_jwt":
            if self.key is None:
                raise ValueError("the client is to sign an assertion, and has no private key")
            assertion = self.key.assertion(client.client_id, login.issuer, self.clock)
        return client_proof(client, method, assertion)


def _check_trouble(answer: Fetched, step: str, address: str) -> None:
    """Raises LoginFailed for a status of trouble: the same address may have a document later."""
    if answer.status >= 500 or answer.status == 429:
        raise LoginFailed(f"status {answer.status}", step=step, address=shown(address))


def _success(answer: Fetched, hidden: Collection[str] = ()) -> Mapping[str, Any]:
    """The document of a success.  Raises TokenRefused, or ValueError for a success without a JSON object.

    Args:
        hidden: secrets of the request, which the error does not quote.
    """
    refused = refusal_in(answer.status, answer.document, hidden)
    if refused is not None:
        raise refused
    if answer.document is None:
        raise ValueError("its answer is no JSON object")
    return answer.document


@contextmanager
def _failing(step: str, address: str) -> Iterator[None]:
    """Turns a ValueError or a refusal within it into a LoginFailed that names the step and the address."""
    try:
        yield
    except (ValueError, TokenRefused, ImportError) as error:
        raise LoginFailed(str(error), step=step, address=shown(address)) from None
