# SPDX-License-Identifier: MIT
"""Converts the values that models write instead of the JSON that a tool wants: ``"5"`` for 5, ``"true"`` for true.

Each function makes a Python value of a JSON value of another type, or raises ValueError.  The rule is that of the
official SDK, which is pydantic's lax mode (its docs: Conversion Table), with these differences: a number is finite,
and its digits are ASCII.  A reader asks here only after the value was refused as it stands.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime

MAX_NUMBER_TEXT = 1_024  # characters of a number in a text: one that a program means has fewer
MAX_TEXT_DEPTH = 128  # levels of lists and objects in a text, as in a message

# As pydantic reads integers: single underscores between digits, and a fraction of zeros.
_INTEGER = re.compile(r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?")
_SECONDS = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})
_LONGEST_WORD = 5
# pydantic, Conversion Table, datetime: a larger number is of milliseconds
_MOST_SECONDS = 20_000_000_000


def lax_int(value: Any) -> int:
    """``"5"``, ``" 5 "``, ``"5.0"``, ``True``."""
    # Before the texts, because bool is a subclass of int and True counts as 1.
    if isinstance(value, bool):
        return int(value)
    text = _number_text(value)
    if not _INTEGER.fullmatch(text):
        raise ValueError("no integer")
    return int(text.partition(".")[0])


def lax_float(value: Any) -> float:
    """``"1.5"``, ``"1e3"``, ``True``; a number that is not finite is refused."""
    if isinstance(value, bool):
        return float(value)
    number = float(_number_text(value))
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def lax_whole(value: Any) -> Any:
    """A JSON value with its numbers that are integers written as such."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [lax_whole(item) for item in value]
    return {name: lax_whole(item) for name, item in value.items()} if isinstance(value, dict) else value


def says_infinite(value: Any) -> bool:
    """Whether a text in a JSON value says NaN or infinity, or a number beyond those of a float."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            if one[:1] in _NUMBER_BEGINS and not math.isfinite(_float_or_zero(one)):
                return True
        elif isinstance(one, (dict, list)):
            todo += one.values() if isinstance(one, dict) else one
    return False


# The characters that a number may begin with, as `float` reads it: a sign, a digit, a blank, NaN, Infinity.
_NUMBER_BEGINS = frozenset("+-.0123456789nNiI \t\n\r\f\v")


def _float_or_zero(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def holds_infinite(value: Any) -> bool:
    """Whether a float in these dicts, lists, tuples and sets is not finite."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, float):
            if not math.isfinite(one):
                return True
        elif isinstance(one, (dict, list, tuple, set, frozenset)):
            todo += one.values() if isinstance(one, dict) else one
    return False


def lax_number(value: Any) -> int | float:
    """An integer where it is one, else a float."""
    try:
        return lax_int(value)
    except ValueError:
        return lax_float(value)


def lax_bool(value: Any) -> bool:
    """0 and 1, and the words of pydantic's conversion table in any case."""
    # 0.0 and 1.0 count as well: JSON does not tell them from 0 and 1.
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    # A longer text is no word of the tables, and is not copied to find that out.
    word = value.lower() if isinstance(value, str) and len(value) <= _LONGEST_WORD else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError("no boolean")


def _number_text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NUMBER_TEXT or not value.isascii():
        raise ValueError("no text that says a number")
    return value.strip()


# --- times ---------------------------------------------------------------------------------------------------


def lax_datetime(value: Any) -> datetime.datetime:
    """Seconds since 1970, or milliseconds, in UTC; or a text that says those, or a date."""
    import datetime

    # A date alone is midnight of that day, without a time zone, as in pydantic.
    if isinstance(value, str):
        try:
            return datetime.datetime.combine(datetime.date.fromisoformat(value), datetime.time())
        except ValueError:
            value = lax_float(value if _SECONDS.fullmatch(value[:MAX_NUMBER_TEXT]) else "")
    seconds = _seconds(value)
    # timedelta rather than fromtimestamp: the same for every number on every platform
    try:
        since = datetime.timedelta(seconds=seconds if abs(seconds) <= _MOST_SECONDS else seconds / 1000)
        return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + since
    except OverflowError:
        raise ValueError("out of range") from None


def lax_date(value: Any) -> datetime.date:
    """As `lax_datetime`, or a date and time in ISO 8601, where it is midnight."""
    import datetime

    moment = None
    # Before Python 3.11 `fromisoformat` does not read a "Z".
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value[:-1] + "+00:00" if value[-1:] in "Zz" else value)
        except ValueError:
            pass
    if moment is None:
        moment = lax_datetime(value)
    if moment.time() != datetime.time():
        raise ValueError("a time of day besides the date")
    return moment.date()


def lax_timedelta(value: Any) -> datetime.timedelta:
    """Seconds."""
    import datetime

    return datetime.timedelta(seconds=_seconds(value))


def lax_time(value: Any) -> datetime.time:
    """Seconds since midnight, in UTC."""
    import datetime

    seconds = _seconds(value)
    if not 0 <= seconds < 86_400:
        raise ValueError("not within a day")
    return (datetime.datetime.min + datetime.timedelta(seconds=seconds)).time().replace(tzinfo=datetime.timezone.utc)


def _seconds(value: Any) -> int | float:
    if type(value) is int or type(value) is float:
        return value
    raise ValueError("no number")


# --- JSON in a text ------------------------------------------------------------------------------------------


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _bounded(text: str) -> int:
    # int() of a text takes time with the square of its length.
    if len(text) > MAX_NUMBER_TEXT:
        raise ValueError("integer too long")
    return int(text)


# One decoder, because `json.loads` with options makes a new one each time.
_decode = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, parse_constant=_refused).decode


def from_json(text: str) -> Any:
    """Read a text as JSON.

    Raises:
        ValueError: The text is no JSON, or has NaN, Infinity, a number beyond a float, an integer of more than
            `MAX_NUMBER_TEXT` digits, or more than `MAX_TEXT_DEPTH` levels.
    """
    try:
        found = _decode(text)
    # The parser of C calls itself for each level.
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # Fewer brackets than levels cannot be nested too deeply, so most texts need no walk.
    if text.count("[") + text.count("{") > MAX_TEXT_DEPTH:
        _check_depth(found)
    return found


def _check_depth(value: Any) -> None:
    # Level by level and not by recursion, which the depth of a hostile text would break.
    level = [value]
    for _ in range(MAX_TEXT_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError("nested too deeply")


def container(value: Any) -> Any:
    """Read a text that is the JSON of a list, an object or null; return any other value as it is."""
    # The first character decides for nearly all texts, which are then not parsed.
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{", "n"):
        return value
    try:
        found = from_json(value)
    except ValueError:
        return value
    return found if found is None or isinstance(found, (dict, list)) else value
