# SPDX-License-Identifier: MIT
"""The writing end of a stream of a fleet: its events go into a log in the store.

Several workers append to the session's own stream.  An index is taken once, so each of them has its turn.

Rule: an event is in the log before a connection gets it, except while the store is away.  Then a reader at hand gets
the event without an id, and the log gets it when the store is back.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from typing import Any

from ..protocol.errors import EventsExpired
from ..protocol.shown import escaping
from ..runtime.storage import KEEP_FINISHED, MAX_STREAM_EVENTS
from ..stores.base import Repeated, StoreError, Tail, Taken
from .fleet_sharing import SharingSession
from .streams import Stream
from .waiting import Pending, Unsaved, untold

logger = escaping(logging.getLogger(__name__))

MAX_APPENDS = 100  # tries of one event, each of them lost to another worker's event


class LoggedStream(Stream):
    """The writing end of a stream with its log in a store; `requests` are the JSON-RPC ids that it is to answer."""

    __slots__ = (
        "astray",
        "ending",
        "follower",
        "fleet",
        "known",
        "log_ttl",
        "opened",
        "remote_reader",
        "requests",
        "rejoins",
        "resuming",
        "lost",
        "named",
        "unsaved",
        "woken",
        "writer",
    )

    session: SharingSession

    def __init__(self, session: SharingSession, stream_id: str = "", writer: str = "", requests: Any = ()) -> None:
        Stream.__init__(self, session)
        if stream_id:
            self.id = stream_id
        self.fleet = session.fleet
        self.writer = writer  # the worker that appends; "" where several do
        self.requests = requests
        self.ending = False  # it is closed without a last event
        self.known = False  # the log may exist
        self.lost = False  # it is gone, and this worker goes on for the reader at hand
        self.named = True  # the newest event that a connection was given had an id
        self.astray = False  # the store lost it with all data: `save` begins it anew
        self.rejoins = False  # the same, and its reader here has to be named again
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
        return self is self.session.own_stream or self.id == self.session.state.stream

    def wake(self) -> None:
        """There may be events in the log that the reader at hand was not given."""
        raise NotImplementedError

    # --- writing ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Make the log, so that another worker can find the stream before its first event."""
        async with self.lock:
            if not self.opened and not self.finished:
                try:
                    await self._open()
                except StoreError as exc:
                    self._store_failed(exc)

    async def _open(self, after: int = 0) -> None:
        about = json.dumps(list(self.requests)).encode() if self.requests else b""
        self.known = True
        await self.fleet.logs.open(
            self.session.key, self.id, self.log_ttl, writer=self.writer, about=about, after=after
        )
        self.opened = True

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        await self._send(payload, last)

    async def send_notice(self, payload: bytes, pending: Pending) -> None:
        await self._send(payload, False, pending)

    async def _send(self, payload: bytes, last: bool, notice: Pending | None = None) -> None:
        async with self.lock:
            if self.finished:
                return
            await self._show(await self._keep_or_put_off(payload, last, notice), payload, last)

    async def _show(self, index: int, payload: bytes, last: bool) -> None:
        """Give an event that has this index to the reader at hand, and wait while that one is slow."""
        reply = self.reply
        if reply is None or index <= self.cursor:  # the follower has read it from the log, and given it
            return
        if not self.caught_up or self.cursor != index - 1:
            self.wake()
            return
        self._write(reply, index, payload, last)
        if not last and not reply.writable:
            await self._room(reply)

    async def _keep_or_put_off(self, payload: bytes, last: bool, notice: Pending | None) -> int:
        """Give an event to the log, now or when the store is back, and return its index; 0 where there is none yet."""
        tried = 0
        if self.lost:
            self.last += 1
            self.finished = self.finished or last
            return self.last
        if self.unsaved is None:
            tried = self.last + 1
            try:
                return await self._append(payload, last, notice)
            except StoreError as exc:
                if self.is_own and self.last >= tried:
                    # The follower has found it in the log, so the append was done; only its answer did not come.
                    self.finished = self.finished or last
                    return tried
                self._store_failed(exc)
        return self._put_off(payload, last, notice, tried)

    async def _append(self, payload: bytes, last: bool, notice: Pending | None = None) -> int:
        """Take the next free index of the log and return it; 0 where that is not for this worker.

        Of all workers, the one that a client reads from appends a notice, and the log decides which one that is.  The
        log also refuses a name that it has, so that near a move the notice is not appended by two workers.
        Raises StoreError where the store fails.
        """
        logs, session_id = self.fleet.logs, self.session.key
        # The notices of a pinned session are known to its owner alone.
        only = None if notice is None or self.session.is_owned else self.fleet.worker
        if not self.opened:
            await self._open()
        for _ in range(MAX_APPENDS):
            index, name = self.last + 1, "" if notice is None else notice.name
            told = () if notice is None else tuple(notice.names)
            try:
                reader = await logs.append(session_id, self.id, index, payload, last=last, reader=only, name=name)
            except Repeated:
                assert notice is not None, "nothing else has a name"
                notice.drop((name,))
                if notice.names:
                    continue  # it is to tell of another change as well, which the client may not have heard of
                # The client may have read it from another worker, and would not hear of changes that came since.
                left = self.pending_notices.pop(payload, None) if self.pending_notices else None
                if left is not None and left.names:
                    self.post(payload, *left.names)
                return 0
            except Taken:
                tail = await self._look()
                if self.lost:
                    return await self._keep_or_put_off(payload, last, notice)
                if tail is None or self.finished:
                    return 0
                if only and tail.reader not in ("", only):
                    assert notice is not None, "nothing else names its only reader"
                    notice.drop(told)
                    self._leave_to(tail.reader)
                    self.session.pass_on(tail.reader, payload, told)
                    return 0
                continue
            if notice is not None:
                notice.drop(told)
            self.last = max(self.last, index)  # the follower may have seen it, or more, in the log meanwhile
            self.finished = self.finished or last
            self._on_reader(reader)
            return index
        self.fleet.guard.doubt()  # so that the store is probed, and `save` is called after that
        raise StoreError("other workers took every index")

    async def _look(self) -> Tail | None:
        """Learn of the events that other workers appended; None where there is no log any more."""
        try:
            tail = await self.fleet.logs.read(self.session.key, self.id, self.last)
        except EventsExpired:
            await self._check_astray(self.last)
            self._lose_log()  # the session has ended elsewhere
            return None
        if tail.last > self.last:
            self.last = tail.last
            self.caught_up = False
        self.finished = self.finished or tail.finished
        return tail

    async def _check_astray(self, known: int = 0) -> None:
        """Raises StoreError where the log is begun anew: it is gone with all other data, or the store was set back.

        `known` is the index of an event that was in the log, if there was one.
        """
        if not self.astray:
            mark = self.fleet.keys.mark
            await self.fleet.lost_data(mark if known and await self._is_shorter(known) else "")
        if self.astray:
            raise StoreError("the store has lost this log")

    async def _is_shorter(self, known: int) -> bool:
        """Whether the log is there, and ends before an event that was in it."""
        try:
            return (await self.fleet.logs.read(self.session.key, self.id, None)).last < known
        except EventsExpired:
            return False

    def _lose_log(self) -> None:
        """The log is gone.  A reader that was given every event may have the rest without ids; any other one ends."""
        self.unsaved, self.astray = None, False
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
            self.session.leave_notices(reader, self._untold())
        self.take_over()

    def _forget_pending(self) -> None:
        for payload, names in self._untold():
            self.post(payload, *names)

    def _untold(self) -> list[tuple[bytes, list[str]]]:
        pending, self.pending_notices = self.pending_notices, None
        return untold(pending) if pending else []

    # --- the store is away -----------------------------------------------------------------------------------

    def _store_failed(self, exc: StoreError) -> None:
        logger.warning("session %s goes on without its store: %s", self.session.id[:8], exc)
        self._save_later()

    def _save_later(self) -> None:
        if self.unsaved is None:
            self.unsaved = deque()
            self.session.unsaved_streams[self] = None

    def _put_off(self, payload: bytes, last: bool, notice: Pending | None, tried: int) -> int:
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
        self.unsaved.append(Unsaved(tried, payload, last, notice and notice.taken(), reader))
        if reader is not None:
            self._write(reader, self.cursor, payload, False)
        return 0

    async def save(self) -> None:
        """The store is back: give the log the events that it missed."""
        async with self.lock:
            try:
                while self.astray or self.unsaved:
                    if self.astray:
                        await self._begin_anew()
                        continue
                    assert self.unsaved is not None, "the loop says so"
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
            index = await self._append(one.payload, False, one.notice)
        self.last = max(self.last, index)
        if one.reader is not None and one.reader is self.reply and self.cursor == index - 1:
            self.cursor = index  # that connection has it
        return not self.finished

    async def _is_saved(self, one: Unsaved) -> bool:
        """Whether the event is in the log: its append was done, though the answer never came."""
        try:
            tail = await self.fleet.logs.read(self.session.key, self.id, one.number - 1)
        except EventsExpired:
            await self._check_astray()
            return False
        saved = bool(tail.events) and tail.events[0] == (one.number, one.payload)
        if saved:
            self._on_reader(tail.reader)  # the append would have said so
        return saved

    async def _give_up_log(self) -> None:
        """The log is lost or has a gap: a client that comes back is told so.  Or a reader took this worker for dead."""
        self._lose_log()
        logs, session_id = self.fleet.logs, self.session.key
        try:
            tail = await logs.read(session_id, self.id, None)
            if not tail.finished:
                await logs.discard(session_id, self.id)
        except EventsExpired:
            return
        except StoreError as exc:
            logger.debug("a log with a gap is left to its time: %s", exc)
            return
        if tail.reader not in ("", self.fleet.worker):
            self.fleet.signal("events", tail.reader, session=session_id, stream=self.id)

    def _has_ids(self) -> bool:
        self.named = self.unsaved is None and not self.lost and self.session.keeps_events
        return self.named

    # --- the store has lost its data -------------------------------------------------------------------------

    def lose_data(self) -> None:
        """The log is gone with all other data of the store."""
        self.pending_notices = None  # they may be gone; all changes are told again
        if not self.is_own and not self.is_standalone:
            self.rejoins = True
        elif (self.known or self.opened or self.is_standalone) and (self.unsaved or not self.finished):
            self.astray, self.opened, self.caught_up = True, False, self.caught_up and self.is_own
            self._save_later()

    async def _begin_anew(self) -> None:
        """Make the log again, without the events that are gone.  Raises StoreError."""
        if not self.session.version:
            raise StoreError("the record of the session is not kept yet")
        self.astray = False  # now, because the store may lose its data once more
        try:
            await (self._begin_standalone() if self.is_standalone else self._begin_own())
        except EventsExpired:
            self.astray = True
            await self.fleet.lost_data()
            self.fleet.guard.doubt()  # so that it is tried again
            raise StoreError("the log is gone as soon as it was made") from None
        except BaseException:
            self.astray = True
            raise

    async def _begin_standalone(self) -> None:
        """Its id is another one, because no worker knows which index all others have seen."""
        session, logs = self.session, self.fleet.logs
        if self.id != session.state.stream:  # else the session began after the loss
            self._renumber(session.state.stream)
        await self._open()
        tail = await logs.read(session.key, self.id, None)
        before = tail.last - len(tail.events)
        if tail.last < self.last:  # the store was set back to an earlier time
            await logs.discard(session.key, self.id)
            await self._open(self.last)
            before = self.last
        if self.reply is not None:
            self.cursor = max(self.cursor, before)
            await logs.read(session.key, self.id, self.cursor, reader=self.fleet.worker)

    async def _begin_own(self) -> None:
        session, logs = self.session, self.fleet.logs
        after = self.unsaved[0].number - 1 if self.unsaved else self.last
        try:
            await logs.read(session.key, self.id, after)  # it may have begun after the loss
            self.opened = True
        except EventsExpired:
            await logs.discard(session.key, self.id)  # an older state of the store may have a part of it
            await self._open(after)
        self.fleet.signal("events", session=session.key, stream=self.id, anew=True)

    def _renumber(self, stream_id: str) -> None:
        """Be the stream with this id, which has no event yet."""
        streams = self.session.streams
        if streams.get(self.id) is self:
            del streams[self.id]
        self.id = stream_id
        self.session.know(self)
        self.last = self.cursor = 0
        self.remote_reader = ""
        assert self.unsaved is not None, "`lose_data` said so"
        self.unsaved = deque(one._replace(number=0) for one in self.unsaved)

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
            self.session.runtime.spawn(self.finish_log())

    @property
    def is_running(self) -> bool:
        """Whether a call at this worker writes it, and it has a log."""
        return self.is_own and self.opened and not self.finished

    async def finish_log(self) -> None:
        """End the log without a last event; after a failure of the store `save` does, where the session goes on."""
        async with self.lock:
            self.ending = True
            if self.unsaved is not None and not self.session.closed:
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
