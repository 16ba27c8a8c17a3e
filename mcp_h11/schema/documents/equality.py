# SPDX-License-Identifier: MIT
"""When two JSON values are equal: 1 and 1.0 are, 1 and true are not."""

from __future__ import annotations

import json
from typing import Any

from .work import spend


def canonical(value: Any) -> str:
    """Equal for JSON values that are equal: 1 and 1.0 are, 1 and true are not.

    A text, because Python hashes texts with a secret.  Numbers themselves as keys would let a client choose collisions.
    """
    if isinstance(value, str):
        return f'"{value}'
    if isinstance(value, (list, dict)):
        return json.dumps(_plain(value), sort_keys=True)
    return json.dumps(_number(value))


_EXACT = 2**53  # from here on a float stands for several integers


def _number(value: Any) -> Any:
    # The digits of 1e308 are fifty times its text, so a large number that is a float stays one.
    if isinstance(value, float):
        return int(value) if -_EXACT < value < _EXACT and value.is_integer() else value
    if isinstance(value, int) and not -_EXACT < value < _EXACT:
        try:
            return float(value) if float(value) == value else value
        except OverflowError:
            return value
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        spend(len(value))
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        spend(len(value))
        return {key: _plain(item) for key, item in value.items()}
    return _number(value)


def all_differ(items: list[Any]) -> bool:
    """Whether no two of these JSON values are equal."""
    # A client cannot choose texts with one hash, because Python hashes texts with a secret.
    if set(map(type, items)) <= {str}:
        return len(set(items)) == len(items)
    spend(len(items))
    return len({canonical(item) for item in items}) == len(items)
