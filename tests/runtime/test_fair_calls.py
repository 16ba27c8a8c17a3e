# SPDX-License-Identifier: MIT
"""One client floods a server whose tools are slow: what that costs the client beside it.

Each test holds the flood's calls while the neighbour is served, so no clock is needed: an answer that waits for the
flood does not come before the test's limit.  The clients are the addresses that a trusted proxy names.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, RawClient, encode
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, modern, served, turns

from mcp_h11 import Principal
from mcp_h11.runtime.admission import FairGate

pytestmark = pytest.mark.anyio

US = "127.0.0.1"
FLOOD, OTHER, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


class Tools(Held):
    """With a sync tool that ends at once."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.quick, name="quick")

    def quick(self) -> str:
        return threading.current_thread().name


@asynccontextmanager
async def crowded(handler: Held, **options: Any) -> AsyncIterator[Any]:
    """A server for ten calls and a line of ten."""
    limits = {"max_running": 10, "max_waiting": 10, "trusted_proxies": [US]}
    async with served(handler, **{**limits, **options}) as server:
        yield server
        handler.released.set()
        handler.unblocked.set()


async def pour(stack: AsyncExitStack, port: int, tool: str, count: int, **headers: str) -> list[RawClient]:
    """So many calls under way, each on its own connection, which the stack closes."""
    clients = []
    for number in range(count):
        client = await stack.enter_async_context(RawClient(port))
        await client.send(modern("tools/call", call(tool, label=f"{tool} {number}"), id=number, **headers))
        clients.append(client)
    return clients


async def send_and_leave(client: Legacy, message: Any) -> None:
    """A request whose connection is closed before the answer, which in a session cancels nothing."""
    async with client.client() as connection:
        await connection.send_request("POST", client.path, client.headers_for(message), encode(message))
        await turns()


async def settled(server: Any, *, running: int, waiting: int) -> None:
    with anyio.fail_after(LIMIT):
        while (server.runtime.gate.inside, server.runtime.waiting) != (running, waiting):
            await asyncio.sleep(0)


async def idle(server: Any) -> None:
    """Every call has ended, and no party holds anything."""
    runtime = server.runtime
    with anyio.fail_after(LIMIT):
        while runtime.tasks:
            await asyncio.sleep(0)
    for shares in (runtime.gate, runtime.side_gate, runtime.line, runtime.asking):
        assert (shares.total, len(shares)) == (0, 0)


async def answered(port: int, method: str, params: Any = None, **headers: str) -> Any:
    async with RawClient(port) as client:
        await client.send(modern(method, params, id="it", **headers))
        answer = await client.receive("POST")
        assert answer.status == 200, answer.body
        return answer.messages()[-1]["result"]


def legacy(port: int, address: str, **options: Any) -> Legacy:
    client = Legacy(port, LEGACY, **options)
    client.extra_headers["X-Forwarded-For"] = address
    return client


async def test_a_flood_from_one_address_leaves_a_place_for_every_other() -> None:
    handler = Tools()
    async with crowded(handler) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 30, X_Forwarded_For=FLOOD)
        await settled(server, running=8, waiting=8)  # four fifths of each limit
        for address in (OTHER, THIRD):
            found = await answered(server.port, "tools/call", call("echo", text="x"), X_Forwarded_For=address)
            assert found["content"][0]["text"] == "x"
            assert (await answered(server.port, "tools/list", X_Forwarded_For=address))["tools"]
        assert len(handler.started) == 8


async def test_the_flood_is_told_that_it_is_too_much_and_nobody_else() -> None:
    handler = Tools()
    async with crowded(handler) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 16, X_Forwarded_For=FLOOD)
        await settled(server, running=8, waiting=8)
        (late,) = await pour(stack, server.port, "hold", 1, X_Forwarded_For=FLOOD)
        answer = await late.receive("POST")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        # Two more run, and two more wait in line, while the flood's share is spent.
        await pour(stack, server.port, "hold", 4, X_Forwarded_For=OTHER)
        await settled(server, running=10, waiting=10)


