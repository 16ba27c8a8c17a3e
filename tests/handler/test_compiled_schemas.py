# SPDX-License-Identifier: MIT
"""Which schemas of a tool are compiled: those that a value is held to, since each is kept as long as the tool."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_h11 import MCPServer
from mcp_h11.handler import functions

OWN = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    schemas: list[Any] = []
    checker = functions.checker

    def noted(schema: Any) -> Any:
        schemas.append(schema)
        return checker(schema)

    monkeypatch.setattr(functions, "checker", noted)
    return schemas


def test_the_readers_of_a_signature_check_and_not_its_schema(compiled: list[Any]) -> None:
    server = MCPServer("many")
    for number in range(3):
        server.add_tool(lambda a: str(a), name=f"tool_{number}", structured_output=False)
    assert [schema for schema in compiled if schema.get("properties")] == []


def test_a_schema_of_the_users_is_compiled_once_for_its_tool(compiled: list[Any]) -> None:
    MCPServer("one").add_tool(lambda a: str(a), name="tool", input_schema=OWN, structured_output=False)
    assert [schema for schema in compiled if schema.get("properties")] == [OWN]
