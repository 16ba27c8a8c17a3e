# SPDX-License-Identifier: MIT
"""Puts the `$defs` of a schema in the places of their references, and gives each array `items`.

Several clients lose `$ref` (VS Code, Claude Desktop, Bedrock), so a definition is repeated at each use.  VS Code
refuses the whole list of tools for one array without `items`.  A definition that contains itself cannot be repeated,
and keeps its name.

Rule: keywords are rewritten, and data never is.  The values of `default`, `enum`, `const` and `examples` are data, and
a property may have any name, also that of a keyword.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

JSONSchema = dict[str, Any]

# A definition that is used more than once is repeated while there are no more copies than these in all.  A model reads
# every copy, and each level of classes can double their number.
MAX_COPIES = 64

_DATA = frozenset({"default", "enum", "const", "examples", "required", "dependentRequired"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_REF = "#/$defs/"


def rewritten(node: Any, change: Callable[[Any], Any]) -> Any:
    """A schema (or a list of them) with each of the schemas directly inside it changed."""
    if isinstance(node, list):
        return [change(one) for one in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key in _MAPS and isinstance(value, dict):
            out[key] = {name: change(member) for name, member in value.items()}
        else:
            out[key] = change(value) if key not in _DATA and isinstance(value, (dict, list)) else value
    return out


def reference(schema: Any) -> str:
    """The name of the definition that a schema refers to, or ""."""
    found = schema.get("$ref") if isinstance(schema, dict) else None
    return found[len(_REF) :] if isinstance(found, str) and found.startswith(_REF) else ""


def inlined(schema: JSONSchema, defs: Mapping[str, JSONSchema]) -> JSONSchema:
    """`schema` with the definitions that it uses in their places; those that contain themselves in `$defs`."""
    uses = Counter(_references(schema))
    inside = {name: list(_references(defs[name])) for name in defs}
    pending = list(uses)
    while pending:
        for name in inside.get(pending.pop(), ()):
            if name not in uses:
                pending.append(name)
            uses[name] += 1
    # A definition that reaches itself has no end when it is written out.
    kept = {name for name in uses if name in _reachable(inside, name)}
    # Those that are used once cost nothing to write out, so they are inlined all the same.
    if _copies(uses, inside, kept) > MAX_COPIES:
        kept |= {name for name, number in uses.items() if number > 1}
    # A reference to a definition that is missing stays as it is, for the client to judge.
    kept &= defs.keys()
    place = _Placing(defs, kept)
    out: JSONSchema = place(schema)
    if (name := reference(out)) in kept:  # MCP wants "type": "object" at the top
        out = {**place(defs[name]), **{key: value for key, value in out.items() if key != "$ref"}}
    if kept:
        out["$defs"] = {name: place(defs[name]) for name in defs if name in kept}
    return out


def _references(node: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to, each as often as it does."""
    if name := reference(node):
        yield name
    found: list[str] = []
    rewritten(node, lambda inner: found.extend(_references(inner)))
    yield from found


def _reachable(inside: Mapping[str, list[str]], name: str) -> set[str]:
    found: set[str] = set()
    pending = list(inside.get(name, ()))
    while pending:
        if (one := pending.pop()) not in found:
            found.add(one)
            pending += inside.get(one, ())
    return found


def _copies(uses: Mapping[str, int], inside: Mapping[str, list[str]], kept: set[str]) -> int:
    """The definitions that are put in places, where those in `kept` are not.  `uses` has all names."""
    sizes: dict[str, int] = {}

    def size(name: str) -> int:
        if name in kept:
            return 0
        if name not in sizes:
            sizes[name] = 1 + sum(map(size, inside.get(name, ())))
        return sizes[name]

    # The schema's direct uses of a name are all its uses minus those inside of other definitions.
    within = Counter(inner for name in uses for inner in inside.get(name, ()))
    roots = sum((number - within[name]) * size(name) for name, number in uses.items())
    return roots + sum(size(inner) for name in kept for inner in inside.get(name, ()))


class _Placing:
    """Puts definitions in the places of their references, and gives arrays their `items`."""

    def __init__(self, defs: Mapping[str, JSONSchema], kept: set[str]) -> None:
        self._defs = defs
        self._kept = kept

    def __call__(self, node: Any) -> Any:
        out = rewritten(node, self)
        if not isinstance(out, dict):
            return out
        name = reference(node)
        if name in self._defs and name not in self._kept:
            del out["$ref"]
            # Keywords beside the reference win: the description of a member says more than that of its class.
            out = {**self(self._defs[name]), **out}
        mapping = out.get("discriminator")
        if isinstance(mapping, dict) and isinstance(mapping.get("mapping"), dict):
            # The `discriminator` of OpenAPI names definitions, which are inlined now and have no names.
            out = {key: value for key, value in out.items() if key != "discriminator"}
        return with_items(out)


def with_items(schema: JSONSchema) -> JSONSchema:
    """An array's schema with `items`: the schemas of its places, or the schema of any value."""
    kinds = schema.get("type")
    if "items" in schema or not (kinds == "array" or (isinstance(kinds, list) and "array" in kinds)):
        return schema
    first = schema.get("prefixItems")
    places: list[Any] = []
    for place in first if isinstance(first, list) else ():
        if place not in places:
            places.append(place)
    if not places or {} in places or True in places or schema.get("maxItems") != len(first or ()):
        return {**schema, "items": {}}
    # `maxItems` allows no item after those of `prefixItems`, so these `items` refuse no value.  They are there for
    # clients that do not read `prefixItems`.
    return {**schema, "items": places[0] if len(places) == 1 else {"anyOf": places}}
