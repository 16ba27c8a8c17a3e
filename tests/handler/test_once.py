# SPDX-License-Identifier: MIT
"""What a call does once is not done again when one of its rounds comes twice."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, Modern
from serving import ASYNCIO, call, served

from mcp_h11 import Context, MCPServer
from mcp_h11.runtime.storage import MAX_NONCES, MemoryOnceStore, StoreFull

pytestmark = pytest.mark.anyio
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}
ABLE = {"elicitation": {}}
KEY = b"k" * 32


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Shop(MCPServer):
    """Reserves, asks, charges, asks and ships."""

    def __init__(self) -> None:
        super().__init__("shop")
        self.done: list[str] = []
        self.go_on: asyncio.Event | None = None
        for tool in (self.buy, self.look, self.fails):
            self.add_tool(tool, tool.__name__)

    async def step(self, name: str) -> str:
        self.done.append(name)
        if self.go_on is not None:
            await self.go_on.wait()
        return name

    async def buy(self, ctx: Context) -> str:
        await ctx.once("reserve", self.step, "reserve")
        await ctx.elicit("Pay?", FORM)
        await ctx.once("charge", self.step, "charge")
        await ctx.once("mail", self.step, "mail")
        await ctx.elicit("Ship?", FORM)
        await ctx.once("ship", self.step, "ship")
        return "bought"

    async def look(self, ctx: Context) -> str:
        await ctx.elicit("Where?", FORM)
        self.done.append("look")
        return "seen"

    async def fails(self, ctx: Context) -> str:
        await ctx.elicit("Fail?", FORM)
        await ctx.once("fail", self._fail)
        return "never"

    def _fail(self) -> None:
        self.done.append("fail")
        raise RuntimeError("broken")


def answered(tool: str, result: dict[str, Any]) -> dict[str, Any]:
    """The params of the next round."""
    answers = {key: {"action": "accept", "content": {"it": "yes"}} for key in result["inputRequests"]}
    return {**call(tool), "requestState": result["requestState"], "inputResponses": answers}


REPLAYED = {"code": -32602, "message": "This round of the call has been played before: begin the call anew"}


async def test_a_round_that_comes_twice_does_no_step_again() -> None:
    shop = Shop()
    async with served(shop) as server:
        client = Modern(server.port, capabilities=ABLE)
        first = (await client.call("tools/call", call("buy"))).result
        second = await client.call("tools/call", answered("buy", first))
        for _ in range(2):
            again = await client.call("tools/call", answered("buy", first))
            assert (again.status, again.error) == (400, REPLAYED)
        assert shop.done == ["reserve", "charge", "mail"]
        last = answered("buy", second.result)
        assert (await client.call("tools/call", last)).result["content"][0]["text"] == "bought"
        for _ in range(2):
            assert (await client.call("tools/call", last)).error == REPLAYED
        assert shop.done == ["reserve", "charge", "mail", "ship"]
        # Begun anew it is another purchase.
        await client.call("tools/call", call("buy"))
        assert shop.done[4:] == ["reserve"]


async def test_two_at_the_same_time_do_it_once() -> None:
    shop = Shop()
    async with served(shop) as server:
        client = Modern(server.port, capabilities=ABLE)
        params = answered("buy", (await client.call("tools/call", call("buy"))).result)
        shop.go_on = asyncio.Event()
        answers: list[Any] = []

        async def play() -> None:
            answers.append(await client.call("tools/call", params))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(play)
            with anyio.fail_after(LIMIT):
                while len(answers) < 2:
                    await anyio.sleep(0)
            assert [answer.error for answer in answers] == [REPLAYED] * 2
            shop.go_on.set()
        assert "requestState" in answers[2].result
        assert shop.done == ["reserve", "charge", "mail"]


async def test_a_step_that_failed_was_begun_and_is_not_tried_again() -> None:
    shop = Shop()
    async with served(shop) as server:
        client = Modern(server.port, capabilities=ABLE)
        params = answered("fails", (await client.call("tools/call", call("fails"))).result)
        assert (await client.call("tools/call", params)).result["isError"] is True
        assert (await client.call("tools/call", params)).error == REPLAYED
        assert shop.done == ["fail"]


async def test_a_round_that_does_nothing_once_may_come_as_often_as_it_likes() -> None:
    shop = Shop()
    async with served(shop) as server:
        client = Modern(server.port, capabilities=ABLE)
        params = answered("look", (await client.call("tools/call", call("look"))).result)
        for _ in range(3):
            assert (await client.call("tools/call", params)).result["content"][0]["text"] == "seen"
        assert not len(server.runtime.once)


async def test_the_same_on_pipes() -> None:
    shop = Shop()
    async with piped(shop) as client:
        meta = {"io.modelcontextprotocol/clientCapabilities": ABLE}
        client.call(1, "buy", meta=meta)
        params = {**answered("buy", await client.result(1)), "_meta": meta}
        client.request(2, "tools/call", params)
        assert (await client.result(2))["resultType"] == "input_required"
        client.request(3, "tools/call", params)
        assert await client.error(3) == REPLAYED


async def test_where_nothing_more_can_be_remembered_the_step_is_not_done() -> None:
    shop = Shop()
    async with served(shop) as server:
        server.runtime.once = MemoryOnceStore(limit=1)
        client = Modern(server.port, capabilities=ABLE)
        rounds = [answered("buy", (await client.call("tools/call", call("buy"))).result) for _ in range(2)]
        assert "requestState" in (await client.call("tools/call", rounds[0])).result
        refused = await client.call("tools/call", rounds[1])
        assert (refused.status, refused.error["code"]) == (503, -32603)
        assert shop.done == ["reserve", "reserve", "charge", "mail"]


async def test_servers_that_share_a_store_and_keys_do_it_once_among_them() -> None:
    shops = [Shop(), Shop()]
    async with served(shops[0], state_keys=[KEY]) as one, served(shops[1], state_keys=[KEY]) as two:
        two.runtime.once = one.runtime.once
        clients = [Modern(server.port, capabilities=ABLE) for server in (one, two)]
        params = answered("buy", (await clients[0].call("tools/call", call("buy"))).result)
        assert "requestState" in (await clients[1].call("tools/call", params)).result
        assert (await clients[0].call("tools/call", params)).error == REPLAYED
    assert (shops[0].done, shops[1].done) == (["reserve"], ["charge", "mail"])


async def test_the_store_remembers_so_many_and_each_until_its_time() -> None:
    store = MemoryOnceStore(limit=3)
    for number in range(3):
        assert await store.claim(f"n{number}", 10.0 + number, 0.0, "")
    with pytest.raises(StoreFull):
        await store.claim("n3", 20.0, 10.0, "")
    assert not await store.claim("n0", 20.0, 10.0, "")
    # One has expired, and its place is free.
    assert await store.claim("n3", 20.0, 10.5, "")
    assert len(store) == 3
    assert not await store.claim("n1", 30.0, 11.0, "")
    assert await store.claim("n0", 40.0, 30.0, "")
    assert len(store) == 1
    assert MAX_NONCES >= 10_000


async def test_one_client_leaves_room_for_the_rounds_of_another() -> None:
    store = MemoryOnceStore(limit=10)
    for number in range(8):
        assert await store.claim(f"a{number}", 10.0, 0.0, "a")
    with pytest.raises(StoreFull):
        await store.claim("a8", 10.0, 0.0, "a")
    assert await store.claim("b0", 10.0, 0.0, "b")
    assert not await store.claim("a0", 10.0, 0.0, "b")  # a nonce is claimed once, whoever comes with it
    # Its rounds expire, and with them its share is free.
    assert await store.claim("a8", 20.0, 10.5, "a")
    assert len(store) == 1


async def test_the_rounds_of_one_user_count_for_that_user() -> None:
    shop = Shop()

    def user(head: Any) -> str:
        return str(head.get("x-user"))

    async with served(shop, authorize=user) as server:
        server.runtime.once = MemoryOnceStore(limit=10)
        ada, bob = (Modern(server.port, capabilities=ABLE) for _ in range(2))
        ada.extra_headers, bob.extra_headers = {"X-User": "ada"}, {"X-User": "bob"}
        statuses = []
        for client in [ada] * 9 + [bob]:
            params = answered("buy", (await client.call("tools/call", call("buy"))).result)
            statuses.append((await client.call("tools/call", params)).status)
        assert statuses == [200] * 8 + [503, 200]
