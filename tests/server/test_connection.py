# SPDX-License-Identifier: MIT
"""HTTP on real sockets: what a connection is answered, when it is kept, when it ends, and that it harms no other."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from patience import errors, heard
from rawclient import LIMIT, Closed, Legacy, Modern, RawClient, encode
from serving import (
    ASYNCIO,
    LEGACY,
    UVLOOP,
    Held,
    call,
    head,
    is_closed,
    lives,
    modern,
    request,
    served,
    still_serves,
    turns,
)

from mcp_h11 import Context, Settings
from mcp_h11.http.messages import Limits
from mcp_h11.server import connection, deadlines

pytestmark = pytest.mark.anyio
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SHORT = 0.15  # a timeout that is meant to pass
NOTIFICATION = encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


@asynccontextmanager
async def connected(handler: Held | None = None, **options: Any) -> AsyncIterator[tuple[Any, RawClient]]:
    async with served(handler, **options) as server:
        async with RawClient(server.port) as client:
            yield server, client
        await still_serves(server.port)


async def refused(client: RawClient, status: int, code: int = -32600, method: str = "POST") -> Any:
    """The next answer is this refusal, an error without an id, and the last one on this connection."""
    answer = await client.receive(method)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    error = answer.json()
    assert error["error"]["code"] == code and "id" not in error
    await is_closed(client)
    return answer


async def lost(server: Any) -> None:
    """Waits until the server has lost its last connection; the peer may see nothing of it."""
    event, original = asyncio.Event(), server.lost

    def watched(one: Any) -> None:
        original(one)
        if not server.connections:
            event.set()

    server.lost = watched
    with anyio.fail_after(LIMIT):
        await event.wait()


# --- one after the other -------------------------------------------------------------------------------------------


async def test_a_connection_serves_request_after_request() -> None:
    async with connected() as (_, client):
        for n in range(5):
            await client.send(modern("tools/call", call("echo", text=f"{n}"), id=n))
            answer = await client.receive("POST")
            assert (answer.status, answer.version, answer.json()["id"]) == (200, "1.1", n)
            assert answer.json()["result"]["content"] == [{"type": "text", "text": f"{n}"}]
            assert "connection" not in answer.headers and answer.headers["content-length"] == str(len(answer.body))
            assert answer.headers["date"].endswith(" GMT")


async def test_pipelined_answers_come_in_order_whatever_their_kind() -> None:
    handler = Held()
    async with served(handler) as server, Legacy(server.port, LEGACY) as session:
        usual = {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}

        def post(id: int, tool: str, **arguments: Any) -> bytes:
            message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call(tool, **arguments)}
            return request(encode(message), **usual)

        note = request(NOTIFICATION, **usual)
        parts = [post(1, "hold"), note, post(2, "stream"), modern("ping", id=3), note, post(4, "echo", text="last")]
        async with RawClient(server.port) as client:
            await client.send(b"".join(parts))
            await handler.until(started=1)
            await turns()
            assert handler.started == ["hold"]  # one at a time
            handler.released.set()
            answers = [await client.receive("POST") for _ in parts]
        assert [answer.status for answer in answers] == [200, 202, 200, 404, 202, 200]
        assert [answer.messages()[-1]["id"] for answer in answers if answer.body] == [1, 2, 3, 4]
        assert answers[2].content_type == "text/event-stream" and answers[0].content_type == "application/json"
        assert answers[1].body == answers[4].body == b""


async def test_five_thousand_pipelined_requests_do_not_starve_a_neighbour() -> None:
    count, answered = 5_000, 0
    async with (
        served(max_requests=None) as server,
        Legacy(server.port, LEGACY) as session,
        RawClient(server.port, limit=20) as flood,
        RawClient(server.port) as neighbour,
    ):
        usual = {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}
        served_meanwhile = 0

        async def read_all() -> None:
            nonlocal answered
            while answered < count:
                assert (await flood.receive_head()).status == 202
                answered += 1

        async with anyio.create_task_group() as group:
            group.start_soon(read_all)
            group.start_soon(flood.send, request(NOTIFICATION, **usual) * count)
            while not answered:
                await turns(1)
            while answered < count:
                await lives(neighbour)
                served_meanwhile += 1
        assert answered == count
        # Answered in turns of sixteen; whole reads at once leave room for three or four.
        assert served_meanwhile > 6


async def test_a_peer_that_stops_sending_still_gets_all_its_answers() -> None:
    async with served() as server, Legacy(server.port, LEGACY) as session:
        usual = {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}
        async with RawClient(server.port) as client:
            await client.send(request(NOTIFICATION, **usual) * 40)
            await client.send_eof()
            assert [(await client.receive_head()).status for _ in range(40)] == [202] * 40
            await is_closed(client)


async def test_a_legacy_call_outlives_its_peers_half_close() -> None:
    handler = Held()
    async with served(handler) as server, Legacy(server.port, LEGACY) as session:
        message = session.request("tools/call", call("hold"))
        async with RawClient(server.port) as client:
            await client.send_request("POST", "/mcp", session.headers_for(message), encode(message))
            await client.send_eof()
            await handler.until(started=1)
            handler.released.set()
            assert (await client.receive("POST")).json()["id"] == message["id"]
            await is_closed(client)


async def test_half_a_request_and_the_end_is_no_request() -> None:
    for part in (b"POST /mcp HTT", head(Content_Length="10") + b"{", head(Transfer_Encoding="chunked") + b"4\r\n{"):
        async with connected() as (_, client):
            await client.send(part)
            await client.send_eof()
            await is_closed(client)


async def test_a_modern_call_is_cancelled_when_its_peer_leaves() -> None:
    handler = Held()
    async with served(handler) as server:
        for leave in ("eof", "fin", "rst"):
            async with RawClient(server.port) as client:
                await client.send(modern("tools/call", call("hold", label=leave)))
                await handler.until(started=len(handler.cancelled) + 1)
                if leave == "eof":
                    await client.send_eof()
                elif leave == "rst":
                    client.abort()
                else:
                    await client.aclose()
                await handler.until(cancelled=len(handler.started))
        assert handler.cancelled == ["eof", "fin", "rst"]
        await still_serves(server.port)


# --- framing -------------------------------------------------------------------------------------------------------


async def test_a_chunked_body_is_a_body() -> None:
    body = encode(Modern(0).request("server/discover"))
    first, rest = body[:7], body[7:]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (first, rest)) + b"0\r\n\r\n"
    fields = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "server/discover"}
    async with connected() as (_, client):
        whole = head(Transfer_Encoding="chunked", **fields) + chunks
        for cut in (len(whole), 250, len(whole) - 3):
            await client.send(whole[:cut])
            await turns()
            await client.send(whole[cut:])
            assert (await client.receive("POST")).status == 200
        await lives(client)


async def test_http_1_0_is_answered_without_chunks_and_closed() -> None:
    handler = Held()
    handler.released.set()
    discover = modern("server/discover").replace(b"HTTP/1.1", b"HTTP/1.0")
    async with connected(handler) as (server, client):
        await client.send(discover)
        answer = await client.receive("POST")
        assert answer.status == 200 and answer.headers["connection"] == "close"
        await is_closed(client)
        async with RawClient(server.port) as other, Legacy(server.port, LEGACY) as session:
            usual = {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}
            message = session.request("tools/call", call("stream"))
            await other.send(request(encode(message), **usual).replace(b"HTTP/1.1", b"HTTP/1.0"))
            stream = await other.receive_stream("POST")
            assert "transfer-encoding" not in stream.headers and "content-length" not in stream.headers
            assert [m.get("id", 0) for m in (await stream.read()).messages()] == [0, message["id"]]


async def test_head_is_405_without_a_body() -> None:
    async with connected() as (_, client):
        await client.send(head(method="HEAD"))
        answer = await client.receive("HEAD")
        assert answer.status == 405 and int(answer.headers["content-length"]) > 0
        assert answer.headers["allow"] == "GET, POST, DELETE, OPTIONS"
        await lives(client)


async def test_upgrade_is_ignored() -> None:
    async with connected() as (_, client):
        await client.send(modern("server/discover", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c"))
        assert (await client.receive("POST")).status == 200
        await lives(client)


BROKEN = {
    "two lengths and chunks": (head(Content_Length="5", Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
    "an unknown coding": (head(Transfer_Encoding="gzip"), 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", 505),
    "HTTP/9.9": (head(version="9.9"), 505),
    "no Host": (head(Host=None), 400),
    "two Hosts": (b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    "a Host that is none": (head(Host="a b/../@c"), 400),
    "folded lines": (b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    "no HTTP": (b"hello?\r\n\r\n", 400),
    "a bad length": (head(Content_Length="-1"), 400),
    "a bad chunk": (head(Transfer_Encoding="chunked") + b"zz\r\n", 400),
    "a long request line": (b"GET /" + b"a" * 9000, 414),
    "a long head": (head(A="b" * 40_000), 431),
    "many fields": (head(**{f"a{n}": "b" for n in range(120)}), 431),
    "a chunked body that goes on": (
        head(Transfer_Encoding="chunked") + b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n" * 1,
        413,
    ),
    "chunk extensions": (head(Transfer_Encoding="chunked") + b"1;" + b"x" * 20_000, 413),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_http_is_refused_and_the_connection_ends(case: str) -> None:
    data, status = BROKEN[case]
    limits = Limits(max_body=100_000) if "goes on" in case else Limits()
    async with connected(limits=limits) as (_, client):
        await client.send(data)
        await refused(client, status)


# --- bodies that are refused ---------------------------------------------------------------------------------------

REFUSED_EARLY = {
    "413": ({"Content_Length": str(4 * 1024 * 1024 + 1)}, 413),
    "404": ({"target": "/nowhere", "Content_Length": "10"}, 404),
    "405": ({"method": "PUT", "Content_Length": "10"}, 405),
    "403 Host": ({"Host": "evil.example", "Content_Length": "10"}, 403),
    "403 Origin": ({"Origin": "https://evil.example", "Content_Length": "10"}, 403),
    "415": ({"Content_Type": "text/plain", "Content_Length": "10"}, 415),
    "406": ({"Accept": "text/html", "Content_Length": "10"}, 406),
}


@pytest.mark.parametrize("case", REFUSED_EARLY)
@pytest.mark.parametrize("expects", [True, False], ids=["expects", "sends"])
async def test_what_is_refused_by_its_head_is_refused_before_its_body(case: str, expects: bool) -> None:
    fields, status = REFUSED_EARLY[case]
    async with connected() as (_, client):
        await client.send(head(**{**fields, "Expect": "100-continue" if expects else None}))  # type: ignore[arg-type]
        first = await client.receive_head()
        assert (first.status, first.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 6 * 1024 * 1024])
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "accumulated"])
async def test_a_client_that_writes_before_it_reads_can_read_its_413(size: int, chunked: bool) -> None:
    fields = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": str(size)}
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b" " * size) if chunked else b" " * size
    async with connected() as (_, client):
        await client.send(head(**fields))
        for start in range(0, len(body), 65_536):
            await client.send(body[start : start + 65_536])
        await refused(client, 413)


async def test_100_continue_is_said_once_to_a_request_that_is_taken() -> None:
    body = encode(Modern(0).request("server/discover"))
    whole = modern("server/discover", Expect="100-continue", Content_Length=str(len(body)))
    async with connected() as (_, client):
        for _ in range(2):
            await client.send(whole[: -len(body)])
            first = await client.receive_head()
            assert (first.status, first.raw_headers) == (100, [])
            await client.send(whole[-len(body) :])
            stream = await client.receive_stream("POST")
            assert stream.status == 200
            await stream.read()
        await client.send(whole)  # it did not wait
        assert (await client.receive_head()).status == 200


async def test_an_unknown_expectation_is_no_417() -> None:
    async with connected() as (_, client):
        await client.send(modern("server/discover", Expect="the-unexpected"))
        assert (await client.receive("POST")).status == 200
        await lives(client)


async def _nobody(_: Any) -> None:
    return None


async def _somebody(_: Any) -> str:
    await turns(2)
    return "somebody"


def _broken(_: Any) -> str:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"token": "s3cret"}, 401),
        ({"authorize": lambda head: None}, 401),
        ({"authorize": _nobody}, 401),
        ({"authorize": _broken}, 500),
        ({"authorize": _somebody}, 100),
        ({"authorize": lambda head: "me"}, 100),
    ],
)
async def test_only_who_is_known_is_invited_to_send_a_body(options: dict[str, Any], status: int) -> None:
    async with served(**options) as server, RawClient(server.port) as client:
        await client.send(head(Content_Length="2", Expect="100-continue"))
        answer = await client.receive_head()
        assert answer.status == status
        if status == 100:
            await client.send(b"{}")
            assert (await client.receive("POST")).json()["error"]["code"] == -32600


async def test_a_client_that_does_not_wait_for_its_invitation_is_answered_once() -> None:
    async with served(authorize=_somebody) as server, RawClient(server.port) as client:
        await client.send(head(Content_Length="2", Expect="100-continue"))
        await client.send(b"{}")
        assert (await client.receive("POST")).status == 400
        await lives(client)


# --- deadlines -----------------------------------------------------------------------------------------------------


async def test_silence_from_the_beginning_is_closed_without_a_word() -> None:
    async with connected(first_byte_timeout=SHORT) as (_, client):
        await is_closed(client)


async def test_a_slow_head_is_408() -> None:
    async with connected(head_timeout=SHORT) as (_, client):
        await client.send(b"POST /mcp HTTP/1.1\r\nHost: local")
        await refused(client, 408, -32600)


async def test_a_head_that_trickles_is_408_all_the_same() -> None:
    async with connected(head_timeout=SHORT) as (_, client):
        await client.send(b"POST /mcp HTTP/1.1\r\nA: ")

        async def trickle() -> None:
            while True:
                await client.send(b"b")
                await turns(20)

        async with anyio.create_task_group() as group:
            group.start_soon(trickle)
            answer = await client.receive("POST")
            group.cancel_scope.cancel()
        assert answer.status == 408


async def test_a_slow_body_is_408() -> None:
    async with connected(body_timeout=SHORT) as (_, client):
        await client.send(head(Content_Length="10") + b"{")
        await refused(client, 408, -32600)


class Upload:
    """A body that arrives at a pace of the test's, on a clock of the test's."""

    def __init__(self, server: Any, chunked: bool) -> None:
        self.server, self.chunked = server, chunked
        self.connection = connection.Connection(server)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)
        self.now = server.now
        framing = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": "4000000"}
        self.connection.data_received(head(**framing))

    def go_on(self, seconds: int, rate: int) -> int:
        """So many seconds at so many bytes each; after how many of them it was refused, or 0."""
        for second in range(1, seconds + 1):
            self.now += 1.0
            data = b" " * rate
            if rate:
                self.connection.data_received(b"%x\r\n%b\r\n" % (rate, data) if self.chunked else data)
            self.connection.tick(self.now)
            if self.transport.written:
                assert self.transport.written.startswith(b"HTTP/1.1 408 ")
                return second
        return 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_may_be_as_slow_as_the_floor_and_a_trickle_is_408(chunked: bool) -> None:
    async with served(idle_timeout=None) as server:
        assert Upload(server, chunked).go_on(3_000, 1024) == 0  # 3 MiB, in 50 minutes
        assert Upload(server, chunked).go_on(60, 65_000) == 0
        # What comes at half the rate gives half of its time back: 30 s last for 60.
        assert Upload(server, chunked).go_on(120, 512) == 60
        assert 1_000 < Upload(server, chunked).go_on(3_000, 1000) < 1_400
        assert Upload(server, chunked).go_on(120, 1) == 31
        assert Upload(server, chunked).go_on(120, 0) == 30


@pytest.mark.parametrize("chunked", [False, True])
async def test_what_came_fast_saves_up_no_time(chunked: bool) -> None:
    async with served(idle_timeout=None) as server:
        upload = Upload(server, chunked)
        assert upload.go_on(50, 60_000) == 0
        assert upload.go_on(120, 0) == 30
        upload = Upload(server, chunked)
        for _ in range(20):  # in bursts, with pauses that are within it
            assert upload.go_on(29, 0) == 0 and upload.go_on(1, 60_000) == 0
        assert upload.go_on(29, 0) == 0 and upload.go_on(1, 100) == 0 and upload.go_on(30, 0) == 1


async def test_without_a_rate_the_time_is_for_the_whole_body() -> None:
    async with served(min_body_rate=None, body_timeout=20) as server:
        assert Upload(server, False).go_on(60, 60_000) == 20
    async with served(min_body_rate=100, body_timeout=20) as server:
        assert Upload(server, False).go_on(1_000, 100) == 0
        assert Upload(server, False).go_on(1_000, 50) == 40


async def test_a_body_without_a_deadline_may_take_its_time() -> None:
    async with connected(first_byte_timeout=SHORT, body_timeout=None) as (server, client):
        await client.send(head(Content_Length="2") + b"{")
        async with RawClient(server.port) as other:
            await is_closed(other)  # so long it took
        await client.send(b"}")
        assert (await client.receive("POST")).status == 400
        await lives(client)


async def test_an_idle_connection_is_closed_and_one_that_is_answering_is_not() -> None:
    handler = Held()
    async with connected(handler, idle_timeout=SHORT) as (server, client):
        async with RawClient(server.port) as busy:
            await busy.send(modern("tools/call", call("hold")))
            await client.send(modern("server/discover"))
            assert "connection" not in (await client.receive("POST")).headers
            await is_closed(client)
            handler.released.set()
            assert (await busy.receive("POST")).status == 200


async def test_the_last_of_max_requests_says_so() -> None:
    async with connected(max_requests=3) as (_, client):
        answers = []
        for _ in range(3):
            await client.send(modern("server/discover"))
            answers.append(await client.receive("POST"))
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        await is_closed(client)


# --- crowds --------------------------------------------------------------------------------------------------------


async def test_one_connection_too_many_is_503_and_a_place_that_is_left_is_free() -> None:
    async with served(max_connections=2) as server:
        async with RawClient(server.port) as first, RawClient(server.port) as second:
            await lives(first)
            await lives(second)
            async with RawClient(server.port) as third:
                answer = await refused(third, 503, -32603)
                assert answer.headers["retry-after"] == "1"
            await lives(first)
        await still_serves(server.port)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"nonsense\r\n\r\n",
        head(method="GET", Connection="close"),
        head("/nowhere", Content_Length="100") + b"abc",
        modern("server/discover", Connection="close"),
    ],
    ids=["nothing", "nonsense", "the last request", "a refused head", "a last call"],
)
async def test_who_leaves_before_the_last_answer_is_no_error(
    sent: bytes, full: bool, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: wrong.append(context))
    async with served(max_connections=1 if full else None) as server, AsyncExitStack() as stack:
        if full:
            await lives(await stack.enter_async_context(RawClient(server.port)))
        for _ in range(5):  # the loop does not turn until each of them has left
            with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as sock:
                sock.sendall(sent)
            await turns(30)
        await stack.aclose()
        await still_serves(server.port)
    assert wrong == [] and errors(caplog) == []


async def _is_told(client: RawClient) -> bool:
    try:
        return (await client.receive("POST")).status == 503
    except (Closed, ConnectionError):
        return False


async def test_as_many_connections_as_there_is_room_for_are_all_served() -> None:
    """They come faster than the loop turns: while one is being made it counts once, and not as two."""
    limit = 40
    crowd: list[socket.socket] = []
    async with served(max_connections=limit) as server:
        try:
            for _ in range(limit + connection.TOLD_WHY):  # all wait in the backlog: the loop does not turn
                crowd.append(socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT))
                crowd[-1].send(modern("server/discover"))
                crowd[-1].setblocking(False)
            statuses = []
            for sock in crowd:
                with anyio.fail_after(LIMIT):
                    answer = await asyncio.get_running_loop().sock_recv(sock, 9999)
                statuses.append(answer[9:12])
            assert statuses == [b"200"] * limit + [b"503"] * connection.TOLD_WHY
            await turns()
            assert not server.handshakes
        finally:
            for sock in crowd:
                sock.close()


async def test_a_crowd_past_the_limit_is_dropped_rather_than_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LINGER_TIME", LIMIT)  # no place is free again before all have come
    async with served(max_connections=1) as server, RawClient(server.port) as inside:
        await lives(inside)
        crowd = [await RawClient(server.port).connect() for _ in range(connection.TOLD_WHY + 20)]
        told = sum([await _is_told(client) for client in crowd])
        assert connection.TOLD_WHY - 1 <= told < len(crowd)
        await lives(inside)
        for client in crowd:
            await client.aclose()


# --- flow control --------------------------------------------------------------------------------------------------


async def test_a_client_that_sends_during_an_answer_is_read_no_further_than_the_read_ahead() -> None:
    handler = Held()
    async with connected(handler, read_ahead=4096) as (_, client):
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        more = modern("tools/call", call("echo", text="y" * 100_000))
        sent = 0
        client.limit = SHORT
        with pytest.raises(TimeoutError):  # its writes are not taken any more
            while sent < 1000:
                await client.send(more)
                sent += 1
        assert sent < 300
        client.limit = LIMIT
        handler.released.set()
        assert (await client.receive("POST")).json()["result"]["content"][0]["text"] == "hold released"
        for _ in range(sent):
            assert (await client.receive("POST")).status == 200


class Flood(Held):
    """Says much, and counts how much of it was taken off its hands."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0
        self.add_tool(self.flood, name="flood")

    async def flood(self, ctx: Context) -> str:
        self._began("flood")
        try:
            while self.said < 2_000:
                await ctx.info("z" * 65_536)
                self.said += 1
        except asyncio.CancelledError:
            self.cancelled.append("flood")
            self.changed.set()
            raise
        return "all said"


