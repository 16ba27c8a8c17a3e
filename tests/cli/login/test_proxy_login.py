# SPDX-License-Identifier: MIT
"""`proxy --url` and the servers of a file use the login that `login` has stored, and say which command makes one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from form_browser import FormBrowser
from login_server import LoginServer, logging_in
from provision import process_on_a_port, server_environment

from mcp_h11.bridge.config import read_config
from mcp_h11.cli.logins import LoginOfUser
from mcp_h11.cli.main import main
from mcp_h11.client.targets import Url

LIMIT = 60.0


def opened(url: str) -> bool:
    FormBrowser().open(url)
    return True


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LoginServer, str]]:
    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path / "logins"))
    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr(webbrowser, "open", opened)
    with logging_in() as found:
        yield found


def called(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["call", url, "who"])
    out, err = capsys.readouterr()
    return code, out or err


@pytest.mark.long
def test_a_bridge_uses_the_login_renews_it_and_finds_a_new_one(
    guarded: tuple[LoginServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    issuer, url = guarded
    assert main(["login", url]) == 0
    with process_on_a_port("-m", "mcp_h11", "proxy", "--url", url, "--port", "{port}") as bridge:
        assert called(bridge.url, capsys) == (0, "ann by client-1\n")
        # The token ends: the bridge renews it, and every other command has the new one.
        issuer.expire()
        assert called(bridge.url, capsys) == (0, "ann by client-1\n")
        assert called(url, capsys) == (0, "ann by client-1\n")
        assert len(issuer.refreshes) == 1
        # The login ends as well: the bridge is told of a new one by the store alone.
        issuer.expire()
        issuer.refresh.clear()
        assert called(bridge.url, capsys)[0] != 0
        assert main(["login", url]) == 0
        end = time.monotonic() + LIMIT
        while (answer := called(bridge.url, capsys)) != (0, "ann by client-1\n"):
            assert time.monotonic() < end, answer
            time.sleep(0.1)
    assert f"wants a login: python -m mcp_h11 login {url}" in bridge.log
    assert [secret for secret in issuer.secrets if secret in bridge.log] == []


@pytest.mark.long
def test_a_bridge_on_pipes_without_a_login_says_how_to_make_one(guarded: tuple[LoginServer, str]) -> None:
    _, url = guarded
    command = [sys.executable, "-m", "mcp_h11", "proxy", "--url", url, "--stdio"]
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}}  # fmt: skip
    bridge = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, env=server_environment(),
    )  # fmt: skip
    try:
        assert bridge.stdin is not None and bridge.stderr is not None
        bridge.stdin.write(json.dumps(request) + "\n")
        bridge.stdin.flush()
        said = [bridge.stderr.readline()]
        while said[-1] and "wants a login" not in said[-1]:
            said.append(bridge.stderr.readline())
        assert f"{url} wants a login: python -m mcp_h11 login {url}" in said[-1], said
    finally:
        bridge.kill()
        bridge.communicate()


@pytest.mark.long
def test_the_servers_of_a_file_use_it_too(
    guarded: tuple[LoginServer, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = guarded
    assert main(["login", url]) == 0
    config = tmp_path / "servers.json"
    config.write_text(json.dumps({"mcpServers": {"guarded": {"url": url}}}))
    with process_on_a_port("-m", "mcp_h11", "proxy", "--config", str(config), "--port", "{port}") as bridge:
        at = bridge.url.replace("/mcp", "/servers/guarded/mcp")
        assert called(at, capsys) == (0, "ann by client-1\n")


def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Url], bool]:
    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path))
    logins = LoginOfUser()
    return lambda spec: logins.given_to(spec).auth is logins


def test_a_server_with_credentials_of_its_own_gets_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gets = given(tmp_path, monkeypatch)
    assert gets(Url("https://mcp.example/mcp"))
    assert gets(Url("http://127.0.0.1:1/mcp", {"X-Key": "a"}))
    assert not gets(Url("https://mcp.example/mcp", {"authorization": "Basic a"}))
    assert not gets(Url("https://mcp.example/mcp", token="a"))
    # No token goes where others can read it.
    assert not gets(Url("http://mcp.example/mcp"))
    assert not gets(Url("http+unix://%2Ftmp%2Fa/mcp"))


def test_two_readings_of_a_file_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path))
    logins = LoginOfUser()
    text = json.dumps({"mcpServers": {"a": {"url": "https://mcp.example/mcp"}}})
    first, second = (read_config(text, {})["a"].spec for _ in range(2))
    assert isinstance(first, Url) and isinstance(second, Url)
    assert logins.given_to(first) == logins.given_to(second)
