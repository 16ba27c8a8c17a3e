# SPDX-License-Identifier: MIT
"""The way to a server that is a child process: one JSON message a line (basic/transports/stdio, all revisions).

What is no message on the child's stdout (banners, logs of a runtime) is skipped, counted, and logged once.  An answer
that cannot be read ends its request with `InvalidAnswer`; where it names no request, that is the receiver's to find.

Rule: when the child ends, or only its stdout, the receiver hears of it at once, with the exit code and the last lines
of its stderr; and whatever happens to the client, the child is stopped.
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

SHOWN_BYTES = 200  # of a line that is no message


class StdioTransport:
    """Messages over the pipes of a child.

    Args:
        command: the program and its arguments; no shell reads them.
        env: what the child gets beside the harmless part of our environment; "inherit" for all of it.
        max_line: bytes of one message.
        eof, term, write: seconds, as `process.Child` has them.

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
        # Requests that wait for their answer, as far as we know: to say whose answer a line was that is too long.
        self._waiting: set[int | str] = set()

    @property
    def child(self) -> Child | None:
        """The process; None before it was started."""
        return self._child

    @property
    def why(self) -> str:
        """The command, its process id, how it ended and what its stderr said last."""
        return self._child.why if self._child is not None else str(self._command[0])

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Starts the child, and a task that reads what it says.

        Raises:
            ConnectionLost: there is no such program, or no room for it.
        """
        self._receiver = receiver
        try:
            child = await Child.start(self._command, env=self._env, cwd=self._cwd, max_line=self._max_line)
        except SpawnFailed as error:
            raise ConnectionLost(str(error), sent=False) from error
        child.write_time = self._write
        self._child = child
        tasks.start_soon(self._read, child)

    async def send(self, out: Outgoing) -> None:
        """One line; waits while the child does not read.

        Raises:
            ConnectionLost: it did not leave.
        """
        if self._child is None:
            raise ConnectionLost(f"{self.why} was not started", sent=False)
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

    async def cancel(self, request_id: int | str) -> None:
        """Nobody waits for this any more; the child was told by a notification."""
        self._waiting.discard(request_id)

    def settle(self, revision: Revision) -> None:
        """Pipes are the same in every revision."""

    async def listen(self) -> None:
        """What the child says comes anyway."""

    async def aclose(self) -> None:
        """The end of the child's input, then signals; at most `eof` + `term` and two seconds."""
        self._closing = True
        if self._child is not None:
            await self._child.stop(eof=self._eof, term=self._term)

    # --- what comes in --------------------------------------------------------------------------------------

    async def _read(self, child: Child) -> None:
        try:
            async for line in child.lines():
                self._take(line)
            self._receiver.closed(None if self._closing else ConnectionLost(f"the server has gone: {child.why}"))
        finally:
            # Also where it only closed its stdout, and where this task is cancelled before anybody said `aclose`.
            await child.stop(eof=self._eof, term=self._term)

    def _take(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            self._too_long(line)
            return
        deliver(self._json, line, self._pass_on, lambda unread: self._no_message(unread, line))

    def _pass_on(self, message: Message) -> None:
        if isinstance(message, (Response, ErrorResponse)) and message.id is not None:
            self._waiting.discard(self._meant(message.id))
        self._receiver.message(message, None)

    def _meant(self, said: int | str) -> int | str:
        """The request that an id means: some servers return 1 as "1"."""
        if said not in self._waiting and type(said) is str:
            number = lenient.number(said)
            return said if number is None else number
        return said

    def _no_message(self, error: Unreadable, line: bytes) -> None:
        """Of a request that waits it was the answer; a line that shows nothing of an answer is one of a log."""
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
                "%s writes to its stdout what is no message; such lines are skipped: %s",
                self._name,
                ascii(line[:SHOWN_BYTES]),
            )

    def _too_long(self, line: LineTooLong) -> None:
        """Whose answer it was stands at one of its ends; that request ends now, and all others go on."""
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
        # Neither end says: where one request alone waits, it is that one.
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
