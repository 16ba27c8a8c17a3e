# SPDX-License-Identifier: MIT
"""A folder on disk: its files are read, and nothing outside of it.

Rule: no symbolic link is followed, at any level below the root, and nothing but folders and regular files is opened.
Where the system can open a file relative to an open folder (all but Windows), no other process can change that between
the check and the opening.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# Not blocking: a named pipe would hold the thread until another process opens it.
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
RELATIVE = os.open in os.supports_dir_fd and os.scandir in os.supports_fd


class Named(NamedTuple):
    """One name in a folder; `folder` and `file` are both False for a link, a socket, a pipe or a device."""

    name: str
    folder: bool
    file: bool


class SafeFolder:
    """An open folder; close it by its `with`.  Each method raises OSError."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor  # -1 where the system opens by whole paths only

    @classmethod
    @contextmanager
    def at(cls, path: str) -> Iterator[SafeFolder]:
        """Open the root, which may be a link itself."""
        real = os.path.realpath(path)
        with _opened(real, os.open(real, _FOLDER) if RELATIVE else -1) as folder:
            yield folder

    @contextmanager
    def folder(self, name: str) -> Iterator[SafeFolder]:
        """Open a folder in this one."""
        path = os.path.join(self._path, name)
        if RELATIVE:
            descriptor = os.open(name, _FOLDER, dir_fd=self._descriptor)
        else:
            self._check(path, stat.S_ISDIR)
            descriptor = -1
        with _opened(path, descriptor) as folder:
            yield folder

    def names(self) -> list[Named]:
        """The names in it, in their order."""
        with os.scandir(self._descriptor if RELATIVE else self._path) as entries:
            found = [
                Named(one.name, one.is_dir(follow_symlinks=False), one.is_file(follow_symlinks=False))
                for one in entries
            ]
        return sorted(found)

    def open(self, name: str) -> int:
        """A descriptor of a regular file in it; the caller closes it.  Raises OSError for anything else."""
        if RELATIVE:
            descriptor = os.open(name, _FILE, dir_fd=self._descriptor)
        else:
            path = os.path.join(self._path, name)
            self._check(path, stat.S_ISREG)
            descriptor = os.open(path, _FILE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("this is no regular file")
        return descriptor

    def _check(self, path: str, kind: object) -> None:
        mode = os.lstat(path).st_mode
        if not kind(mode):  # type: ignore[operator]
            raise OSError("a link, or no regular file")


@contextmanager
def _opened(path: str, descriptor: int) -> Iterator[SafeFolder]:
    try:
        yield SafeFolder(path, descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
