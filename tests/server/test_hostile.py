# SPDX-License-Identifier: MIT
"""What a hostile or broken client does beyond bad input: each case by the bytes it sends, the exact outcome, whether
its connection lives, and a new client that is served within a second afterwards.

The cases are those of the catalogue of real failures that no other module has: `test_http11` and `test_connection`
have framing, `test_bad_input` messages, `test_streams` cuts and stopped readers.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from patience import cheap, heard
from rawclient import LIMIT, META, SSE_TYPE, Legacy, Modern, RawClient, Response, Stream, encode
from requests_support import CHUNKED, GET, HEAD_OF, REFUSED, SMUGGLED
from serving import LEGACY, UVLOOP, Held, call, head, is_closed, lives, modern, request, served, turns
from sse_support import connected

from mcp_h11 import Context, MCPServer
from mcp_h11.eras.modern import MAX_STREAM_ID
from mcp_h11.http.chunked import MAX_CHUNKS
from mcp_h11.http.messages import TINY_CHUNK
from mcp_h11.runtime.storage import MAX_CLIENT_SIZE, MAX_SUBSCRIBED_SIZE
from mcp_h11.server.intake import READ_SIZE

pytestmark = pytest.mark.anyio
SOON = 1.0  # seconds of our own time within which a new client is served, whatever happened before
NEW = "2026-07-28"
LEGACY_REVISIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]
CODECS = ["json", "orjson"]


def codec(name: str) -> Any:
    return None if name == "json" else pytest.importorskip(name)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged that an operator would have to look at."""
    return [record.getMessage() for record in heard(caplog) if record.levelno >= logging.WARNING]


async def newcomer_is_served(port: int) -> None:
    """G1: a new client initializes and lists within a second."""
    with cheap(SOON), anyio.fail_after(LIMIT):
        async with Legacy(port, LEGACY) as client:
            assert (await client.call("tools/list")).result["tools"]


@asynccontextmanager
async def guarded(handler: MCPServer | None = None, **options: Any) -> AsyncIterator[Any]:
    """A server that is as good as before at the end."""
    async with served(handler, **options) as server:
        yield server
        await newcomer_is_served(server.port)


def fields_of(session: Legacy) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}


# --- what is kept of a client ---------------------------------------------------------------------------------------


def handshake(size: int) -> dict[str, Any]:
    """An initialize whose clientInfo and capabilities have `size` bytes as JSON, with their brackets."""
    info = {"name": "x", "version": "1"}
    padding = size - len(encode([info, {}]))
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {**info, "name": "x" * (padding + 1)}}


