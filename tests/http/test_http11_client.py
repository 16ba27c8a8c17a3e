# SPDX-License-Identifier: MIT
"""http11, the client's end: bytes in and out, and the same answers whatever the cut.

Every answer is fed whole and byte by byte; what a hostile server may send is a table of bytes and what is said of them.
"""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_h11.http import client as http11
from mcp_h11.http.chunked import LARGEST_PIECE, MAX_CHUNKS
from mcp_h11.http.client import (
    CHUNK_ALLOWANCE,
    END,
    MAX_INFORMATIONAL,
    MAX_KEPT_BODY,
    AnswerCache,
    AnswerEnd,
    AnswerError,
    AnswerHead,
    ClientConnection,
    ClientLimits,
    PostHead,
)
from mcp_h11.http.messages import NEED_DATA, Signal

HOST = (("Host", "localhost"),)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CUT = "the server closed the connection before the end of its answer"


def asked(method="GET", limits=None, cache=None):
    connection = ClientConnection(limits, cache)
    connection.request(method, "/", HOST)
    return connection


def answer(pieces, method="GET", limits=None, connection=None, at_once=False):
    """Feeds, asks; (status, headers, keep-alive of the head; the body; "end", "more" or the error; reusable).

    With `at_once` each piece is offered as a whole answer first, as the client does that has no task.
    """
    connection = connection or asked(method, limits)
    head, body = None, b""
    for piece in pieces:
        found = connection.receive_whole(piece) if at_once else None
        if found is not None:
            assert head is None and body == b""
            head, body = (found[0].status, found[0].headers, found[0].keep_alive), found[1]
            continue
        connection.receive_data(piece)
        try:
            while True:
                event = connection.next_event()
                if type(event) is Signal or type(event) is AnswerEnd:
                    break
                if type(event) is AnswerHead:
                    assert head is None and body == b""
                    head = (event.status, event.headers, event.keep_alive)
                else:
                    assert type(event) is bytes and event and head is not None
                    body += event
        except AnswerError as error:
            assert not connection.reusable
            with pytest.raises(type(error)):
                connection.next_event()
            return head, body, f"{type(error).__name__}({error.begun}): {error}", False
    return head, body, "end" if connection.next_event() is END else "more", connection.reusable


def each(data):
    return [data[i : i + 1] for i in range(len(data))]


def both(data, *, eof=False, **how):
    """The outcome, fed whole and byte by byte."""
    last = [b""] if eof else []
    whole = answer([data, *last], **how)
    assert answer([*each(data), *last], **how) == whole
    if "connection" not in how:
        cache = AnswerCache()
        for _ in range(3):
            connection = asked(how.get("method", "GET"), how.get("limits"), cache)
            assert answer([data, *last], **how, connection=connection) == whole
        connection = asked(how.get("method", "GET"), how.get("limits"), cache)
        assert answer([data, *last], **how, connection=connection, at_once=True) == whole
    return whole


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_one_piece_of_bytes_with_its_length() -> None:
    headers = (("Host", "localhost:8000"), ("Content-Type", "application/json"))
    assert ClientConnection().request("POST", "/mcp?a=1", headers, b"{}") == (
        b"POST /mcp?a=1 HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("GET", b"", b""),
        ("DELETE", b"", b""),
        ("POST", b"", b"Content-Length: 0\r\n"),
        ("PUT", b"", b"Content-Length: 0\r\n"),
        ("DELETE", b"x", b"Content-Length: 1\r\n"),
    ],
)
def test_a_length_is_sent_where_content_is_expected(method, body, line) -> None:
    sent = ClientConnection().request(method, "/", HOST, body)
    assert sent == method.encode() + b" / HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n" + body


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/", ()),
        ("GET", "/", (*HOST, ("Content-Length", "3"))),
        ("GET", "/", (*HOST, ("transfer-encoding", "chunked"))),
        ("GET", "/", (*HOST, ("Connection", "close"))),
        ("GET", "/", (*HOST, ("X", "secret\r\nEvil: 1"))),
        ("GET", "/", (*HOST, ("X", "secret\0"))),
        ("GET", "/", (*HOST, ("X", "secret\u00e9"))),
        ("GET", "/", (*HOST, ("X Y", "1"))),
        ("GET", "/ HTTP/1.1\r\nEvil: secret", HOST),
        ("GET", "/\u00e9", HOST),
        ("GET ", "/", HOST),
        ("CONNECT", "a:1", HOST),
    ],
)
def test_what_http_cannot_say_is_refused_and_not_repeated(method, target, headers) -> None:
    connection = ClientConnection()
    with pytest.raises(ValueError) as caught:
        connection.request(method, target, headers)
    assert "secret" not in str(caught.value)
    assert connection.reusable


