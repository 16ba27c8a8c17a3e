# SPDX-License-Identifier: MIT
"""What models write instead of what a schema asks for: one rule for all spellings of a type, the official SDK's."""
# ruff: noqa: UP007, UP045

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import importlib.util
import json
import math
import pathlib
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import jsonschema
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver.utilities.func_metadata import func_metadata
from typing_extensions import NotRequired, TypeAliasType, TypedDict

from mcp_h11.protocol.content import ParamHeader
from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.documents.work import IN_THREAD, MAX_PARSED, within
from mcp_h11.schema.forms import read_elicited
from mcp_h11.schema.signature import Signature, describe


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Left:
    a: int = 0


@dataclasses.dataclass
class Right:
    b: int = 0


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclasses.dataclass
class Tree:
    label: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Link:
    number: int
    after: Optional[Link] = None


class Model(pydantic.BaseModel):
    price: float
    inner: Optional[Model] = None


class One(pydantic.BaseModel):
    a: int = 0


class Two(pydantic.BaseModel):
    b: int = 0


UserId = NewType("UserId", int)
T = TypeVar("T", bound=int)
Alias = TypeAliasType("Alias", list[int])


def taking(annotation: Any, **options: Any) -> Signature:
    def tool(value: Any) -> None: ...

    tool.__annotations__ = {"value": annotation}
    return describe(tool, **options)


def read(annotation: Any, value: Any, **options: Any) -> Any:
    return taking(annotation, **options).bind({"value": value})["value"]


def read_text(annotation: Any, value: str) -> Any:
    return taking(annotation).bind_text({"value": value})["value"]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other and (not isinstance(one, list) or all(map(same, one, other)))


# --- one rule ------------------------------------------------------------------------------------------------

INTEGERS: list[Any] = [
    int,
    Annotated[int, "a number"],
    Annotated[int, {"minimum": 1}],
    Annotated[int, pydantic.Field(ge=1)],
    Annotated[int, pydantic.Strict(strict=False)],
    Optional[int],
    Optional[Annotated[int, pydantic.Field(ge=1)]],
    Annotated[Optional[int], "a number"],
    Union[int, bool],
    Union[int, list[int]],
    UserId,
    T,
    Annotated[UserId, {"minimum": 1}],
]


@pytest.mark.parametrize("annotation", INTEGERS, ids=repr)
def test_every_spelling_of_an_integer_takes_the_text_of_one(annotation: Any) -> None:
    signature = taking(annotation)
    for value in ("5", " 5 ", "+5", "5.0", 5.0, 5):
        assert same(signature.bind({"value": value})["value"], 5), value
    for value in ("x", "", "5.5", "0x5", "1e3", "٥", "5" * 5_000, {"a": 1}):
        with pytest.raises(BadArguments, match="value"):
            signature.bind({"value": value})


@pytest.mark.parametrize("annotation", INTEGERS, ids=repr)
def test_strict_takes_what_the_schema_allows_and_no_more(annotation: Any) -> None:
    signature = taking(annotation, strict=True)
    assert same(signature.bind({"value": 5})["value"], 5)
    for value in ("5", "5.0", "[5]", '{"a":1}', "null"):
        with pytest.raises(BadArguments, match="value"):
            signature.bind({"value": value})


