# SPDX-License-Identifier: MIT
"""The header vocabulary: what a client may read, who may ask, and whether headers say what the body says."""

from __future__ import annotations

import base64
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from patience import cheap

from mcp_h11.http.headers import (
    NAME_SOURCE,
    Accept,
    check_method_header,
    check_name_header,
    check_param_headers,
    check_version_header,
    decode_value,
    encode_value,
    header_map,
    is_json,
    parse_accept,
    request_headers,
)
from mcp_h11.http.origins import CORS_REQUEST_HEADERS, LOOPBACK_HOSTS, HostPolicy, cors_exposed, cors_headers
from mcp_h11.protocol.errors import HeaderMismatch

# --- Accept and Content-Type ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "json", "sse"),
    [
        (None, True, True),
        ("", True, True),
        ("  ", True, True),
        ("*/*", True, True),
        ("*", True, True),
        ("application/json", True, False),
        ("text/event-stream", False, True),
        ("application/json, text/event-stream", True, True),
        ("application/json,text/event-stream", True, True),
        ("APPLICATION/JSON , Text/Event-Stream", True, True),
        ("application/*", True, False),
        ("text/*", False, True),
        ("application/*, text/*;q=0.1", True, True),
        ("*/*;q=0.1", True, True),
        ("*/*;q=0", False, False),
        ("*/*;q=0.000", False, False),
        ("application/json, text/event-stream;q=0", True, False),
        ("application/json, text/event-stream ; Q = 0", True, False),
        ("*/*, text/event-stream;q=0", True, False),
        ("*/*, text/*;q=0", True, False),
        ("text/*;q=0, text/event-stream", False, True),
        ("application/json;q=0, */*", False, True),
        ("application/json;charset=utf-8", True, False),
        ("application/json;version=1;q=0.5", True, False),
        ("text/html", False, False),
        ("text/html, application/xhtml+xml, */*;q=0.8", True, True),
        ("application/jsonx, text/event-streams", False, False),
        ("application/json text/event-stream", False, False),
        # malformed qualities count as 1, malformed ranges as nothing
        ("application/json;q=x, text/event-stream;q=", True, True),
        ("application/json;q=1.2.3, text/event-stream;q=-1", True, True),
        ("application/json;q=nan, text/event-stream;q=inf", True, True),
        ("application/json;q=99", True, False),
        (",,;q=0,application/json,;", True, False),
        ("application/json;", True, False),
        ("application/json; q", True, False),
        ("application/json;q=0, application/json", True, False),
    ],
)
def test_accept_says_what_the_client_can_read(value: str | None, json: bool, sse: bool) -> None:
    accept = parse_accept(value)
    assert (accept.json, accept.sse) == (json, sse)


@pytest.mark.parametrize(
    ("value", "prefers"),
    [
        (None, False),
        ("*/*", False),
        ("application/json, text/event-stream", False),
        ("text/event-stream, application/json", False),
        ("text/event-stream", True),
        ("text/event-stream, application/json;q=0.9", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream;q=0, application/json;q=0", False),
        ("text/event-stream;q=5, application/json", False),
    ],
)
def test_sse_is_preferred_by_quality_and_not_by_order(value: str | None, prefers: bool) -> None:
    assert parse_accept(value).prefers_sse is prefers


@settings(deadline=None)
@given(st.text(string.ascii_lowercase[:3] + '*/;=,q01. \t"'))
def test_accept_never_fails(value: str) -> None:
    assert isinstance(parse_accept(value), Accept)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("application/json", True),
        ("Application/JSON", True),
        (" application/json ", True),
        ("application/json;charset=utf-8", True),
        ('application/json; Charset="UTF-8"', True),
        ("application/json; charset=utf8; v=1", True),
        ("application/json;", True),
        ("application/json; charset=utf-16", False),
        ("application/json; charset=latin1", False),
        ("application/json; charset", False),
        (None, False),
        ("", False),
        ("text/plain", False),
        ("text/plain; application/json", False),
        ("application/json, text/plain", False),
        ("application/json; a=b, text/plain", False),
        ("application/jsonp", False),
        ("application/json-rpc", False),
        ("application/ld+json", False),
        ("application", False),
    ],
)
def test_json_is_told_by_its_essence(value: str | None, expected: bool) -> None:
    assert is_json(value) is expected


