# SPDX-License-Identifier: MIT
"""Input that somebody changed, and what may come of it: accepted, or refused with a documented error; nothing else.

Each target takes a `random.Random` and raises AssertionError where anything but that happens.  `tests/test_fuzz.py`
lets hypothesis choose, for a moment; `bench/soak.py --fuzz` chooses at random, for as long as it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from headlines_support import FormReader
from rawclient import EventParser, Legacy, Modern, encode

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.bench.heads import Traffic
from mcp_h11.http import headers as http_headers
from mcp_h11.http import origins as http_origins
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import HTTPError, HTTPRequest, Limits, Signal
from mcp_h11.http.server import ServerConnection
from mcp_h11.http.sse import Event, EventDecoder, SSEError, encode_event
from mcp_h11.protocol.errors import HeaderMismatch, InvalidRequest, ParseError
from mcp_h11.protocol.jsonrpc import JSON, ErrorResponse, Notification, Request, Response
from mcp_h11.protocol.lines import LineDecoder, LineTooLong
from mcp_h11.server.connection import Connection

REFUSALS = {400, 413, 414, 431, 501, 505}
STATUSES = REFUSALS | {200, 202, 204, 403, 404, 405, 406, 408, 415, 503}
CODES = {-32700, -32600, -32601, -32602, -32603, -32000, -32001, -32002, -32020, -32021, -32022, -32800}
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\\", b"{", b"}", b"[",
    b"]", b"0", b"1", b"-1", b"9" * 30, b"1e999", b"NaN", b"null", b"true", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\\ud800", b"\\u0000", b"\\u0069d", b"\xe2\x80\xa8", b'"id"', b'"method"', b'"jsonrpc":"2.0"', b'"params":{}',
    b'"_meta"', b"HTTP/1.1", b"HTTP/1.0", b"GET ", b"POST ", b"DELETE ", b"/mcp", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Host: localhost\r\n",
    b"Mcp-Session-Id: x\r\n", b"Last-Event-ID: x.1\r\n", b"Upgrade: h2c\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"data:",
    b"id:", b"event:", b"retry:", b": ", b"=?base64?", b"?=", b"*/*", b";q=0", b"text/event-stream",
    b"[" * 130, b'{"a":' * 130,
]  # fmt: skip
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "f"}}


def changed(random: Random, data: bytes, most: int = 4) -> bytes:
    """`data` with up to so many places replaced, removed, repeated or filled in."""
    for _ in range(random.randint(0, most)):
        at = random.randint(0, len(data))
        to = min(len(data), at + random.choice((0, 1, 2, 5, 20)))
        new = random.choice((b"", random.choice(TOKENS), bytes([random.randint(0, 255)]), data[at:to] * 2))
        data = data[:at] + new + data[to:]
    return data


def cut(random: Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces."""
    way = random.randint(0, 3)
    if way == 0:
        return [data]
    if way == 1 and len(data) < 600:
        return [data[n : n + 1] for n in range(len(data))]
    places = sorted({0, len(data), *(random.randint(0, len(data)) for _ in range(random.randint(1, 4)))})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


# --- what well-behaved clients send ----------------------------------------------------------------------------------


def message(random: Random, client: Any) -> dict[str, Any]:
    """Anything that a client says, in the words of its era."""
    kind = random.randint(0, 12)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("tools/list", {}),
        ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
        ("tools/call", {"name": "talk", "arguments": {}, "_meta": {"progressToken": 1}}),
        ("tools/call", {"name": "ask", "arguments": {}}),
        ("resources/read", {"uri": "test://x"}),
        ("resources/subscribe", {"uri": "test://x"}),
        ("prompts/get", {"name": "greet", "arguments": {"who": "x"}}),
        ("logging/setLevel", {"level": "debug"}),
        ("ping", {}),
        ("server/discover", {}),
        ("subscriptions/listen", {"notifications": {"toolsListChanged": True}}),
        ("initialize", INITIALIZE),
    ]
    if kind < len(calls):
        method, params = calls[kind]
        said: dict[str, Any] = client.request(method, params)
        return said
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}