@pytest.mark.parametrize("annotation", [i for i in INTEGERS if i is not T], ids=repr)
@pytest.mark.parametrize(
    ("wrap", "value", "expected"),
    [
        (lambda t: list[t], ["5"], [5]),
        (lambda t: list[t], '["5"]', [5]),
        (lambda t: tuple[t, str], ["5", "5"], (5, "5")),
        (lambda t: tuple[t, ...], ["5"], (5,)),
        (lambda t: dict[str, t], {"a": "5"}, {"a": 5}),
        (lambda t: dict[str, t], '{"a": "5"}', {"a": 5}),
        (lambda t: Optional[list[t]], ["5"], [5]),
        (lambda t: dataclasses.make_dataclass("Made", [("m", t)]), {"m": "5"}, ("m", 5)),
        (lambda t: TypedDict("Made", {"m": t}), {"m": "5"}, {"m": 5}),
        (lambda t: NamedTuple("Made", [("m", t)]), {"m": "5"}, (5,)),
        (lambda t: NamedTuple("Made", [("m", t)]), ["5"], (5,)),
        (lambda t: pydantic.create_model("Made", m=(t, ...)), {"m": "5"}, ("m", 5)),
    ],
)  # fmt: skip
def test_and_so_it_does_within_every_container(annotation: Any, wrap: Any, value: Any, expected: Any) -> None:
    try:
        wrapped = wrap(annotation)
    except TypeError as error:  # Optional of a list of what cannot be hashed is beyond some versions of `typing`
        assert "unhashable" in str(error)
        return
    found = read(wrapped, value)
    if isinstance(expected, tuple) and expected[0] == "m":
        found, expected = getattr(found, "m"), expected[1]  # noqa: B009
    assert found == expected


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, "1.5", 1.5),
        (float, True, 1.0),
        (float, "1e3", 1000.0),
        (int, True, 1),
        (bool, "true", True),
        (bool, "False", False),
        (bool, "YES", True),
        (bool, "off", False),
        (bool, 1, True),
        (bool, 0.0, False),
        (int | float, "5", 5),
        (int | float, "1.5", 1.5),
        (list[str], '["a"]', ["a"]),
        (list, '["a"]', ["a"]),
        (Sequence[int], "[1]", [1]),
        (Alias, '["1"]', [1]),
        (dict, '{"a":1}', {"a": 1}),
        (dict[str, Any], ' {"a":1}', {"a": 1}),
        (Mapping[str, int], '{"a":"1"}', {"a": 1}),
        (dict[int, str], {"1.0": "a"}, {1: "a"}),
        (set[int], ["1", 1], {1}),
        (frozenset[str], ["a", "a"], frozenset("a")),
        (Annotated[set[int], {"maxItems": 1}], [1, 1], {1}),
        (Point, '{"x":"1"}', Point(1)),
        (Address, {"street": "s", "number": "1"}, {"street": "s", "number": 1}),
        (Model, '{"price": "1.5"}', Model(price=1.5)),
        (list[Point], '[{"x":"1"}]', [Point(1)]),
        (Tree, {"label": "1", "children": [{"label": "2"}]}, Tree(1, [Tree(2)])),
        (Link, {"number": 1, "after": {"number": "2"}}, Link(1, Link(2))),
        (Optional[list[str]], "null", None),
        (Optional[int], "null", None),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (decimal.Decimal, 1.5, decimal.Decimal("1.5")),
        (Literal[1, 2], "1", 1),
        (Size, "2", Size.LARGE),
        (Literal["red", True], "true", True),
        (datetime.datetime, 1577934245, datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
        (datetime.datetime, "1577934245000", datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
        (datetime.datetime, "2020-01-02", datetime.datetime(2020, 1, 2)),
        (datetime.date, 86400, datetime.date(1970, 1, 2)),
        (datetime.date, "2020-01-02T00:00:00Z", datetime.date(2020, 1, 2)),
        (datetime.time, 3661.5, datetime.time(1, 1, 1, 500_000, tzinfo=datetime.timezone.utc)),
        # what fits as it stands wins, wherever it stands in a union
        (Union[int, str], "5", "5"),
        (Union[str, int], "5", "5"),
        (Union[str, int], True, 1),
        (Union[bool, int], 1, 1),
        (Union[bool, int], "5", 5),
        (Union[int, bool], "true", True),
        (Union[list[int], list[str]], ["1"], ["1"]),
        (Union[list[int], list[str]], ["1", 2], [1, 2]),
        (Union[dict[str, int], str], '{"a":1}', '{"a":1}'),
        (Union[Annotated[int, pydantic.Field(ge=1)], str], "5", "5"),
        (Union[Annotated[int, pydantic.Field(ge=1)], str], 5, 5),
        (Union[Annotated[int, pydantic.Field(ge=1)], bool], "5", 5),
        (Union[Left, Right], {"b": 1}, Right(1)),
        (Union[Left, Right], {"b": "1", "more": 1}, Right(1)),
        (Union[Left, Right], {}, Left(0)),
        (Union[One, Two], {"b": 1}, Two(b=1)),
        (Union[One, Two], {"b": "1", "more": 1}, Two(b=1)),
        (Union[One, Right], {"b": "1"}, Right(1)),
        # a text that fits is that text
        (str, "5", "5"),
        (Any, '["a"]', '["a"]'),
        (Optional[str], "null", "null"),
    ],
)
def test_what_is_read(annotation: Any, value: Any, expected: Any) -> None:
    assert same(read(annotation, value), expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (str, 5, "value: expected string, got integer"),
        (int, "five", "value: expected integer, got string"),
        (int, None, "value: expected integer, got null"),
        (int, "[1]", "value: expected integer, got string"),
        (float, "nan", "value: expected number, got string"),
        (float, "-Infinity", "value: expected number, got string"),
        (float, "1e999", "value: expected number, got string"),
        (int | float, "nan", "value: expected number, got string"),
        (decimal.Decimal, "NaN", "value: expected number, or string that is a decimal number"),
        (decimal.Decimal, True, "value: expected number, or string that is a decimal number, got boolean"),
        (list[float], "[NaN]", "value: expected array, got string"),
        (list[float], "[1e999]", "value: expected array, got string"),
        (bool, 2, "value: expected boolean, got integer"),
        (bool, "maybe", "value: expected boolean, got string"),
        (bool, "true" * 1_000, "value: expected boolean, got string"),
        (list[int], '["x"]', r"value\[0\]: expected integer, got string"),
        (list[int], "1, 2", "value: expected array, got string"),
        (list[int], {"0": 1}, "value: expected array, got object"),
        (list[int], "[" * 5_000, "value: expected array, got string"),
        (list, "[" * 200 + "]" * 200, "value: expected array, got string"),
        (list[int], f"[{'1' * 5_000}]", "value: expected array, got string"),
        (dict[str, int], "[1]", "value: expected object, got array"),
        (list[list[int]], ["[1]"], r"value\[0\]: expected array, got string"),
        (Annotated[int, {"minimum": 1}], "0", "value: expected at least 1"),
        (Annotated[list[int], {"maxItems": 1}], '["1", "2"]', "value: expected at most 1 items"),
        (Annotated[set[int], {"minItems": 2}], [1, 1], "value: expected at least 2 items"),
        (Annotated[int, pydantic.Field(ge=1)], "0", "value: Input should be greater than or equal to 1"),
        (Literal[1, 2], "3", "value: expected one of 1, 2"),
        (Literal["1", "2"], 1, 'value: expected one of "1", "2"'),
        (datetime.datetime, True, "value: expected string that is a date and time"),
        (datetime.datetime, 1e300, "value: expected string that is a date and time"),
        (datetime.date, 1, "value: expected string that is a date"),
        (datetime.date, "2020-01-02T00:00:01", "value: expected string that is a date"),
        (datetime.time, 86_400, "value: expected string that is a time"),
        (datetime.time, -1, "value: expected string that is a time"),
        (Pair, [1, "a", "b"], "value: expected object, got array"),
        (Union[int, list[int]], "x", "value: expected integer or array, got string"),
        (Tree, {"label": "1", "children": [{"label": "x"}]}, r"value.children\[0\].label: expected integer"),
    ],
)
def test_what_is_refused(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(BadArguments, match=f"Invalid arguments for tool: {message}"):
        read(annotation, value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "Infinity", " NaN ", "1e999", "-1e999"])