# --- Host -------------------------------------------------------------------------------------------------------

LOOPBACK = HostPolicy()

NO_HOST = [
    "",
    " ",
    ".",
    ":8000",
    "localhost:",
    "localhost:x",
    "localhost:-1",
    "localhost:+1",
    "localhost:65536",
    "localhost:008000",
    "localhost:80:80",
    "localhost:8\u00b2",
    "localhost ",
    " localhost",
    "local host",
    "localhost\t",
    "localhost\n",
    "localhost\x00",
    "localhost..",
    ".localhost",
    "localhost,localhost",
    "localhost, evil.com",
    "localhost/",
    "localhost#",
    "localhost?",
    "localhost\\",
    "localhost%00",
    "localhost%2eevil.com",
    "evil.com@localhost",
    "localhost@evil.com",
    "user:1@localhost",
    "http://localhost",
    "//localhost",
    "::1",
    "[::1",
    "::1]",
    "[::1]]",
    "[[::1]]",
    "[::1]8000",
    "[::1]:",
    "[::1].evil.com",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%eth0]",
    "[]",
    "[localhost]",
    "[127.0.0.1]",
    "*",
    "localhost:*",
    "\u2113ocalhost",
    "localhos\u212a",
    "127.0.0.\u0661",
    "127\u30020.0.1",
]


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST:8000",
        "LocalHost",
        "localhost.",
        "localhost.:8000",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8000",
    ],
)
def test_loopback_hosts_pass_with_any_port(value: str) -> None:
    assert LOOPBACK.check_host(value)


@pytest.mark.parametrize(
    "value",
    [
        "evil.com",
        "evil.com:8000",
        "localhost.evil.com",
        "evil.localhost",
        "localhost-evil.com",
        "evillocalhost",
        "localhostevil",
        "127.0.0.1.evil.com",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "127.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "[::]",
        "[::2]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        *NO_HOST,
        None,
    ],
)
def test_any_other_host_is_refused_on_loopback(value: str | None) -> None:
    assert not LOOPBACK.check_host(value)


@pytest.mark.parametrize("value", NO_HOST)
def test_any_host_still_has_to_be_one(value: str) -> None:
    assert not HostPolicy(["*"]).check_host(value)


def test_any_host_takes_any_and_none() -> None:
    policy = HostPolicy(["*"])
    assert policy.check_host("a.example")
    assert policy.check_host("[2001:db8::1]:80")
    assert policy.check_host(None)


@pytest.mark.parametrize(
    ("pattern", "passes", "refused"),
    [
        ("a.example", ["a.example", "A.EXAMPLE.", "a.example:1"], ["b.example", "x.a.example", "a.example.x"]),
        ("a.example:*", ["a.example", "a.example:1"], ["b.example"]),
        ("A.Example.:8443", ["a.example:8443", "a.example:08443"], ["a.example", "a.example:8444", "a.example:443"]),
        ("a.example:443", ["a.example", "a.example:443"], ["a.example:80", "a.example:8443"]),
        ("[2001:DB8::1]:80", ["[2001:db8::1]", "[2001:db8::1]:80"], ["[2001:db8::1]:81", "[2001:db8::2]"]),
        ("[::1]:*", ["[::1]:5"], ["localhost"]),
        ("my_host", ["my_host:80"], ["my-host"]),
    ],
)
def test_a_host_pattern_has_a_port_or_any(pattern: str, passes: list[str], refused: list[str]) -> None:
    policy = HostPolicy([pattern])
    assert [value for value in passes if not policy.check_host(value)] == []
    assert [value for value in refused if policy.check_host(value)] == []
    assert not policy.check_host(None)


