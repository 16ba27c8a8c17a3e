# SPDX-License-Identifier: MIT
"""A client made of sockets: what goes out and what comes in are bytes that a test can see.

`RawClient` speaks HTTP/1.1 as far as a test needs it, without h11 and without the package under test, so that a fault
there cannot hide itself here.  `Legacy` and `Modern` put the two eras of the protocol on top, one connection for each
exchange, and pass each message that comes in through `wire.checked`.

Each wait ends by itself after `LIMIT` seconds: TimeoutError says what was waited for.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import anyio
import wire

T = TypeVar("T")
Headers = Mapping[str, str | None]  # None leaves a header out that would be added
Message = dict[str, Any]

LIMIT = 30.0
MAX_HEAD = 64 * 1024  # of an answer; asyncio's own default for one line
JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
BOTH = f"{JSON_TYPE}, {SSE_TYPE}"
META = "io.modelcontextprotocol/"
NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}
INFO = {"name": "rawclient", "version": "0"}


class ProtocolError(AssertionError):
    """The server's bytes are not an HTTP answer, or not the one that the helper can go on with."""


class Closed(ProtocolError):
    """The connection ended before the answer did; `received` is what came of it."""

    def __init__(self, message: str, received: bytes = b"") -> None:
        super().__init__(message)
        self.received = received


async def within(limit: float, what: str, waiting: Coroutine[Any, Any, T]) -> T:
    """Awaits for at most `limit` seconds; TimeoutError names what did not come."""
    with anyio.move_on_after(limit):
        return await waiting
    raise TimeoutError(f"no {what} within {limit} s")


# -- what comes back --


@dataclass
class Response:
    """A whole answer.  `headers` have lower-case names; `raw_headers` has them as they came, repeats included."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw_headers: list[tuple[str, str]] = field(default_factory=list)
    version: str = "1.1"
    reason: str = ""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Event]:
        return EventParser().feed(self.body)

    def messages(self) -> list[Any]:
        """The JSON-RPC messages of the answer, whatever form it has; a batch counts as its messages."""
        if self.content_type == SSE_TYPE:
            return [message for event in self.events() if event.data for message in _flat(json.loads(event.data))]
        return _flat(self.json()) if self.content_type == JSON_TYPE else []


def _flat(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass
class Event:
    """One server-sent event; `id` is its own, not the last one before it."""

    data: str
    event: str = "message"
    id: str | None = None
    retry: int | None = None
    comments: tuple[str, ...] = ()  # the comment lines since the event before

    def json(self) -> Any:
        return json.loads(self.data)


class EventParser:
    """Server-sent events as they come: bytes in, whole events out.  Blocks of comments alone are counted, not returned.

    An event with an id and no data is returned, other than in a browser: it is what primes a stream.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[bytes] = []
        self._comments: list[str] = []
        self.comments: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        self._buffer += data
        events = []
        while (line := self._line()) is not None:
            if line:
                self._lines.append(line)
            elif (event := self._event()) is not None:
                events.append(event)
        return events

    # A CR at the end of the buffer may be half of a CRLF: it waits for the next byte.
    def _line(self) -> bytes | None:
        ends = [i for i in (self._buffer.find(b"\n"), self._buffer.find(b"\r")) if i >= 0]
        if not ends or (self._buffer[min(ends)] == 13 and min(ends) == len(self._buffer) - 1):
            return None
        end = min(ends)
        width = 2 if self._buffer[end : end + 2] == b"\r\n" else 1
        line, self._buffer = self._buffer[:end], self._buffer[end + width :]
        return line

    def _event(self) -> Event | None:
        event, data = Event(""), []
        fields = [line.decode("utf-8").partition(":") for line in self._lines]
        self._lines = []
        for name, _, value in fields:
            value = value.removeprefix(" ")
            if name == "":
                self._comments.append(value)
                self.comments.append(value)
            elif name == "data":
                data.append(value)
            elif name == "event":
                event.event = value
            elif name == "id":
                event.id = value
            elif name == "retry":
                event.retry = int(value)
            else:
                raise ProtocolError(f"an event stream has no field {name!r}")
        if not data and event.id is None and event.retry is None:
            return None
        event.data = "\n".join(data)
        event.comments, self._comments = tuple(self._comments), []
        return event


