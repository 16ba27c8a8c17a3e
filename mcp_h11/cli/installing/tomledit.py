# SPDX-License-Identifier: MIT
"""Changes one table of a TOML text, and leaves every other byte as it is.

Python reads TOML from 3.11 on and writes none.  So the lines of that table are replaced, and the caller reads the new
text and compares its value with the value that it wanted (`checked_toml`).  A header inside of a long string, or a
table that is written in another form, leads to a refusal and not to a damaged file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from ...bridge.configtext import ConfigError, parsed
from .jsonedit import MAX_FILE

_HEADER = re.compile(r"[ \t]*\[(\[?)[ \t]*((?:[^\]\"'#\n]|\"[^\"\n]*\"|'[^'\n]*')+)\]")
_PART = re.compile(r"[ \t]*(?:\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*(?:\.|$)")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def _path_of(line: str) -> tuple[str, ...] | None:
    """The name of the table that this line begins; None for other lines; () for a list of tables."""
    found = _HEADER.match(line)
    if found is None:
        return None
    return () if found[1] else tuple("".join(part) for part in _PART.findall(found[2].strip()))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    # A basic string of TOML is a JSON string, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items()) + " }"
    raise ConfigError(f"a {type(value).__name__} cannot be written as TOML")


def table(path: Sequence[str], members: Mapping[str, Any]) -> str:
    """The lines of a table and of the tables in it."""
    name = ".".join(map(_key, path))
    lines = [f"[{name}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in members.items() if not isinstance(value, dict)]
    text = "\n".join(lines) + "\n"
    for key, value in members.items():
        if isinstance(value, dict):
            text += "\n" + table([*path, key], value)
    return text


def _with_lines(text: str, path: Sequence[str], new: str) -> str:
    """The text with these lines in the place of a table and of the tables in it; at the end where there is none."""
    newline = "\r\n" if "\r\n" in text else "\n"
    new = new.replace("\n", newline)
    kept: list[str] = []
    place: int | None = None
    ours = False
    tail: list[str] = []  # blank lines and comments that may belong to the table that follows
    for line in text.splitlines(keepends=True):
        name = _path_of(line)
        if name is not None:
            was, ours = ours, name[: len(path)] == tuple(path)
            kept += tail if not (was and ours) else []
            tail = []
        if not ours:
            kept.append(line)
        elif place is None:
            place = len(kept)
        elif name is None and (not line.strip() or line.lstrip().startswith("#")):
            tail.append(line)
        else:
            tail = []
    kept += tail
    if place is not None:
        # Blank lines between the tables before and after stay once.
        while not new and place and not kept[place - 1].strip() and not "".join(kept[place : place + 1]).strip():
            place -= 1
            del kept[place]
        return "".join([*kept[:place], new, *kept[place:]])
    if not new:
        return text
    gap = "" if not text.strip() else newline if text.endswith("\n") else newline * 2
    return text + gap + new


def with_table(text: str, path: Sequence[str], members: Mapping[str, Any]) -> str:
    """The text with this table."""
    return _with_lines(text, path, table(path, members))


def without_table(text: str, path: Sequence[str]) -> str:
    """The text without this table."""
    return _with_lines(text, path, "")


def checked_toml(text: str, wanted: Any) -> str:
    """The text, if it has the value that was wanted.  Raises ConfigError if not."""
    try:
        value = parsed(text, toml=True, limit=MAX_FILE)
    except ConfigError:
        value = None
    if value != wanted:
        raise ConfigError("the server is there in another form than a table of its own")
    return text
