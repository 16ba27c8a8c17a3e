# SPDX-License-Identifier: MIT
"""This library: `ours.py PORT [stateless] [sse] [speed] [stdio] [asgi]`; on pipes it has no use for the port.

Two defaults are set otherwise: a connection is not closed after its thousandth request, and one address may hold more
than a thousand sessions, since all load comes from one.
"""

import asyncio
import sys

from counting import server

from mcp_h11 import run

port, words = int(sys.argv[1]), sys.argv[2:]
options = {"max_requests": None, "max_sessions_peer": None, "stateless": "stateless" in words}
if "sse" in words:
    options["response"] = "sse"
if "speed" in words:
    import orjson

    options["json"] = orjson


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

    async def extra(a: int, b: int) -> int:
        "Another tool, for the list."
        return a + b

    server.tool(name=f"extra_{number}", structured_output=False)(extra)

if "stdio" in words:
    from mcp_h11 import run_stdio

    run_stdio(server)
    sys.exit()
if "asgi" in words:
    import uvicorn

    options.pop("max_requests")
    uvicorn.run(server.asgi(**options), port=port, log_level="critical", loop="asyncio", http="h11", ws="none")
    sys.exit()
run(server, port=port, loop="uvloop" if "speed" in words else "asyncio", **options)
