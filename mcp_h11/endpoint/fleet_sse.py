# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05 in a fleet: the stream is open at one worker, and a POST may come to any of them.

A session ends with its stream (2024-11-05 basic/transports, HTTP with SSE), so it belongs to the worker that has the
stream.  Its record names that worker.  Every POST goes through the inbox of that worker, also one that comes there by
itself: so the messages keep the order in which the client got its 202s.

Rule: 202 means that the message lies in the inbox.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from ..eras.channel import ChannelSession
from ..http.auth import subject
from ..http.reply import Reply
from ..protocol.errors import InvalidRequest, MCPError, Refusal, overloaded, session_not_found
from ..protocol.jsonrpc import Batch, Message, Request
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet, key_of
from ..runtime.runtime import Runtime
from ..stores.base import Full, StoreError
from .error_answers import answer_error
from .fleet_messages import TOO_MANY, letter_of, messages_of
from .fleet_times import CHANNEL_TTL
from .legacy_sse import LegacySSE
from .session_stores import TOUCH_EVERY
from .verdicts import Verdict

logger = escaping(logging.getLogger(__name__))

CHANNELS = "channel"  # the space of the records


class FleetSSE(LegacySSE):
    """As `LegacySSE`, for one worker of a fleet."""

    def __init__(self, runtime: Runtime, fleet: Fleet) -> None:
        LegacySSE.__init__(self, runtime)
        self._fleet = fleet
        self._principals: dict[str, Any] = {}  # by session: the client that opened the stream
        self._ids: dict[str, str] = {}  # of the sessions, by the names that the workers use
        self._touch_at = -math.inf
        self._unkept: list[ChannelSession] = []  # whose records could not be kept anew: the store was away
        fleet.on_letter["channel"] = self._on_letter
        fleet.on_lost.append(self._on_lost)
        fleet.on_back.append(self._on_back)

    # --- the stream ------------------------------------------------------------------------------------------

    def _begin(self, session: ChannelSession, verdict: Verdict, reply: Reply, principal: Any) -> None:
        self.runtime.spawn(self._begin_later(session, verdict, reply, principal))

    async def _begin_later(self, session: ChannelSession, verdict: Verdict, reply: Reply, principal: Any) -> None:
        try:
            await self._keep(session)
        except StoreError as exc:
            logger.warning("no new session: %s", exc)
            answer_error(reply, self.runtime.json, overloaded("The session store is away"))
            return
        if not reply.alive:
            self.runtime.spawn(self._forget(session.id))
            return
        try:
            # Again: others may have taken the room while the record was on its way.
            self.check_room(session.party)
        except Refusal as exc:
            self.runtime.spawn(self._forget(session.id))
            answer_error(reply, self.runtime.json, exc)
            return
        self._principals[session.id] = principal
        self._ids[key_of(session.id)] = session.id
        LegacySSE._begin(self, session, verdict, reply, principal)

    async def _keep(self, session: ChannelSession) -> None:
        await self._fleet.be_sure_of_keys()
        record = {"worker": self._fleet.worker, "principal": self._fleet.hashed(session.state.principal)}
        await self._fleet.records.create(CHANNELS, key_of(session.id), json.dumps(record).encode(), CHANNEL_TTL)

    def _on_lost(self) -> None:
        """The store has lost its data: keep the records of the streams that are open here again."""
        for session, *_ in self.sessions.values():
            self.runtime.spawn(self._keep_anew(session))

    def _on_back(self) -> None:
        unkept, self._unkept = self._unkept, []
        for session in unkept:
            if session.id in self.sessions:
                self.runtime.spawn(self._keep_anew(session))

    async def _keep_anew(self, session: ChannelSession) -> None:
        try:
            await self._keep(session)
        except StoreError as exc:
            logger.warning("session %s takes no messages until the store is back: %s", session.id[:8], exc)
            self._unkept.append(session)
        if session.id not in self.sessions:
            await self._forget(session.id)

    def end(self, session: ChannelSession) -> None:
        del self._principals[session.id]
        del self._ids[key_of(session.id)]
        LegacySSE.end(self, session)
        self.runtime.spawn(self._forget(session.id))

    async def _forget(self, session_id: str) -> None:
        try:
            await self._fleet.records.delete(CHANNELS, key_of(session_id))
        except StoreError as exc:
            logger.warning("session %s is left to its time: %s", session_id[:8], exc)

    def sweep(self) -> None:
        LegacySSE.sweep(self)
        now = self.runtime.loop.time()
        if self.sessions and now >= self._touch_at:
            self._touch_at = now + TOUCH_EVERY
            self.runtime.spawn(self._touch(list(self.sessions)))

    async def _touch(self, session_ids: list[str]) -> None:
        try:
            await self._fleet.records.touch(CHANNELS, [key_of(one) for one in session_ids], CHANNEL_TTL)
        except StoreError as exc:
            logger.warning("the store was not told which sessions are in use: %s", exc)

    # --- POST ------------------------------------------------------------------------------------------------

    def serve(self, verdict: Verdict, message: Message | Batch, reply: Reply, principal: Any) -> None:
        self.runtime.spawn(self._forward(self.named(verdict), message, reply, subject(principal)))

    async def _forward(self, session_id: str, message: Message | Batch, reply: Reply, who: str) -> None:
        """Put a message into the inbox of the worker that has the stream."""
        key = key_of(session_id)
        try:
            record = await self._fleet.records.load(CHANNELS, key)
            worker, principal = ("", "") if record is None else self._kept(session_id, record.value)
            if principal != self._fleet.hashed(who):
                if await self._fleet.lost_data():
                    raise StoreError("the store has lost its data, and another worker may have this session")
                raise session_not_found()
            body = {"session": key, **letter_of(self.runtime.json, message)}
            if not await self._fleet.send(worker, "channel", party=self.runtime.party_of(who, reply.peer), **body):
                raise session_not_found()  # its worker is dead, and its stream with it
        except Full:
            answer_error(reply, self.runtime.json, overloaded(TOO_MANY))
        except StoreError as exc:
            logger.warning("a message did not reach its session: %s", exc)
            answer_error(reply, self.runtime.json, overloaded("The session store is away"))
        except Refusal as exc:
            answer_error(reply, self.runtime.json, exc)
        else:
            reply.answer(202, b"", ())

    def _on_letter(self, body: dict[str, Any]) -> None:
        found = self.sessions.get(self._ids.get(body["session"], ""))
        if found is None:
            return  # the stream ended while the message was on its way
        session, json_ = found[0], self.runtime.json
        messages = messages_of(json_, body)
        try:
            self._messages(session, messages if body["batch"] else messages[0])
        except InvalidRequest as exc:
            self.runtime.spawn(session.send(json_.error(None, exc)))
            return
        for error in body["errors"]:
            self.runtime.spawn(session.send(error.encode()))
        for one in messages:
            self._take_late(session, one)

    def _take_late(self, session: ChannelSession, message: Message) -> None:
        """Take a message whose POST is answered: an error goes on the stream."""
        try:
            self.take(session, message, self._principals[session.id], None)
        except MCPError as exc:
            if isinstance(message, Request):
                self.runtime.spawn(session.send(self.runtime.json.error(message.id, exc)))
            else:
                logger.warning("a message of session %s was dropped: %s", session.id[:8], exc)

    def _kept(self, session_id: str, value: bytes) -> tuple[str, str]:
        """The worker and the principal in a record; empty texts where it cannot be read, which the log tells once."""
        try:
            record = json.loads(value)
            worker, principal = record["worker"], record["principal"]
            if isinstance(worker, str) and isinstance(principal, str):
                return worker, principal
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        self._fleet.log_once(f"the record of session {session_id[:8]} cannot be read")
        return "", ""