def test_ports_of_one_host_add_up() -> None:
    policy = HostPolicy(["a.example:1", "a.example:2"])
    assert [port for port in (1, 2, 3) if policy.check_host(f"a.example:{port}")] == [1, 2]


@pytest.mark.parametrize("pattern", ["", "*.example", "a b", "::1", "a.example:x", "a.example:1:*", "http://a.example"])
def test_a_host_pattern_that_cannot_match_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        HostPolicy([pattern])


def test_a_string_is_no_list_of_patterns() -> None:
    with pytest.raises(ValueError, match="a list"):
        HostPolicy("localhost")
    with pytest.raises(ValueError, match="a list"):
        HostPolicy(None, "https://a.example")


# --- Origin -----------------------------------------------------------------------------------------------------

NO_ORIGIN = [
    "",
    "null",
    "NULL",
    "*",
    "localhost",
    "//localhost",
    "://localhost",
    "http:localhost",
    "http:/localhost",
    "http://",
    "http:///",
    "http://localhost/",
    "http://localhost/path",
    "http://localhost?x",
    "http://localhost#x",
    "http://evil.com@localhost",
    "http://localhost@evil.com",
    "http://localhost:3000@evil.com",
    "http://localhost:",
    "http://localhost:99999",
    "http://localhost:3000:1",
    "http://local host",
    " http://localhost",
    "http://localhost ",
    "http://localhost, http://localhost",
    "http://localhost http://evil.com",
    "http://localhost\r\nx: y",
    "http://[::1",
    "http://::1",
    "ht tp://localhost",
    "file://",
    "data:text/html,x",
    "http://\u2113ocalhost",
]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "http://localhost",
        "https://localhost",
        "http://localhost:6274",
        "HTTP://LocalHost:6274",
        "http://127.0.0.1:1",
        "http://[::1]:65535",
    ],
)
def test_loopback_pages_and_programs_pass(value: str | None) -> None:
    assert LOOPBACK.check_origin(value)
    assert HostPolicy(["*"]).check_origin(value)
    assert HostPolicy(["localhost:8000"], ["https://a.example"]).check_origin(value)


@pytest.mark.parametrize(
    "value",
    [
        "http://evil.com",
        "https://localhost.evil.com",
        "http://evil.localhost",
        "http://127.0.0.1.evil.com:8000",
        "http://127.0.0.2",
        "http://0.0.0.0",
        "http://2130706433",
        "http://[::ffff:127.0.0.1]",
        "tauri://localhost",
        "javascript://localhost",
        "chrome-extension://localhost",
        *NO_ORIGIN,
    ],
)
def test_any_other_origin_is_refused(value: str) -> None:
    assert not LOOPBACK.check_origin(value)
    assert not HostPolicy(["*"]).check_origin(value)


@pytest.mark.parametrize("value", NO_ORIGIN)
def test_any_origin_still_has_to_be_one(value: str) -> None:
    assert not HostPolicy(None, ["*"]).check_origin(value)


def test_loopback_pages_are_strangers_where_loopback_is_not_allowed() -> None:
    policy = HostPolicy(["a.example"], ["https://a.example"])
    assert not policy.check_origin("http://localhost:3000")
    assert policy.check_origin("https://a.example")
    assert HostPolicy(["a.example"], ["*"]).check_origin("http://localhost:3000")


@pytest.mark.parametrize(
    ("pattern", "passes", "refused"),
    [
        (
            "https://a.example",
            ["https://a.example", "https://A.example:443"],
            ["http://a.example", "https://a.example:8443", "https://x.a.example", "https://a.example.x"],
        ),
        ("https://a.example:8443", ["https://a.example:8443"], ["https://a.example", "https://a.example:443"]),
        ("https://a.example:*", ["https://a.example", "https://a.example:1"], ["http://a.example"]),
        ("http://a.example:80", ["http://a.example"], ["http://a.example:443", "https://a.example"]),
        ("http://[2001:db8::1]:3000", ["http://[2001:DB8::1]:3000"], ["http://[2001:db8::1]"]),
        ("chrome-extension://abcdef", ["chrome-extension://abcdef"], ["chrome-extension://abcdeg"]),
        ("tauri://localhost", ["tauri://localhost"], ["tauri://localhost:1"]),
    ],
)
def test_an_origin_pattern_is_exact(pattern: str, passes: list[str], refused: list[str]) -> None:
    policy = HostPolicy(["mcp.example"], [pattern])
    assert [value for value in passes if not policy.check_origin(value)] == []
    assert [value for value in refused if policy.check_origin(value)] == []


