# SPDX-License-Identifier: MIT
"""The entry of all requests: authorization, the choice of the era, and errors in the handling of errors."""

from __future__ import annotations

from typing import Any

import pytest
from rawclient import META, SSE_TYPE, Legacy, Modern, RawClient, encode
from serving import ASYNCIO, LEGACY, Held, call, head, lives, modern, request, served, still_serves, turns

from mcp_h11 import MCPError
from mcp_h11.http.auth import Principal
from mcp_h11.protocol.errors import Refusal

pytestmark = pytest.mark.anyio
SUPPORTED = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


# --- who asks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status", "challenge"),
    [
        (None, 401, "Bearer"),
        ("", 401, "Bearer"),
        ("Bearer", 401, "Bearer"),
        ("Bearer wrong", 401, 'Bearer error="invalid_token"'),
        ("Bearer s3cre", 401, 'Bearer error="invalid_token"'),
        ("Bearer s3cret2", 401, 'Bearer error="invalid_token"'),
        ("Bearer \xe9", 401, 'Bearer error="invalid_token"'),
        ("Basic s3cret", 401, 'Bearer error="invalid_token"'),
        ("s3cret", 401, "Bearer"),
        ("Bearer s3cret", 200, None),
        ("bearer  s3cret", 200, None),
    ],
)
async def test_a_token_is_wanted_of_every_request(header: str | None, status: int, challenge: str | None) -> None:
    async with served(token="s3cret", legacy_sse=True) as server, RawClient(server.port) as client:
        await client.send(modern("server/discover", Authorization=header))
        answer = await client.receive("POST")
        assert (answer.status, answer.headers.get("www-authenticate")) == (status, challenge)
        if status == 200:
            assert answer.json()["result"]["cacheScope"] == "private"
            return
        assert answer.json()["error"]["code"] == -32600 and "s3cret" not in answer.body.decode()
        for method, target in (("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("POST", "/messages")):
            await client.send(head(target, method=method, Authorization=header, Content_Length="0"))
            assert (await client.receive(method)).status == 401
        # A path that the server does not serve needs no token.
        await client.send(head("/nowhere", method="GET"))
        assert (await client.receive("GET")).status == 404


async def test_a_token_in_the_query_is_no_token() -> None:
    async with served(token="s3cret") as server, RawClient(server.port) as client:
        await client.send(modern("server/discover").replace(b"/mcp ", b"/mcp?access_token=s3cret "))
        assert (await client.receive("POST")).status == 401


def named(head: Any) -> Any:
    return head.get("x-user")


async def named_later(head: Any) -> Any:
    await turns(3)
    return head.get("x-user")


@pytest.mark.parametrize("authorize", [named, named_later])
async def test_authorize_says_who_it_is_and_a_session_is_the_property_of_one(authorize: Any) -> None:
    async with served(authorize=authorize) as server:
        assert (await Modern(server.port).post(Modern(0).request("server/discover"))).status == 401
        session = Legacy(server.port, LEGACY)
        session.extra_headers["X-User"] = "anna"
        await session.initialize()
        stolen = Legacy(server.port, LEGACY)
        stolen.session, stolen.initialized = session.session, session.initialized
        for user, status in (("anna", 200), ("bert", 404), (None, 401)):
            stolen.extra_headers["X-User"] = user
            response = await stolen.post(stolen.request("ping"))
            assert response.status == status
            if status == 401:
                assert response.headers["www-authenticate"] == "Bearer"
        # A request for another principal's session gets the same answer as a request for an unknown session.
        stolen.extra_headers["X-User"] = "bert"
        others = await stolen.post(stolen.request("ping"))
        stolen.session = "never-was"
        never = await stolen.post(stolen.request("ping"))
        assert (others.status, others.body) == (never.status, never.body)
        await session.delete()


@pytest.mark.parametrize("nobody", [None, False, "", {}])
async def test_a_predicate_that_says_no_is_no(nobody: Any) -> None:
    async def later(_: Any) -> Any:
        return nobody

    for authorize in (lambda _: nobody, later):
        async with served(authorize=authorize) as server, RawClient(server.port) as client:
            await client.send(modern("server/discover"))
            assert (await client.receive("POST")).status == 401


async def test_a_principal_reaches_the_handler() -> None:
    seen: list[Any] = []

    class Watching(Held):
        async def request(self, method: str, params: Any, ctx: Any) -> Any:
            seen.append(ctx.principal)
            return await super().request(method, params, ctx)

    principal = Principal("anna", frozenset({"read"}))
    async with served(Watching(), authorize=lambda _: principal) as server:
        await Modern(server.port).call("tools/list")
    assert seen == [principal]


def raises(error: Exception) -> Any:
    def authorize(head: Any) -> Any:
        raise error

    return authorize


def raises_later(error: Exception) -> Any:
    async def authorize(head: Any) -> Any:
        await turns(1)
        raise error

    return authorize


@pytest.mark.parametrize("form", [raises, raises_later])
async def test_what_authorize_raises_is_the_answer_or_a_500_that_says_nothing(
    form: Any, caplog: pytest.LogCaptureFixture
) -> None:
    forbidden = Refusal(403, "scope", headers=(("WWW-Authenticate", 'Bearer error="insufficient_scope"'),))
    for error, status, code in (
        (forbidden, 403, -32600),
        (MCPError(-32602, "no"), 400, -32602),
        (ZeroDivisionError("the secret reason"), 500, -32603),
    ):
        async with served(authorize=form(error)) as server, RawClient(server.port) as client:
            for expects in (False, True):
                await client.send(head(Content_Length="2", Expect="100-continue" if expects else None))
                if not expects:
                    await client.send(b"{}")
                answer = await client.receive("POST")
                assert (answer.status, answer.json()["error"]["code"]) == (status, code)
                assert "secret" not in answer.body.decode() and "Traceback" not in answer.body.decode()
                assert (status == 403) == ("www-authenticate" in answer.headers)
    assert caplog.text.count("ZeroDivisionError: the secret reason") == 2


async def test_a_preflight_passes_where_authorize_would_not_let_it() -> None:
    async with served(authorize=raises(ZeroDivisionError()), cors=["https://a.example"]) as server:
        async with RawClient(server.port) as client:
            for fields in ({}, {"Expect": "100-continue", "Content_Length": "2"}):
                await client.send(head(method="OPTIONS", Origin="https://a.example", **fields))
                if fields:
                    assert (await client.receive_head()).status == 100
                    await client.send(b"{}")
                assert (await client.receive("OPTIONS")).status == 204


# --- which era -----------------------------------------------------------------------------------------------------

VERSION = f"{META}protocolVersion"


def claiming(version: Any, **message: Any) -> bytes:
    meta = {VERSION: version, f"{META}clientCapabilities": {}}
    return encode({"jsonrpc": "2.0", "id": 5, "method": "tools/list", "params": {"_meta": meta}, **message})


PLAIN = encode({"jsonrpc": "2.0", "id": 5, "method": "tools/list"})
NOTE = encode({"jsonrpc": "2.0", "method": "notifications/progress"})
RESPONSE = encode({"jsonrpc": "2.0", "id": 1, "result": {}})
INITIALIZE = encode(
    {"jsonrpc": "2.0", "id": 5, "method": "initialize",
     "params": {"protocolVersion": "2031-01-01", "capabilities": {}, "clientInfo": {"name": "x", "version": "0"}}}
)  # fmt: skip
NEW, D, ODD = "2026-07-28", LEGACY, "1999-01-01"
# body, MCP-Protocol-Version, session ("live", "dead", None) -> status, code, whether the id comes back
ERAS: list[tuple[str, bytes, str | None, str | None, int, int | None, bool]] = [
    ("P1", claiming(NEW), NEW, None, 200, None, True),
    ("P1 session ignored", claiming(NEW), NEW, "dead", 200, None, True),
    ("P2", claiming(NEW), None, None, 400, -32020, True),
    ("P3", claiming(NEW), D, "live", 400, -32020, True),
    ("P3 unknown claim", claiming("v999.0.0"), NEW, None, 400, -32020, True),
    ("P4", claiming(ODD), ODD, None, 400, -32022, True),
    ("P5", claiming(D), D, None, 400, -32022, True),
    ("P6", claiming(D), D, "live", 200, None, True),
    ("P7", PLAIN, NEW, None, 400, -32602, True),
    ("P7 claim is no string", claiming(7), NEW, None, 400, -32602, True),
    ("P8", PLAIN, ODD, None, 400, -32022, True),
    ("P8 live", PLAIN, ODD, "live", 400, -32022, True),
    ("P9", INITIALIZE, None, None, 200, None, True),
    ("P9 header", INITIALIZE, D, None, 200, None, True),
    ("P10", INITIALIZE, None, "live", 400, -32600, True),
    ("P10 dead", INITIALIZE, None, "dead", 200, None, True),
    ("P11", claiming(NEW, method="initialize"), NEW, None, 404, -32601, True),
    ("P12", INITIALIZE, NEW, None, 400, -32602, True),
    ("P14", PLAIN, None, "live", 200, None, True),
    ("P15", PLAIN, D, "dead", 404, -32001, False),
    ("P16", PLAIN, None, None, 400, -32000, True),
    ("P17", PLAIN.replace(b"tools/list", b"server/discover"), None, None, 400, -32602, True),
    ("P18", NOTE, NEW, None, 202, None, False),
    ("P18 odd", NOTE, ODD, None, 400, -32022, False),
    ("P19 live", NOTE, D, "live", 202, None, False),
    ("P19 dead", NOTE, D, "dead", 404, -32001, False),
    ("P19 none", NOTE, None, None, 400, -32000, False),
    ("P20", RESPONSE, NEW, None, 400, -32600, False),
    ("P21 live", RESPONSE, D, "live", 202, None, False),
    ("P21 dead", RESPONSE, D, "dead", 404, -32001, False),
    ("P21 none", RESPONSE, None, None, 400, -32000, False),
    ("P22", b"[]", NEW, None, 400, -32600, False),
    ("P22 legacy", b"[]", D, "live", 400, -32600, False),
    ("P23 claim", b"[" + PLAIN + b"," + claiming(NEW) + b"]", D, "live", 400, -32600, False),
    ("P23 header", b"[" + PLAIN + b"]", NEW, None, 400, -32600, False),
    ("P25", b"[" + PLAIN + b"]", D, "live", 400, -32600, False),
    ("P27", b"[" + PLAIN + b"]", None, None, 400, -32600, False),
    ("P27 odd", b"[" + PLAIN + b"]", ODD, "live", 400, -32000, False),
    ("P28 scalar", b"7", NEW, None, 400, -32600, False),
    ("P28 null", b"null", None, "live", 400, -32600, False),
]


@pytest.mark.parametrize("row", ERAS, ids=[row[0] for row in ERAS])
async def test_body_header_and_session_decide_the_era(row: Any) -> None:
    _, body, version, session_kind, status, code, with_id = row
    async with served() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        fields = {"Mcp_Session_Id": {"live": session.session, "dead": "dead", None: None}[session_kind]}
        method = "initialize" if b"initialize" in body else "tools/list"
        await client.send(request(body, MCP_Protocol_Version=version, Mcp_Method=method, **fields))
        answer = await client.receive("POST")
        assert answer.status == status
        if code is None:
            assert status == 202 or answer.json()["id"] == 5 and "result" in answer.json()
            assert ("mcp-session-id" in answer.headers) == (method == "initialize")
        else:
            assert answer.json()["error"]["code"] == code
            assert answer.json().get("id") == (5 if with_id else None)
            assert "mcp-session-id" not in answer.headers
        if code == -32022:
            data = answer.json()["error"]["data"]
            assert set(data["supported"]) == set(SUPPORTED) and data["requested"] == version
        await lives(client)
        assert (await session.call("ping")).result == {}


async def test_both_eras_share_a_connection() -> None:
    async with served() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        for _ in range(3):
            await lives(client)
            message = session.request("ping")
            response = await client.request("POST", "/mcp", session.headers_for(message), encode(message))
            assert response.json() == {"jsonrpc": "2.0", "id": message["id"], "result": {}}


async def test_get_and_delete_find_their_session_or_say_why_not() -> None:
    async with served() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        live = session.session
        for method, fields, status in (
            ("GET", {"Mcp_Session_Id": "dead"}, 404),
            ("GET", {}, 405),
            ("GET", {"Mcp_Session_Id": live, "MCP_Protocol_Version": ODD}, 400),
            ("GET", {"Mcp_Session_Id": live, "Last_Event_ID": "unknown.1"}, 400),
            ("DELETE", {"Mcp_Session_Id": "dead"}, 404),
            ("DELETE", {}, 400),
            ("DELETE", {"Mcp_Session_Id": live, "MCP_Protocol_Version": ODD}, 400),
            ("DELETE", {"Mcp_Session_Id": live}, 204),
            ("DELETE", {"Mcp_Session_Id": live}, 404),
            ("GET", {"Mcp_Session_Id": live}, 404),
        ):
            await client.send(head(method=method, Accept=SSE_TYPE, **fields))
            answer = await client.receive(method)
            assert answer.status == status, (method, fields)
            assert status == 204 or "id" not in answer.json()
        session.session = None


# --- failures ------------------------------------------------------------------------------------------------------


async def test_a_fault_of_ours_is_a_500_that_gives_nothing_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("the secret reason")

    def begun(verdict: Any, message: Any, reply: Any, principal: Any) -> None:
        reply.open()
        raise ZeroDivisionError("the secret reason")

    async with served() as server, RawClient(server.port) as client:
        monkeypatch.setattr(server.endpoint.modern, "serve", broken)
        await client.send(modern("tools/list"))
        answer = await client.receive("POST")
        assert answer.status == 500
        assert answer.json() == {"jsonrpc": "2.0", "error": {"code": -32603, "message": "Internal error"}}
        monkeypatch.setattr(server.endpoint.modern, "serve", begun)
        await client.send(modern("tools/list"))
        answer = await client.receive("POST")  # the answer has begun, so the server can only end it
        assert (answer.status, answer.events()) == (200, [])
        monkeypatch.undo()
        await lives(client)
        await still_serves(server.port)
    assert caplog.text.count("ZeroDivisionError: the secret reason") == 2


async def test_an_error_that_cannot_be_encoded_is_still_an_error() -> None:
    class Odd(Held):
        async def call_tool(self, params: Any, ctx: Any) -> Any:
            raise MCPError(-40050, "odd \ud800", {"data": {1, 2}, "nan": float("nan")})

    async with served(Odd()) as server, Legacy(server.port, LEGACY) as session:
        for peer in (session, Modern(server.port)):
            answer = await peer.call("tools/call", call("echo", text="x"))
            assert answer.error["code"] == -40050
        await still_serves(server.port)
