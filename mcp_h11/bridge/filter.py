# SPDX-License-Identifier: MIT
"""The tools of a backend that a bridge shows, chosen by globs over their names.

Patterns are those of a shell (`*`, `?`, `[abc]`).  They are matched against the whole name and distinguish upper from
lower case.  The operator of the bridge writes the patterns; names are untrusted input.

Rule: one predicate decides for listing and for calling alike.  Where both lists name a tool, deny wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Any

MAX_PATTERNS = 1_000
MAX_PATTERN = 256  # characters
PRECEDENCES = ("deny", "allow")


class ToolFilter:
    """Lets the name of a tool pass, or not.

    Args:
        allow: globs; where there are any, a name has to match one of them to pass.
        deny: globs; a name that matches one does not pass.
        precedence: the list that wins for a name on both.  With "allow" and both lists, the first one holds the
            exceptions from the second: a name on neither list passes.

    Raises:
        ValueError: a pattern is empty, too long, or one of too many.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = (), precedence: str = "deny") -> None:
        if precedence not in PRECEDENCES:
            raise ValueError(f"precedence is deny or allow, not {precedence!r}")
        self.allow, self.deny, self.precedence = tuple(allow), tuple(deny), precedence
        self._allow, self._deny = _compiled(self.allow), _compiled(self.deny)

    @property
    def is_open(self) -> bool:
        """Whether every name passes."""
        return not self._allow and not self._deny

    def allows(self, name: Any) -> bool:
        """Whether clients may see and call a tool of this name.  A name that is no string does not pass."""
        if not isinstance(name, str):
            return False
        if not self._allow and not self._deny:
            return True
        allowed, denied = _matches(self._allow, name), _matches(self._deny, name)
        if self.precedence == "allow" and self._deny:
            return allowed or not denied
        return not denied and (allowed or not self._allow)

    def shown(self, tools: Any) -> Any:
        """The tools of a list that pass; the same object where the filter is open."""
        if self.is_open or not isinstance(tools, list):
            return tools
        return [tool for tool in tools if isinstance(tool, dict) and self.allows(tool.get("name"))]


def _compiled(patterns: tuple[str, ...]) -> list[re.Pattern[str]]:
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters: {pattern[:50]!r}")
    # Names are untrusted, so matching must not take exponential time: in the expressions that `translate` writes a star
    # never gives back characters that it took.
    return [re.compile(translate(pattern)) for pattern in patterns]


def _matches(patterns: list[re.Pattern[str]], name: str) -> bool:
    return any(pattern.match(name) for pattern in patterns)