async def test_a_legacy_session_whose_connections_are_gone_is_a_flood_as_well() -> None:
    handler = Tools()
    async with crowded(handler) as server:
        greedy = legacy(server.port, FLOOD)
        await greedy.initialize()
        for number in range(18):
            await send_and_leave(greedy, greedy.request("tools/call", call("hold", label=str(number))))
        await settled(server, running=8, waiting=8)
        async with legacy(server.port, OTHER) as modest:
            assert (await modest.call("ping")).result == {}
            assert (await modest.call("tools/list")).result["tools"]
            found = await modest.call("tools/call", call("echo", text="x"))
            assert found.result["content"][0]["text"] == "x"
        handler.released.set()
        await settled(server, running=0, waiting=0)
        await greedy.delete()


@pytest.mark.parametrize("stateless", [False, True])
async def test_protocol_methods_do_not_wait_behind_the_tools_of_their_own_client(stateless: bool) -> None:
    handler = Tools()
    options = {"max_running": 1, "max_running_session": 1, "max_waiting": 1, "stateless": stateless}
    async with crowded(handler, **options) as server:
        client = legacy(server.port, FLOOD)
        await client.initialize()
        async with anyio.create_task_group() as group:
            group.start_soon(client.call, "tools/call", call("hold"))
            await handler.until(started=1)
            group.start_soon(client.call, "tools/call", call("hold"))
            await settled(server, running=1, waiting=1)
            assert (await client.call("ping")).result == {}
            assert (await client.call("tools/list")).result["tools"]
            assert (await client.call("logging/setLevel", {"level": "error"})).result == {}
            assert (await answered(server.port, "server/discover"))["supportedVersions"]
            # An unknown notification is the handler's, and there is no place for it to wait.
            assert (await client.notify("notifications/whatever")).status == 503
            handler.released.set()
        if not stateless:
            await client.delete()
        await idle(server)


async def test_a_cancellation_is_heard_while_everything_is_taken() -> None:
    handler = Tools()
    async with crowded(handler, max_running=1, max_waiting=1) as server, legacy(server.port, FLOOD) as client:
        for waiting, name in enumerate(("first", "second")):
            await send_and_leave(client, client.request("tools/call", call("hold"), id=name))
            await settled(server, running=1, waiting=waiting)
        for name in ("second", "first"):
            assert (await client.notify("notifications/cancelled", {"requestId": name})).status == 202
        await settled(server, running=0, waiting=0)
        assert handler.cancelled == ["hold"]


async def test_slow_lists_are_bounded_and_shared_as_calls_are() -> None:
    class Slow(Tools):
        async def list_tools(self, params: Any, ctx: Any) -> Any:
            if ctx.headers.get("x-forwarded-for") == FLOOD:
                await self._wait("list")
            return await super().list_tools(params, ctx)

    handler = Slow()
    async with crowded(handler) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 8, X_Forwarded_For=FLOOD)
        await settled(server, running=8, waiting=0)
        for number in range(20):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(modern("tools/list", id=number, X_Forwarded_For=FLOOD))
        await settled(server, running=8, waiting=8)
        assert server.runtime.side_gate.inside == 8
        assert (await answered(server.port, "tools/list", X_Forwarded_For=OTHER))["tools"]
        handler.released.set()
        await idle(server)


async def test_the_threads_of_sync_tools_are_shared_as_well() -> None:
    handler = Tools()
    async with crowded(handler, max_running=100, max_threads=10) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "block", 30, X_Forwarded_For=FLOOD)
        await handler.until(started=8)
        found = await answered(server.port, "tools/call", call("quick"), X_Forwarded_For=OTHER)
        assert found["content"][0]["text"] == "mcp_h11 tool"
        assert len(handler.started) == 8


async def test_principals_behind_one_address_have_a_share_each() -> None:
    handler = Tools()
    options = {"authorize": lambda head: Principal(head.get("x-user"))}
    async with crowded(handler, **options) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 30, X_User="greedy")
        await settled(server, running=8, waiting=8)
        found = await answered(server.port, "tools/call", call("echo", text="x"), X_User="modest")
        assert found["content"][0]["text"] == "x"


