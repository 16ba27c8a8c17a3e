# SPDX-License-Identifier: MIT
"""What the workers of a fleet tell one another about sessions of Streamable HTTP.

| letter or signal | from | to |
|---|---|---|
| `answer` | the worker that got the client's answer to a question | the worker where the question waits |
| `cancelled` | the worker that got the notification | all others |
| `handed` | a worker that got a POST of a pinned session | the session's owner |
| the same as a signal | the same, where the other worker has no heartbeat | that one |
| `record` | the worker that changed a session's record | all others |
| `ended` | the worker that ended a session | all others |
| `reader` | the worker that reads a stream from now on | the one that read or writes it |
| `events` | the worker that appended to a stream | the one that reads it |
| `passed` | the worker that a session's own stream has just left, with a notice | the one that reads it |

Letters are not lost (the first three); a lost signal is made good by a look at the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ..protocol.jsonrpc import ErrorResponse, Response
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet
from ..runtime.runtime import Runtime
from ..stores.base import StoreError
from .fleet_pinned import refuse_handed, take_handed
from .fleet_session import FleetSession
from .fleet_streams import SharedStream
from .session_table import SessionTable

logger = escaping(logging.getLogger(__name__))

LOOKS_AT_ONCE = 100  # sessions whose records are asked for together


class Loading:
    """A record that is on its way; `stale` once a signal about its session came meanwhile."""

    __slots__ = ("key", "stale")

    def __init__(self, key: str) -> None:
        self.key = key
        self.stale = False


class FleetLinks:
    """Gives the letters and signals of the other workers to the sessions that are at hand here."""

    def __init__(self, runtime: Runtime, fleet: Fleet, table: SessionTable, reload: Any) -> None:
        self._runtime = runtime
        self._fleet = fleet
        self._table = table
        self._reload = reload  # takes over a changed record; False: the session has ended
        self.loading: set[Loading] = set()
        fleet.on_letter.update(answer=self._on_answer, cancelled=self._on_cancelled, handed=self._on_handed)
        fleet.on_signal.update(
            answer=self._on_answer, record=self._on_record, ended=self._on_ended, reader=self._on_reader,
            events=self._on_events, passed=self._on_passed,
        )  # fmt: skip
        fleet.on_gap.append(self._on_gap)

    def spoil(self, key: str) -> None:
        """A session has changed or ended: its record, if it is on its way here, is not to be used."""
        for load in self.loading:
            load.stale = load.stale or load.key == key

    def _session(self, body: dict[str, Any]) -> FleetSession | None:
        self.spoil(body["session"])
        session = self._table.by_key.get(body["session"])
        return session if isinstance(session, FleetSession) else None

    def _stream(self, body: dict[str, Any]) -> SharedStream | None:
        session = self._session(body)
        stream = None if session is None else session.streams.get(body["stream"])
        return stream if isinstance(stream, SharedStream) else None

    def _on_answer(self, body: dict[str, Any]) -> None:
        session = self._session(body)
        if session is None:
            return
        answer: Response | ErrorResponse = Response(body["id"], body.get("result"))
        if "error" in body:
            answer = ErrorResponse(body["id"], body["error"])
        session.answered(answer)

    def _on_cancelled(self, body: dict[str, Any]) -> None:
        session = self._session(body)
        if session is not None:
            session.cancel_call(body["request"])

    def _on_handed(self, body: dict[str, Any]) -> None:
        session = self._session(body)
        if session is None:
            self._runtime.spawn(self._refuse_handed(body))
            return
        take_handed(session, body)
        self._table.touch(session)

    async def _refuse_handed(self, body: dict[str, Any]) -> None:
        try:
            await refuse_handed(self._fleet, self._runtime.json, body)
        except StoreError as exc:
            logger.warning("a call of an ended session is not answered: %s", exc)

    def _on_record(self, body: dict[str, Any]) -> Coroutine[Any, Any, None] | None:
        session = self._session(body)
        return None if session is None else self._reload_or_end(session)

    async def _reload_or_end(self, session: FleetSession) -> None:
        try:
            alive = await self._reload(session)
        except StoreError as exc:
            logger.warning("session %s may be out of date: %s", session.id[:8], exc)
            self._fleet.be_unsure()
            return
        if not alive and not session.closed:
            self._table.end(session, forget=False)

    def _on_ended(self, body: dict[str, Any]) -> None:
        session = self._session(body)
        if session is not None:
            session.ending = True
            # Where this worker has just kept its record anew, the other one may not have found it.
            self._table.end(session, forget=self._fleet.mending)

    def _on_reader(self, body: dict[str, Any]) -> None:
        stream = self._stream(body)
        if stream is not None:
            stream.on_reader(body["by"])

    def _on_passed(self, body: dict[str, Any]) -> None:
        session = self._session(body)
        if session is not None:
            session.take_passed(body["notice"].encode(), body.get("names", ("",)))

    def _on_events(self, body: dict[str, Any]) -> None:
        stream = self._stream(body)
        if stream is not None:
            stream.rejoins = stream.rejoins or "anew" in body  # the log has lost the name of its reader
            stream.wake()
        session = self._session(body)
        if "anew" in body:  # for all workers, and most of them do not read it
            return
        # Passed on once: two workers that both were heard late would pass it on between them for ever.
        if session is not None and "passed" not in body and (stream is None or stream.reply is None):
            session.read_elsewhere(body["stream"])

    def _on_gap(self) -> None:
        """Signals may have been lost: look at everything that they could have been about."""
        for load in self.loading:
            load.stale = True
        self._runtime.spawn(self._look_again())

    async def _look_again(self) -> None:
        sessions = [one for one in self._table.sessions.values() if isinstance(one, FleetSession)]
        for start in range(0, len(sessions), LOOKS_AT_ONCE):
            await asyncio.gather(*map(self._look_at, sessions[start : start + LOOKS_AT_ONCE]))

    async def _look_at(self, session: FleetSession) -> None:
        if session.closed:
            return
        await self._reload_or_end(session)
        for stream in list(session.streams.values()):
            if isinstance(stream, SharedStream):
                if stream.astray:
                    self._runtime.spawn(stream.save())
                elif not stream.is_own:
                    stream.wake()
        if session.keeps_notices and not session.closed:
            session.announce_changes()
