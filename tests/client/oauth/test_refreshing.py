# SPDX-License-Identifier: MIT
"""Tokens that end: one refresh for all that wait, what is kept when it fails, and when a person is asked again."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from oauth_parties import World, played

from mcp_h11.client.oauth import keeper
from mcp_h11.client.oauth.errors import TokenStoreError
from mcp_h11.client.oauth.keeper import REFRESH_PAUSE
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.store import Login, MemoryTokenStore
from mcp_h11.client.transports.errors import LoginFailed


@played
async def test_twenty_requests_wait_for_one_refresh_before_the_end_of_the_token(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    assert await world.call(auth) == (200, "access-1")
    now += 3600 - 59
    world.server.gate = anyio.Event()
    statuses = await world.calls(auth, 20, lambda: len(world.server.to("/token")) >= 2, world.server.gate)
    assert statuses == [(200, "access-2")] * 20
    (form,) = [one.form for one in world.server.to("/token")[1:]]
    assert form == {
        "grant_type": "refresh_token", "refresh_token": "refresh-1", "client_id": "client-1", "resource": world.url,
    }  # fmt: skip
    # The rotated refresh token is kept, and is the one that is used next.
    now += 3600
    assert await world.call(auth) == (200, "access-3")
    assert world.server.to("/token")[-1].form["refresh_token"] == "refresh-2"
    assert len(world.person.asked) == 1


@played
async def test_a_token_is_not_refreshed_before_its_last_minute(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    now += 3600 - 61
    assert await world.call(auth) == (200, "access-1")
    assert len(world.server.to("/token")) == 1


@played
async def test_a_short_lived_token_is_refreshed_in_its_last_quarter(world: World) -> None:
    now = 1000.0
    world.server.lifetime = 40
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    now += 29
    assert await world.call(auth) == (200, "access-1")
    now += 2
    assert await world.call(auth) == (200, "access-2")


@played
async def test_a_server_that_does_not_rotate_leaves_the_refresh_token_as_it_is(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    world.server.refreshable = False
    for number in (2, 3):
        now += 3600
        assert await world.call(auth) == (200, f"access-{number}")
        assert world.server.to("/token")[-1].form["refresh_token"] == "refresh-1"


@played
async def test_a_refresh_that_fails_keeps_a_token_that_still_holds(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    world.server.refusal = (503, None)
    now += 3600 - 30
    assert await world.call(auth) == (200, "access-1")
    now += 31
    with pytest.raises(LoginFailed, match=r"refresh at http://127.0.0.1:\d+/token\): status 503") as caught:
        await world.call(auth)
    assert caught.value.step == "refresh" and caught.value.address == f"{world.server.url}/token"
    # It was not lost: the server answers again.
    world.server.refusal = None
    assert await world.call(auth) == (200, "access-2")
    assert len(world.person.asked) == 1


@played
async def test_a_refresh_that_fails_is_not_tried_for_each_request_while_the_token_holds(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    world.server.refusal = (503, None)
    now += 3600 - 50
    for _ in range(3):
        assert await world.call(auth) == (200, "access-1")
    assert len(world.server.to("/token")) == 2
    now += REFRESH_PAUSE - 1
    await world.call(auth)
    assert len(world.server.to("/token")) == 2
    now += 1
    world.server.refusal = None
    assert await world.call(auth) == (200, "access-2")


def test_a_refresh_that_hangs_ends_sooner_than_a_login(caplog: pytest.LogCaptureFixture) -> None:
    @played
    async def test(world: World) -> None:
        now, limit = 1000.0, keeper.REFRESH_LIMIT
        auth = world.oauth(clock=lambda: now)
        await world.call(auth)
        now += 3600 - 50
        world.server.gate = anyio.Event()
        keeper.REFRESH_LIMIT = 0.05
        try:
            assert await world.call(auth) == (200, "access-1")
        finally:
            keeper.REFRESH_LIMIT = limit

    test()
    assert "holds, but it was not refreshed" in caplog.text and "no answer within 0.05 s" in caplog.text


@played
async def test_a_refresh_token_that_has_ended_leads_to_a_login(world: World) -> None:
    now = 1000.0
    auth = world.oauth(clock=lambda: now)
    await world.call(auth)
    world.server.refresh_token = "revoked"
    now += 4000
    assert await world.call(auth) == (200, "access-2")
    assert len(world.person.asked) == 2 and len(world.server.to("/register")) == 1


@played
async def test_a_refused_token_is_refreshed_once_and_then_a_person_is_asked(world: World) -> None:
    auth = world.oauth()
    await world.call(auth)
    world.mcp.accepts = lambda token: token == "access-3"
    # At most one renewal for a request: the answer after it is the one that the caller gets.
    assert (await world.call(auth))[0] == 401
    assert [one.form["grant_type"] for one in world.server.to("/token")] == ["authorization_code", "refresh_token"]
    assert await world.call(auth) == (200, "access-3")
    assert len(world.person.asked) == 2


@played
async def test_a_stored_login_without_a_token_endpoint_is_refreshed_at_the_one_that_is_found(world: World) -> None:
    store = MemoryTokenStore()
    await world.call(world.oauth(store=store))
    login = await store.load(world.url)
    assert login is not None and login.tokens is not None
    ended = replace(login, token_endpoint=None, tokens=replace(login.tokens, expires_at=1.0))
    await store.save(world.url, ended)
    assert await world.call(OAuth(store=store)) == (200, "access-2")
    assert len(world.person.asked) == 1


@played
async def test_a_logout_of_another_process_ends_the_refreshing(world: World) -> None:
    now, store = 1000.0, MemoryTokenStore()
    auth = world.oauth(clock=lambda: now, store=store)
    await world.call(auth)
    await store.delete(world.url)
    now += 4000
    assert await world.call(auth) == (200, "access-2")
    assert [one.form["grant_type"] for one in world.server.to("/token")] == ["authorization_code"] * 2


@played
async def test_a_process_that_starts_in_the_last_minute_of_a_token_refreshes_it(world: World) -> None:
    now, store = 1000.0, MemoryTokenStore()
    await world.call(world.oauth(clock=lambda: now, store=store))
    now += 3600 - 50
    assert await world.call(OAuth(clock=lambda: now, store=store)) == (200, "access-2")
    assert len(world.person.asked) == 1


class Full(MemoryTokenStore):
    """Keeps the first login, and no later one."""

    async def save(self, key: str, login: Login) -> None:
        if await self.load(key) is not None:
            raise TokenStoreError("the disk is full")
        await super().save(key, login)


def test_new_tokens_are_used_though_the_store_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    @played
    async def test(world: World) -> None:
        now = 1000.0
        auth = world.oauth(clock=lambda: now, store=Full())
        await world.call(auth)
        now += 4000
        assert await world.call(auth) == (200, "access-2")
        assert len(world.person.asked) == 1

    test()
    assert "the disk is full" in caplog.text