def test_a_second_request_before_the_end_is_a_mistake() -> None:
    connection = asked()
    with pytest.raises(RuntimeError):
        connection.request("GET", "/", HOST)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_with_a_length() -> None:
    head = (200, ((b"content-type", b"text/plain"), (b"content-length", b"5")), True)
    data = OK + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    assert both(data) == (head, b"hello", "end", True)
    assert both(data[:-1]) == (head, b"hell", "more", False)


def test_the_pieces_are_given_out_as_they_come() -> None:
    connection = asked()
    connection.receive_data(OK + b"Content-Length: 6\r\n\r\nab")
    assert type(connection.next_event()) is AnswerHead
    assert connection.next_event() == b"ab"
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"c")
    connection.receive_data(b"de")
    assert connection.next_event() == b"cde"
    connection.receive_data(b"f")
    assert connection.next_event() == b"f"
    assert connection.next_event() is END
    assert connection.next_event() is END


def test_chunks_are_given_out_as_they_come() -> None:
    connection = asked()
    connection.receive_data(CHUNKED + b"3\r\nabc\r\n2\r\nd")
    assert type(connection.next_event()) is AnswerHead
    assert connection.next_event() == b"abcd"
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"e\r\n0\r\n")
    assert connection.next_event() == b"e"
    assert connection.next_event() is NEED_DATA
    connection.receive_data(b"Trailer: x\r\n\r\n")
    assert connection.next_event() is END
    assert connection.reusable


def test_more_chunks_in_one_read_than_are_decoded_at_once() -> None:
    data = CHUNKED + b"1\r\nx\r\n" * (MAX_CHUNKS * 2 + 1) + b"0\r\n\r\n"
    _, body, end, reusable = answer([data])
    assert (body, end, reusable) == (b"x" * (MAX_CHUNKS * 2 + 1), "end", True)
    assert answer([data[:-1], b""])[2] == f"AnswerCutShort(True): {CUT}"


def test_three_answers_on_one_connection() -> None:
    connection = asked()
    for data, body in (
        (OK + b"Content-Length: 1\r\n\r\na", b"a"),
        (CHUNKED + b"1\r\nb\r\n0\r\n\r\n", b"b"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ):
        assert answer([data], connection=connection)[1:] == (body, "end", True)
        connection.request("POST", "/", HOST, b"next")
        assert not connection.reusable


@pytest.mark.parametrize(
    ("method", "data", "status"),
    [
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n", 200),
        ("HEAD", CHUNKED, 200),
        ("HEAD", OK + b"\r\n", 200),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
        ("GET", OK + b"Content-Length: 0\r\n\r\n", 200),
    ],
)
def test_answers_without_a_body(method, data, status) -> None:
    head, *rest = both(data, method=method)
    assert head[0] == status and rest == [b"", "end", True]


def test_without_a_length_the_answer_ends_with_the_connection() -> None:
    head = (200, (), False)
    assert both(OK + b"\r\nabc") == (head, b"abc", "more", False)
    assert both(OK + b"\r\nabc", eof=True) == (head, b"abc", "end", False)
    assert both(OK + b"\r\n", eof=True) == (head, b"", "end", False)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        OK + b"Connection: x, Close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    ],
)
def test_an_answer_that_says_close_is_the_last(data) -> None:
    (_, _, keep_alive), body, end, reusable = both(data)
    assert (keep_alive, body, end, reusable) == (False, b"", "end", False)


