# SPDX-License-Identifier: MIT
"""A report that takes a while, as a task: the client gets an id at once, and comes back for the result.

    python -m mcp_h11 examples/report_task.py --store reports.db
    python -m mcp_h11 call http://127.0.0.1:8000/mcp report pages=3 --task

With `--store` the result is there after a restart, and each process of `--workers` answers for each task.
"""

import asyncio
from dataclasses import dataclass

from mcp_h11 import Context, MCPServer

server = MCPServer("reports")
PAUSE = 1.0  # seconds for one page


@dataclass
class Delivery:
    title: str


@server.tool(task="optional", timeout=600)
async def report(pages: int, ctx: Context) -> str:
    """Write a report of so many pages, and ask for its title in the end."""
    for page in range(1, pages + 1):
        await asyncio.sleep(PAUSE)
        await ctx.report_progress(page, pages, f"page {page} of {pages}")  # the status of the task
    if not await ctx.start_task():  # a client without tasks has waited long enough
        return f"A report of {pages} pages"
    answer = await ctx.elicit("What is the title?", Delivery)
    title = answer.data.title if answer.action == "accept" else "Untitled"
    return f"{title}, a report of {pages} pages"
