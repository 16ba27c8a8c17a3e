# SPDX-License-Identifier: MIT
"""A server beside a host: a main thread that has no event loop, and one that has."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from ports import free_port
from rawclient import LIMIT, Legacy, Modern
from wire import D

from mcp_h11 import Context, MCPServer, ServerThread, Settings, listening, start_in_thread


def calls(port: int, tool: str, **arguments: Any) -> Any:
    """The result of a tool, asked from a thread that has no loop."""

    async def main() -> Any:
        answer = await Modern(port).call("tools/call", {"name": tool, "arguments": arguments})
        return answer.result

    return asyncio.run(main())


def said(port: int, tool: str, **arguments: Any) -> str:
    (block,) = calls(port, tool, **arguments)["content"]
    return str(block["text"])


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def named(name: str = "named", **options: Any) -> MCPServer:
    server = MCPServer(name, **options)
    server.add_tool(lambda: name, "who")
    server.add_tool(lambda: threading.current_thread().name, "where")
    return server


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(thread_name_prefix="client") as pool:
        yield pool


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # other tests of this process may have left some

    def left() -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("mcp_h11")]

    yield
    end = time.monotonic() + LIMIT
    while left() and time.monotonic() < end:
        time.sleep(0.005)
    assert left() == []


class Host:
    """A program that owns its main thread: whatever is to run there waits in a queue until it looks."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[Callable[[], None]] = queue.Queue()

    def call_in(self, job: Callable[[], None]) -> None:
        self.jobs.put(job)

    def run_until(self, done: Future[Any]) -> Any:
        """The main loop."""
        end = time.monotonic() + LIMIT
        while not done.done():
            assert time.monotonic() < end, "the call did not end"
            try:
                self.jobs.get(timeout=0.01)()
            except queue.Empty:
                pass
        return done.result()


# --- beside a main thread without a loop ----------------------------------------------------------------------------


def test_it_serves_as_soon_as_it_is_started_and_no_more_when_it_is_stopped() -> None:
    running = start_in_thread(named())
    assert isinstance(running, ServerThread) and running.alive
    port = running.port
    assert running.url == f"http://127.0.0.1:{port}/mcp"
    assert said(port, "who") == "named"
    assert said(port, "where") not in ("MainThread", "mcp_h11")
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()  # nothing was done to this thread
    running.stop()
    assert not running.alive and refused(port)
    running.stop()  # harmless
    for attribute in ("url", "port"):
        with pytest.raises(RuntimeError, match="does not run"):
            getattr(running, attribute)


def test_a_with_block_ends_it_whatever_happens_in_it() -> None:
    with start_in_thread(named()) as running:
        port = running.port
        assert said(port, "who") == "named"
    assert refused(port)
    with pytest.raises(KeyError), start_in_thread(named()) as running:
        port = running.port
        raise KeyError
    assert refused(port)
    with start_in_thread(named()) as running:
        running.stop()


def test_options_are_those_of_listening() -> None:
    with start_in_thread(named(), path="/other", settings=Settings(stateless=True)) as running:
        assert running.url.endswith("/other")

        async def main() -> None:
            client = Modern(running.port, "/other")
            assert (await client.call("server/discover")).status == 200
            async with client.client() as raw:
                assert (await raw.request("GET", "/other", {"Accept": "text/event-stream"})).status == 405

        asyncio.run(main())


def test_tools_run_on_the_thread_that_the_host_chose(clients: ThreadPoolExecutor) -> None:
    host, server = Host(), named()
    server.add_resource("a://b", lambda: threading.current_thread().name, name="b")
    server.add_prompt(lambda: threading.current_thread().name, "p")

    @server.tool
    async def on_the_loop() -> str:
        return threading.current_thread().name

    @server.tool
    def asks(ctx: Context) -> str:
        ctx.wait(ctx.report_progress(1))
        return threading.current_thread().name

    async def everything(port: int) -> list[str]:
        client = Modern(port)
        read = await client.call("resources/read", {"uri": "a://b"})
        got = await client.call("prompts/get", {"name": "p"})
        return [read.result["contents"][0]["text"], got.result["messages"][0]["content"]["text"]]

    with start_in_thread(server, call_in=host.call_in) as running:
        port = running.port
        assert host.run_until(clients.submit(said, port, "where")) == "MainThread"
        assert host.run_until(clients.submit(said, port, "asks")) == "MainThread"
        assert host.run_until(clients.submit(asyncio.run, everything(port))) == ["MainThread"] * 2
        assert host.run_until(clients.submit(said, port, "on_the_loop")) == "mcp_h11"


