# SPDX-License-Identifier: MIT
"""The era of 2026-07-28 over sockets: the ladder, discovery, results, streams, cancellation and listen streams.

No test here needs the legacy era but those that have "legacy" in their names: the last but one runs all the others
without it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
import wire
from rawclient import BOTH, JSON_TYPE, LIMIT, META, SSE_TYPE, Legacy, Modern, RawClient, Response, header_value

from mcp_h11 import (
    Context,
    InvalidParams,
    MCPError,
    MCPServer,
    ParamHeader,
    ServerHandler,
    Settings,
    listening,
)
from mcp_h11.endpoint.modern import MAX_UNSENT, PostedListener
from mcp_h11.handler.notices import Notice
from mcp_h11.protocol.jsonrpc import Request
from mcp_h11.runtime.runtime import Runtime
from mcp_h11.runtime.storage import MAX_SUBSCRIBED_SIZE

pytestmark = pytest.mark.anyio

E = "2026-07-28"
SUPPORTED = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
SUBSCRIPTION = f"{META}subscriptionId"
SERVER_INFO = f"{META}serverInfo"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
TESTS = Path(__file__).resolve().parents[1]


# -- the server under test --


class Desk(MCPServer):
    """A server with one object of each kind, and events that show the states of its calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__("desk", version="1.5", title="A desk", **options)
        self.started = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.ended = asyncio.Event()
        self.calls: list[str] = []
        for fn in (self.echo, self.place, self.wait, self.told, self.count, self.fail, self.nothing):
            self.add_tool(fn)
        self.add_resource("note://one", lambda: "one", name="one")
        self.add_prompt(lambda topic: f"About {topic}", name="about")
        self.completion(lambda ref, argument, context: ["one", "two"])

    def echo(self, text: str) -> str:
        self.calls.append("echo")
        return text

    def place(
        self,
        region: Annotated[str, ParamHeader("Region")] = "",
        count: Annotated[int | None, {"type": "integer", "x-mcp-header": "Count"}] = None,
        urgent: Annotated[bool | None, {"type": "boolean", "x-mcp-header": "Urgent"}] = None,
    ) -> str:
        self.calls.append("place")
        return f"{region} {count} {urgent}"

    async def wait(self, ctx: Context, first: bool = False) -> str:
        if first:
            await ctx.warning("first")
        self.started.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            await ctx.error("too late")  # the call is cancelled, so no client may get this message
            self.cancelled.set()
            raise
        finally:
            self.ended.set()
        return "waited"

    async def told(self, ctx: Context, level: str = "info") -> str:
        await ctx.log(level, {"a": 1}, logger="desk")
        return "told"

    async def count(self, ctx: Context) -> str:
        for step in (1, 2, 3):
            await ctx.report_progress(step, 3, f"step {step}")
        return "counted"

    def fail(self, code: int, data: Any = None) -> str:
        raise MCPError(code, "it failed", data)

    def nothing(self) -> None:
        return None


class Bare(ServerHandler):
    """A handler without tools, resources and prompts."""

    name = "bare"


Serve = Callable[..., AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def desk(handler: ServerHandler | None = None, **settings: Any) -> AsyncIterator[tuple[Any, Modern]]:
    """A handler that is served, and a client of it."""
    served = Desk() if handler is None else handler
    async with listening(served, port=0, **{"grace": 0.2, **settings}) as server:
        yield served, Modern(server.port)


def tool(client: Modern, name: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return client.request("tools/call", {"name": name, "arguments": arguments or {}}, **more)


def said(result: dict[str, Any]) -> str:
    """The text of a tool's result."""
    return "".join(block["text"] for block in result["content"])


async def send(
    client: Modern, message: Any, changes: list[tuple[str, str | None]] | None = None, method: str = "POST"
) -> Response:
    """A request with the usual headers but for `changes`: a value replaces, None removes, "+Name" adds one more."""
    headers = [(n, v) for n, v in client.headers_for(message).items() if v is not None]
    for name, value in changes or []:
        if not name.startswith("+"):
            headers = [(n, v) for n, v in headers if n.lower() != name.lower()]
        if value is not None:
            headers.append((name.removeprefix("+"), value))
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    lines = [f"{method} /mcp HTTP/1.1", f"Host: 127.0.0.1:{client.port}", f"Content-Length: {len(body)}"]
    lines += [f"{n}: {v}" for n, v in headers]
    async with client.client() as raw:
        await raw.send("\r\n".join([*lines, "", ""]).encode("utf-8") + body)
        return await raw.receive(method)


def error_of(response: Response, id: Any = None, method: str | None = None) -> dict[str, Any]:
    """The error of a JSON answer, checked by the schema; `id` is the id in the answer, or None for no id."""
    assert response.content_type == JSON_TYPE, response
    message = response.json()
    wire.check_message(E, message, in_reply_to=method if id is not None else None)
    if id is None:
        assert "id" not in message
    else:
        assert message["id"] == id and type(message["id"]) is type(id)
    assert isinstance(message["error"], dict)
    return message["error"]


# -- the ladder: one fault at a time, and two of them --


class Attempt:
    """A call that would succeed, before something is done to it."""

    def __init__(self, client: Modern) -> None:
        self.message = tool(client, "place", {"region": "north"}, id="attempt")
        self.changes: list[tuple[str, str | None]] = [("Mcp-Param-Region", "north")]

    @property
    def params(self) -> dict[str, Any]:
        return self.message["params"]  # type: ignore[no-any-return]

    @property
    def meta(self) -> dict[str, Any]:
        return self.params["_meta"]  # type: ignore[no-any-return]


def no_id(attempt: Attempt) -> None:
    attempt.message["id"] = None


def no_capabilities(attempt: Attempt) -> None:
    del attempt.meta[f"{META}clientCapabilities"]


def no_version_header(attempt: Attempt) -> None:
    attempt.changes.append(("MCP-Protocol-Version", None))


def other_version(attempt: Attempt) -> None:
    # Together with `no_version_header` the header stays away.
    attempt.meta[f"{META}protocolVersion"] = "v999.0.0"
    if ("MCP-Protocol-Version", None) not in attempt.changes:
        attempt.changes.append(("MCP-Protocol-Version", "v999.0.0"))


def other_method_header(attempt: Attempt) -> None:
    attempt.changes.append(("Mcp-Method", "tools/list"))


def other_name_header(attempt: Attempt) -> None:
    attempt.changes.append(("Mcp-Name", "echo"))


def not_offered(attempt: Attempt) -> None:
    # No tool server offers this method.  The conformance suite wants it to be answered like an unknown method.
    attempt.message["method"] = "resources/subscribe"
    if not any(name == "Mcp-Method" for name, _ in attempt.changes):
        attempt.changes.append(("Mcp-Method", "resources/subscribe"))


def other_param_header(attempt: Attempt) -> None:
    attempt.changes.append(("Mcp-Param-Region", "south"))


def forged_state(attempt: Attempt) -> None:
    attempt.params["requestState"] = "forged"


# In the order of the checks: of two faults, the first one here decides the answer.
LADDER: list[tuple[Callable[[Attempt], None], int, int]] = [
    (no_id, 400, -32600),
    (no_capabilities, 400, -32602),
    (no_version_header, 400, -32020),
    (other_version, 400, -32022),
    (other_method_header, 400, -32020),
    (other_name_header, 400, -32020),
    (not_offered, 404, -32601),
    (other_param_header, 400, -32020),
    (forged_state, 400, -32602),
]
EXCLUDED = {(other_name_header, not_offered), (not_offered, other_param_header)}
PAIRS = [pair for pair in itertools.combinations(LADDER, 2) if (pair[0][0], pair[1][0]) not in EXCLUDED]


async def test_the_attempt_without_a_fault_succeeds() -> None:
    async with desk() as (_, client):
        attempt = Attempt(client)
        response = await send(client, attempt.message, attempt.changes)
        assert response.status == 200
        assert said(response.json()["result"]) == "north None None"


@pytest.mark.parametrize(("fault", "status", "code"), LADDER, ids=[fault.__name__ for fault, _, _ in LADDER])
async def test_one_fault_has_its_status_its_code_and_the_id(
    fault: Callable[[Attempt], None], status: int, code: int
) -> None:
    async with desk() as (server, client):
        attempt = Attempt(client)
        fault(attempt)
        response = await send(client, attempt.message, attempt.changes)
        assert response.status == status
        assert error_of(response, None if fault is no_id else "attempt", attempt.message["method"])["code"] == code
        assert server.calls == []


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a[0].__name__}-{b[0].__name__}" for a, b in PAIRS])
async def test_of_two_faults_the_lower_rung_wins(first: Any, second: Any) -> None:
    async with desk() as (server, client):
        attempt = Attempt(client)
        for fault, _, _ in (first, second):
            fault(attempt)
        response = await send(client, attempt.message, attempt.changes)
        error = error_of(response, None if first[0] is no_id else "attempt", attempt.message["method"])
        assert (response.status, error["code"]) == first[1:]
        assert server.calls == []


async def test_a_header_of_this_revision_with_an_unknown_claim_is_a_mismatch() -> None:
    # cf:server/stateless.ts sends exactly this, and wants -32020.
    async with desk() as (_, client):
        message = client.request("tools/list", id=7, meta={f"{META}protocolVersion": "v999.0.0"})
        response = await send(client, message)
        assert (response.status, error_of(response, 7)["code"]) == (400, -32020)


@pytest.mark.parametrize("claim", ["v999.0.0", "2099-01-01", "", "2025-11-25", "2024-11-05"])
async def test_a_version_not_served_by_request_is_refused_with_those_that_are(claim: str) -> None:
    async with desk() as (_, client):
        message = client.request("tools/list", id=1, meta={f"{META}protocolVersion": claim})
        response = await send(client, message, [("MCP-Protocol-Version", claim)])
        error = error_of(response, 1)
        assert (response.status, error["code"]) == (400, -32022)
        assert error["data"] == {"supported": SUPPORTED, "requested": claim}
        supported = (await client.call("server/discover")).result["supportedVersions"]
        assert set(error["data"]["supported"]) <= set(supported)


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        "meta",
        {},
        {f"{META}protocolVersion": E},
        {f"{META}clientCapabilities": {}},
        {f"{META}protocolVersion": E, f"{META}clientCapabilities": None},
        {f"{META}protocolVersion": E, f"{META}clientCapabilities": []},
        {f"{META}protocolVersion": None, f"{META}clientCapabilities": {}},
        {f"{META}protocolVersion": 5, f"{META}clientCapabilities": {}},
        {f"{META}protocolVersion": [E], f"{META}clientCapabilities": {}},
        {f"{META}protocolVersion": {"v": E}, f"{META}clientCapabilities": {}},
    ],
)
@pytest.mark.parametrize("method", ["tools/list", "server/discover", "subscriptions/listen"])
async def test_an_incomplete_envelope_is_refused_and_the_keys_are_named(meta: Any, method: str) -> None:
    async with desk() as (_, client):
        message = {"jsonrpc": "2.0", "id": "x", "method": method, "params": {"_meta": meta, "notifications": {}}}
        error = error_of(response := await send(client, message), "x")
        assert (response.status, error["code"]) == (400, -32602)
        complete = isinstance(meta, dict) and isinstance(meta.get(f"{META}protocolVersion"), str)
        assert (f"{META}protocolVersion" in error["message"]) is not complete


