# SPDX-License-Identifier: MIT
"""The shapes of types without parts: text, numbers, times, enumerations and literals."""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable
from typing import Any

from . import coercion
from .documents.equality import canonical
from .documents.mismatch import Mismatch, kind, refuse, shorten
from .readers import (
    lax_reader,
    read_bool,
    read_float,
    read_int,
    read_none,
    read_number,
    read_str,
    same,
    text_reader,
    to_datetime,
    to_decimal,
    to_time,
    to_timedelta,
)
from .shapes import JSONSchema, Shape
from .tojson import enum_json


def _string(
    convert: Callable[[str], Any], expected: str, lax: Callable[[Any], Any] | None = None, **keywords: str
) -> Shape:
    read = text_reader(convert, expected)
    return Shape({"type": "string", **keywords}, read, expected, lax_reader(read, lax) if lax is not None else None)


ANY_SHAPE = Shape({}, same, "anything")
STRING_SHAPE = Shape({"type": "string"}, read_str, "string")
NUMBER_SHAPE = Shape({"type": "number"}, read_number, "number", lax_reader(read_number, coercion.lax_number))
_NULL = Shape({"type": "null"}, read_none, "null")
_SIMPLE: dict[Any, Shape] = {
    Any: ANY_SHAPE,
    object: ANY_SHAPE,
    str: STRING_SHAPE,
    int: Shape({"type": "integer"}, read_int, "integer", lax_reader(read_int, coercion.lax_int)),
    float: Shape({"type": "number"}, read_float, "number", lax_reader(read_float, coercion.lax_float)),
    bool: Shape({"type": "boolean"}, read_bool, "boolean", lax_reader(read_bool, coercion.lax_bool)),
    None: _NULL,
    type(None): _NULL,
    bytes: _string(lambda s: base64.b64decode(s, validate=True), "string in base64", contentEncoding="base64"),
}


def simple_shape(annotation: Any) -> Shape | None:
    """The shape of a type that has no parts."""
    # An annotation that cannot be hashed is no key of the tables.
    if not _hashable(annotation):
        return None
    shape = _SIMPLE.get(annotation)
    if shape is None and isinstance(annotation, type):
        late = _LATE.get(annotation.__module__.partition(".")[0])
        shape = late().get(annotation) if late is not None else None
    return shape


def _hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:  # Annotated[int, {"minimum": 0}]
        return False
    return True


def _times() -> dict[Any, Shape]:
    import datetime

    return {
        datetime.datetime: _string(
            to_datetime, "string that is a date and time (ISO 8601)", lax=coercion.lax_datetime, format="date-time"
        ),
        datetime.date: _string(
            datetime.date.fromisoformat, "string that is a date (YYYY-MM-DD)", lax=coercion.lax_date, format="date"
        ),
        datetime.timedelta: _string(
            to_timedelta, "string that is a duration (ISO 8601)", lax=coercion.lax_timedelta, format="duration"
        ),
        datetime.time: _string(to_time, "string that is a time (HH:MM:SS)", lax=coercion.lax_time, format="time"),
    }


def _uuids() -> dict[Any, Shape]:
    import uuid

    return {uuid.UUID: _string(uuid.UUID, "string that is a UUID", format="uuid")}


def _decimals() -> dict[Any, Shape]:
    import decimal

    return {decimal.Decimal: Shape(DECIMAL, read_decimal, _EXPECTED_DECIMAL)}


# Two forms, because a text keeps all digits, and a JSON number may lose some on its way through a float.
DECIMAL: JSONSchema = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_EXPECTED_DECIMAL = "number, or string that is a decimal number"


def read_decimal(value: Any) -> Any:
    # By the exact type, because bool is a subclass of int.
    if type(value) not in (int, float, str):
        raise refuse(_EXPECTED_DECIMAL, value)
    try:
        return to_decimal(value)
    except (ValueError, ArithmeticError):
        raise Mismatch([((), f"expected {_EXPECTED_DECIMAL}")]) from None


def _paths() -> dict[Any, Shape]:
    import pathlib

    kinds = (pathlib.Path, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    return {kind: _string(kind, "string that is a path", format="path") for kind in kinds}


# By the module of the type.  A program that annotates with such a type has imported its module already; every other
# program saves the megabyte that these modules take.
_LATE = {"datetime": _times, "uuid": _uuids, "decimal": _decimals, "pathlib": _paths}


def choice_shape(pairs: list[tuple[Any, Any]]) -> Shape:
    if not all(value is None or isinstance(value, (str, int, float)) for value, _ in pairs):
        raise TypeError("a Literal of something other than strings, numbers, booleans and None has no JSON form")
    # Keys in canonical form, so that 1.0 finds 1 and true does not.
    values = [value for value, _ in pairs]
    table = {canonical(value): item for value, item in pairs}
    expected = f"one of {shorten(', '.join(json.dumps(value, ensure_ascii=False) for value in values), 500)}"
    kinds = {kind(value) for value in values}
    schema: JSONSchema = {"type": kinds.pop()} if len(kinds) == 1 else {}
    schema |= {"const": values[0]} if len(values) == 1 else {"enum": values}

    def read_choice(value: Any) -> Any:
        try:
            if not isinstance(value, (list, dict)):
                return table[canonical(value)]
        except (KeyError, TypeError, ValueError):
            pass
        raise Mismatch([((), f"expected {expected}")])

    def convert(value: Any) -> Any:
        found = coercion.from_json(value) if isinstance(value, str) and len(value) <= coercion.MAX_NUMBER_TEXT else ""
        if isinstance(found, str):
            raise ValueError("no number")
        return read_choice(found)

    lax = None if all(isinstance(value, str) for value in values) else lax_reader(read_choice, convert)
    return Shape(schema, read_choice, expected, lax)


def enum_pairs(cls: type[enum.Enum]) -> list[tuple[Any, Any]]:
    return [(enum_json(member), member) for member in cls]
