# SPDX-License-Identifier: MIT
"""The clients that other tests stand on, against servers that say exactly what the test wrote down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import wire
from rawclient import (
    BOTH,
    LIMIT,
    Closed,
    EventParser,
    Legacy,
    Modern,
    ProtocolError,
    RawClient,
    Response,
    header_value,
)

pytestmark = pytest.mark.anyio
SOON = 0.05  # a limit that is meant to be reached
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """A server on a free port that runs `script` for each connection; what a script raises fails the test."""
    failed: list[BaseException] = []
    connections: list[asyncio.Task[None]] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        try:
            await script(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        with anyio.fail_after(LIMIT):
            await asyncio.gather(*connections, return_exceptions=True)
        if failed:
            raise failed[0]


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    headers = {k.lower(): v for k, _, v in (text.partition(": ") for text in lines)}
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def saying(*parts: bytes, close: bool = False) -> Script:
    """Reads one request and says `parts`, each in a write of its own; then waits for the client to go."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if not close:
            await reader.read()

    return script


async def get(port: int, method: str = "GET", limit: float = 5) -> Response:
    async with RawClient(port, limit=limit) as client:
        return await client.request(method, "/")


# -- framing --

HEADERS = b"HTTP/1.1 200 OK\r\nX-Twice: a\r\nX-TWICE: b\r\n"
CHUNKED = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"
SIZED = HEADERS + b"Content-Length: 6\r\n\r\nhello!"
TO_THE_END = HEADERS + b"\r\nhello!"


@pytest.mark.parametrize(("answer", "close"), [(CHUNKED, False), (SIZED, False), (TO_THE_END, True)])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_an_answer_is_the_same_however_it_is_framed_and_cut(answer: bytes, close: bool, bytewise: bool) -> None:
    parts = [answer[i : i + 1] for i in range(len(answer))] if bytewise else [answer]
    async with serving(saying(*parts, close=close)) as port:
        response = await get(port)
    assert (response.status, response.reason, response.version, response.body) == (200, "OK", "1.1", b"hello!")
    assert response.headers["x-twice"] == "a, b"
    assert response.raw_headers[:2] == [("X-Twice", "a"), ("X-TWICE", "b")]


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200),
        ("GET", b"HTTP/1.1 202 \r\nContent-Length: 0\r\n\r\n", 202),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(method: str, answer: bytes, status: int) -> None:
    async with serving(saying(answer)) as port:
        response = await get(port, method)
    assert (response.status, response.body) == (status, b"")


