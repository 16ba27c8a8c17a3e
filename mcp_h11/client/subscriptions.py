# SPDX-License-Identifier: MIT
"""Subscriptions to changes of lists and resources: `subscriptions/listen` in 2026-07-28, notifications in a session.

It refuses to keep unread notifications without end: past a limit the oldest are dropped.

Rule: the server ends a stream by answering its listen request; then a `Client.listen` is over, and the stream of the
callbacks is opened again.  A stream that is cut off is opened again in both cases, and its reader is told that
everything may have changed meanwhile (2026-07-28 basic/patterns/subscriptions).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from ..protocol.errors import MCPError, again
from ..protocol.methods import ACKNOWLEDGED, CHANGED_LIST, LIST_CHANGED, LISTEN_FLAGS, RESOURCE_UPDATED
from ..protocol.shown import escaping
from ..protocol.uris import normal
from .conversation.conversation import Conversation
from .conversation.request import ClientRequest
from .conversation.seldom import Seldom
from .probe import contradicts
from .transports.backoff import Backoff
from .transports.errors import AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer, RequestTimeout

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Unread notifications of one stream.
MAX_UNREAD = 1_000
UNSUBSCRIBE_LIMIT = 5.0  # seconds for taking back the subscriptions of one `Client.listen` in a session
ACK_LIMIT = 10.0  # seconds until the first acknowledgment
# Failed tries in a row to open the stream of a `Client.listen` again.  Callbacks have no limit: they hear no errors.
REOPEN_ATTEMPTS = 10
# Seconds after which a stream that ends is no sign of trouble: the next one is opened without a long pause.
LASTING = 60.0


def _passing(error: MCPError) -> bool:
    """Whether opening a stream may succeed later: the connection is lost, or HTTP refuses, as a proxy may do."""
    return isinstance(error, ConnectionLost) or (
        isinstance(error, HTTPStatusError) and not isinstance(error, AuthorizationRequired)
    )


class ChangeStream:
    """The stream of a `Client.listen`: iterate it for (method, params).  It ends when the server ends it.

    Attributes:
        honoured: the part of the filter that the server agreed to, in its own words.
    """

    def __init__(self) -> None:
        self.honoured: dict[str, Any] = {}
        self._unread: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MAX_UNREAD)
        self._changed = anyio.Event()
        self._ended = False
        self._error: MCPError | None = None
        self._seldom = Seldom(logger)

    def put(self, method: str, params: dict[str, Any]) -> None:
        """Adds a notification, `method` with `params`; past `MAX_UNREAD` the oldest is dropped."""
        if len(self._unread) == MAX_UNREAD:
            self._seldom.warning("more than %d notifications were not read: the oldest was dropped", MAX_UNREAD)
        self._unread.append((method, params))
        self._changed.set()

    def end(self, error: MCPError | None = None) -> None:
        """Ends the stream.  Its reader gets the unread notifications first, and then the error."""
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
    """The changes that a subscription is for: kinds of lists, and resources by their URI."""

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
        """Whether a notification of a session matches; sub-resources of a subscribed resource match as well."""
        if method == RESOURCE_UPDATED:
            uri = params.get("uri")
            return isinstance(uri, str) and any(map(normal(uri).startswith, self._normal))
        return CHANGED_LIST.get(method) in self.kinds

    def everything(self) -> list[tuple[str, dict[str, Any]]]:
        """One notification for each list and resource, to be delivered after a gap."""
        lists: list[tuple[str, dict[str, Any]]] = [(LIST_CHANGED[kind], {}) for kind in self.kinds]
        return lists + [(RESOURCE_UPDATED, {"uri": uri}) for uri in self.uris]

    def missing(self, honoured: dict[str, Any]) -> list[str]:
        """The kinds and URIs that the server did not agree to."""
        missing = [kind for kind in self.kinds if honoured.get(LISTEN_FLAGS[kind]) is not True]
        agreed = honoured.get("resourceSubscriptions")
        known = {normal(uri) for uri in agreed if isinstance(uri, str)} if isinstance(agreed, list) else set()
        return missing + [uri for uri, one in zip(self.uris, self._normal, strict=True) if one not in known]


class Listening:
    """One subscription of 2026-07-28.  When its stream is cut off, it opens another.

    Args:
        private: it belongs to a `Client.listen`, and not to the callbacks of the client.
    """

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
        """Opens the first stream, and waits for its acknowledgment.

        Raises:
            MCPError: the server refuses, or does not acknowledge in time.
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
        self._scope.cancel()
        self.changes.end()

    def missing(self) -> list[str]:
        """The kinds and URIs that the server did not agree to."""
        return self._wanted.missing(self.changes.honoured)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._listen()
        except MCPError as error:
            self._error = error
            if not self._private and self._times and self._conversation.calls.ended is None:
                logger.warning("callbacks no longer hear of changes at %s: %s", self._conversation.transport.why, error)
        self.changes.end(self._error)
        self._acknowledged.set()

    async def _listen(self) -> None:
        soon = 0  # streams in a row that ended soon after they were opened, or were never opened
        while True:
            times = self._times
            if await self._one_stream():
                return
            if self._times > times and anyio.current_time() - self._since >= LASTING:
                soon = 0
            await anyio.sleep(self._backoff.delay(soon))
            soon += 1

    async def _one_stream(self) -> bool:
        """Listens until the stream ends; gives whether the subscription is over.  Raises MCPError if it failed."""
        if not self._conversation.modern:
            raise ConnectionLost("the server is of another era now, in which nobody listens so", sent=False)
        request = ClientRequest(
            "subscriptions/listen", {"notifications": self._wanted.to_json()}, on_notification=self._on_notification,
            safe=False, private=self._private,
        )  # fmt: skip
        try:
            await self._conversation.send(request)
        except MCPError as error:
            # A subscription that was never acknowledged is refused, and not cut off.
            if not self._times or self._conversation.calls.ended is not None or not _passing(error):
                raise
            self._failures += 1
            if self._private and self._failures > REOPEN_ATTEMPTS:
                raise
            logger.debug("a subscription was cut off: %s", error)
            if contradicts(error, modern=True):
                await self._conversation.watch.ask_anew()
            return False
        # "a result ends the subscription" gracefully.  A server that restarts ends all of them so, and callbacks still
        # want to hear of changes.
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
        elif self._times:  # the acknowledgment "MUST be the first message", so earlier ones are not for this stream
            self._pass_on(method, params, told=True)

    def _pass_on(self, method: str, params: dict[str, Any], *, told: bool) -> None:
        if self._private:
            self.changes.put(method, params)
        elif not told:  # the conversation has delivered the notifications that the server sent
            self._conversation.deliver(method, params)


