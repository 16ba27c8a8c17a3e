# SPDX-License-Identifier: MIT
"""Readers: functions that make a Python value of a JSON value, or raise a Mismatch that tells every problem.

Rule: strict.  A boolean is no integer and a string is never read as a number; 1 and 1.0 are the same
value, since JSON itself does not tell them apart.  All that is wrong is reported at once, up to `MAX_PROBLEMS`.

Rule: counted work (see `work`): a reader that goes through a container pays for it with `spend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .documents.equality import all_differ
from .documents.mismatch import MAX_PROBLEMS, Mismatch, Problem, problems_below, refuse
from .documents.work import may_hash, spend

if TYPE_CHECKING:
    import datetime
    import decimal

Reader = Callable[[Any], Any]


# --- scalars -------------------------------------------------------------------------------------------------


def read_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise refuse("string", value)


def read_int(value: Any) -> int:
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


def same(value: Any) -> Any:
    return value


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


# --- containers ----------------------------------------------------------------------------------------------


# Every reader reads a member once only, also when it finds a problem: a second reading at each level would make the
# work exponential in the depth of a hostile value.


def read_each(pairs: Iterable[tuple[str | int, Any, Reader]], problems: list[Problem]) -> list[Any]:
    """Read all items; if any is bad, or was in `problems` already, raise Mismatch with all of those."""
    out = []
    for step, item, read in pairs:
        try:
            out.append(read(item))
        except Mismatch as error:  # noqa: PERF203
            problems += problems_below(step, error)
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise Mismatch(problems[:MAX_PROBLEMS])
    return out


def list_reader(read: Reader) -> Reader:
    def read_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise refuse("array", value)
        spend(len(value))
        out: list[Any] = []
        try:
            for item in value:
                out.append(read(item))  # noqa: PERF401
        except Mismatch as error:
            at = len(out)
            rest = ((index, value[index], read) for index in range(at + 1, len(value)))
            read_each(rest, problems_below(at, error))
        return out

    return read_list


def set_reader(read: Reader, make: type, *, lax: bool = False) -> Reader:
    """A reader of sets.  A `lax` one drops an item that comes twice; a strict one refuses it."""
    read_list = list_reader(read)

    def read_set(value: Any) -> Any:
        items = read_list(value)
        if not lax and not all_differ(value):
            raise Mismatch([((), "expected items that all differ")])
        may_hash(items)
        try:
            return make(item for item in items)  # a generator, because between two items other threads may run
        except TypeError:
            raise Mismatch([((), "expected items that can be in a set")]) from None

    return read_set


def tuple_reader(reads: list[Reader]) -> Reader:
    def read_tuple(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise refuse("array", value)
        spend(3 + len(reads))
        if len(value) != len(reads):
            raise Mismatch([((), f"expected array of {len(reads)}, got {len(value)}")])
        return tuple(read_each(zip(range(len(reads)), value, reads, strict=True), []))

    return read_tuple


def mapping_reader(read_key: Reader | None, read: Reader) -> Reader:
    def read_mapping(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise refuse("object", value)
        spend(len(value))
        items = read_each(((key, item, read) for key, item in value.items()), [])
        if read_key is None:
            return dict(zip(value, items, strict=True))
        keys = read_each(((key, key, read_key) for key in value), [])
        may_hash(keys)
        return {key: item for key, item in zip(keys, items, strict=True)}  # noqa: C416  # other threads may run

    return read_mapping
