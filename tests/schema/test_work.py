# SPDX-License-Identifier: MIT
"""No message holds the event loop for long: reading and checking cost work in proportion to the bytes, with a bound.

Work is counted by the lines of Python that run, never by the clock: a busy machine runs as many.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import json
import sys
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, Union

import pydantic
import pytest
from hypothesis import assume, given
from rawclient import Modern, RawClient
from schema_strategies import LEAVES, schemas, values
from serving import lives, request, served

from mcp_h11 import MCPServer
from mcp_h11.protocol.codec import has_more_values
from mcp_h11.protocol.errors import InvalidRequest
from mcp_h11.protocol.jsonrpc import JSON, LARGE, MAX_MESSAGE_VALUES
from mcp_h11.schema.arguments import BadArguments
from mcp_h11.schema.documents.equality import canonical
from mcp_h11.schema.documents.mismatch import Mismatch
from mcp_h11.schema.documents.validator import CompiledSchema, validate
from mcp_h11.schema.documents.work import (
    IN_THREAD,
    MAX_HASHED,
    MAX_HASHED_ON_LOOP,
    MAX_PARSED,
    ON_LOOP,
    TooMuchWork,
    is_bounded,
    may_hash,
    may_parse,
    size,
    spend,
    within,
)
from mcp_h11.schema.forms import read_elicited
from mcp_h11.schema.signature import describe

LINES_OF_A_UNIT = 12  # of Python, for one unit of work: far more than any reader runs


def lines(fn: Callable[[], Any]) -> int:
    """The lines of Python that a call runs."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fn()
    except (TooMuchWork, BadArguments):
        pass
    finally:
        sys.settrace(before)
    return count


# --- what was reported ---------------------------------------------------------------------------------------------

LETTERS = [f"choice {n}" for n in range(20_000)]
MEMBER = {"a": {"$ref": "#/$defs/n"}}
ARMS = [{"type": "object", "properties": MEMBER, "required": [name]} for name in "xyz"]
AMBIGUOUS = {"$defs": {"n": {"anyOf": ARMS}}, "type": "object", "properties": MEMBER}


def nested_objects(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": LETTERS}}, ["choice 19999"] * 5_000),
        ({"items": {"enum": [[n] for n in range(5_000)]}}, [[n] for n in range(5_000)]),
        ({"items": {"const": LETTERS}}, ["a"] * 5_000),
        (AMBIGUOUS, nested_objects(60)),
        ({"uniqueItems": True}, [f"{n}" for n in range(20_000)]),
        ({"uniqueItems": True}, list(range(10_000))),
        ({"uniqueItems": True}, [[n] for n in range(5_000)]),
        ({"items": {"required": LETTERS}}, [{}] * 5_000),
        ({"items": {"properties": {name: {"type": "null"} for name in LETTERS}}}, [{}] * 10_000),
        ({"items": {"contains": {"type": "null"}}}, [[1] * 10] * 1_000),
        ({"items": {"dependentRequired": {name: ["a"] for name in LETTERS}}}, [{}] * 5_000),
        ({"items": {"dependentSchemas": dict.fromkeys(LETTERS, False)}}, [{}] * 5_000),
        ({"items": {"anyOf": [{"const": name} for name in LETTERS[:200]]}}, ["choice 199"] * 2_000),
        ({"propertyNames": {"maxLength": 3}}, {f"{n}": 1 for n in range(20_000)}),
        ({"pattern": "(a+)+$", "patternProperties": {"(a+)+$": False}}, {"a" * 5_000 + "b": 1}),
    ],
    ids=str,
)
def test_a_check_on_the_loop_ends_within_its_bound(schema: Any, value: Any) -> None:
    check = CompiledSchema(schema)
    assert lines(lambda: within(ON_LOOP, check, value)) < ON_LOOP * LINES_OF_A_UNIT


def test_an_enumeration_is_written_out_once_and_not_for_each_value() -> None:
    check = CompiledSchema({"items": {"enum": LETTERS}})
    value = ["choice 1"] * 1_000
    assert lines(lambda: check(value)) < 40 * len(value)


def test_alternatives_that_refer_to_each_other_cost_no_more_at_each_level() -> None:
    check = CompiledSchema(AMBIGUOUS)
    shallow, deep = (lines(partial(check, nested_objects(depth))) for depth in (10, 40))
    assert deep < 6 * shallow
    assert check(nested_objects(40)) != []
    twice: dict[str, Any] = {"type": "array"}
    for _ in range(30):
        twice = {"oneOf": [{"oneOf": [twice]}]}
    assert lines(lambda: validate(twice, 1)) < 20_000