@pytest.mark.parametrize("name", ["Accept", "Origin", "Connection", "Mcp_Protocol_Version", "Host"])
async def test_many_values_of_a_field_some_of_them_twice_harm_no_later_request(name: str) -> None:
    field = name.replace("_", "-").encode()
    async with guarded() as server:
        await lives_anew(server.port, "0")
        for number in range(80):
            line = b"%b: %d\r\n" % (field, number) if number else b""
            async with RawClient(server.port) as client:
                await client.send(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n" + line * (1 + number % 2) + b"\r\n")
                assert 400 <= (await client.receive("GET")).status < 500
        await lives_anew(server.port, "1")


async def lives_anew(port: int, agent: str) -> None:
    """A head that was never seen is answered."""
    async with RawClient(port) as client:
        await client.send(modern("server/discover", User_Agent=agent))
        assert (await client.receive("POST")).status == 200


async def test_what_a_client_says_of_itself_is_bounded() -> None:
    async with guarded() as server:
        for size, opened in ((MAX_CLIENT_SIZE, True), (MAX_CLIENT_SIZE + 1, False)):
            client = Legacy(server.port, LEGACY)
            answer = await client.call("initialize", handshake(size))
            assert ("mcp-session-id" in answer.headers) == opened
            assert opened or answer.error["code"] == -32602


class Resources(Held):
    def __init__(self) -> None:
        super().__init__()
        self.resource("test://{name}")(lambda name: name)


async def test_the_uris_of_a_subscriber_are_bounded_together() -> None:
    uri = "test://" + "x" * (MAX_SUBSCRIBED_SIZE - 16)
    rest = MAX_SUBSCRIBED_SIZE - len(uri)
    async with guarded(Resources()) as server, Legacy(server.port, LEGACY) as session:
        for more in (uri, "y" * rest):
            assert (await session.call("resources/subscribe", {"uri": more})).result == {}
        assert (await session.call("resources/subscribe", {"uri": "z"})).error["code"] == -32602
        assert (await session.call("resources/unsubscribe", {"uri": "y" * rest})).result == {}
        assert (await session.call("resources/subscribe", {"uri": "z"})).result == {}
        client = Modern(server.port)
        async with client.listen(resourceSubscriptions=[uri, "y" * rest]) as stream:
            assert len((await stream.next_message())["params"]["notifications"]["resourceSubscriptions"]) == 2
        too_much = {"notifications": {"resourceSubscriptions": [uri, "y" * rest, "z"]}}
        answer = await client.call("subscriptions/listen", too_much)
        assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_http_sse_sessions_of_one_address_are_bounded_and_a_place_is_free_again() -> None:
    async with guarded(legacy_sse=True, max_sessions_peer=1) as server:
        get = head("/sse", "GET", Accept=SSE_TYPE)
        for _ in range(2):
            async with RawClient(server.port) as first, RawClient(server.port) as second:
                await first.send(get)
                assert (await first.receive_stream("GET")).status == 200
                await second.send(get)
                answer = await second.receive("GET")
                assert (answer.status, answer.json()["error"]["code"]) == (503, -32603)
                assert answer.headers["retry-after"] == "1"
                await lives(second)
                first.abort()
                with anyio.fail_after(LIMIT):
                    while server.endpoint.legacy_sse.sessions:
                        await asyncio.sleep(0)


# --- headers of which something in front of us may have read the other one --------------------------------------------

TWICE = ["Mcp-Session-Id", "Last-Event-ID", "Authorization"]


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("equal", [True, False])
async def test_a_header_that_names_one_thing_and_comes_twice_is_400(name: str, equal: bool) -> None:
    async with guarded() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        usual = {**fields_of(session), "Mcp_Session_Id": None if name == "Mcp-Session-Id" else session.session}
        value = str(session.session)
        lines = f"{name}: {value}\r\n{name.lower()}: {value if equal else 'x'}\r\n"
        data = request(encode(session.request("ping")), **usual).replace(b"\r\n\r\n", f"\r\n{lines}\r\n".encode(), 1)
        await client.send(data)
        answer = await client.receive("POST")
        assert (answer.status, answer.json()["error"]["code"], "id" in answer.json()) == (400, -32600, False)
        await lives(client)


async def test_two_values_of_the_version_header_are_400_in_a_session() -> None:
    async with guarded() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        for second, status in ((LEGACY, 200), ("2025-03-26", 400), (NEW, 400)):
            data = request(encode(session.request("ping")), **fields_of(session))
            data = data.replace(b"\r\n\r\n", f"\r\nMCP-Protocol-Version: {second}\r\n\r\n".encode(), 1)
            await client.send(data)
            assert (await client.receive("POST")).status == status
            await lives(client)


# --- what cannot be sent ----------------------------------------------------------------------------------------------


class Odd(Held):
    """Returns what JSON has no form for, and what it hardly has one for."""

    def __init__(self) -> None:
        super().__init__()
        for tool in (self.nan, self.said, self.fails):
            self.add_tool(tool, name=tool.__name__)

    async def nan(self) -> dict[str, Any]:
        return {"content": [], "structuredContent": {"it": float("nan")}}

    async def said(self, ctx: Context, text: str) -> str:
        await ctx.info(text)
        return text

    async def fails(self, text: str) -> str:
        raise ValueError(text)


@pytest.mark.parametrize("json_name", CODECS)
@pytest.mark.parametrize("revision", [*LEGACY_REVISIONS, NEW])
async def test_a_result_with_nan_is_a_tool_error_that_names_the_member(revision: str, json_name: str) -> None:
    async with guarded(Odd(), json=codec(json_name)) as server:
        client: Any = Modern(server.port) if revision == NEW else Legacy(server.port, revision)
        if revision != NEW:
            await client.initialize()
        answer = await client.call("tools/call", call("nan"))
        assert answer.result["isError"] and "structuredContent" not in answer.result
        (text,) = [block["text"] for block in answer.result["content"]]
        assert "structuredContent.it is NaN" in text


# Texts that have broken writers, readers and framings.
TEXTS = {
    "a lone surrogate": "a\ud800b",
    "a low surrogate first": "\udc00\ud800",
    "a pair": "\U0001f600",
    "U+2028": "a\u2028b\u2029c\u0085d",
    "line ends": "a\r\nb\rc\nd\n\ndata: x\n\n",
    "NUL and controls": "\x00\x01\x1f\x7f",
    "a BOM": "\ufeffx",
    "no character": "\uffff\ufffe",
}


async def escaped(client: Any, method: str, params: dict[str, Any], **more: Any) -> Response:
    """The answer to a request in ASCII, which JSON has for texts that UTF-8 does not."""
    message = client.request(method, params, **more)
    async with RawClient(client.port) as connection:
        return await connection.request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())


@pytest.mark.parametrize("json_name", CODECS)
@pytest.mark.parametrize("era", [LEGACY, NEW])
async def test_every_text_comes_back_as_it_went_in_a_result_an_error_and_an_event(era: str, json_name: str) -> None:
    async with guarded(Odd(), json=codec(json_name)) as server, Legacy(server.port, LEGACY) as session:
        client: Any = Modern(server.port) if era == NEW else session
        level = {"meta": {f"{META}logLevel": "info"}} if era == NEW else {}
        for what, text in TEXTS.items():
            echoed = (await escaped(client, "tools/call", call("echo", text=text))).json()
            assert echoed["result"]["content"][0]["text"] == text, what
            failed = (await escaped(client, "tools/call", call("fails", text=text))).json()
            assert failed["result"]["isError"] and text in failed["result"]["content"][0]["text"], what
            said = await escaped(client, "tools/call", call("said", text=text), **level)
            assert said.content_type == SSE_TYPE, what
            notice, answer = said.messages()
            assert (notice["params"]["data"], answer["result"]["content"][0]["text"]) == (text, text), what
            none = (await escaped(client, "no/" + text, {})).json() if era == LEGACY else None
            assert none is None or none["error"]["code"] == -32601, what


