# SPDX-License-Identifier: MIT
"""Schemas as clients take them: an array has `items`, and a class stands in each place that uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, List, Literal, NamedTuple, Optional, Tuple, TypedDict, Union  # noqa: UP035

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.schema.documents.inlining import MAX_COPIES, inlined, reference, with_items
from mcp_h11.schema.signature import describe


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Line:
    start: Point
    end: Point
    tags: list


class Pair(NamedTuple):
    left: Point
    right: list[Any]


class Row(TypedDict):
    default: Point
    enum: list[Point]
    properties: Point


@dataclasses.dataclass
class Tree:
    value: Point
    left: Tree | None = None
    right: Tree | None = None


class Model(pydantic.BaseModel):
    pair: tuple[int, str]
    any: list
    point: Point


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    friends: list


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Union[Cat, Dog], pydantic.Field(discriminator="kind")]  # noqa: UP007

LEAVES = [
    list, list[Any], List, tuple, Tuple, set, frozenset, Sequence, Collection, Iterable, tuple[int, str], tuple[()],  # noqa: UP006
    tuple[Any, int], tuple[int, int], Point, Line, Pair, Row, Model, Cat, Literal["a"], int, str, Any, dict, Pet,
]  # fmt: skip
annotations = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda a: list[a]),  # type: ignore[valid-type]
        inner.map(lambda a: dict[str, a]),  # type: ignore[valid-type]
        inner.map(lambda a: tuple[a, ...]),  # type: ignore[valid-type]
        inner.map(lambda a: Mapping[str, a]),  # type: ignore[valid-type]
        inner.map(lambda a: Optional[a]),  # noqa: UP045
        inner.map(lambda a: Annotated[a, "said"]),
        st.tuples(inner, inner).map(lambda pair: tuple[pair[0], pair[1]]),  # type: ignore[misc]
    ),
    max_leaves=3,
)


def schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("type"), (str, list)):
            yield node
        for value in node.values():
            yield from schemas_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas_in(value)


def schema_of(*used: Any) -> dict[str, Any]:
    lines = ", ".join(f"a{n}" for n in range(len(used)))
    scope: dict[str, Any] = {}
    exec(f"def tool({lines}): ...", scope)
    scope["tool"].__annotations__ = {f"a{n}": annotation for n, annotation in enumerate(used)}
    return describe(scope["tool"]).input_schema


@given(annotations, annotations)
def test_every_array_has_items_and_nothing_is_referred_to(one: Any, two: Any) -> None:
    found = schema_of(one, two, one)
    jsonschema.Draft202012Validator.check_schema(found)
    for schema in schemas_in(found):
        if schema["type"] == "array":
            # VS Code asks for an object that is there.
            assert isinstance(schema.get("items"), dict)
    assert "$ref" not in repr(found) and "$defs" not in repr(found)


@given(annotations)
def test_results_as_well(annotation: Any) -> None:
    def tool() -> Any: ...

    tool.__annotations__["return"] = annotation
    found = describe(tool).output_schema or {}
    assert all(isinstance(schema.get("items"), dict) for schema in schemas_in(found) if schema["type"] == "array")
    assert "$ref" not in repr(found)


def test_what_contains_itself_keeps_its_name_and_nothing_else_does() -> None:
    found = schema_of(Tree, list[Tree], Point)
    assert list(found["$defs"]) == ["Tree"]
    assert found["$defs"]["Tree"]["properties"]["value"] == found["properties"]["a2"]
    assert found["properties"]["a1"] == {"type": "array", "items": {"$ref": "#/$defs/Tree"}}


def test_a_member_may_have_the_name_of_a_keyword() -> None:
    found = schema_of(Row, Point)
    point = found["properties"]["a1"]
    members = found["properties"]["a0"]["properties"]
    assert members == {"default": point, "enum": {"type": "array", "items": point}, "properties": point}


def test_data_is_no_schema() -> None:
    data = {"type": "array", "$ref": "#/$defs/A"}
    schema = {"default": data, "enum": [data], "const": data, "examples": [data], "type": "object"}
    assert inlined(schema, {"A": {"type": "null"}}) == schema


def test_a_discriminator_that_names_definitions_goes_with_them() -> None:
    found = schema_of(Pet)
    assert "#/$defs" not in repr(found)
    assert len(found["properties"]["a0"]["oneOf"]) == 2


def doubling(levels: int) -> dict[str, Any]:
    defs: dict[str, Any] = {"C0": {"type": "integer"}}
    for level in range(1, levels + 1):
        one = {"$ref": f"#/$defs/C{level - 1}"}
        defs[f"C{level}"] = {"type": "object", "properties": {"a": one, "b": one}}
    return defs


def test_copies_are_bounded_at_the_limit_and_not_before() -> None:
    # 1 + 2 + 4 + ... copies
    levels = MAX_COPIES.bit_length() - 2
    for more, kept in ((0, False), (1, True)):
        found = inlined({"$ref": f"#/$defs/C{levels + more}"}, doubling(levels + more))
        assert ("$defs" in found) is kept, more
    found = inlined({"properties": {"x": {"$ref": "#/$defs/C60"}}}, doubling(60))
    assert len(repr(found)) < 20_000
    many = {"properties": {f"p{n}": {"$ref": "#/$defs/C0"} for n in range(MAX_COPIES)}}
    assert "$defs" not in inlined(many, doubling(0))
    many["properties"]["more"] = {"$ref": "#/$defs/C0"}
    assert list(inlined(many, doubling(0))["$defs"]) == ["C0"]


def test_the_top_is_an_object_also_where_it_contains_itself() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}
    found = inlined({"$ref": "#/$defs/N", "description": "d"}, {"N": node})
    assert found == {**node, "description": "d", "$defs": {"N": node}}


def test_references_to_elsewhere_stay() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/Foreign"}, "b": {"$ref": "https://example.com"}}}
    assert inlined(schema, {}) == schema
    assert reference({"$ref": {"type": "string"}}) == ""


@pytest.mark.parametrize(
    ("schema", "items"),
    [
        ({"type": "array"}, {}),
        ({"type": ["array", "null"]}, {}),
        ({"type": "array", "items": False}, False),
        ({"type": "array", "prefixItems": [{"type": "null"}]}, {}),
        ({"type": "array", "prefixItems": [{"type": "null"}], "maxItems": 1}, {"type": "null"}),
        ({"type": "array", "prefixItems": [{}, {"type": "null"}], "maxItems": 2}, {}),
        ({"type": "object"}, None),
        ({"type": ["string"]}, None),
    ],
)
def test_items_are_those_of_the_places_where_nothing_else_can_come(schema: Any, items: Any) -> None:
    assert with_items(schema).get("items") == items
