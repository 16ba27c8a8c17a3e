# SPDX-License-Identifier: MIT
"""How a server ends: at once for who only listens, in time for who works, and with exit code 0.

The promise for idle streams is 100 ms: 1,000 of them end in 35 to 65 ms of CPU on 2 cores, 1.6 to 1.8 times what bare
connections take.  What is asserted is the lines of Python that it takes, which no machine and no neighbour changes
(beside a load of 17 the same ratio was 3.3), and a generous limit on the wall's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from hurrying import HurryingLoop
from rawclient import LIMIT, Closed, Legacy, Modern, RawClient, Stream
from serving import LEGACY, UVLOOP, Held, call, is_closed, modern, served, turns

import mcp_h11
from mcp_h11 import Settings, listening, start_in_thread
from mcp_h11.client.transports.process import EOF_TIME
from mcp_h11.server import running as server_module
from mcp_h11.server.connection import Connection

resource = pytest.importorskip("resource", reason="POSIX signals and descriptors")
pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
STREAMS = 1_000
GRACE = 60.0
QUICK = GRACE / 4  # seconds for what is promised at once: less than any wait that it must not have, on any machine
START = 60.0  # for a process to listen
SUPERVISORS_WAIT = 10.0  # seconds: docker stop
FEW = 100
LINES_EACH = 200  # of the package, for an open stream to end; it takes 170
MORE_OF_MANY = 1.1  # times the lines of one stream of few
PACKAGE = os.path.dirname(mcp_h11.__file__)


async def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with contextlib.suppress(OSError):
        async with RawClient(port):
            return False
    return True


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for both ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * STREAMS + 256
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{hard} descriptors")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def open_streams(port: int, stack: contextlib.AsyncExitStack, count: int) -> tuple[list[Stream], list[Stream]]:
    """Half of them listen in a session each, half by subscriptions/listen."""
    gets, listens = [], []
    for _ in range(count // 2):
        client = Legacy(port, LEGACY)
        await client.initialize()
        gets.append(await stack.enter_async_context(client.get_stream()))
        listens.append(await stack.enter_async_context(Modern(port).listen(toolsListChanged=True)))
        await listens[-1].next_message()  # the acknowledgement
    return gets, listens


class Lines:
    """The lines of the package that this thread runs in a block, instead of the measurement of coverage.

    They are the same on any machine, beside any load.  Processor time is not: neighbours empty the caches.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Lines:
        self._before = sys.gettrace()
        sys.settrace(self._enters)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def _enters(self, frame: Any, event: str, argument: Any) -> Any:
        return self._runs if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _runs(self, frame: Any, event: str, argument: Any) -> Any:
        self.count += event == "line"
        return self._runs


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_a_thousand_open_streams_end_cleanly_and_at_once(descriptors: None) -> None:
    few, many = await lines_of_an_end(FEW), await lines_of_an_end(STREAMS)
    said = f"{STREAMS} streams end in {many} lines of Python, {FEW} in {few}"
    print(said)
    assert 0 < many <= LINES_EACH * STREAMS, said
    assert many <= few / FEW * STREAMS * MORE_OF_MANY, said  # each of many costs as much as each of few


async def lines_of_an_end(count: int) -> int:
    """How many lines of the package it takes to end a server with so many streams; each has its last bytes."""
    async with served() as server, contextlib.AsyncExitStack() as stack:
        gets, listens = await open_streams(server.port, stack, count)
        assert len(server.connections) == count
        began = time.monotonic()
        with Lines() as ending:
            await server.aclose()
        assert time.monotonic() - began < QUICK
        assert not server.connections
        for stream in gets:
            # To the chunk that ends it: a cut would raise.
            assert [event.data for event in (await stream.read()).events() if event.data] == []
        for stream in listens:
            last = (await stream.read()).messages()[-1]
            assert last["result"]["resultType"] == "complete"
    return ending.count