def test_line_ends_may_lack_their_cr_and_reasons_may_be_missing() -> None:
    assert both(b"HTTP/1.1 200\nContent-Length: 1\n\na")[1:] == (b"a", "end", True)


def test_an_obsolete_fold_is_a_space() -> None:
    # RFC 9112 5.2: a user agent "MUST replace each received obs-fold with one or more SP octets".
    head, *_ = both(OK + b"X: a\r\n \tb\r\nContent-Length: 0\r\n\r\n")
    assert head[1] == ((b"x", b"a b"), (b"content-length", b"0"))


def test_equal_lengths_are_one() -> None:
    assert both(OK + b"Content-Length: 1\r\nContent-Length: 1, 1\r\n\r\na")[1:] == (b"a", "end", True)


def test_values_of_headers_are_found_by_name() -> None:
    connection = asked()
    connection.receive_data(OK + b"X-One: 1\r\nx-one: 2\r\nOther: \xe9\r\n\r\n")
    head = connection.next_event()
    assert (head.get("X-ONE"), head.get("other"), head.get("none")) == ("1", "\u00e9", None)


def test_bytes_behind_the_end_end_the_connection() -> None:
    for data in (OK + b"Content-Length: 1\r\n\r\na", CHUNKED + b"1\r\na\r\n0\r\n\r\n"):
        assert answer([data + b"x"])[1:] == (b"a", "end", False)
        assert answer([data[:-3], data[-3:] + b"xyz"])[1:] == (b"a", "end", False)
        assert answer([*each(data), b"x"])[1:] == (b"a", "end", False)


def test_the_end_of_the_bytes_after_the_end_ends_the_connection() -> None:
    assert both(OK + b"Content-Length: 1\r\n\r\na", eof=True)[1:] == (b"a", "end", False)
    connection = ClientConnection()
    assert connection.reusable
    connection.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not connection.reusable


# --- informational answers --------------------------------------------------------------------------------------------

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"


def test_informational_answers_are_skipped_up_to_a_number() -> None:
    assert both(b"HTTP/1.1 100 Continue\r\n\r\n" + HINT + EMPTY)[1:] == (b"", "end", True)
    assert both(HINT * MAX_INFORMATIONAL + EMPTY)[1:] == (b"", "end", True)
    too_many = "AnswerError(True): Too many informational answers"
    assert both(HINT * (MAX_INFORMATIONAL + 1) + EMPTY) == (None, b"", too_many, False)


def test_the_number_is_counted_for_each_request() -> None:
    limits = ClientLimits(max_informational=1)
    connection = asked(limits=limits)
    assert answer([HINT + EMPTY], connection=connection)[2] == "end"
    connection.request("GET", "/", HOST)
    assert answer([HINT + EMPTY], connection=connection)[2] == "end"


# --- what a server may not ------------------------------------------------------------------------------------------

