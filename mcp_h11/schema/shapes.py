# SPDX-License-Identifier: MIT
"""The meaning of an annotation in JSON: its schema with its readers, alone and as a member of an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from .documents.mismatch import Mismatch, shorten
from .documents.work import spend
from .members import MAY_BE_ABSENT, NO_DEFAULT, is_typed_dict
from .pydantic_types import Said
from .readers import AliasReader, ObjectReader, Reader
from .tojson import to_json

JSONSchema = dict[str, Any]


class Shape(NamedTuple):
    """The meaning of an annotation in JSON: its schema, its reader, and a name for messages.

    `lax` reads the values that `read` reads, and the other spellings that models write; None where there are none.
    `names` are the members of an object with named members.
    """

    schema: JSONSchema
    read: Reader
    expected: str
    lax: Reader | None = None
    names: Container[str] | None = None

    @property
    def read_lax(self) -> Reader:
        # One reader serves for both where a type has no other spelling.
        return self.lax or self.read

    def accepts(self, value: Any) -> bool:
        """Whether the reader reads this JSON value."""
        try:
            self.read(value)
        except Mismatch:
            return False
        return True


class Field(NamedTuple):
    """One member of an object, under the name that JSON has for it.

    `fill` makes the value where the member is absent and Python has no default.  `target` is the name that Python has
    for it, where that is another, and `others` are further names that JSON may have for it.
    """

    shape: Shape
    required: bool
    fill: Callable[[], Any] | None = None
    target: str | None = None
    others: tuple[str, ...] = ()


def describe_field(shape: Shape, description: str | None, default: Any = NO_DEFAULT) -> Field:
    """A member with its description from a docstring, and its default if that has a JSON form."""
    schema = dict(shape.schema)
    if description and schema.get("description") == shape.expected:  # the members of a flag
        schema["description"] = f"{description}: {shape.expected}"
    elif description:
        schema.setdefault("description", description)
    if default is not NO_DEFAULT and default is not MAY_BE_ABSENT:
        try:
            schema["default"] = to_json(default)
            # A default of NaN has no JSON form, and the list of tools must not have one.
            json.dumps(schema["default"], allow_nan=False)
        except (TypeError, ValueError):
            schema.pop("default", None)
    return Field(shape._replace(schema=schema), default is NO_DEFAULT)


def add_field(fields: dict[str, Field], name: str, field: Field, said: Said) -> None:
    """Put a member among the others, under the name that pydantic's `Field` gives it, with its default."""
    if said.fill is not None and field.required:
        # The function is called with this value, because Python itself knows no default here.
        field = field._replace(required=False, fill=said.fill)
    shown, *others = said.names or (name,)
    if others and "x-mcp-header" in field.shape.schema:
        # The header is compared with the argument of one name; a value under another would pass it by.
        raise TypeError(f"{name!r} has a ParamHeader, and so one name in JSON, not {len(others) + 1}")
    if shown != name or others:
        field = field._replace(target=name, others=tuple(others))
    taken = {one for key, other in fields.items() for one in (key, *other.others)}
    if twice := taken & {shown, *others}:
        raise TypeError(f"{name!r} has the same name in JSON as another: {sorted(twice)}")
    fields[shown] = field


def object_schema(fields: Mapping[str, Field], *, closed: bool) -> JSONSchema:
    """The schema of an object with these members."""
    schema: JSONSchema = {"type": "object", "properties": {name: field.shape.schema for name, field in fields.items()}}
    if required := [name for name, field in fields.items() if field.required]:
        schema["required"] = required
    # The schema says as much as the reader refuses, so that a client learns of it before the call.
    if closed:
        schema["additionalProperties"] = False
    return schema


def object_reader(
    fields: Mapping[str, Field],
    *,
    closed: bool,
    extra: Reader | None = None,
    second: Mapping[str, Reader] | None = None,
    ignored: Callable[[list[str]], None] | None = None,
) -> Callable[[Any], dict[str, Any]]:
    """The reader of an object with these members."""
    reader = ObjectReader(
        {name: field.shape.read for name, field in fields.items()},
        {name: field.shape.expected for name, field in fields.items() if field.required},
        closed=closed,
        extra=extra,
        fills={name: field.fill for name, field in fields.items() if field.fill is not None},
        second=second,
        ignored=ignored,
    )
    names = {name: (field.target, field.others) for name, field in fields.items() if field.target is not None}
    # The bound method: calling it is cheaper than calling the object, which looks `__call__` up each time.
    # Nearly no object has aliases, and those without do not pay for the renaming.
    return AliasReader(reader, names) if names else reader.__call__


def class_reader(cls: type, members: Callable[[Any], dict[str, Any]], count: int) -> Reader:
    def read_members(value: Any) -> dict[str, Any]:
        if type(value) is dict:
            spend(1 + max(len(value), count // 8))
        return members(value)

    if is_typed_dict(cls):
        return read_members

    def read_object(value: Any) -> Any:
        given = read_members(value)
        try:
            return cls(**given)
        except (TypeError, ValueError, LookupError) as error:  # the class's own __post_init__ refuses
            raise Mismatch([((), shorten(str(error), 500))]) from None

    return read_object
