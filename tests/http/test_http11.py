# SPDX-License-Identifier: MIT
"""http11: what h11 would say, said once; stricter where a public server has to be; the same whatever the cut.

`reference` is the oracle: a plain h11 server loop, with the extra strictness that the module documents written down a
second time, from what h11 reports.  The connection under test runs against it cold and with a warm cache.
"""

import itertools
import sys
import time
import tracemalloc
from http import HTTPStatus

import h11
import pytest
from examples import examples
from headlines_support import COMPARED
from hypothesis import given
from hypothesis import strategies as st
from patience import cost
from requests_support import CHUNKED, GET, REFUSED, SMUGGLED

from mcp_h11.http import heads as http_heads
from mcp_h11.http import server
from mcp_h11.http.chunked import MAX_CHUNKS
from mcp_h11.http.headlines import MAX_STARTS
from mcp_h11.http.heads import FORGOTTEN_AFTER, MARKS, MAX_TEMPLATES, NEW_IN_A_ROW, UNLOOKED, HeadCache
from mcp_h11.http.messages import CLOSED, NEED_DATA, PAUSED, TINY_CHUNK, Head, HTTPError, HTTPRequest, Limits
from mcp_h11.http.server import MAX_LEADING_CRLF, ServerConnection

POST = b"POST /mcp HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
JSON = (("Content-Type", "application/json"),)
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def connect(cache=None, **limits):
    return ServerConnection(cache or HeadCache(), Limits(**limits))


def fed(data, cache=None, **limits):
    connection = connect(cache, **limits)
    connection.receive_data(data)
    return connection


def summary(request):
    head = request.head
    return (head.method, head.target, head.version, head.headers, request.body)


def drive(connection, pieces, whole=False):
    """Feeds, answers each request at once; (requests, status of the refusal or "end")."""
    requests = []
    for piece in pieces:
        event = connection.receive_whole(piece) if whole else connection.receive_data(piece)
        try:
            while True:
                event = event or connection.next_event()
                if type(event) is HTTPRequest:
                    requests.append(summary(event))
                    connection.respond(200, JSON, b"{}", date=DATE)
                    assert connection.response_done() is connection.idle
                elif type(event) is not Head and not connection.more:
                    assert event is (CLOSED if connection.closing or connection.eof else NEED_DATA)
                    break
                event = None
        except HTTPError as error:
            assert b"\r\nConnection: close\r\n" in connection.respond(error.status, (), b"")
            connection.response_done()
            assert connection.closing
            return requests, error.status
        if connection.closing:
            break
    return requests, "end"


def run(cache, pieces):
    """`drive` under SMALL limits, comparable: a chunked body with two faults is refused for the one seen first."""
    connection, at_once = ServerConnection(cache, SMALL), ServerConnection(cache, SMALL)
    outcome = drive(connection, pieces)
    assert drive(at_once, pieces, whole=True) == outcome
    assert (at_once.requests, at_once.closing) == (connection.requests, connection.closing)
    return one_fault(outcome, b"".join(pieces))


def one_fault(outcome, stream):
    requests, end = outcome
    return requests, 400 if end == 413 and b"chunked" in stream.lower() else end


def bytewise(data):
    return [data[i : i + 1] for i in range(len(data))]


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]


# --- The oracle ----------------------------------------------------------------------------------------------------

NAME_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%")


def is_authority(value):
    if value.startswith(b"["):
        name, bracket, port = value[1:].partition(b"]")
        known = frozenset(b"0123456789abcdefABCDEF:.")
        if not bracket or not 2 <= len(name) <= 45 or (port and not port.startswith(b":")):
            return False
        port = port[1:]
    else:
        name, _, port = value.partition(b":")
        known = NAME_CHARACTERS
        escapes = name.split(b"%")[1:]
        if any(len(e) < 2 or set(e[:2]) - frozenset(b"0123456789abcdefABCDEF") for e in escapes) or len(name) > 255:
            return False
    return bool(name) and not set(name) - known and (not port or port.isdigit()) and len(port) <= 5


def stricter(raw, event):
    """The status by which we refuse a head that h11 accepts, or None."""
    headers = dict(event.headers)
    lines = raw.split(b"\n")[1:]
    if event.http_version not in (b"1.0", b"1.1"):
        return 505
    lengths = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-length:")]
    target = event.target
    host = headers.get(b"host")
    absolute = target.lower().startswith((b"http://", b"https://")) and event.method != b"CONNECT"
    authority = target.partition(b"://")[2].replace(b"?", b"/").replace(b"#", b"/").partition(b"/")[0]
    if (
        any(line.startswith((b" ", b"\t")) for line in lines)
        or len(lengths) > 1
        or any(b"," in value for value in lengths)
        or (b"transfer-encoding" in headers and (lengths or event.http_version == b"1.0"))
        or (host is not None and not is_authority(host))
        or (absolute and (not is_authority(authority) or authority.lower() != (host or authority).lower()))
        or not (absolute or target.startswith(b"/") or target == b"*" or event.method == b"CONNECT")
    ):
        return 400
    return None


def sizes(rest, limits):
    """The status by which a head is refused for its size, complete or not, or None; and where it ends, or None."""
    ends = [rest.find(mark) + len(mark) for mark in (b"\n\r\n", b"\n\n") if mark in rest]
    end = min(ends) if ends else None
    if b"\n" not in rest[: limits.max_request_line] and len(rest) >= limits.max_request_line:
        return 414, end
    if (end or len(rest) + 1) > limits.max_head:
        return 431, end
    if end and rest[:end].count(b"\n") - 2 > limits.max_fields:
        return 431, end
    return None, end


def plain_h11(data):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 30)
    connection.receive_data(data)
    return connection


def without_empty_lines(data):
    for _ in range(MAX_LEADING_CRLF):
        if data == b"\r":
            return b""
        data = data.removeprefix(b"\r\n")
    return data


def reference(stream, limits):
    """What a plain h11 server loop makes of a stream, with our strictness on top: like `drive`."""
    requests = []
    connection = plain_h11(stream)
    while True:
        rest = without_empty_lines(connection.trailing_data[0])
        if rest != connection.trailing_data[0]:
            connection = plain_h11(rest)
        if not rest:
            return requests, "end"
        refusal, end = sizes(rest, limits)
        if rest[0] >= 0x21 and refusal:
            return requests, refusal
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return requests, "end"
            assert type(event) is h11.Request
            refusal = stricter(rest[:end], event)
            if refusal:
                return requests, refusal
            outcome = read_body(connection, rest, end, limits)
        except h11.RemoteProtocolError as error:
            return requests, error.error_status_hint
        if type(outcome) is not bytes:
            return requests, outcome
        version = event.http_version.decode()
        requests.append((event.method.decode(), event.target.decode(), version, tuple(event.headers), outcome))
        if event.method == b"CONNECT":
            return requests, "end"
        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.MUST_CLOSE:
            return requests, "end"
        connection.start_next_cycle()


def read_body(connection, rest, end, limits):
    """The body, or a status, or "end" if it is incomplete."""
    body = b""
    minimum = size = 0
    length = [line for line in rest[:end].lower().split(b"\n") if line.startswith(b"content-length:")]
    if length and int(length[0].partition(b":")[2]) > limits.max_body:
        return 413
    while True:
        event = connection.next_event()
        if type(event) is h11.Data:
            body += event.data
            size += len(event.data)
            if event.chunk_end:
                minimum += len(f"{size:x}\r\n\r\n") if size >= TINY_CHUNK else 0
                size = 0
            if len(body) > limits.max_body:
                return 413
        elif type(event) is h11.EndOfMessage:
            if not length and rest[end - 4 : end] and b"transfer-encoding" in rest[:end].lower():
                consumed = len(rest) - end - len(connection.trailing_data[0])
                if consumed - len(body) - minimum - len(b"0\r\n\r\n") > limits.max_chunk_overhead:
                    return 413
            return body
        else:
            overhead = len(rest) - end - len(body) - minimum
            if not length and len(body) + connection._reader._bytes_in_chunk > limits.max_body:
                return 413  # a size that cannot be taken, whose bytes need not come
            return 413 if not length and overhead - 24 > limits.max_chunk_overhead else "end"


