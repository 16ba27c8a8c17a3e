# SPDX-License-Identifier: MIT
"""Checks a JSON value against a JSON Schema (2020-12), as far as an author's schema for a tool needs it.

Known: type, enum, const, the bounds of numbers, strings, arrays and objects, properties, required,
additionalProperties, propertyNames, dependentRequired, items, prefixItems, contains, uniqueItems, anyOf, oneOf,
allOf, not, if/then/else, dependentSchemas, and $ref within the schema.  Every other keyword is ignored.
`format` and `pattern` are for the program that fills a form in, and a pattern would run a regular expression over a
client's data.  `$dynamicRef` and `unevaluated*` are more than a small checker should carry.  A keyword with a malformed
value is ignored too.

Rule: bounded work.  A schema is compiled once, with the sets of its enumerations.  A check looks at each value once
for each subschema, and pays for that with `work.spend`.  The result of a reference at a place is kept while the check
runs, since alternatives that refer to each other would double the work at each level.  No reference is ever fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .keywords import RULES, SIZED, Node, Run, TooDeep, refuse_any
from .mismatch import MAX_PROBLEMS, Problem, render
from .work import TooMuchWork, is_bounded, within

MAX_STEPS = 200_000  # units of work, where the caller has set no bound of its own
TOO_LARGE = "too large or too deep to be checked against its schema"


def validate(schema: dict[str, Any] | bool, value: Any) -> list[str]:
    """The faults of `value`, one line each with its path, at most `MAX_PROBLEMS`; empty if it conforms.

    For a schema that is used again take `checker`, which compiles it once.  Raises as `CompiledSchema` does.
    """
    return CompiledSchema(schema)(value)


def checker(schema: dict[str, Any]) -> Callable[[Any], list[str]] | None:
    """`validate` for this schema; None where nothing in it could refuse a value."""
    made = CompiledSchema(schema)
    return made if made.node.rules else None


class CompiledSchema:
    """A compiled schema.  Call it with a value; it returns the list of problems that `validate` describes.

    Raises:
        TooMuchWork: a bound of the caller's (`work.within`) is used up.  Without one a check of more than
            `MAX_STEPS` units ends with a problem that says so.
    """

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        self._root = schema
        self._targets: dict[str, Node] = {}
        self.node = self.compile(schema)

    def __call__(self, value: Any) -> list[str]:
        problems: list[Problem] = []
        bounded = is_bounded()
        try:
            within(MAX_STEPS, Run().visit, self.node, value, (), problems, 0)
        except TooDeep:
            problems.append(((), TOO_LARGE))
        except TooMuchWork:
            # The caller that set the bound does the check again in a thread, or refuses the value.
            if bounded:
                raise
            problems.append(((), TOO_LARGE))
        return [render(problem) for problem in problems[:MAX_PROBLEMS]]

    def compile(self, schema: Any, node: Node | None = None) -> Node:
        """The rules of a subschema, put into `node` where there is one."""
        node = node or Node()
        if schema is False:
            node.rules = (refuse_any,)
        # Anything else is malformed, and allows everything as the empty schema does.
        elif isinstance(schema, dict):
            rules = []
            for keyword in schema:
                make = RULES.get(keyword)
                rule = make(self, schema) if make is not None else None
                if rule is not None:
                    rules.append(rule)
            node.rules = tuple(rules)
            node.cost = 1 + len(rules) + sum(len(schema[k]) for k in SIZED if isinstance(schema.get(k), list)) // 4
        return node

    def compile_all(self, schemas: Any) -> list[Node]:
        """Of a list of subschemas; of anything else none."""
        return [self.compile(schema) for schema in schemas] if isinstance(schemas, list) else []

    def compile_members(self, schemas: Any) -> dict[str, Node]:
        """Of an object of subschemas; of anything else none."""
        return {k: self.compile(schema) for k, schema in schemas.items()} if isinstance(schemas, dict) else {}

    def target(self, reference: str) -> Node:
        """The subschema that a local reference names.  It may be under way, and gets its rules later."""
        node = self._targets.get(reference)
        if node is None:
            # Kept before it is compiled, so that a schema that refers to itself finds this node.
            node = self._targets[reference] = Node()
            self.compile(self._lookup(reference), node)
        return node

    def _lookup(self, reference: str) -> Any:
        """True, which allows anything, where there is none."""
        node: Any = self._root
        if reference == "#":
            return node
        from urllib.parse import unquote  # few schemas refer to anything

        # RFC 6901, 6: the pointer in a fragment is percent-encoded.
        for raw in unquote(reference[2:]).split("/"):
            # RFC 6901, 4: in this order, so that ~01 becomes ~1 and not a slash.
            key = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return True
        return node