async def test_the_port_is_given_back_at_once_whatever_still_runs() -> None:
    handler = Held()
    async with served(handler, grace=GRACE) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        port = server.port
        closing = asyncio.ensure_future(server.aclose())
        began = time.monotonic()
        await asyncio.sleep(0)
        while not await refused(port):
            assert time.monotonic() - began < QUICK
        with socket.socket() as other:  # somebody else can have it
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
        assert (server.port, server.url) == (port, f"http://127.0.0.1:{port}/mcp")  # where it was
        assert not closing.done()
        handler.released.set()
        answer = await client.receive("POST")
        assert answer.messages()[-1]["result"]["content"][0]["text"] == "hold released"
        assert answer.headers["connection"] == "close"
        await closing


async def test_who_only_listens_does_not_wait_for_who_works() -> None:
    handler = Held()
    async with (
        served(handler, grace=GRACE) as server,
        Modern(server.port).listen(toolsListChanged=True) as listening_,
    ):
        await listening_.next_message()
        client = Legacy(server.port, LEGACY)
        await client.initialize()
        async with client.get_stream() as get, RawClient(server.port) as idle, RawClient(server.port) as busy:
            await busy.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
            began = time.monotonic()
            closing = asyncio.ensure_future(server.aclose())
            await get.read()
            assert (await listening_.next_message())["result"]["resultType"] == "complete"
            assert await idle.receive_eof() == b""
            assert time.monotonic() - began < QUICK
            assert not closing.done()
            handler.released.set()
            assert (await busy.receive("POST")).status == 200
            await closing


async def test_a_request_on_a_connection_that_lives_is_refused_with_a_reason() -> None:
    handler = Held()
    async with served(handler) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        closing = asyncio.ensure_future(server.aclose())
        await asyncio.sleep(0)
        await client.send(modern("tools/call", call("echo", text="x"), id=2))
        handler.released.set()
        assert (await client.receive("POST")).headers["connection"] == "close"
        # It was told so; nothing is answered behind that.
        assert await client.receive_eof() == b""
        assert handler.started == ["hold"]
        await closing


