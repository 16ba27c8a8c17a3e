# SPDX-License-Identifier: MIT
"""The callbacks of a client: some answer the questions of the server, the others hear its notifications.

A question comes as a request in a session, and inside of an `input_required` result in 2026-07-28.  The same callback
answers both.  A question without a declared capability is refused.  A callback that raises becomes an internal
error for the server; its traceback goes to the log only.

A question may be answered by a coroutine function or by a plain function.  A plain function runs in a worker thread, as
plain tools of a server do, since it may ask a person and wait.  Callbacks for notifications run on the event loop.

Rule: the declared capabilities follow from the callbacks that were given.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread

from ...protocol.errors import InternalError, InvalidParams, MCPError, MethodNotFound
from ...protocol.shown import escaping
from .seldom import Seldom

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Notifications that wait for their asynchronous callbacks, which are awaited in order, one after the other.
MAX_UNHEARD = 1_000
# Requests of one server that are answered at once.
MAX_QUESTIONS_AT_ONCE = 100
# Plain functions of one client that answer questions at the same time.  More of them wait for a thread.
MAX_THREADS = 40

_CAPABILITY = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}

QuestionHandler = Callable[[dict[str, Any]], "Awaitable[dict[str, Any]] | dict[str, Any]"]
Roots = QuestionHandler | Sequence[Mapping[str, Any]]


class ServerRequestHandlers:
    """Answers the three kinds of questions that a server may ask.

    `declared` is merged over the capabilities that follow from the callbacks, to add to them:
    ``{"elicitation": {"form": {}, "url": {}}}``, ``{"sampling": {"tools": {}}}``, ``{"extensions": {...}}``.
    `limit` is the number of questions that are answered at once.
    """

    def __init__(
        self,
        on_sampling: QuestionHandler | None = None,
        on_elicitation: QuestionHandler | None = None,
        on_roots: Roots | None = None,
        declared: Mapping[str, Any] | None = None,
        limit: int = MAX_QUESTIONS_AT_ONCE,
    ) -> None:
        check_callbacks(on_sampling=on_sampling, on_elicitation=on_elicitation)
        if limit < 1:
            raise ValueError(f"max_questions is at least 1, not {limit!r}")
        self.limit = limit
        self._answers: dict[str, QuestionHandler] = {}
        # A limiter of its own, so that a server with many questions cannot use up the threads of the program.
        self._threads = CapacityLimiter(MAX_THREADS)
        self._seldom = Seldom(logger)
        self.capabilities: dict[str, Any] = {}
        if on_sampling is not None:
            self._offer("sampling/createMessage", on_sampling, "sampling", {})
        if on_elicitation is not None:
            # 2025-11-25 client/elicitation, Capabilities: an empty object means the same; the modes can be read here.
            self._offer("elicitation/create", on_elicitation, "elicitation", {"form": {}})
        if on_roots is not None:
            self._offer("roots/list", _roots(on_roots), "roots", {"listChanged": True})
        self.capabilities.update(declared or {})

    def _offer(self, method: str, answers: QuestionHandler, capability: str, value: dict[str, Any]) -> None:
        self._answers[method] = answers
        self.capabilities[capability] = value

    def check(self, method: str, params: Mapping[str, Any]) -> None:
        """Raises MCPError for a question that was not declared: MethodNotFound, or InvalidParams for its mode."""
        if _CAPABILITY.get(method) not in self.capabilities:
            raise MethodNotFound(method)
        modes = self.capabilities.get("elicitation")
        if method == "elicitation/create" and isinstance(modes, Mapping):
            mode = params.get("mode", "form")
            # "an empty capabilities object is equivalent to declaring support for form mode only"
            if mode not in (modes or {"form": {}}):
                raise InvalidParams(f"elicitation mode was not declared: {str(mode)[:50]}")

    async def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of the callback.

        Raises:
            MCPError: the question was not declared, or the callback raised this error.  Any other exception of the
                callback becomes an InternalError.
        """
        self.check(method, params)
        answers = self._answers.get(method)
        if answers is None:  # declared by the user for calls with an `on_request` of their own
            raise MethodNotFound(method)
        return await self.run(answers, (params,), method)

    async def run(self, answers: Callable[..., Any], arguments: tuple[Any, ...], method: str) -> dict[str, Any]:
        """Runs a callback and checks its result.  Raises MCPError and no other exception."""
        try:
            if _is_async(answers):
                result = await answers(*arguments)
            else:
                # The thread is abandoned when the question is cancelled: the end of a client must not wait for a
                # person that does not answer.
                result = await to_thread.run_sync(answers, *arguments, abandon_on_cancel=True, limiter=self._threads)
                if inspect.isawaitable(result):
                    result = await result
        except MCPError:
            raise
        except Exception:
            self._seldom.exception("the callback for %s failed", method)
            # The text of the exception may hold secrets, so the server does not see it.
            raise InternalError() from None
        if not isinstance(result, dict):
            self._seldom.error("the callback for %s returned a %s, not a dict", method, type(result).__name__)
            raise InternalError()
        return result

    def close(self) -> None:
        """Writes the log lines that were counted and not written yet."""
        self._seldom.close()


