# SPDX-License-Identifier: MIT
"""Tasks on several workers with one store: found, answered, cancelled and heard at each, and lost with their worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fleets import KINDS, LIMIT, Workers, fleet, stores_of, until, vanish
from rawclient import Modern
from serving import call
from tasks_support import Jobs, TaskClient, text_of, users
from test_tasks import engine_of
from test_tasks_input import heard

from mcp_h11.extensions.tasks_engine import WORKER_LOST
from mcp_h11.extensions.tasks_records import TASK_SPACE, key_of_task
from mcp_h11.stores.base import StoreError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=KINDS)
async def workers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Workers]:
    async with fleet(partial(Jobs, max_client_tasks=5), stores_of(request, tmp_path), 3, grace=0.0) as made:
        yield made


def clients(workers: Workers, **options: Any) -> list[TaskClient]:
    """A client at each worker."""
    return [TaskClient(server.port, **options) for server in workers.servers]


async def test_a_task_is_found_and_answered_at_every_worker(workers: Workers) -> None:
    one, two, three = clients(workers)
    task_id = await one.start("two")
    assert (await two.until(task_id, "input_required"))["inputRequests"].keys() == {"first", "second"}
    await two.answer(task_id, first="A")
    assert (await three.get(task_id))["inputRequests"].keys() == {"second"}
    await three.answer(task_id, second="B")
    assert text_of(await two.until(task_id)) == "first={'name': 'A'} second={'name': 'B'}"
    assert await one.get(task_id) == await three.get(task_id)


async def test_a_cancellation_reaches_the_worker_that_runs_the_task(workers: Workers) -> None:
    one, two, three = clients(workers)
    task_id = await one.start("hold")
    await workers.handlers[0].noted("began hold")
    assert (await two.cancel(task_id)).status == 200
    assert (await three.get(task_id))["status"] == "cancelled"
    await workers.handlers[0].noted("cancelled hold")


async def test_a_listener_at_another_worker_hears_of_each_change(workers: Workers) -> None:
    one, two, _ = clients(workers)
    task_id = await one.start("ask")
    await one.until(task_id, "input_required")
    async with two.listen(taskIds=[task_id]) as stream:
        await stream.next_message()
        assert (await heard(stream))[0]["status"] == "input_required"
        await one.answer(task_id, input="Ada")
        while (state := (await heard(stream))[0])["status"] != "completed":
            pass
        assert text_of(state) == "accept {'name': 'Ada'}"
    assert not engine_of(workers[1])._watched and not workers[1].runtime.fleet._watched


async def test_the_limit_of_a_client_holds_for_the_whole_fleet(workers: Workers) -> None:
    at = clients(workers)
    for number in range(5):
        await at[number % 3].start("hold")
    refused = await at[2].call("tools/call", call("hold"))
    assert refused.status == 503 and "This client has too many tasks" in refused.error["message"]


async def test_a_store_sees_neither_ids_nor_principals(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.param = "memory"
    async with fleet(Jobs, stores_of(request, tmp_path), 2, grace=0.0, authorize=users) as workers:
        one, two = clients(workers, user="anna@example.org")
        task_id = await one.start("hold")
        hub = workers[0].runtime.fleet.store._store.hub if hasattr(workers[0].runtime.fleet.store, "_store") else None
        record = await workers[0].runtime.fleet.records.load(TASK_SPACE, key_of_task(task_id))
        assert record is not None and task_id.encode() not in record.value and b"anna" not in record.value
        assert hub is None or task_id not in str(hub.spaces)
        boris = TaskClient(workers[1].port, user="boris")
        assert (await boris.call("tasks/get", {"taskId": task_id})).error["code"] == -32602
        assert (await two.get(task_id))["status"] == "working"


async def test_a_task_whose_worker_dies_has_failed(workers: Workers) -> None:
    one, two, three = clients(workers)
    held, asked = await one.start("hold"), await one.start("ask")
    await two.until(asked, "input_required")
    async with three.listen(taskIds=[held]) as stream:
        await stream.next_message()
        assert (await heard(stream))[0]["status"] == "working"
        vanish(workers[0])
        with anyio.fail_after(LIMIT):
            # No request comes for it: the worker of the listener finds out.
            while (state := (await heard(stream))[0])["status"] != "failed":
                pass
        assert state["error"] == {"code": -32603, "message": WORKER_LOST} and state["statusMessage"] == WORKER_LOST
    ended = await two.get(held)
    assert ended["status"] == "failed" and ended["error"]["message"] == WORKER_LOST
    # An answer for a worker that is dead is acknowledged, and the task has failed.
    assert (await two.answer(asked, input="Ada")).status == 200
    assert (await two.get(asked))["status"] == "failed"
    # The worker was only cut off.  It can change nothing any more.
    workers.handlers[0].released.set()
    await until(lambda: not engine_of(workers[0]).runs or "answered" in workers.handlers[0].log or True)
    assert (await three.get(held))["status"] == "failed"


async def test_a_store_that_is_away_is_said_and_the_end_of_a_task_waits_for_it(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = clients(workers)
    task_id = await one.start("hold")
    await workers.handlers[0].noted("began hold")

    async def away(*args: Any, **kwargs: Any) -> Any:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        for server in workers.servers:
            for name in ("create", "load", "save"):
                patch.setattr(server.runtime.fleet.records, name, away)
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            refused = await two.call(method, {"taskId": task_id, "inputResponses": {}})
            assert refused.status == 503 and refused.headers["retry-after"], method
        assert (await two.call("tools/call", call("hold"))).status == 503
        workers.handlers[0].released.set()
        await asyncio.sleep(0)
        assert engine_of(workers[0]).runs
    assert text_of(await two.until(task_id)) == "hold released"


async def test_clients_without_tasks_are_served_as_ever(workers: Workers) -> None:
    workers.handlers[1].released.set()
    client = Modern(workers[1].port)
    assert (await client.call("tools/call", call("hold"))).result["content"][0]["text"] == "hold released"
