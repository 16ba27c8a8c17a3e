# SPDX-License-Identifier: MIT
"""Records of tasks, in this process and beside other workers; and a task of ten minutes, on a clock of its own."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from rawclient import LIMIT
from serving import call
from tasks_support import NAME, Jobs, TaskClient, text_of
from test_tasks import engine_of, served
from virtual import VirtualLoop

from mcp_h11 import Context, MCPError, MCPServer, ServerHandler, Settings, ToolError, listening
from mcp_h11.client.client import Client
from mcp_h11.extensions import tasks_run
from mcp_h11.extensions import tasks_state as state
from mcp_h11.extensions.tasks import Tasks
from mcp_h11.extensions.tasks_records import (
    MAX_CHANGE_TRIES,
    TASK_SPACE,
    LocalRecords,
    TaskGone,
    TaskRecords,
    key_of_task,
)
from mcp_h11.extensions.tasks_run import TaskExchange
from mcp_h11.handler.context import exchange_of
from mcp_h11.protocol.errors import overloaded
from mcp_h11.runtime.fairness import Load, Shares
from mcp_h11.runtime.runtime import Runtime
from mcp_h11.stores.base import Full, StoreError
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio


class Clock:
    """As much of a loop as records need."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        entry = (when, callback)
        self.timers.append(entry)
        return SimpleNamespace(cancel=lambda: entry in self.timers and self.timers.remove(entry))

    def goes_on(self, seconds: float) -> None:
        self.now += seconds
        for entry in [entry for entry in self.timers if entry[0] <= self.now]:
            self.timers.remove(entry)
            entry[1]()


def local(limit: float = 1_000.0) -> tuple[Clock, Shares, LocalRecords]:
    clock, shares = Clock(), Shares(limit)
    return clock, shares, LocalRecords(clock, lambda party: Load(shares, party))  # type: ignore[arg-type]


async def test_local_records_compare_and_set() -> None:
    _, shares, records = local()
    version = await records.create("s", "a", b"12345", 10.0, group="g")
    assert version is not None and await records.create("s", "a", b"other", 10.0) is None
    assert await records.load("s", "b") is None and await records.save("s", "b", b"", 1, 1.0) is None
    assert await records.save("s", "a", b"x", version + 1, 1.0) is None
    newer = await records.save("s", "a", b"xy", version, 10.0)
    assert newer is not None and newer > version and await records.save("s", "a", b"z", version, 1.0) is None
    found = await records.load("s", "a")
    assert found is not None and found.value == b"xy" and shares.total == 2
    assert await records.delete("s", "a") and not await records.delete("s", "a")
    del found
    assert not len(records) and not shares.total


async def test_local_records_have_limits() -> None:
    _, _, records = local(100.0)
    limits: dict[str, Any] = {"limit": 3, "group_limit": 2}
    # A client that is alone may have any size, since it would wait for ever otherwise.
    for key in "ab":
        await records.create("s", key, b"", 10.0, group="g", **limits)
    with pytest.raises(Full) as one:
        await records.create("s", "c", b"", 10.0, group="g", **limits)
    assert one.value.group
    await records.create("s", "c", b"", 10.0, group="h", **limits)
    with pytest.raises(Full) as all_of_them:
        await records.create("s", "d", b"", 10.0, group="i", **limits)
    assert not all_of_them.value.group
    version = await records.create("s", "e", b"x" * 40, 10.0, group="k")
    assert version is not None and await records.create("s", "f", b"x" * 10, 10.0, group="l")
    with pytest.raises(Full):
        await records.create("s", "h", b"x" * 51, 10.0, group="m")
    with pytest.raises(Full):
        await records.save("s", "e", b"x" * 91, version, 10.0)
    assert await records.save("s", "e", b"x" * 80, version, 10.0)


async def test_local_records_end_by_their_timer() -> None:
    clock, shares, records = local()
    version = await records.create("s", "a", b"1", 10.0, group="g")
    assert version is not None
    await records.create("s", "b", b"1", 20.0, group="g")
    for _ in range(100):  # progress: the end moves each time, and the table of ends does not grow
        clock.goes_on(0.01)
        version = await records.save("s", "a", b"1", version, 10.0)
        assert version is not None
    assert len(records._ends) <= 2 * 2 + 16 and len(clock.timers) == 1
    clock.goes_on(10.0)
    assert await records.load("s", "a") is None and await records.load("s", "b") is not None
    clock.goes_on(10.0)
    assert not len(records) and not records._ends and not records._groups and not clock.timers and not shares.total
    await records.create("s", "a", b"1", 10.0)
    records.close()
    assert not len(records) and not clock.timers
    local()[2].close()