class Talkative(Held):
    """Says much at once when it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.talk, name="talk")

    async def talk(self, ctx: Context) -> str:
        await ctx.info("first")
        await self._wait("talk")
        for n in range(20):
            await ctx.info(str(n))
        return "said"


@pytest.mark.parametrize("legacy_sse", [False, True], ids=["stream", "HTTP+SSE"])
async def test_much_that_is_said_to_a_peer_that_has_just_left_is_nothing_to_log(
    legacy_sse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Talkative()
    async with guarded(handler, legacy_sse=True) as server, Legacy(server.port, LEGACY) as session:
        if legacy_sse:
            async with connected(server.port) as peer:
                await peer.initialize("2024-11-05")
                await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("talk")})
                await handler.until(started=1)
                peer.stream.abort()
                handler.released.set()
                await turns()
        else:
            async with session.posting(session.request("tools/call", call("talk"))) as stream:
                await stream.next_event()
                await handler.until(started=1)
                stream.abort()
                handler.released.set()
                await turns()
    assert complaints(caplog) == []


# --- HTTP, on the path of a head never seen and on that of a repeated one --------------------------------------------


async def refused(client: RawClient, data: bytes, status: int, what: str) -> None:
    """One answer, the end of the connection, and nothing of what came behind."""
    try:
        await client.send(data)
    except ConnectionError:
        pass  # it was refused before all of it was sent
    answer = await client.receive("POST")
    assert (answer.status, answer.json()["error"]["code"]) == (status, -32600), what
    assert answer.headers["connection"] == "close" and "id" not in answer.json(), what
    await is_closed(client)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_where_h11_is_lax_the_socket_is_refused_and_nothing_behind_it_is_read(warm: bool) -> None:
    good = modern("server/discover")
    async with guarded() as server:
        for case, (status, data) in REFUSED.items():
            async with RawClient(server.port) as client:
                if warm:
                    for _ in range(2):
                        await lives(client)
                    data = good + data
                    await client.send(b"")
                if warm:
                    await client.send(data + SMUGGLED)
                    assert (await client.receive("POST")).status == 200, case
                    await refused(client, b"", status, case)
                else:
                    await refused(client, data + SMUGGLED, status, case)
            await newcomer_is_served(server.port)


MEGABYTE = 1024 * 1024
# What one read, or many, bring in bulk.
BULK: dict[str, tuple[int, bytes]] = {
    "a head of a megabyte": (431, HEAD_OF + b"A: " + b"x" * MEGABYTE + b"\r\n\r\n"),
    "a line of a megabyte": (414, b"GET /" + b"x" * MEGABYTE),
    "fields of a megabyte": (431, HEAD_OF + b"A: b\r\n" * (MEGABYTE // 6) + b"\r\n"),
    "101 fields": (431, GET[:-2] + b"A: b\r\n" * 100 + b"\r\n"),
    "an extension of a megabyte": (413, CHUNKED + b"1;" + b"x" * MEGABYTE + b"\r\nx\r\n0\r\n\r\n"),
    "trailers of a megabyte": (413, CHUNKED + b"0\r\n" + b"A: b\r\n" * (MEGABYTE // 6) + b"\r\n"),
    "a trailer of a megabyte": (413, CHUNKED + b"0\r\nA: " + b"x" * MEGABYTE + b"\r\n\r\n"),
    "a chunk size that is past the limit": (413, CHUNKED + b"fffffff\r\n" + b"x" * 5 * MEGABYTE),
    "a length past the limit": (413, HEAD_OF + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "an unknown body of 5 MiB": (413, HEAD_OF + b"Content-Length: 5242880\r\n\r\n" + b"x" * 5 * MEGABYTE),
}


async def test_bulk_is_refused_at_its_limit_however_it_comes() -> None:
    with_type = b"localhost\r\nContent-Type: application/json"
    async with guarded() as server:
        for case, (status, data) in BULK.items():
            for piece in (len(data), 100_000):
                async with RawClient(server.port) as client:
                    text = data.replace(b"localhost", with_type, 1)
                    # Read while it is sent: a slow machine may send for longer than the server goes on listening.
                    receiving = asyncio.ensure_future(client.receive("POST"))
                    try:
                        for at in range(0, len(text), piece):
                            await client.send(text[at : at + piece])
                    except ConnectionError:
                        pass  # it was refused on the way
                    answer = await receiving
                    assert (answer.status, answer.headers["connection"]) == (status, "close"), case
            await newcomer_is_served(server.port)


DISCOVER = modern("server/discover")
# What is unusual and clear: the connection lives.
CLEAR: dict[str, bytes] = {
    "an empty line first": b"\r\n" + DISCOVER,
    "two empty lines first": b"\r\n\r\n" + DISCOVER,
    "bare line feeds": DISCOVER.replace(b"\r\n", b"\n"),
    "names in capitals": DISCOVER.replace(b"Content-Type", b"CONTENT-TYPE").replace(b"Mcp-Method", b"MCP-METHOD"),
    "no blanks": DISCOVER.replace(b": ", b":", 6),
    "blanks": DISCOVER.replace(b": ", b": \t ", 6),
    "an absolute target": DISCOVER.replace(b"POST /mcp", b"POST http://localhost/mcp"),
    "a query": DISCOVER.replace(b"/mcp ", b"/mcp?a=b ", 1),
    "a trailing slash": DISCOVER.replace(b"/mcp ", b"/mcp/ ", 1),
    "an upgrade": modern("server/discover", Upgrade="h2c", Connection="Upgrade, HTTP2-Settings", HTTP2_Settings="AAMA"),
    "a charset": modern("server/discover", Content_Type="Application/JSON; charset=UTF-8"),
    "100 fields": DISCOVER.replace(b"\r\n", b"\r\n" + b"A: b\r\n" * (101 - DISCOVER.count(b"\r\n")), 1),
    "an unknown expectation": modern("server/discover", Expect="the-unexpected"),
}


async def test_what_is_unusual_and_clear_is_answered_and_the_connection_lives() -> None:
    async with guarded() as server:
        for case, data in CLEAR.items():
            async with RawClient(server.port) as client:
                for _ in range(3):  # the second and third time from memory
                    await client.send(data)
                    assert (await client.receive("POST")).status == 200, case
                await lives(client)


async def test_what_is_dropped_is_dropped_and_no_method_is_another() -> None:
    cases = [("CONNECT", "localhost:1", 405, True), ("CONNECT", "/mcp", 405, True), ("post", "/mcp", 405, False),
             ("TRACE", "/mcp", 405, False), ("GET", "/nowhere", 404, False), ("OPTIONS", "*", 404, False)]  # fmt: skip
    async with guarded() as server:
        for method, target, status, closes in cases:
            async with RawClient(server.port) as client:
                await client.send(head(target, method))
                answer = await client.receive(method)
                assert (answer.status, answer.headers.get("connection") == "close") == (status, closes), method
                if closes:
                    await is_closed(client)
                else:
                    await lives(client)
            await newcomer_is_served(server.port)


# --- what one client costs its neighbours -----------------------------------------------------------------------------


def distinct(count: int) -> bytes:
    return b"".join(modern("ping", id=n, X=str(n)) for n in range(count))


def chunks(count: int, size: int = TINY_CHUNK) -> bytes:
    """As many as are wanted of the smallest that may be sent without number, or smaller."""
    return head(Transfer_Encoding="chunked") + b"%x\r\n%b\r\n" % (size, b"[" * size) * count + b"0\r\n\r\n"


FLOODS = {
    "5,000 requests": lambda: modern("ping") * 5_000,
    "5,000 heads of which none is like another": lambda: distinct(5_000),
    "5,000 bodies that are no JSON": lambda: request(b"{") * 5_000,
    "a hundred thousand chunks of one byte": lambda: chunks(100_000, 1),
    "thirty thousand small chunks": lambda: chunks(30_000),
    "3,000 requests of a few chunks": lambda: chunks(10) * 3_000,
    "a body of arrays": lambda: request(b"[" + b"[],".join([b""] * 1_000_000) + b"[]]"),
    "a body of strings": lambda: request(b'{"a":' + b'["\\u2028\\ud800",' * 120 + b'"' + b"\\n" * 1_900_000 + b'"]}'),
    "a body of numbers": lambda: request(b"[" + b",".join([b"9" * 4_300] * 900) + b"]"),
    "a body of keys": lambda: request(b"{" + b",".join(b'"%d":0' % n for n in range(300_000)) + b"}"),
    "a batch of batches": lambda: request(b"[" + b",".join([b"[]"] * 100) + b"]") * 2_000,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.long
async def test_a_flood_does_not_keep_a_neighbour_waiting(flood: str) -> None:
    data, done = FLOODS[flood](), False
    async with (
        guarded(max_requests=None) as server,
        RawClient(server.port, limit=30) as flooder,
        RawClient(server.port) as neighbour,
    ):
        await lives(neighbour)

        async def pour() -> None:
            nonlocal done
            try:
                await flooder.send(data)
                await flooder.send_eof()
            except ConnectionError:
                pass

        async def drink() -> None:
            nonlocal done
            while await flooder.reader.read(1 << 20):
                pass
            done = True

        async with anyio.create_task_group() as group:
            group.start_soon(pour)
            group.start_soon(drink)
            while not done:
                with cheap(SOON):  # the server is of this process
                    await lives(neighbour)


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_of_very_many_chunks_so_many_are_decoded_in_one_turn_of_the_loop() -> None:
    """Which a neighbour waits for, whatever a read of 64 KiB has in it."""
    count = 100 * MAX_CHUNKS
    async with guarded() as server, RawClient(server.port) as client:
        await lives(client)
        connection = next(iter(server.connections))
        sending = asyncio.ensure_future(client.send(chunks(count)))
        seen, most, held = 0, 0, 0
        with anyio.fail_after(LIMIT):
            while seen < count - MAX_CHUNKS:
                await asyncio.sleep(0)
                http = connection._http
                seen, most = http.decoded, max(most, http.decoded - seen)
                held = max(held, http.buffered - http.body_received)
        # One for the turn itself, one where bytes and the turn come together.
        assert 0 < most <= 2 * MAX_CHUNKS
        assert 0 < held <= 2 * READ_SIZE  # and what is not decoded yet does not pile up
        await sending
        # More values than a message may have, which is found before it is parsed.
        answer = await client.receive("POST")
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)
        await lives(client)


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_many_requests_of_a_few_chunks_have_one_budget_of_a_turn() -> None:
    each, count = 10, 400
    async with guarded(max_requests=None) as server, RawClient(server.port) as client:
        await lives(client)
        connection = next(iter(server.connections))
        sending = asyncio.ensure_future(client.send(chunks(each) * count))
        answers = asyncio.ensure_future(all_of(client, count))
        seen, most = 0, 0
        with anyio.fail_after(LIMIT):
            while seen < count * each:
                await asyncio.sleep(0)
                now = connection._http.decoded
                seen, most = now, max(most, now - seen)
        # As above, and the last request of each goes on to its end.
        assert 0 < most <= 2 * (MAX_CHUNKS + each)
        await sending
        assert await answers == [400] * count
        await lives(client)


async def all_of(client: RawClient, count: int) -> list[int]:
    return [(await client.receive("POST")).status for _ in range(count)]


# --- ids --------------------------------------------------------------------------------------------------------------

# The id as JSON -> None where it comes back byte for byte, else the code of the refusal, which has none.
IDS: dict[str, int | None] = {
    "1": None,
    '"1"': None,
    "-1": None,
    "0": None,
    "9007199254740993": None,
    "-9223372036854775809": None,
    "18446744073709551616": None,
    "9" * 4_300: None,
    "-" + "9" * 4_300: None,
    "9" * 4_301: -32700,
    '""': None,
    '"null"': None,
    '"' + "x" * 100_000 + '"': None,
    '"\\ud800"': None,
    '"\\"quoted\\""': None,
    '"\u2028"': None,
    "1.5": -32600,
    "1.0": -32600,
    "1e2": -32600,
    "-0.0": -32600,
    "true": -32600,
    "false": -32600,
    "null": -32600,
    "{}": -32600,
    '{"id":1}': -32600,
    "[]": -32600,
    "[1]": -32600,
    "01": -32700,
    "+1": -32700,
    "0x1": -32700,
    "1_0": -32700,
    ".5": -32700,
    "NaN": -32700,
    "-Infinity": -32700,
    "1e999": -32700,
    "'1'": -32700,
    "": -32700,
}


@pytest.mark.parametrize("json_name", CODECS)
@pytest.mark.parametrize("era", [LEGACY, NEW])
async def test_an_id_comes_back_byte_for_byte_or_is_refused(era: str, json_name: str) -> None:
    async with guarded(json=codec(json_name)) as server, Legacy(server.port, LEGACY) as session:
        client: Any = Modern(server.port) if era == NEW else session
        message = client.request("tools/call", call("echo", text="x"), id="HERE")
        usual = {name.replace("-", "_"): value for name, value in client.headers_for(message).items()}
        async with RawClient(server.port) as connection:
            for id, code in IDS.items():
                await connection.send(request(encode(message).replace(b'"HERE"', id.encode()), **usual))
                answer = await connection.receive("POST")
                if code is None:
                    assert answer.status == 200 and answer.json()["result"], id[:50]
                    assert b'"id":%b,' % id.encode() in answer.body, id[:50]
                else:
                    assert (answer.status, answer.json()["error"]["code"]) == (400, code), id[:50]
                    assert "id" not in answer.json(), id[:50]
                await lives(connection)
            without = encode(message).replace(b'"id":"HERE",', b"")
            await connection.send(request(without, **usual))
            answer = await connection.receive("POST")
            assert (answer.status, answer.body) == (202, b"")
            await lives(connection)


class Turns(Held):
    """A call that takes so many turns of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.take, name="take")

    async def take(self, count: int) -> str:
        await turns(count)
        return "taken"


