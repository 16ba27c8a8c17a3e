# SPDX-License-Identifier: MIT
"""The way to a handler in this process: for tests, and for programs that contain both client and server.

The server's end is that of stdio, in both eras.  Encoded messages pass between the two ends, so that a program that
works over this transport works over a wire.  There is no thread, no descriptor and no buffer between them: a message
arrives at the next turn of the event loop.

Rule: the handler runs in a context of its own.  Its lifespan is entered and left in one task, and neither end sees the
other's context variables or cancel scopes.
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

# Seconds that calls in progress have to end after the client has left.  A child process has as long after the end of
# its input (`process.EOF_TIME`).
GRACE = 2.0
# Seconds for the lifespan to end after that, and again after its cancellation.
LIFESPAN_TIME = 5.0


class MemoryOutlet(Outlet):
    """Carries the handler's messages to a receiver in the same event loop."""

    def __init__(self, runtime: Runtime, receiver: Receiver) -> None:
        super().__init__(runtime.settings.write_high)
        self._json = runtime.json
        self._receiver = receiver
        self._lines: deque[bytes] = deque()
        self._over = False
        self._came = asyncio.Event()

    def put(self, line: bytes | None) -> None:
        # Queued, not delivered here: an answer must not arrive before `send` has returned to its caller, which
        # begins to wait only then.
        if line is None:
            self._over = True
        else:
            self._lines.append(line)
        self._came.set()

    async def deliver(self) -> None:
        """Delivers each line up to the end, in the client's context.

        Runs in a task, as the reader of every transport does: anyio makes scopes and events only inside a task.
        """
        try:
            while not self._over:
                await self._came.wait()
                self._came.clear()
                while self._lines:
                    self._deliver(self._lines.popleft())
        finally:
            self.wrote(0)  # lines that are left will not be delivered: the handler must not wait for room

    def _deliver(self, line: bytes) -> None:
        try:
            # Read strictly, unlike the messages of other transports: a message that needs leniency would be our fault.
            decoded = self._json.decode(line)
            for message in decoded if isinstance(decoded, list) else (decoded,):
                if isinstance(message, InvalidRequest):
                    raise AssertionError("a handler's message, which this package encoded, cannot be read")
                self._receiver.message(message, None)
        finally:
            self.wrote(len(line))


class MemoryTransport:
    """Messages to a handler in this event loop; asyncio only.

    Args:
        settings: those about HTTP have no effect.  `grace` is how many seconds `aclose` waits for calls in progress.
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
        """Names the handler's class."""
        return f"a {type(self._handler).__name__} in this process"

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Enters the handler's lifespan, which ends with `aclose` or with `tasks`.

        Raises:
            ConnectionLost: the lifespan failed; its exception is the cause.
        """
        loop = asyncio.get_running_loop()
        # A task of its own enters and leaves the lifespan, as a task group inside of it needs.
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
                # The context is copied now that the lifespan has set its variables, which calls are to see.
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
        """Calls `aclose` if the client's tasks are cancelled before the client has called it."""
        try:
            await self._leave.wait()
        finally:
            await self.aclose()

    async def send(self, out: Outgoing) -> None:
        """Hands the message to the handler at the next turn of the event loop.

        Raises:
            ConnectionLost: the transport was not started, or is closed.
        """
        pipe = self._pipe
        if pipe is None or self._leave.is_set():
            raise ConnectionLost(f"{self.why} is not connected", sent=False)
        # In the handler's context: the caller's context variables must not reach the handler.
        pipe.runtime.loop.call_soon(pipe.take_line, out.payload, context=self._context)

    async def cancel(self, request_id: int | str) -> None:
        """Does nothing: the client sends notifications/cancelled."""

    def settle(self, revision: Revision) -> None:
        """Does nothing: memory works the same in every revision."""

    async def listen(self) -> None:
        """Does nothing: the handler's messages arrive without a request for them."""

    async def aclose(self) -> None:
        """Lets calls in progress end, within the grace of the settings, and leaves the lifespan.  Bounded in time."""
        self._leave.set()
        if self._task is None:
            return
        with anyio.CancelScope(shield=True):
            await asyncio.wait({self._task}, timeout=self._settings.grace + LIFESPAN_TIME)
            if not self._task.done():
                logger.warning("the lifespan of %s takes too long to end, and is cancelled", self.why)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=LIFESPAN_TIME)
