# SPDX-License-Identifier: MIT
"""A login at two authorization servers of other projects: npm's `oidc-provider`, and Authlib in a Flask application.

The person is a browser that follows redirects and sends forms.  The MCP server is ours, and asks the authorization
server about each token (RFC 7662): a token for another resource, or one that has ended, is refused.
"""

from __future__ import annotations

import base64
import json
import subprocess
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import anyio
import anyio.to_thread
import pytest
from form_browser import FormBrowser
from provision import (
    Unavailable,
    free_port,
    npm_folder,
    process_on_a_port,
    python_with,
    stop,
    wait_until_it_listens,
)

from mcp_h11 import AuthorizationRequired, Client, Context, MCPServer, Principal, start_in_thread
from mcp_h11.cli.main import main
from mcp_h11.client.oauth.files import FileTokenStore
from mcp_h11.client.oauth.loopback import LoopbackRedirect
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.store import Login

pytestmark = [pytest.mark.anyio, pytest.mark.interop]
LIMIT = 120.0
HERE = Path(__file__).parent
OIDC_PROVIDER = "oidc-provider@9.13.3"
AUTHLIB = ("authlib==1.9.10", "flask==3.1.3")
_open = build_opener(ProxyHandler({})).open


def _oidc_provider(port: int) -> list[str]:
    folder = npm_folder("npm-oidc-provider", OIDC_PROVIDER)
    return ["node", str(HERE / "oidc_provider.mjs"), str(folder), str(port)]


def _authlib(port: int) -> list[str]:
    return [python_with("authlib", *AUTHLIB), str(HERE / "authlib_server.py"), str(port)]


# The program, and the path at which the MCP server asks about a token.
SERVERS: dict[str, tuple[Callable[[int], list[str]], str]] = {
    "oidc-provider": (_oidc_provider, "/token/introspection"),
    "authlib": (_authlib, "/introspect"),
}


@contextmanager
def issuing(name: str) -> Iterator[str]:
    """The address of one of the authorization servers while it runs."""
    port = free_port()
    try:
        command = SERVERS[name][0](port)
    except Unavailable as error:
        pytest.skip(str(error))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


