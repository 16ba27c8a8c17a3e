# SPDX-License-Identifier: MIT
"""Text of a peer, as it may be shown: in a log, on a terminal, in a message for a person.

A line feed in such a text begins a line that looks like another entry of the log, an escape sequence moves the cursor
of a terminal, and a bidirectional control turns the order of the characters around.  `escaped` writes them as Python
writes them in a string (``\\n``, ``\\x1b``, ``\\u202e``), and leaves all other characters alone.

Rule: each logger of this package comes from `escaping`, so that no line of the log has to remember the escape.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

MAX_LOGGED_TEXT = 16 * 1024  # characters of one argument of a log line, and of one line of a traceback
MAX_LOGGED_TRACE = 64 * 1024  # characters of one traceback
MAX_CHAIN = 32  # exceptions that were raised from each other
TRACE_INDENT = "  "  # a line of a traceback never begins as an entry of a log does

# C0, DEL, C1, marks and embeddings and isolates of bidirectional text, separators of lines and paragraphs, characters
# that are not seen, halves of surrogate pairs (which cannot be encoded), and tags.  Joiners (U+200C, U+200D) stay:
# scripts and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def escaped(text: str, keep: str = "") -> str:
    """The text with its control characters, line feeds and bidirectional controls as escapes.

    A backslash of the text itself stays one, so that an address or a path can be read; the result is for people, and
    is not made to be read back.

    Args:
        keep: characters that stay as they are, such as ``"\\n"`` where the text may have several lines.
    """
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


class HasFilters(Protocol):
    """A `logging.Logger`; this module itself writes no log."""

    def addFilter(self, filter: Any) -> None:
        """Asks `filter` about each record."""


_Logger = TypeVar("_Logger", bound=HasFilters)


def escaping(logger: _Logger) -> _Logger:
    """The same logger; from now on the arguments and the tracebacks of its lines are escaped.

    The words of a line itself are the package's own, and stay as they are.  An argument that is no text (a number, an
    object) is escaped as it is formatted; a record of plain text keeps its arguments as they are.
    """
    logger.addFilter(_escape)
    return logger


def _escape(record: Any) -> bool:
    arguments = record.args
    if isinstance(arguments, tuple):
        record.args = tuple(map(_safe, arguments))
    elif isinstance(arguments, Mapping):
        record.args = {name: _safe(value) for name, value in arguments.items()}
    if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
        record.exc_text = _trace_of(record.exc_info[1])
    return True


def _safe(value: Any) -> Any:
    if isinstance(value, _AS_IT_IS):
        return value
    if type(value) is str and len(value) <= MAX_LOGGED_TEXT and value.isprintable():
        return value
    return Escaped(value)


class EscapedTrace(str):
    """Lines of a log that are escaped already; see `trace_text`."""

    __slots__ = ()


# Types whose printed form holds no text of a peer, and the text that is escaped already.
_AS_IT_IS = (int, float, type(None), EscapedTrace)


def trace_text(trace: str) -> EscapedTrace:
    """A traceback for a log: its lines indented, the words of the exception escaped, all of it cut to a length."""
    lines = [f"{TRACE_INDENT}{cut(escaped(line), MAX_LOGGED_TEXT)}" for line in trace.rstrip("\n").split("\n")]
    return EscapedTrace(cut("\n".join(lines), MAX_LOGGED_TRACE))


def _trace_of(error: BaseException) -> EscapedTrace:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    said: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if said is None:
            break
        # A line feed of the words would begin a line of its own, which only the indentation tells from others.
        try:
            words = str(said)
        except Exception:  # as `traceback` does it
            words = ""
        if words and not words.isprintable():
            text = text.replace(words, escaped(words))
        said = said.__cause__ or said.__context__
    return trace_text(text)


class Escaped:
    """An argument of a log line, escaped when the line is made: by `%s`, by `%r`, or by `%.200s`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return cut(escaped(str(self.value)), MAX_LOGGED_TEXT)

    def __repr__(self) -> str:
        return cut(escaped(repr(self.value)), MAX_LOGGED_TEXT)


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and its end where it is too long: a traceback says why at its end.

    The two have at most `limit` characters together; " ... " stands between them.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ... {text[len(text) - half :]}"
