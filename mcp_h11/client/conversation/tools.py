# SPDX-License-Identifier: MIT
"""The facts that a client remembers of each tool in the server's lists.

These are the arguments that the client must mirror in headers, and whether a lost call may be repeated.

It refuses tools with wrong `x-mcp-header` annotations: they are left out of the list, with a warning
(2026-07-28 basic/transports/streamable-http, Schema Extension).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ...http.headers import header_map
from ...protocol.shown import escaping
from .seldom import Seldom

logger = escaping(logging.getLogger(__name__))

# The bounds of the memory for one server: tools, and characters of their names, header names and argument paths.
MAX_KNOWN_TOOLS = 10_000
MAX_KNOWN_SIZE = 4 * 1024 * 1024

# The path of an argument in the params, and the name of the header that mirrors it.
HeaderMap = dict[tuple[str, ...], str]


class KnownTools:
    """Tools by their name; when the memory is full, the tools that were listed longest ago are dropped."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[HeaderMap, bool, int]] = OrderedDict()
        self._size = 0
        self._seldom = Seldom(logger)

    def learn(self, tools: Any, *, mirrored: bool) -> list[dict[str, Any]]:
        """Remembers the tools of one page of a list, and gives those that may be used.

        Args:
            mirrored: whether this transport mirrors arguments in headers; else wrong annotations do no harm.
        """
        usable = []
        for tool in tools if isinstance(tools, list) else []:
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(name, str):
                self._seldom.warning("a tool without a name was left out")
                continue
            headers: HeaderMap = {}
            if mirrored:
                try:
                    headers = header_map(tool.get("inputSchema") or {})
                except (ValueError, AttributeError) as error:
                    # "Clients MUST exclude the invalid tool from the result of tools/list ... SHOULD log a warning"
                    self._seldom.warning("tool %.200r was left out: %.300s", name, error)
                    self._forget(name)
                    continue
            # Removed first, so that a tool that is listed again becomes the newest one.
            self._forget(name)
            size = size_of(name, headers)
            self._known[name] = headers, _repeatable(tool.get("annotations")), size
            self._size += size
            usable.append(tool)
        while len(self._known) > MAX_KNOWN_TOOLS or self._size > MAX_KNOWN_SIZE:
            self._forget(next(iter(self._known)))
        return usable

    def close(self) -> None:
        """Writes the log lines that were counted and not written yet."""
        self._seldom.close()

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._size -= known[2]

    def headers(self, name: Any) -> HeaderMap | None:
        """The arguments of a tool to mirror in headers; None for a tool that was never listed."""
        found = self._known.get(name) if isinstance(name, str) else None
        return None if found is None else found[0]

    def repeatable(self, name: Any) -> bool:
        """Whether the tool says of itself that a second call has no further effect; False for an unknown tool."""
        found = self._known.get(name) if isinstance(name, str) else None
        return found is not None and found[1]


def size_of(name: str, headers: Mapping[tuple[str, ...], str]) -> int:
    """The characters that remembering this tool takes."""
    return len(name) + sum(len(header) + sum(map(len, path)) for path, header in headers.items())


def _repeatable(annotations: Any) -> bool:
    if not isinstance(annotations, dict):
        return False
    # By identity, because a server may send any JSON here.
    return annotations.get("readOnlyHint") is True or annotations.get("idempotentHint") is True
