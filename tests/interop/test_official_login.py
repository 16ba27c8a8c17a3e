# SPDX-License-Identifier: MIT
"""A login at a server of the official SDK, which is its own authorization server, in both eras."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest
from provision import free_port, stop, wait_until_it_listens

from mcp_h11 import AuthorizationResponse, Client, MemoryTokenStore, OAuth
from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient

pytestmark = [pytest.mark.interop]
LIMIT = 60
SERVER = Path(__file__).with_name("official_auth_server.py")


class Agreeing:
    """A browser that follows the one redirect of a server that grants everything."""

    def __init__(self) -> None:
        self.logins = 0

    async def start(self, known: Sequence[str] = ()) -> str:
        return "http://127.0.0.1:7777/callback"

    async def authorize(self, url: str) -> AuthorizationResponse:
        self.logins += 1
        async with HTTPClient() as http, await http.send(HTTPCall("GET", url)) as answer:
            return AuthorizationResponse.from_url(answer.get("location") or "")

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("mcp")
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stdin=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        stop(process)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_a_login_and_a_refresh_at_a_server_of_the_official_sdk(url: str, revision: str) -> None:
    async def main() -> None:
        store, browser = MemoryTokenStore(), Agreeing()
        with anyio.fail_after(LIMIT):
            async with Client(url, auth=OAuth(redirect=browser, store=store), revision=revision) as client:
                assert (await client.call_tool("add", {"a": 1, "b": 2}))["structuredContent"] == {"result": 3}
            first = await store.load(url)
            # As in its last minute: the token is refreshed before it is sent.
            later = OAuth(store=store, clock=lambda: time.time() + 250)
            async with Client(url, auth=later, revision=revision) as client:
                assert (await client.call_tool("add", {"a": 2, "b": 2}))["structuredContent"] == {"result": 4}
            second = await store.load(url)
            assert browser.logins == 1
            assert first is not None and first.tokens is not None and second is not None and second.tokens is not None
            assert first.tokens.access_token != second.tokens.access_token
            assert first.tokens.refresh_token != second.tokens.refresh_token
            assert await OAuth(store=store).logout(url) and await store.load(url) is None

    anyio.run(main)
