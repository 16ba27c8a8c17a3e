# SPDX-License-Identifier: MIT
"""Tasks of a backend through a bridge: where both ends have them, for their own principal alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern
from serving import call
from tasks_support import ABLE, TASKS, Jobs, TaskClient, text_of, users

from mcp_h11 import Client, MCPServer, listening
from mcp_h11.bridge.generations import IDLE_TIME
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.targets import Url
from mcp_h11.handler.extension import Extension, ExtensionMethod

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def bridged(backend: MCPServer, revision: str | None = None, **options: Any) -> AsyncIterator[Any]:
    """A bridge onto a server over HTTP."""
    per_session = options.pop("per_session", False)
    async with listening(backend, port=0, grace=0.0) as behind:
        handler = ProxyHandler(Url(behind.url, revision=revision), per_session=per_session)
        async with listening(handler, port=0, grace=0.0, **options) as front:
            yield front


@pytest.mark.parametrize("per_session", [False, True])
async def test_a_task_goes_through_with_its_questions_and_its_end(per_session: bool) -> None:
    jobs = Jobs()
    async with bridged(jobs, per_session=per_session) as front:
        client = TaskClient(front.port)
        discovered = (await client.call("server/discover")).result["capabilities"]
        assert discovered["extensions"] == {TASKS: {}}
        task_id = await client.start("two")
        assert (await client.until(task_id, "input_required"))["inputRequests"].keys() == {"first", "second"}
        await client.answer(task_id, first="A")
        assert (await client.get(task_id))["inputRequests"].keys() == {"second"}
        await client.answer(task_id, second="B")
        assert text_of(await client.until(task_id)) == "first={'name': 'A'} second={'name': 'B'}"
        held = await client.start("hold")
        await client.cancel(held)
        await jobs.noted("cancelled hold")
        first = (await client.call("tools/call", call("late"))).result
        params = {"inputResponses": {"input": {"action": "accept", "content": {"name": "A"}}}}
        made = await client.call("tools/call", {**call("late"), **params, "requestState": first["requestState"]})
        assert made.result["resultType"] == "task"


async def test_the_handle_of_a_client_works_through_a_bridge() -> None:
    def answered(params: dict[str, Any]) -> dict[str, Any]:
        return {"action": "accept", "content": {"name": params["message"]}}

    async with bridged(Jobs()) as front, Client(front.url, on_elicitation=answered) as client:
        handle = await client.call_tool("ask", task=True)
        assert (await handle.result(timeout=LIMIT))["content"][0]["text"] == "accept {'name': 'Your name?'}"
        assert handle.id is not None
        assert (await client.task(handle.id).status())["status"] == "completed"


async def test_a_task_belongs_to_the_principal_at_the_bridge() -> None:
    async with bridged(Jobs(), authorize=users) as front:
        anna, boris = TaskClient(front.port, user="anna"), TaskClient(front.port, user="boris")
        task_id = await anna.start("hold")
        found = await anna.get(task_id)
        assert found["status"] == "working" and len(task_id) > 40
        again = found["taskId"]
        for client, known in ((anna, True), (boris, False)):
            for one in (task_id, again):
                for method in ("tasks/get", "tasks/update", "tasks/cancel"):
                    if method == "tasks/cancel" and known:
                        continue
                    answer = await client.call(method, {"taskId": one, "inputResponses": {}})
                    assert answer.status == (200 if known else 400), (method, known)
                    if not known:
                        never = await client.call(method, {"taskId": "never was", "inputResponses": {}})
                        assert answer.error == never.error


async def test_without_tasks_at_either_end_there_are_none() -> None:
    jobs = Jobs()
    jobs.released.set()
    async with bridged(jobs) as front:
        modern = Modern(front.port)
        assert (await modern.call("tools/call", call("hold"))).result["resultType"] == "complete"
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            refused = await modern.call(method, {"taskId": "x", "inputResponses": {}})
            assert (refused.status, refused.error["code"]) == (400, -32021)
        assert (await TaskClient(front.port).call("tasks/list")).error["code"] == -32601
        async with Legacy(front.port, "2025-11-25") as legacy:
            assert TASKS not in legacy.initialized["capabilities"].get("extensions", {})
            assert (await legacy.call("tasks/get", {"taskId": "x"})).error["code"] == -32601
            assert (await legacy.call("tools/call", call("hold"))).result["content"][0]["text"] == "hold released"
            refused = (await legacy.call("tools/call", call("ask"))).result
            assert refused["isError"] and TASKS in refused["content"][0]["text"]
    # A backend of an earlier revision, and one that has no tasks.
    plain = MCPServer("plain")
    plain.add_tool(lambda: "x", name="tool")
    for backend, revision in ((Jobs(), "2025-11-25"), (plain, None)):
        async with bridged(backend, revision) as front:
            client = TaskClient(front.port)
            offered = (await client.call("server/discover")).result["capabilities"]
            assert TASKS not in offered.get("extensions", {})
            assert (await client.call("tasks/get", {"taskId": "x"})).error["code"] == -32601


async def test_a_listener_at_a_bridge_hears_of_no_tasks() -> None:
    async with bridged(Jobs()) as front:
        client = TaskClient(front.port)
        task_id = await client.start("hold")
        async with client.listen(taskIds=[task_id], toolsListChanged=True) as stream:
            assert (await stream.next_message())["params"]["notifications"] == {"toolsListChanged": True}


async def test_a_backend_of_one_principal_lives_while_its_task_may_run() -> None:
    async with bridged(Jobs(), per_session=True, authorize=users) as front:
        client = TaskClient(front.port, user="anna", capabilities=ABLE)
        await client.start("hold")
        generation = front.runtime.handler._generations.now
        (backend,) = generation.own.values()
        backend.used = time.monotonic() - 2 * IDLE_TIME
        generation.sweep()
        assert [*generation.own.values()] == [backend]
        backend.busy_until = 0.0
        generation.sweep()
        assert not generation.own
        with anyio.fail_after(LIMIT):
            while backend.client is not None:
                await anyio.sleep(0.005)


class Liar(Extension):
    """A backend that answers each call with a task, each request for a task with another one, and echoes ids."""

    identifier = TASKS

    def __init__(self, **members: Any) -> None:
        self.made = {"resultType": "task", "taskId": "raw", "status": "working", "ttlMs": 1_000, **members}
        self.found = {"taskId": "other", "status": "working"}

    async def call_tool(self, params: Any, ctx: Any, call: Any) -> Any:
        return self.made

    def methods(self) -> dict[str, Any]:
        async def get(params: Any, ctx: Any) -> dict[str, Any]:
            return self.found

        async def echo(params: Any, ctx: Any) -> dict[str, Any]:
            return {"taskId": params["id"]}

        mirrored = ExtensionMethod(get, mirrored="taskId")
        return {"tasks/get": mirrored, "example/echo": ExtensionMethod(echo, announced=False)}


def lying(**members: Any) -> MCPServer:
    server = MCPServer("liar", extensions=[Liar(**members)])
    server.add_tool(lambda: "x", name="tool")
    return server


async def test_the_id_of_a_task_stays_the_same_for_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bridged(Jobs(), authorize=users) as front:
        anna = TaskClient(front.port, user="anna")
        task_id = await anna.start("hold")
        began = front.runtime.now()
        monkeypatch.setattr(front.runtime, "now", lambda: began + 5.0)
        assert (await anna.get(task_id))["taskId"] == task_id


async def test_a_task_that_the_client_did_not_ask_for_is_an_error() -> None:
    async with bridged(lying()) as front:
        refused = await Modern(front.port).call("tools/call", call("tool"))
        assert refused.error["code"] == -32603 and "did not ask for" in refused.error["message"]
        async with Legacy(front.port, "2025-11-25") as legacy:
            assert (await legacy.call("tools/call", call("tool"))).error["code"] == -32603
        assert (await TaskClient(front.port).call("tools/call", call("tool"))).result["taskId"] == "raw"


async def test_another_task_than_the_one_that_was_asked_for_is_an_error() -> None:
    async with bridged(lying(), authorize=users) as front:
        anna = TaskClient(front.port, user="anna")
        refused = await anna.call("tasks/get", {"taskId": await anna.start("tool")})
        assert refused.error["code"] == -32603 and "another task" in refused.error["message"]


@pytest.mark.parametrize("ttl", [10**400, -1, 0, "long", True])
async def test_a_time_to_live_that_makes_no_sense_passes(ttl: Any) -> None:
    async with bridged(lying(ttlMs=ttl), authorize=users) as front:
        anna = TaskClient(front.port, user="anna")
        assert (await anna.call("tools/call", call("tool"))).result["ttlMs"] == ttl


async def test_an_id_that_is_too_long_to_be_sealed_is_an_error_of_the_backend() -> None:
    async with bridged(lying(taskId="x" * 100_000), authorize=users) as front:
        refused = await TaskClient(front.port, user="anna").call("tools/call", call("tool"))
        assert refused.error["code"] == -32603 and "The backend" in refused.error["message"]


async def test_no_other_method_of_a_backend_makes_an_id_of_a_task() -> None:
    async with bridged(lying(), authorize=users) as front:
        anna = TaskClient(front.port, user="anna")
        echoed = (await anna.call("example/echo", {"id": "a task of boris"})).result
        assert echoed["taskId"] == "a task of boris"
