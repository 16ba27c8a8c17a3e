# SPDX-License-Identifier: MIT
"""A bus between the processes of one machine: Unix sockets in a private directory, one for each worker.

Each worker listens on a socket of its own, and connects to those that are there when it begins; so every two of them
have a connection, which stays open.  A frame is its length (4 bytes), its kind (1 byte) and its content.  The first
frame of a connection says the worker's id; the side that was called answers once it knows the caller, and from then on
both hear all that the other one publishes.

A message goes into a buffer of MAX_OUT_BYTES for each connection.  Where a worker does not read, messages to it are
dropped, and it is told of the gap as soon as it reads again.  A socket that refuses belonged to a worker that died: it
is removed, and the store is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ..protocol.shown import escaping
from .base import MAX_BUS_BYTES, StoreError, StoreRefused

logger = escaping(logging.getLogger(__name__))

MAX_OUT_BYTES = 4 * MAX_BUS_BYTES  # that wait for one worker to read
MAX_LINKS = 1024
MAX_WORKER_ID = 256  # bytes
HELLO_TIME = 0.5  # seconds that `open` waits for the workers that are there
MAX_SOCKET_PATH = 100  # bytes: sockaddr_un has 108 on Linux and 104 on macOS, with a NUL
SUFFIX = ".sock"
MAX_TRIES = 6  # to replace a connection that was lost, each after twice the time of the one before
REPLACE_AFTER = 0.02

HELLO, MESSAGE, WAKE, GAP = b"h", b"m", b"w", b"g"


class LocalBus:
    """The end of one worker.  Call `subscribe`, then `open`, and `close` at the end.

    `blocking` runs a function in a thread.  `woken` is called when messages lie in the inbox, or might.  `died` is
    called with the id of a worker that has died.
    """

    def __init__(
        self,
        directory: str,
        blocking: Callable[..., Awaitable[object]],
        woken: Callable[[], None],
        died: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.lost = 0  # messages that were dropped, since the other worker did not read
        self._died = died
        self._blocking = blocking
        self._woken = woken
        self._heard: Callable[[bytes], None] = _ignore
        self._gap: Callable[[], None] = _do_nothing
        self._worker = ""
        self._server: asyncio.AbstractServer | None = None
        self._links: set[_Link] = set()  # all connections
        self._making: set[asyncio.Future[object]] = set()  # connections that replace lost ones
        self._peers: dict[str, list[_Link]] = {}  # by worker, once it is known; the first link is the one to send by

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        """Call `heard` with each message of the others, and `gap` when messages may have been lost."""
        self._heard, self._gap = heard, gap

    async def open(self, worker: str) -> None:
        """Listen, and connect to all workers that are there.  Raises StoreError and StoreRefused."""
        if not 0 < len(_encoded(worker)) <= MAX_WORKER_ID:
            raise ValueError(f"the id of a worker has at most {MAX_WORKER_ID} bytes")
        self._worker = worker
        listening, found = _listen(self.directory, worker), _Found()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_unix_server(lambda: _Link(self), sock=listening, backlog=MAX_LINKS)
            await self._blocking(_connect_to_all, self.directory, file_of(worker), found)
            while found.connections:
                connection = found.connections.pop()
                await loop.create_unix_connection(lambda: _Link(self, calls=True), sock=connection)
            waiting = {link.greeted for link in self._links if link.calls}
            if waiting:
                await asyncio.wait(waiting, timeout=HELLO_TIME)
        except BaseException:  # also where it took too long, and is opened again later
            found.give_up()
            await self.close()
            listening.close()
            self._remove()
            raise
        for link in self._links:
            link.late = True  # from now on, a worker that greets may have published before

    async def close(self) -> None:
        """End all connections.  Does nothing a second time."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._remove()
        for link in [*self._links]:
            link.flush()
            link.close()
        self._links.clear()
        self._peers.clear()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.directory, file_of(self._worker)))

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        """Tell one worker, or all others.  Raises ValueError for a message that is too long."""
        if len(message) > MAX_BUS_BYTES:
            raise ValueError(f"a message on the bus has at most {MAX_BUS_BYTES} bytes")
        if self._server is None:
            raise StoreError("the store is not open")
        if worker is None:
            for links in self._peers.values():
                links[0].send(MESSAGE, message)
        elif worker in self._peers:
            self._peers[worker][0].send(MESSAGE, message)

    def wake(self, worker: str) -> None:
        """Tell a worker that a message lies in its inbox."""
        if worker in self._peers:
            self._peers[worker][0].send(WAKE, b"")
        elif worker == self._worker:
            self._woken()

    def worker_id(self) -> bytes:
        """The own id, as a greeting has it."""
        return _encoded(self._worker)

    # --- for the links ----------------------------------------------------------------------------------------------

    def linked(self, link: _Link) -> bool:
        """A connection is there; False where it is one too many."""
        if self._server is None or len(self._links) >= MAX_LINKS:
            return False
        self._links.add(link)
        return True

    def met(self, link: _Link) -> None:
        """A connection has said its worker's id."""
        self._peers.setdefault(link.worker, []).append(link)
        if link.late and link.calls:
            self.missed()

    def heard(self, kind: bytes, content: bytes) -> None:
        """A frame after the first one."""
        if kind == MESSAGE:
            self._heard(content)
        elif kind == WAKE:
            self._woken()
        elif kind == GAP:
            self.missed()

    def missed(self) -> None:
        """Messages may have been lost, and word of messages in the inbox."""
        self._woken()
        self._gap()

    def unlinked(self, link: _Link) -> None:
        """A connection has ended: its worker has closed, has died, or has dropped it."""
        self._links.discard(link)
        links = self._peers.get(link.worker, [])
        if link in links:
            links.remove(link)
            if not links:
                del self._peers[link.worker]
        if self._server is not None and link.worker and link.worker not in self._peers:
            if link.tries == 0:
                self._replace(link.worker, 1)
            elif link.tries < MAX_TRIES:
                wait = REPLACE_AFTER * 2**link.tries
                asyncio.get_running_loop().call_later(wait, self._replace, link.worker, link.tries + 1)

    def _replace(self, worker: str, tries: int) -> None:
        """Connect again.  A dead worker's socket may take a connection for a moment, until the system closes it."""
        if self._server is None or worker in self._peers:
            return
        try:
            connection = _connect(self.directory, file_of(worker))
        except ConnectionRefusedError:
            self._died(worker)
            return
        except OSError:  # it has removed its socket: it has closed
            return
        loop = asyncio.get_running_loop()
        making: asyncio.Future[object] = asyncio.ensure_future(
            loop.create_unix_connection(lambda: _Link(self, True, worker, tries), sock=connection)
        )
        self._making.add(making)
        making.add_done_callback(self._making.discard)


