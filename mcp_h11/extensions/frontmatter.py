# SPDX-License-Identifier: MIT
"""The front matter of a SKILL.md as JSON values: a reader of the part of YAML that all readers agree on.

It reads block mappings and sequences, `[...]` and `{...}` on one line, plain scalars (also on several lines), quoted
scalars on one line, `|` and `>` with `-` and `+`, and comments.  Plain scalars are null, booleans, decimal numbers and
texts.  It refuses anchors, aliases, tags, directives, several documents, `? ` keys, tabs in an indentation, two equal
keys, and each plain scalar that readers of YAML 1.1 and 1.2 take for different values (`yes`, `2026-01-01`, `010`,
`1e3`, `12:30`): hosts compare a skill's front matter with the server's, member by member (SEP-2640, Frontmatter
Verification), so both have to read the same.

YAML 1.2.2, chapters 7 and 8; YAML 1.1 for the scalars that are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MAX_FRONT_MATTER = 64 * 1024  # characters
MAX_NESTING = 16  # mappings and sequences within one another

# No plain text begins with one of these.
_INDICATORS = frozenset("&*!|>%@`#,[]{}\"'")
_WHY = {
    "&": "an anchor",
    "*": "an alias",
    "!": "a tag",
    "%": "a directive",
    "@": "a reserved sign",
    "`": "a reserved sign",
}
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_WORDS_OF_1_1 = frozenset(("y", "yes", "n", "no", "on", "off"))
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
# Numbers and dates of some readers that are texts for others.
_UNSURE = re.compile(
    r"[-+]?(?:0[0-9_]+|0[xob][0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|[0-9]+_[0-9_.]*"
    r"|[0-9][0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*|0[0-9]*\.[0-9]*|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?|=|<<"
)
_MOST = 2**53 - 1  # an integer that every reader of JSON keeps
# Controls, and the line ends that YAML 1.1 has and YAML 1.2 has not.
_FOREIGN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_BLOCK = re.compile(r"([|>])([-+]?)(?:[ \t]+#.*)?")
_ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "e": "\x1b",
    "a": "\a", "v": "\v",
}  # fmt: skip
_CODES = {"x": 2, "u": 4, "U": 8}


class FrontMatterError(ValueError):
    """The text has no front matter, or one that this reader refuses; the text names the line, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")


