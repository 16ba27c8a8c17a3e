# SPDX-License-Identifier: MIT
"""A large answer in an event stream: the bytes on the wire are those of a small one, and its payload is not copied."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import tracemalloc
from typing import Any

import anyio
import pytest
from certificates import both_ends
from fuzzing import FakeTransport
from rawclient import LIMIT, SSE_TYPE, Legacy, Modern, RawClient, Response, encode
from serving import ASYNCIO, LEGACY, UVLOOP, call, request, served, still_serves, turns
from sse_support import connected as channel

from mcp_h11 import Context, MCPServer
from mcp_h11.endpoint import legacy_sse, modern, streams
from mcp_h11.http.sse import LARGE_PAYLOAD
from mcp_h11.server.connection import Connection
from mcp_h11.server.writing import APART

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
TEXT = "x" * (4 * MIB)
WRITERS = modern, streams, legacy_sse
FORMS: dict[str, dict[str, Any]] = {"modern": {}, "session": {"replay": False}, "resumable session": {}}


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return both_ends("127.0.0.1", "localhost")


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the payloads that were written in parts."""
    sizes: list[int] = []
    written = modern.event_parts

    def noted(data: bytes, *fields: Any, **more: Any) -> Any:
        sizes.append(len(data))
        return written(data, *fields, **more)

    for module in WRITERS:
        monkeypatch.setattr(module, "event_parts", noted)
    return sizes


def texts() -> MCPServer:
    handler = MCPServer("texts")

    @handler.tool(structured_output=False)
    async def text(size: int) -> str:
        return TEXT[:size]

    @handler.tool(structured_output=False)
    async def thrice(size: int, ctx: Context) -> str:
        await ctx.info(TEXT[:size])
        await ctx.info(TEXT[:size])
        return TEXT[:size]

    @handler.tool(structured_output=False)
    async def mixed(sizes: list[int], ctx: Context) -> str:
        for size in sizes:
            await ctx.info(TEXT[:size])
        return "end"

    return handler


def fields_of(client: Legacy | Modern, message: Any) -> dict[str, str | None]:
    return {name.replace("-", "_"): value for name, value in client.headers_for(message).items()}


def asked(client: Legacy | Modern, tool: str, size: int, **fields: str) -> bytes:
    """A whole request of a client that reads events alone."""
    message = client.request("tools/call", call(tool, size=size), id="asked")
    if isinstance(client, Modern):
        message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = "info"
    return request(encode(message), **{**fields_of(client, message), "Accept": SSE_TYPE, **fields})


