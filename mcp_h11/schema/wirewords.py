# SPDX-License-Identifier: MIT
"""Other spellings of the protocol's objects, in the words of the wire.

Functions return objects of the PyPI package `mcp-types` (`mcp.types`), and dicts with the names that Python has for
members, as `Icon(src=..., mime_type=...)` makes one.  Both become plain dicts with the wire's own names.

Rule: nothing here imports that package; a class is known by the module that it says it is from.  Members that a user
may name (structured content, `_meta`, arguments) are never renamed.
"""

from __future__ import annotations

from typing import Any

# The Python names of members of content, results, annotations, icons, messages and definitions.
_WORDS = {
    "cost_priority": "costPriority",
    "destructive_hint": "destructiveHint",
    "has_more": "hasMore",
    "idempotent_hint": "idempotentHint",
    "input_schema": "inputSchema",
    "intelligence_priority": "intelligencePriority",
    "is_error": "isError",
    "last_modified": "lastModified",
    "meta": "_meta",
    "mime_type": "mimeType",
    "open_world_hint": "openWorldHint",
    "output_schema": "outputSchema",
    "read_only_hint": "readOnlyHint",
    "speed_priority": "speedPriority",
    "stop_reason": "stopReason",
    "structured_content": "structuredContent",
    "tool_use_id": "toolUseId",
    "uri_template": "uriTemplate",
    "website_url": "websiteUrl",
}
# Members that hold further objects of the protocol.
_NESTED = frozenset(("annotations", "completion", "content", "contents", "icons", "messages", "resource"))
_PLAIN = frozenset((str, int, float, bool, type(None), dict, bytes))
_FOREIGN = ("mcp_types", "mcp.types")


def is_foreign(cls: Any) -> bool:
    """Whether a class is one of the package `mcp-types`, or derived from one of its classes."""
    return isinstance(cls, type) and any(map(_is_from_there, cls.__mro__))


def _is_from_there(cls: type) -> bool:
    module = getattr(cls, "__module__", "")
    # A module of another name may begin with the same letters, so the dot is compared as well.
    return any(module == name or module.startswith(f"{name}.") for name in _FOREIGN)


def plain(value: Any) -> Any:
    """The dict of an object of `mcp-types`, also of those in a list; everything else as it is."""
    cls = type(value)
    # The common types first: most values are no objects of that package.
    if cls in _PLAIN:
        return value
    if cls is list or cls is tuple:
        return [plain(item) for item in value] if any(is_foreign(type(item)) for item in value) else value
    if not is_foreign(cls) or not hasattr(value, "model_dump"):
        return value
    # A member that is None was not set, and the wire has no null for it.
    found = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if found.get("resultType") == "complete":
        del found["resultType"]  # a revision adds it that has it
    return found


def in_wire_words(value: Any) -> Any:
    """The same with the wire's names for members, in objects of the protocol within it as well."""
    if isinstance(value, (list, tuple)):
        return [in_wire_words(item) for item in value]
    if not isinstance(value, dict):
        return plain(value)
    return {
        _WORDS.get(name, name): in_wire_words(member) if name in _NESTED else member for name, member in value.items()
    }
