# SPDX-License-Identifier: MIT
"""The spans of a server, on each carrier and in both eras, as the SDK of OpenTelemetry records them."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import anyio
import pytest
import sse_support
from asgi_support import ask
from pipes_support import piped
from rawclient import LIMIT, Legacy, Modern, ProtocolError, encode
from serving import LEGACY, Held, call, served
from spans_support import (
    OTHER_PARENT,
    PARENT,
    TRACE,
    TRACEPARENT,
    Recorded,
    SpanKind,
    attributes_of,
    error_of,
    id_of,
    links_of,
    parent_of,
    status_of,
    trace_of,
)

from mcp_h11 import Context, MCPError, MCPServer, ServerHandler, ToolError, asgi, listening

pytestmark = pytest.mark.anyio
MODERN = "2026-07-28"
META = {"_meta": {"traceparent": TRACEPARENT}}


class Tools(Held):
    """Tools that look at the current span, and tools that fail."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__()
        self.tracer = recorded.provider.get_tracer("the program")
        for tool in (self.inner, self.threaded, self.tasked, self.refuses, self.breaks, self.says_error, self.asks):
            self.add_tool(tool, name=tool.__name__)
        self.add_resource("test://thing", lambda: "content", name="thing")
        self.add_resource("test://gone", self.gone, name="gone")
        self.add_prompt(lambda: "prompt", name="plain")

    def work(self) -> str:
        with self.tracer.start_as_current_span("work"):
            return "done"

    async def inner(self) -> str:
        await asyncio.sleep(0)
        return self.work()

    def threaded(self) -> str:
        return self.work()

    async def tasked(self) -> str:
        return await asyncio.create_task(self.inner())

    async def refuses(self) -> str:
        raise ToolError("a secret of the user")

    async def breaks(self) -> str:
        raise ValueError("another secret")

    async def says_error(self) -> dict[str, Any]:
        return {"content": [], "isError": True}

    async def asks(self, ctx: Context) -> str:
        with self.tracer.start_as_current_span("before the question"):
            return str((await ctx.elicit("Which?", {"type": "object", "properties": {}})).action)

    async def gone(self) -> str:
        raise MCPError(-32603, "the disk is full")


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def serving(recorded: Recorded, **options: Any) -> Any:
    return served(Tools(recorded), tracing=recorded.provider, **options)


# --- each carrier ---------------------------------------------------------------------------------------------------


async def test_a_call_of_2026_07_28_over_http(recorded: Recorded) -> None:
    async with serving(recorded) as server:
        assert (await Modern(server.port).call("tools/call", {**call("echo", text="hi"), **META}, id="a")).result
    span = recorded.one("tools/call echo", "SERVER")
    assert (trace_of(span), parent_of(span), links_of(span)) == (TRACE, PARENT, [])
    assert span.parent is not None and span.parent.is_remote
    assert status_of(span) == ("UNSET", None)
    assert attributes_of(span) == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": MODERN,
        "jsonrpc.request.id": "a",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "echo",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
    }
    assert span.instrumentation_scope is not None and span.instrumentation_scope.name == "mcp_h11"


async def test_a_call_of_a_session_over_http(recorded: Recorded) -> None:
    async with serving(recorded) as server, Legacy(server.port, LEGACY) as client:
        assert (await client.call("tools/call", {**call("echo", text="hi"), **META}, id=7)).result
        session = client.session
    span = recorded.one("tools/call echo", "SERVER")
    assert (trace_of(span), parent_of(span)) == (TRACE, PARENT)
    assert attributes_of(span) == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": LEGACY,
        "mcp.session.id": session,
        "jsonrpc.request.id": "7",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "echo",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
    }


