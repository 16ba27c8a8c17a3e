# SPDX-License-Identifier: MIT
"""Finds the member of a value that JSON has no form for: NaN and infinity."""

from __future__ import annotations

from typing import Any

MAX_LOOKED_AT = 100_000  # values, in search of the one that JSON does not have


class NotJSON(ValueError):
    """A number that JSON does not have; the message names the member where it is."""


def not_finite(value: Any) -> NotJSON | None:
    """The error for a NaN or an infinity in a value; None if there is none among the first MAX_LOOKED_AT values."""
    # Each entry is the path to a value, as (the path before, the last step), and the value.
    left: list[tuple[Any, Any]] = [(None, value)]
    for _ in range(MAX_LOOKED_AT):
        if not left:
            return None
        way, one = left.pop()
        if isinstance(one, float) and one - one != 0.0:
            name = "NaN" if one != one else "infinity"
            return NotJSON(f"{_spelled(way) or 'the value'} is {name}, which JSON does not have")
        # The last one is looked at first: so that the first member is named, they go in backwards.
        if isinstance(one, dict):
            left += [((way, f".{key}"), member) for key, member in reversed(one.items())]
        elif isinstance(one, (list, tuple)):
            left += [((way, f"[{index}]"), item) for index, item in reversed([*enumerate(one)])]
    return None


def _spelled(way: Any) -> str:
    steps = []
    while way is not None:
        way, step = way
        steps.append(step)
    return "".join(reversed(steps)).lstrip(".")
