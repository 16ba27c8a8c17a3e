# SPDX-License-Identifier: MIT
"""`login`, `logout`, and a login that a command needs, as processes with a real browser program and a real server."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

import pytest
from form_browser import FormBrowser
from login_server import LoginServer, browser_command, logging_in
from provision import server_environment
from terminals import CTRL_C, CTRL_D, AtTerminal

from mcp_h11 import MCPServer, start_in_thread
from mcp_h11.cli.main import main

LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
posix = pytest.mark.skipif(os.name == "nt", reason="terminals and signals of POSIX")


class User:
    """A person with a folder for logins, a browser, and a server that asks for a login.

    `run` is a command in this process, whose browser is a function; `start` is one in a process of its own.
    """

    def __init__(
        self,
        issuer: LoginServer,
        url: str,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.issuer, self.url, self.folder = issuer, url, folder
        self.env = {"MCP_H11_LOGINS": str(folder / "logins"), "BROWSER": browser_command(folder / "page")}
        self.said: list[str] = []  # all that the commands have printed
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(webbrowser, "open", self._browse)

    def _browse(self, url: str) -> bool:
        with open(self.folder / "page", "a") as file:
            file.write(FormBrowser().open(url))
        return True

    @property
    def page(self) -> str:
        path = self.folder / "page"
        return path.read_text() if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        return {**server_environment(), **self.env}

    def run(self, *words: str, **more: str) -> tuple[int, str, str]:
        with self._monkeypatch.context() as patch:
            for name, value in more.items():
                patch.setenv(name, value)
            code = main(words)
        out, err = self._capsys.readouterr()
        self.said += [out, err]
        return code, out, err

    def log_in(self, *words: str, **more: str) -> str:
        code, out, err = self.run("login", self.url, *words, **more)
        assert code == 0, err
        return out

    def start(self, *words: str, pipe: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mcp_h11", *words]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), pipe)
        return subprocess.Popen(command, text=True, env=self.environment, **pipes)

    def ended(self, process: subprocess.Popen[str], typed: str = "") -> tuple[int, str, str]:
        try:
            out, err = process.communicate(typed, timeout=LIMIT)
        finally:
            process.kill()
        self.said += [out, err]
        return process.returncode, out, err

    def files(self) -> list[Path]:
        return sorted((self.folder / "logins").glob("*.json"))


@pytest.fixture
def user(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[User]:
    caplog.set_level(logging.DEBUG)
    with logging_in() as (issuer, url):
        found = User(issuer, url, tmp_path, monkeypatch, capsys)
        yield found
        # No command may print or log a code, a verifier or a token, and no page may have one.
        shown = "".join([*found.said, found.page, *(record.getMessage() for record in caplog.records)])
        assert [secret for secret in issuer.secrets if secret in shown] == []


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not there():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def redirected(url: str) -> str:
    """Where a page of the authorization server sends the browser, which does not go there."""

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *arguments: Any) -> None:
            return None

    try:
        build_opener(ProxyHandler({}), Stay).open(url, timeout=LIMIT)
    except HTTPError as answer:
        with answer:
            return str(answer.headers["Location"])
    raise AssertionError("it redirects")


# --- login ------------------------------------------------------------------------------------------------------------


def test_a_login_is_told_and_used_by_the_next_commands(user: User) -> None:
    out = user.log_in()
    assert out.splitlines() == [
        f"logged in at {user.url}",
        "  as: ann@example.com",
        f"  issuer: {user.issuer.url}",
        "  scopes: files:read",
        "  token: ends in 59 minutes, and is renewed by itself",
    ]
    until(lambda: "The answer has arrived" in user.page)  # the browser reads it while the command goes on
    assert user.run("call", user.url, "who")[:2] == (0, "ann by client-1\n")
    assert user.run("list", user.url, "tools", "-vv")[0] == 0
    assert user.run("detect", user.url, "-v")[0] == 0
    # A process of its own finds it too.
    assert user.ended(user.start("call", user.url, "who", "-vv"))[:2] == (0, "ann by client-1\n")
    (asked,) = user.issuer.logins
    assert asked["resource"] == user.url and asked["code_challenge_method"] == "S256"
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/callback", asked["redirect_uri"])


@posix
def test_the_login_is_in_a_file_of_the_user_alone(user: User) -> None:
    user.log_in()
    (path,) = user.files()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o644)
    for words in (("call", user.url, "who"), ("login", user.url), ("logout", user.url)):
        code, out, err = user.run(*words)
        assert (code, out) == (2, "")
        assert f"others can read or change {path}; make it yours alone: chmod 600 {path}" in err


def test_logins_are_listed_without_their_tokens(user: User) -> None:
    code, out, err = user.run("login")
    assert (code, out) == (0, "")
    assert "there are no logins; python -m mcp_h11 login URL makes one" in err
    user.log_in()
    code, out, err = user.run("login")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == user.url and "  as: ann@example.com" in out.splitlines()


def test_a_second_login_keeps_the_client_and_its_port(user: User) -> None:
    user.log_in()
    user.log_in("--scope", "files:read files:write")
    assert len(user.issuer.registered) == 1
    assert len({asked["redirect_uri"] for asked in user.issuer.logins}) == 1
    assert [set(asked["scope"].split()) for asked in user.issuer.logins] == [
        {"files:read"},
        {"files:read", "files:write"},
    ]
    assert user.run("call", user.url, "write")[:2] == (0, "written\n")


def test_a_refusal_is_told_here_and_in_the_browser(user: User) -> None:
    user.issuer.refuses = "access_denied"
    code, out, err = user.run("login", user.url)
    assert (code, out) == (3, "")
    assert "error:" in err and "access_denied" in err
    until(lambda: "The login was refused" in user.page and "not &lt;today&gt;" in user.page)
    assert "files:read" not in user.run("login")[1]


def test_a_login_has_a_time_limit(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: True)
    code, out, err = user.run("login", user.url, "--timeout", "0.1")
    assert (code, out) == (3, "")
    assert "no answer of the login came within 0.1 s" in err


def test_a_server_that_wants_no_login_is_told_of(user: User) -> None:
    with start_in_thread(MCPServer("open"), port=0) as running:
        code, out, err = user.run("login", f"http://127.0.0.1:{running.port}/mcp")
    assert (code, out) == (3, "") and "error: the login failed" in err


def test_the_client_may_be_one_that_was_registered_by_hand(user: User) -> None:
    user.issuer.registers = False
    code, _, err = user.run("login", user.url)
    assert code == 3 and "register" in err
    secret = "s3cret-of-the-client"
    user.issuer.secrets.add(secret)
    user.log_in("--client-id", "by-hand", "--issuer", user.issuer.url, MCP_H11_CLIENT_SECRET=secret)
    assert user.issuer.logins[-1]["client_id"] == "by-hand"
    # The secret is kept with the login: a refresh needs it, and the next command has no variable.
    user.issuer.expire()
    assert user.run("call", user.url, "who")[:2] == (0, "ann by by-hand\n")
    basic = f"Basic {base64.b64encode(f'by-hand:{secret}'.encode()).decode()}"
    assert user.issuer.proofs == [basic] * 2 and len(user.issuer.refreshes) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["login", "http://mcp.example/mcp"], "a login is for a URL with https, or with http on this machine"),
        (["login", "tools.py"], "a login is for a URL with https"),
        (["login", "https://mcp.example", "--port", "0"], "has to be a port from 1 to 65535, not '0'"),
        (["login", "https://mcp.example", "--port", "65536"], "has to be a port"),
        (["login", "https://mcp.example", "--timeout", "0"], "has to be a number of seconds"),
        (["login", "https://mcp.example", "--timeout", "x"], "has to be a number of seconds"),
        (["login", "http://127.0.0.1:1/mcp", "--scope", 'a"b'], "scope"),
        (["login", "--scop", "a"], "did you mean --scope?"),
        (["logout"], "say which login to forget: python -m mcp_h11 logout URL, or --all"),
        (["logout", "https://mcp.example", "--all"], "say which login to forget"),
        (["logout", "https://mcp.example/mcp"], "there is no login at https://mcp.example/mcp (there are: none)"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


# --- logout -----------------------------------------------------------------------------------------------------------


def test_a_logout_forgets_the_login_and_revokes_its_tokens(user: User) -> None:
    user.log_in()
    assert user.run("logout", user.url) == (0, f"logged out at {user.url}\n", "")
    assert user.issuer.revoked == ["refresh_token", "access_token"]
    assert user.files() == [] and user.issuer.access == {}
    code, _, err = user.run("call", user.url, "who")
    assert code == 3 and f"to log in: python -m mcp_h11 login {user.url}" in err.splitlines()


def test_all_logins_are_forgotten_at_once_even_if_their_server_is_away(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    user.log_in()
    with logging_in() as (_, other):
        assert user.run("login", other)[0] == 0
    code, out, err = user.run("logout", "--all")
    assert code == 0
    assert sorted(out.splitlines()) == sorted([f"logged out at {user.url}", f"logged out at {other}"])
    assert "the authorization server was not told of the logout" in caplog.text
    assert user.files() == []
    assert user.run("logout", "--all") == (0, "there are no logins\n", "")


# --- by itself --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["call", "who"], ["list"], ["ping"], ["detect"]])
def test_where_a_program_reads_a_401_names_the_command_and_no_browser_opens(words: list[str], user: User) -> None:
    code, out, err = user.run(words[0], user.url, *words[1:])
    assert (code, out) == (3, "")
    assert "error 401:" in err
    assert f"to log in: python -m mcp_h11 login {user.url}" in err.splitlines()
    assert user.issuer.logins == [] and user.page == ""


@posix
def test_at_a_terminal_the_browser_opens_and_the_command_goes_on(user: User) -> None:
    with AtTerminal("call", user.url, "who", env=user.environment) as person:
        person.until("Your browser opens to log you in.")
        person.until(f"{user.issuer.url}/authorize?")
        assert person.end() == 0
        assert "ann by client-1" in person.shown
        user.said.append(person.shown)
    assert len(user.issuer.logins) == 1
    assert user.run("call", user.url, "who")[:2] == (0, "ann by client-1\n")  # it is kept


@posix
def test_at_a_terminal_a_server_without_logins_says_how_to_give_a_token(user: User) -> None:
    with start_in_thread(MCPServer("secret"), port=0, token="s3cret") as running:
        url = f"http://127.0.0.1:{running.port}/mcp"
        with AtTerminal("list", url, env=user.environment) as person:
            assert person.end() == 3
            assert "error:" in person.shown and "the login failed" in person.shown
            assert "the server wants a token, which may be given too: by --token, or as MCP_H11_CLIENT_TOKEN" in (
                person.shown
            )
    assert user.page == ""


@pytest.mark.long
@posix
def test_a_terminal_whose_output_a_program_reads_opens_no_browser(user: User) -> None:
    with AtTerminal("list", user.url, stdout=subprocess.PIPE, env=user.environment) as person:
        assert person.end() == 3
        assert f"to log in: python -m mcp_h11 login {user.url}" in person.shown
    assert user.issuer.logins == []


@pytest.mark.long
@posix
def test_more_scopes_are_asked_for_at_a_terminal_and_named_elsewhere(user: User) -> None:
    user.log_in()
    code, _, err = user.run("call", user.url, "write")
    assert code == 3
    assert "log in with them: python -m mcp_h11 login " in err and "--scope " in err and "files:write" in err
    with AtTerminal("call", user.url, "write", env=user.environment) as person:
        assert person.end() == 0
        assert "written" in person.shown
        user.said.append(person.shown)
    assert user.run("call", user.url, "write")[:2] == (0, "written\n")


def test_credentials_of_the_command_line_go_before_a_login(user: User) -> None:
    user.log_in()
    for words, more in (
        (["--token", "mine"], {}),
        ([], {"MCP_H11_CLIENT_TOKEN": "mine"}),
        (["--header", "authorization: Bearer mine"], {}),
    ):
        code, _, err = user.run("call", user.url, "who", *words, **more)
        assert code == 3 and "does not take this token" in err and "to log in" not in err


# --- later ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_token_that_has_ended_is_renewed_once_by_all_processes(user: User) -> None:
    user.log_in()
    user.issuer.expire()
    user.issuer.slow.clear()
    processes = [user.start("call", user.url, "who") for _ in range(2)]
    try:
        # Both have been refused, and one has begun to renew.
        until(lambda: user.issuer.refused >= 2 and len(user.issuer.refreshes) == 1)
    finally:
        user.issuer.slow.set()
    assert [user.ended(one)[:2] for one in processes] == [(0, "ann by client-1\n")] * 2
    assert len(user.issuer.refreshes) == 1 and len(user.issuer.logins) == 1


def test_the_refresh_token_that_came_last_is_kept(user: User) -> None:
    user.log_in()
    user.issuer.expire()
    assert user.run("call", user.url, "who")[:2] == (0, "ann by client-1\n")
    # The new refresh token is kept: the old one is of no use any more.
    user.issuer.expire()
    assert user.run("call", user.url, "who")[:2] == (0, "ann by client-1\n")
    assert len(set(user.issuer.refreshes)) == 2


def test_a_login_that_was_revoked_says_to_log_in_again(user: User) -> None:
    user.log_in()
    user.issuer.expire()
    user.issuer.refresh.clear()
    code, out, err = user.run("call", user.url, "who")
    assert (code, out) == (3, "")
    again = f"the login here is not taken any more; log in again: python -m mcp_h11 login {user.url}"
    assert again in err.splitlines()
    user.log_in()
    assert user.run("call", user.url, "who")[:2] == (0, "ann by client-1\n")


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="/proc of Linux")
def test_nothing_secret_is_in_the_list_of_processes(user: User) -> None:
    user.env["BROWSER"] = f"{sys.executable} -c 'import time; time.sleep(300)' %s"
    user.env["MCP_H11_CLIENT_SECRET"] = "s3cret-of-the-client"
    user.issuer.secrets.add("s3cret-of-the-client")
    # A browser has the pipes of the program, and may outlive it.
    process = user.start("login", user.url, "--client-id", "by-hand", pipe=subprocess.DEVNULL)
    browsers: dict[int, str] = {}

    def has_opened() -> bool:
        browsers.update({pid: words for pid, words in processes().items() if f"{user.issuer.url}/authorize" in words})
        return bool(browsers)

    try:
        until(has_opened)
        (address,) = {word for words in browsers.values() for word in words.split("\0") if word.startswith("http")}
        seen = processes()
        FormBrowser().open(address)
        # It ends before its browser, which is still there.
        assert process.wait(LIMIT) == 0 and set(browsers) & set(processes())
    finally:
        for pid in browsers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
    shown = "".join([*seen.values(), *browsers.values()])
    assert f"login\0{user.url}" in shown
    assert len(user.issuer.secrets) > 3 and [secret for secret in user.issuer.secrets if secret in shown] == []


def processes() -> dict[int, str]:
    """The words of every process of this machine, as `ps` shows them to every user."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_text("utf-8", "replace")
    return found


