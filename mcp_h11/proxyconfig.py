# SPDX-License-Identifier: MIT
"""The `mcpServers` JSON that MCP clients use, read as the backends of a gateway; and what changed since the last time.

    {"mcpServers": {"files": {"command": "npx", "args": ["-y", "..."], "env": {"KEY": "${KEY}"}},
                    "search": {"url": "https://...", "headers": {"Authorization": "Bearer ${TOKEN}"},
                               "denyTools": ["delete_*"]}}}

`${NAME}` and `${NAME:-otherwise}` are taken from the environment, as clients do it.  Members that are other clients'
business are left alone; a file with a mistake is refused as a whole, with one line that says where.

Rule: reading has no effect; a name is what stands in an address, so it has to be fit for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .specs import Command, Url
from .toolfilter import PRECEDENCES, ToolFilter

MAX_CONFIG = 1024 * 1024  # characters
MAX_SERVERS = 256
MAX_NAME = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
# By `type` or `transport`, as different clients call it: what carries an address.
_TRANSPORTS = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "streamable_http": "http",
               "sse": "sse"}  # fmt: skip

Spec = Command | Url


class ConfigError(Exception):
    """The file cannot be used; the message says where and why, in one line, and quotes no value."""


@dataclass(frozen=True)
class ServerEntry:
    """One server of the file.  Two that are equal need no change."""

    spec: Spec
    per_session: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    precedence: str = "deny"


@dataclass(frozen=True)
class Changes:
    """From one reading to the next, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def read_config(text: str, environ: Mapping[str, str]) -> dict[str, ServerEntry]:
    """The servers of a file, by their names.  Raises ConfigError."""
    if len(text) > MAX_CONFIG:
        raise ConfigError(f"it is longer than {MAX_CONFIG} characters")
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ConfigError("it is nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(f"it is not JSON: {exc}") from None
    servers = document.get("mcpServers") if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        raise ConfigError('it has no "mcpServers" object')
    if len(servers) > MAX_SERVERS:
        raise ConfigError(f"it has more than {MAX_SERVERS} servers")
    found: dict[str, ServerEntry] = {}
    for name, value in servers.items():
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise ConfigError(
                f"the name {name[:100]!r} cannot stand in an address: letters, digits and . _ -, {MAX_NAME} at most"
            )
        try:
            entry = _entry(value, environ)
        except (ConfigError, ValueError) as exc:
            raise ConfigError(f"{name}: {exc}") from None
        if entry is not None:
            found[name] = entry
    return found


def changes(old: Mapping[str, ServerEntry], new: Mapping[str, ServerEntry]) -> Changes:
    """What is to be done to get from one to the other."""
    return Changes(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and new[name] != old[name]),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two servers by one name, some reader would take the first and another one the last.
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ConfigError(f"{twice[:100]!r} is there twice")
    return members


def _entry(value: Any, environ: Mapping[str, str]) -> ServerEntry | None:
    """One server, or None for one that is switched off."""
    if not isinstance(value, dict):
        raise ConfigError("a server is an object")
    if _flag(value, "disabled"):
        return None
    spec = _spec(value, environ)
    entry = ServerEntry(
        spec,
        _flag(value, "perSession"),
        _texts(value, "allowTools"),
        _texts(value, "denyTools"),
        value.get("precedence", "deny"),
    )
    if entry.precedence not in PRECEDENCES:
        raise ConfigError('"precedence" is "deny" or "allow"')
    ToolFilter(entry.allow, entry.deny, entry.precedence)
    return entry


def _spec(value: dict[str, Any], environ: Mapping[str, str]) -> Spec:
    if ("command" in value) == ("url" in value):
        raise ConfigError('it needs either a "command" or a "url"')
    if "command" in value:
        argv = (_text(value, "command"), *_texts(value, "args"))
        cwd = _text(value, "cwd") if value.get("cwd") is not None else None
        return Command(
            tuple(_filled(word, environ) for word in argv),
            _mapping(value, "env", environ) or None,
            None if cwd is None else _filled(cwd, environ),
        )
    kind = value.get("type", value.get("transport"))
    if kind is not None and kind not in _TRANSPORTS:
        raise ConfigError('the "type" of a "url" is "http" or "sse"')
    return Url(_filled(_text(value, "url"), environ), _mapping(value, "headers", environ),
               transport=None if kind is None else _TRANSPORTS[kind])  # fmt: skip


def _text(value: dict[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f'"{key}" is a text')
    return text


def _texts(value: dict[str, Any], key: str) -> tuple[str, ...]:
    texts = value.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'"{key}" is a list of texts')
    return tuple(texts)


def _mapping(value: dict[str, Any], key: str, environ: Mapping[str, str]) -> dict[str, str]:
    members = value.get(key) or {}
    if not isinstance(members, dict) or not all(isinstance(text, str) for text in members.values()):
        raise ConfigError(f'"{key}" is an object of texts')
    return {name: _filled(text, environ) for name, text in members.items()}


def _flag(value: dict[str, Any], key: str) -> bool:
    flag = value.get(key, False)
    if not isinstance(flag, bool):
        raise ConfigError(f'"{key}" is true or false')
    return flag


def _filled(text: str, environ: Mapping[str, str]) -> str:
    """The text with its variables.  One that is not set is a mistake, since an empty token would go unnoticed."""

    def fill(found: re.Match[str]) -> str:
        name, otherwise = found.groups()
        value = environ.get(name) or otherwise
        if value is None:
            raise ConfigError(f"the environment has no {name}")
        return value

    return _VARIABLE.sub(fill, text)
