# SPDX-License-Identifier: MIT
"""What a function learns of its call, and how it speaks to the client while it runs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from rawclient import INFO, LIMIT, META, Legacy, Modern

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.handler.exchange import Exchange, NeedInput
from mcp_h11.protocol.errors import InvalidParams
from mcp_h11.protocol.jsonrpc import Request
from mcp_h11.protocol.methods import log_rank
from mcp_h11.protocol.revisions import LATEST_MODERN

pytestmark = pytest.mark.anyio

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
Body = Callable[[Context], Awaitable[Any]]


@asynccontextmanager
async def running(body: Body, **settings: Any) -> AsyncIterator[tuple[MCPServer, Modern]]:
    """A server whose one tool, "it", is `body`; what it returns is kept as `server.got`."""

    @asynccontextmanager
    async def lifespan(server: Any) -> AsyncIterator[str]:
        yield "alive"

    server: Any = MCPServer("context", lifespan=lifespan)
    server.got = None

    async def it(ctx: Context) -> str:
        server.got = await body(ctx)
        return "done"

    server.add_tool(it)
    async with listening(server, port=0, grace=0.2, **settings) as listener:
        yield server, Modern(listener.port)


async def call(client: Any, **more: Any) -> Any:
    answer = await client.call("tools/call", {"name": "it"}, **more)
    assert answer.result["content"][0]["text"] == "done", answer.result
    return answer


async def facts(ctx: Context) -> dict[str, Any]:
    return {
        "request_id": ctx.request_id,
        "protocol_version": ctx.protocol_version,
        "client_info": ctx.client_info,
        "client_capabilities": ctx.client_capabilities,
        "session": ctx.session.id if ctx.session is not None else None,
        "principal": ctx.principal,
        "agent": ctx.headers.get("user-agent"),
        "meta": ctx.meta,
        "progress_token": ctx.progress_token,
        "lifespan": ctx.lifespan,
        "server": ctx.server.name,
        "settings": ctx.settings.path,
        "input_responses": ctx.input_responses,
        "request_state": ctx.request_state,
        "gone": ctx.disconnected.is_set(),
    }


async def test_a_call_knows_who_asks_and_how() -> None:
    async with running(facts, authorize=lambda head: "ada") as (server, client):
        client.capabilities = {"roots": {}}
        answer = await call(client, id="my id", meta={"progressToken": 7, "a/b": 1}, headers={"User-Agent": "test"})
        assert answer.status == 200
        assert server.got.pop("meta") == client.meta() | {"progressToken": 7, "a/b": 1}
        assert server.got == {
            "request_id": "my id",
            "protocol_version": "2026-07-28",
            "client_info": INFO,
            "client_capabilities": {"roots": {}},
            "session": None,
            "principal": "ada",
            "agent": "test",
            "progress_token": 7,
            "lifespan": "alive",
            "server": "context",
            "settings": "/mcp",
            "input_responses": None,
            "request_state": None,
            "gone": False,
        }


async def test_a_call_of_a_session_knows_the_same() -> None:
    async with running(facts) as (server, client):
        async with Legacy(client.port, "2025-06-18") as session:
            await call(session, id=3)
            assert server.got == {
                "request_id": 3,
                "protocol_version": "2025-06-18",
                "client_info": INFO,
                "client_capabilities": {},
                "session": session.session,
                "principal": None,
                "agent": None,
                "meta": {},
                "progress_token": None,
                "lifespan": "alive",
                "server": "context",
                "settings": "/mcp",
                "input_responses": None,
                "request_state": None,
                "gone": False,
            }


@pytest.mark.parametrize("info", [None, 5, [], "me"])
async def test_a_client_that_does_not_say_who_it_is_is_nobody(info: Any) -> None:
    async with running(facts) as (server, client):
        await call(client, meta={f"{META}clientInfo": info})
        assert server.got["client_info"] == {}


# -- progress --


async def test_progress_that_does_not_rise_is_left_out() -> None:
    async def body(ctx: Context) -> None:
        for value in (0, 0, 1, 0.5, 1, 1.5, -1, 2):
            await ctx.report_progress(value)
        await ctx.report_progress(3, 10.5, "three")

    async with running(body) as (_, client):
        answer = await call(client, meta={"progressToken": "t"})
        assert [n["params"] for n in answer.notifications] == [
            *({"progressToken": "t", "progress": value} for value in (0, 1, 1.5, 2)),
            {"progressToken": "t", "progress": 3, "total": 10.5, "message": "three"},
        ]


async def test_a_revision_without_progress_messages_gets_none() -> None:
    async def body(ctx: Context) -> None:
        await ctx.report_progress(1, 2, "half")

    async with running(body) as (_, client), Legacy(client.port, "2024-11-05") as session:
        message = session.request("tools/call", {"name": "it", "_meta": {"progressToken": 1}})
        notifications = (await session.call("tools/call", message["params"])).notifications
        assert [n["params"] for n in notifications] == [{"progressToken": 1, "progress": 1, "total": 2}]


# -- logging --


async def test_each_level_has_its_word() -> None:
    async def body(ctx: Context) -> None:
        for level in ("debug", "info", "notice", "warning", "error"):
            await getattr(ctx, level)({"level": level}, logger="mine")
        await ctx.log("critical", None)
        await ctx.log("alert", "x", logger_name="other")
        await ctx.log("emergency", [1])

    async with running(body) as (_, client):
        answer = await call(client, meta={f"{META}logLevel": "debug"})
        sent = [n["params"] for n in answer.notifications]
        assert [p["level"] for p in sent] == LEVELS
        assert sent[0] == {"level": "debug", "data": {"level": "debug"}, "logger": "mine"}
        assert sent[5:] == [
            {"level": "critical", "data": None},
            {"level": "alert", "data": "x", "logger": "other"},
            {"level": "emergency", "data": [1]},
        ]
        for n, level in enumerate(LEVELS):
            answer = await call(client, meta={f"{META}logLevel": level})
            assert [m["params"]["level"] for m in answer.notifications] == LEVELS[n:]


async def test_a_level_that_there_is_not_is_the_functions_mistake() -> None:
    async def body(ctx: Context) -> str:
        with pytest.raises(ValueError, match="loud"):
            await ctx.log("loud", "x")
        return "refused"

    async with running(body) as (server, client):
        await call(client)
        assert server.got == "refused"
    assert [log_rank(level) for level in LEVELS] == list(range(8))
    for level in ("loud", None, 3, []):
        with pytest.raises(InvalidParams):
            log_rank(level)


async def test_a_notification_of_ones_own_comes_on_the_calls_stream() -> None:
    async def body(ctx: Context) -> None:
        await ctx.notify("own/one")
        await ctx.notify("own/two", {"a": 1})

    async with running(body) as (_, client):
        answer = await call(client)
        assert [(n["method"], n.get("params", {})) for n in answer.notifications] == [
            ("own/one", {}),
            ("own/two", {"a": 1}),
        ]


async def test_what_is_said_after_the_end_is_dropped() -> None:
    kept: list[Context] = []

    async def body(ctx: Context) -> None:
        kept.append(ctx)
        await ctx.info("during")

    async with running(body) as (_, client), client.client() as raw:
        for peer_meta in ({f"{META}logLevel": "debug", "progressToken": 1}, {}):
            message = client.request("tools/call", {"name": "it"}, meta=peer_meta)
            body_bytes = json.dumps(message).encode()
            response = await raw.request("POST", "/mcp", client.headers_for(message), body_bytes)
            assert len(response.messages()) == (2 if peer_meta else 1)
            await kept[-1].error("late")
            await kept[-1].report_progress(1)
            await kept[-1].notify("own/late")
        # The connection holds nothing but the answer to the next request.
        message = client.request("tools/list")
        body_bytes = json.dumps(message).encode()
        response = await raw.request("POST", "/mcp", client.headers_for(message), body_bytes)
        assert [m["id"] for m in response.messages()] == [message["id"]]


async def test_changes_are_announced_from_a_call() -> None:
    async def body(ctx: Context) -> None:
        await ctx.notify_tools_changed()
        await ctx.notify_prompts_changed()
        await ctx.notify_resources_changed()
        await ctx.notify_resource_updated("x:y")

    everything = {
        "toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True,
        "resourceSubscriptions": ["x:y"],
    }  # fmt: skip
    async with running(body) as (_, client), client.listen(**everything) as stream:
        await stream.next_message()
        answer = await call(client)
        assert answer.notifications == []
        methods = [(await stream.next_message())["method"].removeprefix("notifications/") for _ in range(4)]
        assert methods == [
            "tools/list_changed", "prompts/list_changed", "resources/list_changed", "resources/updated",
        ]  # fmt: skip


# -- the client's presence --


@pytest.mark.parametrize("modern", [True, False])
async def test_a_lost_connection_sets_disconnected_and_cancels_in_one_era_alone(modern: bool) -> None:
    events: list[str] = []
    started, ended, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def body(ctx: Context) -> None:
        gone = ctx.disconnected
        assert ctx.disconnected is gone and not gone.is_set()
        started.set()
        try:
            await gone.wait()
            events.append("noticed")
            await released.wait()
            events.append("went on")
        except asyncio.CancelledError:
            assert gone.is_set()
            assert ctx.disconnected.is_set()
            events.append("cancelled")
            raise
        finally:
            ended.set()

    async with running(body) as (_, client):
        peer: Any = client if modern else Legacy(client.port, "2025-06-18")
        if not modern:
            await peer.initialize()
        raw = await client.client().connect()
        message = peer.request("tools/call", {"name": "it"})
        body_bytes = json.dumps(message).encode()
        await raw.send_request("POST", "/mcp", peer.headers_for(message), body_bytes)
        with anyio.fail_after(LIMIT):
            await started.wait()
            raw.abort()
            if not modern:
                while not events:
                    await anyio.lowlevel.checkpoint()
            released.set()
            await ended.wait()
    assert events == (["cancelled"] if modern else ["noticed", "went on"])


async def test_disconnected_is_set_where_nobody_asked_for_it_before() -> None:
    found: list[bool] = []
    started, released, done = threading.Event(), threading.Event(), threading.Event()

    async with running(facts) as (server, client):

        def stay(ctx: Context) -> str:
            started.set()
            released.wait(LIMIT)
            found.append(ctx.disconnected.is_set())
            done.set()
            return ""

        server.add_tool(stay)
        raw = await client.client().connect()
        message = client.request("tools/call", {"name": "stay"})
        await raw.send_request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
        assert await anyio.to_thread.run_sync(started.wait, 5)
        await raw.send_eof()
        assert await raw.receive_eof() == b""
        await raw.aclose()
        released.set()
        assert await anyio.to_thread.run_sync(done.wait, 5)
    assert found == [True]


async def test_closing_the_stream_does_nothing_where_a_client_cannot_come_back() -> None:
    async def body(ctx: Context) -> None:
        await ctx.close_sse_stream()
        await ctx.info("still here")

    async with running(body) as (_, client):
        answer = await call(client, meta={f"{META}logLevel": "info"})
        assert len(answer.notifications) == 1


# -- threads --


async def test_a_sync_function_speaks_by_waiting() -> None:
    async with running(facts) as (server, client):

        def work(ctx: Context) -> str:
            ctx.wait(ctx.info("half"))
            ctx.wait(ctx.report_progress(1))
            return ctx.wait(asyncio.sleep(0, "slept"))

        server.add_tool(work)
        answer = await client.call("tools/call", {"name": "work"},
                                   meta={f"{META}logLevel": "info", "progressToken": 1})  # fmt: skip
        assert [n["method"] for n in answer.notifications] == ["notifications/message", "notifications/progress"]
        assert answer.result["content"][0]["text"] == "slept"


async def test_what_a_wait_raises_is_raised_in_the_thread() -> None:
    async with running(facts) as (server, client):

        def work(ctx: Context) -> str:
            with pytest.raises(ValueError, match="loud"):
                ctx.wait(ctx.log("loud", "x"))
            return "caught"

        server.add_tool(work)
        assert (await client.call("tools/call", {"name": "work"})).result["content"][0]["text"] == "caught"


async def test_waiting_on_the_loop_itself_is_refused() -> None:
    async def body(ctx: Context) -> str:
        with pytest.raises(RuntimeError, match="await"):
            ctx.wait(ctx.info("x"))
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="await"):
            ctx.wait(future)
        return "refused"

    async with running(body) as (server, client):
        await call(client)
        assert server.got == "refused"


async def test_blocking_work_runs_off_the_loop() -> None:
    async def body(ctx: Context) -> bool:
        return await ctx.run_sync(threading.get_ident) != threading.get_ident()

    async with running(body) as (server, client):
        await call(client)
        assert server.got is True


# -- what the eras fill in --


async def test_an_exchange_says_which_parts_an_era_has_to_fill() -> None:
    runtime: Any = object()
    exchange = Exchange(runtime, LATEST_MODERN, Request(7, "tools/call", {"name": "x"}), "somebody")
    assert (exchange.request_id, exchange.method, exchange.params) == (7, "tools/call", {"name": "x"})
    assert exchange.runtime is runtime and exchange.principal == "somebody" and not exchange.done
    assert (exchange.session, exchange.headers, exchange.connected) == (None, None, True)
    await exchange.close_stream()
    for missing in (
        lambda: exchange.client_info,
        lambda: exchange.client_capabilities,
        lambda: exchange.wants_log(0),
    ):
        with pytest.raises(NotImplementedError):
            missing()
    for speak in (exchange.notify("x", {}), exchange.ask({})):
        with pytest.raises(NotImplementedError):
            await speak


def test_a_need_for_input_is_no_exception_that_a_function_would_catch() -> None:
    assert not issubclass(NeedInput, Exception)


async def test_a_context_may_be_written_as_the_official_sdk_writes_it() -> None:
    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield {"database": "open"}

    server = MCPServer("typed", lifespan=lifespan)

    @server.tool
    async def ask(ctx: Context[Any, dict[str, str]]) -> str:
        """Uses what the lifespan opened."""
        return str(ctx.request_context.lifespan_context["database"])

    async with listening(server, port=0) as running, Legacy(running.port, "2025-11-25") as client:
        listed = (await client.call("tools/list")).result["tools"]
        assert listed[0]["inputSchema"].get("properties", {}) == {}
        result = (await client.call("tools/call", {"name": "ask"})).result
    assert result["content"][0]["text"] == "open"
