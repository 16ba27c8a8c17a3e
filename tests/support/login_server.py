# SPDX-License-Identifier: MIT
"""An authorization server and an MCP server that asks it, for commands that run as other processes.

`logging_in` gives both.  The authorization server agrees to everything at once: its page redirects.  It registers
clients, rotates refresh tokens and knows what it has issued, so a test can count, revoke and expire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from mcp_h11 import Context, MCPServer, Principal, start_in_thread

FORM_BROWSER = Path(__file__).with_name("form_browser.py")


class LoginServer:
    """The authorization server.

    Attributes:
        refreshes, logins, revoked, registered: the requests for each, in order.
        lifetime: seconds of an access token.
        names_itself: its answers have `iss`, as its metadata promises (RFC 9207).
        refuses: the `error` with which it answers each login; None agrees.
        slow: held while a refresh is answered.
    """

    def __init__(self) -> None:
        self.url = ""
        self.lifetime = 3600.0
        self.refuses: str | None = None
        self.names_itself = True
        self.registers = True
        self.logins: list[dict[str, str]] = []
        self.refreshes: list[str] = []
        self.registered: list[dict[str, Any]] = []
        self.revoked: list[str] = []
        self.secrets: set[str] = set()  # codes, verifiers and tokens
        self.access: dict[str, Principal] = {}
        self.refresh: dict[str, dict[str, str]] = {}
        self.refused = 0  # how many tokens the MCP server has asked about in vain
        self.proofs: list[str] = []  # by which clients with a secret have shown it
        self.slow = threading.Event()
        self.slow.set()
        self._codes: dict[str, dict[str, str]] = {}

    async def verify_token(self, token: str) -> Principal | None:
        found = self.access.get(token)
        self.refused += found is None
        return found

    def expire(self) -> None:
        """All access tokens have ended."""
        self.access.clear()

    # --- requests -------------------------------------------------------------------------------------------

    def get(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        if path == "/.well-known/oauth-authorization-server":
            return 200, {}, self._metadata()
        if path == "/authorize":
            return self._authorize(query)
        return 404, {}, {"error": "not_found"}

    def post(self, path: str, body: bytes, authorization: str = "") -> tuple[int, dict[str, str], Any]:
        if path == "/register" and self.registers:
            asked = json.loads(body)
            self.registered.append(asked)
            return 201, {}, {**asked, "client_id": f"client-{len(self.registered)}"}
        form = dict(parse_qsl(body.decode()))
        if path == "/revoke":
            self.revoked.append(form["token_type_hint"])
            self.refresh.pop(form["token"], None)
            self.access.pop(form["token"], None)
            return 200, {}, {}
        if path == "/token":
            if authorization or "client_secret" in form:
                self.proofs.append(authorization or form["client_secret"])
            return self._token(form)
        return 404, {}, {"error": "not_found"}

    def _metadata(self) -> dict[str, Any]:
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "revocation_endpoint": f"{self.url}/revoke",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "authorization_response_iss_parameter_supported": self.names_itself,
        }
        return {**found, "registration_endpoint": f"{self.url}/register"} if self.registers else found

    def _authorize(self, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        self.logins.append(query)
        answer = {"state": query["state"], **({"iss": self.url} if self.names_itself else {})}
        if self.refuses is not None:
            answer |= {"error": self.refuses, "error_description": "not <today>"}
        else:
            answer["code"] = self._secret("code")
            self._codes[answer["code"]] = query
        return 302, {"Location": f"{query['redirect_uri']}?{urlencode(answer)}"}, {}

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        if form["grant_type"] == "refresh_token":
            self.refreshes.append(form["refresh_token"])
            self.slow.wait(30)
            login = self.refresh.pop(form["refresh_token"], None)
        else:
            login = self._codes.pop(form["code"], None)
            challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            if login is not None and login["code_challenge"] != challenge.decode().rstrip("="):
                login = None
            self.secrets.add(form["code_verifier"])
        if login is None or login["resource"] != form["resource"]:
            return 400, {}, {"error": "invalid_grant"}
        access, refresh = self._secret("access"), self._secret("refresh")
        scope = login.get("scope", "")
        self.access[access] = Principal("ann", scope, client_id=login["client_id"], issuer=self.url)
        self.refresh[refresh] = login
        return 200, {}, {
            "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": self.lifetime,
            "scope": scope, "id_token": id_token(self.url, login["client_id"], "ann@example.com"),
        }  # fmt: skip

    def _secret(self, kind: str) -> str:
        made = f"{kind}-{secrets.token_urlsafe(16)}"
        self.secrets.add(made)
        return made


def id_token(issuer: str, client: str, email: str) -> str:
    """An id token without a signature: it comes from the token endpoint itself."""
    claims = {"iss": issuer, "aud": client, "sub": "ann", "email": email, "exp": 9e9}
    parts = [{"alg": "none"}, claims]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts), ""])


def _handler(server: LoginServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(*server.get(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*server.post(urlsplit(self.path).path, body, self.headers["Authorization"] or ""))

        def _answer(self, status: int, headers: dict[str, str], document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def login_server() -> Iterator[LoginServer]:
    """The authorization server alone."""
    found = LoginServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(found)) as http:
        found.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield found
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def logging_in(**settings: Any) -> Iterator[tuple[LoginServer, str]]:
    """The authorization server, and the address of an MCP server with the tools `who` and `write`."""
    handler = MCPServer("guarded", version="1")

    @handler.tool
    async def who(ctx: Context) -> str:
        return f"{ctx.principal.subject} by {ctx.principal.client_id}"

    @handler.tool(scopes=["files:write"])
    async def write() -> str:
        return "written"

    with login_server() as issuer:
        options = {"authorization_servers": [issuer.url], "required_scopes": ["files:read"], "verifier": issuer}
        with start_in_thread(handler, port=0, **{**options, **settings}) as running:
            yield issuer, f"http://127.0.0.1:{running.port}/mcp"


def browser_command(page: Path) -> str:
    """The value of BROWSER for a browser that writes its last page to this file."""
    return f"{sys.executable} {FORM_BROWSER} %s {page}"
