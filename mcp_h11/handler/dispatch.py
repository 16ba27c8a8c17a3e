# SPDX-License-Identifier: MIT
"""One call to the handler, within its deadline."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Coroutine
from functools import partial
from types import CoroutineType
from typing import Any

from ..protocol.content import text
from ..protocol.errors import InternalError, MCPError, ToolError
from ..protocol.methods import METHODS
from .context import Context, exchange_of
from .deadlines import Deadline, TimedOut, run_in_time, run_within
from .exchange import Exchange
from .handler import Params, Result, ServerHandler, check_progress_token, logger
from .questions import InputRequired, taken


def dispatch(
    handler: ServerHandler, method: str, params: Params, ctx: Context
) -> Coroutine[Any, Any, Result | InputRequired]:
    """Let the handler answer, within the time it has.  The coroutine raises as `answer` does.

    Raises InvalidParams for a malformed progress token.
    """
    if type(meta := params.get("_meta")) is dict and "progressToken" in meta:
        check_progress_token(meta["progressToken"])
    timeout = exchange_of(ctx).runtime.settings.call_timeout
    if handler.timeouts and method == "tools/call" and isinstance(name := params.get("name"), str):
        timeout = handler.timeouts.get(name, timeout)
    # Without a limit the call needs no task of its own, which is the cheaper way.
    if timeout is None or timeout == math.inf:
        return answer(handler, method, params, ctx)
    return _answer_within(timeout, handler, method, params, ctx)


async def _answer_within(
    timeout: float, handler: ServerHandler, method: str, params: Params, ctx: Context
) -> Result | InputRequired:
    exchange = exchange_of(ctx)
    runtime = exchange.runtime
    deadline = exchange.deadline = Deadline(runtime.loop, timeout, runtime.settings.call_ceiling, runtime.timer)
    try:
        job = answer(handler, method, params, ctx)
        if handler.heeds_cancellation:
            return await run_in_time(job, deadline)
        return await run_within(job, deadline, partial(_leave, exchange))
    except TimedOut as exc:
        logger.warning("%s: %s", _what(exchange), exc)
        exchange.failed("timeout")
        # A model can act on a timeout of a tool; for any other method it is an error of the protocol.
        if method == "tools/call":
            return tool_error(str(exc))
        raise InternalError(str(exc)) from None
    finally:
        exchange.deadline = None


def _leave(exchange: Exchange, task: asyncio.Task[Any]) -> None:
    logger.warning("%s ignores its cancellation; its answer will be dropped", _what(exchange))
    exchange.runtime.leave(task, exchange.party)


def _what(exchange: Exchange) -> str:
    """The call, for the log.  The name of a tool is a client's text, so it is cut and quoted."""
    method = exchange.method
    return f"tools/call {str(exchange.params.get('name'))[:100]!r}" if method == "tools/call" else method


async def answer(handler: ServerHandler, method: str, params: Params, ctx: Context) -> Result | InputRequired:
    """Let the handler answer.  Raises MCPError, NeedInput or CancelledError, and no other exception.

    Any other error of a tool becomes a result that the model can act on (2025-11-25 server/tools, Error Handling).  The
    traceback goes to the log and never to the client.
    """
    try:
        entry = METHODS.get(method)
        if entry is None or type(handler).request is not ServerHandler.request:
            result: Any = await handler.request(method, params, ctx)
        else:  # the same as `ServerHandler.request`, without the cost of its coroutine
            result = getattr(handler, entry.attribute)(params, ctx)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = await result
    except MCPError as exc:
        exc.__traceback__ = None  # it grows with each raise of an object that a handler keeps; the log does not want it
        raise
    except (Exception, SystemExit) as exc:
        # SystemExit too: a tool that calls `sys.exit` must not end the server.
        if method == "tools/call" and isinstance(exc, ToolError):
            exchange_of(ctx).failed("tool_error")
            exc.__traceback__ = None
            return tool_error(str(exc))
        logger.exception("%s failed", method)
        exc.__traceback__ = None
        if method == "tools/call":
            exchange_of(ctx).failed("tool_error")
            return tool_error(describe(exc) if isinstance(exc, Exception) else "The tool tried to end the server")
        raise InternalError() from None
    if not isinstance(result, dict):
        result = taken(result)
        if isinstance(result, InputRequired):
            return result
        if not isinstance(result, dict):
            logger.error("%s returned a %s, not a dict", method, type(result).__name__)
            raise InternalError()
    # Of a tool that failed, or that wrote such a result itself.
    if "isError" in result and result["isError"]:
        exchange_of(ctx).failed("tool_error")
    return result


def tool_error(message: str) -> dict[str, Any]:
    """A tool result that tells the model of an error."""
    return {"content": [text(message)], "isError": True}


def describe(exc: BaseException) -> str:
    """One line for the model: the message, or the type's name where there is none."""
    return str(exc) or type(exc).__name__
