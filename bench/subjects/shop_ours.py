# SPDX-License-Identifier: MIT
"""The tools of tmdevlab.py on this library: `shop_ours.py PORT SERVICE REDIS [speed]`.  JSON answers, no sessions."""

import sys

from shop_tools import Tools

from mcp_h11 import MCPServer, run

port, service, store, *words = sys.argv[1:]
server = MCPServer("shop", version="1")
tools = Tools(service, store)
for tool in (tools.search_products, tools.get_user_cart, tools.checkout):
    server.tool(structured_output=False)(tool)
options = {}
if "speed" in words:
    import orjson

    options = {"json": orjson, "loop": "uvloop"}
run(server, port=int(port), stateless=True, max_requests=None, **{"loop": "asyncio", **options})
