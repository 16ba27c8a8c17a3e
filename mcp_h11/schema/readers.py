# SPDX-License-Identifier: MIT
"""Functions that make a Python value of a JSON value or say, with its path, what is wrong with it.

Rule: strict.  A boolean is no integer and a string is never read as a number; only what JSON itself does not tell
apart is the same (1 and 1.0).  All that is wrong is reported at once, up to `MAX_PROBLEMS`.

Rule: counted work.  A reader that goes through a container, or tries an alternative in vain, pays for it with `spend`;
under `within` the payment is bounded, and past the bound the reading stops with `TooMuchWork`.  The same reading may
then be done again in a thread, under a larger bound.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime
    import decimal

Reader = Callable[[Any], Any]
MAX_PROBLEMS = 20  # enough for a model to mend its call; more would let a bad call order a huge answer
# Units of work; one is about a microsecond at most.  On the event loop that is less than the 100 ms which no message
# may hold it; in a thread, which the loop interrupts every 5 ms, it is some seconds of a call.
ON_LOOP = 50_000
IN_THREAD = 5_000_000
# A client knows how Python hashes numbers, and can send numbers that all collide: a set of n of them costs n * n.
# 1,000 such items cost 6 ms and 10,000 cost 0.7 s, which only a thread may take.  Python hashes strings with a secret.
MAX_HASHED_ON_LOOP = 1_000
MAX_HASHED = 10_000
# Values in a text that is read as JSON: the parser cannot be interrupted, and needs up to 0.5 us for each.
MAX_PARSED = 150_000

Path = tuple[str | int, ...]
Problem = tuple[Path, str]


class Mismatch(Exception):
    """A JSON value is not what the annotation wants; `problems` are (path, text) pairs."""

    def __init__(self, problems: list[Problem], *, kind_only: bool = False) -> None:
        super().__init__(problems)
        self.problems = problems
        self.kind_only = kind_only  # the value is not even of the right JSON type


def render(problem: Problem) -> str:
    """A path and a text as one line, ``address.lines[2]: expected string, got null``."""
    path, text = problem
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" if out else shorten(step)
    return f"{out}: {text}" if out else text


def shorten(text: str, limit: int = 64) -> str:
    """A name that a client chose, cut to what a message can bear."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def kind(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "boolean"),  # before int, of which it is a subclass
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (dict, "object"),
    (list, "array"),
)


class TooMuchWork(Exception):
    """The value needs more work than `within` allows.  It may fit; a larger bound would tell."""

    def __init__(self) -> None:
        super().__init__("the value is too large to be checked")


class _Work(threading.local):
    """The units that this thread may still spend."""

    left = math.inf


_work = _Work()


def spend(units: float) -> None:
    """Pay for work that is about to be done.  Raises TooMuchWork where the bound does not allow it."""
    left = _work.left - units
    if left < 0:
        raise TooMuchWork
    _work.left = left


