# SPDX-License-Identifier: MIT
"""A whole `Client` that logs in: its time limits, the era of its server, its errors."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from oauth_parties import Heard, World, played, said

from mcp_h11.client import probe
from mcp_h11.client.client import Client
from mcp_h11.client.conversation.pending import MAX_HELD
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.redirect import AuthorizationResponse
from mcp_h11.client.transports.errors import AuthorizationRequired, LoginFailed

DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}


def speaking(world: World) -> None:
    """The MCP server answers `server/discover` and `tools/list` of 2026-07-28."""

    def called(heard: Heard) -> bytes:
        refused = world.mcp.called(heard)
        if not refused.startswith(b"HTTP/1.1 200"):
            return refused
        message = json.loads(heard.body)
        result: dict[str, Any] = DISCOVERED if message["method"] == "server/discover" else {"tools": []}
        return said(200, {"jsonrpc": "2.0", "id": message["id"], "result": {**result, "resultType": "complete"}})

    world.mcp.routes["/mcp"] = called


@played
async def test_a_request_has_no_time_limit_while_a_person_logs_in(world: World) -> None:
    held: list[str] = []

    class Patience:
        def __enter__(self) -> None:
            held.append("held")

        def __exit__(self, *exc_info: object) -> None:
            held.append("released")

    world.person.opened = lambda: held.append("opened")
    await world.call(world.oauth(), patience=Patience)
    assert held == ["held", "opened", "released"]


@played
async def test_a_person_may_take_longer_than_a_request(world: World) -> None:
    speaking(world)
    left: list[float] = []

    def opened() -> None:
        (call,) = client._conversation.calls.running()
        left.append(call.deadline - anyio.current_time())

    world.person.opened = opened
    client = Client(world.url, auth=world.oauth(), timeout=30)
    async with client:
        assert client.modern and await client.list_tools() == []
    # The question for the era has ten seconds, and stands still for as long as questions of a server do.
    assert len(left) == 1 and MAX_HELD < left[0] <= MAX_HELD + probe.PROBE_TIMEOUT


@played
async def test_a_client_that_finds_the_era_of_its_server_asks_a_person_once(world: World) -> None:
    world.person.change = lambda answer: AuthorizationResponse(
        state=answer.state, iss=answer.iss, error="access_denied"
    )
    with pytest.raises(LoginFailed, match="access_denied"):
        async with Client(world.url, auth=world.oauth()):
            pass
    assert len(world.person.asked) == 1 and len(world.mcp.to("/mcp")) == 1


@played
async def test_without_a_redirect_the_answer_of_the_server_is_handed_on(world: World) -> None:
    with pytest.raises(AuthorizationRequired) as caught:
        async with Client(world.url, auth=OAuth(), revision="2026-07-28"):
            pass
    assert caught.value.status == 401
    assert world.server.requests == []
