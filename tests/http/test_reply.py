# SPDX-License-Identifier: MIT
"""The answer to one request: which calls write what in which state, to the byte, without a socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest

from mcp_h11.http.headers import Headers
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import HTTPRequest, Limits
from mcp_h11.http.reply import COMMENT, DONE, GONE, STREAMING, UNDECIDED, Reply
from mcp_h11.http.server import ServerConnection
from mcp_h11.http.sse import Parts, event_parts

DATE = b"Thu, 01 Jan 2026 00:00:00 GMT"
EVENT = b"data: {}\n\n"


class Wire:
    """A link that keeps each write, and counts the answers that were complete."""

    peer = "192.0.2.1"

    def __init__(self, http: ServerConnection) -> None:
        self.http = http
        self.written: list[bytes] = []
        self.complete = 0
        self.aborted = 0
        self.writable = True
        self.waiting: Any = object()

    def respond(self, status: int, headers: Headers, body: bytes, close: bool) -> None:
        if close:
            self.http.close_after()
        self.written.append(self.http.respond(status, headers, body, date=DATE))
        self.complete += 1

    def begin(self, headers: Headers, events: bytes, last: bool) -> None:
        self.send(events, last, self.http.start_stream(200, headers, date=DATE))

    def send(self, events: bytes, last: bool, head: bytes = b"") -> None:
        data = head + self.http.send_chunk(events)
        self.written.append(data + self.http.end_stream() if last else data)
        self.complete += last

    def send_parts(self, headers: Headers | None, event: Parts, last: bool) -> None:
        head = b"" if headers is None else self.http.start_stream(200, headers, date=DATE)
        data = head + b"".join(self.http.chunk_parts(event))
        self.written.append(data + self.http.end_stream() if last else data)
        self.complete += last

    def comment(self) -> None:
        self.send(COMMENT, False)

    def forget_head(self) -> None:
        self.http.forget_head()

    def drained(self) -> Awaitable[None]:
        return self.waiting  # type: ignore[no-any-return]

    def abort(self) -> None:
        self.aborted += 1


def reply_on(version: str = "1.1") -> tuple[Reply, Wire, ServerConnection]:
    connection = ServerConnection(HeadCache(), Limits())
    link = Wire(connection)
    connection.receive_data(f"POST /mcp HTTP/{version}\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    request = connection.next_event()
    assert isinstance(request, HTTPRequest)
    return Reply(link, request), link, connection


def head_and_body(data: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    return [status, *sorted(f.lower() if f[:4] != b"Date" else f for f in fields)], body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_whole_answer_is_one_write() -> None:
    reply, link, _ = reply_on()
    assert (reply.state, reply.alive, reply.open_ended) == (UNDECIDED, True, False)
    reply.answer(400, b'{"a":1}')
    (data,) = link.written
    head, body = head_and_body(data)
    assert head[0].startswith(b"HTTP/1.1 400 ") and body == b'{"a":1}'
    assert b"content-type: application/json" in head and b"content-length: 7" in head
    assert link.complete == 1 and (reply.state, reply.alive) == (DONE, False)


def test_an_answer_may_be_the_last_of_its_connection() -> None:
    reply, link, connection = reply_on()
    reply.answer(400, b"", (), close=True)
    assert b"connection: close" in head_and_body(link.written[0])[0]
    connection.response_done()
    assert connection.closing


def test_what_goes_with_every_answer_goes_with_each_form() -> None:
    for act in (lambda r: r.answer(200, b"{}"), lambda r: r.open(), lambda r: r.stream_once(EVENT)):
        reply, link, _ = reply_on()
        reply.extra = (("X-Extra", "1"),)
        act(reply)
        assert b"x-extra: 1" in head_and_body(link.written[0])[0]


def test_a_stream_in_one_write_has_its_end_in_it() -> None:
    reply, link, _ = reply_on()
    reply.stream_once(EVENT)
    (data,) = link.written
    head, body = head_and_body(data)
    assert b"content-type: text/event-stream" in head and b"x-accel-buffering: no" in head
    assert body == chunk(EVENT) + b"0\r\n\r\n"
    assert link.complete == 1 and reply.state == DONE
    reply, link, _ = reply_on()
    reply.stream_once(b"")
    assert head_and_body(link.written[0])[1] == b"0\r\n\r\n"


def test_a_stream_goes_out_as_it_comes_and_its_last_event_with_its_end() -> None:
    reply, link, _ = reply_on()
    reply.open(EVENT)
    assert (reply.state, reply.open_ended, link.complete) == (STREAMING, True, 0)
    reply.send(b"data: 1\n\n")
    reply.end(b"data: 2\n\n")
    assert head_and_body(link.written[0])[1] == chunk(EVENT)
    assert link.written[1:] == [chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n") + b"0\r\n\r\n"]
    assert link.complete == 1 and not reply.open_ended


def test_a_stream_may_begin_and_end_without_an_event() -> None:
    reply, link, _ = reply_on()
    reply.open(b"")
    reply.end()
    assert head_and_body(link.written[0])[1] == b"" and link.written[1] == b"0\r\n\r\n"
    reply, link, _ = reply_on()
    reply.open()
    assert head_and_body(link.written[0])[1] == chunk(COMMENT) == b"3\r\n:\n\n\r\n"


def test_a_stream_to_http_1_0_ends_with_its_connection() -> None:
    reply, link, connection = reply_on("1.0")
    reply.open(EVENT)
    reply.end(EVENT)
    assert head_and_body(link.written[0])[1] == EVENT and link.written[1] == EVENT
    connection.response_done()
    assert connection.closing


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_event_in_parts_is_the_bytes_of_the_event(version: str) -> None:
    in_parts, whole = (reply_on(version) for _ in range(2))
    for reply, _, _ in (in_parts, whole):
        reply.extra = (("X-Extra", "1"),)
    parts = event_parts(b"{}")
    for last in (False, False, True):
        in_parts[0].send_parts(parts, last)
    whole[0].open(EVENT)
    whole[0].send(EVENT)
    whole[0].end(EVENT)
    assert in_parts[1].written == whole[1].written
    once, alone = reply_on(version), reply_on(version)
    once[0].send_parts(parts, True)
    alone[0].stream_once(EVENT)
    assert once[1].written == alone[1].written


def test_the_parts_of_an_event_need_an_open_stream() -> None:
    _, _, connection = reply_on()
    with pytest.raises(RuntimeError, match="no stream is open"):
        connection.chunk_parts(event_parts(b"{}"))


ACTS: dict[str, Callable[[Reply], None]] = {
    "answer": lambda r: r.answer(200, b"{}"),
    "stream_once": lambda r: r.stream_once(EVENT),
    "open": lambda r: r.open(),
    "send": lambda r: r.send(EVENT),
    "end": lambda r: r.end(EVENT),
    "send_parts": lambda r: r.send_parts(event_parts(b"{}"), False),
    "the last send_parts": lambda r: r.send_parts(event_parts(b"{}"), True),
    "expire": lambda r: r.expire(),
    "gone": lambda r: r.gone(),
}
REACH: dict[int, Callable[[Reply], None]] = {
    UNDECIDED: lambda r: None,
    STREAMING: ACTS["open"],
    DONE: ACTS["answer"],
    GONE: ACTS["gone"],
}
# The table of the module's docstring; None where nothing happens.
TABLE = {
    UNDECIDED: (DONE, DONE, STREAMING, None, None, STREAMING, DONE, None, GONE),
    STREAMING: (None, None, None, STREAMING, DONE, STREAMING, DONE, DONE, GONE),
    DONE: (None,) * 9,
    GONE: (None,) * 9,
}


@pytest.mark.parametrize("state", TABLE)
def test_each_call_does_in_each_state_what_the_table_says(state: int) -> None:
    for act, after in zip(ACTS, TABLE[state], strict=True):
        reply, link, _ = reply_on()
        REACH[state](reply)
        before = len(link.written), link.complete
        ACTS[act](reply)
        wrote = (len(link.written), link.complete) != before
        assert reply.state == (state if after is None else after), act
        assert wrote is (after is not None and act != "gone"), act


def test_who_waits_is_told_once_that_the_connection_is_lost() -> None:
    told: list[str] = []
    for reach in (REACH[UNDECIDED], REACH[STREAMING]):
        reply, _, _ = reply_on()
        reply.on_gone = lambda: told.append("gone")
        reply.on_silence = lambda: told.append("silent")
        reach(reply)
        reply.gone()
        reply.gone()
        reply.tick(9, 1, 1)
    assert told == ["gone", "gone"]
    reply, _, _ = reply_on()
    reply.gone()  # nobody waits
    reply, _, _ = reply_on()
    reply.on_gone = lambda: told.append("too late")
    reply.answer(200)
    reply.gone()
    assert told == ["gone", "gone"]


def test_a_stalled_reader_is_dropped_while_there_is_something_to_drop() -> None:
    for state, aborted in ((UNDECIDED, 1), (STREAMING, 1), (DONE, 0), (GONE, 0)):
        reply, link, _ = reply_on()
        REACH[state](reply)
        reply.abort()
        assert link.aborted == aborted


def test_what_the_link_knows_the_reply_tells() -> None:
    reply, link, _ = reply_on()
    assert reply.peer == "192.0.2.1" and reply.writable and reply.drained() is link.waiting
    link.writable = False
    assert not reply.writable


def test_an_undecided_answer_is_handed_over_after_its_time_once() -> None:
    reply, link, _ = reply_on()
    told: list[str] = []
    reply.on_silence = lambda: told.append("silent")
    assert [reply.tick(quiet, 15, 1) for quiet in (0, 14)] == [15, 1] and told == []
    assert [reply.tick(quiet, 15, 1) for quiet in (15, 16)] == [inf, inf] and told == ["silent"]
    assert link.written == []
    reply, _, _ = reply_on()
    reply.on_silence = lambda: told.append("never")
    assert reply.tick(1e9, None, 1) == inf
    reply.on_silence = None
    assert reply.tick(1e9, 1, 1) == inf and told == ["silent"]


def test_a_silent_stream_gets_a_comment_after_its_time_and_a_busy_or_full_one_none() -> None:
    reply, link, _ = reply_on()
    reply.open(EVENT)
    assert [reply.tick(quiet, 1, 16) for quiet in (0, 1, 13)] == [16, 15, 3]
    assert len(link.written) == 1
    assert reply.tick(14, 1, 16) == 16  # an eighth too soon, where the comments of many streams are spread
    assert reply.tick(16, 1, 16) == 16
    assert link.written[1:] == [chunk(COMMENT)] * 2
    link.writable = False
    assert reply.tick(1e9, 1, 16) == 0  # it is looked at again when it may be read
    assert len(link.written) == 3
    link.writable = True
    reply.tick(16, 1, 16)
    assert link.written[3:] == [chunk(COMMENT)]
    assert reply.tick(1e9, 1, None) == inf
    reply.end()
    assert reply.tick(1e9, 1, 1) == inf
    assert len(link.written) == 5


def test_a_stream_that_listens_lets_go_of_its_request_and_goes_on() -> None:
    reply, link, connection = reply_on()
    reply.forget()  # nothing has begun, and the answer may depend on what was asked
    assert reply.request.head.path == "/mcp" and connection.head is reply.request.head
    reply.open(b": hello\n\n")
    reply.forget()
    assert reply.request.head.path == "" and connection.head is None
    reply.send(b"data: 1\n\n")
    reply.end(b"data: 2\n\n")
    assert link.written[1:] == [chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n") + b"0\r\n\r\n"]
