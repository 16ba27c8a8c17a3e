# SPDX-License-Identifier: MIT
"""`/health`, `/ready` and `/metrics` of all workers together, on the parent's address for operators.

    /health   200 while one of the workers has room for a client
    /ready    200 while one of the workers is ready: connections go to the workers that accept
    /metrics  the sum over the workers; what a worker counted before it ended stays in it

Rule: a worker that does not answer is told as such and delays a page by 2 s, once for all workers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, Protocol

from ..handler.handler import ServerHandler
from ..http.headers import Headers
from ..http.heads import HeadCache
from ..http.messages import Head
from ..http.reply import Reply
from ..runtime.bursts import Bursts
from ..runtime.metrics import CONTENT_TYPE
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..runtime.wheel import Wheel
from ..version import __version__
from .clock import look_at, rest_of
from .connection import Connection
from .intake import READ_SIZE
from .ops import FRESH, MAX_OPS_CONNECTIONS, Answer, OpsListener, Pages, document
from .server import http_date

TICK_TIME = 1.0  # seconds


class WatchedWorkers(Protocol):
    """The workers as this page reads them."""

    settings: Settings
    count: int
    began: float

    async def reports(self) -> list[tuple[Any, dict[str, Any] | None]]: ...

    async def all_metrics(self) -> str: ...


class Desk:
    """The parent as the listener for operators sees it: it has connections and a clock, and serves nothing else."""

    recorder = None
    draining = False
    leaving = False

    def __init__(self, workers: WatchedWorkers, sockets: list[socket.socket]) -> None:
        self.workers = workers
        self.settings = workers.settings
        self.loop, self.context = asyncio.get_running_loop(), copy_context()
        # It is never entered, as the parent runs no call.
        self.runtime = Runtime(ServerHandler(), workers.settings)
        self.runtime.bursts = Bursts(self.loop)
        self.buffer, self.shares_buffer = memoryview(bytearray(READ_SIZE)), True
        self.heads = HeadCache()
        self.connections: set[Connection] = set()
        self.wheel = Wheel[Connection](TICK_TIME)
        self.rest = rest_of(workers.settings)
        self.endpoint: Any = None
        self.lag = self.now = 0.0
        self.date = b""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.listener = OpsListener(self, sockets, DeskPages)

    @property
    def replies(self) -> list[Reply]:
        """None: the parent has no streams."""
        return []

    @property
    def uptime(self) -> float:
        return time.monotonic() - self.workers.began

    async def start(self) -> None:
        """Accept."""
        self._tick()
        await self.listener.start()

    def close(self) -> None:
        """Close the address and all connections."""
        if self._timer is not None:
            self._timer.cancel()
        self.listener.close()

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job as a task that is kept until it ends."""
        task = self.loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tick(self) -> None:
        self.now, self.date = self.loop.time(), http_date(time.time())
        self._timer = self.loop.call_later(TICK_TIME, self._tick)
        self.wheel.turn(self.now)
        for connection in self.wheel.take(MAX_OPS_CONNECTIONS):
            look_at(connection, self.now)

    def joined(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...

    def make_room(self, party: str) -> bool:
        return False


class DeskPages(Pages):
    """The documents; each is asked for from the workers when a request comes."""

    _server: Desk

    def respond(self, head: Head, reply: Reply) -> None:
        if self.refusal(head) is None:
            self._server.spawn(self._answer(head.path, reply))
        else:
            super().respond(head, reply)

    async def _answer(self, path: str, reply: Reply) -> None:
        settings = self._server.settings
        documents = {settings.health_path: self.all_health, settings.ready_path: self.all_ready}
        status, headers, body = await documents.get(path, self.all_metrics)()
        reply.answer(status, body, headers + FRESH)

    async def all_health(self) -> Answer:
        server, workers = self._server, self._server.workers
        found = [
            {"worker": worker.index, "pid": worker.pid, **_health(report)} for worker, report in await workers.reports()
        ]
        can_open = not server.draining and any(one["can_open_session"] for one in found)
        whole = sum(one["status"] == "ok" for one in found) >= workers.count
        status = "draining" if server.draining else "unavailable" if not can_open else "ok" if whole else "degraded"
        return document(
            200 if can_open else 503,
            status=status,
            version=__version__,
            pid=os.getpid(),
            uptime=round(server.uptime, 3),
            draining=server.draining,
            can_open_session=can_open,
            wanted=workers.count,
            workers=found,
        )

    async def all_ready(self) -> Answer:
        reports = [(worker, report) for worker, report in await self._server.workers.reports()]
        reasons = {worker: ["no answer"] if report is None else report["reasons"] for worker, report in reports}
        ready = not self._server.draining and not all(reasons.values())
        told = [f"worker {worker.pid}: {reason}" for worker, given in reasons.items() for reason in given]
        if self._server.draining:
            told.insert(0, "draining")
        elif not reports:
            told.append("no worker is ready")
        return document(200 if ready else 503, ready=ready, reasons=told)

    async def all_metrics(self) -> Answer:
        headers: Headers = (("Content-Type", CONTENT_TYPE),)
        return 200, headers, (await self._server.workers.all_metrics()).encode("utf-8")


def _health(report: dict[str, Any] | None) -> dict[str, Any]:
    if report is None:
        return {"status": "no answer", "can_open_session": False}
    health: dict[str, Any] = report["health"]
    return {name: health[name] for name in ("status", "uptime", "draining", "can_open_session", "store")}
