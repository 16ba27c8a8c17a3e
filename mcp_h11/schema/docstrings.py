# SPDX-License-Identifier: MIT
"""A docstring to a description and the descriptions of its parameters: Google, NumPy and Sphinx styles.

Rule: only the sections about parameters (and, for classes, attributes) are taken out; everything else stays in the
description as it was written.  Nothing here can fail: a part in no known style is description.
"""

from __future__ import annotations

import inspect
import re

_TITLES = r"(?:Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments|Other Parameters|Attributes)"
_GOOGLE = re.compile(_TITLES + r":\s*$")
_NUMPY = re.compile(_TITLES + r"\s*$")
_UNDERLINE = re.compile(r"-{3,}\s*$")
# ``*args``, also with its star escaped for Sphinx, and a type in parentheses, which the annotation has already.
_GOOGLE_ITEM = re.compile(r"(?:\*{1,2}|\\\*(?:\\\*)?)?(\w+)\s*(?:\(.*?\))?\s*:(?:\s+(.*))?$")
_NUMPY_ITEM = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX_ITEM = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword|ivar|var)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$"
)
_SPHINX_TYPE = re.compile(r":(?:type|vartype)\s+\w+\s*:")


def parse(docstring: str | None) -> tuple[str, dict[str, str]]:
    """The description, and the parameters' descriptions by name, each on one line."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    kept: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        # Google: a title with a colon, and its items indented below.
        if _GOOGLE.match(line) and _indent(lines, at + 1):
            at = _google(lines, at + 1, found)
        # NumPy: a title with a line of dashes below.
        elif _NUMPY.match(line) and at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1]):
            at = _numpy(lines, at + 2, found)
        # Sphinx: a field for each parameter, anywhere in the text.
        elif item := _SPHINX_ITEM.match(line):
            at = _text(lines, at + 1, 0, found, [item[1]], item[2])
        # The annotation has the type, so the docstring's is dropped.
        elif _SPHINX_TYPE.match(line):
            at = _text(lines, at + 1, 0, {}, [], "")
        else:
            kept.append(line)
            at += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), found


def _indent(lines: list[str], at: int) -> int:
    """The indentation of the first line from here that is not blank."""
    for line in lines[at:]:
        if stripped := line.lstrip():
            return len(line) - len(stripped)
    return 0


def _google(lines: list[str], at: int, found: dict[str, str]) -> int:
    indent = _indent(lines, at)
    # Blank lines do not end a section; the first line that is indented less does.
    while at < len(lines) and (not lines[at].strip() or _indent(lines, at) >= indent):
        item = _GOOGLE_ITEM.match(lines[at].strip())
        if item and _indent(lines, at) == indent:
            at = _text(lines, at + 1, indent, found, [item[1]], item[2] or "")
        else:
            at += 1
    return at


def _numpy(lines: list[str], at: int, found: dict[str, str]) -> int:
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and _UNDERLINE.match(lines[at + 1]):
            return at  # the next section
        if not line.strip():
            at += 1
            continue
        item = _NUMPY_ITEM.match(line)
        # A line that is no item ends the section, and is description again.
        if not item or not (_indent(lines, at + 1) or ":" in line):
            return at
        names = [name.strip().lstrip("*") for name in item[1].split(",")]
        at = _text(lines, at + 1, 0, found, names, "")
    return at


def _text(lines: list[str], at: int, indent: int, found: dict[str, str], names: list[str], first: str) -> int:
    """Take the lines indented deeper than `indent` as the rest of an item; where the next thing begins."""
    text = [first.strip()]
    while at < len(lines) and lines[at].strip() and _indent(lines, at) > indent:
        text.append(lines[at].strip())
        at += 1
    joined = " ".join(part for part in text if part)
    if joined:
        found.update(dict.fromkeys(names, joined))
    return at
