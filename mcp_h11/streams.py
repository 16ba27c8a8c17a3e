# SPDX-License-Identifier: MIT
"""One stream of a session: a log with a cursor, read by at most one connection at a time.

Writers append; a connection is written to from its cursor.  Replay and live are the same log, so nothing is lost
between them and nothing comes twice, whatever the cut (2025-11-25 basic/transports, Resumability and Redelivery).

Rule: a stream orders bytes under indexes.  It does not know what they say, nor whose answer they are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import Protocol

from .errors import EventsExpired
from .reply import COMMENT, UNDECIDED, Reply
from .runtime import Runtime
from .sse import encode_event
from .storage import EventStore

logger = logging.getLogger(__name__)

STREAM_ID_BYTES = 12  # 96 bits: nobody guesses a neighbour's


class Owner(Protocol):
    """The session of a stream."""

    runtime: Runtime
    store: EventStore | None

    @property
    def id(self) -> str: ...

    @property
    def resumable(self) -> bool:
        """Streams begin with a priming event, and may be closed early."""
        ...

    def attached(self, by: int) -> None:
        """A connection began (+1) or ceased (-1) to read."""
        ...


class Stream:
    """The events of one answer, or of the session's own GET stream; read by at most one connection at a time."""

    __slots__ = ("claim", "cursor", "finished", "id", "last", "live", "lock", "reply", "session", "unread")

    def __init__(self, session: Owner) -> None:
        self.session = session
        # "These event IDs [...] SHOULD be assigned on a per-stream basis" and must not be guessable: with the id of
        # a neighbour's stream one could ask for its events (2025-11-25 basic/transports, Resumability).
        self.id = secrets.token_urlsafe(STREAM_ID_BYTES)
        self.last = 0  # index of the newest event
        self.cursor = 0  # index of the newest event that was written to a connection
        self.reply: Reply | None = None
        self.live = False  # `reply` has everything up to `last`: writers write to it themselves
        self.claim: Reply | None = None  # the newest connection that wants to read
        self.finished = False
        self.lock = asyncio.Lock()  # one writer at a time, so that indexes and order agree
        self.unread: set[bytes] = set()  # notices that nobody has read yet, so that they do not pile up

    def start(self, reply: Reply) -> None:
        """The stream of a POST: `reply` reads from the beginning."""
        self.reply = reply
        self.live = True
        self.session.attached(+1)
        reply.on_gone = partial(self.detach, reply)

    def open(self) -> None:
        """Begin the answer now, though there is nothing to say yet."""
        if self.reply is not None and self.reply.state == UNDECIDED:
            self.reply.open(self._prime())

    async def send(self, payload: bytes, *, last: bool = False) -> None:
        """Append one message, and write it where somebody reads.  Waits while that reader is slow."""
        async with self.lock:
            if self.finished:
                return
            await self._keep(payload, last)
            reply = self.reply
            if reply is None or not self.live:
                return
            self._write(reply, self.last, payload, last)
            if not last and not reply.writable:
                await reply.drained()

    def post(self, payload: bytes) -> None:
        """`send` for notices, which wait for nobody: a slow reader gets its own task."""
        if self.reply is None:
            if payload in self.unread:
                return
            self.unread.add(payload)
        self.session.runtime.spawn(self.send(payload))

    async def _keep(self, payload: bytes, last: bool) -> None:
        store, session = self.session.store, self.session
        if store is not None:
            try:
                await store.append(session.id, self.id, self.last + 1, payload)
                if last:
                    await store.finish(session.id, self.id)
            except Exception:
                # A finished call must not fail because its event could not be kept: it goes out without an id.
                logger.exception("the event store failed; session %.8s is no longer resumable", session.id)
                session.store = None
        self.last += 1
        self.finished = last

    def _write(self, reply: Reply, index: int, payload: bytes, last: bool) -> None:
        frame = encode_event(payload, self._event_id(index))
        self.cursor = index
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
        """Give `reply` what follows event `after`, then what comes.  The newest reader wins.

        Answers 204 where the stream is over and all of it was read: that stops a client from coming back.
        Raises EventsExpired where something is missing.
        """
        self.claim = reply
        events = await self._events(after)
        if self.claim is not reply or not reply.alive:
            reply.answer(409, b"", ())
            return
        if self.finished and after >= self.last:
            reply.answer(204, b"", ())
            return
        self.take_over()
        self.reply, self.live, self.cursor = reply, False, after
        self.unread.clear()
        reply.on_gone = partial(self.detach, reply)
        self.session.attached(+1)
        reply.open(self._prime())
        await self._catch_up(reply, events)

    async def listen(self, reply: Reply) -> None:
        """Give `reply` what nobody has read, then what comes: a GET that does not say where it left off."""
        try:
            await self.resume(reply, self.cursor)
        except EventsExpired:
            # It made no claim, so beginning at what is left hides nothing from it.
            await self.resume(reply, self.last)

    async def _events(self, after: int) -> list[tuple[int, bytes]]:
        store = self.session.store
        if after > self.last:
            raise EventsExpired(self.id)
        if after == self.last or store is None:
            return []
        return await store.replay(self.session.id, self.id, after)

    async def _catch_up(self, reply: Reply, events: list[tuple[int, bytes]]) -> None:
        while True:
            for index, payload in events:
                if self.reply is not reply:
                    return
                if not reply.writable:
                    await reply.drained()
                    if self.reply is not reply:
                        return
                self._write(reply, index, payload, self.finished and index == self.last)
            if self.reply is not reply:
                return
            # No await between this look and the flag: a writer either sees `live`, or its event is in the log.
            if self.cursor >= self.last:
                self.live = True
                return
            try:
                events = await self._events(self.cursor)
            except EventsExpired:
                # Too slow for its own history: it may come back, and is then told so.
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

    def detach(self, reply: Reply) -> None:
        """`reply` does not read any more."""
        if self.reply is reply:
            self._release(reply)

    def _release(self, reply: Reply) -> None:
        self.reply = None
        self.live = False
        reply.on_gone = None
        self.session.attached(-1)
