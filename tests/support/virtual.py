# SPDX-License-Identifier: MIT
"""An event loop whose clock is virtual, and connections to a server that are made of callbacks.

The loop jumps to its next timer when nothing is ready, so an hour passes in the time that its callbacks take.  A run
is a function of its seed: the loop has no socket, no thread and no clock of the machine.

An `Owner` is a process of the simulation.  All that runs in its context belongs to it: its tasks, their timers, the
callbacks of what they wait for.  `VirtualLoop.kill` stops these without a clean-up, as `kill -9` does.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from rawclient import Event, EventParser

from mcp_h11.server.connection import Connection

OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("owner", default=None)
EPSILON = 1e-6  # seconds between two things that must not change places


class Broken(AssertionError):
    """A promise was not kept."""


class Deadlock(AssertionError):
    """Everything waits, and no timer is left."""


class Owner:
    """A process: `context` runs what belongs to it."""

    def __init__(self) -> None:
        self.alive = True
        self.frozen: list[asyncio.Handle] = []  # what it would have done after its death
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)


class _Jumps:
    """A selector without files: to wait is to move the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("everything waits, and no timer is left")
        self._loop.now += max(0.0, timeout)
        return []

    def get_map(self) -> dict[Any, Any]:
        return {}

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now` is its time in seconds; `failures` are the exceptions that no task caught."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Jumps(self))  # type: ignore[arg-type]
        self.failures: list[str] = []
        self.set_exception_handler(lambda _, context: self.failures.append(repr(context)))

    def _make_self_pipe(self) -> None:
        """No other thread wakes this loop."""

    def _close_self_pipe(self) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        """There is none."""

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
        if owner is None or owner.alive:
            self._ready.append(handle)  # type: ignore[attr-defined]
        else:
            owner.frozen.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        owner = timer._context.get(OWNER)  # type: ignore[attr-defined]
        if owner is not None and not owner.alive:
            timer.cancel()
        return timer

    def kill(self, owner: Owner) -> None:
        """Nothing of the owner runs from now on."""
        owner.alive = False
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        for handle in list(ready):
            if handle._context.get(OWNER) is owner:  # type: ignore[attr-defined]
                ready.remove(handle)
                owner.frozen.append(handle)
        for timer in list(self._scheduled):  # type: ignore[attr-defined]
            if not timer.cancelled() and timer._context.get(OWNER) is owner:
                timer.cancel()

    def bury(self, owners: list[Owner]) -> None:
        """After the run: let every task end, those of the dead too, so that none is lost while it waits."""
        self.set_exception_handler(lambda *_: None)
        for owner in owners:
            owner.alive = True
            self._ready.extend(owner.frozen)  # type: ignore[attr-defined]
            owner.frozen.clear()
        for _ in range(20):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=1.0))


class Exchange:
    """One HTTP request on a connection of its own, as its client sees it.

    `status` is 0 until the head has come.  `ended` says that the answer is whole, `broken` that it will never be.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.events: deque[Event] = deque()
        self.ended = self.broken = self.cut_off = False
        self.on_cut: Callable[[], None] = lambda: None
        self.worker: Any = None  # that got the request
        self._loop = loop
        self._bytes = b""
        self._parser: EventParser | None = None
        self._waiting: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Bytes of the answer have come."""
        if self.cut_off or self.broken or self.ended:
            return
        self._bytes += data
        if not self.status:
            block, blank, rest = self._bytes.partition(b"\r\n\r\n")
            if not blank:
                return
            first, *fields = block.decode("latin-1").split("\r\n")
            self.status = int(first.split(" ", 2)[1])
            self.headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
            self._bytes = rest
            if self.headers.get("content-type") == "text/event-stream":
                self._parser = EventParser()
        self._read_body()
        self._wake()

    def _read_body(self) -> None:
        if "content-length" in self.headers or self.status == 204:
            size = int(self.headers.get("content-length", "0"))
            self.body = self._bytes[:size]
            self.ended = len(self._bytes) >= size
            return
        while True:
            line, end, rest = self._bytes.partition(b"\r\n")
            if not end:
                return
            size = int(line, 16)
            if len(rest) < size + 2:
                return
            piece, self._bytes = rest[:size], rest[size + 2 :]
            if not size:
                self.ended = True
                return
            if self._parser is not None:
                self.events.extend(self._parser.feed(piece))

    def broke(self) -> None:
        """The connection is lost."""
        if not self.ended:
            self.broken = True
            self._wake()

    def cut(self) -> None:
        """The client drops the connection: what is under way never comes."""
        if not self.cut_off:
            self.cut_off = True
            self.on_cut()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _change(self, until: float) -> None:
        self._waiting = self._loop.create_future()
        timer = self._loop.call_at(until, self._wake)
        try:
            await self._waiting
        finally:
            timer.cancel()

    async def head(self, limit: float) -> int:
        """The status; 0 where the connection is lost before it comes.  Raises TimeoutError."""
        until = self._loop.now + limit
        while not self.status and not self.broken:
            if self._loop.now >= until:
                raise TimeoutError(f"no answer within {limit:g} s")
            await self._change(until)
        return self.status

    async def event(self, limit: float) -> Event | None:
        """The next event; None at the end, whether it is in order (`ended`) or not.  Raises TimeoutError."""
        until = self._loop.now + limit
        while not self.events and not self.broken and not self.ended:
            if self._loop.now >= until:
                raise TimeoutError(f"no event within {limit:g} s")
            await self._change(until)
        return self.events.popleft() if self.events else None

    async def whole(self, limit: float) -> bytes:
        """The body of an answer that is no stream; what has come of it, where the connection is lost."""
        until = self._loop.now + limit
        while not self.ended and not self.broken:
            if self._loop.now >= until:
                raise TimeoutError(f"no whole answer within {limit:g} s")
            await self._change(until)
        return self.body


class Wire:
    """The server's transport of a connection in memory; bytes arrive late, and in order."""

    def __init__(self, loop: VirtualLoop, random: Random, owner: Owner, server: Any, exchange: Exchange) -> None:
        self.loop = loop
        self.random = random
        self.owner = owner
        self.server = server
        self.exchange = exchange
        self.connection: Connection | None = None
        self.closed = False
        self._arrives = 0.0

    def _delay(self) -> float:
        return self.random.uniform(0.0005, 0.01)

    def begin(self, request: bytes) -> None:
        """Connect, and send a request."""
        self.exchange.on_cut = self._client_left
        self.loop.call_later(self._delay(), self._accepted, request, context=self.owner.context)

    def _accepted(self, request: bytes) -> None:
        if self.exchange.cut_off:
            return
        self.connection = Connection(self.server)
        self.connection.connection_made(self)
        self.connection.data_received(request)

    def _client_left(self) -> None:
        # The server may learn of it late, when the network does not tell.
        later = self._delay() if self.random.random() < 0.7 else self.random.uniform(0.1, 4.0)
        self.loop.call_later(later, self._lost, context=self.owner.context)

    def _lost(self) -> None:
        if not self.closed and self.connection is not None:
            self.closed = True
            self.connection.connection_lost(None)

    def _to_client(self, does: Callable[..., None], *args: Any) -> None:
        self._arrives = max(self._arrives + EPSILON, self.loop.now + self._delay())
        self.loop.call_at(self._arrives, does, *args, context=contextvars.Context())

    def broke(self) -> None:
        """The server's process is dead: its kernel says so to the client."""
        self.closed = True
        self._to_client(self.exchange.broke)

    # --- called by the connection ------------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        """The peer takes everything."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The answer says where it ends."""

    def pause_reading(self) -> None:
        """The request is whole."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed
        self._to_client(self.exchange.feed, bytes(data))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._to_client(self.exchange.broke)
            assert self.connection is not None
            self.loop.call_soon(self.connection.connection_lost, None)

    abort = close
