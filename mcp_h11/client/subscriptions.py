# SPDX-License-Identifier: MIT
"""Hearing of changes, in either era: `subscriptions/listen` of 2026-07-28, and what sessions send by themselves.

It refuses to keep notifications without end for somebody who does not read them: the oldest go.

Rule: an answered listen is over for whoever listens by it; one that is cut off is opened again, and so is one of the
callbacks, which have not asked for its end.  Whoever listens is told that everything may have changed meanwhile
(2026-07-28 basic/patterns/subscriptions).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio

from ..protocol.errors import MCPError, again
from ..protocol.methods import ACKNOWLEDGED, CHANGED_LIST, LIST_CHANGED, LISTEN_FLAGS, RESOURCE_UPDATED
from ..protocol.shown import escaping
from ..protocol.uris import normal
from .conversation import ClientRequest, Conversation
from .probe import contradicts
from .seldom import Seldom
from .transports.backoff import Backoff
from .transports.errors import AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer, RequestTimeout

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

MAX_UNREAD = 1_000
ACK_LIMIT = 10.0  # seconds until the first acknowledgment
REOPEN_ATTEMPTS = 10  # in a row, without an acknowledgment, for who can be told; callbacks cannot
LASTING = 60.0  # seconds: a stream that was open so long did not end at once


def _passing(error: MCPError) -> bool:
    """Whether a stream may be had later: the connection is lost, or HTTP refuses, as what stands on the way may do."""
    return isinstance(error, ConnectionLost) or (
        isinstance(error, HTTPStatusError) and not isinstance(error, AuthorizationRequired)
    )


class ChangeStream:
    """What `Client.listen` gives: iterate it for (method, params); it ends when the server ends it.

    Attributes:
        honoured: the part of the filter that the server agreed to, as it said it.
    """

    def __init__(self) -> None:
        self.honoured: dict[str, Any] = {}
        self._unread: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_UNREAD)
        self._changed = anyio.Event()
        self._ended = False
        self._error: MCPError | None = None
        self._seldom = Seldom(logger)

    def put(self, method: str, params: dict[str, Any]) -> None:
        """One more; where nobody reads, the oldest goes."""
        if len(self._unread) == MAX_UNREAD:
            self._seldom.warning("more than %d notifications were not read: the oldest was dropped", MAX_UNREAD)
        self._unread.append((method, params))
        self._changed.set()

    def end(self, error: MCPError | None = None) -> None:
        """Nothing comes any more; an error is raised to whoever reads, behind what came before it."""
        if not self._ended:
            self._ended, self._error = True, error
            self._seldom.close()
            self._changed.set()

    def __aiter__(self) -> ChangeStream:
        return self

    async def __anext__(self) -> tuple[str, dict[str, Any]]:
        while not self._unread:
            if self._error is not None:
                raise again(self._error)
            if self._ended:
                raise StopAsyncIteration
            self._changed = anyio.Event()
            await self._changed.wait()
        return self._unread.popleft()


class Filter:
    """What somebody wants to hear of: kinds of lists, and resources by their URI."""

    def __init__(self, kinds: Iterable[str] = (), uris: Iterable[str] = ()) -> None:
        self.kinds = tuple(kind for kind in LIST_CHANGED if kind in set(kinds))
        self.uris = tuple(dict.fromkeys(uris))
        self._normal = tuple(map(normal, self.uris))

    def __bool__(self) -> bool:
        return bool(self.kinds or self.uris)

    def to_json(self) -> dict[str, Any]:
        """`params.notifications` of a listen."""
        wanted: dict[str, Any] = {LISTEN_FLAGS[kind]: True for kind in self.kinds}
        if self.uris:
            wanted["resourceSubscriptions"] = list(self.uris)
        return wanted

    def wants(self, method: str, params: dict[str, Any]) -> bool:
        """In a session: whether this is one of them, a sub-resource of what was subscribed included."""
        if method == RESOURCE_UPDATED:
            uri = params.get("uri")
            return isinstance(uri, str) and any(map(normal(uri).startswith, self._normal))
        return CHANGED_LIST.get(method) in self.kinds

    def everything(self) -> list[tuple[str, dict[str, Any]]]:
        """A notification for each: what is said after a gap."""
        lists: list[tuple[str, dict[str, Any]]] = [(LIST_CHANGED[kind], {}) for kind in self.kinds]
        return lists + [(RESOURCE_UPDATED, {"uri": uri}) for uri in self.uris]

    def missing(self, honoured: dict[str, Any]) -> list[str]:
        """What the server did not agree to."""
        missing = [kind for kind in self.kinds if honoured.get(LISTEN_FLAGS[kind]) is not True]
        agreed = honoured.get("resourceSubscriptions")
        known = {normal(uri) for uri in agreed if isinstance(uri, str)} if isinstance(agreed, list) else set()
        return missing + [uri for uri, one in zip(self.uris, self._normal, strict=True) if one not in known]


class Listening:
    """One subscription of 2026-07-28, through as many streams as it takes."""

    def __init__(
        self, conversation: Conversation, wanted: Filter, *, private: bool, backoff: Backoff | None = None
    ) -> None:
        self.changes = ChangeStream()
        self._conversation = conversation
        self._wanted = wanted
        self._private = private
        self._backoff = backoff or Backoff()
        self._acknowledged = anyio.Event()
        self._times = 0
        self._failures = 0
        self._since = 0.0
        self._scope = anyio.CancelScope()
        self._error: MCPError | None = None

    async def open(self, tasks: TaskGroup) -> None:
        """Returns when the server has acknowledged.

        Raises:
            MCPError: it refuses, or does not answer in time.
        """
        tasks.start_soon(self._run)
        with anyio.move_on_after(ACK_LIMIT):
            await self._acknowledged.wait()
        if not self._times:
            self.close()
            if self._error is not None:
                raise again(self._error)
            raise RequestTimeout(f"no acknowledgment within {ACK_LIMIT:g} s")
        missing = self._wanted.missing(self.changes.honoured)
        if missing:
            logger.warning("the server will not tell of %s", ", ".join(missing)[:500])

    def close(self) -> None:
        """Nothing more is heard."""
        self._scope.cancel()
        self.changes.end()

    def missing(self) -> list[str]:
        """What the server did not agree to."""
        return self._wanted.missing(self.changes.honoured)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._listen()
        except MCPError as error:
            self._error = error
            if not self._private and self._times and self._conversation.calls.ended is None:
                logger.warning("changes at %s are no longer heard of: %s", self._conversation.transport.why, error)
        self.changes.end(self._error)
        self._acknowledged.set()

    async def _listen(self) -> None:
        soon = 0  # streams in a row that ended soon, or never began
        while True:
            times = self._times
            if await self._one_stream():
                return
            if self._times > times and anyio.current_time() - self._since >= LASTING:
                soon = 0
            await anyio.sleep(self._backoff.delay(soon))
            soon += 1

    async def _one_stream(self) -> bool:
        """Listens until the stream ends.  True: for good.  Raises MCPError where it is no use to come back."""
        if not self._conversation.modern:
            raise ConnectionLost("the server is of another era now, in which nobody listens so", sent=False)
        request = ClientRequest(
            "subscriptions/listen", {"notifications": self._wanted.to_json()}, on_notification=self._on_notification,
            safe=False, private=self._private,
        )  # fmt: skip
        try:
            await self._conversation.send(request)
        except MCPError as error:
            # Never heard of: that is no stream that was lost.
            if not self._times or self._conversation.calls.ended is not None or not _passing(error):
                raise
            self._failures += 1
            if self._private and self._failures > REOPEN_ATTEMPTS:
                raise
            logger.debug("a subscription was cut off: %s", error)
            if contradicts(error, modern=True) and self._conversation.on_contradiction is not None:
                await self._conversation.on_contradiction()
            return False
        # "a result ends the subscription": gracefully; a server that restarts says so to callbacks, who want more.
        return self._private or not self._times

    def _on_notification(self, method: str, params: dict[str, Any]) -> None:
        if method == ACKNOWLEDGED:
            honoured = params.get("notifications")
            self.changes.honoured = honoured if isinstance(honoured, dict) else {}
            self._times += 1
            self._failures = 0
            self._since = anyio.current_time()
            self._acknowledged.set()
            if self._times > 1:
                self._conversation.forget()
                for missed in self._wanted.everything():
                    self._pass_on(*missed, told=False)
        elif self._times:  # "MUST be the first message": what comes before it is not ours
            self._pass_on(method, params, told=True)

    def _pass_on(self, method: str, params: dict[str, Any], *, told: bool) -> None:
        if self._private:
            self.changes.put(method, params)
        elif not told:  # what really came has been told by the conversation
            self._conversation.deliver(method, params)


class Subscriptions:
    """What one client hears of for its callbacks: in 2026-07-28 by one listen at a time, replaced when it grows."""

    def __init__(self, conversation: Conversation, tasks: TaskGroup) -> None:
        self.uris: dict[str, None] = {}
        self._conversation = conversation
        self._tasks = tasks
        self._kinds: tuple[str, ...] = ()
        self._current: Listening | None = None
        self._lock = anyio.Lock()

    def forget_stream(self) -> None:
        """The server is of another era: what was listened to is over, what was wanted is not."""
        if self._current is not None:
            self._current.close()
            self._current = None

    async def follow_lists(self, kinds: Iterable[str]) -> None:
        """Of these lists, from now on.  Raises MCPError."""
        self._kinds = tuple(kinds)
        async with self._lock:
            await self._replace(self.uris)

    async def add(self, uri: str) -> None:
        """Of this resource too.  Raises MCPError, and InvalidAnswer where the server does not agree to it."""
        async with self._lock:
            if uri in self.uris:
                return
            await self._replace({**self.uris, uri: None})
            if self._current is not None and uri in self._current.missing():
                await self._replace({known: None for known in self.uris if known != uri})
                raise InvalidAnswer(f"the server does not tell of {uri[:500]}")

    async def remove(self, uri: str) -> None:
        """No longer of this one."""
        async with self._lock:
            if uri in self.uris:
                await self._replace({known: None for known in self.uris if known != uri})

    async def _replace(self, uris: dict[str, None]) -> None:
        wanted = Filter(self._kinds, uris)
        fresh = Listening(self._conversation, wanted, private=False) if wanted else None
        if fresh is not None:
            await fresh.open(self._tasks)
        # The old one only now, so that nothing falls between the two.
        if self._current is not None:
            self._current.close()
        self._current, self.uris = fresh, dict(uris)