def front_matter(text: str) -> dict[str, Any]:
    """The front matter at the beginning of a text, as a JSON object.  Raises FrontMatterError."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0] != "---":
        raise FrontMatterError(1, "front matter begins with a line of three dashes")
    for end in range(1, len(lines)):
        if lines[end].rstrip(" \t") == "---":
            break
    else:
        raise FrontMatterError(1, "the front matter has no end: a second line of three dashes")
    return _Reader(lines[1:end]).document()


class _Reader:
    """Lines of a block; `_at` is the line that is read next."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0
        size = 0
        for number, line in enumerate(lines):
            size += len(line) + 1
            if size > MAX_FRONT_MATTER:
                raise self._error(f"front matter has at most {MAX_FRONT_MATTER} characters", number)
            if _FOREIGN.search(line) or "\r" in line:
                raise self._error("a control character, or a line end that not all readers know", number)
            if line.startswith(("---", "...")) and line[3:4] in ("", " ", "\t"):
                raise self._error("a second document", number)

    def _error(self, message: str, at: int | None = None) -> FrontMatterError:
        # The line of dashes is the first of the file.
        return FrontMatterError((self._at if at is None else at) + 2, message)

    def document(self) -> dict[str, Any]:
        """The whole block, which has to be a mapping."""
        value = self._block(0) if self._next() else None
        if self._next():
            raise self._error("a line with less indentation than the one before it, or text behind a value")
        if not isinstance(value, dict):
            raise self._error("front matter is a mapping: `name: value` on each line", 0)
        return value

    def _next(self) -> bool:
        """Go to the next line that is neither blank nor a comment; False at the end."""
        while self._at < len(self._lines):
            stripped = self._lines[self._at].lstrip(" ")
            if stripped.startswith("\t") and stripped.strip(" \t") and not stripped.strip(" \t").startswith("#"):
                raise self._error("a tab in the indentation")
            if stripped.strip(" \t") and not stripped.lstrip(" \t").startswith("#"):
                return True
            self._at += 1
        return False

    def _indent(self) -> int:
        line = self._lines[self._at]
        return len(line) - len(line.lstrip(" "))

    def _block(self, depth: int) -> Any:
        """The mapping or sequence that begins at this line."""
        if depth >= MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} mappings and sequences within one another")
        indent = self._indent()
        if _is_item(self._lines[self._at][indent:]):
            return self._sequence(indent, depth)
        return self._mapping(indent, depth)

    def _sequence(self, indent: int, depth: int) -> list[Any]:
        items: list[Any] = []
        while self._next() and self._indent() == indent and _is_item(self._lines[self._at][indent:]):
            line = self._lines[self._at]
            rest = line[indent + 1 :]
            content = rest.lstrip(" ")
            if content.startswith("\t"):
                raise self._error("a tab in the indentation")
            if content and not content.startswith("#") and (_is_item(content) or _key_of(content) is not None):
                # A block within the item: its first line stands behind the dash.
                self._lines[self._at] = " " * (len(line) - len(content)) + content
                items.append(self._block(depth + 1))
            else:
                items.append(self._value(content, indent, depth, in_sequence=True))
        self._check_indent(indent)
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next() and self._indent() == indent:
            content = self._lines[self._at][indent:]
            if _is_item(content):
                break
            key = _key_of(content)
            if key is None:
                raise self._error(f"this is no `name: value`: {content[:60]!r}")
            name, rest = self._name(key[0]), key[1]
            if name in found:
                raise self._error(f"{name!r} stands here a second time")
            found[name] = self._value(rest.lstrip(" \t"), indent, depth, in_sequence=False)
        self._check_indent(indent)
        return found

    def _check_indent(self, indent: int) -> None:
        if self._next() and self._indent() > indent:
            raise self._error("a line with more indentation than its neighbours")

    def _name(self, written: str) -> str:
        if written[:1] in ('"', "'"):
            return self._quoted(written)[0]
        if isinstance(value := self._plain(written), str):
            return value
        raise self._error(f"a name is a text: put {written!r} in quotes")

    def _value(self, content: str, indent: int, depth: int, *, in_sequence: bool) -> Any:
        """The value that begins with the text `content`, at this line; the next line is the one behind it."""
        if not content or content.startswith("#"):
            self._at += 1
            return self._nested(indent, depth, in_sequence)
        first = content[0]
        if first in "|>":
            return self._block_text(content, indent)
        if first in "\"'":
            value: Any
            value, rest = self._quoted(content)
            self._check_rest(rest)
        elif first in "[{":
            value, rest = self._flow(content, depth + 1)
            self._check_rest(rest)
        else:
            return self._plain(self._unfolded(content, indent))
        self._at += 1
        return value

    def _nested(self, indent: int, depth: int, in_sequence: bool) -> Any:
        if not self._next():
            return None
        inner = self._indent()
        # "- " of a sequence may stand below the first letter of its name.
        if inner == indent and not in_sequence and _is_item(self._lines[self._at][inner:]):
            return self._sequence(indent, depth + 1)
        if inner <= indent:
            return None
        content = self._lines[self._at][inner:]
        if _is_item(content) or _key_of(content) is not None:
            return self._block(depth + 1)
        return self._value(content, indent, depth, in_sequence=in_sequence)

    def _check_rest(self, rest: str) -> None:
        if rest and (rest[0] not in " \t" or not rest.lstrip(" \t").startswith("#")):
            raise self._error(f"text behind a value: {rest.strip()[:60]!r}")

    # --- scalars -----------------------------------------------------------------------------------------------

    def _unfolded(self, content: str, indent: int) -> str:
        """A plain scalar of one or more lines as one text; goes behind it."""
        text, ended = _without_comment(content)
        if text.endswith(":") or text in ("-", "?"):
            raise self._error(f"{text[-1]!r} is not read here; put the text in quotes")
        self._at += 1
        breaks = 0
        while not ended and self._at < len(self._lines):
            line = self._lines[self._at]
            stripped = line.strip(" \t")
            if not stripped:
                breaks += 1
                self._at += 1
                continue
            if self._indent() <= indent or stripped.startswith("#"):
                break
            if _key_of(stripped) is not None:
                raise self._error("`: ` in a text of several lines: put the text in quotes, or write it behind `>-`")
            more, ended = _without_comment(stripped)
            text += ("\n" * breaks or " ") + more
            breaks = 0
            self._at += 1
        self._at -= breaks
        return text

    def _plain(self, text: str) -> Any:
        line = self._at - 1 if self._at else 0
        if text[:1] in _INDICATORS:
            raise self._error(f"{_WHY.get(text[0], 'this sign')} is not read here; put the text in quotes", line)
        if text[:2] in ("- ", "? ", ": ") or text in ("-", "?", ":"):
            raise self._error(f"{text[:2]!r} is not read here; put the text in quotes", line)
        if ": " in text or text.endswith(":") or "\t" in text:  # the end is that of a value in brackets
            raise self._error("`: ` or a tab within a text: put the text in quotes", line)
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INTEGER.fullmatch(text):
            if len(text) > 17 or abs(int(text)) > _MOST:
                raise self._error("a number that JSON does not keep: put it in quotes", line)
            return int(text)
        if _DECIMAL.fullmatch(text) and len(text) <= 40:
            return float(text)
        if text.lower() in _WORDS_OF_1_1 or _UNSURE.fullmatch(text):
            raise self._error(f"{text[:60]!r} is a text for some readers and not for others: put it in quotes", line)
        return text

    def _quoted(self, content: str) -> tuple[str, str]:
        """A quoted scalar at the beginning, and the text behind it."""
        return self._single(content) if content[0] == "'" else self._double(content)

    def _single(self, content: str) -> tuple[str, str]:
        start, parts = 1, []
        while (end := content.find("'", start)) >= 0:
            parts.append(content[start:end])
            if content[end + 1 : end + 2] != "'":
                return "'".join(parts), content[end + 1 :]
            start = end + 2
        raise self._error("a quote has no end on its line")

    def _double(self, content: str) -> tuple[str, str]:
        found: list[str] = []
        at = 1
        while at < len(content):
            character = content[at]
            if character == '"':
                return "".join(found), content[at + 1 :]
            if character == "\\":
                character, at = self._escape(content, at + 1)
            else:
                at += 1
            found.append(character)
        raise self._error("a quote has no end on its line")

    def _escape(self, content: str, at: int) -> tuple[str, int]:
        sign = content[at : at + 1]
        if sign in _CODES:
            digits = content[at + 1 : at + 1 + _CODES[sign]]
            if len(digits) == _CODES[sign] and all(digit in "0123456789abcdefABCDEF" for digit in digits):
                code = int(digits, 16)
                if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                    return chr(code), at + 1 + len(digits)
        elif sign in _ESCAPES:
            return _ESCAPES[sign], at + 1
        raise self._error(f"no escape that is read here: \\{sign}")

    def _block_text(self, content: str, indent: int) -> str:
        """The text behind `|` or `>` (YAML 1.2.2, 8.1)."""
        header = _BLOCK.fullmatch(content)
        if header is None:
            raise self._error(f"behind `{content[0]}` may stand `-` or `+`, and nothing else")
        folded, chomp = header[1] == ">", header[2]
        self._at += 1
        lines = list(self._block_lines(indent))
        blank = len(lines)
        while blank and not lines[blank - 1]:
            blank -= 1
        text = _folded(lines[:blank]) if folded else "\n".join(lines[:blank])
        if chomp == "-":
            return text
        if chomp == "+" and self._at == len(self._lines):
            raise self._error("readers differ in the line ends before the last dashes: write `|` or `|-`")
        ends = len(lines) - blank if chomp == "+" else 0
        return text + "\n" * (ends + (1 if blank else 0))

    def _block_lines(self, outer: int) -> Iterator[str]:
        inner: int | None = None
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not line.strip(" "):
                if inner is None and len(line) > outer + 1 and self._longer_than_text(len(line)):
                    raise self._error("a blank line with more blanks than the text has indentation")
                yield line[inner:] if inner is not None else ""
                self._at += 1
                continue
            indent = self._indent()
            if inner is None:
                if indent <= outer:
                    return
                inner = indent
            if indent < inner:
                if indent > outer and not line.lstrip(" ").startswith("#"):
                    raise self._error("a line of a text with less indentation than its first line")
                return
            yield line[inner:]
            self._at += 1

    def _longer_than_text(self, blanks: int) -> bool:
        for line in self._lines[self._at :]:
            if line.strip(" "):
                return blanks > len(line) - len(line.lstrip(" "))
        return False

    # --- [...] and {...} ---------------------------------------------------------------------------------------

    def _flow(self, content: str, depth: int) -> tuple[Any, str]:
        """A flow collection at the beginning, and the text behind it."""
        if depth >= MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} mappings and sequences within one another")
        end = "]" if content[0] == "[" else "}"
        items: list[Any] = []
        members: dict[str, Any] = {}
        rest = content[1:].lstrip(" \t")
        while not rest.startswith(end):
            if end == "]":
                value, rest = self._flow_value(rest, depth, ",]")
                items.append(value)
            else:
                name, rest = self._flow_name(rest)
                if name in members:
                    raise self._error(f"{name!r} stands here a second time")
                members[name], rest = self._flow_value(rest, depth, ",}")
            rest = rest.lstrip(" \t")
            if rest.startswith(","):
                rest = rest[1:].lstrip(" \t")
            elif not rest.startswith(end):
                raise self._error(f"{content[0]} has no {end} on its line")
        return (items if end == "]" else members), rest[1:]

    def _flow_name(self, rest: str) -> tuple[str, str]:
        if rest[:1] in ('"', "'"):
            name, rest = self._quoted(rest)
            rest = rest.lstrip(" \t")
        else:
            cut = rest.find(":")
            if cut < 0 or any(sign in rest[:cut] for sign in ",[]{}"):
                raise self._error("within { } stand `name: value` and commas")
            name, rest = self._name(rest[:cut].rstrip(" \t")), rest[cut:]
        if not rest.startswith(":") or rest[1:2] not in (" ", "\t"):
            raise self._error("within { } a name is followed by a colon and a blank")
        return name, rest[1:].lstrip(" \t")

    def _flow_value(self, rest: str, depth: int, ends: str) -> tuple[Any, str]:
        if rest[:1] in ('"', "'"):
            return self._quoted(rest)
        if rest[:1] in ("[", "{"):
            return self._flow(rest, depth + 1)
        cut = next((at for at, sign in enumerate(rest) if sign in ",[]{}"), len(rest))
        text = rest[:cut].rstrip(" \t")
        if " #" in text or text.startswith("#"):
            raise self._error("a comment within brackets")
        if not text and rest[cut : cut + 1] == "," or rest[cut : cut + 1] not in tuple(ends):
            raise self._error("a value is missing between commas, or a bracket does not end")
        return self._plain(text), rest[cut:]


