# SPDX-License-Identifier: MIT
"""A session of Streamable HTTP on a worker of a fleet: messages of its client that are for another worker go there.

The id of a question names the worker where the answer is awaited.  A cancellation goes to every other worker, because
the store does not know where a call runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from ..eras.session import Call, encode_notice
from ..handler.notices import Notice
from ..protocol.jsonrpc import ErrorResponse, Message, Notification, Response
from ..protocol.methods import CANCELLED, INITIALIZED, LIST_CHANGED
from ..runtime.request_state import new_id
from ..stores.base import BEAT_EVERY
from .fleet_sharing import SharingSession, store_is_near
from .fleet_streams import FormerStream, SharedStream
from .streams import Stream, StreamSession

QUESTION_ID_BYTES = 9


class FleetSession(SharingSession):
    """A session that other workers serve as well."""

    __slots__ = ()

    @property
    def standalone(self) -> Stream:
        if self._standalone is None:
            self._standalone = SharedStream(self, self.state.stream)
            self.know(self._standalone)
        return self._standalone

    @property
    def question_prefix(self) -> str:
        # The id names the worker where the answer is awaited.  It cannot be guessed: the answer of a client counts only
        # for a session of its own, and this keeps it from another call of that session, too.
        return f"{self.fleet.worker}.{new_id(QUESTION_ID_BYTES)}-"

    @property
    def keeps_events(self) -> bool:
        return self.runtime.settings.replay and not self.closed

    def new_stream(self, *, requests: Sequence[str | int] = ()) -> Stream:
        if not self.keeps_events:
            return StreamSession.new_stream(self)
        return self.remember(SharedStream(self, writer=self.fleet.worker, requests=requests))

    def found_stream(self, stream_id: str) -> Stream | None:
        if stream_id == self.state.stream:
            return self.standalone
        if stream_id and stream_id == self.state.former:
            return FormerStream(self, stream_id)
        known = self.streams.get(stream_id)
        # Of another worker, perhaps: `resume` raises EventsExpired where no worker has it.
        return SharedStream(self, stream_id) if known is None and self.keeps_events else known

    def close(self) -> None:
        # The worker that ends the session discards the logs.  Where it cannot, a reader elsewhere that did not hear of
        # the end would wait for ever.
        streams = [one for one in self.streams.values() if isinstance(one, SharedStream) and one.is_running]
        StreamSession.close(self)
        for stream in streams if not self.leaving else ():
            self.runtime.spawn(stream.finish_log())

    def forward(self, message: Message) -> Coroutine[Any, Any, None] | None:
        if isinstance(message, Notification):
            if message.method == CANCELLED and message.params.get("requestId") not in self.calls:
                return self._forward_cancellation(message.params.get("requestId"))
            if message.method == INITIALIZED:
                self.be_ready()
        elif isinstance(message, (Response, ErrorResponse)) and isinstance(message.id, str):
            worker, dot, _ = message.id.partition(".")
            if dot and worker != self.fleet.worker:
                return self._forward_answer(worker, message)
        return None

    def be_ready(self) -> None:
        """The client is initialized: let all workers know, which may send it notices from now on."""
        if not self.initialized:
            self.initialized = True
            self.runtime.spawn(self._save())

    async def _save(self) -> None:
        await self.changed()

    async def _forward_cancellation(self, request_id: Any) -> None:
        """The call may run on any other worker: each of them looks."""
        if type(request_id) in (str, int):
            with store_is_near():
                await self.fleet.send_others("cancelled", party=self.party, session=self.key, request=request_id)

    async def _forward_answer(self, worker: str, message: Response | ErrorResponse) -> None:
        """The question's id names the worker where it waits; a dead worker waits for nothing."""
        body: dict[str, Any] = {"session": self.key, "id": message.id}
        body |= {"result": message.result} if isinstance(message, Response) else {"error": message.error}
        with store_is_near():
            if await self.fleet.send(worker, "answer", party=self.party, **body):
                return
            # It may live all the same: its heartbeat came late, because its loop or its machine stood still.
            await asyncio.sleep(2 * BEAT_EVERY)
            if await self.fleet.send(worker, "answer", party=self.party, **body):
                return
        # Not an error: some clients end their session at one, and nothing is lost unless the worker still stands
        # still.  Then it hears this when it goes on.
        self.fleet.signal("answer", worker, **body)

    def announce(self, payload: bytes, name: str = "") -> None:
        if self.is_owned if self.state.pinned else self.keeps_notices:
            self.standalone.post(payload, name)
        elif not self.state.pinned and self.runtime.loop.time() < self.left_to[1]:
            self.pass_on(self.left_to[0], payload, (name,))

    def announce_changes(self) -> None:
        """Tell the client that every list may have changed: notices may have been lost with a worker."""
        capabilities = self.runtime.handler.capabilities()
        for kind, method in LIST_CHANGED.items():
            if capabilities.get(kind, {}).get("listChanged"):
                self.announce(self.runtime.json.notification(method))
        for uri in self.state.subscriptions:
            self.announce(encode_notice(self.runtime.json, Notice("updated", uri)))


class YoungFleetSession(FleetSession):
    """A session whose client is not known to be ready; it becomes a plain `FleetSession` at the first sign of that.

    The worker that takes `notifications/initialized` saves it behind its 202, and may die before that.  So a stream
    that the client opens, or a request other than ping, counts as well: without it the worker that opened the session
    would never send it a notice.  It changes its class, so that a call of an older session looks for nothing.
    """

    __slots__ = ()

    def call(self, call: Call) -> None:
        if call.method != "ping":
            self._grow_up()
        FleetSession.call(self, call)

    def count_readers(self, by: int) -> None:
        if by > 0:
            self._grow_up()
        FleetSession.count_readers(self, by)

    def _grow_up(self) -> None:
        self.__class__ = FleetSession  # type: ignore[assignment]
        self.be_ready()
