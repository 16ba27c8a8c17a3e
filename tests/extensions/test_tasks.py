# SPDX-License-Identifier: MIT
"""Tasks on the wire of one server: how a call becomes one, its ends, its limits, and the clients that have none."""

from __future__ import annotations

import asyncio
import json
import re
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern
from serving import call
from serving import served as served_for_long
from tasks_support import ABLE, NAME, TASKS, Jobs, TaskClient, text_of, users

from mcp_h11 import Context, MCPServer, listening, start_in_thread
from mcp_h11.extensions import tasks_state as state
from mcp_h11.extensions.tasks import MAX_BYTES, Tasks
from mcp_h11.extensions.tasks_engine import TaskEngine
from mcp_h11.extensions.tasks_records import key_of_task
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio

served = partial(served_for_long, grace=0.0)  # a test that leaves a task behind need not wait for it
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def engine_of(server: Any) -> TaskEngine:
    tasks = next(one for one in server.runtime.handler.extensions() if isinstance(one, Tasks))
    return tasks._engines[server.runtime]


async def test_a_call_is_answered_with_a_task_and_runs_on() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        answer = await client.call("tools/call", {**call("hold"), "task": {"ttl": 1, "pollInterval": 1}})
        made = answer.result
        assert answer.status == 200 and made["resultType"] == "task" and made["status"] == "working"
        assert made["ttlMs"] == 7_200_000 and made["pollIntervalMs"] == 1000
        assert MOMENT.fullmatch(made["createdAt"]) and MOMENT.fullmatch(made["lastUpdatedAt"])
        assert not made.keys() & {"task", "ttl", "result", "error", "inputRequests", "requestState", "content"}
        assert re.fullmatch("[0-9a-f]{40}", made["taskId"])
        await jobs.noted("began hold")
        working = await client.get(made["taskId"])
        assert working["status"] == "working" and working["resultType"] == "complete" and "result" not in working
        jobs.released.set()
        ended = await client.until(made["taskId"])
        assert ended["status"] == "completed" and text_of(ended) == "hold released"
        assert ended["createdAt"] == made["createdAt"] and 3_600_000 <= ended["ttlMs"] < 7_200_000
        assert not engine_of(server).runs and not engine_of(server).places.total


async def test_the_extension_is_announced_in_the_newest_era_alone() -> None:
    async with served(Jobs()) as server:
        discovered = (await Modern(server.port).call("server/discover")).result
        assert discovered["capabilities"]["extensions"] == {TASKS: {}}
        assert "tasks" not in discovered["capabilities"]
        async with Legacy(server.port, "2025-11-25") as legacy:
            assert "extensions" not in legacy.initialized["capabilities"]
            for method in ("tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list"):
                assert (await legacy.call(method, {"taskId": "x"})).error["code"] == -32601
            # The extension "is not defined under the 2025-11-25 protocol version": tools run as they always did.
            server.runtime.handler.released.set()
            assert (await legacy.call("tools/call", call("hold"))).result["content"][0]["text"] == "hold released"
            refused = (await legacy.call("tools/call", call("ask"))).result
            assert refused["isError"] and TASKS in refused["content"][0]["text"]


async def test_a_client_that_announces_nothing_gets_no_task() -> None:
    jobs = Jobs()
    jobs.released.set()
    async with served(jobs) as server:
        client = Modern(server.port)
        plain = (await client.call("tools/call", call("hold"))).result
        assert plain["resultType"] == "complete" and plain["content"][0]["text"] == "hold released"
        needed = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        refused = await client.call("tools/call", call("ask"))
        assert refused.status == 400 and refused.error["code"] == -32021 and refused.error["data"] == needed
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            refused = await client.call(method, {"taskId": "x", "inputResponses": {}})
            assert refused.status == 400 and refused.error["code"] == -32021 and refused.error["data"] == needed
        # The capability of 2025-11-25 does not count.
        old = Modern(server.port, capabilities={"tasks": {"requests": {"tools": {"call": {}}}}})
        assert (await old.call("tools/call", call("hold"))).result["resultType"] == "complete"


async def test_plain_tools_and_removed_methods_are_as_ever() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        assert (await client.call("tools/call", call("plain", text="x"))).result["content"][0]["text"] == "plain x"
        for method in ("tasks/result", "tasks/list"):
            answer = await client.call(method, {"taskId": "x"})
            assert (answer.status, answer.error["code"]) == (404, -32601)


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("fail", {}, "as foreseen"),
        ("fail", {"how": "bug"}, "a bug"),
        ("leave", {}, "The tool tried to end the server"),
        ("hold", {"label": [1]}, "label"),
        ("nan", {}, "cannot be sent"),
    ],
)
async def test_an_error_of_the_tool_is_a_result(tool: str, arguments: dict[str, Any], text: str) -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        ended = await client.until(await client.start(tool, **arguments))
        assert ended["status"] == "completed" and ended["result"]["isError"] and "error" not in ended
        assert text in text_of(ended) or tool == "leave"


