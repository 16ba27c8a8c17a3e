# SPDX-License-Identifier: MIT
"""The arguments of a backend's tools that a client repeats in HTTP headers (2026-07-28, `x-mcp-header`).

The server in front compares each header with the argument, so it has to know the annotations of the backend's tools.

Rule: the table is bounded in tools and in size; a tool beyond that goes unchecked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from ..client.client import Client
from ..client.conversation.tools import MAX_KNOWN_SIZE, size_of
from ..http.headers import header_map
from ..protocol.errors import MCPError
from ..protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

LIST_TIME = 5.0  # seconds for the list of tools of a new backend
MAX_LIST_PAGES = 100
MAX_ANNOTATED = 10_000  # tools with mirrored arguments


class MirroredArguments:
    """By tool, the arguments that are mirrored in headers; learnt from each list of tools that passes the bridge."""

    def __init__(self) -> None:
        self._maps: dict[str, Mapping[tuple[str, ...], str]] = {}
        self._size = 0

    def get(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        """The arguments of one tool; None if no header has to be checked."""
        return self._maps.get(tool)

    def learn(self, tools: Any) -> None:
        """Learn from the `tools` of a list.  The backend is not trusted: anything malformed is skipped."""
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(name, str):
                continue
            # A tool that is listed again replaces its entry, and is counted once.
            self._size -= size_of(name, self._maps.pop(name)) if name in self._maps else 0
            with suppress(ValueError, AttributeError):  # a tool with bad annotations is for clients to leave out
                found = header_map(tool.get("inputSchema") or {})
                size = size_of(name, found)
                if found and len(self._maps) < MAX_ANNOTATED and self._size + size <= MAX_KNOWN_SIZE:
                    self._maps[name] = found
                    self._size += size

    async def read(self, client: Client) -> None:
        """Learn from a backend that has just been connected; one that does not answer in time goes unchecked."""
        # A backend without tools would answer with an error.
        if "tools" not in client.server_capabilities:
            return
        params: dict[str, Any] = {}
        with anyio.move_on_after(LIST_TIME):
            try:
                for _ in range(MAX_LIST_PAGES):
                    result = await client.request("tools/list", params)
                    self.learn(result.get("tools"))
                    if not isinstance(result.get("nextCursor"), str):
                        return
                    params = {"cursor": result["nextCursor"]}
            except MCPError as exc:
                logger.info("the tools of a backend are not known beforehand: %s", exc)
