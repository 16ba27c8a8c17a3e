# SPDX-License-Identifier: MIT
# ruff: noqa: UP006, UP007, UP035, UP045
# The old spellings of annotations are among what is tested.
# No `from __future__ import annotations` here: the tests of strings as annotations are explicit about it.
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import subprocess
import sys
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Dict, List, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import cheap
from typing_extensions import Doc, NotRequired, ReadOnly, Required, TypeAliasType
from typing_extensions import TypedDict as ExtendedTypedDict

from mcp_h11.protocol import types as schema
from mcp_h11.protocol.content import Audio, Image, ParamHeader, audio, image
from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.documents.mismatch import MAX_PROBLEMS
from mcp_h11.schema.forms import elicitation_schema, read_elicited
from mcp_h11.schema.outputs import BadResult
from mcp_h11.schema.results import is_content, is_result
from mcp_h11.schema.signature import Signature, describe
from mcp_h11.schema.tojson import to_json


class Context:
    pass


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Odd(enum.Enum):
    HERE = (1, 2)
    THERE = (3, 4)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Tree:
    """A tree.

    Attributes:
        label: What it says.
    """

    label: str
    children: "list[Tree]" = dataclasses.field(default_factory=list)


class Address(TypedDict):
    street: str
    lines: NotRequired[list[str]]


class Loose(ExtendedTypedDict, total=False):
    name: Required[str]
    age: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclasses.dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)
    inner: Optional["Model"] = None


UserId = NewType("UserId", int)
T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
Alias = TypeAliasType("Alias", list[int])


# What is read besides what the schema allows has its tests in test_arguments.py.
EXACT: Any = {"strict": True, "refuse_extra": True}


def taking(annotation: Any, **options: Any) -> Signature:
    def tool(value: Any) -> None: ...

    tool.__annotations__ = {"value": annotation}
    return describe(tool, **{**EXACT, **options})


def property_of(annotation: Any) -> Any:
    signature = taking(annotation)
    schema = dict(signature.input_schema["properties"]["value"])
    return {**schema, "$defs": defs} if (defs := signature.input_schema.get("$defs")) else schema


def read(annotation: Any, value: Any) -> Any:
    return taking(annotation).bind({"value": value})["value"]


def problems(signature: Signature, arguments: dict[str, Any]) -> list[str]:
    with pytest.raises(BadArguments) as caught:
        signature.bind(arguments)
    return caught.value.problems


