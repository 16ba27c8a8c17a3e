# SPDX-License-Identifier: MIT
"""2026-07-28 in a fleet: nothing needs a session, and yet rounds and notices belong to all workers together."""

from __future__ import annotations

from typing import Any

import pytest
from fleets import Stores, fleet
from rawclient import Modern

from mcp_h11 import Context, MCPServer

pytestmark = pytest.mark.anyio
ABLE = {"elicitation": {"form": {}}}


def shop(done: list[str]) -> MCPServer:
    """A server whose one tool reserves once, asks, and then charges once."""
    server = MCPServer("shop")

    @server.tool()
    async def buy(ctx: Context) -> str:
        await ctx.once("reserve", lambda: done.append("reserve"))
        answer = await ctx.elicit("Sure?", {"type": "object", "properties": {"it": {"type": "string"}}})
        await ctx.once("charge", lambda: done.append("charge"))
        return f"bought {answer.data}"

    return server


def answered(result: dict[str, Any]) -> dict[str, Any]:
    """The params of the next round."""
    answers = {key: {"action": "accept", "content": {"it": "yes"}} for key in result["inputRequests"]}
    return {"name": "buy", "arguments": {}, "requestState": result["requestState"], "inputResponses": answers}


async def test_the_rounds_of_a_call_are_played_at_any_worker_and_each_once(stores: Stores) -> None:
    done: list[str] = []
    async with fleet(lambda: shop(done), stores) as workers:
        clients = [Modern(worker.port, capabilities=ABLE) for worker in workers.servers]
        first = (await clients[0].call("tools/call", {"name": "buy", "arguments": {}})).result
        second = await clients[1].call("tools/call", answered(first))
        assert "bought" in second.result["content"][0]["text"]
        for client in clients:
            again = await client.call("tools/call", answered(first))
            assert (again.status, again.error["code"]) == (400, -32602)
        assert done == ["reserve", "charge"]


async def test_a_listener_hears_the_notices_of_every_worker(stores: Stores) -> None:
    async with fleet(lambda: shop([]), stores) as workers:
        client = Modern(workers[0].port)
        async with client.listen(toolsListChanged=True) as stream:
            assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
            for handler in workers.handlers:
                handler.notify_tools_changed()
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


async def test_a_listener_is_told_of_everything_after_signals_may_have_been_lost(stores: Stores) -> None:
    async with fleet(lambda: shop([]), stores) as workers:
        client = Modern(workers[0].port)
        async with client.listen(toolsListChanged=True) as stream:
            assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
            workers[0].runtime.fleet.on_missed()
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
