# SPDX-License-Identifier: MIT
"""The loopback receiver as a browser, and as a hostile program on the same machine, meets it: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from html import unescape
from urllib.parse import urlencode, urlsplit

import anyio
import pytest
from ports import free_port
from rawclient import RawClient, Response

from mcp_h11.client.oauth import receiver
from mcp_h11.client.oauth.errors import LoginFailed
from mcp_h11.client.oauth.loopback import LoopbackRedirect, PastedRedirect, has_screen
from mcp_h11.client.oauth.redirect import AuthorizationResponse

pytestmark = pytest.mark.anyio
LIMIT = 30.0
STATE = "the-state"
ASKED = f"https://issuer.example/authorize?client_id=app&state={STATE}&code_challenge=x"


class Person:
    """A login in progress: the browser, and what the program has shown."""

    def __init__(self, redirect: LoopbackRedirect, uri: str, shown: list[str]) -> None:
        self.redirect = redirect
        self.uri = uri
        self.shown = shown
        self.port = urlsplit(uri).port or 0
        self.login: asyncio.Task[AuthorizationResponse] | None = None

    def begin(self, url: str = ASKED) -> None:
        self.login = asyncio.create_task(self.redirect.authorize(url))

    async def answer(self) -> AuthorizationResponse:
        assert self.login is not None
        return await asyncio.wait_for(self.login, LIMIT)

    @property
    def waits(self) -> bool:
        assert self.login is not None
        return not self.login.done()

    async def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes, up to the end of the connection."""
        with anyio.fail_after(LIMIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read()
            finally:
                writer.close()

    async def visit(self, method: str = "GET", target: str = "", host: str = "", **query: str) -> Response:
        target = target or f"{urlsplit(self.uri).path}?{urlencode(query)}"
        async with RawClient(self.port) as browser:
            return await browser.request(method, target, {"Host": host or f"127.0.0.1:{self.port}"})


@asynccontextmanager
async def at_login(**options: object) -> AsyncIterator[Person]:
    shown: list[str] = []
    redirect = LoopbackRedirect(show=shown.append, **{"open_browser": None, **options})  # type: ignore[arg-type]
    person = Person(redirect, await redirect.start(), shown)
    try:
        yield person
    finally:
        if person.login is not None:
            person.login.cancel()
        await redirect.aclose()


async def until(there: Callable[[], bool]) -> None:
    with anyio.fail_after(LIMIT):
        while not there():
            await anyio.sleep(0.01)


def text_of(page: Response) -> str:
    """The words of a page, and that it is one which can do no harm."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["connection"] == "close"
    html = page.body.decode()
    style = re.search("<style>(.*)</style>", html)
    assert style is not None
    policy = page.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    # The browser applies the one style whose hash this is, and no other.
    assert policy[1] == f"style-src 'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'"
    assert set(re.findall("<([a-z0-9]+)", html)) == {"html", "head", "meta", "title", "style", "body", "h1", "p"}
    return unescape(re.sub("<[^>]*>", " ", html.partition("<body>")[2]))


# --- the answer -------------------------------------------------------------------------------------------------------


async def test_the_answer_of_the_browser_is_the_answer_of_the_login() -> None:
    async with at_login() as person:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/callback", person.uri)
        person.begin()
        await asyncio.sleep(0)
        page = await person.visit(code="a code&=", state=STATE, iss="https://issuer.example", more="1")
        assert page.status == 200
        assert "The answer has arrived" in text_of(page)
        assert await person.answer() == AuthorizationResponse("a code&=", STATE, "https://issuer.example")
        assert person.shown == [f"To log in, open this address in a browser of this machine:\n{ASKED}"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("code=evil", "has no state"),
        ("code=evil&state=", "state is another one"),
        ("code=evil&state=other", "state is another one"),
        (f"code=evil&state={STATE}x", "state is another one"),
        ("code=evil&state=%ff%00%C3%A4", "state is another one"),
        ("error=access_denied", "has no state"),
        ("error=access_denied&state=other", "state is another one"),
        (f"code=evil&state={STATE}&state={STATE}", "more than once"),
        (f"code=evil&state={STATE}&code=evil", "more than once"),
        (f"state={STATE}", "neither a code nor an error"),
        (f"state={STATE}&code=&error=", "neither a code nor an error"),
        ("", "has no state"),
        ("&".join(f"a{number}=1" for number in range(60)), "more than 50 parameters"),
    ],
)
async def test_what_is_no_answer_to_this_login_is_refused_and_ends_nothing(query: str, reason: str) -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        page = await person.visit(target=f"/callback?{query}")
        assert page.status == 400
        text = text_of(page)
        assert "This is no answer to the login" in text and reason in text and "goes on waiting" in text
        assert "evil" not in page.body.decode()
        assert person.waits
        assert (await person.visit(code="good", state=STATE)).status == 200
        assert (await person.answer()).code == "good"


async def test_a_second_answer_is_refused_and_the_page_says_so() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        assert (await person.visit(code="first", state=STATE)).status == 200
        for code in ("first", "second"):
            page = await person.visit(code=code, state=STATE)
            assert page.status == 410
            assert "This login has had its answer" in text_of(page)
        assert (await person.answer()).code == "first"


async def test_a_refusal_of_the_server_ends_the_login_and_the_page_has_its_words_as_text() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        said = "<script>alert(1)</script> \u202e'\"& " + "x" * 5000
        page = await person.visit(error="access_denied", error_description=said, state=STATE, code="a")
        assert page.status == 400
        assert b"<script" not in page.body and b"\xe2\x80\xae" not in page.body
        text = text_of(page)
        assert "The login was refused" in text
        assert "access_denied: <script>alert(1)</script> \\u202e'\"& xxx" in text
        assert len(text) < 700
        answer = await person.answer()
        assert (answer.error, answer.error_description) == ("access_denied", said)


async def test_no_answer_is_taken_before_the_login_begins() -> None:
    async with at_login() as person:
        page = await person.visit(code="early", state=STATE)
        assert page.status == 409
        assert "has begun no login" in text_of(page)


async def test_the_next_login_takes_no_answer_of_the_one_before() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        await person.visit(code="first", state=STATE)
        await person.answer()
        person.begin(ASKED.replace(STATE, "next"))
        await asyncio.sleep(0)
        assert (await person.visit(code="first", state=STATE)).status == 400
        assert (await person.visit(code="second", state="next")).status == 200
        assert (await person.answer()).code == "second"


# --- other requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", f"/?code=evil&state={STATE}", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", f"/callback/?code=evil&state={STATE}", 404),
        ("GET", f"/CALLBACK?code=evil&state={STATE}", 404),
        ("GET", f"//callback?code=evil&state={STATE}", 404),
        ("POST", f"/callback?code=evil&state={STATE}", 405),
        ("HEAD", f"/callback?code=evil&state={STATE}", 405),
        ("OPTIONS", f"/callback?code=evil&state={STATE}", 405),
    ],
)
async def test_other_paths_and_methods_get_the_right_status_and_end_nothing(
    method: str, target: str, status: int
) -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        page = await person.visit(method, target)
        assert page.status == status
        assert page.headers.get("allow") == ("GET" if status == 405 else None)
        if method != "HEAD":
            text_of(page)
        assert person.waits


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost:{port}", "127.0.0.1", "[::1]:{port}"]
)
async def test_a_page_that_has_its_name_point_here_is_refused(host: str) -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        page = await person.visit(host=host.format(port=person.port), code="evil", state=STATE)
        assert page.status == 403
        assert "The Host of this request" in text_of(page)
        assert person.waits


HOST = b"Host: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET /callback\r\n\r\n", 400),
        (b"GET /callback HTTP/1.1\r\n\r\n", 400),  # without a Host
        (b"GET /callback HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /callback HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
        (b"GET /" + b"a" * 16_400 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 64 * 1024 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b"a" * 0x20000, 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_what_breaks_http_or_is_too_large_gets_its_status(data: bytes, status: int) -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        found = await person.raw(data)
        assert found.startswith(f"HTTP/1.1 {status} ".encode()), found[:200]
        assert found.endswith(b"</html>\n")
        assert person.waits


async def test_a_code_as_long_as_a_line_may_be_is_taken() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        code = "c" * 16_000
        assert (await person.visit(code=code, state=STATE)).status == 200
        assert (await person.answer()).code == code


async def test_an_answer_in_pieces_is_read_and_what_follows_is_not() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        request = f"GET /callback?code=good&state={STATE} HTTP/1.1\r\nHost: 127.0.0.1:{person.port}\r\n\r\n".encode()
        with anyio.fail_after(LIMIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", person.port)
            for byte in request:
                writer.write(bytes([byte]))
                await writer.drain()
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            found = await reader.read()
            writer.close()
        assert found.count(b"HTTP/1.1 ") == 1 and found.startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_does_not_end_is_answered_and_an_unused_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiver, "REQUEST_LIMIT", 0.05)
    async with at_login() as person:
        assert (await person.raw(b"GET /callback HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")
        late = b"POST /callback HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n"
        assert (await person.raw(late)).startswith(b"HTTP/1.1 408 ")
        assert await person.raw(b"") == b""


async def test_an_answered_connection_that_its_client_keeps_open_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "LINGER_LIMIT", 0.05)
    async with at_login() as person:
        reader, writer = await asyncio.open_connection("127.0.0.1", person.port)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await asyncio.wait_for(reader.read(), LIMIT)).startswith(b"HTTP/1.1 403 ")
        receiving = person.redirect._receiver
        assert receiving is not None
        await until(lambda: not receiving.connections)
        writer.close()


async def test_the_oldest_of_too_many_connections_makes_room() -> None:
    async with at_login() as person:
        person.begin()
        with anyio.fail_after(LIMIT):
            opened = [await asyncio.open_connection("127.0.0.1", person.port) for _ in range(receiver.MAX_CONNECTIONS)]
            assert (await person.visit(code="good", state=STATE)).status == 200
            assert await opened[0][0].read() == b""
            assert not any(reader.at_eof() for reader, _ in opened[2:])
            assert (await person.answer()).code == "good"
            for _, writer in opened:
                writer.close()


# --- the program's side -----------------------------------------------------------------------------------------------


async def test_the_browser_is_opened_beside_the_waiting_and_its_end_is_not_waited_for() -> None:
    opened: list[str] = []
    left = asyncio.Event()
    loop = asyncio.get_running_loop()

    def browser(url: str) -> bool:
        opened.append(url)
        asyncio.run_coroutine_threadsafe(left.wait(), loop).result(LIMIT)  # one in the terminal returns when it is left
        return True

    async with at_login(open_browser=browser) as person:
        person.begin()
        await asyncio.sleep(0)
        await until(lambda: opened == [ASKED])
        assert (await person.visit(code="good", state=STATE)).status == 200
        assert (await person.answer()).code == "good"
        left.set()
        assert person.shown[0].endswith(f"\n{ASKED}")


@pytest.mark.parametrize(
    ("outcome", "said"), [(False, "."), (OSError("no \x1b[2J"), ": no \\x1b[2J")], ids=["false", "error"]
)
async def test_a_browser_that_cannot_be_opened_is_told_and_the_login_goes_on(
    outcome: bool | OSError, said: str
) -> None:
    def browser(url: str) -> bool:
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async with at_login(open_browser=browser) as person:
        person.begin()
        await until(lambda: len(person.shown) == 2)
        assert person.shown[1] == f"The browser could not be opened{said}"
        await person.visit(code="good", state=STATE)
        assert (await person.answer()).code == "good"


async def test_the_browser_of_this_machine_is_used_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    import webbrowser

    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", browser)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for screen in (False, True):
        if screen:
            monkeypatch.setenv("BROWSER", "firefox")
        async with at_login(open_browser="webbrowser") as person:
            person.begin()
            await asyncio.sleep(0)
            expected = bool(screen or has_screen({}))
            if expected:
                await until(lambda: opened == [ASKED])
            await person.visit(code="good", state=STATE)
            await person.answer()
        assert opened == [ASKED] * expected
        assert person.shown[0].startswith("Your browser opens" if expected else "To log in, open")


@pytest.mark.parametrize(
    ("environ", "system", "shows"),
    [({}, "linux", False), ({"DISPLAY": ":0"}, "linux", True), ({"WAYLAND_DISPLAY": "w"}, "linux", True),
     ({"BROWSER": "w3m"}, "linux", True), ({}, "darwin", True), ({}, "win32", True)],
)  # fmt: skip
async def test_a_machine_without_a_screen_gets_no_browser(environ: dict[str, str], system: str, shows: bool) -> None:
    assert has_screen(environ, system) is shows


async def test_the_answer_has_a_time_limit() -> None:
    async with at_login(timeout=0.05) as person:
        person.begin()
        with pytest.raises(LoginFailed, match="no answer of the login came within 0.05 s"):
            await person.answer()
        page = await person.visit(code="late", state=STATE)
        assert page.status == 410


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd?state=s",
        "javascript:alert(1)//?state=s",
        "https://issuer.example/authorize",
        "https://issuer.example/authorize?state=a&state=b",
        "https://issuer.example/a b?state=s",
        "https://issuer.example/\x1b[2J?state=s",
        "https://issuer.example/\u00e4?state=s",
        'https://issuer.example/"&calc?state=s',
        "https://[::1?state=s",
        "",
    ],
)
async def test_an_address_that_no_browser_may_be_given_is_not_opened(url: str) -> None:
    opened: list[str] = []
    async with at_login(open_browser=opened.append) as person:
        with pytest.raises(LoginFailed, match="the address of the login"):
            await person.redirect.authorize(url)
        assert opened == person.shown == []


async def test_the_port_and_the_path_of_a_registration_are_taken_again() -> None:
    async with at_login() as person:
        await person.redirect.aclose()
        assert await person.redirect.start([person.uri]) == person.uri
        # Of other hosts, paths and schemes nothing is taken, and an address that is taken gives way to another.
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            known = [
                f"http://127.0.0.1:{port}/callback",
                f"http://evil.example:{port}/callback",
                f"https://127.0.0.1:{port}/callback",
                f"http://127.0.0.1:{port}/other",
                "http://127.0.0.1:99999/callback",
                "http://127.0.0.1:x/callback",
                "https://[",
            ]
            uri = await person.redirect.start(known)
            assert re.fullmatch("http://127.0.0.1:[0-9]+/callback", uri) and f":{port}/" not in uri


async def test_a_port_of_ones_own_is_the_only_one() -> None:
    port = free_port()
    redirect = LoopbackRedirect(port=port, path="/done", open_browser=None)
    assert await redirect.start(["http://127.0.0.1:1/done"]) == f"http://127.0.0.1:{port}/done"
    other = LoopbackRedirect(port=port, open_browser=None)
    with pytest.raises(LoginFailed, match=f"no answer of a login can be received at 127.0.0.1:{port}: "):
        await other.start()
    await redirect.aclose()
    await redirect.aclose()


async def test_the_port_is_closed_after_the_login() -> None:
    async with at_login() as person:
        person.begin()
        await asyncio.sleep(0)
        await person.visit(code="good", state=STATE)
        await person.answer()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", person.port)
    with pytest.raises(LoginFailed, match="started before it is used"):
        await person.redirect.authorize(ASKED)


@pytest.mark.parametrize("path", ["callback", "", "/a?b", "/a#b", "http://a/b"])
async def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        LoopbackRedirect(path=path)


async def test_lines_for_the_person_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    redirect = LoopbackRedirect(open_browser=None, timeout=0.01)
    await redirect.start()
    with pytest.raises(LoginFailed):
        await redirect.authorize(ASKED)
    await redirect.aclose()
    out, err = capsys.readouterr()
    assert (out, ASKED in err) == ("", True)


# --- pasted -----------------------------------------------------------------------------------------------------------


def typing(*lines: str | None) -> Callable[[str], Awaitable[str | None]]:
    given = list(lines)

    async def ask(prompt: str) -> str | None:
        assert prompt == "Address or code: "
        if not given:
            await anyio.sleep_forever()
        return given.pop(0)

    return ask


async def pasted(*lines: str | None, url: str = ASKED) -> tuple[AuthorizationResponse, list[str]]:
    shown: list[str] = []
    redirect = PastedRedirect(typing(*lines), show=shown.append)
    await redirect.start()
    try:
        return await asyncio.wait_for(redirect.authorize(url), LIMIT), shown
    finally:
        await redirect.aclose()


@pytest.mark.parametrize(
    "text",
    [
        f"http://127.0.0.1:1/callback?code=the-code&state={STATE}",
        f"  http://127.0.0.1:1/callback?state={STATE}&code=the-code#_=_ ",
        f"?code=the-code&state={STATE}",
        "the-code",
    ],
)
async def test_an_address_or_a_code_is_pasted(text: str) -> None:
    answer, shown = await pasted(text)
    assert (answer.code, answer.state) == ("the-code", STATE)
    assert ASKED in shown[0] and "paste the whole address" in shown[0]


async def test_a_wrong_paste_is_told_and_may_be_mended() -> None:
    answer, shown = await pasted("two words", "http://127.0.0.1:1/callback?code=evil&state=other", "the-code")
    assert answer.code == "the-code"
    assert shown[1:] == [
        "This is neither an address nor a code.",
        "Its state is another one, so it does not belong to this login.",
    ]


@pytest.mark.parametrize("wrong", ["", " ", "\x1b[2J", "\u00e4", "x" * 16_385])
async def test_three_wrong_pastes_end_the_login(wrong: str) -> None:
    with pytest.raises(LoginFailed, match="3 pasted texts in a row"):
        await pasted(wrong, wrong, wrong)
    answer, _ = await pasted("x" * 16_384)
    assert answer.code == "x" * 16_384


async def test_the_person_may_give_up() -> None:
    with pytest.raises(LoginFailed, match="the login was given up"):
        await pasted(None)


async def test_a_refusal_may_be_pasted() -> None:
    answer, _ = await pasted(f"http://127.0.0.1:1/callback?error=access_denied&state={STATE}")
    assert (answer.code, answer.error) == (None, "access_denied")


async def test_a_browser_of_this_machine_may_be_first() -> None:
    redirect = PastedRedirect(typing(), show=lambda text: None)
    person = Person(redirect, await redirect.start(), [])
    person.begin()
    await asyncio.sleep(0)
    assert (await person.visit(code="good", state=STATE)).status == 200
    assert (await person.answer()).code == "good"
    await redirect.aclose()


async def test_a_paste_has_a_time_limit_and_an_address_to_be_opened() -> None:
    redirect = PastedRedirect(typing(), show=lambda text: None, timeout=0.05)
    await redirect.start()
    with pytest.raises(LoginFailed, match="within 0.05 s"):
        await asyncio.wait_for(redirect.authorize(ASKED), LIMIT)
    with pytest.raises(LoginFailed, match="the address of the login"):
        await redirect.authorize("file:///etc/passwd?state=a")
    await redirect.aclose()