class Stubborn(Held):
    """A tool that does not end when it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.insist, name="insist")

    async def insist(self) -> str:
        while not self.released.is_set():
            with suppress(asyncio.CancelledError):
                await self.released.wait()
        return "at last"


class Stuck(FakeTransport):
    """A peer that takes nothing, and a connection that is not lost by being closed."""

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 1

    abort = close


def test_whatever_goes_wrong_the_end_takes_less_than_supervisors_wait() -> None:
    """Calls that ignore their cancellation, connections that stay, tasks that are left: on a clock that hurries."""
    loop = HurryingLoop()
    took = []

    async def main() -> None:
        async with listening(handler, port=0) as server:
            for transport in (FakeTransport, Stuck):
                one = Connection(server)
                one.connection_made(transport(one))
                one.data_received(modern("tools/call", call("insist")))
            await turns()
            assert len(server.runtime.tasks) == 2
            began = loop.time()
            await server.aclose()
            took.append(loop.time() - began)

    handler = Stubborn()
    try:
        loop.run_until_complete(main())
        began = loop.time()
        loop.run_until_complete(server_module._clean_up(loop))
        took.append(loop.time() - began)
        handler.released.set()
        loop.run_until_complete(turns())
    finally:
        loop.close()
    grace = Settings().grace
    # The default grace was waited for, and one second for what was cancelled.
    assert grace + 1 <= took[0]
    # A child of a bridge ends behind all of that, where it goes when its stdin ends or at SIGTERM.
    assert sum(took) + EOF_TIME < SUPERVISORS_WAIT


async def test_calls_that_outlast_the_grace_are_ended_and_told() -> None:
    handler = Held()
    async with served(handler, grace=0.1) as server, RawClient(server.port) as client:
        legacy = Legacy(server.port, LEGACY)
        await legacy.initialize()
        await client.send(modern("tools/call", call("hold")))
        async with legacy.posting(legacy.request("tools/call", call("stream"))) as stream:
            await stream.next_message()
            await handler.until(started=2)
            began = time.monotonic()
            await server.aclose()
            assert 0.1 <= time.monotonic() - began < QUICK
            await stream.read()  # a clean end, without an answer
            answer = await client.receive("POST")
            assert (answer.status, answer.messages()[-1]["error"]["message"]) == (503, "The server is shutting down")
        assert sorted(handler.cancelled) == ["hold", "stream"]


# --- embedded ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_the_loop(handler: Held) -> AsyncIterator[tuple[int, Callable[[], Any]]]:
    async with listening(handler, port=0, grace=GRACE) as server:
        yield server.port, server.aclose


@contextlib.asynccontextmanager
async def in_a_thread(handler: Held) -> AsyncIterator[tuple[int, Callable[[], Any]]]:
    thread = start_in_thread(handler, port=0, grace=GRACE)
    try:
        yield thread.port, lambda: asyncio.get_running_loop().run_in_executor(None, thread.stop)
    finally:
        await asyncio.get_running_loop().run_in_executor(None, thread.stop)
        assert not thread.alive


@pytest.mark.parametrize("embedded", [in_the_loop, in_a_thread])
async def test_an_embedded_server_ends_the_same_way(embedded: Any) -> None:
    handler = Held()
    async with embedded(handler) as (port, stop), Modern(port).listen(toolsListChanged=True) as listening_:
        await listening_.next_message()
        client = Legacy(port, LEGACY)
        await client.initialize()
        async with client.get_stream() as get, RawClient(port) as busy:
            await busy.send(modern("tools/call", call("block")))
            with anyio.fail_after(LIMIT):
                while handler.started != ["block"]:
                    await asyncio.sleep(0.01)
            began = time.monotonic()
            stopping = asyncio.ensure_future(stop())
            await get.read()
            assert (await listening_.next_message())["result"]["resultType"] == "complete"
            assert time.monotonic() - began < QUICK
            assert await refused(port)
            assert not stopping.done()
            handler.unblocked.set()
            answer = await busy.receive("POST")
            assert answer.messages()[-1]["result"]["content"][0]["text"] == "block released"
            await stopping
            assert time.monotonic() - began < LIMIT


# --- a process -------------------------------------------------------------------------------------------------------

TOOLS = """
import asyncio
import sys
from contextlib import asynccontextmanager
from mcp_h11 import MCPServer

@asynccontextmanager
async def lifespan(server):
    yield
    print("cleaned up", file=sys.stderr, flush=True)

server = MCPServer("drained", lifespan=lifespan)

@server.tool
async def nap(seconds: float) -> str:
    print("napping", file=sys.stderr, flush=True)
    await asyncio.sleep(seconds)
    return "rested"
