# SPDX-License-Identifier: MIT
"""Slow work: progress, log messages, a time limit, and the user's cancelling.

    python -m mcp_h11 examples/slow_job.py
    python -m mcp_h11 call http://127.0.0.1:8000/mcp convert files:='["a.raw", "b.raw"]'

Ctrl+C in the second terminal cancels the call; the server's log shows that the work was tidied up.
"""

from __future__ import annotations

import asyncio
import logging
import time

from mcp_h11 import Context, MCPServer

server = MCPServer("converter")
log = logging.getLogger("converter")


# Each progress gives the call its 10 seconds again, so that a long list may take long and one bad file may not.
@server.tool(timeout=10)
async def convert(files: list[str], ctx: Context, seconds: float = 1.0) -> str:
    "Convert files, one after the other."
    done = 0
    try:
        for done, file in enumerate(files, 1):
            await ctx.info(f"converting {file}")
            await asyncio.sleep(seconds)  # the work
            await ctx.report_progress(done, len(files), file)
    finally:
        # Also when the user cancels, or the time is up: here is the place to remove temporary files.
        log.info("tidied up after %d of %d files", done, len(files))
    return f"converted {done} files"


# A plain function runs in a thread, so it may block.  It speaks to the client by `ctx.wait`.
@server.tool
def checksum(numbers: list[int], ctx: Context) -> int:
    "Add numbers, slowly."
    total = 0
    for place, number in enumerate(numbers, 1):
        time.sleep(0.01)
        total += number
        ctx.wait(ctx.report_progress(place, len(numbers)))
    return total


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    server.run()
