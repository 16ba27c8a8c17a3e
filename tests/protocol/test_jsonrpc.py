# SPDX-License-Identifier: MIT
"""One message to bytes and back: what is taken, what is refused, and that the codec makes no difference."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_h11.protocol import codec as codec_module
from mcp_h11.protocol.codec import MAX_DEPTH, MAX_DIGITS
from mcp_h11.protocol.errors import InvalidParams, InvalidRequest, MCPError, ParseError
from mcp_h11.protocol.jsonrpc import (
    JSON,
    MAX_BATCH,
    REWRITTEN,
    ErrorResponse,
    Notification,
    Request,
    Response,
)
from mcp_h11.protocol.lines import KEPT_OF_LONG, LineDecoder, LineTooLong, encode_line
from mcp_h11.protocol.outlines import OUTLINED

STANDARD = JSON()
FAST = JSON(orjson)
BOTH = pytest.mark.parametrize("codec", [STANDARD, FAST], ids=["json", "orjson"])


def request(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"} | members).encode()


def plain(message: Any) -> Any:
    """A message as something that compares by value and by type."""
    if isinstance(message, list):
        return [plain(element) for element in message]
    if isinstance(message, InvalidRequest):
        return ("InvalidRequest", message.message, repr(message.request_id))
    return (type(message).__name__, *(repr(getattr(message, name)) for name in sorted(type(message).__slots__)))


def verdict(read: Any, body: bytes) -> Any:
    try:
        return read(body)
    except ParseError:
        return "ParseError"
    except InvalidRequest as error:
        return plain(error)


# --- strict JSON ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"nul",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"-1e400",
        b'{"a":[{"b":1E+400}]}',
        b"1" * 400 + b".0",
        b"1.7976931348623159e308",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        "{}".encode("utf-32"),
        b"{}{}",
        b"{} x",
        b"[1,]",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":1 // no\n}',
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b'"\x01"',
        b'"\n"',
        b'"\\x41"',
        b'"\\u12"',
        b"\x0c1",
        b"\xa01",
        b"\x001",
        b"{}\x00",
        b"{}\x0c",
        "{}\u00a0".encode(),
        b'["' + b"7" * 5000 + b'",NaN]',
        b'["' + b"7" * 5000 + b'",1e400]',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_strict_json_is_a_parse_error(codec: JSON, body: bytes) -> None:
    with pytest.raises(ParseError):
        codec.loads(body)


@BOTH
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" \t\r\n{} \t\r\n", {}),
        (b"{}\n", {}),
        (b"-0.0", -0.0),
        (b"5e-324", 5e-324),
        (b"1.7976931348623157e308", sys.float_info.max),
        (b"1e-400", 0.0),
        (b'"\\ud800"', "\ud800"),
        (b'"\\ude00\\ud83d"', "\ude00\ud83d"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\x00"),
        (b'"\x7f"', "\x7f"),
        ('"\u2028"'.encode(), "\u2028"),
        (b'{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -(2**63) - 1),
        (b"[12345678901234567890123]", [12345678901234567890123]),
        (b"0." + b"0" * 5000 + b"1", 0.0),
        (b'"' + b"7" * 5000 + b'"', "7" * 5000),
        (b"1e" + b"0" * 5000 + b"1", 10.0),
        (b'["' + b"7" * 5000 + b'",-8,9.5]', ["7" * 5000, -8, 9.5]),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_strict_json_is_read_exactly(codec: JSON, body: bytes, value: Any) -> None:
    assert repr(codec.loads(body)) == repr(value)


@BOTH
@pytest.mark.parametrize("sign", [b"", b"-"])
def test_an_integer_has_at_most_4300_digits(codec: JSON, sign: bytes) -> None:
    digits = b"7" * MAX_DIGITS
    assert codec.loads(b"[" + sign + digits + b"]") == [int(sign + digits)]
    with pytest.raises(ParseError):
        codec.loads(b"[" + sign + digits + b"7]")


@BOTH
def test_long_integers_are_found_wherever_they_stand(codec: JSON) -> None:
    for offset in range(MAX_DIGITS // 10 + 1):
        with pytest.raises(ParseError):
            codec.loads(b'["' + b"x" * offset + b'",' + b"7" * (MAX_DIGITS + 1) + b"]")
    for offset in range(20):
        text = "x" * (2000 + offset)
        assert codec.loads(b'["' + text.encode() + b'",9999999999999999999,-9999999999999999999]') == [
            text,
            9999999999999999999,
            -9999999999999999999,
        ]


@BOTH
@pytest.mark.parametrize("limit", [0, 640, 100_000])
def test_the_digit_limit_of_the_interpreter_is_not_relied_on(codec: JSON, limit: int) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        with pytest.raises(ParseError):
            codec.loads(b"7" * (MAX_DIGITS + 1))
        if limit == 640:
            with pytest.raises(ParseError):
                codec.loads(b"7" * 641)
    finally:
        sys.set_int_max_str_digits(before)


@BOTH
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'{"\\"[\\\\":'])
def test_nesting_stops_at_128(codec: JSON, opening: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{") - opening.count(b'\\"[')
    closing = opening.replace(b'\\"[', b"").translate(bytes.maketrans(b"[{", b"]}"), b'"a:\\')[::-1]
    most = MAX_DEPTH // levels
    codec.loads(opening * most + b"0" + closing * most)
    with pytest.raises(ParseError, match="nested deeper"):
        codec.loads(b"[" + opening * most + b"0" + closing * most + b"]")


@BOTH
def test_brackets_side_by_side_or_in_strings_are_no_nesting(codec: JSON) -> None:
    assert len(codec.loads(b"[" + b"[]," * 1000 + b"{}]")) == 1001
    assert codec.loads(b'"' + b"[" * 1000 + b'"') == "[" * 1000
    # The quote after two backslashes ends its string.
    assert codec.loads(b'["\\\\","' + b"[" * 1000 + b'"]') == ["\\", "[" * 1000]
    assert codec.loads(b'["' + b'\\"[\\\\\\"{' * 1000 + b'\\\\"]') == ['"[\\"{' * 1000 + "\\"]


def test_a_parse_error_does_not_repeat_the_body() -> None:
    with pytest.raises(ParseError) as raised:
        STANDARD.loads(b'{"token": secret}')
    assert "secret" not in raised.value.message


def test_reading_beside_an_exhausted_stack_is_a_parse_error() -> None:
    def down() -> None:
        try:
            down()
        except RecursionError:
            verdict(STANDARD.decode, b"[" * 100 + b"]" * 100)
            raise

    with pytest.raises(RecursionError):
        down()


# --- the envelope -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (request(), Request(1, "ping", {})),
        (request(id="1"), Request("1", "ping", {})),
        (request(id=0), Request(0, "ping", {})),
        (request(id=-1), Request(-1, "ping", {})),
        (request(id=""), Request("", "ping", {})),
        (request(id=2**70), Request(2**70, "ping", {})),
        (request(params={"a": [1]}), Request(1, "ping", {"a": [1]})),
        (request(params=None), Request(1, "ping", {})),
        (request(extra=1), Request(1, "ping", {})),
        (b'{"jsonrpc":"2.0","method":"x"}', Notification("x", {})),
        (b'{"jsonrpc":"2.0","method":"x","params":{"a":1}}', Notification("x", {"a": 1})),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Response(1, {})),
        (b'{"jsonrpc":"2.0","id":"a","result":null}', Response("a", None)),
        (
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}',
            ErrorResponse(1, {"code": -1, "message": "m"}),
        ),
        (
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m"}}',
            ErrorResponse(None, {"code": -1, "message": "m"}),
        ),
        (b'{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}', ErrorResponse(None, {"code": -1, "message": "m"})),
    ],
    ids=repr,
)
def test_messages_are_told_apart_by_their_members(codec: JSON, body: bytes, expected: Any) -> None:
    assert plain(codec.decode(body)) == plain(expected)


@BOTH
@pytest.mark.parametrize("id", ["true", "false", "null", "1.5", "1.0", "1e2", "{}", "[1]"])
def test_a_request_with_a_bad_id_is_refused_and_no_notification(codec: JSON, id: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        codec.decode(b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id.encode())
    assert raised.value.request_id is None


@BOTH
@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b"1", None),
        (b"null", None),
        (b'"ping"', None),
        (b"{}", None),
        (b'{"id":7,"method":"ping"}', 7),
        (request(id=7, jsonrpc="1.0"), 7),
        (request(id=7, jsonrpc=2.0), 7),
        (request(id="x", method=1), "x"),
        (request(id=7, method=None), 7),
        (request(id=7, params=[1]), 7),
        (request(id=7, params="a"), 7),
        (request(id=7, params=False), 7),
        (request(id=7, result={}), 7),
        (request(id=7, error={}), 7),
        (b'{"jsonrpc":"2.0","method":"x","params":[]}', None),
        (b'{"jsonrpc":"2.0","id":7}', 7),
        (b'{"jsonrpc":"2.0","result":{}}', None),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":true,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":1.0,"error":{"code":1,"message":"m"}}', None),
        (b'{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"m"}}', None),
        (b'{"jsonrpc":"2.0","id":7,"error":null}', None),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":"1","message":"m"}}', None),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":true,"message":"m"}}', None),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":1.0,"message":"m"}}', None),
        (b'{"jsonrpc":"2.0","id":7,"error":{"code":1}}', None),
        (b'{"JSONRPC":"2.0","Id":7,"Method":"ping"}', None),
        (b'{"jsonrpc":"2.0","id":7,"method\\u0000":"ping"}', 7),
    ],
    ids=repr,
)
def test_json_that_is_no_message_is_an_invalid_request(codec: JSON, body: bytes, id: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        codec.decode(body)
    assert (type(raised.value.request_id), raised.value.request_id) == (type(id), id)


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}',
        b'{"jsonrpc":"1.0","jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{"a":1}}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"a"},"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","id":1,"\\u0069d":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","\\u0069\\u0064":2,"i\\u0064":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"x"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","\\u006Dethod":"x"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"\\u0070arams":{"a":1}}',
        b'{"jsonrpc" : "2.0", "id" : 1, "method"\n: "ping", "id"\t:2}',
    ],
    ids=repr,
)
def test_an_envelope_member_that_comes_twice_is_refused(codec: JSON, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        codec.decode(body)


@BOTH
def test_names_of_the_envelope_may_come_again_inside(codec: JSON) -> None:
    inner = {"id": 1, "method": "id", "params": {"id": 2, "params": ["id", "\u00e9"]}, "jsonrpc": "jsonrpc", "error": 1}
    for body in (json.dumps, lambda value: orjson.dumps(value).decode()):
        message = codec.decode(body({"jsonrpc": "2.0", "id": 1, "method": "x", "params": inner}).encode())
        assert plain(message) == plain(Request(1, "x", inner))
        answer = codec.decode(body({"jsonrpc": "2.0", "id": 1, "result": inner}).encode())
        assert plain(answer) == plain(Response(1, inner))


FAULTS = {
    "none": "1",
    "a member that comes twice": '1,"id":2',
    "an integer past 64 bits": "12345678901234567890",
    "an id that is no integer": "1.0",
    "a member that is not of a request": '1,"result":1',
    "depth": f'1,"x":{"[" * 128}{"]" * 128}',
    "a byte that is no UTF-8": '1,"x":"\xff"',  # as Latin-1
}


def judged(codec: JSON, body: bytes) -> Any:
    """The message, or what is wrong."""
    try:
        return plain(codec.decode(body))
    except MCPError as exc:
        return type(exc).__name__, exc.message


@pytest.mark.parametrize("size", [REWRITTEN, REWRITTEN + 1, OUTLINED, OUTLINED + 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_body_is_judged_alike_by_both_codecs_on_both_sides_of_each_size(fault: str, size: int) -> None:
    def body(text: str) -> bytes:
        return f'{{"jsonrpc":"2.0","id":{FAULTS[fault]},"method":"x","params":{{"text":"{text}"}}}}'.encode("latin-1")

    data = body("a" * (size - len(body(""))))
    assert len(data) == size
    verdict = judged(STANDARD, data)
    assert verdict == judged(FAST, data)
    assert (verdict[0] == "Request") == (fault in ("none", "an integer past 64 bits"))


# --- batches ----------------------------------------------------------------------------------------------------


@BOTH
def test_a_bad_element_does_not_spoil_the_batch(codec: JSON) -> None:
    good = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    body = f'[{good},1,{{"jsonrpc":"2.0","id":2}},{{"jsonrpc":"2.0","id":3,"id":4,"method":"x"}},[["id",1],["id",2]]]'
    batch = codec.decode(body.encode())
    assert isinstance(batch, list)
    assert [type(element) for element in batch] == [Request] + 4 * [InvalidRequest]
    assert [element.request_id for element in batch[1:] if isinstance(element, InvalidRequest)] == [None, 2, None, None]
    assert plain(batch[3])[1] == "id comes twice"
    assert plain(batch[4])[1] == "a message must be an object"


@BOTH
def test_a_batch_has_1_to_100_messages(codec: JSON) -> None:
    one = b'{"jsonrpc":"2.0","method":"x"}'
    full = codec.decode(codec.batch([one] * MAX_BATCH))
    assert isinstance(full, list)
    assert len(full) == MAX_BATCH
    for body in (b"[]", b" [ ] ", codec.batch([one] * (MAX_BATCH + 1))):
        with pytest.raises(InvalidRequest) as raised:
            codec.decode(body)
        assert raised.value.request_id is None


# --- writing ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, None, True, "x"]}, b'{"a":[1,null,true,"x"]}'),
        ("\u00e9\u2028\U0001f600\x00\n", '"\u00e9\u2028\U0001f600\\u0000\\n"'.encode()),
        ("\u00e9\ud800", b'"\\u00e9\\ud800"'),
        (2**70, b"1180591620717411303424"),
        ((1, 2), b"[1,2]"),
        ({1: 2}, b'{"1":2}'),
        (1.5, b"1.5"),
        (-0.0, b"-0.0"),
    ],
    ids=repr,
)
def test_json_is_written_compact_and_on_one_line(codec: JSON, value: Any, written: bytes) -> None:
    assert codec.dumps(value) == written


@BOTH
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan]}, [None, math.nan]], ids=repr)
def test_numbers_that_json_does_not_have_are_refused(codec: JSON, value: Any) -> None:
    with pytest.raises(ValueError, match="is (NaN|infinity), which JSON does not have"):
        codec.dumps(value)
    with pytest.raises(ValueError, match="is (NaN|infinity), which JSON does not have"):
        codec.result(1, value)
    assert codec.result(1, {"a": None, "b": 2**70}) == b'{"jsonrpc":"2.0","id":1,"result":{"a":null,"b":%d}}' % 2**70


@BOTH
def test_what_cannot_be_written_raises_value_or_type_error(codec: JSON) -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(ValueError):
            codec.dumps(value)
    while deep:  # taken apart from the outside: some interpreters free nested lists on the C stack
        deep = deep[0]
    with pytest.raises(TypeError):
        codec.dumps(object())


@BOTH
def test_messages_are_written_as_json_rpc(codec: JSON) -> None:
    assert codec.request(1, "a") == b'{"jsonrpc":"2.0","id":1,"method":"a"}'
    assert codec.request("x", "a", {}) == b'{"jsonrpc":"2.0","id":"x","method":"a","params":{}}'
    assert codec.notification("a") == b'{"jsonrpc":"2.0","method":"a"}'
    assert codec.notification("a", {"b": 1}) == b'{"jsonrpc":"2.0","method":"a","params":{"b":1}}'
    assert codec.result(1, {"b": 1}) == b'{"jsonrpc":"2.0","id":1,"result":{"b":1}}'
    assert codec.batch([b"{}", b"{}"]) == b"[{},{}]"


@BOTH
@pytest.mark.parametrize("id", [1, -1, 2**70, "1", "", 'a"\\\u00e9', "\ud800"], ids=ascii)
def test_an_id_comes_back_as_it_came(codec: JSON, id: str | int) -> None:
    asked = codec.decode(codec.request(id, "ping"))
    assert isinstance(asked, Request)
    assert (type(asked.id), asked.id) == (type(id), id)
    assert codec.result_encoded(asked.id, b"{}") == codec.result(id, {})
    answered = codec.decode(codec.result(asked.id, {}))
    assert isinstance(answered, Response)
    assert (type(answered.id), answered.id) == (type(id), id)


@BOTH
def test_an_error_without_an_id_leaves_it_out(codec: JSON) -> None:
    error = InvalidParams("no", {"a": 1})
    assert codec.error(None, error) == b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"no","data":{"a":1}}}'
    assert codec.error("a", error).startswith(b'{"jsonrpc":"2.0","id":"a","error":{')


class _Hostile(MCPError):
    def to_json(self) -> dict[str, Any]:
        raise RuntimeError("no")


@BOTH
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MCPError(5, "m", object()), {"code": 5, "message": "m"}),
        (MCPError(5, "m", math.nan), {"code": 5, "message": "m"}),
        (MCPError(5, "\ud800"), {"code": 5, "message": "\ud800"}),
        (MCPError(5, object()), {"code": 5, "message": "Internal error"}),  # type: ignore[arg-type]
        (MCPError(object(), "m"), {"code": -32603, "message": "m"}),  # type: ignore[arg-type]
        (MCPError(10**5000, "m"), {"code": -32603, "message": "m"}),
        (_Hostile(5, "m"), {"code": 5, "message": "m"}),
    ],
    ids=range(7),
)
def test_writing_an_error_never_raises(codec: JSON, error: MCPError, expected: Any) -> None:
    assert json.loads(codec.error(1, error)) == {"jsonrpc": "2.0", "id": 1, "error": expected}


# --- codecs -----------------------------------------------------------------------------------------------------


class _Odd:
    """A codec that is orjson but for one thing."""

    def __init__(self, loads: Any = orjson.loads, dumps: Any = orjson.dumps) -> None:
        self.loads = loads
        self.dumps = dumps


def test_the_standard_library_given_as_a_codec_is_the_standard_library() -> None:
    assert JSON(json).dumps([None, 1]) == b"[null,1]"


def _raise(value: Any) -> Any:
    raise KeyError(value)


def test_a_codec_may_be_narrow_and_may_write_text() -> None:
    codec = JSON(_Odd(dumps=lambda value: orjson.dumps(value).decode()))
    assert codec.result(1, {"a": "\u00e9"}) == STANDARD.result(1, {"a": "\u00e9"})
    assert JSON(_Odd(dumps=_raise)).dumps([1]) == b"[1]"


@pytest.mark.parametrize(
    "codec",
    [
        _Odd(loads=json.loads),
        _Odd(loads=lambda body: orjson.loads(body.decode("utf-8-sig", "replace"))),
        _Odd(loads=lambda body: str(orjson.loads(body))),
        _Odd(dumps=json.dumps),
        _Odd(
            loads=lambda body: body if body.isdigit() and len(body) > 18 else orjson.loads(body),
            dumps=lambda value: value if type(value) is bytes else orjson.dumps(value),
        ),
    ],
    ids=["lax", "replaces", "reads text", "writes NaN", "disguises integers"],
)
def test_a_codec_that_does_not_keep_to_json_is_refused_at_once(codec: _Odd) -> None:
    with pytest.raises(ValueError, match="the JSON codec"):
        JSON(codec)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["id", "method", "jsonrpc"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "code", "message"]),
            inner,
        )
    ),
    max_leaves=12,
)
envelopes = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": st.integers() | st.text() | json_values,
        "method": st.text() | json_values,
        "params": st.dictionaries(st.text(), json_values) | json_values,
        "result": json_values,
        "error": st.fixed_dictionaries({"code": st.integers(), "message": st.text()}) | json_values,
    },
)
messages = envelopes | st.lists(envelopes, max_size=3) | json_values
spellings = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 1},
    ]
)
fragments = st.sampled_from(
    [
        *(b'"', b"\\", b"[", b"]", b"{", b"}", b":", b",", b"-", b".", b"e", b"E9", b"0", b"9" * 20, b"\xff", b"\x00"),
        *(b" ", b"\n", b"NaN", b"Infinity", b"1e400", b"\\u0069", b"\\ud800", b'"id":1,', b'"method":"x",', b"null"),
        *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"-0", b"1.0", b"18446744073709551616", b"[" * 130),
    ]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A message, and then now and then something cut out of it and something put in."""
    text = json.dumps(draw(messages), **draw(spellings))
    body = text.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        cut = draw(st.integers(0, 3))
        body = body[:at] + draw(fragments | st.just(b"")) + body[at + cut :]
    return body


