# SPDX-License-Identifier: MIT
"""The text of a configuration file, as different programs write it: encodings, comments, TOML, variables, env files.

It gives plain values, which `config` reads as servers.  It opens no file and reads no environment itself.

Rules:
- An unknown `${...}` is an error that names it: sent as it is, it would be a wrong address or a wrong secret.
- No message quotes a value, since any value may be a secret.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

MAX_CONFIG = 1024 * 1024  # characters

# A string, kept as it is, or a comment.  Each alternative ends somewhere, so that the whole takes linear time.
_COMMENT = re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|//[^\r\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|,(?=\s*[}\]])', re.DOTALL)
_NOT_A_LINE_END = re.compile(r"[^\r\n]")

_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*(.*)")
# Gemini CLI: a variable without braces, if the text is that variable alone or follows "Bearer".
_BARE = re.compile(r"(Bearer )?\$([A-Z_][A-Z0-9_]*)")
_KNOWN = "${NAME}, ${NAME:-default}, ${env:NAME}, ${workspaceFolder}, ${workspaceFolderBasename}, ${userHome}, ${/}"

# VS Code and Cursor, Variables reference
_PLACES = ("workspaceFolder", "workspaceFolderBasename", "userHome", "pathSeparator", "/")


class ConfigError(Exception):
    """The file cannot be used; the message says where and why, in one line, and quotes no value."""


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.  Raises ConfigError."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8") from None


def parsed(text: str, *, toml: bool = False, limit: int = MAX_CONFIG) -> Any:
    """The value of a file: JSON with comments and trailing commas, or TOML.  Raises ConfigError."""
    if len(text) > limit:
        raise ConfigError(f"it is longer than {limit} characters")
    text = text.removeprefix("\ufeff")
    try:
        plain = text if toml else without_trailing_commas(uncommented(text))
        return _toml(plain) if toml else json.loads(plain, object_pairs_hook=_object)
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(f"it is not {'TOML' if toml else 'JSON'}: {exc}") from None


def _toml(text: str) -> Any:
    if sys.version_info < (3, 11):  # pragma: no cover - the oldest Python has no reader of TOML
        raise ConfigError("TOML is read from Python 3.11 on: write it as JSON")
    import tomllib  # few files are TOML

    return tomllib.loads(text)


def uncommented(text: str) -> str:
    """JSONC without comments.  Blanks replace them, so that an error still names the right line and column."""
    return _COMMENT.sub(_without_comment, text)


def without_trailing_commas(text: str) -> str:
    """JSON of JSONC without comments; a blank replaces each comma after a last member."""
    return _TRAILING_COMMA.sub(lambda found: " " if found[0] == "," else found[0], text)


def _without_comment(found: re.Match[str]) -> str:
    return found[0] if found[0][0] == '"' else _NOT_A_LINE_END.sub(" ", found[0])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON leaves open which of two members with one name counts, so programs would read different servers.
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ConfigError(f"{twice[:100]!r} is there twice")
    return members


def env_file(text: str) -> dict[str, str]:
    """The variables of an env file: ``NAME=value`` lines, `#` comments, quotes.  Raises ConfigError with the line."""
    if len(text) > MAX_CONFIG:
        raise ConfigError(f"it is longer than {MAX_CONFIG} characters")
    variables: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = _ENV_LINE.fullmatch(line)
        if found is None:
            raise ConfigError(f"line {number} is not NAME=value")
        variables[found[1]] = _unquoted(found[2])
    return variables


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value if value[:1] == "#" else re.split(r"[ \t]+#", value, maxsplit=1)[0]


class Variables:
    """Fills in the references of texts.

    Args:
        environ: the environment.
        folder: the value of `${workspaceFolder}`; empty for none.
    """

    def __init__(self, environ: Mapping[str, str], folder: str = "") -> None:
        self._environ = environ
        self._folder = folder

    def filled(self, text: str) -> str:
        """The text with its references filled in, once: the value of a variable is not searched for references.

        Raises ConfigError for a variable that is not set, since an empty secret would go unnoticed, and for a reference
        that is not known.
        """
        return _REFERENCE.sub(self._fill, text) if "${" in text else text

    def filled_value(self, text: str) -> str:
        """The same for a header or a variable of a child, where `$NAME` alone, or behind Bearer, is a reference too."""
        bare = _BARE.fullmatch(text)
        return self.filled(text) if bare is None else (bare[1] or "") + self._variable(bare[2], None)

    def _fill(self, found: re.Match[str]) -> str:
        body, end = found.groups()
        name, default_follows, default = body.partition(":-")
        shown = f"${{{name[:60]}}}"
        shown = shown if shown.isprintable() else ascii(shown)
        if not end:
            raise ConfigError(f"{shown} has no end")
        if "${" in body:
            raise ConfigError(f"{shown} holds another reference")
        kind, colon, rest = name.partition(":")
        if kind == "env" and colon and rest:
            return self._variable(rest, default if default_follows else None)
        if kind == "input" and colon:
            raise ConfigError(f"{shown} asks a person, and nobody is there: set a variable, and write ${{env:NAME}}")
        if not default_follows and name in _PLACES:
            return self._place(name, shown)
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{shown} is not known; known are {_KNOWN}")
        return self._variable(name, default if default_follows else None)

    def _variable(self, name: str, default: str | None) -> str:
        value = self._environ.get(name) or default
        if value is None:
            raise ConfigError(f"the environment has no {name[:60]}")
        return value

    def _place(self, name: str, shown: str) -> str:
        if name in ("pathSeparator", "/"):
            return os.sep
        if name == "userHome":
            place = self._environ.get("HOME") or self._environ.get("USERPROFILE") or ""
        else:
            place = self._folder if name == "workspaceFolder" else os.path.basename(self._folder)
        if not place:
            raise ConfigError(f"{shown} is not known: there is no such folder here")
        return place
