# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from schema_strategies import LEAVES, schemas, values

from mcp_h11.schema.documents.keywords import MAX_DEPTH
from mcp_h11.schema.documents.mismatch import MAX_PROBLEMS
from mcp_h11.schema.documents.validator import MAX_STEPS, checker, validate


@given(schemas, values)
def test_a_value_conforms_exactly_where_the_reference_implementation_says_so(schema: Any, value: Any) -> None:
    schema = {**schema, "$defs": LEAVES}
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (validate(schema, value) == []) == expected


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({"type": "integer"}, True, ["expected integer, got boolean"]),
        ({"type": "integer"}, 1.0, []),
        ({"type": ["string", "null"]}, 1, ["expected string or null, got integer"]),
        ({"type": "number"}, 1, []),
        ({"type": "number"}, True, ["expected number, got boolean"]),
        ({"type": "number"}, "1", ["expected number, got string"]),
        ({"const": 1}, True, ["expected 1"]),
        ({"const": 1}, 1.0, []),
        ({"enum": ["é"]}, "e", ['expected one of ["é"]']),
        ({"minimum": 1}, 0, ["expected at least 1"]),
        ({"maximum": 1}, 2, ["expected at most 1"]),
        ({"exclusiveMinimum": 1}, 1, ["expected more than 1"]),
        ({"minimum": 1}, "0", []),
        ({"multipleOf": 1e-300}, 1e300, ["expected a multiple of 1e-300"]),
        ({"multipleOf": 0.5}, 10**400, ["expected a multiple of 0.5"]),
        ({"maxLength": 1}, "ab", ["expected at most 1 characters, got 2"]),
        ({"properties": {"a": {"items": {"type": "null"}}}}, {"a": [None, 1]}, ["a[1]: expected null, got integer"]),
        ({"required": ["a"]}, {}, ["a: missing"]),
        ({"additionalProperties": False}, {"a" * 65: 1}, ["a" * 63 + "…: unknown"]),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 1}, ["b: unknown"]),
        ({"patternProperties": {"a": True}, "additionalProperties": False}, {"b": 1}, []),
        ({"items": [{"type": "null"}], "additionalItems": False}, [1, 2], ["[0]: expected null, got integer"]),
        ({"$ref": "https://example.com/schema"}, 1, []),
        ({"$ref": "#/nowhere"}, 1, []),
        ({"$ref": "#anchor"}, 1, []),
        ({"$ref": 1}, 1, []),
        ({"allOf": [{"$ref": "#/x/1"}], "x": [True, {"type": "null"}]}, 1, ["expected null, got integer"]),
        ({"allOf": [{"$ref": "#/x/9"}], "x": []}, 1, []),
        ({"pattern": "(a+)+$", "format": "email"}, "b", []),
        ({"anyOf": [{"type": "null"}, {"minimum": 1}]}, 0, ["expected null, got integer; or expected at least 1"]),
        (
            {"anyOf": [{"type": "null"}, {"properties": {"a": {"type": "null"}}}]},
            {"a": 1},
            ["a: expected null, got integer"],
        ),
        ({"anyOf": [{"type": "null"}, {}]}, 0, []),
        ({"anyOf": []}, 0, ["nothing is allowed here"]),
        ({"oneOf": [True, {}]}, 0, ["fits 2 of the alternatives, of which it may fit one only"]),
        ({"oneOf": [{"type": "null"}, {"minimum": 1}]}, 0, ["expected null, got integer; or expected at least 1"]),
        ({"oneOf": [{"type": "null"}, {"minimum": 1}]}, 1, []),
        ({"not": {}}, 0, ["is what it must not be"]),
        ({"if": {"type": "null"}, "then": False, "else": {"type": "null"}}, None, ["not allowed"]),
        ({"multipleOf": 2}, 3, ["expected a multiple of 2"]),
        ({"multipleOf": 2}, 4, []),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, ["b: missing, as a is there"]),
        ({"dependentSchemas": {"a": False}}, {"a": 1}, ["not allowed"]),
        ({"dependentSchemas": {"a": False}}, {"b": 1}, []),
        ({"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": False}}, ["a"], []),
        ({"dependentRequired": {"a": ["b"]}}, {"b": 1}, []),
        ({"propertyNames": False}, ["a"], []),
        ({"contains": False, "uniqueItems": True, "items": False, "prefixItems": [False]}, {"a": 1}, []),
        ({"properties": {"a": False}, "required": ["a"]}, ["a"], []),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1, "a": 1}, ["ab: not a name that is allowed here"]),
        ({"prefixItems": [{"type": "null"}]}, [1, 1], ["[0]: expected null, got integer"]),
        ({"prefixItems": [True], "items": {"type": "null"}}, [1, 1], ["[1]: expected null, got integer"]),
        ({"contains": {"type": "null"}}, [1], ["0 of the items are of the kind that is asked for"]),
        ({"contains": {}, "minContains": 0, "maxContains": 1}, [1], []),
        ({"uniqueItems": True}, [1, 1.0], ["expected items that all differ"]),
        ({"uniqueItems": False}, [1, 1.0], []),
        (False, 1, ["not allowed"]),
        (True, 1, []),
    ],
)
def test_problems_say_where_and_what(schema: Any, value: Any, problems: list[str]) -> None:
    assert validate(schema, value) == problems


