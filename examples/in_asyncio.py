# SPDX-License-Identifier: MIT
"""A server inside a program that has an event loop of its own.

    python examples/in_asyncio.py

The program measures something once a second, and a model can ask for the last value while it does.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal

from mcp_h11 import MCPServer, listening

server = MCPServer("thermometer")
readings: list[float] = []


@server.tool
async def temperature() -> float:
    "The last temperature, in degrees Celsius."
    return readings[-1]


async def measure() -> None:
    while True:
        readings.append(round(random.uniform(18, 22), 1))
        server.notify_resource_updated("room://temperature")
        await asyncio.sleep(1)


@server.resource("room://temperature")
async def page() -> str:
    "The last temperature, as text."
    return f"{readings[-1]} °C"


async def main() -> None:
    measuring = asyncio.create_task(measure())
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Every setting is a keyword.  When the block ends, running calls may finish and the server closes.
    async with listening(server, port=int(os.environ.get("PORT", "8000")), grace=2) as running:
        print(running.url, flush=True)
        await stopped.wait()
    measuring.cancel()


if __name__ == "__main__":
    asyncio.run(main())