HOSTILE = [
    # what                     bytes, and what is said of them
    ("another protocol",       b"SSH-2.0-OpenSSH\r\n", "The answer is not HTTP/1"),
    ("a TLS alert",            b"\x15\x03\x01\x00\x02\x02\x46", "The answer is not HTTP/1"),
    ("an empty line first",    b"\r\n" + EMPTY, "The answer is not HTTP/1"),
    ("half a name",            b"HTT\r\n\r\n", "The answer is not HTTP/1"),
    ("version 2",              b"HTTP/2.0 200 OK\r\n\r\n", "HTTP version not supported"),
    ("version 0.9",            b"HTTP/0.9 200 OK\r\n\r\n", "HTTP version not supported"),
    ("a status of words",      b"HTTP/1.1 yes\r\n\r\n", "illegal status line"),
    ("a status below 100",     b"HTTP/1.1 099 X\r\n\r\n",
     "InformationalResponse status_code should be in range [100, 200), not 99"),
    ("a protocol not asked",   b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
     "Received server _SWITCH_UPGRADE event without a pending proposal"),
    ("NUL in a header",        OK + b"X: a\0b\r\n\r\n", "illegal header line"),
    ("NUL in the reason",      b"HTTP/1.1 200 \0\r\n\r\n", "illegal status line"),
    ("a space before a colon", OK + b"X : a\r\n\r\n", "illegal header line"),
    ("a fold at the start",    OK + b" X: a\r\n\r\n", "continuation line at start of headers"),
    ("no colon",               OK + b"X\r\n\r\n", "illegal header line"),
    ("a bare CR",              OK + b"X: a\rY: b\r\n\r\n", "illegal header line"),
    ("length and chunks",      OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
     "Content-Length and Transfer-Encoding in one answer"),
    ("chunks on 1.0",          b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
     "Transfer-Encoding in an HTTP/1.0 answer"),
    ("another coding",         OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
     "Only Transfer-Encoding: chunked is supported"),
    ("two lengths",            OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
     "conflicting Content-Length headers"),
    ("two lengths in one",     OK + b"Content-Length: 1, 2\r\n\r\n", "conflicting Content-Length headers"),
    ("a length below zero",    OK + b"Content-Length: -1\r\n\r\n", "bad Content-Length"),
    ("a length in hex",        OK + b"Content-Length: 0x1\r\n\r\n", "bad Content-Length"),
    ("a folded length",        OK + b"Content-Length: 1\r\n 2\r\n\r\n", "bad Content-Length"),
    ("a length of 21 digits",  OK + b"Content-Length: " + b"1" * 21 + b"\r\n\r\n", "bad Content-Length"),
    ("a chunk of words",       CHUNKED + b"yes\r\n", "illegal chunk header"),
    ("a chunk below zero",     CHUNKED + b"-1\r\n", "illegal chunk header"),
    ("a chunk in 0x",          CHUNKED + b"0x1\r\n", "illegal chunk header"),
    ("a chunk of 21 digits",   CHUNKED + b"1" * 21 + b"\r\n", "illegal chunk header"),
    ("a chunk without end",    CHUNKED + b"1\r\nabc\r\n", "malformed chunk footer"),
    ("a bad trailer",          CHUNKED + b"0\r\nX : y\r\n\r\n", "illegal header line"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_server_that_breaks_http(data, message) -> None:
    _, _, end, reusable = both(data)
    assert end == f"AnswerError(True): {message}" and not reusable


def test_what_was_good_of_a_body_is_given_out_before_the_error() -> None:
    _, body, end, _ = both(CHUNKED + b"3\r\nabc\r\nx\r\n")
    assert (body, end) == (b"abc", "AnswerError(True): illegal chunk header")


@pytest.mark.parametrize(
    ("data", "begun"),
    [
        (b"", False),
        (b"H", True),
        (HINT, True),
        (OK + b"Content-Length: 5\r\n\r\nhell", True),
        (CHUNKED, True),
        (CHUNKED + b"5\r\nhell", True),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", True),
    ],
)
def test_an_answer_that_is_cut_short_says_whether_it_had_begun(data, begun) -> None:
    assert both(data, eof=True)[2:] == (f"AnswerCutShort({begun}): {CUT}", False)


def test_bytes_of_the_answer_before_do_not_begin_the_next() -> None:
    connection = asked()
    answer([EMPTY], connection=connection)
    connection.request("GET", "/", HOST)
    assert answer([b""], connection=connection)[2] == f"AnswerCutShort(False): {CUT}"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_head_at_its_limit_and_one_past() -> None:
    limits = ClientLimits(max_head=100)
    start = OK + b"Content-Length: 0\r\nX: "
    full = start + b"x" * (100 - len(start) - 4) + b"\r\n\r\n"
    assert len(full) == 100
    assert both(full, limits=limits)[2:] == ("end", True)
    large = "AnswerError(True): Answer head too large"
    assert both(full.replace(b"X:", b"XX:"), limits=limits) == (None, b"", large, False)
    # It does not wait for an end that may never come.
    assert both(full[:-4] + b"xxxx", limits=limits) == (None, b"", large, False)


def test_the_limit_is_of_each_head_alone() -> None:
    limits = ClientLimits(max_head=len(HINT))
    assert both(HINT + HINT + EMPTY, limits=limits)[2] == "end"


def test_the_fields_at_their_limit_and_one_past() -> None:
    at = OK + b"Content-Length: 0\r\n" + b"X: y\r\n" * 99 + b"\r\n"
    assert both(at)[2:] == ("end", True)
    assert both(OK + b"X: y\r\n" + at[len(OK) :])[2] == "AnswerError(True): Too many header fields"


def test_chunk_overhead_at_its_limit_and_one_past() -> None:
    limits = ClientLimits(max_chunk_overhead=10)

    def with_extension(size):
        return CHUNKED + b"1;" + b"e" * (size - 1) + b"\r\na\r\n0\r\n\r\n"

    assert both(with_extension(10), limits=limits)[1:] == (b"a", "end", True)
    too_much = "AnswerError(True): Too much overhead in a chunked body"
    assert both(with_extension(11), limits=limits)[2] == too_much
    assert both(CHUNKED + b"0\r\n" + b"X: y\r\n" * 2 + b"\r\n", limits=limits)[2] == too_much


def padded(overhead: int) -> bytes:
    """A chunk of one byte that carries so much beside it."""
    return b"1;" + b"e" * (overhead - 1) + b"\r\na\r\n"


def verdict(data: bytes, limits: ClientLimits) -> str:
    """Whether it is refused; the cut decides how much is given out before that, and nothing else."""
    whole, bytewise = answer([data], limits=limits)[2], answer(each(data), limits=limits)[2]
    assert whole == bytewise
    return whole


def test_each_chunk_takes_its_allowance_off_what_was_counted() -> None:
    limits = ClientLimits(max_chunk_overhead=1000)
    too_much = "AnswerError(True): Too much overhead in a chunked body"
    plain, end = b"1\r\na\r\n", b"0\r\n\r\n"
    # The first leaves 1000 - 256 counted, each plain one takes 256 off, and it never falls below nothing.
    assert verdict(CHUNKED + padded(1000) + padded(CHUNK_ALLOWANCE) + end, limits) == "end"
    assert verdict(CHUNKED + padded(1000) + padded(CHUNK_ALLOWANCE + 1) + end, limits) == too_much
    assert verdict(CHUNKED + padded(1000) + plain * 3 + padded(1000) + end, limits) == "end"
    assert verdict(CHUNKED + padded(1000) + plain * 2 + padded(1000) + end, limits) == too_much
    for quiet in (0, 100):
        assert verdict(CHUNKED + plain * quiet + padded(1000) + end, limits) == "end"
        assert verdict(CHUNKED + plain * quiet + padded(1001) + end, limits) == too_much
    # What ends a body is counted as a chunk is.
    assert verdict(CHUNKED + padded(1000) + b"0;" + b"e" * 255 + b"\r\n\r\n", limits) == "end"
    assert verdict(CHUNKED + padded(1000) + b"0;" + b"e" * 256 + b"\r\n\r\n", limits) == too_much


@pytest.mark.long
@pytest.mark.parametrize("line", [b"0000000000000005", b"5;signature=" + b"f" * 64, b"5;" + b"e" * 255])
@pytest.mark.parametrize("together", [1, 1000])
def test_a_stream_of_padded_chunks_goes_on_for_ever(line: bytes, together: int) -> None:
    event = line + b"\r\n: hi\n\r\n"
    connection = asked()
    connection.receive_data(CHUNKED)
    assert type(connection.next_event()) is AnswerHead
    received = 0
    for _ in range(20_000 // together):
        connection.receive_data(event * together)
        while (piece := connection.next_event()) is not NEED_DATA:
            assert type(piece) is bytes
            received += len(piece)
    assert received == 5 * 20_000
    assert 20_000 * (len(line) - 1) > 10 * ClientLimits().max_chunk_overhead


def test_a_stream_of_little_data_and_long_chunk_lines_is_refused() -> None:
    connection = asked()
    connection.receive_data(CHUNKED)
    assert type(connection.next_event()) is AnswerHead
    with pytest.raises(AnswerError, match="overhead"):
        for _ in range(1000):
            connection.receive_data(padded(CHUNK_ALLOWANCE + 100))
            while connection.next_event() is not NEED_DATA:
                pass


def test_a_chunk_line_without_end_is_refused_however_long_the_stream_was_quiet() -> None:
    connection = asked()
    connection.receive_data(CHUNKED + b"1\r\na\r\n" * 1000)
    assert type(connection.next_event()) is AnswerHead
    while connection.next_event() is not NEED_DATA:
        pass
    fed = 0
    with pytest.raises(AnswerError, match="overhead"):
        connection.receive_data(b"1;")
        while True:
            assert connection.next_event() is NEED_DATA
            connection.receive_data(b"e" * 1024)
            fed += 1024
    assert fed <= ClientLimits().max_chunk_overhead + 1024


def test_the_defaults_are_those_of_the_design() -> None:
    limits = ClientLimits()
    assert (limits.max_head, limits.max_fields, limits.max_chunk_overhead) == (32 * 1024, 100, 16 * 1024)
    for name in ("max_head", "max_fields", "max_chunk_overhead", "max_informational"):
        with pytest.raises(ValueError, match=name):
            ClientLimits(**{name: 0})


def test_a_long_body_costs_no_memory() -> None:
    connection = asked()
    connection.receive_data(CHUNKED)
    assert type(connection.next_event()) is AnswerHead
    piece = b"10000\r\n" + bytes(LARGEST_PIECE) + b"\r\n"
    received = 0

    def feed(times):
        nonlocal received
        for _ in range(times):
            connection.receive_data(piece)
            while (event := connection.next_event()) is not NEED_DATA:
                received += len(event)

    feed(10)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    feed(200)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == 210 * LARGEST_PIECE
    assert after - before < 2 * LARGEST_PIECE and peak - before < 8 * LARGEST_PIECE


# --- what is remembered -----------------------------------------------------------------------------------------------

FIELDS = (*HOST, ("Accept", "a"))
DATED = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 09:00:%02d GMT\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def told_h11(monkeypatch):
    """The requests that h11 was told of, by their bodies."""
    bodies = []

    def write(method, target, headers, body):
        bodies.append(body)
        return write_request(method, target, headers, body)

    write_request = http11._write_request
    monkeypatch.setattr(http11, "_write_request", write)
    return bodies


def test_a_request_that_differs_in_its_body_is_written_without_h11_and_byte_for_byte_the_same(told_h11) -> None:
    cache = AnswerCache()
    connection = ClientConnection(cache=cache)
    for body in (b"{}", b"", b"[1]", b"x" * MAX_KEPT_BODY):
        sent = connection.request("POST", "/mcp", FIELDS, body)
        assert sent == ClientConnection().request("POST", "/mcp", list(FIELDS), body)
        assert answer([DATED % 7], connection=connection)[2:] == ("end", True)
    assert told_h11 == [b"{}", b"{}", b"", b"[1]", b"x" * MAX_KEPT_BODY]  # all but one by those to compare with


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("POST", "/mcp?a", FIELDS, b"{}"),
        ("POST", "/mcp", (*FIELDS, ("X", "y")), b"{}"),
        ("POST", "/mcp", HOST, b"{}"),
        ("PUT", "/mcp", FIELDS, b"{}"),
        ("POST", "/mcp", FIELDS, b"x" * (MAX_KEPT_BODY + 1)),
    ],
)
def test_h11_writes_what_differs_in_anything_else(told_h11, method, target, headers, body) -> None:
    cache = AnswerCache()
    ClientConnection(cache=cache).request("POST", "/mcp", FIELDS, b"{}")
    ClientConnection(cache=cache).request(method, target, headers, body)
    assert told_h11 == [b"{}", body]


def test_what_http_cannot_say_is_refused_beside_what_it_can() -> None:
    cache = AnswerCache()
    for _ in range(2):
        ClientConnection(cache=cache).request("POST", "/", FIELDS, b"{}")
        for wrong in ((*FIELDS, ("X", "a\r\nEvil: 1")), (*FIELDS, ("Content-Length", "3"))):
            with pytest.raises(ValueError):
                ClientConnection(cache=cache).request("POST", "/", wrong, b"{}")


def test_h11_is_told_of_a_request_when_its_answer_is_one_that_nobody_knows(told_h11) -> None:
    cache = AnswerCache()
    connection = ClientConnection(cache=cache)
    for body, data in (
        (b"1", DATED % 1),
        (b"2", DATED % 1),
        (b"3", DATED % 2),
        (b"4", HINT + DATED % 2),
        (b"5", CHUNKED + b"1\r\nx\r\n0\r\n\r\n"),
        (b"6", DATED % 1),
    ):
        connection.request("POST", "/", HOST, body)
        assert answer([data], connection=connection)[2:] == ("end", True)
    assert told_h11 == [b"1", b"3", b"4", b"5"]


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK + b"\r\n",
        CHUNKED,
        OK + b"X: " + b"y" * 4096 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["close", "1.0", "until the end", "chunked", "long"],
)
def test_only_answers_that_leave_the_connection_open_and_say_their_length_are_remembered(data) -> None:
    cache = AnswerCache()
    assert answer([data], connection=asked("POST", cache=cache))[0] is not None
    assert cache.answers == {}


