# SPDX-License-Identifier: MIT
"""The event streams of a session that lives on several workers: the log in the store is the stream.

The worker where a call runs appends to the call's log.  Any worker may read it: `Logs.read` names the reader and gives
the events in one step, and each later `append` returns the reader's worker, which gets a signal.  So no event is lost
between a read and the wait for the next one, and nothing polls.

Several workers append to the session's own stream.  An index is taken once, so each of them has its turn.

Rules:
- An event is in the log before a connection gets it, except while the store is away: then a reader at hand gets the
  event without an id, and the log gets it when the store is back.
- A stream whose writer has died is ended by one of its readers, with an error for each request that it was to answer.
  No call runs a second time by itself: a tool may not be idempotent.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ..eras.session import encode_notice
from ..handler.notices import Notice
from ..http.reply import Reply
from ..protocol.errors import EventsExpired, InternalError, overloaded
from ..protocol.jsonrpc import ErrorResponse, Message, Notification, Response
from ..protocol.methods import CANCELLED, INITIALIZED, LIST_CHANGED
from ..protocol.revisions import Revision
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet, key_of
from ..runtime.request_state import new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import KEEP_FINISHED, MAX_STREAM_EVENTS, SessionState
from ..stores.base import Full, StoreError, Tail, Taken
from .fleet_values import FleetValues
from .streams import Stream, StreamSession

logger = escaping(logging.getLogger(__name__))

QUESTION_ID_BYTES = 9
MAX_LATE_CLAIMS = 64  # streams of one session that this worker asked for in vain, because its store was late
MAX_APPENDS = 100  # tries of one event, each of them lost to another worker's event
LEFT = "left"  # the space of records that say how far the last reader of a session's own stream came


class Unsaved(NamedTuple):
    """An event that the log has not got yet."""

    number: (
        int  # its index; in a stream of several writers: the index at which it may be, because its append failed; or 0
    )
    payload: bytes
    last: bool
    only_reader: str | None  # as `SharedStream._append` takes it
    reader: Reply | None  # the connection that was given it, in a stream of several writers


class SharedStream(Stream):
    """A stream with its log in a store; `requests` are the JSON-RPC ids that it is to answer."""

    __slots__ = (
        "ending",
        "follower",
        "fleet",
        "known",
        "log_ttl",
        "opened",
        "remote_reader",
        "requests",
        "resuming",
        "lost",
        "unsaved",
        "woken",
        "writer",
    )

    session: FleetSession

    def __init__(self, session: FleetSession, stream_id: str = "", writer: str = "", requests: Any = ()) -> None:
        Stream.__init__(self, session)
        if stream_id:
            self.id = stream_id
        self.fleet = session.fleet
        self.writer = writer  # the worker that appends; "" where several do
        self.requests = requests
        self.ending = False  # it is closed without a last event
        self.known = False  # the log may exist
        self.lost = False  # the store has lost it, and this worker goes on for the reader at hand
        self.opened = False  # it does
        self.resuming = 0  # requests that are about to read it
        self.woken = False  # the log may have events that were not read yet
        self.follower: asyncio.Task[None] | None = None
        self.remote_reader = ""  # the worker that reads it, if that is another one
        self.unsaved: deque[Unsaved] | None = None  # events of a time when the store was away
        self.log_ttl = session.log_ttl

    @property
    def is_own(self) -> bool:
        """Whether this worker alone appends."""
        return self.writer == self.fleet.worker

    @property
    def is_standalone(self) -> bool:
        """Whether it is the session's own stream; a stream that is about to be read may not know its writer yet."""
        return self.id == self.session.state.stream

    # --- writing ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Make the log, so that another worker can find the stream before its first event."""
        async with self.lock:
            if not self.opened and not self.finished:
                try:
                    await self._open()
                except StoreError as exc:
                    self._store_failed(exc)

    async def _open(self) -> None:
        about = json.dumps(list(self.requests)).encode() if self.requests else b""
        self.known = True
        await self.fleet.logs.open(self.session.key, self.id, self.log_ttl, writer=self.writer, about=about)
        self.opened = True

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        await self._send(payload, last)

    async def send_notice(self, payload: bytes) -> None:
        # Of all workers, the one that a client reads from appends it.  The log decides which one that is.
        # The notices of a pinned session are known to its owner alone.
        await self._send(payload, False, None if self.session.is_owned else self.fleet.worker)

    async def _send(self, payload: bytes, last: bool, only_reader: str | None = None) -> None:
        async with self.lock:
            if self.finished:
                return
            index = await self._keep_or_put_off(payload, last, only_reader)
            reply = self.reply
            if reply is None or index <= self.cursor:  # the follower has read it from the log, and given it
                return
            if not self.caught_up or self.cursor != index - 1:
                self.wake()
                return
            self._write(reply, index, payload, last)
            if not last and not reply.writable:
                await self._room(reply)

    async def _keep_or_put_off(self, payload: bytes, last: bool, only_reader: str | None) -> int:
        """Give an event to the log, now or when the store is back, and return its index; 0 where there is none yet."""
        tried = 0
        if self.lost:
            self.last += 1
            self.finished = self.finished or last
            return self.last
        if self.unsaved is None:
            tried = self.last + 1
            try:
                return await self._append(payload, last, only_reader)
            except StoreError as exc:
                if self.is_own and self.last >= tried:
                    # The follower has found it in the log, so the append was done; only its answer did not come.
                    self.finished = self.finished or last
                    return tried
                self._store_failed(exc)
        return self._put_off(payload, last, only_reader, tried)

    async def _append(self, payload: bytes, last: bool, only_reader: str | None = None) -> int:
        """Take the next free index of the log and return it; 0 where that is not for this worker.

        `only_reader` appends while the log has no reader but this worker.  Raises StoreError where the store fails.
        """
        logs, session_id = self.fleet.logs, self.session.key
        if not self.opened:
            await self._open()
        for _ in range(MAX_APPENDS):
            index = self.last + 1
            try:
                reader = await logs.append(session_id, self.id, index, payload, last=last, reader=only_reader)
            except Taken:
                tail = await self._look()
                if self.lost:
                    return await self._keep_or_put_off(payload, last, only_reader)
                if tail is None or self.finished:
                    return 0
                if only_reader and tail.reader not in ("", only_reader):
                    self._leave_to(tail.reader)
                    return 0
                continue
            self.last = max(self.last, index)  # the follower may have seen it, or more, in the log meanwhile
            self.finished = self.finished or last
            self._on_reader(reader)
            return index
        raise StoreError("other workers took every index")

    async def _look(self) -> Tail | None:
        """Learn of the events that other workers appended; None where there is no log any more."""
        try:
            tail = await self.fleet.logs.read(self.session.key, self.id, self.last)
        except EventsExpired:
            # The session has ended elsewhere, or the store has lost its data.
            self._lose_log()
            return None
        if tail.last > self.last:
            self.last = tail.last
            self.caught_up = False
        self.finished = self.finished or tail.finished
        return tail

    def _lose_log(self) -> None:
        """The log is gone.  A reader that was given every event may have the rest without ids; any other one ends."""
        self.unsaved = None
        self.session.unsaved_streams.pop(self, None)
        if self.is_own and self.caught_up and not self.session.closed:
            self.lost = True
            return
        self.finished = True
        self.take_over()

    def _on_reader(self, reader: str) -> None:
        """The log says which worker reads it."""
        if reader == self.fleet.worker and self.reply is None and not self.resuming:
            self.session.read_elsewhere(self.id)
        if reader and reader != self.fleet.worker:
            self.remote_reader = reader
            self._leave_to(reader)
            self.fleet.signal("events", reader, session=self.session.key, stream=self.id)

    def _leave_to(self, reader: str) -> None:
        """Another worker reads from now on."""
        if self.is_standalone:
            self.session.keeps_notices = False
        self.pending_notices.clear()
        self.take_over()

    # --- the store is away -----------------------------------------------------------------------------------

    def _store_failed(self, exc: StoreError) -> None:
        logger.warning("session %s goes on without its store: %s", self.session.id[:8], exc)
        if self.unsaved is None:
            self.unsaved = deque()
            self.session.unsaved_streams[self] = None

    def _put_off(self, payload: bytes, last: bool, only_reader: str | None, tried: int) -> int:
        """Keep an event that the log will get later, and return its index; 0 where only the log can number it."""
        assert self.unsaved is not None, "the store has failed"
        if len(self.unsaved) >= MAX_STREAM_EVENTS:
            self.unsaved.popleft()  # a client that comes back for it is told that it has expired
        if self.writer:
            self.last += 1
            self.finished = self.finished or last
            self.unsaved.append(Unsaved(self.last, payload, last, None, None))
            return self.last
        reader = self.reply if self.caught_up else None
        self.unsaved.append(Unsaved(tried, payload, last, only_reader, reader))
        if reader is not None:
            self._write(reader, self.cursor, payload, False)
        return 0

    async def save(self) -> None:
        """The store is back: give the log the events that it missed."""
        async with self.lock:
            try:
                while self.unsaved:
                    save = self._save_own if self.writer else self._save_shared
                    if not await save(self.unsaved[0]):
                        await self._give_up_log()
                        return
                    if self.unsaved:
                        self.unsaved.popleft()
                if self.ending:
                    await self._end_log()
            except StoreError as exc:
                logger.debug("the store is away again: %s", exc)
                return
            self.unsaved = None
            self.session.unsaved_streams.pop(self, None)
        if self.reply is not None:
            self.wake()

    async def _save_own(self, one: Unsaved) -> bool:
        """Give the log an event that has its index; False where the log is lost."""
        if not self.opened:
            await self._open()
        logs = self.fleet.logs
        try:
            self._on_reader(await logs.append(self.session.key, self.id, one.number, one.payload, last=one.last))
        except Taken:
            return await self._is_saved(one)
        return True

    async def _save_shared(self, one: Unsaved) -> bool:
        """Give the log an event that takes the next free index; False where the stream has ended."""
        index = one.number
        if not index or not await self._is_saved(one):
            index = await self._append(one.payload, False, one.only_reader)
        self.last = max(self.last, index)
        if one.reader is not None and one.reader is self.reply and self.cursor == index - 1:
            self.cursor = index  # that connection has it
        return not self.finished

    async def _is_saved(self, one: Unsaved) -> bool:
        """Whether the event is in the log: its append was done, though the answer never came."""
        try:
            tail = await self.fleet.logs.read(self.session.key, self.id, one.number - 1)
        except EventsExpired:
            return False
        return bool(tail.events) and tail.events[0] == (one.number, one.payload)

    async def _give_up_log(self) -> None:
        """The log is lost, or has a gap: a client that comes back is told so."""
        self._lose_log()
        try:
            await self.fleet.logs.discard(self.session.key, self.id)
        except StoreError as exc:
            logger.debug("a log with a gap is left to its time: %s", exc)

    def _event_id(self, index: int) -> str:
        named = self.unsaved is None and not self.lost and self.session.keeps_events
        return f"{self.id}.{index}" if named else ""

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self.finished:
            return
        self.finished = True
        if self.caught_up:
            self.take_over()
        else:
            self.wake()  # the follower ends the reader when that has every event
        if (self.known or self.opened) and not self.session.leaving:
            self.session.runtime.spawn(self._finish())

    async def _finish(self) -> None:
        async with self.lock:
            self.ending = True
            if self.unsaved is not None:
                return  # `save` ends the log after its last events
            try:
                await self._end_log()
            except StoreError as exc:
                self._store_failed(exc)

    async def _end_log(self) -> None:
        """End the log without a last event, and tell the reader on another worker."""
        logs = self.fleet.logs
        if not self.opened:  # the call was cancelled while it opened the log: that may come late
            await self._open()
        await logs.finish(self.session.key, self.id, KEEP_FINISHED)
        try:
            # The readers tell one another of a change, and not the writer: only the log knows the newest one.
            self.remote_reader = (await logs.read(self.session.key, self.id, None)).reader
        except EventsExpired:
            return  # gone with its session
        if self.remote_reader not in ("", self.fleet.worker):
            self.fleet.signal("events", self.remote_reader, session=self.session.key, stream=self.id)

    # --- reading ---------------------------------------------------------------------------------------------

    async def resume(self, reply: Reply, after: int) -> None:
        # Another request for this stream, while this one waits for the store, has to find this object.
        self.session.streams.setdefault(self.id, self)
        self.resuming += 1
        try:
            with _store_is_near():
                await self._resume(reply, after)
        finally:
            self.resuming -= 1
            self._forget_if_unread()

    async def _resume(self, reply: Reply, after: int) -> None:
        self.newest_reader = reply
        worker = self.fleet.worker
        claims = self.session.late_claims
        try:
            tail = await self.fleet.logs.read(self.session.key, self.id, after, reader=worker)
        except StoreError:
            if len(claims) < MAX_LATE_CLAIMS:
                claims[self.id] = None
            raise
        claims.pop(self.id, None)
        self.opened = True
        self.writer, self.last = tail.writer, max(self.last, tail.last)
        if not self.requests and tail.about:
            self.requests = self._requests_in(tail.about)
        other = tail.reader or tail.writer or self.session.home
        if other != worker:
            self.fleet.signal("reader", other, session=self.session.key, stream=self.id, by=worker)
        self.remote_reader = ""
        missed = False
        if self.is_standalone:
            missed = not self.session.keeps_notices and not await self.fleet.is_alive(tail.reader or self.session.home)
            self.session.keeps_notices = True
        if not reply.alive:
            return
        if self.newest_reader is not reply:
            reply.stream_once(self._prime(after))
            return
        if tail.finished and after >= tail.last:
            self.finished = True
            reply.answer(204, b"", ())
            return
        self.take_over()
        self.reply, self.caught_up, self.cursor = reply, False, after
        self.pending_notices.clear()
        reply.on_gone = self._left
        self.session.count_readers(+1)
        reply.open(self._prime())
        reply.forget()
        if self.writer and not self.is_own:
            self.fleet.watch(self.writer, self.orphaned)
        self.wake()
        if missed:
            self.session.announce_changes()

    def _requests_in(self, about: bytes) -> list[str | int]:
        """The ids that a log names.  Raises EventsExpired where they cannot be read."""
        with suppress(ValueError, RecursionError):
            ids = json.loads(about)
            if type(ids) is list and all(type(one) in (str, int) for one in ids):
                return ids
        self.fleet.log_once(f"a stream of session {self.session.id[:8]} cannot be read")
        raise EventsExpired(self.id)

    async def listen(self, reply: Reply) -> None:
        """Give `reply` the events that no connection was given, on any worker, then all later ones."""
        with _store_is_near():
            if not self.opened:
                await self._open()
            after = self.cursor if self.session.keeps_notices else await self._left_at()
            try:
                await self._resume(reply, after)
            except EventsExpired:
                # The client named no event, so it may begin at the oldest event that is left.
                tail = await self._tail()
                await self._resume(reply, tail.last - len(tail.events))

    async def _left_at(self) -> int:
        """How far the last reader came; the newest event where that reader did not leave in order."""
        kept = await self.fleet.records.load(LEFT, self.session.key)
        if kept is not None:
            await self.fleet.records.delete(LEFT, self.session.key)
            if kept.value.isdigit() and len(kept.value) <= 15:
                return int(kept.value)
        return (await self._tail()).last

    async def _tail(self) -> Tail:
        """The log with all events that are left; raises EventsExpired where there is no log."""
        return await self.fleet.logs.read(self.session.key, self.id, None)

    def wake(self) -> None:
        """There may be events in the log that the reader at hand was not given."""
        self.woken = True
        if self.lost or self.unsaved is not None:
            return  # the log lacks events that this reader has; if it is not lost, `save` wakes again
        self.caught_up = False
        if self.reply is not None and self.follower is None:
            self.follower = self.session.runtime.spawn(self._follow())

    async def _follow(self) -> None:
        """Give the reader all events of the log, until it has caught up or is gone."""
        try:
            while (reply := self.reply) is not None:
                self.woken = False
                try:
                    tail = await self.fleet.logs.read(self.session.key, self.id, self.cursor)
                except EventsExpired:
                    # They have expired before this slow client read them.  A client that comes back is told.
                    self.detach(reply)
                    reply.end()
                    return
                except StoreError as exc:
                    self._store_failed(exc)
                    return
                if not await self._give(reply, tail.events, tail.last if tail.finished else 0):
                    continue
                self.last = max(self.last, tail.last)
                self.finished = self.finished or tail.finished
                if tail.finished:
                    self.take_over()
                    return
                # No await between this look and the flag: a later event is announced by a signal, which sets `woken`.
                if not self.woken and self.cursor >= self.last:
                    self.caught_up = True
                    if self.finished:  # closed here, without a last event
                        self.take_over()
                    return
        finally:
            self.follower = None

    async def _give(self, reply: Reply, events: list[tuple[int, bytes]], last: int) -> bool:
        """Write events to the reader; False where it is not the reader any more."""
        for index, payload in events:
            if self.reply is reply and not reply.writable:
                await self._room(reply)
            if self.reply is not reply:
                return False
            if index > self.cursor:
                self._write(reply, index, payload, index == last)
        return self.reply is reply

    def _release(self, reply: Reply) -> None:
        Stream._release(self, reply)
        if self.writer and not self.is_own:
            self.fleet.unwatch(self.writer, self.orphaned)
            self._forget_if_unread()
        elif self.is_standalone and not self.session.closed and self.session.keeps_notices:
            self.session.runtime.spawn(self._note_left(self.cursor))

    def _forget_if_unread(self) -> None:
        """A stream of another worker is known here while a connection reads it, or is about to."""
        elsewhere = not self.is_own and not self.is_standalone
        if elsewhere and self.reply is None and not self.resuming and self.session.streams.get(self.id) is self:
            del self.session.streams[self.id]

    async def _note_left(self, cursor: int) -> None:
        try:
            await self.fleet.records.delete(LEFT, self.session.key)
            await self.fleet.records.create(LEFT, self.session.key, str(cursor).encode(), self.log_ttl)
        except StoreError as exc:
            logger.debug("how far a stream was read is not kept: %s", exc)

    def orphaned(self) -> None:
        """The worker that wrote the stream is dead: end it, unless another reader did."""
        self.session.runtime.spawn(self._end_for_the_dead())

    async def _end_for_the_dead(self) -> None:
        json_ = self.session.runtime.json
        error = InternalError("The server that ran this call is gone.  The call may have been done in part")
        answers = [json_.error(request, error) for request in self.requests]
        try:
            async with self.lock:
                await self._look()
                for left, payload in zip(range(len(answers) - 1, -1, -1), answers, strict=True):
                    if not self.finished:
                        await self._append(payload, not left)
                if not answers:
                    await self.fleet.logs.finish(self.session.key, self.id, KEEP_FINISHED)
        except StoreError as exc:
            logger.warning("the stream of a dead worker is not ended yet: %s", exc)
            self.fleet.watch(self.writer, self.orphaned)
            return
        self.wake()

    def on_reader(self, worker: str) -> None:
        """Another worker reads the stream now, by its own word."""
        if worker == self.fleet.worker:
            return
        self.remote_reader = worker
        self._leave_to(worker)
        if self.finished:  # before that worker read, it may have missed the end
            self.fleet.signal("events", worker, session=self.session.key, stream=self.id)


