# SPDX-License-Identifier: MIT
"""What the tools of tmdevlab.py cost in Python without an MCP server: `shop_floor.py PORT SERVICE REDIS`, on uvloop.

A floor to measure against, not a server.
"""

import asyncio
import json
import sys
from functools import partial

import uvloop
from least_http import LeastHTTP, serve
from plain import opened, result, text
from shop_tools import Tools

TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("search_products", "get_user_cart", "checkout")]


class Floor(LeastHTTP):
    def __init__(self, tools, tasks):
        self.tools = tools
        self.tasks = tasks

    def received(self, body):
        message = json.loads(body)
        id, method = message.get("id"), message["method"]
        if id is None:
            self.answer(202, b"")
        elif method == "tools/call":
            task = asyncio.get_running_loop().create_task(self.call(id, message["params"]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif method == "tools/list":
            self.answer(200, result(id, {"tools": TOOLS}))
        else:
            self.answer(200, opened(id, message["params"]))

    async def call(self, id, params):
        self.answer(200, text(id, await getattr(self.tools, params["name"])(**params["arguments"])))


async def main(port, *backends):
    await serve(port, partial(Floor, Tools(*backends), set()))


uvloop.install()
asyncio.run(main(*sys.argv[1:]))
