# SPDX-License-Identifier: MIT
"""The words of the protocol: names of methods and notifications, keys of `_meta`, levels of logs.

No other module of the package spells the name of a notification or a key of `_meta`: with a wrong letter in a copy,
the other end would ignore the message.  This module does not say which revision has which name; `revisions` and the
eras do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import InvalidParams

MAX_TOOL_NAME = 128  # characters; 2025-11-25 server/tools, Tool Names: "SHOULD be between 1 and 128"

# --- requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One request that a handler may answer.  `capability` is the member of ServerCapabilities that offers it."""

    attribute: str
    capability: str
    cacheable: bool = False  # its 2026-07-28 result carries ttlMs and cacheScope
    input_required: bool = False  # may end with questions (2026-07-28 basic/patterns/mrtr, Supported Requests)


METHODS: dict[str, Method] = {
    "tools/list": Method("list_tools", "tools", cacheable=True),
    "tools/call": Method("call_tool", "tools", input_required=True),
    "resources/list": Method("list_resources", "resources", cacheable=True),
    "resources/templates/list": Method("list_resource_templates", "resources", cacheable=True),
    "resources/read": Method("read_resource", "resources", cacheable=True, input_required=True),
    "prompts/list": Method("list_prompts", "prompts", cacheable=True),
    "prompts/get": Method("get_prompt", "prompts", input_required=True),
    "completion/complete": Method("complete", "completions"),
}
# Requests that the package answers itself, in at least one era.
SERVER_METHODS = frozenset(
    (
        "initialize", "logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe", "server/discover",
        "subscriptions/listen",
    )
)  # fmt: skip
# 2026-07-28 removed these methods of earlier revisions.  In the modern era the answer is "method not found", even if a
# handler could serve them.
REMOVED = frozenset(
    ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "server/ping")
)
# 2026-07-28 server/utilities/caching, Cacheable Results
CACHEABLE = frozenset(("server/discover", *(name for name, method in METHODS.items() if method.cacheable)))
# The requests that a server may send: as requests of a session, or as questions of a result (2026-07-28
# basic/patterns/mrtr, Supported Requests).
QUESTIONS = ("elicitation/create", "sampling/createMessage", "roots/list")
# The extension of tasks (SEP-2663), and its requests.
TASKS = "io.modelcontextprotocol/tasks"
TASK_METHODS = ("tasks/get", "tasks/update", "tasks/cancel")
TASK_ENDS = ("completed", "failed", "cancelled")  # the states that a task stays in

# --- notifications --------------------------------------------------------------------------------------------------

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CANCELLED = "notifications/cancelled"
INITIALIZED = "notifications/initialized"
LOG_MESSAGE = "notifications/message"
PROGRESS = "notifications/progress"
ROOTS_CHANGED = "notifications/roots/list_changed"
RESOURCE_UPDATED = "notifications/resources/updated"
# The extension `io.modelcontextprotocol/tasks`.  The experimental tasks of 2025-11-25 have a prefix that begins alike.
TASK_NOTIFICATIONS = "notifications/tasks"

# The notifications of changed lists.  The key is also the name of a capability; its member `listChanged` announces that
# the server sends the notification.
LIST_CHANGED = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
}
CHANGED_LIST = {notification: kind for kind, notification in LIST_CHANGED.items()}
# 2026-07-28 basic/patterns/subscriptions: the flag of a `subscriptions/listen` that asks for a kind.
LISTEN_FLAGS = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
# The list requests, by the kind of list.  After a change of the list, cached results of these requests are old.
LISTS = {
    kind: tuple(name for name, method in METHODS.items() if method.capability == kind and name.endswith("/list"))
    for kind in LIST_CHANGED
}

# The labels of the metrics: the methods and notifications that a client may send.  Any other name is counted as
# "other", so that a client cannot add labels.
METHOD_LABELS = SERVER_METHODS | {*METHODS, *TASK_METHODS, "batch", CANCELLED, INITIALIZED, PROGRESS, ROOTS_CHANGED}

# --- keys of `_meta` ------------------------------------------------------------------------------------------------

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CLIENT = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_SERVER = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_TASK_PROGRESS = "mcp-h11/progress"  # of a task: progress and total, which SEP-2663 has no member for

# --- logs -----------------------------------------------------------------------------------------------------------

# 2025-11-25 server/utilities/logging, Log Levels (RFC 5424)
LEVELS: dict[str, int] = {
    name: rank
    for rank, name in enumerate(("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"))
}


def log_rank(level: Any) -> int:
    """The rank of a level's name, 0 for debug.  Raises InvalidParams if the level is none of the eight."""
    rank = LEVELS.get(level) if isinstance(level, str) else None
    if rank is None:
        raise InvalidParams(f"Unknown log level; expected one of {', '.join(LEVELS)}")
    return rank
