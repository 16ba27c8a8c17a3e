# SPDX-License-Identifier: MIT
"""An MCP server that wants tokens and an authorization server, on loopback: bytes in, bytes out, and both can lie.

`parties()` gives a `World`.  What the two answer stands in their attributes and routes, which a test changes; what they
heard stands in `requests`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
from anyio.abc import Listener, SocketAttribute, SocketStream, TaskGroup

from mcp_h11.client.http.httpclient import HTTPCall, HTTPClient
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.redirect import AuthorizationResponse

LIMIT = 30  # seconds for anything that a test waits for
REDIRECT_URI = "http://127.0.0.1:7777/callback"
RESOURCE_PATH = "/.well-known/oauth-protected-resource/mcp"
SERVER_PATH = "/.well-known/oauth-authorization-server"


@dataclass
class Heard:
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def form(self) -> dict[str, str]:
        found = parse_qs(self.body.decode(), keep_blank_values=True, strict_parsing=True)
        assert all(len(values) == 1 for values in found.values())
        return {name: values[0] for name, values in found.items()}


Route = Callable[[Heard], bytes]


def said(status: int, body: Any = None, *headers: str) -> bytes:
    """An answer; a body that is no bytes is written as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


class Party:
    """A server on loopback; what is not among its routes is 404."""

    def __init__(self) -> None:
        self.requests: list[Heard] = []
        self.routes: dict[str, Route] = {}
        self.url = ""
        # Set by a test that wants the answers to wait.
        self.gate: anyio.Event | None = None

    async def serve(self, tasks: TaskGroup) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        self.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.start_soon(self._listen, listener)

    async def _listen(self, listener: Listener[SocketStream]) -> None:
        async with listener:
            await listener.serve(self._connection)

    async def _connection(self, stream: SocketStream) -> None:
        data = b""
        async with stream:
            try:
                while True:
                    while b"\r\n\r\n" not in data:
                        data += await stream.receive()
                    head, _, data = data.partition(b"\r\n\r\n")
                    first, *lines = head.decode("latin-1").split("\r\n")
                    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
                    while len(data) < int(headers.get("content-length", 0)):
                        data += await stream.receive()
                    length = int(headers.get("content-length", 0))
                    method, target, _ = first.split(" ")
                    heard = Heard(method, target, headers, data[:length])
                    data = data[length:]
                    self.requests.append(heard)
                    if self.gate is not None:
                        await self.gate.wait()
                    await stream.send(self.answer(heard))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    def answer(self, heard: Heard) -> bytes:
        route = self.routes.get(heard.path)
        return said(404) if route is None else route(heard)

    def paths(self) -> list[str]:
        return [one.path for one in self.requests]

    def to(self, path: str) -> list[Heard]:
        return [one for one in self.requests if one.path == path]


