# SPDX-License-Identifier: MIT
"""griffe's extension for the API reference: arguments that share one entry of `Args:` get an entry each.

The docstring says `env, cwd: of a child process`; the reference has a row with a type and a default for each argument.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_SECTION = re.compile(r"^( *)(?:Args|Attributes):$")
_GROUP = re.compile(r"^( +)(\w+(?:, \w+)+): ")


def ungrouped(text: str) -> str:
    """The docstring with an entry for each argument; the later ones refer to the first."""
    lines: list[str] = []
    depth: int | None = None  # of the section that is being read
    waiting: list[str] = []  # entries that stand behind the one that is being read
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if waiting and (not line.strip() or depth is None or indent <= depth + 4):
            lines += waiting
            waiting = []
        if section := _SECTION.match(line):
            depth = len(section[1])
        elif line.strip() and depth is not None and indent <= depth:
            depth = None
        elif depth is not None and (group := _GROUP.match(line)):
            first, *others = group[2].split(", ")
            line = f"{group[1]}{first}: {line[group.end() :]}"
            waiting = [f"{group[1]}{other}: See `{first}`." for other in others]
        lines.append(line)
    return "\n".join(lines + waiting)


class GroupedArguments(Extension):
    """The extension that mkdocs.yml names."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ungrouped(obj.docstring.value)
