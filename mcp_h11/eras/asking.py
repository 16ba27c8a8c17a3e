# SPDX-License-Identifier: MIT
"""The questions of one session to its client: each is a request of the server, on the way of the call that asks.

Rule: the ids count up within the session and no id is used twice, so a late answer meets no other question.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..handler.questions import Question
from ..protocol.errors import MCPError, MissingClientCapability, ToolError, overloaded
from ..protocol.jsonrpc import ErrorResponse, Response
from ..protocol.methods import CANCELLED
from ..protocol.revisions import Revision
from ..runtime.admission import Gate
from ..runtime.runtime import Runtime
from .downgrade import client_request


class AskingCall(Protocol):
    """The members of a session's `Call` that its questions use."""

    runtime: Runtime
    revision: Revision
    keeps_place: bool
    load: Any

    @property
    def party(self) -> str:
        """The client that the limits count the call for."""

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """The capabilities that the client declared."""

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        """Send one message on the way to the answer."""


class SessionQuestions:
    """The open questions of one session."""

    __slots__ = ("_number", "_open")

    def __init__(self) -> None:
        self._number = 0  # of the newest question
        self._open: dict[str, tuple[asyncio.Future[Any], AskingCall]] = {}  # by request id

    @property
    def next_id(self) -> str:
        """The request id that the next question gets."""
        return f"server-{self._number + 1}"

    async def ask(
        self, questions: dict[str, Question], call: AskingCall, gate: Gate, *, raw: bool = False
    ) -> dict[str, Any]:
        """Ask all on the way of a call, wait for all; `raw` leaves the answers as they came.

        `gate` is that of the session, where the call has its place.  Raises MissingClientCapability, `overloaded` where
        its client has as many open questions as it may, or ToolError where an answer cannot be used or did not come in
        time.
        """
        party, runtime = call.party, call.runtime
        asking = runtime.asking
        if not asking.may(party):
            raise overloaded("Too many calls wait for their clients")
        requests: dict[str, bytes] = {}
        waiting: dict[str, tuple[str, asyncio.Future[Any]]] = {}
        for key, question in questions.items():
            _check_capability(question, call)
            try:
                params = client_request(call.revision, question.method, question.params())
            except ValueError as exc:
                raise ToolError(str(exc)) from None
            request_id = self.next_id
            self._number += 1
            waiting[key] = (request_id, runtime.loop.create_future())
            requests[request_id] = runtime.json.request(request_id, question.method, params)
        self._open.update((request_id, (future, call)) for request_id, future in waiting.values())
        asking.add(party)
        if not call.keeps_place:  # a call that waits for a person should not keep others waiting
            gate.leave()
            runtime.gate.leave(party)
        try:
            for payload in requests.values():
                await call.emit(payload)
            results = await _await_answers(waiting, call)
        finally:
            asking.give_back(party)
            if not call.keeps_place:
                gate.inside += 1
                runtime.gate.add(party)
            for request_id, _ in waiting.values():
                self._open.pop(request_id, None)
        if raw:
            return results
        try:
            return {key: question.read(results[key]) for key, question in questions.items()}
        except ValueError as exc:
            raise ToolError(f"The client's answer cannot be used: {exc}") from None

    def answered(self, message: Response | ErrorResponse, load: object = None) -> None:
        """Take the client's answer to a question; an answer that no call waits for is dropped.

        `load` counts the memory of the answer.  The call keeps it.
        """
        found = self._open.get(message.id) if isinstance(message.id, str) else None
        if found is None or found[0].done():
            return
        future, call = found
        if load is not None:
            call.load = (call.load, load)  # it may hold the answer as long as it runs
        if isinstance(message, Response):
            future.set_result(message.result)
        else:
            future.set_exception(_as_exception(message.error))
            future.exception()  # looked at: the call may be cancelled before it comes to that

    def give_up(self, reason: str) -> None:
        """End every open question with a ToolError."""
        for future, _ in self._open.values():
            if not future.done():
                future.set_exception(ToolError(reason))

    def cancel(self) -> None:
        """The session ends: cancel the wait for each answer."""
        for future, _ in self._open.values():
            future.cancel()


def _check_capability(question: Question, call: AskingCall) -> None:
    missing = question.missing(call.client_capabilities)
    if missing is not None:
        raise MissingClientCapability(missing)


async def _await_answers(waiting: dict[str, tuple[str, asyncio.Future[Any]]], call: AskingCall) -> dict[str, Any]:
    futures = [future for _, future in waiting.values()]
    # Not `gather`: cancelled together with its futures, it logs an exception that was never retrieved.
    limit = call.runtime.settings.ask_timeout
    done, left = await asyncio.wait(futures, timeout=limit, return_when=asyncio.FIRST_EXCEPTION)
    if left and not any(future.cancelled() or future.exception() for future in done):
        # 2025-11-25 basic/lifecycle, Timeouts: on expiry, tell the client that its answer is no longer awaited.
        for request_id, _ in waiting.values():
            params = {"requestId": request_id, "reason": "timed out"}
            await call.emit(call.runtime.json.notification(CANCELLED, params))
        raise ToolError("The client did not answer in time")
    # A refusal first: beside one, others may still be open.
    for future in done:
        future.result()
    return {key: future.result() for key, (_, future) in waiting.items()}


def _as_exception(error: dict[str, Any]) -> MCPError:
    code, message = error.get("code"), error.get("message")
    return MCPError(code if type(code) is int else -32603, f"The client refused: {message}", error.get("data"))
