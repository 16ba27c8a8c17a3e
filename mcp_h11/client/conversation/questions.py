# SPDX-License-Identifier: MIT
"""Answers the requests that a server sends inside of a session: questions to the user, and pings.

It refuses requests beyond a limit with an error, and drops them beyond twice that limit.  It ignores all requests of a
server of 2026-07-28: there questions come inside of results (`input_required`).

Rule: the clock of a call stands still while a question is answered for it, since a person may have to think.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ...protocol.errors import InternalError, MCPError
from ...protocol.jsonrpc import JSON, Request
from ...protocol.shown import escaping
from ..transports.base import Outgoing, Transport
from .callbacks import ServerRequestHandlers
from .input_required import AnswerQuestion
from .pending import Calls, OnRequest, PendingCall
from .seldom import Seldom

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Seconds that sending an answer to the server may take.
ANSWER_LIMIT = 60.0


class Questions:
    """The requests of one server that are being answered."""

    def __init__(self, handlers: ServerRequestHandlers, calls: Calls, json: JSON, tasks: TaskGroup) -> None:
        self.handlers = handlers
        self._calls = calls
        self._json = json
        self._tasks = tasks
        self._seldom = Seldom(logger)
        # Puts a span around the answer to a request.
        self.around: Callable[[Request, AnswerQuestion], Awaitable[dict[str, Any]]] | None = None
        # By type and id: the ids 1 and True, or 1 and 1.0, are equal keys of a dict, and two requests.
        self._answering: dict[tuple[type, int | str], anyio.CancelScope] = {}

    @property
    def _transport(self) -> Transport:
        assert self._calls.transport is not None
        return self._calls.transport

    def receive(self, request: Request, via: int | str | None, *, modern: bool) -> None:
        """Begins to answer a request.  Never waits.

        Args:
            via: the id of the call on whose exchange the request came; None for a channel that all calls share.
            modern: whether the server is one of 2026-07-28 or later.
        """
        why = self._transport.why
        if modern:
            # "clients MUST NOT send JSON-RPC responses" (2026-07-28 streamable-http, Sending Messages).
            self._seldom.warning("a request from %s was ignored: %.100s", why, request.method)
            return
        key = (type(request.id), request.id)
        if key in self._answering:
            self._seldom.warning("%s asks twice under one id: the second question was ignored", why)
            return
        if len(self._answering) >= 2 * self.handlers.limit:
            # A refusal takes a task and a POST as well, so a server that does not read refusals gets no more of them.
            self._seldom.warning("%s asks more than can be answered: a question was dropped", why)
            return
        refused = len(self._answering) >= self.handlers.limit
        scope = self._answering[key] = anyio.CancelScope()
        self._tasks.start_soon(self._answer, request, via, scope, refused)

    def cancel(self, request_id: Any) -> None:
        """The server no longer wants the answer to this request."""
        scope = self._answering.get((type(request_id), request_id)) if isinstance(request_id, (int, str)) else None
        if scope is not None:
            scope.cancel()

    async def answer(self, on_request: OnRequest | None, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one question.  Raises MCPError.

        Args:
            on_request: the callback of the call that the question belongs to; None takes the client's callbacks.
        """
        if on_request is None:
            return await self.handlers.answer(method, params)
        self.handlers.check(method, params)
        return await self.handlers.run(on_request, (method, params), method)

    async def _answer(self, request: Request, via: int | str | None, scope: anyio.CancelScope, refused: bool) -> None:
        call = self._calls.find(via)
        # On a shared channel any call may be the one that the server asks for, so all clocks stand still.
        held = [call] if call is not None else self._calls.running() if self._transport.duplex else []
        for one in held:
            one.hold(anyio.current_time())
        try:
            with scope:
                if refused:
                    payload = self._json.error(request.id, InternalError("too many requests at once"))
                else:
                    payload = await self._response(request, call)
                with anyio.fail_after(ANSWER_LIMIT):
                    await self._transport.send(Outgoing(payload, None, None))
        # No task waits for this one: an error that left it would end the client.
        except Exception as error:
            why = self._transport.why
            self._seldom.warning("the answer to %.100s could not be sent to %s: %s", request.method, why, error)
        finally:
            for one in held:
                one.release(anyio.current_time())
            self._answering.pop((type(request.id), request.id), None)

    async def _response(self, request: Request, call: PendingCall | None) -> bytes:
        try:
            if request.method == "ping":
                return self._json.result(request.id, {})
            if call is None and self._transport.duplex:
                # A request on a shared channel does not say which call it belongs to.  If exactly one call answers
                # questions by itself, it is that one; between several the client's own callbacks answer.
                able = [one for one in self._calls.running() if one.on_request is not None]
                call = able[0] if len(able) == 1 else None
            on_request = None if call is None else call.on_request
            answer = partial(self.answer, on_request)
            if self.around is None:
                result = await answer(request.method, request.params)
            else:
                result = await self.around(request, answer)
            return self._json.result(request.id, result)
        except MCPError as error:
            return self._json.error(request.id, error)
        except (ValueError, TypeError):
            logger.exception("the callback for %s returned a value that JSON cannot hold", request.method)
            return self._json.error(request.id, InternalError())

    def close(self) -> None:
        """Writes the log lines that were counted and not written yet."""
        self.handlers.close()
        self._seldom.close()
