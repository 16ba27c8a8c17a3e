# SPDX-License-Identifier: MIT
"""The application of ASGI, message by message: what comes in by `receive`, and what goes out by `send`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from asgi_support import Asked, ask, modern, scope_of, whole
from rawclient import LIMIT

from mcp_h11 import ASGIApp, Context, Limits, MCPServer, Settings, asgi
from mcp_h11.hosted.heads import MAX_HEADS
from mcp_h11.hosted.requests import MAX_LATE
from mcp_h11.hosted.server import HostedServer

pytestmark = pytest.mark.anyio


class Tools(MCPServer):
    """`add` answers at once, `hold` when it is released, `steps` sends progress and waits, `big` sends much of it."""

    def __init__(self) -> None:
        super().__init__("tools", version="1")
        self.life: list[str] = []
        self.began = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.steps_sent = 0
        for tool in (self.add, self.hold, self.steps, self.big):
            self.add_tool(tool, name=tool.__name__)

    async def add(self, a: int, b: int) -> int:
        return a + b

    async def hold(self) -> str:
        self.began.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "held"

    async def steps(self, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "one")
        return await self.hold()

    async def big(self, count: int, ctx: Context) -> str:
        for step in range(count):
            await ctx.report_progress(step, count, "x" * 10_000)
            self.steps_sent = step + 1
            self.began.set()
        return "all"

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.life.append("begin")
        try:
            yield
        finally:
            self.life.append("end")


@asynccontextmanager
async def application(**settings: Any) -> AsyncIterator[tuple[Tools, ASGIApp]]:
    tools = Tools()
    app = tools.asgi(**{"lag_warning": None, **settings})
    try:
        yield tools, app
    finally:
        tools.released.set()
        with anyio.fail_after(LIMIT):
            await app.aclose()


# --- one request -----------------------------------------------------------------------------------------------------
async def test_a_call_is_answered_by_two_messages() -> None:
    async with application() as (_, app):
        asked = await ask(app, "tools/call", name="add", arguments={"a": 1, "b": 2})
        start, body = asked.sent
        assert (start["type"], start["status"]) == ("http.response.start", 200)
        assert asked.headers == {"content-type": "application/json", "content-length": str(len(body["body"]))}
        assert body["type"] == "http.response.body" and not body["more_body"]
        assert asked.json["result"]["structuredContent"] == {"result": 3}


async def test_a_body_may_come_in_parts() -> None:
    async with application() as (_, app):
        body, fields = modern("tools/call", name="add", arguments={"a": 1, "b": 2})
        parts = [
            {"type": "http.request", "body": body[at : at + 40], "more_body": True} for at in range(0, len(body), 40)
        ]
        asked = Asked(app, scope_of(fields=fields), *parts, {"type": "http.request"})
        await asked.end()
        assert asked.json["result"]["structuredContent"] == {"result": 3}


async def test_a_client_that_leaves_within_its_body_gets_nothing() -> None:
    async with application() as (_, app):
        asked = Asked(app, scope_of(), {"type": "http.request", "body": b"{", "more_body": True})
        asked.leave()
        await asked.end()
        assert asked.sent == []


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("over", [0, 1])
async def test_a_body_past_the_limit_is_413(declared: bool, over: int) -> None:
    body, fields = modern("tools/call", name="add", arguments={"a": 1, "b": 2})
    async with application(limits=Limits(max_body=len(body) - over)) as (_, app):
        length = [("content-length", str(len(body)))] if declared else []
        asked = Asked(app, scope_of(fields=[*fields, *length]), whole(body))
        await asked.end()
        assert asked.status == (413 if over else 200)
        assert asked.incoming.empty() is not (over and declared), "a body that is refused by its length is not read"


async def test_a_body_that_does_not_arrive_is_408() -> None:
    async with application(body_timeout=0.05, min_body_rate=None) as (_, app):
        asked = Asked(app, scope_of(), {"type": "http.request", "body": b"{", "more_body": True})
        await asked.end()
        assert asked.status == 408


async def test_without_that_limit_a_body_may_take_its_time() -> None:
    async with application(body_timeout=None) as (_, app):
        asked = await ask(app, "tools/call", name="add", arguments={"a": 1, "b": 2})
        assert asked.status == 200


async def test_bodies_that_are_too_much_for_one_client_are_503() -> None:
    async with application(max_client_memory=8 * 1024) as (_, app):
        part = {"type": "http.request", "body": b" " * 8 * 1024, "more_body": True}
        first = Asked(app, scope_of(), part)
        try:
            second = Asked(app, scope_of(), part)
            await second.end()
            assert second.status == 503 and not first.task.done()
        finally:
            await first.close()
        third = Asked(app, scope_of(), part, {"type": "http.request"})
        await third.end()
        assert third.status == 400, "the memory of the first is free again, so this one is read: it is no JSON"


async def test_a_refusal_by_the_head_alone_reads_no_body() -> None:
    async with application() as (_, app):
        fields = [("host", "evil.example"), ("content-length", "2")]
        asked = Asked(app, scope_of(fields=fields), whole(b"{}"))
        await asked.end()
        assert asked.status == 403 and asked.headers["connection"] == "close"
        assert not asked.incoming.empty()


async def test_http_2_knows_no_connection_header() -> None:
    async with application() as (_, app):
        asked = Asked(app, scope_of(fields=[("host", "evil.example"), ("content-length", "2")], http_version="2"))
        await asked.end()
        assert asked.status == 403 and "connection" not in asked.headers


async def test_a_notification_is_202_without_a_body() -> None:
    async with application() as (_, app):
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        first = Asked(app, scope_of(), whole(json.dumps(hello).encode()))
        await first.end()
        session = [("mcp-session-id", first.headers["mcp-session-id"]), ("mcp-protocol-version", "2025-11-25")]
        body = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'
        asked = Asked(app, scope_of(fields=session), whole(body))
        await asked.end()
        assert (asked.status, asked.body) == (202, "")
        ended = Asked(app, scope_of("DELETE", fields=session), whole(b""))
        await ended.end()
        assert ended.status in (200, 204)


async def test_it_asks_before_it_invites_a_body() -> None:
    seen: list[str] = []

    async def nobody(head: Any) -> None:
        seen.append(head.path)

    async with application(authorize=nobody) as (_, app):
        fields = [("expect", "100-continue"), ("content-length", "2")]
        asked = Asked(app, scope_of(fields=fields), whole(b"{}"))
        await asked.end()
        assert asked.status == 401 and seen == ["/"] and not asked.incoming.empty()


@pytest.mark.parametrize("name", ["host", "content-length", "content-type"])
async def test_a_field_that_comes_twice_is_refused(name: str) -> None:
    async with application(access_log=True) as (_, app):
        scope = scope_of()
        value = next((value for found, value in scope["headers"] if found == name.encode()), b"2")
        scope["headers"] = [*scope["headers"], (name.encode(), value), (name.encode(), value)]
        asked = Asked(app, scope, whole(b"{}"))
        await asked.end()
        assert asked.status == 400 and name in asked.body


async def test_the_heads_that_are_kept_have_a_limit() -> None:
    async with application() as (_, app):
        for number in range(MAX_HEADS + 2):
            asked = await ask(app, "tools/list", fields=[("x-number", str(number))])
        assert asked.status == 200
        assert app._server is not None and len(app._server.heads._known) <= MAX_HEADS
        await ask(app, "tools/list", fields=[("x-long", "x" * 5000)])
        assert not any("x" * 5000 in str(head.headers) for head in app._server.heads._known.values())


# --- streams ---------------------------------------------------------------------------------------------------------
def stepping(**arguments: Any) -> tuple[bytes, list[tuple[str, str]]]:
    name = arguments.pop("name", "steps")
    return modern("tools/call", name=name, arguments=arguments, _meta={"progressToken": 7})


async def test_events_leave_as_they_come() -> None:
    async with application() as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body))
        await asked.until('"message":"one"')
        assert asked.headers["content-type"] == "text/event-stream" and "content-length" not in asked.headers
        assert all(message["more_body"] for message in asked.sent[1:]) and not asked.task.done()
        tools.released.set()
        await asked.end()
        assert '"text":"held"' in asked.body and not asked.sent[-1]["more_body"]


async def test_a_client_that_leaves_cancels_its_call() -> None:
    async with application() as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body))
        await asked.until('"message":"one"')
        asked.leave()
        await asked.end()
        with anyio.fail_after(LIMIT):
            await tools.cancelled.wait()


async def test_an_error_of_send_means_that_the_client_has_left() -> None:
    async with application() as (tools, app):
        body, fields = stepping()

        async def send(message: Any) -> None:
            raise OSError("the client is gone")

        incoming: asyncio.Queue[Any] = asyncio.Queue()
        incoming.put_nowait(whole(body))
        with anyio.fail_after(LIMIT):
            await app(scope_of(fields=fields), incoming.get, send)
            await tools.cancelled.wait()


async def test_a_writer_waits_for_a_slow_reader() -> None:
    async with application(write_high=20_000) as (tools, app):
        body, fields = stepping(name="big", count=50)
        asked = Asked(app, scope_of(fields=fields), whole(body))
        asked.open.clear()
        with anyio.fail_after(LIMIT):
            await tools.began.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            assert tools.steps_sent < 10
            asked.open.set()
        await asked.end()
        assert tools.steps_sent == 50 and '"text":"all"' in asked.body


async def test_a_reader_that_takes_nothing_for_too_long_is_given_up() -> None:
    async with application(write_timeout=0.05) as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body))
        asked.open.clear()
        await asked.end()
        assert asked.sent == []
        with anyio.fail_after(LIMIT):
            await tools.cancelled.wait()


async def test_an_application_that_is_cancelled_ends_its_call() -> None:
    async with application() as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body))
        await asked.until('"message":"one"')
        asked.task.cancel()
        with anyio.fail_after(LIMIT):
            with pytest.raises(asyncio.CancelledError):
                await asked.task
            await tools.cancelled.wait()


async def test_a_stream_that_listens_gets_notices_and_comments() -> None:
    async with application(keep_alive=0.02) as (tools, app):
        wanted = {"notifications": {"toolsListChanged": True}}
        body, fields = modern("subscriptions/listen", **wanted)
        asked = Asked(app, scope_of(fields=fields), whole(body))
        await asked.until("subscriptions/acknowledged")
        tools.notify_tools_changed()
        await asked.until("notifications/tools/list_changed")
        await asked.until("\n\n:")
        asked.leave()
        await asked.end()


# --- a server around us that breaks the protocol ---------------------------------------------------------------------
async def test_an_unknown_kind_of_connection_is_named() -> None:
    async with application() as (_, app):
        with pytest.raises(RuntimeError, match="'telnet'"):
            await app({"type": "telnet"}, asyncio.Queue().get, print)  # type: ignore[arg-type]


async def test_a_websocket_is_closed() -> None:
    async with application() as (_, app):
        asked = Asked(app, {"type": "websocket"})
        await asked.end()
        assert [message["type"] for message in asked.sent] == ["websocket.close"]


async def test_an_unknown_message_instead_of_a_body_is_named() -> None:
    async with application() as (_, app):
        asked = Asked(app, scope_of(), {"type": "http.reqest", "body": b"{}"})
        with pytest.raises(RuntimeError, match=r"'http\.reqest' where a request's body was due"):
            await asked.end()


@pytest.mark.parametrize("late", [[{"type": "http.push"}], [{"type": "http.request"}] * MAX_LATE])
async def test_an_unknown_message_after_the_body_is_named(late: list[Any]) -> None:
    async with application() as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body), *late)
        with pytest.raises(RuntimeError, match="after a whole request"):
            await asked.end()
        with anyio.fail_after(LIMIT):
            await tools.cancelled.wait()


async def test_a_few_empty_messages_after_the_body_do_no_harm() -> None:
    async with application() as (tools, app):
        body, fields = stepping()
        asked = Asked(app, scope_of(fields=fields), whole(body), *[{"type": "http.request"}] * (MAX_LATE - 1))
        await asked.until('"message":"one"')
        tools.released.set()
        await asked.end()
        assert '"text":"held"' in asked.body


# --- places ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("", "/"), ("", "/mcp"), ("", "/mcp/"), ("/tools", "/tools"), ("/tools", "/tools/"), ("/tools", "/tools/mcp"),
        ("/tools", "/"), ("/tools/", "/tools/mcp"), ("/mcp", "/mcp"), ("/mcp", "/mcp/mcp"), ("/a/b", "/a/b/"),
    ],
)  # fmt: skip
async def test_it_answers_where_it_is_mounted(root: str, path: str) -> None:
    async with application() as (_, app):
        assert (await ask(app, "tools/list", root=root, path=path)).status == 200


@pytest.mark.parametrize(("root", "path"), [("", "/other"), ("/tools", "/tools/other"), ("/tools", "/toolsmcp")])
async def test_it_answers_nowhere_else(root: str, path: str) -> None:
    async with application() as (_, app):
        assert (await ask(app, "tools/list", root=root, path=path)).status == 404


async def test_a_path_of_ones_own_has_no_second_one() -> None:
    async with application(path="/service") as (_, app):
        assert (await ask(app, "tools/list", path="/service")).status == 200
        assert (await ask(app, "tools/list", path="/mcp")).status == 404


@pytest.mark.parametrize(
    ("root", "said", "prefix"),
    [("", "", ""), ("/tools", "", "/tools"), ("/tools", "/out", "/out/tools"), ("/out/tools", "/out", "/out/tools")],
)
async def test_the_address_that_it_gives_out_leads_back(root: str, said: str, prefix: str) -> None:
    async with application(legacy_sse=True, trusted_proxies=["192.0.2.7"]) as (_, app):
        fields = [("x-forwarded-prefix", said)] if said else []
        asked = Asked(app, scope_of("GET", f"{root}/sse", root=root, fields=fields), whole(b""))
        await asked.until("event: endpoint")
        assert f"data: {prefix}/messages?session_id=" in asked.body
        asked.leave()
        await asked.end()


@pytest.mark.parametrize("root", ["//evil.example", "/a/../b", "/a\r\nx: y", "/" + "a" * 300, "/ä"])
async def test_a_prefix_that_is_none_is_never_given_out(root: str) -> None:
    async with application(legacy_sse=True) as (_, app):
        asked = Asked(app, scope_of("GET", f"{root}/sse", root=root), whole(b""))
        try:
            await asked.until("event: endpoint" if root == "/ä" else "Bad Request")
            assert asked.status == (200 if root == "/ä" else 400)
            assert root not in asked.body and ("/%C3%A4/messages" in asked.body or root != "/ä")
        finally:
            await asked.close()


async def test_the_scheme_of_the_server_is_the_one_of_its_metadata() -> None:
    async def nobody(head: Any) -> None: ...

    settings: dict[str, Any] = {"authorize": nobody, "authorization_servers": ["https://login.example"]}
    async with application(**settings, allowed_hosts=["tools.example"]) as (_, app):
        body, fields = modern("tools/list")
        asked = Asked(
            app, scope_of(root="/t", fields=[*fields, ("host", "tools.example")], scheme="https"), whole(body)
        )
        await asked.end()
        assert asked.status == 401
        assert "https://tools.example/t/.well-known/oauth-protected-resource" in asked.headers["www-authenticate"]


# --- pages and the log ------------------------------------------------------------------------------------------------
async def test_the_pages_of_operators_are_beside_the_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with application(health=True, metrics=True, access_log=True) as (_, app):
        await ask(app, "tools/call", name="add", arguments={"a": 1, "b": 2})
        seen = {}
        for path in ("/health", "/ready", "/metrics"):
            asked = Asked(app, scope_of("GET", path), whole(b""))
            await asked.end()
            assert asked.status == 200
            seen[path] = asked.body
        assert json.loads(seen["/health"])["status"] == "ok" and json.loads(seen["/ready"])["ready"]
        assert 'mcp_server_operation_duration_seconds_count{gen_ai_tool_name="add"' in seen["/metrics"] or (
            'tool_name="add"' in seen["/metrics"]
        )
        assert '192.0.2.7 "POST /" 200' in caplog.text and "rpc=tools/call" in caplog.text


# --- life ------------------------------------------------------------------------------------------------------------
class Life:
    """The lifespan of ASGI, from the server's side."""

    def __init__(self, app: ASGIApp) -> None:
        self.asked = Asked(app, {"type": "lifespan", "asgi": {"version": "3.0"}})

    async def say(self, kind: str) -> Any:
        self.asked.incoming.put_nowait({"type": kind})
        with anyio.fail_after(LIMIT):
            while True:
                self.asked.changed.clear()
                if self.asked.sent:
                    return self.asked.sent.pop()
                await self.asked.changed.wait()


