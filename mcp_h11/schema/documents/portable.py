# SPDX-License-Identifier: MIT
"""A tool's schema in the words that every known client and model takes (docs/schemas.md has the table).

Gemini refuses a request if one of its schemas has a keyword that it does not know (`const`, `additionalProperties`,
`exclusiveMinimum`, ...), an enumeration of anything but strings, or a property without a type.  Other clients lose
`$ref`.  The keywords that are left out are told in the description, since a model reads that.  The server still reads
arguments by the exact schema.

Rule: the portable schema of a result allows every value that the exact one allows, because clients check results by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .inlining import MAX_COPIES, inlined, with_items

JSONSchema = dict[str, Any]

KEPT = frozenset(
    {
        "type", "description", "enum", "items", "properties", "required", "anyOf", "minimum", "maximum", "minItems",
        "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "pattern", "x-mcp-header",
    }
)  # fmt: skip
# Gemini, for strings: "only 'enum' and 'date-time' are supported".
FORMATS = frozenset({"date-time"})
# References that are followed, beyond those that are inlined; each can lead to several more.
MAX_FOLLOWED = 4 * MAX_COPIES
MAX_SAID = 200  # characters of one value in a description

_SCALARS = ({"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "object"})
# The schema of any value, for clients that want a type for each property.
ANYTHING: JSONSchema = {"anyOf": [*_SCALARS, {"type": "array", "items": {"anyOf": list(_SCALARS)}}]}


def portable(schema: JSONSchema, *, result: bool = False) -> JSONSchema:
    """The schema of arguments, or of a `result`, in portable words.  Next: list it; check by the exact one."""
    whole = {key: value for key, value in schema.items() if key != "$defs"}
    made = _Portable(schema.get("$defs", {}), typed=not result)(inlined(whole, schema.get("$defs", {})), ())
    if not result:
        made.setdefault("properties", {})  # OpenAI asks for them
    return made


class _Portable:
    """Rewrites one schema.  `typed` says whether each subschema gets a type, also where it had none."""

    def __init__(self, defs: Any, *, typed: bool) -> None:
        self._defs = defs if isinstance(defs, dict) else {}
        self._typed = typed
        self._left = MAX_FOLLOWED

    def __call__(self, schema: Any, inside: tuple[str, ...]) -> JSONSchema:
        """The portable form of `schema`.

        `inside` are the references that led here.  A schema that contains itself becomes a bare object on its second
        level, since it cannot be written out.
        """
        if not isinstance(schema, dict):
            return dict(ANYTHING) if self._typed else {}
        schema, inside = self._followed(schema, inside)
        schema = with_items(_without_places(_merged(schema)))
        # Some bridges to Gemini take one type only, so each type becomes an alternative.
        if isinstance(schema.get("type"), list):
            rest = {key: value for key, value in schema.items() if key not in ("description", "type", "default")}
            schema = {"anyOf": [{**rest, "type": kind} for kind in schema["type"]], **_only(schema, "description")}
        said = _said(schema)
        out = {key: value for key, value in schema.items() if key in KEPT}
        self._alternatives(schema, out, inside)
        # `_members` puts back the names that have a property; a model cannot fill in any other.
        out.pop("required", None)
        if isinstance(schema.get("properties"), dict):
            self._members(schema, out, inside)
        if "items" in out:
            out["items"] = self(out["items"], inside)
        # The inclusive bound allows one value more.  The description names the exact one, and the server checks by it.
        for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if type(schema.get(word)) in (int, float):
                out.setdefault(bound, schema[word])
        if schema.get("format") in FORMATS:
            out["format"] = schema["format"]
        if said:
            out["description"] = f"{out['description']} ({said})" if out.get("description") else said
        if self._typed and "type" not in out and "anyOf" not in out:
            out.update(ANYTHING)
        return out

    def _followed(self, schema: JSONSchema, inside: tuple[str, ...]) -> tuple[JSONSchema, tuple[str, ...]]:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema, inside
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        named = self._defs.get(reference.removeprefix("#/$defs/"))
        self._left -= 1
        if not isinstance(named, dict) or reference in inside or self._left < 0:
            kind = named.get("type", "object") if isinstance(named, dict) else None
            return ({"type": kind, **rest} if isinstance(kind, str) else rest), inside
        return self._followed({**named, **rest}, (*inside, reference))

    def _members(self, schema: JSONSchema, out: JSONSchema, inside: tuple[str, ...]) -> None:
        required = schema.get("required")
        names = [name for name in required if name in schema["properties"]] if isinstance(required, list) else []
        out["properties"] = {}
        for name, member in schema["properties"].items():
            made = self(member, inside)
            # In results null stays, because a client checks results by this schema.
            if self._typed and name not in names:
                made = _without_null(made)
            out["properties"][name] = made
        if names:
            out["required"] = names

    def _alternatives(self, schema: JSONSchema, out: JSONSchema, inside: tuple[str, ...]) -> None:
        # `anyOf` allows every value that `oneOf` does, which the rule for results asks for.
        arms = schema.get("anyOf", schema.get("oneOf"))
        if isinstance(arms, list):
            out["anyOf"] = [self(arm, inside) for arm in arms]
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            out.pop("enum", None)
            self._enumerate(values, out)

    def _enumerate(self, values: list[Any], out: JSONSchema) -> None:
        kinds = list(dict.fromkeys(map(_kind, values)))
        arms: list[JSONSchema] = []
        for kind in kinds:
            arm: JSONSchema = {"type": kind}
            # Gemini enumerates strings alone; the description tells the other values.
            if kind == "string":
                arm["enum"] = [value for value in values if isinstance(value, str)]
            elif kind == "array":
                arm["items"] = dict(ANYTHING) if self._typed else {}
            arms.append(arm)
        if len(arms) == 1:
            out.update(arms[0])
        elif arms:
            out.pop("type", None)
            out["anyOf"] = arms


def _only(schema: JSONSchema, key: str) -> JSONSchema:
    return {key: schema[key]} if key in schema else {}


def _without_places(schema: JSONSchema) -> JSONSchema:
    """The schema with one `items` in place of the `prefixItems` for each place of an array."""
    places = schema.get("prefixItems")
    if not isinstance(places, list):
        return schema
    longest = schema.get("maxItems")
    further = [] if isinstance(longest, int) and longest <= len(places) else [schema.get("items", True)]
    kinds: list[Any] = []
    for kind in (*places, *further):
        if kind is not False and kind not in kinds:
            kinds.append(kind)
    if not kinds or True in kinds or {} in kinds:
        return {**schema, "items": {}}
    return {**schema, "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}


def _merged(schema: JSONSchema) -> JSONSchema:
    """The schema with the keywords of its `allOf` parts merged in.

    Properties and required names of all parts are kept; of any other keyword the first one holds.
    """
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    out = dict(schema)
    for part in parts:
        for key, value in part.items() if isinstance(part, dict) else ():
            if key == "properties" and isinstance(out.get(key), dict) and isinstance(value, dict):
                out[key] = {**value, **out[key]}
            elif key == "required" and isinstance(out.get(key), list) and isinstance(value, list):
                out[key] = [*out[key], *(name for name in value if name not in out[key])]
            else:
                out.setdefault(key, value)
    return out


def _without_null(schema: JSONSchema) -> JSONSchema:
    """The schema of an optional property without null: a model leaves the property out instead."""
    arms = schema.get("anyOf")
    if not isinstance(arms, list):
        return schema
    kept = [arm for arm in arms if arm.get("type") != "null"]
    if len(kept) == len(arms) or not kept:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {**rest, "anyOf": kept}


# --- the keywords that are left out, in words --------------------------------------------------------------------


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SAID else text[: MAX_SAID - 1] + "…"


def _values(schema: JSONSchema) -> str:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list) or all(isinstance(value, str) for value in values):
        return ""
    return f"one of {', '.join(map(_text, values[:MAX_SAID]))}"[:MAX_SAID]


def _places(schema: JSONSchema) -> str:
    places = schema.get("prefixItems")
    if not isinstance(places, list) or not all(isinstance(place, dict) for place in places):
        return ""
    kinds = [str(place.get("type", "anything")) for place in places]
    return f"in this order: {', '.join(kinds)}" if len(set(kinds)) > 1 else ""


def _rest(schema: JSONSchema) -> str:
    further = schema.get("additionalProperties")
    kind = further.get("type") if isinstance(further, dict) else None
    return f"members of any name, each: {kind}" if isinstance(kind, str) else ""


def _word(keyword: str, text: str) -> Callable[[JSONSchema], str]:
    return lambda schema: f"{text} {_text(schema[keyword])}" if keyword in schema else ""


_SAYINGS: tuple[Callable[[JSONSchema], str], ...] = (
    _values,
    _places,
    _rest,
    _word("exclusiveMinimum", "more than"),
    _word("exclusiveMaximum", "less than"),
    _word("multipleOf", "a multiple of"),
    lambda schema: "all different" if schema.get("uniqueItems") is True else "",
    lambda schema: f"in {schema['contentEncoding']}" if isinstance(schema.get("contentEncoding"), str) else "",
    lambda schema: f"format: {schema['format']}" if schema.get("format", "date-time") not in FORMATS else "",
    _word("default", "default:"),
)


def _said(schema: JSONSchema) -> str:
    return "; ".join(filter(None, (say(schema) for say in _SAYINGS)))


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"),
)  # fmt: skip


def _kind(value: Any) -> str:
    return next((name for types, name in _KINDS if isinstance(value, types)), "null")