@pytest.mark.parametrize(
    "annotation",
    [
        float, int, int | float, Optional[float], Union[float, bool], decimal.Decimal, bool, Literal[1],
        Annotated[float, "d"], Annotated[float, {"maximum": 100}], Annotated[float, pydantic.Field(le=100)],
        Annotated[float, pydantic.Field()], Union[Annotated[float, pydantic.Field()], bool],
        Annotated[Optional[float], pydantic.Field()], Annotated[decimal.Decimal, pydantic.Field()],
    ],
    ids=repr,
)  # fmt: skip
def test_no_text_is_a_number_that_is_not_finite(annotation: Any, value: str) -> None:
    if "1e999" in value and "Decimal" in repr(annotation):
        assert read(annotation, value).is_finite()
        return
    for reader in (read, read_text):
        with pytest.raises(BadArguments):
            reader(annotation, value)
    for inner, wrapped in ((list[annotation], [value]), (dict[str, annotation], {"a": value})):
        with pytest.raises(BadArguments):
            read(inner, wrapped)
        with pytest.raises(BadArguments):
            read_text(inner, json.dumps(wrapped))
        with pytest.raises(BadArguments):
            read_text(inner, json.dumps(wrapped).replace(json.dumps(value), "NaN"))


def test_nor_is_one_in_a_model() -> None:
    for value in ({"price": "nan"}, {"price": 1, "inner": {"price": "-Infinity"}}, {"price": "1e999"}):
        for given_, reader in ((value, read), (json.dumps(value), read), (json.dumps(value), read_text)):
            with pytest.raises(BadArguments, match="not finite"):
                reader(Model, given_)

    class Named(pydantic.BaseModel):
        name: str
        price: float = 1.0

    assert read(Named, {"name": "nan"}) == Named(name="nan")
    assert read(Named, {"name": "inf", "price": "2"}) == Named(name="inf", price=2)


