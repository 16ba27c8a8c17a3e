# SPDX-License-Identifier: MIT
"""Content blocks of results: recognising them and making them."""

from __future__ import annotations

import json
from typing import Any

from ..protocol.content import CONTENT_TYPES, Audio, Image
from ..protocol.finite import not_finite
from .tojson import to_json
from .wirewords import in_wire_words

# --- content -------------------------------------------------------------------------------------------------
_NEEDED = {"text": "text", "image": "data", "audio": "data", "resource_link": "uri", "resource": "resource"}


def is_content(value: Any) -> bool:
    """Whether this is a content block: a dict with the `type` of one and the member that such a block needs."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    return isinstance(kind, str) and kind in CONTENT_TYPES and _NEEDED[kind] in value


def is_result(value: Any) -> bool:
    """Whether this is a whole CallToolResult, which goes to the client as it is."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("content"), list)
        and value.keys() <= {"content", "structuredContent", "isError", "_meta"}
        and all(map(is_content, value["content"]))
    )


def to_content(value: Any) -> list[dict[str, Any]]:
    """The returned value of a function without an output schema, as content blocks.

    None gives no block, and a list or tuple of strings and blocks gives one block each.  Any other value becomes the
    text of its JSON.
    """
    if type(value) is str:
        return [{"type": "text", "text": value}]
    if type(value) is int:
        return [{"type": "text", "text": str(value)}]
    if value is None:
        return []
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        if any(map(_is_block, value)) or all(isinstance(item, str) for item in value):
            return [block for item in value for block in to_content(item)]
    elif _is_block(value):
        return [in_wire_words(value) if isinstance(value, dict) else value.to_content()]
    return [text_block(value if isinstance(value, str) else _text(value))]


def _is_block(value: Any) -> bool:
    return is_content(value) or isinstance(value, (Image, Audio))


def _text(value: Any) -> str:
    plain = to_json(value, unknown=str)
    # An enumeration's member, a date, an object that only `str` can show: the bare text, not a quoted one
    return plain if isinstance(plain, str) else write_json(plain)


# One encoder: `json.dumps` with options makes a new one each time.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def write_json(plain: Any) -> str:
    try:
        return _encode(plain)
    except ValueError as error:
        raise not_finite(plain) or error from None


def text_block(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}
