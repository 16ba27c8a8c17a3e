# SPDX-License-Identifier: MIT
"""Heads read by their lines: as h11 reads them or not at all, whatever was read before, and at a bounded cost.

`agrees` is the property.  The oracle is `ask_h11`, which `test_http11` compares with a plain h11 loop.
"""

from __future__ import annotations

import sys
import tracemalloc

import pytest
from examples import examples
from headlines_support import Reader, line_of
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.http.headlines import (
    KNOWN_LINE_SIZE,
    KNOWN_LINES,
    KNOWN_NAMES,
    LEARNT_AT_ONCE,
    LENGTH_DIGITS,
    LINES_OF_A_NAME,
    MAX_SHAPES,
    MAX_SIZE,
    MAX_SIZES,
    MAX_START,
    HeadLines,
)
from mcp_h11.http.messages import Limits

START = b"POST /mcp HTTP/1.1"


def head(*lines: bytes, start: bytes = START) -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""])


def known(*lines: bytes) -> Reader:
    """A reader that knows the usual request line, and has read a head with these lines."""
    reader = Reader()
    assert reader.agrees(head()) == "h11"
    if lines:
        assert reader.agrees(head(*lines)) == "lines"
    return reader


# --- as h11 reads them ----------------------------------------------------------------------------------------------

NAMES = [
    b"Host", b"host", b"HOST", b"Content-Length", b"content-length", b"Connection", b"connection", b"Expect",
    b"Upgrade", b"Transfer-Encoding", b"Accept", b"accept", b"X", b"x-id", b"Authorization", b"Cookie",
    b"Mcp-Session-Id", b"X_Y", b"!#$%&'*+-.^_`|~09", b"X-Forwarded-For",
]  # fmt: skip
ODD_NAMES = [b"", b" X", b"X ", b"\tX", b"X\t", b"X Y", b"X\x00", b"X\xe9", b"X\r", b"X(", b"Host\r", b"X:"]
VALUES = [
    b"", b"a", b"a b", b"a\tb", b"\xe9\x80\xff", b"\x01\x1f\x7f\x85\xa0", b"a,b", b"a:1", b"[::1]:80", b"keep-alive",
    b"Keep-Alive, TE", b"close", b"x, CLOSE", b"upgrade", b"0", b"2", b"0002", b"+2", b"2,2", b"2 2", b"1" * 18,
    b"1" * 19, b"1" * 21, b"chunked", b"100-continue", b"a b/c", b"u@h", b"x" * 300,
]  # fmt: skip
ODD_VALUES = [b"a\x00", b"\x00", b"a\rb", b"\ra", b"a\r", b"a\nb", b"\n", b"a\x0bb", b"\x0c", b"\r\n b", b"\n\tb"]
PADS = [b" "] * 6 + [b"", b"  ", b"\t", b" \t "]
BEHIND = [b""] * 6 + [b" ", b"\t ", b" \r"]
ENDS = [b"\r\n"] * 20 + [b"\n", b"\r\r\n", b"\r"]
STARTS = [START] * 8 + [
    b"GET / HTTP/1.1", b"GET /a?b=c HTTP/1.1", b"GET http://a/ HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT a HTTP/1.1",
    b"CONNECT /a HTTP/1.1", b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"GET /\x00 HTTP/1.1", b"GET /  HTTP/1.1", b"Host: a",
]  # fmt: skip


