# SPDX-License-Identifier: MIT
"""`structured_output=True`, for a tool and for a server: what clients of the official SDK look for is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from mcp.server.mcpserver.utilities.func_metadata import func_metadata
from rawclient import Legacy
from serving import ASYNCIO, LEGACY, call, served

from mcp_h11 import Image, MCPServer
from mcp_h11.protocol.types import TextContent

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


@dataclass
class Point:
    x: int


# A return annotation, a value, `structuredContent` and the texts of the blocks.
CASES: list[tuple[Any, Any, Any, list[str]]] = [
    (str, "a", {"result": "a"}, ["a"]),
    (None, None, {"result": None}, []),
    (int, 3, {"result": 3}, ["3"]),
    (bool, True, {"result": True}, ["true"]),
    (list[str], ["a", "b"], {"result": ["a", "b"]}, ["a", "b"]),
    (list[int], [], {"result": []}, []),
    (list[Point], [Point(1), Point(2)], {"result": [{"x": 1}, {"x": 2}]}, ['{"x":1}', '{"x":2}']),
    (list[list[int]], [[1, 2], [3]], {"result": [[1, 2], [3]]}, ["1", "2", "3"]),
    (tuple[str, int], ("a", 1), {"result": ["a", 1]}, ["a", "1"]),
    (str | None, None, {"result": None}, []),
    (Point, Point(1), {"x": 1}, ['{"x":1}']),
    (dict[str, int], {"a": 1}, {"a": 1}, ['{"a":1}']),
]


def returning(annotation: Any, value: Any) -> Any:
    async def tool() -> Any:
        return value

    tool.__annotations__ = {"return": annotation}
    return tool


def texts(result: Any) -> list[str]:
    return [block["text"] for block in result["content"]]


@pytest.mark.parametrize("number", range(len(CASES)))
async def test_a_tool_and_a_server_may_answer_as_the_official_sdk_does(number: int) -> None:
    annotation, value, structured, blocks = CASES[number]
    fn = returning(annotation, value)
    whole, one = MCPServer(structured_output=True), MCPServer()
    whole.add_tool(fn, "t")
    one.add_tool(fn, "t", structured_output=True)
    for server in (whole, one):
        async with served(server) as running, Legacy(running.port, LEGACY) as session:
            result = (await session.call("tools/call", call("t"))).result
            assert (result["structuredContent"], texts(result)) == (structured, blocks)
            (tool,) = (await session.call("tools/list")).result["tools"]
            schema = tool["outputSchema"]
            assert schema["type"] == "object"
            assert ("result" in schema.get("properties", {})) == ("result" in structured)
    # And so it does, but for the blanks in its JSON.
    converted: Any = func_metadata(fn, structured_output=True).convert_result(value)
    unstructured, theirs = (
        converted if isinstance(converted, tuple) else (converted.content, converted.structured_content)
    )
    assert theirs == structured
    assert ["".join(block.text.split()) for block in unstructured] == blocks


async def test_by_default_an_answer_stays_short() -> None:
    for server in (MCPServer(), MCPServer(structured_output=None)):
        server.add_tool(returning(str, "a"), "text")
        server.add_tool(returning(list[int], [1, 2]), "list")
        async with served(server) as running, Legacy(running.port, LEGACY) as session:
            short = (await session.call("tools/call", call("text"))).result
            assert short == {"content": [{"type": "text", "text": "a"}]}
            found = (await session.call("tools/call", call("list"))).result
            assert (found["structuredContent"], texts(found)) == ({"result": [1, 2]}, ["[1,2]"])


async def test_for_a_whole_server_it_is_a_wish_and_a_tool_may_differ() -> None:
    server = MCPServer(structured_output=True)
    server.add_tool(returning(Any, {"a": 1}), "any")
    server.add_tool(returning(TextContent, {"type": "text", "text": "x"}), "content")
    server.add_tool(returning(list[Image], []), "images")
    server.add_tool(returning(complex, 1j), "impossible")
    server.add_tool(returning(str, "a"), "off", structured_output=False)
    server.add_tool(returning(str, "a"), "own", output_schema={"type": "string"})
    with pytest.raises(TypeError):
        server.add_tool(returning(complex, 1j), "must", structured_output=True)
    async with served(server) as running, Legacy(running.port, LEGACY) as session:
        tools = (await session.call("tools/list")).result["tools"]
        assert [tool["name"] for tool in tools if "outputSchema" in tool] == ["own"]
        assert texts((await session.call("tools/call", call("off"))).result) == ["a"]
    without = MCPServer(structured_output=False)
    without.add_tool(returning(Point, Point(1)), "t")
    without.add_tool(returning(Point, Point(1)), "u", structured_output=True)
    async with served(without) as running, Legacy(running.port, LEGACY) as session:
        tools = (await session.call("tools/list")).result["tools"]
        assert [tool["name"] for tool in tools if "outputSchema" in tool] == ["u"]
