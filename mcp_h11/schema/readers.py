# SPDX-License-Identifier: MIT
"""Readers: functions that make a Python value of a JSON value, or raise a Mismatch that tells every problem.

Here are the readers of values with parts: lists, sets, tuples, mappings, unions, objects.  `scalars` has the others.

Rule: strict.  All that is wrong is reported at once, up to `MAX_PROBLEMS`.

Rule: counted work (`documents.work`): a reader that goes through a container pays for it with `spend`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from itertools import islice
from typing import Any

from .documents.equality import all_differ
from .documents.mismatch import MAX_PROBLEMS, Mismatch, Problem, nearest, problems_below, refuse, shorten
from .documents.work import may_hash, spend

Reader = Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


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
        # The plain loop first, which makes no tuple for each item: most lists have no bad one.
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


# --- unions --------------------------------------------------------------------------------------------------


# Of each thread: large values are read in worker threads while the loop reads others.
class _Tried(threading.local):
    """The results of the unions inside the value that this thread is reading."""

    def __init__(self) -> None:
        self.depth = 0
        self.memo: dict[tuple[int, int], tuple[Any, Any]] = {}


_tried = _Tried()


def is_trying() -> bool:
    """Whether a union of this thread is trying its alternatives now."""
    return _tried.depth > 0


ArmOrder = Callable[[dict[str, Any]], list[Reader]]


def union_reader(reads: list[Reader], expected: str, order: ArmOrder | None = None) -> Reader:
    """A reader that tries the alternatives until one reads the value.  For an object, `order` sorts them.

    The result of a union for a container is kept while the outermost union runs.  The alternatives may hold the same
    union, and each would read the same members again, so that the work were exponential in the depth.
    """

    def attempt(value: Any) -> Any:
        tried = []
        for read in order(value) if order is not None and isinstance(value, dict) else reads:
            try:
                return read(value)
            except Mismatch as error:  # noqa: PERF203
                spend(5 + len(error.problems))
                tried.append(error)
        # An alternative of the right JSON type tells more of the mistake than those of other types.
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
            # A new exception: the kept one would be raised once more for each alternative that holds this value, and
            # its traceback would grow each time.
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
    """A reader by `exact`, and by `lax` where that refuses: an alternative that fits without conversion wins."""

    def read_first(value: Any) -> Any:
        try:
            return exact(value)
        except Mismatch:
            spend(2)
            return lax(value)

    return read_first


# --- objects with named members ------------------------------------------------------------------------------

# To compare two names takes up to a quarter of a millisecond.
_LONGEST_NAME = 64
_MOST_COMPARED = 10  # unknown names, with one that is missing
_MOST_HINTS = 5  # missing names of one object, for which unknown ones are compared


class ObjectReader:
    """Reads an object member by member.  Unknown members are refused if it is `closed`; else `extra`
    reads them, or they are left out.

    Where a member's reader refuses it, the reader of that name in `second` reads it, if there is one.  `ignored` is
    called with the names of the members that were left out.
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
        """`required` has the expected type of each required member, for messages; `fills` make absent members."""
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
        # The way of most calls: a look-up and a reader for each member.  The first surprise goes to `_go_on`.
        try:
            for name, item in value.items():
                out[name] = reads[name](item)
        except (KeyError, Mismatch) as error:
            self._go_on(value, out, name, error)
        # An object with as many members as the reader knows misses none, unless `extra` has read some of them.
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
        """The first unknown name that is nearly this one, or "".

        While a union tries its alternatives no names are compared: all but one of them miss members in each of many
        objects, and the comparisons would take the time of the call.
        """
        if is_trying():
            return ""
        # The client chooses how many unknown names there are, and how long; comparing each pair costs time.
        unknown = list(islice((o for o in given if o not in self._reads and len(o) <= _LONGEST_NAME), _MOST_COMPARED))
        if not unknown:
            return ""
        from difflib import get_close_matches  # only calls that fail load it

        plain = {_plain_name(other): other for other in unknown}
        found = get_close_matches(_plain_name(name), plain, n=1)
        return plain[found[0]] if found else ""

    def _go_on(self, value: dict[str, Any], out: dict[str, Any], failed: str, error: KeyError | Mismatch) -> None:
        """Read the members after the one that failed, so that the message names all problems.

        An unknown member is no failure where the object is open.
        """
        problems = self._missing(value)
        if isinstance(error, Mismatch):
            self._again(failed, value[failed], error, out, problems)
        elif failed in self._reads:
            raise error  # a KeyError of the member's reader, which the look-up did not raise
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
        problems += problems_below(name, error)

    def _names(self) -> str:
        return ", ".join(shorten(name) for name in list(self._reads)[:MAX_PROBLEMS]) or "none"


class AliasReader:
    """Reads an object that has other names for its members in JSON than in Python.

    `read` knows each member by the first of its JSON names.  `names` maps that name to the Python name and to the
    further JSON names.  Of several names that are present the first one counts.
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
            # The order is that of the names, and not that of the members, which a client chooses.
            found = [name for name in (shown, *others) if name in value]
            if found and found != [shown]:
                item = value[found[0]]
                value = {name: one for name, one in value.items() if name not in found}
                value[shown] = item
        return value


def _plain_name(name: str) -> str:
    """A name without the case and the separators in which its common spellings differ: camelCase, snake_case."""
    return name.replace("_", "").replace("-", "").lower()
