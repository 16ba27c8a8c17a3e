# SPDX-License-Identifier: MIT
"""One running endpoint inside another server: its runtime, its clock and its end.

Rule: it lives on one event loop, and everything that it began ends with `aclose`.  The handler's lifespan is entered
and left in one task of its own, because the scopes of anyio ask for that and ASGI does not promise it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from ..handler.handler import ServerHandler
from ..http.origins import HostPolicy
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..server.access import Recorder, recorder_of
from ..server.clock import Ticking
from ..server.ending import end_calls
from ..server.ops import endpoint_of
from ..server.server import FLUSH_TIME
from ..server.signals import END_SIGNALS
from .heads import HostedHeads
from .requests import ASGIReceive, ASGISend, HostedRequest
from .several import warn_of_workers

LEAVE_TIME = 0.5  # seconds after a signal in which requests are served; uvicorn closes its port within a tenth of one


class HostedServer(Ticking):
    """What `Server` is for sockets.  `alias`: a second path of an endpoint at "/".  `start` it, then `aclose` it."""

    def __init__(self, handler: ServerHandler, settings: Settings, alias: str) -> None:
        super().__init__(settings)
        self.runtime = Runtime(handler, settings, settings.max_values)
        self.heads = HostedHeads(alias)
        self.connections: set[Any] = set()  # stays empty: the connections are the other server's
        self.requests: set[HostedRequest] = set()
        self.draining = False
        self.leaving = False  # the end has begun, and requests are still served
        self.recorder: Recorder | None = None
        self.loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self.loop.create_future()
        self._ending = asyncio.Event()
        self._closing = asyncio.Event()  # the server around us sends no further request
        self._forced = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._handlers: dict[int, tuple[Any, Any]] = {}  # of signals: the one of before, and ours

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Enter the handler's lifespan.  Raises the exception of the lifespan, or of the settings."""
        if self._life is None:
            self._life = self.loop.create_task(self._live())
        await asyncio.shield(self._ready)

    async def _live(self) -> None:
        try:
            async with self.runtime:
                self._set_up()
                self._ready.set_result(None)
                try:
                    await self._ending.wait()
                    await self._end()
                finally:
                    self._close()
        except BaseException as exc:
            if self._ready.done():
                raise
            self._ready.set_exception(exc if isinstance(exc, Exception) else RuntimeError("the start was cancelled"))
            self._ready.exception()  # read here, since nothing may wait for it any more

    def _set_up(self) -> None:
        hosts = HostPolicy(self.settings.allowed_hosts, self.settings.allowed_origins)
        self.recorder = recorder_of(self.runtime)
        self.endpoint = endpoint_of(self.runtime, hosts, self)
        self._begin_ticking()
        self._watch_signals()
        warn_of_workers(self.settings)

    async def _end(self) -> None:
        self.endpoint.end_idle_streams()
        await self._leave()
        self.draining = self.runtime.draining = True
        self.endpoint.end_idle_streams()
        await end_calls(self.runtime, self.endpoint, self.settings.grace, self._forced)
        tasks = {request.task for request in self.requests if request.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=FLUSH_TIME)
        for request in list(self.requests):
            request.abort()

    async def _leave(self) -> None:
        """Serve the requests that come until the server around us has closed its port, or `drain_delay` is over."""
        waits = [self.loop.create_task(event.wait()) for event in (self._closing, self._forced)]
        delay = self.settings.drain_delay
        await asyncio.wait(waits, timeout=LEAVE_TIME if delay is None else delay, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _close(self) -> None:
        self.draining = self.runtime.draining = True
        self._end_ticking()
        for number, (before, own) in self._handlers.items():
            if signal.getsignal(number) is own:  # else another library has put its own around it, which calls ours
                signal.signal(number, before)

    def stop(self) -> None:
        """Begin the end; a second call ends running calls at once.  Returns immediately; `aclose` waits for the end."""
        if self._ending.is_set():
            self._forced.set()
        self.leaving = True
        self._ending.set()

    async def aclose(self) -> None:
        """End in order: streams that only listen, then calls, which have `grace` seconds, then the lifespan."""
        self._closing.set()
        if not self._ending.is_set():
            self.stop()
        self.draining = self.runtime.draining = True
        if self._life is not None:
            await asyncio.shield(self._life)

    def _watch_signals(self) -> None:
        """Begin the end when the process is told to end.

        A server that waits for its open answers before it ends the lifespan would wait for ever for a stream that
        listens.  Its own handler is called as before.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in END_SIGNALS:
            before = signal.getsignal(number)
            if not callable(before) or before is signal.default_int_handler:
                continue  # the program does not end in order at this signal

            def own(got: int, frame: Any, before: Any = before) -> None:
                # Another application may have put its own handler around this one, which then stays after the end.
                if not self.loop.is_closed():
                    self.loop.call_soon_threadsafe(self.stop)
                before(got, frame)

            signal.signal(number, own)
            self._handlers[number] = before, own

    # --- requests --------------------------------------------------------------------------------------------

    async def serve(self, scope: Mapping[str, Any], receive: ASGIReceive, send: ASGISend) -> None:
        """Answer one request."""
        client = scope.get("client")  # None for a Unix socket
        peer = str(client[0] or "") if client and isinstance(client, (tuple, list)) else ""
        await HostedRequest(self, scope, peer, receive, send).run()

    def count(self, received: int, sent: int) -> None:
        """Count bytes of bodies."""
        metrics = self.runtime.metrics
        if metrics is not None:
            metrics.received += received
            metrics.sent += sent

    # --- the clock -------------------------------------------------------------------------------------------

    @property
    def links(self) -> Iterable[HostedRequest]:
        return self.requests
