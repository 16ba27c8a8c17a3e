# SPDX-License-Identifier: MIT
"""Files that are for the user alone: read, replaced in one step, and locked between processes.

Rules:
- A file that others can read or change, that belongs to another user, or that is a link, is refused, and the error says
  how to mend it.  On Windows the folder of the user's profile has the rights by itself.
- A file is the old one or the new one at any moment, also where its writer is killed.
- All functions block: `in_thread` runs them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shlex
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

import anyio.to_thread

from .errors import TokenStoreError
from .store import MAX_LOGIN

_Result = TypeVar("_Result")

VARIABLE = "MCP_H11_LOGINS"  # names another folder for logins
MAX_LOGIN_FILE = MAX_LOGIN + 8 * 1024  # bytes: the record, and the address of its server
_REPLACE_LIMIT = 5.0  # seconds for a reader to close its file, on Windows
_REPLACE_PAUSE = 0.01
_OLD_PART = 60.0  # seconds after which a file that was never finished is removed


async def in_thread(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Runs work on files.  Raises TokenStoreError for an OSError."""
    try:
        return await anyio.to_thread.run_sync(work, *arguments)
    except OSError as error:
        raise TokenStoreError(f"{error.filename or 'a login'}: {error.strerror or type(error).__name__}") from None


def read_private(path: Path) -> bytes | None:
    """The bytes of a file that is for the user alone, or one more than `MAX_LOGIN_FILE`; None where there is none."""
    if not _checked_folder(path.parent):
        return None
    # O_NONBLOCK: opening a pipe of that name would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "", str(path))
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise TokenStoreError(f"{path} is a link, which may lead to a file of others; remove it: {_rm(path)}") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TokenStoreError(f"{path} is no file; remove it: {_rm(path)}")
        _check_owner(path, status)
        if os.name == "posix" and status.st_mode & 0o077:
            raise TokenStoreError(f"others can read or change {path}; make it yours alone: chmod 600 {_quoted(path)}")
        return file.read(MAX_LOGIN_FILE + 1)


def write_private(path: Path, data: bytes) -> None:
    _make_folder(path.parent)
    _remove_old_parts(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(part, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _exchange(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _remove_old_parts(path: Path) -> None:
    """Removes files of writers that were killed in the middle."""
    oldest = time.time() - _OLD_PART
    for part in path.parent.glob(f".{path.stem}.*.part"):
        with contextlib.suppress(OSError):
            if part.lstat().st_mtime < oldest:
                part.unlink()


def remove_private(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


# --- the folder -------------------------------------------------------------------------------------------------------


def _make_folder(folder: Path) -> None:
    missing = []
    above = folder
    while not above.is_dir() and above != above.parent:
        missing.append(above)
        above = above.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process has made it meanwhile
            # XDG Base Directory: a folder that is missing is made with 0700.
            one.mkdir(0o700)
    _checked_folder(folder)


def _checked_folder(folder: Path) -> bool:
    """Whether the folder is there.  Raises TokenStoreError where others could put files into it."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    _check_owner(folder, status)
    if os.name == "posix" and status.st_mode & 0o022:
        raise TokenStoreError(f"others can put files into {folder}; make it yours alone: chmod 700 {_quoted(folder)}")
    return True


def _check_owner(path: Path, status: os.stat_result) -> None:
    if os.name == "posix" and status.st_uid != os.geteuid():
        raise TokenStoreError(f"{path} belongs to another user; remove it, or set {VARIABLE} to a folder of your own")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _rm(path: Path) -> str:
    return f"rm {_quoted(path)}"


# --- the lock, and what systems do each in its own way --------------------------------------------------------------


def try_lock(path: Path) -> IO[bytes] | None:
    """The open file that holds the lock until it is closed; None while another one holds it."""
    _make_folder(path.parent)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = open(os.open(path, flags, 0o600), "r+b")
    try:
        if _lock(file.fileno()):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            return False

    def _exchange(part: Path, path: Path) -> None:
        # Windows replaces no file that a reader has open.
        end = time.monotonic() + _REPLACE_LIMIT
        while time.monotonic() < end:
            with contextlib.suppress(PermissionError):
                os.replace(part, path)
                return
            time.sleep(_REPLACE_PAUSE)
        os.replace(part, path)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        # The lock belongs to the open file and not to the process, so it holds between the tasks of one process too.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False

    def _exchange(part: Path, path: Path) -> None:
        os.replace(part, path)
        # Without this a power cut could bring the old file back, with a refresh token that was used.
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):  # some file systems cannot
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
