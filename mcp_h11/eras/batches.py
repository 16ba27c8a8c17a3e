# SPDX-License-Identifier: MIT
"""The answers to one JSON-RPC batch, collected (2025-03-26 basic/index, Batching).

The carriers derive from both classes: `endpoint.batches` answers a POST, `server.stdio` writes one line.

Rule: the batch ends with its last call and not before.  A cancelled call has no answer, and counts as ended.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..protocol.errors import MCPError
from .session import Call, Session

Sending = Coroutine[Any, Any, None]


class BatchAnswers:
    """Collects the answers to one batch.  A class derived from this one says how they leave.

    Args:
        missing: the number of calls that have not ended.
        answers: what is answered already, as JSON.
    """

    def __init__(self, session: Session, missing: int, answers: list[bytes]) -> None:
        self.session = session
        self.missing = missing
        self.answers = answers

    def run(self, call: Call) -> None:
        """Start one call of the batch."""
        try:
            self.session.call(call)
        except MCPError as exc:  # no place to wait: the calls that run already are answered all the same
            self.refuse(call.request_id, exc)

    def refuse(self, request_id: str | int | None, error: MCPError) -> None:
        """Answer a request of the batch that is not run."""
        self.end_one(self.session.runtime.json.error(request_id, error))

    def end_one(self, payload: bytes | None) -> None:
        """As `add`, where nothing can wait for the answer to leave."""
        self._spawn(self.add(payload))

    def add(self, payload: bytes | None) -> Sending | None:
        """One call of the batch is over; None is a cancelled one.  Await the result, if there is one."""
        sending = self.put(payload) if payload is not None else None
        return self._end_one() if sending is None else self._end_one_after(sending)

    async def _end_one_after(self, sending: Sending) -> None:
        # The last call ends the batch, and must not end it before the others have written.
        try:
            await sending
        except BaseException:
            # A call that is cancelled while its client reads slowly is over as well: the batch must not wait for it.
            self._spawn(self._end_one())
            raise
        finishing = self._end_one()
        if finishing is not None:
            await finishing

    def _spawn(self, sending: Sending | None) -> None:
        if sending is not None:
            self.session.runtime.spawn(sending)

    def _end_one(self) -> Sending | None:
        self.missing -= 1
        return None if self.missing else self.finish()

    def put(self, payload: bytes) -> Sending | None:
        """Keep one answer for the array, or send it; await the result, if there is one."""
        self.answers.append(payload)
        return None

    def finish(self) -> Sending | None:
        """Every call is over: send what is left.  Await the result, if there is one."""
        raise NotImplementedError


class Batched(Call):
    """A call of a batch; stands before the carrier's own kind of `Call` among the bases."""

    __slots__ = ()

    gathering: BatchAnswers

    def finish(self, payload: bytes, error: MCPError | None) -> Sending | None:
        self.done = True
        return self.gathering.add(payload)

    def cancelled(self) -> None:
        self.done = True
        self.gathering.end_one(None)
