# SPDX-License-Identifier: MIT
"""This library as a worker: `fleet.py PORT [STORE]`, or `python -m mcp_h11 fleet.py --workers N`.

Alone, two defaults are set otherwise, as in ours.py.
"""

import asyncio
import sys
import time

from counting import server

from mcp_h11 import Context, run


@server.tool(structured_output=False)
async def stamps(n: int, pause: float, ctx: Context) -> str:
    "Say the time n times: the clock is one for all processes of a machine."
    for i in range(1, n + 1):
        await ctx.info(f"stamp {i} {time.monotonic_ns()}")
        await asyncio.sleep(pause)
    return "done"


if __name__ == "__main__":
    store = sys.argv[2] if len(sys.argv) > 2 else None
    run(server, port=int(sys.argv[1]), store=store, loop="asyncio", max_requests=None, max_sessions_peer=None)
