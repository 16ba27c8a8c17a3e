# SPDX-License-Identifier: MIT
"""A worker of the simulation: a whole server without sockets, and the handler that its clients call."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from faulty_store import FaultyStore
from virtual import Exchange, Owner, Wire

from mcp_h11 import Context, MCPServer, Principal
from mcp_h11.runtime.settings import Settings
from mcp_h11.server.server import Server
from mcp_h11.server.sockets import host_policy

IDLE = 20.0  # seconds
ASK_TIMEOUT = 15.0
GRACE = 1.0
EPOCH = 1_800_000_000.0
URI = "sim://it"
SCHEMA = {"type": "object", "properties": {"it": {"type": "string"}}}


class Ordered(dict[Any, None]):
    """A set that keeps its order: the order of a set of objects differs between two runs."""

    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        self.pop(one, None)


class _Server(Server):
    """A server that is given its connections."""

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.connections = Ordered()  # type: ignore[assignment]
        self.runtime.tasks = Ordered()  # type: ignore[assignment]
        loop = self.loop
        self.runtime.now = lambda: EPOCH + loop.time()  # type: ignore[method-assign]
        await self.runtime.__aenter__()
        self.endpoint = self._make_endpoint(host_policy(self.settings, []))
        self._begin_ticking()


class Worker:
    """One process of the fleet."""

    def __init__(self, world: Any, name: str) -> None:
        self.world = world
        self.name = name
        self.owner = Owner()
        self.store = FaultyStore(world.chaos, self.owner, name)
        self.is_open = False
        self.began_at = world.loop.now
        self.gone_at: float | None = None  # when it died or left
        self.wires: list[Wire] = []
        self.handler = self._handler()
        settings = Settings(
            store=self.store, session_idle=IDLE, session_initialize=IDLE, ask_timeout=ASK_TIMEOUT, grace=GRACE,
            authorize=_authorize, lag_warning=None, retry=100, idle_timeout=4.0,
        )  # fmt: skip
        self.server = _Server(self.handler, settings)
        self.empties_after = IDLE + 2 * IDLE / 4 + 15.0
        self._random = Random(f"{world.seed} {name}")

    async def start(self) -> None:
        """Begin to serve."""
        await self._run(self.server.start())
        self.is_open = True

    async def _run(self, job: Any) -> Any:
        task = self.owner.context.run(asyncio.ensure_future, job)
        return await task

    def connect(self, request: bytes, exchange: Exchange) -> None:
        """A client connects and sends a request."""
        wire = Wire(self.world.loop, self._random, self.owner, self.server, exchange)
        if not self.is_open:
            self.world.loop.call_later(0.001, exchange.broke)
            return
        self.wires.append(wire)
        wire.begin(request)

    def kill(self) -> None:
        """End without a word."""
        self.is_open = False
        self.world.loop.kill(self.owner)
        for wire in self.wires:
            wire.broke()
        for key in [key for key, worker in self.world.running.items() if worker is self]:
            del self.world.running[key]

    def leave(self) -> None:
        """End in order, as at SIGTERM."""
        self.world.deaths += 1
        self.gone_at = self.world.loop.now
        self.is_open = False
        self.world.trace(self.name, "leaves")
        self.owner.context.run(asyncio.ensure_future, self.server.aclose()).add_done_callback(self._left)

    def _left(self, task: Any) -> None:
        task.result()
        self.world.trace(self.name, "has left")
        self.kill()

    @property
    def keys(self) -> dict[str, bytes]:
        """The keys of the fleet, as it knows them."""
        assert self.server.runtime.fleet is not None
        return self.server.runtime.fleet.keys._kept

    def left(self) -> list[str]:
        """What it still keeps of its clients."""
        endpoint, runtime = self.server.endpoint, self.server.runtime
        fleet, table = runtime.fleet, endpoint.legacy.table
        assert fleet is not None
        kept = {
            "sessions": table.sessions,
            "idle": table.idle,
            "uninitialized": table.uninitialized,
            "tasks": runtime.tasks,
            "watched workers": fleet._watched,
            "listeners": endpoint.modern.listeners,
            "connections": self.server.connections,
            "unsaved records": endpoint.legacy.stores._unsaved,  # type: ignore[attr-defined]
            "running calls": runtime.gate.total,
            "asking calls": runtime.asking.total,
        }
        return [f"{name}: {what}" for name, what in kept.items() if what]

    # --- the handler -----------------------------------------------------------------------------------------

    def _handler(self) -> MCPServer:
        handler = MCPServer("simulated", version="1")
        for tool in (self.echo, self.count, self.ask, self.touch, self.rounds):
            handler.add_tool(tool, name=tool.__name__)

        @handler.resource("sim://{name}")
        async def resource(name: str) -> str:
            return name

        return handler

    async def echo(self, label: str) -> str:
        """Answer at once."""
        return label

    async def count(self, ctx: Context, label: str, key: str, n: int, pause: float) -> str:
        """Say n numbers."""
        assert label.startswith(ctx.principal.subject), (label, ctx.principal)
        self.world.running[f"{label}/{key}"] = self
        try:
            for number in range(1, n + 1):
                await ctx.info(f"{label}/{key}/{number}")
                await asyncio.sleep(pause)
            return f"{label}/{key}/{n}"
        finally:
            self.world.running.pop(f"{label}/{key}", None)

    async def ask(self, ctx: Context, label: str, key: str) -> str:
        """Ask the client, and answer with its answer."""
        answer = await ctx.elicit(f"{label}/{key}", SCHEMA)
        return f"{label}/{key}/{answer.data['it'] if answer.data else answer.action}"

    async def touch(self, label: str) -> str:
        """The resource changes."""
        self.world.touched[URI] = self.world.loop.now
        self.world.touches.append(self.world.loop.now)
        self.world.trace(self.name, "touches", URI)
        self.handler.notify_resource_updated(URI)
        return label

    async def rounds(self, ctx: Context, label: str, key: str) -> str:
        """Two questions, and a step before each."""
        await ctx.once("one", self._step, f"{key}/one")
        first = await ctx.elicit(f"{label}/{key}/1", SCHEMA)
        await ctx.once("two", self._step, f"{key}/two")
        second = await ctx.elicit(f"{label}/{key}/2", SCHEMA)
        await ctx.once("three", self._step, f"{key}/three")
        return f"{label}/{key}/{first.data['it']}{second.data['it']}"

    def _step(self, name: str) -> str:
        steps = self.world.steps
        steps[name] = steps.get(name, 0) + 1
        self.world.trace(self.name, "step", name, steps[name])
        assert steps[name] == 1 or self.world.losses, f"step {name} ran twice"
        return name


def _authorize(request: Any) -> Principal | None:
    name = (request.get("authorization") or "").partition(" ")[2]
    return Principal(name) if name else None
