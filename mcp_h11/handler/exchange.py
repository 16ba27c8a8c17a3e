# SPDX-License-Identifier: MIT
"""One request in flight: an era makes an `Exchange`, and the `Context` that a handler gets stands before it.

The floor of the handlers declares it, so that an era can fill it in without the handlers importing any era.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..protocol.jsonrpc import Request
from ..protocol.revisions import Revision
from .deadlines import CallTimer, Deadline
from .questions import Question
from .sessions import ServerSession

T = TypeVar("T")


class NeedInput(BaseException):
    """The call cannot go on before the client has answered; the era turns it into an `input_required` result.

    Not an Exception, so that a handler's `except Exception` does not swallow it.
    """

    def __init__(self, questions: dict[str, Question]) -> None:
        super().__init__("this call waits for input from the client")
        self.questions = questions


class Services(Protocol):
    """The parts of a running server that a call may use: its `Runtime`, as the handlers' floor sees it."""

    handler: Any  # the ServerHandler that is served
    lifespan: Any
    loop: asyncio.AbstractEventLoop
    settings: Any  # Settings
    timer: CallTimer  # of calls with a deadline

    def leave(self, task: asyncio.Task[Any], party: str) -> None:
        """Count a task of a client's that still runs although its call is answered."""

    async def run_sync(self, fn: Callable[[], T], party: str) -> T:
        """Run a blocking function off the event loop, in the turn of its client."""


class CallSpan(Protocol):
    """The span of one call, as the handlers' floor sees it: `telemetry.spans.OpenSpan`."""

    def failed(self, kind: int | str, message: str = "") -> None:
        """The call fails: the code of a JSON-RPC error or the name of another failure, and the message."""


class Exchange:
    """One request in flight, as an era keeps it.  Subclasses fill the slots and the four ways to speak."""

    __slots__ = (
        "deadline",
        "done",
        "disconnected",
        "input_responses",
        "keeps_place",
        "memo",
        "method",
        "params",
        "principal",
        "request_id",
        "request_state",
        "revision",
        "runtime",
        "span",
        "task",
    )

    runtime: Services
    revision: Revision
    request_id: str | int
    method: str
    params: dict[str, Any]
    principal: Any
    input_responses: dict[str, Any] | None
    request_state: str | None
    memo: dict[str, Any] | None  # results of `once`
    disconnected: asyncio.Event | None  # made when a handler asks for it
    deadline: Deadline | None  # of a call that has one, while it runs
    span: CallSpan | None  # where the server makes spans, while it runs
    task: asyncio.Task[Any] | None  # while it runs, or waits for its turn
    done: bool
    keeps_place: bool  # also while it asks its client: its place is one of those reserved for protocol methods

    def __init__(self, runtime: Services, revision: Revision, message: Request, principal: Any) -> None:
        self.runtime = runtime
        self.revision = revision
        self.request_id = message.id
        self.method = message.method
        self.params = message.params
        self.principal = principal
        self.input_responses = self.request_state = self.memo = self.disconnected = self.deadline = self.task = None
        self.span = None
        self.done = self.keeps_place = False

    @property
    def party(self) -> str:
        """The client that the limits count this call for."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cancel the task of the call, if it has one."""
        if self.task is not None:
            self.task.cancel()

    @property
    def client_info(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def client_capabilities(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def session(self) -> ServerSession | None:
        """The legacy session that later requests of the client belong to as well, or None."""
        return None

    @property
    def carrying_session(self) -> Any:
        """The legacy session that the request runs in, None in 2026-07-28.

        It may be one without an id: that of a stateless server, which ends with the request, or that of a pipe.
        """
        return None

    @property
    def headers(self) -> Any:
        """The request's head, or None where there is no HTTP."""
        return None

    @property
    def peer(self) -> str:
        """The address of the client, or empty where there is none."""
        return ""

    @property
    def connected(self) -> bool:
        """Whether the client is connected and can read the answer now."""
        return True

    def wants_log(self, rank: int) -> bool:
        raise NotImplementedError

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        raise NotImplementedError

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """The answers by the same keys.  May raise NeedInput, or MissingClientCapability."""
        raise NotImplementedError

    def hand_over_questions(self, successor: Any) -> None:
        """Make the open questions of this call those of another call of the same session, which may outlast this one.

        Does nothing in 2026-07-28, where a question is a part of the answer.
        """

    async def claim(self) -> None:
        """Claim this round for an action that must not happen twice.  May raise InvalidParams or a Refusal."""

    async def start_task(self, message: str | None) -> bool:
        """Become a task (`extensions.tasks`); False where the call is none and cannot become one."""
        return False

    def failed(self, kind: int | str, message: str = "") -> None:
        """The answer will be an error: the code of a JSON-RPC error or the name of another failure, and the message."""
        if self.span is not None:
            self.span.failed(kind, message)
        self.count_failure(kind)

    def count_failure(self, kind: int | str) -> None:
        """A carrier that counts answers by the kind of their error counts this one."""

    async def close_stream(self) -> None:
        """End the connection of this call but not the call, where the client can come back for the rest."""