@settings(deadline=None)
@given(bodies())
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{"a":12345678901234567890123}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{"a":1.2345678901234568e22}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{"a":18446744073709551615,"b":-0.0,"c":1e400}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{"a":"\\ud800","b":null}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":' + b'{"a":' * 127 + b"1" + b"}" * 128)
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":' + b'{"a":' * 128 + b"1" + b"}" * 129)
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{},"id":1}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":{},"result":1}')
@example(b'{"id":1.5,"jsonrpc":"2.0","method":"x","params":{}}')
@example(b'{"id":true,"jsonrpc":"2.0","method":"x","params":{}}')
@example(b'{"id":1,"jsonrpc":"2.1","method":"x","params":{}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":7,"params":{}}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":null}')
@example(b'{"id":1,"jsonrpc":"2.0","method":"x","params":[]}')
@example(b"[-0, -0.0, 0e400, 1e-400]")
def test_the_codec_makes_no_difference_to_reading(body: bytes) -> None:
    assert repr(verdict(STANDARD.loads, body)) == repr(verdict(FAST.loads, body))
    assert plain_or_text(verdict(STANDARD.decode, body)) == plain_or_text(verdict(FAST.decode, body))


def plain_or_text(value: Any) -> Any:
    return value if isinstance(value, (str, tuple)) else plain(value)