def post(random: Random, session: str | None) -> bytes:
    """One request of either era, as a client sends it."""
    modern = random.random() < 0.5
    client: Any = Modern(0) if modern else Legacy(0, "2025-11-25")
    if not modern:
        client.session, client.initialized = session, {"x": 1}
    said = message(random, client)
    body = encode([said] if random.random() < 0.05 else said)
    fields = {"Host": "localhost", **client.headers_for(said)}
    method = "POST"
    if random.random() < 0.15:
        method, body = random.choice(("GET", "DELETE", "OPTIONS")), b""
    if random.random() < 0.2:
        fields["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif method == "POST":
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_text(random: Random) -> bytes:
    """A message, or something like one."""
    client: Any = Modern(0) if random.random() < 0.5 else Legacy(0, "2025-11-25")
    said: Any = message(random, client)
    if random.random() < 0.2:
        said = [said, {"jsonrpc": "2.0", "id": "server-1", "result": {}}]
    return json.dumps(said, ensure_ascii=random.random() < 0.5).encode()


# --- the codecs -------------------------------------------------------------------------------------------------------


def http11(random: Random) -> str:
    """A stream of requests: whole requests, or HTTPError with a status that is documented, and an answer to it."""
    limits = Limits(max_body=5_000, max_head=2_000, max_request_line=300, max_fields=30, max_chunk_overhead=200)
    cache = HeadCache(max_heads=4)
    stream = b"".join(post(random, "s") for _ in range(random.randint(1, 3)))
    outcomes = []
    for _ in range(2):  # cold, then with what was remembered
        outcome = "read"
        connection = ServerConnection(cache, limits)
        try:
            for piece in [*cut(random, changed(random, stream) if not outcomes else stream), b""]:
                connection.receive_data(piece)
                while not isinstance(event := connection.next_event(), Signal):
                    if isinstance(event, HTTPRequest):
                        assert len(event.body) <= 5_000
                        written = connection.respond(200, (), b"x")
                        assert written.startswith(b"HTTP/1.1 200 ")
                        connection.response_done()
        except HTTPError as error:
            assert error.status in REFUSALS, error.status
            assert connection.respond(error.status, (), b"x").startswith(b"HTTP/1.1 %d " % error.status)
            connection.response_done()
            assert connection.closing
            outcome = str(error.status)
        outcomes.append(outcome)
    return outcomes[0]


FRAMING = [
    b"Host: localhost", b"host: b", b"Content-Length: 2", b"content-length:0", b"Content-Length: 2, 2",
    b"Connection: x", b"Connection: close", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: h2c",
    b"X: \xe9", b" fold",
]  # fmt: skip


def heads(random: Random) -> str:
    """Heads as proxies send them, one after the other and changed: lines and forms give what h11 gives, or nothing."""
    traffic, reader, found = Traffic(random.getrandbits(32), host="localhost", clients=2), FormReader(), "h11"
    if random.random() < 0.05:  # one client sends many values of a name, some of them twice: what is kept goes
        name = random.choice((b"Host", b"Connection", b"Accept"))
        for number in range(random.randint(30, 80)):
            values = [b"%b: %d" % (name, number)] * random.choice((1, 1, 2))
            reader.agrees(b"\r\n".join((b"POST /mcp HTTP/1.1", b"Host: localhost", *values, b"", b"")))
    for _ in range(random.randint(1, 4)):
        fields = {"Mcp-Session-Id": f"{random.getrandbits(64):x}"}
        lines = traffic.head(random.choice((None, 2, random.randrange(10**9))), fields).split(b"\r\n")
        for _ in range(random.choice((0, 0, 1, 3))):
            lines.insert(random.randint(0, len(lines) - 2), random.choice((*FRAMING, random.choice(lines))))
        if random.random() < 0.1:
            random.shuffle(lines)
        raw = b"\r\n".join(lines)
        for _ in range(5):  # learnt, then with a shape, then with a form, which what follows may have too
            reader.agrees(raw)
        for _ in range(5):
            found = reader.agrees(changed(random, raw, 2))
    return found


CODECS: list[JSON] = [JSON()]
with contextlib.suppress(ImportError):
    import orjson

    CODECS.append(JSON(orjson))


def jsonrpc(random: Random) -> str:
    """A body: a message, ParseError or InvalidRequest, the same with every codec; what is read can be written."""
    body = changed(random, json_text(random))
    verdicts = []
    for codec in CODECS:
        try:
            said = codec.decode(body)
        except ParseError:
            verdicts.append("parse error")
            continue
        except InvalidRequest as error:
            assert error.request_id is None or type(error.request_id) in (int, str)
            codec.error(error.request_id, error)
            verdicts.append(f"invalid {error.request_id!r}")
            continue
        for one in said if isinstance(said, list) else [said]:
            assert isinstance(one, (Request, Notification, Response, ErrorResponse, InvalidRequest))
            if isinstance(one, Request):
                assert type(one.id) in (int, str) and type(one.method) is str and type(one.params) is dict
                written = codec.result(one.id, one.params)
                again = codec.decode(written)
                assert isinstance(again, Response) and again.id == one.id and b"\n" not in written
        verdicts.append(repr(type(said)))
    assert len(set(verdicts)) == 1, (body, verdicts)
    return verdicts[0].partition(" ")[0]


def lines(random: Random) -> str:
    """Newline framing: each line once, or a marker in the place of one that is too long; the same whatever the cut."""
    data = changed(random, b"\n".join(json_text(random) for _ in range(3)) + b"\n")
    results = []
    for pieces in ([data], cut(random, data)):
        decoder = LineDecoder(max_line=300)
        found = [line for piece in pieces for line in decoder.feed(piece)]
        results.append([type(line) if isinstance(line, LineTooLong) else line for line in found])
        assert all(isinstance(line, (bytes, LineTooLong)) for line in found)
    assert results[0] == results[1], data
    return str(len(results[0]))


def sse(random: Random) -> str:
    """An event stream: events, or SSEError past the limit; the same whatever the cut."""
    data = b"".join(encode_event(json_text(random), id=f"s.{n}", event="message", retry=n) for n in range(3))
    data = changed(random, data, 8)
    results: list[Any] = []
    for pieces in ([data], cut(random, data)):
        decoder = EventDecoder(max_event_size=400)
        found: list[Event | str] = []
        try:
            # One more read: what came before an event that is too large is given first, then the error.
            for piece in [*pieces, b"\n\n"]:
                found += decoder.feed(piece)
        except SSEError:
            found.append("too large")
        results.append((found[-1:] == ["too large"], len(found) if found[-1:] != ["too large"] else 0))
    assert results[0] == results[1], data
    return str(results[0][1])


HOSTS = http_origins.HostPolicy(["localhost", "a.example:8443", "[::1]:*"], ["https://a.example"])
VALUES = [
    "application/json, text/event-stream;q=0.5", "*/*", "application/json; charset=utf-8", "localhost:8000",
    "[::1]:80", "https://a.example:443", "=?base64?w6k=?=", "tools/call", "2026-07-28", "1.5e3", "true", "null",
]  # fmt: skip


def headers(random: Random) -> str:
    """Header values: a verdict, or HeaderMismatch; an input schema: a map, or ValueError with a reason."""
    text = changed(random, random.choice(VALUES).encode()).decode("latin-1")
    http_headers.parse_accept(text)
    assert http_headers.is_json(text) in (True, False)
    assert HOSTS.check_host(text) in (True, False) and HOSTS.check_origin(text) in (True, False)
    if HOSTS.check_origin(text):
        for _, value in (*http_origins.cors_exposed(text), *http_origins.cors_headers(text, text)):
            assert "\r" not in value and "\n" not in value
    outcome = "mismatch"
    schema = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": text}}}
    with contextlib.suppress(ValueError):
        http_headers.header_map(schema)
    value = random.choice((1, 1.5, "x", True, None))
    checks: list[Callable[[], Any]] = [
        lambda: http_headers.decode_value(text),
        lambda: http_headers.check_version_header([text], "2026-07-28"),
        lambda: http_headers.check_method_header([text], "tools/call"),
        lambda: http_headers.check_name_header([text], "tools/call", {"name": "\u00e9"}),
        lambda: http_headers.check_param_headers(lambda name: [text], {("a",): "A"}, {"a": value}),
    ]
    for check in checks:
        with contextlib.suppress(HeaderMismatch):
            check()
            outcome = "taken"
    plain = text.replace("\r", "").replace("\n", "")
    assert http_headers.decode_value(http_headers.encode_value(plain)) == plain
    return outcome


CODEC_TARGETS: dict[str, Callable[[Random], str]] = {
    "heads": heads, "http11": http11, "jsonrpc": jsonrpc, "lines": lines, "sse": sse, "headers": headers,
}  # fmt: skip


# --- whole connections ------------------------------------------------------------------------------------------------


class FakeTransport:
    """A socket whose peer takes everything; what was written is kept."""

    def __init__(self, connection: Connection) -> None:
        self.loop = asyncio.get_running_loop()
        self.connection = connection
        self.written = bytearray()
        self.closed = self.reading = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.connection.connection_lost, None)

    abort = close


