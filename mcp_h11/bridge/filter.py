# SPDX-License-Identifier: MIT
"""Which tools of a backend a bridge shows, by name and with globs; the same verdict for listing and for calling.

Patterns are those of a shell (`*`, `?`, `[abc]`), matched against the whole name, upper and lower case apart.  They
come from whoever runs the bridge; names come from anybody.

Rule: one predicate decides, and whoever lists and whoever calls asks it.  Where both lists name a tool, deny wins.
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
    """Lets a name pass, or not.

    Args:
        allow: globs; where there are any, nothing passes that matches none of them.
        deny: globs; what matches one does not pass.
        precedence: which list wins for a name on both.  With "allow" and both lists, the first one holds the
            exceptions from the second: what is on neither passes.

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
        """Whether everything passes."""
        return not self._allow and not self._deny

    def allows(self, name: Any) -> bool:
        """Whether a tool of this name is to be seen and called; nothing but a string is a name."""
        if not isinstance(name, str):
            return False
        allowed, denied = _matches(self._allow, name), _matches(self._deny, name)
        if self.precedence == "allow" and self._deny:
            return allowed or not denied
        return not denied and (allowed or not self._allow)

    def shown(self, tools: Any) -> Any:
        """The tools of a list that pass; the same object where all do."""
        if self.is_open or not isinstance(tools, list):
            return tools
        return [tool for tool in tools if isinstance(tool, dict) and self.allows(tool.get("name"))]


def _compiled(patterns: tuple[str, ...]) -> list[re.Pattern[str]]:
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"at most {MAX_PATTERNS} patterns")
    for pattern in patterns:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters: {pattern[:50]!r}")
    # What `translate` writes takes linear time: a star never gives back what it took.
    return [re.compile(translate(pattern)) for pattern in patterns]


def _matches(patterns: list[re.Pattern[str]], name: str) -> bool:
    return any(pattern.match(name) for pattern in patterns)