"""


class Process:
    """`python -m mcp_h11` with the tools above."""

    def __init__(self, folder: Path) -> None:
        (folder / "tools.py").write_text(TOOLS)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_h11", str(folder / "tools.py"), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    async def line(self, pipe: Any, wanted: bytes) -> bytes:
        """The first line that has it."""

        def read() -> bytes:
            for line in iter(pipe.readline, b""):
                if wanted in line:
                    return bytes(line)
            return b""

        with anyio.fail_after(START):
            return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)

    async def port(self) -> int:
        found = re.search(rb":(\d+)/mcp", await self.line(self.process.stdout, b"http://"))
        assert found is not None
        return int(found[1])

    async def napping(self) -> None:
        assert await self.line(self.process.stderr, b"napping")

    async def ended(self) -> tuple[int, str]:
        """The exit code, and what was written to stderr meanwhile."""
        with anyio.fail_after(START):
            _, said = await anyio.to_thread.run_sync(self.process.communicate, abandon_on_cancel=True)
        return self.process.returncode, said.decode()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_ends_its_streams_lets_calls_finish_and_exits_with_0(process: Process, number: int) -> None:
    port = await process.port()
    client = Legacy(port, LEGACY)
    await client.initialize()
    async with (
        Modern(port).listen(toolsListChanged=True) as listening_,
        client.get_stream() as get,
        RawClient(port) as busy,
    ):
        await listening_.next_message()
        await busy.send(modern("tools/call", call("nap", seconds=0.5)))
        await process.napping()
        began = time.monotonic()
        process.process.send_signal(number)
        await get.read()
        assert (await listening_.next_message())["result"]["resultType"] == "complete"
        assert time.monotonic() - began < QUICK
        assert (await busy.receive("POST")).messages()[-1]["result"]["content"][0]["text"] == "rested"
        code, said = await process.ended()
    assert code == 0
    assert "cleaned up" in said and "Traceback" not in said


async def test_a_second_signal_ends_a_process_at_once(process: Process) -> None:
    port = await process.port()
    async with RawClient(port) as busy:
        await busy.send(modern("tools/call", call("nap", seconds=60)))
        await process.napping()
        process.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(LIMIT):
            while not await refused(port):
                await asyncio.sleep(0.01)
        assert process.process.poll() is None  # it waits for the call
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        code, said = await process.ended()
        assert time.monotonic() - began < Settings().grace
        with contextlib.suppress(Closed, OSError):
            assert (await busy.receive("POST")).status == 503
    assert code == 0
    assert "cleaned up" in said and "Traceback" not in said


async def test_a_process_that_nobody_uses_ends_at_once(process: Process) -> None:
    await process.port()
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    code, said = await process.ended()
    assert (code, "Traceback" in said) == (0, False)
    assert time.monotonic() - began < QUICK


# --- a server that another process replaces --------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
async def test_a_server_that_retires_answers_what_it_has_accepted(anyio_backend_name: str) -> None:
    handler = Held()
    async with served(handler, grace=LIMIT) as server, RawClient(server.port) as idle, RawClient(server.port) as busy:
        await idle.send(modern("server/discover"))
        assert (await idle.receive("POST")).headers.get("connection") != "close"
        await busy.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        async with RawClient(server.port) as new, Modern(server.port).listen(toolsListChanged=True) as listener:
            await listener.next_message()
            retiring = asyncio.ensure_future(server.retire(LIMIT))
            # A stream that only listens ends at once, and a new connection is refused: another process has the port.
            assert (await listener.next_message())["result"]["resultType"] == "complete"
            assert await refused(server.port)
            for client in (idle, new):
                await client.send(modern("server/discover"))
                answer = await client.receive("POST")
                assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert not retiring.done() and not server.draining
        handler.released.set()
        answer = await busy.receive("POST")
        assert answer.messages()[-1]["result"]["content"][0]["text"] == "hold released"
        assert answer.headers["connection"] == "close"
        await busy.aclose()
        with anyio.fail_after(LIMIT):
            await retiring


async def test_a_server_that_retires_gives_a_call_its_time_and_an_idle_connection_the_grace() -> None:
    handler = Held()
    async with served(handler, grace=0.05) as server, RawClient(server.port) as idle, RawClient(server.port) as busy:
        await idle.send(modern("server/discover"))
        await idle.receive("POST")
        await busy.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        retiring = asyncio.ensure_future(server.retire(LIMIT))
        await asyncio.sleep(0.2)  # four times the grace
        assert not retiring.done() and not handler.cancelled
        handler.released.set()
        with anyio.fail_after(LIMIT):
            await retiring  # although `idle` is still connected
        await server.aclose()
        await is_closed(idle)


@pytest.mark.parametrize("limit", [0.05, LIMIT])
async def test_retiring_ends_after_its_limit_or_by_a_stop(limit: float) -> None:
    handler = Held()
    async with served(handler, grace=0.01) as server, RawClient(server.port) as busy:
        await busy.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        retiring = asyncio.ensure_future(server.retire(limit))
        if limit == LIMIT:
            await turns()
            server.stop()
        with anyio.fail_after(LIMIT / 2):
            await retiring
        assert not handler.cancelled