class Dialogues:
    """A running server, and connections to it that are made of nothing but callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        self.loop = loop
        self.failures: list[str] = []
        loop.set_exception_handler(lambda loop, context: self.failures.append(repr(context)))
        self._serving = listening(_fixture(), port=0, ask_timeout=0.05, max_sessions=50, **options)
        self.server = loop.run_until_complete(self._serving.__aenter__())
        self._log = _Log(self.failures)
        logging.getLogger().addHandler(self._log)

    def close(self) -> None:
        logging.getLogger().removeHandler(self._log)
        self.loop.run_until_complete(self._serving.__aexit__(None, None, None))

    def run(self, random: Random) -> str:
        """One connection: every answer is HTTP with a documented status and code, and nothing is left of it."""
        return self.loop.run_until_complete(self._run(random))

    async def _run(self, random: Random) -> str:
        sessions = list(self.server.endpoint.legacy.sessions)
        if not sessions or random.random() < 0.02:
            written, _ = await self._talk([self._handshake()])
            sessions = [written.partition(b"mcp-session-id: ")[2].partition(b"\r\n")[0].decode()]
            sessions = sessions if sessions[0] else list(self.server.endpoint.legacy.sessions)
        stream = b"".join(post(random, sessions[0]) for _ in range(random.randint(1, 4)))
        if random.random() < 0.05:
            stream = random.randbytes(random.randint(0, 300))
        pieces = cut(random, changed(random, stream))
        written, lost = await self._talk(pieces)
        assert not self.failures, (self.failures, pieces)
        assert lost, pieces
        return answers(written)

    def _handshake(self) -> bytes:
        client = Legacy(0, "2025-11-25")
        body = encode(client.request("initialize", INITIALIZE))
        fields = {"Host": "localhost", "Content-Length": str(len(body)), **client.headers_for(None)}
        return "\r\n".join(["POST /mcp HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode() + body

    async def _talk(self, pieces: list[bytes]) -> tuple[bytes, bool]:
        connection = Connection(self.server)
        transport = FakeTransport(connection)
        connection.connection_made(transport)
        for piece in pieces:
            if transport.closed:
                break
            if piece:
                connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(8):
            await asyncio.sleep(0)
        if not transport.closed and not connection.eof_received():
            transport.close()
        for _ in range(8):
            await asyncio.sleep(0)
        transport.close()  # whatever still runs: its peer is gone
        for _ in range(4):
            await asyncio.sleep(0)
        return bytes(transport.written), connection not in self.server.connections


class _Log(logging.Handler):
    """What is logged at ERROR fails the run; tools that fail on purpose are not in it."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self.failures.append(f"{record.getMessage()} {record.exc_info}")