def pairs_by_hand(body: bytes) -> list[str]:
    return [name for name, _ in json.loads(body, object_pairs_hook=list)]


@settings(deadline=None)
@given(bodies())
def test_what_is_read_is_what_the_standard_library_reads_unless_a_rule_forbids_it(body: bytes) -> None:
    try:
        message = STANDARD.decode(body)
    except (ParseError, InvalidRequest):
        return
    value = json.loads(body.decode("utf-8"))
    json.dumps(value, allow_nan=False)
    if isinstance(message, list):
        assert len(message) == len(value)
        return
    names = pairs_by_hand(body)
    assert len({"jsonrpc", "id", "method", "params", "result", "error"} & set(names)) == sum(
        name in {"jsonrpc", "id", "method", "params", "result", "error"} for name in names
    )
    if isinstance(message, (Request, Notification)):
        assert (message.method, message.params) == (value["method"], value.get("params") or {})
        assert isinstance(message, Request) == ("id" in value)


@settings(deadline=None)
@given(json_values)
def test_what_is_written_is_read_back(value: Any) -> None:
    for codec in (STANDARD, FAST):
        written = codec.dumps(value)
        assert b"\n" not in written
        assert b"\r" not in written
        assert repr(codec.loads(written)) == repr(value)


@settings(deadline=None)
@given(
    st.integers() | st.text(st.characters(exclude_categories=())), st.text(), st.dictionaries(st.text(), json_values)
)
def test_messages_survive_the_round_trip(id: str | int, method: str, params: dict[str, Any]) -> None:
    for codec in (STANDARD, FAST):
        assert plain(codec.decode(codec.request(id, method, params))) == plain(Request(id, method, params))
        assert plain(codec.decode(codec.notification(method, params))) == plain(Notification(method, params))
        assert plain(codec.decode(codec.result(id, params))) == plain(Response(id, params))