@pytest.mark.parametrize("accept", ["application/json", SSE_TYPE, None])
async def test_a_cancel_that_meets_its_answer_leaves_one_outcome(accept: str | None) -> None:
    outcomes = set()
    async with guarded(Turns()) as server, Legacy(server.port, LEGACY) as session:
        usual = {**fields_of(session), **({"Accept": accept} if accept else {})}
        for gap in range(0, 40, 2):
            message = session.request("tools/call", call("take", count=10), id="it")
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "it"}}
            async with RawClient(server.port) as one, RawClient(server.port) as two:
                await lives(one)
                await lives(two)
                await one.send(request(encode(message), **usual))
                await turns(gap)
                await two.send(request(encode(cancel), **fields_of(session)))
                assert (await two.receive("POST")).status == 202
                answer = await one.receive("POST")
                said = answer.messages()
                assert answer.status == 200 and len(said) <= 1, said
                if not said:
                    outcome = "none"
                    assert answer.content_type == SSE_TYPE
                else:
                    assert said[0]["id"] == "it"
                    outcome = "result" if "result" in said[0] else str(said[0]["error"]["code"])
                outcomes.add(outcome)
                assert outcome in ("result", "-32800" if accept == "application/json" else "none")
                await lives(one)
        assert len(outcomes) == 2 and "result" in outcomes
        assert not [one for one in server.runtime.tasks if not one.done()]