async def test_an_error_of_the_protocol_fails_the_task() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        ended = await client.until(await client.start("refuse"))
        assert ended["status"] == "failed" and "result" not in ended and ended["statusMessage"] == "no such thing"
        assert ended["error"] == {"code": -32602, "message": "no such thing", "data": {"why": "because"}}


async def test_a_wrong_request_says_what_is_wrong() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("hold")
        for method, params in (
            ("tasks/get", {}),
            ("tasks/get", {"taskId": 5}),
            ("tasks/cancel", {"taskId": None}),
            ("tasks/update", {"taskId": task_id}),
            ("tasks/update", {"taskId": task_id, "inputResponses": []}),
        ):
            answer = await client.call(method, params)
            assert (answer.status, answer.error["code"]) == (400, -32602), params
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            params = {"taskId": task_id, "inputResponses": {}}
            answer = await client.call(method, params, headers={"Mcp-Name": "another"})
            assert (answer.status, answer.error["code"]) == (400, -32020)
            answer = await client.call(method, params, headers={"Mcp-Name": None})
            assert (answer.status, answer.error["code"]) == (400, -32020)


async def test_a_task_of_another_principal_looks_like_one_that_never_was() -> None:
    async with served(Jobs(), authorize=users) as server:
        anna, boris = TaskClient(server.port, user="anna"), TaskClient(server.port, user="boris")
        task_id = await anna.start("hold")
        never = "A" * len(task_id)
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            seen = []
            for one in (task_id, never):
                request = boris.request(method, {"taskId": one, "inputResponses": {}}, id=7)
                response = await boris.post(request)
                kept = {name: value for name, value in response.headers.items() if name != "date"}
                seen.append((response.status, kept, response.body.replace(one.encode(), b"?")))
            assert seen[0] == seen[1] and json.loads(seen[0][2])["error"]["code"] == -32602
        assert (await anna.get(task_id))["status"] == "working"


async def test_cancelling_ends_the_function_and_is_acknowledged_each_time() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        task_id = await client.start("hold")
        await jobs.noted("began hold")
        for _ in range(2):
            acknowledged = (await client.cancel(task_id)).result
            assert acknowledged.keys() == {"resultType", "_meta"} and acknowledged["resultType"] == "complete"
            assert (await client.get(task_id))["status"] == "cancelled"
        await jobs.noted("cancelled hold")
        assert (await client.answer("nothing")).error["code"] == -32602
        jobs.released.set()
        done = await client.start("hold")
        await client.until(done)
        assert (await client.cancel(done)).status == 200
        assert (await client.get(done))["status"] == "completed"


async def test_a_function_that_ignores_its_cancellation_changes_nothing() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        task_id = await client.start("stubborn")
        await jobs.noted("began stubborn")
        await client.cancel(task_id)
        await jobs.noted("ignored")
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while engine_of(server).runs:
                await asyncio.sleep(0.001)
        assert (await client.get(task_id))["status"] == "cancelled"


async def test_a_task_that_runs_too_long_says_so() -> None:
    jobs = Jobs(run_limit=0.05)
    async with served(jobs) as server:
        client = TaskClient(server.port)
        ended = await client.until(await client.start("hold"))
        assert ended["status"] == "completed" and ended["result"]["isError"]
        assert text_of(ended) == "Timed out after 0.05 s"


async def test_progress_is_the_status_message() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        task_id = await client.start("progress", many=3)
        with anyio.fail_after(LIMIT):
            while "statusMessage" not in (state := await client.get(task_id)):
                await asyncio.sleep(0.005)
        assert state["status"] == "working" and state["statusMessage"] == "step 3"
        assert state["_meta"]["mcp-h11/progress"] == {"progress": 3, "total": 3}
        jobs.released.set()
        assert "statusMessage" not in await client.until(task_id)


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_the_limit_of_tasks_holds_for_all_and_for_each_client() -> None:
    jobs = Jobs(max_tasks=3, max_client_tasks=2)
    async with served(jobs, authorize=users) as server:
        anna, boris = TaskClient(server.port, user="anna"), TaskClient(server.port, user="boris")
        first = await anna.start("hold")
        await anna.start("hold")
        refused = await anna.call("tools/call", call("hold"))
        assert refused.status == 503 and "This client has too many tasks" in refused.error["message"]
        await boris.start("hold")
        refused = await boris.call("tools/call", call("hold"))
        assert refused.status == 503 and "There are too many tasks" in refused.error["message"]
        assert engine_of(server).places.total == 3 and len(jobs.log) == 3
        # One that has ended still has its place: its client may come for the result.
        await anna.cancel(first)
        assert (await anna.call("tools/call", call("hold"))).status == 503


