# SPDX-License-Identifier: MIT
"""The questions of one session to its client: each is a request of the server, on the way of the call that asks.

Rules:
- The ids count up within the session and no id is used twice, so a late answer meets no other question.
- A client is told of each question that it need not answer any more, so that no person is asked in vain.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..handler.questions import Question
from ..protocol.errors import MCPError, MissingClientCapability, ToolError, overloaded
from ..protocol.jsonrpc import ErrorResponse, Request, Response
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

    @property
    def carrying_session(self) -> Any:
        """The session."""

    @property
    def headers(self) -> Any:
        """The head of its HTTP request, or None."""

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        """Send one message on the way to the answer."""


class SessionQuestions:
    """The open questions of one session."""

    __slots__ = ("_number", "_open", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix  # of the ids
        self._number = 0  # of the newest question
        self._open: dict[str, tuple[asyncio.Future[Any], AskingCall]] = {}  # by request id

    async def ask(
        self, questions: dict[str, Question], call: AskingCall, gate: Gate, *, raw: bool = False
    ) -> dict[str, Any]:
        """Ask all on the way of a call, wait for all; `raw` leaves the answers as they came.

        `gate` is that of the session, where the call has its place.  Raises MissingClientCapability, `overloaded` where
        its client has as many open questions as it may, or ToolError where an answer cannot be used or did not come in
        time.  However the wait ends, the client is told of each question that it has not answered.
        """
        party, runtime = call.party, call.runtime
        asking = runtime.asking
        if not asking.may(party):
            raise overloaded("Too many calls wait for their clients")
        requests = self._requests(questions, call)
        waiting = {key: (str(one.id), runtime.loop.create_future()) for key, one in requests.items()}
        self._open.update((request_id, (future, call)) for request_id, future in waiting.values())
        # The spans put the trace context into the params, so the requests are encoded after them.
        spans = {} if runtime.spans is None else runtime.spans.asked(requests.values(), call)
        asking.add(party)
        if not call.keeps_place:  # a call that waits for a person should not keep others waiting
            gate.leave()
            runtime.gate.leave(party)
        sent: list[Any] = []
        reason = "cancelled"
        try:
            payloads = [runtime.json.request(one.id, one.method, one.params) for one in requests.values()]
            for request, payload in zip(requests.values(), payloads, strict=True):
                sent.append(request.id)  # before the wait: a call that is cancelled in it has sent the question
                await call.emit(payload)
            results = await _await_answers(waiting, runtime.settings.ask_timeout)
        except ToolError:
            reason = "timed out"
            raise
        except MCPError:
            reason = "another question was refused"
            raise
        finally:
            asking.give_back(party)
            if not call.keeps_place:
                gate.inside += 1
                runtime.gate.add(party)
            asked = {request_id: self._open.pop(request_id) for request_id, _ in waiting.values()}
            if spans and runtime.spans is not None:
                runtime.spans.answered(spans, {request_id: one[0] for request_id, one in asked.items()}, reason)
            # A question whose wait is done was answered, or its session or its client is gone.
            void = {request_id: asked[request_id][1] for request_id in sent if not asked[request_id][0].done()}
            if void:
                # In a task of its own: a cancel scope breaks off every wait of the call until the call has left it.
                await asyncio.wait([runtime.spawn(_withdraw(void, reason))])
        if raw:
            return results
        try:
            return {key: question.read(results[key]) for key, question in questions.items()}
        except ValueError as exc:
            raise ToolError(f"The client's answer cannot be used: {exc}") from None

    def _requests(self, questions: dict[str, Question], call: AskingCall) -> dict[str, Request]:
        """The questions as requests, by the same keys.  Raises MissingClientCapability, or ToolError for a bad one."""
        requests: dict[str, Request] = {}
        for key, question in questions.items():
            _check_capability(question, call)
            try:
                params = dict(client_request(call.revision, question.method, question.params()))
            except ValueError as exc:
                raise ToolError(str(exc)) from None
            self._number += 1
            requests[key] = Request(f"{self._prefix}{self._number}", question.method, params)
        return requests

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

    def hand_over(self, call: AskingCall, successor: AskingCall) -> None:
        """Make the open questions of one call those of another: notices about them go on the way of the successor."""
        for request_id, (future, holder) in self._open.items():
            if holder is call:
                self._open[request_id] = (future, successor)

    def give_up(self, reason: str) -> None:
        """End every open question with a ToolError; the client is gone, so it is told nothing."""
        for future, _ in self._open.values():
            if not future.done():
                future.set_exception(ToolError(reason))
                future.exception()  # looked at: the call may be cancelled before it comes to that

    def cancel(self) -> None:
        """The session ends: cancel the wait for each answer."""
        for future, _ in self._open.values():
            future.cancel()


def _check_capability(question: Question, call: AskingCall) -> None:
    missing = question.missing(call.client_capabilities)
    if missing is not None:
        raise MissingClientCapability(missing)


async def _await_answers(waiting: dict[str, tuple[str, asyncio.Future[Any]]], limit: float | None) -> dict[str, Any]:
    futures = [future for _, future in waiting.values()]
    # Not `gather`: cancelled together with its futures, it logs an exception that was never retrieved.
    done, left = await asyncio.wait(futures, timeout=limit, return_when=asyncio.FIRST_EXCEPTION)
    # A refusal first: beside one, others may still be open.
    for future in done:
        future.result()
    if left:
        raise ToolError("The client did not answer in time")
    return {key: future.result() for key, (_, future) in waiting.items()}


async def _withdraw(questions: dict[str, AskingCall], reason: str) -> None:
    """Tell the client that these questions, by their request ids, need no answer any more.

    2025-11-25 basic/utilities/cancellation; basic/lifecycle, Timeouts: the sender of a request that is not answered in
    time "SHOULD issue a cancellation notification".
    """
    for request_id, call in questions.items():
        # Not as a passing message: where the question waits for a reader, this has to wait behind it.
        await call.emit(call.runtime.json.notification(CANCELLED, {"requestId": request_id, "reason": reason}))


def _as_exception(error: dict[str, Any]) -> MCPError:
    code, message = error.get("code"), error.get("message")
    return MCPError(code if type(code) is int else -32603, f"The client refused: {message}", error.get("data"))
