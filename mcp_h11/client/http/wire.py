# SPDX-License-Identifier: MIT
"""One connection of the HTTP client, the answer that is read from it, and the ways in which both fail.

The connection is called a wire, because `http.client.ClientConnection` is the name of its protocol half, which knows no
socket.  This module opens no connection (`dialing.py` does) and keeps none (`httpclient.py` does).

Rule: after an error, a timeout or a cancellation in the middle of an answer the wire is closed, since the place in its
bytes is not known any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

import anyio
from anyio.abc import ByteStream

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
from .line import PIECE, SocketLine
from .outbound import ForwardProxy
from .urls import Origin

# Seconds to wait for an answer after writing failed: the server may have answered (413, 503) before it stopped reading.
LAST_WORDS = 1.0


# --- errors -----------------------------------------------------------------------------------------------------------


class HTTPFailure(Exception):
    """The answer is missing, or is not complete.

    Attributes:
        sent: False if the server cannot have executed the request: it is safe to send it again.
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
    """The server did not read the request in time, or did not begin its answer in time."""


class TooLarge(HTTPFailure):
    """The body is larger than the limit of the read."""


# --- connections ------------------------------------------------------------------------------------------------------

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


def broken_by(error: Exception, sent: bool = True) -> BrokenAnswer:
    """The failure of an answer whose connection ended with an exception of `GONE`."""
    return BrokenAnswer(f"the connection was lost: {error.__cause__ or error!r}", sent)