async def said(port: int, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """All bytes of the answer, without what is new in each."""
    async with RawClient(port, ssl=context) as client:
        await client.send(data)
        found = await client.receive_eof()
    found = re.sub(rb"(?i)\r\ndate: [^\r]*", b"", found)
    return re.sub(rb"\nid: [^.\n]+\.", b"\nid: stream.", found)


async def exactly_as_small(
    monkeypatch: pytest.MonkeyPatch, port: int, data: bytes, context: ssl.SSLContext | None = None
) -> bytes:
    """The bytes of the answer, which are those of a server that writes no event in parts."""
    found = await said(port, data, context)
    with monkeypatch.context() as patch:
        for module in WRITERS:
            patch.setattr(module, "LARGE_PAYLOAD", 1 << 40)
        assert found == await said(port, data, context)
    return found


def overhead(found: bytes) -> int:
    """How much longer a payload is than its text, which has a single `x`."""
    payload = found[found.rindex(b"\ndata: ") + len(b"\ndata: ") : found.rindex(b"\n\n")]
    return len(payload) - 1


@pytest.mark.parametrize("form", FORMS)
async def test_the_bytes_are_the_same_at_each_size(
    form: str, monkeypatch: pytest.MonkeyPatch, in_parts: list[int]
) -> None:
    async with served(texts(), **FORMS[form]) as server, Legacy(server.port, LEGACY) as session:
        client = Modern(server.port) if form == "modern" else session
        more = overhead(await said(server.port, asked(client, "text", 1, Connection="close")))
        for size in (LARGE_PAYLOAD - 1, LARGE_PAYLOAD, APART, APART + 1, 4 * MIB - 200):
            in_parts.clear()
            data = asked(client, "text", size - more, Connection="close")
            assert TEXT[: size - more].encode() in await exactly_as_small(monkeypatch, server.port, data)
            assert in_parts == ([size] if size >= LARGE_PAYLOAD else [])
        in_parts.clear()
        found = await exactly_as_small(monkeypatch, server.port, asked(client, "thrice", MIB, Connection="close"))
        assert found.count(TEXT[:MIB].encode()) == 3 and len(in_parts) == 3
        assert found.endswith(b"\n\n\r\n0\r\n\r\n")


async def test_the_bytes_are_the_same_over_tls_and_to_http_1_0(
    monkeypatch: pytest.MonkeyPatch, in_parts: list[int], tls: Any
) -> None:
    async with served(texts(), ssl=tls[0]) as server:
        data = asked(Modern(server.port), "thrice", MIB, Connection="close")
        await exactly_as_small(monkeypatch, server.port, data, tls[1])
        old = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
        found = await exactly_as_small(monkeypatch, server.port, old, tls[1])
        assert found.endswith(b"}\n\n") and len(in_parts) == 6


async def test_the_connection_goes_on_behind_a_large_event(in_parts: list[int]) -> None:
    async with served(texts()) as server, RawClient(server.port) as client:
        for tool in ("text", "thrice", "text"):
            await client.send(asked(Modern(server.port), tool, MIB))
            answer = await client.receive("POST")
            assert answer.messages()[-1]["result"]["content"][0]["text"] == TEXT[:MIB]
        assert len(in_parts) == 5


async def test_the_stream_of_http_and_sse_has_large_events(in_parts: list[int]) -> None:
    async with served(texts(), legacy_sse=True) as server, channel(server.port) as peer:
        await peer.initialize("2024-11-05")
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("text", size=MIB)}
        assert (await peer.ask(message))["result"]["content"][0]["text"] == TEXT[:MIB]
        assert len(in_parts) == 1


@pytest.mark.parametrize("form", ["session", "resumable session"])
async def test_a_large_notice_is_sent_again_once_it_was_read(form: str, in_parts: list[int]) -> None:
    params = {"level": "info", "data": TEXT[:LARGE_PAYLOAD]}
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
    async with served(texts(), **FORMS[form]) as server, Legacy(server.port, LEGACY) as client:
        (session,) = server.endpoint.legacy.sessions.values()
        async with client.get_stream() as stream:
            for _ in range(2):
                session.announce(encode(message))
                session.announce(encode(message))  # it waits already
                assert await stream.next_message() == message
            session.announce(encode({**message, "method": "notifications/end"}))
            assert (await stream.next_message())["method"] == "notifications/end"
    assert len(in_parts) == 3


async def test_the_access_log_has_the_status_of_a_large_event(
    caplog: pytest.LogCaptureFixture, in_parts: list[int]
) -> None:
    caplog.set_level(logging.INFO, "mcp_h11.connection.access")
    async with served(texts(), access_log=True) as server, RawClient(server.port) as client:
        for tool in ("text", "thrice"):
            await client.send(asked(Modern(server.port), tool, LARGE_PAYLOAD))
            await client.receive("POST")
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("access")]
    assert len(in_parts) == 4
    assert [line.partition('"POST /mcp" ')[2][:4] for line in lines] == ["200 ", "200 "]


