# SPDX-License-Identifier: MIT
"""The requests of a client that wait for their answers: ids, time limits, cancellation, progress.

It refuses answers that belong to no waiting call: late and repeated answers, answers to an unknown id, and answers on
the exchange of another request.  They are dropped with a line in the log.  An error that names no request ends the only
waiting call.  If several calls wait, or the bytes cannot be read, the calls that are not answered soon end as well:
the call that the error was for would wait in vain.

Rule: a call ends exactly once, by an answer, an error, its timeout or its caller.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol.errors import MCPError, again
from ...protocol.jsonrpc import JSON, ErrorResponse, Response
from ...protocol.methods import CANCELLED
from ...protocol.shown import escaping
from ..transports.base import Outgoing, Transport
from ..transports.errors import ConnectionLost, InvalidAnswer, RequestTimeout, answered_error
from ..transports.lenient import number
from .seldom import Seldom

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Seconds for sending a cancellation to the server.
CANCEL_LIMIT = 5.0
# Seconds that the end of a client waits for the cancellations under way.
LAST_CANCELLATIONS = 2.0
# Progress that waits for an asynchronous callback.  Later progress replaces earlier progress, so the oldest is dropped.
MAX_PROGRESS = 1_000
# Seconds in which the waiting calls must be answered after a message that may be an answer and names no request.
UNCLAIMED_TIME = 2.0
# Seconds, all together, that the timeout of a call stands still while the client answers questions of the server.
MAX_HELD = 600.0

Progress = Callable[[float, "float | None", "str | None"], "Awaitable[None] | None"]
OnNotification = Callable[[str, dict[str, Any]], "Awaitable[None] | None"]
OnRequest = Callable[[str, dict[str, Any]], "Awaitable[dict[str, Any]] | dict[str, Any]"]


class PendingCall:
    """One request that was sent and not answered yet.

    Attributes:
        silent: the client sends no `notifications/cancelled`: over HTTP in 2026-07-28, closing the exchange cancels.
        private: its notifications go to its own callback only.
        owner: the client of a bridge that the call is for.
    """

    # Failures of the progress callback.  The zero is the class's, since nearly no call needs one of its own.
    _failures = 0

    def __init__(
        self,
        id: int,
        method: str,
        progress: Progress | None,
        on_notification: OnNotification | None,
        on_request: OnRequest | None,
    ) -> None:
        self.id = id
        self.method = method
        self.progress = progress
        self.on_notification = on_notification
        self.on_request = on_request
        self.silent = False
        self.private = False
        self.owner: Hashable = None
        self.outcome: Any = None
        self.done = False
        self.expired = False
        self.deadline = math.inf
        self.deadlines: CallTimes | None = None
        self.scope: anyio.CancelScope | None = None
        self._news: asyncio.Future[None] | None = None
        self._waiting: list[Awaitable[None]] = []
        self._held = 0
        self._held_since = 0.0
        # A server that asks without end must not hold a call for ever.
        self._may_hold = MAX_HELD

    def finish(self, outcome: Any) -> None:
        """Ends the call with a result, or with an exception to raise."""
        # The first outcome counts: a late answer must not replace a timeout that was told.
        if not self.done:
            self.outcome = outcome
            self.done = True
            self._wake()

    def expire(self) -> None:
        """The time of the call is over."""
        self.expired = True
        if self.scope is not None:
            self.scope.cancel()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def progressed(self, params: dict[str, Any]) -> None:
        """Runs the progress callback.  If it is a coroutine function, the task of the call awaits it, in order."""
        if self.progress is None:
            return
        done, total, message = params.get("progress"), params.get("total"), params.get("message")
        if type(done) is not int and type(done) is not float:
            return
        try:
            waiting = self.progress(
                done, total if type(total) in (int, float) else None, message if type(message) is str else None
            )
        except Exception:
            self._failed()
            return
        if inspect.isawaitable(waiting):
            if len(self._waiting) >= MAX_PROGRESS:
                _forget(self._waiting.pop(0))
            self._waiting.append(waiting)
            self._wake()

    async def outcome_when_done(self) -> Any:
        """Waits for the end of the call, and gives its result or raises its exception; TimeoutError if it expires."""
        while True:
            # Before the result: its caller expects no progress after the call has returned.
            while self._waiting:
                try:
                    await self._waiting.pop(0)
                except Exception:  # noqa: PERF203
                    self._failed()
            if self.done or self.expired:
                break
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if not self.done:
            raise TimeoutError
        if isinstance(self.outcome, BaseException):
            raise again(self.outcome)
        return self.outcome

    def _failed(self) -> None:
        self._failures += 1
        if self._failures == 1:
            logger.exception("the progress callback of %s failed", self.method)

    def close(self) -> None:
        """Drops the progress that still waits, because the call has ended."""
        if self._failures > 1:
            logger.warning("the progress callback of %s failed %d times more", self.method, self._failures - 1)
        for waiting in self._waiting:
            _forget(waiting)
        self._waiting.clear()

    def hold(self, now: float) -> None:
        """Stops the timeout while the client answers a question of the server."""
        self._held += 1
        if self._held == 1:
            self._held_since = now
            self.deadline += self._may_hold

    def release(self, now: float) -> None:
        """Lets the timeout go on after a question.  The time of the question does not count."""
        self._held -= 1
        if self._held == 0 and not self.done:
            used = min(now - self._held_since, self._may_hold)
            self.deadline -= self._may_hold - used
            self._may_hold -= used
            if self.deadlines is not None:
                self.deadlines.watch(self.deadline)


class CallTimes:
    """One timer for all calls of a client: it runs to the earliest deadline that was seen, and looks at all calls.

    A timer for each call would be set and cancelled with nearly every one of them, since few calls time out.
    """

    def __init__(self, waiting: Mapping[int, PendingCall]) -> None:
        self._waiting = waiting
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, deadline: float) -> None:
        """Looks at the calls again at this time of the loop, or before."""
        if deadline < self._until:
            self.close()
            self._until = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self._look)

    def _look(self) -> None:
        # The clock of the loop may be a little behind the time of the timer.
        now = max(self._until, asyncio.get_running_loop().time())
        self.close()
        for call in list(self._waiting.values()):
            if call.deadline <= now:
                call.expire()
        self.watch(min((call.deadline for call in self._waiting.values() if not call.expired), default=math.inf))

    def close(self) -> None:
        """Cancels the timer."""
        self._until = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Calls:
    """Every call in flight of one client."""

    def __init__(self, json: JSON, tasks: TaskGroup) -> None:
        self.transport: Transport | None = None
        self.duplex = False
        self.begin: Callable[[Outgoing], bool] | None = None
        self.ended: MCPError | None = None
        self._json = json
        self._tasks = tasks
        self._ids = count(1)
        self._waiting: dict[int, PendingCall] = {}
        self._deadlines = CallTimes(self._waiting)
        self._tokens: dict[int | str, PendingCall] = {}
        self._seldom = Seldom(logger)
        self._cancelling = 0
        self._told = anyio.Event()
        # The calls that waited when a message without a request id came: it may be the answer to any of them.
        self._doubted: dict[PendingCall, None] = {}

    def use(self, transport: Transport) -> None:
        """Sends all requests by this transport from now on."""
        self.transport = transport
        self.duplex = transport.duplex
        # A transport of the user's own need not have it.
        self.begin = getattr(transport, "begin", None)

    def next_id(self) -> int:
        """An id that no request had before (2025-11-25 basic/index, Requests)."""
        return next(self._ids)

    async def call(
        self,
        call: PendingCall,
        params: dict[str, Any],
        *,
        headers: Sequence[tuple[str, str]] = (),
        safe: bool = False,
        timeout: float | None,
    ) -> Any:
        """Sends a request, waits for its answer, and gives the result.

        Raises:
            MCPError: the answer was an error.
            ConnectionLost, RequestTimeout: no answer came.
        """
        if self.ended is not None:
            raise again(self.ended)
        transport = self.transport
        assert transport is not None
        token = params["_meta"].get("progressToken") if "_meta" in params else None
        if isinstance(token, (str, int)):
            self._tokens[token] = call
        # Before it is sent: the answer may come while `send` still waits.
        self._waiting[call.id] = call
        sent = False
        if timeout is not None:
            call.deadline = asyncio.get_running_loop().time() + timeout
            call.deadlines = self._deadlines
            self._deadlines.watch(call.deadline)
        try:
            out = Outgoing(self._json.request(call.id, call.method, params), call.method, call.id, headers, safe)
            straight = timeout is None or call.progress is None
            if straight and self.begin is not None and self.begin(out):
                sent = True
                return await call.outcome_when_done()
            # Whatever waits here ends with the time of the call: the sending, and callbacks that hear of progress.
            with anyio.CancelScope() as call.scope:
                if call.expired:
                    call.scope.cancel()
                await transport.send(out)
                sent = True
                return await call.outcome_when_done()
            raise TimeoutError
        except TimeoutError:
            if not call.expired:
                raise
            self._abandon(call, sent, "timeout")
            raise RequestTimeout(f"no answer to {call.method} within {timeout:g} s") from None
        except anyio.get_cancelled_exc_class():
            self._abandon(call, sent, "cancelled by the caller")
            raise
        finally:
            del self._waiting[call.id]
            call.deadlines = None
            if isinstance(token, (str, int)) and self._tokens.get(token) is call:
                del self._tokens[token]
            call.close()

    def _abandon(self, call: PendingCall, sent: bool, reason: str) -> None:
        # "The `initialize` request MUST NOT be cancelled by clients" (2025-11-25 basic/utilities/cancellation).
        if not call.done and sent and call.method != "initialize" and self.ended is None:
            self._cancelling += 1
            self._tasks.start_soon(self._cancel_on_the_wire, call, reason)
        call.done = True

    async def _cancel_on_the_wire(self, call: PendingCall, reason: str) -> None:
        try:
            with anyio.move_on_after(CANCEL_LIMIT):
                await self._send_cancellation(call, reason)
        except Exception as error:  # the call has ended already, and no task waits for this
            logger.debug("the server was not told that request %s is cancelled: %s", call.id, error)
        finally:
            self._cancelling -= 1
            if not self._cancelling:
                self._told.set()

    async def _send_cancellation(self, call: PendingCall, reason: str) -> None:
        assert self.transport is not None
        # First, so that a request that still waits to be sent does not leave after its cancellation.
        await self.transport.cancel(call.id)
        if not call.silent:
            params = {"requestId": call.id, "reason": reason}
            payload = self._json.notification(CANCELLED, params)
            await self.transport.send(Outgoing(payload, CANCELLED, None))

    async def until_told(self) -> None:
        """Waits until the server was told of the calls that were cancelled, `LAST_CANCELLATIONS` seconds at most."""
        if self._cancelling:
            self._told = anyio.Event()
            with anyio.move_on_after(LAST_CANCELLATIONS):
                await self._told.wait()

    # --- what comes in, from `Receiver` ---------------------------------------------------------------------

    def find(self, via: int | str | None) -> PendingCall | None:
        """The waiting call with this id.  Some servers return 1 as "1", so a number in a string is found as well."""
        if type(via) is str:
            via = number(via)
        return self._waiting.get(via) if type(via) is int else None

    def running(self) -> list[PendingCall]:
        """A copy of all waiting calls."""
        return list(self._waiting.values())

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Stops the timeouts of all calls that wait now: one of them waits for a person's login, and all for its token.

        `MAX_HELD` bounds it, as for questions.
        """
        held = self.running()
        for call in held:
            call.hold(anyio.current_time())
        try:
            yield
        finally:
            for call in held:
                call.release(anyio.current_time())

    def answered(self, message: Response | ErrorResponse, via: int | str | None) -> None:
        """Hands an answer to its call, or drops it."""
        assert self.transport is not None
        if message.id is None and self.transport.duplex:
            assert isinstance(message, ErrorResponse)
            self._unclaimed(answered_error(message.error), certain=True)
            return
        # True equals 1 in Python; `find` compares the type as well.
        call = self.find(message.id)
        if call is None or call.done:
            logger.debug("an answer to no waiting request was dropped: %r", message)
        elif not self.transport.duplex and via != call.id:
            self._seldom.warning("an answer to request %s came on another exchange and was dropped", message.id)
        elif isinstance(message, ErrorResponse):
            call.finish(answered_error(message.error, call.method))
        elif not isinstance(message.result, dict):
            said = f"{message.result!r:.100}"
            call.finish(InvalidAnswer(f"the result of {call.method} is no object: {said}"))
        else:
            call.finish(message.result)

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        """No answer will come to this request; None if it is unknown which of the waiting ones lost its answer."""
        if not isinstance(error, MCPError):
            error = ConnectionLost(str(error) or type(error).__name__)
        if request_id is None:
            self._unclaimed(error, certain=False)
            return
        call = self.find(request_id)
        if call is not None:
            call.finish(error)

    def _unclaimed(self, error: MCPError, *, certain: bool) -> None:
        """Deals with a message that names no request.

        Args:
            certain: it is certainly an answer, and not unreadable bytes before the real one.
        """
        waiting = [call for call in self._waiting.values() if not call.done]
        if not waiting:
            logger.debug("an answer that names no request was dropped: %s", error)
        elif len(waiting) == 1 and certain:
            self._blame(waiting[0], error)
        else:
            begun = bool(self._doubted)
            self._doubted.update(dict.fromkeys(waiting))
            if not begun:
                self._tasks.start_soon(self._unclaimed_later, error)

    async def _unclaimed_later(self, error: MCPError) -> None:
        await anyio.sleep(UNCLAIMED_TIME)
        waiting = [call for call in self._doubted if not call.done]
        self._doubted.clear()
        if len({call.owner for call in waiting}) > 1:
            # Ending all calls would let one client of a bridge end the calls of the others.
            logger.warning("an answer names no request, and calls of several clients wait: %s", error)
            return
        for call in waiting:
            if len(waiting) == 1:
                self._blame(call, error)
            else:
                said = f"one of {len(waiting)} requests was answered, and not said which: {error.message}"
                self._blame(call, InvalidAnswer(said, getattr(error, "body", b"")))

    def _blame(self, call: PendingCall, error: MCPError) -> None:
        if call.owner is None:
            call.finish(error)
        else:
            # It may be the late answer to another client's call, so only the operator sees its text.
            logger.warning("an answer names no request, so it ends %s, which waits: %s", call.method, error)
            call.finish(InvalidAnswer(f"the answer to {call.method} names no request"))

    def end(self, error: MCPError) -> None:
        """Ends every call with this error, and each later one at once, because the transport has ended."""
        if self.ended is None:
            self.ended = error
        self._seldom.close()
        self.fail(error)
        self._deadlines.close()

    def fail(self, error: MCPError) -> None:
        """Ends every call with this error.  Later calls are allowed."""
        for call in list(self._waiting.values()):
            call.finish(error)

    def progressed(self, params: dict[str, Any]) -> PendingCall | None:
        """Handles a progress notification, and gives the call of its token if that still waits."""
        token = params.get("progressToken")
        call = self._tokens.get(token) if type(token) is int or type(token) is str else None
        if call is None and type(token) is str:
            call = self._tokens.get(number(token))  # type: ignore[arg-type]  # None is no token
        if call is not None:
            call.progressed(params)
        return call


def _forget(waiting: Awaitable[None]) -> None:
    # Python warns of a coroutine that is neither awaited nor closed.
    close = getattr(waiting, "close", None)
    if close is not None:
        close()