async def test_every_other_method_of_a_session(recorded: Recorded) -> None:
    async with serving(recorded) as server, Legacy(server.port, LEGACY) as client:
        await client.call("ping", META)
        await client.call("tools/list", META)
        await client.call("resources/read", {"uri": "test://thing", **META})
        await client.call("resources/subscribe", {"uri": "test://thing", **META})
        await client.call("prompts/get", {"name": "plain", **META})
        await client.call("logging/setLevel", {"level": "error", **META})
        session = client.session
    for name in ("ping", "tools/list", "resources/read", "resources/subscribe", "logging/setLevel"):
        span = recorded.one(name, "SERVER")
        assert (parent_of(span), span.status.is_unset) == (PARENT, True), name
        assert attributes_of(span)["mcp.method.name"] == name
        uri = "test://thing" if name.startswith("resources/") else None
        assert attributes_of(span).get("mcp.resource.uri") == uri
    assert attributes_of(recorded.one("prompts/get plain"))["gen_ai.prompt.name"] == "plain"
    begun = attributes_of(recorded.one("initialize"))
    assert (begun["mcp.session.id"], begun["mcp.protocol.version"]) == (session, LEGACY)
    assert begun["network.protocol.version"] == "1.1"


async def test_every_other_method_of_2026_07_28(recorded: Recorded) -> None:
    async with serving(recorded) as server:
        client = Modern(server.port)
        await client.call("server/discover", META)
        await client.call("resources/list", META)
        await client.call("resources/read", {"uri": "test://thing", **META})
        await client.call("prompts/get", {"name": "plain", **META})
    assert {span.name for span in recorded.ended} == {
        "server/discover", "resources/list", "resources/read", "prompts/get plain"
    }  # fmt: skip
    assert {parent_of(span) for span in recorded.ended} == {PARENT}


async def test_a_handshake_that_fails(recorded: Recorded) -> None:
    async with serving(recorded) as server:
        params = {"protocolVersion": 5, "capabilities": {}, "clientInfo": {}}
        client = Legacy(server.port, LEGACY)
        client.check = False
        assert (await client.call("initialize", params)).error["code"] == -32602
    assert error_of(recorded.one("initialize")) == ("UNSET", None, "-32602")


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_pipes(recorded: Recorded, revision: str) -> None:
    async with piped(Tools(recorded), tracing=recorded.provider) as client:
        if revision == LEGACY:
            await client.initialize(LEGACY)
        client.request(3, "tools/call", {**call("echo", text="hi"), **META}, revision=revision)
        await client.result(3)
    span = recorded.one("tools/call echo", "SERVER")
    assert (trace_of(span), parent_of(span)) == (TRACE, PARENT)
    said = attributes_of(span)
    assert (said["network.transport"], said["mcp.protocol.version"]) == ("pipe", revision)
    assert not {"mcp.session.id", "network.protocol.name", "client.address"} & {*said}
    assert len(recorded.ended) == (2 if revision == LEGACY else 1), "and initialize"


async def test_http_with_sse(recorded: Recorded) -> None:
    async with serving(recorded, legacy_sse=True) as server, sse_support.connected(server.port) as peer:
        await peer.initialize("2024-11-05")
        params = {**call("echo", text="hi"), **META}
        await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    span = recorded.one("tools/call echo", "SERVER")
    said = attributes_of(span)
    assert (parent_of(span), said["network.transport"], said["network.protocol.name"]) == (PARENT, "tcp", "http")
    assert peer.endpoint.endswith(said["mcp.session.id"])
    assert recorded.one("initialize").status.is_unset


async def test_batches(recorded: Recorded) -> None:
    async with serving(recorded) as server, Legacy(server.port, "2025-03-26") as client:
        calls = [client.request("tools/call", {**call("echo", text="hi"), **META}, id=n) for n in (1, 2)]
        assert (await client.post(calls)).status == 200
    ids = {attributes_of(span)["jsonrpc.request.id"] for span in recorded.ended if span.name == "tools/call echo"}
    assert ids == {"1", "2"}


