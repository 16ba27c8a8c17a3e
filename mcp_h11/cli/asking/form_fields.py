# SPDX-License-Identifier: MIT
"""One field of a form that a server asks to fill in: its description, and the value of the text that a person types.

The schema is a server's text (2025-11-25 client/elicitation, Requested Schema).  A malformed member is ignored:
the server checks the answer again.  A `pattern` is shown and not tried, since a regular expression of a server could
run without end.

Rule: a value that `read` returns is of the type in the schema; a `ValueError` describes the text that has to be typed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit

from ...schema.coercion import from_json
from ..arguments import types_of
from .printing import json_text, line, shortened

MAX_FIELDS = 100  # of one form
MAX_CHOICES_SHOWN = 20
MAX_FIELD_TEXT = 500  # characters of one text of a field

YES, NO = ("y", "yes", "true", "1", "on"), ("n", "no", "false", "0", "off")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9-]{10}[Tt ][0-9:]{8}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_FORMATS = {
    "email": "an e-mail address",
    "uri": "an address such as https://example.com/",
    "date": "a date such as 2026-01-31",
    "date-time": "a time such as 2026-01-31T13:45:00Z",
}
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
    "array": "several, with commas between",
}


@dataclass(frozen=True)
class FormField:
    """A member of the `properties` of a form."""

    name: str
    schema: Mapping[str, Any]
    required: bool

    @property
    def kind(self) -> str:
        """The JSON type of the value; "json" where the schema says none that a form can have."""
        found = types_of(self.schema) - {"null"}
        kind = found.pop() if len(found) == 1 else ""
        return kind if kind in _KINDS else "string" if self.choices else "json"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """The values to choose from, each with its title; empty where any value will do."""
        schema = self.schema
        if isinstance(schema.get("items"), dict):
            schema = schema["items"]
        both = (schema.get("oneOf"), schema.get("anyOf"))
        titled: list[Any] = next((one for one in both if isinstance(one, list)), [])
        pairs = [(one["const"], one.get("title")) for one in titled if isinstance(one, dict) and "const" in one]
        if isinstance(schema.get("enum"), list):
            names = schema.get("enumNames")
            names = names if isinstance(names, list) and len(names) == len(schema["enum"]) else schema["enum"]
            pairs = list(zip(schema["enum"], names, strict=True))
        return [(value, title if isinstance(title, str) else value) for value, title in pairs if isinstance(value, str)]

    @property
    def default(self) -> Any:
        """The value that the server suggests; None where there is none, or its own schema does not allow it."""
        try:
            return self.check(self.schema["default"])
        except (KeyError, ValueError):
            return None

    @property
    def suggested(self) -> str:
        """The default as it would be typed; "" where there is none."""
        default = self.default
        if isinstance(default, bool):
            return "yes" if default else "no"
        if isinstance(default, list) and self.kind == "array":
            return ", ".join(line(one) for one in default)
        return "" if default is None else line(default) if isinstance(default, str) else json_text(default)

    @property
    def example(self) -> str:
        """A value that `--answer` may have for it: a choice, or dots."""
        return line(self.choices[0][0]) if self.choices else "yes" if self.kind == "boolean" else "..."

    @property
    def label(self) -> str:
        """The name, with the title and the description where they say more."""
        said = [self.schema.get("title"), self.schema.get("description")]
        more = [
            shortened(text, MAX_FIELD_TEXT) for text in said if isinstance(text, str) and text and text != self.name
        ]
        return " - ".join([shortened(self.name, MAX_FIELD_TEXT), *more])

    @property
    def wanted(self) -> str:
        """The text to type, in words: "a whole number from 1 to 8"."""
        choices = self.choices
        if choices:
            # Several values are separated by commas, so each of them can be given by its number as well.
            shown = [
                f"{number} {line(title)}" if title == value else f"{number} {line(title)} ({line(value)})"
                for number, (value, title) in enumerate(choices[:MAX_CHOICES_SHOWN], 1)
            ]
            more = f", and {len(choices) - len(shown)} more" if len(choices) > len(shown) else ""
            many = _KINDS["array"] + ", of: " if self.kind == "array" else "one of: "
            return many + ", ".join(shown) + more + self._bounds()
        form = self.schema.get("format")
        words = _FORMATS.get(form, "") if isinstance(form, str) else ""
        words = words or _KINDS.get(self.kind, "JSON")
        return words + self._bounds()

    def _bounds(self) -> str:
        least, most, unit = self._limits()
        before = "; " if self.kind == "array" else " of "
        if least is not None and most is not None:
            return f"{before if unit else ' from '}{least:g} to {most:g}{unit}"
        if least is not None or most is not None:
            return f"{before}{least if most is None else most:g}{unit} or {'more' if most is None else 'less'}"
        pattern = self.schema.get("pattern")
        return f" that matches {shortened(pattern, MAX_FIELD_TEXT)}" if isinstance(pattern, str) else ""

    def _limits(self) -> tuple[float | None, float | None, str]:
        words = {
            "integer": ("minimum", "maximum", ""),
            "number": ("minimum", "maximum", ""),
            "string": ("minLength", "maxLength", " characters"),
            "array": ("minItems", "maxItems", " values"),
        }.get(self.kind)
        if words is None:
            return None, None, ""
        least, most = (_number(self.schema.get(word)) for word in words[:2])
        return least, most, words[2]

    def read(self, text: str) -> Any:
        """The value of a text that was typed.  Raises ValueError, which describes the text that has to be typed."""
        kind = self.kind
        if kind == "array":
            value: Any = [self._chosen(one.strip()) for one in text.split(",") if one.strip()]
            if len(set(value)) < len(value):
                raise ValueError("each value may be there once")
        elif self.choices:
            value = self._chosen(text.strip())
        elif kind == "string":
            value = text
        elif kind == "boolean":
            value = _yes_or_no(text)
        else:
            value = self._from_json(text)
        return self.check(value)

    def check(self, value: Any) -> Any:
        """The same value, if the schema allows it.  Raises ValueError as `read` does."""
        if not self._is_of_kind(value):
            raise ValueError(f"has to be {self.wanted}")
        measured = len(value) if isinstance(value, (str, list)) else value
        least, most, _ = self._limits()
        if (least is not None and measured < least) or (most is not None and measured > most):
            raise ValueError(f"has to be {self.wanted}")
        form = self.schema.get("format")
        if self.kind == "string" and isinstance(form, str) and form in _FORMATS and not _has_format(form, value):
            raise ValueError(f"has to be {_FORMATS[form]}")
        return value

    def _is_of_kind(self, value: Any) -> bool:
        kind, values = self.kind, [value for value, _ in self.choices]
        if kind == "array":
            return isinstance(value, list) and all(isinstance(one, str) for one in value) and (
                not values or all(one in values for one in value)
            )  # fmt: skip
        if kind == "string":
            return isinstance(value, str) and (not values or value in values)
        if kind == "boolean":
            return isinstance(value, bool)
        if kind == "integer":
            return type(value) is int
        return kind == "json" or type(value) in (int, float)

    def _chosen(self, text: str) -> str:
        """A choice by its value, its title in any case, or its number."""
        choices = self.choices
        for value, _ in choices:
            if value == text:
                return value
        for value, title in choices:
            if text.casefold() in (value.casefold(), title.casefold()):
                return value
        if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= len(choices):
            return choices[int(text) - 1][0]
        if choices:
            raise ValueError(f"has to be {self.wanted}")
        return text

    def _from_json(self, text: str) -> Any:
        try:
            value = from_json(text)
        except ValueError:
            raise ValueError(f"has to be {self.wanted}") from None
        # JSON Schema counts 2.0 as an integer, and a server that wants an int may not.
        whole = self.kind == "integer" and isinstance(value, float) and value.is_integer()
        return int(value) if whole else value


def fields_of(schema: Any) -> list[FormField]:
    """The fields of a form, in the order of its schema.  Raises ValueError for a form that cannot be shown."""
    properties = schema.get("properties", {}) if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        raise ValueError("the form has no fields that can be read")
    if len(properties) > MAX_FIELDS:
        raise ValueError(f"the form has {len(properties)} fields, and {MAX_FIELDS} are the most")
    required = schema.get("required")
    needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return [
        FormField(name, member if isinstance(member, dict) else {}, name in needed)
        for name, member in properties.items()
    ]


def _yes_or_no(text: str) -> bool:
    word = text.strip().lower()
    if word not in YES + NO:
        raise ValueError("has to be yes or no")
    return word in YES


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) else None


def _has_format(form: str, text: str) -> bool:
    if form == "email":
        return _EMAIL.fullmatch(text) is not None
    try:
        if form == "uri":
            return bool(urlsplit(text).scheme) and " " not in text
        if form == "date":
            return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
        # 3.10 reads no "Z", and fractions of three or six digits alone.
        whole = re.sub(r"\.[0-9]+", "", text).upper().replace("Z", "+00:00")
        return _DATE_TIME.fullmatch(text) is not None and bool(datetime.fromisoformat(whole))
    except ValueError:
        return False
