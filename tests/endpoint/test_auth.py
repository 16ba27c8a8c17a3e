# SPDX-License-Identifier: MIT
"""Authorization over sockets: tokens and their verifier, scopes, challenges, metadata, sessions of a principal."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import trustme
from mcp.server.auth.provider import AccessToken as SDKAccessToken
from rawclient import LIMIT, SSE_TYPE, Legacy, Modern, RawClient, Response, encode
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, head, lives, modern, request, served, turns

from mcp_h11 import (
    Context,
    InvalidParams,
    MCPServer,
    Principal,
    Refusal,
    ServerHandler,
    Settings,
    canonical_uri,
    tls_context,
)
from mcp_h11.http.auth import MAX_TOKEN, as_principal, subject

pytestmark = pytest.mark.anyio

RESOURCE = "https://files.example/mcp"
ISSUER = "https://login.example"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
METADATA = 'resource_metadata="https://files.example/.well-known/oauth-protected-resource/mcp"'
INVALID = 'error="invalid_token", error_description="The access token is invalid or expired"'
SOON = 1.5  # seconds to a token's expiry, where a test waits for it; its calls begin before that on any machine


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


ANN = Principal("ann", "files:read files:write", client_id="app", issuer=ISSUER)


class Verifier:
    """A verifier that knows the given tokens, and records the tokens that it is asked about."""

    def __init__(self, **tokens: Any) -> None:
        self.tokens: dict[str, Any] = {"good": ANN, **tokens}
        self.asked: list[str] = []

    async def verify_token(self, token: str) -> Any:
        await turns(1)
        self.asked.append(token)
        return self.tokens.get(token)


class Files(Held):
    """A server with some objects that need scopes; `ran` lists the functions that were run."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []
        self.add_tool(self.write, scopes=["files:write"])
        self.add_resource("files://secret", self.secret, scopes=["files:secret"])
        self.add_resource("files://dir/{name}", self.file, scopes=["files:dir"])
        self.add_resource("files://open", self.public)
        self.add_prompt(self.plan, scopes=["plans"])
        self.completion(self.complete_it)

    async def write(self, text: str = "") -> str:
        self.ran.append("write")
        return "written"

    async def secret(self) -> str:
        return "s"

    async def file(self, name: str) -> str:
        return name

    async def public(self) -> str:
        return "p"

    async def plan(self, goal: str = "") -> str:
        return "plan"

    async def complete_it(self, ref: dict[str, Any], argument: dict[str, Any]) -> list[str]:
        return ["x"]


@asynccontextmanager
async def guarded(handler: MCPServer | None = None, **options: Any) -> AsyncIterator[Any]:
    """A server that asks a verifier, and says where tokens come from."""
    usual: dict[str, Any] = {
        "verifier": Verifier(),
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "required_scopes": ["files:read"],
    }
    async with served(handler or Files(), **{**usual, **options}) as server:
        yield server


async def ask(port: int, data: bytes, method: str = "POST") -> Response:
    async with RawClient(port) as client:
        await client.send(data)
        return await client.receive(method)


def with_token(peer: Any, token: str) -> Any:
    peer.extra_headers["Authorization"] = f"Bearer {token}"
    return peer


def legacy(method: str, params: Any = None, **headers: str | None) -> bytes:
    return request(encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}), **headers)


# --- where tokens come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/mcp/", f"{WELL_KNOWN}/"])
async def test_anybody_may_read_where_tokens_come_from(path: str) -> None:
    async with guarded() as server:
        # From a page of any origin, without a token.
        answer = await ask(server.port, head(path, "GET", Origin="https://evil.example", Accept="text/html"), "GET")
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json() == {
            "resource": RESOURCE,
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["files:read"],
            "resource_name": "held",
        }
        without_body = await ask(server.port, head(path, "HEAD"), "HEAD")
        assert (without_body.status, without_body.body) == (200, b"")
        assert without_body.headers["content-length"] == answer.headers["content-length"]
        preflight = await ask(
            server.port,
            head(path, "OPTIONS", Origin="https://a.example", Access_Control_Request_Headers="mcp-protocol-version"),
            "OPTIONS",
        )
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert preflight.headers["access-control-allow-headers"] == "*"
        posted = await ask(server.port, request(b"{}", path))
        assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert (await ask(server.port, head(path, "GET", Host="evil.example"), "GET")).status == 403


async def test_a_server_without_authorization_servers_has_no_metadata() -> None:
    for options in ({}, {"token": "s3cret"}, {"verifier": Verifier()}):
        async with served(**options) as server:
            assert (await ask(server.port, head(WELL_KNOWN, "GET"), "GET")).status == 404
            answer = await ask(server.port, modern("server/discover"))
            assert answer.headers.get("www-authenticate") == ("Bearer" if options else None)


async def test_the_scopes_and_the_path_of_the_metadata_are_those_that_were_set() -> None:
    async with guarded(
        resource="HTTPS://Files.Example:443/a/b/", scopes_supported=["x", "y"], required_scopes=()
    ) as server:
        answer = await ask(server.port, head(f"{WELL_KNOWN}/a/b", "GET"), "GET")
        assert answer.json()["resource"] == "https://files.example/a/b"
        assert answer.json()["scopes_supported"] == ["x", "y"]
        refused = await ask(server.port, modern("server/discover"))
        assert refused.headers["www-authenticate"] == (
            'Bearer resource_metadata="https://files.example/.well-known/oauth-protected-resource/a/b"'
        )


async def test_a_resource_that_is_not_set_is_what_the_client_called() -> None:
    async with guarded(resource=None, required_scopes=(), allowed_hosts=["A.example"]) as server:
        answer = await ask(server.port, head(WELL_KNOWN, "GET", Host="a.EXAMPLE:8000"), "GET")
        assert answer.json()["resource"] == "http://a.example:8000/mcp"
        assert "scopes_supported" not in answer.json()
        refused = await ask(server.port, modern("server/discover", Host="a.example"))
        assert refused.headers["www-authenticate"] == (
            'Bearer resource_metadata="http://a.example/.well-known/oauth-protected-resource/mcp"'
        )