# --- without a browser ------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_pasted_address_or_code_logs_in(user: User) -> None:
    for whole in (True, False):
        # A code alone does not say from which server it is, where servers promise to say so (RFC 9207).
        user.issuer.names_itself = whole
        process = user.start("login", user.url, "--no-browser")
        assert process.stderr is not None
        lines = [""]
        while not lines[-1].startswith(user.issuer.url):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        came_to = redirected(lines[-1].strip())
        code = came_to.partition("code=")[2].partition("&")[0]
        status, out, _ = user.ended(process, f"{came_to if whole else code}\n")
        assert status == 0 and out.startswith(f"logged in at {user.url}\n")


@pytest.mark.long
@posix
def test_a_person_without_a_screen_pastes_at_the_terminal(user: User) -> None:
    user.env["BROWSER"] = user.env["DISPLAY"] = user.env["WAYLAND_DISPLAY"] = ""
    with AtTerminal("call", user.url, "who", env=user.environment) as person:
        person.until("open this address in any browser:\n")
        address = person.until("\n").strip()
        person.answer("Address or code: ", "no address")
        person.until("This is neither an address nor a code.")
        person.answer("Address or code: ", redirected(address))
        assert person.end() == 0 and "ann by client-1" in person.shown
    with AtTerminal("login", user.url, env=user.environment) as person:
        person.until("Address or code: ")
        person.type(CTRL_D)
        assert person.end() == 3 and "the login was given up" in person.shown
    # A browser on this machine after all: nothing has to be pasted.
    with AtTerminal("login", user.url, env=user.environment) as person:
        person.until("open this address in any browser:\n")
        assert "The answer has arrived" in FormBrowser().open(person.until("\n").strip())
        assert person.end() == 0 and f"logged in at {user.url}" in person.shown


@pytest.mark.long
@posix
def test_ctrl_c_ends_a_login(user: User) -> None:
    with AtTerminal("login", user.url, "--no-browser", env=user.environment) as person:
        person.until("Address or code: ")
        person.type(CTRL_C)
        assert person.end() == 130
    process = user.start("login", user.url, "--no-browser")
    assert process.stderr is not None
    while not process.stderr.readline().startswith(user.issuer.url):
        pass
    process.send_signal(signal.SIGINT)
    assert user.ended(process)[0] == 130