# --- Streams -------------------------------------------------------------------------------------------------------

SMALL = Limits(max_request_line=48, max_head=400, max_fields=9, max_body=40, max_chunk_overhead=30)
METHODS = st.sampled_from([b"POST", b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"post", b"CONNECT", b"P\xd6ST"])
TARGETS = st.sampled_from(
    [b"/mcp", b"/", b"/mcp?a=b", b"*", b"http://a/mcp", b"http://b", b"HTTPS://a?x", b"a", b"/" + b"x" * 40, b"http://"]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.10"])
FIELDS = st.sampled_from(
    [
        b"Host: a", b"Host: a:1", b"Host: b", b"Host: a b", b"Host:", b"Host: [::1]:80", b"Host: a/b", b"Host: u@a",
        b"Accept: */*", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: 41",
        b"content-length:40", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5 5",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked",
        b"Connection: close", b"Connection: keep-alive", b"Connection: a, Close", b"Connection: upgrade",
        b"Upgrade: h2c", b"Expect: 100-continue", b"Expect: x", b" folded", b"\tfolded", b"X: a\x00b", b"X: a\rb",
        b"X : a", b": a", b"X", b"X: \xff", b"X: " + b"y" * 90, b"X: a\x0bb", b"X:a\r", b"", b"Content_Length: 9",
    ]
)  # fmt: skip
CHUNKS = st.sampled_from(
    [
        b"0\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;ext=1\r\nhello\r\n", b"2\r\nhi\r\n",
        b"2\nhi\r\n", b"1\r\nx", b"0\r\nX: y\r\n\r\n", b"0\n\n", b"-1\r\n", b"0x1\r\nx\r\n",
        b"ffffffffffffffffffff\r\n", b"2\r\nhi\n", b"2\r\nhix\r\n", b"00000000002\r\nhi\r\n",
        b"1;" + b"e" * 60 + b"\r\nx\r\n", b"0\r\n" + b"T: " + b"t" * 60 + b"\r\n\r\n", b"1 \r\nx\r\n",
        b"28\r\n" + b"b" * 40 + b"\r\n", b"1\r\nx\r\n", b"1;\n\r\nx\r\n", b" 1\r\nx\r\n", b"\r\n",
        b"0\r\n bad\r\n\r\n",
    ]
)  # fmt: skip


@st.composite
def requests(draw):
    host = draw(st.sampled_from([[b"Host: a"]] * 9 + [[]]))
    line = draw(st.just(b"POST /mcp HTTP/1.1") | st.builds(lambda *parts: b" ".join(parts), METHODS, TARGETS, VERSIONS))
    lines = [line, *host, *draw(st.lists(FIELDS, max_size=2)), *[b"X: y"] * draw(st.sampled_from([0, 0, 0, 6, 9]))]
    line_end = draw(st.sampled_from([b"\r\n"] * 8 + [b"\n"]))
    body = draw(st.sampled_from([b"", b"hello", b"b" * 40, b"b" * 41]) | st.lists(CHUNKS, max_size=4).map(b"".join))
    return line_end.join([*lines, b"", b""]) + body


PLAIN = st.builds(
    lambda path, body, close: (
        b"POST /%b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (path, close, len(body), body)
    ),
    st.sampled_from([b"mcp", b"", b"sse?x=y"]),
    st.sampled_from([b"", b"{}", b"b" * 40, b"b" * 41, b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]),
    st.sampled_from([b""] * 9 + [b"Connection: close\r\n"]),
)
GOOD_CHUNKED = st.lists(st.binary(min_size=1, max_size=9), max_size=4).map(
    lambda chunks: CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
)

ODD_CHUNKED = st.lists(CHUNKS, max_size=6).map(lambda chunks: CHUNKED + b"".join(chunks))


@st.composite
def mutated(draw):
    """A good request with a few bytes replaced, removed, or put in."""
    data = draw(PLAIN | GOOD_CHUNKED)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.sampled_from([b"", b" ", b"\r", b"\n", b"\r\n", b"\x00", b":", b"\t", b",", b"1", b"x", b"\xff"]))
        data = data[:at] + new + data[at + draw(st.integers(0, 2)) :]
    return data


STREAMS = st.lists(
    PLAIN
    | GOOD_CHUNKED
    | ODD_CHUNKED
    | requests()
    | mutated()
    | st.sampled_from([b"\r\n", b"\n", b"\r", GET, POST, POST.replace(b"/mcp", b"/" + b"x" * 48)])
    | st.binary(max_size=9),
    min_size=1,
    max_size=5,
).map(b"".join)
CUTS = st.lists(st.integers(0, 2000), max_size=12)
WARM = HeadCache(max_heads=64)


@examples(2000)
@given(STREAMS, CUTS)
def test_any_stream_gives_what_plain_h11_and_the_stricter_rules_give(stream, places):
    wanted = one_fault(reference(stream, SMALL), stream)
    assert run(HeadCache(), [stream]) == wanted
    assert run(WARM, [stream]) == wanted
    assert run(WARM, cut(stream, places)) == wanted


@examples(1000)
@given(STREAMS)
def test_the_cut_makes_no_difference(stream):
    wanted = run(HeadCache(), [stream])
    cache = HeadCache()
    assert run(cache, bytewise(stream)) == wanted
    assert run(cache, [*bytewise(stream), b""]) == wanted


@examples(800)
@given(PLAIN, st.integers(0, 200), st.integers(0, 255), st.booleans())
def test_a_head_that_differs_in_one_byte_from_a_cached_one_is_read_anew(first, at, byte, insert):
    at %= len(first)
    second = first[:at] + bytes([byte]) + first[at + (not insert) :]
    for stream in (first + second, second + first, first + second + first):
        cache = HeadCache()
        run(cache, [first])
        wanted = reference(stream, SMALL)
        assert run(cache, [stream]) == wanted
        assert run(cache, cut(stream, [at, at + 1, len(first)])) == wanted


# Of the fields whose ids may vary, and of what an id may not be.
ID_FIELDS = ("Mcp-Session-Id", "X-Request-Id")
IDS = st.text("ab0Z-_", min_size=1, max_size=6).map(str.encode)
NO_IDS = st.builds(
    lambda before, odd, after: before + odd + after,
    IDS | st.just(b""),
    st.sampled_from(
        [
            b"", b" ", b"\t", b"\x00", b"\x00\x00", b"\r", b"\n", b"\r\n", b"\r\n ", b"\n\t", b"\r\n\r\n", b"\n\n",
            b",", b".", b"\xe9", b"\x7f", b"x" * 60, b"\r\nHost: b", b"\r\nContent-Length: 9", b"\r\nConnection: close",
            b"\r\nTransfer-Encoding: chunked", b"\r\nMcp-Session-Id: c", b"\nX-Request-Id: c", b"\r\nX-Request-Id : c",
        ]
    ),
    IDS | st.just(b""),
)  # fmt: skip
ID_NAMES = st.sampled_from(
    [b"Mcp-Session-Id", b"mcp-session-id", b"MCP-SESSION-ID", b"X-Request-Id", b"x-request-id", b"X-Other"]
)
SEPARATORS = st.sampled_from([b": "] * 8 + [b":", b":  ", b":\t", b" : ", b": \x00"])
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b" \r\n", b"\r\r\n"])


