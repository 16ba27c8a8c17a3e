# SPDX-License-Identifier: MIT
"""Blocking questions to a server, one after the other, and sessions that only listen."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from .drive import READ_AT_ONCE, SILENCE_LIMIT
from .process import Group
from .scenarios import LoadPlan, Script, opened
from .talk import AnswerReader, Dialect, WholeAnswer, Wrong


class Line:
    """A connection for one question after the other."""

    def __init__(self, load: LoadPlan, reader: AnswerReader) -> None:
        self._load = load
        self._reader = reader
        self._sock: socket.socket | None = None

    def ask(self, request: bytes) -> WholeAnswer:
        for _ in range(2):
            if self._sock is None:
                self._sock = connected(self._load)
            answer = self._ask(self._sock, request)
            if answer is None or answer.framing.close:
                self.close()
            if answer is not None:
                return answer
        raise Wrong("the server drops connections", "connection closed")

    def _ask(self, sock: socket.socket, request: bytes) -> WholeAnswer | None:
        data = b""
        try:
            sock.sendall(request)
            while True:
                piece = sock.recv(READ_AT_ONCE)
                data += piece
                answer = self._reader.take(data, eof=not piece)
                if answer is not None or not piece:
                    return answer
        except ConnectionError:
            return None

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def connected(load: LoadPlan) -> socket.socket:
    """A new connection to the server, over TLS where the plan has it.  Raises OSError."""
    limit = min(load.timeout, SILENCE_LIMIT)
    sock = socket.create_connection((load.host, load.port), timeout=limit)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if load.tls is None else load.tls.wrap_socket(sock, server_hostname=load.host)
    except BaseException:
        sock.close()
        raise


def forget(load: LoadPlan) -> None:
    """Delete the sessions that were opened, where the server lets us."""
    line = Line(load, AnswerReader())
    try:
        while load.sessions:
            _, dialect = load.sessions.popitem()
            if line.ask(dialect.delete()).framing.status not in (200, 202, 204):
                load.sessions.clear()
    except (Wrong, OSError):
        load.sessions.clear()  # the error of the run has been raised already
    finally:
        line.close()


@dataclass
class Idle:
    """The memory of sessions that only listen."""

    sessions: int
    kib_each: float
    seconds: float


def hold_idle(load: LoadPlan, group: Group, sessions: int, settle: float = 0.5) -> Idle:
    """Open `sessions` sessions, each with a GET stream on its own connection, and look at the memory.

    The slope between a fifth of them and all of them: memory that the first ones take once is not charged to each.
    """
    reader = AnswerReader()
    line = Line(load, reader)
    streams: list[socket.socket] = []
    marks = []
    began = time.perf_counter()
    try:
        for number in range(sessions):
            dialect = load.dialect()
            shake_hands(opened(load, dialect), line)
            if dialect.session is None:
                raise Wrong("no session id at initialize")
            streams.append(stream_opened(load, dialect, reader))
            if number + 1 in (sessions // 5, sessions):
                time.sleep(settle)
                marks.append((number + 1, group.usage().rss))
        (few, before), (many, after) = marks
        return Idle(sessions, (after - before) / (many - few) / 1024, time.perf_counter() - began)
    finally:
        line.close()
        for sock in streams:
            sock.close()


def shake_hands(script: Script, line: Line) -> None:
    with suppress(StopIteration):  # at once where a session is no thing of the era
        request = next(script)
        while True:
            request = script.send(line.ask(request))


def stream_opened(load: LoadPlan, dialect: Dialect, reader: AnswerReader) -> socket.socket:
    """An open GET stream."""
    sock = connected(load)
    try:
        sock.sendall(dialect.listen())
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(READ_AT_ONCE)
            if not piece:
                raise Wrong("the GET stream was refused")
            data += piece
        framing = reader.framing(data.partition(b"\r\n\r\n")[0])
        if framing.status != 200 or not framing.events:
            raise Wrong(f"the GET was answered with {framing.status}")
    except BaseException:
        sock.close()
        raise
    return sock
