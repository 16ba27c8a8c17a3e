# SPDX-License-Identifier: MIT
"""The headers of MCP, for clients and servers: Accept, Content-Type, `Mcp-*`.  `origins` has Host, Origin and CORS.

The checks refuse a mirrored header of 2026-07-28 that is missing, repeated, malformed, or different from the body.

Rules:
- `request_headers` writes the headers of a client, and the functions `check_*` check them in a server.  All of them are
  in this module, and the tests try them against each other.
- Every function takes time linear in its input; there are no regular expressions.
- A header value is a `str` decoded by latin-1, without the header's name and line end.

2026-07-28 basic/transports/streamable-http: Security & Endpoint, Request Metadata.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol.errors import HeaderMismatch
from ..protocol.fieldnames import is_field_name

Headers = tuple[tuple[str, str], ...]

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
HTML_TYPE = "text/html"
XHTML_TYPE = "application/xhtml+xml"

JSON_HEADERS: Headers = (("Content-Type", JSON_TYPE),)
# X-Accel-Buffering: 2026-07-28 streamable-http, Receiving Messages, SHOULD.  no-transform keeps proxies from
# compressing, which buffers as well.
SSE_HEADERS: Headers = (
    ("Content-Type", SSE_TYPE),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
)

VERSION_HEADER = "MCP-Protocol-Version"
METHOD_HEADER = "Mcp-Method"
NAME_HEADER = "Mcp-Name"
PARAM_PREFIX = "Mcp-Param-"
SESSION_HEADER = "Mcp-Session-Id"
ANNOTATION = "x-mcp-header"

# Method to the member of params that `Mcp-Name` mirrors.  The tasks extension (SEP-2663) adds the last three.
NAME_SOURCE = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


# --- Accept and Content-Type ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Accept:
    """The formats that a client accepts in an answer.

    `browser`: it names HTML and no event stream, as a browser does for an address that a person opens.
    """

    json: bool
    sse: bool
    prefers_sse: bool = False
    browser: bool = False


def _quality(parameters: Iterable[str]) -> float:
    # RFC 9110 12.4.2.  A malformed quality counts as 1, since refusing the type would help no client.
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        value = value.strip()
        if name.strip().lower() == "q" and value and not value.strip("0123456789."):
            try:
                return min(float(value), 1.0)
            except ValueError:
                pass
    return 1.0


def parse_accept(value: str | None) -> Accept:
    """Read the values of the Accept headers, joined with ", ".  An absent or empty value accepts every format.

    The most specific range decides, so that `application/json;q=0, */*` excludes JSON.  Malformed parts are skipped.
    """
    if not value or not value.strip():
        return Accept(json=True, sse=True)
    ranges: dict[str, float] = {}
    for part in value.split(","):
        name, *parameters = part.split(";")
        name = name.strip().lower()
        ranges[name] = max(ranges.get(name, 0.0), _quality(parameters))
    any_type = ranges.get("*/*", ranges.get("*", 0.0))  # java.net sends "*; q=.2"
    json = ranges.get(JSON_TYPE, ranges.get("application/*", any_type))
    sse = ranges.get(SSE_TYPE, ranges.get("text/*", any_type))
    html = ranges.get(HTML_TYPE, ranges.get(XHTML_TYPE, 0.0))
    return Accept(json > 0, sse > 0, sse > json, html > 0 and SSE_TYPE not in ranges)


def is_json(content_type: str | None) -> bool:
    """Whether a body is declared as JSON in UTF-8.

    The type and subtype decide; capitals do not matter.  A comma means a second Content-Type, and is refused: a browser
    might look at one of the two and send the request without a preflight, and this server would read the other one.
    """
    if content_type is None or "," in content_type:
        return False
    essence, *parameters = content_type.split(";")
    if essence.strip().lower() != JSON_TYPE:
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return False
    return True


# --- 2026-07-28: values -----------------------------------------------------------------------------------------
_PREFIX = "=?base64?"
_SUFFIX = "?="


def _is_plain(text: str) -> bool:
    # Printable ASCII is exactly 0x20 to 0x7E.
    return text.isascii() and text.isprintable()


def encode_value(text: str) -> str:
    """A header value for any text: the text itself where it is safe in a header, else `=?base64?...?=`.

    2026-07-28 streamable-http, Value Encoding.

    Raises:
        ValueError: a lone surrogate, which has no UTF-8.
    """
    looks_encoded = text.startswith(_PREFIX) and text.endswith(_SUFFIX)
    if _is_plain(text) and not looks_encoded and text == text.strip(" "):
        return text
    return _PREFIX + binascii.b2a_base64(text.encode("utf-8"), newline=False).decode("ascii") + _SUFFIX


def decode_value(text: str) -> str:
    """The text that a header value encodes; a value without both markers is the text itself.

    Raises:
        HeaderMismatch: characters that a header value cannot have, base64 that is not canonical, or not UTF-8.
    """
    # Tab is legal inside: "visible ASCII characters (0x21-0x7E), space (0x20), and horizontal tab (0x09)"
    if not _is_plain(text) and not _is_plain(text.replace("\t", " ")):
        raise HeaderMismatch("Header mismatch: a header value has illegal characters")
    # In "=?base64?=" the two markers overlap, so it is a literal value.
    if not (text.startswith(_PREFIX) and text.endswith(_SUFFIX) and len(text) >= len(_PREFIX) + len(_SUFFIX)):
        return text
    payload = text[len(_PREFIX) : -len(_SUFFIX)]
    try:
        data = binascii.a2b_base64(payload)
        # a2b_base64 skips unknown characters.  If the data encodes back to the payload, there were none.
        if binascii.b2a_base64(data, newline=False).decode("ascii") == payload:
            return data.decode("utf-8")
    except ValueError:  # binascii.Error and UnicodeDecodeError are subclasses of ValueError
        pass
    raise HeaderMismatch("Header mismatch: malformed base64 in a header value") from None


# --- 2026-07-28: the server's check ------------------------------------------------------------------------------
_SHOWN = 80


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _single(values: Sequence[str], name: str) -> str:
    if not values:
        raise HeaderMismatch(f"Header mismatch: {name} header is required")
    if len(values) > 1:
        # A gateway that routes by the first copy and a server that reads the last one would act on two requests.
        raise HeaderMismatch(f"Header mismatch: {name} header is repeated")
    return values[0].strip(" \t")


def _differs(name: str, value: str, expected: str) -> HeaderMismatch:
    return HeaderMismatch(
        f"Header mismatch: {name} header value {_show(value)} does not match body value {_show(expected)}"
    )


def check_version_header(values: Sequence[str], claim: str) -> None:
    """Rung 3: `MCP-Protocol-Version` is there once and equals the claim in `_meta`.  Raises HeaderMismatch."""
    value = _single(values, VERSION_HEADER)
    if value != claim or not _is_plain(value):
        raise _differs(VERSION_HEADER, value, claim)


def check_method_header(values: Sequence[str], method: str) -> None:
    """Rung 4: `Mcp-Method` is there once and equals the method, capitals included.  Raises HeaderMismatch."""
    value = _single(values, METHOD_HEADER)
    if value != method or not _is_plain(value):
        raise _differs(METHOD_HEADER, value, method)


def check_name_header(
    values: Sequence[str], method: str, params: Mapping[str, Any], mirrored: str | None = None
) -> None:
    """Rung 5: for the methods of `NAME_SOURCE`, `Mcp-Name` is there once and equals the member of params.

    `mirrored` is that member for a method of an extension.  If the member of params is missing or no string, this check
    passes, because the check of params refuses the request.

    Raises:
        HeaderMismatch: the header is missing, repeated, malformed, or different.
    """
    source = NAME_SOURCE.get(method, mirrored)
    expected = None if source is None else params.get(source)
    if type(expected) is str:
        value = _single(values, NAME_HEADER)
        if decode_value(value) != expected:
            raise _differs(NAME_HEADER, value, expected)


def check_param_headers(
    get: Callable[[str], Sequence[str]], header_map: Mapping[tuple[str, ...], str], arguments: Mapping[str, Any]
) -> None:
    """Rung 9: each annotated argument with a value has its header, and one without a value has none.

    Args:
        get: a function that returns all values of the header with a name.
        header_map: the result of `header_map` for the tool's schema; other headers are not checked.
        arguments: the arguments of the tool's call.

    Raises:
        HeaderMismatch: a header is missing, repeated, malformed, superfluous, or different from its argument.
    """
    for path, suffix in header_map.items():
        name = PARAM_PREFIX + suffix
        values = get(name)
        expected = _value_at(arguments, path)
        if expected is None:
            if values:
                raise HeaderMismatch(f"Header mismatch: {name} header without a value in the body")
        elif values or type(expected) in _SCALARS:
            value = _single(values, name)
            if not _says(decode_value(value), expected):
                raise HeaderMismatch(f"Header mismatch: {name} header value {_show(value)} does not match the body")


_SCALARS = (str, int, float, bool)


def _value_at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if type(arguments) is not dict:
            return None
        arguments = arguments.get(key)
    return arguments


def _says(text: str, expected: Any) -> bool:
    if type(expected) is str:
        return text == expected
    if type(expected) is bool:
        return text == ("true" if expected else "false")
    # "servers SHOULD compare the header value and the body value numerically": 42.0 is 42.
    if type(expected) is int:
        return _integer(text) == expected
    return type(expected) is float and _float(text) == expected


# Python's own int() and float() would take "1_0", " 1", "inf" and the digits of every script.
def _integer(text: str) -> int | None:
    # Not converted by way of a float: two neighbouring integers past 2**53 would become equal.
    whole, dot, fraction = text.removeprefix("-").partition(".")
    if not (text.isascii() and whole.isdigit()) or (dot and (not fraction or fraction.strip("0"))):
        return None
    try:
        return -int(whole) if text.startswith("-") else int(whole)
    except ValueError:  # more digits than the interpreter reads
        return None


def _float(text: str) -> float | None:
    if text.strip("0123456789+-.eE"):
        return None
    try:
        return float(text)
    except ValueError:
        return None


# --- 2026-07-28: annotations in a tool's schema -------------------------------------------------------------------

# The keywords of JSON Schema 2020-12 that hold a schema, a list of schemas, and a map of schemas, with the older names
# of three.  The other keywords hold data, in which an "x-mcp-header" is no annotation.
_ONE = frozenset(
    "additionalItems additionalProperties contains contentSchema else if items not propertyNames then "
    "unevaluatedItems unevaluatedProperties".split()
)
_MANY = frozenset("allOf anyOf items oneOf prefixItems".split())
_NAMED = frozenset("$defs definitions dependencies dependentSchemas patternProperties".split())
_PRIMITIVE = ("string", "integer", "boolean")


def _schemas(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    # Every schema with the `properties` names that lead to it, or None if another keyword leads to it.  The stack is a
    # list, because a client reads the schemas of servers, and these may nest deeper than Python's own stack allows.
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while waiting:
        path, schema = waiting.pop()
        if type(schema) is not dict:
            continue
        yield path, schema
        inner: list[tuple[tuple[str, ...] | None, Any]] = []
        for keyword, value in schema.items():
            if keyword == "properties" and type(value) is dict:
                inner += ((None if path is None else (*path, name), sub) for name, sub in value.items())
            elif keyword in _NAMED and type(value) is dict:
                inner += ((None, sub) for sub in value.values())
            elif keyword in _MANY and type(value) is list:
                inner += ((None, sub) for sub in value)
            elif keyword in _ONE:
                inner.append((None, value))
        waiting += reversed(inner)


def header_map(input_schema: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """The annotated properties of a tool's input schema: a path of property names to the part behind `Mcp-Param-`.

    A server calls it when a tool is registered, and a client calls it for each tool that it lists.  The client does not
    offer a tool with wrong annotations to its user (2026-07-28 streamable-http, Schema Extension).

    Raises:
        ValueError: an annotation is wrong; the text names it and gives the reason.
    """
    found: dict[tuple[str, ...], str] = {}
    taken: set[str] = set()
    for path, schema in _schemas(input_schema):
        if ANNOTATION not in schema:
            continue
        name = schema[ANNOTATION]
        if not path:
            raise ValueError(f"{ANNOTATION} on something that is not reached through `properties` alone")
        where = f"{ANNOTATION} on {'.'.join(path)!r}"
        if type(name) is not str or not is_field_name(name):
            raise ValueError(f"{where}: the value must be a token of RFC 9110")
        if schema.get("type") not in _PRIMITIVE:
            raise ValueError(f"{where}: the type must be string, integer or boolean")
        if name.lower() in taken:
            raise ValueError(f"{where}: {name!r} is taken by another property")
        taken.add(name.lower())
        found[path] = name
    return found


# --- 2026-07-28: the client's headers ----------------------------------------------------------------------------
def request_headers(
    method: str,
    params: Mapping[str, Any] | None,
    version: str,
    header_map: Mapping[tuple[str, ...], str] | None = None,
    mirrored: str | None = None,
) -> list[tuple[str, str]]:
    """The headers that mirror a request of a modern client; `header_map` belongs to the called tool.

    `mirrored` is the member of params that `Mcp-Name` repeats for a method of an extension.

    Raises:
        ValueError: a method or version that no header can carry, or a lone surrogate in a name or argument.
    """
    for value in (method, version):
        if not _is_plain(value) or value != value.strip(" "):
            raise ValueError(f"no header can carry {value!r}")
    params = params or {}
    headers = [(VERSION_HEADER, version), (METHOD_HEADER, method)]
    source = NAME_SOURCE.get(method, mirrored)
    name = None if source is None else params.get(source)
    if type(name) is str:
        headers.append((NAME_HEADER, encode_value(name)))
    for path, suffix in (header_map or {}).items():
        text = _written(_value_at(params.get("arguments"), path))
        if text is not None:
            headers.append((PARAM_PREFIX + suffix, encode_value(text)))
    return headers


def _written(value: Any) -> str | None:
    # "Type conversion: Convert the parameter value to its string representation"; None for a value without one.
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and value.is_integer():
        value = int(value)
    return str(value) if type(value) is int or type(value) is float else None
