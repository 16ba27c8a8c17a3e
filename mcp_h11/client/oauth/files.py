# SPDX-License-Identifier: MIT
"""Keeps logins in files of the user, one for each MCP server, and lets several processes share them.

A file is named by the hash of its server's address and holds one `Login` as JSON, beside that address.  Processes lock
an empty file beside it: the system opens the lock when its holder ends, in any way.  `private` has the
rights of the files.

Rule: a file that is no login counts as none, with a line in the log, so that a new login replaces it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from ...protocol.shown import escaping
from .errors import TokenStoreError
from .private import MAX_LOGIN_FILE, VARIABLE, in_thread, read_private, remove_private, try_lock, write_private
from .store import Login

_logger = escaping(logging.getLogger(__name__))

LOGINS_PATH = ("mcp_h11", "logins")
LOCK_LIMIT = 60.0  # seconds for another process to end its login or its refresh
MAX_LOGINS = 1_000  # files that a list looks at
MAX_PIECES = 1_000  # of a login in a keyring
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25  # seconds between two tries to get a lock


def logins_folder(environ: Mapping[str, str], system: str = sys.platform, home: Path | None = None) -> Path:
    """The folder for logins: `MCP_H11_LOGINS`, else one in the place where this system keeps configurations.

    Raises:
        TokenStoreError: the user has no home folder; the variable can name one.
    """
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE]).expanduser().absolute()
    if system == "win32" and environ.get("APPDATA"):
        return Path(environ["APPDATA"]).joinpath(*LOGINS_PATH)
    # XDG Base Directory: "All paths set in these environment variables must be absolute"; others are to be ignored.
    base = environ.get("XDG_CONFIG_HOME", "")
    if system not in ("win32", "darwin") and os.path.isabs(base):
        return Path(base).joinpath(*LOGINS_PATH)
    try:
        home = home or Path.home()
    except RuntimeError:
        raise TokenStoreError(f"there is no home folder to keep logins in; set {VARIABLE} to a folder") from None
    parts = {"win32": ("AppData", "Roaming"), "darwin": ("Library", "Application Support")}
    return home.joinpath(*parts.get(system, (".config",)), *LOGINS_PATH)


class FileTokenStore:
    """A `TokenStore` in a folder of the user.  Give it to `OAuth(store=...)`.

    Its methods raise TokenStoreError where a file is not safe, or cannot be read or written.

    Args:
        folder: made where it is missing; by default `logins_folder(os.environ)`.
        lock_timeout: seconds that `locked` waits for another process.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, lock_timeout: float = LOCK_LIMIT) -> None:
        self.folder = Path(folder).absolute() if folder is not None else logins_folder(os.environ)
        self._lock_timeout = lock_timeout

    def path_of(self, key: str) -> Path:
        """The file of the server `key`."""
        return self.folder / f"{sha256(key.encode()).hexdigest()[:32]}.json"

    async def load(self, key: str) -> Login | None:
        """The login that was saved last under `key`; None where there is none, or a file that is no login."""
        found = await self.found(key)
        if isinstance(found, Marker):
            raise TokenStoreError(
                "the login is in the keyring of this system, which cannot be used here; "
                f"to log in without it, remove {self.path_of(key)}"
            )
        return found

    async def save(self, key: str, login: Login) -> None:
        """Keeps `login` under `key`, in place of an older one."""
        await self._write(key, json.loads(login.to_json()))

    async def delete(self, key: str) -> None:
        """Forgets `key`, if it is there."""
        await in_thread(remove_private, self.path_of(key))

    async def keys(self) -> list[str]:
        """The servers that there is a login for, in order."""
        return sorted(await in_thread(_list, self.folder))

    @contextlib.asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """Held by one task of one process at a time for each `key`.

        Raises:
            TokenStoreError: another one has held it for `lock_timeout` seconds.
        """
        path, pause, held = self.path_of(key).with_suffix(".lock"), _FIRST_PAUSE, None
        with anyio.move_on_after(self._lock_timeout):
            # A thread that waits in the system for the lock could not be called back, so it only tries.
            while (held := await in_thread(try_lock, path)) is None:
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        if held is None:
            raise TokenStoreError(
                f"another program logs in or renews the login, for more than {self._lock_timeout:g} s"
            )
        with held:
            yield

    # --- for `KeyringTokenStore` --------------------------------------------------------------------------------------

    async def found(self, key: str) -> Login | Marker | None:
        """The login in the file of `key`, or the marker of one in a keyring."""
        path = self.path_of(key)
        data = await in_thread(read_private, path)
        if data is None:
            return None
        try:
            server, found = _parsed(data)
            if server != key:
                raise ValueError("it is for another server")
        except ValueError as error:
            _logger.warning("%s is no login, and counts as none: %s", path, error)
            return None
        return found

    async def mark(self, key: str, marker: Marker) -> None:
        """Keeps the `marker` of a login in a keyring, in the place of a login for `key`."""
        await self._write(key, {"keyring": marker._asdict()})

    async def _write(self, key: str, members: dict[str, Any]) -> None:
        # The server stands beside the login: the `resource` of a login may be a path above it.
        data = json.dumps({"server": key, **members}, separators=(",", ":")).encode()
        if len(data) > MAX_LOGIN_FILE:
            raise TokenStoreError(f"a login of {len(data)} bytes is not kept, and {MAX_LOGIN_FILE} are the most")
        await in_thread(write_private, self.path_of(key), data)


class Marker(NamedTuple):
    """A login in a keyring: the name of its pieces, and how many there are."""

    id: str
    pieces: int


def _parsed(data: bytes) -> tuple[str, Login | Marker]:
    """The server of a file and its login, or where that is.  Raises ValueError, which quotes nothing of the file."""
    if len(data) > MAX_LOGIN_FILE:
        raise ValueError(f"it has more than {MAX_LOGIN_FILE} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    server = found.get("server") if isinstance(found, dict) else None
    if not isinstance(server, str):
        raise ValueError("it names no server")
    marker = found.get("keyring")
    if marker is None:
        return server, Login.from_json(data)
    name, pieces = (marker.get("id"), marker.get("pieces")) if isinstance(marker, dict) else (None, None)
    if not isinstance(name, str) or type(pieces) is not int or not 0 < pieces <= MAX_PIECES:
        raise ValueError("it does not say where in the keyring the login is")
    return server, Marker(name, pieces)


def _list(folder: Path) -> list[str]:
    servers = map(_server_of, sorted(folder.glob("*.json"))[:MAX_LOGINS])
    return [server for server in servers if server is not None]


def _server_of(path: Path) -> str | None:
    try:
        return _parsed(read_private(path) or b"")[0]
    except (ValueError, OSError, TokenStoreError) as error:
        _logger.warning("%s is left out of the list: %s", path, error)
        return None
