# SPDX-License-Identifier: MIT
"""`Client.call_tool(..., task=True)` and its handle: to the end, after a restart, with questions, and what ends it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest
from ports import free_port
from serving import served as served_for_long
from tasks_support import Jobs

from mcp_h11 import InvalidParams, MCPServer, MissingClientCapability, ServerHandler, listening
from mcp_h11.client.client import Client
from mcp_h11.client.tasks import TaskCancelled, TaskHandle
from mcp_h11.client.transports.errors import ConnectionLost, InvalidAnswer, RequestTimeout
from mcp_h11.handler.extension import Extension, ExtensionMethod
from mcp_h11.protocol.errors import MCPError, overloaded
from mcp_h11.protocol.methods import META_TASK_PROGRESS
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio
served = partial(served_for_long, grace=0.0)
LIMIT = 20.0


def answered(params: dict[str, Any]) -> dict[str, Any]:
    return {"action": "accept", "content": {"name": f"to {params['message']}"}}


async def test_a_handle_follows_a_task_to_its_result() -> None:
    jobs = Jobs()
    seen: list[str] = []
    heard: list[Any] = []
    async with served(jobs) as server, Client(server.url) as client:
        handle = await client.call_tool("progress", {"many": 2}, task=True, progress=lambda *said: heard.append(said))
        assert handle.id and handle.state["status"] == "working"

        def on_status(state: dict[str, Any]) -> None:
            seen.append(state["status"])
            if state.get("statusMessage") == "step 2":
                jobs.released.set()

        result = await handle.result(timeout=LIMIT, on_status=on_status)
        assert result["content"][0]["text"] == "progress released"
        assert seen[-1] == "completed" and seen[0] == "working" and (2, 2, "step 2") in heard
        assert (await handle.status())["status"] == "completed"
        await handle.cancel()


async def test_questions_of_a_task_are_answered_by_the_callbacks() -> None:
    async with served(Jobs()) as server, Client(server.url, on_elicitation=answered) as client:
        for tool, text in (
            ("ask", "accept {'name': 'to Your name?'}"),
            ("two", "first={'name': 'to The first?'} second={'name': 'to The second?'}"),
            ("rounds", "in the end to After to After None??"),
            ("late", "{'name': 'to Before?'} None True {'name': 'to Within?'}"),
        ):
            handle = await client.call_tool(tool, task=True)
            assert handle.id
            result = await handle.result(timeout=LIMIT)
            assert result["content"][0]["text"] == text


@pytest.mark.parametrize("listen", [True, False])
async def test_a_question_is_answered_once(listen: bool) -> None:
    asked: list[str] = []

    async def slowly(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params["message"])
        await asyncio.sleep(0.05)
        return answered(params)

    async with served(Jobs(poll=0.01)) as server, Client(server.url, on_elicitation=slowly) as client:
        handle = await client.call_tool("two", task=True)
        await handle.result(timeout=LIMIT, listen=listen)
        assert sorted(asked) == ["The first?", "The second?"]


async def test_answers_may_be_given_by_hand() -> None:
    async with served(Jobs()) as server, Client(server.url, on_elicitation=answered) as client:
        handle = await client.call_tool("ask", task=True)
        with anyio.fail_after(LIMIT):
            while "inputRequests" not in await handle.status():
                await asyncio.sleep(0.005)
        await handle.update({"input": {"action": "decline"}})
        assert (await handle.result(timeout=LIMIT))["content"][0]["text"] == "decline None"


async def test_a_server_that_answers_at_once_gives_a_handle_without_an_id() -> None:
    plain = MCPServer("plain")
    plain.add_tool(lambda: "at once", name="tool")
    async with served(plain) as server:
        for revision in ("2026-07-28", "2025-11-25"):
            async with Client(server.url, revision=revision) as client:
                handle = await client.call_tool("tool", task=True)
                assert handle.id is None and (await handle.status())["status"] == "completed"
                await handle.update({})
                await handle.cancel()
                assert (await handle.result())["content"][0]["text"] == "at once"


async def test_a_client_that_does_not_ask_for_tasks_gets_none() -> None:
    jobs = Jobs()
    jobs.released.set()
    async with served(jobs) as server, Client(server.url) as client:
        assert (await client.call_tool("hold"))["content"][0]["text"] == "hold released"
        with pytest.raises(MissingClientCapability):
            await client.call_tool("ask")


async def test_a_failed_task_raises_its_error_and_a_cancelled_one_says_so() -> None:
    async with served(Jobs()) as server, Client(server.url) as client:
        handle = await client.call_tool("refuse", task=True)
        for _ in range(2):  # a new exception each time
            with pytest.raises(InvalidParams, match="no such thing") as caught:
                await handle.result(timeout=LIMIT)
            assert caught.value.data == {"why": "because"}
        handle = await client.call_tool("hold", task=True)
        await handle.cancel()
        with pytest.raises(TaskCancelled, match="The client cancelled the task"):
            await handle.result(timeout=LIMIT)
        with pytest.raises(InvalidParams, match="Unknown task"):
            await client.task("never was").result(timeout=LIMIT)
        with pytest.raises(InvalidParams):
            client.task("")


async def test_a_wait_that_is_over_leaves_the_task_alone() -> None:
    jobs = Jobs()
    async with served(jobs) as server, Client(server.url) as client:
        handle = await client.call_tool("hold", task=True)
        with pytest.raises(RequestTimeout, match=r"within 0.05 s"):
            await handle.result(timeout=0.05)
        jobs.released.set()
        assert (await handle.result(timeout=LIMIT))["content"][0]["text"] == "hold released"


async def test_an_id_that_was_kept_finds_the_task_after_a_restart_of_both() -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.0) as server, Client(server.url) as client:
        handle = await client.call_tool("hold", task=True)
        jobs.released.set()
        await handle.result(timeout=LIMIT)
        kept = handle.id
    assert kept is not None
    async with listening(Jobs(), port=0, store=MemoryStore(hub)) as server, Client(server.url) as client:
        found = client.task(kept)
        assert isinstance(found, TaskHandle) and not found.state
        assert (await found.result(timeout=LIMIT))["content"][0]["text"] == "hold released"


async def test_a_lost_server_is_asked_again_when_it_is_back() -> None:
    hub = Hub()
    jobs = Jobs()
    port = free_port()
    async with listening(jobs, port=port, store=MemoryStore(hub), grace=0.0) as first:
        async with Client(first.url) as client:
            handle = await client.call_tool("hold", task=True)
            jobs.released.set()
            await handle.result(timeout=LIMIT)
            await first.aclose()
            with pytest.raises(RequestTimeout):
                await handle.result(timeout=0.2, listen=False)  # and not the error of a lost connection
            async with listening(Jobs(), port=port, store=MemoryStore(hub)):
                assert (await handle.result(timeout=LIMIT))["content"][0]["text"] == "hold released"


async def test_tasks_in_this_process_and_its_pipes() -> None:
    async with Client(Jobs(), on_elicitation=answered) as client:
        handle = await client.call_tool("ask", task=True)
        assert (await handle.result(timeout=LIMIT))["content"][0]["text"] == "accept {'name': 'to Your name?'}"


# --- servers that break the protocol ---------------------------------------------------------------------------------


class Wrong(Extension):
    """Answers with whatever the test wants, in turn; the last answer is repeated."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)
        self.updates = 0

    def methods(self) -> dict[str, Any]:
        async def get(params: Any, ctx: Any) -> dict[str, Any]:
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return {"taskId": "x", "status": "working", "ttlMs": None, "pollIntervalMs": 1, **state}

        async def update(params: Any, ctx: Any) -> dict[str, Any]:
            self.updates += 1
            return {}

        mirrored = {"mirrored": "taskId"}
        return {"tasks/get": ExtensionMethod(get, **mirrored), "tasks/update": ExtensionMethod(update, **mirrored)}


