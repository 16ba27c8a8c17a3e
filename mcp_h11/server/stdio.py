# SPDX-License-Identifier: MIT
"""The same handler on stdin and stdout: one JSON message a line (basic/transports/stdio, all revisions).

The era is decided message by message, as over HTTP: a message with an envelope in `_meta` is modern; `initialize` opens
the process's one legacy session.

Rules: stdout and stdin belong to the protocol alone, so `print` goes to stderr and `input` finds nothing while the
server runs.  The reader never waits for a handler.  The server ends at the end of stdin, at SIGINT and at SIGTERM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

from ..eras.batches import BatchAnswers, Batched
from ..eras.channel import ChannelCall, ChannelSession
from ..eras.listener import Listener
from ..eras.modern import Modern, ModernCall, check_envelope, claimed_version
from ..handler.handler import ServerHandler
from ..handler.notices import Notice
from ..protocol.errors import InvalidRequest, MCPError, Refusal, UnsupportedProtocolVersion, overloaded
from ..protocol.jsonrpc import Batch, ErrorResponse, Message, Notification, Request, Response
from ..protocol.lines import LineDecoder
from ..protocol.methods import CANCELLED
from ..protocol.revisions import ASSUMED, MODERN, SUPPORTED
from ..runtime.admission import Gate
from ..runtime.fairness import EVERYONE
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..runtime.storage import SessionState
from .direct import DirectInlet, outlet_to
from .pipes import Descriptor, Outlet, need_stderr, own_stdin, own_stdout, pieces_of
from .signals import END_SIGNALS, handle_signals

# Bytes that the client has not taken.  Beyond them the server reads no more from the client.  The number is far above
# `write_high`, where calls begin to wait: a client that is slow to read must still be able to cancel and to answer.
MAX_UNWRITTEN = 16 * 1024 * 1024
END_TIME = 1.0  # seconds for cancelled calls to end
LAST_LINES_TIME = 0.5  # seconds for the last lines to leave


class PipeModernCall(ModernCall):
    """A modern request that is answered on the pipe."""

    __slots__ = ("_pipe",)

    def __init__(self, runtime: Runtime, message: Request, pipe: Pipe) -> None:
        super().__init__(runtime, message, None)
        self._pipe = pipe

    async def emit(self, payload: bytes) -> None:
        await self._pipe.send(payload)

    async def finish(self, payload: bytes, status: int) -> None:
        # basic/transports/stdio, Cancellation: "MUST NOT send any further messages for it", though the function may
        # have gone on to its end.
        if not self.done:
            self.done = True
            await self._pipe.answer(payload)


class PipeSession(ChannelSession):
    """The legacy session of the pipe."""

    __slots__ = ("_pipe",)

    def __init__(self, runtime: Runtime, pipe: Pipe) -> None:
        super().__init__(runtime, SessionState(id=""), ASSUMED, pipe.send)
        self._pipe = pipe

    async def answer(self, payload: bytes) -> None:
        if not self.closed:
            await self._pipe.answer(payload)


class PipeListener(Listener):
    """A listen stream; its notices share the pipe with all other messages."""

    __slots__ = ("_pipe", "open")

    def __init__(self, runtime: Runtime, message: Request, wanted: dict[str, Any], pipe: Pipe) -> None:
        super().__init__(runtime, message, wanted)
        self._pipe = pipe
        self.open = False  # once it is acknowledged

    def acknowledge(self, honoured: dict[str, Any]) -> None:
        self.open = True
        self._pipe.outlet.post(self.acknowledgement(honoured))

    def close(self) -> None:
        """End it in good order."""
        if not self.open:
            self.acknowledge({})
        self._pipe.outlet.post(self._json.result(self.id, self.result()))

    def on_notice(self, notice: Notice) -> None:
        # basic/patterns/subscriptions, Acknowledgment: it is the first message.
        payload = self.payload(notice) if self.open else None
        if payload is not None:
            self._pipe.tell(payload)


class PipeBatch(BatchAnswers):
    """The answers to one batch, written as one line."""

    def __init__(self, session: ChannelSession, outlet: Outlet) -> None:
        super().__init__(session, 1, [])  # the loop that starts the calls counts as one more
        self._outlet = outlet

    def finish(self) -> None:
        if self.answers:
            self._outlet.post(self.session.runtime.json.batch(self.answers))


class BatchedPipeCall(Batched, ChannelCall):
    """A request of a batch."""

    __slots__ = ("gathering",)

    def __init__(self, session: ChannelSession, message: Request, gathering: PipeBatch) -> None:
        super().__init__(session, message)
        self.gathering = gathering


class Pipe:
    """The server's end of one pair of streams.  `out` is the stream to write to, or an `Outlet` in its place."""

    def __init__(self, runtime: Runtime, out: BinaryIO | Descriptor | Outlet) -> None:
        self.runtime = runtime
        self.modern = Modern(runtime)
        high = runtime.settings.write_high
        self.outlet = out if isinstance(out, Outlet) else outlet_to(runtime.loop, out, high)
        self.forced = asyncio.Event()  # set by a second signal: do not wait for running calls
        self._session = PipeSession(runtime, self)
        self._initialized = False
        self._gate = Gate(runtime.settings.max_running_session)
        self._calls: dict[str | int, PipeModernCall] = {}
        self._listeners: dict[str | int, PipeListener] = {}
        self._untold: dict[bytes, None] = {}  # notices that wait until the client reads, in order and each once
        runtime.notice_listeners.append(self._on_notice)
        runtime.extended_listeners.append(self._tell_listeners)

    # --- out -------------------------------------------------------------------------------------------------

    async def send(self, payload: bytes) -> None:
        """Send one message, and wait while the client does not read."""
        self.outlet.post(payload)
        if self.outlet.full:
            await self.outlet.drained()

    async def answer(self, payload: bytes) -> None:
        """As `send`, for the answer to a request: it may wait for others of the same turn of the loop."""
        self.outlet.answer(payload)
        if self.outlet.full:
            await self.outlet.drained()

    def tell(self, payload: bytes) -> None:
        """Send a notice without waiting.  A client that is slow to read gets equal notices once."""
        if not self.outlet.full and not self._untold:
            self.outlet.post(payload)
            return
        if not self._untold:
            self.runtime.spawn(self._tell_later())
        self._untold[payload] = None

    async def _tell_later(self) -> None:
        while self._untold:
            await self.outlet.drained()
            payload = next(iter(self._untold))
            del self._untold[payload]
            self.outlet.post(payload)

    # --- in --------------------------------------------------------------------------------------------------

    def take_line(self, line: bytes | MCPError) -> None:
        """Handle one line of input."""
        try:
            if isinstance(line, MCPError):
                self._reply_error(getattr(line, "request_id", None), line)
            else:
                self.take(self.runtime.json.decode(line))
        except MCPError as exc:
            self._reply_error(getattr(exc, "request_id", None), exc)

    def take(self, message: Message | Batch) -> None:
        """Handle one message.  Raises MCPError where it is refused and has no id."""
        if isinstance(message, list):
            self._take_batch(message)
        elif not isinstance(message, Request):
            self._take_other(message)
        else:
            try:
                self._take_request(message)
            except MCPError as exc:
                self._reply_error(message.id, exc)

    def _take_request(self, message: Request) -> None:
        # A method that only 2026-07-28 has is modern even without its envelope: the error then names the missing keys.
        if claimed_version(message) is not None or message.method in ("server/discover", "subscriptions/listen"):
            self._take_modern(message)
        elif self._initialized or message.method == "ping":
            self._session.call(ChannelCall(self._session, message))
        elif message.method == "initialize":
            result = self._session.shake_hands(message)
            self._initialized = True
            self.outlet.post(self.runtime.json.result(message.id, result))
        else:
            # 2025-11-25 basic/lifecycle: "The initialization phase MUST be the first interaction".
            raise InvalidRequest("initialize comes first, or an envelope in _meta (2026-07-28)")

    def _take_other(self, message: Notification | Response | ErrorResponse) -> None:
        if not isinstance(message, Notification):
            self._session.answered(message)
            return
        self._cancel(message)
        if claimed_version(message) is None:
            with suppress(Refusal):  # the server is full; a notification has no answer that could say so
                self._session.notified(message)

    def _take_batch(self, batch: Batch) -> None:
        if not self._initialized or not self._session.revision.batches:
            raise InvalidRequest("JSON-RPC batches are not part of this revision")
        gathering = PipeBatch(self._session, self.outlet)
        for message in batch:
            if isinstance(message, (Notification, Response, ErrorResponse)):
                self._take_other(message)
                continue
            gathering.missing += 1
            if isinstance(message, InvalidRequest):
                gathering.refuse(message.request_id, message)
            elif message.method == "initialize" or claimed_version(message) is not None:
                # 2025-03-26 basic/lifecycle: initialize "MUST NOT be part of a JSON-RPC batch"; 2026-07-28 has none.
                gathering.refuse(message.id, InvalidRequest("This cannot be part of a batch"))
            else:
                gathering.run(BatchedPipeCall(self._session, message, gathering))
        gathering.end_one(None)

    def _take_modern(self, message: Request) -> None:
        version, _ = check_envelope(message.params)
        if version not in MODERN:
            raise UnsupportedProtocolVersion(version, SUPPORTED)
        self.modern.check_method(message.method)
        if message.method == "subscriptions/listen":
            self._listen(message)
            return
        call = PipeModernCall(self.runtime, message, self)
        spans, run = self.runtime.spans, self.modern.run
        job = run(call) if spans is None else spans.around(run, call)
        self.runtime.start(job, self._gate, call, self._ended, call)
        if call.task is not None:
            self._calls[message.id] = call

    def _ended(self, call: PipeModernCall) -> None:
        if self._calls.get(call.request_id) is call:
            del self._calls[call.request_id]

    def _cancel(self, message: Notification) -> None:
        """2026-07-28 basic/patterns/cancellation: on stdio a notification cancels a call or a listen stream."""
        if message.method != CANCELLED:
            return
        request_id: Any = message.params.get("requestId")
        if type(request_id) not in (str, int):
            return
        self._listeners.pop(request_id, None)
        call = self._calls.get(request_id)
        if call is not None and not call.done:  # once, because a second cancellation would break off its clean-up
            call.done = True
            call.cancel()

    def _listen(self, message: Request) -> None:
        honoured = self.modern.honoured(message)
        limit = self.runtime.settings.max_listeners
        if limit is not None and len(self._listeners) >= limit:
            raise overloaded("Too many listeners")
        listener = PipeListener(self.runtime, message, honoured, self)
        if not honoured:
            listener.close()
            return
        self._listeners[message.id] = listener
        listens = self._listeners

        def alive() -> bool:
            return listens.get(listener.id) is listener

        def ready(refused: Collection[str]) -> None:
            """From now on the client may rely on notices of all but `refused`."""
            if not alive():
                return  # the client has cancelled it, or the server ends
            left = listener.leave_out(refused, honoured)
            if left:
                listener.acknowledge(left)
            else:
                del listens[listener.id]
                listener.close()

        if listener.uris:
            self.runtime.handler._listened_by(listener.uris, alive, None, EVERYONE, ready)
        else:
            ready(())

    def _reply_error(self, request_id: str | int | None, error: MCPError) -> None:
        self.outlet.post(self.runtime.json.error(request_id, error))

    def _tell_listeners(self, notice: Notice) -> None:
        for listener in list(self._listeners.values()):
            listener.on_notice(notice)

    def _on_notice(self, notice: Notice) -> None:
        self._tell_listeners(notice)
        told = self._session.told(notice) if self._initialized else None
        if told is not None:
            self.tell(told)

    # --- the end ---------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the listen streams, let running calls finish within the grace, then cancel the rest."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._session.give_up_questions("The client has gone")
        await self.runtime.wait_idle(self.runtime.settings.grace, self.forced)
        self._session.close()
        for task in list(self.runtime.tasks):
            task.cancel()
        if self.runtime.tasks:
            await asyncio.wait(set(self.runtime.tasks), timeout=END_TIME)
        await self.outlet.close(LAST_LINES_TIME)