def test_the_same_object_at_two_places_has_its_problems_at_both() -> None:
    shared = {"b": 1}
    schema = {"$defs": {"d": {"properties": {"b": {"type": "null"}}}}, "additionalProperties": {"$ref": "#/$defs/d"}}
    assert validate(schema, {"x": shared, "y": shared}) == [
        "x.b: expected null, got integer",
        "y.b: expected null, got integer",
    ]


class Color(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Named(TypedDict):
    a: int


@dataclasses.dataclass
class Wide:
    a0: int = 0
    a1: int = 0
    a2: int = 0


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Aliased:
    a: Annotated[int, pydantic.Field(validation_alias=pydantic.AliasChoices("A", "AA"))]


@dataclasses.dataclass
class Tree:
    left: Tree | list[Tree] | None = None
    right: Tree | None = None


@pytest.mark.parametrize(
    ("annotation", "item", "fits"),
    [
        (list[int], 1, True),
        (list[Literal["a", "b", 1]], "a", True),
        (list[Literal["a", "b", 1]], [1], False),
        (list[Color], "red", True),
        (list[Union[bool, None, int]], 5, True),  # noqa: UP007
        (list[Union[Wide, Named]], {"a": 1}, True),  # noqa: UP007
        (list[Wide], {}, True),
        (list[Named], {"a": 1}, True),
        (list[Point], {"x": 1, "y": 2}, True),
        (list[dict[str, int]], {"a": 1}, True),
        (list[dict[int, int]], {"1": 1}, True),
        (list[set[str]], ["a", "b"], True),
        (list[set[int]], [1, 2], True),
        (list[frozenset[tuple[int, int]]], [[1, 2], [3, 4]], True),
        (list[Tree], {"left": {"left": [{}]}}, True),
        (list[tuple[int, str]], [1, "a"], True),
        (list[tuple[int, str]], [1, 2], False),
        (list[int], "5", True),
        (list[int], "x", False),
        (list[bool], "yes", True),
        (list[Union[Wide, Named]], {"aa": 1}, True),  # noqa: UP007  # nearly the name of a member
        (list[Union[Named, Point]], {"xx": 1}, False),  # noqa: UP007
        (deque[int], 1, True),
        (list[decimal.Decimal], "1.5", True),
        (list[datetime.timedelta], "P1DT2H", True),
        (list[uuid.UUID], "12345678123456781234567812345678", True),
        (list[Access], 3, True),
        (list[defaultdict[str, int]], {"a": 1}, True),
        (list[Counter[str]], {"a": 1}, True),
        (list[Annotated[int, {"minimum": 0}]], 1, True),
        (list[Annotated[int, pydantic.Field(ge=0)]], 1, True),
        (list[Aliased], {"A": 1}, True),
    ],
    ids=str,
)
def test_reading_costs_work_in_proportion_and_stops_at_the_bound(annotation: Any, item: Any, fits: bool) -> None:
    def tool(x: Any) -> None:
        pass

    tool.__annotations__["x"] = annotation
    read = describe(tool)._read.args[1]  # type: ignore[attr-defined]  # without the bound of its own
    few, many = ({"x": [copy.deepcopy(item) for _ in range(n)]} for n in (100, 800))
    if fits:
        assert len(within(IN_THREAD, read, few)["x"]) == 100
    base = lines(lambda: _quietly(read, few))
    assert lines(lambda: _quietly(read, many)) < 9 * base + 100
    huge = {"x": [item] * (ON_LOOP + 1)}
    assert lines(lambda: _quietly(within, ON_LOOP, read, huge)) < ON_LOOP * LINES_OF_A_UNIT


def _quietly(fn: Any, *args: Any) -> None:
    try:
        fn(*args)
    except (Mismatch, TooMuchWork):
        pass


@given(schemas, values)
def test_work_grows_no_faster_than_the_value(schema: Any, value: Any) -> None:
    check = CompiledSchema({"items": {**schema, "$defs": LEAVES}})
    # As a server gets it: nothing in it is the same object.
    few, many = (json.loads(json.dumps([value] * n)) for n in (4, 32))
    base = lines(lambda: check(few))
    assert lines(lambda: check(many)) <= 8 * base + 200


@given(schemas, values)
def test_work_grows_no_faster_than_the_depth(schema: Any, value: Any) -> None:
    arms = [schema, {"type": "object", "additionalProperties": {"$ref": "#/$defs/n"}}]
    for keyword in ("anyOf", "oneOf", "allOf"):
        check = CompiledSchema({"$defs": {**LEAVES, "n": {keyword: [*arms, *arms]}}, "$ref": "#/$defs/n"})
        costs = []
        for depth in (4, 16):
            nested = value
            for _ in range(depth):
                nested = {"k": nested}
            costs.append(lines(partial(check, nested)))
        assert costs[1] <= 5 * costs[0] + 1_000


# --- what is counted -----------------------------------------------------------------------------------------------


def test_a_bound_holds_at_the_limit_and_not_before() -> None:
    assert within(3, lambda: spend(3)) is None
    with pytest.raises(TooMuchWork, match="too large to be checked"):
        within(3, lambda: spend(4))
    assert not is_bounded()


def test_the_outer_bound_goes_on_holding() -> None:
    with pytest.raises(TooMuchWork):
        within(3, within, 1_000, spend, 4)
    assert within(5, lambda: (spend(4), is_bounded()))[1] is True


@given(values, values)
def test_texts_are_equal_where_json_values_are(one: Any, two: Any) -> None:
    assume(not isinstance(one, float) or one == one)
    assert (canonical(one) == canonical(two)) == (_typed(one) == _typed(two))


def _typed(value: Any) -> Any:
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        (1e22, 10**22, True),
        ([1e22], [10**22], True),
        (2**53 + 1, float(2**53), False),
        (10**400, 1e308, False),
        (-0.0, 0, True),
        ("1", 1, False),
        ("[]", [], False),
        (1.5, 1.5, True),
    ],
)
def test_large_numbers_are_compared_as_numbers(one: Any, two: Any, equal: bool) -> None:
    assert (canonical(one) == canonical(two)) is equal
    assert len(canonical(1e308)) < 10


