# SPDX-License-Identifier: MIT
"""The outline of a text answers each check as the whole text does, and the parser gets what it got."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import cheap

from mcp_h11.protocol import codec as codec_module
from mcp_h11.protocol import jsonrpc, outlines
from mcp_h11.protocol.codec import MAX_DEPTH, has_more_values, too_deep
from mcp_h11.protocol.errors import InvalidRequest, ParseError
from mcp_h11.protocol.jsonrpc import JSON, Message, Request, Response
from mcp_h11.protocol.outlines import OUTLINED, outline
from mcp_h11.runtime.fairness import json_memory

STANDARD, FAST = JSON(max_values=60), JSON(orjson, max_values=60)

# Inside of a string each of these could be taken for something outside of it.
UNITS = ["a", " ", '"', "\\", '\\"', '"\\', "[", "]", "{", "}", ",", ":", "\n", "é", "\U0001f600", "\x7f", "\u2028"]
UNITS += ["1" * 19, "7" * 5_000, "null", '"id":', '"method":"x",', "\\u0069d", "[" * 130, '{"a":' * 30, "/", "\\\\"]
texts = st.builds(
    lambda units, times: "".join(units) * times,
    st.lists(st.sampled_from(UNITS), max_size=6),
    st.sampled_from([1, 2, 40, 300]),
)
names = st.sampled_from(["id", "method", "jsonrpc", "params", "result", "error", "text", "i\\d"]) | texts
values = st.recursive(
    texts | st.none() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)
SPELLINGS = ({}, {"ensure_ascii": False}, {"ensure_ascii": False, "separators": (",", ":")}, {"indent": 1})
REPEATS = [b"", b'"id":2,', b'"\\u0069d":2,', b'"jsonrpc":"2.0",', b'"text":1,']


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A message, with a member twice now and then, or nested, or with something cut out or put in."""
    params: Any = draw(st.dictionaries(names, values, max_size=5))
    for _ in range(draw(st.sampled_from([0, 0, MAX_DEPTH - 3, MAX_DEPTH]))):
        params = {"a": params}
    message = {"id": 1, "jsonrpc": "2.0", draw(st.sampled_from(["method", "x"])): "m", "params": params}
    body = json.dumps(message, **draw(st.sampled_from(SPELLINGS))).encode()
    body = b"{" + draw(st.sampled_from(REPEATS)) + body[1:]
    if draw(st.integers(0, 3)) == 0:
        at, cut = draw(st.integers(0, len(body))), draw(st.integers(0, 2))
        put = draw(st.sampled_from([b"", b'"', b"\\", b"[", b"}", b",", b"\xff", b'\\"']))
        body = body[:at] + put + body[at + cut :]
    return body


def emptied(value: Any, rough: Any) -> bool:
    """Whether `rough` is the value with some of its long strings emptied."""
    if isinstance(value, str) and isinstance(rough, str):
        return value == rough or (rough == "" and len(json.dumps(value)) > 250)
    if isinstance(value, list) and isinstance(rough, list):
        return len(value) == len(rough) and all(map(emptied, value, rough))
    # Objects are read as pairs: two long names of one object may both be emptied.
    return type(value) is type(rough) and repr(value) == repr(rough)


def pairs(pairs: list[tuple[str, Any]]) -> list[Any]:
    return [part for pair in pairs for part in pair]


def is_json(body: bytes) -> bool:
    try:
        codec_module._strict(body)
    except ParseError:
        return False
    return True


@pytest.mark.long
@settings(deadline=None)
@given(bodies())
def test_the_outline_is_the_same_text_with_long_strings_emptied(body: bytes) -> None:
    rough = outline(body)
    assert len(rough) <= len(body)
    if is_json(body):
        assert emptied(json.loads(body, object_pairs_hook=pairs), json.loads(rough, object_pairs_hook=pairs))


@pytest.mark.long
@settings(deadline=None)
@given(bodies(), st.integers(1, 80))
def test_each_check_answers_for_the_outline_what_it_answers_for_the_text(body: bytes, limit: int) -> None:
    rough = outline(body)
    if not is_json(body):
        return
    assert too_deep(rough) == too_deep(body)
    assert has_more_values(rough, limit, len(body)) == has_more_values(body, limit)
    assert json_memory(body) >= json_memory(rough)
    value = json.loads(body)
    # A "yes" of these two costs a closer look, and a "no" must be right.
    if jsonrpc._repeats(jsonrpc._members(body)):
        assert jsonrpc._may_repeat(rough, value)
    long = []
    json.loads(body, parse_int=lambda text: long.append(len(text.lstrip("-")) >= 19))
    if any(long):
        assert codec_module._has_digits(rough, 19, 6)


def verdict(codec: JSON, body: bytes) -> Any:
    try:
        message = codec.decode(body)
    except ParseError:
        return "refused"
    except InvalidRequest as error:
        return error.message if is_json(body) else "refused"
    return [(type(message).__name__, *(repr(getattr(message, name)) for name in type(message).__slots__))]


