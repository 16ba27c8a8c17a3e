# SPDX-License-Identifier: MIT
"""NaN and infinity are no JSON: the model, or the log, reads which member has one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypedDict

import orjson
import pytest
from pipes_support import piped
from rawclient import Legacy, Modern
from serving import ASYNCIO, LEGACY, call, served

from mcp_h11 import Context, MCPServer, ServerHandler
from mcp_h11.protocol.finite import MAX_LOOKED_AT, not_finite

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


@dataclass
class Point:
    x: float
    y: float


class Mean(TypedDict):
    mean: float


NAN, INF = math.nan, math.inf
BLOCK = {"type": "text", "text": "x"}
# What a tool returns, its annotation, and how the model reads of it.
RETURNED: list[tuple[Any, Any, str]] = [
    ({"mean": NAN}, Any, "mean is NaN"),
    ({"a": [1.5, {"b": -INF}]}, Any, "a[1].b is infinity"),
    (NAN, Any, "the value is NaN"),
    ([1.0, INF], Any, "[1] is infinity"),
    (Point(1.0, NAN), Any, "y is NaN"),
    (NAN, float, "the value is NaN"),
    ([0.5, NAN], list[float], "[1] is NaN"),
    (Point(INF, 1.0), Point, "x is infinity"),
    ({"mean": NAN}, Mean, "mean is NaN"),
    ({"k": NAN}, dict[str, float], "k is NaN"),
    ({"content": [BLOCK], "structuredContent": {"mean": NAN}}, Any, "structuredContent.mean is NaN"),
    ({"content": [BLOCK], "_meta": {"took": INF}}, Any, "_meta.took is infinity"),
    ([BLOCK, {**BLOCK, "annotations": {"priority": NAN}}], Any, "annotations.priority is NaN"),
]


def tools() -> MCPServer:
    server = MCPServer("numbers")
    for number, (value, annotation, _) in enumerate(RETURNED):

        async def tool(value: Any = value) -> Any:
            return value

        tool.__annotations__ = {"return": annotation}
        server.add_tool(tool, f"t{number}", input_schema={"type": "object"})

    async def own() -> Any:
        return {"mean": NAN}

    server.add_tool(own, "own", output_schema={"type": "object"})
    return server


@pytest.mark.parametrize("codec", [None, orjson], ids=["json", "orjson"])
async def test_a_result_with_one_is_a_tool_error_that_names_the_member(codec: Any) -> None:
    async with served(tools(), json=codec) as server, Legacy(server.port, LEGACY) as session:
        names = [(f"t{number}", wanted) for number, (_, _, wanted) in enumerate(RETURNED)]
        for name, wanted in [*names, ("own", "mean is NaN")]:
            for client in (Modern(server.port), session):
                result = (await client.call("tools/call", call(name))).result
                assert result["isError"] is True and "structuredContent" not in result
                assert wanted in result["content"][0]["text"], name
    async with piped(tools()) as pipe:
        await pipe.initialize(LEGACY)
        pipe.call(1, "t0")
        assert (await pipe.result(1))["isError"] is True


class Telling(MCPServer):
    """Says what cannot be said, in each way; a prompt and a resource return it."""

    def __init__(self) -> None:
        super().__init__("telling")
        for tool in (self.logs, self.progress, self.total, self.notes, self.form, self.sample):
            self.add_tool(tool, tool.__name__)
        self.add_prompt(self.prompt, "prompt")
        self.add_resource("numbers://x", self.prompt)

    async def logs(self, ctx: Context) -> None:
        await ctx.error({"x": NAN})

    async def progress(self, ctx: Context) -> None:
        await ctx.report_progress(NAN)

    async def total(self, ctx: Context) -> None:
        await ctx.report_progress(1, INF)

    async def notes(self, ctx: Context) -> None:
        await ctx.notify("notifications/own", {"x": [INF]})

    async def form(self, ctx: Context) -> None:
        await ctx.elicit("?", {"type": "object", "properties": {"x": {"type": "number", "default": NAN}}})

    async def sample(self, ctx: Context) -> None:
        await ctx.sample("?", temperature=NAN)

    async def prompt(self) -> Any:
        return {"deep": [{"x": NAN}]}


TOLD = {
    "logs": "data.x is NaN",
    "progress": "neither NaN nor infinity",
    "total": "neither NaN nor infinity",
    "notes": "x[0] is infinity",
    "form": "properties.x.default is NaN",
    "sample": "temperature is NaN",
}
ABLE = {"elicitation": {}, "sampling": {}}


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_revision_without_structured_content_is_told_the_same(revision: str) -> None:
    server = MCPServer("numbers")
    server.add_tool(lambda: {"content": [], "structuredContent": {"mean": NAN}}, "mean")
    async with served(server) as running, Legacy(running.port, revision) as session:
        result = (await session.call("tools/call", call("mean"))).result
        assert result["isError"]
        assert "structuredContent.mean is NaN" in result["content"][0]["text"]


async def test_what_a_tool_tells_or_asks_on_the_way_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Telling()) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize(ABLE)
        meta = {"io.modelcontextprotocol/logLevel": "debug", "progressToken": 1}
        for tool, wanted in TOLD.items():
            answers = [
                await Modern(server.port, capabilities=ABLE).call("tools/call", call(tool), meta=meta),
                await session.call("tools/call", {**call(tool), "_meta": {"progressToken": 1}}),
            ]
            for answer in answers:
                assert answer.result["isError"] is True
                assert wanted in answer.result["content"][0]["text"], tool
                assert not answer.notifications and not answer.requests
        for method, params in (("prompts/get", {"name": "prompt"}), ("resources/read", {"uri": "numbers://x"})):
            for client in (session, Modern(server.port)):
                caplog.clear()
                assert (await client.call(method, params)).error["code"] == -32603
                assert "deep[0].x is NaN" in caplog.text
        await session.delete()


async def test_a_handler_of_your_own_and_lists_are_internal_errors(caplog: pytest.LogCaptureFixture) -> None:
    class Own(ServerHandler):
        async def list_tools(self, params: Any, ctx: Any) -> Any:
            return {"tools": [{"name": "a", "inputSchema": {"type": "object", "maximum": INF}}]}

    async with served(Own()) as server, Legacy(server.port, LEGACY) as session:  # type: ignore[arg-type]
        for client in (session, Modern(server.port)):
            caplog.clear()
            answer = await client.call("tools/list")
            assert answer.error == {"code": -32603, "message": "The result cannot be encoded as JSON"}
            assert "tools[0].inputSchema.maximum is infinity" in caplog.text


def test_the_first_one_is_named_and_the_search_ends() -> None:
    assert str(not_finite([{"a": 1, "b": NAN}, INF])) == "[0].b is NaN, which JSON does not have"
    assert not_finite([1, "NaN", None, 1e308]) is None
    assert str(not_finite([*range(MAX_LOOKED_AT - 2), NAN])).startswith(f"[{MAX_LOOKED_AT - 2}] is NaN")
    assert not_finite([*range(MAX_LOOKED_AT - 1), NAN]) is None
    itself: list[Any] = []
    itself.append(itself)
    assert not_finite(itself) is None
