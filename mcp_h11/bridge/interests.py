# SPDX-License-Identifier: MIT
"""The log levels and the subscriptions of a bridge's clients, kept outside of the connection to the backend.

A backend that is connected again is given them again.  The first client that subscribes to a resource makes the bridge
subscribe at the backend, and the last one that leaves makes it unsubscribe.  During a swap two backends may know of one
resource.

Rules:
- No lock is held over an answer of the backend: clients wait for the same answer only if they want the same resource.
- The wishes of a client that has left are dropped, whether or not the backend answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any
from weakref import WeakSet

from ..protocol.errors import InvalidParams
from ..protocol.methods import LEVELS
from ..runtime.fairness import Shares

MAX_SUBSCRIBED = 10_000  # resources at one backend; each client has a share of them


class Subscription:
    """One resource: the clients that subscribed to it, and the backends that were told.

    Attributes:
        sessions: the sessions, and the listeners without one, that subscribed.
        told: the backends that know of the subscription.
        unsure: backends that may know of it: the request that told them was cancelled.
        asking: while a backend is being told, an event that is set when its answer is there; else None.
        party: the client that this resource counts for.
    """

    __slots__ = ("asking", "party", "sessions", "told", "unsure")

    def __init__(self, party: str) -> None:
        self.sessions: set[Any] = set()
        self.told: WeakSet[Any] = WeakSet()
        self.unsure: WeakSet[Any] = WeakSet()
        self.asking: asyncio.Event | None = None
        self.party = party


class Interests:
    """The log levels and subscriptions of the clients of one backend, or of all shared ones.

    Attributes:
        levels: the log level that each client asked for.
        uris: the resources that are subscribed to.
    """

    def __init__(self, limit: int = MAX_SUBSCRIBED) -> None:
        self.levels: dict[Hashable, int] = {}
        self.uris: dict[str, Subscription] = {}
        self._of: dict[Any, dict[str, None]] = {}  # by session, its resources in order
        self._places = Shares(limit)
        self._leaving: dict[str, None] = {}  # resources without a client that a backend knows of

    @property
    def level(self) -> str | None:
        """The lowest level that any client asked for, which lets all other levels through; None without any."""
        ranks = {rank: name for name, rank in LEVELS.items()}
        # The lowest for all, and each client's messages are compared with its own level later.
        return ranks[min(self.levels.values())] if self.levels else None

    async def subscribe(
        self, uri: str, session: Any, party: str, backend: Any, tell: Callable[[], Awaitable[None]]
    ) -> None:
        """Subscribe a session, or any object with `closed`; return when this backend knows of the resource.

        Raises:
            InvalidParams: there are as many resources as this party may have.
            MCPError: as `tell` does; then the session has not subscribed.
        """
        known = self._enter(uri, session, party)
        try:
            # A loop, because the answer that it waited for may have been an error, or for another backend.
            while backend not in known.told:
                if known.asking is None:
                    await self._tell(uri, known, backend, tell)
                else:
                    await known.asking.wait()
        # Also for a cancellation: a client that did not get its subscription must not be counted.
        except BaseException:
            self.leave(session, uri)
            raise

    def _enter(self, uri: str, session: Any, party: str) -> Subscription:
        known = self.uris.get(uri)
        if known is None:
            if not self._places.take(party):
                raise InvalidParams(f"At most {self._places.limit} resources are subscribed to here, of all clients")
            known = self.uris[uri] = Subscription(party)
        known.sessions.add(session)
        self._of.setdefault(session, {})[uri] = None
        return known

    async def _tell(self, uri: str, known: Subscription, backend: Any, tell: Callable[[], Awaitable[None]]) -> None:
        asking = known.asking = asyncio.Event()
        try:
            await tell()
            known.told.add(backend)
        except asyncio.CancelledError:
            # The request may have arrived, so the backend is told of the end as well.
            known.unsure.add(backend)
            raise
        finally:
            known.asking = None
            asking.set()
            if not known.sessions:
                self._let_go(uri, known)

    def has_told(self, backend: Any, uri: str) -> bool:
        """Whether this backend was told of the resource."""
        known = self.uris.get(uri)
        return known is not None and backend in known.told

    def leave(self, session: Any, uri: str) -> bool:
        """Unsubscribe a session.  Returns whether it was the last one for this resource."""
        known = self.uris.get(uri)
        if known is None or session not in known.sessions:
            return False
        known.sessions.discard(session)
        own = self._of[session]
        del own[uri]
        if not own:
            del self._of[session]
        if not known.sessions:
            self._let_go(uri, known)
        return not known.sessions

    def _let_go(self, uri: str, known: Subscription) -> None:
        if known.asking is not None:
            return  # called again when the answer is there
        if known.told or known.unsure:
            self._leaving[uri] = None
        else:
            self._forget(uri, known)

    def _forget(self, uri: str, known: Subscription) -> None:
        self._leaving.pop(uri, None)
        del self.uris[uri]
        self._places.give_back(known.party)

    def leave_closed(self) -> bool:
        """Unsubscribe the closed sessions.  Returns whether a backend is to be told of it."""
        for session in [session for session in self._of if session.closed]:
            for uri in list(self._of[session]):
                self.leave(session, uri)
        return bool(self._leaving)

    async def take_back(self, tell: Callable[[Any, str], Awaitable[None]], uri: str | None = None) -> None:
        """Tell the backends, one by one, of the resources without a client: of the resource given, or of all.

        If `tell` raises TimeoutError, the backend does not answer: the rest is dropped without telling it.
        """
        while (found := self._next(uri)) is not None:
            name, known = found
            asking = known.asking = asyncio.Event()
            try:
                while backends := known.told | known.unsure:
                    backend = backends.pop()
                    known.told.discard(backend)
                    known.unsure.discard(backend)
                    await tell(backend, name)
            except TimeoutError:
                self._drop_all()
            finally:
                known.asking = None
                asking.set()
                if not known.sessions:
                    self._let_go(name, known)

    def _drop_all(self) -> None:
        for uri, known in [(uri, self.uris[uri]) for uri in self._leaving]:
            if not known.sessions and known.asking is None:
                self._forget(uri, known)
        self._leaving.clear()

    def _next(self, uri: str | None) -> tuple[str, Subscription] | None:
        for name in list(self._leaving) if uri is None else [uri] if uri in self._leaving else []:
            # Taken out before the wait: a second task must not tell the same backend.
            del self._leaving[name]
            known = self.uris[name]
            if not known.sessions and known.asking is None:
                return name, known
        return None
