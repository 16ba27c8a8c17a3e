# SPDX-License-Identifier: MIT
"""Readers of unions: which alternative reads a value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from typing import Any

from .documents.mismatch import Mismatch, nearest, refuse
from .documents.work import spend
from .readers import Reader


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
