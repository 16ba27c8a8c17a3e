# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05 over real sockets, with every message judged by the schema of the revision spoken."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import wire
from rawclient import INFO, LIMIT, SSE_TYPE, RawClient
from sessions_support import PORT_FILLER, Narrow, Steps, Tools, call, echo, gone, narrow, updated
from sse_support import Peer, connected

from mcp_h11 import Context, listening

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/sse", "/mcp"])
@pytest.mark.parametrize("revision", [wire.A, wire.B, wire.C, wire.D])
async def test_a_session_is_one_stream_and_posts(revision: str, path: str) -> None:
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, message="half")
        await ctx.info("working")
        return "done"

    async with listening(Tools(work=work), port=0, legacy_sse=True) as server, connected(server.port, path) as peer:
        answer = await peer.initialize(revision)
        assert answer["result"]["protocolVersion"] == revision
        progress = await peer.ask(call("work", id="one", token="t"))
        assert progress["params"] == {"progressToken": "t", "progress": 1} | (
            {} if revision == wire.A else {"message": "half"}
        )
        assert (await peer.next())["params"]["data"] == "working"
        assert (await peer.next("tools/call"))["id"] == "one"
        assert await peer.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}) == {
            "jsonrpc": "2.0", "id": 2, "result": {}
        }  # fmt: skip
        again = await peer.ask({"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {}})
        assert again["error"]["code"] == -32600


@pytest.mark.parametrize(("path", "status"), [("/sse", 404), ("/messages", 404), ("/mcp", 405)])
async def test_where_it_is_off_there_is_nothing(path: str, status: int) -> None:
    async with listening(Tools(), port=0) as server, RawClient(server.port) as client:
        response = await client.request("GET", path, {"Accept": SSE_TYPE})
        assert response.status == status
        assert ("allow" in response.headers) == (status == 405)


async def test_posts_without_with_an_unknown_and_with_a_dead_session_id() -> None:
    ping = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    async with listening(Tools(), port=0, legacy_sse=True) as server:
        async with connected(server.port) as peer:
            missing, unknown = await peer.post(ping, "/messages"), await peer.post(ping, "/messages?session_id=x")
            assert (missing.status, unknown.status) == (400, 404)
            assert "id" not in unknown.json()
            assert (await peer.post(b"{nonsense")).status == 400
            assert (await peer.post(b'{"jsonrpc":"2.0","id":{},"method":"ping"}')).status == 400
            endpoint = peer.endpoint
        gone = Peer(server.port, peer.stream)
        with anyio.fail_after(LIMIT):
            while (await gone.post(ping, endpoint)).status != 404:
                pass


@pytest.mark.parametrize("revision", [wire.A, wire.B, wire.C, wire.D])
async def test_batches_where_no_revision_forbids_them(revision: str) -> None:
    batch = [{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in (1, 2)]
    start = {"protocolVersion": revision, "capabilities": {}, "clientInfo": INFO}
    async with listening(Tools(), port=0, legacy_sse=True) as server, connected(server.port) as peer:
        early = await peer.post([{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": start}])
        assert early.status == 400, "initialize must not be part of a batch"
        await peer.initialize(revision)
        response = await peer.post([*batch, {"jsonrpc": "2.0"}])
        if revision in (wire.C, wire.D):
            assert (response.status, response.json()["error"]["code"]) == (400, -32600)
        else:
            assert response.status == 202
            answers = [await peer.next() for _ in range(3)]
            assert sorted(a["id"] for a in answers if "result" in a) == [1, 2]
            assert [a["error"]["code"] for a in answers if "error" in a] == [-32600]


async def test_a_failed_handshake_can_be_repeated() -> None:
    async with listening(Tools(), port=0, legacy_sse=True) as server, connected(server.port) as peer:
        peer.revision = wire.A
        answer = await peer.ask({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
        assert answer["error"]["code"] == -32602
        assert (await peer.initialize(wire.A))["result"]["protocolVersion"] == wire.A


async def test_the_server_asks_and_the_client_answers_by_post() -> None:
    async def ask(ctx: Context) -> str:
        return (await ctx.sample("?")).text

    async with listening(Tools(ask=ask), port=0, legacy_sse=True) as server, connected(server.port) as peer:
        await peer.initialize(wire.A, sampling={})
        question = await peer.ask(call("ask", id=1))
        assert question["method"] == "sampling/createMessage"
        result = {"role": "assistant", "content": {"type": "text", "text": "!"}, "model": "m"}
        assert (await peer.post({"jsonrpc": "2.0", "id": question["id"], "result": result})).status == 202
        assert (await peer.next("tools/call"))["result"]["content"][0]["text"] == "!"


async def test_when_the_stream_goes_the_session_goes_and_its_calls_are_cancelled() -> None:
    steps = Steps()
    async with listening(Tools(steps=steps), port=0, legacy_sse=True) as server:
        async with connected(server.port) as peer:
            await peer.initialize(wire.A)
            steps.say("1")
            assert (await peer.ask(call("steps", id=1)))["params"]["data"] == "1"
            assert steps.ctx is not None and not steps.ctx.disconnected.is_set()
        with anyio.fail_after(LIMIT):
            await steps.cancelled.wait()


async def test_a_call_is_cancelled_by_its_notification_and_answers_nothing() -> None:
    steps = Steps()
    async with listening(Tools(steps=steps), port=0, legacy_sse=True) as server, connected(server.port) as peer:
        await peer.initialize(wire.A)
        steps.say("1")
        assert (await peer.ask(call("steps", id=1)))["params"]["data"] == "1"
        assert steps.ctx is not None
        await steps.ctx.close_sse_stream()  # without effect, because the one channel belongs to the session
        await peer.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        with anyio.fail_after(LIMIT):
            await steps.cancelled.wait()
        assert (await peer.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}))["id"] == 2


async def test_notices_reach_the_initialized_and_updates_the_subscribed() -> None:
    handler = Tools()
    async with listening(handler, port=0, legacy_sse=True) as server:
        async with connected(server.port) as peer, connected(server.port) as early:
            await peer.initialize(wire.A)
            subscribe = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": "test://a"}}
            assert (await peer.ask(subscribe))["result"] == {}
            handler.notify_tools_changed()
            handler.notify_resource_updated("test://b")
            handler.notify_resource_updated("test://a")
            assert (await peer.next())["method"] == "notifications/tools/list_changed"
            assert await peer.next() == updated("test://a")
            # The notification has the spelling of the subscription, not that of the notice (RFC 3986, 6.2.2).
            handler.notify_resource_updated("TEST://%61")
            assert await peer.next() == updated("test://a")
            await early.initialize(wire.A)  # the next message of this client is its answer


@pytest.mark.long
async def test_a_stream_that_is_not_read_costs_bounded_memory() -> None:
    uri = "test://" + PORT_FILLER
    handler = Tools(echo=echo)
    async with (
        listening(handler, legacy_sse=True, **narrow()) as server,
        connected(server.port, kind=Narrow) as peer,
    ):
        await peer.initialize(wire.A)
        subscribe = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": uri}}
        assert (await peer.ask(subscribe))["result"] == {}
        for _ in range(40):
            for _ in range(50):
                handler.notify_resource_updated(uri)
            async with connected(server.port) as other:
                assert other.endpoint != peer.endpoint
        handler.notify_tools_changed()
        heard = 0
        while (message := await peer.next())["method"] != "notifications/tools/list_changed":
            assert message == updated(uri)
            heard += 1
        assert 1 <= heard <= 4, "what was on its way when it stalled, and once more: 2,000 were announced, in 40 turns"


async def test_calls_wait_for_a_stream_that_is_not_read_and_each_answer_comes_when_it_is() -> None:
    count, answered = 30, 0

    async def fill(ctx: Context) -> str:
        nonlocal answered
        await ctx.info(PORT_FILLER)
        answered += 1
        return "done"

    async with (
        listening(Tools(fill=fill), legacy_sse=True, **narrow()) as server,
        connected(server.port, kind=Narrow) as peer,
    ):
        await peer.initialize(wire.A)
        for number in range(count):
            assert (await peer.post(call("fill", id=number))).status == 202
        assert answered < 5, "the others wait for room, and nothing of theirs is in the server's buffers"
        found = []
        while len(found) < count:
            event = await peer.stream.next_event()
            assert event is not None
            if "result" in (message := event.json()):
                found.append(message["id"])
        assert sorted(found) == list(range(count)) and answered == count


async def test_when_a_stream_that_is_not_read_goes_so_does_all_that_waits_for_it() -> None:
    ends: list[str] = []

    async def fill(ctx: Context) -> str:
        try:
            while True:
                await ctx.info(PORT_FILLER)
        except asyncio.CancelledError:
            await ctx.info("what is said now is for nobody")
            ends.append("cancelled")
            raise

    handler = Tools(fill=fill)
    async with listening(handler, legacy_sse=True, **narrow()) as server:
        async with connected(server.port, kind=Narrow) as peer:
            await peer.initialize(wire.A)
            for number in range(3):
                assert (await peer.post(call("fill", id=number))).status == 202
            handler.notify_tools_changed()
            peer.stream.abort()
        with anyio.fail_after(LIMIT):
            while len(ends) < 3 or server.runtime.tasks:
                await anyio.lowlevel.checkpoint()
        await gone(server, 0)
        async with connected(server.port) as other:  # and the server still serves
            await other.initialize(wire.A)


@pytest.mark.parametrize("cap", ["max_sessions", "max_sessions_peer"])
async def test_sessions_are_capped(cap: str) -> None:
    async with listening(Tools(), port=0, legacy_sse=True, **{cap: 2}) as server:
        async with connected(server.port), RawClient(server.port) as client:
            async with connected(server.port):  # at the limit
                response = await client.request("GET", "/sse", {"Accept": SSE_TYPE})
                assert (response.status, response.headers["retry-after"]) == (503, "1")
            with anyio.fail_after(LIMIT):  # and when one has gone, there is room again
                while (await client.open_stream("GET", "/sse", {"Accept": SSE_TYPE})).status != 200:
                    await client.aclose()
                    await client.connect()


@pytest.mark.parametrize("path", ["/sse", "/mcp"])
async def test_who_is_still_being_let_in_when_the_server_ends_is_told_to_come_back(path: str) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def authorize(head: Any) -> str:
        asked.set()
        await answer.wait()
        return "ann"

    async with listening(Tools(), port=0, legacy_sse=True, authorize=authorize) as server:
        async with RawClient(server.port) as client:
            await client.send_request("GET", path, {"Accept": SSE_TYPE})
            with anyio.fail_after(LIMIT):
                await asked.wait()
            closing = asyncio.ensure_future(server.aclose())
            with anyio.fail_after(LIMIT):
                while not server.draining:
                    await anyio.lowlevel.checkpoint()
            answer.set()
            response = await client.receive()
            assert (response.status, response.headers["retry-after"], response.headers["connection"]) == (
                503, "1", "close"
            )  # fmt: skip
            await closing


async def test_at_shutdown_a_running_call_is_answered_and_then_the_stream_ends() -> None:
    steps = Steps()
    async with listening(Tools(steps=steps), port=0, legacy_sse=True) as server:
        async with connected(server.port) as peer, connected(server.port) as idle:
            await peer.initialize(wire.A)
            steps.say("1")
            assert (await peer.ask(call("steps", id=1)))["params"]["data"] == "1"
            closing = asyncio.ensure_future(server.aclose())
            assert await idle.stream.next_event() is None, "nothing runs there: it ends at once, cleanly"
            steps.say(None)
            assert (await peer.next("tools/call"))["result"]["content"][0]["text"] == "done"
            assert await peer.stream.next_event() is None
            await closing
