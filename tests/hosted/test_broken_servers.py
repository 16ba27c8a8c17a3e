# SPDX-License-Identifier: MIT
"""An ASGI server that breaks the protocol gets a RuntimeError that names the fault, and the application serves on."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from asgi_support import Asked, ask, modern, scope_of, whole
from rawclient import LIMIT

from mcp_h11 import ASGIApp, Context, MCPServer

pytestmark = pytest.mark.anyio


class Tools(MCPServer):
    """`steps` sends its progress, and waits until it is cancelled."""

    def __init__(self) -> None:
        super().__init__("tools")
        self.cancelled = asyncio.Event()
        self.add_tool(self.steps, name="steps")

    async def steps(self, ctx: Context) -> None:
        await ctx.report_progress(1, 2, "one")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.fixture
async def app() -> Any:
    made = Tools().asgi(lag_warning=None)
    yield made
    assert (await ask(made, "tools/list")).status == 200, "the next request is served"
    with anyio.fail_after(LIMIT):
        await made.aclose()


def steps() -> tuple[bytes, Any]:
    return modern("tools/call", name="steps", arguments={}, _meta={"progressToken": 7})


async def refused(app: ASGIApp, scope: Any, *messages: Any) -> str:
    """The text of the RuntimeError, before which nothing was sent."""
    asked = Asked(app, scope, *messages)
    with pytest.raises(RuntimeError) as raised:
        await asked.end()
    assert asked.sent == []
    return str(raised.value)


@pytest.mark.parametrize("kind", [None, 7, "", "telnet", "http.request", ["http"]])
async def test_another_kind_of_connection(app: ASGIApp, kind: Any) -> None:
    scope = {**scope_of(), "type": kind}
    if kind is None:
        del scope["type"]
    assert f"{kind!r} is no kind of connection" in await refused(app, scope)


@pytest.mark.parametrize("name", ["method", "path", "headers"])
async def test_a_scope_without_a_member(app: ASGIApp, name: str) -> None:
    scope = scope_of()
    del scope[name]
    assert f"scope of a request is broken: '{name}' is missing" in await refused(app, scope, whole(b""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", b"POST"), ("method", None), ("method", ["POST"]), ("path", b"/"), ("path", None), ("path", {}),
        ("root_path", b"/x"), ("root_path", 1), ("query_string", "a=b"), ("scheme", b"http"), ("http_version", 1.1),
        ("client", "192.0.2.7"), ("headers", None), ("headers", 5), ("headers", [("host", "localhost")]),
        ("headers", [(b"host", "localhost")]), ("headers", [(5, b"x")]), ("headers", [b"ho"]), ("headers", [(b"a",)]),
        ("headers", [(b"a", b"b", b"c")]), ("headers", {b"host": b"localhost"}), ("headers", "host"),
    ],
)  # fmt: skip
async def test_a_scope_with_a_member_of_another_type(app: ASGIApp, name: str, value: Any) -> None:
    said = await refused(app, {**scope_of(), name: value}, whole(b""))
    assert f"scope of a request is broken: '{name}' is {value!r:.80}" in said


async def test_headers_may_be_any_iterable_and_names_may_have_capitals(app: ASGIApp) -> None:
    body, fields = modern("tools/list")
    scope = scope_of(fields=fields)
    pairs = [(name.title(), value) for name, value in scope["headers"]]
    for headers in (tuple(pairs), [list(pair) for pair in pairs]):
        asked = Asked(app, {**scope, "headers": headers}, whole(body))
        await asked.end()
        assert asked.status == 200


@pytest.mark.parametrize("absent", ["root_path", "query_string", "scheme", "http_version", "client", "server", "asgi"])
@pytest.mark.parametrize("there", [True, False])
async def test_a_member_that_may_be_left_out(app: ASGIApp, absent: str, there: bool) -> None:
    body, fields = modern("tools/list")
    scope = {**scope_of(fields=fields), absent: None}
    if not there:
        del scope[absent]
    asked = Asked(app, scope, whole(body))
    await asked.end()
    assert asked.status == 200


@pytest.mark.parametrize("client", [[], (), ("",), (None, None), ("testclient", 5), ["192.0.2.9", 5]])
async def test_a_client_without_an_address(app: ASGIApp, client: Any) -> None:
    body, fields = modern("tools/list")
    asked = Asked(app, scope_of(fields=fields, client=client), whole(body))
    await asked.end()
    assert asked.status == 200


async def test_a_path_that_cannot_be_encoded_is_400(app: ASGIApp) -> None:
    for path, root in (("/\ud800", ""), ("/a\udcff/b", "/a\udcff")):
        scope = {**scope_of(), "path": path, "root_path": root}
        asked = Asked(app, scope, whole(b"{}"))
        await asked.end()
        assert asked.status == 400


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({}, "{}"), (None, "None"), (5, "5"), ({"type": 5}, "5"),
        ({"type": "lifespan.startup"}, "'lifespan.startup'"), ({"type": "websocket.receive"}, "'websocket.receive'"),
        ({"type": "http.response.start"}, "'http.response.start'"),
    ],
)  # fmt: skip
async def test_another_message_where_a_body_is_due(app: ASGIApp, message: Any, named: str) -> None:
    assert f"sent {named} where a request's body was due" in await refused(app, scope_of(), message)
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    assert f"sent {named} where a request's body was due" in await refused(app, scope_of(), begun, message)


@pytest.mark.parametrize("body", [None, "{}", 5, [b"{}"]])
async def test_a_body_of_another_type(app: ASGIApp, body: Any) -> None:
    said = await refused(app, scope_of(), {"type": "http.request", "body": body})
    assert f"'http.request' with a body that is {body!r}" in said


@pytest.mark.parametrize("message", [{}, None, {"type": "http.response.body"}])
async def test_another_message_while_a_call_runs(app: ASGIApp, message: Any) -> None:
    body, fields = steps()
    asked = Asked(app, scope_of(fields=fields), whole(body), message)
    with pytest.raises(RuntimeError, match="after a whole request"):
        await asked.end()
    await cancelled(app)


async def cancelled(app: ASGIApp) -> None:
    assert isinstance(app.handler, Tools)
    with anyio.fail_after(LIMIT):
        await app.handler.cancelled.wait()


async def test_a_receive_that_fails_while_a_call_runs(app: ASGIApp) -> None:
    body, fields = steps()
    messages = [whole(body)]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        raise LookupError("the queue is gone")

    async def send(message: Any) -> None: ...

    with anyio.fail_after(LIMIT), pytest.raises(RuntimeError, match=r"`receive` failed .* LookupError: the queue is"):
        await app(scope_of(fields=fields), receive, send)
    await cancelled(app)


async def test_a_receive_that_fails_within_a_body_is_the_servers_own_error(app: ASGIApp) -> None:
    async def receive() -> Any:
        raise LookupError("the queue is gone")

    async def send(message: Any) -> None: ...

    with anyio.fail_after(LIMIT), pytest.raises(LookupError):
        await app(scope_of(), receive, send)


@pytest.mark.parametrize("at", [0, 1])
async def test_a_send_that_fails_ends_the_call_and_is_the_servers_own_error(app: ASGIApp, at: int) -> None:
    body, fields = steps()
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait(whole(body))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if len(sent) == at:
            raise LookupError("out of order")
        sent.append(message)

    with anyio.fail_after(LIMIT), pytest.raises(LookupError):
        await app(scope_of(fields=fields), incoming.get, send)
    await cancelled(app)


async def test_nothing_is_received_after_a_disconnect(app: ASGIApp) -> None:
    body, fields = steps()
    told: list[str] = []

    async def receive() -> Any:
        if not told:
            told.append("request")
            return whole(body)
        assert told == ["request"], "it was told that the client has left"
        told.append("disconnect")
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    with anyio.fail_after(LIMIT):
        await app(scope_of(fields=fields), receive, send)
    await cancelled(app)
    assert told == ["request", "disconnect"]


@pytest.mark.parametrize("message", [{}, None, {"type": "lifespan.startup"}, {"type": "http.disconnect"}])
async def test_another_message_within_the_lifespan_ends_it(app: ASGIApp, message: Any) -> None:
    for first in ((), ({"type": "lifespan.startup"},)):
        if message == {"type": "lifespan.startup"} and not first:
            continue  # that one is right
        due = "lifespan.shutdown" if first else "lifespan.startup"
        asked = Asked(app, {"type": "lifespan"}, *first, message)
        with pytest.raises(RuntimeError, match=f"where '{due}' was due"):
            await asked.end()
        assert app._server is None


async def test_a_lifespan_of_a_second_task_shares_the_first(app: ASGIApp) -> None:
    lives = [Asked(app, {"type": "lifespan"}, {"type": "lifespan.startup"}) for _ in range(2)]
    for life in lives:
        with anyio.fail_after(LIMIT):
            while not life.sent:
                life.changed.clear()
                await life.changed.wait()
        assert life.sent == [{"type": "lifespan.startup.complete"}]
    for life in lives:
        life.incoming.put_nowait({"type": "lifespan.shutdown"})
        await life.end()
        assert life.sent[-1] == {"type": "lifespan.shutdown.complete"}