# --- schemas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (object, {}),
        (datetime.datetime, {"type": "string", "format": "date-time"}),
        (datetime.date, {"type": "string", "format": "date"}),
        (datetime.time, {"type": "string", "format": "time"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (decimal.Decimal, {"anyOf": [{"type": "number"}, {"type": "string"}]}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (pathlib.Path, {"type": "string", "format": "path"}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Size, {"type": "integer", "enum": [1, 2]}),
        (Odd, {"type": "string", "enum": ["HERE", "THERE"]}),
        (Literal["a"], {"type": "string", "const": "a"}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Literal[Color.RED], {"type": "string", "const": "red"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | float, {"type": "number"}),
        (int | float | None, {"anyOf": [{"type": "number"}, {"type": "null"}]}),
        (list, {"type": "array", "items": {}}),
        (list[Any], {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (List[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (frozenset, {"type": "array", "items": {}, "uniqueItems": True}),
        (tuple, {"type": "array", "items": {}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        (tuple[()], {"type": "array", "items": {}, "minItems": 0, "maxItems": 0}),
        (dict, {"type": "object"}),
        (dict[str, Any], {"type": "object"}),
        (Dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict[int, Any], {"type": "object", "propertyNames": {"pattern": "^-?[0-9]+$"}}),
        (dict[Color, Any], {"type": "object", "propertyNames": {"type": "string", "enum": ["red", "blue"]}}),
        (UserId, {"type": "integer"}),
        (Alias, {"type": "array", "items": {"type": "integer"}}),
        (T, {}),
        (Bound, {"type": "integer"}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (Annotated[int, Doc("how many")], {"type": "integer", "description": "how many"}),
        (Annotated[int, {"minimum": 0}, {"maximum": 9}], {"type": "integer", "minimum": 0, "maximum": 9}),
        (Annotated[str, ParamHeader("Region")], {"type": "string", "x-mcp-header": "Region"}),
        (Annotated[str, 17], {"type": "string"}),
        (list[Annotated[int, {"minimum": 0}]], {"type": "array", "items": {"type": "integer", "minimum": 0}}),
        (
            Point,
            {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "number", "default": 0.5}},
                "required": ["x"],
                "additionalProperties": False,
            },
        ),
        (
            Address,
            {
                "type": "object",
                "properties": {
                    "street": {"type": "string"},
                    "lines": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["street"],
                "additionalProperties": False,
            },
        ),
        (
            Loose,
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name"],
                "additionalProperties": False,
            },
        ),
        (
            Pair,
            {
                "type": "object",
                "properties": {"left": {"type": "integer"}, "right": {"type": "string", "default": "r"}},
                "required": ["left"],
                "additionalProperties": False,
            },
        ),
        (
            Tree,
            {
                "$ref": "#/$defs/Tree",
                "$defs": {
                    "Tree": {
                        "type": "object",
                        "description": "A tree.",
                        "properties": {
                            "label": {"type": "string", "description": "What it says."},
                            "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                        },
                        "required": ["label"],
                        "additionalProperties": False,
                    }
                },
            },
        ),
    ],
)
def test_annotation_to_schema(annotation: Any, expected: Any) -> None:
    found = property_of(annotation)
    assert found == expected
    jsonschema.Draft202012Validator.check_schema(found)


def test_a_whole_signature() -> None:
    def tool(
        a: int,
        ctx: Context,
        b: Annotated[str, "from Annotated"] = "x",
        c: Color = Color.RED,
        p: Point = Point(1),  # noqa: B008
        unserializable: Any = object(),  # noqa: B008
        nan: float = float("nan"),
        *,
        none: int = None,  # type: ignore[assignment]
        plain="y",  # type: ignore[no-untyped-def]
    ) -> None:
        """Does it.

        Args:
            a: Number a.
            b: Not this one.
            ctx: Not in the schema.
        """

    signature = describe(tool, context_type=Context)
    assert signature.context_parameter == "ctx"
    assert signature.description == "Does it."
    assert signature.name == "tool"
    assert not signature.is_async
    assert signature.input_schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "Number a."},
            "b": {"type": "string", "description": "from Annotated", "default": "x"},
            "c": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "p": {**property_of(Point), "default": {"x": 1, "y": 0.5}},
            "unserializable": {},
            "nan": {"type": "number"},
            "none": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "plain": {"default": "y"},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    assert signature.bind({"a": 1, "none": None}) == {"a": 1, "none": None}


def test_a_parameter_with_a_header_is_of_a_primitive_type_though_it_may_be_left_out() -> None:
    def tool(
        a: Annotated[str, ParamHeader("A")] = None,  # type: ignore[assignment]
        b: Annotated[Optional[int], ParamHeader("B"), "a b"] = None,
        c: Annotated[int, {"minimum": 1}] = None,  # type: ignore[assignment]
        d: Annotated[str, ParamHeader("D")] = "d",
    ) -> None: ...

    signature = describe(tool)
    assert signature.input_schema["properties"] == {
        "a": {"type": "string", "x-mcp-header": "A"},
        "b": {"type": "integer", "x-mcp-header": "B", "description": "a b"},
        "c": {"anyOf": [{"type": "integer"}, {"type": "null"}], "minimum": 1, "default": None},
        "d": {"type": "string", "x-mcp-header": "D", "default": "d"},
    }
    assert "required" not in signature.input_schema
    assert problems(signature, {"b": None, "c": 0}) == ["b: expected integer, got null", "c: expected at least 1"]


def test_local_classes_refer_to_each_other() -> None:
    @dataclasses.dataclass
    class Inner:
        a: "Deeper"

    @dataclasses.dataclass
    class Deeper:
        b: int

    def tool(inner: Inner) -> Inner:
        return inner

    signature = describe(tool)
    assert signature.bind({"inner": {"a": {"b": 1}}}) == {"inner": Inner(Deeper(1))}
    assert signature.output_schema is not None
    Deeper.__name__ = Deeper.__qualname__ = "Gone"

    @dataclasses.dataclass
    class Lost:
        a: "Missing"  # type: ignore[name-defined]  # noqa: F821

    def other(lost: Lost) -> None: ...

    with pytest.raises(TypeError, match="other: parameter 'lost': .*Lost: name 'Missing' is not defined"):
        describe(other)


def test_qualifiers_of_members_are_seen_through() -> None:
    class Qualified(ExtendedTypedDict):
        a: ReadOnly[NotRequired[int]]
        b: NotRequired[ReadOnly[Annotated[str, "a b"]]]
        c: ReadOnly[int]

    found = property_of(Qualified)
    assert found["required"] == ["c"]
    assert found["properties"]["b"] == {"type": "string", "description": "a b"}


def test_no_parameters_are_an_object_that_may_be_empty_only() -> None:
    signature = describe(lambda: None, name="nothing", **EXACT)
    assert signature.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert signature.bind({}) == {}
    assert problems(signature, {"a": 1}) == ["a: unknown, the names are: none"]


def test_a_class_stands_in_each_place_that_uses_it() -> None:
    def tool(a: Point, b: list[Point], c: Pair) -> None: ...

    found = describe(tool).input_schema
    point = found["properties"]["a"]
    assert point["properties"].keys() == {"x", "y"}
    assert found["properties"]["b"] == {"type": "array", "items": point}
    assert found["properties"]["c"]["type"] == "object"
    assert "$defs" not in found


def test_classes_of_the_same_name_do_not_meet() -> None:
    def make(kind: type) -> type:
        return dataclasses.make_dataclass("Same", [("value", kind)])

    one, two = make(int), make(str)

    def tool(a, b, c, d) -> None: ...  # type: ignore[no-untyped-def]

    tool.__annotations__ = {"a": one, "b": one, "c": two, "d": two}
    signature = describe(tool)
    shown = [signature.input_schema["properties"][name]["properties"]["value"]["type"] for name in "abcd"]
    assert shown == ["integer", "integer", "string", "string"]
    bound = signature.bind({"a": {"value": 1}, "b": {"value": 1}, "c": {"value": "x"}, "d": {"value": "x"}})
    assert type(bound["a"]) is one
    assert type(bound["c"]) is two


def test_kwargs_take_what_is_not_named_but_never_the_context() -> None:
    def tool(ctx: Context, a: int, **rest: int) -> None: ...

    signature = describe(tool, context_type=Context, **EXACT)
    assert signature.input_schema["additionalProperties"] == {"type": "integer"}
    assert signature.bind({"z": 2, "a": 1, "y": 3}) == {"z": 2, "a": 1, "y": 3}
    assert problems(signature, {"z": 2, "y": 3}) == ["a: missing, expected integer"]
    assert problems(signature, {"z": "2", "y": 3, "a": 1}) == ["z: expected integer, got string"]
    assert problems(signature, {"a": 1, "ctx": 3}) == ["ctx: unknown"]

    def untyped(**rest) -> None: ...  # type: ignore[no-untyped-def]

    assert describe(untyped).input_schema["additionalProperties"] is True


# --- what is refused at registration -------------------------------------------------------------------------


def args(*a: int) -> None: ...
def positional(a: int, /) -> None: ...
def callback(a: typing.Callable[[], None]) -> None: ...
def keys(a: dict[float, int]) -> None: ...
def literal(a: Literal[b"x"]) -> None: ...  # type: ignore[valid-type]
def unknown(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def broken(a: "1 +") -> None: ...  # type: ignore[syntax]  # noqa: F722
def plain_class(a: Context) -> None: ...
def contexts(a: Context, b: Context) -> None: ...


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (args, r"args: parameter 'a' is \*args"),
        (positional, "positional: parameter 'a' is positional-only"),
        (callback, "callback: parameter 'a': .*Callable.* has no JSON form"),
        (keys, "keys: parameter 'a': members of a JSON object are named by strings, not by number"),
        (literal, "literal: parameter 'a': a Literal of something other"),
        (unknown, "unknown: parameter 'a': 'Nowhere' cannot be resolved"),
        (broken, r"broken: parameter 'a': '1 \+' is no annotation"),
        (plain_class, "plain_class: parameter 'a': .*Context has no JSON form"),
        (int, "int: "),
    ],
)
def test_a_signature_that_cannot_be_called_with_json_is_refused_by_name(fn: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        describe(fn)


def test_two_contexts_are_refused() -> None:
    with pytest.raises(TypeError, match="contexts: parameter 'b' is a second context"):
        describe(contexts, context_type=Context)


# --- finding things ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", [Context, Optional[Context], "Context", "Context | None", "Context[int]"])
def test_the_context_is_found_by_its_annotation(annotation: Any) -> None:
    def tool(where, a=1) -> None: ...  # type: ignore[no-untyped-def]

    tool.__annotations__ = {"where": annotation}
    assert describe(tool, context_type=Context).context_parameter == "where"
    assert describe(tool, context_type=(int, Context)).context_parameter == "where"


def test_a_context_imported_for_type_checkers_only_is_found_by_its_name() -> None:
    namespace: dict[str, Any] = {}
    exec("def tool(c: 'mcp.Context | None', d: 'Contextual' = 1): ...", namespace)
    with pytest.raises(TypeError, match="'Contextual' cannot be resolved"):
        describe(namespace["tool"], context_type=Context)
    namespace["Contextual"] = int
    assert describe(namespace["tool"], context_type=Context).context_parameter == "c"


def test_local_classes_are_found_where_annotations_are_strings() -> None:
    @dataclasses.dataclass
    class Local:
        again: "Optional[Local]" = None

    def decorate(fn: Any) -> Signature:
        return describe(fn)

    @decorate
    def tool(a: "Local", b: "list[Local]") -> "Local": ...  # type: ignore[empty-body]

    assert tool.bind({"a": {}, "b": [{"again": {}}]}) == {"a": Local(), "b": [Local(Local())]}
    assert tool.output_schema is not None


def test_a_closure_is_looked_into_when_the_maker_has_returned() -> None:
    def make() -> Any:
        Local = dataclasses.make_dataclass("Local", [("a", int)])
        later = "filled after the function is made"

        def tool(a: "Local") -> Any:  # type: ignore[valid-type]
            return Local, later

        return tool

    assert describe(make()).bind({"a": {"a": 1}})["a"].a == 1


class Tools:
    """Not the description."""

    def method(self, a: int) -> int:
        """A method."""
        return a

    @staticmethod
    async def static(a: int) -> int:
        """Static."""
        return a

    @classmethod
    def for_class(cls, a: int) -> int:
        """Of the class."""
        return a


class Callable:
    """A callable."""

    async def __call__(self, a: "int") -> "int":
        return a


@pytest.mark.parametrize(
    ("fn", "name", "description", "is_async"),
    [
        (Tools().method, "method", "A method.", False),
        (Tools.static, "static", "Static.", True),
        (Tools.for_class, "for_class", "Of the class.", False),
        (Callable(), "Callable", "A callable.", True),
        (functools.partial(Tools.static), "static", "Static.", True),
        (functools.wraps(Tools.static)(lambda *a: None), "static", "Static.", False),
    ],
)
def test_whatever_can_be_called_is_described(fn: Any, name: str, description: str, is_async: bool) -> None:
    signature = describe(fn)
    assert (signature.name, signature.description, signature.is_async) == (name, description, is_async)
    assert signature.input_schema["properties"] == {"a": {"type": "integer"}}
    assert signature.output_schema is not None


def test_future_annotations_are_read() -> None:
    source = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TypedDict
from typing_extensions import NotRequired, Required
class D(TypedDict):
    a: int
    b: NotRequired[int]
class E(TypedDict, total=False):
    a: Required[int]
    b: int
@dataclass
class C:
    d: D
    e: E
def tool(c: C) -> C: ...
"""
    module = type(sys)("future")
    sys.modules["future"] = module
    try:
        exec(source, module.__dict__)
        signature = describe(module.tool)
    finally:
        del sys.modules["future"]
    properties = signature.input_schema["properties"]["c"]["properties"]
    assert properties["d"]["required"] == properties["e"]["required"] == ["a"]


# --- binding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 1.0, 1),
        (float, 1, 1.0),
        (int | float, 1, 1),
        (float | int, 1.0, 1.0),
        (
            datetime.datetime,
            "2020-01-02T03:04:05Z",
            datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        ),
        (datetime.date, "2020-01-02", datetime.date(2020, 1, 2)),
        (datetime.time, "03:04:05Z", datetime.time(3, 4, 5, tzinfo=datetime.timezone.utc)),
        (datetime.date | str, "soon", "soon"),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (bytes, "AP8=", b"\x00\xff"),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (Color, "red", Color.RED),
        (Size, 2.0, Size.LARGE),
        (Odd, "HERE", Odd.HERE),
        (Literal[1, True], True, True),
        (Literal[Color.RED, "x"], "red", Color.RED),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1], (1,)),
        (tuple[()], [], ()),
        (set[int], [1, 2], {1, 2}),
        (frozenset[str], ["a"], frozenset({"a"})),
        (dict[int, str], {"-1": "a"}, {-1: "a"}),
        (dict[Color, int], {"red": 1}, {Color.RED: 1}),
        (Point, {"x": 1}, Point(1)),
        (Pair, {"left": 1}, Pair(1)),
        (Address, {"street": "s"}, {"street": "s"}),
        (Point | Pair, {"left": 1}, Pair(1)),
        (Tree, {"label": "a", "children": [{"label": "b"}]}, Tree("a", [Tree("b")])),
        (Model, {"name": "ab"}, Model(name="ab")),
        (list[Model], [{"name": "ab"}], [Model(name="ab")]),
        (Annotated[str, pydantic.Field(min_length=2), "d"], "ab", "ab"),
    ],
)
def test_json_to_python(annotation: Any, value: Any, expected: Any) -> None:
    found = read(annotation, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, True, ["value: expected integer, got boolean"]),
        (int, "1", ["value: expected integer, got string"]),
        (int, 1.5, ["value: expected integer, got number"]),
        (float, False, ["value: expected number, got boolean"]),
        (float, 10**400, ["value: too large a number"]),
        (int | float, True, ["value: expected number, got boolean"]),
        (bool, 1, ["value: expected boolean, got integer"]),
        (str, 1, ["value: expected string, got integer"]),
        (None, 1, ["value: expected null, got integer"]),
        (int | None, "1", ["value: expected integer or null, got string"]),
        (datetime.date, "soon", ["value: expected string that is a date (YYYY-MM-DD)"]),
        (datetime.date, 1, ["value: expected string that is a date (YYYY-MM-DD), got integer"]),
        (decimal.Decimal, "NaN", ["value: expected number, or string that is a decimal number"]),
        (decimal.Decimal, "x", ["value: expected number, or string that is a decimal number"]),
        (uuid.UUID, "x", ["value: expected string that is a UUID"]),
        (bytes, "A", ["value: expected string in base64"]),
        (Color, "green", ['value: expected one of "red", "blue"']),
        (Size, True, ["value: expected one of 1, 2"]),
        (Literal[1], True, ["value: expected one of 1"]),
        (list[int], {}, ["value: expected array, got object"]),
        (list[int], ["a", 1, None], ["value[0]: expected integer, got string", "value[2]: expected integer, got null"]),
        (tuple[int, str], [1], ["value: expected array of 2, got 1"]),
        (tuple[int, str], 1, ["value: expected array, got integer"]),
        (
            tuple[int, str],
            ["", 1],
            ["value[0]: expected integer, got string", "value[1]: expected string, got integer"],
        ),
        (set[int], [1, 1.0], ["value: expected items that all differ"]),
        (set[Any], [[]], ["value: expected items that can be in a set"]),
        (dict[str, int], [], ["value: expected object, got array"]),
        (dict[str, int], {"a": ""}, ["value.a: expected integer, got string"]),
        (dict[int, int], {"x": 1}, ["value.x: expected digits as a member's name"]),
        (dict[int, int], {"²": 1}, ["value.²: expected digits as a member's name"]),
        (Point, 1, ["value: expected object, got integer"]),
        (
            Point,
            {"y": "", "z": 1},
            ["value.x: missing, expected integer", "value.y: expected number, got string"]
            + ["value.z: unknown, the names are: x, y"],
        ),
        (Even, {"number": 1}, ["value: 1 is odd"]),
        (Point | None, {"x": ""}, ["value.x: expected integer, got string"]),
        (Point | Pair, {}, ["value: x: missing, expected integer; or left: missing, expected integer"]),
        (Even | None, {"number": 1}, ["value: 1 is odd"]),
        (Color | None, "green", ['value: expected one of "red", "blue"']),
        (
            Color | datetime.date,
            "x",
            ['value: expected one of "red", "blue"; or expected string that is a date (YYYY-MM-DD)'],
        ),
        (Annotated[int, {"minimum": 1}], 0, ["value: expected at least 1"]),
        (Annotated[int, {"minimum": 1}], "", ["value: expected integer, got string"]),
        (Model, {"name": "a"}, ["value.name: String should have at least 2 characters"]),
        (list[Model], [{"name": "ab"}, 1], ["value[1]: Input should be an object"]),
    ],
)
def test_bad_arguments_are_named_with_what_was_expected(annotation: Any, value: Any, expected: list[str]) -> None:
    assert problems(taking(annotation), {"value": value}) == expected


def test_all_bad_arguments_are_listed_at_once() -> None:
    def tool(a: int, b: str, c: list[int] = [], d: int = 0) -> None: ...  # noqa: B006

    with pytest.raises(BadArguments) as caught:
        describe(tool, name="t", **EXACT).bind({"d": "x", "c": [1, "y"], "e": 1, "b": "fine"})
    assert str(caught.value) == (
        "Invalid arguments for t: a: missing, expected integer; d: expected integer, got string; "
        "c[1]: expected integer, got string; e: unknown, the names are: a, b, c, d"
    )
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[int], ["x"] * 1000),
        (dict[str, int], dict.fromkeys(map(str, range(1000)), "x")),
        (Point, dict.fromkeys(map(str, range(1000)), 1)),
        (Model, {"name": 1, "inner": {"name": 1}}),
    ],
)
def test_the_number_of_problems_is_bounded(annotation: Any, value: Any) -> None:
    assert 1 <= len(problems(taking(annotation), {"value": value})) <= MAX_PROBLEMS


def test_a_name_that_a_client_chose_is_cut_in_messages() -> None:
    assert len(problems(taking(int), {"value": 1, "x" * 10_000: 1})[0]) < 200


def test_an_error_in_somebodys_validator_is_not_taken_for_an_unknown_name() -> None:
    def check(value: int) -> int:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        read(Annotated[int, pydantic.AfterValidator(check)], 1)


@dataclasses.dataclass
class Left:
    child: "Union[Left, Right, None]" = None
    x: int = 0


@dataclasses.dataclass
class Right:
    child: "Union[Left, Right, None]" = None
    x: str = ""


@pytest.mark.parametrize(
    ("annotation", "member", "leaf"),
    [(Tree, "children", {"label": 1}), (Left | Right, "child", {"x": None}), (Left | Right, "child", {"x": "right"})],
)
def test_a_deep_value_is_read_once_and_not_once_more_at_each_level(annotation: Any, member: str, leaf: Any) -> None:
    value = leaf
    for _ in range(60):
        value = {member: value, **({"x": "r"} if member == "child" else {})}
        if member == "children":
            value = {"label": "l", "children": [value["children"]]}
    signature = taking(annotation)
    with cheap(2.0):
        try:
            signature.bind({"value": value})
        except BadArguments as error:
            assert len(error.problems) >= 1


def test_what_a_union_kept_is_forgotten_when_it_has_been_read() -> None:
    from mcp_h11.schema import readers

    read(Left | Right, {"child": {"x": "r"}})
    assert readers._tried.depth == 0
    assert readers._tried.memo == {}


def test_values_that_are_strings_by_protocol_are_read_as_json_where_no_string_fits() -> None:
    def tool(a: int, b: str, c: bool = False, d: list[int] = [], e: int | None = None) -> None: ...  # noqa: B006

    signature = describe(tool)
    assert signature.bind_text({"a": "3", "b": "3", "c": "true", "d": "[1]", "e": "null"}) == {
        "a": 3,
        "b": "3",
        "c": True,
        "d": [1],
        "e": None,
    }
    assert signature.bind_text({"a": "3", "b": "", "d": ["1"][:0]}) == {"a": 3, "b": "", "d": []}
    for bad in ("x", "[" * 100_000, '"3"', "1.5"):
        with pytest.raises(BadArguments, match="a: expected integer"):
            signature.bind_text({"a": bad, "b": ""})
    with pytest.raises(BadArguments, match="z: unknown"):
        describe(tool, refuse_extra=True).bind_text({"a": "1", "b": "", "z": "1"})


# --- pydantic ------------------------------------------------------------------------------------------------


def test_pydantic_fields_give_schema_default_and_checks() -> None:
    def tool(
        a: Annotated[int, pydantic.Field(ge=1, description="an a")],
        b: int = pydantic.Field(default=3, le=9),
        c: list[int] = pydantic.Field(default_factory=list),  # noqa: B008
        d: str = pydantic.Field(description="required"),
        e: Annotated[int, pydantic.Field(ge=0)] = 7,
    ) -> None:
        """T.

        Args:
            a: not this
            b: a b
        """

    signature = describe(tool)
    properties = signature.input_schema["properties"]
    assert properties["a"] == {"type": "integer", "minimum": 1, "description": "an a"}
    assert properties["b"] == {"type": "integer", "maximum": 9, "default": 3, "description": "a b"}
    assert properties["e"]["default"] == 7
    assert signature.input_schema["required"] == ["a", "d"]
    assert signature.bind({"a": 1, "d": "x"}) == {"a": 1, "d": "x", "b": 3, "c": []}
    assert len(problems(signature, {"a": 0, "b": 10, "d": 1})) == 3


def test_pydantic_models_share_defs_with_classes_of_the_same_name() -> None:
    @dataclasses.dataclass
    class Model2:
        own: int

    Model2.__name__ = "Model"

    def tool(a, b, c, d) -> None: ...  # type: ignore[no-untyped-def]

    tool.__annotations__ = {"a": Model2, "b": Model2, "c": Model, "d": list[Model]}
    signature = describe(tool)
    bound = signature.bind({"a": {"own": 1}, "b": {"own": 1}, "c": {"name": "ab"}, "d": [{"name": "ab"}]})
    assert type(bound["a"]) is Model2
    assert type(bound["c"]) is Model
    validator = jsonschema.Draft202012Validator(signature.input_schema)
    assert validator.is_valid({"a": {"own": 1}, "b": {"own": 1}, "c": {"name": "ab"}, "d": [{"name": "ab"}]})
    assert not validator.is_valid({"a": {"name": "ab"}, "b": {"own": 1}, "c": {"name": "ab"}, "d": []})


def test_a_type_that_pydantic_refuses_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="parameter 'value': pydantic: "):
        taking(Annotated[Context, pydantic.Field()])


def test_pydantic_is_not_imported_unless_an_annotation_is_its_own() -> None:
    code = """
import sys
from dataclasses import dataclass
from typing import Annotated
from mcp_h11.schema.forms import elicitation_schema
from mcp_h11.schema.signature import describe
@dataclass
class A:
    a: int
def tool(a: A, b: Annotated[list[int], "b"], c: int = 1) -> list[A]: ...
signature = describe(tool)
signature.content([A(1)])
signature.bind({"a": {"a": 1}, "b": []})
elicitation_schema(A)
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- results -------------------------------------------------------------------------------------------------


def returning(annotation: Any, **options: Any) -> Signature:
    def tool() -> Any: ...

    tool.__annotations__ = {"return": annotation}
    return describe(tool, **options)


POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "number", "default": 0.5}}}


@pytest.mark.parametrize(
    "annotation",
    [str, None, Any, dict, list, tuple, object, Image, Audio, list[Image], tuple[str, Image], Image | str, list[Any]]
    + [schema.TextContent, list[schema.TextContent | schema.ImageContent], schema.ContentBlock, Sequence[Audio]]
    + [schema.CallToolResult, str | None, Optional[Image], Annotated[str, "d"], list[str | Image], Context, "Nowhere"]
    + [typing.Callable[[], None]],
)
def test_what_has_no_structure_has_no_output_schema(annotation: Any) -> None:
    assert returning(annotation).output_schema is None


def test_a_function_without_a_return_annotation_has_no_output_schema() -> None:
    assert describe(lambda: 1).output_schema is None


@pytest.mark.parametrize(
    ("annotation", "expected", "wrapped"),
    [
        (Point, {**POINT, "required": ["x"]}, False),
        (
            Pair,
            {
                "type": "object",
                "properties": {"left": {"type": "integer"}, "right": {"type": "string", "default": "r"}},
                "required": ["left"],
            },
            False,
        ),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, False),
        (dict[str, Any], {"type": "object"}, False),
        (int, {"type": "integer"}, True),
        (bool, {"type": "boolean"}, True),
        (list[str], {"type": "array", "items": {"type": "string"}}, True),
        (list[Point], {"type": "array", "items": {**POINT, "required": ["x"]}}, True),
        (Point | None, {"anyOf": [{**POINT, "required": ["x"]}, {"type": "null"}]}, True),
        (Color, {"type": "string", "enum": ["red", "blue"]}, True),
    ],
)
def test_structured_results(annotation: Any, expected: Any, wrapped: bool) -> None:
    signature = returning(annotation)
    if wrapped:
        expected = {"type": "object", "properties": {"result": expected}, "required": ["result"]}
    assert signature.output_schema == expected
    assert signature.wrapped is wrapped
    assert returning(annotation, structured_output=False).output_schema is None


def test_an_output_schema_is_an_object_at_the_top_even_if_it_contains_itself() -> None:
    for annotation in (Tree, Model):
        found = returning(annotation).output_schema
        assert found is not None
        assert found["type"] == "object"
        assert "$ref" not in found
        jsonschema.Draft202012Validator.check_schema(found)


def test_structured_output_true_wants_a_schema() -> None:
    assert returning(str, structured_output=True).content("a") == (
        [{"type": "text", "text": "a"}],
        {"result": "a"},
    )
    assert returning(dict, structured_output=True).output_schema == {"type": "object"}
    with pytest.raises(TypeError, match="<lambda>: return value: structured output needs a return annotation"):
        describe(lambda: 1, structured_output=True)
    for annotation in (Image, Context, "Nowhere"):
        with pytest.raises(TypeError, match="tool: return value: "):
            returning(annotation, structured_output=True)


def test_types_that_control_the_call_are_no_results() -> None:
    signature = returning(Point | Context, control_types=(Context,))
    assert signature.output_schema == {**POINT, "required": ["x"]}
    assert not signature.wrapped
    assert returning(Context, control_types=(Context,)).output_schema is None
    assert returning(Union[Context, Tools], control_types=(Context, Tools)).output_schema is None


@pytest.mark.parametrize(
    ("annotation", "value", "structured", "text"),
    [
        (int, 5, {"result": 5}, "5"),
        (float, 5, {"result": 5}, "5"),
        (bool, True, {"result": True}, "true"),
        (Point, Point(1), {"x": 1, "y": 0.5}, '{"x":1,"y":0.5}'),
        (Pair, Pair(1), {"left": 1, "right": "r"}, '{"left":1,"right":"r"}'),
        (Address, {"street": "é", "more": 1}, {"street": "é", "more": 1}, '{"street":"é","more":1}'),
        (list[Point], [Point(1, 2)], {"result": [{"x": 1, "y": 2}]}, '[{"x":1,"y":2}]'),
        (dict[str, datetime.date], {"a": datetime.date(2020, 1, 2)}, {"a": "2020-01-02"}, '{"a":"2020-01-02"}'),
        (dict[int, int], {1: 2}, {"1": 2}, '{"1":2}'),
        (Color, Color.RED, {"result": "red"}, "red"),
        (bytes, b"\x00", {"result": "AA=="}, "AA=="),
        (set[int], {2, 1}, {"result": [1, 2]}, "[1,2]"),
        (Point | None, None, {"result": None}, "null"),
        (Tree, Tree("a", [Tree("b")]), {"label": "a", "children": [{"label": "b", "children": []}]}, None),
        (Model, Model(name="ab"), {"name": "ab", "inner": None}, '{"name":"ab","inner":null}'),
        (Model, {"name": "ab"}, {"name": "ab", "inner": None}, '{"name":"ab","inner":null}'),
        (list[Model], [Model(name="ab")], {"result": [{"name": "ab", "inner": None}]}, None),
    ],
)
def test_structured_content_comes_with_its_json_as_text(
    annotation: Any, value: Any, structured: Any, text: Any
) -> None:
    signature = returning(annotation)
    content, found = signature.content(value)
    assert found == structured
    assert content == [
        {
            "type": "text",
            "text": text
            or json.dumps(next(iter(found.values())) if signature.wrapped else found, separators=(",", ":")),
        }
    ]
    assert signature.output_schema is not None
    assert jsonschema.Draft202012Validator(signature.output_schema).is_valid(found)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "5", "tool returned what its return annotation does not allow: result: expected integer, got string"),
        (list[int], [1, None], r"result\[1\]: expected integer, got null"),
        (Point, Point("a"), "result.x: expected integer, got string"),  # type: ignore[arg-type]
        (Point, {"y": 1}, "result.x: missing"),
        (dict[str, Any], {"a": Context()}, "Context has no JSON form"),
        (dict[str, Any], {(1,): 1}, "list cannot name a member of a JSON object"),
        (Model, {"name": "a"}, "at least 2 characters"),
    ],
)
def test_a_result_that_breaks_its_own_schema_is_an_error(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(BadResult, match=message):
        returning(annotation).content(value)


def test_a_result_that_contains_itself_is_an_error_and_no_crash() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(BadResult, match="contains itself"):
        returning(dict[str, Any]).content({"a": value})
    with pytest.raises(ValueError, match="contains itself"):
        returning(None).content({"a": value})


BLOCK = {"type": "text", "text": "b"}
LINK = {"type": "resource_link", "uri": "a:b", "name": "b"}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("a", [{"type": "text", "text": "a"}]),
        ("", [{"type": "text", "text": ""}]),
        (None, []),
        (BLOCK, [BLOCK]),
        (Image(data=b"\x00"), [image(b"\x00")]),
        (Audio(data=b"\x00"), [audio(b"\x00")]),
        ([], []),
        (["a", "b"], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (("a", BLOCK, LINK), [{"type": "text", "text": "a"}, BLOCK, LINK]),
        ([Image(data=b"\x00"), 1], [image(b"\x00"), {"type": "text", "text": "1"}]),
        ([1, "a"], [{"type": "text", "text": '[1,"a"]'}]),
        ({"a": Point(1)}, [{"type": "text", "text": '{"a":{"x":1,"y":0.5}}'}]),
        ({"type": "text"}, [{"type": "text", "text": '{"type":"text"}'}]),
        ({"type": "odd", "text": ""}, [{"type": "text", "text": '{"type":"odd","text":""}'}]),
        ({"type": ["text"]}, [{"type": "text", "text": '{"type":["text"]}'}]),
        (5, [{"type": "text", "text": "5"}]),
        (True, [{"type": "text", "text": "true"}]),
        (Pair(1), [{"type": "text", "text": '{"left":1,"right":"r"}'}]),
        (Color.RED, [{"type": "text", "text": "red"}]),
        (datetime.date(2020, 1, 2), [{"type": "text", "text": "2020-01-02"}]),
        (pathlib.PurePosixPath("a/b"), [{"type": "text", "text": "a/b"}]),
        (ValueError("v"), [{"type": "text", "text": "v"}]),
        ({"e": ValueError("v")}, [{"type": "text", "text": '{"e":"v"}'}]),
    ],
)
def test_unstructured_results_become_blocks(value: Any, content: Any) -> None:
    assert describe(lambda: None).content(value) == (content, None)


