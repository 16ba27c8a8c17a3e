# SPDX-License-Identifier: MIT
"""The event streams of a session: each a log with a cursor, read by at most one connection at a time.

Writers append; a connection is written to from its cursor.  Replay and live are the same log, so nothing is lost
between them and nothing comes twice, whatever the cut (2025-11-25 basic/transports, Resumability and Redelivery).

Rule: a stream orders bytes under indexes.  It does not know what they say, nor whose answer they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from ..eras.session import Session
from ..http.reply import COMMENT, UNDECIDED, Reply
from ..http.sse import encode_event
from ..protocol.errors import EventsExpired
from ..protocol.revisions import Revision
from ..protocol.shown import escaping
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import MAX_STREAM_EVENTS, EventStore, SessionState

logger = escaping(logging.getLogger(__name__))

MAX_STREAMS = 256  # of one session that are remembered; the oldest finished ones are forgotten first
STREAM_ID_BYTES = 12  # 96 bits, so that the id of another session's stream cannot be guessed


class Stream:
    """The events of one answer, or of the session's own GET stream; read by at most one connection at a time."""

    __slots__ = (
        "claim", "cursor", "finished", "id", "last", "live", "lock", "pauses", "reply", "session", "unread", "waiting",
        "waits",
    )  # fmt: skip

    def __init__(self, session: StreamSession, *, waits: bool = False) -> None:
        self.session = session
        # "These event IDs [...] SHOULD be assigned on a per-stream basis" and must not be guessable: with the id of
        # a neighbour's stream one could ask for its events (2025-11-25 basic/transports, Resumability).
        self.id = new_id(STREAM_ID_BYTES)
        self.last = 0  # index of the newest event
        self.cursor = 0  # index of the newest event that was written to a connection
        self.reply: Reply | None = None
        self.live = False  # `reply` has everything up to `last`: writers write to it themselves
        self.claim: Reply | None = None  # the newest connection that wants to read
        self.finished = False
        self.lock = asyncio.Lock()  # one writer at a time, so that indexes and order agree
        # Dicts as ordered sets: an idle session costs what its empty containers cost.
        self.unread: dict[bytes, None] = {}  # notices that no connection has read yet: each waits once
        self.pauses: dict[asyncio.Future[None], None] = {}  # of writers that wait for a slow reader
        # What waits for a reader where no store keeps it: the session's own stream may be opened at any time, while
        # a stream of a call that was lost cannot be found again.
        self.waits = waits
        self.waiting: deque[tuple[int, bytes]] | None = None

    def start(self, reply: Reply, lost: Callable[[], None] | None = None) -> None:
        """The stream of a POST: `reply` reads from the beginning; `lost` is told if its connection goes."""
        self.reply = reply
        self.live = True
        self.session.attached(+1)
        reply.on_gone = partial(self._gone, reply, lost)

    def _gone(self, reply: Reply, lost: Callable[[], None] | None) -> None:
        self.detach(reply)
        if lost is not None:
            lost()

    def open(self) -> None:
        """Begin the answer now, though there is nothing to say yet."""
        if self.reply is not None and self.reply.state == UNDECIDED:
            self.reply.open(self._prime())

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        """Append one message, and write it if a connection reads.  Waits while that reader is slow."""
        async with self.lock:
            if self.finished:
                return
            await self._keep(payload, last)
            reply = self.reply
            if reply is None or not self.live:
                if self.waits and self.session.store is None:
                    if self.waiting is None:
                        self.waiting = deque(maxlen=MAX_STREAM_EVENTS)
                    self.waiting.append((self.last, payload))
                return
            self._write(reply, self.last, payload, last)
            if not last and not reply.writable:
                await self._room(reply)

    async def _room(self, reply: Reply) -> None:
        """Wait while `reply` is slow, but no longer than it is the reader: who takes the stream over must not wait
        for the one it took it from, which may be dead."""
        pause = asyncio.ensure_future(reply.drained())
        self.pauses[pause] = None
        try:
            await asyncio.wait({pause})
        finally:
            self.pauses.pop(pause, None)
            pause.cancel()

    def post(self, payload: bytes) -> None:
        """Send a notice without waiting.  A notice that the reader has not read yet is not sent again."""
        if payload not in self.unread:
            self.unread[payload] = None
            self.session.runtime.spawn(self.send(payload))

    def close(self) -> None:
        """No more events, and none that says so: a call was cancelled, or a batch is answered."""
        if self.finished:
            return
        self.finished = True
        if self.live:
            self.take_over()
        if self.session.store is not None:
            self.session.runtime.spawn(self._forget_later(self.session.store))

    async def _forget_later(self, store: EventStore) -> None:
        try:
            await store.finish(self.session.id, self.id)
        except Exception:
            logger.exception("the event store failed")

    async def _keep(self, payload: bytes, last: bool) -> None:
        store, session = self.session.store, self.session
        if store is not None:
            try:
                await store.append(session.id, self.id, self.last + 1, payload)
                if last:
                    await store.finish(session.id, self.id)
            except Exception:
                # A finished call must not fail because its event could not be kept: it goes out without an id.
                session.runtime.store_away = True
                logger.exception("the event store failed; session %s is no longer resumable", session.id[:8])
                session.store = None
        self.last += 1
        if last:  # never back to False: it may have been closed meanwhile
            self.finished = True

    def _write(self, reply: Reply, index: int, payload: bytes, last: bool) -> None:
        frame = encode_event(payload, self._event_id(index))
        self.cursor = index
        if self.unread:
            self.unread.pop(payload, None)
        if last:
            self._release(reply)
        if reply.state == UNDECIDED:
            # 2025-11-25 basic/transports, Sending Messages 6: begin with an event that has an id and no data.
            first = self._prime(index - 1) if self.session.resumable else b""
            if last:
                reply.stream_once(first + frame)
            else:
                reply.open(first + frame)
        elif last:
            reply.end(frame)
        else:
            reply.send(frame)

    def _event_id(self, index: int) -> str:
        return f"{self.id}.{index}" if self.session.store is not None else ""

    def _prime(self, index: int | None = None) -> bytes:
        session = self.session
        if not session.resumable:
            return COMMENT
        cursor = self.cursor if index is None else index
        return encode_event(b"", self._event_id(cursor), retry=session.runtime.settings.retry)

    # --- readers -----------------------------------------------------------------------------------------

    async def resume(self, reply: Reply, after: int) -> None:
        """Give `reply` the events after `after`, then those to come.  The newest reader wins.

        Answers 204 where the stream is over and all of it was read: that stops a client from coming back.
        Raises EventsExpired where something is missing.
        """
        self.claim = reply
        events = await self._events(after)
        if not reply.alive:
            return
        if self.claim is not reply:
            # Overtaken before it began: it ends as one that was taken over does.  Not 409, which clients take for a
            # server that still holds their dead connection.
            reply.stream_once(self._prime(after))
            return
        if self.finished and after >= self.last:
            reply.answer(204, b"", ())
            return
        self.take_over()
        self.reply, self.live, self.cursor = reply, False, after
        self.unread.clear()
        reply.on_gone = self._left
        self.session.attached(+1)
        reply.open(self._prime())
        reply.forget()
        await self._catch_up(reply, events)

    async def listen(self, reply: Reply) -> None:
        """Give `reply` the events that no connection has read, then those to come: for a GET without Last-Event-ID."""
        try:
            await self.resume(reply, self.cursor)
        except EventsExpired:
            # It made no claim, so it may begin at the oldest event that is left.
            await self.resume(reply, await self._oldest())

    async def _oldest(self) -> int:
        """The smallest index after which everything is still there.  A store only tells whether one is."""
        low, high = self.cursor, self.last
        while high - low > 1:
            middle = (low + high) // 2
            try:
                await self._events(middle)
                high = middle
            except EventsExpired:
                low = middle
        return high

    async def _events(self, after: int) -> list[tuple[int, bytes]]:
        store, last = self.session.store, self.last
        if after > last:
            raise EventsExpired(self.id)
        if after == last:
            return []
        if store is not None:
            events = await store.replay(self.session.id, self.id, after)
        else:
            events = [event for event in self.waiting or () if event[0] > after]
        # One beyond `last` is kept already, and its writer does not know it yet: it will write it.
        events = [event for event in events if event[0] <= self.last]
        if [index for index, _ in events[: last - after]] != list(range(after + 1, last + 1)):
            raise EventsExpired(self.id)
        return events

    async def _catch_up(self, reply: Reply, events: list[tuple[int, bytes]]) -> None:
        while True:
            for index, payload in events:
                if self.reply is not reply:
                    return
                if not reply.writable:
                    await self._room(reply)
                    if self.reply is not reply:
                        return
                self._write(reply, index, payload, self.finished and index == self.last)
            if self.reply is not reply:
                return
            while self.waiting and self.waiting[0][0] <= self.cursor:
                self.waiting.popleft()
            # No await between this look and the flag: a writer either sees `live`, or its event is in the log.
            if self.cursor >= self.last:
                self.live = True  # and not finished: the last event of a finished stream releases its reader
                return
            try:
                events = await self._events(self.cursor)
            except Exception as exc:
                # Too slow for its own history, or the store is away: it may come back, and is then told so.
                if not isinstance(exc, EventsExpired):
                    logger.exception("the event store failed")
                self.detach(reply)
                reply.end()
                return

    def take_over(self) -> None:
        """End the connection that reads now, cleanly; the stream goes on."""
        reply = self.reply
        if reply is not None:
            self._release(reply)
            if reply.state == UNDECIDED:
                reply.open(self._prime())
            reply.end()

    def _left(self) -> None:
        # Only the connection that reads now has this callback.
        if self.reply is not None:
            self._release(self.reply)

    def detach(self, reply: Reply) -> None:
        """`reply` does not read any more."""
        if self.reply is reply:
            self._release(reply)

    def _release(self, reply: Reply) -> None:
        self.reply = None
        self.live = False
        reply.on_gone = None
        for pause in list(self.pauses):
            pause.cancel()
        self.session.attached(-1)


