# SPDX-License-Identifier: MIT
"""Compiles a Python annotation to a JSON Schema and to readers, which make the Python value of a JSON value.

It knows the types of the standard library.  Where an annotation is pydantic's, and only there, pydantic decides.

Rule: the schema is exact, and so is `Shape.read`.  A boolean is no integer, and a string is never read as a number;
1 and 1.0 are the same value, since JSON itself does not tell them apart.  `read` accepts exactly the values that the
schema allows, except that it also checks `format`.  `Shape.lax` reads the other spellings that models write, by one
rule for all types (`coercion`).
An annotation that has no JSON form is a `TypeError` when it is compiled, never a surprise in a call.
"""

from __future__ import annotations

import collections.abc
import enum
import json
import typing
import warnings
from collections import Counter as TallyCounter
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..protocol.content import ParamHeader
from . import coercion
from .docstrings import parse
from .documents.inlining import inlined, reference
from .documents.mismatch import Mismatch, shorten
from .members import (
    NO_DEFAULT,
    has_members,
    is_class_of_members,
    is_namedtuple,
    is_union,
    members_of,
    qualifier,
    substituted,
    type_variables,
)
from .pydantic_types import NOTHING, is_field_info, is_pydantic, is_pydantic_metadata, pydantic_readers, said_of
from .readers import (
    Reader,
    first_of,
    fittest,
    list_reader,
    mapping_reader,
    same,
    set_reader,
    tuple_reader,
    union_reader,
)
from .scalars import (
    ANY_SHAPE,
    NUMBER_SHAPE,
    STRING_SHAPE,
    choice_shape,
    enum_pairs,
    flags_reader,
    key_reader,
    lax_reader,
    read_decimal,
    read_float,
    read_int,
    read_str,
    simple_shape,
)
from .shapes import Field, JSONSchema, Shape, add_field, class_reader, describe_field, object_reader, object_schema
from .tojson import enum_json, to_json

# Compiles a schema to a function that lists the problems of a value; None where the schema allows every value.
# `validator` has it, and imports nothing from here, so that a caller hands it in.
Checker = Callable[[JSONSchema], "Callable[[Any], list[str]] | None"]
_ABC = collections.abc
# The abstract types are those that a list satisfies, so that a list is what their readers give.
_LISTS = {list, _ABC.Sequence, _ABC.MutableSequence, _ABC.Collection, _ABC.Iterable}
# An abstract `Set` has no method that changes it, so a frozenset is enough for it.
_SETS: dict[Any, type] = {set: set, frozenset: frozenset, _ABC.Set: frozenset, _ABC.MutableSet: set}
_MAPPINGS = {dict, _ABC.Mapping, _ABC.MutableMapping, defaultdict, OrderedDict, TallyCounter}
_GENERICS = {tuple, deque, *_LISTS, *_SETS, *_MAPPINGS}


# --- the compiler --------------------------------------------------------------------------------------------