# --- the official SDK as the judge ---------------------------------------------------------------------------

TYPES: list[Any] = [
    int, float, bool, str, None, Any, int | None, int | float, str | int, int | str, bool | int,
    int | bool, float | bool, bool | str, str | None, datetime.datetime, datetime.date, datetime.time, uuid.UUID,
    decimal.Decimal, pathlib.Path, Color, Size, Literal["a", 1, None], Literal["red"], list[int], list, list[float],
    set[int], frozenset[str], tuple[int, str], tuple[int, ...], dict, dict[str, int], dict[int, str], Left | Right,
    Left, Point, Address, Pair, Point | None, list[Point], list[int] | int, list[str] | str, list[int] | list[str],
    dict[str, int] | None, Sequence[int], Mapping[str, int], UserId, Annotated[int, "x"], Model, One | Two,
    Annotated[int, pydantic.Field(ge=1)], Annotated[float, pydantic.Field(le=9)], list[Model], Model | None,
    dict[str, Point], list[bool], tuple[bool, float], dict[str, list[int]], Optional[Address], datetime.date | None,
]  # fmt: skip
PLAIN = [
    0, 1, 2, 5, -1, 1.0, 1.5, 0.0, True, False, None, 86400, 86400.0, 1577934245, 1577934245000, 2**63, 10**30, 1e300,
    "", "5", " 5 ", "5.0", "5.", "5.00", ".5", "1.5", "+5", "-5", "--5", "1_000", "1__0", "_1", "0x5", "1e3", "٣",
    "00", "-0", "true", "True", "TRUE", " true", "yes", "Yes", "no", "on", "off", "t", "F", "y", "N", "0", "1", "2",
    "null", "None", "nan", "inf", "1e999", "a", "red", "RED", "SMALL", "1" * 2_000, "2020-01-02", "2020-01-02T00:00:00",
    "2020-01-02T03:04:05Z", "2020-01-02 03:04", "03:04", "03:04:05.5Z", "1577934245", "1577934245000", "86400",
    "00000000-0000-0000-0000-000000000000", '"5"', "[", "[1]", '["a"]', '[1,"2"]', "[[1]]", "{}", '{"a":1}',
    '{"x":"1","z":2}', '{"price":"1"}',
]  # fmt: skip
MEMBERS = st.sampled_from(["a", "b", "x", "y", "z", "street", "number", "left", "right", "price", "1", "1.0", "-1"])
VALUES = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=6,
)
VALUES |= VALUES.map(json.dumps)


def parts(value: Any) -> list[Any]:
    """A value and all that is in it, also where it is written in a text."""
    out = [value]
    if isinstance(value, dict):
        out += [part for item in (*value, *value.values()) for part in parts(item)]
    elif isinstance(value, list):
        out += [part for item in value for part in parts(item)]
    elif isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            out += parts(json.loads(value))
        except ValueError:
            pass
    return out


def differs_for_a_reason(annotation: Any, value: Any) -> bool:
    """The differences from the official SDK, each with why it is one."""
    written, found = repr(annotation), parts(value)
    # A parameter that takes any text keeps the text: the SDK makes a list of '["a"]' for Any, str | int, Path, ...
    if isinstance(value, str) and any(word in written for word in ("str", "Any", "Path", "Address")):
        return True
    # No number that is not finite, wherever the text of one stands: JSON has none, and comparisons with it are false.
    texts = [part for part in found if isinstance(part, str)]
    if any(not math.isfinite(number) for number in map(as_float, texts)):
        return True
    # 1 and true are two values for a choice; a choice of numbers takes their text; 1.0 is the integer 1 of JSON.
    if "Literal" in written or "Size" in written:
        return True
    # A named tuple passes over what it does not have, as a dataclass does: the SDK refuses it there alone.
    if "Pair" in written and any(isinstance(part, dict) and part.keys() - {"left", "right"} for part in found):
        return True
    # An integer that JSON writes as 1.0 is an integer: bool | int reads it as one, and 1e300 is as good a one.
    if (
        ("int" in written or "UserId" in written)
        and ("bool" in written or 1e300 in found)
        and any(type(part) is float for part in found)
    ):
        return True
    if sys.version_info < (3, 11) and "datetime" in written:
        return True  # `fromisoformat` reads fewer of the forms of ISO 8601 there
    # `datetime.time.fromisoformat` reads hours alone from Python 3.11 on; all of these read a blank for a T.
    return "datetime" in written and any(part in ("00", "2020-01-02 03:04") for part in texts)


