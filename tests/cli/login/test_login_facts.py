# SPDX-License-Identifier: MIT
"""The lines that `login` prints about a login: escaped, without a token, and with a time in words."""

from __future__ import annotations

import pytest

from mcp_h11.cli.login.login import facts_of
from mcp_h11.cli.logins import takes_login
from mcp_h11.client.oauth.store import Login, Registration, Tokens

NOW = 1_000_000.0


def facts(tokens: Tokens | None, subject: str | None = None) -> list[tuple[str, str]]:
    login = Login("https://a.example", "https://i.example", Registration("app", "secret"), tokens, None, subject)
    found = facts_of(login, NOW)
    assert "secret" not in str(found)
    return found


@pytest.mark.parametrize(
    ("seconds", "refresh", "said"),
    [
        (None, None, "the server did not say when it ends"),
        (59, None, "ends in 59 seconds"),
        (119, "secret", "ends in 119 seconds, and is renewed by itself"),
        (120, None, "ends in 2 minutes"),
        (7_199, None, "ends in 119 minutes"),
        (7_200, None, "ends in 2 hours"),
        (200_000, None, "ends in 2 days"),
        (0, "secret", "has ended, and is renewed by itself"),
        (-5, None, "has ended; log in again"),
    ],
)
def test_the_time_of_a_token_is_in_words(seconds: float | None, refresh: str | None, said: str) -> None:
    ends = None if seconds is None else NOW + seconds
    assert facts(Tokens("secret", refresh_token=refresh, expires_at=ends))[-1] == ("token", said)


def test_facts_of_the_server_cannot_steer_a_terminal() -> None:
    found = facts(Tokens("secret", scope="a\x1b[2J"), "ann\n  issuer: https://good.example")
    assert found[:3] == [
        ("as", "ann\\n  issuer: https://good.example"),
        ("issuer", "https://i.example"),
        ("scopes", "a\\x1b[2J"),
    ]


def test_a_registration_without_tokens_is_no_login() -> None:
    assert facts(None) == [("issuer", "https://i.example"), ("state", "registered, but not logged in")]


@pytest.mark.parametrize(
    ("target", "takes"),
    [
        ("https://mcp.example/mcp?key=1", True),
        ("HTTPS://MCP.example", True),
        ("http://127.0.0.1:8000/mcp", True),
        ("http://[::1]:8000/mcp", True),
        ("http://localhost/mcp", True),
        ("http://mcp.example/mcp", False),
        ("http://127.0.0.1.evil.example/mcp", False),
        ("http+unix://%2Ftmp%2Fa/mcp", False),
        ("https://ann:secret@mcp.example/mcp", False),
        ("https://", False),
        ("https://[::1", False),
        ("tools.py", False),
        ("python tools.py", False),
    ],
)
def test_a_login_is_for_an_address_where_tokens_are_safe(target: str, takes: bool) -> None:
    assert takes_login(target) is takes
