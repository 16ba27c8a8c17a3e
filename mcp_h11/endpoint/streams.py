# SPDX-License-Identifier: MIT
"""The event streams of a session.  A stream is a log of events, which at most one connection reads at a time.

Writers append to the log, and a cursor marks the newest event that a connection was given.  Replayed and new events
come from the same log.  So a client that reconnects misses no event and gets none twice, wherever its connection was
cut (2025-11-25 basic/transports, Resumability and Redelivery).

Rule: a stream numbers payloads and keeps their order.  It does not read a payload, and does not know its call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from ..eras.session import Session
from ..http.reply import COMMENT, STREAMING, UNDECIDED, Reply
from ..http.sse import LARGE_PAYLOAD, encode_event, encode_numbered, event_parts, in_pieces
from ..protocol.errors import EventsExpired
from ..protocol.jsonrpc import Message
from ..protocol.revisions import Revision
from ..protocol.shown import escaping
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import MAX_STREAM_EVENTS, EventStore, MemoryEventStore, SessionState
from .waiting import Pending

logger = escaping(logging.getLogger(__name__))

MAX_STREAMS = 256  # of one session that are remembered; the oldest finished ones are forgotten first
REPLAYED_BYTES = 64 * 1024  # of events that leave in one write; then a slow reader is waited for
STREAM_ID_BYTES = 12  # 96 bits, so that the id of another session's stream cannot be guessed


class Stream:
    """The events of one answer, or of the session's own GET stream; read by at most one connection at a time."""

    __slots__ = (
        "_lock", "buffer", "buffers_unread", "caught_up", "cursor", "finished", "id", "last", "newest_reader",
        "pending_notices", "reply", "sending", "session", "slow_writers",
    )  # fmt: skip

    def __init__(self, session: StreamSession, *, buffers_unread: bool = False) -> None:
        self.session = session
        # "These event IDs [...] SHOULD be assigned on a per-stream basis" (2025-11-25 basic/transports, Resumability).
        # An id must not be guessable, because a client that knows the id of a stream can ask for its events.
        self.id = new_id(STREAM_ID_BYTES)
        self.last = 0  # index of the newest event
        self.cursor = 0  # index of the newest event that was written to a connection
        self.reply: Reply | None = None
        self.caught_up = False  # `reply` was given every event up to `last`, so a writer writes its event to `reply`
        self.newest_reader: Reply | None = None  # the newest connection that wants to read
        self.finished = False
        # These are made when they are needed, because most sessions are idle.  Dicts serve as ordered sets.
        self._lock: asyncio.Lock | None = None
        self.sending = 0  # writers that have the lock or wait for it
        self.pending_notices: dict[bytes, Pending] | None = None  # that no connection has read yet: each waits once
        self.slow_writers: dict[asyncio.Future[None], None] | None = None  # of writers that wait for a slow reader
        # Events that wait for a reader where no store keeps them.  Only the session's own stream has them: a client may
        # open that one at any time, but without a store it cannot find the stream of a call again.
        self.buffers_unread = buffers_unread
        self.buffer: deque[tuple[int, bytes]] | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """One writer at a time, so that indexes and order agree."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def start(self, reply: Reply, lost: Callable[[], None] | None = None) -> None:
        """Give `reply`, the answer to a POST, every event of the stream; `lost` is called if its connection breaks."""
        self.reply = reply
        self.caught_up = True
        self.session.count_readers(+1)
        reply.on_gone = partial(self._gone, reply, lost)

    def _gone(self, reply: Reply, lost: Callable[[], None] | None) -> None:
        self.detach(reply)
        if lost is not None:
            lost()

    async def begin(self) -> None:
        """Make the stream known, so that a client can come back for it before its first event."""

    def open(self) -> None:
        """Begin the answer now, before the first event."""
        if self.reply is not None and self.reply.state == UNDECIDED:
            self.reply.open(self._prime())

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        """Append one message, and write it if a connection reads.  Waits while that connection is slow."""
        self.sending += 1
        try:
            async with self._lock or self.lock:
                await self._send_alone(payload, last)
        finally:
            self.sending -= 1

    async def _send_alone(self, payload: bytes, last: bool) -> None:
        if self.finished:
            return
        await self._keep(payload, last)
        reply = self.reply
        if reply is None or not self.caught_up:
            if self.buffers_unread and self.session.store is None:
                if self.buffer is None:
                    self.buffer = deque(maxlen=MAX_STREAM_EVENTS)
                self.buffer.append((self.last, payload))
            return
        self._write(reply, self.last, payload, last)
        if not last and not reply.writable:
            await self._room(reply)

    def send_now(self, payload: bytes) -> bool:
        """`send` without a coroutine; False where that may have to wait, and then nothing has happened."""
        reply, store = self.reply, self.session.store
        if reply is None or not self.caught_up or self.sending or self.finished or not reply.writable:
            return False
        if store is not None:
            if type(store) is not MemoryEventStore:
                return False
            store.keep(self.session.id, self.id, self.last + 1, payload)
        index = self.last = self.last + 1
        if reply.state == STREAMING and len(payload) < LARGE_PAYLOAD:
            self.cursor = index
            reply.send(self._frame(index, payload))
        else:
            self._write(reply, index, payload, False)
        return True

    async def _room(self, reply: Reply) -> None:
        """Wait while `reply` is slow and still reads this stream.

        The wait ends as soon as another connection takes the stream over, because the old connection may be dead.
        """
        pause = asyncio.ensure_future(reply.drained())
        writers = self.slow_writers
        if writers is None:
            writers = self.slow_writers = {}
        writers[pause] = None
        try:
            await asyncio.wait({pause})
        finally:
            writers.pop(pause, None)
            pause.cancel()

    def post(self, payload: bytes, *names: str) -> None:
        """Send a notice without waiting.  A notice that the reader has not read yet is not sent again."""
        pending = self.pending_notices
        if pending is None:
            pending = self.pending_notices = {}
        elif payload in pending:
            pending[payload].join(names)
            return
        elif len(pending) >= MAX_STREAM_EVENTS:
            # The log of events has no more room than this either.  Log messages that a bridge passes on differ from
            # one another, so a session whose client never listens would remember all of them.
            del pending[next(iter(pending))]
        notice = pending[payload] = Pending(names)
        self.session.runtime.spawn(self.send_notice(payload, notice))

    async def send_notice(self, payload: bytes, pending: Pending) -> None:
        """Append a notice that no reader waits for."""
        await self.send(payload)

    def close(self) -> None:
        """End the stream without a last event: the call was cancelled, or the batch is answered."""
        if self.finished:
            return
        self.finished = True
        if self.caught_up:
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
                # A call must not fail because the store failed: its event is sent without an id.
                session.runtime.store_away = True
                logger.exception("the event store failed; session %s is no longer resumable", session.id[:8])
                session.store = None
        self.last += 1
        if last:  # never back to False: it may have been closed meanwhile
            self.finished = True

    def _write(self, reply: Reply, index: int, payload: bytes, last: bool) -> None:
        if len(payload) < LARGE_PAYLOAD:
            self._hand_over(reply, index, self._frame(index, payload), last)
            return
        (self.pending_notices or {}).pop(payload, None)
        first = self._prime(index - 1) if reply.state == UNDECIDED and self.session.resumable else b""
        parts = event_parts(payload, f"{self.id}.{index}" if self._has_ids() else "", before=first)
        self.cursor = index
        if last:
            self._release(reply)
        reply.send_parts(parts, last)

    def _frame(self, index: int, payload: bytes) -> bytes:
        """An event, as it is written to a connection that reads it now."""
        if self.pending_notices:
            self.pending_notices.pop(payload, None)
        return encode_numbered(payload, self.id, index) if self._has_ids() else encode_event(payload)

    def _has_ids(self) -> bool:
        """Whether the events that are written now have ids."""
        # Not `keeps_events`, which says the same: a property is a call for each event.
        return self.session.store is not None

    def _hand_over(self, reply: Reply, index: int, frame: bytes, last: bool) -> None:
        self.cursor = index  # of the newest of the events
        if last:
            self._release(reply)
        if reply.state == UNDECIDED:
            # 2025-11-25 basic/transports, Sending Messages 6: begin with an event that has an id and no data.
            first = self._prime(index - 1) if self.session.resumable else b""
            (reply.stream_once if last else reply.open)(first + frame)
        elif last:
            reply.end(frame)
        else:
            reply.send(frame)

    def _prime(self, index: int | None = None) -> bytes:
        session = self.session
        if not session.resumable:
            return COMMENT
        cursor = self.cursor if index is None else index
        event_id = f"{self.id}.{cursor}" if self._has_ids() else ""
        return encode_event(b"", event_id, retry=session.runtime.settings.retry)

    # --- readers -----------------------------------------------------------------------------------------

    async def resume(self, reply: Reply, after: int) -> None:
        """Give `reply` the events after `after`, then all later events.  The newest connection replaces an older one.

        Answers 204 where the stream has ended and the client has read all of it, so that the client does not reconnect
        again.  Raises EventsExpired where an event after `after` is missing.
        """
        self.newest_reader = reply
        events = await self._events(after)
        if not reply.alive:
            return
        if self.newest_reader is not reply:
            # A newer connection asked for the stream meanwhile.  This one ends as a replaced one does, and not with
            # 409: clients read 409 as a server that still holds their dead connection.
            reply.stream_once(self._prime(after))
            return
        if self.finished and after >= self.last:
            reply.answer(204, b"", ())
            return
        self._attach(reply, after)
        await self._catch_up(reply, events)

    def _attach(self, reply: Reply, after: int) -> None:
        """Let `reply` read from the events after `after` on, in the place of the connection that reads now."""
        self.take_over()
        self.reply, self.caught_up, self.cursor = reply, False, after
        self._forget_pending()
        reply.on_gone = self._left
        self.session.count_readers(+1)
        reply.open(self._prime())
        reply.forget()

    def _forget_pending(self) -> None:
        """The new reader reads each notice that waits for one."""
        self.pending_notices = None

    async def listen(self, reply: Reply) -> None:
        """Give `reply` the events that no connection has read, then all later ones; for a GET without Last-Event-ID."""
        try:
            await self.resume(reply, self.cursor)
        except EventsExpired:
            # The client named no event, so it may begin at the oldest event that is left.
            await self.resume(reply, await self._oldest())

    async def _oldest(self) -> int:
        """The smallest index after which no event is missing."""
        # By bisection, because a store only tells whether the events after a given index are complete.
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
            events = [event for event in self.buffer or () if event[0] > after]
        # An event beyond `last` is in the store, but its writer still waits for the store.  That writer will write it.
        events = [event for event in events if event[0] <= self.last]
        if [index for index, _ in events[: last - after]] != list(range(after + 1, last + 1)):
            raise EventsExpired(self.id)
        return events

    async def _catch_up(self, reply: Reply, events: list[tuple[int, bytes]]) -> None:
        while True:
            for piece in in_pieces(events, REPLAYED_BYTES):
                if self.reply is not reply:
                    return
                if not reply.writable:
                    await self._room(reply)
                    if self.reply is not reply:
                        return
                index, payload = piece[-1]
                last = self.finished and index == self.last
                if len(piece) == 1:
                    self._write(reply, index, payload, last)
                else:
                    self._hand_over(reply, index, b"".join(self._frame(*event) for event in piece), last)
            if self.reply is not reply:
                return
            while self.buffer and self.buffer[0][0] <= self.cursor:
                self.buffer.popleft()
            # No await between this look and the flag: a writer either sees `caught_up`, or its event is in the log.
            if self.cursor >= self.last:
                self.caught_up = True  # and not finished: the last event of a finished stream releases its reader
                return
            try:
                events = await self._events(self.cursor)
            except Exception as exc:
                # The events expired before this slow client read them, or the store failed: a new connection is told.
                if not isinstance(exc, EventsExpired):
                    logger.exception("the event store failed")
                self.detach(reply)
                reply.end()
                return

    def take_over(self) -> None:
        """End the connection that reads now, in good order; the stream goes on."""
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
        self.caught_up = False
        reply.on_gone = None
        for pause in list(self.slow_writers or ()):
            pause.cancel()
        self.session.count_readers(-1)


class StreamSession(Session):
    """A session of Streamable HTTP, with a stream for each call that needs one, and a standalone stream for notices."""

    __slots__ = ("_standalone", "store", "streams")

    key = ""  # the name of the session among the workers of a fleet

    def __init__(self, runtime: Runtime, state: SessionState, revision: Revision, store: EventStore | None) -> None:
        Session.__init__(self, runtime, state, revision)
        self.store = store
        self.streams: dict[str, Stream] = {}  # those that can be found again, the oldest first
        self._standalone: Stream | None = None

    @property
    def is_owned(self) -> bool:
        """Whether no other worker could go on with the session, which a store knows all the same."""
        return False

    def leave(self) -> None:
        """This server ends; other workers may go on with the session."""

    @property
    def keeps_events(self) -> bool:
        """Whether a client that comes back gets the events that it missed: then events have ids."""
        return self.store is not None

    @property
    def resumable(self) -> bool:
        """Streams begin with a priming event and may be closed early (2025-11-25)."""
        return self.keeps_events and self.revision.priming

    @property
    def standalone(self) -> Stream:
        """The stream for messages that belong to no call."""
        if self._standalone is None:
            # Not among `streams`: a dict of one entry is 140 bytes larger than an empty one.
            self._standalone = Stream(self, buffers_unread=True)
        return self._standalone

    @property
    def has_standalone(self) -> bool:
        """Whether `standalone` was ever used."""
        return self._standalone is not None

    def count_readers(self, by: int) -> None:
        """A connection began or ceased to read."""
        before = self.busy
        self.busy = before + by
        if not self.busy:
            if self.on_idle is not None:
                self.on_idle(self)
        elif not before and self.on_busy is not None:
            self.on_busy(self)

    def new_stream(self, *, requests: Sequence[str | int] = ()) -> Stream:
        """A stream that can be found again while it or the store remembers it; `requests` are answered on it."""
        stream = Stream(self)
        return self.remember(stream) if self.store is not None else stream

    def remember(self, stream: Stream) -> Stream:
        """Keep a stream to be found by its id; the oldest finished ones make room."""
        self.streams[stream.id] = stream
        while len(self.streams) > MAX_STREAMS and self._forget_oldest():
            pass
        return stream

    def found_stream(self, stream_id: str) -> Stream | None:
        """The stream with this id, where it can be resumed."""
        own = self._standalone
        return own if own is not None and own.id == stream_id else self.streams.get(stream_id)

    def forward(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """A coroutine that carries the message to the worker that it is for; None: that is this one.

        The coroutine raises `overloaded` where the message does not arrive.
        """
        return None

    def _forget_oldest(self) -> bool:
        for stream_id, stream in self.streams.items():
            if stream.finished:
                del self.streams[stream_id]
                return True
        return False

    def announce(self, payload: bytes, name: str = "") -> None:
        self.standalone.post(payload, name)

    def close(self) -> None:
        Session.close(self)
        # Before the streams close: no client can ask for late messages of cancelled calls, so they are not kept.
        self.store = None
        streams = set(self.streams.values())
        if self._standalone is not None:
            streams.add(self._standalone)
        for stream in streams:
            stream.finished = True
            stream.take_over()
        self.streams.clear()
