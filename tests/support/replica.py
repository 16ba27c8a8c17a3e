#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One worker of a fleet as a process of its own, for `replicas`.

    python tests/support/replica.py STORE_URL SETTINGS_AS_JSON

Says `at PORT` once it accepts.  Its tools say on stdout what they begin.  It takes commands on stdin, a line each:

    release LABEL    the tool call with this label goes on
    notify WHAT      tools, prompts, resources, or the URI of a resource that was updated
    sees N           says `sees N` once N workers are alive
    operations       says `operations NAME=COUNT ...`: what it has asked of its store
    memory           says `memory BYTES SESSIONS`: its resident set, and the sessions that it has at hand

The header X-User names the principal; without it, all clients are one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mcp_h11 import Context, MCPServer, Principal, run
from mcp_h11.runtime import fleet

PAGE = os.sysconf("SC_PAGE_SIZE")
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}
WATCHED = "test://watched"
# Seconds for the others to hear: a test finds what one worker answered at each other one, also where that stood still.
HEAR_LIMIT = 5.0


def say(*words: object) -> None:
    print(*words, flush=True)


class Replica(MCPServer):
    """The handler.  A call with a label waits until `release LABEL` comes."""

    def __init__(self) -> None:
        super().__init__("replica", version="1")
        self.gates: dict[str, asyncio.Event] = {}
        for tool in (self.echo, self.hold, self.stream, self.count, self.ask, self.talk, self.announce, self.buy):
            self.add_tool(tool, name=tool.__name__)
        for tool in (self.keep, self.kept):
            self.add_tool(tool, name=tool.__name__)
        for tool in (self.task_now, self.task_hold, self.task_ask):
            self.add_tool(tool, name=tool.__name__, task="optional")
        self.add_resource(WATCHED, self.watched)

    def gate(self, label: str) -> asyncio.Event:
        return self.gates.setdefault(label, asyncio.Event())

    async def _wait(self, label: str) -> str:
        say("began", label)
        try:
            await self.gate(label).wait()
        except asyncio.CancelledError:
            say("cancelled", label)
            raise
        finally:
            del self.gates[label]
        return f"{label} released"

    def watched(self) -> str:
        return "watched"

    async def echo(self, text: str) -> str:
        return text

    async def hold(self, label: str) -> str:
        """Wait, and send nothing before the answer."""
        return await self._wait(label)

    async def stream(self, ctx: Context, label: str, events: int = 1) -> str:
        """Send numbers, then wait, then answer."""
        for number in range(events):
            await ctx.info(number)
        return await self._wait(label)

    async def count(self, ctx: Context, events: int, pause: float = 0.0) -> str:
        """Send numbers, then answer."""
        for number in range(events):
            await ctx.info(number)
            await asyncio.sleep(pause)
        return f"{events} sent"

    async def ask(self, ctx: Context, label: str, kind: str = "elicit") -> str:
        """Ask the client, and answer with its answer."""
        say("began", label)
        if kind == "sample":
            return (await ctx.sample("hello", max_tokens=10)).text
        if kind == "roots":
            return str([root["uri"] for root in await ctx.list_roots()])
        answer = await ctx.elicit("Which?", FORM)
        return f"{answer.action} {answer.data}"

    async def keep(self, ctx: Context, key: str, value: str) -> str:
        """Keep a value in the session; an empty one deletes it."""
        assert ctx.session is not None
        await (ctx.session.set(key, value) if value else ctx.session.delete(key))
        return "kept"

    async def kept(self, ctx: Context, key: str) -> str:
        assert ctx.session is not None
        return str(await ctx.session.get(key))

    async def talk(self, ctx: Context) -> str:
        """Log at two levels."""
        await ctx.debug("quiet")
        await ctx.error("loud")
        return "said"

    async def announce(self, what: str) -> str:
        self.notify(what)
        return "announced"

    def notify(self, what: str) -> None:
        if what in ("tools", "prompts", "resources"):
            getattr(self, f"notify_{what}_changed")()
        else:
            self.notify_resource_updated(what)

    async def task_now(self, text: str) -> str:
        return text

    async def task_hold(self, label: str) -> str:
        return await self._wait(label)

    async def task_ask(self, ctx: Context, label: str) -> str:
        say("began", label)
        answer = await ctx.elicit("Your name?", {"type": "object", "properties": {"name": {"type": "string"}}})
        return str((answer.content or {}).get("name"))

    async def buy(self, ctx: Context) -> str:
        """Reserve once, ask, charge once."""
        await ctx.once("reserve", lambda: say("reserved"))
        answer = await ctx.elicit("Sure?", FORM)
        await ctx.once("charge", lambda: say("charged"))
        return f"bought {answer.data}"


async def obey(server: Any, handler: Replica) -> None:
    """Take the commands."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        command, _, rest = line.partition(" ")
        if command == "release":
            handler.gate(rest).set()
        elif command == "notify":
            handler.notify(rest)
        elif command == "sees":
            while len(await server.runtime.fleet.store.inbox.workers()) < int(rest):
                await asyncio.sleep(0.01)
            say("sees", rest)
        elif command == "operations":
            counters = server.runtime.fleet.guard.counters
            say("operations", *(f"{name}={one.operations}" for name, one in counters.items()))
        elif command == "memory":
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
            say("memory", resident, len(server.endpoint.legacy.sessions))


def main() -> None:
    fleet.HEAR_LIMIT = HEAR_LIMIT  # of this process alone: tests import this module too
    url, options = sys.argv[1], json.loads(sys.argv[2])
    logging.basicConfig(level=logging.WARNING)
    handler = Replica()
    tasks = []

    def on_start(server: Any) -> None:
        tasks.append(asyncio.ensure_future(obey(server, handler)))
        say("at", server.port)

    run(handler, store=url, on_start=on_start, authorize=authorize, **{"port": 0, **options})


def authorize(headers: Any) -> Principal:
    return Principal(headers.get("x-user") or "anyone")


if __name__ == "__main__":
    main()