async def test_the_lifespan_of_the_handler_is_the_one_of_asgi() -> None:
    tools = Tools()
    life = Life(tools.asgi())
    assert await life.say("lifespan.startup") == {"type": "lifespan.startup.complete"}
    assert tools.life == ["begin"]
    assert await life.say("lifespan.shutdown") == {"type": "lifespan.shutdown.complete"}
    assert tools.life == ["begin", "end"]
    await life.asked.end()


class Broken(Tools):
    """Its lifespan fails, at the begin or at the end."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if self.when == "startup":
            raise ValueError("no database")
        yield
        raise ValueError("no database")


@pytest.mark.parametrize("when", ["startup", "shutdown"])
async def test_a_lifespan_that_fails_is_told_to_the_server(when: str, caplog: pytest.LogCaptureFixture) -> None:
    life = Life(Broken(when).asgi())
    told = await life.say("lifespan.startup")
    if when == "shutdown":
        told = await life.say("lifespan.shutdown")
    assert told == {"type": f"lifespan.{when}.failed", "message": "ValueError: no database"}
    assert "no database" in caplog.text
    await life.asked.end()


async def test_a_start_that_failed_is_tried_again() -> None:
    app = Broken("startup").asgi()
    for _ in range(2):
        with pytest.raises(ValueError, match="no database"):
            await ask(app, "tools/list")


async def test_another_message_than_startup_is_named() -> None:
    life = Asked(Tools().asgi(), {"type": "lifespan"}, {"type": "lifespan.begin"})
    with pytest.raises(RuntimeError, match=r"'lifespan\.begin' where 'lifespan\.startup' was due"):
        await life.end()


async def test_without_a_lifespan_the_first_request_begins_it_once() -> None:
    async with application() as (tools, app):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask, app, "tools/list")
        assert tools.life == ["begin"]
    assert tools.life == ["begin", "end"]


async def test_a_framework_can_have_the_lifespan() -> None:
    tools = Tools()
    app = tools.asgi()
    async with app.lifespan(object()):
        assert tools.life == ["begin"]
        assert (await ask(app, "tools/list")).status == 200
    assert tools.life == ["begin", "end"]
    await app.aclose()  # a second time changes nothing


async def test_the_end_lets_a_call_finish_and_ends_streams_that_listen() -> None:
    async with application() as (tools, app):
        body, fields = modern("subscriptions/listen", notifications={"toolsListChanged": True})
        listener = Asked(app, scope_of(fields=fields), whole(body))
        await listener.until("subscriptions/acknowledged")
        body, fields = stepping()
        call = Asked(app, scope_of(fields=fields), whole(body))
        await call.until('"message":"one"')
        ending = asyncio.create_task(app.aclose())
        await listener.end()
        assert not listener.sent[-1]["more_body"]
        tools.released.set()
        await call.end()
        assert '"text":"held"' in call.body
        with anyio.fail_after(LIMIT):
            await ending
        assert tools.life == ["begin", "end"]


async def test_a_call_that_does_not_end_is_cancelled_after_the_grace() -> None:
    async with application(grace=0.05) as (tools, app):
        body, fields = stepping()
        call = Asked(app, scope_of(fields=fields), whole(body))
        await call.until('"message":"one"')
        with anyio.fail_after(LIMIT):
            await app.aclose()
            await tools.cancelled.wait()
        await call.end()


async def test_a_reader_that_stands_still_does_not_hold_the_end_up() -> None:
    async with application(grace=0.05) as (tools, app):
        body, fields = stepping()
        call = Asked(app, scope_of(fields=fields), whole(body))
        await call.until('"message":"one"')
        call.open.clear()
        tools.released.set()
        with anyio.fail_after(LIMIT):
            await app.aclose()
        await call.end()


async def test_after_the_delay_a_request_while_it_ends_is_503() -> None:
    async with application(drain_delay=0.001) as (tools, app):
        body, fields = modern("tools/call", name="hold", arguments={})
        call = Asked(app, scope_of(fields=fields), whole(body))
        with anyio.fail_after(LIMIT):
            await tools.began.wait()
        server = app._server
        assert server is not None
        server.stop()
        with anyio.fail_after(LIMIT):
            while not server.draining:
                await asyncio.sleep(0)
        asked = await ask(app, "tools/list")
        assert asked.status == 503 and "shutting down" in asked.body
        server.stop()  # a second one ends the call at once
        with anyio.fail_after(LIMIT):
            await tools.cancelled.wait()
        await call.end()


async def test_a_signal_begins_the_end_and_the_servers_own_handler_is_called() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        async with application() as (tools, app):
            body, fields = modern("subscriptions/listen", notifications={"toolsListChanged": True})
            listener = Asked(app, scope_of(fields=fields), whole(body))
            await listener.until("subscriptions/acknowledged")
            signal.raise_signal(signal.SIGTERM)
            await listener.end()
        assert seen == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert len(seen) == 2, "the handler of before is back"
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_another_put_around_ours_stays() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        async with application() as (_, app):
            await ask(app, "tools/list")
            outer = lambda number, frame: None  # noqa: E731
            signal.signal(signal.SIGTERM, outer)
        assert signal.getsignal(signal.SIGTERM) is outer
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_program_that_ends_at_once_by_a_signal_goes_on_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        async with application() as (_, app):
            await ask(app, "tools/list")
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_server_that_was_never_started_ends() -> None:
    with anyio.fail_after(LIMIT):
        await HostedServer(Tools(), Settings(), "").aclose()


def test_off_the_main_thread_no_signal_is_touched() -> None:
    import threading

    before, seen = signal.getsignal(signal.SIGTERM), []

    async def one() -> None:
        async with application() as (_, app):
            seen.append((await ask(app, "tools/list")).status)

    thread = threading.Thread(target=asyncio.run, args=(one(),))
    thread.start()
    thread.join(LIMIT)
    assert seen == [200] and signal.getsignal(signal.SIGTERM) is before


def test_each_loop_after_another_has_a_server_of_its_own() -> None:
    app = Tools().asgi()

    async def one() -> int:
        return (await ask(app, "tools/list")).status

    assert [asyncio.run(one()) for _ in range(2)] == [200, 200]


async def test_one_application_is_for_one_loop_at_a_time() -> None:
    async with application() as (_, app):
        await ask(app, "tools/list")

        def other() -> None:
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(ask(app, "tools/list"))  # type: ignore[arg-type]

        with anyio.fail_after(LIMIT):
            await asyncio.to_thread(other)


# --- settings --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value"), [("ssl", object()), ("uds_mode", 0o600), ("ops_port", 9100), ("ops_uds", "/tmp/x")]
)
def test_a_setting_of_sockets_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} belongs to the server that runs the application"):
        asgi(Tools(), **{name: value})


async def test_settings_keep_their_path() -> None:
    app = asgi(Tools(), settings=Settings(path="/own"), health=True)
    assert (app.settings.path, app.settings.health) == ("/own", True)
    await app.aclose()