@pytest.mark.parametrize("pattern", ["", "null", "a.example", "https://a.example/", "https://*.a", "https://a:1:*"])
def test_an_origin_pattern_that_cannot_match_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match="not scheme"):
        HostPolicy(None, [pattern])


@settings(deadline=None)
@given(
    st.builds(
        "{}{}{}".format,
        st.text("x.@", max_size=1),
        st.sampled_from([*LOOPBACK_HOSTS, "LOCALHOST"]),
        st.text("localhost.127:[]@%/\\ \t", max_size=6) | st.integers().map(":{}".format) | st.text(max_size=3),
    )
)
def test_what_passes_on_loopback_is_a_loopback_host_and_a_port(value: str) -> None:
    if LOOPBACK.check_host(value):
        rest = next(value.lower()[len(host) :] for host in LOOPBACK_HOSTS if value.lower().startswith(host))
        rest = rest.removeprefix(".")
        assert rest == "" or (rest[0] == ":" and rest[1:].isdecimal() and int(rest[1:]) < 65_536)
    if LOOPBACK.check_origin("http://" + value):
        assert LOOPBACK.check_host(value)


@pytest.mark.long
@pytest.mark.parametrize(
    "piece", ["a", ".", "a.", ":", "[", "[:", "]", "@", ",", ";q=", "=", "%", "http://", "x;", " "]
)
def test_hostile_values_take_linear_time(piece: str) -> None:
    policy = HostPolicy(["a.example"], ["https://a.example"])
    value = piece * (1_000_000 // len(piece))
    # Anything quadratic in a megabyte would take hours.
    with cheap(10.0):
        policy.check_host(value)
        policy.check_origin("https://" + value)
        parse_accept(value)
        is_json("application/json;" + value)
        cors_headers("https://a.example", value)
        encode_value(value)
        decode_value(value)


# --- CORS -------------------------------------------------------------------------------------------------------


def test_a_preflight_gets_back_the_headers_that_it_asks_for() -> None:
    asked = "content-type, mcp-param-region,  x-y ,bad name,, \r\nx"
    answer = cors_headers("https://a.example", asked)
    assert answer == (
        ("Access-Control-Allow-Origin", "https://a.example"),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"),
        ("Access-Control-Allow-Headers", "content-type, mcp-param-region, x-y, x"),
        ("Access-Control-Max-Age", "7200"),
    )


@pytest.mark.parametrize("asked", [None, "", ",", "a b"])
def test_a_preflight_that_asks_for_none_gets_the_headers_of_every_revision(asked: str | None) -> None:
    allowed = dict(cors_headers("https://a.example", asked))["Access-Control-Allow-Headers"]
    assert allowed == CORS_REQUEST_HEADERS
    assert {"mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "last-event-id"} < set(
        allowed.split(", ")
    )


def test_an_answer_exposes_what_a_client_has_to_read() -> None:
    assert cors_exposed("https://a.example") == (
        ("Access-Control-Allow-Origin", "https://a.example"),
        ("Vary", "Origin"),
        ("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate, MCP-Protocol-Version"),
    )


@pytest.mark.parametrize("origin", NO_ORIGIN)
def test_what_is_no_origin_is_never_copied_into_an_answer(origin: str) -> None:
    assert cors_headers(origin, "x") == ()
    assert cors_exposed(origin) == ()


# --- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("us-west1", "us-west1"),
        ("Hello, \u4e16\u754c", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("", ""),
        ("a b", "a b"),
        ("a\tb", "=?base64?YQli?="),
        ("~", "~"),
        ("\x7f", "=?base64?fw==?="),
        ("\x00", "=?base64?AA==?="),
        ("=?base64?SGVsbG8=", "=?base64?SGVsbG8="),
        ("SGVsbG8=?=", "SGVsbG8=?="),
        ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
        ("=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?="),
    ],
)
def test_values_are_encoded_as_the_specification_shows(text: str, value: str) -> None:
    assert encode_value(text) == value
    assert decode_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=?base64?SGVsbG8=?=", "Hello"),
        ("=?base64??=", ""),
        ("=?base64?=", "=?base64?="),
        ("=?base64?", "=?base64?"),
        ("a\tb", "a\tb"),
        ("=?Base64?SGVsbG8=?=", "=?Base64?SGVsbG8=?="),
        ("x=?base64?SGVsbG8=?=", "x=?base64?SGVsbG8=?="),
    ],
)
def test_other_values_are_read_leniently_only_where_no_marker_is(value: str, text: str) -> None:
    assert decode_value(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "=?base64?SGVsbG8?=",
        "=?base64?SGVs!!!bG8=?=",
        "=?base64?SGVsbG8==?=",
        "=?base64?SGVsbG8= ?=",
        "=?base64?SGVs bG8=?=",
        "=?base64?SGVsbG9=?=",
        "=?base64?=SGVsbG8?=",
        "=?base64?SGVsbG8=SGVsbG8=?=",
        "=?base64?_-8=?=",
        "=?base64?/w==?=",
        "=?base64?7aCA?=",
        "=?base64?wK8=?=",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "caf\u00e9",
        "\u00a0",
    ],
)
def test_malformed_values_are_a_mismatch(value: str) -> None:
    with pytest.raises(HeaderMismatch):
        decode_value(value)


