# SPDX-License-Identifier: MIT
"""One connection of the HTTP client, the answer that is read from it, and the ways in which both fail."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from ...http.client import (
    AnswerCache,
    AnswerCutShort,
    AnswerEnd,
    AnswerError,
    AnswerHead,
    ClientConnection,
    ClientLimits,
)
from ...http.messages import NEED_DATA
from .outbound import ForwardProxy
from .urls import Origin

# One read, and one write with a timeout of its own.  A request up to this size is written before its answer is read.
PIECE = 64 * 1024
# Seconds for an answer that the server may have sent before it stopped reading (413, 503).
LAST_WORDS = 1.0


# --- errors -----------------------------------------------------------------------------------------------------------


class HTTPFailure(Exception):
    """No answer, or not all of it.

    Attributes:
        sent: False where the request cannot have been executed: it is safe to send it again.
    """

    sent = True


class ConnectError(HTTPFailure):
    """There is no connection: the request never left."""

    sent = False


class BrokenAnswer(HTTPFailure):
    """The connection ended before the answer did."""

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class BadAnswer(HTTPFailure):
    """The server broke HTTP or passed a limit."""


class AnswerTimeout(HTTPFailure):
    """The server did not read the request, or begin its answer, in time."""


class TooLarge(HTTPFailure):
    """A body larger than what was asked for."""


# --- connections ------------------------------------------------------------------------------------------------------

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Pollable(Protocol):
    def fileno(self) -> int: ...


def _is_readable(sock: Pollable) -> bool:
    """Something has come on an idle connection; nearly always its end."""
    descriptor = sock.fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # pragma: no cover - Windows, whose select has no largest descriptor
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Wire:
    """One connection and what HTTP makes of it."""

    def __init__(
        self,
        stream: ByteStream,
        sock: Pollable,
        origin: Origin,
        limits: ClientLimits,
        cache: AnswerCache,
        proxy: ForwardProxy | None = None,
    ) -> None:
        self.origin = origin
        # To a proxy that passes requests on: RFC 9112 3.2.2, absolute-form.  Through a tunnel nothing is different.
        self.proxy = None if origin.secure else proxy
        self.http = ClientConnection(limits, cache)
        self.idle_since = 0.0
        self.heard = False  # a byte of the answer to the last request
        self.written = False  # all of it
        self._stream = stream
        self._socket = sock

    @property
    def reusable(self) -> bool:
        return self.written and self.http.reusable

    def stale(self) -> bool:
        """An idle connection that the server has closed, or has said something on."""
        return _is_readable(self._socket)

    async def aclose(self) -> None:
        # At once, below TLS, whose closing handshake might never end; and also for a caller that is cancelled.
        stream = self._stream.transport_stream if isinstance(self._stream, TLSStream) else self._stream
        with anyio.CancelScope(shield=True):
            await stream.aclose()

    async def next_event(self) -> AnswerHead | bytes | AnswerEnd:
        """Raises BrokenAnswer, BadAnswer."""
        while True:
            event = self.buffered_event()
            if event is not None:
                return event
            try:
                data = await self._stream.receive(PIECE)
            except anyio.EndOfStream:
                data = b""
            except GONE as error:
                raise BrokenAnswer(f"the connection was lost: {error.__cause__ or error!r}") from error
            self.heard = self.heard or bool(data)
            self.http.receive_data(data)

    def buffered_event(self) -> AnswerHead | bytes | AnswerEnd | None:
        """Of what has been read already.  Raises as `next_event`."""
        try:
            event = self.http.next_event()
        except AnswerCutShort as error:
            raise BrokenAnswer(str(error)) from None
        except AnswerError as error:
            raise BadAnswer(str(error)) from None
        return None if event is NEED_DATA else event  # type: ignore[return-value]  # no other Signal

    async def exchange(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Writes a request, reads the head of its answer.

        Raises: BrokenAnswer, BadAnswer, AnswerTimeout.
        """
        self.heard = self.written = False
        if len(data) > PIECE:
            return await self._exchange_large(data, write_timeout, head_timeout)
        await self._write(data, write_timeout)
        with anyio.move_on_after(head_timeout):
            return await self._read_head()
        raise AnswerTimeout(f"no answer within {head_timeout} s")

    async def _exchange_large(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Reads while it writes: a server may refuse a body (413) without reading it."""
        head: AnswerHead | None = None
        failure: HTTPFailure | None = None

        async def write() -> None:
            nonlocal failure
            patience = head_timeout
            try:
                await self._write(data, write_timeout)
            except HTTPFailure as error:
                failure = error
                patience = LAST_WORDS
            if patience is not None:
                waiting.deadline = anyio.current_time() + patience

        async with anyio.create_task_group() as tasks:
            waiting = anyio.CancelScope()
            tasks.start_soon(write)
            with waiting:
                try:
                    head = await self._read_head()
                except HTTPFailure as error:
                    failure = failure or error
            if head is None or head.status >= 300:
                # Nobody wants the rest.  A server that has begun to answer well still reads.
                tasks.cancel_scope.cancel()
        if head is not None and (failure is None or head.status >= 300):
            return head
        raise failure or AnswerTimeout(f"no answer within {head_timeout} s")

    async def _write(self, data: bytes, limit: float | None) -> None:
        """Raises AnswerTimeout, BrokenAnswer."""
        start = 0
        try:
            for start in range(0, len(data), PIECE):
                with anyio.fail_after(limit):
                    await self._stream.send(data[start : start + PIECE])
        except TimeoutError:
            raise AnswerTimeout(f"the server has read nothing for {limit} s") from None
        except GONE as error:
            # Only a request whose last piece was never handed over cannot have arrived whole.
            sent = start + PIECE >= len(data)
            raise BrokenAnswer(f"the connection was lost: {error.__cause__ or error!r}", sent) from error
        self.written = True

    async def _read_head(self) -> AnswerHead:
        event = await self.next_event()
        assert type(event) is AnswerHead
        return event


class HTTPAnswer:
    """Status, headers, and a body that is read as it comes: iterate over it, or `read()` it.  Then `aclose()`.

    Attributes:
        status: from 200 on.
        headers: names in lower case, values as they came.
    """

    def __init__(self, head: AnswerHead, wire: Wire, give_back: Callable[[Wire], Awaitable[None]]) -> None:
        self.status = head.status
        self.headers = head.headers
        self._head = head
        self._wire: Wire | None = wire
        self._give_back = give_back
        self._closed = False

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        return self._head.get(name)

    @property
    def ended(self) -> bool:
        """Whether the body was read to an end that the server said, not only to that of the connection."""
        framed = self.get("transfer-encoding") is not None or self.get("content-length") is not None
        return framed and self._wire is None and not self._closed

    async def __aenter__(self) -> HTTPAnswer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces of the body.

        Raises:
            BrokenAnswer: the server left in the middle, or the client was closed.
            BadAnswer: the server broke HTTP.
        """
        return self

    async def __anext__(self) -> bytes:
        wire = self._wire
        if wire is None:
            if self._closed:
                raise BrokenAnswer("the answer was closed before its end")
            raise StopAsyncIteration
        try:
            event = await wire.next_event()
        except BaseException:
            # Cancelled, too: nobody knows how much was read.
            self._closed = True
            await self._leave(wire)
            raise
        if type(event) is bytes:
            return event
        await self._leave(wire)
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        """The whole body, or what is left of it.

        Raises:
            TooLarge: it is of more than `limit` bytes.  The answer is closed.
            BrokenAnswer, BadAnswer: as by iterating.
        """
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > limit:
                await self.aclose()
                raise TooLarge(f"a body of more than {limit} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """Gives the connection back if the body has been read to its end, or all of it has arrived; else closes it."""
        wire = self._wire
        if wire is None:
            return
        self._closed = True
        try:
            while type(wire.buffered_event()) is bytes:
                pass
        except HTTPFailure:
            pass  # it is closed
        await self._leave(wire)

    async def _leave(self, wire: Wire) -> None:
        self._wire = None
        await self._give_back(wire)