class AuthServer(Party):
    """Registers clients, and gives numbered tokens for codes, refresh tokens and other grants."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, Any] = {}  # over those that it really has; None takes one away
        self.lifetime: float | None = 3600
        self.refreshable = True
        self.registration: dict[str, Any] = {"client_id": "client-1"}
        self.issued = 0
        self.refresh_token = ""
        self.challenge = ""  # of the last authorization request
        self.refusal: tuple[int, Any] | None = None  # of the token endpoint
        self.routes = {
            SERVER_PATH: lambda heard: said(200, self.document()),
            "/register": lambda heard: said(201, {**json.loads(heard.body), **self.registration}),
            "/token": self.token,
            "/revoke": lambda heard: said(200),
        }

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "revocation_endpoint": f"{self.url}/revoke",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
            **self.metadata,
        }
        return {name: value for name, value in found.items() if value is not None}

    def token(self, heard: Heard) -> bytes:
        if self.refusal is not None:
            return said(*self.refusal)
        form = heard.form
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != self.challenge:
                return said(400, {"error": "invalid_grant", "error_description": "PKCE"})
        elif form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh_token:
            return said(400, {"error": "invalid_grant", "error_description": "no such refresh token"})
        self.issued += 1
        found: dict[str, Any] = {"access_token": f"access-{self.issued}", "token_type": "bearer"}
        if self.lifetime is not None:
            found["expires_in"] = self.lifetime
        if self.refreshable:
            found["refresh_token"] = self.refresh_token = f"refresh-{self.issued}"
        return said(200, found)


class ProtectedServer(Party):
    """Accepts the tokens that it is told to accept: by default those that `server` issued last."""

    def __init__(self, server: AuthServer) -> None:
        super().__init__()
        self.server = server
        self.metadata: dict[str, Any] = {}
        self.challenge = 'Bearer resource_metadata="{url}' + RESOURCE_PATH + '"'
        self.accepts: Callable[[str], bool] = lambda token: token == f"access-{self.server.issued}"
        self.needs: str | None = None  # a scope that is missing: 403
        self.routes = {RESOURCE_PATH: lambda heard: said(200, self.document()), "/mcp": self.called}

    def document(self) -> dict[str, Any]:
        found = {"resource": f"{self.url}/mcp", "authorization_servers": [self.server.url], **self.metadata}
        return {name: value for name, value in found.items() if value is not None}

    def called(self, heard: Heard) -> bytes:
        kind, _, token = heard.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self.accepts(token):
            return said(401, {"error": "invalid_token"}, f"WWW-Authenticate: {self.challenge.format(url=self.url)}")
        if self.needs is not None:
            challenge = f'WWW-Authenticate: Bearer error="insufficient_scope", scope="{self.needs}"'
            return said(403, {"error": "insufficient_scope"}, challenge)
        return said(200, {"token": token})


@dataclass
class Person:
    """A redirect whose person agrees at once.  `change` is called with the answer that is due, and gives another."""

    server: AuthServer
    uri: str = REDIRECT_URI
    change: Callable[[AuthorizationResponse], AuthorizationResponse] = lambda answer: answer
    asked: list[dict[str, str]] = field(default_factory=list)  # the queries of the addresses that were opened
    known: list[tuple[str, ...]] = field(default_factory=list)
    closed: int = 0
    gate: anyio.Event | None = None
    opened: Callable[[], None] = lambda: None

    async def start(self, known: Sequence[str] = ()) -> str:
        self.known.append(tuple(known))
        return self.uri

    async def authorize(self, url: str) -> AuthorizationResponse:
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self.asked.append(query)
        self.server.challenge = query["code_challenge"]
        self.opened()
        if self.gate is not None:
            await self.gate.wait()
        return self.change(AuthorizationResponse("the-code", query["state"], self.server.url))

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class World:
    """Both servers and a person."""

    mcp: ProtectedServer
    server: AuthServer
    person: Person

    @property
    def url(self) -> str:
        return f"{self.mcp.url}/mcp"

    def oauth(self, **options: Any) -> OAuth:
        if "grant" not in options:
            options.setdefault("redirect", self.person)
        return OAuth(**options)

    async def call(self, auth: OAuth, method: str = "POST", **options: Any) -> tuple[int, Any]:
        """One request of a client with this login: the status, and the token that the server saw."""
        async with HTTPClient(middleware=[auth.middleware(self.url, **options)]) as http:
            async with await http.send(HTTPCall(method, self.url, body=b"{}")) as answer:
                return answer.status, json.loads(await answer.read(10_000)).get("token")

    async def calls(
        self, auth: OAuth, count: int, begun: Callable[[], bool], gate: anyio.Event
    ) -> list[tuple[int, Any]]:
        """So many requests at once; the gate is opened when `begun` says so."""
        found: list[tuple[int, Any]] = []

        async def one() -> None:
            found.append(await self.call(auth))

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
            while not begun():
                await anyio.sleep(0.001)
            gate.set()
        return found

    def basic(self, heard: Heard) -> tuple[str, str]:
        """The id and the secret of a client that shows them by HTTP Basic (RFC 6749, 2.3.1)."""
        kind, _, pair = heard.headers["authorization"].partition(" ")
        assert kind == "Basic"
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        return unquote(name), unquote(secret)


@asynccontextmanager
async def parties() -> AsyncIterator[World]:
    """An MCP server that names one authorization server, and a person."""
    server = AuthServer()
    mcp = ProtectedServer(server)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await server.serve(tasks)
            await mcp.serve(tasks)
            yield World(mcp, server, Person(server))
            tasks.cancel_scope.cancel()


def played(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs within a world of its own."""

    async def main() -> None:
        async with parties() as world:
            await test(world)

    def run() -> None:
        anyio.run(main)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
