# SPDX-License-Identifier: MIT
"""Everything that goes wrong, for as long as you like, and what is left of the server afterwards.

    python bench/soak.py --minutes 20 --rate 40
    python bench/soak.py --fuzz --minutes 10

Clients of both eras and of HTTP+SSE come and go at a bounded rate against a server in a process of its own: they call,
ask twice under one id, cancel, leave in the middle of a head, a body or a stream, read slowly or not at all, resume,
forget their sessions, send nonsense, and repeat what is refused.  Each answer is judged; every few seconds the server
is asked for its tasks, descriptors, sessions and errors, and the operating system for its memory.

At the end all clients leave, what rests expires, and the verdict is whether the server is what it was: no task, session
or descriptor more, no error in its log, no answer wrong or late, memory flat after the warm-up.  Exit code 0 says so.

`--fuzz` feeds the codecs and whole connections in this process with changed dialogues instead
(tests/support/fuzzing.py).
Linux only: memory and descriptors come from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT / "tests" / "support", ROOT):
    sys.path.insert(0, str(place))

import wire
from rawclient import (
    INFO,
    JSON_TYPE,
    SSE_TYPE,
    Legacy,
    Modern,
    ProtocolError,
    RawClient,
    Stream,
    encode,
)

from mcp_h11 import Context, MCPServer, run
from mcp_h11.runtime.storage import MemoryEventStore
from mcp_h11.server.server import Server

LEGACY_REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
PROBE_LIMIT = 1.0  # seconds within which a new client is served, whatever else goes on
ANSWER_LIMIT = 15.0
MAX_IN_FLIGHT = 150  # things that clients are doing at once
SAMPLE_EVERY = 10.0
SESSION_IDLE = 15.0
WARM_UP = 0.25  # of the time; caches and the replay log fill
JUDGED_AFTER = 120.0  # seconds of each half; before that, caches still fill
ALLOWED_GROWTH = 2 * 1024 * 1024  # of RSS from then on: what the allocator's fragments come to
FLOOD_SIZE, FLOOD_COUNT = 4_000, 400  # more than the sockets' buffers hold
PLANNED = "planned"
BREAKS = frozenset(
    ("cut_request", "garbage", "leaves", "slow_reader", "modern_slow_reader", "old_sse", "asks_and_does_not_read")
)
PAGE = os.sysconf("SC_PAGESIZE")
FLOOD_CALLS = 150  # more than run at once
FLOOD_TIME = 1.0  # seconds that each of them takes
WRONG = "Bearer wrong"  # the one token that the server does not take
# What is refused by its head: the method, the fields that are another way than in a good request, and the status.
REFUSED: dict[str, tuple[str, dict[str, str | None], int]] = {
    "accept": ("POST", {"Accept": "text/html"}, 406),
    "accept of a stream": ("GET", {"Accept": JSON_TYPE, "MCP-Protocol-Version": "2025-11-25"}, 406),
    "content type": ("POST", {"Content-Type": "text/plain"}, 415),
    "host": ("POST", {"Host": "evil.example"}, 403),
    "origin": ("POST", {"Origin": "https://evil.example"}, 403),
    "method": ("PUT", {}, 405),
    "token": ("POST", {"Authorization": WRONG}, 401),
    "version": ("POST", {"MCP-Protocol-Version": "1999-01-01"}, 400),
    "session": ("POST", {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "unknown"}, 404),
    "end of a session": ("DELETE", {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "unknown"}, 404),
}
TIMES_REFUSED = 40  # on one connection


# --- the server ----------------------------------------------------------------------------------------------


class Errors(logging.Handler):
    """What the server logs at WARNING and above, without what its tools raise on purpose."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        self.texts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        if PLANNED in str(error) or PLANNED in text or "cancelled an id that" in text:
            return
        if "is not JSON" in text or "cannot be sent" in text:  # the tool `unsendable`
            return
        self.count += 1
        self.texts[f"{text} {error!r}"[:300]] += 1
        sys.stderr.write(logging.Formatter().format(record) + "\n")


async def echo(text: str) -> str:
    return text


def thread(text: str) -> str:
    return text


async def fails() -> str:
    raise RuntimeError(PLANNED)


async def unsendable() -> dict[str, Any]:
    return {"content": [], "structuredContent": {"it": float("nan")}}


