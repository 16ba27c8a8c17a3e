# SPDX-License-Identifier: MIT
"""Types of the standard library that the official SDK takes: decimals, durations, more containers, flags, generics."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from typing import Any, ClassVar, DefaultDict, Generic, NamedTuple, TypeVar  # noqa: UP035

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver import MCPServer as Official
from typing_extensions import TypedDict

from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.documents.mismatch import kind
from mcp_h11.schema.documents.validator import validate
from mcp_h11.schema.forms import elicitation_schema, read_elicited
from mcp_h11.schema.members import substituted, type_variables
from mcp_h11.schema.outputs import BadResult
from mcp_h11.schema.pydantic_types import is_pydantic, is_pydantic_metadata
from mcp_h11.schema.scalars import MAX_DIGITS_OF_DECIMAL, to_timedelta
from mcp_h11.schema.signature import describe
from mcp_h11.schema.tojson import duration, to_json

T = TypeVar("T")
U = TypeVar("U")


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Chain(Generic[T]):
    value: T
    next: Chain[T] | None = None


@dataclasses.dataclass
class Numbers(Box[int], Generic[U]):
    other: U | None = None


class Row(TypedDict, Generic[T]):
    cell: T


class Pair(NamedTuple):
    a: int


@pydantic.dataclasses.dataclass
class Made(Generic[T]):
    item: T


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Bits(enum.IntFlag):
    A = 1
    C = 4


class Both(enum.Flag):
    LOW = 3


class Every(enum.IntFlag):
    A = 1
    ALL = -1


TAKEN: list[tuple[Any, Any]] = [
    (Decimal, 1.5), (Decimal, 2), (Decimal, "1.50"), (Decimal, 0.1), (Decimal, "NaN"), (Decimal, True), (Decimal, "x"),
    (Decimal, None), (dict[Decimal, int], {"1.5": 1}), (dict[Decimal, int], {"x": 1}),
    (datetime.timedelta, 1.5), (datetime.timedelta, "P1DT2H"), (datetime.timedelta, "-PT30M"),
    (datetime.timedelta, "01:30:00"), (datetime.timedelta, "3 days, 1:00:00"), (datetime.timedelta, "1 d"),
    (datetime.timedelta, "P"), (datetime.timedelta, "P1H"), (datetime.timedelta, "1:30"), (datetime.timedelta, "a"),
    (datetime.timedelta, ""), (datetime.timedelta, "P1Y2M3W"), (datetime.timedelta, "PT0.5S"), (datetime.timedelta, []),
    (datetime.timedelta, "P999999999Y"), (datetime.timedelta, "1 days 25:60:00"),
    (deque[int], [1, 2]), (deque, [1, "a"]), (deque[int], ["a"]), (deque[int], {}), (deque[int], ["1"]),
    (defaultdict[str, int], {"a": 1}), (defaultdict[str, list[int]], {"a": [1]}), (DefaultDict[str, int], {"a": "b"}),  # noqa: UP006
    (OrderedDict[str, int], {"b": 1, "a": 2}), (Counter[str], {"a": 1}), (Counter[str], {"a": "x"}),
    (Counter[int], {"1": 2}),
    (Access, 1), (Access, 3), (Access, 0), (Access, 7), (Access, "READ"),
    (Bits, 5), (Bits, 1),
    (Box[int], {"item": 1}), (Box[int], {"item": 1, "more": [2]}), (Box[int], {"item": "a"}),
    (Box[list[str]], {"item": ["a"], "more": [["b"]]}), (Box, {"item": {}}), (Numbers[str], {"item": 1, "other": "a"}),
    (Chain[int], {"value": 1, "next": {"value": 2}}),
    (Chain[int], {"value": 1, "next": {"value": "a"}}), (Row[int], {"cell": 1}), (Row[int], {"cell": "a"}),
    (Made[int], {"item": 1}), (Made[int], {"item": "a"}),
]  # fmt: skip


if sys.version_info[:3] not in ((3, 11, 0), (3, 11, 1), (3, 11, 2)):  # these make `Access(8)` an `Access(0)`
    TAKEN.append((Access, 8))


@pytest.mark.anyio
@pytest.mark.parametrize(("annotation", "value"), TAKEN, ids=str)
async def test_a_value_is_taken_exactly_where_the_official_sdk_takes_it(annotation: Any, value: Any) -> None:
    seen: list[Any] = []

    def tool(x: Any) -> None:
        seen.append(x)

    tool.__annotations__["x"] = annotation
    official = Official("official")
    official.add_tool(tool)
    try:
        await official.call_tool("tool", {"x": value})
    except Exception:
        assert not seen
    signature = describe(tool)
    try:
        tool(**signature.bind({"x": value}))
    except BadArguments:
        assert not seen
        return
    official_made, ours = seen
    assert ours == official_made and type(ours) is type(official_made)
    if isinstance(ours, defaultdict):
        assert ours.default_factory is official_made.default_factory
    # What the schema allows is what is read as it stands; numbers for durations are read beside that.
    if not (annotation is datetime.timedelta and not isinstance(value, str)) and value != ["1"]:
        assert validate(signature.input_schema, {"x": value}) == []


@given(st.timedeltas())
def test_a_duration_is_read_as_it_is_written(length: datetime.timedelta) -> None:
    written = duration(length)
    assert to_timedelta(written) == length == pydantic.TypeAdapter(datetime.timedelta).validate_python(written)
    assert to_json({"a": length}) == {"a": written}


@pytest.mark.parametrize(
    ("length", "written"),
    [
        (datetime.timedelta(0), "PT0S"),
        (datetime.timedelta(hours=25), "P1DT1H"),
        (datetime.timedelta(minutes=-90), "-PT1H30M"),
        (datetime.timedelta(microseconds=500_000), "PT0.5S"),
        (datetime.timedelta(days=2), "P2D"),
    ],
)
def test_a_duration_is_written_as_iso_8601_says(length: datetime.timedelta, written: str) -> None:
    assert duration(length) == written


def test_a_decimal_has_a_bounded_number_of_digits() -> None:
    def tool(x: Decimal) -> None: ...

    signature = describe(tool)
    assert signature.bind({"x": "9" * MAX_DIGITS_OF_DECIMAL})
    for bad in ("9" * (MAX_DIGITS_OF_DECIMAL + 1), "Infinity", "sNaN", "1 2"):
        with pytest.raises(BadArguments, match="x: expected number, or string that is a decimal number"):
            signature.bind({"x": bad})


def test_a_form_asks_for_a_decimal_as_text() -> None:
    @dataclasses.dataclass
    class Form:
        price: Decimal
        tax: Decimal | None = None

    shown = elicitation_schema(Form)["properties"]
    assert shown == {"price": {"type": "string"}, "tax": {"type": "string"}}
    assert read_elicited(Form, {"price": "1.50"}).price == Decimal("1.50")


def test_the_members_of_a_flag_are_said() -> None:
    def tool(x: Access, y: Access) -> None:
        """Grant.

        Args:
            y: What to allow
        """

    shown = describe(tool).input_schema["properties"]
    assert shown["x"] == {
        "type": "integer", "minimum": 0, "maximum": 7, "description": "a sum of 1 (READ), 2 (WRITE), 4 (RUN)",
    }  # fmt: skip
    assert shown["y"]["description"] == "What to allow: a sum of 1 (READ), 2 (WRITE), 4 (RUN)"


@pytest.mark.parametrize(("cls", "bad"), [(Bits, 2), (Bits, 8), (Access, 8), (Access, -1)])
def test_bits_of_no_member_are_refused(cls: Any, bad: int) -> None:
    def tool(x: Any) -> None: ...

    tool.__annotations__["x"] = cls
    with pytest.raises(BadArguments, match="x: expected a sum of"):
        describe(tool).bind({"x": bad})


def test_a_flag_of_all_bits_is_an_enumeration() -> None:
    def tool(x: Every) -> None: ...

    assert describe(tool).input_schema["properties"]["x"]["type"] == "integer"
    assert describe(tool).bind({"x": 1}) == {"x": Every.A}


def test_flags_come_back_as_results() -> None:
    def tool() -> Access: ...  # type: ignore[empty-body]

    assert describe(tool).content(Access.READ | Access.RUN)[1] == {"result": 5}


def test_type_variables_are_those_of_all_bases() -> None:
    assert type_variables(Numbers, (str,)) == {U: str, T: int}
    assert substituted(list[T], {T: int}) == list[int]  # type: ignore[valid-type]
    assert substituted(list[T], {U: int}) == list[T]  # type: ignore[valid-type]


def test_what_stands_in_a_base_holds_for_its_members() -> None:
    def tool(x: Numbers[str]) -> None: ...

    # pydantic takes anything here.
    with pytest.raises(BadArguments, match=r"x\.item: Input|x\.item: expected integer"):
        describe(tool).bind({"x": {"item": "a"}})


def test_two_generics_of_one_class_do_not_meet() -> None:
    def tool(a: Box[int], b: Box[str], c: Chain[int], d: Chain[str]) -> None: ...

    signature = describe(tool)
    found = signature.input_schema
    assert found["properties"]["a"]["properties"]["item"] == {"type": "integer"}
    assert found["properties"]["b"]["properties"]["item"] == {"type": "string"}
    assert len(found["$defs"]) == 2
    with pytest.raises(BadArguments, match=r"d\.value: expected string"):
        signature.bind({"a": {"item": 1}, "b": {"item": ""}, "c": {"value": 1}, "d": {"value": 1}})


# --- a plain class as result ---------------------------------------------------------------------------------------


class Base:
    number: int
    kind: ClassVar[str] = "k"
    _secret: str = "s"


class Plain(Base):
    text: str = "default"
    inner: Base | None = None

    def __init__(self, number: Any, inner: Base | None = None) -> None:
        self.number = number
        self.inner = inner
        self.more = 1


class Slotted:
    __slots__ = ("number",)
    number: int

    def __init__(self) -> None:
        self.number = 1


class Shown:
    number: int

    def to_content(self) -> dict[str, Any]:
        return {"type": "text", "text": "shown"}


@pytest.mark.anyio
async def test_a_plain_annotated_class_is_a_result_with_a_schema() -> None:
    def tool() -> Plain:
        return Plain(1, Plain(2))

    signature = describe(tool)
    assert signature.output_schema is not None
    assert signature.output_schema["required"] == ["number"]
    assert signature.output_schema["properties"].keys() == {"number", "text", "inner"}
    content, structured = signature.content(tool())
    assert structured == {"number": 1, "text": "default", "inner": {"number": 2, "text": "default", "inner": None}}
    assert content[0]["text"].startswith('{"number":1')
    official = Official("official")

    def flat() -> Base:  # the SDK has no plain class inside of another
        return Plain(1)

    official.add_tool(flat)
    theirs = (await official.list_tools())[0].output_schema
    ours = describe(flat).output_schema
    assert theirs is not None and ours is not None
    assert theirs["properties"].keys() == ours["properties"].keys() == {"number"}


def test_a_list_of_them_as_well() -> None:
    def tool() -> list[Slotted]: ...  # type: ignore[empty-body]

    signature = describe(tool)
    assert signature.content([Slotted()])[1] == {"result": [{"number": 1}]}
    assert signature.output_schema is not None
    assert signature.output_schema["properties"]["result"]["items"]["required"] == ["number"]


def test_what_its_annotations_do_not_allow_is_an_error() -> None:
    def tool() -> Plain: ...  # type: ignore[empty-body]

    signature = describe(tool)
    with pytest.raises(BadResult, match="number: expected integer, got string"):
        signature.content(Plain("a"))
    with pytest.raises(BadResult, match="has no JSON form"):
        signature.content(Plain(object()))
    unset = Plain(1)
    del unset.number
    with pytest.raises(BadResult, match="number: missing"):
        signature.content(unset)


@pytest.mark.parametrize("cls", [Shown, ValueError, range, ChainMap, type("Bare", (), {})])
def test_other_classes_are_shown_as_text(cls: Any) -> None:
    def tool() -> Any: ...

    tool.__annotations__["return"] = cls
    assert describe(tool).output_schema is None


@pytest.mark.parametrize("annotation", [Plain, ChainMap[str, int], complex, range])
def test_no_arguments_are_made_of_what_has_no_json_form(annotation: Any) -> None:
    def tool(x: Any) -> None: ...

    tool.__annotations__["x"] = annotation
    with pytest.raises(TypeError, match="has no JSON form"):
        describe(tool)


def test_a_value_that_json_does_not_have_is_called_by_its_python_type() -> None:
    assert [kind(value) for value in (None, True, 1, {}, {1})] == ["null", "boolean", "integer", "object", "set"]


def test_no_type_is_one_of_pydantic_while_pydantic_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pydantic.create_model("Model", a=(int, 1))
    assert is_pydantic(model) and not is_pydantic(int)
    monkeypatch.delitem(sys.modules, "pydantic")
    assert not is_pydantic(model) and not is_pydantic_metadata(1)
