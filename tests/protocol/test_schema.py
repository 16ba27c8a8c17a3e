# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import get_args, get_type_hints

from mcp_h11.protocol import types as schema
from mcp_h11.protocol.content import CONTENT_TYPES


def test_content_types_are_those_of_the_union() -> None:
    kinds = {get_args(get_type_hints(block)["type"])[0] for block in get_args(schema.ContentBlock)}
    assert kinds == CONTENT_TYPES


def test_required_members_are_the_specifications() -> None:
    assert schema.Tool.__required_keys__ == {"name", "inputSchema"}
    assert schema.ResourceLink.__required_keys__ == {"type", "uri", "name"}
    assert schema.CallToolResult.__required_keys__ == {"content"}
    assert "_meta" in schema.TextContent.__optional_keys__