async def test_a_claim_that_is_no_text_is_an_incomplete_envelope_without_a_header_too() -> None:
    async with desk() as (_, client):
        for claim in (5, True, 1.5, [E], {"v": E}):
            message = client.request("tools/list", id=3, meta={f"{META}protocolVersion": claim})
            response = await send(client, message, [("MCP-Protocol-Version", None)])
            assert (response.status, error_of(response, 3)["code"]) == (400, -32602)
            response = await send(client, {k: v for k, v in message.items() if k != "id"})
            assert response.status == 400 and error_of(response)


async def test_a_request_without_params_has_no_envelope() -> None:
    async with desk() as (_, client):
        response = await send(client, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert (response.status, error_of(response, 1)["code"]) == (400, -32602)


@pytest.mark.parametrize("id", [0, 1, -1, 1_800_000_000_000, 2**53 + 1, 2**70, "", "0", "a b", "\u2028é\u0000"])
async def test_the_id_comes_back_in_its_own_type(id: Any) -> None:
    async with desk() as (_, client):
        assert (await client.call("tools/list", id=id)).result["tools"]
        for headers, code in (({"Mcp-Method": "x"}, -32020), ({"MCP-Protocol-Version": "x"}, -32020)):
            assert (await client.call("tools/list", id=id, headers=headers)).error["code"] == code
        assert (await client.call("foo/bar", id=id)).error["code"] == -32601


# 2026-07-28 basic/transports/streamable-http, Protocol Version Header: "404 Not Found" and -32601
@pytest.mark.parametrize(
    "method",
    [
        "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "unknown/method",
        "tasks/list", "tasks/result", "roots/list", "sampling/createMessage", "notifications/initialized", "rpc.x",
    ],
)  # fmt: skip
async def test_a_removed_or_unknown_method_is_404(method: str) -> None:
    async with desk() as (_, client):
        answer = await client.call(method, {"level": "info", "uri": "note://one", "protocolVersion": E})
        assert (answer.status, answer.error["code"]) == (404, -32601)
        assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize(
    "method",
    [
        "tools/list", "tools/call", "resources/list", "resources/templates/list", "resources/read", "prompts/list",
        "prompts/get", "completion/complete",
    ],
)  # fmt: skip
async def test_a_method_whose_capability_is_not_offered_is_404(method: str) -> None:
    async with desk(Bare()) as (_, client):
        answer = await client.call(method, {"name": "x", "uri": "x:y"})
        assert (answer.status, answer.error["code"]) == (404, -32601)
        assert (await client.call("server/discover")).result["capabilities"] == {"logging": {}}


async def test_an_initialize_without_an_envelope_names_the_versions() -> None:
    async with desk() as (_, client):
        params = {"protocolVersion": E, "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}
        response = await send(client, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        error = error_of(response, 1)
        assert (response.status, error["code"], error["data"]) == (400, -32602, {"supported": SUPPORTED})


async def test_an_unknown_version_header_without_a_claim_is_refused_with_the_versions() -> None:
    async with desk() as (_, client):
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        response = await send(client, message, [("MCP-Protocol-Version", "2031-01-01")])
        error = error_of(response, 1)
        assert (response.status, error["code"]) == (400, -32022)
        assert error["data"] == {"supported": SUPPORTED, "requested": "2031-01-01"}


async def test_discovery_without_header_and_claim_says_what_is_missing_legacy() -> None:
    async with desk() as (_, client):
        for method in ("server/discover", "subscriptions/listen"):
            message = {"jsonrpc": "2.0", "id": 1, "method": method}
            response = await send(client, message, [("MCP-Protocol-Version", None)])
            assert response.status == 400
            assert "id" in response.json()  # rmcp falls back to initialize on an error it can read


# -- other bodies of a POST --


@pytest.mark.parametrize(
    ("header", "claim", "status", "code"),
    [
        (E, None, 202, None),
        (E, E, 202, None),
        (None, E, 202, None),
        (E, "2025-11-25", 400, -32020),
        (E, "v999.0.0", 400, -32020),
        ("v999.0.0", "v999.0.0", 400, -32022),
        (None, "v999.0.0", 400, -32022),
        ("v999.0.0", None, 400, -32022),
    ],
)
@pytest.mark.parametrize("method", ["notifications/cancelled", "notifications/initialized", "made/up"])
async def test_a_notification_is_taken_and_dropped_or_refused_without_an_id(
    header: str | None, claim: str | None, status: int, code: int | None, method: str
) -> None:
    async with desk() as (_, client):
        params = {} if claim is None else {"_meta": {f"{META}protocolVersion": claim}}
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        # HDR-16: which Mcp-* headers a notification has is undefined, so none is asked for.
        changes = [("MCP-Protocol-Version", header), ("Mcp-Method", None)]
        response = await send(client, message, changes)
        assert response.status == status
        if code is None:
            assert response.body == b"" and "content-type" not in response.headers
        else:
            assert error_of(response)["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}},
        [],
        [{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}],
        [{"jsonrpc": "2.0", "method": "notifications/cancelled"}],
        {"jsonrpc": "1.0", "id": 1, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": True, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": [1], "method": "tools/list"},
        5,
        None,
        "text",
    ],
)
async def test_what_is_no_request_or_notification_is_400_without_an_answer(body: Any) -> None:
    async with desk() as (_, client):
        response = await send(client, body)
        assert (response.status, response.json()["error"]["code"]) == (400, -32600)
        if not (isinstance(body, dict) and body["jsonrpc"] == "1.0"):  # this body has an id that can be read
            assert "id" not in response.json()


async def test_a_batch_with_one_claim_of_this_revision_is_refused_whole() -> None:
    async with desk() as (server, client):
        batch = [{"jsonrpc": "2.0", "method": "x"}, tool(client, "echo", {"text": "x"})]
        for version in (E, None, "2025-03-26"):
            response = await send(client, batch, [("MCP-Protocol-Version", version)])
            assert (response.status, error_of(response)["code"]) == (400, -32600)
        assert server.calls == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":NaN}}'])
async def test_what_is_no_json_is_a_parse_error_without_an_id(body: bytes) -> None:
    async with desk() as (_, client):
        response = await send(client, body)
        assert (response.status, error_of(response)["code"]) == (400, -32700)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD"])
async def test_other_verbs_are_405_and_say_what_is_allowed(method: str) -> None:
    async with desk() as (_, client):
        for more in ({}, {"Mcp-Session-Id": "x"}, {"Last-Event-ID": "x"}):
            async with client.client() as raw:
                headers = {"MCP-Protocol-Version": E, "Accept": SSE_TYPE, **more}
                response = await raw.request(method, "/mcp", headers)
            assert response.status == 405
            assert "POST" in response.headers["allow"] and "GET" not in response.headers["allow"]


async def test_session_ids_and_event_ids_are_ignored_and_none_is_minted() -> None:
    async with desk() as (_, client):
        headers = {"Mcp-Session-Id": "no-such-session", "Last-Event-ID": "no-such.event"}
        for method in ("tools/list", "server/discover", "foo/bar"):
            answer = await client.call(method, headers=headers)
            assert answer.status == (404 if method == "foo/bar" else 200)
            assert "mcp-session-id" not in answer.headers
        async with client.posting(tool(client, "told", meta={f"{META}logLevel": "debug"}), headers) as stream:
            assert "mcp-session-id" not in stream.headers
            while (event := await stream.next_event()) is not None:
                assert event.id is None and event.retry is None


async def test_nothing_is_carried_over_from_one_request_to_the_next() -> None:
    # basic/index, Statelessness: the `_meta` of each request applies to that request only, also on one connection.
    async with desk() as (_, client), client.client() as raw:
        for meta in ({f"{META}logLevel": "debug"}, {}, {f"{META}logLevel": "debug"}, {}):
            message = tool(client, "told", meta=meta)
            body = json.dumps(message).encode()
            response = await raw.request("POST", "/mcp", client.headers_for(message), body)
            assert len(response.messages()) == (2 if meta else 1)
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        response = await raw.request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
        assert (response.status, error_of(response, 1)["code"]) == (400, -32602)


# -- mirrored headers --


@pytest.mark.parametrize(
    "changes",
    [
        [("MCP-Protocol-Version", None)],
        [("MCP-Protocol-Version", "2025-11-25")],
        [("+MCP-Protocol-Version", E)],
        [("Mcp-Method", None)],
        [("Mcp-Method", "Tools/Call")],
        [("Mcp-Method", "tools/cal")],
        [("+Mcp-Method", "tools/call")],
        [("Mcp-Name", None)],
        [("Mcp-Name", "")],
        [("Mcp-Name", "ECHO")],
        [("+Mcp-Name", "echo")],
        [("Mcp-Name", "=?base64?!!!?=")],
        [("Mcp-Name", "=?base64?ZWNobw?=")],
        [("Mcp-Name", "=?BASE64?ZWNobw==?=")],
        [("Mcp-Name", "=?base64?/w==?=")],
        [("Mcp-Name", "éecho")],
    ],
)
async def test_a_standard_header_that_is_missing_wrong_or_repeated_is_a_mismatch(changes: Any) -> None:
    async with desk() as (server, client):
        response = await send(client, tool(client, "echo", {"text": "x"}, id=4), changes)
        assert (response.status, error_of(response, 4, "tools/call")["code"]) == (400, -32020)
        assert server.calls == []


@pytest.mark.parametrize(
    "changes",
    [
        [("mcp-method", "tools/call"), ("MCP-NAME", "echo"), ("mcp-PROTOCOL-version", E)],
        [("Mcp-Method", " \ttools/call \t"), ("Mcp-Name", "  echo  ")],
        [("Mcp-Name", "=?base64?ZWNobw==?=")],
    ],
)
async def test_header_names_have_no_case_values_no_edges_and_base64_is_decoded(changes: Any) -> None:
    async with desk() as (_, client):
        response = await send(client, tool(client, "echo", {"text": "x"}), changes)
        assert said(response.json()["result"]) == "x"


async def test_prompts_and_resources_are_named_too() -> None:
    async with desk() as (_, client):
        for method, params in (
            ("resources/read", {"uri": "note://one"}),
            ("prompts/get", {"name": "about", "arguments": {"topic": "x"}}),
        ):
            assert (await client.call(method, params)).status == 200
            for name in (None, "other"):
                answer = await client.call(method, params, headers={"Mcp-Name": name})
                assert (answer.status, answer.error["code"]) == (400, -32020)


@pytest.mark.parametrize(
    ("arguments", "headers", "fits"),
    [
        ({"region": "north"}, [("Mcp-Param-Region", "north")], True),
        ({"region": "north"}, [("mcp-param-REGION", " north ")], True),
        ({"region": "north"}, [("Mcp-Param-Region", "=?base64?bm9ydGg=?=")], True),
        ({"region": "Ü"}, [("Mcp-Param-Region", header_value("Ü"))], True),
        ({"region": ""}, [("Mcp-Param-Region", "")], True),
        ({}, [], True),
        ({"count": None}, [], True),
        ({"count": 42}, [("Mcp-Param-Count", "42")], True),
        ({"count": 42}, [("Mcp-Param-Count", "42.0")], True),
        ({"urgent": True}, [("Mcp-Param-Urgent", "true")], True),
        ({"region": "x"}, [("Mcp-Param-Region", "x"), ("Mcp-Param-Else", "whatever")], True),
        ({"region": "north"}, [], False),
        ({"region": "north"}, [("Mcp-Param-Region", "North")], False),
        ({"region": "north"}, [("Mcp-Param-Region", "north"), ("+Mcp-Param-Region", "north")], False),
        ({"region": "north"}, [("Mcp-Param-Region", "=?base64?bm9ydGg?=")], False),
        ({"region": "north"}, [("Mcp-Param-Region", "nörth")], False),
        ({}, [("Mcp-Param-Region", "north")], False),
        ({"count": None}, [("Mcp-Param-Count", "0")], False),
        ({"count": 42}, [("Mcp-Param-Count", "43")], False),
        ({"count": 42}, [("Mcp-Param-Count", "0x2a")], False),
        ({"urgent": True}, [("Mcp-Param-Urgent", "True")], False),
        ({"urgent": True}, [("Mcp-Param-Urgent", "1")], False),
    ],
)
async def test_annotated_arguments_are_mirrored_exactly(arguments: Any, headers: Any, fits: bool) -> None:
    async with desk() as (server, client):
        response = await send(client, tool(client, "place", arguments, id=1), headers)
        if fits:
            assert response.status == 200
        else:
            assert (response.status, error_of(response, 1)["code"]) == (400, -32020)
            assert server.calls == []


async def test_annotated_arguments_in_nested_objects_are_mirrored() -> None:
    schema = {
        "type": "object",
        "properties": {
            "where": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
        },
    }
    server = Desk()
    server.add_tool(lambda where=None: str(where), name="deep", input_schema=schema)
    async with desk(server) as (_, client):
        message = tool(client, "deep", {"where": {"zone": "a"}}, id=1)
        assert (await send(client, message, [("Mcp-Param-Zone", "a")])).status == 200
        for changes in ([], [("Mcp-Param-Zone", "b")]):
            assert error_of(await send(client, message, changes), 1)["code"] == -32020
        for arguments in ({}, {"where": {}}, {"where": {"zone": None}}):
            assert (await send(client, tool(client, "deep", arguments))).status == 200


async def test_a_handler_of_ones_own_says_which_arguments_are_mirrored() -> None:
    class Own(ServerHandler):
        async def list_tools(self, params: Any, ctx: Context) -> Any:
            return {"tools": []}

        async def call_tool(self, params: Any, ctx: Context) -> Any:
            return {"content": []}

        def param_headers(self, tool: str) -> Any:
            return {("zone",): "Zone"} if tool == "zoned" else None

    async with desk(Own()) as (_, client):
        for name, headers, status in (
            ("zoned", [("Mcp-Param-Zone", "a")], 200), ("zoned", [], 400), ("other", [], 200),
        ):  # fmt: skip
            assert (await send(client, tool(client, name, {"zone": "a"}), headers)).status == status
        # Arguments of a wrong type have no value that a header could mirror.  The handler refuses them.
        message = client.request("tools/call", {"name": "zoned", "arguments": [1]})
        assert (await send(client, message)).status == 200
        assert (await send(client, client.request("tools/call", {"name": 5}))).status == 200


# -- discovery, and the members of every result --


async def test_discovery_says_what_is_served_and_who_serves() -> None:
    async with desk(Desk(instructions="Ask nicely.")) as (_, client):
        answer = await client.call("server/discover")
        assert answer.result == {
            "resultType": "complete",
            "supportedVersions": SUPPORTED,
            "capabilities": {
                "logging": {},
                "tools": {"listChanged": True},
                "resources": {"subscribe": True, "listChanged": True},
                "prompts": {"listChanged": True},
                "completions": {},
            },
            "instructions": "Ask nicely.",
            "ttlMs": 0,
            "cacheScope": "public",
            "_meta": {SERVER_INFO: {"name": "desk", "version": "1.5", "title": "A desk"}},
        }


async def test_discovery_leaves_out_what_there_is_none_of() -> None:
    async with desk(Bare()) as (_, client):
        assert "instructions" not in (await client.call("server/discover")).result


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("server/discover", {}),
    ("tools/list", {}),
    ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
    ("tools/call", {"name": "nothing"}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "note://one"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "about", "arguments": {"topic": "x"}}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "about"}, "argument": {"name": "topic", "value": ""}},
    ),
]
CACHED = {
    "server/discover", "tools/list", "resources/list", "resources/templates/list", "resources/read", "prompts/list",
}  # fmt: skip


