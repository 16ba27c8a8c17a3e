# SPDX-License-Identifier: MIT
"""Counts the operations of the store in each step of a session: `python bench/fleet_operations.py`.

Two workers in this process share a store in memory that counts.  Each operation is one round trip to Redis, or to the
thread of SQLite; those of one turn of the loop travel together.  Heartbeats are left out: one a second and worker.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT / "tests" / "support", ROOT):
    sys.path.insert(0, str(place))

import wire
from rawclient import Legacy

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.stores.memory import Hub, MemoryStore

EVENTS = 10
SETTLE = 0.05  # seconds; some operations follow the answer
ANSWER_LIMIT = 30.0
# The heartbeat, and what a store in memory asks of itself.
LEFT_OUT = frozenset(("inbox.take", "inbox.is_alive", "inbox.accept", "bus.subscribe", "bus.hear"))


class Counted:
    """One part of a store: counts the calls of each operation."""

    def __init__(self, part: Any, name: str, counts: Counter[str]) -> None:
        self._part, self._name, self._counts = part, name, counts

    def __getattr__(self, operation: str) -> Any:
        found = getattr(self._part, operation)

        def counted(*arguments: Any, **options: Any) -> Any:
            name = f"{self._name}.{operation}"
            if name not in LEFT_OUT:
                self._counts[name] += 1
            return found(*arguments, **options)

        return counted


class CountingStore(MemoryStore):
    """A store in memory; `counts` has its operations so far."""

    def __init__(self, hub: Hub, counts: Counter[str]) -> None:
        MemoryStore.__init__(self, hub)
        for name in ("records", "logs", "inbox", "bus"):
            setattr(self, name, Counted(getattr(self, name), name, counts))


def make_server() -> MCPServer:
    server = MCPServer("counted", version="1")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def steps(n: int, ctx: Context) -> str:
        for i in range(n):
            await ctx.info(f"step {i}")
        return "done"

    @server.tool
    async def change(ctx: Context) -> str:
        ctx.server.notify_tools_changed()
        return "changed"

    return server


@asynccontextmanager
async def two_workers(counts: Counter[str]) -> AsyncIterator[tuple[Any, Any]]:
    hub = Hub()
    async with (
        listening(make_server(), port=0, store=CountingStore(hub, counts)) as one,
        listening(make_server(), port=0, store=CountingStore(hub, counts)) as other,
    ):
        while len(hub.workers) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(SETTLE)
        yield one, other


async def counted() -> dict[str, Counter[str]]:
    """The operations of each step of a session's life."""
    counts: Counter[str] = Counter()
    found: dict[str, Counter[str]] = {}

    async def step(name: str, doing: Callable[[], Awaitable[Any]]) -> None:
        before = counts.copy()
        await doing()
        await asyncio.sleep(SETTLE)
        found[name] = counts - before

    async with two_workers(counts) as (one, other):
        peer = Legacy(one.port, wire.D, limit=ANSWER_LIMIT)

        def tool(name: str, **arguments: Any) -> Callable[[], Awaitable[Any]]:
            return lambda: peer.call("tools/call", {"name": name, "arguments": arguments})

        await step("initialize and initialized", peer.initialize)
        await step("a JSON call at the same worker", tool("add", a=1, b=2))
        peer.port = other.port
        await step("the first call at another worker", tool("add", a=1, b=2))
        await step("each later JSON call there", tool("add", a=1, b=2))
        await step(f"a call with {EVENTS} events", tool("steps", n=EVENTS))
        await step("a log level", lambda: peer.call("logging/setLevel", {"level": "error"}))
        async with peer.get_stream() as stream:
            await asyncio.sleep(SETTLE)
            await step("a notice, with one GET stream open", tool("change"))
            await stream.next_message()
        async with peer.get_stream():
            pass
        await step("a GET stream, opened and left", lambda: opened_and_left(peer))
        await step("DELETE", peer.delete)
    return found


async def opened_and_left(peer: Legacy) -> None:
    async with peer.get_stream():
        await asyncio.sleep(SETTLE)


def page() -> list[str]:
    """A section of a page."""
    lines = [
        "## Operations of the store", "",
        "Each is one round trip; those of one turn of the loop travel together. Beside them, each worker takes from",
        "its inbox once a second, which is its heartbeat, and tells the store of the sessions that were used: twice a",
        "minute, all of them at once.", "",
        "| | operations | which |", "|---|--:|---|",
    ]  # fmt: skip
    for name, counts in asyncio.run(counted()).items():
        which = ", ".join(f"{count} {operation}" for operation, count in sorted(counts.items()))
        lines.append(f"| {name} | {counts.total()} | {which or '–'} |")
    return [*lines, ""]


if __name__ == "__main__":
    print("\n".join(page()))
