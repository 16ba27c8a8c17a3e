# SPDX-License-Identifier: MIT
"""The words of the protocol: names of methods and notifications, keys of `_meta`, levels of logs.

Each notification, each key of `_meta` and each table that joins them is written here and in no other module of the
package: a wrong letter in a copy would be a message that the other end ignores.  This module does not know which
revision has which word; `revisions` and the eras do.
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
# Requests that the server answers by itself, in one era or the other.
SERVER_METHODS = frozenset(
    (
        "initialize", "logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe", "server/discover",
        "subscriptions/listen",
    )
)  # fmt: skip
# 2026-07-28 removed these methods of earlier revisions: a modern server answers "method not found", also where a
# handler could serve them.
REMOVED = frozenset(
    ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "server/ping")
)
# 2026-07-28 server/utilities/caching, Cacheable Results
CACHEABLE = frozenset(("server/discover", *(name for name, method in METHODS.items() if method.cacheable)))
# The requests that a server may send: as requests of a session, or as questions of a result (2026-07-28
# basic/patterns/mrtr, Supported Requests).
QUESTIONS = ("elicitation/create", "sampling/createMessage", "roots/list")

# --- notifications --------------------------------------------------------------------------------------------------

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CANCELLED = "notifications/cancelled"
INITIALIZED = "notifications/initialized"
LOG_MESSAGE = "notifications/message"
PROGRESS = "notifications/progress"
ROOTS_CHANGED = "notifications/roots/list_changed"
RESOURCE_UPDATED = "notifications/resources/updated"
# Tasks are not a part of this package.  A bridge needs the prefix, to hold their notifications back.
TASK_NOTIFICATIONS = "notifications/tasks"

# A list of a server may change.  The kind of list is also the name of the capability whose `listChanged` announces the
# notification.
LIST_CHANGED = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
}
CHANGED_LIST = {notification: kind for kind, notification in LIST_CHANGED.items()}
# 2026-07-28 basic/patterns/subscriptions: the flag of a `subscriptions/listen` that asks for a kind.
LISTEN_FLAGS = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
# The requests whose results a changed list makes old.
LISTS = {
    kind: tuple(name for name, method in METHODS.items() if method.capability == kind and name.endswith("/list"))
    for kind in LIST_CHANGED
}

# The methods and notifications that a client may send, which are the labels of the metrics; any other name is counted
# as "other", so that a client cannot make labels.
METHOD_LABELS = SERVER_METHODS | {*METHODS, "batch", CANCELLED, INITIALIZED, PROGRESS, ROOTS_CHANGED}

# --- keys of `_meta` ------------------------------------------------------------------------------------------------

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CLIENT = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_SERVER = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"

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
