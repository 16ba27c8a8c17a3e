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
from ..protocol.errors import InvalidParams
from ..protocol.methods import TASKS
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


def at_client(result: Any, ctx: Context, backend: Backend) -> Any:
    """A result that is a task, with the id that this client may use; any other result as it is."""
    if not isinstance(result, dict) or not isinstance(result.get("taskId"), str):
        return result
    if result.get("resultType") == "task":
        ttl: Any = result.get("ttlMs")
        seconds = min(ttl / 1000, MAX_BUSY) if type(ttl) in (int, float) else MAX_BUSY
        backend.busy_until = max(backend.busy_until, time.monotonic() + seconds)
    owner = subject(ctx.principal)
    if not owner:
        return result
    runtime: Any = exchange_of(ctx).runtime
    return {
        **result,
        "taskId": runtime.sealer.seal({"task": result["taskId"]}, _bound(owner), runtime.now() + SEALED_FOR),
    }


def _bound(owner: str) -> bytes:
    return b"task of " + owner.encode("utf-8", "surrogatepass")