def test_a_request_whose_head_is_long_or_does_not_end_with_its_length_is_not_remembered() -> None:
    cache = AnswerCache()
    ClientConnection(cache=cache).request("POST", "/", (*HOST, ("X", "y" * 4096)), b"{}")
    cache.add_request(("/",), b"POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: a\r\n\r\n", 2)
    assert cache.requests == {}


def test_an_answer_to_head_is_none_to_post_and_the_other_way_round() -> None:
    cache = AnswerCache()
    for method, wanted in (("HEAD", b""), ("POST", b"{}"), ("HEAD", b""), ("GET", b"{}"), ("GET", b"{}")):
        data = DATED % 1 if wanted else DATED[:-2] % 1
        assert answer([data], connection=asked(method, cache=cache))[1:3] == (wanted, "end")


def test_so_many_heads_are_remembered_and_then_none() -> None:
    cache = AnswerCache(max_heads=3)
    for number in range(3):
        connection = ClientConnection(cache=cache)
        connection.request("POST", f"/{number}", HOST)
        answer([DATED % number], connection=connection)
    assert (len(cache.requests), len(cache.answers)) == (3, 3)
    connection = ClientConnection(cache=cache)
    connection.request("POST", "/3", HOST)
    answer([DATED % 3], connection=connection)
    assert (len(cache.requests), len(cache.answers)) == (1, 1)
    for number, kept in ((1, 1), (2, 2), (3, 3), (4, 1)):
        answer([OK + b"X: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % number], connection=asked(cache=cache))
        assert len(cache.chunked) == kept


def test_connections_with_different_limits_cannot_share_what_they_remember() -> None:
    cache = AnswerCache()
    ClientConnection(ClientLimits(), cache)
    ClientConnection(ClientLimits(), cache)
    with pytest.raises(ValueError, match="equal limits"):
        ClientConnection(ClientLimits(max_fields=3), cache)


def test_a_post_goes_out_as_h11_wrote_it_once_its_head_is_known(told_h11) -> None:
    cache = AnswerCache()
    connection = ClientConnection(cache=cache)
    head = PostHead("/mcp", FIELDS)
    assert connection.post(head, b"{}") is None  # and nothing was begun
    sent = connection.request("POST", "/mcp", FIELDS, b"{}")
    with pytest.raises(RuntimeError, match="cannot take a request"):
        connection.post(head, b"[]")
    answer([DATED % 1], connection=connection)
    assert connection.post(head, b"x" * (MAX_KEPT_BODY + 1)) is None
    for body in (b"{}", b"", b"x" * MAX_KEPT_BODY):
        written = connection.post(head, body)
        assert written == sent.replace(b"Length: 2\r\n\r\n{}", b"Length: %d\r\n\r\n%b" % (len(body), body))
        assert answer([DATED % 1], connection=connection, at_once=True)[2:] == ("end", True)
    assert told_h11 == [b"{}"]
    # An answer that nobody knows has h11 told of the request, as after `request`.
    connection.post(head, b"3")
    assert answer([DATED % 2], connection=connection, at_once=True)[2:] == ("end", True)
    assert told_h11 == [b"{}", b"3"]


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        (b"1\r\nx\r\n0\r\n\r\n", True),
        (b"0\r\n\r\n", True),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", True),
        (b"1\r\nx\r\n0\r\n\r\nH", False),  # behind the end
        (b"1\r\nx\r\n0\r\n", False),
        (b"1\r\nx\r\n", False),
        (b"2\r\nx\r\n0\r\n\r\n", False),
        (b"01\r\nx\r\n0\r\n\r\n", False),
        (b"00\r\n\r\n", False),
        (b"1;a=b\r\nx\r\n0\r\n\r\n", False),
        (b"1\r\nx\r\n0\r\nT: t\r\n\r\n", False),
        (b"+1\r\nx\r\n0\r\n\r\n", False),
        (b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", False),
        (b"\r\n", False),
        (b"", False),
        (b"000000001\r\nx\r\n0\r\n\r\n", False),
    ],
)
def test_chunks_without_anything_that_could_be_left_out_are_one_whole_answer(body, plain) -> None:
    cache = AnswerCache()
    answer([CHUNKED + b"0\r\n\r\n"], connection=asked(cache=cache))
    found = asked(cache=cache).receive_whole(CHUNKED + body)
    assert (found is not None) == plain
    told = answer([CHUNKED + body])
    assert found is None or (found[1], "end", True) == told[1:]
    assert answer([CHUNKED + body], connection=asked(cache=cache), at_once=True) == told
    assert asked("HEAD", cache=cache).receive_whole(CHUNKED + body) is None


def test_bytes_are_no_whole_answer_where_others_came_before_them() -> None:
    cache = AnswerCache()
    answer([DATED % 1], connection=asked(cache=cache))
    for before in (b"H", HINT):
        connection = asked(cache=cache)
        connection.receive_data(before)
        connection.next_event()
        assert connection.receive_whole(DATED % 1) is None
    assert ClientConnection(cache=cache).receive_whole(DATED % 1) is None  # nothing was asked
    assert asked(cache=cache).receive_whole(b"") is None


# --- any cut ----------------------------------------------------------------------------------------------------------

WARM = AnswerCache()

LINES = [row[1] for row in HOSTILE] + [HINT, EMPTY, CHUNKED, OK]
PARTS = st.one_of(
    st.sampled_from(LINES),
    st.sampled_from(
        [b"\r\n", b"\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
         b"X: y\r\n", b" fold\r\n", b"3\r\nabc\r\n", b"1;x=y\r\nz\r\n", b"0\r\n\r\n", b"0\r\nT: t\r\n\r\n",
         b"data: x\n\n", b"abc"]
    ),
    st.binary(max_size=4),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    parts=st.lists(PARTS, max_size=7),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    eof=st.booleans(),
    start=st.sampled_from([b"", OK, CHUNKED]),
)
def test_the_same_answer_however_it_is_cut(parts, method, cuts, eof, start) -> None:
    data = start + b"".join(parts)
    last = [b""] if eof else []
    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in zip(marks, marks[1:], strict=False)]
    limits = ClientLimits(max_head=200, max_fields=6, max_informational=2)
    WARM.limits = limits
    whole = answer([data, *last] if data else last, method, limits)
    assert answer(pieces + last, method, limits) == whole
    assert answer(each(data) + last, method, limits) == whole
    for _ in range(2):
        assert answer(pieces + last, connection=asked(method, WARM.limits, WARM)) == whole
    for cut in ([data] if data else [], pieces):
        assert answer(cut + last, connection=asked(method, WARM.limits, WARM), at_once=True) == whole