def test_a_block_under_an_output_schema_stays_a_block() -> None:
    assert returning(dict[str, Any]).content(BLOCK) == ([BLOCK], BLOCK)


def test_blocks_and_whole_results_are_recognized() -> None:
    assert is_content(BLOCK)
    assert not is_content([BLOCK])
    assert is_result({"content": [BLOCK], "isError": True})
    assert is_result({"content": [], "structuredContent": 1, "_meta": {}})
    assert not is_result({"content": "text"})
    assert not is_result({"content": [BLOCK], "more": 1})
    assert not is_result({"content": ["text"]})
    assert not is_result([])


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({Color.RED: 1, None: 2, True: 3, 1.5: 4}, {"red": 1, "null": 2, "true": 3, "1.5": 4}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (type("Sub", (str,), {})("s"), "s"),
        (Size.LARGE, 2),
        (Odd.HERE, "HERE"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (decimal.Decimal("1.10"), "1.10"),
        (bytearray(b"\x00"), "AA=="),
        (frozenset({"b", "a"}), ["a", "b"]),
        (collections.deque([1]), [1]),
        ({"a": 1}.values(), [1]),
        (datetime.time(1, 2), "01:02:00"),
        (Image(data=b""), image(b"")),
    ],
)
def test_python_to_json(value: Any, plain: Any) -> None:
    assert to_json(value) == plain
    json.dumps(to_json(value))