async def test_asgi_and_the_span_of_the_server_around_it(recorded: Recorded) -> None:
    """The instrumentation of an HTTP server makes its span the current one: it is linked, or else the parent."""
    tracer = recorded.provider.get_tracer("http")
    app = asgi(Tools(recorded), tracing=recorded.provider, lag_warning=None)
    with tracer.start_as_current_span("POST 1", kind=SpanKind.SERVER):  # it starts the server: there is no lifespan
        assert (await ask(app, "tools/call", **call("echo", text="hi"), **META)).status == 200
        assert (await ask(app, "tools/call", **call("inner"))).status == 200
    with tracer.start_as_current_span("POST 2", kind=SpanKind.SERVER):
        assert (await ask(app, "tools/call", **call("threaded"))).status == 200
    await app.aclose()
    first, second = id_of(recorded.one("POST 1")), id_of(recorded.one("POST 2"))
    span = recorded.one("tools/call echo")
    assert (parent_of(span), links_of(span)) == (PARENT, [first])
    span = recorded.one("tools/call inner")
    assert (parent_of(span), links_of(span)) == (first, [])
    assert attributes_of(span)["client.address"] == "192.0.2.7"
    assert parent_of(recorded.one("tools/call threaded")) == second


# --- the parent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_the_headers_are_the_parent_where_meta_names_none(recorded: Recorded, era: str) -> None:
    async with serving(recorded) as server:
        client: Any = Modern(server.port) if era == MODERN else Legacy(server.port, era)
        client.extra_headers = {"traceparent": OTHER_PARENT}
        if era == LEGACY:
            await client.initialize()
        await client.call("tools/call", call("echo", text="hi"))
        await client.call("tools/call", {**call("inner"), **META})
    alone, both = recorded.one("tools/call echo"), recorded.one("tools/call inner")
    assert (trace_of(alone), parent_of(alone), links_of(alone)) == (OTHER_PARENT[3:35], OTHER_PARENT[36:52], [])
    assert (trace_of(both), parent_of(both), links_of(both)) == (TRACE, PARENT, [OTHER_PARENT[36:52]])


