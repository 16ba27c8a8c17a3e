# SPDX-License-Identifier: MIT
"""What the clients of a bridge want of its backend beside the answers to their calls: a log level, and subscriptions.

It is kept outside of the connection, so that the next connection is told the same.  The first client that wants to hear
of a resource has the backend told, and the last one that leaves has it told again.  Several backends may be told of one
resource while one takes the place of the other.

Rules:
- No lock is held over an answer of the backend: only those who want the very same resource wait for the same answer.
- What was wanted by a client that has left is dropped, whether or not the backend answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any
from weakref import WeakSet

from ..protocol.errors import InvalidParams
from ..protocol.methods import LEVELS
from ..runtime.fairness import Shares

MAX_SUBSCRIBED = 10_000  # resources at one backend, of which each client has a share


class Subscription:
    """One resource: the sessions that want to hear of it, and the backends that were told.

    Attributes:
        unsure: backends that may know of it: they were being told when that was broken off.
        asking: set, and gone, when the answer to what the backend was told last is there.
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
    """What is wanted of a backend.

    Attributes:
        levels: the log level that each client asked for.
        uris: the resources that are subscribed to.
    """

    def __init__(self, limit: int = MAX_SUBSCRIBED) -> None:
        self.levels: dict[Hashable, int] = {}
        self.uris: dict[str, Subscription] = {}
        self._of: dict[Any, dict[str, None]] = {}  # the resources of each session
        self._places = Shares(limit)
        self._leaving: dict[str, None] = {}  # no session wants them any more, and a backend was told of them

    @property
    def level(self) -> str | None:
        """The lowest level that any client asked for, which makes the backend say most; None where none was."""
        ranks = {rank: name for name, rank in LEVELS.items()}
        return ranks[min(self.levels.values())] if self.levels else None

    async def subscribe(
        self, uri: str, session: Any, party: str, backend: Any, tell: Callable[[], Awaitable[None]]
    ) -> None:
        """Returns when this backend was told of the resource.  `session` has `closed`.

        Raises:
            InvalidParams: there are as many resources as this party may have.
            MCPError: as `tell` does; then the session has not subscribed.
        """
        known = self._enter(uri, session, party)
        try:
            while backend not in known.told:
                if known.asking is None:
                    await self._tell(uri, known, backend, tell)
                else:
                    await known.asking.wait()
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
        """The session does not want to hear of the resource any more; whether no other one does either."""
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
            return  # looked at again when the answer is there
        if known.told or known.unsure:
            self._leaving[uri] = None
        else:
            self._forget(uri, known)

    def _forget(self, uri: str, known: Subscription) -> None:
        self._leaving.pop(uri, None)
        del self.uris[uri]
        self._places.give_back(known.party)

    def leave_closed(self) -> bool:
        """Sessions that are no more want nothing any more; whether a backend is to be told of that."""
        for session in [session for session in self._of if session.closed]:
            for uri in list(self._of[session]):
                self.leave(session, uri)
        return bool(self._leaving)

    async def take_back(self, tell: Callable[[Any, str], Awaitable[None]], uri: str | None = None) -> None:
        """Tells the backends that a resource is not wanted any more: of one, or of all, one after the other.

        Where `tell` raises TimeoutError the backend does not answer: what is left is dropped, and it is not told.
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
            del self._leaving[name]
            known = self.uris[name]
            if not known.sessions and known.asking is None:
                return name, known
        return None
