# SPDX-License-Identifier: MIT
"""Admission and threads: who runs, who waits, who is sent away, and that every place comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern, RawClient, Response, encode
from serving import ASYNCIO, LEGACY, Held, call, modern, served, still_serves, turns

from mcp_h11 import MCPServer
from mcp_h11.runtime.admission import Gate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


async def send(port: int, tool: str, **arguments: Any) -> RawClient:
    """A modern call under way; its connection is the caller's to close."""
    client = await RawClient(port).connect()
    await client.send(modern("tools/call", call(tool, **arguments)))
    return client


def text(answer: Response) -> str:
    return str(answer.messages()[-1]["result"]["content"][0]["text"])


async def is_busy(port: int) -> None:
    """A further call is told to come back later, with its connection kept."""
    async with RawClient(port) as client:
        for id in ("first", "second"):
            await client.send(modern("tools/call", call("echo", text="x"), id=id))
            answer = await client.receive("POST")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"] == {"code": -32603, "message": "Server is busy"}
            assert answer.json()["id"] == id


# --- beginnings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eager", [True, False])
async def test_calls_are_answered_with_eager_on_and_off(eager: bool) -> None:
    handler = Held()
    async with served(handler, eager=eager) as server:
        assert (server.runtime.eager is not None, server.runtime.outbox is not None) == (eager, eager)
        quick = await send(server.port, "echo", text="x")
        assert text(await quick.receive("POST")) == "x"
        slow = await send(server.port, "hold", label="1")
        await handler.until(started=1)
        assert len(server.runtime.tasks) == server.runtime.gate.inside == 1
        handler.released.set()
        await slow.receive("POST")
        assert server.runtime.gate.inside == 0
        for client in (quick, slow):
            await client.aclose()


# --- gates ---------------------------------------------------------------------------------------------------------


async def test_calls_past_max_running_wait_and_past_max_waiting_are_503() -> None:
    handler = Held()
    async with served(handler, max_running=2, max_waiting=1) as server:
        clients = [await send(server.port, "hold", label=str(n)) for n in range(2)]
        await handler.until(started=2)
        clients.append(await send(server.port, "hold", label="2"))
        await _arrived(server, 3)
        await turns()
        assert len(handler.started) == 2
        await is_busy(server.port)
        handler.released.set()
        for n, client in enumerate(clients):
            assert text(await client.receive("POST")) == f"{n} released"
            await client.aclose()
        await still_serves(server.port)


async def test_a_full_house_is_told_to_legacy_sessions_as_well() -> None:
    handler = Held()
    async with served(handler, max_running=1, max_waiting=1) as server, Legacy(server.port, LEGACY) as session:
        first, second = [await send(server.port, "hold") for _ in range(2)]
        await _arrived(server, 2)
        response = await session.post(session.request("tools/call", call("echo", text="x"), id=7))
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert (response.json()["id"], response.json()["error"]["code"]) == (7, -32603)
        await first.aclose()
        await second.aclose()
        await handler.until(cancelled=1)
        assert (await session.call("tools/call", call("echo", text="free"))).result["content"][0]["text"] == "free"


async def test_one_session_cannot_take_every_place() -> None:
    handler = Held()
    async with (
        served(handler, max_running_session=2) as server,
        Legacy(server.port, LEGACY) as greedy,
        Legacy(server.port, LEGACY) as modest,
        anyio.create_task_group() as group,
    ):
        for n in range(4):
            group.start_soon(greedy.call, "tools/call", call("hold", label=f"greedy {n}"))
        await handler.until(started=2)
        await turns()
        assert len(handler.started) == 2
        group.start_soon(modest.call, "tools/call", call("hold", label="modest"))
        await handler.until(started=3)
        assert handler.started[-1] == "modest"
        handler.released.set()


async def test_a_call_cancelled_while_it_waits_gives_its_place_in_line_back() -> None:
    handler = Held()
    async with served(handler, max_running=1, max_waiting=1) as server:
        first = await send(server.port, "hold")
        await handler.until(started=1)
        for _ in range(20):
            waiting = await send(server.port, "hold", label="never")
            await _arrived(server, 2)
            await is_busy(server.port)
            await waiting.aclose()
            await _arrived(server, 1)
        assert len(server.runtime.gate.line) == 0  # or it grows for as long as the house is full
        handler.released.set()
        assert text(await first.receive("POST")) == "hold released"
        await first.aclose()
        assert handler.started == ["hold"] and handler.cancelled == []
        await still_serves(server.port)