async def test_a_client_that_does_not_read_costs_bounded_memory_and_then_its_connection() -> None:
    handler = Flood()
    async with served(handler, write_timeout=SHORT) as server, RawClient(server.port) as client:
        # Small, so that the kernel does not hold it all.
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        message = Modern(0).request("tools/call", call("flood"))
        message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = "info"
        await client.send(request(encode(message), **_fields(message)))
        await handler.until(cancelled=1)
        assert handler.said * 65_536 < 32 * 1024 * 1024
        await still_serves(server.port)
        client.abort()


async def test_a_peer_that_takes_no_answers_is_given_no_more_of_them() -> None:
    handler = Held()
    async with served(handler) as server, RawClient(server.port) as client:
        small = modern("tools/call", call("echo", text="known"))
        await client.send(small)
        assert (await client.receive("POST")).status == 200
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(modern("tools/call", call("big", size=24 * 1024 * 1024), id="big"))
        (one,) = server.connections
        with anyio.fail_after(LIMIT):
            while one.writable:
                await turns(1)
        for _ in range(3):  # each in a read of its own
            expected = one.received + len(small)
            await client.send(small)
            with anyio.fail_after(LIMIT):
                while one.received < expected:
                    await turns(1)
        assert one._http.requests == 2
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [(await client.receive("POST")).messages()[-1]["id"] for _ in range(4)] == ["big", 1, 1, 1]


