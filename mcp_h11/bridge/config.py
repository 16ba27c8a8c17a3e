# SPDX-License-Identifier: MIT
"""Reads the file in which MCP clients name their servers as the backends of a gateway, and compares two readings.

    {"mcpServers": {"files": {"command": "npx", "args": ["-y", "..."], "env": {"KEY": "${KEY}"}},
                    "search": {"url": "https://...", "headers": {"Authorization": "Bearer ${TOKEN}"},
                               "denyTools": ["delete_*"]}}}

Files of Claude, Cursor, Windsurf, Gemini CLI and Cline (`mcpServers`), VS Code (`servers`), Zed (`context_servers`) and
Codex (`mcp_servers`, in TOML) are read as they are; `configtext` reads comments and variables.  Members that only
other programs use are left alone.

Rules:
- Reading has no effect.
- The name of a server stands in an address, so it has to be fit for one.
- A file with a mistake is refused as a whole, with a `ConfigError` that says where in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..client.targets import Command, Url
from .configtext import MAX_CONFIG as MAX_CONFIG
from .configtext import ConfigError as ConfigError
from .configtext import Variables, env_file, parsed
from .filter import PRECEDENCES, ToolFilter

MAX_SERVERS = 256
MAX_NAME = 64
MAX_CHANGES_NAMED = 50  # names of servers in a line of the log, for each of added, removed and changed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The member that holds the servers, by program: most of them, VS Code, Zed, Codex.
_CONTAINERS = ("mcpServers", "servers", "context_servers", "mcp_servers")
# The member that holds the address, and the transport that it implies: most programs, Windsurf, Gemini CLI.
_ADDRESSES = {"url": None, "serverUrl": None, "httpUrl": "http"}
# The transport of an address, by the value of `type` or `transport`: clients differ in both words.
_TRANSPORTS = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "streamable_http": "http",
               "sse": "sse"}  # fmt: skip
_PIPES = ("stdio", "local", "custom")
_ALLOW = ("allowTools", "includeTools", "enabled_tools")  # ours, Gemini CLI, Codex
_DENY = ("denyTools", "excludeTools", "disabledTools", "disabled_tools")  # ours, Gemini CLI, Windsurf, Codex

Spec = Command | Url
ReadFile = Callable[[str], str]


@dataclass(frozen=True)
class ServerEntry:
    """One server of the file.  If it equals the one of the last reading, its site is left alone."""

    spec: Spec
    per_session: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    precedence: str = "deny"
    share_logs: bool = False


@dataclass(frozen=True)
class Changes:
    """The difference between two readings: the names of servers."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        """In words: ``added a, b; removed c; changed d``, or ``nothing changed``."""
        kinds = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        return "; ".join(f"{word} {_listed(names)}" for word, names in kinds if names) or "nothing changed"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - MAX_CHANGES_NAMED
    return ", ".join(names[:MAX_CHANGES_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_config(
    text: str,
    environ: Mapping[str, str],
    *,
    folder: str = "",
    read_file: ReadFile | None = None,
    toml: bool = False,
) -> dict[str, ServerEntry]:
    """The servers of a file, by their names.

    Args:
        text: the file, JSON with or without comments.
        environ: the environment, for references to variables.
        folder: the value of `${workspaceFolder}`; a relative `envFile` lies in it.
        read_file: gives the text of an `envFile`; without it such a member is refused.
        toml: the file is TOML.

    Raises:
        ConfigError: the file cannot be used.  The message names the server and the member.
    """
    servers = _servers(parsed(text, toml=toml))
    # Each is a process or a connection, which the file's size alone does not bound.
    if len(servers) > MAX_SERVERS:
        raise ConfigError(f"it has more than {MAX_SERVERS} servers")
    reader = _Reader(environ, folder, read_file)
    found: dict[str, ServerEntry] = {}
    for name, value in servers.items():
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
            raise ConfigError(
                f"the name {name[:100]!a} cannot stand in an address: letters, digits and . _ -, {MAX_NAME} at most"
            )
        try:
            entry = reader.entry(value)
        except (ConfigError, ValueError) as exc:
            raise ConfigError(f"{name}: {exc}") from None
        # A server that is switched off is left out of the comparison, and so it ends.
        if entry is not None:
            found[name] = entry
    return found


def _servers(document: Any) -> dict[str, Any]:
    named = [key for key in _CONTAINERS if key in document] if isinstance(document, dict) else []
    if len(named) > 1:
        raise ConfigError(f'it has both "{named[0]}" and "{named[1]}"')
    servers = document[named[0]] if named else None
    if not isinstance(servers, dict):
        raise ConfigError(f'it has no "{named[0] if named else _CONTAINERS[0]}" object')
    return servers


def changes(old: Mapping[str, ServerEntry], new: Mapping[str, ServerEntry]) -> Changes:
    """The difference between two readings."""
    return Changes(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and new[name] != old[name]),
    )


class _Reader:
    """Reads one server of a file after the other."""

    def __init__(self, environ: Mapping[str, str], folder: str, read_file: ReadFile | None) -> None:
        self._environ = environ
        self._folder = folder
        self._read_file = read_file
        self._variables = Variables(environ, folder)

    def entry(self, value: Any) -> ServerEntry | None:
        """One server, or None for one that is switched off.  Raises ConfigError, ValueError."""
        if not isinstance(value, dict):
            raise ConfigError("a server is an object")
        if _flag(value, "disabled", False) or not _flag(value, "enabled", True):
            return None
        precedence = value.get("precedence", "deny")
        if precedence not in PRECEDENCES:
            raise ConfigError('"precedence" is "deny" or "allow"')
        entry = ServerEntry(
            self._spec(value),
            _flag(value, "perSession", False),
            tuple(glob for key in _ALLOW for glob in _texts(value, key)),
            tuple(glob for key in _DENY for glob in _texts(value, key)),
            precedence,
            _flag(value, "shareLogs", False),
        )
        # Made for its errors alone: a bad pattern is a fault of the file and not of a request.
        ToolFilter(entry.allow, entry.deny, entry.precedence)
        return entry

    def _spec(self, value: dict[str, Any]) -> Spec:
        addresses = [key for key in _ADDRESSES if value.get(key) is not None]
        command = value.get("command") is not None
        if len(addresses) > 1:
            raise ConfigError(f'it has both "{addresses[0]}" and "{addresses[1]}"')
        # Both or neither.
        if command == bool(addresses):
            raise ConfigError('it needs either a "command" or a "url" (or "serverUrl", or "httpUrl")')
        return self._command(value) if command else self._url(value, addresses[0])

    def _command(self, value: dict[str, Any]) -> Command:
        member, kind = _kind(value)
        # A contradiction in the file is an error, because either half may be the wrong one.
        if kind is not None and kind not in _PIPES:
            raise ConfigError(f'the "{member}" of a "command" is "stdio"')
        inner = value["command"]
        if isinstance(inner, dict):  # Zed, before 2025-06: {"command": {"path", "args", "env"}}
            if "path" not in inner:
                raise ConfigError('"command" is a text, or an object with a "path"')
            value = {**value, **inner, "command": inner["path"]}
        argv = [self._filled(word, "command") for word in (_text(value, "command"),)]
        argv += [self._filled(word, "args") for word in _texts(value, "args")]
        # The member wins over the file.
        env = {**self._env_file(value), **self._mapping(value, "env")}
        for name, text in env.items():
            if not name or "=" in name:
                raise ConfigError('"env" has a name that is empty, or has = in it')
            _sendable(name + text, "env")
        return Command(tuple(argv), env or None, self._optional(value, "cwd"))

    def _url(self, value: dict[str, Any], key: str) -> Url:
        member, kind = _kind(value)
        if kind is not None and kind not in _TRANSPORTS:
            raise ConfigError(f'the "{member}" of a "{key}" is "http" or "sse"')
        url = self._filled(_text(value, key), key)
        try:
            parts = urlsplit(url)
            reachable = Url(url) and (parts.scheme == "http+unix" or (parts.hostname and parts.port != 0))
        except ValueError:  # not quoted: its text may hold the address, and that may hold a secret
            reachable = None
        if not reachable:
            raise ConfigError(f'"{key}" is not an address of http, https or http+unix')
        if "@" in parts.netloc:
            raise ConfigError(f'"{key}" has credentials in it: they belong into a header')
        # What the file says of the transport outranks the name of the member.
        pinned = _ADDRESSES[key] if kind is None else _TRANSPORTS[kind]
        return Url(url, self._headers(value), transport=pinned)

    def _headers(self, value: dict[str, Any]) -> dict[str, str]:
        headers = {**self._mapping(value, "headers"), **self._mapping(value, "http_headers")}
        # Codex names the variables that hold secrets, instead of putting references into texts.
        for name, variable in _members(value, "env_http_headers").items():
            headers[name] = self._named(variable, "env_http_headers")
        if value.get("bearer_token_env_var") is not None:
            token = self._named(_text(value, "bearer_token_env_var"), "bearer_token_env_var")
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _named(self, variable: str, key: str) -> str:
        found = self._environ.get(variable)
        # Empty counts as missing: an empty token would be sent as one.
        if not found:
            raise ConfigError(f'"{key}": the environment has no {variable[:60]!a}')
        return found

    def _env_file(self, value: dict[str, Any]) -> dict[str, str]:
        name = self._optional(value, "envFile")
        if name is None:
            return {}
        if self._read_file is None:
            raise ConfigError('"envFile" cannot be read here')
        try:
            return env_file(self._read_file(os.path.join(self._folder, name)))
        except OSError as exc:
            raise ConfigError(f'"envFile": {exc.strerror}') from None
        except (ConfigError, ValueError) as exc:
            raise ConfigError(f'"envFile": {exc}') from None

    def _mapping(self, value: dict[str, Any], key: str) -> dict[str, str]:
        filled = {}
        for name, text in _members(value, key).items():
            try:
                filled[name] = _sendable(self._variables.filled_value(text), key)
            except ConfigError as exc:  # noqa: PERF203
                raise ConfigError(f'"{key}", {name[:60]!a}: {exc}') from None
        return filled

    def _optional(self, value: dict[str, Any], key: str) -> str | None:
        return None if value.get(key) is None else self._filled(_text(value, key), key)

    def _filled(self, text: str, key: str) -> str:
        try:
            return _sendable(self._variables.filled(text), key)
        except ConfigError as exc:
            raise ConfigError(f'"{key}": {exc}') from None


def _kind(value: dict[str, Any]) -> tuple[str, str | None]:
    """The member that names the transport, `type` or `transport`, and its value."""
    kinds = {key: value[key] for key in ("type", "transport") if value.get(key) is not None}
    for key, kind in kinds.items():
        if not isinstance(kind, str):
            raise ConfigError(f'"{key}" is a text')
    # Some programs read one word and some the other.
    if len(kinds) == 2 and kinds["type"] != kinds["transport"]:
        raise ConfigError('"type" and "transport" say different things')
    return next(iter(kinds.items()), ("type", None))


def _text(value: dict[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f'"{key}" is a text')
    return text


def _texts(value: dict[str, Any], key: str) -> tuple[str, ...]:
    texts = value.get(key)
    if texts is None:
        return ()
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'"{key}" is a list of texts')
    return tuple(texts)


def _members(value: dict[str, Any], key: str) -> dict[str, str]:
    members = value.get(key)
    if members is None:
        return {}
    if not isinstance(members, dict) or not all(isinstance(text, str) for text in members.values()):
        raise ConfigError(f'"{key}" is an object of texts')
    return members


def _flag(value: dict[str, Any], key: str, default: bool) -> bool:
    flag = value.get(key, default)
    if not isinstance(flag, bool):
        raise ConfigError(f'"{key}" is true or false')
    return flag


def _sendable(text: str, key: str) -> str:
    if "\0" in text:
        raise ConfigError(f'"{key}" has a NUL in it')
    # JSON can hold half a surrogate pair, which neither a command line nor a request can carry.
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f'"{key}" has half a character in it')
    return text
