# SPDX-License-Identifier: MIT
"""Readers of JSON objects with named members."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from .documents.mismatch import MAX_PROBLEMS, Mismatch, Problem, problems_below, refuse, shorten
from .readers import Reader
from .unions import is_trying

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
            found = [name for name in (shown, *others) if name in value]
            if found and found != [shown]:
                item = value[found[0]]
                value = {name: one for name, one in value.items() if name not in found}
                value[shown] = item
        return value


def _plain_name(name: str) -> str:
    """A name without the case and the separators in which its common spellings differ: camelCase, snake_case."""
    return name.replace("_", "").replace("-", "").lower()
