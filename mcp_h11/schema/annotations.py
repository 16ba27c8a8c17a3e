# SPDX-License-Identifier: MIT
"""A Python annotation to a JSON Schema and to a function that makes the Python value of a JSON value.

Types of the standard library; and, where the annotation is pydantic's and only then, whatever pydantic says.

Rule: the schema is exact, and so is `Shape.read`.  A boolean is no integer and a string is never read as a number;
only what JSON itself does not tell apart is the same (1 and 1.0).  What the schema allows `read` accepts and the other
way round, `format` apart.  What else a model may write for it is read by `Shape.lax`, by one rule for all types.
An annotation that has no JSON form is a `TypeError` when it is compiled, never a surprise in a call.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import enum
import json
import sys
import types
import typing
import warnings
from collections import Counter as TallyCounter
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from ..protocol.content import ParamHeader
from . import coercion
from .docstrings import parse
from .fieldinfos import NOTHING, Said, is_field_info, said_of
from .inlining import inlined, reference
from .readers import (
    MAX_PROBLEMS,
    AliasReader,
    Mismatch,
    ObjectReader,
    Reader,
    canonical,
    first_of,
    fittest,
    flags_reader,
    key_reader,
    kind,
    lax_reader,
    list_reader,
    mapping_reader,
    read_bool,
    read_float,
    read_int,
    read_none,
    read_number,
    read_str,
    refuse,
    same,
    set_reader,
    shorten,
    size,
    spend,
    text_reader,
    to_datetime,
    to_decimal,
    to_time,
    to_timedelta,
    tuple_reader,
    union_reader,
)
from .tojson import enum_json, to_json

JSONSchema = dict[str, Any]
# Makes of a schema what lists the problems of a value, or None where the schema refuses nothing.
Checker = Callable[[JSONSchema], "Callable[[Any], list[str]] | None"]


class Shape(NamedTuple):
    """What an annotation means in JSON: its schema, its reader, and a name for messages.

    `lax` reads what `read` does, and what models write instead of it; None where that is nothing more.  `names` are
    the members of an object that has some.
    """

    schema: JSONSchema
    read: Reader
    expected: str
    lax: Reader | None = None
    names: Container[str] | None = None

    @property
    def read_lax(self) -> Reader:
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


def _string(
    convert: Callable[[str], Any], expected: str, lax: Callable[[Any], Any] | None = None, **keywords: str
) -> Shape:
    read = text_reader(convert, expected)
    return Shape({"type": "string", **keywords}, read, expected, lax_reader(read, lax) if lax is not None else None)


_ANY = Shape({}, same, "anything")
_STRING = Shape({"type": "string"}, read_str, "string")
_NUMBER = Shape({"type": "number"}, read_number, "number", lax_reader(read_number, coercion.lax_number))
_NULL = Shape({"type": "null"}, read_none, "null")
_SIMPLE: dict[Any, Shape] = {
    Any: _ANY,
    object: _ANY,
    str: _STRING,
    int: Shape({"type": "integer"}, read_int, "integer", lax_reader(read_int, coercion.lax_int)),
    float: Shape({"type": "number"}, read_float, "number", lax_reader(read_float, coercion.lax_float)),
    bool: Shape({"type": "boolean"}, read_bool, "boolean", lax_reader(read_bool, coercion.lax_bool)),
    None: _NULL,
    type(None): _NULL,
    bytes: _string(lambda s: base64.b64decode(s, validate=True), "string in base64", contentEncoding="base64"),
}


def _simple(annotation: Any) -> Shape | None:
    """The shape of a type that has no parts."""
    if not _hashable(annotation):
        return None
    shape = _SIMPLE.get(annotation)
    if shape is None and isinstance(annotation, type):
        late = _LATE.get(annotation.__module__.partition(".")[0])
        shape = late().get(annotation) if late is not None else None
    return shape


def _times() -> dict[Any, Shape]:
    import datetime

    return {
        datetime.datetime: _string(
            to_datetime, "string that is a date and time (ISO 8601)", lax=coercion.lax_datetime, format="date-time"
        ),
        datetime.date: _string(
            datetime.date.fromisoformat, "string that is a date (YYYY-MM-DD)", lax=coercion.lax_date, format="date"
        ),
        datetime.timedelta: _string(
            to_timedelta, "string that is a duration (ISO 8601)", lax=coercion.lax_timedelta, format="duration"
        ),
        datetime.time: _string(to_time, "string that is a time (HH:MM:SS)", lax=coercion.lax_time, format="time"),
    }


def _uuids() -> dict[Any, Shape]:
    import uuid

    return {uuid.UUID: _string(uuid.UUID, "string that is a UUID", format="uuid")}


def _decimals() -> dict[Any, Shape]:
    import decimal

    return {decimal.Decimal: Shape(DECIMAL, _read_decimal, _EXPECTED_DECIMAL)}


# A text keeps all digits, which a number in JSON may lose on its way.
DECIMAL: JSONSchema = {"anyOf": [{"type": "number"}, {"type": "string"}]}


_EXPECTED_DECIMAL = "number, or string that is a decimal number"


def _read_decimal(value: Any) -> Any:
    if type(value) not in (int, float, str):
        raise refuse(_EXPECTED_DECIMAL, value)
    try:
        return to_decimal(value)
    except (ValueError, ArithmeticError):
        raise Mismatch([((), f"expected {_EXPECTED_DECIMAL}")]) from None


def _paths() -> dict[Any, Shape]:
    import pathlib

    kinds = (pathlib.Path, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    return {kind: _string(kind, "string that is a path", format="path") for kind in kinds}


# Who annotates with one of these types has imported its module; for all others a megabyte stays unread.
_LATE = {"datetime": _times, "uuid": _uuids, "decimal": _decimals, "pathlib": _paths}

# --- containers ----------------------------------------------------------------------------------------------

_ABC = collections.abc
_LISTS = {list, _ABC.Sequence, _ABC.MutableSequence, _ABC.Collection, _ABC.Iterable}
_SETS: dict[Any, type] = {set: set, frozenset: frozenset, _ABC.Set: frozenset, _ABC.MutableSet: set}
_MAPPINGS = {dict, _ABC.Mapping, _ABC.MutableMapping, defaultdict, OrderedDict, TallyCounter}


# --- the compiler --------------------------------------------------------------------------------------------


class Compiler:
    """Compiles the annotations of one signature, which share their `$defs`.

    `closed`: objects refuse members they do not know (right for what a model writes, wrong for what a function
    returns).  `lax` says whether the lax readers convert values (`laxvalues`), and `ignore` whether they pass over
    members that a closed object does not know.
    `output`: pydantic's schema is that of serialized values, and its values are taken as they are.
    `names` is asked for local names where a class made inside a function refers to others.  `checker` holds values to
    the schemas that authors write in `Annotated`.
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
        simple = _simple(annotation)
        if simple is not None:
            return simple if self._lax or simple.lax is None else simple._replace(lax=None)
        origin = get_origin(annotation)
        if origin is Annotated:
            return self._annotated(annotation)
        if is_pydantic(annotation):
            return self._pydantic(annotation)
        if origin in {Union, types.UnionType}:
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
            item = self.shape(args[0]) if args else _ANY
            schema = {"type": "array", **_items(item), "uniqueItems": True}
            make = _SETS[origin]
            lax = set_reader(item.read_lax, make, lax=True) if self._lax or item.lax is not None else None
            return Shape(schema, set_reader(item.read, make, lax=False), "array", lax)
        if origin is tuple:
            return self._tuple(None if annotation is tuple or annotation is typing.Tuple else args)  # noqa: UP006
        if origin in _MAPPINGS:
            return self._mapping(args, origin)
        if _is_class_of_members(origin):
            # Before its parts: pydantic's own generic dataclasses are its own affair.
            return self._pydantic(annotation) if is_pydantic(origin) else self._class(origin, annotation)
        for attribute in ("__supertype__", "__value__", "__bound__"):  # NewType, `type X = …`, TypeVar
            if (inner := getattr(origin, attribute, None)) is not None:
                return self.shape(inner)
        if isinstance(origin, typing.TypeVar):
            return _ANY
        raise TypeError(f"{annotation!r} has no JSON form")

    def _choice(self, pairs: list[tuple[Any, Any]]) -> Shape:
        shape = _choice(pairs)
        return shape if self._lax else shape._replace(lax=None)

    def _array(self, args: tuple[Any, ...], make: Callable[[list[Any]], Any]) -> Shape:
        item = self.shape(args[0]) if args else _ANY

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
        schema: JSONSchema = {"type": "array", "minItems": len(items), "maxItems": len(items)}
        if items:
            schema["prefixItems"] = [item.schema for item in items]
        lax = tuple_reader([item.read_lax for item in items]) if any(item.lax is not None for item in items) else None
        return Shape(schema, tuple_reader([item.read for item in items]), "array", lax)

    def _mapping(self, args: tuple[Any, ...], origin: Any) -> Shape:
        schema: JSONSchema = {"type": "object"}
        if origin is TallyCounter:
            args = (args[0] if args else str, int)
        key, item = (self.shape(args[0]), self.shape(args[1])) if args else (_STRING, _ANY)
        if item.schema:
            schema["additionalProperties"] = item.schema
        read_key = None if key.read in {read_str, same} else key.read
        if key.read is read_int:
            read_key = key_reader(key.read)
            schema["propertyNames"] = {"pattern": "^-?[0-9]+$"}
        elif read_key is not None:
            if key.read is _read_decimal:
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
        outer, self._in_union = self._in_union, True
        try:
            shapes = [self.shape(arg) for arg in args]
        finally:
            self._in_union = outer
        if read_int in (found := {shape.read for shape in shapes}) and read_float in found:
            # Either alone would make the other's values its own.
            number = _NUMBER if self._lax else _NUMBER._replace(lax=None)
            shapes = [number if s.read is read_float else s for s in shapes if s.read is not read_int]
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
        if any(isinstance(item, ParamHeader) for item in metadata) and get_origin(base) in {Union, types.UnionType}:
            # A header is there or it is not: clients refuse x-mcp-header on anything but a plain primitive type.
            arms = tuple(arm for arm in get_args(base) if arm is not type(None))
            base = Union[arms]  # noqa: UP007
            annotation = Annotated[(base, *metadata)]
        shape = self._pydantic(annotation) if any(map(_is_pydantic_metadata, metadata)) else self.shape(base)
        schema = dict(shape.schema)
        read, lax = shape.read, shape.lax
        for item in metadata:
            if isinstance(item, str):
                schema["description"] = item
            elif isinstance(item, ParamHeader):
                schema["x-mcp-header"] = item.name
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
            return self._flags(cls) if issubclass(cls, enum.Flag) else self._choice(_pairs(cls))
        key = cls if annotation is None else annotation
        if key in self._classes:
            return self._classes[key]
        plain = not _is_class_of_members(cls)
        if plain and not (self._output and has_members(cls)):
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} has no JSON form")
        name = self._name(cls.__name__)
        self._defs[name] = {}
        late: list[Reader] = []
        names: set[str] = set()
        schema = {"$ref": f"#/$defs/{name}"}
        # A class that contains itself finds this one while it is compiled.
        self._classes[key] = Shape(schema, lambda value: late[0](value), "object", lambda value: late[1](value), names)
        fields = self.fields(cls, get_args(annotation))
        names.update(fields)
        members = object_reader(fields, closed=self._closed)
        # Of a class without a form of its own only results are checked, which nothing is made of.
        late.append(members if plain else _class_reader(cls, members, len(fields)))
        late.append(late[0] if plain else self._lax_class_reader(cls, fields))
        self._defs[name] = object_schema(fields, closed=self._closed)
        documentation = cls.__doc__ or ""
        if documentation and not documentation.startswith((f"{cls.__name__}(", "dict(")):  # those write themselves
            text = parse(documentation)[0]
            self._defs[name] = {"type": "object", "description": text, **self._defs[name]}
        self._classes[key] = Shape(schema, late[0], "object", late[1], names)
        return self._classes[key]

    def _flags(self, cls: Any) -> Shape:
        members = {name: member.value for name, member in cls.__members__.items()}
        mask = 0
        for value in members.values():
            if value < 0:  # "all bits", which no JSON schema can say
                return self._choice(_pairs(cls))
            mask |= value
        listed = ", ".join(f"{value} ({name})" for name, value in members.items())
        expected = f"a sum of {shorten(listed, 500)}"
        read = flags_reader(cls, mask, expected)
        lax = lax_reader(read, lambda value: read(coercion.lax_int(value))) if self._lax else None
        # Exact where the bits are the lowest ones, as they mostly are.
        schema = {"type": "integer", "minimum": 0, "maximum": mask, "description": expected}
        return Shape(schema, read, expected, lax)

    def _lax_class_reader(self, cls: type, fields: Mapping[str, Field]) -> Reader:
        lax = {
            name: field._replace(shape=field.shape._replace(read=field.shape.read_lax))
            for name, field in fields.items()
        }
        read = _class_reader(cls, object_reader(lax, closed=self._lax_closed), len(fields))
        if not (self._lax and _is_namedtuple(cls)):
            return read

        def read_named_tuple(value: Any) -> Any:
            # In its order, as pydantic takes one.
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
        for name, default in _members(cls, hints):
            hint = substituted(hints[name], variables)
            while qualifier(hint):
                hint = get_args(hint)[0]
            info = default if is_field_info(default) else None
            shape = self.shape(Annotated[hint, info] if info is not None else hint)
            field = describe_field(shape, described.get(name), _MISSING if info is not None else default)
            add_field(out, name, field, NOTHING if self._output else said_of(hint, info))
        return out

    def _hints(self, cls: type, names: Mapping[str, Any]) -> dict[str, Any]:
        return typing.get_type_hints(cls, localns={**names, cls.__name__: cls}, include_extras=True)

    def _pydantic(self, annotation: Any) -> Shape:
        import pydantic

        try:
            with warnings.catch_warnings():
                # It warns that defaults and aliases mean nothing to it outside of models: they do here (`fieldinfos`).
                warnings.filterwarnings("ignore", message=r".* to the `Field\(\)` function")
                adapter: Any = pydantic.TypeAdapter(annotation)
                schema = self._pydantic_schema(adapter)
        except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticSchemaGenerationError) as error:
            raise TypeError(f"pydantic: {error}") from None

        strict, lax = _pydantic_readers(adapter, numbers='"number"' in json.dumps([schema, self._defs]))
        properties = self.resolve(schema).get("properties")
        names = None if properties is None else frozenset(properties)
        shape = Shape(schema, strict, schema.get("type", "value"), None, names)
        if self._output:
            return shape._replace(read=same)
        if not self._lax:
            return shape
        # pydantic itself prefers what fits as it stands; only beside other types it has to be asked for that first.
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
        """`schema`, or what its reference names."""
        name = reference(schema)
        if name not in self._defs:
            return schema
        return {**self._defs[name], **{key: value for key, value in schema.items() if key != "$ref"}}


