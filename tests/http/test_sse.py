# SPDX-License-Identifier: MIT
"""Server-sent events: the bytes that are written, and reading them as the standard does, whatever the cuts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_h11.http.sse import (
    LARGE_PAYLOAD,
    MAX_RETRY_DIGITS,
    Event,
    EventDecoder,
    SSEError,
    encode_comment,
    encode_event,
    encode_numbered,
    event_parts,
    in_pieces,
)


def read(data: bytes, size: int = 0) -> list[Event]:
    """All events, from pieces of this size; 0 is in one go."""
    decoder = EventDecoder()
    events = []
    for start in range(0, len(data), size or len(data) or 1):
        events += decoder.feed(data[start : start + (size or len(data))])
    return events


def message(data: str, event: str = "message", id: str | None = None, retry: int | None = None) -> Event:
    return Event(data, event, id, retry)


# --- writing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ({"data": b"{}"}, b"data: {}\n\n"),
        ({"data": b"{}", "id": "s.1"}, b"id: s.1\ndata: {}\n\n"),
        (
            {"data": b"{}", "id": "s.1", "event": "message", "retry": 0},
            b"event: message\nid: s.1\nretry: 0\ndata: {}\n\n",
        ),
        ({"data": b"/messages?id=1", "event": "endpoint"}, b"event: endpoint\ndata: /messages?id=1\n\n"),
        ({"data": b"", "id": "s.0"}, b"id: s.0\ndata:\n\n"),
        ({"data": b"", "id": "s.0", "retry": 3000}, b"id: s.0\nretry: 3000\ndata:\n\n"),
        ({"data": b"a\nb\r\nc\rd"}, b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ({"data": b"\n"}, b"data: \ndata: \n\n"),
        ({"data": b" x"}, b"data:  x\n\n"),
        ({"data": "\u2028\u0085".encode()}, b"data: \xe2\x80\xa8\xc2\x85\n\n"),
        ({"data": b"1", "id": "\u00e9"}, b"id: \xc3\xa9\ndata: 1\n\n"),
    ],
)
def test_an_event_is_written_in_one_order(arguments: dict[str, object], written: bytes) -> None:
    assert encode_event(**arguments) == written  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "\n", "a\r\ndata: x", "\ud800"])
def test_a_field_cannot_break_out_of_its_line(text: str) -> None:
    with pytest.raises(ValueError):
        encode_event(b"{}", id=text)
    with pytest.raises(ValueError):
        encode_event(b"{}", event=text)
    with pytest.raises(ValueError):
        encode_comment(text)


def test_a_retry_is_not_negative() -> None:
    with pytest.raises(ValueError):
        encode_event(b"{}", retry=-1)


def test_a_comment_is_a_line_with_a_colon() -> None:
    assert encode_comment() == b":\n\n"
    assert encode_comment("ping") == b": ping\n\n"
    assert read(encode_comment() + encode_comment("data: x")) == []


SIZES = st.sampled_from([0, 1, 700, 9_000, LARGE_PAYLOAD - 1, LARGE_PAYLOAD, 3 * LARGE_PAYLOAD])


@given(st.lists(SIZES, max_size=20), st.sampled_from([1, 1_000, 2 * LARGE_PAYLOAD]))
def test_a_piece_is_full_or_stands_before_a_large_payload_which_is_a_piece_by_itself(
    sizes: list[int], full: int
) -> None:
    events = [(index, b"x" * size) for index, size in enumerate(sizes)]
    pieces = [*in_pieces(events, full)]
    assert [event for piece in pieces for event in piece] == events
    for piece in pieces:
        lengths = [len(payload) for _, payload in piece]
        assert len(piece) == 1 or max(lengths) < LARGE_PAYLOAD
        assert sum(lengths[:-1]) < full
    for piece, behind in zip(pieces, pieces[1:], strict=False):
        lengths = [len(payload) for _, payload in (*piece, behind[0])]
        assert sum(lengths[:-1]) >= full or lengths[-1] >= LARGE_PAYLOAD or lengths[0] >= LARGE_PAYLOAD


# --- reading ----------------------------------------------------------------------------------------------------

STREAMS: list[tuple[bytes, list[Event]]] = [
    (b"", []),
    (b"data: {}\n\n", [message("{}")]),
    (b"data:{}\n\n", [message("{}")]),
    (b"data:  x \n\n", [message(" x ")]),
    (b"data: a\ndata: b\ndata\n\n", [message("a\nb\n")]),
    # The three examples of the standard
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [message("first event", id="1"), message("second event"), message(" third event")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]),
    # Line ends
    (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [message("a"), message("b"), message("c")]),
    (b"data: a\r\n\rdata: b\n\r", [message("a"), message("b")]),
    (b"data: a\r\ndata: b\r\n\r\n", [message("a\nb")]),
    (b"data: a\r\n\ndata: b\r\r", [message("a"), message("b")]),
    ("data: a\u2028b\u2029c\u0085d\x0b\x0c\n\n".encode(), [message("a\u2028b\u2029c\u0085d\x0b\x0c")]),
    # The byte order mark: one, and only at the start
    (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    (b"\n\xef\xbb\xbfdata: a\n\n", []),
    (b"data: \xef\xbb\xbfa\n\n", [message("\ufeffa")]),
    # Types
    (b"event: x\ndata: a\n\ndata: b\n\n", [message("a", "x"), message("b")]),
    (b"event: x\nevent:\ndata: a\n\n", [message("a")]),
    (b"event: x\n\ndata: a\n\n", [message("a")]),
    # Ids stay until they are changed
    (b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", id="1"), message("b", id="1")]),
    (b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [message("a", id="1"), message("b")]),
    (b"id: 1\nid: 2\ndata: a\n\n", [message("a", id="2")]),
    (b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", [message("a", id="1"), message("b", id="1")]),
    # Priming
    (b"id: 1\ndata:\n\n", [message("", id="1")]),
    (b"id: 1\n\n", [message("", id="1")]),
    (b"id: 1\nretry: 10\n\ndata: a\n\n", [message("", id="1", retry=10), message("a", id="1")]),
    # Retry
    (b"retry: 10\ndata: a\n\ndata: b\n\n", [message("a", retry=10), message("b")]),
    (b"retry: 1x\nretry: -1\nretry:\nretry: \xc2\xb2\nretry: 1.5\ndata: a\n\n", [message("a")]),
    (b"retry: " + b"9" * MAX_RETRY_DIGITS + b"\ndata: a\n\n", [message("a", retry=10**MAX_RETRY_DIGITS - 1)]),
    (b"retry: 1" + b"0" * MAX_RETRY_DIGITS + b"\ndata: a\n\n", [message("a")]),
    (b"retry: " + b"9" * 5000 + b"\ndata: a\n\n", [message("a")]),
    # What is no field, and names that are near misses
    (b"foo: x\n:data: x\n data: x\nData: x\ndata : x\ndata: a\n\n", [message("a")]),
    # Broken UTF-8 is replaced, as the standard says
    (b"data: \xff\xe2\x80\n\n", [message("\ufffd\ufffd")]),
    (b"event: \xff\nid: \xff\ndata: a\n\n", [message("a", "\ufffd", "\ufffd")]),
    # The end of the stream ends no event
    (b"data: a\n", []),
    (b"data: a\n\ndata: b", [message("a")]),
]


@settings(max_examples=200)
@given(
    st.one_of(st.binary(), st.text(alphabet="a\r\n").map(str.encode)),
    st.sampled_from(["", "s.1", "a\nb"]),
    st.sampled_from(["", "message", "a\rb"]),
    st.sampled_from([b"", b": \n\n"]),
)
def test_the_parts_of_an_event_are_its_bytes(data: bytes, id: str, event: str, before: bytes) -> None:
    try:
        expected = before + encode_event(data, id, event)
    except ValueError:
        with pytest.raises(ValueError, match="CR, LF and NUL"):
            event_parts(data, id, event, before)
        return
    parts = event_parts(data, id, event, before)
    assert b"".join(parts) == expected
    assert parts[1] is data or not data or b"\n" in data or b"\r" in data  # it is not copied


@given(
    st.text(alphabet="{}a\r\n\x00\u2028", max_size=12), st.text("ab_\r\n\x00é", min_size=1, max_size=6), st.integers(0)
)
def test_a_numbered_event_is_the_event_with_that_id(data: str, stream: str, index: int) -> None:
    if set("\r\n\x00") & set(stream):
        with pytest.raises(ValueError, match="cannot be written"):
            encode_numbered(data.encode(), stream, index)
    else:
        assert encode_numbered(data.encode(), stream, index) == encode_event(data.encode(), f"{stream}.{index}")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(("data", "events"), STREAMS, ids=lambda value: repr(value)[:30])
def test_a_stream_is_read_as_the_standard_says(data: bytes, events: list[Event], size: int) -> None:
    assert read(data, size) == events


def test_an_event_is_there_as_soon_as_its_last_byte() -> None:
    for ends in (b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\n\r"):
        decoder = EventDecoder()
        assert decoder.feed(b"data: a" + ends[:-1]) == ([message("a")] if ends == b"\r\n\r\n" else [])
        rest = decoder.feed(ends[-1:])
        assert rest == ([] if ends == b"\r\n\r\n" else [message("a")])
        assert decoder.feed(b"data: b\n\n") == [message("b")]


def test_nothing_read_changes_nothing() -> None:
    decoder = EventDecoder()
    decoder.feed(b"data: a\r")
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n\r\n") == [message("a")]


def test_the_last_event_id_moves_with_complete_events_only() -> None:
    decoder = EventDecoder()
    assert decoder.last_event_id == ""
    decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


def test_a_resumed_stream_begins_with_the_id_that_it_is_given() -> None:
    decoder = EventDecoder()
    decoder.last_event_id = "7"
    assert decoder.feed(b"data: a\n\n") == [message("a", id="7")]


def test_the_retry_is_kept_without_an_event() -> None:
    decoder = EventDecoder()
    assert decoder.retry is None
    assert decoder.feed(b"retry: 500\n\n") == []
    assert decoder.retry == 500
    assert decoder.feed(b"retry: x\ndata: a\n\n") == [message("a")]
    assert decoder.retry == 500


# --- limits -----------------------------------------------------------------------------------------------------

LIMIT = 20
AT_LIMIT = [
    b"data: " + b"x" * 14 + b"\n\n",
    b"data\n" * 16 + b"data\n\n",
    b"data:123456789\ndata:54321\n\n",
    b":" + b"x" * 19 + b"\ndata:\n\n",
    b"\xef\xbb\xbfdata:" + b"x" * 12 + b"\n\n",
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("data", AT_LIMIT)
def test_an_event_of_the_limit_passes_and_one_byte_more_does_not(data: bytes, size: int) -> None:
    def feed(data: bytes) -> list[Event]:
        decoder = EventDecoder(LIMIT)
        return [event for at in range(0, len(data), size) for event in decoder.feed(data[at : at + size])]

    assert len(feed(data)) == 1
    at = data.index(b"\n\n") if data.startswith(b"data") else data.index(b"\n")
    longer = data[:at] + (b"\ndata" if data.startswith(b"data\n") else b"x") + data[at:]
    with pytest.raises(SSEError):
        feed(longer)


def test_many_events_and_comments_are_not_one() -> None:
    decoder = EventDecoder(LIMIT)
    assert len(decoder.feed(b"data: 0123456789\n\n" * 1000)) == 1000
    assert decoder.feed(b": 0123456789\n" * 1000) == []
    assert decoder.feed(b"foo: 0123456789\n" * 1000) == []
    assert decoder.feed(b"data: x\n\n") == [message("x")]


def test_events_before_the_large_one_are_not_lost() -> None:
    decoder = EventDecoder(LIMIT)
    assert decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: " + b"x" * 100) == [message("a", id="1")]
    assert decoder.last_event_id == "1"
    for chunk in (b"", b"\n\n", b"data: b\n\n"):
        with pytest.raises(SSEError, match="20 bytes"):
            decoder.feed(chunk)


def test_a_large_event_in_small_pieces_takes_linear_time() -> None:
    decoder = EventDecoder()
    for _ in range(200_000):
        decoder.feed(b"data")
    assert decoder.feed(b"\n\n") == []
    assert len(read(b"data: " + b"x" * 1_000_000 + b"\n\n", 16)[0].data) == 1_000_000


# --- properties -------------------------------------------------------------------------------------------------


def by_the_book(data: bytes) -> list[Event]:
    """The algorithm of the standard, word by word, on the whole stream (and ids without data are reported)."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events = []
    buffer = kind = last_id = ""
    has_id, retry = False, None
    for line in lines:
        if line == "":
            if buffer or has_id:
                events.append(Event(buffer[:-1], kind or "message", last_id or None, retry))
            buffer = kind = ""
            has_id, retry = False, None
            continue
        name, colon, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if colon and not name:
            continue
        if name == "event":
            kind = value
        elif name == "data":
            buffer += value + "\n"
        elif name == "id" and "\x00" not in value:
            last_id, has_id = value, True
        elif name == "retry" and value and set(value) <= set("0123456789") and len(value) <= MAX_RETRY_DIGITS:
            retry = int(value)
    return events


