# SPDX-License-Identifier: MIT
"""`detect`: what is served, within its time, and nothing left behind."""

from __future__ import annotations

import anyio
import pytest
from hurrying import on_a_still_clock
from scripted import LIMIT, SESSION, Peer, Seen, modern_server, scripted, session_server

from mcp_h11 import AuthorizationRequired, ConnectionLost, Detected, MCPServer, RequestTimeout, detect, listening

pytestmark = pytest.mark.anyio


async def nothing(seen: Seen, peer: Peer) -> None:
    raise AssertionError(seen)


async def test_a_modern_server() -> None:
    async with scripted(modern_server(nothing)) as script:
        found = await detect(script.url)
    assert (found.transport, found.revisions, found.modern, found.session) == (
        "streamable-http", ("2026-07-28",), True, False,
    )  # fmt: skip
    assert [seen.method for seen in script.seen] == ["server/discover"]


async def test_the_session_that_was_made_is_deleted() -> None:
    async with scripted(session_server(nothing, revision="2025-06-18")) as script:
        found = await detect(script.url, headers={"X-Mine": "1"})
        (ended,) = script.of("DELETE")
    assert found == Detected(
        "streamable-http", ("2025-06-18",), {"name": "s", "version": "1"}, found.capabilities, session=True
    )
    assert ended.headers["mcp-session-id"] == SESSION and not found.modern
    assert {seen.headers.get("x-mine") for seen in script.seen} == {"1"}


@pytest.mark.parametrize("stateless", [False, True])
async def test_our_own_server_has_no_session_more_than_before(stateless: bool) -> None:
    async with listening(MCPServer("own", version="1"), port=0, stateless=stateless, legacy_sse=True) as running:
        found = await detect(f"http://127.0.0.1:{running.port}/mcp")
        assert found.revisions[0] == "2026-07-28" and found.server_info["name"] == "own"
        if not stateless:  # HTTP+SSE is a session
            old = await detect(f"http://127.0.0.1:{running.port}/sse")
            assert (old.transport, old.session) == ("sse", False)
        assert not running.endpoint.legacy.sessions


@on_a_still_clock
@pytest.mark.parametrize("silent", ["POST", "initialize", "GET", "DELETE"])
async def test_it_takes_no_longer_than_it_was_given(silent: str) -> None:
    usual = session_server(nothing)

    async def serve(seen: Seen, peer: Peer) -> None:
        if silent in (seen.verb, seen.method):
            await peer.gone()
        else:
            await usual(seen, peer)

    begin = anyio.current_time()
    async with scripted(serve) as script:
        with anyio.fail_after(LIMIT):
            if silent in ("GET", "DELETE"):
                assert (await detect(script.url, timeout=3.0)).session
            else:
                with pytest.raises(RequestTimeout, match="1 s"):
                    await detect(script.url, timeout=1.0)
        assert anyio.current_time() - begin <= (3.0 if silent in ("GET", "DELETE") else 1.0)
        if silent == "GET":
            assert script.of("DELETE")


@on_a_still_clock
async def test_a_session_that_begins_too_late_is_deleted_too() -> None:
    usual = session_server(nothing)

    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "initialize":  # what is kept of a second for the end is 0.2
            await anyio.sleep(0.85)
        await usual(seen, peer)

    async with scripted(serve) as script:
        with anyio.fail_after(LIMIT), pytest.raises(RequestTimeout):
            await detect(script.url, timeout=1.0)
        (ended,) = script.of("DELETE")
        assert ended.headers["mcp-session-id"] == SESSION


async def test_nobody_there_and_nobody_let_in_are_errors() -> None:
    async def refuse(seen: Seen, peer: Peer) -> None:
        await peer.answer(status=401, WWW_Authenticate="Bearer x")

    async with scripted(refuse) as script:
        with pytest.raises(AuthorizationRequired):
            await detect(script.url)
    with pytest.raises(ConnectionLost):
        await detect(script.url)