async def test_an_answer_to_a_question_counts_in_the_session_that_was_asked_alone() -> None:
    handler = Held()
    async with guarded(handler) as server, Legacy(server.port, LEGACY) as asked, Legacy(server.port, LEGACY) as other:
        client = Legacy(server.port, LEGACY)
        await client.initialize({"elicitation": {}})
        async with client.posting(client.request("tools/call", call("ask"), id=7)) as stream:
            question = await stream.next_message()
            answer = {"jsonrpc": "2.0", "id": question["id"]}
            stolen = {**answer, "result": {"action": "accept", "content": {"it": "stolen"}}}
            for peer in (asked, other):
                assert (await peer.post(stolen)).status == 202
            await turns()
            mine = {**answer, "result": {"action": "accept", "content": {"it": "mine"}}}
            assert (await client.post(mine)).status == 202
            last = await stream.next_message()
            assert last["id"] == 7 and "mine" in last["result"]["content"][0]["text"]
        for late in (mine, stolen, {**answer, "error": {"code": 1, "message": "no"}}):
            assert (await client.post(late)).status == 202
        assert (await client.delete()).status == 204


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_client_cannot_choose_a_session_id() -> None:
    async with guarded() as server:
        chosen = "chosen-by-the-client-chosen-by-the-client"
        client = Legacy(server.port, LEGACY)
        client.extra_headers = {"Mcp-Session-Id": chosen}
        await client.initialize(complete=False)
        assert client.session is not None and client.session != chosen
        client.extra_headers = {}
        assert (await client.call("ping")).result == {}
        client.session = chosen
        assert (await client.post(client.request("ping"))).status == 404
        assert chosen not in server.endpoint.legacy.sessions


async def test_session_ids_are_long_and_unlike_and_what_is_like_one_is_unknown() -> None:
    async with guarded() as server, Legacy(server.port, LEGACY) as session:
        ids = set()
        for _ in range(200):
            client = Legacy(server.port, LEGACY)
            await client.initialize(complete=False)
            ids.add(str(client.session))
        assert len(ids) == 200 and min(map(len, ids)) >= 22  # 128 bits in base 64
        assert len({one[:8] for one in ids}) == 200 and len({one[-8:] for one in ids}) == 200
        real = str(session.session)
        bodies = set()
        near = [real[:-1], real + "x", real.swapcase(), real[::-1], f'"{real}"', real + ",x", f"{real}%00", "x" * 43]
        for guess in near:
            async with RawClient(server.port) as connection:
                for method in ("POST", "GET", "DELETE"):
                    body = encode(session.request("ping", id=1)) if method == "POST" else b""
                    fields = {**session.headers_for(None), "Mcp-Session-Id": guess}
                    answer = await connection.request(method, "/mcp", fields, body)
                    assert (answer.status, answer.json()["error"]["code"]) == (404, -32001), guess
                    bodies.add(answer.body)
                await lives(connection)
        assert len(bodies) == 1
        assert (await session.call("ping")).result == {}