async def test_the_state_and_the_baggage_come_along(recorded: Recorded) -> None:
    from opentelemetry import baggage

    server = MCPServer("state")

    @server.tool
    async def look() -> str:
        return str(baggage.get_baggage("user"))

    meta = {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2", "baggage": "user=ann"}
    async with served(server, tracing=recorded.provider) as running:
        found = (await Modern(running.port).call("tools/call", {**call("look"), "_meta": meta})).result
    assert found["content"][0]["text"] == "ann"
    context = recorded.one("tools/call look").get_span_context()
    assert context is not None and context.trace_state.to_header() == "a=1,b=2"


BAD = {
    "a number": 5,
    "a list": [TRACEPARENT],
    "null": None,
    "empty": "",
    "words": "not a trace",
    "zeros": f"00-{'0' * 32}-{PARENT}-01",
    "version ff": f"ff-{TRACE}-{PARENT}-01",
    "long": TRACEPARENT + "-" + "x" * 100_000,
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
async def test_a_parent_that_is_none_begins_a_trace(recorded: Recorded, value: Any, caplog: Any) -> None:
    meta = {"traceparent": value, "tracestate": value, "baggage": value}
    async with serving(recorded) as server:
        assert (await Modern(server.port).call("tools/call", {**call("echo", text="hi"), "_meta": meta})).result
    assert recorded.one("tools/call echo").parent is None
    assert not caplog.records, "a client cannot fill the log"


async def test_a_span_of_the_server_s_start_is_no_parent(recorded: Recorded) -> None:
    """It would last as long as the server, and all requests of all clients would be one trace."""
    with recorded.provider.get_tracer("main").start_as_current_span("main"):
        async with serving(recorded) as server:
            await Modern(server.port).call("tools/call", call("inner"))
    span = recorded.one("tools/call inner")
    assert span.parent is None and trace_of(span) != trace_of(recorded.one("main"))
    assert parent_of(recorded.one("work")) == id_of(span)


# --- inside ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"eager": False}, {"call_timeout": 20.0}, {"max_running": 1}], ids=str)
@pytest.mark.parametrize("tool", ["inner", "threaded", "tasked"])
@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_the_function_runs_inside_of_the_span(recorded: Recorded, tool: str, era: str, options: Any) -> None:
    async with serving(recorded, **options) as server:
        client: Any = Modern(server.port) if era == MODERN else Legacy(server.port, era)
        if era == LEGACY:
            await client.initialize()
        await client.call("tools/call", {**call(tool), **META})
    span, work = recorded.one(f"tools/call {tool}"), recorded.one("work")
    assert (trace_of(work), parent_of(work)) == (TRACE, id_of(span))
    assert span.start_time <= work.start_time <= work.end_time <= span.end_time  # type: ignore[operator]


async def test_two_calls_at_once_do_not_see_each_other_s_span(recorded: Recorded) -> None:
    async with serving(recorded) as server:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(Modern(server.port).call, "tools/call", call("inner"))
    works = [span for span in recorded.ended if span.name == "work"]
    calls = {id_of(span): span for span in recorded.ended if span.name == "tools/call inner"}
    assert len(works) == len(calls) == 5 == len({parent_of(work) for work in works})
    assert all(trace_of(calls[parent_of(work)]) == trace_of(work) for work in works)


async def test_the_wait_for_a_place_is_part_of_the_span(recorded: Recorded) -> None:
    handler = Tools(recorded)
    async with served(handler, tracing=recorded.provider, max_running=1) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Modern(server.port).call, "tools/call", call("hold"))
            await handler.until(started=1)
            tasks.start_soon(Modern(server.port).call, "tools/call", call("inner"))
            with anyio.fail_after(LIMIT):
                while not server.runtime.waiting:
                    await asyncio.sleep(0)
            handler.released.set()
    held, waited = recorded.one("tools/call hold"), recorded.one("tools/call inner")
    assert waited.start_time < held.end_time < recorded.one("work").start_time  # type: ignore[operator]


async def test_a_call_that_ends_in_the_line_leaves_nothing_behind(recorded: Recorded) -> None:
    handler = Tools(recorded)
    async with served(handler, tracing=recorded.provider, max_running=1) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Modern(server.port).call, "tools/call", call("hold"))
            await handler.until(started=1)
            client = Modern(server.port)
            message = client.request("tools/call", call("inner"))
            with anyio.fail_after(LIMIT):
                async with client.client() as raw:
                    await raw.send_request("POST", "/mcp", client.headers_for(message), encode(message))
                    while not server.runtime.waiting:
                        await asyncio.sleep(0)
                while server.runtime.waiting:  # the client has left
                    await asyncio.sleep(0)
            handler.released.set()
    assert [span.name for span in recorded.ended] == ["tools/call hold"]


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["refuses", "breaks", "says_error"])
@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_tool_that_fails(recorded: Recorded, tool: str, era: str, caplog: Any) -> None:
    async with serving(recorded) as server:
        client: Any = Modern(server.port) if era == MODERN else Legacy(server.port, era)
        if era == LEGACY:
            await client.initialize()
        assert (await client.call("tools/call", call(tool))).result["isError"]
    span = recorded.one(f"tools/call {tool}")
    assert error_of(span) == ("ERROR", "tool_error", None)
    assert status_of(span)[1] is None, "the text is for the model, and may be a secret"
    assert "secret" not in str(attributes_of(span))


async def test_a_tool_of_a_handler_that_fails(recorded: Recorded, caplog: Any) -> None:
    class Fails(ServerHandler):
        async def list_tools(self, params: Any, ctx: Context) -> Any:
            return {"tools": []}

        async def call_tool(self, params: Any, ctx: Context) -> Any:
            raise ValueError("no")

    async with listening(Fails(), port=0, tracing=recorded.provider) as server:
        assert (await Modern(server.port).call("tools/call", call("x"))).result["isError"]
    assert error_of(recorded.one("tools/call x")) == ("ERROR", "tool_error", None)


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_an_error_of_the_server_has_its_code_and_its_message(recorded: Recorded, era: str) -> None:
    async with serving(recorded) as server:
        client: Any = Modern(server.port) if era == MODERN else Legacy(server.port, era)
        if era == LEGACY:
            await client.initialize()
        assert (await client.call("resources/read", {"uri": "test://gone"})).error["code"] == -32603
    span = recorded.one("resources/read")
    assert error_of(span) == ("ERROR", "-32603", "-32603")
    assert status_of(span) == ("ERROR", "the disk is full")