def _pydantic_readers(adapter: Any, *, numbers: bool) -> tuple[Reader, Reader]:
    """Readers in pydantic's strict mode, that for JSON, and in its lax mode; `numbers`: there may be floats."""
    import pydantic

    def guarded(validate: Reader) -> Reader:
        def read(value: Any) -> Any:
            # Before, because pydantic itself cannot be interrupted.
            spend(size(value))
            try:
                return validate(value)
            except pydantic.ValidationError as error:
                found = error.errors(include_url=False, include_context=False, include_input=False)
                raise Mismatch([(tuple(item["loc"]), item["msg"]) for item in found[:MAX_PROBLEMS]]) from None

        return read

    def validate_lax(value: Any) -> Any:
        made = adapter.validate_python(value)
        if numbers and coercion.says_infinite(value) and coercion.holds_infinite(adapter.dump_python(made)):
            raise Mismatch([((), "a number that is not finite")])
        return made

    def validate_strict(value: Any) -> Any:
        # As JSON: in Python's strict mode a date is no string.
        try:
            return adapter.validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError:
            whole = coercion.lax_whole(value)  # in a schema 1.0 is an integer, and here it is none
            return adapter.validate_json(json.dumps(whole), strict=True)

    return guarded(validate_strict), guarded(validate_lax)


