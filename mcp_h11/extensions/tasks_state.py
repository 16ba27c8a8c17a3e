# SPDX-License-Identifier: MIT
"""A task as a value: its states, the steps between them, its form on the wire and its form in a store.

Follows the Tasks extension `io.modelcontextprotocol/tasks`: SEP-2663, Final, as of 2026-11-28
(modelcontextprotocol/ext-tasks, specification/draft/tasks.md).  "The spec" in comments is that text.

Each step is a function that takes a task and gives the next one.  It gives the same object where nothing changes, so
that the caller need not save it.  Times are seconds since the epoch, and the caller gives them.

Rule: a task that has ended never changes again.  A step of the worker that runs it raises `Over` then; a step that a
client asks for has no effect.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any

from ..protocol.codec import standard_dumps
from ..protocol.methods import META_TASK_PROGRESS, TASK_ENDS

WORKING, INPUT_REQUIRED, COMPLETED, FAILED, CANCELLED = "working", "input_required", "completed", "failed", "cancelled"
MAX_MESSAGE = 1_000  # characters of a status message; the rest is cut off


class Over(Exception):
    """The task has ended, so the worker that runs it can change nothing in it."""


@dataclass(frozen=True)
class Task:
    """One task, without its id: the id is known to the client, and a reader of the store must not learn it.

    `worker` runs it, and `owner` may ask for it; both are "" where there is one worker, or no authorization.  `ttl` is
    the seconds from `created` for which the task can be asked for.  `asked` has the open questions by key, each as the
    request that the client gets.  `answers` has the raw answers that the worker has not taken yet.
    """

    status: str
    created: float
    updated: float
    ttl: float
    worker: str = ""
    owner: str = ""
    message: str | None = None
    progress: tuple[float, float | None] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in TASK_ENDS

    def left(self, now: float) -> float:
        """Seconds until it may be forgotten, at least one."""
        return max(1.0, self.created + self.ttl - now)


_NAMES = frozenset(member.name for member in fields(Task))


# --- steps of the worker that runs it -----------------------------------------------------------------------------


def told(task: Task, now: float, message: str | None, progress: tuple[float, float | None] | None = None) -> Task:
    """The tool says how far it is.  Raises Over."""
    _check(task)
    text = None if message is None else message[:MAX_MESSAGE]
    return _at(task, now, message=text, progress=progress)


def asked(task: Task, now: float, questions: Mapping[str, Any]) -> Task:
    """The tool asks its client.  Raises Over."""
    _check(task)
    return _settled(_at(task, now, asked={**task.asked, **questions}))


def collected(task: Task, now: float, keys: Collection[str]) -> Task:
    """The worker has these answers, or wants them no longer: open questions among them are withdrawn.  Raises Over."""
    _check(task)
    if not any(key in task.asked or key in task.answers for key in keys):
        return task
    return _settled(_at(task, now, asked=_without(task.asked, keys), answers=_without(task.answers, keys)))


def completed(task: Task, now: float, result: Mapping[str, Any], keep: float) -> Task:
    """The tool has a result, which can be asked for `keep` seconds more.  Raises Over.

    "completed" also where the result has `isError` (the spec, Task Execution Errors).
    """
    _check(task)
    return _ended(task, now, COMPLETED, keep, result=result, message=None)  # the last progress tells nothing any more


def failed(task: Task, now: float, error: Mapping[str, Any], keep: float, message: str | None = None) -> Task:
    """The call ended with a JSON-RPC error, or its worker is gone.  Raises Over."""
    _check(task)
    text = str(error.get("message", "")) if message is None else message
    return _ended(task, now, FAILED, keep, error=error, message=text[:MAX_MESSAGE])


# --- steps that a client asks for ---------------------------------------------------------------------------------


def answered(task: Task, now: float, responses: Mapping[str, Any]) -> Task:
    """The client answers.  An answer to no open question is ignored (the spec, Task Update Requests)."""
    fitting = {key: value for key, value in responses.items() if key in task.asked and isinstance(value, dict)}
    if task.over or not fitting:
        return task
    return _settled(
        _at(task, now, asked=_without(task.asked, fitting), answers={**task.answers, **fitting}),
    )


def cancelled(task: Task, now: float, keep: float, message: str = "The client cancelled the task") -> Task:
    """The client cancels.  A task that has ended stays as it is, and that is no error."""
    return task if task.over else _ended(task, now, CANCELLED, keep, message=message)


# --- on the wire, and in a store ----------------------------------------------------------------------------------


def created_result(task: Task, task_id: str, poll: float) -> dict[str, Any]:
    """The CreateTaskResult: the task without result, error and questions (the spec, Task Creation)."""
    return {"resultType": "task", **_head(task, task_id, poll)}


def detailed(task: Task, task_id: str, poll: float) -> dict[str, Any]:
    """The DetailedTask, for tasks/get and notifications/tasks (the spec, Task Status)."""
    wire = _head(task, task_id, poll)
    if task.status == INPUT_REQUIRED:
        wire["inputRequests"] = dict(task.asked)
    elif task.status == COMPLETED:
        wire["result"] = dict(task.result or {})
    elif task.status == FAILED:
        wire["error"] = dict(task.error or {})
    return wire


def encode(task: Task) -> bytes:
    """The task for a store.  Raises ValueError and TypeError for a result that is no JSON."""
    return standard_dumps(asdict(task))


def decode(data: bytes) -> Task:
    """The task of a store's bytes.  Raises ValueError for bytes that are no task, since they are damaged.

    Members that this version does not know are ignored: workers of two versions may share a store for a while.
    """
    try:
        members = json.loads(data)
        known = {name: members[name] for name in _NAMES & members.keys()}
        if known.get("progress") is not None:
            known["progress"] = tuple(known["progress"])
        return Task(**known)
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"this is no task: {exc}") from None


def _head(task: Task, task_id: str, poll: float) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "taskId": task_id,
        "status": task.status,
        "createdAt": _moment(task.created),
        "lastUpdatedAt": _moment(task.updated),
        "ttlMs": max(1, round(task.ttl * 1000)),
        "pollIntervalMs": max(1, round(poll * 1000)),
    }
    if task.message is not None:
        wire["statusMessage"] = task.message
    if task.progress is not None and not task.over:
        done, total = task.progress
        wire["_meta"] = {META_TASK_PROGRESS: {"progress": done, **({} if total is None else {"total": total})}}
    return wire


def _moment(seconds: float) -> str:
    # ISO 8601 in UTC.  "Z" and not "+00:00", as in the examples of the spec.
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(task: Task) -> None:
    if task.over:
        raise Over


def _at(task: Task, now: float, **changes: Any) -> Task:
    """The task with changes; its time of change never goes back, though clocks of two workers may differ."""
    return replace(task, updated=max(task.updated, now), **changes)


def _settled(task: Task) -> Task:
    """The status follows from the open questions."""
    return replace(task, status=INPUT_REQUIRED if task.asked else WORKING)


def _ended(task: Task, now: float, status: str, keep: float, **changes: Any) -> Task:
    # Questions and answers are dropped: none of them is wanted any more, and they take room.  `ttl` may change over the
    # life of a task (the spec, Tasks).
    ended = _at(task, now, status=status, asked={}, answers={}, **changes)
    return replace(ended, ttl=ended.updated - ended.created + keep)


def _without(members: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key not in keys}