async def test_the_limit_of_running_tasks_leaves_out_those_that_wait_for_their_client() -> None:
    jobs = Jobs(max_running=1)
    async with served(jobs) as server:
        client = TaskClient(server.port)
        waiting = await client.start("ask")
        await client.until(waiting, "input_required")
        running = await client.start("hold")
        refused = await client.call("tools/call", call("hold"))
        assert refused.status == 503 and "Too many tasks are running" in refused.error["message"]
        await client.cancel(running)
        await jobs.noted("cancelled hold")
        await client.answer(waiting, input="Ada")
        assert text_of(await client.until(waiting)) == "accept {'name': 'Ada'}"
        await client.start("hold")


async def test_tasks_that_are_answered_all_at_once_do_not_run_all_at_once() -> None:
    jobs = Jobs(max_running=2)

    async def ask_and_hold(ctx: Context) -> str:
        await ctx.elicit("Your name?", NAME)
        return await jobs.hold("asked")

    jobs.add_tool(ask_and_hold, task="required")
    async with served(jobs) as server:
        client, engine = TaskClient(server.port), engine_of(server)
        ids = []
        for _ in range(5):
            ids.append(await client.start("ask_and_hold"))
            await client.until(ids[-1], "input_required")
        for task_id in ids:
            await client.answer(task_id, input="Ada")
        await jobs.noted("began asked")
        with anyio.fail_after(LIMIT):
            while sum(map(len, engine.places.lines.values())) < 3:
                await asyncio.sleep(0.005)
        assert jobs.log.count("began asked") == engine.places.total == 2
        assert (await client.call("tools/call", call("hold"))).status == 503
        await client.cancel(ids[4])  # of the line, or of those that run
        jobs.released.set()
        for task_id in ids[:4]:
            assert text_of(await client.until(task_id)) == "asked released"
        assert (await client.until(ids[4]))["status"] == "cancelled"
        with anyio.fail_after(LIMIT):
            while engine.runs:
                await asyncio.sleep(0.005)
        assert not engine.places.total and not engine.places.lines


async def test_a_task_that_asks_several_times_at_once_gives_one_place_back() -> None:
    jobs = Jobs(max_running=2)

    async def ask_twice(ctx: Context) -> str:
        answers = await asyncio.gather(ctx.elicit("One?", NAME), ctx.elicit("Two?", NAME))
        return " ".join(str(answer.action) for answer in answers)

    jobs.add_tool(ask_twice, task="required")
    async with served(jobs) as server:
        client, engine = TaskClient(server.port), engine_of(server)
        task_id = await client.start("ask_twice")
        with anyio.fail_after(LIMIT):
            while len((await client.get(task_id)).get("inputRequests", ())) < 2:
                await asyncio.sleep(0.005)
        assert engine.places.total == 0
        await client.start("hold")
        keys = (await client.get(task_id))["inputRequests"]
        for key in keys:
            await client.answer(task_id, **{key: "Ada"})
        assert text_of(await client.until(task_id)) == "accept accept"
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while engine.runs:
                await asyncio.sleep(0.005)
        assert not engine.places.total


@pytest.mark.parametrize("end", ["cancelled", "ended", "resumed"])
async def test_a_place_is_lost_by_no_end_of_a_wait_for_it(end: str) -> None:
    async with served(Jobs(max_running=1)) as server:
        engine = engine_of(server)
        first: Any = SimpleNamespace(party="p", placed=engine.places.enter("p"), ended=False)
        second: Any = SimpleNamespace(party="p", placed=False, ended=False, entering=asyncio.Lock())
        entering = asyncio.ensure_future(engine.enter_place(second))
        with anyio.fail_after(LIMIT):
            while not engine.places.lines:
                await asyncio.sleep(0)
        if end == "cancelled":
            entering.cancel()  # its turn comes before it hears of that
        second.ended = end == "ended"
        engine.leave_place(first)
        await asyncio.wait({entering}, timeout=LIMIT)
        assert entering.done() and entering.cancelled() == (end == "cancelled")
        assert second.placed == (end == "resumed") and engine.places.total == int(second.placed)
        await engine.enter_place(second)  # once more has no effect on one that has a place, or has ended
        engine.leave_place(second)
        assert not engine.places.total and not engine.places.lines