class StreamSession(Session):
    """A session of Streamable HTTP, with a stream for each call that needs one, and a standalone stream for notices."""

    __slots__ = ("_standalone", "store", "streams")

    def __init__(self, runtime: Runtime, state: SessionState, revision: Revision, store: EventStore | None) -> None:
        Session.__init__(self, runtime, state, revision)
        self.store = store
        self.streams: dict[str, Stream] = {}  # those that can be found again, the oldest first
        self._standalone: Stream | None = None

    @property
    def resumable(self) -> bool:
        """Streams begin with a priming event and may be closed early (2025-11-25)."""
        return self.store is not None and self.revision.priming

    @property
    def standalone(self) -> Stream:
        """The stream for messages that belong to no call."""
        if self._standalone is None:
            self._standalone = self.new_stream(waits=True)
        return self._standalone

    @property
    def has_standalone(self) -> bool:
        """Whether `standalone` was ever used."""
        return self._standalone is not None

    def attached(self, by: int) -> None:
        """A connection began or ceased to read."""
        before = self.busy
        self.busy = before + by
        if not self.busy:
            if self.on_rest is not None:
                self.on_rest(self)
        elif not before and self.on_work is not None:
            self.on_work(self)

    def new_stream(self, *, waits: bool = False) -> Stream:
        """A stream that can be found again while it or the store remembers it."""
        stream = Stream(self, waits=waits)
        if self.store is not None:
            self.streams[stream.id] = stream
            while len(self.streams) > MAX_STREAMS and self._forget_oldest():
                pass
        return stream

    def _forget_oldest(self) -> bool:
        for stream_id, stream in self.streams.items():
            if stream.finished:
                del self.streams[stream_id]
                return True
        return False

    def announce(self, payload: bytes) -> None:
        self.standalone.post(payload)

    def close(self) -> None:
        Session.close(self)
        # Before the streams close: late messages of cancelled calls are not kept, for no client can ask for them.
        self.store = None
        streams = set(self.streams.values())
        if self._standalone is not None:
            streams.add(self._standalone)
        for stream in streams:
            stream.finished = True
            stream.take_over()
        self.streams.clear()
