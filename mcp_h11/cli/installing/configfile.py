# SPDX-License-Identifier: MIT
"""The configuration file of another program: read, changed in one entry, and written without a loss.

Rules:
- A file that cannot be parsed is never written.
- Only the bytes of the entry change (`jsonedit`, `tomledit`).  Before a file is written, the value of its new text is
  compared with the wanted value.
- A copy of the file as it was stays beside it, with the same permissions.
- The file is exchanged in one step, and only if it is still the one that the user was shown.
"""

from __future__ import annotations

import codecs
import copy
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...bridge.configtext import ConfigError, decoded, parsed
from ..parser import PACKAGE
from . import jsonedit, tomledit

# The members of an entry that say how a client connects.  All others are the user's own.
_CONNECTION = {
    "type", "transport", "command", "args", "env", "env_vars", "cwd", "envFile", "url", "httpUrl", "serverUrl",
    "headers", "http_headers", "env_http_headers", "bearer_token_env_var",
}  # fmt: skip
_MERGED = ("env", "headers", "http_headers", "env_http_headers")  # of these objects, other members stay
_KEPT = ("cwd", "envFile", "env_vars")  # they stay with a command that replaces a command


def _merged(old: Any, new: Mapping[str, Any]) -> dict[str, Any]:
    """The entry to write: the new connection, and the members that the user added to the old one."""
    if not isinstance(old, dict):
        return dict(new)
    same_kind = ("command" in old) == ("command" in new)
    merged: dict[str, Any] = {}
    for member, value in old.items():
        if member in new:
            both = same_kind and member in _MERGED and isinstance(value, dict)
            merged[member] = {**value, **new[member]} if both else new[member]
        elif member not in _CONNECTION or (same_kind and member in (*_MERGED, *_KEPT)):
            merged[member] = value
    return {**merged, **{member: value for member, value in new.items() if member not in merged}}


class ConfigFile:
    """One file.  `path` is where it really is: a link stays a link.

    Raises ConfigError where its text cannot be read as JSON (with comments) or TOML, and OSError.
    """

    def __init__(self, path: Path, servers: str, *, toml: bool) -> None:
        self.path = Path(os.path.realpath(path))
        self._servers = servers
        self._toml = toml
        self.before: bytes | None = None
        with suppress(FileNotFoundError):
            self.before = self.path.read_bytes()
        data = self.before or b""
        self.text = decoded(data)
        self._value = self._read(self.text)
        servers_there = self._value.get(servers, {})
        if not isinstance(servers_there, dict):
            raise ConfigError(f"its member {servers!r} is no object")
        self.entries: dict[str, Any] = servers_there

    def _read(self, text: str) -> dict[str, Any]:
        if not text.strip():
            return {}
        if self._toml and sys.version_info < (3, 11):  # pragma: no cover - depends on the Python
            raise ConfigError("Python reads TOML from 3.11 on, so a change of it could not be checked")
        value = parsed(text, toml=self._toml, limit=jsonedit.MAX_FILE)
        if not isinstance(value, dict):
            raise ConfigError("it is no JSON object")
        return value

    def with_entry(self, name: str, members: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text with a server of this name.  Raises ConfigError where that cannot be done in place."""
        old = self.entries.get(name)
        new = _merged(old, members)
        if old == new and not inputs:
            return self.text
        wanted = copy.deepcopy(self._value)
        wanted.setdefault(self._servers, {})[name] = new
        if self._toml:
            return self._checked_toml(tomledit.with_table(self.text, (self._servers, name), new), wanted)
        text = self.text if self.text.strip() else "{}\n"
        path = (self._servers, name)
        if isinstance(old, dict):
            for member in [member for member in old if member not in new]:
                text = jsonedit.without_value(text, (*path, member))
            for member, value in new.items():
                if member not in old or old[member] != value:
                    text = jsonedit.with_value(text, (*path, member), value)
        else:
            text = jsonedit.with_value(text, path, new)
        known = wanted.setdefault("inputs", []) if inputs else []
        for one in inputs:
            if all(not isinstance(there, dict) or there.get("id") != one["id"] for there in known):
                text = jsonedit.with_value(text, ("inputs", len(known)), one)
                known.append(one)
        return jsonedit.checked_json(text, wanted)

    def without_entry(self, name: str) -> str:
        """The text without that server, and without the inputs that no other one asks for."""
        wanted = copy.deepcopy(self._value)
        gone = wanted[self._servers].pop(name)
        if self._toml:
            text = tomledit.without_table(self.text, (self._servers, name))
            if not wanted[self._servers]:
                del wanted[self._servers]
            return self._checked_toml(text, wanted)
        text = jsonedit.without_value(self.text, (self._servers, name))
        for index, one in reversed([*enumerate(wanted.get("inputs", ()))]):
            reference = f"${{input:{one.get('id')}}}" if isinstance(one, dict) else ""
            if reference and reference in repr(gone) and reference not in repr(wanted[self._servers]):
                text = jsonedit.without_value(text, ("inputs", index))
                del wanted["inputs"][index]
        return jsonedit.checked_json(text, wanted)

    def _checked_toml(self, text: str, wanted: Any) -> str:
        # The oldest Python comes here with a new file alone, which has nothing but our table.
        return text if sys.version_info < (3, 11) else tomledit.checked_toml(text, wanted)

    def write(self, text: str, *, private: bool) -> Path | None:
        """Put this text in the place of the old one.  Returns the copy of the old file; None for a new file.

        A new file is for the user alone where it is `private`.
        Raises OSError, and ConfigError where the file has changed since it was read.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        try:
            with open(descriptor, "wb") as file:
                file.write(_encoded(text, self.before or b""))
                file.flush()
                os.fsync(file.fileno())
            now = self.path.read_bytes() if self.path.exists() else None
            if now != self.before:
                raise ConfigError("it was changed meanwhile: run the command again")
            backup = self._keep(new) if self.before is not None else None
            os.replace(new, self.path)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        return backup

    def _keep(self, new: Path) -> Path:
        backup = self.path.with_name(f"{self.path.name}.before-{PACKAGE}")
        shutil.copy2(self.path, backup)
        shutil.copymode(self.path, new)
        was = self.path.stat()
        if hasattr(os, "chown"):
            with suppress(OSError):  # a file of another user, and we are not root
                os.chown(new, was.st_uid, was.st_gid)
        return backup


def _encoded(text: str, before: bytes) -> bytes:
    """The bytes of a text, in the encoding of the bytes before."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
                           (codecs.BOM_UTF16_BE, "utf-16-be")):  # fmt: skip
        if before.startswith(mark):
            return mark + text.encode(encoding)
    return text.encode("utf-8")