def named(head: Any) -> str | None:
    return head.get("x-user")


async def test_somebody_elses_session_is_as_unknown_as_one_that_never_was() -> None:
    async with served(authorize=named) as server:
        mine = Legacy(server.port, LEGACY)
        mine.extra_headers = {"X-User": "me"}
        await mine.initialize()
        async with mine.get_stream(), RawClient(server.port) as connection:
            for method, message, more in [
                ("POST", mine.request("ping", id=1), {}),
                ("POST", {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}, {}),
                ("POST", {"jsonrpc": "2.0", "id": "server-1", "result": {}}, {}),
                ("GET", None, {}),
                ("GET", None, {"Last-Event-ID": "x.1"}),
                ("DELETE", None, {}),
                ("POST", mine.request("initialize", handshake(100), id=1), {}),
            ]:
                seen = []
                for id in (mine.session, "x" * 43):
                    fields = {**mine.headers_for(None), "X-User": "you", "Mcp-Session-Id": id, **more}
                    body = b"" if message is None else encode(message)
                    answer = await connection.request(method, "/mcp", fields, body)
                    minted = answer.headers.pop("mcp-session-id", "")
                    assert minted not in (mine.session, id)
                    answer.headers.pop("date")
                    seen.append((answer.status, answer.headers, answer.body))
                assert seen[0] == seen[1], (method, message)
                assert seen[0][0] == (200 if message and message.get("method") == "initialize" else 404)
        assert (await mine.call("ping")).result == {}
        assert (await mine.delete()).status == 204


@pytest.mark.parametrize("tool", ["hold", "stream", "ask"])
async def test_a_session_that_is_deleted_ends_its_calls_and_their_exchanges(
    tool: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Held()
    async with guarded(handler) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({"elicitation": {}})
        fields, id = fields_of(session), session.session
        async with RawClient(server.port) as calling, RawClient(server.port) as listening, session.get_stream() as own:
            await calling.send(request(encode(session.request("tools/call", call(tool))), **fields))
            await handler.until(started=1)
            assert (await session.delete()).status == 204
            answer = await calling.receive("POST")
            assert not [one for one in answer.messages() if "result" in one]
            assert await own.next_message() is None
            await lives(calling)
            assert handler.cancelled == ([tool] if tool != "ask" else [])
            session.session = id
            for method in ("POST", "GET", "DELETE"):
                body = encode(session.request("ping")) if method == "POST" else b""
                assert (await listening.request(method, "/mcp", session.headers_for(None), body)).status == 404
        assert not [one for one in server.runtime.tasks if not one.done()]
    gc.collect()
    assert complaints(caplog) == []


async def test_a_second_initialize_changes_nothing_of_the_first() -> None:
    async with guarded() as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({"elicitation": {}})
        again = session.request("initialize", handshake(100))
        answer = await session.post(again)
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)
        assert "mcp-session-id" not in answer.headers
        async with session.posting(session.request("tools/call", call("ask"), id=7)) as stream:
            assert (await stream.next_message())["method"] == "elicitation/create"
        await session.delete()


# --- streams ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def each_kind(server: Any, session: Legacy) -> AsyncIterator[dict[str, Stream]]:
    """An open event stream of every kind that there is."""
    legacy_call = session.request("tools/call", call("stream"))
    modern_client = Modern(server.port)
    modern_call = modern_client.request("tools/call", call("stream"), meta={f"{META}logLevel": "info"})
    async with (
        session.get_stream() as standalone,
        session.posting(legacy_call) as of_call,
        modern_client.posting(modern_call) as of_modern,
        modern_client.listen(toolsListChanged=True) as listener,
        RawClient(server.port) as client,
    ):
        await client.send(head("/sse", "GET", Accept=SSE_TYPE))
        old = await client.receive_stream("GET")
        yield {"GET": standalone, "POST": of_call, "modern": of_modern, "listen": listener, "HTTP+SSE": old}


async def test_every_kind_of_stream_is_kept_alive() -> None:
    handler = Held()
    async with guarded(handler, legacy_sse=True, keep_alive=0.02) as server, Legacy(server.port, LEGACY) as session:
        async with each_kind(server, session) as streams:
            for kind, stream in streams.items():
                assert stream.status == 200 and stream.head.content_type == SSE_TYPE, kind
                assert stream.headers["cache-control"] and stream.headers["x-accel-buffering"] == "no", kind
                seen = b""
                while seen.count(b"\n:\n\n") + seen.startswith(b":\n\n") < 3:
                    chunk = await stream.next_bytes()
                    assert chunk is not None, kind
                    seen += chunk
            handler.released.set()


@pytest.mark.parametrize("response", ["auto", "json", "sse"])
@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_leaving_cancels_a_modern_call_and_no_legacy_one_in_every_answer_mode(response: str, leave: str) -> None:
    handler = Held()
    async with guarded(handler, response=response) as server, Legacy(server.port, LEGACY) as session:
        for n, client in enumerate((session, Modern(server.port))):
            async with RawClient(server.port) as connection:
                message = client.request("tools/call", call("hold", label=client.revision))  # type: ignore[attr-defined]
                fields = {k.replace("-", "_"): v for k, v in client.headers_for(message).items()}  # type: ignore
                await connection.send(request(encode(message), **fields))
                await handler.until(started=n + 1)
                if leave == "abort":
                    connection.abort()
        await handler.until(cancelled=1)
        assert handler.cancelled == [NEW]
        assert len([one for one in server.runtime.tasks if not one.done()]) == 1
        handler.released.set()


