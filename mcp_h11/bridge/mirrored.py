# SPDX-License-Identifier: MIT
"""The arguments of a backend's tools that a client repeats in HTTP headers (2026-07-28, `x-mcp-header`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from ..client.client import Client
from ..client.tools import MAX_KNOWN_SIZE, size_of
from ..http.headers import header_map
from ..protocol.errors import MCPError
from ..protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

LIST_TIME = 5.0  # for the tools of a new backend, whose headers are to be checked
MAX_LIST_PAGES = 100
MAX_ANNOTATED = 10_000  # tools whose arguments are mirrored in headers


class MirroredArguments:
    """Which arguments of which tools are mirrored in headers: learnt of every list that passes."""

    def __init__(self) -> None:
        self._maps: dict[str, Mapping[tuple[str, ...], str]] = {}
        self._size = 0

    def get(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        """Of one tool; None where there is nothing to check."""
        return self._maps.get(tool)

    def learn(self, tools: Any) -> None:
        """Of the `tools` of a list, whatever they are."""
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(name, str):
                continue
            self._size -= size_of(name, self._maps.pop(name)) if name in self._maps else 0
            with suppress(ValueError, AttributeError):  # a tool with bad annotations is for clients to leave out
                found = header_map(tool.get("inputSchema") or {})
                size = size_of(name, found)
                if found and len(self._maps) < MAX_ANNOTATED and self._size + size <= MAX_KNOWN_SIZE:
                    self._maps[name] = found
                    self._size += size

    async def read(self, client: Client) -> None:
        """Of a backend that has just been connected; one that does not tell in time goes unchecked."""
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