def test_a_schema_that_refuses_nothing_has_no_checker() -> None:
    assert checker({"description": "d", "pattern": "a", "x-mcp-header": "A"}) is None
    check = checker({"minimum": 1})
    assert check is not None
    assert check(0) == ["expected at least 1"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"type": "null"}}, [1] * 1000),
        ({"additionalProperties": False}, {str(n): 1 for n in range(1000)}),
        ({"additionalProperties": {"type": "null"}}, {str(n): 1 for n in range(1000)}),
        ({"propertyNames": {"maxLength": 0}}, {str(n): 1 for n in range(1000)}),
        ({"required": [str(n) for n in range(1000)]}, {}),
    ],
)
def test_the_number_of_problems_is_bounded(schema: Any, value: Any) -> None:
    assert len(validate(schema, value)) == MAX_PROBLEMS


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_bounded_at_the_limit_and_not_before() -> None:
    schema = {"items": {"$ref": "#"}}  # two levels for each of the value's
    assert validate(schema, nested(MAX_DEPTH // 2)) == []
    assert validate(schema, nested(MAX_DEPTH // 2 + 1)) == ["too large or too deep to be checked against its schema"]


def test_a_reference_to_itself_ends() -> None:
    assert validate({"$ref": "#"}, 1) == ["too large or too deep to be checked against its schema"]
    assert validate({"not": {"$ref": "#"}}, 1) == ["too large or too deep to be checked against its schema"]


def test_work_is_bounded_at_the_limit_and_not_before() -> None:
    # The array costs two units (a look, one rule), and so does each item.
    schema: dict[str, Any] = {"items": {"type": "integer"}}
    assert validate(schema, [0] * (MAX_STEPS // 2 - 1)) == []
    assert validate(schema, [0] * (MAX_STEPS // 2)) == ["too large or too deep to be checked against its schema"]
    assert validate({"items": True}, [0] * (MAX_STEPS + 1)) == []  # nothing to look at


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": "abc", "required": "a", "minimum": "1", "maxLength": "1", "multipleOf": 0, "anyOf": {}, "oneOf": {}},
        {"properties": [], "dependentRequired": {"a": "b"}, "dependentSchemas": [], "allOf": {}, "$ref": 1},
        {"additionalProperties": {}, "propertyNames": {}, "items": {}, "prefixItems": {}, "uniqueItems": False},
    ],
)
def test_a_malformed_keyword_says_nothing(schema: Any) -> None:
    assert validate(schema, 5) == validate(schema, {"a": 1}) == validate(schema, [1]) == validate(schema, "ab") == []
