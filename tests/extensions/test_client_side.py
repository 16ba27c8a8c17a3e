# SPDX-License-Identifier: MIT
"""Extensions as a client has them: what it announces, and requests of methods that the protocol does not have."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_h11 import Client, Context, HeaderMismatch, MCPServer, MethodNotFound, MissingClientCapability, listening
from mcp_h11.handler.extension import Extension, ExtensionMethod

pytestmark = pytest.mark.anyio

ID = "com.example/words"
OTHER = "com.example/other"


class Words(Extension):
    identifier = ID

    def settings(self) -> dict[str, Any]:
        return {"languages": ["en"]}

    def methods(self) -> dict[str, Any]:
        return {"words/find": ExtensionMethod(self.find, mirrored="word"), "words/seen": self.seen}

    async def find(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"found": params["word"]}

    async def seen(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"settings": self.announced(ctx), "other": ctx.client_extension(OTHER)}


def target(kind: str, port: int) -> Any:
    return f"http://127.0.0.1:{port}/mcp" if kind == "http" else MCPServer("s", extensions=[Words()])


@pytest.mark.parametrize("revision", ["2025-06-18", "2026-07-28"])
@pytest.mark.parametrize("kind", ["http", "memory"])
async def test_a_client_announces_extensions_and_calls_their_methods(kind: str, revision: str) -> None:
    async with listening(MCPServer("s", extensions=[Words()]), port=0) as running:
        async with Client(
            target(kind, running.port),
            revision=revision,
            extensions={ID: {"a": 1}},
            capabilities={"extensions": {OTHER: {}}},
        ) as client:
            assert client.server_extensions == {ID: {"languages": ["en"]}}
            seen = await client.request("words/seen")
            assert (seen["settings"], seen["other"]) == ({"a": 1}, {})
            assert (await client.request("words/find", {"word": "caf\u00e9"}, mirrored="word"))["found"] == "caf\u00e9"
            with pytest.raises(MethodNotFound):
                await client.request("words/none")


async def test_a_method_that_mirrors_a_member_is_refused_without_its_header() -> None:
    async with listening(MCPServer("s", extensions=[Words()]), port=0) as running:
        async with Client(target("http", running.port), revision="2026-07-28", extensions={ID: {}}) as client:
            with pytest.raises(HeaderMismatch):
                await client.request("words/find", {"word": "a"})


async def test_a_client_that_announces_nothing_is_told_what_it_lacks() -> None:
    async with listening(MCPServer("s", extensions=[Words()]), port=0) as running:
        async with Client(target("http", running.port)) as client:
            with pytest.raises(MissingClientCapability) as caught:
                await client.request("words/seen")
    assert caught.value.data == {"requiredCapabilities": {"extensions": {ID: {}}}}


async def test_a_server_without_extensions_has_none() -> None:
    async with listening(MCPServer("s"), port=0) as running, Client(target("http", running.port)) as client:
        assert client.server_extensions == {}


@pytest.mark.parametrize(
    ("extensions", "error", "said"),
    [({"words": {}}, ValueError, "a prefix, a slash and a name"), ({ID: True}, TypeError, "an object, not a bool")],
)
def test_a_mistake_is_found_when_the_client_is_made(extensions: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Client("http://127.0.0.1:1/mcp", extensions=extensions)
