# SPDX-License-Identifier: MIT
"""Checks a JSON value against a JSON Schema (2020-12), as far as a schema that an author wrote for a tool needs it.

Known: type, enum, const, the bounds of numbers, strings, arrays and objects, properties, required,
additionalProperties, propertyNames, dependentRequired, items, prefixItems, contains, uniqueItems, anyOf, oneOf,
allOf, not, if/then/else, dependentSchemas, and $ref within the schema.  Everything else says nothing here: `format`
and `pattern` are for whoever fills the form in (a pattern is a regular expression over a client's data), `$dynamicRef`
and `unevaluated*` are beyond what a small checker should carry.

Rule: bounded work.  A check ends after `MAX_STEPS` steps or `MAX_DEPTH` levels, and says so; nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from .jsonreaders import MAX_PROBLEMS, Path, Problem, canonical, kind, nearest, render, shorten

MAX_STEPS = 200_000
MAX_DEPTH = 200


class _Exhausted(Exception):
    pass


def validate(schema: dict[str, Any] | bool, value: Any) -> list[str]:
    """What is wrong with `value`, one line each with its path, at most `MAX_PROBLEMS`; empty if it conforms."""
    check = _Check(schema)
    problems: list[Problem] = []
    try:
        check.run(schema, value, (), problems, 0)
    except _Exhausted as error:
        problems.append(((), str(error)))
    return [render(problem) for problem in problems[:MAX_PROBLEMS]]


def checker(schema: dict[str, Any]) -> Callable[[Any], list[str]] | None:
    """`validate` for this schema; None where nothing in it could refuse a value."""
    return partial(validate, schema) if _RULES.keys() & schema.keys() else None


def _is_type(value: Any, name: Any) -> bool:
    actual = kind(value)
    if actual == name:
        return True
    if name == "number":
        return actual == "integer"
    return bool(name == "integer" and actual == "number" and value.is_integer())


class _Check:
    def __init__(self, root: Any) -> None:
        self.root = root
        self.steps = 0

    def run(self, schema: Any, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS or depth > MAX_DEPTH:
            raise _Exhausted("too large or too deep to be checked against its schema")
        if schema is False:
            problems.append((path, "not allowed"))
        if not isinstance(schema, dict):
            return
        for keyword in schema:
            rule = _RULES.get(keyword)
            if rule is not None and len(problems) < MAX_PROBLEMS:
                rule(self, schema, value, path, problems, depth + 1)

    def passes(self, schema: Any, value: Any, depth: int) -> bool:
        problems: list[Problem] = []
        self.run(schema, value, (), problems, depth)
        return not problems

    def lookup(self, reference: Any) -> Any:
        """The schema that a local reference names.  True, which allows anything, where there is none."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        node = self.root
        if reference == "#":
            return node
        from urllib.parse import unquote  # few schemas refer to anything

        for raw in unquote(reference[2:]).split("/"):
            key = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return True
        return node


_Rule = Callable[[_Check, dict[str, Any], Any, Path, list[Problem], int], None]


def _type(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is_type(value, name) for name in names):
        problems.append((path, f"expected {' or '.join(map(str, names))}, got {kind(value)}"))


