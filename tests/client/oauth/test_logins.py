# SPDX-License-Identifier: MIT
"""Logins on the wire: what the two servers hear, and which token a request carries."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import anyio
import pytest
from oauth_parties import REDIRECT_URI, RESOURCE_PATH, SERVER_PATH, World, parties, played, said

from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient
from mcp_h11.client.oauth.keeper import MAX_STEP_UPS, MAX_VAIN_LOGINS
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.store import Login, MemoryTokenStore, Registration, Tokens


@played
async def test_a_refused_request_is_sent_again_after_one_login(world: World) -> None:
    assert await world.call(world.oauth()) == (200, "access-1")
    assert world.mcp.paths() == ["/mcp", RESOURCE_PATH, "/mcp"]
    assert world.server.paths() == [SERVER_PATH, "/register", "/token"]
    (asked,) = world.person.asked
    assert {name: asked[name] for name in asked if name not in ("state", "code_challenge")} == {
        "tenant": "1",
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": REDIRECT_URI,
        "code_challenge_method": "S256",
        "resource": world.url,
    }
    assert len(asked["state"]) >= 32
    registered = json.loads(world.server.to("/register")[0].body)
    assert registered == {
        "client_name": "mcp_h11",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    form = world.server.to("/token")[0].form
    assert len(form.pop("code_verifier")) >= 43
    assert form == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": REDIRECT_URI,
        "client_id": "client-1",
        "resource": world.url,
    }
    assert world.person.closed == 1
    # No request but those to the MCP server itself carries the token.
    others = [*world.server.requests, *world.mcp.to(RESOURCE_PATH)]
    assert not [one for one in others if "authorization" in one.headers]


@played
async def test_a_client_that_knows_the_token_sends_it_at_once(world: World) -> None:
    store = MemoryTokenStore()
    assert await world.call(world.oauth(store=store)) == (200, "access-1")
    login = await store.load(world.url)
    assert login is not None and login.tokens is not None
    assert (login.resource, login.issuer, login.client.client_id) == (world.url, world.server.url, "client-1")
    assert (login.tokens.access_token, login.tokens.refresh_token) == ("access-1", "refresh-1")
    world.mcp.requests.clear()
    # As after a restart of the process.
    assert await world.call(world.oauth(store=store)) == (200, "access-1")
    assert world.mcp.paths() == ["/mcp"]


@played
async def test_a_registration_is_used_again_where_its_address_is_the_same(world: World) -> None:
    store = MemoryTokenStore()
    world.server.refreshable = False
    await world.call(world.oauth(store=store))
    world.mcp.accepts = lambda token: token == "access-2"
    assert await world.call(world.oauth(store=store)) == (200, "access-2")
    assert len(world.server.to("/register")) == 1
    assert world.person.known == [(), (REDIRECT_URI,)]
    world.person.uri = "http://127.0.0.1:7778/callback"
    world.mcp.accepts = lambda token: token == "access-3"
    assert await world.call(world.oauth(store=store)) == (200, "access-3")
    assert len(world.server.to("/register")) == 2


@played
async def test_twenty_requests_wait_for_one_login(world: World) -> None:
    auth = world.oauth()
    world.person.gate = anyio.Event()
    statuses = await world.calls(auth, 20, lambda: len(world.mcp.to("/mcp")) >= 20, world.person.gate)
    assert statuses == [(200, "access-1")] * 20
    assert len(world.person.asked) == 1 and len(world.server.to("/token")) == 1


@played
async def test_a_client_that_the_server_has_forgotten_is_registered_anew(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    now += 4000
    world.server.routes["/token"] = lambda heard: (
        said(401, {"error": "invalid_client"})
        if heard.form["grant_type"] == "refresh_token"
        else world.server.token(heard)
    )
    assert await world.call(auth) == (200, "access-2")
    assert len(world.server.to("/register")) == 2


@played
async def test_tokens_that_another_process_has_stored_are_taken(world: World) -> None:
    store = MemoryTokenStore()
    auth = world.oauth(store=store)
    await world.call(auth)
    login = await store.load(world.url)
    assert login is not None
    await store.save(world.url, replace(login, tokens=Tokens("from-elsewhere")))
    world.mcp.accepts = lambda token: token == "from-elsewhere"
    assert await world.call(auth) == (200, "from-elsewhere")
    assert len(world.person.asked) == 1 and len(world.server.to("/token")) == 1


@played
async def test_a_running_client_finds_a_login_of_another_process(world: World) -> None:
    store = MemoryTokenStore()
    silent = OAuth(store=store)
    assert (await world.call(silent))[0] == 401
    await world.oauth(store=store).login(world.url)
    assert await world.call(silent) == (200, "access-1")


@played
async def test_more_scopes_are_asked_for_with_those_that_were_there(world: World) -> None:
    world.mcp.challenge += ', scope="read"'
    auth = world.oauth()
    await world.call(auth)
    world.mcp.needs = "write admin"
    world.person.opened = lambda: setattr(world.mcp, "needs", None)
    assert await world.call(auth) == (200, "access-2")
    assert [one["scope"] for one in world.person.asked] == ["read", "read write admin"]
    # A step-up is a new authorization: a refresh cannot add scopes (RFC 6749, 6).
    assert [one.form["grant_type"] for one in world.server.to("/token")] == ["authorization_code"] * 2


@played
async def test_the_scopes_of_the_user_come_before_those_of_the_server(world: World) -> None:
    world.mcp.challenge += ', scope="everything"'
    auth = world.oauth(scopes=["read"])
    await world.call(auth)
    world.mcp.needs = "write"
    world.person.opened = lambda: setattr(world.mcp, "needs", None)
    await world.call(auth)
    assert [one["scope"] for one in world.person.asked] == ["read", "read write"]


@played
async def test_offline_access_is_asked_for_where_the_authorization_server_has_it(world: World) -> None:
    world.server.metadata = {"scopes_supported": ["read", "offline_access"]}
    await world.call(world.oauth())
    world.mcp.metadata = {"scopes_supported": ["read"]}
    await world.oauth().login(world.url)
    # Alone it would take the place of the scopes that the server chooses itself.
    assert "scope" not in world.person.asked[0]
    assert (world.person.asked[1]["scope"], world.person.asked[1]["prompt"]) == ("read offline_access", "consent")
    # The registration has all that may be asked for.
    assert json.loads(world.server.to("/register")[0].body)["scope"] == "read offline_access"


@played
async def test_scopes_that_were_asked_for_in_vain_are_not_asked_for_again(world: World) -> None:
    auth = world.oauth()
    await world.call(auth)
    world.mcp.needs = "admin"
    assert (await world.call(auth))[0] == 403
    assert (await world.call(auth))[0] == 403
    assert len(world.person.asked) == 2


@played
async def test_a_server_that_always_needs_another_scope_is_followed_a_few_times(world: World) -> None:
    auth = world.oauth()
    await world.call(auth)
    for number in range(MAX_STEP_UPS + 2):
        world.mcp.needs = f"scope-{number}"
        assert (await world.call(auth))[0] == 403
    assert len(world.person.asked) == 1 + MAX_STEP_UPS
    # An accepted request shows that the scopes were worth asking for.
    world.mcp.needs = None
    assert (await world.call(auth))[0] == 200
    world.mcp.needs = "one-more"
    await world.call(auth)
    assert len(world.person.asked) == 2 + MAX_STEP_UPS


@played
async def test_a_server_that_refuses_each_token_does_not_ask_a_person_for_ever(world: World) -> None:
    auth = world.oauth()
    world.server.refreshable = False
    world.mcp.accepts = lambda token: False
    for _ in range(MAX_VAIN_LOGINS + 2):
        assert (await world.call(auth))[0] == 401
    assert len(world.person.asked) == MAX_VAIN_LOGINS
    # A login that the user asks for comes in any case, and its success ends the count.
    world.mcp.accepts = lambda token: True
    await auth.login(world.url)
    assert (await world.call(auth))[0] == 200
    world.mcp.accepts = lambda token: False
    await world.call(auth)
    assert len(world.person.asked) == MAX_VAIN_LOGINS + 2


@pytest.mark.parametrize("challenge", ["", 'error="insufficient_scope"', 'error="invalid_token", scope="a"'])
def test_a_403_that_names_no_missing_scope_is_handed_on(challenge: str) -> None:
    async def test(world: World) -> None:
        auth = world.oauth()
        await world.call(auth)
        world.mcp.routes["/mcp"] = lambda heard: said(403, {}, f"WWW-Authenticate: Bearer {challenge}")
        assert (await world.call(auth))[0] == 403
        assert len(world.person.asked) == 1

    played(test)()


@played
async def test_another_authorization_server_gets_a_registration_of_its_own(world: World) -> None:
    store = MemoryTokenStore()
    await world.call(world.oauth(store=store))
    async with parties() as other:
        other.server.registration = {"client_id": "client-2"}
        world.mcp.server = other.server
        world.person.server = other.server
        other.server.issued = 10
        assert await world.call(world.oauth(store=store)) == (200, "access-11")
        assert len(other.server.to("/register")) == 1
        seen = [one.body + one.target.encode() for one in other.server.requests]
        assert not any(b"client-1" in one or b"refresh-1" in one or b"access-1&" in one for one in seen)
        login = await store.load(world.url)
        assert login is not None and login.issuer == other.server.url and login.client.client_id == "client-2"


@played
async def test_nothing_is_asked_of_a_person_at_the_end_of_a_session(world: World) -> None:
    assert (await world.call(world.oauth(), "DELETE"))[0] == 401
    assert world.person.asked == []


@played
async def test_no_token_follows_a_request_to_another_origin(world: World) -> None:
    auth = world.oauth()
    await world.call(auth)
    async with HTTPClient(middleware=[auth.middleware(world.url)]) as http:
        answer = await http.send(HTTPCall("GET", f"{world.server.url}/elsewhere"))
        await answer.aclose()
    assert "authorization" not in world.server.to("/elsewhere")[0].headers


@played
async def test_logout_revokes_both_tokens_and_forgets_them(world: World) -> None:
    store = MemoryTokenStore()
    auth = world.oauth(store=store)
    await world.call(auth)
    assert await auth.logout(world.url) is True
    assert [one.form for one in world.server.to("/revoke")] == [
        {"token": "refresh-1", "token_type_hint": "refresh_token", "client_id": "client-1"},
        {"token": "access-1", "token_type_hint": "access_token", "client_id": "client-1"},
    ]
    assert await store.load(world.url) is None
    assert await auth.logout(world.url) is False


@played
async def test_logout_forgets_where_the_authorization_server_is_away(world: World) -> None:
    store = MemoryTokenStore()
    auth = world.oauth(store=store)
    gone = Login(world.url, "http://127.0.0.1:9", Registration("c"), Tokens("t"))
    await store.save(world.url, gone)
    assert await auth.logout(world.url) is True
    assert await store.load(world.url) is None


def test_logout_says_in_the_log_that_the_tokens_were_not_revoked(caplog: pytest.LogCaptureFixture) -> None:
    @played
    async def test(world: World) -> None:
        auth = world.oauth()
        await world.call(auth)
        world.server.routes["/revoke"] = lambda heard: said(
            400, {"error": "invalid_request", "error_description": f"no {heard.form['token']}"}
        )
        assert await auth.logout(world.url) is True
        assert len(world.server.to("/revoke")) == 2

    test()
    assert "was not told of the logout" in caplog.text and "invalid_request: no " in caplog.text
    assert "access-1" not in caplog.text and "refresh-1" not in caplog.text


@played
async def test_a_login_that_was_asked_for_replaces_the_tokens_that_are_there(world: World) -> None:
    store = MemoryTokenStore()
    auth = world.oauth(store=store)
    await world.call(auth)
    login = await auth.login(world.url)
    assert login.tokens is not None and login.tokens.access_token == "access-2"
    assert await store.load(world.url) == login
    assert await world.call(auth) == (200, "access-2")


@played
async def test_the_person_in_an_id_token_is_kept_for_people_to_read(world: World) -> None:
    claims = "eyJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSIsInN1YiI6IjEifQ"  # {"email":"ann@example.com","sub":"1"}
    answer = {"access_token": "t", "token_type": "Bearer", "id_token": f"e30.{claims}.sig"}
    world.server.routes["/token"] = lambda heard: said(200, answer)
    assert (await world.oauth().login(world.url)).subject == "ann@example.com"


@played
async def test_no_secret_is_logged(world: World) -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger, handler = logging.getLogger("mcp_h11"), Keep(level=0)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(0 or 1)
    try:
        now = 1000.0
        auth = world.oauth(clock=lambda: now)
        await world.call(auth)
        now += 4000
        world.server.refresh_token = "revoked"
        await world.call(auth)
        await auth.logout(world.url)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert seen and not [line for line in seen if "access-" in line or "refresh-" in line or "the-code" in line]


@pytest.mark.parametrize(
    ("known", "registered"),
    [
        (None, "files:read"),
        (["files:read", "other"], "files:read other"),
        # npm's oidc-provider refuses a registration with scopes of a resource, which its metadata does not have.
        (["openid"], None),
    ],
)
def test_a_registration_has_no_scopes_that_the_server_does_not_know(
    known: list[str] | None, registered: str | None
) -> None:
    @played
    async def test(world: World) -> None:
        world.mcp.metadata["scopes_supported"] = ["files:read"]
        world.server.metadata["scopes_supported"] = known
        assert await world.call(world.oauth()) == (200, "access-1")
        assert json.loads(world.server.to("/register")[0].body).get("scope") == registered
        assert world.person.asked[0]["scope"] == "files:read"

    test()