@pytest.mark.parametrize(("method", "params"), CALLS)
async def test_every_result_has_its_type_its_server_and_hints_where_it_may_be_kept(method: str, params: Any) -> None:
    async with desk() as (_, client):
        for _ in range(2):  # the second time, the server sends the encoded result of the first time
            result = (await client.call(method, params)).result  # judged by the closed schema
            assert result["resultType"] == "complete"
            assert result["_meta"][SERVER_INFO]["name"] == "desk"
            assert ("ttlMs" in result, "cacheScope" in result) == (method in CACHED, method in CACHED)
            if method in CACHED:
                assert (result["ttlMs"], result["cacheScope"]) == (0, "public")


@pytest.mark.parametrize("settings", [{"token": "secret"}, {"authorize": lambda head: "somebody"}])
async def test_where_requests_are_authorized_results_are_private(settings: dict[str, Any]) -> None:
    async with desk(**settings) as (_, client):
        client.extra_headers["Authorization"] = "Bearer secret"
        for method, params in CALLS:
            result = (await client.call(method, params)).result
            assert result.get("cacheScope") == ("private" if method in CACHED else None)


async def test_a_handler_chooses_how_long_and_for_whom_a_result_is_kept() -> None:
    server = Desk(cache_hints={"tools/list": (60_000, "private"), "resources/read": (5, "public")}, page_size=2)
    async with desk(server, token="secret") as (_, client):
        client.extra_headers["Authorization"] = "Bearer secret"
        result = (await client.call("tools/list")).result
        pages = 0
        while True:  # CACHE-2: one scope for all pages of a list
            assert (result["ttlMs"], result["cacheScope"]) == (60_000, "private")
            pages += 1
            if "nextCursor" not in result:
                break
            result = (await client.call("tools/list", {"cursor": result["nextCursor"]})).result
        assert pages == 4
        result = (await client.call("resources/read", {"uri": "note://one"})).result
        assert (result["ttlMs"], result["cacheScope"]) == (5, "public")


