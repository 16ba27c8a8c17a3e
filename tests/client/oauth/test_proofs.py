# SPDX-License-Identifier: MIT
"""Tokens that are bound to a key of the client's (DPoP, RFC 9449): a proof for each request, and nonces."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from oauth_parties import Heard, World, played, said

from mcp_h11.client.oauth.grants import ClientCredentials
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.proofs import MAX_NONCE, ProofKey
from mcp_h11.client.oauth.store import Login, MemoryTokenStore
from mcp_h11.client.transports.errors import LoginFailed


def read(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The claims of a proof that its own key confirms, and that key."""
    key = jwt.decode(proof, ECKey.import_key(public_of(proof)), algorithms=["ES256"])
    assert key.header["typ"] == "dpop+jwt" and "d" not in key.header["jwk"]
    return key.claims, key.header["jwk"]


def public_of(proof: str) -> dict[str, Any]:
    head = proof.split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["jwk"]
    return found


def bound(world: World) -> None:
    """Both servers want proofs, and give tokens for them."""
    world.server.metadata = {"dpop_signing_alg_values_supported": ["RS256", "ES256"]}
    plain = world.server.token

    def token(heard: Heard) -> bytes:
        return plain(heard).replace(b'"bearer"', b'"DPoP"  ')

    def called(heard: Heard) -> bytes:
        kind, _, found = heard.headers.get("authorization", "").partition(" ")
        if kind != "DPoP" or not world.mcp.accepts(found):
            return said(401, {}, "WWW-Authenticate: DPoP algs=ES256")
        return said(200, {"token": found})

    world.server.routes["/token"] = token
    world.mcp.routes["/mcp"] = called


@played
async def test_each_request_has_a_proof_of_its_own(world: World) -> None:
    bound(world)
    auth = world.oauth(proofs=True, clock=lambda: 5000.0)
    for _ in range(2):
        assert await world.call(auth) == (200, "access-1")
    (asked,) = world.server.to("/token")
    claims, key = read(asked.headers["dpop"])
    first = claims.pop("jti")
    assert claims == {"htm": "POST", "htu": f"{world.server.url}/token", "iat": 5000}
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"access-1").digest()).rstrip(b"=").decode()
    seen = [read(one.headers["dpop"]) for one in world.mcp.to("/mcp")[1:]]
    assert len({first, *(claims.pop("jti") for claims, _ in seen)}) == 3
    for claims, same in seen:
        assert same == key
        assert claims == {"htm": "POST", "htu": world.url, "iat": 5000, "ath": digest}


@played
async def test_no_proof_is_repeated(world: World) -> None:
    bound(world)
    auth = world.oauth(proofs=True)
    for _ in range(3):
        await world.call(auth)
    proofs = [one.headers["dpop"] for one in world.mcp.to("/mcp")[1:]]
    assert len({read(one)[0]["jti"] for one in proofs}) == 3


@played
async def test_a_server_without_proofs_gets_a_bearer_token(world: World) -> None:
    for algorithms in (None, ["RS256"]):
        world.server.metadata = {"dpop_signing_alg_values_supported": algorithms}
        assert (await world.call(world.oauth(proofs=True)))[0] == 200
    assert not [one for one in [*world.server.requests, *world.mcp.requests] if "dpop" in one.headers]


@played
async def test_a_bearer_token_in_answer_to_a_proof_is_refused(world: World) -> None:
    world.server.metadata = {"dpop_signing_alg_values_supported": ["ES256"]}
    with pytest.raises(LoginFailed, match='bearer, and not "DPoP"'):
        await world.call(world.oauth(proofs=True))


@played
async def test_the_key_is_there_after_a_restart_and_at_a_refresh(world: World) -> None:
    bound(world)
    now, store = 1000.0, MemoryTokenStore()
    await world.call(world.oauth(proofs=True, store=store, clock=lambda: now))
    login = await store.load(world.url)
    assert login is not None and login.proof_key is not None
    assert login.proof_key not in repr(login) and Login.from_json(login.to_json()) == login
    now += 4000
    assert await world.call(OAuth(store=store, clock=lambda: now)) == (200, "access-2")
    keys = [read(one.headers["dpop"])[1] for one in world.server.to("/token")]
    assert keys[0] == keys[1] == read(world.mcp.to("/mcp")[-1].headers["dpop"])[1]
    await store.save(world.url, replace(login, proof_key='{"kty":"EC","d":"s3cret"}'))
    with pytest.raises(LoginFailed, match="the stored key for proofs is none") as caught:
        await world.call(OAuth(store=store))
    assert "s3cret" not in str(caught.value)