OF_CALLER = {
    "no such tool": ("tools/call", {"name": "made up", "arguments": {}}, "-32602", "tools/call"),
    "no such prompt": ("prompts/get", {"name": "made up"}, "-32602", "prompts/get"),
    "no such resource": ("resources/read", {"uri": "test://made-up"}, "-32002", "resources/read"),
    "no such method": ("made/up", {}, "-32601", "_OTHER"),
}


@pytest.mark.parametrize(("method", "params", "code", "name"), OF_CALLER.values(), ids=OF_CALLER)
async def test_an_error_of_the_caller_is_none_of_the_server(
    recorded: Recorded, method: str, params: Any, code: str, name: str
) -> None:
    """And a name that the client made up does not stay in the name of the span."""
    async with serving(recorded) as server, Legacy(server.port, LEGACY) as client:
        client.check = False
        assert (await client.call(method, params)).error["code"] == int(code)
    assert error_of(recorded.one(name)) == ("UNSET", None, code)


async def test_a_long_name_is_cut(recorded: Recorded) -> None:
    async with serving(recorded) as server, Legacy(server.port, LEGACY) as client:
        client.check = False
        await client.call("tools/call", {"name": "x" * 100_000, "arguments": {}}, id="i" * 500)
        await client.call("resources/read", {"uri": "test://" + "y" * 100_000})
    sizes = {len(str(value)) for span in recorded.ended for value in attributes_of(span).values()}
    assert max(sizes) == 1_024


async def test_texts_of_a_client_can_be_written_as_utf_8(recorded: Recorded) -> None:
    """An exporter writes many spans at once, and none of them where one has a lone surrogate."""
    odd = "a\ud800b"
    async with serving(recorded) as server, Legacy(server.port, LEGACY) as client:
        for method, params in (
            ("tools/call", {"name": odd, "arguments": {}}),
            ("prompts/get", {"name": odd}),
            ("resources/read", {"uri": odd}),
            (odd, {}),
        ):
            message = {"jsonrpc": "2.0", "id": odd, "method": method, "params": params}
            assert "error" in (await client.post(json.dumps(message).encode())).json()
    assert len(recorded.ended) == 5
    for span in recorded.ended:
        for text in (span.name, span.status.description or "", *(span.attributes or {}).values()):
            str(text).encode("utf-8")


async def test_a_read_that_takes_too_long_is_a_timeout_with_the_code_of_its_answer(
    recorded: Recorded, caplog: Any
) -> None:
    handler = Tools(recorded)
    handler.add_resource("test://slow", handler.hold, name="slow")
    async with served(handler, tracing=recorded.provider, call_timeout=0.05) as server:
        assert (await Modern(server.port).call("resources/read", {"uri": "test://slow"})).error["code"] == -32603
    assert error_of(recorded.one("resources/read")) == ("ERROR", "timeout", "-32603")


class Odd(BaseException):
    """What no handler should raise."""


async def test_a_tool_that_raises_no_exception(recorded: Recorded, caplog: Any) -> None:
    handler = Tools(recorded)

    async def odd() -> str:
        raise Odd

    handler.add_tool(odd)
    async with served(handler, tracing=recorded.provider) as server:
        assert (await Modern(server.port).call("tools/call", call("odd"))).error["code"] == -32603
    assert error_of(recorded.one("tools/call odd")) == ("ERROR", "Odd", None)


async def test_a_call_that_takes_too_long(recorded: Recorded, caplog: Any) -> None:
    async with serving(recorded, call_timeout=0.05) as server:
        assert (await Modern(server.port).call("tools/call", call("hold"))).result["isError"]
    assert error_of(await recorded.until("tools/call hold")) == ("ERROR", "timeout", None)


