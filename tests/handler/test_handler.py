# SPDX-License-Identifier: MIT
"""`ServerHandler` as its author sees it, and what the wire makes of all that it may do."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from patience import heard
from rawclient import LIMIT, Legacy, Modern

from mcp_h11 import (
    Context,
    InvalidParams,
    MCPError,
    MethodNotFound,
    ResourceNotFound,
    ServerHandler,
    ToolError,
    listening,
)
from mcp_h11.handler.notices import Notice, Notices
from mcp_h11.protocol.methods import METHODS

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(handler: ServerHandler, **settings: Any) -> AsyncIterator[Modern]:
    async with listening(handler, port=0, grace=0.2, **settings) as server:
        yield Modern(server.port)


class Both(ServerHandler):
    """Some methods with `def`, some with `async def`."""

    name = "both"
    version = "3"

    def list_tools(self, params: Any, ctx: Context) -> Any:
        return {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}

    def call_tool(self, params: Any, ctx: Context) -> Any:
        return {"content": [{"type": "text", "text": params["name"]}]}

    async def list_resources(self, params: Any, ctx: Context) -> Any:
        return {"resources": [{"name": "r", "uri": "r:1"}]}

    def read_resource(self, params: Any, ctx: Context) -> Any:
        raise ResourceNotFound(params["uri"])

    def list_resource_templates(self, params: Any, ctx: Context) -> Any:
        return {"resourceTemplates": []}

    def list_prompts(self, params: Any, ctx: Context) -> Any:
        return {"prompts": []}

    async def get_prompt(self, params: Any, ctx: Context) -> Any:
        return {"messages": []}

    def complete(self, params: Any, ctx: Context) -> Any:
        return {"completion": {"values": ["v"]}}


async def test_methods_may_be_sync_or_async() -> None:
    async with served(Both()) as client:
        for method, params, member in (
            ("tools/list", {}, "tools"),
            ("tools/call", {"name": "t"}, "content"),
            ("resources/list", {}, "resources"),
            ("resources/templates/list", {}, "resourceTemplates"),
            ("prompts/list", {}, "prompts"),
            ("prompts/get", {"name": "p"}, "messages"),
            ("completion/complete", {"ref": {}}, "completion"),
        ):
            assert member in (await client.call(method, params)).result
        answer = await client.call("resources/read", {"uri": "r:2"})
        assert (answer.error["code"], answer.error["data"]) == (-32602, {"uri": "r:2"})


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        ((), {}),
        (("list_tools",), {"tools": {"listChanged": True}}),
        (("call_tool",), {"tools": {"listChanged": True}}),
        (("read_resource",), {"resources": {"listChanged": True, "subscribe": True}}),
        (("list_resource_templates",), {"resources": {"listChanged": True, "subscribe": True}}),
        (("get_prompt",), {"prompts": {"listChanged": True}}),
        (("complete",), {"completions": {}}),
        (("list_tools", "complete"), {"tools": {"listChanged": True}, "completions": {}}),
        (("subscribe", "request", "notification"), {}),
    ],
)
async def test_capabilities_follow_from_what_is_overridden(names: tuple[str, ...], offered: dict[str, Any]) -> None:
    members = {name: getattr(Both, name, ServerHandler.set_level) for name in names}
    handler = type("Some", (ServerHandler,), members)()
    assert handler.capabilities() == {"logging": {}, **offered}
    if "request" not in names:
        async with served(handler) as client:
            assert (await client.call("server/discover")).result["capabilities"] == {"logging": {}, **offered}


@pytest.mark.parametrize(("name", "answered"), [("list_tools", "tools/list"), ("call_tool", "tools/call")])
async def test_what_is_offered_and_not_overridden_is_not_found(name: str, answered: str) -> None:
    def capabilities(self: ServerHandler) -> dict[str, Any]:
        return {**ServerHandler.capabilities(self), **{method.capability: {} for method in METHODS.values()}}

    members = {name: getattr(Both, name), "capabilities": capabilities}
    async with served(type("Half", (ServerHandler,), members)()) as client:
        for method in METHODS:
            answer = await client.call(method, {"name": "x", "uri": "x:y"})
            if method == answered:
                assert answer.result
            else:
                assert (answer.status, answer.error["code"]) == (404, -32601)


async def test_info_has_what_is_set_and_nothing_else() -> None:
    class Known(ServerHandler):
        name = "known"
        version = "9"
        title = "Known"
        description = "What it is"
        website_url = "https://known.example"
        icons = [{"src": "https://known.example/icon.png"}]

    assert Known().info() == {
        "name": "known",
        "version": "9",
        "title": "Known",
        "description": "What it is",
        "websiteUrl": "https://known.example",
        "icons": [{"src": "https://known.example/icon.png"}],
    }
    assert ServerHandler().info() == {"name": "mcp-server", "version": "0"}
    async with served(Known()) as client:
        result = (await client.call("server/discover")).result
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"] == Known().info()


class Custom(ServerHandler):
    """Answers methods of its own, and everything else as usual."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.event = threading.Event()

    async def request(self, method: str, params: Any, ctx: Context) -> Any:
        if method == "own/sum":
            await ctx.notify("own/step", {"at": 1})
            return {"sum": sum(params["of"])}
        return await super().request(method, params, ctx)

    async def notification(self, method: str, params: Any, ctx: Context | None) -> None:
        self.heard.append((method, params))
        self.event.set()

    def list_tools(self, params: Any, ctx: Context) -> Any:
        return {"tools": []}