def _fields(message: Any) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in Modern(0).headers_for(message).items()}


async def test_an_answer_that_nobody_takes_ends_however_small_it_is() -> None:
    # The whole answer is below the mark at which writers wait, so only the clock can notice.
    async with served(write_high=64 * 1024 * 1024, write_timeout=SHORT) as server, RawClient(server.port) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(modern("tools/call", call("big", size=24 * 1024 * 1024)))
        await lost(server)
        client.abort()


@pytest.mark.long
@pytest.mark.parametrize("last", ["Connection: close", "max_requests"])
async def test_a_large_last_answer_is_read_to_its_end_however_slowly(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "LINGER_TIME", 0.05)
    size = 24 * 1024 * 1024
    options: dict[str, Any] = {"max_requests": 1} if last == "max_requests" else {}
    async with served(first_byte_timeout=1.0, **options) as server, RawClient(server.port) as client:
        fields = {} if options else {"Connection": "close"}
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(modern("tools/call", call("big", size=size), **fields))
        async with RawClient(server.port) as clock:
            await is_closed(clock)  # longer than anybody lingers
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.receive("POST")
        assert answer.headers["connection"] == "close" and len(answer.body) > size
        await is_closed(client)


async def test_a_peer_that_stays_after_the_last_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LINGER_TIME", SHORT)
    async with connected(first_byte_timeout=SHORT) as (server, client):
        await client.send(head("/nowhere", Content_Length="999"))
        assert (await client.receive("POST")).status == 404
        await lost(server)