def _fixture() -> MCPServer:
    server = MCPServer("fuzzed", version="1")

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def talk(ctx: Context) -> str:
        await ctx.info("one")
        await ctx.report_progress(1, 2)
        return "said"

    @server.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return answer.action

    @server.resource("test://{name}")
    async def resource(name: str) -> str:
        return name

    @server.prompt
    async def greet(who: str) -> str:
        return who

    return server


def answers(written: bytes) -> str:
    """The statuses in what a server wrote.  Raises AssertionError for what is no answer, or is one that may not be."""
    statuses, rest = [], written
    while rest:
        block, blank, rest = rest.partition(b"\r\n\r\n")
        assert blank and block.startswith(b"HTTP/1.1 "), block[:200]
        status = int(block[9:12])
        if status == 100:
            continue
        assert status in STATUSES, block[:200]
        fields = dict(line.lower().split(b": ", 1) for line in block.split(b"\r\n")[1:])
        streaming = fields.get(b"content-type") == b"text/event-stream"
        body, rest = _body(fields, status, rest)
        statuses.append(str(status))
        for text in [event.data for event in EventParser().feed(body)] if streaming else [body.decode()]:
            _check(text)
    return " ".join(statuses) or "nothing"


def _body(fields: dict[bytes, bytes], status: int, rest: bytes) -> tuple[bytes, bytes]:
    if b"content-length" in fields:
        size = int(fields[b"content-length"])
        # A body may be missing: HEAD has none.
        return (b"", rest) if rest.startswith(b"HTTP/1.1 ") and size else (rest[:size], rest[size:])
    if b"transfer-encoding" not in fields:
        return (b"", rest) if status == 204 else (rest, b"")
    body = b""
    while rest:
        size_line, end, rest = rest.partition(b"\r\n")
        assert end, size_line
        size = int(size_line, 16)
        piece, rest = rest[:size], rest[size + 2 :]
        body += piece
        if not size:
            break
    return body, rest  # or cut: its peer had gone


