# SPDX-License-Identifier: MIT
"""A server on PyPI `mcp` 2.x for our client: `py23_server.py streamable-http|sse|stdio [PORT]`."""

from __future__ import annotations

import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

server = MCPServer("python-sdk")


class Person(BaseModel):
    name: str


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def ticks(n: int, ctx: Context) -> str:
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"


@server.tool()
def echo(text: str) -> str:
    return text


@server.tool()
async def sleep(seconds: float) -> str:
    await anyio.sleep(seconds)
    return "slept"


@server.tool()
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("Who?", Person)
    return f"{answer.action} {answer.data.name}" if answer.action == "accept" else answer.action


@server.resource("note://{name}")
def note(name: str) -> str:
    return f"note {name}"


@server.prompt()
def review(code: str) -> str:
    return f"review {code}"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run(sys.argv[1], port=int(sys.argv[2]))