# --- the end --------------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_of_a_session(recorded: Recorded) -> None:
    handler = Tools(recorded)
    async with served(handler, tracing=recorded.provider) as server, Legacy(server.port, LEGACY) as client:
        async with client.posting(client.request("tools/call", call("stream"), id="c")) as stream:
            await stream.next_message()
            await client.notify("notifications/cancelled", {"requestId": "c"})
            span = await recorded.until("tools/call stream")
    assert error_of(span) == ("ERROR", "cancelled", None)


async def test_a_client_of_2026_07_28_that_leaves(recorded: Recorded) -> None:
    handler = Tools(recorded)
    async with served(handler, tracing=recorded.provider) as server:
        client = Modern(server.port)
        async with client.client() as raw:
            message = client.request("tools/call", call("hold"))
            await raw.send_request("POST", "/mcp", client.headers_for(message), encode(message))
            await handler.until(started=1)
        span = await recorded.until("tools/call hold")
    assert error_of(span) == ("ERROR", "cancelled", None)


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_a_cancelled_call_on_a_pipe(recorded: Recorded, revision: str) -> None:
    handler = Tools(recorded)
    async with piped(handler, tracing=recorded.provider) as client:
        if revision == LEGACY:
            await client.initialize(LEGACY)
        client.request("c", "tools/call", call("hold"), revision=revision)
        await handler.until(started=1)
        client.notify("notifications/cancelled", requestId="c")
        assert error_of(await recorded.until("tools/call hold")) == ("ERROR", "cancelled", None)


async def test_a_call_that_outlasts_the_server(recorded: Recorded) -> None:
    handler = Tools(recorded)
    async with anyio.create_task_group() as tasks:
        async with served(handler, tracing=recorded.provider, grace=0) as server:

            async def leaves() -> None:
                try:
                    await Modern(server.port).call("tools/call", call("hold"))
                except (ProtocolError, OSError):
                    pass

            tasks.start_soon(leaves)
            await handler.until(started=1)
    assert error_of(recorded.one("tools/call hold")) == ("ERROR", "cancelled", None)


# --- questions ------------------------------------------------------------------------------------------------------


async def asked(recorded: Recorded, answer: Any, **options: Any) -> tuple[dict[str, Any], Any]:
    """The question of the tool `asks` on the wire, and the answer to the call."""
    questions = []

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        questions.append(question)
        return dict(answer)

    async with served(Tools(recorded), tracing=recorded.provider, **options) as server:
        client = Legacy(server.port, LEGACY)
        await client.initialize({"elicitation": {}})
        found = await client.call("tools/call", {**call("asks"), **META}, answerer=reply)
        await client.delete()
    return questions[0], found


async def test_a_question_is_a_span_of_the_client_kind_and_carries_the_trace_on(recorded: Recorded) -> None:
    question, _ = await asked(recorded, {"result": {"action": "decline"}})
    span = recorded.one("elicitation/create")
    assert span.kind.name == "CLIENT" and parent_of(span) == id_of(recorded.one("before the question"))
    assert question["params"]["_meta"] == {"traceparent": f"00-{TRACE}-{id_of(span)}-01"}
    said = attributes_of(span)
    assert (said["jsonrpc.request.id"], said["mcp.protocol.version"]) == (question["id"], LEGACY)
    assert error_of(span) == ("UNSET", None, None)


async def test_a_question_that_is_refused(recorded: Recorded) -> None:
    await asked(recorded, {"error": {"code": -32602, "message": "no"}})
    assert error_of(recorded.one("elicitation/create")) == ("ERROR", "-32602", "-32602")


@pytest.mark.parametrize("end", ["timeout", "cancelled"])
async def test_a_question_without_an_answer(recorded: Recorded, end: str) -> None:
    limit = {"ask_timeout": 0.05} if end == "timeout" else {}
    async with served(Tools(recorded), tracing=recorded.provider, **limit) as server:
        client = Legacy(server.port, LEGACY)
        await client.initialize({"elicitation": {}})
        async with client.posting(client.request("tools/call", call("asks"), id="c")) as stream:
            assert (await stream.next_message())["method"] == "elicitation/create"
            if end == "cancelled":
                await client.notify("notifications/cancelled", {"requestId": "c"})
            assert error_of(await recorded.until("elicitation/create")) == ("ERROR", end, None)
        await client.delete()


