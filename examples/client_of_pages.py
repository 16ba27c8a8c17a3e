# SPDX-License-Identifier: MIT
"""A client: lists with pages, answers to questions, and changes as they happen.

    python -m mcp_h11 examples/own_handler.py
    python examples/client_of_pages.py http://127.0.0.1:8000/mcp

`list_resources()` reads all pages.  A program that wants one page at a time asks for it by `request`, as here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from mcp_h11 import Client, MCPError


async def pages(client: Client, method: str, member: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Each page of a list."""
    params: dict[str, Any] = {}
    while True:
        result = await client.request(method, params)
        yield result[member]
        if not result.get("nextCursor"):
            return
        params = {"cursor": result["nextCursor"]}


async def main(url: str) -> None:
    async with Client(url) as client:
        print(f"{client.server_info['name']} speaks {client.revision.name}")
        number = 0
        async for page in pages(client, "resources/list", "resources"):
            number += len(page)
            print(f"{len(page)} resources, {number} so far, the last is {page[-1]['uri']}")
        try:
            await client.read_resource("rows://no-such-row")
        except MCPError as error:  # every error has a class, a code and a text
            print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the URL of a server, such as http://127.0.0.1:8000/mcp")
    asyncio.run(main(sys.argv[1]))