def test_a_lone_surrogate_has_no_header_value() -> None:
    with pytest.raises(ValueError):
        encode_value("\ud800")


texts = st.text() | st.text(string.printable) | st.sampled_from(["=?base64?x?=", "=?base64?", "42", "true", ""])


@settings(deadline=None)
@given(texts)
def test_a_value_survives_and_is_a_legal_field_value(text: str) -> None:
    value = encode_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert decode_value(value) == text


@settings(deadline=None)
@given(st.text(string.ascii_letters + string.digits + "+/=-_ ", max_size=12))
def test_base64_is_as_strict_as_its_canonical_form(payload: str) -> None:
    try:
        expected = base64.b64decode(payload, validate=True).decode("utf-8")
        canonical = base64.b64encode(expected.encode()).decode() == payload
    except ValueError:
        canonical = False
    try:
        assert decode_value(f"=?base64?{payload}?=") == expected
    except HeaderMismatch:
        assert not canonical
    else:
        assert canonical


# --- the check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_version_header, check_method_header])
def test_a_required_header_is_there_once_and_equal(check: Callable[[list[str], str], None]) -> None:
    check(["2026-07-28"], "2026-07-28")
    check([" \t2026-07-28 "], "2026-07-28")
    for values in ([], ["2026-07-28"] * 2, ["2026-07-28, 2026-07-28"], [""], ["2026-07-2"], ["2026-07-28x"]):
        with pytest.raises(HeaderMismatch):
            check(values, "2026-07-28")
    for values in (["TOOLS/LIST"], ["tools/list\xa0"], ["=?base64?dG9vbHMvbGlzdA==?="]):
        with pytest.raises(HeaderMismatch):
            check(values, "tools/list")
    with pytest.raises(HeaderMismatch):
        check(["caf\u00e9"], "caf\u00e9")