_GENERICS = {tuple, deque, *_LISTS, *_SETS, *_MAPPINGS}


def _hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:  # Annotated[int, {"minimum": 0}]
        return False
    return True


def _items(item: Shape) -> JSONSchema:
    return {"items": item.schema} if item.schema else {}


def _constrained(check: Callable[[Any], list[str]], read: Reader) -> Reader:
    def read_constrained(value: Any) -> Any:
        made = read(value)
        if problems := check(value):
            raise Mismatch([((), text) for text in problems])
        return made

    return read_constrained


def _constrained_lax(check: Callable[[Any], list[str]], read: Reader, lax: Reader) -> Reader:
    """The schema holds for what is made of a value that does not fit as it stands."""

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


def _choice(pairs: list[tuple[Any, Any]]) -> Shape:
    if not all(value is None or isinstance(value, (str, int, float)) for value, _ in pairs):
        raise TypeError("a Literal of something other than strings, numbers, booleans and None has no JSON form")
    values = [value for value, _ in pairs]
    table = {canonical(value): item for value, item in pairs}
    expected = f"one of {shorten(', '.join(json.dumps(value, ensure_ascii=False) for value in values), 500)}"
    kinds = {kind(value) for value in values}
    schema: JSONSchema = {"type": kinds.pop()} if len(kinds) == 1 else {}
    schema |= {"const": values[0]} if len(values) == 1 else {"enum": values}

    def read_choice(value: Any) -> Any:
        try:
            if not isinstance(value, (list, dict)):
                return table[canonical(value)]
        except (KeyError, TypeError, ValueError):
            pass
        raise Mismatch([((), f"expected {expected}")])

    def convert(value: Any) -> Any:
        found = coercion.from_json(value) if isinstance(value, str) and len(value) <= coercion.MAX_NUMBER_TEXT else ""
        if isinstance(found, str):
            raise ValueError("no number")
        return read_choice(found)

    lax = None if all(isinstance(value, str) for value in values) else lax_reader(read_choice, convert)
    return Shape(schema, read_choice, expected, lax)