class Compiler:
    """Compiles the annotations of one signature, which share their `$defs`.

    Args:
        checker: Compiles the schemas that authors write in `Annotated`, to hold values to them.
        closed: Objects refuse members they do not know.  That is right for arguments, and wrong for results.
        lax: The lax readers convert values (`coercion`).
        ignore: The lax readers pass over members that a closed object does not know.
        output: The annotation is that of a result: pydantic's schema is that of serialized values, and its values are
            taken as they are.
        names: Gives local names, for a class made inside a function that refers to other such classes.
    """

    def __init__(
        self,
        checker: Checker,
        *,
        closed: bool = True,
        lax: bool = True,
        ignore: bool = True,
        output: bool = False,
        names: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._checker = checker
        self._closed = closed
        self._lax = lax
        self._lax_closed = closed and not ignore
        self._in_union = False
        self._output = output
        self._names = names
        self._defs: dict[str, JSONSchema] = {}
        self._classes: dict[Any, Shape] = {}

    def shape(self, annotation: Any) -> Shape:
        """The shape; raises TypeError where the annotation has no JSON form."""
        simple = simple_shape(annotation)
        if simple is not None:
            return simple if self._lax or simple.lax is None else simple._replace(lax=None)
        # Annotated comes before pydantic: its metadata may ask for pydantic although the type alone does not.
        origin = get_origin(annotation)
        if origin is Annotated:
            return self._annotated(annotation)
        if is_pydantic(annotation):
            return self._pydantic(annotation)
        if is_union(annotation):
            return self._union(get_args(annotation))
        if origin is Literal:
            return self._choice([(enum_json(item), item) for item in get_args(annotation)])
        if qualifier(annotation):
            return self.shape(get_args(annotation)[0])
        if isinstance(annotation, type) and origin is None and annotation not in _GENERICS:
            return self._class(annotation)
        return self._generic(origin or annotation, get_args(annotation), annotation)

    def _generic(self, origin: Any, args: tuple[Any, ...], annotation: Any) -> Shape:
        if origin in _LISTS:
            return self._array(args, same)
        if origin is deque:
            return self._array(args, deque)
        if origin in _SETS:
            item = self.shape(args[0]) if args else ANY_SHAPE
            schema = {"type": "array", **_items(item), "uniqueItems": True}
            make = _SETS[origin]
            lax = set_reader(item.read_lax, make, lax=True) if self._lax or item.lax is not None else None
            return Shape(schema, set_reader(item.read, make, lax=False), "array", lax)
        # A bare `tuple` has any length; `tuple[()]` has none.
        if origin is tuple:
            return self._tuple(None if annotation is tuple or annotation is typing.Tuple else args)  # noqa: UP006
        if origin in _MAPPINGS:
            return self._mapping(args, origin)
        if is_class_of_members(origin):
            # Before its parts: pydantic's own generic dataclasses are its own affair.
            return self._pydantic(annotation) if is_pydantic(origin) else self._class(origin, annotation)
        # Wrappers that change nothing in JSON.
        for attribute in ("__supertype__", "__value__", "__bound__"):  # NewType, `type X = …`, TypeVar
            if (inner := getattr(origin, attribute, None)) is not None:
                return self.shape(inner)
        if isinstance(origin, typing.TypeVar):
            return ANY_SHAPE
        raise TypeError(f"{annotation!r} has no JSON form")

    def _choice(self, pairs: list[tuple[Any, Any]]) -> Shape:
        shape = choice_shape(pairs)
        return shape if self._lax else shape._replace(lax=None)

    def _array(self, args: tuple[Any, ...], make: Callable[[list[Any]], Any]) -> Shape:
        item = self.shape(args[0]) if args else ANY_SHAPE

        def reader(read_item: Reader) -> Reader:
            read = list_reader(read_item)
            return read if make is same else lambda value: make(read(value))

        lax = reader(item.lax) if item.lax is not None else None
        return Shape({"type": "array", **_items(item)}, reader(item.read), "array", lax)

    def _tuple(self, args: tuple[Any, ...] | None) -> Shape:
        if args is None or (len(args) == 2 and args[1] is Ellipsis):
            return self._array(args or (), tuple)
        args = () if args == ((),) else args  # tuple[()] on Python 3.10
        items = [self.shape(arg) for arg in args]
        # JSON Schema 2020-12 Core, 10.3.1.1: `prefixItems` alone refuses no shorter and no longer array.
        schema: JSONSchema = {"type": "array", "minItems": len(items), "maxItems": len(items)}
        if items:
            schema["prefixItems"] = [item.schema for item in items]
        lax = tuple_reader([item.read_lax for item in items]) if any(item.lax is not None for item in items) else None
        return Shape(schema, tuple_reader([item.read for item in items]), "array", lax)

    def _mapping(self, args: tuple[Any, ...], origin: Any) -> Shape:
        schema: JSONSchema = {"type": "object"}
        # Counter[str] names the type of its keys only; its values are counts.
        if origin is TallyCounter:
            args = (args[0] if args else str, int)
        key, item = (self.shape(args[0]), self.shape(args[1])) if args else (STRING_SHAPE, ANY_SHAPE)
        # An empty schema allows any value, so it is left out.
        if item.schema:
            schema["additionalProperties"] = item.schema
        read_key = None if key.read in {read_str, same} else key.read
        # JSON names members by strings, so that an integer key travels as its digits.
        if key.read is read_int:
            read_key = key_reader(key.read)
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        elif read_key is not None:
            # A member's name is a text, so of the two forms of a decimal number the text remains.
            if key.read is read_decimal:
                key = key._replace(schema={"type": "string"})
            if key.schema.get("type") != "string":
                raise TypeError(f"members of a JSON object are named by strings, not by {key.expected}")
            schema["propertyNames"] = key.schema
        lax = None
        if key.lax is not None or item.lax is not None:
            lax = mapping_reader(key.lax or read_key, item.read_lax)
        shape = Shape(schema, mapping_reader(read_key, item.read), "object", lax)
        make = _maker(origin, args)
        return shape if make is None else shape._replace(read=_making(make, shape.read), lax=lax and _making(make, lax))

    def _union(self, args: tuple[Any, ...]) -> Shape:
        # `_pydantic` looks at this: inside of a union its strict reading comes first.
        outer, self._in_union = self._in_union, True
        try:
            shapes = [self.shape(arg) for arg in args]
        finally:
            self._in_union = outer
        if read_int in (found := {shape.read for shape in shapes}) and read_float in found:
            # The reader of floats would make floats of integers, and that of integers would make 1.0 an integer.
            number = NUMBER_SHAPE if self._lax else NUMBER_SHAPE._replace(lax=None)
            shapes = [number if s.read is read_float else s for s in shapes if s.read is not read_int]
        # int | float is one alternative now: a number.
        if len(shapes) == 1:
            return shapes[0]
        expected = " or ".join(dict.fromkeys(shape.expected for shape in shapes))
        names = [shape.names for shape in shapes]
        reads = [shape.read for shape in shapes]
        read = union_reader(reads, expected, fittest(reads, names, only=self._lax))
        lax = None
        if any(shape.lax is not None for shape in shapes):
            reads = [shape.read_lax for shape in shapes]
            lax = first_of(read, union_reader(reads, expected, fittest(reads, names, only=False)))
        return Shape({"anyOf": [shape.schema for shape in shapes]}, read, expected, lax)

    def _annotated(self, annotation: Any) -> Shape:
        base, *metadata = get_args(annotation)
        if any(isinstance(item, ParamHeader) for item in metadata) and is_union(base):
            # 2026-07-28 streamable-http, Schema Extension: only a plain primitive type may have x-mcp-header, and
            # clients drop a tool that has it elsewhere.  So null is left out of the union.
            arms = tuple(arm for arm in get_args(base) if arm is not type(None))
            base = Union[arms]  # noqa: UP007
            annotation = Annotated[(base, *metadata)]
        shape = self._pydantic(annotation) if any(map(is_pydantic_metadata, metadata)) else self.shape(base)
        schema = dict(shape.schema)
        read, lax = shape.read, shape.lax
        for item in metadata:
            if isinstance(item, str):
                schema["description"] = item
            elif isinstance(item, ParamHeader):
                schema["x-mcp-header"] = item.name
            # Keywords of the author's own are listed, and checked beside the reader of the type.
            elif isinstance(item, dict):
                schema.update(item)
                if (check := self._checker(item)) is not None:
                    lax = _constrained_lax(check, read, lax) if lax is not None else None
                    read = _constrained(check, read)
            elif isinstance(text := getattr(item, "documentation", None), str):  # typing_extensions.Doc
                schema["description"] = text
        return shape._replace(schema=schema, read=read, lax=lax)

    # Classes are compiled once, under a name in $defs; `finish` puts each in the places that use it.

    def _class(self, cls: type, annotation: Any = None) -> Shape:
        """`annotation` has the arguments of a generic class."""
        if issubclass(cls, enum.Enum):
            return self._flags(cls) if issubclass(cls, enum.Flag) else self._choice(enum_pairs(cls))
        key = cls if annotation is None else annotation
        if key in self._classes:
            return self._classes[key]
        plain = not is_class_of_members(cls)
        if plain and not (self._output and has_members(cls)):
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no JSON form")
        name = self._name(cls.__name__)
        # The name is taken before the members are compiled: one of them may be a class of the same name.
        self._defs[name] = {}
        late: list[Reader] = []
        names: set[str] = set()
        schema = {"$ref": f"#/$defs/{name}"}
        # A class that contains itself finds this shape while it is compiled; its readers are filled in below.
        self._classes[key] = Shape(schema, lambda value: late[0](value), "object", lambda value: late[1](value), names)
        fields = self.fields(cls, get_args(annotation))
        names.update(fields)
        members = object_reader(fields, closed=self._closed)
        # A plain class is compiled for results alone.  A result is checked, and no object is made of it.
        late.append(members if plain else class_reader(cls, members, len(fields)))
        late.append(late[0] if plain else self._lax_class_reader(cls, fields))
        self._defs[name] = object_schema(fields, closed=self._closed)
        documentation = cls.__doc__ or ""
        if documentation and not documentation.startswith(
            (f"{cls.__name__}(", "dict(")
        ):  # the docstrings that Python generates
            text = parse(documentation)[0]
            self._defs[name] = {"type": "object", "description": text, **self._defs[name]}
        self._classes[key] = Shape(schema, late[0], "object", late[1], names)
        return self._classes[key]

    def _flags(self, cls: Any) -> Shape:
        members = {name: member.value for name, member in cls.__members__.items()}
        mask = 0
        for value in members.values():
            if value < 0:  # "all bits", which no JSON schema can say
                return self._choice(enum_pairs(cls))
            mask |= value
        listed = ", ".join(f"{value} ({name})" for name, value in members.items())
        expected = f"a sum of {shorten(listed, 500)}"
        read = flags_reader(cls, mask, expected)
        lax = lax_reader(read, lambda value: read(coercion.lax_int(value))) if self._lax else None
        # The schema is exact where the bits are the lowest ones, as in most flags; a JSON schema cannot say more.
        schema = {"type": "integer", "minimum": 0, "maximum": mask, "description": expected}
        return Shape(schema, read, expected, lax)

    def _lax_class_reader(self, cls: type, fields: Mapping[str, Field]) -> Reader:
        lax = {
            name: field._replace(shape=field.shape._replace(read=field.shape.read_lax))
            for name, field in fields.items()
        }
        read = class_reader(cls, object_reader(lax, closed=self._lax_closed), len(fields))
        if not (self._lax and is_namedtuple(cls)):
            return read

        def read_named_tuple(value: Any) -> Any:
            # An array in the order of the fields, as pydantic also takes one.
            if isinstance(value, list) and len(value) <= len(fields):
                value = dict(zip(fields, value, strict=False))
            return read(value)

        return read_named_tuple

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._defs:
            number += 1
            name = f"{wanted}{number}"
        return name

    def fields(self, cls: type, args: tuple[Any, ...] = ()) -> dict[str, Field]:
        """The members of a dataclass, TypedDict or NamedTuple; `args` are those of a generic one."""
        # The local names are searched only where the class's own module lacks one, because `Names.search` walks the
        # frames of all callers.
        try:
            hints = self._hints(cls, {})
        except NameError:
            try:
                hints = self._hints(cls, self._names())
            except NameError as error:
                raise TypeError(f"{cls.__qualname__}: {error}; its annotations cannot be resolved") from None
        described = parse(cls.__doc__)[1]
        variables = type_variables(cls, args)
        out: dict[str, Field] = {}
        for name, default in members_of(cls, hints):
            hint = substituted(hints[name], variables)
            # `members_of` has read already what `Required` and `NotRequired` say.
            while qualifier(hint):
                hint = get_args(hint)[0]
            info = default if is_field_info(default) else None
            shape = self.shape(Annotated[hint, info] if info is not None else hint)
            field = describe_field(shape, described.get(name), NO_DEFAULT if info is not None else default)
            # A result is written by `to_json` with the names that Python has, so aliases are for arguments alone.
            add_field(out, name, field, NOTHING if self._output else said_of(hint, info))
        return out

    def _hints(self, cls: type, names: Mapping[str, Any]) -> dict[str, Any]:
        return typing.get_type_hints(cls, localns={**names, cls.__name__: cls}, include_extras=True)

    def _pydantic(self, annotation: Any) -> Shape:
        import pydantic

        try:
            with warnings.catch_warnings():
                # It warns that defaults and aliases mean nothing outside of models.  Here they do (`pydantic_types`).
                warnings.filterwarnings("ignore", message=r".* to the `Field\(\)` function")
                adapter: Any = pydantic.TypeAdapter(annotation)
                schema = self._pydantic_schema(adapter)
        except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticSchemaGenerationError) as error:
            raise TypeError(f"pydantic: {error}") from None

        strict, lax = pydantic_readers(adapter, numbers='"number"' in json.dumps([schema, self._defs]))
        properties = self.resolve(schema).get("properties")
        names = None if properties is None else frozenset(properties)
        shape = Shape(schema, strict, schema.get("type", "value"), None, names)
        if self._output:
            return shape._replace(read=same)
        if not self._lax:
            return shape
        # pydantic itself prefers a reading without conversion.  In a union with other types the strict reading has to
        # come first, or its lax mode would take a value that another alternative reads exactly.
        return shape._replace(read=strict, lax=lax) if self._in_union else shape._replace(read=lax)

    def _pydantic_schema(self, adapter: Any) -> JSONSchema:
        mode = "serialization" if self._output else "validation"
        prefix = ""
        while True:
            schema: JSONSchema = adapter.json_schema(mode=mode, ref_template=f"#/$defs/{prefix}{{model}}")
            defs = {prefix + name: definition for name, definition in schema.pop("$defs", {}).items()}
            if all(self._defs.get(name, definition) == definition for name, definition in defs.items()):
                self._defs.update(defs)
                return schema
            prefix += "_"  # one of our own classes has the name already

    def finish(self, schema: JSONSchema) -> JSONSchema:
        """`schema` with its classes where they are used; in `$defs` are those that contain themselves."""
        return inlined(schema, self._defs)

    def resolve(self, schema: JSONSchema) -> JSONSchema:
        """`schema`, or the definition that its reference names."""
        name = reference(schema)
        if name not in self._defs:
            return schema
        return {**self._defs[name], **{key: value for key, value in schema.items() if key != "$ref"}}