async def _arrived(server: Any, calls: int) -> None:
    with anyio.fail_after(LIMIT):
        while len(server.runtime.tasks) != calls:
            await asyncio.sleep(0)


async def test_a_call_cancelled_before_its_first_step_frees_its_place() -> None:
    handler = Held()
    async with served(handler, max_running=1, max_waiting=1) as server:
        for _ in range(5):
            async with Legacy(server.port, LEGACY) as session:
                usual = session.headers_for(None)
                requests = [
                    session.request("tools/call", call("hold"), id="it"),
                    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "it"}},
                ]
                # Both in one turn of the loop, on two connections.
                async with RawClient(server.port) as one, RawClient(server.port) as two:
                    for client, message in zip((one, two), requests, strict=True):
                        body = encode(message)
                        client.writer.write(client.head("POST", "/mcp", usual, body) + body)
                    assert (await one.receive("POST")).messages() == []
                    assert (await two.receive("POST")).status == 202
        handler.released.set()
        client = await send(server.port, "hold")
        assert text(await client.receive("POST")) == "hold released"
        await client.aclose()


async def test_a_call_that_waits_for_its_client_gives_its_place_away_and_the_limit_holds() -> None:
    handler = Held()
    async with served(handler, max_running=1) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({"elicitation": {}})

        async def ask(n: int) -> None:
            message = session.request("tools/call", call("ask", label=f"ask {n}"))
            async with session.posting(message) as stream:
                question = await stream.next_message()
                questions.append(question)
                asked.set()
                assert (await stream.next_message())["id"] == message["id"]

        questions: list[Any] = []
        async with anyio.create_task_group() as group:
            for n in range(3):  # all three ask, though only one may run
                asked = asyncio.Event()
                group.start_soon(ask, n)
                with anyio.fail_after(LIMIT):
                    await asked.wait()
            # They come back, one after the other, while others are waiting in line.
            holding = [await send(server.port, "hold", label=f"hold {n}") for n in range(3)]
            await handler.until(started=4)
            for question in questions:
                answer = {"action": "accept", "content": {"it": "this"}}
                await session.post({"jsonrpc": "2.0", "id": question["id"], "result": answer})
        await turns()
        running = len(handler.started) - 3
        handler.released.set()
        for client in holding:
            await client.receive("POST")
            await client.aclose()
        assert running == 1
        assert server.runtime.gate.inside == 0


# --- threads -------------------------------------------------------------------------------------------------------


async def test_sync_tools_run_in_at_most_max_threads() -> None:
    handler = Held()
    async with served(handler, max_threads=2) as server:
        clients = [await send(server.port, "block", label=str(n)) for n in range(4)]
        await handler.until(started=2)
        await still_serves(server.port)  # the loop is free
        assert len(handler.started) == 2
        handler.unblocked.set()
        assert {text(await client.receive("POST")) for client in clients} == {f"{n} released" for n in range(4)}
        for client in clients:
            await client.aclose()


async def test_a_cancelled_sync_call_counts_until_its_thread_ends() -> None:
    handler = Held()
    async with served(handler, max_threads=1) as server:
        gone = await send(server.port, "block", label="gone")
        await handler.until(started=1)
        await gone.aclose()
        next = await send(server.port, "block", label="next")
        await still_serves(server.port)
        assert handler.started == ["gone"]
        handler.unblocked.set()
        assert text(await next.receive("POST")) == "next released"
        await next.aclose()


async def test_sync_calls_cancelled_before_they_begin_leave_no_thread_taken() -> None:
    handler = Held()
    async with served(handler, max_threads=2) as server:
        for n in range(30):
            client = await send(server.port, "block", label="early")
            await turns(n % 6)
            await client.aclose()
        handler.unblocked.set()
        both = [await send(server.port, "block", label="late") for _ in range(2)]
        for client in both:
            assert text(await client.receive("POST")) == "late released"
            await client.aclose()
        await _arrived(server, 0)