def test_a_set_of_numbers_that_a_client_can_make_collide_is_small() -> None:
    colliding = [n * (2**61 - 1) for n in range(MAX_HASHED + 1)]
    may_hash([str(n) for n in colliding])
    within(0, may_hash, colliding[:MAX_HASHED_ON_LOOP])
    with pytest.raises(TooMuchWork):
        within(ON_LOOP, may_hash, colliding[:MAX_HASHED])
    within(IN_THREAD, may_hash, colliding[:MAX_HASHED])
    with pytest.raises(Mismatch):
        may_hash(colliding)

    def numbers(x: set[int]) -> None: ...

    def keys(x: dict[int, str]) -> None: ...

    for fn, value in ((numbers, colliding), (keys, {str(n): "" for n in colliding})):
        with pytest.raises(BadArguments, match=f"at most {MAX_HASHED} items that are not strings"):
            within(IN_THREAD, describe(fn).bind, {"x": value})
    assert describe(keys).bind({"x": {"1": "a", "2": "b"}}) == {"x": {1: "a", 2: "b"}}


def test_a_text_is_parsed_only_where_it_has_no_more_values_than_a_message() -> None:
    text = "[" + "0," * (MAX_PARSED - 2) + "0]"
    may_parse(text)
    with pytest.raises(ValueError, match="more than"):
        may_parse(text + ",,")
    with pytest.raises(TooMuchWork):
        within(ON_LOOP, lambda: (may_parse(text), may_parse(text)))

    def prompt(x: list[int]) -> None: ...

    with pytest.raises(BadArguments):
        within(IN_THREAD, describe(prompt).bind_text, {"x": text + ",,"})
    with pytest.raises(TooMuchWork):
        describe(prompt).bind_text({"x": text})


def test_a_value_is_counted_for_a_reader_that_cannot_be_interrupted() -> None:
    assert size({"a": [1, {"b": 2}]}) == 5
    with pytest.raises(TooMuchWork):
        within(10, size, [[0] * 100])


def test_a_form_that_is_too_large_to_be_checked_is_refused() -> None:
    @dataclasses.dataclass
    class Form:
        picks: list[Literal["a"]]

    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["a"]}}}}
    with pytest.raises(ValueError, match="too large"):
        read_elicited(schema, {"a": ["a"] * ON_LOOP})
    with pytest.raises(ValueError, match="too large"):
        read_elicited(Form, {"picks": ["a"] * (ON_LOOP + 1)})


# --- decoding ------------------------------------------------------------------------------------------------------