# --- beside other workers --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def in_a_fleet() -> Any:
    async with Runtime(ServerHandler(), Settings(store=MemoryStore(Hub()))) as runtime:
        yield runtime, TaskRecords(runtime, None, None, 10_000)


async def test_a_change_is_made_again_where_another_worker_was_faster() -> None:
    async with in_a_fleet() as (runtime, records):
        await records.create("k", state.Task("working", 1.0, 1.0, 60.0), "party")
        seen: list[state.Task] = []

        def step(task: state.Task) -> state.Task:
            seen.append(task)
            return state.told(task, 2.0, f"try {len(seen)}")

        save, rivals = runtime.fleet.records.save, [1, 2]

        async def saving(space: str, key: str, value: bytes, version: int, ttl: float) -> Any:
            if rivals:
                rival = rivals.pop()
                other = state.told(seen[-1], 1.5, f"rival {rival}")
                await save(space, key, state.encode(other), version, ttl)
            return await save(space, key, value, version, ttl)

        runtime.fleet.records.save = saving
        after = await records.change("k", step)
        assert after.message == "try 3" and [task.message for task in seen] == [None, "rival 2", "rival 1"]

        async def never(*args: Any) -> None:
            return None

        runtime.fleet.records.save = never
        seen.clear()
        with pytest.raises(StoreError, match="all the time"):
            await records.change("k", step)
        assert len(seen) == MAX_CHANGE_TRIES


async def test_a_record_that_is_damaged_counts_as_gone(caplog: pytest.LogCaptureFixture) -> None:
    async with in_a_fleet() as (runtime, records):
        await runtime.fleet.records.create(TASK_SPACE, "k", b"not a task", 60.0)
        with pytest.raises(TaskGone):
            await records.load("k")
        assert "cannot be read" in caplog.text


async def test_a_store_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_a_fleet() as (runtime, records):

        def away(*args: Any, **kwargs: Any) -> Any:
            raise StoreError("away")

        monkeypatch.setattr(runtime.fleet, "hashed", away)
        with pytest.raises(MCPError, match="store of the tasks is away"):
            records.hashed("anna")
        assert records.hashed("") == ""
        monkeypatch.setattr(runtime.fleet.records, "delete", away)
        await records.delete("k")


async def test_a_worker_is_not_judged_while_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    async with (
        listening(Jobs(), port=0, store=MemoryStore(hub), grace=0.0) as one,
        listening(Jobs(), port=0, store=MemoryStore(hub), grace=0.0) as two,
    ):
        task_id = await TaskClient(one.port).start("hold")

        async def unknown(worker: str) -> bool:
            raise StoreError("not known yet")

        monkeypatch.setattr(two.runtime.fleet, "is_dead", unknown)
        assert (await TaskClient(two.port).get(task_id))["status"] == "working"


async def test_a_run_whose_record_is_gone_ends() -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.0) as server:
        client = TaskClient(server.port)
        gone, asked = await client.start("hold"), await client.start("ask")
        await jobs.noted("began hold")
        await client.until(asked, "input_required")
        engine = engine_of(server)
        for task_id in (gone, asked):
            await server.runtime.fleet.records.delete(TASK_SPACE, key_of_task(task_id))
        server.runtime.fleet.on_missed()  # as after a gap: the worker looks at all that it runs
        await jobs.noted("cancelled hold")
        with anyio.fail_after(LIMIT):
            while engine.runs:
                await asyncio.sleep(0.001)
        assert (await client.call("tasks/get", {"taskId": gone})).error["code"] == -32602
        await client.start("ask")  # letters and looks for tasks that are no longer here change nothing
        await engine._on_letter({"key": "never was"})


