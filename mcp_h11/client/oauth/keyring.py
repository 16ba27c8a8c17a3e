# SPDX-License-Identifier: MIT
"""Keeps logins in the keyring of the system, by the package `keyring` (`pip install 'mcp_h11[keyring]'`).

Keyrings have no list and no locks, and that of Windows takes 2,560 bytes for one secret.  So a login is cut into pieces
of that size, and a file in the folder of `FileTokenStore` names the server and the pieces.  The file holds no secret.
It takes the place of the old one after its pieces are there: a process that is killed leaves the old login or the new
one.

Rule: a keyring may ask the person for its password, so its calls run in threads, with a limit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import anyio

from ...protocol.shown import escaping
from ..http.urls import shown
from .daemons import in_daemon
from .errors import TokenStoreError
from .files import LOCK_LIMIT, MAX_PIECES, FileTokenStore, Marker, logins_folder
from .private import VARIABLE
from .store import Login

_logger = escaping(logging.getLogger(__name__))
_Result = TypeVar("_Result")

SERVICE = "mcp_h11"  # the name that the keyring shows for an entry
MAX_PIECE = 1_200  # characters: Windows takes 2,560 bytes of UTF-16
KEYRING_LIMIT = 60.0  # seconds for one call, in which a person may type a password


class SystemKeyring(Protocol):
    """The part of a keyring that is used, as the module `keyring` has it."""

    def get_password(self, service: str, username: str) -> str | None:
        """The secret, or None."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keeps the secret."""

    def delete_password(self, service: str, username: str) -> None:
        """Removes the secret."""


def system_keyring() -> SystemKeyring | None:
    """The keyring of this system; None where the package is not installed, or finds no keyring that works."""
    try:
        import keyring
        from keyring.backends import fail, null
    except ImportError:
        return None
    found: Any = keyring.get_keyring()
    # `null` forgets each entry, and `fail` raises.
    if isinstance(found, (fail.Keyring, null.Keyring)) or not getattr(found, "priority", 0) > 0:
        return None
    return found  # type: ignore[no-any-return]


class KeyringTokenStore:
    """A `TokenStore` in the keyring of the system.  Give it to `OAuth(store=...)`.

    A login that lies in a file, from the time before there was a keyring, is read there, and moves at the next `save`.

    Args:
        folder: of the files that say which logins there are; by default `logins_folder(os.environ)`.
        backend: by default the keyring of this system.
        lock_timeout: seconds that `locked` waits for another process.
        required: without it logins are in files where there is no keyring, and one is looked for when a login is read
            from it or written: a program that finds no login is not to load the package `keyring`.

    Raises:
        TokenStoreError: there is no keyring, and it is required.  The methods raise it where the keyring refuses, or
            does not answer.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        backend: SystemKeyring | None = None,
        lock_timeout: float = LOCK_LIMIT,
        required: bool = True,
    ) -> None:
        self._backend = system_keyring() if required and backend is None else backend
        self._found = required or backend is not None
        if required and self._backend is None:
            raise TokenStoreError("there is no keyring: install 'mcp_h11[keyring]', or keep logins in a FileTokenStore")
        self._files = FileTokenStore(folder, lock_timeout=lock_timeout)
        self.locked = self._files.locked
        self.keys = self._files.keys

    async def load(self, key: str) -> Login | None:
        """The login that was saved last under `key`; None where there is none, or not all of it."""
        found = await self._files.found(key)
        backend = await self._keyring() if isinstance(found, Marker) else None
        if not isinstance(found, Marker) or backend is None:
            return await self._files.load(key)
        pieces = [await self._call(backend.get_password, SERVICE, name) for name in _names(found)]
        try:
            return Login.from_json("".join(piece or "" for piece in pieces))
        except ValueError as error:
            _logger.warning("the keyring has no whole login for %s, which counts as none: %s", shown(key), error)
            return None

    async def save(self, key: str, login: Login) -> None:
        """Keeps `login` under `key`, in place of an older one."""
        backend, before = await self._keyring(), await self._files.found(key)
        if backend is None:
            await self._files.save(key, login)
            return
        text = login.to_json()
        pieces = [text[start : start + MAX_PIECE] for start in range(0, len(text), MAX_PIECE)]
        if len(pieces) > MAX_PIECES:
            raise TokenStoreError(f"a login of {len(text)} characters is not kept")
        marker = Marker(secrets.token_hex(8), len(pieces))
        for name, piece in zip(_names(marker), pieces, strict=True):
            await self._call(backend.set_password, SERVICE, name, piece)
        await self._files.mark(key, marker)
        await self._forget(before)

    async def delete(self, key: str) -> None:
        """Forgets `key`, if it is there."""
        before = await self._files.found(key)
        await self._files.delete(key)
        await self._forget(before)

    async def _forget(self, before: Login | Marker | None) -> None:
        backend = await self._keyring() if isinstance(before, Marker) else None
        if isinstance(before, Marker) and backend is not None:
            for name in _names(before):
                # It may have been removed by hand.
                with contextlib.suppress(TokenStoreError):
                    await self._call(backend.delete_password, SERVICE, name)

    async def _keyring(self) -> SystemKeyring | None:
        if not self._found:
            self._backend = await self._call(system_keyring)
            self._found = True
        return self._backend

    async def _call(self, work: Callable[..., _Result], *arguments: str) -> _Result:
        """Raises TokenStoreError."""
        with anyio.move_on_after(KEYRING_LIMIT):
            try:
                return await in_daemon(work, *arguments)
            # Each backend has its own errors; the name alone, since the words might quote an entry.
            except Exception as error:
                raise TokenStoreError(f"the keyring of this system refuses: {type(error).__name__}") from None
        raise TokenStoreError(f"the keyring of this system has not answered for {KEYRING_LIMIT:g} s")


def _names(marker: Marker) -> list[str]:
    return [f"{marker.id}.{number}" for number in range(marker.pieces)]


def default_store(environ: Mapping[str, str]) -> FileTokenStore | KeyringTokenStore:
    """Where the command line keeps logins: in the keyring if there is one, else in files.

    A folder in `MCP_H11_LOGINS` is for files in any case.  Raises TokenStoreError where there is no place at all.
    """
    folder = logins_folder(environ)
    if environ.get(VARIABLE) or importlib.util.find_spec("keyring") is None:
        return FileTokenStore(folder)
    return KeyringTokenStore(folder, required=False)