def qualifier(annotation: Any) -> str:
    """ "Required", "NotRequired", "ReadOnly", "Final" or "ClassVar", or "": by name, as Python 3.10 lacks some."""
    name = getattr(get_origin(annotation), "_name", None)
    return name if name in {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"} else ""


def is_pydantic(annotation: Any) -> bool:
    """Whether this is a type of pydantic's: a model, a pydantic dataclass, or one of its own types."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type):
        return False
    return hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_validator__")


def _is_pydantic_metadata(item: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False
    module = type(item).__module__.partition(".")[0]
    return module in {"pydantic", "pydantic_core", "annotated_types"} or hasattr(item, "__get_pydantic_core_schema__")


def is_typed_dict(cls: type) -> bool:
    """Also those of typing_extensions, which `typing.is_typeddict` does not know before Python 3.13."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


_MISSING = object()  # no default
_OPTIONAL = object()  # may be left out, and then is not there


def _is_class_of_members(cls: Any) -> bool:
    return isinstance(cls, type) and (is_typed_dict(cls) or dataclasses.is_dataclass(cls) or _is_namedtuple(cls))


def has_members(cls: type) -> bool:
    """Whether this is a class with annotated attributes, of which a result can be made."""
    if cls.__module__ == "builtins" or hasattr(cls, "to_content") or issubclass(cls, BaseException):
        return False
    return bool(attributes_of(cls))


def attributes_of(cls: type) -> list[str]:
    """The public names that a class and its bases annotate, without those of the class itself (`ClassVar`)."""
    found: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in annotations_of(base).items():
            if not name.startswith("_") and not _is_class_variable(annotation):
                found[name] = None
    return list(found)


def annotations_of(cls: type) -> Mapping[str, Any]:
    """What a class itself annotates, maybe as text."""
    if sys.version_info >= (3, 14):  # pragma: no cover  # annotations there may name what is not imported
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    found: Mapping[str, Any] = cls.__dict__.get("__annotations__", {})
    return found


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):  # from __future__ import annotations
        return annotation.removeprefix("typing.").startswith("ClassVar")
    return annotation is typing.ClassVar or qualifier(annotation) == "ClassVar"


