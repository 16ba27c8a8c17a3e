# SPDX-License-Identifier: MIT
"""Logins as values that turn into JSON and back, and the places that keep them.

A `TokenStore` keeps one `Login` for each MCP server.  Its key is the canonical URI of the server, which is the
`resource` of RFC 8707, so that no token is found for another server.  `MemoryTokenStore` forgets all when the process
ends.

Rules:
- No secret is in a `repr`, and no error quotes a record: both get into logs.
- The record names the authorization server that issued its tokens and its client id.  Credentials are bound to that
  issuer (2026-07-28 basic/authorization, Authorization Server Binding), and the client uses them nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import anyio

LOGIN_VERSION = 1
MAX_LOGIN = 256 * 1024  # characters of a record; a token of 16 KiB fits many times


@dataclass(frozen=True)
class Registration:
    """The client as one authorization server knows it (RFC 6749, 2.2; RFC 7591, 3.2.1).

    Attributes:
        client_id: the name of the client.
        client_secret: its secret, or None for a public client.
        origin: how the client got its id: "given" by the user, "metadata" (the id is the address of a document), or
            "registered" by dynamic registration.
        auth_method: how the client shows its secret at the token endpoint: "client_secret_basic",
            "client_secret_post", "private_key_jwt" or "none"; None where the server may choose.
        redirect_uris: the addresses that it was registered with.
        secret_expires_at: seconds since 1970; None if the secret does not end.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    origin: str = "given"
    auth_method: str | None = None
    redirect_uris: tuple[str, ...] = ()
    secret_expires_at: float | None = None


@dataclass(frozen=True)
class Tokens:
    """The answer of a token endpoint (RFC 6749, 5.1).

    Attributes:
        access_token: sent with each request to the MCP server.
        token_type: "Bearer", or "DPoP" for a token that needs a proof with each request.
        refresh_token: gets the next access token; None if there is none.
        expires_at: seconds since 1970; None if the server did not say.
        scope: the scopes that were granted, with blanks between; None if they are not known.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    scope: str | None = None


@dataclass(frozen=True)
class Login:
    """One login; a `TokenStore` keeps one for each MCP server.

    Attributes:
        resource: the URI that the tokens are for: that of the MCP server, or of a path above it (RFC 8707, 2).
        issuer: the authorization server that issued `client` and `tokens`.
        client: the client as that server knows it.
        tokens: None after a registration whose login has not come to its end.
        token_endpoint: where the tokens are refreshed, so that a process that starts needs no search for it.
        subject: a name of the person who logged in, if the authorization server gave one; for people to read.
        proof_key: the private key that the tokens are bound to, as JSON; None for bearer tokens.
    """

    resource: str
    issuer: str
    client: Registration
    tokens: Tokens | None = None
    token_endpoint: str | None = None
    subject: str | None = None
    proof_key: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """The record as one line of JSON.  It holds secrets."""
        return json.dumps({"version": LOGIN_VERSION, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Login:
        """The record that `to_json` wrote.

        Raises:
            ValueError: the text is no record, is longer than `MAX_LOGIN`, or has another version.  The error quotes
                nothing of it.
        """
        if len(text) > MAX_LOGIN:
            raise ValueError(f"a stored login has more than {MAX_LOGIN} characters")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("a stored login is not JSON") from None
        if not isinstance(found, dict) or found.pop("version", None) != LOGIN_VERSION:
            raise ValueError(f"a stored login does not have version {LOGIN_VERSION}; remove it and log in again")
        client, tokens = found.get("client"), found.get("tokens")
        try:
            login = cls(
                _text(found, "resource"),
                _text(found, "issuer"),
                _registration(client if isinstance(client, dict) else {}),
                None if tokens is None else _tokens(tokens if isinstance(tokens, dict) else {}),
                _perhaps(found, "token_endpoint"),
                _perhaps(found, "subject"),
                _perhaps(found, "proof_key"),
            )
        except (KeyError, TypeError, OverflowError):
            raise ValueError("a stored login has members that are missing or of a wrong type") from None
        return login


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _perhaps(found: dict[str, Any], name: str) -> str | None:
    return None if found.get(name) is None else _text(found, name)


def _seconds(found: dict[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    # A time that is no number (NaN) would never come.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(name)
    return float(value)


def _registration(found: dict[str, Any]) -> Registration:
    uris = found.get("redirect_uris", [])
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise TypeError("redirect_uris")
    return Registration(
        _text(found, "client_id"),
        _perhaps(found, "client_secret"),
        _text(found, "origin"),
        _perhaps(found, "auth_method"),
        tuple(uris),
        _seconds(found, "secret_expires_at"),
    )


def _tokens(found: dict[str, Any]) -> Tokens:
    return Tokens(
        _text(found, "access_token"),
        _text(found, "token_type"),
        _perhaps(found, "refresh_token"),
        _seconds(found, "expires_at"),
        _perhaps(found, "scope"),
    )


class TokenStore(Protocol):
    """Keeps one `Login` for each key.  Give one as `OAuth(store=...)`; a `TokenStoreError` of it ends the request."""

    async def load(self, key: str) -> Login | None:
        """The login that was saved last under `key`, or None."""

    async def save(self, key: str, login: Login) -> None:
        """Keeps `login` under `key`, in place of an older one.  After a crash one of the two is there, whole."""

    async def delete(self, key: str) -> None:
        """Forgets `key`, if it is there."""

    def locked(self, key: str) -> AbstractAsyncContextManager[None]:
        """Held while one process refreshes or logs in under `key`: it keeps all others that share the store from it.

        The one that waited loads the login again, and mostly finds new tokens.  `load`, `save` and `delete` work
        inside and outside of it.
        """
        ...


class MemoryTokenStore:
    """Keeps logins in this process, until it ends; several clients may share one."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}
        self._locks: dict[str, anyio.Lock] = {}

    async def load(self, key: str) -> Login | None:
        """The login that was saved last under `key`, or None."""
        return self._logins.get(key)

    async def save(self, key: str, login: Login) -> None:
        """Keeps `login` under `key`, in place of an older one."""
        self._logins[key] = login

    async def delete(self, key: str) -> None:
        """Forgets `key`, if it is there."""
        self._logins.pop(key, None)

    @asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """Held by one task at a time for each key."""
        lock = self._locks.setdefault(key, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            # A lock belongs to one event loop, so none is kept after its last task has left.
            statistics = lock.statistics()
            if not statistics.locked and not statistics.tasks_waiting and self._locks.get(key) is lock:
                del self._locks[key]
