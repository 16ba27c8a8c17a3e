# SPDX-License-Identifier: MIT
"""A browser that opens an address: the page where there is one, else a short text; never a session or a stream."""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rawclient import SSE_TYPE, Legacy, RawClient, Response
from serving import ASYNCIO, LEGACY, head, lives, served, still_serves

import mcp_h11
from mcp_h11.endpoint import browsers
from mcp_h11.http.headers import Accept, parse_accept

pytestmark = pytest.mark.anyio

# As they are sent for an address that a person types.
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
BROWSERS = {
    "Chromium": CHROMIUM,
    "Firefox": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Safari": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "lynx": "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01",
    "capitals": "Text/HTML",
    "XHTML": "application/xhtml+xml",
}
# Clients of MCP, and programs that say nothing: they get what they got before.
CLIENTS = {
    "events": SSE_TYPE, "both": f"application/json, {SSE_TYPE}", "anything": "*/*", "nothing": None, "text": "text/*",
    "HTML and events": f"text/html, {SSE_TYPE}", "no HTML": "text/html;q=0, */*",
}  # fmt: skip
MOST = 100 * 1024  # bytes of the page


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


async def opened(server: Any, target: str = "/mcp", method: str = "GET", **headers: str | None) -> Response:
    """The answer for a browser; checks that the connection can be used again, and that nothing was begun."""
    async with RawClient(server.port) as client:
        await client.send(head(target, method, **{"Accept": CHROMIUM, **headers}))
        answer = await client.receive(method)
        assert "connection" not in answer.headers
        if server.settings.is_open and server.settings.path == "/mcp":
            await lives(client)
    counts = server.endpoint.counts()
    assert (counts.sessions, counts.listeners) == (0, 0) and not server.endpoint.legacy_sse.sessions
    return answer


def refused(answer: Response, status: int) -> str:
    """The text of a refusal for a person."""
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    text = answer.body.decode("utf-8")
    assert text.startswith(str(status)) and text.endswith("\n") and text.count("\n") == 1
    return text


# --- without a page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", BROWSERS.values(), ids=BROWSERS)
@pytest.mark.parametrize("options", [{}, {"legacy_sse": True}, {"stateless": True}], ids=["plain", "SSE", "stateless"])
async def test_a_browser_gets_a_short_text_and_no_stream(accept: str, options: dict[str, Any]) -> None:
    async with served(**options) as server:
        text = refused(await opened(server, Accept=accept), 406)
        assert "--page" in text
        await still_serves(server.port)


@pytest.mark.parametrize("target", ["/mcp/", "/mcp?a=b", "/sse", "/sse/"])
async def test_every_address_with_a_stream_is_refused_to_a_browser(target: str) -> None:
    async with served(legacy_sse=True) as server:
        refused(await opened(server, target), 406)


async def test_a_browser_at_another_address_is_told_where_the_endpoint_is() -> None:
    async with served(root_path="/tools") as server:
        for target in ("/", "/nothing", "/favicon.ico"):
            assert "/tools/mcp" in refused(await opened(server, target), 404)


async def test_a_refused_host_is_told_to_a_browser_as_text() -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(head(method="GET", Host="evil.example", Accept=CHROMIUM))
        assert "--allowed-hosts" in refused(await client.receive("GET"), 403)


async def test_a_browser_needs_no_token_to_be_told() -> None:
    async with served(token="secret", legacy_sse=True) as server:
        refused(await opened(server), 406)


@pytest.mark.parametrize("accept", CLIENTS.values(), ids=CLIENTS)
async def test_a_client_of_2024_gets_its_stream_as_before(accept: str | None) -> None:
    async with served(legacy_sse=True, page=True) as server, RawClient(server.port) as client:
        await client.send(head(method="GET", Accept=accept))
        stream = await client.receive_stream("GET")
        assert (stream.head.status, stream.head.content_type) == (200, SSE_TYPE)
        event = await stream.next_event()
        assert event is not None and event.event == "endpoint"
        await stream.close()


async def test_a_library_that_calls_itself_a_browser_can_read_its_session() -> None:
    # Java's HttpURLConnection sends this where the program sets no Accept.
    java = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
    async with served(page=True) as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        await client.send(head(method="GET", Accept=java, Mcp_Session_Id=session.session))
        stream = await client.receive_stream("GET")
        assert (stream.head.status, stream.head.content_type) == (200, SSE_TYPE)
        await stream.close()