# --- the oracle ----------------------------------------------------------------------------------------------

ANNOTATIONS: list[Any] = [
    str, int, float, bool, None, Any, Color, Size, Literal["a", 1, None, True], int | None, int | float, str | int,
    list[int], list[Optional[str]], set[int], frozenset[str], tuple[int, str], tuple[int, ...], tuple[()],
    dict[str, int], dict[Color, bool], dict[int, str], Point, Pair, Address, Loose, Tree, Point | Pair | None,
    Left | Right, list[Point | int], dict[str, list[Address]], Annotated[int, {"minimum": 0, "multipleOf": 2}],
    Annotated[list[int], {"maxItems": 2}], list[Annotated[str, {"maxLength": 1}]], UserId, Alias,
]  # fmt: skip
SIGNATURES = [taking(annotation) for annotation in ANNOTATIONS]
member = st.sampled_from(
    ["x", "y", "left", "right", "street", "lines", "label", "children", "child", "name", "age", "1", "red"]
)
scalar = st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from([0.5, 1.0, 2.0, "red", "blue", "a", "", "zz"])
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(member, inner, max_size=3), max_leaves=8
)


def near(schema: Any, root: Any) -> st.SearchStrategy[Any]:
    """JSON values that nearly always fit a schema, so that the interesting ones come up."""
    if "$ref" in schema:
        return st.deferred(lambda: near(root["$defs"][schema["$ref"].rpartition("/")[2]], root))
    if "anyOf" in schema:
        return st.one_of([near(arm, root) for arm in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return st.tuples(*(near(item, root) for item in schema["prefixItems"])).map(list)
        return st.lists(near(schema.get("items", {}), root) | scalar, max_size=3)
    if kind == "object":
        properties = {name: near(item, root) | anything for name, item in schema.get("properties", {}).items()}
        required = {name: properties.pop(name) for name in schema.get("required", ())}
        extra = schema.get("additionalProperties") or {}
        return st.fixed_dictionaries(required, optional=properties) | st.dictionaries(
            member, near(extra, root), max_size=2
        )
    return scalar


@settings(deadline=None)
@given(st.data())
def test_bind_accepts_exactly_what_the_schema_allows(data: st.DataObject) -> None:
    signature = data.draw(st.sampled_from(SIGNATURES))
    value = data.draw(near(signature.input_schema["properties"]["value"], signature.input_schema) | anything)
    arguments = {"value": value}
    allowed = jsonschema.Draft202012Validator(signature.input_schema).is_valid(arguments)
    try:
        bound = signature.bind(arguments)
    except BadArguments:
        assert not allowed
    else:
        assert allowed
        again = {"value": to_json(bound["value"])}
        assert signature.bind(again) == bound  # what is written is what is read


python_values = st.sampled_from([a for a in ANNOTATIONS if a not in (Any, Loose, Left | Right)])


@settings(deadline=None)
@given(st.data())
def test_results_conform_to_their_output_schema(data: st.DataObject) -> None:
    annotation = data.draw(
        st.sampled_from(
            [Point, Pair, Address, Tree, Color, Size, list[Point], set[int], dict[int, str]]
            + [
                dict[Color, bool],
                int | None,
                tuple[int, str],
                datetime.datetime,
                bytes,
                uuid.UUID,
                dict[str, list[Address]],
                Point | Pair | None,
            ]
        )
    )
    signature = returning(annotation)
    st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
    value = data.draw(st.from_type(annotation) if annotation is not Tree else trees)
    content, structured = signature.content(value)
    assert signature.output_schema is not None
    jsonschema.validate(structured, signature.output_schema)
    plain = structured["result"] if signature.wrapped else structured
    assert content[0]["text"] == (
        plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    )


trees: st.SearchStrategy[Tree] = st.deferred(lambda: st.builds(Tree, st.text(), st.lists(trees, max_size=2)))


# --- elicitation ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Order:
    """Your order.

    Attributes:
        name: For whom.
    """

    name: str
    when: datetime.date
    size: Annotated[int, {"minimum": 1, "title": "Size", "exclusiveMaximum": 9}]
    color: Color
    one: Literal["x"]
    share: Optional[float]
    ident: uuid.UUID | None = None
    toppings: list[Literal["olives", "capers"]] = dataclasses.field(default_factory=list)
    colors: set[Color] = dataclasses.field(default_factory=set)
    gift: bool = False


def test_a_form_is_flat_and_says_only_what_a_form_may_say() -> None:
    assert elicitation_schema(Order) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "For whom."},
            "when": {"type": "string", "format": "date"},
            "size": {"type": "integer", "minimum": 1, "title": "Size"},
            "color": {"type": "string", "enum": ["red", "blue"]},
            "one": {"type": "string", "enum": ["x"]},
            "share": {"type": "number"},
            "ident": {"type": "string"},
            "toppings": {"type": "array", "items": {"type": "string", "enum": ["olives", "capers"]}},
            "colors": {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}},
            "gift": {"type": "boolean", "default": False},
        },
        "required": ["name", "when", "size", "color", "one"],
    }