class Only(ServerHandler):
    def __init__(self, extension: Extension) -> None:
        self.only = extension

    def extensions(self) -> list[Extension]:
        return [self.only]


@pytest.mark.parametrize(
    "state",
    [
        {"status": "perhaps"},
        {"taskId": "y"},
        {"status": "completed"},
        {"status": "completed", "result": []},
        {"status": "failed"},
        {"status": "failed", "error": {"code": "x", "message": "y"}},
        {"status": "input_required"},
        {"status": "input_required", "inputRequests": {"a": {"method": "tools/call"}}},
        {"status": "input_required", "inputRequests": {str(n): {"method": "roots/list"} for n in range(101)}},
    ],
)
async def test_a_task_that_is_malformed_is_an_error(state: dict[str, Any]) -> None:
    async with served(Only(Wrong(state))) as server, Client(server.url, on_roots=[]) as client:
        with pytest.raises(InvalidAnswer):
            await client.task("x").result(timeout=LIMIT)


async def test_a_task_that_never_ends_is_given_up_after_its_time_to_live() -> None:
    async with served(Only(Wrong({"ttlMs": 50}))) as server, Client(server.url) as client:
        with pytest.raises(RequestTimeout, match="time to live"):
            await client.task("x").result(timeout=LIMIT)


@pytest.mark.parametrize("wrong", [None, "soon", -5, float("1e400"), 10**400, True, 0])
async def test_an_interval_that_makes_no_sense_is_bounded(wrong: Any) -> None:
    if wrong == float("inf"):
        wrong = 10**300
    states = [{"pollIntervalMs": wrong}, {"status": "completed", "result": {"content": []}}]
    async with served(Only(Wrong(*states))) as server, Client(server.url) as client:
        handle = client.task("x")
        await handle.status()
        assert 0.05 <= handle._pause() <= 60.0
        assert await handle.result(timeout=LIMIT) == {"content": []}


