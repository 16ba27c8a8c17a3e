# SPDX-License-Identifier: MIT
"""Logins that fail: metadata that lies, answers that are not sound, servers that are slow.  The error says where."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from oauth_parties import RESOURCE_PATH, SERVER_PATH, AuthServer, Person, World, parties, played, said
from serving import served

from mcp_h11.client.client import Client
from mcp_h11.client.http.httpclient import HTTPClient
from mcp_h11.client.http.wire import ConnectError
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.fetching import FETCH_LIMIT, MAX_DOCUMENT, MAX_FETCH_REDIRECTS, Fetcher, look_up
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.redirect import AuthorizationResponse
from mcp_h11.client.oauth.store import MemoryTokenStore
from mcp_h11.client.transports.errors import LoginFailed

OPENID = "/.well-known/openid-configuration"


async def failed(world: World, **options: Any) -> LoginFailed:
    """The error of a request whose login fails; no second request was sent, and no token anywhere."""
    before = len(world.mcp.to("/mcp"))
    with pytest.raises(LoginFailed) as caught:
        await world.call(world.oauth(**options))
    assert len(world.mcp.to("/mcp")) == before + 1
    assert not [one for one in world.server.requests if "authorization" in one.headers]
    return caught.value


# --- metadata ---------------------------------------------------------------------------------------------------------


@played
async def test_metadata_for_another_resource_ends_the_login_before_the_authorization_server_is_asked(
    world: World,
) -> None:
    world.mcp.metadata = {"resource": "https://evil.example/mcp"}
    error = await failed(world)
    assert (error.step, error.address) == ("resource metadata", f"{world.mcp.url}{RESOURCE_PATH}")
    assert "for another resource: it names https://evil.example/mcp" in str(error)
    assert world.server.requests == []


@played
async def test_metadata_of_another_issuer_is_not_used(world: World) -> None:
    world.server.metadata = {"issuer": "https://honest.example"}
    error = await failed(world)
    assert (error.step, error.address) == ("server metadata", f"{world.server.url}{SERVER_PATH}")
    assert world.server.paths() == [SERVER_PATH, OPENID] and world.person.asked == []


@pytest.mark.parametrize("issuer", ["http://as.example", "ftp://127.0.0.1", "https://a@as.example"])
def test_an_issuer_that_no_request_may_go_to(issuer: str) -> None:
    @played
    async def test(world: World) -> None:
        world.mcp.metadata = {"authorization_servers": [issuer]}
        assert (await failed(world)).step == "server metadata"
        assert world.server.requests == []

    test()


@played
async def test_an_endpoint_without_https_on_another_machine_is_not_used(world: World) -> None:
    world.server.metadata = {"token_endpoint": "http://as.example/token"}
    error = await failed(world)
    assert error.step == "server metadata" and "token_endpoint: the address is not one of https" in str(error)
    assert world.person.asked == []


@played
async def test_a_document_may_be_as_large_as_the_limit_and_no_larger(world: World) -> None:
    def padded(size: int) -> bytes:
        text = json.dumps(world.server.document())
        return said(200, text.encode() + b" " * (size - len(text)))

    world.server.routes[SERVER_PATH] = lambda heard: padded(MAX_DOCUMENT)
    assert (await world.call(world.oauth()))[0] == 200
    world.server.routes[SERVER_PATH] = lambda heard: padded(MAX_DOCUMENT + 1)
    error = await failed(world)
    assert error.step == "server metadata" and f"more than {MAX_DOCUMENT} bytes" in str(error)


@played
async def test_a_server_that_does_not_answer_ends_the_login_after_a_while(world: World) -> None:
    world.server.gate = anyio.Event()
    async with HTTPClient() as http:
        assert Fetcher(http, world.url)._limit == FETCH_LIMIT
        with pytest.raises(LoginFailed, match=r"no answer within 0\.05 s") as caught:
            await Fetcher(http, world.url, limit=0.05).get(f"{world.server.url}{SERVER_PATH}", "server metadata")
    assert (caught.value.step, caught.value.address) == ("server metadata", f"{world.server.url}{SERVER_PATH}")


@played
async def test_a_server_that_is_away_is_named(world: World) -> None:
    world.mcp.metadata = {"authorization_servers": ["http://127.0.0.1:9"]}
    error = await failed(world)
    assert (error.step, error.address) == ("server metadata", f"http://127.0.0.1:9{SERVER_PATH}")
    assert "connection refused" in str(error)


@played
async def test_a_redirect_within_the_origin_is_followed_a_few_times(world: World) -> None:
    hops = MAX_FETCH_REDIRECTS

    def hop(heard: Any) -> bytes:
        number = int(heard.path[1:]) if heard.path[1:].isdigit() else 0
        return said(200, world.server.document()) if number == hops else said(302, None, f"Location: /{number + 1}")

    for path in (SERVER_PATH, *(f"/{number}" for number in range(1, MAX_FETCH_REDIRECTS + 3))):
        world.server.routes[path] = hop
    assert (await world.call(world.oauth()))[0] == 200
    hops += 1
    assert f"more than {MAX_FETCH_REDIRECTS} redirects" in str(await failed(world))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_not_followed(status: int) -> None:
    @played
    async def test(world: World) -> None:
        async with parties() as other:
            there = f"Location: {other.server.url}{SERVER_PATH}"
            world.server.routes[SERVER_PATH] = lambda heard: said(status, None, there)
            assert "no metadata at any of its well-known addresses" in str(await failed(world))
            # A form with the code does not follow either.
            world.server.routes[SERVER_PATH] = lambda heard: said(200, world.server.document())
            world.server.routes["/token"] = lambda heard: said(status, None, f"Location: {other.server.url}/token")
            error = await failed(world)
            assert (error.step, error.address) == ("token", f"{world.server.url}/token")
            assert f"status {status}" in str(error)
            assert other.server.requests == []

    test()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b"[" * 100_000, b""])
def test_what_is_no_document_is_no_metadata(body: bytes) -> None:
    @played
    async def test(world: World) -> None:
        world.server.routes[SERVER_PATH] = lambda heard: said(200, body)
        assert "no metadata at any" in str(await failed(world))
        # The next address may have it.
        world.server.routes[OPENID] = lambda heard: said(200, world.server.document())
        assert (await world.call(world.oauth()))[0] == 200

    test()


@played
async def test_a_resource_server_in_trouble_is_not_taken_for_one_without_metadata(world: World) -> None:
    world.mcp.routes[RESOURCE_PATH] = lambda heard: said(503)
    error = await failed(world)
    assert (error.step, error.address) == ("resource metadata", f"{world.mcp.url}{RESOURCE_PATH}")
    assert world.server.requests == []


@played
async def test_a_server_without_metadata_is_its_own_authorization_server(world: World) -> None:
    """2025-03-26 basic/authorization, 2.3.3."""
    world.mcp.routes = {"/mcp": world.mcp.called, "/token": world.server.token}
    world.mcp.routes["/register"] = world.server.routes["/register"]
    world.mcp.challenge = "Bearer"
    world.person.change = lambda answer: AuthorizationResponse(answer.code, answer.state)
    assert await world.call(world.oauth()) == (200, "access-1")
    assert world.mcp.paths() == [
        "/mcp", RESOURCE_PATH, "/.well-known/oauth-protected-resource", SERVER_PATH, OPENID, "/register", "/token",
        "/mcp",
    ]  # fmt: skip
    assert world.mcp.to("/token")[0].form["resource"] == world.url
    assert world.server.requests == []


# --- private addresses ------------------------------------------------------------------------------------------------


class Nowhere:
    """An HTTP client that says where it would have gone."""

    async def send(self, call: Any) -> Any:
        raise ConnectError(f"went to {call.url}")


async def fetched(url: str, server: str, addresses: dict[str, Sequence[str]], **options: Any) -> str:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return addresses.get(host, ())

    with pytest.raises(LoginFailed) as caught:
        await Fetcher(Nowhere(), server, lookup=lookup, **options).get(url, "server metadata")  # type: ignore[arg-type]
    return str(caught.value)


PUBLIC = {"mcp.test": ["93.184.216.34"], "as.test": ["2606:2800:220:1::1"]}


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "127.0.0.1", "fc00::1",
        "fe80::1%eth0", "::1", "::ffff:10.0.0.1", "224.0.0.1",
    ],
)  # fmt: skip
def test_a_public_server_reaches_no_private_address(address: str) -> None:
    async def main() -> None:
        both = {**PUBLIC, "as.test": ["93.184.216.34", address]}
        assert "names a private address" in await fetched("https://as.test/x", "https://mcp.test/mcp", both)
        host = f"[{address}]" if ":" in address else address
        said = await fetched(f"https://{host}/x", "https://mcp.test/mcp", PUBLIC)
        assert "names a private address" in said or "on this machine" in said or "no address has" in said
        # Where the MCP server is private itself, its authorization server may be.
        within = {"mcp.test": ["10.0.0.9"], "as.test": [address]}
        assert "went to https://as.test/x" in await fetched("https://as.test/x", "https://mcp.test/mcp", within)
        # And where the user says so.
        said = await fetched("https://as.test/x", "https://mcp.test/mcp", both, private=True)
        assert "went to https://as.test/x" in said

    anyio.run(main)


def test_a_public_address_and_an_unknown_one_are_asked() -> None:
    async def main() -> None:
        for addresses in (PUBLIC, {"mcp.test": ["93.184.216.34"]}, {}):
            assert "went to" in await fetched("https://as.test/x", "https://mcp.test/mcp", addresses)
        # The MCP server's own origin is where the request went already.
        within = {"mcp.test": ["10.0.0.9"]}
        assert "went to" in await fetched("https://mcp.test/.well-known/x", "https://mcp.test/mcp", within)
        assert set(await look_up("127.0.0.1", 80)) == {"127.0.0.1"}
        assert await look_up("no-such-host.invalid", 80) == ()

    anyio.run(main)


# --- the client and the tokens ----------------------------------------------------------------------------------------


@played
async def test_a_refused_registration_says_why(world: World) -> None:
    refusal = {"error": "invalid_redirect_uri", "error_description": "no\x1bloopback here"}
    world.server.routes["/register"] = lambda heard: said(400, refusal)
    error = await failed(world)
    assert (error.step, error.address) == ("registration", f"{world.server.url}/register")
    assert "invalid_redirect_uri: no\\x1bloopback here (status 400)" in str(error)
    assert world.person.closed == 1 and world.person.asked == []


@pytest.mark.parametrize("body", [b"no", {"client_id": 5}])
def test_a_registration_that_is_none(body: Any) -> None:
    @played
    async def test(world: World) -> None:
        world.server.routes["/register"] = lambda heard: said(201, body)
        assert (await failed(world)).step == "registration"

    test()


@played
async def test_a_server_that_registers_nobody_says_what_to_do(world: World) -> None:
    world.server.metadata = {"registration_endpoint": None}
    assert "give its id (client_id=...)" in str(await failed(world))


@played
async def test_a_client_id_is_not_shown_to_another_issuer(world: World) -> None:
    error = await failed(world, client_id="mine", client_secret="s3cret", issuer="https://other.example")
    assert "belongs to https://other.example" in str(error) and "s3cret" not in str(error)
    assert world.server.paths() == [SERVER_PATH]


@played
async def test_a_server_without_pkce_is_refused(world: World) -> None:
    world.server.metadata = {"code_challenge_methods_supported": None}
    error = await failed(world)
    assert error.step == "authorization" and "PKCE" in str(error) and world.person.asked == []


@pytest.mark.parametrize(
    "answer, match",
    [
        ((400, {"error": "invalid_grant", "error_description": "used"}), r"invalid_grant: used \(status 400\)"),
        ((500, None), "status 500"),
        ((200, b"no"), "no JSON object"),
        ((200, {"access_token": "s3cret", "token_type": "DPoP"}), "token_type"),
        ((200, {"access_token": "s3cret\n", "token_type": "Bearer"}), "no access_token"),
    ],
)
def test_a_code_that_gives_no_token(answer: tuple[int, Any], match: str) -> None:
    @played
    async def test(world: World) -> None:
        world.server.refusal = answer
        error = await failed(world)
        assert (error.step, error.address) == ("token", f"{world.server.url}/token")
        with pytest.raises(LoginFailed, match=match):
            raise error
        assert "s3cret" not in str(error) and "the-code" not in str(error)
        assert len(world.server.to("/token")) == 1  # a code is of use once

    test()


# --- the answer of the browser ----------------------------------------------------------------------------------------


def refused(change: Callable[[AuthorizationResponse], AuthorizationResponse]) -> Callable[[str], None]:
    def check(match: str) -> None:
        async def test(world: World) -> None:
            world.person.change = change
            with pytest.raises(LoginFailed, match=match) as caught:
                await world.call(world.oauth())
            assert caught.value.step == "authorization"
            assert "the-code" not in str(caught.value)
            # The code was sent nowhere, the request was not repeated, and the redirect was closed.
            assert world.server.to("/token") == [] and len(world.mcp.to("/mcp")) == 1
            assert world.person.closed == 1

        played(test)()

    return check


def test_an_answer_that_is_not_that_of_the_request_is_refused() -> None:
    refused(lambda answer: replace(answer, state="another"))("another `state`")
    refused(lambda answer: replace(answer, state=None))("another `state`")
    refused(lambda answer: replace(answer, iss=None))("no `iss`")
    refused(lambda answer: replace(answer, iss="https://evil.example"))("another authorization server")
    refused(lambda answer: replace(answer, iss=f"{answer.iss}/"))("another authorization server")
    refused(lambda answer: replace(answer, code=None))("no code")
    refused(lambda answer: replace(answer, code=None, error="access_denied", error_description="not\x1b me"))(
        r"access_denied: not\\x1b me"
    )
    # The error of another issuer is not shown.
    refused(lambda answer: replace(answer, iss="https://evil.example", error="pay_here"))("^(?!.*pay_here)")


# --- many requests, and the end of them -------------------------------------------------------------------------------


@played
async def test_a_failure_is_told_to_all_that_waited_and_a_person_is_asked_once(world: World) -> None:
    world.person.gate = anyio.Event()
    world.person.change = lambda answer: AuthorizationResponse(
        state=answer.state, iss=answer.iss, error="access_denied"
    )
    auth, errors = world.oauth(), list[LoginFailed]()

    async def one() -> None:
        with pytest.raises(LoginFailed, match="access_denied") as caught:
            await world.call(auth)
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
        # All others wait for the one that asks the person.
        while auth._keeper(world.url)._lock.statistics().tasks_waiting < 19:
            await anyio.sleep(0.001)
        world.person.gate.set()
    assert len(world.person.asked) == 1 and len(set(map(id, errors))) == 20
    # The next request may ask again.
    with pytest.raises(LoginFailed):
        await world.call(auth)
    assert len(world.person.asked) == 2


@played
async def test_a_cancelled_login_leaves_the_next_request_its_own(world: World) -> None:
    auth = world.oauth()
    world.person.gate = anyio.Event()
    opened = anyio.Event()
    world.person.opened = opened.set
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.call, auth)
        await opened.wait()
        tasks.cancel_scope.cancel()
    assert world.person.closed == 1
    world.person.gate.set()
    assert await world.call(auth) == (200, "access-1")
    assert len(world.person.asked) == 2


@played
async def test_a_refresh_that_has_begun_is_stored_though_its_request_is_cancelled(world: World) -> None:
    now, store = 1000.0, MemoryTokenStore()
    auth = world.oauth(clock=lambda: now, store=store)
    await world.call(auth)
    now += 4000
    world.server.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.call, auth)
        while len(world.server.to("/token")) < 2:
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
        world.server.gate.set()
    login = await store.load(world.url)
    assert login is not None and login.tokens is not None and login.tokens.refresh_token == "refresh-2"
    assert await world.call(auth) == (200, "access-2")


class Broken(MemoryTokenStore):
    async def load(self, key: str) -> Any:
        raise TokenStoreError("the file of logins cannot be read")


@played
async def test_a_store_that_cannot_be_read_ends_the_request(world: World) -> None:
    with pytest.raises(TokenStoreError, match="cannot be read"):
        await world.call(world.oauth(store=Broken()))
    assert world.mcp.requests == []


def test_options_that_no_login_can_have() -> None:
    for url in ("http://mcp.example/mcp", "http+unix://%2Ftmp%2Fs/mcp", "ftp://mcp.example"):
        with pytest.raises(ValueError):
            OAuth().middleware(url)
    with pytest.raises(ValueError, match="https alone"):
        Client("http://mcp.example/mcp", auth=OAuth())
    with pytest.raises(ValueError, match="give one of them"):
        Client("https://mcp.example/mcp", auth=OAuth(), token="t")
    for options in (
        {"client_secret": "s"}, {"private_key": "k"}, {"scopes": "a b"}, {"scopes": ["a b"]},
        {"client_metadata_url": "http://me.test/c"},
        {"client_id": "c", "private_key": "k", "signing_algorithm": "none"},
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            OAuth(**options)  # type: ignore[arg-type]
        assert "'k'" not in str(caught.value)


@played
async def test_a_login_that_the_server_does_not_ask_for_fails(world: World) -> None:
    with pytest.raises(LoginFailed, match="the MCP server does not answer"):
        await world.oauth().login("http://127.0.0.1:9/mcp")
    with pytest.raises(LoginFailed, match=r"give OAuth\(redirect=\.\.\.\)"):
        await OAuth().login(world.url)


@pytest.mark.anyio
async def test_a_server_that_asks_for_no_login_is_said_to_ask_for_none() -> None:
    async with served() as server:  # a real one, without authorization
        url = f"http://127.0.0.1:{server.port}/mcp"
        with pytest.raises(LoginFailed, match=r"asks for none \(a request without a token is answered \d+\)") as caught:
            await OAuth(redirect=Person(AuthServer())).login(url)
    assert "registration at http://127.0.0.1:" in str(caught.value)