class Subscriptions:
    """Everything that one client listens to, in either era.

    Its callbacks listen by one stream of 2026-07-28 at a time, which is replaced when it grows; in a session they hear
    what the session sends.  Each `Client.listen` has a stream of its own in 2026-07-28, and filters the session else.

    Args:
        follows_lists: whether a callback hears of changed lists.
        request: sends a request of the client: method and params.
    """

    def __init__(
        self,
        conversation: Conversation,
        tasks: TaskGroup,
        request: Callable[[str, dict[str, Any]], Awaitable[Any]],
        *,
        follows_lists: bool,
    ) -> None:
        self._uris: dict[str, None] = {}  # a dict is an ordered set here
        self._conversation = conversation
        self._tasks = tasks
        self._request = request
        self._follows_lists = follows_lists
        self._current: Listening | None = None
        self._in_session: set[ChangeStream] = set()
        # Two changes at once would each replace the stream by one that lacks the other's resource.
        self._lock = anyio.Lock()

    @property
    def _modern(self) -> bool:
        # During a handshake, the revision that was negotiated before it.
        revision = self._conversation.revision or self._conversation.known.revision
        return revision.modern

    # --- for the callbacks ----------------------------------------------------------------------------------

    async def follow_changes(self) -> None:
        """2026-07-28: opens the stream of the callbacks, since it sends only subscribed changes."""
        if not self._modern:
            return
        try:
            async with self._lock:
                await self._replace(self._uris)
        except MCPError as refused:
            why = self._conversation.transport.why
            logger.warning("%s refuses to tell of changes, so callbacks will not hear of them: %s", why, refused)

    async def add(self, uri: str) -> None:
        """Subscribes to a resource.  Raises MCPError, and InvalidAnswer where the server does not agree to it."""
        if not self._modern:
            await self._request("resources/subscribe", {"uri": uri})
            self._uris[uri] = None
            return
        async with self._lock:
            if uri in self._uris:
                return
            await self._replace({**self._uris, uri: None})
            if self._current is not None and uri in self._current.missing():
                await self._replace({known: None for known in self._uris if known != uri})
                raise InvalidAnswer(f"the server does not tell of {uri[:500]}")

    async def remove(self, uri: str) -> None:
        """Ends the subscription to a resource.  Raises MCPError."""
        if not self._modern:
            self._uris.pop(uri, None)
            await self._request("resources/unsubscribe", {"uri": uri})
            return
        async with self._lock:
            if uri in self._uris:
                await self._replace({known: None for known in self._uris if known != uri})

    async def _replace(self, uris: dict[str, None]) -> None:
        kinds = self._lists(changing=True) if self._follows_lists else []
        wanted = Filter(kinds, uris)
        fresh = Listening(self._conversation, wanted, private=False) if wanted else None
        if fresh is not None:
            await fresh.open(self._tasks)
        # The old stream closes after the new one has opened, so that no change falls between the two.
        if self._current is not None:
            self._current.close()
        self._current, self._uris = fresh, dict(uris)

    def _lists(self, *, changing: bool = False) -> list[str]:
        """The kinds of lists that the server has; with `changing`, those whose changes it announces."""
        capabilities = self._conversation.known.capabilities
        offered = {kind: capabilities.get(kind) for kind in LIST_CHANGED}
        return [
            kind for kind, has in offered.items()
            if isinstance(has, dict) and (not changing or has.get("listChanged") is True)
        ]  # fmt: skip

    # --- for `Client.listen` --------------------------------------------------------------------------------

    @asynccontextmanager
    async def listen(self, wanted: Filter) -> AsyncIterator[ChangeStream]:
        """A stream of its own for one caller.  Raises MCPError."""
        if not self._modern:
            async with self._listen_in_session(wanted) as changes:
                yield changes
            return
        listening = Listening(self._conversation, wanted, private=True)
        await listening.open(self._tasks)
        try:
            yield listening.changes
        finally:
            listening.close()

    @asynccontextmanager
    async def _listen_in_session(self, wanted: Filter) -> AsyncIterator[ChangeStream]:
        changes = ChangeStream()
        self._in_session.add(changes)

        def on_notification(method: str, params: dict[str, Any]) -> None:
            if wanted.wants(method, params):
                changes.put(method, params)

        # A resource that the callbacks have subscribed to stays subscribed when this stream ends.
        fresh = [uri for uri in wanted.uris if uri not in self._uris]
        listeners = self._conversation.extra_listeners
        listeners.append(on_notification)
        try:
            for uri in fresh:
                await self.add(uri)
            changes.honoured = wanted.to_json()
            yield changes
        finally:
            listeners.remove(on_notification)
            self._in_session.discard(changes)
            changes.end()
            # Shielded, because the session goes on when the task that listened is cancelled.
            with anyio.CancelScope(shield=True), anyio.move_on_after(UNSUBSCRIBE_LIMIT):
                for uri in fresh:
                    try:
                        await self.remove(uri)
                    except MCPError as error:  # noqa: PERF203
                        logger.debug("the subscription to %s could not be ended: %s", uri, error)

    # --- after another session, or another era --------------------------------------------------------------

    def end_streams(self) -> None:
        """The server is of another era, in which no open stream hears anything.

        The stream of the callbacks is opened again by `restore`.  Streams in a session end with an error for their
        reader, as those of 2026-07-28 do.
        """
        if self._current is not None:
            self._current.close()
            self._current = None
        why = self._conversation.transport.why
        for changes in self._in_session:
            changes.end(ConnectionLost(f"{why} is of another era now: listen again"))

    async def restore(self) -> None:
        """Repeats the log level and the subscriptions, which a new session or a server of another era does not know.

        Then it tells all callbacks that everything may have changed: the server may be another one.
        """
        conversation = self._conversation
        try:
            if self._modern:
                await self.follow_changes()
            elif conversation.log_level is not None:
                await self._request("logging/setLevel", {"level": conversation.log_level})
            for uri in [] if self._modern else list(self._uris):
                await self._request("resources/subscribe", {"uri": uri})
        except MCPError as error:
            logger.warning("the log level and the subscriptions could not be repeated at %s: %s",
                           conversation.transport.why, error)  # fmt: skip
        for missed in Filter(self._lists(), self._uris).everything():
            conversation.deliver(*missed, said=False)
