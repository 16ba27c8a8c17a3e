# SPDX-License-Identifier: MIT
"""The spans of a client, and the trace context that it sends and takes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from rawclient import LIMIT
from serving import LEGACY, Held, call, served
from spans_support import (
    TRACE,
    TRACEPARENT,
    Recorded,
    SpanKind,
    attributes_of,
    error_of,
    id_of,
    parent_of,
    status_of,
    trace_of,
)

from mcp_h11 import Client, ConnectionLost, Context, MCPError, RequestTimeout, listening
from mcp_h11.client.transports.errors import LoginFailed

pytestmark = pytest.mark.anyio
MODERN = "2026-07-28"


class Seen(Held):
    """Keeps the `_meta` of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.metas: dict[str, dict[str, Any]] = {}

    async def request(self, method: str, params: dict[str, Any], ctx: Context) -> Any:
        self.metas[method] = dict(ctx.meta)
        return await super().request(method, params, ctx)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.mark.parametrize("revision", [LEGACY, MODERN])
async def test_a_request_is_a_span_whose_context_the_server_gets(recorded: Recorded, revision: str) -> None:
    handler, tracer = Seen(), recorded.provider.get_tracer("the program")
    async with served(handler, tracing=False) as server:
        async with Client(server.url, revision=revision, tracing=recorded.provider) as client:
            with tracer.start_as_current_span("agent"):
                await client.call_tool("echo", {"text": "hi"})
            session = client.session_id
    span, agent = recorded.one("tools/call echo"), recorded.one("agent")
    assert span.kind is SpanKind.CLIENT
    assert (trace_of(span), parent_of(span), status_of(span)) == (trace_of(agent), id_of(agent), ("UNSET", None))
    assert handler.metas["tools/call"]["traceparent"][:52] == f"00-{trace_of(span)}-{id_of(span)}"
    said = attributes_of(span)
    assert said.pop("jsonrpc.request.id").isdigit()
    assert said.pop("mcp.session.id", None) == session
    assert said == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": revision,
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "echo",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }


async def test_the_handshake_is_a_span_that_tells_what_it_settled(recorded: Recorded) -> None:
    async with served(Held(), tracing=False) as server:
        async with Client(server.url, revision=LEGACY, tracing=recorded.provider) as client:
            session = client.session_id
    said = attributes_of(recorded.one("initialize"))
    assert (said["mcp.protocol.version"], said["mcp.session.id"]) == (LEGACY, session)


