# SPDX-License-Identifier: MIT
"""Log lines for programs that configured no logging, and log lines as JSON.

Rule: a program that configured logging decides.  A handler that is added here says nothing beside another handler, and
is taken away when the server has ended.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from ..protocol.shown import TRACE_INDENT, EscapedTrace, escaping
from ..runtime.settings import Settings
from .access import logger as access_logger

logger = escaping(logging.getLogger(__name__))


class JSONLines(logging.Formatter):
    """One JSON object for each record: `time`, `level`, `logger`, `message`, and `exception` where there is one.

    A line of the access log has its fields beside these, and a line about a backend of a bridge its name, `backend`.
    `more` are members that every line has.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self._more = more

    def format(self, record: logging.LogRecord) -> str:
        """The line, in ASCII and without a line end in it."""
        fields = getattr(record, "access", None)
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._more,
            "message": _message(record) if fields is None else _request(fields),
            **(fields or {}),
            **({"backend": record.backend} if hasattr(record, "backend") else {}),
        }
        exception = record.exc_text or (record.exc_info and self.formatException(record.exc_info))
        if isinstance(exception, EscapedTrace):
            # The indentation tells its lines from entries of a log, which a string of JSON does in its own way.
            exception = exception[len(TRACE_INDENT) :].replace(f"\n{TRACE_INDENT}", "\n")
        if exception:
            line["exception"] = exception
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, separators=(",", ":"))


def _time(seconds: float) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit would make `logging` write a traceback, which is no JSON
        return f"{record.msg} {record.args}"


def _request(fields: dict[str, Any]) -> str:
    return f"{fields['method']} {fields['path']} {fields['status'] or '-'}"


def log_as_json(level: str, **more: Any) -> None:
    """Have everything that a program says on stderr be one JSON object a line, from this level on.

    Warnings of Python and uncaught exceptions are records too.  A program that configured logging goes on as it is.
    """
    root = logging.root
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JSONLines(**more))
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)


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
