# SPDX-License-Identifier: MIT
"""`vendored.json`: the version and the options of a copy, and the hash of each file, which tells edits by hand later.

Rule: the same files give the same bytes.  It has no time and no name of the machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..parser import UsageError
from .files import MANIFEST, NAME, Dependencies, Files

_FORM = 2
_OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers write them into any folder
MAX_RECORD = 1024 * 1024  # bytes of `vendored.json` that are read; those of a copy have some 30,000


class CopyRecord(NamedTuple):
    """The content of `vendored.json`.

    Attributes:
        python: the lowest version of Python that the copy runs on, such as "3.10".
        dependencies: the version of each, by name.
        hashes: the `sha256_of` each file, by path.
        target: the module that one file serves, such as "tools:server"; None for a folder.
    """

    version: str
    server_only: bool
    with_deps: bool
    python: str
    dependencies: dict[str, str]
    hashes: dict[str, str]
    target: str | None = None

    def encoded(self) -> bytes:
        """The bytes of the file."""
        record = {"form": _FORM, "package": NAME, **self._asdict()}
        record["files"] = record.pop("hashes")
        return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def record_of(
    files: Files, version: str, *, server_only: bool, deps: Dependencies | None = None, target: str | None = None
) -> CopyRecord:
    """The record of these files, which hold these dependencies."""
    return CopyRecord(
        version,
        server_only,
        deps is not None,
        ".".join(map(str, deps.python if deps else (3, 10))),
        {item.name: item.version for item in deps.found} if deps else {},
        {path: sha256_of(data) for path, data in files.items()},
        target,
    )


def read_record(path: Path) -> CopyRecord:
    """The record in this file.  Raises UsageError where it is not one of ours, OSError where it cannot be read."""
    with path.open("rb") as file:
        data = file.read(MAX_RECORD + 1)
    return parse_record(data, str(path))


def parse_record(data: bytes, where: str) -> CopyRecord:
    """The record in these bytes.  Raises UsageError, which names `where`, for bytes that are none."""
    try:
        if len(data) > MAX_RECORD:
            raise ValueError
        return _record(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{where} is damaged: restore it, or remove the folder and vendor again") from None


def _record(said: dict[str, Any]) -> CopyRecord:
    if said["form"] != _FORM or said["package"] != NAME:
        raise ValueError
    hashes = {str(path): str(value) for path, value in said["files"].items()}
    # It names files that are read and compared, and may name none outside of the folder.
    if any(re.search(r"(^|/)(\.\.?)?(/|$)|[\\:\0]", path) for path in hashes):
        raise ValueError
    texts = (said["version"], said["python"], *said["dependencies"].values(), said["target"] or "")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    flags = bool(said["server_only"]), bool(said["with_deps"])
    return CopyRecord(said["version"], *flags, said["python"], dict(said["dependencies"]), hashes, said["target"])


def sha256_of(data: bytes) -> str:
    """The SHA-256 of these bytes, written as a wheel's RECORD writes it: base64 with - and _, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class CopyChanges(NamedTuple):
    """How a folder differs from its record; the paths are sorted."""

    edited: list[str]
    missing: list[str]
    extra: list[str]

    @property
    def touched(self) -> list[str]:
        """The files that an update would lose."""
        return sorted([*self.edited, *self.extra])


def changes_in(folder: Path, record: CopyRecord) -> CopyChanges:
    """Compare the files of a copy with its record.  Bytecode is no file of it."""
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if _counts(path)}
    there.pop(MANIFEST, None)
    edited = [name for name in sorted(record.hashes) if name in there and not _same(there[name], record.hashes[name])]
    missing = sorted({*record.hashes} - {*there})
    return CopyChanges(edited, missing, sorted({*there} - {*record.hashes}))


def _counts(path: Path) -> bool:
    if "__pycache__" in path.parts or path.suffix == ".pyc" or path.name in _OF_SYSTEMS:
        return False
    return path.is_symlink() or not path.is_dir()


def _same(path: Path, expected: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    data = path.read_bytes()
    # git on Windows may write other ends of lines.
    return sha256_of(data) == expected or sha256_of(data.replace(b"\r\n", b"\n")) == expected
