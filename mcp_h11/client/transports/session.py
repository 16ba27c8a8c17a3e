# SPDX-License-Identifier: MIT
"""The session of a Streamable HTTP client: its id, the doubt whether the server still knows it, a new handshake.

2025-03-26 to 2025-11-25 have sessions, 2026-07-28 has none.  The transport asks this module two questions: does a
refusal mean that the server has forgotten the session, and is there a session to send this message in.

Rules:
- A 404 to a request that named a session is the end of the session, and a 404 to any other request is not.  Another
  4xx may be the end (restarted servers say 400): a ping in that session decides.
- If many requests find the session gone, the client still sends one ping, and makes one new handshake.
  Each runs in a task of its own, so that the cancellation of one request does not cancel what the others wait for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from ...protocol.errors import MODERN_REFUSALS, PARSE_ERROR, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED, MCPError
from ...protocol.shown import escaping
from .errors import NO_VERDICT, ConnectionLost, HTTPStatusError

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Seconds for the ping in a doubtful session.  A session whose ping gets no answer counts as good.
CHECK_LIMIT = 5.0
# Errors about one request: a server that answers with one of them has accepted the session before.
_OF_THE_REQUEST = MODERN_REFUSALS | {PARSE_ERROR, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED}
_OF_THE_SESSION = re.compile("session|initiali[sz]", re.IGNORECASE)


class Renewal:
    """One new handshake, and the event that all requests of the old session wait for."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: Exception | None = None


class Check:
    """One ping in a session that may be gone, for all requests that were refused in it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.gone = False


class HTTPSession:
    """The session at one server, through all its handshakes.

    Args:
        address: the server's URL, as log lines may show it.
        ping: sends a ping in the session with this id.  It returns the refusal, or None if the server accepted it.

    Attributes:
        id: the value of Mcp-Session-Id; None where the server gave none, and in 2026-07-28.
        generation: how many new handshakes there were.  A request notes it when it is sent, so that its refusal is
            not taken for one of a later session.
    """

    def __init__(self, address: str, ping: Callable[[str], Awaitable[HTTPStatusError | None]]) -> None:
        self.id: str | None = None
        self.generation = 0
        self._address = address
        self._ping = ping
        self._good = -1  # the generation in which the server last accepted a request
        self._check: Check | None = None
        self._renewal: Renewal | None = None
        self._forgotten = False  # the session is gone, and the handshake after it failed
        self._handshake: Callable[[], Awaitable[None]]
        self._tasks: TaskGroup

    def start(self, handshake: Callable[[], Awaitable[None]], tasks: TaskGroup) -> None:
        """Says how a new handshake is made, and where tasks run."""
        self._handshake = handshake
        self._tasks = tasks

    def settle(self, modern: bool) -> None:
        """A handshake is over.  In a revision without sessions the old session has no meaning any more."""
        self._forgotten = False
        if modern:
            self.id = None

    def accepted(self) -> None:
        """The server has accepted a request in the present session."""
        self._good = self.generation

    # --- is it gone? ----------------------------------------------------------------------------------------

    async def forgotten_by(self, refused: HTTPStatusError, session: str | None) -> bool:
        """Whether this refusal of a request in `session` means that the server does not know that session any more.

        404 means it (2025-11-25 basic/transports, Session Management 3).  Other 4xx may mean it if the server accepted
        the session before: restarted servers say 400, or 401 without a challenge.  A ping decides then.
        """
        if session is None or refused.status == 404:
            return session is not None
        if not _may_mean_the_session(refused):
            return False
        if self.id != session:
            return True  # an earlier refusal has ended this session already
        if self._good != self.generation:
            return False
        check = self._check
        if check is None:
            check = self._check = Check()
            self._tasks.start_soon(self._run_check, check, session)
        await check.done.wait()
        return check.gone

    async def _run_check(self, check: Check, session: str) -> None:
        try:
            with anyio.move_on_after(CHECK_LIMIT):
                refused = await self._ping(session)
                check.gone = refused is not None and _may_mean_the_session(refused)
        except MCPError as error:
            logger.debug("the ping in the session at %s failed, and the session is kept: %s", self._address, error)
        finally:
            self._check = None
            check.done.set()

    # --- a new one ------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether `ready` has nothing to wait for."""
        return self._renewal is None and not self._forgotten

    async def ready(self) -> None:
        """Waits while a new handshake is made.  Raises ConnectionLost if there is no session to be had."""
        if not self.is_ready:
            # A request that waits here has not left, so that it may be repeated without harm.
            await self.renewed(self.generation, sent=False)

    async def renewed(self, generation: int, *, sent: bool) -> None:
        """Waits until there is a later session than that.  Raises ConnectionLost if there is none to be had."""
        if self.generation != generation:
            return
        renewal = self.renew(generation)
        await renewal.done.wait()
        if renewal.error is not None:
            message = f"the session was lost, and there is no new one: {renewal.error}"
            raise ConnectionLost(message, sent=sent) from renewal.error

    def renew(self, generation: int) -> Renewal:
        """Begins the handshake after the session of this generation, unless it has begun or is over already."""
        if self._renewal is not None:
            return self._renewal
        renewal = Renewal()
        if self.generation != generation:
            renewal.done.set()
            return renewal
        self._renewal = renewal
        self.id = None
        self._tasks.start_soon(self._run_renewal, renewal)
        return renewal

    async def _run_renewal(self, renewal: Renewal) -> None:
        try:
            await self._handshake()
            self.generation += 1
            self._forgotten = False
        except Exception as error:
            logger.warning("the session at %s is gone, and the new handshake failed: %s", self._address, error)
            renewal.error = error
            self._forgotten = True
        finally:
            self._renewal = None
            renewal.done.set()


def _may_mean_the_session(refused: HTTPStatusError) -> bool:
    """Whether a server that does not know the session may refuse a request like this."""
    named = _OF_THE_SESSION.search(refused.reason) is not None
    if refused.status in NO_VERDICT:
        return refused.status == 401 and named and "www-authenticate" not in refused.headers
    # A server that complains of the method or its params has accepted the session before.
    of_the_request = refused.rpc and refused.code in _OF_THE_REQUEST and not named
    return 400 <= refused.status < 500 and not of_the_request
