# SPDX-License-Identifier: MIT
"""The two tools that every server of this library has here; ours.py and fleet.py add their own."""

from mcp_h11 import Context, MCPServer

server = MCPServer("subject", version="1")


@server.tool(structured_output=False)
async def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b


@server.tool(structured_output=False)
async def ticks(n: int, ctx: Context) -> str:
    "Report progress n times."
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"
