# SPDX-License-Identifier: MIT
"""The keywords of JSON Schema (2020-12) that a check knows: each makes a rule of its value.

Known: type, enum, const, the bounds of numbers, strings, arrays and objects, properties, required,
additionalProperties, propertyNames, dependentRequired, items, prefixItems, contains, uniqueItems, anyOf, oneOf,
allOf, not, if/then/else, dependentSchemas, and $ref within the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .equality import all_differ, canonical
from .mismatch import MAX_PROBLEMS, Path, Problem, kind, nearest, shorten
from .work import spend

MAX_DEPTH = 200
_NAME = -1  # after a member's name in a path: the name itself, and not the member's value


class TooDeep(Exception):
    pass


class Node:
    """A compiled subschema: without rules it allows anything."""

    __slots__ = ("cost", "rules")

    def __init__(self) -> None:
        self.rules: tuple[Rule, ...] = ()
        self.cost = 2


class Run:
    """One check of one value."""

    def __init__(self) -> None:
        # The problems that the target of a reference finds at a place in the value; None while they are looked for.
        self.memo: dict[tuple[Node, Path], list[Problem] | None] = {}

    def visit(self, node: Node, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        spend(node.cost)
        if depth > MAX_DEPTH:
            raise TooDeep
        for rule in node.rules:
            if len(problems) >= MAX_PROBLEMS:
                return
            rule(self, value, path, problems, depth + 1)

    # A problem in here is the answer to a question, and none of the value's: `not`, `if` and `contains` only ask.
    def passes(self, node: Node, value: Any, path: Path, depth: int) -> bool:
        problems: list[Problem] = []
        self.visit(node, value, path, problems, depth)
        return not problems


Rule = Callable[[Run, Any, Path, list[Problem], int], None]


class Compiling(Protocol):
    """The schema that is being compiled, as far as the rule of a keyword needs it."""

    def compile(self, schema: Any) -> Node:
        """The rules of a subschema."""

    def compile_all(self, schemas: Any) -> list[Node]:
        """Those of a list of subschemas."""

    def compile_members(self, schemas: Any) -> dict[str, Node]:
        """Those of an object of subschemas."""

    def target(self, reference: str) -> Node:
        """The subschema that a local reference names."""


def refuse_any(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
    problems.append((path, "not allowed"))


# Each function below makes the rule of one keyword, or None where the keyword refuses no value.


def _simple(bad: Callable[[Any], bool], text: str) -> Rule:
    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if bad(value):
            problems.append((path, text))

    return rule


def _type(made: Compiling, schema: dict[str, Any]) -> Rule:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    # JSON Schema 2020-12 Validation, 6.1.1: an integer is a number, and 1.0 is an integer.
    kinds = frozenset(map(str, names)) | ({"integer"} if "number" in names else set())
    whole = "integer" in kinds
    expected = f"expected {' or '.join(map(str, names))}"

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        actual = kind(value)
        if actual not in kinds and not (whole and actual == "number" and value.is_integer()):
            problems.append((path, f"{expected}, got {actual}"))

    return rule


def _one_of_values(values: list[Any], text: str) -> Rule:
    known = frozenset(map(canonical, values))
    scalar = not any(isinstance(value, (list, dict)) for value in values)

    def bad(value: Any) -> bool:
        # Writing a container out is work, which is saved where all known values are scalars.
        return (scalar and isinstance(value, (list, dict))) or canonical(value) not in known

    return _simple(bad, text)


def _enum(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    values = schema["enum"]
    if not isinstance(values, list):
        return None
    return _one_of_values(values, f"expected one of {shorten(json.dumps(values, ensure_ascii=False), 500)}")


def _const(made: Compiling, schema: dict[str, Any]) -> Rule:
    value = schema["const"]
    return _one_of_values([value], f"expected {shorten(json.dumps(value, ensure_ascii=False), 500)}")


def _ref(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    reference = schema["$ref"]
    # Nothing is fetched: a reference to another document is ignored.
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node = made.target(reference)

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        # The path is hashed, which costs by its length.
        spend(len(path) / 8)
        key = (node, path)
        if key in run.memo:
            found = run.memo[key]
            if found is None:
                raise TooDeep  # the schema refers to itself without going into the value, and would for ever
        else:
            run.memo[key] = None
            found = []
            run.visit(node, value, path, found, depth)
            run.memo[key] = found
        problems += found

    return rule


_Make = Callable[[Compiling, dict[str, Any]], "Rule | None"]


def _bound(keyword: str, holds: Callable[[Any, Any], bool], text: str) -> _Make:
    def make(made: Compiling, schema: dict[str, Any]) -> Rule | None:
        limit = schema[keyword]
        # By `kind`, because True is an int of Python and no number of JSON.
        if kind(limit) not in {"integer", "number"}:
            return None
        return _simple(
            lambda value: kind(value) in {"integer", "number"} and not holds(value, limit), f"expected {text} {limit}"
        )

    return make


def _size(keyword: str, of: str, at_least: bool, text: str) -> _Make:
    def make(made: Compiling, schema: dict[str, Any]) -> Rule | None:
        limit = schema[keyword]
        if kind(limit) not in {"integer", "number"}:
            return None
        expected = f"expected at {'least' if at_least else 'most'} {limit} {text}"

        def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
            # JSON Schema 2020-12 Validation, 6.3.1: characters are those of RFC 8259, code points as in Python.
            if kind(value) == of and (len(value) < limit if at_least else len(value) > limit):
                problems.append((path, f"{expected}, got {len(value)}"))

        return rule

    return make


def _is_multiple(value: Any, of: Any) -> bool:
    # Integers apart: a division of large ones as floats is not exact.
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    try:
        return bool((value / of).is_integer())
    except OverflowError:
        return False


def _multiple(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    # 6.2.1: "strictly greater than 0".  A zero is malformed, so it is ignored, and divides nothing.
    return _bound("multipleOf", _is_multiple, "a multiple of")(made, schema) if schema["multipleOf"] else None


def _required(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    names = schema["required"]
    if not isinstance(names, list):
        return None

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if isinstance(value, dict):
            missing = [name for name in names if name not in value]
            problems += [((*path, name), "missing") for name in missing[:MAX_PROBLEMS]]

    return rule


def _properties(made: Compiling, schema: dict[str, Any]) -> Rule:
    members = made.compile_members(schema["properties"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if not isinstance(value, dict):
            return
        # Walk through the shorter of the two: a thousand properties must not cost each of many empty objects.
        names = members if len(members) <= len(value) else value
        spend(len(names) / 4)
        for name in names:
            if name in value and name in members:
                run.visit(members[name], value[name], (*path, name), problems, depth)

    return rule


def _additional(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    # `pattern` is ignored here, so any member may be one of patternProperties, and none is known to be additional.
    node = made.compile(schema["additionalProperties"])
    if "patternProperties" in schema or not node.rules:
        return None
    known = schema.get("properties")
    known = known if isinstance(known, dict) else {}
    unknown = schema["additionalProperties"] is False

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if not isinstance(value, dict):
            return
        spend(len(value) / 4)
        for name in value:
            if name in known:
                continue
            if unknown:
                problems.append(((*path, name), "unknown"))
            else:
                run.visit(node, value[name], (*path, name), problems, depth)
            if len(problems) >= MAX_PROBLEMS:
                return

    return rule


def _property_names(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    node = made.compile(schema["propertyNames"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        for name in value if isinstance(value, dict) else ():
            if not run.passes(node, name, (*path, name, _NAME), depth):
                problems.append(((*path, name), "not a name that is allowed here"))
                if len(problems) >= MAX_PROBLEMS:
                    return

    return rule if node.rules else None


def _dependent_required(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    needs = schema["dependentRequired"]
    if not isinstance(needs, dict) or not all(isinstance(names, list) for names in needs.values()):
        return None

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if not isinstance(value, dict):
            return
        spend(len(needs))
        for name, needed in needs.items():
            if name in value:
                spend(len(needed))
                # Only as many as the answer shows.
                missing = [other for other in needed if other not in value]
                problems += [((*path, other), f"missing, as {name} is there") for other in missing[:MAX_PROBLEMS]]

    return rule


def _dependent_schemas(made: Compiling, schema: dict[str, Any]) -> Rule:
    nodes = made.compile_members(schema["dependentSchemas"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if isinstance(value, dict):
            spend(len(nodes))
            for name, node in nodes.items():
                if name in value:
                    run.visit(node, value, path, problems, depth)

    return rule


def _items(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    items = schema.get("items", True)
    # Drafts before 2020-12 wrote `prefixItems` as `items` with a list.
    first = made.compile_all(items if isinstance(items, list) else schema.get("prefixItems"))
    rest = made.compile(True if isinstance(items, list) else items)
    if not rest.rules and not any(node.rules for node in first):
        return None
    return _items_rule(first, rest)


def _items_rule(first: list[Node], rest: Node) -> Rule:
    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if not isinstance(value, list):
            return
        for index, item in enumerate(value if rest.rules else value[: len(first)]):
            run.visit(first[index] if index < len(first) else rest, item, (*path, index), problems, depth)
            if len(problems) >= MAX_PROBLEMS:
                return

    return rule


def _prefix(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    return None if "items" in schema else _items(made, schema)


def _contains(made: Compiling, schema: dict[str, Any]) -> Rule:
    node = made.compile(schema["contains"])
    # JSON Schema 2020-12 Validation, 6.4.5: without minContains one item is enough.
    least, most = schema.get("minContains", 1), schema.get("maxContains")

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if isinstance(value, list):
            count = sum(run.passes(node, item, (*path, index), depth) for index, item in enumerate(value))
            if not least <= count <= (len(value) if most is None else most):
                problems.append((path, f"{count} of the items are of the kind that is asked for"))

    return rule


def _unique(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    if not schema["uniqueItems"]:
        return None
    return _simple(
        lambda value: isinstance(value, list) and not all_differ(value),
        "expected items that all differ",
    )


def _all_of(made: Compiling, schema: dict[str, Any]) -> Rule:
    nodes = made.compile_all(schema["allOf"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        for node in nodes:
            run.visit(node, value, path, problems, depth)

    return rule


def _any_of(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    nodes = made.compile_all(schema["anyOf"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        tried: list[list[Problem]] = []
        # The first alternative that fits ends the search.
        for node in nodes:
            found: list[Problem] = []
            run.visit(node, value, path, found, depth)
            if not found:
                return
            spend(len(found))
            tried.append(found)
        problems += nearest(tried, path)

    return rule if isinstance(schema["anyOf"], list) else None


def _one_of(made: Compiling, schema: dict[str, Any]) -> Rule | None:
    nodes = made.compile_all(schema["oneOf"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        tried: list[list[Problem]] = []
        # All are tried, because a second one that fits is a problem too.
        for node in nodes:
            found: list[Problem] = []
            run.visit(node, value, path, found, depth)
            spend(len(found))
            tried.append(found)
        count = tried.count([])
        if count > 1:
            problems.append((path, f"fits {count} of the alternatives, of which it may fit one only"))
        elif not count:
            problems += nearest(tried, path)

    return rule if isinstance(schema["oneOf"], list) else None


def _not(made: Compiling, schema: dict[str, Any]) -> Rule:
    node = made.compile(schema["not"])

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        if run.passes(node, value, path, depth):
            problems.append((path, "is what it must not be"))

    return rule


def _if(made: Compiling, schema: dict[str, Any]) -> Rule:
    condition = made.compile(schema["if"])
    # 2020-12 Core, 10.2.2: a missing `then` or `else` allows everything.
    then, otherwise = made.compile(schema.get("then", True)), made.compile(schema.get("else", True))

    def rule(run: Run, value: Any, path: Path, problems: list[Problem], depth: int) -> None:
        run.visit(then if run.passes(condition, value, path, depth) else otherwise, value, path, problems, depth)

    return rule


# Keywords with a list, where each entry is work for each value.
SIZED = ("required", "prefixItems", "allOf", "anyOf", "oneOf")
RULES: Mapping[str, _Make] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minimum": _bound("minimum", lambda value, limit: value >= limit, "at least"),
    "maximum": _bound("maximum", lambda value, limit: value <= limit, "at most"),
    "exclusiveMinimum": _bound("exclusiveMinimum", lambda value, limit: value > limit, "more than"),
    "exclusiveMaximum": _bound("exclusiveMaximum", lambda value, limit: value < limit, "less than"),
    "multipleOf": _multiple,
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
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "items": _items,
    "prefixItems": _prefix,
    "contains": _contains,
    "uniqueItems": _unique,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    # `then` and `else` are read with `if`, and `minContains` and `maxContains` with `contains`.
    "if": _if,
    "$ref": _ref,
}
