# SPDX-License-Identifier: MIT
"""The words of `--answer`: values for the questions that a server may ask during a call.

A word is `KEY=VALUE` or `KEY:=JSON`, where KEY is the name of a field of a form.  Two keys answer questions that have
no fields: `accept=yes` agrees to an empty form and to visit a page, and `text=...` is the text of a model (sampling).

Rule: a value is read by the schema of the question, when it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...schema.coercion import from_json
from ..parser import UsageError, closest, did_you_mean
from .form_fields import FormField
from .printing import line

ACCEPT = FormField("accept", {"type": "boolean"}, True)
TEXT = FormField("text", {"type": "string"}, True)


class Answers:
    """The answers that the command line gives.  Raises UsageError for a malformed word."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        self._given: dict[str, tuple[bool, Any]] = {}
        self._used: set[str] = set()
        # The names that questions had, to say which of them a misspelt key was meant for.
        self._asked: set[str] = set()
        for word in words:
            key, equals, value = word.partition("=")
            is_json = key.endswith(":")
            key = key.removesuffix(":")
            if not equals or not key:
                raise UsageError(f"--answer {word!r:.100}: has to be KEY=VALUE")
            self._given[key] = is_json, _json(key, value) if is_json else value

    def has(self, field: FormField) -> bool:
        """Whether there is a value for this field."""
        self._asked.add(field.name)
        return field.name in self._given

    def value(self, field: FormField) -> Any:
        """The value for this field.  Raises ValueError where the schema does not allow it."""
        self._used.add(field.name)
        is_json, value = self._given[field.name]
        return field.check(value) if is_json else field.read(value)

    def unused(self) -> list[str]:
        """A line for each key that no question has asked for."""
        lines = []
        for key in self._given.keys() - self._used:
            hint = did_you_mean(line(closest(key, self._asked)))
            lines.append(f"--answer {line(key)}: the server has not asked for it{hint}")
        return sorted(lines)


def _json(key: str, value: str) -> Any:
    try:
        return from_json(value)
    except ValueError as exc:
        raise UsageError(f"--answer {key} is not JSON: {exc}") from None