def check_callbacks(**callbacks: Any) -> None:
    """Raises TypeError for a callback that cannot be called, so that it does not fail first at a notification."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} is a function or a coroutine function, not {type(callback).__name__}")


def _is_async(callback: Any) -> bool:
    # `inspect` sees through functools.partial, but not through an object with `async def __call__`.
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__)


def _roots(roots: Roots) -> QuestionHandler:
    if callable(roots):
        return roots
    if isinstance(roots, (str, bytes, Mapping)) or not isinstance(roots, Iterable):
        raise TypeError(f"on_roots is a list of roots, a function or a coroutine function, not {type(roots).__name__}")
    listed = list(roots)
    if not all(isinstance(root, Mapping) for root in listed):
        raise TypeError('a root of on_roots is an object: {"uri": "file:///..."}')
    listed = [dict(root) for root in listed]

    async def answer(params: dict[str, Any]) -> dict[str, Any]:
        return {"roots": listed}

    return answer


@dataclass
class Listeners:
    """The callbacks of a client for the notifications of its server."""

    on_log: Callable[[dict[str, Any]], Any] | None = None
    on_list_changed: Callable[[str], Any] | None = None
    on_updated: Callable[[str], Any] | None = None
    on_notification: Callable[[str, dict[str, Any]], Any] | None = None


class NotificationQueue:
    """Runs the callbacks for notifications: plain functions at once, coroutine functions one after the other."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: deque[Awaitable[Any]] = deque()
        self._running = False
        self._seldom = Seldom(logger)

    def deliver(self, callback: Callable[..., Any] | None, *arguments: Any) -> None:
        """Runs a callback with these arguments.  Never waits; an exception of the callback goes to the log."""
        if callback is None:
            return
        try:
            waiting = callback(*arguments)
        except Exception:
            self._seldom.exception("a callback failed")
            return
        if not inspect.isawaitable(waiting):
            return
        if len(self._waiting) >= MAX_UNHEARD:
            self._seldom.warning("more than %d notifications wait for their callbacks: one was dropped", MAX_UNHEARD)
            # Python warns of a coroutine that is neither awaited nor closed.
            if inspect.iscoroutine(waiting):
                waiting.close()
            return
        self._waiting.append(waiting)
        if not self._running:
            self._running = True
            self._tasks.start_soon(self._run)

    async def _run(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._waiting.popleft()
                except Exception:  # noqa: PERF203
                    self._seldom.exception("a callback failed")
        finally:
            self._running = False

    def close(self) -> None:
        """Drops the notifications that still wait, because the client ends."""
        self._seldom.close()
        while self._waiting:
            waiting = self._waiting.popleft()
            if inspect.iscoroutine(waiting):
                waiting.close()
