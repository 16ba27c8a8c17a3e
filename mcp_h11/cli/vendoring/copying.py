# SPDX-License-Identifier: MIT
"""Writes a copy as a folder, compares it with its record, and replaces it by a newer one.

A copy is written in whole beside the old one, and takes its place by renaming.  So a full disk or an interrupt leaves
the old copy as it was.

Rules:
- A folder without our record is not touched.
- A file that was changed by hand is not lost.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ...protocol.shown import escaped
from ..parser import UsageError
from .files import MANIFEST, NAME, Files
from .record import CopyChanges, CopyRecord, changes_in, read_record

SHOWN_PATHS = 10  # paths of a list that are shown


def find_copy(dest: Path) -> Path:
    """The copy that DEST names: its parent, as for making it, or the folder itself.  Raises UsageError."""
    for folder in (dest, dest / NAME):
        if (folder / MANIFEST).is_file():
            if folder.is_symlink():
                raise UsageError(f"{folder} is a link: name the folder that it leads to")
            return folder
    raise UsageError(f"no copy in {dest}: neither it nor {dest / NAME} has a {MANIFEST}")


def look(folder: Path) -> tuple[CopyRecord, CopyChanges]:
    """The record of a copy, and the changes since.  Raises UsageError where it cannot be read."""
    try:
        record = read_record(folder / MANIFEST)
        return record, changes_in(folder, record)
    except OSError as exc:
        raise UsageError(f"cannot read {exc.filename or folder}: {exc.strerror}") from None


def make_copy(dest: Path, files: Files, record: CopyRecord) -> Path:
    """Write a copy into DEST, which has none, and return its folder.  Raises UsageError."""
    folder = dest / NAME
    if folder.is_symlink() or folder.exists():
        if (folder / MANIFEST).is_file():
            raise UsageError(f"{folder} is a copy already: use --update {dest}, or remove the folder")
        raise UsageError(f"{folder} exists and was not made by this command: remove it, or take another folder")
    with _working_in(dest):
        _placed(folder, files, record)
    return folder


def replace_copy(folder: Path, files: Files, record: CopyRecord, keep: list[str], kept: Path) -> None:
    """Replace the copy in `folder`, which has our record; save its files `keep` in the folder `kept` before.

    Raises UsageError; the old copy is whole then.
    """
    with _working_in(folder.parent):
        for name in keep:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, kept / name, follow_symlinks=False)
        _placed(folder, files, record)


class _working_in:
    """A block that writes below this folder.  Its OSError becomes a UsageError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._error(exc) from None

    def __exit__(self, _: object, exc: object, __: object) -> None:
        if isinstance(exc, OSError):
            raise self._error(exc) from None

    def _error(self, exc: OSError) -> UsageError:
        return UsageError(f"cannot write {exc.filename or self._folder}: {exc.strerror or exc}")


def _placed(folder: Path, files: Files, record: CopyRecord) -> None:
    # In the same folder: a rename reaches no other file system.
    work = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=folder.parent))
    new, old = work / "new", work / "old"
    try:
        for name, data in [*files.items(), (MANIFEST, record.encoded())]:
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        # Where the old copy could not be put back, it stays there.
        if folder.exists() or not old.exists():
            shutil.rmtree(work, ignore_errors=True)


def some_of(paths: list[str]) -> str:
    """Some of these paths, in one line, with their control characters shown."""
    more = f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
    return escaped(", ".join(paths[:SHOWN_PATHS])) + more