def as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def outcome(bind: Any, value: Any) -> Any:
    try:
        return bind({"value": value})["value"]
    except (BadArguments, pydantic.ValidationError):
        return "refused"


SIGNATURES = [(annotation, taking(annotation)) for annotation in TYPES]


def judged(annotation: Any) -> Any:
    def tool(value: Any) -> None: ...

    tool.__annotations__ = {"value": annotation}
    return func_metadata(tool).validate_arguments


JUDGES = [judged(annotation) for annotation in TYPES]


@pytest.mark.parametrize("index", range(len(TYPES)), ids=lambda index: repr(TYPES[index]))
def test_plain_values_are_read_as_the_official_sdk_reads_them(index: int) -> None:
    annotation, signature = SIGNATURES[index]
    for value in PLAIN:
        ours, theirs = outcome(signature.bind, value), outcome(JUDGES[index], value)
        assert same(ours, theirs) or differs_for_a_reason(annotation, value), (annotation, value, ours, theirs)


@pytest.mark.long
@settings(deadline=None, max_examples=400)
@given(st.integers(0, len(TYPES) - 1), VALUES)
def test_so_are_others(index: int, value: Any) -> None:
    annotation, signature = SIGNATURES[index]
    ours, theirs = outcome(signature.bind, value), outcome(JUDGES[index], value)
    assert same(ours, theirs) or differs_for_a_reason(annotation, value), (annotation, value, ours, theirs)


def test_strict_takes_what_the_schema_allows_of_pydantic_too() -> None:
    class Order(pydantic.BaseModel):
        count: int
        day: datetime.date
        sizes: set[int] = set()
        point: Optional[Point] = None

    right = {"count": 1.0, "day": "2020-01-02", "sizes": [1, 2.0], "point": {"x": 1, "y": 2}}
    expected = Order(count=1, day=datetime.date(2020, 1, 2), sizes={1, 2}, point=Point(1, 2.0))
    for annotation, value, made in ((Order, right, expected), (list[Order], [right], [expected])):
        assert read(annotation, value, strict=True) == made
        assert read(annotation, value) == made
    for wrong in (
        {**right, "count": "1"},
        {**right, "sizes": ["1"]},
        {**right, "point": {"x": "1"}},
        json.dumps(right),
    ):
        assert isinstance(read(Order, wrong), Order)
        with pytest.raises(BadArguments):
            read(Order, wrong, strict=True)


@settings(deadline=None)
@given(VALUES)
def test_an_integer_is_one_of_pydantic_as_well(value: Any) -> None:
    annotation = Annotated[int, pydantic.Field()]
    one, other = taking(annotation, strict=True), taking(int, strict=True)
    assert same(outcome(one.bind, value), outcome(other.bind, value)) or value == 1e300


def test_what_a_user_filled_in_is_read_by_the_same_rule() -> None:
    @dataclasses.dataclass
    class Form:
        count: int
        sure: bool = False
        share: Optional[float] = None
        day: Optional[datetime.date] = None

    class Same(pydantic.BaseModel):
        count: int
        sure: bool = False

    filled = {"count": "3", "sure": "true"}
    assert read_elicited(Form, {**filled, "share": "0.5", "more": 1}) == Form(3, True, 0.5)
    assert read_elicited(Same, filled) == Same(count=3, sure=True)
    for wrong in ({"count": "x"}, {"count": 1, "share": "nan"}, {"count": 1, "sure": "maybe"}):
        with pytest.raises(ValueError, match="expected"):
            read_elicited(Form, wrong)


@dataclasses.dataclass
class Opaque:
    number: Any
    count: int = 0

    def __post_init__(self) -> None:
        self.number = object()


def test_a_schema_holds_for_the_value_as_it_was_sent_where_what_was_made_of_it_has_no_json() -> None:
    annotation = Annotated[Opaque, {"minProperties": 2}]
    assert read(annotation, {"number": 1, "count": "1"}).count == 1
    with pytest.raises(BadArguments, match="at least 2 members"):
        read(annotation, '{"number": 1}')