def test_an_answer_is_read_into_the_forms_type() -> None:
    answer = {"name": "n", "when": "2020-01-02", "size": 3, "color": "red", "one": "x", "colors": ["blue"], "more": 1}
    assert read_elicited(Order, answer) == Order(
        "n", datetime.date(2020, 1, 2), 3, Color.RED, "x", None, colors={Color.BLUE}
    )
    with pytest.raises(ValueError, match="size: expected less than 9"):
        read_elicited(Order, {**answer, "size": 9})
    with pytest.raises(ValueError, match="name: missing, expected string"):
        read_elicited(Order, {})
    with pytest.raises(ValueError, match="expected object"):
        read_elicited(Order, None)  # type: ignore[arg-type]


def test_other_kinds_of_forms() -> None:
    class Form(pydantic.BaseModel):
        name: str = pydantic.Field(min_length=1, pattern="^a", description="The name")
        age: Optional[int] = None
        colors: list[Color] = []
        color: Color = Color.RED

    assert elicitation_schema(Form) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "The name", "title": "Name"},
            "age": {"type": "integer", "title": "Age"},
            "colors": {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}, "default": []}
            | {"title": "Colors"},
            "color": {"type": "string", "enum": ["red", "blue"], "default": "red", "title": "Color"},
        },
        "required": ["name"],
    }
    assert read_elicited(Form, {"name": "ab"}) == Form(name="ab")
    with pytest.raises(ValueError, match="name: String should match"):
        read_elicited(Form, {"name": "b"})
    assert elicitation_schema(Pair)["required"] == ["left"]
    one = dataclasses.make_dataclass("One", [("a", list[Literal["x"]], dataclasses.field(default_factory=list))])
    assert elicitation_schema(one) == {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "string", "enum": ["x"]}}},
    }
    assert elicitation_schema(Loose)["required"] == ["name"]
    assert read_elicited(Loose, {"name": "n", "age": 1}) == {"name": "n", "age": 1}


