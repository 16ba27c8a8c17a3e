# SPDX-License-Identifier: MIT
"""The pieces of one call, without sockets: what each costs, and as a ratio to a plain h11 loop that does the same.

    python bench/micro.py                       best of many rounds, microseconds and ratios
    python bench/micro.py --callgrind           instructions instead of time, under valgrind: they repeat
    python bench/micro.py --only "call; session" --json out.json

The cases take turns and the lowest of many rounds counts, so that the ratios survive a noisy machine.  A connection
here is the server's own protocol object on a transport that keeps what it is given; the event loop runs, the kernel
does nothing.  Requests come twenty at a time, as they do from twenty busy connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT / "bench", ROOT):  # this clone, installed or not
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

import h11
from far_ends import JSON as ANSWERS_IN_JSON
from far_ends import ClientCase, client_cases, without_a_kernel

from mcp_h11 import Context, MCPServer, ProxyHandler, ServerHandler, Url, listening
from mcp_h11.bench.heads import Traffic
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import Limits
from mcp_h11.http.reply import Reply
from mcp_h11.http.server import ServerConnection
from mcp_h11.http.sse import encode_event
from mcp_h11.protocol.jsonrpc import JSON
from mcp_h11.server.connection import Connection

BATCH = 20  # connections that are busy at once
EVENTS = 100
ECHOED = 20  # calls in whose place one echo is measured
PROXIED = 2_000  # requests behind proxies that are made before the measuring, and then go round with new ids
ROUNDS = 30
REQUESTS = 200  # of each case in a round
DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
HEADERS = (("Content-Type", "application/json"),)
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
FLOOR = "plain h11 loop"
VALGRIND_LIMIT = 600  # seconds


def message(method: str, params: dict[str, Any], id: int | None = 100) -> bytes:
    whole: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        whole["id"] = id
    return json.dumps(whole, separators=(",", ":")).encode()


CALL = message("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
MODERN = message("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": META})
WAITS = {n: message("tools/call", {"name": "waits", "arguments": {"a": 1, "b": 2, "times": n}}) for n in (0, 1, 4)}
TICKS = message("tools/call", {"name": "ticks", "arguments": {"n": EVENTS}, "_meta": {"progressToken": "t"}})
INITIALIZE = message(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
)
INITIALIZED = message("notifications/initialized", {}, None)
RESULT = {"content": [{"type": "text", "text": "3"}]}
ANSWER = b'{"jsonrpc":"2.0","id":100,"result":{"content":[{"type":"text","text":"3"}]}}'
NOTICE = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":50,"total":100}}'


def request(body: bytes, *, method: str = "POST", **fields: str) -> bytes:
    """A request whose head is that of the official Python client."""
    lines = [f"{method} /mcp HTTP/1.1", "Host: 127.0.0.1:8000", "Accept: application/json, text/event-stream"]
    lines += ["Connection: keep-alive", "User-Agent: python-httpx2/2.16"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


# ------------------------------------------------------------------ cases

Run = Callable[[int], None]


class Sink(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[bytes] = []

    def write(self, data: Any) -> None:
        self.out.append(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50000) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class PlainLoop:
    """h11 and json and nothing else: the same request, the same answer."""

    def __init__(self) -> None:
        self.connection = h11.Connection(h11.SERVER)

    def data_received(self, data: bytes) -> bytes:
        connection = self.connection
        connection.receive_data(data)
        body = []
        while True:
            event = connection.next_event()
            if type(event) is h11.Data:
                body.append(event.data)
            elif type(event) is h11.EndOfMessage:
                break
        asked = json.loads(b"".join(body))
        arguments = asked["params"]["arguments"]
        text = str(arguments["a"] + arguments["b"])
        result = {"content": [{"type": "text", "text": text}]}
        answer = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        headers = [("Date", DATE), ("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
        send = connection.send
        out = send(h11.Response(status_code=200, headers=headers, reason="OK"))
        out += send(h11.Data(data=answer)) + send(h11.EndOfMessage())
        connection.start_next_cycle()
        return out


class Bench:
    """The cases, or those of `only`, and the server that some of them need.

    A case that is made but not run is still there: the servers of a bridge tick, and the garbage collector looks at
    what is open.  Where instructions are counted, that was a tenth of those of `session`.
    """

    def __init__(self, only: Collection[str] = ()) -> None:
        self.loop = asyncio.new_event_loop()
        without_a_kernel()
        self._stacks = []
        self.server = self._entered(server())
        self._serial = 0
        makers: dict[str, Callable[[], Run]] = {
            FLOOR: self._plain,
            "http11, repeated head": partial(self._http11, fresh=False),
            "http11, new head": partial(self._http11, fresh=True),
            "json.loads": partial(self._each, json.loads, CALL),
            "jsonrpc decode": partial(self._each, JSON().decode, CALL),
            "json.dumps": partial(
                self._each,
                lambda value: json.dumps(value).encode(),
                {"jsonrpc": "2.0", "id": 100, "result": RESULT},
            ),
            "jsonrpc result": partial(self._each, lambda value: CODEC.result(100, value), RESULT),
            "sse event": partial(self._each, lambda data: encode_event(data, "c3RyZWFtLWlkLTEyMzQ.50"), NOTICE),
            "reply": self._reply,
            "call": partial(self._calls, CALL),
            "call, new head": partial(self._calls, CALL, fresh=b"X-Serial"),
            "call, new request id": partial(self._calls, CALL, fresh=b"X-Request-Id"),
            "call, behind proxy": self._behind_proxies,
            "call, modern": partial(self._calls, MODERN, modern=True),
            "call, waits never": partial(self._calls, WAITS[0]),
            "call, waits once": partial(self._calls, WAITS[1]),
            "call, waits four times": partial(self._calls, WAITS[4]),
            "call, new connection": self._connects,
            "echo, 64 KiB": partial(self._echoes, 64),
            "echo, 1 MiB": partial(self._echoes, 1024),
            "event": self._events,
            "session": self._sessions,
            "bridge call": partial(self._bridge, CALL),
            "bridge call, modern": partial(self._bridge, MODERN, modern=True),
        }
        cases = {name: make() for name, make in makers.items() if not only or name in only}
        clients = {name: case for name, case in client_cases(self.loop).items() if not only or name in only}
        self.cases: dict[str, Run] = {**cases, **clients}

    def _entered(self, handler: ServerHandler) -> Any:
        stack = listening(handler, port=0, max_requests=None, max_sessions_peer=None)
        self._stacks.append(stack)
        return self.loop.run_until_complete(stack.__aenter__())

    def close(self) -> None:
        for run in self.cases.values():
            if isinstance(run, ClientCase):
                run.close()
        for stack in reversed(self._stacks):
            self.loop.run_until_complete(stack.__aexit__(None, None, None))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _each(self, function: Callable[[Any], Any], value: Any) -> Run:
        def run(count: int) -> None:
            for _ in range(count):
                function(value)

        return run

    def _plain(self) -> Run:
        plain = PlainLoop()
        data = request(CALL, MCP_Protocol_Version="2025-11-25", Mcp_Session_Id="a" * 43)
        assert plain.data_received(data).endswith(b'"text": "3"}]}}')

        def run(count: int) -> None:
            for _ in range(count):
                plain.data_received(data)

        return run

    def _fresh(self, data: bytes, count: int, field: bytes = b"X-Serial") -> list[bytes]:
        """The request so many times, each with a head that was never seen: by a field that nobody knows."""
        first = self._serial
        self._serial += count
        head, end, body = data.partition(b"\r\n\r\n")
        return [b"%b\r\n%b: %012d%b%b" % (head, field, first + n, end, body) for n in range(count)]

    def _http11(self, fresh: bool) -> Run:
        connection = ServerConnection(HeadCache(), Limits())
        data = request(CALL, MCP_Protocol_Version="2025-11-25", Mcp_Session_Id="a" * 43)

        def run(count: int) -> None:
            for one in self._fresh(data, count) if fresh else [data] * count:
                connection.receive_data(one)
                connection.next_event()
                connection.respond(200, HEADERS, ANSWER, date=DATE)
                connection.response_done()

        return run

    def _reply(self) -> Run:
        connection = ServerConnection(HeadCache(), Limits())
        data = request(CALL, MCP_Protocol_Version="2025-11-25", Mcp_Session_Id="a" * 43)
        link: Any = NullLink(connection)

        def run(count: int) -> None:
            for _ in range(count):
                connection.receive_data(data)
                Reply(link, connection.next_event()).answer(200, ANSWER)  # type: ignore[arg-type]

        return run

    # --- with the server ---------------------------------------------------------------------------------

    def _connected(self) -> tuple[Connection, Sink]:
        sink = Sink()
        connection = Connection(self.server)
        connection.connection_made(sink)
        return connection, sink

    def _session(self, connection: Connection, sink: Sink) -> dict[str, str]:
        """The header fields of a session that was just opened."""
        self._say(connection, request(INITIALIZE))
        found = re.search(rb"mcp-session-id: (\S+)", b"".join(sink.out), re.IGNORECASE)
        assert found is not None, sink.out
        fields = {"MCP_Protocol_Version": "2025-11-25", "Mcp_Session_Id": found[1].decode()}
        self._say(connection, request(INITIALIZED, **fields))
        sink.out.clear()
        return fields

    def _say(self, connection: Connection, data: bytes) -> None:
        """And be answered, though the turn of the loop may not be over."""
        connection.data_received(data)
        outbox = self.server.runtime.outbox
        if outbox is not None:
            outbox.flush()

    def _calls(self, body: bytes, fresh: bytes = b"", modern: bool = False) -> Run:
        lines = [self._connected() for _ in range(BATCH)]
        requests = []
        for connection, sink in lines:
            fields = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "add"}
            requests.append(request(body, **(fields if modern else self._session(connection, sink))))

        async def batches(count: int) -> None:
            for _ in range(max(1, count // BATCH)):
                deliver = partial(self._deliver, lines, requests, fresh)
                self.loop.call_soon(deliver)  # as a transport does, and not from within a task
                while not all(sink.out for _, sink in lines):
                    await asyncio.sleep(0)
                for _, sink in lines:
                    sink.out.clear()

        self._prove(batches, lines, b'"text":"3"')
        return lambda count: self.loop.run_until_complete(batches(count))

    def _bridge(self, body: bytes, modern: bool = False) -> Run:
        """A call through a bridge: both its ends are HTTP."""
        own = self.server
        # Of one revision at both ends, as most bridges are.
        backend = Url(f"http://127.0.0.1:{ANSWERS_IN_JSON}/mcp", revision="2026-07-28" if modern else "2025-11-25")
        self.server = self._entered(ProxyHandler(backend))
        try:
            return self._calls(body, modern=modern)
        finally:
            self.server = own

    def _behind_proxies(self) -> Run:
        """Calls of many clients, through connections of proxies: no head is sent twice, most of its lines are."""
        lines = [self._connected() for _ in range(BATCH)]
        sessions = [self._session(connection, sink) for connection, sink in lines]
        made: list[tuple[bytes, bytes]] = []

        def pool() -> None:
            traffic, random = Traffic(host="127.0.0.1:8000"), Random(1)
            for number in range(PROXIED):
                arguments = {"name": "add", "arguments": {"a": 1, "b": 2}}
                body = message("tools/call", arguments, random.randrange(10 ** random.randint(1, 9)))
                fields = {name.replace("_", "-"): value for name, value in sessions[number % BATCH].items()}
                before, _, after = _cut_at_id(traffic.request(body, fields))
                made.append((before, after))

        async def batches(count: int) -> None:
            every = made
            for _ in range(max(1, count // BATCH)):
                first = self._serial
                self._serial += BATCH
                requests = [every[n % PROXIED] for n in range(first, first + BATCH)]
                serial = [b"%b%08x%b" % (before, first + n, after) for n, (before, after) in enumerate(requests)]
                self.loop.call_soon(partial(self._deliver, lines, serial))
                while not all(sink.out for _, sink in lines):
                    await asyncio.sleep(0)
                for _, sink in lines:
                    sink.out.clear()

        def run(count: int) -> None:
            if not made:  # no other case waits for this
                pool()
                self._prove(batches, lines, b'"text":"3"')
            self.loop.run_until_complete(batches(count))

        return run

    def _deliver(self, lines: Sequence[tuple[Connection, Sink]], requests: Sequence[bytes], fresh: bytes = b"") -> None:
        for (connection, _), data in zip(lines, requests, strict=True):
            connection.data_received(self._fresh(data, 1, fresh)[0] if fresh else data)

    def _prove(self, batches: Callable[[int], Any], lines: Sequence[tuple[Connection, Sink]], want: bytes) -> None:
        seen: list[bytes] = []
        for _, sink in lines:
            sink.write = lambda data, sink=sink: (seen.append(data), sink.out.append(data))  # type: ignore[method-assign]
        self.loop.run_until_complete(batches(BATCH))
        for _, sink in lines:
            del sink.write
        wrong = [data for data in seen if want not in data or not data.startswith(b"HTTP/1.1 200")]
        assert len(seen) == len(lines) and not wrong, wrong or seen

    def _connects(self) -> Run:
        """A connection, a call on it, and its end by the client."""
        data = request(CALL, **self._session(*self._connected()))

        async def connects(count: int) -> None:
            for _ in range(count):
                connection, sink = self._connected()
                self.loop.call_soon(connection.data_received, data)
                while not sink.out:
                    await asyncio.sleep(0)
                connection.eof_received()
                connection.connection_lost(None)

        return lambda count: self.loop.run_until_complete(connects(count))

    def _echoes(self, size: int) -> Run:
        """A text of so many KiB there and back, read as the event loop reads it: into the buffers it is given."""
        connection, sink = self._connected()
        text = ("a" * 63 + " ") * (size * 16)
        body = message("tools/call", {"name": "echo", "arguments": {"text": text}})
        data = memoryview(request(body, **self._session(connection, sink)))

        def deliver() -> None:
            at = 0
            while at < len(data):
                room = connection.get_buffer(-1)
                part = data[at : at + len(room)]
                room[: len(part)] = part
                connection.buffer_updated(len(part))
                at += len(part)

        async def calls(count: int) -> None:
            for _ in range(max(1, count // ECHOED)):
                self.loop.call_soon(deliver)
                while not sink.out:
                    await asyncio.sleep(0)
                assert len(sink.out[-1]) > size * 1024
                sink.out.clear()

        return lambda count: self.loop.run_until_complete(calls(count))

    def _events(self) -> Run:
        """One progress notification of a call that sends many; the call itself is spread over them."""
        connection, sink = self._connected()
        data = request(TICKS, **self._session(connection, sink))

        async def calls(count: int) -> None:
            for _ in range(max(1, count // EVENTS)):
                self.loop.call_soon(connection.data_received, data)
                while not sink.out or not sink.out[-1].endswith(b"0\r\n\r\n"):
                    await asyncio.sleep(0)
                assert b"".join(sink.out).count(b"notifications/progress") == EVENTS
                sink.out.clear()

        return lambda count: self.loop.run_until_complete(calls(count))

    def _sessions(self) -> Run:
        """initialize, initialized, a call, DELETE: four requests."""
        connection, sink = self._connected()

        async def cycles(count: int) -> None:
            for _ in range(max(1, count // 4)):
                fields = self._session(connection, sink)
                self.loop.call_soon(connection.data_received, request(CALL, **fields))
                while not sink.out:
                    await asyncio.sleep(0)
                self._say(connection, request(b"", method="DELETE", **fields))
                assert sink.out[-1].startswith(b"HTTP/1.1 204"), sink.out
                sink.out.clear()

        return lambda count: self.loop.run_until_complete(cycles(count))


CODEC = JSON()
_PROXY_ID = re.compile(rb"(?im)^(?:x-amzn-trace-id: .*?=1-[0-9a-f]{8}-|cf-ray: |x-request-id: )([0-9a-f]{8})")


def _cut_at_id(data: bytes) -> tuple[bytes, bytes, bytes]:
    """A request, cut before and behind the first digits of the id that its proxy gave it."""
    found = _PROXY_ID.search(data)
    assert found is not None, data
    return data[: found.start(1)], found[1], data[found.end(1) :]


class NullLink:
    """The least that a reply needs of a connection."""

    peer = ""
    writable = True

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def respond(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, close: bool) -> None:
        self._connection.respond(status, headers, body, date=DATE)
        self._connection.response_done()


def server() -> MCPServer:
    made = MCPServer("bench", version="1")

    @made.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    @made.tool(structured_output=False)
    async def echo(text: str) -> str:
        return text

    @made.tool(structured_output=False)
    async def waits(a: int, b: int, times: int) -> int:
        """As a tool waits for the answer of another server: the loop completes a future."""
        loop = asyncio.get_running_loop()
        for _ in range(times):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        return a + b

    @made.tool(structured_output=False)
    async def ticks(n: int, ctx: Context) -> str:
        for i in range(1, n + 1):
            await ctx.report_progress(i, n)
        return "done"

    return made


# A session is four requests, and an echo has the time of many calls; each is reported as one.
PER = {"session": 4, "echo, 64 KiB": ECHOED, "echo, 1 MiB": ECHOED}


# ------------------------------------------------------------------ measuring


def measure(rounds: int = ROUNDS, requests: int = REQUESTS, only: Sequence[str] = ()) -> dict[str, float]:
    """Microseconds of CPU of each case, the lowest of all rounds."""
    bench = Bench()
    try:
        names = [name for name in bench.cases if not only or name in only or name == FLOOR]
        best = dict.fromkeys(names, float("inf"))
        for number in range(rounds + 1):
            for name in names:
                run = bench.cases[name]
                began = time.process_time()
                run(requests)
                took = (time.process_time() - began) / requests * 1e6 * PER.get(name, 1)
                if number:  # the first round fills caches
                    best[name] = min(best[name], took)
        return best
    finally:
        bench.close()


def instructions(name: str, requests: int = REQUESTS) -> float:
    """Thousands of instructions of one case, by two runs under callgrind whose difference is the case alone."""
    counts = []
    for times in (1, 3):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
        command += [os.path.abspath(__file__), "--repeat", name, "--requests", str(requests * times)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VALGRIND_LIMIT, env={**os.environ, "PYTHONHASHSEED": "0"}
        )
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or found is None:
            raise RuntimeError(done.stderr[-500:])
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / (2 * requests) / 1000 * PER.get(name, 1)


def repeat(name: str, requests: int) -> None:
    bench = Bench([name])
    bench.cases[name](BATCH * EVENTS)
    bench.cases[name](requests)
    bench.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the pieces of one call.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each case in a round")
    parser.add_argument("--only", default="", help="cases, separated by ;")
    parser.add_argument("--callgrind", action="store_true", help="count instructions with valgrind")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--repeat", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.repeat:
        repeat(options.repeat, options.requests)
        return 0
    only = [name.strip() for name in options.only.split(";") if name.strip()]
    if options.callgrind:
        if shutil.which("valgrind") is None:
            print("valgrind is not installed", file=sys.stderr)
            return 1
        bench = Bench()
        names = [name for name in bench.cases if not only or name in only or name == FLOOR]
        bench.close()
        figures = {}
        for name in names:
            figures[name] = instructions(name, options.requests)
            print(f"{name:24}{figures[name]:10.2f} k instructions{figures[name] / figures[FLOOR]:8.3f} x", flush=True)
    else:
        figures = measure(options.rounds, options.requests, only)
        for name, value in figures.items():
            print(f"{name:24}{value:10.2f} us{value / figures[FLOOR]:8.3f} x")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
