# SPDX-License-Identifier: MIT
"""The output of the commands that ask a server: results on stdout, all other lines on stderr.

All text of a server goes through `line`, or `content` where it is content, or `json_text`.  They escape characters that
would steer a terminal, turn the order of letters around, or begin a line that looks like one of this program.

Rule: a line of progress is written to a terminal alone, and is cleared before any other line.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from ...protocol.shown import escaped
from ..colours import shows_colours

MAX_WAITING_LINES = 1_000  # lines that wait while a person types an answer; the oldest are dropped
_CLEAR = "\r\x1b[K"  # go to the beginning of the line, and clear it
_ROOM = 80  # columns, where the terminal does not say
# Characters of JSON text other than printable ASCII and the line ends of its layout.
_NOT_ASCII = re.compile(r"[^\n -~]")


def line(text: Any) -> str:
    """A name, a description, a message: always one line, for programs too."""
    return escaped(str(text))


def shortened(text: Any, limit: int) -> str:
    """As `line`, cut to `limit` characters, with the number of those that are left out."""
    said = str(text)
    more = len(said) - limit
    return line(said) if more <= 0 else f"{line(said[:limit])}... ({more} characters more)"


def content(text: str) -> str:
    """Content: as it is for a program; for a person at a terminal its line ends and tabs stay, and no other control."""
    return escaped(text, keep="\n\t") if sys.stdout.isatty() else text


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that is readable for a person.  A character that `escaped` would escape becomes an escape of JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _NOT_ASCII.sub(lambda found: found[0] if escaped(found[0]) == found[0] else json.dumps(found[0])[1:-1], text)


def write(stream: TextIO, text: str) -> None:
    """Write text; a letter that the stream cannot show becomes an escape, where Python would raise."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def out(text: str) -> None:
    """Write one line, or several, to stdout."""
    write(sys.stdout, text + "\n")


def dump(value: Any) -> None:
    """Write a value to stdout as JSON."""
    out(json_text(value, 2))


def first_line(text: Any) -> str:
    """The first line of a description; "" where there is none."""
    lines = text.strip().splitlines() if isinstance(text, str) else []
    # Blanks in a row become one: enough of them would push the rest to the next line of a terminal.
    return " ".join(lines[0].split()) if lines else ""


def rows(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names and their descriptions, as lines of two columns."""
    width = min(max((len(name) for name, _ in pairs), default=0), 40)
    return [f"{name:<{width}}  {about}".rstrip() for name, about in pairs]


def objects(items: Any) -> list[dict[str, Any]]:
    """The objects of a list that a server sent; other values in it are left out."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def bytes_in_words(count: int) -> str:
    """A number of bytes in words."""
    if count < 10_000:
        return f"{count} byte{'' if count == 1 else 's'}"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def on_terminal(*streams: TextIO | None) -> bool:
    """Whether all these streams are terminals."""
    return all(stream is not None and stream.isatty() for stream in streams)


class Screen:
    """Stderr: lines, and on a terminal one line of progress that is updated in place.

    Args:
        progress: show progress on a terminal.
        verbose: show progress as lines of its own where stderr is no terminal.
    """

    def __init__(self, *, progress: bool = True, verbose: bool = False) -> None:
        # A terminal that shows colours knows the sequence that clears a line as well.
        self._updates = shows_colours(sys.stderr)
        self._progress = progress and (self._updates or verbose)
        self._shown = False
        self._asking = False
        self._held: deque[str] = deque(maxlen=MAX_WAITING_LINES)

    @property
    def shows_progress(self) -> bool:
        """Whether progress is worth to be asked for."""
        return self._progress

    def write(self, text: str) -> None:
        """Write text that is a question, and not a whole line."""
        self._clear()
        write(sys.stderr, text)
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """Write lines that this program has made; text of a server in them is escaped already."""
        self.write(text + "\n")

    def tell(self, text: Any) -> None:
        """Write one line of a server, such as a log message.  It waits while a person types."""
        if self._asking:
            self._held.append(line(text))
        else:
            self.say(line(text))

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Show how far a call has come."""
        if not self._progress or self._asking:
            return
        share = f"{done:g}/{total:g}" if total else f"{done:g}"
        text = f"{share} {line(message or '')}".rstrip()
        if not self._updates:
            self.say(text)
            return
        # A line that is wrapped could not be cleared.
        columns = shutil.get_terminal_size((_ROOM, 24)).columns or _ROOM
        write(sys.stderr, f"{_CLEAR}{text[: columns - 1]}")
        sys.stderr.flush()
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            write(sys.stderr, _CLEAR)
            self._shown = False

    def close(self) -> None:
        """Clear the line of progress."""
        self._clear()
        sys.stderr.flush()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Holds back the lines of a server in the block: they would stand in the middle of a line that is typed."""
        self._asking = True
        try:
            yield
        finally:
            self._asking = False
            while self._held:
                self.say(self._held.popleft())
