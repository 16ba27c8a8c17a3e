# SPDX-License-Identifier: MIT
"""Tokens without a person: the client's own credentials, an assertion, the identity of an enterprise."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from oauth_parties import SERVER_PATH, Heard, Party, World, played, said

from mcp_h11.client.oauth.grants import ID_JAG, MAX_ASSERTION, ClientCredentials, EnterpriseIdentity, JWTBearer
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.signing import ASSERTION_LIFE, SigningKey
from mcp_h11.client.oauth.store import Login, MemoryTokenStore, Registration, Tokens
from mcp_h11.client.transports.errors import LoginFailed

CREDENTIALS = {"client_id": "robot:1", "client_secret": "s3 cret"}


@played
async def test_a_secret_is_shown_by_http_basic_and_nobody_is_asked(world: World) -> None:
    world.mcp.challenge += ', scope="a b"'
    auth = world.oauth(grant=ClientCredentials(), **CREDENTIALS)
    assert await world.call(auth) == (200, "access-1")
    assert world.server.paths() == [SERVER_PATH, "/token"]
    (asked,) = world.server.to("/token")
    assert world.basic(asked) == ("robot:1", "s3+cret")
    assert asked.form == {
        "grant_type": "client_credentials", "scope": "a b", "resource": world.url, "client_id": "robot:1",
    }  # fmt: skip


@played
async def test_a_secret_is_in_the_form_where_the_server_wants_it_there(world: World) -> None:
    world.server.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await world.call(world.oauth(grant=ClientCredentials(), **CREDENTIALS))
    form = world.server.to("/token")[0].form
    assert (form["client_id"], form["client_secret"]) == ("robot:1", "s3 cret")


@played
async def test_a_token_that_has_ended_is_asked_for_again(world: World) -> None:
    now = 1000.0
    world.server.refreshable = False
    auth = world.oauth(grant=ClientCredentials(), clock=lambda: now, **CREDENTIALS)
    await world.call(auth)
    now += 4000
    assert await world.call(auth) == (200, "access-2")
    assert "authorization" not in world.mcp.to("/mcp")[-2].headers  # the one that had ended was not sent


def pem(key: Any) -> str:
    return str(key.as_pem(private=True).decode())


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
def test_a_private_key_signs_an_assertion_for_the_issuer(algorithm: str) -> None:
    key: Any = ECKey.generate_key("P-256") if algorithm == "ES256" else RSAKey.generate_key(2048)

    @played
    async def test(world: World) -> None:
        world.server.metadata = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
        auth = world.oauth(
            grant=ClientCredentials(), client_id="robot", private_key=pem(key), signing_algorithm=algorithm,
            key_id="k1", clock=lambda: 5000.0,
        )  # fmt: skip
        assert await world.call(auth) == (200, "access-1")
        form = world.server.to("/token")[0].form
        token = jwt.decode(form["client_assertion"], key, algorithms=[algorithm])
        assert token.header["alg"] == algorithm and token.header["kid"] == "k1"
        assert len(token.claims.pop("jti")) >= 32
        assert token.claims == {
            "iss": "robot", "sub": "robot", "aud": world.server.url, "iat": 5000, "exp": 5000 + ASSERTION_LIFE,
        }  # fmt: skip

    test()


@played
async def test_a_key_that_cannot_be_read_is_not_quoted(world: World) -> None:
    world.server.metadata = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    with pytest.raises(LoginFailed, match="the private key cannot be read") as caught:
        await world.call(world.oauth(grant=ClientCredentials(), client_id="robot", private_key="-----BEGIN s3cret"))
    assert "s3cret" not in str(caught.value) + repr(SigningKey("s3cret")) and world.server.to("/token") == []
    with pytest.raises(ValueError, match="signed by one of"):
        SigningKey("pem", "HS256")


@played
async def test_an_assertion_of_another_party_is_a_grant(world: World) -> None:
    audiences: list[str] = []

    async def assertion(audience: str) -> str:
        audiences.append(audience)
        return "a.b.c"

    assert await world.call(world.oauth(grant=JWTBearer(assertion), client_id="load")) == (200, "access-1")
    assert audiences == [world.server.url]
    assert world.server.to("/token")[0].form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "a.b.c",
        "client_id": "load",
        "resource": world.url,
    }


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_scope", "unauthorized_client"])
def test_a_refused_assertion_is_not_sent_again(code: str) -> None:
    @played
    async def test(world: World) -> None:
        world.server.refusal = (400, {"error": code})
        with pytest.raises(LoginFailed, match=code):
            await world.call(world.oauth(grant=JWTBearer(lambda audience: "a.b.c"), client_id="load"))
        assert len(world.server.to("/token")) == 1

    test()


@pytest.mark.parametrize("given", ["", None, "é", "x" * (MAX_ASSERTION + 1)])
def test_what_is_no_assertion_is_not_sent(given: Any) -> None:
    @played
    async def test(world: World) -> None:
        with pytest.raises(LoginFailed, match="an assertion is a text"):
            await world.call(world.oauth(grant=JWTBearer(lambda audience: given), client_id="load"))
        assert world.server.to("/token") == []

    test()


@played
async def test_an_assertion_may_be_as_long_as_the_limit(world: World) -> None:
    auth = world.oauth(grant=JWTBearer(lambda audience: "x" * MAX_ASSERTION), client_id="load")
    assert (await world.call(auth))[0] == 200


def enterprise(provider: Party, **options: Any) -> EnterpriseIdentity:
    return EnterpriseIdentity(
        lambda: "id-token", token_endpoint=f"{provider.url}/token", client_id="at-the-provider", **options
    )


@played
async def test_the_identity_of_an_enterprise_is_exchanged_twice(world: World) -> None:
    provider = Party()
    async with anyio.create_task_group() as tasks:
        await provider.serve(tasks)
        provider.routes["/token"] = lambda heard: said(200, {"access_token": "the-jag", "issued_token_type": ID_JAG})
        auth = world.oauth(grant=enterprise(provider, client_secret="idp-s3cret"), **CREDENTIALS)
        assert await world.call(auth) == (200, "access-1")
        assert provider.to("/token")[0].form == {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": ID_JAG,
            "subject_token": "id-token",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "audience": world.server.url,
            "resource": world.url,
            "client_id": "at-the-provider",
            "client_secret": "idp-s3cret",
        }
        (asked,) = world.server.to("/token")
        assert world.basic(asked)[0] == "robot:1"
        assert asked.form["assertion"] == "the-jag" and "idp-s3cret" not in repr(auth) + asked.body.decode()
        assert "s3cret" not in repr(enterprise(provider, client_secret="idp-s3cret"))
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer, match",
    [
        ((400, {"error": "invalid_grant"}), "invalid_grant"),
        ((200, {"access_token": "t", "issued_token_type": "other"}), "no ID-JAG"),
        ((200, b"no"), "no ID-JAG"),
        ((200, {"issued_token_type": ID_JAG}), "an assertion is a text"),
    ],
)
def test_a_provider_that_gives_no_grant(answer: tuple[int, Any], match: str) -> None:
    @played
    async def test(world: World) -> None:
        provider = Party()
        async with anyio.create_task_group() as tasks:
            await provider.serve(tasks)

            def token(heard: Heard) -> bytes:
                return said(*answer)

            provider.routes["/token"] = token
            with pytest.raises(LoginFailed, match=match):
                await world.call(world.oauth(grant=enterprise(provider), **CREDENTIALS))
            assert world.server.to("/token") == []
            tasks.cancel_scope.cancel()

    test()


def test_grants_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="assertion is a function"):
        JWTBearer("a.b.c")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="id_token is a function"):
        EnterpriseIdentity("t", token_endpoint="https://idp.test/t", client_id="c")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not one of https"):
        EnterpriseIdentity(lambda: "t", token_endpoint="http://idp.test/t", client_id="c")
    with pytest.raises(ValueError, match="give client_id"):
        OAuth(grant=ClientCredentials())


@played
async def test_a_person_and_a_grant_exclude_each_other(world: World) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        OAuth(client_id="c", redirect=world.person, grant=ClientCredentials())


@played
async def test_a_grant_needs_a_client_that_the_server_knows(world: World) -> None:
    auth = world.oauth(grant=ClientCredentials(), client_metadata_url="https://me.test/client.json")
    with pytest.raises(LoginFailed, match="needs a client that is registered there"):
        await world.call(auth)
    world.server.metadata = {"client_id_metadata_document_supported": True, "token_endpoint": None}
    with pytest.raises(LoginFailed, match="no token_endpoint"):
        await world.call(auth)
    world.server.metadata = {"client_id_metadata_document_supported": True}
    assert (await world.call(auth))[0] == 200
    assert world.server.to("/token")[0].form["client_id"] == "https://me.test/client.json"


@played
async def test_a_stored_client_with_a_key_needs_the_key(world: World) -> None:
    store = MemoryTokenStore()
    client = Registration("robot", None, "given", "private_key_jwt")
    tokens = Tokens("old", "Bearer", "refresh-0", 1.0)
    await store.save(world.url, Login(world.url, world.server.url, client, tokens, f"{world.server.url}/token"))
    with pytest.raises(LoginFailed, match="has no private key"):
        await world.call(OAuth(store=store))
    assert world.server.to("/token") == []
