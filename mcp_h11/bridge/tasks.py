# SPDX-License-Identifier: MIT
"""Tasks of a backend (SEP-2663), as the clients of a bridge see them.

A task lives at the backend, and `tasks/get`, `tasks/update` and `tasks/cancel` go there like any request.  All clients
are one client for the backend, so the bridge itself binds a task to its principal: on a server with authorization the
id that a client gets is sealed with the name of its principal, and opens for no other.

It refuses notices of tasks on listen streams: the filter of a client is agreed to without its `taskIds`.

Rule: only clients and backends of 2026-07-28 have tasks.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from ..handler.context import Context, exchange_of
from ..handler.extension import Extension
from ..http.auth import subject
from ..protocol.errors import INTERNAL_ERROR, InvalidParams, MCPError
from ..protocol.methods import TASK_METHODS, TASKS
from .backends import Backend

SEALED_FOR = 10**9  # seconds: the backend knows when a task has expired, and a sealed id does not
MAX_BUSY = 24 * 3_600.0  # seconds for which a task keeps a backend of its own alive


class BridgedTasks(Extension):
    """Announces tasks to clients of 2026-07-28 while the backend has them; `offered` says whether it does."""

    identifier = TASKS
    legacy = False
    filter = "taskIds"
    offered = False

    def settings(self) -> Mapping[str, Any] | None:
        return {} if self.offered else None

    def heard(self, wanted: Any, principal: str) -> tuple[Any, Collection[str]]:
        return None, ()


def at_backend(params: Mapping[str, Any], ctx: Context) -> dict[str, Any]:
    """The params of a request for a task, with the id that the backend knows.  Raises InvalidParams."""
    task_id, owner = params.get("taskId"), subject(ctx.principal)
    if not owner or not isinstance(task_id, str):
        return dict(params)
    runtime: Any = exchange_of(ctx).runtime
    try:
        opened = runtime.sealer.open(task_id, _bound(owner), runtime.now())
    except InvalidParams:
        opened = {}
    if not isinstance(opened.get("task"), str):
        # The words of a server of this package for a task that never was.
        raise InvalidParams("Unknown task: it never was, or it has expired")
    return {**params, "taskId": opened["task"]}


def at_client(method: str, sent: Mapping[str, Any], result: Any, ctx: Context, backend: Backend) -> Any:
    """A result that is a task, with the id that this client may use; any other result as it is.

    `sent` are the params that the backend got.  Raises MCPError for a task that the client did not ask for.
    """
    if not isinstance(result, dict):
        return result
    if result.get("resultType") == "task":
        return _made(result, ctx, backend)
    # Only the results of these: a method of another extension may have a member of this name, whose value is perhaps
    # the client's own choice.  Sealed, it would open a task of another principal.
    if method in TASK_METHODS and "taskId" in result and subject(ctx.principal):
        if result["taskId"] != sent.get("taskId"):
            raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} answered with another task")
        # Its own: a new seal would be another text, and a client compares the ids.
        return {**result, "taskId": exchange_of(ctx).params.get("taskId")}
    return result


def _made(result: dict[str, Any], ctx: Context, backend: Backend) -> dict[str, Any]:
    exchange = exchange_of(ctx)
    if not exchange.revision.modern or ctx.client_extension(TASKS) is None:
        # "a server MUST NOT return CreateTaskResult to a client that did not include the extension capability"
        raise MCPError(
            INTERNAL_ERROR, f"The backend {backend.name} answered with a task, which the client did not ask for"
        )
    ttl: Any = result.get("ttlMs")
    # Compared before the division: an integer may be too large for a float.
    seconds = ttl / 1000 if type(ttl) in (int, float) and 0 <= ttl < MAX_BUSY * 1000 else MAX_BUSY
    backend.busy_until = max(backend.busy_until, time.monotonic() + seconds)
    owner = subject(ctx.principal)
    if not owner:
        return result
    runtime: Any = exchange.runtime
    try:
        sealed = runtime.sealer.seal({"task": result.get("taskId")}, _bound(owner), runtime.now() + SEALED_FOR)
    except ValueError:
        raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} gave a task an id that is too long") from None
    return {**result, "taskId": sealed}


def _bound(owner: str) -> bytes:
    return b"task of " + owner.encode("utf-8", "surrogatepass")
