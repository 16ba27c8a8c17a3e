# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05 and 2026-07-28 on three processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from rawclient import Closed
from replica import WATCHED
from replicas import LIMIT, STEP, Replicas
from serving import call
from sse_support import connected

pytestmark = [pytest.mark.anyio, pytest.mark.long]
ABLE = {"elicitation": {"form": {}}}


def request(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call(tool, **arguments)}


async def test_http_sse_is_answered_in_order_wherever_a_post_comes(fleet: Replicas) -> None:
    async with connected(fleet[0].port) as peer:
        peer.port = fleet[1].port
        await peer.initialize("2024-11-05")
        for number in range(30):
            peer.port = fleet[number % 3].port
            assert (await peer.post(request(number, "echo", text=str(number)))).status == 202
        for number in range(30):
            answer = await peer.next("tools/call")
            assert (answer["id"], answer["result"]["content"][0]["text"]) == (number, str(number))
        peer.port = fleet[2].port
        assert (await peer.post(request(99, "hold", label="sse"))).status == 202
        await fleet[0].line("began sse")  # the call runs where the stream is
        peer.port = fleet[1].port
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}}
        assert (await peer.post(cancel)).status == 202
        await fleet[0].line("cancelled sse")
        fleet[2].tell("notify tools")
        assert (await peer.next())["method"] == "notifications/tools/list_changed"
    await ends_everywhere(fleet, peer)


async def ends_everywhere(fleet: Replicas, peer: Any) -> None:
    """A session of HTTP+SSE ends with its stream: no worker takes a POST for it."""
    for worker in fleet.workers:
        peer.port = worker.port
        with anyio.fail_after(LIMIT):
            while (await peer.post(request(1, "echo", text="x"))).status != 404:  # the end is on its way
                await asyncio.sleep(STEP)


async def test_the_death_of_its_worker_ends_a_session_of_http_sse(fleet: Replicas) -> None:
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(connected(fleet[0].port))
        await peer.initialize("2024-11-05")
        fleet[0].kill()
        with pytest.raises((Closed, ConnectionError)):
            await peer.next()
        fleet.workers.append(fleet.workers.pop(0))  # two are left in front
        for worker in fleet.workers[:2]:
            peer.port = worker.port
            with anyio.fail_after(LIMIT):
                while (await peer.post(request(1, "echo", text="x"))).status != 404:
                    await asyncio.sleep(STEP)


async def test_the_rounds_of_a_call_are_played_at_any_worker_each_once(fleet: Replicas) -> None:
    clients = [fleet.modern(number, capabilities=ABLE) for number in range(3)]
    before = [said(fleet, "reserved"), said(fleet, "charged")]
    first = (await clients[0].call("tools/call", call("buy"))).result
    assert first["resultType"] == "input_required"
    answers = {key: {"action": "accept", "content": {"it": "yes"}} for key in first["inputRequests"]}
    second = {**call("buy"), "requestState": first["requestState"], "inputResponses": answers}
    done = await clients[1].call("tools/call", second)
    assert "bought" in done.result["content"][0]["text"]
    for client in clients:
        again = await client.call("tools/call", second)
        assert (again.status, again.error["code"]) == (400, -32602)
    await fleet[0].line("reserved")
    await fleet[1].line("charged")
    assert [said(fleet, "reserved"), said(fleet, "charged")] == [count + 1 for count in before]


def said(fleet: Replicas, line: str) -> int:
    return sum(worker.said.splitlines().count(line) for worker in fleet.workers)


async def test_a_listener_hears_the_notices_of_every_worker(fleet: Replicas) -> None:
    async with fleet.modern(0).listen(toolsListChanged=True, resourceSubscriptions=[WATCHED]) as stream:
        assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
        for worker in fleet.workers:
            worker.tell("notify tools")
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            worker.tell("notify prompts")  # it did not ask for these
            worker.tell(f"notify {WATCHED}")
            message = await stream.next_message()
            assert (message["method"], message["params"]["uri"]) == ("notifications/resources/updated", WATCHED)