def test_a_text_of_very_many_values_is_not_read_as_json() -> None:
    most = "[" + "1," * (MAX_PARSED - 10) + "1]"
    assert len(within(IN_THREAD, read, list[int], most)) == MAX_PARSED - 9
    with pytest.raises(BadArguments, match="expected array, got string"):
        within(IN_THREAD, read, list[int], "[" + "1," * (MAX_PARSED + 1) + "1]")


def test_no_text_is_the_context_of_a_prompt() -> None:
    def prompt(ctx: Color, **rest: int) -> None: ...

    prompt.__annotations__ = {"ctx": Color, "rest": int}
    signature = describe(prompt, context_type=Color)
    assert signature.bind_text({"a": "1"}) == {"a": 1}
    with pytest.raises(BadArguments, match="ctx: unknown"):
        signature.bind_text({"a": "1", "ctx": "red"})
    with pytest.raises(BadArguments, match='a: expected integer, written as text like "3"'):
        signature.bind_text({"a": "x"})


DIFFERENCES: list[tuple[Any, Any, Any, Any]] = [
    (float, "inf", math.inf, "refused"),
    (float, "1e999", math.inf, "refused"),
    (Optional[str], "null", None, "null"),
    (Any, "[1]", [1], "[1]"),
    (pathlib.Path, '{"a":1}', "refused", pathlib.Path('{"a":1}')),
    (Union[int, bool], 1.0, 1, 1),
    (Union[bool, int], 1.0, True, 1),
    (int, 1e300, "refused", int(1e300)),
    (Union[float, int], "5", 5.0, 5),
    (Literal[1], True, 1, "refused"),
    (Literal[1, 2], "1", "refused", 1),
    (Size, True, Size.SMALL, "refused"),
    (Union[datetime.date, str], "2020-01-02", "2020-01-02", datetime.date(2020, 1, 2)),
    (Union[Color, str], "red", "red", Color.RED),
    (Pair, {"left": 1, "more": 1}, "refused", Pair(1)),
    (bytes, "AP8=", b"AP8=", b"\x00\xff"),
]


@pytest.mark.parametrize(("annotation", "value", "theirs", "ours"), DIFFERENCES)
def test_the_page_names_every_difference_from_the_official_sdk(
    annotation: Any, value: Any, theirs: Any, ours: Any
) -> None:
    assert same(outcome(judged(annotation), value), theirs)
    assert same(outcome(taking(annotation).bind, value), ours)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "arguments.md"


