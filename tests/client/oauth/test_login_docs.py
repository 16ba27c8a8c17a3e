# SPDX-License-Identifier: MIT
"""docs/login.md: its programs work, its figures and its names are those of the code."""

from __future__ import annotations

import inspect
import re
import webbrowser
from pathlib import Path
from typing import Any

import anyio
import pytest
from form_browser import FormBrowser
from login_server import logging_in
from oauth_parties import World, parties
from pages import ROOT, program_with

from mcp_h11 import Client
from mcp_h11.client.oauth.fetching import FETCH_LIMIT, MAX_DOCUMENT
from mcp_h11.client.oauth.files import LOCK_LIMIT
from mcp_h11.client.oauth.flow import Flow
from mcp_h11.client.oauth.grants import ClientCredentials, EnterpriseIdentity, JWTBearer
from mcp_h11.client.oauth.keeper import MAX_STEP_UPS, MAX_VAIN_LOGINS, REFRESH_LIMIT, REFRESH_PAUSE, RENEW_BEFORE
from mcp_h11.client.oauth.keyring import MAX_PIECE
from mcp_h11.client.oauth.loopback import LOGIN_LIMIT
from mcp_h11.client.oauth.oauth import OAuth
from mcp_h11.client.oauth.receiver import MAX_CONNECTIONS, REQUEST_LIMIT
from mcp_h11.client.oauth.store import Login, Registration, Tokens

PAGE = ROOT / "docs" / "login.md"
TEXT = " ".join(PAGE.read_text("utf-8").split())


def test_a_login_by_the_terminal_of_the_page(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    terminal = program_with(PAGE, "class Terminal")["Terminal"]

    async def main(world: World) -> None:
        def ended_at(prompt: str) -> str:
            (address,) = re.findall(r"https?://\S+", capsys.readouterr().out)
            state = re.findall(r"[?&]state=([^&]+)", address)[0]
            challenge = re.findall(r"[?&]code_challenge=([^&]+)", address)[0]
            world.server.challenge = challenge
            return f"http://127.0.0.1:8765/callback?code=the-code&state={state}&iss={world.server.url}\n"

        monkeypatch.setattr("builtins.input", ended_at)
        assert await world.call(OAuth(redirect=terminal())) == (200, "access-1")

    async def run() -> None:
        async with parties() as world:
            await main(world)

    anyio.run(run)


def test_the_first_program_of_the_page_logs_in_by_a_browser(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_H11_LOGINS", str(tmp_path / "logins"))
    monkeypatch.setenv("BROWSER", "any")
    monkeypatch.setattr(webbrowser, "open", FormBrowser().open)
    program = program_with(PAGE, "async def main")
    with logging_in() as (issuer, url):
        program["Client"] = lambda _, auth: Client(url, auth=auth)
        for _ in range(2):
            anyio.run(program["main"])
    assert capsys.readouterr().out == "['who', 'write']\n" * 2
    assert len(issuer.logins) == 1  # the second start finds it in the file


def test_the_store_of_the_page_gives_back_what_it_got() -> None:
    rows = program_with(PAGE, "class Rows")["Rows"]()

    class Table(dict[str, str]):
        async def put(self, key: str, row: str) -> None:
            self[key] = row

        async def get(self, key: str) -> str | None:  # type: ignore[override]
            return super().get(key)

    async def main() -> None:
        rows.table = Table()
        login = Login("r", "i", Registration("c"), Tokens("t"))
        await rows.save("r", login)
        assert await rows.load("r") == login and await rows.load("other") is None

    anyio.run(main)


def test_the_figures_are_those_of_the_code() -> None:
    assert RENEW_BEFORE == 60 and "a token ends within a minute" in TEXT and "less than four minutes" in TEXT
    assert (REFRESH_LIMIT, REFRESH_PAUSE) == (10, 15) and "no answer within 10 s" in TEXT and "15 s later" in TEXT
    assert MAX_VAIN_LOGINS == 5 and "asked five times in a row at most" in TEXT
    assert MAX_STEP_UPS == 3 and "after three such logins in a row" in TEXT
    assert MAX_DOCUMENT == 256 * 1024 and "more than 256 KiB" in TEXT
    assert LOGIN_LIMIT == 300 and "after `timeout` seconds (300)" in TEXT
    assert (MAX_CONNECTIONS, REQUEST_LIMIT) == (8, 10) and "At most 8 connections are open, each for 10 s" in TEXT
    assert LOCK_LIMIT == 60 and "the others wait for it, 60 seconds at most" in TEXT
    assert MAX_PIECE == 1_200 and "pieces of 1,200 characters" in TEXT
    assert FETCH_LIMIT == 30 and "no answer within 30 s" in TEXT


def test_the_options_are_those_of_the_code() -> None:
    parameters: set[str] = set()
    for one in (OAuth, ClientCredentials, JWTBearer, EnterpriseIdentity):
        parameters |= {*inspect.signature(one).parameters}
    named = {name for call in re.findall(r"`OAuth\((.*?)\)`", TEXT) for name in re.findall(r"\b(\w+)=", call)}
    assert named >= {"redirect", "client_id", "grant", "store", "private"} and named <= parameters


def test_the_steps_are_those_of_the_errors() -> None:
    source = inspect.getsource(Flow)
    for step in ("resource metadata", "server metadata", "registration", "authorization", "token", "refresh"):
        assert f'"{step}"' in source and re.search(rf"\| [^|]*\b{step}\b[^|]* \|", TEXT), step