class Introspection:
    """Asks the authorization server about each token."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.resource = ""

    async def verify_token(self, token: str) -> Principal | None:
        found = await anyio.to_thread.run_sync(self.ask, token)
        audience = found.get("aud")
        if not found.get("active") or self.resource not in (audience if isinstance(audience, list) else [audience]):
            return None
        return Principal(found["sub"], found.get("scope", ""), client_id=found["client_id"], issuer=found["iss"])

    def ask(self, token: str) -> dict[str, Any]:
        client = base64.b64encode(b"mcp-server:mcp-server-secret").decode()
        request = Request(self.address, urlencode({"token": token}).encode(), {"Authorization": f"Basic {client}"})
        with _open(request, timeout=LIMIT) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found


@dataclass
class Place:
    """An MCP server, its authorization server, and the logins of one user."""

    issuer: str
    url: str
    verifier: Introspection
    store: FileTokenStore
    browsers: list[FormBrowser]
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(words)
        out, err = self.capsys.readouterr()
        return code, out, err

    def who(self, url: str = "") -> tuple[int, str]:
        return self.run("call", url or self.url, "who")[:2]

    async def login(self) -> Login:
        found = await self.store.load(self.url)
        assert found is not None and found.tokens is not None
        return found

    def forget(self, kind: str) -> None:
        """The authorization server forgets all its tokens of this kind."""
        with _open(Request(f"{self.issuer}/test/forget/{kind}", b""), timeout=LIMIT):
            pass


@pytest.fixture(params=SERVERS)
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    handler = MCPServer("guarded", version="1")

    @handler.tool
    async def who(ctx: Context) -> str:
        return f"{ctx.principal.subject}: {' '.join(sorted(ctx.principal.scopes & {'files:read', 'files:write'}))}"

    @handler.tool(scopes=["files:write"])
    async def write() -> str:
        return "written"

    browsers: list[FormBrowser] = []

    def opened(url: str) -> bool:
        browsers.append(FormBrowser())
        assert "The answer has arrived" in browsers[-1].open(url)
        return True

    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path / "logins"))
    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr(webbrowser, "open", opened)
    with ExitStack() as stack:
        issuer = stack.enter_context(issuing(request.param))
        verifier = Introspection(issuer + SERVERS[request.param][1])
        options: dict[str, Any] = {"authorization_servers": [issuer], "required_scopes": ["files:read"]}
        running = stack.enter_context(start_in_thread(handler, port=0, verifier=verifier, **options))
        url = verifier.resource = f"http://127.0.0.1:{running.port}/mcp"
        yield Place(issuer, url, verifier, FileTokenStore(tmp_path / "logins"), browsers, capsys)


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """A command has an event loop of its own."""
    with anyio.fail_after(LIMIT):
        return await anyio.to_thread.run_sync(work, *arguments)


async def test_a_person_logs_in_and_commands_renew_the_login(place: Place) -> None:
    code, out, err = await in_thread(place.run, "login", place.url)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"logged in at {place.url}" and f"  issuer: {place.issuer}" in lines
    # The person has filled in forms on the way, and the browser reads the last page while the command goes on.
    visited = place.browsers[0].visited
    with anyio.fail_after(LIMIT):
        while not visited or visited[-1].startswith(place.issuer):
            await anyio.sleep(0.02)
    assert len(visited) > 1 and visited[-1].startswith("http://127.0.0.1:")
    first = await place.login()
    assert first.resource == place.url and first.tokens is not None
    assert place.verifier.ask(first.tokens.access_token)["active"]
    assert await in_thread(place.who) == (0, "ann: files:read\n")

    # The access token ends: it is renewed, and the refresh token rotates.
    place.forget("AccessToken")
    assert await in_thread(place.who) == (0, "ann: files:read\n")
    second = await place.login()
    assert second.tokens is not None and second.tokens.refresh_token not in (None, first.tokens.refresh_token)
    assert second.client == first.client

    # The login ends as well: a program is told the command, and it works again.
    for kind in ("AccessToken", "RefreshToken"):
        place.forget(kind)
    code, out, err = await in_thread(place.run, "call", place.url, "who")
    assert (code, out) == (3, "") and f"log in again: python -m mcp_h11 login {place.url}" in err
    assert len(place.browsers) == 1
    assert (await in_thread(place.run, "login", place.url))[0] == 0
    third = await place.login()
    assert third.client == first.client  # the registration, and with it the port, is used again
    assert await in_thread(place.who) == (0, "ann: files:read\n")

    # A logout ends the tokens at the authorization server.
    assert third.tokens is not None
    assert (await in_thread(place.run, "logout", place.url))[0] == 0
    assert not place.verifier.ask(third.tokens.access_token)["active"]
    assert await place.store.load(place.url) is None


async def test_a_client_logs_in_asks_for_more_and_starts_again(place: Place) -> None:
    def opens(url: str) -> bool:
        return webbrowser.open(url)

    def auth() -> OAuth:
        return OAuth(redirect=LoopbackRedirect(open_browser=opens, show=lambda text: None), store=place.store)

    with anyio.fail_after(LIMIT):
        async with Client(place.url, auth=auth()) as client:
            assert (await client.call_tool("who"))["content"][0]["text"] == "ann: files:read"
            # 403, insufficient_scope: one more login, for both scopes.
            assert (await client.call_tool("write"))["content"][0]["text"] == "written"
            assert (await client.call_tool("who"))["content"][0]["text"] == "ann: files:read files:write"
        assert len(place.browsers) == 2
        # The next process has no person.
        async with Client(place.url, auth=OAuth(store=place.store)) as client:
            assert (await client.call_tool("write"))["content"][0]["text"] == "written"
            place.forget("AccessToken")
            async with anyio.create_task_group() as tasks:  # all of them by one refresh
                for _ in range(5):
                    tasks.start_soon(client.call_tool, "write")
            place.forget("AccessToken")
            place.forget("RefreshToken")
            with pytest.raises(AuthorizationRequired):
                await client.call_tool("write")
        assert len(place.browsers) == 2


async def test_a_bridge_uses_the_login(place: Place) -> None:
    assert (await in_thread(place.run, "login", place.url))[0] == 0

    def through_a_bridge() -> None:
        with process_on_a_port("-m", "mcp_h11", "proxy", "--url", place.url, "--port", "{port}") as bridge:
            assert place.who(bridge.url) == (0, "ann: files:read\n")
            place.forget("AccessToken")
            assert place.who(bridge.url) == (0, "ann: files:read\n")

    await in_thread(through_a_bridge)
