# SPDX-License-Identifier: MIT
"""One call of a client, while it runs on a backend: the notifications and the questions of the backend for it.

A client with a session is asked at once, on its call's own stream.  A server cannot send requests to a client of
2026-07-28: that call ends with the question, while the call at the backend stays open.  It is then *parked* until the
client comes back with the answer.

Rules:
- A question reaches the client whose call it belongs to, or it is refused; it never reaches another client.
- A question that needs an undeclared capability is refused as the client itself would refuse it.
- The number of parked calls is bounded, and one is cancelled when its client does not come back in time.
- On a channel that carries all calls of one client, a question does not say which call it belongs to.  So it outlives
  the call that it was attributed to, as long as another call of the same client runs.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Coroutine, Hashable, Iterable, Mapping
from typing import Any

import anyio

from ..handler.context import Context, exchange_of
from ..handler.deadlines import take_back_cancellation
from ..handler.questions import InputRequired, Question, as_question
from ..protocol.errors import INTERNAL_ERROR, InvalidParams, MCPError, MethodNotFound, ToolError
from ..protocol.methods import (
    ACKNOWLEDGED,
    CANCELLED,
    CHANGED_LIST,
    INITIALIZED,
    LEVELS,
    LOG_MESSAGE,
    METHODS,
    PROGRESS,
    RESOURCE_UPDATED,
    TASK_NOTIFICATIONS,
)
from ..runtime.fairness import Shares
from .states import read_state

MAX_UNTOLD = 1_000  # notifications of one call that wait for a slow client; beyond that the oldest are dropped
MAX_PARKED = 100  # calls that wait for their client to come back; each client has a share of them
MAX_ASKED = 1_000  # questions to all clients of a bridge that wait for an answer; each client has a share of them
PARKED_TIME = 600.0  # seconds that a parked call waits: the time for a person to answer
MAX_OPEN_QUESTIONS = 32  # of one call
_REFUSED = "The client refused: "  # the server in front puts this before a client's own words
# These concern the whole server, or the bridge handles them itself.  All other notifications belong to a call.
_NOT_OF_A_CALL = frozenset((ACKNOWLEDGED, CANCELLED, INITIALIZED, PROGRESS, RESOURCE_UPDATED, *CHANGED_LIST))

_Result = dict[str, Any]


def is_of_a_call(method: str) -> bool:
    """Whether a notification is passed on to the client of a call: a log message, or one that is not known here."""
    # A task belongs to the client that began it, and the bridge does not know that client.
    return method not in _NOT_OF_A_CALL and not method.startswith(TASK_NOTIFICATIONS)


def rank_of(level: Any) -> int | None:
    """The rank of a level as the backend wrote it; None for one that no revision has, or that is no text."""
    return LEVELS.get(level) if isinstance(level, str) else None


class Inquiry:
    """One question of a backend that waits for its answer.

    Attributes:
        scope: cancelled when the answer is no longer needed.
        holder: its call.  The client of that call is asked.
        is_exact: the question came on that call's own exchange, and ends with it.
    """

    __slots__ = ("is_exact", "holder", "scope")

    def __init__(self, holder: BridgedCall, is_exact: bool) -> None:
        self.scope = anyio.CancelScope()
        self.holder = holder
        self.is_exact = is_exact


class BridgedCall:
    """A call of a client with a session: notifications and questions of the backend go to it at once.

    `owner` tells clients apart: calls with equal owners come from one client.
    """

    def __init__(self, ctx: Context, method: str, owner: Hashable, parking: Parking) -> None:
        self._party: str | None = None  # until it is asked for: most calls ask nothing
        self._loop = exchange_of(ctx).runtime.loop
        self._parking = parking
        self.ctx: Context | None = ctx
        self.method = method
        self.owner = owner
        self.is_cut = False
        self._running: asyncio.Task[Any] | None = None  # its part at the backend, while there is one
        self._untold: deque[tuple[str, dict[str, Any]]] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._asking: set[Inquiry] = set()

    @property
    def party(self) -> str:
        """The client that the limits count the questions of this call for."""
        if self._party is None:
            assert self.ctx is not None
            self._party = exchange_of(self.ctx).party
        return self._party

    @property
    def may_ask(self) -> bool:
        """Whether the backend may ask the client during this method."""
        entry = METHODS.get(self.method)
        return entry is not None and entry.input_required

    @property
    def has_questions(self) -> bool:
        """Whether a question of the backend waits for an answer of this call's client."""
        return bool(self._asking)

    def begin(self) -> None:
        """Its part at the backend begins, in this task; `end` follows."""
        self._running = asyncio.current_task(self._loop)

    def cut(self) -> None:
        """End its part at the backend, because that backend goes."""
        if self._running is not None and not self.is_cut:
            self.is_cut = True
            self._running.cancel()

    def was_cut(self) -> bool:
        """Whether `cut` alone cancelled it, as its task asks that has a CancelledError."""
        return self.is_cut and self._running is not None and take_back_cancellation(self._running)

    def end(self, successor: BridgedCall | None = None) -> None:
        """The call is over, and so are its questions.

        A question that may belong to another call of this client goes on with that call, the successor.
        """
        for inquiry in list(self._asking):
            if successor is None or inquiry.is_exact or not successor.adopt(inquiry):
                inquiry.scope.cancel()
        self._untold.clear()
        self._running = None

    def adopt(self, inquiry: Inquiry) -> bool:
        """Go on with a question of another call of this client.  Returns whether this call can."""
        asked_on = inquiry.holder.ctx
        # One pipe may carry calls of both eras.  A parked call has its question in its answer, and not in the session.
        if isinstance(inquiry.holder, ParkedCall) or self.ctx is None or asked_on is None:
            return False
        exchange_of(asked_on).hand_over_questions(exchange_of(self.ctx))
        self._hold(inquiry)
        return True

    def _hold(self, inquiry: Inquiry) -> None:
        inquiry.holder._asking.discard(inquiry)
        inquiry.holder = self
        self._asking.add(inquiry)

    # --- notifications of the backend ------------------------------------------------------------------------

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Report progress to the client, under the token of the client's own request."""
        if self.ctx is not None:
            await self.ctx.report_progress(progress, total, message)

    def on_notification(self, method: str, params: dict[str, Any]) -> None:
        """Pass on a notification that belongs to this call; never waits."""
        if self.ctx is None or not is_of_a_call(method):
            return
        # The backend may be faster than the client reads; it must not fill the memory of the bridge.
        if len(self._untold) >= MAX_UNTOLD:
            self._untold.popleft()
        self._untold.append((method, params))
        if self._telling is None or self._telling.done():
            # One task tells them in order; the reader of the backend must not wait for a client.
            self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        while self._untold:
            method, params = self._untold.popleft()
            ctx = self.ctx
            if ctx is None:
                continue
            if method == LOG_MESSAGE:
                rank = rank_of(params.get("level"))
                # A shared backend has the lowest level of all its clients, so each message is compared again.
                if rank is None or not exchange_of(ctx).wants_log(rank):
                    continue
            await ctx.notify(method, params)

    @property
    def is_telling(self) -> bool:
        """Whether notifications wait for the client: `flush` has to be awaited before the answer."""
        return self._telling is not None and not self._telling.done()

    async def flush(self) -> None:
        """Wait until the client has all notifications: none may follow the answer."""
        if self._telling is not None and not self._telling.done():
            # `wait` and not `await`: an error of the telling is no error of the call.
            await asyncio.wait([self._telling])

    # --- questions of the backend ----------------------------------------------------------------------------

    async def on_request(self, method: str, params: dict[str, Any], *, is_exact: bool = True) -> _Result:
        """Ask the client, and give its answer; `is_exact` where the question certainly belongs to this call.

        Raises:
            MCPError: the client's own error, or the one that it would give.
        """
        questions, party = self._parking.questions, self.party
        if not questions.take(party):
            raise MCPError(INTERNAL_ERROR, "Too many questions wait for this client")
        inquiry = Inquiry(self, is_exact)
        self._asking.add(inquiry)
        try:
            with inquiry.scope:
                return await self._ask(self._checked(method, params), inquiry)
        finally:
            questions.give_back(party)
            inquiry.holder._asking.discard(inquiry)
        raise MCPError(INTERNAL_ERROR, "The call that this question belongs to is over")

    def _checked(self, method: str, params: dict[str, Any]) -> Question:
        try:
            question = as_question({"method": method, "params": params})
        except ValueError:
            raise MethodNotFound(method) from None
        if self.ctx is None:
            raise MCPError(INTERNAL_ERROR, "The client is not there to be asked")
        if question.missing(self.ctx.client_capabilities) is not None:
            declared = self.ctx.client_capabilities
            # 2025-11-25 client/sampling, client/elicitation: without the capability the method is unknown (-32601);
            # with it, a mode or a member that was not declared is a wrong parameter (-32602).
            if {"elicitation/create": "elicitation", "sampling/createMessage": "sampling"}.get(method, "") in declared:
                raise InvalidParams(f"The client did not declare what this {method} needs")
            raise MethodNotFound(method)
        return question

    async def _ask(self, question: Question, inquiry: Inquiry) -> _Result:
        ctx = self.ctx
        assert ctx is not None
        try:
            answers = await ctx.ask(question=question)
        except ToolError as exc:  # no answer in time, or an answer of a wrong form
            raise MCPError(INTERNAL_ERROR, str(exc)) from None
        except MCPError as exc:
            raise MCPError(exc.code, exc.message.removeprefix(_REFUSED), exc.data) from None
        result: _Result = answers["question"]
        return result


