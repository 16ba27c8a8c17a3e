# SPDX-License-Identifier: MIT
"""Types without parts: text, numbers, times, enumerations and literals, each with its readers and its shape.

Rule: strict.  A boolean is no integer and a string is never read as a number; 1 and 1.0 are the same value, since JSON
itself does not tell them apart.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import coercion
from .documents.equality import canonical
from .documents.mismatch import Mismatch, kind, refuse, shorten
from .documents.work import spend
from .readers import Reader, same
from .shapes import JSONSchema, Shape
from .tojson import enum_json

if TYPE_CHECKING:
    import datetime
    import decimal

# --- readers -------------------------------------------------------------------------------------------------


def read_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise refuse("string", value)


def read_int(value: Any) -> int:
    # By exact type, because bool is a subclass of int.
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise refuse("integer", value)


def read_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Mismatch([((), "too large a number")]) from None
    raise refuse("number", value)


def read_number(value: Any) -> int | float:
    if type(value) is float or type(value) is int:
        return value
    raise refuse("number", value)


def read_bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise refuse("boolean", value)


def read_none(value: Any) -> None:
    if value is not None:
        raise refuse("null", value)


def text_reader(convert: Callable[[str], Any], expected: str) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise refuse(expected, value)
        spend(2)  # a UUID takes longer than the step to the next item
        try:
            return convert(value)
        except (ValueError, ArithmeticError):
            raise Mismatch([((), f"expected {expected}")]) from None

    return read


def flags_reader(cls: Any, mask: int, expected: str) -> Reader:
    """Of the integer that stands for some of an `enum.Flag`'s members; `mask` has the bits of all of them."""

    def read_flags(value: Any) -> Any:
        number = read_int(value)
        if number & ~mask or number < 0:
            raise Mismatch([((), f"expected {expected}")])
        try:
            return cls(number)
        except ValueError:  # some of the bits of a member that has several
            raise Mismatch([((), f"expected {expected}")]) from None

    return read_flags


def key_reader(read: Reader) -> Reader:
    """Member names are strings: an integer key is read from its digits."""

    def read_key(value: str) -> Any:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 640:  # int() refuses far longer ones itself
            raise Mismatch([((), "expected digits as a member's name")])
        return read(int(value))

    return read_key


def lax_reader(read: Reader, convert: Callable[[Any], Any]) -> Reader:
    """A reader by `read`, and by `convert` (see `coercion`) where that refuses the value."""

    def read_lax(value: Any) -> Any:
        try:
            return read(value)
        except Mismatch as error:
            spend(5)
            try:
                return convert(value)
            except (ValueError, ArithmeticError):
                raise error from None

    return read_lax


def to_datetime(text: str) -> datetime.datetime:
    import datetime

    # RFC 3339 says "Z", which `fromisoformat` reads from Python 3.11 on only.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


def to_time(text: str) -> datetime.time:
    import datetime

    return datetime.time.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


MAX_DIGITS_OF_DECIMAL = 1_024  # characters; to calculate with millions of digits takes hours


def to_decimal(value: Any) -> decimal.Decimal:
    """A decimal number from a JSON number or from a text.  Raises ValueError for any other text."""
    import decimal

    # By way of the text, because a Decimal of the float 0.1 has 55 digits.
    if type(value) is int or type(value) is float:
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_DIGITS_OF_DECIMAL:
        raise ValueError("no decimal number")
    number = decimal.Decimal(value)
    if not number.is_finite():
        raise ValueError(value)
    return number


_N = r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)"
# ISO 8601, 5.5.2.2; and the form that Python and pydantic write: "3 days, 1:00:00"
_DURATION = rf"([+-]?)P(?:{_N}Y)?(?:{_N}M)?(?:{_N}W)?(?:{_N}D)?(?:T(?:{_N}H)?(?:{_N}M)?(?:{_N}S)?)?"
_CLOCK = r"([+-]?)(?:([0-9]{1,9}) ?d(?:ays?)?,? ?)?(?:([0-9]{1,4}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,9})?))?"


def to_timedelta(text: str) -> datetime.timedelta:
    """A year is 365 days and a month 30, as pydantic has it."""
    import datetime
    import re

    spend(3)
    found = re.fullmatch(_DURATION, text)
    if found is not None:
        sign, *parts = found.groups()
    else:
        clock = re.fullmatch(_CLOCK, text)
        if clock is None:
            raise ValueError("no duration")
        sign, *parts = clock.groups()
        parts = [None, None, None, *parts]
    if not any(parts):
        raise ValueError("no duration")
    years, months, weeks, days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parts)
    length = datetime.timedelta(
        days=365 * years + 30 * months + days, weeks=weeks, hours=hours, minutes=minutes, seconds=seconds
    )
    return -length if sign == "-" else length


# --- shapes --------------------------------------------------------------------------------------------------


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
    # Without `validate` the decoder skips characters that are no base64.
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

    # `canonical` would write a list or object out first, and no literal is one.
    def read_choice(value: Any) -> Any:
        try:
            if not isinstance(value, (list, dict)):
                return table[canonical(value)]
        except (KeyError, TypeError, ValueError):
            pass
        raise Mismatch([((), f"expected {expected}")])

    # Numbers and booleans among the literals may come as their text.  A literal text never needs it.
    def convert(value: Any) -> Any:
        found = coercion.from_json(value) if isinstance(value, str) and len(value) <= coercion.MAX_NUMBER_TEXT else ""
        if isinstance(found, str):
            raise ValueError("no number")
        return read_choice(found)

    lax = None if all(isinstance(value, str) for value in values) else lax_reader(read_choice, convert)
    return Shape(schema, read_choice, expected, lax)


def enum_pairs(cls: type[enum.Enum]) -> list[tuple[Any, Any]]:
    return [(enum_json(member), member) for member in cls]
