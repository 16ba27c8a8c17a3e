# SPDX-License-Identifier: MIT
"""Our client: `client_ours.py REVISION URL` or `client_ours.py REVISION COMMAND ...`."""

import asyncio
import sys

from calling import serve

from mcp_h11 import Client


async def main(revision, *target):
    where = target[0] if len(target) == 1 else list(target)
    async with Client(where, revision=revision, env="inherit") as client:
        if client.revision.name != revision:
            raise SystemExit(f"the revision is {client.revision.name}")

        async def add(a, b):
            result = await client.call_tool("add", {"a": a, "b": b})
            return result["content"][0]["text"]

        await serve(add)


asyncio.run(main(*sys.argv[1:]))