class _Link(asyncio.Protocol):
    """One connection to another worker.  `calls`: this end has made it, and greets first."""

    def __init__(self, bus: LocalBus, calls: bool = False, worker: str = "", tries: int = 0) -> None:
        self.bus = bus
        self.calls = calls
        self.worker = worker
        self.tries = tries  # to replace a connection that was lost
        self.late = tries > 0
        self.met = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._in = bytearray()
        self._out: list[bytes] = []  # of this turn of the loop
        self._out_size = 0
        self._dropped = self._paused = False

    def connection_made(self, transport: Any) -> None:
        # The type is Any because uvloop's transports have asyncio's methods, but not its class.
        self._transport = transport
        transport.set_write_buffer_limits(MAX_OUT_BYTES // 2, MAX_OUT_BYTES // 4)
        if not self.bus.linked(self):
            transport.abort()
        elif self.calls:
            self._greet()

    def _greet(self) -> None:
        self.send(HELLO, self.bus.worker_id())

    def send(self, kind: bytes, content: bytes) -> None:
        """Send a frame at the end of this turn of the loop, or drop it where the other end does not read."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() + self._out_size > MAX_OUT_BYTES - len(content):
            self._dropped = True
            self.bus.lost += 1
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self.flush)
        frame = (len(content) + 1).to_bytes(4, "big") + kind
        self._out += (frame, content)
        self._out_size += len(frame) + len(content)

    def flush(self) -> None:
        """Write the frames of this turn."""
        frames, self._out, self._out_size = self._out, [], 0
        if frames and self._transport is not None:
            self._transport.write(b"".join(frames))
            if not self._paused:
                self.resume_writing()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        """The other end reads again: it must know if it has missed something."""
        self._paused = False
        if self._dropped:
            self._dropped = False
            self.send(GAP, b"")

    def data_received(self, data: bytes) -> None:
        self._in += data
        begin = 0
        while len(self._in) - begin >= 4:
            length = int.from_bytes(self._in[begin : begin + 4], "big")
            if not 1 <= length <= MAX_BUS_BYTES + 1:
                logger.warning("another worker has sent a frame of %d bytes; its connection ends", length)
                self.close()
                return
            end = begin + 4 + length
            if len(self._in) < end:
                break
            self._frame(bytes(self._in[begin + 4 : begin + 5]), bytes(self._in[begin + 5 : end]))
            begin = end
        del self._in[:begin]

    def _frame(self, kind: bytes, content: bytes) -> None:
        if self.met:
            self.bus.heard(kind, content)
        elif kind == HELLO and 0 < len(content) <= MAX_WORKER_ID:
            self.worker, self.met, self.tries = content.decode("utf-8", "replace"), True, 0
            self.bus.met(self)
            if not self.calls:
                self._greet()
            if not self.greeted.done():
                self.greeted.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.greeted.done():
            self.greeted.set_result(None)
        self.bus.unlinked(self)

    def close(self) -> None:
        """End the connection, after all frames that were written are sent."""
        if self._transport is not None:
            self._transport.close()


def file_of(worker: str) -> str:
    """The name of a worker's socket: short, and safe in any directory."""
    return hashlib.blake2b(_encoded(worker), digest_size=10).hexdigest() + SUFFIX


def has_unix_sockets() -> bool:
    """Whether this system has them.  asyncio has none on Windows, and a sandbox may forbid them."""
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        return False
    try:
        socket.socket(socket.AF_UNIX).close()
    except OSError:
        return False
    return True


def make_directory(path: str) -> None:
    """Make the directory that the owner alone may enter, or refuse one that others may enter."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreRefused(f"{path} must be a directory that its owner alone may enter (mode 0700)")


@contextlib.contextmanager
def _short(directory: str) -> Iterator[str]:
    """A way into the directory that a socket's address has room for: a link, in a private directory, for a moment."""
    if len(os.fsencode(directory)) + 1 + len(file_of("")) + 4 <= MAX_SOCKET_PATH:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="mcp_h11-") as private:
        link = os.path.join(private, "d")
        os.symlink(directory, link)
        yield link


