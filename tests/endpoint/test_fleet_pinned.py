# SPDX-License-Identifier: MIT
"""A bridge with a backend for each session, on several workers: each session is where its backend is."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
from fleets import Stores, Workers, fleet, handshake_lost, in_memory, roaming, until, vanish, vanish_first
from rawclient import encode
from serving import Held

from mcp_h11 import ProxyHandler

pytestmark = pytest.mark.anyio


class Numbered(Held):
    """A backend that says which worker's it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.add_tool(self.whose, name="whose")

    async def whose(self) -> str:
        return str(self.number)


class Bridges:
    """Makes a bridge for each worker, and keeps their backends."""

    def __init__(self) -> None:
        self.backends: list[Numbered] = []
        self._numbers = itertools.count()

    def __call__(self) -> Any:
        backend = Numbered(next(self._numbers))
        self.backends.append(backend)
        return ProxyHandler(backend, per_session=True)


def call(tool: str, request: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request, "method": "tools/call", "params": params}


async def test_every_worker_asks_the_backend_of_the_session(local_stores: Stores) -> None:
    async with fleet(Bridges(), local_stores) as workers:
        for owner in range(3):
            async with roaming(workers[owner]) as client:
                for worker in workers.servers:
                    answer = await client.at(worker).call("tools/call", {"name": "whose", "arguments": {}})
                    assert answer.result["content"][0]["text"] == str(owner)
                    assert answer.headers["content-type"] == "application/json"
                    missing = await client.call("tools/call", {"name": "nothing", "arguments": {}})
                    assert missing.error["code"] == -32602
                assert (await client.at(workers[(owner + 1) % 3]).delete()).status == 204


async def test_questions_and_log_messages_pass_through_another_worker(local_stores: Stores) -> None:
    bridges = Bridges()
    async with fleet(bridges, local_stores) as workers, roaming(workers[0], capabilities={"elicitation": {}}) as client:

        def ask(message: Any) -> Any:
            client.at(workers[2])
            return {"result": {"action": "accept", "content": {"it": "green"}}}

        client.at(workers[1])
        answer = await client.call("tools/call", {"name": "ask", "arguments": {}}, answerer=ask)
        assert "green" in answer.result["content"][0]["text"]
        bridges.backends[0].released.set()
        answer = await client.at(workers[1]).call("tools/call", {"name": "stream", "arguments": {"label": "x"}})
        assert answer.result["content"][0]["text"] == "x released"
        assert [one["method"] for one in answer.notifications] == ["notifications/message"]


async def test_a_cancellation_reaches_the_backend(local_stores: Stores) -> None:
    bridges = Bridges()
    async with fleet(bridges, local_stores) as workers, roaming(workers[0]) as client:
        client.at(workers[1])
        async with client.client() as connection:
            body = encode(call("hold", 5))
            await connection.send_request("POST", client.path, client.headers_for(None), body)
            await bridges.backends[0].until(started=1)
            cancelled = await client.at(workers[1]).notify("notifications/cancelled", {"requestId": 5})
            assert cancelled.status == 202
            await bridges.backends[0].until(cancelled=1)


async def test_a_call_at_another_worker_shows_the_owner_that_the_client_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridges = Bridges()
    async with fleet(bridges, in_memory()) as workers:
        client = await handshake_lost(workers, monkeypatch)
        assert (await client.at(workers[2]).post(call("whose"))).status == 200  # which begins the backend
        async with client.at(workers[2]).get_stream() as stream:
            await until(lambda: not workers[0].endpoint.legacy.table.uninitialized)
            bridges.backends[0].notify_tools_changed()
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.long  # it waits until a worker counts as dead
async def test_without_its_owner_the_session_is_gone() -> None:
    async with fleet(Bridges(), in_memory(), grace=0.2) as workers, roaming(workers[0]) as client:
        await client.at(workers[1]).call("ping")
        await vanish_first(workers)
        response = await client.at(workers[1]).post(call("whose"))
        assert response.status == 404, response.body
        await until(lambda: not workers[1].endpoint.legacy.sessions)
        response = await client.at(workers[2]).post(call("whose"))
        assert response.status == 404


@pytest.mark.long  # it waits until a worker counts as dead
async def test_a_call_at_an_owner_that_dies_ends_with_an_error() -> None:
    bridges = Bridges()
    async with fleet(bridges, in_memory(), grace=0.2) as workers, roaming(workers[0]) as client:
        client.at(workers[1])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(vanish_when, bridges, workers)
            answer = await client.call("tools/call", {"name": "hold", "arguments": {}})
            assert answer.error["code"] == -32603


async def vanish_when(bridges: Bridges, workers: Workers) -> None:
    await bridges.backends[0].until(started=1)
    vanish(workers[0])
