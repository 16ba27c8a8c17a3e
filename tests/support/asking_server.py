# SPDX-License-Identifier: MIT
"""A server whose tool asks its client, logs and reports progress, and another that says that a resource has changed."""

from __future__ import annotations

from mcp_h11 import Context, MCPServer

QUESTION = {"type": "object", "properties": {"it": {"type": "string"}}, "required": ["it"]}


def asking() -> MCPServer:
    server = MCPServer("asking", version="1")

    @server.tool()
    async def ask(ctx: Context) -> str:
        await ctx.info("asking")
        await ctx.report_progress(1, 2)
        return str((await ctx.elicit("Which?", QUESTION)).data)

    @server.tool()
    async def touch(ctx: Context) -> str:
        await ctx.notify_resource_updated("a://b")
        return "touched"

    @server.resource("a://b")
    def read() -> str:
        return "b"

    return server


server = asking()