pieces = st.sampled_from(
    [
        *(b"data", b"id", b"event", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\x00", b"1", b"x"),
        *(b"data: x\n", b"id: 1\n", b"\xef\xbb\xbf", b"\xff", "\u2028".encode(), "\u00e9".encode(), b"\xe2\x80"),
    ]
)
streams = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=40)
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@settings(deadline=None)
@given(streams, sizes)
def test_reading_agrees_with_the_standard_whatever_the_cuts(data: bytes, cuts: list[int]) -> None:
    expected = by_the_book(data)
    assert read(data) == expected
    decoder = EventDecoder()
    events: list[Event] = []
    at = step = 0
    while at < len(data):
        size = cuts[step % len(cuts)]
        events += decoder.feed(data[at : at + size])
        at += size
        step += 1
    assert events == expected


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\x00"))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            fields,
            fields,
            st.none() | st.integers(0, 10**MAX_RETRY_DIGITS - 1),
        ),
        max_size=4,
    ),
    st.integers(1, 7),
)
def test_what_is_written_is_read_back(written: list[tuple[str, str, str, int | None]], size: int) -> None:
    data = b"".join(encode_event(data.encode(), id, event, retry) for data, id, event, retry in written)
    events = read(data, size)
    assert [(event.data, event.event, event.retry) for event in events] == [
        (data.replace("\r\n", "\n").replace("\r", "\n"), event or "message", retry) for data, _, event, retry in written
    ]
    last = None
    for event, (_, id, _, _) in zip(events, written, strict=True):
        last = id or last
        assert event.id == last
