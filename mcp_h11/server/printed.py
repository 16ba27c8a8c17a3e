# SPDX-License-Identifier: MIT
"""stderr as lines of JSON: the records of the log, and the text that other code prints there.

Rules:
- One record is one write of one line.  Where several processes write to one stderr, each locks it for its line: a pipe
  takes a line of more than 4 KiB in pieces, and those of two processes would mix.
- An error of stderr itself is not told, since there is no place to tell it.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

MAX_UNENDED = 8 * 1024  # bytes of printed text without a line end; so many are a line
PRINTED = "stderr"  # the logger that a line of printed text names
_END = re.compile(rb"[\r\n]+")  # a progress bar ends its lines with a carriage return


class Lines(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10 has no parameter for it
    """Writes each record as a whole line.  `shared`: other processes write to the same stream."""

    def __init__(self, stream: TextIO, *, shared: bool) -> None:
        super().__init__(stream)
        self._lock_file = _locking(stream) if shared else None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return
        lock = self._lock_file
        with suppress(OSError, ValueError):  # a closed pipe, a closed file
            if lock is None:
                self._write(line)
                return
            lock(True)
            try:
                self._write(line)
            finally:
                lock(False)

    def _write(self, line: str) -> None:
        self.stream.write(line)
        self.stream.flush()


def _locking(stream: TextIO) -> Callable[[bool], None] | None:
    """A function that locks the stream against other processes (True) and frees it; None where there are no locks."""
    try:
        import fcntl

        number = stream.fileno()
        fcntl.lockf(number, fcntl.LOCK_EX)
        fcntl.lockf(number, fcntl.LOCK_UN)
    except (ImportError, OSError, ValueError):  # Windows; a stream or a system without such locks
        return None

    def lock(wanted: bool) -> None:
        fcntl.lockf(number, fcntl.LOCK_EX if wanted else fcntl.LOCK_UN)

    return lock


class Printed(io.RawIOBase):
    """Takes the place of stderr's bytes: each line of them is a record for `handler`, and names the logger `stderr`.

    A thread has its own unended line, so that the words of two threads do not mix.
    """

    def __init__(self, handler: logging.Handler, number: int | None) -> None:
        self.handler = handler
        self._number = number
        self._unended: dict[int, bytes] = {}  # by thread

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor of stderr itself, for a child process and for `faulthandler`."""
        if self._number is None:
            raise io.UnsupportedOperation("fileno")
        return self._number

    def write(self, data: Any, /) -> int:
        """Make a record of each line that is whole now."""
        given = bytes(data)
        thread = threading.get_ident()
        *lines, rest = _END.split(self._unended.pop(thread, b"") + given)
        while len(rest) >= MAX_UNENDED:
            lines.append(rest[:MAX_UNENDED])
            rest = rest[MAX_UNENDED:]
        if rest:
            self._unended[thread] = rest
        for line in lines:
            self._tell(line)
        return len(given)

    def flush(self) -> None:
        """Make a record of the unended line of this thread."""
        if not self.closed:
            self._tell(self._unended.pop(threading.get_ident(), b""))

    def end(self) -> None:
        """Make a record of each unended line, at the end of the process."""
        while self._unended:
            self._tell(self._unended.popitem()[1])

    def _tell(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text:
            self.handler.handle(logging.LogRecord(PRINTED, logging.INFO, "", 0, "%s", (text,), None))


def printed_to(handler: logging.Handler, stream: TextIO) -> TextIO:
    """A text stream for `sys.stderr`, whose lines are records for `handler`; `stream` is the one of before."""
    number = None
    with suppress(OSError, ValueError):
        number = stream.fileno()
    raw: Any = Printed(handler, number)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", newline="\n", write_through=True)


def handler_of(stream: Any) -> logging.Handler | None:
    """The handler behind a stream that `printed_to` made; None for another stream."""
    buffer = getattr(stream, "buffer", None)
    return buffer.handler if isinstance(buffer, Printed) else None