def _check(text: str) -> None:
    if not text:
        return
    for said in [value] if isinstance(value := json.loads(text), dict) else value:
        assert said["jsonrpc"] == "2.0" and "Traceback" not in text
        if "error" in said:
            assert said["error"]["code"] in CODES, said


# --- for as long as it is told ----------------------------------------------------------------------------------------


def run_for(seconds: float, seed: int, share: float = 1.0, only: str = "") -> int:
    """Every target in turn, or one, with that share of a core; prints what came of them.  1 if anything failed."""
    loop = asyncio.new_event_loop()
    counts: dict[str, Counter[str]] = {}
    end, number, failed = time.monotonic() + seconds, seed << 32, 0
    with _dialogues(loop) as dialogues:
        targets = {**CODEC_TARGETS, "connection": dialogues.run}
        if only:
            targets = {only: targets[only]}
        next_line = 0.0
        while (began := time.monotonic()) < end:
            for name, target in targets.items():
                number += 1
                try:
                    counts.setdefault(name, Counter())[target(Random(number))[:3]] += 1
                except Exception as error:
                    failed += 1
                    print(
                        f"{name} failed with Random({number}): {type(error).__name__} {str(error)[:2000]}", flush=True
                    )
                    dialogues.failures.clear()
                    if failed > 20:
                        return 1
            time.sleep((time.monotonic() - began) * (1 / share - 1))
            if time.monotonic() > next_line:
                next_line = time.monotonic() + 60
                print({name: sum(count.values()) for name, count in counts.items()}, "failed", failed, flush=True)
    loop.close()
    for name, count in counts.items():
        print(name, sum(count.values()), dict(count.most_common(12)))
    print("failed", failed)
    return 1 if failed else 0


@contextlib.contextmanager
def _dialogues(loop: asyncio.AbstractEventLoop) -> Iterator[Dialogues]:
    dialogues = Dialogues(loop)
    try:
        yield dialogues
    finally:
        dialogues.close()


if __name__ == "__main__":
    sys.exit(run_for(float(sys.argv[1]), int(sys.argv[2])))