def _enum(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if canonical(value) not in {canonical(item) for item in schema["enum"]}:
        problems.append((path, f"expected one of {shorten(json.dumps(schema['enum'], ensure_ascii=False), 500)}"))


def _const(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if canonical(value) != canonical(schema["const"]):
        problems.append((path, f"expected {shorten(json.dumps(schema['const'], ensure_ascii=False), 500)}"))


def _ref(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    check.run(check.lookup(schema["$ref"]), value, path, problems, depth)


def _bound(keyword: str, holds: Callable[[Any, Any], bool], text: str) -> _Rule:
    def rule(
        check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
    ) -> None:
        if kind(value) in {"integer", "number"} and not holds(value, schema[keyword]):
            problems.append((path, f"expected {text} {schema[keyword]}"))

    return rule


def _size(keyword: str, of: str, at_least: bool, text: str) -> _Rule:
    def rule(
        check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
    ) -> None:
        limit = schema[keyword]
        if kind(value) == of and (len(value) < limit if at_least else len(value) > limit):
            problems.append((path, f"expected at {'least' if at_least else 'most'} {limit} {text}, got {len(value)}"))

    return rule


def _is_multiple(value: Any, of: Any) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    try:
        return bool((value / of).is_integer())
    except OverflowError:
        return False


def _required(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    if isinstance(value, dict):
        problems += [((*path, name), "missing") for name in schema["required"] if name not in value]


def _properties(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    if isinstance(value, dict):
        for name, rule in schema["properties"].items():
            if name in value:
                check.run(rule, value[name], (*path, name), problems, depth)


def _additional(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    # Which members patternProperties covers is not known here, so nothing is left that would be additional.
    if not isinstance(value, dict) or "patternProperties" in schema:
        return
    known = schema.get("properties", {})
    for name in value:
        if name in known:
            continue
        if schema["additionalProperties"] is False:
            problems.append(((*path, name), "unknown"))
        else:
            check.run(schema["additionalProperties"], value[name], (*path, name), problems, depth)
        if len(problems) >= MAX_PROBLEMS:
            return


def _property_names(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    if isinstance(value, dict):
        bad = [name for name in value if not check.passes(schema["propertyNames"], name, depth)]
        problems += [((*path, name), "not a name that is allowed here") for name in bad[:MAX_PROBLEMS]]


def _dependent(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    if isinstance(value, dict):
        for name, needed in schema.get("dependentRequired", {}).items():
            if name in value:
                problems += [((*path, other), f"missing, as {name} is there") for other in needed if other not in value]
        for name, rule in schema.get("dependentSchemas", {}).items():
            if name in value:
                check.run(rule, value, path, problems, depth)


def _items(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if not isinstance(value, list):
        return
    items = schema.get("items", True)
    # Drafts before 2020-12 wrote `items` as a list for what is `prefixItems` now.
    first = items if isinstance(items, list) else schema.get("prefixItems", [])
    rest = True if isinstance(items, list) else items
    for index, item in enumerate(value):
        check.run(first[index] if index < len(first) else rest, item, (*path, index), problems, depth)
        if len(problems) >= MAX_PROBLEMS:
            return


def _prefix(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if "items" not in schema:
        _items(check, schema, value, path, problems, depth)


def _contains(
    check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int
) -> None:
    if isinstance(value, list):
        count = sum(check.passes(schema["contains"], item, depth) for item in value)
        if not schema.get("minContains", 1) <= count <= schema.get("maxContains", len(value)):
            problems.append((path, f"{count} of the items are of the kind that is asked for"))


def _unique(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if isinstance(value, list) and schema["uniqueItems"] and len({canonical(item) for item in value}) < len(value):
        problems.append((path, "expected items that all differ"))


def _all_of(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    for rule in schema["allOf"]:
        check.run(rule, value, path, problems, depth)


def _any_of(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    tried: list[list[Problem]] = []
    for rule in schema["anyOf"]:
        found: list[Problem] = []
        check.run(rule, value, path, found, depth)
        if not found:
            return
        tried.append(found)
    problems += nearest(tried, path)


def _one_of(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    count = sum(check.passes(rule, value, depth) for rule in schema["oneOf"])
    if count > 1:
        problems.append((path, f"fits {count} of the alternatives, of which it may fit one only"))
    elif not count:
        _any_of(check, {"anyOf": schema["oneOf"]}, value, path, problems, depth)


def _not(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    if check.passes(schema["not"], value, depth):
        problems.append((path, "is what it must not be"))


def _if(check: _Check, schema: dict[str, Any], value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    branch = "then" if check.passes(schema["if"], value, depth) else "else"
    check.run(schema.get(branch, True), value, path, problems, depth)


_RULES: dict[str, _Rule] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _bound("minimum", lambda value, limit: value >= limit, "at least"),
    "maximum": _bound("maximum", lambda value, limit: value <= limit, "at most"),
    "exclusiveMinimum": _bound("exclusiveMinimum", lambda value, limit: value > limit, "more than"),
    "exclusiveMaximum": _bound("exclusiveMaximum", lambda value, limit: value < limit, "less than"),
    "multipleOf": _bound("multipleOf", _is_multiple, "a multiple of"),
    "minLength": _size("minLength", "string", True, "characters"),
    "maxLength": _size("maxLength", "string", False, "characters"),
    "minItems": _size("minItems", "array", True, "items"),
    "maxItems": _size("maxItems", "array", False, "items"),
    "minProperties": _size("minProperties", "object", True, "members"),
    "maxProperties": _size("maxProperties", "object", False, "members"),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "dependentRequired": _dependent,
    "dependentSchemas": lambda c, s, v, p, out, d: None if "dependentRequired" in s else _dependent(c, s, v, p, out, d),
    "items": _items,
    "prefixItems": _prefix,
    "contains": _contains,
    "uniqueItems": _unique,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "$ref": _ref,
}