def _items(item: Shape) -> JSONSchema:
    return {"items": item.schema} if item.schema else {}


def _constrained(check: Callable[[Any], list[str]], read: Reader) -> Reader:
    def read_constrained(value: Any) -> Any:
        made = read(value)
        # The JSON value is checked, and not the Python value: the keywords speak of JSON.
        if problems := check(value):
            raise Mismatch([((), text) for text in problems])
        return made

    return read_constrained


def _constrained_lax(check: Callable[[Any], list[str]], read: Reader, lax: Reader) -> Reader:
    """As `_constrained`.  A value that has to be converted is converted first, and the result is checked."""

    def read_constrained(value: Any) -> Any:
        try:
            made = read(value)
        except Mismatch:
            made = lax(value)
            try:
                value = to_json(made)
            except (TypeError, ValueError):
                pass
        if problems := check(value):
            raise Mismatch([((), text) for text in problems])
        return made

    return read_constrained


def _maker(origin: Any, args: tuple[Any, ...]) -> Callable[[dict[Any, Any]], Any] | None:
    """The function that makes a dict the mapping of the annotation; None where a dict will do."""
    if origin is not defaultdict:
        return origin if origin in (OrderedDict, TallyCounter) else None
    factory = (get_origin(args[1]) or args[1]) if args else None
    # As in pydantic: a missing key gets the value that the class makes without arguments; for any other class a missing
    # key is a KeyError.
    return partial(defaultdict, factory if factory in _EMPTY else None)


_EMPTY = (int, float, bool, str, bytes, list, dict, set, frozenset, tuple)


def _making(make: Callable[[dict[Any, Any]], Any], read: Reader) -> Reader:
    return lambda value: make(read(value))