class ParkedCall(BridgedCall):
    """A call of a 2026-07-28 client on a backend that asks by requests.

    The backend's part runs in a task of its own: `turn` follows it up to the next question or its end.
    """

    def __init__(self, ctx: Context, method: str, owner: Hashable, parking: Parking) -> None:
        super().__init__(ctx, method, owner, parking)
        self._party = exchange_of(ctx).party  # now, since it outlives this exchange
        # Sealed in the state; random all the same, so that no client can guess another's call.
        self.id = secrets.token_urlsafe(16)
        self._round = 0
        self._count = 0
        self._open: dict[str, OpenQuestion] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[_Result] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, job: Coroutine[Any, Any, _Result]) -> None:
        """The backend's part begins."""
        # Beyond the request of the client: it goes on while the client asks its user.
        self._task = asyncio.ensure_future(job)
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[_Result]) -> None:
        # A parked call keeps its result: its client may still be asking a person, and comes back for it then.
        if task.cancelled() or self.ctx is not None or self._round == 0:
            self.leave()
        self._news.set()
        if not task.cancelled():
            task.exception()  # asyncio logs an exception that was never looked at, and the client may not come back

    def leave(self) -> None:
        """Take it out of the parking: its client cannot come back to it any more."""
        self._parking.leave(self)
        if self._timer is not None:
            self._timer.cancel()

    def cancel(self) -> None:
        """Cancel it, at the backend too."""
        self.leave()
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        super().cut()
        self.leave()

    @property
    def state(self) -> str:
        """The `requestState` that brings the client back to this call, once."""
        return json.dumps({"p": self.id, "r": self._round})

    async def turn(self, ctx: Context, answers: Mapping[str, Any] | None = None) -> _Result | InputRequired:
        """Go on with these answers up to the next question or the end.  Raises MCPError, as the backend did."""
        task = self._task
        assert task is not None
        self.ctx = ctx
        if self._timer is not None:
            self._timer.cancel()
        for key, answer in (answers or {}).items():
            self._give(key, answer)
        try:
            while not task.done():
                self._news.clear()
                questions = {key: one.question for key, one in self._open.items() if not one.answer.done()}
                if questions:
                    return self._park(questions)
                await self._news.wait()
            self.leave()
            await self.flush()
            return task.result()
        except asyncio.CancelledError:
            if not task.done():  # the client left, or the deadline of its call has passed
                self.cancel()
                raise
            if task.cancelled():
                raise MCPError(INTERNAL_ERROR, "The call was cancelled") from None
            raise
        finally:
            self.ctx = None

    def _give(self, key: str, answer: Any) -> None:
        # An answer that comes twice, or to a question that the backend took back meanwhile.
        if key not in self._open:
            return
        one = self._open[key]
        try:
            one.question.read(answer)
        except ValueError:
            # 2026-07-28 basic/patterns/mrtr, Error Handling: after a malformed answer the question is asked again.
            return
        if not one.answer.done():
            one.answer.set_result(answer)

    def _park(self, questions: dict[str, Question]) -> InputRequired:
        # Part of the state: a state of an earlier round is not good for this one.
        self._round += 1
        self._timer = asyncio.get_running_loop().call_later(PARKED_TIME, self.cancel)
        return InputRequired(questions, state=self.state)

    async def _ask(self, question: Question, inquiry: Inquiry) -> _Result:
        # 2026-07-28 basic/patterns/mrtr, Supported Requests: only some methods may end with `input_required`.
        if not self.may_ask:
            raise MCPError(INTERNAL_ERROR, f"The client cannot be asked during {self.method}")
        one = OpenQuestion(question, inquiry)
        if not self._shows(one):
            raise MCPError(INTERNAL_ERROR, "Too many questions wait for their clients")
        try:
            return await one.answer
        finally:
            for call, key in one.shown:
                del call._open[key]

    def _shows(self, one: OpenQuestion) -> bool:
        """Show the question to the client in its next turn.  False if too many questions or calls wait already."""
        if len(self._open) >= MAX_OPEN_QUESTIONS or not self._parking.enter(self):
            return False
        self._count += 1
        key = f"input-{self._count}"
        self._open[key] = one
        one.shown.append((self, key))
        self._news.set()
        return True

    def adopt(self, inquiry: Inquiry) -> bool:
        """Show the question in this call as well: the answer may come back to either call."""
        holder = inquiry.holder
        if not isinstance(holder, ParkedCall) or not self.may_ask:
            return False
        found = [one for one in holder._open.values() if one.inquiry is inquiry]
        if not all(self._shows(one) for one in found):
            return False
        self._hold(inquiry)
        return True

    def _checked(self, method: str, params: dict[str, Any]) -> Question:
        # A parked call has no client to judge the question by: each request of 2026-07-28 declares its capabilities
        # anew, and the server in front compares when the client comes back.
        if self.ctx is None:
            try:
                return as_question({"method": method, "params": params})
            except ValueError:
                raise MethodNotFound(method) from None
        return super()._checked(method, params)