async def test_interim_answers_are_passed_over_unless_asked_for() -> None:
    async with serving(saying(b"HTTP/1.1 100 Continue\r\n\r\n", OK)) as port:
        assert (await get(port)).body == b"ok"
        async with RawClient(port) as client:
            await client.send_request("POST", "/", {"Expect": "100-continue"})
            assert (await client.receive_head()).status == 100
            assert (await client.receive()).body == b"ok"


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (b"", Closed, "before the end of an answer: b''"),
        (b"HTTP/1.1 200", Closed, "before the end of an answer: b'HTTP/1.1 200'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Closed, "with 1 bytes of the body to come"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", Closed, "within a chunk, after b'ok'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Closed, "end of a chunk's size: b''"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", Closed, "end of the trailers: b''"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n", ProtocolError, "longer than the 1 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ProtocolError, "no framing"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ProtocolError, "no framing"),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n", 1), ProtocolError, "no framing"),
        (b"HTTP/2 200 OK\r\n\r\n", ProtocolError, "no status line"),
        (b"HTTP/1.1 20 OK\r\n\r\n", ProtocolError, "no status line"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", ProtocolError, "no header: 'no header'"),
        (b"HTTP/1.1 200 OK\r\nSpace : x\r\n\r\n", ProtocolError, "no header: 'Space : x'"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000 + b"\r\n\r\n", ProtocolError, "longer than 65536 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_refused(answer: bytes, error: type[Exception], reason: str) -> None:
    async with serving(saying(answer, close=True)) as port:
        with pytest.raises(error, match=reason):
            await get(port)


# -- the connection --


async def test_a_request_goes_out_as_these_bytes() -> None:
    seen = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.append(data)
            writer.write(OK)

    async with serving(script) as port, RawClient(port) as client:
        await client.request("POST", "/mcp?x=1", {"X-A": "é"}, b"{}")
        await client.request("GET", "/", {"host": "other", "Content-Length": None})
        await client.request("POST", "/", {"Content-Length": None, "HOST": None})
        assert client.local_port > 0
    assert seen == [
        f"POST /mcp?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 2\r\nX-A: é\r\n\r\n{{}}".encode(
            "latin-1"
        ),
        b"GET / HTTP/1.1\r\nhost: other\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
    ]


async def test_a_connection_is_used_again_and_requests_can_be_pipelined() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, _, body = await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body)

    async with serving(script) as port, RawClient(port) as client:
        assert (await client.request("POST", "/", body=b"1")).body == b"1"
        assert (await client.request("POST", "/", body=b"2")).body == b"2"
        await client.send(client.head("POST", "/", body=b"3") + b"3" + client.head("POST", "/", body=b"4") + b"4")
        assert [(await client.receive()).body for _ in range(2)] == [b"3", b"4"]


async def test_the_end_of_the_connection_can_be_waited_for() -> None:
    async with serving(saying(OK, b"more", close=True)) as port, RawClient(port) as client:
        assert (await client.request("GET", "/")).body == b"ok"
        assert await client.receive_eof() == b"more"


async def test_a_half_closed_connection_still_gets_its_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"GET / HTTP/1.1\r\n\r\n"
        writer.write(OK)

    async with serving(script) as port, RawClient(port) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        await client.send_eof()
        assert (await client.receive()).body == b"ok"


@pytest.mark.parametrize("abort", [True, False])
async def test_a_peer_sees_a_reset_after_an_abort_and_an_end_after_a_close(abort: bool) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            seen.put_nowait(f"end {await reader.read()!r}")
        except ConnectionResetError:
            seen.put_nowait("reset")

    async with serving(script) as port, RawClient(port) as client:
        stream = await client.open_stream("GET", "/")
        if abort:
            stream.abort()
        else:
            await stream.close()
        with anyio.fail_after(LIMIT):
            assert await seen.get() == ("reset" if abort else "end b''")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"])
async def test_no_wait_is_without_end(answer: bytes) -> None:
    async with serving(saying(answer)) as port:
        with anyio.fail_after(LIMIT), pytest.raises(TimeoutError, match=f"within {SOON} s"):
            await get(port, limit=SOON)
        async with RawClient(port, limit=SOON) as client:
            await client.send_request("GET", "/")
            with anyio.fail_after(LIMIT), pytest.raises(TimeoutError, match="no end of the connection within"):
                await client.receive_eof()


# -- streams --

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_events_come_one_by_one_and_a_wait_given_up_loses_nothing() -> None:
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE + chunk(b"id: a\nretry: 10\ndata:\n\n:c\n\ndata: 1\n") + b"9\r\n\nda")
        await go_on.wait()
        writer.write(b"ta: 2\n\r\n" + chunk(b"\n") + b"0\r\n\r\n")

    async with serving(script) as port, RawClient(port) as client:
        stream = await client.open_stream("GET", "/")
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        primed = await stream.next_event()
        assert primed is not None and (primed.id, primed.retry, primed.data) == ("a", 10, "")
        with anyio.fail_after(LIMIT):
            for _ in range(2):
                with pytest.raises(TimeoutError, match="no event within"):
                    await stream.next_event(SOON)
        go_on.set()
        assert await stream.next_message() == 1
        assert [event.data async for event in stream] == ["2"]
        assert stream.ended and stream.comments == ["c"] and len(stream.seen) == 3
        assert await stream.next_event() is None


async def test_a_body_can_be_read_piece_by_piece() -> None:
    async with serving(saying(SSE, chunk(b"ab"), chunk(b"c") + b"0\r\n\r\n", OK)) as port, RawClient(port) as client:
        stream = await client.open_stream("GET", "/")
        assert await stream.next_bytes() == b"ab"
        assert (await stream.read()).body == b"c"
        assert await stream.next_bytes() is None
        assert (await client.receive()).body == b"ok"


EVENTS = b'\r\nid: 1\r\nevent: message\r\ndata: {"a":\r\ndata:1}\r\n\r\n:keep\r\r\ndata:  x\rid\r\rdata\n\ndata: last\n'


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_the_same_however_they_are_cut(size: int) -> None:
    parser = EventParser()
    events = [e for i in range(0, len(EVENTS), size) for e in parser.feed(EVENTS[i : i + size])]
    assert [(e.id, e.event, e.data, e.comments) for e in events] == [
        ("1", "message", '{"a":\n1}', ()),
        ("", "message", " x", ("keep",)),
        (None, "message", "", ()),
    ]
    assert events[0].json() == {"a": 1}


def test_a_field_that_event_streams_do_not_have_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no field 'dta'"):
        EventParser().feed(b"dta: 1\n\n")


# -- the protocol on top --

Handler = Callable[[str, dict[str, str], Any], bytes]


def mcp(handler: Handler, log: list[tuple[str, dict[str, str], Any]] | None = None) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line, headers, body = await read_request(reader)
            except asyncio.IncompleteReadError:
                return
            message = json.loads(body) if body else None
            if log is not None:
                log.append((line, headers, message))
            writer.write(handler(line, headers, message))

    return script


def answer(message: Any, status: str = "200 OK", more: str = "") -> bytes:
    body = json.dumps(message).encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode()
        + body
    )


