# SPDX-License-Identifier: MIT
"""Reads the words of a client's command line as values: a TARGET, and the arguments of a tool.

It loads at most the user's own module, and connects to no server: its caller hands in the schema of the tool.

Rule: nothing is guessed.  `key:=value` is JSON; `key=value` has the type in the schema, or is a string without one.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..client.http.urls import is_url
from ..protocol.shown import escaped
from ..schema.coercion import from_json
from .parser import UsageError
from .target import is_file, load_target, split_target

MAX_DEPTH = 20  # of alternatives within alternatives of a schema; a schema is a server's text, and not trusted


def target_of(text: str) -> Any:
    """The server that TARGET names: a URL, a Python file to serve in this process, or a command to start.

    A command is one word of the command line: quote it.  No shell reads it.
    """
    if is_url(text):
        return text
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise UsageError(f"{text!r} cannot be split into words: {exc}") from None
    if not words:
        raise UsageError("TARGET is empty: give a URL, a Python file or a command")
    # Several words are a command, also where they begin with a path; but a file may have a space in its name.
    file = split_target(text)[0]
    if (file.endswith(".py") and Path(file).is_file()) or (
        len(words) == 1 and is_file(file) and not shutil.which(text)
    ):
        return load_target(text)
    return words


def arguments_of(words: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a tool with this inputSchema: each word `key=value`, `key:=JSON`, or an object of them.

    The value of `key=value` has the type in the schema; where the schema allows a string, it is a string.
    """
    arguments: dict[str, Any] = {}
    properties = schema.get("properties")
    for word in words:
        # Later words win over earlier ones, so an object can be a base for them.
        if word.lstrip().startswith("{"):
            arguments.update(_object(word))
            continue
        # At the first sign, because a value may have more of them.
        key, equals, value = word.partition("=")
        if not equals or not key.rstrip(":"):
            raise UsageError(f"{word!r} is neither key=value nor a JSON object")
        if key.endswith(":"):
            arguments[key[:-1]] = _json(value, key[:-1])
        else:
            arguments[key] = _typed(key, value, properties.get(key) if isinstance(properties, dict) else None)
    return arguments


def _object(word: str) -> dict[str, Any]:
    value = _json(word, "the arguments")
    if not isinstance(value, dict):
        raise UsageError("the arguments have to be a JSON object")
    return value


def _json(text: str, label: str) -> Any:
    try:
        # Strict as the wire is: no NaN, and no number that a float cannot hold.
        return from_json(text)
    except ValueError as exc:
        raise UsageError(f"{label} is not JSON: {exc}") from None


def _typed(key: str, value: str, schema: Any) -> Any:
    types = types_of(schema)
    # A string takes every text, so a value that looks like a number stays the text that was typed.
    if not types or "string" in types:
        return value
    try:
        return from_json(value)
    except ValueError:
        # The types are the server's text, and may be none of JSON Schema's.
        wanted = escaped(" or ".join(sorted(types)))
        raise UsageError(f"{key} has to be {wanted:.200}, not {value!r:.100}") from None


def types_of(schema: Any, depth: int = MAX_DEPTH) -> set[str]:
    """The JSON types that a schema allows by name; empty where it does not say, or says so too deep inside."""
    if not isinstance(schema, dict) or not depth:
        return set()
    found: set[str] = set()
    for member in ("anyOf", "oneOf"):
        options = schema.get(member)
        if isinstance(options, list):
            each = [types_of(option, depth - 1) for option in options]
            # One alternative that says no type allows any, a string among them.
            if not all(each):
                return set()
            found.update(*each)
    types = schema.get("type")
    if isinstance(types, str):
        found.add(types)
    elif isinstance(types, list):
        found.update(one for one in types if isinstance(one, str))
    return found
