# SPDX-License-Identifier: MIT
"""Middleware for a client's HTTP requests: headers, bearer tokens, a log, a circuit breaker.

A middleware is `async (call, next) -> answer`.  Middleware runs by its `priority`, lower ones outermost (50 if it has
none), and in the given order among equals.

It refuses to log anything that may be a secret: no header, no body, no query.

Rule: one object may serve many calls at once.  A call that is cancelled leaves no half-done work to the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

import anyio

from ...protocol.errors import again
from ...protocol.shown import escaped, escaping
from .circuit import Circuit
from .httpclient import DEFAULT_PRIORITY, HTTPCall
from .httpclient import Middleware as Middleware
from .httpclient import Next as Next
from .wire import ConnectError, HTTPAnswer, HTTPFailure

_logger = escaping(logging.getLogger(__name__))

REFRESH_BEFORE = 60.0  # seconds
BREAKER_FAILURES = 5
BREAKER_OPEN_FOR = 60.0  # seconds


def set_header(call: HTTPCall, name: str, value: str) -> None:
    """Replaces all values of the header `name`."""
    # RFC 9110, 5.1: names are the same in any case.
    wanted = name.lower()
    call.headers = [(found, old) for found, old in call.headers if found.lower() != wanted]
    call.headers.append((name, value))


class _ExtraHeaders:
    def __init__(self, headers: Mapping[str, str], priority: float) -> None:
        self.priority = priority
        self._headers = dict(headers)

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        for name, value in self._headers.items():
            set_header(call, name, value)
        return await following(call)


def extra_headers(headers: Mapping[str, str], *, priority: float = DEFAULT_PRIORITY) -> Middleware:
    """Sets these headers on every call in place of the call's own; `priority` is the place among middleware."""
    return _ExtraHeaders(headers, priority)


# --- tokens -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, `value`, that ends at `expires_at`: seconds since 1970, or None if that is not known."""

    value: str = field(repr=False)
    expires_at: float | None = None


TokenProvider = Callable[[], "Awaitable[str | Token] | str | Token"]


