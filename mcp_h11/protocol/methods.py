# SPDX-License-Identifier: MIT
"""The words of the protocol: names of methods and notifications, keys of `_meta`, levels of logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import InvalidParams

MAX_TOOL_NAME = 128  # characters; 2025-11-25 server/tools, Tool Names: "SHOULD be between 1 and 128"
METHOD_LABELS = frozenset(
    (
        "batch", "completion/complete", "initialize", "logging/setLevel", "notifications/cancelled",
        "notifications/initialized", "notifications/progress", "notifications/roots/list_changed", "ping",
        "prompts/get", "prompts/list", "resources/list", "resources/read", "resources/subscribe",
        "resources/templates/list", "resources/unsubscribe", "server/discover", "subscriptions/listen", "tools/call",
        "tools/list",
    )
)  # fmt: skip


META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CLIENT = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_SERVER = "io.modelcontextprotocol/serverInfo"

# Methods of earlier revisions that this one removed: not to be had here, whatever the handler would say.
REMOVED = frozenset(
    ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "server/ping")
)


META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
LISTEN_FLAGS = {
    "toolsListChanged": ("tools", "notifications/tools/list_changed"),
    "promptsListChanged": ("prompts", "notifications/prompts/list_changed"),
    "resourcesListChanged": ("resources", "notifications/resources/list_changed"),
}
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


CHANGED = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
}
UPDATED = "notifications/resources/updated"


# 2025-11-25 server/utilities/logging, Log Levels (RFC 5424)
LEVELS: dict[str, int] = {
    name: rank
    for rank, name in enumerate(("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"))
}
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"


def log_rank(level: Any) -> int:
    """The rank of a level's name.  Raises InvalidParams where it is none of the eight."""
    rank = LEVELS.get(level) if isinstance(level, str) else None
    if rank is None:
        raise InvalidParams(f"Unknown log level; expected one of {', '.join(LEVELS)}")
    return rank


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
