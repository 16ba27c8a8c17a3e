# SPDX-License-Identifier: MIT
"""Takes the log levels and subscriptions of clients, and passes them on to the backends that serve those clients.

`interests` counts which client wants which resource; this module finds the backend for a client, tells it, and takes
the wishes of closed clients back.

Rules:
- No client waits for an answer of a backend longer than `SUBSCRIBE_TIME`, and for those of many no longer than twice.
- A client is told that it listens to a resource after the backend knows of it: it may change in the next moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ..client.transports.jobs import begin_soon
from ..handler.context import Context
from ..handler.handler import Ready
from ..http.auth import subject
from ..protocol.errors import INTERNAL_ERROR, MCPError
from ..protocol.methods import log_rank
from ..protocol.shown import escaping
from .backends import SUBSCRIBE_TIME, Backend, Tenant
from .callers import Caller, is_one_client, lasting_session
from .generations import Generation, Generations
from .interests import Interests
from .troubles import as_answer

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..eras.session import Session

logger = escaping(logging.getLogger(__name__))


class InterestRelay:
    """The clients of a bridge that want log messages, or notices of resources.

    Args:
        generations: the backends.
        interests: the wishes of the clients of the shared backend.

    Attributes:
        log_sessions: the sessions that asked for a log level.
        walks: clients without a session, while a task subscribes to their resources at a backend.
    """

    def __init__(self, generations: Generations, interests: Interests) -> None:
        self.log_sessions: dict[Session, None] = {}
        self.walks: set[ListenHandle] = set()
        self._generations = generations
        self._interests = interests
        self._taking_back: set[Interests] = set()  # a task takes their last wishes back at a backend
        self._tasks: TaskGroup | None = None

    def open(self, tasks: TaskGroup) -> None:
        """Serving begins."""
        self._tasks = tasks

    def close(self) -> None:
        """Serving has ended."""
        self._tasks = None

    # --- clients with a session --------------------------------------------------------------------------------

    async def set_level(self, level: str, ctx: Context) -> None:
        """Tell the backend the lowest level of all its sessions; each session still gets no more than it asked for."""
        session = lasting_session(ctx)
        # A stateless request ends at once, and its level with it.
        if session is None:
            return
        backend = self._generations.backend_of(Caller(ctx))
        self.log_sessions[session] = None
        # Kept before the backend is told: one that is connected again gets it too.
        backend.interests.levels[session] = log_rank(level)
        await backend.apply_level()

    async def subscribe(self, uri: str, ctx: Context) -> None:
        """Subscribe a session.  Only the first session for a resource makes the bridge subscribe at the backend."""
        session = lasting_session(ctx)
        if session is not None:
            caller = Caller(ctx)
            await self._subscribe(self._generations.backend_of(caller), uri, session, caller.party)

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        """Unsubscribe a session.  The last session for a resource makes the bridge unsubscribe at the backend."""
        session = lasting_session(ctx)
        if session is not None:
            interests = self._generations.backend_of(Caller(ctx)).interests
            if interests.leave(session, uri):
                await interests.take_back(_unsubscribed, uri)

    # --- clients without a session -----------------------------------------------------------------------------

    def listened_by(
        self, uris: Collection[str], alive: Callable[[], bool], principal: Any, party: str, ready: Ready
    ) -> None:
        """Count a client that opened a listen stream among those that subscribed, while it is `alive`.

        Calls `ready` with those of `uris` that the backend has refused: when it has answered for all of them, or for
        as many as it could within `SUBSCRIBE_TIME`.
        """
        client = ListenHandle(list(uris), alive, ready)
        if self._tasks is None:
            client.tell(())
        else:
            begin_soon(self._tasks, self._listen_for, principal, client, party)

    async def _listen_for(self, principal: Any, client: ListenHandle, party: str) -> None:
        generation, current = None, self._generations
        client.scope = anyio.CancelScope()
        self.walks.add(client)
        try:
            with client.scope:
                # Once more after a swap: the client may have come too early for the new generation to know of it.
                while current.now is not None and current.now is not generation and not client.closed:
                    generation = current.now
                    await self._subscribe_all(generation, principal, client, party)
        finally:
            self.walks.discard(client)
            client.tell(())

    async def _subscribe_all(self, generation: Generation, principal: Any, client: ListenHandle, party: str) -> None:
        limit = anyio.current_time() + SUBSCRIBE_TIME
        tenant = Tenant(("principal", subject(principal)), None, party, is_one_client(principal))
        refused: dict[str, MCPError] = {}
        # One after the other, since a backend may be slow; `closed` ends the walk of a client that has left.
        uris = client.uris
        for uri in uris:
            if client.closed:
                return
            try:
                await self._subscribe(generation.backend_for(tenant), uri, client, party)
            except MCPError as exc:
                refused[uri] = exc
            if anyio.current_time() > limit:
                client.tell(refused)
        client.tell(refused)
        if refused:
            uri, reason = next(iter(refused.items()))
            logger.info("%d of %d resources are not listened to at the backend; the first one is %.200s: %s",
                        len(refused), len(uris), uri, reason)  # fmt: skip

    # --- at the backend ----------------------------------------------------------------------------------------

    async def _subscribe(self, backend: Backend, uri: str, client: Any, party: str) -> None:
        """Count one more client for this resource.  `client` has `closed`.  Raises MCPError if the backend refuses."""
        try:
            with anyio.fail_after(SUBSCRIBE_TIME):
                await backend.interests.subscribe(uri, client, party, backend, partial(_subscribed, backend, uri))
        except TimeoutError:
            raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} did not take the subscription") from None

    def forget_closed(self) -> None:
        """Drop the wishes of clients that are gone, and begin to take the last ones back at their backends."""
        for session in [session for session in self.log_sessions if session.closed]:
            del self.log_sessions[session]
            self._interests.levels.pop(session, None)
        for client in self.walks:
            if client.closed:
                client.scope.cancel()
        now = self._generations.now
        own = list(now.own.values()) if now is not None else []
        for interests in (self._interests, *(backend.interests for backend in own)):
            if interests.leave_closed() and interests not in self._taking_back and self._tasks is not None:
                self._tasks.start_soon(self._take_back, interests)

    async def _take_back(self, interests: Interests) -> None:
        self._taking_back.add(interests)
        try:
            await interests.take_back(_unsubscribed)
        finally:
            self._taking_back.discard(interests)


class ListenHandle:
    """A client that listens without a session.

    Attributes:
        uris: the resources that it listens to.
        scope: cancels the task that subscribes for this client at backends.  That task makes it: this object is made
            in a callback of the event loop, where older releases of anyio make no scopes.
    """

    scope: anyio.CancelScope

    def __init__(self, uris: list[str], alive: Callable[[], bool], ready: Ready) -> None:
        self.uris = uris
        self._alive = alive
        self._ready: Ready | None = ready

    @property
    def closed(self) -> bool:
        """Whether the client has stopped listening."""
        return not self._alive()

    def tell(self, refused: Collection[str]) -> None:
        """Tell the client, once, that it listens to all but `refused`."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self.uris = [uri for uri in self.uris if uri not in refused]
            ready(refused)


async def _subscribed(backend: Backend, uri: str) -> None:
    client = await backend.connected()
    if backend.interests.has_told(backend, uri):
        return  # connecting restored all subscriptions, this one among them
    try:
        await client.subscribe(uri)
    except MCPError as exc:
        raise as_answer(exc, backend.name) from None


async def _unsubscribed(backend: Backend, uri: str) -> None:
    """Raises TimeoutError where the backend does not answer."""
    if backend.client is None:
        return
    try:
        with anyio.fail_after(SUBSCRIBE_TIME):
            await backend.client.unsubscribe(uri)
    except MCPError as exc:
        logger.info("%s keeps the subscription to %.200s: %s", backend.name, uri, exc)