async def test_a_running_task_outlives_a_store_that_loses_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.0) as server:
        client, fleet = TaskClient(server.port), server.runtime.fleet
        ended = await client.start("fail")
        await client.until(ended)
        held, asked = await client.start("hold"), await client.start("ask")
        await jobs.noted("began hold")
        await client.until(asked, "input_required")
        hub.spaces.clear()
        assert await fleet.lost_data()
        assert "cancelled hold" not in jobs.log
        await client_finds(client, held, asked)
        await client.answer(asked, input="Ada")
        assert text_of(await client.until(asked)) == "accept {'name': 'Ada'}"
        assert (await client.call("tasks/get", {"taskId": ended})).error["code"] == -32602
        # It is lost once more, and the end of the task finds no record.
        hub.spaces.clear()
        monkeypatch.setattr(fleet, "on_missed", lambda: None)
        assert await fleet.lost_data()
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while engine_of(server).runs:
                await asyncio.sleep(0.001)
        assert text_of(await client.get(held)) == "hold released"


async def test_a_loss_that_is_not_known_yet_cancels_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_run, "RETRY_STORE", 0.001)
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.0) as server:
        client, fleet, engine = TaskClient(server.port), server.runtime.fleet, engine_of(server)
        task_id = await client.start("hold")
        await jobs.noted("began hold")
        create = engine.records.create
        hub.spaces.clear()

        async def full(*args: Any) -> None:
            monkeypatch.setattr(engine.records, "create", create)
            raise overloaded("There are too many tasks")

        monkeypatch.setattr(engine.records, "create", full)
        assert await fleet.lost_data()
        (run,) = engine.runs.values()
        await run.look()
        await client_finds(client, task_id)
        assert "cancelled hold" not in jobs.log


async def client_finds(client: TaskClient, *ids: str) -> None:
    """Wait until each of these tasks is known again."""
    with anyio.fail_after(LIMIT):
        for task_id in ids:
            while (await client.call("tasks/get", {"taskId": task_id})).status != 200:
                await asyncio.sleep(0.005)


async def test_a_task_that_does_not_fit_is_not_begun() -> None:
    async with served(Jobs(max_bytes=50)) as server:
        refused = await TaskClient(server.port).call("tools/call", call("hold"))
        assert refused.error["code"] == -32603 and "at most 50 bytes" in refused.error["message"]
        assert not engine_of(server).runs and not engine_of(server).places.total


async def test_a_client_that_leaves_while_its_task_is_kept_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs()
    async with served(jobs, patience=0.05) as server:  # the stream begins, and the client can leave it
        engine, client = engine_of(server), TaskClient(server.port)
        create, waiting, kept = engine.records.create, asyncio.Event(), asyncio.Event()

        async def slowly(*args: Any) -> None:
            await create(*args)
            waiting.set()
            await kept.wait()

        monkeypatch.setattr(engine.records, "create", slowly)
        async with client.posting(client.request("tools/call", call("hold"))) as stream:
            with anyio.fail_after(LIMIT):
                await waiting.wait()
            stream.abort()
        with anyio.fail_after(LIMIT):
            while await engine.records.count() or engine.places.total:
                await asyncio.sleep(0.001)
        assert not jobs.log and not engine.runs


# --- what a function finds -------------------------------------------------------------------------------------------


async def test_a_context_speaks_for_its_call_until_the_task_begins() -> None:
    seen: list[Any] = []
    server = MCPServer("later")

    @server.tool(task="later")
    async def tool(ctx: Context) -> str:
        exchange = exchange_of(ctx)
        assert isinstance(exchange, TaskExchange)
        await ctx.report_progress(1, 4, "before")
        await ctx.info("logged")
        seen.append((exchange.connected, ctx.headers["user-agent"], ctx.client_info["name"], ctx.session))
        await ctx.start_task()
        await ctx.report_progress(2, 4, "within")
        await ctx.info("dropped")
        await ctx.notify("notifications/own", {})
        seen.append((exchange.connected, ctx.headers["user-agent"], ctx.client_info["name"], exchange.party))
        return "done"

    async with served(server) as running:
        client = TaskClient(running.port)
        client.extra_headers["User-Agent"] = "test"
        request = client.request("tools/call", call("tool"), meta=client.meta(logLevel="info"))
        request["params"]["_meta"]["progressToken"] = "p"
        answer = await client._exchange(request, None, None)
        said = [
            (one["method"], one["params"].get("message") or one["params"].get("data")) for one in answer.notifications
        ]
        assert said == [("notifications/progress", "before"), ("notifications/message", "logged")]
        assert answer.result["resultType"] == "task"
        await client.until(answer.result["taskId"])
    assert seen == [(True, "test", "rawclient", None), (True, "test", "rawclient", "127.0.0.1")]


