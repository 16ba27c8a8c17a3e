# SPDX-License-Identifier: MIT
"""Makes the protocol's objects of returned values: content blocks, contents of a resource, messages of a prompt, a
completion.

A tool's result depends on the schema it is listed with, so its entry makes it (`handler.functions`).

Rule: a value that has the shape of the protocol already is passed on as it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..protocol.content import CONTENT_TYPES, Audio, Image
from ..protocol.finite import not_finite
from .tojson import as_plain, to_json
from .wirewords import in_wire_words, plain

MAX_COMPLETIONS = 100  # server/utilities/completion: "Maximum 100 items per response"

# --- content blocks ------------------------------------------------------------------------------------------

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
    # The two most frequent results first, and by exact type: a member of an enumeration is a str or int as well.
    if type(value) is str:
        return [{"type": "text", "text": value}]
    if type(value) is int:
        return [{"type": "text", "text": str(value)}]
    if value is None:
        return []
    # A NamedTuple is one value with members, and no list of blocks.
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


# --- resources, prompts, completions -------------------------------------------------------------------------


def contents(uri: str, mime_type: str | None, value: Any) -> list[dict[str, Any]]:
    """The contents of a resource: text, bytes, contents as they are, or anything else that JSON can say."""
    if isinstance(value, str):
        return [{"uri": uri, "mimeType": mime_type or "text/plain", "text": value}]
    if isinstance(value, (bytes, bytearray, memoryview)):
        blob = base64.b64encode(value).decode("ascii")
        return [{"uri": uri, "mimeType": mime_type or "application/octet-stream", "blob": blob}]
    if isinstance(value, dict) and isinstance(given := value.get("contents"), list) and all(map(_is_contents, given)):
        value = given  # of a whole result; the server fills in its other members
    # An empty list is data: `[]`, and no resource without contents.
    if isinstance(value, list) and value and all(map(_is_contents, value)):
        return [in_wire_words(one) for one in value]
    if _is_contents(value):
        return [in_wire_words(value)]
    if isinstance(value, (Image, Audio)):
        block = value.to_content()
        return [{"uri": uri, "mimeType": mime_type or block["mimeType"], "blob": block["data"]}]
    plain = to_json(value)
    try:
        document = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise not_finite(plain) or error from None
    return [{"uri": uri, "mimeType": mime_type or "application/json", "text": document}]


def _is_contents(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("uri"), str) and ("text" in value or "blob" in value)


def messages(value: Any) -> list[Any]:
    """The messages of a prompt, from one or several texts, content blocks and messages.  Without a role: the user's."""
    values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [message for one in values for message in _message(one)]


def _message(value: Any) -> list[Any]:
    value = plain(value)
    if isinstance(value, dict) and "role" in value and "content" in value:
        value = in_wire_words(value)
        content = value["content"]
        return [{**value, "content": to_content(content)[0]} if isinstance(content, (str, Image, Audio)) else value]
    if is_content(value):
        return [{"role": "user", "content": in_wire_words(value)}]
    return [{"role": "user", "content": block} for block in to_content(value)]


def completion(value: Any) -> dict[str, Any] | None:
    """A completion of at most `MAX_COMPLETIONS` values; None where the value is no list of texts."""
    if value is None:
        value = []
    if isinstance(value, str):
        value = {}  # list() would make one of its letters
    if hasattr(value, "model_dump"):
        value = as_plain(value)
    if isinstance(value, Mapping) and isinstance(value.get("completion"), Mapping):
        value = value["completion"]  # a whole result
    if isinstance(value, dict):
        value = in_wire_words(value)
    found = dict(value) if isinstance(value, Mapping) else {"values": list(value)}
    values = found.get("values")
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        return None
    if len(values) > MAX_COMPLETIONS:
        found["values"] = values[:MAX_COMPLETIONS]
        # A total of the function's own may count values that it has not even listed.
        found.setdefault("total", len(values))
        found["hasMore"] = True
    return found