def type_variables(cls: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    """What stands for the type variables of a generic class and of its bases."""
    found = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin is not None and origin is not typing.Generic:
            given = tuple(substituted(arg, found) for arg in get_args(base))
            found = {**type_variables(origin, given), **found}
    return found


def substituted(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """The annotation with its type variables replaced; those that nothing stands for stay."""
    if isinstance(annotation, typing.TypeVar):
        return variables.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) and get_origin(annotation) is None or not set(parameters) & variables.keys():
        return annotation
    return annotation[tuple(variables.get(one, one) for one in parameters)]


def _pairs(cls: type[enum.Enum]) -> list[tuple[Any, Any]]:
    return [(enum_json(member), member) for member in cls]


def _maker(origin: Any, args: tuple[Any, ...]) -> Callable[[dict[Any, Any]], Any] | None:
    """What makes the mapping that is wanted of a dict."""
    if origin is not defaultdict:
        return origin if origin in (OrderedDict, TallyCounter) else None
    factory = (get_origin(args[1]) or args[1]) if args else None
    # As pydantic: what the class makes without arguments; where it makes nothing, a missing key is a KeyError.
    return partial(defaultdict, factory if factory in _EMPTY else None)


_EMPTY = (int, float, bool, str, bytes, list, dict, set, frozenset, tuple)


def _making(make: Callable[[dict[Any, Any]], Any], read: Reader) -> Reader:
    return lambda value: make(read(value))


def _members(cls: Any, hints: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names with their defaults (or `_MISSING`, `_OPTIONAL`)."""
    if dataclasses.is_dataclass(cls):
        return [(f.name, _dataclass_default(f)) for f in dataclasses.fields(cls) if f.init]
    if _is_namedtuple(cls):
        return [(name, cls._field_defaults.get(name, _MISSING)) for name in cls._fields]
    if not is_typed_dict(cls):
        return [
            (name, _OPTIONAL if hasattr(cls, name) and not _is_slot(cls, name) else _MISSING)
            for name in attributes_of(cls)
        ]
    out = []
    for name, hint in hints.items():
        # With `from __future__ import annotations` the class itself does not see its Required and NotRequired.
        said = qualifier(hint)
        while said and said not in {"Required", "NotRequired"}:
            hint = get_args(hint)[0]
            said = qualifier(hint)
        required = said == "Required" or (said != "NotRequired" and name in cls.__required_keys__)
        out.append((name, _MISSING if required else _OPTIONAL))
    return out


def _is_slot(cls: Any, name: str) -> bool:
    return isinstance(getattr(cls, name), types.MemberDescriptorType)


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return _MISSING if field.default_factory is dataclasses.MISSING else _OPTIONAL


def describe_field(shape: Shape, description: str | None, default: Any = _MISSING) -> Field:
    """A member with what a docstring says of it, and its default if that has a JSON form."""
    schema = dict(shape.schema)
    if description and schema.get("description") == shape.expected:  # the members of a flag
        schema["description"] = f"{description}: {shape.expected}"
    elif description:
        schema.setdefault("description", description)
    if default is not _MISSING and default is not _OPTIONAL:
        try:
            schema["default"] = to_json(default)
            json.dumps(schema["default"], allow_nan=False)
        except (TypeError, ValueError):
            schema.pop("default", None)
    return Field(shape._replace(schema=schema), default is _MISSING)


def add_field(fields: dict[str, Field], name: str, field: Field, said: Said) -> None:
    """Put a member among the others, under the name that pydantic's `Field` gives it, with its default."""
    if said.fill is not None and field.required:
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
    # Its method, which is called without a slot between.
    return AliasReader(reader, names) if names else reader.__call__


def _class_reader(cls: type, members: Callable[[Any], dict[str, Any]], count: int) -> Reader:
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