@st.composite
def heads_that_differ_in_ids(draw):
    """Requests that are equal but for the values in the places of ids."""
    lines = draw(st.lists(st.tuples(ID_NAMES, SEPARATORS, ENDS), min_size=1, max_size=3))
    around = draw(st.sampled_from([b"", b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"X: y\r\n"]))
    first = draw(st.booleans())
    found = []
    for _ in range(draw(st.integers(2, 5))):
        parts = [name + separator + draw(IDS | NO_IDS) + end for name, separator, end in lines]
        parts.insert(0 if first else len(parts), around)
        body = b"{}" if b" 2" in around else b""
        found.append(b"POST /mcp HTTP/1.1\r\nHost: a\r\n" + b"".join(parts) + b"\r\n" + body)
    return found


@examples(1500)
@given(st.lists(heads_that_differ_in_ids(), min_size=1, max_size=2), st.randoms(use_true_random=False))
def test_a_head_that_differs_in_its_ids_from_known_ones_is_read_as_h11_would(found, random):
    every = [one for some in found for one in some]
    cache = HeadCache(id_fields=ID_FIELDS)
    for one in every:
        wanted = one_fault(reference(one, SMALL), one)
        assert run(cache, [one]) == wanted
    random.shuffle(every)
    cache.heads.clear()  # what is left are the lines
    for one in every:
        wanted = one_fault(reference(one, SMALL), one)
        assert run(cache, [one]) == wanted
        assert run(cache, bytewise(one)) == wanted


@examples(800)
@given(IDS, st.integers(0, 120), st.integers(0, 255), st.booleans())
def test_a_head_that_differs_in_one_byte_from_a_forgotten_one_is_read_as_h11_would(value, at, byte, insert):
    first = b"POST /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: %b\r\nContent-Length: 2\r\n\r\n{}" % value
    at %= len(first)
    second = first[:at] + bytes([byte]) + first[at + (not insert) :]
    cache = HeadCache(id_fields=ID_FIELDS)
    run(cache, [first])
    cache.heads.clear()
    wanted = reference(second, SMALL)
    assert run(cache, [second]) == wanted
    cache.heads.clear()
    assert run(cache, cut(second, [at, at + 1])) == wanted


@examples(300)
@given(st.lists(PLAIN | GOOD_CHUNKED, min_size=1, max_size=6).map(b"".join), CUTS)
def test_heads_and_signals_come_in_the_documented_order(stream, places):
    """Whatever the cut: at most one Head, then its request, then PAUSED until the answer is done."""
    connection = connect()
    announced = None
    for piece in cut(stream, places):
        connection.receive_data(piece)
        while True:
            event = connection.next_event()
            if type(event) is Head:
                assert announced is None
                announced = event
            elif type(event) is HTTPRequest:
                assert announced in (None, event.head)
                announced = None
                assert connection.next_event() is PAUSED
                connection.respond(200, (), b"")
                assert connection.next_event() is PAUSED
                connection.response_done()
            else:
                break
    if not connection.closing:
        assert connection.idle
        assert connection.buffered == 0


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_understood_in_two_ways_is_refused_and_ends_the_connection(case):
    status, attack = REFUSED[case]
    warm = HeadCache()
    drive(connect(warm), [POST, GET])
    assert len(warm.heads) == 2
    good = summary(fed(POST).next_event())
    for cache in (HeadCache(), warm, warm):
        for before in (b"", POST):
            stream = before + attack + SMUGGLED
            pieces = ([stream], bytewise(stream), [before + attack, SMUGGLED], [*bytewise(before + attack), SMUGGLED])
            for way in pieces:
                assert drive(connect(cache), way) == ([good] if before else [], status)
    # Nothing that was refused was kept.
    assert len(warm.heads) == 2


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_does_not_echo_what_was_sent(case):
    with pytest.raises(HTTPError) as caught:
        connection = fed(REFUSED[case][1])
        connection.next_event()
        connection.next_event()
    assert caught.value.close
    assert caught.value.message
    assert "bytearray" not in caught.value.message
    assert len(caught.value.message) < 80


ACCEPTED = {
    "bare LF line ends": (b"POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi", b"hi"),
    "a bare LF at the end of the head": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\nhi", b"hi"),
    "two empty lines first": (b"\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "CL with leading zeros": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0002\r\n\r\nhi", b"hi"),
    "CL padded": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 2 \r\n\r\nhi", b"hi"),
    "TE in capitals": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
    "a chunk extension": (CHUNKED + b"2;a=b\r\nhi\r\n0\r\n\r\n", b"hi"),
    "a trailer, dropped": (CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n", b"hi"),
    "HTTP/1.0 without Host": (b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "h2c offered": (POST.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), b"{}"),
    "h2c offered, chunked": (CHUNKED[:-2] + b"Upgrade: h2c\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
    "a body on GET": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b""),
    "an unknown method": (b"post / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    "Host with IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", b""),
    "Host with an escape": (b"GET / HTTP/1.1\r\nHost: a%2Db_c\r\n\r\n", b""),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_unusual_but_clear_is_accepted(case):
    stream, body = ACCEPTED[case]
    warm = HeadCache()
    for cache in (HeadCache(), warm, warm):
        for pieces in ([stream], bytewise(stream)):
            requests, end = drive(connect(cache), pieces)
            assert [request[4] for request in requests] == [body]
            assert end == "end"


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"/mcp", b"a", "/mcp", ""),
        (b"/mcp?x=1?y", b"a", "/mcp", "x=1?y"),
        (b"/%2e?", b"a", "/%2e", ""),
        (b"http://a:80/mcp?x", b"A:80", "/mcp", "x"),
        (b"HTTPS://a", b"a", "/", ""),
        (b"http://a?x", b"a", "/", "x"),
        (b"*", b"a", "*", ""),
        (b"//b/mcp", b"a", "//b/mcp", ""),
    ],
)
def test_path_and_query_are_taken_from_each_form_of_target(target, host, path, query):
    head = fed(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)).next_event().head
    assert (head.target, head.path, head.query) == (target.decode(), path, query)