# --- lines ------------------------------------------------------------------------------------------------------


def lines(data: bytes, size: int, limit: int = 8) -> list[bytes | type]:
    decoder = LineDecoder(limit)
    found: list[bytes | LineTooLong] = []
    for start in range(0, len(data), size):
        found += decoder.feed(data[start : start + size])
    found += decoder.end()
    return [line if isinstance(line, bytes) else type(line) for line in found]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_lines_are_the_same_however_they_arrive(size: int) -> None:
    data = b'{"a":1}\n\n \r\n{}\r\n12345678\n123456789\nx\n' + "\u2028".encode() + b"\ry\nlast"
    assert lines(data, size) == [
        b'{"a":1}',
        b"{}",
        b"12345678",
        LineTooLong,
        b"x",
        "\u2028".encode() + b"\ry",
        b"last",
    ]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_endless_line_is_reported_once_and_not_kept(size: int) -> None:
    assert lines(b"x" * 1000 + b"\nok\n", size) == [LineTooLong, b"ok"]
    assert lines(b"x" * 1000, size) == [LineTooLong]
    decoder = LineDecoder(8)
    found = decoder.feed(b"x" * 9)
    assert [type(line) for line in found] == [LineTooLong]
    assert b"longer than 8" in STANDARD.error(None, found[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 1025, 100_000])
