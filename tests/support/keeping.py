# SPDX-License-Identifier: MIT
"""A server whose tools keep values in the session of their caller, and one way to call them from each transport."""

from __future__ import annotations

import json
from typing import Any

from mcp_h11 import Context, MCPServer


def keeper() -> MCPServer:
    """Tools over `ctx.session`.  Values go in and out as JSON texts, so that a client sees them exactly."""
    server = MCPServer("keeper", version="1")

    @server.tool(name="set")
    async def set_(ctx: Context, key: str, text: str) -> str:
        assert ctx.session is not None
        await ctx.session.set(key, json.loads(text))
        return "kept"

    @server.tool
    async def fill(ctx: Context, key: str, size: int) -> str:
        """Keep a value of which the client sends only the size: that its values, as JSON, have altogether."""
        assert ctx.session is not None
        await ctx.session.set(key, "x" * (size - len(json.dumps({key: ""}, separators=(",", ":")))))
        return "kept"

    @server.tool
    async def get(ctx: Context, key: str) -> str:
        assert ctx.session is not None
        return json.dumps(await ctx.session.get(key, "nothing"))

    @server.tool
    async def delete(ctx: Context, key: str) -> str:
        assert ctx.session is not None
        await ctx.session.delete(key)
        return "gone"

    @server.tool
    def sync(ctx: Context, key: str) -> str:
        assert ctx.session is not None
        ctx.wait(ctx.session.set(key, "by a thread"))
        return str(ctx.wait(ctx.session.get(key)))

    @server.tool
    async def none(ctx: Context) -> str:
        return "no session" if ctx.session is None else "a session"

    return server


async def done(client: Any, tool: str, **arguments: Any) -> str:
    """The text of a call that succeeded."""
    failed, text = await tried(client, tool, **arguments)
    assert not failed, text
    return text


async def tried(client: Any, tool: str, **arguments: Any) -> tuple[bool, str]:
    """Whether the result is an error, and its text."""
    result = (await client.call("tools/call", {"name": tool, "arguments": arguments})).result
    return bool(result.get("isError")), "".join(part["text"] for part in result["content"])