class Stream:
    """An answer that is being read as it comes; events are parsed if it is an event stream.

    Also an async context manager, and an async iterator over the events up to the end of the answer.
    """

    def __init__(self, client: RawClient, head: Response, *, empty: bool = False) -> None:
        self._client = client
        self._body = _Body(client.reader, head, empty=empty)
        self._ready: list[Event] = []
        self._parser = EventParser()
        self.head = head
        self.status = head.status
        self.headers = head.headers
        self.seen: list[Event] = []  # every event so far
        self.ended = False
        self.judge: Callable[[Any], None] = lambda message: None  # is shown each message that `next_message` returns

    @property
    def comments(self) -> list[str]:
        return self._parser.comments

    async def next_bytes(self, limit: float | None = None) -> bytes | None:
        """The next piece of the body (a chunk, where it is chunked); None at its end."""
        chunk = await within(limit or self._client.limit, "more of the body", self._body.next())
        if chunk is None:
            self.ended = True
        return chunk

    async def next_event(self, limit: float | None = None) -> Event | None:
        """The next event; None when the answer ended."""
        return await within(limit or self._client.limit, "event", self._next_event())

    async def _next_event(self) -> Event | None:
        while not self._ready:
            chunk = await self._body.next()
            if chunk is None:
                self.ended = True
                return None
            self._ready = self._parser.feed(chunk)
        event = self._ready.pop(0)
        self.seen.append(event)
        return event

    async def next_message(self, limit: float | None = None) -> Any:
        """The next JSON-RPC message; events without data are passed over.  None when the answer ended."""
        while (event := await self.next_event(limit)) is not None:
            if event.data:
                message = event.json()
                self.judge(message)
                return message
        return None

    async def read(self) -> Response:
        """The rest of the answer; the events that were taken already are not in it."""
        body = b""
        while (chunk := await self.next_bytes()) is not None:
            body += chunk
        self.head.body = body
        return self.head

    async def close(self) -> None:
        """Closes the connection, whatever is still to come: what a client does that has lost interest."""
        await self._client.aclose()

    def abort(self) -> None:
        self._client.abort()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        event = await self.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


# -- the connection --


async def _until(reader: asyncio.StreamReader, end: bytes, what: str) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError as error:
        raise Closed(f"closed before the end of {what}: {error.partial!r}", error.partial) from None
    except asyncio.LimitOverrunError:
        raise ProtocolError(f"{what} is longer than {MAX_HEAD} bytes") from None


class _Body:
    """The body of one answer, piece by piece.  A wait that is given up takes nothing with it."""

    def __init__(self, reader: asyncio.StreamReader, head: Response, *, empty: bool) -> None:
        self._reader = reader
        self._to_come: int | None = None  # of a body with a length, or of the chunk whose size was read
        self._done = empty
        coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        self._chunked = coding is not None
        if empty:
            return
        if coding is not None and (coding.lower() != "chunked" or length is not None or head.version == "1.0"):
            raise ProtocolError(f"no framing for a body: {head.raw_headers}")
        if length is not None:
            self._to_come = int(length)
            self._done = self._to_come == 0

    async def next(self) -> bytes | None:
        """The next piece, a whole chunk where there are chunks; None at the end."""
        if self._done:
            return None
        if self._chunked:
            return await self._chunk()
        piece = await self._reader.read(MAX_HEAD if self._to_come is None else self._to_come)
        if self._to_come is not None:
            if not piece:
                raise Closed(f"closed with {self._to_come} bytes of the body to come")
            self._to_come -= len(piece)
            self._done = self._to_come == 0
        elif not piece:
            self._done = True
            return None
        return piece

    async def _chunk(self) -> bytes | None:
        if self._to_come is None:
            line = await _until(self._reader, b"\r\n", "a chunk's size")
            self._to_come = int(line.partition(b";")[0], 16)
        if self._to_come == 0:
            while await _until(self._reader, b"\r\n", "the trailers") != b"\r\n":
                pass
            self._done = True
            return None
        try:
            piece = await self._reader.readexactly(self._to_come + 2)
        except asyncio.IncompleteReadError as error:
            raise Closed(f"closed within a chunk, after {error.partial!r}", error.partial) from None
        if piece[-2:] != b"\r\n":
            raise ProtocolError(f"a chunk is longer than the {self._to_come} bytes that it says")
        self._to_come = None
        return piece[:-2]