@pytest.mark.parametrize("ended", [b"\n", b""])
def test_of_a_line_past_the_limit_both_ends_are_kept(size: int, ended: bytes) -> None:
    line = b"".join(b"%d," % number for number in range(3000))
    decoder = LineDecoder(4000)
    heard: list[bytes | None] = []
    skipped: list[LineTooLong] = []
    data = line + ended + b"short\n"[: 6 * len(ended)]
    for start in range(0, len(data), size):
        for found in decoder.feed(data[start : start + size]):
            if isinstance(found, LineTooLong):
                skipped.append(found)
                if found.tail is None:
                    found.when_ended = lambda: heard.append(skipped[0].tail)
                else:
                    heard.append(found.tail)
    decoder.end()
    assert [one.head for one in skipped] == [line[:KEPT_OF_LONG]] and heard == [line[-KEPT_OF_LONG:]]


def test_the_end_gives_what_is_left_and_nothing_twice() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"ab") == []
    assert decoder.end() == [b"ab"]
    assert decoder.end() == []


def test_a_line_has_one_line_feed() -> None:
    assert encode_line(b"{}") == b"{}\n"
    with pytest.raises(ValueError):
        encode_line(b"{\n}")


# --- where the interpreter has no fast encoder -------------------------------------------------------------------