async def test_a_post_is_never_a_browsers() -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(head(method="POST", Accept=CHROMIUM, Content_Type="text/plain", Content_Length="0"))
        answer = await client.receive("POST")
        assert (answer.status, answer.content_type) == (415, "application/json")


@pytest.mark.parametrize(("value", "browser"), [
    *((value, True) for value in BROWSERS.values()), *((value, False) for value in CLIENTS.values()),
    ("text/html;level=1", True), ("text/html;q=0, application/xhtml+xml;q=0", False), ("", False),
])  # fmt: skip
def test_the_accept_of_a_browser_names_html_and_no_events(value: str | None, browser: bool) -> None:
    assert parse_accept(value).browser is browser


def test_what_a_browser_accepts_besides_is_read_as_before() -> None:
    assert parse_accept(CHROMIUM) == Accept(json=True, sse=True, browser=True)


# --- the page ---------------------------------------------------------------------------------------------------------


class Inside(HTMLParser):
    """The elements of a document, with the text of its style and its script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("style", "script"):
            self.texts[self._open] = self.texts.get(self._open, "") + data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]

    @property
    def endpoint(self) -> str | None:
        return next(one["content"] for one in self.all("meta") if one.get("name") == "mcp-endpoint")


def shown(answer: Response) -> Inside:
    """The page of an answer."""
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Inside(answer.body.decode("utf-8"))


def policy(answer: Response) -> dict[str, str]:
    parts = [part.split(None, 1) for part in answer.headers["content-security-policy"].split(";")]
    return {part[0]: part[1] for part in parts}


async def test_the_page_is_at_the_endpoint_and_at_the_root() -> None:
    async with served(page=True, legacy_sse=True) as server:
        assert shown(await opened(server)).endpoint == ""
        assert shown(await opened(server, "/mcp/?a=b")).endpoint == ""
        assert shown(await opened(server, "/")).endpoint == "./mcp"
        assert "/mcp" in refused(await opened(server, "/sse"), 406)
        refused(await opened(server, "/other"), 404)
        await still_serves(server.port)


@pytest.mark.parametrize("options", [{"stateless": True}, {"path": "/deep/er"}, {"path": "/"}, {"response": "json"}])
async def test_the_page_is_at_every_kind_of_endpoint(options: dict[str, Any]) -> None:
    async with served(page=True, **options) as server:
        path = server.settings.path
        assert shown(await opened(server, path)).endpoint == ""
        assert shown(await opened(server, "/")).endpoint == ("" if path == "/" else f".{path}")


async def test_below_a_prefix_the_page_knows_the_address_that_browsers_see() -> None:
    async with served(page=True, root_path="/tools") as server:
        assert shown(await opened(server, "/")).endpoint == "/tools/mcp"
    async with served(page=True, trusted_proxies=["127.0.0.1"]) as server:
        answer = await opened(server, "/", X_Forwarded_Prefix="/a&b")
        assert shown(answer).endpoint == "/a&b/mcp" and b'"/a&amp;b/mcp"' in answer.body


async def test_the_policy_lets_one_style_and_one_script_run() -> None:
    async with served(page=True) as server:
        answer = await opened(server, "/")
    document, rules = shown(answer), policy(answer)
    for kind in ("style", "script"):
        assert document.all(kind) == [{}]
        digest = base64.b64encode(hashlib.sha256(document.texts[kind].encode("utf-8")).digest()).decode("ascii")
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert (rules["connect-src"], rules["img-src"], rules["media-src"]) == ("'self'", "data: blob:", "data: blob:")
    assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_other_pages_can_neither_frame_nor_read_nor_keep_a_hold_of_the_page() -> None:
    async with served(page=True, cors=["https://app.example"]) as server:
        answer = await opened(server, Origin="https://app.example")
        assert answer.headers["x-frame-options"] == "DENY" and answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["vary"] == "Accept"
        for name in ("opener", "resource"):
            assert answer.headers[f"cross-origin-{name}-policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        refused(await opened(server, Origin="https://evil.example"), 403)
        refused(await opened(server, Host="evil.example"), 403)


async def test_the_page_names_nothing_of_another_place_and_has_no_handler_in_its_markup() -> None:
    async with served(page=True) as server:
        document = shown(await opened(server))
    for _, attributes in document.found:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            assert name not in ("src", "action", "srcset")
            assert name != "href" or (value or "").startswith(("#", "data:"))
    script = document.texts["script"]
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    kept = r"localStorage|sessionStorage|document\.cookie|postMessage|window\.name"
    assert not re.search(f"{markup}|{kept}|https?://", script)
    assert "url(" not in document.texts["style"] and "@import" not in document.texts["style"]


async def test_a_server_with_a_token_shows_the_page_and_nothing_of_itself() -> None:
    async with served(page=True, token="secret") as server, served(page=True) as other:
        guarded = await opened(server)
        assert shown(guarded) and guarded.body == (await opened(other)).body
        assert b"held" not in guarded.body  # the name of the server


async def test_a_page_that_a_browser_has_is_not_sent_again() -> None:
    async with served(page=True) as server:
        first = await opened(server)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await opened(server, If_None_Match=known)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await opened(server, If_None_Match='"other"')).status == 200
        assert (await opened(server, "/", If_None_Match=tag)).status == 200  # it is another document


async def test_head_is_as_get_without_the_body() -> None:
    async with served(page=True) as server:
        for target in ("/", "/mcp"):
            whole, bare = await opened(server, target), await opened(server, target, "HEAD")
            assert (bare.status, bare.body) == (200, b"")
            assert {**bare.headers, "date": ""} == {**whole.headers, "date": ""}
            assert int(bare.headers["content-length"]) == len(whole.body)
    async with served() as server, RawClient(server.port) as client:
        await client.send(head(method="HEAD", Accept="*/*"))
        assert (await client.receive("HEAD")).status == 405


async def test_the_page_counts_against_the_rate_of_an_address() -> None:
    async with served(page=True, rate_limit=(2, 60)) as server, RawClient(server.port) as client:
        for status in (200, 200, 429):
            await client.send(head(method="GET", Accept=CHROMIUM))
            assert (await client.receive("GET")).status == status


async def test_the_page_is_one_document_of_a_moderate_size() -> None:
    async with served(page=True) as server:
        assert 40_000 < len((await opened(server)).body) <= MOST


def test_the_script_and_the_style_cannot_end_their_element() -> None:
    for name in ("page.css", *browsers.SCRIPTS):
        text = (Path(browsers.__file__).parent / browsers.FOLDER / name).read_text("utf-8")
        assert "</script" not in text and "</style" not in text and "<!--" not in text, name
        assert not re.search("%(endpoint|style|script)%", text), name


def test_a_server_that_no_browser_visits_loads_nothing_of_the_page() -> None:
    code = """
        import json, sys, urllib.request
        from mcp_h11 import MCPServer, start_in_thread
        def loaded():
            return [name.rpartition(".")[2] for name in sys.modules if name in ("mcp_h11.endpoint.browsers", "pkgutil")]
        with start_in_thread(MCPServer("plain"), port=0, page=True, legacy_sse=True) as running:
            before = loaded()
            request = urllib.request.Request(running.url, headers={"Accept": "text/html"})
            urllib.request.urlopen(request, timeout=30).read()
            print(json.dumps([before, loaded()]))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=True, text=True
    )
    assert json.loads(found.stdout) == [[], ["browsers", "pkgutil"]]