async def test_a_resumed_answer_ends_and_never_becomes_the_sessions_own_stream() -> None:
    handler = Held()
    async with guarded(handler) as server, Legacy(server.port, LEGACY) as session, session.get_stream() as own:
        assert (await own.next_event()).id  # type: ignore[union-attr]
        handler.released.set()
        async with session.posting(session.request("tools/call", call("stream"), id="it")) as stream:
            first = await stream.next_event()
            while await stream.next_event() is not None:
                pass
        assert first is not None
        for _ in range(3):  # a client that cannot know that it has everything
            async with session.get_stream(first.id, in_reply_to="tools/call") as rest:
                said = [one async for one in rest]
            assert [json.loads(one.data).get("id") for one in said if one.data][-1] == "it"
        server.runtime.handler.notify_tools_changed()
        assert (await own.next_message())["method"] == "notifications/tools/list_changed"


async def test_event_ids_of_others_and_of_neighbours_are_refused() -> None:
    handler = Held()
    handler.released.set()
    async with guarded(handler) as server, Legacy(server.port, LEGACY) as mine, Legacy(server.port, LEGACY) as other:
        events = {}
        for peer in (mine, other):
            async with peer.posting(peer.request("tools/call", call("stream"))) as stream:
                events[peer] = [event.id async for event in stream]
        stream_id, _, index = str(events[mine][-1]).rpartition(".")
        wrong = [str(events[other][0]), f"{stream_id}.{int(index) + 1}", f"{stream_id}.-1", f"{stream_id}.",
                 f"{stream_id}.1e1", f"{stream_id}.{'9' * 400}", f"{stream_id}", f".{index}", "1", "0", "..",
                 f"{stream_id[:-1]}.{index}", f"{stream_id.swapcase()}.{index}", f"{stream_id}.\xb2",
                 "x" * 5000]  # fmt: skip
        bodies = set()
        async with RawClient(server.port) as connection:
            for id in wrong:
                fields = {**mine.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": id}
                answer = await connection.request("GET", "/mcp", fields)
                assert (answer.status, answer.json()["error"]["code"]) == (400, -32600), id
                bodies.add(answer.body)
                await lives(connection)
        assert len(bodies) == 1
        async with mine.get_stream(str(events[mine][0]), in_reply_to="tools/call") as rest:
            assert [event.id async for event in rest if event.data] == events[mine][1:]


# --- a client that asks and does not read ----------------------------------------------------------------------------


class Counting(Held):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def big(self, size: int) -> str:
        self.calls += 1
        await self.may_answer.wait()
        return "x" * size


both_loops = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"], indirect=True
)


@pytest.fixture
def anyio_backend(request: Any) -> Any:
    return getattr(request, "param", ("asyncio", {}))


@pytest.mark.long
@both_loops
@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "half-closes"])
async def test_who_does_not_read_its_answers_is_given_no_more_of_them(ends: bool) -> None:
    handler, count, size = Counting(), 300, 100_000
    async with (
        guarded(handler, max_requests=None, write_timeout=None) as server,
        Legacy(server.port, LEGACY) as session,
    ):
        fields = fields_of(session)
        async with RawClient(server.port, limit=20) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for n in range(count):
                await client.send(
                    request(encode(session.request("tools/call", call("big", size=size), id=n)), **fields)
                )
            if ends:
                await client.send_eof()
            calls = 0
            while calls != handler.calls or not calls:
                calls = handler.calls
                for _ in range(20):
                    await newcomer_is_served(server.port)
            # What the sockets hold of it, and `write_high`; not thirty megabytes.
            assert calls * size < 16 * MEGABYTE
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            for n in range(count):
                answer = await client.receive("POST")
                assert answer.json()["id"] == n
            if ends:
                await is_closed(client)
            else:
                await lives(client)


@both_loops
async def test_who_half_closes_and_reads_its_last_answer_late_sees_the_end_of_the_connection() -> None:
    """Its end has come while the answer waits to be sent; then nothing else comes that makes the server look for it."""
    handler = Counting()
    async with (
        guarded(handler, write_timeout=None, idle_timeout=None) as server,
        Legacy(server.port, LEGACY) as session,
        RawClient(server.port) as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        handler.may_answer.clear()
        message = session.request("tools/call", call("big", size=20 * MEGABYTE))
        await client.send(request(encode(message), **fields_of(session)))
        await client.send_eof()
        with anyio.fail_after(LIMIT):
            while not any(one._http.eof for one in server.connections):
                await asyncio.sleep(0)
            handler.may_answer.set()
            while all(one.writable for one in server.connections):
                await asyncio.sleep(0)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await client.receive("POST")).status == 200
        await is_closed(client)


async def test_who_does_not_read_its_answers_is_dropped_in_the_end_and_is_no_slow_head() -> None:
    handler = Counting()
    async with guarded(handler, max_requests=None, write_timeout=0.3, head_timeout=0.05) as server:
        async with RawClient(server.port) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(modern("tools/call", call("big", size=100_000)) * 200)
            with anyio.fail_after(LIMIT):
                while server.connections:
                    await asyncio.sleep(0)
        assert 0 < handler.calls < 200


async def test_errors_for_a_stream_that_nobody_reads_do_not_pile_up() -> None:
    handler = Counting()
    async with guarded(handler, legacy_sse=True, write_timeout=None) as server, connected(server.port) as peer:
        await peer.initialize("2025-03-26")
        peer.stream._client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        bad = b"[" + b",".join([b'{"jsonrpc":"2.0","id":1}'] * 100) + b"]"
        answer = await peer.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("big", size=50)})
        statuses = []
        for n in range(400):
            big = {"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": call("big", size=100_000)}
            statuses.append((await peer.post(big)).status)
            if 503 in statuses:
                break
            answer = await peer.post(bad)
            if answer.status == 503:
                break
        assert (answer.status, answer.headers["retry-after"], answer.json()["error"]["code"]) == (503, "1", -32603)
        tasks = len(server.runtime.tasks)
        for _ in range(20):
            assert (await peer.post(bad)).status == 503
        assert len(server.runtime.tasks) <= tasks
        # What costs nothing is still heard.
        assert (await peer.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}})).status == 202
        peer.stream._client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await peer.next())["id"] == 1


