# SPDX-License-Identifier: MIT
"""The way to a handler in this process: for tests, and for programs that hold both ends.

The server's end is the one of stdio, in both eras; what passes between the two is encoded messages, so that what works
here works on a wire.  There is no thread, no descriptor and no buffer between: what one end sends the other has at the
next turn of the event loop.

Rule: the handler runs in nobody's scope but its own: its lifespan is entered and left in one task, and neither end
sees the other's context variables.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

import anyio

from ...handler.handler import ServerHandler
from ...protocol.errors import InvalidRequest
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from ...runtime.runtime import Runtime
from ...runtime.settings import Settings
from ...server.pipes import Outlet
from ...server.stdio import Pipe
from .base import Outgoing, Receiver
from .errors import ConnectionLost

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# What runs when the client leaves may take so long to end: as long as a child has that sees the end of its input.
GRACE = 2.0
# For the lifespan, after that; and once more when it is cancelled.
LIFESPAN_TIME = 5.0


class MemoryOutlet(Outlet):
    """What a handler says, to a receiver in the same event loop."""

    def __init__(self, runtime: Runtime, receiver: Receiver) -> None:
        super().__init__(runtime.settings.write_high)
        self._json = runtime.json
        self._receiver = receiver
        self._lines: deque[bytes] = deque()
        self._over = False
        self._came = asyncio.Event()

    def put(self, line: bytes | None) -> None:
        # Not delivered at once: the answer to a request must not come before its sender waits for it.
        if line is None:
            self._over = True
        else:
            self._lines.append(line)
        self._came.set()

    async def deliver(self) -> None:
        """Gives the receiver each line, up to the end; in the client's context.

        In a task, as every transport does: anyio makes scopes and events only where a task runs.
        """
        try:
            while not self._over:
                await self._came.wait()
                self._came.clear()
                while self._lines:
                    self._deliver(self._lines.popleft())
        finally:
            self.wrote(0)  # the rest is not taken any more

    def _deliver(self, line: bytes) -> None:
        try:
            decoded = self._json.decode(line)
            for message in decoded if isinstance(decoded, list) else (decoded,):
                if isinstance(message, InvalidRequest):
                    raise AssertionError("what a handler says is encoded by us")
                self._receiver.message(message, None)
        finally:
            self.wrote(len(line))


class MemoryTransport:
    """Messages to a handler in this event loop; asyncio only.

    Args:
        settings: of those that are not about HTTP; their `grace` is how long `aclose` waits for what runs.
    """

    duplex = True

    def __init__(self, handler: ServerHandler, settings: Settings | None = None) -> None:
        self._handler = handler
        self._settings = settings or Settings(grace=GRACE)
        self._pipe: Pipe | None = None
        self._outlet: MemoryOutlet | None = None
        self._context = copy_context()
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def why(self) -> str:
        """Which handler it is."""
        return f"a {type(self._handler).__name__} in this process"

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Enters the handler's lifespan, which ends with `aclose` or with `tasks`.

        Raises:
            ConnectionLost: the lifespan failed; its exception is the cause.
        """
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._serve(receiver, begun))
        try:
            await asyncio.wait({begun, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if not begun.done():
            error = None if self._task.cancelled() else self._task.exception()
            raise ConnectionLost(f"{self.why} did not start: {error}", sent=False) from error
        assert self._outlet is not None
        tasks.start_soon(self._outlet.deliver)
        tasks.start_soon(self._guard)

    async def _serve(self, receiver: Receiver, begun: asyncio.Future[None]) -> None:
        error: Exception | None = ConnectionLost(f"{self.why} was cancelled")
        try:
            async with Runtime(self._handler, self._settings) as runtime:
                self._context = copy_context()
                self._outlet = MemoryOutlet(runtime, receiver)
                pipe = self._pipe = Pipe(runtime, self._outlet)
                begun.set_result(None)
                try:
                    await self._leave.wait()
                finally:
                    self._pipe = None
                    await pipe.close()
            error = None
        except Exception as failure:
            if not begun.done():
                raise
            logger.exception("the lifespan of %s failed at its end", self.why)
            error = ConnectionLost(f"the lifespan of {self.why} failed: {failure}")
        finally:
            if begun.done():
                receiver.closed(error)

    async def _guard(self) -> None:
        """Where the client's tasks are cancelled before anybody said `aclose`."""
        try:
            await self._leave.wait()
        finally:
            await self.aclose()

    async def send(self, out: Outgoing) -> None:
        """To the handler, at the next turn of the event loop.

        Raises:
            ConnectionLost: it was closed, or not started.
        """
        pipe = self._pipe
        if pipe is None or self._leave.is_set():
            raise ConnectionLost(f"{self.why} is not connected", sent=False)
        # In the context of the handler, and not in the caller's.
        pipe.runtime.loop.call_soon(pipe.take_line, out.payload, context=self._context)

    async def cancel(self, request_id: int | str) -> None:
        """The handler was told by a notification."""

    def settle(self, revision: Revision) -> None:
        """It is the same in every revision."""

    async def listen(self) -> None:
        """What the handler says comes anyway."""

    async def aclose(self) -> None:
        """Lets what runs come to its end, within the grace of the settings, and leaves the lifespan; bounded."""
        self._leave.set()
        if self._task is None:
            return
        with anyio.CancelScope(shield=True):
            await asyncio.wait({self._task}, timeout=self._settings.grace + LIFESPAN_TIME)
            if not self._task.done():
                logger.warning("the lifespan of %s takes too long to end, and is cancelled", self.why)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=LIFESPAN_TIME)
