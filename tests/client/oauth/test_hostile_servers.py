# SPDX-License-Identifier: MIT
"""Servers that try to get at a login's secrets, or at addresses that are none of theirs."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from oauth_parties import World, played, said
from test_login_failures import PUBLIC, fetched

from mcp_h11.client.oauth.store import Login, MemoryTokenStore
from mcp_h11.client.transports.errors import LoginFailed


def secrets_of(world: World) -> set[str]:
    """All that the token endpoint was sent and nobody else should read."""
    forms = [one.form for one in world.server.to("/token")]
    return {form[name] for form in forms for name in ("code", "code_verifier", "refresh_token") if name in form}


@pytest.mark.parametrize("member", ["error", "error_description"])
def test_an_error_that_repeats_the_request_gets_no_secret_into_messages(member: str) -> None:
    """Some servers quote a wrong code or token; the text of the error gets into logs and onto screens."""

    @played
    async def test(world: World) -> None:
        def echo(heard: Any) -> bytes:
            quoted = " ".join(f"{name}={value}" for name, value in heard.form.items())
            return said(400, {"error": "invalid_request", member: quoted})

        world.server.routes["/token"] = echo
        with pytest.raises(LoginFailed) as caught:
            await world.call(world.oauth(client_id="me", client_secret="s3cret"))
        assert secrets_of(world)
        assert not [one for one in (*secrets_of(world), "s3cret") if one in str(caught.value) + repr(caught.value)]

    test()


def test_a_refusal_that_repeats_the_refresh_token_gets_it_into_no_log() -> None:
    @played
    async def test(world: World) -> None:
        seen: list[str] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record.getMessage())

        now, store = 1000.0, MemoryTokenStore()
        auth = world.oauth(clock=lambda: now, store=store)
        await world.call(auth)
        world.server.refusal = (400, {"error": "server_error", "error_description": "refresh-1 is not known here"})
        now += 3600 - 30
        logger, handler = logging.getLogger("mcp_h11"), Keep()
        logger.addHandler(handler)
        try:
            assert (await world.call(auth))[0] == 200
        finally:
            logger.removeHandler(handler)
        assert seen and not [line for line in seen if "refresh-1" in line]

    test()


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::a00:1",  # NAT64 of 10.0.0.1 (RFC 6052)
        "64:ff9b::7f00:1",
        "2002:a00:1::1",  # 6to4 of 10.0.0.1 (RFC 3056)
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1 (RFC 4380)
        "::a00:1",  # IPv4-compatible
    ],
)
def test_a_private_ipv4_address_inside_of_an_ipv6_address_is_private(address: str) -> None:
    async def main() -> None:
        both = {**PUBLIC, "as.test": ["93.184.216.34", address]}
        assert "names a private address" in await fetched("https://as.test/x", "https://mcp.test/mcp", both)

    anyio.run(main)


@pytest.mark.parametrize("address", ["64:ff9b::5db8:d822", "2002:5db8:d822::1"])
def test_a_public_ipv4_address_inside_of_one_is_not(address: str) -> None:
    async def main() -> None:
        both = {**PUBLIC, "as.test": [address]}
        assert "went to" in await fetched("https://as.test/x", "https://mcp.test/mcp", both)

    anyio.run(main)


@pytest.mark.parametrize("query", ["state=known", "tenant=1&client_id=another", "redirect_uri=https://evil.example"])
def test_an_endpoint_with_a_parameter_of_the_request_is_refused(query: str) -> None:
    """RFC 6749, 3.1: no parameter twice.  A server that takes the first one would read that of the address."""

    @played
    async def test(world: World) -> None:
        world.server.metadata = {"authorization_endpoint": f"{world.server.url}/authorize?{query}"}
        with pytest.raises(LoginFailed, match="authorization_endpoint has a parameter of the request") as caught:
            await world.call(world.oauth())
        assert caught.value.step == "authorization" and world.person.asked == []

    test()


@pytest.mark.parametrize(
    "ends", [10**400, 1e12, float("inf"), float("nan"), -1, "soon", True, 0], ids=lambda one: str(one)[:9]
)
def test_a_time_that_no_clock_has_is_none(ends: Any) -> None:
    @played
    async def test(world: World) -> None:
        store = MemoryTokenStore()
        world.server.registration = {"client_id": "client-1", "client_secret_expires_at": ends}
        assert await world.call(world.oauth(store=store)) == (200, "access-1")
        login = await store.load(world.url)
        assert login is not None and login.client.secret_expires_at is None
        assert Login.from_json(login.to_json()) == login

    test()
