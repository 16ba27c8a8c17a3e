# SPDX-License-Identifier: MIT
"""A stream that one worker writes gives its log the events of one moment together.

A call that reports progress in a loop would wait for the store at each report.  So its events wait here, and the call
goes on: one operation of the store takes all that came while the last one ran.  A call waits for its answer, and where
too much waits: because the store is slow, or the reader.

Rule: as in `fleet_logs`, an event is in the log before a connection gets it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..stores.base import StoreError, Taken
from .fleet_logs import LoggedStream
from .fleet_sharing import SharingSession
from .waiting import Pending

MAX_QUEUED_EVENTS = 64  # of one stream, for which its call does not wait
MAX_QUEUED_BYTES = 64 * 1024

Queued = tuple[bytes, bool]  # an event, and whether it is the last one


class BurstStream(LoggedStream):
    """As `LoggedStream`; the events of a stream of its own wait in a queue."""

    __slots__ = ("closing", "flushing", "queue", "queued")

    def __init__(self, session: SharingSession, stream_id: str = "", writer: str = "", requests: Any = ()) -> None:
        LoggedStream.__init__(self, session, stream_id, writer, requests)
        self.queue: list[Queued] = []
        self.queued = 0  # bytes
        self.flushing: asyncio.Task[None] | None = None
        self.closing = False  # it is closed as soon as the queue is empty

    async def begin(self) -> None:
        await self._flushed()
        await LoggedStream.begin(self)

    def send_now(self, payload: bytes) -> bool:
        return False  # each event waits for the store

    async def _send(self, payload: bytes, last: bool, notice: Pending | None = None) -> None:
        if not self.is_own:
            await LoggedStream._send(self, payload, last, notice)
            return
        if self.finished or self.closing:
            return
        self.queue.append((payload, last))
        self.queued += len(payload)
        if self.flushing is None:
            self.flushing = self.session.runtime.spawn(self._flush())
        if last or len(self.queue) >= MAX_QUEUED_EVENTS or self.queued >= MAX_QUEUED_BYTES:
            await self._flushed()

    async def _flushed(self) -> None:
        """Wait until the queue is empty; a call that is cancelled meanwhile leaves no hole in the stream."""
        if self.flushing is not None:
            await asyncio.wait({self.flushing})

    async def _flush(self) -> None:
        try:
            async with self.lock:
                while self.queue:
                    events, self.queue, self.queued = self.queue, [], 0
                    if len(events) == 1 or not await self._extend(events):
                        for payload, last in events:
                            await self._show(await self._keep_or_put_off(payload, last, None), payload, last)
        finally:
            self.flushing = None

    async def _extend(self, events: list[Queued]) -> bool:
        """Give several events to the log and to the reader; False where that has to be done one by one."""
        if self.lost or self.unsaved is not None:
            return False
        first, newest, last = self.last + 1, self.last + len(events), events[-1][1]
        try:
            if not self.opened:
                await self._open()
            payloads = [payload for payload, _ in events]
            reader = await self.fleet.logs.extend(self.session.key, self.id, first, payloads, last=last)
        except Taken:
            return False
        except StoreError as exc:
            if self.last < newest:  # else the follower has found them in the log
                self._store_failed(exc)
                return False
            reader = ""
        self.last = max(self.last, newest)
        self.finished = self.finished or last
        self._on_reader(reader)
        for index, (payload, is_last) in enumerate(events, first):
            await self._show(index, payload, is_last)
        return True

    def close(self) -> None:
        if self.flushing is None or self.session.closed:
            LoggedStream.close(self)
        elif not self.closing:
            self.closing = True
            self.session.runtime.spawn(self._close_later())

    async def _close_later(self) -> None:
        await self._flushed()
        LoggedStream.close(self)
