# SPDX-License-Identifier: MIT
"""PyPI `zeromcp`: `zero_mcp.py PORT`.

As it comes: a thread for each connection.  It runs an async tool in an event loop made for each call, so the tools
that do not wait are plain functions here.  It sends no progress.
"""

import sys
import time

from zeromcp import McpServer

server = McpServer("subject")


@server.tool
def add(a: int, b: int) -> str:
    "Add two numbers."
    return str(a + b)


@server.tool
def echo(text: str) -> str:
    "Say it again."
    return text


@server.tool
def sleep(seconds: float) -> str:
    "Wait."
    time.sleep(seconds)
    return "slept"


def extra(number):
    def another(a: int, b: int) -> str:
        "Another tool, for the list."
        return str(a + b)

    another.__name__ = f"extra_{number}"
    return another


for number in range(97):
    server.tool(extra(number))

server.serve("127.0.0.1", int(sys.argv[1]), background=True)
while True:
    time.sleep(3600)
