# SPDX-License-Identifier: MIT
"""One JSON-RPC message to bytes and back; ids; newline framing.

What it refuses: text that is not strict UTF-8 JSON (RFC 8259: no byte order mark, no NaN or Infinity, no number that
overflows to one), nesting and integers past a limit, and JSON that is no JSON-RPC 2.0 message as MCP narrows it: ids
are strings or integers and never null, params are objects, and no member of the envelope comes twice, because a
gateway that reads the first copy and a server that reads the last one see two different messages.

Rule: the answer depends on the bytes alone.  A faster codec changes the time, never the verdict nor the value: what
the standard library and such a codec treat differently goes to the standard library.

2026-07-28 basic/index, Messages; 2025-03-26 basic/index, Batching.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Protocol

from .errors import INTERNAL_ERROR, InvalidRequest, MCPError, ParseError
from .finite import not_finite

# RecursionError in the standard library comes at about 1,000 less what the stack already holds, so it is no limit to
# rely on; nothing in MCP nests deeper than a JSON Schema does.
MAX_DEPTH = 128
# CPython's own default for int(str).  A host may have moved that one (sys.set_int_max_str_digits), this stays.
MAX_DIGITS = 4_300
# Only 2025-03-26 has batches.
MAX_BATCH = 100
# The parser cannot be interrupted, and needs up to 0.5 us for each value (measured; `1e300` is the dearest): so many
# stop the event loop for less than 100 ms.
MAX_MESSAGE_VALUES = 150_000
# From here on the garbage collector waits while a message is read.  Nothing of it can be garbage yet, and what the
# collector does meanwhile is most of the time that the event loop stands still for a million empty arrays.
LARGE = 64 * 1024


class Codec(Protocol):
    """What `JSON` wants of a faster codec: `orjson` has it, and so has any module or object with these two."""

    def loads(self, data: bytes, /) -> Any: ...

    def dumps(self, obj: Any, /) -> str | bytes: ...


class Request:
    """A call that wants an answer.  `id` keeps the type it came with: 1 and "1" are two ids."""

    __slots__ = ("id", "method", "params")

    def __init__(self, id: str | int, method: str, params: dict[str, Any]) -> None:
        self.id = id
        self.method = method
        self.params = params

    def __repr__(self) -> str:
        return f"Request(id={self.id!r}, method={self.method!r})"


class Notification:
    """A call that wants none."""

    __slots__ = ("method", "params")

    def __init__(self, method: str, params: dict[str, Any]) -> None:
        self.method = method
        self.params = params

    def __repr__(self) -> str:
        return f"Notification(method={self.method!r})"


class Response:
    """The result of a request that this side sent."""

    __slots__ = ("id", "result")

    def __init__(self, id: str | int, result: Any) -> None:
        self.id = id
        self.result = result

    def __repr__(self) -> str:
        return f"Response(id={self.id!r})"


class ErrorResponse:
    """The failure of a request that this side sent; `id` is None where the other side could not read it.

    `error` has `code` (an integer) and `message` (a string), and maybe `data`.
    """

    __slots__ = ("error", "id")

    def __init__(self, id: str | int | None, error: dict[str, Any]) -> None:
        self.id = id
        self.error = error

    def __repr__(self) -> str:
        return f"ErrorResponse(id={self.id!r}, code={self.error['code']!r})"


Message = Request | Notification | Response | ErrorResponse
# What `JSON.decode` returns for an array: a bad element does not spoil its neighbours.
Batch = list[Request | Notification | Response | ErrorResponse | InvalidRequest]


# --- strict reading ---------------------------------------------------------------------------------------------
def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    # inf - inf is NaN: the cheapest way to ask.
    if value - value != 0.0:
        raise ValueError("number out of range")
    return value


def _bounded(text: str) -> int:
    if len(text) - (text[0] == "-") > MAX_DIGITS:
        raise ValueError("integer too long")
    return int(text)


class _Members(list[Any]):
    """The members of an object as pairs; a type of its own because an array of pairs is a list too."""


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_read = _decoder.decode
_read_prefix = _decoder.scan_once  # type: ignore[attr-defined]  # what `raw_decode` calls
# The hook costs a call for each integer; only texts with a long run of digits need it.
_read_bounded = json.JSONDecoder(parse_float=_finite, parse_int=_bounded, parse_constant=_refuse_constant).decode
_read_members = json.JSONDecoder(object_pairs_hook=_Members).decode

# Digits become "0", all else becomes " ", so that a run of digits is found at the speed of memory.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
# 19 digits can leave 64 bits, 18 cannot.
_PAST_64_BITS = 19
# Up to here it is not worth looking twice.
_SMALL = 1024


def _has_digits(body: bytes, run: int, stride: int) -> bool:
    # A run of so many digits covers at least run // stride of the bytes at multiples of stride, wherever it begins.
    if len(body) > _SMALL and body[::stride].translate(_DIGITS).find(b"0" * (run // stride)) < 0:
        return False
    return body.translate(_DIGITS).find(b"0" * run) >= 0


_NO_SEPARATORS = bytes(byte for byte in range(256) if byte not in b",:[{")
# An integer of 4,300 digits takes as long as 300 other values, and only a large body has many of those.
_LONG_RUN = 1_000
_VALUES_OF_LONG_RUN = 100
_LONG_BODY = 1024 * 1024


def _has_more_values(body: bytes, limit: int) -> bool:
    # What stands before a value or a name is one of ",:[{".  Within strings they stand for nothing, which is looked at
    # where there are many: 4 MiB of text has as many commas.
    many = len(body.translate(None, _NO_SEPARATORS)) > limit
    if not many and not (len(body) > _LONG_BODY and _has_digits(body, _LONG_RUN, _LONG_RUN // 10)):
        return False
    if body.find(b"\\") >= 0:  # as in `_too_deep`
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each pair of quotes is a value or a name itself, and a limit for what `split` makes.
    if body.count(b'"') // 2 > limit:
        return True
    outside = b"".join(body.split(b'"')[::2])
    runs = outside.translate(_DIGITS).count(b"0" * _LONG_RUN)
    return len(outside.translate(None, _NO_SEPARATORS)) + runs * _VALUES_OF_LONG_RUN > limit


_NO_BRACKETS_OR_QUOTES = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEP = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}


def _too_deep(body: bytes) -> bool:
    # Stops looking after MAX_DEPTH + 1 brackets; `count` would not.
    most = MAX_DEPTH + 1
    if len(body.split(b"[", most)) + len(body.split(b"{", most)) - 2 < most:
        return False
    # Escapes go first, "\\" before "\"" so that the quote after an even run of backslashes still ends its string; then
    # every second piece between quotes lies outside of strings.  Exact up to the first syntax error, where the parser
    # stops as well.
    if body.find(b"\\") >= 0:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes with nothing between them leave everything else where it was, inside of a string or outside.
    brackets = body.translate(None, _NO_BRACKETS_OR_QUOTES).replace(b'""', b"")
    outside = b"".join(brackets.split(b'"')[::2])
    return max(accumulate(map(_STEP.__getitem__, outside)), default=0) > MAX_DEPTH


def _strict(body: bytes) -> Any:
    try:
        # The whole of "strict UTF-8": json.loads(bytes) would guess UTF-16 and UTF-32 and let surrogates pass.
        text = body.decode("utf-8")
        if len(body) > MAX_DIGITS and _has_digits(body, MAX_DIGITS + 1, MAX_DIGITS // 10):
            return _read_bounded(text)
        try:
            # A quarter faster than `decode`, which looks for whitespace on both sides with regular expressions.
            value, end = _read_prefix(text, 0)
            if end == len(text) or not text[end:].strip(" \t\r\n"):
                return value
        except (ValueError, StopIteration):
            pass
        # A byte order mark is no JSON whitespace, so that the decoder refuses it by itself.
        return _read(text)
    except (ValueError, RecursionError) as error:
        # ValueError covers json.JSONDecodeError, UnicodeDecodeError, and int() under a limit that the host lowered.
        # JSONDecodeError says where, never what, so that nothing of the body comes back in the answer.
        raise ParseError(f"Parse error: {error}" if type(error) is json.JSONDecodeError else "Parse error") from None


# --- strict writing ---------------------------------------------------------------------------------------------

# U+2028 and U+2029 may stay as they are: neither JSON, nor server-sent events, nor lines on stdio split there.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_write_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


def _fast_writer() -> Callable[[Any], str]:
    """`_encoder.encode`, with its inner encoder made once and not for each text: that is half of a short one's time.

    Where the interpreter has no such inner encoder, or it has changed, `encode` itself.
    """
    try:
        # Without a table of markers a circular reference ends as a RecursionError.
        make, strings = json.encoder.c_make_encoder, json.encoder.encode_basestring  # type: ignore[attr-defined]
        pieces = make(None, _encoder.default, strings, None, ":", ",", False, False, False)
        probe = {"a": [1, 2.5, "\u00e9", None, True]}
        if "".join(pieces(probe, 0)) == _encoder.encode(probe):
            return lambda obj: "".join(pieces(obj, 0))
    except Exception:  # another interpreter, or a later one: correct and a little slower
        pass
    return _encoder.encode


_write = _fast_writer()


def _dumps(obj: Any) -> bytes:
    try:
        return _write(obj).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but it has an escape.
        return _write_ascii(obj).encode("ascii")
    except RecursionError:
        raise ValueError("nested too deeply to be written as JSON") from None
    except ValueError as error:
        raise not_finite(obj) or error from None


# --- the envelope -----------------------------------------------------------------------------------------------
_ENVELOPE = ("jsonrpc", "id", "method", "params", "result", "error")


def _members(body: bytes) -> Any:
    # A body that `loads` has taken, again, with nothing overwritten.
    try:
        return _read_members(body.decode("utf-8"))
    except RecursionError:
        # A codec needs less of the stack than the standard library does.
        raise ParseError from None


def _repeats(members: Any) -> str:
    # The name of an envelope member that comes twice in what `_members` returned, or "".
    if type(members) is _Members:
        names = [name for name, _ in members]
        for name in _ENVELOPE:
            if names.count(name) > 1:
                return name
    return ""


# One pass over a large body instead of four.
_find_envelope = re.compile(rb'"(?:%b)"' % "|".join(_ENVELOPE).encode()).findall


def _may_repeat(body: bytes, value: Any) -> bool:
    # Cheap and never wrong about "no": a key is spelled in plain bytes or with an escape, and the escape of a lower
    # case letter is \u006x or \u007x.  A "yes" is often only an argument that is called "id".  `find` is faster
    # than `in`, and fastest for one byte: most bodies have no escape at all.
    if body.find(b"\\") >= 0 and (body.find(b"\\u006") >= 0 or body.find(b"\\u007") >= 0):
        return True
    if len(body) > _SMALL or "method" not in value:
        found = _find_envelope(body)
        return len(set(found)) < len(found)
    # Repeated or not, next to a method a result and an error are refused.
    count = body.count
    return count(b'"id"') > 1 or count(b'"method"') > 1 or count(b'"jsonrpc"') > 1 or count(b'"params"') > 1


def _readable_id(value: dict[str, Any]) -> str | int | None:
    id = value.get("id")
    # Not isinstance: True is an int, and 1.5 or null are no ids.
    return id if type(id) is str or type(id) is int else None


def _call(value: dict[str, Any]) -> Request | Notification:
    method = value["method"]
    params = value.get("params")
    if type(method) is not str:
        raise InvalidRequest("method must be a string", _readable_id(value))
    if type(params) is not dict:
        # XX null is not in the schema, but some serialisers write it for "none" and nothing else can be meant.
        if params is not None:
            raise InvalidRequest("params must be an object", _readable_id(value))
        params = {}
    if "result" in value or "error" in value:
        raise InvalidRequest("a message has a method, or a result, or an error", _readable_id(value))
    if "id" not in value:
        return Notification(method, params)
    # "id" is there, so it is a request whatever its value; taken for a notification it would never be answered.
    id = value["id"]
    if type(id) is not int and type(id) is not str:
        raise InvalidRequest("id must be a string or an integer")
    return Request(id, method, params)


def _answer(value: dict[str, Any]) -> Response | ErrorResponse:
    id = _readable_id(value)
    if "result" in value:
        if "error" in value:
            raise InvalidRequest("a response has a result or an error, not both")
        if id is None:
            raise InvalidRequest("id must be a string or an integer")
        return Response(id, value["result"])
    if "error" not in value:
        raise InvalidRequest("a message needs a method, a result or an error", id)
    if id is None and value.get("id") is not None:
        raise InvalidRequest("id must be a string or an integer")
    error = value["error"]
    if type(error) is not dict or type(error.get("code")) is not int or type(error.get("message")) is not str:
        raise InvalidRequest("error must be an object with an integer code and a string message")
    return ErrorResponse(id, error)


def _message(value: Any) -> Message:
    if type(value) is not dict:
        raise InvalidRequest("a message must be an object")
    if value.get("jsonrpc") != "2.0":
        raise InvalidRequest('jsonrpc must be "2.0"', _readable_id(value))
    return _call(value) if "method" in value else _answer(value)


def _element(value: Any, members: Any) -> Message | InvalidRequest:
    name = _repeats(members)
    if name:
        return InvalidRequest(f"{name} comes twice")
    try:
        return _message(value)
    except InvalidRequest as error:
        return error


# --- for the client's end ---------------------------------------------------------------------------------------
_read_leniently = json.JSONDecoder(parse_int=_bounded).decode


def lenient_value(body: bytes) -> tuple[Any, Any]:
    """Any JSON value, also with NaN, Infinity and a byte order mark; and the members that `message_of` looks at.

    For `lenient`, which reads so what a server sent and `JSON.decode` refuses.  Raises ParseError.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if _too_deep(body):
        raise ParseError(f"Parse error: nested deeper than {MAX_DEPTH}")
    try:
        text = body.decode("utf-8")
        value = _read_leniently(text)
        if type(value) is not list and (type(value) is not dict or not _may_repeat(body, value)):
            return value, None
        return value, _read_members(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"Parse error: {error}" if type(error) is json.JSONDecodeError else "Parse error") from None


