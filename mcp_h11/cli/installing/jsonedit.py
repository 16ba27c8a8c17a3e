# SPDX-License-Identifier: MIT
"""Changes single members of a JSON text that people wrote, and leaves every other byte as it is.

A configuration file has comments, an order and an indentation of its own, and a program that reads all of it and writes
all of it back would lose them.  So an edit here finds the place in the text, and puts the new value there in the form
of its surroundings.  Comments and trailing commas are allowed, as VS Code and others read them.

Rule: the caller compares the value of the new text with the value that it wanted (`changed`), so that a mistake in here
can refuse an edit, and cannot damage a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from json import decoder
from typing import Any

from ...bridge.configtext import ConfigError, parsed, uncommented, without_trailing_commas

MAX_FILE = 32 * 1024 * 1024  # characters: Claude Code keeps its servers in a file with much else

_Key = str | int

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass
class _Item:
    """A member of an object or an element of an array: where it begins in the text, and its value."""

    key: _Key
    start: int
    value: _Value


class _Value:
    """A value in JSON that was parsed before.  Its items are looked for when they are asked for: a file may be long."""

    def __init__(self, plain: str, start: int) -> None:
        self.start = start
        self.end = _DECODER.raw_decode(plain, start)[1]
        self._plain = plain

    @property
    def items(self) -> list[_Item] | None:
        """None for a scalar.  Each time they are looked for anew."""
        plain, at = self._plain, self.start
        if plain[at] not in "{[":
            return None
        is_object = plain[at] == "{"
        items: list[_Item] = []
        at = _blanks(plain, at + 1)
        while at < self.end - 1:
            key: _Key = len(items)
            begin = at
            if is_object:
                key, at = decoder.scanstring(plain, at + 1)  # type: ignore[attr-defined]
                at = _blanks(plain, _blanks(plain, at) + 1)  # behind the colon
            value = _Value(plain, at)
            items.append(_Item(key, begin, value))
            at = _blanks(plain, value.end)
            if plain[at] == ",":
                at = _blanks(plain, at + 1)
        return items

    def find(self, key: _Key) -> _Item | None:
        return next((item for item in self.items or () if item.key == key), None)


def _blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None, "it matches nothing too"
    return found.end()


class _Text:
    """A text with the facts that an edit needs: the place of each value, comments, line ends, indentation."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.bare = uncommented(text)  # of the same length
        plain = without_trailing_commas(self.bare)
        self.root = _Value(plain, _blanks(plain, 0))
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self.unit = self._unit()
        self.is_one_line = "\n" not in text.strip() and bool(self.root.items)

    def _unit(self) -> str:
        for item in self.root.items or ():
            indent = self.indent_of(item.start)
            if indent and self.begins_line(item.start):
                return indent
        return "  "

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def indent_of(self, at: int) -> str:
        """The blanks at the beginning of the line of this place."""
        start = self.line_start(at)
        found = re.compile(r"[ \t]*").match(self.text, start)
        assert found is not None, "it matches nothing too"
        return found[0]

    def begins_line(self, at: int) -> bool:
        return not self.text[self.line_start(at) : at].strip(" \t")

    def compact(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def rendered(self, value: Any, indent: str) -> str:
        if self.is_one_line:
            return self.compact(value)
        text = json.dumps(value, indent=self.unit, ensure_ascii=False)
        return text.replace("\n", self.newline + indent)

    def behind(self, at: int) -> int:
        """Where the text before this place ends, comments included."""
        while self.text[at - 1] in " \t\r\n":
            at -= 1
        return at

    def comma_after(self, value: _Value) -> int | None:
        """The place of the comma after a value."""
        at = _blanks(self.bare, value.end)
        return at if self.bare[at] == "," else None

    def spliced(self, start: int, end: int, new: str) -> str:
        return self.text[:start] + new + self.text[end:]


def _nested(path: Sequence[_Key], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value} if isinstance(key, str) else [value]
    return value


def _with_item(text: _Text, parent: _Value, key: _Key, value: Any) -> str:
    """The text with one more item at the end of an object or array."""
    label = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(key, str) else ""
    items, source, closing = parent.items or [], text.text, parent.end - 1
    last = items[-1].value if items else None
    comma = None if last is None else text.comma_after(last)
    if text.is_one_line or (last is not None and "\n" not in source[parent.start : parent.end]):
        at = parent.start + 1 if last is None else last.end if comma is None else comma + 1
        lead = "" if last is None else " " if comma is not None else ", "
        return text.spliced(at, at, f"{lead}{label}{text.compact(value)}")
    base = text.indent_of(parent.start)
    indent = text.indent_of(items[-1].start) if items and text.begins_line(items[-1].start) else base + text.unit
    end = text.behind(closing)
    tail = source[end:closing] if "\n" in source[end:closing] else text.newline + base
    after = source[:end] + text.newline + indent + label + text.rendered(value, indent) + tail + source[closing:]
    if last is not None and comma is None:
        after = after[: last.end] + "," + after[last.end :]
    return after


def _without_item(text: _Text, parent: _Value, item: _Item) -> str:
    items = parent.items or []
    index = [one.start for one in items].index(item.start)
    comma = text.comma_after(item.value)
    if index + 1 == len(items):
        end = item.value.end if comma is None else comma + 1
        start = text.behind(item.start)
        after = text.spliced(start, end, "")
        if index:
            before = text.comma_after(items[index - 1].value)
            assert before is not None, "an item follows it"
            after = after[:before] + after[before + 1 :]
        elif not after[parent.start + 1 : parent.end - 1 - (end - start)].strip():
            after = after[: parent.start + 1] + after[parent.end - 1 - (end - start) :]
        return after
    assert comma is not None, "an item follows it"
    following = items[index + 1].start
    start, end = item.start, following
    if text.begins_line(item.start):
        # With its line, and with a comment behind it on that line.  Comments on lines of their own stay.
        line_end = text.text.find("\n", comma)
        if 0 <= line_end < following:
            start, end = text.line_start(item.start), line_end + 1
    return text.spliced(start, end, "")


def _edited(source: str, path: Sequence[_Key], value: Any, remove: bool) -> str:
    text = _Text(source)
    parent = text.root
    for depth, key in enumerate(path):
        if parent.items is None or (source[parent.start] == "{") != isinstance(key, str):
            raise ConfigError(
                f"{'.'.join(map(str, path[:depth]))} is no {'object' if isinstance(key, str) else 'list'}"
            )
        item = parent.find(key)
        if item is None:
            return source if remove else _with_item(text, parent, key, _nested(path[depth + 1 :], value))
        if depth + 1 == len(path):
            if remove:
                return _without_item(text, parent, item)
            new = text.rendered(value, text.indent_of(item.start))
            return text.spliced(item.value.start, item.value.end, new)
        parent = item.value
    return source


def with_value(text: str, path: Sequence[_Key], value: Any) -> str:
    """The text with this value at this path; the objects on the way are made where they are missing.

    A number in the path is an element of an array; the length of the array adds one.
    Raises ConfigError where something else than an object or an array is in the way.
    """
    return _edited(text, path, value, remove=False)


def without_value(text: str, path: Sequence[_Key]) -> str:
    """The text without the member or element at this path."""
    return _edited(text, path, None, remove=True)


def checked_json(text: str, wanted: Any) -> str:
    """The text, if it has the value that was wanted.  Raises ConfigError if not."""
    if parsed(text, limit=MAX_FILE) != wanted:
        raise ConfigError("it cannot be changed in its own form")
    return text
