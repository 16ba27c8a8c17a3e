# SPDX-License-Identifier: MIT
"""Reads the messages of servers for a client: strictly first, then as the official SDK reads them.

The second reading takes NaN and Infinity, a byte order mark, an envelope member that is null beside the one that counts
(`"error": null` beside a result), an error beside a result, error codes and ids that are numbers in another spelling
(`"-32000"`, `1.0`).  It refuses everything else as `jsonrpc` does, and names the request that the bytes were to
answer, if they show it.  The server's end never reads so.

Rule: a message that the strict reading takes costs nothing more here, and keeps its value.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import Any

from ...protocol.errors import InvalidRequest, MCPError, ParseError
from ...protocol.jsonrpc import JSON, MAX_BATCH, Message, lenient_value, message_of
from .errors import InvalidAnswer

# TypeScript's SDK writes the id last.  Inside a JSON text a quote is escaped, so that `,"id":` is always a member, and
# the last brace of a message closes the message itself.
_ID_AT_THE_END = re.compile(
    rb'[,{]\s*"id"\s*:\s*(-?[0-9]{1,20}|"(?:[^"\\]|\\.){0,500}")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)
# A log line may be a JSON object as well.  An object that begins with one of these members is no log line.
_BEGINS_AS_A_MESSAGE = re.compile(rb'[ \t\r\n]*\{\s*"(?:jsonrpc|id|method|params|result|error)"\s*:')
_TAIL = 1024  # bytes in which the id at the end is looked for
_SPACE = " \t\r\n"
_BOM = b"\xef\xbb\xbf"
_MAX_ID_DIGITS = 18
_decoder = JSONDecoder()


class Unreadable(InvalidAnswer):
    """Bytes that are no message.

    Attributes:
        what: the reason, without the quoted beginning of the bytes.
        request_id: the id in the bytes, if one can be read.
        answers: whether the bytes are an answer, by a member that only messages have; a log line has none.
        calls: whether they have a method, so that they answer no request.
    """

    def __init__(
        self,
        message: str,
        body: bytes,
        request_id: int | str | None = None,
        *,
        answers: bool = False,
        calls: bool = False,
    ) -> None:
        super().__init__(f"the answer is {message}", body)
        self.what = message
        self.request_id = request_id
        self.answers = answers
        self.calls = calls


def read(json: JSON, body: bytes) -> Message | list[Message | Unreadable]:
    """The message in a body, a line or an event, or the messages of an array.

    Raises:
        Unreadable: there is no message.  In an array it is not raised, but stands in the place of the element.
    """
    try:
        found = json.decode(body)
    except MCPError:
        pass
    else:
        if type(found) is not list:
            return found  # type: ignore[return-value]  # no list, so a message
        if InvalidRequest not in map(type, found):
            return found  # type: ignore[return-value]  # each of them a message
    try:
        value, members = lenient_value(body)
    except ParseError as error:
        raise _no_json(error, body) from None
    if type(value) is not list:
        return _message(value, members, body)
    if not 0 < len(value) <= MAX_BATCH:
        raise Unreadable(f"a batch of {len(value)} messages", body)
    messages: list[Message | Unreadable] = []
    for index, one in enumerate(value):
        try:
            messages.append(_message(one, members[index], body))
        except Unreadable as error:  # noqa: PERF203
            messages.append(error)
    return messages


def is_answer_to(request_id: int | str, said: int | str | None) -> bool:
    """Whether an answer with the id `said` is meant for this request: some servers return 1 as "1"."""
    if type(said) is type(request_id):
        return said == request_id
    return type(said) is str and type(request_id) is int and number(said) == request_id


def number(text: str) -> int | None:
    """The number that a text spells as JSON would, or None."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_ID_DIGITS or (text[0] == "0" and text != "0"):
        return None
    return int(text)


# --- JSON that is no strict message ----------------------------------------------------------------------------------


def _message(value: Any, members: Any, body: bytes) -> Message:
    """Raises Unreadable."""
    request_id: int | str | None = None
    answers = calls = False
    if type(value) is dict:
        value = _tolerated(value)
        found = value.get("id")
        request_id = found if type(found) is int or type(found) is str else None
        calls = "method" in value
        answers = not calls and not value.keys().isdisjoint(("jsonrpc", "result", "error"))
    try:
        return message_of(value, members)
    except InvalidRequest as error:
        raise Unreadable(f"no message: {error.message}", body, request_id, answers=answers, calls=calls) from None


def _tolerated(value: dict[str, Any]) -> dict[str, Any]:
    """The same message in the words of JSON-RPC, as far as only its spelling is another."""
    value = {name: it for name, it in value.items() if it is not None or name not in ("method", "error")}
    if "method" in value:
        # Some serialisers write an absent member as null.
        return {name: it for name, it in value.items() if it is not None or name not in ("id", "result")}
    if type(value.get("id")) is float:
        value["id"] = _integer(value["id"])
    error = value.get("error")
    if type(error) is dict:
        value["error"] = error = {**error, "code": _integer(error.get("code"))}
    if "result" in value and "error" in value:
        # An error that can be read counts; beside an error that cannot be read the result counts.
        readable = type(error) is dict and type(error["code"]) is int and type(error.get("message")) is str
        del value["result" if readable or type(value["result"]) is not dict else "error"]
    return value


def _integer(value: Any) -> Any:
    """An integer that was written as 1.0 or "1"; anything else as it is."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is str:
        digits = number(value.removeprefix("-"))
        return value if digits is None else -digits if value[0] == "-" else digits
    return value


# --- bytes that are no JSON ------------------------------------------------------------------------------------------


def _no_json(error: ParseError, body: bytes) -> Unreadable:
    start = body.removeprefix(_BOM)
    message = f"no message: {error.message}"
    if _BEGINS_AS_A_MESSAGE.match(start) is None:
        return Unreadable(message, body)
    may_answer, request_id = beginning(start)
    if not may_answer:
        return Unreadable(message, body, calls=True)
    if request_id is None:
        request_id = id_at_the_end(start[-_TAIL:])
    return Unreadable(message, body, request_id, answers=True)


def beginning(head: bytes) -> tuple[bool, int | str | None]:
    """Whether a message that begins so may be an answer, and the id of the request, where it stands there."""
    text = head.decode("utf-8", "replace").lstrip(_SPACE)
    if text[:1] != "{":
        return text[:1] == "[", None  # 2025-03-26 has batches
    found: int | str | None = None
    place = 1
    try:
        while True:
            key, place = _decoder.raw_decode(text, _past(text, place, ""))
            if key in ("method", "params"):
                return False, None
            if key in ("result", "error"):
                return True, found
            value, place = _decoder.raw_decode(text, _past(text, place, ":"))
            place = _past(text, place, ",")
            if key == "id" and type(value) in (int, str):
                found = value
    except (ValueError, IndexError, RecursionError):
        return True, None  # the rest of the message is not known


def _past(text: str, place: int, expected: str) -> int:
    """Where the next token begins.  Raises ValueError where `expected` does not stand before it."""
    while text[place] in _SPACE:
        place += 1
    if expected:
        if text[place] != expected:
            raise ValueError(expected)
        return _past(text, place + 1, "")
    return place


def id_at_the_end(tail: bytes) -> int | str | None:
    """The id of a message that ends so, where that is its last member, or the last but `jsonrpc`."""
    found = _ID_AT_THE_END.search(tail)
    if found is None:
        return None
    try:
        value: int | str = _decoder.decode(found[1].decode("utf-8"))
    except ValueError:
        return None
    return value