async def serve_stdio(
    handler: ServerHandler,
    *,
    settings: Settings | None = None,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
    signals: bool = True,
) -> None:
    """Serve on stdin and stdout until stdin ends, the client is gone, or SIGINT or SIGTERM comes.

    Running calls then have the `grace` of the settings to finish; a second signal ends them at once.  The settings
    about HTTP have no effect here.

    Args:
        handler: An `MCPServer`, or another `ServerHandler`.
        settings: Of these, the ones about calls and limits have an effect.
        stdin: Read instead of the process's own stdin.  A thread reads it, and is left behind if it blocks.
        stdout: Written instead of the process's own stdout, which is not touched then.
        signals: Handle SIGINT and SIGTERM, if this is the main thread.
    """
    with ExitStack() as stack:
        source = stdin if stdin is not None else stack.enter_context(own_stdin())
        out = stdout if stdout is not None else stack.enter_context(own_stdout())
        async with Runtime(handler, settings or Settings()) as runtime:
            pipe = Pipe(runtime, out)
            stopped = asyncio.Event()

            def stop() -> None:
                if stopped.is_set():
                    pipe.forced.set()
                stopped.set()

            if signals:
                handle_signals(runtime.loop, END_SIGNALS, stop, stack)
            reading = runtime.loop.create_task(_read(source, pipe))
            ends = [runtime.loop.create_task(end.wait()) for end in (stopped, pipe.outlet.closed)]
            try:
                await asyncio.wait({reading, *ends}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (reading, *ends):
                    task.cancel()
                # Until the loop no longer watches stdin, which is closed behind this.
                await asyncio.wait((reading,))
                await pipe.close()
            if reading.done() and not reading.cancelled():
                reading.result()


def run_stdio(handler: ServerHandler, *, settings: Settings | None = None) -> None:
    """Serve on stdin and stdout and block, until stdin ends or the process is interrupted.

    `handler` and `settings` are as for `serve_stdio`.
    """
    need_stderr()
    with suppress(KeyboardInterrupt):  # it can come before our handlers are installed, or after they are removed
        asyncio.run(serve_stdio(handler, settings=settings))


async def _read(source: BinaryIO | Descriptor, pipe: Pipe) -> None:
    decoder, outlet, loop = LineDecoder(), pipe.outlet, pipe.runtime.loop

    def take(piece: bytes) -> None:
        for line in decoder.feed(piece):
            pipe.take_line(line)

    direct = isinstance(source, Descriptor) and await DirectInlet(loop, source, outlet, take).run(MAX_UNWRITTEN)
    if not direct:
        async for piece in pieces_of(source, loop):
            take(piece)
            await outlet.drained(MAX_UNWRITTEN)
    for line in decoder.end():
        pipe.take_line(line)