async def test_a_late_tool_may_fail_before_its_task_and_begin_it_twice() -> None:
    server = MCPServer("later")

    @server.tool(task="later")
    async def fails(ctx: Context) -> str:
        await ctx.report_progress(1, 2)  # the client wants none
        raise ToolError("not today")

    @server.tool(task="later")
    async def twice(ctx: Context) -> str:
        await ctx.once("step", lambda: 1)
        await ctx.elicit("Sure?", NAME)
        return f"{await ctx.start_task()} {await ctx.start_task()} {await ctx.once('step', lambda: 2)}"

    async with served(server) as running:
        client = TaskClient(running.port)
        failed = (await client.call("tools/call", call("fails"))).result
        assert failed["isError"] and failed["content"][0]["text"] == "not today"
        asked = (await client.call("tools/call", call("twice"))).result
        answers = {"input": {"action": "accept", "content": {"name": "x"}}}
        params = {**call("twice"), "requestState": asked["requestState"], "inputResponses": answers}
        made = (await client.call("tools/call", params)).result
        assert text_of(await client.until(made["taskId"])) == "True True 1"


async def test_a_tool_that_is_added_while_it_serves_has_no_tasks(caplog: pytest.LogCaptureFixture) -> None:
    server = MCPServer("too late")
    server.add_tool(lambda: "x", name="plain")
    tasks = Tasks({"plain": "optional"})
    async with served(server) as running:
        client = TaskClient(running.port)
        found = await client.call("tools/call", call("plain"))
        assert found.result["resultType"] == "complete"
        with pytest.raises(MCPError):
            tasks._engine(SimpleNamespace(_exchange=SimpleNamespace(runtime=running.runtime)))  # type: ignore[arg-type]
        assert "after the server had begun" in caplog.text


async def test_a_store_that_fails_on_the_way_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    async with listening(Jobs(), port=0, store=MemoryStore(hub), grace=0.0) as server:
        client, engine = TaskClient(server.port), engine_of(server)
        task_id = await client.start("ask")
        await client.until(task_id, "input_required")
        for wrong, status in ((StoreError("away"), 503), (TaskGone(), 400)):

            async def failing(*args: Any, wrong: Exception = wrong) -> Any:
                raise wrong

            with monkeypatch.context() as patch:
                patch.setattr(engine.records, "change", failing)
                for answer in (await client.answer(task_id, input="x"), await client.cancel(task_id)):
                    assert answer.status == status
        # Nothing of it was lost: the client asks again.
        await client.answer(task_id, input="Ada")
        assert (await client.until(task_id))["status"] == "completed"


