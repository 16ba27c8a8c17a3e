# SPDX-License-Identifier: MIT
"""The transport of a plain connection on asyncio's selector loops: made, and ended, in one turn of the loop.

It is asyncio's own transport.  Reading, writing and all that can go wrong with both (half-closed, slow and lost peers)
is asyncio's code; only the beginning and the usual end are written anew.  asyncio asks the system for both addresses,
switches Nagle's algorithm off though an accepted socket inherits that, and needs two callbacks before the first byte
and one after the last.  A server's connection needs none of this.

Rule: all that asyncio's methods read of a transport is set here; a test compares both on each Python.  On a Python that
is not among those (`KNOWN`), and on loops with transports of their own, the loop makes the transports.

It is not in the loop's table of transports, which warns programs that use the descriptor of one: no program is given
this one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio import selector_events
from collections import deque
from selectors import EVENT_READ
from typing import Any

_Base: Any = getattr(selector_events, "_SelectorSocketTransport", asyncio.Transport)
KNOWN = os.name == "posix" and sys.version_info < (3, 15) and _Base is not asyncio.Transport
ASYNCIO_LIMITS = 64 * 1024, 16 * 1024  # bytes that wait to be sent: asyncio's; the protocol sets its own


def fits(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a `PlainTransport` does on this loop what the loop's own transport would."""
    name = "_make_socket_transport"
    return KNOWN and getattr(type(loop), name, None) is getattr(asyncio.SelectorEventLoop, name, KNOWN)


class PlainTransport(_Base):  # type: ignore[misc]
    """For an accepted socket that does not block, and the protocol of its connection.  Call `begin` next.

    `peer` is the address that `accept` gave.  `protocol` is an `asyncio.BufferedProtocol`.
    """

    # What most connections never change stands in the class.  asyncio keeps bound methods in each transport, a cycle
    # that only the garbage collector can free.
    _conn_lost = 0
    _closing = _paused = _eof = False
    _protocol_connected = True
    _server = _empty_waiter = _read_ready_cb = None
    _read_ready: Any = getattr(_Base, "_read_ready__get_buffer", None)
    _write_rest: Any = getattr(_Base, "_write_sendmsg", getattr(_Base, "_write_ready", None))

    def __init__(self, loop: Any, sock: socket.socket, peer: Any, protocol: Any) -> None:
        self._loop = loop
        self._sock: Any = sock
        self._sock_fd = sock.fileno()
        self._peer = peer
        self._protocol = protocol
        self._protocol_paused = False
        self._high_water, self._low_water = ASYNCIO_LIMITS
        self._buffer: Any = bytearray() if sys.version_info < (3, 12) else deque()

    def begin(self, waited: bool = False) -> None:
        """Hand itself to the protocol, and read; at once where the connection `waited`, so that bytes may be here."""
        self._protocol.connection_made(self)
        if not self._closing and not self._paused:
            loop, fd = self._loop, self._sock_fd
            reader = asyncio.Handle(self._read_ready, (), loop)
            try:
                loop._selector.register(fd, EVENT_READ, (reader, None))
            except KeyError:  # the program closed a file with this number, and did not tell the loop
                loop._selector.unregister(fd)
                loop._selector.register(fd, EVENT_READ, (reader, None))
            if waited:
                reader._run()  # in the context of this connection, as the loop would

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self._peer
        if name == "socket":
            return self._sock
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high and low is None and not self._buffer:  # asyncio's rule, and nothing waits that could be too much
            self._high_water, self._low_water = high, high // 4
        else:
            super().set_write_buffer_limits(high, low)

    def close(self) -> None:
        if self._buffer:
            super().close()  # when the rest has left
        elif not self._closing:
            self._end()
            self._loop.call_soon(self._call_connection_lost, None)

    def _end(self) -> None:
        self._closing, self._conn_lost = True, self._conn_lost + 1
        # Nothing waits to be sent, so the reader is all that is registered; the loop's own way looks it up three times.
        # A read that is due in this turn finds the connection lost.
        try:
            self._loop._selector.unregister(self._sock_fd)
        except KeyError:  # reading is paused
            pass

    def write_eof(self) -> None:
        try:
            super().write_eof()
        except OSError as exc:  # the peer has left
            self._force_close(exc)

    def _write_ready(self) -> None:
        try:
            self._write_rest()
        except OSError as exc:  # the peer has left, and the end of what is sent was due
            self._force_close(exc)

    def _read_ready__on_eof(self) -> None:
        try:
            goes_on = self._protocol.eof_received()
        except Exception as exc:
            self._fatal_error(exc, "Fatal error: protocol.eof_received() call failed.")
            return
        if goes_on:
            self._loop._remove_reader(self._sock_fd)
        elif self._buffer or self._closing:
            self.close()
        else:  # in this turn, since the loop is the caller
            self._end()
            self._call_connection_lost(None)