@pytest.mark.parametrize(
    "form",
    [int, str, dict[str, int], Tree, Context, list[int], Literal["a"], Color]
    + [dataclasses.make_dataclass("F", [("a", kind)]) for kind in (Point, list[str], list[int], Union[int, str], Any)]
    + [
        dataclasses.make_dataclass("F", [("a", kind)])
        for kind in (dict[str, int], Size, list[Size], tuple[int, str], None)
    ],
)
def test_what_no_form_can_show_is_refused(form: Any) -> None:
    with pytest.raises(TypeError):
        elicitation_schema(form)


FLAT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "email": {"type": "string", "format": "email", "x-own": 1},
        "one": {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
        "old": {"type": "string", "enum": ["a"], "enumNames": ["A"]},
        "many": {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}, "minItems": 1},
    },
    "required": ["one"],
}


def test_a_schema_is_passed_on_as_it_is() -> None:
    assert elicitation_schema(FLAT) is FLAT
    content = {"one": "a", "many": ["a"]}
    assert read_elicited(FLAT, content) is content
    assert elicitation_schema({"type": "object", "properties": {}}) == {"type": "object", "properties": {}}
    with pytest.raises(ValueError, match='one: expected "a"'):
        read_elicited(FLAT, {"one": "b"})
    with pytest.raises(ValueError, match="expected object, got array"):
        read_elicited(FLAT, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"type": "string"},
        {"type": "object", "properties": []},
        *(
            {"type": "object", "properties": {"a": bad}}
            for bad in [
                {},
                True,
                {"type": "object"},
                {"type": "null"},
                {"type": ["string", "null"]},
                {"type": "array"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "integer", "enum": [1]},
                {"anyOf": [{"type": "string"}]},
                {"$ref": "#/$defs/x"},
            ]
        ),
    ],
)
def test_a_schema_that_is_not_flat_is_refused(form: Any) -> None:
    with pytest.raises(TypeError):
        elicitation_schema(form)


def test_base64_is_what_bytes_are_written_and_read_as() -> None:
    assert read(bytes, to_json(b"\xff" * 5)) == base64.b64decode(to_json(b"\xff" * 5))


def test_a_function_that_takes_no_texts_has_no_reader_of_them() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    signature = describe(add, texts=False)
    assert signature.bind({"a": 1, "b": "2"}) == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match="add was described as one that takes no texts"):
        signature.bind_text({"a": "1", "b": "2"})
