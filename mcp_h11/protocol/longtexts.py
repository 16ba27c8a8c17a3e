# SPDX-License-Identifier: MIT
"""Writes a JSON value that has a long text in it, as the standard library writes it and faster.

The standard library escapes a text letter by letter, at 2 ns each.  Here one pass at the speed of memory finds the
bytes that need an escape.  Most long texts have none, or only line feeds, which `replace` finds as fast.

Rule: the bytes are those of `json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

# A shorter text is not worth the search.
LONG_TEXT = 4096
# A value is looked through to the depth of a text in a content block, and in objects and arrays of at most this number
# of members.  The encoder is called for each part that is not looked through, so there are at most 512 of them.
_DEPTH = 3
_MEMBERS = 8
# With more kinds of escapes in a text, or more than one in this number of bytes, the encoder is faster.  Three samples
# tell most such texts from the others, at no cost.
_KINDS = 3
_SPARSE = 16
_SAMPLE = 512

_escaped = json.encoder.encode_basestring
_PLAIN = bytes(byte for byte in range(0x20, 0x100) if byte not in b'"\\')


def has_long_text(result: Any) -> bool:
    """Whether the first block of a tool's result, or the contents of a resource, has a long text."""
    if type(result) is not dict:
        return False
    blocks = result.get("content") or result.get("contents")
    if type(blocks) is not list or not blocks or type(blocks[0]) is not dict:
        return False
    text = blocks[0].get("text")
    return type(text) is str and len(text) > LONG_TEXT


def add_pieces(pieces: list[bytes], value: Any, write: Callable[[Any], str], depth: int = _DEPTH) -> None:
    """Append the bytes of a JSON value; `write` writes each part without a long text.

    Raises:
        ValueError: as `write` does; UnicodeEncodeError for a lone surrogate.
        TypeError: as `write` does.
    """
    kind = type(value)
    if kind is str and len(value) > LONG_TEXT:
        _add_text(pieces, value)
    elif depth and kind is dict and 0 < len(value) <= _MEMBERS and all(type(name) is str for name in value):
        lead = "{"
        for name, member in value.items():
            pieces.append(f"{lead}{_escaped(name)}:".encode())
            add_pieces(pieces, member, write, depth - 1)
            lead = ","
        pieces.append(b"}")
    elif depth and kind is list and 0 < len(value) <= _MEMBERS:
        lead = "["
        for item in value:
            pieces.append(lead.encode())
            add_pieces(pieces, item, write, depth - 1)
            lead = ","
        pieces.append(b"]")
    else:
        pieces.append(write(value).encode())


def _add_text(pieces: list[bytes], text: str) -> None:
    middle = len(text) // 2
    sample = (text[:_SAMPLE] + text[middle : middle + _SAMPLE] + text[-_SAMPLE:]).encode()
    if not _is_dense(sample.translate(None, _PLAIN), len(sample)):
        raw = text.encode()
        special = raw.translate(None, _PLAIN)
        if not _is_dense(special, len(raw)):
            # The backslash first, because escapes bring new ones: it is the greatest of them all.
            for byte in sorted(set(special), reverse=True):
                raw = raw.replace(bytes((byte,)), _escaped(chr(byte))[1:-1].encode())
            pieces += (b'"', raw, b'"')
            return
    pieces.append(_escaped(text).encode())


def _is_dense(special: bytes, size: int) -> bool:
    return len(special) * _SPARSE > size or len(set(special)) > _KINDS
