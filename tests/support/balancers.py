# SPDX-License-Identifier: MIT
"""Load balancers without affinity, for tests: nothing in them knows sessions.

`Splice` gives each connection to the next worker, byte for byte.  `Proxy` gives each request of a connection to the
next worker, with as much HTTP/1.1 as that needs; bytes of an answer are passed on as they come.  A worker that refuses
a connection is passed over.  `balancing` runs one of them in a thread of its own, for tests that drive other programs.

Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

PIECE = 64 * 1024  # bytes
LIMIT = 60.0  # seconds for a start, an end, and a connection
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Balancer:
    """Listens on a port of loopback.  `ports` are those of the workers; a test may change them."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = list(ports)
        self.port = 0
        self.given: list[int] = []  # the port of each connection or request, in order
        self._turn = -1
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> Any:
        """Listen while the block runs."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=PIECE)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()  # the other end hears that this is no usual end
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        raise NotImplementedError

    async def _next(self) -> tuple[Reader, Writer]:
        """A connection to the next worker that takes one.  Raises OSError where none does."""
        failure: OSError = ConnectionRefusedError("there is no worker")
        for _ in range(len(self.ports)):
            self._turn = (self._turn + 1) % len(self.ports)
            port = self.ports[self._turn]
            try:
                found = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
            except OSError as error:
                failure = error
                continue
            self.given.append(port)
            return found
        raise failure


class Splice(Balancer):
    """Each connection to the next worker."""

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        back, forth = await self._next()
        try:
            await first_error(_copy(reader, forth), _copy(back, writer))
        finally:
            forth.close()


async def _copy(reader: Reader, writer: Writer) -> None:
    """Pass on all bytes and the end."""
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


async def first_error(*steps: Coroutine[Any, Any, None]) -> None:
    """Run all of them; where one fails, cancel the others and raise."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Head:
    """The parts of a head that the proxy reads."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.first, *lines = data.decode("latin-1").split("\r\n")
        self.fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.fields[name.strip().lower()] = value.strip().lower()

    @property
    def closes(self) -> bool:
        return self.fields.get("connection") == "close" or "HTTP/1.0" in self.first


class Proxy(Balancer):
    """Each request to the next worker, on a connection of its own."""

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        ahead = b""  # a byte of the next request, which was read while the client was watched
        while True:
            try:
                request = _Head(ahead + await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                return
            back, forth = await self._next()
            try:
                answered, ahead = await self._exchange(request, reader, writer, back, forth)
            finally:
                forth.close()
            if not answered or request.closes:
                return

    async def _exchange(
        self, request: _Head, reader: Reader, writer: Writer, back: Reader, forth: Writer
    ) -> tuple[bool, bytes]:
        """One request and its answer; whether the connection goes on, and the byte that was read ahead."""
        forth.write(request.data)
        sending = asyncio.ensure_future(_pass_body(request, reader, forth, to_end=False))
        answering = asyncio.ensure_future(self._answer(request, back, writer))
        watching = asyncio.ensure_future(_watch(sending, reader))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not answering.done() and watching.result() == b"":
                return False, b""  # the client has left: so does the connection to the worker
            goes_on = await answering
            if not sending.done():
                return False, b""  # answered before the body was read: the rest of the body is no request
            watching.cancel()
            await asyncio.wait({watching})
            return goes_on, b"" if watching.cancelled() else watching.result()
        finally:
            for task in (sending, answering, watching):
                task.cancel()
            await asyncio.gather(sending, answering, watching, return_exceptions=True)

    async def _answer(self, request: _Head, back: Reader, writer: Writer) -> bool:
        """Pass the answer on; whether the connection goes on after it."""
        while True:
            answer = _Head(await back.readuntil(b"\r\n\r\n"))
            writer.write(answer.data)
            status = int(answer.first.split(" ")[1])
            if status >= 200:
                break
        if not request.first.startswith("HEAD ") and status not in (204, 304):
            await _pass_body(answer, back, writer, to_end=True)
        await writer.drain()
        framed = "content-length" in answer.fields or "transfer-encoding" in answer.fields or status in (204, 304)
        return framed and not answer.closes


async def _watch(sending: asyncio.Future[None], reader: Reader) -> bytes:
    """After the request: the next byte of the client, b"" at its end."""
    await asyncio.wait({sending})
    return await reader.read(1)


async def _pass_body(head: _Head, reader: Reader, writer: Writer, *, to_end: bool) -> None:
    """Pass on the body of a message; `to_end`: without a length, it goes on to the end of the connection."""
    if "chunked" in head.fields.get("transfer-encoding", ""):
        await _pass_chunks(reader, writer)
    elif "content-length" in head.fields:
        await _pass(reader, writer, int(head.fields["content-length"]))
    elif to_end:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


async def _pass_chunks(reader: Reader, writer: Writer) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        await _pass(reader, writer, size + 2)
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        writer.write(line)
    writer.write(line)


async def _pass(reader: Reader, writer: Writer, size: int) -> None:
    while size:
        piece = await reader.read(min(size, PIECE))
        if not piece:
            raise ConnectionResetError("the body broke off")
        size -= len(piece)
        writer.write(piece)
        await writer.drain()


@contextlib.contextmanager
def balancing(kind: Callable[[Sequence[int]], Balancer], ports: Sequence[int]) -> Iterator[Balancer]:
    """A balancer in a thread of its own; `balancer.port` is where it listens."""
    balancer = kind(ports)
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with balancer.running():
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(LIMIT), "the balancer did not start"
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT)