@pytest.fixture(scope="module")
def generate() -> Any:
    spec = importlib.util.spec_from_file_location("argument_tables", PAGE.parent / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["argument_tables"] = module  # where pydantic and dataclasses look for names
    spec.loader.exec_module(module)
    return module


def test_the_table_of_types_is_what_the_code_does(generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text("utf-8")
    assert generate.generated(PAGE.name, text) == text, "run: python docs/generate.py"
    monkeypatch.setattr(generate, "ANNOTATIONS", generate.ANNOTATIONS[1:])
    assert generate.generated(PAGE.name, text) != text


def test_the_table_is_what_a_schema_checker_and_the_settings_say(generate: Any) -> None:
    """Judged without our readers: what strict takes is what the schema allows."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = {cells[0]: cells for cells in (re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines)}
    for label, annotation, values in generate.ANNOTATIONS:
        signature = taking(annotation)
        checker = jsonschema.Draft202012Validator(signature.input_schema)
        if label not in ("`datetime`", "`date`", "`time`", "`UUID`", "`Decimal`", "`bytes`"):  # `format` is no rule
            cells = rows[label.replace("|", "\\|")]
            for value in values:
                written = f"`{json.dumps(value)}`".replace("|", "\\|")
                assert checker.is_valid({"value": value}) == (written in cells[2]), (label, value)


def test_a_required_name_that_is_missing_is_named_with_the_one_that_is_nearly_it() -> None:
    def tool(customer_id: int, place: Address, limit: int = 3) -> None: ...

    signature = describe(tool)
    right: dict[str, Any] = {"customer_id": 1, "place": {"street": "s"}}
    for wrong, says in (
        ({"customerId": 1}, "customer_id: missing, expected integer (did you mean it by 'customerId'?)"),
        ({"customer_ID": 1}, "(did you mean it by 'customer_ID'?)"),
        ({"costumer_id": 1, "toolCallId": 1}, "(did you mean it by 'costumer_id'?)"),
        ({"toolCallId": 1}, "customer_id: missing, expected integer"),
        ({"x" * 1_000: 1}, "customer_id: missing, expected integer"),
    ):
        for options in ({}, {"refuse_extra": True}):
            with pytest.raises(BadArguments) as caught:
                describe(tool, **options).bind({"place": right["place"], **wrong})
            assert caught.value.problems[0].endswith(says)
    with pytest.raises(
        BadArguments, match=r"place.street: missing, expected string \(did you mean it by 'streeet'\?\)"
    ):
        signature.bind({**right, "place": {"streeet": "s"}})


def test_comparing_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("difflib.get_close_matches", lambda word, others, n: compared.append(len(list(others))) or [])
    wide = dataclasses.make_dataclass("Wide", [(f"name_{number}", int) for number in range(30)])
    given_ = {f"other_{number}": 1 for number in range(1_000)}
    for value in (given_, {"a": 1, **given_}):
        compared.clear()
        with pytest.raises(BadArguments):
            read(list[wide], [value] * 1_000)  # type: ignore[valid-type]
        assert max(compared) == 10 and len(compared) <= 2 * 2 * 5  # two readings, of two objects each
    compared.clear()
    with pytest.raises(BadArguments):
        read(Union[wide, Point], given_)
    assert not compared


def test_an_argument_with_a_header_has_one_name() -> None:
    def tool(value: Any) -> None: ...

    for names, is_fine in ((pydantic.AliasChoices("tenant", "owner"), False), (pydantic.AliasChoices("tenant"), True)):
        annotation = Annotated[str, ParamHeader("Tenant"), pydantic.Field(validation_alias=names)]
        holder = dataclasses.make_dataclass("Holder", [("inner", annotation)])
        for wanted, given_ in ((annotation, {"tenant": "a"}), (holder, {"value": {"tenant": "a"}})):
            tool.__annotations__ = {"value": wanted}
            if is_fine:
                assert describe(tool).bind(given_)
            else:
                with pytest.raises(TypeError, match="has a ParamHeader, and so one name in JSON, not 2"):
                    describe(tool)


def test_the_example_runs() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(compile(source, "arguments.md", "exec"), names)
    tool = names["server"]._catalogue.tools["search"]
    assert tool.bind({"query": "q", "limit": "2"}) == {"query": "q", "limit": 2}
    with pytest.raises(BadArguments, match="more: unknown"):
        tool.bind({"query": "q", "more": 1})


def test_a_number_is_an_integer_where_it_may_be_one() -> None:
    """The SDK makes 5.0 of "5" for float | int, and 5 for int | float; they are equal, and one type here."""
    for annotation in (float | int, int | float):
        assert same(read(annotation, "5"), 5)
        assert same(read(annotation, "5.5"), 5.5)
        assert same(read(annotation, 5.0), 5.0)


def test_a_class_that_knows_the_names_comes_before_one_whose_types_fit_as_they_are() -> None:
    """As pydantic chooses: by the names first.  Strictly the first class is refused, and the second has a default."""
    assert same(read(One | Two, {"a": "00"}), One(a=0))
    assert same(taking(One | Two, strict=True, refuse_extra=True).bind({"value": {"a": "00"}})["value"], Two(b=0))


def test_an_integer_may_be_written_as_a_float_of_any_size() -> None:
    """In a schema 1e19 is an integer; pydantic takes floats of up to 64 bits for one."""
    positive = Annotated[int, pydantic.Field(ge=1)]
    for number in (1e19, 1e300):
        assert same(read(int, number), int(number))
        assert same(read(positive, number), int(number))
        assert same(read(list[positive], [number, "7"]), [int(number), 7])  # type: ignore[valid-type]
    with pytest.raises(BadArguments):
        read(positive, -1e19)


# All but the union of classes with defaults, of which the test above says why.
ONE_READING = [index for index, annotation in enumerate(TYPES) if annotation != One | Two]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(ONE_READING), VALUES)
def test_what_strict_reads_is_read_as_the_same_value(index: int, value: Any) -> None:
    annotation, signature = SIGNATURES[index]
    strict = outcome(taking(annotation, strict=True, refuse_extra=True).bind, value)
    assert strict == "refused" or same(strict, outcome(signature.bind, value))
