# SPDX-License-Identifier: MIT
"""The way to a server that is a child process: one JSON message a line (basic/transports/stdio, all revisions).

A line on the child's stdout that is no message (a banner, a log line) is skipped and counted, and the first one is
logged.  An answer that cannot be read ends its request with `InvalidAnswer`.  If it names no request, the receiver
decides which request it ends.

Rule: when the child or its stdout ends, the receiver hears of it at once, with the exit code and the last lines of its
stderr.  However the client ends, the child is stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...protocol.errors import MCPError
from ...protocol.jsonrpc import JSON, ErrorResponse, Message, Response
from ...protocol.lines import MAX_LINE, LineTooLong
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from . import lenient
from .base import Outgoing, Receiver, deliver
from .errors import ConnectionLost, InvalidAnswer
from .lenient import Unreadable, beginning, id_at_the_end
from .process import EOF_TIME, TERM_TIME, WRITE_TIME, Child, Gone, SpawnFailed

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

SHOWN_BYTES = 200  # of a line that is no message, in the log


class StdioTransport:
    """Messages over the pipes of a child.

    Args:
        command: the program and its arguments; no shell reads them.
        env: variables added to the harmless ones of our environment; "inherit" passes on all of ours.
        max_line: bytes of one message.
        eof: seconds that the child has to leave after the end of its input.
        term: seconds that it has after SIGTERM.
        write: seconds that a message waits for a child that does not read.

    Attributes:
        skipped: lines that were no message.
    """

    duplex = True

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | str | None = None,
        cwd: str | None = None,
        max_line: int = MAX_LINE,
        eof: float = EOF_TIME,
        term: float = TERM_TIME,
        write: float = WRITE_TIME,
    ) -> None:
        self.skipped = 0
        self._command = command
        self._env = env
        self._cwd = cwd
        self._max_line = max_line
        self._eof = eof
        self._term = term
        self._write = write
        self._json = JSON()
        self._child: Child | None = None
        self._receiver: Receiver
        self._closing = False
        # The ids of requests without an answer yet: they show which request a line that is too long was to answer.
        self._waiting: set[int | str] = set()

    @property
    def child(self) -> Child | None:
        """The process; None before `start`."""
        return self._child

    @property
    def why(self) -> str:
        """The command, its process id, how it ended, and the last lines of its stderr."""
        return self._child.why if self._child is not None else str(self._command[0])

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Starts the child, and a task that reads its messages.

        Raises:
            ConnectionLost: the program does not exist, or cannot be started.
        """
        self._receiver = receiver
        try:
            child = await Child.start(self._command, env=self._env, cwd=self._cwd, max_line=self._max_line)
        except SpawnFailed as error:
            raise ConnectionLost(str(error), sent=False) from error
        child.write_time = self._write
        self._child = child
        child.hand_lines_to(self._on_line)
        tasks.start_soon(self._read, child)

    async def send(self, out: Outgoing) -> None:
        """Writes one line; waits while the child does not read.

        Raises:
            ConnectionLost: the message was not written.
        """
        if self._child is None:
            raise ConnectionLost(f"{self.why} was not started", sent=False)
        # Noted before the write: the child may answer before the write returns.
        if out.method is not None and out.request_id is not None:
            self._waiting.add(out.request_id)
        sent = False
        try:
            await self._child.write(out.payload)
            sent = True
        except Gone as error:
            raise ConnectionLost(str(error), sent=False) from error
        finally:
            if not sent and out.request_id is not None:
                self._waiting.discard(out.request_id)

    def begin(self, out: Outgoing) -> bool:
        """As `send`, if the line can be written at once; else returns False, and `send` is to be awaited."""
        if self._child is None:
            return False
        if out.request_id is not None:
            self._waiting.add(out.request_id)
        sent = False
        try:
            sent = self._child.write_now(out.payload)
        except Gone as error:
            raise ConnectionLost(str(error), sent=False) from error
        finally:
            if not sent and out.request_id is not None:
                self._waiting.discard(out.request_id)
        return sent

    async def cancel(self, request_id: int | str) -> None:
        """Forgets the request.  The client sends notifications/cancelled to the child."""
        self._waiting.discard(request_id)

    def settle(self, revision: Revision) -> None:
        """Does nothing: pipes work the same in every revision."""

    async def listen(self) -> None:
        """Does nothing: the child's messages arrive without a request for them."""

    async def aclose(self) -> None:
        """Ends the child's input, then sends signals; takes `eof` + `term` and two seconds at most."""
        # First, so that the end of the child that follows is no loss of the connection.
        self._closing = True
        if self._child is not None:
            await self._child.stop(eof=self._eof, term=self._term)

    # --- lines that arrive-----------------------------------------------------------------------------------

    async def _read(self, child: Child) -> None:
        try:
            async for line in child.lines():
                self._on_line(line)
            self._receiver.closed(None if self._closing else ConnectionLost(f"the server has gone: {child.why}"))
        finally:
            # Also for a child that only closed its stdout, and if this task is cancelled before `aclose` was called.
            await child.stop(eof=self._eof, term=self._term)

    def _on_line(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            self._too_long(line)
            return
        # Arrays are taken in every revision: on pipes a refused line could not be told from a log line.
        deliver(self._json, line, self._pass_on, lambda unread: self._no_message(unread, line))

    def _pass_on(self, message: Message) -> None:
        if isinstance(message, (Response, ErrorResponse)) and message.id is not None:
            # No later line can be the answer to this request.
            self._waiting.discard(self._meant(message.id))
        self._receiver.message(message, None)

    def _meant(self, said: int | str) -> int | str:
        """The id of the request that a server means: some servers return 1 as "1"."""
        if said not in self._waiting and type(said) is str:
            number = lenient.number(said)
            return said if number is None else number
        return said

    def _no_message(self, error: Unreadable, line: bytes) -> None:
        """A line that names a waiting request was its answer.  A line without any sign of an answer is a log line."""
        # The line is JSON of a sort, and names a request of ours: the server has tried to answer.
        if error.request_id is not None and self._meant(error.request_id) in self._waiting:
            self._lose(self._meant(error.request_id), error)
        elif error.answers and error.request_id is None:
            self._receiver.lost(None, error)
        else:
            self._not_read(line)

    def _not_read(self, line: bytes) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning(
                "%s writes lines to its stdout that are no messages; they are skipped.  The first is: %s",
                self._name,
                ascii(line[:SHOWN_BYTES]),
            )

    def _too_long(self, line: LineTooLong) -> None:
        """Ends the request that the line was to answer.  The line has its id near one of its ends."""
        logger.warning("%s: %s", self._name, line.message)
        may_answer, request_id = beginning(line.head)
        if request_id is not None:
            self._lose_too_long(request_id, line)
        elif may_answer and line.tail is None:
            line.when_ended = partial(self._too_long_to_its_end, line)
        elif may_answer:
            self._too_long_to_its_end(line)

    def _too_long_to_its_end(self, line: LineTooLong) -> None:
        request_id = id_at_the_end(line.tail or b"")
        # Neither end has an id.  If only one request waits, the line was its answer.
        if request_id is None and len(self._waiting) == 1:
            (request_id,) = self._waiting
        if request_id is None:
            self._receiver.lost(None, InvalidAnswer(f"the answer is too long: {line.message}", line.head))
        else:
            self._lose_too_long(request_id, line)

    def _lose_too_long(self, request_id: int | str, line: LineTooLong) -> None:
        if request_id in self._waiting:
            self._lose(request_id, InvalidAnswer(f"the answer is too long: {line.message}", line.head))

    def _lose(self, request_id: int | str, error: MCPError) -> None:
        self._waiting.discard(request_id)
        self._receiver.lost(request_id, error)

    @property
    def _name(self) -> str:
        assert self._child is not None
        return f"{self._child.name} (pid {self._child.pid})"