class Rude(MCPServer):
    """Sync tools that raise what stops more than a call."""

    def __init__(self) -> None:
        super().__init__("rude")
        self.add_tool(self.rude, name="rude")

    def rude(self, what: str) -> str:
        kinds = {"exit": SystemExit, "stop": StopIteration, "int": KeyboardInterrupt, "value": ValueError}
        raise kinds.get(what, asyncio.CancelledError)(what)


@pytest.mark.parametrize("what", ["exit", "stop", "int", "cancel", "value"])
@pytest.mark.parametrize("in_host", [False, True], ids=["threads", "call_in"])
async def test_whatever_a_sync_tool_raises_is_its_own_failure_only(what: str, in_host: bool) -> None:
    options = {"call_in": lambda job: threading.Thread(target=job).start()} if in_host else {}
    async with served(Rude(), **options) as server:
        answer = await Modern(server.port).call("tools/call", call("rude", what=what))
        assert answer.result["isError"] and what in answer.result["content"][0]["text"]
        await still_serves(server.port)


async def test_a_host_runs_what_it_was_given_even_after_the_server_is_gone() -> None:
    jobs: list[Callable[[], None]] = []
    handler = Held()
    async with served(handler, call_in=jobs.append, grace=0) as server:
        client = await send(server.port, "block")
        with anyio.fail_after(LIMIT):
            while not jobs:
                await asyncio.sleep(0)
    await client.aclose()
    jobs[0]()  # raises nothing into the host, and runs nothing that nobody waits for
    assert handler.started == []


async def test_a_host_that_takes_no_jobs_fails_the_call() -> None:
    def refuse(job: Callable[[], None]) -> None:
        raise RuntimeError("the host is closing")

    async with served(call_in=refuse) as server:
        answer = await Modern(server.port).call("tools/call", call("block"))
        assert answer.result["isError"] and answer.result["content"][0]["text"] == "the host is closing"
        await still_serves(server.port)


async def test_a_system_without_threads_fails_the_call_and_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Held()
    handler.unblocked.set()

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with served(handler, max_threads=1) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more)
            answer = await Modern(server.port).call("tools/call", call("block"))
            assert answer.result["isError"]
        answer = await Modern(server.port).call("tools/call", call("block"))
        assert answer.result["content"][0]["text"] == "block released"


async def test_a_notice_from_any_thread_arrives_and_one_after_the_end_harms_nobody() -> None:
    handler = Held()
    async with served(handler) as server, Modern(server.port).listen(toolsListChanged=True) as stream:
        assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
        for publish in (handler.notify_tools_changed, threading.Thread(target=handler.notify_tools_changed).start):
            publish()
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
    threading.Thread(target=handler.notify_tools_changed).start()
    handler.notify_tools_changed()


async def test_a_task_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Held):
        async def notification(self, method: str, params: Any, ctx: Any) -> None:
            raise ZeroDivisionError

    async with served(Broken()) as server, Legacy(server.port, LEGACY) as session:
        assert (await session.notify("notifications/whatever")).status == 202
        await still_serves(server.port)
    assert "ZeroDivisionError" in caplog.text


async def test_what_fails_where_nobody_waits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("unseen")

    async with served() as server:
        with pytest.raises(ZeroDivisionError):
            await server.runtime.spawn(fail())
        await still_serves(server.port)
    assert "a task failed" in caplog.text and "ZeroDivisionError: unseen" in caplog.text


# --- the gate of one session ------------------------------------------------------------------------------------------


async def test_a_waiter_that_is_cancelled_leaves_the_line() -> None:
    gate = Gate(1)
    await gate.wait()
    waiter = asyncio.create_task(gate.wait())
    await turns(2)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not gate.line
    gate.leave()
    assert gate.inside == 0


async def test_a_place_that_comes_together_with_the_cancellation_goes_to_the_next() -> None:
    gate = Gate(1)
    await gate.wait()
    first, second = asyncio.create_task(gate.wait()), asyncio.create_task(gate.wait())
    await turns(2)
    gate.leave()  # the place is the first waiter's now,
    first.cancel()  # who never comes to use it
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, LIMIT)
    assert gate.inside == 1 and not gate.line


async def test_a_place_passes_over_a_waiter_that_was_cancelled_before_it_came() -> None:
    gate = Gate(1)
    await gate.wait()
    waiter = asyncio.create_task(gate.wait())
    await turns(2)
    waiter.cancel()
    gate.leave()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert gate.inside == 0 and not gate.line
