# SPDX-License-Identifier: MIT
"""Readers of arguments: JSON values by the fields of a signature, and texts that say such values."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

from .coercion import container, from_json
from .documents.mismatch import Mismatch, Problem
from .documents.work import ON_LOOP, may_parse, within
from .parameters import Parameters
from .readers import Reader, first_of
from .shapes import JSONSchema, Shape, object_reader


class BadArguments(ValueError):
    """Arguments that do not fit; `problems` has one line for each, and the message all of them."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"Invalid arguments for {name}: {'; '.join(problems)}")
        self.problems = problems


def json_reader(
    parameters: Parameters,
    *,
    strict: bool,
    refuse_extra: bool,
    ignored: Callable[[list[str]], None] | None,
) -> Reader:
    """The reader of JSON arguments."""
    fields, extra = parameters.fields, parameters.extra
    # `**kwargs` takes every further argument, so there is none to refuse.
    closed = refuse_extra and extra is None
    # Read exactly first, and by the lax reader only if that refuses: a call without mistakes does not pay for it.
    second = {name: _parameter_reader(field.shape, strict) for name, field in fields.items()}
    read_extra = first_of(extra.read, _parameter_reader(extra, strict)) if extra is not None else None
    read = object_reader(fields, closed=closed, extra=read_extra, second=second, ignored=ignored)
    shapes = [field.shape for field in fields.values()]
    return counted(read, shapes if extra is None else [*shapes, extra])


def texts_reader(parameters: Parameters, *, refuse_extra: bool, ignored: Callable[[list[str]], None] | None) -> Reader:
    """The reader of values that are texts by protocol."""
    fields, extra = parameters.fields, parameters.extra
    texts = {
        name: field._replace(shape=field.shape._replace(read=_text_reader(field.shape)))
        for name, field in fields.items()
    }
    text_extra = _text_reader(extra) if extra is not None else None
    closed = refuse_extra and extra is None
    return functools.partial(within, ON_LOOP, object_reader(texts, closed=closed, extra=text_extra, ignored=ignored))


def counted(read: Reader, shapes: Iterable[Shape]) -> Reader:
    """The reader with its work bounded, where any member can cost more than the look at one text or number."""
    schemas = [shape.schema for shape in shapes]
    # A text or number costs no more to read than the parser has spent on it, so nothing has to be counted.
    if all(arm.get("type") in _SCALARS for schema in schemas for arm in schema.get("anyOf", (schema,))):
        return read
    return functools.partial(within, ON_LOOP, read)


def _parameter_reader(shape: Shape, strict: bool) -> Reader:
    """A reader for values that the parameter's own reader refused.

    Models often write a list, an object or null as the JSON of it in a text.  A `strict` parameter takes no such text.
    """
    read = shape.read_lax
    if strict:
        return read
    scalar = all(arm.get("type") in _SCALARS for arm in shape.schema.get("anyOf", [shape.schema]))
    return functools.partial(_read_scalar if scalar else _read_container, read)


def _read_scalar(read: Reader, value: Any) -> Any:
    # The JSON of a list or an object in a text fits no scalar, so the text is not parsed.
    return read(None if value == "null" else value)


def _read_container(read: Reader, value: Any) -> Any:
    return read(_container(value))


def _container(value: Any) -> Any:
    try:
        if isinstance(value, str):
            may_parse(value)
    except ValueError:
        # Too many values to be parsed: it stays a text, which the parameter's reader then judges.
        return value
    return container(value)


_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


def _text_reader(shape: Shape) -> Reader:
    """A reader for values that are texts by protocol: it reads the text itself, then the JSON that is in the text."""
    read, lax = shape.read, shape.read_lax

    def read_text(value: Any) -> Any:
        if not isinstance(value, str):  # a list of texts, of a template's variable
            return lax(value)
        said = value
        try:
            may_parse(value)
            said = from_json(value)
        except ValueError:
            pass
        # A text that holds the JSON of a string is meant as it stands, quotes included.
        forms = [value] if isinstance(said, str) else [value, said]
        found: list[Problem] = []
        # An exact reading of either form comes before any conversion.
        for reader in (read, lax):
            for form in forms:
                try:
                    return reader(form)
                except Mismatch as error:  # noqa: PERF203
                    found = found if error.kind_only else error.problems
        # If the value has the right type, its own problems say more than the expected type would.
        raise Mismatch(found or [((), f"expected {shape.expected}{_written(shape.schema)}")])

    return read_text


# An example text for each type, for messages.
_EXAMPLES = {"integer": "3", "number": "1.5", "boolean": "true", "array": '["a", "b"]', "object": '{"name": "value"}'}


def _written(schema: JSONSchema) -> str:
    arms = schema.get("anyOf", [schema])
    found = [example for arm in arms if (example := _EXAMPLES.get(str(arm.get("type"))))]
    if not found:
        return ""
    return f", written as text like {' or '.join(json.dumps(example) for example in found)}"
