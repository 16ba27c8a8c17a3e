# SPDX-License-Identifier: MIT
"""The login at one MCP server, kept valid: loaded once, refreshed before its end, renewed after a refusal.

It decides when to refresh and when to log in; `flow` does both, and the `TokenStore` keeps the result.

Rules:
- One request to the authorization server serves all that wait for it, here and in other processes: tokens that another
  process has stored meanwhile are taken.  A failure is told to all that waited, so that no person sees two windows for
  one login.
- A refresh that has begun is finished and stored, even if its request is cancelled: the old refresh token may be of no
  use any more.
- A refresh token is dropped only when the authorization server says that it has ended, never for a broken connection.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from ...http.auth import canonical_uri
from ...protocol.errors import again
from ...protocol.shown import escaping
from ..http.httpclient import HTTPClient
from ..http.urls import shown
from .challenges import TokenWanted, split_scope
from .errors import LoginFailed, TokenStoreError
from .fetching import Fetcher, Lookup, look_up
from .flow import Discovered, Flow
from .grants import Grant
from .proofs import ProofKey
from .redirect import Redirect
from .registration import ClientOptions
from .signing import SigningKey
from .store import Login, Tokens, TokenStore
from .tokens import INVALID_GRANT, TokenRefused

logger = escaping(logging.getLogger(__name__))

RENEW_BEFORE = 60.0  # seconds; a token that lives less than four times as long is renewed in its last quarter
# Seconds for one request of a refresh, which holds up all requests of the client, and its end too.
REFRESH_LIMIT = 10.0
# Seconds from a refresh that failed to the next one, while the token still holds.
REFRESH_PAUSE = 15.0
# Logins in a row without a request that the server has accepted: for more scopes, and by a person for any reason.
MAX_STEP_UPS = 3
MAX_VAIN_LOGINS = 5
# A client that the authorization server does not know any more (RFC 6749, 5.2).
_UNKNOWN_CLIENT = ("invalid_client", "unauthorized_client")

HTTPMaker = Callable[[], HTTPClient]


@dataclass(frozen=True)
class LoginOptions:
    """The options of an `OAuth`, which explains them."""

    client: ClientOptions
    scopes: tuple[str, ...] | None
    redirect: Redirect | None
    grant: Grant | None
    store: TokenStore
    key: SigningKey | None
    private: bool
    proofs: bool = False
    clock: Callable[[], float] = time.time
    lookup: Lookup = look_up


def login_key(url: str) -> str:
    """The key of an MCP server in a store: its canonical URI, without a query.  Raises ValueError for other schemes."""
    return canonical_uri(url.partition("#")[0].partition("?")[0])


class LoginKeeper:
    """Keeps the login at the MCP server `url`."""

    def __init__(self, options: LoginOptions, url: str) -> None:
        self.url = url
        self.key = login_key(url)
        self._options = options
        self._login: Login | None = None
        self._loaded = False
        self._lead = RENEW_BEFORE
        self._paused_until = -math.inf  # for refreshing a token that still holds
        self._lock = anyio.Lock()
        self._rounds = 0  # how often the tokens were renewed, or could not be
        self._error: Exception | None = None  # of the last round
        self._asked: tuple[str, ...] = ()  # the scopes of the last login
        self._step_ups = 0
        self._vain_logins = 0
        self._refreshed_in_vain = False
        self._proof_key: ProofKey | None = None

    # --- before and after a request -------------------------------------------------------------------------

    async def tokens(self, http: HTTPMaker) -> Tokens | None:
        """The tokens to send, renewed if they end soon; None where there are none.

        Raises:
            LoginFailed: the tokens have ended and could not be refreshed.
            TokenStoreError: the store could not be read, or not be written, and the tokens have ended.
        """
        if not self._loaded:
            self._take(await self._options.store.load(self.key))
        tokens = self._current
        if tokens is None or not self._ends_within(tokens, self._lead):
            return tokens
        if self._options.clock() < self._paused_until and not self._ends_within(tokens, 0.0):
            return tokens
        if tokens.refresh_token is not None and self._login is not None and self._login.token_endpoint is not None:
            try:
                await self._once(lambda: self._refresh(http), lambda: self._current is not tokens)
            except (LoginFailed, TokenStoreError) as error:
                # Where the store alone failed there are new tokens by now.
                if self._current is None or self._ends_within(self._current, 0.0):
                    raise
                # Each request would wait for a server that does not answer.
                self._paused_until = self._options.clock() + REFRESH_PAUSE
                logger.warning(
                    "the token for %s holds, but it was not refreshed and stored: %s", shown(self.url), error
                )
            tokens = self._current
        # A token that has ended is not sent: the refusal without a token names scopes and metadata.
        return None if tokens is None or self._ends_within(tokens, 0.0) else tokens

    @property
    def has_no_tokens(self) -> bool:
        """Whether `tokens` gives None without waiting."""
        return self._loaded and self._current is None

    @property
    def proof_key(self) -> ProofKey | None:
        """The key that the tokens are bound to; None for bearer tokens.  Raises LoginFailed where it cannot be used."""
        text = None if self._login is None else self._login.proof_key
        if text is None:
            return None
        # Kept, since it has the nonces and is slow to read.
        if self._proof_key is None or self._proof_key.text != text:
            try:
                self._proof_key = ProofKey(text, self._options.clock)
            except (ImportError, ValueError) as error:
                raise LoginFailed(str(error)) from None
        return self._proof_key

    def accepted(self) -> None:
        """The server has accepted the tokens."""
        self._step_ups = self._vain_logins = 0
        self._refreshed_in_vain = False

    def may_help(self, status: int, wanted: TokenWanted) -> bool:
        """Whether other tokens can help after a refusal with this status, 401 or 403."""
        if status == 401:
            return True
        if wanted.error != "insufficient_scope" or not wanted.scopes or self._step_ups >= MAX_STEP_UPS:
            return False
        # Scopes that were asked for before were refused to the person: asking again would ask for ever.
        return not set(wanted.scopes) <= set(self._earlier())

    async def renewed(
        self, used: Tokens | None, wanted: TokenWanted, http: HTTPMaker, *, person: bool
    ) -> Tokens | None:
        """Other tokens than those that the server has refused; None where there are none.

        Args:
            used: the tokens of the refused request.
            person: a person may be asked to log in.

        Raises:
            LoginFailed: a step of the login has failed.
            TokenStoreError: the store could not be read or written.
        """
        old = None if used is None else used.access_token

        def done() -> bool:
            tokens = self._current
            return tokens is not None and tokens.access_token != old and not self._ends_within(tokens, 0.0)

        # Another request has renewed them since this one was sent.
        if not (done() and wanted.error != "insufficient_scope"):
            await self._once(lambda: self._renew(old, wanted, http, person), done)
        return self._current if done() else None

    async def log_in(self, wanted: TokenWanted, http: HTTPMaker) -> Login:
        """A new login in any case.  Raises as `renewed`."""

        async def work() -> None:
            async with http() as client:
                flow = self._flow(client)
                stored = await self._options.store.load(self.key)
                found = await flow.discover(wanted, None if stored is None else stored.issuer)
                await self._store(await self._obtain(flow, found, wanted, stored))

        before = self._login
        await self._once(work, lambda: self._login is not before)
        assert self._login is not None
        return self._login

    async def log_out(self, http: HTTPMaker) -> bool:
        """Forgets the login, and tells the authorization server.  Returns whether there was one."""
        async with self._lock, self._options.store.locked(self.key):
            login = await self._options.store.load(self.key)
            self._take(None)
            await self._options.store.delete(self.key)
        if login is None:
            return False
        try:
            async with http() as client:
                await self._flow(client).end(login)
        except LoginFailed as error:
            # It is forgotten here in any case.
            logger.warning("the authorization server was not told of the logout: %s", error)
        return True

    # --- one round ------------------------------------------------------------------------------------------

    async def _once(self, work: Callable[[], Awaitable[None]], done: Callable[[], bool]) -> None:
        """Runs `work` for all that wait, or takes the result of another one that ran meanwhile.

        A round that is cancelled does not count, so that the next waiter begins its own.
        """
        rounds = self._rounds
        async with self._lock:
            if self._rounds == rounds or (self._error is None and not done()):
                try:
                    async with self._options.store.locked(self.key):
                        await work()
                except Exception as error:
                    self._error = error
                else:
                    self._error = None
                self._rounds += 1
            error_of_round = self._error
        if error_of_round is not None:
            raise again(error_of_round)

    async def _refresh(self, http: HTTPMaker) -> None:
        mine = self._current
        # A logout in another process counts here too.
        self._take(await self._options.store.load(self.key))
        now = self._current
        # Another process has refreshed them.
        if now is None or now.refresh_token is None:
            return
        if mine is not None and now.access_token != mine.access_token and not self._ends_within(now, self._lead):
            return
        async with http() as client:
            await self._refreshed(self._flow(client, REFRESH_LIMIT))

    async def _refreshed(self, flow: Flow) -> bool:
        """Refreshes and stores.  False if the refresh token has ended.  Raises LoginFailed for all other failures."""
        login = self._login
        assert login is not None and login.tokens is not None
        with anyio.CancelScope(shield=True):
            try:
                renewed = await flow.refreshed(login)
            except TokenRefused as error:
                if error.code in _UNKNOWN_CLIENT:
                    self._take(None)
                    await self._options.store.delete(self.key)
                    return False
                if error.code != INVALID_GRANT:
                    address = shown(login.token_endpoint or "")
                    raise LoginFailed(str(error), step="refresh", address=address) from None
                logger.info("the refresh token for %s has ended", shown(self.url))
                await self._store(replace(login, tokens=replace(login.tokens, refresh_token=None)))
                return False
            await self._store(renewed)
        return True

    async def _renew(self, old: str | None, wanted: TokenWanted, http: HTTPMaker, person: bool) -> None:
        stored = await self._options.store.load(self.key)
        login = self._usable(stored)
        self._take(login)
        tokens = self._current
        fresh = tokens is not None and tokens.access_token != old and not self._ends_within(tokens, 0.0)
        if fresh and wanted.error != "insufficient_scope":
            return
        # A server that refuses each token would send a person to login after login.
        person = person and self._options.redirect is not None and self._vain_logins < MAX_VAIN_LOGINS
        able = self._options.grant is not None or person
        if not able and (tokens is None or tokens.refresh_token is None):
            return
        async with http() as client:
            flow = self._flow(client)
            # The authorization server may have changed; a token is never asked for at the old one then.
            found = await flow.discover(wanted, None if login is None else login.issuer)
            if self._may_refresh(found, wanted):
                assert self._login is not None
                self._login = replace(self._login, token_endpoint=found.server.token_endpoint)
                if await self._refreshed(self._flow(client, REFRESH_LIMIT)):
                    self._refreshed_in_vain = True  # until the server accepts a request
                    return
            if able:
                await self._store(await self._obtain(flow, found, wanted, login if self._login is not None else None))

    def _may_refresh(self, found: Discovered, wanted: TokenWanted) -> bool:
        login = self._login
        return (
            login is not None
            and login.tokens is not None
            and login.tokens.refresh_token is not None
            and found.server.token_endpoint is not None
            and login.issuer == found.server.issuer
            and login.resource == found.resource.resource
            and wanted.error != "insufficient_scope"
            and not self._refreshed_in_vain
        )

    async def _obtain(self, flow: Flow, found: Discovered, wanted: TokenWanted, stored: Login | None) -> Login:
        options = self._options
        person = options.grant is None
        mine = stored is not None and stored.issuer == found.server.issuer
        scopes = flow.chosen_scopes(wanted, found, self._earlier() if mine else (), refreshable=person)
        self._step_ups += wanted.error == "insufficient_scope"
        self._vain_logins += person
        if options.grant is not None:
            login = await flow.by_grant(found, scopes, stored, options.grant)
        elif options.redirect is not None:
            login = await flow.by_person(found, scopes, stored, options.redirect)
        else:
            raise LoginFailed("there is no way to ask a person; give OAuth(redirect=...)")
        self._asked = scopes
        self._refreshed_in_vain = False
        return login

    # --- what is kept ---------------------------------------------------------------------------------------

    @property
    def _current(self) -> Tokens | None:
        return None if self._login is None else self._login.tokens

    def _earlier(self) -> tuple[str, ...]:
        """The scopes that were asked for or granted."""
        tokens = self._current
        granted = split_scope(tokens.scope) if tokens is not None and tokens.scope else ()
        return tuple(dict.fromkeys((*self._asked, *granted)))

    def _usable(self, login: Login | None) -> Login | None:
        """The stored login, if it belongs to the client that the user has given."""
        given = self._options.client.given
        if login is None or given is None or login.client.client_id == given.client_id:
            return login
        return None

    def _take(self, login: Login | None) -> None:
        before = self._current
        self._login = self._usable(login)
        self._loaded = True
        # How long stored tokens lived is not known.
        if self._current != before:
            self._lead = RENEW_BEFORE

    async def _store(self, login: Login) -> None:
        # First in memory: the tokens hold, even if the store cannot be written.
        self._take(login)
        if login.tokens is not None and login.tokens.expires_at is not None:
            lifetime = login.tokens.expires_at - self._options.clock()
            self._lead = min(RENEW_BEFORE, max(lifetime / 4, 0.0))
        await self._options.store.save(self.key, login)

    def _ends_within(self, tokens: Tokens, seconds: float) -> bool:
        return tokens.expires_at is not None and tokens.expires_at - seconds <= self._options.clock()

    def _flow(self, client: HTTPClient, limit: float | None = None) -> Flow:
        options = self._options
        fetcher = Fetcher(client, self.url, private=options.private, lookup=options.lookup, limit=limit)
        return Flow(self.url, fetcher, options.client, options.scopes, options.key, options.proofs, options.clock)