@pytest.mark.parametrize("cursor", ["", "x", "bm8=", 5])
async def test_a_bad_cursor_is_invalid_params_and_an_empty_one_is_a_cursor(cursor: Any) -> None:
    async with desk() as (_, client):
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
            answer = await client.call(method, {"cursor": cursor})
            assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_a_result_may_bring_its_own_meta_and_hints() -> None:
    class Own(ServerHandler):
        name = "own"

        async def read_resource(self, params: Any, ctx: Context) -> Any:
            return {"contents": [], "_meta": {"a/b": 1}, "ttlMs": 9, "cacheScope": "private"}

        async def list_resources(self, params: Any, ctx: Context) -> Any:
            return {"resources": [], "_meta": {SERVER_INFO: {"name": "else", "version": "2"}}}

    async with desk(Own()) as (_, client):
        result = (await client.call("resources/read", {"uri": "x:y"})).result
        assert result["_meta"] == {SERVER_INFO: {"name": "own", "version": "0"}, "a/b": 1}
        assert (result["ttlMs"], result["cacheScope"]) == (9, "private")
        # A handler may name another server as the source of a result, as a proxy does.
        assert (await client.call("resources/list")).result["_meta"][SERVER_INFO]["name"] == "else"
        # The result of a retry may not be cached, even if the handler allows it.
        retry = {"uri": "x:y", "inputResponses": {"a": {}}}
        result = (await client.call("resources/read", retry)).result
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


