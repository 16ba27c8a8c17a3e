# SPDX-License-Identifier: MIT
"""One of several processes that serve the same sockets: its end of the channel to the parent, and its server.

The parent (`workers`) starts this process with the number of one descriptor, the channel.  Both ends write lines of
JSON:

    parent   its first line: the listening sockets, the keys, the store, secret options   (`Charge`)
             {"ask": number, "metrics": whether they are wanted}          a report
             {"told": text}                                               the metrics of all workers, as asked for
             {"do": "retire" | "reload" | "stop" | "force"}               "reload": retire, for other code
    worker   {"ready": the server's name}                                 it accepts
             {"report": {...}, "ask": number}
             {"last": {...}}                                              it has ended; its last counts
             {"ask": "metrics"}                                           of all workers

Rule: the end of the channel is the end of the worker.  A thread reads the channel, so a worker whose loop is stuck in
a tool ends as well.  It answers on the loop, so a worker whose loop is stuck does not answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from typing import Any

from ..endpoint.endpoint import Endpoint
from ..handler.handler import ServerHandler
from ..http.headers import JSON_HEADERS, Headers
from ..http.messages import HTTPRequest
from ..http.origins import HostPolicy
from ..http.reply import Reply
from ..protocol.errors import Refusal
from ..protocol.shown import escaping
from ..runtime.metrics import CONTENT_TYPE
from ..runtime.settings import Settings
from .acceptor import Acceptor
from .connection import Connection
from .ops import FRESH, OpsEndpoint, Pages
from .server import Server
from .signals import handle_signals
from .spread import Spread

logger = escaping(logging.getLogger(__name__))

CHANNEL_READ = 64 * 1024  # bytes taken from the channel at once
RETIRE_TIME = 300.0  # seconds for the running calls of a worker that has been replaced
ORPHAN_TIME = 5.0  # seconds above the grace, for a worker without a parent
TELL_TIME = 3.0  # seconds for the metrics of all workers
QUIET_SIGNALS = (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT))  # the parent acts on them


class Charge:
    """The first line of the parent.

    Attributes:
        index: the number of the worker, from 0 on; the worker that takes the place of another has its number.
        sockets: the listening sockets that the parent has bound.
        spread: how many connections each worker has.
        state_keys: for `Settings.state_keys`, where those are empty.
        store: the URL of the store of all workers, for `Settings.store`, where that is None; None for none.
        hidden: options with their values, which must not stand on a command line.
        bound: whether the parent has bound the sockets, so that nobody accepts when the workers have ended.
    """

    def __init__(self, line: bytes) -> None:
        said = json.loads(line)
        self.index: int = said["index"]
        self.store: str | None = said["store"]
        self.bound: bool = said["bound"]
        self.hidden: dict[str, str] = said["hidden"]
        self.state_keys = [bytes.fromhex(key) for key in said["state_keys"]]
        self.sockets = [_inherited(descriptor) for descriptor in said["sockets"]]
        os.set_inheritable(said["spread"], False)
        self.spread = Spread(said["spread"], said["count"])
        os.close(said["spread"])

    def shared(self, settings: Settings) -> Settings:
        """These settings with the keys and the store that all workers have in common, unless they have their own."""
        if not settings.state_keys:
            settings = replace(settings, state_keys=self.state_keys)
        if settings.store is None and settings.session_manager is None and settings.event_store is None:
            settings = replace(settings, store=self.store)
        return settings


def _inherited(descriptor: int) -> socket.socket:
    # A program that a tool starts must get neither the port nor the channel: the port would stay taken, and the
    # channel open, for as long as that program runs.
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


class Channel:
    """The worker's end.  Make it before anything else: it also sets the signals of a worker.

    Raises EOFError where the parent is gone already.
    """

    def __init__(self, descriptor: int) -> None:
        for number in QUIET_SIGNALS:
            # Ctrl+C in a terminal reaches the workers too.  A function and not SIG_IGN, which programs that a tool
            # starts would inherit.  The parent blocks these signals while it starts a worker.
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, QUIET_SIGNALS)
        self._socket = _inherited(descriptor)
        self._lines = _lines(self._socket)
        line = next(self._lines, None)
        if line is None:
            raise EOFError("the parent is gone")
        self.charge = Charge(line)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: Callable[[dict[str, Any] | None], object] = lambda _: None
        self._end_after = 0.0  # seconds
        threading.Thread(target=self._read, name="mcp_h11 channel", daemon=True).start()

    def attach(
        self, loop: asyncio.AbstractEventLoop, told: Callable[[dict[str, Any] | None], object], end_after: float
    ) -> None:
        """Call `told` on the loop with each message, and with None when the parent is gone.

        The process ends at the latest `end_after` seconds after that.
        """
        self._told, self._end_after, self._loop = told, end_after, loop

    def send(self, **message: Any) -> None:
        """Write one message to the parent; nothing happens where it is gone."""
        with suppress(OSError):
            self._socket.sendall(json.dumps(message).encode("ascii") + b"\n")

    def _read(self) -> None:
        with suppress(OSError):
            for line in self._lines:
                self._tell(json.loads(line))
        if self._loop is not None:
            self._tell(None)
            # A loop that is stuck takes no message, and no exception of another thread either.
            threading.Event().wait(self._end_after)
        os._exit(1)

    def _tell(self, message: dict[str, Any] | None) -> None:
        loop = self._loop
        assert loop is not None, "the parent speaks when the worker is ready"
        with suppress(RuntimeError):  # the loop is closed: the process is about to end
            loop.call_soon_threadsafe(self._told, message)


# A file object would do this too, but at its end Python waits for the lock of a file that a thread reads.
def _lines(sock: socket.socket) -> Iterator[bytes]:
    kept = b""
    while data := sock.recv(CHANNEL_READ):
        *lines, kept = (kept + data).split(b"\n")
        yield from lines


class WorkerServer(Server):
    """The server of a worker: `run(handler, kind=partial(WorkerServer, channel=channel), signals=False, ...)`."""

    def __init__(
        self, handler: ServerHandler, settings: Settings | None = None, *, channel: Channel, **at: Any
    ) -> None:
        super().__init__(handler, channel.charge.shared(settings or Settings()), **at)
        self._channel = channel
        self._has_port_alone = channel.charge.bound
        self._pages: Pages
        self._retiring: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[str] | None = None  # the metrics of all workers
        self._signals = ExitStack()
        self._index, self._spread = channel.charge.index, channel.charge.spread
        self._counted = True  # among the workers that accept

    async def start(self) -> None:
        await super().start()
        self._pages = Pages(self, HostPolicy(("*",), None), health=True, metrics=self.runtime.metrics is not None)
        handle_signals(self.loop, [signal.SIGTERM], self._stop_once, self._signals)
        self._channel.attach(self.loop, self._told, self.settings.grace + ORPHAN_TIME)
        self._tell_number()
        self._channel.send(ready=self.runtime.handler.name)

    async def aclose(self, grace: float | None = None) -> None:
        try:
            await super().aclose(grace)
        finally:
            self._channel.send(last=self._report(metrics=True))
            self._signals.close()

    async def _listen(self, sock: socket.socket) -> Acceptor:
        return self._acceptor(sock, self._leaves)

    def _tell_number(self) -> int:
        number = len(self.connections) + len(self.handshakes)
        if self._counted:
            self._spread.tell(self._index, number)
        return number

    def _leaves(self) -> bool:
        return self._spread.is_ahead(self._tell_number())

    def lost(self, connection: Connection) -> None:
        super().lost(connection)
        self._tell_number()

    def _make_endpoint(self, hosts: HostPolicy) -> Endpoint:
        settings = self.settings
        own = (settings.health or settings.metrics) and not settings.apart
        return WorkerEndpoint(self, hosts) if own else super()._make_endpoint(hosts)

    async def _open_ops(self, stack: AsyncExitStack) -> None:
        """Open nothing: the parent has the address for operators."""

    def _warn(self) -> None:
        if self._channel.charge.index == 0:  # one warning for all
            super()._warn()

    # --- the channel -------------------------------------------------------------------------------------------

    def _told(self, message: dict[str, Any] | None) -> None:
        if message is None:
            logger.warning("the parent of this worker is gone: it ends")
            self._stop_once()
        elif "ask" in message:
            self._channel.send(report=self._report(message["metrics"]), ask=message["ask"])
        elif "told" in message:
            if self._asked is not None and not self._asked.done():
                self._asked.set_result(message["told"])
            self._asked = None
        elif message["do"] in ("retire", "reload"):
            self._counted = False  # the new worker has its number
            self._retiring = self.loop.create_task(self._retire(message["do"] == "reload"))
        else:
            self._stop_once()
            if message["do"] == "force":
                self.stop()  # the second call

    def _stop_once(self) -> None:
        # A supervisor may send SIGTERM to each process of a group, and the parent says it too.
        if not self._stopping.is_set():
            if self._counted:
                self._counted = False
                self._spread.leave(self._index)
            self.stop()

    async def _retire(self, other_code: bool) -> None:
        await self.retire(RETIRE_TIME, other_code=other_code)
        self._stop_once()

    def _report(self, metrics: bool) -> dict[str, Any]:
        status, _, body = self._pages.health()
        counted = metrics and self.runtime.metrics is not None
        return {
            "code": status,
            "health": json.loads(body),
            "reasons": self._pages.reasons(),
            "metrics": self._pages.metrics()[2].decode("utf-8") if counted else "",
        }

    async def all_metrics(self) -> str | None:
        """The metrics of all workers, from the parent; None where it does not answer in time."""
        # One question at a time, so that a parent that has stopped does not find thousands of them.
        if self._asked is None:
            self._asked = self.loop.create_future()
            self._channel.send(ask="metrics")
        done, _ = await asyncio.wait([self._asked], timeout=TELL_TIME)
        return done.pop().result() if done else None


class WorkerEndpoint(OpsEndpoint):
    """The endpoint of a worker with pages for operators: health is its own, and metrics are those of all workers."""

    def __init__(self, server: WorkerServer, hosts: HostPolicy) -> None:
        super().__init__(server.runtime, hosts, server)
        self._server = server

    def respond(self, request: HTTPRequest, reply: Reply) -> None:
        head = request.head
        if head.path == self._server.settings.metrics_path and self._pages.has(head.path):
            reply.client = self.client(head, reply)
            if self._pages.refusal(head) is None:
                self._server.runtime.spawn(self._answer(reply))
                return
        super().respond(request, reply)

    async def _answer(self, reply: Reply) -> None:
        text = await self._server.all_metrics()
        if text is None:
            refusal = Refusal(503, "The process that adds up the metrics of all workers does not answer")
            reply.answer(503, self._server.runtime.json.error(None, refusal), JSON_HEADERS + FRESH)
        else:
            headers: Headers = (("Content-Type", CONTENT_TYPE), *FRESH)
            reply.answer(200, text.encode("utf-8"), headers)
