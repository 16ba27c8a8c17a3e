# SPDX-License-Identifier: MIT
"""Input rounds inside a task, tasks that begin after the rounds of their call, and notices on listen streams."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Modern
from serving import call
from serving import served as served_for_long
from tasks_support import ABLE, TASKS, Jobs, TaskClient, text_of, users
from test_tasks import engine_of

from mcp_h11.extensions import tasks_engine
from mcp_h11.extensions.tasks import MAX_LISTENED

pytestmark = pytest.mark.anyio
served = partial(served_for_long, grace=0.0)
ANSWER = {"action": "accept", "content": {"name": "Ada"}}


async def test_a_question_makes_the_task_wait_and_its_answer_lets_it_go_on() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        task_id = await client.start("ask")
        waiting = await client.until(task_id, "input_required")
        assert waiting["inputRequests"] == {
            "input": {
                "method": "elicitation/create",
                "params": {
                    "mode": "form",
                    "message": "Your name?",
                    "requestedSchema": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}},
                        "required": ["name"],
                    },
                },
            }
        }
        # Keys that were never issued are ignored, and so is an answer that is no object.
        for responses in ({"other": ANSWER}, {"input": "Ada"}, {}):
            acknowledged = await client.call("tasks/update", {"taskId": task_id, "inputResponses": responses})
            assert acknowledged.result.keys() == {"resultType", "_meta"}
            assert (await client.get(task_id))["inputRequests"].keys() == {"input"}
        await client.answer(task_id, input="Ada")
        ended = await client.until(task_id)
        assert text_of(ended) == "accept {'name': 'Ada'}" and "inputRequests" not in ended
        # An answer that comes twice changes nothing.
        assert (await client.answer(task_id, input="Bob")).status == 200
        assert await client.get(task_id) == ended


async def test_several_questions_are_answered_one_by_one() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("two")
        assert (await client.until(task_id, "input_required"))["inputRequests"].keys() == {"first", "second"}
        await client.answer(task_id, second="B")
        left = await client.get(task_id)
        assert left["status"] == "input_required" and left["inputRequests"].keys() == {"first"}
        await client.answer(task_id, first="A", second="C")
        assert text_of(await client.until(task_id)) == "first={'name': 'A'} second={'name': 'B'}"


async def test_an_answer_that_cannot_be_read_is_asked_again_under_another_key() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("ask")
        for key in ("input", "input-2", "input-3"):
            with anyio.fail_after(LIMIT):
                while key not in (await client.until(task_id, "input_required", "working")).get("inputRequests", {}):
                    await asyncio.sleep(0.005)
            await client.call("tasks/update", {"taskId": task_id, "inputResponses": {key: {"action": "perhaps"}}})
        ended = await client.until(task_id)
        assert ended["result"]["isError"] and "answer cannot be used" in text_of(ended)


async def test_a_question_without_an_answer_ends_in_time() -> None:
    async with served(Jobs(), ask_timeout=0.05) as server:
        client = TaskClient(server.port)
        task_id = await client.start("ask")
        ended = await client.until(task_id)
        assert ended["result"]["isError"] and text_of(ended) == "The client did not answer in time"
        with anyio.fail_after(LIMIT):
            while server.runtime.tasks:
                await asyncio.sleep(0.001)


async def test_a_client_that_cannot_be_asked_fails_the_task() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port, capabilities={"extensions": {TASKS: {}}})
        ended = await client.until(await client.start("ask"))
        assert ended["status"] == "failed" and ended["error"]["code"] == -32021


async def test_questions_that_a_function_returns_are_rounds_of_the_task() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("rounds")
        asked = (await client.until(task_id, "input_required"))["inputRequests"]
        assert asked.keys() == {"name"} and asked["name"]["params"]["message"] == "After None?"
        await client.answer(task_id, name="A")
        # "A server MUST NOT reuse a key"
        with anyio.fail_after(LIMIT):
            while not (asked := (await client.get(task_id)).get("inputRequests")):
                await asyncio.sleep(0.005)
        assert asked.keys() == {"name-2"} and asked["name-2"]["params"]["message"] == "After A?"
        await client.answer(task_id, name_2="B")
        assert text_of(await client.until(task_id)) == "in the end B"


async def test_a_function_that_returns_a_state_alone_runs_again() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        assert text_of(await client.until(await client.start("stepping"))) == "{} after one"


async def test_a_function_that_never_has_enough_fails() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("again")
        answered: set[str] = set()
        with anyio.fail_after(LIMIT):
            while (state := await client.get(task_id))["status"] != "failed":
                for key in state.get("inputRequests", {}).keys() - answered:
                    answered.add(key)
                    await client.answer(task_id, **{key.replace("-", "_"): "x"})
        assert state["error"]["message"] == "The tool still asks for input after 10 rounds" and len(answered) == 10


async def test_a_call_may_ask_before_it_becomes_a_task() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        first = (await client.call("tools/call", call("late"))).result
        assert first["resultType"] == "input_required" and "taskId" not in first
        assert first["inputRequests"]["input"]["params"]["message"] == "Before?"
        params = {**call("late"), "inputResponses": {"input": ANSWER}, "requestState": first["requestState"]}
        made = (await client.call("tools/call", params)).result
        assert made["resultType"] == "task" and "requestState" not in made and "inputRequests" not in made
        assert made["statusMessage"] == "It has begun"
        waiting = await client.until(made["taskId"], "input_required")
        assert waiting["inputRequests"]["input-2"]["params"]["message"] == "Within?"
        await client.answer(made["taskId"], input_2="Bob")
        ended = await client.until(made["taskId"])
        assert text_of(ended) == "{'name': 'Ada'} None True {'name': 'Bob'}" and jobs.log == ["once"]
        # The same round a second time would play `once` again.
        again = await client.call("tools/call", params)
        assert again.error["code"] == -32602 and "played before" in again.error["message"]


async def test_without_tasks_such_a_call_is_plain() -> None:
    async with served(Jobs()) as server:
        client = Modern(server.port, capabilities={"elicitation": {}})
        first = (await client.call("tools/call", call("late"))).result
        params = {**call("late"), "inputResponses": {"input": ANSWER}, "requestState": first["requestState"]}
        assert (await client.call("tools/call", params)).result["content"][0][
            "text"
        ] == "{'name': 'Ada'} None False None"


async def test_a_call_that_ends_before_it_becomes_a_task_is_answered_as_ever() -> None:
    jobs = Jobs()
    async with served(jobs, patience=0.05) as server:
        client = TaskClient(server.port)
        assert (await client.call("tools/call", call("never"))).result["content"][0]["text"] == "at once"
        refused = await client.call("tools/call", call("never", how="error"))
        assert refused.error == {"code": -32602, "message": "not so"}
        # Its client leaves: the function is cancelled, as that of any call.
        async with client.posting(client.request("tools/call", call("never", how="wait"))) as stream:
            await jobs.noted("began never")
            stream.abort()
        await jobs.noted("cancelled never")
        with anyio.fail_after(LIMIT):
            while engine_of(server).places.total:
                await asyncio.sleep(0.001)
        assert not await engine_of(server).records.count()


# --- listen streams --------------------------------------------------------------------------------------------------


async def heard(stream: Any, count: int = 1) -> list[dict[str, Any]]:
    """So many notifications of tasks, by their params without the name of the stream."""
    found = []
    while len(found) < count:
        message = await stream.next_message()
        assert message["method"] == "notifications/tasks"
        params = dict(message["params"])
        params["_meta"] = {k: v for k, v in params["_meta"].items() if not k.endswith("/subscriptionId")}
        if not params["_meta"]:
            del params["_meta"]
        found.append(params)
    return found


async def test_a_listener_hears_the_state_and_each_change() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        task_id = await client.start("ask")
        await client.until(task_id, "input_required")
        async with client.listen(taskIds=[task_id]) as stream:
            acknowledged = await stream.next_message()
            assert acknowledged["params"]["notifications"] == {"taskIds": [task_id]}
            (now,) = await heard(stream)
            waiting = await client.get(task_id)
            assert now == {k: v for k, v in waiting.items() if k not in ("resultType", "_meta")}
            await client.answer(task_id, input="Ada")
            while (state := (await heard(stream))[0])["status"] != "completed":
                assert state["status"] in ("working", "input_required")
            assert text_of(state) == "accept {'name': 'Ada'}"
        assert not engine_of(server)._heard and not engine_of(server)._telling


async def test_a_listener_hears_at_once_of_a_task_that_has_ended() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        task_id = await client.start("fail")
        await client.until(task_id)
        async with client.listen(taskIds=[task_id, "never was"]) as stream:
            # Agreed to alike: the answer does not say which tasks there are.
            assert (await stream.next_message())["params"]["notifications"]["taskIds"] == [task_id, "never was"]
            assert (await heard(stream))[0]["status"] == "completed"


async def test_a_listener_hears_nothing_of_tasks_of_others() -> None:
    jobs = Jobs()
    async with served(jobs, authorize=users) as server:
        anna, boris = TaskClient(server.port, user="anna"), TaskClient(server.port, user="boris")
        task_id = await anna.start("hold")
        async with boris.listen(taskIds=[task_id], toolsListChanged=True) as stream:
            assert (await stream.next_message())["params"]["notifications"]["taskIds"] == [task_id]
            async with anna.listen(taskIds=[task_id]) as hers:
                await hers.next_message()
                jobs.released.set()
                while (await heard(hers))[0]["status"] != "completed":
                    pass
            jobs.notify_tools_changed()
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


async def test_listening_to_tasks_needs_the_extension() -> None:
    async with served(Jobs()) as server:
        client = Modern(server.port)
        refused = await client.call("subscriptions/listen", {"notifications": {"taskIds": ["x"]}})
        assert (refused.status, refused.error["code"]) == (400, -32021)
        assert refused.error["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


async def test_the_tasks_of_a_listener_are_bounded() -> None:
    async with served(Jobs()) as server:
        client = TaskClient(server.port)
        for wrong in ("x", [1], [f"{n}" for n in range(MAX_LISTENED + 1)]):
            refused = await client.call("subscriptions/listen", {"notifications": {"taskIds": wrong}})
            assert (refused.status, refused.error["code"]) == (400, -32602), wrong
        async with client.listen(taskIds=[f"{n}" for n in range(MAX_LISTENED)]) as stream:
            assert len((await stream.next_message())["params"]["notifications"]["taskIds"]) == MAX_LISTENED


async def test_the_keys_that_a_worker_remembers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_engine, "MAX_HEARD", 2)
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port)
        ids = [await client.start("hold") for _ in range(3)]
        async with client.listen(taskIds=ids) as stream:
            await stream.next_message()
            await heard(stream, 2)
            assert len(engine_of(server)._heard) == 2
            jobs.released.set()
            while engine_of(server)._heard:
                await heard(stream)


async def test_a_listener_that_leaves_is_forgotten_with_the_task() -> None:
    jobs = Jobs()
    async with served(jobs) as server:
        client = TaskClient(server.port, capabilities=ABLE)
        task_id = await client.start("hold")
        async with client.listen(taskIds=[task_id]) as stream:
            await stream.next_message()
            stream.abort()
        jobs.released.set()
        await client.until(task_id)
        with anyio.fail_after(LIMIT):
            while engine_of(server)._heard:
                await asyncio.sleep(0.001)
