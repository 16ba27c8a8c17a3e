# SPDX-License-Identifier: MIT
"""What a server may ask of this client, and what it may tell it: one set of callbacks for both eras.

A question comes as a request in a session, and inside of an `input_required` result in 2026-07-28; whoever answers it
cannot tell.  What was not declared is refused, and a callback that raises is an internal error: its traceback goes to
the log and nowhere else.

A question may be answered by a coroutine function, or by a plain function: that one runs in a worker thread, as plain
tools of a server do, since it may ask a person and wait.  What is only told is told on the loop.

Rule: capabilities follow from the callbacks that are there.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread

from ..protocol.errors import InternalError, InvalidParams, MCPError, MethodNotFound
from ..protocol.shown import escaping
from .seldom import Seldom

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# What waits for asynchronous callbacks; they are told in order, one after the other.
MAX_UNHEARD = 1_000
MAX_THREADS = 40  # plain functions of one client that answer questions at once; others wait

_CAPABILITY = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}

QuestionHandler = Callable[[dict[str, Any]], "Awaitable[dict[str, Any]] | dict[str, Any]"]
Roots = QuestionHandler | Sequence[Mapping[str, Any]]


class ServerRequestHandlers:
    """Answers the three questions that a server may ask.

    `declared` is merged over what follows from the callbacks, so that a callback can say more of itself:
    ``{"elicitation": {"form": {}, "url": {}}}``, ``{"sampling": {"tools": {}}}``, ``{"extensions": {...}}``.
    """

    def __init__(
        self,
        on_sampling: QuestionHandler | None = None,
        on_elicitation: QuestionHandler | None = None,
        on_roots: Roots | None = None,
        declared: Mapping[str, Any] | None = None,
    ) -> None:
        check_callbacks(on_sampling=on_sampling, on_elicitation=on_elicitation)
        self._answers: dict[str, QuestionHandler] = {}
        self._threads = CapacityLimiter(MAX_THREADS)  # its own: a server that asks and asks takes nobody else's
        self._seldom = Seldom(logger)
        self.capabilities: dict[str, Any] = {}
        if on_sampling is not None:
            self._offer("sampling/createMessage", on_sampling, "sampling", {})
        if on_elicitation is not None:
            # 2025-11-25 client/elicitation, Capabilities: an empty object would mean the same, and only that.
            self._offer("elicitation/create", on_elicitation, "elicitation", {"form": {}})
        if on_roots is not None:
            self._offer("roots/list", _roots(on_roots), "roots", {"listChanged": True})
        self.capabilities.update(declared or {})

    def _offer(self, method: str, answers: QuestionHandler, capability: str, value: dict[str, Any]) -> None:
        self._answers[method] = answers
        self.capabilities[capability] = value

    def check(self, method: str, params: Mapping[str, Any]) -> None:
        """Raises MCPError where this was not declared: MethodNotFound, or InvalidParams for a mode that was not."""
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
            MCPError: not declared, or raised by the callback as such; InternalError for whatever else it raised.
        """
        self.check(method, params)
        answers = self._answers.get(method)
        if answers is None:  # declared for those who answer by themselves
            raise MethodNotFound(method)
        return await self.run(answers, (params,), method)

    async def run(self, answers: Callable[..., Any], arguments: tuple[Any, ...], method: str) -> dict[str, Any]:
        """What user code answers to a question.  Raises MCPError and nothing else."""
        try:
            if _is_async(answers):
                result = await answers(*arguments)
            else:
                # Abandoned where the question is: a person who does not answer must not hold up the end of the client.
                result = await to_thread.run_sync(answers, *arguments, abandon_on_cancel=True, limiter=self._threads)
                if inspect.isawaitable(result):
                    result = await result
        except MCPError:
            raise
        except Exception:
            self._seldom.exception("the callback for %s failed", method)
            raise InternalError() from None
        if not isinstance(result, dict):
            self._seldom.error("the callback for %s returned a %s, not a dict", method, type(result).__name__)
            raise InternalError()
        return result

    def close(self) -> None:
        """No question will come any more."""
        self._seldom.close()


def check_callbacks(**callbacks: Any) -> None:
    """Raises TypeError for one that can never be called: now, and not when the server has said something."""
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


class NotificationQueue:
    """Runs callbacks of which nothing comes back: at once if they are synchronous, else in order behind each other."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._waiting: deque[Awaitable[Any]] = deque()
        self._running = False
        self._seldom = Seldom(logger)

    def deliver(self, callback: Callable[..., Any] | None, *arguments: Any) -> None:
        """Never raises, never waits."""
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
        """Nobody will hear what still waits."""
        self._seldom.close()
        while self._waiting:
            waiting = self._waiting.popleft()
            if inspect.iscoroutine(waiting):
                waiting.close()