def message(value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":%b}}' % value


# Values and names of the envelope: `{`, `:` and `,` stand before seven, and `{` and `:` of params before two.
ENVELOPE = 10


@pytest.mark.parametrize("codec", [None, "orjson"])
def test_more_values_than_the_limit_are_refused_before_they_are_parsed(codec: Any) -> None:
    reader = JSON(codec and pytest.importorskip(codec), MAX_MESSAGE_VALUES)
    fits = message(b"[" + b",".join([b"0"] * (MAX_MESSAGE_VALUES - ENVELOPE)) + b"]")
    assert len(reader.decode(fits).params["x"]) == MAX_MESSAGE_VALUES - ENVELOPE  # type: ignore[union-attr]
    more = message(b"[" + b",".join([b"0"] * (MAX_MESSAGE_VALUES - ENVELOPE + 1)) + b"]")
    with pytest.raises(InvalidRequest, match="more than 150000 values"):
        reader.decode(more)
    assert JSON().decode(more).params["x"]  # type: ignore[union-attr]  # a client's end has no such limit


@pytest.mark.parametrize("unit", [b"[]", b"{}", b'""', b'{"a":1}', b"1e9", b"[[[]]]", b'"\\"",""', b'"[","]"'])
def test_all_kinds_of_values_are_counted(unit: bytes) -> None:
    body = message(b"[" + b",".join([unit] * (4 * 2**20 // (len(unit) + 1))) + b"]")
    with pytest.raises(InvalidRequest, match="values"):
        JSON(max_values=MAX_MESSAGE_VALUES).decode(body)


@pytest.mark.parametrize("unit", [b",", b"[", b"{:", b"\\\\,", b'\\",', b"a,b;", "é,".encode(), b"9" * 1_001])
def test_a_text_may_hold_anything(unit: bytes) -> None:
    body = message(b'["' + unit * (4 * 2**20 // len(unit)) + b'"]')
    assert JSON(max_values=MAX_MESSAGE_VALUES).decode(body).params["x"][0]  # type: ignore[union-attr]


def test_long_integers_count_for_what_they_cost() -> None:
    body = message(b"[" + b",".join([b"9" * 4_300] * 900) + b"]")
    assert has_more_values(body, MAX_MESSAGE_VALUES)
    assert not has_more_values(body[: 2**20], MAX_MESSAGE_VALUES)


def test_the_limit_holds_for_large_bodies_only() -> None:
    small = message(b"[" + b",".join([b"0"] * 20_000) + b"]")
    assert len(small) < LARGE
    assert JSON(max_values=1).decode(small)


# --- on the wire ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_call_that_is_too_much_for_the_loop_is_bound_in_a_thread() -> None:
    handler = MCPServer("demo")
    schema = {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "integer"}}}}
    where: list[bool] = []

    @handler.tool
    async def total(x: list[int]) -> str:
        where.append(is_bounded())
        return str(sum(x))

    @handler.tool(input_schema=schema)
    async def own(x: Any) -> str:
        return str(sum(x))

    @handler.tool
    async def many(n: int) -> list[int]:
        return [1] * n

    async with served(handler) as server:
        client = Modern(server.port)
        ones = [1] * (ON_LOOP + 10)
        for name in ("total", "own"):
            answer = await client.call("tools/call", {"name": name, "arguments": {"x": ones}})
            assert answer.result["content"][0]["text"] == str(len(ones))
            answer = await client.call("tools/call", {"name": name, "arguments": {"x": [*ones, "a"]}})
            assert answer.result["isError"]
            assert f"x[{len(ones)}]: expected integer" in answer.result["content"][0]["text"]
        answer = await client.call("tools/call", {"name": "many", "arguments": {"n": ON_LOOP + 10}})
        assert len(answer.result["structuredContent"]["result"]) == ON_LOOP + 10
        assert where == [False]


@pytest.mark.anyio
async def test_what_is_too_much_for_a_thread_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.handler.answers.IN_THREAD", 100)
    monkeypatch.setattr("mcp_h11.schema.arguments.ON_LOOP", 50)
    handler = MCPServer("demo")

    @handler.tool
    async def total(x: list[int]) -> str:
        raise AssertionError

    @handler.prompt
    async def sums(x: list[int]) -> str:
        raise AssertionError

    @handler.resource("sum://{x}")
    async def added(x: list[int]) -> str:
        raise AssertionError

    @handler.tool
    async def many(n: int) -> list[int]:
        return [1] * n

    text = json.dumps([1] * 1_600, separators=(",", ":"))
    async with served(handler) as server:
        client = Modern(server.port)
        asked = [
            ("tools/call", {"name": "total", "arguments": {"x": [1] * 120}}),
            ("prompts/get", {"name": "sums", "arguments": {"x": text}}),
            ("resources/read", {"uri": f"sum://{text.replace('[', '%5B').replace(']', '%5D').replace(',', '%2C')}"}),
        ]
        for method, params in asked:
            answer = await client.call(method, params)
            assert answer.error["code"] == -32602
            assert "too large" in answer.error["message"]
        answer = await client.call("tools/call", {"name": "many", "arguments": {"n": 120}})
        assert answer.result["isError"]
        assert "too large" in answer.result["content"][0]["text"]


@pytest.mark.anyio
async def test_a_body_of_too_many_values_is_400_and_the_next_one_is_served() -> None:
    async with served(MCPServer("demo")) as server, RawClient(server.port) as client:
        body = message(b"[" + b"[]," * (MAX_MESSAGE_VALUES // 2) + b"[]]")
        await client.send(request(body, MCP_Protocol_Version="2026-07-28", Mcp_Method="m"))
        answer = await client.receive("POST")
        assert answer.status == 400
        assert answer.json()["error"]["code"] == -32600
        assert "max_values" in answer.json()["error"]["message"]
        await lives(client)