class Wire:
    """One connection: a stream of bytes and the state of HTTP on it.

    Args:
        stream: the line, or TLS above it.
    """

    def __init__(
        self,
        stream: ByteStream,
        line: SocketLine,
        origin: Origin,
        limits: ClientLimits,
        cache: AnswerCache,
        proxy: ForwardProxy | None = None,
    ) -> None:
        self.origin = origin
        # A proxy that passes requests on needs the absolute form (RFC 9112, 3.2.2).  Through a tunnel requests are the
        # same as without a proxy, so TLS sets None here.
        self.proxy = None if origin.secure else proxy
        self.http = ClientConnection(limits, cache)
        self.idle_since = 0.0
        self.heard = False  # a byte of the answer to the last request has come
        self.written = False  # the last request was handed over whole
        self.line = line
        # Requests may be written, and answers heard, without a task: nothing stands between the line and HTTP.
        self.plain = stream is line and self.proxy is None
        self._stream = stream
        self._socket = line.socket

    @property
    def reusable(self) -> bool:
        return self.written and self.line.writable and self.http.reusable

    def close(self) -> None:
        """Closes the line, below TLS, whose closing handshake might never end."""
        self.line.close()

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
                raise broken_by(error) from error
            self.take(data)

    def take(self, data: bytes) -> None:
        """Hands the bytes of one read to HTTP; b"" is the end."""
        self.heard = self.heard or bool(data)
        self.http.receive_data(data)

    def buffered_event(self) -> AnswerHead | bytes | AnswerEnd | None:
        """The next event in the bytes that were read already, or None.  Raises BrokenAnswer, BadAnswer."""
        try:
            event = self.http.next_event()
        except AnswerCutShort as error:
            raise BrokenAnswer(str(error)) from None
        except AnswerError as error:
            raise BadAnswer(str(error)) from None
        return None if event is NEED_DATA else event  # type: ignore[return-value]  # no other Signal

    async def exchange(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Writes a request, reads the head of its answer.

        Raises:
            BrokenAnswer, BadAnswer, AnswerTimeout: there is no head.
        """
        self.heard = self.written = False
        if len(data) > PIECE:
            return await self._exchange_large(data, write_timeout, head_timeout)
        await self._write(data, write_timeout)
        return await self._read_head_within(head_timeout)

    async def _read_head_within(self, limit: float | None) -> AnswerHead:
        if limit is None:
            return await self._read_head()
        with anyio.move_on_after(limit):
            return await self._read_head()
        raise AnswerTimeout(f"no answer within {limit} s")

    async def _exchange_large(self, data: bytes, write_timeout: float | None, head_timeout: float | None) -> AnswerHead:
        """Reads while it writes: a server may refuse a body (413) without reading it, and would never read the rest."""
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
                # A refusal makes the rest of the body useless.  After a success the server goes on reading it.
                tasks.cancel_scope.cancel()
        if head is not None and (failure is None or head.status >= 300):
            return head
        raise failure or AnswerTimeout(f"no answer within {head_timeout} s")

    async def _write(self, data: bytes, limit: float | None) -> None:
        """Raises AnswerTimeout, BrokenAnswer."""
        start = 0
        try:
            for start in range(0, len(data), PIECE):
                await self._write_piece(data[start : start + PIECE], limit)
        except TimeoutError:
            raise AnswerTimeout(f"the server has read nothing for {limit} s") from None
        except GONE as error:
            # If a piece was left over, the server cannot have executed the request.
            sent = start + PIECE >= len(data)
            raise broken_by(error, sent) from error
        self.written = True

    async def _write_piece(self, piece: bytes, limit: float | None) -> None:
        """Raises TimeoutError, or an exception of `GONE`."""
        line = self.line
        if self._stream is line and line.writable:
            line.write(piece)
            if not line.writable:
                with anyio.fail_after(limit):
                    await line.drained()
            return
        with anyio.fail_after(limit):
            await self._stream.send(piece)

    async def _read_head(self) -> AnswerHead:
        event = await self.next_event()
        assert type(event) is AnswerHead
        return event


class HTTPAnswer:
    """Status, headers, and a body that is read as it arrives: iterate over it, or `read()` it.  Then `aclose()`.

    Attributes:
        status: 200 or higher; interim answers are skipped.
        headers: names in lower case, values as the server sent them.
    """

    def __init__(
        self, head: AnswerHead, wire: Wire | None, give_back: Callable[[Wire], None], pieces: Iterable[bytes] = ()
    ) -> None:
        self.status = head.status
        self.headers = head.headers
        self.media_type = head.media_type
        self._head = head
        self._wire = wire
        self._give_back = give_back
        self._pieces = list(pieces)  # of the body, that have come already
        self._closed = False

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, latin-1, or None."""
        return self._head.get(name)

    @property
    def ended(self) -> bool:
        """Whether the body was read to the end that its framing gives, and not only to the end of the connection."""
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
        if self._pieces:
            return self._pieces.pop(0)
        wire = self._wire
        if wire is None:
            if self._closed:
                raise BrokenAnswer("the answer was closed before its end")
            raise StopAsyncIteration
        try:
            event = await wire.next_event()
        except BaseException:
            # After a cancellation, too, it is not known how much was read.
            self._closed = True
            self._leave(wire)
            raise
        if type(event) is bytes:
            return event
        self._leave(wire)
        raise StopAsyncIteration

    def has_come(self, piece: bytes) -> None:
        """The next piece of the body, which was read from the connection already."""
        self._pieces.append(piece)

    async def read(self, limit: int) -> bytes:
        """The whole body, or the part that was not read yet.

        Raises:
            TooLarge: the body has more than `limit` bytes.  The answer is closed.
            BrokenAnswer, BadAnswer: as iterating does.
        """
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > limit:
                self.close()
                raise TooLarge(f"a body of more than {limit} bytes")
        return bytes(body)

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Gives the connection back if the body has been read to its end, or all of it has arrived; else closes it."""
        self._pieces.clear()
        wire = self._wire
        if wire is None:
            return
        self._closed = True
        try:
            while type(wire.buffered_event()) is bytes:
                pass
        except HTTPFailure:
            pass  # the wire has noted the failure, and is not used again
        self._leave(wire)

    def _leave(self, wire: Wire) -> None:
        self._wire = None
        self._give_back(wire)