@pytest.mark.parametrize(("method", "member"), NAME_SOURCE.items())
def test_the_name_is_mirrored_for_the_methods_that_have_one(method: str, member: str) -> None:
    check_name_header(["foo"], method, {member: "foo"})
    check_name_header(["  foo  "], method, {member: "foo"})
    check_name_header(["=?base64?w6k=?="], method, {member: "\u00e9"})
    check_name_header(["=?base64?Zm9v?="], method, {member: "foo"})
    for values in ([], [""], ["Foo"], ["foo", "foo"], ["foo", "bar"], ["\u00e9"], ["=?base64?Zm9?="]):
        with pytest.raises(HeaderMismatch):
            check_name_header(values, method, {member: "foo"})
    with pytest.raises(HeaderMismatch, match="'bar' does not match body value 'foo'"):
        check_name_header(["bar"], method, {member: "foo"})


def test_the_name_is_not_looked_at_where_there_is_none() -> None:
    check_name_header([], "tools/list", {"name": "x"})
    check_name_header([], "tools/call", {})
    check_name_header(["x"], "tools/call", {"name": 1})


def test_a_mismatch_shows_the_start_of_a_long_value() -> None:
    with pytest.raises(HeaderMismatch) as raised:
        check_name_header(["x" * 10_000], "tools/call", {"name": "y" * 10_000})
    assert len(raised.value.message) < 300


def check_one(values: list[str], body: Any, present: bool = True) -> None:
    arguments = {"a": body} if present else {}
    check_param_headers(lambda name: values if name == "Mcp-Param-A" else [], {("a",): "A"}, arguments)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("x", "x"),
        ("", ""),
        ("42", "42"),
        ("=?base64?SGVsbG8=?=", "Hello"),
        ("SGVsbG8=", "SGVsbG8="),
        ("=?base64?SGVsbG8=", "=?base64?SGVsbG8="),
        ("true", True),
        ("false", False),
        ("42", 42),
        ("42.0", 42),
        ("042", 42),
        ("-7", -7),
        ("-7.00", -7),
        ("0", 0),
        ("-0", 0),
        ("=?base64?NDI=?=", 42),
        ("9007199254740993", 2**53 + 1),
        ("42", 42.0),
        ("42.0", 42.0),
        ("1.5", 1.5),
        ("1e+21", 1e21),
    ],
)
def test_a_mirrored_argument_is_compared_by_its_type(value: str, body: Any) -> None:
    check_one([value], body)


@pytest.mark.parametrize(
    ("values", "body"),
    [
        ([], "x"),
        ([], ""),
        ([], 0),
        ([], False),
        (["x", "x"], "x"),
        (["X"], "x"),
        (["42.0"], "42"),
        (["True"], True),
        (["1"], True),
        (["true"], 1),
        (["1"], "true"),
        (["43"], 42),
        (["42.5"], 42),
        (["42."], 42),
        ([".0"], 0),
        ([""], 0),
        (["-"], 0),
        (["4_2"], 42),
        (["+42"], 42),
        (["--42"], -42),
        (["0x2a"], 42),
        (["4.2e1"], 42),
        (["=?base64?IDQy?="], 42),
        (["=?base64?4pGg?="], 1),
        (["=?base64?2aE=?="], 1),
        (["9007199254740992"], 2**53 + 1),
        (["9" * 5000], 1),
        (["inf"], 1.5),
        (["1.5x"], 1.5),
        (["1.5.5"], 1.5),
        (["x\x01"], "x\x01"),
        (["\u00e9"], "\u00e9"),
        (["=?base64?SGVsbG8?="], "Hello"),
        (["x"], {"x": 1}),
        (["x"], ["x"]),
    ],
)
def test_a_mirrored_argument_that_differs_is_refused(values: list[str], body: Any) -> None:
    with pytest.raises(HeaderMismatch):
        check_one(values, body)


def test_no_value_wants_no_header() -> None:
    check_one([], None)
    check_one([], None, present=False)
    for present in (True, False):
        with pytest.raises(HeaderMismatch, match="without a value"):
            check_one(["x"], None, present)
    # Not a scalar: the check of arguments refuses it with a better reason.
    check_one([], {"x": 1})