async def lone() -> str:
    return "\ud800"


async def steps(ctx: Context, count: int, pause: float) -> str:
    for n in range(count):
        await ctx.info(f"step {n}")
        await asyncio.sleep(pause)
    return f"{count} steps"


async def flood(ctx: Context) -> str:
    for n in range(FLOOD_COUNT):
        await ctx.info(f"{n} " + "x" * FLOOD_SIZE)
    return "flooded"


async def hold(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "held"


async def ask(ctx: Context) -> str:
    schema = {"type": "object", "properties": {"it": {"type": "string"}}, "required": ["it"]}
    answer = await ctx.elicit("Which?", schema)
    return f"{answer.action} {answer.data}"


async def change(ctx: Context) -> str:
    ctx.server.notify_tools_changed()
    ctx.server.notify_resource_updated("soak://it")
    return "changed"


def make_server(errors: Errors, running: list[Server]) -> MCPServer:
    """The server under test; its tool `state` says what it holds."""
    server = MCPServer("soak", version="1")
    for function in (echo, thread, fails, unsendable, lone, steps, flood, hold, ask, change):
        server.add_tool(function)

    @server.tool
    async def state() -> dict[str, Any]:
        return measured(running[0], errors)

    server.resource("soak://it")(lambda: "it")
    return server


def measured(server: Server, errors: Errors) -> dict[str, Any]:
    """What the server holds now."""
    runtime, legacy = server.runtime, server.endpoint.legacy
    with open("/proc/self/statm") as file:
        rss = int(file.read().split()[1]) * PAGE
    return {
        "rss": rss,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "calls": len(runtime.tasks),
        "inside": runtime.gate.inside,
        "waiting": runtime.waiting,
        "connections": len(server.connections),
        "replies": len(server.replies),
        "sessions": len(legacy.sessions),
        "sse_sessions": len(server.endpoint.legacy_sse.sessions),
        "events": legacy.stores.events.total_bytes,
        "objects": len(gc.get_objects()),
        "cpu": time.process_time(),
        "errors": errors.count,
        "texts": dict(errors.texts.most_common(5)),
    }


def authorize(head: Any) -> str | None:
    return None if head.get("authorization") == WRONG else head.get("x-user") or "soak"


def serve_for_soak(loop: str) -> None:
    """The server of the soak: all that rests or waits does so for seconds, so that it happens often."""
    errors = Errors()
    running: list[Server] = []
    logging.getLogger().addHandler(errors)
    logging.captureWarnings(True)

    def started(server: Server) -> None:
        running.append(server)
        print(server.port, flush=True)

    run(
        make_server(errors, running), loop=loop, port=0, on_start=started, legacy_sse=True, session_idle=SESSION_IDLE,
        session_initialize=5.0, write_timeout=3.0, keep_alive=1.0, patience=1.0, idle_timeout=10.0,
        first_byte_timeout=3.0, head_timeout=3.0, body_timeout=4.0, max_sessions=400, max_sessions_peer=400, grace=1.0,
        ask_timeout=5.0, max_requests=50, authorize=authorize,
        event_store=MemoryEventStore(max_total_bytes=16 * 1024 * 1024, keep_finished=10.0),
    )  # fmt: skip


# --- what clients do -------------------------------------------------------------------------------------------


class Wrong(AssertionError):
    """The server answered, and not what it should have."""


def check(condition: Any, what: Any) -> None:
    if not condition:
        raise Wrong(str(what)[:400])


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def text_of(answer: Any) -> str:
    return str(answer.result["content"][0]["text"])


class Clients:
    """Everybody who talks to the server, and what they counted."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.requests = 0
        self.cuts = 0
        self.wrong: Counter[str] = Counter()
        self.garbage_statuses: Counter[str] = Counter()
        self.worst_probe = 0.0
        self.beside_flood: list[float] = []  # seconds that a neighbour of a flood waited for an answer

    def modern(self) -> Modern:
        return Modern(self.port, limit=ANSWER_LIMIT)

    def legacy(self) -> Legacy:
        return Legacy(self.port, self.random.choice(LEGACY_REVISIONS), limit=ANSWER_LIMIT)

    @contextlib.asynccontextmanager
    async def session(self, capabilities: dict[str, Any] | None = None) -> AsyncIterator[Legacy]:
        """A session that is ended, or forgotten, as most of them are."""
        peer = self.legacy()
        await peer.initialize(capabilities)
        self.requests += 2
        yield peer
        if self.random.random() < 0.4:
            self.requests += 1
            check((await peer.delete()).status == 204, "DELETE")

    async def call(self, peer: Any, name: str, **arguments: Any) -> Any:
        self.requests += 1
        return await peer.call("tools/call", tool(name, **arguments))

    # Each of these is one thing that a client does.

    async def ordinary(self) -> None:
        """Calls of all kinds that are answered, in either era."""
        if self.random.random() < 0.5:
            await self._ordinary(self.modern())
        else:
            async with self.session() as peer:
                await self._ordinary(peer)

    async def _ordinary(self, peer: Any) -> None:
        for _ in range(self.random.randrange(1, 6)):
            text = str(self.random.random()) * self.random.choice((1, 1, 1, 1000))
            name = self.random.choice(("echo", "thread"))
            check(text_of(await self.call(peer, name, text=text)) == text, "another text came back")

    async def errors(self) -> None:
        """Calls that fail, each in its own way."""
        async with self.session() as legacy:
            for peer in (self.modern(), legacy):
                check((await self.call(peer, "fails")).result["isError"], "no tool error")
                check((await self.call(peer, "echo")).result["isError"], "no tool error for bad arguments")
                check((await self.call(peer, "unsendable")).result["isError"], "no tool error for NaN")
                check((await self.call(peer, "nothing")).error["code"] == -32602, "a tool that is not there")
                check(text_of(await self.call(peer, "lone")) == "\ud800", "a lone surrogate")
                self.requests += 1
                check((await peer.call("no/such")).error["code"] == -32601, "a method that is not there")

    async def same_id(self) -> None:
        """Two calls at once with one id: each its own answer."""
        async with self.session() as legacy:
            peer = self.random.choice((legacy, self.modern()))
            self.requests += 4
            answers = await asyncio.gather(
                *(peer.call("tools/call", tool("echo", text=str(n)), id=1) for n in range(4))
            )
            check([text_of(answer) for answer in answers] == ["0", "1", "2", "3"], "answers were exchanged")

    async def cancels(self) -> None:
        """A cancellation that meets its call at any moment of it."""
        async with self.session() as peer:
            message = peer.request("tools/call", tool("hold", seconds=0.05), id="it")
            self.requests += 2
            async with peer.posting(message) as stream:
                await asyncio.sleep(self.random.random() * 0.1)
                response = await peer.notify("notifications/cancelled", {"requestId": "it"})
                check(response.status == 202, response.status)
                await stream.read()  # it ends, answered or not

    async def leaves(self) -> None:
        """A peer that is gone in the middle of its answer."""
        self.cuts += 1
        self.requests += 1
        async with self.session() as legacy:
            peer = self.random.choice((legacy, self.modern()))
            message = peer.request("tools/call", tool("steps", count=20, pause=0.02))
            async with peer.posting(message) as stream:
                await asyncio.sleep(self.random.random() * 0.2)
                if self.random.random() < 0.5:
                    stream.abort()

    async def cut_request(self) -> None:
        """A peer that is gone, or falls silent, in the middle of its request."""
        self.cuts += 1
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            data = self.post(self.modern().request("tools/call", tool("echo", text="x" * 5000)))
            await client.send(data[: self.random.randrange(len(data))])
            if self.random.random() < 0.1:
                await client.receive_eof()  # 408, or silence and the end
            elif self.random.random() < 0.5:
                client.abort()

    def post(self, message: Any) -> bytes:
        peer = self.modern()
        body = encode(message)
        return RawClient(self.port).head("POST", "/mcp", peer.headers_for(message), body) + body

    async def pipelines(self) -> None:
        """Many requests at once on one connection; each answered, in order."""
        peer, count = self.modern(), 30
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            self.requests += count
            messages = [peer.request("tools/call", tool("echo", text=str(n)), id=n) for n in range(1, count + 1)]
            await client.send(b"".join(self.post(message) for message in messages))
            for n in range(1, count + 1):
                answer = await client.receive("POST")
                check(answer.messages()[-1]["id"] == n, "answers out of order")

    async def asks_and_does_not_read(self) -> None:
        """Much is asked and nothing read: no more is answered than is taken, until somebody gives up."""
        peer, text = self.modern(), "x" * 20_000
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            messages = [peer.request("tools/call", tool("echo", text=text), id=n) for n in range(1, 46)]
            self.requests += len(messages)
            client.writer.write(b"".join(self.post(message) for message in messages))
            await asyncio.sleep(self.random.random() * 5)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            for n in range(1, self.random.randrange(2, 46)):
                check((await client.receive("POST")).messages()[-1]["id"] == n, "answers out of order")
            self.cuts += 1

    async def batches(self) -> None:
        """Many messages in one body, good and bad; each is answered that wants to be."""
        peer = Legacy(self.port, "2025-03-26", limit=ANSWER_LIMIT)
        await peer.initialize()
        calls = [peer.request("tools/call", tool("echo", text=str(n)), id=n) for n in range(20)]
        self.requests += 3
        response = await peer.post([*calls, {"jsonrpc": "2.0", "id": "bad"}, {"jsonrpc": "2.0", "method": "x"}, 7])
        answers = {str(one.get("id")): one for one in response.messages()}
        check(response.status == 200 and len(response.messages()) == 22, response.status)
        check(all(answers[str(n)]["result"]["content"][0]["text"] == str(n) for n in range(20)), "a wrong answer")
        check(answers["bad"]["error"]["code"] == -32600 and "None" in answers, "no error for what is none")
        await peer.delete()

    async def garbage(self) -> None:
        """Bytes that are no request, or are one with a few bytes changed."""
        self.requests += 1
        data = bytearray(self.post(self.modern().request("tools/call", tool("echo", text="x" * 50))))
        for _ in range(self.random.randrange(1, 4)):
            where = self.random.randrange(len(data))
            data[where : where + self.random.randrange(3)] = self.random.randbytes(self.random.randrange(3))
        if self.random.random() < 0.2:
            data = bytearray(self.random.randbytes(self.random.randrange(2000)))
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            await client.send(bytes(data))
            await client.send_eof()
            said = await client.receive_eof()
            check(said == b"" or said.startswith(b"HTTP/1."), said[:100])
            status = said[9:12].decode("ascii", "replace")
            self.garbage_statuses[status] += 1
            check(status != "500" and b"Traceback" not in said, said[:300])

    async def refused(self) -> None:
        """What is refused, byte for byte the same again and again: nothing of a refusal is left."""
        name = self.random.choice(list(REFUSED))
        method, changes, status = REFUSED[name]
        legacy = changes.get("MCP-Protocol-Version") == "2025-11-25"
        peer = Legacy(self.port, "2025-11-25") if legacy else self.modern()
        message = peer.request("tools/list", id=1)
        self.requests += TIMES_REFUSED
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            for _ in range(TIMES_REFUSED):
                headers = {**peer.headers_for(message), **changes}
                answer = await client.request(method, "/mcp", headers, encode(message))
                check(answer.status == status, f"refused, {name}: {answer.status} for {status}")

    async def slow_reader(self) -> None:
        """A reader that stops: its own call waits, its session's others do not; then it comes back for the rest."""
        async with self.session() as peer:
            self.requests += 1
            message = peer.request("tools/call", tool("flood"), id="flood")
            client = RawClient(self.port, limit=ANSWER_LIMIT)
            async with client:
                await client.send_request("POST", "/mcp", peer.headers_for(message), encode(message))
                await asyncio.sleep(self.random.random() * 5)
                check(text_of(await self.call(peer, "echo", text="beside")) == "beside", "beside a slow reader")
                if self.random.random() < 0.5:
                    client.abort()
                    self.cuts += 1

    async def modern_slow_reader(self) -> None:
        """The same without a session: what nobody takes is cancelled with its connection."""
        self.requests += 1
        peer = self.modern()
        message = peer.request("tools/call", tool("flood"), meta={"io.modelcontextprotocol/logLevel": "info"})
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            await client.send_request("POST", "/mcp", peer.headers_for(message), encode(message))
            await asyncio.sleep(self.random.random() * 5)

    async def resumes(self) -> None:
        """A stream that is cut, once or more, and read on: nothing is lost and nothing comes twice."""
        peer = Legacy(self.port, "2025-11-25", limit=ANSWER_LIMIT)
        await peer.initialize()
        self.requests += 4
        count, seen, last = 12, [], None
        message = peer.request("tools/call", tool("steps", count=count, pause=0.02), id="steps")
        async with peer.posting(message) as stream:
            last = await self._read_some(stream, seen, last)
        while not (seen and seen[-1].get("id") == "steps"):
            check(last is not None, "a stream without ids")
            async with peer.get_stream(last, in_reply_to="tools/call") as stream:
                check(stream.status == 200, f"resume got {stream.status}")
                self.cuts += 1
                last = await self._read_some(stream, seen, last)
        data = [one["params"]["data"] for one in seen if "params" in one]
        check(data == [f"step {n}" for n in range(count)], data)
        await peer.delete()

    async def _read_some(self, stream: Stream, seen: list[Any], last: str | None) -> str | None:
        for _ in range(self.random.randrange(1, 8)):
            event = await stream.next_event()
            if event is None:
                break
            last = event.id or last
            if event.data:
                seen.append(event.json())
        return last

    async def questions(self) -> None:
        """The server asks; the client answers, answers twice, too late, or never."""
        async with self.session({"elicitation": {}}) as peer:
            if not peer.initialized or peer.revision == "2025-03-26":
                return
            self.requests += 2
            patience = self.random.choice((0.0, 0.0, 0.0, 6.0))
            message = peer.request("tools/call", tool("ask"), id="ask")
            async with peer.posting(message) as stream:
                while (said := await stream.next_message()) is not None:
                    if said.get("method") == "elicitation/create":
                        await asyncio.sleep(patience)
                        answer = {"action": "accept", "content": {"it": "this"}}
                        for _ in range(2):
                            response = await peer.post({"jsonrpc": "2.0", "id": said["id"], "result": answer})
                            check(response.status == 202, response.status)
                    elif "id" in said:
                        failed = said["result"].get("isError", False)
                        check(failed == bool(patience), said)

    async def listens(self) -> None:
        """Standalone streams that are taken over, and listeners of the other era; each hears of a change."""
        self.requests += 4
        async with self.session() as peer, peer.get_stream() as first, peer.get_stream() as second:
            check(second.status == 200, second.status)
            async with self.modern().listen(toolsListChanged=True) as third:
                await third.next_message()
                check(text_of(await self.call(self.modern(), "change")) == "changed", "change")
                check((await third.next_message())["method"].endswith("list_changed"), "no notice")
                check((await second.next_message())["method"].endswith("list_changed"), "no notice")
            while await first.next_message() is not None:
                pass  # a notice of somebody else, before it was taken over

    async def deletes(self) -> None:
        """A session that is ended while its call runs: the call ends, and the session is unknown."""
        peer = self.legacy()
        await peer.initialize()
        self.requests += 4
        message = peer.request("tools/call", tool("hold", seconds=5))
        async with peer.posting(message) as stream:
            session = peer.session
            check((await peer.delete()).status == 204, "DELETE")
            await stream.read()
        peer.session = session
        check((await peer.post(peer.request("ping"))).status == 404, "a session that has ended")

    async def old_sse(self) -> None:
        """HTTP+SSE: a session that is its stream, and goes with it."""
        async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
            stream = await client.open_stream("GET", "/sse", {"Accept": SSE_TYPE})
            event = await stream.next_event()
            check(event is not None and event.event == "endpoint", event)
            endpoint = event.data if event is not None else ""
            params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": INFO}
            for id, (method, given) in enumerate(
                [("initialize", params), ("tools/call", tool("echo", text="old")), ("tools/call", tool("flood"))]
            ):
                self.requests += 1
                async with RawClient(self.port, limit=ANSWER_LIMIT) as poster:
                    body = encode({"jsonrpc": "2.0", "id": id, "method": method, "params": given})
                    answer = await poster.request("POST", endpoint, {"Content-Type": JSON_TYPE}, body)
                    check(answer.status == 202, answer.status)
                while method == "initialize" or given["name"] == "echo":
                    message = await stream.next_message()
                    check(message is not None, "the stream ended")
                    if "id" in message:
                        check(message["id"] == id and "result" in message, message)
                        break
            await asyncio.sleep(self.random.random() * 4)  # reads nothing more
            if self.random.random() < 0.5:
                client.abort()
                self.cuts += 1

    async def handshakes(self) -> None:
        """Sessions that are opened and left, initialized or not."""
        for _ in range(3):
            self.requests += 1
            await self.legacy().initialize(complete=self.random.random() < 0.5)

    async def one_floods(self) -> None:
        """A client that leaves more slow calls than the server runs, and what its neighbour waits for."""
        greedy, neighbour = self.legacy(), self.modern()
        greedy.extra_headers["X-User"], neighbour.extra_headers["X-User"] = "greedy", "neighbour"
        await greedy.initialize()
        for _ in range(FLOOD_CALLS):
            message = greedy.request("tools/call", tool("hold", seconds=FLOOD_TIME))
            self.requests += 1
            self.cuts += 1
            async with RawClient(self.port, limit=ANSWER_LIMIT) as client:
                await client.send_request("POST", "/mcp", greedy.headers_for(message), encode(message))
        for method, params in (("tools/list", None), ("server/discover", None), ("tools/call", tool("echo", text="x"))):
            began = time.monotonic()
            answer = await neighbour.call(method, params)
            self.requests += 1
            self.beside_flood.append(time.monotonic() - began)
            check(answer.status == 200 and "result" in answer.message, answer)

    WEIGHTS = {
        "ordinary": 30, "errors": 4, "same_id": 4, "cancels": 8, "leaves": 8, "cut_request": 10, "pipelines": 2,
        "garbage": 12, "slow_reader": 3, "modern_slow_reader": 2, "resumes": 5, "questions": 5, "listens": 4,
        "deletes": 4, "old_sse": 4, "handshakes": 4, "asks_and_does_not_read": 2, "batches": 3, "refused": 8,
        "one_floods": 0.2,
    }  # fmt: skip

    async def one(self, name: str) -> None:
        """One thing, and what was wrong with it."""
        try:
            action: Callable[[], Awaitable[None]] = getattr(self, name)
            await action()
            self.done[name] += 1
        except (ConnectionError, asyncio.IncompleteReadError) as exc:
            # Only who breaks its own request or connection may find it closed.
            if name not in BREAKS:
                self.wrong[f"{name}: {exc!r}"] += 1
            else:
                self.done[name] += 1
        except (Wrong, ProtocolError, TimeoutError, AssertionError, OSError, KeyError, TypeError, ValueError) as exc:
            self.wrong[f"{name}: {type(exc).__name__} {exc}"[:400]] += 1

    async def probe(self) -> dict[str, Any]:
        """A new client is served within a second; what it asks is how the server is."""
        began = time.monotonic()
        answer = await Modern(self.port, limit=ANSWER_LIMIT).call("tools/call", tool("state"))
        took = time.monotonic() - began
        self.worst_probe = max(self.worst_probe, took)
        if took > PROBE_LIMIT:
            self.wrong[f"probe: a new client waited {took:.1f} s"] += 1
        state: dict[str, Any] = json.loads(text_of(answer))
        return state


# --- the run ---------------------------------------------------------------------------------------------------


async def soak(clients: Clients, minutes: float, rate: float) -> list[dict[str, Any]]:
    """Drives the server for so long; what it held every few seconds."""
    began = time.monotonic()
    end, next_sample, samples = began + minutes * 60, began, []
    active: set[asyncio.Task[None]] = set()
    names, weights = list(clients.WEIGHTS), list(clients.WEIGHTS.values())
    due = began
    while (now := time.monotonic()) < end:
        if now >= next_sample:
            next_sample = now + SAMPLE_EVERY
            state = await clients.probe()
            state["at"] = now - began
            samples.append(state)
            show(state, clients)
        if len(active) < MAX_IN_FLIGHT:
            task = asyncio.create_task(clients.one(clients.random.choices(names, weights)[0]))
            active.add(task)
            task.add_done_callback(active.discard)
        due = max(due + 1 / rate, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    if active:
        await asyncio.wait(active, timeout=4 * ANSWER_LIMIT)
    return samples


def show(state: dict[str, Any], clients: Clients) -> None:
    print(
        f"{state['at'] / 60:6.1f} min  rss {state['rss'] / 2**20:6.1f} MiB  fds {state['descriptors']:4d}  "
        f"tasks {state['tasks']:4d}  sessions {state['sessions']:4d}  events {state['events'] / 1024:6.0f} KiB  "
        f"cpu {state['cpu']:6.1f} s  requests {clients.requests:7d}  cuts {clients.cuts:6d}  "
        f"log {state['errors']}  wrong {sum(clients.wrong.values())}",
        flush=True,
    )


async def settled(clients: Clients) -> dict[str, Any]:
    """How the server is when everybody has left and everything that rests has expired."""
    deadline = time.monotonic() + SESSION_IDLE + 15
    while True:
        state = await clients.probe()
        busy = state["sessions"] or state["sse_sessions"] or state["connections"] > 1 or state["calls"] > 1
        if not busy or time.monotonic() > deadline:
            return state
        await asyncio.sleep(1)


def verdict(clients: Clients, base: dict[str, Any], samples: list[dict[str, Any]], left: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    faults = [f"{count} x {what}" for what, count in clients.wrong.most_common(20)]
    faults += [f"log: {count} x {text}" for text, count in left["texts"].items()]
    for name in ("sessions", "sse_sessions", "waiting"):
        if left[name]:
            faults.append(f"{left[name]} {name} left")
    for name in ("tasks", "calls", "descriptors", "connections", "replies", "inside"):
        if left[name] > base[name]:
            faults.append(f"{name}: {base[name]} before, {left[name]} after")
    warm = [s["rss"] for s in samples[int(len(samples) * WARM_UP) :]]
    half = len(warm) // 2
    if half * SAMPLE_EVERY >= JUDGED_AFTER:
        growth = statistics.median(warm[half:]) - statistics.median(warm[:half])
        if growth > ALLOWED_GROWTH:
            faults.append(f"memory grew by {growth / 2**20:.1f} MiB between the halves of the time after warming up")
    return faults


async def drive(port: int, options: argparse.Namespace) -> list[str]:
    clients = Clients(port, options.seed)
    await clients.ordinary()  # what is made once is made
    base = await clients.probe()
    samples = await soak(clients, options.minutes, options.rate)
    left = await settled(clients)
    faults = verdict(clients, base, samples, left)
    print("before ", {k: v for k, v in base.items() if k != "texts"})
    print("after  ", {k: v for k, v in left.items() if k != "texts"})
    print("done   ", dict(clients.done), "garbage", dict(clients.garbage_statuses))
    rss = [sample["rss"] / 2**20 for sample in samples]
    step = max(1, len(rss) // 20)
    print("rss MiB", " ".join(f"{value:.1f}" for value in rss[::step]))
    print(
        f"{clients.requests} requests, {clients.cuts} cuts, {left['cpu']:.0f} s of CPU, "
        f"slowest new client {clients.worst_probe * 1000:.0f} ms"
    )
    if waits := clients.beside_flood:
        print(f"beside a flood: median {statistics.median(waits) * 1000:.1f} ms, slowest {max(waits) * 1000:.0f} ms")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=40.0, help="things that clients begin a second")
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    parser.add_argument("--dev", action="store_true", help="the server in Python's development mode: slow, says more")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fuzz", action="store_true", help="the codecs instead, in this process")
    parser.add_argument("--only", default="", help="one target of --fuzz, such as heads")
    parser.add_argument("--share", type=float, default=1.0, help="of a core, for --fuzz")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_for_soak(options.loop)
        return 0
    if options.fuzz:
        import fuzzing

        return int(fuzzing.run_for(options.minutes * 60, options.seed, options.share, options.only))
    warnings.simplefilter("ignore", wire.SchemaUnavailable)  # it judges what it can
    with tempfile.TemporaryFile() as log:
        mode = ["-X", "dev"] if options.dev else []
        command = [sys.executable, *mode, str(Path(__file__).resolve()), "--serve", "--loop", options.loop]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            faults = asyncio.run(drive(int(process.stdout.readline()), options))
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
        if code != 0:
            faults.append(f"the server ended with {code}")
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
        if said:
            faults.append(f"the server said {len(said)} bytes, beginning: {said[:2000]}")
    print("\n".join(faults) if faults else "nothing wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