async def test_a_context_that_the_user_gave_is_the_parent_and_is_not_sent_on(recorded: Recorded) -> None:
    handler = Seen()
    meta = {"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "user=ann", "other": 1}
    async with served(handler, tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            await client.request("tools/call", call("echo", text="hi"), meta=meta)
    span = recorded.one("tools/call echo")
    assert (trace_of(span), parent_of(span)) == (TRACE, TRACEPARENT[36:52])
    sent = handler.metas["tools/call"]
    assert sent["traceparent"] == f"00-{TRACE}-{id_of(span)}-01"
    assert (sent["tracestate"], sent["baggage"], sent["other"]) == ("a=1", "user=ann", 1)
    assert meta["traceparent"] == TRACEPARENT, "the user's own dict stays as it is"


async def test_a_current_span_outranks_a_stale_context(recorded: Recorded) -> None:
    handler, tracer = Seen(), recorded.provider.get_tracer("the program")
    async with served(handler, tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            with tracer.start_as_current_span("agent"):
                meta = {"traceparent": TRACEPARENT, "tracestate": "stale=1"}
                await client.request("tools/call", call("echo", text="hi"), meta=meta)
    assert parent_of(recorded.one("tools/call echo")) == id_of(recorded.one("agent"))
    assert "tracestate" not in handler.metas["tools/call"], "the state of another trace"


async def test_middleware_runs_inside_of_the_span(recorded: Recorded) -> None:
    from opentelemetry import trace

    seen = []

    async def look(request: Any, proceed: Any) -> Any:
        seen.append(f"{trace.get_current_span().get_span_context().span_id:016x}")
        return await proceed(request)

    async with served(Held(), tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider, middleware=[look]) as client:
            await client.call_tool("echo", {"text": "hi"})
        assert id_of(recorded.one("tools/call echo")) in seen
        assert not trace.get_current_span().get_span_context().is_valid, "nothing is left behind"


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_an_error_of_the_server_is_one_of_the_request(recorded: Recorded) -> None:
    async with served(Held(), tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            with pytest.raises(MCPError):
                await client.call_tool("made up")
    span = recorded.one("tools/call")
    assert error_of(span) == ("ERROR", "-32602", "-32602")
    assert status_of(span)[1] == "Unknown tool: 'made up'"


async def test_a_tool_that_fails(recorded: Recorded) -> None:
    async with served(Held(), tracing=False, call_timeout=0.05) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            assert (await client.call_tool("hold"))["isError"]
    assert error_of(recorded.one("tools/call hold")) == ("ERROR", "tool_error", None)


async def test_a_request_without_an_answer(recorded: Recorded) -> None:
    handler = Held()
    async with served(handler, tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            with pytest.raises(RequestTimeout):
                await client.call_tool("hold", timeout=0.05)
    assert error_of(recorded.one("tools/call hold")) == ("ERROR", "timeout", None)


async def test_a_request_that_its_caller_cancels(recorded: Recorded) -> None:
    handler = Held()
    async with served(handler, tracing=False) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            task = asyncio.create_task(client.call_tool("hold"))
            await handler.until(started=1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert error_of(recorded.one("tools/call hold")) == ("ERROR", "cancelled", None)


async def test_a_refusal_by_http_has_its_status(recorded: Recorded) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 8\r\nConnection: close\r\n\r\na secret")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        with pytest.raises(MCPError):
            async with Client(f"http://127.0.0.1:{port}/mcp", tracing=recorded.provider):
                raise AssertionError("it was let in")
    span = recorded.one("server/discover")
    assert (error_of(span), status_of(span)[1]) == (("ERROR", "401", None), None)


async def test_what_a_child_wrote_stays_out_of_the_span(recorded: Recorded) -> None:
    code = "import sys; print('a secret', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ConnectionLost):
        async with Client([sys.executable, "-c", code], tracing=recorded.provider):
            raise AssertionError("it answered")
    assert recorded.ended
    for span in recorded.ended:
        assert error_of(span) == ("ERROR", "ConnectionLost", None)
        assert status_of(span)[1] is None and attributes_of(span)["network.transport"] == "pipe"


async def test_a_processor_that_fails_fails_no_request(caplog: Any) -> None:
    recorded = Recorded()

    def fail(*_: Any) -> None:
        raise RuntimeError("the exporter is broken")

    for where in ("on_start", "on_end"):
        setattr(recorded, where, fail)
        async with served(Held(), tracing=False) as server:
            async with Client(server.url, tracing=recorded.provider) as client:
                assert (await client.call_tool("echo", {"text": "hi"}))["content"][0]["text"] == "hi"
        delattr(recorded, where)


async def test_a_login_that_fails_tells_its_kind_and_not_its_words(recorded: Recorded) -> None:
    async def refuse(request: Any, proceed: Any) -> Any:
        raise LoginFailed("https://a.example said a secret", step="token")

    async with served(Held(), tracing=False) as server:
        with pytest.raises(LoginFailed):
            async with Client(server.url, tracing=recorded.provider, middleware=[refuse]):
                raise AssertionError("it was let in")
    span = recorded.ended[0]
    assert (error_of(span), status_of(span)[1]) == (("ERROR", "LoginFailed", None), None)


async def test_a_unix_socket_is_named(recorded: Recorded, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with listening(Held(), uds=path, tracing=False):
        async with Client(f"http+unix://{quote(path, safe='')}/mcp", tracing=recorded.provider) as client:
            await client.call_tool("echo", {"text": "hi"})
    said = attributes_of(recorded.one("tools/call echo"))
    assert (said["network.transport"], said["server.address"]) == ("unix", path)
    assert "server.port" not in said


async def test_spans_without_ids_put_nothing_into_meta() -> None:
    from opentelemetry.trace import NoOpTracerProvider

    handler = Seen()
    async with served(handler, tracing=False) as server:
        async with Client(server.url, revision=LEGACY, tracing=NoOpTracerProvider()) as client:
            await client.call_tool("echo", {"text": "hi"})
    assert handler.metas["tools/call"] == {}


# --- the server's questions -----------------------------------------------------------------------------------------


async def test_a_question_is_a_span_of_the_server_kind_in_the_same_trace(recorded: Recorded) -> None:
    from opentelemetry import trace

    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        with recorded.provider.get_tracer("form").start_as_current_span("form"):
            return {"action": "accept", "content": {"it": trace.get_current_span().get_span_context().trace_id}}

    async with served(Held(), tracing=recorded.provider) as server:
        async with Client(
            server.url, revision=LEGACY, tracing=recorded.provider, on_elicitation=elicit, timeout=LIMIT
        ) as client:
            await client.call_tool("ask")
    called, served_, asked, answered = (
        recorded.one("tools/call ask", "CLIENT"),
        recorded.one("tools/call ask", "SERVER"),
        recorded.one("elicitation/create", "CLIENT"),
        recorded.one("elicitation/create", "SERVER"),
    )
    assert [parent_of(span) for span in (served_, asked, answered, recorded.one("form"))] == [
        id_of(called), id_of(served_), id_of(asked), id_of(answered)
    ]  # fmt: skip
    assert attributes_of(asked)["jsonrpc.request.id"] == attributes_of(answered)["jsonrpc.request.id"]


async def test_a_question_that_cannot_be_answered(recorded: Recorded, caplog: Any) -> None:
    def elicit(params: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("a secret")

    async with served(Held(), tracing=False) as server:
        async with Client(server.url, revision=LEGACY, tracing=recorded.provider, on_elicitation=elicit) as client:
            with anyio.fail_after(LIMIT):
                with pytest.raises(MCPError):
                    await client.call_tool("ask")
    assert error_of(recorded.one("elicitation/create", "SERVER")) == ("ERROR", "-32603", "-32603")


async def test_a_processor_that_fails_fails_no_answer(caplog: Any) -> None:
    recorded = Recorded()

    def fail(*_: Any) -> None:
        raise RuntimeError("the exporter is broken")

    recorded.on_start = fail  # type: ignore[method-assign]
    decline = {"action": "decline"}
    async with served(Held(), tracing=False) as server:
        async with Client(
            server.url, revision=LEGACY, tracing=recorded.provider, on_elicitation=lambda params: decline
        ) as client:
            assert (await client.call_tool("ask"))["content"]


async def test_a_callback_that_is_cancelled(recorded: Recorded) -> None:
    began = asyncio.Event()

    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        began.set()
        await asyncio.Event().wait()
        return {}

    async with served(Held(), tracing=False, ask_timeout=0.2) as server:
        async with Client(server.url, revision=LEGACY, tracing=recorded.provider, on_elicitation=elicit) as client:
            task = asyncio.create_task(client.call_tool("ask"))
            with anyio.fail_after(LIMIT):
                await began.wait()
                await asyncio.wait([task])
                assert error_of(await recorded.until("elicitation/create")) == ("ERROR", "cancelled", None)


async def test_a_listen_stream_has_no_span_and_no_context(recorded: Recorded) -> None:
    async with served(Held(), tracing=recorded.provider) as server:
        async with Client(server.url, tracing=recorded.provider) as client:
            async with client.listen(["tools"]):
                pass
    assert not [span for span in recorded.ended if "listen" in span.name]