def test_nested_arguments_are_read_at_their_exact_path() -> None:
    annotations = {("a", "b"): "B"}
    seen = {"Mcp-Param-B": ["1"]}
    check_param_headers(lambda name: seen.get(name, []), annotations, {"a": {"b": 1}, "b": 2})
    for arguments in ({}, {"a": None}, {"a": [1]}, {"a": "b"}, {"a": {}}, {"a.b": 1}):
        check_param_headers(lambda _: [], annotations, arguments)
        with pytest.raises(HeaderMismatch):
            check_param_headers(lambda name: seen.get(name, []), annotations, arguments)


def test_headers_that_the_tool_does_not_declare_are_not_looked_at() -> None:
    check_param_headers(lambda _: ["\x00", "x"], {}, {"a": 1})


# --- annotations ------------------------------------------------------------------------------------------------


def test_annotations_are_found_through_properties_alone() -> None:
    schema = {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "query": {"type": "string", "default": {"x-mcp-header": 1}, "examples": [{"x-mcp-header": 1}]},
            "x-mcp-header": {"type": "string"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}, "t": True}},
            "flag": {"type": "boolean", "x-mcp-header": "!#$%&'*+-.^_`|~"},
        },
        "additionalProperties": False,
        "allOf": [{"required": ["region"]}],
    }
    assert list(header_map(schema).items()) == [
        (("region",), "Region"),
        (("deep", "n"), "N"),
        (("flag",), "!#$%&'*+-.^_`|~"),
    ]
    assert header_map({}) == {}
    assert header_map({"properties": []}) == {}


def prop(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


ANNOTATED = {"type": "string", "x-mcp-header": "A"}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        *(
            (prop(**{"type": "string", "x-mcp-header": name}), "token")
            for name in ["", " ", "a b", "a:b", "a\r\n", "a\x00", "caf\u00e9", "(a)", 'a"', "a/b", None, 1, True, ["A"]]
        ),
        *(
            (prop(**{"type": kind, "x-mcp-header": "A"}), "type")
            for kind in ["number", "object", "array", "null", ["string", "null"], None, {}]
        ),
        (prop(**{"x-mcp-header": "A"}), "type"),
        ({"properties": {"a": ANNOTATED, "b": ANNOTATED | {"x-mcp-header": "a"}}}, "taken"),
        ({"properties": {"a": ANNOTATED, "b": {"properties": {"c": ANNOTATED}}}}, "taken"),
        (ANNOTATED, "properties"),
        *(
            ({keyword: ANNOTATED}, "properties")
            for keyword in ["items", "contains", "not", "if", "then", "else", "additionalProperties", "propertyNames"]
        ),
        *(({keyword: [ANNOTATED]}, "properties") for keyword in ["oneOf", "anyOf", "allOf", "prefixItems", "items"]),
        *(
            ({keyword: {"x": ANNOTATED}}, "properties")
            for keyword in ["$defs", "definitions", "patternProperties", "dependentSchemas"]
        ),
        (prop(type="array", items={"properties": {"b": ANNOTATED}}), "properties"),
        (prop(anyOf=[ANNOTATED, {"type": "null"}]), "properties"),
    ],
)
def test_a_wrong_annotation_is_named(schema: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        header_map(schema)


def test_a_schema_may_be_deep() -> None:
    schema: dict[str, Any] = dict(ANNOTATED)
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    assert list(header_map(schema).values()) == ["A"]


# --- both ends --------------------------------------------------------------------------------------------------


def test_a_client_writes_what_the_specification_shows() -> None:
    params = {"name": "execute_sql", "arguments": {"region": "us-west1", "query": "SELECT", "n": None, "b": True}}
    annotations = {("region",): "Region", ("n",): "N", ("absent",): "Absent", ("b",): "B"}
    assert request_headers("tools/call", params, "2026-07-28", annotations) == [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "execute_sql"),
        ("Mcp-Param-Region", "us-west1"),
        ("Mcp-Param-B", "true"),
    ]
    assert request_headers("tools/list", None, "2026-07-28")[1:] == [("Mcp-Method", "tools/list")]
    assert request_headers("resources/read", {"uri": "file:///a"}, "2026-07-28")[2:] == [("Mcp-Name", "file:///a")]
    assert request_headers("tools/call", {"name": 1}, "2026-07-28", {("a",): "A"})[2:] == []