def _is_item(content: str) -> bool:
    return content == "-" or content.startswith(("- ", "-\t"))


def _key_of(content: str) -> tuple[str, str] | None:
    """The name before `: ` and the text behind it; None where there is none."""
    if content[:1] in ('"', "'"):
        end = _end_of_quote(content)
        rest = content[end:].lstrip(" \t")
        return (content[:end], rest[1:]) if end and rest.startswith(":") and rest[1:2] in ("", " ", "\t") else None
    if content[:1] in _INDICATORS:
        return None
    for at, sign in enumerate(content):
        if sign == ":" and content[at + 1 : at + 2] in ("", " ", "\t"):
            return content[:at].rstrip(" \t"), content[at + 1 :]
        if sign == "#" and at and content[at - 1] in " \t":
            return None
    return None


def _end_of_quote(content: str) -> int:
    """The place behind the quoted scalar at the beginning; 0 where it has no end."""
    quote, at = content[0], 1
    while at < len(content):
        if content[at] == "\\" and quote == '"':
            at += 2
        elif content[at] != quote:
            at += 1
        elif quote == "'" and content[at + 1 : at + 2] == "'":
            at += 2
        else:
            return at + 1
    return 0


def _without_comment(content: str) -> tuple[str, bool]:
    """A line of a plain scalar without its comment, and whether it had one, which ends the scalar."""
    for at, sign in enumerate(content):
        if sign == "#" and at and content[at - 1] in " \t":
            return content[:at].rstrip(" \t"), True
    return content.rstrip(" \t"), False


def _folded(lines: list[str]) -> str:
    """Lines of `>`: one line end between two lines of text is a blank (YAML 1.2.2, 8.1.3)."""
    parts: list[str] = []
    before: str | None = None  # the last line that was not blank
    breaks = 0
    for line in lines:
        if not line:
            breaks += 1
            continue
        if before is not None:
            plain = before[0] not in " \t" and line[0] not in " \t"
            parts.append(("\n" * breaks or " ") if plain else "\n" * (breaks + 1))
        else:
            parts.append("\n" * breaks)
        parts.append(line)
        before, breaks = line, 0
    return "".join(parts)