def within(units: int, fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)` with at most so many units of work; within a bound that holds already, that one goes on holding."""
    if is_bounded():
        return fn(*args)
    _work.left = units
    try:
        return fn(*args)
    finally:
        _work.left = math.inf


def is_bounded() -> bool:
    """Whether the work of this thread is being counted against a bound."""
    return _work.left != math.inf


def canonical(value: Any) -> str:
    """Equal for JSON values that are equal: 1 and 1.0 are, 1 and true are not.

    A text, because Python hashes texts with a secret.  Numbers themselves as keys would let a client choose collisions.
    """
    if isinstance(value, str):
        return f'"{value}'
    if isinstance(value, (list, dict)):
        return json.dumps(_plain(value), sort_keys=True)
    return json.dumps(_number(value))


_EXACT = 2**53  # from here on a float stands for several integers


def _number(value: Any) -> Any:
    # The digits of 1e308 are fifty times its text, so a large number that is a float stays one.
    if isinstance(value, float):
        return int(value) if -_EXACT < value < _EXACT and value.is_integer() else value
    if isinstance(value, int) and not -_EXACT < value < _EXACT:
        try:
            return float(value) if float(value) == value else value
        except OverflowError:
            return value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        spend(len(value))
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        spend(len(value))
        return {key: _plain(item) for key, item in value.items()}
    return _number(value)


def may_parse(text: str) -> None:
    """Pay for reading a text as JSON.  Raises ValueError where it has more values than any message may have.

    Counts what stands between values, also where it is inside of a string: too many at worst, never too few.
    """
    if len(text) > MAX_PARSED // 100:
        count = sum(map(text.count, ",:[{"))
        if count > MAX_PARSED:
            raise ValueError(f"more than {MAX_PARSED} values in a text")
        spend(count / 4)


def size(value: Any) -> int:
    """How many values there are in this one, itself included.  Counts them at the price of a quarter each."""
    count, todo = 1, [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (list, dict)):
            spend(len(one) / 4)
            count += len(one)
            todo += one.values() if isinstance(one, dict) else one
    return count


def all_differ(items: list[Any]) -> bool:
    """Whether no two of these JSON values are equal."""
    if set(map(type, items)) <= {str}:
        return len(set(items)) == len(items)
    spend(len(items))
    return len({canonical(item) for item in items}) == len(items)


def nearest(tried: list[list[Problem]], path: Path) -> list[Problem]:
    """The problems of the alternative that came furthest into the value; of all, where none came into it at all."""
    inner = [found for found in tried if all(len(where) > len(path) for where, _ in found)]
    if len(inner) == 1:
        return inner[0]
    if len(tried) == 1:
        return tried[0]
    texts = dict.fromkeys(render((where[len(path) :], text)) for found in inner or tried for where, text in found[:1])
    return [(path, "; or ".join(list(texts)[:MAX_PROBLEMS]) or "nothing is allowed here")]


# --- scalars -------------------------------------------------------------------------------------------------


def refuse(expected: str, value: Any) -> Mismatch:
    return Mismatch([((), f"expected {expected}, got {kind(value)}")], kind_only=True)


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


def to_datetime(text: str) -> datetime.datetime:
    import datetime

    # RFC 3339 says "Z", which `fromisoformat` reads from Python 3.11 on only.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


def to_time(text: str) -> datetime.time:
    import datetime

    return datetime.time.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)


MAX_DIGITS_OF_DECIMAL = 1_024  # characters; to calculate with millions of digits takes hours


def to_decimal(value: Any) -> decimal.Decimal:
    """Of a number as JSON has it, or of a text."""
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
# ISO 8601, 5.5.2.2; and what Python and pydantic write: "3 days, 1:00:00"
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


# Every reader reads a member once only, also when something is wrong: a second look at each level would be
# exponential in the depth of a hostile value.


def _inside(step: str | int, error: Mismatch) -> list[Problem]:
    return [((step, *path), text) for path, text in error.problems]


def read_each(pairs: Iterable[tuple[str | int, Any, Reader]], problems: list[Problem]) -> list[Any]:
    """Read all items; if any is bad, or was in `problems` already, raise Mismatch with all of those."""
    out = []
    for step, item, read in pairs:
        try:
            out.append(read(item))
        except Mismatch as error:  # noqa: PERF203
            problems += _inside(step, error)
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise Mismatch(problems[:MAX_PROBLEMS])
    return out


def lax_reader(read: Reader, convert: Callable[[Any], Any]) -> Reader:
    """As `read`, and where that refuses, what `convert` makes of the value (see `laxvalues`)."""

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
            read_each(rest, _inside(at, error))
        return out

    return read_list


def set_reader(read: Reader, make: type, *, lax: bool = False) -> Reader:
    """`lax` takes an item that comes twice once."""
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


def may_hash(items: Collection[Any]) -> None:
    """Raise Mismatch or TooMuchWork where a set of these would cost too much if a client has chosen their hashes."""
    if len(items) <= MAX_HASHED_ON_LOOP or set(map(type, items)) <= {str}:
        return
    if len(items) > MAX_HASHED:
        raise Mismatch([((), f"expected at most {MAX_HASHED} items that are not strings, got {len(items)}")])
    spend(len(items) ** 2 // 100)


def tuple_reader(reads: list[Reader]) -> Reader:
    def read_tuple(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise refuse("array", value)
        spend(3 + len(reads))
        if len(value) != len(reads):
            raise Mismatch([((), f"expected array of {len(reads)}, got {len(value)}")])
        return tuple(read_each(zip(range(len(reads)), value, reads, strict=True), []))

    return read_tuple


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


def key_reader(read: Reader) -> Reader:
    """Member names are strings: an integer key is read from its digits."""

    def read_key(value: str) -> Any:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > 640:  # int() refuses far longer ones itself
            raise Mismatch([((), "expected digits as a member's name")])
        return read(int(value))

    return read_key


class ObjectReader:
    """Reads an object member by member.  `closed` refuses unknown members; else `extra` reads them, or they go.

    A member that its reader refuses is read once more by the one of that name in `second`, if there is one.  `ignored`
    is told of the names of members that go.
    """

    __slots__ = ("_closed", "_extra", "_fills", "_ignored", "_reads", "_required", "_second")

    def __init__(
        self,
        reads: Mapping[str, Reader],
        required: Mapping[str, str],
        *,
        closed: bool,
        extra: Reader | None = None,
        fills: Mapping[str, Callable[[], Any]] | None = None,
        second: Mapping[str, Reader] | None = None,
        ignored: Callable[[list[str]], None] | None = None,
    ) -> None:
        """`required` has, for messages, what each such member has to be; `fills` make what is absent."""
        self._reads = dict(reads)
        self._required = dict(required)
        self._fills = tuple((fills or {}).items())
        self._closed = closed
        self._extra = extra
        self._second = second or {}
        self._ignored = ignored

    def __call__(self, value: Any) -> dict[str, Any]:
        """The members' values by name; raises Mismatch with all that is wrong."""
        if not isinstance(value, dict):
            raise refuse("object", value)
        out: dict[str, Any] = {}
        reads = self._reads
        name = ""
        try:
            for name, item in value.items():
                out[name] = reads[name](item)
        except (KeyError, Mismatch) as error:
            self._go_on(value, out, name, error)
        if len(out) < len(reads) or self._extra is not None:
            if not self._required.keys() <= out.keys():
                raise Mismatch(self._missing(out))
            for name, fill in self._fills:
                if name not in out:
                    out[name] = fill()
        return out

    def _missing(self, given: Mapping[str, Any]) -> list[Problem]:
        out: list[Problem] = []
        for name, wanted in self._required.items():
            if name not in given:
                text = f"missing, expected {wanted}"
                if len(out) < _MOST_HINTS and (meant := self._misspelt(name, given)):
                    text += f" (did you mean it by {shorten(meant)!r}?)"
                out.append(((name,), text))
                if len(out) >= MAX_PROBLEMS:
                    break
        return out

    def _misspelt(self, name: str, given: Mapping[str, Any]) -> str:
        """Of the first unknown names, the one that is nearly this one.

        Not while a union tries its alternatives, of which all but one miss something in each of many objects.
        """
        if _tried.depth:
            return ""
        unknown = list(islice((o for o in given if o not in self._reads and len(o) <= _LONGEST_NAME), _MOST_COMPARED))
        if not unknown:
            return ""
        from difflib import get_close_matches  # only calls that fail load it

        plain = {_plain_name(other): other for other in unknown}
        found = get_close_matches(_plain_name(name), plain, n=1)
        return plain[found[0]] if found else ""

    def _go_on(self, value: dict[str, Any], out: dict[str, Any], failed: str, error: KeyError | Mismatch) -> None:
        """Read what comes after the member that failed, unless that was only unknown and may be."""
        problems = self._missing(value)
        if isinstance(error, Mismatch):
            self._again(failed, value[failed], error, out, problems)
        elif failed in self._reads:
            raise error  # not from the look-up above, but from somebody's reader
        ignored: list[str] = []
        for name, item in value.items():
            if name in out or (name == failed and isinstance(error, Mismatch)):
                continue
            read = self._reads.get(name, self._extra)
            if read is None:
                problems += [((name,), f"unknown, the names are: {self._names()}")] if self._closed else []
                ignored.append(name)
            else:
                try:
                    out[name] = read(item)
                except Mismatch as more:
                    self._again(name, item, more, out, problems)
            if len(problems) >= MAX_PROBLEMS:
                break
        if problems:
            raise Mismatch(problems[:MAX_PROBLEMS])
        if ignored and self._ignored is not None:
            self._ignored(ignored)

    def _again(self, name: str, item: Any, error: Mismatch, out: dict[str, Any], problems: list[Problem]) -> None:
        """Read a member that was refused by its second reader."""
        second = self._second.get(name)
        if second is not None:
            try:
                out[name] = second(item)
                return
            except Mismatch as again:
                error = again
        problems += _inside(name, error)

    def _names(self) -> str:
        return ", ".join(shorten(name) for name in list(self._reads)[:MAX_PROBLEMS]) or "none"


class AliasReader:
    """Reads an object whose members have other names in JSON than in Python.

    `read` knows them by the first of their JSON names; `names` has, for each of those, the Python name and the further
    JSON names, of which the first that is there counts.
    """

    __slots__ = ("_names", "_read")

    def __init__(self, read: Reader, names: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        self._read = read
        self._names = dict(names)

    def __call__(self, value: Any) -> dict[str, Any]:
        """The members' values by their Python names; raises Mismatch as `read` does, with JSON names."""
        if isinstance(value, dict):
            value = self._chosen(value)
        out: dict[str, Any] = self._read(value)
        for target, _ in self._names.values():
            if target in out and target not in self._names:
                # Taken as one of any further names, it would be mistaken for the member that Python calls so.
                raise Mismatch([((target,), "unknown")])
        return {self._names[name][0] if name in self._names else name: item for name, item in out.items()}

    def _chosen(self, value: dict[str, Any]) -> dict[str, Any]:
        for shown, (_, others) in self._names.items():
            found = [name for name in (shown, *others) if name in value]
            if found and found != [shown]:
                item = value[found[0]]
                value = {name: one for name, one in value.items() if name not in found}
                value[shown] = item
        return value


# To compare two names takes up to a quarter of a millisecond.
_LONGEST_NAME = 64
_MOST_COMPARED = 10  # unknown names, with one that is missing
_MOST_HINTS = 5  # missing names of one object, for which unknown ones are compared


def _plain_name(name: str) -> str:
    """A name without what most spellings of it differ in: camelCase or snake_case."""
    return name.replace("_", "").replace("-", "").lower()


class _Tried(threading.local):
    """What the unions of the value that this thread is reading came to."""

    def __init__(self) -> None:
        self.depth = 0
        self.memo: dict[tuple[int, int], tuple[Any, Any]] = {}


_tried = _Tried()


ArmOrder = Callable[[dict[str, Any]], list[Reader]]


def union_reader(reads: list[Reader], expected: str, order: ArmOrder | None = None) -> Reader:
    """The first of these that reads the value; of an object, the first in its `order`.

    What a union makes of a container is kept while the outermost union runs: its alternatives may hold the same
    union, and each would read the same members anew, which again is exponential in the depth.
    """

    def attempt(value: Any) -> Any:
        tried = []
        for read in order(value) if order is not None and isinstance(value, dict) else reads:
            try:
                return read(value)
            except Mismatch as error:  # noqa: PERF203
                spend(5 + len(error.problems))
                tried.append(error)
        closer = [error.problems for error in tried if not error.kind_only]
        return Mismatch(nearest(closer, ())) if closer else refuse(expected, value)

    def read_union(value: Any) -> Any:
        if not isinstance(value, (dict, list)):
            made = attempt(value)
        else:
            spend(6)
            key = (id(attempt), id(value))
            # The entry holds the value, so that its id is not given to another one.
            if (kept := _tried.memo.get(key)) is not None:
                made = kept[1]
            else:
                _tried.depth += 1
                try:
                    made = attempt(value)
                    _tried.memo[key] = (value, made)
                finally:
                    _tried.depth -= 1
                    if not _tried.depth:
                        _tried.memo.clear()
        if type(made) is Mismatch:
            # A new one: what is kept is raised for each alternative that comes to the same value.
            raise Mismatch(made.problems, kind_only=made.kind_only)
        return made

    return read_union


def fittest(reads: list[Reader], names: list[Container[str] | None], *, only: bool) -> ArmOrder | None:
    """The order of alternatives for an object: first those that know most of its members, else as they stand.

    An alternative that ignores the members that it does not know would read any object.  `names` has the members that
    each knows, None where it is no such object.  `only` leaves out those that know fewer than others.
    """
    if sum(some is not None for some in names) < 2:
        return None

    def order(value: dict[str, Any]) -> list[Reader]:
        known = [len(value) if some is None else sum(name in some for name in value) for some in names]
        most = max(number for number, some in zip(known, names, strict=True) if some is not None)
        places = sorted(range(len(reads)), key=known.__getitem__, reverse=True)
        return [reads[place] for place in places if not only or known[place] >= most]

    return order


def first_of(exact: Reader, lax: Reader) -> Reader:
    """What `exact` reads, and of the rest what `lax` reads: an alternative that fits as it stands wins."""

    def read_first(value: Any) -> Any:
        try:
            return exact(value)
        except Mismatch:
            spend(2)
            return lax(value)

    return read_first
