# SPDX-License-Identifier: MIT
"""The official Python SDK, PyPI `mcp`: `python_sdk.py PORT [json] [stateless]`.

As it comes, that is with event streams as answers, but for the log: a line for each request is not what is measured.
"""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer

port, words = int(sys.argv[1]), sys.argv[2:]
server = MCPServer("subject", version="1", log_level="WARNING")


@server.tool(structured_output=False)
async def add(a: int, b: int) -> str:
    "Add two numbers."
    return str(a + b)


@server.tool(structured_output=False)
async def ticks(n: int, ctx: Context) -> str:
    "Report progress n times."
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"


@server.tool(structured_output=False)
async def echo(text: str) -> str:
    "Say it again."
    return text


@server.tool(structured_output=False)
async def sleep(seconds: float) -> str:
    "Wait."
    await asyncio.sleep(seconds)
    return "slept"


for number in range(96):

    async def extra(a: int, b: int) -> str:
        "Another tool, for the list."
        return str(a + b)

    server.tool(name=f"extra_{number}", structured_output=False)(extra)

server.run(
    "streamable-http",
    port=port,
    json_response="json" in words,
    stateless_http="stateless" in words,
    max_sessions=None,
)