# --- a copy of the package ------------------------------------------------------------------------------------------


@contextmanager
def read_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    browsers.frame.cache_clear()
    try:
        yield
    finally:
        monkeypatch.undo()
        browsers.frame.cache_clear()


@pytest.mark.long
def test_the_page_is_read_from_a_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(mcp_h11.__file__).parent
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("renamed") / path.relative_to(package))
    code = "from renamed.endpoint.browsers import page; import sys; sys.stdout.buffer.write(page('', [])[1])"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=True,
                           env={"PYTHONPATH": str(tmp_path / "copy.zip")})  # fmt: skip
    assert found.stdout == browsers.page("", [])[1]


async def test_a_copy_without_the_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with read_again(monkeypatch):
        monkeypatch.setattr(browsers, "FOLDER", "gone")
        async with served(page=True) as server:
            assert "endpoint/gone/" in refused(await opened(server), 404)


def test_line_ends_of_windows_do_not_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = browsers.frame()
    with read_again(monkeypatch):
        real = pkgutil.get_data
        monkeypatch.setattr(pkgutil, "get_data", lambda *where: (real(*where) or b"").replace(b"\n", b"\r\n"))
        assert browsers.frame() == before


def test_a_loader_without_data_is_a_copy_without_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with read_again(monkeypatch):
        monkeypatch.setattr(pkgutil, "get_data", lambda *where: None)
        assert browsers.page("", [])[0] == 404
