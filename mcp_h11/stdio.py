# SPDX-License-Identifier: MIT
"""The same handler on stdin and stdout: one JSON message a line (basic/transports/stdio, all revisions).

The era is decided message by message, as at the HTTP door: an envelope in `_meta` is modern; `initialize` opens the
process's one legacy session.

Rules: nothing but protocol is written to stdout, so while this runs `print` goes to stderr.  The reader never waits
for a handler.  The end of stdin is the end of the server.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import anyio
import anyio.to_thread

from .errors import InvalidRequest, MCPError, UnsupportedProtocolVersion
from .handler import Notice, ServerHandler
from .jsonrpc import Batch, ErrorResponse, LineDecoder, Message, Notification, Request, Response, encode_line
from .modern import Listener, Modern, ModernCall, check_envelope, claimed_version
from .revisions import ASSUMED, MODERN, SUPPORTED
from .runtime import Gate, Runtime
from .session import PipeCall, Session, encode_notice
from .settings import Settings
from .storage import SessionState

READ_SIZE = 64 * 1024
# What may wait to be written before writers wait for the client.
WRITE_AHEAD = 256


class PipeModernCall(ModernCall):
    """A modern request whose answer goes down the pipe."""

    __slots__ = ("_pipe",)

    def __init__(self, runtime: Runtime, message: Request, pipe: Pipe) -> None:
        super().__init__(runtime, message, None, None)
        self._pipe = pipe

    async def emit(self, payload: bytes) -> None:
        await self._pipe.send(payload)

    async def finish(self, payload: bytes, status: int) -> None:
        self.done = True
        await self._pipe.send(payload)


class PipeListener(Listener):
    """A listen stream among everything else on the pipe."""

    __slots__ = ("pipe",)

    pipe: Pipe

    def noticed(self, notice: Notice) -> None:
        payload = self.payload(notice)
        if payload is not None:
            self._runtime.spawn(self.pipe.send(payload))


class Pipe:
    """The server's end of one pair of streams."""

    def __init__(self, runtime: Runtime, stdout: BinaryIO) -> None:
        self.runtime = runtime
        self.modern = Modern(runtime)
        self._stdout = stdout
        self._session = Session(runtime, SessionState(id=""), ASSUMED, None)
        self._session.sink = self.send
        self._initialized = False
        self._gate = Gate(runtime.settings.max_running_session)
        self._calls: dict[str | int, ModernCall] = {}
        self._listeners: dict[str | int, PipeListener] = {}
        self._lock = asyncio.Lock()
        self._closed = False
        runtime.on_notice.append(self._noticed)

    # --- out -------------------------------------------------------------------------------------------------

    async def send(self, payload: bytes) -> None:
        """One message; whole lines, in the order of their calls."""
        async with self._lock:
            if self._closed:
                return
            try:
                await anyio.to_thread.run_sync(self._write, encode_line(payload))
            except (BrokenPipeError, ValueError):  # the client went away
                self._closed = True

    def _write(self, line: bytes) -> None:
        self._stdout.write(line)
        self._stdout.flush()

    # --- in --------------------------------------------------------------------------------------------------

    def take_line(self, line: bytes | MCPError) -> None:
        """One line of input."""
        try:
            if isinstance(line, MCPError):
                raise line
            self.take(self.runtime.json.decode(line))
        except MCPError as exc:
            self._reply_error(getattr(exc, "request_id", None), exc)

    def take(self, message: Message | Batch) -> None:
        """One message.  Raises MCPError where it is refused."""
        if isinstance(message, list):
            self._take_batch(message)
        elif claimed_version(message) is not None or self._is_modern_only(message):
            self._take_modern(message)
        elif isinstance(message, Request) and message.method == "initialize" and not self._initialized:
            self._initialize(message)
        elif isinstance(message, Request):
            self._session.call(PipeCall(self._session, message, None, None))
        elif isinstance(message, Notification):
            self._cancel(message)
            self._session.notified(message)
        elif isinstance(message, (Response, ErrorResponse)):
            self._session.answered(message)

    def _is_modern_only(self, message: Any) -> bool:
        # Without its envelope it is refused for the missing keys rather than as unknown.
        return isinstance(message, Request) and message.method in ("server/discover", "subscriptions/listen")

    def _take_batch(self, batch: Batch) -> None:
        if not self._initialized or self._session.revision.version_header:
            raise InvalidRequest("JSON-RPC batches are not part of this revision")
        for message in batch:
            if isinstance(message, InvalidRequest):
                self._reply_error(message.request_id, message)
            elif isinstance(message, Request) and message.method == "initialize":
                self._reply_error(message.id, InvalidRequest("initialize cannot be part of a batch"))
            else:
                self.take(message)

    def _initialize(self, message: Request) -> None:
        try:
            result = self._session.initialize(message.params)
        except MCPError as exc:
            self._reply_error(message.id, exc)
            return
        self._initialized = True
        self.runtime.spawn(self.send(self.runtime.json.result(message.id, result)))

    def _take_modern(self, message: Any) -> None:
        if isinstance(message, Notification):
            self._cancel(message)
            return
        try:
            version, _ = check_envelope(message.params)
            if version not in MODERN:
                raise UnsupportedProtocolVersion(version, SUPPORTED)
            self.modern.check_method(message.method)
            if message.method == "subscriptions/listen":
                self._listen(message)
                return
            call = PipeModernCall(self.runtime, message, self)
        except MCPError as exc:
            self._reply_error(message.id, exc)
            return
        self._calls[message.id] = call
        call.task = self.runtime.start(self._run(call), self._gate)
        call.task.add_done_callback(partial(self._ended, call))

    async def _run(self, call: ModernCall) -> None:
        payload, status = await self.modern.respond(call)
        await call.finish(payload, status)

    def _ended(self, call: ModernCall, _: object) -> None:
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]

    def _cancel(self, message: Notification) -> None:
        """2026-07-28 basic/patterns/cancellation: on stdio a call, or a listen, is cancelled by notification."""
        if message.method != "notifications/cancelled":
            return
        request_id: Any = message.params.get("requestId")
        if type(request_id) not in (str, int):
            return
        self._listeners.pop(request_id, None)
        call = self._calls.get(request_id)
        if call is not None and call.task is not None:
            call.done = True
            call.task.cancel()

    def _listen(self, message: Request) -> None:
        honoured = self.modern.honoured(message)
        listener = PipeListener(self.runtime, message, None, honoured)
        listener.pipe = self
        self.runtime.spawn(self.send(listener.acknowledgement(honoured)))
        if honoured:
            self._listeners[message.id] = listener
        else:
            self.runtime.spawn(self.send(self.runtime.json.result(message.id, listener.result())))

    def _reply_error(self, request_id: str | int | None, error: MCPError) -> None:
        self.runtime.spawn(self.send(self.runtime.json.error(request_id, error)))

    def _noticed(self, notice: Notice) -> None:
        for listener in list(self._listeners.values()):
            listener.noticed(notice)
        if self._initialized and self._session.wants(notice):
            self._session.announce(encode_notice(self.runtime.json, notice))

    async def close(self) -> None:
        """End the listen streams, let what runs finish within the grace, then cancel it."""
        json = self.runtime.json
        for listener in list(self._listeners.values()):
            await self.send(json.result(listener.id, listener.result()))
        self._listeners.clear()
        tasks = self.runtime.tasks
        if tasks:
            await asyncio.wait(set(tasks), timeout=self.runtime.settings.grace)
        self._closed = True
        self._session.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks), timeout=1.0)