@pytest.mark.long
@settings(deadline=None)
@given(bodies())
@pytest.mark.parametrize("codec", [STANDARD, FAST], ids=["json", "orjson"])
def test_a_large_body_is_judged_by_its_outline_as_it_was_judged_by_all_its_bytes(codec: JSON, body: bytes) -> None:
    large = b'{"pad":"%b",%b' % (b"x" * 70_000, body[1:])
    with pytest.MonkeyPatch.context() as patch:
        for module in (codec_module, jsonrpc):
            patch.setattr(module, "outline", lambda text: text)
        before = verdict(codec, large)
    assert verdict(codec, large) == before


def of(text: bytes) -> bytes:
    return b'{"a":"%b","b":[1]}' % text


@pytest.mark.parametrize(
    "text",
    [
        b"x" * 5_000,
        b"x\\n" * 3_000,
        b'x\\"y and a little more of it, so that these are rare' * 3_000,
        b'\\\\\\"' + b"x" * 5_000,
        b"x" * 5_000 + b"\\\\",
        b"x" * 5_000 + b"\\\\" * 10,
        b'\\"' + b"x" * 200_000,
        b"[{,:" * 5_000,
    ],
)
def test_a_long_string_is_emptied_whatever_is_in_it(text: bytes) -> None:
    assert json.loads(of(text))
    assert outline(of(text)) == of(b"")
    assert outline(of(text) * 3) == of(b"") * 3


@pytest.mark.parametrize(
    "text",
    [
        b"x" * 255,  # short
        b'\\"' * 5_000,  # more quotes than the walk is worth
        b"x" * 5_000 + b"\\\\" * 20,  # a long run of backslashes
        b'\\\\\\"' * 5_000,
        b'\\"' + b'x\\\\\\"' + b"y" * 200 + (b'\\\\\\"' + b"y" * 200) * 100,
    ],
)
def test_a_string_stays_where_its_end_is_hard_to_find(text: bytes) -> None:
    assert json.loads(of(text))
    assert outline(of(text)) == of(text)
    assert outline(of(b"x" * 5_000) + of(text)) == of(b"") + of(text)


def test_a_walk_ends_where_it_does_not_pay() -> None:
    short = b"[" + b'"x",' * 5_000
    assert outline(short + b'"%b"]' % (b"y" * 5_000)) == short + b'"%b"]' % (b"y" * 5_000)
    few = b"[" + b'"x",' * 20
    assert outline(few + b'"%b"]' % (b"y" * 5_000)) == few + b'""]'


@pytest.mark.parametrize(
    "text",
    [
        (b"y" * 40 + b'\\\\\\"') * 14,  # quotes that might be ends, as many as are looked at
        b"x" * 600 + b'\\"',
        b"y" * 600 + b"\\\\" * 10,
        b'\\"' * 30 + b"z" * 2_000,
        b"x" * 20,
    ],
)
def test_a_walk_is_cheap_whatever_the_text_is_made_of(text: bytes) -> None:
    body = b"[" + b'"%b",' % text * (2**22 // len(text)) + b"1]"
    json.loads(body)
    with cheap(0.4):  # 4 MiB; a count of the quotes ahead of each string would take 2 s and more
        outline(body)
        outline(b'["%b",' % (b"w" * 2**22) + body[1:])


@pytest.mark.parametrize("text", [b"", b"1", b'"', b'"x', b'"' + b"x" * 5_000, b'"x\\"', b'"x\\"' + b"y" * 200_000])
def test_a_text_without_a_whole_string_is_its_own_outline(text: bytes) -> None:
    assert outline(text) == text


def test_the_limits_of_a_walk_are_those_that_the_texts_above_were_made_for() -> None:
    assert (OUTLINED, outlines._LONG_STRING, outlines._STRINGS, outlines._BACKSLASHES) == (4096, 256, 64, 32)
    assert max(len(name) for name in ("jsonrpc", "method", "params", "result", "error")) * 6 < outlines._LONG_STRING


# --- what large bodies are spared ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["null", "1" * 30, "\\u0069", '"id":1 "id":2', "[" * 300])
def test_a_codec_reads_and_writes_a_large_text_by_itself_whatever_it_says(text: str) -> None:
    class Counted:
        loads, dumps = staticmethod(orjson.loads), staticmethod(orjson.dumps)

    codec = JSON(Counted)
    long = (text + " and so on, and so on, and so on. ") * 3_000
    message: Message = Request(1, "m", {"text": long})
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"text": long}})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_strict", "standard_dumps"):
            patch.setattr(codec_module, name, None)
        patch.setattr(jsonrpc, "standard_dumps", None)
        patch.setattr(jsonrpc, "_members", None)
        found = codec.decode(body)
        written = codec.result(1, message.params)
        again = codec.decode(written)
    assert isinstance(found, Request) and found.params == message.params
    assert isinstance(again, Response) and again.result == message.params
    assert re.match(rb'{"jsonrpc":"2.0","id":1,"result":{"text":"', written)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_number_that_json_does_not_have_is_found_beside_a_long_text(where: str) -> None:
    long, bad = {"text": "null " * 2_000}, {"number": float("nan")}
    value = long | bad if where == "after" else bad | long
    for write in (lambda: FAST.result(1, value), lambda: FAST.dumps(value), lambda: STANDARD.result(1, value)):
        with pytest.raises(ValueError, match="is NaN"):
            write()
    assert json.loads(FAST.dumps({**long, "nothing": None})) == {**long, "nothing": None}