def message_of(value: Any, members: Any) -> Message:
    """The message that a value is.  Raises InvalidRequest."""
    found = _element(value, members)
    if isinstance(found, InvalidRequest):
        raise found
    return found


# --- the codec --------------------------------------------------------------------------------------------------

# A codec that takes one of these would let through what the standard library refuses.
_MUST_REFUSE = (
    b"NaN",
    b"[Infinity]",
    b"[-Infinity]",
    b"\xef\xbb\xbf{}",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"[1,]",
    b"{}{}",
)
_MUST_AGREE = (b'{"a":1,"b":[2.0,-0.0,1e3,true,null,"\xc3\xa9\\u00e9\\n"],"a":-3}', b"123456789012345678", b" [] ")
_LONG = b"1" * 40


def _vet(codec: Codec) -> None:
    for body in _MUST_REFUSE:
        try:
            codec.loads(body)
        except Exception:  # each codec has exceptions of its own, and any of them is a refusal
            continue
        raise ValueError(f"the JSON codec accepts {body!r}, which is not JSON")
    for body in _MUST_AGREE:
        if repr(codec.loads(body)) != repr(_strict(body)):
            raise ValueError(f"the JSON codec reads {body!r} in a way of its own")
    if _disguises_integers(codec):
        raise ValueError("the JSON codec reads long integers in a way of its own")
    try:
        written = codec.dumps([float("nan")])
    except Exception:
        return
    if written not in ("[null]", b"[null]"):
        raise ValueError("the JSON codec writes NaN")


