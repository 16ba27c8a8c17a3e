# SPDX-License-Identifier: MIT
"""Extensions through a bridge: announcements both ways, methods that the bridge does not know, and a gateway."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rawclient import Legacy, Modern, header_value
from wire import C, D, E

from mcp_h11 import Context, MCPServer, ProxyHandler, ServerHandler, Url, listening
from mcp_h11.bridge.config import ServerEntry
from mcp_h11.bridge.gateway import Gateway, GatewayServer
from mcp_h11.extensions.skills import Skills
from mcp_h11.handler.extension import Extension, ExtensionMethod

pytestmark = pytest.mark.anyio

ID = "com.example/words"
ANNOUNCED = {"extensions": {ID: {"a": 1}}}


class Words(Extension):
    identifier = ID

    def __init__(self, name: str = "") -> None:
        self.name = name

    def settings(self) -> dict[str, Any]:
        return {"of": self.name}

    def methods(self) -> dict[str, Any]:
        return {
            "words/find": ExtensionMethod(self.find, mirrored="word"),
            "words/seen": ExtensionMethod(self.seen, announced=False),
        }

    async def find(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"found": params["word"], "by": self.name}

    async def seen(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"settings": self.announced(ctx)}


@asynccontextmanager
async def bridged(*extensions: Extension, **options: Any) -> AsyncIterator[int]:
    """The port of a bridge onto a server over HTTP with these extensions."""
    async with listening(MCPServer("behind", extensions=extensions), port=0) as behind:
        handler = ProxyHandler(Url(f"http://127.0.0.1:{behind.port}/mcp"), **options)
        async with listening(handler, port=0) as running:
            yield running.port


async def test_the_announcements_of_both_ends_reach_the_other() -> None:
    async with bridged(Words("w")) as port:
        client = Modern(port, capabilities=ANNOUNCED)
        assert (await client.call("server/discover")).result["capabilities"]["extensions"] == {ID: {"of": "w"}}
        assert (await client.call("words/seen")).result["settings"] == {"a": 1}
        assert (await Modern(port).call("words/seen")).result["settings"] is None
        legacy = Legacy(port, D)
        await legacy.initialize(ANNOUNCED)
        assert legacy.initialized["capabilities"]["extensions"] == {ID: {"of": "w"}}
        assert (await legacy.call("words/seen")).result == {"settings": {"a": 1}}
        await legacy.delete()


@pytest.mark.parametrize("word", ["a", "caf\u00e9", " x "])
async def test_a_header_that_the_backend_demands_is_passed_on(word: str) -> None:
    async with bridged(Words("w")) as port:
        client = Modern(port, capabilities=ANNOUNCED)
        answer = await client.call("words/find", {"word": word, "n": 1}, headers={"Mcp-Name": header_value(word)})
        assert answer.result["found"] == word


@pytest.mark.parametrize("name", [None, "other", "=?base64?*?="])
async def test_a_header_that_is_missing_or_wrong_is_refused_by_the_backend(name: str | None) -> None:
    async with bridged(Words("w")) as port:
        answer = await Modern(port, capabilities=ANNOUNCED).call(
            "words/find", {"word": "a"}, headers={"Mcp-Name": name}
        )
        assert (answer.status, answer.error["code"]) == (400, -32020)


async def test_what_was_not_announced_is_refused_by_the_backend() -> None:
    async with bridged(Words("w")) as port:
        answer = await Modern(port).call("words/find", {"word": "a"}, headers={"Mcp-Name": "a"})
        assert (answer.status, answer.error["code"]) == (400, -32021)
        assert answer.error["data"] == {"requiredCapabilities": {"extensions": {ID: {}}}}
        assert (await Modern(port).call("words/none")).error["code"] == -32601


async def test_a_backend_of_each_session_hears_the_announcement_of_its_client() -> None:
    behind = MCPServer("behind", extensions=[Words("w")])
    async with listening(behind, port=0) as server:
        backend = Url(f"http://127.0.0.1:{server.port}/mcp")
        async with listening(ProxyHandler(backend, per_session=True), port=0) as running:
            for capabilities in (ANNOUNCED, {}):
                client = Legacy(running.port, C)
                await client.initialize(capabilities)
                seen = (await client.call("words/seen")).result["settings"]
                assert seen == ({"a": 1} if capabilities else None)
                await client.delete()


@pytest.mark.parametrize("revision", [D, E])
async def test_skills_pass_through_a_bridge(tmp_path: Path, revision: str) -> None:
    (tmp_path / "pdf").mkdir()
    (tmp_path / "pdf" / "SKILL.md").write_text("---\nname: pdf\ndescription: x\n---\n")
    async with bridged(Skills(tmp_path, watch_every=None)) as port:
        client: Any = Modern(port) if revision == E else Legacy(port, D)
        if revision != E:
            await client.initialize()
        result = (await client.call("skills/list")).result
        assert result["skills"][0]["uri"] == "skill://pdf/SKILL.md"
        if revision == E:
            assert (result["ttlMs"], result["cacheScope"]) == (0, "public")
        read = (await client.call("resources/read", {"uri": "skill://pdf/SKILL.md"})).result
        assert read["contents"][0]["text"].startswith("---\n")
        assert len((await client.call("resources/directory/read", {"uri": "skill://pdf"})).result["resources"]) == 1


async def test_each_server_of_a_gateway_has_its_own_extensions() -> None:
    servers = {name: MCPServer(name, extensions=[Words(name)]) for name in ("one", "two")}
    async with listening(servers["one"], port=0) as one, listening(servers["two"], port=0) as two:
        entries = {
            name: ServerEntry(Url(f"http://127.0.0.1:{running.port}/mcp"))
            for name, running in (("one", one), ("two", two))
        }
        async with listening(Gateway(entries), port=0, kind=GatewayServer) as gateway:
            for name in servers:
                client = Modern(gateway.port, f"/servers/{name}/mcp", capabilities=ANNOUNCED)
                assert (await client.call("server/discover")).result["capabilities"]["extensions"] == {ID: {"of": name}}
                answer = await client.call("words/find", {"word": "a"}, headers={"Mcp-Name": "a"})
                assert answer.result["by"] == name


class Odd(ServerHandler):
    """A backend with settings that are no object, and with a level of a log message that is no text."""

    def capabilities(self) -> dict[str, Any]:
        return {
            "tools": {},
            "logging": {},
            "extensions": {ID: {"of": "odd"}, "com.example/odd": 5, "com.example/no": None},
        }

    def list_tools(self, params: Any, ctx: Any) -> Any:
        return {"tools": []}

    async def call_tool(self, params: Any, ctx: Context) -> Any:
        for level in ([], {}, None, "loud", "error"):
            await ctx.notify("notifications/message", {"level": level, "data": str(level)})
        return {"content": []}


async def test_the_messages_after_one_that_is_malformed_reach_the_client() -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
    async with listening(Odd(), port=0) as behind, listening(ProxyHandler(Url(behind.url)), port=0) as front:
        client = Modern(front.port)
        offered = (await client.call("server/discover")).result["capabilities"]["extensions"]
        assert offered == {ID: {"of": "odd"}}
        meta = {"io.modelcontextprotocol/logLevel": "debug"}
        answer = await client.call("tools/call", {"name": "x", "_meta": meta})
    assert answer.result["content"] == []
    assert [note["params"]["data"] for note in answer.notifications] == ["error"]
    gc.collect()  # a task whose exception was not retrieved says so now
    assert raised == []
