# SPDX-License-Identifier: MIT
"""The official client's OAuth flow against our server: refused, it finds where tokens come from, and steps up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from mcp.client import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import AuthorizationCodeResult
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from serving import served

from mcp_h11 import Context, MCPServer, Principal

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
LIMIT = 60.0
CALLBACK = "http://localhost:1/callback"


class Issuer:
    """An authorization server that says yes: its tokens are the scopes that were asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.granted: list[str] = []
        self.resources: list[str] = []
        self._scope = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        length = 0
        while (field := await reader.readline()) != b"\r\n":
            name, _, value = field.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        body = self._document(line.split(" ")[1], parse_qs((await reader.readexactly(length)).decode()))
        status = "404 Not Found" if body is None else "200 OK"
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + data)
        writer.close()
        await writer.wait_closed()

    def _document(self, path: str, form: dict[str, list[str]]) -> dict[str, Any] | None:
        if path == "/.well-known/oauth-authorization-server":
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        if path == "/token":
            self.resources += form["resource"]
            self.granted.append(self._scope)
            token = f"token-for.{self._scope.replace(' ', '.').replace(':', '_')}"
            return {"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": self._scope}
        return None

    async def authorize(self, url: str) -> None:
        """What a browser would do: the user agrees to everything."""
        self._query = parse_qs(urlsplit(url).query)
        self._scope = self._query["scope"][0]

    async def agreed(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code="code", state=self._query["state"][0])


class Storage:
    """Keeps the client's things in memory."""

    def __init__(self, issuer: str) -> None:
        self.tokens: OAuthToken | None = None
        self.info: OAuthClientInformationFull | None = OAuthClientInformationFull(
            client_id="app", redirect_uris=[CALLBACK], token_endpoint_auth_method="none", issuer=issuer
        )

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.info

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.info = client_info


class Verifier:
    """Reads the tokens of `Issuer`, which say what they allow."""

    async def verify_token(self, token: str) -> Principal | None:
        kind, *scopes = token.split(".")
        allowed = [scope.replace("_", ":") for scope in scopes]
        return Principal("ann", allowed, client_id="app") if kind == "token-for" else None


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield issuer


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_finds_its_way_in_and_asks_for_more(mode: Any) -> None:
    handler = MCPServer("files")

    @handler.tool(scopes=["files:write"])
    async def write(ctx: Context) -> str:
        return f"written by {ctx.principal.subject} in {ctx.protocol_version}"

    @handler.tool
    async def read() -> str:
        return "read"

    with anyio.fail_after(LIMIT):
        async with issuing() as issuer:
            options: dict[str, Any] = {"authorization_servers": [issuer.url], "required_scopes": ["files:read"]}
            async with served(handler, verifier=Verifier(), **options) as server:
                provider = OAuthClientProvider(
                    server.url,
                    OAuthClientMetadata(redirect_uris=[CALLBACK], token_endpoint_auth_method="none"),
                    Storage(issuer.url),
                    issuer.authorize,
                    issuer.agreed,
                )
                async with httpx2.AsyncClient(auth=provider, timeout=LIMIT) as http:
                    async with Client(streamable_http_client(server.url, http_client=http), mode=mode) as client:
                        assert (await client.call_tool("read")).content[0].text == "read"
                        assert issuer.granted == ["files:read"]
                        written = (await client.call_tool("write")).content[0].text
                        revision = "2025-11-25" if mode == "legacy" else "2026-07-28"
                        assert written == f"written by ann in {revision}"
                        # Once more, with both: the session of the first token is still there.
                        assert [set(scope.split()) for scope in issuer.granted] == [
                            {"files:read"},
                            {"files:read", "files:write"},
                        ]
                        assert (await client.call_tool("read")).content[0].text == "read"
                assert set(issuer.resources) == {server.url}
                assert len(server.endpoint.legacy.sessions) <= 1