async def test_a_peer_that_sends_on_after_a_refusal_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER_BYTES", 100_000)
    async with connected() as (server, client):
        await client.send(head("/nowhere", Content_Length="99999999"))
        with pytest.raises((ConnectionError, TimeoutError)):
            while True:
                await client.send(b" " * 65_536)
        assert not server.connections


# --- the log -------------------------------------------------------------------------------------------------------


async def test_an_access_log_line_says_who_what_status_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    handler = Held()
    async with served(handler, access_log=True) as server:
        async with RawClient(server.port) as client:
            await client.send(modern("server/discover") + head("/nowhere?secret", method="GET"))
            await client.receive("POST")
            await client.receive("GET")
            await client.send(head(Content_Length="99999999"))
            await client.receive("POST")
        async with RawClient(server.port) as client:
            await client.send(b"nonsense\r\n\r\n")
            await client.receive("GET")
        async with RawClient(server.port) as client:
            await client.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
        await handler.until(cancelled=1)
        handler.released.set()
        async with (
            Legacy(server.port, LEGACY) as session,
            session.posting(session.request("tools/call", call("stream"))) as stream,
        ):
            await stream.read()
        async with RawClient(server.port) as client:
            await client.send(modern("server/discover", Accept="text/event-stream"))
            await client.receive("POST")
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("access")]
    assert all(line.startswith('127.0.0.1 "') for line in lines)
    plain = [line.partition(" ")[2] for line in lines]
    # What follows the duration is named, and is `test_ops`' business.
    said = [" ".join(line.split(" ")[:4]).rpartition(" ") for line in plain]
    assert [what for what, _, _ in said[:2]] == ['"POST /mcp" 200', '"GET /nowhere" 404']
    assert plain[2:4] == ['"POST /mcp" 413', '"- -" 400']
    assert said[4][0] == '"POST /mcp" -'
    assert all(took.endswith("s") and float(took[:-1]) >= 0 for _, _, took in said[:2] + said[4:])
    assert [what for what, _, _ in said[5:]] == [
        '"POST /mcp" 200',
        '"POST /mcp" 202',
        '"POST /mcp" 200',
        '"DELETE /mcp" 204',
        '"POST /mcp" 200',
    ]


async def test_nothing_is_logged_about_requests_unless_asked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mcp_h11")
    assert not Settings().access_log
    async with served() as server:
        await still_serves(server.port)
        async with RawClient(server.port) as client:
            await client.send(b"nonsense\r\n\r\n")
            await refused(client, 400)
    assert [record for record in heard(caplog) if record.name.startswith("mcp_h11")] == []


@pytest.mark.parametrize("first", [True, False])
async def test_a_failure_inside_ends_its_connection_and_no_other(
    first: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as server, RawClient(server.port) as client, RawClient(server.port) as other:
        await lives(other)
        if not first:  # then its head is known, and all of it comes in one read
            await client.send(modern("server/discover"))
            assert (await client.receive("POST")).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(server.endpoint, "respond", _broken)
            await client.send(modern("server/discover"))
            with pytest.raises((Closed, ConnectionError)):
                await client.receive("POST")
        await lives(other)
        await still_serves(server.port)
    assert "a connection failed" in caplog.text