class RawClient:
    """One TCP connection.  `send` writes bytes as they are; `request` writes a request and reads its answer.

    Pipelining: several `send_request`, then as many `receive`, each told the method it answers.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, limit: float = LIMIT, ssl: Any = None) -> None:
        self.host, self.port, self.limit, self._ssl = host, port, limit, ssl
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> RawClient:
        opening = asyncio.open_connection(self.host, self.port, ssl=self._ssl, limit=MAX_HEAD)
        self._reader, self._writer = await within(self.limit, "connection", opening)
        return self

    async def __aenter__(self) -> RawClient:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the socket (FIN) and returns when it is closed; may be called again."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.close()
        if self._writer is not None:
            with anyio.move_on_after(self.limit, shield=True):
                try:
                    await self._writer.wait_closed()
                except OSError:
                    pass  # the other side was quicker

    def abort(self) -> None:
        """Ends the connection by RST, as a crashed or unplugged peer does; nothing more is sent."""
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    @property
    def reader(self) -> asyncio.StreamReader:
        assert self._reader is not None, "connect first"
        return self._reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert self._writer is not None, "connect first"
        return self._writer

    @property
    def local_port(self) -> int:
        port: int = self.writer.get_extra_info("sockname")[1]
        return port

    async def send(self, data: bytes) -> None:
        """Writes bytes as they are."""
        self.writer.write(data)
        await within(self.limit, "room to write", self.writer.drain())

    async def send_eof(self) -> None:
        """Half-closes: no more will be sent, answers can still be read."""
        self.writer.write_eof()

    async def send_request(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> None:
        await self.send(self.head(method, path, headers, body) + body)

    # Host and Content-Length are added unless given, be it as None.
    def head(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> bytes:
        """The bytes of a request head."""
        given: dict[str, str | None] = {"Host": f"{self.host}:{self.port}"}
        if body or method in ("POST", "PUT", "PATCH"):
            given["Content-Length"] = str(len(body))
        for name, value in (headers or {}).items():
            given = {n: v for n, v in given.items() if n.lower() != name.lower()}
            given[name] = value
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items() if v is not None)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def request(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> Response:
        """Sends one request and returns its whole answer; the connection can be used again if the server keeps it."""
        await self.send_request(method, path, headers, body)
        return await self.receive(method)

    async def open_stream(self, method: str, path: str, headers: Headers | None = None, body: bytes = b"") -> Stream:
        """Sends one request and returns when the head of its answer is there."""
        await self.send_request(method, path, headers, body)
        return await self.receive_stream(method)

    async def receive(self, method: str = "GET") -> Response:
        """The next whole answer on the connection, to a request with `method`; 1xx answers are passed over."""
        return await (await self.receive_stream(method)).read()

    async def receive_stream(self, method: str = "GET") -> Stream:
        """The head of the next answer; 1xx answers are passed over."""
        while True:
            head = await self.receive_head()
            if head.status >= 200:
                break
        return Stream(self, head, empty=method == "HEAD" or head.status in (204, 304))

    async def receive_head(self) -> Response:
        """The next head, 1xx included, without its body."""
        return await within(self.limit, "answer", self._head())

    async def _head(self) -> Response:
        block = await _until(self.reader, b"\r\n\r\n", "an answer")
        status_line, *lines = block[:-4].decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        code, _, reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (len(code) == 3 and code.isdigit()):
            raise ProtocolError(f"no status line: {status_line!r}")
        raw = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise ProtocolError(f"no header: {line!r}")
            raw.append((name, value.strip()))
        headers: dict[str, str] = {}
        for name, value in raw:
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Response(int(code), headers, b"", raw, version[5:], reason)

    async def receive_eof(self) -> bytes:
        """Whatever else comes until the server closes; TimeoutError if it does not close."""
        return await within(self.limit, "end of the connection", self.reader.read())


# -- the protocol on top --


@dataclass
class Answer:
    """What came for one request: the message that answers it, what came before it, and the HTTP around it."""

    message: Message | None
    notifications: list[Message]
    requests: list[Message]
    status: int
    headers: dict[str, str]

    @property
    def result(self) -> Any:
        assert self.message is not None and "result" in self.message, f"no result: {self.status} {self.message}"
        return self.message["result"]

    @property
    def error(self) -> Any:
        assert self.message is not None and "error" in self.message, f"no error: {self.status} {self.message}"
        return self.message["error"]

    # `message, notifications = await client.call(...)`
    def __iter__(self) -> Any:
        return iter((self.message, self.notifications))


def encode(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def header_value(text: str) -> str:
    """2026-07-28 basic/transports/streamable-http, Value Encoding."""
    plain = all(" " <= c <= "~" for c in text) and text == text.strip()
    if plain and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


Answerer = Callable[[Message], Message]  # a request from the server -> {"result": ...} or {"error": ...}


class _Peer:
    """What the two eras share: one connection for each exchange, every message judged."""

    revision: str

    def __init__(self, port: int, path: str = "/mcp", *, host: str = "127.0.0.1", limit: float = LIMIT) -> None:
        self.port, self.path, self.host, self.limit = port, path, host, limit
        self.extra_headers: dict[str, str | None] = {}  # sent with each request, after the usual ones
        self.check = True  # False where a test makes the server answer what no revision has
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def client(self) -> RawClient:
        return RawClient(self.port, self.host, limit=self.limit)

    def judge(self, message: Any, in_reply_to: str | None) -> None:
        if self.check:
            wire.checked(self.revision, message, in_reply_to=in_reply_to)

    def headers_for(self, message: Any) -> dict[str, str | None]:
        raise NotImplementedError

    async def post(self, message: Any, headers: Headers | None = None) -> Response:
        """POSTs any JSON value (or bytes, as they are) on a connection of its own; nothing is judged."""
        body = message if isinstance(message, bytes) else encode(message)
        async with self.client() as client:
            return await client.request("POST", self.path, {**self.headers_for(message), **(headers or {})}, body)

    @asynccontextmanager
    async def posting(self, message: Any, headers: Headers | None = None) -> AsyncIterator[Stream]:
        """POSTs and gives the answer as a stream; leaving the block closes the connection."""
        all_headers = {**self.headers_for(message), **(headers or {})}
        async with self.client() as client:
            stream = await client.open_stream("POST", self.path, all_headers, encode(message))
            method = message.get("method") if isinstance(message, dict) else None
            stream.judge = lambda answer: self.judge(answer, method)
            yield stream

    async def _exchange(self, request: Message, headers: Headers | None, answerer: Answerer | None) -> Answer:
        async with self.posting(request, headers) as stream:
            answer = Answer(None, [], [], stream.status, stream.headers)
            if stream.head.content_type == SSE_TYPE:
                await self._collect(stream, answer, answerer)
            elif messages := (await stream.read()).messages():
                if len(messages) > 1:
                    raise ProtocolError(f"several answers to one request: {messages}")
                answer.message = messages[0]
                self.judge(answer.message, request["method"] if self.echoes_id(answer.message) else None)
        if answer.message is not None and self.echoes_id(answer.message):
            asked, answered = request["id"], answer.message.get("id")
            if type(asked) is not type(answered) or asked != answered:
                raise ProtocolError(f"asked as {asked!r}, answered as {answered!r}: {answer.message}")
        return answer

    # 2025-11-25 basic/transports, Session Management: what is refused at the door echoes no id
    def echoes_id(self, message: Message) -> bool:
        return "id" in message or "error" not in message

    async def _collect(self, stream: Stream, answer: Answer, answerer: Answerer | None) -> None:
        while (message := await stream.next_message()) is not None:
            if answer.message is not None:
                raise ProtocolError(f"a message after the answer: {message}")
            if "method" not in message:
                answer.message = message
            elif "id" in message:
                answer.requests.append(message)
                await self._reply(message, answerer)
            else:
                answer.notifications.append(message)

    async def _reply(self, request: Message, answerer: Answerer | None) -> None:
        if answerer is None:
            raise ProtocolError(f"the server asks and nobody answers: {request}")
        response = await self.post({"jsonrpc": "2.0", "id": request["id"], **answerer(request)})
        if response.status != 202:
            raise ProtocolError(f"an answer to the server got {response.status} {response.body!r}")


class Legacy(_Peer):
    """A client of one of the revisions with a handshake.

    `async with Legacy(port, revision) as client:` initializes and, at the end, deletes the session if there is one.
    """

    def __init__(self, port: int, revision: str, path: str = "/mcp", **options: Any) -> None:
        super().__init__(port, path, **options)
        self.revision = self.asked = revision
        self.session: str | None = None
        self.initialized: Message = {}  # the result of `initialize`

    async def __aenter__(self) -> Legacy:
        await self.initialize()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self.session is not None and kind is None:  # a failure is not to hide behind a second one
            await self.delete()

    def headers_for(self, message: Any) -> dict[str, str | None]:
        headers: dict[str, str | None] = {"Content-Type": JSON_TYPE, "Accept": BOTH}
        if self.session is not None:
            headers["Mcp-Session-Id"] = self.session
        # 2025-06-18 basic/transports, Protocol Version Header: on all requests after initialize
        if self.initialized and self.revision >= wire.C:
            headers["MCP-Protocol-Version"] = self.revision
        return {**headers, **self.extra_headers}

    async def initialize(self, capabilities: Message | None = None, *, complete: bool = True) -> Answer:
        """Opens a session; `complete=False` leaves out `notifications/initialized`."""
        params = {"protocolVersion": self.asked, "capabilities": capabilities or {}, "clientInfo": INFO}
        answer = await self.call("initialize", params)
        self.initialized = answer.result
        self.revision = self.initialized["protocolVersion"]
        self.session = answer.headers.get("mcp-session-id")
        if complete:
            response = await self.notify("notifications/initialized")
            if response.status != 202:
                raise ProtocolError(f"initialized got {response.status} {response.body!r}")
        return answer

    def request(self, method: str, params: Message | None = None, *, id: str | int | None = None) -> Message:
        request: Message = {"jsonrpc": "2.0", "id": self.next_id() if id is None else id, "method": method}
        return request if params is None else {**request, "params": params}

    async def call(
        self,
        method: str,
        params: Message | None = None,
        *,
        id: str | int | None = None,
        headers: Headers | None = None,
        answerer: Answerer | None = None,
    ) -> Answer:
        """One request and all that comes for it.  `answerer` answers what the server asks on the way."""
        return await self._exchange(self.request(method, params, id=id), headers, answerer)

    async def notify(self, method: str, params: Message | None = None) -> Response:
        message = {"jsonrpc": "2.0", "method": method}
        return await self.post(message if params is None else {**message, "params": params})

    @asynccontextmanager
    async def get_stream(
        self, last_event_id: str | None = None, headers: Headers | None = None, *, in_reply_to: str | None = None
    ) -> AsyncIterator[Stream]:
        """The session's own stream, or with `last_event_id` the one that the event was on.

        `in_reply_to` is the method whose answer is expected on a stream that is resumed, for the judge.
        """
        usual: dict[str, str | None] = {**self.headers_for(None), "Accept": SSE_TYPE, "Content-Type": None}
        if last_event_id is not None:
            usual["Last-Event-ID"] = last_event_id
        async with self.client() as client:
            stream = await client.open_stream("GET", self.path, {**usual, **(headers or {})})
            stream.judge = lambda message: self.judge(message, in_reply_to)
            yield stream

    async def delete(self) -> Response:
        """Ends the session."""
        async with self.client() as client:
            response = await client.request("DELETE", self.path, {**self.headers_for(None), "Content-Type": None})
        self.session = None
        return response


class Modern(_Peer):
    """A client of the revision without sessions: each request says who asks."""

    revision = wire.E

    # 2026-07-28 basic/index, Error Responses: "MUST include the same ID", unless the request was malformed
    def echoes_id(self, message: Message) -> bool:
        return True

    def __init__(self, port: int, path: str = "/mcp", *, capabilities: Message | None = None, **options: Any) -> None:
        super().__init__(port, path, **options)
        self.capabilities = capabilities or {}

    def meta(self, **more: Any) -> Message:
        """The `_meta` that every request has; `more` are keys of the protocol, such as logLevel."""
        meta = {
            f"{META}protocolVersion": self.revision,
            f"{META}clientInfo": INFO,
            f"{META}clientCapabilities": self.capabilities,
        }
        return {**meta, **{f"{META}{key}": value for key, value in more.items()}}

    def headers_for(self, message: Any) -> dict[str, str | None]:
        headers: dict[str, str | None] = {
            "Content-Type": JSON_TYPE,
            "Accept": BOTH,
            "MCP-Protocol-Version": self.revision,
        }
        if isinstance(message, dict) and isinstance(message.get("method"), str):
            headers["Mcp-Method"] = message["method"]
            name = (message.get("params") or {}).get(NAMED_BY.get(message["method"], ""))
            if isinstance(name, str):
                headers["Mcp-Name"] = header_value(name)
        return {**headers, **self.extra_headers}

    def request(
        self, method: str, params: Message | None = None, *, id: str | int | None = None, meta: Message | None = None
    ) -> Message:
        """A request with its envelope; what `meta` has is added to `_meta`."""
        params = params or {}
        params = {**params, "_meta": {**self.meta(), **params.get("_meta", {}), **(meta or {})}}
        return {"jsonrpc": "2.0", "id": self.next_id() if id is None else id, "method": method, "params": params}

    async def call(
        self,
        method: str,
        params: Message | None = None,
        *,
        id: str | int | None = None,
        meta: Message | None = None,
        headers: Headers | None = None,
    ) -> Answer:
        """One request and all that comes for it."""
        return await self._exchange(self.request(method, params, id=id, meta=meta), headers, None)

    @asynccontextmanager
    async def listen(self, id: str | int | None = None, **notifications: Any) -> AsyncIterator[Stream]:
        """A `subscriptions/listen` stream, for example ``listen(toolsListChanged=True)``."""
        async with self.posting(
            self.request("subscriptions/listen", {"notifications": notifications}, id=id)
        ) as stream:
            yield stream