class FleetSession(FleetValues):
    """A session that other workers serve as well."""

    __slots__ = (
        "fleet", "home", "initialized", "keeps_notices", "key", "late_claims", "leaving", "log_ttl", "saved",
        "unsaved_streams", "version",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, fleet: Fleet, state: SessionState, revision: Revision) -> None:
        StreamSession.__init__(self, runtime, state, revision, None)
        self.fleet = fleet
        self.key = key_of(state.id)  # the session's name in the store and among the workers
        self.values_lock = None
        self.leaving = False  # this worker ends, and the session goes on elsewhere
        # Of all workers one puts notices into the session's own stream: the last one that a client read it from.
        self.keeps_notices = state.home == fleet.worker
        self.version = 0  # of the record
        self.initialized = False  # the client has said so, to any worker
        self.home = state.home
        self.saved: tuple[frozenset[str], str] = (frozenset(), "")  # subscriptions and log level in the record
        self.unsaved_streams: dict[SharedStream, None] = {}
        self.late_claims: dict[str, None] = {}  # ids of streams: see `read_elsewhere`
        idle = runtime.settings.session_idle
        self.log_ttl = 86_400.0 if idle is None else idle + 60.0

    @property
    def standalone(self) -> Stream:
        if self._standalone is None:
            self._standalone = SharedStream(self, self.state.stream)
            self.streams[self._standalone.id] = self._standalone
        return self._standalone

    @property
    def is_owned(self) -> bool:
        return self.state.pinned and self.home == self.fleet.worker

    @property
    def question_prefix(self) -> str:
        # The id names the worker where the answer is awaited.  It cannot be guessed: the answer of a client counts only
        # for a session of its own, and this keeps it from another call of that session, too.
        return f"{self.fleet.worker}.{new_id(QUESTION_ID_BYTES)}-"

    @property
    def keeps_events(self) -> bool:
        return self.runtime.settings.replay and not self.closed

    def new_stream(self, *, buffers_unread: bool = False, requests: Sequence[str | int] = ()) -> Stream:
        if not self.keeps_events:
            return StreamSession.new_stream(self)
        return self.remember(SharedStream(self, writer=self.fleet.worker, requests=requests))

    def found_stream(self, stream_id: str) -> Stream | None:
        if stream_id == self.state.stream:
            return self.standalone
        known = self.streams.get(stream_id)
        # Of another worker, perhaps: `resume` raises EventsExpired where no worker has it.
        return SharedStream(self, stream_id) if known is None and self.keeps_events else known

    def forward(self, message: Message) -> Coroutine[Any, Any, None] | None:
        if isinstance(message, Notification):
            if message.method == CANCELLED and message.params.get("requestId") not in self.calls:
                return self._forward_cancellation(message.params.get("requestId"))
            if message.method == INITIALIZED and not self.initialized:
                self.initialized = True
                self.runtime.spawn(self._save())
        elif isinstance(message, (Response, ErrorResponse)) and isinstance(message.id, str):
            worker, dot, _ = message.id.partition(".")
            if dot and worker != self.fleet.worker:
                return self._forward_answer(worker, message)
        return None

    async def _save(self) -> None:
        await self.changed()

    async def _forward_cancellation(self, request_id: Any) -> None:
        """The call may run on any other worker: each of them looks."""
        if type(request_id) in (str, int):
            with _store_is_near():
                await self.fleet.send_others("cancelled", session=self.key, request=request_id)

    async def _forward_answer(self, worker: str, message: Response | ErrorResponse) -> None:
        """The question's id names the worker where it waits; a dead worker waits for nothing."""
        body = {"result": message.result} if isinstance(message, Response) else {"error": message.error}
        with _store_is_near():
            await self.fleet.send(worker, "answer", session=self.key, id=message.id, **body)

    def read_elsewhere(self, stream_id: str) -> None:
        """The log of a stream names this worker as its reader, which does not read it.

        It asked for the stream, gave the wait for the store up, and was heard late: perhaps after the true reader.
        """
        if stream_id in self.late_claims:
            self.fleet.signal("events", session=self.key, stream=stream_id, passed=True)

    def announce(self, payload: bytes) -> None:
        if self.is_owned if self.state.pinned else self.keeps_notices:
            self.standalone.post(payload)

    def announce_changes(self) -> None:
        """Tell the client that every list may have changed: notices may have been lost with a worker."""
        capabilities = self.runtime.handler.capabilities()
        for kind, method in LIST_CHANGED.items():
            if capabilities.get(kind, {}).get("listChanged"):
                self.announce(self.runtime.json.notification(method))
        for uri in self.state.subscriptions:
            self.announce(encode_notice(self.runtime.json, Notice("updated", uri)))


@contextmanager
def _store_is_near() -> Iterator[None]:
    """Raises `overloaded` where the store is away."""
    try:
        yield
    except Full:
        raise overloaded("Too many messages wait for another worker") from None
    except StoreError as exc:
        logger.warning("a message did not reach its worker: %s", exc)
        raise overloaded("The store of the sessions is away") from None