@pytest.mark.parametrize(
    ("code", "data", "status", "sent"),
    [
        (-32602, {"a": 1}, 400, -32602),
        (-32601, None, 404, -32601),
        (-32603, None, 200, -32603),
        (-32600, None, 400, -32600),
        (4711, [1, "two"], 200, 4711),
        (-1, None, 200, -1),
        # basic/index, Error Codes: "MUST NOT emit these codes", nor one of the reserved range that is not defined
        (-32002, {"uri": "x:y"}, 400, -32602),
        (-32042, None, 200, -32603),
        (-32050, None, 200, -32603),
    ],
)
async def test_an_error_of_a_handler_has_its_code_and_data_and_the_status_of_its_code(
    code: int, data: Any, status: int, sent: int
) -> None:
    async with desk() as (_, client):
        answer = await client.call("tools/call", {"name": "fail", "arguments": {"code": code, "data": data}})
        assert answer.status == status
        assert answer.error == {"code": sent, "message": "it failed", **({"data": data} if data is not None else {})}


async def test_a_missing_resource_is_invalid_params_with_its_uri() -> None:
    async with desk() as (_, client):
        answer = await client.call("resources/read", {"uri": "note://none"})
        assert (answer.status, answer.error["code"], answer.error["data"]) == (400, -32602, {"uri": "note://none"})


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": "no such"}),
        ("tools/call", {"name": "echo", "arguments": 5}),
        ("prompts/get", {"name": "no such"}),
        ("prompts/get", {"name": "about"}),
        ("resources/read", {}),
        ("completion/complete", {}),
        ("tools/list", {"requestState": 5}),
        ("tools/call", {"name": "echo", "inputResponses": []}),
    ],
)
async def test_params_of_a_wrong_shape_are_invalid(method: str, params: Any) -> None:
    async with desk() as (_, client):
        answer = await client.call(method, params)
        assert (answer.status, answer.error["code"]) == (400, -32602)


# -- logging and progress --


@pytest.mark.parametrize(
    ("asked", "sent", "comes"),
    [(None, "emergency", False), ("debug", "debug", True), ("info", "debug", False), ("info", "info", True),
     ("info", "notice", True), ("emergency", "alert", False), ("emergency", "emergency", True)],
)  # fmt: skip
async def test_log_messages_come_only_where_a_request_asks_for_their_level(
    asked: str | None, sent: str, comes: bool
) -> None:
    async with desk() as (_, client):
        meta = {} if asked is None else {f"{META}logLevel": asked}
        answer = await client.call("tools/call", {"name": "told", "arguments": {"level": sent}}, meta=meta)
        assert said(answer.result) == "told"
        wanted = {"method": "notifications/message", "params": {"level": sent, "data": {"a": 1}, "logger": "desk"}}
        assert answer.notifications == ([{"jsonrpc": "2.0", **wanted}] if comes else [])


@pytest.mark.parametrize("level", ["loud", "INFO", "", 3, [], {}])
async def test_an_unknown_log_level_is_invalid_params(level: Any) -> None:
    async with desk() as (server, client):
        answer = await client.call("tools/call", {"name": "echo", "arguments": {"text": "x"}},
                                   meta={f"{META}logLevel": level})  # fmt: skip
        assert (answer.status, answer.error["code"]) == (400, -32602)
        assert server.calls == []