async def filled(server: Any, client: RawClient) -> Any:
    """The connection of a client that stops reading, with more to write than the system takes."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(6):  # requests of one connection; of its answers the system takes some megabytes
        await client.send(asked(Modern(server.port), "text", 4 * MIB))
    (one,) = server.connections
    with anyio.fail_after(LIMIT):
        while one.writable:
            await turns(1)
    return one


async def test_a_slow_reader_gets_every_byte_and_holds_back_the_next_answer(in_parts: list[int]) -> None:
    async with served(texts()) as server, RawClient(server.port) as client:
        one = await filled(server, client)
        unsent = one._transport.get_write_buffer_size()
        assert server.settings.write_high < unsent <= one.written
        waiting = len(in_parts)
        await turns()
        assert len(in_parts) == waiting  # no further answer is made before the client has read
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answers: list[Response] = [await client.receive("POST") for _ in range(6)]
        assert all(answer.messages()[-1]["result"]["content"][0]["text"] == TEXT for answer in answers)


async def test_a_client_that_leaves_within_a_large_event_takes_nothing_with_it() -> None:
    async with served(texts()) as server:
        async with RawClient(server.port) as client:
            one = await filled(server, client)
            client.abort()
            with anyio.fail_after(LIMIT):
                while one in server.connections:
                    await turns(1)
        await still_serves(server.port)


# --- how often it is in memory -------------------------------------------------------------------------------------


class Counting(FakeTransport):
    """A transport that keeps the ends of what it is given, and counts the rest."""

    size = 0

    def write(self, data: Any) -> None:
        self.size += len(data)
        self.written = bytearray(data[-1000:])


async def traced(server: Any, connection: Connection, transport: Counting, data: bytes) -> tuple[int, int]:
    """Bytes of memory that one answer took at its most, and that are left of it."""
    connection.data_received(data)  # once before, for what is made once
    await ended(transport)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        connection.data_received(data)
        await ended(transport)
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert transport.size > 2 * len(TEXT)
    return most - before, left - before


async def ended(transport: Counting) -> None:
    with anyio.fail_after(LIMIT):
        while not transport.written.endswith(b"0\r\n\r\n"):
            await turns(1)
    transport.written.clear()


@pytest.mark.parametrize("form", FORMS)
async def test_a_large_answer_is_in_memory_as_text_and_as_bytes_and_not_once_more(form: str) -> None:
    async with served(texts(), **FORMS[form]) as server, Legacy(server.port, LEGACY) as session:
        client = Modern(server.port) if form == "modern" else session
        connection = Connection(server)
        transport = Counting(connection)
        connection.connection_made(transport)
        most, left = await traced(server, connection, transport, asked(client, "text", len(TEXT)))
        connection.close()
        await turns()
    # The encoder's text and its bytes.  The log of a resumable session keeps the bytes themselves.
    assert most < 2.2 * len(TEXT)
    assert left < (1.1 if form == "resumable session" else 0.1) * len(TEXT)


async def test_events_of_all_sizes_are_sent_again_in_their_order(in_parts: list[int]) -> None:
    sizes = [1, 20_000, 30_000, 31_000, LARGE_PAYLOAD, 2, 3, 2 * LARGE_PAYLOAD, LARGE_PAYLOAD, *[900] * 100]
    async with served(texts()) as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        message = session.request("tools/call", call("mixed", sizes=sizes), id="asked")
        await client.send(request(encode(message), **{**fields_of(session, message), "Accept": SSE_TYPE}))
        events = (await client.receive("POST")).events()
        assert len(events) == len(sizes) + 2  # the priming event and the answer
        for begun in (0, 1, 4, 5, 8, len(sizes)):
            in_parts.clear()
            async with session.get_stream(events[begun].id, in_reply_to="tools/call") as stream:
                again = [event async for event in stream]
            assert [(event.id, event.data) for event in again if event.data] == [
                (event.id, event.data) for event in events[begun + 1 :]
            ]
            assert len(in_parts) == sum(size >= LARGE_PAYLOAD for size in sizes[begun:])


async def test_a_large_event_that_is_sent_again_is_not_copied(in_parts: list[int]) -> None:
    async with served(texts()) as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        await client.send(asked(session, "text", len(TEXT)))
        begun = (await client.receive("POST")).events()[0].id
        fields = {**session.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": begun, "Content-Type": None}
        connection = Connection(server)
        transport = Counting(connection)
        connection.connection_made(transport)
        in_parts.clear()
        most, left = await traced(server, connection, transport, client.head("GET", "/mcp", fields))
        connection.close()
        await turns()
    assert len(in_parts) == 2
    assert most < 0.1 * len(TEXT) and left < 0.1 * len(TEXT)