async def test_one_token_for_all_does_not_make_one_client_of_them() -> None:
    handler = Tools()
    secret = {"Authorization": "Bearer secret"}
    async with crowded(handler, token="secret") as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 30, X_Forwarded_For=FLOOD, **secret)
        await settled(server, running=8, waiting=8)
        found = await answered(server.port, "tools/call", call("echo", text="x"), X_Forwarded_For=OTHER, **secret)
        assert found["content"][0]["text"] == "x"


async def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    handler = Tools()
    async with crowded(handler) as server, AsyncExitStack() as stack:
        for number in range(12):
            await pour(stack, server.port, "hold", 1, X_Forwarded_For=f"2001:db8::{number + 1:x}")
        await settled(server, running=8, waiting=4)


async def test_clients_that_wait_have_turns_in_rotation() -> None:
    handler = Tools()
    order: list[str] = []

    async def one(label: str) -> str:
        order.append(label)
        return label

    handler.add_tool(one, name="one")
    async with crowded(handler, max_running=1) as server, AsyncExitStack() as stack:
        await pour(stack, server.port, "hold", 1, X_Forwarded_For=FLOOD)
        await handler.until(started=1)
        waiting = 0
        for address, count in ((FLOOD, 4), (OTHER, 2), (THIRD, 1)):
            for number in range(count):
                client = await stack.enter_async_context(RawClient(server.port))
                label = f"{address[-1]}{number}"
                await client.send(modern("tools/call", call("one", label=label), X_Forwarded_For=address))
                waiting += 1
                await settled(server, running=1, waiting=waiting)
        handler.released.set()
        await settled(server, running=0, waiting=0)
        assert order == ["10", "20", "30", "11", "21", "12", "13"]


async def test_open_questions_are_shared() -> None:
    handler = Tools()
    async with crowded(handler, max_waiting=5) as server:
        greedy, modest = legacy(server.port, FLOOD), legacy(server.port, OTHER)
        for client in (greedy, modest):
            await client.initialize({"elicitation": {}})
        async with AsyncExitStack() as stack:
            for _ in range(4):
                stream = await stack.enter_async_context(greedy.posting(greedy.request("tools/call", call("ask"))))
                assert (await stream.next_message())["method"] == "elicitation/create"
            refused = await greedy.call("tools/call", call("ask"))
            assert refused.error["message"] == "Too many calls wait for their clients"
            stream = await stack.enter_async_context(modest.posting(modest.request("tools/call", call("ask"))))
            question = await stream.next_message()
            await modest.post({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
            assert (await stream.next_message())["result"]["content"] == [{"type": "text", "text": "None"}]
        for client in (greedy, modest):
            await client.delete()
        await idle(server)


async def test_who_gives_up_at_the_moment_of_its_turn_gives_the_place_on() -> None:
    gate = FairGate(1)
    await gate.wait("a")
    first, second, third = (asyncio.ensure_future(gate.wait(party)) for party in "aab")
    await turns(1)
    second.cancel()  # in line, and not yet out of it
    gate.leave("a")
    first.cancel()  # its place has come, and it does not know
    await asyncio.wait({first, second, third}, timeout=LIMIT)
    assert first.cancelled() and second.cancelled() and third.done() and not third.cancelled()
    assert (gate.inside, gate.line, gate.held("b")) == (1, [], 1)
    gate.leave("b")
    assert (gate.inside, len(gate)) == (0, 0)


async def test_who_gives_up_in_line_is_passed_over() -> None:
    gate = FairGate(1)
    await gate.wait("a")
    first, second = (asyncio.ensure_future(gate.wait(party)) for party in "bc")
    await turns(1)
    first.cancel()
    gate.leave("a")  # before the first has noticed
    await asyncio.wait({first, second}, timeout=LIMIT)
    assert first.cancelled() and not second.cancelled()
    assert (gate.inside, gate.held("b"), gate.held("c")) == (1, 0, 1)
