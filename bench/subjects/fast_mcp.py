# SPDX-License-Identifier: MIT
"""PyPI `fastmcp`: `fast_mcp.py PORT [json] [stateless] [redis://...]`.  As it comes, but for the log and the banner.

The URL is that of an event store, which its documentation names for resuming.
"""

import asyncio
import sys

from fastmcp import Context, FastMCP

port, words = int(sys.argv[1]), sys.argv[2:]
server = FastMCP("subject", version="1")


@server.tool(output_schema=None)
async def add(a: int, b: int) -> str:
    "Add two numbers."
    return str(a + b)


@server.tool(output_schema=None)
async def ticks(n: int, ctx: Context) -> str:
    "Report progress n times."
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"


@server.tool(output_schema=None)
async def echo(text: str) -> str:
    "Say it again."
    return text


@server.tool(output_schema=None)
async def sleep(seconds: float) -> str:
    "Wait."
    await asyncio.sleep(seconds)
    return "slept"


for number in range(96):

    async def extra(a: int, b: int) -> str:
        "Another tool, for the list."
        return str(a + b)

    server.tool(name=f"extra_{number}", output_schema=None)(extra)

urls = [word for word in words if word.startswith("redis:")]
if urls:
    import uvicorn
    from fastmcp.server.event_store import EventStore
    from key_value.aio.stores.redis import RedisStore

    app = server.http_app(path="/mcp", event_store=EventStore(storage=RedisStore(url=urls[0])))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    sys.exit()
server.run(
    "http",
    host="127.0.0.1",
    port=port,
    path="/mcp",
    log_level="WARNING",
    show_banner=False,
    json_response="json" in words,
    stateless_http="stateless" in words,
)
