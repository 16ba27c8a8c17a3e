# SPDX-License-Identifier: MIT
"""Forms for elicitation: a class to its flat schema, an answer to the class."""

from __future__ import annotations

import functools
import typing
from typing import Any

from .annotations import Compiler
from .documents.mismatch import Mismatch, render
from .documents.validator import checker, validate
from .documents.work import ON_LOOP, TooMuchWork, within
from .readers import Reader
from .scalars import DECIMAL
from .shapes import JSONSchema

# --- elicitation ---------------------------------------------------------------------------------------------

# 2025-11-25 client/elicitation, Requested Schema: all that a property of each type may say
_COMMON = ("type", "title", "description", "default")
_ALLOWED = {
    "string": (*_COMMON, "minLength", "maxLength", "format", "enum", "enumNames", "oneOf"),
    "number": (*_COMMON, "minimum", "maximum"),
    "integer": (*_COMMON, "minimum", "maximum"),
    "boolean": _COMMON,
    "array": (*_COMMON, "minItems", "maxItems", "items"),
}
_FORMATS = frozenset({"email", "uri", "date", "date-time"})


def elicitation_schema(form: Any) -> JSONSchema:
    """The `requestedSchema` for a form: a dataclass, TypedDict, NamedTuple or pydantic model, or a schema as a dict.

    A dict is passed on as it is, once it is known to be flat.

    Raises:
        TypeError: A member is not one of string, number, integer, boolean, enumeration, or list of an enumeration.
    """
    if isinstance(form, dict):
        _check_flat(form)
        return form
    return _form(form).schema


def read_elicited(form: Any, content: dict[str, Any]) -> Any:
    """The content of an accepted form as a value of `form` (for a dict schema, as it is).  Raises ValueError."""
    if isinstance(form, dict):
        try:
            problems = within(ON_LOOP, validate, form, content)
        except TooMuchWork as error:
            raise ValueError(str(error)) from None
        if problems:
            raise ValueError("; ".join(problems))
        return content
    compiled = _form(form)
    if not isinstance(content, dict):
        raise ValueError("expected object")
    try:
        # A person leaves a field of a form empty, and Python wants None there.
        return within(ON_LOOP, compiled.read, {**dict.fromkeys(compiled.nullable), **content})
    except TooMuchWork as error:
        raise ValueError(str(error)) from None
    except Mismatch as error:
        raise ValueError("; ".join(render(problem) for problem in error.problems)) from None


class _Form(typing.NamedTuple):
    schema: JSONSchema
    read: Reader
    nullable: tuple[str, ...]  # may be left out of the form, though Python has no default for them


@functools.lru_cache(maxsize=256)
def _form(form: Any) -> _Form:
    compiler = Compiler(checker, closed=False)
    shape = compiler.shape(form)
    whole = compiler.resolve(shape.schema)
    if whole.get("type") != "object" or "properties" not in whole:
        raise TypeError(f"{form!r} is no flat object")
    required = list(whole.get("required", ()))
    properties, nullable = {}, []
    for name, member in whole["properties"].items():
        properties[name], optional = _primitive(compiler, name, member)
        if optional and name in required:
            # A form has no null: to leave the member out means the same.
            required.remove(name)
            nullable.append(name)
    schema: JSONSchema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    _check_flat(schema)
    return _Form(schema, shape.read_lax, tuple(nullable))


def _primitive(compiler: Compiler, name: str, member: JSONSchema) -> tuple[JSONSchema, bool]:
    """A member's schema in the words that a form may use, and whether it may be null (a form leaves it out)."""
    schema = dict(compiler.resolve(member))
    optional = False
    # A decimal number is number or string, and a form shows one type: the string keeps all digits.
    if schema.get("anyOf") == DECIMAL["anyOf"]:
        del schema["anyOf"]
        schema["type"] = "string"
    if arms := schema.pop("anyOf", None):
        kept = [compiler.resolve(arm) for arm in arms if arm.get("type") != "null"]
        optional = len(kept) < len(arms)
        if len(kept) != 1:
            raise TypeError(f"{name!r} may be of several types, which no form can show")
        schema = {**(kept[0] if kept[0] != DECIMAL else {"type": "string"}), **schema}
    # A form knows `enum` and no `const`.
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "enum" in schema and schema.get("type") != "string":
        raise TypeError(f"{name!r} is an enumeration of something other than strings")
    # Other formats are no words of a form.  The reader still checks the answer by the annotation.
    if schema.get("format") not in _FORMATS:
        schema.pop("format", None)
    # 2025-11-25 client/elicitation: null is no primitive value; an optional member is left out of the answer.
    if schema.get("default", ...) is None:
        del schema["default"]
    if isinstance(schema.get("items"), dict):
        items = dict(compiler.resolve(schema["items"]))
        if "const" in items:
            items["enum"] = [items.pop("const")]
        schema["items"] = {key: items[key] for key in ("type", "enum", "anyOf") if key in items}
    allowed = _ALLOWED.get(str(schema.get("type")), ())
    return {key: value for key, value in schema.items() if key in allowed} or member, optional


def _check_flat(schema: JSONSchema) -> None:
    properties = schema.get("properties", {})
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise TypeError("an elicitation schema has the type 'object', and its properties are an object")
    for name, member in properties.items():
        kind = member.get("type") if isinstance(member, dict) else None
        if not isinstance(kind, str) or kind not in _ALLOWED:
            raise TypeError(f"{name!r} is none of string, number, integer, boolean, enumeration, list of enumeration")
        if kind == "array":
            items = member.get("items")
            if not isinstance(items, dict) or not ("enum" in items or "anyOf" in items or "oneOf" in items):
                raise TypeError(f"{name!r} is an array of something other than an enumeration")
        values = (member.get("items") or member).get("enum", ())
        if not all(isinstance(value, str) for value in values):
            raise TypeError(f"{name!r} is an enumeration of something other than strings")
