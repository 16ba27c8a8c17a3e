# SPDX-License-Identifier: MIT
"""A server beside a host that owns the main thread: Blender, IDA, Maya, QGIS, a game engine.

The server has a thread and an event loop of its own.  Tools that must touch the host run where `call_in` puts them:

    thread = start_in_thread(server, port=0, call_in=lambda job: bpy.app.timers.register(job))
    print(thread.url)
    ...
    thread.stop()

Rule: nothing here is global.  Two threads run two servers that share nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..handler.handler import ServerHandler
from ..protocol.shown import escaping
from .running import listening
from .server import Server

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .options import ListeningOptions

logger = escaping(logging.getLogger(__name__))

START_TIMEOUT = 10.0  # seconds to bind and to enter the handler's lifespan
STOP_TIMEOUT = 15.0
CLOSE_TIME = 3.0  # of these, for the steps after the grace: cancelling, the last bytes, the lifespan's end


class ServerThread:
    """A server that runs in a thread.  `start_in_thread` makes one; call `stop()` at the end."""

    def __init__(self, handler: ServerHandler, options: dict[str, Any]) -> None:
        self._handler = handler
        self._options = options
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._server: Server | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._grace: float | None = None
        # A daemon, so that a host that ends without `stop` can end.
        self._thread = threading.Thread(target=self._main, name="mcp_h11", daemon=True)

    @property
    def url(self) -> str:
        """The URL that a client connects to.  Raises RuntimeError when the server has ended."""
        return self._running.url

    @property
    def port(self) -> int:
        """The bound port.  Raises RuntimeError when the server has ended."""
        return self._running.port

    @property
    def alive(self) -> bool:
        """Whether the server's thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End the server in order and wait for its thread; a second call is harmless.

        Running tools have the `grace` of the settings to finish, or the part of it that `timeout` leaves.  If `call_in`
        runs the tools on the calling thread, none can finish while this method waits: pass a short `timeout` then.  If
        a tool calls this method on the server's own thread, it does not wait.

        Raises:
            TimeoutError: the server has not ended in time.
        """
        server = self._server
        if server is not None:
            self._grace = max(0.0, min(server.settings.grace, timeout - CLOSE_TIME))
            with suppress(RuntimeError):  # it has just ended by itself
                server.loop.call_soon_threadsafe(server.stop)
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the server did not end within {timeout:g} s")

    def __enter__(self) -> ServerThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError("the server does not run")
        return self._server

    def _start(self) -> None:
        self._thread.start()
        started = False
        try:
            started = self._ready.wait(START_TIMEOUT)
        finally:
            # After a timeout or an interrupt the caller gets no server that it could stop, so none may begin to serve.
            if not started:
                self._give_up()
        if not started:
            raise TimeoutError(f"the server did not start within {START_TIMEOUT:g} s")
        error, self._error = self._error, None  # it is raised here, once, with the traceback of the thread
        if error is not None:
            raise error

    def _give_up(self) -> None:
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:
            if self._ready.is_set():
                logger.error("the server ended by an error", exc_info=exc)
            self._error = exc
        finally:
            self._server = None
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with listening(self._handler, **self._options) as server:
            self._server = server
            self._ready.set()
            await server.wait_stopped()
            await server.aclose(self._grace)


def start_in_thread(handler: ServerHandler, **options: Unpack[ListeningOptions]) -> ServerThread:
    """Serve in a thread; returns once the server accepts.  The result has `.url`, `.port` and `.stop()`.

    Args:
        handler: An `MCPServer`, or another `ServerHandler`.
        options: Those of `listening`.  `port` is 0 by default, which takes a free port.  `call_in` is called with a job
            (a function without arguments) for each call of a sync tool.  It arranges for the job to run on a thread of
            the host, and need not wait for it.  Without `call_in`, worker threads run the jobs.

    Raises:
        OSError: the address cannot be bound.
        ValueError: the server cannot run with these options.
        TimeoutError: the start takes too long; it is given up.
        Exception: the exception that the handler's lifespan raised.
    """
    keywords: dict[str, Any] = {"port": 0, **options}
    # None is no wish: a `call_in` of `settings` holds.
    if keywords.get("call_in") is None:
        keywords.pop("call_in", None)
    thread = ServerThread(handler, keywords)
    thread._start()
    return thread
