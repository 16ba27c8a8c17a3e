# SPDX-License-Identifier: MIT
"""One JSON-RPC message to bytes and back, and batches of them.

It refuses JSON that is no JSON-RPC 2.0 message as MCP narrows it: ids are strings or integers and never null, params
are objects, and no member of the envelope comes twice, because a gateway that reads the first copy and a server that
reads the last one see two different messages.  `codec` refuses the bytes that are no strict JSON.

2026-07-28 basic/index, Messages; 2025-03-26 basic/index, Batching.
"""

from __future__ import annotations

import gc
import json
import re
from typing import Any

from .codec import (
    MAX_DEPTH,
    SMALL,
    Codec,
    StrictJSON,
    bounded,
    has_more_values,
    long_dumps,
    says_null,
    standard_dumps,
    too_deep,
)
from .errors import INTERNAL_ERROR, InvalidRequest, MCPError, ParseError
from .longtexts import has_long_text
from .outlines import OUTLINED, outline

# 2025-03-26 is the only revision with batches.
MAX_BATCH = 100
# The parser cannot be interrupted, and needs up to 0.5 us for each value (measured; `1e300` is the slowest).  At that
# rate this number of values stops the event loop for less than 100 ms.
MAX_MESSAGE_VALUES = 150_000
# While a body of this size or more is read, the garbage collector waits.  No part of the new message can be garbage
# yet, and for a million empty arrays the collector's runs are most of the time that the event loop stands still.
LARGE = 64 * 1024
# A fast codec writes a body of up to this size again sooner than the checks have looked through it (`_canonical`).
REWRITTEN = 2048


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
# The result of `JSON.decode` for an array: a bad element does not spoil its neighbours.
Batch = list[Request | Notification | Response | ErrorResponse | InvalidRequest]


# --- the envelope -----------------------------------------------------------------------------------------------
_ENVELOPE = ("jsonrpc", "id", "method", "params", "result", "error")


class _Members(list[Any]):
    """The members of an object as pairs; a type of its own because an array of pairs is a list too."""


_read_members = json.JSONDecoder(object_pairs_hook=_Members).decode


def _members(body: bytes) -> Any:
    # A body that `loads` has taken, again, with nothing overwritten.
    try:
        return _read_members(body.decode("utf-8"))
    except RecursionError:
        # A codec needs less of the stack than the standard library does.
        raise ParseError from None


def _repeats(members: Any) -> str:
    # The name of an envelope member that comes twice in a result of `_members`, or "".
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
    if len(body) > SMALL or "method" not in value:
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
        # XX null is not in the schema, but some serialisers write it for "none", and it can have no other meaning.
        if params is not None:
            raise InvalidRequest("params must be an object", _readable_id(value))
        params = {}
    if "result" in value or "error" in value:
        raise InvalidRequest("a message has a method, or a result, or an error", _readable_id(value))
    if "id" not in value:
        return Notification(method, params)
    # With an "id" of any value it is a request; taken for a notification it would never be answered.
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
_read_leniently = json.JSONDecoder(parse_int=bounded).decode


def lenient_value(body: bytes) -> tuple[Any, Any]:
    """Any JSON value, also with NaN, Infinity and a byte order mark; and the members that `message_of` looks at.

    `lenient` reads a server's message so after `JSON.decode` has refused it.  Raises ParseError.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if too_deep(body):
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


class JSON(StrictJSON):
    """Reads and writes messages; one per server.  It keeps no state, so any thread may use it.

    Args:
        codec: `orjson`, or any object with its `loads(bytes)` and `dumps(obj)`; None for the standard library.
        max_values: the most values, names of members included, which `decode` takes in one body; None: any number.

    Raises:
        ValueError: the codec takes or writes text that is not JSON.
    """

    __slots__ = ("_max_values",)

    def __init__(self, codec: Codec | None = None, max_values: int | None = None) -> None:
        super().__init__(codec)
        self._max_values = max_values

    def decode(self, body: bytes, rough: bytes | None = None) -> Message | Batch:
        """The message in a body, or the messages of an array, where a bad element is an `InvalidRequest` in the list.

        `rough` is for this class: the outline of a large body, whose values were counted.

        Raises:
            ParseError: as `loads`.
            InvalidRequest: JSON but no message, an empty array, one longer than MAX_BATCH, or more values than
                `max_values`; `request_id` is the id of the request where it is readable.
        """
        if self._codec_loads is not None and len(body) <= REWRITTEN:
            request = self._canonical(body)
            if request is not None:
                return request
        elif rough is None and len(body) > OUTLINED:
            return self._decode_large(body)
        value = self.loads(body, rough)
        if type(value) is list:
            return self._batch(body, value)
        if type(value) is not dict:
            return _message(value)
        if _may_repeat(body if rough is None else rough, value):
            name = _repeats(_members(body))
            if name:
                # The error has no id: neither of two ids is certain, and of two methods neither is run.
                raise InvalidRequest(f"{name} comes twice")
        if "method" in value and value.get("jsonrpc") == "2.0":
            return _call(value)
        return _message(value)

    def _decode_large(self, body: bytes) -> Message | Batch:
        rough = outline(body)
        if len(body) < LARGE:
            return self.decode(body, rough)
        if self._max_values is not None and has_more_values(rough, self._max_values, len(body)):
            raise InvalidRequest(f"a message of more than {self._max_values} values (max_values)")
        if not gc.isenabled():
            return self.decode(body, rough)
        gc.disable()
        try:
            return self.decode(body, rough)
        finally:
            gc.enable()

    def _canonical(self, body: bytes) -> Request | None:
        """The request, if the codec writes its value back to the same bytes; None if the body needs a closer look.

        Most bodies pass.  Bytes that were written from a value have no member twice, and no integer that was read as a
        float, so that the searches for both can be left out.
        """
        assert self._codec_loads is not None and self._codec_dumps is not None
        try:
            value = self._codec_loads(body)
            id, method, params = value["id"], value["method"], value["params"]
            if len(value) != 4 or value["jsonrpc"] != "2.0" or self._codec_dumps(value) != body:
                return None
        except Exception:
            # A member is missing, or the codec is narrow: the slower way finds the fault, if there is one.
            return None
        if type(method) is not str or type(params) is not dict or (type(id) is not int and type(id) is not str):
            return None
        return None if len(body) > 2 * MAX_DEPTH and too_deep(body) else Request(id, method, params)

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
                if len(written) <= OUTLINED:
                    return written if written.find(b"null") < 0 else standard_dumps(message)
                return standard_dumps(message) if says_null(written) else written
            except Exception:
                return standard_dumps(message)
        text = b"%d" % id if type(id) is int else self.dumps(id)
        if has_long_text(result):
            return long_dumps(result, b'{"jsonrpc":"2.0","id":%b,"result":' % text, b"}")
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (text, standard_dumps(result))

    def result_encoded(self, id: str | int, encoded_result: bytes) -> bytes:
        """The answer to a request whose result is JSON already, as `dumps` wrote it."""
        # Only the exact type: str(True) is no JSON.
        text = b"%d" % id if type(id) is int else self.dumps(id)
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (text, encoded_result)

    def error(self, id: str | int | None, error: MCPError) -> bytes:
        """The failure of a request; without an id where there is none.  Never raises, for any `error.data`."""
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
            return standard_dumps(body)

    def batch(self, messages: list[bytes]) -> bytes:
        """Encoded messages as one array."""
        return b"[" + b",".join(messages) + b"]"