@pytest.mark.parametrize("token", ["t", "", 0, 7, "7"])
async def test_progress_comes_on_the_requests_own_stream_under_its_token(token: Any) -> None:
    async with desk() as (server, client), client.listen(toolsListChanged=True) as listener:
        assert (await listener.next_message())["method"] == ACKNOWLEDGED
        answer = await client.call("tools/call", {"name": "count"}, meta={"progressToken": token})
        assert answer.headers["content-type"] == SSE_TYPE
        assert [n["params"] for n in answer.notifications] == [
            {"progressToken": token, "progress": n, "total": 3, "message": f"step {n}"} for n in (1, 2, 3)
        ]
        assert all(type(n["params"]["progressToken"]) is type(token) for n in answer.notifications)
        # Nothing of it is on the listen stream: the next message there is the next change.
        server.notify_tools_changed()
        assert (await listener.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("token", [None, 1.5, True, [], {}])
async def test_without_a_token_there_is_no_progress_and_the_answer_is_json(token: Any) -> None:
    async with desk() as (_, client):
        answer = await client.call("tools/call", {"name": "count"}, meta={"progressToken": token})
        assert answer.notifications == [] and answer.headers["content-type"] == JSON_TYPE


# -- JSON or events --


@pytest.mark.parametrize(
    ("response", "accept", "emits", "form"),
    [
        ("auto", BOTH, False, JSON_TYPE),
        ("auto", BOTH, True, SSE_TYPE),
        ("auto", f"{SSE_TYPE}, {JSON_TYPE}", False, JSON_TYPE),
        ("auto", "*/*", False, JSON_TYPE),
        ("auto", "*/*", True, SSE_TYPE),
        ("auto", None, False, JSON_TYPE),
        ("auto", "application/*, text/*", True, SSE_TYPE),
        ("auto", JSON_TYPE, False, JSON_TYPE),
        ("auto", JSON_TYPE, True, JSON_TYPE),
        ("auto", SSE_TYPE, False, SSE_TYPE),
        ("auto", SSE_TYPE, True, SSE_TYPE),
        ("auto", f"{JSON_TYPE};q=0.5, {SSE_TYPE}", False, SSE_TYPE),
        ("auto", f"{JSON_TYPE}, {SSE_TYPE};q=0", True, JSON_TYPE),
        ("json", BOTH, False, JSON_TYPE),
        ("json", BOTH, True, JSON_TYPE),
        ("sse", BOTH, False, SSE_TYPE),
        ("sse", BOTH, True, SSE_TYPE),
        ("sse", JSON_TYPE, True, JSON_TYPE),
    ],
)
async def test_the_form_of_an_answer(response: str, accept: str | None, emits: bool, form: str) -> None:
    async with desk(response=response) as (_, client):
        meta = {f"{META}logLevel": "debug"} if emits else {}
        answer = await client.call("tools/call", {"name": "told"}, meta=meta, headers={"Accept": accept})
        assert said(answer.result) == "told"
        assert answer.headers["content-type"] == form
        assert len(answer.notifications) == (1 if emits and form == SSE_TYPE else 0)
        if form == SSE_TYPE:
            assert answer.headers["x-accel-buffering"] == "no"
            assert "no-cache" in answer.headers["cache-control"]


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
async def test_a_client_that_reads_neither_form_is_406(accept: str) -> None:
    async with desk() as (_, client):
        assert (await send(client, client.request("tools/list"), [("Accept", accept)])).status == 406


@pytest.mark.parametrize("accept", [BOTH, SSE_TYPE])
@pytest.mark.parametrize("response", ["auto", "json", "sse"])
@pytest.mark.parametrize(
    ("method", "params", "status"),
    [("foo/bar", {}, 404), ("tools/call", {"name": "none"}, 400), ("resources/read", {"uri": "x:y"}, 400)],
)
async def test_an_error_before_anything_was_sent_has_its_status(
    accept: str, response: str, method: str, params: Any, status: int
) -> None:
    # "it MUST respond with 404 Not Found": also where the client prefers events.
    async with desk(response=response) as (_, client):
        answer = await client.call(method, params, headers={"Accept": accept})
        assert answer.status == status and "code" in answer.error


async def test_an_error_after_something_was_sent_is_the_last_event() -> None:
    server = Desk()

    @server.tool
    async def half(ctx: Context) -> str:
        await ctx.info("half")
        raise InvalidParams("no")

    async with desk(server) as (_, client):
        answer = await client.call("tools/call", {"name": "half"}, meta={f"{META}logLevel": "debug"})
        assert (answer.status, answer.error["code"], len(answer.notifications)) == (200, -32602, 1)


async def test_a_function_that_says_much_waits_for_a_client_that_reads_slowly() -> None:
    server, said_so_far, total, line = Desk(), [0], 400, "x" * 64 * 1024

    @server.tool
    async def chatter(ctx: Context) -> str:
        for _ in range(total):
            await ctx.info(line)
            said_so_far[0] += 1
        return "said"

    async with desk(server, write_high=64 * 1024) as (_, client):
        async with client.posting(tool(client, "chatter", meta={f"{META}logLevel": "info"})) as stream:
            with anyio.fail_after(LIMIT):
                before = -1
                while before != said_so_far[0]:  # until the tool is held up and sends no more
                    before = said_so_far[0]
                    for _ in range(50):
                        await anyio.lowlevel.checkpoint()
                assert 0 < before < total
                for _ in range(total):
                    assert (await stream.next_message())["params"]["data"] == line
                assert said((await stream.next_message())["result"]) == "said"


async def test_an_answer_that_takes_long_becomes_a_stream_and_is_kept_alive() -> None:
    async with desk(patience=0.08, keep_alive=0.04) as (server, client):
        async with client.posting(tool(client, "wait")) as stream:
            assert (stream.status, stream.head.content_type) == (200, SSE_TYPE)
            for _ in range(3):
                assert await stream.next_bytes() == b":\n\n"
            server.released.set()
            message = await stream.next_message()
            assert said(message["result"]) == "waited"
            assert await stream.next_message() is None


@pytest.mark.parametrize("settings", [{"response": "json"}, {}])
async def test_a_client_that_reads_json_alone_waits_for_its_answer(settings: Any) -> None:
    async with desk(patience=0.04, **settings) as (server, client):
        accept = BOTH if settings else JSON_TYPE
        async with client.client() as raw:
            message = tool(client, "wait", {"first": True}, meta={f"{META}logLevel": "debug"})
            headers = {**client.headers_for(message), "Accept": accept}
            await raw.send_request("POST", "/mcp", headers, json.dumps(message).encode())
            await server.started.wait()
            with pytest.raises(TimeoutError), anyio.fail_after(0.15):
                await raw.reader.read(1)
            server.released.set()
            response = await raw.receive("POST")
            assert response.content_type == JSON_TYPE and said(response.json()["result"]) == "waited"


# -- cancellation --


async def leave(raw: RawClient, how: str) -> None:
    if how == "fin":
        await raw.aclose()
    elif how == "rst":
        raw.abort()
    else:
        await raw.send_eof()


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
@pytest.mark.parametrize("response", ["auto", "json", "sse"])
@pytest.mark.parametrize("first", [False, True])
async def test_leaving_cancels_the_call_and_nothing_more_is_sent(how: str, response: str, first: bool) -> None:
    async with desk(response=response) as (server, client):
        with anyio.fail_after(LIMIT):
            raw = await client.client().connect()
            message = tool(client, "wait", {"first": first}, meta={f"{META}logLevel": "debug"})
            await raw.send_request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
            if first and response != "json":
                stream = await raw.receive_stream("POST")
                assert (await stream.next_message())["params"]["data"] == "first"
            await server.started.wait()
            await leave(raw, how)
            await server.cancelled.wait()
            if how == "half":
                assert await raw.receive_eof() == b""
                await raw.aclose()
        assert (await client.call("tools/list")).status == 200


async def test_a_call_that_waits_in_line_is_cancelled_with_its_connection() -> None:
    async with desk(max_running=1) as (server, client):
        with anyio.fail_after(LIMIT):
            async with client.posting(tool(client, "wait", {"first": True}, meta={f"{META}logLevel": "debug"})) as s:
                assert await s.next_message()
                async with client.client() as raw:
                    message = tool(client, "echo", {"text": "x"})
                    await raw.send_request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
                    await raw.send_eof()
                    assert await raw.receive_eof() == b""
                server.released.set()
                assert said((await s.next_message())["result"]) == "waited"
            assert (await client.call("tools/list")).status == 200
            assert server.calls == []


async def test_a_call_for_which_there_is_no_place_in_line_is_503() -> None:
    async with desk(max_running=1, max_waiting=1) as (server, client), anyio.create_task_group() as group:
        results: list[Any] = []

        async def call() -> None:
            results.append(said((await client.call("tools/call", {"name": "wait"})).result))

        group.start_soon(call)
        await server.started.wait()
        group.start_soon(call)
        while True:
            answer = await client.call("tools/call", {"name": "echo", "arguments": {"text": "x"}}, id="late") \
                if server_waiting(server) else None  # fmt: skip
            if answer is not None:
                break
            await anyio.lowlevel.checkpoint()
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0 and answer.error
        server.released.set()
    assert results == ["waited", "waited"]


def server_waiting(server: Any) -> bool:
    listeners = server.notices._listeners
    return any(listener.__self__.waiting for listener in listeners)


async def test_a_notification_that_cancels_is_taken_and_does_nothing() -> None:
    async with desk() as (server, client), anyio.create_task_group() as group:
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await client.call("tools/call", {"name": "wait"}, id="mine"))

        group.start_soon(call)
        await server.started.wait()
        params = {"requestId": "mine", "_meta": client.meta()}
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        assert (await send(client, message)).status == 202
        assert not server.ended.is_set()
        server.released.set()
    assert said(answers[0].result) == "waited"


async def test_two_calls_with_one_id_each_get_their_own_answer() -> None:
    # basic/index, Requests: an id is unique for its sender only, and the server cannot tell the senders apart.
    async with desk() as (server, client), anyio.create_task_group() as group:
        texts: list[str] = []

        async def call(name: str, arguments: Any) -> None:
            answer = await client.call("tools/call", {"name": name, "arguments": arguments}, id=1)
            texts.append(said(answer.result))

        group.start_soon(call, "wait", {})
        await server.started.wait()
        await call("echo", {"text": "first"})
        server.released.set()
    assert texts == ["first", "waited"]