INNER = json.encoder.c_make_encoder  # type: ignore[attr-defined]


def changed(markers: Any, *rest: Any) -> Any:
    """An inner encoder that serves the standard library, and not whoever calls it as this package does."""
    return (lambda value, level: ["{}"]) if markers is None else INNER(markers, *rest)


@pytest.mark.parametrize("inner", [None, changed], ids=["missing", "changed"])
def test_an_interpreter_without_the_inner_encoder_writes_the_same_bytes(
    inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = {"a": ["\u2028 \u00e9 \U0001f600", 1.5, 10**30, None, True], "b": {"\x00": "\ud800"}}
    expected = STANDARD.result("x", message)
    monkeypatch.setattr("json.encoder.c_make_encoder", inner)
    spec = importlib.util.find_spec("mcp_h11.protocol.jsonrpc")
    assert spec is not None and spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)  # as it is imported there; ours stays as it is
    spec.loader.exec_module(elsewhere)
    other = elsewhere.JSON()
    assert other.result("x", message) == expected
    assert other.dumps({"n": [1, "\u00e9"]}) == '{"n":[1,"\u00e9"]}'.encode()
    with pytest.raises(ValueError):
        other.dumps(math.nan)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError):
        other.dumps(deep)


def test_an_interpreter_without_the_inner_encoder_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, 2.5, "\u00e9", None, True]}
    expected = codec_module._write(value)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert codec_module._fast_writer()(value) == expected == '{"a":[1,2.5,"\u00e9",null,true]}'
