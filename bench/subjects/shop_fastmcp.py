# SPDX-License-Identifier: MIT
"""The tools of tmdevlab.py on PyPI `fastmcp`, in uvicorn with uvloop: `shop_fastmcp.py PORT SERVICE REDIS`.

JSON answers, no sessions, one process.
"""

import sys

import uvicorn
from fastmcp import FastMCP
from shop_tools import Tools

port, service, store = sys.argv[1:]
server = FastMCP("shop", version="1")
tools = Tools(service, store)
for tool in (tools.search_products, tools.get_user_cart, tools.checkout):
    server.tool(output_schema=None)(tool)
app = server.http_app(path="/mcp", json_response=True, stateless_http=True)
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False, loop="uvloop")