@pytest.mark.parametrize(("end", "kind"), [("the pipe ends", "ToolError"), ("the session ends", "cancelled")])
async def test_a_question_whose_client_is_gone(recorded: Recorded, end: str, kind: str) -> None:
    if end == "the pipe ends":
        async with piped(Tools(recorded), tracing=recorded.provider) as pipe:
            await pipe.initialize(LEGACY, {"elicitation": {}})
            pipe.request(1, "tools/call", call("asks"), revision=LEGACY)
            assert (await pipe.receive())["method"] == "elicitation/create"
    else:
        async with served(Tools(recorded), tracing=recorded.provider) as server:
            client = Legacy(server.port, LEGACY)
            await client.initialize({"elicitation": {}})
            async with client.posting(client.request("tools/call", call("asks"))) as stream:
                assert (await stream.next_message())["method"] == "elicitation/create"
                await client.delete()
                await recorded.until("elicitation/create")
    assert error_of(recorded.one("elicitation/create")) == ("ERROR", kind, None)


async def test_the_questions_of_2026_07_28_are_results_and_no_spans(recorded: Recorded) -> None:
    async with serving(recorded) as server:
        client = Modern(server.port, capabilities={"elicitation": {"form": {}}})
        found = (await client.call("tools/call", {**call("asks"), **META})).result
    assert found["resultType"] == "input_required"
    assert {span.name for span in recorded.ended} == {"tools/call asks", "before the question"}
    assert error_of(recorded.one("tools/call asks")) == ("UNSET", None, None)


# --- faults of spans ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_processor_that_fails_fails_no_request(where: str, era: str, caplog: Any) -> None:
    recorded = Recorded()

    def fail(*_: Any) -> None:
        raise RuntimeError("the exporter is broken")

    setattr(recorded, where, fail)
    async with served(Tools(recorded), tracing=recorded.provider) as server:
        client: Any = Modern(server.port) if era == MODERN else Legacy(server.port, era)
        if era == LEGACY:
            await client.initialize({"elicitation": {}})
        found = await client.call("tools/call", call("echo", text="hi"))
        assert found.result["content"][0]["text"] == "hi"
    assert any("the span of tools/call" in r.message or "no span could be" in r.message for r in caplog.records)
    assert all(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_processor_that_fails_changes_no_refusal_and_no_question(caplog: Any) -> None:
    recorded = Recorded()

    def fail(*_: Any) -> None:
        raise RuntimeError("the exporter is broken")

    recorded.on_start = fail  # type: ignore[method-assign]
    handler = Held()  # the tools of this file begin spans of their own
    questions = []

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        questions.append(question)
        return {"result": {"action": "decline"}}

    async with served(handler, tracing=recorded.provider) as server:
        client = Legacy(server.port, LEGACY)
        client.check = False
        bad = {"protocolVersion": 5, "capabilities": {}, "clientInfo": {}}
        assert (await client.call("initialize", bad)).error["code"] == -32602
        await client.initialize({"elicitation": {}})
        assert (await client.call("tools/call", call("ask"), answerer=reply)).result["content"]
        await client.delete()
    assert len(questions) == 1 and "_meta" not in questions[0]["params"]


async def test_without_a_provider_there_are_no_spans_and_no_meta() -> None:
    handler = Held()
    questions = []

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        questions.append(question)
        return {"result": {"action": "decline"}}

    async with served(handler) as server:
        assert server.runtime.spans is None
        client = Legacy(server.port, LEGACY)
        await client.initialize({"elicitation": {}})
        await client.call("tools/call", {**call("ask"), **META}, answerer=reply)
        await client.delete()
    assert "_meta" not in questions[0]["params"]
