# SPDX-License-Identifier: MIT
"""Makes the protocol's objects of returned values: contents of a resource, messages of a prompt, a completion.

A tool's result depends on the schema it is listed with, so its entry makes it (`handler.functions`).

Rule: a value that has the shape of the protocol already is passed on as it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..protocol.content import Audio, Image
from ..protocol.finite import not_finite
from .blocks import is_content, to_content
from .tojson import as_plain, to_json
from .wirewords import in_wire_words, plain

MAX_COMPLETIONS = 100  # server/utilities/completion: "Maximum 100 items per response"


def contents(uri: str, mime_type: str | None, value: Any) -> list[dict[str, Any]]:
    """The contents of a resource: text, bytes, contents as they are, or anything else that JSON can say."""
    if isinstance(value, str):
        return [{"uri": uri, "mimeType": mime_type or "text/plain", "text": value}]
    if isinstance(value, (bytes, bytearray, memoryview)):
        blob = base64.b64encode(value).decode("ascii")
        return [{"uri": uri, "mimeType": mime_type or "application/octet-stream", "blob": blob}]
    if isinstance(value, dict) and isinstance(given := value.get("contents"), list) and all(map(_is_contents, given)):
        value = given  # of a whole result; the server fills in its other members
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
        found.setdefault("total", len(values))
        found["hasMore"] = True
    return found
