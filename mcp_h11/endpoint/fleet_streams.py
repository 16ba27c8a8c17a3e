# SPDX-License-Identifier: MIT
"""The event streams of a session that lives on several workers: the log in the store is the stream.

The worker where a call runs appends to the call's log (`fleet_logs`).  Any worker may read it: `Logs.read` names the
reader and gives the events in one step, and each later `append` returns the reader's worker, which gets a signal.  So
no event is lost between a read and the wait for the next one, and nothing polls.

Rule: a stream whose writer has died is ended by one of its readers, with an error for each request that it was to
answer.  No call runs a second time by itself: a tool may not be idempotent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from ..http.reply import UNDECIDED, Reply
from ..http.sse import encode_event
from ..protocol.errors import EventsExpired, InternalError, session_not_found
from ..protocol.shown import escaping
from ..runtime.storage import KEEP_FINISHED
from ..stores.base import StoreError, Tail
from .fleet_bursts import BurstStream
from .fleet_sharing import store_is_near
from .streams import Stream

logger = escaping(logging.getLogger(__name__))

MAX_LATE_CLAIMS = 64  # streams of one session that this worker asked for in vain, because its store was late
LEFT = "left"  # the space of records that say how far the last reader of a session's own stream came


class SharedStream(BurstStream):
    """A stream that any worker may write and read."""

    __slots__ = ()

    async def resume(self, reply: Reply, after: int) -> None:
        # Another request for this stream, while this one waits for the store, has to find this object.
        self.session.streams.setdefault(self.id, self)
        self.resuming += 1
        try:
            with store_is_near():
                await self._unless_lost(self._resume(reply, after))
        finally:
            self.resuming -= 1
            self._forget_if_unread()

    async def _unless_lost(self, reading: Coroutine[Any, Any, None]) -> None:
        """Await it.  Raises StoreError, and not EventsExpired, where the log is begun anew soon."""
        try:
            await reading
        except EventsExpired:
            if await self.fleet.lost_data():
                raise StoreError("the store has lost its data") from None
            raise

    async def _resume(self, reply: Reply, after: int) -> None:
        if self.astray:
            raise StoreError("the store has lost this log, which is begun anew")
        self.newest_reader = reply
        tail = await self._claim(after)
        self.opened = True
        self.writer, self.last = tail.writer, max(self.last, tail.last)
        if not self.requests and tail.about:
            self.requests = self._requests_in(tail.about)
        worker = self.fleet.worker
        other = tail.reader or tail.writer or self.session.home
        if self.is_standalone and not self.session.keeps_notices:
            self.session.keeps_notices = True  # at once, because the worker before is told so at once
            self.session.keeps_since = 0 if self.session.recent is None else self.session.recent.count
            self.session.runtime.spawn(self._see_off(other))
        elif other != worker:
            self.fleet.signal("reader", other, session=self.session.key, stream=self.id, by=worker)
        self.remote_reader = ""
        if not reply.alive:
            return
        if self.newest_reader is not reply:
            reply.stream_once(self._prime(after))
            return
        if tail.finished and after >= tail.last:
            self.finished = True
            reply.answer(204, b"", ())
            return
        self._attach(reply, after)
        if self.writer and not self.is_own:
            self.fleet.watch(self.writer, self.orphaned)
        self.wake()

    async def _claim(self, after: int) -> Tail:
        """Read the log, and be its reader from the same moment on.  Raises EventsExpired and StoreError."""
        claims, name, worker = self.session.late_claims, self.id, self.fleet.worker
        try:
            tail = await self.fleet.logs.read(self.session.key, name, after, reader=worker)
        except StoreError:
            if len(claims) < MAX_LATE_CLAIMS:
                claims[name] = None
            raise
        if self.id != name:
            raise StoreError("the store has lost this log, which was begun anew meanwhile")
        if self.session.streams.get(name, self) is not self:
            # This worker has heard meanwhile that its session's own stream has this id: notices go into that object.
            raise StoreError("the store has lost its data, and this worker knew this stream by another id")
        if not tail.writer and not self.is_standalone:
            raise EventsExpired(name)  # the session's own stream, before or after this worker notices a loss of data
        claims.pop(name, None)
        if self.session.closed:
            raise session_not_found()  # it ended meanwhile, and nothing would end this reader
        return tail

    async def _see_off(self, before: str) -> None:
        """Tell the worker that put in the notices until now.  It passes on those that it hears late, if it lives."""
        names = {"session": self.session.key, "stream": self.id, "by": self.fleet.worker}
        with suppress(StoreError):  # after which all workers tell that all may have changed
            if before != self.fleet.worker and not await self.fleet.tell_one(before, "reader", **names):
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
        with store_is_near():
            await self._unless_lost(self._listen(reply))

    async def _listen(self, reply: Reply) -> None:
        if not self.opened and not self.astray:
            await self._open()
        after = self.cursor if self.session.keeps_notices else await self._left_at()
        try:
            await self._resume(reply, after)
        except EventsExpired:
            # The client named no event, so it may begin at the oldest event that is left.
            tail = await self._tail()
            await self._resume(reply, tail.last - len(tail.events))

    async def _left_at(self) -> int:
        """How far the last reader came; the newest event where it did not leave in order; 0 before the first."""
        kept = await self.fleet.records.load(LEFT, self.session.key)
        if kept is not None:
            await self.fleet.records.delete(LEFT, self.session.key)
            if kept.value.isdigit() and len(kept.value) <= 15:
                return int(kept.value)
        tail = await self._tail()
        return tail.last if tail.reader else tail.last - len(tail.events)

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
                    tail = await self._read_on(reply)
                except StoreError as exc:
                    self._store_failed(exc)
                    return
                if tail is None:
                    if self.woken:
                        continue
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

    async def _read_on(self, reply: Reply) -> Tail | None:
        """The next events for the reader; None where there is no log, or not yet again.  Raises StoreError."""
        reader, name = self.fleet.worker if self.rejoins else None, self.id
        try:
            tail = await self.fleet.logs.read(self.session.key, name, self.cursor, reader=reader)
        except EventsExpired:
            if self.id == name and not await self.fleet.lost_data():
                self._end_behind(reply)
            elif not self.astray:
                self.fleet.mended(self.wake)  # unless its writer, which begins it anew, says so before that
            return None
        if self.id != name:
            return None  # `save`, which has begun it anew, wakes again
        if reader is not None:
            self.rejoins = False
        return tail

    def _end_behind(self, reply: Reply) -> None:
        """Events have expired before this slow client read them, or the store has lost them."""
        self.detach(reply)
        if reply.state == UNDECIDED:
            reply.open(self._prime())
        if self.named:
            reply.end()  # a client that comes back is told
            return
        # It has no id with which it could come back: its last events came while the store was away.
        json_ = self.session.runtime.json
        error = InternalError("The store has lost events of this call, and its answer")
        reply.end(b"".join(encode_event(json_.error(request, error)) for request in self.requests))

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
            if self.session.streams.get(self.id) is self:  # its reader has not left meanwhile
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


class FormerStream(SharedStream):
    """A session's own stream under the id that it had before the store lost its data."""

    __slots__ = ()

    async def resume(self, reply: Reply, after: int) -> None:
        # The events after that index are gone, and all changes are told in their place.
        await self.session.standalone.listen(reply)
        self.session.announce_changes()
