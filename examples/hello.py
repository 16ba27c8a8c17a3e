# SPDX-License-Identifier: MIT
"""The smallest server: one tool.

    python examples/hello.py
    python -m mcp_h11 call http://127.0.0.1:8000/mcp greet name=Ann

The first command serves until Ctrl+C; type the second one in another terminal.
"""

from mcp_h11 import MCPServer

server = MCPServer("hello")


@server.tool
def greet(name: str) -> str:
    "Greet a person by name."
    return f"Hello, {name}!"


if __name__ == "__main__":
    server.run()
