# SPDX-License-Identifier: MIT
"""The client of the official Python SDK: `client_sdk.py REVISION URL` or `client_sdk.py REVISION COMMAND ...`."""

import asyncio
import os
import sys

from calling import serve
from mcp import Client, StdioServerParameters


async def main(revision, *target):
    where = target[0]
    if len(target) > 1:
        where = StdioServerParameters(command=target[0], args=list(target[1:]), env=dict(os.environ))
    async with Client(where, mode=revision if revision >= "2026" else "legacy") as client:
        if client.session.protocol_version != revision:
            raise SystemExit(f"the revision is {client.session.protocol_version}")

        async def add(a, b):
            result = await client.call_tool("add", {"a": a, "b": b})
            return result.content[0].text

        await serve(add)


asyncio.run(main(*sys.argv[1:]))