# --- deadlines on a connection that was used -------------------------------------------------------------------------

SHORT = 0.05


@pytest.mark.parametrize(
    "begun",
    [b"P", b"POST /mcp HTTP/1.1\r\nHost: local",
     head(Content_Length="10") + b"{", head(Content_Length="9", Expect="100-continue"),
     head(Transfer_Encoding="chunked") + b"5\r\nhe", DISCOVER[:-1]],
)  # fmt: skip
async def test_a_request_that_stops_is_408_on_a_connection_that_was_used_as_on_a_new_one(begun: bytes) -> None:
    async with guarded(head_timeout=SHORT, body_timeout=SHORT) as server:
        for used in (0, 2):
            async with RawClient(server.port) as client:
                for _ in range(used):
                    await lives(client)
                await client.send(begun)
                answer = await client.receive("POST")
                assert (answer.status, answer.json()["error"]["code"]) == (408, -32600)
                assert answer.headers["connection"] == "close"
                await is_closed(client)


async def test_what_waits_behind_a_long_call_has_its_time_when_its_turn_comes() -> None:
    handler = Held()
    async with guarded(handler, head_timeout=SHORT, body_timeout=SHORT) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("hold")) + DISCOVER[:-1])
        await handler.until(started=1)
        async with RawClient(server.port) as other:
            await other.send(b"P")
            assert (await other.receive("POST")).status == 408  # so long it took
        handler.released.set()
        assert (await client.receive("POST")).status == 200
        await client.send(DISCOVER[-1:])
        assert (await client.receive("POST")).status == 200
        await lives(client)


# --- what is switched off, and what is matched ------------------------------------------------------------------------


async def test_without_replay_an_event_id_is_400_and_a_stream_has_none() -> None:
    handler = Held()
    handler.released.set()
    async with guarded(handler, replay=False) as server, Legacy(server.port, LEGACY) as session:
        async with session.posting(session.request("tools/call", call("stream"))) as stream:
            assert {event.id async for event in stream} == {None}
        async with RawClient(server.port) as client:
            for id in ("x.1", "1", "x" * 4_000):
                fields = {**session.headers_for(None), "Accept": SSE_TYPE, "Last-Event-ID": id}
                answer = await client.request("GET", "/mcp", fields)
                assert (answer.status, answer.json()["error"]["code"]) == (400, -32600)
                await lives(client)


async def test_a_uri_that_almost_matches_takes_no_time() -> None:
    handler = MCPServer("templates")
    for template in ("a://{x}/{y}/{z}/end", "a://{+path}/{name}.end", "a://{x}{?q*,r}", "a://{x}-{y}-{z}"):
        handler.resource(template)(_resource(template))
    async with served(handler) as server, RawClient(server.port) as client:
        for uri in (
            "a://" + "/" * 300_000,
            "a://" + "-" * 300_000,
            "a://x?" + "q=1&" * 100_000,
            "a://" + "a/" * 150_000,
        ):
            with cheap(SOON):
                await client.send(modern("resources/read", {"uri": uri}, Mcp_Name=None))
                assert (await client.receive("POST")).status == 400  # no Mcp-Name: it would not fit in a head
                session = Legacy(server.port, LEGACY)
                await session.initialize()
                answer = await session.call("resources/read", {"uri": uri})
                assert answer.message is not None
                await session.delete()


def _resource(template: str) -> Any:
    names = [name for name in ("path", "name", "x", "y", "z", "q", "r") if "{" + name in template.replace("+", "")]
    names += ["q", "r"] if "?q" in template else []
    space: dict[str, Any] = {}
    exec(f"def read({', '.join(f'{name}: str = str()' for name in dict.fromkeys(names))}): return 'x'", space)
    return space["read"]


# --- what waits for a client -----------------------------------------------------------------------------------------


async def test_calls_that_wait_for_their_clients_are_bounded_though_nobody_is_connected() -> None:
    handler = Held()
    async with guarded(handler, max_waiting=2, max_running=1, max_running_session=1) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({"elicitation": {}})
        for n in range(2):  # asked, and left alone
            async with RawClient(server.port) as client:
                await client.send(request(encode(session.request("tools/call", call("ask"))), **fields_of(session)))
                await handler.until(started=n + 1)
                assert (await client.receive_stream("POST")).status == 200
        refused = await session.call("tools/call", call("ask"))
        assert refused.error["code"] == -32603
        # Who asks nobody is served all the same.
        assert (await session.call("tools/call", call("echo", text="x"))).result["content"][0]["text"] == "x"
        assert (await session.delete()).status == 204
        again = Legacy(server.port, LEGACY)
        await again.initialize({"elicitation": {}})
        async with again.posting(again.request("tools/call", call("ask"))) as stream:
            assert (await stream.next_message())["method"] == "elicitation/create"
        await again.delete()


@pytest.mark.parametrize(("size", "status"), [(MAX_STREAM_ID, 200), (MAX_STREAM_ID + 1, 400)])
async def test_the_id_of_a_stream_that_stays_open_is_bounded(size: int, status: int) -> None:
    async with guarded(Resources()) as server:
        client = Modern(server.port)
        for id in ("x" * size, int("9" * size)):
            async with client.listen(id=id, resourcesListChanged=True) as stream:
                assert stream.status == status
                message = await stream.next_message() if status == 200 else (await stream.read()).json()
                if status == 400:
                    assert (message["error"]["code"], message["id"]) == (-32602, id)
