# SPDX-License-Identifier: MIT
"""Portable schemas have only words that every known client takes, and refuse nothing that the exact ones allow."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import jsonschema
import pydantic
import pytest
from hypothesis import given
from rawclient import Modern
from schema_strategies import LEAVES, schemas, values
from serving import served
from test_inlining import annotations, doubling, schema_of

from mcp_h11 import MCPServer, ParamHeader
from mcp_h11.schema.documents.portable import ANYTHING, FORMATS, KEPT, portable


def every(schema: Any) -> Any:
    """All subschemas of a portable schema."""
    yield schema
    for key, value in schema.items():
        if key == "properties":
            for member in value.values():
                yield from every(member)
        elif key == "items":
            yield from every(value)
        elif key == "anyOf":
            for arm in value:
                yield from every(arm)


def check_words(schema: Any, *, typed: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    for one in every(schema):
        assert isinstance(one, dict)
        assert one.keys() <= KEPT | {"format"}
        assert one.get("format", "date-time") in FORMATS
        assert not isinstance(one.get("type"), list)
        assert all(isinstance(value, str) for value in one.get("enum", ()))
        if one.get("type") == "array":
            assert isinstance(one.get("items"), dict)
        assert set(one.get("required", ())) <= one.get("properties", {}).keys()
        if typed:
            assert "type" in one or "anyOf" in one


@given(annotations, annotations)
def test_arguments_have_only_words_that_all_clients_take(one: Any, two: Any) -> None:
    found = portable(schema_of(one, two))
    check_words(found, typed=True)
    assert "properties" in found


@given(schemas, values)
def test_results_that_conform_conform_to_the_portable_schema_as_well(schema: Any, value: Any) -> None:
    exact = {**schema, "$defs": LEAVES}
    made = portable(exact, result=True)
    check_words(made, typed=False)
    if jsonschema.Draft202012Validator(exact).is_valid(value):
        assert jsonschema.Draft202012Validator(made).is_valid(value), made


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree]


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (Literal["a"], {"type": "string", "enum": ["a"]}),
        (Literal[1], {"type": "integer", "description": "one of 1"}),
        (Size, {"type": "integer", "description": "one of 1, 2"}),
        (
            Literal["a", 1, None],
            {
                "anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer"}, {"type": "null"}],
                "description": 'one of "a", 1, null',
            },
        ),
        (
            tuple[int, str],
            {
                "type": "array",
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "minItems": 2,
                "maxItems": 2,
                "description": "in this order: integer, string",
            },
        ),
        (set[str], {"type": "array", "items": {"type": "string"}, "description": "all different"}),
        (dict[str, int], {"type": "object", "description": "members of any name, each: integer"}),
        (bytes, {"type": "string", "description": "in base64"}),
        (uuid.UUID, {"type": "string", "description": "format: uuid"}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (Decimal, {"anyOf": [{"type": "number"}, {"type": "string"}]}),
        (Annotated[int, pydantic.Field(gt=0, lt=9)], {
            "type": "integer", "minimum": 0, "maximum": 9, "description": "more than 0; less than 9",
        }),
        (Annotated[int, "How many", {"multipleOf": 2}], {
            "type": "integer", "description": "How many (a multiple of 2)",
        }),
        (Any, ANYTHING),
        (Tree, {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["value", "children"],
        }),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_schema_cannot_say_is_said_in_words(annotation: Any, shown: Any) -> None:
    assert portable(schema_of(annotation))["properties"]["a0"] == shown


def test_what_may_be_left_out_need_not_be_null() -> None:
    server = MCPServer(portable_schemas=True)

    @server.tool
    def find(a: int | None, b: int | None = None, c: int | str | None = None, d: None = None, e: int = 3) -> None: ...

    listed = server._catalogue.tools["find"].definition["inputSchema"]
    assert listed == {
        "type": "object",
        "properties": {
            "a": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "b": {"type": "integer", "description": "default: null"},
            "c": {"anyOf": [{"type": "integer"}, {"type": "string"}], "description": "default: null"},
            "d": {"type": "null", "description": "default: null"},
            "e": {"type": "integer", "description": "default: 3"},
        },
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": ["integer", "null"], "minimum": 1, "description": "d", "default": 1}, {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null", "minimum": 1}], "description": "d",
        }),
        ({"oneOf": [{"type": "null"}, False]}, {"anyOf": [{"type": "null"}, {}]}),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]},
                    {"properties": {"b": {}}, "required": ["a", "b"]}, True]},
         {"type": "object", "properties": {"b": {}, "a": {"type": "null"}}, "required": ["a", "b"]}),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "string"}},
         {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "string"}]}}),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": False},
         {"type": "array", "items": {"type": "null"}}),
        ({"type": "array", "prefixItems": []}, {"type": "array", "items": {}}),
        ({"enum": [[1], {"a": 1}, 1.5, True]}, {
            "anyOf": [{"type": "array", "items": {}}, {"type": "object"}, {"type": "number"}, {"type": "boolean"}],
            "description": 'one of [1], {"a": 1}, 1.5, true',
        }),
        ({"enum": [], "required": "p", "properties": {}}, {"properties": {}}),
        ({"$ref": "#/$defs/missing", "type": "string"}, {"type": "string"}),
        ({"$ref": "https://example.com"}, {}),
        ({"$schema": "x", "title": "t", "not": {}, "if": {}, "examples": [1], "x-other": 1}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_schemas_of_the_users(schema: Any, shown: Any) -> None:
    assert portable({"type": "object", "properties": {"p": schema}}, result=True)["properties"]["p"] == shown


def test_long_values_are_cut() -> None:
    found = portable({"type": "object", "properties": {"p": {"default": "x" * 1_000}}})
    assert len(found["properties"]["p"]["description"]) < 300


def test_what_doubles_at_each_level_is_bounded() -> None:
    schema = {"type": "object", "properties": {"p": {"$ref": "#/$defs/C60"}}, "$defs": doubling(60)}
    assert len(repr(portable(schema))) < 500_000


@pytest.mark.anyio
async def test_portable_schemas_are_listed_and_the_exact_ones_hold() -> None:
    server = MCPServer("demo", portable_schemas=True, strict=True)

    @server.tool
    async def exact(kind: Literal[1, 2], region: Annotated[str, ParamHeader("Region")]) -> tuple[int, str]:
        return kind, region

    @server.tool(input_schema={"type": "object", "properties": {"n": {"const": 1}}, "additionalProperties": False})
    async def own(n: int = 1) -> str:
        return str(n)

    async with served(server) as running:
        client = Modern(running.port)
        tools = {tool["name"]: tool for tool in (await client.call("tools/list")).result["tools"]}
        for tool in tools.values():
            check_words(tool["inputSchema"], typed=True)
        check_words(tools["exact"]["outputSchema"], typed=False)
        assert tools["exact"]["inputSchema"]["properties"]["region"]["x-mcp-header"] == "Region"
        refused = await client.call("tools/call", {"name": "own", "arguments": {"n": 2}})
        assert refused.result["isError"]
        refused = await client.call("tools/call", {"name": "own", "arguments": {"n": 1, "m": 1}})
        assert refused.result["isError"]
        headers = {"Mcp-Param-Region": "eu"}
        call = {"name": "exact", "arguments": {"kind": 3, "region": "eu"}}
        assert (await client.call("tools/call", call, headers=headers)).result["isError"]
        call["arguments"] = {"kind": 2, "region": "eu"}
        answer = await client.call("tools/call", call, headers=headers)
        assert answer.result["structuredContent"] == {"result": [2, "eu"]}
        jsonschema.validate(answer.result["structuredContent"], tools["exact"]["outputSchema"])