@played
async def test_a_nonce_that_a_server_wants_is_in_the_next_proof(world: World) -> None:
    bound(world)
    nonces = {"/token": "nonce-of-as", "/mcp": "nonce-1"}

    def wanting(path: str, plain: Any, refusal: bytes) -> Any:
        def route(heard: Heard) -> bytes:
            proof = heard.headers.get("dpop")
            if proof is not None and read(proof)[0].get("nonce") != nonces[path]:
                return refusal.replace(b"\r\n\r\n", f"\r\nDPoP-Nonce: {nonces[path]}\r\n\r\n".encode(), 1)
            return bytes(plain(heard))

        return route

    refused = said(400, {"error": "use_dpop_nonce"})
    world.server.routes["/token"] = wanting("/token", world.server.routes["/token"], refused)
    refused = said(401, {}, 'WWW-Authenticate: DPoP error="use_dpop_nonce"')
    world.mcp.routes["/mcp"] = wanting("/mcp", world.mcp.routes["/mcp"], refused)
    auth = world.oauth(proofs=True)
    assert await world.call(auth) == (200, "access-1")
    assert len(world.server.to("/token")) == 2 and len(world.mcp.to("/mcp")) == 3
    # The nonce is kept: no refusal before the next request.
    assert await world.call(auth) == (200, "access-1")
    assert len(world.mcp.to("/mcp")) == 4
    nonces["/mcp"] = "nonce-2"
    assert await world.call(auth) == (200, "access-1")
    assert len(world.mcp.to("/mcp")) == 6 and len(world.person.asked) == 1


@played
async def test_a_token_endpoint_that_always_wants_another_nonce_is_asked_twice(world: World) -> None:
    bound(world)
    heard: list[Heard] = []

    def route(one: Heard) -> bytes:
        heard.append(one)
        return said(400, {"error": "use_dpop_nonce"}, f"DPoP-Nonce: nonce-{len(heard)}")

    world.server.routes["/token"] = route
    with pytest.raises(LoginFailed, match="use_dpop_nonce"):
        await world.call(world.oauth(proofs=True))
    assert [read(one.headers["dpop"])[0].get("nonce") for one in heard] == [None, "nonce-1"]


def test_a_nonce_is_kept_for_its_origin() -> None:
    key = ProofKey()
    assert key.heard("https://a.test/x", "n" * MAX_NONCE) and not key.heard("https://a.test/y?z", "n" * MAX_NONCE)
    for odd in (None, "", "n" * (MAX_NONCE + 1), "é", "a\x00"):
        assert not key.heard("https://b.test/", odd)
    claims, _ = read(key.proof("GET", "https://A.test/deep?query=1#f"))
    assert (claims["nonce"], claims["htu"]) == ("n" * MAX_NONCE, "https://A.test/deep")
    assert "nonce" not in read(key.proof("GET", "https://b.test/"))[0]
    assert ProofKey(key.text).text == key.text
    for text in ("", "[]", "{}", '{"kty":"oct","k":"abcd"}', "no"):
        with pytest.raises(ValueError, match="is none"):
            ProofKey(text)


@played
async def test_what_needs_joserfc_says_so_where_it_is_not_there(world: World) -> None:
    bound(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "joserfc", None)
        with pytest.raises(LoginFailed, match=r"pip install 'mcp_h11\[oauth\]'"):
            await world.call(world.oauth(proofs=True))
        world.server.metadata = {}
        with pytest.raises(LoginFailed, match=r"pip install 'mcp_h11\[oauth\]'"):
            await world.call(world.oauth(client_id="robot", private_key="pem", grant=ClientCredentials()))
    assert world.server.to("/token") == []