async def test_the_questions_of_one_task_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.client.tasks.MAX_ANSWERED", 3)

    def asking(*keys: str) -> dict[str, Any]:
        return {"status": "input_required", "inputRequests": {key: {"method": "roots/list"} for key in keys}}

    extension = Wrong(asking("a", "b"), asking("b", "c"), asking("d"))
    async with served(Only(extension)) as server, Client(server.url, on_roots=[]) as client:
        with pytest.raises(InvalidAnswer, match="more than 3 questions"):
            await client.task("x").result(timeout=LIMIT)
        assert extension.updates == 3


async def test_a_server_that_stays_away_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.client.tasks.MAX_FAILURES", 2)
    async with served(Jobs()) as server:
        async with Client(server.url) as client:
            handle = await client.call_tool("hold", task=True)
            await server.aclose()
            with pytest.raises(ConnectionLost):
                await handle.result(timeout=LIMIT)


async def test_an_error_of_the_server_ends_the_wait_at_once() -> None:
    class Broken(Wrong):
        def methods(self) -> dict[str, Any]:
            async def get(params: Any, ctx: Any) -> dict[str, Any]:
                raise MCPError(-32000 - 99999, "broken")

            return {"tasks/get": ExtensionMethod(get, mirrored="taskId")}

    async with served(Only(Broken({}))) as server, Client(server.url) as client:
        with pytest.raises(MCPError, match="broken"):
            await client.task("x").result(timeout=LIMIT)


async def test_a_time_to_live_past_all_numbers_is_no_limit() -> None:
    states = [{"ttlMs": 10**400}, {"status": "completed", "result": {"content": []}}]
    async with served(Only(Wrong(*states))) as server, Client(server.url) as client:
        assert await client.task("x").result(timeout=LIMIT) == {"content": []}


@pytest.mark.parametrize(
    "meta", ["text", ["list"], {META_TASK_PROGRESS: {"progress": 1, "total": "many"}}, {META_TASK_PROGRESS: [1]}]
)
async def test_progress_that_is_malformed_is_no_progress(meta: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    states = [{"_meta": meta, "statusMessage": 5}, {"status": "completed", "result": {"content": []}}]

    async def send(handle: TaskHandle, method: str, params: Any) -> dict[str, Any]:  # a server of ours sends no such
        return {"taskId": "x", "status": "working", "pollIntervalMs": 1, **states.pop(0)}

    monkeypatch.setattr(TaskHandle, "_send", send)
    async with served(Jobs()) as server, Client(server.url) as client:
        handle = client.task("x", progress=lambda *said: heard.append(said))
        assert await handle.result(timeout=LIMIT) == {"content": []}
    assert heard == ([(1, None, None)] if isinstance(meta, dict) and meta[META_TASK_PROGRESS] != [1] else [])


class BusyAtFirst(Wrong):
    """Refuses the first answer, as a server does while its store is away."""

    def methods(self) -> dict[str, Any]:
        methods = super().methods()
        update = methods["tasks/update"]

        async def busy(params: Any, ctx: Any) -> Any:
            given = await update.answer(params, ctx)
            if self.updates == 1:
                raise overloaded("The store of the tasks is away")
            self.states = [{"status": "completed", "result": {"content": []}}]
            return given

        return {**methods, "tasks/update": ExtensionMethod(busy, mirrored="taskId")}


async def test_an_answer_that_a_busy_server_refuses_is_sent_again_and_no_person_is_asked_again() -> None:
    asked: list[Any] = []

    def answer(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params)
        return {"action": "decline"}

    question = {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {}}}
    extension = BusyAtFirst({"status": "input_required", "inputRequests": {"a": question}})
    async with served(Only(extension)) as server, Client(server.url, on_elicitation=answer) as client:
        assert await client.task("x").result(timeout=LIMIT) == {"content": []}
    assert extension.updates == 2 and len(asked) == 1


async def test_a_progress_callback_that_fails_ends_no_task(caplog: pytest.LogCaptureFixture) -> None:
    def progress(done: float, total: float | None, message: str | None) -> None:
        raise OverflowError(f"{done:g}")

    meta = {META_TASK_PROGRESS: {"progress": 10**400}}
    states = [{"_meta": meta}, {"status": "completed", "result": {"content": []}}]
    async with served(Only(Wrong(*states))) as server, Client(server.url) as client:
        assert await client.task("x", progress=progress).result(timeout=LIMIT) == {"content": []}
    assert "the progress callback of a task failed" in caplog.text


async def test_notices_without_an_end_do_not_make_a_client_ask_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.client.tasks.MIN_POLL", 3_600.0)
    asked: list[str] = []

    async def send(handle: TaskHandle, method: str, params: Any) -> dict[str, Any]:
        asked.append(method)
        return {"taskId": "x", "status": "working", "pollIntervalMs": 3_600_000}

    monkeypatch.setattr(TaskHandle, "_send", send)
    async with served(Jobs()) as server, Client(server.url) as client, anyio.create_task_group() as group:
        handle = client.task("x")

        async def flood() -> None:
            for _ in range(1_000):
                handle._heard("notifications/tasks", {"taskId": "x"})
                await anyio.sleep(0)
            group.cancel_scope.cancel()

        group.start_soon(flood)
        await handle.result(listen=False)
    assert asked == ["tasks/get"]