def test_headers_keep_their_order_and_repeat():
    head = fed(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a:\xe9\r\n\r\n").next_event().head
    assert head.headers == ((b"host", b"a"), (b"x-a", b"1"), (b"x-a", b"\xe9"))
    assert head.get("x-a") == "1"
    assert head.get_all("X-A") == ["1", "\xe9"]
    assert head.get("absent") is None
    assert head.get_all("absent") == []


# --- The cache -----------------------------------------------------------------------------------------------------


def test_h11_sees_a_repeated_plain_head_once():
    cache = HeadCache()
    first = fed(POST, cache).next_event().head
    first.verdict = "verdict"
    again = fed(b"\r\n" + POST, cache).next_event().head
    assert again is first
    assert first.cached
    assert len(cache.heads) == 1


def of_session(session_id, request_id=b"7"):
    fields = b"Mcp-Session-Id: %b\r\nAccept: a\r\nx-request-id: %b\r\nContent-Length: 2\r\n\r\n{}" % (
        session_id,
        request_id,
    )
    return b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n" + fields


@pytest.fixture
def asked_h11(monkeypatch):
    """The heads that h11 was asked about."""
    heads = []

    def ask(raw, max_fields):
        heads.append(raw)
        return ask_h11(raw, max_fields)

    ask_h11 = http_heads.ask_h11
    monkeypatch.setattr(server, "ask_h11", ask)
    return heads


def test_h11_sees_a_head_once_for_all_ids(asked_h11):
    cache = HeadCache()
    for number in range(12):  # the last two ids are longer
        request = fed(of_session(b"s-%d" % number, b"r_%d" % (number % 2)), cache).next_event()
        assert request.head.get("mcp-session-id") == f"s-{number}"
        assert request.head.get("x-request-id") == f"r_{number % 2}"
        assert summary(request) == reference(of_session(b"s-%d" % number, b"r_%d" % (number % 2)), Limits())[0][0]
        assert request.head.verdict is None
        request.head.verdict = number
    assert len(asked_h11) == 1


def test_a_head_that_is_read_by_its_lines_is_kept_when_it_comes_again(asked_h11):
    cache = HeadCache()
    one, two = of_session(b"one"), of_session(b"two")
    assert fed(one, cache).next_event().head.cached  # by h11
    heads = [fed(two, cache).next_event().head for _ in range(3)]
    assert heads[0] is not heads[1] is heads[2] and heads[1].cached
    assert len(asked_h11) == 1 and len(cache.heads) == 2


def test_heads_that_come_in_turns_are_kept(asked_h11):
    cache = HeadCache()
    fed(POST, cache).next_event()
    for _ in range(2):
        heads = [fed(of_session(b"s-%d" % number), cache).next_event().head for number in range(MARKS // 2)]
    assert all(head.cached for head in heads)


def test_the_lines_of_heads_that_came_once_are_dropped_after_some_time():
    cache = HeadCache()
    fed(POST, cache).next_event()
    fed(of_session(b"s").replace(b"localhost", b"elsewhere"), cache).next_event()
    assert b"Host: elsewhere" in cache.lines.lines
    for number in range(FORGOTTEN_AFTER * (MARKS + 1)):
        fed(of_session(b"s-%d" % number), cache).next_event()
    assert b"Host: elsewhere" not in cache.lines.lines


def test_a_connection_with_new_heads_alone_does_not_look_for_most_of_them():
    cache = HeadCache()
    fed(POST, cache).next_event()
    connection = connect(cache)

    def looks(requests):
        """For each request: whether its head was looked for, which leaves a mark if it was not found."""
        found = []
        for request in requests:
            before = len(cache._marks)
            assert connection.receive_whole(request) is not None
            found.append(len(cache._marks) != before or connection.head.cached)
            connection.respond(200, JSON, b"{}")
            connection.response_done()
        return found

    new = (of_session(b"s-%d" % number) for number in itertools.count())
    assert looks(itertools.islice(new, NEW_IN_A_ROW + 1)) == [True] * (NEW_IN_A_ROW + 1)
    for _ in range(3):
        assert looks(itertools.islice(new, UNLOOKED + 1)) == [False] * UNLOOKED + [True]
    # A head that comes again is found all the same, and from then on each is looked for.
    again = [of_session(b"again"), of_session(b"too")] * (3 * UNLOOKED)
    assert not all(looks(again)) and all(looks(again))


def test_reads_that_bring_no_whole_head_are_no_new_heads():
    cache = HeadCache()
    fed(POST, cache).next_event()
    connection = connect(cache)
    for _ in range(2 * (NEW_IN_A_ROW + 1)):
        assert connection.receive_whole(POST[:20]) is None and connection.next_event() is NEED_DATA
        connection.receive_data(POST[20:])
        assert connection.next_event().head.cached
        connection.respond(200, JSON, b"{}")
        connection.response_done()
    assert connection.receive_whole(POST) is not None
    assert connection.head.cached  # it was looked for


def test_heads_that_come_once_put_no_other_head_out(asked_h11):
    cache = HeadCache(max_heads=2)
    kept = fed(of_session(b"kept"), cache).next_event().head
    for number in range(2 * MARKS):
        assert not fed(of_session(b"s-%d" % number), cache).next_event().head.cached
    assert fed(of_session(b"kept"), cache).next_event().head is kept
    assert len(asked_h11) == 1 and len(cache.heads) == 1


def test_a_head_read_by_its_lines_has_each_field_that_h11_would_have_read(asked_h11):
    cache = HeadCache()
    one, other = (of_session(session_id).replace(b"/mcp", b"/mcp?a=b") for session_id in (b"one", b"two"))
    fed(one, cache).next_event()
    made = [fed(other, cache).next_event().head for _ in range(2)][1]
    assert len(asked_h11) == 1
    read = fed(other, HeadCache()).next_event().head
    for name in COMPARED:
        assert getattr(made, name) == getattr(read, name), name


@pytest.mark.parametrize("field", [b"", b"Expect: 100-continue", b"Connection: close", b"Upgrade: h2c"])
def test_h11_reads_each_head_that_is_not_plain_though_its_request_line_is_known(field, asked_h11):
    cache = HeadCache()
    fed(POST, cache).next_event()
    unusual = POST.replace(b"Content-Type: application/json", field) if field else CHUNKED + b"0\r\n\r\n"
    for number in (2, 3):
        connection = fed(unusual, cache)
        assert not connection.next_event().head.cached
        assert len(asked_h11) == number
    assert len(cache.heads) == 1


def test_a_head_that_is_not_plain_teaches_nothing(asked_h11):
    cache = HeadCache()
    fed(POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), cache).next_event()
    fed(POST, cache).next_event()
    assert len(asked_h11) == 2


@pytest.mark.parametrize("value", [b"a=b", b"a b", b"a,b", b"a.b", b"\xe9\xe9\xe9", b"a\tb", b"", b"x" * 3000])
def test_any_value_of_a_field_that_frames_nothing_is_read_by_its_line(value, asked_h11):
    cache = HeadCache()
    fed(of_session(b"abc"), cache).next_event()
    for session_id in (value, value[::-1]):
        head = fed(of_session(session_id), cache).next_event().head
        assert head.get("mcp-session-id") == session_id.decode("latin-1")
    assert len(asked_h11) == 1


def test_what_stands_where_another_head_is_blank_is_judged_too():
    cache = HeadCache()
    two = b"GET / HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: %b\r\nX-Request-Id: %b\r\n\r\n"
    assert drive(connect(cache), [two % (b"a", b"b")])[1] == "end"
    for blank in ((b"a", b"\0"), (b"\0", b"b"), (b"\0", b"\0")):
        assert drive(connect(cache), [two % blank]) == ([], 400)


@pytest.mark.parametrize("name", ["Content-Length", "host", "Transfer-Encoding", "CONNECTION", "Expect", "Upgrade"])
def test_a_field_that_h11_looks_at_cannot_vary(name):
    with pytest.raises(ValueError, match="frames the message"):
        HeadCache(id_fields=("X-Request-Id", name))


def test_request_lines_are_few_and_cleared_when_full(asked_h11):
    cache = HeadCache()
    for number in range(MAX_STARTS + 1):
        fed(of_session(b"a").replace(b"/mcp", b"/%d" % number), cache).next_event()
    asked_h11.clear()
    fed(of_session(b"b").replace(b"/mcp", b"/%d" % MAX_STARTS), cache).next_event()
    assert asked_h11 == []
    fed(of_session(b"b").replace(b"/mcp", b"/0"), cache).next_event()  # was dropped by the last one
    assert len(asked_h11) == 1


def test_heads_past_the_size_limit_are_read_by_their_lines_and_not_kept(asked_h11):
    for size, kept in ((4096, 1), (4097, 0)):
        asked_h11.clear()
        cache = HeadCache()
        field = b"\r\nX-Request-Id: a"
        head = padded(size - len(field)).replace(b"\r\nX:", field + b"\r\nX:")
        assert len(head) == size
        for request in (head, *[head.replace(b"Id: a", b"Id: b")] * 2):
            fed(request, cache).next_event()
        assert len(asked_h11) == 1 and len(cache.heads) == 2 * kept


def test_an_answer_head_is_written_once_for_all_ids():
    cache = HeadCache(id_fields=ID_FIELDS)
    for number in range(3):
        for close in (False, True):
            for stream in (False, True):
                headers = (*JSON, ("Mcp-Session-Id", f"id-{number}"))
                connections = [fed(GET, c) for c in (cache, HeadCache())]
                answers = []
                for connection in connections:
                    connection.next_event()
                    if close:
                        connection.close_after()
                    if stream:
                        answers.append(connection.start_stream(200, headers, date=DATE))
                    else:
                        answers.append(connection.respond(200, headers, b"{}", date=DATE))
                assert answers[0] == answers[1]
    assert len(cache.templates) == 4


@pytest.mark.parametrize("value", ["", "a b", "a=b", "x.y"])
def test_an_answer_head_with_what_is_no_id_is_written_by_h11(value):
    answers = []
    for cache in (HeadCache(id_fields=ID_FIELDS), HeadCache()):
        for session_id in ("id-1", value, "id-2"):
            connection = fed(GET, cache)
            connection.next_event()
            answers.append(connection.respond(200, (*JSON, ("Mcp-Session-Id", session_id)), b"{}"))
    assert answers[:3] == answers[3:]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "\r\n\r\n", "a\x00"])
