# SPDX-License-Identifier: MIT
"""Python values to JSON values: dataclasses, pydantic models, enumerations, times, sets, bytes and so on.

Rule: this module writes the JSON that the reader of a value's annotation reads, so that a result conforms to the schema
of its annotation.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import enum
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime


def to_json(value: Any, unknown: Callable[[Any], Any] | None = None) -> Any:
    """The JSON form of a value, which the reader of its annotation reads.

    `unknown` is called with an object that has no JSON form, and returns one.

    Raises:
        TypeError: an object has no JSON form, and there is no `unknown`.
        ValueError: the value contains itself, or is nested too deeply.
    """
    try:
        return _to_json(value, unknown)
    except RecursionError:
        raise ValueError("the value contains itself, or is nested too deeply for JSON") from None


def _to_json(value: Any, unknown: Callable[[Any], Any] | None) -> Any:
    # By exact type: cheaper than isinstance, and subclasses need the conversions below.
    cls = type(value)
    if cls is str or cls is int or cls is float or cls is bool or value is None:
        return value
    if cls is dict:
        return {k if type(k) is str else _key(k): _to_json(item, unknown) for k, item in value.items()}
    if cls is list or cls is tuple:
        return [_to_json(item, unknown) for item in value]
    return _object_to_json(value, unknown)


def _object_to_json(value: Any, unknown: Callable[[Any], Any] | None) -> Any:
    # Enumerations and subclasses of str and int first: several are dataclasses or sequences as well.
    for types_, convert in (*_CONVERSIONS, *_late_conversions()):
        if isinstance(value, types_):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name), unknown) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    if hasattr(value, "to_content"):
        return value.to_content()
    # Before sequences: the reader of a NamedTuple reads an object.
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _to_json(getattr(value, name), unknown) for name in value._fields}
    if isinstance(value, Mapping):
        return {_key(key): _to_json(item, unknown) for key, item in value.items()}
    if isinstance(value, collections.abc.Set):
        items = [_to_json(item, unknown) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))  # the same set gives the same JSON
    if isinstance(value, (collections.abc.Sequence, collections.abc.ValuesView)):
        return [_to_json(item, unknown) for item in value]
    if unknown is not None:
        return unknown(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _late_conversions() -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    # A program that has not loaded the module has no value of its types, and importing it here would cost memory.
    for module, names, convert in _LATE:
        loaded = sys.modules.get(module)
        if loaded is not None:
            yield tuple(getattr(loaded, name) for name in names), convert


def as_plain(value: Any) -> Any:
    """Annotations and icons as JSON; None where there are none.  Objects of the official SDK's types are also taken."""
    if not value:
        return None
    if isinstance(value, (list, tuple)):
        return [as_plain(one) for one in value]
    # The wire has no null for a member that is not set.
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(value)


def duration(value: datetime.timedelta) -> str:
    """A duration as ISO 8601 writes it, 5.5.2.2: ``P1DT2H30M0.5S``."""
    # A timedelta of minus one second is minus one day and 86,399 seconds; ISO 8601 has one sign for all.
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    days = f"{value.days}D" if value.days else ""
    clock = f"{hours}H" * (hours > 0) + f"{minutes}M" * (minutes > 0)
    if seconds or fraction or not (days or clock):
        clock += f"{seconds}{fraction}S"
    return f"{sign}P{days}{'T' if clock else ''}{clock}"


def enum_json(member: Any) -> Any:
    """The JSON form of a member of an enumeration: its value where that is a scalar, else its name."""
    if not isinstance(member, enum.Enum):
        return member
    value = member.value
    return value if value is None or isinstance(value, (str, int, float)) else member.name


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, enum_json),
    ((str, int, float), lambda value: value),  # subclasses
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode("ascii")),
)
_LATE: tuple[tuple[str, tuple[str, ...], Callable[[Any], Any]], ...] = (
    ("datetime", ("datetime", "date", "time"), lambda value: value.isoformat()),
    ("datetime", ("timedelta",), lambda value: duration(value)),
    ("uuid", ("UUID",), str),
    # A JSON number would lose digits on its way through a float.
    ("decimal", ("Decimal",), str),
    ("pathlib", ("PurePath",), str),
)


def _key(key: Any) -> str:
    key = _to_json(key, None)
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key)
    raise TypeError(f"{type(key).__qualname__} cannot name a member of a JSON object")