@pytest.mark.parametrize("text", ["a\r\nx: y", "a\x00", "caf\u00e9", " a", "a "])
def test_a_client_writes_no_method_or_version_that_breaks_a_header(text: str) -> None:
    with pytest.raises(ValueError, match="no header"):
        request_headers(text, None, "2026-07-28")
    with pytest.raises(ValueError, match="no header"):
        request_headers("tools/list", None, text)


scalars = (
    texts
    | st.booleans()
    | st.integers()
    | st.integers(2**53 - 2, 2**53 + 2)
    | st.floats(allow_nan=False, allow_infinity=False)
)
odd = st.none() | st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(), st.integers(), max_size=2)
ANNOTATIONS = {("a",): "A", ("b",): "B", ("c", "a"): "Deep"}


def check_all(headers: list[tuple[str, str]], method: str, params: dict[str, Any], version: str) -> None:
    def get(name: str) -> list[str]:
        return [value for key, value in headers if key.lower() == name.lower()]

    check_version_header(get("mcp-protocol-version"), version)
    check_method_header(get("mcp-method"), method)
    check_name_header(get("mcp-name"), method, params)
    check_param_headers(get, ANNOTATIONS, params["arguments"])


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    method = draw(st.sampled_from([*NAME_SOURCE, "tools/list", "x"]))
    arguments: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "a": scalars | odd,
                "b": scalars | odd,
                "c": odd | st.fixed_dictionaries({}, optional={"a": scalars | odd}),
            },
        )
    )
    return method, {"name": draw(texts), "uri": draw(texts), "taskId": draw(texts), "arguments": arguments}


@settings(deadline=None)
@given(calls())
def test_what_a_client_writes_a_server_takes(call: tuple[str, dict[str, Any]]) -> None:
    method, params = call
    headers = request_headers(method, params, "2026-07-28", ANNOTATIONS)
    assert all(value.isascii() and value.isprintable() and value == value.strip() for _, value in headers)
    check_all(headers, method, params, "2026-07-28")


def means(value: str) -> str:
    """What a value says, for a reader that is not this module: text, or a number in one spelling."""
    text = value.strip(" \t")
    if text.startswith("=?base64?") and text.endswith("?=") and len(text) > 10:
        text = base64.b64decode(text[9:-2], validate=True).decode("utf-8")
    return text


@settings(deadline=None)
@given(calls(), st.data())
def test_one_changed_character_is_refused_or_changes_nothing(
    call: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    method, params = call
    headers = request_headers(method, params, "2026-07-28", ANNOTATIONS)
    which = data.draw(st.integers(0, len(headers) - 1))
    name, value = headers[which]
    at = data.draw(st.integers(0, len(value)))
    cut = data.draw(st.integers(0, 1))
    put = data.draw(st.sampled_from(["", " ", "\t", "=", "?", "0", "1", ".", "a", "A", "-", "e", "\x00", "\xe9", "\n"]))
    changed = value[:at] + put + value[at + cut :]
    assume(changed != value)
    headers[which] = (name, changed)
    try:
        check_all(headers, method, params, "2026-07-28")
    except HeaderMismatch:
        return
    assert means(changed) == means(value) or float(means(changed)) == float(means(value))


@settings(deadline=None)
@given(calls(), st.data())
def test_a_header_that_is_dropped_or_doubled_is_refused(call: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    method, params = call
    headers = request_headers(method, params, "2026-07-28", ANNOTATIONS)
    which = data.draw(st.integers(0, len(headers) - 1))
    for wrong in (headers[:which] + headers[which + 1 :], [*headers, headers[which]]):
        with pytest.raises(HeaderMismatch):
            check_all(wrong, method, params, "2026-07-28")
