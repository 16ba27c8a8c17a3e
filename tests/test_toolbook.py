# SPDX-License-Identifier: MIT
"""What a client remembers of the tools that a server lists, and how many of them."""

from __future__ import annotations

import pytest

from mcp_h11 import toolbook
from mcp_h11.toolbook import ToolBook


def tool(name: str) -> dict[str, object]:
    schema = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
    return {"name": name, "inputSchema": schema}


def test_it_is_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbook, "MAX_KNOWN_TOOLS", 2)
    book = ToolBook()
    book.learn([tool("one"), tool("two")], mirrored=True)
    assert book.headers("one") is not None  # at the limit
    book.learn([tool("one"), tool("three")], mirrored=True)
    assert book.headers("two") is None  # one past it: listed longest ago
    assert book.headers("one") is not None and book.headers("three") is not None