@pytest.mark.parametrize("wrong", [StoreError("away"), TaskGone()])
async def test_a_question_that_cannot_be_kept_is_an_error_of_the_tool(
    monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    async with served(Jobs()) as server:
        client, engine = TaskClient(server.port), engine_of(server)
        change = engine.records.change

        async def failing(key: str, step: Any) -> Any:
            monkeypatch.setattr(engine.records, "change", change)  # the first change is the question
            raise wrong

        monkeypatch.setattr(engine.records, "change", failing)
        ended = await client.until(await client.start("ask"))
        assert ended["status"] == "failed" or ended["result"]["isError"]


async def test_questions_that_do_not_fit_are_an_error_of_the_tool() -> None:
    async with served(Jobs(max_bytes=400)) as server:
        ended = await TaskClient(server.port).until(await TaskClient(server.port).start("two"))
        assert ended["result"]["isError"] and "The questions cannot be kept" in ended["result"]["content"][0]["text"]


async def test_listeners_are_told_again_after_a_gap_and_when_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    async with (
        listening(Jobs(), port=0, store=MemoryStore(hub), grace=0.0) as one,
        listening(Jobs(), port=0, store=MemoryStore(hub), grace=0.0) as two,
    ):
        client, engine = TaskClient(two.port), engine_of(two)
        task_id = await TaskClient(one.port).start("hold")
        async with client.listen(taskIds=[task_id, "never was"]) as stream:
            await stream.next_message()
            assert (await stream.next_message())["params"]["status"] == "working"
            load = engine.records.load

            async def away(key: str) -> Any:
                monkeypatch.setattr(engine.records, "load", load)
                raise StoreError("away")

            monkeypatch.setattr(engine.records, "load", away)
            two.runtime.fleet.on_missed()  # told of nothing, since the store is away
            with anyio.fail_after(LIMIT):
                while engine._telling:
                    await asyncio.sleep(0.001)
            two.runtime.fleet.on_missed()
            assert (await stream.next_message())["params"]["status"] == "working"
            assert engine._watched and len(engine._heard) == 1
    assert not two.runtime.fleet._watched  # the end of the server takes it back


class Odd(BaseException):
    """Not an Exception, as few things are."""


async def test_whatever_a_function_does_its_task_ends() -> None:
    server = MCPServer("odd")

    @server.tool(task="optional", timeout=math.inf)
    async def odd(how: str) -> str:
        if how == "raise":
            raise Odd
        return how

    async with served(server) as running:
        client = TaskClient(running.port)
        ended = await client.until(await client.start("odd", how="raise"))
        assert ended["status"] == "failed" and ended["error"] == {"code": -32603, "message": "Internal error"}
        assert (await client.until(await client.start("odd", how="well")))["status"] == "completed"


async def test_an_error_that_cannot_be_sent_is_an_internal_one() -> None:
    server = MCPServer("unsound")

    @server.tool(task="optional")
    async def unsound() -> str:
        raise MCPError("no number", "text")  # type: ignore[arg-type]

    async with served(server) as running:
        client = TaskClient(running.port)
        ended = await client.until(await client.start("unsound"))
        assert ended["error"] == {"code": -32603, "message": "Internal error"}


async def test_a_server_that_ends_while_its_store_is_away_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.0) as server:
        await TaskClient(server.port).start("hold")
        await jobs.noted("began hold")

        async def away(*args: Any) -> Any:
            raise StoreError("away")

        server.runtime.fleet.records.load = away
        await engine_of(server).runs[next(iter(engine_of(server).runs))].look()
    assert "the end of a task is lost" in caplog.text


async def test_a_function_that_is_left_behind_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs(run_limit=0.05)
    async with served(jobs) as server:
        client = TaskClient(server.port)
        ended = await client.until(await client.start("stubborn"))
        assert ended["result"]["isError"] and "ignores its cancellation" in caplog.text
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while server.runtime.tasks:
                await asyncio.sleep(0.001)


# --- a clock of its own ----------------------------------------------------------------------------------------------


def test_ten_minutes_of_a_task_and_the_hour_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MCPServer("slow", extensions=[Tasks(keep=3_600.0)])
    asked: list[float] = []

    @server.tool(task="required", timeout=1_000)
    async def slow(ctx: Context) -> str:
        for minute in range(1, 11):
            await asyncio.sleep(60)
            await ctx.report_progress(minute, 10, f"minute {minute}")
        return "ten minutes"

    loop = VirtualLoop()
    monkeypatch.setattr(Runtime, "now", lambda self: loop.time())

    async def play() -> None:
        async with Client(server) as client:
            began = loop.time()
            handle = await client.call_tool("slow", task=True)
            said: list[str] = []
            status = handle.status

            async def counted() -> dict[str, Any]:
                asked.append(loop.time())
                return await status()

            monkeypatch.setattr(handle, "status", counted)
            result = await handle.result(on_status=lambda now: said.append(now.get("statusMessage", now["status"])))
            assert result["content"][0]["text"] == "ten minutes"
            assert said == ["working", *(f"minute {n}" for n in range(1, 11)), "completed"] or said[-1] == "completed"
            assert 600 <= loop.time() - began < 612
            # It listens, so it asks at each change and now and then, and not each second.
            assert len(asked) < 90
            await asyncio.sleep(3_590)
            assert (await status())["status"] == "completed"
            await asyncio.sleep(20)
            with pytest.raises(MCPError, match="Unknown task"):
                await status()

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
    assert not loop.failures


async def test_a_function_may_begin_its_task_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MCPServer("twice", extensions=[Tasks()])

    @server.tool(task="later")
    async def twice(ctx: Context) -> str:
        return str(await asyncio.gather(ctx.start_task(), ctx.start_task()))

    real = TaskRecords.create

    async def slowly(records: TaskRecords, *details: Any) -> None:
        await asyncio.sleep(0)  # as a store does
        await real(records, *details)

    monkeypatch.setattr(TaskRecords, "create", slowly)
    async with served(server) as running:
        client = TaskClient(running.port)
        assert text_of(await client.until(await client.start("twice"))) == "[True, True]"