def _disguises_integers(codec: Codec) -> bool:
    # As something else that looks the same when it is written: `JSON._canonical` would not notice.
    try:
        value = codec.loads(_LONG)
        return type(value) is not int and codec.dumps(value) in (_LONG, _LONG.decode())
    except Exception:  # narrow, which is allowed
        return False


def _bytes_writer(codec: Codec) -> Callable[[Any], bytes]:
    write: Any = codec.dumps
    try:
        writes_text = isinstance(write([]), str)
    except Exception:  # then it writes nothing, as far as we are concerned
        writes_text = False
    return (lambda obj: write(obj).encode("utf-8")) if writes_text else write


class JSON:
    """Reads and writes messages; one per server.  Keeps no state, so that any thread may use it.

    Args:
        codec: `orjson`, or anything with its `loads(bytes)` and `dumps(obj)`; None for the standard library.
        max_values: the most values, names of members included, which `decode` takes in one body; None: any number.

    Raises:
        ValueError: the codec takes or writes something that is not JSON.
    """

    __slots__ = ("_codec_dumps", "_codec_loads", "_max_values")

    def __init__(self, codec: Codec | None = None, max_values: int | None = None) -> None:
        self._max_values = max_values
        self._codec_loads: Callable[[bytes], Any] | None = None
        self._codec_dumps: Callable[[Any], bytes] | None = None
        if codec is not None and codec is not json:
            _vet(codec)
            self._codec_loads = codec.loads
            self._codec_dumps = _bytes_writer(codec)

    def loads(self, body: bytes) -> Any:
        """Any JSON value.

        Raises:
            ParseError: not strict UTF-8 JSON, nested deeper than MAX_DEPTH, an integer of more than MAX_DIGITS digits,
                or a number past the range of a double.
        """
        # What is nested deeper than MAX_DEPTH and ends properly has two brackets for each level.
        if len(body) > 2 * MAX_DEPTH and _too_deep(body):
            raise ParseError(f"Parse error: nested deeper than {MAX_DEPTH}")
        # orjson reads an integer past 64 bits as a float, silently.
        if self._codec_loads is not None and not _has_digits(body, _PAST_64_BITS, 6):
            try:
                return self._codec_loads(body)
            except Exception:  # whatever its exception is called, what it is narrow about the standard library decides
                pass
        return _strict(body)

    def dumps(self, obj: Any) -> bytes:
        """Compact JSON in UTF-8 on one line; lone surrogates as escapes.

        A codec may spell a float in another way (1e22 for 1e+22) and take more types (orjson: datetime); the JSON
        value of what both can write is the same.

        Raises:
            ValueError: NaN or Infinity, a circular reference, or nesting that exhausts the stack.
            TypeError: not made of dict, list, tuple, str, int, float, bool and None.
        """
        if self._codec_dumps is not None:
            try:
                written = self._codec_dumps(obj)
            except Exception:  # big integers, lone surrogates, keys that are numbers: not written by all
                return _dumps(obj)
            # orjson writes NaN as null, which would turn a fault of the handler into an answer.
            if written.find(b"null") < 0:
                return written
        return _dumps(obj)

    def decode(self, body: bytes, checked: bool = False) -> Message | Batch:
        """The message in a body, or the messages of an array, where a bad element is an `InvalidRequest` in the list.

        Raises:
            ParseError: as `loads`.
            InvalidRequest: JSON but no message, an empty array, one longer than MAX_BATCH, or more values than
                `max_values`; `request_id` is the id of the request where it is readable.
        """
        if self._codec_loads is not None and len(body) <= _SMALL:
            request = self._canonical(body)
            if request is not None:
                return request
        elif len(body) >= LARGE and not checked:
            return self._decode_large(body)
        value = self.loads(body)
        if type(value) is list:
            return self._batch(body, value)
        if type(value) is not dict:
            return _message(value)
        if _may_repeat(body, value):
            name = _repeats(_members(body))
            if name:
                # Without the id: which of two ids is meant nobody can say, and of a repeated method neither is run.
                raise InvalidRequest(f"{name} comes twice")
        if "method" in value and value.get("jsonrpc") == "2.0":
            return _call(value)
        return _message(value)

    def _decode_large(self, body: bytes) -> Message | Batch:
        if self._max_values is not None and _has_more_values(body, self._max_values):
            raise InvalidRequest(f"a message of more than {self._max_values} values (max_values)")
        if not gc.isenabled():
            return self.decode(body, True)
        gc.disable()
        try:
            return self.decode(body, True)
        finally:
            gc.enable()

    def _canonical(self, body: bytes) -> Request | None:
        """The request in a body that a codec writes as it stands; None for what has to be looked at more closely.

        Most bodies are.  Nothing that is written out of a value has a member twice, or an integer that was read as a
        float, so that nobody needs to look for these.
        """
        assert self._codec_loads is not None and self._codec_dumps is not None
        try:
            value = self._codec_loads(body)
            id, method, params = value["id"], value["method"], value["params"]
            if len(value) != 4 or value["jsonrpc"] != "2.0" or self._codec_dumps(value) != body:
                return None
        except Exception:  # no such members, or narrow: elsewhere it is told what is wrong, if anything
            return None
        if type(method) is not str or type(params) is not dict or (type(id) is not int and type(id) is not str):
            return None
        return None if len(body) > 2 * MAX_DEPTH and _too_deep(body) else Request(id, method, params)

    def _batch(self, body: bytes, values: list[Any]) -> Batch:
        if not values:
            raise InvalidRequest("an empty batch")
        if len(values) > MAX_BATCH:
            raise InvalidRequest(f"a batch of more than {MAX_BATCH} messages")
        members = _members(body)
        return [_element(value, members[index]) for index, value in enumerate(values)]

    def request(self, id: str | int, method: str, params: dict[str, Any] | None = None) -> bytes:
        """A request; params are left out when None."""
        if params is None:
            return self.dumps({"jsonrpc": "2.0", "id": id, "method": method})
        return self.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})

    def notification(self, method: str, params: dict[str, Any] | None = None) -> bytes:
        """A notification; params are left out when None."""
        if params is None:
            return self.dumps({"jsonrpc": "2.0", "method": method})
        return self.dumps({"jsonrpc": "2.0", "method": method, "params": params})

    def result(self, id: str | int, result: Any) -> bytes:
        """The answer to a request.  Raises as `dumps` does."""
        if self._codec_dumps is not None:
            message = {"jsonrpc": "2.0", "id": id, "result": result}
            try:  # as `dumps`
                written = self._codec_dumps(message)
                return written if written.find(b"null") < 0 else _dumps(message)
            except Exception:
                return _dumps(message)
        text = b"%d" % id if type(id) is int else self.dumps(id)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (text, _dumps(result))

    def result_encoded(self, id: str | int, encoded_result: bytes) -> bytes:
        """The answer to a request whose result is JSON already, as `dumps` wrote it."""
        # Only the exact type: str(True) is no JSON.
        text = b"%d" % id if type(id) is int else self.dumps(id)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (text, encoded_result)

    def error(self, id: str | int | None, error: MCPError) -> bytes:
        """The failure of a request; without an id where there is none.  Never raises, whatever `error.data` holds."""
        body: dict[str, Any] = {"jsonrpc": "2.0"}
        # 2025-11-25 schema, JSONRPCErrorResponse: `id` is optional and never null.
        if id is not None:
            body["id"] = id
        try:
            body["error"] = error.to_json()
            return self.dumps(body)
        except Exception:  # data comes from handlers; the error path must not have an error path
            code = int(error.code) if MCPError(error.code, "").is_sound else INTERNAL_ERROR
            message = error.message if isinstance(error.message, str) else "Internal error"
            body["error"] = {"code": code, "message": message}
            return _dumps(body)

    def batch(self, messages: list[bytes]) -> bytes:
        """Encoded messages as one array."""
        return b"[" + b",".join(messages) + b"]"