def events(*messages: Any) -> bytes:
    return SSE + b"".join(chunk(b"data: %b\n\n" % json.dumps(m).encode()) for m in messages) + b"0\r\n\r\n"


def reply(message: Any, **result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
TEXT = {"type": "text", "text": "t"}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
PING = {"jsonrpc": "2.0", "id": "p", "method": "ping"}


def legacy_server(calls: Callable[[Any], bytes], session: str = "Mcp-Session-Id: s1\r\n") -> Handler:
    def handler(line: str, headers: dict[str, str], message: Any) -> bytes:
        if line.startswith("DELETE"):
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if line.startswith("GET"):
            return events({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}, {"bad": 1})
        if message.get("method") == "initialize":
            result = {"capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            return answer(reply(message, protocolVersion=message["params"]["protocolVersion"], **result), more=session)
        return calls(message) if "id" in message and "method" in message else ACCEPTED

    return handler


@pytest.mark.parametrize("revision", wire.ALL[:4])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_legacy_client_opens_uses_and_ends_a_session(revision: str, streamed: bool) -> None:
    log: list[Any] = []

    def calls(message: Any) -> bytes:
        result = reply(message, content=[TEXT])
        return events(PROGRESS, result) if streamed else answer(result)

    async with serving(mcp(legacy_server(calls), log)) as port, Legacy(port, revision) as client:
        assert (client.session, client.initialized["protocolVersion"]) == ("s1", revision)
        message, notifications = await client.call("tools/call", {"name": "n"}, id="x")
        assert message == {"jsonrpc": "2.0", "id": "x", "result": {"content": [TEXT]}}
        assert notifications == ([PROGRESS] if streamed else [])
        assert (await client.notify("notifications/cancelled", {"requestId": 9})).status == 202
    assert [line.split()[0] for line, _, _ in log] == ["POST", "POST", "POST", "POST", "DELETE"]
    assert [m["method"] for _, _, m in log[:4]] == [
        "initialize", "notifications/initialized", "tools/call", "notifications/cancelled"]  # fmt: skip
    for i, (_, headers, message) in enumerate(log):
        assert headers.get("mcp-session-id") == (None if i == 0 else "s1")
        assert headers.get("mcp-protocol-version") == (revision if i and revision >= wire.C else None)
        assert headers.get("content-type") == (None if message is None else "application/json")
        assert headers["accept"] == BOTH


async def test_a_legacy_client_answers_what_the_server_asks_on_the_way() -> None:
    log: list[Any] = []
    handler = legacy_server(lambda message: events(PING, reply(message, content=[])), session="")
    async with serving(mcp(handler, log)) as port, Legacy(port, wire.D) as client:
        got = await client.call(
            "tools/call", {"name": "n"}, answerer=lambda request: {"result": {"to": request["method"]}}
        )
        assert (got.requests, got.result, got.status) == ([PING], {"content": []}, 200)
        assert log[-1][2] == {"jsonrpc": "2.0", "id": "p", "result": {"to": "ping"}}
        with pytest.raises(ProtocolError, match="nobody answers"):
            await client.call("tools/call", {"name": "n"})
    assert not any(line.startswith("DELETE") for line, _, _ in log), "there was no session to end"


async def test_a_legacy_client_reads_the_stream_of_its_session(schemas: None) -> None:
    log: list[Any] = []
    async with serving(mcp(legacy_server(lambda m: b""), log)) as port, Legacy(port, wire.D) as client:
        async with client.get_stream("e.7") as stream:
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            with pytest.raises(wire.WireError):
                await stream.next_message()
    line, headers, _ = log[2]
    assert (line, headers["accept"], headers["last-event-id"]) == ("GET /mcp HTTP/1.1", "text/event-stream", "e.7")


async def test_an_error_at_the_door_needs_no_id_before_the_modern_era() -> None:
    gone = {"jsonrpc": "2.0", "error": {"code": -32001, "message": "Session not found"}}
    async with serving(mcp(legacy_server(lambda m: answer(gone, "404 Not Found")))) as port:
        async with Legacy(port, wire.D) as client:
            got = await client.call("tools/list")
            assert (got.status, got.error["code"]) == (404, -32001)
            with pytest.raises(AssertionError, match="no result: 404"):
                _ = got.result
        with pytest.raises(AssertionError, match="without the id|answered as None"):
            await Modern(port).call("tools/list")


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        (lambda m: answer({**reply(m, content=[]), "id": "1"}), "asked as 5, answered as '1'"),
        (lambda m: answer({**reply(m, content=[]), "id": 5.0}), "5.0"),
        (lambda m: events({**reply(m, content=[]), "id": 6}), "asked as 5, answered as 6"),
        (lambda m: events(reply(m, content=[]), PROGRESS), "a message after the answer"),
        (lambda m: answer([reply(m, content=[]), PROGRESS]), "several answers to one request"),
    ],
)
async def test_an_answer_to_something_else_is_refused(calls: Callable[[Any], bytes], reason: str) -> None:
    async with serving(mcp(legacy_server(calls))) as port, Legacy(port, wire.B) as client:
        with pytest.raises(AssertionError, match=reason):
            await client.call("tools/call", {"name": "n"}, id=5)


