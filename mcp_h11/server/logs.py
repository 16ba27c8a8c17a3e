# SPDX-License-Identifier: MIT
"""Log lines for programs that configured no logging, and log lines as JSON.

Rules:
- A program that configured logging decides.  A handler that is added here says nothing beside another handler, and is
  taken away when the server has ended.
- A line of JSON is for a program that ships logs: it can be read by each parser of JSON (RFC 8259), whatever the record
  holds, and it is short enough for the shippers in use.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from ..protocol.shown import TRACE_INDENT, EscapedTrace, cut, escaping
from ..runtime.settings import Settings
from .access import logger as access_logger

logger = escaping(logging.getLogger(__name__))

# Bytes of one line, its end included: Fluent Bit leaves out a line of 32 KiB and more, and others take longer ones.
MAX_LOG_LINE = 32 * 1024 - 1
_MAX_TEXTS = (8 * 1024, 2 * 1024, 128)  # characters of each text of a line that is too long; the first that fits
_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)
_HALF = re.compile(r"[\ud800-\udfff]")  # a surrogate without its other half, which no byte encoding of Unicode has


class JSONLines(logging.Formatter):
    """One JSON object for each record: `time`, `level`, `logger`, `message`, and `exception` where there is one.

    `level` is debug, info, warning, error or critical.  A line of the access log has its fields beside these, and a
    line about a backend of a bridge its name, `backend`.  `more` are members that every line has.  A line is shorter
    than 32 KiB: a longer one has the beginning and the end of its texts.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        """The line, in ASCII and without a line end in it, whatever the record's texts and arguments are."""
        fields = record.__dict__.get("access") if record.name == access_logger.name else None
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": next((name for least, name in _LEVELS if record.levelno >= least), "debug"),
            "logger": record.name,
            **self._more,
            "message": _message(record) if fields is None else _request(fields),
            **(fields or {}),
        }
        backend = record.__dict__.get("backend")
        if isinstance(backend, str):
            line["backend"] = backend
        exception = record.exc_text or (record.exc_info and self._trace(record.exc_info))
        if isinstance(exception, EscapedTrace):
            # The indentation tells its lines from entries of a log, which a string of JSON does in its own way.
            exception = exception[len(TRACE_INDENT) :].replace(f"\n{TRACE_INDENT}", "\n")
        if exception:
            line["exception"] = exception
        if record.stack_info:
            line["stack"] = record.stack_info
        text = _dumped(line)
        # Most lines are short, and of characters that can be encoded.
        return _readable(line) if len(text) >= MAX_LOG_LINE or "\\ud" in text else text

    def _trace(self, exc_info: Any) -> str:
        try:
            return self.formatException(exc_info)
        except Exception:  # of the exception's own code
            return f"{exc_info[0].__name__}, and no traceback can be made of it"


def _dumped(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"))


def _readable(line: Mapping[str, Any]) -> str:
    """The line with each half of a surrogate pair written as Python writes it, and cut so that it is short enough."""
    whole = {
        name: _encodable(cut(value, MAX_LOG_LINE)) if isinstance(value, str) else value for name, value in line.items()
    }
    text = _dumped(whole)
    for limit in _MAX_TEXTS:
        if len(text) < MAX_LOG_LINE:
            break
        text = _dumped({name: cut(value, limit) if isinstance(value, str) else value for name, value in whole.items()})
    return text


def _encodable(text: str) -> str:
    return _HALF.sub(lambda found: ascii(found[0])[1:-1], text)


def _time(seconds: float) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _message(record: logging.LogRecord) -> str:
    # Arguments that do not fit would make `logging` write a traceback, which is no JSON.  Objects may fail as texts.
    for text in (record.getMessage, lambda: f"{record.msg} {record.args}", lambda: f"{record.msg!r}"):
        try:
            return text()
        except Exception:  # noqa: PERF203
            continue
    return f"a record of {record.pathname}, line {record.lineno}, has no text"


def _request(fields: Mapping[str, Any]) -> str:
    return f"{fields['method']} {fields['path']} {fields['status'] or '-'}"


def log_as_json(
    level: str, *, process: int | None = None, only: Callable[[logging.LogRecord], bool] | None = None
) -> None:
    """Have everything that a program says on stderr be one JSON object a line, from this level on.

    Warnings of Python, uncaught exceptions and the lines that code prints to `sys.stderr` are records too.  (A child
    process, `faulthandler` and code in C write to the descriptor itself, which stays as it is.)  A program that
    configured logging goes on as it is.

    Args:
        level: The name of the level, as logging has it.
        only: A filter: whether a record is shown.
        process: The number of this process, where others of ours write to the same stderr; each line has it.
    """
    root, stream = logging.root, sys.stderr
    if root.handlers or stream is None:  # pythonw has no stderr
        return
    from .printed import Lines, printed_to  # most logs are read by people

    handler = Lines(stream, shared=process is not None)
    handler.setFormatter(JSONLines(**({} if process is None else {"process": process})))
    # Python's own last words go to the second.
    sys.stderr = sys.__stderr__ = printed_to(handler, stream)  # type: ignore[assignment, misc]
    atexit.register(sys.stderr.buffer.end)  # type: ignore[attr-defined]
    if only is not None:
        handler.addFilter(only)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def write_log_line(record: logging.LogRecord, stream: Any) -> None:
    """Write this record as one line of JSON, also where lines that are printed to the stream are records."""
    from .printed import Lines, handler_of

    handler = handler_of(stream)
    if handler is not None:
        stream.flush()  # a printed line that has no end yet came before
    else:
        handler = Lines(stream, shared=False)
        handler.setFormatter(JSONLines())
    handler.handle(record)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
        logger.critical("uncaught %s", kind.__name__, exc_info=(kind, error or kind(), trace))


class _Lonely(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10 has no parameter for it
    """A handler for stderr that says nothing once the program has a handler of its own for these records."""

    def emit(self, record: logging.LogRecord) -> None:
        logger: logging.Logger | None = access_logger
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return
            logger = logger.parent if logger.propagate else None
        super().emit(record)


def show_access_log(settings: Settings, stack: ExitStack) -> None:
    """Write the access log to stderr, until the stack ends, where the settings ask for it and no logger has a handler.

    Without this, `access_log=True` would show nothing in a program that configured no logging.
    """
    if not settings.access_log or access_logger.hasHandlers():
        return
    handler = _Lonely()
    handler.setFormatter(JSONLines() if settings.access_log == "json" else logging.Formatter("%(asctime)s %(message)s"))
    access_logger.addHandler(handler)
    stack.callback(access_logger.removeHandler, handler)
    if access_logger.level == logging.NOTSET:
        access_logger.setLevel(logging.INFO)
        stack.callback(access_logger.setLevel, logging.NOTSET)