def mostly(usual: list[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(usual * (1 + 12 * len(odd) // len(usual)) + odd)


LINES = st.builds(
    lambda *parts: b"".join(parts),
    mostly(NAMES, ODD_NAMES), st.sampled_from([b":"] * 30 + [b"", b" :"]), st.sampled_from(PADS),
    mostly(VALUES, ODD_VALUES), st.sampled_from(BEHIND), st.sampled_from(ENDS),
)  # fmt: skip
HOST = st.sampled_from([b"Host: a\r\n"] * 12 + [b"", b"host:b\r\n", b"Host: a\n"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Bytes up to a blank line, as one of both ways of looking for it finds it."""
    lines = draw(st.lists(LINES, max_size=5))
    lines.insert(draw(st.integers(0, len(lines))), draw(HOST))
    start = draw(st.sampled_from(STARTS)) + draw(st.sampled_from(ENDS))
    return start + b"".join(lines) + draw(st.sampled_from([b"\r\n"] * 12 + [b"\n"]))


def changed(raw: bytes, data: st.DataObject) -> bytes:
    """The same with up to two bytes left out and up to two put in, at one place."""
    at = data.draw(st.integers(0, len(raw)))
    to = at + data.draw(st.integers(0, 2))
    return raw[:at] + data.draw(st.binary(max_size=2)) + raw[to:]


@examples(1000)
@given(st.lists(heads(), min_size=1, max_size=6))
def test_a_head_is_read_as_h11_would_whatever_was_read_before(found: list[bytes]) -> None:
    reader = known()
    for raw in (*found, *found[::-1]):
        reader.agrees(raw)


@examples(500)
@given(st.lists(heads(), min_size=1, max_size=3), st.data())
def test_a_head_that_differs_in_some_bytes_from_a_known_one_is_read_as_h11_would(
    found: list[bytes], data: st.DataObject
) -> None:
    reader = known()
    for raw in found:
        reader.agrees(raw)
        reader.agrees(changed(raw, data))


@pytest.mark.long
def test_every_byte_in_every_place_of_a_head_is_judged_as_h11_does() -> None:
    """One head that is known in full, and the same with one byte replaced or put in: all 256 at each place."""
    raw = head(b"Content-Length: 2", b"X-Id:  ab c", b"Connection: keep-alive")
    reader = known(b"Content-Length: 2", b"X-Id:  ab c", b"Connection: keep-alive")
    read = 0
    for at in range(len(raw)):
        for byte in range(256):
            for skip in (0, 1):
                read += reader.agrees(raw[:at] + bytes([byte]) + raw[at + skip :]) == "lines"
    assert read > 5_000  # not all are left to h11


def test_the_ordinary_is_read_by_lines() -> None:
    reader = known()
    for lines in (
        [b"Content-Length: 2"], [b"content-length:\t0002 "], [b"Connection: keep-alive"], [b"connection: TE, x"],
        [b"X: a", b"X: b", b"x: c"], [b"X:"], [b"X:   \t"], [b"X: \xff\x01"], [b"Cookie: a=b"],
        [b"Authorization: Bearer x"], [b"Content-Length: " + b"0" * (LENGTH_DIGITS - 1) + b"1"],
        [b"Last: " + b"x" * 5_000],
    ):  # fmt: skip
        assert reader.agrees(head(*lines)) == "lines", lines


def test_what_frames_a_message_in_an_unusual_way_is_left_to_h11() -> None:
    reader = known()
    for lines in (
        [b"Transfer-Encoding: chunked"], [b"Expect: x"], [b"Upgrade: h2c"], [b"Connection: close"],
        [b"Connection: a, Close"], [b"Content-Length: 1", b"content-length: 1"], [b"Content-Length: 1,1"],
        [b"Content-Length: "], [b"Content-Length: +1"], [b"Content-Length: " + b"0" * LENGTH_DIGITS + b"1"],
        [b"host: a"], [b"X: a", b" folded"], [b"X : a"], [b"X"], [b": a"], [b"X: a\x00"], [b"X: a\rb"], [b"X: a\x0b"],
        [b"X: a\x0cb"], [b"X: a\nY: b"], [b"X: a\r"], [b"\xe9: a"],
    ):  # fmt: skip
        for _ in range(3):
            assert reader.agrees(head(*lines)) == "h11", lines


def test_the_first_of_repeated_fields_is_found_by_name_and_all_are_in_order() -> None:
    reader = known()
    read = reader.lines.read(head(b"X: a", b"Y: b", b"x: c"))
    assert read is not None and read.repeats
    assert read.headers == ((b"host", b"a"), (b"x", b"a"), (b"y", b"b"), (b"x", b"c"))
    assert (read.get("X"), read.get_all("X"), read.get_all("Z")) == ("a", ["a", "c"], [])


def shape(reader: Reader, *lines: bytes) -> object:
    """The shape of a head with these lines once they are known."""
    for _ in range(2):
        assert reader.agrees(head(*lines)) == "lines"
    read = reader.lines.read(head(*lines))
    assert read is not None
    return read.shape


def test_heads_that_a_verdict_does_not_tell_apart_have_one_shape() -> None:
    reader = known()
    usual = shape(reader, b"Accept: a", b"Cookie: x", b"X: 1")
    assert usual is not None
    for lines in (
        [b"Accept: a", b"Cookie: y", b"X: 2"], [b"Accept: a", b"cookie:z"], [b"Accept: a", b"Cookie: x", b"Y: 1"],
        [b"Accept: a", b"X: 1", b"X: 2", b"Cookie: x"],
    ):  # fmt: skip
        assert shape(reader, *lines) is usual, lines
    for lines in (
        [b"Accept: b", b"Cookie: x"], [b"Accept: a"], [b"Cookie: x"], [b"accept: a", b"Cookie: x"], [b"X: 1"],
        [b"Accept: a", b"Cookie: x", b"Authorization: y"], [b"Accept: a", b"Cookie: x", b"X-Id: 1"],
    ):  # fmt: skip
        assert shape(reader, *lines) not in (usual, None), lines


def test_a_head_of_which_not_all_that_weighs_is_known_has_no_shape() -> None:
    reader = known()
    for lines in ([b"Accept: a", b"accept: b"], [b"Accept: a", b"Accept: a"], [b"Cookie: a", b"Cookie: b"]):
        assert shape(reader, *lines) is None, lines
    assert shape(reader, b"X-Id: ".ljust(KNOWN_LINE_SIZE, b"x")) is not None
    assert shape(reader, b"X-Id: ".ljust(KNOWN_LINE_SIZE + 1, b"x")) is None
    read = reader.lines.read(head(b"Accept: new"))  # kept now, and its shape from the next on
    assert read is not None and read.shape is None


# --- limits ---------------------------------------------------------------------------------------------------------


def limited(**limits: int | None) -> HeadLines:
    reader = known()
    reader.lines.limit(Limits(**limits))
    return reader.lines


def test_a_head_past_a_limit_of_the_connection_is_left_to_h11() -> None:
    raw = head(b"X: a", b"Y: b")
    for limits, read in (
        ({"max_head": len(raw)}, True), ({"max_head": len(raw) - 1}, False), ({"max_head": None}, True),
        ({"max_fields": 3}, True), ({"max_fields": 2}, False), ({"max_fields": None}, True),
    ):  # fmt: skip
        assert (limited(**limits).read(raw) is not None) == read, limits


def test_request_lines_are_known_up_to_their_size() -> None:
    for size, way in ((MAX_START, "lines"), (MAX_START + 1, "h11")):
        start = b"GET /".ljust(size - len(b" HTTP/1.1\r"), b"x") + b" HTTP/1.1"
        reader = Reader()
        reader.agrees(head(start=start))
        assert reader.agrees(head(b"X: a", start=start)) == way


def test_a_long_line_is_read_and_not_kept() -> None:
    for size, kept in ((KNOWN_LINE_SIZE, 1), (KNOWN_LINE_SIZE + 1, 0)):
        reader = known()
        line = b"X: ".ljust(size, b"x")
        assert reader.agrees(head(line)) == "lines"
        assert (line in reader.lines.lines) == kept


def test_a_name_or_a_length_that_is_long_is_read_and_not_kept() -> None:
    reader = known()
    for number in range(3):
        line = b"X" * KNOWN_LINE_SIZE + b"%d: a" % number
        assert reader.agrees(head(line, b"Content-Length:" + b" " * MAX_SIZE + b"%d" % number)) == "lines"
    assert reader.lines._rooms == {} and reader.lines._sizes == {} and reader.lines.names.keys() <= {b"Content-Length"}
    for blanks in (MAX_SIZE - 1, MAX_SIZE):
        assert reader.agrees(head(b"Content-Length:" + b" " * blanks + b"7")) == "lines"
    assert [*reader.lines._sizes] == [b" " * (MAX_SIZE - 1) + b"7"]


def test_secrets_are_read_and_not_kept() -> None:
    secrets = [b"Authorization: Bearer s3cret", b"cookie: a=s3cret", b"Mcp-Session-Id: s3cret"]
    reader = known(*secrets, b"Proxy-Authorization: s3cret", b"X: kept")
    assert b"X: kept" in reader.lines.lines and not any(b"s3cret" in line for line in reader.lines.lines)


def test_a_name_has_a_number_of_lines_that_are_kept() -> None:
    reader = known()
    for number in range(LINES_OF_A_NAME + 1):
        assert reader.agrees(head(b"X-No: %d" % number)) == "lines"
    assert b"X-No: %d" % (LINES_OF_A_NAME - 1) in reader.lines.lines
    assert b"X-No: %d" % LINES_OF_A_NAME not in reader.lines.lines
    assert reader.agrees(head(b"Y-Id: 1")) == "lines" and b"Y-Id: 1" in reader.lines.lines


def test_a_head_teaches_some_lines_at_once() -> None:
    reader = known(*[b"X-%d: a" % number for number in range(LEARNT_AT_ONCE + 1)])  # Host was the first line
    assert len(reader.lines.lines) == LEARNT_AT_ONCE
    assert b"X-%d: a" % (LEARNT_AT_ONCE - 2) in reader.lines.lines


def test_what_is_kept_is_bounded() -> None:
    reader = known()
    lines = reader.lines
    for number in range(3_000):
        new = [b"X-%d-%d: %d" % (number % 40, n, number) for n in range(LEARNT_AT_ONCE)]
        assert lines.read(head(*new, b"Content-Length: %d" % number)) is not None
        assert len(lines._rooms) <= KNOWN_NAMES and len(lines.names) <= KNOWN_NAMES and len(lines.lines) <= KNOWN_LINES
        assert len(lines._sizes) <= MAX_SIZES
    assert len(lines.lines) == KNOWN_LINES
    lines.forget()
    assert not (lines.lines or lines.names or lines._rooms or lines._weights or lines._sizes)
    assert reader.agrees(head(b"X: a")) == "lines"


def test_shapes_are_bounded() -> None:
    reader = known()
    shapes = set()
    for path in range(MAX_SHAPES // LINES_OF_A_NAME + 1):
        start = b"POST /%d HTTP/1.1" % path
        for number in range(LINES_OF_A_NAME):
            for _ in range(3):
                reader.agrees(head(b"Accept: %d" % number, start=start))
            read = reader.lines.read(head(b"Accept: %d" % number, start=start))
            shapes.add(None if read is None else read.shape)
            assert reader.lines._shapes == sum(len(kept) for _, kept in reader.lines._starts.values()) <= MAX_SHAPES
    assert None not in shapes and len(shapes) > MAX_SHAPES


def test_a_request_line_that_h11_reads_again_keeps_its_shapes() -> None:
    reader = known()
    usual = shape(reader, b"Accept: a")
    assert reader.agrees(head(b"Accept: a\nX: b")) == "h11"
    assert shape(reader, b"Accept: a") is usual


def test_lines_of_weight_put_the_older_ones_of_their_name_out() -> None:
    reader = known()
    for number in range(LINES_OF_A_NAME):
        assert shape(reader, b"Accept: %d" % number) is not None
    kept = {line for line in reader.lines.lines if line.startswith(b"Accept")}
    assert len(kept) == LINES_OF_A_NAME
    assert shape(reader, b"Accept: x") is not None  # whatever was sent before it
    assert {line for line in reader.lines.lines if line.startswith(b"Accept")} == {b"Accept: x"}
    assert b"Host: a" in reader.lines.lines
    assert shape(reader, b"Accept: 1") is not None


WEIGHTY = [b"Host", b"Connection", b"Accept"]


@pytest.mark.parametrize("name", WEIGHTY)
@pytest.mark.parametrize("repeated", [1, 2, 3])
def test_a_head_that_repeats_a_line_of_weight_harms_no_later_head(name: bytes, repeated: int) -> None:
    reader = known()
    for number in range(3 * LINES_OF_A_NAME):
        line = b"%b: %d" % (name, number)
        reader.agrees(head(*[line] * repeated))
        reader.agrees(head(line))
    assert len([line for line in reader.lines.lines if line.startswith(name)]) <= LINES_OF_A_NAME
    assert reader.agrees(head(b"X: a")) == "lines"


@examples(200)
@given(st.data())
def test_a_reader_that_has_read_much_still_reads_as_h11_would(data: st.DataObject) -> None:
    """Many values of few names, each of which a head may have several times: what is kept goes and comes."""
    reader = known()
    random = data.draw(st.randoms(use_true_random=False))
    for number in range(4 * LINES_OF_A_NAME):
        lines = [
            b"%b: %d" % (random.choice(WEIGHTY), number + random.randrange(2)) for _ in range(random.choice((1, 2)))
        ]
        reader.agrees(head(*lines, *random.choices(lines, k=random.randrange(3))))


def test_names_that_no_room_is_left_for_are_read_all_the_same() -> None:
    reader = known()
    for number in range(2 * KNOWN_NAMES):
        assert reader.agrees(head(b"X-%d: a" % number)) == "lines"
    assert len(reader.lines._rooms) == KNOWN_NAMES
    assert b"X-%d: a" % (2 * KNOWN_NAMES - 1) not in reader.lines.lines


def test_memory_stays_where_it_is_under_lines_that_are_always_new() -> None:
    lines = known().lines
    tracemalloc.start()
    try:
        for round in range(3):
            for number in range(200):
                new = [b"X-%d-%d: %b" % (n, number, bytes([97 + round]) * 200) for n in range(20)]
                assert lines.read(head(*new)) is not None
            held = tracemalloc.get_traced_memory()[0]
            assert held < KNOWN_LINES * (2 * KNOWN_LINE_SIZE + 500)
    finally:
        tracemalloc.stop()


# --- cost -----------------------------------------------------------------------------------------------------------


def steps(lines: HeadLines, raw: bytes) -> int:
    """The bytecodes of one reading: the same on any machine."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        frame.f_trace_opcodes = True  # type: ignore[attr-defined]
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    # Python 3.12 tells of bytecodes only where a frame has asked for them before the tracer is set.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        assert lines.read(raw) is not None
    finally:
        sys.settrace(before)
    return count


def test_an_attacker_with_new_lines_makes_the_head_of_another_client_hardly_dearer() -> None:
    usual = [b"Accept: */*", b"User-Agent: a", b"X-Forwarded-Proto: https", b"Via: b", b"Priority: u=1"]
    quiet, attacked = known(*usual), known()
    for number in range(2_000):
        fresh = [b"%b: %d" % (line_of(usual, n), number) for n in range(5)]
        assert attacked.lines.read(head(*fresh, *[b"Y-%d-%d: z" % (n, number) for n in range(20)])) is not None
    one, other = (min(steps(reader.lines, head(*usual)) for _ in range(3)) for reader in (quiet, attacked))
    assert one < other < 4 * one
    # A head by h11 is some 15 times as many.
    assert other < 500