def test_an_answer_head_that_cannot_be_sent_is_refused_where_ids_vary_too(value):
    cache = HeadCache(id_fields=ID_FIELDS)
    for session_id, good in (("id", True), (value, False), ("id", True)):
        connection = fed(GET, cache)
        connection.next_event()
        if good:
            assert b"Mcp-Session-Id: id\r\n" in connection.respond(200, (("Mcp-Session-Id", session_id),), b"")
        else:
            with pytest.raises(ValueError):
                connection.respond(200, (("Mcp-Session-Id", session_id),), b"")


@pytest.mark.parametrize(
    "request_bytes",
    [
        CHUNKED + b"0\r\n\r\n",
        POST.replace(b"1.1", b"1.0"),
        POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        POST.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\n\r\n"),
        b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_head_that_is_not_plain_is_read_by_h11_each_time(request_bytes):
    cache = HeadCache()
    assert not fed(request_bytes, cache).next_event().head.cached
    assert cache.heads == {}


def padded(size):
    """A plain GET whose head is `size` bytes long."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"y" * (size - len(start) - 4) + b"\r\n\r\n"


def test_heads_are_cached_up_to_their_size_limit():
    for size, kept in ((4096, 1), (4097, 0)):
        cache = HeadCache()
        assert fed(padded(size), cache).next_event().head.cached == bool(kept)
        assert fed(padded(size), cache).next_event().head.cached == bool(kept)
        assert len(cache.heads) == kept


def test_a_full_cache_is_cleared_and_goes_on():
    cache = HeadCache(max_heads=2)
    for number in (1, 2):
        fed(GET.replace(b"/mcp", b"/%d" % number), cache).next_event()
    assert len(cache.heads) == 2
    assert fed(GET, cache).next_event().head.path == "/mcp"
    assert len(cache.heads) == 1
    connection = fed(GET, cache)
    assert connection.next_event().head.cached
    for number in range(MAX_TEMPLATES + 1):
        assert b"X: %d\r\n" % number in connection.respond(200, (("X", str(number)),), b"")
        connection.response_done()
        connection.receive_data(GET)
        connection.next_event()
        assert len(cache.templates) == number % MAX_TEMPLATES + 1


def test_connections_with_different_limits_cannot_share_a_cache():
    cache = HeadCache()
    connect(cache, max_fields=5)
    connect(cache, max_fields=5)
    with pytest.raises(ValueError, match="equal limits"):
        connect(cache, max_fields=6)


# --- Limits --------------------------------------------------------------------------------------------------------


def outcome(data, cache=None, **limits):
    """The status of the refusal or "end", which must not depend on the cut or on a warm cache."""
    cache = HeadCache()
    ends = [
        drive(connect(cache, **limits), pieces) for pieces in ([data], bytewise(data), [data], cut(data, [7, 40, 99]))
    ]
    assert all(end == ends[0] for end in ends)
    return ends[0][1] if ends[0][1] != "end" else len(ends[0][0])


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_the_request_line_is_limited_with_its_line_end(line_end):
    line = b"GET /long HTTP/1.1" + line_end
    data = line + b"Host: a\r\n\r\n"
    assert outcome(data, max_request_line=len(line)) == 1
    assert outcome(data, max_request_line=len(line) - 1) == 414
    assert outcome(data, max_request_line=None) == 1


def test_a_request_line_is_refused_before_it_ends():
    assert outcome(b"G" * 8191) == 0
    assert outcome(b"G" * 8192) == 414


def test_the_head_is_limited_with_its_blank_line():
    assert outcome(padded(300), max_head=300) == 1
    assert outcome(padded(300), max_head=299) == 431
    assert outcome(padded(300)[:-2], max_head=298) == 431
    assert outcome(padded(300)[:-2], max_head=299) == 0
    assert outcome(padded(300), max_head=20) == 431
    assert outcome(padded(300), max_head=10) == 414


def test_the_default_head_limit_holds_in_one_read():
    for size, end in ((32 * 1024, "end"), (32 * 1024 + 1, 431)):
        assert drive(connect(), [padded(size)])[1] == end
    assert drive(connect(max_head=None), [padded(100_000)])[1] == "end"


def test_the_fields_are_counted():
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4 + b"\r\n"
    assert outcome(data, max_fields=5) == 1
    assert outcome(data, max_fields=4) == 431
    assert outcome(data, max_fields=None) == 1


def test_the_announced_body_is_limited_before_any_of_it_is_read():
    assert outcome(POST, max_body=2) == 1
    assert outcome(POST, max_body=1) == 413
    assert outcome(POST, max_body=None) == 1
    head = POST[:-2]
    with pytest.raises(HTTPError) as caught:
        fed(head, max_body=1).next_event()
    assert caught.value.status == 413
    huge = head.replace(b"Content-Length: 2", b"Content-Length: 99999999999999999999")
    assert outcome(huge, max_body=None) == 413
    assert outcome(head.replace(b"Content-Length: 2", b"Content-Length: 4194304")) == 0
    assert outcome(head.replace(b"Content-Length: 2", b"Content-Length: 4194305")) == 413


def test_the_chunked_body_is_limited_as_it_arrives():
    data = CHUNKED + b"3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"
    assert outcome(data, max_body=6) == 1
    assert outcome(data, max_body=5) == 413
    assert outcome(data, max_body=None) == 1


@pytest.mark.parametrize(
    ("body", "overhead"),
    [
        (b"40;abc\r\n" + b"h" * 64 + b"\r\n41;\r\n" + b"x" * 65 + b"\r\n0;e\r\n\r\n", 4 + 1 + 2),
        (b"40\r\n" + b"h" * 64 + b"\r\n0\r\nX: yy\r\n\r\n", 7),
        (b"00040\r\n" + b"h" * 64 + b"\r\n0000\r\n\r\n", 3 + 3),
        (b"40    \r\n" + b"h" * 64 + b"\r\n0\r\n\r\n", 4),
        (b"400\r\n" + b"x" * 1024 + b"\r\n0;\r\n\r\n", 1),
        # Of a tiny chunk all but the data.
        (b"2;abc\r\nhi\r\n1;\r\nx\r\n0;e\r\n\r\n", 5 + 4 + 5 + 1 + 2),
        (b"3f\r\n" + b"h" * 63 + b"\r\n0\r\n\r\n", 6),
    ],
)
def test_what_a_chunked_body_carries_beside_its_data_is_limited(body, overhead):
    assert outcome(CHUNKED + body, max_chunk_overhead=overhead) == 1
    assert outcome(CHUNKED + body, max_chunk_overhead=None) == 1
    if overhead > 1:
        assert outcome(CHUNKED + body, max_chunk_overhead=overhead - 1) == 413


@pytest.mark.parametrize("endless", [b"5;", b"0\r\nX: ", b"0\r\nX: y\r\n", b"000", b"1"])
def test_endless_overhead_is_refused_before_it_ends(endless):
    data = CHUNKED + endless + b"e" * (16 * 1024 + 64)
    assert drive(connect(), [data])[1] in (400, 413)
    assert drive(connect(), [data[i : i + 1000] for i in range(0, len(data), 1000)])[1] in (400, 413)
    assert drive(connect(), [CHUNKED, b"5;" + b"e" * (16 * 1024 + 22)])[1] == "end"
    assert drive(connect(), [CHUNKED, b"5;" + b"e" * (16 * 1024 + 23)])[1] == 413


@pytest.mark.parametrize("count", [MAX_CHUNKS - 1, MAX_CHUNKS, MAX_CHUNKS + 1, 10 * MAX_CHUNKS])
@pytest.mark.parametrize("eof", [False, True])
def test_one_call_decodes_so_many_chunks_and_the_next_one_goes_on(count, eof):
    body = bytes(ord("a") + n % 26 for n in range(count))
    connection = ServerConnection(HeadCache(), Limits())
    connection.receive_data(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n" + GET)
    if eof:
        connection.receive_data(b"")
    calls, before = 0, 0
    while type(event := connection.next_event()) is not HTTPRequest:
        assert (type(event) is Head) if not calls else (event is NEED_DATA)
        assert connection.more and connection.body_received - before == MAX_CHUNKS
        before, calls = connection.body_received, calls + 1
    assert (event.body, calls, connection.more) == (body, count // MAX_CHUNKS, False)
    connection.respond(200, JSON, b"{}")
    connection.response_done()
    assert type(connection.next_event()) is HTTPRequest  # what stands behind it is where it was


def test_a_body_that_breaks_off_among_many_chunks_is_decoded_to_its_end_and_is_none():
    connection = ServerConnection(HeadCache(), Limits())
    connection.receive_data(CHUNKED + b"1\r\na\r\n" * (MAX_CHUNKS + 1))
    connection.receive_data(b"")
    assert type(connection.next_event()) is Head and connection.more
    assert connection.next_event() is CLOSED


def test_ordinary_chunk_framing_is_not_overhead():
    chunk = b"%x\r\n%b\r\n" % (TINY_CHUNK, b"x" * TINY_CHUNK)
    requests, end = drive(connect(), [CHUNKED + chunk * 5000 + b"0\r\n\r\n"])
    assert (len(requests[0][4]), end) == (5000 * TINY_CHUNK, "end")


@pytest.mark.parametrize("size", [1, 2, TINY_CHUNK - 1])
def test_tiny_chunks_are_overhead_up_to_its_limit_and_no_further(size):
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    count = Limits().max_chunk_overhead // (len(chunk) - size)
    good = CHUNKED + chunk * count + b"0\r\n\r\n"
    requests, end = drive(connect(), [good])
    assert (len(requests[0][4]), end) == (count * size, "end")
    for pieces in ([one_more := CHUNKED + chunk * (count + 1) + b"0\r\n\r\n"], each_of(one_more, 7)):
        assert drive(connect(), pieces) == ([], 413)
    # And long before its end: no body of one-byte chunks is decoded further than that.
    assert drive(connect(), each_of(CHUNKED + chunk * (count + 16), 1000))[1] == 413


def each_of(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    "size",
    [b"F" * 17, b"1" + b"0" * 16, b"F" * 20, b"400001", b"00000000000000400001", b"400001;ext", b"7FFFFFFFFFFFFFFF"],
)
@pytest.mark.parametrize("before", [b"", b"2\r\nhi\r\n", b"40\r\n" + b"h" * 64 + b"\r\n"])
def test_a_chunk_that_cannot_be_taken_is_refused_by_its_size(size, before):
    data = CHUNKED + before + size + b"\r\n"
    for pieces in ([data], each_of(data, 1), [CHUNKED, before + size, b"\r\n"], [data + b"x"]):
        assert drive(connect(), pieces) == ([], 413)
    # Not before the size is there: it may be no size at all.
    assert drive(connect(), [data[:-2]]) == ([], "end")
    total = len(before and before.split(b"\r\n")[1]) + int(size.partition(b";")[0], 16)
    assert drive(connect(max_body=None), [data])[1] == (413 if total > sys.maxsize else "end")


def test_sizes_are_judged_together_and_to_the_byte():
    exact = b"5\r\nhello\r\n%x\r\n" % (Limits().max_body - 5)
    assert drive(connect(), [CHUNKED + exact]) == ([], "end")
    assert drive(connect(), [CHUNKED + exact.replace(b"5\r\nhello", b"6\r\nhello!")]) == ([], 413)
    body = b"0" * 100 + b"\nFFFFFF\r\n"  # what stands in the data is no size
    data = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for pieces in ([data + GET], each_of(data + GET, 1), each_of(data + GET, 5)):
        requests, end = drive(connect(), pieces)
        assert ([request[4] for request in requests], end) == ([body, b""], "end")


@pytest.mark.parametrize(
    "wrong", [b"x\r\n", b"\r\n", b"F" * 21 + b"\r\n", b"-1\r\n", b"0x5\r\n", b"2\r\nhiFFFFFFFF\r\n"]
)
def test_what_is_no_size_is_400_however_it_is_each_of(wrong):
    data = CHUNKED + wrong + b"FFFFFFFFFFFFFFFFF\r\n"
    for pieces in ([data], each_of(data, 1), each_of(data, 3)):
        assert drive(connect(), pieces) == ([], 400)


def test_at_most_two_empty_lines_come_before_a_request():
    assert outcome(b"\r\n" * 2 + GET + b"\r\n" * 2 + GET) == 2
    assert outcome(b"\r\n" * 3 + GET) == 400
    assert outcome(GET + b"\r\n" * 2 + b"\r") == 400


def test_limits_of_zero_are_refused():
    for name in ("max_request_line", "max_head", "max_fields", "max_body", "max_chunk_overhead"):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: 0})


# --- One request after the other -----------------------------------------------------------------------------------


def test_the_head_comes_first_when_the_body_is_outstanding():
    connection = fed(POST[:-1])
    head = connection.next_event()
    assert type(head) is Head
    assert (connection.awaiting_body, connection.body_received) == (1, 1)
    assert connection.buffered == 1
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"}" + GET)
    assert connection.awaiting_body == 0
    connection.receive_data(GET)
    request = connection.next_event()
    assert (request.head, request.body) == (head, b"{}")
    assert connection.buffered == 2 * len(GET)
    assert drive_on(connection) == ["/mcp", "/mcp"]


def drive_on(connection):
    """Answers the request that is due and all that are buffered; the paths of the latter."""
    paths = []
    while True:
        connection.respond(200, (), b"")
        connection.response_done()
        event = connection.next_event()
        if type(event) is not HTTPRequest:
            assert event is NEED_DATA
            return paths
        paths.append(event.head.path)


def test_the_head_of_a_chunked_request_comes_first_too():
    connection = fed(CHUNKED + b"2\r\nh")
    assert connection.next_event().chunked
    assert (connection.body_received, connection.awaiting_body) == (1, 0)
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"i\r\n0\r\n\r\n" + GET)
    assert connection.next_event().body == b"hi"
    assert drive_on(connection) == ["/mcp"]


def test_pipelined_requests_wait_for_their_turn():
    connection = fed(b"".join(GET.replace(b"/mcp", b"/%d" % i) for i in range(3)))
    for i in range(3):
        assert connection.next_event().head.path == f"/{i}"
        connection.receive_data(GET.replace(b"/mcp", b"/%d" % (i + 3)))
        assert connection.next_event() is PAUSED
        assert not connection.idle
        connection.respond(200, (), b"")
        assert connection.next_event() is PAUSED
        connection.response_done()
    assert [connection.next_event().head.path, *drive_on(connection)] == ["/3", "/4", "/5"]
    assert connection.requests == 6
    assert connection.idle


def test_idle_is_false_as_soon_as_a_byte_of_a_request_is_here():
    connection = connect()
    assert connection.idle
    connection.receive_data(b"\r\n")
    assert connection.next_event() is NEED_DATA
    assert connection.idle
    connection.receive_data(b"G")
    assert not connection.idle
    assert connection.next_event() is NEED_DATA
    assert connection.buffered == 1


@pytest.mark.parametrize("sent", [b"", b"\r", b"\r\n", GET[:-1], POST[:-1], CHUNKED, CHUNKED + b"5\r\nhe"])
def test_the_end_of_the_peer_in_the_middle_of_a_request_is_no_error(sent):
    connection = connect()
    if sent:
        connection.receive_data(sent)
    connection.receive_data(b"")
    assert connection.eof
    assert connection.next_event() is CLOSED
    assert connection.next_event() is CLOSED
    assert connection.requests == 0
    connection = connect()
    for byte in bytewise(sent):
        connection.receive_data(byte)
        connection.next_event()
    connection.receive_data(b"")
    assert connection.next_event() is CLOSED


def test_a_half_closed_peer_gets_all_its_answers():
    connection = fed(GET + CHUNKED + b"0\r\n\r\n")
    connection.receive_data(b"")
    for _ in range(2):
        assert type(connection.next_event()) is HTTPRequest
        assert connection.next_event() is PAUSED
        assert b"Connection" not in connection.respond(200, (), b"")
        connection.response_done()
    assert not connection.closing
    assert connection.next_event() is CLOSED


def test_blank_lines_are_counted_anew_after_a_request_that_came_as_a_whole():
    cache = HeadCache()
    assert type(fed(GET, cache).next_event()) is HTTPRequest  # now its head is known
    connection = connect(cache)
    for _ in range(3):
        for blank in (b"\r\n", b"\r\n"):  # as many as there may be
            assert connection.receive_whole(blank) is None
            assert connection.next_event() is NEED_DATA
        request = connection.receive_whole(GET)
        assert type(request) is HTTPRequest and connection.head is request.head
        connection.respond(200, (), b"")
        assert connection.response_done()


def test_nothing_is_read_after_a_request_that_says_close():
    for request in (GET[:-2] + b"Connection: foo, CLOSE\r\n\r\n", GET.replace(b"1.1", b"1.0")):
        connection = fed(request + GET)
        assert type(connection.next_event()) is HTTPRequest
        connection.receive_data(GET)
        assert connection.buffered == 0
        assert b"\r\nConnection: close\r\n" in connection.respond(200, (), b"")
        assert connection.next_event() is PAUSED
        connection.response_done()
        assert connection.closing
        assert connection.next_event() is CLOSED


def test_close_after_makes_the_next_answer_the_last():
    connection = fed(GET + GET)
    connection.next_event()
    connection.close_after()
    assert b"\r\nConnection: close\r\n" in connection.respond(200, (), b"")
    connection.response_done()
    assert connection.next_event() is CLOSED


def test_close_after_in_the_middle_of_a_stream_ends_the_connection_with_it():
    connection = fed(GET + GET)
    connection.next_event()
    connection.start_stream(200, ())
    connection.close_after()
    connection.end_stream()
    connection.response_done()
    assert connection.closing


@pytest.mark.parametrize("begun", [POST[:-1], CHUNKED + b"5\r\nhe", GET[:-1], b"", CHUNKED + b"5\r\nhelloXX"])
def test_an_answer_before_the_request_is_whole_closes(begun):
    """An early refusal, a timeout, a bad body: where the next request starts is not known."""
    connection = fed(begun) if begun else connect()
    try:
        connection.next_event()
    except HTTPError as error:
        assert error.status == 400
        assert connection.next_event() is PAUSED
    assert b"\r\nConnection: close\r\n" in connection.respond(408, (), b"late")
    connection.receive_data(b"llo" + GET)
    assert (connection.buffered, connection.awaiting_body) == (0, 0)
    assert connection.next_event() is PAUSED
    connection.response_done()
    assert connection.next_event() is CLOSED
    connection.receive_data(GET)
    assert connection.next_event() is CLOSED


def test_a_request_that_is_given_up_ends_the_connection():
    connection = fed(GET + GET)
    connection.next_event()
    connection.response_done()
    assert connection.closing
    connection = fed(GET + GET)
    connection.next_event()
    connection.start_stream(200, ())
    connection.response_done()
    assert connection.next_event() is CLOSED


# --- 100 (Continue) ------------------------------------------------------------------------------------------------

EXPECT = POST[:-4] + b"Expect: 100-Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [(EXPECT, b"{}"), (CHUNKED[:-2] + b"Expect: 100-continue\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n")],
)
def test_a_client_that_waits_is_told_once_to_continue(head, body):
    connection = fed(head)
    assert connection.next_event().expect_continue
    assert connection.continue_100() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert connection.continue_100() == b""
    connection.receive_data(body)
    assert connection.next_event().body == b"{}"
    assert connection.continue_100() == b""
    connection = fed(head)
    connection.next_event()
    for byte in bytewise(body)[:-1]:
        connection.receive_data(byte)
        connection.next_event()
    assert connection.continue_100() == b""


def test_no_continue_where_none_is_expected():
    for begun in (POST[:-2], EXPECT.replace(b"1.1", b"1.0"), EXPECT.replace(b"100-", b"1-"), CHUNKED):
        connection = fed(begun)
        assert not connection.next_event().expect_continue
        assert connection.continue_100() == b""


def test_an_expectation_does_not_reach_the_next_request():
    connection = fed(EXPECT + b"{}" + POST[:-2])
    assert type(connection.next_event()) is HTTPRequest
    connection.respond(200, (), b"")
    connection.response_done()
    assert type(connection.next_event()) is Head
    assert connection.continue_100() == b""


def test_a_refused_expectation_is_not_continued():
    connection = fed(EXPECT)
    connection.next_event()
    assert b"Connection: close" in connection.respond(403, (), b"")
    assert connection.continue_100() == b""


# --- Answers -------------------------------------------------------------------------------------------------------


def read_back(answer, method="GET", eof=False):
    """What an h11 client reads; (status, headers, body, whether the connection may be used again)."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    if eof:
        client.receive_data(b"")
    response = client.next_event()
    body = b""
    while type(event := client.next_event()) is h11.Data:
        body += event.data
    assert type(event) is h11.EndOfMessage
    assert client.trailing_data[0] == b""
    return response.status_code, list(response.headers), body, client.their_state is h11.DONE


HEADER_SETS = st.lists(
    st.tuples(
        st.sampled_from(["X-A", "x-b", "Date", "Vary"]),
        st.text(st.characters(codec="ascii", min_codepoint=33), max_size=9),
    ),
    max_size=3,
).map(tuple)


@examples(300)
@given(
    st.sampled_from([200, 202, 204, 304, 400, 503, 599]),
    HEADER_SETS,
    st.lists(st.binary(max_size=20), max_size=3),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from([b"", DATE]),
    st.booleans(),
    st.booleans(),
)
def test_an_h11_client_reads_what_was_answered(status, headers, pieces, method, date, close, stream):
    body = b"".join(pieces)
    headers = tuple((name, value) for name, value in headers if "\x7f" not in value)
    connection = fed(GET.replace(b"GET", method.encode()), WARM_DEFAULT)
    connection.next_event()
    if close:
        connection.close_after()
    bodiless = status in (204, 304)
    if stream and not bodiless:
        answer = connection.start_stream(status, headers, date=date)
        answer += b"".join(map(connection.send_chunk, pieces)) + connection.end_stream()
        framing = [(b"transfer-encoding", b"chunked")]
    else:
        answer = connection.respond(status, headers, body, date=date)
        framing = [] if bodiless else [(b"content-length", b"%d" % len(body))]
    wanted = [(b"date", date)] * bool(date) + [(name.lower().encode(), value.encode()) for name, value in headers]
    wanted += framing + [(b"connection", b"close")] * close
    sent = b"" if bodiless or method == "HEAD" else body
    read = read_back(answer, method)
    assert (read[0], sorted(read[1]), read[2], read[3]) == (status, sorted(wanted), sent, not close)
    connection.response_done()
    assert connection.closing == close


WARM_DEFAULT = HeadCache(max_heads=8)


def test_a_whole_answer_byte_for_byte():
    connection = fed(POST + POST)
    connection.next_event()
    wanted = (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n"
        b"Content-Type: application/json\r\n\r\n{}"
    )
    assert connection.respond(200, JSON, b"{}", date=DATE) == wanted
    connection.response_done()
    connection.next_event()
    wanted = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: application/json\r\n\r\n0123456789"
    assert connection.respond(200, JSON, b"0123456789") == wanted


def test_accepted_has_a_length_and_no_content_has_none():
    connection = fed(GET + GET)
    connection.next_event()
    assert connection.respond(202, (), b"") == b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    connection.response_done()
    connection.next_event()
    assert connection.respond(204, (), b"ignored") == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_stream_byte_for_byte():
    connection = fed(GET + GET)
    connection.next_event()
    wanted = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert connection.start_stream(200, (("Content-Type", "text/event-stream"),)) == wanted
    assert connection.send_chunk(b"data: 0123456789\n\n") == b"12\r\ndata: 0123456789\n\n\r\n"
    assert connection.send_chunk(b"") == b""
    assert connection.end_stream() == b"0\r\n\r\n"
    connection.response_done()
    assert type(connection.next_event()) is HTTPRequest


def test_a_stream_is_written_without_its_head_and_the_answer_to_head_is_not():
    for method, written in ((b"GET", b"1\r\nx\r\n"), (b"HEAD", b"")):
        connection = fed(GET.replace(b"GET", method) + GET)
        connection.next_event()
        connection.forget_head()
        assert connection.head is not None  # nothing has begun
        connection.start_stream(200, ())
        connection.forget_head()
        assert (connection.head is None) == (method == b"GET")
        assert connection.send_chunk(b"x") == written
        assert connection.end_stream() == (b"0\r\n\r\n" if written else b"")
        connection.response_done()
        assert connection.next_event().head.method == "GET"


def test_a_stream_to_http_1_0_lasts_until_the_close():
    connection = fed(GET.replace(b"1.1", b"1.0"))
    connection.next_event()
    answer = connection.start_stream(200, JSON) + connection.send_chunk(b"a") + connection.send_chunk(b"b")
    answer += connection.end_stream()
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\nab"
    assert read_back(answer, eof=True)[2] == b"ab"
    connection.response_done()
    assert connection.closing


def test_a_stream_begun_before_the_body_was_here_closes():
    connection = fed(POST[:-1])
    connection.next_event()
    assert b"\r\nConnection: close\r\n" in connection.start_stream(200, ())
    assert connection.send_chunk(b"x") == b"1\r\nx\r\n"


def test_head_gets_the_headers_of_get_and_no_body():
    connection = fed(GET.replace(b"GET", b"HEAD") * 2)
    connection.next_event()
    assert connection.respond(405, (), b"12345") == b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 5\r\n\r\n"
    connection.response_done()
    connection.next_event()
    connection.start_stream(200, ())
    assert connection.send_chunk(b"x") + connection.end_stream() == b""


@pytest.mark.parametrize(
    "headers",
    [
        (("X", "a\r\nSet-Cookie: b"),), (("X", "a\nb"),), (("X", "a\x00"),), (("X: y\r\nZ", "a"),), (("X", "é"),),
        (("Content-Length", "1"),), (("transfer-encoding", "chunked"),), (("Connection", "close"),),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused_and_another_answer_is_possible(headers):
    connection = fed(GET + GET)
    connection.next_event()
    with pytest.raises(ValueError, match=r"."):
        connection.respond(200, headers, b"")
    with pytest.raises(ValueError, match=r"."):
        connection.start_stream(200, headers)
    with pytest.raises(ValueError, match=r"."):
        connection.respond(204, headers, b"")
    assert connection.respond(500, (), b"").startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    connection.response_done()
    assert type(connection.next_event()) is HTTPRequest


def test_a_status_that_is_no_answer_is_refused():
    connection = fed(GET)
    connection.next_event()
    for status in (101, 1000):
        with pytest.raises(ValueError, match="status_code"):
            connection.respond(status, (), b"")
    for status in (204, 304):
        with pytest.raises(ValueError, match="no body"):
            connection.start_stream(status, ())


def test_one_request_gets_one_answer():
    connection = fed(GET)
    connection.next_event()
    for call in (connection.end_stream, lambda: connection.send_chunk(b"x")):
        with pytest.raises(RuntimeError, match="no stream"):
            call()
    connection.respond(200, (), b"")
    for call in (lambda: connection.respond(200, (), b""), lambda: connection.start_stream(200, ())):
        with pytest.raises(RuntimeError, match="answered"):
            call()
    connection.close_after()
    connection.response_done()
    with pytest.raises(RuntimeError, match="answered"):
        connection.respond(200, (), b"")


# --- Cost ----------------------------------------------------------------------------------------------------------


def quickest(work, *arguments):
    def seconds():
        with cost(time.thread_time) as working:  # of this thread alone: other processes take the clock's time
            work(*arguments)
        return working.seconds

    return min(seconds() for _ in range(3))


@pytest.mark.parametrize(
    "request_bytes",
    [GET, GET.replace(b"\r", b""), POST, CHUNKED + b"1\r\nx\r\n0\r\n\r\n"],
    ids=["GET", "LF", "POST", "chunked"],
)
def test_many_pipelined_requests_in_one_read_cost_linear_time(request_bytes):
    """What lies behind a request in the buffer is not gone through again for each."""
    rest = b"x" * (4 << 20)
    requests = request_bytes * 400
    one_copy = quickest(bytearray, rest)
    alone = quickest(lambda: drive(connect(), [requests]))
    for pieces in ([requests + rest], [requests[:9], requests[9:] + rest]):
        assert quickest(lambda pieces=pieces: drive(connect(), pieces)) < alone * 2 + one_copy * 40


def test_a_backlog_is_not_copied_with_each_read():
    def work(backlog):
        connection = fed(GET * backlog)
        for _ in range(1000):
            connection.next_event()
            connection.receive_data(GET)
            connection.respond(200, (), b"")
            connection.response_done()

    one_copy = quickest(bytearray, GET * 50_000)
    assert quickest(work, 50_000) < quickest(work, 1) * 3 + one_copy * 40


@pytest.mark.long
@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"GET / HTTP/1.1\r\n", b"a:b\n"),
        (POST.replace(b": 2", b": 4000000")[:-2], b"x" * 64),
        (CHUNKED + b"3fffff\r\n", b"x" * 64),
    ],
    ids=["head", "CL", "chunked"],
)
def test_many_small_reads_cost_linear_time(begun, piece):
    def work(n):
        assert drive(connect(max_head=None), [begun, *[piece] * n])[1] == "end"

    assert quickest(work, 24_000) / quickest(work, 6000) < 9


@pytest.mark.long
def test_a_body_in_tiny_pieces_is_held_in_its_own_size():
    for begun, piece in ((POST.replace(b": 2", b": 4000000")[:-2], b"ab"), (CHUNKED, b"2\r\nab\r\n")):
        connection = fed(begun, max_chunk_overhead=None)
        tracemalloc.start()
        try:
            connection.next_event()
            for _ in range(20_000):
                connection.receive_data(piece)
                connection.next_event()
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert 40_000 <= connection.buffered < 50_000
        assert held < 200_000


def test_a_status_line_has_the_words_that_its_status_has_everywhere() -> None:
    for status in range(200, 600):
        connection = ServerConnection(HeadCache(), Limits())
        connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert isinstance(connection.next_event(), HTTPRequest)
        line = connection.respond(status, (), b"").partition(b"\r\n")[0].decode()
        known = {one.value: one.phrase for one in HTTPStatus}
        # RFC 9110 has given this one another name than RFC 7231, which older Pythons know.
        words = "Content Too Large" if status == 413 else known.get(status, "")
        assert line == f"HTTP/1.1 {status} {words}"
