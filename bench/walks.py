# SPDX-License-Identifier: MIT
"""Through how many functions and modules of the package an exchange walks, from its bytes to its answer.

    python bench/walks.py               a table of all trips
    python bench/walks.py --show call   each function of the trips with "call" in their name, in order

A thread beside the event loop speaks each trip on real sockets.  Each function of the package that the loop's thread
enters counts, and a coroutine counts again when it goes on.  A turn is a change of module from one function to the
next.  The least of several walks counts, without the ticks of the server's clock.

The numbers say how natural a path is, and not what it costs: `micro.py` does that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # this clone, installed or not
    sys.path.insert(0, str(ROOT))

from mcp_h11 import Context, MCPServer, ProxyHandler, listening, start_in_thread

PACKAGE = str(ROOT / "mcp_h11") + "/"
WALKS = 4  # the first fills caches
LIMIT = 10.0  # seconds for the server to say something
SETTLE = 5  # turns of the loop after an answer, for tasks that end behind it
OLD, NEW = "2025-11-25", "2026-07-28"
INFO = {"name": "walks", "version": "1"}
CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}}}
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}
META = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientInfo": INFO,
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
}
ANSWER = {"action": "accept", "content": {"value": "yes"}}
END_OF_HEAD, END_OF_STREAM = b"\r\n\r\n", b"\r\n0\r\n\r\n"


@dataclass
class Form:
    value: str


def make_server() -> MCPServer:
    server = MCPServer("walks", version="1")

    @server.tool(structured_output=False)
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool(structured_output=False)
    async def tick(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    @server.tool(structured_output=False)
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Sure?", Form)
        return str(answer.data and answer.data.value)

    return server


# ------------------------------------------------------------------ the client's side


class Wire:
    """One connection; blocking."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._serial = 0

    def say(self, message: dict[str, Any] | None = None, **fields: str) -> None:
        body = b"" if message is None else json.dumps({"jsonrpc": "2.0", **message}).encode()
        lines = ["GET /mcp HTTP/1.1" if message is None else "POST /mcp HTTP/1.1", f"Host: 127.0.0.1:{self._port}"]
        lines += ["Accept: text/event-stream" if message is None else "Accept: application/json, text/event-stream"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def hear(self, whole: Callable[[bytes], object] | None = None) -> bytes:
        """All bytes up to the end of the answer, or until `whole` of them is true."""
        data = b""
        while not (whole or _is_whole)(data):
            more = self._sock.recv(65536)
            if not more:
                raise ConnectionError(f"the server closed the connection after {data!r}")
            data += more
        return data

    def call(self, method: str, params: dict[str, Any], **fields: str) -> bytes:
        self._serial += 1
        self.say({"id": self._serial, "method": method, "params": params}, **fields)
        return self.hear()

    def modern(self, params: dict[str, Any], **meta: Any) -> bytes:
        fields = {"MCP_Protocol_Version": NEW, "Mcp_Method": "tools/call", "Mcp_Name": params["name"]}
        return self.call("tools/call", {**params, "_meta": {**META, **meta}}, **fields)

    def close(self) -> None:
        self._sock.close()


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(END_OF_HEAD)
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        return len(body) >= int(length[1])
    return bool(end) and (data.endswith(END_OF_STREAM) or head.split()[1] in (b"202", b"204"))


class Legacy:
    """A session of 2025-11-25, with a connection for calls and one for everything else."""

    def __init__(self, port: int) -> None:
        self.calls, self.others = Wire(port), Wire(port)
        params = {"protocolVersion": OLD, "capabilities": {"elicitation": {}}, "clientInfo": INFO}
        found = re.search(rb"mcp-session-id: (\S+)", self.calls.call("initialize", params), re.IGNORECASE)
        assert found is not None, "a session was asked for"
        self.fields = {"MCP_Protocol_Version": OLD, "Mcp_Session_Id": found[1].decode()}
        self.others.say({"method": "notifications/initialized"}, **self.fields)
        self.others.hear()

    def close(self) -> None:
        self.calls.close()
        self.others.close()


# ------------------------------------------------------------------ trips: what is done before, and what is walked

Walk = Callable[[], object]


def modern_call(port: int) -> Walk:
    wire = Wire(port)
    return lambda: _expect(b'"3"', wire.modern(ADD))


def session_call(port: int) -> Walk:
    session = Legacy(port)
    return lambda: _expect(b'"3"', session.calls.call("tools/call", ADD, **session.fields))


def modern_progress(port: int) -> Walk:
    return lambda: _expect(b'"done"', Wire(port).modern({"name": "tick"}, progressToken="t"))


def session_progress(port: int) -> Walk:
    session = Legacy(port)
    params = {"name": "tick", "_meta": {"progressToken": "t"}}
    return lambda: _expect(b'"done"', Wire(port).call("tools/call", params, **session.fields))


def modern_question(port: int) -> Walk:
    wire = Wire(port)

    def walk() -> None:
        asked = json.loads(wire.modern({"name": "ask"}).partition(END_OF_HEAD)[2])["result"]
        answers = dict.fromkeys(asked["inputRequests"], ANSWER)
        again = {"name": "ask", "inputResponses": answers, "requestState": asked["requestState"]}
        _expect(b'"yes"', wire.modern(again))

    return walk


def session_question(port: int) -> Walk:
    session = Legacy(port)

    def walk() -> None:
        calls = session.calls
        calls.say({"id": 77, "method": "tools/call", "params": {"name": "ask"}}, **session.fields)
        asked = re.search(rb'"id":("?[^,"]+"?)', calls.hear(re.compile(rb"elicitation/create.*\n\n", re.DOTALL).search))
        assert asked is not None, "a request has an id"
        session.others.say({"id": json.loads(asked[1]), "result": ANSWER}, **session.fields)
        session.others.hear()
        _expect(b'"yes"', calls.hear())

    return walk


def resumed(port: int) -> Walk:
    session = Legacy(port)
    params = {"name": "tick", "_meta": {"progressToken": "t"}}
    ids = re.findall(rb"\nid: (\S+)", session.calls.call("tools/call", params, **session.fields))

    def walk() -> None:
        wire = Wire(port)
        wire.say(Last_Event_ID=ids[0].decode(), **session.fields)
        _expect(b'"done"', wire.hear())

    return walk


def _expect(part: bytes, answer: bytes) -> None:
    assert part in answer, answer


TRIPS: dict[str, Callable[[int], Walk]] = {
    "a call, 2026-07-28, connection kept": modern_call,
    "a call, session of 2025-11-25, connection kept": session_call,
    "a call with one progress event, 2026-07-28, new connection": modern_progress,
    "a call with one progress event, session, new connection": session_progress,
    "a question in a session: call, question, POST of the answer, result": session_question,
    "a question, 2026-07-28: two POSTs": modern_question,
    "a GET that resumes a stream": resumed,
}
BRIDGED = "a call through a bridge, 2026-07-28 on both sides"


# ------------------------------------------------------------------ counting


class Counter:
    """The functions of the package that this thread enters, in order, as (module, function)."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str]] = []
        self._tick: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "return" and frame is self._tick:
            self._tick = None
        code = frame.f_code
        if event != "call" or self._tick is not None or not code.co_filename.startswith(PACKAGE):
            return
        module = code.co_filename[len(PACKAGE) :].removesuffix(".py")
        if code.co_name == "_tick" and module.endswith("clock"):
            self._tick = frame
            return
        self.entered.append((module, code.co_name))

    @property
    def figures(self) -> tuple[int, int, int]:
        """Functions, modules, turns."""
        modules = [module for module, _ in self.entered]
        turns = sum(one != next_one for one, next_one in zip(modules, modules[1:], strict=False))
        return len(modules), len(set(modules)), turns


async def count(port: int, trip: Callable[[int], Walk]) -> Counter:
    walk = await asyncio.to_thread(trip, port)
    counters = []
    for _ in range(WALKS):
        counter = Counter()
        sys.setprofile(counter)
        try:
            await asyncio.to_thread(walk)
            for _ in range(SETTLE):
                await asyncio.sleep(0)
        finally:
            sys.setprofile(None)
        counters.append(counter)
    return min(counters, key=lambda counter: counter.figures)


@asynccontextmanager
async def bridge() -> AsyncIterator[int]:
    """The port of a bridge on this loop; its backend has a thread of its own, which is not counted."""
    backend = await asyncio.to_thread(start_in_thread, make_server(), port=0)
    try:
        async with listening(ProxyHandler(backend.url, ping_every=None), port=0) as server:
            yield server.port
    finally:
        await asyncio.to_thread(backend.stop)


async def all_trips() -> dict[str, Counter]:
    found = {}
    async with listening(make_server(), port=0) as server:
        for name, trip in TRIPS.items():
            found[name] = await count(server.port, trip)
    async with bridge() as port:
        found[BRIDGED] = await count(port, modern_call)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the functions, modules and turns of an exchange.")
    parser.add_argument("--show", metavar="TEXT", help="list the functions of the trips with this text in their name")
    options = parser.parse_args()
    found = asyncio.run(all_trips())
    print("| trip | functions | modules | turns |\n|---|---|---|---|")
    for name, counter in found.items():
        print(f"| {name} | {' | '.join(map(str, counter.figures))} |")
    for name, counter in found.items():
        if options.show and options.show in name:
            print(f"\n{name}")
            print("\n".join(f"  {module:28} {function}" for module, function in counter.entered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
