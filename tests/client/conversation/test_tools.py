# SPDX-License-Identifier: MIT
"""What a client remembers of the tools that a server lists, and how many of them."""

from __future__ import annotations

import pytest

from mcp_h11.bridge import mirrored
from mcp_h11.bridge.mirrored import MirroredArguments
from mcp_h11.client.conversation import tools as tools_module
from mcp_h11.client.conversation.tools import KnownTools


def tool(name: str) -> dict[str, object]:
    schema = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
    return {"name": name, "inputSchema": schema}


def test_it_is_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools_module, "MAX_KNOWN_TOOLS", 2)
    tools = KnownTools()
    tools.learn([tool("one"), tool("two")], mirrored=True)
    assert tools.headers("one") is not None  # at the limit
    tools.learn([tool("one"), tool("three")], mirrored=True)
    assert tools.headers("two") is None  # one past it: listed longest ago
    assert tools.headers("one") is not None and tools.headers("three") is not None


def test_what_it_keeps_of_tools_is_bounded_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    size = tools_module.size_of("one", {("a",): "A"})
    monkeypatch.setattr(tools_module, "MAX_KNOWN_SIZE", 2 * size)
    tools = KnownTools()
    for _ in range(3):  # listed again, a tool takes its own place
        tools.learn([tool("one"), tool("two")], mirrored=True)
    assert tools.headers("one") is not None and tools.headers("two") is not None  # at the limit
    monkeypatch.setattr(tools_module, "MAX_KNOWN_SIZE", 2 * size - 1)
    tools.learn([tool("two")], mirrored=True)
    assert tools.headers("one") is None and tools.headers("two") is not None  # one past it
    tools.learn([tool("x" * 2 * size)], mirrored=True)  # one alone is too much
    assert tools.headers("two") is None and tools.headers("x" * 2 * size) is None
    tools.learn(
        [{"name": "two", "inputSchema": {"properties": {"a": {"x-mcp-header": "A"}}}}], mirrored=True
    )  # no type
    tools.learn([tool("one")], mirrored=True)
    assert tools.headers("one") is not None and tools._size == size


def test_a_bridge_keeps_as_much_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    size = tools_module.size_of("one", {("a",): "A"})
    monkeypatch.setattr(mirrored, "MAX_KNOWN_SIZE", 2 * size)
    learnt = MirroredArguments()
    for _ in range(3):
        learnt.learn([tool("one"), tool("two")])
    assert learnt.get("one") and learnt.get("two")
    learnt.learn([tool("six")])
    assert learnt.get("six") is None
    learnt.learn([{"name": "one", "inputSchema": {}}, tool("six")])
    assert learnt.get("one") is None and learnt.get("six") and learnt._size == 2 * size