@pytest.mark.parametrize(
    ("exc", "message"),
    [(ValueError("broken"), "broken"), (StopIteration(), None), (SystemExit(1), None), (KeyboardInterrupt(), None)],
    ids=repr,
)
def test_what_a_tool_raises_belongs_to_the_call_and_not_to_the_host(
    clients: ThreadPoolExecutor, exc: BaseException, message: str | None
) -> None:
    host, server = Host(), named()

    @server.tool
    def fails() -> None:
        raise exc

    with start_in_thread(server, call_in=host.call_in) as running:
        result = host.run_until(clients.submit(calls, running.port, "fails"))
        assert result["isError"] is True and message in (None, result["content"][0]["text"])
        assert host.run_until(clients.submit(said, running.port, "who")) == "named"


def test_a_host_that_takes_no_jobs_makes_the_call_an_error(clients: ThreadPoolExecutor) -> None:
    def full(job: Callable[[], None]) -> None:
        raise RuntimeError("the host is closing")

    with start_in_thread(named(), call_in=full) as running:
        assert calls(running.port, "who") == {
            **calls(running.port, "who"), "isError": True, "content": [{"type": "text", "text": "the host is closing"}],
        }  # fmt: skip


def test_a_stop_on_the_hosts_own_thread_does_not_wait_for_a_tool_that_waits_for_it(
    clients: ThreadPoolExecutor,
) -> None:
    host, server, ran = Host(), named(), []
    server.add_tool(lambda: ran.append(1), "late")
    running = start_in_thread(server, call_in=host.call_in)
    calling = clients.submit(calls, running.port, "late")
    job = host.jobs.get(timeout=LIMIT)  # it waits for this thread, which
    before = time.monotonic()
    running.stop(timeout=LIMIT)  # does something else
    assert time.monotonic() - before < LIMIT and not running.alive
    with pytest.raises(AssertionError):  # the client was told, by a 503 or by a closed connection
        calling.result(LIMIT)
    job()  # the host comes to it at last: the call is over, and so nothing happens, here least of all
    assert ran == []


def test_a_stop_from_elsewhere_lets_the_host_finish_what_it_has(clients: ThreadPoolExecutor) -> None:
    host, listens = Host(), threading.Event()

    async def until_the_end(port: int) -> Any:
        async with Modern(port).listen(toolsListChanged=True) as stream:
            await stream.next_message()
            listens.set()
            return await stream.next_message()

    running = start_in_thread(named(), call_in=host.call_in)
    listening_to = clients.submit(asyncio.run, until_the_end(running.port))
    assert listens.wait(LIMIT)
    calling = clients.submit(said, running.port, "where")
    job = host.jobs.get(timeout=LIMIT)
    stopping = clients.submit(running.stop)
    assert "result" in listening_to.result(LIMIT)  # it is ending
    job()
    assert calling.result(LIMIT) == "MainThread"
    stopping.result(LIMIT)


def test_a_tool_may_stop_the_server_it_runs_in() -> None:
    server, running = named(), []

    @server.tool
    async def stop() -> str:
        running[0].stop()
        return "stopping"

    running.append(start_in_thread(server))
    assert said(running[0].port, "stop") == "stopping"
    running[0].stop()
    assert not running[0].alive


def test_a_stop_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        yield
        release.wait(LIMIT)  # on the loop, where it should not

    running = start_in_thread(named(lifespan=lifespan))
    with pytest.raises(TimeoutError, match="0.05"):
        running.stop(timeout=0.05)
    assert running.alive
    release.set()
    running.stop()
    assert not running.alive


# --- what goes wrong at the start -----------------------------------------------------------------------------------


@contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_that_is_taken_is_an_error_of_the_caller() -> None:
    with taken() as port, pytest.raises(OSError) as caught:
        start_in_thread(named(), port=port)
    assert caught.value.errno is not None


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"host": "0.0.0.0"}, ValueError, "allowed_hosts"),
        ({"response": "xml"}, ValueError, "xml"),
        ({"no_such_field": 1}, TypeError, "no_such_field"),
    ],
)
def test_options_that_cannot_be_are_an_error_of_the_caller(options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        start_in_thread(named(), **options)


def test_a_lifespan_that_fails_is_an_error_of_the_caller() -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(ConnectionError, match="no database"):
        start_in_thread(named(lifespan=lifespan))


def test_a_start_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.server.thread.START_TIMEOUT", 0.05)
    cancelled = threading.Event()

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    with pytest.raises(TimeoutError, match="0.05"):
        start_in_thread(named(lifespan=lifespan))
    assert cancelled.wait(LIMIT)  # it does not come up later, when nobody knows of it


def test_an_error_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        yield
        raise OSError("cannot save")

    with start_in_thread(named(lifespan=lifespan)):
        pass
    assert "cannot save" in caplog.text


# --- several, and again ---------------------------------------------------------------------------------------------


def test_two_servers_in_one_process_do_not_know_of_each_other(clients: ThreadPoolExecutor) -> None:
    one, two, host = named("one"), named("two"), Host()
    with start_in_thread(one) as first, start_in_thread(two, call_in=host.call_in) as second:
        assert first.port != second.port
        assert said(first.port, "who") == "one"
        assert host.run_until(clients.submit(said, second.port, "who")) == "two"

        async def main() -> None:
            async with Legacy(first.port, D) as here, Legacy(second.port, D) as there:
                for client in (here, there):
                    client.check = False
                there.session, here.session = here.session, there.session
                assert (await here.post(here.request("ping"))).status == 404  # a session of the other
                there.session, here.session = here.session, there.session
                async with here.get_stream() as hears, there.get_stream() as other:
                    two.add_tool(lambda: 1, "new")
                    assert (await other.next_message())["method"] == "notifications/tools/list_changed"
                    one.notify_prompts_changed()
                    assert (await hears.next_message())["method"] == "notifications/prompts/list_changed"

        asyncio.run(main())
        first.stop()
        assert host.run_until(clients.submit(said, second.port, "who")) == "two"


def test_one_handler_may_serve_again_and_in_two_places() -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[int]:
        opened.append("open")
        yield len(opened)
        opened.append("close")

    server = named(lifespan=lifespan)
    port = free_port()
    for _ in range(2):
        with start_in_thread(server, port=port):
            assert said(port, "who") == "named"
    assert opened == ["open", "close"] * 2
    with start_in_thread(server, port=port) as first, start_in_thread(server) as second:  # the port is free again
        assert (first.port, said(first.port, "who"), said(second.port, "who")) == (port, "named", "named")

        async def main() -> None:
            async with Modern(first.port).listen(toolsListChanged=True) as a:
                async with Modern(second.port).listen(toolsListChanged=True) as b:
                    for stream in (a, b):
                        await stream.next_message()
                    server.add_tool(lambda: 1, "new")
                    for stream in (a, b):
                        assert (await stream.next_message())["method"] == "notifications/tools/list_changed"

        asyncio.run(main())


# --- inside a running loop ------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_program_with_a_loop_has_a_server_for_as_long_as_a_block() -> None:
    before = asyncio.all_tasks()
    async with listening(named(), port=0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/mcp"
        assert server.addresses[0][:2] == ("127.0.0.1", server.port)
        answer = await Modern(server.port).call("tools/call", {"name": "who"})
        assert answer.result["content"][0]["text"] == "named"
        async with listening(named("other"), port=0) as other:
            answer = await Modern(other.port).call("tools/call", {"name": "who"})
            assert answer.result["content"][0]["text"] == "other"
        port = server.port
    assert refused(port)
    with anyio.fail_after(LIMIT):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_running_loop_may_start_a_thread_as_well() -> None:
    running = await asyncio.to_thread(start_in_thread, named())
    answer = await Modern(running.port).call("tools/call", {"name": "who"})
    assert answer.result["content"][0]["text"] == "named"
    await asyncio.to_thread(running.stop)
