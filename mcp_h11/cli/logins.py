# SPDX-License-Identifier: MIT
"""The logins of this user, as every command uses them: where they are kept, and the `OAuth` for one server.

Rule: a login that is stored is used with the client that it was made with, so that a program which knows no client id
can renew it.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ..client.http.httpclient import HTTPCall, HTTPClient, Middleware, Next
from ..client.http.urls import is_url, shown
from ..client.http.wire import HTTPAnswer
from ..client.oauth.errors import TokenStoreError
from ..client.oauth.files import FileTokenStore
from ..client.oauth.keeper import login_key
from ..client.oauth.keyring import KeyringTokenStore, default_store
from ..client.oauth.oauth import OAuth
from ..client.oauth.redirect import Redirect
from ..client.oauth.store import Login
from ..client.targets import Url
from ..http.addresses import on_loopback
from ..protocol.shown import escaping
from .parser import ENVIRONMENT_PREFIX, UsageError
from .program import login_command

logger = escaping(logging.getLogger(__name__))

CLIENT_SECRET = ENVIRONMENT_PREFIX + "CLIENT_SECRET"


@dataclass(frozen=True)
class ClientGiven:
    """The client that a person names for a login; all of it may be missing."""

    id: str | None = None
    secret: str | None = None
    issuer: str | None = None
    scopes: Sequence[str] | None = None


def takes_login(url: str) -> bool:
    """Whether tokens can be sent to this target: an address with https, or with http on loopback."""
    if not is_url(url):
        return False
    try:
        key = login_key(url)
    except ValueError:
        return False
    scheme, _, rest = key.partition("://")
    host = rest.partition("/")[0]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return scheme == "https" or on_loopback(host)


def store_of_user() -> FileTokenStore | KeyringTokenStore:
    """Where the logins of this user are kept.  Raises UsageError."""
    try:
        return default_store(os.environ)
    except TokenStoreError as error:
        raise UsageError(str(error)) from None


async def stored_login(store: FileTokenStore | KeyringTokenStore, url: str) -> Login | None:
    """The login at a server.  Raises UsageError."""
    try:
        return await store.load(login_key(url))
    except TokenStoreError as error:
        raise UsageError(str(error)) from None


def oauth_for(
    store: FileTokenStore | KeyringTokenStore,
    login: Login | None = None,
    *,
    redirect: Redirect | None = None,
    client: ClientGiven | None = None,
) -> OAuth:
    """OAuth with the logins of this user.

    Args:
        login: the one that is there; its client is used again if a person has named it.
        redirect: asks the person; without it no login begins.
        client: named by the person.

    Raises:
        UsageError: the options of the client contradict each other.
    """
    client = client or ClientGiven()
    if client.id is None and login is not None and login.client.origin == "given":
        client = ClientGiven(login.client.client_id, login.client.client_secret, login.issuer, client.scopes)
    try:
        return OAuth(
            client_id=client.id,
            client_secret=client.secret if client.id is not None else None,
            issuer=client.issuer,
            scopes=client.scopes,
            redirect=redirect,
            store=store,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


class LoginOfUser:
    """The logins of this user for a bridge, which asks no person: it logs the command by which one can log in.

    It is for `Url(auth=...)`, and one object serves any number of servers.

    Raises:
        UsageError: there is no place for logins.
    """

    def __init__(self) -> None:
        self._oauth = oauth_for(store_of_user())

    def middleware(
        self,
        url: str,
        http: Callable[[], HTTPClient] | None = None,
        patience: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Middleware:
        """The middleware of one client; see `OAuth.middleware`."""
        return _Telling(self._oauth.middleware(url, http, patience), url)

    def given_to(self, spec: Url) -> Url:
        """The server with these logins, where it has no credentials of its own and tokens can be sent to it."""
        has_own = spec.token is not None or any(name.lower() == "authorization" for name in spec.headers)
        return spec if has_own or not takes_login(spec.url) else replace(spec, auth=self)


class _Telling:
    """Logs once that a server wants a login, and once more after it had one."""

    priority = math.inf

    def __init__(self, inner: Middleware, url: str) -> None:
        self._inner = inner
        self._url = url
        self._told = False

    @property
    def goes_straight(self) -> bool:
        """As that of the middleware inside, but for an answer that ends the refusals; see `HTTPClient.begin`."""
        return not self._told and getattr(self._inner, "goes_straight", False) is True

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        answer = await self._inner(call, following)
        if answer.status == 401 and not self._told:
            self._told = True
            logger.warning("%s wants a login: %s", shown(self._url), login_command(self._url))
        elif answer.status < 400:
            self._told = False
        return answer
