# SPDX-License-Identifier: MIT
"""The server card and its catalog, over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rawclient import Modern, RawClient, Response

from mcp_h11 import MCPServer, Settings, listening
from mcp_h11.protocol.revisions import SUPPORTED

pytestmark = pytest.mark.anyio

NAME = "com.example.tools/weather"
CARD = "/mcp/server-card"
CATALOG = "/.well-known/ai-catalog.json"


@asynccontextmanager
async def served(server: MCPServer | None = None, **options: Any) -> AsyncIterator[int]:
    async with listening(server or MCPServer("s", version="1.2"), port=0, **{"card": NAME, **options}) as running:
        yield running.port


async def get(port: int, path: str, method: str = "GET", **headers: str) -> Response:
    async with RawClient(port) as client:
        return await client.request(method, path, headers)


async def test_the_card_has_the_name_and_the_address() -> None:
    icons = [{"src": "https://e.example/i.png"}]
    server = MCPServer("s", "The S", "Says the weather.", website_url="https://e.example", icons=icons, version="1.2")
    async with served(server) as port:
        answer = await get(port, CARD)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/mcp-server-card+json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert re.fullmatch(r"public, max-age=[0-9]+", answer.headers["cache-control"])
        assert answer.headers["vary"] == "Host"
        card = answer.json()
        assert card == {
            "$schema": "https://static.modelcontextprotocol.io/schemas/v1/server-card.schema.json",
            "name": NAME,
            "version": "1.2",
            "description": "Says the weather.",
            "title": "The S",
            "websiteUrl": "https://e.example",
            "icons": icons,
            "remotes": [
                {
                    "type": "streamable-http",
                    "url": f"http://127.0.0.1:{port}/mcp",
                    "supportedProtocolVersions": list(SUPPORTED),
                }
            ],
        }
        assert (await Modern(port).call("server/discover")).result["supportedVersions"] == list(SUPPORTED)
        assert (await get(port, CARD + "/")).json() == card


async def test_the_catalog_names_the_card() -> None:
    async with served() as port:
        answer = await get(port, CATALOG)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/ai-catalog+json"
        assert answer.json() == {
            "specVersion": "1.0",
            "entries": [
                {
                    "identifier": "urn:air:tools.example.com:weather",
                    "displayName": "s",
                    "type": "application/mcp-server-card+json",
                    "url": f"http://127.0.0.1:{port}{CARD}",
                }
            ],
        }


async def test_long_texts_are_cut_to_what_the_schema_takes() -> None:
    server = MCPServer("n", "t" * 101, "d\n" * 80, version="v" * 300)
    async with served(server) as port:
        card = (await get(port, CARD)).json()
    assert len(card["title"]) == len(card["description"]) == 100
    assert card["description"].startswith("d d d")
    assert card["description"].endswith("...")
    assert len(card["version"]) == 255
    server = MCPServer(" ", description=" ")
    async with served(server) as port:
        assert (await get(port, CARD)).json()["description"] == NAME
        assert (await get(port, CATALOG)).json()["entries"][0]["displayName"] == NAME


@pytest.mark.parametrize("path", [CARD, CATALOG])
async def test_there_is_none_unless_it_is_asked_for(path: str) -> None:
    async with served(card=None) as port:
        assert (await get(port, path)).status == 404


@pytest.mark.parametrize("path", [CARD, CATALOG])
async def test_no_token_is_needed_and_the_card_says_that_the_endpoint_needs_one(path: str) -> None:
    async with served(token="secret") as port:
        answer = await get(port, path, Origin="https://other.example")
        assert answer.status == 200
        assert b"secret" not in answer.body
        if path == CARD:
            [header] = answer.json()["remotes"][0]["headers"]
            assert (header["name"], header["isRequired"], header["isSecret"]) == ("Authorization", True, True)
        assert (await get(port, "/mcp", "POST")).status == 401


@pytest.mark.parametrize("path", [CARD, CATALOG])
async def test_methods_and_hosts(path: str) -> None:
    async with served() as port:
        head = await get(port, path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) > 100
        preflight = await get(port, path, "OPTIONS", Origin="https://other.example")
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        for method in ("POST", "DELETE"):
            refused = await get(port, path, method)
            assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await get(port, path, Host="evil.example")).status == 403


async def test_requests_for_it_are_limited_as_all_are() -> None:
    async with served(rate_limit=(2, 600.0), rate_burst=2) as port:
        assert [(await get(port, CARD)).status for _ in range(3)] == [200, 200, 429]


async def test_its_address_is_the_one_that_clients_see() -> None:
    async with served(root_path="/tools", trusted_proxies=("*",), allowed_hosts=("api.example",)) as port:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example", "X-Forwarded-For": "192.0.2.1"}
        card = (await get(port, CARD, Host="api.example", **headers)).json()
        assert card["remotes"][0]["url"] == "https://api.example/tools/mcp"
        entry = (await get(port, CATALOG, Host="api.example", **headers)).json()["entries"][0]
        assert entry["url"] == "https://api.example/tools/mcp/server-card"
    async with served(resource="https://api.example/here/mcp", authorization_servers=(), path="/x") as port:
        assert (await get(port, "/x/server-card")).json()["remotes"][0]["url"] == "https://api.example/here/mcp"


async def test_a_client_that_names_no_host_is_asked_for_one() -> None:
    async with served(allowed_hosts=("*",)) as port:
        async with RawClient(port) as client:
            await client.send(f"GET {CARD} HTTP/1.0\r\n\r\n".encode())
            answer = await client.receive()
    assert answer.status == 400
    assert "Host" in json.dumps(answer.json())


@pytest.mark.parametrize(
    "name", ["weather", "/weather", "com.example/", "a/b/c", "com example/x", "a/" + "b" * 199, ""]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="card is a name"):
        Settings(card=name)


@pytest.mark.parametrize("name", ["a/b", "com.example/weather-2_x.y", "a/" + "b" * 198])
def test_sound_names(name: str) -> None:
    assert Settings(card=name).card == name