class BearerToken:
    """Sets `Authorization: Bearer` with a token from `provider`, and replaces any other value.

    The provider is called at the first request, again `refresh_before` seconds before the token ends, and once after a
    401, after which the request is sent again.  All requests that wait for the provider share its token, or its error.
    If the provider fails while the old token is still valid, the old token is used.

    Args:
        provider: a coroutine function, or a plain function that does not block; returns a text or a `Token`.
        refresh_before: seconds.
        priority: the place among middleware; lower is further out.
        clock: returns seconds since 1970.

    Raises:
        TypeError: the provider cannot be called.
    """

    def __init__(
        self,
        provider: TokenProvider,
        refresh_before: float = REFRESH_BEFORE,
        *,
        priority: float = DEFAULT_PRIORITY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not callable(provider):
            raise TypeError(
                f"a provider of tokens is a function or a coroutine function, not {type(provider).__name__}"
            )
        self.priority = priority
        self._provider = provider
        self._refresh_before = refresh_before
        self._clock = clock
        # A burst of requests after a token's end would ask the provider once for each.
        self._lock = anyio.Lock()
        self._token: Token | None = None
        self._rounds = 0  # how often the provider has returned or failed
        self._error: Exception | None = None  # of the last round, if it failed

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        token = await self._current()
        set_header(call, "Authorization", f"Bearer {token.value}")
        answer = await following(call)
        # RFC 9110, 15.5.2: the status that asks for other credentials.
        if answer.status != 401:
            return answer
        try:
            renewed = await self._other_than(token)
            if renewed.value == token.value:
                return answer
        except BaseException:
            await answer.aclose()
            raise
        # A server that answers 401 has not executed the request, so that any request may be repeated.
        await answer.aclose()
        set_header(call, "Authorization", f"Bearer {renewed.value}")
        return await following(call)

    async def _current(self) -> Token:
        token = self._token
        if token is not None and not self._ends_within(token, self._refresh_before):
            return token
        try:
            return await self._refresh()
        except Exception as error:
            if token is None or self._ends_within(token, 0.0):
                raise
            _logger.warning("no new token (%s); the old one still holds", type(error).__name__)
            return token

    async def _other_than(self, refused: Token) -> Token:
        """The token that another call has obtained since `refused` was sent, or a new one."""
        token = self._token
        if token is not None and token is not refused:
            return token
        return await self._refresh()

    def _ends_within(self, token: Token, seconds: float) -> bool:
        return token.expires_at is not None and token.expires_at - seconds <= self._clock()

    async def _refresh(self) -> Token:
        rounds = self._rounds
        async with self._lock:
            # Another call may have finished a round while this one waited for the lock.  A call that is cancelled while
            # it asks finishes no round, so that the next call asks again.
            if self._rounds == rounds:
                await self._ask()
        if self._error is not None:
            raise again(self._error)
        assert self._token is not None
        return self._token

    async def _ask(self) -> None:
        try:
            given: Any = self._provider()
            if isawaitable(given):
                given = await given
            if not isinstance(given, (str, Token)):
                raise TypeError(f"the provider of tokens gave no text and no Token, but {type(given).__name__}")
        except Exception as error:
            self._error = error
        else:
            self._error = None
            self._token = given if isinstance(given, Token) else Token(given)
        self._rounds += 1


# --- log --------------------------------------------------------------------------------------------------------------


class _LogCalls:
    def __init__(self, logger: logging.Logger, level: int, priority: float, clock: Callable[[], float]) -> None:
        self.priority = priority
        self._logger = logger
        self._level = level
        self._clock = clock

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        start = self._clock()
        try:
            answer = await following(call)
        except BaseException as error:
            # The type alone: the message may quote parts of the request.
            self._log(call, type(error).__name__, start)
            raise
        self._log(call, str(answer.status), start)
        return answer

    def _log(self, call: HTTPCall, outcome: str, start: float) -> None:
        url = call.url.partition("?")[0].partition("#")[0]
        took = (self._clock() - start) * 1000
        self._logger.log(self._level, "%s %s: %s after %.1f ms", call.method, escaped(url), outcome, took)


def log_calls(
    logger: logging.Logger,
    *,
    level: int = logging.INFO,
    priority: float = DEFAULT_PRIORITY,
    clock: Callable[[], float] = time.perf_counter,
) -> Middleware:
    """Logs method, URL without its query, status or kind of error, and the time to the answer's head.

    Args:
        logger, level: where the lines go, and their level.
        priority: the place among middleware; lower is further out, and its time includes the others.
        clock: returns seconds.
    """
    return _LogCalls(logger, level, priority, clock)


# --- circuit breaker --------------------------------------------------------------------------------------------------


class CircuitOpen(ConnectError):
    """The server has failed so often that requests to it are paused: nothing was sent.

    Attributes:
        retry_after: seconds until a request is let through to try.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the server has failed repeatedly; it is tried again in {retry_after:.1f} s")
        self.retry_after = retry_after


class CircuitBreaker:
    """After `failures` in a row all calls fail at once for `open_for` seconds; then one is let through to try.

    A failure is a missing answer (`HTTPFailure`), or a status of 500 or higher.  Use one breaker for each server.

    Args:
        failures: in a row, after which the circuit opens.
        open_for: seconds.
        priority: the place among middleware; lower is further out.
        clock: returns monotonic seconds.

    Raises:
        ValueError: no failures, or a pause that is not positive.
    """

    def __init__(
        self,
        failures: int = BREAKER_FAILURES,
        open_for: float = BREAKER_OPEN_FOR,
        *,
        priority: float = DEFAULT_PRIORITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.priority = priority
        self._circuit = Circuit(failures, open_for)
        self._clock = clock
        self._trying = False

    async def __call__(self, call: HTTPCall, following: Next) -> HTTPAnswer:
        probe = self._admit()
        try:
            answer = await following(call)
        except HTTPFailure:
            self._failed(probe)
            raise
        else:
            if answer.status >= 500:
                self._failed(probe)
            else:
                self._succeeded(probe)
            return answer
        finally:
            if probe:  # also if it was cancelled, which says nothing about the server
                self._trying = False

    def _admit(self) -> bool:
        """Whether this call is the one that is let through to try.  Raises CircuitOpen."""
        until = self._circuit.open_until
        if until is None:
            return False
        left = until - self._clock()
        # One call tries; the others are refused until it has told how the server is.
        if left > 0 or self._trying:
            raise CircuitOpen(max(left, 0.0))
        self._trying = True
        return True

    def _failed(self, probe: bool) -> None:
        # A call that was in progress when the circuit opened does not prolong the pause.
        if probe or not self._circuit.tripped:
            self._circuit.failed(self._clock())

    def _succeeded(self, probe: bool) -> None:
        if probe or not self._circuit.tripped:
            self._circuit.close()