async def test_a_handler_may_have_methods_of_its_own_in_both_eras() -> None:
    handler = Custom()
    async with served(handler) as client, Legacy(client.port, "2025-11-25") as session:
        for peer in (client, session):
            answer = await peer.call("own/sum", {"of": [1, 2]})
            assert answer.result["sum"] == 3
            assert [n["method"] for n in answer.notifications] == ["own/step"]
            assert (await peer.call("own/other")).error["code"] == -32601
            assert (await peer.call("tools/list")).result["tools"] == []
        result = (await client.call("own/sum", {"of": []})).result
        assert result["resultType"] == "complete" and "ttlMs" not in result and "_meta" in result
        await session.notify("own/said", {"a": 1})
        assert handler.event.wait(LIMIT)
        assert handler.heard == [("own/said", {"a": 1})]


async def test_a_notification_that_nobody_waits_for_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async with served(Both()) as client, Legacy(client.port, "2025-11-25") as session:
        assert (await session.notify("own/said", {"a": 1})).status == 202
        assert (await session.call("tools/list")).status == 200
    assert not heard(caplog)


# -- what may go wrong in a handler --


class Weird(BaseException):
    """Neither an error nor a cancellation."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Failing(ServerHandler):
    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def answer(self, params: Any, ctx: Context) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    list_tools = call_tool = list_prompts = get_prompt = answer  # type: ignore[assignment]

    async def read_resource(self, params: Any, ctx: Context) -> Any:
        return {"contents": []}


class Loop(dict[str, Any]):
    def __init__(self) -> None:
        super().__init__()
        self["self"] = self


@pytest.mark.parametrize(
    "outcome",
    [None, 5, "text", [], [{"tools": []}], object(), {1: object()}, {"tools": {1, 2}}, {"tools": [float("nan")]},
     {"tools": [b"x"]}, Loop(), Unspeakable()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
async def test_a_result_that_cannot_be_sent_is_an_internal_error_with_its_reason_in_the_log(
    outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Failing(outcome)) as client, Legacy(client.port, "2025-11-25") as session:
        for peer in (client, session):
            caplog.clear()
            answer = await peer.call("tools/list")
            assert (answer.status, answer.error["code"]) == (200, -32603)
            assert "data" not in answer.error
            assert any(record.levelno >= logging.ERROR for record in caplog.records)
            assert (await peer.call("resources/read", {"uri": "x:y"})).result["contents"] == []


@pytest.mark.parametrize("outcome", [Weird("w"), {"tools": [], "_meta": 5}], ids=lambda v: type(v).__name__)
async def test_what_is_neither_a_result_nor_an_error_is_an_internal_error(
    outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Failing(outcome)) as client:
        answer = await client.call("tools/list")
        assert (answer.status, answer.error["code"]) == (200, -32603)
        assert any(record.levelno >= logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("outcome", [None, [], object(), {"content": {1, 2}}], ids=lambda v: type(v).__name__)
async def test_a_tool_whose_result_is_none_is_an_internal_error_too(outcome: Any) -> None:
    async with served(Failing(outcome)) as client:
        assert (await client.call("tools/call", {"name": "x"})).error["code"] == -32603


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (ToolError("mind the gap"), "mind the gap"),
        (ValueError("bad value"), "bad value"),
        (KeyError(), "KeyError"),
        (RuntimeError("é\ud800\u2028"), "é\ud800\u2028"),
        (SystemExit(3), "The tool tried to end the server"),
        (SystemExit("secret"), "The tool tried to end the server"),
        (BrokenPipeError("pipe"), "pipe"),
        (TimeoutError(), "TimeoutError"),
        (StopAsyncIteration(), "StopAsyncIteration"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whatever_a_tool_raises_the_model_can_read(
    outcome: BaseException, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Failing(outcome)) as client, Legacy(client.port, "2025-11-25") as session:
        for peer in (client, session):
            caplog.clear()
            answer = await peer.call("tools/call", {"name": "x"})
            assert answer.result["isError"] is True
            assert answer.result["content"] == [{"type": "text", "text": text}]
            # What was foreseen needs no traceback.
            assert bool(caplog.records) is not isinstance(outcome, ToolError)


@pytest.mark.parametrize(
    "outcome", [ToolError("secret"), ValueError("secret"), SystemExit("secret"), KeyError("secret")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("method", ["tools/list", "prompts/get"])
async def test_what_anything_but_a_tool_raises_stays_in_the_log(
    outcome: BaseException, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(Failing(outcome)) as client, Legacy(client.port, "2025-11-25") as session:
        for peer in (client, session):
            caplog.clear()
            answer = await peer.call(method, {"name": "x"})
            assert answer.error == {"code": -32603, "message": "Internal error"}
            assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("outcome", "code", "data", "status"),
    [
        (MCPError(4711, "no", {"why": [1]}), 4711, {"why": [1]}, 200),
        (MCPError(4711, "no", 0), 4711, 0, 200),
        (InvalidParams("no"), -32602, None, 400),
        (MethodNotFound("x"), -32601, {"method": "x"}, 404),
    ],
)
async def test_an_error_that_is_raised_is_the_error_that_is_sent(
    outcome: MCPError, code: int, data: Any, status: int
) -> None:
    async with served(Failing(outcome)) as client, Legacy(client.port, "2025-11-25") as session:
        for method in ("tools/call", "prompts/get"):
            answer = await client.call(method, {"name": "x"})
            assert (answer.status, answer.error["code"], answer.error.get("data")) == (status, code, data)
            answer = await session.call(method, {"name": "x"})
            assert (answer.status, answer.error["code"], answer.error.get("data")) == (200, code, data)


async def test_an_error_whose_data_cannot_be_sent_is_still_an_error() -> None:
    async with served(Failing(MCPError(4711, "no", object()))) as client:
        answer = await client.call("prompts/get", {"name": "x"})
        assert answer.error["code"] in (4711, -32603)


async def test_a_param_headers_that_raises_harms_no_other_call(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Both):
        def param_headers(self, tool: str) -> Any:
            raise RuntimeError("secret")

    async with served(Broken()) as client:
        answer = await client.post(client.request("tools/call", {"name": "t"}))
        assert answer.status >= 400 and b"secret" not in answer.body
        assert (await client.call("tools/list")).status == 200


# -- changes --


def test_notices_reach_whoever_is_subscribed_and_nobody_else() -> None:
    notices, heard = Notices(), []
    first, second = heard.append, lambda notice: heard.append(("second", notice))
    notices.publish(Notice("tools"))
    notices.subscribe(first)
    notices.subscribe(second)
    notices.publish(Notice("updated", "x:y"))
    notices.unsubscribe(second)
    notices.unsubscribe(second)
    notices.publish(Notice("tools"))
    assert heard == [Notice("updated", "x:y"), ("second", Notice("updated", "x:y")), Notice("tools")]


def test_a_handler_needs_no_init_to_announce_changes() -> None:
    handler, heard = Failing(None), []
    assert handler.notices is handler.notices
    handler.notices.subscribe(heard.append)
    handler.notify_tools_changed()
    handler.notify_prompts_changed()
    handler.notify_resources_changed()
    handler.notify_resource_updated("x:y")
    assert heard == [Notice("tools"), Notice("prompts"), Notice("resources"), Notice("updated", "x:y")]


def test_a_handler_announces_the_lists_that_it_said_it_would_announce() -> None:
    class Some(ServerHandler):
        def capabilities(self) -> dict[str, Any]:
            return {
                "tools": {"listChanged": True},
                "prompts": {},
                "resources": {"subscribe": True, "listChanged": True},
            }

    handler, heard = Some(), []
    handler.notices.subscribe(heard.append)
    handler.notify_lists_changed()
    assert heard == [Notice("tools"), Notice("resources")]


async def test_subscribing_and_levels_are_passed_on_to_the_handler() -> None:
    seen: list[Any] = []

    class Curious(Both):
        async def subscribe(self, uri: str, ctx: Context) -> None:
            await super().subscribe(uri, ctx)
            seen.append(("+", uri))

        async def unsubscribe(self, uri: str, ctx: Context) -> None:
            await super().unsubscribe(uri, ctx)
            seen.append(("-", uri))

        async def set_level(self, level: str, ctx: Context) -> None:
            await super().set_level(level, ctx)
            seen.append(level)

    async with served(Curious()) as client, Legacy(client.port, "2025-11-25") as session:
        await session.call("resources/subscribe", {"uri": "x:y"})
        await session.call("resources/unsubscribe", {"uri": "x:y"})
        await session.call("logging/setLevel", {"level": "error"})
    assert seen == [("+", "x:y"), ("-", "x:y"), "error"]


async def test_the_lifespan_is_open_while_it_is_served() -> None:
    class Living(Both):
        events: list[str] = []

        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[Any]:
            self.events.append("opened")
            yield {"pool": 1}
            self.events.append("closed")

        def list_tools(self, params: Any, ctx: Context) -> Any:
            self.events.append(str(ctx.lifespan))
            return {"tools": []}

    handler = Living()
    async with served(handler) as client:
        await client.call("tools/list")
    assert handler.events == ["opened", "{'pool': 1}", "closed"]
