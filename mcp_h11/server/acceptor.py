# SPDX-License-Identifier: MIT
"""A listener that counts and times TLS handshakes, and loses no accepted connection.

It makes connections, and does not know the protocol that they speak.

A plain connection on asyncio needs no task, since there is nothing to wait for: it is made in the turn that accepted it
(`transport`).

Rule: a peer counts before its handshake too, because it holds a descriptor from the start.  asyncio's own servers do
not have this rule: they report a connection only after its handshake, so that a handshake which never ends is not
counted.  When they are closed, they also lose the connections that they have just accepted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..protocol.shown import escaping
from .transport import PlainTransport, fits

ACCEPTS_PER_TURN = 32  # in one turn of the loop; then the accepted connections have their turn
YIELD_TIME = 0.001  # seconds for which a connection is left to other processes
YIELDED_ACCEPTS = 4  # connections that are accepted after that time, if no other process wanted them
RETRY_AFTER = 1.0  # seconds, where the system has no descriptor or no memory for another connection
NEVER = 365 * 86_400.0  # seconds; asyncio would read None as a minute
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

logger = escaping(logging.getLogger(__name__))


def second_descriptor(sock: socket.socket) -> socket.socket | None:
    """Another descriptor of the same socket, for `last_of`; None where the system has none left."""
    try:
        return sock.dup()
    except OSError:
        return None


def last_of(sock: socket.socket | None, limit: int) -> Iterator[tuple[socket.socket, Any]]:
    """The connections, with their addresses, that wait on a listening socket, at most `limit`; then it is closed.

    The system resets a connection that waits on a socket when that is closed.  So nothing comes between the look that
    finds no connection and the close.  On Windows there is none, because its loop has an `accept` under way.
    """
    if sock is None:
        return
    with sock:
        for _ in range(limit if sys.platform != "win32" else 0):
            try:
                peer, address = sock.accept()
            except ConnectionAbortedError:  # that peer has left
                continue
            except OSError:  # none waits, or the system has no descriptor for one
                return
            peer.setblocking(False)
            yield peer, address


class Acceptor:
    """Accepts on one bound socket until `close`, with TLS or without.

    `connected` makes the protocol of a connection, a `BufferedProtocol`.  It may be given a function, and then the
    protocol calls it with its transport when the connection is made: from then on it no longer counts as a handshake.
    `full(address)` says whether there is no room for a peer, with the handshakes under way in `handshakes` counted too.
    A peer without room is closed without an answer, because TLS has no answer for that.  `leaves` says whether the next
    connection is left to other processes that accept from the same socket, for a moment.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        connected: Callable[[Callable[[Any], None] | None], asyncio.BaseProtocol],
        full: Callable[[str], bool],
        handshakes: set[Any],
        *,
        timeout: float | None,
        backlog: int,
        leaves: Callable[[], bool] | None = None,
    ) -> None:
        self._leaves = leaves
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connected = connected
        self._full = full
        self._handshakes = handshakes
        self._options: dict[str, Any] = {}
        if context is not None:
            self._options = {"ssl": context, "ssl_handshake_timeout": NEVER if timeout is None else timeout}
        self._retry: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._plain = context is None and fits(self._loop)
        # `accept` of `socket` makes an object with a file's methods, and members of two enums, for each connection.
        self._type = socket.SocketType if self._plain else socket.socket
        self._kind = int(sock.family), int(sock.type), sock.proto
        sock.listen(backlog)
        try:
            self._loop.add_reader(sock, self._accept)
        except NotImplementedError:  # the Windows loop
            self._task = self._loop.create_task(self._accept_each())
            # The loop uses the socket until the task has ended, so it is closed only then.
            self._task.add_done_callback(lambda _: sock.close())

    def stop(self) -> None:
        """Accept no more; the handshakes under way go on."""
        if self._task is not None:
            self._task.cancel()
        elif self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        if self._retry is not None:
            self._retry.cancel()

    def stop_after(self, limit: int) -> None:
        """Accept the connections that wait already, at most `limit`, and no more.

        It is for a socket from which no other process accepts.
        """
        last = second_descriptor(self._sock)
        self.stop()
        for peer, address in last_of(last, limit):
            self._begin(peer, address)

    def close(self) -> None:
        """Accept no more, and cancel the handshakes under way."""
        self.stop()
        for one in list(self._handshakes):
            one.cancel()

    def _accept(self) -> None:
        leaves = self._leaves
        for taken in range(ACCEPTS_PER_TURN):
            if leaves is not None and leaves():
                self._pause(YIELD_TIME, self._accept_what_is_left)
                return
            if not self._accept_one(taken > 0):
                return

    def _accept_what_is_left(self) -> None:
        self._loop.add_reader(self._sock, self._accept)
        for _ in range(YIELDED_ACCEPTS):
            if not self._accept_one(True):
                return

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(seconds, then)

    def _accept_one(self, waited: bool = False) -> bool:
        """Accept one connection; False where none waits, or the system has no room for one.

        `waited`: for a turn that others had, so its first bytes are likely to be here.
        """
        try:
            descriptor, address = self._sock._accept()  # type: ignore[attr-defined]
            peer: Any = self._type(*self._kind, fileno=descriptor)
        except BlockingIOError:
            return False
        except OSError as exc:
            if self._has_room(exc):
                return True
            self._pause(RETRY_AFTER, partial(self._loop.add_reader, self._sock, self._accept))
            return False
        peer.setblocking(False)
        self._begin(peer, address, waited)
        return True

    async def _accept_each(self) -> None:
        while True:
            await self._accept_next()

    async def _accept_next(self) -> None:
        try:
            peer, address = await self._loop.sock_accept(self._sock)
        except OSError as exc:
            await asyncio.sleep(0 if self._has_room(exc) else RETRY_AFTER)
        else:
            self._begin(peer, address)
            await asyncio.sleep(0)

    def _has_room(self, exc: OSError) -> bool:
        """Whether the system has room for a connection: other errors mean that a peer left before it was accepted."""
        if exc.errno not in _NO_ROOM:
            return True
        logger.error("no connection can be accepted: %s", exc)
        return False

    def _begin(self, peer: socket.socket, address: Any, waited: bool = False) -> None:
        if self._full(str(address[0]) if isinstance(address, tuple) else ""):
            peer.close()
            return
        if self._plain:
            try:
                transport = PlainTransport(self._loop, peer, address, self._connected(None))
            except Exception:
                logger.exception("a connection could not be made")
                peer.close()
                return
            try:
                transport.begin(waited)
            except Exception:
                logger.exception("a connection could not be made")
                transport.abort()
            return
        task = self._loop.create_task(self._connect(peer))
        self._handshakes.add(task)
        task.add_done_callback(partial(self._ended, peer))

    def _ended(self, peer: socket.socket, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        if task.cancelled():  # perhaps before its first step, and then no other code closes the socket
            peer.close()

    async def _connect(self, peer: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None

        def made(_: Any) -> None:
            self._handshakes.discard(task)  # the task ends a turn or two of the loop later

        try:
            await self._loop.connect_accepted_socket(partial(self._connected, made), peer, **self._options)
        except OSError as exc:  # includes ssl's errors: no TLS, no common version or cipher, too slow, gone
            logger.debug("a TLS handshake failed: %s", exc)
        except Exception:
            logger.exception("a connection could not be made")
            peer.close()