async def test_without_a_host_nobody_knows_which_server_is_meant() -> None:
    async with guarded(resource=None, allowed_hosts=["*"], required_scopes=()) as server:
        for path, method, status in ((WELL_KNOWN, "GET", 400), ("/mcp", "POST", 401)):
            data = head(path, method, version="1.0", Host=None, Content_Length="0")
            answer = await ask(server.port, data, method)
            assert answer.status == status
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


@pytest.mark.parametrize("options", [{}, {"token": "s3cret"}])
async def test_a_server_that_anybody_can_reach_says_so(options: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with served(host="0.0.0.0", allowed_hosts=["localhost"], **options) as server:
        assert (await ask(server.port, modern("tools/list"))).status == (401 if options else 200)
    assert ("whoever can reach 0.0.0.0 may use this server" in caplog.text) == (not options)
    caplog.clear()
    async with served(**options):
        assert "whoever" not in caplog.text


# --- tokens ----------------------------------------------------------------------------------------------------------

NONE = f'Bearer scope="files:read", {METADATA}'
BAD = f'Bearer {INVALID}, scope="files:read", {METADATA}'
NO_TOKEN = 'error="invalid_request", error_description="The Authorization header has no bearer token"'
MALFORMED = f"Bearer {NO_TOKEN}, {METADATA}"


@pytest.mark.parametrize(
    ("header", "status", "challenge", "asked"),
    [
        (None, 401, NONE, []),
        ("", 401, NONE, []),
        ("Basic Z29vZA==", 401, NONE, []),
        ("good", 401, NONE, []),
        ("Bearer", 400, MALFORMED, []),
        ("Bearer ", 400, MALFORMED, []),
        ("Bearer two words", 400, MALFORMED, []),
        ("Bearer good, Bearer good", 400, MALFORMED, []),
        ('Bearer "good"', 400, MALFORMED, []),
        ("Bearer g\xf6\xf6d", 400, MALFORMED, []),
        ("Bearer =", 400, MALFORMED, []),
        ("Bearer good=x", 400, MALFORMED, []),
        ("Bearer bad", 401, BAD, ["bad"]),
        ("Bearer GOOD", 401, BAD, ["GOOD"]),
        ("Bearer old", 401, BAD, ["old"]),
        ("Bearer nobody", 401, BAD, ["nobody"]),
        ("Bearer good==", 401, BAD, ["good=="]),
        ("Bearer good", 200, None, ["good"]),
        ("BEARER   good ", 200, None, ["good"]),
    ],
)
async def test_a_token_is_verified_at_every_request(
    header: str | None, status: int, challenge: str | None, asked: list[str]
) -> None:
    verifier = Verifier(old=Principal("ann", "files:read", expires_at=time.time() - 1), nobody=Principal(""))
    async with guarded(verifier=verifier, legacy_sse=True) as server, RawClient(server.port) as client:
        for _ in range(2):  # the second time the head is known
            await client.send(modern("tools/list", Authorization=header))
            answer = await client.receive("POST")
            assert (answer.status, answer.headers.get("www-authenticate")) == (status, challenge)
        assert verifier.asked == asked * 2
        if status == 200:
            assert answer.json()["result"]["cacheScope"] == "private"
            return
        assert answer.json()["error"]["code"] == -32600
        targets = (("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse"), ("POST", "/messages"), ("POST", "/mcp"))
        for method, target in targets:
            await client.send(head(target, method=method, Authorization=header, Content_Length="0"))
            answer = await client.receive(method)
            assert (answer.status, answer.headers.get("www-authenticate")) == (status, challenge)
        with_session = Legacy(server.port, LEGACY)
        await with_token(with_session, "good").initialize()
        stolen = await ask(server.port, legacy("ping", Mcp_Session_Id=with_session.session, Authorization=header))
        assert stolen.status == status  # a session id is no credential
        await with_session.delete()


async def test_a_token_is_taken_from_the_header_only() -> None:
    async with guarded() as server:
        data = modern("server/discover").replace(b"/mcp ", b"/mcp?access_token=good ")
        assert (await ask(server.port, data)).status == 401
        cookie = modern("server/discover", Cookie="access_token=good")
        assert (await ask(server.port, cookie)).status == 401
        twice = modern("server/discover", Authorization="Bearer good\r\nAuthorization: Bearer good")
        assert (await ask(server.port, twice)).status == 400


async def test_the_longest_token_is_asked_about_and_a_longer_one_is_not() -> None:
    longest = "a" * MAX_TOKEN
    verifier = Verifier(**{longest: ANN, longest + "a": ANN})
    async with guarded(verifier=verifier) as server:
        for token, status in ((longest, 200), (longest + "a", 400)):
            answer = await ask(server.port, modern("tools/list", Authorization=f"Bearer {token}"))
            assert answer.status == status
    assert verifier.asked == [longest]


async def test_who_is_refused_is_not_asked_for_a_body() -> None:
    verifier = Verifier(poor=Principal("bob"))
    async with guarded(verifier=verifier, cors=["https://a.example"]) as server:
        for expects in ("100-continue", None):
            for token, status in ((None, 401), ("Bearer !", 400), ("Bearer bad", 401), ("Bearer poor", 403)):
                if expects is None and token in ("Bearer bad", "Bearer poor"):
                    continue  # only the verifier can refuse this token, and it is asked after the body
                async with RawClient(server.port) as client:
                    data = head(Authorization=token, Content_Length="9", Expect=expects, Origin="https://a.example")
                    await client.send(data)
                    answer = await client.receive("POST")
                    assert (answer.status, answer.headers["connection"]) == (status, "close")
                    assert "www-authenticate" in answer.headers
                    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
        async with RawClient(server.port) as client:
            body = encode(Modern(0).request("server/discover"))
            fields = {"Content_Length": str(len(body)), "Expect": "100-continue", "Authorization": "Bearer good"}
            fields |= {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "server/discover"}
            await client.send(head(**fields))
            assert (await client.receive_head()).status == 100
            await client.send(body)
            assert (await client.receive("POST")).status == 200


async def test_an_unauthorized_probe_learns_nothing_of_the_protocol() -> None:
    async with guarded() as server:
        # No code of 2026-07-28, no list of versions: clients would conclude something from either.
        for data in (modern("server/discover"), modern("nope"), legacy("initialize"), request(b"{"), request(b"")):
            answer = await ask(server.port, data)
            assert (answer.status, answer.json()["error"]) == (401, {"code": -32600, "message": "Unauthorized"})


class Plain:
    """A verifier with a plain function as its method, which returns or raises `found`."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def verify_token(self, token: str) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Later(Plain):
    async def verify_token(self, token: str) -> Any:  # type: ignore[override]
        await turns(1)
        return super().verify_token(token)


@pytest.mark.parametrize("form", [Plain, Later])
async def test_a_verifier_may_be_plain_and_may_return_the_sdks_token(form: Any) -> None:
    seen: list[Any] = []

    class Watching(Files):
        async def list_tools(self, params: Any, ctx: Context) -> Any:
            seen.append(ctx.principal)
            return await super().list_tools(params, ctx)

    token = SDKAccessToken(
        token="good", client_id="app", scopes=["files:read"], subject="ann", claims={"iss": ISSUER, "x": 1}
    )
    async with guarded(Watching(), verifier=form(token)) as server:
        await with_token(Modern(server.port), "good").call("tools/list")
    (principal,) = seen
    assert principal == Principal("ann", frozenset(["files:read"]), {"iss": ISSUER, "x": 1}, "app", ISSUER)


@pytest.mark.parametrize("form", [Plain, Later])
async def test_a_verifier_that_fails_is_a_500_and_its_token_is_in_no_log(
    form: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(verifier=form(RuntimeError("cannot read s3cret-t0ken."))) as server:
        answer = await ask(server.port, modern("tools/list", Authorization="Bearer s3cret-t0ken"))
        assert (answer.status, answer.json()["error"]["message"]) == (500, "Internal error")
        assert "cannot read [token]." in caplog.text and "s3cret-t0ken" not in caplog.text
    async with guarded(verifier=form(InvalidParams("not today"))) as server:
        answer = await ask(server.port, modern("tools/list", Authorization="Bearer good"))
        assert (answer.status, answer.json()["error"]["message"]) == (400, "not today")


NAMED: ContextVar[str] = ContextVar("NAMED", default="nobody")


class Naming:
    """Each way to say who asks, which puts the name into a context variable, as programs do for their tools."""

    def verify_token(self, token: str) -> Any:
        if token == "ann":
            NAMED.set(token)
        return Principal(token)

    def authorize(self, head: Any) -> Any:
        return self.verify_token(head.get("authorization").removeprefix("Bearer "))


def asks(token: str, **arguments: Any) -> bytes:
    """A call of the tool `name`."""
    return modern("tools/call", call("name", **arguments), Authorization=f"Bearer {token}")


async def answered(client: RawClient) -> str:
    return str((await client.receive("POST")).json()["result"]["content"][0]["text"])


@pytest.mark.parametrize("way", ["verifier", "authorize"])
async def test_a_context_variable_of_one_caller_is_not_there_for_the_next(way: str) -> None:
    server = MCPServer("x", version="1")

    @server.tool
    async def name() -> str:
        return NAMED.get()

    naming = Naming()
    options: dict[str, Any] = {way: naming if way == "verifier" else naming.authorize}
    async with served(server, **options) as running:
        async with RawClient(running.port) as client:
            for token, known in (("bob", "nobody"), ("ann", "ann"), ("bob", "nobody")):
                await client.send(asks(token))
                assert await answered(client) == known
        # They come together, so that the later ones are read when they are accepted.
        socks = []
        for token in ("bob", "ann", "bob"):
            sock = socket.create_connection(("127.0.0.1", running.port), timeout=LIMIT)
            sock.sendall(asks(token))
            sock.setblocking(False)
            socks.append(sock)
        found = []
        for sock in socks:
            data = b""
            with anyio.fail_after(LIMIT):
                while b"resultType" not in data:
                    data += await asyncio.get_running_loop().sock_recv(sock, 9999)
            found.append("ann" if b'"text":"ann"' in data else "nobody" if b'"text":"nobody"' in data else data)
            sock.close()
        assert found == ["nobody", "ann", "nobody"]
        async with RawClient(running.port) as client:
            await client.send(asks("bob"))
            assert await answered(client) == "nobody"


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("much", [False, True])
async def test_what_a_call_has_set_is_not_there_for_the_next_of_its_connection(eager: bool, much: bool) -> None:
    server = MCPServer("x", version="1")
    begun, go = asyncio.Event(), asyncio.Event()

    @server.tool
    async def name(padding: str = "") -> str:
        if not begun.is_set():
            begun.set()
            await go.wait()
        return NAMED.get()

    async with served(server, authorize=Naming().authorize, eager=eager, read_ahead=1_000) as running:
        async with RawClient(running.port) as client:
            # With much behind the first call, reading pauses until its answer.
            behind = 5 if much else 1
            await client.send(asks("ann") + asks("bob", padding="x" * 2_000 * much) * behind)
            await begun.wait()
            await turns()
            go.set()
            assert [await answered(client) for _ in range(1 + behind)] == ["ann", *["nobody"] * behind]
            for _ in range(2):
                await client.send(asks("bob"))
                assert await answered(client) == "nobody"


LEFT = {
    "a listen stream": modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}),
    "a call": modern("tools/call", call("hold")),
    "HTTP+SSE": head(method="GET", Accept=SSE_TYPE),
}


@pytest.mark.parametrize("asked", LEFT)
async def test_a_client_that_leaves_while_it_is_identified_leaves_nothing(asked: str) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def authorize(head: Any) -> Any:
        begun.set()
        await go.wait()
        return "ann"

    handler = Held()
    async with served(handler, authorize=authorize, legacy_sse=True) as server:
        for _ in range(3):
            begun.clear()
            go.clear()
            async with RawClient(server.port) as client:
                await client.send(LEFT[asked])
                await begun.wait()
                client.abort()
            with anyio.fail_after(LIMIT):
                while server.connections:
                    await turns(1)
                go.set()
                while server.runtime.tasks:
                    await turns(1)
        await turns()
        modern_side, old_side = server.endpoint.modern, server.endpoint.legacy_sse
        assert (len(modern_side.listeners), modern_side._places.total, len(old_side.sessions)) == (0, 0, 0)
        assert (server.runtime.gate.total, server.runtime.memory.total) == (0, 0)


# --- scopes ----------------------------------------------------------------------------------------------------------


def insufficient(scopes: str) -> str:
    description = 'error_description="The access token has not the scopes for this"'
    return f'Bearer error="insufficient_scope", {description}, scope="{scopes}", {METADATA}'


async def test_too_few_scopes_are_403_for_everything() -> None:
    verifier = Verifier(poor=Principal("bob", "files:writ files:readx"))
    async with guarded(verifier=verifier, legacy_sse=True) as server, RawClient(server.port) as client:
        for method, target in (("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse")):
            await client.send(head(target, method, Authorization="Bearer poor", Content_Length="0"))
            answer = await client.receive(method)
            assert (answer.status, answer.headers["www-authenticate"]) == (403, insufficient("files:read"))
        await client.send(modern("tools/list", Authorization="Bearer good"))
        assert (await client.receive("POST")).status == 200


SCOPED = [
    ("tools/call", {"name": "write", "arguments": {}}, "files:write"),
    ("resources/read", {"uri": "files://secret"}, "files:secret"),
    ("resources/read", {"uri": "files://dir/a"}, "files:dir"),
    ("prompts/get", {"name": "plan"}, "plans"),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "plan"}, "argument": {"name": "goal", "value": ""}},
        "plans",
    ),
    (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "files://dir/{name}"}, "argument": {"name": "name", "value": ""}},
        "files:dir",
    ),
]
READER = Principal("ann", "files:read", client_id="app", issuer=ISSUER)


def granted(scope: str) -> Principal:
    return Principal("ann", f"files:read {scope}", client_id="app", issuer=ISSUER)


@pytest.mark.parametrize(
    ("method", "params", "scope"),
    [
        *SCOPED,
        (
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": ["files://open", "files://secret"]}},
            "files:secret",
        ),
    ],
)
async def test_what_needs_a_scope_is_403_until_the_token_has_it(method: str, params: Any, scope: str) -> None:
    handler = Files()
    async with guarded(handler, verifier=Verifier(reader=READER, more=granted(scope))) as server:
        refused = await ask(server.port, modern(method, params, id="a", Authorization="Bearer reader"))
        # The challenge names the scopes of every request and the scopes of this object together.
        assert refused.status == 403
        assert refused.headers["www-authenticate"] == insufficient(f"files:read {scope}")
        assert (refused.json()["id"], refused.json()["error"]["code"]) == ("a", -32600)
        assert not handler.ran and "write" in refused.json()["error"]["message"] or scope != "files:write"
        async with RawClient(server.port) as client:
            await client.send(modern(method, params, Authorization="Bearer more"))
            assert (await client.receive_stream("POST")).status == 200


@pytest.mark.parametrize(
    ("method", "params", "scope"),
    [*SCOPED, ("resources/subscribe", {"uri": "files://secret"}, "files:secret")],
)
async def test_a_session_steps_up_with_a_new_token(method: str, params: Any, scope: str) -> None:
    handler = Files()
    async with guarded(handler, verifier=Verifier(reader=READER, more=granted(scope))) as server:
        session = with_token(Legacy(server.port, LEGACY), "reader")
        await session.initialize()
        for stream in (None, SSE_TYPE):
            fields = {"Mcp_Session_Id": session.session, "Authorization": "Bearer reader"}
            refused = await ask(server.port, legacy(method, params, **fields, **({"Accept": stream} if stream else {})))
            assert refused.status == 403
            assert refused.headers["www-authenticate"] == insufficient(f"files:read {scope}")
        assert not handler.ran
        answer = await with_token(session, "more").call(method, params)
        assert (answer.status, "result" in answer.message) == (200, True)
        await session.delete()


async def test_lists_and_what_needs_nothing_are_for_everybody_who_may_come_in() -> None:
    async with guarded(verifier=Verifier(reader=READER)) as server:
        client = with_token(Modern(server.port), "reader")
        tools = (await client.call("tools/list")).result["tools"]
        assert "write" in [tool["name"] for tool in tools]
        for method, params in (
            ("tools/call", call("echo", text="x")),
            ("resources/read", {"uri": "files://open"}),
            ("server/discover", {}),
        ):
            assert "result" in (await client.call(method, params)).message
        # Wrong params are refused as wrong params, and not for their scopes.
        for params in ({"name": "nope"}, {"name": ["write"]}, {"name": None}, {}):
            answer = await ask(server.port, modern("tools/call", params, Authorization="Bearer reader"))
            assert answer.json()["error"]["code"] in (-32602, -32020)
        for method, params in (
            ("resources/read", {"uri": {"a": 1}}),
            ("resources/read", {"uri": "files://none"}),
            ("completion/complete", {"ref": "x"}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": ["plan"]}}),
            ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "files://secret"}}),
            ("subscriptions/listen", {"notifications": {"resourceSubscriptions": [["files://secret"]]}}),
            ("subscriptions/listen", {"notifications": 7}),
        ):
            answer = await ask(server.port, modern(method, params, Authorization="Bearer reader"))
            assert answer.json()["error"]["code"] in (-32602, -32020), (method, params)
        assert (await ask(server.port, modern("server/discover", Authorization="Bearer reader"))).status == 200


async def test_a_batch_is_refused_as_a_whole_and_told_all_it_needs() -> None:
    handler = Files()
    handler.add_tool(handler.public, "other", scopes=["other"])
    async with guarded(handler, verifier=Verifier(reader=READER)) as server:
        session = with_token(Legacy(server.port, "2025-03-26"), "reader")
        await session.initialize()
        batch = [
            session.request("tools/call", call("echo", text="x")),
            session.request("tools/call", call("write")),
            {"jsonrpc": "2.0", "method": "notifications/progress"},
            session.request("tools/call", call("other")),
        ]
        refused = await session.post(batch)
        assert refused.status == 403
        assert refused.headers["www-authenticate"] == insufficient("files:read files:write other")
        assert not handler.ran
        assert (await session.post(batch[:1])).status == 200
        await session.delete()


async def test_http_sse_refuses_before_it_accepts() -> None:
    handler = Files()
    async with guarded(handler, verifier=Verifier(reader=READER), legacy_sse=True) as server:
        async with RawClient(server.port) as client:
            stream = await client.open_stream("GET", "/sse", {"Authorization": "Bearer reader"})
            event = await stream.next_event()
            assert event is not None and event.event == "endpoint"
            body = encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("write")})
            refused = await ask(server.port, request(body, event.data, Authorization="Bearer reader"))
            assert refused.status == 403 and "insufficient_scope" in refused.headers["www-authenticate"]
            other = Principal("bob", "files:read")
            server.settings.verifier.tokens["bob"] = other
            ping = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert (await ask(server.port, request(ping, event.data, Authorization="Bearer bob"))).status == 404
            assert (await ask(server.port, request(ping, event.data, Authorization="Bearer reader"))).status == 202
    assert not handler.ran


def by_prefix(granted: str, needed: str) -> bool:
    return granted == "files" and needed.startswith("files:")


async def test_a_broad_scope_satisfies_the_narrow_ones_it_includes() -> None:
    verifier = Verifier(broad=Principal("ann", "files"), other=Principal("bob", "filesystem"))
    async with guarded(verifier=verifier, scope_includes=by_prefix) as server:
        for token, status in (("broad", 200), ("other", 403)):
            answer = await ask(
                server.port, modern("tools/call", call("write", text=""), Authorization=f"Bearer {token}")
            )
            assert answer.status == status
    async with guarded(verifier=verifier) as server:  # without the setting, no scope includes another
        answer = await ask(server.port, modern("tools/list", Authorization="Bearer broad"))
        assert answer.status == 403


async def test_scopes_on_a_server_that_asks_nobody_are_closed_and_a_secret_opens_everything() -> None:
    handler = Files()
    async with served(handler) as server:
        answer = await ask(server.port, modern("tools/call", call("write")))
        assert (answer.status, handler.ran) == (403, [])
        assert (await ask(server.port, modern("tools/call", call("echo", text="x")))).status == 200
    async with served(handler, token="s3cret") as server:
        answer = await ask(server.port, modern("tools/call", call("write"), Authorization="Bearer s3cret"))
        assert (answer.status, handler.ran) == (200, ["write"])


async def test_a_handler_of_your_own_says_what_it_needs() -> None:
    class Own(ServerHandler):
        def required_scopes(self, method: str, params: Any) -> Any:
            return ["admin"] if method == "own/method" else ()

        async def request(self, method: str, params: Any, ctx: Any) -> Any:
            return {"is": method}

    async with served(Own(), authorize=lambda h: Principal(h.get("x-user") or "", [h.get("x-scope") or ""])) as server:  # type: ignore[arg-type]
        for scope, status in (("user", 403), ("admin", 200)):
            answer = await ask(server.port, modern("own/method", X_User="ann", X_Scope=scope))
            assert answer.status == status
            assert status == 200 or answer.headers["www-authenticate"].endswith('scope="admin"')
        assert (await ask(server.port, modern("other/method", X_User="ann"))).status == 200


class Steps(Held):
    """A server with functions that refuse the caller only while they run."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.step)
        self.add_resource("files://late", self.late)

    async def step(self, ctx: Context, status: int = 403, first: str = "") -> str:
        if first:
            await ctx.info(first)
        raise Refusal(status, "Forbidden: ask for more", headers=(("WWW-Authenticate", CHALLENGE),))

    async def late(self) -> str:
        raise Refusal(403, "Forbidden: ask for more", headers=(("WWW-Authenticate", CHALLENGE),))


CHALLENGE = 'Bearer error="insufficient_scope", scope="files:read files:late"'
LATE = [("tools/call", call("step")), ("resources/read", {"uri": "files://late"})]
EVENTS_ONLY = {"Accept": SSE_TYPE}


@pytest.mark.parametrize(("method", "params"), LATE)
@pytest.mark.parametrize("fields", [{}, EVENTS_ONLY], ids=["either", "events"])
@pytest.mark.parametrize("era", ["modern", "legacy", "stateless"])
async def test_a_refusal_from_within_a_call_has_its_status_and_its_challenge(
    era: str, fields: dict[str, str], method: str, params: dict[str, Any]
) -> None:
    async with served(Steps(), stateless=era == "stateless") as server, RawClient(server.port) as client:
        if era == "modern":
            await client.send(modern(method, params, **fields))
        else:
            session = Legacy(server.port, LEGACY)
            await session.initialize()
            await client.send(legacy(method, params, Mcp_Session_Id=session.session, **fields))
        refused = await client.receive("POST")
        assert (refused.status, refused.headers["www-authenticate"]) == (403, CHALLENGE)
        assert refused.json()["id"] == 1
        assert refused.json()["error"] == {"code": -32600, "message": "Forbidden: ask for more"}
        await lives(client)


@pytest.mark.parametrize("era", ["modern", "legacy", "batch"])
async def test_once_something_was_said_a_refusal_from_within_is_an_error_like_any_other(era: str) -> None:
    params = call("step", first="hello")
    async with served(Steps()) as server:
        if era == "modern":
            meta = {"io.modelcontextprotocol/logLevel": "info"}
            said = await Modern(server.port).call("tools/call", params, meta=meta)
        else:
            session = Legacy(server.port, "2025-03-26")
            await session.initialize()
            if era == "legacy":
                said = await session.call("tools/call", params)
            else:  # one of several: there is one status for all of them
                said = await session.post([session.request("tools/call", call("step"))])
                assert (said.status, "www-authenticate" in said.headers) == (200, False)
                assert said.json()[0]["error"] == {"code": -32600, "message": "Forbidden: ask for more"}
                return
        assert (said.status, "www-authenticate" in said.headers) == (200, False)
        assert said.message["error"] == {"code": -32600, "message": "Forbidden: ask for more"}


async def test_only_authorization_is_a_status_of_a_legacy_call() -> None:
    # 404 would say that the session is gone, and other statuses are faults of the transport to those clients.
    async with served(Steps()) as server:
        async with Legacy(server.port, LEGACY) as session:
            for status, seen in ((401, 401), (403, 403), (404, 200), (429, 200), (500, 200)):
                said = await session.call("tools/call", call("step", status=status))
                assert (said.status, "www-authenticate" in said.headers) == (seen, seen != 200), status
                assert said.message["error"]["code"] == -32600
        for status in (401, 403, 404, 429, 500):
            answer = await ask(server.port, modern("tools/call", call("step", status=status)))
            assert (answer.status, answer.headers["www-authenticate"]) == (status, CHALLENGE)


BAD_HEADERS: list[tuple[Any, ...]] = [
    (("X-A", "a\r\nX-B: b"),), (("X A", "b"),), (("", "b"),), (("X-A", "\u20ac"),), (("X-A", " a"),),
    (("Content-Length", "0"),), (("transfer-encoding", "chunked"),), (("Connection", "close"),), (("X-A", 1),),
]  # fmt: skip


@pytest.mark.parametrize("headers", BAD_HEADERS)
def test_a_refusal_that_cannot_be_written_cannot_be_made(headers: Any) -> None:
    with pytest.raises(ValueError, match="header"):
        Refusal(403, "no", headers=headers)


@pytest.mark.parametrize("status", [0, 99, 100, 200, 204, 304, 399, 600, "403"])
def test_a_refusal_is_no_success(status: Any) -> None:
    with pytest.raises(ValueError, match="status"):
        Refusal(status, "no")


# --- what belongs to whom --------------------------------------------------------------------------------------------

OTHERS = {
    "subject": Principal("bob", "files:read", client_id="app", issuer=ISSUER),
    "client": Principal("ann", "files:read", client_id="other", issuer=ISSUER),
    "issuer": Principal("ann", "files:read", client_id="app", issuer="https://other.example"),
    "bare": Principal("ann", "files:read"),
    "forged": Principal(f'["{ISSUER}","ann","app"]', "files:read"),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_another_principals_session_is_none_and_a_refreshed_token_keeps_its_own(other: str) -> None:
    verifier = Verifier(refreshed=Principal("ann", "files:read", client_id="app", issuer=ISSUER), other=OTHERS[other])
    async with guarded(verifier=verifier) as server:
        async with with_token(Legacy(server.port, LEGACY), "good") as session:
            session_id = session.session

            async def as_(token: str, known: str, method: str = "POST") -> tuple[int, bytes]:
                fields = {"Mcp_Session_Id": known, "Authorization": f"Bearer {token}"}
                if method == "POST":
                    answer = await ask(server.port, legacy("ping", **fields))
                else:
                    answer = await ask(server.port, head(method=method, **fields), method)
                return answer.status, answer.body

            for method in ("POST", "GET", "DELETE"):
                stolen, unknown = await as_("other", session_id, method), await as_("other", "A" * 43, method)
                assert stolen == unknown and stolen[0] == 404, method
            with_token(session, "refreshed")
            assert (await session.call("ping")).result == {}
            async with session.get_stream() as stream:
                server.runtime.handler.notify_tools_changed()
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
                event_id = stream.seen[-1].id
            # A replay is also allowed with the new token, and not with the token of another principal.
            async with session.get_stream(event_id) as stream:
                assert stream.status == 200
            fields = {"Mcp_Session_Id": session_id, "Last_Event_ID": event_id, "Authorization": "Bearer other"}
            assert (await ask(server.port, head(method="GET", **fields), "GET")).status == 404


async def test_anothers_session_takes_no_longer_to_refuse_than_none() -> None:
    verifier = Plain(OTHERS["subject"])
    async with guarded(verifier=verifier) as server, RawClient(server.port) as client:
        verifier.found = ANN
        async with with_token(Legacy(server.port, LEGACY), "good") as session:
            verifier.found = OTHERS["subject"]
            times: dict[str, list[float]] = {session.session: [], "A" * 43: []}
            for _ in range(100):
                for session_id, taken in times.items():
                    data = legacy("ping", Mcp_Session_Id=session_id, Authorization="Bearer good")
                    began = time.perf_counter()
                    await client.send(data)
                    assert (await client.receive("POST")).status == 404
                    taken.append(time.perf_counter() - began)
            mine, none = map(min, times.values())  # what else the machine does only adds to a time
            # A coarse bound: a request to a store, or a wait, would take ten times as long.
            assert mine < 5 * none and none < 5 * mine
            verifier.found = ANN


async def test_an_input_round_belongs_to_the_principal_and_not_to_the_token() -> None:
    verifier = Verifier(refreshed=granted("x"), **OTHERS)
    async with guarded(verifier=verifier) as server:
        client = Modern(server.port, capabilities={"elicitation": {"form": {}}})
        asked = (await with_token(client, "good").call("tools/call", call("ask"))).result
        assert asked["resultType"] == "input_required"
        key = next(iter(asked["inputRequests"]))
        back = {
            **call("ask"),
            "requestState": asked["requestState"],
            "inputResponses": {key: {"action": "accept", "content": {"it": "this"}}},
        }
        for other in OTHERS:
            refused = await with_token(client, other).call("tools/call", back)
            assert (refused.status, refused.error["code"]) == (400, -32602)
        done = (await with_token(client, "refreshed").call("tools/call", back)).result
        assert done["content"][0]["text"] == "{'it': 'this'}"


def test_a_caller_is_named_by_issuer_subject_and_client() -> None:
    assert subject(Principal("ann")) == "ann" == subject("ann")
    names = [subject(p) for p in (*OTHERS.values(), ANN, Principal("", client_id="app"), Principal("app"))]
    assert len(set(names)) == len(names)
    token = SDKAccessToken(token="a", client_id="app", scopes=[])
    assert subject(token) == subject(SDKAccessToken(token="b", client_id="app", scopes=["x"], expires_at=9))
    assert as_principal(SDKAccessToken(token="a", client_id="", scopes=[])) is None
    assert Principal("a", "x  y").scopes == Principal("a", ["y", "x"]).scopes == {"x", "y"}


# --- expiry ----------------------------------------------------------------------------------------------------------


def for_a_moment(scopes: str = "files:read") -> Principal:
    return Principal("ann", scopes, client_id="app", issuer=ISSUER, expires_at=time.time() + SOON)


FAST = {"keep_alive": 0.2}  # so that the clock ticks every 50 ms


async def test_a_listen_stream_ends_with_its_token() -> None:
    verifier = Verifier(brief=for_a_moment(), refreshed=granted("x"))
    async with guarded(verifier=verifier, **FAST) as server:
        client = with_token(Modern(server.port), "brief")
        with_token(other := Modern(server.port), "refreshed")
        async with (
            client.listen("a", toolsListChanged=True) as ended,
            other.listen("b", toolsListChanged=True) as open_,
        ):
            assert "acknowledged" in (await ended.next_message())["method"]
            assert "acknowledged" in (await open_.next_message())["method"]
            # The stream ends with its result, as at a shutdown, so that the client reconnects.
            last = await ended.next_message()
            assert (last["id"], last["result"]["resultType"]) == ("a", "complete")
            assert await ended.next_message() is None
            assert time.time() >= verifier.tokens["brief"].expires_at
            assert (await ask(server.port, modern("tools/list", Authorization="Bearer brief"))).status == 401
            server.runtime.handler.notify_tools_changed()
            assert (await open_.next_message())["method"] == "notifications/tools/list_changed"


async def test_a_get_stream_ends_with_its_token_and_the_session_goes_on() -> None:
    verifier = Verifier(brief=for_a_moment())
    async with guarded(verifier=verifier, **FAST) as server:
        async with with_token(Legacy(server.port, LEGACY), "good") as session:
            with_token(session, "brief")
            async with session.get_stream() as stream:
                while await stream.next_event() is not None:
                    pass
                assert stream.ended
                assert (await session.post(session.request("ping"))).status == 401
            with_token(session, "good")
            # Notices of the time between are delivered with the new token.
            server.runtime.handler.notify_tools_changed()
            async with session.get_stream() as stream:
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
                with_token(session, "good")
                assert (await session.call("ping")).result == {}


async def test_an_http_sse_stream_ends_with_its_token() -> None:
    verifier = Verifier(brief=for_a_moment())
    async with guarded(verifier=verifier, legacy_sse=True, **FAST) as server, RawClient(server.port) as client:
        stream = await client.open_stream("GET", "/sse", {"Authorization": "Bearer brief"})
        endpoint = (await stream.next_event()).data  # type: ignore[union-attr]
        assert await stream.next_event() is None
        ping = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert (await ask(server.port, request(ping, endpoint, Authorization="Bearer good"))).status == 404


@pytest.mark.parametrize("tool", ["hold", "stream"])
async def test_a_call_that_runs_may_finish_after_its_token(tool: str) -> None:
    handler = Files()
    brief = for_a_moment()
    async with guarded(handler, verifier=Verifier(brief=brief), **FAST) as server:
        client, session = with_token(Modern(server.port), "brief"), with_token(Legacy(server.port, LEGACY), "good")
        await session.initialize()
        with_token(session, "brief")
        answers: list[Any] = []

        async def run(peer: Any, **meta: Any) -> None:
            answers.append((await peer.call("tools/call", call(tool))).result["content"][0]["text"])

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(run, client)
                group.start_soon(run, session)
                await handler.until(started=2)
                while time.time() < brief.expires_at + 0.1:  # type: ignore[operator]
                    await anyio.sleep(0.02)
                handler.released.set()
        assert answers == [f"{tool} released"] * 2
        await with_token(session, "good").delete()


# --- secrets ---------------------------------------------------------------------------------------------------------


async def test_nothing_secret_is_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    secrets = ["t0ken-g00d", "t0ken-bad", "b0dy-secret", "argument-secret", "k3y" * 12]
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncio")
    verifier = Verifier(**{"t0ken-g00d": ANN})
    handler = Files()

    @handler.tool(scopes=["never"])
    async def forbidden() -> str:
        return ""

    @handler.tool
    async def broken(text: str) -> str:
        raise RuntimeError("broken")

    async with guarded(
        handler, verifier=verifier, access_log=True, legacy_sse=True, state_keys=[b"k3y" * 12], rate_limit=(1000, 1)
    ) as server:
        session = with_token(Legacy(server.port, LEGACY), "t0ken-g00d")
        await session.initialize()
        secrets.append(session.session[9:])
        client = with_token(Modern(server.port, capabilities={"elicitation": {"form": {}}}), "t0ken-g00d")
        for tool in ("echo", "forbidden", "broken", "nope"):
            for peer in (client, session):
                await peer.post(peer.request("tools/call", call(tool, text="argument-secret")))
        state = (await client.call("tools/call", call("ask"))).result["requestState"]
        secrets.append(state[-40:])
        await client.post({**client.request("tools/call", {**call("ask"), "requestState": state[:-8]})})
        await ask(server.port, modern("tools/list", Authorization="Bearer t0ken-bad"))
        await ask(server.port, modern("tools/list", Authorization="Bearer b0dy-secret b0dy-secret"))
        await ask(server.port, request(b'{"b0dy-secret', Authorization="Bearer t0ken-g00d"))
        await ask(server.port, request(b"b0dy-secret", "/messages?session_id=t0ken-bad", Authorization="t0ken-bad"))
        await ask(server.port, b"GET b0dy-secret HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET")
        async with session.get_stream() as stream:
            assert stream.status == 200
        # Two live calls of one id, which a cancellation names: the one place where a session is logged.
        held = session.request("tools/call", call("hold"), id=7)
        async with RawClient(server.port) as one, RawClient(server.port) as two:
            for raw in (one, two):
                await raw.send_request("POST", "/mcp", session.headers_for(held), encode(held))
            await handler.until(started=3)
            await session.notify("notifications/cancelled", {"requestId": 7})
            handler.released.set()
            for raw in (one, two):
                assert (await raw.receive("POST")).status == 200
        assert f"session {session.session[:8]} " in caplog.text
        await session.delete()
        for secret in secrets:
            assert secret not in repr(server.settings)
    assert "mcp_h11.connection.access" in {record.name for record in caplog.records}
    written = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for secret in secrets:
        assert secret not in written, secret


def test_no_secret_is_in_a_repr() -> None:
    settings = Settings(token="s3cret-token", state_keys=[b"s3cret-key-of-16-bytes"])
    assert "s3cret" not in repr(settings) and "s3cret" not in str(settings)
    assert "s3cret" not in repr(Principal("ann", claims={"token": "s3cret"}))


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token": "a", "verifier": Verifier()}, "either token or authorize or verifier"),
        ({"authorize": lambda head: "me", "verifier": Verifier()}, "either token or authorize or verifier"),
        ({"required_scopes": ["a"]}, "required_scopes needs"),
        ({"required_scopes": ["a"], "token": "t"}, "required_scopes needs"),
        ({"required_scopes": "a b", "verifier": Verifier()}, "not a string"),
        ({"required_scopes": ["a b"], "verifier": Verifier()}, "without blanks"),
        ({"required_scopes": ['a"'], "verifier": Verifier()}, "without blanks, quotes"),
        ({"required_scopes": ["a\\"], "verifier": Verifier()}, "backslashes"),
        ({"required_scopes": ["\xe4"], "verifier": Verifier()}, "visible ASCII"),
        ({"required_scopes": [""], "verifier": Verifier()}, "visible ASCII"),
        ({"required_scopes": ["offline_access"], "verifier": Verifier()}, "offline_access"),
        ({"scopes_supported": ["offline_access"], "verifier": Verifier()}, "offline_access"),
        ({"authorization_servers": [ISSUER]}, "authorization_servers needs"),
        ({"authorization_servers": ISSUER, "verifier": Verifier()}, "not a string"),
        ({"authorization_servers": ["http://login.example"], "verifier": Verifier()}, "by https"),
        ({"authorization_servers": ["login.example"], "verifier": Verifier()}, "http"),
        ({"authorization_servers": ["https://a.example/?x"], "verifier": Verifier()}, "query"),
        ({"resource": "files.example/mcp"}, "http"),
        ({"resource": "https://files.example/mcp#x"}, "fragment"),
        ({"resource": "https://files.example/a\r\nX: y"}, "http"),
        ({"resource": 'https://files.example/a"b'}, "http"),
        ({"rate_limit": (0, 1)}, "rate_limit"),
        ({"rate_limit": (1,)}, "rate_limit"),
        ({"uds_mode": 0o1000}, "uds_mode"),
        ({"trusted_proxies": "10.0.0.1"}, "not a string"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "10.0.0.0/8"),
        ({"trusted_proxies": ["proxy.example"]}, "trusted proxy"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_what_can_be_meant_is_taken() -> None:
    for fields in (
        {"authorization_servers": ["http://localhost:9000", "http://[::1]/x", "https://a.example/tenant/"]},
        {"required_scopes": ["a:b", "!", "~"], "resource": "http://127.0.0.1:8000/mcp"},
        {"uds_mode": 0o777},
    ):
        assert Settings(verifier=Verifier(), **fields).is_open is False
    with pytest.raises(ValueError, match="offline_access"):
        MCPServer().add_tool(Files().write, scopes=["offline_access"])


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.Example:443/Mcp/", "https://a.example/Mcp"),
        ("http://a.example:80/x", "http://a.example/x"),
        ("https://a.example:8443/x", "https://a.example:8443/x"),
        ("https://[FD00::1]:443/x", "https://[fd00::1]/x"),
        ("https://a.example/x?y", None),
        ("https://a.example/x#", None),
        ("https://user@a.example/x", None),
        ("https://a.example:x/", None),
        ("https://a.example:99999/", None),
        ("https://[::1/", None),
        ("https:///x", None),
        ("ftp://a.example/", None),
        ("mcp", None),
    ],
)
def test_a_server_has_one_uri(uri: str, canonical: str | None) -> None:
    if canonical is None:
        with pytest.raises(ValueError, match="URI of a server"):
            canonical_uri(uri)
    else:
        assert canonical_uri(uri) == canonical == canonical_uri(canonical)


# --- TLS -------------------------------------------------------------------------------------------------------------


# Python 3.10 marks a transport of TLS as closed only where `close` was called, and not where the peer has closed it.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning" if sys.version_info < (3, 11) else "error")
async def test_tls_has_forward_secrecy_and_authenticated_ciphers(tmp_path: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    path = tmp_path / "server.pem"
    path.write_bytes(
        certificate.private_key_pem.bytes() + b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    )
    async with served(ssl=tls_context(path)) as server:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        async with RawClient(server.port, ssl=trusting) as client:
            assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            await lives(client)
    offered = tls_context(path).get_ciphers()
    assert {cipher["protocol"] for cipher in offered} == {"TLSv1.2", "TLSv1.3"}
    for cipher in offered:
        assert cipher["aead"] and (cipher["protocol"] == "TLSv1.3" or cipher["name"].startswith("ECDHE-")), cipher
    assert tls_context(path).minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        tls_context(tmp_path / "none.pem")
