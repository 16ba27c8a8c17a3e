# SPDX-License-Identifier: MIT
"""A cart for each client, which is there on every process of a fleet.

    python -m mcp_h11 examples/cart_in_a_fleet.py --workers 2
    python -m mcp_h11 examples/cart_in_a_fleet.py --store redis://localhost      # the same on several machines

A global variable would be one process's, and the next call may come to another process.
"""

from __future__ import annotations

import os

from mcp_h11 import Context, MCPServer, ToolError

server = MCPServer("shop")


@server.tool
async def add_to_cart(item: str, ctx: Context) -> list[str]:
    "Put an item into the cart."
    if ctx.session is None:  # 2026-07-28, where clients have no session: see docs/context.md for the ways there
        raise ToolError("This needs a client with a session.")
    # Two steps, so two calls of one client that run at once may lose an item: give each a key of its own if they do.
    cart = [*await ctx.session.get("cart", []), item]
    await ctx.session.set("cart", cart)
    return cart


@server.tool
def process_id() -> int:
    "The process that answers."
    return os.getpid()


if __name__ == "__main__":
    server.run()