def _listen(directory: str, worker: str) -> socket.socket:
    """A socket that listens from the moment at which it has its name: one that refuses is one of a dead worker."""
    name = file_of(worker)
    listening = socket.socket(socket.AF_UNIX)
    try:
        make_directory(directory)
        if os.path.lexists(os.path.join(directory, name)):
            raise StoreError("a worker with this id is there already")
        with _short(directory) as way:
            listening.setblocking(False)
            listening.bind(os.path.join(way, name + ".new"))
            listening.listen(MAX_LINKS)
            os.rename(os.path.join(directory, name + ".new"), os.path.join(directory, name))
    except OSError as error:
        listening.close()
        raise StoreError(f"{directory}: {error.strerror or error}") from None
    except BaseException:
        listening.close()
        raise
    return listening


def _connect(directory: str, name: str) -> socket.socket:
    """Connect to a worker's socket, which never waits.  One that refuses (ConnectionRefusedError) is removed."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        with _short(directory) as way:
            connection.connect(os.path.join(way, name))
    except BaseException as error:
        connection.close()
        if isinstance(error, ConnectionRefusedError):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))
        raise
    return connection


class _Found:
    """The connections that a thread makes; the loop, which wants them, may give up meanwhile."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._given_up = False

    def add(self, connection: socket.socket) -> None:
        self.connections.append(connection)
        if self._given_up:
            connection.close()

    def give_up(self) -> None:
        self._given_up = True
        for connection in self.connections:
            connection.close()


def _connect_to_all(directory: str, own: str, found: _Found) -> None:
    """Connect to every worker that listens in the directory, and remove the sockets of dead ones."""
    for name in sorted(os.listdir(directory)):
        if name != own and name.endswith(SUFFIX):
            with contextlib.suppress(OSError):
                found.add(_connect(directory, name))


def _encoded(worker: str) -> bytes:
    return worker.encode("utf-8", "replace")


def _ignore(message: bytes) -> None:
    """Do nothing: the bus before `subscribe`."""


def _do_nothing() -> None:
    """Do nothing: the bus before `subscribe`."""