async def test_the_bytes_of_a_task_are_bounded() -> None:
    async with served(Jobs(max_bytes=10_000)) as server:
        client = TaskClient(server.port)
        fits = await client.until(await client.start("big", size=9_000))
        assert fits["status"] == "completed" and len(text_of(fits)) == 9_000
        over = await client.until(await client.start("big", size=10_000))
        assert over["status"] == "failed" and over["error"]["code"] == -32603
        assert "The result cannot be kept: A task has at most 10000 bytes" in over["error"]["message"]


async def test_an_answer_that_does_not_fit_is_refused() -> None:
    async with served(Jobs(max_bytes=2_000)) as server:
        client = TaskClient(server.port)
        task_id = await client.start("ask")
        await client.until(task_id, "input_required")
        refused = await client.answer(task_id, input="x" * 2_000)
        assert (refused.status, refused.error["code"]) == (400, -32602) and "2000 bytes" in refused.error["message"]
        await client.answer(task_id, input="short")
        assert (await client.until(task_id))["status"] == "completed"


async def test_what_a_client_keeps_counts_as_its_memory() -> None:
    async with served(Jobs(), max_client_memory=100_000) as server:
        client = TaskClient(server.port)
        await client.until(await client.start("big", size=60_000))
        assert server.runtime.memory.total > 60_000
        over = await client.until(await client.start("big", size=60_000))
        assert over["status"] == "failed" and "share of this client" in over["error"]["message"]


@pytest.mark.parametrize("late", [False, True])
async def test_the_arguments_of_a_running_task_count_as_memory_of_its_client(late: bool) -> None:
    jobs = Jobs()

    async def keep(ctx: Context, large: str) -> int:
        await ctx.start_task()
        await jobs.hold("one")
        return len(large)

    jobs.add_tool(keep, task="later" if late else "optional")
    async with served(jobs, max_client_memory=3_000_000) as server:
        client, memory = TaskClient(server.port), server.runtime.memory
        for _ in range(3):
            await client.start("keep", large="x" * 300_000)
        with anyio.fail_after(LIMIT):
            while not 900_000 < memory.total < 1_000_000:  # the requests that brought them are over
                await asyncio.sleep(0.005)
        answers = [await client.call("tools/call", call("keep", large="x" * 300_000)) for _ in range(8)]
        assert answers[-1].status == 503 or "under way" in str(answers[-1].message)
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while memory.total > 11 * 4_000:  # the records, with their results, are left
                await asyncio.sleep(0.005)


async def test_a_task_ends_though_its_client_has_no_memory_left() -> None:
    jobs = Jobs()
    async with served(jobs, max_client_memory=100_000) as server:
        client = TaskClient(server.port)
        small, large, other = [await client.start("hold", label=label) for label in ("a", "b" * 5_000, "c")]
        await jobs.noted("began a", "began c")
        engine = engine_of(server)
        used = server.runtime.memory
        used.add("127.0.0.1", 100_000)
        key = key_of_task(other)
        await engine.change(key, lambda task: state.cancelled(task, server.runtime.now(), 1.0))
        jobs.released.set()
        with anyio.fail_after(LIMIT):
            while engine.runs.keys() - {key}:
                await asyncio.sleep(0.005)
        used.give_back("127.0.0.1", 100_000)
        assert text_of(await client.get(small)) == "a released"
        over = await client.get(large)
        assert over["status"] == "failed" and "share of this client" in over["error"]["message"]
        assert (await client.get(other))["status"] == "cancelled"


async def test_a_task_with_no_room_for_its_result_has_room_for_the_reason() -> None:
    least = len(state.encode(state.Task(state.WORKING, time.time() + 0.123456, time.time() + 0.123456, 7200.0))) + 20
    async with served(Jobs(max_bytes=least)) as server:
        client = TaskClient(server.port)
        over = await client.until(await client.start("big", size=400))
        assert over["status"] == "failed" and f"at most {least} bytes" in over["error"]["message"]
        held = await client.start("hold")
        assert (await client.cancel(held)).status == 200 and (await client.get(held))["status"] == "cancelled"


async def test_expiry_frees_everything() -> None:
    async with served(Jobs(keep=0.2)) as server:
        client = TaskClient(server.port)
        ids = [await client.start("big", size=1_000) for _ in range(5)]
        engine = engine_of(server)
        with anyio.fail_after(LIMIT):
            while await engine.records.count():
                await asyncio.sleep(0.01)
        for task_id in ids:
            assert (await client.call("tasks/get", {"taskId": task_id})).error["code"] == -32602
        local = engine.records._local
        assert local is not None and not local._kept and not local._groups and not local._ends
        with anyio.fail_after(LIMIT):
            while server.runtime.memory.total:
                await asyncio.sleep(0.01)