class OpenQuestion:
    """One question that is shown to clients of 2026-07-28.

    Attributes:
        shown: each call that shows it, with the key there.
    """

    __slots__ = ("answer", "inquiry", "question", "shown")

    def __init__(self, question: Question, inquiry: Inquiry) -> None:
        self.question = question
        self.inquiry = inquiry
        self.answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self.shown: list[tuple[ParkedCall, str]] = []


def asker(runs: Iterable[BridgedCall]) -> BridgedCall | None:
    """The call that a question most likely belongs to, of one client's calls, oldest first.

    That is the latest call with a method that may ask and a client that waits now.
    """
    calls = list(runs)
    able = [call for call in calls if call.may_ask] or calls
    return next((call for call in reversed(able) if call.ctx is not None), able[-1] if able else None)


class Parking:
    """The calls that were parked, by the id in their state; and the number of open questions of all calls.

    Attributes:
        questions: the share of open questions of each client.
    """

    def __init__(self, limit: int = MAX_PARKED) -> None:
        self.questions = Shares(MAX_ASKED)
        self._places = Shares(limit)
        self._calls: dict[str, ParkedCall] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def enter(self, call: ParkedCall) -> bool:
        """Give the call a place in the share of its client.  Returns whether there was one."""
        if call.id not in self._calls:
            if not self._places.take(call.party):
                return False
            self._calls[call.id] = call
        return True

    def leave(self, call: ParkedCall) -> None:
        """Give the place of a call back."""
        if self._calls.pop(call.id, None) is not None:
            self._places.give_back(call.party)

    def close(self) -> None:
        """Serving ends: cancel all parked calls."""
        for call in list(self._calls.values()):
            call.cancel()

    def find(self, state: str) -> ParkedCall | None:
        """The parked call that a state belongs to; None for a state of a backend of 2026-07-28.

        The server in front has verified that the state is this client's, and of this very call.  Raises InvalidParams
        where the call has ended, or where another request goes on with it already: a state is good for one turn.
        """
        said = read_state(state)
        if "p" not in said:
            return None
        call = self._calls.get(str(said["p"]))
        if call is None or call.ctx is not None or call.state != state:
            raise InvalidParams("Invalid or expired requestState")
        return call