async def test_a_thread_that_was_left_behind_ends_quietly() -> None:
    server = Desk()
    started, released, done = threading.Event(), threading.Event(), threading.Event()

    @server.tool
    def block(ctx: Context) -> str:
        started.set()
        released.wait(LIMIT)
        done.set()
        return "nobody reads this"

    async with desk(server) as (_, client):
        raw = await client.client().connect()
        message = tool(client, "block")
        await raw.send_request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
        assert await anyio.to_thread.run_sync(started.wait, 5)
        await raw.send_eof()
        assert await raw.receive_eof() == b""
        await raw.aclose()
        released.set()
        assert await anyio.to_thread.run_sync(done.wait, 5)
        assert (await client.call("tools/list")).status == 200


@pytest.mark.parametrize("first", [False, True])
async def test_a_call_that_outlives_the_server_is_told_so(first: bool) -> None:
    handler = Desk()
    async with listening(handler, port=0, grace=0.05) as server:
        client = Modern(server.port)
        async with client.client() as raw:
            message = tool(client, "wait", {"first": first}, id=9, meta={f"{META}logLevel": "debug"} if first else {})
            await raw.send_request("POST", "/mcp", client.headers_for(message), json.dumps(message).encode())
            await handler.started.wait()
            closing = asyncio.ensure_future(server.aclose())
            response = await raw.receive("POST")
            last = response.messages()[-1]
            wire.check_message(E, last, in_reply_to="tools/call")
            assert last["id"] == 9 and last["error"]["code"] == -32603
            assert response.status == (200 if first else 503)
            await closing


@pytest.mark.parametrize("first", [False, True])
async def test_a_call_that_is_cancelled_from_within_has_failed_and_its_client_is_told(
    first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Bare):
        async def list_tools(self, params: Any, ctx: Context) -> Any:
            if first:
                await ctx.info("first")
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task

    async with desk(Own()) as (_, client):
        answer = await client.call("tools/list", meta={f"{META}logLevel": "info"})
        assert (answer.status, answer.error["code"]) == (200, -32603)
        assert "shutting down" not in answer.error["message"]
        assert len(answer.notifications) == first and "tools/list" in caplog.text
        assert (await client.call("server/discover")).status == 200


# -- listen streams --


async def ack(stream: Any) -> dict[str, Any]:
    message = await stream.next_message()
    assert message["method"] == ACKNOWLEDGED
    return message["params"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("id", [0, "0", "", 7, 2**60, "listen-1"])
async def test_a_listen_stream_begins_with_its_acknowledgement_and_names_itself_throughout(id: Any) -> None:
    async with desk() as (server, client):
        everything = {
            "toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True,
            "resourceSubscriptions": ["note://one"],
        }  # fmt: skip
        async with client.listen(id, **everything) as stream:
            assert (stream.status, stream.head.content_type) == (200, SSE_TYPE)
            assert stream.headers["x-accel-buffering"] == "no"
            assert await ack(stream) == {"notifications": everything, "_meta": {SUBSCRIPTION: id}}
            server.notify_tools_changed()
            server.notify_prompts_changed()
            server.notify_resources_changed()
            server.notify_resource_updated("note://one")
            messages = [await stream.next_message() for _ in range(4)]
            assert [m["method"] for m in messages] == [
                "notifications/tools/list_changed",
                "notifications/prompts/list_changed",
                "notifications/resources/list_changed",
                "notifications/resources/updated",
            ]
            assert messages[3]["params"]["uri"] == "note://one"
            for message in messages:
                found = message["params"]["_meta"][SUBSCRIPTION]
                assert found == id and type(found) is type(id)


async def test_only_what_was_asked_for_comes() -> None:
    async with desk() as (server, client):
        async with client.listen(promptsListChanged=True, toolsListChanged=False) as stream:
            assert (await ack(stream))["notifications"] == {"promptsListChanged": True}
            server.notify_tools_changed()
            server.notify_resources_changed()
            server.notify_resource_updated("note://one")
            server.notify_prompts_changed()
            assert (await stream.next_message())["method"] == "notifications/prompts/list_changed"


async def test_updates_come_for_exactly_the_uris_that_were_asked_for() -> None:
    async with desk() as (server, client):
        async with client.listen(resourceSubscriptions=["note://a", "note://b"]) as stream:
            assert (await ack(stream))["notifications"] == {"resourceSubscriptions": ["note://a", "note://b"]}
            for uri in ("note://a/sub", "note://", "note://A", "note://b", "note://c", "note://a"):
                server.notify_resource_updated(uri)
            uris = [(await stream.next_message())["params"]["uri"] for _ in range(2)]
            assert uris == ["note://b", "note://a"]


@pytest.mark.parametrize("wanted", [{}, {"toolsListChanged": False}, {"toolsListChanged": None, "made": "up"},
                                    {"resourceSubscriptions": []}, {"resourceSubscriptions": None}])  # fmt: skip
async def test_a_listen_of_which_nothing_is_honoured_is_acknowledged_and_ends(wanted: Any) -> None:
    async with desk() as (_, client), client.listen(3, **wanted) as stream:
        assert (await ack(stream))["notifications"] == {}
        assert (await stream.next_message())["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: 3}}
        assert await stream.next_message() is None


async def test_what_the_server_does_not_offer_is_left_out_of_the_acknowledgement() -> None:
    class Tools(ServerHandler):
        async def list_tools(self, params: Any, ctx: Context) -> Any:
            return {"tools": []}

        def capabilities(self) -> dict[str, Any]:
            return {"tools": {}, "prompts": {"listChanged": True}, "resources": {"listChanged": True}}

    async with desk(Tools()) as (_, client):
        wanted = {"toolsListChanged": True, "promptsListChanged": True, "resourceSubscriptions": ["note://one"]}
        async with client.listen(**wanted) as stream:
            assert (await ack(stream))["notifications"] == {"promptsListChanged": True}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": None},
        {"notifications": []},
        {"notifications": "all"},
        {"notifications": {"toolsListChanged": "yes"}},
        {"notifications": {"promptsListChanged": 1}},
        {"notifications": {"resourcesListChanged": []}},
        {"notifications": {"resourceSubscriptions": "note://one"}},
        {"notifications": {"resourceSubscriptions": [1]}},
        {"notifications": {"resourceSubscriptions": {"uri": True}}},
        {"notifications": {"resourceSubscriptions": ["a:b", "c:d", "e:f"]}},
    ],
)
async def test_a_filter_that_is_none_is_invalid_params(params: Any) -> None:
    async with desk(max_subscriptions=2) as (_, client):
        answer = await client.call("subscriptions/listen", params, id=5)
        assert (answer.status, answer.error["code"]) == (400, -32602)
        async with client.listen(resourceSubscriptions=["a:b", "c:d"]) as stream:
            assert len((await ack(stream))["notifications"]["resourceSubscriptions"]) == 2


async def test_a_listen_needs_a_client_that_reads_events_whatever_form_answers_have() -> None:
    async with desk(response="json") as (server, client):
        async with client.listen(toolsListChanged=True) as stream:
            assert await ack(stream)
            server.notify_tools_changed()
            assert await stream.next_message()
        answer = await client.call("subscriptions/listen", {"notifications": {"toolsListChanged": True}},
                                   headers={"Accept": JSON_TYPE})  # fmt: skip
        assert answer.status == 406 and answer.error