@pytest.mark.parametrize("streamed", [False, True])
async def test_messages_are_judged_by_the_revision_unless_the_test_says_no(schemas: None, streamed: bool) -> None:
    form = events if streamed else answer
    async with serving(mcp(legacy_server(lambda m: form(reply(m, content=[], resultType="complete"))))) as port:
        async with Legacy(port, wire.D) as client:
            with pytest.raises(wire.WireError, match="'resultType' was unexpected"):
                await client.call("tools/call", {"name": "n"})
            client.check = False
            assert (await client.call("tools/call", {"name": "n"})).result["resultType"] == "complete"


async def test_a_stream_that_ends_without_an_answer_gives_none() -> None:
    async with serving(mcp(legacy_server(lambda m: events(PROGRESS)))) as port, Legacy(port, wire.D) as client:
        got = await client.call("tools/call", {"name": "n"})
        assert (got.message, got.notifications) == (None, [PROGRESS])


async def test_a_modern_client_says_who_asks_and_mirrors_it_in_headers() -> None:
    log: list[Any] = []
    handler: Handler = lambda line, headers, m: answer(reply(m, resultType="complete", content=[]))  # noqa: E731
    async with serving(mcp(handler, log)) as port:
        client = Modern(port, capabilities={"sampling": {}})
        got = await client.call(
            "tools/call", {"name": "grüß"}, meta={"progressToken": 3, **client.meta(logLevel="info")}
        )
        assert got.result == {"resultType": "complete", "content": []}
    line, headers, message = log[0]
    assert (line, headers["accept"], headers["mcp-protocol-version"]) == ("POST /mcp HTTP/1.1", BOTH, wire.E)
    assert (headers["mcp-method"], headers["mcp-name"]) == ("tools/call", "=?base64?Z3LDvMOf?=")
    assert message["params"] == {
        "name": "grüß",
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": wire.E,
            "io.modelcontextprotocol/clientInfo": {"name": "rawclient", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
            "io.modelcontextprotocol/logLevel": "info",
            "progressToken": 3,
        },
    }


async def test_a_modern_client_listens_and_each_message_is_judged(schemas: None) -> None:
    meta = {"_meta": {wire.SUBSCRIPTION_ID: "l"}}
    acknowledged = {
        "jsonrpc": "2.0",
        "method": "notifications/subscriptions/acknowledged",
        "params": {"notifications": {"toolsListChanged": True}, **meta},
    }
    unmarked = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    async with serving(mcp(lambda line, headers, m: events(acknowledged, unmarked))) as port:
        async with Modern(port).listen("l", toolsListChanged=True) as stream:
            assert await stream.next_message() == acknowledged
            with pytest.raises(wire.WireError, match="on a listen stream without"):
                await stream.next_message()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a b", "a b"),
        ("", ""),
        (" a", "=?base64?IGE=?="),
        ("a\t", "=?base64?YQk=?="),
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
    ],
)
def test_a_name_that_no_header_can_carry_is_encoded(text: str, value: str) -> None:
    assert header_value(text) == value


async def test_any_body_can_be_posted_and_nothing_of_the_answer_is_judged() -> None:
    async with serving(mcp(lambda line, headers, m: answer({"echo": m}))) as port:
        assert (await Modern(port).post([1, 2])).json() == {"echo": [1, 2]}
        assert (await Legacy(port, wire.B).post(b'"x"', {"X-Extra": "1"})).messages() == [{"echo": "x"}]