async def serve_stdio(
    handler: ServerHandler,
    *,
    settings: Settings | None = None,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
) -> None:
    """Serve on stdin and stdout until stdin ends."""
    with _own_stdout() if stdout is None else _given(stdout) as out:
        async with Runtime(handler, settings or Settings()) as runtime:
            pipe = Pipe(runtime, out)
            decoder = LineDecoder()
            source = stdin if stdin is not None else sys.stdin.buffer
            read = getattr(source, "read1", source.read)
            while True:
                chunk = await anyio.to_thread.run_sync(read, READ_SIZE, abandon_on_cancel=True)
                for line in decoder.feed(chunk) if chunk else decoder.end():
                    pipe.take_line(line)
                if not chunk:
                    break
            await pipe.close()


def run_stdio(handler: ServerHandler, *, settings: Settings | None = None) -> None:
    """Serve on stdin and stdout and block, until stdin ends or the process is interrupted."""
    try:
        asyncio.run(serve_stdio(handler, settings=settings))
    except KeyboardInterrupt:
        pass


@contextmanager
def _own_stdout() -> Iterator[BinaryIO]:
    """The real stdout for the protocol; for everything else, `print` included, stdout is stderr meanwhile.

    The descriptor itself is moved, so that child processes and C libraries cannot break the protocol either.
    """
    sys.stdout.flush()
    keep = os.dup(1)
    os.dup2(2, 1)
    before, sys.stdout = sys.stdout, sys.stderr
    try:
        with os.fdopen(os.dup(keep), "wb") as out:
            yield out
    finally:
        sys.stdout = before
        os.dup2(keep, 1)
        os.close(keep)


@contextmanager
def _given(stdout: BinaryIO) -> Iterator[BinaryIO]:
    yield stdout