def test_limits_are_checked_when_they_are_given() -> None:
    for wrong in ({"keep": 0}, {"poll": float("nan")}, {"max_tasks": 0}, {"max_bytes": -1}):
        with pytest.raises(ValueError, match="greater than 0"):
            Tasks(**wrong)  # type: ignore[arg-type]
    for name in ("keep", "run_limit", "poll", "max_bytes"):
        for wrong in (None, float("inf")):  # a task has to have an end, which clients are told
            with pytest.raises(ValueError, match=f"{name} is a number greater than 0"):
                Tasks(**{name: wrong})
    with pytest.raises(ValueError, match='"optional", "required" or "later"'):
        Tasks({"x": "sometimes"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="sometimes"):
        MCPServer().add_tool(lambda: 1, name="x", task="sometimes")  # type: ignore[arg-type]
    assert Tasks(max_tasks=None).max_bytes == MAX_BYTES


# --- the server ------------------------------------------------------------------------------------------------------


async def test_a_tool_that_is_removed_is_no_task_any_more() -> None:
    server = MCPServer("one")
    server.add_tool(lambda: "x", name="x", task="required")
    (tasks,) = (one for one in server.extensions() if isinstance(one, Tasks))
    assert tasks.modes.keys() == {"x"}
    server.remove_tool("x")
    assert not tasks.modes


async def test_a_stop_gives_running_tasks_their_grace_and_then_fails_them() -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=0.05) as server:
        client = TaskClient(server.port)
        stopped = await client.start("hold")
        asked = await client.start("ask")
        await client.until(asked, "input_required")
        await jobs.noted("began hold")
    async with listening(Jobs(), port=0, store=MemoryStore(hub)) as server:
        client = TaskClient(server.port)
        for task_id in (stopped, asked):
            ended = await client.get(task_id)
            assert ended["status"] == "failed"
            assert ended["error"] == {"code": -32603, "message": "The server stopped before the task was done"}


async def test_a_task_that_ends_within_the_grace_is_completed() -> None:
    hub = Hub()
    jobs = Jobs()
    async with listening(jobs, port=0, store=MemoryStore(hub), grace=LIMIT) as server:
        client = TaskClient(server.port)
        task_id = await client.start("hold")
        server.stop()
        asyncio.get_running_loop().call_later(0.05, jobs.released.set)
    async with listening(Jobs(), port=0, store=MemoryStore(hub)) as server:
        assert text_of(await TaskClient(server.port).get(task_id)) == "hold released"


async def test_a_server_that_ends_takes_no_new_tasks() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        server.runtime.draining = True
        refused = await client.call("tools/call", call("hold"))
        assert refused.status == 503
        server.runtime.draining = False


async def test_a_tool_in_a_thread_is_a_task_too() -> None:
    server = MCPServer("threads")

    @server.tool(task="optional")
    def slow(ctx: Context) -> str:
        answer = ctx.wait(ctx.elicit("Your name?", NAME))
        return str(answer.content)

    async with served(server) as running:
        client = TaskClient(running.port)
        task_id = await client.start("slow")
        await client.until(task_id, "input_required")
        await client.answer(task_id, input="Ada")
        assert text_of(await client.until(task_id)) == "{'name': 'Ada'}"


async def test_a_response_as_an_event_stream_is_the_same() -> None:
    async with served(Jobs(), response="sse") as server:
        client = TaskClient(server.port, capabilities=ABLE)
        assert (await client.get(await client.start("hold")))["status"] == "working"


async def test_one_object_in_two_servers_tells_the_listeners_of_each_on_its_own_loop() -> None:
    tasks = Tasks()
    servers = [MCPServer(name, extensions=[tasks]) for name in ("here", "there")]
    with start_in_thread(servers[1], port=0):
        async with served(servers[0]) as server:
            here, there = (tasks._engines[runtime] for runtime in [*tasks._engines][::-1])
            assert here.runtime is server.runtime
            loop, there.runtime.spawn = there.runtime.loop, refuse_to_spawn  # type: ignore[method-assign]
            assert loop is not asyncio.get_running_loop()
            async with TaskClient(server.port).listen(taskIds=["x"]) as stream:
                assert (await stream.next_message())["params"]["notifications"] == {"taskIds": ["x"]}
            assert not there._heard


def refuse_to_spawn(job: Any) -> None:
    job.close()
    raise AssertionError("from another thread")