async def test_listeners_are_counted_and_one_too_many_is_503() -> None:
    async with desk(max_listeners=2) as (_, client):
        async with client.listen(toolsListChanged=True) as one:
            await ack(one)
            async with client.listen(toolsListChanged=True) as two:
                await ack(two)
                answer = await client.call("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
                assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
            # The place of a stream is free again as soon as the server has noticed its end.
            with anyio.fail_after(LIMIT):
                while True:
                    async with client.listen(toolsListChanged=True) as three:
                        if three.status == 200:
                            await ack(three)
                            break


async def test_a_listen_stream_is_kept_alive_with_comments() -> None:
    async with desk(keep_alive=0.04) as (_, client), client.listen(toolsListChanged=True) as stream:
        await ack(stream)
        assert await stream.next_bytes() == b":\n\n"


async def test_a_server_that_ends_closes_its_listen_streams_with_a_result() -> None:
    handler = Desk()
    async with listening(handler, port=0) as server:
        client = Modern(server.port)
        async with client.listen("a", toolsListChanged=True) as one, client.listen(2, promptsListChanged=True) as two:
            await ack(one)
            await ack(two)
            closing = asyncio.ensure_future(server.aclose())
            for stream, id in ((one, "a"), (two, 2)):
                message = await stream.next_message()
                assert message["id"] == id
                assert message["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: id}}
                assert await stream.next_message() is None
            await closing


async def test_several_listeners_hear_of_one_change_and_a_stranger_cannot_end_them() -> None:
    async with desk() as (server, client):
        async with client.listen(1, toolsListChanged=True) as one, client.listen(1, toolsListChanged=True) as two:
            await ack(one)
            await ack(two)
            params = {"requestId": 1, "_meta": client.meta()}
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            assert (await send(client, cancel)).status == 202
            server.add_tool(lambda: "x", name="added")
            for stream in (one, two):
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


async def test_a_change_made_in_a_thread_reaches_listeners() -> None:
    async with desk() as (server, client), client.listen(resourceSubscriptions=["note://one"]) as stream:
        await ack(stream)
        await anyio.to_thread.run_sync(server.notify_resource_updated, "note://one")
        assert (await stream.next_message())["method"] == "notifications/resources/updated"


async def test_one_change_reaches_listeners_and_legacy_sessions() -> None:
    async with desk() as (server, client), Legacy(client.port, "2025-11-25") as session:
        await session.call("resources/subscribe", {"uri": "note://one"})
        async with (
            session.get_stream() as old,
            client.listen(toolsListChanged=True, resourceSubscriptions=["note://one"]) as new,
        ):
            await ack(new)
            server.notify_tools_changed()
            server.notify_resource_updated("note://one")
            for stream in (old, new):
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
                assert (await stream.next_message())["params"]["uri"] == "note://one"


async def test_a_live_legacy_session_and_this_era_share_one_connection() -> None:
    async with desk() as (_, client), Legacy(client.port, "2025-11-25") as session, client.client() as raw:
        for peer in (session, client, session, client):
            message = peer.request("tools/list")
            response = await raw.request("POST", "/mcp", peer.headers_for(message), json.dumps(message).encode())
            result = response.messages()[-1]["result"]
            assert ("resultType" in result) is (peer is client)
        # A session id in a request with an envelope has no effect.
        answer = await client.call("tools/list", headers={"Mcp-Session-Id": session.session})
        assert "resultType" in answer.result and "mcp-session-id" not in answer.headers


async def test_a_legacy_claim_in_a_live_session_is_served_there() -> None:
    async with desk() as (_, client), Legacy(client.port, "2025-11-25") as session:
        message = session.request("tools/list", {"_meta": {f"{META}protocolVersion": "2025-11-25"}})
        response = await session.post(message)
        assert response.status == 200 and "resultType" not in response.messages()[-1]["result"]


async def test_a_listener_that_does_not_read_is_dropped_before_it_costs_much() -> None:
    listening_socket = socket.socket()
    listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    listening_socket.bind(("127.0.0.1", 0))
    handler = Desk()
    async with listening(handler, sock=listening_socket, write_high=16 * 1024) as server:
        client = Modern(server.port)
        uris = [f"note://{n}/{'x' * (MAX_SUBSCRIBED_SIZE // 900 - 12)}" for n in range(900)]
        raw = client.client()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.setblocking(False)
        message = client.request("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}})
        body = json.dumps(message).encode()
        request = raw.head("POST", "/mcp", client.headers_for(message), body) + body
        loop = asyncio.get_running_loop()
        with anyio.fail_after(LIMIT):
            await loop.sock_sendall(slow, request)
            while not server.endpoint.modern.listeners:
                await anyio.lowlevel.checkpoint()
            for uri in uris:
                handler.notify_resource_updated(uri)
            while server.endpoint.modern.listeners:
                await anyio.lowlevel.checkpoint()
            received = 0
            with suppress(ConnectionError):
                while data := await loop.sock_recv(slow, 65536):
                    received += len(data)
        slow.close()
        assert received < sum(map(len, uris)) / 2
        assert (await client.call("tools/list")).status == 200


# -- a listener by itself, for the limit --


class SlowReply:
    """A reply with the interface that a listener uses; its reader is slow until `read` is called."""

    peer = ""

    def __init__(self) -> None:
        self.alive = True
        self.writable = False
        self.sent: list[bytes] = []
        self.aborted = 0
        self._read = asyncio.Event()

    def send(self, events: bytes) -> None:
        self.sent.append(events)

    def abort(self) -> None:
        self.aborted += 1

    async def drained(self) -> None:
        await self._read.wait()

    def read(self) -> None:
        self.writable = True
        self._read.set()


async def test_a_slow_listener_gets_each_notice_once_and_has_room_for_so_many() -> None:
    async with Runtime(Desk(), Settings()) as runtime:
        reply: Any = SlowReply()
        uris = [f"note://{n}" for n in range(MAX_UNSENT + 1)]
        message = Request("id", "subscriptions/listen", {})
        listener = PostedListener(runtime, message, reply, {"resourceSubscriptions": uris})
        for uri in uris[:MAX_UNSENT] * 2:
            listener.on_notice(Notice("updated", uri))
        assert reply.aborted == 0 and reply.sent == []
        with anyio.fail_after(LIMIT):
            reply.read()
            await asyncio.gather(*runtime.tasks)
        sent = [json.loads(event.partition(b"data: ")[2])["params"]["uri"] for event in reply.sent]
        assert sent == uris[:MAX_UNSENT]

        reply = SlowReply()
        listener = PostedListener(runtime, message, reply, {"resourceSubscriptions": uris})
        for uri in uris:
            listener.on_notice(Notice("updated", uri))
        assert reply.aborted == 1
        reply.alive = False
        reply.read()
        await asyncio.gather(*runtime.tasks)
        assert len(reply.sent) <= 1


# -- the era by itself --


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(TESTS / "support"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=120
    )


def test_the_era_is_imported_without_the_other_one() -> None:
    code = """
import sys, types
package = types.ModuleType("mcp_h11")
package.__path__ = [sys.argv[1]]
sys.modules["mcp_h11"] = package
for name in (
    "endpoint.sessions", "endpoint.session_stores", "endpoint.session_table",
    "endpoint.legacy_sse", "endpoint.batches", "endpoint.calls", "endpoint.streams",
    "eras.asking", "eras.channel", "eras.session", "eras.session_methods", "endpoint.endpoint", "server.server",
    "server.stdio",
):
    sys.modules["mcp_h11." + name] = None
import mcp_h11.eras.modern
"""
    done = run_python("-c", code, str(TESTS.parent / "mcp_h11"))
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.skipif("without_legacy" in sys.modules, reason="this is that run")
def test_the_era_passes_its_tests_with_the_legacy_one_removed() -> None:
    done = run_python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "without_legacy",
                      "-k", "not legacy", str(TESTS / "eras" / "test_modern.py"))  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
