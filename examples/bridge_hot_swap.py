# SPDX-License-Identifier: MIT
"""A bridge in front of one command, which is replaced by another while clients use it.

    python examples/bridge_hot_swap.py

Type a command, such as `python -m mcp_h11 examples/notes.py --stdio`, and Enter: the bridge starts it, moves new
requests to it, and lets calls in progress end at the old one.  Clients are told that the tools have changed.  Ctrl+D
ends it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from pathlib import Path

from mcp_h11 import Command, ProxyHandler, listening

HELLO = Path(__file__).with_name("hello.py")


def command(*words: str) -> Command:
    return Command([sys.executable if word == "python" else word for word in words])


async def replaced(bridge: ProxyHandler, line: str) -> str:
    try:
        await bridge.swap(command(*shlex.split(line)), sessions="migrate")
    except Exception as error:  # the new command did not start, and nothing has changed
        return f"kept the old one: {error}"
    return "swapped"


async def main() -> None:
    # The globs of `deny` are tools that no client sees or calls.
    bridge = ProxyHandler(command("python", "-m", "mcp_h11", str(HELLO), "--stdio"), deny=["delete_*"])
    async with listening(bridge, port=int(os.environ.get("PORT", "8000"))) as running:
        print(running.url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await replaced(bridge, line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
